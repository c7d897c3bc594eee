"""A result as a person reads it."""

import io

import pytest
from rich.console import Console

from autograder.course import load
from autograder.reports import terminal


def row(name, status="passed", message="", **more):
    score = 2.0 if status == "passed" else 0.0
    made = {"id": f"toy/first.py::{name}", "lesson": 1, "score": score, "max_score": 2.0, "status": status, "misconception": None}
    return made | {"message": message, "hint": "", "lesson_anchor": "lessons/01-first/lesson.md#11-twice"} | more


def result(*rows):
    made = {
        "schema": 1,
        "submission": "learner",
        "grader": "0",
        "sandbox": "full",
        "layers": [],
        "seed": "public",
        "seconds": 0.1,
    }
    return made | {"score": sum(r["score"] for r in rows), "max_score": 2.0 * len(rows), "exercises": list(rows)}


@pytest.fixture
def shown(tiny):
    def show(*rows, width=80, encoding="utf-8", explain=3):
        raw = io.BytesIO()
        file = io.TextIOWrapper(raw, encoding=encoding, errors="strict")
        terminal.show(result(*rows), load(tiny.root), Console(file=file, width=width), explain=explain)
        file.flush()
        return raw.getvalue().decode(encoding)

    return show


EVERY_STATUS = [row(f"e{index}", status, "What came.") for index, status in enumerate(terminal.MARKS)]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8", "utf-16"])
@pytest.mark.parametrize("width", [20, 40, 80, 300])
def test_every_status_in_every_encoding_and_width(shown, encoding, width):
    """Our own words and marks can be shown on any terminal, within its width."""
    text = shown(*EVERY_STATUS, encoding=encoding, width=width)
    assert all(len(line) <= width for line in text.splitlines())
    for line in EVERY_STATUS:
        assert terminal.name_of(line) in text
    assert ("✓" in text) == encoding.startswith("utf")


def test_every_status_has_a_mark_and_none_is_forgotten():
    from autograder.grading.grade import BADNESS

    assert set(terminal.MARKS) == set(BADNESS)


def test_the_named_mistake_comes_first_and_the_pointer_last(shown):
    text = shown(row("double", "failed", "expected 2, received 4", misconception="squared", hint="You squared it."))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    at = [
        next(i for i, line in enumerate(lines) if words in line)
        for words in ("You squared it.", "(squared)", "expected 2", "Read", "climb hint")
    ]
    assert at == sorted(at)


def test_what_learners_and_lessons_write_is_no_markup(shown):
    text = shown(
        row("f[bold]", "failed", "got [red]x[/red] and [/]", misconception="m", hint="[link=x]h[/link]"),
        row("g", "failed", "[/b]"),
    )
    for words in ("f[bold]", "got [red]x[/red] and [/]", "[link=x]h[/link]", "Twice and [half]"):
        assert words in text


def test_one_thing_wrong_with_the_file_is_said_once(shown):
    rows = [row(name, "error", "toy/first.py cannot be imported: SyntaxError: invalid syntax") for name in "abc"]
    text = shown(*rows)
    assert text.count("SyntaxError") == 1 and "hint" not in text and "others" not in text


def test_a_pointer_only_where_it_helps(shown):
    whole = row("a", "error", "toy/first.py cannot be imported: SyntaxError: invalid syntax")
    assert "climb hint" not in shown(whole)
    assert "climb hint" not in shown(row("a", "missing", "toy/first.py has no `a`."))
    assert "climb hint a" in shown(row("a", "error", "It stopped: ValueError"))
    assert "climb hint a" in shown(row("a", "not_started", "Not started."))


def test_what_is_not_explained_is_named_with_the_command_that_explains_it(shown):
    rows = [row(name, "failed", f"wrong in {name}") for name in "abcdefgh"]
    text = shown(*rows, explain=2)
    assert "wrong in a" in text and "wrong in b" in text and "wrong in c" not in text
    assert "`climb check c` explains one of the others (c, d, e, f, ...)." in text
    assert "explains" not in shown(*rows[:2], explain=2)


@pytest.mark.parametrize("value, text", [(1, "1 point"), (1.0, "1 point"), (0, "0 points"), (2.5, "2.5 points")])
def test_points(value, text):
    assert terminal.points(value) == text
