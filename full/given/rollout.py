"""Sampling from a language model, as fast as it goes without changing what is drawn."""

from __future__ import annotations

import inspect

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .text import Prompts, Rollout, position_ids


def warped(logits: Float[Tensor, "... vocabulary"], temperature: float = 1.0, top_k: int = 0) -> Float[Tensor, "... vocabulary"]:
    """The logits of the distribution that is sampled: divided by the temperature, all but the `top_k` largest at -inf (0: all stay).

    Whoever scores what was sampled must score it with the same (lesson 7: sampler = scorer). Ties with the k-th largest stay.
    """
    if temperature != 1.0:
        logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        kth = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    return logits


def drawn(logits: Float[Tensor, "batch vocabulary"], uniform: Float[Tensor, "batch"]) -> Int[Tensor, "batch"]:
    """One token a row by inverse CDF: the first whose cumulative probability exceeds `uniform`, in [0, 1).

    One number a row in place of one for each word of the vocabulary, and the same number gives the same token wherever the row
    stands: in which process, beside which others.
    """
    cumulative = logits.float().softmax(-1).cumsum(-1)  # (B, V)
    threshold = uniform.unsqueeze(1).to(cumulative) * cumulative[:, -1:]
    token = torch.searchsorted(cumulative, threshold, right=True).squeeze(1)
    return token.clamp(max=logits.shape[-1] - 1)


def cache_keyword(policy: nn.Module) -> str:
    """What this version of the library calls a model's key-value cache as an argument."""
    forward = getattr(policy, "module", policy).forward  # a model divided among processes is wrapped
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def rollout(
    policy: nn.Module,
    prompts: Prompts,
    new_tokens: int,
    *,
    eos_token_id: int | None,
    pad_token_id: int,
    temperature: float = 1.0,
    top_k: int = 0,
    generator: torch.Generator | None = None,
) -> Rollout:
    """Samples up to `new_tokens` tokens after every prompt, with a key-value cache and dropout off.

    policy: a Hugging Face causal language model. generator: on the CPU; the same state gives the same tokens, whatever the device
    and however the batch is divided among processes (`prompts.rows`). Stops when every row has its EOS.
    """
    device, batch = prompts.input_ids.device, len(prompts)
    whole = batch if prompts.whole is None else prompts.whole
    uniforms = torch.rand(new_tokens, whole, generator=generator)  # all processes draw all of them and keep their own
    uniforms = (uniforms if prompts.rows is None else uniforms[:, prompts.rows.cpu()]).to(device)
    was_training = policy.training
    policy.eval()
    try:
        with torch.inference_mode():
            written, attention = _written(policy, prompts, uniforms, eos_token_id, pad_token_id, temperature, top_k)
    finally:
        policy.train(was_training)
    missing = new_tokens - written.shape[1]  # always the same shape: processes and batches can be put together
    written = nn.functional.pad(written.clone(), (0, missing), value=pad_token_id)
    attention = nn.functional.pad(attention.clone(), (0, missing))
    return Rollout(torch.cat([prompts.input_ids, written], dim=1), attention, prompts.input_ids.shape[1])


def _written(policy, prompts, uniforms, eos_token_id, pad_token_id, temperature, top_k):
    """(tokens written, attention mask of the whole rows), token by token."""
    attention, tokens, cache, keyword = prompts.attention_mask, [], None, cache_keyword(policy)
    inputs, places = prompts.input_ids, position_ids(attention)
    going = torch.ones(len(prompts), dtype=torch.bool, device=inputs.device)
    for t, uniform in enumerate(uniforms):
        out = policy(
            input_ids=inputs, attention_mask=attention, position_ids=places, use_cache=True, logits_to_keep=1, **{keyword: cache}
        )
        cache = out[keyword] if keyword in out else out.past_key_values
        token = torch.where(going, drawn(warped(out.logits[:, -1], temperature, top_k), uniform), pad_token_id)
        tokens.append(token)
        attention = torch.cat([attention, going.unsqueeze(1).to(attention)], dim=1)
        if eos_token_id is not None:
            going = going & (token != eos_token_id)
            if t % 8 == 7 and not going.any():  # to ask costs a wait for the device
                break
        inputs, places = token.unsqueeze(1), places[:, -1:] + 1
    return torch.stack(tokens, dim=1), attention
