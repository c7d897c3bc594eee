"""Lesson 17: the settings of the run that pursues a proxy past the point where the truth still follows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from full.given.problems import InputProblem
from full.given.settings import require_one_of
from toy.given.ppo import require_not_negative, require_positive, setting

METHODS = ("best_of_n", "reinforce", "ppo", "dpo", "kl", "ensemble")
"What can be held beside each other: `kl` is REINFORCE with a price on KL, `ensemble` REINFORCE paid by several proxies."
ENSEMBLES = ("mean", "min", "mean_minus_std")


@dataclass(frozen=True)
class OveroptimisationConfig:
    """How far each method goes, and how it is watched."""

    methods: str = setting("best_of_n,reinforce,ppo,dpo,kl,ensemble", "Methods with commas, in the order in which they are run.")
    gold: str = setting("", "Classifier that stands for the truth; left out: the built-in world's exact posterior.")
    new_tokens: int = setting(20, "Length of a completion, at most.")
    batch_size: int = setting(32, "Prompts (or pairs) in a step of training.")
    points: int = setting(10, "Measurements along a training, closer together at its beginning.")
    save_every: int = setting(20, "Steps between two checkpoints of a training, 0: only at its end and on Ctrl-C.")
    best_of: int = setting(128, "Completions of a prompt among which best-of-n chooses, for every n up to this.")
    best_of_prompts: int = setting(64, "Prompts that best-of-n is measured on.")
    reinforce_steps: int = setting(120, "Steps of REINFORCE, with `kl` and `ensemble` too.")
    reinforce_rate: float = setting(5e-4, "Their learning rate.")
    ppo_steps: int = setting(30, "Rollouts of PPO, each followed by its updates.")
    ppo_rate: float = setting(5e-4, "PPO's learning rate.")
    ppo_epochs: int = setting(4, "How often PPO goes through each rollout.")
    dpo_steps: int = setting(80, "Steps of DPO.")
    dpo_rate: float = setting(5e-4, "DPO's learning rate.")
    dpo_beta: float = setting(0.1, "DPO's strength of the KL anchor.")
    dpo_prompts: int = setting(800, "Prompts of DPO's pairs: the reference's own completions, judged by the proxy.")
    dpo_samples: int = setting(4, "Completions of such a prompt; those with the highest and with the lowest reward are a pair.")
    alpha: float = setting(0.05, "Method `kl`: the price of one nat of KL to the reference, in units of reward.")
    ensemble: int = setting(3, "Method `ensemble`: how many proxies, each trained on labels of its own.")
    ensemble_how: str = setting("min", "How their rewards become one: mean, min, or mean_minus_std.")
    ensemble_classifiers: str = setting("", "Their names with commas; left out: the proxy, and others made as it was made.")
    kl_budget: float = setting(10.0, "Nats a completion at which a training that is stopped early is stopped.")

    def __post_init__(self) -> None:
        getattr(super(), "__post_init__", lambda: None)()
        counts = ("new_tokens", "batch_size", "points", "reinforce_steps", "ppo_steps", "ppo_epochs", "dpo_steps")
        more = ("best_of_prompts", "dpo_prompts", "reinforce_rate", "ppo_rate", "dpo_rate", "dpo_beta", "kl_budget")
        for name in (*counts, *more):
            require_positive(name, getattr(self, name))
        for name in ("save_every", "alpha"):
            require_not_negative(name, getattr(self, name))
        for name in ("best_of", "dpo_samples", "ensemble"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name}: expected 2 or more, received {getattr(self, name)}")
        require_one_of("ensemble_how", self.ensemble_how, ENSEMBLES)
        methods_of(self.methods)


def methods_of(text: str) -> list[str]:
    """The methods that a field names. Raises InputProblem."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in METHODS:
            raise InputProblem(f"methods={text}: expected some of {', '.join(METHODS)} with commas, received {name!r}")
    if not names or len(set(names)) != len(names):
        raise InputProblem(f"methods={text}: expected at least one, each once, of {', '.join(METHODS)}")
    return names


def measured_at(steps: int, points: int) -> list[int]:
    """The steps after which a training is measured: 0, then `points` more at most with growing gaps, the last one the end.

    The distance sqrt(KL) grows fast at first, and the peak of the gold reward lies early.
    """
    return sorted({0, steps, *(math.ceil(steps * (i / points) ** 1.5) for i in range(1, points))})
