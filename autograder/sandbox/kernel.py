"""Thin wrappers around the Linux calls that Python does not offer. Each raises OSError with the call's name."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import lru_cache

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 4, 24, 38, 22
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
SYS_MOUNT_SETATTR = 442  # this and the Landlock numbers are the same on every architecture

ARCHITECTURE = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())


@lru_cache(maxsize=1)
def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments) -> int:
    """A libc function by name."""
    result = getattr(libc(), name)(*arguments)
    return _checked(result, name)


def syscall(number: int, *arguments, name: str = "syscall") -> int:
    result = libc().syscall(ctypes.c_long(number), *arguments)
    return _checked(result, name)


def _checked(result: int, name: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result


def unshare(flags: int) -> None:
    call("unshare", ctypes.c_int(flags))


def setns(descriptor: int, kind: int) -> None:
    call("setns", ctypes.c_int(descriptor), ctypes.c_int(kind))


def prctl(option: int, value: int = 0, third=0) -> None:
    call("prctl", ctypes.c_int(option), ctypes.c_ulong(value), third if third else ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind)]
    call("mount", *encoded, ctypes.c_ulong(flags), None if data is None else data.encode())


def read_only_beneath(target: str) -> None:
    """Makes a mount and every mount beneath it read-only, without set-uid and without devices (Linux 5.12)."""

    class Attributes(ctypes.Structure):
        _fields_ = [(n, ctypes.c_uint64) for n in ("set", "clear", "propagation", "userns")]

    recursive, at_cwd = 0x8000, -100
    wanted = Attributes(set=MS_RDONLY | MS_NOSUID)  # MOUNT_ATTR_RDONLY and MOUNT_ATTR_NOSUID have the same bits
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    path = target.encode()
    syscall(SYS_MOUNT_SETATTR, ctypes.c_int(at_cwd), path, ctypes.c_uint(recursive), ctypes.byref(wanted), size, name="mount_setattr")


def pivot_root(new: str, old: str) -> None:
    syscall(SYS_PIVOT_ROOT[ARCHITECTURE], new.encode(), old.encode(), name="pivot_root")


def drop_capabilities() -> None:
    """Empties the effective, permitted and inheritable capability sets; works with and without any."""

    class Header(ctypes.Structure):
        _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]

    header, empty = Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
    syscall(SYS_CAPSET[ARCHITECTURE], ctypes.byref(header), ctypes.byref(empty), name="capset")
