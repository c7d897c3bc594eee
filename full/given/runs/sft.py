"""`climb run sft`: supervised fine-tuning of an encoder-decoder by the trainer you built, and what it writes then (lesson 13)."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from full.given import data, models
from full.given.ppo_settings import repetition
from full.given.problems import InputProblem
from full.given.sft_settings import SFTConfig, columns_of, rows_of, what_was_cut
from toy.given.ppo import require_not_negative, setting

from . import common, measures, pictures, processes
from .examples import Examples, exact, exact_scores, parts_of
from .interrupts import Interrupts
from .loop import NotFinite
from .settings import Placed

USES = {"full.sft": ["preprocess_function", "build_trainer", "write_predictions"]}
TITLE = "Supervised fine-tuning of a T5, measured by what it writes"
ONE_THREAD = False
PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {"rows": 12000, "epochs": 2, "learning_rate": 3e-3, "warmup_steps": 100, "eval_every": 250},
    "asqa": {
        "model": "google-t5/t5-small",
        "data": "qa_feedback",
        "validation_split": "dev",
        "rows": 1000,
        "validation_rows": 100,
        "test_rows": 500,
        "max_source": 1024,
        "max_target": 200,
        "epochs": 10,
        "batch_size": 8,
        "accumulate": 4,
        "learning_rate": 1e-3,
        "eval_every": 32,
    },
}
CHECKPOINTS = "trainer"
"Where the trainer's own checkpoints lie: a run goes on from the newest of them."


@dataclass(frozen=True)
class Start:
    """What is fine-tuned."""

    model: str = setting("question-t5", "Encoder-decoder to begin with: built-in, a local directory, or a hub name.")


@dataclass(frozen=True)
class Config(Placed, SFTConfig, Examples, Start):
    """What `climb run sft` can be told: field=value."""

    steps: int = setting(0, "Steps at most, 0: as many as the epochs hold.")
    samples: int = setting(6, "Test rows whose answers are kept before, at every evaluation and after.")
    trackers: str = setting("", "accelerate's trackers by name, with commas: tensorboard, wandb, ...; left out: none.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "samples"):
            require_not_negative(name, getattr(self, name))


def run(config: Config, lessons: SimpleNamespace, folder: Any, progress: common.Progress, resume: bool = False) -> dict[str, Any]:
    """Trains, writes the run's folder, returns the summary. The folder's checkpoint/ is the model that was best on validation."""
    from transformers import PrinterCallback, ProgressCallback

    notes: list[str] = []
    processes.accelerator_for(config, folder)  # refuses a precision or tracker that is not there; the trainer has its own
    model, tokenizer = models.load_policy(config.model, say=notes.append, kinds=("encoder-decoder",), dropout=True)
    training, validation, test = parts_of(config, notes.append)
    for split, rows in (("training", training), ("validation", validation), ("test", test)):
        examples = columns_of(rows, "source", "target")
        features = rows_of(lessons.preprocess_function(examples, tokenizer, config.max_source, config.max_target))
        cut = what_was_cut(columns_of(features, "source_cut", "target_cut"), config.max_source, config.max_target)
        if cut:
            notes.append(f"{split} rows: {cut}")
    place = (folder.path / CHECKPOINTS).resolve()  # the trainer keeps it as a text, and finds its best checkpoint by that
    last = newest(place) if resume else None
    if last is not None:
        moved_here(last)
    step = 0 if last is None else int(last.name.split("-")[1])
    if processes.is_main():
        folder.keep_metrics([row for row in folder.metrics() if row["step"] <= step])
        measures.SampleFile(folder.path).keep_until(step)
    common.aloud(progress, notes)
    with Interrupts() as interrupts, models.quiet():
        watch = _watcher(folder, progress, interrupts, last)
        trainer = lessons.build_trainer(
            model,
            tokenizer,
            training,
            validation,
            config,
            place,
            callbacks=[watch],
            **choices_of(config),
        )
        for noise in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(noise)
        device = trainer.args.device
        fixed = test[: config.samples]

        def sample(step: int, stage: str) -> None:
            if processes.is_main() and fixed:
                texts = written(trainer.model, tokenizer, features[: len(fixed)], config, device)
                measures.SampleFile(folder.path).add(sample_rows(step, stage, fixed, texts, config))

        watch.sample = sample
        if last is None:
            before, _ = measured(trainer, features, test, folder.path / "predictions_before.jsonl", lessons, tokenizer, config)
            (folder.path / "before.json").write_text(json.dumps(before), encoding="utf-8")
            sample(0, "before")
        else:
            before = json.loads((folder.path / "before.json").read_text(encoding="utf-8"))
        if interrupts.asked:
            raise KeyboardInterrupt
        with advised(config, trainer):
            if last is not None and 0 < config.steps <= step:  # trained to the end; what was interrupted came after
                as_trained(trainer, last)
            else:
                trainer.train(resume_from_checkpoint=None if last is None else str(last))
        if interrupts.asked:
            raise KeyboardInterrupt
        after, predictions = measured(trainer, features, test, folder.path / "predictions.jsonl", lessons, tokenizer, config)
        sample(trainer.state.global_step, "after")
        if processes.is_main():
            trainer.model.save_pretrained(folder.path / "checkpoint")
            tokenizer.save_pretrained(folder.path / "checkpoint")
    summary: dict[str, Any] = {}
    for name in after:
        summary |= {f"{name}_before": before.get(name), name: after[name]}
    summary |= {"best_step": best_step(trainer), "validation_rougeL": trainer.state.best_metric}
    summary |= {"rows": len(training), "validation_rows": len(validation), "test_rows": len(test)}
    summary |= {"steps": trainer.state.global_step, "seconds": round(watch.seconds(), 3), "split": config.test_split}
    summary |= {"device": str(device), "processes": trainer.args.world_size, "threads": torch.get_num_threads()}
    summary |= measures.peak_memory() | {"notes": notes}
    if processes.is_main():
        pictures.save_curves(folder.metrics(), folder.path / "curves.png", f"{config.model}, {trainer.state.global_step} steps")
        folder.write_summary(summary)
    return summary


def choices_of(config: Config) -> dict[str, Any]:
    """What the run asks of the trainer besides the learner's choices."""
    trackers = processes.known_trackers(config.trackers)
    return {
        "max_steps": config.steps or -1,
        "bf16": config.precision == "bf16",
        "use_cpu": config.device == "cpu",
        "report_to": trackers or "none",
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,  # a loss that is no number is to be seen
        "dataloader_pin_memory": False,
        "optim": "adamw_torch_fused" if config.device == "cpu" or not torch.backends.mps.is_available() else "adamw_torch",
    }


