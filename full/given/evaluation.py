"""What lesson 8 gives: the two things an evaluation returns, and the refusal of input that makes no sense."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .text import Prompts, Rollout

Score = Callable[[Sequence[str]], Tensor]  # texts -> their rewards, (batch,)
Progress = Callable[[int, int, float], None]  # prompts done, prompts in all, mean reward so far


@dataclass(frozen=True)
class ScoredBatch:
    """A batch of prompts with what was written after them, as tokens and as text, and what it is worth."""

    rollout: Rollout
    texts: list[str]
    "Prompt and completion of each row together, as the reward model read them."
    rewards: Float[Tensor, "batch"]


@dataclass(frozen=True)
class Evaluation:
    """How a model does on a set of prompts."""

    reward: dict[str, float]
    '"mean", and "low" and "high", between which the true mean lies 95 times in 100.'
    rewards: Float[Tensor, "rows"]
    "Of every text, in the order of the prompts."
    texts: list[str]
    "Prompt and completion, in the same order."
    completion_length: float
    "Mean number of tokens of a completion, its EOS included."
    eos_rate: float
    "Share of the completions that end with EOS."
    distinct_1: float
    distinct_2: float
    "Distinct-n of the completions' tokens, for n = 1 and 2."


def require_whole(name: str, value: int, least: int) -> None:
    """Raises ValueError unless `value` is a whole number, `least` or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}: expected a whole number, {least} or more, received {value!r}")


def require_texts(texts: Sequence[str]) -> None:
    """Raises ValueError unless there is a text, and each is a string."""
    if isinstance(texts, str) or not len(texts):
        raise ValueError(f"texts: expected a list with one text or more, received {texts!r:.80}")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts: expected strings, received {type(text).__name__} in row {row}")


def require_pad_token(tokenizer: Any) -> None:
    """Raises ValueError unless the tokenizer has a pad token."""
    if tokenizer.pad_token_id is None:
        raise ValueError("tokenizer: expected one with a pad token, received one without (tokenizer.add_special_tokens adds one)")


def require_apart(eos_token_id: int | None, pad_token_id: int) -> None:
    """Raises ValueError if padding is the end token: then nothing can tell where a completion ends (section 8.3)."""
    if eos_token_id == pad_token_id:
        raise ValueError(f"pad_token_id: expected another token than eos_token_id, received {pad_token_id} for both")


def require_sampling(temperature: float, top_k: int) -> None:
    """Raises ValueError unless the temperature is positive and finite and top_k a whole number, 0 or more."""
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature: expected a positive number, received {temperature}")
    require_whole("top_k", top_k, 0)


def require_prompts(prompts: Prompts) -> None:
    """Raises ValueError unless every row has a real token, and all its padding before the first one."""
    real = prompts.attention_mask.bool()
    if real.ndim != 2 or real.shape != prompts.input_ids.shape:
        received = f"{tuple(real.shape)} for tokens of shape {tuple(prompts.input_ids.shape)}"
        raise ValueError(f"prompts: expected an attention mask of the tokens' shape, received {received}")
    if not len(real) or not bool(real.any(dim=1).all()):
        raise ValueError("prompts: expected a row or more, with a real token in each, received none")
    if bool((real[:, :-1] & ~real[:, 1:]).any()):
        raise ValueError("prompts: expected padding on the left, received padding behind a real token")


def require_room(model: nn.Module, prompts: Prompts, new_tokens: int) -> None:
    """Raises ValueError if the longest prompt and what is to be written are more than the model can read."""
    context = getattr(model.config, "max_position_embeddings", None)
    longest = int(prompts.attention_mask.sum(dim=1).max())
    if context is not None and longest + new_tokens > context:
        received = f"{new_tokens} after a prompt of {longest}"
        raise ValueError(f"new_tokens: expected prompt and completion within the model's {context} tokens, received {received}")


def require_labels(classifier: nn.Module) -> None:
    """Raises ValueError unless the classifier has two labels or more: a probability is one of several."""
    if classifier.config.num_labels < 2:
        raise ValueError(f"classifier: expected two labels or more, received {classifier.config.num_labels}")


def require_values(values: Tensor) -> None:
    """Raises ValueError unless there are two finite values or more: from one alone nothing is known of their spread."""
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"values: expected two or more in one dimension, received shape {tuple(values.shape)}")
    if not bool(torch.isfinite(values).all()):
        raise ValueError("values: expected finite numbers, received NaN or infinity")


def require_rewards(rewards: Tensor, count: int) -> None:
    """Raises ValueError unless there is one finite reward for each text, (batch,): a column (batch, 1) would spread over rows."""
    if not isinstance(rewards, Tensor) or tuple(rewards.shape) != (count,):
        received = f"shape {tuple(rewards.shape)}" if isinstance(rewards, Tensor) else type(rewards).__name__
        raise ValueError(f"score: expected one reward a text, a tensor of shape ({count},), received {received}")
    if not bool(torch.isfinite(rewards).all()):
        raise ValueError("score: expected finite rewards, received NaN or infinity")
