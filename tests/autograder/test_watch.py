"""`climb watch`: a verdict for each save, about what the saved file touches."""

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path
from queue import Empty, Queue

import pytest

from autograder import reference
from autograder.commands.watch import touched
from autograder.course import load

ROOT = Path(__file__).resolve().parents[2]
CLIMB = [sys.executable, "-m", "autograder.cli"]
SECONDS = 60.0  # generous: a verdict takes a fraction of a second, but a machine may be busy


# What a saved file touches


def lessons(tiny, *files):
    return [lesson.number for lesson in touched(load(tiny.root), {tiny.root / file for file in files})]


def test_a_lessons_own_file_touches_it_alone(tiny):
    assert lessons(tiny, "toy/first.py") == [1] and lessons(tiny, "toy/second.py") == [2]
    assert lessons(tiny, "toy/first.py", "toy/second.py") == [1, 2]
    assert lessons(tiny, "toy/notes.py", "toy/first.py~", "toy/.first.py.swp", "toy/first.pyc", "README.md") == []


def test_a_helper_touches_who_imports_it(tiny):
    tiny.write("toy/helper.py", "")
    assert lessons(tiny, "toy/helper.py") == []
    tiny.write("toy/second.py", "from toy.helper import x\n")
    assert lessons(tiny, "toy/helper.py") == [2]


def test_an_earlier_file_touches_later_ones_in_a_student_copy_alone(tiny):
    """Elsewhere the reference stands in for earlier files, so that what is in the learner's changes nothing."""
    tiny.write("toy/second.py", "from toy.first import double\n")
    assert lessons(tiny, "toy/first.py") == [1]
    (tiny.root / "solutions").rename(tiny.root / "elsewhere")
    assert lessons(tiny, "toy/first.py") == [1, 2]


def test_written_answers_touch_their_lesson(tiny):
    assert lessons(tiny, "answers/02-second.toml") == [2]


# A session, with the saves put in


@pytest.fixture
def saves(tiny, monkeypatch):
    """`climb watch` to which these saves happen one after the other, then Ctrl-C."""
    import watchfiles

    def session(*steps, words=()):
        def watch(*folders, **options):
            for step in steps:
                step()
                yield {(watchfiles.Change.modified, str(tiny.root / "toy/first.py"))}
            raise KeyboardInterrupt

        monkeypatch.setattr(watchfiles, "watch", watch)
        return tiny.climb("watch", *words)

    return session


def test_each_save_gets_its_verdict_and_is_remembered(tiny, saves):
    def remembered():
        assert tiny.progress()["toy/first.py::double"]["status"] == "failed"

    done = saves(lambda: tiny.solve(double="return x * x"), remembered, tiny.solve)
    assert done.code == 130 and done.err == "climb: stopped\n"
    assert done.out.index("You squared it") < done.out.index("5 of 5 points")
    assert tiny.progress()["toy/first.py::double"]["status"] == "passed"


def test_json_is_a_line_a_save(tiny, saves):
    done = saves(lambda: tiny.solve(double="return x * x"), tiny.solve, words=["--json"])
    first, *results = map(json.loads, done.out.splitlines())
    assert first == {"watching": ["toy/first.py", "toy/second.py"], "sandbox": "full"}
    assert [tiny.keeps_the_contract(result) and result["score"] for result in results] == [3.0, 5.0]


def test_only_the_first_failure_is_explained(tiny, saves):
    done = saves(lambda: tiny.solve(double="return x * x", halve="return x"))
    assert "You squared it" in done.out and "not half" not in done.out and "`climb check halve` explains" in done.out


def test_that_progress_cannot_be_kept_is_said_once(tiny, saves):
    tiny.write(".climb", "in the way")
    done = saves(tiny.solve, tiny.solve, tiny.solve)
    assert " ".join(done.out.split()).count("your progress is not kept") == 1 and done.out.count("5 of 5 points") == 3


def test_odd_files_get_a_verdict_too(tiny, saves):
    place = tiny.root / "toy/first.py"

    def folder():
        place.unlink()
        place.mkdir()

    done = saves(
        lambda: place.write_bytes(b"# \xe9\n"), lambda: place.write_text("def broken(:\n"), lambda: place.write_text(""), folder
    )
    text = " ".join(done.out.split())
    assert done.code == 130
    for said in ("is not UTF-8", "SyntaxError", "Is it empty", "is a folder, not a file"):
        assert said in text


# The real thing


