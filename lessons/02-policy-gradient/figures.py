"""The numbers and pictures of lesson 2.   python lessons/02-policy-gradient/figures.py

Prints every number the text quotes and writes the PNGs beside this file (about 15 s), by the reference's functions.
"""

import sys
from itertools import product
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PROMPTS, WORDS = ("The film was", "The food was"), ("lovely", "fine", "poor")
POLICY = np.array([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]])  # pi(y|x) at the start
REWARDS = np.array([[10.0, 8.0, 6.0], [9.0, 6.0, 2.0]])  # r(x, y): all positive
CONTEXT_PROBS = np.array([0.6, 0.4])  # d(x)
DATA = np.array([[0.3, 0.6, 0.1], [0.5, 0.4, 0.1]])  # what people wrote: p_data(y|x)
THETA = np.log(POLICY)
UPDATES, RUNS, LEARNING_RATE = 300, 40, 0.1
BATCHES, OWN_LEARNING_RATE = 1000, 0.5
COLOURS = {"none": "#c0392b", "value": "#2471a3", "optimal": "#1e8449", "mle": "#7d6608"}
LABELS = {"none": "no baseline", "value": "b = V(x)", "optimal": "b = b*(x)", "mle": "MLE on the data"}


def values(policy):
    """V(x) = sum_y pi(y|x) r(x, y), (contexts,)."""
    return (policy * REWARDS).sum(axis=1)


def baseline_of(pg, kind, theta):
    if kind == "optimal":
        return pg.optimal_baseline(theta, REWARDS)
    return values(pg.softmax_policy(theta)) if kind == "value" else np.zeros(len(theta))


def learn(pg, kind, seed, updates=UPDATES, learning_rate=LEARNING_RATE):
    """One run, one sample an update: the table of logits at the start and after each update, (updates + 1, contexts, actions).

    kind: "mle" (answers from the data), "own" (maximum likelihood on the policy's own answers), or a baseline for REINFORCE.
    """
    rng, theta = np.random.default_rng(seed), THETA
    seen = [theta]
    for _ in range(updates):
        xs = rng.choice(len(PROMPTS), size=1, p=CONTEXT_PROBS)  # prompt
        answers = DATA if kind == "mle" else pg.softmax_policy(theta)
        ys = rng.choice(len(WORDS), size=1, p=answers[xs[0]])  # completion
        if kind in ("mle", "own"):
            gradient = pg.mle_gradient(theta, xs, ys)
        else:
            gradient = pg.reinforce_gradient(theta, xs, ys, REWARDS[xs, ys], baseline_of(pg, kind, theta))
        theta = pg.sgd_step(theta, gradient, learning_rate)
        seen.append(theta)
    return np.array(seen)


def runs(pg, kind, **settings):
    return np.array([learn(pg, kind, seed, **settings) for seed in range(RUNS)])


def objectives(pg, thetas):
    """J of every table, shape thetas.shape[:-2]."""
    flat = [pg.exact_objective(theta, REWARDS, CONTEXT_PROBS) for theta in thetas.reshape(-1, *THETA.shape)]
    return np.array(flat).reshape(thetas.shape[:-2])


def best_answer(pg, thetas):
    """pi(best answer | x) of every table in its worse context."""
    flat = [pg.softmax_policy(theta)[:, 0].min() for theta in thetas.reshape(-1, *THETA.shape)]
    return np.array(flat).reshape(thetas.shape[:-2])


def batch_cosines(pg, kind, batch=16):
    """Cosine between the exact gradient and REINFORCE's estimate from `batch` samples, for `BATCHES` batches."""
    rng = np.random.default_rng(0)
    policy, exact = pg.softmax_policy(THETA), pg.exact_gradient(THETA, REWARDS, CONTEXT_PROBS)
    baseline, cosines = baseline_of(pg, kind, THETA), []
    for _ in range(BATCHES):
        pairs = rng.choice(THETA.size, size=batch, p=(CONTEXT_PROBS[:, None] * policy).ravel())
        xs, ys = np.divmod(pairs, len(WORDS))
        estimate = pg.reinforce_gradient(THETA, xs, ys, REWARDS[xs, ys], baseline)
        cosines.append((estimate * exact).sum() / np.linalg.norm(estimate) / np.linalg.norm(exact))
    return np.array(cosines)


