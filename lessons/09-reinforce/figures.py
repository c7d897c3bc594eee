"""Draws the pictures of lesson 9 beside this file and prints every number that its text quotes.

    python lessons/09-reinforce/figures.py                    two minutes
    python lessons/09-reinforce/figures.py --quick            without training: seconds
    python lessons/09-reinforce/figures.py --from BATCH NONE  also keeps the figures of two finished runs, in run.json:
        climb run reinforce --out BATCH;  climb run reinforce baseline=none --out NONE
"""

import json
import math
import sys
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import torch
from matplotlib.figure import Figure

from full import reinforce_bug as planted
from full.given.loop import Loop
from full.given.rollout import warped
from full.given.settings import ReinforceConfig
from full.given.text import Prompts
from toy.given.enumerable import EnumerableLM

try:
    from solutions.full import reinforce as lesson
    from solutions.full import reinforce_bug as world
except ModuleNotFoundError:  # a student's copy has no solutions: it draws with its own
    from full import reinforce as lesson
    from full import reinforce_bug as world

HERE = Path(__file__).resolve().parent
FIRST = len(world.PROMPT)
STEPS, ROWS, SEEDS, RATE = 60, 32, 3, 0.01
SHOWN = (1, 5, 10, 25, 50, 100)
ROW = {  # the variances' names in the table of section 9.6
    "none, rewards + 2": "nothing, all rewards raised by 2",
    "none": "nothing",
    "exact mean": "the exact mean",
    "best constant": "the best constant",
    "others, 32": "the other 31 rows",
    "others, groups of 4": "the 3 others of a group of 4",
    "others, groups of 2": "the other of a group of 2",
}


def bound_of(error):
    """The next power of ten above an error: rounding differs from machine to machine, its size does not."""
    return 10.0 ** math.ceil(math.log10(max(error, 1e-16)))


class Exact:
    """The untrained writer of "the film was ...", every completion listed: probabilities, rewards, and all score vectors."""

    def __init__(self):
        self.policy = world.new_policy()
        self.listed = EnumerableLM(self.policy, len(world.WORDS), world.NEW_TOKENS, prompt=world.PROMPT, eos=world.EOS)
        self.reward = self.listed.rewards(worth)
        self.probs = self.listed.probs().detach()
        before = torch.tensor([world.PROMPT] * len(self.listed))
        self.tokens = torch.cat([before, self.listed.sequences], dim=1)
        self.mask = self.listed.mask
        self.attention = torch.cat([torch.ones_like(before), self.mask.long()], dim=1)
        self.logits = self.policy(input_ids=self.tokens).logits  # (N, L, V)

    @cached_property
    def scores(self):
        """grad log pi(y) of every completion, (N, parameters): many at a time, which `listed.scores()` does one by one."""
        log_probs, parameters, found = self.listed.log_probs(), list(self.policy.parameters()), []
        for rows in torch.eye(len(self.listed), dtype=torch.float64).split(101):
            parts = torch.autograd.grad(log_probs, parameters, rows, retain_graph=True, is_grads_batched=True)
            found.append(torch.cat([part.flatten(1) for part in parts], dim=1))
        return torch.cat(found)

    def gradient(self, weights, log_probs):
        """sum over completions of weight times grad of the row's summed log-probability, as one vector."""
        return self.listed.gradient((weights * log_probs.sum(dim=1)).sum())

    def scored(self, temperature=1.0, top_k=0):
        """log-probabilities of the completions' tokens, (N, T), 0 off the mask."""
        logits = warped(self.logits[:, FIRST - 1 :], temperature, top_k)
        return lesson.token_log_probs(logits, self.tokens[:, FIRST - 1 :]).masked_fill(~self.mask, 0.0)


def worth(said):
    """The reward of one completion: a third for each token that stands where it is wanted."""
    return sum(token in world.WANTED[t] for t, token in enumerate(said)) / world.NEW_TOKENS


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


# numbers


def exact_numbers(found):
    """Everything the text says that needs no training: {what: the text as it stands there}."""
    numbers = {"sequences": f"{len(found.listed):,} completions", "start": f"{float(found.probs @ found.reward):.4f}"}
    return numbers | example_numbers() | alignment_numbers(found) | direction_numbers(found) | variance_numbers(found)


