"""Two fork servers for one track: a fork takes as long as what it copies is large, and few exercises need the largest libraries.

`scipy.signal` and matplotlib treble the mappings that each fork of the toy track has to copy, and take as long to import as torch,
for the one exercise that draws. So a library that a file imports only within some function is loaded in a second server, which
parts from the first when torch is there (`server.Branch`) and gets the exercises that come to it; all others are checked meanwhile.
A wrong guess costs time and nothing else: a child imports what is not there yet.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import Any, Callable

from .errors import SandboxError
from .executor import Reply
from .preload import known, libraries_for, parts_at_import, trees_of
from .tracks import Tracks, track_of
from .wire import take


LARGE = ("scipy", "matplotlib")  # libraries of many shared objects; a pure Python one adds little to a fork


def split(modules: list[str], wanted: list[str] | None = None) -> tuple[list[str], list[str]]:
    """What to load for these modules of one track: (in both servers, in the large one beside that). The latter is empty for `full`.

    wanted: what to load in all, if not what the solutions import.
    There nearly every check needs the language models' libraries, and two servers of their size would take the memory of many checks.
    """
    wanted = libraries_for(modules) if wanted is None else wanted
    if not modules or track_of(modules[0]) != "toy":
        return wanted, []
    at_import: set[str] = set()
    for tree in trees_of(modules):
        at_import |= known(parts_at_import(tree))
    late = [name for name in wanted if name not in at_import and name.split(".")[0] in LARGE]
    return [name for name in wanted if name not in late], late


@lru_cache(maxsize=256)
def needed(text: str, exercise: str | None) -> frozenset[str]:
    """Libraries that a file imports when it is itself imported, and those within the exercise's definition and what that calls.

    exercise: "plot_training" or "Agent.forward", a name at the file's top level with or without what is in it; None: the first alone.
    """
    try:
        tree = ast.parse(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return frozenset()  # the child reports it
    found = known(parts_at_import(tree))
    if exercise is None:
        return frozenset(found)
    definitions = {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    waiting, seen = [exercise.split(".")[0]], set()
    while waiting:
        name = waiting.pop()
        if name not in definitions or name in seen:
            continue
        seen.add(name)
        parts = list(ast.walk(definitions[name]))
        found |= known(parts)
        waiting += [part.id for part in parts if isinstance(part, ast.Name)]
    return frozenset(found)


class Apart(Tracks):
    """An Executor that hands a request to the large server if the file needs one of `late` for the exercise, else to the small one."""

    def __init__(self, probes: list[str], late: list[str], start: Callable[[bool], Any]):
        """start: makes the sandbox with (True) or without (False) the late libraries."""
        self._late = frozenset(late)
        self._of = {}
        try:
            for large in (True, False):
                self._of[large] = start(large)
        except BaseException:
            self.close()
            raise

    @property
    def level(self) -> str:
        """The small one's, which is there first. The large one serves at the same or not at all."""
        return self._of[False].level

    @property
    def layers(self) -> list[str]:
        return self._of[False].layers

    @property
    def note(self) -> str:
        return self._of[False].note

    def run(self, request: bytes, *, seconds: float, memory_mb: int) -> Reply:
        head, _ = take(request)
        text = str(head["sources"].get(head["module"], ""))
        large = bool(needed(text, head["exercise"]) & self._late)
        if large and self._of[True].layers != self.layers:
            raise SandboxError(f"two servers of one sandbox differ: {', '.join(self._of[True].layers)}; {', '.join(self.layers)}")
        return self._of[large].run(request, seconds=seconds, memory_mb=memory_mb)
