"""`climb skeletons`, and what a skeleton is."""

import os

import pytest

from autograder.skeletons import pairs, skeleton


def test_a_task_stands_where_the_solution_stood_and_the_rest_stays():
    text = "import solutions.toy.first as f\n\n\nclass Box:\n    def put(self, x):\n        '''Keep x.'''\n"
    text += "        # BEGIN SOLUTION\n"
    text += "        self.x = x\n        return self\n        # END SOLUTION\n"
    expected = "import toy.first as f\n\n\nclass Box:\n    def put(self, x):\n        '''Keep x.'''\n"
    assert skeleton(text, 4) == expected + '        raise NotImplementedError("lesson 4: Box.put")\n'


@pytest.mark.parametrize(
    "text, said",
    [
        ("# BEGIN SOLUTION\n# BEGIN SOLUTION\n", "inside another"),
        ("# END SOLUTION\n", "line 1"),
        ("x = 1\n# BEGIN SOLUTION\n", "without"),
    ],
)
def test_marks_that_do_not_pair(text, said):
    with pytest.raises(ValueError, match=said):
        skeleton(text, 1)


def test_no_solution_of_the_course_is_in_its_skeleton():
    for solution, _ in pairs():
        text = solution.read_text(encoding="utf-8")
        inside, hidden = False, []
        for line in text.splitlines():
            inside = line.strip() == "# BEGIN SOLUTION" or (inside and line.strip() != "# END SOLUTION")
            hidden += [line.strip()] if inside and not line.strip().startswith("#") and len(line.strip()) > 30 else []
        made = skeleton(text, 1)
        assert hidden and "SOLUTION" not in made and "PLANTED" not in made
        assert not [line for line in hidden if text.count(line) == 1 and line in made], solution


def test_a_fresh_course_is_as_its_solutions_say(tiny):
    assert tiny.climb("skeletons", "--check").code == 0
    assert tiny.climb("skeletons").out == "All skeletons are what their solutions give.\n"


def test_check_names_what_differs_and_writes_nothing(tiny):
    mine = tiny.solve().read_text()
    (tiny.root / "toy/second.py").unlink()
    done = tiny.climb("skeletons", "--check")
    assert done.code == 1 and done.out.splitlines() == ["toy/first.py is not what its solution gives", "toy/second.py is missing"]
    assert (tiny.root / "toy/first.py").read_text() == mine and not (tiny.root / "toy/second.py").exists()


WORK = {
    "solved": lambda text: text.replace('raise NotImplementedError("lesson 1: double")', "return x + x"),
    "a line more": lambda text: text + "scratch = 1\n",
    "a comment": lambda text: text.replace("import torch", "# what is torch?\nimport torch"),
    "half written": lambda text: text + "def broken(:\n",
    "all gone but a note": lambda text: "note = 1\n",
}


@pytest.mark.parametrize("kind", WORK)
def test_work_is_kept(tiny, kind):
    fresh = (tiny.root / "toy/first.py").read_text()
    mine = tiny.write("toy/first.py", WORK[kind](fresh)).read_bytes()
    done = tiny.climb("skeletons")
    assert done.code == 0 and "has work in it and is kept" in done.out
    assert (tiny.root / "toy/first.py").read_bytes() == mine
    assert tiny.climb("skeletons", "--force").out == "toy/first.py written; the old one is toy/first.py.bak\n"
    assert (tiny.root / "toy/first.py").read_text() == fresh and (tiny.root / "toy/first.py.bak").read_bytes() == mine


def test_bytes_of_any_encoding_are_kept_as_they_are(tiny):
    mine = b"# caf\xe9\n"
    (tiny.root / "toy/first.py").write_bytes(mine)
    assert "kept" in tiny.climb("skeletons").out
    tiny.climb("skeletons", "--force")
    assert (tiny.root / "toy/first.py.bak").read_bytes() == mine


def test_an_older_copy_is_never_written_over(tiny):
    for number in range(3):
        tiny.solve(double=f"return {number} * x")
        tiny.climb("skeletons", "--force")
    kept = sorted(name for name in os.listdir(tiny.root / "toy") if ".bak" in name)
    assert kept == ["first.py.bak", "first.py.bak2", "first.py.bak3"]
    assert ["return 0 * x" in (tiny.root / "toy" / name).read_text() for name in kept] == [True, False, False]


def test_what_nobody_worked_on_follows_its_solution(tiny):
    """A reworded docstring or a new exercise reaches a file in which nothing was written, without --force."""
    solution = tiny.root / "solutions/toy/first.py"
    solution.write_text(
        solution.read_text().replace("2 x, elementwise", "Twice x, elementwise")
        + "\n\ndef more(x):\n    # BEGIN SOLUTION\n    return x\n    # END SOLUTION\n"
    )
    assert tiny.climb("skeletons").out == "toy/first.py written\n"
    text = (tiny.root / "toy/first.py").read_text()
    assert "Twice x" in text and '"lesson 1: more"' in text and not (tiny.root / "toy/first.py.bak").exists()


def test_a_mended_silent_bug_is_work(tiny):
    """Such a file has no open task to count: any line of one's own is work."""
    tiny.write(
        "solutions/toy/second.py",
        "def triple(x):\n    # BEGIN SOLUTION\n    return 3 * x\n    # PLANTED\n    # return x * x * x\n    # END SOLUTION\n",
    )
    assert "written" in tiny.climb("skeletons").out
    assert "return x * x * x" in (tiny.root / "toy/second.py").read_text()
    tiny.write("toy/second.py", "def triple(x):\n    return x + x + x\n")
    assert "has work in it" in tiny.climb("skeletons").out


def test_what_cannot_be_written_is_one_line(tiny):
    (tiny.root / "toy/first.py").unlink()
    (tiny.root / "toy/first.py").mkdir()
    tiny.climb("skeletons").refused("toy/first.py is a folder")
    (tiny.root / "toy/first.py").rmdir()
    tiny.write("solutions/toy/first.py", "# BEGIN SOLUTION\n")
    tiny.climb("skeletons").refused("solutions/toy/first.py", "without")


def test_a_student_copy_has_none(tiny):
    (tiny.root / "solutions").rename(tiny.root / "elsewhere")
    tiny.climb("skeletons").refused("student's copy")
