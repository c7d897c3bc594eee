"""Taking all there is of descriptors, pipes, disk, and objects of the kernel."""

from .target import Attack

ATTACKS = [
    Attack(
        "descriptor-exhaustion",
        """
        import os
        try:
            while True:
                os.dup(0)
        except OSError:
            pass
        return honest(logits)
        """,
    ),
    Attack(
        "pipes-filled",
        """
        import fcntl, os
        try:
            while True:
                reader, writer = os.pipe()
                fcntl.fcntl(writer, 1031, 1 << 20)
                os.set_blocking(writer, False)
                os.write(writer, b"x" * (1 << 20))
        except OSError:
            pass
        return honest(logits)
        """,
    ),
    Attack(
        "disk-fill",
        """
        written = 0
        try:
            for i in range(1000):
                with open(f"fill-{i}", "wb") as file:
                    while file.tell() < 1 << 28:
                        written += file.write(b"x" * (1 << 20))
                        file.flush()
        except OSError:
            pass
        if written > 80 << 20:
            raise RuntimeError(f"FOUND room for {written} bytes")
        return honest(logits)
        """,
        expect=("passed", "crashed", "timeout"),  # ended where the disk is shared: see sandbox/scratch.py
    ),
    Attack(
        "disk-fill-by-many-large-files",
        """
        import os
        written = 0
        try:
            for i in range(1000):
                with open(f"fill-{i}", "wb") as file:
                    for _ in range(15):
                        written += file.write(b"x" * (1 << 20))
        except OSError:
            pass
        if written > 80 << 20:
            raise RuntimeError(f"FOUND room for {written} bytes")
        return honest(logits)
        """,
        expect=("passed", "crashed", "timeout"),  # ended where the disk is shared: see sandbox/scratch.py
    ),
    Attack(
        "sparse-giant-file",
        """
        import os
        try:
            with open("sparse", "wb") as file:
                os.ftruncate(file.fileno(), 1 << 40)
        except OSError:
            return honest(logits)
        raise RuntimeError("FOUND no limit")
        """,
    ),
    Attack(
        "a-million-files",
        """
        made = 0
        try:
            for made in range(50_000):
                open(f"f{made}", "w").close()
        except OSError:
            pass
        if made > 10_000:
            raise RuntimeError(f"FOUND room for {made} files")
        return honest(logits)
        """,
        expect=("passed", "crashed", "timeout"),  # ended where the disk is shared: see sandbox/scratch.py
    ),
    Attack(
        "folders-too-deep-to-remove",
        """
        import os
        try:
            for _ in range(3000):
                os.mkdir("d" * 200)
                os.chdir("d" * 200)
        except OSError:
            pass
        return honest(logits)
        """,
        expect=("passed", "crashed", "timeout"),  # ended where the disk is shared: see sandbox/scratch.py
        seconds=1,
    ),
    Attack(
        "folders-closed-to-their-owner",
        """
        import os
        try:
            os.makedirs("a/b")
            open("a/b/c", "w").close()
            os.chmod("a/b", 0)
            os.chmod("a", 0)
            os.chmod(".", 0)
        except OSError:
            pass
        return honest(logits)
        """,
    ),
    Attack(
        "kernel-objects",
        """
        import ctypes, select, signal
        libc = ctypes.CDLL(None)
        hoard = []
        try:
            for _ in range(10_000):
                hoard.append(select.epoll())
        except OSError:
            pass
        for _ in range(10_000):
            if libc.inotify_init1(0) < 0:
                break
        timer = ctypes.c_void_p()
        for _ in range(5_000):
            if libc.timer_create(0, None, ctypes.byref(timer)) < 0:
                break
        return honest(logits)
        """,
        expect=("passed", "error"),
    ),
]
