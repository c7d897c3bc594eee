"""Supervised fine-tuning (lesson 13): what it can be told, and the trainer's plumbing, which decides nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from toy.given.ppo import require_not_negative, require_positive, setting


@dataclass(frozen=True)
class SFTConfig:
    """Supervised fine-tuning of an encoder-decoder. Raises ValueError, naming the field, for one that makes no sense."""

    max_source: int = setting(256, "Tokens of a source at most, its EOS included; longer ones are cut at the end, and counted.")
    max_target: int = setting(96, "Tokens of a target at most, its EOS included: what is learned, and what may be generated.")
    epochs: int = setting(3, "How often the training rows are gone through.")
    batch_size: int = setting(16, "Rows that go through the model at a time.")
    accumulate: int = setting(1, "Batches whose gradients are added up before the optimizer takes a step.")
    learning_rate: float = setting(1e-3, "AdamW's learning rate, which falls linearly to 0 over the run.")
    warmup_steps: int = setting(0, "Steps in which the learning rate first rises linearly to its value.")
    weight_decay: float = setting(0.0, "AdamW's weight decay.")
    clip_norm: float = setting(1.0, "Gradients longer than this are shortened to it, 0: none is.")
    eval_every: int = setting(50, "Steps between two evaluations on the validation rows; the best of them by ROUGE-L is kept.")
    eval_batch: int = setting(32, "Validation rows that are generated for at a time.")
    num_beams: int = setting(1, "Beams of the search in evaluation, 1: greedy.")
    seed: int = setting(0, "Of the order of the rows, and of dropout.")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "learning_rate", "eval_every", "eval_batch", "num_beams"):
            require_positive(name, getattr(self, name))
        for name in ("warmup_steps", "weight_decay", "clip_norm", "seed"):
            require_not_negative(name, getattr(self, name))
        for name in ("max_source", "max_target"):
            require_room(name, getattr(self, name))


def training_arguments(config: SFTConfig, folder: str | Path, **choices: Any) -> Any:
    """The trainer's settings, of which `choices` are the reader's: what is evaluated, and which checkpoint is kept.

    It evaluates and saves every `config.eval_every` steps, keeps at most two checkpoints under `folder`, and tells no service.
    """
    from transformers import Seq2SeqTrainingArguments

    settings = {
        "num_train_epochs": config.epochs,
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.eval_batch,
        "gradient_accumulation_steps": config.accumulate,
        "learning_rate": config.learning_rate,
        "warmup_steps": config.warmup_steps,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.clip_norm,
        "eval_strategy": "steps",
        "eval_steps": config.eval_every,
        "save_strategy": "steps",
        "save_steps": config.eval_every,
        "save_total_limit": 2,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "seed": config.seed,
        "data_seed": config.seed,
        "remove_unused_columns": False,  # the collator takes what it needs
        "report_to": "none",
    }
    return Seq2SeqTrainingArguments(output_dir=str(folder), **{**settings, **choices})


def rows_of(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Columns of equal length as a list of rows."""
    return [dict(zip(columns, values)) for values in zip(*columns.values(), strict=True)]


def columns_of(rows: Sequence[Mapping[str, Any]], *names: str) -> dict[str, list[Any]]:
    """These columns of a list of rows. Raises ValueError for a row without one of them."""
    for number, row in enumerate(rows):
        missing = [name for name in names if name not in row]
        if missing:
            raise ValueError(f"rows: expected `{missing[0]}` in every row, received {', '.join(map(str, row))} in row {number}")
    return {name: [row[name] for row in rows] for name in names}


def what_was_cut(columns: Mapping[str, Sequence[int]], max_source: int, max_target: int) -> str:
    """A sentence for the reader where texts were longer than the model is given: "" where none was."""
    said = []
    for name, limit in (("source", max_source), ("target", max_target)):
        cut = [tokens for tokens in columns[f"{name}_cut"] if tokens]
        if cut:
            rows, mean = len(columns[f"{name}_cut"]), sum(cut) / len(cut)
            said.append(f"{len(cut)} of {rows} {name}s were longer than max_{name}={limit} and lost {mean:.0f} tokens on average")
    return "; ".join(said)


def require_room(name: str, tokens: int) -> None:
    """Raises ValueError unless there is room for EOS and at least one token before it."""
    if tokens < 2:
        raise ValueError(f"{name}: expected at least 2 tokens, one and EOS, received {tokens}")
