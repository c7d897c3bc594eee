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

    from autograder.commands.check import tell_unsaved
    from autograder.reports.terminal import points

    course = courses.load()
    state = up_to_date(course)
    chosen, why = choose(course, state)
    console = Console()
    if chosen is None:
        console.print(escape(why))
        return
    lesson, word = chosen.lesson, shortest(chosen, course)
    about = f"lesson {lesson.number}: {escape(lesson.title)}, {points(chosen.points)}"
    if why.startswith(lesson.file):  # nothing in it can be checked
        console.print(
            f"[bold]{lesson.file}[/bold] has to be mended first  [dim]lesson {lesson.number}: {escape(lesson.title)}[/dim]"
        )
        steps = {"Why:": why, "Check:": f"climb check {lesson.file}"}
    else:
        console.print(f"[bold]{escape(chosen.name)}[/bold] in {lesson.file}  [dim]{about}[/dim]")
        begun = lesson.silent_bug or any(state.passed(exercise) for exercise in lesson.exercises)
        text = f"lessons/{lesson.folder.name}/lesson.md"
        read = chosen.anchor if begun else f"{text}, from the top; the exercise is in section {chosen.section}"
        steps = {"Why:": why, "Read:": read, "Check:": f"climb check {word}", "Stuck?": f"climb hint {word}"}
    for label, step in steps.items():
        console.print(f"{label:<7} {escape(step)}", style="cyan" if label != "Why:" else "", highlight=False)
    tell_unsaved(state)


def shortest(exercise: Exercise, course: Course) -> str:
    """The shortest word that means this exercise and no other."""
    try:
        if course.select([exercise.name]) == [exercise]:
            return exercise.name
    except courses.CourseError:
        pass
    return exercise.id


def choose(course: Course, state: Progress) -> tuple[Exercise | None, str]:
    """The exercise to do next and the reason: something begun and wrong first, then the next one whose needs are met."""
    left = [exercise for exercise in course.exercises if not state.passed(exercise)]
    if not left:
        return None, f"Every exercise passes ({len(course.exercises)} of {len(course.exercises)}). Well done."
    for exercise in left:
        begun = (
            state.status(exercise) not in ("not_started", "missing", "unknown") and not exercise.lesson.silent_bug
        )  # which fails as given
        if begun and not _unmet(exercise, state):
            return exercise, _what_is_wrong(exercise, state)
    for exercise in left:
        if not _unmet(exercise, state):
            gone = state.status(exercise) == "missing"
            return exercise, _what_is_wrong(exercise, state) if gone else _reason(exercise, course, state)
    return left[0], "it comes next."


def _what_is_wrong(exercise: Exercise, state: Progress) -> str:
    """What the last check said, in a line."""
    message = state.entry(exercise).get("message", "")
    if message.startswith(exercise.lesson.file):  # the file as a whole
        return message
    said = {
        "failed": "its answer is wrong",
        "error": "it stops with an error",
        "timeout": "it did not answer in time",
        "crashed": "it crashed",
    }
    return f"you have begun it, and {said.get(state.status(exercise), 'its last check did not pass')}. {message}".strip()


def _unmet(exercise: Exercise, state: Progress) -> list[str]:
    passed = {e.name for e in exercise.lesson.exercises if state.passed(e)}
    return [name for name in exercise.needs if name not in passed]


