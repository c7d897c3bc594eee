"""The pictures of lesson 4, drawn by figures.py from what it computed."""

from __future__ import annotations

import math

import torch

import figures

INK, OURS, THEIRS = "#333333", "#1e8449", "#c0392b"
NAMED = {"k1": "#c0392b", "k2": "#b9770e", "k3": "#1e8449", "inverted": "#6c3483"}
LABELS = {"k1": "k1", "k2": "k2", "k3": "k3", "inverted": "k3 upside down"}


def draw_all(kl, found, strengths, bug):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    def save(figure, name):
        figure.savefig(figures.HERE / f"{name}.png", dpi=110)
        pyplot.close(figure)

    def panels(count, width=4.6, height=4.0):
        return pyplot.subplots(1, count, figsize=(width * count, height), constrained_layout=True)

    draw_directions(panels, save)
    draw_estimators(kl, panels, save)
    draw_tree(panels, save)
    draw_places(found, panels, save)
    draw_strengths(strengths, panels, save)
    draw_bug(bug, panels, save)


def draw_directions(panels, save):
    """The best single hump by each direction, and which of the two pays for what."""
    figure, (left, right) = panels(2, 5.4)
    x, reference, (ours, by_ours), (theirs, by_theirs) = figures.bumps()
    for axes, at, hump, colour, title in (
        (left, ours, by_ours, OURS, "smallest KL(policy||reference)"),
        (right, theirs, by_theirs, THEIRS, "smallest KL(reference||policy)"),
    ):
        axes.bar(x, reference, color="#cccccc", label="reference")
        axes.plot(x, hump, "o-", color=colour, markersize=3, label=f"policy: centre {at[0]:g}, width {at[1]:g}")
        axes.set(title=title, xlabel="outcome", ylabel="probability", ylim=(0, 0.23))
        axes.legend(fontsize=8, loc="upper right")
    save(figure, "directions")


def draw_estimators(kl, panels, save):
    """The estimators as functions of the log-ratio, their means and their noise."""
    figure, (curves, means, noise) = panels(3)
    log_ratio = torch.linspace(-2.2, 2.2, 200, dtype=torch.float64)
    zero = torch.zeros(200, dtype=torch.float64)
    for name in ("k1", "k2", "k3"):
        curves.plot(log_ratio, getattr(kl, name)(log_ratio, zero), color=NAMED[name], label=name)
    curves.plot(log_ratio, kl.k3(zero, log_ratio), color=NAMED["inverted"], ls="--", label=LABELS["inverted"])
    curves.axhline(0, color="#cccccc", zorder=0)
    curves.set(xlabel="log(policy / reference) of the sample", ylabel="estimate", title="what one sample says", ylim=(-2.2, 4.5))
    curves.legend(fontsize=8, loc="lower right")
    exact, moments = [], []
    for distance in torch.logspace(-1.3, 0.5, 40).tolist():
        policy, reference = figures.family(distance)
        exact.append(kl.kl_divergence(policy, reference).item())
        moments.append(figures.moments(kl, policy, reference))
    for name in NAMED:
        style = "--" if name == "inverted" else "-"
        means.plot(exact, [m[name][0] / e for m, e in zip(moments, exact)], color=NAMED[name], ls=style, label=LABELS[name])
        noise.plot(exact, [m[name][1] / e for m, e in zip(moments, exact)], color=NAMED[name], ls=style, label=LABELS[name])
    means.lines[0].set(lw=5, alpha=0.35)  # k1 lies under k3
    means.set(xscale="log", xlabel="exact KL (nats)", ylabel="mean / KL", title="on average", ylim=(0.9, 2.1))
    noise.set(xscale="log", yscale="log", xlabel="exact KL (nats)", ylabel="standard deviation / KL", title="noise of one sample")
    means.legend(fontsize=8, loc="upper left")
    save(figure, "estimators")


