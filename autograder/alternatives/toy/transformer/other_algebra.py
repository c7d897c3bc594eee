"""Softmax by exponentials, LayerNorm and positions by hand, top-k and top-p by ranks, positions as a one-hot product."""

import torch
from torch import nn


class CausalSelfAttention(nn.Module):
    """exp(scores - the row's maximum over what it sees), divided by its sum where that is not 0."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)

    def forward(self, x, mask=None, cache=None):
        past = 0 if cache is None else cache.past
        time = x.shape[1]
        projected = torch.einsum("btd,ed->bte", x, self.qkv.weight).unflatten(-1, (3, self.heads, self.head_dim))
        q, k, v = projected.movedim(1, 3).unbind(1)  # each (B, H, T, D)
        if cache is not None:
            k, v = cache.extend(k, v)
        seen = (torch.arange(past + time) <= torch.arange(past, past + time)[:, None])[None, None]
        if mask is not None:
            seen = seen & mask[:, None, None, :]
        scores = torch.einsum("bhid,bhjd->bhij", q / self.head_dim**0.5, k)
        top = scores.detach().masked_fill(~seen, -torch.inf).amax(-1, keepdim=True).clamp(min=-1e300)
        weights = torch.where(seen, (scores - top).clamp(max=0.0 if past else 1e-9).exp(), 0.0)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)
        return torch.einsum("bhij,bhjd,ehd->bie", weights, v, self.out.weight.unflatten(-1, (self.heads, self.head_dim)))


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.norm_1 = nn.LayerNorm(dim)
        self.attention = CausalSelfAttention(dim, heads)
        self.norm_2 = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)

    def forward(self, x, mask=None, cache=None):
        x = x + self.attention(_norm(self.norm_1, x), mask, cache)
        inner = self.up(_norm(self.norm_2, x))
        return x + self.down(inner * torch.erfc(-inner / 2**0.5) / 2)


def _norm(layer, x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / ((centred**2).mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def next_token_distribution(logits, temperature=1.0, top_k=None, top_p=None):
    """A token's rank is the number of better ones; the mass above it their sum: matrices of comparisons, no sorting."""
    require_sampling(temperature, top_k, top_p)  # noqa: F821 (given, in the file this is appended to)
    scaled = logits / temperature
    better = scaled.unsqueeze(-1) > scaled.unsqueeze(-2)  # (..., better, worse)
    keep = torch.ones_like(scaled, dtype=torch.bool)
    if top_k is not None:
        keep = keep & (better.sum(-2) < top_k)
    if top_p is not None and top_p != 1:
        probs = torch.where(keep, (scaled - scaled.amax(-1, keepdim=True)).exp(), 0.0)
        probs = probs / probs.sum(-1, keepdim=True)
        keep = keep & ((probs.unsqueeze(-1) * better).sum(-2) < top_p)
    total = scaled.masked_fill(~keep, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.where(keep, scaled - total, -torch.inf)


def sample_next(logits, temperature=1.0, top_k=None, top_p=None, generator=None):
    """By the inverse of the distribution function: the first token whose cumulated probability is above a uniform number."""
    probs = next_token_distribution(logits, temperature, top_k, top_p).exp()
    uniform = torch.rand(len(logits), 1, generator=generator, dtype=torch.float64)
    return (probs.double().cumsum(-1) / probs.double().sum(-1, keepdim=True) <= uniform).sum(-1)


def next_token_loss(logits, tokens, mask):
    """One-hot targets and a weighted mean."""
    require_scored(logits, tokens, "mask", mask)  # noqa: F821
    require_predicted(mask)  # noqa: F821
    weights = (mask[:, 1:] & mask[:, :-1]).to(logits.dtype)
    targets = torch.nn.functional.one_hot(tokens[:, 1:], logits.shape[-1]).to(logits.dtype)
    before = logits[:, :-1]
    losses = before.logsumexp(-1) - (before * targets).sum(-1)
    return (losses * weights).sum() / weights.sum()


def pretrain(model, batches, optimizer, learning_rate=None, max_norm=1.0, after_step=None):
    """Gradients by autograd.grad, and the schedule as a rate put in at each step."""
    losses, parameters = [], [p for p in model.parameters() if p.requires_grad]
    for step, (tokens, mask) in enumerate(batches):
        loss = next_token_loss(model(tokens, mask), tokens, mask)
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient * torch.clamp(max_norm / norm, max=1.0)
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] if learning_rate is None else learning_rate(step)
        optimizer.step()
        losses.append(loss.detach().double())
        if after_step is not None:
            after_step(step)
    return torch.stack(losses)


def generate(
    model, prompts, max_new_tokens, *, eos, pad, mask=None, generator=None, use_cache=True, **settings
):
    """Columns in lists; whether a row has ended is read off the columns."""
    require_at_least("max_new_tokens", max_new_tokens, 1)  # noqa: F821
    require_apart(eos, pad)  # noqa: F821
    real, columns, flags = (mask if mask is not None else prompts >= 0), [prompts], []
    cache = model.new_cache() if use_cache else None
    ended = torch.zeros(len(prompts), dtype=torch.bool)
    with torch.inference_mode():
        while len(flags) < max_new_tokens and not ended.all():
            new = torch.cat(columns, 1) if cache is None else columns[-1]
            logits = model(new, torch.cat([real, *flags], 1), cache)
            drawn = sample_next(logits[:, -1], generator=generator, **settings)  # noqa: F821
            columns.append(drawn.masked_fill(ended, pad)[:, None])
            flags.append(~ended[:, None])
            ended = torch.cat(columns[1:], 1).eq(eos).any(1)
    return torch.cat(columns, 1).clone(), torch.cat([torch.zeros_like(real), *flags], 1).clone()
