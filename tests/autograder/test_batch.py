"""The journal, the keys and the table of scores: what resuming and auditing rest on."""

import csv
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from autograder.course import load
from autograder.grading.batch import Inline, Journal, already_graded, checks_hash, grade_all, unit_key, write_scores
from autograder.grading.grade import Grader
from autograder.grading.submissions import Problem, Submission
from autograder.sandbox.errors import SandboxError

RESULT = {"schema": 1, "submission": "anna", "score": 2.0, "max_score": 5.0, "exercises": []}


# Keys


def test_a_key_hangs_on_everything_a_result_depends_on():
    parts = {
        "files": {"toy.first": "x"},
        "helpers": {"h": "y"},
        "problems": [Problem("f", "error", "m")],
        "answers": {"01-first": "a"},
    }
    whole = dict(submission=Submission("anna", **parts), checks="c", seed=1, level="full")
    others = [
        {"submission": Submission("anna", **parts | {"files": {"toy.first": "z"}})},
        {"submission": Submission("anna", **parts | {"helpers": {"h": "z"}})},
        {"submission": Submission("anna", **parts | {"problems": [Problem("f", "error", "other")]})},
        {"submission": Submission("anna", **parts | {"answers": {}})},
        {"checks": "d"},
        {"seed": 2},
        {"level": "process"},
    ]
    keys = [unit_key(**whole), *(unit_key(**whole | other) for other in others)]
    assert len(set(keys)) == len(keys) and unit_key(**whole) == keys[0]


def test_keys_are_the_same_in_every_process():
    """Python's own hashes differ from process to process; a key that did would make every repeated run a first one."""
    program = (
        "from autograder import course; from autograder.grading.batch import checks_hash, unit_key\n"
        "from autograder.grading.submissions import Submission\n"
        "c = course.load(); s = Submission('a', {'toy.b': 'x', 'toy.a': 'y'}, {'h': 'z', 'g': 'z'})\n"
        "print(unit_key(s, checks_hash(c, c.lessons[0].exercises), 3, 'full'))"
    )
    root = Path(__file__).resolve().parents[2]
    keys = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=root, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        keys.add(done.stdout.strip())
    assert len(keys) == 1 and len(keys.pop()) == 64


@pytest.mark.parametrize(
    "file",
    [
        "autograder/checks/toy/first.py",
        "autograder/probes/toy/first.py",
        "solutions/toy/first.py",
        "toy/given/words.py",
        "autograder/grading/examine.py",
    ],
)
def test_a_change_on_our_side_makes_new_keys(tiny, file):
    course = load(tiny.root)
    exercises = course.lessons[0].exercises
    before = checks_hash(course, exercises)
    assert checks_hash(course, exercises) == before
    tiny.write(file, "changed = 1\n")
    assert checks_hash(course, exercises) != before


def test_what_decides_no_verdict_of_theirs_makes_no_new_keys(tiny):
    course = load(tiny.root)
    before = checks_hash(course, course.lessons[0].exercises)
    tiny.write("full/given/words.py", "changed = 1\n")
    tiny.write("autograder/grading/roster.py", "changed = 1\n")  # nor does what only joins and shows
    assert checks_hash(course, course.lessons[0].exercises) == before


def test_another_lessons_solution_makes_new_keys_only_if_it_is_graded_beside(tiny):
    course = load(tiny.root)
    first, second = (checks_hash(course, lesson.exercises) for lesson in course.lessons)
    tiny.write("solutions/toy/second.py", "changed = 1\n")
    assert checks_hash(course, course.lessons[0].exercises) == first  # a later file is absent when the first is graded
    tiny.write("solutions/toy/second.py", (tiny.root / "toy/second.py").read_text())
    tiny.write("solutions/toy/first.py", "changed = 1\n")
    assert checks_hash(course, course.lessons[1].exercises) != second


# The journal


def test_what_was_written_is_found_again(tmp_path):
    Journal(tmp_path).write("anna", "k1", RESULT)
    assert Journal(tmp_path).result("anna", ["k0", "k1"]) == RESULT
    assert Journal(tmp_path).result("anna", ["k2"]) is None and Journal(tmp_path).result("ben", ["k1"]) is None
    (line,) = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert set(json.loads(line)) == {"submission", "key", "result", "score", "max_score", "time"}


@pytest.mark.parametrize(
    "cut",
    [
        b"",
        b'{"submission": "anna", "ke',
        b"\xff\xfe\x00",
        b"[]",
        b"7",
        b'{"submission": [], "key": 1, "result": 2}',
        b"[" * 100_000,
    ],
)
def test_a_line_cut_short_costs_one_regrading(tmp_path, cut):
    journal = Journal(tmp_path)
    journal.write("anna", "k", RESULT)
    journal.write("ben", "k", RESULT | {"submission": "ben"})
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes() + cut)
    again = Journal(tmp_path)
    assert again.result("anna", ["k"]) and again.result("ben", ["k"])
    again.write("cleo", "k", RESULT | {"submission": "cleo"})  # and what comes after it is a line of its own
    assert Journal(tmp_path).result("cleo", ["k"]) and Journal(tmp_path).result("anna", ["k"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text('{"sco'),
        lambda path: path.write_bytes(b"\xff"),
        lambda path: path.write_text("{}"),
    ],
)
def test_a_result_that_is_not_what_was_written_counts_as_none(tmp_path, spoil):
    Journal(tmp_path).write("anna", "k", RESULT)
    spoil(tmp_path / "anna/result.json")
    assert Journal(tmp_path).result("anna", ["k"]) is None


