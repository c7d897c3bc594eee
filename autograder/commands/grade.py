"""`climb grade`: other people's code, under a secret seed and the full sandbox."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import secrets
import sys
from pathlib import Path
from typing import Iterator, Optional

import typer

from autograder import course as courses
from autograder.course import Exercise


LEVELS = ("full", "process")  # of the sandbox, the stronger first


def register(app: typer.Typer) -> None:
    app.command("grade")(grade)


def grade(
    submissions: Path = typer.Argument(..., metavar="SUBMISSIONS", help="One file, notebook, folder or zip; or a folder or zip of them, one a student."),
    out: Path = typer.Option(..., "--out", metavar="DIR", help="Folder for the results, one for each assignment: DIR/<student>/result.json, DIR/scores.csv, DIR/journal.jsonl."),
    roster: Optional[Path] = typer.Option(None, "--roster", metavar="CSV", help="Its first column names every student: who handed in nothing gets a result too."),
    seed_file: Optional[Path] = typer.Option(None, "--seed-file", metavar="FILE", help="Holds the secret seed, one whole number. Left out: DIR/seed.txt, made at the first run."),
    jobs: int = typer.Option(os.cpu_count() or 1, "--jobs", min=1, metavar="N", help="Submissions graded at a time."),
    executor: str = typer.Option("local", "--executor", metavar="NAME", help="Where it runs: local."),
    shard: Optional[str] = typer.Option(None, "--shard", metavar="I/N", help="Only the I-th of N parts, for job arrays: 1/8 to 8/8. The same command without it then writes scores.csv."),
    sandbox: str = typer.Option("full", "--sandbox", metavar="LEVEL", help="Lowest level accepted, full or process. Where there is only less, nothing is graded."),
    lessons: Optional[str] = typer.Option(None, "--lessons", metavar="L", help="Only these: 1-3 or 1,2,5. Left out: all."),
    as_json: bool = typer.Option(False, "--json", help="Print all results as JSON lines and nothing else."),
) -> None:  # fmt: skip
    """Grade what students handed in, on hidden cases, in a sandbox.

    Stopped or repeated, it goes on where it was: only what changed is graded again.
    """
    from autograder.cli import UsageProblem
    from autograder.commands.release import lessons_named, need_solutions
    from autograder.grading.submissions import read_submissions
    from autograder.questions.rows import lessons_with_questions

    need_solutions("grade")
    if sandbox not in LEVELS:
        raise UsageProblem(f"--sandbox: expected full or process, received {sandbox!r}")
    if executor != "local":
        raise UsageProblem(f"--executor: expected local, received {executor!r}")
    course = courses.load()
    exercises = [exercise for lesson in lessons_named(lessons, course) for exercise in lesson.exercises]
    part = shard_of(shard)
    if not submissions.exists():
        raise UsageProblem(f"{submissions} does not exist; name a file, a folder or a zip with submissions")
    refuse_out(out, submissions)
    if shard and seed_file is None:
        raise UsageProblem("--shard needs --seed-file: all parts must draw the same hidden cases")
    names = None if roster is None else roster_names(roster)
    found = read_submissions(submissions, course)
    strangers = [] if names is None else not_on_roster(found, names)
    questions = lessons_with_questions(exercises) if any(submission.answers for submission in found) else []
    found = without_our_names(with_absent(found, names))[part]
    out.mkdir(parents=True, exist_ok=True)
    suffix = f"-{shard.replace('/', '-of-')}" if shard else ""
    with only_one(out, suffix):
        seed = secret_seed(seed_file, out)
        graded = run(course, exercises, found, out, seed, jobs, sandbox, as_json, suffix, questions)
    if strangers:
        print(
            f"climb: not on the roster: {', '.join(strangers[:8])}{', ...' if len(strangers) > 8 else ''} (graded all the same)",
            file=sys.stderr,
        )
    if graded.failures:
        told = "; ".join(f"{name} ({why})" for name, why in sorted(graded.failures.items())[:3])
        raise UsageProblem(f"{count(len(graded.failures))} could not be graded: {told}. The same command tries again")
    raise typer.Exit(
        0 if all(row["status"] == "passed" for result in graded.results.values() for row in result["exercises"]) else 1
    )


def run(
    course,
    exercises: list[Exercise],
    found: list,
    out: Path,
    seed: int,
    jobs: int,
    level: str,
    as_json: bool,
    suffix: str = "",
    questions=(),
):
    """Grades what is not graded yet, with a sandbox only if there is such; then writes the scores of all."""
    from rich.console import Console

    from autograder.grading.batch import Graded, already_graded, write_scores

    console = Console(stderr=as_json)
    kept = already_graded(found, exercises, course, seed, LEVELS[: LEVELS.index(level) + 1], out, questions)
    left = [submission for submission in found if submission.name not in kept]
    graded = Graded(dict(kept))
    if as_json:
        for result in kept.values():
            print(json.dumps(result), flush=True)
    if left:
        grade_rest(course, exercises, left, out, seed, jobs, level, as_json, suffix, graded, console, questions)
    results = [graded.results[submission.name] for submission in found if submission.name in graded.results]
    scores = write_scores(results, out / f"scores{suffix}.csv")
    if not as_json:
        show_summary(console, results, len(kept), scores)
    return graded


def grade_rest(course, exercises, left, out, seed, jobs, level, as_json, suffix, graded, console, questions) -> None:
    from rich.markup import escape

    from autograder.commands.check import modules_of
    from autograder.grading.batch import grade_all
    from autograder.sandbox import open_sandbox

    before = len(graded.results)
    try:
        with open_sandbox(modules_of(exercises), "full" if level == "full" else None) as sandbox:
            from autograder.grading.grade import Grader

            layers = ", ".join(sandbox.layers)
            console.print(
                f"{count(len(left))} to grade, {len(exercises)} exercises; sandbox {sandbox.level}: {layers}", highlight=False
            )
            if sandbox.note:
                console.print(escape(sandbox.note), style="yellow")
            with progress_bar(console) as bar:
                task = bar.add_task("grading", total=len(left))

                def done(name: str) -> None:
                    bar.update(task, advance=1, description=name[:30])
                    if as_json and name in graded.results:
                        print(json.dumps(graded.results[name]), flush=True)

                grade_all(Grader(course, sandbox, seed, jobs), left, exercises, out, done, suffix, graded, questions)
    except KeyboardInterrupt:
        all_of = before + len(left)
        raise KeyboardInterrupt(
            f"{len(graded.results)} of {all_of} graded and saved; the same command goes on from there"
        ) from None


def progress_bar(console):
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description:<30}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    # Left alone, standard output stays JSON while the bar is drawn on standard error.
    return Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)


def show_summary(console, results: list[dict], kept: int, scores: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title, justify in (
        ("submission", "left"),
        ("points", "right"),
        ("of", "right"),
        ("passed", "right"),
        ("to look at", "left"),
    ):
        table.add_column(title, justify=justify, overflow="fold", no_wrap=justify == "right")
    for result in results[:40]:
        rows = result["exercises"]
        odd = sorted({row["status"] for row in rows} & {"error", "timeout", "crashed", "refused", "missing"})
        passed = sum(row["status"] == "passed" for row in rows)
        table.add_row(
            escape(result["submission"]),
            f"{result['score']:g}",
            f"{result['max_score']:g}",
            f"{passed}/{len(rows)}",
            ", ".join(odd),
        )
    console.print(table)
    if len(results) > 40:
        console.print(f"... and {len(results) - 40} more")
    again = f" ({kept} unchanged since an earlier run)" if kept else ""
    where = f"Points by student: {scores}; each in full: {scores.parent}/<student>/result.json"
    console.print(f"\n{count(len(results))} graded{again}. {where}", highlight=False, markup=False, soft_wrap=True)


def count(number: int) -> str:
    return f"{number} submission{'' if number == 1 else 's'}"


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
    for submission in found:
        while re.fullmatch(r"scores.*\.csv|journal.*\.jsonl|seed\.txt", submission.name.casefold()):
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


def roster_names(path: Path) -> list[str]:
    """The first column of a CSV file; a first line called student, name, id, email or submission is a heading."""
    from autograder.cli import UsageProblem

    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageProblem(
            f"--roster: {path} cannot be read ({type(error).__name__}); it should be a CSV file in UTF-8"
        ) from None
    names = [row[0].strip() for row in rows if row and row[0].strip()]
    if names and names[0].lower() in ("student", "name", "id", "email", "submission"):
        names = names[1:]
    if not names:
        raise UsageProblem(f"--roster: {path} names no student in its first column")
    return names


def with_absent(found: list, names: list[str] | None) -> list:
    """The submissions, and an empty one for everybody on the roster who handed in nothing."""
    from autograder.grading.submissions import Submission, safe_name

    present = {submission.name.casefold() for submission in found}
    taken, absent = set(present), []
    for name in dict.fromkeys(names or []):
        if safe_name(name).casefold() not in present:
            absent.append(safe_name(name, taken))
            taken.add(absent[-1].casefold())
    return sorted([*found, *map(Submission, absent)], key=lambda s: s.name.casefold())


def not_on_roster(found: list, names: list[str]) -> list[str]:
    from autograder.grading.submissions import safe_name

    listed = {safe_name(name).casefold() for name in names}
    return [submission.name for submission in found if submission.name.casefold() not in listed]


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
