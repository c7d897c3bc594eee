"""Lesson 6: truths about PPO's parts on a world that can be listed, and every claim and number of the lesson's text."""

import copy
import importlib.util
import math
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from autograder.checks.verdicts import counts_agree
from solutions.toy import ppo, ppo_bug
from toy.given import ppo_run
from toy.given.ppo import PPOConfig, Rollout
from toy.given.run_folder import RunFolder
from toy.given.sentences import (
    END, VOCABULARY, Ruler, ValueTable, listed, log_probs_of, reference_policy, sampler, sentence_score, sentence_scores,
    sentence_text, shift_right,
)  # fmt: skip
from toy.given.tabular import TabularLM

LESSON = Path(__file__).resolve().parents[2] / "lessons" / "06-ppo"
TEXT = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").split())
EXACT = 1e-12  # float64 sums of at most a few thousand terms of size 1 to 10, of which most are tiny
MASK = torch.arange(5) < torch.tensor([3, 5, 0, 1]).unsqueeze(1)
BETA = 0.5


def drawn(seed, *names):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(MASK.shape, generator=generator, dtype=torch.float64) for name in names}


def close(mine, theirs, tolerance=EXACT):
    mine, theirs = (torch.as_tensor(x, dtype=torch.float64) for x in (mine, theirs))
    return torch.allclose(mine, theirs, rtol=0, atol=tolerance)


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def figures():
    return load("lesson_06_figures", LESSON / "figures.py")


@pytest.fixture(scope="module")
def world(figures):
    return figures.World()


@pytest.fixture(scope="module")
def small():
    """Sentences of at most two tokens under a random policy: every one, its probability, and what its tokens earn."""
    policy = TabularLM(VOCABULARY, 2, generator=torch.Generator().manual_seed(3))
    lm, reference = listed(policy, 2), listed(reference_policy(2), 2)
    scores = lm.rewards(sentence_score)
    with torch.no_grad():
        log_probs, probs = lm.token_log_probs(), lm.probs()
        rewards = ppo.kl_penalised_rewards(scores, log_probs, reference.token_log_probs(), lm.mask, BETA)
    objective = lm.expected(scores) - BETA * lm.kl(reference)
    return SimpleNamespace(lm=lm, policy=policy, log_probs=log_probs, probs=probs, rewards=rewards, scores=scores,
                           gradient=lm.gradient(objective), objective=objective.item())  # fmt: skip


def expected_gradient(small, values, lam):
    """E over one sentence of minus the gradient of its *summed* loss at the first step, by listing all sentences."""
    total = 0.0
    advantages, _ = ppo.gae(small.rewards, values, small.lm.mask, 1.0, lam)
    for place in range(len(small.lm)):
        row = slice(place, place + 1)
        mask, new = small.lm.mask[row], small.lm.token_log_probs()[row]
        loss = ppo.clipped_surrogate(new, new, advantages[row], mask, 0.2) * mask.sum()
        total = total - small.probs[place] * small.lm.gradient(loss)
    return total


def true_values(small):
    """The value before each token, by averaging over the sentences that begin so."""
    returns = ppo.discounted_returns(small.rewards, small.lm.mask, 1.0)
    values = torch.zeros_like(returns)
    values[:, 0] = small.probs @ returns[:, 0]
    second = small.lm.mask[:, 1]
    for first in range(END):
        here = second & (small.lm.sequences[:, 0] == first)
        values[here, 1] = (small.probs[here] @ returns[here, 1]) / small.probs[here].sum()
    return values


# 6.1, the given world


def test_scores_of_the_examples_in_the_text():
    scored = {(0, 1, END): 2, (0, 0, END): 1, (0, 3, END): 0, (END,): 0, (0, 1, 0, 1): 1, (3, 4, 5, 3): -5}
    for sentence, score in scored.items():
        assert sentence_score(sentence) == score
    tokens, mask = torch.tensor([[0, 1, END, END], [3, 3, 0, 0]]), torch.tensor([[True, True, True, False], [True] * 4])
    assert sentence_scores(tokens, mask).tolist() == [2.0, -2.0]
    assert sentence_text((0, 1, END)) == "happy joyful END"


