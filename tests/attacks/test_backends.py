"""Sandboxes of others around ours. bubblewrap is tried for real where it is installed. Docker needs a daemon: its commands are
read word by word, for what they give and keep, and a stand-in takes the container's place in the talk with it."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autograder.sandbox import backends, open_sandbox, server
from autograder.sandbox.errors import SandboxError

from . import target
from .observe import look

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
needs_bwrap = pytest.mark.skipif(backends.missing("bwrap") != "", reason=backends.missing("bwrap"))


# bubblewrap


@needs_bwrap
def test_within_bubblewrap_all_layers_hold_and_checks_pass(world, oracle, checks):
    """A real check, a hostile one, and a look around from inside; then nothing is left running."""
    from .world import descendants

    with open_sandbox([target.MODULE], "full", backend="bwrap") as contained:
        check = checks[target.EXERCISE]
        seen = look(contained, check, oracle)
        assert seen["level"] == "full" and seen["layers"][0] == "bwrap" and seen["note"] == ""
        for key in ("connect", "signal outside", "queue outside", "/etc/passwd", "/proc", "write a library", "fork"):
            assert seen["seen"][key] in ("EPERM", "ENOENT", "EROFS", "EACCES", "ENETUNREACH", "ESRCH"), (key, seen["seen"][key])
        assert target.put(check, target.Attack("honest").source(), oracle, contained).status == "passed"
        wrong = target.Attack("wrong", body="return honest(logits) * 0.5").source()
        assert target.put(check, wrong, oracle, contained).status == "failed"
        left = descendants(contained._process.pid)
    assert len(left) > 2
    deadline = time.monotonic() + 5  # they have been killed; the kernel may still be taking the last of them apart
    while running := [pid for pid in left if alive(pid)]:
        assert time.monotonic() < deadline, running
        time.sleep(0.02)


@needs_bwrap
@pytest.mark.slow
def test_every_attack_within_bubblewrap():
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", str(HERE / "test_attacks.py")]
    environment = os.environ | {"CLIMB_TEST_BACKEND": "bwrap"}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_bubblewrap_is_shown_libraries_and_open_parts_alone():
    words = backends.bwrap_command("{}")
    bound = [words[i + 2] for i, word in enumerate(words) if word == "--ro-bind"]
    assert not [word for word in words if word in ("--bind", "--share-net", "--dev-bind")]
    for kind in ("user", "ipc", "pid", "net"):
        assert f"--unshare-{kind}" in words
    hidden = [str(ROOT / name) for name in ("solutions", "lessons", "tests", "autograder/checks", "autograder/grading")]
    real = [words[i + 1] for i, word in enumerate(words) if word == "--ro-bind"]
    for path in hidden:
        assert not [folder for folder in real if (path + "/").startswith(folder.rstrip("/") + "/")], path
    assert "/" not in bound and "--die-with-parent" in words


# Docker and gVisor: the command line


def pairs(words, flag):
    return [words[i + 1] for i, word in enumerate(words) if word == flag]


@pytest.mark.parametrize("backend", ["docker", "runsc"])
def test_a_container_gets_no_network_no_rights_and_no_truths(backend):
    words = backends.command_of(backend, '{"probes": []}', "image", "climb-1")
    assert (
        words[:2] == ["docker", "run"] and pairs(words, "--network") == ["none"] and "--read-only" in words and "--rm" in words
    )
    assert pairs(words, "--runtime") == (["runsc"] if backend == "runsc" else [])
    assert pairs(words, "--cap-drop") == ["ALL"] and pairs(words, "--security-opt") == ["no-new-privileges"]
    given = {word.split("=")[1] for word in words if word.startswith("--cap-add")}
    assert given == {"SETUID", "SETGID", "CHOWN", "FOWNER", "DAC_OVERRIDE", "KILL"}  # neither SYS_ADMIN, SYS_PTRACE nor NET_*
    assert pairs(words, "--memory") == pairs(words, "--memory-swap") and pairs(words, "--pids-limit")
    volumes = pairs(words, "--volume")
    assert all(volume.endswith(":ro") for volume in volumes)
    shown = {volume.split(":")[0].removeprefix(str(ROOT) + "/") for volume in volumes}
    assert shown == {part for part in backends.SEEN if (ROOT / part).exists()}
    assert not [volume for volume in volumes if "docker.sock" in volume or "solutions" in volume or "checks" in volume]
    assert words[-5:] == ["image", "python", "-I", "/course/autograder/sandbox/bridge.py", '{"probes": []}']
    assert not [value for value in pairs(words, "--env") if value.split("=")[0] not in backends.PASSED]


def test_the_image_has_the_libraries_and_nothing_of_the_course():
    text = (Path(backends.__file__).with_name("image") / "Dockerfile").read_text()
    assert "COPY" not in text and "ADD" not in text and "torch" in text and "ARG PYTHON" in text


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_those_rights_are_enough():
    """As root with what the command line gives and no more, without namespaces: the sandbox is full, and cleans up."""
    rights = ",".join("+" + name.lower() for name in backends.CAPABILITIES)
    words = [sys.executable, str(HERE / "hosts.py"), "setpriv", "--no-new-privs", f"--bounding-set=-all,{rights}"]
    words += [sys.executable, "-c", IN_CONTAINER, str(HERE / "hosts.py")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert (
        said["level"] == "full"
        and "uid-drop" in said["layers"]
        and not [name for name in said["layers"] if "namespace" in name]
    )
    assert said["left"] == [] and said["lost"] == [], said


IN_CONTAINER = """
import importlib.util, json, os, sys, time
spec = importlib.util.spec_from_file_location("hosts", sys.argv[1])
hosts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hosts)
hosts.install(hosts.without(["namespaces"]))
from autograder.sandbox import diagnosis
from autograder.sandbox.client import Sandbox
with Sandbox(["toy.word_agent"], "full", []) as sandbox:
    found = diagnosis.diagnose(sandbox, "toy.word_agent", "baseline_trace")
    time.sleep(1)
    left = os.listdir(sandbox._server.folder + "/scratch")
    lost = [tried.name for tried in found.attacks if not tried.held]
    print(json.dumps({"level": sandbox.level, "layers": sandbox.layers, "left": left, "lost": lost, "note": sandbox.note}))
