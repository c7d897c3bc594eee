"""Lesson 12: a reward model from preferences, from the files that people's judgements come in to a score for any text.

Conventions, the same in every function:

- A preference is two answers to one prompt and a label: 1 the first is better, 2 the second is, 0 a tie (`Preference`).
- A reward model gives one number to a whole text: prompt, answer, EOS. Only differences of two such numbers for one prompt mean
  anything; they are in nats: P(first preferred) = sigma(score of the first - score of the second).
- In a batch of pairs all chosen rows come first, then the rejected ones in the same order, as in lesson 11.
- `attention_mask` alone says what is real. Padding may stand on either side; a pad token may have any id.
- A loss is a mean over pairs. Results have the dtype of what comes in. No argument is changed in place.

The `require_...` calls are given, at the end of the file: they refuse input that makes no sense.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from full.given import preferences as given
from full.given.preferences import Preference, RewardLoop, RewardModelConfig
from full.given.text import position_ids

Z95 = 1.959963984540054
"Half of a 95% interval in standard deviations of a normal distribution."


def from_label_studio(tasks: Sequence[dict[str, Any]]) -> list[Preference]:
    """The judgements in a Label Studio JSON export, in the order they stand there (section 12.1).

    A task has `data` with the texts `prompt`, `answer1`, `answer2`, and a list `annotations`. Each annotation is one judgement:

        {"id": 7, "was_cancelled": false, "result": [{"type": "pairwise", "value": {"selected": "left"}, ...}]}

    `left` says that answer1 is better, `right` that answer2 is, `tie` neither. Left out are annotations that were cancelled
    (the person skipped the task), and those whose `result` has no entry of type pairwise (nothing was selected).
    A preference's id is its annotation's id as a text: several people may judge one task.
    `given.text_in(task["data"], "prompt")` gives a text and refuses one that is missing; an empty answer is an answer.
    Raises ValueError that names the label for any other selection, and `answer` or `prompt` for a text that is missing.
    """
    raise NotImplementedError("lesson 12: from_label_studio")


def from_qa_feedback(rows: Sequence[dict[str, Any]]) -> list[Preference]:
    """Six preferences of each row of qa_feedback, ties among them, in the order of the row's labels (section 12.1).

    A row has `question`, `passages`, the texts `prediction 1` to `prediction 4`, and `preference`: six labels of the pairs

        12  13  14  23  24  34        0 a tie, 1 the first of the two is better, 2 the second is

    The prompt is `given.context_prompt(question, passages)`. The id is the row's number from 1, a colon and the pair: "3:14".
    Raises ValueError that names the label for another than these, or unless there are six.
    """
    raise NotImplementedError("lesson 12: from_qa_feedback")


def load_preferences(source: Any, *, split: str = "train", limit: int = 0, field: str = "data") -> list[Preference]:
    """The preferences of a source in any of the formats, sound enough to be learned from (section 12.2).

    source, split, limit, field: see `given.read`, which says of what kind the rows are. `given.from_table`, `given.from_pairs`
    and `given.from_comparisons` are for the kinds that you have not written.
    Raises InputProblem (a ValueError) where the source cannot be read, and ValueError that names

        label        for two answers that are the same text, of which one is said to be better (both a tie is sound)
        id           for an id that stands there twice: the same judgement would count twice
    """
    kind, rows = given.read(source, split=split, limit=limit, field=field)
    raise NotImplementedError("lesson 12: load_preferences")


def last_token(attention_mask: Int[Tensor, "batch length"]) -> Int[Tensor, "batch"]:
    """The column of every row's last real token, whichever side the padding is on (eq. 12.1).

    Raises ValueError for a row without a real token: there is nothing in it to read a score at.
    """
    require_real_tokens(attention_mask)
    raise NotImplementedError("lesson 12: last_token")


class RewardModel(nn.Module):
    """A GPT-2 that gives every text one number (section 12.3).

    transformer: a `GPT2Model`, the language model without its logits.  score: a linear map from its width to one number, without
    a bias, which no preference could tell. These two names are those of Hugging Face's `GPT2ForSequenceClassification`, so a
    directory that was saved here is read by it, and the other way round.
    """

    def __init__(self, transformer: nn.Module) -> None:
        """The head starts at normal numbers of standard deviation 0.02, in the transformer's dtype and on its device."""
        super().__init__()
        raise NotImplementedError("lesson 12: RewardModel")

    def forward(
        self, input_ids: Int[Tensor, "batch length"], attention_mask: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch"]:
        """The score of every row, read at its last real token (eq. 12.2).

        The same text has the same score however it is padded: the score is read at `last_token`, and since GPT-2 has an
        embedding for every place, the transformer is told each token's place in its own row (`position_ids`).
        """
        raise NotImplementedError("lesson 12: RewardModel")

    # Given: to and from a Hugging Face directory.

    @property
    def config(self) -> Any:
        return self.transformer.config

    @classmethod
    def from_pretrained(cls, place: str | Path) -> RewardModel:
        """The model in a directory (or of a hub name), float32. Of a language model the head is new: it has yet to be trained."""
        from transformers.models.gpt2.modeling_gpt2 import GPT2ForSequenceClassification

        from full.given.models import quiet

        with quiet():
            found = GPT2ForSequenceClassification.from_pretrained(place, num_labels=1, dtype=torch.float32)
        model = cls(found.transformer)
        if found.config.architectures == ["GPT2ForSequenceClassification"]:
            model.score.load_state_dict(found.score.state_dict())
        return model

    def save_pretrained(self, place: str | Path) -> None:
        """Writes a directory that `GPT2ForSequenceClassification.from_pretrained` reads. The tokenizer is saved by itself."""
        from transformers.models.gpt2.modeling_gpt2 import GPT2ForSequenceClassification

        from full.given.models import quiet

        self.config.num_labels = 1
        whole = GPT2ForSequenceClassification(self.config).to(self.score.weight.dtype)
        whole.load_state_dict(self.state_dict())
        with quiet():
            whole.save_pretrained(place)


def freeze_fraction(model: nn.Module, fraction: float) -> int:
    """Freezes the first `fraction` of the hidden layers, embeddings included; returns how many layers that are (section 12.5).

    model: has `transformer.wte` and `transformer.wpe` (embeddings) and `transformer.h` (layers, the first nearest to the input).
    Frozen are the first floor(fraction * layers) layers (to a rounding error: 0.7 of 10 are 7, 0.29 of 100 are 29). Both
    embeddings lie below all layers and are frozen with them if fraction is above 0, also where it comes to no whole layer.
    Everything else can be trained afterwards, whatever could before: a second call counts from the beginning.
    Raises ValueError for a fraction outside of 0 to 1.
    """
    require_fraction(fraction)
    raise NotImplementedError("lesson 12: freeze_fraction")


def pairwise_loss(chosen: Float[Tensor, "pairs"], rejected: Float[Tensor, "pairs"]) -> Float[Tensor, ""]:
    """The mean negative log-likelihood of the choices, in nats a pair (eq. 12.4).

        loss of a pair = -log sigma(chosen - rejected)

    log 2 where the scores are equal; exact and finite, gradients too, for differences of +-1000.
    Raises ValueError unless both are (pairs,), of the same length and not empty.
    Source: Bradley and Terry 1952; Ouyang et al. 2022, eq. 1.
    """
    require_pairs(chosen=chosen, rejected=rejected)
    raise NotImplementedError("lesson 12: pairwise_loss")


def accuracy(chosen: Float[Tensor, "pairs"], rejected: Float[Tensor, "pairs"]) -> tuple[float, float, float]:
    """(share of pairs whose chosen answer has the higher score, low and high end of its 95% interval) (eq. 12.7 and 12.8).

    Equal scores count one half. The interval is Wilson's: with the share p of n pairs and z = Z95

        ( p + z^2 / 2n  +-  z sqrt( p (1 - p) / n + z^2 / 4n^2 ) ) / (1 + z^2 / n)

    It never leaves 0 to 1 and has a width at p = 0 and 1 too, where p +- z sqrt(p (1 - p) / n) has none.
    Raises ValueError as `pairwise_loss` does.
    Source: Wilson 1927.
    """
    require_pairs(chosen=chosen, rejected=rejected)
    raise NotImplementedError("lesson 12: accuracy")


def calibration(
    chosen: Float[Tensor, "pairs"], rejected: Float[Tensor, "pairs"], bins: int = 5
) -> list[tuple[int, float, float]]:
    """Does it happen as often as the model says? (pairs, confidence, accuracy) of each bin with a pair in it (eq. 12.9).

    The model's favourite of a pair is the answer with the higher score; its confidence in it is sigma(|chosen - rejected|), from
    1/2 to 1. That range is cut into `bins` equal parts, the lower edge of each belonging to it and 1 to the last one. Of the
    pairs in a bin: how many they are, the mean of their confidences, and the share in which the favourite is the chosen answer
    (one half for a tie of scores). In the order of the bins.
    Raises ValueError as `pairwise_loss` does, or unless bins is at least 1.
    """
    require_pairs(chosen=chosen, rejected=rejected)
    require_bins(bins)
    raise NotImplementedError("lesson 12: calibration")


def train(loop: RewardLoop, config: RewardModelConfig) -> None:
    """Learns from the loop's batches of pairs, and ends with the weights that were best on the validation pairs (section 12.4).

    The validation loss is `pairwise_loss` over all pairs of `loop.validation()` (`given.pair_scores` gives their scores).

    1. Before the first step: measure it; these weights are the best so far (`loop.remember()`).
    2. For every batch: the scores of all its rows by one pass, chosen rows first; the loss of its pairs; `loop.update(loss)`.
    3. After every `config.evaluate_every` steps: measure. Lower than ever: remember the weights. If it was not lower for
       `config.patience` measurements in a row: stop.
    4. `loop.log(loss=..., accuracy=..., margin=...)` after every step: the batch's loss, its share of pairs in the right order
       (a tie one half) and its mean difference of scores, all as before the step; with `validation_loss=...` where 3 measured.
    5. At the end, however it came: `loop.restore()`, the best weights.

    Numbers that have to last from step to step are kept in `loop.kept` under the names steps, best and waited (how many
    measurements in a row were no better), so that a run that was stopped can go on: 1 is left out if `best` is there already.
    Dropout is off. The gradient is the loss's: frozen layers get none.
    """
    raise NotImplementedError("lesson 12: train")


# Given: the refusal of what makes no sense, by the name of the argument.


def label_of(selection: Any) -> int:
    """1 for left, 2 for right, 0 for tie. Raises ValueError for anything else."""
    labels = {"left": 1, "right": 2, "tie": 0}
    if not isinstance(selection, str) or selection not in labels:
        raise ValueError(f"label: expected left, right or tie, received {selection!r:.60}")
    return labels[selection]


def require_six_labels(labels: Sequence[Any], row: int) -> None:
    """Raises ValueError unless there are six labels, each 0, 1 or 2."""
    if len(labels) != 6 or any(label not in (0, 1, 2) for label in labels):
        raise ValueError(f"label: expected six of 0 (tie), 1 (first) and 2 (second) in row {row}, received {labels!r:.60}")


def require_real_tokens(attention_mask: Tensor) -> None:
    """Raises ValueError unless the mask is (batch, length) with a real token in every row."""
    if attention_mask.ndim != 2:
        raise ValueError(f"attention_mask: expected shape (batch, length), received shape {tuple(attention_mask.shape)}")
    empty = ~(attention_mask != 0).any(dim=1)
    if empty.any():
        raise ValueError(f"attention_mask: expected a real token in every row, received none in row {int(empty.nonzero()[0])}")


def require_fraction(fraction: float) -> None:
    """Raises ValueError unless it is a number from 0 to 1."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction: expected a number from 0 to 1, received {fraction}")


def require_pairs(**tensors: Tensor) -> None:
    """Raises ValueError unless all have the same shape (pairs,), with at least one pair: torch would stretch a wrong one."""
    (name, first), *others = tensors.items()
    if first.ndim != 1 or len(first) == 0:
        raise ValueError(f"{name}: expected shape (pairs,) with at least one pair, received shape {tuple(first.shape)}")
    for name, tensor in others:
        if tensor.shape != first.shape:
            raise ValueError(f"{name}: expected shape {tuple(first.shape)}, received shape {tuple(tensor.shape)}")


def require_bins(bins: int) -> None:
    """Raises ValueError unless there is at least one bin."""
    if bins < 1:
        raise ValueError(f"bins: expected at least 1, received {bins}")
