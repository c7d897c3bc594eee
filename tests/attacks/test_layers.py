"""Every layer that a result names holds, as seen from inside; where one is missing the level says so, and grading is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autograder.sandbox import limits

from . import target
from .observe import look

HERE = Path(__file__).parent
NOT_THERE = ("ENOENT", "ESRCH")
# layer: whether what was seen agrees with it
HOLDS = {
    "rlimits": lambda seen: (
        seen["limits"]["NOFILE"] == [limits.OPEN_FILES] * 2
        and seen["limits"]["FSIZE"] == [limits.FILE_BYTES] * 2
        and seen["limits"]["CORE"] == [0, 0]
        and 0 < seen["limits"]["AS"][1] < 1 << 40
        and 0 < seen["limits"]["CPU"][1] < 60
    ),
    "uid-drop": lambda seen: (
        len(set(seen["uids"])) == 1 and seen["uids"][0] > 1000 and seen["groups"] == [] and seen["root again"] == "EPERM"
    ),
    "user-namespace": lambda seen: seen["limits"]["NPROC"] == [limits.TASKS] * 2,
    "user-namespace-each": lambda seen: seen["uids"] == [65534] * 3 and seen["root again"] in ("EINVAL", "EPERM"),
    "unprivileged": lambda seen: 0 not in seen["uids"] and seen["root again"] == "EPERM",
    "capabilities": lambda seen: seen["capabilities"] == [0] * 6,
    "no_new_privs": lambda seen: seen["no_new_privs"] == 1,
    "seccomp": lambda seen: (
        seen["filter"] == 2 and seen["socket"] == seen["fork"] == seen["signal outside"] == seen["queue outside"] == "EPERM"
    ),
    "landlock": lambda seen: seen["list of /"] == "EACCES" and seen["/etc/passwd"] in ("EACCES", "ENOENT"),
    "landlock-scopes": lambda seen: seen["signal outside"] in ("EPERM", *NOT_THERE),
    "network-namespace": lambda seen: seen["connect"] != "connected",
    "ipc-namespace": lambda seen: seen["queue outside"] in ("EPERM", "ENOENT"),
    "pid-namespace": lambda seen: seen["pid"] == 1 and seen["signal outside"] in ("EPERM", *NOT_THERE),
    "mount-namespace": lambda seen: seen["write a library"] in ("EROFS", "EACCES"),
    "own-root": lambda seen: seen["/etc/passwd"] == seen["/proc"] == "ENOENT" and seen["write a library"] == "EROFS",
}


def on_host(flags, *arguments):
    """What observe.py says as on another host: its exit code and its JSON."""
    command = [sys.executable, str(HERE / "hosts.py"), *flags.split(), sys.executable, str(HERE / "observe.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 3), done.stderr
    return done.returncode, json.loads(done.stdout)


def assert_layers_hold(said):
    assert [layer for layer in said["layers"] if not HOLDS[layer](said["seen"])] == [], said
    full = said["level"] == "full"
    assert full == (limits.level_of(said["layers"]) == "full")
    if full:  # whatever the layers are called, a full sandbox keeps all of this away
        seen = said["seen"]
        assert seen["connect"] != "connected" and seen["signal outside"] != "sent" and type(seen["queue outside"]) is not int
        assert (
            seen["/etc/passwd"] in ("EACCES", "ENOENT")
            and seen["write a library"] != "written"
            and seen["capabilities"] == [0] * 6
        )


def test_here(sandbox, oracle, checks):
    said = look(sandbox, checks[target.EXERCISE], oracle)
    assert said["level"] == "full" and said["note"] == ""
    assert {"rlimits", "no_new_privs", "capabilities", "landlock"} <= set(said["layers"])
    assert ("uid-drop" in said["layers"]) == (os.geteuid() == 0)
    assert_layers_hold(said)


@pytest.mark.parametrize(
    "missing", ["seccomp", pytest.param("namespaces", marks=pytest.mark.slow), pytest.param("mount", marks=pytest.mark.slow)]
)
def test_one_kind_is_enough(missing):
    """Namespaces without a filter, or a filter without namespaces: still full."""
    code, said = on_host(f"--without {missing}", "full")
    assert code == 0 and said["level"] == "full"
    assert not {missing, "own-root" if missing != "seccomp" else missing} & set(said["layers"])
    assert_layers_hold(said)


@pytest.mark.slow
@pytest.mark.parametrize(
    "missing", ["mount_setattr", "landlock", "namespaces,seccomp", "mount,seccomp", "landlock,namespaces,seccomp"]
)
def test_what_is_said_elsewhere_holds(missing):
    code, said = on_host(f"--without {missing}")
    assert code == 0
    assert_layers_hold(said)


@pytest.mark.parametrize(
    "missing",
    [
        "landlock",
        "namespaces,seccomp",
        pytest.param("mount_setattr,seccomp", marks=pytest.mark.slow),
        pytest.param("mount,landlock", marks=pytest.mark.slow),
    ],
)
def test_grading_is_refused_where_too_little_is_to_be_had(missing):
    code, said = on_host(f"--without {missing}", "full")
    assert code == 3
    assert "not full" in said["refused"] and "--sandbox process" in said["refused"] and "\n" not in said["refused"]


def test_level_of():
    """The level is a matter of what is there, not of how much of it."""
    everything = [
        "network-namespace",
        "pid-namespace",
        "own-root",
        "uid-drop",
        "rlimits",
        "no_new_privs",
        "capabilities",
        "seccomp",
        "landlock",
    ]
    assert limits.level_of(everything) == "full"
    for layer in ("rlimits", "no_new_privs", "landlock", "uid-drop"):
        assert limits.level_of([other for other in everything if other != layer]) == "process"
    for gone in (["network-namespace"], ["pid-namespace"], ["own-root"]):
        assert limits.level_of([other for other in everything if other not in gone]) == "full"
        assert limits.level_of([other for other in everything if other not in [*gone, "seccomp"]]) == "process"


@pytest.mark.parametrize(
    ("uid_map", "first", "count"),
    [
        ("         0          0 4294967295\n", limits.FIRST_UID, limits.UIDS),
        ("0 1000 1\n1 100000 65536\n", 32769, 32765),
        ("0 1000 1\n", 1, 0),
        ("0 70000 1000\n", 500, 500),
        ("", 0, 0),
    ],
)
def test_users_are_chosen_from_those_that_are_mapped(uid_map, first, count):
    chosen = limits.users(uid_map)
    assert len(chosen) == count and (count == 0 or chosen[0] == first)
    assert 0 not in chosen and 65534 not in chosen
