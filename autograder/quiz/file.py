"""A quiz file: what must stand in it, and a line for everything that does not (lessons/16-forecast/quizzes/format.md)."""

from __future__ import annotations

import difflib
import hashlib
import json
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

FORMAT, VERSION = "climb-quiz", 1
LARGEST_FILE = 4 << 20
"Bytes. The built-in quiz has a fortieth of that."
LONGEST_TEXT, MOST_TASKS = 4000, 500
TRUTHS = ("draw", "greedy", "share", "stated")
"How an answer was found: one stated draw, the likeliest output, more than half of the draws, or somebody says so."
TOP = {"format": True, "version": True, "title": True, "about": True, "models": True, "tasks": True,
       "example": False, "made": False}  # fmt: skip
TASK = {"id": True, "kind": True, "model": True, "prompt": True, "question": True, "answer": True, "truth": True,
        "wrote": False, "explanation": True}  # fmt: skip
TRUTH = {"by": True, "how": True, "seed": False, "draws": False, "yes": False}
"The fields of each object, and whether they must be there."


class QuizProblem(Exception):
    """What is wrong with a quiz file: `lines`, one for each error."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(lines[0] if len(lines) == 1 else f"{lines[0]} (and {len(lines) - 1} more)")
        self.lines = lines


@dataclass(frozen=True)
class Truth:
    """How a task's answer was found. draws, yes: of so many draws so many were a yes; None where nobody counted."""

    by: str
    how: str
    seed: int | None = None
    draws: int | None = None
    yes: int | None = None


@dataclass(frozen=True)
class Task:
    """One question about one model, with its answer: 1 yes, 0 no."""

    id: str
    kind: str
    model: str
    prompt: str
    question: str
    answer: int
    truth: Truth
    explanation: str
    wrote: str = ""


@dataclass(frozen=True)
class Quiz:
    """A quiz. models: name -> who that is, in words. example: its answers are invented, to show the format."""

    title: str
    about: str
    models: dict[str, str]
    tasks: list[Task]
    example: bool = False
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Tells this quiz from one whose questions or answers differ, in 16 letters."""
        asked = [[task.id, task.model, task.prompt, task.question, task.answer] for task in self.tasks]
        return hashlib.sha256(json.dumps(asked, ensure_ascii=True).encode()).hexdigest()[:16]


def read(path: Path) -> Quiz:
    """The quiz of a file. Raises QuizProblem with a line for every error, OSError where it cannot be opened."""
    return parsed(loaded(path))


def loaded(path: Path) -> Any:
    """What a file's JSON says. Raises QuizProblem if it is none, or too much of it."""
    if path.is_dir():
        raise QuizProblem([f"{path} is a folder; name a .json file"])
    if path.stat().st_size > LARGEST_FILE:
        raise QuizProblem([f"{path}: expected at most {LARGEST_FILE >> 20} MiB, received {path.stat().st_size / (1 << 20):.1f}"])
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except UnicodeDecodeError as error:
        raise QuizProblem([f"{path}: expected UTF-8, received byte {error.object[error.start]:#04x} at {error.start}"]) from None
    except json.JSONDecodeError as error:
        raise QuizProblem([f"{path}: is no JSON: {error.msg} in line {error.lineno}, column {error.colno}"]) from None
    except (ValueError, RecursionError) as error:
        raise QuizProblem([f"{path}: is no JSON of a quiz: {error}"]) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are told apart: of two values of one name JSON would silently keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"`{next(name for name in names if names.count(name) > 1)}` stands twice in one object")
    return found


def parsed(data: Any) -> Quiz:
    """The quiz that JSON describes. Raises QuizProblem with a line for every error."""
    lines = list(errors(data))
    if lines:
        raise QuizProblem(lines)
    tasks = [Task(**{**task, "truth": Truth(**task["truth"])}) for task in data["tasks"]]
    optional = {name: data[name] for name in ("example", "made") if name in data}
    return Quiz(data["title"], data["about"], data["models"], tasks, **optional)


def errors(data: Any) -> Iterator[str]:
    """One line for each thing that is wrong, with its place; nothing where the quiz can be used."""
    received = data.get("format") if isinstance(data, dict) else data
    if not isinstance(data, dict) or received != FORMAT:
        yield f'expected an object with "format": "{FORMAT}", received {_short(received)}'
        return
    if type(data.get("version")) is not int or data["version"] != VERSION:
        yield f"version: expected {VERSION}, received {_short(data.get('version'))}; this climb reads version {VERSION}"
        return
    yield from _fields("", data, TOP)
    yield from _texts("", data, ("title", "about"))
    if "example" in data and not isinstance(data["example"], bool):
        yield f"example: expected true or false, received {_short(data['example'])}"
    if "made" in data and not isinstance(data["made"], dict):
        yield f"made: expected an object, received {_short(data['made'])}"
    models = data.get("models", {})
    if not isinstance(models, dict) or not models:
        yield f"models: expected an object that names one model or more, received {_short(models)}"
        models = {}
    yield from _texts("models: ", models, tuple(models))
    tasks = data.get("tasks", [])
    if not isinstance(tasks, list) or not 1 <= len(tasks) <= MOST_TASKS:
        received = len(tasks) if isinstance(tasks, list) else _short(tasks)
        yield f"tasks: expected a list of 1 to {MOST_TASKS}, received {received}"
        return
    seen: dict[str, int] = {}
    for number, task in enumerate(tasks, 1):
        yield from _task(number, task, models, seen)


