"""`climb selfcheck`: the course checks itself."""

from __future__ import annotations

import json
import os
from typing import Optional

import typer

from autograder import course as courses

MUTANTS = 12  # of an exercise; the same as autograder.selfcheck.mutants.LIMIT, which is not imported to answer `--help`


def register(app: typer.Typer) -> None:
    app.command("selfcheck")(selfcheck)


def selfcheck(
    lessons: Optional[str] = typer.Option(None, "--lessons", help="Only these: 1-3 or 1,2,5. Left out: all."),
    jobs: int = typer.Option(os.cpu_count() or 1, "--jobs", min=1, help="Trials at a time."),
    mutants: int = typer.Option(MUTANTS, "--mutants", min=0, help="Wrong versions made by rule, for each exercise."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON and nothing else."),
) -> None:
    """Check the course itself: skeletons fail, solutions pass, wrong answers are caught and named, right ones accepted."""
    from rich.console import Console

    from autograder.grading.shown import progress_bar
    from autograder.commands.release import lessons_named, need_solutions
    from autograder.sandbox import open_sandbox

    need_solutions("selfcheck")
    course = courses.load()
    chosen = [lesson for lesson in lessons_named(lessons, course) if lesson.exercises]
    with open_sandbox([lesson.module for lesson in chosen]) as sandbox:
        from autograder.selfcheck.report import show
        from autograder.selfcheck.run import selfcheck as run

        with progress_bar(Console(stderr=True)) as bar:
            task = bar.add_task("selfcheck", total=None)

            def step(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            report = run(course, sandbox, lessons=chosen, jobs=jobs, limit=mutants, step=step)
    if as_json:
        print(json.dumps(report.as_json(), indent=1))
    else:
        show(report, Console())
    raise typer.Exit(0 if report.ok else 1)
