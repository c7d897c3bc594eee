"""Lesson 16: truths about scores of forecasts, and every number of the text."""

import importlib.util
import math
import tomllib
from pathlib import Path

import pytest
import torch

from solutions.full import forecast, forecast_bug

LESSON = Path(__file__).resolve().parents[2] / "lessons" / "16-forecast"
TEXT = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").split())
EXACT = 1e-12  # float64 means of at most a few thousand numbers of size about 1


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def figures():
    return load("lesson_16_figures", LESSON / "figures.py")


def drawn(n, seed=0, levels=None):
    generator = torch.Generator().manual_seed(seed)
    said = torch.rand(n, generator=generator, dtype=torch.float64)
    if levels:
        said = (said * levels).round() / levels
    return said, (torch.rand(n, generator=generator, dtype=torch.float64) < said).double()


@pytest.mark.parametrize("levels", [None, 4, 1])
def test_the_brier_score_is_the_sum_of_its_parts(levels):
    said, came = drawn(300, levels=levels)
    parts = forecast.brier_parts(said, came)
    assert math.isclose(parts["reliability"] - parts["resolution"] + parts["uncertainty"], forecast.brier_score(said, came),
        abs_tol=EXACT)


def test_proper_scores_are_least_for_who_says_what_he_believes():
    chance = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    came = torch.tensor([1.0] * 7 + [0.0] * 3)
    for score in (forecast.log_loss, forecast.brier_score):
        (slope,) = torch.autograd.grad(score(chance.expand(10), came), chance)
        assert abs(slope) < EXACT  # at the share of yes the score is flat, and it is convex
    for said in (0.2, 0.5, 0.99):
        mine = forecast.log_loss(torch.full((10,), said, dtype=torch.float64), came)
        best = forecast.log_loss(chance.detach().expand(10), came)
        kl = 0.7 * math.log(0.7 / said) + 0.3 * math.log(0.3 / (1 - said))
        assert math.isclose(mine - best, kl, abs_tol=EXACT)


def test_nobody_who_says_one_number_beats_the_base_rate():
    _, came = drawn(50, seed=3)
    for score in (forecast.log_loss, forecast.brier_score):
        best = forecast.constant_forecasters(came, score)["base_rate"]
        for said in torch.linspace(0.05, 0.95, 19, dtype=torch.float64):
            assert score(said.expand(50), came) >= best - EXACT


def test_constant_forecasters_by_hand():
    came = torch.tensor([1, 0, 0, 0])
    found = forecast.constant_forecasters(came, forecast.brier_score)
    assert found["half"] == 0.25 and math.isclose(found["base_rate"], 0.25 * 0.75, abs_tol=EXACT)
    found = forecast.constant_forecasters(came, forecast.log_loss)
    assert math.isclose(found["half"], math.log(2), abs_tol=EXACT)
    assert forecast.constant_forecasters(came, forecast.accuracy)["half"] == 0.5


def test_certain_forecasts_cost_nothing_or_everything():
    losses = forecast.log_losses(torch.tensor([0.0, 1.0, 0.0, 1.0]), torch.tensor([0, 1, 1, 0]))
    assert losses.tolist() == [0.0, 0.0, math.inf, math.inf]
    clipped = forecast.log_losses(torch.tensor([0.0]), torch.tensor([1]), clip=1e-7)
    assert math.isclose(clipped.item(), 7 * math.log(10), rel_tol=EXACT)


@pytest.mark.parametrize("bins", [1, 2, 5, 10, 100])
def test_every_forecast_is_in_one_part_and_the_edges_too(bins):
    said = torch.arange(bins + 1, dtype=torch.float64) / bins
    table = forecast.calibration_table(said, torch.ones(bins + 1), bins)
    assert table["count"].tolist() == [1.0] * (bins - 1) + [2.0]
    said, came = drawn(500, levels=2 * bins)
    table = forecast.calibration_table(said, came, bins)
    held = table["count"] > 0
    assert table["count"].sum() == 500
    for name, values in (("forecast", said), ("share", came)):  # the parts' means, weighted, are the mean of all
        assert math.isclose((table["count"] * table[name])[held].sum() / 500, values.mean(), abs_tol=EXACT)