def newest(folder: Path) -> Path | None:
    """The trainer's last whole checkpoint: the state is what it writes last but one, the weights are renamed into place."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda place: int(place.name.split("-")[1]))
    whole = [place for place in found if (place / "trainer_state.json").is_file() and (place / "rng_state.pth").is_file()]
    return whole[-1] if whole else None


def moved_here(last: Path) -> None:
    """The best checkpoint is looked for beside this one, wherever the folder was when it was written."""
    place = last / "trainer_state.json"
    state = json.loads(place.read_text(encoding="utf-8"))
    if state.get("best_model_checkpoint"):
        state["best_model_checkpoint"] = str(last.parent / Path(state["best_model_checkpoint"]).name)
        place.write_text(json.dumps(state, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def as_trained(trainer: Any, last: Path) -> None:
    """The trainer as it was when training had ended: its state, and the weights that were to be kept."""
    from transformers import TrainerState

    trainer.state = TrainerState.load_from_json(str(last / "trainer_state.json"))
    best = Path(trainer.state.best_model_checkpoint or last) if trainer.args.load_best_model_at_end else last
    kept = type(trainer.model).from_pretrained(best if best.is_dir() else last)
    trainer.model.load_state_dict(kept.state_dict())


def best_step(trainer: Any) -> int | None:
    """The step whose weights were kept."""
    place = trainer.state.best_model_checkpoint
    return None if place is None else int(Path(place).name.split("-")[1])


def measured(
    trainer: Any, features: list[Any], test: list[dict[str, Any]], place: Path, lessons: Any, tokenizer: Any, config: Config
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(figures of what the model writes for the test rows, with intervals; the rows and predictions), which it writes down."""
    found = trainer.predict(features)
    lines = lessons.write_predictions(place, test, found.predictions, tokenizer)
    texts = [line["prediction"] for line in lines]
    figures: dict[str, Any] = {"rougeL": measures.interval(np.array([line["rougeL"] for line in lines]))}
    figures |= exact(config.data, test, texts)
    figures["test_loss"] = found.metrics.get("test_loss")
    for name in ("completion_length", "eos_rate"):
        figures[name] = found.metrics.get(f"test_{name}")
    figures["repetition"] = measures.interval(np.array([repetition(text) for text in texts]))
    return figures, lines


@torch.no_grad()
def written(model: nn.Module, tokenizer: Any, features: list[Any], config: Config, device: Any) -> list[str]:
    """What the model writes for a few rows, as in evaluation."""
    from full.given.text import Prompts

    was_training = model.training
    model.eval()
    sources = [[i for i, real in zip(row["input_ids"], row["attention_mask"]) if real] for row in features]
    batch: Prompts = data.prompts_of(sources, tokenizer.pad_token_id).to(device)
    how = {"max_new_tokens": config.max_target, "num_beams": config.num_beams, "do_sample": False}
    ids = model.generate(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **how)
    model.train(was_training)
    return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]


