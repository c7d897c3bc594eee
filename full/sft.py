"""Lesson 13: supervised fine-tuning of an encoder-decoder, from texts to a trainer, and ROUGE-L to judge what it writes.

Conventions, the same in every function:

- A row is a source, which the encoder reads, and a target, which the decoder is to write. Both end with EOS. Batches are padded
  on the right; in the labels padding is -100, elsewhere it is the pad token, which may have any id.
- The labels stand where their tokens stand. The decoder reads them one place later, behind a start token: `shift_right`.
- A loss is a mean over real label tokens, in nats. ROUGE-L is a fraction from 0 to 1, of lower-case words, without a stemmer.
- No argument is changed in place. Losses have the dtype of the logits, but at least float32.

The `require_...` calls are given, at the end of the file: they refuse input that makes no sense.
"""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from full.given.scoring import chosen_log_probs
from full.given.sft_settings import SFTConfig, columns_of, require_room, rows_of, training_arguments

IGNORED = -100
"The label of a token that is not scored, as PyTorch and Hugging Face have it."


def preprocess_function(
    examples: Mapping[str, Sequence[str]], tokenizer: Any, max_source: int, max_target: int
) -> dict[str, list[Any]]:
    """Texts as the model's numbers, all rows of this call equally long (section 13.1).

    examples: {"source": [text, ...], "target": [text, ...]}, as `datasets.map(batched=True)` hands them over.
    tokenizer: `tokenizer(texts, add_special_tokens=False)["input_ids"]` gives the ids of each text alone; it has pad_token_id
        and eos_token_id.
    max_source, max_target: tokens of a row at most, EOS included.

    Each text becomes its tokens, cut at the end if they are too many, and *always* EOS behind them. Returns, a list a row:

        input_ids         the source, filled up on the right with the pad token to the longest source of this call
        attention_mask    1 on the source's tokens, EOS included, 0 on padding
        labels            the target, filled up with -100 to the longest target of this call
        source_cut        a number: how many tokens of the source's text were cut off
        target_cut        the same of the target's

    Raises ValueError unless there are as many targets as sources, and at least one; for a max_source or max_target below 2.
    """
    require_texts(examples)
    require_room("max_source", max_source)
    require_room("max_target", max_target)
    raise NotImplementedError("lesson 13: preprocess_function")


def shift_right(labels: Int[Tensor, "batch time"], start_id: int, pad_id: int) -> Int[Tensor, "batch time"]:
    """What the decoder reads: the start token, then every label but the last, with pad for -100 (eq. 13.3).

    So at position t the decoder has read the labels before t, and its logits there are for labels[:, t].
    Raises ValueError unless labels are (batch, time).  Source: Raffel et al. 2020, section 2.1 (teacher forcing).
    """
    require_labels(labels)
    raise NotImplementedError("lesson 13: shift_right")


def collate(rows: Sequence[Mapping[str, Any]], start_id: int, pad_id: int) -> dict[str, Int[Tensor, "batch _"]]:
    """Rows of `preprocess_function`, perhaps of different calls, as one batch without superfluous columns (section 13.2).

    Returns input_ids and attention_mask (batch, source), labels and decoder_input_ids (batch, time), all of them int64. `source`
    is the longest source among *these* rows: columns in which every row has padding are cut off, shorter rows are filled up with
    `pad_id` (mask 0). `time` is the same of the targets, filled up with -100. decoder_input_ids: `shift_right` of the labels.
    What is padding is told by the mask and by -100, never by a token's id: `pad_id` may be a token of the text. Other entries of
    the rows are left out.
    """
    raise NotImplementedError("lesson 13: collate")


def sft_loss(
    logits: Float[Tensor, "batch time vocabulary"], labels: Int[Tensor, "batch time"], count: int | Tensor | None = None
) -> Float[Tensor, ""]:
    """-log pi(label | source, labels before it), summed over the real labels and divided by their number (eq. 13.5).

    logits: those at position t are for labels[:, t]: the decoder's input is shifted, so here nothing is.
    labels: token ids, -100 where nothing is to be scored.
    count: divide by this instead. Where a step takes several batches, it is the number of real labels of all of them (eq. 13.6).
    Exact for logits of any size; from bfloat16 logits the loss is float32.
    Raises ValueError if the shapes do not fit, for a label that is neither -100 nor a token, or if no label is real.
    """
    require_labels(labels, logits)
    raise NotImplementedError("lesson 13: sft_loss")


def lcs_length(reference: Sequence[str], prediction: Sequence[str]) -> int:
    """How long the longest common subsequence is: the most words that stand in both, in the same order (eq. 13.9).

    They need not stand together. By dynamic programming: len(reference) * len(prediction) comparisons, no more.
    """
    raise NotImplementedError("lesson 13: lcs_length")


def rouge_l(reference: str, prediction: str) -> dict[str, float]:
    """ROUGE-L of a prediction: {"precision", "recall", "fmeasure"}, from 0 to 1 (eq. 13.10).

        precision = LCS / words of the prediction,    recall = LCS / words of the reference,    fmeasure = 2 P R / (P + R)

    Words: `words_of`. All three are 0 where nothing is common, also where a text is empty.
    Source: Lin 2004, section 3.1, with beta = 1.
    """
    raise NotImplementedError("lesson 13: rouge_l")


