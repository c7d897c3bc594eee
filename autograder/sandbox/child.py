"""What happens in the forked child: load the learner's file from memory, run one probe on every case, send what it returned."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import linecache
import marshal
import random
import sys
import traceback
from types import ModuleType
from typing import Any, Callable, Iterable

from . import wire

MESSAGE_LIMIT = 500  # characters of any text that comes from learner code


class InMemoryFiles(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the submission's files, and the reference's earlier ones as code objects, without touching the disk."""

    def __init__(self, sources: dict[str, str], compiled: dict[str, bytes]):
        self.sources, self.compiled = sources, compiled

    def find_spec(self, fullname, path=None, target=None):
        if fullname in self.sources or fullname in self.compiled:
            return importlib.machinery.ModuleSpec(fullname, self, origin=file_name(fullname))
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        module.__file__ = file_name(name)
        if name in self.sources:
            text = self.sources[name]
            linecache.cache[module.__file__] = (len(text), None, text.splitlines(True), module.__file__)
            code = compile(text, module.__file__, "exec")
        else:
            code = marshal.loads(self.compiled[name])
        exec(code, module.__dict__)


def file_name(module_name: str) -> str:
    return module_name.replace(".", "/") + ".py"


def serve(request: bytes, send: Callable[[bytes], Any]) -> None:
    """Answers one request: a head frame and one frame a case come in; a frame for the import, one a case and an end go out.

    Head: module, exercise and probe by name; sources (text by module name); compiled (marshalled code objects, as bytes in
    uint8 arrays, from the grader); seed, for learner code that draws from the global generators.
    """
    head, rest = wire.take(request)
    cases = wire.frames(rest)
    finder = InMemoryFiles(head["sources"], {k: v.tobytes() for k, v in head["compiled"].items()})
    sys.meta_path.insert(0, finder)
    probes = importlib.import_module("autograder.probes." + head["module"])
    probe = getattr(probes, head["probe"])
    for name in (*head["sources"], *head["compiled"]):
        sys.modules.pop(name, None)
    del request, rest
    try:
        try:
            if hasattr(probes, "prepare"):
                probes.prepare()
            module = importlib.import_module(head["module"])
        except BaseException as error:
            send(wire.encode({"import": describe_exception(error, head["sources"])}))
            return
        send(wire.encode({"import": None, "has": _has(module, head["exercise"])}))
        for index, case in enumerate(cases):
            try:
                seed_everything(head["seed"] + index)
                frame = wire.encode({"case": index, "outputs": probe(module, **as_torch(case))})
            except (
                BaseException
            ) as error:  # from encoding too: an answer can be an object that does anything when it is looked at
                frame = wire.encode({"case": index, "raised": describe_exception(error, head["sources"])})
            send(frame)
        send(wire.encode({"done": True}))
    finally:
        sys.meta_path.remove(finder) if finder in sys.meta_path else None


def as_torch(value: Any) -> Any:
    """Arrays as torch tensors of their own, at any depth."""
    import numpy as np
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        return {k: as_torch(v) for k, v in value.items()}
    if isinstance(value, list):
        return [as_torch(v) for v in value]
    return value


def describe_exception(error: BaseException, learner_modules: Iterable[str]) -> dict[str, Any]:
    """Type, message and the learner's own frames of an exception. Survives exceptions whose `__str__` or `__name__` raises."""
    try:
        message = str.__getitem__(str(error), slice(MESSAGE_LIMIT))
    except BaseException:
        message = "(its message cannot be shown)"
    name = type.__dict__["__name__"].__get__(type(error))  # not asked of the class, which may answer anything
    mine = {file_name(name) for name in learner_modules}
    stack = []
    try:
        if isinstance(error, SyntaxError) and error.filename in mine:
            stack = [
                {"file": error.filename, "line": error.lineno or 0, "function": "", "text": (error.text or "").strip()[:200]}
            ]
        for frame in traceback.extract_tb(error.__traceback__, limit=200):
            if frame.filename in mine:
                at = {
                    "file": frame.filename,
                    "line": frame.lineno or 0,
                    "function": frame.name[:100],
                    "text": (frame.line or "")[:200],
                }
                stack.append(at)
    except BaseException:
        pass
    return {"type": name[:100], "message": message, "frames": stack[:2] + stack[2:][-4:]}


def _has(module: ModuleType, exercise: str) -> bool:
    """Whether the file has what the exercise is named after; `Baseline.update` is looked up step by step."""
    found: Any = module
    for part in exercise.split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


def seed_everything(seed: int) -> None:
    """The global generators, for learner code that draws from them. (`torch.manual_seed` also formats a stack: 2 ms.)"""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
