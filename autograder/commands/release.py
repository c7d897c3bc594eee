"""`climb release`: the student bundle."""

from __future__ import annotations

import ast
import contextlib
import re
import shutil
import tempfile
from pathlib import Path
from typing import Iterator, Optional

import typer

from autograder import course as courses
from autograder import reference


def register(app: typer.Typer) -> None:
    app.command("release")(release)


def release(
    directory: Path = typer.Argument(..., metavar="DIR", help="Where to write it: an empty or new folder."),
    lessons: Optional[str] = typer.Option(
        None, "--lessons", metavar="L", help="Only these: 1-3 or 1,2,5. Left out: those of the policy, else all."
    ),
    policy: Optional[Path] = typer.Option(
        None, "--policy", metavar="FILE", help="A course.toml: which lessons, and the dates and points for the README."
    ),
) -> None:
    """Write the folder that students get, without solutions.

    Skeletons, lessons, given code, and a grader that knows the answers of the public seed as data alone;
    a workflow for GitHub Classroom.
    """
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    course = courses.load()
    need_solutions("release")
    asked, rules = chosen_lessons(lessons, policy, course)
    chosen = with_what_they_import(asked, course)
    refuse_unless_empty(directory)
    from autograder import release as releases

    with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task("Freezing", total=len(chosen))

        def step(title: str) -> None:
            bar.update(task, description=escape(title), completed=bar.tasks[0].completed + 1)

        with written_whole(directory) as beside:
            releases.release(course, chosen, beside, step, rules)
    exercises = sum(len(lesson.exercises) for lesson in chosen)
    lessons_of_it = f"{len(chosen)} lesson{'' if len(chosen) == 1 else 's'} ({exercises} exercises)"
    print(f"Released {lessons_of_it} to {directory}. Hand that folder out as it is; its README tells students how to begin.")
    if added := sorted({lesson.number for lesson in chosen} - {lesson.number for lesson in asked}):
        one = len(added) == 1
        print(
            f"The files of these lessons import earlier ones: lesson{'' if one else 's'} {', '.join(map(str, added))} "
            f"{'is' if one else 'are'} in the folder too."
        )


def with_what_they_import(lessons: list[courses.Lesson], course: courses.Course) -> list[courses.Lesson]:
    """These lessons and those whose exercise files theirs import, at any remove, in the course's order."""
    from autograder.sandbox.preload import names_imported

    by_module = {lesson.module: lesson for lesson in course.lessons}
    wanted, waiting = {}, list(lessons)
    while waiting:
        lesson = waiting.pop()
        if lesson.module in wanted:
            continue
        wanted[lesson.module] = lesson
        names = names_imported(ast.walk(ast.parse(reference.source(lesson.module))))
        waiting += [by_module[name] for name in names if name in by_module]
    numbers = {lesson.number for lesson in wanted.values()}
    return [lesson for lesson in course.lessons if lesson.number in numbers and lesson.exercises]


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
    for folder in ("autograder", "solutions", "lessons", "toy", "full"):
        if reference.ROOT / folder in (directory.resolve(), *directory.resolve().parents):
            raise UsageProblem(f"{directory} lies in the course's own {folder}/; name a folder outside")


@contextlib.contextmanager
def written_whole(directory: Path) -> Iterator[Path]:
    """A folder to write into that takes its place only when it is complete: nobody hands out half a bundle after a Ctrl-C."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.resolve().parent))
    try:
        beside.chmod(0o755)
        yield beside
        if directory.is_dir():
            directory.rmdir()  # it is empty
        beside.rename(directory)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def chosen_lessons(text: str | None, policy: Path | None, course: courses.Course):
    """The lessons asked for by `--lessons`, else by the policy, else all; and the policy."""
    from autograder.policy import load_policy

    rules = load_policy(policy, course)
    chosen = lessons_named(text, course)
    return (chosen if text is not None else [lesson for lesson in chosen if rules.graded(lesson.number)]), rules


def lessons_named(text: str | None, course: courses.Course) -> list[courses.Lesson]:
    """The lessons of `1-3`, `1,2,5` or a mixture. Raises UsageProblem for anything else."""
    from autograder.cli import UsageProblem

    if text is None:
        return [lesson for lesson in course.lessons if lesson.exercises]
    have = sorted({lesson.number for lesson in course.lessons})
    wanted: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if (
            not re.fullmatch(r"\d{1,4}", first)
            or (dash and not re.fullmatch(r"\d{1,4}", last))
            or (dash and int(last) < int(first))
        ):
            raise UsageProblem(f"--lessons: expected numbers such as 1-3 or 1,2,5, received {text[:40]!r}")
        wanted |= set(range(int(first), int(last or first) + 1))
    unknown = sorted(wanted - set(have))
    if unknown:
        numbers = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        raise UsageProblem(f"--lessons: there is no lesson {numbers}; there are {', '.join(map(str, have))}")
    return [lesson for lesson in course.lessons if lesson.number in wanted]
