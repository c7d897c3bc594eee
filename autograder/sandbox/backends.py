"""Sandboxes of others around ours: bubblewrap, Docker and gVisor (`runsc`, a runtime of Docker), by `climb grade --backend`.

In each of them runs `bridge.py`, and with it the fork server and its children under our own layers, as far as these are to be had
inside. What the container sees of the course are the sandbox, the probes and the given code: neither solutions nor checks. The
command lines are built by functions of their own, so that they can be looked at, and tested where no daemon runs.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitedTooLong
from pathlib import Path
from typing import Callable

from . import jail
from .errors import SandboxError
from .executor import Reply
from .messages import read, write
from .preload import libraries_for
from .server import START_SECONDS, environment_of_server
from .wire import MAX_BYTES

BACKENDS = ("bwrap", "docker", "runsc")
IMAGE = "climb-sandbox"
ROOT = Path(__file__).resolve().parent.parent.parent
INSIDE = "/course"  # where a container sees the course
SEEN = ("autograder/__init__.py", "autograder/sandbox", "autograder/probes")
SEEN += ("toy/__init__.py", "toy/given", "full/__init__.py", "full/given")
MEMORY, TASKS = "4g", "1024"  # of a whole container; each child has limits of its own
GRACE_SECONDS = 5.0  # beyond a check's limit, until the container is taken for lost
CAPABILITIES = (
    "SETUID",
    "SETGID",
    "CHOWN",
    "FOWNER",
    "DAC_OVERRIDE",
    "KILL",
)  # to give each child a user and a folder, and to end it
PASSED = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MPLBACKEND", "GLIBC_TUNABLES", "HF_HUB_OFFLINE")
OUTCOMES = ("finished", "timeout", "crashed", "flooded")
PYTHON = ".".join(map(str, sys.version_info[:2]))
BUILD = f"docker build --build-arg PYTHON={PYTHON} -t {IMAGE} {Path(__file__).with_name('image')}"


def bwrap_command(options: str) -> list[str]:
    """Namespaces by bubblewrap: libraries and the course's open parts read-only, nothing else of the disk, no network."""
    words = ["bwrap", *(f"--unshare-{kind}" for kind in ("user", "ipc", "pid", "net", "uts", "cgroup-try"))]
    words += ["--uid", "1000", "--gid", "1000", "--die-with-parent", "--new-session"]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    venv = [os.path.join(sys.prefix, "pyvenv.cfg")] if sys.prefix != sys.base_prefix else []
    for path in dict.fromkeys([*jail.library_folders(), "/etc/ld.so.cache", "/etc/localtime", *venv, *_links(sys.executable)]):
        if os.path.islink(path) and os.path.isdir(path):  # /lib -> usr/lib
            words += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            words += ["--ro-bind", path, path]
    for part in SEEN:
        if (ROOT / part).exists():
            words += ["--ro-bind", str(ROOT / part), f"{INSIDE}/{part}"]
    return [*words, "--chdir", "/", sys.executable, "-I", f"{INSIDE}/autograder/sandbox/bridge.py", options]


def _links(path: str) -> list[str]:
    """A program and what it links to, step by step: a virtual environment's python is found by its own name."""
    found = [path]
    while os.path.islink(found[-1]) and len(found) < 10:
        found.append(os.path.normpath(os.path.join(os.path.dirname(found[-1]), os.readlink(found[-1]))))
    return found


def docker_command(options: str, image: str = IMAGE, runtime: str = "", name: str = "") -> list[str]:
    """A container without network, on a read-only root, as a root that may change users and nothing else."""
    words = ["docker", "run", "--rm", "--interactive", "--init", *(["--name", name] if name else [])]
    words += ["--runtime", runtime] if runtime else []
    words += ["--network", "none", "--read-only", "--tmpfs", "/tmp:rw,nosuid,nodev,size=512m,mode=1777", "--ipc", "private"]
    words += ["--cap-drop", "ALL", *(f"--cap-add={name}" for name in CAPABILITIES)]
    words += ["--security-opt", "no-new-privileges", "--pids-limit", TASKS, "--memory", MEMORY, "--memory-swap", MEMORY]
    for key, value in environment_of_server().items():
        words += ["--env", f"{key}={value}"] if key in PASSED else []
    for part in SEEN:
        if (ROOT / part).exists():
            words += ["--volume", f"{ROOT / part}:{INSIDE}/{part}:ro"]
    return [*words, image, "python", "-I", f"{INSIDE}/autograder/sandbox/bridge.py", options]


def command_of(backend: str, options: str, image: str = IMAGE, name: str = "") -> list[str]:
    if backend == "bwrap":
        return bwrap_command(options)
    return docker_command(options, image, "runsc" if backend == "runsc" else "", name)


def missing(backend: str, image: str = IMAGE) -> str:
    """Why a backend cannot be used here and what to do, in one line; "" where it can."""
    if backend not in BACKENDS:
        return f"there is no backend {backend!r}; there are {', '.join(BACKENDS)}"
    if sys.platform != "linux":
        return f"{backend} needs Linux"
    program = "bwrap" if backend == "bwrap" else "docker"
    if shutil.which(program) is None:
        package = "the package bubblewrap" if program == "bwrap" else "Docker Engine"
        return f"{program} is not installed: install {package}"
    if program == "bwrap":
        tried = _tried(["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"])
        return f"bwrap cannot make its namespaces here ({tried})" if tried else ""
    tried = _tried(["docker", "info", "--format", "{{json .Runtimes}}"])
    if tried:
        return f"the Docker daemon does not answer ({tried}): start it, or join its group"
    if backend == "runsc" and "runsc" not in _said(["docker", "info", "--format", "{{json .Runtimes}}"]):
        return "Docker has no runtime runsc: install gVisor, then `runsc install` and restart Docker"
    if _tried(["docker", "image", "inspect", image]):
        return f"there is no image {image}: {BUILD}"
    return ""


