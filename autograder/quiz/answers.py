"""The forecasts of one person on one quiz, and the file they are kept in: written whole after each of them."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from autograder.quiz.file import Quiz, Task

FORMAT, VERSION = "climb-quiz-answers", 1


class AnswersProblem(Exception):
    """The file cannot be gone on with."""


class Answers:
    """The forecasts so far. path None: they are kept nowhere."""

    def __init__(self, quiz: Quiz, path: Path | None) -> None:
        """Reads the file if it is there. Raises AnswersProblem if it is no such file, or one of another quiz."""
        self.quiz, self.path = quiz, path
        self.rows: list[dict[str, Any]] = self._read()

    def _read(self) -> list[dict[str, Any]]:
        if self.path is None or not self.path.exists():
            return []
        expected = f"{self.path}: expected the file of an earlier `climb quiz`; name another one with --out"
        try:
            data = json.loads(self.path.read_text(encoding="utf-8-sig"))
            rows, ours = data["forecasts"], data["format"] == FORMAT and data["version"] == VERSION
            sound = ours and all(isinstance(row["id"], str) and percent_in(row["percent"]) is not None for row in rows)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise AnswersProblem(expected) from None
        if not sound:
            raise AnswersProblem(expected)
        if data.get("quiz") != self.quiz.digest:
            title = data.get("title") if isinstance(data.get("title"), str) else "another quiz"
            shown = "".join(c for c in title if c.isprintable())[:60]
            other = f"holds forecasts of `{shown}`, or of another version of this quiz"
            raise AnswersProblem(f"{self.path}: {other}; name another file with --out")
        names = [task.id for task in self.quiz.tasks[: len(rows)]]
        if [row["id"] for row in rows] != names:
            raise AnswersProblem(f"{self.path}: its forecasts do not stand in the quiz's order; name another file with --out")
        return rows

    @property
    def done(self) -> int:
        return len(self.rows)

    @property
    def current(self) -> Task | None:
        """The task to forecast now; None when there is none left."""
        return self.quiz.tasks[self.done] if self.done < len(self.quiz.tasks) else None

    @property
    def said(self) -> list[float]:
        """The probabilities that were given to yes."""
        return [row["percent"] / 100 for row in self.rows]

    @property
    def came(self) -> list[int]:
        return [task.answer for task in self.quiz.tasks[: self.done]]

    def forecast(self, percent: float) -> None:
        """Takes a forecast of the current task, and writes the file."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
        row = {"id": self.quiz.tasks[self.done].id, "percent": percent, "at": now}
        self._write([*self.rows, row])

    def _write(self, rows: list[dict[str, Any]]) -> None:
        data = {"format": FORMAT, "version": VERSION, "title": self.quiz.title, "quiz": self.quiz.digest, "forecasts": rows}
        if self.path is not None:
            from autograder.progress import write_whole

            write_whole(self.path, json.dumps(data, ensure_ascii=False, indent=1) + "\n")
        self.rows = rows  # the file first: what is shown as kept, is kept


def percent_in(value: Any) -> float | None:
    """A forecast from 0 to 100, a whole number as one; None for anything else. A text may end with a percent sign."""
    if isinstance(value, str):
        text = value.strip().removesuffix("%").strip().replace(",", ".", 1)
        if not text or not set(text) <= set("0123456789."):
            return None
        try:
            value = float(text)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and 0 <= value <= 100):
        return None
    return int(value) if value == int(value) else float(value)
