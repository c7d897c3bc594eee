"""`climb quiz`: will the model do it? Forecasts in percent, what came, and what the forecasts were worth (lesson 16)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import typer

DEFAULT_OUT, DEMO_PLOT = Path("quiz-answers.json"), Path("quiz-demo.png")


def register(app: typer.Typer) -> None:
    app.command("quiz")(quiz)


def quiz(
    file: Optional[Path] = typer.Option(
        None, "--file", metavar="QUIZ", help="A quiz of your own, as lessons/16-forecast/quizzes/format.md says; else ours."
    ),
    out: Optional[Path] = typer.Option(
        None, "--out", metavar="FILE", help="Where the forecasts go; left out: quiz-answers.json. The plot lies beside it."
    ),
    page: bool = typer.Option(False, "--page", help="As a page in the browser, on this machine alone."),
    port: int = typer.Option(0, "--port", min=0, max=65535, help="Port of the page; 0: any free one."),
    open_browser: bool = typer.Option(False, "--open", help="Open the page in the browser."),
    demo: bool = typer.Option(False, "--demo", help="Let three made-up forecasters answer, and show what they are worth."),
    check: Optional[Path] = typer.Option(
        None, "--check", metavar="QUIZ", help="Only say whether this file is a quiz, and what is wrong with it."
    ),
    build: Optional[Path] = typer.Option(
        None, "--build", metavar="QUIZ", help="Make the built-in quiz anew: train, sample, and write it to this file."
    ),
    runs: Optional[Path] = typer.Option(
        None, "--runs", metavar="DIR", help="With --build: runs to ask about, DIR/reinforce, ...; a missing one is trained there."
    ),
) -> None:
    """Forecast whether small models will do what they are asked, and see what your forecasts were worth.

    Every answer was computed by running the models; the quiz itself needs none. Each forecast is saved at once, and the same
    command goes on where you stopped. A number from 0 to 100: how likely you think a yes is; ?: help; q: stop.
    """
    from autograder.cli import UsageProblem

    ways = {"--page": page, "--demo": demo, "--check": check is not None, "--build": build is not None}
    chosen = [name for name, given in ways.items() if given]
    if len(chosen) > 1:
        raise UsageProblem(f"{' and '.join(chosen)} are different things: choose one")
    if runs is not None and build is None:
        raise UsageProblem("--runs goes with --build")
    if build is not None:
        return built(build, runs)
    if check is not None:
        return checked(check)
    asked = quiz_in(file)
    if demo:
        return demonstrated(asked, out)
    answers = answers_of(asked, out or DEFAULT_OUT)
    if page:
        as_page(answers, port, open_browser)
    else:
        on_terminal(answers)


# the files


def built_in() -> Path:
    """Where the course's own quiz is, in a copy that has lesson 16."""
    from autograder.reference import ROOT

    return ROOT / "lessons" / "16-forecast" / "quizzes" / "small-models.json"


def quiz_in(file: Path | None) -> Any:
    """The quiz. Raises UsageProblem with the first error of a file that is none."""
    from autograder.cli import UsageProblem
    from autograder.quiz import file as files

    place = built_in() if file is None else file
    if not place.exists():
        missing = "this copy of the course has no quiz of its own (it comes with lesson 16); name one with --file"
        raise UsageProblem(missing if file is None else f"--file: there is no {place}")
    try:
        return files.read(place)
    except files.QuizProblem as problem:
        more = len(problem.lines) - 1
        rest = f" ({more} more: climb quiz --check {place})" if more else ""
        raise UsageProblem(f"{place}: {problem.lines[0].removeprefix(f'{place}: ')}{rest}") from None


def answers_of(asked: Any, out: Path) -> Any:
    from autograder.cli import UsageProblem
    from autograder.quiz.answers import Answers, AnswersProblem

    require_place(out)
    try:
        return Answers(asked, out)
    except AnswersProblem as problem:
        raise UsageProblem(str(problem)) from None


def require_place(out: Path, option: str = "--out") -> None:
    from autograder.cli import UsageProblem

    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageProblem(f"{option}: {out} is {'a folder' if out.is_dir() else 'in no folder that exists'}; name a file")


def checked(place: Path) -> None:
    """Says whether a file is a quiz; every error in a line, and exit code 1, where it is none."""
    from autograder.cli import UsageProblem
    from autograder.quiz import file as files

    if not place.exists():
        raise UsageProblem(f"--check: there is no {place}")
    try:
        found = files.read(place)
    except files.QuizProblem as problem:
        for line in problem.lines:
            print(f"{place}: {line.removeprefix(f'{place}: ')}")
        raise typer.Exit(1) from None
    yes = sum(task.answer for task in found.tasks)
    example = "; an example of the format, its answers are invented" if found.example else ""
    models = "a model" if len(found.models) == 1 else f"{len(found.models)} models"
    print(f"{place}: a quiz of {len(found.tasks)} tasks about {models}, {yes} of them a yes{example}.")


