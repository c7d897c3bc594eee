"""What the makers of the small models share: a plain training loop and padded tables."""

from __future__ import annotations

import math
from typing import Any, Callable, Iterable

import torch
from torch import Tensor, nn

Progress = Callable[[str, int, int, str], None]
"Is told what is done, how many steps of how many, and what there is to say of it."
Made = tuple[dict[str, tuple[nn.Module, Any]], dict[str, Any]]
"(name -> model and its tokenizer, figures by name)"


def schedule(step: int, steps: int, warm_up: int) -> float:
    """Share of the peak learning rate: up in a line, down as a cosine."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def fit(
    model: nn.Module,
    data: Iterable[Any],
    loss_of: Callable[[Any], Tensor],
    *,
    steps: int,
    peak: float,
    warm_up: int,
    name: str,
    progress: Progress,
    weight_decay: float = 0.01,
    relative: bool = False,
) -> nn.Module:
    """AdamW on `loss_of` of each of the first `steps` batches, on one thread: the same weights on one core as on many.

    relative: each tensor's learning rate is multiplied by the root mean square of its first values, as Adafactor does (Shazeer &
    Stern 2018). A T5 needs it: by its initialisation some tensors are thirty times as large as others.
    """
    groups = [[p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim < 2]]
    decayed = [{"params": group, "weight_decay": decay, "scale": 1.0} for group, decay in zip(groups, (weight_decay, 0.0))]
    if relative:
        decayed = [group | {"params": [p], "scale": size(p)} for group in decayed for p in group["params"]]
    optimizer = torch.optim.AdamW(decayed, lr=peak, betas=(0.9, 0.98), fused=True)
    recent, before = None, torch.get_num_threads()
    torch.set_num_threads(1)
    model.train()
    try:
        for step, batch in zip(range(steps), data):
            for group in optimizer.param_groups:
                group["lr"] = peak * group["scale"] * schedule(step, steps, warm_up)
            loss = loss_of(batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            recent = loss.item() if recent is None else 0.95 * recent + 0.05 * loss.item()
            progress(name, step + 1, steps, f"loss {recent:.3f}")
    finally:
        torch.set_num_threads(before)
    return model.eval()


def size(tensor: Tensor) -> float:
    """The root mean square of its values, 0.001 at least, so that what begins at 0 can learn."""
    return max(float(tensor.detach().square().mean().sqrt()), 1e-3)


def padded(rows: list[list[int]], filling: int) -> Tensor:
    """(rows, longest), filled up on the right."""
    table = torch.full((len(rows), max(map(len, rows))), filling)
    for n, row in enumerate(rows):
        table[n, : len(row)] = torch.tensor(row)
    return table