def test_optimum_is_the_best_policy_and_every_other_falls_short_by_its_distance():
    reference = reference_policy()
    ruler = Ruler(reference, BETA)
    assert abs(ruler.optimum()["objective"] - ruler.best) < EXACT
    other = TabularLM(VOCABULARY, 4, generator=torch.Generator().manual_seed(0))
    log_p = listed(other).log_probs().detach()
    gap = float((log_p.exp() * (log_p - ruler.target)).sum())
    assert abs(ruler.measure(other)["objective"] - (ruler.best - BETA * gap)) < 10 * EXACT
    assert ruler.measure(reference)["kl"] == 0
    assert len(ruler.likeliest(reference, 3)) == 3


def test_models_read_the_tokens_before_the_one_they_score(small):
    lm = small.lm
    scored = log_probs_of(lm.sequences, small.policy(shift_right(lm.sequences)))
    assert close(scored[lm.mask], small.log_probs[lm.mask])
    table = ValueTable(length=2)
    table.table.data = torch.arange(8, dtype=torch.float64)
    assert torch.equal(table(shift_right(lm.sequences)), small.policy.nodes(lm.sequences[:, :-1]).double())


def test_the_sampler_draws_what_is_scored_and_marks_what_is_real(small):
    policy = TabularLM(VOCABULARY, 2)
    policy.load_state_dict({"logits": 0.7 * small.policy.logits})  # logits / 0.7 are those of the other policy again
    tokens, mask = sampler(5, length=2)(policy, 3000, 0.7)
    places = small.lm.index(tokens)
    assert torch.equal(mask, small.lm.mask[places]) and mask.any(1).all()
    assert counts_agree(np.bincount(places, minlength=len(small.lm)), small.probs.numpy()) is None
    again = sampler(5, length=2)
    assert torch.equal(again(policy, 3000, 0.7)[0], tokens) and not torch.equal(again(policy, 3000, 0.7)[0], tokens)


# 6.2, 6.3


def test_padding_changes_nothing():
    x = drawn(0, "rewards", "values", "other", "scores")
    wide = {name: torch.cat([tensor, 7 + tensor[:, :2]], dim=1) for name, tensor in x.items()}
    more = torch.cat([MASK, torch.zeros_like(MASK[:, :2])], dim=1)

    def everything(x, mask):
        scores = x["scores"][:, 0]
        advantages, returns = ppo.gae(x["rewards"], x["values"], mask, 0.9, 0.8)
        rewards = ppo.kl_penalised_rewards(scores, x["rewards"], x["values"], mask, 0.3)
        three = (x["rewards"], x["values"], x["other"], mask)
        means = [
            ppo.masked_mean(x["other"], mask),
            ppo.clipped_surrogate(*three, 0.2),
            ppo.clipped_value_loss(*three, 0.2),
            ppo.clip_fraction(x["other"], x["values"], mask, 0.2),
            ppo.approximate_kl(x["rewards"], x["values"], mask),
            ppo.explained_variance(x["values"], x["rewards"], mask),
        ]
        to_come = ppo.discounted_returns(x["rewards"], mask, 0.9)
        return [advantages, returns, rewards, ppo.whiten(x["other"], mask), to_come], means

    (tensors, means), (wider, same) = everything(x, MASK), everything(wide, more)
    assert all(close(a, b) for a, b in zip(means, same))
    assert all(close(a, b[:, :5]) and not b[:, 5:].any() and not a[~MASK].any() for a, b in zip(tensors, wider))


def test_token_rewards_add_up_to_the_penalised_score_of_the_sentence(small):
    reference = listed(reference_policy(2), 2)
    expected = small.scores - BETA * (small.lm.log_probs() - reference.log_probs())
    assert close(small.rewards.sum(1), expected.detach())
    assert abs(float(small.probs @ small.rewards.sum(1)) - small.objective) < EXACT


# 6.4, 6.5


