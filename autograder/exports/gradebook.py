"""The gradebooks of Canvas and Moodle: a file for their import, or their own downloaded file with one column filled.

What their files look like is told in their guides (Canvas on its gradebook CSV; Moodle on grade import and grading worksheets):

    Canvas                 Student, ID, SIS User ID, SIS Login ID, Section, <assignment (its id)>, ...; a row `Points Possible`
    Moodle's gradebook     First name, Last name, ID number, Email address, ..., Assignment: <name> (Real), ...
    Moodle's worksheet     Identifier (Participant 4711), Full name, Email address, Status, Grade, Maximum grade, ...

A student is found by an id first, by name where no id fits. Whoever fits two is left out and told:
a wrong grade is worse than none.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable

from .cells import points, safe, write_table, write_whole_table
from .grades import Grade, folded

CANVAS_HEAD = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
CANVAS_IDS = ("id", "sis user id", "sis login id", "integration id")
MOODLE_HEAD = ["ID number", "Email address", "Full name"]
MOODLE_IDS = ("identifier", "id number", "username", "email address", "email", "student id")
MOODLE_ABOUT = (*MOODLE_IDS, "first name", "last name", "surname", "full name", "institution", "department", "status")
WORKSHEET = "identifier"


class GradebookError(ValueError):
    """A gradebook that cannot be read or filled: one line for a person."""


@dataclass
class Filled:
    """What came of an export: the file, how many grades are in it, and who is in one of the two alone."""

    path: Path
    filled: int = 0
    column: str = ""
    not_in_gradebook: list[str] = field(default_factory=list)  # submissions nobody in the gradebook fits
    without_grade: list[str] = field(default_factory=list)  # students of the gradebook nobody handed in for
    ambiguous: list[str] = field(default_factory=list)


@dataclass
class _Book:
    """A gradebook as it was read: the cells stay as they came."""

    path: Path
    rows: list[list[str]]
    delimiter: str
    bom: bool

    @property
    def head(self) -> list[str]:
        return self.rows[0]

    def at(self, row: list[str], name: str) -> str:
        """The cell of a row in the column of this name, whatever its case; "" if there is none."""
        for index, title in enumerate(self.head):
            if folded(title) == name and index < len(row):
                return row[index].strip()
        return ""


def canvas(
    grades: Iterable[Grade], target: Path, book: Path | None = None, column: str | None = None, scale: bool = False
) -> Filled:
    """Writes a file for Canvas' `Import` of grades. With `book`, Canvas' own export, its students and the one column are kept."""
    grades = list(grades)
    if book is None:
        return _new(
            grades, target, CANVAS_HEAD, column or "Climb", _canvas_row, [["    Points Possible", "", "", "", ""]], scale
        )
    read = _read(book, ("student", "id"), "Canvas' gradebook export (Student, ID, SIS User ID, ...)")
    special = [
        i for i, row in enumerate(read.rows) if i and (not row or folded(row[0]) in ("points possible", "", "student, test"))
    ]
    about = [i for i, title in enumerate(read.head) if folded(title) in (*CANVAS_IDS, "student", "section", "root account")]
    others = [i for i in range(len(read.head)) if i not in about]
    at = _chosen(read, others, column)
    kept = [*about, at]
    possible = next(
        (row[at] for i in special for row in [read.rows[i]] if folded(row[0]) == "points possible" and at < len(row)), ""
    )
    done = _fill(read, grades, at, CANVAS_IDS, lambda row: [_turned(read.at(row, "student"))], special, possible, scale)
    done.path = write_whole_table(target, [_only(row, kept) for row in read.rows], read.delimiter, read.bom)
    return done


def moodle(
    grades: Iterable[Grade], target: Path, book: Path | None = None, column: str | None = None, scale: bool = False
) -> Filled:
    """The same for Moodle: for its grade import, or its assignment's grading worksheet, which comes back with all its columns."""
    grades = list(grades)
    if book is None:
        return _new(grades, target, MOODLE_HEAD, column or "Climb", _moodle_row, [], scale)
    read = _read(book, (), "Moodle's gradebook export or grading worksheet")
    names = [folded(title) for title in read.head]
    if not set(names) & set(MOODLE_IDS):
        raise GradebookError(
            f"{book}: expected Moodle's export with a column {', '.join(MOODLE_HEAD)} or Identifier, received {_heads(read)}"
        )
    worksheet = WORKSHEET in names
    others = [names.index("grade")] if worksheet and "grade" in names and column is None else []
    others = others or [i for i, name in enumerate(names) if name not in MOODLE_ABOUT and not name.startswith("last ")]
    at = _chosen(read, others, column)
    most = read.at(read.rows[1], "maximum grade") if worksheet and len(read.rows) > 1 else ""
    done = _fill(read, grades, at, MOODLE_IDS, lambda row: _moodle_names(read, row), [], most, scale)
    kept = list(range(len(read.head))) if worksheet else [i for i, name in enumerate(names) if name in MOODLE_ABOUT] + [at]
    done.path = write_whole_table(target, [_only(row, kept) for row in read.rows], read.delimiter, read.bom)
    return done


