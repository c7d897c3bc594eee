"""Which parts of an exercise file a check's verdict hangs on, so that `climb watch` runs again only what a save has changed.

A verdict stays while all stays that runs when the file is imported, and every function and class that the check can come to by name:
from what the probe, the exercise's name and the cases mention, and from what runs at the import, through all that these mention in
their turn. A name that only looks like a use (an attribute, a word within a string) counts as one, so that a check too many is run
and never one too few. Where a file can come to its own parts by another way than their names (`globals()`, a computed `getattr`,
`sys.modules`), the whole text counts.

This trusts that the file does not hide what it uses: good enough for a learner at their own desk, and not used for grading.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Iterable, Iterator

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
BY_NAME = ("getattr", "setattr", "hasattr", "delattr")  # plain uses of a name, as long as that stands there
# Ways to a file's own parts that do not go by a name in its text.
OTHER_WAYS = {"builtins", "compile", "ctypes", "dir", "eval", "exec", "gc", "globals", "importlib", "inspect", "linecache", "locals"}
OTHER_WAYS |= {"attrgetter", "methodcaller", "get_type_hints", "jit", "fx", "operator", "pickle", "sys", "traceback", "vars"}
PLAIN_DUNDERS = {"__main__", "__name__", "__future__", "__init__", "__post_init__", "__call__", "__len__", "__iter__", "__next__"}
PLAIN_DUNDERS |= {"__getitem__", "__setitem__", "__contains__", "__enter__", "__exit__", "__repr__", "__str__", "__eq__", "__hash__"}
PLAIN_DUNDERS |= {"__add__", "__sub__", "__mul__", "__truediv__", "__neg__", "__matmul__", "__class__", "__version__", "__doc__", "__all__"}


class Reach:
    """The parts of the file `module`, given as text among `sources` (by module name), and what leads from one to another."""

    def __init__(self, sources: dict[str, str], module: str):
        self._whole = repr(sorted(sources.items()))
        self._others = {name: text for name, text in sources.items() if name != module}
        try:
            self._tree = ast.parse(sources[module])
            self._start = {word for text in self._others.values() for word in words(ast.parse(text))}
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            self._tree = None  # the child says what is wrong with it
        self._known: dict[frozenset[str] | None, str] = {}
        if self._tree is not None and not any(_another_way(node) for node in ast.walk(self._tree)):
            self._statements = [node for node in self._tree.body if not _only_as_a_program(node)]
            self._start |= {word for node in self._statements for part in at_import(node) for word in words(part)}
        else:
            self._tree = None

    def digest(self, names: Iterable[str] | None) -> str:
        """A hash of what can be come to from these names: while it stays, so does the verdict of a check that starts from them.

        None: nobody knows where the check starts; the whole text counts.
        """
        names = None if names is None else frozenset(names)
        if names not in self._known:
            self._known[names] = hashlib.sha256(self._text(names).encode("utf-8", "surrogatepass")).hexdigest()
        return self._known[names]

    def _text(self, names: frozenset[str] | None) -> str:
        if self._tree is None or names is None:
            return self._whole
        reached = self._reached(names | self._start)
        parts = [repr(sorted(self._others.items()))]
        for node in self._statements:
            if not isinstance(node, DEFINITIONS) or node.name in reached:
                parts.append(ast.dump(node))
            else:
                parts += [node.name, *map(ast.dump, at_import(node)), *map(ast.dump, _annotations(node))]
        return "\n".join(parts)

    def _reached(self, names: Iterable[str]) -> set[str]:
        named: dict[str, list[ast.stmt]] = {}
        for node in self._statements:
            if isinstance(node, DEFINITIONS):
                named.setdefault(node.name, []).append(node)
        return _mentioned(named, [*names, *(name for name in named if name.startswith("__"))])  # Python itself calls `__getattr__`


def _mentioned(named: dict[str, list[ast.stmt]], names: Iterable[str]) -> set[str]:
    """These names, and all that is mentioned by what they name, at any depth."""
    found, waiting = set(), [*names]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [word for node in named.get(name, ()) for word in words(node)]
    return found


def start_of(check: Any, module: str, cases: list[dict]) -> frozenset[str] | None:
    """The names from which a check of the file `module` can come to its parts; None if its probe is in no file."""
    try:
        origin = importlib.util.find_spec("autograder.probes." + module).origin  # not imported: that would import torch
    except (ValueError, AttributeError):
        return None
    return frozenset(check.exercise.split(".")) | _of_probe(origin, check.probe) | set(_strings(cases))


@lru_cache(maxsize=None)
def _of_probe(origin: str, probe: str) -> frozenset[str]:
    """What a probe mentions, with what it calls of its own file, and all that the probe files mention which that imports."""
    place = Path(origin)
    tree = ast.parse(place.read_text(encoding="utf-8"))
    named = {node.name: [node] for node in tree.body if isinstance(node, DEFINITIONS)}
    named |= {target.id: [node] for node in tree.body if isinstance(node, ast.Assign) for target in node.targets if isinstance(target, ast.Name)}
    unnamed = [node for node in tree.body if [node] not in named.values() and not _only_text(node)]
    found = _mentioned(named, [probe, "prepare", *(word for node in unnamed for word in words(node))])
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:  # a sibling: `from .dpo import language_model`
            beside = place.with_name(f"{node.module}.py")
            found |= words(ast.parse(beside.read_text(encoding="utf-8")))
    return frozenset(found)


def words(tree: ast.AST) -> set[str]:
    """Every name that a piece of source mentions: names, attributes, what it imports, and words within its strings."""
    found: set[str] = set()
    documentation = _docstrings(tree)
    for node in _without_annotations(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found |= {*re.findall(r"\w+", node.name), node.asname or ""}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            found |= set(re.findall(r"\w+", node.value))
    return found


def at_import(node: ast.stmt) -> Iterator[ast.AST]:
    """What of a statement at the top level runs when the file is imported: not the bodies of functions, nor annotations."""
    if isinstance(node, FUNCTIONS):
        yield from (*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults))
    elif isinstance(node, ast.ClassDef):
        yield from (*node.decorator_list, *node.bases, *node.keywords)
        for inner in node.body:
            yield from at_import(inner)
            if isinstance(inner, DEFINITIONS):
                yield ast.Name(inner.name)
    elif not _only_text(node):
        yield node


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    for part in ast.walk(node):
        if isinstance(part, ast.arguments):
            yield part
        elif isinstance(part, FUNCTIONS) and part.returns is not None:
            yield part.returns


def _without_annotations(tree: ast.AST) -> Iterator[ast.AST]:
    """What is annotated with a class does not call it. Of an annotation there is only to know whether it has changed."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        skipped = ("annotation", "returns") if isinstance(node, (ast.arg, ast.AnnAssign, *FUNCTIONS)) else ()
        for name, value in ast.iter_fields(node):
            if name not in skipped:
                waiting += [part for part in (value if isinstance(value, list) else [value]) if isinstance(part, ast.AST)]


def _docstrings(tree: ast.AST) -> set[int]:
    """The nodes of docstrings, by `id`: they speak of functions and do not call them."""
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, (ast.Module, *DEFINITIONS))]
    return {id(body[0].value) for body in bodies if body and _only_text(body[0])}


def _only_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _another_way(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in OTHER_WAYS or _odd(node.id)
    if isinstance(node, ast.Attribute):
        return _odd(node.attr) or node.attr in OTHER_WAYS - {"eval", "compile"}  # `model.eval()` is no eval
    if isinstance(node, ast.alias):
        return any(part in OTHER_WAYS or _odd(part) for part in node.name.split("."))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BY_NAME:
        return len(node.args) < 2 or not isinstance(node.args[1], ast.Constant)
    return False


def _odd(name: str) -> bool:
    return name.startswith("__") and name.endswith("__") and name not in PLAIN_DUNDERS


def _only_as_a_program(node: ast.stmt) -> bool:
    """`if __name__ == "__main__":`, which does not hold when a check imports the file."""
    return isinstance(node, ast.If) and not node.orelse and ast.unparse(node.test) in ("__name__ == '__main__'", "'__main__' == __name__")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from re.findall(r"\w+", value)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)