def test_lambda_one_is_return_minus_value_and_lambda_zero_the_td_error():
    x = drawn(1, "rewards", "values")
    advantages, returns = ppo.gae(**x, mask=MASK, gamma=0.9, lam=1.0)
    to_come = ppo.discounted_returns(x["rewards"], MASK, 0.9)
    assert close(advantages, (to_come - x["values"]) * MASK) and close(returns, to_come)
    advantages, returns = ppo.gae(**x, mask=MASK, gamma=0.9, lam=0.0)
    behind = torch.nn.functional.pad((x["values"] * MASK)[:, 1:], (0, 1))
    assert close(advantages, (x["rewards"] + 0.9 * behind - x["values"]) * MASK)
    assert close(returns, (x["rewards"] + 0.9 * behind) * MASK)


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.95])
def test_gae_is_the_weighted_mean_of_all_k_step_advantages(lam):
    """Eq. 6.11, with the weight of all horizons beyond the end on the last one."""
    x, gamma, length = drawn(2, "rewards", "values"), 0.9, 5
    mask = torch.ones(4, 5, dtype=torch.bool)
    behind = torch.nn.functional.pad(x["values"], (0, 1))
    advantages, _ = ppo.gae(**x, mask=mask, gamma=gamma, lam=lam)
    for t in range(length):
        mixed = 0.0
        for k in range(1, length - t + 1):
            rewards = sum(gamma**l * x["rewards"][:, t + l] for l in range(k))
            weight = lam ** (k - 1) * (1 if t + k == length else 1 - lam)
            mixed = mixed + weight * (rewards + gamma**k * behind[:, t + k] - x["values"][:, t])
        assert close(advantages[:, t], mixed)


def test_a_cut_off_rollout_bootstraps_as_if_the_value_were_a_last_reward():
    x = drawn(3, "rewards", "values")
    bootstrap = torch.tensor([1.0, -2.0, 5.0, 0.5], dtype=torch.float64)
    paid = x["rewards"].clone()
    for row, length in enumerate(MASK.sum(1).tolist()):
        if length:
            paid[row, length - 1] += 0.9 * bootstrap[row]
    cut_off = ppo.gae(**x, mask=MASK, gamma=0.9, lam=0.8, bootstrap=bootstrap)
    for mine, theirs in zip(cut_off, ppo.gae(paid, x["values"], MASK, 0.9, 0.8)):
        assert close(mine, theirs)


