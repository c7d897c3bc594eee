"""The inside of a backend: started in a container as `python -I bridge.py OPTIONS`, it runs the sandbox for a grader outside.

Requests come on standard input and replies go out on standard output, each with its length before it: a line of JSON, then bytes.
No expected answer ever crosses. Within the container each check is a forked child under all the layers that are to be had there.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from autograder.sandbox.client import Sandbox
    from autograder.sandbox.errors import SandboxError
    from autograder.sandbox.messages import read, write

    answers = os.fdopen(os.dup(1), "wb")
    requests = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    lock = threading.Lock()

    def send(head: dict, body: bytes = b"") -> None:
        with lock:
            write(answers, head, body)

    options = json.loads(sys.argv[1])
    try:
        with Sandbox(options["probes"], options["level"], options["libraries"]) as sandbox:
            version = ".".join(map(str, sys.version_info[:2]))
            send({"ready": True, "level": sandbox.level, "layers": sandbox.layers, "note": sandbox.note, "python": version})

            def answer(head: dict, request: bytes) -> None:
                try:
                    reply = sandbox.run(request, seconds=head["seconds"], memory_mb=head["memory_mb"])
                    told = {
                        "outcome": reply.outcome,
                        "printed": reply.printed,
                        "detail": reply.detail,
                        "seconds": reply.seconds,
                    }
                    send({"id": head["id"], **told}, reply.stream)
                except SandboxError as error:
                    send({"id": head["id"], "error": str(error)})

            while (message := read(requests)) is not None:
                threading.Thread(target=answer, args=message, daemon=True).start()
    except SandboxError as error:
        send({"error": str(error)})
    os._exit(0)  # threads that wait for a child need not be waited for: who asked has gone


if __name__ == "__main__":
    main()
