"""The loop of a PPO run: a value model is trained beside the policy, and saved with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .loop import RunLoop

VALUE = "value.pt"


class PPORunLoop(RunLoop):
    """Like `RunLoop`. value: the value model; of one that shares the policy's trunk the head alone is saved."""

    def __init__(self, *arguments: Any, value: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.value = value

    def also_saved(self, place: Path) -> None:
        shared = any(p is q for p in self.value.parameters() for q in self.policy.parameters())
        torch.save((self.value.head if shared else self.value).state_dict(), place / VALUE)
