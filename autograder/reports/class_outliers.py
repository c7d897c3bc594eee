"""Who stands apart from the class, by rules that are stated on the page. A list to look at, and no judgement."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from autograder.reports.class_data import ANSWERS, STUMBLED, Student
from autograder.reports.pages import duration, percent, points

FEWEST = 8  # students: quartiles of fewer say little
RARE = 0.05  # share of the class
WORDS = {"error": "raised or not importable", "timeout": "out of time", "crashed": "crashed", "refused": "refused"}


@dataclass
class Outliers:
    """Those one rule picks, each with what it was."""

    title: str
    rule: str
    people: list[tuple[Student, str]] = field(default_factory=list)


def outliers(students: list[Student]) -> list[Outliers]:
    """All rules that pick somebody."""
    rules = (nothing, stumbling, slow, far_below, only_hard, late)
    return [found for rule in rules if (found := rule(students)).people]


def nothing(students: list[Student]) -> Outliers:
    """Empty hands."""
    return Outliers("Nothing to grade", "No exercise was started or readable.", [(s, "") for s in students if not s.started])


def stumbling(students: list[Student]) -> Outliers:
    """Files that are refused, processes that crash: most are accidents, some are attacks."""
    people = []
    for student in students:
        statuses = [row["status"] for row in student.rows]
        told = [f"{statuses.count(kind)} {WORDS[kind]}" for kind in ("refused", "crashed", "timeout") if kind in statuses]
        errors = statuses.count("error")
        if told or errors > max(3, len(statuses) // 4):
            people.append((student, ", ".join(told + ([f"{errors} {WORDS['error']}"] if errors else []))))
    hurt = sorted(people, key=lambda pair: -sum(row["status"] in STUMBLED for row in pair[0].rows))
    return Outliers(
        "Refused, crashed or out of time", "At least one exercise, or errors in more than a quarter of all.", hurt
    )


def slow(students: list[Student]) -> Outliers:
    """Far beyond the upper quartile: loops that nearly do not end, or a busy machine."""
    graded = [student for student in students if student.started]
    found = Outliers(
        "Slow", "Grading took longer than the upper quartile by three times the quartiles' distance, and over a second."
    )
    if len(graded) < FEWEST:
        return found
    low, high = np.percentile([s.result["seconds"] for s in graded], (25, 75))
    limit = max(high + 3 * (high - low), 1.0)
    people = [(s, duration(s.result["seconds"])) for s in graded if s.result["seconds"] > limit]
    found.people = sorted(people, key=lambda pair: -pair[0].result["seconds"])
    return found


def far_below(students: list[Student]) -> Outliers:
    """Who started and is left behind."""
    graded = [student for student in students if student.started]
    found = Outliers(
        "Far below", "Started, and fewer points than the lower quartile by one and a half times the quartiles' distance."
    )
    if len(graded) < FEWEST:
        return found
    low, high = np.percentile([s.final for s in graded], (25, 75))
    people = [(s, f"{points(round(s.final, 1))} points") for s in graded if s.final < low - 1.5 * (high - low)]
    found.people = sorted(people, key=lambda pair: pair[0].final)
    return found


def only_hard(students: list[Student]) -> Outliers:
    """Passes what few pass and fails what most pass."""
    found = Outliers(
        "Against the grain",
        f"Passed an exercise that at most {percent(RARE)} of those who tried passed, with less than the median of points.",
    )
    if len(students) < 2 * FEWEST:
        return found
    tried: dict[str, int] = {}
    passed: dict[str, int] = {}
    for student in students:
        for row in student.rows:
            if row["status"] not in ("missing", "not_started") and not ANSWERS.fullmatch(row["id"]):
                tried[row["id"]] = tried.get(row["id"], 0) + 1
                passed[row["id"]] = passed.get(row["id"], 0) + (row["status"] == "passed")
    rare = {row_id for row_id, count in tried.items() if count >= 2 * FEWEST and 0 < passed[row_id] <= RARE * count}
    middle = float(np.median([student.final for student in students]))
    for student in students:
        names = [row["id"].partition("::")[2] for row in student.rows if row["id"] in rare and row["status"] == "passed"]
        if names and student.final < middle:
            found.people.append((student, ", ".join(names[:3])))
    return found


def late(students: list[Student]) -> Outliers:
    """Who came after the deadline, by the rules of the course."""
    people = [
        (student, f"{student.late_days} day{'s' * (student.late_days != 1)}") for student in students if student.late_days
    ]
    return Outliers(
        "Late", "After the deadline, extensions and grace included.", sorted(people, key=lambda p: -p[0].late_days)
    )
