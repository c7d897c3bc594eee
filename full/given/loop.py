"""What surrounds an algorithm: where its batches come from, where a step goes, what is written down. The algorithm is the learner's.

    for prompts in loop.batches():
        rollout = loop.rollout(prompts)
        rewards = loop.reward(rollout)                       # (B,), constants
        ...
        loop.update(loss)
        loop.log(reward=rewards.mean(), loss=loss)

This is the plain one: one process, one device, everything in memory. `full.given.runs` has one that runs on several devices, shows
progress, saves and resumes; the methods are the same.
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from .rollout import rollout
from .text import Pairs, Prompts, Rollout


class Loop:
    """One process with everything in memory.

    policy: what is trained; `reference`: what it is held near, frozen (None where an algorithm has none).
    data: batches, of `Prompts` or of `Pairs`.  scores: the reward of each row of a rollout, (B,).
    optimizer: of the policy's parameters.  config: has `new_tokens`, `temperature`, `top_k` where rollouts are made.
    tokenizer: the policy's, where a reward reads text.  generator: of all sampling.  rows: what was logged, one dictionary a step.
    kept: numbers by name that an algorithm carries from step to step (lesson 10's alpha). A run saves them and brings them back.
    """

    def __init__(
        self,
        policy: nn.Module,
        data: Iterable[Prompts] | Iterable[Pairs],
        optimizer: torch.optim.Optimizer,
        config: Any,
        *,
        scores: Callable[[Rollout], Tensor] | None = None,
        reference: nn.Module | None = None,
        eos_token_id: int | None = None,
        pad_token_id: int = 0,
        generator: torch.Generator | None = None,
        tokenizer: Any = None,
    ) -> None:
        self.policy, self.data, self.optimizer, self.config = policy, data, optimizer, config
        self.scores, self.reference, self.generator, self.tokenizer = scores, reference, generator, tokenizer
        self.eos_token_id, self.pad_token_id = eos_token_id, pad_token_id
        self.rows: list[dict[str, float]] = []
        self.kept: dict[str, float] = {}

    def batches(self) -> Iterator[Any]:
        """The batches still to come, each of this process's own rows, on the policy's device."""
        yield from self.data

    def rollout(self, prompts: Prompts) -> Rollout:
        """What the policy writes after the prompts, sampled as the configuration says, without a gradient."""
        config = self.config
        return rollout(
            self.policy,
            prompts,
            config.new_tokens,
            eos_token_id=self.eos_token_id,
            pad_token_id=self.pad_token_id,
            temperature=config.temperature,
            top_k=config.top_k,
            generator=self.generator,
        )

    @torch.no_grad()
    def reward(self, rollout: Rollout) -> Tensor:
        """The reward of every row, (B,): numbers without a gradient."""
        return self.scores(rollout).detach()

    def gather(self, values: Tensor) -> Tensor:
        """These values from every process, rows in the order of the whole batch: what a statistic of the batch is taken over."""
        return values

    def own(self, values: Tensor) -> Tensor:
        """The part of gathered values that belongs to this process's rows: the way back from `gather`."""
        return values

    def update(self, loss: Tensor) -> None:
        """One step of the optimizer down this loss, which is a mean over this process's rows."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def log(self, **metrics: Tensor | float) -> None:
        """Writes down one step. Numbers, or tensors of one number."""
        figures = {name: float(value.detach() if isinstance(value, Tensor) else value) for name, value in metrics.items()}
        self.rows.append({"step": len(self.rows) + 1, **figures})
