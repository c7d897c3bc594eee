"""Everything the self-check tries, one unit each: a file or an answer, and what the checks must say to it."""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

from autograder import reference
from autograder.checks import Check, Edit
from autograder.course import CourseError, Exercise, Lesson
from autograder.grading.oracle import PUBLIC_SEED
from autograder.skeletons import skeleton

from .bench import OTHER_SEED, Bench
from .mutants import LIMIT, Mutant, chosen, key_of, mutants

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Finding:
    """What came of one unit. `ok`: the checks said what they must; for a known mistake `named`: under its right name too."""

    kind: str  # skeleton, solution, mistake, mutant, equivalent, alternative
    lesson: int
    exercise: str  # its id
    label: str  # what was tried, for a person
    ok: bool
    detail: str = ""  # why not
    named: bool = True
    seed: int = PUBLIC_SEED


@dataclass(frozen=True)
class Unit:
    """One thing to try. `attempt` gives (ok, detail, named); what it raises is a finding that is not ok."""

    kind: str
    lesson: int
    exercise: str
    label: str
    attempt: Callable[[Bench], tuple[bool, str, bool]]
    seed: int = PUBLIC_SEED

    def run(self, bench: Bench) -> Finding:
        try:
            ok, detail, named = self.attempt(bench)
        except Exception as error:  # an edit whose text is gone, a check that raises: for the report, not for the user's screen
            ok, detail, named = False, f"{type(error).__name__}: {error}"[:300], False
        return Finding(self.kind, self.lesson, self.exercise, self.label, ok, detail, named, self.seed)


@dataclass(frozen=True)
class Equivalent:
    """A mutant that means the same as the reference, as equivalent.toml lists it."""

    exercise: str  # the id of the exercise, or of the helper, it was made in
    before: str
    after: str
    reason: str


def solution_units(lesson: Lesson) -> Iterator[Unit]:
    """The reference passes, under the public seed and another one."""
    source = reference.source(lesson.module)
    for exercise in lesson.exercises:
        for seed in (PUBLIC_SEED, OTHER_SEED):
            yield Unit("solution", lesson.number, exercise.id, "the solution", _passes(exercise, source, seed), seed)


def other_units(lesson: Lesson, equivalents: list[Equivalent], limit: int = LIMIT) -> Iterator[Unit]:
    """Skeletons fail, known mistakes and mutants are caught, alternatives pass."""
    yield from skeleton_units(lesson)
    yield from mistake_units(lesson)
    yield from mutant_units(lesson, equivalents, limit)
    yield from alternative_units(lesson)


def skeleton_units(lesson: Lesson) -> Iterator[Unit]:
    source = skeleton(_solution_text(lesson), lesson.number)
    for exercise in lesson.exercises:
        yield Unit("skeleton", lesson.number, exercise.id, "the skeleton", _earns_nothing(exercise, source))


def mistake_units(lesson: Lesson) -> Iterator[Unit]:
    for exercise in lesson.exercises:
        for check in exercise.checks:
            for wrong in check.known_mistakes():
                yield Unit("mistake", lesson.number, exercise.id, wrong.id, _is_named(lesson, check, wrong))


def mutant_units(lesson: Lesson, equivalents: list[Equivalent], limit: int = LIMIT) -> Iterator[Unit]:
    """At most `limit` mutants an exercise, and all that are listed as equivalent, which must survive to stay listed."""
    made = mutants(reference.source(lesson.module), [exercise.name for exercise in lesson.exercises])
    listed = {key_of(e.exercise.partition("::")[2], e.before, e.after): e for e in equivalents if is_of(e, lesson)}
    for mutant in chosen(made, limit, listed):
        yield Unit("mutant", lesson.number, _id(lesson, mutant), mutant.description, _is_killed(lesson, mutant))
    for mutant in made:
        if listed.pop(mutant.key, None):
            yield Unit("equivalent", lesson.number, _id(lesson, mutant), mutant.description, _survives(lesson, mutant))
    for entry in listed.values():
        label = f"`{entry.before}` -> `{entry.after}`"
        yield Unit("equivalent", lesson.number, entry.exercise, label, lambda _: (False, "no such mutant is made", False))


