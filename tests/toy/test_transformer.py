"""Lesson 7: truths about the reference, the word world and the silent bug, and every claim and number of the lesson's text."""

import importlib.util
import itertools
import math
import re
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from autograder.checks.verdicts import counts_agree
from solutions.toy import transformer as tr
from solutions.toy import transformer_bug as mended
from toy.given import word_world as ww
from toy.given.enumerable import EnumerableLM
from toy.given.transformer import LayerCache, warmup_cosine

LESSON = Path(__file__).resolve().parents[2] / "lessons" / "07-transformer"
TEXT = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").split())
EXACT = 1e-12  # float64: sums of at most a few hundred terms of size 1 to 10
SETTINGS = [(1.0, None, None), (0.7, None, None), (1.3, 2, None), (1.0, None, 0.6), (0.8, 3, 0.8)]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("lesson_07_figures", LESSON / "figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def world():
    return ww.WordWorld()


def model_of(seed=0, **sizes):
    torch.manual_seed(seed)
    model = tr.TinyGPT(**{"vocabulary": 4, "context": 8, "dim": 8, "heads": 2, "layers": 2} | sizes).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))  # nothing stays at its first value, LayerNorm's ones included
    return model


def padded(*rows, left=False, pad=0):
    time_ = max(map(len, rows))
    fill = [[pad] * (time_ - len(row)) for row in rows]
    tokens = torch.tensor([f + r if left else r + f for f, r in zip(fill, rows)])
    flags = [[False] * len(f) + [True] * len(r) if left else [True] * len(r) + [False] * len(f) for f, r in zip(fill, rows)]
    return tokens, torch.tensor(flags)


# 7.1: the world


def test_probabilities_of_the_world_sum_to_one_after_every_beginning_and_over_all_sentences(world):
    assert abs(float(world.log_probs.exp().sum()) - 1) < EXACT
    beginnings = {tuple(row[1:t]) for row in world.tokens.tolist() for t in range(1, row.index(ww.EOS) + 1)}
    for tokens in beginnings:
        assert abs(sum(ww.next_word(tuple(ww.TOKENS[t] for t in tokens)).values()) - 1) < EXACT
    assert len({tuple(row) for row in world.tokens.tolist()}) == len(world)


def test_entropy_of_a_sentence_is_the_sum_of_its_tokens_entropies(world):
    total, beginnings = 0.0, {}
    for row, p in zip(world.tokens.tolist(), world.log_probs.exp().tolist()):
        for t in range(1, row.index(ww.EOS) + 1):
            beginnings[tuple(row[1:t])] = beginnings.get(tuple(row[1:t]), 0.0) + p
    for tokens, p in beginnings.items():
        total -= p * sum(q * math.log(q) for q in ww.next_word(tuple(ww.TOKENS[t] for t in tokens)).values())
    assert abs(total - world.entropy) < 1e-9  # 10,656 sentences, 1e-16 each in probability times 12 tokens
    assert abs(world.floor_with_memory(12) - world.entropy_rate) < 1e-9


def test_rules_of_the_world(world):
    positive = {"happy", "joyful", "pleasant"}
    for row in world.tokens[::7].tolist():
        words = ww.decode(row).split()
        assert (words[0] == "i") == (words[1] in ("am", "was"))
        if words[-1] in ("today", "yesterday"):
            assert (words[-1] == "today") == (words[1] in ("am", "are"))
        adjectives = [w for w in words if w in ww.WORDS]
        for before, conjunction, after in zip(adjectives, [w for w in words if w in ("and", "but")], adjectives[1:]):
            assert ((before in positive) == (after in positive)) == (conjunction == "and")
            assert before != after


def test_samples_of_the_world_have_its_distribution(world):
    tokens, mask = world.sample(4000, torch.Generator().manual_seed(0))
    assert (tokens[:, 0] == ww.BOS).all() and torch.equal(mask, tokens != ww.PAD)
    first = torch.bincount(tokens[:, 1], minlength=20)[6:8].numpy()
    assert counts_agree(first, np.array([0.6, 0.4])) is None
    scores = torch.tensor([world.log_prob(ww.decode(row)) for row in tokens], dtype=torch.float64)
    spread = float((world.log_probs.exp() * (world.log_probs + world.entropy) ** 2).sum()) ** 0.5
    assert abs(float(scores.mean()) + world.entropy) < 4 * spread / 4000**0.5
    assert (
        abs(float(mask[:, 1:].sum(1).double().mean()) - world.mean_length) < 4 * 3 / 4000**0.5
    )  # lengths lie between 3 and 12


