"""One submission in, one result out (the JSON contract of the course)."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Sequence

from autograder import __version__
from autograder.checks import Check
from autograder.course import Course, CourseError, Exercise, Lesson
from autograder.questions.rows import rows_of
from autograder.sandbox import wire
from autograder.sandbox.executor import Executor

from .examine import Verdict, Workspace, examine
from .oracle import PUBLIC_SEED, FrozenOracle, Oracle
from .reach import Reach, start_of
from .submissions import Submission
from .truths import KeptOracle, sources
from .workspace import has_reference, workspace_for

# When an exercise has several checks, the worst status speaks for it.
BADNESS = ("passed", "failed", "error", "timeout", "crashed", "refused", "not_started", "missing")
REPEATABLE = (
    "passed",
    "failed",
    "error",
    "not_started",
    "missing",
)  # a timeout or a crash may be the machine's: it is nobody else's
PLACELESS = ("passed", "failed", "not_started", "missing")  # verdicts that name no line of the file
GIVEN_UP = (
    2  # imports of one file that were waited for in vain: one may be the machine's fault, a third would be the class's evening
)
EARLIER_WORK = ("not_started", "missing")  # statuses that say work is missing, not wrong


@dataclass
class Grader:
    """Holds what many submissions share: the sandbox, and one oracle a lesson under one seed. Close it when done.

    With the public seed messages show inputs and expected values; with any other they do not.
    """

    course: Course
    executor: Executor
    seed: int = PUBLIC_SEED
    jobs: int = 2
    verdicts: dict[tuple, Verdict] | None = None  # of texts already seen, by check; None: every text is run
    by_parts: bool = False  # a text counts as seen by a check if all is that its verdict hangs on (see `reach`): not for hostile code
    _oracles: dict[str, Oracle] = field(default_factory=dict)

    @cached_property
    def _sources(self) -> str:
        return sources()

    @property
    def public(self) -> bool:
        return self.seed == PUBLIC_SEED

    def oracle(self, lesson: Lesson) -> Oracle:
        if lesson.module not in self._oracles:
            self._oracles[lesson.module] = oracle_for(self.course, lesson, self.seed, self._sources)
        return self._oracles[lesson.module]

    def prepare(self, exercises: list[Exercise]) -> None:
        """Computes all cases and truths, so that no submission waits for another's."""
        for exercise in exercises:
            for check in exercise.checks:
                self.oracle(exercise.lesson).expected(check)
        for lesson in dict.fromkeys(exercise.lesson for exercise in exercises):
            if isinstance(oracle := self.oracle(lesson), KeptOracle):
                oracle.keep(lesson)

    def grade(
        self,
        submission: Submission,
        exercises: list[Exercise],
        pool: ThreadPoolExecutor | None = None,
        questions: Sequence[Lesson] = (),
    ) -> dict:
        """The result of one submission; its checks run side by side in `pool` (one of `jobs` threads if None).

        `questions`: the lessons whose written questions are marked too, each a row of the result like an exercise.
        """
        level, layers = self.executor.level, list(self.executor.layers)  # waits until the sandbox has started
        started = time.perf_counter()
        if pool is None:
            own = ThreadPoolExecutor(self.jobs)
            try:
                return self.grade(submission, exercises, own, questions)
            finally:
                own.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C nobody waits for what is still running
        units = self._start(submission, exercises, pool)
        rows = [self._row(exercise, [verdict.result() for verdict in verdicts]) for exercise, verdicts in units]
        rows += [row for lesson in questions for row in rows_of(lesson, submission.answers.get(lesson.folder.name))]
        return {
            "schema": 1,
            "submission": submission.name,
            "grader": __version__,
            "sandbox": level,
            "layers": layers,
            "seed": "public" if self.public else seed_name(self.seed),
            "score": _points(sum(row["score"] for row in rows)),
            "max_score": _points(sum(row["max_score"] for row in rows)),
            "seconds": round(time.perf_counter() - started, 4),
            "exercises": rows,
        }

    def _start(self, submission, exercises, pool) -> list[tuple[Exercise, list[Future]]]:
        spaces, texts, stuck, units = {}, {}, {}, []
        for exercise in exercises:
            lesson = exercise.lesson
            problem = _problem(submission, lesson)
            if problem:
                units.append((exercise, [_done(problem)]))
                continue
            if lesson.module not in spaces:
                spaces[lesson.module] = workspace_for(lesson, submission, self.course)
                texts[lesson.module] = Text(spaces[lesson.module], self.by_parts)
                stuck[lesson.module] = []
            space = (spaces[lesson.module], self.oracle(lesson), texts[lesson.module], stuck[lesson.module])
            units.append((exercise, [pool.submit(self._examine, check, *space) for check in exercise.checks]))
        return units

    def _examine(self, check: Check, workspace: Workspace, oracle: Oracle, text: Text, stuck: list[Verdict]) -> Verdict:
        """A check's verdict. stuck: verdicts of imports of this very file that did not end."""
        if len(stuck) >= GIVEN_UP:
            return stuck[-1]
        if self.verdicts is None:
            at = ()
        else:
            at = [(workspace.module, check.exercise, type(check).__name__, digest) for digest in text.digests(check, oracle)]
            known = next((self.verdicts[one] for one in at if one in self.verdicts), None)
            if known is not None:
                return known
        verdict = examine(check, workspace, oracle, self.executor, public=self.public)
        if verdict.at_import:
            stuck.append(verdict)
        if at and verdict.status in REPEATABLE:
            self.verdicts[at[-1 if verdict.status in PLACELESS else 0]] = verdict
        return verdict

    def _row(self, exercise: Exercise, verdicts: list[Verdict]) -> dict:
        checks = exercise.checks
        earned = sum(c.points for c, v in zip(checks, verdicts) if v.status == "passed") if len(verdicts) == len(checks) else 0.0
        worst = max(verdicts, key=lambda v: BADNESS.index(v.status))
        named = next((v for v in verdicts if v.misconception), worst)
        worst = named if worst.status == named.status else worst
        printed = next((v.printed for v in verdicts if v.printed), "") if self.public else ""  # it could print hidden inputs
        message = worst.message
        if printed and worst.status not in ("passed", *EARLIER_WORK):
            message += "\nIt printed: " + printed.strip()[:500]
        return {
            "id": exercise.id,
            "lesson": exercise.lesson.number,
            "score": _points(earned),
            "max_score": _points(exercise.points),
            "status": worst.status,
            "misconception": worst.misconception,
            "message": message,
            "hint": worst.hint,
            "lesson_anchor": exercise.anchor,
        }