def draw_tree(panels, save):
    """The seven sentences as a tree: what is reached how often, and the divergence that waits there."""
    figure, axes = panels(1, 9.5, 4.3)
    root, first = (0.0, 3.0), {"good": (1.6, 5.0), "bad": (1.6, 2.4), ".": (1.6, 0.6)}
    start, rows = figures.START, {"good": (figures.EAGER, figures.GOOD), "bad": (figures.BAD, figures.BAD)}

    def edge(a, b, text):
        axes.plot([a[0], b[0]], [a[1], b[1]], color="#999999", zorder=0)
        style = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        axes.text((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, text, ha="center", va="center", fontsize=8, color=INK, bbox=style)

    def node(at, text, colour="white"):
        style = {"boxstyle": "round", "facecolor": colour, "edgecolor": "#666666"}
        axes.text(*at, text, ha="center", va="center", fontsize=9, bbox=style)

    for (word, at), weight in zip(first.items(), start):
        edge(root, at, f"{weight}/4 | {weight}/4")
    for word, (policy, reference) in rows.items():
        for i, (ours, theirs) in enumerate(zip(policy, reference)):
            at = (3.4, first[word][1] + 0.75 - 0.75 * i)
            edge(first[word], at, f"{ours}/{sum(policy)} | {theirs}/{sum(reference)}")
            node(at, figures.WORDS[i])
    node(root, "start\nKL 0\nreached: 1")
    node(first["good"], "good\nKL 0.5640\nreached: 1/2", "#f5c6c0")
    node(first["bad"], "bad\nKL 0\nreached: 1/4")
    node(first["."], ".  (end)")
    axes.text(4.1, 3.2, "KL of whole sentences\n= 1 · 0 + 1/2 · 0.5640 + 1/4 · 0\n= 0.2820 nats", fontsize=10, va="center")
    axes.text(4.1, 1.6, "on the branches:\npolicy | reference", fontsize=9, va="center", color=INK)
    axes.set(xlim=(-0.5, 6.2), ylim=(0, 6.3))
    axes.axis("off")
    save(figure, "tree")


def draw_places(found, panels, save):
    """Total variation to pi*, KL and objective against updates, for each place of the penalty."""
    figure, (left, right) = panels(2, 6.2, 4.6)
    for place, colour in figures.PLACES.items():
        rows = found[place][0]
        dashed = (0, (4, 3)) if place == "k2 in the loss" else "-"
        left.plot(rows[:, 0], color=colour, ls=dashed, lw=2.2, label=place)
        right.plot(rows[:, 1], color=colour, ls=dashed, lw=2.2)
    left.lines[0].set(lw=4)
    right.lines[0].set(lw=4)
    left.set(yscale="log", xlabel="expected updates", ylabel="total variation to pi*", title="Which place leads to the optimum?")
    left.legend(fontsize=7.5, loc="lower left")
    right.axhline(found["k1 in the reward"][0][-1, 1].item(), color=INK, ls=":", lw=1)
    right.set(xlabel="expected updates", ylabel="KL(policy||reference), nats a sentence", title="How far it runs (dotted: pi*)")
    save(figure, "places")


def draw_strengths(strengths, panels, save):
    """KL against updates for several strengths, and score against KL with the frontier of optima."""
    from matplotlib import colormaps

    figure, (left, right) = panels(2, 5.4)
    colours = dict(zip(strengths, colormaps["viridis"]([0.0, 0.2, 0.4, 0.6, 0.8, 0.95])))
    for beta, (rows, _) in strengths.items():
        left.plot(rows[:, 1], color=colours[beta], label=f"beta = {beta:g}")
        right.plot(rows[-1, 1], rows[-1, 2], "o", color=colours[beta], label=f"beta = {beta:g}")
    left.axhline(math.log(32), color=INK, ls=":", lw=1)
    left.text(figures.STEPS, math.log(32) + 0.03, "-log ref(“good good good”) = 3.4657", ha="right", va="bottom", fontsize=8)
    left.set(xlabel="expected updates", ylabel="KL(policy||reference), nats a sentence", ylim=(-0.1, 3.8))
    left.set_title("KL while training (colours as on the right)")
    _, reference, score = figures.task()
    log_ref = reference.log_probs()
    frontier = []
    for beta in torch.logspace(1.3, -1.3, 120).tolist():
        best = reference.optimum(score, beta)
        frontier.append(((best.exp() * (best - log_ref)).sum().item(), (best.exp() * score).sum().item()))
    right.plot(*zip(*frontier), color="#999999", zorder=0, label="the best there is")
    right.set(xlabel="KL(policy||reference), nats a sentence", ylabel="expected score", title="What a nat buys")
    right.legend(fontsize=8, loc="lower right")
    save(figure, "strengths")


def draw_bug(bug, panels, save):
    """What the program of section 4.14 reports, what is true, and its other curves."""
    reported, exact, history = bug
    figure, (left, middle, right) = panels(3, 4.4, 3.7)
    steps = torch.arange(len(reported)) * 10 + 5
    left.plot(steps, reported, color=THEIRS, label="reported by the program")
    left.plot(steps, exact, color=INK, ls="--", label="all 216 sentences listed")
    left.axhline(1.0, color="#999999", ls=":", label="target")
    left.set(xlabel="step", ylabel="KL, nats a sentence", title="kl", ylim=(0, 2.4))
    left.legend(fontsize=8, loc="lower right")
    for axes, name in ((middle, "score"), (right, "beta")):
        axes.plot(steps, torch.tensor(history[name]).reshape(-1, 10).mean(1), color="#2471a3")
        axes.set(xlabel="step", title=name)
    save(figure, "bug")
