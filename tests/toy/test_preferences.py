"""Lesson 5: truths about the reference, and every claim and number of the lesson's text."""

import importlib.util
import itertools
import math
import re
import tomllib
from pathlib import Path

import pytest
import torch

from autograder import reference, skeletons
from solutions.toy import preferences as pf
from solutions.toy import preferences_bug as bug
from toy.given import distributions as exact
from toy.given.enumerable import EnumerableLM

LESSON = Path(__file__).resolve().parents[2] / "lessons" / "05-preferences"
RAW = (LESSON / "lesson.md").read_text(encoding="utf-8")
TEXT = " ".join(RAW.split())
EXACT = 1e-12  # float64 sums of a few terms of size 10
FITTED = 1e-7  # what `fit_rewards` promises
GENERATOR = torch.Generator().manual_seed(5)
REF = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)
REWARD = torch.tensor([1.5, 0.5, -0.5, -1.5], dtype=torch.float64)
BETAS = (0.1, 0.5, 2.0)


def randn(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def close(a, b, tolerance=EXACT):
    return torch.allclose(a, b, rtol=0, atol=tolerance)


def gradients(function, *tensors):
    leaves = [t.clone().requires_grad_(True) for t in tensors]
    return torch.autograd.grad(function(*leaves), leaves, allow_unused=True)


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("lesson_05_figures", LESSON / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def untouched():
    """The silent bug's file as the learner gets it."""
    text = skeletons.skeleton(reference.source("toy.preferences_bug"), 5)
    return reference.module_of(text, "toy.preferences_bug")


# 5.1, 5.2


def test_a_choice_and_its_contrary_sum_to_one_and_odds_multiply():
    a, b, c = randn(3, 7)
    assert close(pf.preference_probability(a, b) + pf.preference_probability(b, a), torch.ones(7, dtype=torch.float64))
    chances = [pf.preference_probability(*two) for two in ((a, b), (b, c), (a, c))]
    odds = [p / (1 - p) for p in chances]
    assert torch.allclose(odds[0] * odds[1], odds[2], rtol=1e-10, atol=0)
    assert close(pf.preference_probability(a + 3, b + 3), pf.preference_probability(a, b))
    assert close(pf.preference_probability(a, b), exact.preference_matrix(torch.stack([a, b]).T)[:, 0, 1])
    assert "2.7 to 1" in TEXT and "7.4 to 1" in TEXT and (round(math.e, 1), round(math.e**2, 1)) == (2.7, 7.4)


def test_gumbel_noise_gives_the_logistic_choice():
    count = 40_000
    noise = -torch.log(-torch.log(torch.rand(2, count, generator=GENERATOR, dtype=torch.float64)))
    share = ((1.5 + noise[0]) > (0.5 + noise[1])).double().mean()
    p = pf.preference_probability(tensor(1.5), tensor(0.5))
    assert abs(share - p) < 4 * (p * (1 - p) / count).sqrt()


def test_the_loss_is_the_likelihood_and_pulls_with_the_surprise():
    chosen, rejected = randn(2, 6)
    loss = pf.bradley_terry_loss(chosen, rejected)
    assert close(loss, -pf.preference_probability(chosen, rejected).log().mean())
    up, down = gradients(pf.bradley_terry_loss, chosen, rejected)
    assert close(up, -(1 - pf.preference_probability(chosen, rejected)) / 6) and close(up, -down)
    assert pf.bradley_terry_loss(tensor(2.0), tensor(2.0)).item() == pytest.approx(math.log(2), abs=EXACT)


@pytest.mark.parametrize("margin", [200.0, -200.0, 1000.0, -1000.0])
def test_large_margins_have_exact_values_and_slopes(margin):
    zero, far = tensor(0.0), tensor(margin)
    expected = max(-margin, 0.0)  # beyond rounding: exp(-200) is 1e-87
    assert pf.bradley_terry_loss(far, zero).item() == pytest.approx(expected, abs=EXACT)
    slope = gradients(lambda a: pf.dpo_loss(a, zero, zero, zero, 1.0), far)[0].item()
    assert slope == pytest.approx(-1.0 if margin < 0 else 0.0, abs=EXACT)
    assert torch.sigmoid(tensor(-1000.0)).item() == 0 and torch.sigmoid(torch.tensor([-104.0])).item() == 0  # as the text says


def test_weights_are_counts_and_probabilities():
    chosen, rejected, counts = randn(4), randn(4), torch.tensor([3, 1, 2, 1])
    repeated = pf.bradley_terry_loss(chosen.repeat_interleave(counts), rejected.repeat_interleave(counts))
    assert close(pf.bradley_terry_loss(chosen, rejected, counts.double()), repeated)
    assert close(pf.bradley_terry_loss(chosen, rejected, counts.double() / 7), repeated)


# 5.3


def test_every_labelling_of_four_answers():
    places = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    for labels in itertools.product((0, 1, 2), repeat=6):
        wanted = [place if label == 1 else place[::-1] for place, label in zip(places, labels) if label]
        found = pf.pairs_from_preferences(torch.tensor(labels))
        assert found.dtype == torch.int64 and found.shape == (len(wanted), 2) and found.tolist() == [list(p) for p in wanted]


# 5.4


def all_pairs(n):
    return torch.tensor(list(itertools.permutations(range(n), 2)))


def test_expected_choices_give_the_rewards_back():
    pairs, rewards = all_pairs(5), randn(5)
    weights = pf.preference_probability(rewards[pairs[:, 0]], rewards[pairs[:, 1]])
    assert close(pf.fit_rewards(pairs, 5, weights=weights), rewards - rewards.mean(), FITTED)


def test_expected_wins_are_observed_wins():
    pairs = torch.cat([all_pairs(4), torch.randint(4, (30, 2), generator=GENERATOR)])
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    rewards = pf.fit_rewards(pairs, 4)
    expected, won = torch.zeros(4, dtype=torch.float64), torch.bincount(pairs[:, 0], minlength=4).double()
    for i, j in pairs.tolist():
        p = pf.preference_probability(rewards[i], rewards[j])
        expected[i] += p
        expected[j] += 1 - p
    assert close(expected, won, 42 * FITTED)  # each of 42 choices moves by at most the error of the rewards


@pytest.mark.parametrize("l2", [0.0, 0.01, 1.0])
def test_the_rewards_have_mean_zero_and_no_neighbour_is_better(l2):
    pairs = torch.tensor([[0, 1], [1, 2], [2, 0], [0, 2], [1, 0]])
    rewards = pf.fit_rewards(pairs, 3, l2)

    def objective(r):
        return pf.bradley_terry_loss(r[pairs[:, 0]], r[pairs[:, 1]]) + l2 / 2 * (r**2).sum()

    assert abs(rewards.mean()) < EXACT
    assert abs(gradients(objective, rewards)[0]).max() < 1e-8  # 0.25 a pair times the promised error of the rewards
    for _ in range(20):
        assert objective(rewards + 0.01 * randn(3)) > objective(rewards)


def test_fords_condition_decides_whether_a_fit_exists():
    """All sets of choices among three answers: refused exactly if some group never lost to the rest, whatever the group."""
    edges, refused = all_pairs(3), 0
    for chosen in itertools.product((False, True), repeat=6):
        if not any(chosen):
            continue
        pairs = edges[torch.tensor(chosen)]
        groups = [g for size in (1, 2) for g in itertools.combinations(range(3), size)]
        finite = all(any(i not in group and j in group for i, j in pairs.tolist()) for group in groups)
        try:
            assert pf.fit_rewards(pairs, 3).isfinite().all() and finite
        except ValueError as error:
            refused += 1
            assert not finite and str(error).startswith("pairs:")
            assert pf.fit_rewards(pairs, 3, 0.1).isfinite().all()
    assert refused == 63 - 18  # 18 of the 64 digraphs on three labelled nodes are strongly connected


def test_separable_choices_run_away_as_the_ridge_goes():
    pairs = torch.tensor([[0, 1]])
    gaps = [(lambda r: (r[0] - r[1]).item())(pf.fit_rewards(pairs, 2, l2)) for l2 in (1e-1, 1e-2, 1e-3)]
    assert gaps[0] < gaps[1] < gaps[2]
    assert gaps[2] / 2 * 1e-3 == pytest.approx(torch.sigmoid(tensor(-gaps[2])).item(), abs=1e-9)  # slope of loss = slope of ridge


# 5.5, 5.6


@pytest.mark.parametrize("beta", BETAS)
def test_the_closed_form_is_the_only_maximum_of_the_objective(beta):
    ref, reward = torch.softmax(randn(3, 5), -1), randn(3, 5)
    policy = pf.optimal_policy(ref, reward, beta)
    assert close(policy.log(), exact.optimum(ref.log(), reward, beta), 1e-10)
    log_z = exact.log_partition(ref.log(), reward, beta)

    def objective(pi):
        return (pi * reward).sum(-1) - beta * exact.kl(pi.log(), ref.log())

    assert close(objective(policy), beta * log_z, 1e-10)
    for _ in range(20):
        other = torch.softmax(randn(3, 5), -1)
        assert close(objective(other), beta * log_z - beta * exact.kl(other.log(), policy.log()), 1e-10)  # eq. 5.11
        assert (objective(other) < beta * log_z).all()


def test_limits_of_beta_and_support():
    ref = tensor(0.0, 0.25, 0.75)
    assert pf.optimal_policy(ref, tensor(100.0, 1.0, 0.0), 0.01).tolist() == pytest.approx([0, 1, 0], abs=EXACT)
    assert close(pf.optimal_policy(ref, tensor(5.0, 1.0, 0.0), 1e9), ref, 1e-8)  # r / beta is 5e-9 at most
    wins = pf.preference_probability(REWARD[0], REWARD[3])
    policy = pf.optimal_policy(REF, REWARD, 0.5)
    assert torch.allclose(policy[0] / policy[3], REF[0] / REF[3] * (wins / (1 - wins)) ** 2, rtol=1e-10, atol=0)  # eq. 5.13


@pytest.mark.parametrize("beta", BETAS)
def test_every_policy_is_the_optimum_for_its_implicit_reward(beta):
    policy, ref = torch.softmax(randn(6), 0), torch.softmax(randn(6), 0)
    reward = pf.implicit_reward(policy.log(), ref.log(), beta)
    assert close(pf.optimal_policy(ref, reward, beta), policy)
    assert abs(exact.log_partition(ref.log(), reward, beta)) < EXACT  # Z = 1
    wanted = randn(6)
    best = pf.optimal_policy(ref, wanted, beta)
    shift = wanted - pf.implicit_reward(best.log(), ref.log(), beta)
    assert close(shift, beta * exact.log_partition(ref.log(), wanted, beta).expand(6), 1e-10)


# 5.7


LOSSES = {
    "dpo": lambda *a, **k: pf.dpo_loss(*a, 0.5, **k),
    "dpop": lambda *a, **k: pf.dpop_loss(*a, 0.5, 1.5, **k),
    "ipo": lambda *a, **k: pf.ipo_loss(*a, 0.5, **k),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_have_the_slopes_of_their_differences_and_fix_the_reference(name):
    pairs = [randn(5) - 20 for _ in range(4)]
    found = gradients(LOSSES[name], *pairs)
    assert all(g is None or not g.any() for g in found[2:])
    h = 1e-6  # truncation h^2, rounding 1e-16 / h: both below 1e-9
    for side in (0, 1):
        for n in range(5):
            step = torch.zeros(5, dtype=torch.float64)
            step[n] = h
            moved = [[*pairs[:side], pairs[side] + sign * step, *pairs[side + 1 :]] for sign in (1, -1)]
            slope = (LOSSES[name](*moved[0]) - LOSSES[name](*moved[1])) / (2 * h)
            assert abs(found[side][n] - slope) < 1e-8


@pytest.mark.parametrize("name", LOSSES)
def test_losses_depend_on_log_ratios_alone(name):
    chosen, rejected, ref_chosen, ref_rejected, shift = randn(5, 4)
    moved = LOSSES[name](chosen + shift, rejected - shift, ref_chosen + shift, ref_rejected - shift)
    assert close(LOSSES[name](chosen, rejected, ref_chosen, ref_rejected), moved)


@pytest.mark.parametrize("beta", BETAS)
def test_dpo_starts_at_log_two_with_slopes_of_half_beta(beta):
    chosen, rejected = tensor(-12.0), tensor(-33.0)
    assert pf.dpo_loss(chosen, rejected, chosen, rejected, beta).item() == pytest.approx(math.log(2), abs=EXACT)
    up, down = gradients(lambda a, b: pf.dpo_loss(a, b, chosen, rejected, beta), chosen, rejected)
    assert (up.item(), down.item()) == pytest.approx((-beta / 2, beta / 2), abs=EXACT)
    assert pf.implicit_accuracy(chosen, rejected, chosen, rejected).item() == 0.5


def test_losses_at_a_margin_of_point_three():
    zero = tensor(0.0)
    found = [round(pf.dpo_loss(zero + 0.3, zero, zero, zero, beta).item(), 3) for beta in (0.1, 0.25, 0.5)]
    assert found == [0.678, 0.656, 0.621]


def test_one_gradient_step_raises_the_margin():
    logits = REF.log().requires_grad_(True)
    loss = pf.dpo_loss(torch.log_softmax(logits, 0)[[2]], torch.log_softmax(logits, 0)[[1]], REF.log()[[2]], REF.log()[[1]], 0.5)
    moved = torch.log_softmax(logits - torch.autograd.grad(loss, logits)[0], 0)
    assert moved[2] - REF.log()[2] > 0 > moved[1] - REF.log()[1]  # a table: the chosen one up, the rejected one down


# 5.8


def least(loss_of, start, updates=60):
    """The policy of a table of logits that minimises a loss of log-probabilities, by L-BFGS."""
    logits = start.log().clone().requires_grad_(True)
    settings = {"tolerance_grad": 1e-13, "tolerance_change": 0, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS([logits], max_iter=updates, **settings)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(torch.log_softmax(logits, 0))
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    return torch.softmax(logits.detach(), 0)


def on(pairs, log_pi, ref):
    return log_pi[pairs[:, 0]], log_pi[pairs[:, 1]], ref.log()[pairs[:, 0]], ref.log()[pairs[:, 1]]


def total_variation(p, q):
    return (p - q).abs().sum().item() / 2


@pytest.mark.parametrize("beta", [0.25, 1.0])
@pytest.mark.parametrize("covered", ["all pairs", "a chain"])
def test_dpos_optimum_is_rlhfs_whatever_the_pairs_if_they_link_all_answers(beta, covered):
    pairs = all_pairs(4)
    if covered == "a chain":
        pairs = pairs[(pairs[:, 0] - pairs[:, 1]).abs() == 1]
    frequency = torch.rand(4, 4, generator=GENERATOR, dtype=torch.float64) + 0.5  # of a comparison, in either order
    chances = pf.preference_probability(REWARD[pairs[:, 0]], REWARD[pairs[:, 1]])
    weights = (frequency + frequency.T)[pairs[:, 0], pairs[:, 1]] * chances
    found = least(lambda log_pi: pf.dpo_loss(*on(pairs, log_pi, REF), beta, weights), REF)
    assert total_variation(found, pf.optimal_policy(REF, REWARD, beta)) < 1e-7  # L-BFGS ends at a slope near 1e-10


def test_without_full_support_the_uncovered_mass_stays_undecided():
    pairs = torch.tensor([[0, 1], [1, 0], [2, 3], [3, 2]])
    weights = pf.preference_probability(REWARD[pairs[:, 0]], REWARD[pairs[:, 1]])
    target = pf.optimal_policy(REF, REWARD, 0.5)
    for start in (REF, tensor(0.4, 0.4, 0.1, 0.1)):
        found = least(lambda log_pi: pf.dpo_loss(*on(pairs, log_pi, REF), 0.5, weights), start)
        assert torch.allclose(found[0] / found[1], target[0] / target[1], rtol=1e-6, atol=0)
        assert total_variation(found, target) > 0.1


def test_dpo_on_a_data_set_is_the_optimal_policy_for_the_fitted_rewards():
    pairs = torch.tensor([[0, 1], [1, 2], [2, 0], [3, 2], [0, 3], [0, 1], [1, 3]])  # not transitive
    for beta in (0.3, 1.0):
        found = least(lambda log_pi: pf.dpo_loss(*on(pairs, log_pi, REF), beta), REF)
        assert total_variation(found, pf.optimal_policy(REF, pf.fit_rewards(pairs, 4), beta)) < 1e-7


# 5.9


@pytest.mark.parametrize("beta", [0.2, 1.0, 5.0])
def test_a_judge_who_never_errs_has_no_dpo_optimum_at_any_beta(beta):
    zero, margins = tensor(0.0), [10.0 / beta, 20.0 / beta, 40.0 / beta]
    losses = [pf.dpo_loss(zero + h, zero, zero, zero, beta).item() for h in margins]
    assert losses[0] > losses[1] > losses[2] > 0 and losses[2] < 1e-17
    noisy = tensor(0.9, 0.1)  # with errors there is one: sigma(beta h) = p
    best = math.log(9) / beta
    two, around = tensor(0.0, 0.0), (best - 0.1, best, best + 0.1)
    below, at, above = (pf.dpo_loss(tensor(h, 0.0), tensor(0.0, h), two, two, beta, noisy) for h in around)
    assert at < below and at < above


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_the_margin_grows_like_the_logarithm_of_time(beta):
    h, dt = 0.0, 0.01 / beta**2
    for _ in range(100_000):
        h += dt * 2 * beta / (1 + math.exp(beta * h))
    t = 100_000 * dt
    assert beta * h == pytest.approx(math.log(2 * beta**2 * t), abs=0.02)  # eq. 5.23; the neglected terms fall with u/e^u


# 5.10, 5.11


def test_both_answers_fall_on_the_line_from_the_first_update(figures):
    path, losses = figures.train_on_the_line(pf, updates=50)
    chosen, rejected, third = path[:, 1], path[:, 0], path[:, 2]
    assert (chosen.diff() < 0).all() and (rejected.diff() < 0).all() and (third.diff() > 0).all()
    assert (torch.tensor(losses).diff() < 0).all()
    w = torch.linspace(-2, 3, 11, dtype=torch.float64)
    mean = figures.on_the_line(w).exp() @ tensor(*figures.PLACES)
    h = 1e-5
    slope = (figures.on_the_line(w + h) - figures.on_the_line(w - h)) / (2 * h)
    assert close(slope, tensor(*figures.PLACES) - mean[:, None], 1e-9)  # eq. 5.25


@pytest.mark.parametrize("beta", [0.2, 1.0])
@pytest.mark.parametrize("lam", [0.0, 0.5, 4.0])
def test_dpop_wins_a_pair_exactly_below_the_price(beta, lam):
    zero = tensor(0.0)
    for l_chosen in (-0.1, -1.0, -3.0):
        price = (1 + lam / beta) * l_chosen
        for l_rejected, won in ((price - 1e-6, True), (price + 1e-6, False)):
            loss = pf.dpop_loss(zero + l_chosen, zero + l_rejected, zero, zero, beta, lam).item()
            assert (loss < math.log(2)) == won
    above = [tensor(0.7), tensor(0.2), zero, zero]
    assert close(pf.dpop_loss(*above, beta, lam), pf.dpo_loss(*above, beta))  # no price where the chosen one has risen
    any_pair = [randn(4) for _ in range(4)]
    assert close(pf.dpop_loss(*any_pair, beta, 0.0), pf.dpo_loss(*any_pair, beta))


def test_dpop_stops_on_the_line_where_the_text_says(figures):
    grid = torch.linspace(0, 5, 501, dtype=torch.float64)
    best = grid[figures.dpop_on_the_line(pf, 2.0, grid).argmin()]
    place = figures.on_the_line(best).exp() @ tensor(*figures.PLACES)
    assert place == pytest.approx(1.5, abs=0.01)  # eq. 5.28; a grid of 0.01, and a slope below 1
    assert figures.dpop_on_the_line(pf, 20.0, grid).argmin() == 0
    assert (figures.dpop_on_the_line(pf, 0.5, grid).diff() < 0).all()
    near = figures.dpop_on_the_line(pf, 2.0, torch.linspace(5, 60, 56, dtype=torch.float64), (0.0, 1.0, 1.1))
    assert (near.diff() < 0).all() and near[-1] < math.log(2)


# 5.12


@pytest.mark.parametrize("p", [0.5, 0.7, 1.0])
@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_ipos_margin_is_bounded(p, beta):
    h, zero = torch.linspace(-2, 2, 201, dtype=torch.float64), tensor(0.0)
    ways = [[pf.ipo_loss(a, b, zero, zero, beta) for a, b in ((zero + x, zero), (zero, zero + x))] for x in h]
    losses = torch.tensor([p * first + (1 - p) * second for first, second in ways])
    assert h[losses.argmin()] == pytest.approx((2 * p - 1) / (2 * beta), abs=0.011)  # a grid of 0.02
    off = gradients(lambda a: pf.ipo_loss(a, zero, zero, zero, beta), zero + 1 / (2 * beta))[0]
    assert abs(off) < EXACT


@pytest.mark.parametrize("beta", [0.25, 1.0])
def test_ipos_optimum_tilts_by_the_probability_of_winning(beta):
    pairs, nu = torch.cartesian_prod(torch.arange(4), torch.arange(4)), tensor(0.1, 0.2, 0.3, 0.4)
    wins = pf.preference_probability(REWARD[:, None].expand(4, 4), REWARD.expand(4, 4))
    weights = nu[pairs[:, 0]] * nu[pairs[:, 1]] * wins[pairs[:, 0], pairs[:, 1]]
    found = least(lambda log_pi: pf.ipo_loss(*on(pairs, log_pi, REF), beta, weights), REF)
    assert total_variation(found, pf.optimal_policy(REF, wins @ nu, beta)) < 1e-7
    ratios = (found / REF).log()
    assert ratios.max() - ratios.min() < 1 / beta


# 5.13


def test_the_mended_run_ends_at_the_optimum_and_the_untouched_one_does_not(untouched):
    reference_lm, reward = bug.world()
    mended, wrong = bug.train_dpo(reference_lm, reward, 0.5), untouched.train_dpo(reference_lm, reward, 0.5)
    assert mended.distance[-1] < 1e-4 and wrong.distance[-1] > 0.2
    assert wrong.loss[0] == pytest.approx(math.log(2), abs=EXACT)
    assert wrong.loss[-1] == pytest.approx(mended.loss[-1], abs=1e-5)  # loss and accuracy look perfect
    assert wrong.accuracy[-1] == pytest.approx(mended.accuracy[-1], abs=1e-9)
    assert wrong.reward[-1] > mended.reward[-1] and wrong.kl[-1] > 2 * mended.kl[-1]
    gap = (wrong.policy.log_probs() - reference_lm.log_probs()).detach()
    shifted = 0.5 * gap / reference_lm.lengths - reward  # what the wrong file makes true: a strength of beta / length
    assert shifted.max() - shifted.min() < 1e-3


def test_the_check_of_the_bug_leaves_room_for_rounding():
    ends(0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 60))
def test_the_check_of_the_bug_leaves_room_for_rounding_under_many_seeds(seed):
    ends(seed)


def ends(seed):
    """Within a third of the check's tolerance of the truth, in everything that it compares."""
    from autograder.checks import checks_in
    from autograder.checks.toy import preferences_bug as checks
    from autograder.grading.oracle import Oracle
    from autograder.probes.toy import preferences_bug as probes
    from autograder.sandbox import child

    (check,) = checks_in(checks)
    oracle = Oracle("toy.preferences_bug", seed)
    for case, truth in zip(oracle.cases(check), oracle.expected(check)):
        got = probes.training(bug, **child.as_torch(case))
        for name, wanted in truth.items():
            off = torch.as_tensor(got[name]).detach().double() - torch.as_tensor(wanted).double()
            assert off.abs().max() < check.tolerance / 3, name


def test_the_checks_own_listing_of_answers_is_the_rulers():
    from autograder.checks.toy.preferences_bug import answer_count, answers_of

    for vocabulary, length in ((3, 2), (2, 3), (3, 3)):
        lm = EnumerableLM.tabular(vocabulary, length, eos=0, generator=GENERATOR)
        listed = torch.tensor(answers_of(lm.model.logits.detach().numpy()[0], vocabulary, length))
        assert len(lm) == answer_count(vocabulary, length) and close(listed, lm.log_probs().detach())


# what is refused


TWO = (tensor(0.0, 0.0),) * 4
GOOD = {"pairs": torch.tensor([[0, 1], [1, 0]]), "answers": 2}


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: pf.preference_probability(tensor(1.0), tensor(1.0, 2.0)), r"second: expected the shape of first, \(1,\)"),
        (lambda: pf.bradley_terry_loss(TWO[0], tensor(1.0)), "rejected: expected the shape of chosen"),
        (lambda: pf.bradley_terry_loss(torch.zeros(0), torch.zeros(0)), "chosen: .* at least one pair"),
        (lambda: pf.bradley_terry_loss(*TWO[:2], weights=tensor(0.0, 0.0)), "weights: expected numbers of at least 0, not all 0"),
        (lambda: pf.bradley_terry_loss(*TWO[:2], weights=tensor(1.0)), r"weights: expected shape \(2,\), received \(1,\)"),
        (lambda: pf.pairs_from_preferences(torch.tensor([1, 2, 3, 0, 0, 0])), r"labels: expected 0 \(tie\), 1 \(first\)"),
        (lambda: pf.pairs_from_preferences(torch.tensor([1, 2])), "labels: expected 6 for 4 answers"),
        (lambda: pf.fit_rewards(torch.tensor([[0, 1]]), 2), "pairs: expected wins that lead from every answer to every other"),
        (lambda: pf.fit_rewards(torch.zeros(0, 2, dtype=torch.long), 2), "pairs: .* at least one pair"),
        (lambda: pf.fit_rewards(torch.tensor([[0, 2]]), 2), "pairs: expected answers from 0 to 1, received 0 to 2"),
        (lambda: pf.fit_rewards(torch.tensor([[1, 1]]), 2), r"pairs: expected two different answers, received \[1, 1\]"),
        (lambda: pf.fit_rewards(**GOOD, l2=-1.0), "l2: expected a finite number of at least 0, received -1.0"),
        (lambda: pf.optimal_policy(REF * 2, REWARD, 1.0), "ref: expected probabilities that sum to 1, received .* sum 2"),
        (lambda: pf.optimal_policy(REF, REWARD[:3], 1.0), "reward: expected the shape of ref"),
        (lambda: pf.optimal_policy(REF, REWARD * math.inf, 1.0), "reward: expected finite numbers"),
        (lambda: pf.optimal_policy(REF, REWARD, 0.0), "beta: expected a positive finite number, received 0.0"),
        (lambda: pf.implicit_reward(REF, REF, -1.0), "beta: expected a positive finite number, received -1.0"),
        (lambda: pf.dpo_loss(*TWO, math.nan), "beta: expected a positive finite number, received nan"),
        (lambda: pf.dpo_loss(*TWO[:3], tensor(1.0), 0.5), "ref_rejected: expected the shape of chosen"),
        (lambda: pf.dpop_loss(*TWO, 0.5, -1.0), "lam: expected a finite number of at least 0"),
        (lambda: pf.ipo_loss(*TWO, 0), "beta: expected a positive finite number, received 0"),
        (lambda: pf.implicit_accuracy(*(tensor(0.0)[:0],) * 4), "chosen: .* at least one pair"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# the text


def test_the_exact_numbers_of_the_text(figures):
    missing = {name: text for name, text in figures.exact_numbers(pf).items() if text not in TEXT}
    assert not missing


@pytest.mark.slow
def test_the_measured_numbers_of_the_text(figures):
    found = figures.measured_numbers(pf, figures.measure(pf, bug))
    missing = {name: text for name, text in found.items() if text not in TEXT}
    assert not missing


def test_the_figures_run_the_bug_as_the_learner_finds_it(figures, untouched):
    mine, theirs = figures.run_bug(bug, averaged=True), untouched.train_dpo(*bug.world(), 0.5)
    assert mine.loss == pytest.approx(theirs.loss, abs=EXACT) and mine.kl == pytest.approx(theirs.kl, abs=EXACT)


def test_the_listing_of_the_text_does_what_it_says(capsys):
    (listing,) = re.findall(r"```python\n(.*?)```", RAW, re.DOTALL)
    names = {}
    exec(listing.replace("from toy.", "from solutions.toy."), names)
    assert capsys.readouterr().out.count("tensor") == 4
    assert total_variation(names["log_pi"].detach().exp(), pf.optimal_policy(REF, REWARD, 0.5)) < 1e-4  # 500 updates of Adam
    assert close(pf.fit_rewards(names["pairs"], 4, weights=names["weights"]), REWARD, FITTED)


def test_equations_and_pictures_the_text_speaks_of_exist():
    tags = re.findall(r"\\tag\{(5\.\d+)\}", TEXT)
    assert tags == [f"5.{n}" for n in range(1, len(tags) + 1)]
    elsewhere = Path(pf.__file__).read_text(encoding="utf-8") + (LESSON / "hints.toml").read_text(encoding="utf-8")
    cited = set(re.findall(r"eqs?\. (5\.\d+)", elsewhere))
    cited |= set(re.findall(r"\((5\.\d+)\)", TEXT))
    assert cited and cited <= set(tags)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT)
    assert sorted(pictures) == sorted(path.name for path in LESSON.glob("*.png"))


def test_the_answers_to_the_questions_are_right():
    questions = {q["id"]: q for q in tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]}
    zero = tensor(0.0)
    for h, beta, b in torch.rand(5, 3, generator=GENERATOR).add(0.1).tolist():
        other = eval(questions["loss-at-margin"]["answer"], {}, {"h": h, "beta": beta, "b": b})
        assert close(pf.dpo_loss(zero + other, zero, zero, zero, b), pf.dpo_loss(zero + h, zero, zero, zero, beta))
    for p in (0.3, 0.8):
        both = tensor(p, 1 - p)
        for beta in (0.5, 1.5):
            dpo, ipo = math.log(p / (1 - p)) / beta, (2 * p - 1) / (2 * beta)
            for loss, best in ((pf.dpo_loss, dpo), (pf.ipo_loss, ipo)):

                def expected(h):
                    return loss(torch.cat([h, zero]), torch.cat([zero, h]), TWO[0], TWO[0], beta, both)

                assert abs(gradients(expected, zero + best)[0]) < 1e-10
            assert eval(questions["ipo-noise"]["answer"], {"log": math.log}, {"p": p, "beta": beta}) == pytest.approx(dpo - ipo)
    loss = pf.dpop_loss(zero - 2, zero - questions["price"]["answer"], zero, zero, 0.2, 0.5)
    assert loss.item() == pytest.approx(math.log(2), abs=EXACT)
