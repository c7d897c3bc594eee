"""What a policy writes after fixed prompts, and its figures with intervals: before training, during, after."""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from torch import Tensor, nn

from full.given import data, models
from full.given.rollout import rollout
from full.given.scoring import chosen_log_probs, completion_log_probs, logits_where
from full.given.text import Rollout

SEED = 20_011
"Of the measurements' own sampling: the same numbers are drawn before and after, so that the two differ by the policy alone."


@dataclass
class Judge:
    """Who says what a text is worth: the proxy, a classifier; and where the texts are the built-in world's, that world itself."""

    classifier: nn.Module
    classifier_tokenizer: Any
    tokenizer: Any
    world: Any = None

    def texts(self, rollout: Rollout, special: bool = False) -> list[str]:
        """Each row as text: prompt and completion without padding; with their special tokens if asked for."""
        rows = [row[kept].tolist() for row, kept in zip(rollout.tokens.cpu(), rollout.attention_mask.cpu().bool())]
        return self.tokenizer.batch_decode(rows, skip_special_tokens=not special)

    def rewards(self, texts: list[str]) -> Tensor:
        return models.positive_probability(self.classifier, self.classifier_tokenizer, texts)

    def scores(self, rollout: Rollout) -> Tensor:
        """The reward of every row, (B,): P(positive) of its text."""
        return self.rewards(self.texts(rollout))

    def gold(self, texts: list[str]) -> np.ndarray | None:
        return None if self.world is None else np.asarray(self.world.gold_reward(texts), dtype=float)

    def naturalness(self, texts: list[str], prompts: list[list[int]]) -> np.ndarray | None:
        """Log-likelihood a token of what stands behind the prompts; an end in the middle of a sentence is none of the grammar's."""
        if self.world is None:
            return None
        beginnings = self.tokenizer.batch_decode(prompts, skip_special_tokens=True)
        after = [min(len(self.world.numbers(b)), len(self.world.numbers(t))) for b, t in zip(beginnings, texts)]
        return np.asarray(self.world.naturalness(texts, after=after), dtype=float)


@dataclass
class Written:
    """Completions of one policy, row by row."""

    rollout: Rollout
    texts: list[str]
    reward: Tensor
    log_ratio: Tensor | None
    "(rows, time): log pi - log pi_ref of every token, 0 off the mask; None without a reference."
    ref_log_probs: Tensor | None
    "(rows, time): log pi_ref of every token, 0 off the mask."


@torch.no_grad()
def written(
    policy: nn.Module, reference: nn.Module | None, prompts: Any, judge: Judge, config: Any, generator: torch.Generator
) -> Written:
    """One batch of completions, scored. The log-ratio is of the distribution sampled to the reference's own at that temperature."""
    new_tokens, temperature = config.new_tokens, getattr(config, "temperature", 1.0)
    top_k = getattr(config, "top_k", 0)
    tokenizer = judge.tokenizer
    tokens = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    found = rollout(policy, prompts, new_tokens, **tokens, temperature=temperature, top_k=top_k, generator=generator)
    texts = judge.texts(found)
    ratio = ref_log_probs = None
    if reference is not None:  # the reference keeps all its tokens: one outside its top-k would be infinitely far
        ref_log_probs = completion_log_probs(reference, found, temperature)
        ratio = completion_log_probs(policy, found, temperature, top_k) - ref_log_probs
    return Written(found, texts, judge.rewards(texts).cpu().float(), ratio, ref_log_probs)