def _reason(exercise: Exercise, course: Course, state: Progress) -> str:
    lesson = exercise.lesson
    waiting = [f"`{e.name}`" for e in lesson.exercises if exercise.name in e.needs and not state.passed(e)][:3]
    use = f"{_listed(waiting)} will use it" if waiting else ""
    done = sum(state.passed(e) for e in lesson.exercises)
    if done == 0:
        first = f"lesson {lesson.number} is the next one ({lesson.minutes} minutes): {lesson.summary}"
        return f"{first} {use}." if use else first
    built_on = [f"`{name}`" for name in exercise.needs]
    ground = f"it builds on {_listed(built_on)}, which you have" if built_on else "it needs nothing you do not have"
    return f"{ground}{'; ' + use if use else ''} ({done} of {len(lesson.exercises)} done in this lesson)."


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def hint(
    exercise: str = typer.Argument(..., metavar="EXERCISE", help="Its name (Baseline.update), with its file where two have the same (toy/word_agent.py::Baseline.update)."),
    level: Optional[int] = typer.Option(None, "--level", min=1, max=3, metavar="1|2|3", help="1 a nudge, 2 the idea, 3 nearly the line of code. Left out: one further than last time."),
) -> None:  # fmt: skip
    """Help with one exercise: each call goes one level further."""
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding

    from autograder.cli import UsageProblem
    from autograder.commands.check import tell_unsaved

    course = courses.load()
    found = course.select([exercise])
    if len(found) != 1:
        names = ", ".join(e.name for e in found[:6])
        raise UsageProblem(f"`{exercise}` is {len(found)} exercises; name one: {names}{', ...' if len(found) > 6 else ''}")
    if not found[0].hints:
        raise UsageProblem(f"`{found[0].name}` has no hints; read {found[0].anchor}")
    state = Progress(course.root)
    taken = state.entry(found[0]).get("hints", 0)
    level = min(level or taken + 1, len(found[0].hints))
    state.take_hint(found[0], level)
    console = Console()
    console.print(f"[bold]{escape(found[0].name)}[/bold]  [dim]hint {level} of {len(found[0].hints)}[/dim]")
    console.print(Padding(escape(found[0].hints[level - 1].strip()), (0, 0, 0, 2)))
    if level < len(found[0].hints):
        console.print("[dim]The same command again says more.[/dim]")
    else:
        console.print(f"[dim]That was the last one. The derivation is in {found[0].anchor}.[/dim]")
    tell_unsaved(state)


def progress(as_json: bool = typer.Option(False, "--json", help="Print it as JSON and nothing else.")) -> None:
    """How far you are, lesson by lesson."""
    from autograder.commands.check import tell_unsaved

    course = courses.load()
    state = up_to_date(course)
    rows = [lesson_row(lesson, state) for lesson in course.lessons]
    if as_json:
        print(json.dumps({"schema": 1, "lessons": rows}, indent=1))
    else:
        show_progress(rows)
    tell_unsaved(state)


def show_progress(rows: list[dict]) -> None:
    from rich.console import Console
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from autograder.reports.terminal import points

    console = Console()
    narrow = console.width < 66  # the bars go first: the numbers say the same
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("lesson")
    if not narrow:
        table.add_column("", no_wrap=True)
    for title in ("done", "points", "hints"):
        table.add_column(title, justify="right", style="dim" if title == "hints" else "", no_wrap=True)
    for row in rows:
        bar = [] if narrow else [ProgressBar(total=max(row["exercises"], 1), completed=row["passed"], width=20)]
        counts = f"{row['passed']}/{row['exercises']}", f"{row['score']:g}/{row['max_score']:g}", str(row["hints"])
        table.add_row(str(row["lesson"]), Text(row["title"]), *bar, *counts)
    console.print(table)
    score, full = sum(r["score"] for r in rows), sum(r["max_score"] for r in rows)
    console.print(
        f"\n[bold]{score:g} of {points(full)}[/bold]. `climb next` says where to go on, `climb check 1` what stands in lesson 1."
    )


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
    from autograder.dependencies import states_of

    state, states = Progress(course.root), states_of(course.lessons, course)
    stale = [e for e in course.exercises if not state.fresh(e, states[e.lesson.file])]
    lessons = {e.lesson for e in stale}
    fresh_skeletons = {lesson for lesson in lessons if _untouched(course, lesson)}
    never_there = {
        lesson
        for lesson in lessons
        if states[lesson.file] is None and not any("status" in state.entry(e) for e in lesson.exercises)
    }
    idle = [e for e in stale if e.lesson in fresh_skeletons and "status" in state.entry(e)]
    begun = [e for e in stale if e.lesson not in fresh_skeletons | never_there]
    if idle:
        state.record([_not_started(exercise) for exercise in idle], states)
    if begun:
        state.record(run_checks(course, [(own_files(course), begun)])[0]["exercises"], states)
    return state


def _untouched(course: Course, lesson: Lesson) -> bool:
    """Whether every exercise of the file still raises its NotImplementedError, as a fresh skeleton does."""
    try:
        text = (course.root / lesson.file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    open_tasks = set(re.findall(r'raise NotImplementedError\("lesson \d+: ([^"]+)"\)', text))
    return {exercise.name for exercise in lesson.exercises} <= open_tasks


def _not_started(exercise: Exercise) -> dict:
    row = {"id": exercise.id, "status": "not_started", "score": 0.0, "max_score": exercise.points, "misconception": None}
    return row | {"message": "Not started."}