# the ways to take it


def on_terminal(answers: Any) -> None:
    from rich.console import Console

    from autograder.quiz import terminal

    console, (read, live) = Console(), terminal.lines()
    if answers.current is not None:
        try:
            terminal.play(answers, console, read, live)
        except KeyboardInterrupt:
            kept_so_far = f"{answers.done} of {len(answers.quiz.tasks)} forecasts are in {answers.path}"
            raise KeyboardInterrupt(f"{kept_so_far}; the same command goes on" if answers.done else "") from None
    if live:
        console.clear()
    if answers.done:
        terminal.show_result(answers, console)
    for line in kept(answers, plot_of(answers)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def as_page(answers: Any, port: int, open_browser: bool) -> None:
    from autograder.pages.server import serve
    from autograder.quiz.page import page_of

    serve(page_of(answers), port=port, open_browser=open_browser)
    for line in kept(answers, plot_of(answers)):
        print(line)


def plot_of(answers: Any) -> Path | None:
    """The reliability plot beside the answers; None where there is nothing to draw."""
    from autograder.quiz import picture

    if not answers.done:
        return None
    place = answers.path.with_suffix(".png")
    picture.save({"you": (answers.said, answers.came)}, place)
    return place


def kept(answers: Any, plot: Path | None) -> list[str]:
    """Where things are, and what to do next."""
    if not answers.done:
        return ["No forecast was made."]
    lines = [f"Forecasts: {answers.path}. Reliability plot: {plot}."]
    if answers.current is not None:
        lines.append("The same command goes on where you stopped.")
    elif not answers.quiz.example:
        lines.append("Lesson 16 asks four questions about what you have just learnt of yourself: climb answer 16.")
    if answers.current is None:
        lines.append("To take it once more, name another file with --out.")
    return lines


def demonstrated(asked: Any, out: Path | None) -> None:
    """Three forecasters that are made up: each one's scores, the whole final screen of one, a plot of all."""
    from rich.console import Console
    from rich.text import Text

    from autograder.quiz import forecasters, picture, scoring, terminal, told
    from autograder.quiz.answers import Answers

    place = DEMO_PLOT if out is None else out if out.suffix == ".png" else out.with_suffix(".png")
    require_place(place)
    console, came = Console(), [task.answer for task in asked.tasks]
    simulated = forecasters.simulated(asked)
    shown = Answers(asked, None)
    for said in simulated["over-confident"][1]:
        percent = round(100 * said)
        if shown.done == 0:
            terminal.show(shown.current, shown, console)
            terminal.show_feedback(shown.current, percent, console)
        shown.forecast(percent)
    terminal.show_result(shown, console, "over-confident")
    console.print()
    console.rule(Text("Three made-up forecasters"), style="dim")
    for name, (does, _) in simulated.items():
        console.print(Text.assemble((name, "bold"), f" {does}."))
    rows = [told.cells(name, scoring.scores(said, came)) for name, (_, said) in simulated.items()]
    rows += [told.cells(*row) for row in scoring.constants(came).items()]
    console.print(terminal.table([told.HEAD, *rows], console))
    picture.save({name: (said, came) for name, (_, said) in simulated.items()}, place)
    console.print(f"Reliability plot: {place}. Your own forecasts: climb quiz.", highlight=False, markup=False, soft_wrap=True)


# the maker


def built(place: Path, runs: Path | None) -> None:
    """Trains what is to be asked about, unless it is there; runs all models; writes the quiz."""
    import tempfile

    from rich.console import Console

    from autograder.cli import UsageProblem
    from autograder.progress import write_whole
    from autograder.quiz import file as files
    from autograder.sandbox import compiler

    require_place(place, "--build")
    if runs is not None and runs.exists() and not runs.is_dir():
        raise UsageProblem(f"--runs: {runs} is a file; name a folder")
    try:
        from full.given import quiz_tasks
        from full.given.problems import InputProblem
        from toy.given.run_folder import one_thread
    except ModuleNotFoundError:
        raise UsageProblem("--build runs the models of the full track, which this copy of the course does not have") from None
    compiler.postpone()
    console = Console()
    with tempfile.TemporaryDirectory() as own:
        folders = {name: (runs or Path(own)) / name for name in quiz_tasks.RUNS}
        for name, folder in folders.items():
            if not (folder / "summary.json").is_file():
                trained(name, folder)
        try:
            with one_thread():
                made = quiz_tasks.build(folders, lambda line: console.print(line, style="dim", highlight=False))
        except InputProblem as problem:
            raise UsageProblem(str(problem)) from None
    text = quiz_tasks.as_json(made)
    files.parsed(json.loads(text))  # it is held to its own format
    write_whole(place, text)
    checked(place)


def trained(name: str, folder: Path) -> None:
    """A run of the laptop preset with the reference solutions."""
    from autograder.commands import run
    from autograder.commands.release import need_solutions

    need_solutions("quiz --build")
    run.run(name, None, None, True, folder, False)