def _new(grades, target, head, column, row_of, first, scale) -> Filled:
    if scale:
        raise GradebookError("--scale needs --gradebook: without the learning system's own file there is nothing to scale to")
    most = max((grade.final_max for grade in grades), default=0.0)
    rows = [[*row, points(most)] for row in first] + [[*row_of(grade), points(grade.final)] for grade in grades]
    heads = [safe(title) for title in [*head, column]]
    if first:  # the row of points begins with blanks that Canvas expects
        write_whole_table(target, [heads, rows[0], *[[safe(cell) for cell in row] for row in rows[1:]]])
    else:
        write_table(target, [*head, column], rows)
    return Filled(target, len(grades), column)


def _canvas_row(grade: Grade) -> list:
    number = re.fullmatch(
        r"[^_]+(?:_LATE)?_(\d+)", grade.submission, re.IGNORECASE
    )  # Canvas' own name for a submission holds its id
    login = grade.student.get("login") or grade.student.get("email") or ""
    return [
        grade.name or grade.submission,
        number[1] if number else "",
        grade.student.get("id") or "",
        login,
        grade.student.get("section") or "",
    ]


def _moodle_row(grade: Grade) -> list:
    return [grade.student.get("id") or "", grade.student.get("email") or "", grade.name or grade.submission]


def _read(path: Path, needed: tuple[str, ...], what: str) -> _Book:
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GradebookError(
            f"{path} is not UTF-8 (byte 0x{data[error.start]:02x}; Latin-1 perhaps): save it as CSV in UTF-8"
        ) from None
    except OSError as error:
        raise GradebookError(f"{path} cannot be read ({error.strerror})") from None
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    try:
        rows = [row for row in csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True) if row]
    except csv.Error as error:
        raise GradebookError(f"{path} cannot be read as CSV ({error})") from None
    if not rows or not set(needed) <= {folded(title) for title in rows[0]}:
        received = ", ".join(rows[0][:6]) if rows else "an empty file"
        raise GradebookError(f"{path}: expected {what}, received {received[:120]}")
    return _Book(path, rows, delimiter, data.startswith(b"\xef\xbb\xbf"))


def _heads(book: _Book) -> str:
    return ", ".join(book.head[:6])[:120]


def _chosen(book: _Book, among: list[int], column: str | None) -> int:
    """The column to fill: by its name, with or without the id that Canvas puts behind it; the only one, if none is named."""
    if column is not None:
        wanted = folded(column)
        fitting = [i for i in among if folded(book.head[i]) == wanted] or [
            i for i in among if wanted in (_bare(book.head[i]), _id(book.head[i]))
        ]
        if len(fitting) == 1:
            return fitting[0]
        raise GradebookError(
            f"{book.path}: {'no column' if not fitting else 'several columns'} {column!r}; there are {_listed(book, among)}"
        )
    fitting = [i for i in among if "climb" in folded(book.head[i])] or among
    if len(fitting) == 1:
        return fitting[0]
    raise GradebookError(f"{book.path}: name the column to fill with --column; there are {_listed(book, among)}")


def _bare(title: str) -> str:
    """`Assignment: Climb (Real)` and `Climb (123456)` are both `climb`."""
    return re.sub(r"\s*\((\d+|real|percentage)\)$", "", re.sub(r"^(assignment|manual item|quiz):\s*", "", folded(title)))


