"""Judgements on random answers: a right one is refused less often than a stated probability."""

from __future__ import annotations

import numpy as np

from .compare import number

MOST_DRAWS = 1_000_000  # time and memory grow with the number of draws


def counts_agree(counts, probabilities, false_reject: float = 1e-6) -> str | None:
    """None if `counts` can be a sample of independent draws from `probabilities`, else which count is off, in a sentence.

    counts: (k,), how often each of k outcomes came.  probabilities: (k,), which sum to 1.
    Every count is put to the exact two-sided binomial test, at level false_reject / k; by the union bound a right sampler is
    refused with probability at most `false_reject`, whatever the sample's size and however small a probability. (Pearson's
    chi-square has that level only asymptotically, and none where a probability is 0.)
    Raises ValueError if the shapes differ or the probabilities do not sum to 1.
    """
    counts, probabilities = np.asarray(counts, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    if counts.shape != probabilities.shape or counts.ndim != 1:
        raise ValueError(f"counts: expected shape {probabilities.shape}, received {counts.shape}")
    if abs(probabilities.sum() - 1) > 1e-9:
        raise ValueError(f"probabilities: expected to sum to 1, received a sum of {probabilities.sum()}")
    if not (np.isfinite(counts).all() and (counts >= 0).all() and counts.sum() <= MOST_DRAWS):  # a learner's word: anything
        return f"counts must be from 0 to {MOST_DRAWS}"
    draws = round(counts.sum())
    tails = [smaller_tail(count, draws, p) for count, p in zip(counts, probabilities)]
    worst = int(np.argmin(tails))
    if 2 * tails[worst] >= false_reject / len(counts):
        return None
    usual = draws * probabilities[worst]
    return f"outcome {worst} came {number(counts[worst])} times in {number(draws)} draws; {number(usual)} were to be expected"


def smaller_tail(count: float, draws: int, p: float) -> float:
    """min(P(X <= count), P(X >= count)) for X binomial(draws, p), summed term by term.

    In NumPy, because importing SciPy's takes longer than all checks of a lesson; `count` may lie between two whole numbers.
    """
    hits = np.arange(draws + 1)
    if p <= 0 or p >= 1:
        chances = (hits == (draws if p >= 1 else 0)).astype(np.float64)
    else:
        log_factorial = np.concatenate([[0.0], np.cumsum(np.log(hits[1:]))])
        log_ways = log_factorial[-1] - log_factorial - log_factorial[::-1]
        chances = np.exp(log_ways + hits * np.log(p) + (draws - hits) * np.log1p(-p))
    return float(min(chances[hits <= count].sum(), chances[hits >= count].sum()))
