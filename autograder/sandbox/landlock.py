"""Landlock: the child may read the libraries, write its scratch folder, and nothing else; no TCP, no abstract sockets, no signals out.

Source: the kernel's user-space API documentation of Landlock; ABI 1 is Linux 5.13, ABI 4 adds TCP, ABI 6 adds scopes.
"""

from __future__ import annotations

import ctypes
import os

from . import kernel

CREATE, ADD_RULE, RESTRICT = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
FIRST_ABI_RIGHTS = (1 << 13) - 1  # execute to make_sym
MAKE_SPECIAL = 1 << 6 | 1 << 9 | 1 << 11  # character devices, sockets, block devices
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15  # ABI 2, 3, 5
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
TCP_BIND_CONNECT = 3  # ABI 4
SCOPE_ABSTRACT_UNIX, SCOPE_SIGNAL = 1, 2  # ABI 6


class _Ruleset(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def abi() -> int:
    """The kernel's Landlock version, 0 where there is none."""
    try:
        return kernel.syscall(CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1), name="landlock_create_ruleset")
    except OSError:
        return 0


def ruleset(readable: list[str], listed: list[str], writable: list[str]) -> int:
    """A descriptor of the rules, to be made once and enforced by every child. Paths that do not exist stay forbidden."""
    version = abi()
    if version < 1:
        raise OSError("landlock: this kernel has none")
    handled = (
        FIRST_ABI_RIGHTS | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0) | (IOCTL_DEV if version >= 5 else 0)
    )
    rules = _Ruleset(handled, TCP_BIND_CONNECT if version >= 4 else 0, SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    made = kernel.syscall(CREATE, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0), name="landlock_create_ruleset")
    for path in readable:
        _allow(made, path, READ_FILE | READ_DIR)
    for path in listed:
        _allow(made, path, READ_DIR)
    for path in writable:
        _allow(made, path, handled & ~EXECUTE & ~IOCTL_DEV & ~MAKE_SPECIAL)
    return made


def enforce(made: int) -> None:
    """Confines this thread and all it starts to a ruleset, for good. Needs no_new_privs."""
    kernel.syscall(RESTRICT, ctypes.c_int(made), ctypes.c_uint32(0), name="landlock_restrict_self")
    os.close(made)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= FILE_RIGHTS
        rule = _PathBeneath(rights, parent)
        kernel.syscall(
            ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint32(0), name="landlock_add_rule"
        )
    finally:
        os.close(parent)
