"""Length-prefixed messages over a socket, between the grader and the fork server's supervisors."""

from __future__ import annotations

import socket
import struct

LENGTH = struct.Struct(">Q")


def send(line: socket.socket, data: bytes) -> None:
    line.sendall(LENGTH.pack(len(data)) + data)


def receive(line: socket.socket) -> bytes:
    """One length-prefixed message. Raises EOFError if the other end hangs up within it."""
    (length,) = LENGTH.unpack(_exactly(line, LENGTH.size))
    return bytes(_exactly(line, length))


def _exactly(line: socket.socket, count: int) -> bytearray:
    data = bytearray()
    while len(data) < count:
        part = line.recv(min(1 << 20, count - len(data)))
        if not part:
            raise EOFError("the other end hung up")
        data += part
    return data
