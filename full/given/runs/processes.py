"""One run in one process or in several: `accelerate launch -m autograder.cli run reinforce ...`."""

from __future__ import annotations

import os
from typing import Any, Callable

import torch

from full.given.problems import InputProblem


def several() -> bool:
    """Whether this process is one of several that a launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def accelerator_for(config: Any, folder: Any) -> Any:
    """accelerate's object for device, precision and processes, with the trackers that were named.

    In mixed precision no weight's cast is kept: torch's cache lasts until the outermost autocast ends, whatever becomes of the
    weights, so that a training within one would go on scoring with those it began with, and teach the layers nothing.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import AutocastKwargs

    if not several():  # an earlier run of this process may have asked for something else
        AcceleratorState._reset_state(reset_partial_state=True)
        PartialState._reset_state()
    names = known_trackers(getattr(config, "trackers", ""))
    on_cpu = config.device == "cpu"
    if config.precision == "bf16" and not on_cpu and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise InputProblem("precision=bf16: this device has no bfloat16; leave precision=no")
    how = {"log_with": names or None, "project_dir": str(folder.path), "kwargs_handlers": [AutocastKwargs(cache_enabled=False)]}
    return Accelerator(cpu=on_cpu, mixed_precision=config.precision, **how)


def known_trackers(text: str) -> list[str]:
    """The trackers named, each of which this machine has. Raises InputProblem."""
    from accelerate.tracking import get_available_trackers

    there = [str(getattr(tracker, "value", tracker)) for tracker in get_available_trackers()]
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in there:
            has = ", ".join(there) or "none"
            raise InputProblem(f"trackers={text}: {name} is not installed here, or accelerate has no such tracker; there is {has}")
    return names


def agreed(make: Callable[[], Any], device: str = "auto") -> Any:
    """What `make` returns on the main process, on every process: names, folders and settings are decided once.

    An error is raised on the main process; the others end with the same code and say nothing.
    """
    if not several():
        return make()
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    found: list[Any] = [None, False]
    problem: BaseException | None = None
    if is_main():
        try:
            found = [make(), True]
        except Exception as error:
            problem = error
    broadcast_object_list(found)
    if problem is not None:
        raise problem
    if not found[1]:
        raise SystemExit(2)
    return found[0]
