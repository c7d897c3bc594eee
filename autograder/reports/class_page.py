"""The class's report: where the class stands, what goes wrong and how often, whom to look at; every student one click away.

One HTML file that needs nothing beside it but the students' pages. Its one script sorts, finds and names what is under the
pointer; the page's policy lets no other run, and everything is there without it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from autograder.course import Course
from autograder.reports import pages
from autograder.reports.class_charts import histogram
from autograder.reports.class_data import ANSWERS, STATUSES, Graded, Student, harmless, lessons_by_id, status_of
from autograder.reports.class_outliers import outliers
from autograder.reports.student_page import anchor_of

MARK = '<meta name="generator" content="climb class report">'
MOST_MISTAKES = 60
AT_ONCE = 12  # of them, and of the hardest exercises, that need no click
MOST_PEOPLE = 40  # named under one mistake
MOST_OUTLIERS = 24  # named under one rule
DAY = timedelta(days=1)
SCRIPT = Path(__file__).with_name("class_page.js")


def page(graded: Graded, title: str, course: Course | None = None, notes: list[str] | None = None) -> str:
    """The report of a class."""
    table = Table(graded, course)
    script = _script()
    return pages.rendered(
        "class_page.html.j2",
        mark=Markup(MARK),
        title=harmless(title),
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        tiles=_tiles(graded),
        notes=[harmless(note) for note in [*graded.notes, *(notes or ())]][:20],
        pictures=_pictures(graded),
        outliers=[_found(one) for one in outliers(graded.students)],
        **_mistakes(table),
        hardest=table.hardest(),
        exercises=[table.exercise(column) for column in range(len(table.columns))] if len(table.columns) > AT_ONCE else [],
        lessons=table.lessons(),
        words=[(status, word) for status, word in pages.WORDS if any(status in row for row in table.cells)],
        bands=table.bands(),
        rows=[table.row(number) for number in range(len(graded.students))],
        columns_json=Markup(
            _json({"names": table.names, "places": [anchor_of(i) for i in table.columns], "words": dict(pages.WORDS)})
        ),
        made=_made(graded),
    )


def _json(value: Any) -> str:
    """JSON that may stand in a page: no character of it can end or begin an element."""
    text = json.dumps(value)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@lru_cache(maxsize=1)
def _script() -> str:
    return SCRIPT.read_text(encoding="utf-8")


class Table:
    """Students x exercises: what each row of each result counts as, and how many points it has earned."""

    def __init__(self, graded: Graded, course: Course | None):
        self.students, self.columns = graded.students, graded.columns
        self.titles = lessons_by_id(course)
        self.names = [harmless(i.partition("::")[2] or i) for i in self.columns]
        place = {row_id: number for number, row_id in enumerate(self.columns)}
        self.cells: list[list[str]] = []
        self.earned = np.zeros((len(self.students), len(self.columns)))
        self.worth = np.zeros(len(self.columns))
        self.wrong: list[Counter] = [Counter() for _ in self.columns]  # named mistakes, by exercise
        self.hints: dict[tuple[str, str], str] = {}
        self.people: dict[tuple[str, str], list[int]] = {}
        for number, student in enumerate(self.students):
            cells = ["missing"] * len(self.columns)
            for row in student.rows:
                column = place[row["id"]]
                cells[column] = status_of(row)
                self.earned[number, column], self.worth[column] = row["score"], max(self.worth[column], row["max_score"])
                if row.get("misconception"):
                    name = (row["id"], str(row["misconception"]))
                    self.wrong[column][name[1]] += 1
                    self.hints.setdefault(name, row["hint"])
                    self.people.setdefault(name, []).append(number)
            self.cells.append(cells)
        self.counts = [Counter(row[column] for row in self.cells) for column in range(len(self.columns))]

    def tried(self, column: int) -> int:
        return sum(self.counts[column][status] for status in ("passed", "part", "failed", "error"))

    def share(self, column: int) -> float | None:
        """Points earned by those who tried, as a share; None where nobody did, or where there are no points (yet)."""
        tried = self.tried(column)
        return self.earned[:, column].sum() / (tried * self.worth[column]) if tried and self.worth[column] else None

    def exercise(self, column: int) -> dict[str, Any]:
        share, commonest = self.share(column), self.wrong[column].most_common(1)
        return {
            "name": self.names[column],
            "file": harmless(self.columns[column].partition("::")[0]),
            "share": "–" if share is None else pages.percent(share),
            "tried": f"{self.tried(column):,}",
            "mistake": harmless(f"{commonest[0][0]} ({commonest[0][1]})") if commonest else "",
            **self._bar(self.counts[column]),
        }

    def hardest(self) -> list[dict[str, Any]]:
        known = [column for column in range(len(self.columns)) if (share := self.share(column)) is not None and share < 1]
        return [self.exercise(column) for column in sorted(known, key=lambda c: (self.share(c), -self.tried(c), c))[:AT_ONCE]]

    def groups(self) -> dict[str, list[int]]:
        """{file: its columns}, in order."""
        found: dict[str, list[int]] = {}
        for number, row_id in enumerate(self.columns):
            found.setdefault(row_id.partition("::")[0], []).append(number)
        return found

    def title_of(self, file: str, column: int) -> str:
        lesson = self.titles.get(file)
        told = f"{lesson.number}. {lesson.title}" if lesson else file
        return harmless(told + (", questions" if file.startswith("answers/") else ""))

    def lessons(self) -> list[dict[str, Any]]:
        made = []
        for file, columns in self.groups().items():
            points = self.earned[:, columns].sum(axis=1)
            full = float(self.worth[columns].sum())
            started = sum(
                any(self.cells[n][c] not in ("missing", "not_started") for c in columns) for n in range(len(self.students))
            )
            made.append(
                {
                    "title": self.title_of(file, columns[0]),
                    "mean": pages.points(round(float(points.mean()), 1)),
                    "full": pages.points(full),
                    "started": f"{started:,}",
                    "complete": f"{int((points >= full - 1e-9).sum()) if full else 0:,}",
                    **self._bar(sum((self.counts[column] for column in columns), Counter())),
                }
            )
        return made

    def bands(self) -> list[dict[str, Any]]:
        made = []
        for file, columns in self.groups().items():
            lesson = self.titles.get(file)
            bug = lesson is not None and lesson.silent_bug  # one column wide: no room for a word
            label = "" if bug else "?" if file.startswith("answers/") else f"{lesson.number}" if lesson else file
            made.append({"width": len(columns), "label": label, "title": self.title_of(file, columns[0])})
        return made

    def row(self, number: int) -> dict[str, Any]:
        student = self.students[number]
        return {
            "name": harmless(student.shown),
            "link": student.place,
            "score": pages.points(round(student.final, 1)),
            "time": f"{student.result['seconds']:.1f} s",
            "sort_score": f"{student.final:.4f}",
            "sort_time": f"{student.result['seconds']:.3f}",
            "svg": self.strip(number),
        }

    def strip(self, number: int) -> Markup:
        """A row of the map: a path for each status, runs of equal cells drawn at once."""
        runs: dict[str, list[str]] = {}
        cells = self.cells[number]
        start = 0
        for column in range(1, len(cells) + 1):
            if column == len(cells) or cells[column] != cells[start]:
                runs.setdefault(cells[start], []).append(f"M{start} 0h{column - start}v1H{start}")
                start = column
        paths = "".join(f'<path class="{status}" d="{"".join(runs[status])}"/>' for status in STATUSES if status in runs)
        return Markup(
            f'<svg viewBox="0 0 {len(cells)} 1" preserveAspectRatio="none" shape-rendering="crispEdges">{paths}</svg>'
        )

    def _bar(self, counts: Counter) -> dict[str, Any]:
        all_of = sum(counts.values()) or 1
        words = dict(pages.WORDS)
        return {
            "parts": [(status, round(100 * counts[status] / all_of, 2)) for status in STATUSES if counts[status]],
            "told": ", ".join(f"{counts[status]:,} {words[status]}" for status in STATUSES if counts[status]),
        }


def _tiles(graded: Graded) -> list[dict[str, str]]:
    students = graded.students
    scores = np.array([student.final for student in students])
    full = max(student.final_max for student in students)
    low, middle, high = (pages.points(round(float(v), 1)) for v in np.percentile(scores, (25, 50, 75)))
    exercises = sum(not ANSWERS.fullmatch(row) for row in graded.columns)
    return [
        {
            "label": "Students",
            "text": f"{len(students):,}",
            "more": f"{sum(not s.started for s in students):,} handed in nothing to grade",
        },
        {"label": "Median points", "text": middle, "more": f"of {pages.points(full)}; the middle half has {low} to {high}"},
        {"label": "Exercises", "text": str(exercises), "more": pages.plural(len(graded.columns) - exercises, "question")},
        {
            "label": "Time",
            "text": pages.duration(sum(s.result["seconds"] for s in students)),
            "more": "of grading, all students",
        },
    ]


def _pictures(graded: Graded) -> list[dict[str, Any]]:
    scores = [student.final for student in graded.students]
    seconds = [student.result["seconds"] for student in graded.students if student.started]
    full = max(student.final_max for student in graded.students)
    made = [
        {
            "title": "Points",
            "svg": histogram(scores, "points", 0.0, max(full, *scores)),
            "told": f"All {len(scores):,} students.",
        }
    ]
    if seconds:
        told = (
            f"Of the {len(seconds):,} who handed something in; half took at most {pages.duration(float(np.median(seconds)))}."
        )
        made.append(
            {"title": "Seconds that grading took", "svg": histogram(seconds, "seconds", 0.0, max(seconds)), "told": told}
        )
    times = [when for student in graded.students if (when := student.submitted) is not None and when.tzinfo is not None]
    if times:
        first, late = min(times), sum(student.late_days > 0 for student in graded.students)
        days = [(when - first) / DAY for when in times]
        svg = histogram(days, "(day)", 0.0, max(1.0, *days), lambda day: f"{first + day * DAY:%d %b}")
        told = f"{len(times):,} whose time is known; {late:,} late by the rules."
        made.append({"title": "Handed in", "svg": svg, "told": told})
    return made


def _mistakes(table: Table) -> dict[str, Any]:
    """The named mistakes of all exercises, the most frequent first."""
    order = sorted(table.people, key=lambda name: (-len(table.people[name]), name))
    place = {row_id: number for number, row_id in enumerate(table.columns)}
    made = []
    for name in order[:MOST_MISTAKES]:
        people, column = table.people[name], place[name[0]]
        made.append(
            {
                "id": harmless(name[1]),
                "exercise": harmless(name[0]),
                "hint": harmless(table.hints[name]),
                "count": f"{len(people):,}",
                "share": pages.percent(len(people) / max(1, table.tried(column))),
                "people": [_person(table.students[number], anchor_of(name[0])) for number in people[:MOST_PEOPLE]],
                "more": max(0, len(people) - MOST_PEOPLE),
            }
        )
    return {"mistakes": made[:AT_ONCE], "rarer": made[AT_ONCE:], "mistakes_left": max(0, len(order) - MOST_MISTAKES)}


def _person(student: Student, anchor: str = "") -> dict[str, str]:
    return {"name": harmless(student.shown), "link": student.place + (f"#{anchor}" if anchor else "")}


def _found(one) -> dict[str, Any]:
    people = [_person(student) | {"why": f"({harmless(why)})" if why else ""} for student, why in one.people]
    return {
        "title": one.title,
        "rule": one.rule,
        "people": people[:MOST_OUTLIERS],
        "more": max(0, len(people) - MOST_OUTLIERS),
    }


def _made(graded: Graded) -> str:
    """Which grader, sandbox and seed: all there are, since a class may have been graded in several runs."""
    kinds = Counter(
        (str(s.result.get("grader")), str(s.result.get("sandbox")), str(s.result.get("seed"))) for s in graded.students
    )
    told = [
        f"climb {version}, sandbox {level}, seed {seed}: {count:,}" for (version, level, seed), count in kinds.most_common(5)
    ]
    return harmless("; ".join(told))
