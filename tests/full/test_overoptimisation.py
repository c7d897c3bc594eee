"""Lesson 17: truths about gold and proxy, and every number of the text."""

import importlib.util
import math
import time
import tomllib
from itertools import product
from pathlib import Path

import pytest
import torch

from full.given import gold_proxy
from solutions.full import overoptimisation, overoptimisation_bug
from solutions.toy.kl import kl_divergence
from solutions.toy.preferences import dpo_loss, optimal_policy
from toy.given.run_folder import one_thread

LESSON = Path(__file__).resolve().parents[2] / "lessons" / "17-overoptimisation"
TEXT = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").split())
EXACT = 1e-12  # float64 sums of at most some hundred numbers of size about 1
GRADIENT = 1e-10  # float64, through log-softmax and sums over 1024 sentences


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def small_tensors():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def figures():
    return load("lesson_17_figures", LESSON / "figures.py")


@pytest.fixture(scope="module")
def world():
    return gold_proxy.World()


@pytest.fixture(scope="module")
def curves(world):
    return gold_proxy.all_curves(world, overoptimisation)


def drawn(outcomes, seed=0, ties=False):
    generator = torch.Generator().manual_seed(seed)
    reference = torch.softmax(torch.randn(outcomes, generator=generator, dtype=torch.float64), 0)
    reward = torch.randn(outcomes, generator=generator, dtype=torch.float64)
    return reference, reward.round() if ties else reward


def kl(policy, reference):
    return kl_divergence(policy, reference).item()


@pytest.mark.parametrize("n", [1, 2, 5, 40])
@pytest.mark.parametrize("ties", [False, True])
def test_best_of_n_is_a_distribution_no_further_away_than_the_formula(n, ties):
    reference, reward = drawn(9, seed=n, ties=ties)
    probs = overoptimisation.best_of_n_distribution(reference, reward, n)
    assert math.isclose(probs.sum(), 1, abs_tol=EXACT)
    assert kl(probs / probs.sum(), reference) <= overoptimisation.best_of_n_kl(n) + EXACT
    if n == 1:
        assert torch.allclose(probs, reference, atol=EXACT)


def test_the_formula_is_the_limit_of_ever_finer_answers():
    """m answers of equal chance, no two of equal reward: the KL differs from the formula by less than n / m (one cell of F)."""
    for m, n in ((1000, 4), (20_000, 16)):
        reference = torch.full((m,), 1 / m, dtype=torch.float64)
        probs = overoptimisation.best_of_n_distribution(reference, torch.arange(m, dtype=torch.float64), n)
        gap = overoptimisation.best_of_n_kl(n) - (probs * (probs / reference).log()).sum().item()
        assert 0 <= gap < n / m


def test_it_makes_no_difference_which_of_equals_is_kept():
    """The first, or one by lot among those drawn: listed over all draws."""
    reference, reward = drawn(4, seed=3, ties=True)
    reward = torch.tensor([0.0, 1.0, 1.0, 0.0])
    by_lot = torch.zeros(4, dtype=torch.float64)
    for draws in product(range(4), repeat=3):
        best = [i for i in draws if reward[i] == reward[list(draws)].max()]
        for i in best:
            by_lot[i] += reference[list(draws)].prod() / len(best)
    assert torch.allclose(by_lot, overoptimisation.best_of_n_distribution(reference, reward, 3), atol=EXACT)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_mean_over_all_choices_is_unbiased(n):
    """Over every possible table of four samples from three answers, two of them of equal reward: exactly best-of-n's own mean."""
    reference = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    proxy, gold = torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    tables = torch.tensor(list(product(range(3), repeat=4)))
    chance = reference[tables].prod(dim=1)
    means = overoptimisation.best_of_n_mean(proxy[tables], gold[tables], n)
    probs = overoptimisation.best_of_n_distribution(reference, proxy, n)
    for mean, reward in zip(means, (proxy.double(), gold)):
        assert math.isclose(chance @ mean, probs @ reward, abs_tol=EXACT)


