"""What surrounds a training run: models, prompts, measurements before and after, the folder, and everything that can go wrong."""

from __future__ import annotations

import contextlib
import copy
import gc
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator

import torch
from torch import nn

from full.given import data, models
from full.given.problems import InputProblem

from . import checkpoint, measures, pictures, processes
from .batches import Batches
from .checkpoint import Moment
from .loop import NotFinite, RunLoop

Progress = Callable[[str, int, int], None]
"""(what is done, how many of it, of how many). One that has a `say` besides, a function of a line, is told what cannot wait."""


@dataclass
class Bench:
    """All that is laid out before the first step."""

    config: Any
    folder: Any
    progress: Progress
    accelerator: Any
    moment: Moment
    optimizer_state: dict | None
    policy: nn.Module
    reference: nn.Module
    judge: measures.Judge
    eval_prompts: list[list[int]]
    notes: list[str]
    "What was left out or changed on the way here, a line each."

    @property
    def tokenizer(self) -> Any:
        return self.judge.tokenizer


def laid_out(config: Any, folder: Any, progress: Progress, resume: bool) -> Bench:
    """Models, the prompts to measure on, and the checkpoint to go on from. Raises InputProblem before anything was written."""
    notes: list[str] = []
    place = checkpoint.newest(folder.path) if resume else None
    moment, state = (Moment(), None) if place is None else checkpoint.load(place)
    accelerator = processes.accelerator_for(config, folder)
    start, tokenizer = models.load_policy(config.model, say=notes.append)
    policy = start if place is None else models.load_policy(str(place))[0]
    reference = copy.deepcopy(start) if place is None else start
    if config.reference:
        reference, _ = models.load_policy(config.reference, field="reference")
        models.require_same_vocabulary(policy, reference, (config.model, config.reference))
    judge = judge_of(config, tokenizer, notes.append)
    eval_prompts = test_prompts(config, tokenizer, notes.append)
    for model in (policy, reference, judge.classifier):
        accelerator.prepare_model(model, evaluation_mode=True)  # device and precision; the loop itself averages gradients
    reference.requires_grad_(False)
    if accelerator.is_main_process:
        folder.keep_metrics([row for row in folder.metrics() if row["step"] <= moment.step])
        measures.SampleFile(folder.path).keep_until(moment.step)
    return Bench(config, folder, progress, accelerator, moment, state, policy, reference, judge, eval_prompts, notes)


def judge_of(config: Any, tokenizer: Any, say: Callable[[str], None] = models.silent) -> measures.Judge:
    """The reward model of a configuration, and the built-in world where the texts come from it."""
    classifier, its_tokenizer = models.load_classifier(config.classifier, say=say)
    return measures.Judge(classifier, its_tokenizer, tokenizer, data.the_world() if in_the_world(config) else None)


def in_the_world(config: Any) -> bool:
    """Whether what is written can be held to the built-in world's grammar."""
    return config.data == data.BUILTIN


def test_prompts(config: Any, tokenizer: Any, say: Callable[[str], None]) -> list[list[int]]:
    """The beginnings of texts that nothing is trained on."""
    source, columns = config.data, {"text": config.text_column}
    limit = 0 if is_one_file(source) else config.eval_prompts
    rows = data.load_rows(source, columns, split=config.test_split, limit=limit, tokens=config.prompt_tokens)
    if is_one_file(source) and config.eval_prompts:
        rows = rows[-config.eval_prompts :]
    return _beginnings(rows, config, tokenizer, "test", say)


def training_prompts(config: Any, tokenizer: Any, say: Callable[[str], None]) -> list[list[int]]:
    """The beginnings of texts to train on."""
    source, columns = config.data, {"text": config.text_column}
    limit = config.rows
    if source == data.BUILTIN and not limit:
        limit = config.steps * config.batch_size if config.steps else data.WORLD_ROWS
    if is_one_file(source):
        rows = data.load_rows(source, columns)
        rows = rows[: len(rows) - config.eval_prompts] if config.eval_prompts else rows
        if not rows:
            raise InputProblem(f"data={source}: eval_prompts={config.eval_prompts} leaves nothing to train on; lower it")
        rows = rows[: limit or None]
    else:
        rows = data.load_rows(source, columns, split=config.train_split, limit=limit, tokens=config.prompt_tokens)
    return _beginnings(rows, config, tokenizer, "training", say)


def is_one_file(source: str) -> bool:
    return source != data.BUILTIN and Path(source).expanduser().is_file()


def _beginnings(rows: list[dict], config: Any, tokenizer: Any, what: str, say: Callable[[str], None]) -> list[list[int]]:
    found = data.beginnings(tokenizer, data.texts_of(rows, "text", config.data), config.prompt_tokens, config.data)
    if found.dropped:
        say(f"{found.dropped} of {len(rows)} {what} texts have fewer than {config.prompt_tokens} tokens and were left out")
    return found.tokens


