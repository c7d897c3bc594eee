"""`climb next`, `climb hint`, `climb progress`: where you are, what to do now, and help in three levels."""

from __future__ import annotations

import json
import re
from typing import Optional

import typer

from autograder import course as courses
from autograder.course import Course, Exercise, Lesson
from autograder.progress import Progress


def register(app: typer.Typer) -> None:
    for command in (next_exercise, hint, progress):
        name = "next" if command is next_exercise else command.__name__
        app.command(name)(command)


def next_exercise() -> None:
    """Say which exercise to do next, and why."""
    from rich.console import Console
    from rich.markup import escape

    course = courses.load()
    state = up_to_date(course)
    chosen, why = choose(course, state)
    console = Console()
    if chosen is None:
        console.print(why)
        return
    lesson = chosen.lesson
    console.print(f"[bold]{escape(chosen.name)}[/bold] in {lesson.file}  [dim]lesson {lesson.number}: {escape(lesson.title)}, {chosen.points:g} points[/dim]")
    console.print(f"Why: {escape(why)}")
    console.print(f"Read {chosen.anchor}, write it, then `climb check {chosen.id}`.", style="cyan")
    console.print(f"Stuck? `climb hint {chosen.id}`", style="dim")


def choose(course: Course, state: Progress) -> tuple[Exercise | None, str]:
    """The exercise to do next and the reason: something begun and wrong first, then the next one whose needs are met."""
    left = [exercise for exercise in course.exercises if not state.passed(exercise)]
    if not left:
        return None, f"Every exercise passes ({len(course.exercises)} of {len(course.exercises)}). Well done."
    for exercise in left:
        begun = state.status(exercise) not in ("not_started", "missing", "unknown") and not exercise.lesson.silent_bug  # which fails as given
        if begun and not _unmet(exercise, state):
            return exercise, f"you have begun it, and its last check said: {state.status(exercise)}."
    for exercise in left:
        if not _unmet(exercise, state):
            return exercise, _reason(exercise, course, state)
    return left[0], "it comes next."


def _unmet(exercise: Exercise, state: Progress) -> list[str]:
    passed = {e.name for e in exercise.lesson.exercises if state.passed(e)}
    return [name for name in exercise.needs if name not in passed]


def _reason(exercise: Exercise, course: Course, state: Progress) -> str:
    lesson = exercise.lesson
    waiting = [e.name for e in lesson.exercises if exercise.name in e.needs and not state.passed(e)]
    done = sum(state.passed(e) for e in lesson.exercises)
    if done == 0:
        first = f"lesson {lesson.number} is the next one ({lesson.minutes} minutes): {lesson.summary}"
        return first if not waiting else f"{first} {' and '.join(waiting[:3])} will use it."
    built_on = f"it builds on {' and '.join(exercise.needs)}, which you have" if exercise.needs else "it needs nothing you do not have"
    return f"{built_on}{'; ' + ' and '.join(waiting[:3]) + ' will use it' if waiting else ''} ({done} of {len(lesson.exercises)} done in this lesson)."


def hint(
    exercise: str = typer.Argument(..., help="The exercise: Baseline.update, or toy/word_agent.py::Baseline.update."),
    level: Optional[int] = typer.Option(None, "--level", min=1, max=3, help="1 a nudge, 2 the idea, 3 nearly the line of code. Left out: one further than last time."),
) -> None:  # fmt: skip
    """Help with one exercise, in three levels: each call goes one level further."""
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding

    from autograder.cli import UsageProblem

    course = courses.load()
    found = course.select([exercise])
    if len(found) != 1:
        raise UsageProblem(f"`{exercise}` is {len(found)} exercises; name one: {', '.join(e.name for e in found[:6])}{', ...' if len(found) > 6 else ''}")
    if not found[0].hints:
        raise UsageProblem(f"`{found[0].name}` has no hints")
    state = Progress(course.root)
    taken = state.entry(found[0]).get("hints", 0)
    level = min(level or taken + 1, len(found[0].hints))
    console = Console()
    console.print(f"[bold]{escape(found[0].name)}[/bold]  [dim]hint {level} of {len(found[0].hints)}[/dim]")
    console.print(Padding(escape(found[0].hints[level - 1].strip()), (0, 0, 0, 2)))
    state.take_hint(found[0], level)
    if level < len(found[0].hints):
        console.print("[dim]Call it again for more.[/dim]")
    else:
        console.print(f"[dim]That was the last one. The derivation is in {found[0].anchor}.[/dim]")


def progress(as_json: bool = typer.Option(False, "--json", help="Print it as JSON and nothing else.")) -> None:
    """How far you are, lesson by lesson."""
    course = courses.load()
    state = up_to_date(course)
    rows = [lesson_row(lesson, state) for lesson in course.lessons]
    if as_json:
        print(json.dumps({"schema": 1, "lessons": rows}, indent=1))
        return
    show_progress(rows)


def show_progress(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title, justify in (("", "right"), ("lesson", "left"), ("", "left"), ("exercises", "right"), ("points", "right"), ("hints", "right")):
        table.add_column(title, justify=justify, style="dim" if title == "hints" else "")
    for row in rows:
        bar = ProgressBar(total=max(row["exercises"], 1), completed=row["passed"], width=20)
        counts = f"{row['passed']}/{row['exercises']}"
        table.add_row(str(row["lesson"]), row["title"], bar, counts, f"{row['score']:g}/{row['max_score']:g}", str(row["hints"]))
    console = Console()
    console.print(table)
    score, full = sum(r["score"] for r in rows), sum(r["max_score"] for r in rows)
    console.print(f"\n[bold]{score:g} of {full:g} points[/bold]. `climb next` says where to go on.")


def lesson_row(lesson: Lesson, state: Progress) -> dict:
    entries = [state.entry(exercise) for exercise in lesson.exercises]
    return {
        "lesson": lesson.number,
        "title": lesson.title,
        "exercises": len(entries),
        "passed": sum(entry.get("status") == "passed" for entry in entries),
        "score": sum(entry.get("score", 0.0) for entry in entries),
        "max_score": lesson.points,
        "hints": sum(entry.get("hints", 0) for entry in entries),
    }


def up_to_date(course: Course) -> Progress:
    """The recorded progress, after re-checking the lessons whose files changed since (skeletons nobody touched cost nothing)."""
    from autograder.commands.check import own_files, run_checks

    state = Progress(course.root)
    stale = [e for e in course.exercises if not state.fresh(e, course.root) and (course.root / e.lesson.file).is_file()]
    begun = [e for e in stale if not _untouched(course, e.lesson)]
    if begun:
        state.record(run_checks(course, begun, [own_files(course, begun)], None)[0], course)
    return state


def _untouched(course: Course, lesson: Lesson) -> bool:
    """Whether every exercise of the file still raises its NotImplementedError, as a fresh skeleton does."""
    text = (course.root / lesson.file).read_text(encoding="utf-8", errors="replace")
    open_tasks = set(re.findall(r'raise NotImplementedError\("lesson \d+: ([^"]+)"\)', text))
    return {exercise.name for exercise in lesson.exercises} <= open_tasks