def test_the_ends_of_the_mean_are_the_mean_and_the_best():
    proxy, gold = torch.randn(2, 5, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one = overoptimisation.best_of_n_mean(proxy, gold, 1)
    assert torch.allclose(one[0], proxy.mean(1), atol=EXACT) and torch.allclose(one[1], gold.mean(1), atol=EXACT)
    every = overoptimisation.best_of_n_mean(proxy, gold, 30)
    kept = overoptimisation.best_of_n(proxy, 30)
    assert torch.allclose(every[0], proxy.amax(1), atol=EXACT)
    assert torch.allclose(every[1], gold[torch.arange(5), kept], atol=EXACT)


def test_along_the_frontier_a_nat_is_worth_beta():
    """d proxy / d KL = beta: the slope of the frontier is the strength of the penalty (central difference in beta)."""
    reference, proxy = drawn(8)
    step = 1e-4
    for beta in (0.3, 1.0, 4.0):
        found = overoptimisation.tilted_frontier(reference, proxy, proxy, [beta - step, beta + step])
        slope = found["proxy"].diff() / found["kl"].diff()
        assert math.isclose(slope.item(), beta, rel_tol=1e-6)  # error of a central difference: step^2, over beta^2


def test_no_policy_beats_the_frontier_in_proxy(world):
    frontier = gold_proxy.frontier(world, overoptimisation, betas=[x / 20 for x in range(3, 400)])
    reinforced = gold_proxy.trained(world, gold_proxy.reinforce(world, world.proxy))
    for curve in (gold_proxy.best_of_n(world, overoptimisation), reinforced):
        for distance, proxy in zip(curve.kl.tolist(), curve.proxy.tolist()):
            # E[proxy] <= beta KL + beta log Z for every beta, with equality at pi*: the tightest of the bounds
            bound = min(b * (distance - k) + p for b, k, p in zip(frontier.at, frontier.kl.tolist(), frontier.proxy.tolist()))
            assert proxy <= bound + 1e-9


def test_fits_are_those_of_curve_fit():
    import numpy as np
    from scipy.optimize import curve_fit
    from scipy.stats import t

    rng = np.random.default_rng(0)
    distance = rng.uniform(0.2, 3, size=15)
    gain = distance * (1.3 - 0.4 * distance) + 0.05 * rng.normal(size=15)
    forms = {"best_of_n": lambda d, a, b: d * (a - b * d), "rl": lambda d, a, b: d * (a - b * np.log(d))}
    for fitted in (overoptimisation.fit_best_of_n, overoptimisation.fit_rl):
        fit = fitted(torch.tensor(distance**2), torch.tensor(gain))
        found, covariance = curve_fit(forms[fit.form], distance, gain)
        reach = t.ppf(0.975, 13) * np.sqrt(np.diag(covariance))
        assert np.allclose([fit.a, fit.b], found, atol=1e-6)  # curve_fit stops at relative changes of 1e-8
        assert np.allclose([fit.a_interval, fit.b_interval], np.stack([found - reach, found + reach], 1), atol=1e-6)
        assert np.allclose(fit(torch.tensor(distance)), forms[fit.form](distance, fit.a, fit.b))


def test_the_intervals_hold_what_they_promise():
    generator = torch.Generator().manual_seed(1)
    columns = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    held, times = 0, 600
    for _ in range(times):
        values = columns[:, 0] - 2 * columns[:, 1] + torch.randn(5, generator=generator, dtype=torch.float64)
        low, high = overoptimisation.linear_fit(columns, values)[1][0].tolist()
        held += low <= 1 <= high
    assert abs(held / times - 0.95) < 4 * math.sqrt(0.95 * 0.05 / times)  # with 1.96 for Student's 3.18 it would be 0.85


@pytest.mark.parametrize(("form", "a", "b"), [("best_of_n", 2.0, 0.7), ("rl", 1.2, 0.5), ("rl", -0.4, 0.5)])
def test_the_peak_is_where_the_slope_is_zero(form, a, b):
    fit = overoptimisation.Fit(form, a, b, (a, a), (b, b))
    distance, gain = overoptimisation.peak(fit)
    at = torch.tensor(distance, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(fit(at), at)
    assert abs(slope) < EXACT and math.isclose(fit(at.detach()), gain, abs_tol=EXACT)
    assert (fit(torch.linspace(0.001, 20, 4000, dtype=torch.float64)) <= gain + EXACT).all()


def test_a_table_of_quantiles_is_scipys():
    from scipy.stats import t

    from autograder.checks.full.overoptimisation import STUDENT

    assert all(math.isclose(value, t.ppf(0.975, degrees), rel_tol=1e-12) for degrees, value in STUDENT.items())


def test_an_ensemble_and_the_constant_that_no_preference_fixes():
    scores = torch.randn(4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    moved = scores.clone()
    moved[1] += 5
    reference = torch.full((6,), 1 / 6, dtype=torch.float64)
    same = {}
    for how in ("mean", "min", "mean_minus_std"):
        both = (optimal_policy(reference, overoptimisation.ensemble_reward(x, how, 2.0), 1.0) for x in (scores, moved))
        same[how] = torch.allclose(*both, atol=EXACT)
    assert same == {"mean": True, "min": False, "mean_minus_std": False}


def test_stopping_never_looks_ahead():
    values = torch.randn(50, generator=torch.Generator().manual_seed(4), dtype=torch.float64).cumsum(0)
    kept = overoptimisation.stop_by_gold(values, 3)
    assert all(overoptimisation.stop_by_gold(values[:end], 3) == kept for end in range(kept + 4, 51))
    kl = values.abs()
    budget = max(1.5, float(kl[0]))
    kept = overoptimisation.stop_at_kl(kl, budget)
    assert (kl[: kept + 1] <= budget).all()
    assert all(overoptimisation.stop_at_kl(kl[:end], budget) == kept for end in range(kept + 2, 51))


# The world of 1024 sentences


def test_the_table_is_the_enumerable_model(world):
    table = gold_proxy.Table(world)
    assert torch.allclose(table.token_log_probs(), world.reference.token_log_probs(), atol=EXACT)
    with torch.no_grad():
        table.logits += torch.randn(table.logits.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    world.reference.model.logits.data, before = table.logits.detach().unsqueeze(0).clone(), world.reference.model.logits.data
    assert torch.allclose(table.token_log_probs(), world.reference.token_log_probs(), atol=EXACT)
    world.reference.model.logits.data = before


class Watched(Exception):
    pass


def slope_of(path, monkeypatch):
    """The gradient of the first loss that a path descends along."""

    def caught(table, loss, rate):
        raise Watched(torch.autograd.grad(loss, table.logits)[0])

    monkeypatch.setattr(gold_proxy.Table, "descend", caught)
    with pytest.raises(Watched) as seen:
        list(path)
    return seen.value.args[0]


def test_every_algorithm_steps_along_its_exact_gradient(world, monkeypatch):
    table = gold_proxy.Table(world)
    log_probs = table.token_log_probs().sum(1)
    expected = torch.autograd.grad(-(log_probs.exp() @ world.proxy), table.logits, retain_graph=True)[0]
    assert torch.allclose(slope_of(gold_proxy.reinforce(world, world.proxy), monkeypatch), expected, atol=GRADIENT)
    assert torch.allclose(slope_of(gold_proxy.ppo(world, world.proxy), monkeypatch), expected, atol=GRADIENT)  # ratio 1: no clip
    reference, reward = world.probs.log(), world.proxy
    chosen, rejected = (x.flatten() for x in torch.meshgrid(torch.arange(1024), torch.arange(1024), indexing="ij"))
    weights = 2 * world.probs[chosen] * world.probs[rejected] * torch.sigmoid(reward[chosen] - reward[rejected])
    loss = dpo_loss(log_probs[chosen], log_probs[rejected], reference[chosen], reference[rejected], 0.3, weights)
    expected = torch.autograd.grad(loss, table.logits)[0]
    assert torch.allclose(slope_of(gold_proxy.dpo(world, reward), monkeypatch), expected, atol=GRADIENT)


def test_dpo_rests_where_rl_with_a_penalty_does(world):
    """At pi* the implicit reward orders sentences as the proxy does, so nothing pulls any more."""
    beta = 0.8
    log_optimum = world.reference.optimum(world.proxy, beta)
    implicit = gold_proxy.beaten_by_reference(world, beta * (log_optimum - world.probs.log()))
    assert torch.allclose(implicit, gold_proxy.beaten_by_reference(world, world.proxy), atol=EXACT)
    pairs = torch.sigmoid(world.proxy.unsqueeze(0) - world.proxy.unsqueeze(1)) @ world.probs
    assert torch.allclose(pairs, gold_proxy.beaten_by_reference(world, world.proxy), atol=EXACT)


def test_reinforce_with_a_penalty_comes_to_rest_on_the_frontier(world):
    curve = gold_proxy.trained(world, gold_proxy.reinforce(world, world.proxy, 200, beta=1.0))
    found = gold_proxy.frontier(world, overoptimisation, betas=[1.0])
    assert abs(curve.kl[-1] - found.kl[0]) < 0.005 and abs(curve.gold[-1] - found.gold[0]) < 0.005  # 200 steps, not for ever


def test_proxy_rises_and_gold_falls_whatever_the_algorithm(curves):
    for name, curve in curves.items():
        moved = curve.kl > 1e-9
        assert (curve.proxy[moved].diff() > 0).all(), name
        assert 0 < curve.best < len(curve.gold) - 1 and curve.gold[-1] < curve.gold.max() - 0.5, name
        assert 1.6 < curve.distance[curve.best] < 2.0, name


def test_all_of_it_takes_less_than_a_second():
    started = time.process_time()  # of this process alone, in one thread: other work on the machine does not count
    gold_proxy.all_curves(gold_proxy.World(), overoptimisation)
    assert time.process_time() - started < 1


def test_the_reward_models_are_at_their_maximum(world):
    """The gradient of the fit is zero; and the world is the same for the same seed, another for another."""
    again, other = gold_proxy.World(), gold_proxy.World(1)
    assert torch.equal(world.weights, again.weights) and not torch.allclose(world.weights, other.weights)
    assert 0.85 < world.agreement(world.proxy) < 0.95 and world.agreement(world.gold) == pytest.approx(1, abs=EXACT)
    assert world.sentence(int(world.proxy.argmax())) == "superb superb superb superb superb"


def test_the_tour_ends_with_the_picture(tmp_path):
    from rich.console import Console

    from autograder.commands.tour import show_gold_and_proxy

    console = Console(record=True, width=200)
    show_gold_and_proxy(console, tmp_path / "tour")
    picture = tmp_path / "tour" / "gold_proxy.png"
    assert picture.is_file() and str(picture) in console.export_text()


# The silent bug


def test_the_mended_report_peaks_and_the_planted_one_rises(monkeypatch):
    scores = overoptimisation_bug.answers(400)
    mended = overoptimisation_bug.report(*scores)
    assert overoptimisation_bug.advice(mended) in (4, 8, 16)
    for row in mended:
        means = overoptimisation.best_of_n_mean(*scores, row["n"])
        assert [row["proxy"], row["gold"]] == pytest.approx([mean.mean().item() for mean in means], abs=1e-9)
    monkeypatch.setattr(overoptimisation_bug, "in_order", lambda proxy, gold: (proxy.sort(1).values, gold.sort(1).values))
    quietly = overoptimisation_bug.report(*scores)
    assert overoptimisation_bug.advice(quietly) == 64
    assert [row["proxy"] for row in quietly] == pytest.approx([row["proxy"] for row in mended], abs=EXACT)


# The text


def told_in_text(told):
    return {what: text for what, text in told.items() if text not in TEXT}


def test_the_numbers_of_the_text(figures, monkeypatch):
    """All but those that take many seconds; the next test has them."""
    monkeypatch.setattr(figures, "over_seeds", lambda: {})
    monkeypatch.setattr(figures, "penalised", lambda world: {})
    monkeypatch.setattr(figures, "spreads", lambda: ())
    missing = told_in_text(figures.numbers())
    assert set(missing) <= {"its chance", "best n"}  # printed for the curious


@pytest.mark.slow
def test_the_numbers_of_the_text_that_take_longer(figures):
    assert set(told_in_text(figures.numbers())) <= {"its chance", "best n"}


def test_numbers_said_in_passing():
    assert f"{overoptimisation.best_of_n_kl(10_000):.1f}" == "8.2" and "buy 8.2 nats" in TEXT
    assert f"{overoptimisation.best_of_n_kl(1000):.1f}" == "5.9" and "is not 5.9 but" in TEXT
    assert f"{16 - 1 - math.log(16):.1f}" == "12.2" and f"{overoptimisation.best_of_n_kl(16):.1f}" == "1.8"


def test_the_numbers_of_the_questions():
    questions = {q["id"]: q for q in tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]}
    assert math.isclose(questions["kl-of-sixteen"]["answer"], overoptimisation.best_of_n_kl(16), abs_tol=EXACT)
    assert math.isclose(questions["samples-for-a-distance"]["answer"], math.exp(9), rel_tol=EXACT)
    reference, reward = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.0, 1.0, 1.0])
    shown = overoptimisation.best_of_n_distribution(reference, reward, 2)
    assert math.isclose(questions["three-answers"]["answer"], shown[2], abs_tol=EXACT)
    p = 0.3
    far = overoptimisation.best_of_n_distribution(torch.tensor([1 - p, p], dtype=torch.float64), torch.tensor([0.0, 1.0]), 2000)
    assert math.isclose(far[1] * math.log(far[1] / p), -math.log(p), abs_tol=EXACT)  # "right-or-wrong"
    fit = overoptimisation.Fit("rl", 1.0, 0.4, (1, 1), (0.4, 0.4))
    assert math.isclose(math.exp(2 * 1.0 / 0.4 - 2), overoptimisation.peak(fit)[0] ** 2, rel_tol=EXACT)  # "peak-of-a-fit"


def test_sections_hints_and_questions_fit_the_checks():
    from autograder.course import load as course

    lesson = next(lesson for lesson in course().lessons if lesson.number == 17)
    hints = tomllib.loads((LESSON / "hints.toml").read_text(encoding="utf-8"))
    assert {exercise.name for exercise in lesson.exercises} | {"report"} == set(hints)  # the silent bug has its hint too
    lines = (LESSON / "lesson.md").read_text(encoding="utf-8").splitlines()
    sections = {line.split()[1] for line in lines if line.startswith("## ")}
    assert {check.section for check in lesson.checks} <= sections
    questions = tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]
    assert {q["section"] for q in questions} <= sections
