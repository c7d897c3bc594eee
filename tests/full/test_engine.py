"""The engine under the lessons: its fast ways give what the plain ways give."""

import functools
import importlib.util
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from full.given.rollout import drawn, rollout, warped
from full.given.scoring import chosen_log_probs, completion_log_probs, logits_where
from full.given.text import Pairs, Prompts, Rollout, position_ids

EOS, PAD, VOCABULARY = 1, 0, 7


def model(seed=0, dtype=torch.float64, vocabulary=VOCABULARY, layers=2):
    torch.manual_seed(seed)
    ids = {"eos_token_id": EOS, "bos_token_id": EOS, "pad_token_id": PAD}
    shape = {"n_positions": 32, "n_embd": 16, "n_layer": layers, "n_head": 2, "initializer_range": 0.4}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, **shape, **ids)).to(dtype).eval()


def ragged():
    """Three prompts of 2, 4 and 1 tokens, padded on the left."""
    rows = [[3, 4], [5, 2, 6, 3], [4]]
    ids, mask = torch.full((3, 4), PAD), torch.zeros(3, 4, dtype=torch.long)
    for row, prompt in enumerate(rows):
        ids[row, 4 - len(prompt) :], mask[row, 4 - len(prompt) :] = torch.tensor(prompt), 1
    return rows, Prompts(ids, mask)


def plainly(policy, rows, uniforms, temperature, top_k):
    """The same completions token by token, each row alone: no cache, no padding, no batch."""
    written = []
    for row, prompt in enumerate(rows):
        tokens = list(prompt)
        for uniform in uniforms[:, row]:
            with torch.no_grad():
                logits = policy(input_ids=torch.tensor([tokens])).logits[0, -1]
            tokens.append(int(drawn(warped(logits, temperature, top_k).unsqueeze(0), uniform.unsqueeze(0))))
            if tokens[-1] == EOS:
                break
        written.append(tokens[len(prompt) :])
    return written


@pytest.mark.parametrize("temperature, top_k", [(1.0, 0), (0.7, 3), (1.5, 5)])
def test_the_rollout_with_a_cache_is_the_rollout_without(temperature, top_k):
    policy, (rows, prompts) = model(), ragged()
    generator = torch.Generator().manual_seed(3)
    how = {"temperature": temperature, "top_k": top_k, "generator": generator}
    found = rollout(policy, prompts, 12, eos_token_id=EOS, pad_token_id=PAD, **how)
    uniforms = torch.rand(12, 3, generator=torch.Generator().manual_seed(3))
    expected = plainly(policy, rows, uniforms, temperature, top_k)
    assert [row[mask].tolist() for row, mask in zip(found.completion, found.mask)] == expected
    assert any(EOS in row for row in expected) and found.tokens.shape == (3, 16)
    assert (found.completion[~found.mask] == PAD).all() and torch.equal(found.tokens[:, :4], prompts.input_ids)


def test_a_batch_divided_among_processes_writes_the_same():
    policy, (_, prompts) = model(), ragged()
    how = {"eos_token_id": EOS, "pad_token_id": PAD}
    whole = rollout(policy, prompts, 9, generator=torch.Generator().manual_seed(5), **how)
    for rows in (torch.tensor([0, 1]), torch.tensor([2])):
        part = Prompts(prompts.input_ids[rows], prompts.attention_mask[rows], rows, 3)
        generator = torch.Generator().manual_seed(5)
        found = rollout(policy, part, 9, generator=generator, **how)
        assert torch.equal(found.tokens, whole.tokens[rows]) and torch.equal(found.attention_mask, whole.attention_mask[rows])
        assert torch.equal(torch.rand(1, generator=generator), torch.rand(1, generator=after(5, 27)))  # and draws as much


def after(seed, numbers):
    generator = torch.Generator().manual_seed(seed)
    torch.rand(numbers, generator=generator)
    return generator


def test_a_rollout_leaves_the_mode_and_the_gradient_as_they_were():
    policy, (_, prompts) = model(), ragged()
    policy.train()
    found = rollout(policy, prompts, 4, eos_token_id=None, pad_token_id=PAD)
    assert policy.training and found.mask.all()
    completion_log_probs(policy, found).sum().backward()  # tokens of an inference rollout can be scored with a gradient
    assert policy.lm_head.weight.grad.abs().sum() > 0


