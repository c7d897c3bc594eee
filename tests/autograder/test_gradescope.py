"""The autograder zip, unpacked and run as Gradescope does it: /autograder/source, /autograder/submission, results.json."""

import json
import os
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from autograder import course as courses
from autograder import reference
from autograder.checks import Edit
from autograder.gradescope import results
from autograder.gradescope.inside import Patient
from autograder.gradescope.package import LEAST_CHECK_MB, package, requirements
from autograder.policy import Policy
from autograder.sandbox.executor import Reply

ROOT = Path(__file__).resolve().parents[2]
COURSE = courses.load(ROOT)
LESSON = COURSE.lesson_of("toy.word_agent")
SEED = 0x5EC2E7_5EED
HOSTS = str(ROOT / "tests/attacks/hosts.py")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="Gradescope's container runs as root")
POLICY = """
[late]
penalty_per_day = 0.25
[visibility]
tests = "after_due_date"
[lesson.3]
due = 2026-11-20T12:00:00
points = 10
"""


@pytest.fixture(scope="session")
def zipped(tmp_path_factory):
    place = tmp_path_factory.mktemp("gradescope")
    (place / "course.toml").write_text(POLICY)
    package(COURSE, [LESSON], place / "climb.zip", SEED, policy=place / "course.toml")
    return place / "climb.zip"


# A course installed for development answers for what the zip lacks; in Gradescope's container there is none.
ALONE = """
import runpy, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def container(zipped, tmp_path):
    """`container(files, ...)`: lays the folders out, runs run_autograder, and gives its results and exit code."""
    root = tmp_path / "autograder"

    def run(files, without="", settings=(), created="2026-11-20T11:00:00+00:00", in_cgroup=()):
        unpack(zipped, root)
        for name, text in files.items():
            (root / "submission" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "submission" / name).write_text(text)
        (tmp_path / "alone.py").write_text(ALONE)
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/alone.py" "$@"\n')
        python.chmod(0o755)
        users = [{"name": "Ada", "email": "ada@x.edu", "id": 7}]
        (root / "submission_metadata.json").write_text(json.dumps({"created_at": created, "users": users}))
        path = root / "source/climb/settings.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | dict(settings)))
        host = [sys.executable, HOSTS, "--without", without] if without else []
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment = kept | {
            "CLIMB_AUTOGRADER": str(root),
            "CLIMB_PYTHON": str(python),
            "PYTHONPATH": str(ROOT) if host else "",
        }
        done = subprocess.run(
            [*in_cgroup, *host, "bash", str(root / "run_autograder")], env=environment, capture_output=True, text=True
        )
        made = json.loads((root / "results/results.json").read_text())
        return made | {"log": done.stdout + done.stderr, "code": done.returncode}

    run.root = root
    return run


def unpack(zipped, root):
    """As Gradescope does: the zip in source/, run_autograder copied to the top, scripts executable."""
    for name in ("source", "submission", "results"):
        (root / name).mkdir(parents=True)
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(root / "source")
    (root / "run_autograder").write_bytes((root / "source/run_autograder").read_bytes())


def right():
    return reference.source(LESSON.module)


def by_exercise(made):
    return {test["name"].split(": ", 1)[1]: test for test in made["tests"]}


@pytest.mark.slow
def test_the_solution_has_all_points_in_gradescopes_form(container):
    made = container({"word_agent.py": right()})
    assert made["code"] == 0 and "leaderboard" not in made and made["stdout_visibility"] == "hidden"
    assert len(made["tests"]) == len(LESSON.exercises)
    for test in made["tests"]:
        assert test["status"] == "passed" and test["score"] == test["max_score"] and test["visibility"] == "after_due_date"
    assert sum(test["max_score"] for test in made["tests"]) == sum(exercise.points for exercise in LESSON.exercises)
    assert made["score"] == 10  # the policy's points for the lesson
    assert "full" in (made["extra_data"]["sandbox"], "full") and made["extra_data"]["layers"] and made["extra_data"]["grader"]
    assert str(SEED) not in json.dumps(made)
    if os.geteuid() == 0:
        for name in ("source", "submission", "results"):
            assert stat.S_IMODE((container.root / name).stat().st_mode) == 0o700


def test_a_mistake_is_named_without_values_and_costs_its_own_points(container):
    check, known = next(
        (check, known)
        for check in LESSON.checks
        for known in check.known_mistakes()
        if isinstance(known, Edit) and sum(other.exercise == check.exercise for other in LESSON.checks) == 1
    )
    made = container({"toy/word_agent.py": reference.edited(right(), known.replacements)}, created="2026-11-21T13:00:00+00:00")
    wrong = by_exercise(made)[check.exercise]
    assert wrong["status"] == "failed" and wrong["score"] == 0 and wrong["extra_data"]["misconception"] == known.id
    assert known.id in wrong["output"] and known.hint in wrong["output"] and "lesson.md#" in wrong["output"]
    for told in ("expected  ", "received  ", "with  "):  # the seed is secret
        assert told not in json.dumps(made["tests"])
    others = [test for name, test in by_exercise(made).items() if name != check.exercise]
    assert sum(test["score"] for test in others) > 0
    assert made["extra_data"]["policy"]["late_days"] == 2 and "Lesson 3: days late: 2, 50% off." in made["output"]
    before = sum(test["score"] for test in made["tests"]) / sum(test["max_score"] for test in made["tests"]) * 10
    assert made["score"] == pytest.approx(before / 2)


@pytest.mark.slow
def test_nothing_handed_in_and_what_was_wrong_with_a_file(container):
    made = container(
        {"word_agent.py": "x = '\udcff'".encode("utf-8", "surrogateescape").decode("latin-1"), "notes.txt": "hello"}
    )
    assert made["code"] == 0 and {test["score"] for test in made["tests"]} == {0}
    made = results.failed_json("no")
    assert made["score"] == 0 and made["tests"] == [] and "leaderboard" not in made


# (The names in the container's own folder are Gradescope's layout, which everybody knows.)
THIEF = """

