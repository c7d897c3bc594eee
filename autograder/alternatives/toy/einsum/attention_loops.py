"""Attention by loops over sequences, heads and queries, each query looking only at the keys it sees."""

import torch
from torch import nn


def _attend(q, k, v, mask):
    """One head of one sequence: (tokens, head_dim) each; mask (tokens, tokens) or None."""
    rows = []
    for i, query in enumerate(q):
        seen = torch.arange(len(k)) if mask is None else (~mask[i]).nonzero().flatten()
        if len(seen) == 0:
            rows.append(torch.zeros_like(v[0]))
            continue
        scores = (k[seen] * query).sum(-1) / q.shape[-1] ** 0.5
        shares = (scores - scores.max()).exp()
        rows.append((shares[:, None] * v[seen]).sum(0) / shares.sum())
    return torch.stack(rows)


def _of(mask, b):
    return mask if mask is None or mask.dim() == 2 else mask[b]


class SelfAttention(nn.Module):
    def __init__(self, dim, head_dim=None):
        super().__init__()
        self.head_dim = head_dim or dim
        self.qkv = nn.Linear(dim, 3 * self.head_dim, bias=False)

    def to_qkv(self, x):
        d = self.head_dim
        return self.qkv(x)[..., :d], self.qkv(x)[..., d : 2 * d], self.qkv(x)[..., 2 * d :]

    def forward(self, x, mask=None):
        q, k, v = self.to_qkv(x)
        return torch.stack([_attend(q[b], k[b], v[b], _of(mask, b)) for b in range(len(x))])


class MultiHeadSelfAttention(nn.Module):
    def __init__(self, dim, heads, head_dim=None):
        super().__init__()
        self.heads, self.head_dim = heads, head_dim or dim // heads
        self.qkv = nn.Linear(dim, 3 * heads * self.head_dim, bias=False)
        self.out = nn.Linear(heads * self.head_dim, dim, bias=False)

    def forward(self, x, mask=None):
        d, total = self.head_dim, 0
        for h in range(self.heads):
            parts = [self.qkv.weight[(s * self.heads + h) * d : (s * self.heads + h + 1) * d] for s in range(3)]
            q, k, v = (torch.einsum("btc,dc->btd", x, part) for part in parts)
            head = torch.stack([_attend(q[b], k[b], v[b], _of(mask, b)) for b in range(len(x))])
            total = total + head @ self.out.weight[:, h * d : (h + 1) * d].T
        return total
