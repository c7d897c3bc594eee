"""Best-of-n in `climb run overoptimisation`: every n at once, from the same completions of the reference."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from full.given import data
from toy.given.run_folder import RunFolder

from . import measures
from .overoptimisation_bench import Bench
from .overoptimisation_measures import halves, written


def run_best_of_n(bench: Bench) -> None:
    """Rewards of many completions of the reference, and from them those of best-of-n for every n: nothing is trained."""
    config, judge, lesson = bench.config, bench.judge, bench.lessons.overoptimisation
    inner, prompts = RunFolder(bench.folder.path / "best_of_n"), bench.prompts[: config.best_of_prompts]
    bench.keep("best_of_n", -1)
    began = time.perf_counter()
    table = completions(bench, prompts)
    np.savez(inner.path / "rewards.npz", **table)
    proxy = torch.from_numpy(table["reward"])  # (prompts, samples)
    for n in chosen_among(config.best_of):
        row: dict[str, Any] = {"method": "best_of_n", "step": n, "kl": lesson.best_of_n_kl(n)}
        for name, values in table.items():
            of_proxy, of_other = lesson.best_of_n_mean(proxy, torch.from_numpy(values), n)  # (prompts,)
            found = (of_proxy if name == "reward" else of_other).double().numpy()
            row[name] = measures.interval(found)
            if name == "gold_reward":
                row["gold_halves"] = halves(found)
        bench.add(row)
    inner.write_summary({"steps": config.best_of, "seconds": time.perf_counter() - began})


def chosen_among(most: int) -> list[int]:
    """The n that are told: powers of the square root of 2, rounded, up to the number of samples."""
    return sorted({1, most, *(round(2 ** (k / 2)) for k in range(2 * most.bit_length()) if 2 ** (k / 2) <= most)})


def completions(bench: Bench, prompts: list[list[int]]) -> dict[str, np.ndarray]:
    """reward, gold_reward and, in the world, naturalness of the reference's completions, each (prompts, samples)."""
    config, judge = bench.config, bench.judge
    generator = torch.Generator().manual_seed(measures.SEED + 13 + config.seed)
    table: dict[str, list[np.ndarray]] = {}
    each = max(2 * config.eval_batch // config.best_of, 1)  # prompts at a time
    for start in range(0, len(prompts), each):
        some = prompts[start : start + each]
        batch = data.prompts_of(some, judge.tokenizer.pad_token_id).to(bench.accelerator.device).repeated(config.best_of)
        found = written(bench.reference, batch, judge.tokenizer, config.new_tokens, generator)
        texts = judge.texts(found)
        row = {"reward": judge.rewards(texts).cpu().double().numpy(), "gold_reward": judge.gold(texts)}
        natural = judge.naturalness(judge.texts(found, special=True), [prompt for prompt in some for _ in range(config.best_of)])
        if natural is not None:
            row["naturalness"] = natural
        for name, values in row.items():
            table.setdefault(name, []).append(values.reshape(len(some), config.best_of))
        bench.progress("best_of_n: completions", min(start + each, len(prompts)), len(prompts))
    return {name: np.concatenate(parts) for name, parts in table.items()}
