"""A course of two small lessons, made here, and `climb` on it: most tests of the command line need no other.

Its checks run in this process, one at a time, under an executor that calls itself `full`; the sandbox has tests of its own.
"""

import contextlib
import io
import json
import shutil
import sys
import threading
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from autograder import cli, reference
from autograder.checks import Check, check, edit, mistake
from autograder.grading import batch, workspace
from autograder.grading.grade import BADNESS
from autograder.sandbox.executor import InProcess

ROOT = Path(__file__).resolve().parents[1]

FIRST = '''"""Lesson 1: twice and half."""

import torch


def double(x):
    """2 x, elementwise (eq. 1.1)."""
    # BEGIN SOLUTION
    return x + x
    # END SOLUTION


def halve(x):
    """x / 2, elementwise (eq. 1.2)."""
    # BEGIN SOLUTION
    return x / 2
    # END SOLUTION


class Box:
    """Holds one tensor."""

    def put(self, x):
        """Keep x; return the box."""
        # BEGIN SOLUTION
        self.x = torch.as_tensor(x)
        return self
        # END SOLUTION
'''

SECOND = '''"""Lesson 2: thrice."""


def triple(x):
    """3 x, elementwise (eq. 2.1)."""
    # BEGIN SOLUTION
    return 3 * x
    # END SOLUTION
'''

LESSONS = {
    "01-first": """number = 1
title = "Twice and [half]"
file = "toy/first.py"
minutes = 30
summary = "Twice a number, and half of it."
needs = []
[exercise_needs]
halve = ["double"]
""",
    "02-second": """number = 2
title = "Thrice"
file = "toy/second.py"
minutes = 20
summary = "Three times a number."
needs = [1]
""",
}

HINTS = """["double"]
levels = ["A nudge.", "The idea.", "Nearly the line."]
["halve"]
levels = ["Less.", "Much less.", "Half."]
"""


@check("double", points=2, section="1.1")
class Double(Check):
    probe = "double"

    def cases(self, rng):
        yield {"x": np.array([1.25, 3.5])}
        yield {"x": rng.normal(size=5)}

    def truth(self, x):
        return {"y": 2 * x}

    @mistake("squared", "You squared it: x times x, not x plus x.")
    def squared(self, x):
        return {"y": x * x}


@check("halve", points=1, section="1.2")
class Halve(Check):
    probe = "halve"
    mistakes = [edit("not-halved", "That is all of x, not half.", {"return x / 2": "return x"})]

    def cases(self, rng):
        yield {"x": np.array([7.75])}
        yield {"x": rng.normal(size=3)}

    def truth(self, x):
        return {"y": x / 2}


@check("Box.put", points=2, section="1.3")
class Put(Check):
    probe = "put"

    def cases(self, rng):
        yield {"x": rng.normal(size=2)}

    def truth(self, x):
        return {"y": x}


@check("triple", points=3, section="2.1")
class Triple(Check):
    probe = "triple"

    def cases(self, rng):
        yield {"x": rng.normal(size=4)}

    def truth(self, x):
        return {"y": 3 * x}


class OneThread:
    """Keeps what the thread that made it prints; what other threads print goes where it went."""

    def __init__(self, other):
        self.other, self.kept, self.thread = other, io.StringIO(), threading.get_ident()

    def __getattr__(self, name):
        return getattr(self.kept if threading.get_ident() == self.thread else self.other, name)


class PretendSandbox(InProcess):
    """Learner code in this very process, one check at a time: for code that these tests wrote themselves."""

    note = ""

    def __init__(self, level="full"):
        super().__init__(level=level, layers=["pretended"])
        self.lock, self.started, self.requests = threading.Lock(), 0, 0

    def run(self, request, *, seconds, memory_mb):
        with self.lock:
            self.requests += 1
            with contextlib.redirect_stdout(OneThread(sys.stdout)) as divided:
                reply = super().run(request, seconds=seconds, memory_mb=memory_mb)
            return replace(reply, printed=divided.kept.getvalue())

    def __enter__(self):
        self.started += 1
        return self

    def __exit__(self, *_):
        pass


KEYS = {
    "schema": int,
    "submission": str,
    "grader": str,
    "sandbox": str,
    "layers": list,
    "seed": str,
    "score": float,
    "max_score": float,
    "seconds": float,
    "exercises": list,
}
ROW_KEYS = {
    "id": str,
    "lesson": int,
    "score": float,
    "max_score": float,
    "status": str,
    "misconception": (str, type(None)),
    "message": str,
    "hint": str,
    "lesson_anchor": str,
}


def keeps_the_contract(result):
    """The one result of DESIGN: exactly these keys, of these kinds, whose sums agree; what a batch adds stands beside."""
    beside = {"notes", "audit", "student", "policy"}
    assert set(result) - beside == set(KEYS) and all(isinstance(result[key], kind) for key, kind in KEYS.items())
    for row in result["exercises"]:
        assert set(row) == set(ROW_KEYS) and all(isinstance(row[key], kind) for key, kind in ROW_KEYS.items())
        assert row["status"] in BADNESS
        assert row["status"] != "passed" or row["score"] == row["max_score"]
        assert row["score"] == 0 or row["status"] == "passed"
    assert result["score"] == sum(row["score"] for row in result["exercises"])
    assert result["max_score"] == sum(row["max_score"] for row in result["exercises"])
    return True


