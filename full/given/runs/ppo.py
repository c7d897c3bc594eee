"""`climb run ppo`: PPO as you wrote it on a real language model, with rewards as fine as they are given (lesson 14)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from full.given import models
from full.given.ppo_settings import PPOConfig
from full.given.problems import InputProblem
from toy.given.ppo import require_not_negative, require_positive, setting

from . import checkpoint, common, measures, pictures, processes, rewards
from .batches import Order
from .checkpoint import Moment
from .examples import Examples
from .interrupts import Interrupts
from .ppo_bench import Bench, figures, prompts_of, sample_rows, text_batches
from .ppo_loop import VALUE, PPORunLoop
from .settings import Placed, Stepping

USES = {
    "full.ppo": [
        "GPT2Policy", "T5Policy", "GPT2Value", "T5Value", "Value", "FineGrainedReward", "PPOTrainer", "score"
    ]
}  # fmt: skip
TITLE = "PPO on a language model, held near the model it began as"
ONE_THREAD = False
PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {
        "new_tokens": 64,
        "batch_size": 64,
        "ppo_epochs": 2,
        "lam": 0.8,
        "epochs": 4,
        "steps": 100,
        "learning_rate": 4e-3,
        "relative": True,
        "value_warmup": 8,
        "decay": True,
        "value_rate": 5.0,
        "value_clip": 2.0,
        "test_rows": 400,
    },
    "tldr-laptop": {
        "model": "post-lm",
        "data": "posts",
        "rewards": "summary=post-reward",
        "weights": "0.5",
        "new_tokens": 40,
        "warmup_steps": 5,
        "value_rate": 3.0,
        "steps": 40,
        "learning_rate": 3e-4,
        "test_rows": 128,
    },
    "imdb": {
        "model": "distilgpt2",
        "data": "stanfordnlp/imdb",
        "source_column": "text",
        "prompt_tokens": 10,
        "rewards": "sentiment=lvwerra/distilbert-imdb",
        "weights": "1",
        "new_tokens": 20,
        "eos_penalty": 0.0,
        "temperature": 1.0,
        "top_k": 0,
        "rows": 0,
        "learning_rate": 1e-5,
        "test_rows": 2000,
    },
    "reviews-laptop": {
        "model": "review-lm",
        "data": "reviews",
        "prompt_tokens": 10,
        "rewards": "sentiment=review-sentiment",
        "weights": "1",
        "new_tokens": 20,
        "eos_penalty": 0.0,
        "temperature": 1.0,
        "top_k": 0,
    },
    "asqa": {
        "model": "runs/sft/checkpoint",
        "data": "qa_feedback",
        "validation_split": "dev",
        "rewards": "completeness=runs/reward-model/checkpoint,relevance=novelty,factuality=support",
        "weights": "completeness=0.3,relevance=0.3,factuality=0.5",
        "max_source": 1024,
        "new_tokens": 200,
        "batch_size": 32,
        "minibatch_size": 8,
        "rows": 0,
        "learning_rate": 1e-5,
        "kl_coef": 0.3,
        "test_rows": 500,
    },
    "tldr": {
        "model": "runs/sft/checkpoint",
        "data": "trl-lib/tldr",
        "rewards": "summary=runs/reward-model/checkpoint",
        "weights": "1",
        "max_source": 512,
        "new_tokens": 53,
        "top_k": 0,
        "batch_size": 64,
        "minibatch_size": 16,
        "rows": 0,
        "learning_rate": 3e-6,
        "test_rows": 1000,
    },
}


@dataclass(frozen=True)
class Models:
    """Who writes, who is written against, who pays."""

    model: str = setting("question-t5-sft", "Policy at the start, T5 or GPT-2: built-in, a local directory, or a hub name.")
    reference: str = setting("", "Model that the policy is held near; left out: the policy as it was at the start.")
    rewards: str = setting(
        "completeness=question-reward,relevance,factuality",
        "Rewards with commas: NAME=MODEL, a classifier of texts, or the NAME of a rule (the world's; rouge, support, novelty).",
    )
    weights: str = setting("completeness=0.5,relevance=2,factuality=1", "Their weights: NAME=NUMBER with commas, or one number.")
    compare: bool = setting(
        True, "Whether a model's score is the difference to that of the answer that came with the text."
    )


@dataclass(frozen=True)
class Config(Stepping, Placed, Examples, PPOConfig, Models):
    """What `climb run ppo` can be told: field=value."""

    target_names = ("answer", "target", "completion", "summary", "ref_text", "gold")
    needs_target = False
    target_column: str = setting("", "Column of the answers, if there is one: what `compare` and `rouge` look at.")
    steps: int = setting(80, "Rollouts, each followed by its updates; 0: as many as the epochs hold.")
    epochs: int = setting(1, "How often the prompts are gone through, at most.")
    learning_rate: float = setting(1.5e-4, "AdamW's learning rate, of the policy.")
    value_rate: float = setting(1.0, "The value model's learning rate, in units of the policy's.")
    value_warmup: int = setting(0, "Steps at the beginning in which the value model learns and the policy waits.")
    relative: bool = setting(False, "Whether each tensor's rate is in units of its size at the start: a T5's differ thirtyfold.")
    prompt_tokens: int = setting(0, "Prompts are the first so many tokens of the texts; 0: they are the whole texts.")
    max_source: int = setting(256, "Tokens of a prompt at most; what is longer is cut, and counted.")
    validation_rows: int = setting(1, "Rows of the validation split; PPO chooses nothing by them.")
    eval_batch: int = setting(64, "Prompts measured at a time.")
    samples: int = setting(6, "Test prompts whose answers are kept before, during and after training.")
    sample_every: int = setting(20, "Steps between two such tables, 0: only before and after.")
    save_every: int = setting(10, "Steps between two checkpoints, 0: only at the end and on Ctrl-C.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("value_rate", "max_source", "eval_batch"):
            require_positive(name, getattr(self, name))
        for name in ("prompt_tokens", "samples", "sample_every", "value_warmup"):
            require_not_negative(name, getattr(self, name))
        if self.target_kl > 0 and self.kl_coef <= 0:
            raise ValueError(f"kl_coef: expected a positive price where target_kl={self.target_kl:g} steers it, received {self.kl_coef}")
        if self.target_kl > 0 and self.batch_size >= 5 * self.horizon:
            raise ValueError(f"horizon: expected more than a fifth of batch_size={self.batch_size}, received {self.horizon}")


def run(config: Config, lessons: SimpleNamespace, folder: Any, progress: common.Progress, resume: bool = False) -> dict[str, Any]:
    """Trains, writes the run's folder, returns the summary."""
    bench, moment, state = laid_out(config, lessons, folder, progress, resume)
    accelerator = bench.accelerator
    order = Order(len(bench.training), config.batch_size, config.epochs, config.steps, config.seed, config.data)
    fused = {"fused": True} if accelerator.device.type in ("cpu", "cuda") else {}
    groups = parameter_groups(bench.policy, bench.value, config)
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay, **fused)
    if state is not None:
        optimizer.load_state_dict(state)
    if config.trackers:
        accelerator.init_trackers("climb", config=dict(vars(config)))
    samples = measures.SampleFile(folder.path)

    def sample(step: int, stage: str = "during") -> None:
        rows = sample_rows(step, stage, bench, trainer)
        if accelerator.is_main_process:
            samples.add(rows)

    def begin() -> None:
        if moment.step == 0:
            moment.before = figures("before", bench, trainer)
            sample(0, "before")
        common.aloud(progress, [*bench.notes, *filter(None, [moment.before.get("spread_warning")])])

    with Interrupts() as interrupts:
        loop = PPORunLoop(
            bench.policy.model,
            text_batches(bench.training, order, bench.tokenizer.pad_token_id),
            order.steps,
            optimizer,
            config,
            accelerator=accelerator,
            folder=folder,
            tokenizer=bench.tokenizer,
            moment=moment,
            progress=progress,
            sample=sample,
            begin=begin,
            value=bench.value,
            interrupts=interrupts,
            generator=torch.Generator().manual_seed(config.seed),
        )
        trainer = lessons.PPOTrainer(loop, bench.policy, bench.reference, bench.value, bench.reward, config)
        with accelerator.autocast(), common.kept(loop):
            trainer.train()
            common.ended(loop)
    if interrupts.asked:
        raise KeyboardInterrupt
    with accelerator.autocast():
        after = figures("after", bench, trainer)
        sample(loop.moment.step, "after")
    if config.trackers:
        accelerator.end_training()
    summary = summed_up(bench, loop, moment.before, after)
    if accelerator.is_main_process:
        pictures.save_curves(folder.metrics(), folder.path / "curves.png", f"{config.model}, {loop.moment.step} steps")
        folder.write_summary(summary)
    return summary


