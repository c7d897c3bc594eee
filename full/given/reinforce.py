"""What lesson 9 gives: the figures of a rollout for the log, and the refusal of input that makes no sense."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .text import Rollout


def completion_metrics(rollout: Rollout, log_probs: Float[Tensor, "batch time"], eos_token_id: int | None) -> dict[str, Tensor]:
    """What the log says of a rollout beside its reward; log_probs are 0 off the mask.

    entropy: minus the mean log-probability of the tokens drawn, nats a token: an estimate of the policy's entropy.
    completion_length: tokens a row, the EOS included.  eos_rate: the share of rows that ended by themselves.
    """
    mask = rollout.mask
    ended = torch.zeros_like(mask) if eos_token_id is None else (rollout.completion == eos_token_id) & mask
    return {
        "entropy": -log_probs.detach().sum() / mask.sum(),
        "completion_length": mask.sum(dim=1).double().mean(),
        "eos_rate": ended.any(dim=1).double().mean(),
    }


def require_tokens(name: str, tokens: Tensor, least: int = 1) -> None:
    """Raises ValueError unless `tokens` is (batch, length) integers with at least `least` columns."""
    kind_fits = not (tokens.is_floating_point() or tokens.dtype == torch.bool)
    if tokens.ndim != 2 or tokens.shape[-1] < least or not kind_fits:
        expected = f"integers of shape (batch, length) with length {least} or more"
        raise ValueError(f"{name}: expected {expected}, received {tokens.dtype} of shape {tuple(tokens.shape)}")


def require_logits(logits: Tensor, tokens: Tensor) -> None:
    """Raises ValueError unless there is a row of logits for every token, and every token is in their vocabulary."""
    if logits.ndim != 3 or logits.shape[:2] != tokens.shape:
        expected = f"shape (batch, length, vocabulary) for tokens of shape {tuple(tokens.shape)}"
        raise ValueError(f"logits: expected {expected}, received shape {tuple(logits.shape)}")
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < logits.shape[-1]:
        received = f"{int(tokens.min())} to {int(tokens.max())}"
        raise ValueError(f"tokens: expected tokens from 0 to {logits.shape[-1] - 1}, received {received}")


def require_prompt_length(name: str, length: int, columns: int) -> None:
    """Raises ValueError unless a prompt of this length, 1 or more, leaves a completion in this many columns."""
    if not 1 <= length < columns:
        raise ValueError(f"{name}: expected from 1 to {columns - 1} of {columns} columns, received {length}")


def require_pad_is_not_eos(pad_token_id: int, eos_token_id: int | None) -> None:
    """Raises ValueError if padding is the end token: nothing could tell where a completion ends."""
    if pad_token_id == eos_token_id:
        raise ValueError(f"pad_token_id: expected another token than eos_token_id, received {pad_token_id} for both")


def require_rewards(name: str, rewards: Tensor, batch: int | None = None) -> None:
    """Raises ValueError unless there is one finite number for each of `batch` rows (None: any number of rows, one or more)."""
    if rewards.ndim != 1 or len(rewards) == 0 or (batch is not None and len(rewards) != batch):
        expected = f"shape ({'batch' if batch is None else batch},), one number a row"
        raise ValueError(f"{name}: expected {expected}, received shape {tuple(rewards.shape)}")
    if not rewards.isfinite().all():
        raise ValueError(f"{name}: expected finite numbers, received {rewards[~rewards.isfinite()][0].item()}")


def require_left_padding(attention_mask: Tensor | None, tokens: Tensor, prompt_length: int) -> None:
    """Raises ValueError unless the mask has the tokens' shape and every prompt ends in its last column."""
    if attention_mask is None:
        return
    if attention_mask.shape != tokens.shape:
        expected, received = tuple(tokens.shape), tuple(attention_mask.shape)
        raise ValueError(f"attention_mask: expected shape {expected}, received shape {received}")
    if not (attention_mask[:, prompt_length - 1] != 0).all():
        row = int((attention_mask[:, prompt_length - 1] == 0).nonzero()[0])
        expected = f"prompts padded on the left, with a real token in column {prompt_length - 1}"
        raise ValueError(f"attention_mask: expected {expected}, received padding there in row {row}")


def require_groups(group_size: int, rows: int) -> None:
    """Raises ValueError unless groups of this size, 2 or more, fill the rows."""
    if group_size < 2 or rows % group_size:
        raise ValueError(f"group_size: expected a divisor of the {rows} rows, 2 or more, received {group_size}")
