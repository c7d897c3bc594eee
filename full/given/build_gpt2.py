"""How the small GPT-2s are made: language models of prompts with completions, and reward models from comparisons."""

from __future__ import annotations

from typing import Any, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .build_fitting import padded


def gpt2(tokenizer: Any, *, width: int, layers: int, heads: int, positions: int, seed: int) -> nn.Module:
    """A GPT-2 with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=positions,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return GPT2LMHeadModel(config)


def reward_model(language_model: nn.Module, seed: int) -> nn.Module:
    """The same GPT-2 with a head of one number, which is new, in place of its logits."""
    import copy

    from transformers import GPT2ForSequenceClassification

    torch.manual_seed(seed)
    config = copy.deepcopy(language_model.config)
    config.num_labels = 1
    model = GPT2ForSequenceClassification(config)
    model.transformer.load_state_dict(language_model.transformer.state_dict())
    return model


def encoded(tokenizer: Any, prompts: Sequence[str], completions: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """(token ids of the prompt, of the completion with its EOS) of each."""
    heads, tails = (tokenizer(list(texts), add_special_tokens=False)["input_ids"] for texts in (prompts, completions))
    return [(head, [*tail, tokenizer.eos_token_id]) for head, tail in zip(heads, tails)]


def grouped(lengths: Sequence[int], batch: int, rng: np.random.Generator) -> Iterator[list[int]]:
    """Places of rows of about the same length, `batch` at a time, the groups in any order."""
    order = np.argsort(np.array(lengths) + rng.random(len(lengths)), kind="stable")
    groups = [order[start : start + batch].tolist() for start in range(0, len(order), batch)]
    for which in rng.permutation(len(groups)):
        yield groups[which]


def language_batches(
    rows: Sequence[tuple[list[int], list[int]]], batch: int, pad: int, on_prompt: float, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """(token ids padded on the right (B, T), weights (B, T): 1 on completions, `on_prompt` on prompts, 0 on padding)."""
    for group in grouped([len(head) + len(tail) for head, tail in rows], batch, rng):
        ids = padded([rows[n][0] + rows[n][1] for n in group], pad)
        weights = torch.zeros(ids.shape)
        for place, n in enumerate(group):
            head, tail = rows[n]
            weights[place, : len(head)] = on_prompt
            weights[place, len(head) : len(head) + len(tail)] = 1.0
        yield ids, weights


def language_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Weighted mean of the next token's negative log-probability. Padding is on the right: no real token sees it."""
    ids, weights = batch
    seen = weights[:, 1:] > 0
    hidden = model.transformer(ids[:, :-1]).last_hidden_state[seen]  # (N, D)
    losses = nn.functional.cross_entropy(model.lm_head(hidden), ids[:, 1:][seen], reduction="none")
    return (losses * weights[:, 1:][seen]).sum() / weights[:, 1:].sum()


def comparison_batches(
    pairs: Sequence[tuple[list[int], list[int]]], batch: int, pad: int, rng: np.random.Generator
) -> Iterator[Tensor]:
    """Token ids of chosen texts, then of rejected ones, padded on the right."""
    for group in grouped([max(map(len, pair)) for pair in pairs], batch, rng):
        yield padded([pairs[n][0] for n in group] + [pairs[n][1] for n in group], pad)


def comparison_loss(model: nn.Module, ids: Tensor) -> Tensor:
    """Mean of -log sigma(score of the chosen text - score of the rejected one). The model reads its last token before padding."""
    chosen, rejected = model(ids, attention_mask=(ids != model.config.pad_token_id).long()).logits[:, 0].chunk(2)
    return -nn.functional.logsigmoid(chosen - rejected).mean()


def joined(tokenizer: Any, rows: Sequence[dict]) -> list[tuple[list[int], list[int]]]:
    """(prompt with chosen answer and EOS, prompt with rejected answer and EOS) of comparisons, as token ids."""
    prompts = [row["prompt"] for row in rows]
    sides = (encoded(tokenizer, prompts, [row[side] for row in rows]) for side in ("chosen", "rejected"))
    return [(head + good, head + bad) for (head, good), (_, bad) in zip(*sides)]


@torch.no_grad()
def scored(model: nn.Module, tokenizer: Any, prompts: Sequence[str], answers: Sequence[str], batch: int = 100) -> np.ndarray:
    """The reward model's score of each answer behind its prompt, (answers,), float64."""
    rows = [head + tail for head, tail in encoded(tokenizer, prompts, answers)]
    parts = []
    for start in range(0, len(rows), batch):
        ids = padded(rows[start : start + batch], tokenizer.pad_token_id)
        parts.append(model(ids, attention_mask=(ids != tokenizer.pad_token_id).long()).logits[:, 0])
    return torch.cat(parts).double().numpy()
