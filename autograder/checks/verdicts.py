"""Judgements on random answers: right ones are refused less often than a stated probability, wrong ones by the size of the sample."""

from __future__ import annotations

import numpy as np

from .compare import number


def counts_agree(counts, probabilities, false_reject: float = 1e-6) -> str | None:
    """None if `counts` can be a sample of independent draws from `probabilities`, else which count is off, in a sentence.

    counts: (k,), how often each of k outcomes came, whole numbers.  probabilities: (k,), which sum to 1.
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
    from scipy.special import betainc  # both tails of the binomial distribution; scipy.stats takes seconds to import

    draws = counts.sum()
    with np.errstate(invalid="ignore"):
        at_least = np.where(counts == 0, 1.0, betainc(counts, draws - counts + 1, probabilities.clip(0, 1)))
        at_most = np.where(counts == draws, 1.0, betainc(draws - counts, counts + 1, (1 - probabilities).clip(0, 1)))
    tail = np.minimum(at_most, at_least)
    worst = int(np.argmin(tail))
    if 2 * tail[worst] >= false_reject / len(counts):
        return None
    usual = draws * probabilities[worst]
    return f"outcome {worst} came {number(counts[worst])} times in {number(draws)} draws; {number(usual)} were to be expected"
