"""The list of a class, joined with what was handed in: every name has a row, every stranger is listed.

A CSV file with the columns id, name, section, extension days, email and submitted (when it was handed in, where the instructor
knows better than the files), in any order under a heading, or id, name, section, extension days without one. Spreadsheets write
such files with commas, semicolons or tabs, in UTF-8 with or without a byte order mark, in UTF-16 and in Latin-1: all are read.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from autograder.course import CourseError

from .submissions import Submission, safe_name
from .submissions.unpack import printable

HEADINGS = {
    "id": (
        "id",
        "sid",
        "student id",
        "student",
        "user id",
        "user",
        "username",
        "login",
        "sis user id",
        "sis login id",
        "id number",
        "submission",
    ),
    "name": ("name", "full name", "student name", "display name"),
    "first": ("first name", "firstname", "given name"),
    "last": ("last name", "lastname", "surname", "family name"),
    "section": ("section", "group", "class", "course", "sections"),
    "email": ("email", "e-mail", "mail", "email address", "e-mail address"),
    "extension": ("extension days", "extension", "extra days", "days"),
    "submitted": ("submitted", "submitted at", "time", "handed in"),
}
WITHOUT_HEADING = ("id", "name", "section", "extension")
CELL = 100_000  # characters; csv has a limit of its own, but it is the whole process's, and other libraries move it
MAX_EXTENSION = 3650.0


class RosterError(CourseError):
    """A roster that cannot be used at all, in one line."""


@dataclass(frozen=True)
class Student:
    """A row of the roster."""

    id: str
    name: str = ""
    section: str = ""
    extension_days: float = 0.0
    email: str = ""
    submitted: datetime | None = None
    line: int = 0

    def said(self, on_roster: bool = True) -> dict:
        """What a result says of the student."""
        kept = {"id": self.id, "name": self.name, "section": self.section, "extension_days": self.extension_days}
        return kept | {"email": self.email, "on_roster": on_roster}

    def strong(self) -> set[str]:
        """What only this student goes by."""
        return {_folded(text) for text in (self.id, self.email) if text}

    def weak(self) -> set[str]:
        """What this student goes by if nobody else does: the name in either order or run together, the address's start."""
        last, comma, first = (part.strip() for part in self.name.partition(","))
        words = f"{first} {last}".split() if comma else self.name.split()
        orders = [" ".join(words), " ".join([*words[-1:], *words[:-1]])] if words else []
        together = [re.sub(r"[\W_]+", "", order) for order in orders]
        return {_folded(text) for text in (self.name, *orders, *together, self.email.partition("@")[0]) if text}


@dataclass
class Roster:
    students: list[Student]
    told: list[str] = field(default_factory=list)  # what was odd, a line each


@dataclass
class Joined:
    """The class as it is graded: who handed in and who did not, by name."""

    submissions: list[Submission]
    strangers: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)


