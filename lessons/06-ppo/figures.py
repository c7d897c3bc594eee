"""Draws the pictures of lesson 6 beside this file and prints every number that its text quotes.

    python lessons/06-ppo/figures.py             two minutes: a dozen runs
    python lessons/06-ppo/figures.py --quick     without the runs of sections 6.13 and 6.14: seconds
"""

import copy
import dataclasses
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from matplotlib.figure import Figure

from toy.given import ppo_run
from toy.given.ppo import PPOConfig
from toy.given.sentences import (
    END, LENGTH, VOCABULARY, Ruler, ValueTable, listed, log_probs_of, reference_policy, sampler, sentence_score, sentence_scores,
    shift_right,
)  # fmt: skip

try:
    from solutions.toy import ppo
except ModuleNotFoundError:  # a student's copy has no solutions: it draws with its own
    from toy import ppo

HERE = Path(__file__).resolve().parent
BETA = 0.5
# the sentence "happy joyful END" of sections 6.3 to 6.5, with log-probabilities and values that are easy to add up
EXAMPLE = {
    "log_probs": torch.tensor([[-1.0, -0.7, -0.2]], dtype=torch.float64),
    "ref_log_probs": torch.tensor([[-1.9, -1.4, -0.9]], dtype=torch.float64),
    "values": torch.tensor([[0.5, 1.0, 1.5]], dtype=torch.float64),
    "mask": torch.ones(1, 3, dtype=torch.bool),
}
LAMBDAS = (0.0, 0.5, 0.8, 0.9, 0.95, 1.0)
SEEDS = 5


class World:
    """Everything about the reference, listed once: sentences, probabilities, which prefix stands before each token."""

    def __init__(self):
        self.reference = reference_policy()
        self.ruler = Ruler(self.reference, BETA)
        self.listed, self.scores = self.ruler.reference, self.ruler.scores
        self.tokens, self.mask, self.lengths = self.listed.sequences, self.listed.mask, self.listed.lengths
        with torch.no_grad():
            self.probs, self.log_probs = self.listed.probs(), self.listed.token_log_probs()
        self.prefixes = sum(VOCABULARY**t for t in range(LENGTH))
        columns = [torch.zeros(len(self.tokens), dtype=torch.long)]
        for column in self.tokens[:, :-1].unbind(1):
            columns.append(columns[-1] * VOCABULARY + 1 + column)
        self.nodes = torch.stack(columns, dim=1)

    def rewards(self, log_probs, beta):
        """The reward of every token of every sentence for a policy with these token log-probabilities."""
        return ppo.kl_penalised_rewards(self.scores, log_probs, self.log_probs, self.mask, beta)

    def values(self, probs, rewards):
        """The exact value of every prefix: the mean of the rewards to come, over all sentences that begin so."""
        to_come = ppo.discounted_returns(rewards, self.mask, 1.0)
        mass, total = (torch.zeros(self.prefixes, dtype=torch.float64) for _ in range(2))
        for t in range(LENGTH):
            real = self.mask[:, t]
            mass.index_add_(0, self.nodes[real, t], probs[real])
            total.index_add_(0, self.nodes[real, t], probs[real] * to_come[real, t])
        return torch.where(mass > 0, total / mass.clamp(min=1e-300), 0.0)

    def gradient(self, rewards, values, lam):
        """Of one sentence's policy gradient sum_t A_t grad log pi(y_t): its exact mean, and the trace of its covariance."""
        advantages, _ = ppo.gae(rewards, values[self.nodes], self.mask, 1.0, lam)
        scores = torch.eye(VOCABULARY, dtype=torch.float64)[self.tokens] - torch.softmax(self.reference.logits[0], -1)[self.nodes]
        mean = torch.zeros(self.prefixes, VOCABULARY, dtype=torch.float64)
        weighted = (self.probs[:, None] * advantages)[..., None] * scores
        mean.index_add_(0, self.nodes.flatten(), weighted.reshape(-1, VOCABULARY))
        second = float((self.probs[:, None] * advantages**2 * (scores**2).sum(-1)).sum())  # prefixes of one sentence all differ
        return mean, second - float((mean**2).sum())


