"""One fork server's process: its folder, its control socket, its last words. `client.Sandbox` speaks to it.

A server may part in two once it has imported torch: the `Branch` goes on to import what is large, in a process forked from the first,
while that one serves already. So both have cost one import of torch, and share its memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .errors import SandboxError

ZYGOTE = Path(__file__).with_name("zygote.py")
START_SECONDS = 120.0  # importing torch from a cold disk can take most of a minute
# What importing libraries may need. Nothing else of the environment (tokens, keys) reaches a process that forks learner code.
PASSED_VARIABLES = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "MPLCONFIGDIR",
    "LD_LIBRARY_PATH",
    "TZ",
    "SYSTEMROOT",
)


class End:
    """The grader's end of a fork server: a folder for it to use, and its control socket."""

    def __init__(self, level: str):
        self.asked, self.taken, self.closed = level, False, False
        self.control = self.errors = self.process = None
        self.folder = tempfile.mkdtemp(prefix="climb-")
        os.chmod(self.folder, 0o711 if os.geteuid() == 0 else 0o700)  # a child of root, under another user, has to reach it
        for name in ("empty", "scratch"):
            os.makedirs(os.path.join(self.folder, name), exist_ok=True)

    def options(self) -> dict[str, str]:
        """What its process is told first."""
        return {"level": self.asked, "empty_folder": self.folder + "/empty", "scratch": self.folder + "/scratch"}

    def ready(self) -> dict:
        """What it is and can enforce. Raises SandboxError if it does not come up."""
        try:
            self.control.settimeout(START_SECONDS)
            message = self.control.recv(1 << 16)
        except TimeoutError:
            raise SandboxError(f"the sandbox did not start within {START_SECONDS:g} s") from None
        except OSError:  # it has died, or was closed meanwhile
            message = b""
        if self.closed:
            raise SandboxError("the sandbox was closed before it had started")
        if not message:
            raise SandboxError(f"the sandbox did not start: {self._last_words()}")
        self.control.settimeout(None)
        return json.loads(message)

    def _last_words(self) -> str:
        if self.errors.closed:
            return "the server that it was to part from has ended"
        self.errors.seek(0)
        lines = self.errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self.process.poll()}"


class Server(End):
    """A fork server that has begun to import torch: it may be started before anybody knows which lessons it will serve.

    level: full or process.  Raises SandboxError for another.
    """

    def __init__(self, level: str = "full"):
        if level not in ("full", "process"):
            raise SandboxError(f"the sandbox levels are full and process, not {level!r}")
        super().__init__(level)
        self.parted: Branch | None = None
        try:
            self._start()
        except BaseException:  # Ctrl-C as well
            self.close()
            raise

    def _start(self) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(ZYGOTE), json.dumps(self.options())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            env=environment_of_server(),
            preexec_fn=lambda: _become(theirs.fileno()),
            close_fds=False,
            start_new_session=True,
        )
        theirs.close()

    def branch(self, late: list[str]) -> Branch:
        """A second server, with these libraries besides. To be asked for before `serve`, once."""
        self.parted = Branch(self, late)
        return self.parted

    def serve(self, probes: list[str], libraries: list[str]) -> None:
        """Tells it what to import besides torch. It answers when it is ready (`ready`)."""
        self.taken = True
        order = {"probes": probes, "libraries": libraries}
        sockets = []
        if self.parted is not None:
            order |= {"late": self.parted.late, "branch": self.parted.options()}
            sockets = [self.parted.theirs.fileno()]
        try:
            socket.send_fds(self.control, [json.dumps(order).encode()], sockets)
        except OSError:
            pass  # it has died: `ready` says so, with its last words
        if self.parted is not None:
            self.parted.theirs.close()

    def ended(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Ends it and what it started, and takes its folder away. Any number of times."""
        if self.closed:
            return
        self.closed = True
        if self.control is not None:
            self.control.close()  # the fork server ends when its control socket does, and its supervisors when theirs do
        if self.process is not None and not (self.taken and self.ended(5)):  # one that nobody spoke to has no children to wait for
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)  # and what it has forked to try out namespaces
            self.process.kill()
            self.process.wait()
        if self.errors is not None:
            self.errors.close()
        _remove(self.folder)


def fitting(server: Server | Branch | None, level: str) -> Server | Branch:
    """This server if nobody has taken it and it was asked for the same level, else a new one."""
    return Server(level) if server is None or server.taken or server.asked != level else server


class Branch(End):
    """The second of two servers, forked from the first, which ends it when it ends itself. Served by the first one's order."""

    def __init__(self, trunk: Server, late: list[str]):
        super().__init__(trunk.asked)
        self.late, self.errors, self.process = late, trunk.errors, trunk.process
        self.serves = False
        self.control, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def serve(self, probes: list[str], libraries: list[str]) -> None:
        self.taken = True  # it was told by the first server's order

    def ready(self) -> dict:
        found = super().ready()
        self.serves = True
        return found

    def ended(self, seconds: float) -> bool:
        if self.closed:
            return True
        hung_up = select.poll()
        hung_up.register(self.control, 0)  # the end of the other side is always told
        return bool(hung_up.poll(1000 * seconds))

    def close(self) -> None:
        """Ends it if it serves; if it still imports there is nothing to end in order, and the first server's end is its own."""
        if self.closed:
            return
        if self.serves:
            with contextlib.suppress(OSError):
                self.control.shutdown(socket.SHUT_WR)
            self.ended(5)
        self.closed = True
        self.theirs.close()
        self.control.close()
        _remove(self.folder)


def _remove(folder: str) -> None:
    """Takes a folder away, again for a second if something that is just being killed has put it back."""
    until = time.monotonic() + 1.0
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder) or time.monotonic() > until:
            return
        time.sleep(0.01)


def environment_of_server() -> dict[str, str]:
    """The whole environment of a process that will run learner code: what importing libraries needs, and one thread each."""
    environment = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    environment |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    # Large pages: forking is a third faster. One arena: each further one takes 64 MiB of the address space a check may have.
    environment["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"
    return environment


def _become(control: int) -> None:
    """In the new process before exec: the control socket becomes descriptor 3, and nothing beyond the standard three stays open."""
    os.dup2(control, 3)
    os.set_inheritable(3, True)
    os.closerange(4, 65536)
