"""The list of all sequences of a few tokens, of one length or ended early by an end token, and the place of each in it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Int
from torch import Tensor, nn

MAX_SEQUENCES = 16_384  # 4^7 or 2^14: what can be listed in milliseconds


class SequenceList:
    """All sequences over the tokens 0 .. vocabulary - 1 in lexicographic order: `length` tokens each, fewer if `eos` ends one.

    tokens: (sequences, length) long; filled up with `eos` after a sequence's end.
    mask: (sequences, length) bool, True on a sequence's own tokens, `eos` included.
    lengths: (sequences,) long, the number of a sequence's own tokens.
    all_but_last: (rows, length - 1) long, every beginning once; row: (sequences,) long, each sequence's place among them.

    Raises ValueError for sizes below 1, an `eos` that is no token, and more than 16,384 sequences.
    """

    def __init__(self, vocabulary: int, length: int, eos: int | None) -> None:
        _check(vocabulary, length, eos)
        self.vocabulary, self.length, self.eos = vocabulary, length, eos
        tokens, lengths = _grow(vocabulary, length, eos)
        codes = self._code(tokens)
        order = torch.argsort(codes)
        self.tokens, self.lengths, self._codes = tokens[order], lengths[order], codes[order]
        self.mask = torch.arange(length) < self.lengths.unsqueeze(1)
        _, self.row, counts = torch.unique_consecutive(self._codes // vocabulary, return_inverse=True, return_counts=True)
        self.all_but_last = self.tokens[counts.cumsum(0) - counts, :-1]

    def places(self, sequences: Int[Tensor, "batch time"]) -> Int[Tensor, "batch"]:
        """Where each row stands in the list. What follows the first `eos` of a row is ignored; rows that end may be shorter.

        Raises ValueError for a row that is not in the list.
        """
        rows = torch.as_tensor(sequences).cpu()
        if rows.ndim != 2 or rows.shape[1] > self.length or rows.is_floating_point():
            received = f"{rows.dtype} of shape {tuple(rows.shape)}"
            raise ValueError(f"sequences: expected integers of shape (batch, {self.length}), received {received}")
        rows = rows.long()
        is_eos = torch.zeros_like(rows) if self.eos is None else (rows == self.eos).long()
        after = is_eos.cumsum(1) - is_eos > 0
        whole = is_eos.any(1) if rows.shape[1] < self.length else torch.ones(len(rows), dtype=torch.bool)
        right = whole & (((rows >= 0) & (rows < self.vocabulary)) | after).all(1)
        if not right.all():
            at = int((~right).nonzero()[0])
            raise ValueError(
                f"sequences: expected {self.length} tokens in 0..{self.vocabulary - 1}, or fewer up to eos = {self.eos}; "
                f"received {rows[at].tolist()} at row {at}"
            )
        fill = 0 if self.eos is None else self.eos
        rows = nn.functional.pad(rows.masked_fill(after, fill), (0, self.length - rows.shape[1]), value=fill)
        return torch.searchsorted(self._codes, self._code(rows))

    def _code(self, rows: Tensor) -> Tensor:
        """Each row as one number in base `vocabulary`."""
        code = torch.zeros(len(rows), dtype=torch.long)
        for column in rows.unbind(1):
            code = code * self.vocabulary + column
        return code


def _check(vocabulary: int, length: int, eos: int | None) -> None:
    for name, size in (("vocabulary", vocabulary), ("length", length)):
        if size < 1:
            raise ValueError(f"{name}: expected at least 1, received {size}")
    if eos is not None and not 0 <= eos < vocabulary:
        raise ValueError(f"eos: expected a token in 0..{vocabulary - 1} or None, received {eos}")
    if vocabulary > 1 and length * math.log2(vocabulary) >= 62:  # `_code` has 63 bits
        raise ValueError(f"length: expected vocabulary^length below 2^62, received {vocabulary}^{length}")
    going = vocabulary - (eos is not None)  # tokens after which a sequence goes on
    count = going**length + (0 if eos is None else sum(going**t for t in range(length)))
    if count > MAX_SEQUENCES:
        raise ValueError(
            f"length: expected at most {MAX_SEQUENCES:,} sequences, received {count:,} (vocabulary {vocabulary}, length {length})"
        )


def _grow(vocabulary: int, length: int, eos: int | None) -> tuple[Int[Tensor, "sequences length"], Int[Tensor, "sequences"]]:
    """All sequences, token by token, and their lengths; those that end early stand first."""
    live, rows, lengths = torch.zeros(1, 0, dtype=torch.long), [], []
    for t in range(1, length + 1):
        live = torch.cat([live.repeat_interleave(vocabulary, 0), torch.arange(vocabulary).repeat(len(live)).unsqueeze(1)], dim=1)
        done = torch.full((len(live),), t == length) | (live[:, -1] == (-1 if eos is None else eos))
        rows.append(nn.functional.pad(live[done], (0, length - t), value=eos or 0))
        lengths.append(torch.full((len(rows[-1]),), t))
        live = live[~done]
    return torch.cat(rows), torch.cat(lengths)
