"""Lesson 9: truths about REINFORCE on a model that can be listed, and every claim and number of the lesson's text."""

import copy
import importlib.util
import json
import math
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from full.given.loop import Loop
from full.given.rollout import rollout
from full.given.settings import ReinforceConfig
from full.given.text import Prompts, Rollout
from solutions.full import reinforce, reinforce_bug
from toy.given.enumerable import EnumerableLM

LESSON = Path(__file__).resolve().parents[2] / "lessons" / "09-reinforce"
TEXT = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").replace("\n> ", "\n").split())
EXACT = 1e-10  # float64 sums over at most some thousand sequences of a tiny model, forward and backward
VOCABULARY, LENGTH, EOS, PAD = 5, 3, 4, 3
PROMPT = (1, 2)


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def figures():
    return load("lesson_09_figures", LESSON / "figures.py")


@pytest.fixture(scope="module")
def exact(figures):
    return figures.Exact()


def language_model(seed=0, dropout=0.0, layers=1, std=0.5, vocabulary=VOCABULARY):
    from transformers.models.gpt2.modeling_gpt2 import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocabulary, n_positions=16, n_embd=8, n_layer=layers, n_head=2, resid_pdrop=dropout, embd_pdrop=dropout,
        attn_pdrop=dropout, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model, generator = GPT2LMHeadModel(config).double().eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std, generator=generator)
    return model


def listed(model, prompt=PROMPT):
    return EnumerableLM(model, VOCABULARY, LENGTH, prompt=prompt, eos=EOS)


def all_rows(ruler):
    """Every sequence behind its prompt, and the attention mask."""
    before = ruler.prompt.expand(len(ruler), -1)
    tokens = torch.cat([before, ruler.sequences], dim=1)
    return tokens, torch.cat([torch.ones_like(before), ruler.mask.long()], dim=1)


