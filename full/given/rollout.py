"""Sampling from a language model, as fast as it goes without changing what is drawn."""

from __future__ import annotations

import inspect
from typing import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .text import Prompts, Rollout, position_ids

Steps = Callable[[Tensor | None, Tensor], Tensor]
"Tokens just written, and which rows they are real in -> the logits of the next ones."


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

    policy: a Hugging Face causal language model, or an encoder-decoder as T5 is (its encoder reads the prompts).
    generator: on the CPU; the same state gives the same tokens, whatever the device and however the batch is divided among
    processes (`prompts.rows`). Stops when every row has its EOS.
    """
    device, batch = prompts.input_ids.device, len(prompts)
    whole = batch if prompts.whole is None else prompts.whole
    uniforms = torch.rand(new_tokens, whole, generator=generator)  # all processes draw all of them and keep their own
    uniforms = (uniforms if prompts.rows is None else uniforms[:, prompts.rows.cpu()]).to(device)
    was_training = policy.training
    policy.eval()
    try:
        with torch.inference_mode():
            logits = encoder_decoder_steps if is_encoder_decoder(policy) else decoder_only_steps
            steps = logits(policy, prompts)
            written, going, support = _written(steps, prompts, uniforms, eos_token_id, pad_token_id, temperature, top_k)
    finally:
        policy.train(was_training)
    missing = new_tokens - written.shape[1]  # always the same shape: processes and batches can be put together
    written = nn.functional.pad(written.clone(), (0, missing), value=pad_token_id)
    going = nn.functional.pad(going.clone(), (0, missing))
    if support is not None:
        support = nn.functional.pad(support.clone(), (0, 0, 0, missing), value=-1)
    attention = torch.cat([prompts.attention_mask, going.to(prompts.attention_mask)], dim=1)
    return Rollout(torch.cat([prompts.input_ids, written], dim=1), attention, prompts.input_ids.shape[1], support)


def is_encoder_decoder(policy: nn.Module) -> bool:
    """Whether a model reads its prompts with an encoder of their own, as T5 does."""
    return bool(getattr(getattr(getattr(policy, "module", policy), "config", None), "is_encoder_decoder", False))


def decoder_only_steps(policy: nn.Module, prompts: Prompts) -> Steps:
    """A function of the tokens just written (None at first) and of who goes on: the logits of the next ones, (batch, vocabulary)."""
    attention, cache, keyword, places = prompts.attention_mask, None, cache_keyword(policy), position_ids(prompts.attention_mask)

    def step(token: Tensor | None, going: Tensor) -> Tensor:
        nonlocal attention, cache, places
        inputs = prompts.input_ids
        if token is not None:
            attention = torch.cat([attention, going.unsqueeze(1).to(attention)], dim=1)
            inputs, places = token.unsqueeze(1), places[:, -1:] + 1
        out = policy(
            input_ids=inputs, attention_mask=attention, position_ids=places, use_cache=True, logits_to_keep=1, **{keyword: cache}
        )
        cache = out[keyword] if keyword in out else out.past_key_values
        return out.logits[:, -1]

    return step


def encoder_decoder_steps(policy: nn.Module, prompts: Prompts) -> Steps:
    """The same for an encoder-decoder: its encoder reads the prompts once, its decoder begins with the start token."""
    encoded, cache, keyword = None, None, cache_keyword(policy)

    def step(token: Tensor | None, going: Tensor) -> Tensor:
        nonlocal encoded, cache
        if token is None:
            encoded = policy.get_encoder()(input_ids=prompts.input_ids, attention_mask=prompts.attention_mask)
            token = torch.full_like(prompts.input_ids[:, 0], policy.config.decoder_start_token_id)
        out = policy(
            encoder_outputs=encoded,
            attention_mask=prompts.attention_mask,
            decoder_input_ids=token.unsqueeze(1),
            use_cache=True,
            **{keyword: cache},
        )
        cache = out[keyword] if keyword in out else out.past_key_values
        return out.logits[:, -1]

    return step


def support_of(logits: Float[Tensor, "batch vocabulary"], top_k: int) -> Int[Tensor, "batch kept"]:
    """The tokens that warped logits leave, by id, -1 where there are fewer than columns. Room for `top_k` ties, which stay too."""
    vocabulary = logits.shape[-1]
    values, ids = logits.topk(min(vocabulary, max(2 * top_k, 64)), dim=-1)
    return ids.masked_fill(values == -torch.inf, -1)


def _written(steps, prompts, uniforms, eos_token_id, pad_token_id, temperature, top_k):
    """(tokens written, which of them are real, the tokens that could have come), token by token."""
    tokens, real, supports, token = [], [], [], None
    going = torch.ones(len(prompts), dtype=torch.bool, device=prompts.input_ids.device)
    was_going = going
    for t, uniform in enumerate(uniforms):
        logits = steps(token, was_going)
        kept = warped(logits, temperature, top_k)
        if 0 < top_k < logits.shape[-1]:
            supports.append(support_of(kept, top_k))
        token = torch.where(going, drawn(kept, uniform), pad_token_id)
        tokens.append(token)
        real.append(going)
        was_going = going
        if eos_token_id is not None:
            going = going & (token != eos_token_id)
            if t % 8 == 7 and not going.any():  # to ask costs a wait for the device
                break
    support = None
    if supports:
        support = torch.stack(supports, dim=1)  # (B, T, room)
        support = support[..., : int((support >= 0).sum(-1).max())]
    return torch.stack(tokens, dim=1), torch.stack(real, dim=1), support
