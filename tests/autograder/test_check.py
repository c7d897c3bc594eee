"""`climb check`: what it says of right, wrong, unfinished and unreadable files, to people and to programs."""

import json
import re

import numpy as np
import pytest

from autograder.grading.grade import seed_name
from autograder.grading.oracle import Oracle
from autograder.sandbox.executor import Reply


# Verdicts and exit codes


def test_a_fresh_course_is_not_started_and_says_where_to_go_on(tiny):
    done = tiny.climb("check")
    assert done.code == 1 and done.err == ""
    assert "not started: double, halve, Box.put" in done.out and "climb next" in done.out
    assert set(tiny.climb("check", "--json").statuses.values()) == {"not_started"}


def test_what_is_right_passes_and_exits_0(tiny):
    tiny.solve()
    tiny.solve("toy/second.py")
    done = tiny.climb("check")
    assert done.code == 0 and "8 of 8 points, 4 of 4 exercises" in done.out
    assert tiny.climb("check", "--json").statuses == {
        "double": "passed",
        "halve": "passed",
        "Box.put": "passed",
        "triple": "passed",
    }


@pytest.mark.parametrize(
    "file, status, said",
    [
        ({"double": "return x * x"}, "failed", "You squared it"),
        ({"double": "return x + x + 1"}, "failed", "with      x = [1.25, 3.5 ]"),
        ({"double": "return x + missing"}, "error", "NameError: name 'missing' is not defined"),
        ({"double": 'raise ValueError("mine")'}, "error", "at toy/first.py, line LINE: raise ValueError"),
        ({"double": "return None"}, "failed", "expected"),
        ({"double": "return 'text'"}, "failed", "expected"),
    ],
)
def test_each_status_and_what_is_said_of_it(tiny, file, status, said):
    tiny.solve(**file)
    assert tiny.climb("check", "double", "--json").statuses == {"double": status}
    said = said.replace("LINE", str(tiny.line_of(file["double"])))
    done = tiny.climb("check", "double")
    assert (
        done.code == 1
        and said in done.out
        and "climb hint double" in done.out
        and "lessons/01-first/lesson.md#11-twice" in done.out
    )


@pytest.mark.parametrize("outcome, detail, said", [("timeout", "", "No answer within"), ("crashed", "signal 11", "signal 11")])
def test_a_check_that_never_answers(tiny, outcome, detail, said):
    tiny.solve()
    tiny.sandbox.run = lambda request, **_: Reply(outcome, b"", detail=detail)
    assert tiny.climb("check", "double", "--json").statuses == {"double": outcome}
    assert said in tiny.climb("check", "double").out


def test_an_exercise_the_file_lacks_is_missing(tiny):
    tiny.write("toy/first.py", tiny.solution().replace("def halve", "def half"))
    done = tiny.climb("check", "1", "--json")
    assert done.statuses == {"double": "passed", "halve": "missing", "Box.put": "passed"} and done.code == 1
    assert "missing: halve" in tiny.climb("check", "1").out


def test_only_so_many_failures_are_spelled_out_and_the_rest_can_be_asked_for(tiny):
    tiny.solve(double="return x * x", halve="return x", put="self.x = torch.as_tensor(x) + 1")
    tiny.solve("toy/second.py", triple="return x")
    done = tiny.climb("check")
    assert done.out.count("climb hint") == 3 and "`climb check triple` explains one of the others (triple)" in done.out


# As JSON


def test_json_is_the_contract_and_nothing_else(tiny):
    tiny.solve(double="return x * x")
    done = tiny.climb("check", "--json")
    assert tiny.keeps_the_contract(done.json) and done.err == "" and done.code == 1
    assert (done.json["submission"], done.json["seed"], done.json["sandbox"], done.json["layers"]) == (
        "learner",
        "public",
        "full",
        ["pretended"],
    )
    row = done.json["exercises"][0]
    assert (row["id"], row["lesson"], row["misconception"], row["score"], row["max_score"]) == (
        "toy/first.py::double",
        1,
        "squared",
        0.0,
        2.0,
    )
    assert row["lesson_anchor"] == "lessons/01-first/lesson.md#11-twice" and row["hint"].startswith("You squared it")


