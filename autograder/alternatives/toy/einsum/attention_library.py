"""Attention by PyTorch's own kernel; -inf for hidden scores; projections by matrix products."""

import torch
import torch.nn.functional as F
from torch import nn


def attention_scores(q, k, scale):
    root = scale**0.5
    return torch.einsum("...id,...jd->...ij", q * root, k * root)


class SelfAttention(nn.Module):
    def __init__(self, dim, head_dim=None):
        super().__init__()
        self.head_dim = head_dim or dim
        self.qkv = nn.Linear(dim, 3 * self.head_dim, bias=False)

    def to_qkv(self, x):
        return [x @ part.T for part in self.qkv.weight.split(self.head_dim)]

    def forward(self, x, mask=None):
        check_mask(mask, x)  # noqa: F821 (given, in the file this is appended to)
        q, k, v = self.to_qkv(x)
        if mask is None:
            return F.scaled_dot_product_attention(q, k, v)
        blind = mask.all(-1, keepdim=True)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=~mask | blind)
        return torch.where(blind, torch.zeros_like(seen), seen)


class MultiHeadSelfAttention(nn.Module):
    def __init__(self, dim, heads, head_dim=None):
        super().__init__()
        self.heads, self.head_dim = heads, head_dim or dim // heads
        self.qkv = nn.Linear(dim, 3 * heads * self.head_dim, bias=False)
        self.out = nn.Linear(heads * self.head_dim, dim, bias=False)

    def forward(self, x, mask=None):
        check_mask(mask, x)  # noqa: F821
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        scores = q @ k.transpose(-1, -2) / self.head_dim**0.5
        if mask is None:
            mask = torch.zeros(x.shape[1], x.shape[1], dtype=torch.bool)
        hidden = mask.expand(len(x), *mask.shape[-2:]).unsqueeze(1)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1).masked_fill(hidden, 0.0)
        return self.out((weights @ v).transpose(1, 2).flatten(2))