def oracle_for(course: Course, lesson: Lesson, seed: int, made_from: str) -> Oracle:
    """The reference's answers where there is a reference; else the frozen ones of a student bundle, for the public seed.

    made_from: `truths.sources()`, which tells whether answers kept by an earlier command still hold.
    """
    if has_reference(lesson):
        return KeptOracle(lesson, course.root, made_from) if seed == PUBLIC_SEED else Oracle(lesson.module, seed)
    if seed != PUBLIC_SEED:
        raise CourseError("a student's copy knows the answers of the public seed alone: leave out --seed")
    frozen = frozen_file(course.root, lesson.module)
    try:
        return FrozenOracle(lesson.module, frozen)
    except (OSError, wire.WireError, KeyError, TypeError):
        shown = frozen.relative_to(course.root)
        raise CourseError(f"{shown} is missing or damaged: copy it again from the course as you got it") from None


def frozen_file(root: Path, module: str) -> Path:
    return root / "autograder" / "frozen" / (module + ".bin")


def seed_name(seed: int) -> str:
    """What a result says of a secret seed: enough to tell two apart, too little to find it."""
    return hashlib.sha256(f"climb seed {seed}".encode()).hexdigest()[:16]


def _problem(submission: Submission, lesson: Lesson) -> Verdict | None:
    """Why a lesson's file cannot be graded at all: what was wrong with it, or that it is not there."""
    if lesson.module in submission.files:
        return None
    problem = submission.problem(lesson.module)
    if problem:
        return Verdict(problem.status, f"{problem.file} {problem.message}")
    others = "; ".join(f"{p.file} {p.message}" for p in submission.problems[:2])
    return Verdict("missing", f"The submission has no {lesson.file}{f' ({others})' if others else ''}.")


class Text:
    """What verdicts hang on besides the check: the text graded, and the helpers beside it."""

    def __init__(self, workspace: Workspace, by_parts: bool):
        self.module, self._whole = workspace.module, _digest(workspace.sources)
        self._reach = Reach(workspace.sources, workspace.module) if by_parts else None

    def digests(self, check: Check, oracle: Oracle) -> list[str]:
        """Of the whole; and, where that is wanted, of what this check's verdict hangs on, as long as it names no line."""
        if self._reach is None:
            return [self._whole]
        return [self._whole, self._reach.digest(start_of(check, self.module, oracle.cases(check)))]


def _digest(sources: dict[str, str]) -> str:
    """What a verdict hangs on besides the check: the text graded, and the helpers beside it."""
    digest = hashlib.sha256()
    for module, text in sorted(sources.items()):
        for part in (module, text):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _done(verdict: Verdict) -> Future:
    future: Future = Future()
    future.set_result(verdict)
    return future


def _points(value: float) -> float:
    return round(float(value), 6)
