"""Reaching outside: other processes, programs, the network. What is outside is planted in world.py and looked at after each.

Those in UNCONFINED also run without a sandbox, where they must reach what they aim at: else they would prove nothing.
"""

from .target import Attack

TRY = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"

def attempt(*steps):
    '''None of the steps may go through. A call of the C library counts as through if it gives no negative number.'''
    for at, step in enumerate(steps):
        try:
            result = step()
        except (OSError, ImportError, AttributeError, ValueError, OverflowError):
            continue
        if not (type(result) is int and result < 0):
            raise RuntimeError(f"FOUND step {at}: {result!r}")

def syscall(x86, arm, *arguments):
    number = x86 if X86 else arm
    plain = (a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments)
    return -1 if number is None else libc.syscall(ctypes.c_long(number), *plain)
"""


def escape(name, steps, **more):
    """An attack that is a list of steps, one expression a line; the honest answer is given afterwards."""
    lines = "\n".join(f"    lambda: {line.strip()}," for line in steps.strip().splitlines() if line.strip())
    return Attack(name, at_import=TRY, body=f"attempt(\n{lines}\n)\nreturn honest(logits)", **more)


ATTACKS = [
    Attack(
        "signals-to-everybody",
        at_import=TRY,
        body="""
        import signal
        for pid in (-1, 0, 1, {VICTIM}, {GRADER}, -{VICTIM}, -{GROUP}, os.getppid(), -os.getpgrp(), *range(2, 400)):
            for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP):
                if pid not in (0, os.getpid(), -os.getpgrp()):
                    try:
                        os.kill(pid, number)
                    except OSError:
                        pass
        libc.killpg({VICTIM}, 9)
        syscall(200, 130, {VICTIM}, 9)                      # tkill
        syscall(234, 131, {VICTIM}, {VICTIM}, 9)            # tgkill
        syscall(129, 138, {VICTIM}, 9, 0)                   # rt_sigqueueinfo
        libc.sigqueue({VICTIM}, 9, 0)
        return honest(logits)
        """,
        expect=("passed", "crashed"),
    ),
    Attack(
        "signals-by-descriptor",
        at_import=TRY,
        body="""
        import fcntl
        for pid in ({VICTIM}, {GRADER}, -{VICTIM}):
            reader, writer = os.pipe()
            for step in (
                lambda: fcntl.fcntl(reader, 10, 9),                                     # F_SETSIG: SIGKILL instead of SIGIO
                lambda: fcntl.fcntl(reader, fcntl.F_SETOWN, pid),
                lambda: fcntl.ioctl(reader, 0x8901, pid.to_bytes(4, "little", signed=True)),
                lambda: fcntl.fcntl(reader, fcntl.F_SETFL, fcntl.fcntl(reader, fcntl.F_GETFL) | os.O_ASYNC),
            ):
                try:
                    step()
                except OSError:
                    pass
            os.write(writer, b"x")
        return honest(logits)
        """,
        expect=("passed", "crashed"),
    ),
    escape(
        "limits-and-priorities-of-others",
        """
        __import__("resource").prlimit({VICTIM}, 0, (0, 0))
        __import__("resource").prlimit({GRADER}, 7, (3, 3))
        os.setpriority(os.PRIO_PROCESS, {VICTIM}, 19)
        os.setpriority(os.PRIO_USER, os.getuid(), 19)
        os.setpriority(os.PRIO_PGRP, {VICTIM}, 19)
        os.sched_setaffinity({VICTIM}, {0})
        os.sched_setscheduler({VICTIM}, os.SCHED_IDLE, os.sched_param(0))
        syscall(251, 30, 3, os.getuid(), 7 << 13)
        """,
    ),
    escape(
        "debugging-others",
        """
        syscall(101, 117, 16, {VICTIM}, 0, 0)
        syscall(101, 117, 0x4206, {VICTIM}, 0, 0)
        syscall(101, 117, 16, {GRADER}, 0, 0)
        syscall(101, 117, 16, os.getppid(), 0, 0)
        syscall(310, 270, {VICTIM}, 0, 0, 0, 0, 0)
        syscall(311, 271, {VICTIM}, 0, 0, 0, 0, 0)
        syscall(312, 272, os.getpid(), {VICTIM}, 0, 0, 0)
        os.pidfd_open({VICTIM})
        os.pidfd_open({GRADER})
        syscall(438, 438, 3, 0, 0)
        open("/proc/{VICTIM}/mem", "r+b")
        open("/proc/{VICTIM}/oom_score_adj", "w").write("1000")
        """,
    ),
    escape(
        "programs",
        """
        os.execv("/bin/sh", ["sh", "-c", "touch {FOLDER}/pwned"])
        os.execv(__import__("sys").executable, ["python", "-c", "1"])
        os.execve("/usr/bin/env", ["env"], {})
        os.execve(os.memfd_create("x"), ["x"], {})
        libc.execl(b"/bin/sh", b"sh", None)
        libc.syscall(322 if X86 else 281, -100, b"/bin/true", 0, 0, 0)
        os.posix_spawn("/bin/true", ["true"], {})
        """,
    ),
    Attack(
        "daemon",
        """
        import os, time
        for _ in range(3):
            try:
                if os.fork() == 0:
                    os.setsid()
                    if os.fork() == 0:
                        time.sleep(600)
            except OSError:
                pass
        try:
            os.setsid()
        except OSError:
            pass
        return honest(logits)
        """,
    ),
    escape(
        "tcp",
        """
        __import__('socket').create_connection(('127.0.0.1', {TCP}), 0.2)
        __import__('socket').create_server(('127.0.0.1', 0))
        __import__('urllib.request').request.urlopen('http://127.0.0.1:{TCP}/', timeout=0.2)
        """,
    ),
    escape(
        "udp",
        """
        __import__('socket').socket(2, 2).sendto(b'x', ('127.0.0.1', {UDP}))
        __import__('socket').socket(10, 2).sendto(b'x', ('::1', {UDP}))
        __import__('socket').getaddrinfo('example.org', 80)[0]
        """,
    ),
    escape(
        "unix-sockets",
        """
        __import__('socket').socket(1, 1).connect('{FOLDER}/stream')
        __import__('socket').socket(1, 2).sendto(b'x', '{FOLDER}/datagrams')
        __import__('socket').socket(1, 2).sendto(b'x', '\\0{ABSTRACT}')
        __import__('socket').socket(1, 1).connect('/var/run/docker.sock')
        __import__('socket').socket(1, 2).sendto(b'x', '/dev/log')
        """,
    ),
    Attack(
        "unix-datagrams-from-a-pair",
        at_import=TRY,
        body="""
        import socket
        pair = (ctypes.c_int * 2)()
        if libc.socketpair(1, 2, 0, pair) == 0:
            for address in (b"{FOLDER}/datagrams", b"\\0{ABSTRACT}"):
                data = (1).to_bytes(2, "little") + address
                libc.sendto(pair[0], b"x", 1, 0, data, len(data))
                libc.connect(pair[0], data, len(data))
                libc.write(pair[0], b"x", 1)
        return honest(logits)
        """,
    ),
    escape(
        "other-sockets",
        """
        __import__('socket').socket(17, 3, 768)
        __import__('socket').socket(2, 3, 1)
        __import__('socket').socket(16, 3, 0)
        __import__('socket').socket(38, 5, 0)
        __import__('socket').socket(40, 1, 0)
        __import__('socket').socketpair()
        syscall(425, 425, 8, bytes(120))
        """,
    ),
]

UNCONFINED = ("tcp", "udp", "unix-sockets")