def measure(
    policy: nn.Module,
    reference: nn.Module | None,
    prompts: list[list[int]],
    judge: Judge,
    config: Any,
    accelerator: Any,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """The figures of a policy on these prompts, which are divided among the processes; those of rows with their 95% interval.

    reward; kl, summed over a completion, nats; reference_log_likelihood, a token, nats; completion_length, eos_rate, distinct_1, distinct_2; gold_reward and naturalness
    (log-likelihood a token under the grammar) of the built-in world.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    generator = torch.Generator().manual_seed(SEED + config.seed)
    columns: dict[str, list[Tensor]] = {}
    each = max(config.eval_batch // world, 1) * world
    for start in range(0, len(prompts), each):
        some = prompts[start : start + each]
        places = torch.arange(rank, len(some), world)  # every process draws the same numbers, and keeps its rows'
        if len(some) % world:  # rows of nobody are written twice and counted once
            places = torch.arange(rank, len(some) + world - len(some) % world, world) % len(some)
        batch = data.prompts_of([some[i] for i in places.tolist()], judge.tokenizer.pad_token_id, places, len(some))
        out = written(policy, reference, batch.to(accelerator.device), judge, config, generator)
        mask = out.rollout.mask.cpu()
        found = {"place": places + start, "reward": out.reward, "completion_length": mask.sum(1)}
        if out.log_ratio is not None:
            found["kl"] = out.log_ratio.sum(1).cpu()
            found["reference_log_likelihood"] = out.ref_log_probs.sum(1).cpu() / mask.sum(1)
        found["eos_rate"] = ((out.rollout.completion.cpu() == judge.tokenizer.eos_token_id) & mask).any(1)
        natural = judge.naturalness(judge.texts(out.rollout, special=True), [some[i] for i in places.tolist()])
        for name, values in (("gold_reward", judge.gold(out.texts)), ("naturalness", natural)):
            if values is not None:
                found[name] = torch.from_numpy(values)
        found["tokens"] = torch.where(mask, out.rollout.completion.cpu(), -1)
        for name, values in found.items():
            columns.setdefault(name, []).append(_gathered(values, accelerator))
        progress(min(start + each, len(prompts)), len(prompts))
    table = {name: torch.cat(parts) for name, parts in columns.items()}
    _, first = np.unique(table.pop("place").numpy(), return_index=True)
    tokens = [row[row >= 0].tolist() for row in table.pop("tokens")[first]]
    figures: dict[str, Any] = {name: interval(values[first].double().numpy()) for name, values in table.items()}
    return figures | {"distinct_1": distinct(tokens, 1), "distinct_2": distinct(tokens, 2)}


def interval(values: np.ndarray) -> dict[str, float] | None:
    """Mean and 95% interval of independent rows by Student's t; rows without a value (an empty completion's mean) left out."""
    from scipy.stats import t

    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    mean = float(values.mean())
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
    return {"mean": mean, "low": mean - half, "high": mean + half}


def distinct(rows: list[list[int]], n: int) -> float:
    """Distinct n-grams over all n-grams of the rows (Li et al. 2016); 0 where there is none."""
    grams = [tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def sample_rows(
    step: int,
    stage: str,
    policy: nn.Module,
    reference: nn.Module | None,
    prompts: list[list[int]],
    judge: Judge,
    config: Any,
    device: Any,
) -> list[dict[str, Any]]:
    """The completions of fixed prompts as rows of samples.jsonl, always drawn with the same numbers."""
    if not prompts:
        return []
    generator = torch.Generator().manual_seed(SEED - 1)
    batch = data.prompts_of(prompts, judge.tokenizer.pad_token_id).to(device)
    out = written(policy, reference, batch, judge, config, generator)
    gold, natural = judge.gold(out.texts), judge.naturalness(judge.texts(out.rollout, special=True), prompts)
    rows = []
    for i, (prompt, mask) in enumerate(zip(prompts, out.rollout.mask.cpu())):
        ids = out.rollout.completion[i].cpu()[mask].tolist()
        ratio = [] if out.log_ratio is None else [round(x, 4) for x in out.log_ratio[i].cpu()[mask].tolist()]
        rows.append(
            {
                "step": step,
                "stage": stage,
                "prompt": judge.tokenizer.decode(prompt, skip_special_tokens=True),
                "completion": judge.tokenizer.decode(ids, skip_special_tokens=True),
                "tokens": [judge.tokenizer.decode([token]) for token in ids],
                "log_ratio": ratio,
                "reward": round(float(out.reward[i]), 5),
                "kl": round(sum(ratio), 4),
                "length": len(ids),
                "gold_reward": None if gold is None else _number(gold[i]),
                "naturalness": None if natural is None else _number(natural[i]),
            }
        )
    return rows


@torch.no_grad()
def pair_log_probs(policy: nn.Module, pairs: Any) -> Tensor:
    """log pi(completion | prompt) of every row of a batch of pairs, (two_batch,), with logits for completions' tokens alone."""
    targets = pairs.tokens[:, 1:]
    places = torch.arange(1, pairs.tokens.shape[1], device=targets.device)
    scored = (places >= pairs.prompt_lengths.unsqueeze(1)) & pairs.attention_mask[:, 1:].bool()
    picked = chosen_log_probs(logits_where(policy, pairs.tokens[:, :-1], pairs.attention_mask[:, :-1], scored), targets[scored])
    return picked.new_zeros(scored.shape).masked_scatter(scored, picked).sum(1)


class SampleFile:
    """samples.jsonl: rows appended, and cut back to a step when a run goes on from there."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "samples.jsonl"

    def add(self, rows: list[dict[str, Any]]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def keep_until(self, step: int) -> None:
        """Only rows of this step or before; none of "after", which will come again."""
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() and step else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        beside = self.path.with_name(".samples.jsonl")
        kept = [row for row in rows if row["step"] <= step and row["stage"] != "after"]
        beside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")
        os.replace(beside, self.path)


def peak_memory() -> dict[str, float]:
    """The most memory this process has held, and the most on its accelerator, in MB; what the system does not tell is left out."""
    found = {}
    try:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found["peak_memory_mb"] = round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
    except ImportError:  # Windows
        pass
    if torch.cuda.is_available():
        found["peak_device_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20, 1)
    return found


def _gathered(values: Tensor, accelerator: Any) -> Tensor:
    if accelerator.num_processes == 1:
        return values.cpu()
    if values.dtype == torch.bool:
        values = values.int()
    return accelerator.gather(values.to(accelerator.device).contiguous()).cpu()


def _number(value: float) -> float | None:
    return round(float(value), 4) if math.isfinite(value) else None