def test_the_scores_are_those_of_each_row_alone_under_the_distribution_that_was_sampled():
    policy, (rows, prompts) = model(), ragged()
    for temperature, top_k in ((1.0, 0), (0.7, 3)):
        how = {"temperature": temperature, "top_k": top_k, "generator": after(1, 0)}
        found = rollout(policy, prompts, 8, eos_token_id=EOS, pad_token_id=PAD, **how)
        log_probs = completion_log_probs(policy, found, temperature, top_k)
        for row, prompt in enumerate(rows):
            completion = found.completion[row][found.mask[row]]
            tokens = torch.cat([torch.tensor(prompt), completion])
            logits = warped(policy(input_ids=tokens[None]).logits[0], temperature, top_k)
            expected = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, completion[:, None])[:, 0]
            # 1e-9: float64 through two layers
            assert torch.allclose(log_probs[row, : len(completion)], expected, atol=1e-9) and expected.isfinite().all()
        assert (log_probs[~found.mask] == 0).all()


def test_chosen_log_probs_are_those_of_the_log_softmax_with_their_gradient():
    logits = (torch.randn(3, 5, 11, dtype=torch.float64) * 30).requires_grad_(True)
    tokens = torch.randint(0, 11, (3, 5))
    weights = torch.randn(3, 5, dtype=torch.float64)
    plain = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    (expected,) = torch.autograd.grad((plain * weights).sum(), logits, retain_graph=True)
    fast = chosen_log_probs(logits, tokens)
    (found,) = torch.autograd.grad((fast * weights).sum(), logits)
    assert torch.allclose(fast, plain, atol=1e-12) and torch.allclose(found, expected, atol=1e-12)  # float64
    assert chosen_log_probs(logits.detach().bfloat16(), tokens).dtype == torch.float32
    some = torch.randint(0, 2, (3, 5)).bool()
    scored = chosen_log_probs(logits, tokens.where(some, -100))
    (found,) = torch.autograd.grad((scored * weights).sum(), logits)
    (expected,) = torch.autograd.grad((plain * some * weights).sum(), logits)
    assert torch.allclose(scored, plain * some, atol=1e-12) and torch.allclose(found, expected, atol=1e-12)  # -100 scores nothing


@pytest.mark.parametrize("wrapped", [False, True])
def test_logits_at_some_places_are_those_of_all_places_with_their_gradient(wrapped):
    policy = model()
    tokens = torch.randint(0, VOCABULARY, (3, 7))
    mask = (torch.arange(7) < torch.tensor([[7], [4], [5]])).long()
    wanted = mask.bool() & (torch.arange(7) >= torch.tensor([[3], [2], [2]]))
    weights = torch.randn(int(wanted.sum()), VOCABULARY, dtype=torch.float64)
    leaves = list(policy.parameters())
    plain = policy(input_ids=tokens, attention_mask=mask).logits[wanted]
    expected = torch.autograd.grad((plain * weights).sum(), leaves)
    if wrapped:  # as accelerate does for mixed precision: `forward` is another, and has to be called
        policy._original_forward, inner, calls = policy.forward, policy.forward, []
        policy.forward = lambda *arguments, **named: calls.append(named["logits_to_keep"]) or inner(*arguments, **named)
    found = logits_where(policy, tokens, mask, wanted)
    assert torch.allclose(found, plain, atol=1e-12)  # float64; the same sums in another order
    for mine, theirs in zip(torch.autograd.grad((found * weights).sum(), leaves), expected):
        assert torch.allclose(mine, theirs, atol=1e-12)
    assert not wrapped or calls == [5]  # columns 2 to 6


def test_a_uniform_number_gives_the_token_whose_share_holds_it():
    probabilities = torch.tensor([[0.25, 0.0, 0.5, 0.25]])
    cases = ((0.0, 0), (0.2499, 0), (0.25, 2), (0.7499, 2), (0.75, 3), (1 - 2**-24, 3))
    for uniform, token in cases:
        assert drawn(probabilities.log(), torch.tensor([uniform])).item() == token
    grid = (torch.arange(1000) + 0.5) / 1000
    counts = drawn(probabilities.log().expand(1000, 4), grid).bincount(minlength=4)
    assert counts.tolist() == [250, 0, 500, 250]


