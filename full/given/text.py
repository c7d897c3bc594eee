"""What passes between the parts of a run on language models: prompts, what was written after them, and pairs to choose between."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def position_ids(attention_mask: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
    """The place of every real token in its own row: 0, 1, 2, ... from the first real token on; 0 on padding before it.

    GPT-2 learns an embedding for each place, so a row padded on the left is another text to it unless it is told these.
    """
    return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)


@dataclass(frozen=True)
class Prompts:
    """A batch of beginnings, padded on the left so that all end at the same column."""

    input_ids: Int[Tensor, "batch prompt"]
    attention_mask: Int[Tensor, "batch prompt"]
    "1 on real tokens, 0 on padding."
    rows: Int[Tensor, "batch"] | None = None
    "The place of each row in the whole batch of all processes; None: it is the whole batch."
    whole: int | None = None
    "How many rows the whole batch has; None: as many as there are here."

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device: Any) -> Prompts:
        return replace(self, input_ids=self.input_ids.to(device), attention_mask=self.attention_mask.to(device))

    def repeated(self, times: int) -> Prompts:
        """Every prompt `times` times in a row: the groups of RLOO and GRPO stand together."""
        rows = None if self.rows is None else (self.rows.unsqueeze(1) * times + torch.arange(times)).flatten()
        return Prompts(
            self.input_ids.repeat_interleave(times, 0),
            self.attention_mask.repeat_interleave(times, 0),
            rows,
            None if self.whole is None else self.whole * times,
        )


@dataclass(frozen=True)
class Rollout:
    """Prompts with what a policy wrote after them. Rows that ended early are filled up with the pad token."""

    tokens: Int[Tensor, "batch length"]
    "The prompt, then the completion: length = prompt_length + time."
    attention_mask: Int[Tensor, "batch length"]
    "1 on real tokens: of the prompt, and of the completion up to its first EOS, which counts."
    prompt_length: int
    "Columns of the prompt, padding included."
    support: Int[Tensor, "batch time kept"] | None = None
    "The tokens that could be drawn where top-k is on, by id; -1 fills up. None: every token of the vocabulary could."

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def completion(self) -> Int[Tensor, "batch time"]:
        return self.tokens[:, self.prompt_length :]

    @property
    def mask(self) -> Bool[Tensor, "batch time"]:
        """True on the completion's own tokens, the first EOS included."""
        return self.attention_mask[:, self.prompt_length :].bool()


@dataclass(frozen=True)
class Pairs:
    """A batch of preferences: the chosen texts, then the rejected ones in the same order, each behind its prompt, padded right."""

    tokens: Int[Tensor, "two_batch length"]
    attention_mask: Int[Tensor, "two_batch length"]
    prompt_lengths: Int[Tensor, "two_batch"]
    "How many of a row's first tokens are the prompt: they are not scored."
    ref_log_probs: Float[Tensor, "two_batch"] | None = None
    "log pi_ref(completion | prompt), summed over its tokens; computed once a data set."

    def __len__(self) -> int:
        """The number of pairs."""
        return len(self.tokens) // 2

    def to(self, device: Any) -> Pairs:
        moved = {name: getattr(self, name).to(device) for name in ("tokens", "attention_mask", "prompt_lengths")}
        reference = None if self.ref_log_probs is None else self.ref_log_probs.to(device)
        return Pairs(**moved, ref_log_probs=reference)
