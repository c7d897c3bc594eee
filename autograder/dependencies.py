"""Which of the learner's own files the verdict on a lesson hangs on."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from autograder import __version__, reference
from autograder.course import TRACKS, Course, Lesson


def files_of(lesson: Lesson, course: Course) -> list[Path]:
    """The lesson's file, and the learner's files that it imports, at any depth.

    Earlier exercise files count in a student's copy alone: elsewhere the reference's stand in for them. Imports are told from the
    text, whichever way they are written; a name that only looks like one costs a check too many.
    """
    standing_in = {
        course.root / other.file for other in course.earlier(lesson) if (reference.ROOT / "solutions" / other.file).is_file()
    }
    others = {place for track in TRACKS for place in (course.root / track).glob("*.py")} - standing_in
    found, waiting = [], [course.root / lesson.file]
    while waiting:
        place = waiting.pop()
        found.append(place)
        others.discard(place)
        names = _imported_names(place)
        used = sorted(other for other in others if other.stem in names)
        waiting += used
        others -= set(used)
    return found


def _imported_names(place: Path) -> frozenset[str]:
    try:
        state = place.stat()
    except OSError:
        return frozenset()
    return _names_in(place, (state.st_mtime_ns, state.st_size, state.st_ino))


@lru_cache(maxsize=512)
def _names_in(place: Path, state: tuple[int, ...]) -> frozenset[str]:
    """state: what changes when the file does. `climb watch` asks for every file at each save, and one of them has changed."""
    try:
        text = place.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    lines = re.findall(r"^\s*(?:from|import)\b(?:[^\n(]*\([^)]*\)|[^\n]*)", text, flags=re.MULTILINE)
    return frozenset(name for line in lines for name in re.findall(r"\w+", line))


def states_of(lessons: list[Lesson], course: Course) -> dict[str, str | None]:
    """The state of each lesson, by its file. To be taken before the files are read, so that a save in between is noticed."""
    return {lesson.file: state_of(lesson, course) for lesson in lessons}


def state_of(lesson: Lesson, course: Course) -> str | None:
    """A hash of these files and the grader's version: while it stays, so does the verdict. None without the lesson's file."""
    digest = hashlib.sha256(__version__.encode())
    for place in files_of(lesson, course):
        try:
            digest.update(hashlib.sha256(place.read_bytes()).digest())
        except OSError:
            if place == course.root / lesson.file:
                return None
    return digest.hexdigest()[:16]