def test_top_k_keeps_each_rows_own():
    logits = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
    kept = warped(logits, 2.0, 2).isfinite()
    assert kept.tolist() == [[False, True, True], [True, True, False], [True, True, True]]  # ties stay
    assert torch.equal(warped(logits), logits) and torch.equal(warped(logits, 2.0), logits / 2)


def test_places_are_counted_from_the_first_real_token():
    assert position_ids(torch.tensor([[0, 0, 1, 1, 0], [1, 1, 1, 1, 1]])).tolist() == [[0, 0, 0, 1, 1], [0, 1, 2, 3, 4]]


@pytest.fixture(scope="module")
def bench():
    place = Path(__file__).resolve().parents[1] / "bench" / "bench_runs.py"
    spec = importlib.util.spec_from_file_location("bench_runs", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_losses_agree_with_the_plain_loops(bench):
    """In float32, as the bench runs them: 1e-5 of a loss of about 1, and of the gradient's length."""
    from solutions.full.dpo import dpo_loss, pair_log_probs
    from solutions.full.reinforce import batch_baseline, compute_reinforce_loss

    policy = model(dtype=torch.float32, vocabulary=97)
    ids = torch.randint(2, 97, (6, 10), generator=torch.Generator().manual_seed(0))
    found = rollout(policy, Prompts(ids, torch.ones_like(ids)), 8, eos_token_id=EOS, pad_token_id=PAD, generator=after(0, 0))
    rewards = bench.free_reward(found)
    plain = bench.plain_loss(policy, found)
    _, ours = compute_reinforce_loss(rewards - batch_baseline(rewards), found.tokens, policy, 10, found.attention_mask)
    assert ours.item() == pytest.approx(plain.item(), abs=1e-5 * max(1, abs(plain.item())))
    same_gradient(policy, plain, ours)
    length = 18
    tokens = torch.randint(2, 97, (8, length), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(length) < torch.tensor([18, 12, 15, 18, 11, 14, 18, 16]).unsqueeze(1)).long()
    pairs = Pairs(tokens, mask, torch.full((8,), 10))
    reference = model(seed=4, dtype=torch.float32, vocabulary=97)
    plain = bench.plain_dpo_loss(policy, reference, pairs)
    with torch.no_grad():
        ref_chosen, ref_rejected = pair_log_probs(reference, pairs).chunk(2)
    chosen, rejected = pair_log_probs(policy, pairs).chunk(2)
    ours = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, 0.1)
    assert ours.item() == pytest.approx(plain.item(), abs=1e-5)
    same_gradient(policy, plain, ours)


def test_a_runs_own_pair_scores_are_the_lessons(bench):
    from full.given.runs.measures import pair_log_probs as given
    from solutions.full.dpo import pair_log_probs

    policy = model(vocabulary=97)
    tokens = torch.randint(2, 97, (6, 12))
    mask = (torch.arange(12) < torch.tensor([12, 7, 9, 11, 8, 12]).unsqueeze(1)).long()
    pairs = Pairs(tokens, mask, torch.tensor([3, 6, 2, 5, 1, 4]))
    assert torch.allclose(given(policy, pairs), pair_log_probs(policy, pairs), atol=1e-9)  # float64


def same_gradient(policy, first, second):
    gradients = [torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(policy.parameters()))]) for loss in (first, second)]
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[0].norm()


def test_a_rollout_stops_asking_once_every_row_is_over():
    policy, (_, prompts) = model(), ragged()
    asked, forward = [], policy.forward

    @functools.wraps(forward)
    def counted(**arguments):
        asked.append(arguments["input_ids"].shape[1])
        out = forward(**arguments)
        out.logits[..., EOS] = 1e9
        return out

    policy.forward = counted
    found = rollout(policy, prompts, 30, eos_token_id=EOS, pad_token_id=PAD)
    assert found.mask.sum(1).tolist() == [1, 1, 1] and len(asked) <= 8 and found.tokens.shape == (3, 34)
    assert isinstance(found, Rollout)
