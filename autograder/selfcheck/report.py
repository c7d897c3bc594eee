"""What the self-check found: the numbers of the contract, and the list of everything that is to be mended."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autograder.course import Course, Exercise, Lesson

from .units import Equivalent, Finding

if TYPE_CHECKING:
    from rich.console import Console

HINT_LEVELS = 3


@dataclass
class Report:
    """Everything is counted from the findings, so that the numbers and the lists cannot disagree."""

    course: Course
    lessons: list[Lesson]
    findings: list[Finding]
    equivalents: list[Equivalent] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exercises(self) -> list[Exercise]:
        return [exercise for lesson in self.lessons for exercise in lesson.exercises]

    def of(self, *kinds: str, lesson: Lesson | None = None) -> list[Finding]:
        return [f for f in self.findings if f.kind in kinds and (lesson is None or f.lesson == lesson.number)]

    @property
    def hints_missing(self) -> list[Exercise]:
        return [exercise for exercise in self.exercises if len([h for h in exercise.hints if h.strip()]) != HINT_LEVELS]

    @property
    def without_alternative(self) -> list[Exercise]:
        tried = {finding.exercise for finding in self.of("alternative")}
        return [exercise for exercise in self.exercises if exercise.id not in tried]

    @property
    def faults(self) -> dict[str, list[Finding]]:
        """What is to be mended, by kind of fault."""
        return {
            "skeletons_passing": [f for f in self.of("skeleton") if not f.ok],
            "solutions_failing": [f for f in self.of("solution") if not f.ok],
            "survivors": [f for f in self.of("mistake", "mutant") if not f.ok],
            "misnamed": [f for f in self.of("mistake") if f.ok and not f.named],
            "rejected": [f for f in self.of("alternative") if not f.ok],
            "stale": [f for f in self.of("equivalent") if not f.ok],
        }

    @property
    def ok(self) -> bool:
        """Nothing to be mended. (A missing alternative proves nothing wrong: it is told, and does not count.)"""
        return not any(self.faults.values()) and not self.hints_missing

    def counts(self, lesson: Lesson | None = None) -> dict[str, int]:
        """Numbers of one lesson or of all. `named`: killed, and those written by hand under their right name as well."""
        wrong = self.of("mistake", "mutant", lesson=lesson)
        by_hand = self.of("mistake", lesson=lesson)
        return {
            "mutants": len(wrong),
            "killed": sum(f.ok for f in wrong),
            "named": sum(f.ok and f.named for f in wrong),
            "by_hand": len(by_hand),
            "by_hand_named": sum(f.ok and f.named for f in by_hand),
            "alternatives": len(_distinct(self.of("alternative", lesson=lesson))),
        }

    def as_json(self) -> dict[str, Any]:
        """The contract of `climb selfcheck --json`, and under `faults` what lies behind every number that is short."""
        faults = self.faults
        return {
            "schema": 1,
            "exercises": len(self.exercises),
            "skeletons_failing": self._all_well("skeleton"),
            "solutions_passing": self._all_well("solution"),
            "hints_missing": len(self.hints_missing),
            **self.counts(),
            "false_rejects": len(_distinct(faults["rejected"])),
            "equivalent": len(self.equivalents),
            "lessons": {
                str(lesson.number): {
                    "exercises": sum(len(part.exercises) for part in self.parts(lesson)),
                    "points": _whole(sum(part.points for part in self.parts(lesson))),
                    **self.counts(lesson),
                }
                for lesson in self.lessons
            },
            "ok": self.ok,
            "faults": {
                **{name: [_told(f) for f in found] for name, found in faults.items()},
                "hints_missing": [exercise.id for exercise in self.hints_missing],
            },
            "without_alternative": [exercise.id for exercise in self.without_alternative],
            "seconds": round(self.seconds, 2),
            "layers": self.layers,
        }

    def parts(self, lesson: Lesson | None) -> list[Lesson]:
        """A lesson's own file and its silent bug; everything for None."""
        return [part for part in self.lessons if lesson is None or part.number == lesson.number]

    def _all_well(self, kind: str) -> int:
        """Exercises all of whose findings of this kind are as they must be."""
        bad = {finding.exercise for finding in self.of(kind) if not finding.ok}
        return sum(exercise.id not in bad for exercise in self.exercises)


TITLES = {
    "skeletons_passing": "The skeleton earns points",
    "solutions_failing": "The solution does not pass",
    "survivors": "Wrong, and not caught",
    "misnamed": "Caught, but not under its name",
    "rejected": "Right, and refused",
    "stale": "Listed as equivalent, and is not",
}


def show(report: Report, console: Console) -> None:
    """The table of lessons (wrong answers tried and caught; of those by hand, the named; right answers of other ways)."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("lesson", no_wrap=True, overflow="ellipsis")
    for name in ("exercises", "wrong", "caught", "by hand", "named", "other ways"):
        table.add_column(name, justify="right", min_width=len(name))
    for lesson in [*(lesson for lesson in report.lessons if not lesson.silent_bug), None]:
        counts = report.counts(lesson)
        row = [sum(len(part.exercises) for part in report.parts(lesson))]
        row += [counts[name] for name in ("mutants", "killed", "by_hand", "by_hand_named", "alternatives")]
        table.add_row(f"{lesson.number:2} {lesson.title}" if lesson else "all", *map(str, row), style=None if lesson else "bold")
    console.print(table)
    for name, findings in report.faults.items():
        _show_list(console, TITLES[name], [(f.exercise, f"{f.label}  ({f.detail})" if f.detail else f.label) for f in findings])
    _show_list(console, f"Not {HINT_LEVELS} levels of hints", [(exercise.id, "") for exercise in report.hints_missing])
    _show_list(console, "No alternative solution", [(exercise.id, "") for exercise in report.without_alternative], "yellow")
    listed = f"; {len(report.equivalents)} mutants are listed as equivalent, with reasons" if report.equivalents else ""
    verdict = "[green]All as it must be[/green]" if report.ok else "[red]To be mended: see above[/red]"
    console.print(f"{verdict}: {len(report.findings)} trials in {report.seconds:.1f} s{listed}.")


def _show_list(console: Console, title: str, rows: list[tuple[str, str]], style: str = "red") -> None:
    from rich.markup import escape

    if rows:
        console.print(f"\n[{style}]{title}: {len(rows)}[/{style}]")
    for where, what in rows:
        console.print(f"  {escape(where)}  {escape(what)}".rstrip(), highlight=False, soft_wrap=True)
    if rows and title == TITLES["stale"]:
        console.print("  [dim](autograder/selfcheck/equivalent.toml)[/dim]")


def _distinct(findings: list[Finding]) -> set[tuple[str, str]]:
    """Each alternative once an exercise, under however many seeds it was tried."""
    return {(finding.exercise, finding.label) for finding in findings}


def _told(finding: Finding) -> dict[str, str]:
    return {"exercise": finding.exercise, "tried": finding.label, "detail": finding.detail}


def _whole(points: float) -> float | int:
    return int(points) if float(points).is_integer() else round(points, 6)
