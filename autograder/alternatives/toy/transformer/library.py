"""What PyTorch brings along: its attention, its cross-entropy, its distributions; drawn tokens written into one tensor."""

import math

import torch
import torch.nn.functional as F
from torch import nn


def causal_mask(time, past=0, device=None):
    require_at_least("time", time, 1)  # noqa: F821 (given, in the file this is appended to)
    require_at_least("past", past, 0)  # noqa: F821
    return torch.ones(time, past + time, dtype=torch.bool, device=device).triu(past + 1)


class CausalSelfAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)

    def forward(self, x, mask=None, cache=None):
        past = 0 if cache is None else cache.past
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        if cache is not None:
            k, v = cache.extend(k, v)
        if mask is None and past == 0:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            seen = ~causal_mask(x.shape[1], past)
            seen = seen if mask is None else seen & mask[:, None, None, :]
            blind = ~seen.any(-1, keepdim=True)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen | blind).masked_fill(blind, 0.0)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = CausalSelfAttention(dim, heads)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x, mask=None, cache=None):
        x = self.attention(self.norm_1(x), mask=mask, cache=cache).add(x)
        hidden = self.up(self.norm_2(x))
        return self.down(hidden * torch.special.ndtr(hidden)) + x


class TinyGPT(nn.Module):
    def __init__(self, vocabulary, context, dim=32, heads=4, layers=2):
        super().__init__()
        self.vocabulary, self.context = vocabulary, context
        self.token, self.position = nn.Embedding(vocabulary, dim), nn.Embedding(context, dim)
        self.blocks = nn.ModuleList([Block(dim, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(dim)

    def new_cache(self):
        return [LayerCache() for _ in self.blocks]  # noqa: F821

    def forward(self, tokens, mask=None, cache=None):
        past = 0 if cache is None else cache[0].past
        time = tokens.shape[1]
        require_tokens("tokens", tokens, self.vocabulary)  # noqa: F821
        require_room(past, time, self.context)  # noqa: F821
        require_mask(mask, (len(tokens), past + time))  # noqa: F821
        if mask is None:
            mask = tokens.new_ones(len(tokens), past + time, dtype=torch.bool)
        before = mask.long().cumsum(-1) - mask.long()  # real tokens before each: the same on real ones, and never negative
        x = self.token(tokens) + F.embedding(before[:, past:].clamp(max=self.context - 1), self.position.weight)
        for block, part in zip(self.blocks, cache or [None] * len(self.blocks)):
            x = block(x, mask, part)
        return F.linear(self.norm(x), self.token.weight)


def next_token_loss(logits, tokens, mask):
    require_scored(logits, tokens, "mask", mask)  # noqa: F821
    require_predicted(mask)  # noqa: F821
    targets = tokens[:, 1:].masked_fill(~(mask[:, 1:] & mask[:, :-1]), -100)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=-100)


def pretrain(model, batches, optimizer, learning_rate=None, max_norm=1.0, after_step=None):
    """The norm by hand."""
    losses = []
    for tokens, mask in batches:
        step = len(losses)
        if learning_rate is not None:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step)
        model.zero_grad()
        loss = next_token_loss(model(tokens, mask), tokens, mask)
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
        for gradient in gradients:
            gradient *= min(1.0, max_norm / norm)
        optimizer.step()
        losses.append(float(loss.detach()))
        if after_step:
            after_step(step)
    return torch.tensor(losses, dtype=torch.float64)


def sample_next(logits, temperature=1.0, top_k=None, top_p=None, generator=None):
    """The largest of log-probability plus Gumbel noise is a draw from the softmax."""
    log_probs = next_token_distribution(logits, temperature, top_k, top_p)  # noqa: F821
    noise = torch.empty_like(log_probs).exponential_(generator=generator).log()
    return (log_probs - noise).argmax(dim=-1)


def completion_log_probs(logits, tokens, sampled, temperature=1.0, top_k=None, top_p=None):
    require_scored(logits, tokens, "sampled", sampled)  # noqa: F821
    require_sampled(sampled)  # noqa: F821
    rows, columns = sampled[:, 1:].nonzero(as_tuple=True)
    log_probs = next_token_distribution(logits[rows, columns], temperature, top_k, top_p)  # noqa: F821
    picked = -F.nll_loss(log_probs, tokens[rows, columns + 1], reduction="none")
    return torch.zeros_like(logits[:, 1:, 0]).index_put((rows, columns), picked)


@torch.no_grad()
def generate(
    model, prompts, max_new_tokens, *, eos, pad, mask=None, generator=None, use_cache=True, **settings
):
    require_at_least("max_new_tokens", max_new_tokens, 1)  # noqa: F821
    require_apart(eos, pad)  # noqa: F821
    batch, time = prompts.shape
    tokens = torch.cat([prompts, prompts.new_full((batch, max_new_tokens), pad)], dim=1)
    real = torch.zeros(tokens.shape, dtype=torch.bool)
    real[:, :time] = True if mask is None else mask
    cache, read, done = model.new_cache() if use_cache else None, 0, torch.zeros(batch, dtype=torch.bool)
    for end in range(time, time + max_new_tokens):
        logits = model(tokens[:, read:end], real[:, :end], cache)[:, -1]
        read = end if use_cache else 0
        drawn = sample_next(logits, generator=generator, **settings)
        tokens[~done, end], real[~done, end] = drawn[~done], True
        done |= drawn == eos
        if done.all():
            break
    sampled = real.clone()
    sampled[:, :time] = False
    return tokens[:, : end + 1], sampled[:, : end + 1]
