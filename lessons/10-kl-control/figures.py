"""Draws the pictures of lesson 10 beside this file and prints every number that its text quotes.

    python lessons/10-kl-control/figures.py             a minute: training of a tiny GPT-2, several times
    python lessons/10-kl-control/figures.py --quick     without training: seconds
    python lessons/10-kl-control/figures.py --record runs/kl
        keeps what the text quotes of a sweep on the built-in reviews in reviews.json, which the other two read:
        climb run kl --solutions alphas=0,0.03,0.3,1 samples=4
"""

import copy
import importlib.util
import json
import math
import sys
from itertools import product
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from full.given.loop import Loop
from full.given.settings import KLConfig
from full.given.text import Prompts
from toy.given.enumerable import EnumerableLM

try:
    from solutions.full import kl_control
except ModuleNotFoundError:  # a student's copy has no solutions: it draws with its own
    from full import kl_control

HERE = Path(__file__).resolve().parent
VOCABULARY, LENGTH, WIDTH = 4, 3, 16
RARE = torch.tensor([1.0, 0.3, 0.6, 0.0], dtype=torch.float64) / 3  # what each token adds to the reward: the rarest adds most
COMMON = torch.tensor([0.0, 0.6, 0.3, 1.0], dtype=torch.float64) / 3  # another reward, that natural text can please
ALPHA = 0.15
ALPHAS = (1.0, 0.3, 0.15, 0.1, 0.05, 0.0)
STARTS = (0.02, 1.0)  # of two controllers: too cheap and too dear
STEPS, BATCH, RATE = 150, 256, 5e-3
# the completion of sections 10.4 and 10.5: three tokens
EXAMPLE = {
    "log_probs": torch.tensor([[-0.5, -1.0, -0.2]], dtype=torch.float64),
    "ref_log_probs": torch.tensor([[-1.5, -0.75, -1.2]], dtype=torch.float64),
    "mask": torch.ones(1, 3, dtype=torch.bool),
}