class Watch:
    """A `climb watch --json` process, and the lines it says."""

    def __init__(self, root):
        kept = {name: value for name, value in os.environ.items() if name != "WATCHFILES_FORCE_POLLING"}
        environment = kept | {"PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [*CLIMB, "watch", "--json"], cwd=root, env=environment, stdout=pipe, stderr=pipe, text=True
        )
        self.lines = Queue()
        threading.Thread(target=lambda: [self.lines.put(line) for line in self.process.stdout], daemon=True).start()

    def next(self, seconds=SECONDS):
        return json.loads(self.lines.get(timeout=seconds))

    def until(self, wanted):
        """The first result for which `wanted` holds."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            result = self.next()
            if wanted(result):
                return result
        raise AssertionError("no such result came")


def files_in(result):
    return {row["id"].split("::")[0] for row in result["exercises"]}


def statuses(result):
    return {row["status"] for row in result["exercises"]}


def test_a_session_on_the_real_course(real, tmp_path):
    root = tmp_path / "course"
    shutil.copytree(real, root, ignore=shutil.ignore_patterns(".climb", "__pycache__"))
    first, second = root / "toy/einsum.py", root / "toy/policy_gradient.py"
    right = reference.source("toy.einsum")
    watch = Watch(root)
    try:
        assert watch.next()["watching"] == ["toy/einsum.py", "toy/policy_gradient.py"]
        while True:  # the watch begins a moment after it says so
            first.write_text(right)
            try:
                result = watch.next(2.0)
                break
            except Empty:
                continue
        assert files_in(result) == {"toy/einsum.py"} and statuses(result) == {"passed"} and result["sandbox"] == "full"

        second.write_text(second.read_text() + "# a note\n")  # the other lesson, and nothing else
        result = watch.until(lambda result: files_in(result) != {"toy/einsum.py"})
        assert files_in(result) == {"toy/policy_gradient.py"} and statuses(result) == {"not_started"}

        (root / "toy/notes.txt").write_text("x")  # of no lesson: no verdict comes before that of the next save
        with first.open("w") as file:  # in two steps, as some editors save
            file.write(right[: len(right) // 2])
            file.flush()
            time.sleep(0.03)
            file.write(right[len(right) // 2 :])
        result = watch.until(lambda result: statuses(result) == {"passed"})
        assert files_in(result) == {"toy/einsum.py"}

        beside = root / "toy/.einsum.py.tmp"  # or beside it, and renamed
        beside.write_text(right.replace('"ij->ji", a', '"ij->ij", a'))
        os.replace(beside, first)
        result = watch.until(lambda result: "failed" in statuses(result))
        assert next(row for row in result["exercises"] if row["status"] == "failed")["misconception"] == "not-transposed"

        first.unlink()
        result = watch.until(lambda result: statuses(result) == {"missing"})
        first.write_text(right)
        watch.until(lambda result: statuses(result) == {"passed"})
        progress = json.loads((root / ".climb/progress.json").read_text())["exercises"]
        assert {progress[row["id"]]["status"] for row in result["exercises"]} == {"passed"}

        watch.process.send_signal(signal.SIGINT)
        assert watch.process.wait(20) == 130 and watch.process.stderr.read() == "climb: stopped\n"
    finally:
        watch.process.kill()
        watch.process.wait()


def test_ctrl_c_leaves_the_terminal_as_it_was(real, tmp_path):
    """In a terminal of its own: Ctrl-C by the key, before and after it is ready."""
    root = tmp_path / "course"
    shutil.copytree(real, root, ignore=shutil.ignore_patterns(".climb", "__pycache__"))
    shutil.rmtree(root / "lessons/01-einsum")  # one short lesson is enough
    for wanted in ("Getting ready", "Ctrl-C ends"):
        ours, theirs = pty.openpty()
        before = termios.tcgetattr(theirs)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
        options = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
        process = subprocess.Popen(
            [*CLIMB, "watch"], cwd=root, env=environment, preexec_fn=lambda: _take_terminal(theirs), **options
        )
        try:
            said = _read(ours, wanted)
            os.write(ours, b"\x03")
            assert process.wait(20) == 130
            said += _read(ours, "climb: stopped")
            assert termios.tcgetattr(theirs) == before
            assert (
                said.count("\x1b[?25l") == said.count("\x1b[?25h") and "\x1b[?1049h" not in said
            )  # the cursor is back, no other screen
            assert "Traceback" not in said and re.search(r"climb: stopped\s*$", said)
        finally:
            process.kill()
            process.wait()
            os.close(ours)
            os.close(theirs)


def _take_terminal(terminal):
    import fcntl

    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def _read(terminal, wanted):
    said, deadline = "", time.monotonic() + SECONDS
    while wanted not in said and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            said += os.read(terminal, 4096).decode("utf-8", "replace")
    assert wanted in said, said
    return said
