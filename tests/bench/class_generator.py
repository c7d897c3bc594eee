"""A class that never existed: students whose score is known from how their files were made.

`generate(folder, count, seed)` writes a folder, zip or notebook a student and returns what each must get, exercise by exercise.
Nothing is graded to find that out. It rests on two facts: a solution passes all its checks, and an exercise that no other one of
its file uses (a leaf) can be spoilt without costing any other. A spoilt leaf has one check only, so it loses all its points.
"""

from __future__ import annotations

import io
import json
import random
import re
import textwrap
import tokenize
import zipfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from autograder import course as courses
from autograder import reference
from autograder.checks import Edit
from autograder.course import Exercise, Lesson
from autograder.skeletons import skeleton

SHARES = {"right": 0.40, "lazy": 0.25, "wrong": 0.20, "broken": 0.08, "hostile": 0.07}
LAYOUTS = ("folder", "track", "zip", "zip of a folder", "notebook")

WRONG_BODIES = ("return None", "return 7", "return 'seven'", "return []")
RAISING = ("raise ValueError('no idea')", "return undefined_name", "1 / 0")
HOSTILE_BODIES = (
    "import os\nos._exit(0)",
    "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "import os\nwhile True:\n    os.write(3, b'x' * 65536)",
    "open('/etc/passwd').read()\nraise SystemExit",
    "import socket\nsocket.create_connection(('127.0.0.1', 22))",
    "import sys\nsys.setrecursionlimit(10 ** 9)\nf = lambda n: f(n + 1)\nf(0)",
    "return [b'x' * 10 ** 6] * 10 ** 5",
)
HOSTILE_IMPORTS = (
    "import os\nos._exit(97)",
    "raise SystemExit(0)",
    "import os, struct\nt = b'{\"import\": null, \"has\": true}'\nos.write(3, struct.pack('>II', len(t), 0) + t)\nos._exit(0)",
    "import sys\nsys.modules['torch'] = None\nimport torch\n",
)
PATIENT_BODIES = ("while True:\n    pass", "import time\ntime.sleep(1000)")  # each costs the time limit of one check
PATIENT_IMPORTS = ("while True:\n    pass",)  # and this one that of two
BROKEN = ("syntax error", "latin-1", "empty", "missing", "half a zip", "import error", "zip with a password")


@dataclass
class Student:
    """What one student must get: `scores` by exercise id, `named` misconceptions by exercise id."""

    name: str
    kind: str
    scores: dict[str, float]
    named: dict[str, str] = field(default_factory=dict)

    @property
    def score(self) -> float:
        return round(sum(self.scores.values()), 6)


def generate(
    folder: Path, count: int, seed: int, lessons: tuple[int, ...] = (1, 2, 3), patient: bool = True
) -> dict[str, Student]:
    """Writes the class into `folder` and returns {name: Student}. patient: with students whose code never ends."""
    rng = random.Random(seed)
    course = courses.load(reference.ROOT)
    chosen = [lesson for lesson in course.lessons if lesson.number in lessons and lesson.exercises and not lesson.silent_bug]
    kinds = [kind for kind, share in SHARES.items() for _ in range(round(share * count))]
    kinds = (kinds + ["right"] * count)[:count]
    rng.shuffle(kinds)
    made = {}
    for number, kind in enumerate(kinds):
        name = f"s{number:04}"
        student = Student(name, kind, {exercise.id: exercise.points for lesson in chosen for exercise in lesson.exercises})
        files: dict[str, str | bytes] = {}
        for lesson in chosen:  # a comment makes each text its student's own
            files[lesson.file] = reference.source(lesson.module) + f"\n# {name}\n"
        damage = globals()[f"_{kind}"](student, files, chosen, rng, patient)
        _write(folder, name, files, damage or rng.choice(LAYOUTS))
        made[name] = student
    return made


def _right(student, files, lessons, rng, patient) -> None:
    pass