def expected_with_batch_mean(pg, batch):
    """E[REINFORCE's gradient] in the first context with each batch's own mean reward as its baseline, by listing all batches."""
    theta, total = THETA[:1], np.zeros(len(WORDS))
    for ys in map(np.array, product(range(len(WORDS)), repeat=batch)):
        rewards, xs = REWARDS[0, ys], np.zeros(batch, int)
        total += POLICY[0, ys].prod() * pg.reinforce_gradient(theta, xs, ys, rewards, rewards.mean())[0]
    return total


def surrogate_run(pg, steps=400, learning_rate=0.1):
    """J and the expected surrogate loss -E[(r - V) log pi] along exact gradient ascent from the uniform policy."""
    theta, rows = np.zeros(THETA.shape), []
    for _ in range(steps + 1):
        policy = pg.softmax_policy(theta)
        advantages = REWARDS - values(policy)[:, None]
        loss = -(CONTEXT_PROBS[:, None] * policy * advantages * np.log(policy)).sum()
        rows.append((pg.exact_objective(theta, REWARDS, CONTEXT_PROBS), loss))
        theta = pg.sgd_step(theta, pg.exact_gradient(theta, REWARDS, CONTEXT_PROBS), learning_rate)
    return np.array(rows)


def exact_numbers(pg):
    """What the text quotes and enumeration gives: name -> text as it stands in lesson.md."""
    policy, value, best = pg.softmax_policy(THETA), values(POLICY), pg.optimal_baseline(THETA, REWARDS)
    alone = (THETA[:1], REWARDS[:1], np.ones(1))  # the first context as a world of its own
    scores = pg.score(THETA, np.zeros(3, int), np.arange(3))[:, 0]
    guess = np.array([9.0, 8.0, 8.0])  # an action-dependent "baseline" for the first context
    prompt_model = np.array([0.8, 0.2])
    surrogate = surrogate_run(pg)
    numbers = {"policy rows": f"{row(policy[0])} and {row(policy[1])}"}
    numbers |= {f"score {word}": row(s) for word, s in zip(WORDS, scores)}
    for name, b in (("none", 0.0), ("V", value[0])):
        numbers |= {f"estimate {word}, {name}": row(r * s) for word, r, s in zip(WORDS, REWARDS[0] - b, scores)}
    numbers |= {f"squared norm {word}": f"{(s**2).sum():.3f}" for word, s in zip(WORDS, scores)}
    numbers |= {
        "V": row(value),
        "J": f"{pg.exact_objective(THETA, REWARDS, CONTEXT_PROBS):.2f}",
        "J of the data": f"{CONTEXT_PROBS @ values(DATA):.2f}",
        "J at best": f"{CONTEXT_PROBS @ REWARDS.max(axis=1):.1f}",
        "gradient film": row(pg.exact_gradient(*alone)[0]),
        "gradient first row": row(pg.exact_gradient(THETA, REWARDS, CONTEXT_PROBS)[0]),
        "gradient second row": row(pg.exact_gradient(THETA, REWARDS, CONTEXT_PROBS)[1]),
        "MLE gradient film": row((DATA - POLICY)[0]),
        "best baseline": row(best),
        "variance film, none": f"{pg.gradient_variance(*alone, 0.0):.2f}",
        "variance film, V": f"{pg.gradient_variance(*alone, value[0]):.3f}",
        "variance film, best": f"{pg.gradient_variance(*alone, best[0]):.2f}",
        "variance, none": f"{pg.gradient_variance(THETA, REWARDS, CONTEXT_PROBS, 0.0):.2f}",
        "variance, V": f"{pg.gradient_variance(THETA, REWARDS, CONTEXT_PROBS, value):.2f}",
        "variance, best": f"{pg.gradient_variance(THETA, REWARDS, CONTEXT_PROBS, best):.2f}",
        "variance, rewards + 100": f"{pg.gradient_variance(THETA, REWARDS + 100, CONTEXT_PROBS, 0.0):,.0f}",
        "prompt term": row(CONTEXT_PROBS * value - (CONTEXT_PROBS @ value) * prompt_model),
        "expected with guess(x, y)": row(POLICY[0] @ ((REWARDS[0] - guess)[:, None] * scores)),
        "expected with b = r": row(abs(POLICY[0] @ ((REWARDS[0] - REWARDS[0])[:, None] * scores))),
        "expected with b = 100": row(POLICY[0] @ ((REWARDS[0] - 100.0)[:, None] * scores)),
        "batch mean of 2": row(expected_with_batch_mean(pg, 2)),
        "batch mean of 4": row(expected_with_batch_mean(pg, 4)),
        "surrogate start": f"J = {surrogate[0, 0]:.2f}, loss {abs(surrogate[0, 1]):.2f}",
        "surrogate lowest": f"J = {surrogate[surrogate[:, 1].argmin(), 0]:.2f}, loss {surrogate[:, 1].min():.2f}",
        "surrogate end": f"J = {surrogate[-1, 0]:.2f}, loss {surrogate[-1, 1]:.2f}",
    }
    return numbers


