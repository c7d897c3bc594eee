"""The ruler measured against Python loops, identities and exact values."""

import itertools
import math
import time

import pytest
import torch

from toy.given import distributions as exact
from toy.given.enumerable import EnumerableLM
from toy.given.sequences import SequenceList
from toy.given.tabular import TabularLM

# Sums of at most a few thousand float64 terms of size at most about ten: each rounding is 1e-15, all of them far below 1e-9.
EXACT = 1e-9


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def random_lm(vocabulary=3, length=4, seed=0, **options):
    return EnumerableLM.tabular(vocabulary, length, generator=seeded(seed), **options)


def close(a, b, tolerance=EXACT):
    """Whether both are equal everywhere, absolutely or relatively; `b` may be one number for all of `a`."""
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    return torch.allclose(a, b.expand_as(a), rtol=tolerance, atol=tolerance)


def softmax_by_hand(row):
    top = max(row)
    weights = [math.exp(x - top) for x in row]
    return [w / sum(weights) for w in weights]


# The list


@pytest.mark.parametrize("vocabulary, length", [(1, 1), (1, 5), (2, 1), (2, 14), (3, 4), (7, 2), (200, 1), (16_384, 1)])
def test_without_eos_the_list_is_the_product_in_order(vocabulary, length):
    listing = SequenceList(vocabulary, length, None)
    assert [tuple(row) for row in listing.tokens.tolist()] == list(itertools.product(range(vocabulary), repeat=length))
    assert listing.mask.all() and (listing.lengths == length).all()


@pytest.mark.parametrize("vocabulary, length, eos", [(1, 1, 0), (1, 3, 0), (2, 1, 1), (2, 5, 0), (3, 4, 1), (4, 3, 3), (5, 2, 0)])
def test_with_eos_the_list_is_every_product_cut_at_its_first_eos(vocabulary, length, eos):
    cut = {
        tuple(row[: row.index(eos) + 1]) if eos in row else row for row in itertools.product(range(vocabulary), repeat=length)
    }
    lm = EnumerableLM.tabular(vocabulary, length, eos=eos)
    listed = [tuple(row[:n]) for row, n in zip(lm.sequences.tolist(), lm.lengths.tolist())]
    assert set(listed) == cut and len(listed) == len(cut)
    assert lm.sequences.tolist() == sorted(lm.sequences.tolist())
    assert (lm.sequences[~lm.mask] == eos).all()
    assert (lm.mask.sum(1) == lm.lengths).all()


def test_a_long_list_of_few_sequences():
    lm = EnumerableLM.tabular(2, 60, eos=1, by_position=True, generator=seeded(0))  # 61 sequences of up to 60 tokens
    assert len(lm) == 61 and close(lm.probs().sum(), 1.0)


@pytest.mark.parametrize("eos", [None, 1])
def test_index_undoes_the_list(eos):
    lm = EnumerableLM.tabular(3, 4, eos=eos)
    order = torch.randperm(len(lm), generator=seeded(1))
    assert torch.equal(lm.index(lm.sequences[order]), order)


def test_index_reads_what_ends_early_however_it_is_filled_up():
    lm = EnumerableLM.tabular(3, 4, eos=1)
    place = lm.index([[0, 2, 1, 1]])
    for row in ([0, 2, 1, 0], [0, 2, 1, -100], [0, 2, 1, 50_256], [0, 2, 1]):
        assert torch.equal(lm.index(torch.tensor([row])), place)
    assert lm.sequences[place].tolist() == [[0, 2, 1, 1]] and lm.lengths[place].item() == 3


@pytest.mark.parametrize(
    "eos, row", [(None, [0, 1, 3]), (None, [0, -1, 0]), (None, [0, 1]), (None, [0, 1, 2, 0]), (1, [0, 2]), (1, [3, 1])]
)
def test_index_refuses_what_is_not_listed(eos, row):
    with pytest.raises(ValueError, match="^sequences: expected"):
        EnumerableLM.tabular(3, 3, eos=eos).index(torch.tensor([row]))


