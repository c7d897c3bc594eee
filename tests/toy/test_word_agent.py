"""Lesson 3: truths about the reference, and the claims and numbers of the lesson's text."""

import importlib.util
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from autograder.checks import checks_in
from autograder.checks.toy import word_agent as checks
from autograder.grading.examine import _wrong_there, diagnose
from autograder.grading.oracle import Oracle
from solutions.toy import word_agent as lesson
from toy.given import word_run
from toy.given.words import POSITIVE, SCORES, START, WORDS, Critic

LESSON = Path(__file__).resolve().parents[2] / "lessons" / "03-word-agent"
TEXT = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").split())
EXACT = 1e-12  # float64, a few dozen operations on numbers of size 1 to 10
SCORE = torch.tensor(SCORES, dtype=torch.float64)
LOGITS = torch.tensor([0.3, -1.2, 0.8, 1.9, -0.4, 0.1], dtype=torch.float64)
PI = torch.softmax(LOGITS, 0)


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("lesson_03_figures", LESSON / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def close(mine, theirs, tolerance=EXACT):
    return torch.allclose(mine, torch.as_tensor(theirs, dtype=mine.dtype), rtol=0, atol=tolerance)


def update(word, advantage):
    """What one step of gradient descent with rate 1 adds to the logits."""
    logits = LOGITS.clone().requires_grad_(True)
    lesson.policy_loss(logits, word, advantage).backward()
    return -logits.grad


# the given code


def test_the_six_words():
    assert WORDS == ("happy", "joyful", "pleasant", "sad", "angry", "unpleasant")
    assert [Critic()(w) for w in range(6)] == [1, 1, 1, -1, -1, -1]
    assert [Critic(2.0)(w) for w in range(6)] == [3, 3, 3, 1, 1, 1]
    assert all((SCORES[w] > 0) == (w in POSITIVE) for w in range(6))
    for word in (-1, START):
        with pytest.raises(ValueError, match=f"word.*received {word}"):
            Critic()(word)


# 3.1 to 3.3


def test_the_agent_keeps_its_dtype_and_its_rows_are_distributions():
    torch.manual_seed(0)
    agent = lesson.Agent(hidden_size=5)
    previous = torch.arange(7)
    for dtype in (torch.float32, torch.float64):
        logits = agent.to(dtype)(previous)
        assert logits.shape == (7, 6) and logits.dtype == dtype
    assert close(agent.probabilities(previous).sum(dim=1), torch.ones(7, dtype=torch.float64))
    assert close(agent.probabilities(previous)[[2]], agent.probabilities(previous[[2]]))  # rows do not see each other


def test_positive_and_negative_words_share_all_probability_and_a_shift_changes_nothing():
    other_way = lesson.positive_probability(LOGITS.roll(3))  # the last three words' logits in the first three places
    assert close(lesson.positive_probability(LOGITS) + other_way, 1.0)
    assert close(lesson.positive_probability(LOGITS + 300), lesson.positive_probability(LOGITS), 1e-10)  # 300 costs three digits
    assert close(2 * lesson.positive_probability(LOGITS) - 1, PI @ SCORE)  # eq. 3.4


@pytest.mark.parametrize("baseline", [0.0, 0.4, -7.0])
def test_the_expected_step_is_the_gradient_of_the_expected_reward_whatever_the_baseline(baseline):
    logits = LOGITS.clone().requires_grad_(True)
    (torch.softmax(logits, 0) @ SCORE).backward()
    assert close(sum(PI[w] * update(w, SCORES[w] - baseline) for w in range(6)), logits.grad)


def test_no_gradient_reaches_the_advantage_and_extreme_logits_are_exact():
    advantage = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    logits = torch.tensor([200.0, -200.0, 0.0, 0.0, 0.0, 0.0], requires_grad=True)
    loss = lesson.policy_loss(logits, 1, advantage * 2)
    loss.backward()
    assert advantage.grad is None
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(400 * 1.4, rel=1e-6)  # float32 holds 7 digits
    assert close(logits.grad, torch.tensor([1.4, -1.4, 0, 0, 0, 0]), 1e-6)


# 3.4


def test_updating_the_baseline_first_scales_the_advantage_by_n_minus_1_over_n():
    right, wrong = lesson.Baseline(), lesson.Baseline()
    for n, reward in enumerate(np.random.default_rng(1).normal(size=50).tolist(), start=1):
        advantage = reward - right.get()
        right.update(reward)
        wrong.update(reward)
        assert reward - wrong.get() == pytest.approx((n - 1) / n * advantage, abs=EXACT)  # eq. 3.9


def test_a_shift_of_all_rewards_changes_no_gradient_but_the_variance(figures):
    uniform = np.full(6, 1 / 6)
    for shift in (0.0, 2.0):
        centred = figures.variance(uniform, figures.SCORE + shift, shift)
        assert centred == pytest.approx(2 / 3, abs=EXACT)  # 5/6 of E[A^2] = 1, less the squared gradient 1/6
        assert figures.variance(uniform, figures.SCORE + shift, 0.0) == pytest.approx(2 / 3 + shift**2 * 5 / 6, abs=EXACT)


# 3.5


@pytest.mark.parametrize("mode", ["sample", "argmax"])
def test_the_behaviour_policy_is_a_distribution_with_the_stated_ends(mode):
    ends = PI if mode == "sample" else torch.eye(6, dtype=torch.float64)[3]
    assert close(lesson.behaviour_policy(LOGITS, 0.0, mode), ends)
    assert close(lesson.behaviour_policy(LOGITS, 1.0, mode), torch.full((6,), 1 / 6, dtype=torch.float64))
    assert close(lesson.behaviour_policy(LOGITS, 0.37, mode).sum(), 1.0)
    assert lesson.behaviour_policy(LOGITS.float(), 0.1, mode).dtype == torch.float32


@pytest.mark.parametrize("mode", ["sample", "argmax"])
def test_importance_weights_give_the_gradient_back(mode):
    behaviour = lesson.behaviour_policy(LOGITS, 0.2, mode)
    gradient = PI * (SCORE - PI @ SCORE)  # eq. 2.13
    weighted = sum(behaviour[w] * update(w, PI[w] / behaviour[w] * SCORES[w]) for w in range(6))
    unweighted = sum(behaviour[w] * update(w, SCORES[w]) for w in range(6))
    assert close(weighted, gradient)
    assert not close(unweighted, gradient, 0.01)


def test_words_come_from_the_generator_alone():
    before = torch.random.get_rng_state()
    draws = [[lesson.choose_word(LOGITS, 0.3, torch.Generator().manual_seed(s), "sample") for s in range(20)] for _ in "ab"]
    assert draws[0] == draws[1] and len(set(draws[0])) > 1
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(type(word) is int for word in draws[0])
    assert {lesson.choose_word(LOGITS, 0.0, torch.Generator().manual_seed(s), "argmax") for s in range(20)} == {3}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_sample_size_of_the_drawing_check_tells_every_mistake(seed):
    """Each known mistake's own random counts, 100 times: always refused, always named."""
    (check,) = (c for c in checks_in(checks) if c.probe == "word_counts")
    oracle, rng = Oracle("toy.word_agent", seed), np.random.default_rng(seed)
    cases, expected = oracle.cases(check), oracle.expected(check)
    for wrong in check.known_mistakes():
        for _ in range(100):
            answers = []
            for answer in oracle.answers(check, wrong):
                draws = round(answer["counts"].sum())
                answers.append({**answer, "counts": rng.multinomial(draws, answer["counts"] / answer["counts"].sum())})
            assert any(_wrong_there(check, a, e, c) for a, e, c in zip(answers, expected, cases)), wrong.id
            assert diagnose(check, oracle, answers)[0] == wrong.id


# 3.6


def final(seed, epsilon=0.0, **settings):
    """Exact P(positive) at the end, with the agent in float32 as a student's is."""
    torch.manual_seed(seed)
    agent = lesson.Agent()
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-2)
    losses, shares = lesson.train(agent, Critic(), optimizer, lesson.Baseline(), epsilon, 300, seed, **settings)
    assert losses.shape == shares.shape == (300,) and losses.dtype == shares.dtype == torch.float64
    return word_run.exact_positive(agent)


