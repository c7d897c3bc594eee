"""The public seed's cases and truths, kept from one command to the next: then the grader itself needs no torch, half a cold check's time.

Beside the learner's progress, in `.climb/truths`. A file holds for the sources it was made from, and for no others. A secret seed's
truths are never kept. Mistakes are not either: they are worked out when an answer is wrong.
"""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path

from autograder import reference
from autograder.course import Lesson
from autograder.sandbox import wire

from .oracle import PUBLIC_SEED, Oracle, entry_of, key

FOLDER = Path(".climb") / "truths"
MADE_FROM = ("autograder/checks", "autograder/probes", "autograder/grading", "solutions", "toy/given", "full/given")  # all of a truth


class KeptOracle(Oracle):
    """An Oracle of the public seed that begins with what an earlier command worked out, and can keep what it works out itself."""

    def __init__(self, lesson: Lesson, root: Path, made_from: str):
        """root: the course's folder.  made_from: `sources()`."""
        super().__init__(lesson.module, PUBLIC_SEED)
        self.path = root / FOLDER / f"{lesson.module}-{made_from}.bin"
        self._kept: set[tuple[str, str]] = set()
        try:
            entries = wire.frames(self.path.read_bytes())
            for entry in entries:
                name = (entry["exercise"], entry["check"])
                self._memory[("cases", name)], self._memory[("truth", name)] = entry["cases"], entry["expected"]
                self._kept.add(name)
        except (OSError, KeyError, TypeError):  # not there, or damaged: worked out again
            pass

    def keep(self, lesson: Lesson) -> None:
        """Writes down the checks whose truth is known. A folder that cannot be written keeps nothing, and nothing is lost."""
        known = [check for check in lesson.checks if ("truth", key(check)) in self._memory]
        if {key(check) for check in known} <= self._kept:
            return
        try:
            frames = [wire.encode(entry_of(self, check)) for check in known]
            self.path.parent.mkdir(parents=True, exist_ok=True)
            for older in self.path.parent.glob(f"{lesson.module}-*.bin"):
                if older != self.path:
                    older.unlink(missing_ok=True)
            beside = self.path.with_suffix(f".{os.getpid()}")
            beside.write_bytes(b"".join(frames))
            os.replace(beside, self.path)
        except (OSError, wire.WireError):
            return
        self._kept = {key(check) for check in known}


def sources() -> str:
    """What names the sources that truths are made from, and the libraries that compute them."""
    digest = hashlib.sha256(" ".join(version(name) for name in ("torch", "numpy", "scipy")).encode())
    for folder in MADE_FROM:
        for path in sorted((reference.ROOT / folder).rglob("*.py")):
            digest.update(str(path.relative_to(reference.ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
