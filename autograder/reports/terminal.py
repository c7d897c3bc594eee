"""A result as a person reads it in a terminal."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from autograder.course import Course, Lesson

MARKS = {
    "passed": ("✓", "+", "green"),
    "failed": ("✗", "x", "red"),
    "error": ("!", "!", "red"),
    "timeout": ("⧖", "!", "red"),
    "crashed": ("!", "!", "red"),
    "refused": ("⊘", "!", "red"),
    "not_started": ("·", "-", "dim"),
    "missing": ("?", "?", "yellow"),
}
WORDS = {"not_started": "not started", "missing": "missing", "timeout": "out of time", "crashed": "crashed", "refused": "refused"}
SPELLED_OUT = 3  # failing exercises explained in full; the others in one line each, since the first is the one to mend
LISTED = ("not_started", "missing")  # several of these share one line


def show(
    result: dict, course: Course, console: Console | None = None, title: str | None = None, explain: int = SPELLED_OUT
) -> None:
    """Lesson by lesson: a mark and points for each exercise, the first failures explained, the sum, what to do next."""
    console = console or Console()
    if title:
        console.print(f"[bold]{escape(title)}[/bold]")
    unexplained: list[dict] = []
    for lesson in course.lessons:
        rows = [row for row in result["exercises"] if row["id"].startswith(lesson.file + "::")]
        if rows:
            explained, left = _show_lesson(console, lesson, rows, explain)
            explain -= explained
            unexplained += left
        if not lesson.silent_bug:
            _show_questions(
                console, [row for row in result["exercises"] if row["id"].startswith(f"answers/{lesson.folder.name}.toml::")]
            )
    _show_sum(console, result, unexplained)


def _show_lesson(console: Console, lesson: Lesson, rows: list[dict], explain: int) -> tuple[int, list[dict]]:
    """Prints one lesson and explains `explain` failures at most; returns how many, and those left with one line."""
    score, full = sum(r["score"] for r in rows), sum(r["max_score"] for r in rows)
    console.print(f"\n[bold]Lesson {lesson.number}: {escape(lesson.title)}[/bold]  [dim]{lesson.file}[/dim]  {score:g}/{full:g}")
    if of_whole_file(rows):
        console.print(_indented(Text(rows[0]["message"], style="red"), 2))
        return 0, []
    if len(rows) > 1 and all(row["status"] == "missing" for row in rows):
        text = f"{lesson.file} has none of this lesson's {len(rows)} exercises. Is it empty, or another lesson's?"
        console.print(_indented(Text(text, style="yellow"), 2))
        return 0, []
    wrong = []
    together = [row for row in rows if row["status"] in LISTED] if len(rows) > 1 else []
    for row in rows:
        if row in together:
            continue
        console.print(exercise_line(row, console.encoding))
        if is_wrong(row):
            wrong.append(row)
        if (is_wrong(row) and len(wrong) <= explain) or (row["status"] == "not_started" and len(rows) == 1):
            console.print(_indented(explanation(row), 4, below=1))
    for status in LISTED:
        alike = [row for row in together if row["status"] == status]
        if alike:
            mark, style = _mark(status, console.encoding)
            console.print(_indented(Text(f"{mark} {WORDS[status]}: {', '.join(map(name_of, alike))}", style=style), 2))
    return min(len(wrong), max(explain, 0)), wrong[max(explain, 0) :]


def _show_questions(console: Console, rows: list[dict]) -> None:
    """The written questions of a lesson in a line, and each that is not right in one of its own."""
    if not rows:
        return
    score, full = sum(r["score"] for r in rows), sum(r["max_score"] for r in rows)
    line = Text(f"  Questions {score:g}/{full:g}  ", style="bold")
    for row in rows:
        mark, style = _mark(row["status"], console.encoding)
        line.append(f"{mark} ", style=style)
    console.print(line)
    if of_whole_file(rows):
        console.print(_indented(Text(rows[0]["message"], style="red"), 4))
        return
    for row in rows:
        if is_wrong(row):
            console.print(_indented(Text(f"{name_of(row)}: {row['message']}", style=""), 4))
    left = [name_of(row) for row in rows if row["status"] == "not_started"]
    if left:
        console.print(_indented(Text(f"not answered: {', '.join(left)}", style="dim"), 4))


def of_whole_file(rows: list[dict]) -> bool:
    """Whether one thing is wrong with the whole file (not there, not readable, not importable) and not with its exercises."""
    alike = len({(row["status"], row["message"]) for row in rows}) == 1
    return alike and len(rows) > 1 and rows[0]["status"] in ("missing", "refused", "error") and bool(rows[0]["message"])


def is_wrong(row: dict) -> bool:
    return row["status"] not in ("passed", "not_started")


def _indented(what: RenderableType, by: int, below: int = 0) -> Padding:
    return Padding(what, (0, 0, below, by))


def _mark(status: str, encoding: str) -> tuple[str, str]:
    fine, plain, style = MARKS.get(status, ("?", "?", "yellow"))
    return (fine if encoding.lower().startswith("utf") else plain), style


def exercise_line(row: dict, encoding: str = "utf-8") -> Text:
    mark, style = _mark(row["status"], encoding)
    word = WORDS.get(row["status"], "")
    line = Text(f"  {mark} ", style=style)
    line.append(f"{name_of(row):<29} ", style="" if row["status"] != "not_started" else "dim")
    line.append(f"{row['score']:g}/{row['max_score']:g}", style=style)
    return line.append(f"  {word}" if word else "")


def explanation(row: dict) -> Group:
    """What the learner reads: the named mistake first, then the case, then where the lesson explains it."""
    parts = []
    if row["misconception"]:
        parts.append(Text(row["hint"], style="bold yellow"))
        parts.append(Text(f"({row['misconception']})", style="dim"))
    if row["message"] != "Not started.":
        parts.append(Text(row["message"]))
    file = row["id"].split("::")[0]
    if row["status"] in ("failed", "timeout", "crashed", "error", "not_started") and not row["message"].startswith(file):
        parts.append(Text(f"Read  {row['lesson_anchor']}", style="cyan"))
        parts.append(Text(f"Or    climb hint {name_of(row)}", style="cyan"))
    return Group(*parts)


def name_of(row: dict) -> str:
    return row["id"].split("::", 1)[1]


def points(value: float) -> str:
    return f"{value:g} point{'' if value == 1 else 's'}"


def _show_sum(console: Console, result: dict, unexplained: list[dict]) -> None:
    rows = [row for row in result["exercises"] if not row["id"].startswith("answers/")]
    done = sum(row["status"] == "passed" for row in rows)
    cases = "public" if result["seed"] == "public" else "hidden"
    level = f"{result['seconds']:.2f} s, sandbox {result['sandbox']}, {cases} cases"
    score = f"{result['score']:g} of {points(result['max_score'])}"
    console.print(f"\n[bold]{score}[/bold], {done} of {len(rows)} exercises  [dim]({level})[/dim]")
    if unexplained:
        names = ", ".join(map(name_of, unexplained[:4])) + (", ..." if len(unexplained) > 4 else "")
        console.print(f"[dim]`climb check {name_of(unexplained[0])}` explains one of the others ({escape(names)}).[/dim]")
    elif done < len(rows) and all(row["status"] in ("passed", "not_started") for row in rows):
        console.print("[dim]`climb next` says where to go on.[/dim]")
