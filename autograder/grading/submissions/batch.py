"""One student's submission or a whole class's, told apart by how the files lie; names that can be those of output folders."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path

from autograder.course import TRACKS, Course

from .lms import MAX_METADATA, METADATA, Sender, attempt_order, gradescope, sender_of_file, sender_of_folder
from .model import Problem, Submission, SubmissionError, Unreadable
from .sorting import OTHER_ARCHIVES, lessons_by_name, sorted_out
from .unpack import MAX_BATCH_ENTRIES, MAX_ENTRIES, Entry, ignored, list_folder, list_zip, printable, reader, time_of

_MOODLE = re.compile(r"_assignsubmission_\w*?_?$")
_PYTHON = (".py", ".ipynb")
_SENT = (*_PYTHON, ".zip", *OTHER_ARCHIVES)


@dataclass
class _Group:
    """What is taken for one student's, or for one attempt of theirs."""

    name: str
    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sender: Sender | None = None  # what the name says, if it says more than itself
    order: tuple | None = None  # its place among the attempts of one student
    newest: dict[str, tuple] = field(default_factory=dict)  # a file's name without the copy's number -> which copy was taken

    @property
    def has_code(self) -> bool:
        return any(entry.read and entry.path[-1].lower().endswith((*_PYTHON, ".zip")) for entry in self.entries)


def read_submissions(path: Path | str, course: Course, attempts: str = "latest") -> list[Submission]:
    """All submissions at `path`, by name: a folder or zip of one student or of many, a single .py or .ipynb.

    It is one student's if exercise files lie at its top or in toy/ or full/ there; else each folder, zip or Python file in
    it is a student's. A folder or a zip that is alone is looked into. Of several attempts of one student the latest is taken;
    with `attempts="best"` the earlier ones are its `others`. Raises SubmissionError if there is nothing of the kind.
    """
    path = _existing(path)
    if path.is_dir():
        groups, zips = _in_folder(path, course), 0
    elif path.suffix.lower() == ".zip":
        groups = _in_zip(path, course)
        zips = int(len(groups) < 2)  # of a class's zip students know nothing: theirs may hold zips as deep as ever
    else:
        groups, zips = [_one(path)], 0
    if not groups:
        raise SubmissionError(f"{path}: expected exercise files, or a folder, zip or file for each student, but there is none")
    found, taken = [], set()
    for tries in sorted(by_student(groups), key=lambda tries: tries[-1].name.casefold()):
        name = safe_name(tries[-1].name, taken)
        taken.add(name.casefold())
        latest = _submission(name, tries[-1], course, zips)
        if len(tries) > 1 and attempts == "best":
            latest.others = [_submission(name, group, course, zips) for group in tries[:-1]]
        elif len(tries) > 1:
            latest.notes.append(f"{len(tries)} attempts were handed in: the latest is graded")
        found.append(latest)
    return found


def by_student(groups: list[_Group]) -> list[list[_Group]]:
    """The groups of each student, the latest attempt last. Only a name that says so makes two groups one student's."""
    parts = [part for group in groups for part in _by_attempt_folder(group)]
    several = {safe_name(group.name).casefold() for group in parts if group.order is not None}
    tries: dict[str, list[_Group]] = {}
    for number, group in enumerate(parts):
        name = safe_name(group.name).casefold()
        tries.setdefault(name if name in several else f"{name}/{number}", []).append(group)
    return [sorted(of_one, key=lambda group: group.order or ()) for of_one in tries.values()]