def test_calibration_is_not_knowledge():
    came = torch.tensor([1.0, 0.0] * 20)
    base_rate = torch.full((40,), 0.5, dtype=torch.float64)
    assert forecast.expected_calibration_error(base_rate, came) == 0 == forecast.brier_parts(base_rate, came)["resolution"]
    assert forecast.expected_calibration_error(came, came) == 0 and forecast.accuracy(came, came) == 1


def test_one_part_for_all_leaves_the_difference_of_the_means():
    said, came = drawn(70, seed=5)
    error = forecast.expected_calibration_error(said, came, bins=1)
    assert math.isclose(error, abs(said.mean() - came.mean()), abs_tol=EXACT)


def test_the_gain_is_ln_2_less_the_log_loss():
    said, came = drawn(60, seed=6)
    mean, low, high = forecast.gain_over_half(said, came)
    assert math.isclose(mean, math.log(2) - forecast.log_loss(said, came), abs_tol=EXACT) and low < mean < high
    assert forecast.gain_over_half(torch.full((9,), 0.5), came[:9]) == pytest.approx((0, 0, 0), abs=EXACT)
    assert forecast.gain_over_half(said[:1], came[:1])[1:] == (-math.inf, math.inf)


def test_the_mended_report_puts_laplace_first_and_the_planted_one_does_not(monkeypatch):
    right, outcomes = forecast_bug.kinds_of_sums(20_000)
    mended = forecast_bug.report(right, outcomes)
    assert mended["laplace"] < mended["share"]

    def planted(probabilities, bins=forecast_bug.BINS):
        return torch.bucketize(probabilities, torch.arange(bins + 1, dtype=torch.float64) / bins, right=True) - 1

    monkeypatch.setattr(forecast_bug, "parts_of", planted)
    quietly = forecast_bug.report(right, outcomes)
    assert quietly["share"] < quietly["laplace"] == mended["laplace"]


def test_the_numbers_of_the_text(figures, monkeypatch):
    monkeypatch.setattr(figures, "chance", lambda: {})  # minutes of draws are held to the text by the next test
    told = figures.numbers()
    for what, text in told.items():
        if what.startswith("example ") and what.split()[1] in ("half", "base_rate") or what in ("sums held", "sums log loss "
            "share"):
            continue
        assert text in TEXT, (what, text)
    assert math.isclose(0.4 * 0.75 * 0.25 * 2 + 0.2 * 0.25, 0.2, abs_tol=EXACT) and "have cost 0.2000" in TEXT


@pytest.mark.slow
def test_the_calibration_error_that_chance_makes(figures):
    for n, error in figures.chance().items():
        assert f"| {n} | {error:.3f} |" in TEXT


def test_a_small_run_of_chance_agrees_with_the_table(figures):
    assert abs(figures.error_by_chance(30, times=300, seed=1) - 0.177) < 0.015  # 4 standard errors of 300 draws of spread 0.06


def test_the_numbers_of_the_questions():
    questions = {q["id"]: q for q in tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]}
    kl = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert math.isclose(questions["excess-of-saying-90"]["answer"], kl, abs_tol=EXACT)
    outcomes = torch.tensor([1.0] * 8 + [0.0] * 32)
    base_rate = forecast.constant_forecasters(outcomes, forecast.log_loss)["base_rate"]
    assert math.isclose(questions["log-loss-at-base-rate"]["answer"], base_rate, abs_tol=EXACT)


def test_sections_hints_and_questions_fit_the_checks():
    from autograder.course import load as course

    lesson = next(lesson for lesson in course().lessons if lesson.number == 16)
    hints = tomllib.loads((LESSON / "hints.toml").read_text(encoding="utf-8"))
    assert {exercise.name for exercise in lesson.exercises} | {"report"} == set(hints)  # the silent bug has its hint too
    lines = (LESSON / "lesson.md").read_text(encoding="utf-8").splitlines()
    sections = {line.split()[1] for line in lines if line.startswith("## ")}
    questions = tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]
    assert {q["section"] for q in questions} <= sections
