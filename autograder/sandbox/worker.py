"""The process behind `spawned.py`: started as `python -I worker.py`, takes requests on standard input, answers on standard output."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from autograder.sandbox import zygote
    from autograder.sandbox.child import serve
    from autograder.sandbox.messages import LENGTH

    answers = os.fdopen(os.dup(1), "wb")
    requests = os.fdopen(os.dup(0), "rb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)

    def send(data: bytes) -> None:
        answers.write(LENGTH.pack(len(data)) + data)
        answers.flush()

    zygote.preload(*json.loads(sys.argv[1]))
    zygote.forget_the_course()
    send(b"ready")
    while True:
        head = requests.read(LENGTH.size)
        if len(head) < LENGTH.size:
            return
        serve(requests.read(LENGTH.unpack(head)[0]), send)
        send(b"")  # the end, also where the file could not be imported


if __name__ == "__main__":
    main()
