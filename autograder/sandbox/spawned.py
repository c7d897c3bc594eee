"""Level `process`, for systems without Linux's sandbox (macOS, Windows): workers started afresh, time and size bounded, no more.

A worker answers one check after the other and is replaced when it ran out of time, crashed or flooded. So the checks of one
submission share a process here, but no two submissions do: what one leaves behind in a process could spoil another's answers.
And nothing keeps the code from the network or the disk: right for a learner's own files, not for other people's. Results say
level `process`, and grading other people's code has to be told to accept that.
"""

from __future__ import annotations

import hashlib
import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

from .server import environment_of_server
from .errors import SandboxError
from .executor import Reply
from .messages import LENGTH
from .preload import libraries_for
from .wire import MAX_BYTES, take

WORKER = Path(__file__).with_name("worker.py")
START_SECONDS = 120.0
GRACE_SECONDS = 1.0  # beyond a check's limit, until the process is ended whatever it does
KEPT = 8  # workers that wait for more of their submission's checks


class SpawnedWorkers:
    """An Executor of interchangeable workers; as many run as threads call `run` at the same time."""

    level, layers, note = "process", ["spawned"], "no operating-system sandbox here: code can read files and use the network"

    def __init__(self, probes: list[str], libraries: list[str] | None = None):
        self._asked = [probes, libraries_for(probes) if libraries is None else libraries]
        self._all: list[_Worker] = []
        self._idle: list[_Worker] = []  # the longest idle first
        self._lock = threading.Lock()
        self._idle.append(self._started())  # the first one imports its libraries while the caller goes on

    def _started(self) -> _Worker:
        worker = _Worker(self._asked)
        self._all.append(worker)
        return worker

    def run(self, request: bytes, *, seconds: float, memory_mb: int) -> Reply:
        worker = self._worker_for(submission_of(request))
        reply = worker.run(request, seconds)
        if reply.outcome == "finished":
            with self._lock:
                self._idle.append(worker)
        else:
            worker.close()
        return reply

    def _worker_for(self, submission: str) -> _Worker:
        """An idle worker that has served this submission or none, else a new one; a fresh one is kept ready for the next."""
        with self._lock:
            fitting = [worker for worker in self._idle if worker.submission == submission]
            fitting += [worker for worker in self._idle if worker.submission is None]
            worker = fitting[0] if fitting else self._started()
            self._idle = [other for other in self._idle if other is not worker]
            if worker.submission is None and not [other for other in self._idle if other.submission is None]:
                self._idle.append(self._started())
            worker.submission = submission
            surplus = [other for other in self._idle if other.submission is not None][:-KEPT]
            self._idle = [other for other in self._idle if other not in surplus]
        for other in surplus:
            other.close()
        return worker

    def close(self) -> None:
        with self._lock:
            for worker in self._all:
                worker.close()

    def __enter__(self) -> SpawnedWorkers:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def submission_of(request: bytes) -> str:
    """What tells the submissions of two requests apart: the text of their files."""
    head, _ = take(request)
    return hashlib.sha256(json.dumps(head["sources"], sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()


class _Worker:
    submission: str | None = None  # whose code has run in it

    def __init__(self, asked: list[list[str]]):
        command = [sys.executable, "-I", str(WORKER), json.dumps(asked)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment_of_server())
        self.messages: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.ready = False

    def run(self, request: bytes, seconds: float) -> Reply:
        if not self.ready:
            if self._next(START_SECONDS) != b"ready":
                raise SandboxError("the worker process did not start; does `python -c 'import torch'` work?")
            self.ready = True
        watch = threading.Timer(
            seconds + GRACE_SECONDS, self.process.kill
        )  # a worker that reads no request would hold us in `write`
        watch.start()
        try:
            return self._exchange(request, seconds)
        finally:
            watch.cancel()

    def _exchange(self, request: bytes, seconds: float) -> Reply:
        started = time.monotonic()
        try:
            self.process.stdin.write(LENGTH.pack(len(request)) + request)
            self.process.stdin.flush()
        except OSError:
            return Reply("crashed", b"", detail="the process was gone")
        stream = b""
        while True:
            try:
                message = self._next(seconds - (time.monotonic() - started))
            except queue.Empty:
                return Reply("timeout", stream, seconds=time.monotonic() - started)
            if message is None:
                try:
                    code = self.process.wait(GRACE_SECONDS)
                    how = f"ended by signal {-code}" if code < 0 else f"it called exit (code {code})"
                except subprocess.TimeoutExpired:
                    how = "it closed its results, or wrote into them, and went on"
                return Reply("crashed", stream, detail=how, seconds=time.monotonic() - started)
            stream += message
            if len(stream) > MAX_BYTES:
                return Reply("flooded", b"", seconds=time.monotonic() - started)
            if message == b"":
                return Reply("finished", stream, seconds=time.monotonic() - started)

    def _next(self, seconds: float) -> bytes | None:
        return self.messages.get(timeout=max(seconds, 0.001))

    def _read(self) -> None:
        """Length-prefixed messages from the worker into the queue, None at the end."""
        source = self.process.stdout
        while True:
            head = source.read(LENGTH.size)
            length = LENGTH.unpack(head)[0] if len(head) == LENGTH.size else MAX_BYTES + 1
            body = source.read(length) if length <= MAX_BYTES else b""
            if length > MAX_BYTES or len(body) < length:
                self.messages.put(None)
                return
            self.messages.put(body)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()
