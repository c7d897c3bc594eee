"""A run's checkpoint/: a Hugging Face directory with the optimizer's state and that of all randomness, whole or not there."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable

import torch
from torch import Tensor

from full.given.models import quiet

NAME, NEW, OLD = "checkpoint", ".checkpoint.new", ".checkpoint.old"


@dataclass
class Moment:
    """What stands between two steps, beside weights and optimizer."""

    step: int = 0
    seconds: float = 0.0
    kept: dict[str, Any] = field(default_factory=dict)
    "What the algorithm carries from step to step: `loop.kept`."
    before: dict[str, Any] = field(default_factory=dict)
    "What was measured before the first step."
    generator: Tensor | None = None
    global_generator: Tensor | None = None


def save(
    folder: Path,
    moment: Moment,
    model: Any,
    tokenizer: Any,
    optimizer: torch.optim.Optimizer,
    also: Callable[[Path], None] = lambda place: None,
) -> None:
    """Writes the checkpoint beside the last one, then puts it in its place: a run that is killed here has one of them.

    also(place) writes what else belongs to it.
    """
    new, old, place = folder / NEW, folder / OLD, folder / NAME
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    with quiet():
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
    states = {"optimizer": optimizer.state_dict(), "generator": moment.generator, "global_generator": moment.global_generator}
    torch.save(states, new / "training.pt")
    also(new)
    numbers = {name: value for name, value in asdict(moment).items() if name not in states}
    with open(new / "state.json", "w", encoding="utf-8") as file:  # the last file: where it is, all are
        json.dump(numbers, file)
        file.flush()
        os.fsync(file.fileno())
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        os.replace(place, old)
    os.replace(new, place)
    shutil.rmtree(old, ignore_errors=True)


def newest(folder: Path) -> Path | None:
    """The last whole checkpoint of a run, wherever the run was when it was killed."""
    return next((folder / name for name in (NAME, NEW, OLD) if _whole(folder / name)), None)


def load(place: Path) -> tuple[Moment, dict[str, Any]]:
    """(the moment, the optimizer's state) of a checkpoint. The weights are read as any other model's are."""
    numbers = json.loads((place / "state.json").read_text(encoding="utf-8"))
    states = torch.load(place / "training.pt", map_location="cpu", weights_only=True)
    optimizer = states.pop("optimizer")
    return Moment(**numbers, **states), optimizer


def _whole(place: Path) -> bool:
    try:
        json.loads((place / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
