"""The quiz in a terminal: a task, a number, what came; at the end the scores."""

from __future__ import annotations

import sys
from typing import Any, Callable

from autograder.quiz import told
from autograder.quiz.answers import Answers, percent_in
from autograder.quiz.file import Quiz, Task

Read = Callable[[str], str]
"Shows a prompt and gives back a line; raises EOFError where there is no more."


def begin(quiz: Quiz, console: Any) -> None:
    from rich.text import Text

    console.rule(Text(quiz.title), style="dim")
    if quiz.example:
        console.print(Text("An example of the format: its answers are invented.", style="yellow"))
    console.print(Text(quiz.about))
    console.print(Text(told.HELP, style="dim"))


def play(answers: Answers, console: Any, read: Read, live: bool) -> None:
    """Asks until all is forecast or the person stops. live: a terminal, which is cleared, and waits after each task."""
    if live:
        console.clear()
    begin(answers.quiz, console)
    if answers.done:
        console.print(f"You go on behind {answers.done} of {len(answers.quiz.tasks)} forecasts.", highlight=False)
    try:
        if live and read("Enter begins, q stops: ").strip().lower() == "q":
            return
        while (task := answers.current) is not None:
            if live:
                console.clear()
            show(task, answers, console)
            percent = asked(console, read)
            if percent is None:
                return
            answers.forecast(percent)
            show_feedback(task, percent, console)
            if live and read("Enter goes on, q stops: ").strip().lower() == "q":
                return
    except EOFError:
        console.print()


def show(task: Task, answers: Answers, console: Any) -> None:
    from rich.panel import Panel
    from rich.text import Text

    console.rule(Text(f"{task.kind}   {answers.done + 1} of {len(answers.quiz.tasks)}"), style="dim")
    console.print(Text.assemble((task.model, "bold"), ": ", answers.quiz.models[task.model], style="dim"))
    console.print(Panel(Text(task.prompt), title="prompt", title_align="left", border_style="cyan"))
    console.print(Text(task.question, style="bold"))


def asked(console: Any, read: Read) -> float | None:
    """A forecast in percent; None where the person stops. 0 and 100 are asked for twice."""
    from rich.text import Text

    warned = None
    while True:
        line = read("Yes, in percent (? explains, q stops): ").strip()
        if line.lower() in ("q", "quit"):
            return None
        if line == "?":
            console.print(Text(told.HELP, style="dim"))
            continue
        if line == "" and warned is not None:
            return warned
        percent = percent_in(line)
        if percent is None:
            console.print(Text(f"Expected a number from 0 to 100, received {line[:40]!r}.", style="yellow"))
            continue
        if percent == warned or not told.edge(percent):
            return percent
        warned = percent
        console.print(Text(f"{told.edge(percent)} Enter says it anyway; or give another number.", style="yellow"))


def show_feedback(task: Task, percent: float, console: Any) -> None:
    from rich.panel import Panel
    from rich.text import Text

    said = told.feedback(task, percent)
    console.print(Text.assemble((said["answer"], "bold"), ". ", (said["cost"], "green" if said["good"] else "red")))
    if said["wrote"]:
        console.print(Panel(Text(said["wrote"]), title="it wrote", title_align="left", border_style="dim"))
    for line in (said["explanation"], said["draws"]):
        if line:
            console.print(Text(line))
    console.print(Text(said["how"], style="dim"))
    console.print()


def show_result(answers: Answers, console: Any, who: str = "you") -> None:
    """The final screen, of the forecasts that were made."""
    from rich.text import Text

    result = told.result(answers)
    result["scores"][1][0] = who
    asked_of = "" if answers.current is None else f" of {len(answers.quiz.tasks)}"
    console.rule(Text(f"{answers.quiz.title}: {answers.done}{asked_of} forecasts"), style="dim")
    for name in ("scores", "parts", "kinds"):
        console.print(table(result[name], console))
    for line in result["sentences"]:
        console.print(Text(line))


def table(rows: list[list[str]], console: Any) -> Any:
    """The first row is the head; the first column words, the others numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for number, name in enumerate(rows[0]):
        made.add_column(Text(name), justify="left" if number == 0 else "right")
    for row in rows[1:]:
        made.add_row(*map(Text, row))
    made.caption_justify = "left"
    return made


def lines() -> tuple[Read, bool]:
    """How lines are read here, and whether there is a person at a terminal."""
    live = sys.stdin.isatty() and sys.stdout.isatty()
    if live:
        return input, True

    def piped(prompt: str) -> str:
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        print(f"{prompt}{line.strip()}")
        return line

    return piped, False
