"""The reference solutions, on the trusted side: their source, their modules, and edited copies of them."""

from __future__ import annotations

import importlib
import marshal
import re
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "# BEGIN SOLUTION", "# END SOLUTION"


class EditError(ValueError):
    """An edit's text does not occur exactly once in the reference."""


@lru_cache(maxsize=None)
def source(module_name: str) -> str:
    """The reference's text of `toy.word_agent`, as the learner's file would read: importing `toy`, not `solutions.toy`."""
    path = ROOT / "solutions" / (module_name.replace(".", "/") + ".py")
    return re.sub(r"\bsolutions\.(toy|full)\b", r"\1", path.read_text(encoding="utf-8"))


def edited(text: str, replacements: dict[str, str]) -> str:
    """`text` with every key replaced by its value. Raises EditError unless each key occurs exactly once."""
    for old, new in replacements.items():
        if text.count(old) != 1:
            raise EditError(f"{old!r} occurs {text.count(old)} times, not once")
        text = text.replace(old, new)
    return text


def module_of(text: str, module_name: str) -> ModuleType:
    """A module of its own with this source, whose imports of earlier exercises are the reference's."""
    text = re.sub(r"^(\s*(?:from|import)\s+)(toy|full)\.(?!given\b)", r"\1solutions.\2.", text, flags=re.MULTILINE)
    made = ModuleType("reference." + module_name)
    made.__file__ = f"<reference {module_name}>"
    sys.modules[made.__name__] = made  # a dataclass looks its module up while it is being made
    exec(compile(text, made.__file__, "exec", dont_inherit=True), made.__dict__)
    return made


@lru_cache(maxsize=None)
def module(module_name: str) -> ModuleType:
    return importlib.import_module("solutions." + module_name)


def compiled(module_name: str) -> bytes:
    """The reference as a marshalled code object: what stands in for an *earlier* exercise file in a workspace."""
    return marshal.dumps(compile(source(module_name), module_name.replace(".", "/") + ".py", "exec"))