# numbers


def exact_numbers(world):
    """Everything the text says that needs no run: {what: the text as it stands there}."""
    found = {}
    start, best = world.ruler.measure(world.reference), world.ruler.optimum()
    found["sentences"] = f"{len(world.tokens):,} sentences"
    found["reference"] = f"{start['reward']:.4f}"
    found["reference's entropy"] = f"{start['entropy']:.3f} nats"
    found["best objective"] = f"{world.ruler.best:.4f}"
    found["optimum's score"] = f"{best['reward']:.4f}"
    found["optimum's KL"] = f"{best['kl']:.4f} nats"
    found["optimum's entropy"] = f"{best['entropy']:.3f} nats"
    found["tv at the start"] = f"{start['tv']:.3f}"
    found["no END"] = f"{no_end(world, world.log_probs.sum(1)):.0%} of the reference's sentences"
    found["one of the six"] = f"{math.exp(float(world.ruler.target.max())):.3f} each"
    rewards = ppo.kl_penalised_rewards(torch.tensor([2.0]), **pick("log_probs", "ref_log_probs", "mask"), kl_coef=BETA)
    found["penalised rewards"] = row(rewards[0], 2)
    found["their sum"] = f"2 - 0.5 · 2.3 = {float(rewards.sum()):.2f}"
    found["returns"] = "G = " + row(ppo.discounted_returns(rewards, EXAMPLE["mask"], 1.0)[0], 2)
    found["discounted returns"] = row(ppo.discounted_returns(rewards, EXAMPLE["mask"], 0.9)[0], 4)
    advantages, returns = ppo.gae(rewards, EXAMPLE["values"], EXAMPLE["mask"], 1.0, 0.5)
    found["TD errors"] = r"\delta = " + row(ppo.gae(rewards, EXAMPLE["values"], EXAMPLE["mask"], 1.0, 0.0)[0][0], 2)
    found["advantages"] = "A = " + row(advantages[0], 4)
    found["k-step advantages"] = "0.05, 0.20 and 0.35"
    found["mixed"] = f"0.5 · 0.05 + 0.25 · 0.20 + 0.25 · 0.35 = {float(advantages[0, 0]):.4f}"
    found["value targets"] = "R = " + row(returns[0], 4)
    found["lambda 1, by hand"] = row(ppo.gae(rewards, EXAMPLE["values"], EXAMPLE["mask"], 1.0, 1.0)[0][0], 2)
    cut, _ = ppo.gae(rewards, EXAMPLE["values"], EXAMPLE["mask"], 1.0, 0.5, torch.tensor([2.0], dtype=torch.float64))
    found["bootstrapped"] = row(cut[0], 4)
    for (ratio, advantage), (gain, slope) in quadrants().items():
        found[f"ratio {ratio}, advantage {advantage}"] = f"| {ratio:g} | {advantage:+d} | {gain:g} | {slope:g} |"
    found["20 tokens"] = f"$1.1^{{20}}$ = {1.1**20:.1f}"
    found["100 tokens"] = f"$1.1^{{100}}$ = {1.1**100:,.0f}"
    found |= kl_numbers() | value_clip_numbers() | whitening_numbers() | optimum_numbers(world) | lambda_numbers(world)
    return found


def pick(*names):
    return {name: EXAMPLE[name] for name in names}


def no_end(world, log_probs):
    """The probability of a sentence without END."""
    return float(log_probs.exp()[~(world.tokens == END).any(1)].sum())


def quadrants(clip=0.2):
    """(ratio, advantage): (gain, its slope in the ratio), for the table of section 6.8."""
    found = {}
    for ratio in (1.5, 1.1, 0.9, 0.5):
        for advantage in (1, -1):
            log_probs = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
            one = torch.full((1, 1), float(advantage), dtype=torch.float64)
            loss = ppo.clipped_surrogate(log_probs, torch.zeros_like(one), one, torch.ones(1, 1, dtype=torch.bool), clip)
            loss.backward()
            found[ratio, advantage] = (round(-loss.item(), 10), round(-log_probs.grad.item() / ratio, 10) + 0.0)
    return found


