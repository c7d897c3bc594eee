"""`climb grade` as an instructor uses it, at midnight too: layouts, resuming, secrets, rosters, job arrays, hostile names."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from autograder.commands.grade import shard_of
from autograder.grading.grade import seed_name
from autograder.grading.shown import progress_bar
from autograder.progress import locked


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def people(tiny, tmp_path):
    """A folder of three students: anna is right, ben is wrong in one exercise, cleo wrote nothing."""
    tiny.write("../people/anna/first.py", tiny.solution())
    tiny.write("../people/ben/toy/first.py", tiny.solution(double="return x * x"))
    tiny.write("../people/cleo/first.py", (tiny.root / "toy/first.py").read_text())
    return tmp_path / "people"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def results(out):
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))}


def scores(out, name="scores.csv"):
    return {row["submission"]: float(row["score"]) for row in csv.DictReader((out / name).read_text().splitlines())}


# What comes out


def test_a_result_for_each_student_and_a_table(tiny, people, out):
    done = tiny.climb("grade", people, "--out", out)
    assert done.code == 1 and done.err == ""
    ours = [".lock", "class.html", "journal.jsonl", "scores.csv", "seed.txt", "students.csv"]
    assert sorted(os.listdir(out)) == sorted([*ours, "anna", "ben", "cleo"])
    found = results(out)
    assert all(map(tiny.keeps_the_contract, found.values()))
    assert {name: result["score"] for name, result in found.items()} == {"anna": 5, "ben": 3, "cleo": 0} == scores(out)
    assert {name: result["submission"] for name, result in found.items()} == {name: name for name in found}
    assert found["ben"]["exercises"][0]["misconception"] == "squared" and found["anna"]["exercises"][-1]["status"] == "missing"
    assert "3 submissions graded" in done.out and str(out / "scores.csv") in done.out and "anna" in done.out


def test_exit_0_when_everything_passes(tiny, out):
    folder = tiny.write("../all/anna/first.py", tiny.solution()).parent
    tiny.write("../all/anna/second.py", tiny.solution("toy/second.py"))
    assert tiny.climb("grade", folder, "--out", out).code == 0


def test_json_is_a_line_a_student_and_nothing_else(tiny, people, out):
    for _ in range(2):  # graded, and kept
        done = tiny.climb("grade", people, "--out", out, "--json")
        lines = [json.loads(line) for line in done.out.splitlines()]
        assert {line["submission"]: line for line in lines} == results(out)


def test_the_progress_bar_leaves_standard_output_alone(capsys):
    """Drawn on a terminal on stderr, it must not take what is printed to stdout with it."""
    from rich.console import Console

    with progress_bar(Console(stderr=True, force_terminal=True)) as bar:
        bar.add_task("x", total=3)
        print('{"a": 1}')
    said = capsys.readouterr()
    assert said.out == '{"a": 1}\n' and "0/3" in said.err


@pytest.mark.parametrize(
    "layout", ["a file", "a notebook", "a folder", "a zip", "folders", "files", "zips", "a zip of folders", "a zip of zips"]
)
def test_every_layout(tiny, tmp_path, out, layout):
    text = tiny.solution()
    one = {"a file": "x/anna.d/first.py", "a notebook": "x/first.ipynb", "a folder": "x/anna/first.py"}
    if layout in one:
        place = tiny.write("../" + one[layout], tiny.notebook(text) if layout == "a notebook" else text)
        place = place.parent if layout == "a folder" else place
        expected = {"a folder": {"anna"}}.get(layout, {"first"})
    elif layout == "a zip":
        place, expected = tiny.zipped(tmp_path / "anna.zip", {"toy/first.py": text}), {"anna"}
    else:
        place, expected = tmp_path / "class", {"anna", "ben"}
        place.mkdir()
        for name in sorted(expected):
            if layout == "folders":
                tiny.write(f"../class/{name}/toy/first.py", text)
            elif layout == "files":
                tiny.write(f"../class/{name}.py", text)
            elif layout == "zips":
                tiny.zipped(place / f"{name}.zip", {"first.py": text})
        if layout == "a zip of folders":
            place = tiny.zipped(tmp_path / "class.zip", {f"{name}/first.py": text for name in expected})
        if layout == "a zip of zips":
            inner = {f"{name}.zip": tiny.zipped(tmp_path / f"{name}.zip", {"first.py": text}).read_bytes() for name in expected}
            place = tiny.zipped(tmp_path / "class.zip", inner)
    tiny.climb("grade", place, "--out", out, "--lessons", 1)
    assert {name: result["score"] for name, result in results(out).items()} == dict.fromkeys(expected, 5.0)


def test_some_lessons_only(tiny, people, out):
    for text, count in (("1", 3), ("2", 1), ("1-2", 4), ("2,1", 4), ("1, 2", 4)):
        tiny.climb("grade", people, "--out", out, "--lessons", text)
        assert {len(result["exercises"]) for result in results(out).values()} == {count}, text


# The same command again


def graded(tiny, people, out, *more):
    """How many checks were run by a command, and what it said."""
    before = tiny.sandbox.requests, tiny.sandbox.started
    done = tiny.climb("grade", people, "--out", out, *more)
    assert done.code == 1, done.err
    return tiny.sandbox.requests - before[0], tiny.sandbox.started - before[1], done


def test_nothing_is_graded_twice_and_no_sandbox_is_started(tiny, people, out):
    first, _, _ = graded(tiny, people, out)
    assert first == 9
    before = {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in out.rglob("*")
        if path.is_file() and path.suffix not in (".csv", ".html") and path.name != ".lock"
    }
    requests, started, done = graded(tiny, people, out)
    assert (requests, started) == (0, 0) and "(3 unchanged since an earlier run)" in done.out
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert scores(out) == {"anna": 5, "ben": 3, "cleo": 0}


def test_only_what_changed_is_graded_again(tiny, people, out):
    graded(tiny, people, out)
    (people / "ben/toy/first.py").write_text(tiny.solution())
    assert graded(tiny, people, out)[0] == 3
    assert scores(out) == {"anna": 5, "ben": 5, "cleo": 0}
    tiny.write("../people/dora/first.py", tiny.solution())
    assert graded(tiny, people, out)[0] == 3 and scores(out)["dora"] == 5
    (people / "ben/toy/first.py").unlink()  # a submission that was taken back leaves the table
    tiny.write("../people/ben/first.py", tiny.solution())
    assert graded(tiny, people, out)[0] == 0  # the same text in another place is the same submission


def test_a_change_of_seed_checks_or_grader_grades_all_again(tiny, people, out):
    graded(tiny, people, out)
    (out / "seed.txt").write_text("3141592653589793\n")
    assert graded(tiny, people, out)[0] == 9
    tiny.write("solutions/toy/first.py", (tiny.root / "solutions/toy/first.py").read_text() + "\n")
    assert graded(tiny, people, out)[0] == 9
    assert graded(tiny, people, out)[0] == 0


@pytest.mark.parametrize("spoil", ["journal cut", "journal gone", "result cut", "result gone"])
def test_what_was_lost_is_graded_again_and_no_more(tiny, people, out, spoil):
    graded(tiny, people, out)
    journal = out / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    if spoil == "journal cut":
        journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    elif spoil == "journal gone":
        journal.unlink()
    elif spoil == "result cut":
        (out / "anna/result.json").write_text((out / "anna/result.json").read_text()[:100])
    else:
        (out / "anna/result.json").unlink()
    assert graded(tiny, people, out)[0] == (9 if spoil == "journal gone" else 3)
    assert graded(tiny, people, out)[0] == 0 and scores(out) == {"anna": 5, "ben": 3, "cleo": 0}


def test_after_an_interrupt_the_same_command_goes_on(tiny, people, out):
    """Ctrl-C after the first submission: exit code 130, one line that says how far it came; the rest is done the next time."""
    real, asked = tiny.sandbox.run, []

    def run(request, **limits):
        asked.append(request)
        if len(asked) > 3:
            signal.raise_signal(signal.SIGINT)
            time.sleep(1.0)  # until the main thread has taken it
        return real(request, **limits)

    tiny.sandbox.run = run
    done = tiny.climb("grade", people, "--out", out, "--jobs", 1)
    assert done.code == 130 and done.err == "climb: stopped: 1 of 3 graded and saved; the same command goes on from there\n"
    assert scores_of_results(out) == {"anna": 5}
    tiny.sandbox.run = real
    assert graded(tiny, people, out)[0] == 6 and scores(out) == {"anna": 5, "ben": 3, "cleo": 0}


def scores_of_results(out):
    return {name: result["score"] for name, result in results(out).items()}


def test_a_stumble_of_the_grader_is_told_at_the_end(tiny, people, out, monkeypatch):
    from autograder.grading.grade import Grader

    real = Grader.grade

    def grade(self, submission, *rest, **more):
        if submission.name == "ben":
            raise RecursionError("deep")
        return real(self, submission, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Grader, "grade", grade)
        done = tiny.climb("grade", people, "--out", out)
        assert (
            done.code == 2
            and done.err == "climb: 1 submission could not be graded: ben (RecursionError: deep). The same command tries again\n"
        )
        assert scores(out) == {"anna": 5, "cleo": 0}
    assert graded(tiny, people, out)[0] == 3 and scores(out)["ben"] == 3


def test_a_second_run_beside_the_first_is_refused(tiny, people, out):
    out.mkdir()
    with locked(out / ".lock"):
        tiny.climb("grade", people, "--out", out).refused("another `climb grade` is writing to", "wait for it")
        tiny.climb("grade", people, "--out", out, "--shard", "1/2", "--seed-file", seed_in(tiny)).refused("another `climb grade`")
    assert graded(tiny, people, out)[0] == 9


# The seed


def seed_in(tiny, text="987654321987654321\n"):
    return tiny.write("../seed", text)


def test_the_seed_is_made_once_is_the_instructors_alone_and_in_no_result(tiny, people, out):
    tiny.climb("grade", people, "--out", out)
    seed = (out / "seed.txt").read_text().strip()
    assert (out / "seed.txt").stat().st_mode & 0o777 == 0o600 and 0 < int(seed) < 2**63
    for path in out.rglob("*"):
        assert path.name == "seed.txt" or path.is_dir() or seed not in path.read_text(), path
    assert {result["seed"] for result in results(out).values()} == {seed_name(int(seed))}
    tiny.climb("grade", people, "--out", out.parent / "other")
    assert (out.parent / "other/seed.txt").read_text().strip() != seed


def test_a_named_seed_gives_the_same_verdicts_anywhere(tiny, people, out):
    file = seed_in(tiny)
    for place in (out, out.parent / "other"):
        assert tiny.climb("grade", people, "--out", place, "--seed-file", file).code == 1
        assert not (place / "seed.txt").exists()
    assert results(out).keys() == results(out.parent / "other").keys()

    def timeless(result):  # the second of the grading may have passed between the two
        return result | {"seconds": 0, "audit": result["audit"] | {"graded_at": ""}}

    for name, result in results(out).items():
        assert timeless(result) == timeless(results(out.parent / "other")[name])


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "seven", "1 2", "9" * 19, "9" * 5000, "1.5", "\u0663", "3141592653589793 # mine"]
)
def test_a_seed_that_is_none_is_not_shown(tiny, people, out, text):
    line = tiny.climb("grade", people, "--out", out, "--seed-file", seed_in(tiny, text)).refused("expected one whole number")
    assert len(text) < 3 or text.strip() not in line
    assert not list(out.glob("*/result.json"))


def test_a_seed_file_that_cannot_be_read(tiny, people, out, tmp_path):
    tiny.climb("grade", people, "--out", out, "--seed-file", tmp_path / "nowhere").refused("nowhere cannot be read")
    tiny.climb("grade", people, "--out", out, "--seed-file", tmp_path).refused("cannot be read")
    (tmp_path / "seed").write_bytes(b"\xff\xff")
    tiny.climb("grade", people, "--out", out, "--seed-file", tmp_path / "seed").refused("cannot be read")


def test_a_seed_that_could_be_guessed_is_said_to_be(tiny, people, out):
    done = tiny.climb("grade", people, "--out", out, "--seed-file", seed_in(tiny, "42"))
    assert done.code == 1 and "can be guessed from the results" in done.err and done.err.count("\n") == 1
    assert tiny.climb("grade", people, "--out", out.parent / "other", "--seed-file", seed_in(tiny)).err == ""


def test_no_result_shows_a_hidden_input(tiny, out):
    """Each way to tell what one was asked, from code that tries: print it, raise it, return it."""
    for number, body in enumerate(
        ["print(x.tolist())", "raise ValueError(x.tolist())", "return x", "raise NotImplementedError(f'lesson 1: {x.tolist()}')"]
    ):
        tiny.write(f"../spies/s{number}/first.py", tiny.solution(double=body))
    tiny.climb("grade", out.parent / "spies", "--out", out)
    for result in results(out).values():
        row = result["exercises"][0]
        assert row["score"] == 0 and "1.25" not in row["message"] and "[" not in row["message"], row


# Where results go


@pytest.mark.parametrize("inside", ["", "results", "anna/results"])
def test_results_never_lie_among_the_submissions(tiny, people, inside):
    before = sorted(people.rglob("*"))
    tiny.climb("grade", people, "--out", people / inside).refused("would be read as submissions", str(people.parent / "results"))
    assert sorted(people.rglob("*")) == before


def test_results_may_lie_beside_them_and_in_new_folders(tiny, people):
    assert tiny.climb("grade", people, "--out", people.parent / "new/and/deep").code == 1
    assert len(results(people.parent / "new/and/deep")) == 3


def test_a_file_is_no_folder_for_results(tiny, people, tmp_path):
    place = tiny.write("../taken", "x")
    tiny.climb("grade", people, "--out", place).refused("is a file; name a folder")
    tiny.climb("grade", people, "--out", place / "beneath").refused("taken")
    assert place.read_text() == "x"


# Who handed in, and under what name


def test_who_handed_in_nothing_gets_a_result_too(tiny, people, out):
    roster = tiny.write(
        "../roster.csv",
        "\ufeffname,mail\r\nanna,a@x\r\nben,b@x\r\nCleo,c@x\r\nDora Dee,d@x\r\nDora Dee,again\r\nDora_Dee,other\r\n\r\n",
    )
    done = tiny.climb("grade", people, "--out", out, "--roster", roster)
    assert set(results(out)) == {"anna", "ben", "cleo", "Dora_Dee", "Dora_Dee-2", "Dora_Dee-3"}
    assert done.err.count("\n") == 1 and "two students have the id Dora Dee (lines 5 and 6)" in done.err
    absent = results(out)["Dora_Dee"]
    assert (
        tiny.keeps_the_contract(absent) and absent["score"] == 0 and {row["status"] for row in absent["exercises"]} == {"missing"}
    )


def test_who_is_not_on_the_roster_is_told(tiny, people, out):
    roster = tiny.write("../roster.csv", "anna\nben\n")
    done = tiny.climb("grade", people, "--out", out, "--roster", roster)
    assert done.code == 1 and done.err == "climb: not on the roster: cleo (graded all the same)\n" and "cleo" in results(out)


@pytest.mark.parametrize("text", ["", "name\n", "\n\n", ",,\n"])
def test_a_roster_without_names(tiny, people, out, text):
    tiny.climb("grade", people, "--out", out, "--roster", tiny.write("../roster.csv", text)).refused(
        "--roster", "names no student"
    )


def test_a_roster_that_cannot_be_read(tiny, people, out, tmp_path):
    tiny.climb("grade", people, "--out", out, "--roster", tmp_path / "nowhere.csv").refused("--roster", "cannot be read")
    assert not out.exists()


def test_a_roster_in_latin_1_is_read_and_told_in_one_line(tiny, people, out, tmp_path):
    (tmp_path / "roster.csv").write_bytes("anna\nben\ncleo\nJ\xf6rg\n".encode("latin-1"))
    done = tiny.climb("grade", people, "--out", out, "--roster", tmp_path / "roster.csv")
    assert done.code == 1 and done.err.count("\n") == 1 and "roster.csv is not UTF-8 (byte 0xf6 in line 4)" in done.err
    assert set(results(out)) == {"anna", "ben", "cleo", "J\xf6rg"}


HOSTILE = [
    "=1+1",
    "@SUM(A1)",
    "-2+3",
    "+cmd|' C'!A0",
    "[red]x[/red]",
    "a b\tc",
    "\x1b[31mred",
    "-rf",
    "seed.txt",
    "SEED.TXT",
    "scores.csv",
    "Journal.jsonl",
    "con",
    "x" * 200,
    "\u202etxt",
    "日本",
    "'; DROP",
]


def test_hostile_names(tiny, tmp_path, out):
    """Whatever a folder is called: its results lie in a folder of their own, nothing of ours is lost, no cell is a formula."""
    for name in HOSTILE:
        tiny.write(f"../class/{name}/first.py", tiny.solution())
    for again in range(2):
        done = tiny.climb("grade", tmp_path / "class", "--out", out, "--lessons", 1)
        assert done.code == 0 and done.err == "" and "\x1b" not in done.out and "\u202e" not in done.out
    found = results(out)
    assert len(found) == len(HOSTILE) and all(result["score"] == 5 for result in found.values())
    rows = list(csv.reader((out / "scores.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == len(HOSTILE) + 1 and not [row for row in rows if row[0][:1] in "=+-@\t\r"]
    assert all(path.parent == out for path in out.iterdir()) and int((out / "seed.txt").read_text())
    assert len({name.casefold() for name in found}) == len(found)


def test_hostile_files_cost_their_exercises_and_no_other_student(tiny, people, out):
    (people / "eve").mkdir()
    (people / "eve/first.py").symlink_to("/etc/passwd")
    (people / "fay").mkdir()
    (people / "fay/first.py").write_bytes(b"# \xe9\n")
    tiny.write("../people/gus.zip", "PK\x03\x04 cut short")
    with zipfile.ZipFile(people / "hal.zip", "w") as archive:
        archive.writestr("../../first.py", tiny.solution())
    done = tiny.climb("grade", people, "--out", out, "--lessons", 1)
    assert done.code == 1 and done.err == ""
    statuses = {name: {row["status"] for row in result["exercises"]} for name, result in results(out).items()}
    assert statuses["eve"] == {"refused"} and statuses["fay"] == {"error"} and statuses["anna"] == {"passed"}
    assert set(statuses) == {"anna", "ben", "cleo", "eve", "fay", "gus", "hal"}
    assert not [name for name in ("gus", "hal") if "passed" in statuses[name]]
    assert "root:" not in (out / "eve/result.json").read_text()


# Parts of a job array


def test_parts_are_a_partition():
    names = list(range(23))
    for parts in (1, 2, 5, 23, 40):
        chosen = [names[shard_of(f"{part}/{parts}")] for part in range(1, parts + 1)]
        assert sorted(sum(chosen, [])) == names
        assert max(map(len, chosen)) - min(map(len, chosen)) <= 1


def test_parts_graded_apart_make_one_table_in_the_end(tiny, out):
    for number in range(5):
        tiny.write(f"../class/s{number}/first.py", tiny.solution())
    roster = tiny.write("../roster.csv", "".join(f"s{number}\n" for number in range(7)))
    command = ["grade", out.parent / "class", "--out", out, "--seed-file", seed_in(tiny), "--roster", roster, "--lessons", 1]
    order = ["1/3", "2/3", "3/3"]
    random.Random(0).shuffle(order)
    for part in order:
        assert tiny.climb(*command, "--shard", part).code in (0, 1)
    parts = [scores(out, f"scores-{part}-of-3.csv") for part in (1, 2, 3)]
    assert sum(map(len, parts)) == 7 and not (out / "scores.csv").exists()
    requests = tiny.sandbox.requests
    done = tiny.climb(*command)
    assert "(7 unchanged since an earlier run)" in done.out and tiny.sandbox.requests == requests
    assert scores(out) == {**parts[0], **parts[1], **parts[2]} and sum(scores(out).values()) == 25


def test_two_parts_may_run_side_by_side_and_the_same_part_not(tiny, people, out):
    out.mkdir()
    with locked(out / ".lock", shared=True), locked(out / ".lock-1-of-2"):
        assert tiny.climb("grade", people, "--out", out, "--shard", "2/2", "--seed-file", seed_in(tiny)).code == 1
        tiny.climb("grade", people, "--out", out, "--shard", "1/2", "--seed-file", seed_in(tiny)).refused("another `climb grade`")
        tiny.climb("grade", people, "--out", out, "--seed-file", seed_in(tiny)).refused("another `climb grade`")


# Bad input: one line, exit code 2, nothing written


@pytest.mark.parametrize(
    "options, said",
    [
        (["--jobs", "0"], "--jobs"),
        (["--jobs", "many"], "--jobs"),
        (["--shard", "0/2", "--seed-file", "SEED"], "--shard: expected I/N"),
        (["--shard", "3/2", "--seed-file", "SEED"], "--shard: expected I/N"),
        (["--shard", "1", "--seed-file", "SEED"], "--shard: expected I/N"),
        (["--shard", "1/2"], "--shard needs --seed-file"),
        (["--sandbox", "none"], "--sandbox: expected full or process"),
        (["--executor", "cloud"], "--executor: expected local or dask"),
        (["--scheduler", "tcp://x:1"], "--scheduler needs --executor dask"),
        (["--executor", "dask", "--sandbox", "process"], "--executor dask needs --sandbox full"),
        (["--attempts", "first"], "--attempts: expected latest or best"),
        (["--merge", "/nowhere"], "--merge: /nowhere holds no results"),
        (["--policy", "/nowhere"], "/nowhere: cannot be read"),
        (["--lessons", "9"], "there is no lesson 9; there are 1, 2"),
        (["--lessons", "1-9999"], "there is no lesson 3, 4, 5, 6, 7, ...; there are 1, 2"),
        (["--lessons", "2-1"], "expected numbers such as"),
        (["--lessons", "one"], "expected numbers such as"),
        (["--lessons", ""], "expected numbers such as"),
        (["--lessons", "1-99999999999999"], "expected numbers such as"),
    ],
)
def test_options_that_make_no_sense(tiny, people, out, options, said):
    options = [seed_in(tiny) if option == "SEED" else option for option in options]
    tiny.climb("grade", people, "--out", out, *options).refused(said)
    assert not out.exists()


def test_submissions_that_are_none(tiny, tmp_path, out):
    tiny.climb("grade", tmp_path / "nowhere", "--out", out).refused("does not exist")
    (tmp_path / "empty").mkdir()
    tiny.climb("grade", tmp_path / "empty", "--out", out).refused("there is none")
    tiny.climb("grade", tiny.write("../list.txt", "x"), "--out", out).refused("expected a folder, a .zip, a .py or an .ipynb")
    assert not out.exists()


def test_a_student_copy_does_not_grade(tiny, people, out):
    (tiny.root / "solutions").rename(tiny.root / "elsewhere")
    tiny.climb("grade", people, "--out", out).refused("`climb grade` needs", "student's copy")


def test_nothing_is_graded_below_the_sandbox_asked_for(tiny, people, out, monkeypatch):
    from autograder import sandbox
    from autograder.sandbox.errors import SandboxError

    def refuse(probes, level=None, **_):
        if level == "full":
            raise SandboxError("the sandbox here is not full; pass --sandbox process to accept that")
        tiny.sandbox.level = "process"
        return tiny.sandbox

    monkeypatch.setattr(sandbox, "open_sandbox", refuse)
    tiny.climb("grade", people, "--out", out).refused("not full")
    assert not list(out.glob("*/result.json"))
    assert graded(tiny, people, out, "--sandbox", "process")[0] == 9
    assert {result["sandbox"] for result in results(out).values()} == {"process"}
    tiny.climb("grade", people, "--out", out).refused("not full")  # results made below it do not count for it


# With the real sandbox, as a process


def test_ctrl_c_in_the_middle_of_a_real_batch(tmp_path):
    """SIGINT to the process: 130 at once, what was graded is on disk and whole, and the same command goes on."""
    text = (ROOT / "solutions/toy/policy_gradient.py").read_text()
    for number in range(5):  # the last three take 10 x 0.6 s each
        place = tmp_path / f"class/s{number}/policy_gradient.py"
        place.parent.mkdir(parents=True)
        place.write_text(text + (f"\nimport time\ntime.sleep({0.6 if number > 1 else 0})\n"))
    command = [
        sys.executable,
        "-m",
        "autograder.cli",
        "grade",
        tmp_path / "class",
        "--out",
        tmp_path / "out",
        "--lessons",
        "2",
        "--jobs",
        "2",
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 90
        while len(results(tmp_path / "out")) < 2 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        before = time.monotonic()
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and err.count("\n") == 1, err
    assert "of 5 graded and saved; the same command goes on from there" in err
    assert time.monotonic() - before < 5
    found = results(tmp_path / "out")
    journal = [json.loads(line)["submission"] for line in (tmp_path / "out/journal.jsonl").read_text().splitlines()]
    assert sorted(journal) == sorted(found) and 2 <= len(found) < 5
    assert all(result["score"] == result["max_score"] and result["sandbox"] == "full" for result in found.values())
    for number in range(2, 5):
        (tmp_path / f"class/s{number}/policy_gradient.py").write_text(text)
    kept = {name: (tmp_path / "out" / name / "result.json").stat().st_mtime_ns for name in ("s0", "s1")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and len(results(tmp_path / "out")) == 5, done.stderr
    assert {name: (tmp_path / "out" / name / "result.json").stat().st_mtime_ns for name in kept} == kept
