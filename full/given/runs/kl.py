"""`climb run kl`: REINFORCE held near the reference, as you wrote it; `alphas=0.001,0.05,1` sweeps (lesson 10)."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from full.given.settings import KLConfig
from toy.given.ppo import require_not_negative, setting

from . import common
from .reinforce import on_prompts
from .settings import IMDB, Training, numbers, without

USES = {"full.kl_control": ["train", "sweep"]}
TITLE = "REINFORCE with a price on KL, on a language model"
ONE_THREAD = False
PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {"steps": 150, "learning_rate": 3e-4},
    "imdb": {**IMDB, "data": "stanfordnlp/imdb", "learning_rate": 1e-4, "batch_size": 32, "eval_prompts": 2000},
}


@dataclass(frozen=True)
class Config(Training, KLConfig):
    """What `climb run kl` can be told: field=value."""

    alphas: str = setting("", "Several alphas with commas, as 0.001,0.05,1: one run each, in folders of their own.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for alpha in numbers("alphas", self.alphas):
            require_not_negative("alphas", alpha)


def run(config: Config, lessons: SimpleNamespace, folder: Any, progress: common.Progress, resume: bool = False) -> dict:
    """Trains (or sweeps), writes the run's folder, returns the summary."""

    def one(config: Config, folder: Any, progress: common.Progress, resume: bool) -> dict[str, Any]:
        return on_prompts(config, lessons.train, folder, progress, resume)

    def single(alpha: float) -> Config:
        return Config(**without(config, "alpha", "alphas"), alpha=alpha)

    alphas = numbers("alphas", config.alphas)
    if alphas:
        return common.swept(config, "alpha", alphas, folder, progress, resume, one, lessons.sweep, single)
    return one(config, folder, progress, resume)


def told(summary: dict) -> list[str]:
    """The summary as lines for a terminal."""
    return common.told_sweep(summary) if "sweep" in summary else common.told(summary)
