"""What the laptop presets of lessons 12 to 14 show, over seeds: figures before and after, seconds and memory.

    python tests/bench/bench_laptop.py                                     all of them, three seeds: half an hour on two cores
    python tests/bench/bench_laptop.py ppo-three ppo-one --seeds 0 1       some of them
    python tests/bench/bench_laptop.py --out lessons/14-ppo/measured_runs.json

--out FILE takes the figures up: {way: {seed: figures}}, where figures are those of the run's summary.json that are named in KEPT,
numbers or {"mean", "low", "high"}; what FILE holds of other ways and seeds stays. Of PPO's runs there is "curve" besides, a row a
step with what is named in CURVE, and of the first seed "samples", the same prompts' answers before and after. Each run is a
process of its own.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

ONE = {"rewards": "completeness=question-reward", "weights": "0.7"}
WAYS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "reward-model": ("reward_model", "laptop", {}),
    "sft": ("sft", "laptop", {}),
    "ppo-three": ("ppo", "laptop", {}),
    "ppo-one": ("ppo", "laptop", ONE),
    "ppo-tldr": ("ppo", "tldr-laptop", {}),
}
"Name of a way: (run, preset, what is changed). ppo-one is completeness alone, which is to be exploited by length."
KEPT = (
    "accuracy",
    "accuracy_by_length",
    "log_loss",
    "calibration_error",
    "spread",
    "rougeL",
    "reward_after",
    "reward_completeness",
)
KEPT += (
    "reward_relevance",
    "reward_factuality",
    "reward_summary",
    "completeness",
    "relevance",
    "factuality",
    "gold_reward",
    "kl",
)
KEPT += ("length", "ended", "repetition", "steps", "seconds", "peak_memory_mb")
CURVE = ("step", "reward", "reward_completeness", "reward_relevance", "reward_factuality", "reward_summary")
CURVE += ("kl", "completion_length", "explained_variance")
SHOWN = ("accuracy", "log_loss", "rougeL", "completeness", "relevance", "factuality", "gold_reward", "length", "kl")


def one(way: str, seed: int, fields: dict[str, Any], send: Any) -> None:
    """One run in this process; its summary goes through the pipe."""
    from toy.given.run_folder import RunFolder

    name, preset, more = WAYS[way]
    module = importlib.import_module(f"full.given.runs.{name}")
    lessons = SimpleNamespace()
    for lesson, functions in module.USES.items():
        for function in functions:
            setattr(lessons, function, getattr(importlib.import_module("solutions." + lesson), function))
    with tempfile.TemporaryDirectory() as folder:
        config = module.Config(**(module.PRESETS[preset] | more | fields | {"seed": seed}))
        summary = module.run(config, lessons, RunFolder(Path(folder)), lambda *what: None)
        send.send(summary | (written(Path(folder), seed) if name == "ppo" else {}))


def written(folder: Path, seed: int) -> dict[str, Any]:
    """What a run's folder has beside its summary: {"curve": rows} and, of the first seed, {"samples": rows}."""
    metrics, samples = ([json.loads(line) for line in (folder / f"{name}.jsonl").open()] for name in ("metrics", "samples"))
    kept = [{name: round(row[name], 4) for name in CURVE if name in row} for row in metrics]
    if seed:
        return {"curve": kept}
    left_out = ("tokens", "log_ratio", "ids")
    told = [{k: v for k, v in row.items() if k not in left_out} for row in samples if row["stage"] != "during"]
    return {"curve": kept, "samples": told}


def summary_of(way: str, seed: int, fields: dict[str, Any]) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=one, args=(way, seed, fields, send))
    process.start()
    send.close()
    summary = receive.recv()
    process.join()
    wanted = {name for kept in KEPT for name in (kept, f"{kept}_before")} | {"reward_before", "curve", "samples"}
    return {name: value for name, value in summary.items() if name in wanted}


def line(way: str, seed: int, found: dict[str, Any]) -> str:
    def mean(name: str) -> Any:
        value = found.get(name)
        return value["mean"] if isinstance(value, dict) else value

    parts = []
    for name in SHOWN:
        if mean(name) is not None:
            before = mean(f"{name}_before")
            parts.append(f"{name} {mean(name):.3f}" if before is None else f"{name} {before:.3f} -> {mean(name):.3f}")
    return f"{way:<13} seed {seed}: {', '.join(parts)}; {found['seconds']:.0f} s, {found['peak_memory_mb']:.0f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ways", nargs="*", metavar="WAY", help=", ".join(WAYS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="Change what the presets say.")
    arguments = parser.parse_args()
    unknown = [way for way in arguments.ways if way not in WAYS]
    if unknown:
        parser.error(f"no way is called {unknown[0]}; there are {', '.join(WAYS)}")
    fields = {}
    for setting in arguments.set:
        name, _, value = setting.partition("=")
        try:
            fields[name] = json.loads(value)
        except ValueError:
            fields[name] = value
    for way in arguments.ways or WAYS:
        for seed in arguments.seeds:
            found = summary_of(way, seed, fields)
            print(line(way, seed, found), flush=True)
            if arguments.out:
                kept = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.is_file() else {}
                kept.setdefault(way, {})[str(seed)] = found
                arguments.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