def test_sentences_and_their_tokens():
    text = "i was very sad"
    assert ww.decode(torch.tensor(ww.encode(text) + [ww.EOS, ww.PAD])) == text
    assert len({ww.BOS, ww.EOS, ww.PAD}) == 3
    with pytest.raises(ValueError, match="received 'hapy'; it has happy joyful"):
        ww.encode("i am hapy")


def test_expected_loss_of_the_true_distribution_is_the_entropy_rate_and_of_the_uniform_one_ln_20(world):
    class Truth:
        def __call__(self, tokens, mask):
            logits = torch.full((*tokens.shape, 20), -1e9, dtype=torch.float64)
            for b, row in enumerate(tokens.tolist()):
                end = row.index(ww.EOS)
                for t in range(end):
                    for word, p in ww.next_word(tuple(ww.TOKENS[i] for i in row[1 : t + 1])).items():
                        logits[b, t, ww.TOKENS.index(word)] = math.log(p)
            return logits

    small = ww.WordWorld()
    keep = slice(0, 400)  # 400 sentences of the list, as a language of their own: the identity is the same
    small.tokens, small.mask, small.log_probs = small.tokens[keep], small.mask[keep], small.log_probs[keep]
    scores = small.sentence_log_probs(Truth())
    assert torch.allclose(scores, small.log_probs, rtol=0, atol=1e-9)
    assert abs(world.expected_loss(lambda tokens, mask: torch.zeros(*tokens.shape, 20)) - math.log(20)) < 1e-9


# 7.2 to 7.6: the model


def test_attention_is_pytorchs_own():
    layer, x = tr.CausalSelfAttention(6, 3).double(), torch.randn(2, 5, 6, dtype=torch.float64)
    q, k, v = (part.unflatten(-1, (3, 2)).transpose(1, 2) for part in layer.qkv(x).chunk(3, dim=-1))
    expected = layer.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
    assert torch.allclose(layer(x), expected, rtol=0, atol=EXACT)


def test_no_logit_depends_on_a_later_token():
    model, tokens = model_of(), torch.tensor([[0, 3, 1, 2, 3]])
    embedded = []
    handle = model.token.register_forward_hook(lambda module, inputs, output: embedded.append(output) or output)
    logits = model(tokens)
    handle.remove()
    for t in range(5):
        (gradient,) = torch.autograd.grad(logits[0, t].sum(), embedded[0], retain_graph=True)
        assert (gradient[0, t + 1 :] == 0).all() and (gradient[0, : t + 1].abs().sum(-1) > 0).all()


def test_padding_on_either_side_changes_nothing():
    model = model_of()
    alone = [model(torch.tensor([row]))[0] for row in ([3, 1, 2], [2, 2, 0, 1, 3])]
    for left in (False, True):
        tokens, mask = padded([3, 1, 2], [2, 2, 0, 1, 3], left=left, pad=1)
        logits = model(tokens, mask)
        for b in range(2):
            assert torch.allclose(logits[b][mask[b]], alone[b], rtol=0, atol=EXACT)
        assert logits.isfinite().all()
        logits.square().sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("pieces", [[5], [3, 1, 1], [3, 2], [4, 1]])
def test_reading_in_pieces_with_a_cache_gives_the_same_logits(pieces):
    model = model_of()
    tokens, mask = padded([3, 1, 2], [2, 2, 0, 1, 3], left=True)
    whole, cache, past, parts = model(tokens, mask), model.new_cache(), 0, []
    for n in pieces:
        parts.append(model(tokens[:, past : past + n], mask[:, : past + n], cache))
        past += n
    assert torch.allclose(torch.cat(parts, 1)[mask], whole[mask], rtol=0, atol=EXACT)
    assert [layer.past for layer in cache] == [5, 5]


