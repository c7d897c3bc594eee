"""Which of a student's files is which exercise file, which are helpers, and what is left over."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import dataclass, field, replace
from datetime import datetime

from autograder.course import TRACKS, Course, Lesson

from .model import Problem, Submission, Unreadable
from .text import MAX_NOTEBOOK, MAX_SOURCE, defined_names, source_of
from .unpack import MAX_BYTES, MAX_ENTRIES, Entry, list_zip, mib

MAX_HELPERS = 32
MAX_PROBLEMS = 20  # lines a person reads; a hostile zip can have thousands
ZIP_DEPTH = 2  # zips within a zip: an export that holds each student's zip
OTHER_ARCHIVES = (".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz")
SET_ASIDE = {"autograder", "lessons", "tests", "solutions", "build", "dist"}  # of the course itself, in a zip of the whole folder
LIBRARIES = {"torch", "numpy", "scipy", "matplotlib", "transformers", "datasets", "safetensors", "jaxtyping", "accelerate"}
TAKEN = {*sys.stdlib_module_names, *LIBRARIES, *TRACKS, "autograder", "solutions"}  # names a helper may not shadow


@dataclass
class _Work:
    """One student's entries while they are being sorted."""

    course: Course
    submission: Submission
    problems: list[Problem] = field(default_factory=list)
    sources: dict[tuple[str, ...], str | Unreadable] = field(default_factory=dict)
    said: dict[tuple[str, ...], list[str]] = field(default_factory=dict)  # what reading a file had to leave out of it
    budget: int = MAX_BYTES  # bytes still to be read; the last file may exceed it by its own limit

    def read(self, entry: Entry, limit: int) -> bytes:
        """A file's bytes, counted against what one submission may hold. Raises Unreadable."""
        if self.budget <= 0:
            raise Unreadable("refused", f"was not read: the submission holds more than {mib(MAX_BYTES)}")
        data = entry.read(limit)
        self.budget -= len(data)
        return data

    def source(self, entry: Entry) -> str | Unreadable:
        """The text of a file, or why there is none; read once."""
        if entry.path not in self.sources:
            try:
                limit = MAX_NOTEBOOK if entry.path[-1].lower().endswith(".ipynb") else MAX_SOURCE
                said = self.said.setdefault(entry.path, [])
                self.sources[entry.path] = source_of(entry.path[-1], self.read(entry, limit), said)
            except Unreadable as error:
                self.sources[entry.path] = error
        return self.sources[entry.path]

    def names(self, entry: Entry) -> set[str]:
        source = self.source(entry)
        return set() if isinstance(source, Unreadable) else defined_names(source)


def sorted_out(name: str, entries: list[Entry], course: Course, problems: list[Problem], zips: int = 0) -> Submission:
    """The submission made of these entries. `zips`: how many zips they came out of; `problems`: those met on the way."""
    work = _Work(course, Submission(name), list(problems))
    files = _code_files(entries, work, zips)
    claims = _claims(files, work)
    for module in [lesson.module for lesson in course.lessons if lesson.module in claims]:
        _take(module, claims[module], work)
    chosen = {entry.path for entries in claims.values() for entry in entries}
    _take_helpers([entry for entry in files if entry.path not in chosen], claims, work)
    work.submission.problems = _told(work)
    return work.submission


def _told(work: _Work) -> list[Problem]:
    """The problems as they are reported: those that cost an exercise first, and not more than a person reads."""
    name, files, course = work.submission.name, work.submission.files, work.course
    costly, others = [], []
    for problem in work.problems:
        if not problem.module and problem.file.lower().endswith((".py", ".ipynb")):  # refused before it was looked at
            lessons = lessons_by_name(tuple(problem.file.split("/")), course)
            if len(lessons) == 1 and lessons[0].module not in files:
                problem = replace(problem, module=lessons[0].module)
        (costly if problem.module else others).append(problem)
    if not files and not costly and not others:
        example = course.lessons[0].file if course.lessons else "toy/name.py"
        costly.append(Problem(name, "missing", f"holds no exercise file of the course (such as {example})"))
    told = costly + others
    more = len(told) - MAX_PROBLEMS
    return told[:MAX_PROBLEMS] + ([Problem(name, "refused", f"has {more} more problems like these")] if more > 0 else [])


