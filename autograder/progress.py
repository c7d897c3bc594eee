"""What a learner has reached so far: `.climb/progress.json` in the course's folder. Written whole, under a lock."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Iterator

from autograder.course import Course, Exercise, Lesson

FOLDER = ".climb"


class Progress:
    """The last verdict and the hints taken, by exercise id. A damaged file counts as none: it only costs a re-check."""

    def __init__(self, root: Path):
        self.path = root / FOLDER / "progress.json"
        self.data = self._read()

    def _read(self) -> dict[str, Any]:
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            data = {}
        entries = data.get("exercises") if isinstance(data, dict) else None
        return {"schema": 1, "exercises": entries if isinstance(entries, dict) else {}}

    def entry(self, exercise: Exercise) -> dict[str, Any]:
        return self.data["exercises"].get(exercise.id, {})

    def status(self, exercise: Exercise) -> str:
        return self.entry(exercise).get("status", "unknown")

    def passed(self, exercise: Exercise) -> bool:
        return self.status(exercise) == "passed"

    def fresh(self, exercise: Exercise, root: Path) -> bool:
        """Whether the last verdict was about the file as it is now."""
        entry = self.entry(exercise)
        return "status" in entry and entry.get("file") == file_hash(root, exercise.lesson)

    def record(self, result: dict, course: Course) -> None:
        """Keeps the verdicts of a result about the learner's own files."""
        hashes = {lesson.file: file_hash(course.root, lesson) for lesson in course.lessons}
        with self._locked() as entries:
            for row in result["exercises"]:
                entry = entries.setdefault(row["id"], {})
                entry |= {key: row[key] for key in ("status", "score", "max_score", "misconception")}
                entry["file"] = hashes.get(row["id"].split("::")[0])

    def take_hint(self, exercise: Exercise, level: int) -> None:
        with self._locked() as entries:
            entry = entries.setdefault(exercise.id, {})
            entry["hints"] = max(level, entry.get("hints", 0))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        """Reads, lets the caller change, and replaces the file at once: a second `climb` beside this one loses nothing."""
        self.path.parent.mkdir(exist_ok=True)
        with locked(self.path.with_suffix(".lock")):
            self.data = self._read()
            yield self.data["exercises"]
            write_whole(self.path, json.dumps(self.data, indent=1) + "\n")


@contextlib.contextmanager
def locked(path: Path, blocking: bool = True) -> Iterator[None]:
    """An exclusive lock while the block runs. Raises BlockingIOError at once if `blocking` is False and another holds it."""
    with open(path, "a+") as file:
        try:
            import fcntl
        except ImportError:  # Windows: its own byte-range lock
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if blocking else msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        yield


def write_whole(path: Path, text: str) -> None:
    """Writes beside and renames: whoever reads sees the old text or the new one, never half."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def file_hash(root: Path, lesson: Lesson) -> str | None:
    try:
        return hashlib.sha256((root / lesson.file).read_bytes()).hexdigest()[:16]
    except OSError:
        return None
