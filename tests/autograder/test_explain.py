"""`climb explain`: one student's exercise once more, with all that a hidden seed keeps from the student."""

import json

import numpy as np
import pytest

from autograder import course as courses
from autograder.grading.oracle import Oracle
from autograder.grading.replay import read_result, seed_of

SEED = 123456789012345678


@pytest.fixture
def graded(tiny, tmp_path):
    """Two students under a secret seed: ada squares where she should double, ben is right but for what he did not begin."""
    ada = {"toy/first.py": tiny.solution(double="return x * x"), "toy/second.py": tiny.solution("toy/second.py")}
    for name, files in (("ada", ada), ("ben", {"toy/first.py": tiny.solution()})):
        for file, text in files.items():
            place = tmp_path / "sent" / name / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
    (tmp_path / "seed").write_text(str(SEED))
    done = tiny.climb("grade", tmp_path / "sent", "--out", tmp_path / "out", "--seed-file", tmp_path / "seed", "--no-pages")
    assert done.code == 1, done.err
    return tmp_path / "out"


def told(done):
    return json.loads(done.out)


def test_a_hidden_case_is_shown_with_inputs_answer_and_truth(tiny, graded, tmp_path):
    result = json.loads((graded / "ada/result.json").read_text())
    row = result["exercises"][0]
    assert row["status"] == "failed" and "expected" not in row["message"]  # the student reads no value
    words = ("explain", graded / "ada/result.json", "double", "--seed-file", tmp_path / "seed")
    done = tiny.climb(*words, "--json")
    assert done.code == 0, done.err
    found = told(done)
    assert found["agrees"] and found["row"] == row and found["result"]["audit"] == result["audit"]
    (check,) = found["checks"]
    assert check["verdict"]["misconception"] == "squared" and check["cases"][0]["number"] == 1
    assert "1.25" in check["cases"][0]["inputs"]["x"] and "2.5" in check["cases"][0]["expected"]["y"]
    assert "1.5625" in check["cases"][0]["received"]["y"]
    text = tiny.climb(*words).out
    for words in (
        "ada",
        "toy/first.py::double",
        "known as squared",
        "received  y = ",
        "expected  y = ",
        "again what the result says",
    ):
        assert words in text


def test_any_case_can_be_asked_for_and_it_is_the_hidden_one(tiny, graded, tmp_path):
    """The second case is drawn from the secret seed: what is shown is what was asked."""
    words = ("explain", graded / "ada", "double", "--case", "2", "--seed-file", tmp_path / "seed", "--json")
    case = told(tiny.climb(*words))["checks"][0]["cases"][0]
    check = courses.load(tiny.root).select(["double"])[0].checks[0]
    x = Oracle("toy.first", SEED).cases(check)[1]["x"]
    assert case["number"] == 2 and f"{x[0]:.4g}"[:5] in case["inputs"]["x"] and case["wrong"]
    tiny.climb(*words[:4], "3", *words[5:]).refused("has cases 1 to 2, received 3")


def test_a_right_answer_is_shown_as_right(tiny, graded, tmp_path):
    done = tiny.climb("explain", graded / "ben", "toy/first.py::halve", "--seed-file", tmp_path / "seed")
    assert done.code == 0 and "case 1: right" in done.out and "passed" in done.out


def test_a_verdict_that_comes_out_otherwise_is_told(tiny, graded, tmp_path):
    """Someone has changed the kept file, or the checks are others now."""
    kept = graded / "ada/files/toy/first.py"
    kept.write_text(tiny.solution())
    done = tiny.climb("explain", graded / "ada", "double", "--seed-file", tmp_path / "seed")
    assert done.code == 1 and "are not those that were graded" in done.out
    assert "The result says failed, this time it is passed." in done.out


def test_the_seed_is_found_beside_the_results_and_checked(tiny, graded, tmp_path):
    tiny.climb("explain", graded / "ada", "double").refused("seed.txt: no secret seed there")
    (graded / "seed.txt").write_text("987654321098765432")
    tiny.climb("explain", graded / "ada", "double").refused("holds another seed")
    (graded / "seed.txt").write_text(str(SEED))
    assert tiny.climb("explain", graded / "ada", "double").code == 0
    folder, result = read_result(graded / "ada")
    assert seed_of(result, folder, None) == SEED and seed_of(result | {"seed": "public"}, folder, None) == 0


def test_bad_input_is_one_line(tiny, graded, tmp_path):
    seed = ("--seed-file", tmp_path / "seed")
    tiny.climb("explain", graded / "nobody", "double", *seed).refused("cannot be read")
    tiny.climb("explain", graded / "scores.csv", "double", *seed).refused("is no result of `climb grade`")
    tiny.climb("explain", graded / "ada", "dubble", *seed).refused("did you mean `double`")
    tiny.climb("explain", graded / "ada", "first", *seed).refused("is 3 exercises of this result", "name one")
    tiny.climb("explain", graded / "ben", "triple", *seed).refused("keeps no toy/second.py", "missing")


def test_a_value_of_any_size_stays_readable():
    from autograder.grading.replay import SHOWN, _shown

    shown = _shown({"x": np.zeros((1000, 1000)), "text": "\x1b[31m" + "y" * 10000, **{f"k{i}": 1 for i in range(100)}})
    assert len(shown) == 40 and all(len(value) <= SHOWN + 100 for value in shown.values()) and "\x1b" not in shown["text"]
