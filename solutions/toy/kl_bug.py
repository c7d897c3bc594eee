"""A speaker learns to be kind and is kept close to how it used to speak: REINFORCE with a KL penalty whose strength is steered.

    python -m toy.kl_bug

The speaker says sentences of a few words of lesson 3. What it says next depends on the word before: its policy is a table of
logits, (7, 6), a row for each previous word and one for START. Training begins at the reference and maximises

    E[score] - beta KL(policy||reference)

where the score of a sentence is the mean score of its words. How large must beta be? Nobody knows beforehand. So the user
says how far the policy may go, `target` nats a sentence, and after each step a controller raises beta if the measured KL is
above the target and lowers it if it is below (Ziegler et al. 2019). The distance in the reward is a number for each sentence,
k1; what is reported and steers the controller is an estimate with less noise, k3.
"""

from __future__ import annotations

from typing import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from toy.given.words import SCORES, START, WORDS

RATE = 0.1  # of the controller: beta changes by at most 2% a step


def speaker() -> Float[Tensor, "previous words"]:
    """The reference: every word may follow every word, the unkind ones more often, and no word likes to be said twice."""
    logits = torch.zeros(len(WORDS) + 1, len(WORDS), dtype=torch.float64)
    logits -= 0.5 * torch.tensor(SCORES, dtype=torch.float64)
    logits[: len(WORDS)] -= torch.eye(len(WORDS), dtype=torch.float64)
    return logits


def token_log_probs(
    table: Float[Tensor, "previous words"], sentences: Int[Tensor, "batch time"]
) -> Float[Tensor, "batch time"]:
    """log pi(word | word before) of every word; the word before the first is START."""
    before = torch.cat([torch.full_like(sentences[:, :1], START), sentences[:, :-1]], dim=1)
    rows = torch.log_softmax(table, dim=-1)[before]  # (B, T, 6)
    return rows.gather(-1, sentences.unsqueeze(-1)).squeeze(-1)


def draw(
    table: Float[Tensor, "previous words"], count: int, length: int, generator: torch.Generator
) -> Int[Tensor, "batch time"]:
    """`count` sentences of `length` words, sampled from the policy."""
    probabilities = torch.softmax(table.detach(), dim=-1)
    said = [torch.full((count,), START)]
    for _ in range(length):
        said.append(torch.multinomial(probabilities[said[-1]], 1, generator=generator).squeeze(-1))
    return torch.stack(said[1:], dim=1)


def score(sentences: Int[Tensor, "batch time"]) -> Float[Tensor, "batch"]:
    """The mean of the words' scores, between -1 and 1."""
    return torch.tensor(SCORES, dtype=torch.float64)[sentences].mean(dim=1)


def approximate_kl(
    log_probs: Float[Tensor, "batch time"], ref_log_probs: Float[Tensor, "batch time"]
) -> Float[Tensor, ""]:
    """The mean over the batch of the words' k3 estimates, summed over each sentence: nats a sentence, never negative."""
    # BEGIN SOLUTION
    log_ratio = ref_log_probs - log_probs
    # PLANTED
    # log_ratio = log_probs - ref_log_probs
    # END SOLUTION
    return (log_ratio.exp() - 1 - log_ratio).sum(dim=1).mean()


def others_mean(values: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """For each sentence the mean over the others: a baseline that knows nothing of the sentence it judges."""
    # BEGIN SOLUTION
    return (values.sum() - values) / (len(values) - 1)
    # PLANTED
    # return (values.sum() - values) / (len(values) - 1)
    # END SOLUTION


def next_beta(beta: float, kl: float, target: float) -> float:
    """The controller: a KL above the target makes the penalty dearer, by at most 2%, one below it cheaper."""
    # BEGIN SOLUTION
    error = min(max(kl / target - 1, -0.2), 0.2)
    return beta * (1 + RATE * error)
    # PLANTED
    # error = min(max(kl / target - 1, -0.2), 0.2)
    # return beta * (1 + RATE * error)
    # END SOLUTION


def train_near_reference(
    start: Float[Tensor, "previous words"],
    reference: Float[Tensor, "previous words"],
    *,
    target: float = 1.0,
    beta: float = 0.3,
    steps: int = 500,
    batch: int = 256,
    length: int = 3,
    learning_rate: float = 1.0,
    seed: int = 0,
    draw: Callable[..., Int[Tensor, "batch time"]] = draw,
) -> tuple[Float[Tensor, "previous words"], dict[str, list[float]]]:
    """Trains a copy of `start`. Returns its table and what was measured at each step, of the policy before the step.

    target: the KL that the controller aims at, in nats a sentence.  beta: the penalty at the start, in score per nat.
    draw: how sentences come about: draw(table, batch, length, generator) -> (batch, length).
    """
    generator = torch.Generator().manual_seed(seed)
    policy = start.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([policy], lr=learning_rate)
    history: dict[str, list[float]] = {"score": [], "kl": [], "entropy": [], "beta": []}
    for _ in range(steps):
        sentences = draw(policy, batch, length, generator)  # rollout
        log_probs = token_log_probs(policy, sentences)
        ref_log_probs = token_log_probs(reference, sentences)
        scores = score(sentences)  # reward
        # BEGIN SOLUTION
        rewards = scores - beta * (log_probs - ref_log_probs).sum(dim=1).detach()
        # PLANTED
        # rewards = scores - beta * (log_probs - ref_log_probs).sum(dim=1).detach()
        # END SOLUTION
        advantages = rewards - others_mean(rewards)
        loss = -(advantages * log_probs.sum(dim=1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        kl = approximate_kl(log_probs.detach(), ref_log_probs).item()  # log
        entropy = -log_probs.detach().sum(dim=1).mean().item()
        for name, value in (("score", scores.mean().item()), ("kl", kl), ("entropy", entropy), ("beta", beta)):
            history[name].append(value)
        beta = next_beta(beta, kl, target)
    return policy.detach(), history


def main() -> None:
    policy, history = train_near_reference(speaker(), speaker())
    print("step   score      kl  entropy    beta")
    for first in range(0, len(history["kl"]), 50):
        row = [sum(values[first : first + 50]) / 50 for values in history.values()]
        print(f"{first:4d}  {row[0]:6.2f}  {row[1]:6.2f}  {row[2]:7.2f}  {row[3]:6.3f}")
    generator = torch.Generator().manual_seed(1)
    for sentence in draw(policy, 5, 3, generator).tolist():
        print("  ", " ".join(WORDS[word] for word in sentence))


if __name__ == "__main__":
    main()
