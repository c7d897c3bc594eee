"""`climb run evaluate`: what a language model is worth before anybody trains it, measured as you wrote it (lesson 8)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from full.given import data, models
from full.given.problems import InputProblem
from toy.given.ppo import require_not_negative, require_positive, setting

from . import common, measures, processes
from .settings import IMDB, Measuring

USES = {"full.evaluate": ["evaluate", "sentiment_reward"]}
TITLE = "A language model on the beginnings of a test split, before any training"
ONE_THREAD = False
PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {"eval_prompts": 1000},
    "imdb": {**IMDB, "data": "stanfordnlp/imdb", "eval_prompts": 0, "eval_batch": 32},
}


@dataclass(frozen=True)
class Config(Measuring):
    """What `climb run evaluate` can be told: field=value."""

    new_tokens: int = setting(20, "Length of a completion, at most.")
    temperature: float = setting(1.0, "Divides the logits where tokens are drawn.")
    top_k: int = setting(0, "Tokens are drawn among the k likeliest; 0: among all.")
    samples: int = setting(8, "Completions that are kept to be read.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("new_tokens", "temperature"):
            require_positive(name, getattr(self, name))
        for name in ("top_k", "samples"):
            require_not_negative(name, getattr(self, name))


def run(config: Config, lessons: SimpleNamespace, folder: Any, progress: common.Progress, resume: bool = False) -> dict:
    """Measures, writes the run's folder, returns the summary. Resumed, it begins anew, to the same numbers."""
    if processes.several():
        raise InputProblem("evaluate runs in one process; start it without a launcher")
    notes: list[str] = []
    accelerator = processes.accelerator_for(config, folder)
    policy, tokenizer = models.load_policy(config.model, say=notes.append)
    judge = common.judge_of(config, tokenizer, notes.append)
    prompts = common.test_prompts(config, tokenizer, notes.append)
    texts = tokenizer.batch_decode(prompts, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if data.encode(tokenizer, texts) != prompts:  # a beginning that is not its own text: cut within a letter
        prompts = [row for row, again in zip(prompts, data.encode(tokenizer, texts)) if row == again]
        notes.append(f"{len(texts) - len(prompts)} beginnings end within a letter and were left out")
        texts = tokenizer.batch_decode(prompts, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    for model in (policy, judge.classifier):
        accelerator.prepare_model(model, evaluation_mode=True)
    folder.keep_metrics([])
    started = time.perf_counter()

    def show(done: int, total: int, mean: float) -> None:
        seconds = round(time.perf_counter() - started, 3)
        folder.add_metrics([{"step": done, "seconds": seconds, "reward": mean}])
        progress(f"reward {mean:.3f} so far", done, total)

    def score(some: list[str]) -> torch.Tensor:
        return lessons.sentiment_reward(judge.classifier, judge.classifier_tokenizer, some)

    try:
        found = lessons.evaluate(
            policy,
            tokenizer,
            texts,
            score,
            prompt_tokens=config.prompt_tokens,
            new_tokens=config.new_tokens,
            batch_size=config.eval_batch,
            temperature=config.temperature,
            top_k=config.top_k,
            generator=torch.Generator().manual_seed(config.seed),
            progress=show,
        )
    except (RuntimeError, MemoryError) as error:
        if not common.out_of_memory(error):
            raise
        raise InputProblem(f"not enough memory: lower eval_batch={config.eval_batch} or new_tokens={config.new_tokens}") from None
    summary: dict[str, Any] = {"reward": found.reward, "reward_before": found.reward}
    for name in ("completion_length", "eos_rate", "distinct_1", "distinct_2"):
        summary[name] = getattr(found, name)
    rewards, gold = np.asarray(found.rewards, dtype=float), judge.gold(found.texts)
    natural = judge.naturalness(found.texts, prompts)
    if judge.world is not None:
        summary |= {"gold_reward": measures.interval(gold), "naturalness": measures.interval(natural)}
    write_samples(folder, config, tokenizer, texts, found.texts, rewards, gold, natural)
    summary |= {"texts": len(texts), "split": config.test_split, "seconds": round(time.perf_counter() - started, 3)}
    summary |= {"device": str(accelerator.device), **measures.peak_memory(), "notes": notes}
    picture(rewards, folder.path / "rewards.png", config.model)
    folder.write_summary(summary)
    return summary


def write_samples(folder: Any, config: Config, tokenizer: Any, prompts, texts, rewards, gold, natural) -> None:
    """The first completions, as rows of samples.jsonl."""
    rows = []
    for i in range(min(config.samples, len(texts))):
        start = tokenizer.decode(data.encode(tokenizer, [prompts[i]])[0], skip_special_tokens=True)
        completion = texts[i][len(start) :] if texts[i].startswith(start) else texts[i]
        tokens = [tokenizer.decode([token]) for token in data.encode(tokenizer, [completion])[0]]
        row = {"step": 0, "stage": "before", "prompt": start, "completion": completion, "tokens": tokens}
        row |= {"log_ratio": [0.0] * len(tokens), "reward": round(float(rewards[i]), 5), "kl": 0.0, "length": len(tokens)}
        for name, of in (("gold_reward", gold), ("naturalness", natural)):
            row[name] = None if of is None else round(float(of[i]), 4)
        rows.append(row)
    samples = measures.SampleFile(folder.path)
    samples.keep_until(0)
    samples.add(rows)


def picture(rewards: np.ndarray, path: Any, title: str) -> None:
    """How the rewards are spread: a mean of 0.6 may be many of 0.6, or some of 1 and some of 0."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.hist(rewards, bins=np.linspace(0, 1, 41), color="tab:blue")
    axes.axvline(rewards.mean(), color="black", label=f"mean {rewards.mean():.3f}")
    axes.set(xlabel="P(positive)", ylabel="completions", title=title)
    axes.legend()
    figure.savefig(path, dpi=120)


def told(summary: dict) -> list[str]:
    """The summary as lines for a terminal."""
    lines = [f"reward       {common.shown(summary['reward'])}   (P(positive), 95% interval, {summary['texts']} texts)"]
    for name, word in (("gold_reward", "gold reward"), ("naturalness", "naturalness"), ("completion_length", "length")):
        if name in summary:
            lines.append(f"{word:<12} {common.shown(summary[name])}")
    lines.append("  ".join(f"{name.replace('_', '-')} {summary[name]:.3f}" for name in ("eos_rate", "distinct_1", "distinct_2")))
    return [*summary["notes"], *lines]