def rewards_of(ruler, seed=0):
    return torch.rand(len(ruler), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def flat_gradient(model, loss):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def close(mine, theirs, tolerance=EXACT):
    mine, theirs = (torch.as_tensor(x, dtype=torch.float64) for x in (mine, theirs))
    return torch.allclose(mine, theirs, rtol=0, atol=tolerance)


# log-probabilities and masks


def test_probabilities_of_all_completions_sum_to_one_only_when_aligned():
    ruler = listed(language_model())
    tokens, attention = all_rows(ruler)
    log_probs, _ = reinforce.compute_reinforce_loss(torch.ones(len(ruler)), tokens, ruler.model, len(PROMPT), attention)
    assert close(log_probs.sum(1).exp().sum(), 1.0)
    assert close(log_probs, ruler.token_log_probs())


def test_log_probs_are_exact_for_logits_of_any_size():
    logits = torch.tensor([[[0.0, 1e4, -1e4], [0.0, 0.0, 0.0]]], dtype=torch.float64)
    assert reinforce.token_log_probs(logits, torch.tensor([[0, 1]])).item() == 0.0
    assert reinforce.token_log_probs(logits, torch.tensor([[0, 2]])).item() == -2e4
    half = reinforce.token_log_probs(torch.zeros(1, 2, 50_000, dtype=torch.bfloat16), torch.tensor([[0, 1]]))
    assert half.dtype == torch.float32 and abs(half.item() + math.log(50_000)) < 1e-5  # float32


def test_mask_agrees_with_the_rollouts_own_unless_padding_was_drawn_at_the_end():
    model = language_model(std=0.3)
    prompts = Prompts(torch.tensor([PROMPT] * 200), torch.ones(200, 2, dtype=torch.long))
    written = rollout(model, prompts, 6, eos_token_id=EOS, pad_token_id=PAD, generator=torch.Generator().manual_seed(0))
    told = reinforce.completion_mask(written.tokens, 2, EOS, PAD)
    ended = (written.completion == EOS).any(1)
    drawn_at_the_end = ~ended & (written.completion[:, -1] == PAD)
    assert ended.any() and drawn_at_the_end.any()
    assert torch.equal(told[~drawn_at_the_end], written.mask[~drawn_at_the_end])


# the loss


def test_gradient_of_all_sequences_is_that_of_the_expected_reward():
    ruler = listed(language_model())
    tokens, attention = all_rows(ruler)
    reward = rewards_of(ruler)
    weighted = reward * ruler.probs().detach() * len(ruler)
    _, loss = reinforce.compute_reinforce_loss(weighted, tokens, ruler.model, len(PROMPT), attention)
    assert close(ruler.gradient(loss), -ruler.gradient(ruler.expected(reward)))
    _, shifted = reinforce.compute_reinforce_loss(
        (reward + 3) * ruler.probs().detach() * len(ruler), tokens, ruler.model, len(PROMPT), attention
    )
    assert close(ruler.gradient(shifted), ruler.gradient(loss), 1e-9)  # E[grad log pi] = 0


def test_a_step_down_the_loss_raises_the_expected_reward():
    model = language_model(seed=3)
    ruler = listed(model)
    tokens, attention = all_rows(ruler)
    reward = rewards_of(ruler)
    before = ruler.expected(reward).item()
    _, loss = reinforce.compute_reinforce_loss(reward * ruler.probs().detach() * len(ruler), tokens, model, 2, attention)
    torch.optim.SGD(model.parameters(), lr=1e-2).zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 1e-2 * parameter.grad
    assert ruler.expected(reward).item() > before


@pytest.mark.parametrize(("left", "right"), [(0, 0), (1, 0), (3, 2)])
def test_padding_on_either_side_changes_nothing(left, right):
    model = language_model(seed=1, layers=2)
    tokens, reward = torch.tensor([[1, 2, 0, 2, EOS], [2, 0, 1, 1, 0]]), torch.tensor([0.5, -1.0], dtype=torch.float64)
    log_probs, loss = reinforce.compute_reinforce_loss(reward, tokens, model, 2)
    padded = torch.nn.functional.pad(tokens, (left, right), value=PAD)
    attention = torch.nn.functional.pad(torch.ones_like(tokens), (left, right))
    more, same = reinforce.compute_reinforce_loss(reward, padded, model, 2 + left, attention)
    assert close(same.item(), loss.item()) and close(more[:, :3], log_probs) and not more[:, 3:].any()
    assert close(flat_gradient(model, same), flat_gradient(model, loss))


@pytest.mark.parametrize(("temperature", "top_k"), [(0.7, 0), (1.5, 0), (1.0, 2), (0.7, 3)])
def test_what_is_scored_is_what_the_engine_draws(temperature, top_k):
    """The log-probabilities of drawn tokens are finite, and the sum over all completions of their exponentials is 1."""
    model = language_model(seed=2)
    ruler = listed(model)
    tokens, attention = all_rows(ruler)
    log_probs, _ = reinforce.compute_reinforce_loss(torch.zeros(len(ruler)), tokens, model, 2, attention, temperature, top_k)
    assert close(log_probs.sum(1).exp().sum(), 1.0)
    prompts = Prompts(torch.tensor([PROMPT] * 300), torch.ones(300, 2, dtype=torch.long))
    drawn = dict(eos_token_id=EOS, pad_token_id=PAD, temperature=temperature, top_k=top_k)
    written = rollout(model, prompts, LENGTH, generator=torch.Generator().manual_seed(1), **drawn)
    scored, _ = reinforce.compute_reinforce_loss(
        torch.zeros(300), written.tokens, model, 2, written.attention_mask, temperature, top_k
    )
    assert scored.isfinite().all()


def test_neither_reward_nor_arguments_are_touched():
    model, tokens = language_model(), torch.tensor([[1, 2, 0, 2], [2, 0, 1, 1]])
    reward = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    before = tokens.clone()
    log_probs, loss = reinforce.compute_reinforce_loss(reward, tokens, model, 2)
    loss.backward()
    assert reward.grad is None and torch.equal(tokens, before) and log_probs.dtype == torch.float64


# baselines


def test_the_others_mean_is_unbiased_and_the_whole_mean_shrinks_by_a_known_factor():
    """Over all pairs of independent completions leave-one-out gives the exact gradient, the plain mean half of it."""
    ruler = listed(language_model())
    scores, p, reward = ruler.scores(), ruler.probs().detach(), rewards_of(ruler) + 5
    true = (p * reward) @ scores
    pairs = p.unsqueeze(1) * p
    advantages = reward.unsqueeze(1) - reward  # of the first of two, whose only fellow is the second
    both = pairs * advantages
    estimate = (both.sum(1) @ scores - both.sum(0) @ scores) / 2
    assert close(estimate, true, 1e-9)
    two = reinforce.rloo_advantages(reward[:2], 2)
    assert close(two, reward[:2] - reinforce.batch_baseline(reward[:2])) and close(two, 2 * (reward[:2] - reward[:2].mean()))


def test_advantages_ignore_a_constant_and_sum_to_zero_in_each_group():
    rewards = torch.randn(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for group in (2, 3, 12):
        advantages = reinforce.rloo_advantages(rewards, group)
        assert close(advantages.view(-1, group).sum(1), torch.zeros(12 // group))
        assert close(reinforce.rloo_advantages(rewards + 7, group), advantages)
    assert close(reinforce.rloo_advantages(rewards, 12), rewards - reinforce.batch_baseline(rewards))
    assert reinforce.batch_baseline(torch.tensor([4.0])).tolist() == [0.0]


# the policy


def test_the_policy_is_a_trainable_copy_that_never_moves_the_reference():
    reference = language_model(dropout=0.3).train().requires_grad_(False)
    kept = copy.deepcopy(reference.state_dict())
    policy, optimizer = reinforce.reset_model_optimizer(reference, 0.1)
    ruler = listed(reference)
    assert ruler.kl(listed(policy)).item() == 0
    policy(input_ids=torch.tensor([[1, 2]])).logits.sum().backward()
    optimizer.step()
    assert all(torch.equal(kept[name], value) for name, value in reference.state_dict().items())
    assert ruler.kl(listed(policy)).item() > 0 and reference.training and not policy.training
    assert policy.lm_head.weight is policy.transformer.wte.weight  # tied as in the reference


# training


def run(model, steps, baseline="batch", group_size=1, rows=32, rate=0.02, seed=0, loop=Loop, scores=None, **more):
    policy, optimizer = reinforce.reset_model_optimizer(model, rate)
    config = ReinforceConfig(baseline=baseline, group_size=group_size, new_tokens=LENGTH, **more)
    prompts = Prompts(torch.tensor([PROMPT] * (rows // group_size)), torch.ones(rows // group_size, 2, dtype=torch.long))
    scores = scores or (lambda written: ((written.completion == 0) & written.mask).double().sum(1) / LENGTH)
    made = loop(policy, [prompts] * steps, optimizer, config, scores=scores, eos_token_id=EOS, pad_token_id=PAD,
                generator=torch.Generator().manual_seed(seed))  # fmt: skip
    reinforce.train(made, config)
    return policy, made


@pytest.mark.parametrize(("baseline", "group_size"), [("none", 1), ("batch", 1), ("rloo", 4)])
def test_training_reaches_the_optimum_on_a_model_that_can_be_listed(baseline, group_size):
    """The best completion is three times token 0; its probability after training is exact, by listing."""
    model = language_model(std=0.2)
    policy, loop = run(model, 80, baseline, group_size)
    ruler = listed(policy)
    best = ruler.probs()[ruler.index(torch.tensor([[0, 0, 0]]))].item()
    assert listed(model).probs()[0] < 0.05 < 0.98 < best  # the total variation to the optimum is 1 - best
    assert loop.rows[-1]["reward"] > 0.95 and loop.rows[-1]["completion_length"] > 2.9


def test_training_is_repeatable_and_logs_what_it_measured():
    (one, first), (two, second) = (run(language_model(), 3, seed=5) for _ in range(2))
    assert first.rows == second.rows and all(map(torch.equal, one.parameters(), two.parameters()))
    assert set(first.rows[0]) == {"step", "reward", "loss", "entropy", "completion_length", "eos_rate"}
    entropy = listed(language_model()).entropy().item() / first.rows[0]["completion_length"]
    assert abs(first.rows[0]["entropy"] - entropy) < 0.5  # of 32 completions: a wide bound, the exact replay is the check's


def test_dropout_is_off_where_tokens_are_scored():
    """With plain gradient descent from one rollout, a policy with dropout ends where one without does."""
    ends = []
    for dropout in (0.0, 0.5):
        model = language_model(dropout=dropout).train()
        config = ReinforceConfig(new_tokens=LENGTH)
        prompts = Prompts(torch.tensor([PROMPT] * 8), torch.ones(8, 2, dtype=torch.long))
        optimizer, generator = torch.optim.SGD(model.parameters(), lr=0.1), torch.Generator().manual_seed(0)
        loop = Loop(model, [prompts], optimizer, config, scores=lambda written: written.mask.double().sum(1),
                    eos_token_id=EOS, pad_token_id=PAD, generator=generator)  # fmt: skip
        reinforce.train(loop, config)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert close(*ends)


class Half(Loop):
    """One of two processes: its own half of the rows, the other half's rewards beside them."""

    which = 0
    whole = torch.tensor([0.1, 0.9, 0.4, 0.2], dtype=torch.float64)

    def rollout(self, prompts):
        rows = torch.tensor([[1, 2, 0, 1, 2], [1, 2, 2, 0, 0], [1, 2, 1, 1, 0], [1, 2, 0, 0, 2]])
        mine = rows if self.which is None else rows.view(2, 2, 5)[self.which]
        return Rollout(mine, torch.ones_like(mine), 2)

    def reward(self, rollout):
        return self.whole if self.which is None else self.whole.view(2, 2)[self.which]

    def gather(self, values):
        return self.whole

    def own(self, values):
        return values if self.which is None else values.view(2, 2)[self.which]

    def update(self, loss):
        self.gradient = flat_gradient(self.policy, loss)


@pytest.mark.parametrize(("baseline", "group_size"), [("none", 1), ("batch", 1), ("rloo", 2)])
def test_two_processes_have_the_gradient_of_one(baseline, group_size):
    gradients = []
    for which in (None, 0, 1):
        _, loop = run(language_model(), 1, baseline, group_size, 4, loop=type("This", (Half,), {"which": which}))
        gradients.append(loop.gradient)
    assert close(gradients[0], (gradients[1] + gradients[2]) / 2)


@pytest.mark.slow
def test_threshold_of_the_learning_check_lies_far_below_right_runs():
    from autograder.checks.full.reinforce import Learns
    from autograder.grading.oracle import generator
    from autograder.probes.full import reinforce as probes
    from autograder.sandbox.child import as_torch

    check, ends = Learns(), []
    for seed in range(6):
        (case,) = check.cases(generator(check, seed))
        got = probes.trained_weights(reinforce, **as_torch(case))
        ends += [check.expected_reward(end.numpy(), case["target"]) for end in got["weights"]]
        assert max(check.expected_reward(start, case["target"]) for start in case["weights"]) < 0.5
    assert min(ends) > 0.98


# bad input



def loss_of(**spoilt):
    good = {"reward": torch.ones(2), "output_tokens": torch.tensor([[1, 2, 0], [2, 1, 1]]), "seed_token_length": 2}
    return reinforce.compute_reinforce_loss(**{"model": None, **good, **spoilt})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reinforce.token_log_probs(torch.zeros(2, 3, 4), torch.zeros(2, 2).long()), "logits: expected shape"),
        (lambda: reinforce.token_log_probs(torch.zeros(1, 2, 4), torch.tensor([[0, 4]])), "tokens: expected tokens from 0 to 3"),
        (lambda: reinforce.token_log_probs(torch.zeros(1, 1, 4), torch.tensor([[0]])), "tokens: .* length 2 or more"),
        (lambda: reinforce.completion_mask(torch.tensor([[0, 1]]), 2, 1, 0), "prompt_length: expected from 1 to 1 of 2"),
        (lambda: reinforce.completion_mask(torch.tensor([[0, 1]]), 1, 1, 1), "pad_token_id: expected another token"),
        (lambda: loss_of(reward=torch.ones(2, 1)), "reward: .* shape \\(2, 1\\)"),
        (lambda: loss_of(reward=torch.tensor([1.0, math.nan])), "received nan"),
        (lambda: loss_of(seed_token_length=3), "seed_token_length: .* received 3"),
        (lambda: loss_of(attention_mask=torch.tensor([[1, 0, 1], [1, 1, 1]])), "attention_mask: .* padded on the left"),
        (lambda: reinforce.batch_baseline(torch.ones(2, 2)), "rewards: expected shape"),
        (lambda: reinforce.rloo_advantages(torch.ones(6), 4), "group_size: expected a divisor of the 6 rows"),
        (lambda: reinforce.reset_model_optimizer(torch.nn.Linear(1, 1), 0.0), "learning_rate: expected a positive"),
        (lambda: ReinforceConfig(baseline="rloo"), "group_size: expected at least 2"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# the silent bug


def test_the_planted_error_is_one_line_and_the_mended_loss_is_that_of_the_lesson():
    from full import reinforce_bug as planted

    policy = reinforce_bug.new_policy(3)
    written = reinforce_bug.sampler(16, 2)(policy)
    rewards = reinforce_bug.score(written)
    advantages = rewards - reinforce.batch_baseline(rewards)
    _, loss = reinforce.compute_reinforce_loss(advantages, written.tokens, policy, 3, written.attention_mask)
    right = flat_gradient(policy, loss)
    assert close(flat_gradient(policy, reinforce_bug.phrase_loss(policy, written, rewards)), right)
    assert not close(flat_gradient(policy, planted.phrase_loss(policy, written, rewards)), right, 1e-3)
    files = (LESSON.parents[1] / folder / "reinforce_bug.py" for folder in ("full", "solutions/full"))
    wrong, right = (path.read_text(encoding="utf-8").splitlines() for path in files)
    (line,) = (line for line in wrong if line not in right)  # the mended file has it as a comment
    assert "chosen[:, :-1]" in line and f"    # {line.strip()}" in right


# the text


def missing(numbers):
    return {name: text for name, text in numbers.items() if " ".join(text.split()) not in TEXT}


def test_the_exact_numbers_of_the_text(figures, exact):
    assert not missing(figures.exact_numbers(exact))


def test_the_numbers_of_the_kept_runs_stand_in_the_text(figures):
    assert not missing(figures.run_numbers(json.loads((LESSON / "run.json").read_text(encoding="utf-8"))))


@pytest.mark.slow
def test_the_measured_numbers_of_the_text(figures):
    assert not missing(figures.measured_numbers(figures.measure()))


@pytest.mark.slow
def test_variance_of_leave_one_out_agrees_with_many_batches(figures, exact):
    """The formula of section 9.6 against 4,000 batches: the standard error of a variance from so many is about 5% here."""
    formula = figures.variances(exact)
    scores, generator = exact.scores, torch.Generator().manual_seed(0)
    true = (exact.probs * exact.reward) @ scores
    places = torch.multinomial(exact.probs, 4000 * 32, replacement=True, generator=generator).view(4000, 32)
    rewards = exact.reward[places]
    for name, group in (("others, 32", 32), ("others, groups of 4", 4)):
        advantages = reinforce.rloo_advantages(rewards.flatten(), group).view(4000, 32)
        weights = torch.zeros(4000, len(scores), dtype=torch.float64).scatter_add_(1, places, advantages / 32)
        spread = ((weights @ scores - true) ** 2).sum(1).mean() / (true @ true)
        assert abs(float(spread) / formula[name] - 1) < 0.15


def test_equations_pictures_and_sections_the_code_speaks_of_exist():
    from autograder.course import load

    tags = re.findall(r"\\tag\{(9\.\d+)\}", TEXT)
    assert tags == [f"9.{n}" for n in range(1, len(tags) + 1)]
    cited = set(re.findall(r"eq\. (9\.\d+)", Path(reinforce.__file__).read_text(encoding="utf-8")))
    assert cited and cited <= set(tags)
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT):
        assert (LESSON / picture).is_file()
    for lesson in load(LESSON).lessons:
        if lesson.number == 9:
            assert all(exercise.section in lesson.sections and len(exercise.hints) == 3 for exercise in lesson.exercises)


def test_the_answers_to_the_questions_are_right():
    questions = {q["id"]: q for q in tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]}
    logits = torch.zeros(2, 3, 2, dtype=torch.float64)
    for row, column, chance in ((0, 0, 0.5), (0, 1, 0.2), (1, 0, 0.1)):
        logits[row, column] = torch.tensor([chance, 1 - chance]).log()
    tokens, attention = torch.zeros(2, 3).long(), torch.tensor([[1, 1, 1], [1, 1, 0]])
    reward = torch.tensor([1.0, 0.5], dtype=torch.float64)
    log_probs, loss = reinforce.compute_reinforce_loss(reward, tokens, lambda **_: SimpleNamespace(logits=logits), 1, attention)
    assert abs(loss.item() - questions["loss-by-hand"]["answer"]) < questions["loss-by-hand"]["tolerance"]
    a, b, c = 0.3, -1.2, 4.0
    first = reinforce.rloo_advantages(torch.tensor([a, b, c], dtype=torch.float64), 3)[0].item()
    assert abs(eval(questions["rloo-formula"]["answer"], {}, {"a": a, "b": b, "c": c}) - first) < EXACT
    group = torch.tensor(np.arange(4.0))
    factor = (group - group.mean()) / reinforce.rloo_advantages(group, 4)
    assert close(factor, torch.full((4,), questions["own-sample-in-the-mean"]["answer"]))
    assert questions["first-completion-token"]["answer"] == 10 - 1
