"""Submissions in: folders, zips, files and notebooks become text by module name. Nothing of them is run, or written to disk."""

from __future__ import annotations

from autograder.course import TRACKS, Course

from .batch import read_submission, read_submissions, safe_name
from .model import Problem, Submission, SubmissionError
from .sorting import sorted_out
from .unpack import Entry, printable, reader

__all__ = ["Problem", "Submission", "SubmissionError", "learner", "read_submission", "read_submissions", "safe_name"]


def learner(course: Course) -> Submission:
    """The learner's own files in the course's folder, and what lies beside them."""
    entries = []
    for track in TRACKS:
        for place in sorted((course.root / track).glob("*.py")):
            entries.append(Entry((track, printable(place.name)), reader(course.root / track, (place.name,))))
    for place in sorted((course.root / "answers").glob("*.toml")):
        entries.append(Entry(("answers", printable(place.name)), reader(course.root / "answers", (place.name,))))
    return sorted_out("learner", entries, course, [])