# Probabilities


@pytest.mark.parametrize("eos", [None, 0, 2])
@pytest.mark.parametrize("by_position", [False, True])
def test_probabilities_equal_a_walk_through_the_table_in_plain_python(eos, by_position):
    lm = random_lm(3, 4, eos=eos, by_position=by_position, contexts=2).given((1,))
    table = lm.model.logits[1].tolist()

    def walk(prefix, p):
        """Every sequence from here on with its probability. The prefixes of t tokens follow those of fewer in the table."""
        t = len(prefix)
        row = t if by_position else sum(3**s for s in range(t)) + sum(v * 3 ** (t - 1 - s) for s, v in enumerate(prefix))
        for token, q in enumerate(softmax_by_hand(table[row])):
            sequence = (*prefix, token)
            if token == eos or len(sequence) == 4:
                yield sequence, p * q
            else:
                yield from walk(sequence, p * q)

    by_hand = dict(walk((), 1.0))
    listed = [tuple(row[:n]) for row, n in zip(lm.sequences.tolist(), lm.lengths.tolist())]
    assert len(by_hand) == len(lm)
    assert close(lm.probs(), torch.tensor([by_hand[s] for s in listed], dtype=torch.float64))
    assert lm.log_probs().dtype == torch.float64


@pytest.mark.parametrize("eos", [None, 0, 3])
@pytest.mark.parametrize("spread", [0.0, 1.0, 100.0])
def test_probabilities_sum_to_one(eos, spread):
    lm = random_lm(4, 5, eos=eos, spread=spread)
    assert close(lm.probs().sum(), 1.0)


def test_a_new_table_is_uniform():
    lm = EnumerableLM.tabular(4, 3)
    assert close(lm.log_probs(), -3 * math.log(4))
    assert close(lm.entropy(), 3 * math.log(4))


def test_spread_is_the_standard_deviation_of_the_logits():
    assert close(random_lm(spread=2.5).model.logits.detach(), 2.5 * random_lm().model.logits.detach())
    assert abs(random_lm(4, 6).model.logits.std().item() - 1) < 4 / math.sqrt(2 * 5460)  # four standard errors


def test_logits_of_200_give_finite_log_probabilities():
    lm = EnumerableLM.tabular(2, 1)
    with torch.no_grad():
        lm.model.logits[0, 0] = torch.tensor([200.0, -200.0])
    assert close(lm.log_probs(), torch.tensor([-math.exp(-400), -400.0]))


def test_a_token_of_probability_zero_breaks_no_gradient():
    lm, other = random_lm(3, 2), random_lm(3, 2, seed=1)
    with torch.no_grad():
        lm.model.logits[0, 0, 1] = -math.inf
    assert (lm.probs()[3:6] == 0).all() and close(lm.probs().sum(), 1.0)
    reward = normal(9, seed=2)
    for value in (lm.expected(reward), lm.entropy(), lm.kl(other), lm.expected(reward) - lm.kl(other)):
        assert torch.isfinite(value) and torch.isfinite(lm.gradient(value)).all()
    assert close(lm.policy_gradient(reward), lm.gradient(lm.expected(reward)))
    assert lm.reverse_kl(other).item() == math.inf


@pytest.mark.parametrize("eos", [None, 1])
def test_next_token_distributions_are_those_that_multiply(eos):
    lm = random_lm(3, 4, eos=eos)
    full = lm.next_token_log_probs()
    assert full.shape == (len(lm), 4, 3) and close(full.exp().sum(-1), 1.0)
    picked = full.gather(2, lm.sequences.unsqueeze(2)).squeeze(2) * lm.mask
    assert close(picked, lm.token_log_probs()) and close(picked.sum(1), lm.log_probs())


def test_a_table_is_scored_like_any_language_model():
    lm = random_lm(3, 4, contexts=2).given((1,))
    tokens = torch.cat([torch.ones(len(lm), 1, dtype=torch.long), lm.sequences], dim=1)  # the context, then the sequence
    log_probs = lm.model(tokens)[:, :-1].log_softmax(-1)
    assert close(log_probs.gather(2, tokens[:, 1:, None]).squeeze(2).sum(1), lm.log_probs())


