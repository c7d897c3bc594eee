"""Tokenizers whose tokens are the words of a world: `<pad>`, `<eos>`, `<unk>` first, then the signs, then the words in order."""

from __future__ import annotations

from typing import Any, Sequence

PAD, EOS, UNK, MASK = "<pad>", "<eos>", "<unk>", "<mask>"
SIGNS = (".", ",", "?")


def word_tokenizer(
    words: Sequence[str], *, padding_side: str, positions: int, ends: bool = False, also: Sequence[str] = ()
) -> Any:
    """A Hugging Face tokenizer of words and signs; what it encodes it decodes to the same text.

    ends: whether a text gets an `<eos>` at its end, as T5's tokenizers do. also: special tokens after the first three.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = [PAD, EOS, UNK, *also, *SIGNS, *words]
    if len(set(tokens)) != len(tokens):
        raise ValueError("words: expected each once, and no sign or special token among them")
    tokenizer = Tokenizer(models.WordLevel({token: n for n, token in enumerate(tokens)}, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[.,?]"), "isolated")]
    )
    close = [decoders.Replace(f" {sign}", sign) for sign in SIGNS]  # no space before a sign
    tokenizer.decoder = decoders.Sequence([decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse(), *close])
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {EOS}", pair=None, special_tokens=[(EOS, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        bos_token=EOS,
        unk_token=UNK,
        **({"mask_token": MASK} if MASK in also else {}),
        padding_side=padding_side,
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )
