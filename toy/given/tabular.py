"""A language model that is a table: one row of logits for every prefix, or for every position. It can be any distribution."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .sequences import MAX_SEQUENCES

class TabularLM(nn.Module):
    """Maps tokens to next-token logits by looking them up, in float64, with the calling convention of a language model.

    The first token of every row is its context, a number below `contexts`: each context has a table of its own. The tokens
    after it are generated ones. The prefixes of one context are the nodes of a tree: the empty prefix is node 0, and token v
    after node n leads to node n * vocabulary + 1 + v.

    logits: (contexts, prefixes, vocabulary), the only parameter; prefixes = 1 + V + ... + V^(length - 1),
        or `length` if `by_position` (then a token's probabilities depend on its position alone).

    All logits start at zero, the uniform policy, or are drawn from a normal distribution of standard deviation `spread` if
    a `generator` is given. Raises ValueError for sizes below 1 and for more than 16,384 sequences.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        *,
        contexts: int = 1,
        by_position: bool = False,
        generator: torch.Generator | None = None,
        spread: float = 1.0,
    ) -> None:
        super().__init__()
        for name, size in (("vocabulary", vocabulary), ("length", length), ("contexts", contexts)):
            if size < 1:
                raise ValueError(f"{name}: expected at least 1, received {size}")
        if not by_position and vocabulary**length > MAX_SEQUENCES:
            raise ValueError(
                f"length: expected at most {MAX_SEQUENCES:,} sequences in a table of prefixes, "
                f"received {vocabulary}^{length}"
            )
        self.vocabulary, self.length, self.contexts, self.by_position = vocabulary, length, contexts, by_position
        rows = length if by_position else sum(vocabulary**t for t in range(length))
        logits = torch.zeros(contexts, rows, vocabulary, dtype=torch.float64)
        if generator is not None:
            logits = spread * torch.randn(logits.shape, generator=generator, dtype=torch.float64)
        self.logits = nn.Parameter(logits)

    def forward(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time vocabulary"]:
        """Logits of the token after each prefix: position t sees the context and t generated tokens.

        time is at most 1 + length. At time 1 + length the last logits, of a token nobody generates, are zeros, so that whole
        sequences can be scored in the usual way (`logits[:, :-1]` against `tokens[:, 1:]`).
        """
        self._check(tokens)
        time = tokens.shape[1]
        nodes = self.nodes(tokens[:, 1 : self.length])  # (batch, min(time, length))
        logits = self.logits[tokens[:, :1], nodes]
        return logits if time <= self.length else nn.functional.pad(logits, (0, 0, 0, 1))

    def nodes(self, generated: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time+1"]:
        """The row of the table for each prefix of `generated`, the empty one first."""
        batch, time = generated.shape
        if self.by_position:
            return torch.arange(time + 1, device=generated.device).expand(batch, -1)
        found = [torch.zeros(batch, dtype=torch.long, device=generated.device)]
        for t in range(time):
            found.append(found[-1] * self.vocabulary + 1 + generated[:, t])
        return torch.stack(found, dim=1)

    def set_distribution(
        self,
        context: int,
        sequences: Int[Tensor, "sequences length"],
        mask: Bool[Tensor, "sequences length"],
        log_p: Float[Tensor, "sequences"],
    ) -> None:
        """Makes the table of `context` give each sequence (its tokens under `mask`) the log-probability `log_p`.

        By the chain rule: the logits of a prefix become its conditional log-probabilities, zeros where it has probability 0.
        Raises ValueError for a table by position, which can hold only distributions of independent tokens.
        """
        if self.by_position:
            raise ValueError("by_position: expected False to hold any distribution, received True")
        if not 0 <= context < self.contexts:
            raise ValueError(f"context: expected a number in 0..{self.contexts - 1}, received {context}")
        nodes = self.nodes(sequences[:, :-1])
        places = (nodes * self.vocabulary + sequences)[mask]  # of each token in the flattened table
        terms = log_p.unsqueeze(1).expand_as(nodes)[mask]
        size = self.logits[context].numel()
        top = torch.full((size,), -torch.inf, dtype=torch.float64).scatter_reduce(0, places, terms, "amax")
        top = torch.where(top > -torch.inf, top, 0.0)  # the log of a sum of exponentials, without underflow
        mass = torch.zeros(size, dtype=torch.float64).index_add(0, places, (terms - top[places]).exp())
        joint = (mass.log() + top).reshape(-1, self.vocabulary)  # log probability that a sequence begins so
        reached = (joint > -torch.inf).any(-1, keepdim=True)
        with torch.no_grad():
            self.logits[context] = torch.where(reached, torch.log_softmax(joint, -1), 0.0)

    def _check(self, tokens: Tensor) -> None:
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.length + 1:
            raise ValueError(
                f"tokens: expected shape (batch, time) with time from 1 (the context) to {self.length + 1}, "
                f"received {tuple(tokens.shape)}"
            )
        for name, part, below in (("context", tokens[:, :1], self.contexts), ("token", tokens[:, 1:], self.vocabulary)):
            if part.numel() and not 0 <= int(part.min()) <= int(part.max()) < below:
                received = f"{int(part.min())}..{int(part.max())}"
                raise ValueError(f"tokens: expected every {name} in 0..{below - 1}, received {received}")
