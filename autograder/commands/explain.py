"""`climb explain`: one exercise of one graded student, case by case."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Optional

import typer

from autograder import course as courses


def register(app: typer.Typer) -> None:
    app.command("explain")(explain)


def explain(
    result: Path = typer.Argument(..., metavar="RESULT", help="A student's result.json, or the folder it is in: DIR/<student>."),
    exercise: str = typer.Argument(..., metavar="EXERCISE", help="By name or id: Baseline.update, toy/word_agent.py::train."),
    case: Optional[int] = typer.Option(None, "--case", metavar="N", help="The N-th case. Left out: the first that is wrong."),
    seed_file: Optional[Path] = typer.Option(None, "--seed-file", metavar="FILE", help="Holds the secret seed. Left out: DIR/seed.txt."),
    as_json: bool = typer.Option(False, "--json", help="Print what was found as JSON and nothing else."),
) -> None:  # fmt: skip
    """Run one exercise of one student once more and show inputs, answer and truth, hidden ones too.

    For the instructor: what it prints tells the hidden cases. Exit code 0 if the verdict is again what the result says.
    """
    from autograder.cli import UsageProblem
    from autograder.commands.release import need_solutions
    from autograder.grading.replay import read_result, replay, seed_of
    from autograder.sandbox import open_sandbox

    need_solutions("explain")
    course = courses.load()
    folder, found = read_result(result)
    graded = [one for one in course.exercises if any(row.get("id") == one.id for row in found["exercises"])]
    meant = [one for one in graded if exercise.casefold() in (one.name.casefold(), one.id.casefold())]
    meant = meant or [one for one in course.select([exercise]) if one in graded]
    if len(meant) != 1:
        names = ", ".join(one.name for one in meant[:6])
        raise UsageProblem(f"{exercise} is {len(meant)} exercises of this result{f' ({names})' if names else ''}; name one")
    seed = seed_of(found, folder, seed_file)
    with open_sandbox([meant[0].lesson.module], "full" if found.get("sandbox") == "full" else None) as sandbox:
        again = replay(course, meant[0], folder, found, seed, sandbox, case)
    if as_json:
        head = {key: found.get(key) for key in ("submission", "grader", "sandbox", "layers", "seed", "seconds", "audit")}
        told = {
            "schema": 1,
            "exercise": meant[0].id,
            "result": head,
            "row": again.row,
            "agrees": again.agrees,
            "notes": again.notes,
        }
        print(json.dumps(told | {"checks": [dataclasses.asdict(one) for one in again.checks]}, indent=1))
    else:
        show(again, meant[0])
    raise typer.Exit(0 if again.agrees else 1)


def show(again, exercise) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False, soft_wrap=True)
    row, result = again.row, again.result
    audit = result.get("audit") if isinstance(result.get("audit"), dict) else {}
    console.print(f"[bold]{escape(result['submission'])}[/bold]  {escape(exercise.id)}")
    console.print(
        f"graded    {audit.get('graded_at', 'at a time not told')} by version {result.get('grader')}, seed {result['seed']}",
        markup=False,
    )
    console.print(f"          sandbox {result.get('sandbox')}: {', '.join(result.get('layers', []))}", markup=False)
    for name in ("submission", "checks"):
        if audit.get(name):
            console.print(f"          hash of the {name} {audit[name][:16]}", markup=False)
    console.print(
        f"result    {row['status']}, {row['score']:g} of {row['max_score']:g}{_named(row['misconception'])}", markup=False
    )
    for one in again.checks:
        verdict = one.verdict
        console.print(
            f"\n{one.check} ({one.points:g} points, {one.seconds:.2f} s): {verdict.status}{_named(verdict.misconception)}",
            markup=False,
        )
        for case in one.cases:
            console.print(f"case {case.number}: {case.wrong or 'right'}", markup=False)
            for title, values in (("with", case.inputs), ("received", case.received), ("expected", case.expected)):
                for name, value in values.items():
                    console.print(f"  {title:<9} {name} = {value}", markup=False)
        if verdict.hint:
            console.print(f"hint      {verdict.hint}", markup=False)
        if verdict.status in ("error", "crashed", "timeout", "missing", "not_started"):
            console.print(verdict.message, markup=False)
        if verdict.printed:
            console.print(f"printed   {verdict.printed.strip()}", markup=False)
    console.print()
    for note in again.notes:
        console.print(note, style="yellow", markup=False)
    agrees = (
        "The verdict is again what the result says."
        if again.agrees
        else f"The result says {row['status']}, this time it is {again.status}."
    )
    console.print(agrees, style="" if again.agrees else "bold red", markup=False)


def _named(misconception: str | None) -> str:
    return f", known as {misconception}" if misconception else ""
