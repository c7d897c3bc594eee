"""Looking for expected values, solutions, seeds, and other people's work: in frames, in memory, on disk, in the environment.

Each raises FOUND if it sees what it should not, and answers honestly if not. Those in IN_PROCESS are also run in the grader's own
process, where they must succeed: an attack that finds nothing anywhere would prove nothing.
"""

from .target import Attack

# What is looked for is never whole in the attack's own process, where it would find it: it comes in two parts, in hexadecimal.
_SCAN = """
import ctypes, gc, os
libc = ctypes.CDLL(None)
libc.write.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
reader, writer = os.pipe()
os.set_blocking(writer, False)
PAGE, WINDOW = 4096, 1 << 20

def pages():
    '''Every readable page near a Python object: write(2) tells a page that is not there by EFAULT, and does not crash.'''
    windows = set()
    for thing in gc.get_objects():
        window = id(thing) // WINDOW
        windows.update((window - 1, window, window + 1))
    for window in sorted(windows):
        for page in range(window * WINDOW, (window + 1) * WINDOW, PAGE):
            if libc.write(writer, page, PAGE) == PAGE:
                yield os.read(reader, PAGE)

def find(first, second):
    for page in pages():
        at = page.find(first)
        while at >= 0:
            if page[at + len(first) : at + len(first) + len(second)] == second:
                return True
            at = page.find(first, at + 1)
    return False
"""

