"""The grader's end of the sandbox: starts the fork server and passes it one socket a request. Safe to call from many threads."""

from __future__ import annotations

import json
import os
import socket
import threading

from .errors import SandboxError
from .executor import Reply
from .preload import libraries_for
from .relay import relay
from .server import Branch, Server, fitting

DYING_SECONDS = 1.0  # from the end of its sockets to the end of the process


class Sandbox:
    """An Executor backed by one fork server. Usable at once: the first `run` waits until the server has imported its libraries."""

    def __init__(
        self,
        probes: list[str],
        level: str = "full",
        libraries: list[str] | None = None,
        server: Server | Branch | None = None,
    ):
        """server: one that was started before and that nobody has taken; else a new one."""
        self._lock, self._closed = threading.Lock(), False
        self._probes, self._asked = probes, level
        self._libraries = libraries_for(probes) if libraries is None else libraries
        self._start(server)

    def _start(self, server: Server | Branch | None = None) -> None:
        self._server, self._ready = fitting(server, self._asked), None
        self._server.serve(self._probes, self._libraries)

    def _wait(self) -> dict:
        with self._lock:
            if self._ready is None:
                try:
                    self._ready = self._server.ready()
                except SandboxError:
                    if self._closed or not isinstance(self._server, Branch):
                        raise
                    self._server.close()  # the server it was to part from is lost: this one needs it no longer
                    self._start()
                    self._ready = self._server.ready()
            return self._ready

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
            server = self._server
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
                        socket.send_fds(self._server.control, [b"run"], [file.fileno(), results_end, printed_end, theirs.fileno()])
            finally:
                theirs.close()
                os.close(results_end)
                os.close(printed_end)
            return relay(results, printed, mine, seconds)
        finally:
            mine.close()  # ends the child if it still runs
            os.close(results)
            os.close(printed)

    def _replace(self, server: Server | Branch) -> None:
        """Starts a new fork server if this one has died, or is dying, and no other thread has done so."""
        if not server.ended(DYING_SECONDS):
            return  # it lives: the child alone was lost
        with self._lock:
            if self._server is server and not self._closed:
                server.close()
                self._start()
        if self._closed:  # perhaps just now, by another thread, which knew of the old one
            self.close()
            raise SandboxError("the sandbox was closed while a check was in it")

    def close(self) -> None:
        """Ends the server. Does not wait for the lock: whoever has it may be waiting for that very server."""
        self._closed = True
        self._server.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_) -> None:
        self.close()
