"""What forecasts are worth, by the definitions of lesson 16: no clip, so a forecast of 0 for what came costs infinity.

Plain numbers and no library: the quiz is there at once. tests/autograder/test_quiz.py holds each score to the lesson's own.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from dataclasses import dataclass
from typing import Sequence

PARTS = 10
"Equal parts of 0 to 1 in the calibration table; a part holds its lower edge, the last one holds 1 too."


@dataclass(frozen=True)
class Part:
    """One part of the calibration table: low <= forecast < high (the last one <= high). said, came: means of what it holds."""

    low: float
    high: float
    count: int
    said: float
    came: float


@dataclass(frozen=True)
class Scores:
    """Scores of n forecasts; lower is better, but for accuracy. log_loss is inf where `missed` is not 0."""

    n: int
    accuracy: float
    log_loss: float
    brier: float
    ece: float
    missed: int
    "How many forecasts gave no chance at all to what came."
    finite_log_loss: float
    "The mean log loss of the other ones; NaN if there are none."


def cost(said: float, came: int) -> float:
    """-ln of the probability that was given to what came, in nats."""
    chance = said if came else 1 - said
    return math.inf if chance <= 0 else 0.0 - (math.log(chance) if came else math.log1p(-said))  # 0.0 -: never a minus zero


def scores(said: Sequence[float], came: Sequence[int]) -> Scores:
    """All scores of forecasts (probabilities of yes) against outcomes (0 or 1)."""
    n, costs = len(said), [cost(p, o) for p, o in zip(said, came, strict=True)]
    finite = [value for value in costs if value < math.inf]
    right = sum(0.5 if p == 0.5 else float((p > 0.5) == (o == 1)) for p, o in zip(said, came))
    return Scores(
        n=n,
        accuracy=right / n,
        log_loss=math.fsum(costs) / n,
        brier=math.fsum((p - o) ** 2 for p, o in zip(said, came)) / n,
        ece=calibration_error(calibration(said, came)),
        missed=n - len(finite),
        finite_log_loss=math.fsum(finite) / len(finite) if finite else math.nan,
    )


def constants(came: Sequence[int]) -> dict[str, Scores]:
    """The scores of who always says one half, and of who always says the share of yes in these outcomes."""
    base_rate = sum(came) / len(came)
    said = {"always 50%": 0.5, f"always {100 * base_rate:.0f}%, the base rate": base_rate}
    return {name: scores([p] * len(came), came) for name, p in said.items()}


def gain(said: Sequence[float], came: Sequence[int]) -> tuple[float, float, float]:
    """Log loss saved against always saying one half: the mean, and its 95% interval (eq. 16.6).

    -inf with an interval from -inf to -inf where a forecast missed without a chance; an unbounded one of a single forecast.
    """
    gains = [math.log(2) - cost(p, o) for p, o in zip(said, came, strict=True)]
    mean = math.fsum(gains) / len(gains)
    if mean == -math.inf:
        return mean, mean, mean
    if len(gains) == 1:
        return mean, -math.inf, math.inf
    reach = 1.96 * math.sqrt(math.fsum((g - mean) ** 2 for g in gains) / (len(gains) - 1) / len(gains))
    return mean, mean - reach, mean + reach


def part_of(said: float, parts: int = PARTS) -> int:
    """The number of the part that holds this forecast, from 0."""
    return bisect_right([k / parts for k in range(1, parts)], said)


def calibration(said: Sequence[float], came: Sequence[int], parts: int = PARTS) -> list[Part]:
    """The forecasts sorted into equal parts; the means of an empty part are NaN."""
    held: list[list[tuple[float, int]]] = [[] for _ in range(parts)]
    for p, o in zip(said, came, strict=True):
        held[part_of(p, parts)].append((p, o))
    return [
        Part(
            k / parts,
            (k + 1) / parts,
            len(inside),
            math.fsum(p for p, _ in inside) / len(inside) if inside else math.nan,
            sum(o for _, o in inside) / len(inside) if inside else math.nan,
        )
        for k, inside in enumerate(held)
    ]


def calibration_error(table: Sequence[Part]) -> float:
    """The mean distance between said and came, weighted by counts (eq. 16.7)."""
    return math.fsum(part.count * abs(part.said - part.came) for part in table if part.count) / sum(part.count for part in table)


def error_by_chance(said: Sequence[float], times: int = 1000, seed: int = 0) -> float:
    """The mean calibration error of these very forecasts if each were exactly right: outcomes drawn `times` times by them.

    A thousand times: the standard error of the mean is a thirtieth of the spread of one error, which is about 0.06 for thirty
    forecasts, and less for more.
    """
    rng, place = random.Random(seed), [part_of(p) for p in said]
    total = 0.0
    for _ in range(times):
        surplus = [0.0] * PARTS  # of what was said over what came, by part
        for p, k in zip(said, place):
            surplus[k] += p - (rng.random() < p)
        total += sum(map(abs, surplus)) / len(said)
    return total / times