def gpt2(seed=3):
    """A GPT-2 of one layer in float64, its matrices drawn large enough to prefer some sentences to others."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=LENGTH + 1, n_embd=WIDTH, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None
    )
    model, generator = GPT2LMHeadModel(config).double().eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


class World:
    """The reference, a policy that has moved away from it, and everything that can be listed about them."""

    def __init__(self):
        self.model = gpt2().requires_grad_(False)
        self.reference = EnumerableLM(self.model, VOCABULARY, LENGTH)
        self.rows = self.reference.next_token_log_probs()
        self.rewards = RARE[self.reference.sequences].sum(1)
        self.target = self.reference.optimum(self.rewards, ALPHA)

    def listed(self, model):
        return EnumerableLM(model, VOCABULARY, LENGTH)

    def moved(self):
        """The reference after four steps of Adam on the exact gradient of the reward alone."""
        model = copy.deepcopy(self.model).requires_grad_(True)
        optimizer, policy = torch.optim.Adam(model.parameters(), lr=2e-3), self.listed(model)
        for _ in range(4):
            optimizer.zero_grad()
            (-policy.expected(self.rewards)).backward()
            optimizer.step()
        return policy

    @torch.no_grad()
    def measure(self, policy):
        return {
            "tv": float(policy.total_variation(self.target)),
            "kl": float(policy.kl(self.reference)),
            "reward": float(policy.expected(self.rewards)),
        }


# which place has which gradient


# of the tokens' log-probabilities and log-ratios, and of the divergence over the whole vocabulary at each: (64, 3) each
PLACES = {
    "k1 in the reward": lambda log_p, ratio, full: ratio.sum(1).detach() * log_p.sum(1),
    "k2 of the completion, in the loss": lambda log_p, ratio, full: ratio.sum(1) ** 2 / 2,
    "full vocabulary on sampled prefixes, in the loss": lambda log_p, ratio, full: full.sum(1),
    "k2 of each token, in the loss": lambda log_p, ratio, full: (ratio**2 / 2).sum(1),
    "k3 of each token, in the loss": lambda log_p, ratio, full: (torch.expm1(-ratio) + ratio).sum(1),
    "k3 in the reward": lambda log_p, ratio, full: (torch.expm1(-ratio) + ratio).sum(1).detach() * log_p.sum(1),
    "k1 in the loss": lambda log_p, ratio, full: ratio.sum(1),
}


def losses_of(world, policy, place, rows=None):
    """The loss that each of the 64 completions gives if it is the one sampled, whose gradient is to be that of the KL."""
    rows = policy.next_token_log_probs() if rows is None else rows
    log_p, log_q = (picked(of, policy) for of in (rows, world.rows))
    full = kl_control.compute_kl_divergence(rows, world.rows, policy.mask)
    return PLACES[place](log_p, log_p - log_q, full)


def picked(rows, policy):
    """The log-probabilities of the tokens that came: (64, 3, 4) -> (64, 3)."""
    return rows.gather(-1, policy.sequences.unsqueeze(-1)).squeeze(-1)


def expected_gradient(policy, losses):
    """sum_y pi(y) grad loss(y): what an optimizer gets on average."""
    return policy.gradient((policy.probs().detach() * losses).sum() + 0 * policy.log_probs().sum())


def places(world, policy):
    """{place: (cosine with the gradient of KL(policy||reference), length relative to it)}, exactly."""
    exact, found = policy.gradient(policy.kl(world.reference)), {}
    for place in PLACES:
        mine = expected_gradient(policy, losses_of(world, policy, place))
        size = float(mine.norm() / exact.norm())
        found[place] = (float(mine @ exact / (mine.norm() * exact.norm())) if size > 1e-9 else math.nan, size)
    return found


def where_places_lead(world, steps=400, learning_rate=5e-3):
    """{place: exact measures of the policy} after training by expected gradients of -reward + ALPHA * (KL in its place)."""
    found = {}
    for place in PLACES:
        model = copy.deepcopy(world.model).requires_grad_(True)
        policy, optimizer = world.listed(model), torch.optim.Adam(model.parameters(), lr=learning_rate)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
        for _ in range(steps):
            rows = policy.next_token_log_probs()  # the model is asked once a step
            log_p = picked(rows, policy).sum(1)
            losses = -world.rewards * log_p + ALPHA * losses_of(world, policy, place, rows)
            optimizer.zero_grad()
            (log_p.detach().exp() * losses).sum().backward()
            optimizer.step()
            schedule.step()
        found[place] = world.measure(policy)
    return found


# training from samples


class Watched(Loop):
    """The plain loop with a learning rate that falls to nothing, and the exact distance noted before each step."""

    def start(self, world, steps):
        self.world, self.steps, self.exact = world, steps, []
        return self

    def update(self, loss):
        self.exact.append(self.world.measure(self.world.listed(self.policy)))
        super().update(loss)
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * (1 - len(self.exact) / self.steps)


def learn(world, steps=STEPS, **settings):
    """A run of `train` from samples: the loop, with what was logged and what is exact."""
    model = copy.deepcopy(world.model).requires_grad_(True)
    prompts = Prompts(torch.zeros(BATCH, 1, dtype=torch.long), torch.ones(BATCH, 1, dtype=torch.long))
    config = KLConfig(new_tokens=LENGTH, **settings)
    loop = Watched(
        model, [prompts] * steps, torch.optim.Adam(model.parameters(), lr=RATE), config, reference=world.model,
        scores=lambda rollout: RARE[rollout.completion].sum(1), generator=torch.Generator().manual_seed(0),
    ).start(world, steps)  # fmt: skip
    kl_control.train(loop, config)
    loop.exact.append(world.measure(world.listed(model)))
    return loop


def runs(world):
    """All runs from samples of the text, by name."""
    found = {"run": learn(world, alpha=ALPHA), "no penalty": learn(world, alpha=0.0)}
    for alpha in STARTS:
        found[f"steered from {alpha:g}"] = learn(world, alpha=alpha, target_kl=1.0, horizon=1500.0)
    return found



# numbers


def exact_numbers(world):
    """Everything the text says that needs no training: {what: the text as it stands there}."""
    found = world.reference
    start = world.measure(found)
    best = found.log_partition(world.rewards, ALPHA)
    target = world.target.exp()
    numbers = {
        "reference's reward": f"reward of the reference is {start['reward']:.3f}",
        "reference's entropy": f"{float(found.entropy()):.3f} nats",
        "tv at the start": f"total variation of {start['tv']:.3f}",
        "optimum's reward": f"{float(target @ world.rewards):.3f} at a KL of {optimum(world, ALPHA)[1]:.3f}",
        "best objective": f"{ALPHA * float(best):.4f}",
    }
    return numbers | hand_numbers() | estimator_numbers(world) | place_numbers(world) | frontier_numbers(world)


def hand_numbers():
    """Sections 10.3 to 10.6, with numbers that are easy to add up."""
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.25, 0.25])
    log_p, log_q = (torch.tensor(np.log(x)).view(1, 1, 3) for x in (p, q))
    kl = float(kl_control.compute_kl_divergence(log_p, log_q, torch.ones(1, 1, dtype=torch.bool)))
    found = {"full KL by hand": f"{kl:.4f} nats", "its terms": row(p * np.log(p / q), 4), "reversed": f"{q @ np.log(q / p):.4f}"}
    estimates = {name: getattr(kl_control, name)(**EXAMPLE)[0] for name in ("k1", "k2", "k3")}
    found["k1 by hand"] = row(estimates["k1"], 2)
    found["k2 by hand"] = row(estimates["k2"], 4)
    found["k3 by hand"] = row(estimates["k3"], 4)
    found["their sums"] = ", ".join(f"{float(values.sum()):.2f}" for values in estimates.values())
    rewards = torch.tensor([0.9], dtype=torch.float64)
    for alpha in (0.1, 0.5):
        value = float(kl_control.kl_shaped_reward(rewards, **EXAMPLE, alpha=alpha))
        found[f"shaped at {alpha}"] = f"0.9 - {alpha} · 1.75 = {value:.3f}"
    controller = kl_control.AdaptiveKLController(0.1, 6.0, 1000.0)
    found["controller"] = ", ".join(f"{controller.update(kl, 100):.5f}" for kl in (6.6, 12.0, 3.0))
    found["e-fold"] = f"{(1 + 0.2 * 100 / 1000) ** 10:.3f}"
    found["top-k"] = f"{-math.log(0.8):.3f} nats a token"
    return found


def spread(policy, values):
    """(mean, standard deviation) of one sample."""
    p = policy.probs().detach()
    mean = p @ values
    return float(mean), float((p @ (values - mean) ** 2).sqrt())


def estimates(world, policy):
    """{estimator: (mean, standard deviation)} of one completion's estimate of KL(policy||reference), exactly."""
    with torch.no_grad():
        log_p, log_q = policy.token_log_probs(), world.reference.token_log_probs()
        rows = policy.next_token_log_probs(), world.reference.next_token_log_probs()
        values = {name: getattr(kl_control, name)(log_p, log_q, policy.mask).sum(1) for name in ("k1", "k2", "k3")}
        values["k3 upside down"] = kl_control.k3(log_q, log_p, policy.mask).sum(1)
        values["full vocabulary"] = kl_control.compute_kl_divergence(*rows, policy.mask).sum(1)
        values["full vocabulary, reversed"] = kl_control.compute_kl_divergence(*rows[::-1], policy.mask).sum(1)
        return {name: spread(policy, value) for name, value in values.items()}


