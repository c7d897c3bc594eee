"""The bench on which files that we wrote ourselves are put to the checks: an executor, and the truths of each lesson."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

from autograder import reference
from autograder.checks import Check, Mistake
from autograder.course import Course, Lesson
from autograder.grading.examine import Verdict, Workspace, judge, request_for
from autograder.grading.oracle import PUBLIC_SEED, Oracle, key
from autograder.grading.workspace import compiled_before
from autograder.sandbox import wire
from autograder.sandbox.executor import Executor, Reply

OTHER_SEED = 1  # any seed but the public one: right answers must be right under every seed
PATIENCE = 20  # a mutant may take this many times as long as the solution, and a second at least, before it counts as stuck


@dataclass
class Bench:
    """Safe to use from many threads once `prepare` has computed a lesson's truths."""

    course: Course
    executor: Executor
    _oracles: dict[tuple[str, int], Oracle] = field(default_factory=dict)
    _spaces: dict[str, dict[str, bytes]] = field(default_factory=dict)
    _seconds: dict[tuple[str, tuple[str, str]], float] = field(default_factory=dict)
    _broken: dict[tuple[str, tuple[str, str]], str] = field(default_factory=dict)

    def prepare(self, lesson: Lesson) -> None:
        """Computes cases, truths and known wrong answers. A check that cannot is remembered as broken, with the reason."""
        self._spaces[lesson.module] = compiled_before(lesson, self.course)
        for seed in (PUBLIC_SEED, OTHER_SEED):
            oracle = self._oracles[lesson.module, seed] = Oracle(lesson.module, seed)
            for check in lesson.checks:
                try:
                    oracle.expected(check)
                    with warnings.catch_warnings(action="ignore"):  # known mistakes divide by zero, as they should
                        for wrong in check.known_mistakes():
                            oracle.answers(check, wrong)
                except Exception as error:  # a check is code under test here
                    self._broken[lesson.module, key(check)] = f"{type(error).__name__}: {error}"[:300]

    def oracle(self, lesson: Lesson, seed: int = PUBLIC_SEED) -> Oracle:
        return self._oracles[lesson.module, seed]

    def ask(self, lesson: Lesson, check: Check, source: str, seed: int = PUBLIC_SEED) -> Verdict:
        """What one check says of this source as the lesson's file. Raises RuntimeError if the check itself is broken."""
        at = (lesson.module, key(check))
        if at in self._broken:
            raise RuntimeError(f"the check {key(check)[1]} does not work: {self._broken[at]}")
        space = Workspace(lesson.module, {lesson.module: source}, self._spaces[lesson.module])
        oracle = self.oracle(lesson, seed)
        limit = min(check.seconds, max(1.0, PATIENCE * self._seconds.get(at, check.seconds)))
        reply = self.executor.run(request_for(check, space, oracle), seconds=limit, memory_mb=check.memory_mb)
        if source is reference.source(lesson.module):
            self._seconds[at] = max(reply.seconds, self._seconds.get(at, 0.0))
        return self._judged(check, space, oracle, reply)

    def put(self, lesson: Lesson, check: Check, wrong: Mistake) -> Verdict:
        """What one check says to the answers of a known mistake, as if a child had sent them."""
        at = (lesson.module, key(check))
        if at in self._broken:
            raise RuntimeError(f"the check {key(check)[1]} does not work: {self._broken[at]}")
        oracle = self.oracle(lesson)
        frames = [{"import": None, "has": True}]
        for index, answer in enumerate(oracle.answers(check, wrong)):
            raised = answer.get("$raised")
            said = {"raised": {"type": raised, "message": "", "frames": []}} if raised else {"outputs": answer}
            frames.append({"case": index, **said})
        reply = Reply("finished", b"".join(map(wire.encode, [*frames, {"done": True}])))
        return self._judged(check, Workspace(lesson.module, {}), oracle, reply)

    @staticmethod
    def _judged(check: Check, space: Workspace, oracle: Oracle, reply: Reply) -> Verdict:
        try:
            return judge(check, space, oracle, reply, public=True)
        except wire.WireError as error:
            return Verdict("failed", f"What came back could not be read ({error}).")
