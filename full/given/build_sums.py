"""The model of the world of sums, made from nothing: a language model that has read what pupils wrote."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Iterator

import torch
from torch import Tensor, nn

from .build_fitting import Made, Progress, fit, padded
from .build_gpt2 import encoded, gpt2, language_loss
from .sums import SumWorld

POSITIONS = 32
"Tokens of a sum with its working at most; the longest demonstrations have half as many."
SIGNS = ("+", "-", "=", "(", ")")


@dataclass(frozen=True)
class SumRecipe:
    """How the model is made. Everything is drawn from `seed`."""

    seed: int = 0
    width: int = 64
    layers: int = 2
    heads: int = 4
    batch: int = 128
    textbook: int = 450
    "Steps on the textbook, before those on what pupils wrote; each has its own rise and fall of the learning rate."
    textbook_peak: float = 5e-3
    pupils: int = 600
    pupils_peak: float = 3e-3
    warm_up: int = 50


def sum_tokenizer(padding_side: str = "left") -> Any:
    """Digits and signs as a Hugging Face tokenizer: a token is one of them, with the space before it if there is one.

    What it encodes it decodes to the same text: "17 + 25 = 42" is 1, 7, " +", " 2", 5, " =", " 4", 2. <pad>, <eos>, <unk> are apart.
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


def sum_batches(sums: SumWorld, tokenizer: Any, recipe: SumRecipe, textbook: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Fresh demonstrations of the training split's sums, without end. Nothing is learned of the prompts: they are anyone's.

    Long and short ones stand in one batch: in batches of a length each the model would forget the one while it learns the other.
    """
    turn = 40_000 + 1000 * recipe.seed + 500 * textbook
    while True:
        drawn = sums.demonstrations(25 * recipe.batch, turn, textbook=textbook)
        rows = encoded(tokenizer, [one.sum.prompt for one in drawn], [one.completion for one in drawn])
        for start in range(0, len(rows), recipe.batch):
            some = rows[start : start + recipe.batch]
            ids = padded([head + tail for head, tail in some], tokenizer.pad_token_id)
            places, heads = torch.arange(ids.shape[1]), torch.tensor([[len(head)] for head, _ in some])
            yield ids, ((places >= heads) & (ids != tokenizer.pad_token_id)).float()
        turn += 1


def train_sums_lm(sums: SumWorld, recipe: SumRecipe, tokenizer: Any, progress: Progress) -> nn.Module:
    """A language model that has read the textbook, and then what pupils wrote."""
    sizes = {"width": recipe.width, "layers": recipe.layers, "heads": recipe.heads, "positions": POSITIONS}
    model = gpt2(tokenizer, **sizes, seed=recipe.seed + 41)
    phases = (("sums: textbook", recipe.textbook, recipe.textbook_peak), ("sums: pupils", recipe.pupils, recipe.pupils_peak))
    for name, steps, peak in phases:
        data = sum_batches(sums, tokenizer, recipe, name == "sums: textbook")
        plan = {"steps": steps, "peak": peak, "warm_up": recipe.warm_up, "name": name, "progress": progress}
        model = fit(model, data, lambda batch: language_loss(model, batch), **plan)
    return model


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
