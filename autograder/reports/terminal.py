"""A result as a person reads it in a terminal."""

from __future__ import annotations

from rich.console import Console, Group
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from autograder.course import Course, Lesson

MARKS = {
    "passed": ("✓", "green"),
    "failed": ("✗", "red"),
    "error": ("!", "red"),
    "timeout": ("⧖", "red"),
    "crashed": ("!", "red"),
    "refused": ("⊘", "red"),
    "not_started": ("·", "dim"),
    "missing": ("?", "yellow"),
}
WORDS = {"not_started": "not started", "missing": "missing", "timeout": "out of time", "crashed": "crashed", "refused": "refused"}
SPELLED_OUT = 3  # failing exercises explained in full; the others in one line each, since the first is the one to mend


def show(result: dict, course: Course, console: Console | None = None, title: str | None = None, explain: int = SPELLED_OUT) -> None:
    """Lesson by lesson: a mark and points for each exercise, the first failures explained, the sum, what to do next."""
    console = console or Console()
    if title:
        console.print(f"[bold]{escape(title)}[/bold]")
    left = explain
    for lesson in course.lessons:
        rows = [row for row in result["exercises"] if row["id"].startswith(lesson.file + "::")]
        if rows:
            left = _show_lesson(console, lesson, rows, left)
    _show_sum(console, result)


def _show_lesson(console: Console, lesson: Lesson, rows: list[dict], left: int) -> int:
    score, full = sum(r["score"] for r in rows), sum(r["max_score"] for r in rows)
    console.print(f"\n[bold]Lesson {lesson.number}: {escape(lesson.title)}[/bold]  [dim]{lesson.file}[/dim]  {score:g}/{full:g}")
    if len({(r["status"], r["message"]) for r in rows}) == 1 and rows[0]["status"] in ("missing", "refused", "error") and len(rows) > 1:
        console.print(Padding(Text(f"{rows[0]['message']}", style="red"), (0, 0, 0, 2)))
        return left
    waiting = [r for r in rows if r["status"] == "not_started"]
    for row in rows:
        if row["status"] == "not_started" and len(rows) > 1 and row["message"] == "Not started.":
            continue
        console.print(exercise_line(row))
        if row["status"] not in ("passed", "not_started"):
            if left > 0:
                console.print(Padding(explanation(row), (0, 0, 1, 4)))
            left -= 1
    waiting = [r for r in waiting if r["message"] == "Not started."] if len(rows) > 1 else []
    if waiting:
        names = ", ".join(name_of(r) for r in waiting)
        console.print(Padding(Text(f"· not started: {names}", style="dim"), (0, 0, 0, 2)))
    return left


def exercise_line(row: dict) -> Text:
    mark, style = MARKS.get(row["status"], ("?", "yellow"))
    word = WORDS.get(row["status"], "")
    line = Text(f"  {mark} ", style=style)
    line.append(f"{name_of(row):<28}", style="" if row["status"] != "not_started" else "dim")
    line.append(f"{row['score']:g}/{row['max_score']:g}", style=style)
    return line.append(f"  {word}" if word else "")


def explanation(row: dict) -> Group:
    """What the learner reads: the named mistake first, then the case, then where the lesson explains it."""
    parts = []
    if row["misconception"]:
        parts.append(Text(row["hint"], style="bold yellow"))
        parts.append(Text(f"({row['misconception']})", style="dim"))
    parts.append(Text(row["message"]))
    parts.append(Text(f"Read {row['lesson_anchor']}; or `climb hint {name_of(row)}`.", style="cyan"))
    return Group(*parts)


def name_of(row: dict) -> str:
    return row["id"].split("::", 1)[1]


def _show_sum(console: Console, result: dict) -> None:
    rows = result["exercises"]
    done = sum(row["status"] == "passed" for row in rows)
    level = f"{result['seconds']:.2f} s, sandbox {result['sandbox']}, seed {result['seed']}"
    console.print(f"\n[bold]{result['score']:g} of {result['max_score']:g} points[/bold], {done} of {len(rows)} exercises  [dim]({level})[/dim]")
    if done < len(rows) and all(row["status"] in ("passed", "not_started") for row in rows):
        console.print("[dim]`climb next` says where to go on.[/dim]")