def test_contexts_have_tables_of_their_own():
    first = random_lm(3, 2, contexts=2)
    second = first.given((1,))
    before = first.log_probs().detach()
    second.set_distribution(torch.full((9,), 1 / 9, dtype=torch.float64).log())
    assert close(second.probs(), 1 / 9) and torch.equal(first.log_probs(), before) and first.kl(second) > 0.01
    assert second.model is first.model and len(first.gradient(second.entropy())) == first.model.logits.numel()


def test_a_frozen_copy_stays_where_it_was():
    policy = random_lm()
    reference = policy.frozen()
    before = reference.log_probs()
    with torch.no_grad():
        policy.model.logits.mul_(2)
    assert torch.equal(reference.log_probs(), before) and not reference.log_probs().requires_grad
    assert policy.kl(reference) > 0 and policy.model.logits.requires_grad


# Gradients


@pytest.mark.parametrize("eos", [None, 2])
def test_gradient_of_the_expected_reward_is_the_policy_gradient(eos):
    lm = random_lm(3, 3, eos=eos)
    reward = normal(len(lm), seed=3)
    by_autograd = lm.gradient(lm.expected(reward))
    summed = (lm.probs() * reward).detach() @ lm.scores()  # sum_y p r grad log p, term by term
    assert close(by_autograd, summed) and close(by_autograd, lm.policy_gradient(reward))
    for baseline in (-3.0, lm.expected(reward).item(), 100.0):
        assert close(by_autograd, lm.policy_gradient(reward - baseline))
    assert by_autograd.abs().max() > 0.01  # not all zeros


def test_the_expected_score_is_zero():
    lm = random_lm(3, 3)
    assert close(lm.probs().detach() @ lm.scores(), 0.0)


def test_gradient_of_the_expected_reward_matches_central_differences():
    lm = random_lm(3, 3)
    reward = normal(27, seed=4).clamp(-1, 1)
    gradient = lm.gradient(lm.expected(reward))
    # Along one logit x, E[r] = c + d sigmoid(x - x0) with |d| <= 2 max|r| = 2, and |sigmoid'''| <= 1/8: the central difference
    # errs by at most h^2 / 6 * 2 / 8. Each of the two sums of 27 terms of size at most 1 rounds by at most some 27 * 10 * 1e-16.
    h = 1e-4
    tolerance = h**2 / 24 + 27 * 10 * 2.3e-16 / h
    flat = lm.model.logits.data.view(-1)
    for i in range(len(flat)):
        there = flat[i].item()
        flat[i] = there + h
        above = lm.expected(reward).item()
        flat[i] = there - h
        below = lm.expected(reward).item()
        flat[i] = there
        assert abs((above - below) / (2 * h) - gradient[i].item()) <= tolerance


def test_gradients_of_both_kls_are_their_score_function_sums():
    lm, other = random_lm(3, 3), random_lm(3, 3, seed=5).frozen()
    p, log_ratio = lm.probs().detach(), (lm.log_probs() - other.log_probs()).detach()
    assert close(lm.gradient(lm.kl(other)), (p * log_ratio) @ lm.scores())  # the term grad log p alone sums to 0
    assert close(lm.gradient(lm.reverse_kl(other)), -other.probs() @ lm.scores())
    assert close(lm.gradient(lm.entropy()), -(p * lm.log_probs().detach()) @ lm.scores())


# Distances


def test_kl_and_total_variation_of_two_coins():
    p, q = torch.tensor([0.5, 0.5], dtype=torch.float64).log(), torch.tensor([0.25, 0.75], dtype=torch.float64).log()
    assert close(exact.kl(p, q), math.log(4 / 3) / 2)  # 0.1438 nats
    assert close(exact.kl(q, p), 0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2))  # 0.1308 nats
    assert close(exact.total_variation(p, q), 0.25)
    certain = torch.tensor([1.0, 0.0], dtype=torch.float64).log()
    assert close(exact.kl(certain, p), math.log(2)) and exact.kl(p, certain).item() == math.inf
    assert exact.kl(certain, certain).item() == 0 and exact.entropy(certain).item() == 0


