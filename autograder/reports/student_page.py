"""One submission's report: what was right, what was not and which mistake it is, beside the lines it is about. One HTML file.

The page says what the result says: under a secret seed a result holds the named mistake and its hint, and no value of a hidden
case. All that comes from a student, their name too, is shown as text; the page holds no script and may load nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from autograder.course import Course, Lesson
from autograder.policy import Policy
from autograder.reports import code_view, pages
from autograder.reports.class_data import ANSWERS, Student, harmless, lessons_by_id, status_of
from autograder.reports.terminal import of_whole_file

MARK = '<meta name="generator" content="climb student report">'
LONGEST_ANSWER = 20_000
NOT_SHOWN = ("Not started.", "Not answered.")
NOT_OPEN = "How each exercise went is not shown now, by the rules of this course."


@dataclass
class Setting:
    """What all pages of a class share."""

    course: Course | None = None
    lessons_url: str = ""  # where lessons/ is to be read, if not beside this course
    class_page: bool = False
    policy: Policy = Policy()
    everything: bool = False  # the instructor's page: whatever the policy's visibility says
    today: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    lessons: dict[str, Lesson] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lessons = self.lessons or lessons_by_id(self.course)

    def handed_out(self, file: str) -> frozenset[str] | None:
        """The lines of an exercise file as students got it, without their indentation; None for any other file."""
        lesson = self.lessons.get(file)
        return _skeleton_lines(file, lesson.number) if lesson is not None and file == lesson.file else None

    def outcomes(self, number: int) -> bool:
        """Whether a student may see how each exercise of a lesson went."""
        rules = self.policy.lesson(number)
        over = rules.due is None or self.today > rules.due
        return self.everything or rules.tests == "visible" or (rules.tests == "after_due_date" and over)

    def shows(self, what: str) -> bool:
        """Whether mistakes, hints or values may be seen."""
        return self.everything or getattr(self.policy.visibility, what)

    @property
    def root(self) -> Path | None:
        return self.course.root if self.course else None


def page(student: Student, files: dict[str, str], setting: Setting) -> str:
    """The report of one student, whose files (exercises and answers) are given as text."""
    sections = _sections(student, files, setting)
    return pages.rendered(
        "student_page.html.j2",
        mark=Markup(MARK),
        name=harmless(student.shown),
        class_page=setting.class_page,
        tiles=_tiles(student, setting),
        notes=_notes(student),
        lessons=sections,
        words=[(status, word) for status, word in pages.WORDS if any(status_of(row) == status for row in student.rows)],
        files=_files(student, files, setting),
        own=any(setting.handed_out(name) is not None for name in files),
        made=_made(student.result),
    )


@lru_cache(maxsize=None)
def anchor_of(row_id: str) -> str:
    """Where a row stands on its page: letters, digits and hyphens of its id."""
    return "x-" + re.sub(r"[^A-Za-z0-9]", "-", row_id)


def _tiles(student: Student, setting: Setting) -> list[dict[str, str]]:
    exercises = [row for row in student.rows if not ANSWERS.fullmatch(row["id"])]
    passed = sum(row["status"] == "passed" for row in exercises)
    tiles = [
        {
            "label": "Points",
            "text": pages.points(student.result["score"]),
            "more": f"of {pages.points(student.result['max_score'])}",
        }
    ]
    if student.policy:
        late = f", {pages.plural(student.late_days, 'day')} late" if student.late_days else ""
        tiles.append(
            {"label": "Grade", "text": pages.points(student.final), "more": f"of {pages.points(student.final_max)}{late}"}
        )
    if setting.everything or all(setting.outcomes(row["lesson"]) for row in student.rows):
        tiles.append({"label": "Exercises passed", "text": str(passed), "more": f"of {len(exercises)}"})
    questions = [row for row in student.rows if ANSWERS.fullmatch(row["id"])]
    if any(row["status"] != "not_started" for row in questions):
        answered = sum(row["status"] not in ("not_started", "missing") for row in questions)
        tiles.append({"label": "Questions answered", "text": str(answered), "more": f"of {len(questions)}"})
    return tiles


def _notes(student: Student) -> list[str]:
    """What a person should know before the details: what the reader of submissions and the policy said."""
    notes = []
    for key in ("problems", "notes"):
        for told in student.result.get(key) or ():
            text = (
                told
                if isinstance(told, str)
                else " ".join(str(told.get(part, "")) for part in ("file", "message"))
                if isinstance(told, dict)
                else ""
            )
            if text.strip():
                notes.append(harmless(text[:400]))
    for row in student.policy.get("lessons") or ():
        if row.get("penalty"):
            days = pages.plural(int(row["late_days"]), "day")
            notes.append(
                f"Lesson {row['lesson']} came {days} late: {pages.percent(float(row['penalty']))} of its points are lost."
            )
    return notes


def _made(result: dict[str, Any]) -> str:
    cases = "public cases" if result.get("seed") == "public" else f"hidden cases {result.get('seed', '')}".strip()
    sandbox = f"sandbox {result.get('sandbox', '')} ({', '.join(map(str, result.get('layers') or ()))})"
    audit = result.get("audit")
    at = f", graded {audit.get('graded_at', '')}" if isinstance(audit, dict) else ""
    return harmless(f"climb {result.get('grader', '')}, {sandbox}, {cases}, {pages.duration(result['seconds'])}{at}")


def _sections(student: Student, files: dict[str, str], setting: Setting) -> list[dict[str, Any]]:
    """Lesson by lesson, in the order of the result: a lesson's exercises, its silent bug, its questions."""
    by_part: dict[str, list[dict]] = {}
    for row in student.rows:
        by_part.setdefault(row["id"].partition("::")[0], []).append(row)
    made = []
    for number, (part, rows) in enumerate(by_part.items()):
        lesson = setting.lessons.get(part)
        title = f"Lesson {rows[0].get('lesson', '')}: {lesson.title if lesson else part}"
        if part.startswith("answers/"):
            title += ", questions"
        made.append(_section(student, title, f"lesson-{number}", rows, lesson, files, setting))
    return made


