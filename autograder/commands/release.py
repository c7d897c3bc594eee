"""`climb release`: the student bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from autograder import course as courses
from autograder import reference


def register(app: typer.Typer) -> None:
    app.command("release")(release)


def release(
    directory: Path = typer.Argument(..., metavar="DIR", help="Where to write it: an empty or new folder."),
    lessons: Optional[str] = typer.Option(None, "--lessons", help="Only these: 1-3 or 1,2,5. Left out: all."),
) -> None:
    """Write what students get: skeletons, lessons and a grader without solutions."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    course = courses.load()
    need_solutions("release")
    chosen = lessons_named(lessons, course)
    refuse_unless_empty(directory)
    from autograder import release as releases

    with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task("Freezing", total=len(chosen))

        def step(title: str) -> None:
            bar.update(task, description=title, completed=bar.tasks[0].completed + 1)

        releases.release(course, chosen, directory, step)
    exercises = sum(len(lesson.exercises) for lesson in chosen)
    Console().print(f"Released {len(chosen)} lessons ({exercises} exercises) to {directory}. Hand that folder out as it is.")


def need_solutions(command: str) -> None:
    from autograder.cli import UsageProblem

    if not (reference.ROOT / "solutions").is_dir():
        raise UsageProblem(f"`climb {command}` needs the course's solutions/ folder, which a student's copy does not have")


def refuse_unless_empty(directory: Path) -> None:
    from autograder.cli import UsageProblem

    if directory.exists() and not directory.is_dir():
        raise UsageProblem(f"{directory} is a file; name a new or empty folder")
    if directory.is_dir() and any(directory.iterdir()):
        raise UsageProblem(f"{directory} is not empty; name a new or empty folder (nothing was written)")


def lessons_named(text: str | None, course: courses.Course) -> list[courses.Lesson]:
    """The lessons of `1-3`, `1,2,5` or a mixture. Raises UsageProblem for anything else."""
    from autograder.cli import UsageProblem

    if text is None:
        return [lesson for lesson in course.lessons if lesson.exercises]
    wanted: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageProblem(f"--lessons: expected numbers such as 1-3 or 1,2,5, received {text!r}")
        wanted |= set(range(int(first), int(last or first) + 1))
    have = {lesson.number: lesson for lesson in course.lessons}
    unknown = sorted(wanted - set(have))
    if unknown or not wanted:
        raise UsageProblem(f"--lessons: there is no lesson {', '.join(map(str, unknown[:5]))}; there are {', '.join(map(str, have))}")
    return [lesson for lesson in course.lessons if lesson.number in wanted]
