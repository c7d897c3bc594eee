"""Taking all there is of processes, threads and memory, and of the grader's patience for bytes."""

from .target import Attack

ATTACKS = [
    Attack(
        "fork-bomb",
        """
        import os
        while True:
            os.fork()
        """,
        seconds=1,
        expect="error",
        says="PermissionError",
    ),
    Attack(
        "fork-bomb-through-the-c-library",
        """
        import ctypes
        libc = ctypes.CDLL(None)
        for name in ("fork", "vfork", "_Fork", "daemon"):
            if hasattr(libc, name) and getattr(libc, name)() >= 0:
                raise RuntimeError(f"FOUND {name}")
        SIGCHLD, CLONE, CLONE3 = 17, 56, 435
        if libc.syscall(CLONE, SIGCHLD, 0, 0, 0, 0) >= 0 or libc.syscall(CLONE3, 0, 0) >= 0:
            raise RuntimeError("FOUND clone")
        return honest(logits)
        """,
    ),
    Attack(
        "processes-by-every-module",
        """
        import concurrent.futures, multiprocessing, os, pty, subprocess
        for start in (
            lambda: subprocess.run(["/bin/true"]), lambda: os.system("true") == 0 or 1 / 0, lambda: os.popen("true").close(),
            lambda: os.posix_spawn("/bin/true", ["true"], {}), pty.fork, os.forkpty,
            lambda: multiprocessing.Process(target=print).start(),
            lambda: concurrent.futures.ProcessPoolExecutor(1).submit(int).result(1),
            lambda: torch.multiprocessing.spawn(print, nprocs=1),
        ):
            try:
                result = start()
            except Exception:
                continue
            raise RuntimeError(f"FOUND {result}")
        return honest(logits)
        """,
    ),
    Attack(
        "thread-bomb",
        """
        import threading, time
        while True:
            threading.Thread(target=time.sleep, args=(3600,)).start()
        """,
        seconds=5,
        expect=("error", "timeout", "crashed"),
    ),
    Attack(
        "thread-bomb-that-goes-on-and-answers",
        """
        import threading, time
        def more():
            while True:
                try:
                    threading.Thread(target=more, daemon=True).start()
                except RuntimeError:
                    time.sleep(0.01)
        for _ in range(4):
            threading.Thread(target=more, daemon=True).start()
        return honest(logits)
        """,
        seconds=5,
        expect=("passed", "timeout", "error", "crashed"),
    ),
    Attack(
        "threads-of-torch",
        """
        torch.set_num_threads(64)
        torch.randn(300, 300) @ torch.randn(300, 300)
        return honest(logits)
        """,
        expect=("passed", "error", "crashed", "timeout"),
        seconds=5,
    ),
    Attack(
        "memory-flood",
        """
        hoard = []
        while True:
            hoard.append(bytearray(1 << 24))
        """,
        memory_mb=100,
        expect="error",
        says="MemoryError",
    ),
    Attack(
        "memory-flood-of-small-things",
        """
        hoard = []
        while True:
            hoard.append([hoard])
        """,
        memory_mb=100,
        expect=("error", "crashed"),
        seconds=10,
    ),
    Attack(
        "memory-flood-at-import",
        at_import="""
        hoard = []
        while True:
            hoard.append(bytearray(1 << 24))
        """,
        memory_mb=300,
        expect="error",
        others="error",
    ),
    Attack(
        "memory-flood-by-mapping",
        """
        import mmap
        hoard = []
        while True:
            hoard.append(mmap.mmap(-1, 1 << 28))
            hoard[-1][:1 << 20] = b"x" * (1 << 20)
        """,
        memory_mb=600,
        expect="error",
    ),
    Attack("giant-string", "return 'x' * (1 << 40)", expect="error", says="MemoryError"),
    Attack("giant-tensor", "return torch.zeros(1 << 40)", expect="error"),
    Attack("giant-tensor-that-takes-no-room", "return torch.zeros(1).expand(1 << 40)", expect="failed"),
    Attack("giant-array-that-takes-no-room", "import numpy\nreturn numpy.broadcast_to(numpy.zeros(1), 1 << 40)", expect="failed"),
    Attack("giant-shape-without-numbers", "return torch.zeros(0, 1 << 40, 1 << 20)", expect="failed"),
    Attack("tensor-of-eight-megabytes", "return torch.zeros(1 << 20)", expect="failed"),
    Attack("a-million-empty-tensors", "return [torch.zeros(0)] * 1_000_000", expect=("failed", "error", "timeout"), seconds=1),
    Attack("ten-thousand-tensors", "return [torch.zeros(1)] * 5_000", expect=("failed", "crashed"), seconds=5),
    Attack(
        "answer-of-a-million-names",
        "return {str(i): 0.5 for i in range(1_000_000)}",
        expect=("failed", "timeout"),
        seconds=1,
    ),
    Attack("answer-that-contains-itself", "answer = []\nanswer.append(answer)\nreturn answer", expect="failed"),
    Attack(
        "answer-that-doubles",
        """
        answer = [0.5]
        for _ in range(30):
            answer = [answer, answer]
        return answer
        """,
        seconds=1,
        memory_mb=300,
        expect=("failed", "timeout", "error", "crashed"),
    ),
    Attack(
        "answer-without-end",
        """
        class Endless(list):
            def __iter__(self):
                while True:
                    yield 0.5
        return Endless()
        """,
        memory_mb=200,
        seconds=1,
        expect=("failed", "timeout", "error", "crashed"),
    ),
    Attack("stdout-flood", "while True:\n    print('x' * 65536)", seconds=0.3, expect="timeout"),
    Attack("stdout-flood-then-an-answer", "for _ in range(2000):\n    print('x' * 1000)\nreturn honest(logits)"),
    Attack("stderr-flood", "import os\nwhile True:\n    os.write(2, b'x' * 65536)", seconds=0.3, expect="timeout"),
    Attack(
        "stdout-flood-from-threads",
        """
        import os, threading
        for _ in range(8):
            threading.Thread(target=lambda: [os.write(1, b'x' * 65536) for _ in iter(int, 1)], daemon=True).start()
        return honest(logits)
        """,
        expect=("passed", "timeout"),
    ),
    Attack("results-flood", "import os\nwhile True:\n    os.write(3, b'x' * 65536)", expect="failed", says="more than 4 MiB"),
    Attack(
        "results-flood-at-import",
        at_import="""
        import os
        while True:
            os.write(3, b'x' * 65536)
        """,
        expect="failed",
        others="failed",
    ),
    Attack(
        "warnings-flood",
        """
        import warnings
        for i in range(3_000):
            warnings.warn(str(i))
        return honest(logits)
        """,
        expect=("passed", "timeout"),
        seconds=10,
    ),
]
