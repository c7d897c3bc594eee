"""`climb check`: the learner's own files (or any submission) against the truth, now."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Optional

import typer

from autograder import course as courses
from autograder import reference
from autograder.course import TRACKS, Course, CourseError, Exercise


def register(app: typer.Typer) -> None:
    app.command("check")(check)


def check(
    context: typer.Context,
    what: Optional[list[str]] = typer.Argument(None, metavar="[PATH | LESSON | EXERCISE]...", help="A lesson (3, word_agent), a file (toy/word_agent.py) or an exercise (Baseline.update). Nothing: everything. A file, folder, zip or notebook outside the course is checked instead of your files."),
    seed: Optional[int] = typer.Option(None, "--seed", min=0, metavar="N", help="Draw the cases from this seed instead of the public one; their values are then not shown."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON and nothing else; a list of them for several paths."),
    solutions: bool = typer.Option(False, "--solutions", help="Check the reference solutions instead of your files."),
) -> None:  # fmt: skip
    """Check your files and say what is wrong and why."""
    from autograder.cli import UsageProblem
    from autograder.dependencies import states_of

    course = courses.load()
    asked = sort_out(what or [], course)
    if solutions and asked.paths:
        raise UsageProblem(f"--solutions checks the reference solutions: leave out {asked.paths[0]}")
    if seed and not (reference.ROOT / "solutions").is_dir():
        raise UsageProblem("--seed: a student's copy knows the answers of the public seed alone; leave it out")
    exercises = course.select(asked.words)
    states = states_of(lessons_of(exercises), course)
    units = [
        (whose, exercises if asked.words or asked.everything else held_by(whose, exercises))
        for whose in submissions_at(asked.paths, course)
    ]
    if not asked.paths:
        units = [(reference_files(exercises) if solutions else own_files(course), exercises)]
    if not as_json:
        from autograder.reports import terminal  # noqa: F401  `show` will need it: now, while the server still imports torch
    results = run_checks(course, units, seed, context.obj)
    if not asked.paths and not solutions and not seed:
        from autograder.progress import Progress

        progress = Progress(course.root)
        progress.record(results[0]["exercises"], states)
        tell_unsaved(progress)
    unread = [why for whose, of in units if (why := why_unread(whose, of))]
    if as_json:
        print(json.dumps(results if len(asked.paths) > 1 else results[0], indent=1))
    else:
        show(results, units, course, titles=bool(asked.paths))
    if len(unread) == len(units):
        raise UsageProblem("; ".join(unread))
    raise typer.Exit(0 if all(passes(result) for result in results) else 1)


def show(results: list[dict], units: list[tuple], course: Course, titles: bool) -> None:
    from autograder.reports import terminal

    for result, (whose, exercises) in zip(results, units):
        if len(units) > 1 or not why_unread(whose, exercises):
            terminal.show(result, course, title=result["submission"] if titles else None)


def run_checks(course: Course, units: list[tuple], seed: int | None = None, server=None) -> list[dict]:
    """The results of (submission, exercises) pairs, from the best sandbox here; while that starts, the truths are computed.

    server: a fork server that is starting already, or None.
    """
    from autograder.grading.oracle import PUBLIC_SEED
    from autograder.sandbox import open_sandbox

    wanted = [exercise for _, exercises in units for exercise in exercises]
    with open_sandbox(modules_of(wanted), libraries=libraries_needed(units), server=server) as sandbox:
        from autograder.grading.grade import Grader

        grader = Grader(course, sandbox, PUBLIC_SEED if seed is None else seed, jobs=os.cpu_count() or 1)
        grader.prepare(wanted)
        return [
            grader.grade(submission, exercises, questions=questions_for(submission, exercises)) for submission, exercises in units
        ]


def libraries_needed(units: list[tuple]) -> Callable[[list[str]], list[str]] | None:
    """For the learner's own files what these import by now (a second less than the solutions, before the plots); None: what those do."""
    from autograder.sandbox.preload import libraries_of

    if [submission.name for submission, _ in units] != ["learner"]:
        return None
    submission, _ = units[0]
    return lambda modules: libraries_of([submission.files.get(module, "") for module in modules])


def questions_for(submission, exercises: list[Exercise]) -> list[courses.Lesson]:
    """The lessons whose questions are marked beside their exercises: asked for as a whole, and begun in an answers file."""
    from autograder.questions.rows import lessons_with_questions

    asked = {exercise.id for exercise in exercises}
    whole = [lesson for lesson in lessons_with_questions(exercises) if all(exercise.id in asked for exercise in lesson.exercises)]
    return [lesson for lesson in whole if lesson.folder.name in submission.answers]


