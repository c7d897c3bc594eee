"""The grader's end of the sandbox: starts the fork server and passes it one socket a request. Safe to call from many threads."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from .errors import SandboxError
from .executor import Reply
from .preload import libraries_for
from .relay import relay

ZYGOTE = Path(__file__).with_name("zygote.py")
DYING_SECONDS = 1.0  # from the end of its sockets to the end of the process
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


class Sandbox:
    """An Executor backed by one fork server. Usable at once: the first `run` waits until the server has imported its libraries."""

    def __init__(self, probes: list[str], level: str = "full", libraries: list[str] | None = None):
        if level not in ("full", "process"):
            raise SandboxError(f"the sandbox levels are full and process, not {level!r}")
        self._folder = tempfile.mkdtemp(prefix="climb-")
        self._lock = threading.Lock()
        self._ready: dict | None = None
        self._probes, self._asked = probes, level
        self._libraries = libraries_for(probes) if libraries is None else libraries
        self._start()

    def _start(self) -> None:
        os.chmod(self._folder, 0o711 if os.geteuid() == 0 else 0o700)  # a child of root, under another user, has to reach it
        for name in ("empty", "scratch"):
            os.makedirs(os.path.join(self._folder, name), exist_ok=True)
        options = {"level": self._asked, "probes": self._probes, "libraries": self._libraries}
        options |= {"empty_folder": self._folder + "/empty", "scratch": self._folder + "/scratch"}
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(ZYGOTE), json.dumps(options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env=environment_of_server(),
            preexec_fn=lambda: _become(theirs.fileno()),
            close_fds=False,
            start_new_session=True,
        )
        theirs.close()
        self._ready = None

    def _wait(self) -> dict:
        with self._lock:
            if self._ready is None:
                self._control.settimeout(START_SECONDS)
                try:
                    message = self._control.recv(1 << 16)
                except TimeoutError:
                    raise SandboxError(f"the sandbox did not start within {START_SECONDS:g} s") from None
                if not message:
                    raise SandboxError(f"the sandbox did not start: {self._last_words()}")
                self._control.settimeout(None)
                self._ready = json.loads(message)
            return self._ready

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.poll()}"

    @property
    def level(self) -> str:
        return self._wait()["level"]

    @property
    def layers(self) -> list[str]:
        return self._wait()["layers"]

    @property
    def note(self) -> str:
        """Why the level is not higher, or what the instructor should know; empty when all is well."""
        return self._wait()["note"]

    def run(self, request: bytes, *, seconds: float, memory_mb: int) -> Reply:
        """One request. If the fork server is lost it is tried once more with a new one, then called crashed."""
        for _ in range(2):
            self._wait()
            server = self._process
            try:
                reply = self._exchange(request, seconds, memory_mb)
            except (OSError, EOFError):
                self._replace(server)
                continue
            if reply.outcome == "refused":
                raise SandboxError(f"{reply.detail}: {reply.printed}")
            return reply
        return Reply("crashed", b"", detail="it took the fork server with it, twice (out of memory?)")

    def _exchange(self, request: bytes, seconds: float, memory_mb: int) -> Reply:
        results, results_end = os.pipe()
        printed, printed_end = os.pipe()
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            try:
                with open(os.memfd_create("request"), "wb") as file:
                    file.write(json.dumps({"seconds": seconds, "memory_mb": memory_mb}).encode() + b"\n" + request)
                    file.flush()
                    with self._lock:
                        socket.send_fds(self._control, [b"run"], [file.fileno(), results_end, printed_end, theirs.fileno()])
            finally:
                theirs.close()
                os.close(results_end)
                os.close(printed_end)
            return relay(results, printed, mine, seconds)
        finally:
            mine.close()  # ends the child if it still runs
            os.close(results)
            os.close(printed)

    def _replace(self, server: subprocess.Popen) -> None:
        """Starts a new fork server if this one has died, or is dying, and no other thread has done so."""
        try:
            server.wait(DYING_SECONDS)
        except subprocess.TimeoutExpired:
            return  # it lives: the child alone was lost
        with self._lock:
            if self._process is server:
                self._control.close()
                self._errors.close()
                self._start()

    def close(self) -> None:
        self._control.close()  # the fork server ends when its control socket does, and its supervisors when theirs do
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_) -> None:
        self.close()


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