def test_first_step_has_the_exact_gradient_with_lambda_one_or_true_values(small):
    """Score and KL penalty, clip and ratio: at the first step the expected gradient is that of E[r] - beta KL (eq. 6.18)."""
    wrong = torch.randn(small.rewards.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    nodes = small.policy.nodes(small.lm.sequences[:, :-1])
    wrong = wrong.flatten()[nodes]  # some number for each prefix
    assert close(expected_gradient(small, wrong, 1.0), small.gradient)
    assert close(expected_gradient(small, true_values(small), 0.3), small.gradient)
    assert not close(expected_gradient(small, wrong, 0.3), small.gradient, 0.01)


def test_at_the_optimum_with_exact_values_every_td_error_is_zero(figures, world):
    assert figures.optimum_numbers(world)["value of the start"] == f"V(start) = {world.ruler.best:.4f}"


def test_explained_variance_of_perfect_constant_and_shifted_values():
    x = drawn(4, "values", "returns")
    assert close(ppo.explained_variance(x["returns"], x["returns"], MASK), 1.0)
    assert close(ppo.explained_variance(x["returns"] + 2.0, x["returns"], MASK), 1.0)
    assert close(ppo.explained_variance(torch.full_like(x["values"], 3.0), x["returns"], MASK), 0.0)
    assert ppo.explained_variance(-x["returns"], x["returns"], MASK) < 0
    assert ppo.explained_variance(x["values"], torch.full_like(x["values"], 0.1), MASK) == 0


# 6.6


@pytest.mark.parametrize("scale", [1e-6, 0.1, 1.0, 1e4])
def test_whitened_advantages_have_mean_zero_and_spread_one_at_any_scale(scale):
    x = scale * (3.0 + drawn(5, "x")["x"])
    found = ppo.whiten(x, MASK)[MASK]
    # 3 +- 1 in float64: subtracting the mean costs at most a few units of 1e-16 relative to 3, whatever the scale
    assert abs(float(found.mean())) < 1e-14 * 10 and abs(float(found.std(correction=0)) - 1) < 1e-13


def test_equal_advantages_whiten_to_zero_though_their_mean_is_rounded():
    x = torch.full((3, 7), 0.1, dtype=torch.float64)
    assert float((x - x.mean()).abs().max()) >= 0  # may or may not be 0: that is why max and min are compared
    assert not ppo.whiten(x, torch.ones(3, 7, dtype=torch.bool)).any()


def test_with_whitening_the_unit_of_the_reward_does_not_matter():
    """Scores, KL price and value clip in other units: the policy takes the same path, the values are in the new unit."""
    ends = []
    for unit in (1.0, 100.0):
        reference = reference_policy(2)
        policy, value = copy.deepcopy(reference).requires_grad_(True), ValueTable(length=2)
        optimizer = torch.optim.SGD([*policy.parameters(), *value.parameters()], lr=1.0)
        config = PPOConfig(batch_size=16, minibatch_size=8, epochs=2, kl_coef=BETA * unit, value_clip=0.2 * unit)

        def score(tokens, mask, unit=unit):
            return unit * sentence_scores(tokens, mask)

        ppo.train(policy, value, reference, sampler(1, 2), score, optimizer, config, 3)
        ends.append((policy.logits.detach(), value.table.detach() / unit))
    assert close(ends[0][0], ends[1][0], 1e-9) and close(ends[0][1], ends[1][1], 1e-9)  # a few dozen steps of rounding
    assert not close(ends[0][0], reference_policy(2).logits, 0.1)


# 6.7, 6.8


def test_the_gain_is_pessimistic_and_exact_inside_the_interval():
    generator = torch.Generator().manual_seed(6)
    ratio = torch.exp(torch.randn(1, 500, generator=generator, dtype=torch.float64))
    advantages = torch.randn(1, 500, generator=generator, dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.bool)
    for r, a in zip(ratio[0], advantages[0]):
        log_prob = r.log().reshape(1, 1).requires_grad_(True)
        gain = -ppo.clipped_surrogate(log_prob, torch.zeros(1, 1, dtype=torch.float64), a.reshape(1, 1), one, 0.2)
        gain.backward()
        assert gain <= r * a + EXACT
        useful = (a > 0) == (r > 1)  # the ratio has gone where the advantage pays
        flat = bool(useful and abs(r - 1) > 0.2)
        assert close(log_prob.grad, torch.zeros(1, 1, dtype=torch.float64) if flat else (r * a).reshape(1, 1))


def test_ratio_of_a_tensor_to_itself_still_has_the_policy_gradient():
    x = drawn(7, "log_probs", "advantages")
    new = x["log_probs"].requires_grad_(True)
    loss = ppo.clipped_surrogate(new, new, x["advantages"], MASK, 0.2)
    loss.backward()
    assert close(new.grad, -x["advantages"] * MASK / MASK.sum())
    assert close(loss.detach(), -ppo.masked_mean(x["advantages"], MASK))


def test_value_loss_is_pessimistic_too():
    x = drawn(8, "values", "old_values", "returns")
    plain = 0.5 * ppo.masked_mean((x["values"] - x["returns"]) ** 2, MASK)
    assert ppo.clipped_value_loss(**x, mask=MASK, clip=0.2) > plain
    assert close(ppo.clipped_value_loss(**x, mask=MASK, clip=100.0), plain)


# 6.11


def test_approximate_kl_has_the_exact_mean_under_the_old_policy():
    logits = torch.randn(2, 6, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    old, new = torch.log_softmax(logits, -1)
    one = torch.ones(1, 1, dtype=torch.bool)
    terms = torch.stack([ppo.approximate_kl(new[v].reshape(1, 1), old[v].reshape(1, 1), one) for v in range(6)])
    assert (terms >= 0).all()
    assert close(old.exp() @ terms, (old.exp() * (old - new)).sum())
    assert not close(new.exp() @ terms, (old.exp() * (old - new)).sum(), 1e-3)  # samples of the new policy have another mean


def test_entropy_is_largest_for_equal_logits_and_survives_large_ones():
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert close(ppo.mean_entropy(torch.zeros(1, 2, 5, dtype=torch.float64), mask), math.log(5))
    far = torch.tensor([[[900.0, -900.0, 0.0]] * 2], dtype=torch.float64, requires_grad=True)
    ppo.mean_entropy(far, mask).backward()
    assert torch.isfinite(far.grad).all()


# 6.12


def a_rollout(temperature=1.0, count=24, seed=2):
    reference = reference_policy(2)
    policy = TabularLM(VOCABULARY, 2, generator=torch.Generator().manual_seed(4))
    value, config = ValueTable(length=2), PPOConfig(batch_size=count, minibatch_size=count, temperature=temperature)
    value.table.data = torch.linspace(-1, 1, len(value.table), dtype=torch.float64)
    return policy, value, reference, ppo.rollout(policy, value, reference, sampler(seed, 2), sentence_scores, config), config


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_at_the_first_step_every_ratio_is_one_and_the_whitened_loss_zero(temperature):
    policy, value, _, batch, config = a_rollout(temperature)
    optimizer = torch.optim.SGD([*policy.parameters(), *value.parameters()], lr=2.0)
    figures = ppo.ppo_update(policy, value, optimizer, batch, config)
    assert figures["approx_kl"][0] == 0 and figures["clip_fraction"][0] == 0
    assert abs(figures["policy_loss"][0]) < EXACT
    assert figures["approx_kl"][-1] > 0 and len(figures["approx_kl"]) == config.epochs


def test_sampler_is_scorer():
    """E over the drawn sentences of 1 / p(sentence) is their number, if they are scored as they were drawn."""
    policy, _, _, batch, _ = a_rollout(0.7, count=4000)
    inverse = torch.exp(-(batch.log_probs * batch.mask).sum(1))
    assert abs(float(inverse.mean()) - 43) < 4 * float(inverse.std()) / math.sqrt(4000)
    plain = torch.exp(-(log_probs_of(batch.tokens, policy(shift_right(batch.tokens))) * batch.mask).sum(1))
    assert abs(float(plain.detach().mean()) - 43) > 4 * float(plain.detach().std()) / math.sqrt(4000)


def test_a_rollout_is_data_and_the_reference_gets_no_gradient():
    policy, value, reference, batch, config = a_rollout()
    reference.requires_grad_(True)
    noted = {name: getattr(batch, name).clone() for name in Rollout.__dataclass_fields__}
    assert not any(tensor.requires_grad for tensor in noted.values())
    ppo.ppo_update(policy, value, torch.optim.SGD([*policy.parameters(), *value.parameters()], lr=1.0), batch, config)
    assert reference.logits.grad is None
    assert all(torch.equal(tensor, getattr(batch, name)) for name, tensor in noted.items())


def test_one_step_without_extras_is_reinforce_with_a_critic():
    policy, value, _, batch, _ = a_rollout()
    config = PPOConfig(batch_size=24, minibatch_size=24, epochs=1, lam=1.0, whiten=False, kl_coef=0.0)
    before = policy.logits.detach().clone()
    ppo.ppo_update(policy, value, torch.optim.SGD([*policy.parameters(), *value.parameters()], lr=1.0), batch, config)
    stepped = policy.logits.detach().clone()
    policy.logits.data = before.clone()
    log_probs = log_probs_of(batch.tokens, policy(shift_right(batch.tokens)))
    weight = (batch.scores.unsqueeze(1) - batch.values) * batch.mask
    (gradient,) = torch.autograd.grad((weight * log_probs).sum() / batch.mask.sum(), policy.logits)
    assert close(stepped, before + gradient)


def test_training_is_repeatable_and_reports_what_it_measured():
    def run():
        rows = ppo_run.learn(ppo.train, ppo_run.Config(updates=3, batch_size=64, minibatch_size=32)).rows
        return [{name: figure for name, figure in row.items() if name != "seconds"} for row in rows]

    one, two = run(), run()
    assert one == two
    assert one[-1]["objective"] > one[0]["objective"]
    assert set(one[1]) >= {"reward", "kl", "entropy", "approx_kl", "clip_fraction", "explained_variance", "completion_length"}


@pytest.mark.slow
def test_threshold_of_the_learning_check_lies_far_below_right_runs():
    """The check asks for 0.8 after 6 updates; over 200 seeds the worst right run lies above 1.0, the mean 1.14."""
    found = []
    for seed in range(200):
        reference = reference_policy(3)
        policy, value = copy.deepcopy(reference).requires_grad_(True), ValueTable(length=3)
        optimizer = torch.optim.Adam([*policy.parameters(), *value.parameters()], lr=0.3)
        config = PPOConfig(batch_size=128, minibatch_size=128, epochs=2)
        ppo.train(policy, value, reference, sampler(seed, 3), sentence_scores, optimizer, config, 6)
        found.append(Ruler(reference, BETA, 3).measure(policy)["objective"])
    assert min(found) > 1.0
    mean, spread = np.mean(found), np.std(found)
    assert mean - 0.8 > 7 * spread  # 0.8 is further away than seven standard deviations
    assert Ruler(reference, BETA, 3).measure(reference)["objective"] < -0.6


# climb run toy-ppo


def test_a_run_fills_its_folder_and_begins_anew_with_the_same_numbers(tmp_path):
    config, lessons, folder = ppo_run.Config(updates=4, batch_size=32), SimpleNamespace(train=ppo.train), RunFolder(tmp_path)
    told = []
    first = ppo_run.run(config, lessons, folder, lambda *what: told.append(what))
    again = ppo_run.run(config, lessons, folder, lambda *what: None, resume=True)
    assert (tmp_path / "run.png").stat().st_size > 10_000 and [row["step"] for row in folder.metrics()] == [0, 1, 2, 3, 4]
    assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in again.items() if k != "seconds"}
    assert told[-1][1:] == (4, 4) and "total variation" in ppo_run.told(first)[2]


@pytest.mark.parametrize(
    "settings, message",
    [({"kl_coef": 0.0}, "kl_coef: expected a pos"), ({"clip": -1.0}, "clip"), ({"lam": 1.2}, "lam"), ({"epochs": 0}, "epochs")],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=message):
        ppo_run.Config(**settings)


# what is refused

GOOD = drawn(10, "a", "b", "c")
NO_TOKEN = torch.zeros_like(MASK)
HOLES = torch.tensor([[True, False, True, True, True]] * 4)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: ppo.masked_mean(x["a"], NO_TOKEN), "mask: expected at least one real token"),
        (lambda x: ppo.masked_mean(x["a"], MASK[:, :4]), r"mask: expected shape \(4, 5\), received shape \(4, 4\)"),
        (lambda x: ppo.masked_mean(x["a"][0], MASK[0]), r"values: expected shape \(batch, time\)"),
        (lambda x: ppo.discounted_returns(x["a"], HOLES, 1.0), r"mask: expected padding behind .* \[1, 0, 1, 1, 1\] in row 0"),
        (lambda x: ppo.discounted_returns(x["a"], MASK, 1.1), "gamma: expected a number from 0 to 1, received 1.1"),
        (lambda x: ppo.kl_penalised_rewards(torch.ones(3), x["a"], x["b"], MASK, 0.1), r"scores: expected shape \(4,\), one num"),
        (lambda x: ppo.kl_penalised_rewards(torch.ones(4), x["a"], x["b"], MASK, -0.1), "kl_coef: .* that is not negative"),
        (lambda x: ppo.gae(x["a"], x["b"], MASK, 1.0, 2.0), "lam: expected a number from 0 to 1"),
        (lambda x: ppo.gae(x["a"], x["b"], MASK, 1.0, 1.0, x["c"]), r"bootstrap: expected shape \(4,\)"),
        (lambda x: ppo.explained_variance(x["a"], x["b"], NO_TOKEN), "mask"),
        (lambda x: ppo.whiten(x["a"], NO_TOKEN), "mask"),
        (lambda x: ppo.clipped_surrogate(x["a"], x["b"], x["c"], MASK, 0.0), "clip: expected a positive number, received 0.0"),
        (lambda x: ppo.clipped_surrogate(x["a"], x["b"], x["c"][:, :1], MASK, 0.2), "advantages: expected shape"),
        (lambda x: ppo.clipped_value_loss(x["a"], x["b"], x["c"], MASK, -1.0), "clip"),
        (lambda x: ppo.approximate_kl(x["a"], x["b"][:1], MASK), "old_log_probs"),
        (lambda x: ppo.clip_fraction(x["a"], x["b"], MASK, 0.0), "clip"),
        (lambda x: ppo.mean_entropy(torch.zeros(4, 3, 2), MASK), "mask"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call(GOOD)


# the silent bug


def test_the_planted_error_is_one_line_and_the_mended_loop_is_ppo(figures):
    found, mended = figures.planted(), ppo_bug
    reference = reference_policy(2)
    ends = []
    for module in (found, mended):
        policy, value = copy.deepcopy(reference).requires_grad_(True), ValueTable(length=2)
        module.train_writer(policy, value, reference, sampler(0, 2), updates=2, count=16, epochs=8)
        ends.append(policy.logits.detach())
    policy, value = copy.deepcopy(reference).requires_grad_(True), ValueTable(length=2)
    optimizer = torch.optim.SGD([*policy.parameters(), *value.parameters()], lr=5.0)
    config = PPOConfig(batch_size=16, minibatch_size=16, epochs=8, value_clip=1e9)
    ppo.train(policy, value, reference, sampler(0, 2), sentence_scores, optimizer, config, 2)
    assert close(ends[1], policy.logits.detach(), 1e-9)
    assert not close(ends[0], ends[1], 0.1)
    files = (LESSON.parents[1] / folder / "ppo_bug.py" for folder in ("toy", "solutions/toy"))
    planted, right = ([line for line in path.read_text(encoding="utf-8").splitlines()] for path in files)
    (wrong,) = (line for line in planted if line not in right)  # the mended file has it as a comment
    assert "torch.maximum(ratio * advantages, edge)" in wrong and f"    # {wrong.strip()}" in right


# the text


def missing(numbers):
    return {name: text for name, text in numbers.items() if " ".join(text.split()) not in TEXT}


def test_the_exact_numbers_of_the_text(figures, world):
    assert not missing(figures.exact_numbers(world))
    mean = ppo.masked_mean(torch.tensor([[1.0, 5.0], [6.0, 9.0]]), torch.tensor([[True, True], [True, False]]))
    assert "12/3 = 4" in TEXT and mean == 4


@pytest.mark.slow
def test_the_numbers_of_one_batch_and_of_the_silent_bug(figures):
    assert not missing(figures.batch_numbers((figures.one_batch(0.2), figures.one_batch(1e9))))
    assert not missing(figures.bug_numbers(figures.planted()))


@pytest.mark.slow
def test_the_measured_numbers_of_the_text(figures):
    assert not missing(figures.measured_numbers(figures.measure()))


def test_equations_pictures_and_sections_the_code_speaks_of_exist():
    from autograder.course import load

    tags = re.findall(r"\\tag\{(6\.\d+)\}", TEXT)
    assert tags == [f"6.{n}" for n in range(1, len(tags) + 1)]
    cited = set()
    for group in re.findall(r"eqs?\. ((?:6\.\d+(?:, | and )?)+)", Path(ppo.__file__).read_text(encoding="utf-8")):
        cited |= set(re.findall(r"6\.\d+", group))
    assert cited and cited <= set(tags)
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT):
        assert (LESSON / picture).is_file()
    for lesson in load(LESSON).lessons:
        if lesson.number == 6:
            assert all(exercise.section in lesson.sections and len(exercise.hints) == 3 for exercise in lesson.exercises)


