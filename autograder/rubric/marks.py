"""What a person gives for a written answer: rubric items with points, kept beside the results of a class, and put into them.

    DIR/rubric/02-policy-gradient.why-baseline.json     one file a question: every mark given so far, comments in use

A mark belongs to the text it was given for: if another text is graded later, the mark no longer counts and the answer is to be
marked again. `result.json` stays what the grader wrote; `with_marks` makes of it what reports and gradebooks show.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from autograder.course import CourseError
from autograder.progress import write_whole
from autograder.questions.marking import Question

FOLDER = "rubric"
ANSWERS = "answers"
LONGEST_COMMENT = 2000
LONGEST_ANSWER = 20_000  # characters, as when it was graded
NOTHING = "Not answered."
_WORTH = re.compile(r"\s*(\d+(?:\.\d+)?)\s+points?\s*:\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Item:
    """One line of a rubric: what it asks for and the points it is worth."""

    text: str
    worth: float


@dataclass
class Mark:
    """One answer's mark: points for each item of the rubric, and a comment."""

    points: list[float]
    comment: str = ""
    answer: str = ""  # the hash of the text it was given for

    @property
    def total(self) -> float:
        return sum(self.points)


@dataclass
class Sheet:
    """One question's marks, by student (the name of their folder)."""

    question: Question
    items: list[Item]
    marks: dict[str, Mark] = field(default_factory=dict)

    @property
    def worth(self) -> float:
        return sum(item.worth for item in self.items)

    @property
    def stem(self) -> str:
        return f"{self.question.lesson.folder.name}.{self.question.id}"


def items_of(question: Question) -> list[Item]:
    """The rubric's lines with their points ("1 point: ..."). Points that no line names are one more item, or all there is."""
    items = []
    for line in question.rubric:
        found = _WORTH.match(line)
        items.append(Item(line[found.end() :] if found else line, float(found[1]) if found else 0.0))
    left = question.points - sum(item.worth for item in items)
    nameless = [n for n, item in enumerate(items) if not item.worth]
    if nameless and left > 0:
        items = [Item(item.text, item.worth or left / len(nameless)) for item in items]
    elif left > 1e-9:
        items.append(Item("the answer as a whole", left))
    return items


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def sheet_file(out: Path, question: Question) -> Path:
    return out / FOLDER / f"{question.lesson.folder.name}.{re.sub(r'[^A-Za-z0-9_-]', '-', question.id)}.json"


def read_sheet(out: Path, question: Question) -> Sheet:
    """The marks of a question so far. Raises CourseError, in one line, for a file that is not what `write_sheet` wrote."""
    sheet, path = Sheet(question, items_of(question)), sheet_file(out, question)
    if not path.is_file():
        return sheet
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        for student, entry in told["marks"].items():
            mark = Mark([float(p) for p in entry["points"]], str(entry["comment"]), str(entry["answer"]))
            if len(mark.points) == len(sheet.items):  # else the rubric has changed since: to be marked again
                sheet.marks[student] = mark
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(path, error) from None
    return sheet