def example_numbers():
    """Section 9.5: two rows by hand, run through `compute_reinforce_loss` with a model that always says the same."""
    chances = torch.tensor([[[0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [1, 1, 1]], [[0.2, 0.2, 0.6], [1, 1, 1], [1, 1, 1]]])
    logits = chances.double().log().requires_grad_(True)
    tokens, mask = torch.tensor([[0, 0, 2], [0, 1, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    reward = torch.tensor([1.0, 0.25], dtype=torch.float64)
    log_probs, loss = lesson.compute_reinforce_loss(reward, tokens, lambda **_: SimpleNamespace(logits=logits), 1, mask)
    loss.backward()
    slope = logits.grad[0, 0]
    return {
        "first row": f"{log_probs[0, 0]:.4f} + ({log_probs[0, 1]:.4f}) = {log_probs[0].sum():.4f}",
        "second row": f"{log_probs[1].sum():.4f}",
        "the loss": f"= {loss:.4f}",
        "its slope": "(" + ", ".join(f"{value:.3f}" for value in slope) + ")",
    }


@torch.no_grad()
def alignment_numbers(found):
    """Sections 9.3 and 9.4: the sum over completions of exp(sum of log-probabilities), aligned and not, with EOS and without."""
    log_probs = found.logits.log_softmax(-1)
    own = log_probs.gather(-1, found.tokens.unsqueeze(-1)).squeeze(-1)[:, FIRST:].masked_fill(~found.mask, 0.0)
    right = found.scored()
    without = right.masked_fill(found.listed.sequences == world.EOS, 0.0)
    told = lesson.completion_mask(found.tokens, FIRST, world.EOS, world.PAD)  # from the tokens alone
    return {
        "mass": f"small writer the sum is {right.sum(1).exp().sum():.4f}",
        "mass, unshifted": f"it is\n{own.sum(1).exp().sum():.3f}",
        "mass without EOS": f"the sum is {without.sum(1).exp().sum():.3f}",
        "mass without drawn pads": f"sum to {right.masked_fill(~told, 0.0).sum(1).exp().sum():.2f}",
    }


def direction_numbers(found):
    """Section 9.4 and 9.5: where other losses point, in expectation, against the gradient of the expected reward."""
    weights, scored = found.probs * found.reward, found.scored()
    true = found.gradient(weights, scored)
    prompt = lesson.token_log_probs(found.logits[:, :FIRST], found.tokens[:, :FIRST])
    extra = found.gradient(weights, prompt)
    unshifted = found.logits.log_softmax(-1).gather(-1, found.tokens.unsqueeze(-1)).squeeze(-1)[:, FIRST:]
    lengths = found.mask.sum(dim=1, keepdim=True)
    drawn = found.scored(top_k=4)
    possible = drawn.sum(1).isfinite()
    weights_k = torch.where(possible, drawn.sum(1).exp(), 0.0).detach() * found.reward
    true_k = found.gradient(weights_k, drawn.masked_fill(~possible.unsqueeze(1), 0.0))
    return {
        "agrees": f"agree to within {bound_of(float((true - found.listed.policy_gradient(found.reward)).abs().max())):.0e}",
        "prompt": f"{float(extra.norm() / true.norm()):.1f} times as long",
        "prompt, cosine": f"a cosine of {cosine(true + extra, true):.2f}\nwith it",
        "unshifted, cosine": f"{cosine(found.gradient(weights, unshifted.masked_fill(~found.mask, 0.0)), true):.2f}",
        "row means, cosine": f"{cosine(found.gradient(weights, scored / lengths), true):.3f}",
        "top-k, cosine": f"{cosine(found.gradient(weights_k, scored), true_k):.2f}",
    }


def variances(found):
    """{estimator: trace of the covariance of its gradient from 32 rows, over the squared length of the true one}. Exact."""
    scores = found.scores
    p, r, squares = found.probs, found.reward, (scores**2).sum(1)
    true = (p * r) @ scores
    size = float(true @ true)

    def one(baseline):
        return float(p @ ((r - baseline) ** 2 * squares)) - size  # the mean is the true gradient, whatever the baseline

    mean, best = float(p @ r), float(p @ (r * squares) / (p @ squares))
    spread = (r.unsqueeze(1) - r) ** 2 * (squares.unsqueeze(1) + squares - 2 * scores @ scores.T)
    pair = float(p @ spread @ p) / 4 - size  # of (r_i - r_j)(s_i - s_j) / 2: leave-one-out is the mean of these over all pairs

    def others(group):
        projected = one(mean) / 4
        return 2 / (group * (group - 1)) * (2 * (group - 2) * projected + pair)

    return {
        "none, rewards + 2": one(-2.0) / ROWS / size,
        "none": one(0.0) / ROWS / size,
        "exact mean": one(mean) / ROWS / size,
        "best constant": one(best) / ROWS / size,
        "others, 32": others(32) / size,
        "others, groups of 4": others(4) / (ROWS // 4) / size,
        "others, groups of 2": others(2) / (ROWS // 2) / size,
    }


def variance_numbers(found):
    found.variances = variances(found)
    numbers = {f"variance, {name}": f"| {ROW[name]} | {value:.2f} |" for name, value in found.variances.items()}
    raised = found.variances["none, rewards + 2"] / found.variances["none"]
    return numbers | {"rewards + 2 against rewards": f"the noise {raised:.0f} times as large"}


# runs on the small world


def learning(baseline, group_size=1, shift=0.0, seed=0):
    """`train` of the lesson: [the exact expected reward before each update and after the last]."""
    policy, optimizer = lesson.reset_model_optimizer(world.new_policy(), RATE)
    config = ReinforceConfig(baseline=baseline, group_size=group_size, new_tokens=world.NEW_TOKENS)
    rows = ROWS // group_size
    prompts, exact = Prompts(torch.tensor([world.PROMPT] * rows), torch.ones(rows, FIRST, dtype=torch.long)), []

    def batches():
        for _ in range(STEPS):
            exact.append(world.measure(policy)[0])
            yield prompts

    loop = Loop(policy, batches(), optimizer, config, scores=lambda written: world.score(written) + shift,
                eos_token_id=world.EOS, pad_token_id=world.PAD, generator=torch.Generator().manual_seed(seed))  # fmt: skip
    lesson.train(loop, config)
    return [*exact, world.measure(policy)[0]]


LEARNING = {
    "none": {"baseline": "none"},
    "none, rewards + 2": {"baseline": "none", "shift": 2.0},
    "batch": {"baseline": "batch"},
    "rloo, groups of 4": {"baseline": "rloo", "group_size": 4},
}


def phrases(module):
    """{update: (mean reward of the rollout, E[reward], chances of the three places)} of the silent bug's file."""
    policy, lines, found = module.new_policy(), [], {}

    def after_update(line):
        lines.append(line["reward"])
        if len(lines) in SHOWN or len(lines) % 5 == 0:
            found[len(lines)] = (line["reward"], *module.measure(policy))

    module.train_phrases(policy, module.sampler(), after_update=after_update)
    return found


def measure():
    found = {name: [learning(**settings, seed=seed) for seed in range(SEEDS)] for name, settings in LEARNING.items()}
    return {**found, "bug": phrases(planted), "mended": phrases(world)}


def measured_numbers(found):
    numbers = {}
    for name in LEARNING:
        means = torch.tensor(found[name]).mean(dim=0)
        shown = " | ".join(f"{float(means[step]):.2f}" for step in (10, 20, 40, 60))
        numbers[f"learning, {name}"] = f"| {name} | {shown} |"
    for update in SHOWN:
        line = found["bug"][update]
        numbers[f"bug, update {update}"] = f"| {update} | {line[0]:.2f} | " + " | ".join(f"{v:.2f}" for v in line[1:]) + " |"
    numbers["mended"] = f"{found['mended'][100][1]:.2f}"
    numbers["mended, first"] = f"{found['mended'][100][2]:.2f}"
    return numbers


# the runs on the built-in models


def condensed(folder):
    """What is kept of a finished run: the curve, the summary, and one prompt before and after."""
    folder = Path(folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    curve = {name: [round(row[name], 4) for row in rows] for name in ("reward", "entropy", "completion_length", "eos_rate")}
    prompt = samples[0]["prompt"]
    kept = {stage: next(s["completion"] for s in samples if s["stage"] == stage and s["prompt"] == prompt)
            for stage in ("before", "after")}  # fmt: skip
    return {"curve": curve, "summary": json.loads((folder / "summary.json").read_text()), "prompt": prompt, **kept}


def run_numbers(runs):
    numbers = {}
    for name, one in runs.items():
        figures = {key: value["mean"] if isinstance(value, dict) else value for key, value in one["summary"].items()}
        shown = [f"{figures[key]:.2f}" for key in ("reward_before", "reward_after", "kl", "naturalness_before", "naturalness")]
        numbers[f"run, {name}"] = f"| {name} | " + " | ".join(shown) + " |"
    if "batch" in runs:
        numbers |= {f"run, {what}": runs["batch"][what].strip() for what in ("prompt", "before", "after")}
        names = ("reward_before", "reward_after", "gold_reward_before", "gold_reward")
        before, after, gold_before, gold = (runs["batch"]["summary"][name]["mean"] for name in names)
        numbers["gold reward"] = f"{gold:.2f} after training, where it\nwas {gold_before:.2f} before"
        numbers["real"] = f"of the rise of {after - before:.2f} in what was measured, {gold - gold_before:.2f} are real"
        numbers["gold without a baseline"] = f"its gold reward is {runs['none']['summary']['gold_reward']['mean']:.2f} too"
        entropy = runs["batch"]["curve"]["entropy"]
        numbers["entropy"] = f"{entropy[0]:.2f} nats a token at first, {entropy[-1]:.2f} after 150 updates"
    return numbers


def kept_runs():
    path = HERE / "run.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


# pictures


def canvas(width, height, columns=1):
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def draw_variance(found):
    figure, axes = canvas(7, 2.8)
    names = list(found.variances)[::-1]
    axes.plot([found.variances[name] for name in names], names, "o", color="#4477aa")
    for name in names:
        value = found.variances[name]
        axes.annotate(f"{value:.2f}", (value, name), (8, -3), textcoords="offset points", fontsize=9)
    axes.set(xscale="log", xlim=(0.4, 250), ylim=(-0.6, len(names) - 0.4))
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("variance of the gradient from 32 rows / squared length of the true gradient")
    figure.savefig(HERE / "variance.png", dpi=120)


def draw_learning(found):
    figure, axes = canvas(7, 3.4)
    for name, colour in zip(LEARNING, ("#cc6677", "#aaaaaa", "#4477aa", "#228833")):
        runs = torch.tensor(found[name])
        axes.plot(runs.mean(0), color=colour, label=name)
        axes.fill_between(range(runs.shape[1]), runs.amin(0), runs.amax(0), color=colour, alpha=0.15)
    axes.set(xlabel="update", ylabel="E[reward], exact", ylim=(0, 1.02))
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(HERE / "learning.png", dpi=120)


def draw_bug(found):
    figure, both = canvas(9, 3.2, 2)
    for axes, name, title in zip(both, ("bug", "mended"), ("the file as it is", "mended")):
        lines = found[name]
        colours = {"E[reward]": "black", "first": "#cc6677", "second": "#4477aa", "third": "#228833"}
        for place, (label, colour) in enumerate(colours.items()):
            axes.plot(list(lines), [line[1 + place] for line in lines.values()], color=colour, label=label)
        axes.set(xlabel="update", title=title, ylim=(-0.02, 1.02))
    both[0].legend(fontsize=8)
    figure.savefig(HERE / "bug.png", dpi=120)


def draw_run(runs):
    figure, both = canvas(9, 3.2, 2)
    for axes, key, label in zip(both, ("reward", "entropy"), ("reward of the batch", "entropy, nats a token")):
        for (name, one), colour in zip(runs.items(), ("#4477aa", "#cc6677")):
            values = torch.tensor(one["curve"][key])
            axes.plot(values, color=colour, alpha=0.25)
            smooth = values.unfold(0, 10, 1).mean(1)
            axes.plot(range(9, len(values)), smooth, color=colour, label=f"baseline {name}")
        axes.set(xlabel="update", ylabel=label)
    both[0].legend(fontsize=8)
    figure.savefig(HERE / "run.png", dpi=120)


def main(arguments):
    if "--from" in arguments:
        folders = arguments[arguments.index("--from") + 1 :]
        kept = {name: condensed(folder) for name, folder in zip(("batch", "none"), folders, strict=True)}
        (HERE / "run.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    found = Exact()
    numbers, runs = exact_numbers(found), kept_runs()
    draw_variance(found)
    if runs:
        numbers |= run_numbers(runs)
        draw_run(runs)
    if "--quick" not in arguments:
        measured = measure()
        numbers |= measured_numbers(measured)
        draw_learning(measured)
        draw_bug(measured)
    for what, text in numbers.items():
        print(f"{what:>28}  {text}")


if __name__ == "__main__":
    main(sys.argv[1:])
