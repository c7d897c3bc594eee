"""`climb next`, `climb hint`, `climb progress`, and the file in which they remember."""

import json
import multiprocessing
import os

import pytest

from autograder.course import load
from autograder.dependencies import files_of, state_of
from autograder.progress import Progress, locked, write_whole

DOUBLE = "toy/first.py::double"


def headline(done):
    assert done.code == 0
    return done.out.splitlines()[0]


def why(done):
    """The reason that `climb next` gives, on one line."""
    text = done.out[done.out.index("Why:") + 4 :]
    return " ".join(text[: min((text.index(label) for label in ("Read:", "Check:") if label in text), default=None)].split())


# climb next


def test_a_fresh_start_begins_with_the_first_exercise_and_the_top_of_its_lesson(tiny):
    done = tiny.climb("next")
    assert headline(done).startswith("double in toy/first.py") and "lesson 1: Twice and [half], 2 points" in headline(done)
    assert why(done) == "lesson 1 is the next one (30 minutes): Twice a number, and half of it. `halve` will use it."
    assert "lessons/01-first/lesson.md, from the top; the exercise is in section 1.1" in " ".join(done.out.split())
    assert "climb check double" in done.out and "climb hint double" in done.out
    assert tiny.sandbox.started == 0  # untouched skeletons are not run


def test_every_command_it_names_works(tiny):
    done = tiny.climb("next")
    for line in done.out.splitlines():
        for label in ("Check:", "Stuck?"):
            if line.startswith(label):
                assert tiny.climb(*line.removeprefix(label).split()[1:]).code in (0, 1)


def test_what_is_begun_and_wrong_comes_before_what_is_new(tiny):
    tiny.solve(halve="raise NotImplementedError('lesson 1: halve')", put="self.y = x")
    done = tiny.climb("next")
    assert headline(done).startswith("Box.put in toy/first.py")
    assert why(done).startswith("you have begun it, and it stops with an error. It stopped: AttributeError")


def test_needs_that_are_not_met_come_first(tiny):
    """`halve` is wrong, but it builds on `double`, which is still to be written."""
    tiny.solve(double="raise NotImplementedError('lesson 1: double')", halve="return x")
    done = tiny.climb("next")
    assert headline(done).startswith("double ")
    tiny.solve(halve="return x")
    assert headline(tiny.climb("next")).startswith("halve ")
    assert "its answer is wrong" in why(tiny.climb("next"))


def test_the_reason_names_what_it_builds_on(tiny):
    tiny.solve(halve="raise NotImplementedError('lesson 1: halve')")
    done = tiny.climb("next")
    assert headline(done).startswith("halve ")
    assert why(done) == "it builds on `double`, which you have (2 of 3 done in this lesson)."
    assert "lessons/01-first/lesson.md#12-half" in done.out


def test_all_done(tiny):
    tiny.solve()
    tiny.solve("toy/second.py")
    assert tiny.climb("next").out == "Every exercise passes (4 of 4). Well done.\n"


def test_a_file_that_cannot_be_loaded_is_the_thing_to_mend(tiny):
    tiny.write("toy/first.py", tiny.solution() + "def broken(:\n")
    done = tiny.climb("next")
    assert headline(done).startswith("toy/first.py has to be mended first")
    assert "SyntaxError" in why(done) and "climb check toy/first.py" in done.out and "hint" not in done.out


def test_a_file_that_is_gone(tiny):
    tiny.solve()
    assert headline(tiny.climb("next")).startswith("triple ")
    (tiny.root / "toy/first.py").unlink()
    done = tiny.climb("next")
    assert headline(done).startswith("toy/first.py has to be mended first") and "`climb skeletons` writes it anew" in why(done)
    assert [row["passed"] for row in tiny.climb("progress", "--json").json["lessons"]] == [0, 0]


def test_two_exercises_of_one_name_are_told_apart(tiny):
    """What `next` tells the learner to type has to mean this exercise and no other."""
    from autograder.commands.learn import shortest

    course = load(tiny.root)
    first, second = course.exercises[0], course.exercises[-1]
    assert shortest(first, course) == "double"
    course.lessons[1].__dict__["exercises"] = [
        type(second)(id="toy/second.py::double", name="double", lesson=course.lessons[1], points=1, section="2.1")
    ]
    del course.__dict__["exercises"]
    assert [shortest(e, course) for e in course.exercises if e.name == "double"] == [DOUBLE, "toy/second.py::double"]


# Progress is about the files as they are


