"""What the model of sums can do: measured on sums that it has not seen, in either order of their numbers."""

from __future__ import annotations

import re
from typing import Any, Sequence

import numpy as np
import torch
from torch import nn

from .build_gpt2 import encoded
from .small_figures import share_interval
from .sums import SumWorld, shows_working
from .world_figures import interval, stated

TRIES = 8
"Completions of each sum, for pass@8: the share of sums of which at least one is right."
NEW_TOKENS = 14
LAST_NUMBER = re.compile(r"-?\d+(?=\D*\Z)")


def last_number(text: str) -> int | None:
    """The number that a completion ends with, None where it has none."""
    found = LAST_NUMBER.search(text)
    return None if found is None else int(found[0])


@torch.no_grad()
def answers(
    model: nn.Module, tokenizer: Any, prompts: Sequence[str], *, tries: int = 1, greedy: bool = False, seed: int = 0
) -> list[list[str]]:
    """What the model writes for each prompt, `tries` times, at temperature 1 (or `greedy`)."""
    from .ppo_settings import completion_texts
    from .rollout import rollout
    from .text import Prompts

    generator, found = torch.Generator().manual_seed(seed), []
    for start in range(0, len(prompts), 200):
        rows = tokenizer(list(prompts[start : start + 200]), padding=True, padding_side="left", return_tensors="pt")
        written = rollout(
            model,
            Prompts(rows.input_ids, rows.attention_mask).repeated(tries),
            NEW_TOKENS,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            top_k=1 if greedy else 0,
            generator=generator,
        )
        texts = completion_texts(tokenizer, written)
        found += [texts[place : place + tries] for place in range(0, len(texts), tries)]
    return found


def measure_sums_lm(
    model: nn.Module, tokenizer: Any, sums: SumWorld, count: int | None = None, seed: int = 10_015
) -> dict[str, Any]:
    """Shares of right answers with Wilson's intervals: sampled, greedy, among 8; with the working shown and without.

    count: how many of the test sums are asked, None: all.
    """
    test = sums.splits["test"][:count]
    prompts = [one.prompt for one in test]
    tried = answers(model, tokenizer, prompts, tries=TRIES, seed=seed)
    right = np.array([[last_number(text) == one.answer for text in texts] for one, texts in zip(test, tried)])  # (sums, tries)
    worked = np.array([[shows_working(text) for text in texts] for texts in tried])
    greedy = [last_number(texts[0]) == one.answer for one, texts in zip(test, answers(model, tokenizer, prompts, greedy=True))]
    carries = np.array([one.carries for one in test])
    nats = -log_probs(model, tokenizer, sums, count or 2000)
    return {
        "parameters": model.num_parameters(),
        "accuracy": share_interval(right[:, 0]),
        "greedy_accuracy": share_interval(np.array(greedy)),
        "pass_at_8": share_interval(right.any(1)),
        "worked": share_interval(worked[:, 0]),
        "accuracy_worked": share_interval(right[worked]) if worked.any() else None,
        "accuracy_plain": share_interval(right[~worked]),
        "accuracy_carries": share_interval(right[carries, 0]),
        "accuracy_no_carry": share_interval(right[~carries, 0]),
        "nats_a_completion": interval(nats),
        "pupils": pupils(sums),
        "sums": len(test),
    }


def pupils(sums: SumWorld, count: int = 20_000, seed: int = 10_016) -> dict[str, Any]:
    """The same of those it has learned from."""
    drawn = sums.demonstrations(count, seed, "test")
    right = np.array([one.slip is None for one in drawn])
    return {"accuracy": share_interval(right), "worked": share_interval(np.array([one.worked for one in drawn]))}


@torch.no_grad()
def log_probs(model: nn.Module, tokenizer: Any, sums: SumWorld, count: int = 2000, seed: int = 10_017) -> np.ndarray:
    """log p(completion | sum) of pupils' answers to test sums, (count,), nats."""
    from .build_fitting import padded

    drawn = sums.demonstrations(count, seed, "test")
    rows = encoded(tokenizer, [one.sum.prompt for one in drawn], [one.completion for one in drawn])
    ids = padded([head + tail for head, tail in rows], tokenizer.pad_token_id)
    logits = model(ids, attention_mask=(ids != tokenizer.pad_token_id).long()).logits[:, :-1]
    logs = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]  # (rows, length - 1)
    places, heads = torch.arange(1, ids.shape[1]), torch.tensor([[len(head)] for head, _ in rows])
    ends = torch.tensor([[len(head) + len(tail)] for head, tail in rows])
    return (logs * ((places >= heads) & (places < ends))).sum(1).double().numpy()


def told_sums(figures: dict[str, Any]) -> list[str]:
    """The figures in sentences."""
    lm = figures["sums-lm"]
    return [
        f"sums-lm: {lm['parameters']:,} parameters; of {lm['sums']:,} sums never seen it answers {stated(lm['accuracy'])} right "
        f"when sampled at temperature 1, {stated(lm['greedy_accuracy'])} greedily; of {stated(lm['pass_at_8'])} once among 8.",
        f"It shows the working in {stated(lm['worked'])}, and is right in {stated(lm['accuracy_worked'])} of those; of the plain "
        f"answers {stated(lm['accuracy_plain'])} are. Its pupils are right in {stated(lm['pupils']['accuracy'])}.",
    ]
