"""Rows of a text and what is to be written for it, from any source, in three parts: to learn, to choose by, to measure on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from full.given import data, preferences
from full.given.problems import InputProblem
from toy.given.ppo import require_not_negative, setting

from . import common, measures

SOURCES = ("source", "prompt", "text", "context", "post")
"What a column of texts to answer may be called, the likeliest first."
TARGETS = ("target", "demonstration", "answer", "completion", "summary", "ref_text", "gold")
"And one of answers."


@dataclass(frozen=True)
class Examples:
    """What is read, and how much of it."""

    target_names = TARGETS
    needs_target = True
    data: str = setting("questions", "Rows of a text and its answer: built-in questions or posts, a file, a folder, a hub name.")
    source_column: str = setting("", f"Column of the texts; left out: the first there is of {', '.join(SOURCES)}.")
    target_column: str = setting("", f"Column of the answers; left out: the first there is of {', '.join(TARGETS)}.")
    train_split: str = setting("train", "Split to learn from; of a single file, its rows before those for validation and test.")
    validation_split: str = setting(
        "validation", "Split to choose by; of a single file, validation_rows before its last ones."
    )
    test_split: str = setting("test", "Split that is measured on and nothing else; of a single file, its last test_rows.")
    rows: int = setting(2000, "Rows to learn from, 0: all.")
    validation_rows: int = setting(64, "Rows to choose by.")
    test_rows: int = setting(200, "Rows to measure on.")

    def __post_init__(self) -> None:
        getattr(super(), "__post_init__", lambda: None)()
        require_not_negative("rows", self.rows)
        for name in ("validation_rows", "test_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, received {getattr(self, name)}")


def parts_of(config: Any, say: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """(training, validation, test): rows {"id", "source", "target"}; no source stands in two of them."""
    wanted = (
        (config.train_split, config.rows),
        (config.validation_split, config.validation_rows),
        (config.test_split, config.test_rows),
    )
    if common.is_one_file(config.data):
        rows = read(config, config.train_split, 0)
        behind = config.validation_rows + config.test_rows
        if len(rows) <= behind:
            raise InputProblem(
                f"data={config.data}: {len(rows)} rows leave none to learn from; lower validation_rows or test_rows"
            )
        first, last = rows[:-behind], rows[-behind:]
        found = [first[: config.rows or None], last[: config.validation_rows], last[config.validation_rows :]]
    else:
        found = [read(config, split, limit) for split, limit in wanted]
    known = {row["source"] for row in found[0]}
    for what, rows in zip(("validation", "test"), found[1:]):
        again = [row for row in rows if row["source"] in known]
        if len(again) == len(rows):
            raise InputProblem(f"data={config.data}: all {what} rows have a text that is trained on; name another {what}_split")
        if again:
            say(f"{len(again)} of {len(rows)} {what} rows have a text that is trained on; they were left out")
            rows[:] = [row for row in rows if row["source"] not in known]
        known |= {row["source"] for row in rows}
    return tuple(found)


def read(config: Any, split: str, limit: int) -> list[dict[str, Any]]:
    """The rows of a split, at most so many. Raises InputProblem."""
    where = f"data={config.data}"
    if config.data in data.WORLDS:
        if config.data == data.BUILTIN:
            raise InputProblem(f"{where}: has texts to go on with and no answers; name questions or posts")
        rows = data.world_rows(config.data, split, limit or data.WORLD_ROWS)
    else:
        rows = list(data._raw_rows(config.data, split, limit, "data"))
    if not rows:
        raise InputProblem(f"{where}: holds no rows")
    source = _column(config, "source", SOURCES, rows[0])
    target = _column(config, "target", config.target_names, rows[0])
    found = []
    for number, row in enumerate(rows, 1):
        text = preferences.context_prompt(row["question"], row["passages"]) if source is None else row.get(source)
        answer = row.get(target) if target else ""
        if isinstance(answer, list) and answer:  # several answers of equal right: the first
            answer = answer[0]
        for name, value in ((source or "question", text), *([(target, answer)] if target else [])):
            if not isinstance(value, str) or not value.strip():
                received = "nothing" if value is None else "an empty text" if isinstance(value, str) else type(value).__name__
                raise InputProblem(f"{where}: row {number}: expected text in `{name}`, received {received}; leave such rows out")
        found.append({"id": str(row.get("id") or number), "source": text, "target": answer})
    return found


def _column(config: Any, what: str, names: tuple[str, ...], row: dict[str, Any]) -> str | None:
    """The column's name; None for questions whose passages have yet to be put together, and for answers that can be missing."""
    named = getattr(config, f"{what}_column")
    if named in row:
        return named
    found = next((name for name in names if name in row), None)
    if not named and found is not None:
        return found
    if not named and what == "source" and {"question", "passages"} <= set(row):
        return None
    if not named and what == "target" and not config.needs_target:
        return None
    there = ", ".join(map(str, row)) or "none"
    missing = f"there is no column `{named}`" if named else f"no column is called {' or '.join(names)}"
    raise InputProblem(f"data={config.data}: {missing}; there are {there}. Name the right one by {what}_column=...")


def exact(source: str, rows: list[dict[str, Any]], texts: list[str]) -> dict[str, Any]:
    """What the built-in worlds know exactly of answers to their own texts: scores with intervals; nothing of other data."""
    return {
        name: measures.interval(values) for name, values in exact_scores(source, [row["source"] for row in rows], texts).items()
    }


def exact_scores(source: str, prompts: list[str], texts: list[str]) -> dict[str, np.ndarray]:
    """The same, row by row."""
    if source == "questions":
        from full.given.questions import world

        scores = world().scores(prompts, texts)
        return {name: np.asarray(getattr(scores, name)) for name in ("completeness", "relevance", "factuality")}
    if source == "posts":
        from full.given.posts import world

        return {"gold_reward": world().scores(prompts, texts)}
    if source == data.BUILTIN:
        return {
            "gold_reward": np.asarray(data.the_world().gold_reward([f"{p} {t}" for p, t in zip(prompts, texts)]), dtype=float)
        }
    return {}
