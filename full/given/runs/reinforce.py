"""`climb run reinforce`: REINFORCE as you wrote it, on a language model (lesson 9)."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from full.given.settings import ReinforceConfig

from . import common
from .batches import Order, prompt_batches
from .common import told  # noqa: F401  (what `climb run` prints)
from .settings import IMDB, Training

USES = {"full.reinforce": ["train"]}
TITLE = "REINFORCE on a language model, with the sentiment of what it writes as the reward"
ONE_THREAD = False
PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {"steps": 150, "learning_rate": 3e-4},
    "imdb": {**IMDB, "data": "stanfordnlp/imdb", "learning_rate": 1e-4, "batch_size": 32, "eval_prompts": 2000},
}


@dataclass(frozen=True)
class Config(Training, ReinforceConfig):
    """What `climb run reinforce` can be told: field=value."""


def run(config: Config, lessons: SimpleNamespace, folder: Any, progress: common.Progress, resume: bool = False) -> dict:
    """Trains, writes the run's folder, returns the summary."""
    return on_prompts(config, lessons.train, folder, progress, resume)


def on_prompts(config: Any, train: Any, folder: Any, progress: common.Progress, resume: bool) -> dict[str, Any]:
    """A run of any `train` whose batches are prompts."""
    bench = common.laid_out(config, folder, progress, resume)
    prompts = common.training_prompts(config, bench.tokenizer, bench.notes.append)
    order = Order(len(prompts), config.batch_size, config.epochs, config.steps, config.seed, config.data)
    batches = prompt_batches(prompts, order, bench.tokenizer.pad_token_id)
    return common.trained(bench, train, config, batches, order.steps)
