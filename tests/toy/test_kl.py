"""Lesson 4: truths about the reference, and every claim and number of the lesson's text."""

import importlib.util
import math
import re
import tomllib
from itertools import product
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from autograder.checks import checks_in
from autograder.checks.toy import kl as checks
from autograder.checks.toy import kl_bug as bug_checks
from autograder.skeletons import skeleton
from solutions.toy import kl, kl_bug
from toy.given.enumerable import EnumerableLM

ROOT = Path(__file__).resolve().parents[2]
LESSON = ROOT / "lessons" / "04-kl"
TEXT = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").split())
EXACT = 1e-12  # float64 sums of at most a few hundred terms of size 1 to 10, relative to their size
HALF, QUARTER = torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([0.25, 0.75], dtype=torch.float64)


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("lesson_04_figures", LESSON / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def generator(seed):
    return torch.Generator().manual_seed(seed)


def distributions(seed, *shape):
    return torch.softmax(1.5 * torch.randn(2, *shape, generator=generator(seed), dtype=torch.float64), -1)


def pair(seed, vocabulary=3, length=3, eos=2):
    """Two random tables: a policy that learns and a frozen reference."""
    make = generator(seed)
    policy = EnumerableLM.tabular(vocabulary, length, eos=eos, generator=make)
    return policy, EnumerableLM.tabular(vocabulary, length, eos=eos, generator=make).frozen()


def close(a, b, tolerance=EXACT):
    return torch.allclose(torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64), rtol=0, atol=tolerance)


def update(policy, losses):
    return kl.expected_gradient(losses, policy.log_probs(), policy.model.logits).flatten()


def log_ratio(policy, reference):
    return kl.sequence_kl_sampled(policy.token_log_probs(), reference.token_log_probs(), policy.mask)


# 4.1, 4.2


def test_value_against_the_library_and_the_ruler():
    p, q = distributions(0, 4, 5)
    expected = F.kl_div(q.log(), p, reduction="none").sum(-1)
    assert close(kl.kl_divergence(p, q), expected)
    policy, reference = pair(1)
    assert close(kl.kl_divergence(policy.probs(), reference.probs()), policy.kl(reference))


def test_never_negative_zero_for_equals_and_made_of_terms_that_are_not_negative():
    p, q = distributions(1, 200, 6)
    value = kl.kl_divergence(p, q)
    assert (value > 0).all() and close(kl.kl_divergence(p, p), torch.zeros(200))
    terms = p * (p / q).log() - p + q  # eq. 4.3
    assert (terms >= 0).all() and close(terms.sum(-1), value)
    weights = torch.tensor([0.25, 1.0], dtype=torch.float64)  # no distribution: the sum of section 4.2 vanishes
    assert close((HALF * (HALF / weights).log()).sum(), 0.0)
    with pytest.raises(ValueError, match="q: expected probabilities that sum to 1"):
        kl.kl_divergence(HALF, weights)


def test_zeros_give_no_term_no_gradient_and_infinity():
    p = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([0.25, 0.75, 0.0], dtype=torch.float64, requires_grad=True)
    kl.kl_divergence(p, q).backward()
    assert close(p.grad, [math.log(2) + 1, math.log(2 / 3) + 1, 0.0]) and close(q.grad, [-2.0, -2 / 3, 0.0])
    certain = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert kl.kl_divergence(HALF, certain) == math.inf and kl.kl_divergence(certain, HALF) == math.log(2)
    chosen_late = torch.where(p > 0, p * (p.log() - q.log()), 0.0).sum()  # the trap of section 4.1
    assert chosen_late.isfinite() and torch.autograd.grad(chosen_late, p)[0].isnan().any()


# 4.3


