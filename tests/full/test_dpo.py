"""Lesson 11: truths about DPO on language models whose completions can be listed, and every claim and number of the text."""

import copy
import dataclasses
import importlib.util
import itertools
import json
import math
import re
import tomllib
from pathlib import Path

import pytest
import torch

from full.given import film_words as world
from full.given.loop import Loop
from full.given.settings import DPOConfig
from full.given.text import Pairs
from solutions.full import dpo, dpo_bug
from solutions.toy import preferences
from toy.given.enumerable import EnumerableLM

LESSON = Path(__file__).resolve().parents[2] / "lessons" / "11-dpo"
TEXT = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").split())
EXACT = 1e-12  # float64 sums of at most a few hundred terms of size 1 to 10


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
    return load("lesson_11_figures", LESSON / "figures.py")


@pytest.fixture(scope="module")
def film(figures):
    return figures.Film()


def small_gpt2(vocabulary, seed, length=16):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=vocabulary, n_positions=length, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6.0)
    return model


def all_completions(lm, prompt):
    """Every completion of an enumerable model behind a prompt, as rows: (tokens, attention mask, prompt lengths)."""
    prompts = torch.tensor(prompt).expand(len(lm), -1)
    tokens = torch.cat([prompts, lm.sequences], dim=1)
    mask = torch.cat([torch.ones_like(prompts), lm.mask.long()], dim=1)
    return tokens, mask, torch.full((len(lm),), len(prompt))


# 11.1, 11.2


def test_probabilities_of_all_completions_sum_to_one_and_agree_with_the_ruler():
    model = small_gpt2(4, seed=1)
    lm = EnumerableLM(model, 4, 3, prompt=(2, 1), eos=0)
    tokens, mask, lengths = all_completions(lm, (2, 1))
    labels = dpo.completion_labels(tokens, mask, lengths)
    log_probs = dpo.sequence_log_probs(model(tokens).logits, labels)
    assert close(log_probs.exp().sum().item(), 1.0)
    assert close(log_probs.detach(), lm.log_probs().detach())
    without_end = labels.masked_fill(tokens == 0, dpo.IGNORED)  # the silent bug: END never scored
    wrong = dpo.sequence_log_probs(model(tokens).logits, without_end)
    assert wrong.exp().sum() > 1.5


def test_padding_prompt_and_batch_do_not_matter():
    model = small_gpt2(5, seed=2)
    row = torch.tensor([[3, 1, 4, 2, 0]])
    alone = Pairs(row.repeat(2, 1), torch.ones(2, 5, dtype=torch.long), torch.tensor([2, 2]))
    padded = Pairs(torch.tensor([[3, 1, 4, 2, 0, 1, 3], [3, 1, 1, 1, 1, 1, 0]]),
                   torch.tensor([[1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]]), torch.tensor([2, 1]))  # fmt: skip
    assert close(dpo.pair_log_probs(model, alone)[0].item(), dpo.pair_log_probs(model, padded)[0].item())


def test_average_is_the_sum_over_the_number_of_scored_tokens():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 6, 4, generator=generator, dtype=torch.float64)
    labels = torch.tensor([[-100, -100, 1, 2, 3, 0], [-100, 1, -100, -100, -100, -100], [2, -100, -100, -100, -100, -100]])
    summed, mean = dpo.sequence_log_probs(logits, labels), dpo.sequence_log_probs(logits, labels, average=True)
    assert close(summed, mean * torch.tensor([4, 1, 1]))
    assert summed[2] == 0  # the only label stands in the first column, which nothing predicts


