"""What lies outside the sandbox and is to be neither read, changed nor reached: planted before the attacks, seen after each."""

from __future__ import annotations

import hashlib
import os
import resource
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path

from autograder.sandbox import limits

ROOT = Path(__file__).resolve().parents[2]
VICTIM = "import sys, time; print('up', flush=True); time.sleep(600)"


class World:
    """Files, an environment variable, listeners, shared memory and a process, all of the user who grades."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.secret = secrets.token_hex(16)
        self.other_text = secrets.token_hex(16)  # stands in another submission, which was graded before
        self.hunted: dict[str, str] = {}  # what else attacks look for
        os.environ["CLIMB_CANARY"] = self.secret
        self.file = folder / "grades.csv"
        self.file.write_text(f"anna,{self.secret}\n")
        self.other = folder / "submissions" / "ben" / "word_agent.py"
        self.other.parent.mkdir(parents=True)
        self.other.write_text(f"# {self.secret}\n")
        for place in (folder, self.other.parent.parent, self.other.parent):
            place.chmod(0o777)  # nothing but the sandbox keeps a child away
        for place in (self.file, self.other):
            place.chmod(0o666)
        self.shared = Path(f"/dev/shm/climb-{secrets.token_hex(4)}")
        self.shared.write_text(self.secret)
        self.shared.chmod(0o666)
        self._listen()
        self.victim = subprocess.Popen([sys.executable, "-c", VICTIM], stdout=subprocess.PIPE)
        self.victim.stdout.readline()
        self.victim_limits = self._limits_of_victim()
        self.course = fingerprint(ROOT)
        self.before = self._state()

    def _listen(self) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.unix.bind(str(self.folder / "stream"))
        self.unix.listen()
        self.datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.datagrams.bind(str(self.folder / "datagrams"))
        self.abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.abstract.bind("\0climb-" + self.secret[:8])
        for path in (self.folder / "stream", self.folder / "datagrams"):
            path.chmod(0o777)
        for line in self.listeners():
            line.setblocking(False)

    def listeners(self) -> list[socket.socket]:
        return [self.tcp, self.udp, self.unix, self.datagrams, self.abstract]

    def names(self) -> dict[str, str]:
        """What an attack is told of the outside: more than it could find out."""
        return {
            "GRADES": str(self.file),
            "OTHER": str(self.other),
            "FOLDER": str(self.folder),
            "SHARED": self.shared.name,
            "ROOT": str(ROOT),
            "PREFIX": sys.prefix,
            "TCP": str(self.tcp.getsockname()[1]),
            "UDP": str(self.udp.getsockname()[1]),
            "ABSTRACT": "climb-" + self.secret[:8],
            "VICTIM": str(self.victim.pid),
            "GRADER": str(os.getpid()),
            "GROUP": str(os.getpgrp()),
            **halves("SECRET", self.secret.encode()),
            **halves("SUBMISSION", self.other_text.encode()),
            **self.hunted,
        }

    def _state(self) -> list:
        state = [
            (path.name, path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
            for path in (self.file, self.other, self.shared)
        ]
        return [*state, sorted(os.listdir(self.folder)), sorted(os.listdir(self.other.parent)), os.umask(os.umask(0o022))]

    def _limits_of_victim(self) -> list:
        pid = self.victim.pid
        return [resource.prlimit(pid, kind) for kind in (resource.RLIMIT_CPU, resource.RLIMIT_NOFILE)] + [
            os.getpriority(os.PRIO_PROCESS, pid)
        ]

    def assert_intact(self) -> None:
        """Nothing outside was changed or reached."""
        assert self._state() == self.before, "a file outside was changed"
        assert self.victim.poll() is None, "a process outside was ended"
        assert self._limits_of_victim() == self.victim_limits, "a process outside was given other limits"
        for line in self.listeners():
            try:
                arrived = line.accept() if line in (self.tcp, self.unix) else line.recv(1)
            except BlockingIOError:
                continue
            raise AssertionError(f"{line} was reached: {arrived!r}")

    def assert_course_intact(self) -> None:
        assert fingerprint(ROOT) == self.course, "a file of the grader was changed"

    def close(self) -> None:
        for line in self.listeners():
            line.close()
        self.victim.kill()
        self.victim.wait()
        self.victim.stdout.close()
        self.shared.unlink()
        os.environ.pop("CLIMB_CANARY", None)


def halves(name: str, data: bytes) -> dict[str, str]:
    """Bytes to be looked for, in two parts, so that who looks does not hold the whole."""
    return {f"{name}_1": data[: len(data) // 2].hex(), f"{name}_2": data[len(data) // 2 :].hex()}


def fingerprint(root: Path) -> str:
    """A hash of the sandbox's own code and of the libraries' start-up files."""
    digest = hashlib.sha256()
    for path in sorted([*(root / "autograder" / "sandbox").glob("*.py"), *Path(sys.prefix).glob("lib/*/site-packages/*.pth")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def processes_of(sandbox) -> set[int]:
    """The fork server and everything that was forked from it and still lives. A forked process keeps the command line."""
    if not hasattr(sandbox, "_server"):  # in a backend: all that descends from the program that was started
        return descendants(sandbox._process.pid)
    found = set()
    mark = sandbox._server.folder.encode()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/cmdline", "rb") as file:
                    line = file.read()
                user = os.stat(f"/proc/{entry.name}").st_uid
                ours = (
                    user in range(limits.FIRST_UID, limits.FIRST_UID + limits.UIDS) and b"/climb-" not in line
                )  # nor another grader's
                if ours or mark in line:
                    found.add(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def descendants(pid: int) -> set[int]:
    parents = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"/proc/{entry.name}/stat") as file:
                    parents[int(entry.name)] = int(file.read().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, waiting = set(), [pid]
    while waiting:
        waiting += (children := [child for child, parent in parents.items() if parent == waiting[-1] and child not in found])
        found |= {pid, *children}
        waiting.pop(len(waiting) - len(children) - 1)
    return found


def assert_no_process_left(sandbox, servers: set[int], seconds: float = 5.0) -> None:
    """The kernel takes a moment to end what was killed."""
    deadline = time.monotonic() + seconds
    while left := processes_of(sandbox) - servers:
        assert time.monotonic() < deadline, f"processes left behind: {left}"
        time.sleep(0.005)