def sample_rows(step: int, stage: str, rows: list[dict[str, Any]], texts: list[str], config: Config) -> list[dict[str, Any]]:
    """Answers as rows of samples.jsonl."""
    scores = exact_scores(config.data, [row["source"] for row in rows], texts)
    found = []
    for n, (row, text) in enumerate(zip(rows, texts)):
        own = {name: round(float(values[n]), 4) for name, values in scores.items()}
        entry = {"step": step, "stage": stage, "prompt": row["source"], "completion": text, **own}
        found.append({**entry, "length": len(text.split()), "repetition": round(repetition(text), 4)})
    return found


def _watcher(folder: Any, progress: common.Progress, interrupts: Interrupts, last: Path | None) -> Any:
    """The trainer's callback that writes metrics.jsonl, tells how far it is, and ends a run that is to end."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def __init__(self) -> None:
            self.pending: dict[str, Any] | None = None
            rows = folder.metrics() if last is not None else []
            self.started = time.perf_counter() - (rows[-1]["seconds"] if rows else 0.0)
            self.sample: Any = None

        def seconds(self) -> float:
            return time.perf_counter() - self.started

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
            if not state.is_world_process_zero or not any(name in logs for name in ("loss", "eval_loss")):
                return
            if "loss" in logs:
                self.flush()
                self.pending = {"step": state.global_step, "seconds": round(self.seconds(), 3)}
            names = [
                name
                for name in logs
                if name not in ("epoch", "total_flos") and not name.endswith(("_runtime", "_per_second", "_time"))
            ]
            row = self.pending or {"step": state.global_step, "seconds": round(self.seconds(), 3)}
            self.pending = row | {name: float(logs[name]) for name in names}
            for name in ("loss", "grad_norm"):
                if not math.isfinite(logs.get(name, 0.0)):
                    what = "the loss" if name == "loss" else "the gradient's length"
                    raise NotFinite(f"step {state.global_step}: {what} is {logs[name]}")

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if interrupts.asked:
                control.should_save = control.should_training_stop = True

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **more: Any) -> None:
            if self.sample is not None and state.global_step < state.max_steps and state.global_step:
                self.sample(state.global_step, "during")

        def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.flush()

        def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.flush()

        def flush(self) -> None:
            if self.pending is not None:
                row, self.pending = self.pending, None
                folder.add_metrics([row])
                words = {"eval_rougeL": "ROUGE-L {:.3f}", "loss": "loss {:.3f}"}
                said = "  ".join(form.format(row[name]) for name, form in words.items() if name in row)
                progress(said, int(row["step"]), self.most)

        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.most = state.max_steps

    return Watch()


class advised:
    """What ends the training is said in a line."""

    def __init__(self, config: Config, trainer: Any) -> None:
        self.config, self.trainer = config, trainer

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, NotFinite):
            place = newest(Path(self.trainer.args.output_dir))
            held = "there is no checkpoint yet" if place is None else f"{CHECKPOINTS}/ holds {place.name}"
            raise NotFinite(f"{error}. Stopped; {held}. Lower learning_rate, raise warmup_steps, or leave precision=no") from None
        if isinstance(error, (RuntimeError, MemoryError)) and common.out_of_memory(error):
            step, config = self.trainer.state.global_step + 1, self.config
            fields = f"lower batch_size={config.batch_size} (and raise accumulate={config.accumulate} by as much)"
            more = f"max_source={config.max_source} or max_target={config.max_target}"
            raise InputProblem(
                f"not enough memory for step {step}: {fields}, else {more}; precision=bf16 needs less too"
            ) from None


def told(summary: dict[str, Any]) -> list[str]:
    """The summary as lines for a terminal."""
    shown, lines = common.shown, []
    words = {"rougeL": "ROUGE-L", "completeness": "completeness", "relevance": "relevance", "factuality": "factuality"}
    words |= {"gold_reward": "gold reward", "test_loss": "loss", "completion_length": "length", "eos_rate": "EOS rate"}
    for name, word in words.items():
        if summary.get(name) is not None:
            lines.append(f"{word:<13} {shown(summary.get(name + '_before'))} -> {shown(summary[name])}")
    lines.append(f"best on validation: step {summary['best_step']}, ROUGE-L {shown(summary['validation_rougeL'])}")
    memory = f", {summary['peak_memory_mb']:.0f} MB at most" if "peak_memory_mb" in summary else ""
    lines.append(f"{summary['test_rows']} test rows, 95% intervals; {summary['steps']} steps, {summary['device']}{memory}")
    return [*summary.get("notes", []), *lines]
