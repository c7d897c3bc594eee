"""`climb report`: runs as one page that can be sent, printed and kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import typer

LONGEST_TITLE = 90


def register(app: typer.Typer) -> None:
    app.command("report")(report)


def report(
    runs: list[str] = typer.Argument(..., metavar="RUN", help="Runs to show: their folders, or their names under runs/. A folder of runs, as a sweep makes it, counts as its runs."),
    out: Optional[Path] = typer.Option(None, "--out", metavar="FILE", help="The page. Left out: report.html in the run's folder, or in the one that holds the runs."),
) -> None:  # fmt: skip
    """Show runs as one HTML page, several of them side by side.

    Curves, samples, final figures and configuration; the page needs no network and no other file.
    """
    from rich.console import Console

    from autograder.cli import UsageProblem
    from autograder.reports import run_report
    from autograder.reports.run_report_data import RunProblem, find_runs, read_runs

    try:
        places = find_runs(runs, _runs_folder())
        found = read_runs(places)
    except RunProblem as error:
        raise UsageProblem(str(error)) from None
    home = _home(places, named=len(runs))
    file = out or home / "report.html"
    if out is not None and out.is_dir():
        raise UsageProblem(f"--out: {out} is a folder; name a file, such as {out / 'report.html'}")
    if file.exists() and not _is_report(file):
        raise UsageProblem(f"{file} is there already and no report; name another file with --out")
    title = ", ".join(dict.fromkeys(Path(word).resolve().name for word in runs))
    _write(file, run_report.page(found, title if len(title) <= LONGEST_TITLE else f"{len(found)} runs"))
    console = Console()
    for run in found:
        for note in run.notes:
            console.print(f"{run.name}: {note}", highlight=False, markup=False, soft_wrap=True)
    rows, samples = (sum(len(part) for part in parts) for parts in ((r.rows for r in found), (r.samples for r in found)))
    told = f"{file}: {len(found)} run{'s' * (len(found) > 1)}, {rows} rows of metrics, {samples} samples"
    console.print(told, highlight=False, markup=False, soft_wrap=True)


def _runs_folder() -> Path | None:
    """Where `climb run` puts runs; None outside a course, where only folders can be named."""
    from autograder import course as courses

    try:
        return courses.find_root(None) / "runs"
    except courses.CourseError:
        return None


def _home(places: list[Path], named: int) -> Path:
    """The folder of the one run; else the one that was named and holds the runs; of runs named singly, the first one's parent."""
    if len(places) == 1:
        return places[0]
    return Path(os.path.commonpath([place.parent for place in places])) if named == 1 else places[0].parent


def _is_report(file: Path) -> bool:
    from autograder.reports.run_report import MARK

    with open(file, "rb") as opened:
        return MARK.encode() in opened.read(500)


def _write(file: Path, text: str) -> None:
    """All of it or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, file)