def _task(number: int, task: Any, models: dict[str, str], seen: dict[str, int]) -> Iterator[str]:
    if not isinstance(task, dict):
        yield f"task {number}: expected an object, received {_short(task)}"
        return
    name = task.get("id")
    named = isinstance(name, str) and 0 < len(name) <= 40 and name.isprintable()
    where = f"task {number} ({name}): " if named else f"task {number}: "
    yield from _fields(where, task, TASK)
    yield from _texts(where, task, ("id", "kind", "model", "prompt", "question", "explanation"))
    if "wrote" in task:
        yield from _texts(where, task, ("wrote",), empty=True)
    if isinstance(name, str):
        if name in seen:
            yield f"{where}id: expected one of its own, received that of task {seen[name]}"
        seen.setdefault(name, number)
    if isinstance(task.get("model"), str) and models and task["model"] not in models:
        yield f"{where}model: expected one of {', '.join(models)}, received {_short(task['model'])}"
    answer = task.get("answer")
    right = type(answer) is int and answer in (0, 1)
    if "answer" in task and not right:
        yield f"{where}answer: expected 0 or 1, received {_short(answer)}"
    if "truth" in task:
        yield from _truth(where + "truth: ", task["truth"], answer if right else None)


def _truth(where: str, truth: Any, answer: int | None) -> Iterator[str]:
    if not isinstance(truth, dict):
        yield f"{where}expected an object with by and how, received {_short(truth)}"
        return
    yield from _fields(where, truth, TRUTH)
    yield from _texts(where, truth, ("how",))
    if "by" in truth and truth["by"] not in TRUTHS:
        yield f"{where}by: expected one of {', '.join(TRUTHS)}, received {_short(truth['by'])}"
    if "seed" in truth and type(truth["seed"]) is not int:
        yield f"{where}seed: expected a whole number, received {_short(truth['seed'])}"
    draws, yes = truth.get("draws"), truth.get("yes")
    if draws is None and yes is None:
        if truth.get("by") == "share":
            yield f"{where}expected draws and yes, of how many draws how many were a yes, received neither"
        return
    if type(draws) is not int or type(yes) is not int or not (draws >= 1 and 0 <= yes <= draws):
        yield f"{where}expected whole numbers with 0 <= yes <= draws, received yes {_short(yes)}, draws {_short(draws)}"
    elif truth.get("by") == "share" and 2 * yes == draws:
        yield f"{where}expected a majority, received {yes} of {draws}; leave such a task out"
    elif truth.get("by") == "share" and answer is not None and answer != (2 * yes > draws):
        yield f"{where}{yes} of {draws} draws are a yes, which makes the answer {int(2 * yes > draws)}, received {answer}"


def _fields(where: str, given: dict[str, Any], known: dict[str, bool]) -> Iterator[str]:
    for name, needed in known.items():
        if needed and name not in given:
            yield f"{where}{name} is missing"
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            advice = f"is {near[0]} meant?" if near else f"there are {', '.join(known)}"
            yield f"{where}there is no field {_short(name)}; {advice}"


def _texts(where: str, given: dict[str, Any], names: tuple[str, ...], empty: bool = False) -> Iterator[str]:
    for name in names:
        if name not in given:
            continue
        text, place = given[name], f"{where}{_short(name)[1:-1]}"
        if not isinstance(text, str) or not (text.strip() or empty):
            yield f"{place}: expected a text, received {_short(text)}"
        elif len(text) > LONGEST_TEXT:
            yield f"{place}: expected at most {LONGEST_TEXT} letters, received {len(text)}"
        elif not all(map(_can_be_shown, text)):  # a terminal would obey them
            strange = next(letter for letter in text if not _can_be_shown(letter))
            yield f"{place}: expected letters that can be shown, received {strange!r}"


def _can_be_shown(letter: str) -> bool:
    return letter.isprintable() or letter in "\n\t" or unicodedata.category(letter) == "Zs"


def _short(value: Any) -> str:
    """A value as it is quoted in an error: one line, never long."""
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else text[:37] + "..."