def test_training_reaches_099_and_repeats_itself():
    assert final(0) == final(0) >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"epsilon": 0.1}, {"epsilon": 0.1, "mode": "argmax", "weighted": False}], ids=str)
def test_training_reaches_099_on_every_one_of_20_seeds(settings):
    assert min(final(seed, **settings) for seed in range(20)) >= 0.99


def test_the_threshold_of_the_learning_check_is_far_below_every_correct_run():
    """100,000 runs of a correct agent on the check's own settings, all at once in NumPy, against a threshold of 0.8.

    The quantile falls by about 0.017 for each factor of ten (1e-4: 0.905, 1e-5: 0.890, worst of a million: 0.871), so 0.8 is
    far beyond a false rejection in a million.
    """
    (check,) = (c for c in checks_in(checks) if c.probe == "trained_tables")
    (case,) = check.cases(np.random.default_rng(0))
    rng, runs = np.random.default_rng(2), 100_000
    logits, row = rng.uniform(-0.5, 0.5, size=(runs, 6)), np.arange(runs)
    assert np.abs(case["tables"]).max() <= 0.5
    for _ in range(case["iterations"]):
        pi = checks.softmax(logits)
        words = (pi.cumsum(axis=1) < rng.random((runs, 1))).sum(axis=1).clip(0, 5)
        advantage = np.array(SCORES)[words]
        step = -pi * advantage[:, None]
        step[row, words] += advantage
        logits += case["learning_rate"] * step
    positive = np.sort(checks.softmax(logits)[:, :3].sum(axis=1))
    assert positive[0] > 0.86 and positive[runs // 10_000] > 0.89 and check.truth(**case)["at_least"] == 0.8


def test_argmax_with_a_baseline_freezes_exactly():
    """Gradient descent with a small rate leaves the favourite in place: the second and all later losses are 0."""
    torch.manual_seed(0)
    agent = lesson.Agent(hidden_size=8).double()
    optimizer = torch.optim.SGD(agent.parameters(), lr=1e-6)
    losses, _ = lesson.train(agent, Critic(), optimizer, lesson.Baseline(), 0.0, 5, 0, mode="argmax", weighted=False)
    assert losses[0] != 0 and torch.equal(losses[1:], torch.zeros(4, dtype=torch.float64))


# 3.7


def test_the_expected_loss_has_its_closed_form_and_rises_without_a_baseline(figures):
    for p in (0.5, 0.6, 0.824, 0.97):
        assert figures.surrogate(p, 2 * p - 1) == pytest.approx(-2 * p * (1 - p) * np.log(p / (1 - p)), abs=EXACT)  # eq. 3.12
    curve = [figures.surrogate(p, 0.0) for p in np.linspace(0.5, 1.0, 50)]
    assert np.all(np.diff(curve) > 0) and curve[0] == pytest.approx(0, abs=EXACT) and curve[-1] == pytest.approx(np.log(3))


def test_the_plot_shows_what_it_was_given():
    losses, positive = torch.arange(9, dtype=torch.float64) ** 2, torch.linspace(0.5, 1, 9)
    top, middle, bottom = lesson.plot_training(losses, positive, kernel_size=3).axes
    assert np.array_equal(top.lines[0].get_ydata(), losses)
    assert np.array_equal(middle.lines[0].get_ydata(), [0, 1, 4, 9, 16, 25, 36, 49, 49])  # zeros beyond both ends
    assert np.array_equal(bottom.lines[0].get_ydata(), positive)


def test_the_picture_of_a_run_is_saved(tmp_path):
    finished = word_run.save_picture(lesson, tmp_path / "run.png", seed=1)
    assert (tmp_path / "run.png").stat().st_size > 10_000
    assert finished.positive.shape == (301,) and finished.losses.shape == (300,)
    for n in (0, 25, 50, 100, 300):
        assert f"{finished.positive[n]:.3f}" in TEXT
    for first, last in ((0, 25), (25, 50), (50, 100), (100, 300)):
        assert f"{finished.losses[first:last].mean():.3f}" in TEXT
    assert f"{finished.losses.min():.2f}, came in iteration {finished.losses.argmin()}" in TEXT
    assert f"ends at {finished.shares[-1]:.2f} here" in TEXT
    median = lesson.plot_training(finished.losses, finished.positive[1:]).axes[1].lines[0].get_ydata()
    assert not median[:10].any()  # "the flat start is made of that"


# the text


def test_the_worked_examples_are_what_the_figures_print(figures, capsys):
    """Numbers with four decimals: all that are printed stand in the text, all that stand in the text are printed."""
    figures.worked_examples()
    printed = set(re.findall(r"\d+\.\d{4}\b", capsys.readouterr().out))
    text = set(re.findall(r"\d+\.\d{4}\b", TEXT.split("## 3.8")[0]))
    step = {f"{0.5 * gradient:.4f}" for gradient in np.abs(figures.one_step()[1])}  # how far the logits move in section 3.3
    assert printed <= text <= printed | step
    greedy, mixed = (figures.behaviour(figures.POLICY, figures.EPSILON, mode) for mode in ("argmax", "sample"))
    assert f"here up to {(figures.POLICY / greedy).max():.0f}" in TEXT
    weights = figures.POLICY / mixed
    assert f"between {weights.min():.2f} and {weights.max():.2f}" in TEXT
    spreads = [figures.variance(figures.POLICY, figures.SCORE, 0.0, drawn) for drawn in (greedy, None, mixed)]
    assert "is {:.2f}, against {:.2f} for".format(*spreads) in TEXT and f"the variance is {spreads[2]:.2f}" in TEXT


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 2.0])
@pytest.mark.parametrize("way", ["sampling", "argmax", "epsilon-greedy", "epsilon-greedy, weighted"])
def test_the_tables_of_the_comparison(figures, way, shift):
    runs = {use_baseline: figures.train_all(way, use_baseline, shift) for use_baseline in (False, True)}
    assert figures.row(way, runs) in TEXT
    lost, turned = figures.below_half(runs[False])
    if way == "sampling" and shift:
        assert f"one agent spends {turned} iterations below one half" in TEXT
    if way == "epsilon-greedy, weighted" and shift:
        assert f"{lost} of 20 agents end below one half" in TEXT
    if way == "argmax":
        assert figures.frozen(runs[True]) == ((20, 8) if shift else (11, 8))
        assert lost == (12 if shift else 0)