def test_the_answers_to_the_questions_are_right():
    questions = {q["id"]: q for q in tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]}
    one = torch.ones(1, 1, dtype=torch.bool)
    gain = -ppo.clipped_surrogate(torch.tensor([[0.3]]).log(), torch.tensor([[0.2]]).log(), torch.tensor([[-2.0]]), one, 0.2)
    assert abs(float(gain) - questions["clip-corner"]["answer"]) < 1e-5  # float32
    two = torch.ones(1, 2, dtype=torch.bool)
    advantages, _ = ppo.gae(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.25]]), two, 1.0, 0.5)
    assert float(advantages[0, 0]) == questions["gae-by-hand"]["answer"]
    kl = ppo.approximate_kl(torch.tensor([[math.log(2.0)]], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64), one)
    assert abs(float(kl) - questions["approximate-kl-number"]["answer"]) < 1e-10
    errors, g, l = torch.tensor([[0.3, -0.7, 1.1]], dtype=torch.float64), 0.9, 0.8
    advantages, _ = ppo.gae(errors, torch.zeros_like(errors), torch.ones(1, 3, dtype=torch.bool), g, l)
    d1, d2, d3 = errors[0].tolist()
    formula = questions["gae-formula"]["answer"]
    assert abs(eval(formula, {}, {"d1": d1, "d2": d2, "d3": d3, "g": g, "l": l}) - float(advantages[0, 0])) < EXACT
