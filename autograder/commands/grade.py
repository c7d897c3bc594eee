"""`climb grade`: other people's code, under a secret seed and the full sandbox."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
from pathlib import Path
from typing import Iterator, Optional

import typer

from autograder import course as courses
from autograder.course import Exercise
from autograder.policy import ATTEMPTS

EXECUTORS = ("local", "dask")


def register(app: typer.Typer) -> None:
    app.command("grade")(grade)


def grade(
    submissions: Path = typer.Argument(..., metavar="SUBMISSIONS", help="One file, notebook, folder or zip; or a folder or zip of them, one a student: as Canvas, Moodle, Gradescope and others export them."),
    out: Path = typer.Option(..., "--out", metavar="DIR", help="Folder for the results, one for each assignment: DIR/<student>/result.json, DIR/scores.csv, DIR/class.html, DIR/journal.jsonl."),
    roster: Optional[Path] = typer.Option(None, "--roster", metavar="CSV", help="The class: id, name, section, extension days. Everybody on it gets a row, who handed in nothing too."),
    policy: Optional[Path] = typer.Option(None, "--policy", metavar="FILE", help="A course.toml: dates, lateness, points, weights, which lessons (docs/instructors.md shows one)."),
    attempts: Optional[str] = typer.Option(None, "--attempts", metavar="WHICH", help="Of several by one student: latest or best. Left out: what the policy says, else latest."),
    seed_file: Optional[Path] = typer.Option(None, "--seed-file", metavar="FILE", help="Holds the secret seed, one whole number. Left out: DIR/seed.txt, made at the first run."),
    jobs: int = typer.Option(os.cpu_count() or 1, "--jobs", min=1, metavar="N", help="Submissions graded at a time on this machine."),
    executor: str = typer.Option("local", "--executor", metavar="NAME", help="Where it runs: local, or dask for workers of a cluster."),
    scheduler: Optional[str] = typer.Option(None, "--scheduler", metavar="ADDRESS", help="Of a running Dask scheduler, such as tcp://host:8786. Left out: workers on this machine."),
    shard: Optional[str] = typer.Option(None, "--shard", metavar="I/N", help="Only the I-th of N parts, for job arrays: 1/8 to 8/8. The same command without it then writes scores.csv."),
    merge: list[Path] = typer.Option([], "--merge", metavar="DIR", help="Take over results from here first: of parts that were graded elsewhere. May be given several times."),
    sandbox: str = typer.Option("full", "--sandbox", metavar="LEVEL", help="Lowest level accepted, full or process. Where there is only less, nothing is graded."),
    backend: Optional[str] = typer.Option(None, "--backend", metavar="NAME", help="Have the sandbox within another one too: bwrap, docker or runsc (`climb doctor` says which there are)."),
    lessons: Optional[str] = typer.Option(None, "--lessons", metavar="L", help="Only these: 1-3 or 1,2,5. Left out: what the policy says, else all."),
    pages: bool = typer.Option(True, "--pages/--no-pages", help="Write a page for each student and one for the class."),
    as_json: bool = typer.Option(False, "--json", help="Print all results as JSON lines and nothing else."),
) -> None:  # fmt: skip
    """Grade what students handed in, on hidden cases, in a sandbox.

    Stopped or repeated, it goes on where it was: only what changed is graded again.
    """
    from autograder.commands.release import need_solutions

    need_solutions("grade")  # before the rest, which a student's copy does not have
    from autograder.cli import UsageProblem
    from autograder.grading import finish
    from autograder.grading.roster import joined, read_roster
    from autograder.grading.run import Batch, write_pages
    from autograder.grading.shown import count, named, tell
    from autograder.grading.submissions import read_submissions
    from autograder.policy import load_policy
    from autograder.questions.rows import lessons_with_questions

    refuse_options(sandbox, executor, scheduler, attempts, merge, backend)
    course = courses.load()
    rules = None if policy is None else load_policy(policy, course)
    exercises = exercises_of(course, lessons, rules)
    part = shard_of(shard)
    if not submissions.exists():
        raise UsageProblem(f"{submissions} does not exist; name a file, a folder or a zip with submissions")
    refuse_out(out, submissions)
    if shard and seed_file is None:
        raise UsageProblem("--shard needs --seed-file: all parts must draw the same hidden cases")
    listed = None if roster is None else read_roster(roster)
    found = read_submissions(submissions, course, attempts or (rules.attempts if rules else "latest"))
    whole = joined(found, listed)
    found = without_our_names(whole.submissions)[part]
    for line in whole.told:
        tell(line)
    if rules and (unknown := finish.without_a_time(found, exercises, rules, finish.now())):
        tell(f"when {named(unknown)} handed in is not known: taken as in time (a roster's `submitted` column says it)")
    questions = lessons_with_questions(exercises) if any(one.answers for one in finish.units(whole.submissions)) else []
    out.mkdir(parents=True, exist_ok=True)
    suffix = f"-{shard.replace('/', '-of-')}" if shard else ""
    with only_one(out, suffix):
        seed = secret_seed(seed_file, out)
        where = {"executor": executor, "scheduler": scheduler, "backend": backend}
        batch = Batch(course, exercises, questions, out, seed, sandbox, jobs, suffix, as_json, **where)
        graded = batch.run(found, merge, rules)
        if pages and not shard and graded.results:
            page = write_pages(out, course, rules)
            if not as_json:
                print(f"The class at a glance, and from there each student: {page}")
    if whole.strangers:
        tell(f"not on the roster: {named(whole.strangers)} (graded all the same)")
    if graded.failures:
        told = "; ".join(f"{name} ({why})" for name, why in sorted(graded.failures.items())[:3])
        raise UsageProblem(f"{count(len(graded.failures))} could not be graded: {told}. The same command tries again")
    rows = [row for one in found if one.name in graded.results for row in graded.results[one.name]["exercises"]]
    raise typer.Exit(0 if all(row["status"] == "passed" for row in rows) else 1)


def exercises_of(course, lessons: str | None, rules) -> list[Exercise]:
    """The exercises of the lessons named, else of those that the rules name."""
    from autograder.commands.release import lessons_named

    chosen = lessons_named(lessons, course)
    if lessons is None and rules is not None:
        chosen = [lesson for lesson in chosen if rules.graded(lesson.number)]
    return [exercise for lesson in chosen for exercise in lesson.exercises]


def refuse_options(sandbox, executor, scheduler, attempts, merge: list[Path], backend: str | None = None) -> None:
    from autograder.cli import UsageProblem
    from autograder.grading.run import LEVELS

    if sandbox not in LEVELS:
        raise UsageProblem(f"--sandbox: expected full or process, received {sandbox!r}")
    if executor not in EXECUTORS:
        raise UsageProblem(f"--executor: expected local or dask, received {executor!r}")
    if scheduler is not None and executor != "dask":
        raise UsageProblem("--scheduler needs --executor dask")
    if executor == "dask" and sandbox != "full":
        raise UsageProblem("--executor dask needs --sandbox full: below it a student's code could reach the scheduler")
    if backend is not None:
        from autograder.sandbox.backends import missing

        if problem := missing(backend):
            raise UsageProblem(f"--backend {backend}: {problem}")
    if attempts not in (None, *ATTEMPTS):
        raise UsageProblem(f"--attempts: expected latest or best, received {attempts!r}")
    for folder in merge:
        if not any(folder.glob("journal*.jsonl")):
            raise UsageProblem(f"--merge: {folder} holds no results; name a folder that `climb grade --out` wrote")


def refuse_out(out: Path, submissions: Path) -> None:
    from autograder.cli import UsageProblem

    if out.exists() and not out.is_dir():
        raise UsageProblem(f"--out: {out} is a file; name a folder")
    inside, whole = out.resolve(), submissions.resolve()
    if whole.is_dir() and (inside == whole or whole in inside.parents):
        elsewhere = whole.parent / "results"
        raise UsageProblem(
            f"--out: {out} lies in {submissions}, and results there would be read as submissions: name another, such as {elsewhere}"
        )


def without_our_names(found: list) -> list:
    """Submissions under names that are free in DIR: a folder called scores.csv, seed.txt or journal.jsonl would be in the way."""
    taken = {submission.name.casefold() for submission in found}
    ours = r".*\.(csv|jsonl?|txt|html|toml)|rubric|similarity|seed\.txt"
    for submission in found:
        while re.fullmatch(ours, submission.name.casefold()):
            submission.name += "_" if submission.name.casefold() + "_" not in taken else "_2"
            taken.add(submission.name.casefold())
    return found


def secret_seed(seed_file: Path | None, out: Path) -> int:
    """The seed of the hidden cases: from the file named, else from DIR/seed.txt, made (for your eyes only) if it is not there."""
    from autograder.cli import UsageProblem
    from autograder.grading.oracle import PUBLIC_SEED
    from autograder.progress import write_whole

    path = seed_file or out / "seed.txt"
    if seed_file is None and not path.exists():
        write_whole(path, f"{1 + secrets.randbits(62)}\n", mode=0o600)
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise UsageProblem(f"{path} cannot be read; expected a file with one whole number, the secret seed") from None
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) == PUBLIC_SEED or int(text) >= 2**63:
        raise UsageProblem(
            f"{path}: expected one whole number from 1 to 2^63 - 1 (0 is the public seed), received {_what_came(text)}"
        )
    if int(text) < 2**40:  # results name the seed by a hash; hashes of a million million numbers can be tried in an hour
        print(
            f"climb: the seed in {path} is so short that it can be guessed from the results; better 15 digits or more",
            file=sys.stderr,
        )
    return int(text)


def _what_came(text: str) -> str:
    """The form of a wrong seed, not the seed: what goes to a screen may end in a log."""
    return "nothing" if not text else "0" if text == "0" else f"{len(text)} characters in {len(text.splitlines())} line(s)"


def shard_of(text: str | None) -> slice:
    from autograder.cli import UsageProblem

    if text is None:
        return slice(None)
    part, slash, parts = text.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise UsageProblem(f"--shard: expected I/N with 1 <= I <= N, such as 1/8, received {text!r}")
    return slice(int(part) - 1, None, int(parts))


@contextlib.contextmanager
def only_one(out: Path, suffix: str) -> Iterator[None]:
    """A second run into the same folder is refused, not mixed in; different parts of one job array may run side by side."""
    from autograder.cli import UsageProblem
    from autograder.progress import locked

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(out / ".lock", blocking=False, shared=bool(suffix)))
            if suffix:
                stack.enter_context(locked(out / f".lock{suffix}", blocking=False))
        except BlockingIOError:
            raise UsageProblem(f"another `climb grade` is writing to {out}; wait for it, or name another --out") from None
        yield
