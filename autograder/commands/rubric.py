"""`climb rubric`: the written answers of a graded class, marked question by question in a local page or in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import typer


def register(app: typer.Typer) -> None:
    app.command("rubric")(rubric)


def rubric(
    directory: Path = typer.Argument(..., metavar="DIR", help="A graded class: what `climb grade --out DIR` has written."),
    lessons: Optional[str] = typer.Option(None, "--lessons", metavar="L", help="Questions of these only: 1-3 or 1,2,5. Left out: all."),
    files: Optional[Path] = typer.Option(None, "--files", metavar="FOLDER", help="Write a TOML file for each question there, to mark in an editor, and open no page."),
    read: Optional[Path] = typer.Option(None, "--read", metavar="FOLDER", help="Take the marks from such files (or from one), and open no page."),
    port: int = typer.Option(0, "--port", min=0, max=65535, help="Port of the page; 0: any free one."),
    open_browser: bool = typer.Option(False, "--open", help="Open the page in the browser."),
) -> None:  # fmt: skip
    """Mark the written answers of a class by rubric.

    One question at a time, all its answers without names, with the keyboard; equal answers are marked once. Every mark is kept at
    once in DIR/rubric and the same command goes on from there. `climb report DIR` then shows the marks in the pages, and
    `climb export DIR` counts them.
    """
    from autograder import course as courses
    from autograder.cli import UsageProblem
    from autograder.commands.release import lessons_named
    from autograder.rubric.files import read_files, write_files
    from autograder.rubric.marking import Marking

    if files is not None and read is not None:
        raise UsageProblem("--files writes and --read reads: give one of them")
    course = courses.load()
    chosen = [lesson for lesson in lessons_named(lessons, course) if not lesson.silent_bug]
    marking = Marking(directory, chosen)
    if files is not None:
        paths = write_files(marking, files)
        print(f"{len(paths)} files in {files}: fill in `points` and `comment`, then `climb rubric {directory} --read {files}`")
    elif read is not None:
        kept, empty = read_files(marking, read)
        print(f"{kept} marks read{f', {empty} answers still empty' if empty else ''}")
    else:
        as_page(marking, port, open_browser)
    print(f"{marking.told()}. `climb report {directory}` puts them into the pages")


def as_page(marking: Any, port: int, open_browser: bool) -> None:
    from autograder.pages.server import serve

    marking.told()  # a damaged file of marks is told before a page opens
    serve(page_of(marking), port=port, open_browser=open_browser)


def page_of(marking: Any) -> Any:
    """The page: its state is the list of questions; `open` gives one's answers, `save` keeps a mark, `quit` ends the command."""
    from autograder.course import CourseError
    from autograder.pages.server import Page, Refused

    def action(function):
        def act(body: dict) -> dict:
            try:
                return function(body)
            except CourseError as problem:
                raise Refused(str(problem)) from None

        return act

    def save(body: dict) -> dict:
        marking.save(body.get("question"), body.get("code"), body.get("points"), body.get("comment", ""))
        return {}

    def quit_page(body: dict) -> dict:
        page.finish()
        return {"told": marking.told()}

    actions = {"open": action(lambda body: marking.entries(body.get("question"))), "save": action(save), "quit": quit_page}
    page = Page("rubric", title="Marking written answers", state=lambda: {"questions": marking.overview()}, actions=actions)
    return page
