"""Draws the pictures of lesson 3 beside this file and prints every number that its text quotes.

    python lessons/03-word-agent/figures.py             two to four minutes: 320 agents are trained
    python lessons/03-word-agent/figures.py --quick     without the comparison of section 3.8: seconds
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from toy.given import word_run
from toy.given.words import POSITIVE, SCORES, WORDS

try:
    from solutions.toy import word_agent
except ModuleNotFoundError:  # a student's copy has no solutions: it draws with its own agent
    from toy import word_agent

HERE = Path(__file__).resolve().parent
SEEDS, ITERATIONS, LEARNING_RATE = 20, 300, 1e-2
SCORE = np.array(SCORES)
POLICY = np.array([0.20, 0.15, 0.10, 0.30, 0.15, 0.10])  # the worked example of section 3.5: the likeliest word is "sad"
EPSILON = 0.1
# name: (mode, epsilon, weighted)
WAYS = {
    "sampling": ("sample", 0.0, False),
    "argmax": ("argmax", 0.0, False),
    "epsilon-greedy": ("argmax", EPSILON, False),
    "epsilon-greedy, weighted": ("argmax", EPSILON, True),
}


def softmax(logits):
    e = np.exp(logits - logits.max())
    return e / e.sum()


def one_step(word=3, advantage=-1.0, learning_rate=0.5):
    """Section 3.3: the loss, its gradient, and the probabilities after one step from the uniform policy."""
    logits = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    loss = word_agent.policy_loss(logits, word, advantage)
    loss.backward()
    return loss.item(), logits.grad.numpy(), softmax(-learning_rate * logits.grad.numpy())


def variance(policy, rewards, baseline, behaviour=None):
    """Of one sample of the gradient by the logits, (r - b) (e_w - pi), importance-weighted if drawn from `behaviour`: exactly."""
    drawn = policy if behaviour is None else behaviour
    samples = (policy / drawn * (rewards - baseline))[:, None] * (np.eye(6) - policy)  # (word drawn, logit)
    mean = drawn @ samples
    return drawn @ (samples**2).sum(axis=1) - mean @ mean


def baseline_orders(rewards):
    """Section 3.4: (n, reward, baseline before, advantage, advantage with the baseline updated first), a row a reward."""
    right, wrong, rows = word_agent.Baseline(), word_agent.Baseline(), []
    for n, reward in enumerate(rewards, start=1):
        before = right.get()
        right.update(reward)
        wrong.update(reward)
        rows.append((n, reward, before, reward - before, reward - wrong.get()))
    return rows


def behaviour(policy, epsilon, mode):
    return word_agent.behaviour_policy(torch.tensor(np.log(policy)), epsilon, mode).numpy()


def expected_update(policy, drawn, rewards, weighted, baseline=0.0):
    """The mean over `drawn` of weight (r - b) (e_w - pi): what one iteration adds to the logits on average, per unit of rate."""
    weight = policy / drawn if weighted else np.ones(6)
    return (drawn * weight * (rewards - baseline)) @ (np.eye(6) - policy)


def surrogate(p, baseline):
    """Section 3.7: the expected loss of a policy with P(positive) = p, spread evenly within each kind of word (eq. 3.12)."""
    policy = np.where(SCORE > 0, p / 3, (1 - p) / 3)
    kept = policy > 0
    return float(-(policy * (SCORE - baseline))[kept] @ np.log(policy[kept]))


def train_all(way, use_baseline, shift, seeds=SEEDS):
    """The runs of section 3.8: one agent a seed."""
    mode, epsilon, weighted = WAYS[way]
    settings = dict(iterations=ITERATIONS, learning_rate=LEARNING_RATE, epsilon=epsilon, mode=mode, weighted=weighted)
    return [word_run.run(word_agent, seed, use_baseline=use_baseline, shift=shift, **settings) for seed in range(seeds)]


def cells(runs):
    """What the tables of section 3.8 say of runs: how many end at 0.99 or above, the median, the worst, the likeliest word."""
    ends = np.array([float(run.positive[-1]) for run in runs])
    largest = np.array([softmax(run.logits.numpy()).max() for run in runs])
    return f"{(ends >= 0.99).sum()} of {len(runs)} | {np.median(ends):.4f} | {ends.min():.4f} | {np.median(largest):.2f}"


def row(way, runs):
    """A row of the table; runs: by use of the baseline."""
    return f"| {way} | {cells(runs[False])} | {cells(runs[True])} |"


def below_half(runs):
    """(agents that end with P(positive) below one half, the most iterations that one of the others was below one half)."""
    curves = np.array([run.positive.numpy() for run in runs]) < 0.5
    lost = curves[:, -1]
    return lost.sum(), curves[~lost].sum(axis=1).max()


def frozen(runs):
    """(runs, runs whose first word is positive) of those in which every loss but the first is exactly 0."""
    still = [run for run in runs if not run.losses[1:].any()]
    return len(still), sum(bool(run.shares[0] == 1) for run in still)


def draw_comparison(curves, title, shown):
    """curves: by way, then by use of the baseline, (seeds, iterations + 1). shown: how many iterations are in view."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    axes = figure.subplots(2, len(curves), sharex=True, sharey=True)
    for column, (way, both) in enumerate(curves.items()):
        for line, use_baseline in enumerate((False, True)):
            one = axes[line, column]
            one.plot(both[use_baseline].T, color="tab:blue", linewidth=0.6, alpha=0.5)
            one.plot(np.median(both[use_baseline], axis=0), color="black", linewidth=1.8)
            one.axhline(0.99, color="tab:red", linewidth=0.8, linestyle=":")
            one.set(xlim=(0, shown), ylim=(-0.03, 1.03))
            one.set_title(f"{way}\n{'with the baseline' if use_baseline else 'no baseline'}", fontsize=10)
        axes[1, column].set_xlabel("iteration")
    for one in axes[:, 0]:
        one.set_ylabel("P(positive)")
    figure.suptitle(title, fontsize=11)
    return figure


