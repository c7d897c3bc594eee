"""One exercise of one graded student, run once more: what each case asked, what came back, what was right, and what was said.

For an instructor's eyes: inputs and expected values are shown whatever the seed. The text is the copy that `climb grade` kept.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from autograder import __version__
from autograder.checks import Check
from autograder.checks.compare import describe
from autograder.course import Course, CourseError, Exercise

from .batch import RESULT, submission_hash
from .examine import Verdict, _answers, _difference, judge, plain, request_for
from .grade import Grader, seed_name
from .kept import kept
from .oracle import PUBLIC_SEED
from .workspace import workspace_for

SHOWN = 1200  # characters of one value
NUMBERS = 100  # of an array that is shown whole


@dataclass(frozen=True)
class Case:
    """One case of a check. wrong: what differs, in words; "" if nothing does."""

    number: int
    inputs: dict[str, str]
    received: dict[str, str]
    expected: dict[str, str]
    wrong: str


@dataclass(frozen=True)
class Replayed:
    """One check, as it comes out now."""

    check: str
    points: float
    verdict: Verdict
    cases: list[Case]
    seconds: float


@dataclass
class Replay:
    """What came of it, beside what the result says. notes: why the two may differ."""

    result: dict
    row: dict
    checks: list[Replayed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        from .grade import BADNESS

        return max((one.verdict.status for one in self.checks), key=BADNESS.index)

    @property
    def agrees(self) -> bool:
        return self.status == self.row["status"]


def read_result(path: Path) -> tuple[Path, dict]:
    """A student's folder of results and the result in it. Raises CourseError for what is none."""
    path = path / RESULT if path.is_dir() else path
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(result["exercises"], list) or not isinstance(result["seed"], str):
            raise TypeError
    except OSError as error:
        raise CourseError(f"{path}: cannot be read ({error.strerror}); name a student's result.json") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise CourseError(f"{path} is no result of `climb grade`; name a student's result.json") from None
    return path.parent, result


def seed_of(result: dict, folder: Path, seed_file: Path | None) -> int:
    """The seed this result was made with: the public one, or that of the seed file. Raises CourseError if it is another."""
    if result["seed"] == "public":
        return PUBLIC_SEED
    path = seed_file
    if path is None:  # beside the students' folders; an attempt's lies deeper
        path = next(
            (above / "seed.txt" for above in folder.parents[:3] if (above / "seed.txt").is_file()), folder.parent / "seed.txt"
        )
    try:
        seed = int(path.read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        raise CourseError(f"{path}: no secret seed there; name the file with --seed-file") from None
    if seed_name(seed) != result["seed"]:
        raise CourseError(
            f"{path} holds another seed than the one of this result ({result['seed']}); name the right file with --seed-file"
        )
    return seed


def replay(
    course: Course, exercise: Exercise, folder: Path, result: dict, seed: int, executor, wanted: int | None = None
) -> Replay:
    """Runs an exercise's checks on the kept text. `wanted`: the one case to show; else the first that is wrong, or the first."""
    row = next((row for row in result["exercises"] if row["id"] == exercise.id), None)
    if row is None:
        raise CourseError(f"the result has no {exercise.id}: it was not among the lessons graded")
    submission = kept(folder, course)
    found = Replay(result, row, notes=doubts(result, submission))
    if exercise.lesson.module not in submission.files:
        why = f"{row['status']}: {row['message']}".split("\n")[0][:200]
        raise CourseError(f"{folder} keeps no {exercise.lesson.file}, so there is nothing to run ({why})")
    grader = Grader(course, executor, seed, jobs=1)
    space, oracle = workspace_for(exercise.lesson, submission, course), grader.oracle(exercise.lesson)
    for check in exercise.checks:
        cases, expected = oracle.cases(check), oracle.expected(check)
        if wanted is not None and not 1 <= wanted <= len(cases):
            raise CourseError(f"--case: {exercise.name} has cases 1 to {len(cases)}, received {wanted}")
        reply = executor.run(request_for(check, space, oracle), seconds=check.seconds, memory_mb=check.memory_mb)
        verdict = judge(check, space, oracle, reply, public=True)
        verdict.printed = plain(reply.printed)[:SHOWN]
        answers = given(reply, len(cases))
        seen = [_case(check, i, *entry) for i, entry in enumerate(zip(cases, answers, expected))]
        first = next((i for i, case in enumerate(seen) if case.wrong), 0)
        shown = [seen[wanted - 1 if wanted is not None else first]]
        found.checks.append(Replayed(type(check).__name__, check.points, verdict, shown, round(reply.seconds, 3)))
    return found


def given(reply, count: int) -> list[dict | None]:
    """The answer to each case as far as any came."""
    from autograder.sandbox import wire

    try:
        frames = wire.frames(reply.stream)
    except Exception:  # whatever a hostile stream makes of us: it holds no answer
        return [None] * count
    return _answers(frames, count)


def doubts(result: dict, submission) -> list[str]:
    """Why a replay may come out otherwise than the result."""
    notes = []
    audit = result.get("audit") if isinstance(result.get("audit"), dict) else {}
    if result.get("grader") != __version__:
        notes.append(f"graded by version {result.get('grader')}, replayed by {__version__}")
    if audit.get("submission") not in (None, submission_hash(submission)):
        notes.append("the files kept beside the result are not those that were graded, or were laid out otherwise")
    return notes


def _case(check: Check, index: int, case: dict, answer: dict | None, truth: dict) -> Case:
    if answer is None:
        wrong, received = "no answer came", {}
    elif "$raised" in answer:
        detail = answer["$detail"]
        where = f" at {detail['frames'][-1]['file']}, line {detail['frames'][-1]['line']}" if detail["frames"] else ""
        wrong, received = f"{detail['type']}: {detail['message']}{where}", {}
    else:
        wrong = plain(_difference(check, answer, truth, case) or "")
        received = _shown({name: answer[name] for name in answer if name in truth} or answer)
    return Case(index + 1, _shown(case), received, _shown(truth), wrong)


def _shown(values: dict[str, Any]) -> dict[str, str]:
    return {plain(name)[:60]: plain(_text(value)) for name, value in list(values.items())[:40]}


def _text(value: Any) -> str:
    """A value in words; arrays that a person can still read with all their numbers."""
    if isinstance(value, np.ndarray) and 0 < value.size <= NUMBERS:
        shown = np.array2string(value, precision=6, separator=", ", max_line_width=100, threshold=NUMBERS)
        return shown.replace("\n", "\n" + " " * 12)
    return describe(value, SHOWN)