def test_layer_norm_ignores_the_size_of_the_stream():
    norm, x = torch.nn.LayerNorm(6).double(), torch.randn(4, 6, dtype=torch.float64)
    assert torch.allclose(norm(x), norm(1000 * x), rtol=0, atol=1e-4)  # the 1e-5 under the root, for variances near 1
    by_hand = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    assert torch.allclose(norm(x), by_hand, rtol=0, atol=EXACT)


def test_names_of_the_parameters_are_those_of_the_docstrings():
    names = dict(model_of().named_parameters())
    assert names["token.weight"].shape == (4, 8) and names["position.weight"].shape == (8, 8)
    assert names["blocks.1.attention.qkv.weight"].shape == (24, 8) and names["blocks.0.up.weight"].shape == (32, 8)
    assert not [name for name in names if "head" in name]


def test_first_loss_is_near_the_logarithm_of_the_vocabulary(world):
    torch.manual_seed(0)
    model = tr.TinyGPT(20, 13, layers=1)
    assert abs(world.expected_loss(model) - math.log(20)) < 0.3  # logits of variance 0.1^2 * 32 = 0.32 cost half of it


# 7.7, 7.10: loss and score against the ruler


@pytest.mark.parametrize("left", [False, True])
def test_loss_is_that_of_whole_sequences_and_their_probabilities_sum_to_one(left):
    model = model_of(vocabulary=4)
    ruler = EnumerableLM(model, 4, 3, prompt=[3], eos=1)
    rows = [[3] + row[:n] for row, n in zip(ruler.sequences.tolist(), ruler.lengths.tolist())]
    tokens, mask = padded(*rows, left=left)
    loss = tr.next_token_loss(model(tokens, mask), tokens, mask)
    expected = -ruler.log_probs().sum() / ruler.lengths.sum()
    assert abs(float((loss - expected).detach())) < EXACT
    sampled = mask.clone()
    sampled[torch.arange(len(rows)), mask.int().argmax(1)] = False  # the start token is the prompt
    scores = tr.completion_log_probs(model(tokens, mask), tokens, sampled)
    assert torch.allclose(scores.sum(1), ruler.log_probs(), rtol=0, atol=EXACT)
    assert abs(float(scores.detach().sum(1).exp().sum()) - 1) < EXACT
    unshifted = model(tokens, mask).log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    assert abs(float((unshifted * sampled).sum(1).exp().sum()) - 1) > 0.01


@pytest.mark.parametrize("temperature, top_k, top_p", SETTINGS)
def test_probabilities_as_sampled_sum_to_one_over_all_sequences(temperature, top_k, top_p):
    model = model_of(vocabulary=4)
    ruler = EnumerableLM(model, 4, 3, prompt=[3], eos=1)
    tokens = torch.cat([torch.full((len(ruler), 1), 3), ruler.sequences], dim=1)
    sampled = torch.cat([torch.zeros(len(ruler), 1, dtype=torch.bool), ruler.mask], dim=1)
    scores = tr.completion_log_probs(model(tokens), tokens, sampled, temperature, top_k, top_p).sum(1)
    assert abs(float(scores.exp().sum()) - 1) < EXACT


def test_gradient_of_the_loss_is_model_minus_data():
    logits = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    tokens, mask = padded([0, 2, 1], [1, 1, 2, 0])
    tr.next_token_loss(logits, tokens, mask).backward()
    expected = torch.zeros_like(logits)
    for b, t in ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2)):
        expected[b, t] = (logits[b, t].softmax(-1) - F.one_hot(tokens[b, t + 1], 3)).detach() / 5
    assert torch.allclose(logits.grad, expected, rtol=0, atol=EXACT)


# 7.8: pretraining


def test_warm_up_and_decay():
    rate = warmup_cosine(0.1, 10, 110)
    assert rate(0) == pytest.approx(0.01) and rate(9) == rate(10) == pytest.approx(0.1)
    assert rate(60) == pytest.approx(0.05) and rate(109) < 1e-4
    assert all(rate(n) >= rate(n + 1) for n in range(10, 109))


