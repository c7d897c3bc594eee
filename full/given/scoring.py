"""Log-probabilities of what was written, with logits where they are needed and nowhere else."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .rollout import warped
from .text import Rollout, position_ids


def chosen_log_probs(logits: Float[Tensor, "... vocabulary"], tokens: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log softmax(logits)[token], by one cross entropy; 0, without a gradient, where the token is -100, which scores nothing."""
    flat = logits.reshape(-1, logits.shape[-1])
    if flat.dtype in (torch.bfloat16, torch.float16):  # a sum over the vocabulary needs more digits than these have
        flat = flat.float()
    return -nn.functional.cross_entropy(flat, tokens.reshape(-1), reduction="none").view(tokens.shape)


def completion_logits(policy: nn.Module, rollout: Rollout) -> Float[Tensor, "batch time vocabulary"]:
    """The logits before every token of the completions: position t's logits are for token t + 1, so they begin one column early."""
    time = rollout.tokens.shape[1] - rollout.prompt_length
    out = policy(
        input_ids=rollout.tokens[:, :-1],  # nothing is asked about what follows the last token
        attention_mask=rollout.attention_mask[:, :-1],
        position_ids=position_ids(rollout.attention_mask[:, :-1]),
        use_cache=False,
        logits_to_keep=time,
    )
    return out.logits  # (B, T, V)


def completion_log_probs(
    policy: nn.Module, rollout: Rollout, temperature: float = 1.0, top_k: int = 0
) -> Float[Tensor, "batch time"]:
    """log pi(token | what stands before it) of the completions' tokens under the distribution that is sampled; 0 off the mask."""
    logits = warped(completion_logits(policy, rollout), temperature, top_k)
    return chosen_log_probs(logits, rollout.completion).masked_fill(~rollout.mask, 0.0)