def notebook(text):
    return json.dumps({"cells": [{"cell_type": "code", "source": text}]})


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def statuses(self):
        return {row["id"].split("::")[1]: row["status"] for row in self.json["exercises"]}

    def refused(self, *words):
        """One line on stderr, exit code 2, nothing else: what bad input gets. Returns the line."""
        assert self.code == 2 and self.out == "", (self.code, self.out, self.err)
        assert self.err.count("\n") == 1 and self.err.startswith("climb: "), self.err
        for word in words:
            assert word in self.err, (word, self.err)
        return self.err


@dataclass
class Tiny:
    """The small course: `climb(...)` runs a command line in its folder."""

    root: Path
    sandbox: PretendSandbox
    capture: object = field(repr=False)
    keeps_the_contract = staticmethod(keeps_the_contract)
    notebook = staticmethod(notebook)
    zipped = staticmethod(zipped)

    def climb(self, *words) -> Outcome:
        self.capture.readouterr()
        code = cli.run([str(word) for word in words])
        return Outcome(code, *self.capture.readouterr())

    def write(self, file, text) -> Path:
        place = self.root / file
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        return place

    def solution(self, file="toy/first.py", **edits):
        """The text of a solution, with `double="return x * x"` in place of what stands in a function."""
        text = {"toy/first.py": FIRST, "toy/second.py": SECOND}[file]
        bodies = {
            "double": "return x + x",
            "halve": "return x / 2",
            "triple": "return 3 * x",
            "put": "self.x = torch.as_tensor(x)",
        }
        for name, body in edits.items():
            assert text.count(bodies[name]) == 1
            text = text.replace(bodies[name], body)
        return text

    def solve(self, file="toy/first.py", **edits):
        return self.write(file, self.solution(file, **edits))

    def line_of(self, words, file="toy/first.py"):
        """The number of the first line that holds these words."""
        lines = (self.root / file).read_text().splitlines()
        return next(number for number, line in enumerate(lines, start=1) if words in line)

    def progress(self):
        return json.loads((self.root / ".climb/progress.json").read_text())["exercises"]


def module_of(name, *classes, **functions):
    made = ModuleType(name)
    for thing in (*classes, *functions.values()):
        setattr(made, thing.__name__, thing)
    made.__dict__.update(functions)
    return made


def probe(name):
    def ask(module, x):
        return {"y": getattr(module, name)(x)}

    return ask


def put(module, x):
    return {"y": module.Box().put(x).x}


@pytest.fixture
def tiny(tmp_path, monkeypatch, capsys):
    from autograder import sandbox
    from autograder.skeletons import skeleton

    root = tmp_path / "course"
    made = Tiny(root, PretendSandbox(), capsys)
    for folder, toml in LESSONS.items():
        made.write(f"lessons/{folder}/lesson.toml", toml)
    made.write("lessons/01-first/lesson.md", "# Lesson 1\n\n## 1.1 Twice\n\n## 1.2 Half\n\n## 1.3 A box\n")
    made.write("lessons/01-first/hints.toml", HINTS)
    for file, text in (("toy/first.py", FIRST), ("toy/second.py", SECOND)):
        made.write(f"solutions/{file}", text)
        made.write(file, skeleton(text, 1 if "first" in file else 2))
    modules = {
        "autograder.checks.toy.first": module_of("first", Double, Halve, Put),
        "autograder.checks.toy.second": module_of("second", Triple),
        "autograder.probes.toy.first": module_of("first", double=probe("double"), halve=probe("halve"), put=put),
        "autograder.probes.toy.second": module_of("second", triple=probe("triple")),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    for holder in (reference, batch):
        monkeypatch.setattr(holder, "ROOT", root)
    monkeypatch.setattr(sandbox, "open_sandbox", lambda probes, level=None, **_: made.sandbox)
    monkeypatch.chdir(root)
    monkeypatch.setenv("COLUMNS", "100")
    for cached in (reference.source, workspace._compiled):
        cached.cache_clear()
    yield made
    for cached in (reference.source, workspace._compiled):
        cached.cache_clear()


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """The first two lessons of the real course, as a learner's folder: for tests that need a process and the sandbox."""
    from autograder import course

    root = tmp_path_factory.mktemp("real")
    (root / "toy/given").mkdir(parents=True)
    for place in ("toy/__init__.py", *(f"toy/given/{path.name}" for path in (ROOT / "toy/given").glob("*.py"))):
        shutil.copy(ROOT / place, root / place)
    for lesson in course.load(ROOT).lessons[:2]:
        folder = root / "lessons" / lesson.folder.name
        folder.mkdir(parents=True)
        for name in ("lesson.toml", "lesson.md", "hints.toml"):
            shutil.copy(lesson.folder / name, folder)
        shutil.copy(ROOT / lesson.file, root / lesson.file)
    return root


def pytest_configure(config) -> None:
    """Ctrl-C must reach the commands that tests start, also where the suite runs in the background and ignores it itself."""
    import signal

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
