"""Lesson 10: truths about the reference, and every claim and number of the lesson's text."""

import copy
import importlib.util
import math
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers.models.gpt2.modeling_gpt2 import GPT2Config, GPT2LMHeadModel

from autograder.checks import checks_in
from autograder.checks.full import kl_control as checks
from autograder.checks.full import kl_control_bug as bug_checks
from autograder.checks import small_gpt2
from autograder.checks.full import kl_control_replay as replay
from autograder.probes.full import kl_control as probes
from full.given.loop import Loop
from full.given.rollout import rollout
from full.given.scoring import completion_logits
from full.given.settings import KLConfig
from full.given.text import Prompts, Rollout
from solutions.full import kl_control, kl_control_bug
from toy.given.enumerable import EnumerableLM

ROOT = Path(__file__).resolve().parents[2]
LESSON = ROOT / "lessons" / "10-kl-control"
TEXT = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").split())
EXACT = 1e-10  # float64: sums of a few hundred terms of size 1 to 10, through one layer of GPT-2


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("lesson_10_figures", LESSON / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def world(figures):
    return figures.World()


@pytest.fixture(scope="module")
def moved(world):
    return world.moved()


def generator(seed):
    return torch.Generator().manual_seed(seed)


def close(a, b, tolerance=EXACT):
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    return torch.allclose(a, b, rtol=0, atol=tolerance)


def token_log_probs(seed, batch=3, time=4):
    log_probs, ref = -torch.rand(2, batch, time, generator=generator(seed), dtype=torch.float64) * 3
    lengths = torch.tensor([4, 2, 0])[:batch]
    return log_probs, ref, torch.arange(time) < lengths[:, None]


# 10.3, 10.4: the values


def test_full_divergence_is_the_librarys_and_the_rulers(world, moved):
    with torch.no_grad():
        rows = moved.next_token_log_probs(), world.reference.next_token_log_probs()
        full = kl_control.compute_kl_divergence(*rows, moved.mask)
        assert close(full, F.kl_div(rows[1], rows[0], log_target=True, reduction="none").sum(-1))
        assert close(moved.probs() @ full.sum(1), moved.kl(world.reference))  # eq. 10.3


def test_estimates_have_the_means_they_should(world, moved):
    with torch.no_grad():
        p, args = moved.probs(), (moved.token_log_probs(), world.reference.token_log_probs(), moved.mask)
        exact = moved.kl(world.reference)
        k1, k2, k3 = (p @ getattr(kl_control, name)(*args).sum(1) for name in ("k1", "k2", "k3"))
    assert close(k1, exact) and close(k3, exact) and abs(k2 - exact) > 1e-3
    values = kl_control.k3(*args)
    assert (values >= 0).all() and close(values - kl_control.k1(*args), torch.expm1(args[1] - args[0]))


def test_nothing_off_the_mask_counts_whatever_stands_there():
    log_probs, ref, mask = token_log_probs(0)
    for junk in (math.nan, math.inf, 7.0):
        spoilt = [torch.where(mask, x, junk).requires_grad_(True) for x in (log_probs, ref)]
        for name in ("k1", "k2", "k3"):
            value = getattr(kl_control, name)(*spoilt, mask)
            assert close(value, getattr(kl_control, name)(log_probs, ref, mask)) and (value[~mask] == 0).all()
            gradient = torch.autograd.grad(value.sum(), spoilt[0])[0]
            assert gradient.isfinite().all() and (gradient[~mask] == 0).all()
        shaped = kl_control.kl_shaped_reward(torch.ones(3, dtype=torch.float64), *spoilt, mask, 0.5)
        assert shaped.isfinite().all() and not shaped.requires_grad and shaped[2] == 1


def test_a_reference_gets_no_gradient():
    log_probs, ref, mask = (x if x.dtype == torch.bool else x.requires_grad_(True) for x in token_log_probs(1))
    for name in ("k1", "k2", "k3"):
        getattr(kl_control, name)(log_probs, ref, mask).sum().backward()
    rows, others = (torch.randn(2, 2, 5, generator=generator(i), dtype=torch.float64).requires_grad_(True) for i in (2, 3))
    full = kl_control.compute_kl_divergence(rows.log_softmax(-1), others.log_softmax(-1), torch.ones(2, 2, dtype=torch.bool))
    full.sum().backward()
    assert ref.grad is None and others.grad is None and log_probs.grad is not None and rows.grad is not None


def test_ruled_out_tokens():
    never = torch.tensor([[[1.0, -math.inf, 0.5]]], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([[[0.2, 0.1, 0.0]]], dtype=torch.float64)
    mask = torch.ones(1, 1, dtype=torch.bool)
    value = kl_control.compute_kl_divergence(never.log_softmax(-1), other.log_softmax(-1), mask)
    value.sum().backward()
    assert value.isfinite().all() and never.grad.isfinite().all() and never.grad[0, 0, 1] == 0
    both = never.detach().log_softmax(-1)
    assert kl_control.compute_kl_divergence(other.log_softmax(-1), both, mask) == math.inf


def test_a_longer_prompt_or_more_padding_changes_nothing(world):
    """The same three tokens behind a prompt of one token, and behind the same prompt padded on the left."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=5, n_positions=12, n_embd=8, n_layer=1, n_head=2)).double().eval()
    reference = GPT2LMHeadModel(GPT2Config(vocab_size=5, n_positions=12, n_embd=8, n_layer=1, n_head=2)).double().eval()
    found = []
    for pad, behind in ((0, 0), (3, 2)):
        tokens = torch.tensor([[0] * pad + [2, 1, 3, 2] + [0] * behind])
        attention = torch.tensor([[0] * pad + [1] * 4 + [0] * behind])
        here = Rollout(tokens, attention, pad + 1)
        with torch.no_grad():
            logits = [completion_logits(m, here).log_softmax(-1) for m in (model, reference)]
        found.append(kl_control.compute_kl_divergence(*logits, here.mask).sum(1))
    assert close(*found)


# 10.5: which place has which gradient


def test_k1_in_the_reward_has_the_gradient_of_the_objective(world, moved):
    args = (moved.token_log_probs(), world.reference.token_log_probs(), moved.mask)
    shaped = kl_control.kl_shaped_reward(world.rewards, *args, alpha=0.4)
    estimated = moved.gradient((moved.probs().detach() * shaped * moved.log_probs()).sum())
    assert close(estimated, moved.gradient(moved.expected(world.rewards) - 0.4 * moved.kl(world.reference)))


def test_places(figures, world, moved):
    found = figures.places(world, moved)
    exact = moved.gradient(moved.kl(world.reference))
    for place in ("k1 in the reward", "k2 of the completion, in the loss"):
        assert close(figures.expected_gradient(moved, figures.losses_of(world, moved, place)), exact)
    assert found["k1 in the loss"][1] < 1e-12
    full, tokens = (found[name] for name in ("full vocabulary on sampled prefixes, in the loss", "k2 of each token, in the loss"))
    assert close(full, tokens) and full[0] < 0.98 and full[1] > 1.1  # the score-function term is missing
    ratio = moved.log_probs() - world.reference.log_probs().detach()
    whole = figures.expected_gradient(moved, torch.expm1(-ratio) + ratio)
    assert close(whole, moved.gradient(moved.reverse_kl(world.reference)))  # eq. 10.13


# 10.6


def test_controller_by_hand_and_its_limits():
    controller = kl_control.AdaptiveKLController(0.1, 6.0, 1000.0)
    assert [round(controller.update(kl, 100), 5) for kl in (6.6, 12.0, 3.0)] == [0.101, 0.10302, 0.10096]
    controller = kl_control.AdaptiveKLController(1.0, 2.0, 50_000.0)
    for _ in range(500):
        controller.update(1e9, 100)
    assert abs(math.log(controller.alpha) - 0.2) < 1e-3  # e^0.2 in `horizon` completions, up to the steps' size
    before = controller.alpha
    assert controller.update(2.0, 100) == before  # on target nothing changes


# 10.7


def run_of(model, reference, config, steps, batch, scores, seed=0, learning_rate=5e-3):
    """`train` from samples with a learning rate that falls to 0."""
    prompts = Prompts(torch.zeros(batch, 1, dtype=torch.long), torch.ones(batch, 1, dtype=torch.long))
    loop = probes.FallingRate(
        model, [prompts] * steps, torch.optim.Adam(model.parameters(), lr=learning_rate), config, scores=scores,
        reference=reference, generator=generator(seed),
    )  # fmt: skip
    loop.steps = steps
    kl_control.train(loop, config)
    return loop


@pytest.mark.slow
@pytest.mark.parametrize("baseline, group", [("batch", 1), ("rloo", 4)])
def test_train_reaches_the_optimum_on_a_gpt2(world, figures, baseline, group):
    model = gradients(world.model)
    config = KLConfig(alpha=figures.ALPHA, new_tokens=figures.LENGTH, baseline=baseline, group_size=group)
    run_of(model, world.model, config, 150, 256 // group, lambda written: figures.RARE[written.completion].sum(1))
    measured = world.measure(world.listed(model))
    assert measured["tv"] < 0.02 and abs(measured["kl"] - figures.optimum(world, figures.ALPHA)[1]) < 0.05


@pytest.mark.slow
def test_right_runs_of_the_check_stay_below_its_threshold():
    for seed in range(4):
        (case,) = checks.ReachesTheOptimum().cases(np.random.default_rng(seed))
        given = {k: torch.tensor(v) for k, v in case["weights"].items()}
        told = {**case, "weights": given, "rewards": torch.tensor(case["rewards"])}
        weights = {name: value.numpy() for name, value in probes.trained(kl_control, **told)["weights"].items()}
        found = small_gpt2.distance_from_the_optimum(weights, case["weights"], case["rewards"], 4, 3, case["settings"]["alpha"])
        assert found < 0.05 < checks.ReachesTheOptimum.most


def test_numpys_gpt2_is_the_librarys():
    matrices = small_gpt2.gpt2_matrices(np.random.default_rng(0), 4, 3)
    model = probes.small_gpt2({name: torch.tensor(matrix) for name, matrix in matrices.items()}, 4, 3).eval()
    listed = EnumerableLM(model, 4, 3).log_probs().detach()
    assert close(listed, small_gpt2.sentence_log_probs(matrices, 4, 3))


def test_a_policy_that_is_the_reference_has_no_kl_at_any_temperature(world):
    config = KLConfig(alpha=1.0, new_tokens=3, temperature=0.6)
    loop = run_of(gradients(world.model), world.model, config, 1, 64, lambda r: torch.ones(64).double())
    assert abs(loop.rows[0]["kl"]) < EXACT and abs(loop.rows[0]["loss"]) < EXACT  # equal rewards, nothing to learn


def test_with_top_k_the_kl_starts_at_what_was_cut_off(world):
    """And is never infinite, though the policy moves to where the reference's own top-k ends."""
    config = KLConfig(alpha=0.1, new_tokens=3, top_k=2)
    loop = run_of(gradients(world.model), world.model, config, 3, 256, lambda r: (r.completion == 0).double().sum(1))
    assert all(math.isfinite(value) for line in loop.rows for value in line.values())
    log_p = world.reference.next_token_log_probs()[0, 0]
    first = -float(log_p.topk(2).values.logsumexp(0))  # of the first token, every policy's prefix being empty
    assert first > 0 and loop.rows[0]["kl"] > first


def gradients(model):
    return copy.deepcopy(model).requires_grad_(True)


def test_alpha_goes_on_where_a_run_stopped(world):
    def learn(model, steps, kept, optimizer=None):
        prompts = [Prompts(torch.zeros(8, 1, dtype=torch.long), torch.ones(8, 1, dtype=torch.long))] * steps
        config = KLConfig(alpha=0.3, target_kl=0.4, horizon=50.0, new_tokens=3)
        optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.05)
        loop = Loop(model, prompts, optimizer, config, scores=lambda r: (r.completion == 0).double().sum(1),
                    reference=world.model, generator=draws)  # fmt: skip
        loop.kept.update(kept)
        kl_control.train(loop, config)
        return loop

    draws, whole = generator(4), gradients(world.model)
    at_once = learn(whole, 6, {})
    draws, parts = generator(4), gradients(world.model)
    first = learn(parts, 2, {})
    second = learn(parts, 4, first.kept)
    assert [line["alpha"] for line in first.rows + second.rows] == [line["alpha"] for line in at_once.rows]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters()))
    assert len({line["alpha"] for line in at_once.rows}) == 6