def test_directions():
    a = torch.tensor([0.2, 0.8], dtype=torch.float64)
    assert close(kl.kl_divergence(a, a.flip(0)), kl.kl_divergence(a.flip(0), a))
    assert close(kl.kl_divergence(a, a.flip(0)), 0.6 * math.log(4))  # eq. 4.5
    p, _ = distributions(2, 5)
    delta = torch.tensor([1.0, -2.0, 0.5, 1.5, -1.0], dtype=torch.float64) * 1e-4 * p.min()
    half_chi2 = (delta**2 / p).sum() / 2
    for value in (kl.kl_divergence(p, p + delta), kl.kl_divergence(p + delta, p)):
        assert abs(value / half_chi2 - 1) < 1e-3  # the next order is smaller by delta / p <= 2e-4


@pytest.mark.filterwarnings("ignore:reduction")  # "mean" is what the text warns of
def test_the_library_function_as_the_text_says():
    p, q = HALF, QUARTER
    assert close(F.kl_div(q.log(), p.log(), log_target=True, reduction="sum"), kl.kl_divergence(p, q))
    assert F.kl_div(q.log(), p.log(), reduction="sum").isnan()
    assert close(F.kl_div(q.log(), p, reduction="mean"), kl.kl_divergence(p, q) / 2)


# 4.4


@pytest.mark.parametrize("k, alpha", [(2, 0.3), (4, 0.4), (6, 0.0), (8, 0.25)])
def test_closed_form_is_the_sum(k, alpha):
    theta, beta = distributions(k, k)[0], 2 / k - alpha
    q = torch.tensor([beta, alpha], dtype=torch.float64).repeat(k // 2)
    assert close(kl.kl_even_odd(theta, alpha, beta), kl.kl_divergence(q, theta))


# 4.5, 4.6


def test_means_of_the_estimators():
    p, q = distributions(3, 8)
    exact, log_p, log_q = kl.kl_divergence(p, q), p.log(), q.log()
    assert close(p @ kl.k1(log_p, log_q), exact) and close(p @ kl.k3(log_p, log_q), exact)
    assert (kl.k1(log_p, log_q) < 0).any() and (kl.k3(log_p, log_q) >= 0).all()
    chi2 = (p**2 / q).sum() - 1
    assert close(p @ kl.k3(log_q, log_p), chi2 - exact)  # eq. 4.17
    assert abs(p @ kl.k2(log_p, log_q) - exact) > 0.01
    r = (log_q - log_p).exp()
    assert close(p @ (r * r.log() - r + 1), kl.kl_divergence(q, p))  # the mistake named k3-of-the-other-divergence


def test_samples_agree_with_the_exact_mean():
    p, q = distributions(4, 8)
    drawn = torch.multinomial(p, 20_000, replacement=True, generator=generator(0))
    for estimator in (kl.k1, kl.k3):
        values = estimator(p.log(), q.log())[drawn]
        assert abs(values.mean() - kl.kl_divergence(p, q)) < 4 * values.std() / math.sqrt(20_000)


def test_near_the_reference_all_agree_to_second_order():
    p, direction = distributions(5, 8)
    q = (p.log() + 1e-3 * direction).softmax(-1)
    exact = kl.kl_divergence(p, q)
    for values in (kl.k2(p.log(), q.log()), kl.k3(q.log(), p.log())):
        assert abs(p @ values / exact - 1) < 2e-3  # the next order is smaller by the largest log-ratio, 1e-3


def test_k3_loses_what_the_policy_never_says():
    p, q = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64), torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)
    mean = p[:2] @ kl.k3(p[:2].log(), q[:2].log())
    assert close(mean, kl.kl_divergence(p, q) - 0.5)  # eq. 4.16
    assert close(p[:2] @ kl.k1(p[:2].log(), q[:2].log()), kl.kl_divergence(p, q))


def test_k3_keeps_its_digits_near_the_reference():
    assert kl.k3(torch.tensor([-1.0 + 1e-9]).double(), torch.tensor([-1.0]).double()).item() < 1e-15
    small = kl.k3(torch.tensor([-1.0], dtype=torch.float64), torch.tensor([-1.0 + 1e-5], dtype=torch.float64)).item()
    assert abs(small / 5e-11 - 1) < 1e-4  # x^2/2 at x = 1e-5; rounding of expm1(x) - x is 1e-21 / 5e-11, and of x itself 1e-11


# 4.7, 4.8, 4.9


