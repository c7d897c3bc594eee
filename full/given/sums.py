"""The world of sums: additions and subtractions of two-digit numbers, whose answers can be checked exactly.

    from full.given.sums import world

    sums = world()
    sums.rows("train")               # {"id", "prompt": "17 + 25 =", "answer": "42", "kind": "plus", "carries": True}, ...
    sums.answer("17 + 25 =")         # 42
    sums.demonstrations(3, seed=0)   # what pupils wrote for such sums: Demonstration(sum, " 32", worked=False, slip="carry"), ...

Every sum belongs to one split, in either order of its numbers: who has learned from 17 + 25 is not asked for 25 + 17. There are
8,100 additions of numbers from 10 to 99, and 4,005 subtractions with something left.

The built-in model has learned from a textbook, which shows the working of every sum, and then from pupils, who seldom do. A share
of WORKED shows it, tens and ones apart and then the sum of the two (" (30 + 12) = 42"; of 83 - 27, " (60 - 4) = 56"), and rarely
slips. The others write the answer straight down, and mostly slip. A slip in a plain answer is one of these, whichever can be made,
with equal chances: `carry`, a carry or a borrowed ten that is forgotten; `one`, `ten` and `both`, a number that is off by 1, by 10,
by 1 and 10. With the working shown it is `tens` or `ones`, a part that is off (by 10, by 1) and summed up as it stands, or `total`,
the last number off by 1 or by 10. All go up as often as down.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

LEAST, MOST = 10, 99
"The numbers of a sum."
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
SPLIT_SEED = 1501
"Of the order in which sums are dealt out to the splits: another one would put sums that a built-in model knows among the test's."
WORKED = 0.15
"P(a pupil shows the working)."
PLAIN_RIGHT, WORKED_RIGHT = 0.1, 0.85
"P(no slip) of an answer straight down, and of one with the working."
PROMPT = re.compile(r"\s*(\d+) ([+-]) (\d+) =\s*")


@lru_cache(maxsize=1)
def world() -> SumWorld:
    """The sums of the course."""
    return SumWorld()


@dataclass(frozen=True)
class Sum:
    """One sum of two numbers; sign: "+" or "-"."""

    first: int
    sign: str
    second: int

    @property
    def prompt(self) -> str:
        return f"{self.first} {self.sign} {self.second} ="

    @property
    def answer(self) -> int:
        return self.first + self.second if self.sign == "+" else self.first - self.second

    @property
    def kind(self) -> str:
        return "plus" if self.sign == "+" else "minus"

    @property
    def parts(self) -> tuple[int, int]:
        """(tens, ones) worked out apart: their sum is the answer; the ones of a subtraction may be below 0."""
        way = 1 if self.sign == "+" else -1
        return 10 * (self.first // 10 + way * (self.second // 10)), self.first % 10 + way * (self.second % 10)

    @property
    def carries(self) -> bool:
        """Whether a ten is carried over, or borrowed."""
        return not 0 <= self.parts[1] <= 9

    @property
    def forgotten(self) -> int:
        """The answer of whoever forgets that ten."""
        return self.answer + (-10 if self.sign == "+" else 10) * self.carries


@dataclass(frozen=True)
class Demonstration:
    """What a pupil wrote for a sum."""

    sum: Sum
    completion: str
    worked: bool
    "Whether the working is shown."
    slip: str | None
    "What went wrong, None: nothing did."


def working(tens: int, ones: int, total: int) -> str:
    """A completion with its working: " (30 + 12) = 42", or " (60 - 4) = 56"."""
    return f" ({tens} {'+' if ones >= 0 else '-'} {abs(ones)}) = {total}"


def shows_working(completion: str) -> bool:
    """Whether something is worked out in a completion before its last number."""
    return "=" in completion


class SumWorld:
    """All sums, dealt out to the splits; their answers; what pupils write."""

    def __init__(self) -> None:
        rng = np.random.default_rng(SPLIT_SEED)
        self.splits: dict[str, list[Sum]] = {name: [] for name in SHARES}
        pairs = [(low, high) for low in range(LEAST, MOST + 1) for high in range(low, MOST + 1)]
        for sign in "+-":
            some = [pair for pair in pairs if sign == "+" or pair[0] < pair[1]]
            order, start = rng.permutation(len(some)), 0
            for name, end in zip(SHARES, np.round(np.cumsum(list(SHARES.values())) * len(some)).astype(int)):
                for low, high in (some[n] for n in order[start:end]):
                    self.splits[name].append(Sum(high, sign, low))
                    if sign == "+" and low < high:
                        self.splits[name].append(Sum(low, sign, high))
                start = end
        for name, sums in self.splits.items():
            self.splits[name] = [sums[n] for n in rng.permutation(len(sums))]

    def rows(self, split: str = "train") -> list[dict[str, Any]]:
        """All sums of a split, always in the same order."""
        return [
            {"id": f"{split}-{n}", "prompt": one.prompt, "answer": str(one.answer), "kind": one.kind, "carries": one.carries}
            for n, one in enumerate(self._of(split))
        ]

    def answer(self, prompt: str) -> int:
        """The answer to "17 + 25 =". Raises ValueError for a prompt of another kind."""
        return self.read(prompt).answer

    def read(self, prompt: str) -> Sum:
        """The sum that a prompt asks for. Raises ValueError."""
        found = PROMPT.fullmatch(prompt)
        if found is None:
            raise ValueError(f"prompt: expected two numbers with + or - between them, as `17 + 25 =`, received {prompt!r:.60}")
        return Sum(int(found[1]), found[2], int(found[3]))

    def demonstrations(self, count: int, seed: int, split: str = "train", *, textbook: bool = False) -> list[Demonstration]:
        """What pupils wrote for `count` sums of a split, drawn with replacement. The same seed gives the same ones.

        textbook: what stands in their textbook in place of it: the working, always, and no slip.
        """
        rng, sums = np.random.default_rng([SPLIT_SEED, seed]), self._of(split)
        drawn = [sums[n] for n in rng.integers(len(sums), size=count)]
        if textbook:
            return [Demonstration(one, working(*one.parts, one.answer), True, None) for one in drawn]
        return [demonstration(one, rng) for one in drawn]

    def _of(self, split: str) -> list[Sum]:
        if split not in self.splits:
            raise ValueError(f"split: expected {', '.join(self.splits)}, received {split!r}")
        return self.splits[split]


def demonstration(one: Sum, rng: np.random.Generator) -> Demonstration:
    """What a pupil writes for this sum."""
    worked = bool(rng.random() < WORKED)
    right = rng.random() < (WORKED_RIGHT if worked else PLAIN_RIGHT)
    way, other = (int(by) for by in rng.choice([-1, 1], size=2))
    tens, ones = one.parts
    total, slip = one.answer, None
    if not right and worked:
        slip = str(rng.choice(["tens", "ones", "total"]))
        if slip == "tens":
            tens += 10 * (way if tens else 1)
        elif slip == "ones":
            ones += way
        total = tens + ones
        if slip == "total":
            total = _off(total, way * (1 if other < 0 else 10))
    elif not right:
        slip = str(rng.choice(["one", "ten", "both", *(["carry"] if one.carries else [])]))
        total = one.forgotten if slip == "carry" else _off(total, {"one": way, "ten": 10 * way, "both": 10 * way + other}[slip])
    return Demonstration(one, working(tens, ones, total) if worked else f" {total}", worked, slip)


def _off(number: int, by: int) -> int:
    """A number that is off by so much: upwards, where it would be below 0 otherwise."""
    return number + by if number + by >= 0 else number - by