def _code_files(entries: list[Entry], work: _Work, zips: int) -> list[Entry]:
    """The .py and .ipynb files, those inside zips too."""
    found, waiting = [], [(entry, zips) for entry in entries]
    while waiting:
        entry, depth = waiting.pop(0)
        name = entry.path[-1].lower()
        if entry.read is None:
            continue
        if name.endswith((".py", ".ipynb")):
            found.append(entry)
        elif name.endswith(".toml"):
            _take_answers(entry, work)
        elif name.endswith(OTHER_ARCHIVES):
            work.problems.append(Problem(entry.shown, "refused", "is an archive of another kind: send a zip"))
        elif name.endswith(".zip") and depth >= ZIP_DEPTH:
            work.problems.append(Problem(entry.shown, "refused", "is a zip in a zip in a zip: send one zip"))
        elif name.endswith(".zip"):
            try:
                inside = list_zip(io.BytesIO(work.read(entry, MAX_BYTES)), work.problems, above=entry.path)
            except Unreadable as error:
                work.problems.append(Problem(entry.shown, error.status, error.message))
                continue
            if len(found) + len(waiting) + len(inside) > MAX_ENTRIES:
                work.problems.append(Problem(entry.shown, "refused", f"makes more than {MAX_ENTRIES} files in all"))
                continue
            waiting += [(one, depth + 1) for one in inside]
    return found


def _take_answers(entry: Entry, work: _Work) -> None:
    """Keeps the answers file of a lesson, `02-policy-gradient.toml`; the first of several, as with two copies of one file."""
    name = re.sub(r"( ?\(\d+\)|-\d+)$", "", entry.path[-1][: -len(".toml")].lower())
    if name not in {lesson.folder.name for lesson in work.course.lessons} or name in work.submission.answers:
        return
    text = work.source(entry)
    if isinstance(text, Unreadable):
        work.problems.append(Problem(entry.shown, text.status, text.message))
    else:
        work.submission.answers[name] = text
        work.submission.changed = _later(work.submission.changed, entry.when)


def _claims(files: list[Entry], work: _Work) -> dict[str, list[Entry]]:
    """The entries that may stand for each exercise module, the likeliest first: by name, else by what they define."""
    claims: dict[str, list[Entry]] = {}
    nameless = []
    for entry in files:
        if "given" in entry.path[:-1] or "autograder" in entry.path[:-1]:
            continue
        lessons = lessons_by_name(entry.path, work.course)
        if len(lessons) > 1:
            lessons = _by_definitions(work.names(entry), lessons)
            if len(lessons) != 1:
                could = " or ".join(lesson.file for lesson in lessons_by_name(entry.path, work.course))
                work.problems.append(Problem(entry.shown, "error", f"could be {could}: put it into the folder it belongs to"))
                continue
        if lessons:
            claims.setdefault(lessons[0].module, []).append(entry)
        elif entry.path[-1].lower().endswith(".ipynb"):
            nameless.append(entry)
    if not claims:
        nameless = files
    for entry in nameless:
        if not set(entry.path[:-1]) & {*SET_ASIDE, "given"}:
            lessons = _by_definitions(work.names(entry), work.course.lessons)
            if len(lessons) == 1:
                claims.setdefault(lessons[0].module, []).append(entry)
            elif isinstance(problem := work.source(entry), Unreadable):
                work.problems.append(Problem(entry.shown, problem.status, problem.message))
    return {module: sorted(entries, key=_rank) for module, entries in claims.items()}


def lessons_by_name(path: tuple[str, ...], course: Course) -> list[Lesson]:
    """The lessons whose file a path names: `toy/word_agent.py`, `Word-Agent (1).ipynb`, `03-word-agent.ipynb`, `lesson3.py`."""
    stem = path[-1].rsplit(".", 1)[0].lower()
    cleaned = re.sub(r"( ?\(\d+\)|-\d+)$", "", stem)  # a browser's or an LMS's second copy
    named = [re.sub(r"[\s-]+", "_", re.sub(r"^(lesson)?[\s_-]*\d+[\s_-]+", "", name)) for name in (stem, cleaned)]
    lessons = [lesson for lesson in course.lessons if lesson.module.split(".")[1] in (stem, *named)]
    if not lessons and (numbered := re.fullmatch(r"(?:lesson|l)?[\s_-]*0*(\d{1,3})", cleaned)):
        lessons = [lesson for lesson in course.lessons if lesson.number == int(numbered[1]) and not lesson.silent_bug]
    if len(path) > 1 and path[-2] in TRACKS:
        lessons = [lesson for lesson in lessons if lesson.track == path[-2]]
    return lessons