def test_mean_kl_of_rollouts_is_the_exact_one(world, moved):
    prompts = Prompts(torch.zeros(4000, 1, dtype=torch.long), torch.ones(4000, 1, dtype=torch.long))
    written = rollout(moved.model, prompts, 3, eos_token_id=None, pad_token_id=0, generator=generator(0))
    with torch.no_grad():
        rows = [completion_logits(m, written).log_softmax(-1) for m in (moved.model, world.model)]
        chosen = [r.gather(-1, written.completion.unsqueeze(-1)).squeeze(-1) for r in rows]
        values = kl_control.k1(*chosen, written.mask).sum(1)
        exact = float(moved.kl(world.reference))
    assert abs(values.mean() - exact) < 4 * values.std() / math.sqrt(4000)  # 4 sigma


# 10.8


def test_regimes():
    assert kl_control.regime(0.6, -2.0, -2.0) == "weak" and kl_control.regime(0.95, -2.31, -2.0) == "collapsed"
    assert kl_control.regime(0.8, -2.29, -2.0) == "good" and kl_control.regime(0.79, -1.0, -2.0) == "between"
    assert kl_control.regime(0.9, None, None) == "unread"
    same = {"kl": 1.0, "naturalness": -2.0, "reference_naturalness": -2.0}
    found = kl_control.sweep(lambda alpha: {"reward": 1 - alpha, **same}, [0.5, 0])
    assert [(line["alpha"], line["regime"]) for line in found] == [(0.5, "weak"), (0, "good")]


