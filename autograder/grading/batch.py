"""Many submissions: one result file each, a journal that says which are done, and a table of scores."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
import time
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Sequence

from autograder import __version__
from autograder.course import Course, Exercise, Lesson
from autograder.exports.cells import safe
from autograder.progress import write_whole
from autograder.reference import ROOT
from autograder.sandbox.errors import SandboxError

from .grade import Grader
from .kept import keep
from .submissions import Submission

RESULT = "result.json"
JUDGES = ("examine", "grade", "oracle", "workspace")  # what of this folder decides a verdict; rosters, tables and runs do not
ADDED = ("student", "policy")  # what a roster and a course's rules say beside a result: they may change without a regrading


class Inline:
    """A pool that runs what it is given at once, in this thread: in a batch submissions run side by side, not their checks."""

    def __init__(self, stop: threading.Event | None = None):
        self.stop = stop

    def submit(self, function, *arguments) -> Future:
        if self.stop is not None and self.stop.is_set():
            raise CancelledError
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)
        return future


class Journal:
    """`journal.jsonl`: a line for each graded submission, appended when its result is on disk. Resuming and auditing read it.

    Each part of a job array writes its own (`journal-1-of-8.jsonl`), and every run reads them all. A line that was cut short is
    passed over, and so is one whose result file is no longer what was written: those submissions are graded again.
    What is added to a result later and hangs on no code (ADDED) is not part of what was written.
    """

    def __init__(self, out: Path, part: str = ""):
        self.out, self.path = out, out / f"journal{part}.jsonl"
        self._lock = threading.Lock()
        self._results: dict[tuple[str, str], set[str]] = {}  # (submission, key) -> hashes of the result files written for it
        self._scores: dict[str, list[tuple[str, float, float]]] = {}  # submission -> its (key, score, max_score), oldest first
        for path in sorted(out.glob("journal*.jsonl")):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    name, key = entry["submission"], entry["key"]
                    self._results.setdefault((name, key), set()).add(entry["result"])
                    self._scored(name, key, float(entry["score"]), float(entry["max_score"]))
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue

    def _scored(self, name: str, key: str, score: float, max_score: float) -> None:
        self._scores.setdefault(name, []).append((key, score, max_score))

    def change(self, submission: str) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """((score, of) before, (score, of) now) of what was graded under two keys. The journal's order counts, no clock."""
        last = self._scores.get(submission, [])
        before = [entry for entry in last if entry[0] != last[-1][0]]
        return (before[-1][1:], last[-1][1:]) if before else None

    def result(self, submission: str, keys: list[str]) -> dict | None:
        """The result on disk, if it was made under one of these keys; without what was added to it."""
        wanted = set().union(*(self._results.get((submission, key), set()) for key in keys))
        if not wanted:
            return None
        try:
            result = json.loads((self.out / submission / RESULT).read_text(encoding="utf-8"))
            result = {key: value for key, value in result.items() if key not in ADDED}
        except (OSError, ValueError, RecursionError, AttributeError):  # not there, cut short, or something else entirely
            return None
        return result if _hash(dumped(result)) in wanted else None

    def known_as(self, keys: list[str]) -> list[str]:
        """The names under which something was graded with one of these keys."""
        return [name for name, key in self._results if key in keys]

    def write(self, submission: str, key: str, result: dict, sent: Submission | None = None) -> None:
        """First what was handed in and the result's file, whole, then the line that says so."""
        text = dumped(result)
        folder = self.out / submission
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f".{RESULT}.*"):  # of a run that was killed
            left.unlink(missing_ok=True)
        if sent is not None:
            keep(folder, sent)
        write_whole(folder / RESULT, text)
        entry = {
            "submission": submission,
            "key": key,
            "result": _hash(text),
            "score": result["score"],
            "max_score": result["max_score"],
        }
        with self._lock, open(self.path, "a+b") as file:
            cut_short = file.tell() > 0 and (file.seek(-1, 2), file.read(1))[1] != b"\n"
            file.write(b"\n" * cut_short + json.dumps(entry | {"time": int(time.time())}).encode() + b"\n")
            self._scored(submission, key, result["score"], result["max_score"])


def dumped(result: dict) -> str:
    """A result as its file holds it."""
    return json.dumps(result, indent=1) + "\n"


