"""From the points of `climb run overoptimisation` to fits, peaks, what stopping early keeps, and the picture gold_proxy.png."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

COLOURS = {
    "best_of_n": "tab:blue",
    "reinforce": "tab:red",
    "ppo": "tab:orange",
    "dpo": "tab:green",
    "kl": "tab:purple",
    "ensemble": "tab:brown",
}
NAMES = {
    "best_of_n": "best-of-n",
    "reinforce": "REINFORCE",
    "ppo": "PPO",
    "dpo": "DPO",
    "kl": "REINFORCE, KL priced",
    "ensemble": "REINFORCE, ensemble",
}
PATIENCE = 2
"Measurements no better than the best before them after which stopping by gold ends a training."


def kl_of(row: dict[str, Any]) -> float:
    """The KL of a point, nats: an estimate's mean, or the number that is known."""
    return float(row["kl"]["mean"] if isinstance(row["kl"], dict) else row["kl"])


def distance(row: dict[str, Any]) -> float:
    """sqrt(KL), the axis of the figure."""
    return math.sqrt(max(kl_of(row), 0.0))


def figures_of(method: str, rows: list[dict[str, Any]], lesson: SimpleNamespace, budget: float) -> dict[str, Any]:
    """What a method's curve says: begin, end, peak, fits of proxy and gold, and what the two ways of stopping early keep.

    rows: the points in order, the first one the reference itself.
    """
    first, last = rows[0], rows[-1]
    found: dict[str, Any] = {"reward_before": first["reward"], "reward_after": last["reward"]}
    found |= {"gold_reward_before": first["gold_reward"], "gold_reward_after": last["gold_reward"], "kl_after": last["kl"]}
    if "naturalness" in first:
        found |= {"naturalness_before": first["naturalness"], "naturalness_after": last["naturalness"]}
    chosen, reported = (torch.tensor([row["gold_halves"][half] for row in rows], dtype=torch.float64) for half in (0, 1))
    best = int(chosen.argmax())  # chosen on the prompts of one half, told on those of the other
    found["peak"] = {"step": rows[best]["step"], "distance": distance(rows[best]), "reward": rows[best]["reward"]["mean"]}
    found["peak"] |= {"gold_reward": float(reported[best]), "gold_reward_before": float(reported[0])}
    found["peak"] |= {"gold_reward_after": float(reported[-1]), "fallen": float(reported[best] - reported[-1])}
    kl = torch.tensor([max(kl_of(row), 0.0) for row in rows], dtype=torch.float64)
    stops = {"by_kl": lesson.stop_at_kl(kl, max(budget, float(kl[0])))}
    stops["by_gold"] = lesson.stop_by_gold(chosen, PATIENCE)
    for name, place in stops.items():
        row = rows[place]
        found[name] = {"step": row["step"], "distance": distance(row), "reward": row["reward"]["mean"]}
        found[name]["gold_reward"] = float(reported[place])
    fit = lesson.fit_best_of_n if method == "best_of_n" else lesson.fit_rl
    for name in ("gold_reward", "reward"):
        fitted = fitted_to(rows, name, fit, lesson)
        if fitted is not None:
            found[f"fit_{name}"] = fitted
    return found


def fitted_to(rows: list[dict[str, Any]], name: str, fit: Any, lesson: SimpleNamespace) -> dict[str, Any] | None:
    """The fit of what one reward has gained since the reference, its peak, and how far the points lie from it.

    None where there are too few points to tell the noise by.
    """
    away = [row for row in rows if kl_of(row) > 0]
    if len({kl_of(row) for row in away}) < 3:  # two coefficients, and something left to tell the noise by
        return None
    kl = torch.tensor([kl_of(row) for row in away], dtype=torch.float64)
    gain = torch.tensor([row[name]["mean"] - rows[0][name]["mean"] for row in away], dtype=torch.float64)
    try:
        curve = fit(kl, gain)
    except ValueError:  # points that all lie at one distance do not tell a from b
        return None
    where, height = lesson.peak(curve)
    found: dict[str, Any] = {"form": curve.form}
    for part in ("a", "b"):
        low, high = getattr(curve, f"{part}_interval")
        found[part] = {"mean": getattr(curve, part), "low": low, "high": high}
    found["peak_distance"] = where if math.isfinite(where) else None  # None: nothing brings the curve down
    found["peak_gain"] = height if math.isfinite(height) else None
    found["residual"] = float(((gain - curve(kl.sqrt())) ** 2).mean().sqrt())
    return found


def save_picture(points: list[dict[str, Any]], summary: dict[str, Any], path: Path, fit_of: Any) -> None:
    """gold_proxy.png: proxy dashed, gold solid against sqrt(KL), a colour a method; below, each gold curve with its fit.

    fit_of(fit of a summary) -> the curve as a function of the distance.
    """
    from matplotlib.figure import Figure

    methods = list(summary["methods"])
    columns = min(3, len(methods))
    lines = -(-len(methods) // columns)
    figure = Figure(figsize=(10, 4.6 + 2.3 * lines), layout="constrained")
    grid = figure.add_gridspec(1 + lines, columns, height_ratios=[2] + [1] * lines)
    top = figure.add_subplot(grid[0, :])
    for method in methods:
        rows = [row for row in points if row["method"] == method]
        x, colour = [distance(row) for row in rows], COLOURS.get(method, "grey")
        top.plot(x, [row["reward"]["mean"] for row in rows], "--", color=colour, lw=1.2)
        gold = [row["gold_reward"] for row in rows]
        top.vlines(x, [g["low"] for g in gold], [g["high"] for g in gold], color=colour, alpha=0.35, lw=1)  # 95% intervals
        top.plot(x, [g["mean"] for g in gold], "-o", color=colour, lw=1.9, ms=3.5, label=NAMES.get(method, method))
    top.plot([], [], "k--", lw=1.2, label="proxy, what is optimised")
    top.plot([], [], "k-", lw=1.9, label="gold, what is meant")
    top.set_xlabel(r"$\sqrt{\mathrm{KL}}$ to the reference, nats$^{1/2}$")
    top.set_ylabel("reward")
    top.legend(fontsize=8, ncol=2)
    top.grid(alpha=0.25)
    for n, method in enumerate(methods):
        axes = figure.add_subplot(grid[1 + n // columns, n % columns])
        _fitted_panel(axes, method, [row for row in points if row["method"] == method], summary["methods"][method], fit_of)
    figure.savefig(path, dpi=120)


def _fitted_panel(axes: Any, method: str, rows: list[dict[str, Any]], figures: dict[str, Any], fit_of: Any) -> None:
    """One method's rewards as gained, with their fits."""
    far = max(distance(row) for row in rows)
    for name, style, colour in (("reward", "--", "0.45"), ("gold_reward", "-", COLOURS.get(method, "grey"))):
        start = rows[0][name]["mean"]
        axes.plot([distance(row) for row in rows], [row[name]["mean"] - start for row in rows], "o", color=colour, ms=3)
        if f"fit_{name}" in figures:
            x = torch.linspace(0, far, 200, dtype=torch.float64)
            axes.plot(x.numpy(), fit_of(figures[f"fit_{name}"])(x).numpy(), style, color=colour, lw=1.3)
    axes.axhline(0, color="0.7", lw=0.7)
    axes.set_title(f"{NAMES.get(method, method)}: gained, and fitted", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
