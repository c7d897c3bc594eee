"""The models of the question world, made from nothing: a T5 that restores texts, the same after fine-tuning, and a reward model.

The T5 is pretrained by denoising: it reads a context and sentences on its subject of which a few words are left, and writes the
sentences. So it learns to find in the context what it is to say, and knows no question yet.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import asdict, dataclass
from typing import Any, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from .build_fitting import Made, Progress, fit, padded
from .build_gpt2 import comparison_batches, comparison_loss, gpt2, joined, reward_model
from .questions import PAIRS, Question, QuestionWorld
from .word_tokenizer import MASK, word_tokenizer

RESTORE = "restore:"
POSITIONS = 128
"Tokens of a source at most; the longest has some ten fewer."
REWARD_POSITIONS = 192
"Tokens of a source with an answer at most."


@dataclass(frozen=True)
class QuestionRecipe:
    """How the models are made. Everything is drawn from `seed`."""

    seed: int = 0
    width: int = 64
    inner: int = 128
    layers: int = 2
    heads: int = 4
    batch: int = 16
    steps: int = 2400
    peak: float = 2e-2
    "Learning rate of the T5, relative to each tensor's size (see `fit`), as is that of its fine-tuning."
    warm_up: int = 150
    kept: int = 3
    "Words of each sentence that are left to the denoiser."
    sft_questions: int = 12000
    sft_batch: int = 16
    sft_epochs: int = 2
    sft_peak: float = 1e-2
    reward_questions: int = 2000
    "Questions with six preferences each, of which about a third are ties and teach nothing."
    reward_batch: int = 16
    reward_epochs: int = 1
    reward_peak: float = 2e-3


def question_tokenizer(questions: QuestionWorld, padding_side: str = "right", ends: bool = True) -> Any:
    """The question world's words. ends: with an `<eos>` at the end, for a T5."""
    words = [*questions.vocabulary, RESTORE]
    positions = POSITIONS if ends else REWARD_POSITIONS
    return word_tokenizer(words, padding_side=padding_side, positions=positions, ends=ends, also=(MASK,))


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
    """(source, target): sentences on the subject, of which a few words are left, with the context that holds them."""
    own = [text for text in question.passages if text.startswith(question.title + " ")]
    chosen = [own[n] for n in sorted(rng.permutation(len(own))[: rng.integers(3, 6)])]
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


def denoising_batches(questions: QuestionWorld, tokenizer: Any, recipe: QuestionRecipe) -> Iterator[dict[str, Tensor]]:
    """Fresh batches, without end."""
    together = 25
    rng = np.random.default_rng(recipe.seed + 20)
    for turn in itertools.count():
        drawn = questions.draw(together * recipe.batch, 10_000 + 100 * recipe.seed + turn)
        yield from batches([denoising_pair(questions, q, recipe.kept, rng) for q in drawn], tokenizer, recipe.batch, rng)


def pretrain_t5(questions: QuestionWorld, recipe: QuestionRecipe, tokenizer: Any, progress: Progress) -> nn.Module:
    """The T5 that restores texts."""
    model = question_t5(recipe, tokenizer)
    data = denoising_batches(questions, tokenizer, recipe)
    plan = {"steps": recipe.steps, "peak": recipe.peak, "warm_up": recipe.warm_up}
    return fit(model, data, lambda batch: model(**batch).loss, **plan, relative=True, name="question-t5", progress=progress)


