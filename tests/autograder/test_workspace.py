"""Beside what an exercise file is graded."""

import marshal
from pathlib import Path

import pytest

from autograder import reference
from autograder.course import Course, Lesson
from autograder.grading import workspace
from autograder.grading.submissions import Submission
from autograder.grading.workspace import workspace_for


def lesson(number, file):
    return Lesson(number, Path(file).stem, "", file, 1, "", (), Path(f"{number:02}-x"), {})


@pytest.fixture
def course(tmp_path, monkeypatch):
    """Three lessons, of which the first and the last have references."""
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    (tmp_path / "solutions" / "toy").mkdir(parents=True)
    for name in ("first", "third"):
        (tmp_path / "solutions" / "toy" / f"{name}.py").write_text(f"where = 'reference {name}'\n")
    reference.source.cache_clear()
    workspace._compiled.cache_clear()
    files = ("toy/first.py", "toy/second.py", "toy/third.py", "full/fourth.py")
    yield Course(tmp_path, [lesson(number, file) for number, file in enumerate(files, start=1)])
    reference.source.cache_clear()
    workspace._compiled.cache_clear()


OWN = {f"toy.{name}": f"where = 'own {name}'\n" for name in ("first", "second", "third")}


def test_earlier_files_are_the_references_and_later_ones_absent(course):
    submission = Submission("s", OWN, helpers={"mine": "x = 1\n"})
    space = workspace_for(course.lessons[1], submission, course)
    assert space.module == "toy.second"
    assert space.sources == {"toy.second": OWN["toy.second"], "mine": "x = 1\n"}
    assert set(space.compiled) == {"toy.first"}
    made = {}
    exec(marshal.loads(space.compiled["toy.first"]), made)
    assert made["where"] == "reference first"


def test_without_a_reference_an_earlier_file_is_the_learners_own(course):
    space = workspace_for(course.lessons[2], Submission("s", OWN), course)
    assert space.sources == {"toy.second": OWN["toy.second"], "toy.third": OWN["toy.third"]}
    assert set(space.compiled) == {"toy.first"}


def test_the_whole_toy_track_is_earlier_than_the_full_one(course):
    space = workspace_for(course.lessons[3], Submission("s", {"full.fourth": "y = 2\n"}), course)
    assert set(space.compiled) == {"toy.first", "toy.third"} and set(space.sources) == {"full.fourth"}


def test_a_helper_never_takes_the_place_of_an_exercise_file(course):
    submission = Submission("s", OWN, helpers={"toy.second": "hostile"})
    assert workspace_for(course.lessons[1], submission, course).sources["toy.second"] == OWN["toy.second"]


def test_a_file_that_was_not_sent(course):
    with pytest.raises(LookupError, match="toy/second.py"):
        workspace_for(course.lessons[1], Submission("s", {"toy.first": ""}), course)
