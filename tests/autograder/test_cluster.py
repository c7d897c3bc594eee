"""Batches over Dask: workers and schedulers that are lost cost nothing but time. The slow tests lose real ones."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from autograder.course import load
from autograder.grading import spread
from autograder.grading.batch import Graded, already_graded, checks_hash, unit_key
from autograder.grading.grade import Grader
from autograder.grading.spread import ClusterError, Order, cluster, grade_spread
from autograder.grading.submissions import Submission
from autograder.sandbox.errors import SandboxError

ROOT = Path(__file__).resolve().parents[2]


class KilledWorker(Exception):
    """As Dask calls it when a task has lost too many workers."""


class Future(SimpleNamespace):
    __hash__ = object.__hash__


class Fakes:
    """A client whose futures come out as a script says, one word an attempt: ok, killed, gone, broken, or a reply."""

    def __init__(self, grader, exercises, script):
        self.grader, self.exercises, self.script = grader, exercises, script
        self.status, self.asked, self.cancelled, self.workers = "running", [], [], {"w": 1}

    def submit(self, function, order, submission, **_):
        self.asked.append(submission.name)
        word = (self.script.get(submission.name) or ["ok"]).pop(0)
        odd = {"gone": "cancelled", "waits": "pending", "killed": "error", "broken": "error", "import": "error"}
        status = odd.get(word, "finished") if isinstance(word, str) else "finished"
        return Future(status=status, result=lambda timeout: self.result(word, submission))

    def result(self, word, submission):
        if word == "killed":
            raise KilledWorker
        if word == "gone":
            raise RuntimeError("cancelled")
        if word == "broken":
            raise RuntimeError("OSError: no space there")
        if word == "import":
            raise ModuleNotFoundError("No module named 'autograder'")
        return word if isinstance(word, dict) else {"result": self.grader.grade(submission, self.exercises)}

    def scheduler_info(self, n_workers):
        return {"workers": self.workers}

    def cancel(self, futures, force):
        self.cancelled += futures


@pytest.fixture
def batch(tiny, tmp_path):
    """`batch(script)`: three students graded by a client that follows it; what came of it."""
    course = load(tiny.root)
    exercises = course.lessons[0].exercises
    grader = Grader(course, tiny.sandbox, 12345)
    checks = checks_hash(course, exercises)
    order = Order(str(tiny.root), tuple(e.id for e in exercises), (), 12345, checks, "full")
    students = [Submission(f"s{n}", {"toy.first": tiny.solution() + f"# {n}\n"}) for n in range(3)]
    (tmp_path / "out").mkdir()

    def run(script, **fields):
        client = Fakes(grader, exercises, {name: list(words) for name, words in script.items()})
        vars(client).update(fields)
        made = SimpleNamespace(client=client, graded=Graded(), told=[], done=[])
        made.left = grade_spread(client, order, students, tmp_path / "out", made.done.append, "", made.graded, made.told.append)
        made.kept = already_graded(students, exercises, course, 12345, ("full",), tmp_path / "out")
        return made

    return run


def test_what_workers_send_back_is_on_disk_under_the_same_keys_as_here(batch):
    made = batch({})
    assert made.left == made.told == [] and sorted(made.done) == ["s0", "s1", "s2"]
    assert made.kept == made.graded.results and {r["score"] for r in made.kept.values()} == {5.0}


def test_a_lost_worker_costs_another_try(batch):
    made = batch({"s1": ["killed", "killed", "ok"]})
    assert made.left == made.told == [] and made.client.asked.count("s1") == 3 and set(made.kept) == {"s0", "s1", "s2"}


def test_a_submission_that_loses_every_worker_is_graded_here(batch):
    made = batch({"s1": ["killed"] * 9})
    assert [one.name for one in made.left] == ["s1"] and set(made.kept) == {"s0", "s2"}
    assert made.told == ["1 could not be graded on the cluster: these are graded here"]


@pytest.mark.parametrize("script, fields", [({"s2": ["gone"]}, {}), ({"s2": ["waits"]}, {"status": "connecting"})])
def test_a_scheduler_that_goes_away_leaves_the_rest_to_be_done_here(batch, script, fields):
    made = batch(script, **fields)
    assert [one.name for one in made.left] == ["s2"] and set(made.kept) == {"s0", "s1"}
    assert len(made.told) == 1 and "\n" not in made.told[0]


def test_a_cluster_without_workers_is_not_waited_for_all_night(batch, monkeypatch):
    monkeypatch.setattr(spread, "PATIENCE", 0.2)
    made = batch({f"s{n}": ["waits"] for n in range(3)}, workers={})
    assert len(made.left) == 3 and made.told == ["the scheduler has had no worker for 0 s: what is left is graded here"]
    assert len(made.client.cancelled) == 3


@pytest.mark.parametrize(
    "word, error, said",
    [
        ({"refused": "the sandbox here is not full (on node7)"}, SandboxError, "a worker cannot grade: the sandbox"),
        ({"other": "node7"}, ClusterError, "a worker on node7 has another version of the course"),
        ("import", ClusterError, "a worker has no course to grade with"),
    ],
)
def test_workers_that_cannot_grade_end_the_batch_in_one_line(batch, word, error, said):
    with pytest.raises(error, match=said.replace("(", r"\(")):
        batch({"s0": [word]})


def test_a_stumble_and_a_broken_machine(batch):
    made = batch({"s0": [{"failure": "RecursionError: deep"}], "s1": ["broken"]})
    assert made.graded.failures == {"s0": "RecursionError: deep"} and [one.name for one in made.left] == ["s1"]


def test_an_address_where_nobody_answers(tiny, tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(spread, "CONNECT", 1.0)
    tiny.write("../people/anna/first.py", tiny.solution())
    for address in ("tcp://127.0.0.1:9", "nonsense://x", "tcp://no.such.host.invalid:1"):
        command = ["grade", tmp_path / "people", "--out", tmp_path / "out", "--executor", "dask", "--scheduler", address]
        assert "no Dask scheduler answers" in tiny.climb(*command).refused("--scheduler")
    assert not list((tmp_path / "out").glob("*/result.json"))


def test_without_the_packages_one_line_says_which(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    tiny.write("../people/anna/first.py", tiny.solution())
    tiny.climb("grade", tmp_path / "people", "--out", tmp_path / "out", "--executor", "dask").refused("climb-course[dask]")


def test_a_worker_with_another_course_does_not_grade(tiny):
    course = load(tiny.root)
    ids = tuple(exercise.id for exercise in course.lessons[0].exercises)
    for order in (
        Order(str(tiny.root), ids, (), 1, "another", "full"),
        Order(str(tiny.root), ("toy/x.py::f",), (), 1, "c", "full"),
    ):
        assert set(spread.grade_there(order, Submission("anna"))) == {"other"}


# Real ones

slow = pytest.mark.slow


def real_class(count, seconds):
    """Students of lesson 2 whose files take their time to be imported, so that something can be lost meanwhile."""
    text = (ROOT / "solutions/toy/policy_gradient.py").read_text()
    wait = f"\nimport time\ntime.sleep({seconds})\n"
    return [Submission(f"s{n}", {"toy.policy_gradient": text + wait + f"# {n}\n"}) for n in range(count)]


def real_order(seed=987654321987654321):
    course = load(ROOT)
    exercises = course.lessons[1].exercises
    return course, exercises, Order(str(ROOT), tuple(e.id for e in exercises), (), seed, checks_hash(course, exercises), "full")


@slow
def test_a_worker_that_is_killed_loses_nothing(tmp_path):
    pytest.importorskip("distributed")
    course, exercises, order = real_order()
    students, graded, told, killed = real_class(6, 0.3), Graded(), [], []
    (tmp_path / "out").mkdir()
    with cluster(None, 2) as client:

        def done(name):
            if not killed:
                killed.extend(list(client.run(os.getpid).values())[:1])
                os.kill(killed[0], signal.SIGKILL)

        assert grade_spread(client, order, students, tmp_path / "out", done, "", graded, told.append) == []
    assert killed and told == [] and graded.failures == {}
    assert {name: r["score"] == r["max_score"] for name, r in graded.results.items()} == {f"s{n}": True for n in range(6)}
    lines = [json.loads(line) for line in (tmp_path / "out/journal.jsonl").read_text().splitlines()]
    assert sorted(line["submission"] for line in lines) == [f"s{n}" for n in range(6)]  # each once
    assert {line["key"] for line in lines} == {unit_key(one, order.checks, order.seed, "full") for one in students}


@slow
def test_a_scheduler_that_is_killed_leaves_the_rest_to_this_machine(tmp_path):
    pytest.importorskip("distributed")
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    started = {"cwd": ROOT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    port = address.rsplit(":", 1)[1]
    tool = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"]
    scheduler = subprocess.Popen(tool, **started)
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"], **started
    )
    try:
        for one in real_class(5, 0.4):
            place = tmp_path / "class" / one.name / "policy_gradient.py"
            place.parent.mkdir(parents=True)
            place.write_text(one.files["toy.policy_gradient"])
        out = tmp_path / "out"
        command = ["-m", "autograder.cli", "grade", tmp_path / "class", "--out", out, "--lessons", "2", "--no-pages"]
        command += ["--executor", "dask", "--scheduler", address]
        with subprocess.Popen(
            [sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as grade:
            deadline = time.monotonic() + 200
            while not list(out.glob("*/result.json")) and time.monotonic() < deadline and grade.poll() is None:
                time.sleep(0.1)
            scheduler.kill()
            said, err = grade.communicate(timeout=200)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    assert grade.returncode == 0, err
    told = [line for line in err.splitlines() if "min left" not in line]  # on a slow machine the minute's line comes too
    assert len(told) == 1 and "the scheduler went away with" in told[0] and "5 submissions graded" in said
    lines = [json.loads(line)["submission"] for line in (out / "journal.jsonl").read_text().splitlines()]
    assert sorted(lines) == [f"s{n}" for n in range(5)]
