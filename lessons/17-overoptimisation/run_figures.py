"""What lesson 17 shows of the run on the review world: the figures that its text quotes, and the picture run.png beside this file.

    climb run overoptimisation --out FOLDER
    python lessons/17-overoptimisation/figures.py --run FOLDER      keeps what is needed of the run in run.json
"""

import json
from pathlib import Path

from full.given.runs import overoptimisation_curves as curves

HERE = Path(__file__).resolve().parent
KEPT = HERE / "run.json"
POINT = ("reward", "gold_reward", "kl", "naturalness", "first_proxy")
TOLD = ("reinforce", "ppo", "dpo")  # methods whose texts are shown
PROMPT = 1  # which of the fixed prompts


def rounded(value, digits=5):
    if isinstance(value, dict):
        return {name: rounded(inner, digits) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner, digits) for inner in value]
    return round(value, digits) if isinstance(value, float) else value


def condensed(folder):
    """What is kept of a finished run: every point, the summary, and what was written after one prompt at the start, peak and end."""
    folder = Path(folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    points = [{"method": row["method"], "step": row["step"]} | {k: rounded(row[k]) for k in POINT if k in row} for row in rows]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    texts = {}
    for name in TOLD:
        if name in summary["methods"]:
            samples = [json.loads(line) for line in (folder / name / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
            prompt, peak = samples[PROMPT]["prompt"], summary["methods"][name]["peak"]["step"]
            mine = {row["step"]: row for row in samples if row["prompt"] == prompt}
            wanted = {"start": mine[0], "peak": mine[peak], "end": mine[max(mine)]}
            texts[name] = {"prompt": prompt} | {
                when: {k: row[k] for k in ("completion", "reward", "gold_reward")} for when, row in wanted.items()
            }
    return {"points": points, "summary": rounded(summary), "texts": texts}


def kept_run():
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else None


def run_numbers(kept):
    """Every number that the last section quotes, by what it is."""
    told = {}
    for name, figures in kept["summary"]["methods"].items():
        label, peak = curves.NAMES[name], figures["peak"]
        end = curves.distance({"kl": figures["kl_after"]})
        told[f"{name}, curve"] = (
            f"| {label} | {figures['reward_before']['mean']:.2f} | {figures['reward_after']['mean']:.2f} | "
            f"{peak['gold_reward_before']:.2f} | {peak['gold_reward']:.2f} | {peak['gold_reward_after']:.2f} | "
            f"{peak['distance']:.1f} | {end:.1f} | {figures['naturalness_after']['mean']:.1f} |"
        )
        fit = figures.get("fit_gold_reward")
        if fit:
            a, b = (f"{fit[x]['mean']:.3f} [{fit[x]['low']:.3f}, {fit[x]['high']:.3f}]" for x in ("a", "b"))
            where = "none" if fit["peak_distance"] is None else f"{fit['peak_distance']:.1f}"
            told[f"{name}, fit"] = f"| {label} | {a} | {b} | {where} | {fit['residual']:.3f} |"
        if name != "best_of_n":
            stops = " | ".join(f"{figures[by]['step']} | {figures[by]['gold_reward']:.2f}" for by in ("by_kl", "by_gold"))
            told[f"{name}, stops"] = f"| {label} | {stops} | {peak['gold_reward_after']:.2f} |"
    for name, text in kept["texts"].items():
        told[f"{name}, prompt"] = text["prompt"]
        for when in ("start", "peak", "end"):
            told[f"{name}, {when}"] = text[when]["completion"].strip()
    return told


def draw_run(kept, fit):
    """fit: the lesson's class `Fit`."""

    def fit_of(found):
        ends = [(found[part]["low"], found[part]["high"]) for part in ("a", "b")]
        return fit(found["form"], found["a"]["mean"], found["b"]["mean"], *ends)

    curves.save_picture(kept["points"], kept["summary"], HERE / "run.png", fit_of)