def _by_definitions(names: set[str], lessons: list[Lesson]) -> list[Lesson]:
    """The lesson most of whose exercises are among these names; several where they tie, none without any."""
    hits = {}
    for lesson in lessons:
        hits[lesson.module] = len(names & {exercise.name.split(".")[0] for exercise in lesson.exercises})
    most = max(hits.values(), default=0)
    return [lesson for lesson in lessons if most and hits[lesson.module] == most]


def _rank(entry: Entry) -> tuple:
    """Smaller is likelier: the track's path before a bare name, Python before a notebook, the top before a deep folder."""
    parents = entry.path[:-1]
    in_track = bool(parents) and parents[-1] in TRACKS
    return (bool(set(parents) & SET_ASIDE), not in_track, entry.path[-1].lower().endswith(".ipynb"), len(parents))


def _take(module: str, entries: list[Entry], work: _Work) -> None:
    """Takes the likeliest entry for a module and says so of the others, unless they say the same."""
    best, source = entries[0], work.source(entries[0])
    file = module.replace(".", "/") + ".py"
    for other in entries[1:]:
        if set(other.path[:-1]) & SET_ASIDE or work.source(other) == source:
            continue
        if _rank(other) == _rank(best):
            message = f"differs from {other.shown}, and either could be {file}: send one of them"
            work.problems.append(Problem(best.shown, "error", message, module))
            return
        work.problems.append(Problem(other.shown, "refused", f"was not looked at: {best.shown} is taken for {file}"))
    if isinstance(source, Unreadable):
        work.problems.append(Problem(best.shown, source.status, source.message, module))
    else:
        work.submission.files[module] = source
        work.submission.notes += [f"{best.shown}: {said}" for said in work.said.get(best.path, ())]
        work.submission.changed = _later(work.submission.changed, best.when)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    """The later of two times; one without a zone is compared as it reads."""
    return max((time for time in (one, other) if time), key=lambda time: time.replace(tzinfo=None), default=None)


def _take_helpers(others: list[Entry], claims: dict[str, list[Entry]], work: _Work) -> None:
    """Other .py files beside the exercise files, under the names by which these can import them."""
    tracks_in: dict[tuple[str, ...], set[str]] = {}  # folder -> tracks whose package a file there belongs to
    for module in work.submission.files:
        parents = claims[module][0].path[:-1]
        tracks_in.setdefault(parents, set()).add(module.split(".")[0])
        if parents and parents[-1] in TRACKS:
            tracks_in.setdefault(parents[:-1], set())
    beside = [entry for entry in others if entry.path[:-1] in tracks_in and _can_be_imported(entry)]
    for entry in beside[:MAX_HELPERS]:
        parents, stem = entry.path[:-1], entry.path[-1].removesuffix(".py")
        names = [f"{track}.{stem}" for track in sorted(tracks_in[parents])]
        if not (parents and parents[-1] in TRACKS):
            if stem in TAKEN:
                imported = re.compile(
                    rf"^[ \t]*(from|import)[ \t]+{stem}\b", re.MULTILINE
                )  # no \s: line ends would make it quadratic
                if any(map(imported.search, work.submission.files.values())):
                    work.problems.append(Problem(entry.shown, "refused", f"has the name of a library (`{stem}`): rename it"))
                continue
            names.append(stem)
        source = work.source(entry)
        if isinstance(source, Unreadable):
            work.problems.append(Problem(entry.shown, source.status, source.message))
        else:
            work.submission.helpers.update(dict.fromkeys(names, source))
    if len(beside) > MAX_HELPERS:
        first = beside[MAX_HELPERS]
        more = len(beside) - MAX_HELPERS - 1
        message = f"is left out, and so are {more} more: at most {MAX_HELPERS} files may lie beside the exercise files"
        work.problems.append(Problem(first.shown, "refused", message))


def _can_be_imported(entry: Entry) -> bool:
    stem = entry.path[-1].removesuffix(".py")
    short = len(stem.encode()) <= 200  # it becomes the name of a file beside the results
    return entry.path[-1].endswith(".py") and short and stem.isidentifier() and stem not in ("__init__", "setup", "conftest")