def test_sections_hints_and_questions_fit_the_checks():
    sections = set(re.findall(r"^## (\d+\.\d+) ", (LESSON / "lesson.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    exercises = {check.exercise for check in checks_in(checks)}
    assert {check.section for check in checks_in(checks)} <= sections
    hints = tomllib.loads((LESSON / "hints.toml").read_text(encoding="utf-8"))
    assert set(hints) == exercises and all(len(hint["levels"]) == 3 for hint in hints.values())
    questions = tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]
    assert {question["section"] for question in questions} <= sections


def test_the_numbers_of_the_questions():
    baseline, wrong = lesson.Baseline(), lesson.Baseline()
    for reward in (1.0, -1.0, -1.0):
        advantage = reward - baseline.get()
        baseline.update(reward)
        wrong.update(reward)
    by_id = {q["id"]: q for q in tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]}
    assert by_id["third-advantage"]["answer"] == advantage
    assert by_id["third-advantage-updated-first"]["answer"] == pytest.approx(reward - wrong.get(), abs=1e-9)
    logits = torch.log(torch.tensor([0.5, 0.2, 0.1, 0.1, 0.05, 0.05], dtype=torch.float64))
    weight = 0.2 / lesson.behaviour_policy(logits, 0.3, "argmax")[1].item()
    assert weight == pytest.approx(eval(by_id["weight-of-a-rare-word"]["answer"], {"p": 0.2, "k": 6, "e": 0.3}), abs=EXACT)