ATTACKS = [
    Attack(
        "frames",
        """
        import sys
        frame, names = sys._getframe(), set()
        while frame:
            names |= set(frame.f_locals) | set(frame.f_globals)
            frame = frame.f_back
        seen = names & {"expected", "truth", "oracle", "Oracle", "tolerance", "reference", "judge", "solution", "SEED"}
        if seen:
            raise RuntimeError(f"FOUND {seen}")
        return honest(logits)
        """,
    ),
    Attack(
        "garbage-collector",
        """
        import gc
        ours = ("autograder.checks", "autograder.grading", "autograder.reference", "solutions")
        for thing in gc.get_objects():
            kind = type(thing)
            if (kind.__module__ or "").startswith(ours):
                raise RuntimeError(f"FOUND an object of {kind.__module__}.{kind.__name__}")
            names = {name for name in thing if type(name) is str} if kind is dict else set()
            if names & {"expected", "truth", "tolerance"} and "module" not in names:
                if any(isinstance(value, (list, float)) for value in thing.values()):
                    raise RuntimeError(f"FOUND {list(thing)[:10]}")
        for code in gc.get_objects():
            if type(code).__name__ == "function" and code.__name__ == "positive_probability" and code is not positive_probability:
                raise RuntimeError("FOUND another positive_probability")
        return honest(logits)

        """,
    ),
    *(
        Attack(
            f"memory-for-the-{what}",
            at_import=_SCAN
            + f"""
if find(bytes.fromhex('{{{what}_1}}'), bytes.fromhex('{{{what}_2}}')):
    raise RuntimeError('FOUND')
""",
        )
        for what in ("SECRET", "EXPECTED", "SEED", "SUBMISSION")
    ),
    Attack(
        "modules",
        """
        import sys
        ours = ("solutions", "autograder.checks", "autograder.grading", "autograder.reference", "autograder.course")
        names = [name for name in sys.modules if name.startswith(ours)]
        if names:
            raise RuntimeError(f"FOUND {names}")
        return honest(logits)

        """,
    ),
    Attack(
        "imports-of-answers",
        """
        import importlib, sys
        sys.path[:0] = ["{ROOT}", "{ROOT}/solutions", "{FOLDER}"]
        sys.path_importer_cache.clear()
        importlib.invalidate_caches()
        for name in ("solutions.toy.word_agent", "autograder.checks.toy.word_agent", "autograder.reference",
                     "autograder.grading.oracle", "autograder.selfcheck", "autograder.checks.compare"):
            try:
                importlib.import_module(name)
            except Exception:
                continue
            raise RuntimeError(f"FOUND {name}")
        return honest(logits)

        """,
    ),
    Attack(
        "files-of-answers",
        """
        import os
        for path in ("{ROOT}/solutions/toy/word_agent.py", "{ROOT}/autograder/checks/toy/word_agent.py",
                     "{ROOT}/pyproject.toml", "{OTHER}", "{GRADES}", "/dev/shm/{SHARED}", "/etc/passwd", "/etc/hostname",
                     "/etc/shadow", "/root/.bashrc"):
            try:
                open(path, "rb").read(1)
            except OSError:
                continue
            raise RuntimeError(f"FOUND {path}")
        for folder in ("{ROOT}", "{ROOT}/solutions", "{FOLDER}", "/home", "/root", "/tmp", "/etc", "/dev/shm", "/var", "/proc",
                       "/sys", "/run"):
            try:
                names = os.listdir(folder)
            except OSError:
                continue
            if names:
                raise RuntimeError(f"FOUND {names[:5]} in {folder}")
        return honest(logits)

        """,
    ),
    Attack(
        "whole-file-system",
        """
        import os
        for folder, folders, files in os.walk("/"):
            if folder.endswith("site-packages"):
                if set(folders) & {"solutions", "autograder"}:
                    raise RuntimeError(f"FOUND the course in {folder}")
                folders[:] = []
            if folder.rstrip("/").rsplit("/", 1)[-1] in ("lib", "lib64", "lib32"):
                folders[:] = [f for f in folders if f.startswith("python") or f == "site-packages"]
            for name in files:
                if name.endswith((".csv", ".ipynb", ".key", ".pem", "_history")) and "/lib" not in folder:
                    raise RuntimeError(f"FOUND {folder}/{name}")
        return honest(logits)
        """,
    ),
    Attack(
        "way-up-and-out",
        """
        import os
        for path in ("..", "../..", "../../../../../..", "/.old", "/proc/1/root", "/proc/self/cwd/..", "/proc/self/root"):
            for wanted in ("etc/passwd", "{ROOT}".lstrip("/") + "/pyproject.toml", "{GRADES}".lstrip("/")):
                try:
                    open(os.path.join(path, wanted)).read(1)
                except OSError:
                    continue
                raise RuntimeError(f"FOUND {path}/{wanted}")
        for descriptor in range(256):
            try:
                os.fchdir(descriptor)
            except OSError:
                continue
            raise RuntimeError(f"FOUND a folder at descriptor {descriptor}")
        return honest(logits)
        """,
    ),
    Attack(
        "environment",
        """
        import ctypes, os
        libc = ctypes.CDLL(None)
        libc.getenv.restype = ctypes.c_char_p
        allowed = {"HOME", "TMPDIR", "MPLCONFIGDIR", "LANG", "TZ", "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "LC_CTYPE"}
        names = set(os.environ) - allowed
        if names or bytes.fromhex("{SECRET_1}").decode() in str(dict(os.environ)) or libc.getenv(b"CLIMB_CANARY"):
            raise RuntimeError(f"FOUND {names}")
        return honest(logits)
        """,
    ),
    Attack(
        "proc",
        """
        import os
        for name in ("self/environ", "self/cmdline", "self/maps", "self/mem", "self/fd", "1/environ", "1/cmdline",
                     "{GRADER}/environ", "{GRADER}/mem", "{GRADER}/fd", "{VICTIM}/cmdline", "net/tcp", "mounts",
                     "sys/kernel/hostname"):
            try:
                os.stat("/proc/" + name)
                (os.listdir if name.endswith("fd") else lambda p: open(p, "rb").read(1))("/proc/" + name)
            except OSError:
                continue
            raise RuntimeError(f"FOUND /proc/{name}")
        return honest(logits)

        """,
    ),
    Attack(
        "source-of-the-earlier-reference",
        """
        import inspect, linecache
        import toy.policy_gradient as reference
        try:
            text = inspect.getsource(reference.softmax_policy)
        except (OSError, TypeError):
            text = "".join(linecache.getlines(reference.__file__))
        if text:
            raise RuntimeError("FOUND " + text[:60])
        return honest(logits)
        """,
    ),
    Attack(
        "references-among-the-loaded-code",
        at_import="""
        import gc, marshal, sys, types
        frame = sys._getframe()
        while frame:
            finder = frame.f_locals.get("self") or frame.f_locals.get("finder")
            if hasattr(finder, "compiled"):
                for name, code in finder.compiled.items():
                    names, waiting = set(), [marshal.loads(code)]
                    while waiting:
                        one = waiting.pop()
                        names.add(one.co_name)
                        waiting += [c for c in one.co_consts if isinstance(c, types.CodeType)]
                    if names & {"positive_probability", "policy_loss", "behaviour_policy"}:
                        raise RuntimeError(f"FOUND this lesson's reference in {name}")
            frame = frame.f_back
        """,
    ),
    Attack(
        "open-descriptors",
        """
        import os, stat
        kinds = {}
        for descriptor in range(1024):
            try:
                kinds[descriptor] = stat.S_IFMT(os.fstat(descriptor).st_mode)
            except OSError:
                continue
        if set(kinds) != {0, 1, 2, 3} or kinds[0] != stat.S_IFCHR or any(kinds[d] != stat.S_IFIFO for d in (1, 2, 3)):
            raise RuntimeError(f"FOUND {kinds}")
        return honest(logits)
        """,
    ),
    Attack(
        "results-of-others-read-from-the-pipe",
        """
        import os
        for descriptor in (0, 1, 2, 3):
            try:
                os.set_blocking(descriptor, False)
                if data := os.read(descriptor, 100):
                    raise RuntimeError(f"FOUND {data!r} at descriptor {descriptor}")
            except OSError:
                pass
        return honest(logits)
        """,
    ),
    Attack(
        "scratch-of-others",
        at_import="""
        import os
        seen = [os.path.join(f, n) for f, _, ns in os.walk(os.getcwd()) for n in ns] + os.listdir(os.environ["TMPDIR"])
        if seen:
            raise RuntimeError(f"FOUND {seen}")
        open("left-behind", "w").write("x")
        os.makedirs("a/b/c")
        """,
    ),
    Attack(
        "leftovers-of-the-last-submission",
        at_import="""
        import sys
        if "left_by_the_last_one" in sys.modules or hasattr(torch, "left_by_the_last_one"):
            raise RuntimeError("FOUND what another submission left")
        torch.left_by_the_last_one = sys.modules["left_by_the_last_one"] = sys
        """,
    ),
]

IN_PROCESS = (
    "frames", "garbage-collector", "memory-for-the-SECRET", "memory-for-the-EXPECTED", "memory-for-the-SEED", "modules",
    "imports-of-answers", "files-of-answers", "environment", "proc", "open-descriptors",
)  # fmt: skip
