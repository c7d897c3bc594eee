"""Runs in Gradescope's container: one submission in, results.json out. Started by run_autograder as root.

Everything that a student's code must not read is closed to other users first; the code then runs in the sandbox, as a user of
its own. The run keeps a clock of its own: Gradescope ends a run that takes too long and gives it nothing at all.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from autograder import course as courses
from autograder.policy import Policy, load_policy
from autograder.sandbox.executor import Executor, Reply
from autograder.sandbox.wire import take

from . import SETTINGS
from .results import failed_json, results_json

# Instead of `full`, where the kernel has no Landlock: another user than the files' owner, without privileges or sockets.
INSTEAD = {"rlimits", "no_new_privs", "seccomp", "uid-drop", "capabilities"}
LEAST_SECONDS = 1.0  # with less left of the run, a check is not begun


@dataclass
class Patient:
    """An executor with the container's measures: longer limits on a slow processor, less memory, one clock for the run."""

    inner: Executor
    until: float  # of time.monotonic()
    patience: float = 1.0
    memory_mb: int = 1024
    unasked: set[str] = field(default_factory=set)  # exercises with checks that time did not suffice for

    @property
    def level(self) -> str:
        return self.inner.level

    @property
    def layers(self) -> list[str]:
        return self.inner.layers

    def run(self, request: bytes, *, seconds: float, memory_mb: int) -> Reply:
        left = self.until - time.monotonic()
        if left < LEAST_SECONDS:
            head, _ = take(request)
            self.unasked.add(f"{head['module'].replace('.', '/')}.py::{head['exercise']}")
            return Reply("timeout", b"")
        return self.inner.run(request, seconds=min(seconds * self.patience, left), memory_mb=min(memory_mb, self.memory_mb))

    def close(self) -> None:
        self.inner.close()


def main(root: Path) -> int:
    """Exit code 0 if there is a verdict, 1 if not; results.json is written either way. `root`: /autograder."""
    began = time.monotonic()
    target = root / "results" / "results.json"
    try:
        made = grade(root, began)
        code = 0
    except Exception as error:
        traceback.print_exc()
        print(f"climb: no verdict: {error}", file=sys.stderr)
        made, code = (
            failed_json(f"The grader itself could not run, which is not your fault; tell your instructor. ({told(error)})"),
            1,
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    return code


def told(error: Exception) -> str:
    """What a student may read of an error of ours: our own words where we have them, else its kind."""
    from autograder.sandbox.errors import SandboxError

    ours = isinstance(error, (SandboxError, courses.CourseError))
    return " ".join(str(error).split())[:300] if ours else type(error).__name__


def grade(root: Path, began: float) -> dict:
    from autograder.grading.grade import Grader
    from autograder.grading.oracle import FrozenOracle
    from autograder.grading.submissions import read_submission
    from autograder.questions.rows import lessons_with_questions
    from autograder.sandbox import open_sandbox

    close_to_others(root)
    source = Path(__file__).resolve().parents[2]
    settings = json.loads((source / SETTINGS).read_text(encoding="utf-8"))
    course = courses.load(source)
    lessons = [lesson for lesson in course.lessons if lesson.module in settings["modules"]]
    policy = load_policy(source / "course.toml" if (source / "course.toml").is_file() else None, course)
    submission = read_submission(root / "submission", course)
    exercises = [exercise for lesson in lessons for exercise in lesson.exercises]
    questions = lessons_with_questions(exercises) if settings["questions"] else []
    with open_sandbox([lesson.module for lesson in lessons]) as sandbox:
        must_hold(sandbox, settings["sandbox"])
        executor = Patient(sandbox, began + settings["seconds"], settings["patience"], settings["memory_mb"])
        grader = Grader(course, executor, settings["seed"], jobs=1)
        for lesson in lessons:
            frozen = source / "autograder" / "frozen" / (lesson.module + ".bin")
            grader._oracles[lesson.module] = FrozenOracle(lesson.module, frozen, settings["seed"])
        result = grader.grade(submission, exercises, questions=questions)
    print(f"sandbox {result['sandbox']}: {', '.join(result['layers'])}; {sandbox.note or 'no notes'}")
    problems = [f"{problem.file} {problem.message}" for problem in submission.problems]
    for row in result["exercises"]:
        if row["id"] in executor.unasked and row["status"] == "timeout":
            row["message"] = "Not reached: what came before used up the time of this run."
    note = f"{len(executor.unasked)} exercises were not reached in the time of this run." if executor.unasked else ""
    return results_json(result, course, policy, problems, under(policy, result, root), note)


def must_hold(sandbox, wanted: str) -> None:
    """Raises SandboxError if what is active is less than asked for: `full`, `user` (see INSTEAD) or `process`."""
    from autograder.sandbox.errors import SandboxError

    enough = {"full": False, "user": INSTEAD <= set(sandbox.layers), "process": True}[wanted]
    if sandbox.level != "full" and not enough:
        raise SandboxError(f"the sandbox here is not {wanted} (active: {', '.join(sandbox.layers)})")


def close_to_others(root: Path) -> None:
    """Grader, truths, hand-in and its metadata, for their owner's eyes alone. What cannot be closed is told in the log."""
    for place in ("source", "submission", "results", "submission_metadata.json"):
        path = root / place
        try:
            if path.exists():
                os.chmod(path, 0o700 if path.is_dir() else 0o600)
        except OSError as error:
            print(f"climb: {path} stays open to other users ({error.strerror})", file=sys.stderr)


def under(policy: Policy, result: dict, root: Path) -> dict | None:
    """What the policy makes of the result; None where there is no policy to apply. Times and names are Gradescope's metadata."""
    if policy.path is None:
        return None
    submitted, names = None, []
    try:
        told = json.loads((root / "submission_metadata.json").read_text(encoding="utf-8"))
        submitted = datetime.fromisoformat(told["created_at"])
        names = [str(user[key]) for user in told["users"] for key in ("name", "email", "id", "sid") if user.get(key)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        print("climb: submission_metadata.json tells no time: nothing counts as late", file=sys.stderr)
    if submitted is not None and submitted.tzinfo is None:
        submitted = submitted.replace(tzinfo=policy.timezone)
    return policy.applied(result, submitted, names, source="Gradescope")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "/autograder")))
