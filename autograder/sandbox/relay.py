"""The grader's side of one child: reads its results and what it prints, up to a cap and a deadline, and learns how it ended."""

from __future__ import annotations

import json
import os
import selectors
import socket
import time

from .executor import Reply
from .supervisor import CONFINED
from .wire import MAX_BYTES

PRINTED_BYTES = 8192  # of what learner code prints; the rest is read and thrown away
END = b'{"done": true}'
LAST_WORDS_SECONDS = 1.0  # for the fork server to say how a child ended that closed its results


def relay(results: int, printed: int, status: socket.socket, seconds: float) -> Reply:
    """Waits for one child. The caller closes all three afterwards, which ends the child if it still runs.

    A child whose results do not begin with CONFINED never came to learner code: it is called refused, and no exit code of a
    learner's can make it so. Raises EOFError if the fork server itself is gone, or the child was killed before it was confined.
    """
    started = time.monotonic()
    stream, said = bytearray(), bytearray()

    def reply(outcome: str, detail: str = "", kept: bytes | None = None) -> Reply:
        text = bytes(said).decode("utf-8", "replace")
        return Reply(outcome, bytes(stream[len(CONFINED) :]) if kept is None else kept, text, detail, time.monotonic() - started)

    with selectors.DefaultSelector() as selector:
        for source in (results, printed):
            selector.register(source, selectors.EVENT_READ)
        while True:
            left = started + seconds - time.monotonic()
            if left <= 0:
                return reply("timeout")
            for key, _ in selector.select(left):
                data = os.read(key.fd, 1 << 16)
                if key.fd == printed:
                    said += data[: PRINTED_BYTES - len(said)]
                    if not data:
                        selector.unregister(printed)
                    continue
                stream += data
                if len(stream) > MAX_BYTES:
                    return reply("flooded", kept=b"")
                if stream.endswith(END):
                    _drain(printed, said)
                    return reply("finished")
                if not data:  # it ended without the end: a crash, an exit, or no sandbox around it
                    _drain(printed, said)
                    ending = _ending(status)
                    if stream:
                        return reply("crashed", ending["detail"])
                    if ending["exited"]:
                        return reply("refused", "the sandbox could not be closed around it")
                    raise EOFError(ending["detail"])


def _drain(printed: int, said: bytearray) -> None:
    """What was printed and not yet read."""
    os.set_blocking(printed, False)
    while len(said) < PRINTED_BYTES:
        try:
            data = os.read(printed, PRINTED_BYTES - len(said))
        except BlockingIOError:
            return
        if not data:
            return
        said += data


def _ending(status: socket.socket) -> dict:
    status.settimeout(LAST_WORDS_SECONDS)
    try:
        message = status.recv(4096)
    except TimeoutError:
        return {"exited": False, "detail": "it closed its results and went on"}
    if not message:
        raise EOFError("the fork server is gone")
    return json.loads(message)
