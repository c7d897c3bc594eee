"""A run's curves as one picture, curves.png."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LABELS = {
    "reward": "reward",
    "test_accuracy": "accuracy on test questions",
    "shaped_reward": "reward less the price of KL",
    "kl": "KL to the reference, nats a completion",
    "entropy": "entropy",
    "loss": "loss",
    "completion_length": "completion length, tokens",
    "eos_rate": "share that ended by EOS",
    "no_signal": "share of groups that teach nothing",
    "alpha": "alpha",
    "validation_loss": "log loss on validation pairs",
    "eval_loss": "loss on validation rows",
    "eval_rougeL": "ROUGE-L on validation rows",
    "approx_kl": "KL of the update, nats a token",
    "clip_fraction": "share of tokens clipped",
    "explained_variance": "variance explained by the values",
    "value_loss": "value loss",
    "margin": "margin of rewards",
    "accuracy": "accuracy on pairs",
    "chosen_log_prob": "log-probability of the chosen",
    "rejected_log_prob": "log-probability of the rejected",
    "chosen_reward": "implicit reward of the chosen",
    "rejected_reward": "implicit reward of the rejected",
    "length_right": "length of right answers, tokens",
    "length_wrong": "length of wrong answers, tokens",
    "grad_norm": "length of the gradient",
}
TOGETHER = (("length_right", "length_wrong"), ("chosen_log_prob", "rejected_log_prob"), ("chosen_reward", "rejected_reward"))
MOST = 9


def save_curves(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """One panel a metric, raw in pale and smoothed in full colour."""
    from matplotlib.figure import Figure

    panels = _panels(rows)
    if not panels:
        return
    columns = min(3, len(panels))
    height = -(-len(panels) // columns)
    figure = Figure(figsize=(3.9 * columns, 2.7 * height + 0.3), layout="constrained")
    figure.suptitle(title, fontsize=11)
    all_axes = figure.subplots(height, columns, squeeze=False, sharex=True).flat
    for axes, names in zip(all_axes, panels):
        for name, colour in zip(names, ("tab:blue", "tab:red")):
            points = [(row["step"], row[name]) for row in rows if name in row]
            steps, values = zip(*points)
            axes.plot(steps, values, color=colour, alpha=0.3, lw=0.8)
            axes.plot(steps, smooth(values), color=colour, lw=1.6, label=LABELS.get(name, name))
        axes.legend(fontsize=8)
        axes.grid(alpha=0.25)
    for axes in list(all_axes)[len(panels) :]:
        axes.set_visible(False)
    figure.savefig(path, dpi=120)


def save_sweep(rows: list[dict[str, Any]], knob: str, path: Path) -> None:
    """Reward and KL of a sweep against its knob."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = sorted(rows, key=lambda row: row[knob])
    for axes, name, colour in ((left, "reward", "tab:blue"), (right, "kl", "tab:red")):
        axes.plot([row[knob] for row in rows], [row[name] for row in rows], "o-", color=colour)
        axes.set_xlabel(knob)
        axes.set_ylabel(LABELS[name])
        axes.grid(alpha=0.25)
        if all(row[knob] > 0 for row in rows):
            axes.set_xscale("log")
    figure.savefig(path, dpi=120)


def save_calibration(rows: list[tuple[int, float, float]], path: Path, title: str) -> None:
    """How often the favourite is the answer that was chosen, against what the model says; the area of a dot is its pairs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0.5, 1], [0.5, 1], color="grey", lw=1, ls="--", label="as often as it says")
    most = max(count for count, _, _ in rows)
    for count, confidence, share in rows:
        half = 1.96 * (share * (1 - share) / count) ** 0.5
        axes.errorbar(confidence, share, yerr=half, color="tab:blue", lw=1, capsize=2)
        axes.scatter(confidence, share, s=20 + 130 * count / most, color="tab:blue")
        axes.annotate(f"{count}", (confidence, share), textcoords="offset points", xytext=(9, -4), fontsize=8)
    axes.set_xlabel("confidence in the favourite of a pair")
    axes.set_ylabel("share of the pairs in which it was chosen")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, loc="upper left")
    axes.grid(alpha=0.25)
    figure.savefig(path, dpi=120)


def smooth(values: Any, share: float = 0.05) -> list[float]:
    """A mean over the last few values, a twentieth of all of them."""
    width, found = max(int(len(values) * share), 1), []
    for i in range(len(values)):
        some = values[max(0, i - width + 1) : i + 1]
        found.append(sum(some) / len(some))
    return found


def _panels(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    there = {name for row in rows for name in row}
    paired = {name for pair in TOGETHER if set(pair) <= there for name in pair}
    panels = [pair for pair in TOGETHER if set(pair) <= there]
    panels += [(name,) for name in sorted(there) if name.startswith("reward_")][:4]  # each reward apart
    return ([(name,) for name in LABELS if name in there and name not in paired][: MOST - len(panels)] + panels)[:MOST]
