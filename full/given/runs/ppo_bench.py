"""What a PPO run works with: prompts with their texts, and the tables and figures of what a policy writes for them."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from full.given import data, preferences
from full.given.ppo_settings import TextPrompts
from full.given.problems import InputProblem
from full.given.rollout import rollout

from . import common, measures
from .batches import Batches, Order, share
from .examples import exact_scores, parts_of


@dataclass(frozen=True)
class Prompt:
    """A text to answer, its tokens, and the answer that came with it ("" where none did)."""

    text: str
    tokens: list[int]
    target: str


@dataclass
class Bench:
    """All that is laid out before the first step."""

    config: Any
    lessons: SimpleNamespace
    progress: common.Progress
    accelerator: Any
    policy: Any
    reference: Any
    value: Any
    reward: Any
    tokenizer: Any
    training: list[Prompt]
    test: list[Prompt]
    targets: dict[str, str]
    notes: list[str]


def prompts_of(config: Any, tokenizer: Any, model: Any, say: Any) -> tuple[list[Prompt], list[Prompt]]:
    """(to train on, to measure on)."""
    if config.prompt_tokens:
        room = getattr(model.config, "n_positions", None) if not model.config.is_encoder_decoder else None
        if room and config.prompt_tokens + config.new_tokens > room:
            both = f"prompt_tokens={config.prompt_tokens} and new_tokens={config.new_tokens}"
            raise InputProblem(f"{both}: together more than the {room} tokens that model={config.model} reads; lower one of them")
        return tuple(_beginnings(config, tokenizer, what, say) for what in ("training", "test"))
    training, _, test = parts_of(config, say)
    return tuple(_whole(rows, what, config, tokenizer, model, say) for what, rows in (("training", training), ("test", test)))


def _beginnings(config: Any, tokenizer: Any, what: str, say: Any) -> list[Prompt]:
    """Prompts that are the first tokens of texts."""
    split, limit = (config.train_split, config.rows) if what == "training" else (config.test_split, config.test_rows)
    column = config.source_column or "text"
    if common.is_one_file(config.data):
        rows = data.load_rows(config.data, {"text": column})
        if len(rows) <= config.test_rows:
            raise InputProblem(f"data={config.data}: test_rows={config.test_rows} leaves nothing to train on; lower it")
        rows = rows[: -config.test_rows][: config.rows or None] if what == "training" else rows[-config.test_rows :]
    else:
        rows = data.load_rows(config.data, {"text": column}, split=split, limit=limit, tokens=config.prompt_tokens)
    found = data.beginnings(tokenizer, data.texts_of(rows, "text", config.data), config.prompt_tokens, config.data)
    if found.dropped:
        say(f"{found.dropped} of {len(rows)} {what} texts have fewer than {config.prompt_tokens} tokens and were left out")
    texts = tokenizer.batch_decode(found.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return [Prompt(text, tokens, "") for text, tokens in zip(texts, found.tokens)]


def _whole(rows: list[dict[str, Any]], what: str, config: Any, tokenizer: Any, model: Any, say: Any) -> list[Prompt]:
    """Whole texts as prompts. An encoder's end with EOS and are cut at their end; a decoder's are cut at their beginning."""
    texts = [row["source"] for row in rows]
    ids, ends = data.encode(tokenizer, texts), model.config.is_encoder_decoder
    positions = getattr(model.config, "n_positions", None) if not ends else None
    limit = min(config.max_source, positions - config.new_tokens if positions else config.max_source)
    if limit < 2:
        raise InputProblem(
            f"new_tokens={config.new_tokens}: leaves no room for a prompt in the model's {positions} tokens; lower it"
        )
    cut = sum(len(row) + ends > limit for row in ids)
    if cut:
        say(f"{cut} of {len(ids)} {what} texts were longer than {limit} tokens and lost their {'end' if ends else 'beginning'}")
    ids = [[*row[: limit - 1], tokenizer.eos_token_id] if ends else row[-limit:] for row in ids]
    return [Prompt(text, row, one["target"]) for text, row, one in zip(texts, ids, rows)]


def batch_of(prompts: list[Prompt], pad_token_id: int, rows: Any = None, whole: int | None = None) -> TextPrompts:
    made = data.prompts_of([prompt.tokens for prompt in prompts], pad_token_id, rows, whole)
    return TextPrompts(made.input_ids, made.attention_mask, made.rows, made.whole, tuple(prompt.text for prompt in prompts))


def text_batches(prompts: list[Prompt], order: Order, pad_token_id: int) -> Batches:
    def batch(step: int, process: int, processes: int) -> TextPrompts:
        mine, rows = share(order(step), process, processes)
        return batch_of([prompts[i] for i in mine], pad_token_id, rows, order.batch_size)

    return batch


def table(prompts: list[Prompt], bench: Bench, trainer: Any, seed: int) -> list[dict[str, Any]]:
    """What the policy writes now: the trainer's own table, and in each row the tokens with their log-ratio to the reference."""
    config, accelerator = bench.config, bench.accelerator
    batch = batch_of(prompts, bench.tokenizer.pad_token_id).to(accelerator.device)
    rows = trainer.validate(batch, seed)
    tokens = {"eos_token_id": bench.tokenizer.eos_token_id, "pad_token_id": bench.tokenizer.pad_token_id}
    how = {"temperature": config.temperature, "top_k": config.top_k, "generator": torch.Generator().manual_seed(seed)}
    written = rollout(bench.policy.model, batch, config.new_tokens, **tokens, **how)  # the same draws as in the table
    with torch.no_grad():
        own, _ = bench.lessons.score(bench.policy, None, written, config.temperature, written.support)
        ratio = own - bench.lessons.score(bench.reference, None, written, config.temperature)[0]
    exact = exact_scores(config.data, [prompt.text for prompt in prompts], [row["completion"] for row in rows])
    found = []
    for n, (row, prompt, mask) in enumerate(zip(rows, prompts, written.mask.cpu())):
        apart = {f"reward_{name}": row[name] for name in bench.reward.weights}
        kept = {name: value for name, value in row.items() if name not in bench.reward.weights}
        found.append(
            {
                **kept,
                **apart,
                **{name: float(values[n]) for name, values in exact.items()},
                "ids": written.completion[n].cpu()[mask].tolist(),
                "log_ratio": [round(x, 4) for x in ratio[n].float().cpu()[mask].tolist()],
                "kl": float(ratio[n].double().sum()),
                "target": prompt.target,
            }
        )
    return found


