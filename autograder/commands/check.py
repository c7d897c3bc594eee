"""`climb check`: the learner's own files (or any submission) against the truth, now."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Optional

import typer

from autograder import course as courses
from autograder import reference
from autograder.course import Course, Exercise


def register(app: typer.Typer) -> None:
    app.command("check")(check)


def check(
    what: Optional[list[str]] = typer.Argument(None, metavar="[PATH | LESSON | EXERCISE]...", help="What to check: a lesson (3, word_agent), a file (toy/word_agent.py), an exercise (Baseline.update, toy/word_agent.py::Baseline.update), or a file, folder, zip or notebook elsewhere. Nothing: everything."),
    seed: Optional[int] = typer.Option(None, "--seed", min=0, help="Draw the cases from this seed instead of the public one; expected values are then not shown."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON and nothing else."),
    solutions: bool = typer.Option(False, "--solutions", help="Check the reference solutions instead of your files."),
) -> None:  # fmt: skip
    """Check your files and say what is wrong and why."""
    course = courses.load()
    outside = [word for word in what or [] if is_outside(word, course)]
    inside = [word for word in what or [] if word not in outside]
    exercises = course.select(inside) if inside or not outside else course.exercises
    submissions = [*([] if outside and not inside else [own_files(course, exercises, solutions)]), *(submission_at(word, course) for word in outside)]
    results = run_checks(course, exercises, submissions, seed)
    if as_json:
        print(json.dumps(results[0] if len(results) == 1 else results, indent=1))
    else:
        from autograder.reports import terminal

        for result in results:
            terminal.show(result, course, title=result["submission"] if outside else None)
    if not outside and not solutions and seed is None:
        from autograder.progress import Progress

        Progress(course.root).record(results[0], course)
    raise typer.Exit(0 if all(passes(result) for result in results) else 1)


def run_checks(course: Course, exercises: list[Exercise], submissions: list, seed: int | None) -> list[dict]:
    """Grades with the best sandbox this machine offers; while it starts, the truths are computed here."""
    from autograder.grading.oracle import PUBLIC_SEED
    from autograder.sandbox import open_sandbox

    with open_sandbox(modules_of(exercises)) as sandbox:
        from autograder.grading.grade import Grader

        grader = Grader(course, sandbox, PUBLIC_SEED if seed is None else seed, jobs=os.cpu_count() or 1)
        grader.prepare(exercises)
        return [grader.grade(submission, narrowed(exercises, submission)) for submission in submissions]


def modules_of(exercises: list[Exercise]) -> list[str]:
    return sorted({exercise.lesson.module for exercise in exercises})


def narrowed(exercises: list[Exercise], submission) -> list[Exercise]:
    """For a file from elsewhere only what it holds is asked; for the learner's own folder, all that was selected."""
    if submission.name in ("learner", "solutions") or not submission.files:
        return exercises
    return [exercise for exercise in exercises if exercise.lesson.module in submission.files or submission.problems] or exercises


def passes(result: dict) -> bool:
    return all(row["status"] == "passed" for row in result["exercises"])


def is_outside(word: str, course: Course) -> bool:
    """Whether the word is the path of something that is not one of the course's own exercise files."""
    path = Path(word)
    if not ("/" in word or os.sep in word or path.suffix in (".py", ".zip", ".ipynb")) or not path.exists():
        return False
    place = Path(os.path.abspath(path))
    own = [course.root / "toy", course.root / "full", course.root / "lessons"]
    return place != course.root and not any(place == folder or folder in place.parents for folder in own)


def own_files(course: Course, exercises: list[Exercise], solutions: bool = False):
    """The learner's files of the lessons asked for, as a submission."""
    from autograder.cli import UsageProblem
    from autograder.grading.submissions import Submission, learner

    if solutions:
        if not (reference.ROOT / "solutions").is_dir():
            raise UsageProblem("--solutions needs the course's solutions/ folder, which a student's copy does not have")
        return Submission("solutions", {module: reference.source(module) for module in modules_of(exercises)})
    return learner(course)


def submission_at(word: str, course: Course):
    from autograder.cli import UsageProblem
    from autograder.grading.submissions import read_submissions

    found = read_submissions(Path(word), course)
    if len(found) != 1:
        raise UsageProblem(f"{word} holds {len(found)} submissions, not one: use `climb grade {word} --out DIR`")
    return found[0]