def measured_numbers(pg, found):
    """What the text quotes and the runs of `measure` gave."""
    numbers = {}
    for kind in ("none", "slow", "value", "optimal", "mle"):
        end = objectives(pg, found[kind][:, -1])
        numbers[f"J after, {kind}"] = f"{end.mean():.2f} (10% of the runs below {np.quantile(end, 0.1):.2f})"
    for kind in ("none", "value", "optimal"):
        stuck = int((best_answer(pg, found[kind][:, -1]) < 0.5).sum())
        numbers[f"stuck, {kind}"] = f"{stuck} of {RUNS} runs"
        numbers[f"median cosine, {kind}"] = f"{np.median(found['cosine ' + kind]):.2f}"
        numbers[f"wrong way, {kind}"] = f"{(found['cosine ' + kind] < 0).sum()} of {BATCHES:,}"
    drift = found["own"][:, -1] - THETA
    error = drift.std(axis=0, ddof=1) / np.sqrt(RUNS)
    numbers["own samples, largest drift in standard errors"] = f"{(abs(drift.mean(axis=0)) / error).max():.1f}"
    policies = softmaxes(pg, found["own"][:, -1])
    before, after = entropy(POLICY) @ CONTEXT_PROBS, entropy(policies) @ CONTEXT_PROBS
    numbers["own samples, settled"] = f"{(policies.max(axis=2) > 0.9).sum()} of {policies.shape[0] * policies.shape[1]} cases"
    numbers["own samples, entropy"] = f"from {before:.2f} to {after.mean():.2f} nats"
    return numbers


def measure(pg):
    """All runs the text speaks of, by name."""
    found = {kind: runs(pg, kind) for kind in ("none", "value", "optimal", "mle")}
    found["slow"] = runs(pg, "none", learning_rate=0.03)
    found["own"] = runs(pg, "own", learning_rate=OWN_LEARNING_RATE)
    return found | {f"cosine {kind}": batch_cosines(pg, kind) for kind in ("none", "value", "optimal")}


def softmaxes(pg, thetas):
    return np.array([pg.softmax_policy(theta) for theta in thetas.reshape(-1, *THETA.shape)]).reshape(thetas.shape)


def entropy(policy):
    return -(policy * np.log(np.maximum(policy, 1e-300))).sum(axis=-1)