def figures(when: str, bench: Bench, trainer: Any) -> dict[str, Any]:
    """The figures of a policy on the test prompts with their 95% intervals: each reward apart, exact scores, KL, length."""
    config, rows = bench.config, []
    for start in range(0, len(bench.test), config.eval_batch):
        rows += table(bench.test[start : start + config.eval_batch], bench, trainer, measures.SEED + 1000 * config.seed + start)
        bench.progress(f"measuring {when}", len(rows), len(bench.test))
    found: dict[str, Any] = {}
    for name, value in rows[0].items():
        if isinstance(value, (int, float)):
            found[name] = measures.interval(np.array([float(row[name]) for row in rows]))
    if any(bench.targets):
        found["rougeL"] = measures.interval(rouge(rows))
    for name in (distinct for distinct in (1, 2)):
        found[f"distinct_{name}"] = measures.distinct([row["ids"] for row in rows], name)
    for name, reward in bench.reward.rewards.items():
        if hasattr(reward, "scores"):  # a model's: a score that is the same whatever was written teaches nothing
            warning = preferences.spread_warning(torch.tensor([row[f"reward_{name}"] for row in rows]))
            if warning and when == "before":
                found["spread_warning"] = f"reward {name}: {warning}"
    return found


def rouge(rows: list[dict[str, Any]]) -> np.ndarray:
    """ROUGE-L's F measure of each row that has a target, NaN of the others."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    scores = [scorer.score(row["target"], row["completion"])["rougeL"].fmeasure if row["target"] else np.nan for row in rows]
    return np.array(scores)


def sample_rows(step: int, stage: str, bench: Bench, trainer: Any) -> list[dict[str, Any]]:
    """The answers to fixed prompts as rows of samples.jsonl, always drawn with the same numbers: each reward apart."""
    fixed = bench.test[: bench.config.samples]
    rows = []
    for row in table(fixed, bench, trainer, measures.SEED - 1) if fixed else []:
        tokens = [bench.tokenizer.decode([token]) for token in row.pop("ids")]
        row.pop("target")
        figures = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
        rows.append({"step": step, "stage": stage, **figures, "tokens": tokens})
    return rows
