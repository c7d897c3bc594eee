"""`climb report`: runs as one page that can be sent and kept; a graded class as a page for each student and one for all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import typer

from autograder.cli import UsageProblem

LONGEST_TITLE = 90


def register(app: typer.Typer) -> None:
    app.command("report")(report)


def report(
    runs: list[str] = typer.Argument(..., metavar="RUN", help="Runs to show: their folders, or their names under runs/. A folder of runs, as a sweep makes it, counts as its runs. Or one graded class: the folder that `climb grade --out` wrote."),
    out: Optional[Path] = typer.Option(None, "--out", metavar="FILE", help="The page. Left out: report.html in the run's folder, or in the one that holds the runs."),
    policy: Optional[Path] = typer.Option(None, "--policy", metavar="FILE", help="Of a class: the course.toml that says what students may see. Left out: the one it was graded or reported with."),
    lessons_url: str = typer.Option("", "--lessons-url", metavar="URL", help="Of a class: where the folder lessons/ can be read, if the pages go to students: https://example.org/climb."),
) -> None:  # fmt: skip
    """Show runs as one HTML page, several of them side by side; or a graded class, every student and all of them.

    Curves, samples, final figures and configuration of runs; of a class DIR/class.html and DIR/<student>/report.html. The pages
    need no network and no other file.
    """
    from autograder.reports.class_report import is_graded_class

    if len(runs) == 1 and is_graded_class(Path(runs[0])):
        report_class(Path(runs[0]), out, policy, lessons_url)
        return
    if policy is not None or lessons_url:
        told = f"{runs[0]} is none" if len(runs) == 1 else f"received {len(runs)} folders"
        raise UsageProblem(f"--policy and --lessons-url are for one graded class, a folder that `climb grade --out` wrote; {told}")
    report_runs(runs, out)


def report_class(folder: Path, out: Path | None, policy: Path | None, lessons_url: str) -> None:
    """A page for each student of a graded class, and the class's."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from autograder import course as courses
    from autograder.policy import load_policy
    from autograder.reports.class_report import RULES, write_reports

    if out is not None:
        raise UsageProblem(f"--out: a class's pages go into its own folder, {folder}; leave it out")
    if lessons_url and not lessons_url.lower().startswith(("https://", "http://")):
        raise UsageProblem(f"--lessons-url: expected an address that begins with https://, received {lessons_url!r}")
    bars, course = Console(stderr=True), courses.load()
    kept = folder / RULES if (folder / RULES).is_file() else None
    rules = load_policy(policy or kept, course) if policy or kept else None
    columns = TextColumn("pages"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=bars, transient=True, disable=not bars.is_terminal) as bar:
        task = bar.add_task("pages", total=sum(1 for _ in folder.glob("*/result.json")))

        def done(name: str) -> None:
            bar.update(task, advance=1)

        page = write_reports(folder, course, policy=rules, lessons_url=lessons_url, done=done)
    print(f"{page}: open it in a browser; each student's page is {folder}/<student>/report.html")


def report_runs(runs: list[str], out: Path | None) -> None:
    from rich.console import Console

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