def _section(student, title, anchor, rows, lesson, files, setting) -> dict[str, Any]:
    whole, open_to_see = of_whole_file(rows), setting.outcomes(rows[0]["lesson"])
    shown, quiet = [], []
    for row in rows if open_to_see else ():
        status = row["status"]
        nothing_to_say = status in ("not_started", "missing") or (status == "passed" and not row["message"])
        silent = nothing_to_say and len(rows) > 1 and row["id"] not in student.marks
        if whole or silent:
            quiet.append(row)
        else:
            shown.append(_row(student, row, lesson, files, setting))
    groups = []
    for status, word in pages.WORDS:
        names = [(anchor_of(row["id"]), row["id"].partition("::")[2]) for row in quiet if status_of(row) == status]
        if names:
            groups.append((status, word[0].upper() + word[1:], names))
    score, full = (sum(row[key] for row in rows) for key in ("score", "max_score"))
    counts = [(status, sum(status_of(row) == status for row in rows), word) for status, word in pages.WORDS]
    return {
        "title": title,
        "anchor": anchor,
        "score": pages.points(score),
        "max_score": pages.points(full),
        "parts": [(status, round(100 * count / len(rows), 2)) for status, count, _ in counts if count and open_to_see],
        "told": ", ".join(f"{count} {word}" for _, count, word in counts if count and open_to_see),
        "whole": harmless(rows[0]["message"]) if whole and open_to_see else "" if open_to_see else NOT_OPEN,
        "rows": shown,
        "quiet": groups,
    }


