"""`climb doctor`: what this machine can enforce."""

from __future__ import annotations

import dataclasses
import json
from typing import Optional

import typer

from autograder import course as courses


def register(app: typer.Typer) -> None:
    app.command("doctor")(doctor)


def doctor(
    backend: Optional[str] = typer.Option(None, "--backend", metavar="NAME", help="Examine the sandbox within this one: bwrap, docker or runsc."),
    as_json: bool = typer.Option(False, "--json", help="Print what was found as JSON and nothing else."),
) -> None:  # fmt: skip
    """Say what the sandbox can enforce on this machine: each layer is tried by a small attack.

    Exit code 0 where other people's code can be graded: the level is full and every attack was withstood.
    """
    from autograder.sandbox import open_sandbox
    from autograder.sandbox.diagnosis import diagnose

    course = courses.load()
    lesson = next(lesson for lesson in course.lessons if lesson.exercises)
    probe = lesson.exercises[0].checks[0].probe
    with open_sandbox([lesson.module], libraries=lambda _: [], backend=backend) as sandbox:
        found = diagnose(sandbox, lesson.module, probe)
    if as_json:
        print(json.dumps({"schema": 1, "full": found.full, **dataclasses.asdict(found)}, indent=1))
    else:
        show(found)
    raise typer.Exit(0 if found.full else 1)


def show(found) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    for name, value in found.machine.items():
        console.print(f"{name:<30} {value}", markup=False)
    console.print()
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("a child that", "", "", "kept off by"):
        table.add_column(title, overflow="fold")
    for tried in found.attacks:
        mark = "[green]withstood[/green]" if tried.held else "[red]NOT withstood[/red]"
        table.add_row(escape(tried.what), mark, escape(tried.saw), ", ".join(tried.by))
    console.print(table)
    console.print()
    for name, problem in found.backends.items():
        console.print(f"backend {name:<8} {problem or f'can be used: --backend {name}'}", markup=False, soft_wrap=True)
    console.print()
    if found.note:
        console.print(escape(found.note), style="yellow", soft_wrap=True)
    for line in found.advice:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"Sandbox level {found.level}: {', '.join(found.layers)}", markup=False, soft_wrap=True)
    verdict = "Other people's code can be graded here." if found.full else "Do not grade other people's code here."
    console.print(verdict, style="bold")
