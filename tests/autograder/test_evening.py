"""An instructor's evening with `climb grade`: rules, attempts, what is kept and told, parts, a full disk, a clock that jumps."""

import csv
import errno
import json
import time
from datetime import datetime, timedelta, timezone

import pytest

from autograder.course import load
from autograder.grading import finish
from autograder.grading.batch import Graded, Journal
from autograder.grading.kept import keep, kept
from autograder.grading.shown import Watched
from autograder.grading.submissions import Submission
from autograder.policy import Late, Policy

SEED = "987654321987654321\n"


@pytest.fixture
def people(tiny, tmp_path):
    """anna is right, ben is wrong in one exercise."""
    tiny.write("../people/anna/first.py", tiny.solution())
    tiny.write("../people/ben/toy/first.py", tiny.solution(double="return x * x"))
    return tmp_path / "people"


@pytest.fixture
def grade(tiny, tmp_path, people):
    """`grade(*options)` of lesson 1 under one seed; exit code 0 or 1."""

    def run(*options, place=people, out=tmp_path / "out", lessons=("--lessons", 1)):
        seed = tiny.write("../seed", SEED)
        done = tiny.climb("grade", place, "--out", out, "--seed-file", seed, "--no-pages", *lessons, *options)
        assert done.code in (0, 1), done.err
        return done

    return run


def results(out):
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))}


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


# The rules of a course

RULES = """
timezone = "Europe/Vienna"
[late]
penalty_per_day = 0.1
cap = 0.5
[lesson.1]
due = 2026-12-04
points = 10
[extensions]
ben = 1
"""


def test_rules_stand_beside_the_score_that_the_grader_found(tiny, grade, tmp_path):
    rules = tiny.write("../course.toml", RULES)
    roster = tiny.write(
        "../roster.csv", "id,name,section,submitted\nanna,Anna A,X,2026-12-06T12:00\nben,Ben B,Y,2026-12-05T23:00\n"
    )
    done = grade("--policy", rules, "--roster", roster)
    anna, ben = (results(tmp_path / "out")[name] for name in ("anna", "ben"))
    assert tiny.keeps_the_contract(anna) and (anna["score"], anna["max_score"]) == (5, 5)
    assert (anna["policy"]["late_days"], anna["policy"]["score"], anna["policy"]["max_score"]) == (2, 8, 10)
    assert (ben["policy"]["late_days"], ben["policy"]["score"]) == (0, 6)  # a day late, a day's extension
    assert anna["student"] == {
        "id": "anna",
        "name": "Anna A",
        "section": "X",
        "extension_days": 0.0,
        "email": "",
        "on_roster": True,
    }
    rows = table(tmp_path / "out/scores.csv")
    assert [(row["name"], row["section"], row["late_days"], row["final_score"]) for row in rows] == [
        ("Anna A", "X", "2", "8.0"),
        ("Ben B", "Y", "0", "6.0"),
    ]
    assert done.err == "" and rows[0]["score"] == "5.0"
    assert [line.split()[3] for line in done.out.splitlines() if line[:4] in ("anna", "ben ")] == ["8/10", "6/10"]


def test_changed_rules_regrade_nothing(tiny, grade, tmp_path):
    grade()
    asked = tiny.sandbox.requests
    rules = tiny.write("../course.toml", "[lesson.1]\npoints = 100\n")
    grade("--policy", rules)
    assert tiny.sandbox.requests == asked and results(tmp_path / "out")["anna"]["policy"]["score"] == 100
    rules.write_text("[lesson.1]\npoints = 50\n")
    done = grade("--policy", rules)
    assert tiny.sandbox.requests == asked and results(tmp_path / "out")["anna"]["policy"]["score"] == 50
    assert "(2 unchanged since an earlier run)" in done.out
    grade()
    assert "policy" not in results(tmp_path / "out")["anna"] and tiny.sandbox.requests == asked