def kl_numbers():
    old, new = np.array([0.5, 0.25, 0.25]), np.array([0.6, 0.3, 0.1])
    ratio = new / old
    return {
        "KL(old||new)": f"{old @ np.log(old / new):.4f} nats",
        "k3, word by word": row(ratio - 1 - np.log(ratio), 4),
        "k3's mean": f"mean is {old @ (ratio - 1 - np.log(ratio)):.4f}",
        "k3 upside down": f"{old @ (1 / ratio - 1 + np.log(ratio)):.4f}",
    }


def value_clip_numbers():
    found = {}
    for target in (1.4, 2.0, 0.5):
        value = torch.tensor([[1.5]], dtype=torch.float64, requires_grad=True)
        old, goal = torch.ones_like(value), torch.full_like(value, target)
        loss = ppo.clipped_value_loss(value, old, goal, torch.ones(1, 1, dtype=torch.bool), 0.2)
        loss.backward()
        plain, near = (1.5 - target) ** 2, (1.2 - target) ** 2
        larger = f"{2 * loss.item():.2f} | {value.grad.item():g}"
        found[f"value clip, return {target}"] = f"| {target:g} | {plain:.2f} | {near:.2f} | {larger} |"
    return found


def whitening_numbers():
    mask, found = torch.ones(1, 2, dtype=torch.bool), {}
    for scale in (0.1, 1.0, 100.0):
        x = scale * torch.tensor([[1.0, 3.0]], dtype=torch.float64)
        right = ppo.whiten(x, mask)
        wrong = (x - x.mean()) / x.std(correction=0).sqrt()
        found[f"whitened at {scale:g}"] = f"| {row(x[0], 1)} | {scale:g} | {row(right[0], 1)} | {row(wrong[0], 3)} |"
    return found


def optimum_numbers(world):
    """At pi*, with its exact values, every TD error of every sentence is 0."""
    best = listed(copy.deepcopy(world.reference))
    best.set_distribution(world.ruler.target)
    with torch.no_grad():
        log_probs = best.token_log_probs()
    rewards = world.rewards(log_probs, BETA)
    values = world.values(world.ruler.target.exp(), rewards)
    errors, _ = ppo.gae(rewards, values[world.nodes], world.mask, 1.0, 0.0)
    assert float(errors.abs().max()) < 1e-9  # float64 sums of a few terms of size 1 to 10
    before = world.rewards(world.log_probs, BETA)
    start, _ = ppo.gae(before, world.values(world.probs, before)[world.nodes], world.mask, 1.0, 0.0)
    largest = f"up to {float(start.abs().max()):.2f}"
    return {"value of the start": f"V(start) = {float(values[0]):.4f}", "TD errors before training": largest}


def lambda_numbers(world):
    """Section 6.5: the exact bias and variance of the gradient under the reference, in units of its squared length."""
    rows, found = bias_and_variance(world), {}
    for name, among in rows.items():
        for lam in LAMBDAS:
            bias, spread = among[lam]
            found[f"lambda {lam:g}, {name}"] = f"{bias:.3f} | {spread:.1f}"
    return found


def bias_and_variance(world, lambdas=LAMBDAS):
    """{kind of value function: {lambda: (squared bias, variance)}} of one sentence's gradient, over the squared true gradient."""
    rewards = world.rewards(world.log_probs, BETA)
    true = world.values(world.probs, rewards)
    exact, _ = world.gradient(rewards, true, 1.0)
    size, found = float((exact**2).sum()), {}
    for name, values in (("no values", 0 * true), ("half the value", 0.5 * true), ("true values", true)):
        found[name] = {}
        for lam in lambdas:
            mean, variance = world.gradient(rewards, values, lam)
            found[name][lam] = (float(((mean - exact) ** 2).sum()) / size, variance / size)
    return found


