"""The one interface behind which learner code runs: a request's bytes in, a reply out."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol


@dataclass
class Reply:
    """outcome: finished (the child ended by itself), timeout, crashed (signal or early exit), flooded (too many bytes)."""

    outcome: str
    stream: bytes
    printed: str = ""
    detail: str = ""
    seconds: float = 0.0


class Executor(Protocol):
    """layers: the protections that are active, by name; level: full, process or none."""

    level: str
    layers: list[str]

    def run(self, request: bytes, *, seconds: float, memory_mb: int) -> Reply: ...

    def close(self) -> None: ...


@dataclass
class InProcess:
    """No sandbox at all: for code we wrote ourselves (tests of checks, the course checking itself). Never for learner files."""

    level: str = "none"
    layers: list[str] = field(default_factory=list)

    def run(self, request: bytes, *, seconds: float, memory_mb: int) -> Reply:
        import sys

        from .child import serve
        from .wire import take

        started, sent = time.perf_counter(), []
        head, _ = take(request)
        names = {*head["sources"], *head["compiled"]}
        before = {name: sys.modules[name] for name in names if name in sys.modules}
        serve(request, sent.append)
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)
        return Reply("finished", b"".join(sent), seconds=time.perf_counter() - started)

    def close(self) -> None:
        pass
