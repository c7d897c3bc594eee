"""The answers file, `answers/02-policy-gradient.toml`: what stands in it, reading it, and writing an answer into it."""

from __future__ import annotations

import json
import textwrap
import tomllib
from pathlib import Path
from typing import Any

from autograder.course import Lesson

from .marking import Question, questions_of

WIDTH = 110
HOW = {
    "choice": "the number of the right choice, or several: 2 or [1, 3]",
    "number": "a number, or a sum in quotes: 0.875 or \"7/8\"",
    "formula": "a formula in quotes, in {variables}",
    "text": "a text between three quotation marks",
}


class AnswersError(ValueError):
    """The answers file cannot be read: one line that says where."""


def path_of(root: Path, lesson: Lesson) -> Path:
    return root / "answers" / f"{lesson.folder.name}.toml"


def read(text: str, shown: str) -> dict[str, Any]:
    """{question id: what was answered}. Raises AnswersError for a text that is not TOML."""
    try:
        entries = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise AnswersError(f"{shown} cannot be read ({str(error)[:120]}): each answer stands after `answer =`, texts in quotes") from None
    return {name: entry.get("answer") for name, entry in entries.items() if isinstance(entry, dict)}


def text_of(lesson: Lesson, given: dict[str, Any]) -> str:
    """The answers file: each question as a comment, and under it what was answered so far."""
    parts = [f"# Lesson {lesson.number}: {lesson.title}. Write each answer after `answer =`; `climb check {lesson.number}` marks them.\n"]
    for question in questions_of(lesson):
        lines = [f"# {line}".rstrip() for line in described(question)]
        parts.append("\n".join([f"\n[{question.id}]", *lines, f"answer = {_toml(given.get(question.id, ''))}\n"]))
    return "".join(parts)


def described(question: Question) -> list[str]:
    """A question as lines of text: section and points, the prompt, the choices, how to answer."""
    how = HOW[question.kind].format(variables=", ".join(question.variables))
    lines = [f"Section {question.section}, {question.points:g} point{'s' * (question.points != 1)}."]
    for paragraph in question.prompt.split("\n\n"):
        lines += textwrap.wrap(" ".join(paragraph.split()), WIDTH)
    for number, choice in enumerate(question.choices, start=1):
        lines += textwrap.wrap(f"{number}. {' '.join(choice.split())}", WIDTH, initial_indent="   ", subsequent_indent="      ")
    return [*lines, f"Answer: {how}."]


def _toml(value: Any) -> str:
    if isinstance(value, str) and "\n" in value:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"""\n{escaped}"""'
    return json.dumps(value, ensure_ascii=False)
