"""`climb skeletons`: the learner's files, generated from the solutions."""

from __future__ import annotations

import typer

from autograder import course as courses


def register(app: typer.Typer) -> None:
    app.command("skeletons")(skeletons)


def skeletons(
    check: bool = typer.Option(False, "--check", help="Write nothing; exit 1 if a file is not what its solution gives."),
    force: bool = typer.Option(False, "--force", help="Also replace files somebody has worked on; the old one is kept as FILE.bak."),
) -> None:
    """Write toy/*.py and full/*.py from solutions/. Files with work in them are kept."""
    from autograder import reference
    from autograder.commands.release import need_solutions
    from autograder.skeletons import skeleton

    need_solutions("skeletons")
    course = courses.load()
    different = 0
    for lesson in course.lessons:
        solution, target = reference.ROOT / "solutions" / lesson.file, course.root / lesson.file
        if not solution.is_file():
            continue
        wanted = skeleton(solution.read_text(encoding="utf-8"), lesson.number)
        present = target.read_text(encoding="utf-8", errors="replace") if target.is_file() else None
        if present == wanted:
            continue
        different += 1
        if check:
            print(f"{lesson.file} {'is missing' if present is None else 'is not what its solution gives'}")
        elif present is None or force or not worked_on(present, wanted):
            if present is not None and worked_on(present, wanted):
                target.with_suffix(".py.bak").write_text(present, encoding="utf-8")
            target.write_text(wanted, encoding="utf-8")
            print(f"{lesson.file} written")
        else:
            print(f"{lesson.file} has work in it and is kept; `climb skeletons --force` replaces it (and keeps {lesson.file}.bak)")
    if check and different:
        raise typer.Exit(1)
    if not different:
        print("All skeletons are what their solutions give.")


def worked_on(present: str, wanted: str) -> bool:
    """Whether somebody filled something in: fewer open tasks than a fresh skeleton has."""
    mark = 'raise NotImplementedError("lesson '
    return present.count(mark) < wanted.count(mark)