def _row(
    student: Student, row: dict[str, Any], lesson: Lesson | None, files: dict[str, str], setting: Setting
) -> dict[str, Any]:
    status, mark = status_of(row), student.marks.get(row["id"])
    part, _, name = row["id"].partition("::")
    wrong = status in ("failed", "part", "error")
    message = row["message"] if row["message"] not in NOT_SHOWN else ""
    if student.result.get("seed") == "public" and not setting.shows("values"):
        message = without_values(message)
    made: dict[str, Any] = {
        "anchor": anchor_of(row["id"]),
        "name": name,
        "status": status,
        "word": dict(pages.WORDS)[status] if status != "error" else row["status"].replace("timeout", "out of time"),
        "score": pages.points(row["score"]),
        "max_score": pages.points(row["max_score"]),
        "hint": harmless(row["hint"]) if wrong and setting.shows("hints") else "",
        "misconception": harmless(row.get("misconception") or "") if wrong and setting.shows("mistakes") else "",
        "message": harmless(message) if status != "passed" or part.startswith("answers/") else "",
        "prompt": "",
        "written": "",
        "rubric": [],
        "comment": "",
        "code": [],
        "read": row["lesson_anchor"] if wrong or status == "not_started" else "",
        "link": pages.lesson_link(row["lesson_anchor"], setting.root, student.folder / "report.html", setting.lessons_url),
    }
    if ANSWERS.fullmatch(row["id"]):
        _add_answer(made, row, mark, lesson, name, files.get(part))
    elif wrong and part in files:
        made["code"] = code_view.excerpt(files[part], name, code_view.stops(row["message"], part), setting.handed_out(part))
    return made


def without_values(message: str) -> str:
    """A message of the public seed without what it says of inputs, received and expected values: where it stopped, no more."""
    places = [line for line in message.split("\n") if line.startswith("at ")]
    kind = message.split(":")[0] if places else "Not right"
    return "\n".join([f"{kind}.", *places]) if message else ""


def _add_answer(
    made: dict[str, Any], row: dict, mark: dict | None, lesson: Lesson | None, name: str, text: str | None
) -> None:
    """The question, what was written, and what a person gave for it."""
    question = _questions(lesson).get(name) if lesson else None
    if question is None:
        return
    made["prompt"] = " ".join(question.prompt.split())
    if question.kind == "text" and text is not None:
        made["written"] = harmless(str(_answers(text).get(name) or "")[:LONGEST_ANSWER])
    if mark is not None:
        made["message"] = ""
        made["rubric"] = [
            item | {"points": pages.points(item["points"]), "worth": pages.points(item["worth"])} for item in mark["items"]
        ]
        made["comment"] = harmless(mark["comment"])


@lru_cache(maxsize=None)
def _questions(lesson: Lesson) -> dict[str, Any]:
    from autograder.questions.marking import questions_of

    return {question.id: question for question in questions_of(lesson)}


@lru_cache(maxsize=64)
def _answers(text: str) -> dict[str, Any]:
    from autograder.questions.answers import AnswersError, read

    try:
        return read(text, "answers")
    except AnswersError:
        return {}


def _files(student: Student, files: dict[str, str], setting: Setting) -> list[dict[str, Any]]:
    """The exercise files as they came, where anything in them is the student's own."""
    made = []
    for name, source in files.items():
        if not name.endswith(".py"):
            continue
        marked = {
            n for row in student.rows if row["id"].startswith(name + "::") for n in code_view.stops(row["message"], name)
        }
        skeleton = setting.handed_out(name)
        lines, left = code_view.whole(source, marked, skeleton)
        own = sum(line.kind == "own" or line.number in marked for line in lines) if skeleton is not None else None
        if own != 0:
            made.append(
                {
                    "name": name,
                    "anchor": "f-" + anchor_of(name),
                    "lines": lines,
                    "left": left,
                    "count": len(lines) + left,
                    "own": own,
                }
            )
    return made


@lru_cache(maxsize=None)
def _skeleton_lines(file: str, lesson: int) -> frozenset[str] | None:
    from autograder.reference import ROOT
    from autograder.skeletons import skeleton

    solution = ROOT / "solutions" / file
    if not solution.is_file():
        return None
    return frozenset(line.strip() for line in skeleton(solution.read_text(encoding="utf-8"), lesson).splitlines())