def trained(
    bench: Bench,
    train: Callable[[RunLoop, Any], None],
    algorithm: Any,
    batches: Batches,
    steps: int,
    extra: Callable[[nn.Module], dict[str, Any]] = lambda policy: {},
) -> dict[str, Any]:
    """Measures, trains, measures; writes the run's folder; returns the summary.

    algorithm: the configuration that `train` is handed.  extra(policy): more figures of a policy, before and after.
    """
    config, folder, accelerator, moment = bench.config, bench.folder, bench.accelerator, bench.moment
    steps_of = {"fused": True} if accelerator.device.type in ("cpu", "cuda") else {}
    optimizer = torch.optim.AdamW(
        bench.policy.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, **steps_of
    )
    if bench.optimizer_state is not None:
        optimizer.load_state_dict(bench.optimizer_state)
    if config.trackers:
        accelerator.init_trackers("climb", config={name: value for name, value in vars(config).items()})
    samples, fixed = measures.SampleFile(folder.path), bench.eval_prompts[: config.samples]

    def sample(step: int, stage: str = "during") -> None:
        if accelerator.is_main_process:
            rows = (step, stage, bench.policy, bench.reference, fixed, bench.judge, config, accelerator.device)
            samples.add(measures.sample_rows(*rows))

    def figures(when: str) -> dict[str, Any]:
        def show(done: int, total: int) -> None:
            bench.progress(f"measuring {when}", done, total)

        arguments = (bench.policy, bench.reference, bench.eval_prompts, bench.judge, config, accelerator, show)
        return measures.measure(*arguments) | extra(bench.policy)

    def begin() -> None:  # by the loop's first batch: a `train` that is not written yet says so before anything is measured
        if moment.step == 0:
            moment.before = figures("before")
            sample(0, "before")

    loop = RunLoop(
        bench.policy,
        batches,
        steps,
        optimizer,
        config,
        accelerator=accelerator,
        folder=folder,
        tokenizer=bench.tokenizer,
        moment=moment,
        progress=bench.progress,
        sample=sample,
        begin=begin,
        scores=bench.judge.scores,
        reference=bench.reference,
        generator=torch.Generator().manual_seed(config.seed),
    )
    with kept(loop):
        train(loop, algorithm)
        ended(loop)
    after = figures("after")
    sample(loop.moment.step, "after")
    if config.trackers:
        accelerator.end_training()
    summary = summed_up(bench, loop, moment.before, after)
    if accelerator.is_main_process:
        pictures.save_curves(folder.metrics(), folder.path / "curves.png", f"{config.model}, {loop.moment.step} steps")
        folder.write_summary(summary)
    return summary


