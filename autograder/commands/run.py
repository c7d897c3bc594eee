"""`climb run`: train with what you wrote, and keep what happened."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Callable, Optional

import typer

from autograder import course as courses
from autograder.course import Course


def register(app: typer.Typer) -> None:
    app.command("run")(run)


def run(
    what: str = typer.Argument(..., metavar="LESSON", help="What to run: a lesson that has a run (3, word_agent), or a run by name (convergence)."),
    settings: Optional[list[str]] = typer.Argument(None, metavar="[field=value]...", help="Change the configuration: seed=1 updates=500. `climb run WHAT help` lists the fields."),
    preset: Optional[str] = typer.Option(None, "--preset", metavar="NAME", help="Settings to begin with: laptop, imdb, ... (`climb run WHAT help` lists them)."),
    solutions: bool = typer.Option(False, "--solutions", help="Run the reference solutions instead of your files."),
    out: Optional[Path] = typer.Option(None, "--out", metavar="DIR", help="Folder of the run. Left out: runs/NAME, or runs/NAME-2, ... if that is taken."),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run in --out (or the newest one of this name)."),
) -> None:  # fmt: skip
    """Train with what you wrote, and keep the run.

    Metrics, pictures and a summary go into a folder; a run that was stopped goes on with --resume. On several devices:
    accelerate launch --multi_gpu --num_processes 2 -m autograder.cli run WHAT ...
    """
    from rich.console import Console

    course = courses.load()
    name, module = run_called(what, course)
    runner = importlib.import_module(module)
    if settings == ["help"]:
        show_fields(Console(), name, runner)
        return

    def decided() -> tuple[Path, Any]:
        folder_path = folder_for(course.root / "runs", name, out, resume)
        return folder_path, configured(runner, settings or [], folder_path if resume else None, preset)

    folder_path, config = agreed(decided)
    lessons = exercises_of(runner, solutions)
    train(name, runner, config, lessons, folder_path, resume)


def agreed(decided: Callable[[], Any]) -> Any:
    """What is decided once, by the first of the processes that a launcher may have started."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return decided()
    from full.given.runs import processes

    return processes.agreed(decided)


def runs_of(course: Course) -> dict[str, str]:
    """{name: module} of every run, as the lessons' lesson.toml name them: `[runs]`, `convergence = "toy.given.convergence"`."""
    return {name: module for lesson in course.lessons if not lesson.silent_bug for name, module in lesson.runs.items()}


def run_called(word: str, course: Course) -> tuple[str, str]:
    from autograder.cli import UsageProblem

    runs = runs_of(course)
    plain = _plain(word)
    for name, module in runs.items():  # before the lessons: `ppo` is a run of lesson 14, and a file of lesson 6
        if _plain(name) == plain:
            return name, module
    called = []
    for lesson in course.lessons:
        names = {str(lesson.number), f"{lesson.number:02}", _plain(lesson.slug), lesson.file, lesson.folder.name}
        if {word, plain} & names and not lesson.silent_bug:
            called.append(lesson)
    if len(called) > 1:
        raise UsageProblem(f"`{word}` could be {' or '.join(lesson.file for lesson in called)}: write the one you mean")
    for lesson in called:
        if not lesson.runs:
            raise UsageProblem(f"lesson {lesson.number} ({lesson.title}) has nothing to run; these have: {', '.join(runs)}")
        return next(iter(lesson.runs.items()))
    raise UsageProblem(f"there is no run `{word}`; there are {', '.join(runs)}")


def _plain(name: str) -> str:
    return name.replace("-", "_").lower()


def configured(runner: ModuleType, settings: list[str], resumed: Path | None, preset: str | None = None) -> Any:
    """The run's Config: a preset with `field=value` applied; of a resumed run, the configuration it was started with."""
    from autograder.cli import UsageProblem
    from toy.given.run_folder import RunFolder

    fields = {field.name: field for field in dataclasses.fields(runner.Config)}
    presets = getattr(runner, "PRESETS", {})
    if preset is not None and preset not in presets:
        there = f"there is {', '.join(presets)}" if presets else "this run has none"
        raise UsageProblem(f"--preset: no preset `{preset}`; {there}")
    values: dict[str, Any] = dict(presets.get(preset or "laptop", {}))
    if resumed is not None:
        values = {key: value for key, value in RunFolder(resumed).read_config().items() if key in fields}
        if settings or preset:
            raise UsageProblem("--resume goes on with the configuration the run was started with: leave out field=value and --preset")
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign or key not in fields:
            raise UsageProblem(f"expected field=value with one of {', '.join(fields)}; received {setting!r}")
        values[key] = parsed(key, text, type(getattr(runner.Config(), key)))
    try:
        return runner.Config(**values)
    except ValueError as error:
        raise UsageProblem(str(error)) from None


def parsed(key: str, text: str, kind: type) -> Any:
    from autograder.cli import UsageProblem

    try:
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        return kind(text.replace("_", "")) if kind is int else kind(text)
    except (ValueError, KeyError):
        words = {int: "a whole number", float: "a number", bool: "true or false"}
        raise UsageProblem(f"{key}: expected {words.get(kind, kind.__name__)}, received {text!r}") from None


