"""Changing what is not one's own: files outside, libraries, the kernel's settings, one's own limits and privileges."""

from .escapes import TRY, escape
from .target import Attack

ATTACKS = [
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
        at_import=TRY,
        body="""
        for target in ("{GRADES}", "{FOLDER}", "/", "/etc/passwd", "/proc/self/environ", "/proc/1/root"):
            try:
                os.symlink(target, "way")
            except OSError:
                continue
            for step in (lambda: open("way").read(1), lambda: open("way", "a"), lambda: open("way/x", "w"),
                         lambda: open("way/etc/passwd").read(1)):
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
        at_import=TRY,
        body="""
        attempt(lambda: os.link(torch.__file__, "mine.py"), lambda: os.rename(torch.__file__, "mine.py"),
                lambda: os.link("/dev/null", "null"), lambda: os.link("{GRADES}", "grades"))
        return honest(logits)

        """,
    ),
    Attack(
        "set-user-id",
        at_import=TRY,
        body="""
        attempt(lambda: os.setresuid(12345, 12345, 12345), lambda: os.setresgid(12345, 12345, 12345),
                lambda: os.setgroups([0, 27]),
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
        at_import=TRY,
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

UNCONFINED = ("files-outside-changed",)
