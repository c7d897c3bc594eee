"""What a learner has reached so far: `.climb/progress.json` in the course's folder. Written whole, under a lock."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Callable, Iterator

from autograder.course import Exercise

FOLDER = ".climb"
KINDS = {
    "status": str,
    "score": (int, float),
    "max_score": (int, float),
    "misconception": str,
    "message": str,
    "file": str,
    "hints": int,
}
MESSAGE = 200  # characters of a verdict that are kept, for `climb next` to say why


class Progress:
    """The last verdict and the hints taken, by exercise id.

    A damaged file counts as none: it costs a re-check and is kept beside the new one. Where nothing can be written, `unsaved`
    says why, and what was learnt holds until the process ends.
    """

    def __init__(self, root: Path):
        self.path = root / FOLDER / "progress.json"
        self.unsaved = ""
        self.entries = self._read()

    def _read(self) -> dict[str, dict[str, Any]]:
        """What the file says, as far as it makes sense."""
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            entries = data["exercises"].items()
        except FileNotFoundError:
            self.damaged = False
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.damaged = True
            return {}
        sound = {name: {k: v for k, v in entry.items() if sensible(k, v)} for name, entry in entries if isinstance(entry, dict)}
        self.damaged = sound != dict(entries)
        return sound

    def entry(self, exercise: Exercise) -> dict[str, Any]:
        return self.entries.get(exercise.id, {})

    def status(self, exercise: Exercise) -> str:
        return self.entry(exercise).get("status", "unknown")

    def passed(self, exercise: Exercise) -> bool:
        return self.status(exercise) == "passed"

    def fresh(self, exercise: Exercise, state: str | None) -> bool:
        """Whether the last verdict was about the lesson in this state (see `dependencies.states_of`)."""
        entry = self.entry(exercise)
        return "status" in entry and entry.get("file") == state

    def record(self, rows: list[dict], states: dict[str, str | None]) -> None:
        """Keeps the verdicts (`exercises` of a result) about the learner's own files, as they were in these states."""

        def change(entries: dict[str, dict[str, Any]]) -> None:
            for row in rows:
                kept = {key: row[key] for key in ("status", "score", "max_score", "misconception")}
                kept |= {"message": row["message"].split("\n")[0][:MESSAGE], "file": states.get(row["id"].split("::")[0])}
                entry = entries.setdefault(row["id"], {})
                entry.update(kept)

        self._change(change)

    def take_hint(self, exercise: Exercise, level: int) -> None:
        def change(entries: dict[str, dict[str, Any]]) -> None:
            entry = entries.setdefault(exercise.id, {})
            entry["hints"] = max(level, entry.get("hints", 0))

        self._change(change)

    def _change(self, change: Callable[[dict[str, dict[str, Any]]], None]) -> None:
        """Reads, changes and replaces the file at once: a second `climb` beside this one loses nothing."""
        try:
            self.path.parent.mkdir(exist_ok=True)
            with locked(self.path.with_suffix(".lock")):
                self.entries = self._read()
                change(self.entries)
                if self.damaged and self.path.is_file():
                    os.replace(self.path, self.path.with_suffix(".damaged.json"))
                write_whole(self.path, json.dumps({"schema": 1, "exercises": self.entries}, indent=1) + "\n")
        except OSError as error:
            change(self.entries)
            self.unsaved = f"your progress is not kept: {FOLDER}/progress.json cannot be written ({error.strerror})"


def sensible(key: str, value: Any) -> bool:
    """Whether an entry's value is of the kind that belongs there. What later versions add is let through."""
    if value is None:
        return key in ("misconception", "file")
    number = type(value) in (int, float)
    return isinstance(value, KINDS.get(key, object)) and not isinstance(value, bool) and (not number or 0 <= value < 1e6)


@contextlib.contextmanager
def locked(path: Path, blocking: bool = True, shared: bool = False) -> Iterator[None]:
    """A lock while the block runs, exclusive unless `shared`. Raises BlockingIOError if not `blocking` and another holds it."""
    with open(path, "a+") as file:
        try:
            import fcntl
        except ImportError:  # Windows: its own byte-range lock, never shared
            import msvcrt

            file.seek(0)
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if blocking else msvcrt.LK_NBLCK, 1)
            except PermissionError:
                raise BlockingIOError(f"{path} is locked") from None
        else:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if blocking else fcntl.LOCK_NB))
        yield


def write_whole(path: Path, text: str, mode: int = 0o666) -> None:
    """Writes beside and renames: whoever reads sees the old text or the new one, never half."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
