"""`climb watch`: a verdict each time a file is saved."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import typer

from autograder import course as courses

MOST_VERDICTS = 10_000  # kept of texts seen in this session: tens of megabytes at most
SETTLE_MS = 20  # an editor may write a file in two steps; both within this count as one save


def register(app: typer.Typer) -> None:
    app.command("watch")(watch)


def watch(
    as_json: bool = typer.Option(False, "--json", help="One JSON result a line instead of the screen."),
) -> None:
    """Wait for you to save an exercise file, then check it at once. Ctrl-C ends it.

    Only what the save can have changed is run again; `climb check` runs everything.
    """
    import watchfiles
    from rich.console import Console

    from autograder.cli import UsageProblem
    from autograder.dependencies import states_of
    from autograder.grading.grade import Grader
    from autograder.interrupts import not_lost
    from autograder.progress import Progress
    from autograder.reports import terminal
    from autograder.sandbox import open_sandbox

    course, console = courses.load(), Console()
    exercises = course.exercises
    if not exercises:
        raise UsageProblem(f"{course.root} has no exercises to watch")
    with open_sandbox([lesson.module for lesson in course.lessons if lesson.exercises]) as sandbox:
        grader = Grader(course, sandbox, jobs=os.cpu_count() or 1, verdicts={}, by_parts=True)
        if not as_json:
            console.print("[dim]Getting ready...[/dim]")
        with not_lost():
            grader.prepare(exercises)
        level, progress = sandbox.level, Progress(course.root)
        folders = [folder for folder in (course.root / "toy", course.root / "full", course.root / "answers") if folder.is_dir()]
        if as_json:
            print(json.dumps({"watching": [lesson.file for lesson in course.lessons], "sandbox": level}), flush=True)
        else:
            console.print(f"Watching {', '.join(folder.name + '/' for folder in folders)}. Save a file to check it; Ctrl-C ends.")
        for changes in watchfiles.watch(*folders, step=SETTLE_MS, debounce=SETTLE_MS * 5, recursive=False, raise_interrupt=True):
            for lesson in touched(course, {Path(path) for _, path in changes}):
                states = states_of([lesson], course)
                if len(grader.verdicts) > MOST_VERDICTS:
                    grader.verdicts.clear()
                result = check_lesson(grader, course, lesson)
                warned = progress.unsaved
                progress.record(result["exercises"], states)
                if as_json:
                    print(json.dumps(result), flush=True)
                    continue
                console.rule(f"{time.strftime('%H:%M:%S')}  {lesson.file}", style="dim")
                terminal.show(result, course, console, explain=1)
                if progress.unsaved and not warned:
                    console.print(progress.unsaved, style="yellow")


def touched(course: courses.Course, paths: set[Path]) -> list[courses.Lesson]:
    """The lessons whose verdict can change with these files: their own, those that import one of them, their written answers."""
    from autograder.dependencies import files_of
    from autograder.questions.answers import path_of

    lessons = [lesson for lesson in course.lessons if lesson.exercises]
    return [
        lesson
        for lesson in lessons
        if paths & {*files_of(lesson, course), *([] if lesson.silent_bug else [path_of(course.root, lesson)])}
    ]


def check_lesson(grader, course: courses.Course, lesson: courses.Lesson) -> dict:
    from autograder.commands.check import own_files, questions_for

    own = own_files(course)
    return grader.grade(own, lesson.exercises, questions=questions_for(own, lesson.exercises))