def test_huge_logits_and_half_precision():
    logits = torch.tensor([[[900.0, -900.0], [0.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    value = dpo.sequence_log_probs(logits, torch.tensor([[-100, 1]]))
    value.sum().backward()
    assert value.item() == -1800 and torch.isfinite(logits.grad).all()
    half = torch.randint(-31, 32, (2, 30, 9), generator=torch.Generator().manual_seed(4)) / 8
    labels = torch.randint(0, 9, (2, 30), generator=torch.Generator().manual_seed(5))
    mine = dpo.sequence_log_probs(half.to(torch.bfloat16), labels)
    assert mine.dtype == torch.float32
    assert close(mine, dpo.sequence_log_probs(half.double(), labels), 1e-4)  # 29 terms of size 5, each rounded to 3e-7


# 11.3


def test_gradient_of_the_log_probabilities_is_the_ruler_s():
    model = small_gpt2(4, seed=6)
    lm = EnumerableLM(model, 4, 3, prompt=(2,), eos=0)
    tokens, mask, lengths = all_completions(lm, (2,))
    weights = torch.randn(len(lm), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    if len(lm) % 2:  # an even number of rows makes pairs
        tokens, mask, lengths, weights = tokens[:-1], mask[:-1], lengths[:-1], weights[:-1]
    mine = lm.gradient((weights * dpo.pair_log_probs(model, Pairs(tokens, mask, lengths))).sum())
    theirs = lm.gradient((weights * lm.log_probs()[: len(weights)]).sum())
    assert close(mine, theirs, 1e-10)  # weights six times the usual size: activations of size 100


def test_no_gradient_reaches_the_reference_and_stored_numbers_save_its_pass(film):
    pairs = world.pairs_of(film.lm, film.choices()[:8])
    reference = world.copy_of(film.reference)
    fixed = dpo.reference_log_probs(reference, pairs)
    assert not fixed.requires_grad
    stored = dataclasses.replace(pairs, ref_log_probs=fixed)
    assert torch.equal(dpo.reference_log_probs(None, stored), fixed)
    means = dpo.reference_log_probs(reference, pairs, average=True)
    assert close(dpo.reference_log_probs(None, stored, average=True), means)


def test_logits_are_kept_from_the_shortest_prompt_s_last_token_on(film):
    class Spy:
        def __call__(self, **arguments):
            self.asked = arguments
            return film.reference(**arguments)

    spy = Spy()
    tokens, mask = torch.tensor([[4, 3, 3, 1, 0, 0], [4, 3, 1, 1, 1, 0]]), torch.tensor([[1] * 5 + [0], [1] * 6])
    dpo.pair_log_probs(spy, Pairs(tokens, mask, torch.tensor([3, 2])))
    assert spy.asked["logits_to_keep"] == 4  # of five columns: nobody reads the logits at the last token


# 11.4, 11.5


def random_pairs(seed, count=7):
    generator = torch.Generator().manual_seed(seed)
    return [-10 * torch.rand(count, generator=generator, dtype=torch.float64) for _ in range(4)]


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_losses_are_lesson_5_s_with_lambda_in_its_unit(beta):
    four = random_pairs(8)
    assert close(dpo.dpo_loss(*four, beta), preferences.dpo_loss(*four, beta))
    assert close(dpo.dpo_loss(*four, beta, "ipo"), preferences.ipo_loss(*four, beta))
    assert close(dpo.dpo_loss(*four, beta, "dpop", 3.0), preferences.dpop_loss(*four, beta, lam=3.0 * beta))
    assert close(dpo.dpo_loss(*four, beta, "dpop", 0.0), dpo.dpo_loss(*four, beta))


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_at_the_reference_loss_slopes_and_accuracy_are_known(beta):
    chosen, rejected, *_ = random_pairs(9)
    leaves = chosen.clone().requires_grad_(True), rejected.clone().requires_grad_(True)
    loss = dpo.dpo_loss(*leaves, chosen, rejected, beta)
    loss.backward()
    assert close(loss.item(), math.log(2))
    slope = torch.full((7,), beta / 2 / 7, dtype=torch.float64)
    assert close(leaves[0].grad, -slope) and close(leaves[1].grad, slope)
    metrics = dpo.dpo_metrics(chosen, rejected, chosen, rejected, beta)
    assert metrics["accuracy"] == 0.5 and metrics["margin"] == 0 and metrics["chosen_reward"] == 0


def test_metrics_fit_together():
    chosen, rejected, ref_chosen, ref_rejected = random_pairs(10)
    metrics = dpo.dpo_metrics(chosen, rejected, ref_chosen, ref_rejected, 0.3)
    assert close(metrics["margin"], metrics["chosen_reward"] - metrics["rejected_reward"])
    assert close(metrics["chosen_log_prob"], metrics["chosen_reward"] / 0.3 + ref_chosen.mean())
    assert close(metrics["accuracy"], preferences.implicit_accuracy(chosen, rejected, ref_chosen, ref_rejected))
    swapped = dpo.dpo_metrics(rejected, chosen, ref_rejected, ref_chosen, 0.3)
    assert close(metrics["accuracy"] + swapped["accuracy"], 1.0)


# 11.6, 11.7


def test_training_leaves_dropout_off_and_starts_at_log_2(film):
    pairs = world.pairs_of(film.lm, film.choices()[:8])
    policy, reference = world.copy_of(film.reference).train(), copy.deepcopy(film.reference).train()
    loop = Loop(policy, [pairs] * 2, torch.optim.SGD(policy.parameters(), lr=1e-3), DPOConfig(), reference=reference)
    dpo.train(loop, DPOConfig())
    assert close(loop.rows[0]["loss"], math.log(2)) and loop.rows[0]["accuracy"] == 0.5
    assert loop.rows[1]["loss"] < loop.rows[0]["loss"]
    assert set(loop.rows[0]) >= {"loss", "margin", "accuracy", "chosen_log_prob", "rejected_log_prob"}
    assert all(parameter.grad is None for parameter in reference.parameters())


@pytest.mark.slow
def test_on_a_gpt2_of_four_tokens_training_reaches_the_optimum():
    """All 64 completions of three tokens, odds of 3 to 1, in a data set of exactly the expected choices: TV to pi* below 0.02."""
    reference = small_gpt2(4, seed=11).requires_grad_(False)
    lm, beta = EnumerableLM(reference, 4, 3, prompt=(0,)), 0.5
    reward = math.log(3) * lm.rewards(lambda tokens: float(tokens.count(3) >= 2))
    good, others = (reward > 0).nonzero().flatten().tolist(), (reward == 0).nonzero().flatten().tolist()
    choices = []
    for turn, other in enumerate(others):
        for one in (good[turn % len(good)], good[(turn + 1) % len(good)]):
            choices += 3 * [(one, other)] + [(other, one)]
    places = torch.tensor(choices).T.flatten()
    tokens, mask, lengths = all_completions(lm, (0,))
    pairs = Pairs(tokens[places], mask[places], lengths[places])
    pairs = dataclasses.replace(pairs, ref_log_probs=dpo.reference_log_probs(reference, pairs))
    policy = copy.deepcopy(reference).requires_grad_(True)
    optimizer, updates = torch.optim.Adam(policy.parameters(), lr=0.03), 300

    def batches():
        for update in range(updates):
            optimizer.param_groups[0]["lr"] = 0.03 * (1 - update / updates)
            yield pairs

    mine, target = EnumerableLM(policy, 4, 3, prompt=(0,)), lm.optimum(reward, beta)
    assert mine.total_variation(target) > 0.1
    dpo.train(Loop(policy, batches(), optimizer, DPOConfig(beta=beta)), DPOConfig(beta=beta))
    assert mine.total_variation(target) < 0.02


def test_the_world_is_as_described(film):
    """All completions are linked by comparisons, and the data hold Bradley and Terry's proportions exactly."""
    choices = film.choices()
    counts = {}
    for pair in choices.tolist():
        counts[tuple(pair)] = counts.get(tuple(pair), 0) + 1
    odds = (film.reward[choices[:, 0]] - film.reward[choices[:, 1]]).exp()
    for (one, two), odd in zip(choices.tolist(), odds.tolist()):
        assert close(counts[one, two] / counts[two, one], odd)
    reached, waiting = {0}, [0]
    while waiting:
        here = waiting.pop()
        for one, two in choices.tolist():
            if here in (one, two) and not {one, two} <= reached:
                reached |= {one, two}
                waiting += [one, two]
    assert len(reached) == len(film.lm)
    decided = world.judged(film.lm, never_errs=True)
    assert (film.reward[decided[:, 0]] > film.reward[decided[:, 1]]).all()


# 11.8


def test_sweep_runs_every_beta_and_marks_what_is_dominated(film):
    def run(beta):
        return film.measured(film.lm.optimum(film.reward, beta))

    assert not any(row["dominated"] for row in dpo.sweep(run, [2.0, 0.25, 1.0]))  # the frontier dominates none of itself

    def worse_at_one(beta):
        return {**run(beta), "reward": 0.0 if beta == 1.0 else run(beta)["reward"]}

    rows = dpo.sweep(worse_at_one, [2.0, 0.25, 1.0])
    assert [row["dominated"] for row in rows] == [False, False, True] and [row["beta"] for row in rows] == [2.0, 0.25, 1.0]


def test_nothing_has_more_reward_than_the_frontier_at_its_kl(film, figures):
    found = figures.stored()
    points = [found["dpo"][str(beta)][-1] for beta in figures.BETAS] + [found["bug"]["planted"]["curve"][-1]]
    for reward, kl in itertools.chain(((p["reward"], p["kl"]) for p in points), ((r, k) for k, r in found["reinforce"][1::10])):
        best = figures.frontier(film, kl)
        if best < math.log(3) * 0.99:
            assert reward <= best + 1e-6  # the stored figures have seven digits


# 11.9


def test_the_closed_form_for_means_is_a_distribution_and_the_optimum_of_the_mean_loss(film, figures):
    ends = figures.mean_optimum(film, 1.25)
    assert close(ends.exp().sum().item(), 1.0, 1e-9)
    choices = film.choices()

    def loss(log_probs):
        four = [(values / film.lengths)[choices[:, side]] for values in (log_probs, film.log_ref) for side in (0, 1)]
        return dpo.dpo_loss(*four, 1.25).item()

    assert close(loss(ends), figures.judge_entropy(), 1e-9)
    assert loss(film.lm.optimum(film.reward, 1.25)) > figures.judge_entropy() + 1e-4


def test_a_judge_who_errs_leaves_his_entropy_at_every_beta(film, figures):
    choices = film.choices()
    for beta in figures.BETAS:
        target = film.lm.optimum(film.reward, beta)
        four = [values[choices[:, side]] for values in (target, film.log_ref) for side in (0, 1)]
        assert close(dpo.dpo_loss(*four, beta).item(), figures.judge_entropy())
        assert dpo.dpo_metrics(*four, beta)["accuracy"] == 0.75


# what is refused

TOKENS = torch.tensor([[1, 2, 3], [3, 2, 1]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])
LOGITS = torch.zeros(2, 3, 4)
FOUR = random_pairs(12, 2)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: dpo.completion_labels(TOKENS, MASK[:, :2], torch.tensor([1, 1])), r"attention_mask: expected shape \(2, 3\)"),
        (lambda: dpo.completion_labels(TOKENS, MASK.flip(1), torch.tensor([1, 1])), r"attention_mask: .* \[0, 1, 1\] in row 1"),
        (lambda: dpo.completion_labels(TOKENS, MASK, torch.tensor([1])), r"prompt_lengths: expected shape \(2,\), one num"),
        (lambda: dpo.completion_labels(TOKENS, MASK, torch.tensor([1, 3])), "prompt_lengths: expected 0 to 2, .* received 3"),
        (lambda: dpo.sequence_log_probs(LOGITS[0], TOKENS), "logits: expected shape"),
        (lambda: dpo.sequence_log_probs(LOGITS, TOKENS[:, :2]), r"labels: expected shape \(2, 3\), received shape \(2, 2\)"),
        (lambda: dpo.sequence_log_probs(LOGITS, TOKENS + 1), "labels: expected -100 or a token from 0 to 3, received 4"),
        (lambda: dpo.dpo_loss(*FOUR[:3], FOUR[3][:1], 0.1), r"ref_rejected: expected shape \(2,\), received shape \(1,\)"),
        (lambda: dpo.dpo_loss(*(x[:0] for x in FOUR), 0.1), "chosen: expected shape .* at least one pair"),
        (lambda: dpo.dpo_loss(*FOUR, 0.0), "beta: expected a positive number, received 0.0"),
        (lambda: dpo.dpo_loss(*FOUR, 0.1, "hinge"), "loss: expected dpo or dpop or ipo, received 'hinge'"),
        (lambda: dpo.dpo_loss(*FOUR, 0.1, "dpop", -1.0), "dpop_lambda: expected a number that is not negative"),
        (lambda: dpo.dpo_metrics(*FOUR[:3], FOUR[3].unsqueeze(1), 0.1), "ref_rejected"),
        (lambda: dpo.sweep(dict, []), "betas: expected at least one number, all positive, received none"),
        (lambda: dpo.sweep(dict, [0.1, -1.0]), "betas: .* received -1.0"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# the silent bug


def test_the_planted_error_is_one_line_and_the_mended_file_scores_what_the_lesson_scores(film, figures):
    choices = film.choices()[:40]
    answers = dpo_bug.answers_of(film.lm, choices)
    rows = [chosen for chosen, _ in answers] + [rejected for _, rejected in answers]
    tokens, mask = dpo_bug.rows_of(world.PROMPT, rows)
    expected = dpo.pair_log_probs(film.reference, world.pairs_of(film.lm, choices))
    assert close(dpo_bug.answer_log_probs(film.reference, tokens, mask, 1), expected)
    wrong = figures.planted().answer_log_probs(film.reference, tokens, mask, 1)
    ended = (mask.sum(dim=1) <= world.LENGTH) | (tokens[:, -1] == world.END)
    assert torch.equal(~torch.isclose(wrong, expected), ended)  # exactly the texts that end are off
    files = (LESSON.parents[1] / folder / "dpo_bug.py" for folder in ("full", "solutions/full"))
    planted, right = ([line for line in path.read_text(encoding="utf-8").splitlines()] for path in files)
    (line,) = (line for line in planted if line not in right and "world" not in line)
    assert "tokens != END" in line and f"    # {line.strip()}" in right


@pytest.mark.slow
def test_the_silent_bug_s_runs_are_as_stored(film, figures):
    found = figures.stored()["bug"]
    for name, module in (("planted", figures.planted()), ("mended", dpo_bug)):
        again, kept = figures.bug_run(module, film, updates=150)["curve"][-1], found[name]["curve"][-1]
        assert all(abs(again[key] - kept[key]) < 5e-3 for key in ("loss", "liked", "kl", "length", "ends", "tv"))


@pytest.mark.slow
def test_a_stored_run_comes_out_again(film, figures):
    """Rounding differs from machine to machine and grows over 200 steps of Adam, so the third digit is what is held."""
    pair = torch.tensor([[film.place(tokens) for tokens in figures.NARROW]])
    last = film.run(pair, DPOConfig(beta=0.1), updates=200, rate=0.005)[-1]
    kept = figures.stored()["narrow"]["dpo"][-1]
    assert all(abs(last[key] - kept[key]) < 5e-3 * (1 + abs(kept[key])) for key in ("loss", "margin", "kl", "chosen_log_prob"))


# the text


def missing(numbers):
    return {name: text for name, text in numbers.items() if " ".join(text.split()) not in TEXT}


def test_the_numbers_of_the_text(figures, film):
    assert not missing(figures.exact_numbers(film))
    assert not missing(figures.measured_numbers(film, figures.stored()))
    assert not missing(figures.review_numbers(json.loads(figures.REVIEWS.read_text(encoding="utf-8"))))


def test_what_the_text_says_without_numbers_holds(figures, film):
    found = figures.stored()
    mended, planted = (found["bug"][name]["curve"][-1] for name in ("mended", "planted"))
    best = film.measured(film.lm.optimum(film.reward, 0.5))
    assert planted["ends"] > best["ends"] + 0.1 and planted["length"] > best["length"] + 0.1  # ends too often, and too long
    assert abs(planted["loss"] - mended["loss"]) < 0.002
    narrow = found["narrow"]
    for name in ("dpo", "ipo"):  # both answers fall
        first, last = narrow[name][0], narrow[name][-1]
        assert last["chosen_log_prob"] < first["chosen_log_prob"] and last["rejected_log_prob"] < first["rejected_log_prob"]
    assert narrow["dpop, 5"][-1]["mass"]["chosen"] > narrow["dpop, 5"][0]["mass"]["chosen"]
    for name in ("dpo", "dpo, 2", "dpop"):  # the anchor is off: KL and margins go on growing
        at = {point["update"]: point for point in found["never errs"][name]}
        assert at[100]["kl"] < at[300]["kl"] < at[600]["kl"] and at[100]["margin"] < at[300]["margin"] < at[600]["margin"]
    assert abs(found["never errs"]["ipo"][-1]["kl"] - found["never errs"]["ipo"][5]["kl"]) < 0.01
    margins = [found["dpo"][str(beta)][-1]["margin"] for beta in figures.BETAS]
    assert max(margins) - min(margins) < 0.002  # the same at every beta
    tokens = torch.tensor([[0, 1, 2, 3, 4, 4]])  # the row of section 11.1, END being token 4
    labels = dpo.completion_labels(tokens, torch.tensor([[1, 1, 1, 1, 1, 0]]), torch.tensor([2]))
    assert labels.tolist() == [[-100, -100, 2, 3, 4, -100]]


def test_equations_pictures_and_sections_the_code_speaks_of_exist():
    from autograder.course import load as load_course

    tags = re.findall(r"\\tag\{(11\.\d+)\}", TEXT)
    assert tags == [f"11.{n}" for n in range(1, len(tags) + 1)]
    source = Path(dpo.__file__).read_text(encoding="utf-8")
    cited = set(re.findall(r"11\.\d+", " ".join(re.findall(r"\(eq\. ([^)]*)\)", source))))
    assert cited and cited <= set(tags)
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT):
        assert (LESSON / picture).is_file()
    lessons = [lesson for lesson in load_course(LESSON).lessons if lesson.number == 11]
    assert len(lessons) == 2  # the lesson and its silent bug
    for lesson in lessons:
        assert all(exercise.section in lesson.sections and len(exercise.hints) == 3 for exercise in lesson.exercises)
    for section in re.findall(r"\(section (11\.\d+)\)", source):
        assert section in lessons[0].sections


def test_the_answers_to_the_questions_are_right():
    questions = {q["id"]: q for q in tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]}
    row = torch.tensor([[0, 1, 2, 3, 9, 9, 9]])
    labels = dpo.completion_labels(row, torch.tensor([[1, 1, 1, 1, 1, 0, 0]]), torch.tensor([2]))[0]
    scored = (labels != dpo.IGNORED).nonzero().flatten().tolist()
    assert scored == [2, 3, 4] and questions["labels-by-hand"]["answer"] == [2]
    logits = torch.zeros(1, 30, 3, requires_grad=True)
    first_only = torch.full((1, 30), dpo.IGNORED)
    first_only[0, 10] = 1
    dpo.sequence_log_probs(logits, first_only).sum().backward()
    assert logits.grad.abs().sum(dim=2)[0].nonzero().flatten().tolist() == [questions["which-logits"]["answer"]]
    four = random_pairs(13, 1)
    at_start = dpo.dpo_loss(four[0], four[1], four[0], four[1], 0.37).item()
    assert abs(at_start - questions["first-loss"]["answer"]) < questions["first-loss"]["tolerance"]
    leaf = four[0].clone().requires_grad_(True)
    dpo.dpo_loss(leaf, *four[1:], 0.7).backward()
    h = (four[0] - four[2] - four[1] + four[3]).item()
    assert close(eval(questions["slope-of-a-pair"]["answer"], {"exp": math.exp}, {"beta": 0.7, "h": h}), leaf.grad.item())
    four = random_pairs(14)
    same = preferences.dpop_loss(*four, 0.1, lam=questions["lambda-in-two-units"]["answer"])
    assert close(dpo.dpo_loss(*four, 0.1, "dpop", 50.0), same)
