"""Marking a class's written answers question by question: what is to be marked, without names, and every mark kept at once."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator, Sequence

from autograder.course import CourseError, Lesson
from autograder.progress import locked
from autograder.questions.marking import Question, questions_of
from autograder.reports.class_data import harmless

from .marks import FOLDER, LONGEST_COMMENT, Item, Mark, Sheet, Written, hash_of, items_of, read_sheet, write_sheet

STEP = 0.25  # points of an item are multiples of it, so that sums are exact
MOST_COMMENTS = 9  # offered again


class MarkingProblem(CourseError):
    """A mark or a file of marks that cannot be taken: one line."""


@dataclass
class Answer:
    """One text, whoever wrote it: several students with the same words are marked at once, and alike."""

    code: str  # by which page and files know it; says nothing about who
    text: str
    students: list[str] = field(default_factory=list)


@dataclass
class Task:
    """One question and what was written for it, in an order that has nothing to do with names."""

    question: Question
    items: list[Item]
    answers: list[Answer]

    def answer(self, code: str) -> Answer:
        """Raises MarkingProblem where there is none of that code (now)."""
        for answer in self.answers:
            if answer.code == code:
                return answer
        raise MarkingProblem(f"{self.question.result_id}: there is no answer {code!r:.40} here (now)")


class Marking:
    """The written answers of a graded class and their marks, which lie in DIR/rubric.

    lessons: whose questions are to be marked. A question nobody answered is left out. Raises MarkingProblem if that leaves none.
    """

    def __init__(self, out: Path, lessons: Sequence[Lesson]):
        self.out = out
        written = Written(out)
        if not written.students:
            raise MarkingProblem(f"{out} holds no results; name the folder that `climb grade --out DIR` has written")
        self.tasks: dict[str, Task] = {}
        for question in [q for lesson in lessons for q in questions_of(lesson) if q.kind == "text"]:
            answers = self._answers(question, written)
            if answers:
                self.tasks[question.result_id] = Task(question, items_of(question), answers)
        if not self.tasks:
            asked = ", ".join(str(lesson.number) for lesson in lessons if any(q.kind == "text" for q in questions_of(lesson)))
            raise MarkingProblem(
                f"{out}: no student has written an answer to mark (lessons with such questions: {asked or 'none'})"
            )

    def _answers(self, question: Question, written: Written) -> list[Answer]:
        by_code: dict[str, Answer] = {}
        for student in written.students:
            text = written.answer(student, question.result_id)
            if text:
                code = hash_of(f"{question.result_id}\n{text}")[:10]
                by_code.setdefault(code, Answer(code, text)).students.append(student)
        return [by_code[code] for code in sorted(by_code)]

    def task(self, row_id: Any) -> Task:
        if row_id not in self.tasks:
            raise MarkingProblem(f"there is no question {row_id!r:.60} to mark here")
        return self.tasks[row_id]

    # What is marked

    def mark_of(self, sheet: Sheet, answer: Answer) -> Mark | None:
        """The mark of an answer: that of any student who wrote it, if it was given for this text."""
        for student in answer.students:
            mark = sheet.marks.get(student)
            if mark is not None and mark.answer == hash_of(answer.text):
                return mark
        return None

    def overview(self) -> list[dict[str, Any]]:
        """Each question with how many of its answers are marked."""
        made = []
        for row_id, task in self.tasks.items():
            sheet = read_sheet(self.out, task.question)
            made.append(
                {
                    "id": row_id,
                    "title": f"Lesson {task.question.lesson.number}: {task.question.id}",
                    "prompt": task.question.prompt,
                    "explanation": task.question.explanation,
                    "items": [{"text": item.text, "worth": item.worth} for item in task.items],
                    "total": len(task.answers),
                    "marked": sum(self.mark_of(sheet, answer) is not None for answer in task.answers),
                }
            )
        return made

    def entries(self, row_id: Any) -> dict[str, Any]:
        """The answers to a question with their marks, and the comments in use, the most frequent first. No names."""
        task = self.task(row_id)
        sheet = read_sheet(self.out, task.question)
        answers = []
        for answer in task.answers:
            mark = self.mark_of(sheet, answer)
            told = {"code": answer.code, "text": harmless(answer.text), "same": len(answer.students)}
            answers.append(told | {"points": mark.points if mark else None, "comment": mark.comment if mark else ""})
        used = Counter(entry["comment"] for entry in answers if entry["comment"])
        return {"id": row_id, "answers": answers, "comments": [comment for comment, _ in used.most_common(MOST_COMMENTS)]}

    # Marking

    def save(self, row_id: Any, code: Any, points: Any, comment: Any = "") -> Mark | None:
        """Keeps a mark at once, for all who wrote these words; points None takes it back. Raises MarkingProblem."""
        return self.save_all(row_id, {code: (points, comment)})[code]

    def save_all(self, row_id: Any, given: dict[Any, tuple[Any, Any]]) -> dict[Any, Mark | None]:
        """Several marks of one question, {code: (points, comment)}: all of them, or none if one is not as it must be."""
        task = self.task(row_id)
        marks = {code: self.checked(task, task.answer(code), points, comment) for code, (points, comment) in given.items()}
        with self.locked():
            sheet = read_sheet(self.out, task.question)  # what another page or a file has added meanwhile stays
            for code, mark in marks.items():
                for student in task.answer(code).students:
                    if mark is None:
                        sheet.marks.pop(student, None)
                    else:
                        sheet.marks[student] = mark
            write_sheet(self.out, sheet)
        return marks

    def checked(self, task: Task, answer: Answer, points: Any, comment: Any) -> Mark | None:
        """A mark as it is kept; None takes one back. Raises MarkingProblem, which says what was expected."""
        if points is None:
            return None
        where = f"{task.question.result_id}, answer {answer.code}"
        if not isinstance(points, list) or len(points) != len(task.items):
            raise MarkingProblem(
                f"{where}: expected {len(task.items)} numbers, one for each item of the rubric, received {points!r:.60}"
            )
        for number, (value, item) in enumerate(zip(points, task.items), start=1):
            fine = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= item.worth
            if not fine or (value != item.worth and value % STEP):
                expected = f"expected 0 to {item.worth:g} in steps of {STEP:g}"
                raise MarkingProblem(f"{where}: item {number}: {expected}, received {value!r:.40}")
        if not isinstance(comment, str) or len(comment) > LONGEST_COMMENT:
            raise MarkingProblem(f"{where}: a comment is a text of at most {LONGEST_COMMENT} characters")
        return Mark([float(value) for value in points], comment.strip(), hash_of(answer.text))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        (self.out / FOLDER).mkdir(exist_ok=True)
        with locked(self.out / FOLDER / ".lock"):
            yield

    def told(self) -> str:
        """How far it has come, in one line."""
        rows = self.overview()
        marked, total = (sum(row[key] for row in rows) for key in ("marked", "total"))
        return (
            f"{marked} of {total} answers to {len(rows)} question{'s' * (len(rows) != 1)} are marked, in {self.out / FOLDER}"
        )