def _by_attempt_folder(group: _Group) -> list[_Group]:
    """A student's folder that holds nothing but folders such as `attempt 1` and `attempt 2`, taken apart."""
    tops = {entry.path[0] for entry in group.entries}
    orders = {top: attempt_order(top) for top in tops}
    loose = any(len(entry.path) == 1 and entry.read for entry in group.entries)
    if len(tops) < 2 or loose or None in orders.values():
        return [group]
    found = []
    for top in tops:
        entries = [
            Entry(entry.path[1:], entry.read, entry.when) for entry in group.entries if entry.path[0] == top and entry.path[1:]
        ]
        problems = [
            replace(problem, file=problem.file.removeprefix(top + "/"))
            for problem in group.problems
            if problem.file.startswith(top + "/") or "/" not in problem.file
        ]
        found.append(replace(group, entries=entries, problems=problems, order=(*(group.order or ()), *orders[top])))
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
    found = sorted_out(name, group.entries, course, group.problems, zips)
    found.notes = [*group.notes, *found.notes]
    if group.sender:
        found.ids, found.submitted = group.sender.ids, group.sender.when
        if found.submitted:
            found.submitted_from = "file name" if found.submitted.tzinfo is None else "Gradescope"
        if group.sender.late:
            found.notes.append("Canvas marks it as late")
    return found


def _existing(path: Path | str) -> Path:
    path = Path(path)
    if not path.exists():
        raise SubmissionError(f"{path}: there is no such file or folder")
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() in (*_PYTHON, ".zip")):
        raise SubmissionError(f"{path}: expected a folder, a .zip, a .py or an .ipynb")
    return path.resolve()  # the instructor may name a link; links inside are not followed


def _alone(folder: Path) -> Path | None:
    """The zip that is all there is in a folder, as when an export was saved into one of its own."""
    found = _children(folder)
    if len(found) != 1 or found[0].suffix.lower() != ".zip" or found[0].is_symlink() or not found[0].is_file():
        return None
    return found[0]


def _one(path: Path) -> _Group:
    """All that lies at a path, as one student's."""
    group = _Group(path.name if path.is_dir() else path.stem)
    try:
        if path.is_dir():
            group.entries = list_folder(path, group.problems)
        elif path.suffix.lower() == ".zip":
            group.entries = list_zip(path.open("rb"), group.problems, limit=MAX_BATCH_ENTRIES)  # closed with its last entry
        else:
            group.entries = [_file_entry(path)]
    except Unreadable as error:
        group.problems = [Problem(printable(path.name), error.status, error.message)]
    except OSError as error:
        raise SubmissionError(f"{path}: cannot be opened ({error.strerror})") from None
    return group


def _file_entry(path: Path) -> Entry:
    try:
        when = time_of(os.lstat(path))
    except OSError:
        when = None
    return Entry((printable(path.name),), reader(path.parent, (path.name,)), when)


def _in_folder(folder: Path, course: Course) -> list[_Group]:
    """The students in a folder. Each one's files are listed apart, so that one who sends a million harms no other."""
    wrapped = False
    if alone := _alone(folder):
        with contextlib.suppress(SubmissionError):  # a student's, then, and damaged
            if len(found := _in_zip(alone, course)) > 1:
                return found
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
            _named_after(groups[name], name)
        elif name != METADATA:
            _add_loose(_file_entry(place), groups, course)
    if wrapped and sum(group.has_code for group in groups.values()) < 2:  # one student's, with folders of their own
        return [_one(folder)]
    return _with_metadata(groups, _file_entry(folder / METADATA) if folder / METADATA in tops else None)


def _named_after(group: _Group, name: str) -> None:
    """Takes whose it is from the name that a learning system or a browser gave it."""
    if sender := sender_of_folder(name):
        group.name, group.sender = sender.who, sender
        group.order = None if sender.mixes else sender.order


