"""Lesson 11: direct preference optimisation of a language model, from token ids to a sweep over beta.

Conventions, the same in every function:

- A pair is two completions of one prompt, the chosen one and the rejected one. In a batch of pairs all chosen rows come first,
  then all rejected rows in the same order: (two_batch, ...) with two_batch = 2 pairs. Rows are prompt, completion, padding.
- `attention_mask` alone says what is real; a pad token may have any id. EOS is a token of the completion like any other.
- Log-probabilities are natural (nats). Of a completion they are the *sum* over its tokens unless `average` asks for the mean.
- The reference is fixed: no gradient flows into its log-probabilities, even if they ask for one.
- A loss is a mean over pairs. Results have the dtype of what comes in, but at least float32: a sum over a vocabulary, or over
  a completion, needs more digits than bfloat16 has. No argument is changed in place.

The `require_...` calls are given, at the end of the file: they refuse input that makes no sense.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from full.given.loop import Loop
from full.given.scoring import chosen_log_probs, logits_where
from full.given.settings import DPO_LOSSES, DPOConfig, require_one_of
from full.given.text import Pairs
from toy.given.ppo import require_not_negative, require_positive, require_same_shape

IGNORED = -100
"The label of a token that is not scored, as PyTorch and Hugging Face have it."


def completion_labels(
    input_ids: Int[Tensor, "batch length"], attention_mask: Int[Tensor, "batch length"], prompt_lengths: Int[Tensor, "batch"]
) -> Int[Tensor, "batch length"]:
    """The token ids of the completions; -100 on the prompt's tokens and on padding (section 11.1).

    prompt_lengths: how many of a row's first tokens are its prompt, 0 up to the row's length. Padding stands on the right.
    Raises ValueError if the shapes differ, for padding before a real token, or for a prompt longer than its row's real tokens.
    """
    require_same_shape(input_ids=input_ids, attention_mask=attention_mask)
    require_padding_right(attention_mask)
    require_prompts(prompt_lengths, attention_mask)
    raise NotImplementedError("lesson 11: completion_labels")


def sequence_log_probs(
    logits: Float[Tensor, "batch length vocabulary"], labels: Int[Tensor, "batch length"], average: bool = False
) -> Float[Tensor, "batch"]:
    """log pi(completion | prompt) of every row: the sum over its labelled tokens (eq. 11.2); their mean if `average` (eq. 11.4).

    logits: as a causal language model returns them for the row's tokens: those at position t are for the token at t + 1.
    labels: token ids, -100 where nothing is to be scored. labels[:, 0] is never scored: nothing stands before it.
    A row without a scored token gives 0. Exact for logits of any size; from bfloat16 logits the result is float32.
    Raises ValueError if the shapes do not fit, or for a label that is neither -100 nor a token of the vocabulary.
    """
    require_labels(labels, logits)
    raise NotImplementedError("lesson 11: sequence_log_probs")


def pair_log_probs(model: nn.Module, pairs: Pairs, average: bool = False) -> Float[Tensor, "two_batch"]:
    """log pi(completion | prompt) of all chosen rows, then of all rejected ones, by a single forward pass (section 11.3).

    model: a Hugging Face causal language model; `model(input_ids=..., attention_mask=..., logits_to_keep=k).logits` are those of
    the last k columns alone. The columns inside every row's prompt need no logits: with the shortest prompt of n tokens the
    first logits that count stand at its last token, column n - 1. Nor does padding: `logits_where` makes none but those asked for.
    """
    raise NotImplementedError("lesson 11: pair_log_probs")


def reference_log_probs(reference: nn.Module | None, pairs: Pairs, average: bool = False) -> Float[Tensor, "two_batch"]:
    """The same under the reference, as constants. What `pairs.ref_log_probs` holds is not computed again (section 11.3).

    pairs.ref_log_probs: sums over each completion's scored tokens, (two_batch,), or None; with `average` they become means.
    reference: a causal language model; may be None where `pairs` brings the log-probabilities along.
    """
    raise NotImplementedError("lesson 11: reference_log_probs")


def dpo_loss(
    chosen: Float[Tensor, "pairs"],
    rejected: Float[Tensor, "pairs"],
    ref_chosen: Float[Tensor, "pairs"],
    ref_rejected: Float[Tensor, "pairs"],
    beta: float,
    loss: str = "dpo",
    dpop_lambda: float = 5.0,
) -> Float[Tensor, ""]:
    """The mean loss over pairs: DPO (eq. 11.7), DPO-positive (eq. 11.10) or IPO (eq. 11.11).

        l = log pi(y|x) - log ref(y|x)  of the chosen (l_c) and the rejected answer (l_r),    h = l_c - l_r

        dpo     -log sigma( beta h )
        dpop    -log sigma( beta (h - dpop_lambda max(0, -l_c)) )
        ipo     (h - 1 / (2 beta))^2

    chosen, rejected, ref_chosen, ref_rejected: log-probabilities of whole completions, in nats, each (pairs,).
    `dpop_lambda` stands *inside* beta: lesson 5's lam is beta times it. At l_c = 0 the hinge has a corner; either slope will do.
    Finite and exact for margins of +-1000 nats. At pi = ref the first loss is log 2, its slopes -beta/2 and +beta/2 a pair.
    Raises ValueError if the shapes differ, if there is no pair, unless beta is positive and finite, for a negative dpop_lambda,
    or for another loss than these.
    Source: Rafailov et al. 2023, eq. 7; Pal et al. 2024 (Smaug); Azar et al. 2024, eq. 17.
    """
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    require_positive("beta", beta)
    require_one_of("loss", loss, DPO_LOSSES)
    require_not_negative("dpop_lambda", dpop_lambda)
    raise NotImplementedError("lesson 11: dpo_loss")


def dpo_metrics(
    chosen: Float[Tensor, "pairs"],
    rejected: Float[Tensor, "pairs"],
    ref_chosen: Float[Tensor, "pairs"],
    ref_rejected: Float[Tensor, "pairs"],
    beta: float,
) -> dict[str, Float[Tensor, ""]]:
    """What to watch while DPO runs (eq. 11.12 to 11.14): a dictionary of means over the pairs, without gradient.

        chosen_reward, rejected_reward        beta (log pi(y|x) - log ref(y|x)), the implicit rewards
        margin                                chosen_reward - rejected_reward
        accuracy                              share of pairs whose chosen reward is the higher one; a tie counts one half
        chosen_log_prob, rejected_log_prob    log pi(y|x): whether an answer itself has become likelier, in nats

    At pi = ref the rewards and the margin are 0 and the accuracy is one half.
    Raises ValueError if the shapes differ, if there is no pair, or unless beta is positive and finite.
    """
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    require_positive("beta", beta)
    raise NotImplementedError("lesson 11: dpo_metrics")


def train(loop: Loop, config: DPOConfig) -> None:
    """DPO over the loop's batches of pairs, one step of the optimizer for each (section 11.6).

    For every `pairs` of `loop.batches()`:
    1. log-probabilities of all completions under `loop.policy` and under `loop.reference` (`config.average`: their means);
    2. the loss that `config.loss` names, with `config.beta` and `config.dpop_lambda`;
    3. `loop.update(loss)`;
    4. `loop.log(loss=..., ...)` with everything `dpo_metrics` says: all of it measured before the step.

    Dropout is off (`model.eval()`) in the policy, and in the reference where there is one (`loop.reference` is None where every
    batch brings `ref_log_probs`): at pi = ref the first loss is log 2 exactly.
    """
    raise NotImplementedError("lesson 11: train")


def sweep(run: Callable[[float], dict[str, Any]], betas: Sequence[float]) -> list[dict[str, Any]]:
    """One run for each beta, and which of them are beaten (section 11.8).

    run: trains anew with this beta and returns figures by name, among them "reward" and "kl".
    Returns a row a beta, in the order given: {"beta": beta, "dominated": ..., and the run's figures}. A row is dominated if
    another has at least its reward at no more than its KL, and is better in one of the two. What the losses are plays no part:
    at different beta they are not comparable (eq. 11.8).
    Raises ValueError for no betas, or for one that is not positive and finite; both before the first run.
    """
    require_betas(betas)
    raise NotImplementedError("lesson 11: sweep")


# Given: the refusal of what makes no sense, by the name of the argument.


def require_padding_right(attention_mask: Tensor) -> None:
    """Raises ValueError unless the real tokens of every row stand before its padding."""
    holes = ((attention_mask[:, 1:] != 0) & (attention_mask[:, :-1] == 0)).any(dim=1)
    if holes.any():
        row = int(holes.nonzero()[0])
        received = f"{attention_mask[row].tolist()} in row {row}"
        raise ValueError(f"attention_mask: expected padding behind the real tokens alone, received {received}")


def require_prompts(prompt_lengths: Tensor, attention_mask: Tensor) -> None:
    """Raises ValueError unless there is one length a row, each from 0 to the row's number of real tokens."""
    if prompt_lengths.shape != attention_mask.shape[:1]:
        expected = f"shape {tuple(attention_mask.shape[:1])}, one number a row"
        raise ValueError(f"prompt_lengths: expected {expected}, received shape {tuple(prompt_lengths.shape)}")
    real = (attention_mask != 0).sum(dim=1)
    wrong = (prompt_lengths < 0) | (prompt_lengths > real)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        expected = f"0 to {int(real[row])}, the real tokens of row {row}"
        raise ValueError(f"prompt_lengths: expected {expected}, received {int(prompt_lengths[row])}")


def require_labels(labels: Tensor, logits: Tensor) -> None:
    """Raises ValueError unless labels are (batch, length), as the logits are, and each is -100 or a token of the vocabulary."""
    if logits.ndim != 3:
        raise ValueError(f"logits: expected shape (batch, length, vocabulary), received shape {tuple(logits.shape)}")
    if labels.shape != logits.shape[:2]:
        raise ValueError(f"labels: expected shape {tuple(logits.shape[:2])}, received shape {tuple(labels.shape)}")
    wrong = (labels != IGNORED) & ((labels < 0) | (labels >= logits.shape[2]))
    if wrong.any():
        expected = f"{IGNORED} or a token from 0 to {logits.shape[2] - 1}"
        raise ValueError(f"labels: expected {expected}, received {int(labels[wrong][0])}")


def require_pairs(**tensors: Tensor) -> None:
    """Raises ValueError unless all have the same shape (pairs,), with at least one pair: the mean of nothing is NaN."""
    (name, first), *others = tensors.items()
    if first.ndim != 1 or len(first) == 0:
        raise ValueError(f"{name}: expected shape (pairs,) with at least one pair, received shape {tuple(first.shape)}")
    for name, tensor in others:
        if tensor.shape != first.shape:
            raise ValueError(f"{name}: expected shape {tuple(first.shape)}, received shape {tuple(tensor.shape)}")


def require_betas(betas: Sequence[float]) -> None:
    """Raises ValueError for an empty list, or for a beta that is not positive and finite."""
    wrong = [beta for beta in betas if not 0 < beta < math.inf]
    if len(betas) == 0 or wrong:
        raise ValueError(f"betas: expected at least one number, all positive, received {wrong[0] if wrong else 'none'}")