def _lazy(student, files, lessons, rng, patient) -> None:
    """Some exercises are as they were handed out, some whole files, and some files are not there."""
    for lesson in lessons:
        how = rng.choice(("some", "some", "untouched", "absent", "done"))
        if how == "some":
            for exercise in rng.sample(leaves(lesson), k=rng.randint(1, max(1, len(leaves(lesson)) // 2))):
                number, name = lesson.number, exercise.name
                files[lesson.file] = with_body(files[lesson.file], name, f'raise NotImplementedError("lesson {number}: {name}")')
                student.scores[exercise.id] = 0.0
        elif how in ("untouched", "absent"):
            files[lesson.file] = skeleton((reference.ROOT / "solutions" / lesson.file).read_text(encoding="utf-8"), lesson.number)
            if how == "absent" and len(files) > 1:
                del files[lesson.file]
            _lose(student, lesson)


def _wrong(student, files, lessons, rng, patient) -> None:
    """One to three leaves are wrong: a known mistake, another value, an exception."""
    for lesson in rng.sample(lessons, k=rng.randint(1, len(lessons))):
        exercise = rng.choice(leaves(lesson))
        edits = [wrong for wrong in exercise.checks[0].known_mistakes() if isinstance(wrong, Edit)]
        edits = [wrong for wrong in edits if stays_within(files[lesson.file], exercise.name, wrong)]
        if edits and rng.random() < 0.5:
            wrong = rng.choice(edits)
            files[lesson.file] = reference.edited(files[lesson.file], wrong.replacements)
            student.named[exercise.id] = wrong.id
        else:
            files[lesson.file] = with_body(files[lesson.file], exercise.name, rng.choice(WRONG_BODIES + RAISING))
        student.scores[exercise.id] = 0.0


def stays_within(text: str, name: str, wrong: Edit) -> bool:
    """Whether an edit leaves all but this exercise as it is: one of a function that others call costs their points too."""
    blank = "raise NotImplementedError"
    return with_body(reference.edited(text, wrong.replacements), name, blank) == with_body(text, name, blank)


def _broken(student, files, lessons, rng, patient) -> str | None:
    """One file cannot be read or imported; or the whole zip cannot."""
    how, lesson = rng.choice(BROKEN), rng.choice(lessons)
    if how in ("half a zip", "zip with a password"):
        for each in lessons:
            _lose(student, each)
        return how
    _lose(student, lesson)
    text = files[lesson.file]
    files[lesson.file] = {
        "syntax error": text + "\ndef broken(:\n",
        "latin-1": (text + "# caf\xe9\n").encode("latin-1"),
        "empty": "",
        "missing": "",
        "import error": "import a_module_that_is_not_there\n" + text,
    }[how]
    if how == "missing" and len(files) > 1:
        del files[lesson.file]
    return "track"  # bytes that are no text cannot be a notebook's


def _hostile(student, files, lessons, rng, patient) -> None:
    """One leaf or one import attacks whoever runs it. Everything else keeps its points."""
    lesson = rng.choice(lessons)
    if rng.random() < 0.3:
        files[lesson.file] += "\n" + rng.choice(HOSTILE_IMPORTS + (PATIENT_IMPORTS if patient else ())) + "\n"
        _lose(student, lesson)
    else:
        exercise = rng.choice(leaves(lesson))
        body = rng.choice(HOSTILE_BODIES + (PATIENT_BODIES if patient else ()))
        files[lesson.file] = with_body(files[lesson.file], exercise.name, body)
        student.scores[exercise.id] = 0.0


def _lose(student: Student, lesson: Lesson) -> None:
    student.scores.update(dict.fromkeys((exercise.id for exercise in lesson.exercises), 0.0))


@lru_cache(maxsize=None)
def leaves(lesson: Lesson) -> tuple[Exercise, ...]:
    """The exercises that are functions with one check, and that nothing else in their file mentions."""
    source = reference.source(lesson.module)
    words = [token.string for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.NAME]
    return tuple(
        exercise
        for exercise in lesson.exercises
        if len(exercise.checks) == 1 and words.count(exercise.name) == 1 and f"def {exercise.name}(" in source
    )


def with_body(text: str, name: str, body: str) -> str:
    """The text with another body for one function."""
    region = re.compile(rf"(def {name}\(.*?# BEGIN SOLUTION\n)(.*?)( *# END SOLUTION\n)", re.DOTALL)
    made, times = region.subn(lambda found: found[1] + textwrap.indent(body, "    ") + "\n" + found[3], text, count=1)
    assert times == 1, name
    return made


def _write(folder: Path, name: str, files: dict[str, str | bytes], layout: str) -> None:
    """A student's files as learning systems hand them on."""
    if layout == "notebook" and all(isinstance(text, str) for text in files.values()):
        for file, text in files.items():
            cells = [
                {"cell_type": "code", "source": cell, "metadata": {}, "outputs": []} for cell in ("%matplotlib inline", text)
            ]
            _put(
                folder / name / Path(file).with_suffix(".ipynb").name, json.dumps({"cells": cells, "metadata": {}, "nbformat": 4})
            )
        return
    if layout in ("folder", "track", "notebook"):
        for file, text in files.items():
            _put(folder / name / (file if layout == "track" else Path(file).name), text)
        return
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, text in files.items():
            archive.writestr(f"work/{file}" if layout == "zip of a folder" else file, text)
    packed = bytearray(data.getvalue())
    if layout == "half a zip":
        packed = packed[: len(packed) // 2]
    if layout == "zip with a password":  # the flag alone: nobody gets as far as the key
        for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            start = packed.find(signature)
            while start >= 0:
                packed[start + at] |= 1
                start = packed.find(signature, start + 4)
    _put(folder / f"{name}.zip", bytes(packed))


def _put(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def compared(made: dict[str, Student], results: dict[str, dict]) -> list[str]:
    """What is not as it must be, a line each: a student without a result, an exercise with other points or another name."""
    wrong = []
    for name, student in made.items():
        result = results.get(name)
        if result is None:
            wrong.append(f"{name} ({student.kind}): no result")
            continue
        rows = {row["id"]: row for row in result["exercises"]}
        for id, score in student.scores.items():
            if rows[id]["score"] != score:
                wrong.append(
                    f"{name} ({student.kind}): {id}: expected {score:g}, received {rows[id]['score']:g} ({rows[id]['status']})"
                )
        for id, mistake in student.named.items():
            if rows[id]["misconception"] != mistake:
                wrong.append(f"{name} ({student.kind}): {id}: expected {mistake}, received {rows[id]['misconception']}")
    return wrong
