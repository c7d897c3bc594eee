"""`climb doctor`: what it says of a machine is what a child there meets, on this one and on others that give less."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.sandbox import diagnosis, wire
from autograder.sandbox.executor import Reply

ROOT = Path(__file__).resolve().parents[2]
HOSTS = str(ROOT / "tests/attacks/hosts.py")


def doctor(*flags, words=("--json",)):
    """The command as on another host (see tests/attacks/hosts.py): exit code, output."""
    host = [sys.executable, HOSTS, *flags] if flags else []
    command = [*host, sys.executable, "-m", "autograder.cli", "doctor", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout) if "--json" in words else done.stdout


def test_on_this_machine_every_attack_is_withstood():
    code, found = doctor()
    assert code == 0 and found["full"] and found["level"] == "full"
    assert {tried["name"] for tried in found["attacks"]} == set(diagnosis.ATTACKS)
    for tried in found["attacks"]:
        assert tried["held"], tried
        assert tried["by"] or tried["name"] == "time", f"no active layer is known to stop: {tried}"
    assert set(found["backends"]) == {"bwrap", "docker", "runsc"}
    assert ("root" in found["machine"]["user"]) == (os.geteuid() == 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("without", "through", "told"),
    [
        ("namespaces", [], "With Landlock and seccomp, full is reached without."),
        ("namespaces,landlock", ["read a file", "write a file"], "Landlock is missing: it needs Linux 5.13"),
        (
            "namespaces,landlock,seccomp",
            ["read a file", "write a file", "connect"],
            "Neither a seccomp filter nor a network namespace",
        ),
    ],
)
def test_what_gets_through_elsewhere_is_said_with_what_to_do(without, through, told):
    code, found = doctor("--without", without)
    assert found["full"] == (through == []) and code == (0 if found["full"] else 1)
    lost = {tried["name"] for tried in found["attacks"] if not tried["held"]}
    assert set(through) <= lost and (through or not lost)
    assert any(told in line for line in found["advice"])
    for tried in found["attacks"]:  # nothing is called an active layer's work that got through
        assert tried["held"] or not tried["by"], tried


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="started by an ordinary user: the first test has run as one")
def test_as_an_ordinary_user():
    code, found = doctor("--user")
    assert code == 0 and found["full"] and "ordinary user" in found["machine"]["user"]


@pytest.mark.slow
def test_the_page_for_a_person():
    code, text = doctor(words=())
    assert code == 0 and "Other people's code can be graded here." in text and "NOT withstood" not in text
    assert "Sandbox level full:" in text and "backend bwrap" in text


class Pretended:
    """A sandbox whose children see what the test says."""

    level, note = "process", ""

    def __init__(self, layers, answers):
        self.layers, self.answers, self.asked = layers, answers, 0

    def run(self, request, *, seconds, memory_mb):
        self.asked += 1
        head, _ = wire.take(request)
        assert head["module"] == "toy.first" and head["probe"] == "double"
        return self.answers.pop(0)


def said(value):
    return Reply("finished", b"", printed="noise\n" + diagnosis.PRINTED + json.dumps(value) + "\n")


def test_an_attack_that_is_not_reported_on_counts_as_lost():
    """A child that says nothing, or half, has not been shown to be held."""
    seen = {name: "EPERM" for name in diagnosis.ATTACKS} | {"connect": ""}
    del seen["trace"]
    replies = [said(seen), said("MemoryError"), said(""), Reply("crashed", b"", detail="killed")]
    found = diagnosis.diagnose(Pretended(["rlimits", "seccomp"], replies), "toy.first", "double")
    lost = {tried.name for tried in found.attacks if not tried.held}
    assert lost == {"connect", "trace", "disk", "time"} and not found.full
    silent = [
        Reply("crashed", b"", detail="killed"),
        Reply("crashed", b"", detail="killed"),
        Reply("finished", b""),
        Reply("timeout", b""),
    ]
    found = diagnosis.diagnose(Pretended(["rlimits"], silent), "toy.first", "double")
    assert {tried.name for tried in found.attacks if tried.held} == {"memory", "time"}  # these two ended their process


def test_nothing_greedy_is_tried_where_nothing_limits_it():
    pretended = Pretended(["spawned"], [Reply("finished", b"")])
    found = diagnosis.diagnose(pretended, "toy.first", "double")
    assert pretended.asked == 1 and not any(tried.held for tried in found.attacks)


def test_grading_in_a_backend_that_is_not_there_is_refused_before_anything_is_written(tiny, tmp_path, monkeypatch):
    import shutil

    tiny.write("../sent/first.py", tiny.solution())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    words = ("grade", tiny.root.parent / "sent", "--out", tmp_path / "out", "--backend")
    tiny.climb(*words, "docker").refused("--backend docker: docker is not installed")
    tiny.climb(*words, "chroot").refused("there are bwrap, docker, runsc")
    assert not (tmp_path / "out").exists()


def test_a_backend_that_is_not_there_is_told_in_a_line(tiny, monkeypatch):
    from autograder import sandbox
    from autograder.sandbox.errors import SandboxError

    def absent(*_, **__):
        raise SandboxError("--backend docker: docker is not installed: install Docker Engine")

    monkeypatch.setattr(sandbox, "open_sandbox", absent)
    tiny.climb("doctor", "--backend", "docker").refused("docker is not installed")
