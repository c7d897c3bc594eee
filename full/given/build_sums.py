"""The model of the world of sums, made from nothing: a language model that has read what pupils wrote."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Iterator

import numpy as np
from torch import Tensor, nn

from .build_fitting import Made, Progress, fit
from .build_gpt2 import encoded, gpt2, language_batches, language_loss
from .sums import SumWorld

POSITIONS = 32
"Tokens of a sum with its working at most; the longest demonstrations have half as many."
SIGNS = ("+", "-", "=")


@dataclass(frozen=True)
class SumRecipe:
    """How the model is made. Everything is drawn from `seed`."""

    seed: int = 0
    width: int = 96
    layers: int = 2
    heads: int = 4
    batch: int = 256
    steps: int = 3000
    peak: float = 3e-3
    warm_up: int = 100


def sum_tokenizer(padding_side: str = "left") -> Any:
    """Digits and signs as a Hugging Face tokenizer: a token is one of them, with the space before it if there is one.

    What it encodes it decodes to the same text: "17 + 25 = 42" is 1, 7, " +", " 2", 5, " =", " 4", 2. There are <pad>, <eos>, <unk>.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = [*"0123456789", *SIGNS]
    tokens = ["<pad>", "<eos>", "<unk>", *plain, *(" " + token for token in plain)]
    tokenizer = Tokenizer(models.WordLevel({token: n for n, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[^ ]| +"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<eos>",
        unk_token="<unk>",
        padding_side=padding_side,
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def sum_batches(sums: SumWorld, tokenizer: Any, recipe: SumRecipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Fresh demonstrations of the training split's sums, without end. Nothing is learned of the prompts: they are anyone's."""
    rng, turn = np.random.default_rng(recipe.seed + 40), 40_000 + 1000 * recipe.seed
    while True:
        drawn = sums.demonstrations(25 * recipe.batch, turn)
        rows = encoded(tokenizer, [one.sum.prompt for one in drawn], [one.completion for one in drawn])
        yield from language_batches(rows, recipe.batch, tokenizer.pad_token_id, 0.0, rng)
        turn += 1


def train_sums_lm(sums: SumWorld, recipe: SumRecipe, tokenizer: Any, progress: Progress) -> nn.Module:
    """A language model of sums and what pupils write for them."""
    sizes = {"width": recipe.width, "layers": recipe.layers, "heads": recipe.heads, "positions": POSITIONS}
    model = gpt2(tokenizer, **sizes, seed=recipe.seed + 41)
    data = sum_batches(sums, tokenizer, recipe)
    plan = {"steps": recipe.steps, "peak": recipe.peak, "warm_up": recipe.warm_up}
    return fit(model, data, lambda batch: language_loss(model, batch), **plan, name="sums-lm", progress=progress)


def build(progress: Progress, recipe: SumRecipe) -> Made:
    """The model with its figures. It is kept in half precision; what is measured is what is kept."""
    from . import sum_figures
    from .sums import world

    sums, tokenizer = world(), sum_tokenizer()
    model = train_sums_lm(sums, recipe, tokenizer, progress).half().float()
    progress("sum figures", 0, 1, "sums never seen")
    figures = {"sums-lm": sum_figures.measure_sums_lm(model, tokenizer, sums), "sums-recipe": asdict(recipe)}
    progress("sum figures", 1, 1, "done")
    return {"sums-lm": (model.half(), tokenizer)}, figures