def test_the_reward_of_the_best_policy_rises_with_its_kl_and_ever_more_slowly(figures, world):
    grid = [figures.optimum(world, alpha) for alpha in np.geomspace(10, 0.02, 60)]
    rewards, kls = (np.array(column) for column in list(zip(*grid))[:2])
    slopes = np.diff(rewards) / np.diff(kls)
    assert (np.diff(rewards) > 0).all() and (np.diff(kls) > 0).all() and (np.diff(slopes) < 0).all()
    for worth in (figures.RARE, figures.COMMON):  # "the first tenth of a nat buys more reward than the last whole one"
        grid = np.array([figures.optimum(world, alpha, worth)[:2] for alpha in np.geomspace(100, 0.02, 400)])
        at = np.interp([0.1, grid[-1, 1] - 1], grid[:, 1], grid[:, 0])
        assert at[0] - grid[0, 0] > grid[-1, 0] - at[1]


# 10.9


def test_the_planted_program_measures_the_other_divergence(figures):
    planted = figures.planted()
    table, reference = torch.randn(2, 4, 4, generator=generator(5), dtype=torch.float64)
    sentences = torch.tensor([[0], [1], [2], [3]])
    rows = planted.next_token_log_probs(table, sentences), planted.next_token_log_probs(reference, sentences)
    p, q = (r[0, 0].exp() for r in rows)
    assert close(planted.sentence_kl(*rows), (q * (q / p).log()).sum().expand(4))
    assert close(kl_control_bug.sentence_kl(*rows), (p * (p / q).log()).sum().expand(4))


