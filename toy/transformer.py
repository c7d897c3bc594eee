"""Lesson 7: a language model of your own. It looks back only, is scored on the next token, and samples what it can score."""

from __future__ import annotations

from typing import Callable, Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from toy.einsum import attention_output, attention_scores
from toy.given.transformer import (
    LayerCache,
    initialise,
    require_apart,
    require_at_least,
    require_divisor,
    require_mask,
    require_predicted,
    require_room,
    require_sampled,
    require_sampling,
    require_scored,
    require_tokens,
)

# Two conventions of masks, each the one in use for its purpose. Attention: True = hidden (lesson 1). Tokens: True = a real one.


def causal_mask(time: int, past: int = 0, device: torch.device | str | None = None) -> Bool[Tensor, "time past+time"]:
    """What the newest `time` tokens of past + time must not look at: True where key j comes after query i (eq. 7.3).

    Query i is the token at place past + i; the keys are all past + time tokens. Every token sees itself.
    The mask is made on `device`. Raises ValueError for time < 1 or past < 0.
    """
    require_at_least("time", time, 1)
    require_at_least("past", past, 0)
    raise NotImplementedError("lesson 7: causal_mask")


class CausalSelfAttention(nn.Module):
    """Multi-head attention that looks back only (section 7.3; Vaswani et al. 2017, section 3.2).

    dim: width of a token's vector, in and out; heads: how many; head_dim = dim / heads is the width of one.
    The state dict is part of the contract. As in lesson 1 there are no biases:
        "qkv.weight": (3 * dim, dim)   first all rows that make queries, then keys, then values; inside each third the
                                       head_dim rows of head 0, then those of head 1, ...
        "out.weight": (dim, dim)       column h * head_dim + d reads entry d of head h's output
    Raises ValueError unless `heads` divides `dim`.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        require_divisor(dim, heads)
        self.heads, self.head_dim = heads, dim // heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        mask: Bool[Tensor, "batch past+time"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch time dim"]:
        """softmax(q k^T / sqrt(head_dim)) v in each head over the real tokens that are not later, then `out` (eq. 7.4).

        mask: True on real tokens; None: all are. Padding is hidden from every query. A query that sees no key at all (padding
        on the left) gets zeros before `out`, and no NaN arises, in no gradient either.
        cache: x holds the tokens after the cache.past tokens in it. Their keys and values join those in the cache
        (`cache.extend`, once), and the queries of x look at all of them. mask then covers all past + time tokens.
        Raises ValueError for a mask of another dtype or shape.
        """
        batch, time, dim = x.shape
        past = 0 if cache is None else cache.past
        require_mask(mask, (batch, past + time))
        raise NotImplementedError("lesson 7: CausalSelfAttention")


class Block(nn.Module):
    """One layer: attention, then a network for each token by itself, each added to the residual stream (section 7.4).

        x <- x + attention(norm_1(x)),    x <- x + down(gelu(up(norm_2(x))))    (eq. 7.6)

    Submodules have these names, parameters these shapes:
        norm_1, norm_2: nn.LayerNorm(dim)    attention: CausalSelfAttention(dim, heads)
        up.weight (4 * dim, dim)    up.bias (4 * dim,)    down.weight (dim, 4 * dim)    down.bias (dim,)
    gelu is the exact one, x Phi(x), `F.gelu`'s default. Source: Radford et al. 2019 (pre-norm as in GPT-2).
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        raise NotImplementedError("lesson 7: Block")

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        mask: Bool[Tensor, "batch past+time"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "batch time dim"]:
        """Eq. 7.6. `mask` and `cache` are the attention's."""
        raise NotImplementedError("lesson 7: Block")


