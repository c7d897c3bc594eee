"""What is a small writer worth? Measured by letting it write, and worked out exactly beside it.

    python -m full.evaluate_bug

The writer is a GPT-2 with random weights over the six words of lesson 3, an end and a padding word: so small that all it can
write after a prompt is listed, and its exact mean score known. The same prompts are then evaluated as one evaluates a model too
large for that: by sampling, many at once. `measure` is what is used from outside.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from full.given.rollout import cache_keyword, drawn
from toy.given.enumerable import EnumerableLM
from toy.given.words import SCORES

PAD, END = 0, 1
WORTH = (0.0, 0.0, *SCORES)  # of padding, the end, and the six words
NEW_TOKENS = 3


def writer(seed: int = 4) -> nn.Module:
    """A GPT-2 of one layer whose weights are so large that words and places matter."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": len(WORTH), "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2, "initializer_range": 0.3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)).double().eval()


def some_prompts(count: int = 40, seed: int = 0) -> list[list[int]]:
    """Prompts of one to eight words."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (count,), generator=generator).tolist()
    return [torch.randint(2, len(WORTH), (length,), generator=generator).tolist() for length in lengths]


def padded(prompts: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "batch columns"], Int[Tensor, "batch columns"]]:
    """The prompts as one tensor, padded on the left, and its mask: 1 on real tokens."""
    columns = max(map(len, prompts))
    tokens = [[PAD] * (columns - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (columns - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(tokens), torch.tensor(mask)


def write(
    model: nn.Module, prompts: Sequence[Sequence[int]], new_tokens: int, generator: torch.Generator | None = None
) -> list[list[int]]:
    """What the model writes after each prompt, END included where it comes, with the model's cache: each token is read once."""
    new, mask = padded(prompts)
    columns = new.shape[1]
    places = (mask.cumsum(dim=1) - 1).clamp(min=0)  # a row's place is its count of real tokens
    going = torch.ones(len(prompts), dtype=torch.bool)
    cache: dict[str, Any] = {}
    written: list[Tensor] = []
    with torch.no_grad():
        for t in range(new_tokens):
            out = model(input_ids=new, attention_mask=mask, position_ids=places, use_cache=True, **cache)
            cache = {cache_keyword(model): out["cache"] if "cache" in out else out["past_key_values"]}
            uniform = torch.rand(len(prompts), generator=generator)
            token = torch.where(going, drawn(out.logits[:, -1], uniform), PAD)
            mask = torch.cat([mask, going.long().unsqueeze(1)], dim=1)
            going = going & (token != END)
            new, places = token.unsqueeze(1), torch.full((len(prompts), 1), columns + t)
            written.append(token)
    kept = mask[:, columns:].bool()
    return [row[real].tolist() for row, real in zip(torch.stack(written, dim=1), kept)]


def score(completion: Sequence[int]) -> float:
    """The sum of a completion's words' scores; END scores 0."""
    return sum(WORTH[token] for token in completion)


def measure(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    times: int = 1,
    batch_size: int = 64,
    new_tokens: int = NEW_TOKENS,
    generator: torch.Generator | None = None,
) -> dict[str, Any]:
    """The model's mean score after these prompts, each continued `times` times, `batch_size` of them at once.

    Returns mean, low and high (the 95% interval), and all completions, prompt after prompt.
    """
    rows = [prompt for prompt in prompts for _ in range(times)]
    completions: list[list[int]] = []
    for first in range(0, len(rows), batch_size):
        completions += write(model, rows[first : first + batch_size], new_tokens, generator)
    scores = torch.tensor([score(completion) for completion in completions], dtype=torch.float64)
    half = 1.96 * scores.std().item() / len(scores) ** 0.5
    mean = scores.mean().item()
    return {"mean": mean, "low": mean - half, "high": mean + half, "completions": completions}


def exactly(model: nn.Module, prompts: Sequence[Sequence[int]], new_tokens: int = NEW_TOKENS) -> Float[Tensor, "prompts"]:
    """The model's mean score after each prompt, over everything it can write."""
    means = []
    for prompt in prompts:
        listed = EnumerableLM(model, len(WORTH), new_tokens, prompt=prompt, eos=END)
        means.append(listed.expected(listed.rewards(score)).detach())
    return torch.stack(means)


def main(show: Callable[[str], None] = print) -> None:
    model, prompts = writer(), some_prompts()
    show(f"exactly          {exactly(model, prompts).mean():6.3f}")
    for batch_size in (50, 200, 2000):
        found = measure(model, prompts, times=50, batch_size=batch_size, generator=torch.Generator().manual_seed(0))
        show(f"{batch_size:4d} at once     {found['mean']:6.3f}   ({found['low']:.3f} to {found['high']:.3f})")


if __name__ == "__main__":
    main()
