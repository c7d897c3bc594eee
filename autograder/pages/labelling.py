"""Pairs of answers to judge, and the file that the judgements are kept in: behind `climb label`, on the terminal and as a page.

The file is a Label Studio JSON export: a list of tasks, each with its texts and one annotation. It is written whole after every
judgement, so that nothing is lost and one can go on later.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import combinations
from pathlib import Path
from typing import Any, Iterator

from full.given import preferences as given
from full.given.problems import InputProblem

CHOICES = {"1": "one", "2": "two", "0": "tie", "s": "skip"}
"What a key says: the first or the second answer as they are shown, a tie, or that one does not want to judge this pair."


@dataclass(frozen=True)
class Pair:
    """Two answers to a prompt. shown: which of them stands first (on the left): 1 or 2."""

    prompt: str
    answer1: str
    answer2: str
    shown: int

    @property
    def texts(self) -> tuple[str, str, str]:
        return self.prompt, self.answer1, self.answer2

    @property
    def first(self) -> str:
        return self.answer1 if self.shown == 1 else self.answer2

    @property
    def second(self) -> str:
        return self.answer2 if self.shown == 1 else self.answer1


def pairs_of(source: str, count: int, seed: int) -> list[Pair]:
    """The first `count` pairs of a source with two different answers; a coin decides which of them stands first.

    source: what `load_preferences` reads, labelled or not; of four predictions to a question a coin picks two. What labels there
    are is not shown and not kept.  Raises InputProblem.
    """
    kind, rows = given.read(source, limit=2 * count + 10 if source in ("questions", "posts") else 0)
    rng, found, seen = random.Random(seed), [], set()
    for texts in _texts(kind, rows, rng):
        shown = rng.choice((1, 2))
        if texts[1] != texts[2] and texts not in seen:
            seen.add(texts)
            found.append(Pair(*texts, shown))
        if len(found) == count:
            break
    if not found:
        raise InputProblem(f"{source}: holds no two different answers to one prompt")
    return found


def _texts(kind: str, rows: list[dict], rng: random.Random) -> Iterator[tuple[str, str, str]]:
    for row in rows:
        if kind == "qa_feedback":
            one, two = rng.choice(list(combinations((1, 2, 3, 4), 2)))
            answers = (given.text_in(row, f"prediction {which}") for which in (one, two))
            yield given.context_prompt(row["question"], row["passages"]), *answers
        elif kind == "pairs":
            yield tuple(given.text_in(row, name) for name in ("prompt", "chosen", "rejected"))
        elif kind == "comparisons":
            (preference,) = given.from_comparisons([row])
            yield preference.prompt, preference.first, preference.second
        else:
            texts = row["data"] if kind == "label studio" else row
            yield tuple(given.text_in(texts, name) for name in ("prompt", "answer1", "answer2"))


class Labels:
    """The pairs and the judgements so far; the file holds the judgements in the order in which they were made."""

    def __init__(self, pairs: list[Pair], path: Path, seed: int) -> None:
        """Reads the file if it is there. Raises InputProblem if it is no such file, or one of other pairs."""
        self.pairs, self.path, self.seed = pairs, path, seed
        self.tasks = self._read()
        self.waiting = self._waiting()
        self.since = time.monotonic()

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        expected = "expected the file of an earlier `climb label`; name another one with --out"
        try:
            tasks = json.loads(self.path.read_text(encoding="utf-8-sig"))
            texts = {tuple(task["data"][name] for name in ("prompt", "answer1", "answer2")) for task in tasks}
        except (OSError, ValueError, KeyError, TypeError):
            raise InputProblem(f"{self.path}: {expected}") from None
        if not all(map(_is_ours, tasks)):
            raise InputProblem(f"{self.path}: {expected}")
        strange = texts - {pair.texts for pair in self.pairs}
        if strange:
            what = f"holds {len(strange)} judgements of pairs that are not among these {len(self.pairs)}"
            raise InputProblem(f"{self.path}: {what}; take the same source, --count and --seed as before, or another --out")
        return tasks

    def _waiting(self) -> list[Pair]:
        done = {tuple(task["data"][name] for name in ("prompt", "answer1", "answer2")) for task in self.tasks}
        return [pair for pair in self.pairs if pair.texts not in done]

    @property
    def current(self) -> Pair | None:
        """The pair to judge now; None when all are judged."""
        return self.waiting[0] if self.waiting else None

    @property
    def done(self) -> int:
        return len(self.tasks)

    def judge(self, key: str) -> None:
        """Takes a key of CHOICES for the current pair, and writes the file. Raises KeyError for another key."""
        choice, pair = CHOICES[key], self.waiting[0]
        better = {"one": pair.shown, "two": 3 - pair.shown}.get(choice)
        selected = {1: "left", 2: "right", None: "tie"}[better]
        now = datetime.now(timezone.utc)
        number = max([int(1000 * now.timestamp()), *(task["annotations"][0]["id"] + 1 for task in self.tasks)])  # nobody else's
        result = {"value": {"selected": selected}, "id": f"r{number}", "from_name": "comparison", "to_name": "comparison",
                  "type": "pairwise", "origin": "manual"}  # fmt: skip
        annotation = {"id": number, "completed_by": 1, "result": [] if choice == "skip" else [result],
                      "was_cancelled": choice == "skip", "created_at": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
                      "lead_time": round(time.monotonic() - self.since, 2)}  # fmt: skip
        shown = ["answer1", "answer2"] if pair.shown == 1 else ["answer2", "answer1"]
        task = {"id": self.pairs.index(pair) + 1, "data": dict(zip(("prompt", "answer1", "answer2"), pair.texts)),
                "annotations": [annotation], "predictions": [], "meta": {"shown": shown, "seed": self.seed}}  # fmt: skip
        self._write([*self.tasks, task])

    def undo(self) -> bool:
        """Takes the last judgement back, and writes the file; its pair is the current one again. False if there is none."""
        if not self.tasks:
            return False
        self._write(self.tasks[:-1])
        return True

    def counts(self) -> dict[str, int]:
        """How often each selection was made, and how often the answer that stood first was preferred."""
        found = {"left": 0, "right": 0, "tie": 0, "skipped": 0, "first": 0}
        for task in self.tasks:
            (annotation,) = task["annotations"]
            if annotation["was_cancelled"] or not annotation["result"]:
                found["skipped"] += 1
                continue
            selected = annotation["result"][0]["value"]["selected"]
            found[selected] += 1
            shown = task.get("meta", {}).get("shown", ["answer1"])
            found["first"] += {"left": "answer1", "right": "answer2"}.get(selected) == shown[0]
        return found

    def _write(self, tasks: list[dict[str, Any]]) -> None:
        from autograder.progress import write_whole

        write_whole(self.path, json.dumps(tasks, ensure_ascii=False, indent=1) + "\n")
        self.tasks, self.waiting, self.since = tasks, [], time.monotonic()  # the file first: what is shown as kept, is kept
        self.waiting = self._waiting()


def _is_ours(task: dict[str, Any]) -> bool:
    """Whether a task has one annotation of the kind that is written here."""
    try:
        (annotation,) = task["annotations"]
        made = [] if annotation["was_cancelled"] else [result["value"]["selected"] for result in annotation["result"]]
        return isinstance(annotation["id"], int) and all(selected in ("left", "right", "tie") for selected in made)
    except (KeyError, TypeError, ValueError):
        return False


def readable(prompt: str) -> str:
    """A prompt for the eye: question and context apart."""
    return prompt.replace(" context: ", "\n\ncontext: ", 1) if prompt.startswith("question: ") else prompt


def told(labels: Labels) -> list[str]:
    """What has been judged, in a line or two for the terminal."""
    counts = labels.counts()
    decided = counts["left"] + counts["right"]
    ties = f"{counts['tie']} {'tie' if counts['tie'] == 1 else 'ties'}"
    lines = [f"{labels.done} of {len(labels.pairs)} pairs judged: {decided} with a winner, {ties}, {counts['skipped']} skipped"]
    if decided:
        lines[0] += f"; the answer that stood first won {counts['first']} of {decided}"
    if labels.done:
        small = " batch_size=4" if decided < 60 else ""  # a batch of the preset would be more pairs than there are
        lines.append(f"They are in {labels.path}. To learn from them: climb run reward-model data={labels.path}{small}")
    if labels.waiting and labels.done:
        lines.append("The same command goes on where you stopped.")
    return lines
