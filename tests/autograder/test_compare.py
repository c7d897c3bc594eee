"""The comparison: what counts as equal, what does not, and what is said of the difference."""

import math

import numpy as np
import pytest

from autograder.checks.compare import describe, difference, number

NAN, INF = math.nan, math.inf


def array(*values, dtype=np.float64):
    return np.array(values, dtype=dtype)


# Zero, flipped and doubled answers differ, whatever they are carried in


@pytest.mark.parametrize("tolerance", [1e-9, 1e-5, 1e-3])
@pytest.mark.parametrize("size", [0.01, 1.0, 1e6])  # half of 0.01 is five times the loosest tolerance
@pytest.mark.parametrize("wrap", [float, np.array, lambda x: [x], lambda x: np.full((2, 3), x), lambda x: [[x, x], [x, x]]])
@pytest.mark.parametrize("wrong", [lambda x: 0 * x, lambda x: -x, lambda x: 2 * x, lambda x: 1.5 * x])
def test_zero_flipped_and_doubled_values_differ(tolerance, size, wrap, wrong):
    for truth in (size, -size):
        assert difference(wrap(truth), wrap(truth), tolerance) is None
        assert difference(wrap(wrong(truth)), wrap(truth), tolerance) is not None


def test_one_wrong_entry_among_thousands_differs():
    truth = np.random.default_rng(0).normal(size=(40, 50)) + 3
    wrong = truth.copy()
    wrong[31, 7] = -wrong[31, 7]
    said = difference({"advantages": wrong}, {"advantages": truth}, 1e-9)
    assert said == f"`advantages`: at [31, 7] expected {number(truth[31, 7])}, received {number(-truth[31, 7])}"


@pytest.mark.parametrize("tolerance", [1e-12, 1e-9, 1e-5])
@pytest.mark.parametrize("truth", [0.0, 1e-3, 1.0, -250.0, 1e8])
def test_the_tolerance_is_absolute_and_relative(tolerance, truth):
    allowed = tolerance * (1 + abs(truth))
    assert difference(truth + 0.9 * allowed, truth, tolerance) is None
    assert difference(truth - 0.9 * allowed, truth, tolerance) is None
    assert difference(truth + 1.1 * allowed, truth, tolerance) is not None
    assert difference(truth - 1.1 * allowed, truth, tolerance) is not None


# NaN and infinity


@pytest.mark.parametrize("wrap", [float, np.array, lambda x: [x, 1.0], lambda x: array(x, 1.0)])
@pytest.mark.parametrize("truth", [0.0, 1.0, INF, -INF, NAN])
@pytest.mark.parametrize("got", [0.0, 1.0, INF, -INF, NAN, 1e308])
def test_nan_and_infinity_equal_only_themselves(wrap, truth, got):
    same = got == truth or (math.isnan(got) and math.isnan(truth))
    assert (difference(wrap(got), wrap(truth), 1e-5) is None) == same


def test_nan_is_named_with_its_place():
    assert difference(array(1, NAN), array(1, 2), 1e-9) == "the answer: NaN at [1], expected [1., 2.]"
    assert difference({"loss": NAN}, {"loss": 2.0}, 1e-9) == "`loss`: NaN, expected 2"
    assert difference(array(NAN, NAN), array(NAN, 2), 1e-9) == "the answer: at [1] expected 2, received nan"
    assert "received inf" in difference(array(INF), array(1e308), 1e-9)


def test_a_huge_tolerance_still_wants_finite_numbers():
    assert difference(INF, 1.0, 1e9) is not None and difference(1.0, INF, 1e9) is not None
    assert difference(-1.7e308, 1.7e308, 1e-9) is not None  # their difference overflows


# Shapes


@pytest.mark.parametrize(
    "got, expected",
    [
        (np.ones((2, 3)), np.ones((3, 2))),
        (np.ones((1, 3)), np.ones(3)),
        (np.ones(1), np.array(1.0)),
        (np.ones(1), 1.0),
        (1.0, np.ones(1)),
        (np.ones(0), np.ones(1)),
        (np.ones((0, 2)), np.ones(0)),
        ([1.0], [1.0, 1.0]),
        ([[1.0], [1.0]], [[1.0, 1.0]]),
    ],
)
def test_shapes_must_agree_and_nothing_is_broadcast(got, expected):
    said = difference({"x": got}, {"x": expected}, 1e-9)
    assert said == f"`x`: expected shape {np.shape(expected)}, received shape {np.shape(got)}"


# Kinds of numbers