def draw_updates(rows):
    """rows: (title, {name: (6,)}): expected updates of the six logits, one panel a row."""
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    colors = ("black", "tab:orange", "tab:blue")
    for one, (title, updates) in zip(figure.subplots(1, len(rows), sharey=True), rows):
        for offset, color, (name, update) in zip((-0.27, 0.0, 0.27), colors, updates.items()):
            one.bar(np.arange(6) + offset, update, width=0.25, color=color, label=name)
        one.axhline(0, color="gray", linewidth=0.8)
        one.set_xticks(range(6), WORDS, rotation=30)
        one.set_title(title, fontsize=10)
    figure.axes[0].set_ylabel("expected change of the logit")
    figure.axes[0].legend(fontsize=8, loc="lower left")
    return figure


def numbers(values, digits=4):
    return "(" + ", ".join(f"{v:.{digits}f}" for v in values) + ")"


def worked_examples():
    loss, gradient, after = one_step()
    print(f"3.3  loss {loss:.4f}, gradient {numbers(gradient)}")
    print(f"     after a step of 0.5: pi = {numbers(after)}, P(positive) = {after[list(POSITIVE)].sum():.4f}")
    uniform, late = np.full(6, 1 / 6), np.where(SCORE > 0, 0.9 / 3, 0.1 / 3)
    for name, policy in (("uniform", uniform), ("P(positive) = 0.9", late)):
        for shift in (0.0, 2.0):
            rewards = SCORE + shift
            mean = policy @ rewards
            spreads = f"variance {variance(policy, rewards, 0.0):.4f}, with b = {mean:.1f} {variance(policy, rewards, mean):.4f}"
            print(f"3.4  {name}, rewards {rewards[0]:g} and {rewards[3]:g}: {spreads}")
    for n, reward, before, advantage, wrong in baseline_orders([1.0, -1.0, 1.0, 1.0]):
        print(f"3.4  n = {n}: r = {reward:+g}, mean before {before:.4f}, advantage {advantage:+.4f}", end="; ")
        print(f"updated first {wrong:+.4f}, ratio {wrong / advantage:.4f}")
    greedy, mixed = behaviour(POLICY, EPSILON, "argmax"), behaviour(POLICY, EPSILON, "sample")
    print(f"3.5  argmax with epsilon {EPSILON}: {numbers(greedy)}, weights {numbers(POLICY / greedy, 2)}")
    print(f"     sample with epsilon {EPSILON}: {numbers(mixed)}, weights {numbers(POLICY / mixed, 2)}")
    for shift in (0.0, 2.0):
        rewards = SCORE + shift
        print(f"3.5  rewards {rewards[0]:g} and {rewards[3]:g}: gradient {numbers(POLICY * (rewards - POLICY @ rewards))}")
        print(f"     weighted {numbers(expected_update(POLICY, greedy, rewards, True))}")
        print(f"     unweighted {numbers(expected_update(POLICY, greedy, rewards, False))}")
        seen = greedy @ rewards
        print(f"     unweighted, b = {seen:.2f} {numbers(expected_update(POLICY, greedy, rewards, False, seen))}")
    names = (("sampling", None), ("sample, epsilon", mixed), ("epsilon-greedy", greedy))
    print("3.5  variance, rewards 1 and -1:", ", ".join(f"{n} {variance(POLICY, SCORE, 0.0, d):.2f}" for n, d in names))
    for p in (0.5, 0.7, 0.9, 0.99, 1.0):
        print(f"3.7  P(positive) = {p}: expected loss {surrogate(p, 0.0):.4f}, with b = E[r] {surrogate(p, 2 * p - 1):.4f}")
    grid = np.linspace(0.5, 0.999, 1000)
    lowest, where = min((surrogate(p, 2 * p - 1), p) for p in grid)
    print(f"3.7  with b = E[r] lowest at P(positive) = {where:.3f}: {lowest:.4f}")