def test_expected_loss_is_the_entropy_rate_plus_kl(world):
    torch.manual_seed(1)
    model = tr.TinyGPT(20, 13, dim=8, heads=2, layers=1).double()
    scores = world.sentence_log_probs(model)
    kl = float((world.log_probs.exp() * (world.log_probs - scores)).sum())
    assert abs(world.expected_loss(model) - (world.entropy_rate + kl / world.mean_length)) < 1e-9
    floors = [world.floor_with_memory(n) for n in (0, 1, 2, 3, 12)]
    assert floors == sorted(floors, reverse=True) and floors[-1] >= world.entropy_rate - EXACT


def test_a_few_batches_teach_what_follows_what(world):
    torch.manual_seed(0)
    model = tr.TinyGPT(20, 13, dim=16, layers=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, betas=(0.9, 0.95))
    steps = []
    losses = tr.pretrain(model, world.batches(60, 24, torch.Generator().manual_seed(0)), optimizer, after_step=steps.append)
    assert losses.shape == (60,) and losses.dtype == torch.float64 and steps == list(range(60))
    assert losses[-5:].mean() < 1.6 < losses[0]  # from ln 20 = 3.0 past the frequencies of single words (2.76)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_pretraining_reaches_the_entropy_rate_within_two_percent_in_less_than_a_minute(world, seed):
    torch.manual_seed(seed)
    model = tr.TinyGPT(20, 13)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.95))
    began = time.process_time()  # of this process, on one thread
    tr.pretrain(model, world.batches(600, 64, torch.Generator().manual_seed(seed)), optimizer, warmup_cosine(1e-2, 50, 600))
    seconds = time.process_time() - began
    loss = world.expected_loss(model)
    assert world.entropy_rate < loss < 1.02 * world.entropy_rate
    assert seconds < 60


# 7.9: sampling


@pytest.mark.parametrize("temperature, top_k, top_p", SETTINGS)
def test_rows_are_distributions_and_the_order_of_the_vocabulary_does_not_matter(temperature, top_k, top_p):
    logits = torch.randn(3, 2, 7, dtype=torch.float64)
    rows = tr.next_token_distribution(logits, temperature, top_k, top_p)
    assert torch.allclose(rows.exp().sum(-1), torch.ones(3, 2, dtype=torch.float64), rtol=0, atol=EXACT)
    order = torch.randperm(7)
    assert torch.allclose(tr.next_token_distribution(logits[..., order], temperature, top_k, top_p), rows[..., order])
    assert torch.allclose(tr.next_token_distribution(logits + 5, temperature, top_k, top_p), rows, rtol=0, atol=1e-11)


def test_top_p_is_the_smallest_set_of_the_most_probable_that_has_p():
    for p in (0.3, 0.55, 0.9):
        probs = torch.rand(200, 6, dtype=torch.float64).log_softmax(-1).exp()
        kept = tr.next_token_distribution(probs.log(), top_p=p).isfinite()
        mass = (probs * kept).sum(-1)
        least = probs.masked_fill(~kept, torch.inf).amin(-1)
        assert (mass >= p - EXACT).all() and (mass - least < p).all()
        assert (probs.masked_fill(kept, 0).amax(-1) < least).all()


def test_ties_stay_together_and_everything_stays_at_one():
    rows = tr.next_token_distribution(torch.tensor([2.0, 1.0, 2.0, 2.0, 0.0]), top_k=2)
    assert rows.isfinite().tolist() == [True, False, True, True, False]
    rows = tr.next_token_distribution(torch.tensor([0.5, 0.2, 0.2, 0.1]).log(), top_p=0.65)
    assert rows.isfinite().tolist() == [True, True, True, False]
    assert tr.next_token_distribution(torch.tensor([0.0, -300.0, -20.0]), top_p=1.0).isfinite().all()


def test_entropy_rises_with_temperature_by_the_variance_of_the_logits():
    logits, h = torch.randn(9, dtype=torch.float64), 1e-5

    def entropy(t):
        row = tr.next_token_distribution(logits, t)
        return float(-(row.exp() * row).sum())

    for t in (0.3, 1.0, 2.5):
        q = tr.next_token_distribution(logits, t).exp()
        variance = float((q * (logits - (q * logits).sum()) ** 2).sum())
        # central differences: truncation h^2 times a third derivative below 100, rounding 1e-16 / h
        assert abs((entropy(t + h) - entropy(t - h)) / (2 * h) - variance / t**3) < 1e-7


