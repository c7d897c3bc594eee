"""Writes the autograder zip: setup.sh, run_autograder, and beside them the grader with what it needs for these lessons."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Callable

from autograder import __version__
from autograder.course import Course, Lesson
from autograder.reference import ROOT
from autograder.sandbox.preload import libraries_for

from . import FOLDER, MEMORY_MB, SECONDS, SETTINGS

# Of autograder/: what no grading needs, or what is copied by lesson.
LEFT_OUT = (
    "selfcheck",
    "alternatives",
    "frozen",
    "release.py",
    "commands",
    "cli.py",
    "reports",
    "exports",
    "rubric",
    "similarity",
    "pages",
)
LEFT_OUT += ("__pycache__", "package.py", "checks", "probes")
FULL_TRACK = ("transformers", "tokenizers", "accelerate")  # imported by its given code when it is called
ALWAYS = ("torch", "numpy", "scipy", "safetensors", "pyyaml", "jaxtyping")  # what given code and the grader import
GRADER_MB = 512  # of the container's memory: grader, fork server and system; the rest is a check's. Measured: see RESULTS.md
LEAST_CHECK_MB = 192
SPARE_SECONDS = 60.0  # between our clock and Gradescope's: starting the container, importing, writing the results
PATIENCE = 3.0  # half a processor that others use too is slower than the machine the limits were chosen on
PACKAGES = {"rouge_score": "rouge-score", "PIL": "pillow"}  # where the module is called otherwise

SETUP = """#!/usr/bin/env bash
# Runs once, as root, when Gradescope builds the image: a Python of 3.11 or newer, and the libraries in the versions tested with.
set -euo pipefail
root="${CLIMB_AUTOGRADER:-/autograder}"
find_python() {
  for name in python3.13 python3.12 python3.11 python3; do
    if command -v "$name" >/dev/null && "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
    then echo "$name"; return; fi
  done
}
python="$(find_python)"
if [ -z "$python" ]; then
  apt-get update -qq
  for name in python3.12 python3.11; do
    if apt-get install -y -qq --no-install-recommends "$name" "$name-venv"; then break; fi
  done
  python="$(find_python)"