@pytest.mark.parametrize("seed", range(10))
def test_kl_is_positive_and_zero_only_between_equals(seed):
    lm, other = random_lm(seed=seed), random_lm(seed=seed + 100)
    assert lm.kl(other) > 0.01 and lm.reverse_kl(other) > 0.01  # tables of spread 1 lie far apart
    assert abs(lm.kl(other).item() - lm.reverse_kl(other).item()) > 1e-3  # and are no mirror images
    assert close(lm.kl(other), other.reverse_kl(lm))
    assert lm.kl(lm.frozen()).item() == 0 and lm.total_variation(lm.frozen()).item() == 0
    nearby = lm.frozen()
    nearby.model.logits[0, 0, 0] += 1e-3
    assert 1e-9 < lm.kl(nearby).item() < 1e-6  # 1/2 Var(shift) = 1e-6 p (1 - p) / 2


def test_sequence_kl_is_the_sum_of_token_kls_over_prefixes():
    lm, other = random_lm(3, 3), random_lm(3, 3, seed=1)
    per_prefix = exact.kl(lm.next_token_log_probs(), other.next_token_log_probs())  # (27, 3), by the prefix of each token
    assert close(lm.kl(other), lm.expected(per_prefix.sum(1)))


@pytest.mark.parametrize("seed", range(10))
def test_total_variation_lies_within_its_bounds(seed):
    p, q, r = (random_lm(seed=seed + 100 * i, spread=0.3 + i) for i in range(3))
    distance, nats = p.total_variation(q).item(), p.kl(q).item()
    assert 0 < distance < 1 and close(q.total_variation(p), distance)
    assert distance <= math.sqrt(nats / 2)  # Pinsker
    assert distance <= math.sqrt(1 - math.exp(-nats))  # Bretagnolle and Huber
    assert distance <= p.total_variation(r).item() + r.total_variation(q).item()


def test_total_variation_is_the_largest_difference_of_any_event():
    p, q = random_lm(2, 3), random_lm(2, 3, seed=1)
    gap = (p.probs() - q.probs()).tolist()
    largest = max(abs(sum(itertools.compress(gap, event))) for event in itertools.product([0, 1], repeat=8))
    assert close(p.total_variation(q), largest)


def test_distributions_stack():
    lms = [random_lm(3, 2, seed=s) for s in range(3)]
    others = [random_lm(3, 2, seed=s + 10) for s in range(3)]
    log_p, log_q = (torch.stack([lm.log_probs() for lm in group]) for group in (lms, others))
    reward = normal(3, 9, seed=6)
    assert close(exact.kl(log_p, log_q), torch.stack([a.kl(b) for a, b in zip(lms, others)]))
    assert close(exact.total_variation(log_p, log_q), torch.stack([a.total_variation(b) for a, b in zip(lms, others)]))
    assert close(exact.entropy(log_p), torch.stack([a.entropy() for a in lms]))
    assert close(exact.optimum(log_p, reward, 0.5), torch.stack([a.optimum(r, 0.5) for a, r in zip(lms, reward)]))
    assert close(exact.log_partition(log_p, reward, 0.5), torch.stack([a.log_partition(r, 0.5) for a, r in zip(lms, reward)]))
    assert close(exact.preference_matrix(reward), torch.stack([a.preferences(r) for a, r in zip(lms, reward)]))


# The optimum


