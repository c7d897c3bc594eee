"""One student's submission or a whole class's, told apart by how the files lie; names that can be those of output folders."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from autograder.course import TRACKS, Course

from .model import Problem, Submission, SubmissionError, Unreadable
from .sorting import OTHER_ARCHIVES, lessons_by_name, sorted_out
from .unpack import MAX_BATCH_ENTRIES, MAX_ENTRIES, Entry, ignored, list_folder, list_zip, printable, reader

# What learning systems put into names. Canvas: name_LATE_user_submission_file; Moodle: name_id_assignsubmission_file.
_CANVAS = re.compile(r"(?P<student>[^_]+(?:_LATE)?_\d+)_\d+_(?P<file>.+)")
_MOODLE = re.compile(r"_assignsubmission_\w*$")
_PYTHON = (".py", ".ipynb")
_SENT = (*_PYTHON, ".zip", *OTHER_ARCHIVES)


@dataclass
class _Group:
    """What is taken for one student's."""

    name: str
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def has_code(self) -> bool:
        return any(entry.read and entry.path[-1].lower().endswith((*_PYTHON, ".zip")) for entry in self.entries)


def read_submissions(path: Path | str, course: Course) -> list[Submission]:
    """All submissions at `path`, by name: a folder or zip of one student or of many, a single .py or .ipynb.

    It is one student's if exercise files lie at its top or in toy/ or full/ there; else each folder, zip or Python file in
    it is a student's. A folder that is alone is looked into. Raises SubmissionError if there is nothing of the kind.
    """
    path = _existing(path)
    if path.suffix.lower() == ".zip" and path.is_file():
        groups, zips = _in_zip(path, course), 1
    else:
        groups, zips = _in_folder(path, course) if path.is_dir() else [_one(path)], 0
    if not groups:
        raise SubmissionError(f"{path}: expected exercise files, or a folder, zip or file for each student, but there is none")
    found, taken = [], set()
    for group in sorted(groups, key=lambda group: group.name.casefold()):
        name = safe_name(group.name, taken)
        taken.add(name.casefold())
        found.append(_submission(name, group, course, zips))
    return found


def read_submission(path: Path | str, course: Course) -> Submission:
    """One student's submission, however its files are laid out. Raises SubmissionError if there is nothing at `path`."""
    path = _existing(path)
    group = _one(path)
    return _submission(safe_name(group.name), group, course, int(path.is_file() and path.suffix.lower() == ".zip"))


def safe_name(name: str, taken: set[str] | frozenset[str] = frozenset()) -> str:
    """`name` as the name of an output folder on any system: letters, digits, `.`, `_`, `-`; none of `taken` (case folded)."""
    text = unicodedata.normalize("NFC", printable(_MOODLE.sub("", name)))
    text = re.sub(r"[^\w.-]+", "_", text).strip("._-")[:80].encode()[:200].decode(errors="ignore").rstrip(".") or "unnamed"
    if re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", text.lower()):  # devices on Windows
        text = "_" + text
    unique, count = text, 1
    while unique.casefold() in taken:
        count += 1
        unique = f"{text}-{count}"
    return unique


def _submission(name: str, group: _Group, course: Course, zips: int) -> Submission:
    if len(group.entries) > MAX_ENTRIES:
        message = f"holds more than {MAX_ENTRIES} files: send the exercise files alone"
        return Submission(name, problems=[Problem(name, "refused", message)])
    return sorted_out(name, group.entries, course, group.problems, zips)


def _existing(path: Path | str) -> Path:
    path = Path(path)
    if not path.exists():
        raise SubmissionError(f"{path}: there is no such file or folder")
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() in (*_PYTHON, ".zip")):
        raise SubmissionError(f"{path}: expected a folder, a .zip, a .py or an .ipynb")
    return path.resolve()  # the instructor may name a link; links inside are not followed


