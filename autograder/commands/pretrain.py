"""`climb pretrain`: a language model or a classifier of your own, where no hub is at hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Optional

import typer

KINDS = ("lm", "classifier")


def register(app: typer.Typer) -> None:
    app.command("pretrain")(pretrain)


def pretrain(
    kind: str = typer.Argument(..., metavar="lm|classifier", help="What to train: a language model, or a sentiment classifier."),
    settings: Optional[list[str]] = typer.Argument(None, metavar="[field=value]...", help="Change the configuration: data=texts.jsonl size=distilgpt2. `climb pretrain lm help` lists the fields."),
    out: Optional[Path] = typer.Option(None, "--out", metavar="DIR", help="Directory of the model. Left out: runs/pretrain-lm (-classifier), or -2, ... if that is taken."),
    resume: bool = typer.Option(False, "--resume", help="Go on with the training in --out (or the newest one)."),
) -> None:  # fmt: skip
    """Train a model on your own texts, as a Hugging Face directory.

    `climb run reinforce model=DIR classifier=DIR` takes it from there.
    """
    from rich.console import Console

    from autograder import course as courses
    from autograder.cli import UsageProblem
    from autograder.commands import run as runs

    if kind not in KINDS:
        raise UsageProblem(f"expected {' or '.join(KINDS)}, received {kind!r}")
    from full.given.runs import pretrain as engine

    def start(config, lessons, folder, progress, going_on):
        return engine.run(kind, config, folder, progress, going_on)

    title = f"Training a {'language model' if kind == 'lm' else 'classifier'} on texts"
    runner = SimpleNamespace(Config=engine.KINDS[kind], TITLE=title, ONE_THREAD=False, run=start, told=engine.told)
    if settings == ["help"]:
        runs.show_fields(Console(), kind, runner, "pretrain")
        return

    def decided():
        path = runs.folder_for(courses.load().root / "runs", f"pretrain-{kind}", out, resume)
        return path, runs.configured(runner, settings or [], path if resume else None)

    path, config = runs.agreed(decided)
    runs.train(f"pretrain {kind}", runner, config, SimpleNamespace(), path, resume)
