"""Messages between the grader and a process that it started: the length first, then the rest."""

from __future__ import annotations

import json
import struct
from typing import BinaryIO

LENGTH = struct.Struct(">Q")
MOST = 1 << 30  # bytes of one message: far more than any, and no more than memory holds


def write(stream: BinaryIO, head: dict, body: bytes = b"") -> None:
    """One message of a line of JSON and bytes."""
    line = json.dumps(head).encode() + b"\n"
    stream.write(LENGTH.pack(len(line) + len(body)) + line + body)
    stream.flush()


def read(stream: BinaryIO, most: int = MOST) -> tuple[dict, bytes] | None:
    """The next such message; None at the end, and for what is none."""
    before = stream.read(LENGTH.size)
    size = LENGTH.unpack(before)[0] if len(before) == LENGTH.size else most + 1
    data = stream.read(size) if size <= most else b""
    if size > most or len(data) < size:
        return None
    line, _, body = data.partition(b"\n")
    try:
        head = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return (head, body) if isinstance(head, dict) else None