def test_edits_are_checked_again_and_nothing_else_is(tiny):
    tiny.solve()
    assert [row["passed"] for row in tiny.climb("progress", "--json").json["lessons"]] == [3, 0]
    started = tiny.sandbox.started
    assert tiny.climb("progress").code == 0 and tiny.sandbox.started == started  # nothing has changed
    tiny.solve(double="return x * x")
    assert [row["passed"] for row in tiny.climb("progress", "--json").json["lessons"]] == [2, 0]
    assert tiny.sandbox.started == started + 1


def test_a_file_put_back_to_its_skeleton_is_not_started_again(tiny):
    fresh = (tiny.root / "toy/first.py").read_text()
    tiny.solve()
    assert tiny.climb("check", "1").code == 0
    tiny.write("toy/first.py", fresh)
    assert [row["score"] for row in tiny.climb("progress", "--json").json["lessons"]] == [0, 0]


def test_a_helper_that_changes_is_noticed(tiny):
    tiny.write("toy/helper.py", "factor = 2\n")
    tiny.solve(double="from toy.helper import factor; return factor * x")
    assert tiny.climb("check", "1").code == 0
    tiny.write("toy/helper.py", "factor = 3\n")
    assert headline(tiny.climb("next")).startswith("double ")


def test_lessons_are_counted(tiny):
    tiny.solve(double="return x * x")
    tiny.climb("hint", "double")
    tiny.climb("hint", "double")
    first, second = tiny.climb("progress", "--json").json["lessons"]
    assert first == {
        "lesson": 1,
        "title": "Twice and [half]",
        "exercises": 3,
        "passed": 2,
        "score": 3.0,
        "max_score": 5.0,
        "hints": 2,
    }
    assert second == {"lesson": 2, "title": "Thrice", "exercises": 1, "passed": 0, "score": 0, "max_score": 3.0, "hints": 0}
    table = tiny.climb("progress").out
    assert "Twice and [half]" in table and "2/3" in table and "3 of 8 points" in table


