"""What libraries have ready: logsumexp, the engine's own scoring, torch's masked and grouped operations."""

from full.given.scoring import completion_log_probs as _scored
from full.given.text import Rollout as _Rollout


def token_log_probs(logits, tokens):
    given.require_tokens("tokens", tokens, least=2)
    given.require_logits(logits, tokens)
    picked = logits[:, :-1].gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
    return picked - logits[:, :-1].logsumexp(dim=-1)


def completion_mask(tokens, prompt_length, eos_token_id, pad_token_id):
    given.require_tokens("tokens", tokens)
    given.require_prompt_length("prompt_length", prompt_length, tokens.shape[1])
    given.require_pad_is_not_eos(pad_token_id, eos_token_id)
    completion = tokens[:, prompt_length:]
    place = torch.arange(completion.shape[1], device=tokens.device)
    is_eos = completion == (-1 if eos_token_id is None else eos_token_id)
    last_real = torch.where(completion != pad_token_id, place, -1).amax(dim=1)
    first_eos = torch.where(is_eos, place, completion.shape[1]).amin(dim=1)
    return place <= torch.minimum(first_eos, last_real).unsqueeze(1)


def compute_reinforce_loss(reward, output_tokens, model, seed_token_length, attention_mask=None, temperature=1.0, top_k=0):
    given.require_tokens("output_tokens", output_tokens)
    given.require_prompt_length("seed_token_length", seed_token_length, output_tokens.shape[1])
    given.require_rewards("reward", reward, len(output_tokens))
    given.require_left_padding(attention_mask, output_tokens, seed_token_length)
    real = torch.ones_like(output_tokens) if attention_mask is None else attention_mask
    log_probs = _scored(model, _Rollout(output_tokens, real, seed_token_length), temperature, top_k)
    return log_probs, -torch.einsum("b,bt->", reward.detach(), log_probs) / len(reward)


def batch_baseline(rewards):
    given.require_rewards("rewards", rewards)
    weights = 1 - torch.eye(len(rewards), dtype=rewards.dtype)
    return weights @ rewards / weights.sum(1).clamp(min=1)


def rloo_advantages(rewards, group_size):
    given.require_rewards("rewards", rewards)
    given.require_groups(group_size, len(rewards))
    groups = rewards.unflatten(0, (-1, group_size))
    return (group_size / (group_size - 1) * (groups - groups.mean(dim=1, keepdim=True))).reshape(-1)


def reset_model_optimizer(reference, learning_rate):
    require_positive("learning_rate", learning_rate)
    policy = copy.deepcopy(reference)
    policy.eval()
    for parameter in policy.parameters():
        parameter.requires_grad = True
    return policy, torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=learning_rate, foreach=True)
