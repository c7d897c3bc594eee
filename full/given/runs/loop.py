"""The loop of a run: the plain one's methods, on any device, in one process or several, written down and saved as it goes.

A step begins where `batches` hands out a batch and ends where it is asked for the next one. What a checkpoint holds is the state
between two steps, also where one is interrupted: until the optimizer has moved, the state at the step's beginning is at hand.
"""

from __future__ import annotations

import copy
import math
import time
from typing import Any, Callable, Iterator

import torch
from torch import Tensor, nn

from full.given.loop import Loop
from full.given.problems import InputProblem
from full.given.rollout import rollout
from full.given.text import Prompts, Rollout

from . import checkpoint
from .batches import Batches, require_divisible
from .checkpoint import Moment
from .interrupts import Interrupts


class NotFinite(InputProblem):
    """A loss or a gradient that is NaN or infinite: nothing that follows would mean anything."""


class RunLoop(Loop):
    """Like `Loop`; of its batches there is one for every step from the moment on.

    accelerator: of `processes.accelerator_for`.  order: how many steps.  moment: where to go on (step 0: the beginning).
    progress(what, done, total) is called after every step; a KeyboardInterrupt in it ends the run between two steps.
    sample(step) is called every `config.sample_every` steps, between two steps; begin() before the first batch is made.
    interrupts: where a step takes long. The step in which Ctrl-C was pressed is finished then, and the first one can be gone back to.
    """

    def __init__(
        self,
        policy: nn.Module,
        batches: Batches,
        steps: int,
        optimizer: torch.optim.Optimizer,
        config: Any,
        *,
        accelerator: Any,
        folder: Any,
        tokenizer: Any,
        moment: Moment,
        progress: Callable[[str, int, int], None],
        sample: Callable[[int], None] = lambda step: None,
        begin: Callable[[], None] = lambda: None,
        interrupts: Interrupts | None = None,
        **plain: Any,
    ) -> None:
        eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
        super().__init__(policy, [], optimizer, config, eos_token_id=eos, pad_token_id=pad, **plain)
        require_divisible(config.batch_size, accelerator.num_processes)
        self.make, self.steps, self.accelerator, self.folder = batches, steps, accelerator, folder
        self.tokenizer, self.progress, self.sample, self.begin = tokenizer, progress, sample, begin
        self.moment, self.kept, self.interrupts = moment, dict(moment.kept), interrupts
        self.parameters = [
            parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.requires_grad
        ]
        self.fast = copy.deepcopy(policy).to(torch.bfloat16) if getattr(config, "fast_rollout", False) else None
        self.started = time.perf_counter() - moment.seconds
        self.moved = False
        self.pending: dict[str, Tensor | float] = {}
        if moment.generator is not None:
            self.generator.set_state(moment.generator)
            torch.set_rng_state(moment.global_generator)

    # what a learner's `train` calls

    def batches(self) -> Iterator[Any]:
        self.begin()
        while self.moment.step < self.steps:
            self._remember(self.moment.step)
            yield self.make(self.moment.step, self.accelerator.process_index, self.accelerator.num_processes).to(self.device)
            self._finish()

    def rollout(self, prompts: Prompts) -> Rollout:
        if self.fast is None:
            return super().rollout(prompts)
        with torch.no_grad():
            for copied, own in zip(self.fast.parameters(), self.policy.parameters()):
                copied.copy_(own)
        config = self.config
        tokens = {"eos_token_id": self.eos_token_id, "pad_token_id": self.pad_token_id}
        how = {"temperature": config.temperature, "top_k": config.top_k, "generator": self.generator}
        return rollout(self.fast, prompts, config.new_tokens, **tokens, **how)

    def gather(self, values: Tensor) -> Tensor:
        return values if self.accelerator.num_processes == 1 else self.accelerator.gather(values.contiguous())

    def own(self, values: Tensor) -> Tensor:
        each = len(values) // self.accelerator.num_processes
        return values[self.accelerator.process_index * each :][:each]

    def update(self, loss: Tensor) -> None:
        if self.interrupts is not None and self.moment.step == 0 and not self.moved and self.saved_step() is None:
            self.save()
        for group in self.optimizer.param_groups:
            group["lr"] = group.get("scale", 1.0) * learning_rate(self.config, self.moment.step, self.steps)
            if self.moment.step < group.get("waits", 0):  # steps at the beginning in which a group stays as it is
                group["lr"] = 0.0
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        whole = self._averaged(loss.detach())
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm or math.inf)
        if not (math.isfinite(whole.item()) and math.isfinite(norm.item())):
            what = f"the gradient's length is {norm.item()}" if math.isfinite(whole.item()) else f"the loss is {whole.item()}"
            raise NotFinite(f"step {self.moment.step + 1}: {what}")
        self.moved = True
        self.optimizer.step()
        self.pending["grad_norm"] = norm

    def log(self, **metrics: Tensor | float) -> None:
        self.pending = {**metrics, **{name: value for name, value in self.pending.items() if name not in metrics}}

    # what surrounds it

    @property
    def device(self) -> torch.device:
        return self.accelerator.device

    @property
    def main(self) -> bool:
        return self.accelerator.is_main_process

    def close(self) -> None:
        """After the last batch: a `train` that left its loop early has a step to finish."""
        if self.moved:
            self._finish()

    def save(self) -> bool:
        """Writes the checkpoint of the last moment between two steps, if its weights are still at hand and finite."""
        if self.moved or not all(parameter.isfinite().all() for parameter in self.parameters):
            return False
        if self.main:
            checkpoint.save(self.folder.path, self.moment, self.policy, self.tokenizer, self.optimizer, self.also_saved)
        return True

    def also_saved(self, place: Any) -> None:
        """What a loop of another kind writes into its checkpoint besides."""

    def saved_step(self) -> int | None:
        """The step of the checkpoint in the run's folder."""
        place = checkpoint.newest(self.folder.path)
        return None if place is None else checkpoint.load(place)[0].step

    def _remember(self, step: int) -> None:
        self.moment = Moment(
            step=step,
            seconds=round(time.perf_counter() - self.started, 3),
            kept=dict(self.kept),
            before=self.moment.before,
            generator=self.generator.get_state(),
            global_generator=torch.get_rng_state(),
        )
        self.moved, self.pending = False, {}

    def _finish(self) -> None:
        """The step is over: its row, its checkpoint, a sample, and a word to whoever watches."""
        if not self.moved:
            raise InputProblem("train: went on to the next batch without loop.update(loss), so nothing was learned from the last")
        step, config = self.moment.step + 1, self.config
        row = {"step": step, "seconds": round(time.perf_counter() - self.started, 3)}
        row |= {"learning_rate": self.optimizer.param_groups[0]["lr"], **self._means(self.pending)}
        if self.main:
            self.folder.add_metrics([row])
        if self.accelerator.trackers:
            self.accelerator.log({name: value for name, value in row.items() if name != "step"}, step=step)
        self.rows.append(row)
        self._remember(step)
        if config.save_every and step % config.save_every == 0:
            self.save()
        every = getattr(config, "sample_every", 0)
        if every and step % every == 0 and step < self.steps:
            self.sample(step)
        self.progress(said(row), step, self.steps)
        if self.interrupts is not None and self.interrupts.asked:
            raise KeyboardInterrupt

    def _averaged(self, loss: Tensor) -> Tensor:
        """Gradients and loss averaged over the processes, in one message: each is a mean over as many rows as any other."""
        if self.accelerator.num_processes == 1:
            return loss
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([*(parameter.grad.flatten() for parameter in self.parameters), loss.reshape(1)])
        flat = self.accelerator.reduce(flat, reduction="mean")
        *parts, whole = flat.split([*(parameter.numel() for parameter in self.parameters), 1])
        for parameter, part in zip(self.parameters, parts):
            parameter.grad.copy_(part.view_as(parameter))
        return whole

    def _means(self, metrics: dict[str, Tensor | float]) -> dict[str, float]:
        """Metrics as numbers, averaged over the processes."""
        values = [float(torch.as_tensor(value).detach()) for value in metrics.values()]
        if self.accelerator.num_processes > 1:
            together = torch.tensor(values, dtype=torch.float64, device=self.device)
            values = self.accelerator.reduce(together, reduction="mean").tolist()
        return dict(zip(metrics, values))


def learning_rate(config: Any, step: int, steps: int) -> float:
    """The learning rate of a step, counted from 0: a linear rise, then the value, or a linear fall that would reach 0 at the end."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.decay:
        return config.learning_rate * (steps - step) / max(steps - config.warmup_steps, 1)
    return config.learning_rate


def said(row: dict[str, Any]) -> str:
    """A step in the few words that fit beside a progress bar."""
    words = {"reward": "reward {:.3f}", "kl": "kl {:.2f}", "accuracy": "accuracy {:.2f}", "loss": "loss {:.3f}"}
    found = [words[name].format(row[name]) for name in words if name in row]
    return "  ".join(found[:2]) or f"step {row['step']}"