@pytest.mark.parametrize("beta", [0.05, 0.5, 5.0])
@pytest.mark.parametrize("eos", [None, 1])
def test_the_objective_falls_short_of_its_maximum_by_beta_kl_to_the_optimum(beta, eos):
    reference = random_lm(3, 3, eos=eos).frozen()
    reward = normal(len(reference), seed=7)
    target = reference.optimum(reward, beta)
    assert close(target.exp().sum(), 1.0)
    maximum = beta * reference.log_partition(reward, beta)
    for seed in range(5):
        pi = random_lm(3, 3, eos=eos, seed=seed + 1)
        objective = pi.expected(reward) - beta * pi.kl(reference)
        assert close(objective, maximum - beta * pi.kl(target)) and objective < maximum
    log_p = torch.full((len(reference),), -math.inf, dtype=torch.float64)
    log_p[2] = 0.0  # a policy that always says one thing: the identity needs no full support
    only = random_lm(3, 3, eos=eos)
    only.set_distribution(log_p)
    assert close(only.expected(reward) - beta * only.kl(reference), maximum - beta * only.kl(target))


def test_the_objective_is_flat_at_the_optimum_and_nowhere_near():
    reference = random_lm(3, 3).frozen()
    reward = normal(27, seed=8)
    policy = random_lm(3, 3, seed=1)
    far = policy.gradient(policy.expected(reward) - 0.5 * policy.kl(reference))
    policy.set_distribution(reference.optimum(reward, 0.5))
    assert far.abs().max() > 0.01
    assert close(policy.gradient(policy.expected(reward) - 0.5 * policy.kl(reference)), 0.0)


def test_the_optimum_in_plain_python_and_its_limits():
    reference = random_lm(2, 2).frozen()
    reward = torch.tensor([1.0, -1.0, 0.5, 2.0])
    weights = [p * math.exp(r / 0.7) for p, r in zip(reference.probs().tolist(), reward.tolist())]
    assert close(reference.optimum(reward, 0.7).exp(), torch.tensor(weights, dtype=torch.float64) / sum(weights))
    assert close(reference.log_partition(reward, 0.7), math.log(sum(weights)))
    assert close(reference.optimum(reward, 1e-3).exp(), torch.tensor([0.0, 0.0, 0.0, 1.0]))  # exp(-1000 / 1) elsewhere
    # exp(r / beta) = 1 + r / beta + ..., with |r| / beta at most 2e-12 here
    assert close(reference.optimum(reward, 1e12), reference.log_probs(), 1e-11)
    assert close(reference.optimum(reward + 3.0, 0.7), reference.optimum(reward, 0.7))  # only differences of reward count


# Preferences


def test_preferences_are_bradley_terry():
    lm = EnumerableLM.tabular(3, 2)
    reward = 3 * normal(9, seed=9)
    matrix = lm.preferences(reward)
    assert matrix.shape == (9, 9) and close(matrix + matrix.T, 1.0)
    assert close(matrix.diagonal(), 0.5)
    assert close(torch.logit(matrix), reward[:, None] - reward[None, :])
    pairs = torch.tensor([[0, 1], [1, 0], [8, 8], [3, 7]])
    assert close(lm.preferences(reward, pairs), matrix[pairs[:, 0], pairs[:, 1]])
    for i, j in pairs.tolist():
        strengths = math.exp(reward[i]), math.exp(reward[j])
        assert close(matrix[i, j], strengths[0] / sum(strengths))


def test_preferences_at_margins_of_1000_are_finite():
    extreme = EnumerableLM.tabular(2, 1).preferences(torch.tensor([1000.0, 0.0]))
    assert extreme.tolist() == [[0.5, 1.0], [0.0, 0.5]]


def test_the_optimum_carries_the_reward_that_judged():
    """beta log(pi*/pi_ref) gives the same preferences as the reward: the partition function cancels in every pair."""
    reference = random_lm(3, 2).frozen()
    reward = normal(9, seed=10)
    implicit = 0.3 * (reference.optimum(reward, 0.3) - reference.log_probs())
    assert close(reference.preferences(implicit), reference.preferences(reward))


# Samples


@pytest.mark.parametrize("eos", [None, 0])
def test_sample_frequencies_lie_within_four_sigma(eos):
    lm = random_lm(3, 3, eos=eos)
    count = 20_000
    places = lm.sample(count, seeded(11))
    p = lm.probs().detach()
    frequency = torch.bincount(places, minlength=len(lm)) / count
    assert places.shape == (count,) and len(places.unique()) > len(lm) / 2
    assert ((frequency - p).abs() <= 4 * (p * (1 - p) / count).sqrt()).all()
    assert torch.equal(places, lm.sample(count, seeded(11))) and not torch.equal(places, lm.sample(count, seeded(12)))