def _id(title: str) -> str:
    found = re.search(r"\((\d+)\)$", title.strip())
    return found[1] if found else ""


def _listed(book: _Book, among: list[int]) -> str:
    shown = ", ".join(repr(book.head[i]) for i in among[:6])
    return (shown + (", ..." if len(among) > 6 else "")) or "none beside those about the student"


def _fill(book, grades, at, ids, names_of, special, possible, scale) -> Filled:
    """Puts each grade into its student's row. Raises GradebookError if it counts other points and nobody asked to scale."""
    most = max((grade.final_max for grade in grades), default=0.0)
    try:
        possible = float(str(possible).replace(",", ".")) if str(possible).strip() else most
    except ValueError:
        possible = most  # "(read only)", or no number: nothing to hold the results to
    if abs(possible - most) > 1e-6 and not scale:
        raise GradebookError(
            f"{book.path}: `{book.head[at]}` is worth {points(possible)} points and the results {points(most)}: "
            "pass --scale to convert, or change the points there"
        )
    done = Filled(book.path, column=book.head[at])
    by_key: dict[str, list[Grade]] = {}
    by_name: dict[str, list[Grade]] = {}
    for grade in grades:
        for key in grade.keys:
            by_key.setdefault(key, []).append(grade)
        for name in {folded(grade.name), _words(grade.name), _words(grade.submission)} - {""}:
            by_name.setdefault(name, []).append(grade)
    rows = [row for i, row in enumerate(book.rows) if i and i not in special]
    claimed: dict[str, list[list[str]]] = {}
    matched: set[str] = set()  # submissions that somebody in the gradebook fits, or may
    found: list[tuple[list[str], Grade]] = []
    for row in rows:
        grade, several = _match([_number(book.at(row, name)) for name in ids], names_of(row), by_key, by_name)
        shown = next((name for name in names_of(row) if name), "") or ", ".join(row[:2])
        if several:
            matched |= several
            done.ambiguous.append(f"{shown} fits {' and '.join(sorted(several))}")
        elif grade is None:
            done.without_grade.append(shown)
        else:
            matched.add(grade.submission)
            found.append((row, grade))
            claimed.setdefault(grade.submission, []).append(row)
    for row, grade in found:
        if len(claimed[grade.submission]) > 1:
            continue
        row.extend([""] * (at + 1 - len(row)))
        row[at] = str(points(grade.final * possible / grade.final_max if scale and grade.final_max else grade.final))
        done.filled += 1
    done.ambiguous += [f"{name} fits {len(rows)} rows" for name, rows in claimed.items() if len(rows) > 1]
    done.not_in_gradebook = [grade.submission for grade in grades if grade.submission not in matched]
    return done


def _match(ids, names, by_key, by_name) -> tuple[Grade | None, set[str]]:
    """The one grade that fits, or the names of the several that do. An id outweighs a name."""
    for keys, known in ((ids, by_key), (names, by_name)):
        for key in keys:
            fitting = {grade.submission: grade for form in {folded(key), _words(key)} - {""} for grade in known.get(form, [])}
            if len(fitting) == 1:
                return next(iter(fitting.values())), set()
            if fitting:
                return None, set(fitting)
    return None, set()


def _number(text: str) -> str:
    """`Participant 4711` is known as 4711."""
    found = re.fullmatch(r"participant\s+(\d+)", text.strip(), re.IGNORECASE)
    return found[1] if found else text


def _words(name: str) -> str:
    """A name's words in alphabetical order: `Lovelace, Ada`, `ada_lovelace` and `Ada Lovelace` are one person here."""
    return " ".join(sorted(re.findall(r"[^\W\d_]+", name.casefold())))


def _turned(name: str) -> str:
    last, comma, first = name.partition(",")
    return f"{first.strip()} {last.strip()}" if comma else name


def _moodle_names(book: _Book, row: list[str]) -> list[str]:
    first, last = book.at(row, "first name"), book.at(row, "last name") or book.at(row, "surname")
    return [name for name in (book.at(row, "full name"), f"{first} {last}".strip()) if name]


def _only(row: list[str], kept: list[int]) -> list[str]:
    return [row[i] if i < len(row) else "" for i in kept]
