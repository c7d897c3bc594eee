"""`climb skeletons`: the learner's files, generated from the solutions."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import typer

from autograder import course as courses

TASK = re.compile(r'raise NotImplementedError\("lesson \d+: [^"]+"\)')  # what a skeleton has where a solution stood


def register(app: typer.Typer) -> None:
    app.command("skeletons")(skeletons)


def skeletons(
    check: bool = typer.Option(False, "--check", help="Write nothing; exit 1 if a file is not what its solution gives."),
    force: bool = typer.Option(
        False, "--force", help="Also replace files somebody has worked on; the old one is kept as FILE.bak."
    ),
) -> None:
    """Write toy/*.py and full/*.py from solutions/. Files with work in them are kept."""
    from autograder import reference
    from autograder.cli import UsageProblem
    from autograder.commands.release import need_solutions
    from autograder.progress import write_whole
    from autograder.skeletons import skeleton

    need_solutions("skeletons")
    course = courses.load()
    different = 0
    for lesson in course.lessons:
        solution, target = reference.ROOT / "solutions" / lesson.file, course.root / lesson.file
        if not solution.is_file():
            continue
        try:
            wanted = skeleton(solution.read_text(encoding="utf-8"), lesson.number)
        except (ValueError, SyntaxError) as error:
            raise UsageProblem(f"solutions/{lesson.file}: {error}") from None
        if target.is_dir():
            raise UsageProblem(f"{lesson.file} is a folder: move it away")
        present = target.read_bytes() if target.is_file() else None
        if present == wanted.encode():
            continue
        different += 1
        work = present is not None and worked_on(present, wanted)
        if check:
            print(f"{lesson.file} {'is missing' if present is None else 'is not what its solution gives'}")
        elif work and not force:
            print(f"{lesson.file} has work in it and is kept; `climb skeletons --force` replaces it (and keeps a copy)")
        else:
            kept = backup(target) if work else None
            target.parent.mkdir(exist_ok=True)
            write_whole(target, wanted)
            print(f"{lesson.file} written{f'; the old one is {kept.relative_to(course.root)}' if kept else ''}")
    if check and different:
        raise typer.Exit(1)
    if not different:
        print("All skeletons are what their solutions give.")


def worked_on(present: bytes, wanted: str) -> bool:
    """Whether somebody wrote something: a line outside docstrings that the fresh skeleton does not have."""
    try:
        lines = _lines_of_code(present.decode())
    except (UnicodeDecodeError, SyntaxError, ValueError, RecursionError):
        return True
    return bool(lines - _lines_of_code(wanted))


def _lines_of_code(text: str) -> set[str]:
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            lines[first.lineno - 1 : first.end_lineno] = [""] * (first.end_lineno - first.lineno + 1)
    return {line.strip() for line in lines if line.strip() and not TASK.fullmatch(line.strip())}


def backup(target: Path) -> Path:
    """Renames a file to FILE.bak, or FILE.bak2 and so on: an older copy is never written over."""
    names = (target.with_name(f"{target.name}.bak{number or ''}") for number in (None, *range(2, 1000)))
    kept = next(name for name in names if not os.path.lexists(name))
    os.rename(target, kept)
    return kept