def summed_up(bench: Bench, loop: RunLoop, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The run's final figures by name."""
    summary: dict[str, Any] = {"reward_before": before["reward"], "reward_after": after["reward"]}
    summary["kl"] = after.get("kl")
    for name in ("gold_reward", "naturalness", "completion_length", "eos_rate", "distinct_1", "distinct_2"):
        if name in after:
            summary |= {f"{name}_before": before[name], name: after[name]}
    known = {"reward", *summary}
    for name in after:
        if name not in known:
            summary |= {f"{name}_before": before.get(name), name: after[name]}
    if "naturalness" in before:
        summary["reference_naturalness"] = before["naturalness"]
    summary |= {"steps": loop.moment.step, "seconds": loop.moment.seconds, "split": bench.config.test_split}
    summary |= {"device": str(loop.device), "processes": loop.accelerator.num_processes, "threads": torch.get_num_threads()}
    return summary | measures.peak_memory() | {"notes": bench.notes}


def ended(loop: RunLoop, who: str = "train:") -> None:
    """What follows a `train` that has come back: its last step is ended and saved. Raises InputProblem if it never took one."""
    loop.close()
    if loop.moment.step == 0:
        raise InputProblem(f"{who} ended without a step; it is to go through loop.batches() and call loop.update(loss)")
    loop.save()


def aloud(progress: Progress, notes: list[str]) -> None:
    """Says before training what the summary says after it again: hours later it would be too late to stop."""
    for note in notes:
        getattr(progress, "say", str)(note)


@contextlib.contextmanager
def kept(loop: RunLoop) -> Iterator[None]:
    """Whatever ends the training, the last whole state is in the folder, and what happened is said in a line."""
    try:
        yield
    except KeyboardInterrupt:
        loop.save()
        raise
    except NotFinite as problem:
        loop.save()
        step = loop.saved_step()
        held = "no checkpoint is left: the weights were no longer finite" if step is None else f"checkpoint/ holds step {step}"
        raise NotFinite(f"{problem}. Stopped; {held}. Lower learning_rate, raise warmup_steps, or leave precision=no") from None
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        loop.save()
        raise InputProblem(memory_advice(loop.config, loop.moment.step + 1)) from None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is for want of memory, whichever library says so."""
    words = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in words or "not enough memory" in words


def memory_advice(config: Any, step: int) -> str:
    """Which field to lower."""
    gc.collect()
    names = ("batch_size", "minibatch_size", "eval_batch", "group_size", "new_tokens", "max_length", "block")
    fields = [f"{name}={getattr(config, name)}" for name in names if getattr(config, name, 0)]
    return f"not enough memory for step {step}: lower {fields[0]}, else {' or '.join(fields[1:])}; precision=bf16 needs less too"


def shown(figure: Any, digits: int = 3) -> str:
    """A figure of a summary for a terminal: 0.812 [0.790, 0.834], or the number alone."""
    if figure is None:
        return "-"
    if isinstance(figure, dict):
        return f"{figure['mean']:.{digits}f} [{figure['low']:.{digits}f}, {figure['high']:.{digits}f}]"
    return f"{figure:.{digits}f}"


def told(summary: dict[str, Any]) -> list[str]:
    """The summary of a training run as lines for a terminal."""
    lines = [f"reward       {shown(summary['reward_before'])} -> {shown(summary['reward_after'])}   (P(positive), 95% interval)"]
    if summary.get("kl") is not None:
        lines.append(f"KL           {shown(summary['kl'])} nats a completion, to the reference")
    names = (("gold_reward", "gold reward"), ("naturalness", "naturalness"), ("completion_length", "length"))
    for name, word in (*names, ("eos_rate", "EOS rate"), ("distinct_2", "distinct-2"), ("pair_accuracy", "pair accuracy")):
        if name in summary:
            lines.append(f"{word:<12} {shown(summary.get(name + '_before'))} -> {shown(summary[name])}")
    for name in ("chosen_log_prob", "rejected_log_prob"):
        if name in summary:
            word = name.split("_")[0] + " log p"
            lines.append(f"{word:<14} {shown(summary[name + '_before'], 2)} -> {shown(summary[name], 2)}   nats a completion")
    memory = f", {summary['peak_memory_mb']:.0f} MB at most" if "peak_memory_mb" in summary else ""
    lines.append(f"{summary['steps']} steps, {summary['device']}{memory}")
    return [*summary.get("notes", []), *lines]


def swept(
    config: Any,
    knob: str,
    values: list[float],
    folder: Any,
    progress: Progress,
    resume: bool,
    one: Callable[..., dict[str, Any]],
    sweep: Callable[[Callable[[float], dict[str, Any]], list[float]], list[dict[str, Any]]],
    single: Callable[[float], Any],
) -> dict[str, Any]:
    """One run for each value in a folder of its own, by the learner's `sweep`; a run that has its summary is not run again.

    one(config, folder, progress, resume) -> summary.  single(value): the configuration of one run.
    """
    from toy.given.run_folder import RunFolder

    def run(value: float) -> dict[str, Any]:
        inner = RunFolder(folder.path / f"{knob}-{value:g}")
        done = inner.path / "summary.json"
        if resume and done.is_file():
            summary = json.loads(done.read_text(encoding="utf-8"))
        else:
            going_on = resume and (inner.path / "config.yaml").is_file()
            if processes.is_main():
                inner.write_config(single(value))

            def show(what: str, at: int, total: int) -> None:
                progress(f"{knob} {value:g}: {what}", at, total)

            summary = one(single(value), inner, show, going_on)
        return flat(summary)

    rows = sweep(run, values)
    summary = {"sweep": rows, "knob": knob, "seconds": round(sum(row["seconds"] for row in rows), 3)}
    if processes.is_main():
        pictures.save_sweep(rows, knob, folder.path / "sweep.png")
        folder.write_summary(summary)
    return summary


def flat(summary: dict[str, Any]) -> dict[str, Any]:
    """A run's figures as numbers under the names that a sweep asks for: reward, kl, naturalness, reference_naturalness, ...

    Where no grammar says how natural a text is, the reference's own log-likelihood a token stands in for it.
    """
    mean = {name: value["mean"] if isinstance(value, dict) and "mean" in value else value for name, value in summary.items()}
    names = ("kl", "gold_reward", "naturalness", "reference_naturalness", "completion_length", "distinct_2", "seconds")
    row = {"reward": mean["reward_after"], **{name: mean[name] for name in names if mean.get(name) is not None}}
    if "naturalness" not in row:
        row |= {"naturalness": mean["reference_log_likelihood"], "reference_naturalness": mean["reference_log_likelihood_before"]}
    return row


def told_sweep(summary: dict[str, Any]) -> list[str]:
    """A sweep as a small table."""
    knob = summary["knob"]
    lines = [f"{knob:>8}  reward      kl  naturalness"]
    for row in summary["sweep"]:
        word = row.get("regime", "dominated" if row.get("dominated") else "")
        lines.append(f"{row[knob]:>8g}  {row['reward']:.3f}  {row['kl']:>7.2f}  {row['naturalness']:>8.2f}   {word}")
    return lines
