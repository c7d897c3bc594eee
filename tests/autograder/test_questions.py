"""Written questions: every one of the course can be answered rightly and wrongly, and the answers file keeps what is written."""

import pytest

from autograder import course as courses
from autograder.questions import answers
from autograder.questions.marking import Question, chosen, mark, questions_of

COURSE = courses.load(courses.Path(__file__).parent)
LESSONS = [lesson for lesson in COURSE.lessons if not lesson.silent_bug]
QUESTIONS = [question for lesson in LESSONS for question in questions_of(lesson)]


def right(question: Question):
    if question.kind == "choice":
        return [number + 1 for number in question.answer]
    return "Because." if question.kind == "text" else question.answer


def wrong(question: Question):
    if question.kind == "choice":
        return next([n + 1] for n in range(len(question.choices)) if (n,) != question.answer)
    return {"number": question.answer + 2 * question.tolerance + 1e-6 if question.kind == "number" else 0, "formula": "0.123456"}[question.kind]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.result_id)
def test_every_question_can_be_answered(question):
    marked = mark(question, right(question))
    assert marked.status == "passed"
    assert marked.score == marked.max_score == (0 if question.kind == "text" else question.points)
    assert question.explanation
    assert question.section in question.lesson.sections
    if question.kind == "text":
        assert question.rubric
    else:
        assert mark(question, wrong(question)).status == "failed"
        assert mark(question, wrong(question)).score == 0


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.result_id)
def test_an_odd_answer_is_a_sentence_and_not_a_crash(question):
    for odd in (None, "", [], "  ", True, {"a": 1}, [[1]], [True], -98765, 10**30, float("nan"), "?!", "x" * 30_000, [99]):
        marked = mark(question, odd)
        assert marked.status in ("not_started", "failed", "error") or question.kind == "text"
        assert marked.message


def test_choices_are_counted_from_one():
    question = next(q for q in QUESTIONS if q.kind == "choice")
    assert chosen(question, 2) == chosen(question, "2") == chosen(question, [2]) == (1,)
    assert chosen(question, "1, 3") == chosen(question, [3, 1, 1]) == (0, 2)


@pytest.mark.parametrize("lesson", [lesson for lesson in LESSONS if questions_of(lesson)], ids=lambda lesson: lesson.slug)
def test_the_answers_file_keeps_what_is_written(lesson):
    given = {question.id: right(question) for question in questions_of(lesson)}
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    first = questions_of(lesson)[0].id
    given |= {first: 'two lines\nwith "quotes", a \\ and """three"""\n'}
    text = answers.text_of(lesson, given)
    assert answers.read(text, "answers.toml") == given
    assert answers.text_of(lesson, answers.read(text, "answers.toml")) == text


def test_a_broken_answers_file_is_one_line():
    with pytest.raises(answers.AnswersError) as error:
        answers.read("[a]\nanswer = unquoted text\n", "answers/02.toml")
    assert "answers/02.toml" in str(error.value) and "\n" not in str(error.value)