def test_numbers_of_any_precision_compare_by_value():
    for dtype in ("float64", "float32", "float16", "int64", "int8", "uint8"):
        assert difference(array(1, 2, dtype=dtype), array(1.0, 2.0), 1e-9) is None
        assert difference(array(1.0, 2.0), array(1, 2, dtype=dtype), 1e-9) is None
        assert difference(array(1, 3, dtype=dtype), array(1.0, 2.0), 1e-9) is not None
    third = np.float32(1 / 3)
    assert difference(third, 1 / 3, 1e-5) is None
    assert difference(third, 1 / 3, 1e-9) is not None  # float32 where float64 was asked for: 1e-8 away


@pytest.mark.parametrize(
    "got, expected", [(True, 1), (1, True), (0.0, False), (array(1.0), array(True, dtype=bool)), ([1, 0], [True, False])]
)
def test_booleans_are_no_numbers(got, expected):
    assert difference(got, expected, 1e-9) is not None


def test_the_kind_is_said():
    said = difference({"mask": array(1.0, 0.0)}, {"mask": array(True, False, dtype=bool)}, 1e-9)
    assert said == "`mask`: expected booleans, received floats"
    assert difference(1, True, 1e-9) == "the answer: expected True, received 1"
    flipped = difference(array(True, True, dtype=bool), array(True, False, dtype=bool), 1e-9)
    assert flipped == "the answer: at [1] expected False, received True"


def test_integers_must_be_the_same_however_loose_the_tolerance():
    """Token 50,257 is not token 50,256, though they are 2e-5 apart."""
    assert difference(array(50_257, dtype=np.int64), array(50_256, dtype=np.int64), 1e-4) is not None
    assert difference([50_257], [50_256], 1e-4) is not None and difference(50_257, 50_256, 1e-4) is not None
    assert difference(array(50_256, dtype=np.int32), array(50_256, dtype=np.uint16), 1e-4) is None
    assert difference(2**63 - 1, 2**63 - 2, 1e-9) is not None
    assert difference(array(2**53 + 1, dtype=np.int64), array(2**53, dtype=np.int64), 1e-9) is not None


def test_a_truth_written_in_whole_numbers_takes_floats_within_the_tolerance():
    assert difference(array(1 + 1e-12, -1 + 1e-12), [1, -1], 1e-9) is None
    assert difference(array(1, -1, dtype=np.int64), [1 + 1e-12, -1.0], 1e-9) is None
    assert difference(array(1 + 1e-6, -1), [1, -1], 1e-9) is not None


def test_integers_beyond_64_bits_are_no_answer():
    for got in (10**30, [10**30], [1, 10**400], {"x": 10**30}):
        assert difference(got, 1.0, 1e-9) is not None and difference(got, [1.0, 2.0], 1e-9) is not None


# Lists and arrays


@pytest.mark.parametrize(
    "listed, packed",
    [
        ([1.0, 2.5], array(1.0, 2.5)),
        ([1, 2], array(1, 2, dtype=np.int64)),
        ([[1, 2, 3], [4, 5, 6]], np.arange(1.0, 7.0).reshape(2, 3)),
        ([[[1.0]], [[2.0]]], np.array([[[1.0]], [[2.0]]])),
        ([True, False], np.array([True, False])),
        ([[True], [False]], np.array([[True], [False]])),
        ([], np.zeros(0)),
        ([], np.zeros(0, dtype=bool)),
        ([[], []], np.zeros((2, 0))),
        ([np.array(1.0), np.array(2.0)], array(1.0, 2.0)),
        ([NAN, INF], array(NAN, INF)),
        ((1.0, 2.0), [1.0, 2.0]),
        ([np.arange(2.0), np.arange(2.0)], np.array([[0.0, 1.0], [0.0, 1.0]])),
    ],
)
def test_lists_and_arrays_compare_with_each_other(listed, packed):
    assert difference(packed, listed, 1e-9) is None
    if not (isinstance(listed, list) and len(listed) and isinstance(listed[0], np.ndarray) and listed[0].ndim):
        assert difference(listed, packed, 1e-9) is None  # where one array was asked for, a list of arrays is something else
    assert difference(listed, listed, 1e-9) is None