def main():
    torch.set_num_threads(1)
    worked_examples()
    finished = word_run.save_picture(word_agent, HERE / "training.png", seed=1)
    at = (0, 25, 50, 100, 300)
    print("3.7  exact P(positive) after", ", ".join(f"{n}: {finished.positive[n]:.3f}" for n in at), "iterations")
    losses = finished.losses.numpy()
    for first, last in ((0, 25), (25, 50), (50, 100), (100, 300)):
        print(f"3.7  mean loss of iterations {first} to {last - 1}: {losses[first:last].mean():.3f}")
    print(f"3.7  lowest loss {losses.min():.2f}, iteration {losses.argmin()}; share of positive words {finished.shares[-1]:.2f}")
    greedy = behaviour(POLICY, EPSILON, "argmax")
    rows = []
    for shift, title in ((0.0, "rewards +1 and -1"), (2.0, "the same rewards plus 2")):
        rewards = SCORE + shift
        updates = {
            "gradient of J = weighted": POLICY * (rewards - POLICY @ rewards),
            "unweighted": expected_update(POLICY, greedy, rewards, False),
            "unweighted, with baseline": expected_update(POLICY, greedy, rewards, False, greedy @ rewards),
        }
        rows.append((title, updates))
    draw_updates(rows).savefig(HERE / "exploration.png", dpi=120)
    if "--quick" in sys.argv[1:]:
        return
    for shift, name, shown in ((0.0, "comparison.png", 150), (2.0, "shifted.png", 300)):
        title, curves = f"Rewards {1 + shift:+g} and {-1 + shift:+g}: {SEEDS} seeds each, median in black", {}
        print(f"3.8  {title}; without, then with the baseline: seeds >= 0.99, median, worst, largest pi")
        for way in WAYS:
            runs = {use_baseline: train_all(way, use_baseline, shift) for use_baseline in (False, True)}
            print(row(way, runs), flush=True)
            print("     no baseline: %d agents end below 1/2, another is there for %d iterations" % below_half(runs[False]))
            if way == "argmax":
                print("     with the baseline: %d runs frozen after one step, %d of them on a positive word" % frozen(runs[True]))
            curves[way] = {kind: np.array([run.positive.numpy() for run in found]) for kind, found in runs.items()}
        draw_comparison(curves, title, shown).savefig(HERE / name, dpi=110)


if __name__ == "__main__":
    main()
