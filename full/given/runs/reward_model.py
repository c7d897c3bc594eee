"""`climb run reward-model`: a reward model learned from preferences as you wrote it, and what it is worth (lesson 12)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Iterator

import numpy as np
import torch
from torch import nn

from full.given import data, models, preferences
from full.given.preferences import Preference, RewardModelConfig
from full.given.problems import InputProblem
from toy.given.ppo import require_not_negative, require_positive, setting

from . import checkpoint, common, measures, pictures, processes
from .batches import Order, pair_batches
from .checkpoint import Moment
from .interrupts import Interrupts
from .loop import RunLoop
from .settings import Placed, Stepping

USES = {"full.reward_model": ["load_preferences", "RewardModel", "freeze_fraction", "accuracy", "calibration", "train"]}
TITLE = "A reward model from preferences, measured on pairs it has not seen"
ONE_THREAD = False
GPT2 = {"model": "openai-community/gpt2", "frozen": 0.7, "learning_rate": 5e-5, "batch_size": 16, "max_length": 512}
PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {
        "fresh": True,
        "frozen": 0.0,
        "rows": 2400,
        "batch_size": 16,
        "epochs": 1,
        "learning_rate": 2e-3,
        "warmup_steps": 50,
        "decay": True,
        "evaluate_every": 50,
    },
    "tldr": {
        **GPT2,
        "data": "openai/summarize_from_feedback:comparisons",
        "test_split": "validation",
        "rows": 0,
        "test_rows": 5000,
        "evaluate_every": 100,
    },
    "asqa": {**GPT2, "data": "qa_feedback/train_feedback.json", "max_length": 1024, "rows": 0, "batch_size": 8, "epochs": 2},
}
BEST = "best.pt"
LOOKS = 5
"At least so often a run looks at the validation pairs: the weights that are left are those of a look."
MOST_UNKNOWN = 0.1
"Of all tokens; of texts with more unknown words the run says so: to the model they look alike."


@dataclass(frozen=True)
class Source:
    """What is learned from, and what learns."""

    data: str = setting(
        "questions", "Preferences: questions or posts (built in), a Label Studio export, qa_feedback JSON, JSONL pairs."
    )
    model: str = setting("question-reward", "A GPT-2 to begin with: built-in, a local directory, or a hub name.")
    fresh: bool = setting(False, "Whether it begins with random weights, so that only the model's shape and tokenizer are used.")


@dataclass(frozen=True)
class Config(Stepping, Placed, RewardModelConfig, Source):
    """What `climb run reward-model` can be told: field=value."""

    batch_size: int = setting(32, "Pairs in a step, of all processes together.")
    epochs: int = setting(4, "How often the pairs are gone through, unless validation says stop.")
    learning_rate: float = setting(1e-3, "AdamW's learning rate.")
    train_split: str = setting("train", "Split of the data to train and validate on.")
    test_split: str = setting("test", "Split to measure on at the end; of a single file: a part of its prompts, test_share.")
    rows: int = setting(1500, "Rows of the training split that are read, 0: all. A question has six pairs, ties among them.")
    test_rows: int = setting(200, "Rows of the test split that are read, 0: all.")
    validation_share: float = setting(0.1, "Part of the prompts whose pairs are for validation: they say when to stop.")
    test_share: float = setting(0.2, "Of a single file: part of the prompts whose pairs are measured on, and nothing else.")
    max_length: int = setting(
        256, "Tokens of a prompt with its answer, at most; prompts lose their beginning, and are counted."
    )
    eval_batch: int = setting(64, "Pairs that are scored at a time where nothing is learned.")
    bins: int = setting(5, "Bins of the calibration table.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_length", "eval_batch", "bins"):
            require_positive(name, getattr(self, name))
        for name in ("rows", "test_rows"):
            require_not_negative(name, getattr(self, name))
        for name in ("validation_share", "test_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a share between 0 and 1, received {getattr(self, name)}")


class RewardRunLoop(RunLoop):
    """The loop of a run, with validation pairs and the best weights so far: what `RewardLoop` has, and all of it is saved."""

    def __init__(self, *arguments: Any, validation: list[Any], best: dict[str, torch.Tensor] | None, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._validation, self._best = validation, best

    def batches(self) -> Iterator[Any]:
        if self.kept.get("waited", 0) < self.config.patience:  # a run that had stopped by itself has nothing left to do
            yield from super().batches()

    def validation(self) -> Iterator[Any]:
        yield from self._validation

    def remember(self) -> None:
        self._best = {name: value.detach().cpu().clone() for name, value in self.policy.state_dict().items()}

    def restore(self) -> None:
        if self._best is not None:
            self.policy.load_state_dict(self._best)

    def also_saved(self, place: Path) -> None:
        if self._best is not None:
            torch.save(self._best, place / BEST)


def run(config: Config, lessons: SimpleNamespace, folder: Any, progress: common.Progress, resume: bool = False) -> dict[str, Any]:
    """Trains, writes the run's folder, returns the summary. The folder's checkpoint/ can be named as a reward."""
    notes: list[str] = []
    place = checkpoint.newest(folder.path) if resume else None
    moment, state = (Moment(), None) if place is None else checkpoint.load(place)
    accelerator = processes.accelerator_for(config, folder)
    model, tokenizer = model_of(config, lessons, place, notes.append)
    frozen = lessons.freeze_fraction(model, config.frozen)
    parts = pairs_of(config, lessons, notes.append)
    training, validation, test = (encoded(part, name, config, tokenizer, model, notes.append) for name, part in parts.items())
    order = Order(len(training), config.batch_size, config.epochs, config.steps, config.seed, config.data)
    accelerator.prepare_model(model, evaluation_mode=True)
    if accelerator.is_main_process:
        folder.keep_metrics([row for row in folder.metrics() if row["step"] <= moment.step])
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = {"fused": True} if accelerator.device.type in ("cpu", "cuda") else {}
    optimizer = torch.optim.AdamW(learned, lr=config.learning_rate, weight_decay=config.weight_decay, **fused)
    if state is not None:
        optimizer.load_state_dict(state)
    if config.trackers:
        accelerator.init_trackers("climb", config=dict(vars(config)))

    def batches_of(some: data.Preferences) -> list[Any]:
        found = preferences.batches(some, config.eval_batch, tokenizer.pad_token_id)
        return [batch.to(accelerator.device) for batch in found]

    every = min(config.evaluate_every, max(order.steps // LOOKS, 1))
    if every < config.evaluate_every:
        few = f"the run has {order.steps} steps, so validation was looked at every {every}"
        notes.append(f"evaluate_every={config.evaluate_every}: {few}")
    common.aloud(progress, notes)
    with Interrupts() as interrupts:
        loop = RewardRunLoop(
            model,
            pair_batches(training, order, tokenizer.pad_token_id, None),
            order.steps,
            optimizer,
            config,
            accelerator=accelerator,
            folder=folder,
            tokenizer=tokenizer,
            moment=moment,
            progress=progress,
            interrupts=interrupts,
            validation=batches_of(validation),
            best=None if place is None or not (place / BEST).is_file() else torch.load(place / BEST, weights_only=True),
            generator=torch.Generator().manual_seed(config.seed),
        )
        with common.kept(loop):
            lessons.train(loop, replace(config, evaluate_every=every))
            common.ended(loop)
    if interrupts.asked:
        raise KeyboardInterrupt
    if config.trackers:
        accelerator.end_training()
    progress("test pairs", 0, len(test))
    found = figures(*preferences.pair_scores(model, batches_of(test)), lessons, config)
    if found["warning"]:
        notes.append(found["warning"])
    summary = {name: found[name] for name in ("accuracy", "log_loss", "calibration", "calibration_error", "spread")}
    summary["accuracy_by_length"] = by_length(test, lessons)
    summary |= {"validation_loss": loop.kept.get("best"), "pairs": len(training), "validation_pairs": len(validation)}
    summary |= {"test_pairs": len(test), "frozen_layers": frozen, "steps": loop.moment.step, "seconds": loop.moment.seconds}
    summary |= {"device": str(loop.device), "processes": accelerator.num_processes, "threads": torch.get_num_threads()}
    summary |= measures.peak_memory() | {"notes": notes}
    if accelerator.is_main_process:
        title = f"{config.model} on {config.data}"
        pictures.save_curves(folder.metrics(), folder.path / "curves.png", f"{title}, {loop.moment.step} steps")
        pictures.save_calibration(summary["calibration"], folder.path / "calibration.png", title)
        write_samples(folder.path / "samples.jsonl", preferences.decided(parts["test"]), found["chosen"], found["rejected"])
        folder.write_summary(summary)
    return summary


def model_of(config: Config, lessons: SimpleNamespace, place: Path | None, say: models.Say) -> tuple[nn.Module, Any]:
    """(the reward model, its tokenizer, whose pad is not EOS). place: a checkpoint to go on from."""
    from transformers import AutoConfig, GPT2Model

    source, tokenizer = models._place(config.model, "model"), models.load_tokenizer(config.model, field="model")
    with models._refused(config.model, "model"):
        shape = AutoConfig.from_pretrained(source if place is None else place)
        if shape.model_type != "gpt2":
            raise InputProblem(f"model={config.model}: expected a GPT-2, received a model of type {shape.model_type}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)  # of random weights, and of the head's
            fresh = config.fresh and place is None
            model = lessons.RewardModel(GPT2Model(shape)) if fresh else lessons.RewardModel.from_pretrained(place or source)
    models._require_vocabulary(model.transformer, tokenizer, config.model, "model")
    models.separate_pad(model.transformer, tokenizer, config.model, "model", say)
    model.config.pad_token_id = tokenizer.pad_token_id
    return models._without_dropout(model), tokenizer


def pairs_of(config: Config, lessons: SimpleNamespace, say: models.Say) -> dict[str, list[Preference]]:
    """{"training", "validation", "test"}: no prompt stands in two of them."""
    try:
        training = lessons.load_preferences(config.data, split=config.train_split, limit=config.rows)
        if common.is_one_file(config.data):
            training, test = preferences.split(training, config.test_share, config.seed + 1)
        else:
            test = lessons.load_preferences(config.data, split=config.test_split, limit=config.test_rows)
    except ValueError as error:
        if isinstance(error, InputProblem):
            raise
        raise InputProblem(f"data={config.data}: {error}") from None
    known = {preference.prompt for preference in training}
    again = [preference for preference in test if preference.prompt in known]
    if again:
        say(f"{len(again)} test pairs have a prompt that is trained on; they were left out")
        test = [preference for preference in test if preference.prompt not in known]
    training, validation = preferences.split(training, config.validation_share, config.seed)
    return {"training": training, "validation": validation, "test": test}


def encoded(
    some: list[Preference], what: str, config: Config, tokenizer: Any, model: nn.Module, say: models.Say
) -> data.Preferences:
    """Token ids of the pairs that have a winner; what was left out or cut is said."""
    longest = min(config.max_length, getattr(model.config, "n_positions", config.max_length))
    if not preferences.decided(some):
        raise InputProblem(f"data={config.data}: no {what} pairs with a winner; give more rows, or another share")
    found = preferences.encode(tokenizer, some, longest)
    if found.dropped:
        say(f"{found.dropped} of {len(some)} {what} pairs are ties, which have no answer to prefer, and were left out")
    if found.cut:
        say(f"{found.cut} of {2 * len(found)} {what} texts were longer than {longest} tokens and were cut")
    share = unknown_share(found, tokenizer)
    if share > MOST_UNKNOWN:
        say(f"{share:.0%} of the {what} tokens are words that model={config.model} does not know; name a model that does")
    return found


def unknown_share(found: data.Preferences, tokenizer: Any) -> float:
    """The share of tokens that stand for a word the tokenizer does not have; 0 where it has tokens for every text, as GPT-2's."""
    if tokenizer.unk_token_id in (None, tokenizer.eos_token_id):
        return 0.0
    tokens = [token for rows in (found.chosen, found.rejected) for row in rows for token in row]
    return tokens.count(tokenizer.unk_token_id) / max(len(tokens), 1)


