"""From the rows of runs to the curves of a report: which measures there are, in which order, smoothed, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from autograder.reports.run_report_data import Run, curve_fields, number_like, without_seed

SPREADS = ("_low", "_high", "_std", "_sem")  # name_low and name_high are an interval of `name`; name_sem is its standard error
NOT_DRAWN = {"step", "seconds", "time", "epoch"}
FEWEST_TO_SMOOTH = 20  # fewer points are read better one by one
SMOOTH_SHARE = 20  # a moving mean runs over the twentieth part of the points
FAINT_NOISE = 0.01  # of the range: an exact curve is drawn as it is, its moving mean would only blunt it
DECADES = 3.0  # a positive measure that spans more is drawn on a log axis

# name: (what a person calls it, unit). The order is that of the report; other names follow as they come.
MEASURES = {
    "reward": ("Reward", "of the classifier or task"),
    "test_accuracy": ("Accuracy on test questions", "share, 95% interval"),
    "gold_reward": ("Gold reward", "exact"),
    "completeness": ("Completeness", "share of what was asked"),
    "relevance": ("Relevance", "share of sentences"),
    "factuality": ("Factuality", "share of claims"),
    "eval_rougeL": ("ROUGE-L on validation", "F measure"),
    "eval_loss": ("Loss on validation", "nats a token"),
    "kl": ("KL to the reference", "nats a completion"),
    "naturalness": ("Naturalness", "log-likelihood, nats a token"),
    "entropy": ("Entropy", "nats"),
    "completion_length": ("Completion length", "tokens"),
    "eos_rate": ("Share that ends (EOS)", ""),
    "distinct_1": ("Distinct words", "share of all"),
    "distinct_2": ("Distinct pairs of words", "share of all"),
    "repetition": ("Repetition", "share of word pairs said before"),
    "loss": ("Loss", ""),
    "policy_loss": ("Policy loss", ""),
    "value_loss": ("Value loss", ""),
    "explained_variance": ("Variance explained by the values", "1: all of it"),
    "ratio": ("Ratio of new to old policy", "mean"),
    "ratio_variance": ("Variance of the ratio", ""),
    "clip_fraction": ("Clipped", "share of tokens"),
    "updates": ("Steps of the optimizer", "a rollout"),
    "approx_kl": ("KL of the update", "old to new policy, nats a token"),
    "no_signal": ("Groups that teach nothing", "share"),
    "solved": ("Groups with a right answer", "share"),
    "length_right": ("Length of right answers", "tokens"),
    "length_wrong": ("Length of wrong answers", "tokens"),
    "validation_loss": ("Log loss on validation pairs", "ln 2 = 0.693 is chance"),
    "validation_accuracy": ("Accuracy on validation pairs", "share of pairs"),
    "accuracy": ("Accuracy", "share of pairs"),
    "margin": ("Margin", "reward units"),
    "chosen_log_prob": ("Log-probability of chosen answers", "nats"),
    "rejected_log_prob": ("Log-probability of rejected answers", "nats"),
    "chosen_reward": ("Implicit reward of chosen answers", ""),
    "rejected_reward": ("Implicit reward of rejected answers", ""),
    "shaped_reward": ("Reward minus the price of KL", ""),
    "kl_k3": ("KL by k3", "nats a completion"),
    "objective": ("Objective", "reward minus price of KL"),
    "tv": ("Total variation to the optimum", ""),
}
SETTINGS = {"alpha": "reward units a nat", "kl_coef": "reward units a nat", "learning_rate": "", "grad_norm": "before clipping"}
"Stand last; a setting that never changes is no picture, for the configuration says it."
ALWAYS_LOG = {"tv"}
APART = "reward_"
"Begins the name of one of several rewards; these stand behind their sum."


@dataclass
class Curve:
    """One measure of one run: points, and where there is one the interval of each. NaN stands where no number was written."""

    run: int
    name: str  # of the curve within its run ("PPO"), or ""
    steps: np.ndarray  # (points,)
    values: np.ndarray  # (points,)
    low: np.ndarray | None = None  # (points,), as the run wrote it or of the moving mean
    high: np.ndarray | None = None
    smooth: np.ndarray | None = None  # (points,), where the values are noisy


@dataclass
class Measure:
    """All curves of one name: one picture."""

    name: str
    title: str
    unit: str
    curves: list[Curve]

    @property
    def log(self) -> bool:
        values = np.concatenate([curve.values for curve in self.curves])
        values = values[np.isfinite(values)]
        if len(values) == 0 or values.min() <= 0:
            return False
        return self.name in ALWAYS_LOG or np.log10(values.max()) - np.log10(values.min()) > DECADES


def title_of(name: str) -> str:
    if name in MEASURES:
        return MEASURES[name][0]
    if name.startswith(APART) and name != APART:
        return "Reward: " + name.removeprefix(APART).replace("_", " ")
    return name.replace("_", " ").strip().capitalize() or name


def measures(runs: list[Run]) -> list[Measure]:
    """Every measure of the runs, the well-known first."""
    found: dict[str, list[Curve]] = {}
    for number, run in enumerate(runs):
        for name, curve in _curves(number, run):
            found.setdefault(name, []).append(curve)
    found = {name: some for name, some in found.items() if name not in SETTINGS or any(np.ptp(c.values) != 0 for c in some)}
    others = [name for name in found if name not in MEASURES and name not in SETTINGS]
    apart = [name for name in others if name.startswith(APART)]
    first, *rest = MEASURES
    known = [first, *apart, *rest, *(name for name in others if name not in apart), *SETTINGS]
    units = {name: unit for name, (_, unit) in MEASURES.items()} | SETTINGS
    return [Measure(name, title_of(name), units.get(name, ""), found[name]) for name in known if name in found]


def _curves(number: int, run: Run) -> list[tuple[str, Curve]]:
    fields = curve_fields(run.rows)
    parts: dict[str, list[dict[str, Any]]] = {}
    for row in run.rows:
        parts.setdefault(", ".join(str(row[field]) for field in fields if field in row), []).append(row)
    made = []
    for part, rows in parts.items():
        names = dict.fromkeys(name for row in rows for name, value in row.items() if _drawable(value))
        spreads = {base + end for base in names for end in SPREADS}
        for name in names:
            if name not in NOT_DRAWN and name not in spreads:
                made.append((name, _curve(number, part, name, rows)))
    return made


def _drawable(value: Any) -> bool:
    return number_like(value.get("mean")) if isinstance(value, dict) else number_like(value)


def _curve(number: int, part: str, name: str, rows: list[dict[str, Any]]) -> Curve:
    rows = [row for row in rows if name in row]

    def column(pick) -> np.ndarray:
        return np.array([float(value) if number_like(value := pick(row)) else np.nan for row in rows])

    def within(row: dict[str, Any], key: str) -> Any:  # {"mean", "low", "high"} in one value
        return row[name].get(key) if isinstance(row[name], dict) else None

    steps, values = column(lambda row: row["step"]), column(lambda row: within(row, "mean") if _is_dict(row[name]) else row[name])
    curve = Curve(number, part, steps, values)
    low, high = column(lambda row: within(row, "low")), column(lambda row: within(row, "high"))
    if np.isnan(low).all():
        low, high = column(lambda row: row.get(f"{name}_low")), column(lambda row: row.get(f"{name}_high"))
    for end, width in (("_sem", 1.96), ("_std", 1.0)):
        spread = column(lambda row: row.get(name + end))
        if np.isnan(low).all() and not np.isnan(spread).all():
            low, high = values - width * spread, values + width * spread
    curve.smooth = smoothed(values)
    if not np.isnan(low + high).all():  # about the moving mean stands the interval's moving mean
        window = window_of(len(values))
        curve.low, curve.high = (end if curve.smooth is None else _moving(end, window) for end in (low, high))
    elif curve.smooth is not None:
        half = interval(values)
        curve.low, curve.high = curve.smooth - half, curve.smooth + half
    return curve


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def window_of(points: int) -> int:
    return max(5, points // SMOOTH_SHARE) | 1


def smoothed(values: np.ndarray) -> np.ndarray | None:
    """The moving mean of noisy values, centred, narrower at the ends; None where there are few points or hardly any noise."""
    known = values[np.isfinite(values)]
    if len(known) < FEWEST_TO_SMOOTH:
        return None
    smooth = _moving(values, window_of(len(values)))
    noise = np.nanmedian(np.abs(values - smooth))
    return smooth if noise > FAINT_NOISE * (known.max() - known.min()) else None


def interval(values: np.ndarray) -> np.ndarray:
    """Half the width of about 95% of the moving mean: 1.96 standard errors, the variance taken from neighbouring values.

    Half the mean squared step from one value to the next is the variance of independent noise, also where the values climb
    (von Neumann, 1941); the variance about the window's mean would count the climb as noise.
    """
    window = window_of(len(values))
    steps = np.concatenate([[np.nan], np.diff(values)]) ** 2 / 2
    return 1.96 * np.sqrt(_moving(steps, window) / np.maximum(1, _counts(values, window)))


def _counts(values: np.ndarray, window: int) -> np.ndarray:
    known = np.concatenate([[0], np.cumsum(np.isfinite(values))])
    left, right = _edges(len(values), window)
    return known[right] - known[left]


def _moving(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of what is known within the window; NaN where nothing is."""
    total = np.concatenate([[0.0], np.cumsum(np.where(np.isfinite(values), values, 0.0))])
    left, right = _edges(len(values), window)
    counts = _counts(values, window)
    return np.where(counts > 0, (total[right] - total[left]) / np.maximum(1, counts), np.nan)


def _edges(points: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    middle = np.arange(points)
    return np.maximum(0, middle - window // 2), np.minimum(points, middle + window // 2 + 1)


def groups(runs: list[Run]) -> list[list[int]]:
    """The runs by their numbers, those that differ in their seed alone together: they share a colour."""
    found: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        found.setdefault(without_seed(run), []).append(number)
    return list(found.values())