def draw_single_samples(pg, found, save):
    """What one sample says: REINFORCE's estimate in the first context, with and without a baseline, and batches of 16."""
    figure, panels = save.subplots(3)
    plane = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])  # the rows of a score sum to 0: two coordinates are enough
    scores = pg.score(THETA, np.zeros(3, int), np.arange(3))[:, 0] @ plane.T
    exact = plane @ pg.exact_gradient(THETA[:1], REWARDS[:1], np.ones(1))[0]

    def arrows(axes, b, reach):
        for y, estimate in enumerate((REWARDS[0] - b)[:, None] * scores):
            label = f"sampled “{WORDS[y]}”, probability {POLICY[0, y]:g}"
            axes.quiver(0, 0, *estimate, color=f"C{y}", angles="xy", scale_units="xy", scale=1, width=0.012, label=label)
        axes.quiver(0, 0, *exact, angles="xy", scale_units="xy", scale=1, width=0.012, label="their mean: the gradient")
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axes.axhline(0, color="#cccccc", zorder=0)
        axes.axvline(0, color="#cccccc", zorder=0)

    arrows(panels[0], 0.0, 8.5)
    arrows(panels[1], values(POLICY)[0], 8.5)
    zoomed = panels[1].inset_axes([0.02, 0.02, 0.42, 0.42], xticks=[], yticks=[])
    arrows(zoomed, values(POLICY)[0], 2.5)
    panels[1].indicate_inset_zoom(zoomed, edgecolor="grey")
    panels[0].set(title="One sample, no baseline", xlabel="“lovely” against “fine”", ylabel="both against “poor”")
    panels[1].set(title="One sample, b = V(x) = 8.5 (inset: enlarged)", xlabel="“lovely” against “fine”")
    panels[0].legend(loc="upper center", fontsize=7.5)
    for kind in ("none", "value"):
        panels[2].hist(found["cosine " + kind], np.linspace(-1, 1, 41), color=COLOURS[kind], alpha=0.7, label=LABELS[kind])
    panels[2].set(title=f"{BATCHES:,} batches of 16, both prompts", xlabel="cosine with the exact gradient", ylabel="batches")
    panels[2].legend(loc="upper left", fontsize=8)
    save(figure, "single_samples")


def draw_parabolas(pg, found, save):
    """The variance as a function of the baseline in each context, and as a function of what is added to all rewards."""
    figure, (left, right) = save.subplots(2)
    grid = np.linspace(-1, 14, 301)
    for x, colour in ((0, "#6c3483"), (1, "#b9770e")):
        alone = (THETA[[x]], REWARDS[[x]], np.ones(1))
        left.plot(grid, [pg.gradient_variance(*alone, b) for b in grid], color=colour, label=f"“{PROMPTS[x]}”")
        for b, mark in ((0.0, "o"), (values(POLICY)[x], "s"), (pg.optimal_baseline(THETA, REWARDS)[x], "*")):
            left.plot(b, pg.gradient_variance(*alone, b), mark, color=colour, markersize=11 if mark == "*" else 7)
    for mark, label in (("o", "b = 0"), ("s", "b = V(x)"), ("*", "b = b*(x), the lowest point")):
        left.plot([], [], mark, color="grey", label=label)
    left.set(yscale="log", xlabel="baseline b of the context", ylabel="variance of one sample's gradient", ylim=(0.5, 200))
    left.set_title("One parabola per context")
    left.legend(fontsize=8, loc="upper center", ncols=2)
    shifts = np.linspace(-15, 15, 121)
    for kind in ("none", "value", "optimal"):
        fixed = baseline_of(pg, kind, THETA)
        moved = [fixed + c if kind != "none" else fixed for c in shifts]  # both baselines follow the rewards
        variances = [pg.gradient_variance(THETA, REWARDS + c, CONTEXT_PROBS, b) for c, b in zip(shifts, moved)]
        right.plot(shifts, variances, color=COLOURS[kind], label=LABELS[kind])
    right.set(yscale="log", xlabel="constant added to every reward", ylabel="variance of one sample's gradient")
    right.set_title("A constant changes nothing but the noise")
    right.legend(fontsize=8)
    save(figure, "variance")


