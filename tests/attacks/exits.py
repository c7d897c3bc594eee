"""Ends that are none, and ends too soon: exits, signals, faults, loops."""

from .target import Attack

ENDED = ("crashed", "error")
_LOOP = "while True:\n    pass"

ATTACKS = [
    Attack("sys-exit", "import sys\nsys.exit(0)", expect="error"),
    Attack("system-exit-with-an-object", "raise SystemExit([object()])", expect="error"),
    Attack("keyboard-interrupt", "raise KeyboardInterrupt", expect="error"),
    Attack("generator-exit", "raise GeneratorExit", expect="error"),
    Attack("stop-iteration", "raise StopIteration", expect="error"),
    *(Attack(f"exit-code-{code}", f"import os\nos._exit({code})", expect="crashed") for code in (0, 1, 97, 255)),
    *(
        Attack(
            f"exit-code-{code}-at-import",
            at_import=f"import os\nos._exit({code})",
            expect="crashed",
            others="crashed",
        )
        for code in (0, 97)
    ),
    Attack("exit-at-import", at_import="raise SystemExit(0)", expect="error", others="error"),
    Attack("interrupt-at-import", at_import="raise KeyboardInterrupt", expect="error", others="error"),
    Attack("exit-through-the-c-library", "import ctypes\nctypes.CDLL(None).exit(0)", expect="crashed"),
    Attack(
        "thread-exits-the-process",
        "import os, threading\nthreading.Thread(target=os._exit, args=(0,)).start()\n" + _LOOP,
        expect="crashed",
    ),
    Attack("atexit", "import atexit, os\natexit.register(os._exit, 97)\nreturn honest(logits)"),
    Attack("recursion", "return positive_probability(logits)", expect="error"),
    Attack(
        "recursion-without-limit",
        """
        import sys
        sys.setrecursionlimit(2**31 - 1)
        return positive_probability(logits)
        """,
        expect=(*ENDED, "timeout"),
        seconds=1,
        memory_mb=300,
    ),
    Attack(
        "recursion-in-c",
        """
        import functools
        step = honest
        for _ in range(20_000):
            step = functools.partial(step)
            step = functools.lru_cache(step)
        return step(logits)
        """,
        expect=("crashed", "error", "passed", "timeout"),  # on a busy machine it may not come to an end
        seconds=1,
    ),
    Attack("source-too-deep-to-parse", at_import="x = " + "(" * 5000 + ")" * 5000, expect=ENDED, others=ENDED),
    Attack("source-too-deep-to-compile", at_import="x = " + "-" * 100_000 + "1", expect=ENDED, others=ENDED),
    Attack("segfault", "import ctypes\nctypes.string_at(0)", expect="crashed"),
    Attack("segfault-at-import", at_import="import ctypes\nctypes.string_at(0)", expect="crashed", others="crashed"),
    Attack("abort", "import os\nos.abort()", expect="crashed"),
    Attack("abort-by-the-interpreter", "import ctypes\nctypes.pythonapi.Py_FatalError(b'x')", expect="crashed"),
    Attack(
        "illegal-instruction",
        """
        import ctypes, mmap
        page = mmap.mmap(-1, 4096, prot=7)
        page.write(bytes([0x0F, 0x0B, 0, 0]))
        ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
        """,
        expect="crashed",
    ),
    Attack(
        "calls-of-another-architecture",
        """
        import ctypes, mmap, platform
        if platform.machine() != "x86_64":
            raise SystemExit
        page = mmap.mmap(-1, 4096, prot=7)
        page.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))   # mov eax, getpid of 32 bits; int 0x80; ret
        answer = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
        raise RuntimeError("FOUND a way past the filter" if answer > 0 else "no such call")
        """,
        expect=ENDED,
    ),
    *(
        Attack(
            f"signal-{name}-to-itself",
            f"import os, signal, time\nos.kill(os.getpid(), signal.{name})\ntime.sleep(0.01)\nreturn honest(logits)",
            expect=("passed", "crashed", "error", "timeout"),
            seconds=0.3,
        )
        for name in ("SIGKILL", "SIGTERM", "SIGSTOP", "SIGINT", "SIGSEGV", "SIGCHLD", "SIGXCPU")
    ),
    Attack(
        "all-signals-ignored",
        """
        import signal
        for n in range(1, 65):
            try:
                signal.signal(n, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        while True:
            pass
        """,
        seconds=0.3,
        expect="timeout",
    ),
    Attack("loop", _LOOP, seconds=0.3, expect="timeout"),
    Attack("loop-at-import", at_import=_LOOP, seconds=0.3, expect="timeout", others="timeout"),
    Attack(
        "loop-that-catches-everything",
        """
        while True:
            try:
                while True:
                    pass
            except BaseException:
                continue
        """,
        seconds=0.3,
        expect="timeout",
    ),
    Attack(
        "loop-in-del",
        """
        class Last:
            def __del__(self):
                while True:
                    pass
        last = Last()
        return honest(logits)
        """,
        seconds=0.3,
        expect="timeout",
    ),
    Attack("loop-in-atexit", "import atexit\natexit.register(lambda: [None for _ in iter(int, 1)])\nreturn honest(logits)"),
    Attack(
        "loop-in-a-thread",
        """
        import threading
        threading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()
        return honest(logits)
        """,
    ),
    Attack(
        "thread-that-outlives-the-answer",
        """
        import threading, time
        threading.Thread(target=time.sleep, args=(600,)).start()
        return honest(logits)
        """,
    ),
    Attack("loop-in-c", "return sum(iter(int, 1))", seconds=0.3, expect="timeout"),
    Attack("loop-in-a-regular-expression", "import re\nre.match('(a+)+$', 'a' * 64 + 'b')", seconds=0.3, expect="timeout"),
    Attack("loop-in-a-long-integer", "return 3 ** (3 ** 18)", seconds=0.3, expect=("timeout", "error", "failed")),
    Attack(
        "loop-in-a-collector-callback",
        """
        import gc
        gc.callbacks.append(lambda *a: [None for _ in iter(int, 1)])
        gc.collect()
        """,
        seconds=0.3,
        expect="timeout",
    ),
    Attack(
        "loop-in-the-answer",
        """
        class Slow(dict):
            def items(self):
                while True:
                    pass
        return Slow()
        """,
        seconds=0.3,
        expect="timeout",
    ),
    Attack(
        "loop-in-the-module",
        at_import="""
        import sys
        class Slow(type(sys)):
            def __getattribute__(self, name):
                while True:
                    pass
        sys.modules[__name__].__class__ = Slow
        """,
        seconds=0.3,
        expect="timeout",
        others="timeout",
    ),
    Attack("sleep-past-the-limit", "import time\ntime.sleep(3600)", seconds=0.3, expect="timeout"),
    Attack(
        "sleep-to-the-limit",
        """
        import time
        time.sleep(0.25)
        return honest(logits)
        """,
        seconds=0.3,
        expect=("timeout", "passed"),
    ),
    Attack(
        "lock-held-forever",
        """
        import threading
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
        """,
        seconds=0.3,
        expect="timeout",
    ),
    Attack("interpreter-lock-held-in-c", "import ctypes\nctypes.PyDLL(None).sleep(3600)", seconds=0.3, expect="timeout"),
    Attack(
        "clock-turned",
        "import time\nfor name in ('time', 'monotonic', 'perf_counter'):\n    setattr(time, name, lambda: 0.0)\n" + _LOOP,
        seconds=0.3,
        expect="timeout",
    ),
]
