"""`climb run word_agent`: the agent of lesson 3 as you wrote it, measured exactly after every word it says."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Callable

from . import word_run
from .ppo import require_fraction, require_positive, setting

USES = {"toy.word_agent": []}
TITLE = "The word-positivity agent"
MODES = ("sample", "argmax")


@dataclass(frozen=True)
class Config:
    """What `climb run word_agent` can be told: field=value."""

    iterations: int = setting(300, "Words said, each followed by a step.")
    learning_rate: float = setting(0.01, "Adam's learning rate; 0.002 leaves more to see.")
    mode: str = setting("sample", "How the agent chooses: sample (from its policy) or argmax (its likeliest word).")
    epsilon: float = setting(0.0, "Share of words that are chosen blindly: exploration.")
    weighted: bool = setting(True, "Whether words that were not drawn from the policy are weighted for it.")
    baseline: bool = setting(True, "Whether the mean score so far is subtracted from each score.")
    shift: float = setting(0.0, "Added to every score: what a baseline takes away again.")
    seed: int = setting(0, "Of the first weights and of all words.")

    def __post_init__(self) -> None:
        for name in ("iterations", "learning_rate"):
            require_positive(name, getattr(self, name))
        require_fraction("epsilon", self.epsilon)
        if self.mode not in MODES:
            raise ValueError(f"mode: expected {' or '.join(MODES)}, received {self.mode!r}")


def run(
    config: Config, lessons: SimpleNamespace, folder, progress: Callable[[str, int, int], None], resume: bool = False
) -> dict:
    """Trains, writes the run's folder, returns the summary. A run takes a second: resumed, it begins anew, to the same numbers."""
    settings = {name: getattr(config, name) for name in ("iterations", "learning_rate", "mode", "epsilon", "weighted", "shift")}
    progress("the agent speaks", 0, config.iterations)
    found = word_run.run(lessons.word_agent, config.seed, use_baseline=config.baseline, **settings)
    before, *after = found.positive.tolist()
    folder.keep_metrics(
        [
            {"step": step, "loss": loss, "positive_share": share, "positive": positive, "reward": 2 * positive - 1 + config.shift}
            for step, (loss, share, positive) in enumerate(zip(found.losses.tolist(), found.shares.tolist(), after), start=1)
        ]
    )
    progress("the agent speaks", config.iterations, config.iterations)
    lessons.word_agent.plot_training(found.losses, found.positive[1:]).savefig(folder.path / "run.png", dpi=120)
    summary = {"positive_before": before, "positive_after": after[-1], "words_positive": found.shares[-1].item()}
    summary |= {"reward_before": 2 * before - 1 + config.shift, "reward_after": 2 * after[-1] - 1 + config.shift}
    summary |= {"seconds": round(found.seconds, 2)}
    folder.write_summary(summary)
    return summary


def told(summary: dict) -> list[str]:
    """The summary as lines for a terminal."""
    return [
        f"P(positive)  {summary['positive_before']:.3f} -> {summary['positive_after']:.3f}   (exact)",
        f"of the words it said {100 * summary['words_positive']:.0f}% were positive",
    ]