def decode_tokens(ids: Any, tokenizer: Any) -> list[str]:
    """Texts of rows of token ids, (rows, time), as the trainer hands them over: NumPy or torch, -100 where it filled up.

    -100 is no token: it becomes the pad token first. Special tokens (start, EOS, pad) are left out of the texts, and blanks at
    either end.
    """
    raise NotImplementedError("lesson 13: decode_tokens")


def compute_metrics(prediction: Any, tokenizer: Any, use_stemmer: bool = False) -> dict[str, float]:
    """What is measured of generated answers, by name (section 13.6):

        rougeL               mean over the rows of ROUGE-L's F-measure, by the library `rouge_score`, from 0 to 1
        completion_length    mean number of generated tokens, EOS included, without start token and padding
        eos_rate             share of the rows that end with EOS

    prediction: has `predictions`, ids (rows, time) that the model *generated*, filled up with the pad token or -100, and
        `label_ids`, ids (rows, time) of the references, filled up with -100 or the pad token. Each row of predictions may begin
        with a start token, which is the pad token here as in T5.
    use_stemmer: whether words are reduced to their stems before they are compared, as some published figures have it.
    """
    raise NotImplementedError("lesson 13: compute_metrics")


def write_predictions(
    path: str | Path, rows: Sequence[Mapping[str, Any]], generated: Any, tokenizer: Any
) -> list[dict[str, Any]]:
    """What the model wrote, beside what it was to write, as JSON Lines: one object a row, in the rows' order (section 13.6).

    rows: each has "source" and "target", and may have more, which goes along.
    generated: ids (rows, time), as in `compute_metrics`.
    Each line is the row with "prediction", its text, and "rougeL", the F-measure of `rouge_l` against the row's *whole* target.
    UTF-8, letters as they are. Returns the lines as they were written.
    Raises ValueError unless there are as many rows as predictions; then nothing is written.
    """
    require_as_many(rows, generated)
    raise NotImplementedError("lesson 13: write_predictions")


def build_trainer(
    model: nn.Module,
    tokenizer: Any,
    train_rows: Sequence[Mapping[str, Any]],
    validation_rows: Sequence[Mapping[str, Any]],
    config: SFTConfig,
    folder: str | Path,
    **more: Any,
) -> Any:
    """A `transformers.Seq2SeqTrainer`, ready to `train()`, of everything above (section 13.7).

    model: a T5, or another encoder-decoder; `model.config.decoder_start_token_id` is the start token.
    train_rows, validation_rows: rows with "source" and "target". There is no test row here: nothing is chosen by the test split.
    folder: where checkpoints go.  more: `callbacks` for the trainer; everything else goes to `training_arguments`.

    What is yours to see to:
    - each batch is `collate` of rows that went through `preprocess_function`, with the lengths of `config`;
    - the loss of a training step is `sft_loss` (the trainer calls `compute_loss_func(outputs, labels, num_items_in_batch=...)`,
      where the last is the number of real labels in *all* batches of the step, or None; `outputs.logits` are the logits);
    - evaluation *generates*, with `config.num_beams` beams and room for `config.max_target` tokens: `generation_max_length`
      counts the start token too; then `compute_metrics` says what it was worth;
    - after training the model is the one of the evaluation with the highest rougeL, not the last one.
    """
    raise NotImplementedError("lesson 13: build_trainer")


# Given: words, and the refusal of what makes no sense, by the name of the argument.


def words_of(text: str) -> list[str]:
    """The words that ROUGE compares: runs of letters a to z and digits, in lower case. Signs and accents part words."""
    return re.findall(r"[a-z0-9]+", text.lower())


def require_texts(examples: Mapping[str, Sequence[str]]) -> None:
    """Raises ValueError unless there are as many targets as sources, and at least one."""
    counts = {name: len(examples[name]) if name in examples else 0 for name in ("source", "target")}
    if counts["source"] != counts["target"] or counts["source"] == 0:
        received = f"{counts['source']} and {counts['target']}"
        raise ValueError(f"examples: expected as many sources as targets, at least one, received {received}")


def require_labels(labels: Tensor, logits: Tensor | None = None) -> None:
    """Raises ValueError unless labels are (batch, time); with logits, unless they fit, each label exists and one is real."""
    if labels.ndim != 2:
        raise ValueError(f"labels: expected shape (batch, time), received shape {tuple(labels.shape)}")
    if logits is None:
        return
    if logits.ndim != 3:
        raise ValueError(f"logits: expected shape (batch, time, vocabulary), received shape {tuple(logits.shape)}")
    if labels.shape != logits.shape[:2]:
        raise ValueError(f"labels: expected shape {tuple(logits.shape[:2])}, received shape {tuple(labels.shape)}")
    real = labels != IGNORED
    wrong = real & ((labels < 0) | (labels >= logits.shape[2]))
    if wrong.any():
        expected = f"{IGNORED} or a token from 0 to {logits.shape[2] - 1}"
        raise ValueError(f"labels: expected {expected}, received {int(labels[wrong][0])}")
    if not real.any():
        raise ValueError(f"labels: expected at least one that is not {IGNORED}: the mean of nothing is not a number")


def require_as_many(rows: Sequence[Any], generated: Any) -> None:
    """Raises ValueError unless there is one row of ids for each row."""
    if len(rows) != len(generated):
        raise ValueError(f"generated: expected {len(rows)} rows of ids, one for each row, received {len(generated)}")
