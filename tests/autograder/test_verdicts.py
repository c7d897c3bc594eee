"""Judgements on random answers: the false-reject probability is what it says, exactly."""

from math import comb

import numpy as np
import pytest

from autograder.checks.verdicts import counts_agree, smaller_tail


@pytest.mark.parametrize("false_reject", [0.2, 0.01])
@pytest.mark.parametrize("probabilities", [(0.5, 0.3, 0.2), (0.9, 0.1, 0.0), (1 / 3, 1 / 3, 1 / 3), (0.97, 0.02, 0.01)])
def test_a_right_sampler_is_refused_at_most_as_often_as_promised(probabilities, false_reject):
    """The probability of every possible outcome of 12 draws is listed, so this is no simulation."""
    draws, refused, total = 12, 0.0, 0.0
    for a in range(draws + 1):
        for b in range(draws + 1 - a):
            counts = (a, b, draws - a - b)
            ways = comb(draws, a) * comb(draws - a, b)
            probability = ways * np.prod([p**c for p, c in zip(probabilities, counts)])
            total += probability
            if counts_agree(counts, probabilities, false_reject):
                refused += probability
    assert total == pytest.approx(1) and refused <= false_reject


def test_what_cannot_happen_is_refused_at_any_level():
    assert counts_agree([0, 10], [0.0, 1.0]) is None
    assert counts_agree([1, 999], [0.0, 1.0]) == "outcome 0 came 1 times in 1000 draws; 0 were to be expected"


def test_wrong_shares_are_refused_and_right_ones_pass():
    rng = np.random.default_rng(0)
    right, wrong = np.array([0.5, 0.2, 0.2, 0.1]), np.array([0.2, 0.5, 0.2, 0.1])
    for _ in range(200):
        assert counts_agree(rng.multinomial(300, right), right) is None
        assert counts_agree(rng.multinomial(300, wrong), right)


@pytest.mark.parametrize("counts", [[np.nan, 3.0], [-3.0, 13.0], [np.inf, 1.0], [1e18, 1e18]])
def test_counts_that_are_none_are_refused(counts):
    assert counts_agree(counts, [0.5, 0.5])


def test_errors_name_what_is_wrong():
    with pytest.raises(ValueError, match="counts: expected shape"):
        counts_agree([1, 2, 3], [0.5, 0.5])
    with pytest.raises(ValueError, match="expected to sum to 1"):
        counts_agree([1, 2], [0.5, 0.6])


@pytest.mark.parametrize("draws", [1, 10, 5000])
@pytest.mark.parametrize("p", [0.0, 1e-6, 0.3, 0.999, 1.0])
def test_the_tails_are_those_of_the_binomial_distribution(draws, p):
    binomial = pytest.importorskip("scipy.stats").binom(draws, p)
    for count in {0, 1, draws // 3, draws}:
        exact = min(binomial.cdf(count), binomial.sf(count - 1))
        # sums of logarithms up to 4e4 lose 1e-11 of a probability's size, each of up to 5,000 terms
        assert smaller_tail(count, draws, p) == pytest.approx(exact, rel=1e-9, abs=1e-14)
