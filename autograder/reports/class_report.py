"""The pages of a graded class: `DIR/<student>/report.html` for each, and `DIR/class.html`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Mapping

from autograder.course import Course
from autograder.policy import Policy
from autograder.reports import class_page, pages, student_page
from autograder.reports.class_data import ClassProblem, Graded, handed_in, read_class

CLASS_PAGE, STUDENT_PAGE, FULL_PAGE = "class.html", "report.html", "full.html"
RULES = ".course.toml"  # the policy under which the pages were written last

__all__ = ["CLASS_PAGE", "STUDENT_PAGE", "ClassProblem", "is_graded_class", "write_reports"]


def is_graded_class(folder: Path) -> bool:
    """Whether `climb grade --out` wrote this folder: results in its folders, which runs do not have."""
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(
            entry.is_dir(follow_symlinks=False) and os.path.isfile(os.path.join(entry.path, "result.json"))
            for entry in entries
        )


def write_reports(
    out: Path,
    course: Course | None = None,
    *,
    policy: Policy | None = None,
    title: str = "",
    lessons_url: str = "",
    files: Mapping[str, Mapping[str, str]] | None = None,
    notes: list[str] | None = None,
    done: Callable[[str], Any] = lambda name: None,
) -> Path:
    """Writes every student's page and the class's from what `climb grade --out` has left in `out`; returns the class's page.

    course: its lessons' titles, questions and skeletons; None leaves them out. policy: what students may see, kept in `out` for
    the next time; where it hides something, `full.html` beside each `report.html` is the instructor's. lessons_url: where lessons/
    can be read, if the pages leave this machine. files: {student: {"toy/x.py": text}} where the submissions are in memory; else
    they are looked for below each student's folder. done(name): after each student. Raises ClassProblem, CourseError, OSError.
    """
    graded = read_class(out)
    keep_rules(out, policy)
    policy = policy or Policy()
    add_marks(graded)
    theirs = student_page.Setting(course, lessons_url=lessons_url, policy=policy)
    ours = student_page.Setting(course, lessons_url=lessons_url, class_page=True, policy=policy, everything=True)
    hides = hides_something(policy)
    for student in graded.students:
        text_of = dict((files or {}).get(student.name) or handed_in(student.folder))
        pages.write_page(student.folder / STUDENT_PAGE, student_page.page(student, text_of, theirs))
        if hides:
            student.page = FULL_PAGE
            pages.write_page(student.folder / FULL_PAGE, student_page.page(student, text_of, ours))
        else:
            (student.folder / FULL_PAGE).unlink(missing_ok=True)
        done(student.name)
    title = title or policy.title or f"{out.resolve().name}: {pages.plural(len(graded.students), 'student')}"
    return pages.write_page(out / CLASS_PAGE, class_page.page(graded, title, course, notes))


def keep_rules(out: Path, policy: Policy | None) -> None:
    """Keeps the file of the rules beside the pages: written anew without being told of it, they still hide what they hid."""
    if policy is None:
        (out / RULES).unlink(missing_ok=True)
    elif policy.path is not None and policy.path.resolve() != (out / RULES).resolve():
        pages.write_page(out / RULES, policy.path.read_text(encoding="utf-8-sig"))


def hides_something(policy: Policy) -> bool:
    """Whether a student sees less than an instructor."""
    shown = policy.visibility
    rules = [shown, *policy.by_lesson.values()]
    return not (shown.values and shown.mistakes and shown.hints and all(rule.tests == "visible" for rule in rules))


def add_marks(graded: Graded) -> None:
    """What people gave for written answers, from the rubric beside the results."""
    from autograder.rubric.marks import marks_by_student, with_marks

    marks = marks_by_student(graded.out)
    for student in graded.students:
        student.marks = marks.get(student.folder.name, {})
        student.result = with_marks(student.result, student.marks)
