"""solutions -> skeletons: what stands between `# BEGIN SOLUTION` and `# END SOLUTION` becomes a NotImplementedError that names the task.

In a silent bug's file the learner gets working code instead: a solution's `# PLANTED` and the commented lines after it, up to the
end mark, are what stands there in the skeleton, without their `# `.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from .reference import BEGIN, END, ROOT

PLANTED = "# PLANTED"


def skeleton(text: str, lesson: int) -> str:
    """The learner's file for a solution's text. Raises ValueError for marks that do not pair."""
    names = _names_by_line(text)
    kept, inside, planted = [], False, False
    for number, line in enumerate(text.splitlines(), start=1):
        mark = line.strip()
        if mark == BEGIN:
            if inside:
                raise ValueError(f"line {number}: {BEGIN} inside another")
            inside, planted = True, False
            indent = line[: len(line) - len(line.lstrip())]
            kept.append(f'{indent}raise NotImplementedError("lesson {lesson}: {names.get(number, "this file")}")')
        elif mark == END:
            if not inside:
                raise ValueError(f"line {number}: {END} without {BEGIN}")
            inside = False
        elif inside and mark == PLANTED:
            planted = True
            kept.pop()  # working code stands here, not a task
        elif planted and inside:
            kept.append(re.sub(r"# ?", "", line, count=1))
        elif not inside:
            kept.append(line)
    if inside:
        raise ValueError(f"{BEGIN} without {END}")
    return re.sub(r"\bsolutions\.(toy|full)\b", r"\1", "\n".join(kept) + "\n")


def _names_by_line(text: str) -> dict[int, str]:
    """Which function each line belongs to, as an exercise is named: `inner`, `Baseline.update`; `Agent` for `Agent.__init__`."""
    names: dict[int, str] = {}

    def visit(node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                dunder = child.name in ("__init__", "forward") and prefix
                name = prefix if dunder else f"{prefix}.{child.name}" if prefix else child.name
                for line in range(child.lineno, (child.end_lineno or child.lineno) + 2):
                    names[line] = name
                visit(child, name if isinstance(child, ast.ClassDef) else name)

    visit(ast.parse(text), "")
    return names


def pairs() -> list[tuple[Path, Path]]:
    """(solution, skeleton) for every exercise file of both tracks."""
    found = []
    for track in ("toy", "full"):
        for solution in sorted((ROOT / "solutions" / track).glob("*.py")):
            if solution.name != "__init__.py":
                found.append((solution, ROOT / track / solution.name))
    return found