def _tried(words: list[str]) -> str:
    """The last line of what a command said if it failed, "" if it did not."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    lines = (done.stderr or done.stdout).strip().splitlines()
    return "" if done.returncode == 0 else " ".join((lines[-1] if lines else f"exit code {done.returncode}").split())[:200]


def _said(words: list[str]) -> str:
    try:
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=20
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def level_inside(backend: str, level: str, layers: list[str]) -> str:
    """`full` where our own layers inside are full; in a container also where they keep children from the bridge and each other.

    The container itself keeps them from network, files and the host's processes.
    """
    if level == "full":
        return "full"
    apart = {"uid-drop", "seccomp", "pid-namespace"} & set(layers)
    return "full" if backend in ("docker", "runsc") and {"rlimits", "no_new_privs"} <= set(layers) and apart else level


class Contained:
    """An Executor in a container. If the container is lost, one more is started, then the request is called crashed."""

    def __init__(
        self, backend: str, probes: list[str], level: str = "full", libraries: list[str] | None = None, image: str = IMAGE
    ):
        problem = missing(backend, image)
        if problem:
            raise SandboxError(f"--backend {backend}: {problem}")
        self._backend, self._image = backend, image
        wanted = libraries_for(probes) if libraries is None else libraries
        self._options = json.dumps({"probes": probes, "level": level, "libraries": wanted})
        self._command: Callable[[str], list[str]] = lambda name: command_of(backend, self._options, image, name)
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._name = f"climb-{os.getpid()}-{next(self._numbers)}-{os.urandom(3).hex()}"
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command(self._name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(self._backend),
            start_new_session=True,  # Ctrl-C is the grader's to handle; it ends the container
        )
        self._ready: Future = Future()
        self._waiting: dict[int, Future] = {}
        threading.Thread(target=self._listen, args=(self._process, self._ready, self._waiting), daemon=True).start()

    @staticmethod
    def _listen(process: subprocess.Popen, ready: Future, waiting: dict[int, Future]) -> None:
        """Hands each reply to who waits for it. What comes is the container's word: anything odd ends the conversation."""
        while True:
            try:
                message = read(process.stdout, 2 * MAX_BYTES)
            except (OSError, ValueError):  # closed meanwhile
                message = None
            if message is None:
                break
            head, body = message
            if not ready.done():
                ready.set_result(head)
            elif isinstance(head.get("id"), int) and (future := waiting.pop(head["id"], None)) is not None:
                future.set_result((head, body))
        if not ready.done():
            ready.set_exception(EOFError())
        for number in list(waiting):
            if (future := waiting.pop(number, None)) is not None:
                future.set_exception(EOFError())

    def _hello(self) -> dict:
        try:
            hello = self._ready.result(START_SECONDS)
        except (EOFError, WaitedTooLong):
            raise SandboxError(f"{self._backend} did not start the sandbox: {self._last_words()}") from None
        if "error" in hello or not hello.get("ready"):
            raise SandboxError(f"in {self._backend}: {str(hello.get('error', 'no answer'))[:300]}")
        if hello.get("python") != PYTHON:
            found = str(hello.get("python"))[:10]
            raise SandboxError(f"the image {self._image} has Python {found} and the grader {PYTHON}, which must agree: {BUILD}")
        return hello

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:200] if lines else f"exit code {self._process.poll()}"

    @property
    def layers(self) -> list[str]:
        return [self._backend, *map(str, self._hello()["layers"])]

    @property
    def level(self) -> str:
        hello = self._hello()
        return level_inside(self._backend, str(hello["level"]), hello["layers"])

    @property
    def note(self) -> str:
        return str(self._hello().get("note", ""))

    def run(self, request: bytes, *, seconds: float, memory_mb: int) -> Reply:
        for _ in range(2):
            self._hello()
            process = self._process
            try:
                return self._exchange(process, request, seconds, memory_mb)
            except (EOFError, OSError, ValueError, WaitedTooLong):
                self._replace(process)
        return Reply("crashed", b"", detail="it took the container with it, twice (out of memory?)")

    def _exchange(self, process: subprocess.Popen, request: bytes, seconds: float, memory_mb: int) -> Reply:
        answer: Future = Future()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = answer
            write(process.stdin, {"id": number, "seconds": seconds, "memory_mb": memory_mb}, request)
        head, body = answer.result(seconds + GRACE_SECONDS + 5)
        if "error" in head:
            raise SandboxError(f"in {self._backend}: {str(head['error'])[:300]}")
        if head.get("outcome") not in OUTCOMES or len(body) > MAX_BYTES:
            raise EOFError("no reply of the sandbox")
        printed, detail = str(head.get("printed", ""))[:8192], str(head.get("detail", ""))[:300]
        taken = head.get("seconds")
        return Reply(head["outcome"], body, printed, detail, float(taken) if isinstance(taken, (int, float)) else 0.0)

    def _replace(self, process: subprocess.Popen) -> None:
        """Starts a new container if this one is the current one, and no other thread has done so."""
        with self._lock:
            if self._process is process and not self._closed:
                self._end()
                self._start()

    def _end(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()
            except (OSError, ValueError):
                pass
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            if self._backend != "bwrap":  # the client's end is not the container's
                _tried(["docker", "kill", self._name])
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def close(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._end()

    def __enter__(self) -> Contained:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _environment(backend: str) -> dict[str, str]:
    """bwrap's is the inside's; Docker's client needs to find its daemon, and passes nothing on by itself."""
    if backend == "bwrap":
        return environment_of_server() | {"HOME": "/tmp", "TMPDIR": "/tmp"}
    return dict(os.environ)
