"""A seccomp filter for the child: no sockets, no new processes, no programs, no signals to others, no looking into others.

A list of what is forbidden, not of what is allowed: numerical libraries use a wide and changing set of calls. Where the kernel
gives namespaces too, each holds alone; where it gives none (in a container, or to an ordinary user), this filter is what keeps a
child from the grader's other processes, which may run under the same user. Forbidden calls answer EPERM; clone3 answers ENOSYS,
so that the C library falls back to clone, whose flags a filter can read. Threads stay allowed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from functools import lru_cache

from . import kernel

# name: (x86_64, aarch64); None where the architecture has no such call
FORBIDDEN = {
    "socket": (41, 198), "socketpair": (53, 199), "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "kcmp": (312, 272), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "mount_setattr": (442, 442),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "open_tree_attr": (467, 467),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "fanotify_init": (300, 262), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "sethostname": (170, 161), "setdomainname": (171, 162),
    "iopl": (172, None), "ioperm": (173, None), "acct": (163, 89), "settimeofday": (164, 170), "quotactl": (179, 60),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "personality": (135, 92), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "syslog": (103, 116), "modify_ldt": (154, None), "mq_open": (240, 180), "mq_unlink": (241, 181),
    "shmget": (29, 194), "shmctl": (31, 195), "shmat": (30, 196), "semget": (64, 190), "semctl": (66, 191), "semop": (65, 193),
    "semtimedop": (220, 192), "msgget": (68, 186), "msgctl": (71, 187), "msgrcv": (70, 188), "msgsnd": (69, 189),
    "tkill": (200, 130), "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "process_mrelease": (448, 448),
}  # fmt: skip
# Calls on paths that Landlock lets pass. Where a child sees files that are not its own (it has no root of its own) they are forbidden
# too: under the same user it could open the user's files to everybody, or close them to the user.
ON_PATHS = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None), "fchown": (93, 55),
    "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None), "futimesat": (261, None),
    "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466),
    "file_setattr": (469, 469), "truncate": (76, 45), "inotify_add_watch": (254, 27),
}  # fmt: skip
# Calls that take a process as their first argument: allowed for the caller itself.
ITSELF_ONLY = {
    "kill": (62, 129), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "prlimit64": (302, 261), "sched_setaffinity": (203, 122),
}  # fmt: skip
# Calls whose second argument says what is wanted: forbidden are those by which a descriptor sends signals to any process, or
# types into a terminal. F_SETOWN, F_SETSIG, F_SETOWN_EX; FIOSETOWN, SIOCSPGRP, TIOCSTI, TIOCLINUX.
FORBIDDEN_WISHES = {"fcntl": ((72, 25), (8, 10, 15)), "ioctl": ((16, 29), (0x8901, 0x8902, 0x5412, 0x541C))}
CLONE = {"x86_64": 56, "aarch64": 220}
CLONE3, CLONE_THREAD = 435, 0x10000
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, JUMP_EQ, JUMP_GE, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER_AT, ARCH_AT, FIRST_ARGUMENT_AT, SECOND_ARGUMENT_AT = (
    0,
    4,
    16,
    24,
)  # offsets in struct seccomp_data; low word first on both architectures


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


@lru_cache(maxsize=4)
def program(architecture: str, process: int, own_root: bool) -> bytes:
    """The filter as BPF instructions of 8 bytes: (code, jump if true, jump if false, operand). `process`: the caller's own id."""
    column = 0 if architecture == "x86_64" else 1
    steps = [(LOAD, 0, 0, ARCH_AT), (JUMP_EQ, 1, 0, AUDIT[architecture]), (RETURN, 0, 0, KILL_PROCESS), (LOAD, 0, 0, NUMBER_AT)]
    if architecture == "x86_64":  # the x32 calls share the architecture's number and would slip past the list
        steps += [(JUMP_GE, 0, 1, 0x40000000), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    for numbers in (*FORBIDDEN.values(), *(() if own_root else ON_PATHS.values())):
        if numbers[column] is not None:
            steps += [(JUMP_EQ, 0, 1, numbers[column]), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    for numbers in ITSELF_ONLY.values():
        steps += [(JUMP_EQ, 0, 5, numbers[column]), (LOAD, 0, 0, FIRST_ARGUMENT_AT)]
        steps += [(JUMP_EQ, 1, 0, process), (JUMP_EQ, 0, 1, 0), (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    for numbers, wishes in FORBIDDEN_WISHES.values():
        steps += [(JUMP_EQ, 0, len(wishes) + 3, numbers[column]), (LOAD, 0, 0, SECOND_ARGUMENT_AT)]
        steps += [(JUMP_EQ, len(wishes) - i, 0, wish) for i, wish in enumerate(wishes)]
        steps += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | errno.EPERM)]
    steps += [(JUMP_EQ, 0, 1, CLONE3), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    steps += [(JUMP_EQ, 0, 3, CLONE[architecture]), (LOAD, 0, 0, FIRST_ARGUMENT_AT)]
    steps += [(JUMP_SET, 1, 0, CLONE_THREAD), (RETURN, 0, 0, ERRNO | errno.EPERM), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def install(own_root: bool) -> None:
    """Installs the filter for this thread and all it starts. Needs no_new_privs. Raises OSError where there is no such filter."""
    if kernel.ARCHITECTURE not in AUDIT:
        raise OSError(f"seccomp: no filter for {kernel.ARCHITECTURE}")
    code = program(kernel.ARCHITECTURE, os.getpid(), own_root)
    holder = _Program(len(code) // 8, code)
    kernel.prctl(kernel.PR_SET_SECCOMP, 2, ctypes.byref(holder))