def test_draws_have_the_distribution_that_is_scored():
    logits = torch.randn(3, 6, dtype=torch.float64)
    for setting in SETTINGS:
        rows = tr.next_token_distribution(logits, *setting).exp()
        tokens = tr.sample_next(logits.repeat(3000, 1), *setting, torch.Generator().manual_seed(0)).reshape(3000, 3)
        for row, drawn in zip(rows, tokens.T):
            assert counts_agree(torch.bincount(drawn, minlength=6).numpy(), row.numpy()) is None


def test_no_gradient_is_nan_and_cut_logits_get_none():
    logits = torch.tensor([[3.0, 2.0, 1.0, -50.0]], dtype=torch.float64, requires_grad=True)
    tr.next_token_distribution(logits, 0.7, 3, 0.9)[0, 0].backward()
    assert logits.grad.isfinite().all() and logits.grad[0, 3] == 0 and logits.grad[0, 0] > 0


# 7.10, 7.11: score what you sampled


@pytest.mark.parametrize("temperature, top_k, top_p", SETTINGS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_what_is_scored_is_what_was_drawn(monkeypatch, temperature, top_k, top_p, use_cache):
    model = model_of(vocabulary=5, context=12)
    prompts, mask = padded([4, 1, 2], [3], [2, 2], left=True)
    recorded, original = [], tr.sample_next

    def sample_next(logits, *settings):
        drawn = original(logits, *settings)
        recorded.append(tr.next_token_distribution(logits, *settings[:3]).gather(1, drawn.unsqueeze(1)).squeeze(1))
        return drawn

    monkeypatch.setattr(tr, "sample_next", sample_next)
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    generator = torch.Generator().manual_seed(3)
    tokens, sampled = tr.generate(
        model, prompts, 6, eos=1, pad=0, mask=mask, generator=generator, use_cache=use_cache, **settings
    )
    real = sampled | F.pad(mask, (0, tokens.shape[1] - mask.shape[1]))
    scores = tr.completion_log_probs(model(tokens, real), tokens, sampled, **settings)
    drawn = torch.stack(recorded, 1).masked_fill(~sampled[:, 3:], 0.0)
    assert torch.allclose(scores[:, 2:], drawn, rtol=0, atol=EXACT) and (scores[:, :2] == 0).all()


def test_generation_with_the_cache_is_generation_without():
    model = model_of(vocabulary=6, context=24)
    prompts, mask = padded([4, 1, 2], [3], [2, 2], left=True)
    runs = []
    for use_cache in (True, False):
        generator = torch.Generator().manual_seed(5)
        runs.append(
            tr.generate(
                model, prompts.repeat(8, 1), 20, eos=5, pad=0, mask=mask.repeat(8, 1), generator=generator, use_cache=use_cache
            )
        )
    assert torch.equal(runs[0][0], runs[1][0]) and torch.equal(runs[0][1], runs[1][1])
    tokens, sampled = runs[0]
    ended = (tokens == 5) & sampled
    assert ended.any() and (ended.sum(1) <= 1).all()
    assert (tokens[(ended.cumsum(1) - ended.long()).bool()] == 0).all()


def test_mean_log_ratio_is_minus_the_kl_and_the_mass_that_was_kept():
    model = model_of(vocabulary=4)
    ruler = EnumerableLM(model, 4, 3, prompt=[3], eos=1)
    tokens = torch.cat([torch.full((len(ruler), 1), 3), ruler.sequences], dim=1)
    sampled = torch.cat([torch.zeros(len(ruler), 1, dtype=torch.bool), ruler.mask], dim=1)
    logits = model(tokens).detach()
    log_q = tr.completion_log_probs(logits, tokens, sampled, 1.0, 2).sum(1)
    log_p, possible = ruler.log_probs().detach(), log_q > -torch.inf
    kept = tr.next_token_distribution(logits, 1.0, 2).isfinite()
    log_mass = (logits.softmax(-1) * kept).sum(-1).log()[:, :-1]
    gaps = (log_p - log_q)[possible]
    assert torch.allclose(gaps, (log_mass * sampled[:, 1:]).sum(1)[possible], rtol=0, atol=EXACT)  # eq. 7.20
    kl = (log_q[possible].exp() * (log_q - log_p)[possible]).sum()
    assert float((log_q[possible].exp() * gaps).sum() + kl) == pytest.approx(0, abs=EXACT) and kl > 0.01


def test_for_one_token_a_mean_baseline_hides_the_wrong_score():
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    rewards = torch.randn(6, dtype=torch.float64)
    log_q, log_p = tr.next_token_distribution(logits, 1.0, 3), logits.log_softmax(-1)
    kept = log_q.isfinite()
    q = log_q.exp().detach()[kept]
    for baseline, same in ((float(q @ rewards[kept]), True), (-3.0, False)):
        weights = q * (rewards[kept] - baseline)
        pair = [torch.autograd.grad((weights * rows[kept]).sum(), logits, retain_graph=True)[0] for rows in (log_q, log_p)]
        assert torch.allclose(*pair, rtol=0, atol=EXACT) == same


def test_the_lines_of_the_text_score_a_rollout():
    (listing,) = re.findall(r"```python\n(.*?)```", (LESSON / "lesson.md").read_text(encoding="utf-8"), re.DOTALL)
    prompts, mask = padded(ww.encode("i was very"), ww.encode("they"), left=True, pad=ww.PAD)
    names = {"torch": torch, "generate": tr.generate, "completion_log_probs": tr.completion_log_probs, "prompts": prompts}
    names |= {"mask": mask, "model": model_of(vocabulary=20, context=20), "EOS": ww.EOS, "PAD": ww.PAD}
    names["generator"] = torch.Generator().manual_seed(0)
    exec(listing, names)
    assert names["log_probs"].isfinite().all() and (names["log_probs"] < 0).sum() > 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_everything_stays_on_the_device_of_the_model():
    model = model_of().cuda()
    prompts, mask = (t.cuda() for t in padded([3, 1, 2], [2], left=True))
    generator = torch.Generator("cuda").manual_seed(0)
    tokens, sampled = tr.generate(model, prompts, 4, eos=1, pad=0, mask=mask, generator=generator, top_k=3, top_p=0.9)
    real = sampled | F.pad(mask, (0, tokens.shape[1] - 3))
    assert tr.completion_log_probs(model(tokens, real), tokens, sampled, 1.0, 3, 0.9).is_cuda
    assert tr.next_token_loss(model(tokens, real), tokens, real).is_cuda


# what is refused


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: tr.causal_mask(0), "time: expected 1 or more, received 0"),
        (lambda: tr.causal_mask(2, -1), "past: expected 0 or more, received -1"),
        (lambda: tr.CausalSelfAttention(6, 4), "heads: expected a divisor of dim = 6, received 4"),
        (lambda: model_of()(torch.tensor([[0, 7]])), "tokens: expected tokens from 0 to 3, received 0 to 7"),
        (
            lambda: model_of()(torch.zeros(1, 9, dtype=torch.long)),
            r"tokens: expected at most context = 8 of them, received 0 \+ 9",
        ),
        (lambda: model_of()(torch.zeros(2, 3)), r"tokens: expected integers of shape \(batch, time\), received torch.float32"),
        (
            lambda: model_of()(torch.zeros(2, 3, dtype=torch.long), torch.tensor([[True] * 3, [False] * 3])),
            "mask: expected a real token in every row, received none in row 1",
        ),
        (
            lambda: model_of()(torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3)),
            r"mask: expected booleans of shape \(2, 3\) \(True = a real token\), received torch.float32",
        ),
        (
            lambda: tr.next_token_loss(
                torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.long), torch.tensor([[True, False]])
            ),
            "mask: expected a real token after another one in some row, received none",
        ),
        (
            lambda: tr.next_token_loss(
                torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3, dtype=torch.bool)
            ),
            r"logits: expected shape \(batch, time, vocabulary\), received \(1, 2, 3\) for tokens of shape \(1, 3\)",
        ),
        (
            lambda: tr.next_token_distribution(torch.zeros(3), 0.0),
            r"temperature: expected a positive number \(top_k=1 is greedy\)",
        ),
        (
            lambda: tr.next_token_distribution(torch.zeros(3), 1.0, 0),
            "top_k: expected a whole number from 1 on, or None, received 0",
        ),
        (
            lambda: tr.sample_next(torch.zeros(1, 3), 1.0, None, 1.2),
            r"top_p: expected a number in \(0, 1\], or None, received 1.2",
        ),
        (
            lambda: tr.completion_log_probs(
                torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 2, dtype=torch.bool)
            ),
            "sampled: expected True for one token at least, received none",
        ),
        (
            lambda: tr.generate(model_of(), torch.zeros(1, 1, dtype=torch.long), 0, eos=1, pad=0),
            "max_new_tokens: expected 1 or more, received 0",
        ),
        (
            lambda: tr.generate(model_of(), torch.zeros(1, 1, dtype=torch.long), 2, eos=1, pad=1),
            "pad: expected another token than eos, received 1 for both",
        ),
        (lambda: tr.pretrain(model_of(), [], None, max_norm=0.0), "max_norm: expected a positive number, received 0.0"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_layers_cache_grows_at_its_end():
    cache, first, second = LayerCache(), torch.randn(2, 3, 4, 5), torch.randn(2, 3, 1, 5)
    assert cache.past == 0 and cache.extend(first, -first)[0] is first
    keys, values = cache.extend(second, -second)
    assert cache.past == 5 and torch.equal(keys[:, :, 4:], second) and torch.equal(values, -keys)


# the checks


def test_draws_tell_every_mistake_from_the_truth():
    """A sample of the check's size from each mistake's distribution is refused, 20 times out of 20."""
    from autograder.checks.toy.transformer import Draws

    one, rng = Draws(), np.random.default_rng(7)
    cases = list(one.cases(np.random.default_rng(3)))
    for wrong in one.known_mistakes():
        told = 0
        for _ in range(20):
            for case in cases:
                right, answer = one.truth(**case), wrong.answer(**case)
                if "counts" not in answer or "counts" not in right:
                    told += (answer.keys() != right.keys()) * 1
                    break
                counts = [rng.multinomial(case["count"], row / row.sum()) for row in answer["counts"]]
                if one.judge({**answer, "counts": np.array(counts)}, right, **case):
                    told += 1
                    break
        assert told == 20, wrong.id


def test_training_passes_its_threshold_with_room():
    from autograder.checks.toy.transformer import ReachesTheFloor
    from autograder.probes.toy.transformer import trained_tables
    from autograder.sandbox.child import as_torch

    one = ReachesTheFloor()
    chain = one.chain()
    assert abs(-(chain * np.log(chain)).sum(axis=1).mean() - 0.435) < 1e-3
    for seed in range(10):
        (case,) = one.cases(np.random.default_rng(seed))
        got = {name: table.detach().numpy() for name, table in trained_tables(tr, **as_torch(case)).items()}
        assert one.judge(got, {"at_most": 0.55}, **case) is None
    untrained = {"by_token": np.zeros((4, 4)), "by_position": np.zeros((5, 4))}
    assert "1.38629" in one.judge(untrained, one.truth(**case), **case)


# 7.12: the silent bug


def planted():
    from autograder.reference import module_of
    from autograder.skeletons import skeleton

    source = Path(mended.__file__).read_text(encoding="utf-8")
    return module_of(skeleton(source, 7), "toy.transformer_bug")


def test_the_silent_bug_runs_learns_and_is_wrong_and_the_mended_file_is_right(capsys):
    given = planted()
    log = given.train(given.speaker())[1]
    assert log["score"][-1] > log["score"][0] + 2
    assert log["log_ratio"][0] < -0.1 and log["clipped"][0] > 0.2
    log = mended.train(mended.speaker())[1]
    assert max(map(abs, log["log_ratio"])) < EXACT and max(log["clipped"]) == 0
    assert log["score"][-1] > log["score"][0] + 2
    given.main()
    assert "update   score   log_ratio   clipped" in capsys.readouterr().out


def test_the_mended_speakers_gradient_is_that_of_the_expected_score():
    sampling, table = mended.Sampling(), mended.speaker(3).requires_grad_(True)
    words = [w for w in itertools.product(range(7), repeat=3) if all(b == 6 for a, b in zip(w, w[1:]) if a == 6)]
    tokens = torch.tensor(words)
    mask = torch.cat([torch.ones(len(words), 1, dtype=torch.bool), tokens[:, :-1] != mended.END], dim=1)
    log_q = mended.log_probs_of(table, tokens, mask, sampling).sum(1)
    assert abs(float(log_q.exp().sum()) - 1) < EXACT
    scores, kept = mended.score(tokens, mask), log_q > -torch.inf
    (exact,) = torch.autograd.grad((log_q.exp() * scores)[kept].sum(), table, retain_graph=True)
    (reinforce,) = torch.autograd.grad((log_q.exp().detach() * scores * log_q)[kept].sum(), table)
    assert torch.allclose(exact, reinforce, rtol=0, atol=EXACT)


# the text


def test_the_exact_numbers_of_the_text(figures):
    missing = {name: text for name, text in figures.exact_numbers().items() if text not in TEXT}
    assert not missing
    assert round(math.exp(18.73) / 1e8) == 1 and "one in a hundred million" in TEXT
    assert 50257 * 768 / 1e6 == pytest.approx(39, abs=0.5) and "39 million" in TEXT
    world_example = 0.4 * 0.6 * 0.25 * (0.6 * 0.5) * 0.15 * (0.75 * 0.3) * 0.35
    assert math.log(world_example) == pytest.approx(figures.world().log_prob(figures.EXAMPLE), abs=1e-9)
    assert "the first has 0.444" not in TEXT or round(0.4 / 0.9, 3) == 0.444
    assert len(ww.next_word(("i", "was"))) == 7 and "at most seven" in TEXT


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_measured_numbers_of_the_text(figures):
    missing = {name: text for name, text in figures.measured_numbers().items() if text not in TEXT}
    assert not missing


def test_equations_and_pictures_the_text_speaks_of_exist():
    tags = re.findall(r"\\tag\{(7\.\d+)\}", TEXT)
    assert tags == [f"7.{n}" for n in range(1, len(tags) + 1)]
    cited = set(
        re.findall(r"\b(7\.\d+)\b", " ".join(re.findall(r"eq\. [\d., ]+", Path(tr.__file__).read_text(encoding="utf-8"))))
    )
    assert cited and cited <= set(tags)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT)
    assert len(pictures) == len(list(LESSON.glob("*.png"))) and all((LESSON / picture).is_file() for picture in pictures)