class TinyGPT(nn.Module):
    """A decoder-only transformer: tokens in, logits of the next token out (section 7.5; Radford et al. 2019).

    vocabulary: number of tokens; context: the most tokens it can read; dim, heads: of each block; layers: number of blocks.
    Submodules have these names, parameters these shapes:
        token: nn.Embedding(vocabulary, dim)    position: nn.Embedding(context, dim)
        blocks: nn.ModuleList of `layers` Blocks    norm: nn.LayerNorm(dim)
    There is no output matrix: the logits are the inner products with the rows of token.weight (weight tying, Press and Wolf
    2017). There is no dropout: a token has the same probability when it is sampled and when it is scored.
    """

    def __init__(self, vocabulary: int, context: int, dim: int = 32, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.vocabulary, self.context = vocabulary, context
        raise NotImplementedError("lesson 7: TinyGPT")
        initialise(self)

    def new_cache(self) -> list[LayerCache]:
        """Given. An empty cache: one LayerCache for each block."""
        return [LayerCache() for _ in self.blocks]

    def forward(
        self,
        tokens: Int[Tensor, "batch time"],
        mask: Bool[Tensor, "batch past+time"] | None = None,
        cache: list[LayerCache] | None = None,
    ) -> Float[Tensor, "batch time vocabulary"]:
        """logits[:, t]: of the token that comes after tokens[:, t], given it and all before it (eq. 7.9).

        x = token + position vectors; the blocks in order; the last norm; inner products with every token's vector.
        mask: True on real tokens; None: all are. The position of a real token is the number of real tokens before it in its row:
        0, 1, 2, ... wherever the padding stands (eq. 7.10). What comes out at padding has no meaning, but is finite.
        cache: from `new_cache`, one entry a block: tokens are those after the past = cache[0].past ones it has read. mask covers
        all past + time tokens. Positions go on where they stopped. The logits, (batch, time, vocabulary), are those that one pass
        over everything would give for these tokens.
        Raises ValueError for tokens outside the vocabulary, more than `context` tokens, and a mask of another dtype or shape or
        with a row without a real token.
        """
        time, past = tokens.shape[-1], 0 if cache is None else cache[0].past
        require_tokens("tokens", tokens, self.vocabulary)
        require_room(past, time, self.context)
        require_mask(mask, (len(tokens), past + time))
        raise NotImplementedError("lesson 7: TinyGPT")


def next_token_loss(
    logits: Float[Tensor, "batch time vocabulary"], tokens: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, ""]:
    """The mean of -log p(token | tokens before it) over all predicted tokens of the batch, in nats (eq. 7.11).

    logits[:, t] are of the token after tokens[:, t]: they are scored against tokens[:, t + 1]. mask: True on real tokens, the
    end token included. A token is predicted if it is real and the one before it is real: not <bos>, not padding, on either side.
    The mean runs over all predicted tokens alike: a long sentence counts more than a short one.
    Stable: exact for logits as far apart as -200 and 200 in float32.
    Raises ValueError for shapes that do not fit, tokens outside the vocabulary, and a batch in which no token is predicted.
    """
    require_scored(logits, tokens, "mask", mask)
    require_predicted(mask)
    raise NotImplementedError("lesson 7: next_token_loss")


def pretrain(
    model: nn.Module,
    batches: Iterable[tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]],
    optimizer: torch.optim.Optimizer,
    learning_rate: Callable[[int], float] | None = None,
    max_norm: float = 1.0,
    after_step: Callable[[int], None] | None = None,
) -> Float[Tensor, "steps"]:
    """Train on the next token, one optimizer step a batch. Returns the loss of every batch, (steps,) float64, without a graph.

    model: `model(tokens, mask)` gives logits, as TinyGPT does.  batches: (tokens, mask) pairs, right or left padded.

    Step n = 0, 1, 2, ..., in this order:
    1. every parameter group of the optimizer gets the learning rate learning_rate(n), if one is given;
    2. logits of the batch, and their `next_token_loss`;
    3. the gradient of this loss alone;
    4. if the norm of the whole gradient is above `max_norm`, it is scaled down to it (`nn.utils.clip_grad_norm_`);
    5. one optimizer step;
    6. after_step(n), if given.
    Raises ValueError for max_norm <= 0.

    On the word world, TinyGPT(20, 13) with Adam(betas=(0.9, 0.95)), 600 batches of 64 and warmup_cosine(1e-2, 50, 600) comes
    within 2% of the entropy rate.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm: expected a positive number, received {max_norm}")
    raise NotImplementedError("lesson 7: pretrain")


def next_token_distribution(
    logits: Float[Tensor, "*batch vocabulary"], temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Float[Tensor, "*batch vocabulary"]:
    """The log-probabilities of the distribution that is sampled from (eq. 7.14, 7.16, 7.17): rows whose exponentials sum to 1.

    In this order, each row by itself:
    1. the logits are divided by the temperature;
    2. top_k: the k largest stay, with every token whose logit equals the k-th largest (ties stay); None or k >= vocabulary: all;
    3. top_p: of the distribution over what is left, a token stays if the tokens *more probable* than it have less than top_p
       together (so the most probable always stays, and equal tokens stay or go together); None or 1.0: all stay;
    4. what is left is normalised again; what is gone has -inf.
    Gradients flow to the logits that stay; those that went get 0, and nothing gets NaN. The dtype is that of `logits`.
    Raises ValueError for temperature <= 0 or infinite, top_k < 1 and top_p outside (0, 1].
    Sources: Fan et al. 2018 (top-k); Holtzman et al. 2020 (top-p, "nucleus").
    """
    require_sampling(temperature, top_k, top_p)
    raise NotImplementedError("lesson 7: next_token_distribution")


def sample_next(
    logits: Float[Tensor, "batch vocabulary"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch"]:
    """One token for each row, drawn from `next_token_distribution` of that row: (batch, vocabulary) -> (batch,) long.

    Rows are independent draws. All randomness comes from `generator`: the same state gives the same tokens.
    Raises ValueError as `next_token_distribution` does.
    """
    raise NotImplementedError("lesson 7: sample_next")


def completion_log_probs(
    logits: Float[Tensor, "batch time vocabulary"],
    tokens: Int[Tensor, "batch time"],
    sampled: Bool[Tensor, "batch time"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Tensor, "batch time-1"]:
    """The log-probability with which each sampled token was drawn, and 0 for all others (eq. 7.18).

    sampled: True on the tokens that `sample_next` drew with this temperature, top_k and top_p (the end token included); False on
    prompts and padding. Entry [b, t] is about tokens[b, t + 1], which logits[b, t] speak of; so the sum of a row is the
    log-probability of its completion. A token that could not have been drawn has -inf where `sampled` is True; elsewhere
    the entry is 0 whatever the logits say. No NaN arises, in no gradient either.
    Raises ValueError as `next_token_distribution` does, for shapes that do not fit, tokens outside the vocabulary, and a
    `sampled` that is True nowhere or in column 0.
    """
    require_scored(logits, tokens, "sampled", sampled)
    require_sampled(sampled)
    raise NotImplementedError("lesson 7: completion_log_probs")


def generate(
    model: nn.Module,
    prompts: Int[Tensor, "batch time"],
    max_new_tokens: int,
    *,
    eos: int,
    pad: int,
    mask: Bool[Tensor, "batch time"] | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
) -> tuple[Int[Tensor, "batch columns"], Bool[Tensor, "batch columns"]]:
    """Continue each prompt until it has drawn `eos`, by at most `max_new_tokens`. Returns (tokens, sampled), section 7.11.

    model: `model(tokens, mask, cache)` gives logits and `model.new_cache()` an empty cache, as TinyGPT does.
    prompts: padded on the *left*, so that every prompt ends in the last column. mask: True on real tokens; None: all are.
    tokens: the prompts and the new columns; after its `eos` a row gets `pad`.  sampled: True on the tokens that were drawn and
    count: the `eos` itself does, padding and prompt do not.

    Each round, until every row has ended or `max_new_tokens` columns are added (the tokens have no more columns than that took):
    1. the model reads what is new, with the mask of everything so far (True on the prompts' real tokens and on drawn ones). With
       a cache that is the whole prompts in the first round and one column in each later one; without, everything every time;
    2. one call of `sample_next` for the whole batch, with the logits of the last column and all the settings; a row that has
       ended draws too, and the draw is thrown away.
    No graph is built. Raises ValueError for max_new_tokens < 1, for eos = pad, and as the model and `sample_next` do.
    """
    require_at_least("max_new_tokens", max_new_tokens, 1)
    require_apart(eos, pad)
    raise NotImplementedError("lesson 7: generate")
