"""`climb run grpo`: GRPO as you wrote it, on questions whose answers can be checked (lesson 15)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from full.given import models
from full.given.grpo_settings import GRPOConfig
from full.given.problems import InputProblem
from full.given.small_figures import share_interval
from toy.given.ppo import require_not_negative, require_positive, setting

from . import checkpoint, common, measures, pictures, processes
from .answered import Examiner, answered_batches, questions_of
from .batches import Order
from .checkpoint import Moment
from .interrupts import Interrupts
from .loop import NotFinite, RunLoop
from .settings import Placed, Stepping

USES = {"full.grpo": ["train", "exact_match_reward"]}
TITLE = "GRPO on a language model, with answers that can be checked as the reward"
ONE_THREAD = False
INSTRUCTION = "Think step by step. End with #### and the answer as a number."
PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {"steps": 260, "learning_rate": 5e-4, "warmup_steps": 5, "temperature": 0.8, "eval_every": 20},
    "gsm8k": {
        "model": "Qwen/Qwen2.5-0.5B-Instruct",
        "data": "openai/gsm8k:main",
        "prompt_column": "question",
        "instruction": INSTRUCTION,
        "new_tokens": 256,
        "max_prompt": 256,
        "batch_size": 32,
        "updates": 2,
        "clip_high": 0.28,
        "scale": "none",
        "mean": "token",
        "learning_rate": 1e-6,
        "warmup_steps": 10,
        "steps": 200,
        "test_rows": 500,
        "eval_rows": 100,
        "eval_batch": 64,
        "tries": 0,
        "save_every": 20,
        "precision": "bf16",
    },
}


@dataclass(frozen=True)
class Config(Stepping, Placed, GRPOConfig):
    """What `climb run grpo` can be told: field=value."""

    model: str = setting("sums-lm", "Policy at the start: built-in sums-lm, a local directory, or a hub name.")
    reference: str = setting("", "Model that the policy is compared with; left out: the policy as it was at the start.")
    data: str = setting("sums", "Questions with answers: built-in sums, a .jsonl, .json, .csv, .parquet file, a folder, a hub name.")
    prompt_column: str = setting("prompt", "Which column of the data holds the questions.")
    answer_column: str = setting("answer", "Which one holds the answers: a number, or a text that ends with one, as `#### 42`.")
    instruction: str = setting("", "A sentence that is put below every question; left out: none.")
    chat: bool = setting(True, "Whether questions are put into the tokenizer's chat template, if it has one.")
    train_split: str = setting("train", "Split of the data to train on; of a single file, all rows but the last test_rows.")
    test_split: str = setting("test", "Split of the data to measure on; of a single file, its last test_rows rows.")
    rows: int = setting(0, "How many rows of the training data are used, 0: all.")
    test_rows: int = setting(1000, "Questions that are measured on before and after training.")
    max_prompt: int = setting(128, "Tokens of a question at most; longer ones are left out, and counted.")
    new_tokens: int = setting(14, "Length of a completion, at most.")
    batch_size: int = setting(256, "Completions in a step, of all processes together; a multiple of group_size.")
    epochs: int = setting(4, "How often the training data are gone through, at most.")
    eval_every: int = setting(10, "Steps between two looks at the accuracy on test questions, 0: only before and after.")
    eval_rows: int = setting(500, "How many of the test questions are asked then.")
    eval_batch: int = setting(512, "Completions measured at a time.")
    tries: int = setting(8, "Answers to each test question for pass_at_k, before and after; 0: it is not measured.")
    samples: int = setting(8, "Test questions whose answers are kept before, during and after training.")
    sample_every: int = setting(50, "Steps between two such samples, 0: only before and after.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("test_rows", "max_prompt", "eval_rows", "eval_batch"):
            require_positive(name, getattr(self, name))
        for name in ("rows", "eval_every", "tries", "samples", "sample_every"):
            require_not_negative(name, getattr(self, name))
        if self.batch_size % self.group_size:
            several = f"a multiple of group_size={self.group_size}, so that no group is divided"
            raise ValueError(f"batch_size: expected {several}, received {self.batch_size}")


class GRPORunLoop(RunLoop):
    """Like `RunLoop`, with a look at the test questions every few steps."""

    def __init__(self, *arguments: Any, look: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.look = look

    def _finish(self) -> None:
        step, every = self.moment.step + 1, self.config.eval_every
        if self.moved and every and step % every == 0:
            self.pending = {**self.look(), **self.pending}
        super()._finish()


def run(config: Config, lessons: SimpleNamespace, folder: Any, progress: common.Progress, resume: bool = False) -> dict[str, Any]:
    """Trains, writes the run's folder, returns the summary."""
    notes: list[str] = []
    place = checkpoint.newest(folder.path) if resume else None
    moment, state = (Moment(), None) if place is None else checkpoint.load(place)
    accelerator = processes.accelerator_for(config, folder)
    policy, reference, tokenizer = both_models(config, place, notes.append)
    training, test = questions_of(config, tokenizer, policy, notes.append)
    order = order_of(config, len(training), accelerator.num_processes)
    for model in (policy, reference):
        accelerator.prepare_model(model, evaluation_mode=True)
    reference.requires_grad_(False)
    if accelerator.is_main_process:
        folder.keep_metrics([row for row in folder.metrics() if row["step"] <= moment.step])
        measures.SampleFile(folder.path).keep_until(moment.step)
    fused = {"fused": True} if accelerator.device.type in ("cpu", "cuda") else {}
    optimizer = torch.optim.AdamW(policy.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, **fused)
    if state is not None:
        optimizer.load_state_dict(state)
    if config.trackers:
        accelerator.init_trackers("climb", config=dict(vars(config)))
    examiner = Examiner(policy, reference, tokenizer, lessons.exact_match_reward, config, accelerator)
    samples, seed = measures.SampleFile(folder.path), measures.SEED + 100_000 * config.seed

    def sample(step: int, stage: str = "during") -> None:
        rows = examiner.samples(test[: config.samples], step, stage)
        if accelerator.is_main_process:
            samples.add(rows)

    def figures(when: str) -> dict[str, Any]:
        def show(done: int) -> None:
            progress(f"measuring {when}", done, len(test))
            if interrupts.asked:
                raise KeyboardInterrupt

        return examiner.figures(test, seed, show)

    def begin() -> None:  # by the loop's first batch: a `train` that is not written yet says so before anything is measured
        if moment.step == 0:
            moment.before = figures("before")
            sample(0, "before")

    def look() -> dict[str, float]:
        found = share_interval(examiner.right(test[: config.eval_rows], seed))
        return {"test_accuracy": found["mean"], "test_accuracy_low": found["low"], "test_accuracy_high": found["high"]}

    with Interrupts() as interrupts:
        loop = GRPORunLoop(
            policy,
            answered_batches(training, order, tokenizer.pad_token_id),
            order.steps,
            optimizer,
            config,
            accelerator=accelerator,
            folder=folder,
            tokenizer=tokenizer,
            moment=moment,
            progress=progress,
            sample=sample,
            begin=begin,
            reference=reference,
            generator=torch.Generator().manual_seed(config.seed),
            look=look,
            interrupts=interrupts,
        )
        with accelerator.autocast(), common.kept(loop):
            try:
                lessons.train(loop, config)
            except ValueError:  # log-probabilities that are none are refused by the exercises before a loss is made of them
                if writes_numbers(policy, training[0].tokens):
                    raise
                raise NotFinite(f"step {loop.moment.step + 1}: the policy's logits are nan") from None
            common.ended(loop)
    if interrupts.asked:
        raise KeyboardInterrupt
    with accelerator.autocast():
        after = figures("after")
        sample(loop.moment.step, "after")
    if config.trackers:
        accelerator.end_training()
    summary = summed_up(config, loop, moment.before, after, len(test), notes)
    if accelerator.is_main_process:
        pictures.save_curves(folder.metrics(), folder.path / "curves.png", f"{config.model}, {loop.moment.step} steps")
        folder.write_summary(summary)
    return summary


