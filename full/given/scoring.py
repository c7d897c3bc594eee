"""Log-probabilities of what was written, with logits where they are needed and nowhere else."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .rollout import warped
from .text import Rollout, position_ids


def single(values: Tensor) -> Tensor:
    """The same values in float32 if they have fewer digits: in mixed precision logits come out with three."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def chosen_log_probs(logits: Float[Tensor, "... vocabulary"], tokens: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log softmax(logits)[token], by one cross entropy; 0, without a gradient, where the token is -100, which scores nothing."""
    flat = single(logits.reshape(-1, logits.shape[-1]))  # a sum over the vocabulary needs the digits
    return -nn.functional.cross_entropy(flat, tokens.reshape(-1), reduction="none").view(tokens.shape)


PLAIN_HEADS = ("gpt2", "llama", "mistral", "qwen2", "qwen3")
"Architectures (`config.model_type`) whose logits are their last hidden state times a matrix, and nothing else."


def logits_where(
    model: nn.Module,
    input_ids: Int[Tensor, "batch length"],
    attention_mask: Int[Tensor, "batch length"],
    wanted: Bool[Tensor, "batch length"],
) -> Float[Tensor, "places vocabulary"]:
    """A causal language model's logits at the wanted places alone, row by row: of prompts and padding none are made.

    They are the same numbers as `model(...).logits[wanted]`, which makes all of them first: with 50,000 words most of the memory,
    and at small sizes most of the time. A model that does more to its logits, or whose `forward` somebody has wrapped (for several
    processes, for mixed precision), is asked for the columns from the first wanted one on.
    Padding stands on the right.
    """
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "use_cache": False}
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind in PLAIN_HEADS and not hasattr(model, "_original_forward"):  # accelerate keeps the unwrapped one under that name
        return model.get_output_embeddings()(model.base_model(**inputs).last_hidden_state[wanted])  # (N, V)
    columns = wanted.any(dim=0).nonzero()
    first = int(columns[0]) if len(columns) else wanted.shape[1] - 1
    return model(**inputs, logits_to_keep=wanted.shape[1] - first).logits[wanted[:, first:]]


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
