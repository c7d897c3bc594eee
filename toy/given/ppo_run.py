"""`climb run toy-ppo`: PPO as you wrote it on sentences, measured after every update against the exact optimum (lesson 6)."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Callable

import torch

from .ppo import PPOConfig, require_positive, setting
from .sentences import Ruler, ValueTable, reference_policy, sampler, sentence_scores

USES = {"toy.ppo": ["train"]}
TITLE = "PPO on sentences, against the exact optimum"


@dataclass(frozen=True)
class Config(PPOConfig):
    """What `climb run toy-ppo` can be told: field=value."""

    updates: int = setting(200, "Rollouts, each followed by its update.")
    learning_rate: float = setting(0.05, "Adam's first learning rate, of policy and value function.")
    anneal: bool = setting(True, "Whether the learning rate falls linearly to 0.")
    seed: int = setting(0, "Of all sampling.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("updates", "learning_rate", "kl_coef"):  # without a price for KL there is no optimum to measure against
            require_positive(name, getattr(self, name))


@dataclass
class Found:
    """A finished run: a row for each update and one for the start, and the policy and value function it ended with."""

    rows: list[dict[str, Any]]
    policy: torch.nn.Module
    value: torch.nn.Module
    ruler: Ruler


def learn(train: Callable, config: Config, watch: Callable[[dict], None] = lambda row: None) -> Found:
    """One run of the lesson's `train` from the reference on. `watch` is shown every row as it comes.

    A row holds what `train` logs, which is estimated from the rollout *before* the update, and the exact figures of the policy
    after it: exact_reward, exact_kl, exact_entropy, objective, tv.
    """
    reference = reference_policy()
    policy, value = copy.deepcopy(reference).requires_grad_(True), ValueTable()
    optimizer = torch.optim.Adam([*policy.parameters(), *value.parameters()], lr=config.learning_rate)
    ruler, started, rows = Ruler(reference, config.kl_coef), time.perf_counter(), []

    def note(line: dict[str, float]) -> None:
        exact = ruler.measure(policy)
        exact = {name if name in ("objective", "tv") else f"exact_{name}": figure for name, figure in exact.items()}
        rows.append({"step": len(rows), "seconds": round(time.perf_counter() - started, 3), **line, **exact})
        if config.anneal:
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * (1 - (len(rows) - 1) / config.updates)
        watch(rows[-1])

    note({})
    train(policy, value, reference, sampler(config.seed), sentence_scores, optimizer, config, config.updates, note)
    return Found(rows, policy, value, ruler)


def draw(rows: list[dict[str, Any]], ruler: Ruler):
    """Six plots of a run against the update, with the optimum's figures as dotted lines: a matplotlib Figure."""
    from matplotlib.figure import Figure

    best = ruler.optimum()
    figure = Figure(figsize=(11.5, 6.2), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True)
    steps, later = [row["step"] for row in rows], rows[1:]

    def plot(axes, name, label, colour, among=rows):
        axes.plot([row["step"] for row in among], [row[name] for row in among], color=colour, label=label, lw=1.4)

    plot(panels[0, 0], "exact_reward", "E[score]", "tab:green")
    plot(panels[0, 0], "objective", "E[score] - beta KL", "black")
    panels[0, 0].axhline(best["reward"], color="tab:green", ls=":")
    panels[0, 0].axhline(ruler.best, color="black", ls=":")
    plot(panels[0, 1], "exact_kl", "KL(policy || reference)", "tab:red")
    panels[0, 1].axhline(best["kl"], color="tab:red", ls=":")
    plot(panels[0, 1], "exact_entropy", "entropy", "tab:blue")
    panels[0, 1].axhline(best["entropy"], color="tab:blue", ls=":")
    panels[0, 2].plot(steps, [row["tv"] for row in rows], color="black", label="total variation to the optimum", lw=1.4)
    panels[0, 2].set_yscale("log")
    plot(panels[1, 0], "approx_kl", "approximate KL(old || new)", "tab:purple", later)
    panels[1, 0].set_yscale("log")
    plot(panels[1, 1], "clip_fraction", "clip fraction", "tab:orange", later)
    plot(panels[1, 1], "explained_variance", "explained variance", "tab:cyan", later)
    plot(panels[1, 2], "policy_loss", "policy loss", "tab:gray", later)
    panels[1, 2].axhline(0, color="black", lw=0.5)
    for axes, unit in zip(panels.flat, ("units of reward", "nats a sentence", "", "nats a token", "", "")):
        axes.set_ylabel(unit)
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    for axes in panels[1]:
        axes.set_xlabel("update")
    return figure


def run(
    config: Config, lessons: SimpleNamespace, folder, progress: Callable[[str, int, int], None], resume: bool = False
) -> dict:
    """Trains, writes the run's folder, returns the summary. A run takes seconds: resumed, it begins anew, to the same numbers."""
    folder.keep_metrics([])
    started = time.perf_counter()

    def watch(row: dict) -> None:
        folder.add_metrics([row])
        progress(f"objective {row['objective']:.3f}", row["step"], config.updates)

    found = learn(lessons.train, config, watch)
    draw(found.rows, found.ruler).savefig(folder.path / "run.png", dpi=130)
    first, last = found.rows[0], found.rows[-1]
    summary = {"reward_before": first["exact_reward"], "reward_after": last["exact_reward"], "kl": last["exact_kl"]}
    summary |= {"objective": last["objective"], "best_objective": found.ruler.best, "tv": {"PPO": last["tv"]}}
    summary |= {"likeliest": found.ruler.likeliest(found.policy), "seconds": round(time.perf_counter() - started, 2)}
    folder.write_summary(summary)
    return summary


def told(summary: dict) -> list[str]:
    """The summary as lines for a terminal."""
    return [
        f"reward     {summary['reward_before']:.3f} -> {summary['reward_after']:.3f}   (expected score, exact)",
        f"objective  {summary['objective']:.4f} of at most {summary['best_objective']:.4f}"
        f"   (minus beta KL, {summary['kl']:.3f} nats)",
        f"total variation to the optimum {summary['tv']['PPO']:.1e}",
        *(f"  {probability:.3f}  {sentence}" for sentence, probability in summary["likeliest"].items()),
    ]
