"""Curves as SVG that stands in the page: no picture file, no script, colours that follow the page's light or dark."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 226
NARROW = 280  # where four pictures share a row: letters keep their size on the screen
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 34
MOST_POINTS = 300  # of one line: more are drawn as the lowest and highest of each stretch
MOST_SPOTS = 160  # of one picture that say their number under the pointer
COLOURS = 8  # as the page's style sheet names them: s0 ... s7; past them the lines are dashed


@dataclass
class Line:
    """What is drawn of one curve; `tone` chooses colour and dashes."""

    tone: int
    label: str
    x: np.ndarray
    y: np.ndarray
    faint: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    dots: bool = False
    errors: bool = False  # low and high as bars at each point and not as a band
    joined: bool = True  # whether a line runs through the points


@dataclass
class Axis:
    """Where a value lies on the paper. A log axis has a place of its own for 0, left of all others."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    zero: float | None = None

    def __call__(self, value: float) -> float:
        if self.log and value <= 0:
            return self.zero if self.zero is not None else self.start
        low, high, value = (math.log10(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        return log_ticks(self.low, self.high, most) if self.log else linear_ticks(self.low, self.high, most)


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers within the range, at most so many."""
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    stride = max(1, math.ceil((last - first + 1) / most))
    ticks = [10.0**power for power in range(first, last + 1, stride)]
    if len(ticks) < 3:
        ticks = [m * 10.0**p for p in range(first - 1, last + 1) for m in (1, 2, 5) if low * 0.999 <= m * 10.0**p <= high * 1.001]
    return ticks[:: max(1, math.ceil(len(ticks) / most))] if ticks else [low, high]


def figure(value: float, digits: int = 4) -> str:
    """A number for people: 4 digits, a true minus, no needless zeros."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("−∞" if value < 0 else "∞")
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, power = text.split("e")
        text = f"{float(value):,.0f}" if 0 < int(power) < 9 else f"{mantissa}e{int(power)}"
    elif abs(value) >= 10_000:
        text = f"{value:,.0f}"
    return text.replace("-", "−")


def tone(number: int) -> str:
    """The class of a colour and, from the ninth on, of dashes."""
    return f"s{number % COLOURS}" + (f" d{number // COLOURS % 3}" if number >= COLOURS else "")


def spread_of(values: list[np.ndarray], log: bool) -> tuple[float, float]:
    """The ends of an axis that holds these values, with a little air; one value alone stands in the middle."""
    known = np.concatenate([v[np.isfinite(v)] for v in values] or [np.zeros(0)])
    known = known[known > 0] if log else known
    if len(known) == 0:
        return (0.1, 10.0) if log else (0.0, 1.0)
    low, high = float(known.min()), float(known.max())
    if log:
        air = max((high / low) ** 0.05, 1.1)
        return max(low / air, 1e-300), min(high * air, 1e300)
    air = (high - low) * 0.06
    if air <= abs(high) * 1e-12:  # rounding, or one value alone
        air = abs(high) * 0.5 or 1.0
    return low - air, high + air


def chart(
    lines: list[Line],
    title: str,
    *,
    x_label: str,
    x_log: bool = False,
    y_log: bool = False,
    y_range: tuple[float, float] | None = None,
    width: int = WIDTH,
    x_ticks: list[float] | None = None,
) -> Markup:
    """One picture; `x_ticks` are marked as far as they have room. Every text is escaped."""
    ys = [part for line in lines for part in (line.y, line.faint, line.low, line.high) if part is not None]
    low, high = y_range or spread_of(ys, y_log)
    y_axis = Axis(low, high, HEIGHT - BOTTOM, TOP, y_log)
    x_axis = _x_axis(lines, x_log, width - RIGHT)
    parts = [*_grid(x_axis, y_axis, x_label, x_ticks)]
    for line in lines:
        if line.low is not None and line.high is not None and not line.errors:
            parts.append(_band(line, x_axis, y_axis))
    for line in lines:
        if line.faint is not None:
            parts.append(f'<path class="faint {tone(line.tone)}" d="{_path(line.x, line.faint, x_axis, y_axis)}"/>')
    for line in lines:
        if line.joined:
            parts.append(f'<path class="line {tone(line.tone)}" d="{_path(line.x, line.y, x_axis, y_axis)}"/>')
        if line.errors:
            parts += _errors(line, x_axis, y_axis)
    share = MOST_SPOTS // max(1, len(lines))
    for line in lines:
        parts += _spots(line, max(2, share), x_axis, y_axis, x_label)
    body = "\n".join(parts)
    return Markup(f'<svg class="chart" viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{escape(title)}">\n{body}\n</svg>')


def _x_axis(lines: list[Line], log: bool, end: float) -> Axis:
    xs = [line.x for line in lines]
    known = np.concatenate(xs) if xs else np.zeros(0)
    log = log and bool((known > 0).any())
    low, high = spread_of(xs, log)
    if not log and len(known) and known.max() > known.min() and not any(line.errors for line in lines):
        low, high = float(known.min()), float(known.max())  # curves begin at the axis
    zero = LEFT + 12.0 if log and (known <= 0).any() else None
    return Axis(low, high, LEFT + (36 if zero else 0), end, log, zero)


def _grid(x_axis: Axis, y_axis: Axis, x_label: str, x_ticks: list[float] | None) -> list[str]:
    parts = []
    for value in y_axis.ticks(6):
        y = y_axis(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{x_axis.end}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{figure(value)}</text>')
    ticks = x_ticks or x_axis.ticks(5) + ([0.0] if x_axis.zero else [])
    places: list[tuple[float, str]] = []
    for x, text in sorted((x_axis(value), figure(value)) for value in ticks):
        if not places or x - places[-1][0] > 4 + 3.2 * (len(text) + len(places[-1][1])):  # half of each, 6.4 a letter
            places.append((x, text))
    for x, text in places:
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        anchor = "end" if x > x_axis.end - 8 else "middle"
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 13}" text-anchor="{anchor}">{text}</text>')
    middle = (LEFT + x_axis.end) / 2
    parts.append(f'<text class="tick name" x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_label)}</text>')
    return parts


def thinned(x: np.ndarray, y: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """A long line as the lowest and the highest point of each stretch, in their order: no spike is lost."""
    if len(x) <= 2 * most:
        return x, y
    chosen: list[int] = [0, len(x) - 1]
    for stretch in np.array_split(np.arange(len(x)), most):
        known = stretch[np.isfinite(y[stretch])]
        chosen += [int(known[np.argmin(y[known])]), int(known[np.argmax(y[known])])] if len(known) else [int(stretch[0])]
    order = np.array(sorted(set(chosen)))
    return x[order], y[order]


def _drawn(y: float, y_axis: Axis) -> bool:
    return math.isfinite(y) and not (y_axis.log and y <= 0)


def _path(x: np.ndarray, y: np.ndarray, x_axis: Axis, y_axis: Axis) -> str:
    pieces, pen = [], False
    for a, b in zip(*thinned(x, y)):
        drawn = _drawn(b, y_axis)
        if drawn:
            pieces.append(f"{'L' if pen else 'M'}{x_axis(a):.1f} {y_axis(b):.1f}")
        pen = drawn
    return "".join(pieces)


def _band(line: Line, x_axis: Axis, y_axis: Axis) -> str:
    known = np.isfinite(line.low) & np.isfinite(line.high) & ((line.high > 0) | (not y_axis.log))
    places = np.flatnonzero(known)
    places = places[:: max(1, len(places) // MOST_POINTS)]
    floor = y_axis.low
    upper = [f"{x_axis(line.x[n]):.1f} {y_axis(line.high[n]):.1f}" for n in places]
    lower = [f"{x_axis(line.x[n]):.1f} {y_axis(max(line.low[n], floor) if y_axis.log else line.low[n]):.1f}" for n in places]
    return f'<path class="band {tone(line.tone)}" d="M{"L".join(upper + lower[::-1])}Z"/>' if len(places) > 1 else ""


def _errors(line: Line, x_axis: Axis, y_axis: Axis) -> list[str]:
    bars = []
    for x, low, high in zip(line.x, line.low, line.high) if line.low is not None else []:
        if _drawn(low, y_axis) and _drawn(high, y_axis):
            place = f"{x_axis(x):.1f}"
            bars.append(f'<path class="bar {tone(line.tone)}" d="M{place} {y_axis(low):.1f}V{y_axis(high):.1f}"/>')
    return bars


def _spots(line: Line, most: int, x_axis: Axis, y_axis: Axis, x_label: str) -> list[str]:
    places = [n for n in range(len(line.x)) if _drawn(line.y[n], y_axis)]
    seen = line.dots or len(places) == 1
    if len(places) > most and not seen:
        places = [places[round(n)] for n in np.linspace(0, len(places) - 1, most)]
    spots = []
    for n in places:
        interval = ""
        if line.low is not None and np.isfinite(line.low[n]) and np.isfinite(line.high[n]):
            interval = f" ({figure(line.low[n])} to {figure(line.high[n])})"
        text = escape(f"{line.label + ': ' if line.label else ''}{x_label} {figure(line.x[n])}, {figure(line.y[n])}{interval}")
        kind = f"dot {tone(line.tone)}" if seen else "spot"
        place = f'cx="{x_axis(line.x[n]):.1f}" cy="{y_axis(line.y[n]):.1f}"'
        spots.append(f'<circle class="{kind}" {place} r="{3.4 if seen else 6}"><title>{text}</title></circle>')
    return spots


def key(number: int) -> Markup:
    """The piece of line that stands before a name in a legend."""
    line = f'<path class="line {tone(number)}" d="M1 5H25"/>'
    return Markup(f'<svg class="key" viewBox="0 0 26 10" aria-hidden="true">{line}</svg>')
