"""Runs a command as on another host: as an ordinary user, or on a kernel that lacks some protections.

    python tests/attacks/hosts.py [--user] [--without namespaces,landlock,scopes,seccomp] COMMAND...

--user needs root. A folder of root's above the interpreter or the course that is closed to others (a Python below /root) is
covered, in a mount namespace of the command's own, by one that is open and holds only what is needed. --without installs a
seccomp filter that answers as an older kernel would; nothing of the sandbox's own code is touched.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import struct
import sys
import tempfile
from pathlib import Path

from autograder.sandbox import kernel, seccomp

ROOT = Path(__file__).resolve().parents[2]
USER = 61234  # of nobody here: no process but ours runs under it
PR_SET_SECCOMP = kernel.PR_SET_SECCOMP
# feature: {call: (x86_64, aarch64)}, and how a kernel without the feature answers
CALLS = {
    "namespaces": ({"unshare": (272, 97), "setns": (308, 268)}, errno.EPERM),
    "landlock": ({"create": (444, 444), "add": (445, 445), "restrict": (446, 446)}, errno.ENOSYS),
    "mount": ({"mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41)}, errno.EACCES),
    "mount_setattr": ({"mount_setattr": (442, 442)}, errno.ENOSYS),
}
PRCTL, SECCOMP = {"x86_64": 157, "aarch64": 167}, {"x86_64": 317, "aarch64": 277}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--user", action="store_true")
    parser.add_argument(
        "--without", default="", help="features, separated by commas: namespaces, landlock, seccomp, mount, mount_setattr"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if os.geteuid() == 0:
        open_the_way([sys.prefix, os.path.realpath(sys.base_prefix), str(ROOT)])
    if options.user:
        become_user()
    if options.without:
        install(without(options.without.split(",")))
    os.execvp(options.command[0], options.command)


def become_user(uid: int = USER) -> None:
    """Turns this process of root's into one of an ordinary user's."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.environ.update(HOME=tempfile.gettempdir(), USER="learner", LOGNAME="learner", PYTHONDONTWRITEBYTECODE="1")
    os.umask(0o022)


def open_the_way(needed: list[str]) -> None:
    """Makes these folders reachable for everybody, in a mount namespace of this process's own."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    closed = {folder for path in needed for folder in map(str, Path(path).parents) if not os.stat(folder).st_mode & 0o001}
    highest = [folder for folder in sorted(closed, key=len) if not any(folder.startswith(other + "/") for other in closed)]
    for folder in highest:
        inside = [path for path in needed if path.startswith(folder + "/")]
        held = {path: os.open(path, os.O_PATH) for path in inside}  # they cannot be named once the folder is covered
        kernel.mount("tmpfs", folder, "tmpfs", kernel.MS_NOSUID, "size=1m,mode=755")
        for path in sorted(inside, key=len):
            if not os.path.isdir(path):  # it may lie in one that is there by now
                os.makedirs(path)
                kernel.mount(f"/proc/self/fd/{held[path]}", path, None, kernel.MS_BIND | kernel.MS_REC)
        for descriptor in held.values():
            os.close(descriptor)


def without(features: list[str]) -> bytes:
    """A seccomp program under which these features are missing."""
    column = 0 if kernel.ARCHITECTURE == "x86_64" else 1
    steps = [(seccomp.LOAD, 0, 0, seccomp.NUMBER_AT)]
    for feature in features:
        if feature == "seccomp":  # the call, and prctl with its option; the load of the option is undone after it
            steps += [(seccomp.JUMP_EQ, 0, 1, SECCOMP[kernel.ARCHITECTURE]), (seccomp.RETURN, 0, 0, seccomp.ERRNO | errno.EINVAL)]
            steps += [(seccomp.JUMP_EQ, 0, 4, PRCTL[kernel.ARCHITECTURE]), (seccomp.LOAD, 0, 0, seccomp.FIRST_ARGUMENT_AT)]
            steps += [(seccomp.JUMP_EQ, 0, 1, PR_SET_SECCOMP), (seccomp.RETURN, 0, 0, seccomp.ERRNO | errno.EINVAL)]
            steps += [(seccomp.RETURN, 0, 0, seccomp.ALLOW)]
            continue
        calls, answer = CALLS[feature]
        for numbers in calls.values():
            steps += [(seccomp.JUMP_EQ, 0, 1, numbers[column]), (seccomp.RETURN, 0, 0, seccomp.ERRNO | answer)]
    steps += [(seccomp.RETURN, 0, 0, seccomp.ALLOW)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def install(program: bytes) -> None:
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    holder = seccomp._Program(len(program) // 8, program)
    kernel.prctl(PR_SET_SECCOMP, 2, ctypes.byref(holder))


if __name__ == "__main__":
    main()