def _one(path: Path) -> _Group:
    """All that lies at a path, as one student's."""
    group = _Group(path.name if path.is_dir() else path.stem)
    try:
        if path.is_dir():
            group.entries = list_folder(path, group.problems)
        elif path.suffix.lower() == ".zip":
            group.entries = list_zip(path.open("rb"), group.problems, limit=MAX_BATCH_ENTRIES)  # closed with its last entry
        else:
            group.entries = [Entry((printable(path.name),), reader(path.parent, (path.name,)))]
    except Unreadable as error:
        group.problems = [Problem(printable(path.name), error.status, error.message)]
    except OSError as error:
        raise SubmissionError(f"{path}: cannot be opened ({error.strerror})") from None
    return group


def _in_folder(folder: Path, course: Course) -> list[_Group]:
    """The students in a folder. Each one's files are listed apart, so that one who sends a million harms no other."""
    wrapped = False
    while True:
        tops = _children(folder)
        inner = [file for place in tops if place.name in TRACKS and _is_folder(place) for file in _children(place)]
        if any(_names_exercise(place.relative_to(folder).parts, course) for place in [*tops, *inner]):
            return [_one(folder)]
        if len(tops) != 1 or not _is_folder(tops[0]):
            break
        folder, wrapped = tops[0], True
    groups: dict[str, _Group] = {}
    for place in tops:
        name = printable(place.name)
        if os.path.islink(place):
            groups[name] = _Group(name)
            list_folder(folder, groups[name].problems, only=place.name)
        elif _is_folder(place):
            groups[name] = _one(place)
            groups[name].name = name
        else:
            _add_loose(Entry((name,), reader(folder, (place.name,))), groups)
    if wrapped and sum(group.has_code for group in groups.values()) < 2:  # one student's, with folders of their own
        return [_one(folder)]
    return list(groups.values())


def _children(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder)) if not ignored(name)]
    except OSError as error:
        raise SubmissionError(f"{folder}: cannot be opened ({error.strerror})") from None


def _is_folder(place: Path) -> bool:
    return os.path.isdir(place) and not os.path.islink(place)


def _in_zip(path: Path, course: Course) -> list[_Group]:
    """The students in a zip, told apart by its names."""
    whole = _one(path)
    entries, problems = whole.entries, whole.problems
    wrapped = False
    while not any(_names_exercise(entry.path, course) for entry in entries if entry.read):
        tops = {entry.path[0] for entry in entries}
        if len(tops) != 1 or all(len(entry.path) == 1 for entry in entries):
            break
        start, wrapped = tops.pop() + "/", True
        entries = [Entry(entry.path[1:], entry.read) for entry in entries if len(entry.path) > 1]
        problems = [Problem(problem.file.removeprefix(start), problem.status, problem.message) for problem in problems]
    else:
        return [_Group(whole.name, entries, problems)]
    groups: dict[str, _Group] = {}
    for entry in entries:
        if entry.read and len(entry.path) == 1:
            _add_loose(entry, groups)
            continue
        group = groups.setdefault(entry.path[0], _Group(entry.path[0]))
        if len(entry.path) > 1:
            group.entries.append(Entry(entry.path[1:], entry.read))
    if not groups or (wrapped and sum(group.has_code for group in groups.values()) < 2):
        return [_Group(whole.name, entries, problems)] if entries or problems else []
    for problem in problems:
        student, slash, file = problem.file.partition("/")
        group = groups.setdefault(student, _Group(student))
        group.problems.append(Problem(file if slash else problem.file, problem.status, problem.message))
    return list(groups.values())


def _add_loose(entry: Entry, groups: dict[str, _Group]) -> None:
    """A file at the top of a class's folder: the student's whose name Canvas put before it, else a student's only file."""
    name = entry.path[0]
    canvas = _CANVAS.fullmatch(name)
    if not name.lower().endswith(_SENT):
        return  # a roster, a page that the system wrote
    if canvas:
        group = groups.setdefault(canvas["student"], _Group(canvas["student"]))
        group.entries.append(Entry((canvas["file"],), entry.read))
    else:
        groups[name] = _Group(name.rsplit(".", 1)[0], [entry])


def _names_exercise(parts: tuple[str, ...], course: Course) -> bool:
    """Whether a path at the top, or in toy/ or full/ there, is an exercise file's."""
    bare = len(parts) == 1 or (len(parts) == 2 and parts[0] in TRACKS)
    return bare and parts[-1].lower().endswith(_PYTHON) and bool(lessons_by_name(parts, course))
