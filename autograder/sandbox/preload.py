"""Which libraries the fork server loads beforehand: those the lesson's own file imports. Each child would spend 100 ms and more on one."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LIBRARIES = ("numpy", "scipy", "torch", "matplotlib", "jaxtyping", "transformers", "datasets", "tokenizers", "accelerate", "rouge_score", "PIL")


def libraries_for(modules: list[str]) -> list[str]:
    """Names to import for these exercise modules, from the solution where there is one, else from the learner's file."""
    found: set[str] = set()
    for module in modules:
        file = module.replace(".", "/") + ".py"
        for path in (ROOT / "solutions" / file, ROOT / file):
            try:
                found |= imported(path.read_text(encoding="utf-8"))
                break
            except (OSError, ValueError, SyntaxError):
                continue
    return sorted(found)


def imported(text: str) -> set[str]:
    """The library modules a source imports, at any depth of it; `from scipy import special` gives `scipy` and `scipy.special`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.split(".")[0] in LIBRARIES}
