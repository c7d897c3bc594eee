"""The models of the question world, made from nothing: a T5 that restores texts, the same after fine-tuning, a language model
and a reward model.

The T5 is pretrained by denoising: it reads a context and sentences on its subject of which a few words are left, and writes the
sentences. So it learns to find in the context what it is to say, and knows no question yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from .questions import Question, QuestionWorld, world
from .word_tokenizer import MASK, word_tokenizer

RESTORE = "restore:"
POSITIONS = 128
"Tokens of a source at most; the longest has some ten fewer."


@dataclass(frozen=True)
class QuestionRecipe:
    """How the models are made. Everything is drawn from `seed`."""

    seed: int = 0
    width: int = 96
    inner: int = 256
    layers: int = 2
    heads: int = 4
    batch: int = 64
    steps: int = 1500
    peak: float = 3e-3
    warm_up: int = 100
    kept: int = 2
    "Words of each sentence that are left to the denoiser."
    sft_questions: int = 3000
    sft_epochs: int = 4
    sft_peak: float = 1e-3


def question_tokenizer(questions: QuestionWorld, padding_side: str = "right", ends: bool = True) -> Any:
    """The question world's words. ends: with an `<eos>` at the end, for a T5."""
    words = [*questions.vocabulary, RESTORE]
    return word_tokenizer(words, padding_side=padding_side, positions=POSITIONS, ends=ends, also=(MASK,))


def question_t5(recipe: QuestionRecipe, tokenizer: Any) -> nn.Module:
    """A T5 with random weights. Its decoder starts from the pad token, as T5's does."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(recipe.seed)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=recipe.width,
        d_kv=recipe.width // recipe.heads,
        d_ff=recipe.inner,
        num_layers=recipe.layers,
        num_decoder_layers=recipe.layers,
        num_heads=recipe.heads,
        dropout_rate=0.0,
        feed_forward_proj="relu",
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    return T5ForConditionalGeneration(config)


def corrupted(text: str, kept: int, rng: np.random.Generator) -> str:
    """Each sentence with `kept` of its words, at random places; what is missing between them is one `<mask>`."""
    found = []
    for sentence in text.removesuffix(".").split(". "):
        words = sentence.split()
        stay = set(rng.choice(len(words), min(kept, len(words)), replace=False).tolist())
        for n, word in enumerate(words):
            if n in stay:
                found.append(word)
            elif not found or found[-1] != MASK:
                found.append(MASK)
        found.append(".")
    return " ".join(found)


def denoising_pair(questions: QuestionWorld, question: Question, kept: int, rng: np.random.Generator) -> tuple[str, str]:
    """(source, target): sentences on the question's subject in any order, of which a few words are left, and the context."""
    own = [text for text in question.passages if text.startswith(question.title + " ")]
    chosen = [own[n] for n in rng.permutation(len(own))[: rng.integers(3, 6)]]
    target = questions.written(chosen, question.title)
    return f"{RESTORE} {corrupted(target, kept, rng)} context: {' '.join(question.passages)}", target


def batches(pairs: list[tuple[str, str]], tokenizer: Any, batch: int, rng: np.random.Generator) -> Iterator[dict[str, Tensor]]:
    """Batches of pairs of about the same length each, in any order; labels are -100 on padding."""
    sources, targets = (tokenizer([pair[side] for pair in pairs])["input_ids"] for side in (0, 1))
    order = sorted(range(len(pairs)), key=lambda n: (len(sources[n]), len(targets[n])))
    groups = [order[start : start + batch] for start in range(0, len(order), batch)]
    for which in rng.permutation(len(groups)):
        rows = groups[which]
        ids = padded([sources[n] for n in rows], tokenizer.pad_token_id)
        labels = padded([targets[n] for n in rows], -100)
        yield {"input_ids": ids, "attention_mask": (ids != tokenizer.pad_token_id).long(), "labels": labels}


def padded(rows: list[list[int]], filling: int) -> Tensor:
    table = torch.full((len(rows), max(map(len, rows))), filling)
    for n, row in enumerate(rows):
        table[n, : len(row)] = torch.tensor(row)
    return table
