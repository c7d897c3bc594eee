"""`climb label`: two answers side by side, and which of them is better, for the reward model of lesson 12."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from pathlib import Path
from typing import Any, Callable, Iterator

import typer

KEYS = "[b]1[/b] first   [b]2[/b] second   [b]0[/b] or space tie   [b]s[/b] skip   [b]u[/b] undo   [b]q[/b] quit"


def register(app: typer.Typer) -> None:
    app.command("label")(label)


def label(
    source: str = typer.Argument(
        "questions", metavar="[FILE]", help="Pairs to judge: a .json, .jsonl or .csv file with prompt, answer1, answer2 (or"
        " prompt, chosen, rejected; or qa_feedback rows). Left out: questions of the built-in world."
    ),
    out: Path = typer.Option(Path("labels.json"), "--out", metavar="FILE", help="Where they go, in Label Studio's format."),
    count: int = typer.Option(20, "--count", min=1, help="How many pairs, the first ones of the source."),
    seed: int = typer.Option(0, "--seed", help="Decides which answer stands first."),
    page: bool = typer.Option(False, "--page", help="As a page in the browser, on this machine alone."),
    port: int = typer.Option(0, "--port", min=0, max=65535, help="Port of the page; 0: any free one."),
    open_browser: bool = typer.Option(False, "--open", help="Open the page in the browser."),
) -> None:
    """Judge pairs of answers, one key each, to train a reward model on.

    1 or 2: that one is better; 0 or space: a tie; s: skip; u: take the last one back; q: quit. Every judgement is saved at once,
    and the same command goes on where you stopped. Which answer stands first is left to a coin, and recorded.
    """
    from autograder.cli import UsageProblem
    from autograder.pages import labelling
    from full.given.problems import InputProblem

    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageProblem(f"--out: {out} is {'a folder' if out.is_dir() else 'in no folder that exists'}; name a file")
    try:
        pairs = labelling.pairs_of(source, count, seed)
    except InputProblem as problem:
        raise UsageProblem(str(problem).removeprefix("data=")) from None
    except ValueError as problem:  # a row of the file that will not do
        raise UsageProblem(f"{source}: {problem}") from None
    if not page and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageProblem("judging takes single keys, and this is no terminal; use --page, or run it in a terminal")
    with alone(out):
        try:
            labels = labelling.Labels(pairs, out, seed)
        except InputProblem as problem:
            raise UsageProblem(str(problem)) from None
        if page:
            as_page(labels, port, open_browser)
        else:
            on_terminal(labels)
    for line in labelling.told(labels):
        print(line)


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Nobody else writes the file meanwhile: two who both have all judgements in mind would overwrite each other's."""
    from autograder.cli import UsageProblem
    from autograder.progress import locked

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(out.absolute().with_name(f".{out.name}.lock"), blocking=False))
        except BlockingIOError:
            raise UsageProblem(f"--out: another `climb label` has {out} open; end that one, or name another file") from None
        except OSError as error:
            raise UsageProblem(f"--out: {out} cannot be written: {error.strerror or error}; name another file") from None
        yield


# the terminal


def on_terminal(labels: Any) -> None:
    """Shows pair after pair until all are judged or the person quits."""
    from rich.console import Console

    console = Console()
    with single_keys() as keys:
        note = ""
        while labels.current is not None:
            console.clear()
            show(labels, console, note)
            note = taken(labels, next(keys))
            if note is None:
                return
    console.clear()


def taken(labels: Any, key: str) -> str | None:
    """What a key does; the note to show with the next pair, None to quit."""
    if key in ("q", "\x04"):
        return None
    if key == "u":
        return "Taken back." if labels.undo() else "There is nothing to take back."
    if key in ("1", "2", "0", " ", "s"):
        labels.judge("0" if key == " " else key)
        return ""
    return "That key means nothing here."


def show(labels: Any, console: Any, note: str = "") -> None:
    """The current pair: the prompt, the answers side by side, the keys."""
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from autograder.pages.labelling import readable

    pair = labels.current
    console.rule(f"Which answer is better?   {labels.done + 1} of {len(labels.pairs)}", style="dim")
    console.print(Panel(Text(harmless(readable(pair.prompt))), title="prompt", title_align="left", border_style="dim"))
    both = Table.grid(expand=True, padding=(0, 1))
    both.add_column(ratio=1)
    both.add_column(ratio=1)
    answers = [Text(harmless(text)) if text else Text("(nothing)", style="dim italic") for text in (pair.first, pair.second)]
    both.add_row(*(Panel(text, title=str(which), border_style="cyan") for which, text in enumerate(answers, 1)))
    console.print(both)
    console.print(KEYS, highlight=False)
    if note:
        console.print(Text(note, style="yellow"))


def harmless(text: str) -> str:
    """Without the codes by which a text could drive the terminal: it may come from anywhere."""
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)


def keys_in(pressed: str) -> Iterator[str]:
    """The keys of what was read at once: a sequence that begins with Escape is one key (an arrow, F5), all else one each."""
    plain, escape, sequence = pressed.partition("\x1b")
    yield from plain
    if escape:
        yield escape + sequence


class single_keys:
    """Keys as they are pressed, without Enter and without being shown; Ctrl-C is still heard."""

    def __enter__(self) -> Iterator[str]:
        try:
            import termios
            import tty
        except ModuleNotFoundError:  # Windows
            import msvcrt

            self.restore: Callable[[], None] = lambda: None
            one = msvcrt.getwch

            def key() -> str:
                pressed = one()
                return pressed + one() if pressed in ("\x00", "\xe0") else pressed  # arrows and the like come in two

            return iter(key, "\x03")
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
        self.restore = lambda: termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        tty.setcbreak(descriptor)

        def pressed() -> Iterator[str]:
            while True:
                yield from keys_in(os.read(descriptor, 64).decode(errors="ignore") or "q")

        return pressed()

    def __exit__(self, *_: Any) -> None:
        self.restore()


# the page


def as_page(labels: Any, port: int, open_browser: bool) -> None:
    from autograder.pages.server import serve

    serve(page_of(labels), port=port, open_browser=open_browser)


def page_of(labels: Any) -> Any:
    """The page: what it shows, and what its keys do."""
    from autograder.pages.labelling import CHOICES, readable
    from autograder.pages.server import Page, Refused

    def state() -> dict:
        pair = labels.current
        shown = {} if pair is None else {"prompt": readable(pair.prompt), "first": pair.first, "second": pair.second}
        return {"done": labels.done, "total": len(labels.pairs), "file": str(labels.path), "counts": labels.counts(), **shown}

    def judge(body: dict) -> dict:
        if body.get("choice") not in CHOICES:
            raise Refused(f"choice: expected one of {', '.join(CHOICES)}, received {body.get('choice')!r:.20}")
        if body.get("done") != labels.done or labels.current is None:  # a second click, or a second window
            return state()
        labels.judge(body["choice"])
        return state()

    def undo(body: dict) -> dict:
        if body.get("done") == labels.done:
            labels.undo()
        return state()

    def finish(body: dict) -> dict:
        page.finish()
        return state()

    page = Page("label", title="Which answer is better?", state=state, actions={"judge": judge, "undo": undo, "quit": finish})
    return page
