"""`climb grade`: other people's code, under a secret seed and the full sandbox."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import secrets
from pathlib import Path
from typing import Iterator, Optional

import typer

from autograder import course as courses
from autograder.course import Exercise


def register(app: typer.Typer) -> None:
    app.command("grade")(grade)


def grade(
    submissions: Path = typer.Argument(..., metavar="SUBMISSIONS", help="One file, notebook, folder or zip; or a folder or zip of them, one a student."),
    out: Path = typer.Option(..., "--out", help="Folder for the results: DIR/<student>/result.json, scores.csv, journal.jsonl."),
    roster: Optional[Path] = typer.Option(None, "--roster", help="CSV whose first column names every student: who handed in nothing gets a result too."),
    seed_file: Optional[Path] = typer.Option(None, "--seed-file", help="File with the secret seed (one whole number). Left out: DIR/seed.txt, made at the first run."),
    jobs: int = typer.Option(os.cpu_count() or 1, "--jobs", min=1, help="Submissions graded at a time."),
    executor: str = typer.Option("local", "--executor", help="Where it runs: local."),
    shard: Optional[str] = typer.Option(None, "--shard", metavar="I/N", help="Only the I-th of N parts, for job arrays: 1/8 to 8/8."),
    sandbox: str = typer.Option("full", "--sandbox", help="Lowest level accepted: full or process. Below it nothing is graded."),
    lessons: Optional[str] = typer.Option(None, "--lessons", help="Only these: 1-3 or 1,2,5. Left out: all."),
    as_json: bool = typer.Option(False, "--json", help="Print all results as JSON lines and nothing else."),
) -> None:  # fmt: skip
    """Grade submissions. Stopped or repeated, it goes on where it was: only what changed is graded again."""
    from autograder.cli import UsageProblem
    from autograder.commands.release import lessons_named, need_solutions
    from autograder.grading.submissions import read_submissions

    need_solutions("grade")
    if sandbox not in ("full", "process"):
        raise UsageProblem(f"--sandbox: expected full or process, received {sandbox!r}")
    if executor != "local":
        raise UsageProblem(f"--executor: expected local, received {executor!r}")
    course = courses.load()
    exercises = [exercise for lesson in lessons_named(lessons, course) for exercise in lesson.exercises]
    part = shard_of(shard)
    if not submissions.exists():
        raise UsageProblem(f"{submissions} does not exist; name a file, a folder or a zip with submissions")
    if out.exists() and not out.is_dir():
        raise UsageProblem(f"--out: {out} is a file; name a folder")
    if shard and seed_file is None:
        raise UsageProblem("--shard needs --seed-file: all parts must draw the same hidden cases")
    names = None if roster is None else roster_names(roster)
    found = with_absent(read_submissions(submissions, course), names)[part]
    out.mkdir(parents=True, exist_ok=True)
    suffix = f"-{shard.replace('/', '-of-')}" if shard else ""
    with only_one(out, suffix):
        seed = secret_seed(seed_file, out)
        results = run(course, exercises, found, out, seed, jobs, sandbox, as_json, suffix)
    raise typer.Exit(0 if all(row["status"] == "passed" for result in results for row in result["exercises"]) else 1)


def run(course, exercises: list[Exercise], found: list, out: Path, seed: int, jobs: int, level: str, as_json: bool, suffix: str = "") -> list[dict]:
    from rich.console import Console

    from autograder.commands.check import modules_of
    from autograder.grading.batch import grade_all, write_scores
    from autograder.sandbox import open_sandbox

    console = Console(stderr=as_json)
    with open_sandbox(modules_of(exercises), level) as sandbox:
        from autograder.grading.grade import Grader

        console.print(f"{len(found)} submissions, {len(exercises)} exercises; sandbox {sandbox.level}: {', '.join(sandbox.layers)}")
        if sandbox.note:
            console.print(f"[yellow]{sandbox.note}[/yellow]")
        grader = Grader(course, sandbox, seed, jobs)
        counts = {"done": 0, "kept": 0}
        with progress_bar(console) as bar:
            task = bar.add_task("grading", total=len(found))

            def done(name: str, result: dict, was_there: bool) -> None:
                counts["done"] += 1
                counts["kept"] += was_there
                bar.update(task, advance=1, description=name[:30])
                if as_json:
                    print(json.dumps(result), flush=True)

            try:
                results = grade_all(grader, found, exercises, out, done)
            except KeyboardInterrupt:
                console.print(f"Stopped with {counts['done']} of {len(found)} graded and saved; the same command goes on from there.")
                raise
    scores = write_scores(results, out / f"scores{suffix}.csv")
    if not as_json:
        show_summary(console, results, counts["kept"], scores)
    return results


def progress_bar(console):
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(TextColumn("{task.description:<30}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True)


def show_summary(console, results: list[dict], kept: int, scores: Path) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title, justify in (("submission", "left"), ("points", "right"), ("of", "right"), ("passed", "right"), ("to look at", "left")):
        table.add_column(title, justify=justify)
    for result in results[:40]:
        rows = result["exercises"]
        odd = sorted({row["status"] for row in rows} & {"error", "timeout", "crashed", "refused", "missing"})
        passed = sum(row["status"] == "passed" for row in rows)
        table.add_row(result["submission"], f"{result['score']:g}", f"{result['max_score']:g}", f"{passed}/{len(rows)}", ", ".join(odd))
    console.print(table)
    if len(results) > 40:
        console.print(f"... and {len(results) - 40} more")
    again = f" ({kept} unchanged since an earlier run)" if kept else ""
    console.print(f"\n{len(results)} graded{again}. Points by student: {scores}; each in full: {scores.parent}/<student>/result.json")


def secret_seed(seed_file: Path | None, out: Path) -> int:
    """The seed of the hidden cases: from the file named, else from DIR/seed.txt, made (for your eyes only) if it is not there."""
    from autograder.cli import UsageProblem
    from autograder.grading.oracle import PUBLIC_SEED

    path = seed_file or out / "seed.txt"
    if seed_file is None and not path.exists():
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{1 + secrets.randbits(62)}\n")
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise UsageProblem(f"--seed-file: {path} cannot be read; it should hold one whole number") from None
    if not text.isdecimal() or int(text) == PUBLIC_SEED or int(text) >= 2**63:
        raise UsageProblem(f"{path}: expected one whole number from 1 to 2^63 - 1 (0 is the public seed), received {text[:40]!r}")
    return int(text)


def roster_names(path: Path) -> list[str]:
    """The first column of a CSV file; a first line called student, name, id, email or submission is a heading."""
    from autograder.cli import UsageProblem

    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageProblem(f"--roster: {path} cannot be read ({type(error).__name__}); it should be a CSV file in UTF-8") from None
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
    absent = [safe_name(name) for name in names or [] if safe_name(name).casefold() not in present]
    return sorted([*found, *(Submission(name) for name in dict.fromkeys(absent))], key=lambda s: s.name.casefold())


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
    """A second run into the same folder is refused, not mixed in."""
    from autograder.cli import UsageProblem
    from autograder.progress import locked

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(out / f".lock{suffix}", blocking=False))
        except OSError:
            raise UsageProblem(f"another `climb grade` is writing to {out}; wait for it, or name another --out") from None
        yield
