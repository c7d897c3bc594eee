"""What binds the child: its resource limits, its user, its privileges, and the layers above them, applied in the one right order."""

from __future__ import annotations

import os
import resource
import signal
from dataclasses import dataclass, field
from typing import Callable

from . import kernel, landlock, seccomp

FILE_BYTES = 16 << 20  # the largest file the child may write
OPEN_FILES = 128
TASKS = 64  # threads: the filter allows no further processes
HIGH_DESCRIPTOR = 200  # above all that the fork server has open beside its status sockets
FIRST_UID = 0x60000000  # far beyond any real user; each child of root gets one of its own
UIDS = 1 << 24
OVERFLOW_UID = 65534  # stands for all that are not mapped


@dataclass
class Plan:
    """Which protections are to be applied. `layers` is what results report; a layer that cannot be applied ends the child."""

    layers: list[str] = field(default_factory=list)
    scratch: str = ""
    readable: tuple[list[str], list[str]] = ((), ())  # to be read with all that is in it; to be listed only
    ruleset: int = -1  # Landlock's, made once by the fork server where all children write to the same place
    base_bytes: int = 0  # address space of the fork server before any learner code
    uids: range = range(FIRST_UID, FIRST_UID + UIDS)  # one for each child of root

    def has(self, layer: str) -> bool:
        return layer in self.layers

    def rules(self, writable: str) -> int:
        """A descriptor of Landlock's rules for a child that may write to `writable`."""
        if self.ruleset >= 0:
            return os.dup(self.ruleset)
        return landlock.ruleset(*self.readable, [writable, "/dev/null"])


def level_of(layers: list[str]) -> str:
    """`full` when files, network, processes and privileges are all cut off, else `process`."""
    apart = {"network-namespace", "pid-namespace", "own-root"} <= set(layers) or "seccomp" in layers  # unix sockets are files
    own_user = "uid-drop" in layers or "user-namespace" in layers or "unprivileged" in layers
    return "full" if {"rlimits", "no_new_privs", "landlock"} <= set(layers) and apart and own_user else "process"


def confine(plan: Plan, seconds: float, memory_mb: int, uid: int, ruleset: int) -> None:
    """Run in the child before any learner code. Raises OSError if a layer of the plan cannot be applied: then nothing is run.

    `uid`: the user a child of root becomes; its own, so that limits counted per user are its own too. `ruleset`: a copy of the plan's.
    """
    os.setsid()
    for layer, enter in steps(plan, seconds, memory_mb, uid, ruleset):
        if plan.has(layer):
            enter()


def enterable(plan: Plan, uid: int, ruleset: int) -> list[str]:
    """The layers of the plan that this process could enter, one after the other. It is confined by them from now on."""
    entered = []
    for layer, enter in steps(plan, 10.0, 1024, uid, ruleset):
        try:
            if plan.has(layer):
                enter()
                entered.append(layer)
        except OSError:
            pass
    return entered


def steps(plan: Plan, seconds: float, memory_mb: int, uid: int, ruleset: int) -> list[tuple[str, Callable[[], None]]]:
    """The layers of a child's own, in the order in which they can be entered: each takes away what an earlier one needed."""
    return [
        ("user-namespace-each", lambda: kernel.unshare(kernel.CLONE_NEWUSER)),
        ("rlimits", lambda: set_limits(plan, seconds, memory_mb)),
        ("uid-drop", lambda: become(uid)),
        ("capabilities", kernel.drop_capabilities),
        ("no_new_privs", give_up_privileges),
        ("landlock", lambda: landlock.enforce(ruleset)),
        ("seccomp", lambda: seccomp.install(plan.has("own-root"))),
    ]


def become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def give_up_privileges() -> None:
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


def users(uid_map: str) -> range:
    """The user ids for children of root, out of /proc/self/uid_map: far beyond all others, or where only some are mapped (in a
    container of an ordinary user's), the upper half of the largest span. Empty where there is no second user."""
    spans = [(int(first), int(count)) for first, _, count in (line.split() for line in uid_map.splitlines())]
    if any(first <= FIRST_UID and FIRST_UID + UIDS <= first + count for first, count in spans):
        return range(FIRST_UID, FIRST_UID + UIDS)
    first, count = max(spans, key=lambda span: span[1], default=(0, 0))
    end = first + count
    return range(first + (count + 1) // 2, min(end, OVERFLOW_UID) if first <= OVERFLOW_UID else end)


def highest_descriptor() -> int:
    """One above any descriptor that can be open."""
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 1 << 20)


def set_limits(plan: Plan, seconds: float, memory_mb: int) -> None:
    cpu = int(seconds) + 2  # the supervisor's clock ends it first; this holds if the supervisor does not
    bounds = {
        "RLIMIT_CPU": cpu,
        "RLIMIT_FSIZE": FILE_BYTES,
        "RLIMIT_NOFILE": OPEN_FILES,
        "RLIMIT_CORE": 0,
        "RLIMIT_STACK": 64 << 20,
        "RLIMIT_MEMLOCK": 1 << 20,
        "RLIMIT_MSGQUEUE": 0,
    }
    if plan.base_bytes:
        bounds["RLIMIT_AS"] = plan.base_bytes + (memory_mb << 20)
    if plan.has("uid-drop") or plan.has("user-namespace"):
        bounds["RLIMIT_NPROC"] = TASKS  # counted per user: with a shared user it would count the learner's whole desktop
    for name, bound in bounds.items():
        number = getattr(resource, name, None)
        if number is None:
            continue
        _, hard = resource.getrlimit(number)
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        try:
            resource.setrlimit(number, (bound, bound))
        except (ValueError, OSError):
            if plan.has("rlimits") and name in ("RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE"):
                raise OSError(f"{name} cannot be set") from None