def test_chosen_and_rejected_follow_the_judge():
    lm = random_lm(2, 2)
    reward = torch.tensor([0.0, 1.0, -1.0, 2.0], dtype=torch.float64)
    count = 20_000
    pairs = lm.sample_pairs(count, reward, seeded(13))
    p = lm.probs().detach()
    # (i, j) comes out when i and j are drawn, in either order, and i wins; for i = j both orders are one and the same draw
    joint = 2 * p[:, None] * p[None, :] * lm.preferences(reward)
    assert close(joint.sum(), 1.0)
    frequency = torch.bincount(pairs[:, 0] * 4 + pairs[:, 1], minlength=16).reshape(4, 4) / count
    assert ((frequency - joint).abs() <= 4 * (joint * (1 - joint) / count).sqrt()).all()


def test_rewards_see_the_tokens_that_were_generated():
    lm = EnumerableLM.tabular(3, 3, eos=1)
    assert torch.equal(lm.rewards(len), lm.lengths.double())
    assert lm.rewards(lambda tokens: tokens.count(1)).tolist() == [float(1 in s) for s in lm.sequences.tolist()]
    assert close(lm.expected(lm.rewards(lambda tokens: 1.0)), 1.0)


# Setting a distribution


@pytest.mark.parametrize("eos", [None, 0, 2])
def test_a_table_takes_any_distribution(eos):
    lm = random_lm(3, 4, eos=eos)
    log_p = (3 * normal(len(lm), seed=14)).log_softmax(-1)
    lm.set_distribution(log_p)
    assert close(lm.log_probs(), log_p) and lm.kl(log_p).item() < EXACT


def test_a_table_takes_zeros_and_probabilities_too_small_for_floats():
    lm = random_lm(2, 3)
    log_p = torch.tensor([-math.inf, -math.inf, 0.0, -900.0, -1000.0, -2000.0, -math.inf, -math.inf], dtype=torch.float64)
    lm.set_distribution(log_p)
    assert close(lm.log_probs(), log_p)  # exp(-900) is 0 in float64, its log is not
    assert (lm.model.logits[0, 3] == 0).all()  # the prefix 0 0 is never reached


# Other models


class SumOfEmbeddings(torch.nn.Module):
    """A causal model in five lines, with logits as a plain tensor; `peek` lets it see the token it is to predict."""

    def __init__(self, vocabulary, seed=0, peek=False):
        super().__init__()
        self.table = torch.nn.Parameter(normal(vocabulary, vocabulary, seed=seed))
        self.peek = peek

    def forward(self, tokens):
        seen = self.table[tokens].cumsum(1)
        return torch.cat([seen[:, 1:], seen[:, -1:]], dim=1) if self.peek else seen


def test_a_model_that_sees_the_future_has_more_or_less_mass_than_one():
    assert close(EnumerableLM(SumOfEmbeddings(3), 3, 3).probs().sum(), 1.0)
    assert abs(EnumerableLM(SumOfEmbeddings(3, peek=True), 3, 3).probs().sum().item() - 1) > 0.01


def test_dropout_is_off_while_measuring_and_modes_are_left_alone():
    model = torch.nn.Sequential(SumOfEmbeddings(3), torch.nn.Dropout(0.5))
    lm = EnumerableLM(model, 3, 2)
    model[1].train()
    model[0].eval()
    assert torch.equal(lm.log_probs(), lm.log_probs())
    assert model.training and model[1].training and not model[0].training


def gpt2(vocabulary=4, seed=0, dtype=torch.float64):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=vocabulary, n_positions=8, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config).to(dtype)
    with torch.no_grad():  # the usual initialisation is nearly uniform; ten times that is not
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10)
    return model


