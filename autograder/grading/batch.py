"""Many submissions: one result file each, a journal that says which are done, and a table of scores."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Callable

from autograder import __version__
from autograder.course import Course, Exercise
from autograder.progress import write_whole
from autograder.reference import ROOT

from .grade import Grader
from .submissions import Submission


class Inline:
    """A pool that runs what it is given at once, in this thread: in a batch the submissions run side by side, not their checks."""

    def submit(self, function, *arguments) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)
        return future


class Journal:
    """`journal.jsonl`: one line for each graded unit, appended when its result is on disk. Resuming and auditing read it."""

    def __init__(self, out: Path):
        self.path = out / "journal.jsonl"
        self._lock = threading.Lock()
        self.keys: dict[str, str] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                entry = json.loads(line)
                self.keys[entry["submission"]] = entry["key"]
            except (ValueError, KeyError, TypeError):
                continue  # a line cut short by a power failure: that unit is graded again

    def append(self, submission: str, key: str, result: dict) -> None:
        entry = {"submission": submission, "key": key, "score": result["score"], "max_score": result["max_score"], "time": int(time.time())}
        with self._lock, open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            self.keys[submission] = key


def unit_key(submission: Submission, checks: str, seed: int, level: str) -> str:
    """What a result depends on. The same key means the same result, so it is not graded again."""
    parts = [submission.files, submission.helpers, [vars(problem) for problem in submission.problems], checks, __version__, seed, level]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def checks_hash(course: Course, exercises: list[Exercise]) -> str:
    """A hash of everything on our side that decides a verdict: checks, probes, references, given code, lessons' texts of anchors."""
    digest = hashlib.sha256(json.dumps([exercise.id for exercise in exercises]).encode())
    for module_file in sorted({exercise.lesson.file for exercise in exercises}):
        for folder in ("autograder/checks", "autograder/probes", "solutions"):
            path = ROOT / folder / module_file
            digest.update(path.read_bytes() if path.is_file() else b"")
    for path in sorted((ROOT / "toy" / "given").glob("*.py")) + sorted((ROOT / "full" / "given").glob("*.py")):
        digest.update(path.read_bytes())
    for path in sorted((ROOT / "autograder").glob("checks/*.py")) + sorted((ROOT / "autograder").glob("grading/*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def grade_all(
    grader: Grader, submissions: list[Submission], exercises: list[Exercise], out: Path, done: Callable[[str, dict, bool], None]
) -> list[dict]:
    """Grades every submission not yet graded in `out`, `grader.jobs` at a time; `done(name, result, was_there)` after each.

    Each result is on disk before it is reported. An interrupt stops after the submissions in progress.
    """
    journal, checks = Journal(out), checks_hash(grader.course, exercises)
    level = grader.executor.level
    grader.prepare(exercises)
    stop = threading.Event()
    results: dict[str, dict] = {}

    def one(submission: Submission) -> tuple[str, dict, bool] | None:
        key = unit_key(submission, checks, grader.seed, level)
        file = out / submission.name / "result.json"
        if journal.keys.get(submission.name) == key and file.is_file():
            return submission.name, json.loads(file.read_text(encoding="utf-8")), True
        if stop.is_set():
            return None
        result = grader.grade(submission, exercises, Inline())
        file.parent.mkdir(exist_ok=True)
        write_whole(file, json.dumps(result, indent=1) + "\n")
        journal.append(submission.name, key, result)
        return submission.name, result, False

    pool = ThreadPoolExecutor(grader.jobs)
    try:
        waiting = {pool.submit(one, submission) for submission in submissions}
        while waiting:
            finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in finished:
                name, result, was_there = future.result()
                results[name] = result
                done(name, result, was_there)
    except BaseException:
        stop.set()
        for future in waiting:
            future.cancel()
        raise
    finally:
        pool.shutdown(wait=True)
    return [results[submission.name] for submission in submissions]


def write_scores(results: list[dict], path: Path) -> Path:
    """A table for a spreadsheet: a row a student, a column an exercise. A cell that a spreadsheet could take for a formula is quoted."""
    ids = [row["id"] for row in results[0]["exercises"]] if results else []
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["submission", "score", "max_score", *ids])
    for result in results:
        scores = {row["id"]: row["score"] for row in result["exercises"]}
        name = result["submission"]
        writer.writerow(["'" + name if name[:1] in "=+-@" else name, result["score"], result["max_score"], *(scores.get(i, 0.0) for i in ids)])
    write_whole(path, text.getvalue())
    return path