def lessons_of(exercises: list[Exercise]) -> list[courses.Lesson]:
    return list(dict.fromkeys(exercise.lesson for exercise in exercises))


def modules_of(exercises: list[Exercise]) -> list[str]:
    return sorted(lesson.module for lesson in lessons_of(exercises))


def held_by(submission, exercises: list[Exercise]) -> list[Exercise]:
    """The exercises of the files that a submission from elsewhere holds, or would hold if they could be read."""
    held = {*submission.files, *(problem.module for problem in submission.problems)}
    return [exercise for exercise in exercises if exercise.lesson.module in held] or exercises


def passes(result: dict) -> bool:
    return all(row["status"] == "passed" for row in result["exercises"])


def why_unread(submission, exercises: list[Exercise]) -> str:
    """Why there is nothing to grade: none of the files asked for is there and readable. Empty if one is."""
    if any(exercise.lesson.module in submission.files for exercise in exercises):
        return ""
    known = [problem for lesson in lessons_of(exercises) if (problem := submission.problem(lesson.module))]
    told = known or submission.problems
    if not told:
        return f"{submission.name} has none of {', '.join(lesson.file for lesson in lessons_of(exercises)[:3])}"
    more = f", and {len(told) - 1} more like it" if len(told) > 1 else ""
    return f"{told[0].file} {told[0].message}{more}"


def tell_unsaved(progress) -> None:
    if progress.unsaved:
        print(f"climb: {progress.unsaved}", file=sys.stderr)


@dataclass
class Asked:
    """What the words of the command line mean."""

    words: list[str] = field(default_factory=list)  # lessons, files and exercises of the course
    paths: list[Path] = field(default_factory=list)  # what lies elsewhere, each once
    everything: bool = False  # the course's folder itself was named


def sort_out(words: list[str], course: Course) -> Asked:
    """Tells what is the course's from what lies elsewhere. Raises UsageProblem or CourseError for a word that is neither."""
    asked = Asked()
    for word in words:
        name, colons, exercise = word.partition("::")
        place = Path(os.path.abspath(name))
        if not place.exists() and not place.is_symlink():
            asked.words.append(word)
        elif place in (course.root, course.root / "lessons"):
            asked.everything = True
        elif place in [course.root / track for track in TRACKS]:
            asked.words.append(place.name)
        elif is_outside(name, place, course):
            asked.words += [exercise] if colons else []
            asked.paths += [place] if place not in asked.paths else []
        else:
            asked.words.append(word)
    if not asked.everything:
        return asked
    return Asked([], asked.paths, True)


def is_outside(word: str, place: Path, course: Course) -> bool:
    """Whether an existing path is meant as such, and is none of the course's own exercise files or lessons."""
    if course.root / "lessons" in place.parents or place in [course.root / lesson.file for lesson in course.lessons]:
        return False
    if any(course.root / track in place.parents for track in TRACKS):
        from autograder.cli import UsageProblem

        files = [lesson.file for lesson in course.lessons]
        raise UsageProblem(f"{word} is no exercise file; {', '.join(files[:4])}{' and so on' if len(files) > 4 else ''} are")
    if "/" in word or os.sep in word or place.suffix in (".py", ".zip", ".ipynb"):
        return True
    try:
        return not course.select([word])
    except CourseError:
        return True


def own_files(course: Course):
    """The learner's files as a submission; each lesson's file that is not there is a problem that says what to do."""
    from autograder.grading.submissions import Problem, learner

    submission = learner(course)
    again = (
        "`climb skeletons` writes it anew"
        if (reference.ROOT / "solutions").is_dir()
        else "copy it again from the course as you got it"
    )
    for lesson in course.lessons:
        if not os.path.lexists(course.root / lesson.file):
            submission.problems.append(Problem(lesson.file, "missing", f"is not there: {again}", lesson.module))
    return submission


def reference_files(exercises: list[Exercise]):
    from autograder.cli import UsageProblem
    from autograder.grading.submissions import Submission

    if not (reference.ROOT / "solutions").is_dir():
        raise UsageProblem("--solutions needs the course's solutions/ folder, which a student's copy does not have")
    return Submission("solutions", {module: reference.source(module) for module in modules_of(exercises)})


def submissions_at(paths: list[Path], course: Course) -> list:
    from autograder.cli import UsageProblem
    from autograder.grading.submissions import read_submissions

    found = []
    for path in paths:
        several = read_submissions(path, course)
        if len(several) != 1:
            raise UsageProblem(f"{path} holds {len(several)} submissions, not one: use `climb grade {path} --out DIR`")
        found += several
    return found