def test_a_list_of_arrays_of_several_shapes_compares_one_by_one():
    expected = [np.zeros(2), np.zeros((3, 1)), 1.0]
    assert difference([[0.0, 0.0], np.zeros((3, 1)), np.array(1.0)], expected, 1e-9) is None
    assert difference([np.zeros(2), np.zeros((3, 1))], expected, 1e-9) == "the answer: expected 3 entries, received 2"
    said = difference({"grads": [np.zeros(2), np.array([[0.0], [0.0], [4.0]]), 1.0]}, {"grads": expected}, 1e-9)
    assert said == "`grads[1]`: at [2, 0] expected 0, received 4"


@pytest.mark.parametrize(
    "got", [[1.0, [2.0]], [[1.0], [2.0, 3.0]], [1.0, "2"], [1.0, None], [True, 2.0], "12", None, {}, {"a": 1.0}]
)
def test_what_is_no_array_is_not_taken_for_one(got):
    for expected in ([1.0, 2.0], array(1.0, 2.0)):
        said = difference({"x": got}, {"x": expected}, 1e-9)
        assert said.startswith("`x`: expected [1., 2.], received ")


# Everything else


def test_words_and_none_are_equal_or_not():
    assert difference("happy", "happy", 1e-9) is None and difference(None, None, 1e-9) is None
    assert difference("sad", "happy", 1e-9) == "the answer: expected 'happy', received 'sad'"
    for got, expected in [("1", 1), (1, "1"), (None, 0), (0, None), ("", None), ([], None), ({}, []), ([], {}), (None, [])]:
        assert difference(got, expected, 1e-9) is not None


def test_words_in_lists_and_dicts_in_lists():
    assert difference(["a", "b"], ["a", "b"], 1e-9) is None
    assert difference({"text": ["a", "c"]}, {"text": ["a", "b"]}, 1e-9) == "`text[1]`: expected 'b', received 'c'"
    assert difference([{"x": 1.0}, {"x": 3.0}], [{"x": 1.0}, {"x": 2.0}], 1e-9) == "`[1].x`: expected 2, received 3"


def test_names_missing_and_too_many_are_said():
    assert difference({}, {"loss": 1.0}, 1e-9) == "`loss`: missing"
    assert difference({"a": {"b": 1.0, "c": 2.0, "d": 3.0}}, {"a": {"b": 1.0}}, 1e-9) == "`a`: not asked for: c, d"
    assert difference({"a": {}}, {"a": {"b": {"c": 1.0}}}, 1e-9) == "`a.b`: missing"
    assert difference(3.0, {"a": 1.0}, 1e-9) == "the answer: expected {a: 1}, received 3"
    assert difference({}, {}, 1e-9) is None


@pytest.mark.parametrize("expected", [1.0, [1.0], np.ones(2), "a", None, {"a": 1.0}, ["a"]])
def test_what_could_not_be_carried_is_said_in_its_own_words(expected):
    said = difference({"x": {"$odd": "a sparse_coo tensor"}}, {"x": expected}, 1e-9)
    assert said.endswith("received a sparse_coo tensor")


# What is said


@pytest.mark.parametrize(
    "expected, got", [(1 / 3, 1 / 3 + 1e-8), (1e6 + 0.25, 1e6 + 0.75), (1.0, 1 + 1e-13), (0.5, -0.5), (2.0, NAN)]
)
def test_the_two_numbers_never_look_the_same(expected, got):
    for wrap in (float, np.array, lambda x: array(x, 0.0)):
        said = difference(wrap(got), wrap(expected), 1e-14)
        if not math.isnan(got):
            wanted, came = said.split("expected ")[1].split(", received ")
            assert wanted != came and float(wanted) != float(came)


def test_the_first_difference_is_shown_and_the_others_counted():
    assert difference(np.zeros((2, 3)), np.ones((2, 3)), 1e-9) == "the answer: at [0, 0] expected 1, received 0 (and 5 more of 6)"


def test_nothing_that_came_makes_a_long_message():
    many = {str(i): "y" * 1000 for i in range(1000)}
    huge = ["x" * 10_000, list(range(10_000)), np.zeros((100, 100)), many, {"$odd": "z" * 10_000}]
    for got in huge:
        for expected in (1.0, "a", [1.0, 2.0], {"a": 1}, np.zeros((50, 50)), ["b"]):
            assert len(difference(got, expected, 1e-9)) < 700  # two descriptions of at most 300 characters and a few words
    assert len(describe(huge)) <= 300


def test_neither_side_is_changed():
    got, expected = np.array([1.0, NAN, INF]), np.array([1.0, 2.0, INF])
    before = got.copy(), expected.copy()
    difference(got, expected, 1e-9)
    assert np.array_equal(got, before[0], equal_nan=True) and np.array_equal(expected, before[1])