def figures(chosen: torch.Tensor, rejected: torch.Tensor, lessons: SimpleNamespace, config: Config) -> dict[str, Any]:
    """What a reward model is worth on pairs: accuracy, log loss and calibration of P(chosen preferred), spread of its scores."""
    margin = (chosen - rejected).double()
    share, low, high = lessons.accuracy(chosen, rejected)
    table = lessons.calibration(chosen, rejected, config.bins)
    count = sum(pairs for pairs, _, _ in table)
    both = torch.cat([chosen, rejected])
    return {
        "accuracy": {"mean": share, "low": low, "high": high},
        "log_loss": measures.interval(np.asarray(nn.functional.softplus(-margin))),
        "calibration": table,
        "calibration_error": sum(pairs * abs(confidence - right) for pairs, confidence, right in table) / count,
        "spread": float(both.double().std(correction=0)),
        "warning": preferences.spread_warning(both) or preferences.margin_warning(margin),
        "chosen": chosen,
        "rejected": rejected,
    }


def by_length(test: data.Preferences, lessons: SimpleNamespace) -> dict[str, float]:
    """The accuracy of whoever prefers the answer with more tokens: what a reward model has to beat."""
    lengths = [torch.tensor([float(len(row)) for row in rows]) for rows in (test.chosen, test.rejected)]
    return dict(zip(("mean", "low", "high"), lessons.accuracy(*lengths)))