def test_with_an_exercise_in_its_own_words_only_that_one_is_asked(tiny):
    tiny.solve()
    assert set(tiny.climb("check", "double", "toy/second.py", "--json").statuses) == {"double", "triple"}
    assert set(tiny.climb("check", "box", "--json").statuses) == {"Box.put"}
    assert set(tiny.climb("check", "1", "double", "first", "--json").statuses) == {"double", "halve", "Box.put"}
    for everything in (".", "lessons", "toy", tiny.root):
        assert len(tiny.climb("check", everything, "--json").statuses) == 4


# Seeds


def numbers_in(text):
    return {float(found) for found in re.findall(r"-?\d+\.\d+", text)}


@pytest.mark.parametrize(
    "body",
    [
        "return x + x + 1",
        "return x * x",
        "print(x); return x",
        "raise ValueError(str(x.tolist()))",
        "raise type('E' + str(x.tolist()), (Exception,), {})('')",
        "raise NotImplementedError(str(x.tolist()))",
        "raise NotImplementedError('lesson 1: ' + str(x.tolist()))",
        "return {'y': str(x.tolist())}",
        "return {str(x.tolist()): x}",
        "return [str(v) for v in x.tolist()]",
    ],
)
def test_under_another_seed_no_input_and_no_expected_value_is_told(tiny, body):
    """Whatever the learner's code does with its inputs: prints them, raises them, returns them."""
    tiny.solve(double=body)
    from autograder import course

    (exercise,) = course.load(tiny.root).select(["double"])
    oracle = Oracle("toy.first", 77)
    secret = [v for case in oracle.cases(exercise.checks[0]) for v in case["x"]] + [
        v for e in oracle.expected(exercise.checks[0]) for v in e["y"]
    ]
    for done in (tiny.climb("check", "double", "--seed", 77, "--json"), tiny.climb("check", "double", "--seed", 77)):
        assert done.code == 1
        told = numbers_in(re.sub(r'"seconds": [\d.]+|\d+\.\d\d s,', "", done.out))
        assert not [v for v in secret if any(abs(v - number) < 0.005 for number in told if number not in (0.0, 1.0, 2.0))], (
            done.out
        )
    public = tiny.climb("check", "double").out
    assert "1.25" in public or "Not started" in public or "not started" in public


def test_the_named_mistake_and_the_line_are_told_under_any_seed(tiny):
    tiny.solve(double="return x * x", halve="raise KeyError('x')")
    first, second = tiny.climb("check", "1", "--seed", 5, "--json").json["exercises"][:2]
    assert first["misconception"] == "squared" and first["message"] == "Wrong on a hidden case. `y` is not right."
    assert second["message"].split("\n") == [
        "It stopped: KeyError.",
        f"at toy/first.py, line {tiny.line_of('KeyError')}: raise KeyError('x')",
    ]


def test_a_result_names_the_seed_by_a_hash(tiny):
    done = tiny.climb("check", "double", "--seed", 123456789, "--json")
    assert done.json["seed"] == seed_name(123456789) and "123456789" not in done.out
    assert tiny.climb("check", "double", "--seed", 0, "--json").json["seed"] == "public"


def test_other_seeds_draw_other_cases_and_leave_no_progress(tiny):
    tiny.solve(double=f"return x + x if x.shape[0] == 2 else x + x * {1 + 1e-3}")
    assert tiny.climb("check", "double", "--seed", 3, "--json").statuses == {"double": "failed"}
    assert not (tiny.root / ".climb/progress.json").exists()
    drawn = [np.concatenate([case["x"] for case in Oracle("toy.first", seed).cases(_double(tiny))]) for seed in (0, 3, 3)]
    assert not np.array_equal(drawn[0], drawn[1]) and np.array_equal(drawn[1], drawn[2])


