"""A class's folder in which most files are broken or hostile, graded by `climb grade` in one run: every honest point is kept."""

import csv
import io
import json
import os
import stat
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path

import pytest

from autograder import reference

from . import target

ROOT = Path(__file__).resolve().parents[2]
HONEST = reference.source(target.MODULE)
FILE = "word_agent.py"
LONG = "\N{MATHEMATICAL FRAKTUR SMALL A}" * 60  # 240 bytes: with a number behind it, too long for a folder's name


def hostile(**attack):
    return target.Attack("x", **attack).source()


def zipped(*entries):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return data.getvalue()


def linked(name, to):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, to


def notebook(*cells):
    return json.dumps(
        {
            "cells": [{"cell_type": "code", "source": cell, "metadata": {}} for cell in cells],
            "metadata": {},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )


HELPED = (
    HONEST.replace("import numpy as np\n", "import numpy as np\nfrom my_helper import identity\n", 1)
    + "\nBaseline.get = identity(Baseline.get)\n"
)
BOMB = b"\0" * (40 << 20)
# student: ({file: content}, statuses of `positive_probability`, whether all other exercises keep their points)
CLASS = {
    "honest": ({FILE: HONEST}, "passed", True),
    "honest-in-toy": ({f"toy/{FILE}": HONEST}, "passed", True),
    "honest-zip": ({"hand-in.zip": zipped((f"work/toy/{FILE}", HONEST))}, "passed", True),
    "honest-notebook": ({"word_agent.ipynb": notebook("%matplotlib inline\n!pip install torch", HONEST)}, "passed", True),
    "honest-with-a-helper": ({FILE: HELPED, "my_helper.py": "def identity(x):\n    return x\n"}, "passed", True),
    "byte-order-mark": ({FILE: "\ufeff" + HONEST}, "passed", True),
    "crlf": ({FILE: HONEST.replace("\n", "\r\n")}, "passed", True),
    "old-mac": ({FILE: HONEST.replace("\n", "\r")}, "passed", True),
    "tabs": ({FILE: HONEST + "\ndef extra():\n\treturn 1\n"}, "passed", True),
    "wrong-file-name": ({"my final (2).py": HONEST}, "passed", True),
    "latin-1": ({FILE: (HONEST + "# caf\xe9\n").encode("latin-1")}, "error", False),
    "utf-16": ({FILE: HONEST.encode("utf-16")}, "error", False),
    "syntax-error": ({FILE: HONEST + "\ndef (\n"}, "error", False),
    "empty": ({FILE: ""}, "missing", False),
    "nothing": ({"notes.txt": "sorry"}, "missing", False),
    "broken-notebook": ({"word_agent.ipynb": "{"}, "error", False),
    "half-a-zip": ({"hand-in.zip": zipped((FILE, HONEST))[:500]}, ("error", "missing"), False),
    "zip-bomb": ({"hand-in.zip": zipped((FILE, BOMB))}, "refused", False),
    "dot-dot": ({"hand-in.zip": zipped((f"../../{FILE}", HONEST), ("../../../evil.txt", "x"))}, ("refused", "missing"), False),
    "absolute": ({"hand-in.zip": zipped((f"/tmp/{FILE}", HONEST))}, ("refused", "missing"), False),
    "link-in-zip": ({"hand-in.zip": zipped(linked(FILE, "/etc/passwd"))}, ("refused", "missing"), False),
    "module-named-torch": ({FILE: HONEST, "torch.py": "raise SystemExit"}, "passed", True),
    "line-ends-by-the-million": ({FILE: HONEST + "\n" * 900_000, "torch.py": "x = 1"}, "passed", True),
    "exits-with-97": ({FILE: hostile(body="import os\nos._exit(97)")}, "crashed", True),
    "exits-at-import": ({FILE: hostile(at_import="import os\nos._exit(97)")}, "crashed", False),
    "forges-its-import": (
        {
            FILE: hostile(
                at_import="import os, struct\nt = b'{\"import\": 7}'\nos.write(3, struct.pack('>II', len(t), 0) + t)\nos._exit(0)"
            )
        },
        "error",
        False,
    ),
    "floods": ({FILE: hostile(body="import os\nwhile True:\n    os.write(3, b'x' * 65536)")}, "failed", True),
    "escapes-in-a-message": ({FILE: hostile(body="raise ValueError('\x1b[2J[red]\u202e')")}, "error", True),
    "wrong": ({FILE: hostile(body="return honest(logits) + 1")}, "failed", True),
    "=cmd()": ({FILE: HONEST}, "passed", True),
    "seed.txt": ({FILE: HONEST}, "passed", True),
    "journal.jsonl": ({FILE: HONEST}, "passed", True),
    "[red]x[/] \x1b[2J": ({FILE: HONEST}, "passed", True),
    LONG: ({FILE: HONEST}, "passed", True),
    LONG + ".": ({FILE: HONEST}, "passed", True),
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The results of the whole class, and what the command said."""
    folder = tmp_path_factory.mktemp("class")
    for name, (files, *_) in CLASS.items():
        for file, content in files.items():
            path = folder / "sent" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "secret.py").write_text(HONEST)
    (folder / "sent" / "link-on-disk").mkdir()
    os.symlink(folder / "secret.py", folder / "sent" / "link-on-disk" / FILE)
    (folder / "sent" / "pipe").mkdir()
    os.mkfifo(folder / "sent" / "pipe" / FILE)
    before = sorted(os.listdir(folder))
    command = [
        sys.executable,
        "-m",
        "autograder.cli",
        "grade",
        folder / "sent",
        "--out",
        folder / "out",
        "--lessons",
        "3",
        "--jobs",
        "3",
    ]
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "TERM": "xterm"},
    )
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-3000:]
    assert sorted(os.listdir(folder)) == sorted(["out", *before])
    results = {path.parent.name: json.loads(path.read_text()) for path in (folder / "out").glob("*/result.json")}
    return folder / "out", results, done.stdout + done.stderr


def test_everybody_has_a_result(graded):
    _, results, _ = graded
    assert len(results) == len(CLASS) + 2
    for result in results.values():
        assert result["sandbox"] == "full" and result["seed"] != "public"


@pytest.mark.parametrize("name", [pytest.param(name, id=ascii(name)[:40]) for name in CLASS])
def test_each_gets_what_it_earned(graded, name):
    _, results, _ = graded
    _, statuses, others_pass = CLASS[name]
    plain = {"=cmd()": "cmd", "seed.txt": "seed.txt_", "journal.jsonl": "journal.jsonl_", LONG + ".": None, LONG: None}.get(
        name, name
    )
    if plain is None:  # two students whose names are equal when cut: both have a result of their own
        found = [result for student, result in results.items() if student.startswith(LONG[:20])]
        assert len(found) == 2
    else:
        found = [
            result
            for student, result in results.items()
            if student == plain or (name.startswith("[red]") and student.startswith("red"))
        ]
        assert len(found) == 1, sorted(results)
    for result in found:
        rows = {row["id"].split("::")[1]: row for row in result["exercises"]}
        assert rows[target.EXERCISE]["status"] in ((statuses,) if isinstance(statuses, str) else statuses), rows[target.EXERCISE]
        others = [row["status"] == "passed" for exercise, row in rows.items() if exercise != target.EXERCISE]
        assert all(others) if others_pass else not any(others), rows
        assert result["score"] == sum(row["max_score"] for row in rows.values() if row["status"] == "passed")


def test_links_and_pipes_on_the_disk_are_not_opened(graded):
    _, results, _ = graded
    for name in ("link-on-disk", "pipe"):
        assert {row["status"] for row in results[name]["exercises"]} <= {"refused", "missing"}


def test_no_name_and_no_message_attacks_its_reader(graded):
    out, results, said = graded
    with open(out / "scores.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == len(results) + 1
    for row in rows[1:]:
        assert row[0][0] not in "=+-@\t\r" and row[0].isprintable()
    rows = {row["id"].split("::")[1]: row for row in results["escapes-in-a-message"]["exercises"]}
    assert "[red]" in rows[target.EXERCISE]["message"]  # the line is there, as text
    for row in (row for result in results.values() for row in result["exercises"]):
        assert not [c for c in row["message"] if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs")], row
    assert "\x1b[2J" not in said


def test_nothing_was_written_where_a_name_pointed(graded):
    out, _, _ = graded
    assert not list(out.parent.rglob("evil.txt")) and not (out.parent.parent / "evil.txt").exists()
    ours = ["class.html", "journal.jsonl", "scores.csv", "seed.txt", "students.csv"]
    assert sorted(path.name for path in out.iterdir() if not path.is_dir() and not path.name.startswith(".")) == ours