def fine_tune_t5(
    questions: QuestionWorld, recipe: QuestionRecipe, pretrained: nn.Module, tokenizer: Any, progress: Progress
) -> nn.Module:
    """The same T5 after it has seen annotators' demonstrations."""
    model = copy.deepcopy(pretrained)
    drawn = questions.draw(recipe.sft_questions, 1)
    pairs = [(question.source, questions.demonstration(question, 1)) for question in drawn]
    rng = np.random.default_rng(recipe.seed + 21)
    steps = recipe.sft_epochs * math.ceil(len(pairs) / recipe.sft_batch)
    data = epochs_of(pairs, tokenizer, recipe.sft_epochs, recipe.sft_batch, rng)
    plan = {"steps": steps, "peak": recipe.sft_peak, "warm_up": steps // 10, "relative": True}
    return fit(model, data, lambda batch: model(**batch).loss, **plan, name="question-t5-sft", progress=progress)


def epochs_of(
    pairs: list[tuple[str, str]], tokenizer: Any, epochs: int, batch: int, rng: np.random.Generator
) -> Iterator[dict[str, Tensor]]:
    """All pairs so many times, in another order each time."""
    for _ in range(epochs):
        yield from batches(pairs, tokenizer, batch, rng)


def question_comparisons(questions: QuestionWorld, count: int, seed: int) -> list[dict[str, str]]:
    """The preferences of `count` questions that are no ties: {"prompt", "chosen", "rejected"}."""
    found = []
    for row in questions.rows(count, seed):
        for (first, second), label in zip(PAIRS, row["preference"]):
            if label:
                better, worse = (first, second) if label == 1 else (second, first)
                found.append(
                    {
                        "prompt": row["source"],
                        "chosen": row[f"prediction {better + 1}"],
                        "rejected": row[f"prediction {worse + 1}"],
                    }
                )
    return found


def train_question_reward(questions: QuestionWorld, recipe: QuestionRecipe, tokenizer: Any, progress: Progress) -> nn.Module:
    """A reward model of completeness that begins with random weights and has seen preferences."""
    sizes = {"width": recipe.width, "layers": recipe.layers, "heads": recipe.heads, "positions": REWARD_POSITIONS}
    model = reward_model(gpt2(tokenizer, **sizes, seed=recipe.seed + 22), recipe.seed + 24)
    pairs = joined(tokenizer, question_comparisons(questions, recipe.reward_questions, 1))
    rng = np.random.default_rng(recipe.seed + 25)
    batch, pad = recipe.reward_batch, tokenizer.pad_token_id
    data = (some for _ in range(recipe.reward_epochs) for some in comparison_batches(pairs, batch, pad, rng))
    steps = recipe.reward_epochs * math.ceil(len(pairs) / batch)
    plan = {"steps": steps, "peak": recipe.reward_peak, "warm_up": steps // 10}
    return fit(model, data, lambda some: comparison_loss(model, some), **plan, name="question-reward", progress=progress)


def build(progress: Progress, recipe: QuestionRecipe) -> Made:
    """All three, with their figures."""
    from . import small_figures as measured
    from .questions import world

    questions = world()
    t5_tokenizer = question_tokenizer(questions)
    plain = question_tokenizer(questions, ends=False)
    pretrained = pretrain_t5(questions, recipe, t5_tokenizer, progress)
    tuned = fine_tune_t5(questions, recipe, pretrained, t5_tokenizer, progress)
    reward = train_question_reward(questions, recipe, plain, progress)
    progress("question figures", 0, 3, "the T5 before fine-tuning")
    before = measured.measure_t5(pretrained, t5_tokenizer, questions)
    before |= measured.measure_denoising(pretrained, t5_tokenizer, questions, recipe.kept)
    progress("question figures", 1, 3, "and after it")
    after = measured.measure_t5(tuned, t5_tokenizer, questions)
    progress("question figures", 2, 3, "the reward model beside the exact scores")
    of_reward = measured.measure_question_reward(reward, plain, questions)
    progress("question figures", 3, 3, "done")
    figures = {"question-t5": before, "question-t5-sft": after, "question-reward": of_reward}
    models = {
        "question-t5": (pretrained, t5_tokenizer),
        "question-t5-sft": (tuned, t5_tokenizer),
        "question-reward": (reward, plain),
    }
    return models, figures | {"question-recipe": asdict(recipe)}