@pytest.mark.parametrize("vocabulary, length, eos", [(2, 4, None), (3, 3, 2), (4, 2, 0)])
def test_sequences_by_the_chain_rule_by_samples_and_by_the_ruler(vocabulary, length, eos):
    policy, reference = pair(length, vocabulary, length, eos)
    rows, ref_rows = policy.next_token_log_probs(), reference.next_token_log_probs()
    value = kl.sequence_kl_exact(rows, ref_rows, policy.sequences, policy.mask)
    assert close(value, policy.kl(reference))
    assert close(policy.gradient(value), policy.gradient(policy.kl(reference)))
    assert close(policy.probs() @ log_ratio(policy, reference), policy.kl(reference))
    full = kl.token_kl(rows, ref_rows, policy.mask).sum(-1)
    assert close(policy.probs() @ full, policy.kl(reference))
    spread = [(policy.probs() @ x**2 - policy.kl(reference) ** 2).item() for x in (log_ratio(policy, reference), full)]
    assert spread[1] < spread[0]


def test_prompts_and_padding_do_not_count_whatever_they_hold():
    log_probs, ref = -torch.rand(2, 3, 5, generator=generator(0), dtype=torch.float64)
    mask = torch.tensor([[0, 1, 1, 0, 0], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]], dtype=torch.bool)
    clean = kl.sequence_kl_sampled(log_probs, ref, mask)
    for junk in (math.nan, math.inf, -math.inf, 3.0):
        spoilt = [torch.where(mask, x, junk).requires_grad_(True) for x in (log_probs, ref)]
        assert torch.equal(kl.sequence_kl_sampled(*spoilt, mask), clean)
        kl.kl_loss(*spoilt, mask).sum().backward()
        assert spoilt[0].grad.isfinite().all() and spoilt[1].grad is None
    assert clean[2] == 0


def test_a_batch_in_proportion_has_the_exact_mean(figures):
    policy, reference = figures.example()
    counts = (16 * policy.probs()).round().long()
    assert counts.tolist() == [6, 1, 1, 1, 1, 2, 4]
    batch = log_ratio(policy, reference).repeat_interleave(counts)
    assert close(batch.mean(), policy.kl(reference))


# 4.10 to 4.12: which estimator in which place


@pytest.mark.parametrize("vocabulary, length, eos", [(2, 4, None), (3, 3, 2)])
def test_which_place_has_which_gradient(vocabulary, length, eos):
    policy, reference = pair(10 + length, vocabulary, length, eos)
    ours, theirs = (policy.gradient(value) for value in (policy.kl(reference), policy.reverse_kl(reference)))
    chosen, ref, mask = policy.token_log_probs(), reference.token_log_probs(), policy.mask
    distance, nothing = log_ratio(policy, reference), torch.zeros(len(policy), dtype=torch.float64)
    k3 = torch.expm1(-distance) + distance
    assert close(update(policy, distance), torch.zeros(len(ours)))  # eq. 4.29
    assert close(update(policy, kl.kl_loss(chosen, ref, mask)), ours)  # eq. 4.30
    assert close(update(policy, k3), theirs)  # eq. 4.31
    in_reward = kl.reinforce_loss(kl.kl_reward(nothing, chosen, ref, mask, 1.0), chosen, mask)
    assert close(update(policy, in_reward), ours)  # eq. 4.28
    assert close(update(policy, kl.reinforce_loss(-k3, chosen, mask)), ours - theirs)  # eq. 4.33


def test_k2_in_the_loss_and_k1_in_the_reward_agree_sentence_by_sentence():
    policy, reference = pair(20)
    chosen, ref, mask = policy.token_log_probs(), reference.token_log_probs(), policy.mask
    rewards = kl.kl_reward(torch.zeros(len(policy), dtype=torch.float64), chosen, ref, mask, 1.0)
    for one, other in zip(kl.kl_loss(chosen, ref, mask), kl.reinforce_loss(rewards, chosen, mask)):
        assert close(policy.gradient(one), policy.gradient(other))


