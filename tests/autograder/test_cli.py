"""The command line itself: help, wrong words, other folders, closed pipes, odd terminals, Ctrl-C. Exit codes are promises."""

import ctypes
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autograder import cli

ROOT = Path(__file__).resolve().parents[2]
CLIMB = [sys.executable, "-m", "autograder.cli"]
COMMANDS = (
    *("check", "watch", "next", "hint", "progress", "answer", "run", "report", "pretrain", "tour"),
    *("grade", "rubric", "similar", "release", "skeletons", "selfcheck", "build-world"),
)


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "PYTHONIOENCODING", "LANG", "LC_ALL")}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def climb(*words, cwd, env=None, **options):
    """`climb` as a process of its own, on the real course."""
    options = {"capture_output": True, "text": True, "timeout": 120} | options
    return subprocess.run([*CLIMB, *map(str, words)], cwd=cwd, env=env or environment(), **options)


# Help


def parameters(command):
    return [parameter for parameter in command.params if parameter.name != "help"]


def all_commands():
    import typer.main

    return typer.main.get_command(cli.application()).commands


def test_the_commands_of_the_contract_are_there():
    assert set(COMMANDS) <= set(all_commands())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_each_command_and_each_option_is_for(tiny, command):
    done = tiny.climb(command, "--help")
    assert done.code == 0 and done.err == "" and done.out.startswith(f"Usage: climb {command}")
    about = all_commands()[command]
    first = about.help.split("\n")[0]
    assert first[0].isupper() and first.endswith(".") and first.split()[0] in done.out
    for parameter in parameters(about):
        assert parameter.help and parameter.help[0].isupper() | parameter.help[0].isdigit() and parameter.help.endswith("."), (
            command,
            parameter.name,
        )
        assert all(name in done.out for name in parameter.opts if name.startswith("--"))


def test_without_a_word_it_shows_where_to_begin(tiny):
    done = tiny.climb()
    assert done.code == 0 and "climb tour" in done.out and "climb next" in done.out
    for command in COMMANDS:
        assert re.search(rf"^  {command} +[A-Z]", done.out, re.MULTILINE), command


def test_the_version(tiny):
    from autograder import __version__

    assert tiny.climb("--version").out == f"climb {__version__}\n"


# Wrong words