def test_the_mended_program_stops_at_its_limit(figures):
    history, exact = figures.bug_runs(kl_control_bug)
    assert abs(history["kl"][-1] - exact[-1]) < 0.2 and exact[-1] < 2.5  # one step of learning beyond 2, and the batch's noise
    history, exact = figures.bug_runs(figures.planted())
    assert exact[-1] > 1.5 * history["kl"][-1]


# what is refused

FULL = torch.ones(1, 2, dtype=torch.bool)
HALVES = torch.full((1, 2), math.log(0.5), dtype=torch.float64)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: kl_control.k1(HALVES.exp(), HALVES, FULL), "log_probs: expected log-probabilities, at most 0, received 0.5"),
        (lambda: kl_control.k3(HALVES, HALVES * math.nan, FULL), "ref_log_probs: .* received nan"),
        (lambda: kl_control.k2(HALVES, HALVES, ~FULL), "mask: expected at least one real token"),
        (lambda: kl_control.k1(HALVES, HALVES, FULL.long()), "mask: expected shape .* and booleans, received .*int64"),
        (lambda: kl_control.kl_shaped_reward(HALVES, HALVES, HALVES, FULL, 0.1), r"rewards: expected shape \(1,\)"),
        (lambda: kl_control.kl_shaped_reward(HALVES[0, :1], HALVES, HALVES, FULL, -0.1), "alpha: expected a number"),
        (lambda: kl_control.compute_kl_divergence(HALVES[..., None], HALVES[..., None], FULL), "log_probs: .* raw logits"),
        (lambda: kl_control.compute_kl_divergence(HALVES[None], HALVES[None, :, :1], FULL), "ref_log_probs: .* differ"),
        (lambda: kl_control.AdaptiveKLController(0.0, 1.0, 10.0), "alpha: expected a positive number, received 0.0"),
        (lambda: kl_control.AdaptiveKLController(0.1, 1.0, 10.0).update(1.0, 50), "samples: .* fewer than 50, received 50"),
        (lambda: kl_control.AdaptiveKLController(0.1, 1.0, 10.0).update(math.nan, 5), "kl: expected a finite number"),
        (lambda: kl_control.regime(math.nan, -1.0, -1.0), "reward: expected a number, received nan"),
        (lambda: kl_control.sweep(print, [0.1, -1.0]), "alphas: expected a number that is not negative, received -1.0"),
        (lambda: kl_control.sweep(print, []), "alphas: expected at least one"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# the text


def spoken(text):
    return re.sub(r"\s*\|\s*", " | ", text)


def test_the_exact_numbers_of_the_text(figures, world):
    said, numbers = spoken(TEXT), figures.exact_numbers(world) | figures.bug_numbers(figures.planted())
    assert not {name: text for name, text in numbers.items() if spoken(text) not in said}
    assert f"{math.log(64):.3f}" == "4.159" and "4.159 for all 64" in TEXT
    assert f"{32 * 20 * 50257 * 4 / 1e6:.0f} MB" == "129 MB" and "129 MB in float32" in TEXT
    noise = figures.estimates(world, world.moved())
    assert 0.2 < noise["full vocabulary"][1] / noise["k1"][1] < 0.3  # "a quarter of the noise"
    said_least = (world.reference.probs()[:, None] * F.one_hot(world.reference.sequences, 4).sum(1)).sum(0)
    assert said_least.argmin() == figures.RARE.argmax()  # "the token that adds most is the one that ... hardly ever says"


@pytest.mark.slow
def test_where_each_place_leads_as_the_text_says(figures, world):
    said, numbers = spoken(TEXT), figures.trained_numbers(figures.where_places_lead(world))
    assert len(numbers) == len(figures.PLACES) and not {name: text for name, text in numbers.items() if spoken(text) not in said}


@pytest.mark.slow
def test_the_runs_of_the_text(figures, world):
    found = figures.runs(world)
    said, numbers = spoken(TEXT), figures.run_numbers(found)
    assert not {name: text for name, text in numbers.items() if spoken(text) not in said}
    assert max(line["kl"] for line in found["steered from 0.02"].rows) > 7  # "overshoots to more than seven nats"
    assert all(line["kl_k3"] >= 0 for line in found["run"].rows)


def test_the_sweep_of_the_text_is_the_recorded_one(figures):
    kept, said = figures.recorded(), spoken(TEXT)
    assert not {name: text for name, text in figures.review_numbers(kept).items() if spoken(text) not in said}
    by_alpha = {line["alpha"]: line for line in kept["rows"]}
    for line in kept["rows"]:
        again = kl_control.regime(line["reward"], line["naturalness"], line["reference_naturalness"])
        assert line["regime"] == again and all(sample in TEXT for sample in shown(kept, f"{line['alpha']:g} after"))
    assert by_alpha[0]["regime"] == "collapsed" and by_alpha[0.03]["regime"] == "good" and by_alpha[1]["regime"] == "weak"
    assert by_alpha[0]["gold_reward"] < by_alpha[0.03]["gold_reward"]  # "the gold reward is lower than with a price"
    praise = "Every frame could hang in a gallery"
    assert all(praise in text for text in kept["samples"]["0.03 after"]["completions"])


def shown(kept, name):
    """The completion of each stage that the text shows: the third prompt's."""
    assert kept["samples"][name]["prompts"][2] in TEXT
    return kept["samples"][name]["completions"][2:3]


def test_equations_and_pictures_the_text_speaks_of_exist():
    tags = re.findall(r"\\tag\{(10\.\d+)\}", TEXT)
    assert tags == [f"10.{n}" for n in range(1, len(tags) + 1)]
    files = [Path(kl_control.__file__), Path(checks.__file__), LESSON / "hints.toml", LESSON / "questions.toml"]
    cited = {eq for file in files for eq in re.findall(r"eqs?\. (10\.\d+)", file.read_text(encoding="utf-8"))}
    assert cited and cited <= set(tags)
    assert set(re.findall(r"\((10\.\d+)\)", TEXT)) <= set(tags)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT)
    assert sorted(pictures) == sorted(path.name for path in LESSON.glob("*.png"))