def test_full_kl_on_sampled_prefixes_lacks_the_score_function_term():
    policy, reference = pair(21)
    full = kl.token_kl(policy.next_token_log_probs(), reference.next_token_log_probs(), policy.mask)
    got, exact = update(policy, full.sum(-1)), policy.gradient(policy.kl(reference))
    later = full.sum(-1, keepdim=True) - full.cumsum(-1)  # what follows each token
    missing = update(policy, (later.detach() * policy.token_log_probs()).sum(-1))
    assert (got - exact).norm() > 0.01 and close(got + missing, exact)  # eq. 4.32
    of_tokens = kl.k2(policy.token_log_probs(), reference.token_log_probs()).sum(-1)
    assert close(update(policy, of_tokens), got)
    short, short_reference = pair(22, 4, 1, None)  # one token: nothing can be missing
    full = kl.token_kl(short.next_token_log_probs(), short_reference.next_token_log_probs(), short.mask).sum(-1)
    assert close(update(short, full), short.gradient(short.kl(short_reference)))


def test_an_attached_reward_adds_an_entropy_bonus():
    policy, reference = pair(23)
    score, beta = torch.randn(len(policy), generator=generator(1), dtype=torch.float64), 0.3
    chosen, mask = policy.token_log_probs(), policy.mask
    attached = -(score - beta * log_ratio(policy, reference)) * chosen.sum(-1)
    right = kl.reinforce_loss(kl.kl_reward(score, chosen, reference.token_log_probs(), mask, beta), chosen, mask)
    assert close(update(policy, attached), update(policy, right) - beta * policy.gradient(policy.entropy()))


def test_the_reference_and_the_leaf_are_left_alone():
    policy, reference = pair(24)
    reference.model.logits.requires_grad_(True)
    losses = kl.kl_loss(policy.token_log_probs(), reference.token_log_probs(), policy.mask)
    found = kl.expected_gradient(losses, policy.log_probs(), reference.model.logits)
    assert not found.any() and policy.model.logits.grad is None
    assert torch.equal(update(policy, losses), update(policy, losses))


# 4.13


def test_objective_is_a_divergence_from_the_optimum(figures):
    policy, reference, score = figures.task()
    for beta in (0.25, 1.0, 4.0):
        left = policy.expected(score) - beta * policy.kl(reference)
        right = beta * reference.log_partition(score, beta) - beta * policy.kl(reference.optimum(score, beta))
        assert close(left, right)
    best = [reference.optimum(score, beta) for beta in (1e-3, 1e3)]
    assert close(kl.kl_divergence(best[0].exp(), reference.probs()), math.log(32)) and best[1].isfinite().all()


def test_the_first_tenth_of_a_nat_buys_more_than_the_last_one(figures):
    _, reference, score = figures.task()

    def frontier(nats):
        low, high = 1e-2, 1e3
        for _ in range(80):
            beta = math.sqrt(low * high)
            best = reference.optimum(score, beta)
            low, high = (beta, high) if kl.kl_divergence(best.exp(), reference.probs()) > nats else (low, beta)
        return (best.exp() @ score).item()

    start = reference.expected(score).item()
    assert frontier(0.1) - start > score.max().item() - frontier(math.log(32) - 1)


# the silent bug


def planted():
    program = ModuleType("kl_bug")
    exec(skeleton((ROOT / "solutions" / "toy" / "kl_bug.py").read_text(encoding="utf-8"), 4), program.__dict__)
    return program


def listed_kl(program, table, reference, length=3):
    sentences = torch.tensor(list(product(range(6), repeat=length)))
    log_p, log_q = (program.token_log_probs(t, sentences).sum(1) for t in (table, reference))
    return kl.kl_divergence(log_p.exp(), log_q.exp()).item()