@pytest.mark.parametrize(
    "words, said",
    [
        (["chek"], "Did you mean 'check'"),
        (["check", "--sede", "3"], "--seed"),
        (["check", "--seed", "x"], "--seed"),
        (["check", "--seed", "-1"], "--seed"),
        (["check", "duble"], "did you mean `double`"),
        (["check", "frist.py"], "did you mean"),
        (["hint"], "EXERCISE"),
        (["hint", "double", "halve"], "unexpected extra argument"),
        (["next", "--json"], "--json"),
        (["grade"], "SUBMISSIONS"),
        (["grade", "x"], "--out"),
        (["release"], "DIR"),
        (["grade", "x", "--out", "y", "--jobs", "0"], "--jobs"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_a_wrong_word_is_one_line_and_exit_code_2(tiny, words, said):
    line = tiny.climb(*words).refused(said)
    if words[0] in COMMANDS and "did you mean" not in line:
        assert f"`climb {words[0]} --help`" in line


@pytest.mark.parametrize(
    "command", [["check"], ["next"], ["progress"], ["hint", "double"], ["watch"], ["grade", "x", "--out", "y"], ["release", "z"]]
)
def test_from_a_folder_outside_the_course(tiny, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    tiny.climb(*command).refused("is not inside the course", "cd into it first")
    assert os.listdir(tmp_path) == ["course"]  # and nothing was written there


@pytest.mark.parametrize("folder", ["toy", "lessons/01-first"])
def test_from_a_folder_of_the_course(tiny, monkeypatch, folder):
    tiny.solve()
    monkeypatch.chdir(tiny.root / folder)
    assert tiny.climb("check", "double").code == 0
    assert "triple" in tiny.climb("next").out
    if folder == "toy":
        assert tiny.climb("check", "first.py").code == 0 and tiny.climb("check", ".").code == 1
    assert not (tiny.root / folder / ".climb").exists()


def test_a_lesson_that_cannot_be_read_is_named(tiny):
    tiny.write("lessons/02-second/lesson.toml", "number = ")
    tiny.climb("check").refused("lessons/02-second/lesson.toml")


def test_our_own_defects_are_not_called_the_users(tiny, monkeypatch):
    """Only what a person can mend is a line; a defect shows where it is."""
    from autograder.commands import learn

    monkeypatch.setattr(learn, "up_to_date", lambda course: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tiny.climb("next")


def test_an_error_of_the_system_is_one_line(tiny, monkeypatch):
    from autograder.commands import learn

    def full(course):
        raise OSError(28, "No space left on device", "results/x")

    monkeypatch.setattr(learn, "up_to_date", full)
    tiny.climb("next").refused("results/x: No space left on device")


# As a process


def test_run_as_a_module_bad_input_is_a_line_too(real):
    """`python -m autograder.cli` must not hold a second copy of the errors it catches."""
    done = climb("grade", "nowhere", "--out", "results", cwd=real)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    assert not (real / "results").exists()


def test_a_reader_that_has_enough(real):
    for command in ("progress", "--help"):
        with subprocess.Popen(
            [*CLIMB, command], cwd=real, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            process.stdout.close()
            assert process.stderr.read() == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line(real):
    with open("/dev/full", "w") as full:
        done = climb("progress", cwd=real, stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 2 and done.stderr == "climb: No space left on device\n"


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"TERM": "dumb"},
        {"NO_COLOR": "1"},
    ],
)
def test_a_terminal_that_shows_little(real, variables):
    done = climb("progress", cwd=real, env=environment(**variables), text=False)
    assert done.returncode == 0 and done.stderr == b"" and b"\x1b" not in done.stdout
    assert b"points" in done.stdout
    done.stdout.decode("utf-8" if {"TERM", "NO_COLOR"} & set(variables) else "ascii")


def test_text_that_the_terminal_cannot_show_becomes_question_marks(tiny, monkeypatch):
    tiny.write("lessons/01-first/hints.toml", '["double"]\nlevels = ["x \u2192 2x", "b", "c"]\n')
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert cli.run(["hint", "double"]) == 0
    assert b"x ? 2x" in raw.getvalue()


def without_override():
    """Root gives up its right to write and read whatever it likes: it then is an ordinary owner of files."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_a_course_that_cannot_be_written_and_a_file_that_cannot_be_read(real, tmp_path):
    root = tmp_path / "course"
    shutil.copytree(real, root, ignore=shutil.ignore_patterns(".climb", "__pycache__"))
    file = root / "toy/einsum.py"
    root.chmod(0o555)
    try:
        done = climb("hint", "inner", cwd=root, preexec_fn=without_override)
        assert done.returncode == 0 and "hint 1 of 3" in done.stdout
        assert done.stderr == "climb: your progress is not kept: .climb/progress.json cannot be written (Permission denied)\n"
        file.chmod(0)
        done = climb("check", "1", cwd=root, preexec_fn=without_override)
        lines = done.stderr.splitlines()
        assert done.returncode == 2 and done.stdout == "" and len(lines) == 2, (done.stdout, done.stderr)
        assert lines[1] == "climb: toy/einsum.py cannot be opened (Permission denied)"
    finally:
        root.chmod(0o755)


# Ctrl-C


def test_an_interrupt_anywhere_in_a_command_is_130_and_one_line(tiny, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    for name in ("prepare", "grade"):
        with monkeypatch.context() as patch:
            patch.setattr(f"autograder.grading.grade.Grader.{name}", interrupted)
            done = tiny.climb("check")
            assert (done.code, done.err) == (130, "climb: stopped\n")
    monkeypatch.setattr("autograder.course.load", interrupted)
    for command in (["next"], ["progress"], ["watch"], ["hint", "double"], ["skeletons"]):
        done = tiny.climb(*command)
        assert (done.code, done.out, done.err) == (130, "", "climb: stopped\n")


def test_ctrl_c_does_not_wait_for_learner_code_that_never_ends(real, tmp_path):
    root = tmp_path / "course"
    shutil.copytree(real, root, ignore=shutil.ignore_patterns(".climb", "__pycache__"))
    (root / "toy/einsum.py").write_text("import time\nwhile True: time.sleep(0.1)\n")
    with subprocess.Popen(
        [*CLIMB, "check", "1"],
        cwd=root,
        env=environment(TMPDIR=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while _descendants(process.pid) < 2 and time.monotonic() < deadline:  # the fork server, and a child of it
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        before = time.monotonic()
        out, err = process.communicate(timeout=60)
        seconds = time.monotonic() - before
    assert (process.returncode, out, err) == (130, "", "climb: stopped\n")
    assert seconds < 5  # the checks' own time limits are 10 s each
    assert not [name for name in os.listdir(tmp_path) if name.startswith("climb-")]  # the sandbox's folder is gone


def _descendants(pid):
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return len(children) + sum(_descendants(child) for child in children)
