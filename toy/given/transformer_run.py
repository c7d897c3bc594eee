"""`climb run transformer`: your language model learns the word world, measured exactly against its entropy rate (lesson 7)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Callable

import torch

from .ppo import require_not_negative, require_positive, setting
from .transformer import warmup_cosine
from .word_world import BOS, EOS, PAD, WordWorld, decode

USES = {"toy.transformer": ["TinyGPT", "pretrain", "generate"]}
TITLE = "A language model learns the word world"


@dataclass(frozen=True)
class Config:
    """What `climb run transformer` can be told: field=value."""

    steps: int = setting(600, "Batches, each of new sentences.")
    batch_size: int = setting(64, "Sentences in a batch.")
    learning_rate: float = setting(0.01, "Adam's highest learning rate: it rises, then falls to 0 along a cosine.")
    warmup: int = setting(50, "Steps in which the learning rate rises.")
    measure: int = setting(200, "Steps from one exact measurement to the next; one takes as long as a hundred steps.")
    dim: int = setting(32, "Width of the model.")
    layers: int = setting(2, "Number of its blocks.")
    temperature: float = setting(1.0, "Of the sentences it writes at the end.")
    top_k: int = setting(0, "They are drawn among the k likeliest words; 0: among all.")
    seed: int = setting(0, "Of the first weights, of the batches and of what it writes.")

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "learning_rate", "measure", "dim", "layers", "temperature"):
            require_positive(name, getattr(self, name))
        for name in ("warmup", "top_k"):
            require_not_negative(name, getattr(self, name))
        if self.warmup >= self.steps:
            raise ValueError(f"warmup: expected fewer than steps = {self.steps}, received {self.warmup}")


def run(
    config: Config, lessons: SimpleNamespace, folder, progress: Callable[[str, int, int], None], resume: bool = False
) -> dict:
    """Trains, writes the run's folder, returns the summary. A run takes seconds: resumed, it begins anew, to the same numbers."""
    folder.keep_metrics([])
    started, world = time.perf_counter(), WordWorld()
    torch.manual_seed(config.seed)
    model = lessons.TinyGPT(20, 13, dim=config.dim, layers=config.layers).double()
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.95))
    exact, share = {}, 0.0

    def measure(step: int) -> None:
        """The expected loss, and the model's chance to write a sentence of the world at all: both from every sentence's probability."""
        nonlocal share
        log_probs = world.sentence_log_probs(model)
        exact[step] = float(-(world.log_probs.exp() * log_probs).sum()) / world.mean_length
        share = float(log_probs.exp().sum())

    measure(0)

    def after_step(step: int) -> None:
        done = step + 1
        if done % config.measure == 0 or done == config.steps:
            measure(done)
        progress(f"{exact[max(exact)]:.3f} nats a token, floor {world.entropy_rate:.3f}", done, config.steps)

    batches = world.batches(config.steps, config.batch_size, torch.Generator().manual_seed(config.seed))
    rate = warmup_cosine(config.learning_rate, config.warmup, config.steps)
    losses = lessons.pretrain(model, batches, optimizer, rate, after_step=after_step).tolist()
    folder.add_metrics([{"step": n, "loss": loss, **({"exact_loss": exact[n]} if n in exact else {})} for n, loss in enumerate(losses, 1)])
    summary = {"loss_before": exact[0], "loss_after": exact[config.steps], "entropy_rate": world.entropy_rate}
    summary |= {"above_floor": exact[config.steps] / world.entropy_rate - 1, "sentences_share": share}
    summary |= {"written": written(model, lessons.generate, config), "seconds": round(time.perf_counter() - started, 2)}
    draw(losses, exact, world).savefig(folder.path / "run.png", dpi=120)
    folder.write_summary(summary)
    return summary


def written(model: torch.nn.Module, generate: Callable, config: Config) -> list[str]:
    """Six sentences that the model writes."""
    settings: dict[str, Any] = {"temperature": config.temperature, "top_k": config.top_k or None}
    prompts, generator = torch.full((6, 1), BOS), torch.Generator().manual_seed(config.seed)
    tokens, _ = generate(model, prompts, 12, eos=EOS, pad=PAD, generator=generator, **settings)
    return [decode(row) for row in tokens]


def draw(losses: list[float], exact: dict[int, float], world: WordWorld):
    """The loss of each batch with the exact one, and how far this one is above the entropy rate: a matplotlib Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(range(1, len(losses) + 1), losses, color="lightgray", lw=0.8, label="loss of each batch")
    left.plot(list(exact), list(exact.values()), color="tab:blue", label="expected loss, exact")
    left.axhline(world.entropy_rate, color="black", ls=":", label="entropy rate")
    left.set_ylabel("nats a token")
    right.plot(list(exact), [loss - world.entropy_rate for loss in exact.values()], color="tab:blue")
    right.axhline(0.02 * world.entropy_rate, color="black", ls=":", label="2% of the entropy rate")
    right.set_yscale("log")
    right.set_ylabel("nats a token above the entropy rate")
    for axes in (left, right):
        axes.set_xlabel("batch")
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8)
    return figure


def told(summary: dict) -> list[str]:
    """The summary as lines for a terminal."""
    return [
        f"loss  {summary['loss_before']:.3f} -> {summary['loss_after']:.4f} nats a token, exact; "
        f"{100 * summary['above_floor']:.1f}% above the entropy rate, {summary['entropy_rate']:.4f}",
        f"{100 * summary['sentences_share']:.1f}% of what it writes is a sentence of the world:",
        *(f"  {sentence}" for sentence in summary["written"]),
    ]
