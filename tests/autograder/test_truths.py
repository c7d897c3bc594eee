"""Truths kept from one command to the next: the same answers, never stale, and nothing lost where they cannot be kept."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autograder import reference
from autograder.course import load
from autograder.grading.oracle import Oracle
from autograder.grading.truths import FOLDER, KeptOracle, sources

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def lesson():
    return load(ROOT).lesson_of("toy.word_agent")


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f"))


def test_what_is_kept_is_what_is_computed(lesson, tmp_path):
    first = KeptOracle(lesson, tmp_path, "now")
    for check in lesson.checks:
        first.expected(check)
    first.keep(lesson)
    again, fresh = KeptOracle(lesson, tmp_path, "now"), Oracle(lesson.module, 0)
    again._truth = None  # nothing is worked out
    for check in lesson.checks:
        assert same(again.expected(check), fresh.expected(check)), type(check).__name__
        assert same(again.cases(check), fresh.cases(check)), type(check).__name__


def test_other_sources_other_truths_and_older_ones_go(lesson, tmp_path):
    check = lesson.checks[0]
    for made_from in ("before", "after"):
        oracle = KeptOracle(lesson, tmp_path, made_from)
        assert not oracle._memory
        oracle.expected(check)
        oracle.keep(lesson)
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [f"{lesson.module}-after.bin"]


def test_any_source_of_a_truth_changes_their_name(tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    names = {sources()}
    for place in ("autograder/checks/toy/a.py", "autograder/probes/toy/a.py", "solutions/toy/a.py", "toy/given/a.py", "full/given/b/a.py"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("x = 1\n")
        names.add(sources())
        (tmp_path / place).write_text("x = 2\n")
        names.add(sources())
    assert len(names) == 11


def test_a_damaged_file_is_worked_out_again(lesson, tmp_path):
    oracle = KeptOracle(lesson, tmp_path, "now")
    oracle.path.parent.mkdir(parents=True)
    for damage in (b"", b"\0\0\0\5", b"nonsense" * 100):
        oracle.path.write_bytes(damage)
        again = KeptOracle(lesson, tmp_path, "now")
        assert same(again.expected(lesson.checks[0]), Oracle(lesson.module, 0).expected(lesson.checks[0]))


def test_where_nothing_can_be_written_nothing_is_kept(lesson, tmp_path):
    (tmp_path / ".climb").write_text("a file in the folder's place")
    oracle = KeptOracle(lesson, tmp_path, "now")
    oracle.expected(lesson.checks[0])
    oracle.keep(lesson)
    assert (tmp_path / ".climb").is_file()


def test_a_second_check_needs_no_torch_and_a_secret_seed_leaves_nothing(real):
    """In the grader's own process; the fork server has its own."""
    program = (
        "import sys; from autograder.cli import run; code = run(sys.argv[1:]); "
        "print('torch' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    for path in (real / FOLDER).glob("*"):
        path.unlink()
    told = []
    for seed in ((), ("--seed", "5"), ()):
        command = [sys.executable, "-c", program, "check", "einsum", "--solutions", "--json", *seed]
        done = subprocess.run(command, cwd=real, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        told.append((json.loads(done.stdout)["score"], done.stderr.strip(), len(list((real / FOLDER).glob("*")))))
        if seed:
            assert told[-1][2] == 1  # the public one's, from before
    assert [row[1:] for row in (told[0], told[2])] == [("True", 1), ("False", 1)] and told[0][0] == told[2][0]
