"""A class that was generated, so that each score is known: graded with a kill in the middle, and once more, the same."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from class_generator import SHARES, compared, generate, leaves

from autograder import course as courses

ROOT = Path(__file__).resolve().parents[2]
SEED = "987654321987654321\n"


def command(place, out, lessons, *more):
    words = [sys.executable, "-m", "autograder.cli", "grade", place / "class", "--out", place / out, "--lessons", lessons]
    return [str(word) for word in [*words, "--seed-file", place / "seed", "--no-pages", *more]]


def grade(place, out, lessons, *more):
    done = subprocess.run(command(place, out, lessons, *more), cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
    return done


def results(out):
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))}


def grades(out):
    """What must be equal from run to run: all but when and how fast."""
    dropped = {"seconds", "audit"}
    return {name: {key: value for key, value in result.items() if key not in dropped} for name, result in results(out).items()}


def journal(out):
    return [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]


def killed_after(place, out, lessons, count):
    """Starts grading and kills it, with no warning, when so many results are on disk. Returns how many there were."""
    with subprocess.Popen(
        command(place, out, lessons), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 200
        while len(list((place / out).glob("*/result.json"))) < count and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    return len(results(place / out))


def test_a_class_killed_in_the_middle_and_graded_twice(tmp_path):
    """Ten students of lesson 2: every expected point, every verdict equal in both folders, nothing done twice."""
    (tmp_path / "seed").write_text(SEED)
    made = generate(tmp_path / "class", 10, seed=7, lessons=(2,), patient=False)
    assert {student.kind for student in made.values()} == set(SHARES)
    on_disk = killed_after(tmp_path, "killed", "2", 3)
    assert 3 <= on_disk < 10
    before = {line["submission"]: line for line in journal(tmp_path / "killed")}
    done = grade(tmp_path, "killed", "2")
    assert f"({len(before)} unchanged since an earlier run)" in done.stdout
    lines = journal(tmp_path / "killed")
    assert sorted(line["submission"] for line in lines) == sorted(made)  # each once: nothing lost, nothing repeated
    assert all(line == before[line["submission"]] for line in lines if line["submission"] in before)
    assert compared(made, results(tmp_path / "killed")) == []
    assert not [path for path in (tmp_path / "killed").rglob(".*") if path.name != ".lock"]  # no half-written file is left
    grade(tmp_path, "again", "2")
    assert grades(tmp_path / "again") == grades(tmp_path / "killed")


def test_what_the_generator_rests_on():
    """Leaves have one check, and there are enough of them in each lesson to spoil."""
    for lesson in courses.load().lessons[:3]:
        assert all(len(exercise.checks) == 1 for exercise in leaves(lesson)) and len(leaves(lesson)) >= 2
    assert sum(SHARES.values()) == pytest.approx(1, abs=1e-12)


@pytest.mark.slow
def test_parts_graded_in_folders_of_their_own_are_merged(tmp_path):
    """As machines without a common disk do it: three parts, three folders, one table, equal to the class graded in one."""
    (tmp_path / "seed").write_text(SEED)
    made = generate(tmp_path / "class", 9, seed=5, lessons=(3,), patient=False)
    for part in (1, 2, 3):
        grade(tmp_path, f"part{part}", "3", "--shard", f"{part}/3")
    done = grade(tmp_path, "whole", "3", *(word for part in (1, 2, 3) for word in ("--merge", str(tmp_path / f"part{part}"))))
    assert "(9 unchanged since an earlier run)" in done.stdout and done.stderr.count("3 submissions taken over from") == 3
    assert compared(made, results(tmp_path / "whole")) == []


@pytest.mark.slow
def test_forty_students_of_three_lessons_get_what_they_earned(tmp_path):
    (tmp_path / "seed").write_text(SEED)
    made = generate(tmp_path / "class", 40, seed=6, patient=False)
    grade(tmp_path, "out", "1-3")
    assert compared(made, results(tmp_path / "out")) == []