def alternative_units(lesson: Lesson) -> Iterator[Unit]:
    """Each file of autograder/alternatives/<track>/<name>/ after the reference's text, for each exercise it defines."""
    for path in alternative_files(lesson):
        text = without_future(path.read_text(encoding="utf-8"))
        source = reference.source(lesson.module) + "\n\n" + text
        exercises = [exercise for exercise in lesson.exercises if defines(text, exercise.name)]
        for exercise in exercises:
            for seed in (PUBLIC_SEED, OTHER_SEED):
                yield Unit("alternative", lesson.number, exercise.id, path.name, _passes(exercise, source, seed), seed)
        if not exercises:
            yield Unit("alternative", lesson.number, lesson.file, path.name, lambda _: (False, "it defines no exercise", False))


def alternative_files(lesson: Lesson) -> list[Path]:
    folder = reference.ROOT / "autograder" / "alternatives" / lesson.file.removesuffix(".py")
    return sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")


def defines(text: str, exercise: str) -> bool:
    """Whether a source defines what an exercise is named after: a function, a class, or a method inside its class."""
    body: list[ast.stmt] = ast.parse(text).body
    for part in exercise.split("."):
        found = [node for node in body if part in _names_of(node)]
        if not found:
            return False
        body = getattr(found[-1], "body", [])
    return True


def without_future(text: str) -> str:
    """`from __future__` stands at the top of a file only; here the text follows another, and annotations are no matter."""
    return re.sub(r"^from __future__ import .*$", "", text, flags=re.MULTILINE)


def listed_equivalents(path: Path = HERE / "equivalent.toml") -> list[Equivalent]:
    """The mutants known to mean the same, with reasons. Raises CourseError for an entry without its four fields."""
    if not path.is_file():
        return []
    try:
        return [Equivalent(**entry) for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("equivalent", [])]
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise CourseError(f"{path.name}: each [[equivalent]] has exercise, before, after and reason ({error})") from None


def _solution_text(lesson: Lesson) -> str:
    return (reference.ROOT / "solutions" / lesson.file).read_text(encoding="utf-8")


def is_of(equivalent: Equivalent, lesson: Lesson) -> bool:
    return equivalent.exercise.startswith(lesson.file + "::")


def _id(lesson: Lesson, mutant: Mutant) -> str:
    return f"{lesson.file}::{mutant.owner}"


def _names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _passes(exercise: Exercise, source: str, seed: int):
    def attempt(bench: Bench):
        for check in exercise.checks:
            verdict = bench.ask(exercise.lesson, check, source, seed)
            if verdict.status != "passed":
                under = "" if seed == PUBLIC_SEED else f" under seed {seed}"
                return False, f"{type(check).__name__} says {verdict.status}{under}: {_first_line(verdict.message)}", True
        return True, "", True

    return attempt


def _earns_nothing(exercise: Exercise, source: str):
    def attempt(bench: Bench):
        for check in exercise.checks:
            if bench.ask(exercise.lesson, check, source).status == "passed":
                return False, f"{type(check).__name__} gives {check.points:g} points for nothing", True
        return True, "", True

    return attempt


def _is_named(lesson: Lesson, check: Check, wrong):
    def attempt(bench: Bench):
        if isinstance(wrong, Edit):
            verdict = bench.ask(lesson, check, reference.edited(reference.source(lesson.module), wrong.replacements))
        else:
            verdict = bench.put(lesson, check, wrong)
        if verdict.status == "passed":
            return False, f"{type(check).__name__} lets it pass", False
        said = f"named {verdict.misconception}" if verdict.misconception else f"{verdict.status}, without a name"
        return True, "" if verdict.misconception == wrong.id else said, verdict.misconception == wrong.id

    return attempt


def _killed_by(lesson: Lesson, mutant: Mutant, bench: Bench) -> str | None:
    """The status that caught a mutant, None if it survived. Timeouts and crashes catch it too."""
    for exercise in lesson.exercises:
        for check in exercise.checks if exercise.name in mutant.exercises else []:
            status = bench.ask(lesson, check, mutant.source).status
            if status != "passed":
                return f"{type(check).__name__}: {status}"
    return None


def _is_killed(lesson: Lesson, mutant: Mutant):
    def attempt(bench: Bench):
        killed = _killed_by(lesson, mutant, bench)
        return killed is not None, killed or "every check passes it", True

    return attempt


def _survives(lesson: Lesson, mutant: Mutant):
    def attempt(bench: Bench):
        killed = _killed_by(lesson, mutant, bench)
        return killed is None, f"it is caught after all ({killed})" if killed else "", True

    return attempt


def _first_line(text: str) -> str:
    return text.split("\n", 1)[0][:200]