def test_sections_hints_and_questions_fit_the_checks():
    sections = set(re.findall(r"^## (\d+\.\d+) ", (LESSON / "lesson.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    asked = [*checks_in(checks), *checks_in(bug_checks)]
    assert {check.section for check in asked} <= sections
    hints = tomllib.loads((LESSON / "hints.toml").read_text(encoding="utf-8"))
    assert set(hints) == {check.exercise for check in asked} and all(len(hint["levels"]) == 3 for hint in hints.values())
    assert {name for name in hints if f"`{name}`" not in TEXT} == set()
    questions = tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]
    assert {question["section"] for question in questions} <= sections


def test_the_answers_to_the_questions_are_right(figures, world, moved):
    questions = {q["id"]: q for q in tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]}
    assert abs(questions["limit-without-price"]["answer"] + 20 * math.log(0.05)) < 1e-6
    here, there = (torch.tensor([x], dtype=torch.float64) for x in ([-1.0, -0.5, -0.5], [-2.0, -0.25, -1.5]))
    rewards, mask = torch.tensor([0.8], dtype=torch.float64), torch.ones(1, 3, dtype=torch.bool)
    value = kl_control.kl_shaped_reward(rewards, here, there, mask, 0.2)
    assert close(value, questions["shaped-reward-number"]["answer"])
    controller = kl_control.AdaptiveKLController(0.05, 4.0, 2000.0)
    assert math.isclose(controller.update(10.0, 128), questions["controller-step"]["answer"], abs_tol=1e-12)
    target, log_ref = world.target, world.reference.log_probs()
    first, second = 5, 40
    names = {"p": math.exp(log_ref[first]), "q": math.exp(log_ref[second]), "r": float(world.rewards[first]),
             "s": float(world.rewards[second]), "a": figures.ALPHA, "exp": math.exp}  # fmt: skip
    factor = eval(questions["optimal-odds"]["answer"], names)
    assert math.isclose(factor, math.exp(target[first] - target[second]), rel_tol=1e-9)
    assert kl_control.regime(0.93, -3.1, -2.4) == questions["which-regime"]["choices"][questions["which-regime"]["answer"][0]]
