"""Opens a sandbox, looks around from inside a child, and prints what it saw as JSON. Run by the tests, also as on other hosts.

python tests/attacks/observe.py [LEVEL]     exit 3, with the error as JSON, where the sandbox refuses the level
"""

from __future__ import annotations

import json
import os
import socket
import sys

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from attacks import target
from autograder.checks import checks_in
from autograder.grading.oracle import Oracle
from autograder.sandbox import open_sandbox
from autograder.sandbox.errors import SandboxError

LOOK = """
import ctypes, errno, json, os, resource, socket
libc = ctypes.CDLL(None, use_errno=True)

def outcome(step):
    try:
        return step()
    except OSError as error:
        return errno.errorcode.get(error.errno, "error")

def called(name, *arguments):
    result = getattr(libc, name)(*arguments)
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]

capabilities = (ctypes.c_uint32 * 6)(*[1] * 6)
libc.capget((0x20080522).to_bytes(4, "little") + bytes(4), capabilities)
seen = {
    "pid": os.getpid(),
    "uids": os.getresuid(),
    "groups": os.getgroups(),
    "limits": {n: resource.getrlimit(getattr(resource, "RLIMIT_" + n)) for n in "NOFILE FSIZE CORE AS CPU NPROC".split()},
    "capabilities": list(capabilities),
    "no_new_privs": libc.prctl(39, 0, 0, 0, 0),
    "filter": libc.prctl(21, 0, 0, 0, 0),
    "list of /": outcome(lambda: "listed" if os.listdir("/") else ""),
    "/etc/passwd": outcome(lambda: open("/etc/passwd").read(1)),
    "/proc": outcome(lambda: os.stat("/proc/self") and "there"),
    "write a library": outcome(lambda: open(os.path.dirname(os.__file__) + "/evil.py", "w") and "written"),
    "write scratch": outcome(lambda: open("mine", "w") and "written"),
    "socket": outcome(lambda: socket.socket() and "made"),
    "connect": outcome(lambda: socket.create_connection(("127.0.0.1", {PORT}), 1) and "connected"),
    "fork": outcome(lambda: "forked" if os.fork() else os._exit(0)),
    "signal outside": outcome(lambda: os.kill({OUTSIDE}, 0) or "sent"),
    "queue outside": called("msgget", {KEY}, 0),
    "root again": outcome(lambda: os.setresuid(0, 0, 0) or "root") if os.getuid() else called("chroot", b"/"),
}
print(json.dumps(seen))
"""


def look(sandbox, check, oracle) -> dict:
    """What a child of this sandbox sees, and what the sandbox says of itself."""
    import ctypes

    key = 0x5EC2E7 + os.getpid()
    queue = ctypes.CDLL(None).msgget(key, 0o1666)
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = {"PORT": str(server.getsockname()[1]), "OUTSIDE": str(os.getpid()), "KEY": str(key)}
        attack = target.Attack("look", at_import=LOOK)
        reply = sandbox.run(target.request(check, attack.source(words), oracle), seconds=20, memory_mb=check.memory_mb)
    ctypes.CDLL(None).msgctl(queue, 0, None)
    return {"layers": sandbox.layers, "level": sandbox.level, "note": sandbox.note, "seen": json.loads(reply.printed)}


def main() -> None:
    module = __import__("autograder.checks." + target.MODULE, fromlist=["x"])
    check = checks_in(module)[0]
    try:
        with open_sandbox([target.MODULE], sys.argv[1] if len(sys.argv) > 1 else None) as sandbox:
            print(json.dumps(look(sandbox, check, Oracle(target.MODULE, target.SEED))))
    except SandboxError as error:
        print(json.dumps({"refused": str(error)}))
        sys.exit(3)


if __name__ == "__main__":
    main()