import os, pathlib
FOUND = []
for place in ({ROOT!r} + "/source", {ROOT!r} + "/source/climb/autograder/frozen/toy.word_agent.bin",
              {ROOT!r} + "/source/climb/settings.json", {ROOT!r} + "/source/climb/solutions/toy/word_agent.py",
              {ROOT!r} + "/results/results.json", {ROOT!r} + "/submission_metadata.json"):
    try:
        FOUND.append(pathlib.Path(place).read_bytes()[:20] if "." in place.rsplit("/", 1)[1] else os.listdir(place))
    except OSError:
        pass
try:
    pathlib.Path({ROOT!r} + "/results/results.json").write_text('{{"score": 99}}')
    FOUND.append("written")
except OSError:
    pass
if FOUND:
    raise RuntimeError("FOUND")
"""


@needs_root
@pytest.mark.parametrize("without", ["namespaces", pytest.param("namespaces,landlock", marks=pytest.mark.slow)])
def test_in_such_a_container_code_reaches_neither_truths_nor_results(container, without):
    """As Docker gives it: root, no namespaces; and on a host whose kernel is too old for Landlock."""
    container.root.parent.chmod(0o755)
    for above in container.root.parents:  # nothing but the sandbox and the closed folders keep it away
        if above.name.startswith("pytest-"):
            above.chmod(0o755)
    made = container({"word_agent.py": right() + THIEF.format(ROOT=str(container.root))}, without=without)
    assert made["code"] == 0 and "FOUND" not in json.dumps(made), made["log"]
    assert {test["status"] for test in made["tests"]} == {"passed"}  # what it tried failed quietly, and its answers are right
    assert made["extra_data"]["sandbox"] == ("process" if "landlock" in without else "full")
    assert {"uid-drop", "seccomp", "no_new_privs", "capabilities"} <= set(made["extra_data"]["layers"])
    assert "namespace" not in " ".join(made["extra_data"]["layers"])


@pytest.mark.slow
@needs_root
def test_with_too_little_around_it_nothing_is_graded(container):
    made = container({"word_agent.py": right()}, without="namespaces,landlock,seccomp")
    assert made["code"] == 1 and made["score"] == 0 and made["tests"] == []
    assert "not your fault" in made["output"] and "the sandbox here is not user" in made["output"]


@pytest.mark.slow
def test_loops_use_up_the_run_and_are_told_apart_from_what_was_not_reached(container):
    names = [exercise.name for exercise in LESSON.exercises if "." not in exercise.name]
    lost = (
        right()
        + f"\n\ndef endless(*_, **__):\n    while True:\n        pass\n\n\nglobals().update(dict.fromkeys({names}, endless))\n"
    )
    made = container({"word_agent.py": lost}, settings={"seconds": 25.0, "patience": 1.0})
    assert made["code"] == 0 and made["execution_time"] <= 30
    reached = [test["output"].startswith("Not reached") for test in made["tests"] if test["status"] == "failed"]
    assert any(reached) and not all(reached) and "were not reached" in made["output"]


def test_the_runs_clock_and_memory_bind_every_check():
    asked = []

    class Inner:
        level, layers = "full", []

        def run(self, request, *, seconds, memory_mb):
            asked.append((seconds, memory_mb))
            return Reply("finished", b"")

    Patient(Inner(), time.monotonic() + 100, patience=3.0, memory_mb=256).run(b"", seconds=10, memory_mb=1024)
    Patient(Inner(), time.monotonic() + 5, patience=3.0, memory_mb=2048).run(b"", seconds=10, memory_mb=1024)
    assert asked[0] == (30.0, 256) and asked[1][0] <= 5 and asked[1][1] == 1024


MEMORY, PROCESSOR = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/cpu")
LIMITED = """
echo $((768 << 20)) > {m}/memory.limit_in_bytes; echo 100000 > {c}/cpu.cfs_period_us; echo 50000 > {c}/cpu.cfs_quota_us
echo $$ > {m}/cgroup.procs; echo $$ > {c}/cgroup.procs; exec "$@"
"""


@pytest.mark.slow
@needs_root
@pytest.mark.skipif(
    not os.access(MEMORY / "cgroup.procs", os.W_OK), reason="no control groups (version 1) to limit memory with"
)
def test_within_the_default_memory_and_half_a_processor(container):
    """768 MB, half a processor, 10 minutes: what the documentation states. With a submission that takes all the memory it can."""
    groups = [folder / f"climb-test-{os.getpid()}" for folder in (MEMORY, PROCESSOR)]
    try:
        for group in groups:
            group.mkdir()
    except OSError:
        pytest.skip("control groups cannot be made here")
    hog = (
        right()
        + "\n\ndef positive_probability(logits):\n    hold = []\n    while True:\n        hold.append(torch.ones(1 << 20))\n"
    )
    words = ["bash", "-c", LIMITED.format(m=groups[0], c=groups[1]), "limited"]
    try:
        made = container({"word_agent.py": hog}, without="namespaces", in_cgroup=words)
        assert made["code"] == 0 and made["execution_time"] < 540
        assert (
            by_exercise(made)["positive_probability"]["score"] == 0
            and by_exercise(made)["Baseline.update"]["status"] == "passed"
        )
        assert int((groups[0] / "memory.max_usage_in_bytes").read_text()) < 768 << 20  # it never came near the limit
        assert int((groups[0] / "memory.failcnt").read_text()) == 0
    finally:
        time.sleep(0.5)
        for group in groups:
            group.rmdir()


# The zip


def test_what_is_in_the_zip_and_what_is_not(zipped):
    with zipfile.ZipFile(zipped) as archive:
        names = set(archive.namelist())
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
        setup = archive.read("setup.sh").decode()
    assert {"setup.sh", "run_autograder", "requirements.txt", "climb/settings.json", "climb/course.toml"} <= names
    assert modes["setup.sh"] & 0o111 and modes["run_autograder"] & 0o111
    assert (
        "climb/autograder/frozen/toy.word_agent.bin" in names and "climb/solutions/toy/policy_gradient.py" in names
    )  # it is earlier
    assert not [
        n for n in names if "/tests/" in n or "selfcheck" in n or "alternatives" in n or "__pycache__" in n or "full/" in n
    ]
    assert "climb/solutions/toy/ppo.py" not in names
    assert zipped.stat().st_mode & 0o777 == 0o600 and zipped.stat().st_size < 2e6
    for text in (setup, zipfile.ZipFile(zipped).read("run_autograder").decode()):
        assert (
            subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
            and "\r" not in text
            and "@" not in text.replace("$@", "")
        )


@pytest.mark.slow
def test_setup_finds_a_python_and_closes_the_sources(zipped, tmp_path):
    """The script as it is, but that the libraries are left out: nothing is fetched here."""
    unpack(zipped, tmp_path / "autograder")
    (tmp_path / "autograder/source/requirements.txt").write_text("")
    environment = {"PATH": os.environ["PATH"], "CLIMB_AUTOGRADER": str(tmp_path / "autograder"), "HOME": str(tmp_path)}
    script = str(tmp_path / "autograder/source/setup.sh")
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    python = tmp_path / "autograder/venv/bin/python"
    found = subprocess.run([python, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True, text=True)
    assert found.stdout.strip() == "True"
    assert stat.S_IMODE((tmp_path / "autograder/source").stat().st_mode) == 0o700


def test_versions_are_those_the_truths_were_made_with():
    import numpy
    import torch

    pins = requirements(["toy.word_agent"])
    assert f"torch=={torch.__version__.split('+')[0]}" in pins and f"numpy=={numpy.__version__}" in pins
    assert not [pin for pin in pins if pin.startswith("transformers")] and "+" not in " ".join(pins)
    assert [pin for pin in requirements(["full.dpo"]) if pin.startswith("transformers")]


def test_memory_of_a_check_follows_the_containers(tmp_path, monkeypatch):
    from autograder import release

    monkeypatch.setattr(release, "freeze", lambda lesson, seed: b"")
    for memory, of_check in ((768, 256), (2048, 1536), (400, LEAST_CHECK_MB)):
        package(COURSE, [LESSON], tmp_path / "x.zip", SEED, memory_mb=memory, seconds=600)
        settings = json.loads(zipfile.ZipFile(tmp_path / "x.zip").read("climb/settings.json"))
        assert settings["memory_mb"] == of_check and settings["seconds"] == 540


def test_visibility_and_what_is_told_follow_the_policy():
    row = {"id": "toy/word_agent.py::train", "lesson": 3, "score": 0.0, "max_score": 2.0, "status": "failed"}
    row |= {"misconception": "last-score-only", "message": "Wrong on a hidden case.", "hint": "A mean.", "lesson_anchor": ""}
    shown = results.test_of(row, COURSE, Policy())
    assert shown["visibility"] == "visible" and "last-score-only" in shown["output"] and "A mean." in shown["output"]
    assert shown["name"] == "Lesson 3: train"
    bug = results.test_of(row | {"id": "toy/kl_bug.py::k3"}, COURSE, Policy())
    assert bug["name"] == "Lesson 3, silent bug: k3"  # whose exercises are called like those of its lesson
    from autograder.policy import LessonPolicy, Visibility

    silent = Policy(visibility=Visibility(mistakes=False, hints=False), by_lesson={3: LessonPolicy(3, tests="hidden")})
    shown = results.test_of(row, COURSE, silent)
    assert shown["visibility"] == "hidden" and shown["output"] == "Wrong on a hidden case."


def test_the_command_says_what_is_wrong_in_a_line(tiny, tmp_path):
    tiny.climb("gradescope", tmp_path / "x.tar").refused("ends in .zip")
    tiny.climb("gradescope", tmp_path / "no/x.zip").refused("does not exist")
    tiny.climb("gradescope", tmp_path / "x.zip", "--sandbox", "strong").refused("expected full, user or process")
    tiny.climb("gradescope", tmp_path / "x.zip", "--lessons", "9").refused("there is no lesson 9")
    tiny.climb("gradescope", tmp_path / "x.zip", "--torch-index", "$(evil)").refused("expected a URL")
    tiny.climb("gradescope", tmp_path / "x.zip", "--policy", tmp_path / "none.toml").refused("cannot be read")
    assert not list(tmp_path.glob("x.zip*"))


def test_the_command_writes_a_zip_and_keeps_the_seed(tiny, tmp_path, monkeypatch):
    from autograder.gradescope import package as packages

    made = []
    monkeypatch.setattr(
        packages, "package", lambda course, lessons, target, seed, **more: (target.write_bytes(b"zip"), made.append(seed))
    )
    done = tiny.climb("gradescope", tmp_path / "x.zip", "--lessons", "1")
    assert done.code == 0 and "3 exercises of 1 files, 5 points" in done.out and "keep it to yourself" in done.out
    seed = tmp_path / "x.zip.seed.txt"
    assert made == [int(seed.read_text())] and seed.stat().st_mode & 0o777 == 0o600
    tiny.climb("gradescope", tmp_path / "x.zip")
    assert made[0] == made[1]  # written anew under the same seed