fi
[ -n "$python" ] || { echo "no Python of 3.11 or newer: choose a newer base image"; exit 1; }
"$python" -m venv "$root/venv"
pip() { "$root/venv/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check "$@"; }
torch_index="@TORCH_INDEX@"
if [ -n "$torch_index" ]; then pip --index-url "$torch_index" @TORCH@; fi
pip -r "$root/source/requirements.txt"
chmod 700 "$root/source"  # solutions and truths are in it
"""

RUN = """#!/usr/bin/env bash
# Runs for each submission. CLIMB_AUTOGRADER and CLIMB_PYTHON are for trying it elsewhere than in Gradescope's container.
root="${CLIMB_AUTOGRADER:-/autograder}"
cd "$root"
exec "${CLIMB_PYTHON:-$root/venv/bin/python}" -I "$root/source/climb/run.py" "$root"
"""

START = '''"""Started by run_autograder: puts this folder on the import path, and nothing else of the container's."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from autograder.gradescope.inside import main

sys.exit(main(Path(sys.argv[1])))
'''


def package(
    course: Course,
    lessons: list[Lesson],
    target: Path,
    seed: int,
    *,
    policy: Path | None = None,
    memory_mb: int = MEMORY_MB,
    seconds: float = SECONDS,
    sandbox: str = "user",
    questions: bool = False,
    torch_index: str = "",
    step: Callable[[str], None] = lambda _: None,
) -> None:
    """Writes the zip, whole or not at all. `step` is told what is being done."""
    with tempfile.TemporaryDirectory(prefix="climb-gradescope-") as place:
        top = Path(place)
        inside = top / FOLDER
        copy_course(inside, course, lessons)
        frozen = inside / "autograder" / "frozen"
        frozen.mkdir()
        for lesson in lessons:
            step(lesson.title)
            from autograder.release import freeze

            (frozen / (lesson.module + ".bin")).write_bytes(freeze(lesson, seed))
        settings = {
            "schema": 1,
            "grader": __version__,
            "modules": [lesson.module for lesson in lessons],
            "seed": seed,
            "sandbox": sandbox,
            "questions": questions,
            "memory_mb": max(LEAST_CHECK_MB, memory_mb - GRADER_MB),
            "seconds": seconds - SPARE_SECONDS if seconds > 2 * SPARE_SECONDS else seconds / 2,
            "patience": PATIENCE,
        }
        (inside / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        (inside / "run.py").write_text(START, encoding="utf-8")
        if policy is not None:
            shutil.copy(policy, inside / "course.toml")
        pins = requirements([lesson.module for lesson in lessons])
        (top / "requirements.txt").write_text("\n".join(pins) + "\n", encoding="utf-8")
        torch = next((pin for pin in pins if pin.startswith("torch==")), "torch")
        setup = SETUP.replace("@TORCH_INDEX@", torch_index).replace("@TORCH@", torch)
        (top / "setup.sh").write_text(setup, encoding="utf-8", newline="\n")
        (top / "run_autograder").write_text(RUN, encoding="utf-8", newline="\n")
        zip_folder(top, target)


def copy_course(target: Path, course: Course, lessons: list[Lesson]) -> None:
    """The grader, and of these lessons and the earlier ones the solutions and texts; given code of the tracks in use."""
    wanted = list(dict.fromkeys(other for lesson in lessons for other in (*course.earlier(lesson), lesson)))
    tracks = sorted({"toy", *(lesson.track for lesson in wanted)})
    forget = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "autograder", target / "autograder", ignore=shutil.ignore_patterns(*LEFT_OUT))
    for folder in ("checks", "probes"):
        (target / "autograder" / folder).mkdir()
        for shared in (ROOT / "autograder" / folder).glob("*.py"):
            shutil.copy(shared, target / "autograder" / folder)
        for track in {lesson.track for lesson in lessons}:
            shutil.copytree(ROOT / "autograder" / folder / track, target / "autograder" / folder / track, ignore=forget)
    for track in tracks:
        (target / track).mkdir()
        (target / "solutions" / track).mkdir(parents=True)
        shutil.copy(ROOT / track / "__init__.py", target / track)
        shutil.copytree(ROOT / track / "given", target / track / "given", ignore=forget)
        for beside in (ROOT / "solutions" / "__init__.py", ROOT / "solutions" / track / "__init__.py"):
            if beside.is_file():
                shutil.copy(beside, target / beside.relative_to(ROOT))
    for lesson in wanted:
        shutil.copy(ROOT / "solutions" / lesson.file, target / "solutions" / lesson.file)
        folder = target / "lessons" / lesson.folder.name
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("lesson.toml", "lesson.md", "questions.toml"):
            if (lesson.folder / name).is_file():
                shutil.copy(lesson.folder / name, folder)


def requirements(modules: list[str]) -> list[str]:
    """Pins of what these lessons' solutions import, in the versions installed here: the truths were made with them."""
    names = [PACKAGES.get(top, top) for top in sorted({name.split(".")[0] for name in libraries_for(modules)})]
    names += FULL_TRACK if any(module.startswith("full.") for module in modules) else ()
    pins = []
    for name in dict.fromkeys([*ALWAYS, *names]):
        try:
            pins.append(f"{name}=={re.sub(r'[+].*', '', version(name))}")  # without the build's own mark, such as +cpu
        except PackageNotFoundError:
            continue
    return pins


def zip_folder(folder: Path, target: Path) -> None:
    """All files of a folder at the top of a zip, scripts executable; put in place when it is complete."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        private = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(private, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    name = path.relative_to(folder).as_posix()
                    entry = zipfile.ZipInfo(name, date_time=(2026, 1, 1, 0, 0, 0))  # the same content gives the same zip
                    script = name in ("setup.sh", "run_autograder")
                    entry.external_attr = (0o100755 if script else 0o100644) << 16
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, path.read_bytes())
        os.replace(beside, target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
