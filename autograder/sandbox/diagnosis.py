"""What this machine can enforce: small attacks on the sandbox from inside it, each on something that was made for it.

An attack that gets through is told as such; nothing of the machine is harmed by it. `climb doctor` prints what comes of this.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from . import backends, wire

PRINTED = "climb-doctor "  # before the JSON that an attack prints
SECONDS = 20.0  # for what is to end by itself
MEMORY_MB = 1024
# attack: (layers any of which stops it, what it tries)
ATTACKS = {
    "read a file": (("own-root", "landlock"), "reads a file of yours that is open to everybody"),
    "write a file": (("own-root", "landlock"), "writes into a folder of yours that is open to everybody"),
    "change a library": (("mount-namespace", "landlock"), "puts a module among Python's own"),
    "see processes": (("pid-namespace", "own-root", "landlock"), "looks for other processes in /proc"),
    "connect": (("network-namespace", "seccomp"), "connects to a port of this machine"),
    "start a process": (("seccomp", "rlimits"), "forks two hundred processes"),
    "signal": (("pid-namespace", "landlock-scopes", "seccomp", "uid-drop"), "sends a signal to this command"),
    "trace": (("pid-namespace", "seccomp", "capabilities"), "attaches to this command as a debugger"),
    "become root": (("no_new_privs", "capabilities", "uid-drop"), "takes back rights that were given up"),
    "memory": (("rlimits",), "allocates eight gigabytes"),
    "disk": (("rlimits", "own-root"), "writes a file of a gigabyte"),
    "time": (("clock",), "loops for ever"),
}
ATTACK = """
import ctypes, errno, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)

def outcome(step):
    try:
        step()
        return ""
    except OSError as error:
        return errno.errorcode.get(error.errno, "OSError")