def test_rules_say_which_lessons(tiny, grade, tmp_path):
    rules = tiny.write("../course.toml", "lessons = [1]\n")
    grade("--policy", rules, lessons=())
    assert {row["lesson"] for row in results(tmp_path / "out")["anna"]["exercises"]} == {1}


def test_rules_that_make_no_sense_are_one_line(tiny, people, tmp_path):
    rules = tiny.write("../course.toml", "[late]\ncap = 2\n")
    tiny.climb("grade", people, "--out", tmp_path / "out", "--policy", rules).refused("`late.cap`", "a share from 0 to 1")
    assert not (tmp_path / "out").exists()


def test_times_that_nobody_knows_are_told(tiny, grade, tmp_path):
    rules = tiny.write("../course.toml", RULES)
    done = grade("--policy", rules)
    assert done.err.count("\n") == 1 and "when anna, ben handed in is not known: taken as in time" in done.err
    assert results(tmp_path / "out")["anna"]["policy"]["submitted"] is None


def test_a_files_own_time_counts_if_the_rules_say_so_and_it_is_not_in_the_future():
    now = datetime(2026, 12, 5, tzinfo=timezone.utc)
    rules, trusting = Policy(), Policy(late=Late(file_times=True))
    one = Submission("a", {"toy.first": "x"}, changed=now - timedelta(hours=5))
    assert finish.submitted_at(one, rules, now) == (None, "")
    assert finish.submitted_at(one, trusting, now) == (one.changed, "file times")
    one.changed = now + timedelta(days=3)  # a student's clock, or this machine's, is wrong
    assert finish.submitted_at(one, trusting, now) == (None, "")
    one.submitted, one.submitted_from = datetime(2026, 12, 4, 12), "Gradescope"  # without a zone: the course's
    assert finish.submitted_at(one, trusting, now) == (datetime(2026, 12, 4, 12, tzinfo=timezone.utc), "Gradescope")


# Attempts


def test_the_best_attempt_counts_where_it_is_asked_for(tiny, grade, tmp_path):
    for number, body in enumerate(("return x * x", "return x + x", "return x"), start=1):
        tiny.write(f"../tries/anna_attempt_{number}/first.py", tiny.solution(double=body))
    tiny.write("../tries/ben/first.py", tiny.solution())
    place = tmp_path / "tries"
    grade(place=place, out=tmp_path / "latest")
    assert results(tmp_path / "latest")["anna"]["score"] == 3
    for _ in range(2):
        before = tiny.sandbox.requests
        done = grade("--attempts", "best", place=place)
        anna = results(tmp_path / "out")["anna"]
        assert (anna["score"], anna["submission"]) == (5, "anna") and anna["notes"][0] == "attempt 2 of 3 is the best and counts"
        assert "return x + x" in (tmp_path / "out/anna/files/toy/first.py").read_text()
        assert sorted(results(tmp_path / "out")) == ["anna", "ben"] and "2 submissions graded" in done.out
    assert tiny.sandbox.requests == before
    (row, _) = table(tmp_path / "out/students.csv")
    assert (row["submission"], row["attempts"]) == ("anna", "3")


def test_a_late_attempt_is_best_only_if_it_is_worth_more_all_the_same():
    """5 of 5 points two days late against 4.5 in time, at 10 and at 1 percent a day."""
    due = datetime(2026, 12, 4, tzinfo=timezone.utc)
    rows = [{"id": "e", "lesson": 1, "score": score, "max_score": 5.0} for score in (4.5, 5.0)]
    early, late = (Submission("anna", {"toy.first": "x"}, submitted=due + timedelta(days=days)) for days in (-1, 2))
    late.others = [early]
    from autograder.policy import LessonPolicy

    for daily, score in ((0.1, 4.5), (0.01, 5.0)):
        graded = Graded(
            {f"anna/.attempts/{at}": {"submission": "", "notes": [], "exercises": [row]} for at, row in enumerate(rows, 1)}
        )
        rules = Policy(late=Late(penalty_per_day=daily), by_lesson={1: LessonPolicy(1, due=due)})
        one = Submission("anna", late.files, submitted=late.submitted, others=[early])

        class Nowhere:  # nothing of this is about files
            def __truediv__(self, _):
                return self

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(finish, "keep", lambda *_: None)
            patch.setattr(finish, "_write_if_new", lambda *_: None)
            finish.best_attempts([one], graded, rules, Nowhere(), due)
        assert graded.results["anna"]["exercises"][0]["score"] == score


