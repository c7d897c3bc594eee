"""The written questions as rows of a result, beside the exercises."""

from __future__ import annotations

from autograder.course import Exercise, Lesson

from .answers import AnswersError, read
from .marking import Mark, Question, mark, questions_of


def lessons_with_questions(exercises: list[Exercise]) -> list[Lesson]:
    """The lessons of these exercises that ask something, in order."""
    lessons = dict.fromkeys(exercise.lesson for exercise in exercises)
    return [lesson for lesson in lessons if questions_of(lesson)]


def rows_of(lesson: Lesson, text: str | None) -> list[dict]:
    """A row for each question of a lesson, in the form of an exercise's. `text`: the answers file, None if there is none."""
    questions = questions_of(lesson)
    try:
        given = read(text, f"answers/{lesson.folder.name}.toml") if text is not None else {}
    except AnswersError as error:
        return [_row(question, Mark("error", 0.0, mark(question, None).max_score, str(error))) for question in questions]
    return [_row(question, mark(question, given.get(question.id))) for question in questions]


def _row(question: Question, marked: Mark) -> dict:
    return {
        "id": question.result_id,
        "lesson": question.lesson.number,
        "score": marked.score,
        "max_score": marked.max_score,
        "status": marked.status,
        "misconception": None,
        "message": marked.message,
        "hint": "",
        "lesson_anchor": question.lesson.anchor(question.section),
    }
