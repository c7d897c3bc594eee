"""`climb run dpo`: direct preference optimisation as you wrote it, on pairs of texts; `betas=0.1,0.25,0.5` sweeps (lesson 11)."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from full.given import data
from full.given.problems import InputProblem
from full.given.settings import DPOConfig
from toy.given.ppo import require_positive, setting

from . import common, measures
from .batches import Order, pair_batches
from .settings import IMDB, Training, numbers, without

USES = {"full.dpo": ["train", "sweep"]}
TITLE = "DPO on pairs of texts, a language model learning from preferences"
ONE_THREAD = False
REAL = {
    **IMDB,
    "data": "stanfordnlp/imdb",
    "pairs": "hallisky/synthetic-imdb-movie-reviews-parallel",
    "learning_rate": 5e-7,
    "batch_size": 16,
    "epochs": 2,
    "max_length": 128,
    "eval_prompts": 2000,
}
PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {"rows": 2000, "batch_size": 32, "learning_rate": 3e-5, "max_length": 40},
    "imdb-dpo": REAL,
}


@dataclass(frozen=True)
class Config(Training, DPOConfig):
    """What `climb run dpo` can be told: field=value. `data` are the texts to measure on, `pairs` what is learned from."""

    pairs: str = setting("reviews", "Pairs to learn from: built-in reviews, a file, a folder, a hub name.")
    prompt_column: str = setting("prompt", "Column of the pairs that holds the common beginning.")
    chosen_column: str = setting("positive_completion", "Column of the completions to prefer.")
    rejected_column: str = setting("negative_completion", "Column of the completions to leave.")
    max_length: int = setting(128, "Tokens of a prompt with its completion, at most; the rest is cut off.")
    eval_pairs: int = setting(256, "Pairs of the test split to measure loss and accuracy on; of a single file, its last ones.")
    new_tokens: int = setting(20, "Length of the completions that are measured, at most.")
    temperature: float = setting(1.0, "Divides the logits where those are drawn.")
    top_k: int = setting(0, "They are drawn among the k likeliest tokens; 0: among all.")
    betas: str = setting("", "Several betas with commas, as 0.1,0.25,0.5: one run each, in folders of their own.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_length", "eval_pairs", "new_tokens", "temperature"):
            require_positive(name, getattr(self, name))
        for beta in numbers("betas", self.betas):
            require_positive("betas", beta)


def run(config: Config, lessons: SimpleNamespace, folder: Any, progress: common.Progress, resume: bool = False) -> dict:
    """Trains (or sweeps), writes the run's folder, returns the summary."""

    def one(config: Config, folder: Any, progress: common.Progress, resume: bool) -> dict[str, Any]:
        return on_pairs(config, lessons.train, folder, progress, resume)

    def single(beta: float) -> Config:
        return Config(**without(config, "beta", "betas"), beta=beta)

    betas = numbers("betas", config.betas)
    if betas:
        return common.swept(config, "beta", betas, folder, progress, resume, one, lessons.sweep, single)
    return one(config, folder, progress, resume)


def on_pairs(config: Config, train: Any, folder: Any, progress: common.Progress, resume: bool) -> dict[str, Any]:
    """One run: the reference's log-probabilities are computed first, once for the whole data set."""
    bench = common.laid_out(config, folder, progress, resume)
    training, test = pairs_of(config, bench.tokenizer, bench.notes.append)
    order = Order(len(training), config.batch_size, config.epochs, config.steps, config.seed, config.pairs)
    reference = log_probs_of(bench.reference, training, bench, "the reference on the pairs")
    test_reference = log_probs_of(bench.reference, test, bench, "the reference on test pairs")

    def on_test_pairs(policy: nn.Module) -> dict[str, Any]:
        own = log_probs_of(policy, test, bench, "the policy on test pairs")
        ratio = own - test_reference  # (pairs, 2), nats
        margin = (config.beta * (ratio[:, 0] - ratio[:, 1])).double()
        figures = {"chosen_log_prob": own[:, 0], "rejected_log_prob": own[:, 1], "margin": margin}
        figures |= {"pair_accuracy": (margin > 0).double() + (margin == 0).double() / 2}
        figures |= {"test_loss": torch.nn.functional.softplus(-margin)}  # DPO's, whichever loss was trained on
        return {name: measures.interval(np.asarray(values.double())) for name, values in figures.items()}

    batches = pair_batches(training, order, bench.tokenizer.pad_token_id, reference)
    return common.trained(bench, train, config, batches, order.steps, on_test_pairs)


def pairs_of(config: Config, tokenizer: Any, say: Any) -> tuple[data.Preferences, data.Preferences]:
    """(pairs to learn from, pairs to measure on)."""
    columns = {"prompt": config.prompt_column, "chosen": config.chosen_column, "rejected": config.rejected_column}

    def found(split: str, limit: int) -> list[dict[str, Any]]:
        return data.load_rows(config.pairs, columns, split=split, limit=limit, tokens=config.prompt_tokens, field="pairs")

    if common.is_one_file(config.pairs):
        rows = found(config.train_split, 0)
        training, test = rows[: -config.eval_pairs][: config.rows or None], rows[-config.eval_pairs :]
        if not training:
            raise InputProblem(f"pairs={config.pairs}: eval_pairs={config.eval_pairs} leaves nothing to train on; lower it")
    else:
        training, test = found(config.train_split, config.rows), found(config.test_split, config.eval_pairs)
    both = []
    for what, rows in (("training", training), ("test", test)):
        some = data.preferences(tokenizer, rows, config.max_length, config.pairs, "pairs")
        if some.dropped:
            say(f"{some.dropped} {what} pairs have a prompt of max_length={config.max_length} tokens or more and were left out")
        if some.cut:
            say(f"{some.cut} of {2 * len(some)} {what} completions end at max_length={config.max_length}, without EOS")
        both.append(some)
    return both[0], both[1]


def log_probs_of(model: nn.Module, found: data.Preferences, bench: common.Bench, what: str) -> torch.Tensor:
    """log p(completion | prompt) of every chosen and rejected answer, (pairs, 2), on the CPU; rows of like length together."""
    length = [len(p) + max(len(c), len(r)) for p, c, r in zip(found.prompts, found.chosen, found.rejected)]
    by_length = sorted(range(len(found)), key=length.__getitem__)
    result = torch.zeros(len(found), 2)
    each = max(bench.config.eval_batch // 2, 1)
    for start in range(0, len(by_length), each):
        index = by_length[start : start + each]
        pairs = data.pairs_of(found, index, bench.tokenizer.pad_token_id).to(bench.accelerator.device)
        result[index] = measures.pair_log_probs(model, pairs).view(2, -1).T.cpu().float()
        bench.progress(what, min(start + each, len(by_length)), len(by_length))
    return result


def told(summary: dict) -> list[str]:
    """The summary as lines for a terminal."""
    return common.told_sweep(summary) if "sweep" in summary else common.told(summary)