def write_samples(place: Path, pairs: list[Preference], chosen: torch.Tensor, rejected: torch.Tensor, most: int = 8) -> None:
    """Test pairs with their scores; of each answer a row. The first are the pairs that were judged most wrongly."""
    worst = (chosen - rejected).argsort(stable=True)[: most // 2].tolist()
    some = [*worst, *(n for n in range(len(pairs)) if n not in worst)][:most]
    rows = []
    for n in some:
        pair = pairs[n]
        for stage, text, score in (("chosen", pair.chosen, chosen[n]), ("rejected", pair.rejected, rejected[n])):
            rows.append({"stage": stage, "prompt": pair.prompt, "completion": text, "reward": round(float(score), 4)})
    place.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def told(summary: dict[str, Any]) -> list[str]:
    """The summary as lines for a terminal."""
    shown = common.shown
    lines = [f"accuracy     {shown(summary['accuracy'])}   on {summary['test_pairs']} test pairs"]
    lines.append(f"by length    {shown(summary['accuracy_by_length'])}   whoever prefers the longer answer")
    lines.append(f"log loss     {shown(summary['log_loss'])} nats a pair; chance is {math.log(2):.3f}")
    lines.append(
        f"calibration  off by {summary['calibration_error']:.3f} on the average; spread of the scores {summary['spread']:.2f}"
    )
    for count, confidence, right in summary["calibration"]:
        lines.append(f"             says {confidence:.2f}, is right in {right:.2f} of {count} pairs")
    memory = f", {summary['peak_memory_mb']:.0f} MB at most" if "peak_memory_mb" in summary else ""
    lines.append(f"learned from {summary['pairs']} pairs; {summary['validation_pairs']} chose the weights")
    lines.append(f"{summary['steps']} steps, {summary['device']}, 95% intervals{memory}")
    return [*summary.get("notes", []), *lines]
