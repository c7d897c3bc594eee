"""A complete DPO in one file: a small GPT-2 learns what a judge likes, from 632 choices between short completions.

    python -m full.dpo_bug

The world is that of `full.given.film_words`: the prompt "film", five words of which END is one, completions of at most three
tokens. The judge likes what ends, has "good" in it and no "bad"; he prefers a liked completion three times out of four. The
choices hold that proportion exactly and link all completions, so that training should end at

    pi*(y) = ref(y) exp(r(y) / beta) / Z,    r = log 3 for a liked completion, else 0

(section 11.7): total variation 0, and reward, KL and length those of pi*.

The loss starts at log 2 and falls, the accuracy rises to 0.75, and something is wrong: find the one error and mend it (section
11.10).
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from full.given import film_words as world

END = 0
"The token that ends a text. There is no other to spare, so it also fills up rows behind their ends."


def rows_of(
    prompt: Sequence[int], answers: Sequence[Sequence[int]]
) -> tuple[Int[Tensor, "batch length"], Int[Tensor, "batch length"]]:
    """Each answer behind the prompt, filled up with END on the right: tokens, and the attention mask (1 on real tokens)."""
    length = len(prompt) + max(len(answer) for answer in answers)
    tokens = torch.full((len(answers), length), END)
    attention_mask = torch.zeros_like(tokens)
    for row, answer in enumerate(answers):
        # BEGIN SOLUTION
        real = len(prompt) + len(answer)
        tokens[row, :real] = torch.tensor([*prompt, *answer])
        attention_mask[row, :real] = 1
        # PLANTED
        # real = len(prompt) + len(answer)
        # tokens[row, :real] = torch.tensor([*prompt, *answer])
        # attention_mask[row, :real] = 1
        # END SOLUTION
    return tokens, attention_mask


def scored_tokens(
    tokens: Int[Tensor, "batch length"], attention_mask: Int[Tensor, "batch length"], prompt_length: int
) -> Bool[Tensor, "batch length"]:
    """True on the tokens of the answers: neither on the prompt nor on what fills up a row."""
    behind = torch.arange(tokens.shape[1]) >= prompt_length
    # BEGIN SOLUTION
    return behind & (attention_mask != 0)
    # PLANTED
    # return behind & (tokens != END)
    # END SOLUTION


def answer_log_probs(
    model: Any, tokens: Int[Tensor, "batch length"], attention_mask: Int[Tensor, "batch length"], prompt_length: int
) -> Float[Tensor, "batch"]:
    """log pi(answer | prompt) of every row. The logits at a position are for the token behind it."""
    scored = scored_tokens(tokens, attention_mask, prompt_length)[:, 1:]
    logits = model(input_ids=tokens, attention_mask=attention_mask).logits
    # BEGIN SOLUTION
    log_probs = logits[:, :-1].log_softmax(dim=-1).gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
    return torch.where(scored, log_probs, 0.0).sum(dim=1)
    # PLANTED
    # log_probs = logits[:, :-1].log_softmax(dim=-1).gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
    # return torch.where(scored, log_probs, 0.0).sum(dim=1)
    # END SOLUTION


def margins(
    log_probs: Float[Tensor, "two_pairs"], ref_log_probs: Float[Tensor, "two_pairs"], beta: float
) -> Float[Tensor, "pairs"]:
    """How far the chosen answer of each pair is ahead in implicit reward: beta times the difference of the log ratios."""
    # BEGIN SOLUTION
    chosen, rejected = (log_probs - ref_log_probs).chunk(2)
    return beta * (chosen - rejected)
    # PLANTED
    # chosen, rejected = (log_probs - ref_log_probs).chunk(2)
    # return beta * (chosen - rejected)
    # END SOLUTION


def train_dpo(
    policy: Any,
    reference: Any,
    optimizer: torch.optim.Optimizer,
    prompt: Sequence[int],
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    beta: float = 0.5,
    updates: int = 150,
    after_update: Callable[[dict[str, float]], None] = lambda line: None,
) -> None:
    """Minimises the DPO loss over all pairs (chosen, rejected), one step of the optimizer after the other.

    after_update is told the loss, the accuracy, and the mean log-probabilities of chosen and of rejected answers, all of them
    taken before the step.
    """
    answers = [chosen for chosen, _ in pairs] + [rejected for _, rejected in pairs]
    tokens, attention_mask = rows_of(prompt, answers)
    with torch.no_grad():
        ref_log_probs = answer_log_probs(reference, tokens, attention_mask, len(prompt))
    for _ in range(updates):
        log_probs = answer_log_probs(policy, tokens, attention_mask, len(prompt))
        margin = margins(log_probs, ref_log_probs, beta)
        # BEGIN SOLUTION
        loss = -F.logsigmoid(margin).mean()
        # PLANTED
        # loss = -F.logsigmoid(margin).mean()
        # END SOLUTION
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        chosen, rejected = log_probs.detach().chunk(2)
        accuracy = ((1 + margin.detach().sign()) / 2).mean()
        after_update({"loss": loss.item(), "accuracy": float(accuracy), "chosen": float(chosen.mean()),
                      "rejected": float(rejected.mean())})  # fmt: skip


def answers_of(ruler: Any, choices: Int[Tensor, "choices 2"]) -> list[tuple[list[int], list[int]]]:
    """The choices as pairs of token lists, END included where an answer has one."""
    listed = [tokens[:length] for tokens, length in zip(ruler.sequences.tolist(), ruler.lengths.tolist())]
    return [(listed[chosen], listed[rejected]) for chosen, rejected in choices.tolist()]


def main() -> None:
    beta, reference = 0.5, world.gpt2().requires_grad_(False)
    policy = world.copy_of(reference)
    before, now = world.listed(reference), world.listed(policy)
    reward = world.rewards(before)
    target = before.optimum(reward, beta)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=150)
    lines: list[dict[str, float]] = []

    def measured(probs: Tensor) -> str:
        figures = (reward > 0).double(), before.lengths.double(), (before.sequences == END).any(dim=1).double()
        return "".join(f"{float(probs @ figure):9.3f}" for figure in figures)

    def show(line: dict[str, float]) -> None:
        schedule.step()
        lines.append(line)
        if len(lines) in (1, 10, 25, 50, 100, 150):
            with torch.no_grad():
                exact = measured(now.probs()) + f"{now.kl(before):9.3f}{now.total_variation(target):9.3f}"
            print(f"{len(lines):6d}{line['loss']:9.4f}{line['accuracy']:10.3f}{exact}")

    print(f"update{'loss':>9}{'accuracy':>10}{'liked':>9}{'length':>9}{'ends':>9}{'KL':>9}{'tv':>9}")
    train_dpo(policy, reference, optimizer, world.PROMPT, answers_of(before, world.judged(before)), beta=beta, after_update=show)
    optimum = (target.exp() * (target - before.log_probs())).sum()
    print(f"{'pi*':>6}{'':19}{measured(target.exp())}{optimum:9.3f}{0:9.3f}")


if __name__ == "__main__":
    main()