# What is kept and said


def test_what_was_handed_in_is_kept_beside_the_result_and_replaced_with_it(tiny, grade, people, tmp_path):
    tiny.write("../people/ben/toy/helper.py", "x = 1\n")
    tiny.write("../people/ben/answers/01-first.toml", '["a"]\nanswer = 1\n')
    grade()
    folder = tmp_path / "out/ben"
    assert (folder / "files/toy/first.py").read_text() == tiny.solution(double="return x * x")
    assert (folder / "files/toy/helper.py").is_file() and (folder / "answers/01-first.toml").is_file()
    (people / "ben/toy/helper.py").unlink()
    (people / "ben/answers/01-first.toml").unlink()
    (people / "ben/toy/first.py").write_text(tiny.solution())
    grade()
    assert (folder / "files/toy/first.py").read_text() == tiny.solution()
    assert not (folder / "files/toy/helper.py").exists() and not (folder / "answers/01-first.toml").exists()


def test_what_is_kept_can_be_read_back(tiny, tmp_path):
    course = load(tiny.root)
    one = Submission("ben", {"toy.first": "x = 1\n"}, {"mine": "m", "toy.mine": "m", "toy.other": "o"}, {"01-first": "a = 1\n"})
    keep(tmp_path / "ben", one)
    assert sorted(path.name for path in (tmp_path / "ben").rglob("*.py")) == ["first.py", "mine.py", "other.py"]
    back = kept(tmp_path / "ben", course)
    assert (back.name, back.files, back.helpers, back.answers) == (one.name, one.files, one.helpers, one.answers)
    assert not kept(tmp_path / "nobody", course).files


def test_a_result_says_which_text_which_checks_and_when(tiny, grade, tmp_path):
    grade()
    for name, result in results(tmp_path / "out").items():
        audit = result["audit"]
        (line,) = [
            e for e in map(json.loads, (tmp_path / "out/journal.jsonl").read_text().splitlines()) if e["submission"] == name
        ]
        assert audit["key"] == line["key"] and len(audit["submission"]) == len(audit["checks"]) == 64
        assert datetime.fromisoformat(audit["graded_at"]).tzinfo is not None
    anna, ben = results(tmp_path / "out").values()
    assert anna["audit"]["checks"] == ben["audit"]["checks"] and anna["audit"]["submission"] != ben["audit"]["submission"]


def test_what_was_left_out_of_a_notebook_is_in_the_result(tiny, grade, people, tmp_path):
    cells = [{"cell_type": "code", "source": source, "metadata": {}} for source in ("!pip install x", tiny.solution())]
    tiny.write("../people/cleo/first.ipynb", json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}))
    grade()
    assert results(tmp_path / "out")["cleo"]["notes"] == [
        "first.ipynb: 1 line that is no Python left out: cell 1 `!pip install x`"
    ]
    assert results(tmp_path / "out")["cleo"]["score"] == 5


def test_old_and_new_scores_stand_side_by_side(tiny, grade, people, tmp_path):
    assert "was" not in grade().out and not (tmp_path / "out/changes.csv").exists()
    (people / "ben/toy/first.py").write_text(tiny.solution())
    done = grade()
    assert [line.split() for line in done.out.splitlines() if line.startswith("ben")] == [
        ["ben", "3", "5", "5"],
        ["ben", "5", "5", "3/3"],
    ]
    assert table(tmp_path / "out/changes.csv") == [
        {"submission": "ben", "old_score": "3.0", "old_max": "5.0", "new_score": "5.0", "new_max": "5.0"}
    ]
    assert "graded again" not in grade().out  # nothing was, just now


