"""Gold and proxy reward against the distance from the reference: the figure of lesson 17, from the rows of its run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from autograder.reports.run_report_charts import COLOURS, Line, chart
from autograder.reports.run_report_data import Run
from autograder.reports.run_report_sweep import estimate

FIELD = "method"
NEEDED = ("kl", "reward", "gold_reward")
WIDTH = 660


def gold_of(runs: list[Run]) -> dict[str, Any] | None:
    """The figure of the runs whose rows name a method, a KL and both rewards. None where there are none."""
    lines, legend = [], []
    for run in runs:
        for method, rows in _by_method(run).items():
            tone, name = len(legend) % COLOURS, method if len(runs) == 1 else f"{run.name}, {method}"
            x = np.array([math.sqrt(max(estimate(row["kl"])[0], 0.0)) for row in rows])
            proxy, gold = (np.array([estimate(row[which]) for row in rows]).T for which in NEEDED[1:])
            lines.append(Line(tone + COLOURS, f"{name}, proxy", x, proxy[0]))  # past the colours the same ones come dashed
            lines.append(Line(tone, f"{name}, gold", x, gold[0], low=gold[1], high=gold[2], dots=True))
            legend.append((tone, name))
    if not lines:
        return None
    svg = chart(lines, "Gold and proxy reward against the distance", x_label="sqrt(KL) to the reference", width=WIDTH)
    return {"svg": svg, "legend": legend}


def _by_method(run: Run) -> dict[str, list[dict[str, Any]]]:
    """The rows of each method that have all that is drawn, from the reference outward as they were measured."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in run.rows:
        if isinstance(row.get(FIELD), str) and all(estimate(row.get(name)) is not None for name in NEEDED):
            found.setdefault(row[FIELD], []).append(row)
    return found