def test_the_answers_to_the_questions_are_right():
    questions = {q["id"]: q for q in tomllib.loads((LESSON / "questions.toml").read_text(encoding="utf-8"))["question"]}
    assert questions["kl-from-the-loss"]["answer"] == pytest.approx((1.0656 - 1.0447) * 6.096, abs=1e-4)
    probs = torch.tensor([0.35, 0.30, 0.20, 0.10, 0.05], dtype=torch.float64)
    kept = tr.next_token_distribution(probs.log(), top_p=0.7).isfinite()
    assert questions["nucleus-size"]["answer"] == int(kept.sum())
    z, temperature = 1.3, 0.6
    first = float(tr.next_token_distribution(torch.tensor([z, 0.0], dtype=torch.float64), temperature).exp()[0])
    formula = questions["two-tokens-at-temperature"]["answer"]
    assert eval(formula, {"exp": math.exp, "z": z, "T": temperature}) == pytest.approx(first, abs=EXACT)
    assert eval(questions["log-ratio-of-a-truncated-sample"]["answer"], {"log": math.log, "n": 20, "m": 0.8}) < -4.4
    assert questions["size-of-a-cache"]["answer"] == 2 * 768 * 12 * 1000
    tokens, mask = padded(ww.encode("i am sad") + [ww.EOS], [ww.BOS] * 7, left=True, pad=ww.PAD)
    predicted = (mask[:, 1:] & mask[:, :-1])[0]
    assert [ww.TOKENS[t] for t in tokens[0, 1:][predicted].tolist()] == ["i", "am", "sad", "<eos>"]
