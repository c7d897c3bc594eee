"""A complete supervised fine-tuning in one file: a small T5 learns to answer a number with so many words.

    python -m full.sft_bug

The world is `full.given.counting_words`: the source is "one", "two", "three" or "four", the answer so many words, each "good"
half of the time and else "fine" or "bad", then END. So it is known how low the loss can fall (section 13.3), and of the trained
model it can be computed how many words it says when it writes by itself.

The loss falls to where it belongs, and something is wrong: find the one error and mend it (section 13.8).
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from full.given import counting_words as world

IGNORED = -100
Row = tuple[Sequence[int], Sequence[int]]
"A source and its answer, as token ids that end with END."


def batch_of(
    rows: Sequence[Row],
) -> tuple[Int[Tensor, "batch source"], Int[Tensor, "batch source"], Int[Tensor, "batch time"]]:
    """Sources padded on the right, their mask, and the answers as labels: -100 behind END."""
    width, time = (max(len(row[side]) for row in rows) for side in (0, 1))
    sources = torch.tensor([[*source, *[world.PAD] * (width - len(source))] for source, _ in rows])
    mask = torch.tensor([[1] * len(source) + [0] * (width - len(source)) for source, _ in rows])
    labels = torch.tensor([[*answer, *[IGNORED] * (time - len(answer))] for _, answer in rows])
    return sources, mask, labels


def decoder_inputs(labels: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
    """What the decoder has read when it is to say each label: one place behind, with no token for -100."""
    before = labels.roll(1, dims=1)
    return before.masked_fill(before == IGNORED, world.PAD)


def token_loss(logits: Float[Tensor, "batch time vocabulary"], labels: Int[Tensor, "batch time"]) -> Float[Tensor, ""]:
    """Mean of -log p(label) over the real labels: the logits at a place are for the label at that place."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


def train_sft(
    model: Any,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Sequence[Row]],
    *,
    after_update: Callable[[dict[str, float]], None] = lambda line: None,
) -> None:
    """One step of the optimizer for each batch of rows.

    after_update is told the loss, and the accuracy: the share of labels that are the model's first choice behind the true
    beginning of the answer. Both are taken before the step.
    """
    for rows in batches:
        sources, mask, labels = batch_of(rows)
        read = decoder_inputs(labels)
        logits = model(input_ids=sources, attention_mask=mask, decoder_input_ids=read).logits
        loss = token_loss(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        real = labels != IGNORED
        accuracy = (logits.argmax(dim=-1) == labels)[real].double().mean()
        after_update({"loss": loss.item(), "accuracy": accuracy.item()})


def main() -> None:
    torch.set_num_threads(1)  # a small model: threads would only wait for each other
    steps, generator = 300, torch.Generator().manual_seed(1)
    model, batches = world.t5(), [world.rows(64, generator) for _ in range(steps)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    lines: list[dict[str, float]] = []

    def show(line: dict[str, float]) -> None:
        schedule.step()
        lines.append(line)
        if len(lines) % 50 == 0:
            recent = lines[-50:]
            drawn = [len(answer) - 1 for rows in batches[len(lines) - 50 : len(lines)] for _, answer in rows]
            means = "".join(f"{sum(row[name] for row in recent) / 50:10.4f}" for name in ("loss", "accuracy"))
            print(f"{len(lines):5d}{means}{world.floor(drawn):10.4f}")

    print(f"{'step':>5}{'loss':>10}{'accuracy':>10}{'floor':>10}     (means of 50 steps)")
    train_sft(model, optimizer, batches, after_update=show)
    print("\nP(so many words), when the model writes by itself:\n\n asked" + "".join(f"{n:8d}" for n in range(6)))
    for number, word in enumerate(world.NUMBERS, start=1):
        print(f"{world.WORDS[word]:>6}" + "".join(f"{share:8.3f}" for share in world.lengths(model, number).tolist()))


if __name__ == "__main__":
    main()