def test_a_roster_that_comes_later_renames_and_regrades_nothing(tiny, grade, tmp_path):
    """Canvas's names at first; then the class's own. The earlier folders are out of the way of pages and gradebooks."""
    for name in ("adamsanna_12", "bakerben_13"):
        tiny.write(f"../canvas/{name}_77_first.py", tiny.solution() + f"# {name}\n")
    place, roster = tmp_path / "canvas", tiny.write("../roster.csv", "id,name\n1001,Anna Adams\n1002,Ben Baker\n1003,Cleo Cook\n")
    grade(place=place)
    asked = tiny.sandbox.requests
    done = grade("--roster", roster, place=place)
    assert sorted(results(tmp_path / "out")) == ["1001", "1002", "1003"]
    assert tiny.sandbox.requests == asked and results(tmp_path / "out")["1001"]["submission"] == "1001"
    assert done.err == f"climb: 2 earlier results are of nobody in this class: moved to {tmp_path / 'out/.earlier'}\n"
    done = grade(place=place)
    assert sorted(results(tmp_path / "out")) == ["adamsanna_12", "bakerben_13"] and tiny.sandbox.requests == asked
    assert "3 earlier results are of nobody" in done.err


def test_who_is_not_in_the_class_any_more_is_set_aside_and_comes_back(tiny, grade, people, tmp_path):
    import shutil

    grade()
    asked = tiny.sandbox.requests
    (people / "ben").rename(tmp_path / "ben")
    for _ in range(2):
        done = grade()
        assert sorted(results(tmp_path / "out")) == ["anna"]
    assert done.err == "" and (tmp_path / "out/.earlier/ben/result.json").is_file()
    shutil.move(tmp_path / "ben", people / "ben")
    assert grade().err == "" and results(tmp_path / "out")["ben"]["score"] == 3 and tiny.sandbox.requests == asked


def test_one_text_is_run_once_a_class(tiny, grade, tmp_path):
    for number in range(6):
        tiny.write(f"../same/s{number}/first.py", tiny.solution())
    grade("--jobs", 1, place=tmp_path / "same")
    assert tiny.sandbox.requests == 3 and {r["score"] for r in results(tmp_path / "out").values()} == {5.0}


def test_a_file_whose_import_never_ends_is_waited_for_twice_and_no_more(tiny, grade, tmp_path):
    from autograder.sandbox.executor import Reply

    real, asked = tiny.sandbox.run, []

    def run(request, **limits):
        if b"# stuck" in request:
            asked.append(request)
            return Reply("timeout", b"")
        return real(request, **limits)

    tiny.sandbox.run = run
    tiny.write("../slow/anna/first.py", tiny.solution() + "# stuck\n")
    tiny.write("../slow/ben/first.py", tiny.solution())
    grade("--jobs", 1, place=tmp_path / "slow")
    rows = results(tmp_path / "out")["anna"]["exercises"]
    assert len(asked) == 2 and {row["status"] for row in rows} == {"timeout"} and len(rows) == 3
    assert "was still being imported" in rows[2]["message"] and results(tmp_path / "out")["ben"]["score"] == 5


# Progress


def test_elsewhere_than_on_a_terminal_a_line_a_minute_says_how_far_and_how_long(capsys, monkeypatch):
    from rich.console import Console as Rich

    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Watched(Rich(force_terminal=False), 300) as watched:
        for number in range(120):
            now[0] += 1.0
            watched.done(f"s{number}")
    said = capsys.readouterr().err
    assert said.splitlines() == [
        "climb: 60 of 300 graded, 60 a minute, 4 min left",
        "climb: 120 of 300 graded, 60 a minute, 3 min left",
    ]


def test_a_terminals_bar_says_the_pace_since_the_start(monkeypatch):
    import io

    from rich.console import Console as Rich

    now, said = [0.0], io.StringIO()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Watched(Rich(file=said, force_terminal=True, width=120), 100) as watched:
        for at in (30.0, 30.1, 30.1):  # a burst
            now[0] = at
            watched.done("anna")
        watched.bar.refresh()
    assert "6 a minute, 16:13 left" in said.getvalue()


