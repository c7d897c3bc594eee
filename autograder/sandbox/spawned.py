"""Level `process`, for systems without Linux's sandbox (macOS, Windows): workers started afresh, time and size bounded, no more.

A worker answers one check after the other and is replaced when it ran out of time, crashed or flooded. So the checks of one
file share a process here, and nothing keeps the code from the network or the disk: right for a learner's own files, not for
other people's. Results say level `process`, and grading other people's code has to be told to accept that.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

from .client import environment_of_server
from .errors import SandboxError
from .executor import Reply
from .messages import LENGTH
from .preload import libraries_for
from .wire import MAX_BYTES

WORKER = Path(__file__).with_name("worker.py")
START_SECONDS = 120.0


class SpawnedWorkers:
    """An Executor of interchangeable workers; as many run as threads call `run` at the same time."""

    level, layers, note = "process", ["spawned"], "no operating-system sandbox here: code can read files and use the network"

    def __init__(self, probes: list[str], libraries: list[str] | None = None):
        self._asked = [probes, libraries_for(probes) if libraries is None else libraries]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        self._all: list[_Worker] = []
        self._lock = threading.Lock()
        self._idle.put(self._started())  # the first one imports its libraries while the caller goes on

    def _started(self) -> _Worker:
        worker = _Worker(self._asked)
        with self._lock:
            self._all.append(worker)
        return worker

    def run(self, request: bytes, *, seconds: float, memory_mb: int) -> Reply:
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = self._started()
        reply = worker.run(request, seconds)
        if reply.outcome == "finished":
            self._idle.put(worker)
        else:
            worker.close()
        return reply

    def close(self) -> None:
        for worker in self._all:
            worker.close()

    def __enter__(self) -> SpawnedWorkers:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _Worker:
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
                code = self.process.wait()
                how = f"ended by signal {-code}" if code < 0 else f"it called exit (code {code})"
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