def test_an_older_result_that_was_written_over_counts_as_none(tmp_path):
    journal = Journal(tmp_path)
    journal.write("anna", "old", RESULT)
    journal.write("anna", "new", RESULT | {"score": 3.0})
    assert Journal(tmp_path).result("anna", ["old"]) is None
    assert Journal(tmp_path).result("anna", ["new"])["score"] == 3.0


def test_each_part_writes_its_own_and_all_are_read(tmp_path):
    Journal(tmp_path, "-1-of-2").write("anna", "k", RESULT)
    Journal(tmp_path, "-2-of-2").write("ben", "k", RESULT | {"submission": "ben"})
    assert sorted(os.listdir(tmp_path)) == ["anna", "ben", "journal-1-of-2.jsonl", "journal-2-of-2.jsonl"]
    assert Journal(tmp_path).result("anna", ["k"]) and Journal(tmp_path, "-1-of-2").result("ben", ["k"])


# Grading many


@pytest.fixture
def graded(tiny, tmp_path):
    course = load(tiny.root)
    out = tmp_path / "out"
    out.mkdir()
    grader = Grader(course, tiny.sandbox, seed=12345, jobs=2)

    def grade(submissions, done=lambda name: None):
        return grade_all(grader, submissions, course.lessons[0].exercises, out, done)

    grade.out, grade.grader, grade.course, grade.tiny = out, grader, course, tiny
    return grade


def students(graded, count=4):
    return [Submission(f"s{number}", {"toy.first": graded.tiny.solution() + f"# {number}\n"}) for number in range(count)]


def kept(graded, submissions, levels=("full",)):
    return already_graded(submissions, graded.course.lessons[0].exercises, graded.course, 12345, levels, graded.out)


def test_every_result_is_on_disk_before_it_is_reported(graded):
    def done(name):
        assert json.loads((graded.out / name / "result.json").read_text())["submission"] == name
        assert f'"{name}"' in (graded.out / "journal.jsonl").read_text()

    results = graded(students(graded), done).results
    assert {name: result["score"] for name, result in results.items()} == {f"s{number}": 5.0 for number in range(4)}
    assert kept(graded, students(graded)) == results


def test_only_results_of_an_accepted_level_are_kept(graded):
    graded.tiny.sandbox.level = "process"
    graded(students(graded, 1))
    assert kept(graded, students(graded, 1), ("full",)) == {} and len(kept(graded, students(graded, 1), ("full", "process"))) == 1


def test_a_submission_over_which_the_grader_stumbles_holds_up_no_other(graded, monkeypatch):
    real = Grader.grade

    def grade(self, submission, *rest):
        if submission.name == "s1":
            raise RecursionError("deep")
        return real(self, submission, *rest)

    monkeypatch.setattr(Grader, "grade", grade)
    found = graded(students(graded))
    assert set(found.results) == {"s0", "s2", "s3"} and found.failures == {"s1": "RecursionError: deep"}
    assert not (graded.out / "s1").exists()  # neither a zero nor a journal line: the next run tries it again
    assert set(kept(graded, students(graded))) == {"s0", "s2", "s3"}


@pytest.mark.parametrize("error", [SandboxError("gone"), OSError(28, "No space left on device")])
def test_what_would_befall_every_submission_ends_the_batch(graded, error):
    def run(request, **_):
        raise error

    graded.tiny.sandbox.run = run
    with pytest.raises(type(error)):
        graded(students(graded))
    assert kept(graded, students(graded)) == {}


def test_after_an_interrupt_nothing_more_is_written(graded):
    """What is in progress when Ctrl-C comes may be answered by a sandbox that is closing: such answers are thrown away."""
    real, inside, go_on = graded.tiny.sandbox.run, threading.Event(), threading.Event()
    asked = []

    def run(request, **limits):
        asked.append(b"# 3" in request)
        if asked[-1] and sum(asked) == 3:  # the last check of s3: nothing is left to be stopped but the writing
            inside.set()
            go_on.wait(10)
        return real(request, **limits)

    graded.tiny.sandbox.run = run

    def done(name):
        inside.wait(10)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        graded(students(graded)[2:], done)
    before = sorted(kept(graded, students(graded)))
    go_on.set()
    for thread in threading.enumerate():
        if "ThreadPool" in thread.name:
            thread.join(10)
    assert before == sorted(kept(graded, students(graded))) == ["s2"]
    graded.tiny.sandbox.run = real
    assert set(graded(students(graded)[3:]).results) == {"s3"}


def test_work_that_was_stopped_is_not_taken_up():
    stop = threading.Event()
    assert Inline(stop).submit(lambda: 3).result() == 3
    stop.set()
    with pytest.raises(CancelledError):
        Inline(stop).submit(lambda: 3)
    with pytest.raises(ZeroDivisionError):
        Inline().submit(lambda: 1 / 0).result()


# Scores


def test_scores_are_a_row_a_student_and_a_column_an_exercise(tmp_path):
    rows = [{"id": "toy/a.py::f", "score": 1.0}, {"id": "toy/a.py::g", "score": 0.5}]
    results = [
        {"submission": name, "score": 1.5, "max_score": 3.0, "exercises": rows} for name in ("anna", "=1+1", "@x", "-y", "+z")
    ]
    path = write_scores(results, tmp_path / "scores.csv")
    table = list(csv.reader(path.read_text().splitlines()))
    assert table[0] == ["submission", "score", "max_score", "toy/a.py::f", "toy/a.py::g"]
    assert table[1] == ["anna", "1.5", "3.0", "1.0", "0.5"]
    assert [row[0] for row in table[2:]] == ["'=1+1", "'@x", "'-y", "'+z"]  # a spreadsheet takes none of them for a formula


def test_no_results_are_a_table_too(tmp_path):
    assert write_scores([], tmp_path / "scores.csv").read_text().strip() == "submission,score,max_score"