def parameter_groups(policy: torch.nn.Module, value: torch.nn.Module, config: Config) -> list[dict[str, Any]]:
    """What the optimizer is told: the policy's tensors, and those of the value model alone, each with its share of the rate."""
    own = list(policy.parameters())
    rest = [p for p in value.parameters() if all(p is not other for other in own)]
    parts = [(own, {"waits": config.value_warmup}, 1.0), (rest, {"waits": 0}, config.value_rate)]
    if not config.relative:
        return [{"params": tensors, "scale": rate, **who} for tensors, who, rate in parts]
    return [{"params": [p], "scale": rate * size(p), **who} for tensors, who, rate in parts for p in tensors]


def size(tensor: torch.Tensor) -> float:
    """The root mean square of a tensor's values; of one that is all 0, what a layer of its width would begin with."""
    found = float(tensor.detach().square().mean().sqrt())
    return found or tensor.shape[-1] ** -0.5


def laid_out(
    config: Config, lessons: SimpleNamespace, folder: Any, progress: common.Progress, resume: bool
) -> tuple[Bench, Moment, dict | None]:
    """All that stands before the first step, and the moment to go on from. Raises InputProblem before anything was written."""
    notes: list[str] = []
    place = checkpoint.newest(folder.path) if resume else None
    moment, state = (Moment(), None) if place is None else checkpoint.load(place)
    accelerator = processes.accelerator_for(config, folder)
    both = {"kinds": ("encoder-decoder", "decoder")}
    start, tokenizer = models.load_policy(config.model, say=notes.append, **both)
    model = start if place is None else models.load_policy(str(place), **both)[0]
    reference = copy.deepcopy(start)
    if config.reference:
        reference, _ = models.load_policy(config.reference, field="reference", **both)
        models.require_same_vocabulary(model, reference, (config.model, config.reference))
    wrap = lessons.T5Policy if model.config.is_encoder_decoder else lessons.GPT2Policy
    policy, reference = wrap(model), wrap(reference.requires_grad_(False))
    if config.value_model == "shared":
        value = lessons.Value(policy)
    else:
        value = (lessons.T5Value if model.config.is_encoder_decoder else lessons.GPT2Value)(copy.deepcopy(start))
    training, test = prompts_of(config, tokenizer, model, notes.append)
    targets = {prompt.text: prompt.target for prompt in (*training, *test) if prompt.target}
    for part in (policy, reference, value):
        part.to(accelerator.device)
    if place is not None:
        checkpoint_of_value = torch.load(place / VALUE, map_location=accelerator.device, weights_only=True)
        (value.head if config.value_model == "shared" else value).load_state_dict(checkpoint_of_value)
    weights = rewards.weights_of(config.weights, rewards.named(config.rewards))
    joined = bool(config.prompt_tokens) and not model.config.is_encoder_decoder
    paid = rewards.made(config.rewards, config.data, targets, accelerator.device, notes.append, config.compare, joined)
    try:
        reward = lessons.FineGrainedReward(paid, weights, tokenizer)
    except ValueError as problem:
        raise InputProblem(f"rewards={config.rewards}: {problem}") from None
    if accelerator.is_main_process:
        folder.keep_metrics([row for row in folder.metrics() if row["step"] <= moment.step])
        measures.SampleFile(folder.path).keep_until(moment.step)
    parts = (policy, reference, value, reward, tokenizer, training, test, targets, notes)
    return Bench(config, lessons, progress, accelerator, *parts), moment, state