# float32 logits of size 10 carry errors of about 1e-6 each, and a sequence adds three of them.
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, EXACT), (torch.float32, 1e-5)])
@pytest.mark.parametrize("prompt", [(0,), (2, 1, 3)])
@pytest.mark.parametrize("eos", [None, 3])
def test_gpt2_equals_scoring_token_by_token(dtype, tolerance, prompt, eos):
    model = gpt2(dtype=dtype)
    lm = EnumerableLM(model, 4, 3, prompt=prompt, eos=eos)
    by_hand = []
    model.eval()
    with torch.no_grad():
        for row, size in zip(lm.sequences.tolist(), lm.lengths.tolist()):
            total = 0.0
            for t in range(size):
                logits = model(torch.tensor([[*prompt, *row[:t]]])).logits[0, -1]
                total += logits.double().log_softmax(-1)[row[t]].item()
            by_hand.append(total)
    log_probs = lm.log_probs()
    assert log_probs.dtype == torch.float64 and close(log_probs, torch.tensor(by_hand, dtype=torch.float64), tolerance)
    assert close(log_probs.exp().sum(), 1.0, tolerance)
    assert log_probs.std() > 0.5  # far from uniform: a wrong token would show


def test_gpt2_has_exact_policy_gradients_and_a_frozen_reference():
    lm = EnumerableLM(gpt2(), 4, 3)
    reference = EnumerableLM(gpt2(seed=1), 4, 3).frozen()
    reward = lm.rewards(lambda tokens: tokens.count(2))
    gradient = lm.gradient(lm.expected(reward))
    assert gradient.abs().max() > 0.01 and close(gradient, lm.policy_gradient(reward - 1.0))
    assert len(gradient) == sum(p.numel() for p in lm.model.parameters())
    log_ratio = (lm.log_probs() - reference.log_probs()).detach()
    assert close(lm.gradient(lm.kl(reference)), lm.policy_gradient(log_ratio))
    assert all(p.grad is None for p in reference.model.parameters())


# What is refused


