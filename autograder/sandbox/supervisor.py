"""The fork server's loop: one confined child a check, killed when the grader hangs up, reaped when it ends.

For each check the grader passes four descriptors: the request to be read, the pipe for results, the pipe for what is printed,
and a status socket. The server reads none of the first three: the child does. So no submission's bytes enter the server's memory,
which all later children inherit. The grader keeps the clock and counts the bytes; closing its end of the status socket is how it
ends a child, and how everything ends if the grader itself dies.
"""

from __future__ import annotations

import dataclasses
import json
import os
import selectors
import signal
import socket
import sys
import tempfile

from . import jail, limits, scratch

CONFINED = b"+"  # the child's first byte, written when all layers hold and no learner code has run yet
OVERFULL = {"exited": False, "detail": f"it wrote more than {scratch.BYTES >> 20} MiB or {scratch.ENTRIES} files"}
DESCRIPTORS = 4
RESULTS_AT = 3  # the child's descriptor for results


class Supervisor:
    """Serves the control socket until the grader closes it."""

    def __init__(self, control: socket.socket, plan: limits.Plan, own_pid_namespace: int | None):
        self.control, self.plan, self.own_pid_namespace = control, plan, own_pid_namespace
        self.selector = selectors.DefaultSelector()
        self.children: dict[int, socket.socket] = {}  # pid -> its status socket
        self.folders: dict[int, str] = {}  # pid -> where it may write, if that has to be looked after (see `scratch`)
        self.overfull: set[int] = set()
        self.count = int.from_bytes(os.urandom(3), "big")  # of users already given: two graders are to give different ones

    def layers_that_hold(self) -> list[str]:
        """What remains of the plan's layers when a child tries to enter them. Only these are reported, and asked of every child."""
        answer, ours = os.pipe()
        child = self._fork()
        if child == 0:
            try:
                if self.plan.has("own-root"):
                    jail.mount_scratch()
                ruleset = self.plan.rules(self.plan.scratch) if self.plan.has("landlock") else -1
                os.write(
                    ours, " ".join(limits.enterable(self.plan, self.plan.uids[0] if self.plan.uids else 0, ruleset)).encode()
                )
            finally:
                os._exit(0)
        os.close(ours)
        with open(answer, "rb") as file:
            held = set(file.read().decode().split())
        os.waitpid(child, 0)
        held |= {"landlock-scopes"} & set(self.plan.layers if "landlock" in held else [])
        of_each_child = {"landlock-scopes", *(name for name, _ in limits.steps(self.plan, 0, 0, 0, 0))}
        return [layer for layer in self.plan.layers if layer in held or layer not in of_each_child]

    def loop(self) -> None:
        bell, ringer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
        os.set_blocking(ringer, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(ringer, warn_on_full_buffer=False)
        self.selector.register(self.control, selectors.EVENT_READ)
        self.selector.register(bell, selectors.EVENT_READ)
        while True:
            for child, folder in self.folders.items():
                if child not in self.overfull and scratch.too_full(folder):
                    self.overfull.add(child)
                    self._kill(child)
            for key, _ in self.selector.select(scratch.LOOK_SECONDS if self.folders else None):
                if key.fileobj is self.control:
                    self._start()
                elif key.fd == bell:
                    os.read(bell, 4096)
                    self._reap()
                elif key.data in self.children:  # the grader hung up on this one
                    self.selector.unregister(key.fileobj)
                    self._kill(key.data)

    def _start(self) -> None:
        message, descriptors, _, _ = socket.recv_fds(self.control, 16, DESCRIPTORS)
        if not message:
            for child in self.children:
                self._kill(child)
            os._exit(0)
        status = socket.socket(fileno=descriptors[3])
        self.count += 1
        uid = self.plan.uids[self.count % len(self.plan.uids)] if self.plan.uids else 0
        plan, folder = self.plan, ""
        if plan.has("landlock") and not plan.has("own-root"):
            folder = scratch.make(plan.scratch, str(self.count), uid if plan.has("uid-drop") else None)
            plan = dataclasses.replace(plan, scratch=folder)
        child = self._fork()
        if child == 0:
            _become_child(plan, *descriptors[:3], uid)
        for descriptor in descriptors[:3]:
            os.close(descriptor)
        self.children[child] = status
        if folder:
            self.folders[child] = folder
        self.selector.register(status, selectors.EVENT_READ, child)

    def _fork(self) -> int:
        """A child that is the first process of a PID namespace of its own: when it ends, the kernel ends all it started."""
        if self.own_pid_namespace is None:
            return os.fork()
        return jail.fork_apart(self.own_pid_namespace)

    def _kill(self, child: int) -> None:
        if self.own_pid_namespace is None:
            _ignoring_absence(os.killpg, child)  # the child leads a session of its own
        _ignoring_absence(os.kill, child)

    def _reap(self) -> None:
        while self.children:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            if self.own_pid_namespace is None:  # while it is unreaped its number is no other group's
                _ignoring_absence(os.killpg, ended.si_pid)
            child, code = os.waitpid(ended.si_pid, 0)
            if child in self.folders:
                scratch.remove(self.folders.pop(child))
            status = self.children.pop(child, None)
            if status is None:
                continue
            try:
                self.selector.unregister(status)
            except KeyError:
                pass  # it was hung up on
            try:
                status.send(json.dumps(_how_it_ended(code) if child not in self.overfull else OVERFULL).encode())
            except OSError:
                pass
            status.close()
            self.overfull.discard(child)


def _ignoring_absence(kill, pid: int) -> None:
    try:
        kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def _how_it_ended(status: int) -> dict:
    if os.WIFEXITED(status):
        return {"exited": True, "detail": f"it called exit (code {os.WEXITSTATUS(status)})"}
    number = os.WTERMSIG(status)
    name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
    meaning = {
        "SIGSEGV": "a memory fault",
        "SIGXCPU": "out of processor time",
        "SIGXFSZ": "a file too large",
        "SIGKILL": "killed",
    }.get(name)
    return {"exited": False, "detail": f"ended by {name}" + (f" ({meaning})" if meaning else "")}


def _become_child(plan: limits.Plan, request_from: int, results: int, printed: int, uid: int):
    """Never returns. Until `confine` is through, this is still our code; after it, nothing here is trusted."""
    code = 1
    confined = False
    try:
        signal.set_wakeup_fd(-1)
        options, request = _read_request(request_from)
        for source, target in ((os.open(os.devnull, os.O_RDONLY), 0), (printed, 1), (printed, 2)):
            os.dup2(source, target)
        kept = os.dup2(results, limits.HIGH_DESCRIPTOR)  # out of the way while 3 and 4 may still be in use
        made = plan.rules(plan.scratch) if plan.has("landlock") else -1
        ruleset = os.dup2(made, kept + 1) if made >= 0 else -1
        os.closerange(3, kept)
        os.dup2(kept, RESULTS_AT)
        os.close(kept)
        os.closerange(kept + (2 if ruleset >= 0 else 1), limits.highest_descriptor())
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        if plan.has("own-root"):
            jail.mount_scratch()
        os.chdir(plan.scratch)
        os.environ.update({"HOME": plan.scratch, "TMPDIR": plan.scratch, "MPLCONFIGDIR": plan.scratch})
        tempfile.tempdir = None  # it may have been looked for before
        os.umask(0o077)
        limits.confine(plan, options["seconds"], options["memory_mb"], uid, ruleset)
        os.write(RESULTS_AT, CONFINED)
        confined = True
        from .child import serve

        serve(request, lambda data: _write_all(RESULTS_AT, data))
        code = 0
    except BaseException as error:
        if not confined:
            os.write(2, f"{type(error).__name__}: {error}".encode()[:300])
    finally:
        os._exit(code)


def _read_request(descriptor: int) -> tuple[dict, bytes]:
    """Options as one line of JSON, then the request."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return json.loads(file.readline()), file.read()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def unreadable_libraries() -> str:
    """A note if a child with another user could not read Python's own files (a Python below /root, say)."""
    for folder in jail.library_folders():
        path = folder
        while path != "/":
            if not os.stat(path).st_mode & 0o001:
                return f"{path} is closed to other users, so late imports fail: install Python elsewhere or grade as an ordinary user"
            path = os.path.dirname(path)
    return ""
