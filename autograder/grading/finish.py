"""A class once it is graded: the best of several attempts, the course's rules applied, tables of who and of what changed."""

from __future__ import annotations

import csv
import io
import shutil
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Iterable

from autograder.course import Exercise
from autograder.exports.cells import safe
from autograder.policy import Policy
from autograder.progress import write_whole

from .batch import ADDED, RESULT, Graded, Journal, dumped
from .kept import keep
from .submissions import Submission

ATTEMPTS = ".attempts"  # hidden in a student's folder: pages and gradebooks look at the attempt that counts
EARLIER = ".earlier"  # in the folder of results: those of who is not in the class any more
CLOCKS = timedelta(days=1)  # by which a file's time may lie ahead of this machine's: time zones that nobody wrote down


def units(found: list[Submission]) -> list[Submission]:
    """What is graded: each submission, or each of a student's attempts where all of them are."""
    return [unit for submission in found for unit in attempts_of(submission)]


def attempts_of(submission: Submission) -> list[Submission]:
    if not submission.others:
        return [submission]
    every = [*submission.others, submission]
    return [replace(one, name=f"{submission.name}/{ATTEMPTS}/{at}", others=[]) for at, one in enumerate(every, start=1)]


def submitted_at(submission: Submission, policy: Policy, now: datetime) -> tuple[datetime | None, str]:
    """When it was handed in, and what says so. A file's own time counts if the rules say so and it does not lie in the future."""
    when, source = submission.submitted, submission.submitted_from
    if when is None and policy.late.file_times:
        when, source = submission.changed, "file times"
    if when is None:
        return None, ""
    when = when.replace(tzinfo=policy.timezone) if when.tzinfo is None else when
    return (None, "") if source == "file times" and when > now + CLOCKS else (when, source)


def best_attempts(found: list[Submission], graded: Graded, policy: Policy, out: Path, now: datetime) -> None:
    """Puts the best attempt's result in the place of the student's: the most points under the rules, of equals the latest."""
    for submission in found:
        tries = attempts_of(submission)
        have = [one for one in tries if one.name in graded.results]
        if not submission.others or not have:
            continue

        def worth(one: Submission) -> tuple:
            applied = _applied(one, graded.results[one.name], policy, now)
            return applied["score"], tries.index(one)

        best = max(have, key=worth)
        place = f"attempt {tries.index(best) + 1} of {len(tries)} is the best and counts"
        result = graded.results[best.name]
        result = result | {"submission": submission.name, "notes": [place, *result["notes"]]}
        keep(out / submission.name, best)
        _write_if_new(out / submission.name / RESULT, dumped(result))
        graded.results[submission.name] = result
        submission.submitted, submission.submitted_from, submission.changed = best.submitted, best.submitted_from, best.changed


def apply_rules(found: list[Submission], graded: Graded, policy: Policy | None, out: Path, now: datetime) -> None:
    """Writes beside each result what the roster says of the student and what the rules make of the score. Regrades nothing."""
    for submission in found:
        if submission.name not in graded.results:
            continue
        result = {key: value for key, value in graded.results[submission.name].items() if key not in ADDED}
        if submission.student:
            result["student"] = submission.student
        if policy is not None:
            result["policy"] = _applied(submission, result, policy, now)
        graded.results[submission.name] = result
        _write_if_new(out / submission.name / RESULT, dumped(result))


def without_a_time(found: list[Submission], exercises: list[Exercise], policy: Policy, now: datetime) -> list[str]:
    """Who handed in something that has a deadline, at a time that nobody knows."""
    if not any(policy.lesson(exercise.lesson.number).due for exercise in exercises):
        return []
    handed_in = [one for one in found if one.files or one.answers]
    return [one.name for one in handed_in if submitted_at(one, policy, now)[0] is None]