def write_sheet(out: Path, sheet: Sheet) -> Path:
    """Keeps a question's marks, whole or not at all."""
    path = sheet_file(out, sheet.question)
    path.parent.mkdir(exist_ok=True)
    told = {
        "schema": 1,
        "question": sheet.question.result_id,
        "items": [asdict(item) for item in sheet.items],
        "marks": {student: asdict(mark) for student, mark in sorted(sheet.marks.items())},
    }
    write_whole(path, json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return path


def marks_by_student(out: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """{student's folder: {row id: {"points", "max_points", "items", "comment"}}} of marks that still belong to what was written.

    Once a question is being marked, who wrote nothing has no points of its full ones; who is not marked yet has no entry.
    Read from the files alone, so that who only wants grades needs no course. Raises CourseError for a damaged file.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    sheets = sorted((out / FOLDER).glob("*.json")) if (out / FOLDER).is_dir() else []
    written = Written(out) if sheets else None
    for path in sheets:
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            row, items = str(told["question"]), [Item(str(i["text"]), float(i["worth"])) for i in told["items"]]
            for student in written.students if told["marks"] else ():
                text, entry = written.answer(student, row), told["marks"].get(student)
                if not text:
                    entry = {"points": [0.0] * len(items), "comment": NOTHING, "answer": hash_of("")}
                if entry is None or str(entry["answer"]) != hash_of(text) or len(entry["points"]) != len(items):
                    continue
                points = [float(p) for p in entry["points"]]
                mark = {
                    "points": sum(points),
                    "max_points": sum(item.worth for item in items),
                    "comment": str(entry["comment"]),
                }
                mark["items"] = [{"text": i.text, "worth": i.worth, "points": p} for i, p in zip(items, points)]
                found.setdefault(student, {})[row] = mark
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise damaged(path, error) from None
    return found


def damaged(path: Path, error: Exception) -> CourseError:
    return CourseError(f"{path} is damaged ({type(error).__name__}): mend it, or move it away to mark anew")


class Written:
    """What the students of a graded class wrote, from the copies of their answers beside the results. Each file is read once."""

    def __init__(self, out: Path):
        self.out = out
        self.students = sorted(path.parent.name for path in out.glob("*/result.json") if not path.parent.name.startswith("."))
        self._read: dict[Path, dict[str, Any]] = {}

    def answer(self, student: str, row_id: str) -> str:
        """What a student wrote for a question, without the space around it; "" if nothing."""
        from autograder.questions.answers import AnswersError, read

        file, _, name = row_id.partition("::")
        path = self.out / student / ANSWERS / Path(file).name
        if path not in self._read:
            try:
                self._read[path] = read(path.read_bytes().decode("utf-8-sig", "replace"), path.name)
            except (OSError, AnswersError):
                self._read[path] = {}
        given = self._read[path].get(name)
        return given.strip()[:LONGEST_ANSWER] if isinstance(given, str) else ""


def with_marks(result: dict[str, Any], marks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A result with the points of the rubric in its rows, its score and, where rules were applied to it, its `policy`.

    marks: {row id: {"points", "max_points", ...}}, as `marks_by_student` has them for this student. `result` stays as it is.
    """
    if not marks:
        return result
    rows = []
    for row in result["exercises"]:
        mark = marks.get(row["id"])
        if mark is not None:
            points, worth = mark["points"], mark["max_points"]
            status = "passed" if points >= worth - 1e-9 else "failed"
            row = row | {
                "score": round(points, 6),
                "max_score": round(worth, 6),
                "status": status,
                "message": mark.get("comment", ""),
            }
        rows.append(row)
    made = result | {"exercises": rows}
    made["score"], made["max_score"] = (round(sum(row[key] for row in rows), 6) for key in ("score", "max_score"))
    if isinstance(result.get("policy"), dict) and isinstance(result["policy"].get("lessons"), list):
        made["policy"] = _policy_again(result["policy"], rows)
    return made


def _policy_again(policy: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The rules applied once more to other points: lateness stays what it was, and full marks what they are worth."""
    lessons = []
    for entry in policy["lessons"]:
        of_lesson = [row for row in rows if row["lesson"] == entry["lesson"]]
        earned, of = (sum(row[key] for row in of_lesson) for key in ("score", "max_score"))
        fixed = entry.get("points") is not None  # so many points, however many things are asked
        worth = entry["max_score"] if fixed else of * (entry["max_score"] / entry["of"] if entry["of"] else 1.0)
        score = earned / of * worth * (1 - entry["penalty"]) if of else 0.0
        lessons.append(
            entry | {"earned": round(earned, 6), "of": round(of, 6), "score": round(score, 6), "max_score": round(worth, 6)}
        )
    before = sum(entry["earned"] / entry["of"] * entry["max_score"] for entry in lessons if entry["of"])
    score, most = (round(sum(entry[key] for entry in lessons), 6) for key in ("score", "max_score"))
    return policy | {"lessons": lessons, "score": score, "max_score": most, "penalty": round(before - score, 6)}