def audited(result: dict, submission: Submission, key: str, checks: str) -> dict:
    """A result with what an audit asks for: which text, which checks, when; and what was done to the submission on the way."""
    told = [f"{problem.file} {problem.message}" for problem in submission.problems]
    audit = {
        "key": key,
        "submission": submission_hash(submission),
        "checks": checks,
        "graded_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    return result | {"notes": [*submission.notes, *told], "audit": audit}


def submission_hash(submission: Submission) -> str:
    """A hash of what was handed in, as text."""
    return _hash(json.dumps([submission.files, submission.helpers, submission.answers], sort_keys=True))


def unit_key(submission: Submission, checks: str, seed: int, level: str) -> str:
    """What a result depends on. The same key means the same result, so it is not graded again."""
    parts = [
        submission.files,
        submission.helpers,
        submission.answers,
        [vars(problem) for problem in submission.problems],
        submission.notes,
        checks,
        __version__,
        seed,
        level,
    ]
    return _hash(json.dumps(parts, sort_keys=True))


def checks_hash(course: Course, exercises: list[Exercise], questions: Sequence[Lesson] = ()) -> str:
    """A hash of all on our side that decides a verdict: exercises, questions, checks, probes, references, given code, grader."""
    digest = hashlib.sha256(json.dumps([(exercise.id, exercise.points, exercise.anchor) for exercise in exercises]).encode())
    asked = {exercise.lesson for exercise in exercises}
    files = {f"autograder/{folder}/{lesson.file}" for folder in ("checks", "probes") for lesson in asked}
    files |= {f"solutions/{lesson.file}" for one in asked for lesson in (one, *course.earlier(one))}
    files |= {f"lessons/{lesson.folder.name}/questions.toml" for lesson in questions}
    ours = (
        "autograder/questions/*.py",
        "autograder/checks/*.py",
        "autograder/probes/*.py",
        *(f"autograder/grading/{name}.py" for name in JUDGES),
        "autograder/sandbox/*.py",
        "toy/given/*.py",
        *(["full/given/*.py"] if any(lesson.track == "full" for lesson in asked) else []),
    )
    for path in sorted({*(ROOT / file for file in files), *(path for pattern in ours for path in ROOT.glob(pattern))}):
        digest.update(hashlib.sha256(path.read_bytes() if path.is_file() else b"").digest())
    return digest.hexdigest()


def already_graded(
    submissions: list[Submission],
    exercises: list[Exercise],
    course: Course,
    seed: int,
    levels: tuple[str, ...],
    out: Path,
    questions: Sequence[Lesson] = (),
) -> dict[str, dict]:
    """{name: result} of the submissions whose result in `out` still holds, at one of these sandbox levels. Runs nothing."""
    journal, checks = Journal(out), checks_hash(course, exercises, questions)
    found = {s.name: journal.result(s.name, [unit_key(s, checks, seed, level) for level in levels]) for s in submissions}
    return {name: result for name, result in found.items() if result is not None}


@dataclass
class Graded:
    """What came of a batch: results by submission, and, where the grader itself stumbled, why there is none."""

    results: dict[str, dict] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    changes: dict[str, tuple[tuple[float, float], tuple[float, float]]] = field(
        default_factory=dict
    )  # by submission, see Journal


def grade_all(
    grader: Grader,
    submissions: list[Submission],
    exercises: list[Exercise],
    out: Path,
    done: Callable[[str], None],
    part: str = "",
    graded: Graded | None = None,
    questions: Sequence[Lesson] = (),
) -> Graded:
    """Grades the submissions into `out`, `grader.jobs` at a time; `done(name)` after each, when its result is on disk.

    An interrupt keeps what is on disk and drops what is in progress: no result is written once the sandbox may be closing.
    A submission over which the grader itself stumbles holds up no other; it has no result and is tried again by the next run.
    Raises SandboxError and OSError at once: they would befall every submission.
    """
    graded = Graded() if graded is None else graded
    journal, checks, level = Journal(out, part), checks_hash(grader.course, exercises, questions), grader.executor.level
    grader.prepare(exercises)
    grader.verdicts = {}  # one text, one verdict: skeletons that nobody touched are run once a class
    stop = threading.Event()

    def one(submission: Submission) -> None:
        try:
            result = grader.grade(submission, exercises, Inline(stop), questions)
        except (SandboxError, OSError, CancelledError):
            raise
        except Exception as error:
            graded.failures[submission.name] = f"{type(error).__name__}: {error}"[:200]
            return
        if not stop.is_set():
            enter(journal, submission, result, unit_key(submission, checks, grader.seed, level), checks, graded)

    pool = ThreadPoolExecutor(grader.jobs)
    waiting = {pool.submit(one, submission): submission.name for submission in submissions}
    try:
        while waiting:
            for future in wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED).done:
                name = waiting.pop(future)
                future.result()
                done(name)
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
    return graded


def enter(journal: Journal, submission: Submission, result: dict, key: str, checks: str, graded: Graded) -> None:
    """Puts a result on disk and into the journal, and only then among those that are graded."""
    result = audited(result, submission, key, checks)
    journal.write(submission.name, key, result, submission)
    graded.results[submission.name] = result
    if change := journal.change(submission.name):
        graded.changes[submission.name] = change


def write_scores(results: list[dict], path: Path) -> Path:
    """A table for a spreadsheet: a row a student, a column an exercise. A cell that could be taken for a formula is quoted.

    With a roster names and sections stand beside, with a course's rules late days, points lost and the final score.
    """
    ids = list(dict.fromkeys(row["id"] for result in results for row in result["exercises"]))
    on_roster, by_rules = (any(key in result for result in results) for key in ADDED)
    rules = ["late_days", "penalty", "final_score", "final_max"] if by_rules else []
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["submission", *["name", "section"] * on_roster, "score", "max_score", *rules, *ids])
    for result in results:
        scores = {row["id"]: row["score"] for row in result["exercises"]}
        student, policy = result.get("student", {}), result.get("policy", {})
        who = [student.get("name", ""), student.get("section", "")] if on_roster else []
        final = [policy.get(key, "") for key in ("late_days", "penalty", "score", "max_score")] if by_rules else []
        row = [result["submission"], *who, result["score"], result["max_score"], *final, *(scores.get(i, 0.0) for i in ids)]
        writer.writerow(map(safe, row))
    write_whole(path, text.getvalue())
    return path


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