def _double(tiny):
    from autograder import course

    return course.load(tiny.root).select(["double"])[0].checks[0]


# Solutions, and files from elsewhere


def test_solutions_pass_and_are_not_the_learners_progress(tiny):
    done = tiny.climb("check", "--solutions")
    assert done.code == 0 and not (tiny.root / ".climb/progress.json").exists()
    tiny.climb("check", "--solutions", tiny.write("../else.py", "")).refused("--solutions", "leave out")


def test_a_student_copy_says_why_there_are_no_solutions(tiny):
    (tiny.root / "solutions").rename(tiny.root / "elsewhere")
    tiny.climb("check", "--solutions").refused("solutions/", "student's copy")


def test_a_file_folder_zip_or_notebook_elsewhere(tiny, tmp_path):
    right = tiny.solution()
    places = [
        tiny.write("../a/first.py", right),
        tiny.write("../b/toy/first.py", right).parents[1],
        tiny.zipped(tmp_path / "c.zip", {"toy/first.py": right}),
        tiny.write("../d/first.ipynb", tiny.notebook(right)),
    ]
    for place in places:
        done = tiny.climb("check", place, "--json")
        assert done.code == 0 and set(done.statuses) == {"double", "halve", "Box.put"}, place
        assert done.json["submission"] != "learner"
    assert not (tiny.root / ".climb/progress.json").exists()
    done = tiny.climb("check", *places)
    assert done.code == 0 and done.out.count("5 of 5 points") == len(places)


def test_exercises_named_beside_a_path_are_asked_of_it(tiny):
    wrong = tiny.write("../first.py", tiny.solution(halve="return x"))
    assert tiny.climb("check", wrong, "double", "--json").statuses == {"double": "passed"}
    assert tiny.climb("check", f"{wrong}::halve", "--json").statuses == {"halve": "failed"}


def test_the_same_file_twice_is_one(tiny):
    place = tiny.write("../first.py", tiny.solution())
    assert isinstance(tiny.climb("check", place, f"{place.parent}/./first.py", "--json").json, dict)
    several = tiny.climb("check", place, tiny.write("../other/first.py", tiny.solution()), "--json").json
    assert [tiny.keeps_the_contract(result) for result in several] == [True, True]


def test_a_student_may_be_called_learner(tiny):
    """A name decides nothing: only what the file holds is asked of it."""
    folder = tiny.write("../learner/first.py", tiny.solution()).parent
    assert set(tiny.climb("check", folder, "--json").statuses) == {"double", "halve", "Box.put"}


def test_several_submissions_are_for_grade(tiny):
    for name in ("anna", "ben"):
        tiny.write(f"../class/{name}/first.py", tiny.solution())
    tiny.climb("check", tiny.root.parent / "class").refused("2 submissions", "climb grade")


# Bad input: one line, exit code 2


@pytest.mark.parametrize(
    "word, said",
    [
        ("duble", "did you mean `double`?"),
        ("toy/frist.py", "did you mean `toy/first.py`"),
        ("99", "no exercise, lesson or file `99`"),
        ("/nowhere/first2.py", "/nowhere/first2.py"),
        ("toy/first.py::duble", "did you mean `double`?"),
        ("toy/given", "is no exercise file"),
        ("toy/helper.py", "is no exercise file; toy/first.py, toy/second.py are"),
    ],
)
def test_words_that_mean_nothing(tiny, word, said):
    tiny.write("toy/helper.py", "x = 1\n")
    tiny.write("toy/given/__init__.py", "")
    tiny.climb("check", word).refused(said)


def test_files_elsewhere_that_are_none(tiny, tmp_path):
    tiny.climb("check", tiny.write("../notes.py", "x = 1\n")).refused("holds no exercise file", "toy/first.py")
    tiny.climb("check", tiny.write("../half.zip", "PK\x03\x04 cut")).refused("no zip that can be read")
    tiny.climb("check", tiny.write("../half.ipynb", '{"cells": [')).refused("no notebook that can be read")
    (tmp_path / "empty").mkdir()
    tiny.climb("check", tmp_path / "empty").refused("there is none")