def test_the_mended_program_reaches_its_target_and_the_planted_one_believes_so(figures):
    reference = kl_bug.speaker()
    table, history = kl_bug.train_near_reference(reference, reference)
    told = sum(history["kl"][-100:]) / 100
    # 256 sentences a step: a standard error of at most 2/sqrt(25,600) nats; the policy itself still moves by a few hundredths
    assert abs(told - 1) < 0.05 and abs(listed_kl(kl_bug, table, reference) - 1) < 0.1
    program = planted()
    wrong_table, wrong = program.train_near_reference(reference, reference)
    assert abs(sum(wrong["kl"][-100:]) / 100 - 1) < 0.01  # "within a per cent"
    assert listed_kl(program, wrong_table, reference) < 0.85
    assert sum(history["score"][-100:]) > sum(wrong["score"][-100:]) + 5
    assert abs(wrong["beta"][-1] / wrong["beta"][-51] - 1) < 0.05 and min(wrong["entropy"]) > 4.5


def test_what_the_planted_program_reports_has_the_mean_of_eq_4_17():
    program, table = planted(), torch.log(torch.tensor([2.0, 2, 1, 1, 1, 1], dtype=torch.float64) / 8).expand(7, 6)
    reference = torch.zeros(7, 6, dtype=torch.float64)
    batch = torch.tensor([[0], [0], [1], [1], [2], [3], [4], [5]])
    told, chi2 = program.approximate_kl(*(program.token_log_probs(t, batch) for t in (table, reference))), 6 * 12 / 64 - 1
    assert close(told, chi2 - listed_kl(program, table, reference, 1))


# what is refused


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: kl.kl_divergence(HALF, QUARTER[None]), r"q: expected shape \(2,\), received shape \(1, 2\)"),
        (lambda: kl.kl_divergence(2 * HALF, QUARTER), "p: expected probabilities that sum to 1, received minimum 1, sums"),
        (lambda: kl.kl_even_odd(torch.ones(3) / 3, 0.5, 0.5), r"theta: expected shape \(k,\) with an even k, received shape \(3,\)"),
        (lambda: kl.kl_even_odd(torch.ones(4) / 4, 0.4, 0.4), r"alpha, beta: expected \(k/2\)\(alpha \+ beta\) = 1, received 1.6"),
        (lambda: kl.kl_even_odd(torch.ones(4) / 4, -0.1, 0.6), "alpha: expected a probability, received -0.1"),
        (lambda: kl.k3(HALF, QUARTER[:1]), r"ref_log_probs: expected shape \(2,\), received shape \(1,\)"),
        (lambda: kl.token_kl(HALF[None, None], HALF[None, None], torch.tensor([[True]])), "log_policy: expected log-probabilities"),
        (lambda: kl.sequence_kl_sampled(-HALF[None], -HALF[None], torch.zeros(1, 2, dtype=torch.bool)), "mask: .* False everywhere"),
        (lambda: kl.sequence_kl_sampled(-HALF[None], HALF[None], torch.ones(1, 2, dtype=torch.bool)), r"ref_log_probs: .* 0.5 \(is"),
        (lambda: kl.expected_gradient(HALF, HALF.log()[:1], HALF), r"log_probs: expected shape \(2,\)"),
        (lambda: kl.kl_reward(HALF[:1], -HALF[None], -HALF[None], torch.ones(1, 2, dtype=torch.bool), -1), "beta: expected a number"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# the text


def spoken(text):
    """A row of numbers as the text may write it: cells of tables are parted by bars, and one of them may stand in formula signs."""
    return re.sub(r"\s*\|\s*", " | ", text)


@pytest.mark.filterwarnings("ignore:reduction")  # "mean" is what the text warns of
def test_the_exact_numbers_of_the_text(figures):
    said = spoken(TEXT)
    missing = {name: text for name, text in figures.exact_numbers(kl).items() if spoken(text) not in said}
    assert not missing
    values = [(policy.probs() @ x).item() for policy, x in four_values(figures)]
    assert all(f"{value:.4f}" == "0.2820" for value in values)
    assert "one nat is 1.4427 bits" in TEXT and f"{1 / math.log(2):.4f}" == "1.4427" and f"{math.log(100):.2f}" == "4.61"


def four_values(figures):
    """The losses of section 4.12 that have the KL as their mean: k1, k3 of the sentence and of its tokens, the full KL."""
    policy, reference = figures.example()
    distance = log_ratio(policy, reference)
    rows = policy.next_token_log_probs(), reference.next_token_log_probs()
    yield policy, distance
    yield policy, torch.expm1(-distance) + distance
    yield policy, kl.k3(policy.token_log_probs(), reference.token_log_probs()).sum(-1)
    yield policy, kl.token_kl(*rows, policy.mask).sum(-1)


@pytest.mark.slow
def test_the_measured_numbers_of_the_text(figures):
    said, measured = spoken(TEXT), figures.measure(kl)
    numbers = figures.measured_numbers(*measured) | figures.bug_numbers(figures.bug_run())
    assert not {name: text for name, text in numbers.items() if spoken(text) not in said}
    places, strengths = measured
    assert close(places["k1 in the loss"][0][-1, 1:], strengths[0.0][0][-1, 1:], 1e-9)  # a run without penalty
    assert close(places["k1 in the reward"][0][:, 0], places["k2 in the loss"][0][:, 0], 1e-9)


def test_equations_and_pictures_the_text_speaks_of_exist():
    tags = re.findall(r"\\tag\{(4\.\d+)\}", TEXT)
    assert tags == [f"4.{n}" for n in range(1, len(tags) + 1)]
    files = [Path(kl.__file__), Path(checks.__file__), LESSON / "hints.toml", LESSON / "questions.toml"]
    cited = {eq for file in files for eq in re.findall(r"eqs?\. (4\.\d+)", file.read_text(encoding="utf-8"))}
    assert cited and cited <= set(tags)
    assert set(re.findall(r"\((4\.\d+)\)", TEXT)) <= set(tags)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT)
    assert sorted(pictures) == sorted(path.name for path in LESSON.glob("*.png"))


