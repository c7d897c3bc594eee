"""`climb grade` end to end as it may be started: by root, by an ordinary user, without namespaces, in bubblewrap.

A class of three: one right, one who reads and writes where nobody should, one who never ends. In every mode the same verdicts.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from autograder.sandbox import backends

from . import target

ROOT = Path(__file__).resolve().parents[2]
HOSTS = str(ROOT / "tests/attacks/hosts.py")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="started by an ordinary user")
needs_bwrap = pytest.mark.skipif(backends.missing("bwrap") != "", reason=backends.missing("bwrap"))
THIEF = """
import os, pathlib, socket
for place in ({OUT!r}, {OUT!r} + "/seed.txt", {OUT!r} + "/journal.jsonl", {ROOT!r} + "/solutions/toy/word_agent.py"):
    try:
        found = pathlib.Path(place).read_text() if "." in place.rsplit("/", 1)[1] else os.listdir(place)
        raise RuntimeError("FOUND")
    except OSError:
        pass
try:
    pathlib.Path({OUT!r} + "/honest").mkdir()
    raise RuntimeError("FOUND")
except OSError:
    pass
try:
    socket.socket()
    raise RuntimeError("FOUND")
except OSError:
    pass
"""


@pytest.fixture
def place():
    """A folder that everybody can come to. (pytest closes its own to others, again each time it is started.)"""
    with tempfile.TemporaryDirectory(prefix="climb-class-") as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


def graded(place, flags, *words):
    """The class, graded in a mode: {student: result}."""
    sent, out = place / "sent", place / "out"
    thief = target.Attack(
        "thief", at_import=THIEF.replace("{OUT!r}", repr(str(out))).replace("{ROOT!r}", repr(str(ROOT)))
    ).source()
    loop = target.Attack("loop", body="while True:\n    pass").source()
    for name, text in (("honest", target.Attack("honest").source()), ("thief", thief), ("loop", loop)):
        (sent / name).mkdir(parents=True)
        (sent / name / "word_agent.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "autograder.cli",
        "grade",
        str(sent),
        "--out",
        str(out),
        "--lessons",
        "3",
        "--no-pages",
        *words,
    ]
    host = [sys.executable, HOSTS, *flags] if flags else []
    done = subprocess.run([*host, *command], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    return {name: json.loads((out / name / "result.json").read_text()) for name in ("honest", "thief", "loop")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "words", "layer"),
    [
        pytest.param([], [], "network-namespace", id="as-started"),
        pytest.param(["--user"], [], "user-namespace", id="ordinary-user", marks=needs_root),
        pytest.param(["--without", "namespaces"], [], "seccomp", id="no-namespaces"),
        pytest.param([], ["--backend", "bwrap"], "bwrap", id="bwrap", marks=needs_bwrap),
        pytest.param(["--user"], ["--backend", "bwrap"], "bwrap", id="ordinary-user-in-bwrap", marks=[needs_root, needs_bwrap]),
    ],
)
def test_in_every_mode_the_same_verdicts(place, flags, words, layer):
    results = graded(place, flags, *words)
    assert all(result["sandbox"] == "full" and layer in result["layers"] for result in results.values())
    honest = results["honest"]
    assert honest["score"] == honest["max_score"] > 0 and {row["status"] for row in honest["exercises"]} == {"passed"}
    thief = results["thief"]
    assert (
        "FOUND" not in json.dumps(thief) and thief["score"] == honest["score"]
    )  # what it tried failed, and its answers are right
    loop = {row["id"].split("::")[1]: row["status"] for row in results["loop"]["exercises"]}
    assert loop["positive_probability"] == "timeout" and loop["Baseline.update"] == "passed"
    for result in results.values():  # what an audit asks for
        assert result["grader"] and len(result["seed"]) == 16 and result["seconds"] >= 0
        assert set(result["audit"]) >= {"key", "submission", "checks", "graded_at"}
