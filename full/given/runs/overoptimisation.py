"""`climb run overoptimisation`: gold and proxy reward against sqrt(KL), for best-of-n, REINFORCE, PPO and DPO (lesson 17).

Every method begins at the reference and pursues the proxy with nothing that holds it back, but for `kl`, which pays for KL, and
`ensemble`, which is paid by several proxies. On the way the truth is measured, which no method is told.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from full.given.overoptimisation_settings import OveroptimisationConfig, methods_of
from toy.given.ppo import setting

from . import common, measures
from . import overoptimisation_curves as curves
from . import overoptimisation_methods as methods
from .overoptimisation_bench import Bench, laid_out
from .settings import IMDB, Measuring

USES: dict[str, list[str]] = {
    "full.overoptimisation": [],
    "full.reinforce": [],
    "full.kl_control": [],
    "full.dpo": [],
    "full.ppo": [],
}
"Whole modules: several have a `train`."
TITLE = "Gold and proxy reward of best-of-n, REINFORCE, PPO and DPO, as far as optimisation carries"
ONE_THREAD = False
PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {},
    "imdb": {
        **IMDB,
        "data": "stanfordnlp/imdb",
        "gold": "omidroshani/imdb-sentiment-analysis",
        "methods": "best_of_n,reinforce,ppo,dpo,kl",
        "eval_prompts": 512,
        "eval_batch": 32,
        "best_of": 256,
        "best_of_prompts": 256,
        "reinforce_steps": 800,
        "reinforce_rate": 1e-4,
        "ppo_steps": 200,
        "ppo_rate": 3e-5,
        "dpo_steps": 800,
        "dpo_rate": 2e-5,
        "dpo_prompts": 8000,
    },
}


@dataclass(frozen=True)
class Config(Measuring, OveroptimisationConfig):
    """What `climb run overoptimisation` can be told: field=value."""

    eval_prompts: int = setting(160, "Prompts of the test split that every point of a curve is measured on.")


def run(config: Config, lessons: SimpleNamespace, folder: Any, progress: common.Progress, resume: bool = False) -> dict[str, Any]:
    """Runs every method that has not ended yet, writes the run's folder, returns the summary."""
    bench = laid_out(config, lessons, folder, progress, resume)
    names = methods_of(config.methods)
    for name in names:
        ended = folder.path / name / "summary.json"
        if not (resume and ended.is_file()):
            methods.RUNS[name](bench)
    summary = summed_up(bench, names)
    curves.save_picture(bench.points, summary, folder.path / "gold_proxy.png", lambda fit: fit_of(fit, lessons))
    folder.write_summary(summary)
    return summary


def fit_of(fit: dict[str, Any], lessons: SimpleNamespace) -> Any:
    """A fit of the summary as the lesson's own: a function of the distance."""
    ends = [(fit[part]["low"], fit[part]["high"]) for part in ("a", "b")]
    return lessons.overoptimisation.Fit(fit["form"], fit["a"]["mean"], fit["b"]["mean"], *ends)


def summed_up(bench: Bench, names: list[str]) -> dict[str, Any]:
    """Everything that is told of every method, and the few figures that stand beside each other."""
    config, seconds, found = bench.config, {}, {}
    for name in names:
        found[name] = curves.figures_of(name, bench.of(name), bench.lessons.overoptimisation, config.kl_budget)
        inner = bench.folder.path / name / "summary.json"
        seconds[name] = round(json.loads(inner.read_text(encoding="utf-8"))["seconds"], 3)
    beside = {"reward_after": "reward_after", "gold_reward_after": "gold_reward_after", "kl": "kl_after"}
    if all("naturalness_after" in figures for figures in found.values()):
        beside["naturalness_after"] = "naturalness_after"
    summary: dict[str, Any] = {name: {m: figures[of] for m, figures in found.items()} for name, of in beside.items()}
    for place in ("peak", "by_kl", "by_gold"):
        summary[f"gold_{place}"] = {m: figures[place]["gold_reward"] for m, figures in found.items()}
    summary |= {"methods": found, "seconds": round(sum(seconds.values()), 3), "seconds_of": seconds, "split": config.test_split}
    summary |= {"prompts": len(bench.prompts), "device": str(bench.accelerator.device), "threads": torch.get_num_threads()}
    return summary | measures.peak_memory() | {"notes": list(dict.fromkeys(bench.notes))}


def told(summary: dict[str, Any]) -> list[str]:
    """The summary as a table for a terminal."""
    lines = [f"{'':<21}{'proxy':>14}{'gold':>7}{'its':>8}{'in the':>8}{'sqrt(KL)':>10}{'':>7}"]
    lines.append(f"{'':<21}{'before  after':>14}{'before':>8}{'peak':>7}{'end':>8}{'peak':>10}{'end':>7}")
    for name, figures in summary["methods"].items():
        peak, end = figures["peak"], curves.distance({"kl": figures["kl_after"]})
        proxy = f"{figures['reward_before']['mean']:>7.3f}{figures['reward_after']['mean']:>7.3f}"
        gold = f"{peak['gold_reward_before']:>8.3f}{peak['gold_reward']:>7.3f}{peak['gold_reward_after']:>8.3f}"
        lines.append(f"{curves.NAMES[name]:<21}{proxy}{gold}{peak['distance']:>10.2f}{end:>7.2f}")
    lines.append("Peaks are chosen on half of the prompts; gold is told on the other half.")
    for name, figures in summary["methods"].items():
        fit = figures.get("fit_gold_reward")
        if fit is not None:
            form = "d (a - b d)" if fit["form"] == "best_of_n" else "d (a - b ln d)"
            where = "no peak" if fit["peak_distance"] is None else f"peak at d = {fit['peak_distance']:.2f}"
            lines.append(f"gold of {curves.NAMES[name]}: {form}, {where}")
            lines.append(f"  a {common.shown(fit['a'])}, b {common.shown(fit['b'])}")
    memory = f", {summary['peak_memory_mb']:.0f} MB at most" if "peak_memory_mb" in summary else ""
    lines.append(f"{summary['prompts']} prompts, {summary['device']}{memory}")
    return [*summary.get("notes", []), *lines]