UNREADABLE = {
    "missing": (lambda place: None, "is not there: `climb skeletons` writes it anew"),
    "a folder": (lambda place: place.mkdir(), "is a folder, not a file"),
    "latin-1": (lambda place: place.write_bytes("# caf\xe9\n".encode("latin-1")), "is not UTF-8 (byte 0xe9 in line 1"),
    "utf-16": (lambda place: place.write_bytes("x".encode("utf-16")), "UTF-16"),
    "a link": (lambda place: place.symlink_to("/etc/hostname"), "symbolic link"),
    "a link to nothing": (lambda place: place.symlink_to("nowhere"), "symbolic link"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_exercise_file_that_cannot_be_read(tiny, kind):
    spoil, said = UNREADABLE[kind]
    (tiny.root / "toy/first.py").unlink()
    spoil(tiny.root / "toy/first.py")
    tiny.climb("check", "1").refused("toy/first.py", said)
    tiny.climb("check", "double").refused("toy/first.py", said)
    tiny.solve("toy/second.py")
    done = tiny.climb("check")  # the other lesson is checked all the same
    assert done.code == 1 and said in " ".join(done.out.split()) and "3 of 8 points" in done.out
    assert "climb hint double" not in done.out  # a hint is no help here
    as_json = tiny.climb("check", "1", "--json")
    assert as_json.code == 2 and tiny.keeps_the_contract(as_json.json) and as_json.json["score"] == 0
    assert tiny.climb("next").code == 0 and tiny.climb("progress").code == 0


def test_without_the_solutions_a_missing_file_is_to_be_copied(tiny):
    (tiny.root / "solutions").rename(tiny.root / "elsewhere")
    (tiny.root / "toy/first.py").unlink()
    (tiny.root / "toy/second.py").unlink()
    (tiny.root / "autograder/frozen").mkdir(parents=True)
    tiny.climb("check", "1").refused("autograder/frozen/toy.first.bin is missing or damaged")


def test_a_half_written_file_is_said_once_with_its_line(tiny):
    tiny.write("toy/first.py", tiny.solution() + "\ndef broken(:\n")
    done = tiny.climb("check", "1")
    assert done.code == 1 and done.out.count("SyntaxError") == 1
    assert f"toy/first.py, line {tiny.line_of('broken')}: def broken(:" in done.out
    assert "climb hint" not in done.out


def test_an_empty_file_is_said_once(tiny):
    tiny.write("toy/first.py", "")
    done = tiny.climb("check", "1")
    assert done.code == 1 and "has none of this lesson's 3 exercises" in done.out and "missing:" not in done.out


def test_a_byte_order_mark_and_windows_line_ends_are_no_problem(tiny):
    (tiny.root / "toy/first.py").write_bytes(b"\xef\xbb\xbf" + tiny.solution().replace("\n", "\r\n").encode())
    assert tiny.climb("check", "1").code == 0


# Progress


def test_the_verdict_is_given_though_progress_cannot_be_kept(tiny):
    tiny.solve()
    tiny.write(".climb", "a file in the way")
    done = tiny.climb("check", "1")
    assert done.code == 0 and "5 of 5 points" in done.out
    assert done.err.count("\n") == 1 and "progress is not kept" in done.err
    assert json.loads(tiny.climb("check", "1", "--json").out)["score"] == 5


def test_a_save_while_the_check_runs_is_not_taken_for_the_checked_file(tiny):
    """The verdict is about the text that was read; the next command re-checks what is there now."""
    tiny.solve()
    real = tiny.sandbox.run

    def run(request, **limits):
        tiny.solve(double="return x * x")
        return real(request, **limits)

    tiny.sandbox.run = run
    assert tiny.climb("check", "double").code == 0
    tiny.sandbox.run = real
    assert "double" in tiny.climb("next").out.splitlines()[0]
    assert tiny.progress()["toy/first.py::double"]["status"] == "failed"
