"""The command `climb`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from functools import lru_cache, wraps
from typing import Callable

from autograder import __version__

HELP = """Reinforcement learning for language models, by exercises that are checked against exact truth.

New here? `climb tour` shows the course at work, `climb next` says what to do now, `climb check` says whether it is right.
A lesson's text is lessons/NN-name/lesson.md, and what you write is toy/name.py or full/name.py.

To learn: check, watch, next, hint, progress, answer, run, report, label, quiz, pretrain. To teach: release, grade, rubric,
similar, explain, export, gradescope, doctor. To change the course: skeletons, selfcheck, build-world.
"""

# In the order in which `climb --help` lists them.
COMMANDS = (
    *("check", "watch", "learn", "answer", "run", "report", "label", "quiz", "pretrain", "tour"),
    *("grade", "rubric", "similar", "export", "explain", "gradescope", "release", "doctor"),
    *("skeletons", "selfcheck", "build_world"),
)


class Stopped(Exception):
    """Ctrl-C within a command. Versions of the command-line library differ in what they make of a KeyboardInterrupt."""


class UsageProblem(Exception):
    """Bad input: one line that says what was expected, what came and what to do. Ends the command with exit code 2."""


def main(arguments: list[str] | None = None) -> None:
    """Exit 0: everything asked for passes. 1: something graded fails. 2: usage or input error, one line. 130: Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    code = run(arguments)
    # Stopped: threads that wait for learner code need not be waited for, since nobody wants their answers any more. After a check
    # nothing is left to be done, and taking its libraries apart would take a tenth of a second.
    if code == 130 or arguments[:1] == ["check"]:
        with contextlib.suppress(OSError, AttributeError, ValueError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code. Whatever goes wrong outside our own code is one line on stderr."""
    try:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows `?`
        code = _dispatch(arguments)
        if code == 130:  # Ctrl-C before the command began
            raise KeyboardInterrupt
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except (KeyboardInterrupt, Stopped) as interrupt:
        return _say(f"stopped: {interrupt}" if str(interrupt) else "stopped", 130)
    except BrokenPipeError:  # `climb check | head`: who reads has enough, and is not told so
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{where}{error.strerror or error}", 2)


def _dispatch(arguments: list[str]) -> int:
    server = _started_early(arguments)
    try:
        return _led(arguments, server)
    finally:
        if server is not None:
            server.close()  # again, where a sandbox has taken it: Ctrl-C can come between


def _led(arguments: list[str], server) -> int:
    from autograder.course import CourseError
    from autograder.grading.submissions.model import SubmissionError
    from autograder.sandbox.errors import SandboxError

    try:
        app = application()
        return app(args=arguments or ["--help"], prog_name="climb", standalone_mode=False, obj=server) or 0
    except (UsageProblem, CourseError, SubmissionError, SandboxError) as error:
        return _say(" ".join(str(error).split("\n")), 2)
    except Exception as error:
        if type(error).__name__ == "Abort":  # Ctrl-C inside the command-line library
            raise KeyboardInterrupt from None
        if isinstance(error, Stopped) or not hasattr(error, "format_message"):
            raise
        usage = " ".join(error.format_message().split())  # the library's usage errors, whichever version raises them
        return _say(f"{usage}{'' if usage[-1:] in '.?' else '.'} See `climb {_command(app, arguments)}--help`.", 2)


def _started_early(arguments: list[str]):
    """For `climb check` a fork server that imports torch while this process still reads its own libraries; else None."""
    if arguments[:1] != ["check"] or "--help" in arguments or sys.platform != "linux":
        return None
    from autograder.sandbox.server import Server

    return Server()


@lru_cache(maxsize=1)
def application():
    """The commands, put together on first use: importing this module imports no library."""
    import typer

    app = typer.Typer(name="climb", help=HELP, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.callback(invoke_without_command=True)
    def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
        if version:
            print(f"climb {__version__}")
            raise typer.Exit()

    for name in COMMANDS:
        module = f"autograder.commands.{name}"
        if importlib.util.find_spec(module) is not None:  # a student's copy leaves out what only an instructor needs
            importlib.import_module(module).register(app)
    for command in app.registered_commands:
        command.callback = _stoppable(command.callback)
    return app


def _stoppable(command: Callable) -> Callable:
    @wraps(command)
    def stoppable(*arguments, **options):
        try:
            return command(*arguments, **options)
        except KeyboardInterrupt as interrupt:
            raise Stopped(*interrupt.args) from None

    return stoppable


def _command(app, arguments: list[str]) -> str:
    known = {command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands}
    return f"{arguments[0]} " if arguments and arguments[0] in known else ""


def _say(line: str, code: int) -> int:
    print(f"climb: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    from autograder.cli import main as imported  # `python -m autograder.cli` would else hold two UsageProblems

    imported()