def exercises_of(runner: ModuleType, solutions: bool) -> SimpleNamespace:
    """The functions a run uses, from the learner's files or the reference's. A file that is not there is named."""
    from autograder.cli import UsageProblem
    from autograder.commands.release import need_solutions

    if solutions:
        need_solutions("run --solutions")
    found: dict[str, Any] = {}
    for module_name, names in runner.USES.items():
        file = module_name.replace(".", "/") + ".py"
        try:
            module = importlib.import_module(("solutions." if solutions else "") + module_name)
        except ModuleNotFoundError as error:
            raise UsageProblem(f"{file} cannot be imported: {error}; it is needed here, or run with --solutions") from None
        except Exception as error:
            raise UsageProblem(f"{file} cannot be imported: {type(error).__name__}: {error}. `climb check {file}` says where") from None
        for name in names or [module_name.split(".")[-1]]:
            if names and not hasattr(module, name):
                raise UsageProblem(f"{file} has no `{name}`; it is needed here, or run with --solutions")
            found[name] = getattr(module, name) if names else module
    return SimpleNamespace(**found)


def folder_for(runs: Path, name: str, out: Path | None, resume: bool) -> Path:
    from autograder.cli import UsageProblem

    if out is not None:
        if out.exists() and not out.is_dir():
            raise UsageProblem(f"--out: {out} is a file; name a folder")
        if not resume and (out / "config.yaml").exists():
            raise UsageProblem(f"--out: {out} holds a run already; name another folder, or add --resume")
        if resume and not (out / "config.yaml").exists():
            raise UsageProblem(f"--resume: {out} holds no run")
        return out
    taken = [place for place in (runs / name, *(runs / f"{name}-{n}" for n in range(2, 1000))) if (place / "config.yaml").exists()]
    if resume and not taken:
        raise UsageProblem(f"--resume: there is no run of {name} yet")
    if resume:
        return max(taken, key=lambda place: (place / "config.yaml").stat().st_mtime)
    return next(place for place in (runs / name, *(runs / f"{name}-{n}" for n in range(2, 1001))) if place not in taken)


def train(name: str, runner: ModuleType, config: Any, lessons: SimpleNamespace, path: Path, resume: bool) -> None:
    from rich.console import Console

    from autograder.cli import UsageProblem
    from autograder.grading.shown import progress_bar
    from autograder.sandbox import compiler
    from full.given.problems import InputProblem
    from toy.given.run_folder import RunFolder, one_thread

    compiler.postpone()
    first = os.environ.get("RANK", "0") == "0"  # of several processes one speaks and writes
    console, folder, stage = Console(quiet=not first), RunFolder(path), [0]
    heard: list[str] = []  # what was said while it ran
    if not resume and first:
        folder.write_config(config)
    try:
        with progress_bar(console) as bar:
            task = bar.add_task(name, total=None)

            def progress(what: str, done: int, total: int) -> None:
                if total != stage[0]:  # another stage: its time left is told from its own speed
                    stage[0] = total
                    bar.reset(task, total=total)
                bar.update(task, description=what, completed=done)

            def say(line: str) -> None:
                heard.append(line)
                bar.console.print(line, highlight=False)

            progress.say = say
            with one_thread() if getattr(runner, "ONE_THREAD", True) else contextlib.nullcontext():
                summary = runner.run(config, lessons, folder, progress, resume)
    except KeyboardInterrupt:
        command = name if name.startswith("pretrain ") else f"run {name}"
        console.print(f"Stopped; what was done is kept. `climb {command} --resume --out {path}` goes on.")
        raise
    except InputProblem as problem:
        forget(path, resume)
        raise UsageProblem(str(problem)) from None
    except NotImplementedError as error:
        forget(path, resume)
        raise UsageProblem(f"not written yet: {str(error) or 'an exercise of this run'}; write it, or run with --solutions") from None
    for line in runner.told(summary):
        if line not in heard:
            console.print(line, highlight=False)
    pictures = ", ".join(sorted(place.name for place in path.glob("*.png")))
    console.print(f"{path}: {pictures}, metrics.jsonl, summary.json  [dim]({summary['seconds']:.1f} s)[/dim]", soft_wrap=True)


def forget(path: Path, resume: bool) -> None:
    """Takes back the folder of a run that never began, so that its name is free for the next try."""
    metrics, ours = path / "metrics.jsonl", ("config.yaml", "metrics.jsonl", "samples.jsonl")
    if resume or (metrics.is_file() and metrics.stat().st_size) or (path / "checkpoint").exists():
        return
    for place in (path / name for name in ours):
        place.unlink(missing_ok=True)
    if not any(path.iterdir()):
        path.rmdir()


def show_fields(console, name: str, runner: Any, command: str = "run") -> None:
    presets = getattr(runner, "PRESETS", {})
    console.print(f"{runner.TITLE}: climb {command} {name} [field=value]...", highlight=False, markup=False)
    laptop = presets.get("laptop", {})
    for field in dataclasses.fields(runner.Config):
        value = laptop.get(field.name, field.default)
        console.print(f"  {field.name}={value}  [dim]{field.metadata['help']}[/dim]", highlight=False)
    for preset, values in presets.items():
        shown = " ".join(f"{key}={value}" for key, value in values.items())
        console.print(f"  --preset {preset}  {shown}", highlight=False, markup=False, soft_wrap=True)