@pytest.mark.parametrize("columns", [30, 40, 66, 200])
def test_the_table_fits_every_terminal(tiny, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in (["progress"], ["next"], ["check"], ["hint", "double"]):
        assert all(len(line.rstrip()) <= columns for line in tiny.climb(*command).out.splitlines()), command
    assert "0/3" in tiny.climb("progress").out


# climb hint


def test_each_call_goes_one_level_further_and_the_last_one_stays(tiny):
    said = [tiny.climb("hint", "double").out for _ in range(4)]
    assert [text.splitlines()[1].strip() for text in said] == ["A nudge.", "The idea.", "Nearly the line.", "Nearly the line."]
    assert "lessons/01-first/lesson.md#11-twice" in said[-1] and "says more" in said[0]


def test_a_level_can_be_named(tiny):
    assert "Nearly the line." in tiny.climb("hint", "double", "--level", 3).out
    assert "A nudge." in tiny.climb("hint", "double", "--level", 1).out
    assert tiny.progress()[DOUBLE]["hints"] == 3  # the most that was taken


def test_hints_that_cannot_be_given(tiny):
    tiny.climb("hint", "1").refused("is 3 exercises; name one: double, halve, Box.put")
    tiny.climb("hint", "triple").refused("has no hints", "lessons/02-second/lesson.md")
    tiny.climb("hint", "duble").refused("did you mean `double`?")
    tiny.climb("hint", "double", "--level", 4).refused("--level", "climb hint --help")
    tiny.climb("hint").refused("EXERCISE")


# The file


DAMAGED = {
    "half a file": '{"schema": 1, "exercises": {"toy/first.py::dou',
    "no JSON": "\x00\xff\x00",
    "a list": "[]",
    "no exercises": '{"schema": 1}',
    "exercises as a list": '{"exercises": [1, 2]}',
    "entries of other kinds": json.dumps({"exercises": {DOUBLE: 7, "toy/first.py::halve": None, "x": []}}),
    "values of other kinds": json.dumps(
        {"exercises": {DOUBLE: {"status": 5, "score": "a", "hints": "x", "message": [], "file": 3}}}
    ),
    "numbers out of range": '{"exercises": {"toy/first.py::double": {"status": "passed", "score": NaN, "hints": -3}}}',
    "nested beyond measure": "[" * 100_000,
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_costs_a_check_and_no_more(tiny, kind):
    tiny.solve(halve="return x")
    for command in (["progress"], ["next"], ["check", "double"], ["hint", "double"], ["progress", "--json"]):
        tiny.write(".climb/progress.json", DAMAGED[kind])
        done = tiny.climb(*command)
        assert done.code == 0 and done.err == "", command
    assert tiny.climb("progress", "--json").json["lessons"][0]["passed"] == 2
    assert (tiny.root / ".climb/progress.damaged.json").read_text() == DAMAGED[kind]  # what it said is kept
    assert "A nudge." in tiny.climb("hint", "double", "--level", 1).out


def test_one_damaged_entry_loses_no_other(tiny):
    tiny.climb("hint", "double")
    entries = tiny.progress() | {"toy/first.py::halve": 7}
    tiny.write(".climb/progress.json", json.dumps({"schema": 1, "exercises": entries}))
    tiny.climb("hint", "halve")
    assert tiny.progress()[DOUBLE]["hints"] == 1 and tiny.progress()["toy/first.py::halve"]["hints"] == 1


@pytest.mark.parametrize("command", [["next"], ["progress"], ["progress", "--json"], ["hint", "double"]])
def test_where_nothing_can_be_written_the_answer_is_given_all_the_same(tiny, command):
    tiny.solve(halve="return x")
    tiny.write(".climb", "a file where the folder should be")
    done = tiny.climb(*command)
    assert done.code == 0 and done.out
    assert done.err.count("\n") == 1 and "progress is not kept" in done.err


def test_many_at_once_lose_nothing(tiny):
    """Processes that each keep something of their own, at the same time: all of it is there afterwards."""
    state = Progress(tiny.root)
    exercises = load(tiny.root).exercises
    processes = [
        multiprocessing.get_context("fork").Process(target=_keep, args=(tiny.root, f"toy/first.py::x{number}"))
        for number in range(8)
    ]
    for process in processes:
        process.start()
    state.take_hint(exercises[0], 2)
    for process in processes:
        process.join()
    assert set(tiny.progress()) == {DOUBLE, *(f"toy/first.py::x{number}" for number in range(8))}
    assert not [name for name in os.listdir(tiny.root / ".climb") if name.startswith(".progress")]


def _keep(root, name):
    row = {"id": name, "status": "passed", "score": 1.0, "max_score": 1.0, "misconception": None, "message": ""}
    for _ in range(10):
        Progress(root).record([row], {})


def test_a_lock_is_held_once(tmp_path):
    with locked(tmp_path / "lock"):
        with pytest.raises(BlockingIOError):
            with locked(tmp_path / "lock", blocking=False):
                pass
    with locked(tmp_path / "lock", blocking=False, shared=True), locked(tmp_path / "lock", blocking=False, shared=True):
        with pytest.raises(BlockingIOError):
            with locked(tmp_path / "lock", blocking=False):
                pass


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    write_whole(tmp_path / "file", "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "file", "new \ud800")
    assert (tmp_path / "file").read_text() == "old" and os.listdir(tmp_path) == ["file"]
    write_whole(tmp_path / "secret", "text", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


# What a verdict hangs on


def names(tiny, number):
    course = load(tiny.root)
    return [place.name for place in files_of(course.lessons[number - 1], course)]


@pytest.mark.parametrize(
    "line, found",
    [
        ("from toy.helper import a", True),
        ("import toy.helper", True),
        ("from toy import helper as h", True),
        ("from . import helper", True),
        ("    from .helper import (\n        a,\n    )", True),
        ("from toy import (\n    helper,\n)", True),
        ("# helper", False),
        ("helper = 3", False),
        ("import torch", False),
    ],
)
def test_helpers_are_found_however_they_are_imported(tiny, line, found):
    tiny.write("toy/helper.py", "import deeper\n")
    tiny.write("toy/deeper.py", "from toy import helper\n")  # a circle ends
    tiny.write("toy/first.py", f"{line}\n")
    assert names(tiny, 1) == (["first.py", "helper.py", "deeper.py"] if found else ["first.py"])


def test_an_earlier_exercise_counts_where_no_reference_stands_in_for_it(tiny):
    tiny.write("toy/second.py", "from toy.first import double\n")
    assert names(tiny, 2) == ["second.py"]
    (tiny.root / "solutions").rename(tiny.root / "elsewhere")
    assert names(tiny, 2) == ["second.py", "first.py"]


def test_the_state_of_a_lesson(tiny):
    course = load(tiny.root)
    lesson = course.lessons[0]
    before = state_of(lesson, course)
    assert state_of(lesson, course) == before and before != state_of(course.lessons[1], course)
    tiny.solve()
    assert state_of(lesson, course) != before
    (tiny.root / "toy/first.py").unlink()
    assert state_of(lesson, course) is None
