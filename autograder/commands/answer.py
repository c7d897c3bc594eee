"""`climb answer`: the written questions of a lesson, one after the other, into the answers file."""

from __future__ import annotations

import sys
from typing import Any

import typer

from autograder import course as courses
from autograder.course import Course, CourseError, Lesson


def register(app: typer.Typer) -> None:
    app.command("answer")(answer)


def answer(
    lesson: str = typer.Argument(..., metavar="LESSON", help="The lesson whose questions to answer: 2, policy_gradient."),
    again: bool = typer.Option(False, "--again", help="Ask also what you have answered already."),
) -> None:
    """Answer a lesson's written questions.

    Here, one after the other, or in your editor: they are kept in answers/*.toml, and `climb check` marks them.
    """
    from autograder.cli import UsageProblem
    from autograder.questions import answers
    from autograder.questions.marking import questions_of

    course = courses.load()
    chosen = lesson_called(lesson, course)
    if not questions_of(chosen):
        raise UsageProblem(f"lesson {chosen.number} ({chosen.title}) has no written questions")
    path = answers.path_of(course.root, chosen)
    given = read_answers(course, chosen)
    path.parent.mkdir(exist_ok=True)
    if not path.is_file():
        save(path, chosen, given)
    if not sys.stdin.isatty():
        print(f"{path}: write your answers there, then `climb check {chosen.number}`.")
        return
    ask(chosen, given, path, again)


def lesson_called(word: str, course: Course) -> Lesson:
    lessons = {exercise.lesson.number: exercise.lesson for exercise in course.select([word])}
    if len(lessons) != 1:
        raise CourseError(f"`{word}` is {len(lessons)} lessons; name one, such as {course.lessons[0].number}")
    number = next(iter(lessons))
    return next(lesson for lesson in course.lessons if lesson.number == number and not lesson.silent_bug)


def read_answers(course: Course, lesson: Lesson) -> dict[str, Any]:
    """What the learner has answered so far. Raises UsageProblem if the file cannot be read: it is never written over."""
    from autograder.cli import UsageProblem
    from autograder.questions import answers

    path = answers.path_of(course.root, lesson)
    try:
        return answers.read(path.read_text(encoding="utf-8-sig"), f"answers/{path.name}") if path.is_file() else {}
    except (answers.AnswersError, UnicodeDecodeError) as error:
        raise UsageProblem(str(error) if isinstance(error, answers.AnswersError) else f"answers/{path.name} is not UTF-8") from None


def save(path, lesson: Lesson, given: dict[str, Any]) -> None:
    from autograder.progress import write_whole
    from autograder.questions import answers

    write_whole(path, answers.text_of(lesson, given))


def ask(lesson: Lesson, given: dict[str, Any], path, again: bool) -> None:
    """Asks on the terminal; each answer is saved as it comes, so Ctrl-C loses nothing."""
    from rich.console import Console
    from rich.markup import escape

    from autograder.questions import answers
    from autograder.questions.marking import mark, questions_of

    console = Console()
    questions = questions_of(lesson)
    for number, question in enumerate(questions, start=1):
        if mark(question, given.get(question.id)).status != "not_started" and not again:
            continue
        console.rule(f"{number} of {len(questions)}", style="dim")
        for line in answers.described(question):
            console.print(escape(line), highlight=False)
        typed = console.input("[cyan]> [/cyan]").strip()
        if not typed:
            console.print("[dim]Left open.[/dim]")
            continue
        marked = mark(question, typed)
        given[question.id] = typed
        save(path, lesson, given)
        if marked.status == "passed" and question.answer is not None:
            console.print(f"[green]Right.[/green] {escape(' '.join(question.explanation.split()))}", highlight=False)
        else:
            console.print({"passed": "[green]Kept.[/green]"}.get(marked.status, f"[red]{escape(marked.message)}[/red]"), highlight=False)
    done = sum(mark(question, given.get(question.id)).status == "passed" for question in questions)
    console.print(f"{done} of {len(questions)} done. `climb answer {lesson.number} --again` asks all of them again; {path} can be edited too.")
