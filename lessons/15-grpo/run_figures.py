"""The figures of section "On the sums": of finished runs, and of runs with other options.

    python lessons/15-grpo/run_figures.py --run RUN RUN RUN    keeps the figures of finished runs in run.json, draws run.png:
        climb run grpo --out RUN seed=0;  ... seed=1;  ... seed=2
    python lessons/15-grpo/run_figures.py --options FOLDER     runs GRPO with each of OPTIONS, seed 0, keeps them in options.json;
                                                               FOLDER 0 1 2: with these seeds
    python lessons/15-grpo/run_figures.py                      prints the numbers that the text states, and draws run.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Sequence

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OPTIONS: dict[str, dict[str, Any]] = {
    "GRPO: std, sequence": {},
    "no std": {"scale": "none"},
    "token": {"mean": "token"},
    "constant": {"mean": "constant"},
    "Dr. GRPO: no std, constant": {"scale": "none", "mean": "constant"},
    "RLOO (lesson 9)": {"rloo": True},
}
"What is compared; everything else is the preset's, but fewer steps."
BUDGET = {"steps": 20, "test_rows": 600, "tries": 0, "eval_every": 0, "samples": 0, "save_every": 0}
EARLY = (6, 10)
"Steps, the first and the last, over which the length of completions is averaged: it tells how soon the working is shown."
CURVES = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "reward", "kl", "completion_length", "no_signal", "entropy")


def condensed(folder: Path) -> dict[str, Any]:
    """What is kept of a finished run: its curves, its summary, and the first samples before and after."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    curves = {name: [[row["step"], round(row[name], 4)] for row in rows if name in row] for name in CURVES}
    kept = [
        {"stage": row["stage"], "text": row["prompt"] + row["completion"], "right": row["reward"]}
        for row in samples
        if row["stage"] in ("before", "after")
    ]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {"curves": curves, "summary": rounded(summary), "samples": kept}


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def rloo(loop: Any, config: Any) -> None:
    """Lesson 9's REINFORCE with the leave-one-out baseline, on the questions of this run."""
    from full.given.settings import ReinforceConfig
    from solutions.full import grpo, reinforce

    plain = loop.reward

    def reward(rollout: Any) -> Any:
        texts = grpo.completion_texts(loop.tokenizer, rollout)
        return grpo.exact_match_reward(texts, answers.pop()).float()

    answers: list[Any] = []
    batches = loop.batches

    def asked() -> Any:
        for prompts in batches():
            answers.append(prompts.repeated(config.group_size).answers)
            yield prompts

    loop.reward, loop.batches = reward, asked
    names = ("group_size", "temperature", "top_k", "new_tokens")
    reinforce.train(loop, ReinforceConfig(baseline="rloo", **{name: getattr(config, name) for name in names}))
    loop.reward = plain


def compared(folder: Path, seeds: Sequence[int] = (0,)) -> dict[str, list[dict[str, Any]]]:
    """What came of a run for every option and seed; one that is there already is not run again."""
    import torch

    from full.given.runs import grpo as module
    from solutions.full import grpo as lesson
    from toy.given.run_folder import RunFolder

    torch.set_num_threads(1)
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in seeds:
        for name, changed in OPTIONS.items():
            settings = {key: value for key, value in changed.items() if key != "rloo"}
            place = RunFolder(folder / f"{name.split(':')[0].split(' (')[0].replace(' ', '-')}-{seed}")
            config = module.Config(**{**module.PRESETS["laptop"], **BUDGET, **settings, "seed": seed})
            if not (place.path / "summary.json").is_file():
                place.write_config(config)
                train = rloo if changed.get("rloo") else lesson.train
                lessons = SimpleNamespace(train=train, exact_match_reward=lesson.exact_match_reward)
                module.run(config, lessons, place, lambda what, done, total: None)
            summary = json.loads((place.path / "summary.json").read_text(encoding="utf-8"))
            early = [row["completion_length"] for row in place.metrics() if EARLY[0] <= row["step"] <= EARLY[1]]
            kept = {figure: summary[figure] for figure in ("accuracy_before", "accuracy_after", "worked", "kl", "seconds")}
            found.setdefault(name, []).append(rounded(kept | {"early_length": sum(early) / len(early)}))
            print(f"{name}, seed {seed}: {stated(summary['accuracy_after'])}", flush=True)
    return found


def stated(value: dict[str, float]) -> str:
    return f"{value['mean']:.2f} [{value['low']:.2f}, {value['high']:.2f}]"


