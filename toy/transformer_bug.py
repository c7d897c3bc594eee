"""A speaker learns to be kind: PPO on sentences drawn with a temperature and top-k, as a language model's are.

    python -m toy.transformer_bug

What the speaker says next depends on the word before it: the policy is a table of logits, (7, 7), with a row for each word of
lesson 3 and one for the start, and a column for each word and one for the end. Each batch of sentences is used for two passes,
so the loss carries PPO's ratio (lesson 6) between the policy as it is and as it was when the sentences were drawn. Besides the
score, the loop reports of each *first* pass, before the policy has changed: `log_ratio`, the mean logarithm of the ratio, and
`clipped`, the share of tokens whose ratio lies outside the clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from toy.given.words import SCORES, WORDS

START = END = len(WORDS)  # the row before the first word, and the column that ends a sentence


@dataclass(frozen=True)
class Sampling:
    """How words are drawn: logits divided by `temperature`, and of those the `top_k` largest."""

    temperature: float = 0.8
    top_k: int = 3


def speaker(seed: int = 0) -> Float[Tensor, "previous words"]:
    """The policy before training: every word may follow every word, some more readily than others."""
    return torch.randn(START + 1, END + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def largest(logits: Float[Tensor, "*batch words"], top_k: int) -> Bool[Tensor, "*batch words"]:
    """True on the `top_k` largest logits of each row, and on whatever equals the last of them."""
    return logits >= logits.topk(top_k, dim=-1).values[..., -1:]


def draw(
    table: Float[Tensor, "previous words"], count: int, length: int, sampling: Sampling, generator: torch.Generator
) -> tuple[Int[Tensor, "count length"], Bool[Tensor, "count length"], Float[Tensor, "count length"]]:
    """`count` sentences of at most `length` tokens: tokens, the mask of those that count (END is one), and the log-probability
    with which each was drawn (0 after the end)."""
    before, running = torch.full((count,), START), torch.ones(count, dtype=torch.bool)
    tokens, mask, log_probs = [], [], []
    for _ in range(length):
        logits = table.detach()[before] / sampling.temperature
        rows = logits.masked_fill(~largest(logits, sampling.top_k), -torch.inf).log_softmax(dim=-1)
        before = torch.multinomial(rows.exp(), 1, generator=generator).squeeze(1)
        tokens.append(before)
        mask.append(running)
        log_probs.append(rows.gather(1, before.unsqueeze(1)).squeeze(1))
        running = running & (before != END)
    tokens, mask, log_probs = (torch.stack(columns, dim=1) for columns in (tokens, mask, log_probs))
    return tokens, mask, log_probs.masked_fill(~mask, 0.0)


def log_probs_of(
    table: Float[Tensor, "previous words"],
    tokens: Int[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    sampling: Sampling,
) -> Float[Tensor, "batch time"]:
    """The log-probability of each token after the one before it; 0 after the end."""
    before = torch.cat([torch.full_like(tokens[:, :1], START), tokens[:, :-1]], dim=1)
    logits = table[before] / sampling.temperature  # (B, T, 7)
    rows = logits.log_softmax(dim=-1)
    return rows.gather(-1, tokens.unsqueeze(-1)).squeeze(-1).masked_fill(~mask, 0.0)


def score(tokens: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch"]:
    """The sum of the scores of a sentence's words; the end scores 0."""
    return (torch.tensor([*SCORES, 0.0], dtype=torch.float64)[tokens] * mask).sum(dim=1)


def others_mean(values: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """For each sentence the mean over the others: a baseline that knows nothing of the sentence it judges."""
    return (values.sum() - values) / (len(values) - 1)


def train(
    start: Float[Tensor, "previous words"],
    *,
    sampling: Sampling = Sampling(),
    updates: int = 40,
    batch: int = 64,
    length: int = 5,
    passes: int = 2,
    clip: float = 0.2,
    learning_rate: float = 1.0,
    seed: int = 0,
    draw: Callable[..., tuple[Tensor, Tensor, Tensor]] = draw,
) -> tuple[Float[Tensor, "previous words"], dict[str, list[float]]]:
    """Trains a copy of `start`. Returns its table and what was measured at each update.

    draw: how sentences come about: draw(table, batch, length, sampling, generator) -> (tokens, mask, log_probs).
    """
    generator = torch.Generator().manual_seed(seed)
    policy = start.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([policy], lr=learning_rate)
    history: dict[str, list[float]] = {"score": [], "log_ratio": [], "clipped": []}
    for _ in range(updates):
        tokens, mask, old_log_probs = draw(policy, batch, length, sampling, generator)  # rollout
        scores = score(tokens, mask)  # reward
        advantages = (scores - others_mean(scores)).unsqueeze(1)  # (B, 1): each token's is its sentence's
        for number in range(passes):
            log_probs = log_probs_of(policy, tokens, mask, sampling)
            ratio = (log_probs - old_log_probs).exp()
            gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
            loss = -gain[mask].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if number == 0:  # log
                history["score"].append(scores.mean().item())
                history["log_ratio"].append((log_probs - old_log_probs)[mask].mean().item())
                history["clipped"].append(((ratio - 1).abs() > clip)[mask].double().mean().item())
    return policy.detach(), history


def main() -> None:
    policy, history = train(speaker())
    print("update   score   log_ratio   clipped")
    for first in range(0, len(history["score"]), 5):
        row = [sum(values[first : first + 5]) / 5 for values in history.values()]
        print(f"{first:6d}  {row[0]:6.2f}  {row[1]:10.3f}  {row[2]:8.2f}")
    tokens, mask, _ = draw(policy, 5, 5, Sampling(), torch.Generator().manual_seed(1))
    for sentence, real in zip(tokens, mask):
        print("  ", " ".join(WORDS[word] for word in sentence[real].tolist() if word != END))


if __name__ == "__main__":
    main()
