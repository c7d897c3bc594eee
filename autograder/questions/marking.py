"""Questions of a lesson, and what an answer to each is worth."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any

from autograder.course import CourseError, Lesson

from . import formula

KINDS = ("choice", "number", "formula", "text")
MAX_TEXT = 20_000  # characters of one answer


@dataclass(frozen=True)
class Question:
    """One written question. `answer` is None in a student's copy, where only the form of an answer can be checked."""

    id: str
    lesson: Lesson
    section: str
    kind: str
    points: float
    prompt: str
    choices: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    answer: Any = None
    tolerance: float = 0.0
    rubric: tuple[str, ...] = ()
    explanation: str = ""

    @property
    def result_id(self) -> str:
        return f"answers/{self.lesson.folder.name}.toml::{self.id}"


@dataclass(frozen=True)
class Mark:
    status: str  # passed, failed, error, not_started
    score: float
    max_score: float
    message: str = ""


def questions_of(lesson: Lesson) -> list[Question]:
    """The questions of a lesson's questions.toml, in order. Raises CourseError where that file is not as it must be."""
    path = lesson.folder / "questions.toml"
    if lesson.silent_bug or not path.is_file():
        return []
    shown = f"lessons/{lesson.folder.name}/questions.toml"
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("question", [])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CourseError(f"{shown}: not readable as TOML ({error})") from None
    found = [_question(entry, lesson, shown) for entry in entries]
    names = [question.id for question in found]
    if len(set(names)) < len(names):
        raise CourseError(f"{shown}: the id {next(n for n in names if names.count(n) > 1)!r} stands twice")
    return found


def _question(entry: dict, lesson: Lesson, shown: str) -> Question:
    name = entry.get("id", "?")
    try:
        answer = entry.get("answer")
        question = Question(
            id=str(entry["id"]),
            lesson=lesson,
            section=str(entry["section"]),
            kind=entry["kind"],
            points=float(entry["points"]),
            prompt=str(entry["prompt"]).strip(),
            choices=tuple(entry.get("choices", ())),
            variables=tuple(entry.get("variables", ())),
            answer=tuple(sorted(answer)) if isinstance(answer, list) else answer,
            tolerance=float(entry.get("tolerance", 0.0)),
            rubric=tuple(entry.get("rubric", ())),
            explanation=str(entry.get("explanation", "")).strip(),
        )
        if question.kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}")
        if question.kind == "formula" and answer is not None:
            formula.parse(answer, question.variables)
        if question.kind == "choice" and answer is not None and not set(question.answer) <= set(range(len(question.choices))):
            raise ValueError("an answer names no choice")
    except (KeyError, TypeError, ValueError) as error:
        raise CourseError(f"{shown}: question {name!r} is not complete ({error})") from None
    return question


def mark(question: Question, given: Any) -> Mark:
    """What an answer earns. `given` is whatever the answers file holds: None or "" is no answer yet."""
    nothing = given is None or given == [] or (isinstance(given, str) and not given.strip())
    worth = question.points if question.kind != "text" and question.answer is not None else 0.0
    if nothing:
        return Mark("not_started", 0.0, worth, "Not answered.")
    try:
        right = _right(question, given)
    except formula.FormulaError as error:
        return Mark("error", 0.0, worth, f"Not understood: {error}.")
    if question.kind == "text":
        return Mark("passed", 0.0, 0.0, f"Kept for the rubric ({question.points:g} points).")
    if question.answer is None:
        return Mark("passed", 0.0, 0.0, "Answered; it is marked when you hand it in.")
    if right:
        return Mark("passed", worth, worth)
    return Mark("failed", 0.0, worth, f"Not right. You answered {_shown(given)}. Read section {question.section} again.")


def _right(question: Question, given: Any) -> bool:
    if question.kind == "text":
        if not isinstance(given, str) or len(given) > MAX_TEXT:
            raise formula.FormulaError(f"expected a text in quotes, of at most {MAX_TEXT} characters")
        return True
    if question.kind == "choice":
        return chosen(question, given) == question.answer
    if question.kind == "number":
        value = formula.number(given) if isinstance(given, str) else given
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise formula.FormulaError(f"expected one number, received {_shown(given)}")
        return question.answer is not None and abs(float(value) - question.answer) <= question.tolerance
    if not isinstance(given, (str, int, float)) or isinstance(given, bool):
        raise formula.FormulaError(f"expected a formula in quotes, received {_shown(given)}")
    mine = formula.parse(str(given), question.variables)
    if question.answer is None:
        return False
    return formula.equal(mine, formula.parse(question.answer, question.variables), list(question.variables), question.id)


def chosen(question: Question, given: Any) -> tuple[int, ...]:
    """The choices meant, counted from 0; learners count from 1: `2`, `"1, 3"`, `[1, 3]`. Raises FormulaError."""
    parts = given if isinstance(given, list) else str(given).replace(",", " ").split()
    numbers = [int(part) for part in parts if not isinstance(part, bool) and str(part).strip().isdecimal()]
    if len(numbers) != len(parts) or not all(1 <= number <= len(question.choices) for number in numbers):
        raise formula.FormulaError(f"expected numbers from 1 to {len(question.choices)}, received {_shown(given)}")
    return tuple(sorted({number - 1 for number in numbers}))


def _shown(given: Any) -> str:
    return repr(given)[:100]
