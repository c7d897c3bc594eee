"""One sandbox a track: the toy lessons' fork server stays small, though the full track's has the language models' libraries loaded.

A fork takes as long as the memory of the process it copies is large, and every check is a fork.
"""

from __future__ import annotations

from typing import Any, Callable

from .executor import Reply
from .wire import take


class Tracks:
    """An Executor that hands each request to the sandbox of its module's track. All of them start at once, beside each other."""

    def __init__(self, probes: list[str], start: Callable[[list[str]], Any]):
        """start: makes the sandbox for the probes of one track."""
        self._of: dict[str, Any] = {}
        try:
            for name in dict.fromkeys(map(track_of, probes)):
                self._of[name] = start([probe for probe in probes if track_of(probe) == name])
        except BaseException:
            self.close()
            raise

    @property
    def level(self) -> str:
        """The lowest of all."""
        levels = [sandbox.level for sandbox in self._of.values()]
        return "full" if set(levels) == {"full"} else next(level for level in levels if level != "full")

    @property
    def layers(self) -> list[str]:
        """Those that are active in every one."""
        first, *others = [sandbox.layers for sandbox in self._of.values()]
        return [layer for layer in first if all(layer in other for other in others)]

    @property
    def note(self) -> str:
        return next((sandbox.note for sandbox in self._of.values() if sandbox.note), "")

    def run(self, request: bytes, *, seconds: float, memory_mb: int) -> Reply:
        head, _ = take(request)
        return self._of[track_of(head["module"])].run(request, seconds=seconds, memory_mb=memory_mb)

    def close(self) -> None:
        for sandbox in self._of.values():
            sandbox.close()

    def __enter__(self) -> Tracks:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def track_of(module: str) -> str:
    return module.split(".")[0]
