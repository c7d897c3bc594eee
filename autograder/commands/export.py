"""`climb export`: the grades of a class as a table, or as a file that Canvas or Moodle imports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Optional

import typer


def register(app: typer.Typer) -> None:
    app.command("export")(export)


def export(
    directory: Path = typer.Argument(..., metavar="DIR", help="What `climb grade --out DIR` has written."),
    form: str = typer.Option("csv", "--format", metavar="NAME", help="csv, canvas or moodle."),
    gradebook: Optional[Path] = typer.Option(None, "--gradebook", metavar="FILE", help="The learning system's own export (of its gradebook, or Moodle's grading worksheet): its students are found by id, and the one column is filled."),
    column: Optional[str] = typer.Option(None, "--column", metavar="NAME", help="The assignment's column. Left out: the one that names Climb, or the only one."),
    scale: bool = typer.Option(False, "--scale", help="Where the column counts other points than the results, convert."),
    out: Optional[Path] = typer.Option(None, "--out", metavar="FILE", help="Where to write. Left out: DIR/grades.csv, DIR/canvas.csv, DIR/moodle.csv."),
) -> None:  # fmt: skip
    """Write the grades as grades.csv, or for the gradebook of Canvas or Moodle."""
    from autograder import exports
    from autograder.cli import UsageProblem
    from autograder.exports.gradebook import GradebookError

    if form not in ("csv", "canvas", "moodle"):
        raise UsageProblem(f"--format: expected csv, canvas or moodle, received {form!r}")
    if form == "csv" and (gradebook or column or scale):
        raise UsageProblem("--gradebook, --column and --scale are for --format canvas or moodle")
    if not directory.is_dir():
        raise UsageProblem(f"{directory} is no folder; name what `climb grade --out` has written")
    target = out or directory / {"csv": "grades.csv", "canvas": "canvas.csv", "moodle": "moodle.csv"}[form]
    if gradebook is not None and target.resolve() == gradebook.resolve():
        raise UsageProblem(f"--out: {target} is the gradebook itself; name another file")
    try:
        grades = exports.read_grades(directory)
        if not grades:
            raise UsageProblem(f"{directory} holds no results; `climb grade SUBMISSIONS --out {directory}` makes them")
        if form == "csv":
            print(f"{len(grades)} grades: {exports.write_grades(grades, target)}")
            return
        done = (exports.canvas if form == "canvas" else exports.moodle)(grades, target, gradebook, column, scale)
    except GradebookError as error:
        raise UsageProblem(str(error)) from None
    except ValueError as error:
        raise UsageProblem(str(error)) from None
    print(f"{done.filled} grades in `{done.column}`: {done.path}")
    told = (
        ("fit more than one and were left out", done.ambiguous),
        ("not in the gradebook", done.not_in_gradebook),
        ("in the gradebook without a result", done.without_grade),
    )
    for what, names in told:
        if names:
            shown = "; ".join(" ".join(name.split())[:80] for name in names[:8])
            print(f"climb: {what}: {shown}{'; ...' if len(names) > 8 else ''}", file=sys.stderr)
    raise typer.Exit(1 if done.ambiguous else 0)
