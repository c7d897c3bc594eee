"""What lesson 17 shows of the run on the review world: the figures that its text quotes, and the picture run.png.

    climb run overoptimisation --out FOLDER
    python lessons/17-overoptimisation/figures.py --run FOLDER [OTHER ...]     keeps what is needed of it in run.json
The others are runs with other seeds, of which the heights of the gold curves are kept.
"""

import json
from pathlib import Path

from full.given.runs import overoptimisation_curves as curves

HERE = Path(__file__).resolve().parent
KEPT = HERE / "run.json"
POINT = ("reward", "gold_reward", "kl", "naturalness", "first_proxy")
TOLD = ("reinforce", "ppo", "dpo", "kl", "ensemble")  # methods whose texts are shown
TRAINED = TOLD[:3]
PROMPT = 1  # which of the fixed prompts


def rounded(value, digits=5):
    if isinstance(value, dict):
        return {name: rounded(inner, digits) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner, digits) for inner in value]
    return round(value, digits) if isinstance(value, float) else value


def heights(folder):
    """{method: gold at the start, at its highest, at the end, on all prompts} of a run, and its seed."""
    rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    settings = (Path(folder) / "config.yaml").read_text(encoding="utf-8").splitlines()
    found = {"seed": int(next(line for line in settings if line.startswith("seed:")).split(":")[1])}
    for name in TRAINED:
        gold = [row["gold_reward"]["mean"] for row in rows if row["method"] == name]
        found[name] = rounded([gold[0], max(gold), gold[-1]])
    return found


def condensed(folder, *others):
    """What is kept of a finished run: every point, the summary, and what came after one prompt at the start, peak and end."""
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
    kept = {"points": points, "summary": rounded(summary), "texts": texts}
    return kept | {"seeds": [heights(one) for one in (folder, *others)] if others else []}


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
    told |= whole_sentences(kept)
    for found in kept["seeds"]:
        cells = (", ".join(f"{value:.2f}" for value in found[name]) for name in TRAINED)
        told[f"seed {found['seed']}"] = f"| {found['seed']} | " + " | ".join(cells) + " |"
    for name, text in kept["texts"].items():
        told[f"{name}, prompt"] = text["prompt"]
        for when in ("start", "peak", "end"):
            told[f"{name}, {when}"] = text[when]["completion"].strip()
    if "reinforce" in kept["texts"]:
        told["gold of a text"] = f"P(positive) of that text is {kept['texts']['reinforce']['peak']['gold_reward']:.2f}"
    return told


def whole_sentences(kept):
    """What the text says in words: points of the curves that stand in no table."""
    told, points, methods = {}, kept["points"], kept["summary"]["methods"]
    of = {name: [row for row in points if row["method"] == name] for name in methods}
    if "reinforce" in methods:
        start, lowest = of["reinforce"][0], min(of["reinforce"][1:], key=lambda row: row["gold_reward"]["mean"])
        peak = next(row for row in of["reinforce"] if row["step"] == methods["reinforce"]["peak"]["step"])
        told["start"] = f"from {start['gold_reward']['mean']:.2f} on all prompts"
        told["lowest"] = f"{lowest['gold_reward']['mean']:.2f} after {lowest['step']} steps"
        natural = [row["naturalness"]["mean"] for row in (start, peak)]
        told["natural"] = f"{natural[0]:.1f} nats a token at the start and {natural[1]:.1f} at the peak"
        one = methods["reinforce"]["by_kl"]
        told["early"] = f"after {one['step']} steps REINFORCE is {one['distance']:.1f} away and has {one['gold_reward']:.2f}"
    if "best_of_n" in methods:
        last, end = of["best_of_n"][-1], methods["best_of_n"]["peak"]
        told["n"] = f"With {last['step']} answers, {last['kl']:.1f} nats"
        told["best of n"] = f"best-of-n has {end['gold_reward']:.2f} at a distance of {end['distance']:.1f}"
    if "kl" in methods:
        told["priced"] = f"comes to rest at {curves.kl_of(of['kl'][-1]):.1f} nats"
        free, paid = (next(row for row in of[name] if row["reward"]["mean"] >= 0.88) for name in ("reinforce", "kl"))
        told["same proxy"] = f"{free['reward']['mean']:.2f} is {curves.kl_of(free):.0f} nats away after {free['step']} steps"
        told["same proxy, priced"] = f"{curves.kl_of(paid):.1f} after {paid['step']}"
    if "ensemble" in methods:
        first = of["ensemble"][0]
        both = (first[name]["mean"] for name in ("reward", "first_proxy"))
        told["disagree"] = "is {:.2f} at the start, where the first one alone says {:.2f}".format(*both)
    return told


def draw_run(kept, fit):
    """fit: the lesson's class `Fit`."""

    def fit_of(found):
        ends = [(found[part]["low"], found[part]["high"]) for part in ("a", "b")]
        return fit(found["form"], found["a"]["mean"], found["b"]["mean"], *ends)

    curves.save_picture(kept["points"], kept["summary"], HERE / "run.png", fit_of)
