"""By the definitions, with loops: over queries, heads, tokens of the vocabulary, sentences."""

import math

import torch
from torch import nn


def causal_mask(time, past=0, device=None):
    require_at_least("time", time, 1)  # noqa: F821 (given, in the file this is appended to)
    require_at_least("past", past, 0)  # noqa: F821
    return torch.tensor([[j > past + i for j in range(past + time)] for i in range(time)], device=device)


class CausalSelfAttention(nn.Module):
    """Each query takes the softmax over the keys it sees; there is nothing to hide."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)

    def forward(self, x, mask=None, cache=None):
        batch, time, dim = x.shape
        past = 0 if cache is None else cache.past
        q, k, v = self.qkv(x).reshape(batch, time, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = cache.extend(k, v)
        rows = []
        for b in range(batch):
            for i in range(time):
                seen = [j for j in range(past + i + 1) if mask is None or mask[b, j]]
                parts = []
                for h in range(self.heads):
                    scores = k[b, h, seen] @ q[b, h, i] / math.sqrt(self.head_dim)
                    parts.append(scores.softmax(0) @ v[b, h, seen])
                rows.append(torch.cat(parts))
        return self.out(torch.stack(rows).reshape(batch, time, dim))


def next_token_loss(logits, tokens, mask):
    require_scored(logits, tokens, "mask", mask)  # noqa: F821
    require_predicted(mask)  # noqa: F821
    terms = []
    for b in range(len(tokens)):
        for t in range(1, tokens.shape[1]):
            if mask[b, t] and mask[b, t - 1]:
                terms.append(logits[b, t - 1].logsumexp(0) - logits[b, t - 1, tokens[b, t]])
    return sum(terms) / len(terms)


def next_token_distribution(logits, temperature=1.0, top_k=None, top_p=None):
    require_sampling(temperature, top_k, top_p)  # noqa: F821
    if logits.ndim > 1:
        return torch.stack([next_token_distribution(row, temperature, top_k, top_p) for row in logits])
    scaled = logits / temperature
    stays = list(range(len(scaled)))
    if top_k is not None:
        stays = [i for i in stays if int((scaled > scaled[i]).sum()) < top_k]
    if top_p is not None and top_p < 1:
        probs = dict(zip(stays, scaled[stays].softmax(0).tolist()))
        stays = [i for i in stays if sum(p for j, p in probs.items() if scaled[j] > scaled[i]) < top_p]
    gone = torch.full_like(scaled, -torch.inf)
    return gone.index_put((torch.tensor(stays),), scaled[stays].log_softmax(0))


def completion_log_probs(logits, tokens, sampled, temperature=1.0, top_k=None, top_p=None):
    require_scored(logits, tokens, "sampled", sampled)  # noqa: F821
    require_sampled(sampled)  # noqa: F821
    rows = []
    for b in range(len(tokens)):
        row = []
        for t in range(1, tokens.shape[1]):
            if sampled[b, t]:
                row.append(next_token_distribution(logits[b, t - 1], temperature, top_k, top_p)[tokens[b, t]])
            else:
                row.append(logits.new_zeros(()))
        rows.append(torch.stack(row))
    require_sampling(temperature, top_k, top_p)  # noqa: F821
    return torch.stack(rows)
