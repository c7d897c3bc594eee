"""Which libraries the fork server loads beforehand: those the lesson's own file imports. Each child would spend 100 ms and more on one."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Callable, Iterable, Iterator

ROOT = Path(__file__).resolve().parent.parent.parent
# What torch imports only when a function is first called, by the attribute that such a source names. `torch.autograd.grad` with
# `grad_outputs` brings in a computer algebra system: seconds on a cold disk, of the few that a check may take.
LATE = {"autograd": {"sympy"}}
LIBRARIES = ("numpy", "scipy", "torch", "matplotlib", "jaxtyping", "transformers", "datasets", "tokenizers", "accelerate", "rouge_score", "PIL", "sympy")


def libraries_for(modules: list[str]) -> list[str]:
    """Names to import for these exercise modules, from the solution where there is one, else from the learner's file."""
    return sorted(set().union(*map(_written, trees_of(modules))))


def trees_of(modules: list[str]) -> list[ast.Module]:
    """The modules' solutions, or where there is none (or none that can be read) the learner's files, parsed."""
    trees = []
    for module in modules:
        file = module.replace(".", "/") + ".py"
        for path in (ROOT / "solutions" / file, ROOT / file):
            try:
                trees.append(ast.parse(path.read_text(encoding="utf-8")))
                break
            except (OSError, ValueError, SyntaxError):
                continue
    return trees


def libraries_of(texts: list[str]) -> list[str]:
    """Names to import for these sources: what a learner has written so far may need less than the solution."""
    found: set[str] = set()
    for text in texts:
        try:
            found |= imported(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue  # the child reports it
    return sorted(found)


def imported(text: str) -> set[str]:
    """The library modules a source imports, at any depth of it, but for functions still to be written.

    `from scipy import special` gives `scipy` and `scipy.special`.
    """
    return _written(ast.parse(text))


def _written(tree: ast.AST) -> set[str]:
    return known(_parts(tree, lambda node: isinstance(node, ast.FunctionDef) and _to_be_written(node)))


def parts_at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """What of a source runs when it is imported: everything outside of functions."""
    return _parts(tree, lambda node: isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))


def known(parts: Iterable[ast.AST]) -> set[str]:
    """The library modules that these parts of a source import, of those worth loading beforehand."""
    parts = list(parts)
    late = (LATE.get(node.attr, set()) for node in parts if isinstance(node, ast.Attribute))
    return {name for name in names_imported(parts).union(*late) if name.split(".")[0] in LIBRARIES}


def names_imported(parts: Iterable[ast.AST]) -> set[str]:
    """What these parts of a source import, by full names: `from scipy import special` gives `scipy` and `scipy.special`."""
    found: set[str] = set()
    for node in parts:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _parts(tree: ast.AST, left_out: Callable[[ast.AST], bool]) -> Iterator[ast.AST]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if not left_out(node):
            yield node
            waiting += ast.iter_child_nodes(node)


def _to_be_written(function: ast.FunctionDef) -> bool:
    return any(isinstance(part, ast.Raise) and "NotImplementedError" in ast.unparse(part) for part in function.body)
