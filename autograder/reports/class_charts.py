"""A histogram as SVG that stands in the page, in the page's own colours."""

from __future__ import annotations

from typing import Callable

import numpy as np
from markupsafe import Markup, escape

from autograder.reports.pages import points
from autograder.reports.run_report_charts import linear_ticks

WIDTH, HEIGHT = 420, 150
LEFT, RIGHT, TOP, BOTTOM = 34, 8, 8, 32
BARS = 25


def histogram(
    values: list[float],
    label: str,
    low: float,
    high: float,
    named: Callable[[float], str] = lambda value: points(round(value, 2)),
) -> Markup:
    """How many of `values` lie in each of 25 equal stretches from low to high (at least; the last holds what lies beyond).

    named: what a value is called on the axis and under the pointer.
    """
    high = high if high > low else low + 1.0
    counts, edges = np.histogram(np.clip(values, low, high), bins=BARS, range=(low, high))
    most = max(1, int(counts.max()))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * width

    parts = [f'<line x1="{LEFT}" y1="{TOP + height}" x2="{WIDTH - RIGHT}" y2="{TOP + height}"/>']
    for count, left, right in zip(counts, edges[:-1], edges[1:]):
        if count:
            tall = max(1.5, height * count / most)  # one student among a thousand is still to be seen
            told = f"{count:,} from {named(left)} to {named(right)} {label}"
            box = (
                f'x="{x(left) + 0.6:.1f}" y="{TOP + height - tall:.1f}" width="{width / BARS - 1.2:.1f}" height="{tall:.1f}"'
            )
            parts.append(f"<rect {box}><title>{escape(told)}</title></rect>")
    for tick in linear_ticks(low, high, 6):
        parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - 17}" text-anchor="middle">{escape(named(tick))}</text>')
    parts.append(f'<text x="{LEFT + width / 2}" y="{HEIGHT - 3}" text-anchor="middle">{escape(label)}</text>')
    for count in sorted({0, most}):
        parts.append(
            f'<text x="{LEFT - 5}" y="{TOP + height - height * count / most + 4:.1f}" text-anchor="end">{count:,}</text>'
        )
    title = escape(f"Histogram of {len(values):,} students by {label}; the tallest bar holds {most:,}")
    return Markup(f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg>')