def both_models(config: Config, place: Any, say: models.Say) -> tuple[nn.Module, nn.Module, Any]:
    """(the policy as it is at this moment, the reference, the tokenizer)."""
    start, tokenizer = models.load_policy(config.model, say=say)
    policy = start if place is None else models.load_policy(str(place))[0]
    reference = copy.deepcopy(start) if place is None else start
    if config.reference:
        reference, _ = models.load_policy(config.reference, field="reference")
        models.require_same_vocabulary(policy, reference, (config.model, config.reference))
    return policy, reference, tokenizer


@torch.no_grad()
def writes_numbers(policy: nn.Module, tokens: list[int]) -> bool:
    """Whether a model's logits are finite."""
    ids = torch.tensor([tokens], device=next(policy.parameters()).device)
    return bool(policy(input_ids=ids).logits.isfinite().all())


def order_of(config: Config, rows: int, processes: int) -> Order:
    """Which questions stand in the batch of a step. Raises InputProblem."""
    prompts = config.batch_size // config.group_size
    groups = f"batch_size={config.batch_size} with group_size={config.group_size} asks {prompts} questions a step"
    if rows < prompts:
        raise InputProblem(f"data={config.data}: has {rows} questions to train on, and {groups}; lower batch_size")
    if prompts % processes:
        several = f"take a multiple of {processes * config.group_size}"
        raise InputProblem(f"{groups}, which {processes} processes cannot share; {several}")
    return Order(rows, prompts, config.epochs, config.steps, config.seed, config.data)


def summed_up(
    config: Config, loop: RunLoop, before: dict[str, Any], after: dict[str, Any], questions: int, notes: list[str]
) -> dict[str, Any]:
    """The run's final figures by name: each as it was before, and as it is now."""
    summary: dict[str, Any] = {"accuracy_before": before["accuracy"], "accuracy_after": after["accuracy"], "kl": after["kl"]}
    for name in after:
        if name not in ("accuracy", "kl"):
            summary |= {f"{name}_before": before.get(name), name: after[name]}
    summary |= {"test_rows": questions, "split": config.test_split, "steps": loop.moment.step, "seconds": loop.moment.seconds}
    summary |= {"device": str(loop.device), "processes": loop.accelerator.num_processes, "threads": torch.get_num_threads()}
    return summary | measures.peak_memory() | {"notes": notes}


def told(summary: dict[str, Any]) -> list[str]:
    """The summary as lines for a terminal."""
    shown = common.shown
    before, after = (shown(summary[f"accuracy_{when}"]) for when in ("before", "after"))
    lines = [f"{'accuracy':<18} {before} -> {after}   (sampled, {summary['test_rows']} test questions, 95% interval)"]
    tries = [name for name in summary if name.startswith("pass_at_") and not name.endswith("_before")]
    names = ("greedy_accuracy", *tries, "worked", "accuracy_worked", "accuracy_plain", "completion_length", "eos_rate")
    for name in (name for name in names if name in summary):
        lines.append(f"{name.replace('_', ' '):<18} {shown(summary[name + '_before'])} -> {shown(summary[name])}")
    lines.append(f"{'KL':<18} {shown(summary['kl'])} nats a completion, to the reference")
    memory = f", {summary['peak_memory_mb']:.0f} MB at most" if "peak_memory_mb" in summary else ""
    lines.append(f"{summary['steps']} steps, {summary['device']}{memory}")
    return [*summary.get("notes", []), *lines]
