"""`climb gradescope`: an autograder zip to upload to Gradescope."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Optional

import typer

from autograder import course as courses


def register(app: typer.Typer) -> None:
    app.command("gradescope")(gradescope)


def gradescope(
    target: Path = typer.Argument(..., metavar="ZIP", help="Where to write it, such as climb.zip."),
    lessons: Optional[str] = typer.Option(None, "--lessons", metavar="L", help="Only these: 1-3 or 1,2,5. Left out: those of the policy, else all."),
    policy: Optional[Path] = typer.Option(None, "--policy", metavar="FILE", help="A course.toml: lessons, what students see and when, lateness."),
    seed_file: Optional[Path] = typer.Option(None, "--seed-file", metavar="FILE", help="Holds the secret seed, as for `climb grade`. Left out: ZIP.seed.txt, made if it is not there."),
    memory: int = typer.Option(768, "--memory", min=384, metavar="MB", help="Of the container, as set for the assignment."),
    minutes: float = typer.Option(10.0, "--minutes", min=2.0, max=40.0, metavar="N", help="Time of a run, as set for the assignment."),
    sandbox: str = typer.Option("user", "--sandbox", metavar="LEVEL", help="Lowest accepted there. full; user: all of it but Landlock, which not every host has; process: limits alone, for your own code."),
    questions: bool = typer.Option(False, "--questions", help="Mark the written questions too, as far as that needs no person."),
    torch_index: str = typer.Option("", "--torch-index", metavar="URL", help="A package index of PyTorch's CPU builds; without it the image holds the GPU libraries too, some gigabytes."),
) -> None:  # fmt: skip
    """Write an autograder zip for Gradescope: each exercise a test, with partial credit, on hidden cases, in a sandbox."""
    from autograder.cli import UsageProblem
    from autograder.commands.release import chosen_lessons, need_solutions

    need_solutions("gradescope")
    course = courses.load()
    if sandbox not in ("full", "user", "process"):
        raise UsageProblem(f"--sandbox: expected full, user or process, received {sandbox!r}")
    if target.suffix.lower() != ".zip" or target.is_dir():
        raise UsageProblem(f"{target}: expected a name that ends in .zip")
    if not target.absolute().parent.is_dir():
        raise UsageProblem(f"{target.absolute().parent} does not exist; make that folder first")
    if torch_index and not torch_index.startswith(("https://", "http://", "file://")) or set(torch_index) & set("\"'`$\\ \n"):
        raise UsageProblem(f"--torch-index: expected a URL, received {torch_index[:60]!r}")
    chosen, _ = chosen_lessons(lessons, policy, course)
    seed = seed_for(seed_file or target.with_name(target.name + ".seed.txt"), made=seed_file is None)
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from autograder.gradescope.package import package

    with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task("Freezing", total=len(chosen))

        def step(title: str) -> None:
            bar.update(task, description=escape(title), completed=bar.tasks[0].completed + 1)

        package(
            course,
            chosen,
            target,
            seed,
            policy=policy,
            memory_mb=memory,
            seconds=60 * minutes,
            sandbox=sandbox,
            questions=questions,
            torch_index=torch_index,
            step=step,
        )
    points = sum(exercise.points for lesson in chosen for exercise in lesson.exercises)
    exercises = sum(len(lesson.exercises) for lesson in chosen)
    size = target.stat().st_size / 1e6
    print(f"{target}: {exercises} exercises of {len(chosen)} files, {points:g} points, {size:.1f} MB.")
    print("It holds solutions and the secret seed: keep it to yourself.")
    print(
        f"Upload it as the assignment's autograder, with {memory} MB and {minutes:g} minutes. A container there gives no namespaces: each"
    )
    print(
        "check runs as a user of its own, without privileges, sockets or other processes, and with Landlock where the kernel has it."
    )


def seed_for(path: Path, made: bool) -> int:
    """The secret seed in a file; `made`: a file that is not there is written, for its owner's eyes only."""
    from autograder.commands.grade import secret_seed
    from autograder.progress import write_whole

    if made and not path.exists():
        write_whole(path, f"{1 + secrets.randbits(62)}\n", mode=0o600)
    return secret_seed(path, path.parent)
