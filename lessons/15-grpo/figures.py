"""Draws the pictures of lesson 15 beside this file and prints every number that its text quotes.

    python lessons/15-grpo/figures.py             from measured.json: seconds
    python lessons/15-grpo/figures.py --measure   trains everything again and writes measured.json: a minute or two on two cores
"""

import json
import math
import re
import sys
from pathlib import Path
from types import ModuleType

import torch
from matplotlib.figure import Figure

from toy.given.convergence import Config, Task
from toy.given.enumerable import EnumerableLM

try:
    from solutions.full import grpo, grpo_bug
except ModuleNotFoundError:  # a student's copy has no solutions: it draws with its own
    from full import grpo, grpo_bug

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STORE = HERE / "measured.json"
SIZES = (2, 4, 8, 64)
COLOURS = ("tab:blue", "tab:green", "tab:orange", "tab:red", "tab:purple", "tab:brown")


def tensor(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


# What a group's advantages do to a question that is solved with probability p (sections 15.2 to 15.4)


def weight(p, group_size, scale):
    """w(p): the expected update is w(p) times the gradient of p. By listing the groups, with `group_advantages` itself."""
    counts = range(1, group_size)  # of right answers; groups that are all alike add nothing
    groups = tensor([[1.0] * right + [0.0] * (group_size - right) for right in counts])
    worth = grpo.group_advantages(groups.flatten(), group_size, scale).view_as(groups)
    total = 0.0
    for right, of_right, of_wrong in zip(counts, worth[:, 0].tolist(), worth[:, -1].tolist()):
        chance = math.comb(group_size, right) * p**right * (1 - p) ** (group_size - right)
        share = right / group_size
        total += chance * (share * of_right / p - (1 - share) * of_wrong / (1 - p))  # eq. 15.6
    return total


def no_signal(p, group_size):
    return p**group_size + (1 - p) ** group_size


def weights():
    """Section 15.3's table and what is said of it, as the text has it."""
    at = (0.02, 0.1, 0.5, 0.9)
    rows = {f"$G = {size}$": [weight(p, size, "std") for p in at] for size in (2, 4, 8)}
    rows[r"$G \to \infty$"] = [1 / math.sqrt(p * (1 - p)) for p in at]
    told = {f"weights, {name}": f"| {name} | " + " | ".join(f"{value:.3f}" for value in row) for name, row in rows.items()}
    apart = weight(0.02, 8, "std") / weight(0.5, 8, "std"), 0.5 / math.sqrt(0.02 * 0.98)
    told["apart"] = "factor of {:.1f} between $p = 0.02$ and 0.5, not by {:.1f}".format(*apart)
    told["at most"] = f"{math.sqrt(7):.3f} for a group of eight"
    told["no scale"] = f"At $G = 8$ that is {weight(0.3, 8, 'none'):.3f} of the gradient"
    silent = [no_signal(p, 8) for p in (0.5, 0.1, 0.02)]
    told["no signal"] = "{:.3f} for $p = 0.5$, {:.3f} for $p = 0.1$ or 0.9, and {:.3f} for 0.02 or 0.98".format(*silent)
    return told


def examples():
    """The groups of sections 15.2 and 15.3."""
    rewards = tensor([1.0, 0.0, 0.0, 0.0])
    none, loo, std = (grpo.group_advantages(rewards, 4, scale).tolist() for scale in ("none", "loo", "std"))
    all_right = grpo.group_advantages(1 - 0.05 * tensor([0.1, 0.2, 0.3, 0.4]), 4).tolist()
    return {
        "none and loo": f"{none[0]:.3f} and {none[1]:.3f}; leave-one-out, {loo[0]:.3f} and {loo[1]:.3f}",
        "std": f"{std[0]:.3f} and {std[1]:.3f}",
        "all right": "they become " + ", ".join(f"{worth:.3f}" for worth in all_right),
    }


def draw_weights():
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    at = [k / 200 for k in range(1, 200)]
    for size, colour in zip(SIZES, COLOURS):
        left.plot(at, [weight(p, size, "std") for p in at], color=colour, label=f"group of {size}")
        right.plot(at, [no_signal(p, size) for p in at], color=colour, label=f"group of {size}")
    left.plot(at, [1 / math.sqrt(p * (1 - p)) for p in at], color="black", linestyle=":", label="1 / sqrt(p (1 - p))")
    left.axhline(1, color="grey", linewidth=0.8)
    left.set_ylim(0, 8)
    left.set_ylabel("weight of a question, divided by std")
    right.set_ylabel("share of groups without signal")
    for axes in (left, right):
        axes.set_xlabel("probability p that an answer is right")
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(HERE / "weights.png", dpi=110)


# Lengths (section 15.6): the first token is the answer, what follows is chatter that earns nothing

CHATTER = 6
STAY = 0.75  # how likely the policy is, at the start, to go on after each token


def chatterer():
    """Tokens 0 END, 1 right, 2 wrong; a policy whose answer is right with probability 0.3 and whose length says nothing of it."""
    lm = EnumerableLM.tabular(3, CHATTER, eos=0)
    rows = torch.zeros(len(lm), dtype=torch.float64)
    for k, (tokens, length) in enumerate(zip(lm.sequences.tolist(), lm.lengths.tolist())):
        rows[k] = -math.inf if tokens[0] == 0 else math.log(0.3 if tokens[0] == 1 else 0.7)
        for t in range(1, length):
            rows[k] += math.log(1 - STAY) if tokens[t] == 0 else math.log(STAY / 2)
    lm.set_distribution(rows)
    lm.model.logits.data.clamp_(min=-30)  # an answer is always given: -30 is as good as never
    return lm


def length_steps(mean, until=0.95):
    """[accuracy, mean length of right completions, of wrong ones] along exact gradient steps on `grpo_loss`, up to an accuracy.

    The expectation over infinitely large groups: every completion there is, weighted by its probability, with p as the baseline.
    A weight on a row is a factor of its advantage, since the loss is linear in it at the first update.
    """
    lm = chatterer()
    right, lengths = lm.sequences[:, 0] == 1, lm.lengths.double()
    points = []
    while not points or points[-1][0] < until:
        log_probs = lm.token_log_probs()
        chance = log_probs.detach().sum(1).exp()
        p = chance[right].sum()
        means = [((chance * lengths)[which].sum() / chance[which].sum()).item() for which in (right, ~right)]
        points.append([p.item(), *means])
        worth = len(lm) * chance * (right.double() - p)
        how = {"clip": 0.2, "mean": mean, "max_tokens": CHATTER}
        loss = grpo.grpo_loss(log_probs, log_probs.detach(), worth, lm.mask, **how)
        (slope,) = torch.autograd.grad(loss, lm.model.logits)
        with torch.no_grad():
            lm.model.logits -= 2.0 * slope
    return points


def draw_lengths():
    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    axes = figure.subplots()
    for mean, line in (("sequence", "-"), ("constant", ":")):
        points = length_steps(mean)
        for column, what, colour in ((1, "right", "tab:blue"), (2, "wrong", "tab:red")):
            axes.plot([p[0] for p in points], [p[column] for p in points], line, color=colour, label=f"{what} answers, {mean}")
    axes.set_xlabel("accuracy")
    axes.set_ylabel("mean length, tokens")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(HERE / "lengths.png", dpi=110)


# The KL's place and estimator (section 15.7)


def on_one_token():
    """pi and pi_ref of the worked example."""
    return tensor([0.5, 0.3, 0.2]), tensor([0.2, 0.3, 0.5])


def cosine(a, b):
    return (a @ b / (a.norm() * b.norm())).item() if a.norm() > 1e-12 and b.norm() > 1e-12 else 0.0


def places(length, vocabulary=3):
    """Of each estimator in the loss: the expected gradient, its cosine with the gradients of both KLs, exactly, on one model."""
    if length == 1:
        mine, other = on_one_token()
        lm, reference = (EnumerableLM.tabular(vocabulary, 1) for _ in range(2))
        lm.set_distribution(mine.log())
        reference.set_distribution(other.log())
    else:
        generator = torch.Generator().manual_seed(7)
        lm, reference = (EnumerableLM.tabular(vocabulary, length, generator=generator) for _ in range(2))
    log_probs, ref = lm.token_log_probs(), reference.token_log_probs().detach()
    chance = log_probs.detach().sum(1).exp()
    forward, backward = lm.gradient(lm.kl(reference)), lm.gradient(lm.reverse_kl(reference))
    found = {}
    for name in ("k1", "k2", "k3"):
        rows = grpo.kl_estimate(log_probs, ref, lm.mask, name)
        slope = lm.gradient((chance * rows.sum(1)).sum())
        found[f"{name} in the loss"] = slope
    reward = ((log_probs - ref).sum(1)).detach()
    found["k1 in the reward"] = lm.gradient((chance * reward * log_probs.sum(1)).sum())
    return {
        name: {
            "size": slope.norm().item(),
            "cosine with KL(pi||ref)": cosine(slope, forward),
            "cosine with KL(ref||pi)": cosine(slope, backward),
            "off KL(pi||ref)": (slope - forward).norm().item(),
            "off KL(ref||pi)": (slope - backward).norm().item(),
        }
        for name, slope in found.items()
    }


# The way to the optimum (section 15.7): the task of the course's common figure

WAYS = {
    "loo, k1 in the reward": {"scale": "loo", "place": "reward"},
    "none, k1 in the reward": {"scale": "none", "place": "reward"},
    "std, k1 in the reward": {"scale": "std", "place": "reward"},
    "none, k2 in the loss": {"scale": "none", "place": "loss", "kl": "k2"},
    "none, k3 in the loss": {"scale": "none", "place": "loss", "kl": "k3"},
    "none, k1 in the loss": {"scale": "none", "place": "loss", "kl": "k1"},
    "std, k3 in the loss (GRPO)": {"scale": "std", "place": "loss", "kl": "k3"},
}


def way(scale, place, kl="k1", updates=1000, batch=64, group=8, every=25, seed=5):
    """Total variation to pi* along a run of `grpo_loss`, one update a rollout, the learning rate falling to 0."""
    config = Config()
    task, generator = Task(config), torch.Generator().manual_seed(seed)
    policy = task.policy()
    optimizer = torch.optim.Adam(policy.model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95))
    points = []
    for update in range(updates + 1):
        if update % every == 0:
            points.append([update, task.distance(policy)])
        if update == updates:
            return points
        for part in optimizer.param_groups:
            part["lr"] = config.learning_rate * (1 - update / updates)
        tokens = policy.token_log_probs()
        drawn = torch.multinomial(tokens.detach().sum(dim=1).exp(), batch, replacement=True, generator=generator)
        log_probs, ref = tokens[drawn], task.reference_tokens[drawn]
        rewards, mask = task.score[drawn], torch.ones_like(log_probs, dtype=torch.bool)
        if place == "reward":
            rewards = rewards - config.beta * (log_probs.detach() - ref).sum(1)
        worth = grpo.group_advantages(rewards, group, scale)
        in_loss = {} if place == "reward" else {"ref_log_probs": ref, "kl_coef": config.beta, "kl": kl}
        loss = grpo.grpo_loss(
            log_probs, log_probs.detach(), worth, mask, clip=0.2, mean="constant", max_tokens=1, **in_loss
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def draw_ways():
    found = stored()["ways"]
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.subplots()
    for (name, points), colour in zip(found.items(), (*COLOURS, "black")):
        updates, distances = zip(*points)
        axes.plot(updates, distances, color=colour, label=f"{name}: {distances[-1]:.1e}")
    axes.set_yscale("log")
    axes.set_xlabel("updates")
    axes.set_ylabel("total variation to the exact optimum")
    axes.legend(title="scale, KL, and where it ends", fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(HERE / "ways.png", dpi=110)


# The silent bug (section 15.9)


def planted():
    """The bug's file as a learner gets it: the solution with the commented lines in place of its own."""
    from autograder.skeletons import skeleton

    text = skeleton((ROOT / "solutions" / "full" / "grpo_bug.py").read_text(encoding="utf-8"), 15)
    module = ModuleType("planted")
    exec(compile(text, "planted", "exec"), module.__dict__)
    return module


def bug_run(module, updates=60):
    """[reward, no signal, no signal to be expected, share solved, least solved] after every update, and the skills at the end."""
    policy, ruler = module.beginner()
    sums = [a + b for a, b in module.questions()]
    rows, now = [], [module.skills(ruler)]

    def note(line):
        p = now[-1]
        now.append(module.skills(ruler))
        expected = no_signal(p, 8).mean().item()
        rows.append([line["reward"], line["no_signal"], expected, now[-1].mean().item(), now[-1].min().item()])

    optimizer = torch.optim.Adam(policy.parameters(), lr=0.1)
    points = [1 + total / 6 for total in sums]
    module.train_sums(policy, optimizer, sums, points, module.sampler(ruler, seed=1), updates=updates, after_update=note)
    return {"rows": rows, "skills": now[-1].tolist()}


def draw_bug():
    found = stored()
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    titles = {0: "mean reward, points", 4: "least solved sum", 1: "groups without signal"}
    for axes, (column, title) in zip(figure.subplots(1, 3), titles.items()):
        for name, colour in (("mended", "tab:blue"), ("planted", "tab:red")):
            rows = found[f"bug, {name}"]["rows"]
            axes.plot(range(1, len(rows) + 1), [row[column] for row in rows], color=colour, label=name)
            if column == 1:
                axes.plot(range(1, len(rows) + 1), [row[2] for row in rows], ":", color=colour, label=f"{name}, expected")
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("rollouts")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(HERE / "bug.png", dpi=110)


# What is kept, told and drawn


def measure():
    found = {"ways": {name: way(**how) for name, how in WAYS.items()}}
    found |= {"bug, mended": bug_run(grpo_bug), "bug, planted": bug_run(planted())}
    text = re.sub(r"\d+\.\d{8,}(e-\d+)?", lambda number: f"{float(number.group()):.7g}", json.dumps(found, indent=1))
    STORE.write_text(text + "\n", encoding="utf-8")


def stored():
    return json.loads(STORE.read_text(encoding="utf-8"))


def kl_by_hand():
    """The two gradients of section 15.7's example, by the logits."""
    policy, reference = on_one_token()
    away = (policy / reference).log()
    kl = (policy @ away).item()
    told = {"KL": f"Both divergences are {kl:.3f} nats", "other KL": f"{(reference @ -away).item():.3f} nats"}
    told["gradient"] = "= " + ", ".join(f"{slope:.3f}" for slope in (policy * (away - kl)).tolist())
    told["other gradient"] = "= " + ", ".join(f"{slope + 0.0:.3f}" for slope in (policy - reference).tolist())
    return told


def numbers():
    """Every number of the text, as the text has it, by what it is."""
    told = weights() | examples() | kl_by_hand()
    for mean in ("sequence", "constant"):
        (first, *_, last) = length_steps(mean)
        told[f"lengths, {mean}"] = f"| {mean} | {last[1]:.2f} | {last[2]:.2f} |"
    told["lengths, at the start"] = f"equally long: {first[1]:.2f} tokens on average"
    for name, found in places(3).items():
        cosines = [found[f"cosine with {which}"] for which in ("KL(pi||ref)", "KL(ref||pi)")]
        if name != "k1 in the loss":
            told[f"cosines, {name}"] = f"| $k_{name[1]}${name[2:]} | {cosines[0]:.3f} | {cosines[1]:.3f} |"
    kept = stored()
    ends = {name: points[-1][1] for name, points in kept["ways"].items()}
    loo, none, std, k2, k3, k1, both = ends.values()
    told["ways, reward"] = f"{loo:.1e} for leave-one-out, {none:.1e} without a scale and {std:.1e} with the spread"
    told["ways, k2"] = f"ends at a distance of {k2:.2f}"
    told["ways, k3"] = f"With $k_3$ it is {k3:.2f}, and {both:.2f} with the spread"
    told["ways, k1"] = f"With $k_1$ it is {k1:.2f}"
    task = Task(Config())
    told["ways, the best"] = f"a probability of {task.optimum[task.score.argmax()].exp().item():.2f}"
    planted_run, mended_run = kept["bug, planted"], kept["bug, mended"]
    told["bug, reward"] = f"is {planted_run['rows'][-1][0]:.3f} of 2.5 points"
    told["bug, mended"] = f"Mended, it is {mended_run['rows'][-1][0]:.3f}"
    skills = dict(zip(grpo_bug.questions(), planted_run["skills"]))
    lost = f"0 + 3 is solved with probability {skills[0, 3]:.3f}, 0 + 0 with {skills[0, 0]:.3f} and 3 + 0 with {skills[3, 0]:.3f}"
    told["bug, lost"] = lost
    told["bug, least"] = f"every sum is solved with probability {min(mended_run['skills']):.2f} or more"
    told["bug, no signal"] = f"the file reports {max(row[1] for row in planted_run['rows']):.3f} throughout"
    return told


def main():
    if "--measure" in sys.argv[1:]:
        measure()
    for name, value in numbers().items():
        print(f"{name}: {value}")
    for draw in (draw_weights, draw_lengths, draw_ways, draw_bug):
        draw()


if __name__ == "__main__":
    main()
