"""What an exercise file is graded beside: the student's helpers, and earlier exercise files that are right."""

from __future__ import annotations

from functools import lru_cache

from autograder import reference
from autograder.course import Course, Lesson

from .examine import Workspace
from .submissions.model import Submission


def workspace_for(lesson: Lesson, submission: Submission, course: Course) -> Workspace:
    """The workspace of one lesson's exercises. Raises LookupError if the submission has no file for the lesson.

    Every earlier exercise file is the reference's, compiled, so that a mistake is charged once; in a student's copy, which
    has no reference, it is the learner's own. Later exercise files are absent.
    """
    if lesson.module not in submission.files:
        raise LookupError(f"the submission {submission.name} has no {lesson.file}")
    compiled = compiled_before(lesson, course)
    own = {other.module: submission.files.get(other.module) for other in course.earlier(lesson) if other.module not in compiled}
    earlier = {module: text for module, text in own.items() if text is not None}
    return Workspace(lesson.module, {**submission.helpers, **earlier, lesson.module: submission.files[lesson.module]}, compiled)


def compiled_before(lesson: Lesson, course: Course) -> dict[str, bytes]:
    """The reference's earlier exercise files as code objects, by module; none in a student's copy."""
    return {other.module: _compiled(other.module) for other in course.earlier(lesson) if has_reference(other)}


def has_reference(lesson: Lesson) -> bool:
    return (reference.ROOT / "solutions" / lesson.file).is_file()


@lru_cache(maxsize=None)
def _compiled(module: str) -> bytes:
    return reference.compiled(module)
