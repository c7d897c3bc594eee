"""The world's words as tokens of the built-in models."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .review_grammar import EOS
from .reviews import World

PAD, UNK = "<pad>", "<unk>"
POSITIONS = 128  # no review has more tokens than this


def tokenizer_of(reviews: World, padding_side: str):
    """The world's words as a Hugging Face tokenizer: `<pad>`, `<eos>` and `<unk>` are 0, 1, 2, then the vocabulary in order."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [PAD, EOS, UNK, *(word for word in reviews.vocabulary if word != EOS)]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[.,!?]"), "isolated")]
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)  # no space before a full stop
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        bos_token=EOS,
        unk_token=UNK,
        padding_side=padding_side,
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def ids_of(reviews: World, tokenizer) -> np.ndarray:
    """(vocabulary,) the tokenizer's number of each of the world's words."""
    return np.array(tokenizer.convert_tokens_to_ids(reviews.vocabulary))


def inputs(rows: list[np.ndarray], ids: np.ndarray, start: int, pad: int) -> Tensor:
    """(rows, longest + 1): a start token, then each row, padded on the right."""
    table = torch.full((len(rows), max(map(len, rows)) + 1), pad)
    table[:, 0] = start
    for n, row in enumerate(rows):
        table[n, 1 : len(row) + 1] = torch.from_numpy(ids[row])
    return table