def _applied(submission: Submission, result: dict, policy: Policy, now: datetime) -> dict:
    when, source = submitted_at(submission, policy, now)
    student = submission.student
    names = [
        name for name in (submission.name, student.get("id"), student.get("email"), student.get("name"), *submission.ids) if name
    ]
    return policy.applied(result, when, names, student.get("extension_days", 0.0), source)


def write_students(found: list[Submission], out: Path, suffix: str = "") -> Path:
    """`students.csv`: everybody on the roster and everybody who handed in, with what is known of each."""
    rows = []
    for one in found:
        student = one.student
        status = "handed in" if one.files or one.answers or one.problems else "nothing"
        if student and not student["on_roster"]:
            status += ", not on the roster"
        when = one.submitted or one.changed
        rows.append(
            [
                one.name,
                student.get("id", ""),
                student.get("name", ""),
                student.get("section", ""),
                student.get("extension_days", ""),
                status,
                len(one.others) + 1 if status.startswith("handed in") else 0,
                when.isoformat(timespec="seconds") if when else "",
                one.submitted_from or ("file times" if when else ""),
            ]
        )
    head = ["submission", "id", "name", "section", "extension_days", "status", "attempts", "time", "time_from"]
    return _write_table(out / f"students{suffix}.csv", head, rows)


def write_changes(wanted: list[Submission], out: Path, suffix: str = "") -> Path | None:
    """`changes.csv`: old and new score side by side of each submission that was ever graded again; no file where none was."""
    journal = Journal(out)
    changes = {unit.name: change for unit in wanted if (change := journal.change(unit.name))}
    if not changes:
        return None
    head = ["submission", "old_score", "old_max", "new_score", "new_max"]
    return _write_table(out / f"changes{suffix}.csv", head, [[name, *before, *now] for name, (before, now) in changes.items()])


def _write_table(path: Path, head: list[str], rows: Iterable[list]) -> Path:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([head, *(map(safe, row) for row in rows)])
    write_whole(path, text.getvalue())
    return path


def _write_if_new(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_whole(path, text)


def merged(
    folders: list[Path], wanted: list[Submission], keys: dict[str, list[str]], out: Path, part: str = ""
) -> dict[str, int]:
    """Takes over what other folders of results hold for these submissions under these keys; how many from each."""
    ours, taken = Journal(out, part), dict.fromkeys(map(str, folders), 0)
    for folder in folders:
        theirs = Journal(folder)
        for unit in wanted:
            if ours.result(unit.name, keys[unit.name]) is not None:
                continue
            for key in keys[unit.name]:
                if (result := theirs.result(unit.name, [key])) is not None:
                    ours.write(unit.name, key, result, unit)
                    taken[str(folder)] += 1
                    break
    return taken


def renamed(wanted: list[Submission], keys: dict[str, list[str]], out: Path, part: str = "") -> None:
    """Takes over what was graded under another name, as before there was a roster; only from names that nobody has any more."""
    journal, names = Journal(out, part), {unit.name for unit in wanted}
    for unit in wanted:
        if journal.result(unit.name, keys[unit.name]) is not None:
            continue
        for name in journal.known_as(keys[unit.name]):
            for key in keys[unit.name]:
                if name not in names and (result := journal.result(name, [key])) is not None:
                    journal.write(unit.name, key, result | {"submission": unit.name}, unit)


def bring_back(found: list[Submission], out: Path) -> None:
    """Folders that an earlier run had set aside, of students who are in the class again."""
    for one in found:
        aside, place = out / EARLIER / one.name, out / one.name
        if aside.is_dir() and not place.exists():
            aside.rename(place)


def set_aside(found: list[Submission], out: Path) -> int:
    """Moves results of nobody in this class out of the way of pages and gradebooks; how many there were."""
    names = {one.name for one in found}
    strangers = [path.parent for path in sorted(out.glob(f"*/{RESULT}")) if path.parent.name not in names]
    for folder in strangers:
        aside = out / EARLIER / folder.name
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        folder.rename(aside)
    return len(strangers)


def now() -> datetime:
    return datetime.now(timezone.utc)