def _with_metadata(groups: dict[str, _Group], metadata: Entry | None) -> list[_Group]:
    """Gradescope's folders under the names of those who sent them; a group's submission is each member's."""
    if metadata is None or metadata.read is None:
        return list(groups.values())
    try:
        senders = gradescope(metadata.read(MAX_METADATA))
    except (Unreadable, ValueError) as error:
        for group in groups.values():
            group.notes.append(f"{METADATA} {error}: it goes by the name of its folder")
        return list(groups.values())
    found = []
    for folder, group in groups.items():
        named = [replace(group, name=sender.who, sender=sender, order=sender.order) for sender in senders.get(folder, [])]
        found += named or [group]
    return found


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
    if not entries and problems and problems[0].file == printable(path.name):
        raise SubmissionError(f"{path}: {problems[0].message}")  # the zip itself: nothing of it can be read
    wrapped = False
    while not any(_names_exercise(entry.path, course) for entry in entries if entry.read):
        tops = {entry.path[0] for entry in entries}
        if len(tops) != 1 or all(len(entry.path) == 1 for entry in entries):
            break
        start, wrapped = tops.pop() + "/", True
        entries = [Entry(entry.path[1:], entry.read, entry.when) for entry in entries if len(entry.path) > 1]
        problems = [Problem(problem.file.removeprefix(start), problem.status, problem.message) for problem in problems]
    else:
        return [_Group(whole.name, entries, problems)]
    groups: dict[str, _Group] = {}
    metadata = next((entry for entry in entries if entry.path == (METADATA,)), None)
    for entry in entries:
        if entry.read and len(entry.path) == 1:
            if entry is not metadata:
                _add_loose(entry, groups, course)
            continue
        if entry.path[0] not in groups:
            groups[entry.path[0]] = _Group(entry.path[0])
            _named_after(groups[entry.path[0]], entry.path[0])
        if len(entry.path) > 1:
            groups[entry.path[0]].entries.append(Entry(entry.path[1:], entry.read, entry.when))
    if not groups or (wrapped and sum(group.has_code for group in groups.values()) < 2):
        return [_Group(whole.name, entries, problems)] if entries or problems else []
    for problem in problems:
        student, slash, file = problem.file.partition("/")
        group = groups.setdefault(student, _Group(student))
        group.problems.append(Problem(file if slash else problem.file, problem.status, problem.message))
    return _with_metadata(groups, metadata)


def _add_loose(entry: Entry, groups: dict[str, _Group], course: Course) -> None:
    """A file at the top of a class's folder: the student's whose name stands before its own, else a student's only file."""
    name = entry.path[0]
    if not name.lower().endswith(_SENT):
        return  # a roster, a page that the system wrote
    sender = sender_of_file(name, course)
    if sender is None:
        groups[name] = _Group(name.rsplit(".", 1)[0], [entry])
        return
    of_one = f"{sender.who}/{'' if sender.mixes else sender.order}"
    group = groups.setdefault(of_one, _Group(sender.who, sender=sender, order=None if sender.mixes else sender.order))
    if sender.late and not group.sender.late:
        group.sender = sender
    plain, copy = _without_copy(sender.file)
    place = (copy, sender.order)
    if plain in group.newest:  # handed in twice: the system keeps both, and numbers the second
        group.notes.append(f"of {plain}, handed in more than once, the latest is graded")
        if place <= group.newest[plain]:
            return
        group.entries = [other for other in group.entries if _without_copy(other.path[-1])[0] != plain]
    group.newest[plain] = place
    group.entries.append(Entry((sender.file,), entry.read, entry.when))


def _without_copy(name: str) -> tuple[str, int]:
    """`word_agent-2.py` as `word_agent.py` and 2."""
    stem, dot, ending = name.rpartition(".")
    found = re.fullmatch(r"(.+?)(?: ?\((\d{1,4})\)|-(\d{1,4}))", stem)
    return (found[1] + dot + ending, int(found[2] or found[3])) if found else (name, 0)


def _names_exercise(parts: tuple[str, ...], course: Course) -> bool:
    """Whether a path at the top, or in toy/ or full/ there, is an exercise file's."""
    bare = len(parts) == 1 or (len(parts) == 2 and parts[0] in TRACKS)
    return bare and parts[-1].lower().endswith(_PYTHON) and bool(lessons_by_name(parts, course))
