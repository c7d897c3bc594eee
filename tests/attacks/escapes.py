"""Reaching outside: other processes, the network, files, privileges. What is outside is planted in world.py and looked at after each.

Those in UNCONFINED also run without a sandbox, where they must reach what they aim at: else they would prove nothing.
"""

from .target import Attack

_TRY = """
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
    return -1 if number is None else libc.syscall(ctypes.c_long(number), *(a if isinstance(a, (bytes, ctypes._SimpleCData)) else ctypes.c_long(a) for a in arguments))
"""


def escape(name, steps, **more):
    """An attack that is a list of steps, one expression a line; the honest answer is given afterwards."""
    lines = "\n".join(f"    lambda: {line.strip()}," for line in steps.strip().splitlines() if line.strip())
    return Attack(name, at_import=_TRY, body=f"attempt(\n{lines}\n)\nreturn honest(logits)", **more)


ATTACKS = [
    Attack(
        "signals-to-everybody",
        at_import=_TRY,
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
        at_import=_TRY,
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
    escape("tcp", "__import__('socket').create_connection(('127.0.0.1', {TCP}), 0.2)\n__import__('socket').create_server(('127.0.0.1', 0))\n__import__('urllib.request').request.urlopen('http://127.0.0.1:{TCP}/', timeout=0.2)"),
    escape("udp", "__import__('socket').socket(2, 2).sendto(b'x', ('127.0.0.1', {UDP}))\n__import__('socket').socket(10, 2).sendto(b'x', ('::1', {UDP}))\n__import__('socket').getaddrinfo('example.org', 80)[0]"),
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
        at_import=_TRY,
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
    escape(
        "files-outside-changed",
        """
        open("{GRADES}", "a").write("mallory,100")
        open("{GRADES}", "r+").truncate(0)
        open("{OTHER}", "w").write("x")
        os.truncate("{GRADES}", 0)
        os.remove("{GRADES}")
        os.rename("{OTHER}", "{GRADES}")
        os.replace("{OTHER}", "{FOLDER}/x")
        os.link("{GRADES}", "{FOLDER}/link")
        os.symlink("/etc/passwd", "{FOLDER}/link")
        os.mkdir("{FOLDER}/folder")
        os.rmdir("{FOLDER}/submissions")
        os.chmod("{GRADES}", 0o777)
        os.chown("{GRADES}", os.getuid(), -1)
        os.utime("{GRADES}")
        os.setxattr("{GRADES}", "user.x", b"x")
        open("/dev/shm/{SHARED}", "w").write("x")
        open("/dev/shm/another", "w").write("x")
        open("/tmp/another-by-an-attack", "w").write("x")
        open("/var/tmp/another-by-an-attack", "w").write("x")
        """,
    ),
    escape(
        "grader-files-rewritten",
        """
        open("{ROOT}/autograder/sandbox/child.py", "a").write("#")
        open("{ROOT}/autograder/checks/toy/word_agent.py", "a").write("#")
        open(__import__("autograder.sandbox.child").sandbox.child.__file__, "a").write("#")
        open("{PREFIX}/lib/python3." + str(__import__("sys").version_info[1]) + "/site-packages/evil.pth", "w").write("import os")
        open(torch.__file__, "a").write("#")
        os.utime(torch.__file__)
        os.chmod(torch.__file__, 0o777)
        os.remove(torch.__file__)
        os.rename(os.path.dirname(torch.__file__), os.path.dirname(torch.__file__) + "2")
        os.symlink("/scratch", os.path.dirname(torch.__file__) + "/evil")
        __import__("py_compile").compile(torch.__file__, doraise=True)
        open("/usr/lib/evil.so", "w")
        open("/etc/ld.so.preload", "w")
        open("/etc/ld.so.cache", "r+b").write(b"x")
        open("/evil", "w")
        """,
    ),
    Attack(
        "links-in-scratch",
        at_import=_TRY,
        body="""
        for target in ("{GRADES}", "{FOLDER}", "/", "/etc/passwd", "/proc/self/environ", "/proc/1/root"):
            try:
                os.symlink(target, "way")
            except OSError:
                continue
            for step in (lambda: open("way").read(1), lambda: open("way", "a"), lambda: open("way/x", "w"), lambda: open("way/etc/passwd").read(1)):
                try:
                    step()
                except OSError:
                    continue
                raise RuntimeError(f"FOUND {target}")
            os.remove("way")
        return honest(logits)
        """,
    ),
    Attack(
        "hard-links-and-renames-of-libraries",
        at_import=_TRY,
        body="""
        attempt(lambda: os.link(torch.__file__, "mine.py"), lambda: os.rename(torch.__file__, "mine.py"), lambda: os.link("/dev/null", "null"),
                lambda: os.link("{GRADES}", "grades"))
        return honest(logits)
        """,
    ),
    Attack(
        "set-user-id",
        at_import=_TRY,
        body="""
        attempt(lambda: os.setresuid(12345, 12345, 12345), lambda: os.setresgid(12345, 12345, 12345), lambda: os.setgroups([0, 27]),
                lambda: os.setresuid(-1, 1, -1), lambda: os.setuid(0) if os.getuid() else -1)
        try:
            open("suid", "w").close()
            os.chmod("suid", 0o6777)
            os.execv("./suid", ["suid"])
        except OSError:
            pass
        return honest(logits)
        """,
    ),
    escape(
        "namespaces-and-mounts",
        """
        libc.unshare(0x10000000)
        libc.unshare(0x00020000)
        libc.unshare(0x40000000)
        libc.mount(b"none", b"/", b"tmpfs", 0, None)
        libc.mount(b"/", b"/scratch/work", None, 4096, None)
        libc.umount2(b"/scratch/work", 2)
        libc.umount2(b"/", 2)
        libc.chroot(b".")
        syscall(155, 41, b".", b".")
        libc.setns(3, 0)
        syscall(442, 442, -100, b"/", 0, bytes(32), 32)
        syscall(428, 428, -100, b"/", 1)
        syscall(430, 430, b"tmpfs", 0)
        open("/proc/self/uid_map", "w").write("0 0 1")
        os.mknod("device", 0o20666, os.makedev(1, 1))
        os.mknod("device", 0o60666, os.makedev(254, 0))
        libc.sethostname(b"x", 1)
        libc.swapoff(b"/x")
        libc.reboot(0)
        libc.settimeofday(bytes(16), None)
        """,
    ),
    escape(
        "kernel-interfaces",
        """
        syscall(321, 280, 0, bytes(128), 128)
        syscall(298, 241, bytes(128), 0, -1, -1, 0)
        syscall(323, 282, 0)
        syscall(250, 219, 0, -3, 1, 0, 0)
        syscall(248, 217, b"user", b"x", b"y", 1, -3)
        syscall(319, 279, b"x", 0)
        syscall(447, 447, 0)
        syscall(303, 264, -100, b"/", bytes(200), bytes(8), 0)
        syscall(304, 265, -100, bytes(200), 0)
        syscall(175, 105, bytes(10), 10, b"")
        syscall(246, 104, 0, 0, 0, 0)
        syscall(0x40000000 + 39, None)
        syscall(135, 92, 0x0040000)
        syscall(103, 116, 3, bytes(100), 100)
        syscall(300, 262, 0, 0)
        """,
    ),
    escape(
        "shared-memory-and-queues",
        """
        libc.shmget(0x5EC2E7, 4096, 0o1666)
        libc.semget(0x5EC2E7, 1, 0o1666)
        libc.msgget(0x5EC2E7, 0o1666)
        syscall(240, 180, b"queue", 0o102, 0o666, 0)
        libc.shm_open(b"/climb-by-an-attack", 0o102, 0o666)
        libc.sem_open(b"/climb-by-an-attack", 0o100, 0o666, 1) or -1
        __import__("multiprocessing.shared_memory").shared_memory.SharedMemory("climb-by-an-attack", True, 100)
        """,
    ),
    escape(
        "terminal",
        """
        open("/dev/tty", "w").write("x")
        open("/dev/console", "w").write("x")
        open("/dev/kmsg", "w").write("x")
        open("/dev/mem", "rb")
        open("/dev/pts/0", "w")
        os.open("/dev/ptmx", os.O_RDWR)
        __import__("fcntl").ioctl(0, 0x5412, b"x")
        __import__("fcntl").ioctl(1, 0x8901, b"xxxx")
        """,
    ),
    Attack(
        "limits-raised",
        """
        import resource
        for name in ("CPU", "FSIZE", "NOFILE", "CORE", "AS", "NPROC", "MEMLOCK"):
            kind = getattr(resource, "RLIMIT_" + name)
            soft, hard = resource.getrlimit(kind)
            if name in ("CPU", "FSIZE", "NOFILE", "AS") and hard == resource.RLIM_INFINITY:
                raise RuntimeError(f"FOUND no limit {name}")
            try:
                resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            except (ValueError, OSError):
                continue
            if (soft, hard) != (resource.RLIM_INFINITY,) * 2:
                raise RuntimeError(f"FOUND {name} raised")
        return honest(logits)
        """,
    ),
    Attack(
        "confinement-undone",
        at_import=_TRY,
        body="""
        libc.prctl(38, 0, 0, 0, 0)
        libc.prctl(1, 0, 0, 0, 0)
        if libc.prctl(39, 0, 0, 0, 0) != 1:
            raise RuntimeError("FOUND no_new_privs off")
        for capability in range(41):
            libc.prctl(47, 2, capability, 0, 0)             # ambient, raise
        syscall(126, 91, (0x20080522).to_bytes(4, "little") + bytes(4), b"\\xff" * 24)
        attempt(lambda: libc.chroot(b"/"), lambda: libc.mount(b"none", b"/", b"tmpfs", 0, None), lambda: os.setuid(12345))
        return honest(logits)
        """,
    ),
]

UNCONFINED = ("tcp", "udp", "unix-sockets", "files-outside-changed")
