"""A graded class as it lies on disk: `DIR/<student>/result.json` and what each handed in. What is damaged is named."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from autograder.course import TRACKS, Course, CourseError, Lesson
from autograder.grading.examine import plain

RESULT = "result.json"
LARGEST_RESULT = 16 << 20  # bytes; a result of the whole course has some 200,000
LARGEST_FILE = 1 << 20  # of a submission, as when it was read
MOST_FILES = 400  # looked at in one student's folder
DEEPEST = 4
STATUSES = ("passed", "part", "failed", "error", "not_started", "missing")  # as the pages tell them apart
STUMBLED = ("error", "timeout", "crashed", "refused")
ANSWERS = re.compile(r"answers/(?P<folder>[^/:]+)\.toml::(?P<question>.+)")


class ClassProblem(CourseError):
    """DIR is no graded class: one line that says what was expected."""


@dataclass
class Student:
    """One student's result, with what people gave for written answers in it, and where their files lie."""

    name: str
    result: dict[str, Any]
    folder: Path
    page: str = "report.html"  # the page that an instructor opens
    marks: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the rubric, by row id: items and comment

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.result["exercises"]

    @property
    def shown(self) -> str:
        """What a person calls them: the roster's name where there is one, and that of the submission."""
        listed = self.result.get("student")
        name = " ".join(str(listed.get("name") or "").split()) if isinstance(listed, dict) else ""
        return f"{name} ({self.name})" if name and name != self.name else self.name

    @property
    def policy(self) -> dict[str, Any]:
        """What the course's rules made of the score: late days, points lost, each lesson's share. Empty without rules."""
        return self.result["policy"] if isinstance(self.result.get("policy"), dict) else {}

    @property
    def final(self) -> float:
        """The grade: after lateness and weights where a policy says so."""
        return float(self.policy.get("score", self.result["score"]))

    @property
    def final_max(self) -> float:
        return float(self.policy.get("max_score", self.result["max_score"]))

    @property
    def submitted(self) -> datetime | None:
        """When it was handed in, where the rules were told."""
        try:
            return datetime.fromisoformat(str(self.policy.get("submitted")))
        except ValueError:
            return None

    @property
    def late_days(self) -> int:
        return int(self.policy.get("late_days") or 0)

    @property
    def started(self) -> bool:
        """Whether anything at all was handed in that could be graded."""
        return any(row["status"] not in ("missing", "not_started") for row in self.rows)

    @property
    def place(self) -> str:
        """Their page, as a link from the class's page."""
        from urllib.parse import quote

        return f"{quote(self.folder.name)}/{self.page}"


@dataclass
class Graded:
    """All results of one folder."""

    out: Path
    students: list[Student]
    notes: list[str] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The ids of all exercises and questions that some result has, in the order of the results."""
        return list(dict.fromkeys(row["id"] for student in self.students for row in student.rows))


def read_class(out: Path) -> Graded:
    """The results below `out`, by the students' names. Raises ClassProblem if there are none."""
    if not out.is_dir():
        raise ClassProblem(f"{out} is not a folder; name the one that `climb grade --out` wrote")
    found, notes = [], []
    for folder in sorted(out.iterdir(), key=lambda place: place.name.casefold()):
        if folder.name.startswith(".") or folder.is_symlink() or not (folder / RESULT).is_file():
            continue
        try:
            found.append(Student(*_result(folder / RESULT), folder))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            why = str(error).split("\n")[0][:120] or type(error).__name__
            notes.append(f"{folder.name}/{RESULT} is not a result ({why}): grade it again")
    if not found:
        told = f" ({notes[0]})" if notes else ""
        raise ClassProblem(
            f"{out} holds no results{told}: expected folders with {RESULT}, as `climb grade --out DIR` writes them"
        )
    return Graded(out, found, notes)


def _result(path: Path) -> tuple[str, dict[str, Any]]:
    """(name, result) of a file, with everything the pages read of the kind it must be. Raises ValueError and its like."""
    if path.stat().st_size > LARGEST_RESULT:
        raise ValueError(f"more than {LARGEST_RESULT >> 20} MB")
    result = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(result, dict) or not isinstance(result.get("exercises"), list):
        raise ValueError("expected an object with `exercises`")
    for key in ("score", "max_score", "seconds"):
        result[key] = float(result[key])
    for row in result["exercises"]:
        for key in ("id", "status", "message", "hint", "lesson_anchor"):
            if not isinstance(row[key], str):
                raise ValueError(f"`{key}` of an exercise is not a text")
        row["score"], row["max_score"] = float(row["score"]), float(row["max_score"])
    policy = result.get("policy")
    if isinstance(policy, dict):
        result["policy"] = policy | {key: float(policy[key]) for key in ("score", "max_score") if key in policy}
    return str(result["submission"]), result


def status_of(row: dict[str, Any]) -> str:
    """What a row counts as: passed, part (some points), failed, error (it stumbled), not_started, missing."""
    status = row["status"]
    if status in ("passed", "not_started", "missing"):
        return status
    if row["score"] > 0:
        return "part"
    return "error" if status in STUMBLED else "failed"


def lessons_by_id(course: Course | None) -> dict[str, Lesson]:
    """The lesson of every exercise file and answers file: by what stands before the `::` of an id."""
    found: dict[str, Lesson] = {}
    for lesson in course.lessons if course else ():
        found[lesson.file] = lesson
        if not lesson.silent_bug:
            found[f"answers/{lesson.folder.name}.toml"] = lesson
    return found


def handed_in(folder: Path) -> dict[str, str]:
    """{"toy/word_agent.py": text} of what lies in a student's folder, answers as "answers/NN-name.toml" too.

    Files are known by the end of their path, wherever below the folder the grader keeps them; links are not followed.
    """
    found: dict[str, str] = {}
    seen = 0
    for place, folders, names in os.walk(folder):
        inside = Path(place).relative_to(folder)
        kind = inside.name if inside.name in (*TRACKS, "answers", "files") else ""
        folders[:] = [] if len(inside.parts) >= DEEPEST else sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            seen += 1
            if seen > MOST_FILES:
                return found
            if kind and name.endswith(".toml" if kind == "answers" else ".py"):
                text = _text(Path(place) / name)
                if text is not None:
                    found.setdefault(name if kind == "files" else f"{kind}/{name}", text)
    return found


def _text(path: Path) -> str | None:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > LARGEST_FILE:
        return None
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None


def harmless(text: str) -> str:
    """Text as text: no control characters, none that turn the writing direction."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text) if text.isascii() else plain(text)


_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
