"""Lesson 16: is a forecast any good? Scores of probabilities, each beside the forecaster who knows nothing.

Conventions, the same in every function:

- `probabilities` (n,): what was said about n yes-or-no questions, each the probability of yes, from 0 to 1.
- `outcomes` (n,): what came, 1 for yes and 0 for no; of any number type, or bool.
- Logarithms are natural, so losses are in nats. A score is a mean over the questions. Lower is better, but for `accuracy`.
- Results are float64, whatever comes in: forecasts of 0.999999 are told from 1 there. No argument is changed in place.

The `require_...` calls are given, at the end of the file: they refuse input that makes no sense.
"""

from __future__ import annotations

import math
from typing import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]


def accuracy(probabilities: Float[Tensor, "n"], outcomes: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """The share of questions whose likelier answer came (eq. 16.1). A forecast of exactly one half counts one half.

    Raises ValueError if the shapes differ, if there is no question, for a probability outside 0 to 1, or an outcome but 0 and 1.
    """
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    raise NotImplementedError("lesson 16: accuracy")


def log_losses(
    probabilities: Float[Tensor, "n"], outcomes: Float[Tensor, "n"], clip: float = 0.0
) -> Float[Tensor, "n"]:
    """-ln(the probability that was given to what came) of every question, in nats (eq. 16.2).

    clip: probabilities are first moved into [clip, 1 - clip]; 0 leaves them alone, and then a forecast of 0 for what came costs
    inf, as it should, and a forecast of 1 for what came costs 0 and not NaN.
    Raises ValueError as `accuracy` does, or unless clip is at least 0 and below one half.
    """
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    require_clip(clip)
    raise NotImplementedError("lesson 16: log_losses")


def log_loss(probabilities: Float[Tensor, "n"], outcomes: Float[Tensor, "n"], clip: float = 0.0) -> Float[Tensor, ""]:
    """The mean of `log_losses`: the negative log-likelihood of what came, for each question (eq. 16.2).

    Source: Good 1952, Rational decisions.
    """
    raise NotImplementedError("lesson 16: log_loss")


def brier_score(probabilities: Float[Tensor, "n"], outcomes: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """The mean squared distance between what was said and what came, from 0 to 1 (eq. 16.3).

    Brier's own definition adds up yes and no and is twice this one. Raises ValueError as `accuracy` does.
    Source: Brier 1950, Verification of forecasts expressed in terms of probability.
    """
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    raise NotImplementedError("lesson 16: brier_score")


def constant_forecasters(outcomes: Float[Tensor, "n"], score: Score) -> dict[str, Float[Tensor, ""]]:
    """What this score gives to two forecasters who never look at a question (eq. 16.5).

    score: called as score(probabilities, outcomes).
    Returns {"half": ..., "base_rate": ...}: who always says one half, and who always says the share of yes in these outcomes. The
    second one has read the answers; nobody who says the same number every time does better in log loss or Brier score.
    Raises ValueError for no outcome, or for one that is neither 0 nor 1.
    """
    outcomes = require_outcomes(outcomes)
    raise NotImplementedError("lesson 16: constant_forecasters")


def gain_over_half(
    probabilities: Float[Tensor, "n"], outcomes: Float[Tensor, "n"], clip: float = 0.0
) -> tuple[float, float, float]:
    """How much log loss is saved by asking this forecaster and not a coin: mean, and a 95% interval (eq. 16.6).

    The difference ln 2 - loss is taken question by question; the interval is mean -+ 1.96 standard errors, with the unbiased
    standard deviation (divisor n - 1) of the n differences. A positive lower end: better than always saying one half.
    Of a single question nothing is known but its mean: the interval is -inf to inf. Raises ValueError as `log_losses` does.
    """
    raise NotImplementedError("lesson 16: gain_over_half")


def calibration_table(
    probabilities: Float[Tensor, "n"], outcomes: Float[Tensor, "n"], bins: int = 10
) -> dict[str, Float[Tensor, "bins"]]:
    """Did it happen as often as was said? The forecasts sorted into equal parts of 0 to 1 (section 16.5).

    Part k of `bins`, counted from 0, holds the forecasts from k / bins up to but not including (k + 1) / bins; the last one holds
    1 as well. So every forecast is in one part.
    Returns {"count": ..., "forecast": ..., "share": ...}, each (bins,): how many forecasts a part holds, their mean, and the
    share of them for which the answer was yes; NaN for the means of a part that holds none.
    Raises ValueError as `accuracy` does, or unless bins is at least 1.
    """
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    require_bins(bins)
    raise NotImplementedError("lesson 16: calibration_table")


def expected_calibration_error(
    probabilities: Float[Tensor, "n"], outcomes: Float[Tensor, "n"], bins: int = 10
) -> Float[Tensor, ""]:
    """The mean distance between said and seen over the parts of `calibration_table`, weighted by their counts (eq. 16.7).

    Raises ValueError as `calibration_table` does.  Source: Naeini, Cooper and Hauskrecht 2015.
    """
    raise NotImplementedError("lesson 16: expected_calibration_error")


def brier_parts(probabilities: Float[Tensor, "n"], outcomes: Float[Tensor, "n"]) -> dict[str, Float[Tensor, ""]]:
    """The Brier score taken apart: score = reliability - resolution + uncertainty, exactly (eq. 16.8).

    Forecasts are grouped by their value: group g holds the n_g questions of which the same p_g was said, and o_g is the share of
    yes among them; o is the share of yes among all n.

        reliability  = sum_g (n_g / n) (p_g - o_g)^2      0: everything happens as often as is said
        resolution   = sum_g (n_g / n) (o_g - o)^2        how far the groups differ: what the forecaster knows
        uncertainty  = o (1 - o)                          the Brier score of always saying o

    Returns {"reliability": ..., "resolution": ..., "uncertainty": ...}. Raises ValueError as `accuracy` does.
    Source: Murphy 1973, A new vector partition of the probability score.
    """
    probabilities, outcomes = require_forecasts(probabilities, outcomes)
    raise NotImplementedError("lesson 16: brier_parts")


# Given: the refusal of what makes no sense, by the name of the argument.


def require_outcomes(outcomes: Tensor) -> Float[Tensor, "n"]:
    """The outcomes as float64. Raises ValueError unless they are (n,), at least one, each 0 or 1."""
    if outcomes.ndim != 1 or len(outcomes) == 0:
        raise ValueError(f"outcomes: expected shape (n,) with at least one question, received shape {tuple(outcomes.shape)}")
    outcomes = outcomes.double()
    wrong = outcomes[(outcomes != 0) & (outcomes != 1)]
    if len(wrong):
        raise ValueError(f"outcomes: expected 0 or 1, received {wrong[0].item():g}")
    return outcomes


def require_forecasts(probabilities: Tensor, outcomes: Tensor) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Both as float64. Raises ValueError unless they have one shape, each outcome is 0 or 1, each probability from 0 to 1."""
    outcomes = require_outcomes(outcomes)
    if probabilities.shape != outcomes.shape:
        raise ValueError(f"probabilities: expected shape {tuple(outcomes.shape)}, received shape {tuple(probabilities.shape)}")
    probabilities = probabilities.double()
    wrong = probabilities[~((probabilities >= 0) & (probabilities <= 1))]  # NaN is wrong too
    if len(wrong):
        raise ValueError(f"probabilities: expected from 0 to 1, received {wrong[0].item():g}")
    return probabilities, outcomes


def require_clip(clip: float) -> None:
    """Raises ValueError unless clip is from 0 to just below one half."""
    if not 0 <= clip < 0.5:
        raise ValueError(f"clip: expected at least 0 and below 0.5, received {clip}")


def require_bins(bins: int) -> None:
    """Raises ValueError unless there is at least one part."""
    if bins < 1:
        raise ValueError(f"bins: expected at least 1, received {bins}")
