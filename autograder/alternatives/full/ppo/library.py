"""The same by other ways through the libraries: Hugging Face's own forward passes, one softmax, cases by sign."""

from __future__ import annotations


class GPT2Policy(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def hidden(self, rollout):
        """By embedding the tokens itself, and asking only for the columns that are wanted."""
        out = self.model.transformer(
            inputs_embeds=self.model.get_input_embeddings()(rollout.tokens),
            attention_mask=rollout.attention_mask,
            position_ids=position_ids(rollout.attention_mask),
        )
        time = rollout.tokens.shape[1] - rollout.prompt_length
        return out[0][:, -(time + 1) :]

    def logits(self, hidden):
        return self.model.lm_head(hidden)


class T5Policy(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def hidden(self, rollout):
        """By the whole model, which is told the decoder's inputs and keeps all hidden states."""
        n = rollout.prompt_length
        inputs = torch.nn.functional.pad(rollout.completion, (1, 0), value=self.model.config.decoder_start_token_id)
        out = self.model(
            input_ids=rollout.tokens[:, :n],
            attention_mask=rollout.attention_mask[:, :n],
            decoder_input_ids=inputs,
            output_hidden_states=True,
            use_cache=False,
        )
        return out.decoder_hidden_states[-1]

    def logits(self, hidden):
        return self.model.lm_head(hidden * self.model.config.d_model**-0.5)


def sampled_log_probs(logits, tokens, temperature, support=None):
    require_scoring(logits, tokens, temperature, support)
    scaled = logits / temperature
    if support is not None:
        allowed = torch.zeros_like(logits, dtype=torch.bool)
        rows = torch.arange(len(tokens)).unsqueeze(1).expand_as(support)
        allowed[rows[support >= 0], support[support >= 0]] = True
        scaled = scaled.masked_fill(~allowed, -torch.inf)
    return torch.distributions.Categorical(logits=scaled, validate_args=False).log_prob(tokens)


def policy_loss(log_probs, old_log_probs, advantages, mask, clip):
    given.require_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, advantages=advantages, mask=mask)
    given.require_mask(mask)
    given.require_positive("clip", clip)
    change, gain = (log_probs - old_log_probs.detach())[mask], advantages.detach()[mask]
    ratio = change.exp()
    bound = torch.where(gain > 0, ratio.clamp(max=1 + clip), ratio.clamp(min=1 - clip))  # which side matters is a matter of sign
    fixed = ratio.detach()
    figures = {
        "approx_kl": (fixed - 1 - change.detach()).mean(),
        "clip_fraction": ((fixed - 1).abs() > clip).double().mean(),
        "ratio": fixed.mean(),
        "ratio_variance": fixed.var(correction=0),
    }
    return -(bound * gain).mean(), figures


def has_ended(completion, mask, eos_token_id):
    given.require_same_shape(completion=completion, mask=mask)
    if eos_token_id is None:
        return torch.full((len(mask),), True)
    return completion.masked_fill(~mask, -1).eq(eos_token_id).sum(dim=1) > 0


class FineGrainedReward:
    def __init__(self, rewards, weights, tokenizer):
        require_names(rewards, weights)
        self.rewards, self.weights, self.tokenizer = dict(rewards), dict(weights), tokenizer

    def __call__(self, prompts, rollout):
        texts = completion_texts(self.tokenizer, rollout)
        ends, mask = token_ends(self.tokenizer, rollout), rollout.mask.cpu()
        placed = {name: spread(reward(prompts.texts, texts), ends, mask) for name, reward in self.rewards.items()}
        stack = torch.stack([self.weights[name] * table for name, table in placed.items()])
        return stack.sum(dim=0), {name: table.sum(dim=1) for name, table in placed.items()}
