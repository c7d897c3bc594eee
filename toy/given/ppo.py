"""What passes between the parts of PPO in lesson 6: a rollout, the settings, and the refusal of input that makes no sense."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Rollout:
    """What the old policy wrote, and what was known of it at that time. Nothing here changes or has a gradient."""

    tokens: Int[Tensor, "batch time"]
    mask: Bool[Tensor, "batch time"]
    "True on real tokens, which stand first in a row, the first END included."
    log_probs: Float[Tensor, "batch time"]
    "Of the tokens under the policy that drew them: the old policy."
    ref_log_probs: Float[Tensor, "batch time"]
    "Of the tokens under the reference policy."
    values: Float[Tensor, "batch time"]
    "What the value function said before each token."
    scores: Float[Tensor, "batch"]
    "The reward of each whole sentence."


def setting(default: Any, sentence: str) -> Any:
    """A field of a configuration with the sentence that explains it."""
    return field(default=default, metadata={"help": sentence})


@dataclass(frozen=True)
class PPOConfig:
    """The settings of PPO. Raises ValueError, naming the field, for one that makes no sense."""

    batch_size: int = setting(512, "Sentences in a rollout.")
    minibatch_size: int = setting(512, "Sentences in one optimizer step: rows of the rollout in order, the last may be fewer.")
    epochs: int = setting(4, "How often each rollout is gone through.")
    gamma: float = setting(1.0, "Discount of the next token's reward.")
    lam: float = setting(0.95, "Lambda of generalized advantage estimation.")
    clip: float = setting(0.2, "How far from 1 the ratio of new to old probability is followed.")
    value_clip: float = setting(0.2, "How far from the old value the new one is followed, in units of reward.")
    kl_coef: float = setting(0.5, "Beta: units of reward that one nat away from the reference costs.")
    value_coef: float = setting(1.0, "Weight of the value loss.")
    entropy_coef: float = setting(0.0, "Weight of the entropy, which is to be large.")
    whiten: bool = setting(True, "Whether advantages are whitened over the whole rollout.")
    temperature: float = setting(1.0, "Divides the logits of policy and reference, wherever tokens are drawn or scored.")

    def __post_init__(self) -> None:
        for name in ("batch_size", "minibatch_size", "epochs", "clip", "value_clip", "temperature"):
            require_positive(name, getattr(self, name))
        for name in ("kl_coef", "value_coef", "entropy_coef"):
            require_not_negative(name, getattr(self, name))
        for name in ("gamma", "lam"):
            require_fraction(name, getattr(self, name))


def require_same_shape(**tensors: Tensor) -> None:
    """Raises ValueError unless all have the shape of the first, (batch, time): torch would stretch a wrong one and go on."""
    (name, first), *others = tensors.items()
    if first.ndim != 2:
        raise ValueError(f"{name}: expected shape (batch, time), received shape {tuple(first.shape)}")
    for name, tensor in others:
        if tensor.shape != first.shape:
            raise ValueError(f"{name}: expected shape {tuple(first.shape)}, received shape {tuple(tensor.shape)}")


def require_mask(mask: Tensor) -> None:
    """Raises ValueError for a mask without a single real token."""
    if not (mask != 0).any():
        raise ValueError(f"mask: expected at least one real token, received none in shape {tuple(mask.shape)}")


def require_padding_last(mask: Tensor) -> None:
    """Raises ValueError unless the real tokens of every row stand before its padding."""
    holes = ((mask[:, 1:] != 0) & (mask[:, :-1] == 0)).any(1)
    if holes.any():
        row = int(holes.nonzero()[0])
        raise ValueError(f"mask: expected padding behind the real tokens alone, received {mask[row].int().tolist()} in row {row}")


def require_per_row(name: str, tensor: Tensor, mask: Tensor) -> None:
    """Raises ValueError unless there is one number for each row of the mask."""
    if tensor.shape != mask.shape[:1]:
        expected = f"shape {tuple(mask.shape[:1])}, one number a row"
        raise ValueError(f"{name}: expected {expected}, received shape {tuple(tensor.shape)}")


def require_positive(name: str, number: float) -> None:
    """Raises ValueError unless 0 < number < inf."""
    if not 0 < number < math.inf:
        raise ValueError(f"{name}: expected a positive number, received {number}")


def require_not_negative(name: str, number: float) -> None:
    """Raises ValueError unless 0 <= number < inf."""
    if not 0 <= number < math.inf:
        raise ValueError(f"{name}: expected a number that is not negative, received {number}")


def require_fraction(name: str, number: float) -> None:
    """Raises ValueError unless 0 <= number <= 1."""
    if not 0 <= number <= 1:
        raise ValueError(f"{name}: expected a number from 0 to 1, received {number}")
