"""Lesson 15: the settings of GRPO on a language model, and the prompts that come with their answers."""

from __future__ import annotations

from dataclasses import dataclass

from full.given.settings import require_one_of
from full.given.text import Prompts
from toy.given.ppo import require_not_negative, require_positive, setting

SCALES = ("std", "none", "loo")
MEANS = ("sequence", "token", "constant")
KL_ESTIMATORS = ("k1", "k2", "k3")
KL_PLACES = ("loss", "reward")


@dataclass(frozen=True)
class AnsweredPrompts(Prompts):
    """A batch of prompts, each with the text of its right answer: what a completion is held to, and what no model is shown."""

    answers: tuple[str, ...] = ()
    "For each row a number, or a text that ends with one."

    def repeated(self, times: int) -> AnsweredPrompts:
        plain = super().repeated(times)
        answers = tuple(answer for answer in self.answers for _ in range(times))
        return AnsweredPrompts(plain.input_ids, plain.attention_mask, plain.rows, plain.whole, answers)


@dataclass(frozen=True)
class GRPOConfig:
    """Group relative policy optimisation with the options that matter (lesson 15)."""

    group_size: int = setting(8, "Completions of each prompt, 2 or more: the mean of their rewards is the baseline.")
    scale: str = setting("std", "Rewards less their group's mean: over its std (std) or not (none); loo: less the others' mean.")
    mean: str = setting("sequence", "What a sum over tokens is divided by: each sequence's length, all token counts, a constant.")
    updates: int = setting(1, "How often each rollout is learned from; at the first update every ratio is 1.")
    clip: float = setting(0.2, "How far below 1 the ratio of new to old probability is followed; above too, without clip_high.")
    clip_high: float = setting(0.0, "How far above 1 the ratio is followed; 0: as far as clip says.")
    kl_coef: float = setting(0.0, "Price of KL to the reference, in units of reward; 0: there is none.")
    kl: str = setting("k3", "Its estimator, token by token: k1, k2 or k3.")
    kl_place: str = setting("loss", "Where it is paid: in the loss, or in the reward before the advantages are taken.")
    temperature: float = setting(1.0, "Divides the logits, where tokens are drawn and where they are scored.")
    top_k: int = setting(0, "Tokens are drawn among the k likeliest; 0: among all.")
    new_tokens: int = setting(12, "Length of a completion, at most.")

    def __post_init__(self) -> None:
        getattr(super(), "__post_init__", lambda: None)()
        if self.group_size < 2:
            raise ValueError(f"group_size: expected at least 2, a group to compare within, received {self.group_size}")
        for name in ("updates", "clip", "temperature", "new_tokens"):
            require_positive(name, getattr(self, name))
        for name in ("clip_high", "kl_coef", "top_k"):
            require_not_negative(name, getattr(self, name))
        require_one_of("scale", self.scale, SCALES)
        require_one_of("mean", self.mean, MEANS)
        require_one_of("kl", self.kl, KL_ESTIMATORS)
        require_one_of("kl_place", self.kl_place, KL_PLACES)
