"""What a submission is once it has been read: text by module name, and what was wrong with the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


class SubmissionError(ValueError):
    """What was named on the command line is no submission at all: one line says what came and what is expected."""


class Unreadable(ValueError):
    """One file that is not taken. status: refused (hostile, or beyond a limit) or error (damaged, or of a wrong kind)."""

    def __init__(self, status: str, message: str):
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Problem:
    """Why a file is not among those graded: `file` and `message` make one sentence, on one line."""

    file: str  # as the student sent it: "work/word_agent.py"
    status: str  # refused, error, missing
    message: str
    module: str | None = None  # the exercise file it would have been, if that is known: "toy.word_agent"


@dataclass
class Submission:
    """One student's work, as text. It was never written to disk, never parsed and never run."""

    name: str  # safe as the name of a folder
    files: dict[str, str] = field(default_factory=dict)  # "toy.word_agent" -> source
    helpers: dict[str, str] = field(default_factory=dict)  # other modules that these files may import
    answers: dict[str, str] = field(default_factory=dict)  # "02-policy-gradient" -> the text of its answers file
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was done to it that is no fault: notebook magics left out, older copies
    ids: tuple[str, ...] = ()  # other names, numbers and addresses by which a roster may know the student
    submitted: datetime | None = None  # when it was handed in, as a learning system says; without a zone: the course's
    submitted_from: str = ""  # what says so: "Gradescope", "roster", "file name"
    changed: datetime | None = None  # the newest of its files' own times; without a zone: the course's
    student: dict[str, Any] = field(default_factory=dict)  # what a roster says: id, name, section, extension_days, on_roster
    others: list[Submission] = field(default_factory=list)  # earlier attempts, where all are to be graded

    def problem(self, module: str) -> Problem | None:
        """Why the file of this exercise module is not there, if that is known."""
        return next((problem for problem in self.problems if problem.module == module), None)