# Parts


def test_parts_in_folders_of_their_own_are_merged(tiny, grade, people, tmp_path):
    for part in (1, 2):
        grade("--shard", f"{part}/2", out=tmp_path / f"part{part}")
    asked = tiny.sandbox.requests
    done = grade("--merge", tmp_path / "part1", "--merge", tmp_path / "part2")
    assert tiny.sandbox.requests == asked and "(2 unchanged since an earlier run)" in done.out
    assert done.err.count("1 submission taken over from") == 2
    assert {name: result["score"] for name, result in results(tmp_path / "out").items()} == {"anna": 5, "ben": 3}
    assert (tmp_path / "out/ben/files/toy/first.py").is_file()


def test_parts_of_another_seed_are_not_taken_over(tiny, grade, people, tmp_path):
    grade("--shard", "1/2", out=tmp_path / "part1")
    other = tiny.write("../other", "123456789123456789\n")
    done = tiny.climb(
        "grade",
        people,
        "--out",
        tmp_path / "out",
        "--seed-file",
        other,
        "--lessons",
        1,
        "--no-pages",
        "--merge",
        tmp_path / "part1",
    )
    assert "0 submissions taken over from" in done.err and "none there was graded with this seed" in done.err
    assert len(results(tmp_path / "out")) == 2


def test_a_folder_that_holds_no_results_cannot_be_merged(tiny, people, tmp_path):
    (tmp_path / "empty").mkdir()
    tiny.climb("grade", people, "--out", tmp_path / "out", "--merge", tmp_path / "empty").refused("--merge", "holds no results")


# A disk that fills, a clock that jumps


@pytest.mark.parametrize("where", ["result", "journal", "files"])
def test_a_disk_that_fills_is_one_line_and_the_same_command_goes_on(tiny, grade, people, tmp_path, monkeypatch, where):
    from autograder.grading import batch

    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "out/ben"))

    def fails(real):
        def write(*arguments, **more):
            if "ben" in str(arguments[0]) or (where == "journal" and arguments[1] == "ben"):
                raise full
            return real(*arguments, **more)

        return write

    with monkeypatch.context() as patch:
        if where == "journal":
            patch.setattr(Journal, "write", fails(Journal.write))
        else:
            patch.setattr(
                batch,
                "write_whole" if where == "result" else "keep",
                fails(getattr(batch, "write_whole" if where == "result" else "keep")),
            )
        seed = tiny.write("../seed", SEED)
        command = ["grade", people, "--out", tmp_path / "out", "--seed-file", seed, "--no-pages", "--lessons", 1, "--jobs", 1]
        done = tiny.climb(*command)
    assert done.code == 2 and done.err.count("\n") == 1
    assert "No space left on device; 1 of 2 graded and saved. Once that is mended, the same command goes on" in done.err
    asked = tiny.sandbox.requests
    grade()
    assert tiny.sandbox.requests - asked == 3 and {name: r["score"] for name, r in results(tmp_path / "out").items()} == {
        "anna": 5,
        "ben": 3,
    }


@pytest.mark.root
def test_a_disk_that_is_really_full(tiny, grade, tmp_path):
    """A file system of 160 KiB for 40 students: one line, nothing half-written, and with room the same command finishes."""
    import os
    import subprocess
    import sys

    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounts a file system")
    out = tmp_path / "out"
    out.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", out], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        for number in range(40):
            tiny.write(f"../class/s{number:02}/first.py", tiny.solution() + f"# {number}\n")
        seed = tiny.write("../seed", SEED)
        command = ["grade", tmp_path / "class", "--out", out, "--seed-file", seed, "--no-pages", "--lessons", 1, "--jobs", 1]
        line = tiny.climb(*command).err
        assert line.count("\n") == 1 and "No space left on device" in line and "of 40 graded and saved" in line
        done = int(line.split(";")[1].split()[0])
        assert 5 < done < 40 and len((out / "journal.jsonl").read_text().splitlines()) >= done
        subprocess.run(["mount", "-o", "remount,size=4m", out], check=True, capture_output=True)
        asked = tiny.sandbox.requests
        assert tiny.climb(*command).code == 0 and len(results(out)) == 40
        assert tiny.sandbox.requests - asked <= 3 * (40 - done)
    finally:
        subprocess.run(["umount", "-l", out], capture_output=True)


