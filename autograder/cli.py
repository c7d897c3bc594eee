"""The command `climb`."""

from __future__ import annotations

import sys

import typer

from autograder import __version__

app = typer.Typer(
    name="climb",
    help="Reinforcement learning for language models, by exercises that are checked against exact truth.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class UsageProblem(Exception):
    """Bad input: one line that says what was expected, what came and what to do. Ends the command with exit code 2."""


def _register() -> None:
    from autograder.commands import check, grade, learn, release, selfcheck, skeletons, tour, watch

    for module in (check, watch, learn, tour, grade, release, skeletons, selfcheck):
        module.register(app)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        print(f"climb {__version__}")
        raise typer.Exit()


def main(arguments: list[str] | None = None) -> None:
    """Exit 0: everything asked for passes. 1: something graded fails. 2: usage or input error, one line. 130: Ctrl-C."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    from autograder.course import CourseError
    from autograder.grading.submissions.model import SubmissionError
    from autograder.sandbox.errors import SandboxError

    if not app.registered_commands:
        _register()
    try:
        return app(args=arguments or ["--help"], prog_name="climb", standalone_mode=False) or 0
    except KeyboardInterrupt:
        return _say("stopped", 130)
    except (UsageProblem, CourseError, SubmissionError, SandboxError) as error:
        return _say(" ".join(str(error).split("\n")), 2)
    except BrokenPipeError:  # `climb check | head`
        sys.stderr.close()
        return 1
    except Exception as error:
        if type(error).__name__ == "Abort":  # Ctrl-C inside the command-line library
            return _say("stopped", 130)
        if hasattr(error, "format_message"):  # the library's usage errors, whichever version raises them
            usage = " ".join(error.format_message().split())
            return _say(f"{usage} See `climb {_command(arguments)}--help`.", 2)
        raise


def _command(arguments: list[str]) -> str:
    known = {command.name or (command.callback.__name__ if command.callback else "") for command in app.registered_commands}
    return f"{arguments[0]} " if arguments and arguments[0] in known else ""


def _say(line: str, code: int) -> int:
    print(f"climb: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