def one_batch(clip, steps=100, count=256, learning_rate=0.05, seed=0):
    """Section 6.7: gradient steps on one rollout of the reference, without end. Returns (promise, objective, largest ratio).

    promise: the objective at the start, plus the surrogate a sentence that the batch claims to have gained.
    """
    reference = reference_policy()
    ruler, policy = Ruler(reference, BETA), copy.deepcopy(reference).requires_grad_(True)
    config = PPOConfig(batch_size=count, kl_coef=BETA)
    batch = ppo.rollout(policy, ValueTable(), reference, sampler(seed), sentence_scores, config)
    rewards = ppo.kl_penalised_rewards(batch.scores, batch.log_probs, batch.ref_log_probs, batch.mask, BETA)
    returns = ppo.discounted_returns(rewards, batch.mask, 1.0)
    advantages = (returns - ppo.masked_mean(returns, batch.mask)) * batch.mask
    optimizer = torch.optim.Adam(policy.parameters(), lr=learning_rate)
    a_sentence, start, found = float(batch.mask.sum()) / count, ruler.measure(policy)["objective"], []
    for _ in range(steps + 1):
        log_probs = log_probs_of(batch.tokens, policy(shift_right(batch.tokens)))
        loss = ppo.clipped_surrogate(log_probs, batch.log_probs, advantages, batch.mask, clip)
        ratio = (log_probs.detach() - batch.log_probs).exp()[batch.mask]
        found.append((start - loss.item() * a_sentence, ruler.measure(policy)["objective"], float(ratio.max())))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return np.array(found).T


def batch_numbers(both):
    clipped, free = both
    at = int(free[1].argmax())
    return {
        "the first step": f"promises {free[0][1] - free[0][0]:.2f} and brings {free[1][1] - free[1][0]:.2f}",
        "promise without clip": f"{free[0][-1]:.2f}",
        "objective without clip": f"{free[1][-1]:.2f}",
        "best without clip": f"{free[1][at]:.2f} after {at} steps",
        "largest ratio without clip": f"{free[2][-1]:.0f}",
        "promise with clip": f"{clipped[0][-1]:.2f}",
        "objective with clip": f"{clipped[1][-1]:.2f}",
        "best with clip": f"{clipped[1].max():.2f} at its best",
        "largest ratio with clip": f"{clipped[2][-1]:.1f}",
    }


# runs


def measure():
    """The runs of sections 6.13 and 6.14, by name."""
    base = ppo_run.Config()

    def learn(**changes):
        return ppo_run.learn(ppo.train, dataclasses.replace(base, **changes))

    found = {"run": learn()}
    found["whitened, constant rate"] = learn(anneal=False)
    found["not whitened, constant rate"] = learn(anneal=False, whiten=False)
    found["not whitened"] = learn(whiten=False)
    for lam in (0.0, 0.95, 1.0):
        found[f"lambda {lam:g}"] = learn(lam=lam, updates=20, anneal=False)
    for name, clip in (("clipped", 0.2), ("not clipped", 1e9)):
        many = dict(clip=clip, epochs=16, learning_rate=0.1, updates=40, anneal=False, batch_size=256, minibatch_size=256)
        found[f"16 epochs, {name}"] = [learn(seed=seed, **many) for seed in range(SEEDS)]
    return found