def run_numbers(runs: list[dict[str, Any]]) -> dict[str, str]:
    """The lines of the text that come from the runs, one for each seed."""
    numbers = {}
    for seed, run in enumerate(runs):
        s = run["summary"]
        cells = [stated(s["accuracy_before"]), stated(s["accuracy_after"])]
        cells += [f"{s[name + '_before']['mean']:.2f} -> {s[name]['mean']:.2f}" for name in ("greedy_accuracy", "pass_at_8", "worked")]
        cells += [f"{s['completion_length_before']['mean']:.1f} -> {s['completion_length']['mean']:.1f}", f"{s['kl']['mean']:.1f}"]
        numbers[f"run, seed {seed}"] = f"| {seed} | " + " | ".join(cells) + " |"

    def range_of(values: list[float]) -> str:
        ends = [f"{end(values):.2f}" for end in (min, max)]
        return " to ".join(dict.fromkeys(ends))

    def over(figure: str) -> str:
        return range_of([run["summary"][figure]["mean"] for run in runs])

    silent = [[value for _, value in run["curves"]["no_signal"]] for run in runs]
    first, last = (range_of([sum(row[part]) / 10 for row in silent]) for part in (slice(10), slice(-10, None)))
    found = f"After, {over('accuracy_after')} are right at the first try, and {over('pass_at_8')} among eight"
    return numbers | {
        "known": f"{over('pass_at_8_before')} of the sums had a right answer among eight. {found}",
        "greedy": f"{over('greedy_accuracy_before')} of them were right before a single step, where of the sampled ones "
        f"{over('accuracy_before')} were",
        "no signal": f"{first} in the first ten steps and {last} in the last ten",
    }


def option_numbers(found: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """The lines of the table of options, seed by seed."""

    def each(runs: list[dict[str, Any]], figure: str, digits: int) -> str:
        values = [run[figure]["mean"] if isinstance(run[figure], dict) else run[figure] for run in runs]
        return ", ".join(f"{value:.{digits}f}" for value in values)

    columns = (("accuracy_after", 2), ("worked", 2), ("early_length", 1), ("kl", 1))
    return {
        f"option, {name}": f"| {name} | " + " | ".join(each(runs, *column) for column in columns) + " |"
        for name, runs in found.items()
    }


def moving(points: list[list[float]], width: int = 10) -> list[list[float]]:
    """Each value as the mean of the last `width`."""
    values = [value for _, value in points]
    return [[step, sum(values[max(0, n - width + 1) : n + 1]) / min(n + 1, width)] for n, (step, _) in enumerate(points)]


def draw_run(runs: list[dict[str, Any]]) -> None:
    """Accuracy, share of groups without signal and length, step by step, a line for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 3.2), layout="constrained")
    panels = (
        ("test_accuracy", "accuracy on sums never seen"),
        ("no_signal", "share of groups that teach nothing, mean of 10 steps"),
        ("completion_length", "tokens a completion, mean of 10 steps"),
    )
    for axes, (name, label) in zip(figure.subplots(1, 3), panels):
        for seed, (run, colour) in enumerate(zip(runs, ("#4477aa", "#cc6677", "#228833"))):
            points = run["curves"][name] if name == "test_accuracy" else moving(run["curves"][name])
            if name == "test_accuracy":
                points = [[0, run["summary"]["accuracy_before"]["mean"]], *points]
                ends = [[0, *(run["summary"]["accuracy_before"][end] for end in ("low", "high"))]]
                lows, highs = (run["curves"][f"test_accuracy_{end}"] for end in ("low", "high"))
                ends += [[low[0], low[1], high[1]] for low, high in zip(lows, highs)]
                axes.fill_between(*zip(*ends), color=colour, alpha=0.12)
            axes.plot(*zip(*points), color=colour, lw=1.4, label=f"seed {seed}")
        axes.set_xlabel("step")
        axes.set_title(label, fontsize=9)
        axes.grid(alpha=0.25)
        axes.set_ylim(bottom=0)
    figure.axes[0].axhline(0.8, color="grey", lw=0.8, ls="--")
    figure.axes[0].legend(fontsize=8, loc="lower right")
    figure.savefig(HERE / "run.png", dpi=120)


def kept(name: str) -> Any:
    place = HERE / name
    return json.loads(place.read_text(encoding="utf-8")) if place.is_file() else None


def keep(name: str, value: Any) -> None:
    (HERE / name).write_text(json.dumps(value, indent=None, separators=(",", ":")) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> None:
    if "--run" in arguments:
        keep("run.json", [condensed(Path(folder)) for folder in arguments[arguments.index("--run") + 1 :]])
    if "--options" in arguments:
        folder, *seeds = arguments[arguments.index("--options") + 1 :]
        keep("options.json", compared(Path(folder), [int(seed) for seed in seeds] or [0]))
    runs, options = kept("run.json"), kept("options.json")
    numbers = {} if runs is None else run_numbers(runs)
    if runs is not None:
        draw_run(runs)
    if options is not None:
        numbers |= option_numbers(options)
    for what, text in numbers.items():
        print(f"{what:>28}  {text}")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(sys.argv[1:])