def test_a_clock_that_jumps_changes_no_grade_and_repeats_nothing(tiny, grade, people, tmp_path, monkeypatch):
    """Back by ten years while the class is graded, and forth by ten for the second run: journal and order are not the clock's."""
    real = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() - 3e8)
        grade()
    first = {name: result["exercises"] for name, result in results(tmp_path / "out").items()}
    (people / "ben/toy/first.py").write_text(tiny.solution())
    asked = tiny.sandbox.requests
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() - 6e8)  # now before the first
        grade()
    assert tiny.sandbox.requests - asked == 3
    assert Journal(tmp_path / "out").change("ben") == ((3.0, 5.0), (5.0, 5.0))  # old and new as they came, not as they are dated
    assert results(tmp_path / "out")["anna"]["exercises"] == first["anna"]
    grade()
    assert tiny.sandbox.requests - asked == 3


# The page for instructors


def blocks(kind):
    import re
    from pathlib import Path

    text = (Path(__file__).resolve().parents[2] / "docs/instructors.md").read_text(encoding="utf-8")
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def test_the_rules_and_the_roster_on_the_instructors_page_are_read(tmp_path):
    from autograder.grading.roster import read_roster
    from autograder.policy import load_policy

    (rules,), (roster,) = blocks("toml"), blocks("csv")
    (tmp_path / "course.toml").write_text(rules, encoding="utf-8")
    (tmp_path / "class.csv").write_text(roster, encoding="utf-8")
    policy = load_policy(tmp_path / "course.toml", load())
    assert policy.lesson(3).weight == 2 and policy.extension(3, ["1002"]) == 7
    found = read_roster(tmp_path / "class.csv")
    assert [(one.id, one.extension_days) for one in found.students] == [("1001", 0), ("1002", 3)] and found.told == []


def test_the_job_arrays_script_on_the_instructors_page_works(tiny, people, tmp_path):
    """Run as Slurm would run it, with a `climb` that says what it was asked and ends as one does when a student's work fails."""
    import os
    import shutil
    import subprocess

    if not shutil.which("bash"):
        pytest.skip("no bash here")
    (script,) = blocks("bash")
    (tmp_path / "bin").mkdir()
    for folder in (".venv/bin/activate", "climb-seed"):
        path = tmp_path / "home" / folder
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("" if "venv" in folder else SEED)
    climb = tmp_path / "bin/climb"
    names = {"COURSE": tmp_path / "home", "HOME": tmp_path / "home", "SUBMISSIONS": people, "RESULTS": tmp_path / "out"}
    names |= {"ROSTER": tmp_path / "r.csv", "SLURM_ARRAY_TASK_ID": 3, "SLURM_ARRAY_TASK_COUNT": 16, "SLURM_CPUS_PER_TASK": 2}
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", **{name: str(value) for name, value in names.items()}}
    for code, expected in ((0, 0), (1, 0), (2, 1)):
        climb.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@"\nexit {code}\n')
        climb.chmod(0o755)
        done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=30)
        assert done.returncode == expected, done.stderr
    words = done.stdout.split("\n")[:-1]
    (tmp_path / "r.csv").write_text("anna\nben\n")
    assert words[words.index("--shard") + 1] == "3/16"
    words[words.index("--shard") + 1] = "1/2"  # what it asks is what `climb grade` takes
    assert tiny.climb(*words, "--lessons", 1).code in (0, 1) and list(results(tmp_path / "out")) == ["anna"]