def draw_learning(pg, found, save):
    """Expected reward against updates, and how often the best answer comes in single runs."""
    figure, panels = save.subplots(3)
    for kind in ("none", "value", "optimal", "mle"):
        curves = objectives(pg, found[kind])
        low, median, high = np.quantile(curves, [0.1, 0.5, 0.9], axis=0)
        panels[0].plot(median, color=COLOURS[kind], label=LABELS[kind] if kind == "mle" else f"REINFORCE, {LABELS[kind]}")
        panels[0].fill_between(np.arange(UPDATES + 1), low, high, color=COLOURS[kind], alpha=0.2, lw=0)
    panels[0].axhline(CONTEXT_PROBS @ values(DATA), color=COLOURS["mle"], ls=":", label="expected reward of the data")
    panels[0].axhline(CONTEXT_PROBS @ REWARDS.max(axis=1), color="black", ls=":", label="best possible")
    panels[0].set(xlabel="updates, one sample each", ylabel="exact expected reward J", title=f"Median and 10-90% of {RUNS} runs")
    panels[0].legend(fontsize=7, loc="lower right")
    for axes, kind in ((panels[1], "none"), (panels[2], "value")):
        axes.plot(best_answer(pg, found[kind]).T, color=COLOURS[kind], alpha=0.5, lw=0.8)
        axes.set(xlabel="updates", ylabel="P(best answer), worse prompt", title=f"REINFORCE, {LABELS[kind]}", ylim=(-0.02, 1.02))
    save(figure, "learning")


def draw_own_samples(pg, found, save):
    """Maximum likelihood on the policy's own answers: no direction, and yet a journey."""
    figure, (left, right) = save.subplots(2)
    drift = found["own"][:, :, 0, 0] - THETA[0, 0]
    error = drift.std(axis=0, ddof=1) / np.sqrt(RUNS)
    left.plot(drift.T, color="grey", alpha=0.35, lw=0.8)
    left.plot(drift.mean(axis=0), color="black", label=f"mean of {RUNS} runs")
    left.fill_between(np.arange(UPDATES + 1), -4 * error, 4 * error, color="#2471a3", alpha=0.25, label="0 ± 4 standard errors")
    left.set(xlabel="updates", ylabel="change of the logit of “lovely”", title=f"“{PROMPTS[0]}”: the mean goes nowhere")
    left.legend(fontsize=8, loc="upper left")
    right.plot(softmaxes(pg, found["own"])[:, :, 0, 0].T, color="grey", alpha=0.45, lw=0.8)
    right.set(xlabel="updates", ylabel="P(“lovely”)", title="single runs wander towards one answer", ylim=(-0.02, 1.02))
    save(figure, "own_samples")


def draw_surrogate(pg, found, save):
    """The expected reward and the surrogate loss along the same ascent."""
    figure, (left, right) = save.subplots(2)
    rewards, losses = surrogate_run(pg).T
    left.plot(rewards, color="#1e8449")
    left.set(xlabel="updates along the exact gradient", ylabel="expected reward J", title="What we want rises throughout")
    right.plot(losses, color="#c0392b")
    right.set(xlabel="updates along the exact gradient", ylabel="-E[(r - V) log pi]", title="The “loss” falls, then rises")
    save(figure, "surrogate")


class Save:
    """Makes rows of panels and writes them as PNG files beside this one."""

    def __init__(self):
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        self.pyplot = pyplot

    def subplots(self, panels):
        return self.pyplot.subplots(1, panels, figsize=(4.6 * panels, 4.0), constrained_layout=True)

    def __call__(self, figure, name):
        figure.savefig(HERE / f"{name}.png", dpi=110)
        self.pyplot.close(figure)


def row(numbers):
    """(0.75, -0.125): as the text writes a row, at most four decimals."""
    return "(" + ", ".join(f"{round(float(n), 4) + 0.0:g}" for n in numbers) + ")"



def main():
    sys.path.insert(0, str(HERE.parents[1]))
    from solutions.toy import policy_gradient as pg

    found = measure(pg)
    for name, text in (exact_numbers(pg) | measured_numbers(pg, found)).items():
        print(f"{name:<48}{text}")
    save = Save()
    for draw in (draw_single_samples, draw_parabolas, draw_learning, draw_own_samples, draw_surrogate):
        draw(pg, found, save)


if __name__ == "__main__":
    main()
