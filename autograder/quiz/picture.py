"""The reliability plot: how often it came, against what was said."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Sequence

from autograder.quiz import scoring

Forecasts = tuple[Sequence[float], Sequence[int]]


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% interval of a share by Wilson: within 0 to 1, and of some width where all or none came."""
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def figure(panels: dict[str, Forecasts]):
    """A panel for each forecaster: the parts of the calibration table with 95% intervals, and below how often what was said."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    drawing = Figure(figsize=(0.8 + 3.2 * len(panels), 5.2), layout="constrained")
    grid = drawing.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1))
    for (name, (said, came)), above, below in zip(panels.items(), *grid):
        counted = scoring.calibration(said, came)
        parts = [part for part in counted if part.count]
        above.plot([0, 100], [0, 100], color="grey", linestyle=":", linewidth=1)
        for part in parts:
            low, high = wilson(part.came, part.count)
            above.plot([100 * part.said] * 2, [100 * low, 100 * high], color="tab:blue", linewidth=1)
        sizes = [24 + 160 * part.count / len(said) for part in parts]
        dots = [100 * part.said for part in parts], [100 * part.came for part in parts]
        above.scatter(*dots, s=sizes, color="tab:blue", zorder=3, clip_on=False)
        above.set(xlim=(0, 100), ylim=(0, 100), title=name)
        above.set_box_aspect(1)
        below.bar([100 * p.low + 5 for p in counted], [p.count for p in counted], width=9, color="tab:blue", alpha=0.5)
        below.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
        below.set_xlabel("said, %")
        below.set_box_aspect(1 / 3)
    grid[0][0].set_ylabel("came, %, with 95% intervals")
    grid[1][0].set_ylabel("tasks")
    return drawing


def png(panels: dict[str, Forecasts], dpi: int = 130) -> bytes:
    held = io.BytesIO()
    figure(panels).savefig(held, dpi=dpi, format="png")
    return held.getvalue()


def save(panels: dict[str, Forecasts], place: Path) -> None:
    place.write_bytes(png(panels))
