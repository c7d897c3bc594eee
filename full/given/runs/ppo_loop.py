"""The loop of a PPO run: a step has many updates, a value model is trained beside the policy, and Ctrl-C waits for the step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .interrupts import Interrupts
from .loop import RunLoop

VALUE = "value.pt"


class PPORunLoop(RunLoop):
    """Like `RunLoop`. value: the value model; of one that shares the policy's trunk the head alone is saved."""

    def __init__(self, *arguments: Any, value: Any, interrupts: Interrupts, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.value, self.interrupts = value, interrupts

    def update(self, loss: Tensor) -> None:
        if self.moment.step == 0 and not self.moved and self.saved_step() is None:
            self.save()  # a step is long: whatever ends the first one, there is something to go on from
        super().update(loss)

    def also_saved(self, place: Path) -> None:
        shared = any(p is q for p in self.value.parameters() for q in self.policy.parameters())
        torch.save((self.value.head if shared else self.value).state_dict(), place / VALUE)

    def _finish(self) -> None:
        super()._finish()
        if self.interrupts.asked:
            raise KeyboardInterrupt
