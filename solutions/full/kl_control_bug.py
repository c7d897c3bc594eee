"""How far has it gone? A policy is trained with a KL penalty, and watched by the full divergence of every token.

    python -m full.kl_control_bug

The language has four tokens, sentences have four, and the two models are tables: logits by the token before. The policy starts as
the reference and learns from E[score] - alpha KL(policy||reference). The log-ratio of a sentence is paid for in its reward. What
the log shows and what stops the run is measured with less noise: at every token the divergence over the whole vocabulary, summed
over the sentence. The user says how far the policy may go, `limit` nats a sentence; the run stops when it is further.
"""

from __future__ import annotations

from typing import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

VOCABULARY, LENGTH, START = 4, 4, 0


def reference_table() -> Float[Tensor, "previous next"]:
    """Logits of the next token: every token may follow every other, each likes its successor, and token 3 hardly ever comes."""
    table = torch.zeros(VOCABULARY, VOCABULARY, dtype=torch.float64)
    for token in range(VOCABULARY):
        table[token, (token + 1) % VOCABULARY] += 1.0
    table[:, 3] -= 4.0
    return table


def next_token_log_probs(
    table: Float[Tensor, "previous next"], sentences: Int[Tensor, "batch time"]
) -> Float[Tensor, "batch time next"]:
    """log pi(v | token before) of all tokens v at every place of every sentence."""
    before = F.pad(sentences, (1, 0), value=START)[:, :-1]
    return torch.log_softmax(table, dim=-1)[before]


def chosen(log_probs: Float[Tensor, "batch time next"], sentences: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """The log-probabilities of the tokens that came."""
    return log_probs.gather(-1, sentences.unsqueeze(-1)).squeeze(-1)


def draw(table: Float[Tensor, "previous next"], count: int, generator: torch.Generator) -> Int[Tensor, "batch time"]:
    """`count` sentences, sampled from the policy."""
    probabilities, said = torch.softmax(table.detach(), dim=-1), [torch.full((count,), START)]
    for _ in range(LENGTH):
        said.append(torch.multinomial(probabilities[said[-1]], 1, generator=generator).squeeze(-1))
    return torch.stack(said[1:], dim=1)


def score(sentences: Int[Tensor, "batch time"]) -> Float[Tensor, "batch"]:
    """The share of token 3, which the reference hardly ever says."""
    return (sentences == 3).double().mean(dim=1)


def sentence_kl(
    log_probs: Float[Tensor, "batch time next"], ref_log_probs: Float[Tensor, "batch time next"]
) -> Float[Tensor, "batch"]:
    """The divergence of the policy from the reference at every token of a sentence, over the whole vocabulary, summed: nats."""
    # BEGIN SOLUTION
    return F.kl_div(ref_log_probs, log_probs, reduction="none", log_target=True).sum(dim=(1, 2))
    # PLANTED
    # return F.kl_div(log_probs, ref_log_probs, reduction="none", log_target=True).sum(dim=(1, 2))
    # END SOLUTION


def shaped(
    scores: Float[Tensor, "batch"],
    log_probs: Float[Tensor, "batch time"],
    ref_log_probs: Float[Tensor, "batch time"],
    alpha: float,
) -> Float[Tensor, "batch"]:
    """What a sentence is worth: its score less the price of its log-ratio."""
    # BEGIN SOLUTION
    return (scores - alpha * (log_probs - ref_log_probs).sum(dim=1)).detach()
    # PLANTED
    # return (scores - alpha * (log_probs - ref_log_probs).sum(dim=1)).detach()
    # END SOLUTION


def others_mean(values: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """For each sentence the mean over the others."""
    # BEGIN SOLUTION
    return (values.sum() - values) / (len(values) - 1)
    # PLANTED
    # return (values.sum() - values) / (len(values) - 1)
    # END SOLUTION


def train_within_limit(
    start: Float[Tensor, "previous next"],
    reference: Float[Tensor, "previous next"],
    *,
    alpha: float = 0.02,
    limit: float = 2.0,
    steps: int = 300,
    batch: int = 256,
    learning_rate: float = 4.0,
    seed: int = 0,
    draw: Callable[..., Int[Tensor, "batch time"]] = draw,
) -> tuple[Float[Tensor, "previous next"], dict[str, list[float]]]:
    """Trains a copy of `start` until it is further than `limit` from the reference. Returns its table and what was measured.

    Measured at each step, of the policy before the step: the mean score, and the mean over the batch of the sentences' KL. The
    policy whose KL is above the limit is the one that is returned; it makes no further step.
    draw: how sentences come about: draw(table, batch, generator) -> (batch, time).
    """
    generator = torch.Generator().manual_seed(seed)
    policy = start.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([policy], lr=learning_rate)
    history: dict[str, list[float]] = {"score": [], "kl": []}
    for _ in range(steps):
        sentences = draw(policy, batch, generator)  # rollout
        scores = score(sentences)  # reward
        log_probs, ref_log_probs = next_token_log_probs(policy, sentences), next_token_log_probs(reference, sentences)
        kl = sentence_kl(log_probs.detach(), ref_log_probs).mean().item()
        history["score"].append(scores.mean().item())
        history["kl"].append(kl)
        # BEGIN SOLUTION
        if kl > limit:
            break
        # PLANTED
        # if kl > limit:
        #     break
        # END SOLUTION
        picked = chosen(log_probs, sentences)
        rewards = shaped(scores, picked, chosen(ref_log_probs, sentences), alpha)
        loss = -((rewards - others_mean(rewards)) * picked.sum(dim=1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy.detach(), history


def main() -> None:
    policy, history = train_within_limit(reference_table(), reference_table())
    steps = len(history["kl"])
    print("step   score      kl")
    for step in [*range(0, steps, 20), steps - 1]:
        print(f"{step:4d}  {history['score'][step]:6.2f}  {history['kl'][step]:6.2f}")
    for sentence in draw(policy, 5, torch.Generator().manual_seed(1)).tolist():
        print("  ", " ".join(map(str, sentence)))


if __name__ == "__main__":
    main()