"""


@pytest.mark.parametrize(
    ("backend", "level", "layers", "expected"),
    [
        ("bwrap", "full", [], "full"),
        ("bwrap", "process", ["rlimits", "no_new_privs", "seccomp"], "process"),  # of bubblewrap we ask our own layers
        (
            "docker",
            "process",
            ["rlimits", "no_new_privs", "uid-drop"],
            "full",
        ),  # the container is the wall, users keep them apart
        ("runsc", "process", ["rlimits", "no_new_privs", "seccomp"], "full"),
        ("docker", "process", ["rlimits", "no_new_privs"], "process"),
        ("docker", "process", ["rlimits", "seccomp", "uid-drop"], "process"),
    ],
)
def test_the_level_says_what_is_there(backend, level, layers, expected):
    assert backends.level_inside(backend, level, layers) == expected


# What is missing is told


def test_absent_programs_are_told_in_a_line(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for backend, words in (
        ("bwrap", "install the package bubblewrap"),
        ("docker", "install Docker"),
        ("runsc", "install Docker"),
    ):
        told = backends.missing(backend)
        assert words in told and "\n" not in told
        with pytest.raises(SandboxError, match=f"--backend {backend}: "):
            open_sandbox([target.MODULE], backend=backend)
    assert "there are bwrap, docker, runsc" in backends.missing("chroot")


@pytest.mark.parametrize(
    ("failing", "words"),
    [("info", "does not answer"), ("runtimes", "no runtime runsc"), ("image", "docker build --build-arg PYTHON="), ("", "")],
)
def test_what_docker_lacks_is_told_with_what_to_do(monkeypatch, tmp_path, failing, words):
    """A stand-in for Docker's client that answers as one would whose daemon, runtime or image is missing."""
    program = tmp_path / "docker"
    program.write_text(
        f"#!/bin/sh\ncase $1 in\n info) [ {failing!r} = info ] && {{ echo 'Cannot connect' >&2; exit 1; }};"
        f" [ {failing!r} = runtimes ] && echo '{{\"runc\":1}}' || echo '{{\"runsc\":1}}';;\n"
        f" image) [ {failing!r} = image ] && exit 1;;\nesac\nexit 0\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    told = backends.missing("runsc")
    assert words in told and bool(told) == bool(words)


# The talk with a container


@pytest.fixture
def without_a_container(monkeypatch):
    """The bridge as an ordinary process, in place of the container it would run in."""
    monkeypatch.setattr(backends, "missing", lambda *_: "")

    def stand_in(backend, options, image, name):
        return [sys.executable, "-I", str(Path(backends.__file__).with_name("bridge.py")), options]

    monkeypatch.setattr(backends, "command_of", stand_in)
    return monkeypatch


@pytest.mark.slow  # two fork servers, one after the other
def test_a_lost_container_is_replaced_once_and_a_hostile_reply_is_none(without_a_container, oracle, checks):
    check = checks[target.EXERCISE]
    source = target.Attack("honest").source()
    with backends.Contained("docker", [target.MODULE]) as contained:
        assert contained.layers[0] == "docker" and contained.level == "full"
        assert target.put(check, source, oracle, contained).status == "passed"
        first = contained._process
        first.kill()
        assert target.put(check, source, oracle, contained).status == "passed"
        assert contained._process is not first
    assert contained._process.poll() is not None


FAKE = """
import json, struct, sys
def send(head, body=b""):
    line = json.dumps(head).encode() + b"\\n"
    sys.stdout.buffer.write(struct.pack(">Q", len(line) + len(body)) + line + body)
    sys.stdout.buffer.flush()
send({HELLO})
while True:
    size = sys.stdin.buffer.read(8)
    if len(size) < 8:
        break
    head = json.loads(sys.stdin.buffer.read(struct.unpack(">Q", size)[0]).partition(b"\\n")[0])
    {ANSWER}
"""


def fake(monkeypatch, hello, answer="pass"):
    hello = {"ready": True, "level": "full", "layers": [], "note": "", "python": backends.PYTHON} | hello
    program = FAKE.replace("{HELLO}", repr(hello)).replace("{ANSWER}", answer)
    monkeypatch.setattr(backends, "command_of", lambda *_: [sys.executable, "-c", program])
    return backends.Contained("docker", [target.MODULE], libraries=[])


def test_an_image_of_another_python_is_refused(without_a_container):
    """The earlier files cross as compiled code, which another version cannot read."""
    with (
        fake(without_a_container, {"python": "3.9"}) as contained,
        pytest.raises(SandboxError, match="has Python 3.9 and the grader"),
    ):
        contained.level
    with fake(without_a_container, {"error": "no room"}) as contained, pytest.raises(SandboxError, match="in docker: no room"):
        contained.level


@pytest.mark.parametrize(
    "answer",
    [
        "sys.stdout.buffer.write(struct.pack('>Q', 1 << 50)); sys.stdout.buffer.flush()",  # a length that no memory holds
        "send({'id': head['id'], 'outcome': 'passed'})",  # no outcome of ours
        "send(['id', head['id']])",
        "sys.stdout.buffer.write(struct.pack('>Q', 3) + b'{x}'); sys.stdout.buffer.flush()",
        "break",
    ],
)
def test_what_is_no_reply_is_a_crash_and_not_a_verdict(without_a_container, answer):
    with fake(without_a_container, {}, answer) as contained:
        reply = contained.run(b"", seconds=1.0, memory_mb=64)
    assert reply.outcome == "crashed" and reply.stream == b"" and "container" in reply.detail


def test_a_reply_is_bounded_text_and_bytes(without_a_container):
    answer = "send({'id': head['id'], 'outcome': 'finished', 'printed': 'x' * 99999, 'detail': 7, 'seconds': 'long'}, b'abc')"
    with fake(without_a_container, {}, answer) as contained:
        reply = contained.run(b"", seconds=1.0, memory_mb=64)
    assert reply.outcome == "finished" and reply.stream == b"abc" and len(reply.printed) == 8192 and reply.seconds == 0.0
    assert json.dumps(reply.detail) == '"7"'


def test_the_environment_does_not_come_along(monkeypatch):
    monkeypatch.setenv("CLIMB_TOKEN", "secret")
    assert "CLIMB_TOKEN" not in backends._environment("bwrap") and "secret" not in " ".join(backends.docker_command("{}"))
    assert set(backends._environment("bwrap")) <= {*server.environment_of_server(), "HOME", "TMPDIR"}


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