def measured_numbers(found):
    run, numbers = found["run"].rows, {}
    for step in (0, 5, 10, 20, 200):
        line = run[step]
        numbers[f"run, update {step}"] = (
            f"| {step} | {line['exact_reward']:.3f} | {line['exact_kl']:.3f} | {line['objective']:.3f} | {line['tv']:.3f} |"
        )
    for step in (1, 5, 20, 200):
        line = run[step]
        numbers[f"diagnostics, update {step}"] = (
            f"| {step} | {round(line['policy_loss'], 3) + 0.0:.3f} | {line['approx_kl']:.5f} | {line['clip_fraction']:.3f} | "
            f"{line['explained_variance']:.2f} | {line['completion_length']:.2f} |"
        )
    for name in ("whitened, constant rate", "not whitened, constant rate", "not whitened", "run"):
        tail = [line["tv"] for line in found[name].rows[-50:]]
        numbers[f"tv, {name}"] = f"{np.median(tail):.3f} | {found[name].rows[-1]['tv']:.4f}"
    for lam in (0.0, 0.95, 1.0):
        lines = found[f"lambda {lam:g}"].rows
        after = " | ".join(f"{lines[step]['objective']:.2f}" for step in (2, 5, 10, 20))
        numbers[f"lambda {lam:g}"] = f"| {lam:g} | {after} |"
    for name in ("clipped", "not clipped"):
        ends = [one.rows[-1] for one in found[f"16 epochs, {name}"]]
        objective, reward = (np.median([end[key] for end in ends]) for key in ("objective", "exact_reward"))
        worst = min(line["objective"] for one in found[f"16 epochs, {name}"] for line in one.rows[1:])
        kl = np.median([end["exact_kl"] for end in ends])
        numbers[f"16 epochs, {name}"] = f"{reward:.2f} | {kl:.2f} | {objective:.2f} | {worst:.2f}"
    pairs = list(zip(*(found[f"16 epochs, {name}"] for name in ("not clipped", "clipped"))))
    lines = [both for pair in pairs for both in zip(*(one.rows[1:] for one in pair))]
    above = sum(free["exact_reward"] > clipped["exact_reward"] for free, clipped in lines)
    ahead = sum(free["objective"] > clipped["objective"] for free, clipped in lines)
    numbers["score above, no clip"] = f"{above / len(lines):.0%} of all updates"
    numbers["objective above, no clip"] = f"all but {ahead} of {len(lines)}"
    early = [np.mean([found[name].rows[step]["tv"] for step in range(1, 11)]) for name in ("run", "not whitened")]
    numbers["the first ten updates"] = f"{early[0]:.2f} with whitening and {early[1]:.2f} without"
    return numbers


def bug_numbers(bug):
    """Section 6.15: what the file shows, line by line, and how a right loop does with the same sentences and settings."""
    lines, right = bug_run(bug), right_run()
    found = {"right loop, update 20": f"$J$ = {right[20]['objective']:.2f} and a total variation of {right[20]['tv']:.2f}"}
    assert all(right[step]["reward"] < lines[step - 1][1]["reward"] for step in (1, 2))  # "even faster than a right program"
    for step in (1, 2, 5, 10, 20, 30):
        line, exact = lines[step - 1]
        ratios = f"{line['least']:.2f} to {line['largest']:.2f}"
        found[f"bug, update {step}"] = (
            f"| {step} | {exact['reward']:.2f} | {exact['objective']:.2f} | {exact['tv']:.2f} | {ratios} |"
        )
    return found


def bug_run(bug, seed=1):
    reference = reference_policy()
    policy, value, ruler, lines = copy.deepcopy(reference).requires_grad_(True), ValueTable(), Ruler(reference, BETA), []

    def note(line):
        lines.append((line, ruler.measure(policy)))

    bug.train_writer(policy, value, reference, sampler(seed), after_update=note)
    return lines


def right_run(updates=20, seed=1):
    """The exact figures of a run with the lesson's own parts and the settings of the silent bug's file, from the start on."""
    reference = reference_policy()
    policy, value, ruler = copy.deepcopy(reference).requires_grad_(True), ValueTable(), Ruler(reference, BETA)
    optimizer = torch.optim.SGD([*policy.parameters(), *value.parameters()], lr=5.0)
    config = PPOConfig(batch_size=256, minibatch_size=256, epochs=16, value_clip=1e9)
    found = [ruler.measure(policy)]
    ppo.train(policy, value, reference, sampler(seed), sentence_scores, optimizer, config, updates,
              lambda line: found.append(ruler.measure(policy)))  # fmt: skip
    return found


# pictures


