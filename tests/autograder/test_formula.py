"""The formula grammar: what it says is what algebra says, and what it refuses it names."""

import math

import numpy as np
import pytest

from autograder.questions import formula

SAME = [
    ("(1 - p) * u + p * v", "u - p*u + p*v"),
    ("p * (1 - p) * 2", "2*p - 2*p^2"),
    ("exp(a + b)", "exp(a) * exp(b)"),
    ("ln(a / b)", "log(a) - log(b)"),
    ("sigmoid(a - b)", "1 / (1 + exp(b - a))"),
    ("a ** 2", "a^2"),
    ("-a^2", "-(a*a)"),
    ("2^-a", "1 / 2**a"),
    ("a^b^2", "a^(b^2)"),
    ("a - b - 1", "a - (b + 1)"),
    ("a / b / 2", "a / (2 * b)"),
    ("max(a, b) + min(a, b)", "a + b"),
    ("sqrt(a)^2", "a"),
    ("1e-3 + .5", "0.501"),
]
NAMES = ["a", "b", "p", "u", "v"]


@pytest.mark.parametrize("one, other", SAME)
def test_equal_formulas_are_equal(one, other):
    assert formula.equal(formula.parse(one, NAMES), formula.parse(other, NAMES), NAMES, "seed")


@pytest.mark.parametrize("one, other", SAME)
def test_a_changed_formula_is_not_equal(one, other):
    """Zero, flipped, doubled, and off by a millionth."""
    truth = formula.parse(one, NAMES)
    for wrong in ("0", f"-({other})", f"2 * ({other})", f"({other}) + 0.000001"):
        assert not formula.equal(formula.parse(wrong, NAMES), truth, NAMES, "seed")


@pytest.mark.parametrize(
    "text, word",
    [
        ("2p", "`2 p`"),
        ("p q", "`p q`"),
        ("foo + 1", "`foo`"),
        ("(1 + p", "never closed"),
        ("1 +", "too early"),
        ("\\frac{1}{2}", "LaTeX"),
        ("exp p", "brackets"),
        ("min(p)", "2 arguments"),
        ("", "nothing"),
        ("1)", "`)`"),
        ("p = 1", "one side"),
        ("__import__('os')", "`'`"),
        ("p.real", "`.`"),
        ("p; 1", "`;`"),
        ("lambda: 1", "`:`"),
        ("p if p else 1", "`p if`"),
        ("(" * 200 + "1" + ")" * 200, "nested"),
        ("-" * 300 + "1", "nested"),
        ("1" * 501, "500 characters"),
    ],
)
def test_what_is_not_understood_is_named(text, word):
    with pytest.raises(formula.FormulaError) as error:
        formula.parse(text, ["p", "q"])
    assert word in str(error.value)


def test_random_text_raises_formula_errors_only():
    rng = np.random.default_rng(0)
    alphabet = list("pq12.+-*/^(), expln\\{}[]=_'\"")
    for _ in range(3000):
        text = "".join(rng.choice(alphabet, size=rng.integers(0, 12)))
        try:
            parsed = formula.parse(text, ["p", "q"])
        except formula.FormulaError:
            continue
        with np.errstate(all="ignore"):
            assert np.isscalar(float(parsed.values({"p": 0.3, "q": 0.6})))


def test_numbers_may_be_sums():
    assert formula.number("7/8") == 0.875
    assert formula.number("ln(2)") == math.log(2)
    assert math.isinf(formula.number("9^9^9^9"))


def test_infinite_and_undefined_answers_are_wrong():
    truth = formula.parse("p", ["p"])
    for wrong in ("p / 0", "log(-p)", "p + 0/0"):
        assert not formula.equal(formula.parse(wrong, ["p"]), truth, ["p"], "seed")
