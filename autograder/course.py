"""The course as it lies on disk: lessons, exercises, points and prerequisites, from `lessons/*` and the check modules.

Reading it imports NumPy at most, so every command that only lists or selects starts at once.
"""

from __future__ import annotations

import importlib
import os
import re
import tomllib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from autograder.checks import Check, checks_in

TRACKS = ("toy", "full")


class CourseError(ValueError):
    """One line for a person: what was expected, what came, what to do."""


@dataclass(frozen=True, eq=False)
class Exercise:
    """One thing to write. `points` is the sum over its checks, `needs` names exercises of the same lesson to do first."""

    id: str  # "toy/word_agent.py::Baseline.update"
    name: str  # "Baseline.update"
    lesson: Lesson = field(repr=False)
    points: float
    section: str  # of lesson.md: "3.4"
    needs: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()

    @property
    def checks(self) -> list[Check]:
        return [check for check in self.lesson.checks if check.exercise == self.name]

    @property
    def anchor(self) -> str:
        return self.lesson.anchor(self.section)


@dataclass(frozen=True, eq=False)
class Lesson:
    """A folder of lessons/. Its checks are imported when they are first asked for."""

    number: int
    slug: str  # "word-agent"
    title: str
    file: str  # "toy/word_agent.py"
    minutes: int
    summary: str
    needs: tuple[int, ...]
    folder: Path
    exercise_needs: dict[str, tuple[str, ...]] = field(repr=False)
    runs: dict[str, str] = field(default_factory=dict, repr=False)  # what `climb run` can train here: module by name
    silent_bug: bool = False  # a complete, running file with one planted error, beside the lesson's own file

    @property
    def module(self) -> str:
        return self.file.removesuffix(".py").replace("/", ".")

    @property
    def track(self) -> str:
        return self.file.split("/")[0]

    @property
    def order(self) -> tuple[int, int, bool]:
        """Where it stands in the course: the whole toy track comes before the full one, a silent bug after its lesson."""
        return (TRACKS.index(self.track), self.number, self.silent_bug)

    @property
    def points(self) -> float:
        return sum(exercise.points for exercise in self.exercises)

    @cached_property
    def checks(self) -> list[Check]:
        name = "autograder.checks." + self.module
        try:
            return checks_in(importlib.import_module(name))
        except ModuleNotFoundError as error:
            if not f"{name}.".startswith(f"{error.name}."):  # something the check module itself imports
                raise
            return []  # a lesson to read, without exercises

    @cached_property
    def exercises(self) -> list[Exercise]:
        """In the order of the check module, each once. Raises CourseError where `exercise_needs` names no exercise."""
        first: dict[str, Check] = {}
        for check in self.checks:
            first.setdefault(check.exercise, check)
        for name in [*self.exercise_needs, *(n for needs in self.exercise_needs.values() for n in needs)]:
            if self.checks and name not in first:
                raise CourseError(f"{self._shown('lesson.toml')}: [exercise_needs] names `{name}`, which no check asks for")
        return [
            Exercise(
                id=f"{self.file}::{name}",
                name=name,
                lesson=self,
                points=sum(check.points for check in self.checks if check.exercise == name),
                section=check.section,
                needs=self.exercise_needs.get(name, ()),
                hints=self.hints.get(name, ()),
            )
            for name, check in first.items()
        ]

    @cached_property
    def hints(self) -> dict[str, tuple[str, ...]]:
        """The levels of help by exercise name, as hints.toml has them."""
        path = self.folder / "hints.toml"
        if not path.is_file():
            return {}
        entries = _toml(path, self._shown("hints.toml"))
        try:
            return {name: tuple(map(str, entry["levels"])) for name, entry in entries.items()}
        except (TypeError, KeyError):
            raise CourseError(f'{self._shown("hints.toml")}: each entry is `["exercise"]` with `levels = [...]`') from None

    @cached_property
    def sections(self) -> dict[str, str]:
        """The anchor of every numbered section of lesson.md, as GitHub names it: {"3.4": "34-the-baseline"}."""
        path = self.folder / "lesson.md"
        return numbered_anchors(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def anchor(self, section: str) -> str:
        """Where to read on: "lessons/03-word-agent/lesson.md#34-the-baseline"; the page itself if it has no such section."""
        found = self.sections.get(section)
        return f"{self._shown('lesson.md')}#{found}" if found else self._shown("lesson.md")

    def _shown(self, name: str) -> str:
        return f"lessons/{self.folder.name}/{name}"


@dataclass(frozen=True, eq=False)
class Course:
    """The lessons of one root folder, in the order they are taught."""

    root: Path
    lessons: list[Lesson]

    @cached_property
    def exercises(self) -> list[Exercise]:
        return [exercise for lesson in self.lessons for exercise in lesson.exercises]

    def earlier(self, lesson: Lesson) -> list[Lesson]:
        """The lessons taught before this one."""
        return [other for other in self.lessons if other.order < lesson.order]

    def lesson_of(self, module: str) -> Lesson | None:
        """The lesson whose file is this module, "toy.word_agent"."""
        return next((lesson for lesson in self.lessons if lesson.module == module), None)

    def select(self, words: list[str] | tuple[str, ...] = (), cwd: Path | None = None) -> list[Exercise]:
        """The exercises meant by the words of a command line, in course order, each once; all of them without a word.

        A word is a lesson (`3`, `03-word-agent`, `word_agent`, `toy/word_agent.py`), a track (`toy`), an exercise
        (`Baseline.update`, `update` where there is one, `Baseline` for all of a class) or both (`toy/word_agent.py::Baseline`).
        Raises CourseError for a word that means nothing here, or two things.
        """
        if not words:
            return self.exercises
        meant = {exercise.id for word in words for exercise in self._meant(word, cwd or Path.cwd())}
        return [exercise for exercise in self.exercises if exercise.id in meant]

    def _meant(self, word: str, cwd: Path) -> list[Exercise]:
        left, colons, name = word.partition("::")
        lessons = self._lessons_called(left, cwd)
        if colons:
            if not lessons:
                raise CourseError(f"no lesson or file `{left}` here{self._close(left, self._lesson_words())}")
            within = [exercise for lesson in lessons for exercise in lesson.exercises]
            return self._exercises_called(name, within, f" in {', '.join(lesson.file for lesson in lessons)}")
        if len({lesson.folder for lesson in lessons}) > 1 and left.strip("/") not in TRACKS:
            files = {lesson.folder: lesson.file for lesson in reversed(lessons)}  # of a lesson and its silent bug, the lesson's own
            could = " or ".join(sorted(files.values(), key=lambda file: TRACKS.index(file.split("/")[0])))
            raise CourseError(f"`{word}` could be {could}: write the one you mean")
        found = [exercise for lesson in lessons for exercise in lesson.exercises]
        if lessons and not found:
            raise CourseError(f"lesson {lessons[0].number} ({lessons[0].title}) has no exercises")
        return found or self._exercises_called(word, self.exercises, "")

    def _lessons_called(self, word: str, cwd: Path) -> list[Lesson]:
        plain = word.strip().rstrip("/").removeprefix("./")
        if plain in TRACKS:
            return [lesson for lesson in self.lessons if lesson.track == plain]
        place = Path(os.path.abspath(cwd / plain)) if plain else self.root
        found = []
        for lesson in self.lessons:
            stem = lesson.module.split(".")[-1]
            folder = lesson.folder.name
            names = {lesson.slug, folder, stem, stem + ".py", lesson.file, lesson.module, f"lessons/{folder}"}
            here = place == self.root / lesson.file
            inside = place == lesson.folder or lesson.folder in place.parents
            if inside or (plain.isdecimal() and int(plain) == lesson.number) or plain.lower() in names or here:
                if here or plain in (lesson.file, lesson.module):
                    return [lesson]
                found.append(lesson)
        return found

    def _exercises_called(self, word: str, among: list[Exercise], where: str) -> list[Exercise]:
        folded = word.lower()
        for found in (
            [e for e in among if e.name == word],
            [e for e in among if e.name.lower() == folded],
            [e for e in among if e.name.lower().startswith(folded + ".")],
            [e for e in among if e.name.lower().endswith("." + folded)],
        ):
            files = {e.lesson.file for e in found}
            one_class = found and found[0].name.lower().startswith(folded + ".") and len(files) == 1
            if len(found) == 1 or one_class:
                return found
            if found:
                raise CourseError(f"`{word}` could be {' or '.join(e.id for e in found)}: write the one you mean")
        names = [e.name for e in among] + ([] if where else self._lesson_words())
        raise CourseError(f"no exercise, lesson or file `{word}`{where or ' here'}{self._close(word, names)}")

    def _lesson_words(self) -> list[str]:
        return [word for lesson in self.lessons for word in (lesson.file, lesson.slug, lesson.folder.name)]

    @staticmethod
    def _close(word: str, names: list[str]) -> str:
        import difflib

        spelt = {name.lower(): name for name in names}
        close = [f"`{spelt[name]}`" for name in difflib.get_close_matches(word.lower(), spelt, n=3, cutoff=0.6)]
        return f"; did you mean {' or '.join(close)}?" if close else "; `climb progress` lists the lessons, `climb check 1` what is in one"


def find_root(start: Path | str | None = None) -> Path:
    """The nearest folder from `start` (the working directory) upwards that holds lessons/ and toy/. Raises CourseError."""
    begin = Path(start or Path.cwd()).resolve()
    for folder in (begin, *begin.parents):
        if (folder / "lessons").is_dir() and (folder / "toy").is_dir():
            return folder
    raise CourseError(f"{begin} is not inside the course (a folder that holds lessons/ and toy/): cd into it first")


def load(start: Path | str | None = None) -> Course:
    """The course around `start`. Folders of lessons/ without a lesson.toml are passed over. Raises CourseError."""
    root = find_root(start)
    folders = [folder for folder in sorted((root / "lessons").iterdir()) if (folder / "lesson.toml").is_file()]
    lessons = [lesson for folder in folders for lesson in _lessons(folder)]
    numbers = [lesson.number for lesson in lessons if not lesson.silent_bug]
    for number in numbers:
        if numbers.count(number) > 1:
            raise CourseError(f"lessons/: two lessons have the number {number}")
    return Course(root, sorted(lessons, key=lambda lesson: lesson.order))


def _lessons(folder: Path) -> list[Lesson]:
    """The lesson of a folder, and its silent bug (`bug = "toy/kl_bug.py"`) as one of its own: same number, same text, its own file."""
    shown = f"lessons/{folder.name}/lesson.toml"
    entry = _toml(folder / "lesson.toml", shown)
    missing = [name for name in ("number", "title", "file", "minutes", "summary") if name not in entry]
    if missing:
        raise CourseError(f"{shown}: `{missing[0]}` is missing")
    for name in ("file", "bug"):
        if name in entry and not re.fullmatch(r"(toy|full)/\w+\.py", str(entry[name])):
            raise CourseError(f'{shown}: expected {name} = "toy/name.py" or "full/name.py", received {entry[name]!r}')
    lesson = Lesson(
        number=int(entry["number"]),
        slug=folder.name.split("-", 1)[-1],
        title=str(entry["title"]),
        file=entry["file"],
        minutes=int(entry["minutes"]),
        summary=str(entry["summary"]),
        needs=tuple(map(int, entry.get("needs", ()))),
        folder=folder,
        exercise_needs={name: tuple(needs) for name, needs in entry.get("exercise_needs", {}).items()},
        runs=dict(entry.get("runs", {})),
    )
    if "bug" not in entry:
        return [lesson]
    summary = "a complete file that runs and is wrong: find the one error, and mend it."
    title = f"{lesson.title}: the silent bug"
    bug = replace(lesson, file=entry["bug"], title=title, minutes=20, summary=summary, exercise_needs={}, silent_bug=True)
    return [lesson, bug]


def _toml(path: Path, shown: str) -> dict:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CourseError(f"{shown}: not readable as TOML ({error})") from None


def numbered_anchors(markdown: str) -> dict[str, str]:
    """{section number: anchor} of a Markdown text; a heading that occurs twice gets -1, -2, as GitHub does it."""
    found: dict[str, str] = {}
    seen: dict[str, int] = {}
    fence = ""
    for line in markdown.splitlines():
        mark = re.match(r" {0,3}(```+|~~~+)", line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        heading = None if fence else re.match(r" {0,3}#{1,6}\s+(.*?)\s*#*\s*$", line)
        if not heading:
            continue
        anchor = github_anchor(heading[1])
        times = seen[anchor] = seen.get(anchor, -1) + 1
        number = re.match(r"(\d+(?:\.\d+)*)\b", heading[1])
        if number:
            found.setdefault(number[1], f"{anchor}-{times}" if times else anchor)
    return found


def github_anchor(heading: str) -> str:
    """What GitHub links a heading by: its text in lower case, punctuation gone, spaces as hyphens."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"(?<!\w)_([^_]+)_(?!\w)", r"\1", text)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
