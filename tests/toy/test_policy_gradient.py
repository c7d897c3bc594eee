"""Lesson 2: truths about the reference, and every claim and number of the lesson's text."""

import importlib.util
import re
import tomllib
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from solutions.toy import policy_gradient as pg

LESSON = Path(__file__).resolve().parents[2] / "lessons" / "02-policy-gradient"
TEXT = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").split())
EXACT = 1e-12  # float64 sums of at most a few hundred terms of size 10, relative to their size
RNG = np.random.default_rng(20)
THETA = RNG.normal(scale=1.5, size=(3, 4))
REWARDS = RNG.uniform(1, 10, size=(3, 4))  # all positive
CONTEXT_PROBS = np.array([0.5, 0.3, 0.2])
XS, YS = np.divmod(np.arange(12), 4)  # every pair once
POLICY = np.exp(THETA) / np.exp(THETA).sum(axis=1, keepdims=True)
PROBS = CONTEXT_PROBS[XS] * POLICY[XS, YS]  # of the pairs
VALUES = (POLICY * REWARDS).sum(axis=1)


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("lesson_02_figures", LESSON / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def expected_gradient(baseline):
    """E over one sample of REINFORCE's estimate, by listing all of them."""
    one_by_one = (pg.reinforce_gradient(THETA, XS[[n]], YS[[n]], REWARDS[XS[[n]], YS[[n]]], baseline) for n in range(12))
    return sum(p * g for p, g in zip(PROBS, one_by_one))


def draw(rng, count):
    pairs = rng.choice(12, size=count, p=PROBS)
    return XS[pairs], YS[pairs]


# 2.1


def test_rows_sum_to_one_and_a_shift_of_a_row_changes_nothing():
    policy = pg.softmax_policy(THETA)
    assert np.allclose(policy.sum(axis=1), 1, rtol=0, atol=EXACT)
    assert np.allclose(policy, pg.softmax_policy(THETA + np.array([[5.0], [-300.0], [0.5]])), rtol=0, atol=EXACT)
    assert np.allclose(np.log(policy[:, 0] / policy[:, 1]), THETA[:, 0] - THETA[:, 1], rtol=0, atol=EXACT)


def test_large_logits_are_exact():
    theta = np.array([[1000.0, -1000.0], [-1000.0, -1000.0 - np.log(3)]])
    # rounding of logits near 1000 is 1.1e-13, which exp turns into a relative error of the probabilities
    assert np.allclose(pg.softmax_policy(theta), [[1, 0], [0.75, 0.25]], rtol=0, atol=2e-13)
    assert pg.mle_objective(theta, np.array([0]), np.array([1])) == -2000
    assert np.array_equal(pg.score(theta, np.array([0]), np.array([1]))[0], [[-1, 1], [0, 0]])


# 2.2


def test_score_is_the_derivative_of_the_log_probability():
    h = 1e-5  # central differences: truncation h^2/6 times a third derivative below 1 gives 2e-11, rounding 1e-16 / h gives 1e-11
    for n in range(12):
        x, y = XS[[n]], YS[[n]]
        for at in np.ndindex(THETA.shape):
            step = np.zeros_like(THETA)
            step[at] = h
            slope = (pg.mle_objective(THETA + step, x, y) - pg.mle_objective(THETA - step, x, y)) / (2 * h)
            assert abs(pg.score(THETA, x, y)[0][at] - slope) < 1e-9


def test_expected_score_is_zero_under_the_policy_and_under_no_other():
    scores = pg.score(THETA, XS, YS)
    assert np.abs(np.tensordot(PROBS, scores, axes=1)).max() < EXACT
    assert np.abs(scores.mean(axis=0)).max() > 0.01  # uniform pairs
    assert np.abs(scores.sum(axis=2)).max() < EXACT  # a shift of a row changes nothing


def test_squared_norm_of_the_score():
    norms = 1 - 2 * POLICY[XS, YS] + (POLICY**2).sum(axis=1)[XS]
    assert np.allclose((pg.score(THETA, XS, YS) ** 2).sum(axis=(1, 2)), norms, rtol=0, atol=EXACT)


# 2.3, 2.4


def test_mle_gradient_is_data_minus_model():
    xs, ys = np.repeat([0, 1, 2], [50, 30, 20]), np.concatenate([np.arange(50) % 4, np.arange(30) % 3, np.arange(20) % 2])
    data = np.zeros((3, 4))
    np.add.at(data, (xs, ys), 1 / 100)  # d(x) p_data(y|x)
    expected = data - data.sum(axis=1, keepdims=True) * POLICY
    assert np.allclose(pg.mle_gradient(THETA, xs, ys), expected, rtol=0, atol=EXACT)
    model = np.log(np.maximum(data, 1e-300))  # logits that reproduce the data's frequencies
    assert np.abs(pg.mle_gradient(model, xs, ys)).max() < EXACT


def test_expected_mle_update_on_own_samples_is_zero_exactly_and_by_sampling():
    expected = sum(p * pg.mle_gradient(THETA, XS[[n]], YS[[n]]) for n, p in enumerate(PROBS))
    assert np.abs(expected).max() < EXACT
    pairs = product(range(12), repeat=2)  # batches of two
    both = sum(PROBS[i] * PROBS[j] * pg.mle_gradient(THETA, XS[[i, j]], YS[[i, j]]) for i, j in pairs)
    assert np.abs(both).max() < EXACT
    count = 20_000
    scores = pg.score(THETA, *draw(np.random.default_rng(1), count))
    assert (np.abs(scores.mean(axis=0)) < 4 * scores.std(axis=0) / np.sqrt(count)).all()


def test_steps_climb_and_leave_the_table_alone():
    before = THETA.copy()
    stepped = pg.sgd_step(THETA, pg.exact_gradient(THETA, REWARDS, CONTEXT_PROBS), 0.01)
    assert pg.exact_objective(stepped, REWARDS, CONTEXT_PROBS) > pg.exact_objective(THETA, REWARDS, CONTEXT_PROBS)
    assert np.array_equal(THETA, before)


# 2.5, 2.6


def test_exact_gradient_is_the_slope_of_the_objective():
    h = 1e-5  # truncation h^2/6 times a third derivative below 60 gives 1e-9, rounding 1e-15 / h gives 1e-10
    gradient = pg.exact_gradient(THETA, REWARDS, CONTEXT_PROBS)
    for at in np.ndindex(THETA.shape):
        step = np.zeros_like(THETA)
        step[at] = h
        up, down = (pg.exact_objective(theta, REWARDS, CONTEXT_PROBS) for theta in (THETA + step, THETA - step))
        assert abs(gradient[at] - (up - down) / (2 * h)) < 2e-9


def test_mean_score_of_the_data_is_reinforce_with_reward_one():
    ones = np.ones(12)
    assert np.allclose(pg.mle_gradient(THETA, XS, YS), pg.reinforce_gradient(THETA, XS, YS, ones), rtol=0, atol=EXACT)


# 2.7


def test_prompt_tokens_add_a_term_that_only_the_value_baseline_cancels():
    prompt_model = np.array([0.2, 0.5, 0.3])
    prompt_scores = np.eye(3) - prompt_model  # gradient of log p(x) with respect to the logits of the prompts

    def added(baseline):
        return PROBS @ ((REWARDS[XS, YS] - baseline[XS])[:, None] * prompt_scores[XS])

    objective = pg.exact_objective(THETA, REWARDS, CONTEXT_PROBS)
    assert np.allclose(added(np.zeros(3)), CONTEXT_PROBS * VALUES - objective * prompt_model, rtol=0, atol=EXACT)
    assert np.abs(added(np.zeros(3))).max() > 0.1
    assert np.abs(added(VALUES)).max() < EXACT
    assert np.abs(added(np.full(3, objective))).max() > 0.01


# 2.8


@pytest.mark.parametrize("baseline", [0.0, 100.0, VALUES, np.array([-3.0, 50.0, 0.2])], ids=["none", "100", "V", "odd"])
def test_any_baseline_of_the_context_leaves_the_expected_gradient_alone(baseline):
    exact = pg.exact_gradient(THETA, REWARDS, CONTEXT_PROBS)
    assert np.allclose(expected_gradient(baseline), exact, rtol=0, atol=100 * EXACT)  # terms up to 100


@pytest.mark.parametrize("baseline", [0.0, VALUES], ids=["none", "V"])
def test_samples_agree_with_the_exact_gradient_and_variance(baseline):
    count = 20_000
    xs, ys = draw(np.random.default_rng(2), count)
    weights = REWARDS[xs, ys] - np.broadcast_to(baseline, 3)[xs]
    single = weights[:, None, None] * pg.score(THETA, xs, ys)
    estimate = pg.reinforce_gradient(THETA, xs, ys, REWARDS[xs, ys], baseline)
    assert np.allclose(estimate, single.mean(axis=0), rtol=0, atol=EXACT)
    exact = pg.exact_gradient(THETA, REWARDS, CONTEXT_PROBS)
    assert (np.abs(estimate - exact) < 4 * single.std(axis=0) / np.sqrt(count)).all()
    squares = ((single - exact) ** 2).sum(axis=(1, 2))  # their mean estimates the variance, with this standard error
    variance = pg.gradient_variance(THETA, REWARDS, CONTEXT_PROBS, baseline)
    assert abs(squares.mean() - variance) < 4 * squares.std() / np.sqrt(count)


def test_variance_of_a_mean_of_two_is_half():
    exact, total = pg.exact_gradient(THETA, REWARDS, CONTEXT_PROBS), 0.0
    for i, j in product(range(12), repeat=2):
        pair = pg.reinforce_gradient(THETA, XS[[i, j]], YS[[i, j]], REWARDS[XS[[i, j]], YS[[i, j]]], VALUES)
        total += PROBS[i] * PROBS[j] * ((pair - exact) ** 2).sum()
    assert np.isclose(total, pg.gradient_variance(THETA, REWARDS, CONTEXT_PROBS, VALUES) / 2, rtol=EXACT)


def test_a_constant_on_all_rewards_is_noise_without_a_baseline_and_nothing_with_one():
    gradient = pg.exact_gradient(THETA, REWARDS, CONTEXT_PROBS)
    assert np.allclose(pg.exact_gradient(THETA, REWARDS + 100, CONTEXT_PROBS), gradient, rtol=0, atol=100 * EXACT)
    plain, shifted = (pg.gradient_variance(THETA, REWARDS + c, CONTEXT_PROBS) for c in (0, 100))
    assert shifted > 50 * plain
    with_value = [pg.gradient_variance(THETA, REWARDS + c, CONTEXT_PROBS, VALUES + c) for c in (0, 100)]
    assert np.isclose(*with_value, rtol=1e-10)  # the shift costs three digits
    constant = np.full((3, 4), 6.0)
    assert np.abs(pg.exact_gradient(THETA, constant, CONTEXT_PROBS)).max() < EXACT
    assert pg.gradient_variance(THETA, constant, CONTEXT_PROBS) > 1
    assert pg.gradient_variance(THETA, constant, CONTEXT_PROBS, 6.0) == 0


# 2.9


def test_variance_is_a_parabola_around_the_optimal_baseline():
    best = pg.optimal_baseline(THETA, REWARDS)
    least = pg.gradient_variance(THETA, REWARDS, CONTEXT_PROBS, best)
    for baseline in (np.zeros(3), VALUES, best + np.array([0.1, 0, 0]), best - np.array([0, 0, 2.0])):
        excess = CONTEXT_PROBS @ ((1 - (POLICY**2).sum(axis=1)) * (baseline - best) ** 2)  # eq. 2.24
        assert np.isclose(pg.gradient_variance(THETA, REWARDS, CONTEXT_PROBS, baseline), least + excess, rtol=EXACT)


def test_optimal_baseline_of_two_actions_weighs_each_reward_by_the_other_probability():
    for p, u, v in RNG.uniform(0.05, 0.95, size=(5, 3)):
        theta, rewards = np.log([[p, 1 - p]]), np.array([[u, v]])
        assert np.isclose(pg.optimal_baseline(theta, rewards)[0], (1 - p) * u + p * v, rtol=EXACT)
    uniform = pg.optimal_baseline(np.zeros((3, 4)), REWARDS)  # all scores are equally long: the plain mean
    assert np.allclose(uniform, REWARDS.mean(axis=1), rtol=EXACT)


def test_optimal_baseline_of_a_certain_policy_is_its_reward():
    certain = np.array([[1000.0, -1000.0, -1000.0]])
    assert pg.optimal_baseline(certain, np.array([[3.0, 9.0, 1.0]]))[0] == 3.0
    for baseline in (0.0, 3.0, 50.0):
        assert pg.gradient_variance(certain, np.array([[3.0, 9.0, 1.0]]), np.ones(1), baseline) == 0


# 2.10


def test_a_baseline_of_the_action_biases_by_its_own_gradient_and_is_refused():
    guess = REWARDS + RNG.normal(size=REWARDS.shape)
    left = np.tensordot(PROBS, (REWARDS - guess)[XS, YS][:, None, None] * pg.score(THETA, XS, YS), axes=1)
    exact, lost = (pg.exact_gradient(THETA, rewards, CONTEXT_PROBS) for rewards in (REWARDS, guess))
    assert np.allclose(left, exact - lost, rtol=0, atol=10 * EXACT)
    assert np.abs(lost).max() > 0.1
    with pytest.raises(ValueError, match=r"baseline: expected one number or shape \(3,\), received shape \(3, 4\)"):
        pg.reinforce_gradient(THETA, XS, YS, REWARDS[XS, YS], guess)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_baseline_with_the_samples_own_reward_scales_the_gradient(count):
    theta, rewards, total = THETA[:1], REWARDS[0], np.zeros((1, 4))
    for ys in map(np.array, product(range(4), repeat=count)):
        batch = pg.reinforce_gradient(theta, np.zeros(count, int), ys, rewards[ys], rewards[ys].mean())
        total += POLICY[0, ys].prod() * batch
    exact = pg.exact_gradient(theta, REWARDS[:1], np.ones(1))
    assert np.allclose(total, (count - 1) / count * exact, rtol=0, atol=10 * EXACT)


# what is refused


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: pg.softmax_policy(THETA[0]), r"theta: expected a table \(contexts, actions\), received shape \(4,\)"),
        (lambda: pg.score(THETA, np.array([3]), np.array([0])), "xs: expected indices from 0 to 2, received 3 to 3"),
        (lambda: pg.score(THETA, np.array([0]), np.array([-1])), "ys: expected indices from 0 to 3, received -1 to -1"),
        (lambda: pg.mle_gradient(THETA, XS, YS[:5]), r"ys: expected shape \(12,\), received shape \(5,\)"),
        (lambda: pg.mle_objective(THETA, XS[:0], YS[:0]), "xs: expected one or more integers"),
        (lambda: pg.exact_objective(THETA, REWARDS.T, CONTEXT_PROBS), r"rewards: expected shape \(3, 4\)"),
        (lambda: pg.exact_gradient(THETA, REWARDS, 2 * CONTEXT_PROBS), "context_probs: .* sum 2.0"),
        (lambda: pg.gradient_variance(THETA, REWARDS, CONTEXT_PROBS, np.ones(4)), r"baseline: .* shape \(3,\)"),
        (lambda: pg.sgd_step(THETA, REWARDS[0], 0.1), r"gradient: expected shape \(3, 4\), received shape \(4,\)"),
        (lambda: pg.optimal_baseline(THETA, REWARDS[0]), "rewards: expected shape"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# the text


def test_the_exact_numbers_of_the_text(figures):
    missing = {name: text for name, text in figures.exact_numbers(pg).items() if text not in TEXT}
    assert not missing
    scores = pg.score(figures.THETA, np.zeros(3, int), np.arange(3))[:, 0]
    gradient = pg.exact_gradient(figures.THETA[:1], figures.REWARDS[:1], np.ones(1))[0]
    for baseline, uphill in ((0.0, [True, False, False]), (8.5, [True, True, True])):  # inner products, section 2.8
        assert ((figures.REWARDS[0] - baseline) * (scores @ gradient) > 0).tolist() == uphill
    assert "worth 45 without" in TEXT and round(39.65625 / 0.875) == 45
    assert "$10^{94}$" in TEXT and round(20 * np.log10(50_000)) == 94


@pytest.mark.slow
def test_the_measured_numbers_of_the_text(figures):
    found = figures.measure(pg)
    missing = {name: text for name, text in figures.measured_numbers(pg, found).items() if text not in TEXT}
    assert not missing
    drift = found["own"][:, -1] - figures.THETA
    assert (np.abs(drift.mean(axis=0)) < 4 * drift.std(axis=0, ddof=1) / np.sqrt(figures.RUNS)).all()


def test_the_loop_printed_in_the_text_is_the_one_that_was_measured(figures):
    (listing,) = re.findall(r"```python\n(.*?)```", (LESSON / "lesson.md").read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(listing.replace("from toy.", "from solutions.toy."), names)
    assert np.allclose(names["theta"], figures.learn(pg, "value", 0)[-1], rtol=EXACT)


def test_equations_and_pictures_the_text_speaks_of_exist():
    tags = re.findall(r"\\tag\{(2\.\d+)\}", TEXT)
    assert tags == [f"2.{n}" for n in range(1, len(tags) + 1)]
    cited = set(re.findall(r"eqs?\. (2\.\d+)", Path(pg.__file__).read_text(encoding="utf-8")))
    assert cited and cited <= set(tags)
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT):
        assert (LESSON / picture).is_file()


def test_the_answers_to_the_questions_are_right():
    questions = {q["id"]: q for q in tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]}
    for p, u, v in RNG.uniform(0.1, 0.9, size=(5, 3)):
        theta = np.log([[p, 1 - p]])
        point = {"p": p, "u": u, "v": v}
        best = pg.optimal_baseline(theta, np.array([[u, v]]))[0]
        assert np.isclose(eval(questions["two-actions"]["answer"], {}, point), best, rtol=EXACT)
        length = pg.softmax_policy(theta)[0] @ (pg.score(theta, np.array([0, 0]), np.array([0, 1])) ** 2).sum(axis=(1, 2))
        assert np.isclose(eval(questions["mean-score-length"]["answer"], {}, point), length, rtol=EXACT)
    even = np.zeros((1, 2))
    assert questions["constant-reward"]["answer"] == pg.gradient_variance(even, np.full((1, 2), 6.0), np.ones(1))
    assert questions["own-reward"]["answer"] == 7 / 8
