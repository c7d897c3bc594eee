"""What is compared, and what everybody was given: skeletons, solutions, and the other right answers that the course knows."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import numpy as np

from autograder import reference
from autograder.course import Course, Lesson
from autograder.skeletons import skeleton

from .fingerprints import boilerplate_of


def handed_out(lesson: Lesson) -> list[str]:
    """The texts of a lesson's file that are nobody's own: as handed out, as solved, as solved in other known ways."""
    solution = reference.ROOT / "solutions" / lesson.file
    if not solution.is_file():
        return []
    text = solution.read_text(encoding="utf-8")
    others = reference.ROOT / "autograder" / "alternatives" / lesson.file.removesuffix(".py")
    known = [path.read_text(encoding="utf-8") for path in sorted(others.glob("*.py"))]
    return [skeleton(text, lesson.number), reference.source(lesson.module), *known]


def boilerplate(lessons: Sequence[Lesson]) -> dict[str, np.ndarray]:
    """{file: hashes of everything that is nobody's own} of these lessons' files."""
    return {lesson.file: boilerplate_of(texts) for lesson in lessons if (texts := handed_out(lesson))}


def sources(path: Path, course: Course) -> dict[str, dict[str, str]]:
    """{student: {"toy/word_agent.py": text}} of submissions as they came, or of a graded class. Raises SubmissionError."""
    from autograder.grading.submissions import read_submissions
    from autograder.reports.class_data import handed_in
    from autograder.reports.class_report import is_graded_class

    if is_graded_class(path):
        folders = sorted(
            folder for folder in path.iterdir() if (folder / "result.json").is_file() and not folder.is_symlink()
        )
        return {folder.name: handed_in(folder) for folder in folders}
    found = read_submissions(path, course)
    return {one.name: {module.replace(".", "/") + ".py": text for module, text in one.files.items()} for one in found}