@pytest.mark.parametrize(
    "name, make",
    [
        ("vocabulary", lambda: EnumerableLM.tabular(0, 3)),
        ("length", lambda: EnumerableLM.tabular(3, 0)),
        ("length", lambda: EnumerableLM.tabular(4, 8)),
        ("length", lambda: EnumerableLM.tabular(4, 1000)),
        ("length", lambda: EnumerableLM(SumOfEmbeddings(4), 4, 8)),
        ("length", lambda: EnumerableLM(SumOfEmbeddings(4), 4, 10**6)),
        ("length", lambda: EnumerableLM(SumOfEmbeddings(2), 2, 62, eos=0)),
        ("contexts", lambda: EnumerableLM.tabular(3, 2, contexts=0)),
        ("eos", lambda: EnumerableLM.tabular(3, 2, eos=3)),
        ("eos", lambda: EnumerableLM.tabular(3, 2, eos=-1)),
        ("model", lambda: EnumerableLM(len, 3, 2)),
        ("model", lambda: EnumerableLM(SumOfEmbeddings(4), 3, 2).log_probs()),
        ("model", lambda: EnumerableLM(SumOfEmbeddings(3), 3, 2).set_distribution(torch.zeros(9))),
        ("model", lambda: random_lm().frozen().scores()),
        ("prompt", lambda: EnumerableLM(SumOfEmbeddings(3), 3, 2, prompt=())),
        ("prompt", lambda: EnumerableLM(SumOfEmbeddings(3), 3, 2, prompt=(0.5,))),
        ("prompt", lambda: EnumerableLM.tabular(3, 2).given((-1,))),
        ("prompt", lambda: EnumerableLM.tabular(3, 2).given((0, 1))),
        ("tokens", lambda: EnumerableLM.tabular(3, 2).given((1,)).log_probs()),
        ("context", lambda: EnumerableLM.tabular(2, 1).given((1,)).set_distribution(torch.tensor([0.5, 0.5]).log())),
        ("tokens", lambda: TabularLM(3, 2)(torch.tensor([[0, 3]]))),
        ("tokens", lambda: TabularLM(3, 2)(torch.tensor([[0, -1]]))),
        ("tokens", lambda: TabularLM(3, 2)(torch.tensor([[0, 1, 1, 1]]))),
        ("tokens", lambda: TabularLM(3, 2)(torch.tensor([0, 1]))),
        ("by_position", lambda: EnumerableLM.tabular(3, 2, by_position=True).set_distribution(torch.full((9,), 1 / 9).log())),
        ("reward", lambda: EnumerableLM.tabular(3, 2).expected(torch.zeros(8))),
        ("reward", lambda: EnumerableLM.tabular(3, 2).expected(torch.zeros(9, 1))),
        ("reward", lambda: EnumerableLM.tabular(3, 2).expected(torch.tensor(1.0))),
        ("reward", lambda: EnumerableLM.tabular(3, 2).optimum(torch.full((9,), math.nan), 1.0)),
        ("reward", lambda: EnumerableLM.tabular(3, 2).preferences(torch.full((9,), math.inf))),
        ("reward", lambda: EnumerableLM.tabular(3, 2).rewards(lambda tokens: math.nan)),
        ("beta", lambda: EnumerableLM.tabular(3, 2).optimum(torch.zeros(9), 0.0)),
        ("beta", lambda: EnumerableLM.tabular(3, 2).optimum(torch.zeros(9), -1.0)),
        ("beta", lambda: EnumerableLM.tabular(3, 2).log_partition(torch.zeros(9), math.nan)),
        ("beta", lambda: EnumerableLM.tabular(3, 2).log_partition(torch.ones(9), 1e-320)),
        ("other", lambda: EnumerableLM.tabular(3, 2).kl(torch.zeros(9))),
        ("other", lambda: EnumerableLM.tabular(3, 2).kl(torch.full((9,), 1 / 9))),
        ("other", lambda: EnumerableLM.tabular(3, 2).total_variation(torch.full((8,), 1 / 8).log())),
        ("other", lambda: EnumerableLM.tabular(3, 2).reverse_kl(torch.full((9,), math.nan))),
        ("other", lambda: EnumerableLM.tabular(3, 2).kl(EnumerableLM.tabular(3, 3))),
        ("log_probs", lambda: EnumerableLM.tabular(3, 2).set_distribution(torch.zeros(9))),
        ("pairs", lambda: EnumerableLM.tabular(2, 13).preferences(torch.zeros(2**13))),
        ("value", lambda: EnumerableLM.tabular(3, 2).gradient(torch.zeros(()))),
        ("value", lambda: random_lm().gradient(random_lm().log_probs())),
        ("scores", lambda: EnumerableLM.tabular(4, 6).scores()),
    ],
)
def test_errors_name_the_argument_what_was_expected_and_what_came(name, make):
    with pytest.raises(ValueError, match=rf"^{name}: expected .*received"):
        make()


def test_logits_that_are_no_numbers_are_reported_with_their_prefix():
    lm = random_lm(3, 2)
    with torch.no_grad():
        lm.model.logits[0, 2] = math.nan
    with pytest.raises(ValueError, match=r"^model: expected logits without NaN .* after tokens \[0, 1\]"):
        lm.log_probs()


def test_4_to_the_6_sequences_in_under_50_ms():
    lm = random_lm(4, 6)
    seconds = []
    for _ in range(10):  # the fastest of ten: the machine may be busy with something else
        start = time.perf_counter()
        log_probs = lm.log_probs()
        seconds.append(time.perf_counter() - start)
    assert len(log_probs) == 4096 and min(seconds) < 0.05


def test_rewards_from_a_function_or_a_list_keep_all_their_digits():
    policy = EnumerableLM.tabular(2, 1)
    assert policy.rewards(lambda tokens: math.log(3)).tolist() == [math.log(3)] * 2
    third = policy.expected([1 / 3, 1 / 3]).item()
    assert abs(third - 1 / 3) < 1e-15  # float32 would be off by 1e-8