def estimator_numbers(world):
    policy = world.moved()
    with torch.no_grad():
        found = {"KL of the moved policy": f"{float(policy.kl(world.reference)):.4f} nats"}
    for name, (mean, deviation) in estimates(world, policy).items():
        found[f"estimate: {name}"] = f"| {name} | {mean:.4f} | {deviation:.4f} |"
    return found


def place_numbers(world):
    return {
        f"place: {place}": f"| {place} | {'' if math.isnan(cosine) else f'{cosine:.4f}'} | {size:.4f} |"
        for place, (cosine, size) in places(world, world.moved()).items()
    }


def optimum(world, alpha, worth=RARE):
    """(mean reward, KL, log-likelihood a token under the reference) of pi* at a price; at alpha 0 of the best sentence alone."""
    log_ref, rewards = world.reference.log_probs(), worth[world.reference.sequences].sum(1)
    if alpha == 0:
        best = int(rewards.argmax())
        return float(rewards[best]), float(-log_ref[best]), float(log_ref[best]) / LENGTH
    log_p = world.reference.optimum(rewards, alpha)
    p = log_p.exp()
    return float(p @ rewards), float(p @ (log_p - log_ref)), float(p @ log_ref) / LENGTH


def own_naturalness(world):
    return float(world.reference.probs() @ world.reference.log_probs()) / LENGTH