def called(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def forks():
    made = 0
    try:
        for _ in range(200):
            child = os.fork()
            if child == 0:
                os._exit(0)
            made += 1
            if made > 70:
                return
    finally:
        for _ in range(made):
            os.wait()

def processes():
    if not [name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]:
        raise OSError(errno.ENOENT, "/proc")

def root_again():
    if os.getuid() == 0:
        called("chroot", b"/")
    os.setresuid(0, 0, 0)

seen = {
    "read a file": outcome(lambda: open({FILE!r}).read()),
    "write a file": outcome(lambda: open({FOLDER!r} + "/written", "w").write("x")),
    "change a library": outcome(lambda: open(os.path.dirname(os.__file__) + "/climb_doctor_was_here.py", "w").close()),
    "see processes": outcome(processes),
    "connect": outcome(lambda: socket.create_connection(("127.0.0.1", {PORT}), 2).close()),
    "start a process": outcome(forks),
    "signal": outcome(lambda: os.kill({PID}, 0)),
    "trace": outcome(lambda: called("ptrace", 0x4206, {PID}, 0, 0)),
    "become root": outcome(root_again),
}
print({PRINTED!r} + json.dumps(seen))
"""
MEMORY = """
hold = []
try:
    for _ in range(128):
        hold.append(bytearray(64 << 20))
    print({PRINTED!r} + '""')
except MemoryError:
    hold.clear()
    print({PRINTED!r} + '"MemoryError"')
"""
DISK = """
import errno
try:
    with open("climb-doctor", "wb", buffering=0) as file:
        for _ in range(1024):
            if file.write(bytes(1 << 20)) < 1 << 20:
                raise OSError(errno.EFBIG, "")
    print({PRINTED!r} + '""')
except OSError as error:
    print({PRINTED!r} + '"' + errno.errorcode.get(error.errno, "OSError") + '"')
"""
TIME = "while True:\n    pass\n"
MEANING = {
    "EACCES": "refused",
    "EPERM": "refused",
    "ENOENT": "there is no such thing in there",
    "ESRCH": "there is no such thing in there",
    "ENETUNREACH": "no network in there",
    "ECONNREFUSED": "another network in there",
    "EAGAIN": "limited",
    "EROFS": "read-only",
    "EINVAL": "refused",
    "EFBIG": "limited",
    "ENOSPC": "limited",
    "EDQUOT": "limited",
    "MemoryError": "limited",
}


@dataclass(frozen=True)
class Tried:
    """One attack. held: whether the sandbox withstood it. saw: how that showed."""

    name: str
    what: str
    held: bool
    saw: str
    by: tuple[str, ...]  # the active layers any of which stops it


@dataclass(frozen=True)
class Diagnosis:
    """What came of it all. advice: what to do about what is missing, a line each."""

    level: str
    layers: list[str]
    note: str
    attacks: list[Tried]
    machine: dict[str, str]
    backends: dict[str, str]  # name -> why it cannot be used, "" if it can
    advice: list[str]

    @property
    def full(self) -> bool:
        return self.level == "full" and all(tried.held for tried in self.attacks)


def diagnose(sandbox, module: str, probe: str) -> Diagnosis:
    """Attacks a sandbox that has just been opened for the probes of `module`, of which `probe` is one."""
    layers, level, note = list(sandbox.layers), sandbox.level, sandbox.note
    attacks = [*_quiet(sandbox, module, probe, layers), *_greedy(sandbox, module, probe, layers)]
    usable = {name: backends.missing(name) for name in backends.BACKENDS}
    return Diagnosis(level, layers, note, attacks, machine(), usable, advice(level, layers, attacks))


def request_for(module: str, probe: str, source: str) -> bytes:
    head = {"module": module, "exercise": "none", "probe": probe, "sources": {module: source}, "compiled": {}, "seed": 0}
    return wire.encode(head)


def filled(source: str, **words: object) -> str:
    for name, value in {"PRINTED": PRINTED, **words}.items():
        source = source.replace(f"{{{name}!r}}", repr(value)).replace(f"{{{name}}}", str(value))
    return source


def _quiet(sandbox, module, probe, layers) -> list[Tried]:
    """The attacks that leave their process alive: one process makes them all."""
    names = [name for name in ATTACKS if name not in ("memory", "disk", "time")]
    with _outside() as (folder, file, port):
        source = filled(ATTACK, FILE=str(file), FOLDER=str(folder), PORT=port, PID=os.getpid())
        reply = sandbox.run(request_for(module, probe, source), seconds=SECONDS, memory_mb=MEMORY_MB)
        seen = _told(reply.printed)
        written = (folder / "written").exists()
    if not isinstance(seen, dict):
        return [_tried(name, False, f"could not be tried: {reply.outcome}, {reply.detail}", layers) for name in names]
    found = []
    for name in names:
        code = str(seen.get(name, "")) if not (name == "write a file" and written) else ""
        found.append(_tried(name, code != "", f"{MEANING.get(code, 'refused')} ({code})" if code else "it got through", layers))
    return found


def _greedy(sandbox, module, probe, layers) -> list[Tried]:
    """The attacks that may cost their process its life: one each."""
    found = []
    if "rlimits" not in layers:
        return [_tried(name, False, "not tried: nothing here would stop it", layers) for name in ("memory", "disk", "time")]
    for name, source in (("memory", MEMORY), ("disk", DISK)):
        reply = sandbox.run(request_for(module, probe, filled(source)), seconds=SECONDS, memory_mb=MEMORY_MB)
        code = _told(reply.printed)
        ended = reply.outcome != "finished" and code is None
        saw = (
            f"its process ended: {reply.detail or reply.outcome}" if ended else f"{MEANING.get(str(code), 'refused')} ({code})"
        )
        found.append(_tried(name, ended or code not in ("", None), saw if ended or code else "it got through", layers))
    reply = sandbox.run(request_for(module, probe, TIME), seconds=1.0, memory_mb=MEMORY_MB)
    found.append(_tried("time", reply.outcome == "timeout", f"ended after {reply.seconds:.1f} s", layers))
    return found


def _tried(name: str, held: bool, saw: str, layers: list[str]) -> Tried:
    by, what = ATTACKS[name]
    return Tried(name, what, held, saw, tuple(layer for layer in by if layer in layers))


def _told(printed: str) -> object:
    for line in printed.splitlines():
        if line.startswith(PRINTED):
            try:
                return json.loads(line[len(PRINTED) :])
            except ValueError:
                return None
    return None


@contextmanager
def _outside() -> Iterator[tuple[Path, Path, int]]:
    """A folder, a file in it and a port, open to everybody: nothing but the sandbox keeps a child away."""
    folder = Path(tempfile.mkdtemp(prefix="climb-doctor-"))
    try:
        folder.chmod(0o777)
        file = folder / "open"
        file.write_text("for everybody\n")
        file.chmod(0o666)
        with socket.create_server(("127.0.0.1", 0)) as server:
            yield folder, file, server.getsockname()[1]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def machine() -> dict[str, str]:
    """What this machine is, in words."""
    found = {"system": f"{platform.system()} {platform.release()} on {platform.machine()}", "Python": platform.python_version()}
    if hasattr(os, "geteuid"):
        found["user"] = "root" if os.geteuid() == 0 else f"an ordinary user ({os.geteuid()})"
    found["processors"] = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    if sys.platform == "linux":
        from . import landlock

        found["Landlock"] = f"version {landlock.abi()}" if landlock.abi() else "none"
        found["security modules"] = _text("/sys/kernel/security/lsm") or "not told"
        found["namespaces for ordinary users"] = _userns()
        found["in a container"] = "yes" if _contained() else "not that one could tell"
    return found


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _userns() -> str:
    for path, closed in (
        ("/proc/sys/user/max_user_namespaces", "0"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    ):
        if _text(path) == closed:
            return f"closed by {path.removeprefix('/proc/sys/').replace('/', '.')} = {closed}"
    return "not closed by a setting"


def _contained() -> bool:
    return any(Path(path).exists() for path in ("/.dockerenv", "/run/.containerenv")) or "docker" in _text("/proc/1/cgroup")


def advice(level: str, layers: list[str], attacks: list[Tried]) -> list[str]:
    """What to do, where the level is not full or an attack got through; a word on what is missing above that too."""
    if sys.platform != "linux":
        return ["There is no full sandbox on this system: grade on Linux, in WSL2 or in a Linux container."]
    lines = []
    if "landlock" not in layers:
        lines.append(
            "Landlock is missing: it needs Linux 5.13 or newer with `landlock` among the active security modules "
            "(the kernel's command line: lsm=landlock,...). Docker lets it through from version 23."
        )
    if "seccomp" not in layers and "network-namespace" not in layers:
        lines.append(
            "Neither a seccomp filter nor a network namespace: use a kernel with CONFIG_SECCOMP_FILTER, on x86-64 or arm64."
        )
    if "network-namespace" not in layers:
        lines.append(
            "No namespaces: as an ordinary user allow them (sysctl kernel.unprivileged_userns_clone=1, and on Ubuntu "
            "kernel.apparmor_restrict_unprivileged_userns=0), or grade as root. With Landlock and seccomp, full is reached "
            "without."
        )
    if not {"uid-drop", "unprivileged", "user-namespace"} & set(layers):
        lines.append("No second user to change to: grade as an ordinary user, or as root with the right to change users.")
    if [tried for tried in attacks if not tried.held] and level == "full":
        lines.append(
            "An attack got through although the layers are there: please report it, and do not grade others' code here."
        )
    return lines