def draw_clip(clip=0.2):
    """The clipped objective against the ratio, for both signs of the advantage."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for axes, advantage in zip(figure.subplots(1, 2), (1.0, -1.0)):
        ratio = np.linspace(0.2, 1.9, 400)
        free, clipped = ratio * advantage, ratio.clip(1 - clip, 1 + clip) * advantage
        axes.plot(ratio, free, color="tab:gray", ls="--", lw=1.3, label="ρ A")
        axes.plot(ratio, clipped, color="tab:orange", ls=":", lw=2.2, label="clip(ρ) A")
        axes.plot(ratio, np.minimum(free, clipped), color="tab:blue", lw=3, alpha=0.8, label="the smaller one: PPO")
        for edge in (1 - clip, 1 + clip):
            axes.axvline(edge, color="black", lw=0.6, ls=":")
        axes.plot([1], [advantage], "o", color="black")
        flat, back = ((1.56, 1.03), (0.5, 0.93)) if advantage > 0 else ((0.42, -1.03), (1.56, -1.08))
        axes.annotate("gone far enough:\nno gradient", flat, ha="center", color="tab:blue", fontsize=9)
        axes.annotate("gone the wrong way:\nbrought back", back, ha="center", color="tab:blue", fontsize=9)
        sign = "A = +1: a good token" if advantage > 0 else "A = -1: a bad token"
        axes.set(title=sign, xlabel="ratio ρ = new / old probability", ylabel="gain of the token")
        axes.legend(fontsize=8, loc="upper left" if advantage > 0 else "upper right")
        axes.grid(alpha=0.2)
    return figure


def draw_gae(world):
    """Left: weights of k-step advantages. Right: exact bias and variance of the gradient against lambda."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    weights, bias, variance = figure.subplots(1, 3)
    steps = np.arange(1, 21)
    for lam, colour in ((0.5, "tab:red"), (0.8, "tab:orange"), (0.95, "tab:blue")):
        weights.plot(steps, (1 - lam) * lam ** (steps - 1), "o-", ms=4, color=colour, label=f"λ = {lam}")
    weights.set(xlabel="k", ylabel="weight of the k-step advantage", xticks=[1, 5, 10, 15, 20])
    weights.set_title("What λ mixes (a long sentence)")
    weights.legend(fontsize=9)
    grid = tuple(np.linspace(0, 1, 41))
    colours = {"no values": "tab:gray", "half the value": "tab:orange", "true values": "tab:green"}
    for name, among in bias_and_variance(world, grid).items():
        bias.plot(grid, [among[lam][0] for lam in grid], color=colours[name], lw=2, label=name)
        variance.plot(grid, [among[lam][1] for lam in grid], color=colours[name], lw=2, label=name)
    bias.set(xlabel="λ", ylabel="squared bias / squared gradient", title="Bias of the gradient, exactly")
    variance.set(xlabel="λ", ylabel="variance / squared gradient", ylim=(0, None))
    variance.set_title("Variance of one sentence's gradient, exactly")
    bias.legend(fontsize=9)
    for axes in (weights, bias, variance):
        axes.grid(alpha=0.2)
    return figure


def draw_one_batch(both):
    """What the surrogate promises and what is true, along gradient steps on one and the same rollout."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for axes, (promise, objective, _), title in zip(figure.subplots(1, 2, sharey=True), both[::-1], ("no clip", "clip 0.2")):
        axes.plot(promise, color="tab:orange", ls="--", lw=2, label="what the batch promises")
        axes.plot(objective, color="black", lw=2, label="E[score] - β KL, exactly")
        axes.axhline(objective[0], color="gray", lw=0.8, ls=":")
        axes.set(title=title, xlabel="gradient steps on the same 256 sentences")
        axes.grid(alpha=0.2)
        axes.legend(fontsize=9, loc="upper right")
    figure.axes[0].set_ylabel("units of reward")
    figure.axes[0].set_ylim(-1.0, 4.0)
    return figure


def draw_distance(found):
    """Total variation to the optimum, with and without whitening, with a constant and a falling rate."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, label, colour in (
        ("whitened, constant rate", "whitened, constant rate", "tab:red"),
        ("not whitened, constant rate", "not whitened, constant rate", "tab:orange"),
        ("run", "whitened, rate falling to 0", "tab:blue"),
        ("not whitened", "not whitened, rate falling to 0", "tab:green"),
    ):
        axes.plot([line["tv"] for line in found[name].rows], color=colour, lw=1.3, label=label)
    axes.set(yscale="log", xlabel="update", ylabel="total variation to the optimum")
    axes.grid(alpha=0.2)
    axes.legend(fontsize=9)
    return figure