def frontier_numbers(world):
    before = own_naturalness(world)
    found = {"naturalness of the reference": f"{before:.3f} nats a token"}
    for name, worth in (("rare", RARE), ("common", COMMON)):
        for alpha in ALPHAS:
            reward, kl, natural = optimum(world, alpha, worth)
            word = kl_control.regime(reward, natural, before)
            found[f"optimum of {name} at {alpha:g}"] = f"| {alpha:g} | {reward:.3f} | {kl:.3f} | {natural:.3f} | {word} |"
    return found


def trained_numbers(trained):
    numbers = {}
    for place, end in trained.items():
        values = f"{end['tv']:.4f} | {end['kl']:.3f} | {end['reward']:.3f} | {end['reward'] - ALPHA * end['kl']:.4f}"
        numbers[f"trained: {place}"] = f"| {place} | {values} |"
    return numbers


def run_numbers(found):
    numbers = {}
    exact = found["run"].exact
    for step in (0, 10, 30, 60, STEPS):
        line = exact[step]
        numbers[f"run, step {step}"] = f"| {step} | {line['reward']:.3f} | {line['kl']:.3f} | {line['tv']:.4f} |"
    for alpha in STARTS:
        rows = found[f"steered from {alpha:g}"].rows
        late = np.mean([line["kl"] for line in rows[-30:]])
        numbers[f"steered from {alpha:g}"] = f"{late:.2f} nats over the last 30 steps, at an alpha of {rows[-1]['alpha']:.2f}"
    end = found["no penalty"].exact[-1]
    numbers["no penalty"] = f"a KL of {end['kl']:.2f} and a total variation of {end['tv']:.2f}"
    return numbers