def read_roster(path: Path) -> Roster:
    """The students of a CSV file. What is odd is told and gone around; raises RosterError where nobody is named."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RosterError(f"--roster: {path} cannot be read ({error.strerror})") from None
    text, told = _text(data, path)
    first = text.lstrip().split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    try:
        rows = [(row, number) for number, row in _rows(text, separator) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise RosterError(f"--roster: {path} cannot be read as CSV ({error})") from None
    longest = max((len(cell) for row, _ in rows for cell in row), default=0)
    if longest > CELL:
        raise RosterError(f"--roster: {path} cannot be read as CSV (a cell of {longest} characters: is a quotation mark missing?)")
    columns, headed = _columns(rows[0][0]) if rows else ({}, False)
    students = []
    for row, line in rows[headed:]:
        cells = {what: printable(row[at].strip()) for what, at in columns.items() if at < len(row)}
        if student := _student(cells, line, headed, path.name, told):
            students.append(student)
    if not students:
        raise RosterError(f"--roster: {path} names no student in its first column")
    return Roster(_each_once(students, path.name, told), told)


def _text(data: bytes, path: Path) -> tuple[str, list[str]]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace"), [f"{path.name} is in UTF-16 and was read so"]
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
        said = (
            f"{path.name} is not UTF-8 (byte 0x{byte:02x} in line {line}) and was read as Latin-1: see that the names are right"
        )
        return text, [said]


def _rows(text: str, separator: str):
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    for row in reader:
        yield reader.line_num, row


def _columns(first: list[str]) -> tuple[dict[str, int], bool]:
    """Which column is what, and whether the first row is a heading that says so."""
    meant = {heading: what for what, headings in HEADINGS.items() for heading in headings}
    found: dict[str, int] = {}
    for at, cell in enumerate(first):
        what = meant.get(re.sub(r"[\s_]+", " ", cell.strip().lower()))
        if what:
            found.setdefault(what, at)
    if 0 not in found.values() and len(found) < 2:
        return {what: at for at, what in enumerate(WITHOUT_HEADING)}, False
    return found, True


def _student(cells: dict[str, str], line: int, headed: bool, file: str, told: list[str]) -> Student | None:
    name = cells.get("name") or " ".join(filter(None, (cells.get("first"), cells.get("last"))))
    id = cells.get("id") or next(
        (cells[what] for what in cells if what in ("email", "name") and cells[what]), name
    )  # the first of them
    if not id:
        if any(cells.values()):
            told.append(f"{file}, line {line}, names nobody and is passed over")
        return None
    days = 0.0
    if text := cells.get("extension"):
        try:
            days = float(text.replace(",", "."))
        except ValueError:
            days = math.nan
        if not 0 <= days <= MAX_EXTENSION:
            if headed:
                told.append(f"{file}, line {line}: expected a number of days, received {text[:20]!r}: {id} has no extension")
            days = 0.0
    when = None
    if text := cells.get("submitted"):
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            told.append(f"{file}, line {line}: expected a time such as 2026-12-04T18:00, received {text[:30]!r}: it is left out")
    return Student(id, name, cells.get("section", ""), days, cells.get("email", ""), when, line)


def _each_once(students: list[Student], file: str, told: list[str]) -> list[Student]:
    """Rows that say the same are one; two students with one id are told, and both stay."""
    seen: dict[str, Student] = {}
    kept = []
    for student in students:
        other = seen.setdefault(_folded(student.id) if student.id else "", student)
        if other is student or other.id != student.id:
            kept.append(student)
        elif (other.name, other.section, other.email) == (student.name, student.section, student.email):
            continue
        else:
            kept.append(student)
            lines = f"lines {other.line} and {student.line}"
            told.append(f"{file}: two students have the id {student.id} ({lines}): what is handed in under it goes to the first")
    return kept


def joined(found: list[Submission], roster: Roster | None) -> Joined:
    """An outer join: submissions under their student's id, an empty one where nothing came, strangers under their own name."""
    if roster is None:
        return Joined(sorted(found, key=lambda one: one.name.casefold()))
    strong, weak = _by_key(roster.students)
    theirs: dict[int, list[Submission]] = {}
    unknown, told = [], list(roster.told)
    for submission in found:
        matched = _matched(submission, strong, weak)
        if len(matched) == 1:
            theirs.setdefault(matched.pop(), []).append(submission)
        else:
            unknown.append(submission)
            if matched:
                ids = " or ".join(roster.students[at].id for at in sorted(matched))
                told.append(f"{submission.name} could be {ids}: graded under its own name")
    taken: set[str] = set()
    named, strangers = [], []
    for at, student in enumerate(roster.students):
        of_one = theirs.get(at, [])
        if len(of_one) > 1:
            names = ", ".join(one.name for one in of_one)
            told.append(
                f"{len(of_one)} submissions go by the name of {student.id} ({names[:200]}): each is graded under its own name"
            )
            unknown += of_one
            of_one = []
        submission = of_one[0] if of_one else Submission("")
        own = submission.name if submission.name.casefold() == safe_name(student.id).casefold() else student.id
        submission.name = safe_name(own, taken)
        taken.add(submission.name.casefold())
        submission.student = student.said()
        if student.submitted:
            submission.submitted, submission.submitted_from = student.submitted, "roster"
        named.append(submission)
    for submission in sorted(unknown, key=lambda one: one.name.casefold()):
        submission.name = safe_name(submission.name, taken)
        taken.add(submission.name.casefold())
        submission.student = Student(submission.name).said(on_roster=False)
        strangers.append(submission.name)
        named.append(submission)
    return Joined(sorted(named, key=lambda one: one.name.casefold()), strangers, told)


def _by_key(students: list[Student]) -> tuple[dict[str, int], dict[str, int]]:
    """Which student goes by a key: by what is theirs alone, and by what nobody else happens to share."""
    strong: dict[str, int] = {}
    for at, student in enumerate(students):
        for key in student.strong():
            strong.setdefault(key, at)
    shared = Counter(key for student in students for key in student.weak())
    weak = {key: at for at, student in enumerate(students) for key in student.weak() if shared[key] == 1 and key not in strong}
    return strong, weak


def _matched(submission: Submission, strong: dict[str, int], weak: dict[str, int]) -> set[int]:
    """The students a submission may be of: none, one, or several where its names contradict each other."""
    keys = {_folded(text) for text in (submission.name, *submission.ids)}
    surely = {strong[key] for key in keys if key in strong}
    maybe = {weak[key] for key in keys if key in weak}
    if len(surely) == 1 and maybe and not surely & maybe:
        return surely | maybe  # a number that belongs to another than the name does: Moodle's, say, that is no id
    return surely or maybe


def _folded(text: str) -> str:
    return safe_name(text).casefold()
