"""Keeps torch's compiler out of processes that never compile: the first optimizer would import it, which takes over a second.

Optimizers call `torch._dynamo.disable` and `graph_break` whether or not anything is compiled. A stand-in answers these two with
nothing, which is what they mean here, and gives way to the real package the moment anything else is asked of it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


class _StandIn(ModuleType):
    def disable(self, fn=None, *_, **__):
        return (lambda f: f) if fn is None else fn

    def graph_break(self, *_, **__) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name in ("__file__", "__spec__", "__loader__", "__wrapped__"):
            raise AttributeError(name)
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return getattr(importlib.import_module(NAME), name)


def postpone() -> None:
    """Call after `import torch`. Does nothing if the compiler is loaded already."""
    import torch

    if NAME not in sys.modules:
        sys.modules[NAME] = stand_in = _StandIn(NAME)
        torch._dynamo = stand_in