def record(folder):
    """What the text quotes of a sweep's folder, written to reviews.json: the rows, curves, and what became of a few prompts."""
    folder = Path(folder)
    rows = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["sweep"]
    kept = {"rows": rows, "curves": {}, "samples": {}}
    for line in rows:
        inside = folder / f"alpha-{line['alpha']:g}"
        metrics = [json.loads(text) for text in (inside / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        kept["curves"][f"{line['alpha']:g}"] = {name: [round(m[name], 4) for m in metrics] for name in ("reward", "kl")}
        samples = [json.loads(text) for text in (inside / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
        for stage in ("before", "after"):
            of_stage = [sample for sample in samples if sample["stage"] == stage]
            both = {f"{name}s": [sample[name] for sample in of_stage] for name in ("prompt", "completion")}
            kept["samples"][f"{line['alpha']:g} {stage}"] = both
        kept["before"] = {name: json.loads((inside / "summary.json").read_text(encoding="utf-8"))[name]["mean"]
                          for name in ("reward_before", "gold_reward_before", "naturalness_before")}  # fmt: skip
    (HERE / "reviews.json").write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def recorded():
    return json.loads((HERE / "reviews.json").read_text(encoding="utf-8"))


def review_numbers(kept):
    """The sweep on the built-in reviews, as reviews.json has it."""
    found = {}
    for line in kept["rows"]:
        values = [f"{line['reward']:.3f}", f"{line['gold_reward']:.3f}", f"{line['kl']:.2f}", f"{line['naturalness']:.2f}",
                  f"{line['distinct_2']:.3f}", line["regime"]]  # fmt: skip
        found[f"reviews at {line['alpha']:g}"] = f"| {line['alpha']:g} | {' | '.join(values)} |"
    before = kept["before"]
    found["reviews before"] = f"{before['reward_before']:.3f} before training, the gold reward {before['gold_reward_before']:.3f}"
    found["naturalness before"] = f"{before['naturalness_before']:.2f} nats a token"
    return found


def draw_reviews(kept):
    """Reward and KL of the batches of each run, as means over ten steps."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("reward", "kl")):
        for (alpha, curves), colour in zip(kept["curves"].items(), ("tab:red", "tab:blue", "tab:green", "tab:gray")):
            smooth = np.convolve(curves[name], np.ones(10) / 10, mode="valid")
            axes.plot(np.arange(len(smooth)) + 10, smooth, color=colour, lw=2, label=f"α = {alpha}")
        axes.grid(alpha=0.2)
        axes.set_xlabel("step")
        axes.legend(fontsize=9)
    figure.axes[0].set(ylabel="P(positive)", title="Reward of the batch, mean of ten steps")
    figure.axes[1].set(ylabel="nats a completion", yscale="log", title="KL to the reference")
    return figure


def planted():
    """The silent bug as the learner finds it."""
    spec = importlib.util.spec_from_file_location("kl_control_bug_as_found", HERE.parents[1] / "full" / "kl_control_bug.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bug_runs(bug):
    """What the file reports at each step, and the exact KL and mean score of the same policy, by listing its 256 sentences."""
    reference, tables = bug.reference_table(), []

    def noting(table, count, generator):
        tables.append(table.detach().clone())
        return draw(table, count, generator)

    draw = bug.draw
    _, history = bug.train_within_limit(reference, reference, draw=noting)
    return history, [listed_kl(bug, table, reference) for table in tables]


def listed_kl(bug, table, reference):
    sentences = torch.tensor(list(product(range(bug.VOCABULARY), repeat=bug.LENGTH)))
    log_p, log_q = (bug.chosen(bug.next_token_log_probs(t, sentences), sentences).sum(1) for t in (table, reference))
    return float(log_p.exp() @ (log_p - log_q))


def bug_numbers(bug):
    history, exact = bug_runs(bug)
    return {
        "bug reports": f"reports {history['kl'][-1]:.2f} nats",
        "bug in truth": f"it is {exact[-1]:.2f}",
        "bug's steps": f"after {len(exact) - 1} steps",
        "bug's early steps": f"{history['kl'][40]:.3f} reported, {exact[40]:.3f} listed",
        "all sentences": f"all {bug.VOCABULARY**bug.LENGTH} sentences",
    }


# pictures


def draw_frontier(world):
    """Reward against KL of the best policies there are, and what they cost in likelihood under the reference: two rewards."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for worth, colour, name in ((RARE, "tab:red", "rare text pleases most"), (COMMON, "tab:blue", "common text pleases most")):
        grid = np.array([optimum(world, alpha, worth) for alpha in np.geomspace(0.02, 10, 160)])
        left.plot(grid[:, 1], grid[:, 0], color=colour, lw=2, label=name)
        right.plot(grid[:, 1], grid[:, 2], color=colour, lw=2, label=name)
        for alpha in ALPHAS[:-1]:
            reward, kl, natural = optimum(world, alpha, worth)
            left.plot([kl], [reward], "o", color=colour)
            left.annotate(f"{alpha:g}", (kl, reward), xytext=(5, -11), textcoords="offset points", fontsize=8)
            right.plot([kl], [natural], "o", color=colour)
    for level, style in ((kl_control.WEAK, ":"), (kl_control.GOOD, "--")):
        left.axhline(level, color="black", lw=0.8, ls=style)
    right.axhline(own_naturalness(world) - kl_control.NATURAL, color="black", ls="--", label="0.3 nats below the reference")
    left.set(xlabel="KL to the reference, nats a completion", ylabel="mean reward", title="What a nat buys (α at the dots)")
    right.set(xlabel="KL to the reference, nats a completion", ylabel="nats a token", title="Log-likelihood under the reference")
    for axes in (left, right):
        axes.grid(alpha=0.2)
        axes.legend(fontsize=9, loc="best")
    return figure


def draw_distance(found):
    """Total variation to the optimum while training from samples, and the log's three pictures of the KL."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([line["tv"] for line in found["run"].exact], color="tab:blue", lw=2, label=f"α = {ALPHA:g}")
    left.plot([line["tv"] for line in found["no penalty"].exact], color="tab:red", lw=2, label="α = 0")
    left.set(yscale="log", xlabel="step", ylabel="total variation to π*", title="Distance from the optimum, exactly")
    rows = found["run"].rows
    right.plot([line["kl"] for line in rows], color="tab:orange", lw=1, label="k1 of the batch, as logged")
    right.plot([line["kl_k3"] for line in rows], color="tab:green", lw=1, label="k3 of the batch, as logged")
    right.plot([line["kl"] for line in found["run"].exact], color="black", lw=1.6, label="exact")
    right.set(xlabel="step", ylabel="nats a completion", title="KL to the reference")
    for axes in (left, right):
        axes.grid(alpha=0.2)
        axes.legend(fontsize=9)
    return figure


def draw_steering(found):
    """Two controllers that begin too cheap and too dear."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for alpha, colour in zip(STARTS, ("tab:orange", "tab:blue")):
        rows = found[f"steered from {alpha:g}"].rows
        left.plot([line["kl"] for line in rows], color=colour, lw=1.2, label=f"starts at α = {alpha:g}")
        right.plot([line["alpha"] for line in rows], color=colour, lw=2, label=f"starts at α = {alpha:g}")
    left.axhline(1.0, color="black", ls=":", label="target")
    left.set(xlabel="step", ylabel="nats a completion", title="KL of the batch")
    right.set(xlabel="step", ylabel="α", yscale="log", title="The price")
    for axes in (left, right):
        axes.grid(alpha=0.2)
        axes.legend(fontsize=9)
    return figure


def draw_bug(bug):
    """What the silent bug reports, and what is true."""
    history, exact = bug_runs(bug)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(history["kl"], color="tab:orange", lw=2, label="as the file reports it")
    axes.plot(exact, color="black", lw=2, label="exact, from all sentences")
    axes.axhline(2.0, color="tab:red", ls=":", label="limit")
    axes.set(xlabel="step", ylabel="KL, nats a sentence")
    axes.grid(alpha=0.2)
    axes.legend(fontsize=9)
    return figure


def row(numbers, digits):
    """(0.05, 0.15): as the text writes a row."""
    return "(" + ", ".join(f"{round(float(n), digits) + 0.0:.{digits}f}" for n in numbers) + ")"


def save(figure, name):
    figure.savefig(HERE / f"{name}.png", dpi=110)


def main():
    torch.set_num_threads(1)  # models this small are slower on two
    if "--record" in sys.argv:
        record(sys.argv[-1])
        return
    world, bug = World(), planted()
    numbers = exact_numbers(world) | bug_numbers(bug) | review_numbers(recorded())
    save(draw_frontier(world), "frontier")
    save(draw_reviews(recorded()), "reviews")
    save(draw_bug(bug), "bug")
    if "--quick" not in sys.argv:
        found = runs(world)
        numbers |= trained_numbers(where_places_lead(world)) | run_numbers(found)
        save(draw_distance(found), "distance")
        save(draw_steering(found), "steering")
    for name, text in numbers.items():
        print(f"{name:<60}{text}")


if __name__ == "__main__":
    main()
