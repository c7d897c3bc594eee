"""`climb build-world`: the built-in models, made from nothing."""

from __future__ import annotations

from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    app.command("build-world")(build_world)


def build_world(
    out: Path = typer.Option(Path("runs") / "world", "--out", metavar="DIR", help="Folder for the models and figures.json."),
    only: list[str] = typer.Option(
        [], "--only", metavar="WORLD", help="Reviews, questions, posts or sums; may be repeated. Left out: all."
    ),
) -> None:
    """Train the built-in models from nothing, as the shipped ones were, and print their figures. Takes a quarter of an hour."""
    from rich.console import Console

    from autograder import interrupts
    from autograder.cli import UsageProblem
    from autograder.sandbox import compiler

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageProblem(f"--out: {out} exists and is not an empty folder; name another one")
    unknown = [name for name in only if name not in ("reviews", "questions", "posts", "sums")]
    if unknown:
        raise UsageProblem(f"--only: expected reviews, questions, posts or sums, received {unknown[0]}")
    console = Console()
    with interrupts.not_lost():
        compiler.postpone()
        from full.given import build_world as maker

        import transformers.models.distilbert.modeling_distilbert  # noqa: F401  (a Ctrl-C while libraries load is heard)
        import transformers.models.gpt2.modeling_gpt2  # noqa: F401
        import transformers.models.t5.modeling_t5  # noqa: F401
    with progress_bar(console) as bar:
        tasks: dict[str, int] = {}

        def progress(what: str, done: int, total: int, said: str) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, said=said)
            bar.update(tasks[what], completed=done, said=said)

        figures = maker.build(out, progress, worlds=only or maker.WORLDS)
    for line in maker.told(figures):
        console.print(line, highlight=False, soft_wrap=True)
    made = sorted(place.parent.name for place in out.glob("*/config.json"))
    console.print(f"{out}: {', '.join(made)}, figures.json", soft_wrap=True)


def progress_bar(console):
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description:<16}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[said]}", markup=False),
        console=console,
    )