def summed_up(bench: Bench, loop: PPORunLoop, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The run's final figures by name: each as it was before, and as it is now."""
    notes = list(bench.notes)
    for name, reward in bench.reward.rewards.items():
        if getattr(reward, "cut", 0):
            notes.append(
                f"reward {name}: {reward.cut} texts were longer than the {reward.longest} tokens of {reward.name} and were cut"
            )
    if before.get("spread_warning"):
        notes.append(before["spread_warning"])
    summary: dict[str, Any] = {"reward_before": before["reward"], "reward_after": after["reward"], "kl": after["kl"]}
    for name in after:
        if name not in ("reward", "kl", "spread_warning"):
            summary |= {f"{name}_before": before.get(name), name: after[name]}
    summary |= {"kl_coef": loop.kept.get("kl_coef"), "test_rows": len(bench.test), "split": bench.config.test_split}
    summary |= {"steps": loop.moment.step, "seconds": loop.moment.seconds}
    summary |= {"device": str(loop.device), "processes": loop.accelerator.num_processes, "threads": torch.get_num_threads()}
    return summary | measures.peak_memory() | {"notes": notes}


def told(summary: dict[str, Any]) -> list[str]:
    """The summary as lines for a terminal."""
    shown = common.shown
    lines = [
        f"{'reward, weighted sum':<24} {shown(summary['reward_before'])} -> {shown(summary['reward_after'])}"
    ]
    first = [
        name for name in summary if name.startswith("reward_") and name.removesuffix("_before") == name and name != "reward_after"
    ]
    names = [*first, "completeness", "relevance", "factuality", "gold_reward", "rougeL", "length", "ended", "repetition"]
    for name in names:
        if summary.get(name) is not None:
            lines.append(f"{name.replace('_', ' '):<24} {shown(summary.get(name + '_before'))} -> {shown(summary[name])}")
    lines.append(f"{'KL to the reference':<24} {shown(summary['kl'])} nats a completion")
    memory = f", {summary['peak_memory_mb']:.0f} MB at most" if "peak_memory_mb" in summary else ""
    lines.append(f"{summary['steps']} steps, {summary['device']}, 95% intervals{memory}")
    return [*summary.get("notes", []), *lines]
