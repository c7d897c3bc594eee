"""What a person sees of a batch on a terminal: how far it is, what it came to, what changed."""

from __future__ import annotations

import sys
import time
from pathlib import Path


class Watched:
    """How far a batch has come, how fast it goes and how long it will take: a bar on a terminal, a line a minute elsewhere."""

    def __init__(self, console, total: int, every: float = 60.0):
        self.console, self.total, self.every, self.count = console, total, every, 0
        self.started = self.said = time.monotonic()  # a clock that jumps changes nothing
        self.bar = progress_bar(console)

    def __enter__(self) -> Watched:
        if self.console.is_terminal:
            self.bar.start()
        self.task = self.bar.add_task("grading", total=self.total)
        return self

    def __exit__(self, *_) -> None:
        if self.console.is_terminal:  # elsewhere it would leave an empty line
            self.bar.stop()

    def done(self, name: str) -> None:
        self.count += 1
        self.bar.update(self.task, advance=1, description=name[:30])
        now = time.monotonic()
        if not self.console.is_terminal and now - self.said >= self.every:
            self.said = now
            tell(self.line(now))

    def line(self, now: float) -> str:
        rate = self.count / max(now - self.started, 1e-9)  # a second
        minutes = (self.total - self.count) / rate / 60
        return f"{self.count} of {self.total} graded, {60 * rate:.0f} a minute, {minutes:.0f} min left"


def progress_bar(console):
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    class Pace(ProgressColumn):
        """The rate since the start, which bursts of finished work do not shake, and the time left at that rate."""

        def render(self, task) -> Text:
            if not task.completed or not task.elapsed:
                return Text("")
            left = round((task.total - task.completed) * task.elapsed / task.completed)
            return Text(f"{60 * task.completed / task.elapsed:.0f} a minute, {left // 60}:{left % 60:02} left")

    columns = TextColumn("{task.description:<30}", markup=False), BarColumn(), MofNCompleteColumn(), Pace()
    # Left alone, standard output stays JSON while the bar is drawn on standard error.
    quiet = {"transient": True, "redirect_stdout": False, "redirect_stderr": False}
    return Progress(*columns, console=console, get_time=lambda: time.monotonic(), **quiet)


def show_changes(console, changes: dict, where: Path | None) -> None:
    """Old and new score side by side of what was graded again just now."""
    from rich.markup import escape
    from rich.table import Table

    if not changes:
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("graded again", "was", "is", "of"):
        table.add_column(
            title, justify="left" if title == "graded again" else "right", overflow="fold", no_wrap=title != "graded again"
        )
    for name, (before, now) in sorted(changes.items())[:40]:
        table.add_row(
            escape(name),
            f"{before[0]:g}",
            f"{now[0]:g}",
            f"{now[1]:g}" if before[1] == now[1] else f"{before[1]:g} -> {now[1]:g}",
        )
    console.print(table)
    more = f"... and {len(changes) - 40} more; " if len(changes) > 40 else ""
    console.print(f"{more}all of them: {where}\n", highlight=False, markup=False, soft_wrap=True)


def show_summary(console, results: list[dict], kept: int, scores: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    by_rules = any("policy" in result for result in results)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title, justify in (
        ("submission", "left"),
        ("points", "right"),
        ("of", "right"),
        *[("final", "right")] * by_rules,
        ("passed", "right"),
        ("to look at", "left"),
    ):
        table.add_column(title, justify=justify, overflow="fold", no_wrap=justify == "right")
    for result in results[:40]:
        rows = result["exercises"]
        odd = sorted({row["status"] for row in rows} & {"error", "timeout", "crashed", "refused", "missing"})
        passed = sum(row["status"] == "passed" for row in rows)
        table.add_row(
            escape(result["submission"]),
            f"{result['score']:g}",
            f"{result['max_score']:g}",
            *([f"{result['policy']['score']:g}/{result['policy']['max_score']:g}"] if by_rules else []),
            f"{passed}/{len(rows)}",
            ", ".join(odd),
        )
    console.print(table)
    if len(results) > 40:
        console.print(f"... and {len(results) - 40} more")
    again = f" ({kept} unchanged since an earlier run)" if kept else ""
    where = f"Points by student: {scores}; each in full: {scores.parent}/<student>/result.json"
    console.print(f"\n{count(len(results))} graded{again}. {where}", highlight=False, markup=False, soft_wrap=True)


def tell(line: str) -> None:
    print(f"climb: {line}", file=sys.stderr, flush=True)


def named(names: list[str]) -> str:
    return f"{', '.join(names[:8])}{f' and {len(names) - 8} more (students.csv lists all)' if len(names) > 8 else ''}"


def count(number: int) -> str:
    return f"{number} submission{'' if number == 1 else 's'}"
