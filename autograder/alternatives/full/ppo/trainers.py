"""Other trainers: whole batches where minibatches do not matter, figures gathered in other ways."""

from __future__ import annotations

import numpy as np

_Given = PPOTrainer


class PPOTrainer(_Given):
    def rollout(self, prompts):
        """The whole rollout at once, untrimmed: in float64 the same numbers."""
        written = self.loop.rollout(prompts)
        rewards, scores = self.reward(prompts, written)
        temperature = self.config.temperature
        with torch.no_grad():
            log_probs, values = score(self.policy, self.value, written, temperature, written.support)
            ref_log_probs, _ = score(self.reference, None, written, temperature)
        return Experience(written, log_probs, ref_log_probs, values, rewards.to(log_probs.dtype), scores)

    def update(self, experience):
        config, written = self.config, experience.rollout
        mask = written.mask
        ended = has_ended(written.completion, mask, self.loop.eos_token_id)
        paid = kl_penalise_reward(
            experience.rewards, experience.log_probs, experience.ref_log_probs, mask, ended, self.kl_coef, config.eos_penalty
        )
        cut = ~ended if config.bootstrap else torch.zeros_like(ended)
        advantages, returns = compute_advantages(paid, experience.values, mask, cut, config.gamma, config.lam)
        explained = explained_variance(experience.values[:, :-1], returns, mask)
        if config.whiten:
            everyone, real = self.loop.gather(advantages), self.loop.gather(mask)
            mean, std = everyone[real].mean(), everyone[real].std(correction=0)
            advantages = torch.where(mask, (advantages - mean) / std, 0.0) if std > 0 else advantages * 0
        rows, left = {name: [] for name in ("approx_kl", "loss", "policy_loss", "value_loss")}, False
        for _ in range(config.ppo_epochs):
            for first in range(0, len(written), config.minibatch_size):
                part = slice(first, first + config.minibatch_size)
                cutout = Rollout(
                    written.tokens[part],
                    written.attention_mask[part],
                    written.prompt_length,
                    None if written.support is None else written.support[part],
                )
                log_probs, values = score(self.policy, self.value, cutout, config.temperature, cutout.support)
                of_policy, figures = policy_loss(
                    log_probs, experience.log_probs[part], advantages[part], cutout.mask, config.clip
                )
                rows["approx_kl"].append(float(figures.pop("approx_kl")))
                together = self.loop.gather(torch.tensor([rows["approx_kl"][-1]], dtype=torch.float64))
                left = bool(config.stop_kl) and float(together.mean()) > config.stop_kl
                if left:
                    break
                of_value = value_loss(values, experience.values[part], returns[part], cutout.mask, config.value_clip)
                loss = of_policy + config.value_coef * of_value
                self.loop.update(loss)
                known = {"loss": loss, "policy_loss": of_policy, "value_loss": of_value, **figures}
                for name, figure in known.items():
                    rows.setdefault(name, []).append(float(figure.detach()))
            if left:
                break
        means = {name: float(np.mean(found)) for name, found in rows.items() if found}
        return {**means, "updates": len(rows["loss"]), "explained_variance": float(explained)}

    def train(self):
        for prompts in self.loop.batches():
            experience, price = self.rollout(prompts), self.kl_coef
            written = experience.rollout
            figures, counts = self.update(experience), written.mask.sum(1)
            nats = (experience.log_probs - experience.ref_log_probs).masked_fill(~written.mask, 0.0).sum(1)
            everyone = self.loop.gather(nats)
            apart = {name: float(np.mean(rows.tolist())) for name, rows in experience.scores.items()}
            figures |= {"reward_" + name: mean for name, mean in apart.items()}
            figures["reward"] = sum(self.reward.weights[name] * mean for name, mean in apart.items())
            figures["eos_rate"] = float(has_ended(written.completion, written.mask, self.loop.eos_token_id).double().mean())
            figures["completion_length"] = float(counts.double().mean())
            figures["entropy"] = float(-experience.log_probs[written.mask].mean())
            self.loop.log(kl=everyone.mean(), kl_coef=price, **figures)
            if self.config.target_kl:
                controller = AdaptiveKLController(price, self.config.target_kl, self.config.horizon)
                self.kl_coef = controller.update(float(everyone.mean()), len(everyone))
            self.loop.kept["kl_coef"] = self.kl_coef

    def validate(self, prompts, seed=0):
        how = {name: getattr(self.config, name) for name in ("temperature", "top_k")}
        ids = {"eos_token_id": self.loop.eos_token_id, "pad_token_id": self.loop.pad_token_id}
        generator = torch.Generator()
        generator.manual_seed(seed)
        written = sample(self.loop.policy, prompts, self.config.new_tokens, generator=generator, **how, **ids)
        scores = self.reward(prompts, written)[1]
        texts, table = completion_texts(self.reward.tokenizer, written), []
        for b in range(len(texts)):
            one = Rollout(written.tokens[b : b + 1], written.attention_mask[b : b + 1], written.prompt_length)
            row = {"prompt": prompts.texts[b], "completion": texts[b], "length": int(one.mask.sum())}
            row |= {name: scores[name][b].item() for name in scores}
            row["reward"] = sum(self.reward.weights[name] * row[name] for name in scores)
            row["ended"] = has_ended(one.completion, one.mask, self.loop.eos_token_id).item()
            table.append({**row, "repetition": repetition(texts[b])})
        return table
