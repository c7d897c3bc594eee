"""The grades of a graded class: read from its results, written as one table."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable

from autograder.rubric.marks import marks_by_student, with_marks

from .cells import points, write_table

RESULT = "result.json"
STUDENT_IDS = ("id", "email", "login")  # of what a roster says of a student
ODD = ("error", "timeout", "crashed", "refused", "missing")  # statuses that an instructor may want to look at


@dataclass(frozen=True)
class Grade:
    """One student's grade. `final` is what goes into a gradebook: the score after weights and lateness where a policy says so."""

    submission: str
    score: float
    max_score: float
    final: float
    final_max: float
    student: dict = field(default_factory=dict)  # what the roster says: id, name, section, ...
    lessons: dict[int, tuple[float, float]] = field(default_factory=dict)  # lesson -> (points, of)
    policy: dict = field(default_factory=dict)
    statuses: tuple[str, ...] = ()

    @property
    def keys(self) -> set[str]:
        """The ids by which a learning system may know this student: the roster's, and those in the submission's name."""
        told = {str(self.student[key]) for key in STUDENT_IDS if self.student.get(key)}
        return {folded(text) for text in (*told, self.submission, *re.findall(r"(?<!\d)\d{3,}(?!\d)", self.submission)) if text}

    @property
    def name(self) -> str:
        return str(self.student.get("name") or "")


def folded(text: object) -> str:
    return " ".join(str(text).split()).casefold()


def grade_of(result: dict) -> Grade:
    """The grade in a result. Raises KeyError, TypeError or ValueError where it is no result."""
    lessons: dict[int, tuple[float, float]] = {}
    for row in result["exercises"]:
        earned, of = lessons.get(int(row["lesson"]), (0.0, 0.0))
        lessons[int(row["lesson"])] = (earned + float(row["score"]), of + float(row["max_score"]))
    policy = result.get("policy") or {}
    student = result.get("student") or {}
    if not isinstance(policy, dict) or not isinstance(student, dict):
        raise TypeError("policy and student are tables")
    return Grade(
        submission=str(result["submission"]),
        score=float(result["score"]),
        max_score=float(result["max_score"]),
        final=float(policy.get("score", result["score"])),
        final_max=float(policy.get("max_score", result["max_score"])),
        student=student,
        lessons=lessons,
        policy=policy,
        statuses=tuple(str(row["status"]) for row in result["exercises"]),
    )


def read_grades(folder: Path) -> list[Grade]:
    """The grades in what `climb grade --out DIR` has written and `climb rubric DIR` has added, by name.

    Raises ValueError, in one line, for a damaged result or file of marks.
    """
    found, marks = [], marks_by_student(folder)
    for path in sorted(folder.glob(f"*/{RESULT}"), key=lambda path: path.parent.name.casefold()):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            found.append(grade_of(with_marks(result, marks.get(path.parent.name, {}))))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{path} is no result of `climb grade` ({type(error).__name__}): grade that student again"
            ) from None
    return found


def write_grades(grades: Iterable[Grade], path: Path) -> Path:
    """`grades.csv`: a row a student; final grade, what led to it, points by lesson, and which statuses to look at."""
    grades = list(grades)
    lessons = sorted({number for grade in grades for number in grade.lessons})
    from_policy = sorted(
        {key for grade in grades for key, value in grade.policy.items() if _plain(value)} - {"score", "max_score"}
    )
    head = ["submission", "id", "name", "section", "final", "out_of", "percent", "score", "max_score", *from_policy]
    head += [f"lesson {number}" for number in lessons] + ["passed", "exercises", "to look at"]
    return write_table(path, head, [_row(grade, lessons, from_policy) for grade in grades])


def _row(grade: Grade, lessons: list[int], from_policy: list[str]) -> list:
    percent = points(100 * grade.final / grade.final_max) if grade.final_max else 0
    row = [grade.submission, *(grade.student.get(key) or "" for key in ("id", "name", "section"))]
    row += [points(grade.final), points(grade.final_max), percent, points(grade.score), points(grade.max_score)]
    row += [_shown(grade.policy.get(key, "")) for key in from_policy]
    row += [points(grade.lessons[number][0]) if number in grade.lessons else "" for number in lessons]
    return [*row, grade.statuses.count("passed"), len(grade.statuses), ", ".join(sorted(set(grade.statuses) & set(ODD)))]


def _plain(value: object) -> bool:
    return isinstance(value, (str, int, float, bool))


def _shown(value: object) -> object:
    return (
        ("yes" if value else "no") if isinstance(value, bool) else points(value) if isinstance(value, (int, float)) else value
    )