def test_sections_hints_and_questions_fit_the_checks():
    sections = set(re.findall(r"^## (\d+\.\d+) ", (LESSON / "lesson.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    asked = [*checks_in(checks), *checks_in(bug_checks)]
    assert {check.section for check in asked} <= sections
    hints = tomllib.loads((LESSON / "hints.toml").read_text(encoding="utf-8"))
    assert set(hints) == {check.exercise for check in asked} and all(len(hint["levels"]) == 3 for hint in hints.values())
    assert {name for name in hints if f"`{name}`" not in TEXT} == set()


def test_the_answers_to_the_questions_are_right():
    questions = {q["id"]: q for q in tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]}
    for a in (0.1, 0.5, 0.8):
        expected = kl.kl_even_odd(torch.full((6,), 1 / 6, dtype=torch.float64), a / 3, (1 - a) / 3).item()
        assert math.isclose(eval(questions["even-odd-uniform"]["answer"], {"ln": math.log, "a": a}), expected, abs_tol=EXACT)
    t, u, v, w = theta = distributions(6, 4)[0].tolist()
    point = {"a": 0.3, "b": 0.2, "t": t, "u": u, "v": v, "w": w, "ln": math.log}
    expected = kl.kl_even_odd(torch.tensor(theta, dtype=torch.float64), 0.3, 0.2).item()
    assert math.isclose(eval(questions["even-odd-four"]["answer"], {}, point), expected, abs_tol=EXACT)
    policy, reference = HALF.log(), torch.tensor([0.8, 0.2], dtype=torch.float64).log()
    inverted = (HALF @ kl.k3(reference, policy)).item()
    assert abs(questions["k3-inverted-coin"]["answer"] - inverted) < 1e-6
    assert abs(questions["limit-of-kl"]["answer"] - math.log(1000)) < 1e-6
    log_pi, log_ref = (p.log() for p in distributions(7, 3, 5))
    exact = kl.kl_divergence(log_pi.exp(), log_ref.exp())
    for at, call in enumerate(questions["library-function"]["choices"]):
        found = eval(call, {"F": F, "log_pi": log_pi, "log_ref": log_ref})
        assert close(found, exact) == (at in questions["library-function"]["answer"])
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.5, 0.3])  # the same entropy, two divergences
    assert abs((p * np.log(p / q)).sum() - (q * np.log(q / p)).sum()) > 1e-3
