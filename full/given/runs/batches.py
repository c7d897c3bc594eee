"""The batch of every step, told from the step alone: a run that goes on needs to remember nothing of it."""

from __future__ import annotations

from typing import Callable

import torch

from full.given import data
from full.given.problems import InputProblem
from full.given.text import Pairs, Prompts


class Order:
    """Which rows stand in the batch of a step: every epoch goes through all of them once, in an order of its own.

    The rows that do not fill a batch at the end of an epoch wait for the next one, which has another order.
    """

    def __init__(self, rows: int, batch_size: int, epochs: int, steps: int, seed: int, source: str) -> None:
        if rows < batch_size:
            few = f"has {rows} rows to train on, fewer than batch_size={batch_size}"
            raise InputProblem(f"data={source}: {few}; lower batch_size")
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.a_epoch = rows // batch_size
        self.steps = min(steps, self.a_epoch * epochs) if steps else self.a_epoch * epochs
        self._epoch, self._order = -1, torch.zeros(0, dtype=torch.long)

    def __call__(self, step: int) -> list[int]:
        epoch, place = divmod(step, self.a_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(1_000_003 * (self.seed + 1) + epoch)
            self._epoch, self._order = epoch, torch.randperm(self.rows, generator=generator)
        return self._order[place * self.batch_size :][: self.batch_size].tolist()


Batches = Callable[[int, int, int], Prompts | Pairs]
"""(step, process, processes) -> this process's rows of the step's batch."""


def share(index: list[int], process: int, processes: int) -> tuple[list[int], torch.Tensor]:
    """(this process's part of a batch, where it stands in the whole)."""
    each = len(index) // processes
    rows = torch.arange(process * each, (process + 1) * each)
    return [index[i] for i in rows.tolist()], rows


def prompt_batches(tokens: list[list[int]], order: Order, pad_token_id: int) -> Batches:
    def batch(step: int, process: int, processes: int) -> Prompts:
        mine, rows = share(order(step), process, processes)
        return data.prompts_of([tokens[i] for i in mine], pad_token_id, rows, order.batch_size)

    return batch


def pair_batches(found: data.Preferences, order: Order, pad_token_id: int, reference: torch.Tensor | None) -> Batches:
    def batch(step: int, process: int, processes: int) -> Pairs:
        mine, _ = share(order(step), process, processes)
        return data.pairs_of(found, mine, pad_token_id, reference)

    return batch


def require_divisible(batch_size: int, processes: int) -> None:
    """Raises InputProblem unless every process gets as many rows as every other: else the mean over processes is another one."""
    if batch_size % processes:
        share = f"does not divide among {processes} processes"
        raise InputProblem(f"batch_size={batch_size}: {share}; take a multiple of {processes}")
