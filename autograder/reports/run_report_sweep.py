"""Sweeps as one figure: reward, KL and naturalness against the field in which the runs differ, and reward against KL."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from autograder.reports.run_report_charts import NARROW, Line, chart
from autograder.reports.run_report_data import SEED_FIELDS, Run, differing, number_like

FIRST = ("alpha", "beta")  # what the course sweeps; other fields only where neither differs
MOST_FIELDS = 2
LOG_RATIO = 5.0  # from the smallest positive value to the largest: less is drawn on a plain axis
ROWS = (  # (title, unit, the summary's figures in it: name and what the line is called)
    ("Reward", "", (("reward_after", "reward"), ("gold_reward", "gold reward"))),
    ("KL to the reference", "nats a completion", (("kl", "KL"),)),
    ("Naturalness", "nats a token", (("naturalness", "of the policy"), ("reference_naturalness", "of the reference"))),
)
STAND_IN = ("Reference's log-likelihood", "nats a token", (("reference_log_likelihood", "log-likelihood"),))
"Where no grammar says how natural a text is."


def sweep_of(runs: list[Run], tones: dict[int, int]) -> dict[str, Any] | None:
    """The figure: columns are the fields swept, and reward against KL. None for runs that differ in no number."""
    ended = [(number, run) for number, run in enumerate(runs) if run.summary]
    if len(ended) < 2:
        return None
    fields = swept([run for _, run in ended])
    having = {field: [run for _, run in ended if field in run.config] for field in fields}
    columns = [{"name": field, "panels": _panels(field, some)} for field, some in having.items()]
    others = dict.fromkeys(name for some in having.values() for name in differing(some) if name not in (*fields, *SEED_FIELDS))
    columns = [column for column in columns if column["panels"]]
    front = frontier(ended, tones)
    if not columns and front is None:
        return None
    missing = [run.name for run in runs if not run.summary]
    return {"columns": columns, "frontier": front, "others": list(others) if columns else [], "missing": missing}


def swept(runs: list[Run]) -> list[str]:
    """The numbers in which the runs that have them differ: alpha and beta if they do, else the others."""
    found = []
    for name in differing(runs):
        having = [run.config[name] for run in runs if name in run.config]
        if name not in SEED_FIELDS and all(number_like(value) for value in having):
            found.append(name)
    return ([name for name in FIRST if name in found] or found)[:MOST_FIELDS]


def estimate(value: Any) -> tuple[float, float, float] | None:
    """(mean, low, high) of a final figure; low and high are NaN where it has no interval."""
    if isinstance(value, dict):
        if not number_like(value.get("mean")):
            return None
        low, high = (float(value[end]) if number_like(value.get(end)) else np.nan for end in ("low", "high"))
        return float(value["mean"]), low, high
    return (float(value), np.nan, np.nan) if number_like(value) else None


def _panels(field: str, runs: list[Run]) -> list[dict[str, Any]]:
    positive = [float(run.config[field]) for run in runs if run.config[field] > 0]
    values = sorted({float(run.config[field]) for run in runs})
    log = bool(positive) and max(positive) >= LOG_RATIO * min(positive)
    panels = []
    for title, unit, names in (*ROWS, STAND_IN):
        if title == STAND_IN[0] and panels and panels[-1]["title"] == "Naturalness":
            continue
        lines = [line for tone, (name, label) in enumerate(names) for line in _points(field, runs, name, label, tone)]
        if lines:
            labels = dict.fromkeys((line.tone, line.label) for line in lines)
            legend = list(labels) if len(labels) > 1 else []
            svg = chart(lines, f"{title} against {field}", x_label=field, x_log=log, width=NARROW, x_ticks=values)
            panels.append({"title": title, "unit": unit, "svg": svg, "legend": legend})
    return panels


def _points(field: str, runs: list[Run], name: str, label: str, tone: int) -> list[Line]:
    """A point for each run, with its interval, and a line through the means where several runs (seeds) have one value."""
    found = [(float(run.config[field]), estimate(run.final.get(name))) for run in runs]
    found = sorted((x, *known) for x, known in found if known is not None)
    if not found:
        return []
    x, y, low, high = np.array(found).T
    values = np.unique(x)
    points = Line(tone, label, x, y, low=low, high=high, dots=True, errors=True, joined=len(values) == len(x))
    means = Line(tone, label, values, np.array([y[x == value].mean() for value in values]), errors=True)
    return [points] if points.joined else [means, points]


def frontier(runs: list[tuple[int, Run]], tones: dict[int, int]) -> Markup | None:
    """Reward against KL: what a run gained, and how far it went for that. A point for each run, in the run's colour."""
    lines = []
    for number, run in runs:
        kl, reward = estimate(run.final.get("kl")), estimate(run.final.get("reward_after"))
        if kl is not None and reward is not None:
            y, low, high = (np.array([value]) for value in reward)
            lines.append(Line(tones[number], run.name, np.array([kl[0]]), y, low=low, high=high, dots=True, errors=True))
    return chart(lines, "Reward against KL", x_label="KL, nats a completion", width=NARROW) if len(lines) > 1 else None
