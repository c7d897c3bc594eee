"""`climb similar`: which submissions are alike beyond what the task makes alike. A list to look at, not a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer


def register(app: typer.Typer) -> None:
    app.command("similar")(similar)


def similar(
    submissions: Path = typer.Argument(..., metavar="SUBMISSIONS", help="As for `climb grade`; or a graded class, the folder that `climb grade --out` wrote."),
    out: Path = typer.Option(..., "--out", metavar="DIR", help="Folder for the pages: DIR/index.html, and a page for each pair."),
    lessons: Optional[str] = typer.Option(None, "--lessons", metavar="L", help="Only these: 1-3 or 1,2,5. Left out: all."),
    pairs: int = typer.Option(100, "--pairs", min=1, max=999, metavar="N", help="At most so many pairs."),
) -> None:  # fmt: skip
    """List submissions that are alike, lines side by side.

    What was handed out, the solutions and other known right answers do not count, nor what many students share. The list is
    something to look at, not a verdict.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from autograder import course as courses
    from autograder.cli import UsageProblem
    from autograder.commands.release import lessons_named, need_solutions
    from autograder.similarity import inputs
    from autograder.similarity import pairs as compare
    from autograder.similarity.fingerprints import require_copydetect
    from autograder.similarity.report import INDEX, write_pages

    need_solutions("similar")
    require_copydetect()
    course = courses.load()
    chosen = lessons_named(lessons, course)
    if not submissions.exists():
        raise UsageProblem(f"{submissions} does not exist; name a folder or a zip with submissions, or a graded class")
    refuse(out, submissions, INDEX)
    found = inputs.sources(submissions, course)
    if len(found) < 2:
        raise UsageProblem(f"{submissions}: expected two submissions at least, received {len(found)}")
    console = Console(stderr=True)
    columns = TextColumn("{task.description:<30}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        given = inputs.boilerplate(chosen)
        task = bar.add_task("comparing", total=len(given))

        def step(file: str) -> None:
            bar.update(task, advance=1, description=file)

        result = compare.similar(found, given, pairs, step)
        page = write_pages(result, out, f"{submissions.resolve().name}: similar submissions", course)
    told = f"{len(result.pairs)} pairs to look at among {len(found)} submissions, {len(result.groups)} files handed in twice or more"
    print(f"{told}: {page}. A list to look at, not a verdict")


def refuse(out: Path, submissions: Path, index: str) -> None:
    """Pages go into an empty folder or one with an earlier list, and not among what is compared."""
    from autograder.cli import UsageProblem

    if out.exists() and not out.is_dir():
        raise UsageProblem(f"--out: {out} is a file; name a folder")
    if submissions.is_dir() and submissions.resolve() == out.resolve():
        raise UsageProblem(f"--out: {out} is the folder of the submissions; name another, such as {out / 'similar'}")
    ours = (
        {path.name for path in out.iterdir() if path.name == index or path.name.startswith("pair-")}
        if out.is_dir()
        else set()
    )
    others = sorted(path.name for path in out.iterdir() if path.name not in ours) if out.is_dir() else []
    if others:
        raise UsageProblem(f"--out: {out} holds other things ({', '.join(others[:3])}); name an empty folder")