def draw_epochs(found):
    """Sixteen epochs a rollout, with the clip and without: the score and the objective."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    for name, colour in (("clipped", "tab:blue"), ("not clipped", "tab:red")):
        for index, one in enumerate(found[f"16 epochs, {name}"]):
            label = name if index == 0 else None
            left.plot([line["exact_reward"] for line in one.rows], color=colour, lw=1.1, alpha=0.8, label=label)
            right.plot([line["objective"] for line in one.rows], color=colour, lw=1.1, alpha=0.8, label=label)
    right.axhline(found["run"].ruler.best, color="black", ls=":", label="best possible")
    left.set(title="E[score]", xlabel="update", ylabel="units of reward")
    right.set(title="E[score] - β KL", xlabel="update", ylim=(-4, 2))
    for axes in (left, right):
        axes.grid(alpha=0.2)
        axes.legend(fontsize=9, loc="lower right")
    return figure


def draw_bug(bug):
    """The reward that a silent bug reports, and how far one update moves its tokens."""
    lines = bug_run(bug)
    figure = Figure(figsize=(10, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = np.arange(1, len(lines) + 1)
    left.plot(steps, [line["reward"] for line, _ in lines], color="tab:green", lw=2, label="reward, as the file logs it")
    left.set(xlabel="update", ylabel="mean score of the rollout", title="The reward rises")
    least, largest = ([line[name] for line, _ in lines] for name in ("least", "largest"))
    right.fill_between(steps, least, largest, color="tab:purple", alpha=0.35, label="ratios of the tokens after the update")
    right.axhspan(0.8, 1.2, color="tab:gray", alpha=0.4, label="the interval of the clip")
    right.axhline(1, color="black", lw=0.6)
    right.set(xlabel="update", ylabel="new / old probability", yscale="log", title="The tokens move")
    right.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    right.set_ylim(0.15, 7)
    right.minorticks_off()
    for axes, corner in ((left, "lower right"), (right, "upper left")):
        axes.grid(alpha=0.2)
        axes.legend(fontsize=9, loc=corner)
    return figure


def row(numbers, digits):
    """(0.05, 0.15): as the text writes a row."""
    return "(" + ", ".join(f"{round(float(n), digits) + 0.0:.{digits}f}" for n in numbers) + ")"


def save(figure, name):
    figure.savefig(HERE / f"{name}.png", dpi=110)


def planted():
    """The silent bug as the learner finds it; None in a copy where it is not to be had."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("ppo_bug_as_found", HERE.parents[1] / "toy" / "ppo_bug.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    torch.set_num_threads(1)  # tables this small are slower on two
    world, bug = World(), planted()
    both = (one_batch(0.2), one_batch(1e9))
    numbers = exact_numbers(world) | batch_numbers(both) | bug_numbers(bug)
    pictures = {"clip": draw_clip(), "gae": draw_gae(world), "one_batch": draw_one_batch(both), "bug": draw_bug(bug)}
    for name, figure in pictures.items():
        save(figure, name)
    if "--quick" not in sys.argv:
        found = measure()
        numbers |= measured_numbers(found)
        save(ppo_run.draw(found["run"].rows, found["run"].ruler), "run")
        save(draw_distance(found), "distance")
        save(draw_epochs(found), "epochs")
    for name, text in numbers.items():
        print(f"{name:<36}{text}")


if __name__ == "__main__":
    main()
