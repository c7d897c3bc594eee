"""Lesson 14: the settings of PPO on real language models, and what passes between its parts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from full.given.settings import require_one_of
from full.given.text import Prompts, Rollout
from toy.given.ppo import require_fraction, require_not_negative, require_positive, setting

VALUE_MODELS = ("own", "shared")

Span = tuple[int, float]
"A value with the place it belongs to: how many characters of the completion stand before its end."
Reward = Callable[[Sequence[str], Sequence[str]], Sequence[float | Sequence[Span]]]
"(texts of the prompts, texts of the completions) -> for each row one number for the whole answer, or a list of spans."


@dataclass(frozen=True)
class PPOConfig:
    """PPO on a language model (lesson 14)."""

    new_tokens: int = setting(48, "Length of a completion, at most.")
    temperature: float = setting(0.7, "Divides the logits, where tokens are drawn and where they are scored.")
    top_k: int = setting(20, "Tokens are drawn among the k likeliest, and scored within those; 0: among all.")
    ppo_epochs: int = setting(4, "How often each rollout is gone through.")
    minibatch_size: int = setting(32, "Completions in one step of the optimizer.")
    gamma: float = setting(1.0, "Discount of the next token's reward.")
    lam: float = setting(0.95, "Lambda of generalized advantage estimation.")
    clip: float = setting(0.2, "How far from 1 the ratio of new to old probability is followed.")
    value_clip: float = setting(0.2, "How far from the old value the new one is followed, in units of reward.")
    value_coef: float = setting(0.1, "Weight of the value loss.")
    value_model: str = setting("own", "own: the value model is a network of its own; shared: a head on the policy's.")
    kl_coef: float = setting(0.05, "Beta: units of reward that one nat away from the reference costs, token by token.")
    target_kl: float = setting(0.0, "KL a completion, in nats, that an adaptive kl_coef steers to; 0: kl_coef is fixed.")
    horizon: float = setting(2000.0, "Completions in which an adaptive kl_coef can change by a factor of about e^0.2.")
    stop_kl: float = setting(0.0, "A rollout is left as soon as approx_kl (nats a token) is above this; 0: it never is.")
    eos_penalty: float = setting(1.0, "Reward taken from a completion that has no EOS, at its last token.")
    bootstrap: bool = setting(False, "Whether the value behind a cut-off completion stands for what would have come.")
    whiten: bool = setting(True, "Whether advantages are whitened over the whole rollout.")

    def __post_init__(self) -> None:
        getattr(super(), "__post_init__", lambda: None)()
        for name in ("new_tokens", "temperature", "ppo_epochs", "minibatch_size", "clip", "value_clip", "horizon"):
            require_positive(name, getattr(self, name))
        for name in ("top_k", "value_coef", "kl_coef", "target_kl", "stop_kl", "eos_penalty"):
            require_not_negative(name, getattr(self, name))
        for name in ("gamma", "lam"):
            require_fraction(name, getattr(self, name))
        require_one_of("value_model", self.value_model, VALUE_MODELS)


@dataclass(frozen=True)
class TextPrompts(Prompts):
    """A batch of prompts with the texts they were made of: what a reward is told, whatever tokenizer it reads with."""

    texts: tuple[str, ...] = ()

    def repeated(self, times: int) -> TextPrompts:
        plain = super().repeated(times)
        texts = tuple(text for text in self.texts for _ in range(times))
        return TextPrompts(plain.input_ids, plain.attention_mask, plain.rows, plain.whole, texts)


@dataclass(frozen=True)
class Experience:
    """A rollout with all that was known of it when it was written. Nothing here changes or has a gradient."""

    rollout: Rollout
    log_probs: Float[Tensor, "batch time"]
    "Of the tokens, under the policy that drew them: the old policy."
    ref_log_probs: Float[Tensor, "batch time"]
    "Of the tokens under the reference, at the same temperature, over the whole vocabulary."
    values: Float[Tensor, "batch time_and_one"]
    "What the value model said before each token, and behind the last one."
    rewards: Float[Tensor, "batch time"]
    "The weighted rewards and the penalty for a missing EOS, each at its token; without the KL."
    scores: dict[str, Float[Tensor, "batch"]]
    "Each reward apart: the sum of its values in a row, unweighted."


def trimmed(rollout: Rollout, rows: slice) -> Rollout:
    """These rows without the columns that are padding in all of them: left of the prompts, right of the completions."""
    tokens, attention = rollout.tokens[rows], rollout.attention_mask[rows]
    used = attention.any(dim=0).nonzero().flatten()
    first = min(int(used[0]), rollout.prompt_length - 1) if len(used) else 0
    last = max(int(used[-1]) + 1, rollout.prompt_length + 1) if len(used) else tokens.shape[1]
    support = None if rollout.support is None else rollout.support[rows, : last - rollout.prompt_length]
    return replace(
        rollout,
        tokens=tokens[:, first:last],
        attention_mask=attention[:, first:last],
        prompt_length=rollout.prompt_length - first,
        support=support,
    )


def minibatches(rollout: Rollout, size: int) -> Iterator[tuple[slice, Rollout]]:
    """(which rows, those rows trimmed), rows in order, the last minibatch may have fewer.

    A minibatch's completions may be narrower than the rollout's: what is known of them is `[rows, : part.completion.shape[1]]`.
    """
    for first in range(0, len(rollout), size):
        rows = slice(first, first + size)
        yield rows, trimmed(rollout, rows)


def stacked(parts: Sequence[Tensor], width: int) -> Tensor:
    """Minibatches of (rows, time) under each other, each filled up with 0 to `width` columns."""
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])


def completion_texts(tokenizer: Any, rollout: Rollout) -> list[str]:
    """What the policy wrote, as text, without special tokens: what a reward of any tokenizer can read."""
    rows = [tokens[mask].tolist() for tokens, mask in zip(rollout.completion.cpu(), rollout.mask.cpu())]
    return tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def token_ends(tokenizer: Any, rollout: Rollout) -> Tensor:
    """(batch, time) long, on the CPU: characters of the text up to and including each token. Never falls along a row.

    Measured on decoded beginnings of the row, so that it holds for every tokenizer, and for tokens no tokenizer would have made.
    """
    ends = torch.zeros(rollout.completion.shape, dtype=torch.long)
    rows = [tokens[mask].tolist() for tokens, mask in zip(rollout.completion.cpu(), rollout.mask.cpu())]
    beginnings = [row[: t + 1] for row in rows for t in range(len(row))]
    texts = tokenizer.batch_decode(beginnings, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    place = 0
    for b, row in enumerate(rows):
        lengths = torch.tensor([len(text) for text in texts[place : place + len(row)]], dtype=torch.long)
        ends[b, : len(row)] = lengths.cummax(0).values if len(row) else lengths
        ends[b, len(row) :] = ends[b, len(row) - 1] if len(row) else 0
        place += len(row)
    return ends


def repetition(text: str) -> float:
    """The share of a text's word pairs that stood in it before: 0 if none comes twice, near 1 for one phrase over and over."""
    words = text.split()
    pairs = list(zip(words, words[1:]))
    return 1 - len(set(pairs)) / len(pairs) if pairs else 0.0


def value_head(width: int, like: Tensor) -> torch.nn.Linear:
    """A layer from a hidden state to one number, all zeros at first: the first values are 0, and draw nothing from the seed."""
    head = torch.nn.Linear(width, 1, device=like.device, dtype=like.dtype)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return head
