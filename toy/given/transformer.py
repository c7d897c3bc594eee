"""What lesson 7 gives: the cache's memory, first weights, a learning-rate schedule, and the refusal of what makes no sense."""

from __future__ import annotations

import math
from typing import Callable

import torch
from torch import Tensor, nn


class LayerCache:
    """The keys and values that one attention layer has computed so far (section 7.11).

    `past` is the number of tokens in it, 0 at first. `extend(keys, values)` appends those of new tokens, (batch, heads, time,
    head_dim) each, and returns all of them, old ones first: (batch, heads, past + time, head_dim) each.
    """

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    @property
    def past(self) -> int:
        return 0 if self.keys is None else self.keys.shape[2]

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if self.keys is not None:
            keys, values = torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


def initialise(model: nn.Module, std: float = 0.1) -> None:
    """Normal weights of standard deviation `std` for linear and embedding layers, zero biases; LayerNorm keeps ones and zeros.

    GPT-2 uses 0.02 at width 768 and above. At width 32 that is so small that the first hundred updates only make it larger.
    """
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def warmup_cosine(peak: float, warmup: int, steps: int) -> Callable[[int], float]:
    """The learning rate of step 0, 1, ...: a straight line up to `peak` over `warmup` steps, then half a cosine down to 0."""

    def learning_rate(step: int) -> float:
        if step < warmup:
            return peak * (step + 1) / warmup
        return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2

    return learning_rate


# What makes no sense is refused, by the name of the argument, with what was expected and what came.


def require_at_least(name: str, value: int, least: int) -> None:
    """Raises ValueError unless `value` is a whole number, `least` or more."""
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: expected {least} or more, received {value!r}")


def require_apart(eos: int, pad: int) -> None:
    """Raises ValueError if padding is the end token: then nothing can tell where a sequence ends (section 7.6)."""
    if eos == pad:
        raise ValueError(f"pad: expected another token than eos, received {pad} for both")


def require_divisor(dim: int, heads: int) -> None:
    """Raises ValueError unless `heads` heads of equal width make up `dim`."""
    if heads < 1 or dim % heads:
        raise ValueError(f"heads: expected a divisor of dim = {dim}, received {heads}")


def require_mask(mask: Tensor | None, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless `mask` is None, or boolean of this shape with a True in every row."""
    if mask is None:
        return
    if mask.dtype != torch.bool or tuple(mask.shape) != tuple(shape):
        received = f"{mask.dtype} of shape {tuple(mask.shape)}"
        raise ValueError(f"mask: expected booleans of shape {tuple(shape)} (True = a real token), received {received}")
    if not bool(mask.any(dim=1).all()):
        row = int((~mask.any(dim=1)).nonzero()[0])
        raise ValueError(f"mask: expected a real token in every row, received none in row {row}")


def require_tokens(name: str, tokens: Tensor, vocabulary: int) -> None:
    """Raises ValueError unless `tokens` is (batch, time) integers from 0 to vocabulary - 1."""
    if tokens.ndim != 2 or tokens.is_floating_point() or tokens.dtype == torch.bool or tokens.numel() == 0:
        received = f"{tokens.dtype} of shape {tuple(tokens.shape)}"
        raise ValueError(f"{name}: expected integers of shape (batch, time), received {received}")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= vocabulary:
        raise ValueError(f"{name}: expected tokens from 0 to {vocabulary - 1}, received {low} to {high}")


def require_room(past: int, time: int, context: int) -> None:
    """Raises ValueError unless `time` new tokens fit behind `past` earlier ones."""
    if past + time > context:
        raise ValueError(f"tokens: expected at most context = {context} of them, received {past} + {time}")


def require_scored(logits: Tensor, tokens: Tensor, name: str, mask: Tensor) -> None:
    """Raises ValueError unless logits (batch, time, vocabulary), tokens and the mask called `name` (batch, time) fit together."""
    if logits.ndim != 3 or tuple(logits.shape[:2]) != tuple(tokens.shape):
        received = f"{tuple(logits.shape)} for tokens of shape {tuple(tokens.shape)}"
        raise ValueError(f"logits: expected shape (batch, time, vocabulary), received {received}")
    require_tokens("tokens", tokens, logits.shape[-1])
    if mask.dtype != torch.bool or mask.shape != tokens.shape:
        received = f"{mask.dtype} of shape {tuple(mask.shape)}"
        raise ValueError(f"{name}: expected booleans of shape {tuple(tokens.shape)}, received {received}")


def require_predicted(mask: Tensor) -> None:
    """Raises ValueError unless some row has two real tokens next to each other: otherwise there is nothing to take a mean of."""
    if not bool((mask[:, 1:] & mask[:, :-1]).any()):
        raise ValueError("mask: expected a real token after another one in some row, received none")


def require_sampled(sampled: Tensor) -> None:
    """Raises ValueError unless `sampled` is True somewhere, and nowhere in the first column, which nothing comes before."""
    if not bool(sampled.any()):
        raise ValueError("sampled: expected True for one token at least, received none")
    if bool(sampled[:, 0].any()):
        raise ValueError("sampled: expected False in column 0, which no token comes before, received True")


def require_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raises ValueError unless 0 < temperature < inf, top_k >= 1 or None, and 0 < top_p <= 1 or None."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: expected a positive number (top_k=1 is greedy), received {temperature}")
    if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
        raise ValueError(f"top_k: expected a whole number from 1 on, or None, received {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p: expected a number in (0, 1], or None, received {top_p}")
