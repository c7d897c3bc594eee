"""A complete PPO in one file: the writer of lesson 6 learns by plain gradient descent, sixteen times through every rollout.

    python -m toy.ppo_bug

It starts at the reference and maximises E[score] - beta KL(policy||reference), with a table of values as its critic. Reward
and KL are put together token by token, advantages come from GAE with gamma = 1 and are whitened, and the policy's loss is
clipped so that sixteen epochs on the same sentences do no harm.

The reward rises from the first update on. Something is wrong: find the one error and mend it (section 6.15).
"""

from __future__ import annotations

import copy
from typing import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from toy.given.sentences import Ruler, Sampler, ValueTable, log_probs_of, reference_policy, sampler, sentence_scores, shift_right


def token_rewards(
    scores: Float[Tensor, "batch"], log_ratio: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], beta: float
) -> Float[Tensor, "batch time"]:
    """Every real token pays beta times its log-ratio to the reference; the last one is paid the sentence's score."""
    rewards = torch.where(mask, -beta * log_ratio, 0.0)
    rewards[torch.arange(len(scores)), mask.sum(dim=1) - 1] += scores
    return rewards


def advantages_and_returns(
    rewards: Float[Tensor, "batch time"], values: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], lam: float
) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time"]]:
    """GAE with gamma = 1: TD errors, added up from the end of each sentence. The returns are what the values should have been."""
    advantages, running = torch.zeros_like(values), torch.zeros_like(values[:, 0])
    following = torch.zeros_like(running)
    for t in reversed(range(values.shape[1])):
        running = torch.where(mask[:, t], rewards[:, t] + following - values[:, t] + lam * running, 0.0)
        following = torch.where(mask[:, t], values[:, t], 0.0)
        advantages[:, t] = running
    return advantages, (advantages + values) * mask


def whiten(x: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """Mean 0 and standard deviation 1 over all real tokens."""
    spread = x[mask].std(correction=0).clamp(min=1e-12)
    return (x - x[mask].mean()) / spread


def policy_loss(
    log_probs: Float[Tensor, "batch time"],
    old_log_probs: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    clip: float,
) -> Float[Tensor, ""]:
    """Minus the mean gain of the real tokens, which ends at the edge of the interval that the ratio is meant to stay in."""
    ratio = (log_probs - old_log_probs).exp()
    edge = torch.where(advantages >= 0, 1 + clip, 1 - clip) * advantages
    gain = torch.where(advantages >= 0, torch.minimum(ratio * advantages, edge), torch.maximum(ratio * advantages, edge))
    return -(gain * mask).sum() / mask.sum()


def value_loss(
    values: Float[Tensor, "batch time"], returns: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, ""]:
    """Half the mean squared error over real tokens."""
    return 0.5 * ((values - returns) ** 2 * mask).sum() / mask.sum()


def train_writer(
    policy: nn.Module,
    value: nn.Module,
    reference: nn.Module,
    sample: Sampler,
    score: Callable[[Tensor, Tensor], Tensor] = sentence_scores,
    *,
    updates: int = 30,
    count: int = 256,
    epochs: int = 16,
    beta: float = 0.5,
    lam: float = 0.95,
    clip: float = 0.2,
    rate: float = 5.0,
    after_update: Callable[[dict[str, float]], None] = lambda line: None,
) -> None:
    """Trains policy and value by gradient descent with learning rate `rate`; each update learns from `count` new sentences.

    sample(policy, count, temperature) -> (tokens, mask), a sampler as in `toy.given.sentences`; score(tokens, mask) -> (count,).
    after_update is told the mean score of the rollout, and the least and the largest ratio of its tokens after the update.
    """
    optimizer = torch.optim.SGD([*policy.parameters(), *value.parameters()], lr=rate)
    for _ in range(updates):
        tokens, mask = sample(policy, count, 1.0)  # rollout
        inputs = shift_right(tokens)
        with torch.no_grad():
            old_log_probs, old_values = log_probs_of(tokens, policy(inputs)), value(inputs)
            log_ratio = old_log_probs - log_probs_of(tokens, reference(inputs))
        scores = score(tokens, mask)  # reward
        rewards = token_rewards(scores, log_ratio, mask, beta)
        advantages, returns = advantages_and_returns(rewards, old_values, mask, lam)  # advantage
        advantages = whiten(advantages, mask)
        for _ in range(epochs):
            log_probs = log_probs_of(tokens, policy(inputs))
            loss = policy_loss(log_probs, old_log_probs, advantages, mask, clip) + value_loss(value(inputs), returns, mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():  # log
            ratio = (log_probs_of(tokens, policy(inputs)) - old_log_probs).exp()[mask]
        after_update({"reward": float(scores.mean()), "least": float(ratio.min()), "largest": float(ratio.max())})


def main() -> None:
    reference = reference_policy()
    policy, value = copy.deepcopy(reference).requires_grad_(True), ValueTable()
    ruler, lines = Ruler(reference, beta=0.5), []

    def show(line: dict[str, float]) -> None:
        lines.append(line)
        exact = ruler.measure(policy)
        if len(lines) in (1, 2, 5, 10, 20, 30):
            print(f"{len(lines):6d}  {line['reward']:6.2f}  {line['least']:.2f} to {line['largest']:.2f}  ", end="")
            print(f"{exact['reward']:10.3f}  {exact['objective']:9.3f}  {exact['tv']:5.3f}")

    print("update  reward         ratio    E[score]  objective     tv")
    train_writer(policy, value, reference, sampler(1), after_update=show)
    best = ruler.optimum()
    print(f"the optimum                     {best['reward']:10.3f}  {best['objective']:9.3f}  {best['tv']:5.3f}")


if __name__ == "__main__":
    main()
