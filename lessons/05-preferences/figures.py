"""The numbers and pictures of lesson 5.   python lessons/05-preferences/figures.py

Prints every number the text quotes and writes the PNGs beside this file (about 40 s), by the reference's functions.
"""

import math
import sys
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
ANSWERS = ("A", "B", "C", "D")
REF = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)
REWARD = torch.tensor([1.5, 0.5, -0.5, -1.5], dtype=torch.float64)
LABELS = torch.tensor([1, 1, 1, 0, 1, 2])  # one annotator, in the order AB AC AD BC BD CD
ANNOTATORS = torch.tensor([[1, 1, 1, 0, 1, 2], [1, 1, 1, 1, 1, 1], [2, 1, 1, 1, 1, 0], [1, 0, 1, 2, 1, 1], [1, 1, 2, 1, 1, 1]])
BETAS = (0.5, 1.0, 2.0)
COLOURS = {0.5: "#c0392b", 1.0: "#2471a3", 2.0: "#1e8449"}
UPDATES = 3000
# Three answers on a line: the policy is ref(y) exp(w * place(y)) / Z(w), so that all of them hang on one number w.
PLACES = (0.0, 1.0, 2.0)  # rejected (curt), chosen (polite), never compared (fawning)
LINE_REF = torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)
LINE_BETA = 0.5


def all_pairs(answers):
    """Every ordered pair (chosen, rejected) of different answers."""
    pairs = torch.cartesian_prod(torch.arange(answers), torch.arange(answers))
    return pairs[pairs[:, 0] != pairs[:, 1]]


def on_pairs(log_probs, log_ref, pairs):
    """The four log-probabilities a loss asks for."""
    return log_probs[pairs[:, 0]], log_probs[pairs[:, 1]], log_ref[pairs[:, 0]], log_ref[pairs[:, 1]]


def train(log_probs_of, parameters, loss_of, updates, learning_rate):
    """Adam on `loss_of(log_probs)`: the log-probabilities of all answers before each update and at the end, and the losses."""
    optimizer, path, losses = torch.optim.Adam(parameters, lr=learning_rate, eps=1e-6), [], []  # eps: no kicks at the optimum
    for _ in range(updates):
        log_probs = log_probs_of()
        loss = loss_of(log_probs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        path.append(log_probs.detach())
        losses.append(loss.item())
    return torch.stack([*path, log_probs_of().detach()]), losses


def train_table(loss_of, ref=REF, updates=UPDATES, learning_rate=0.05):
    """From the reference on, a table with one logit an answer."""
    logits = ref.log().clone().requires_grad_(True)
    return train(lambda: torch.log_softmax(logits, dim=0), [logits], loss_of, updates, learning_rate)


def dpo_on(pf, pairs, beta, weights=None, ref=REF, loss="dpo_loss"):
    return lambda log_probs: getattr(pf, loss)(*on_pairs(log_probs, ref.log(), pairs), beta, weights=weights)


def kl(log_p, log_q):
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def distance(log_p, log_q):
    """Total variation."""
    return (log_p.exp() - log_q.exp()).abs().sum(-1) / 2


def judge(pf, reward):
    pairs = all_pairs(len(reward))
    return pairs, pf.preference_probability(reward[pairs[:, 0]], reward[pairs[:, 1]])


def pairs_of_annotators(pf):
    return torch.cat([pf.pairs_from_preferences(labels) for labels in ANNOTATORS])


# 5.4: rewards from few choices


def sample_choices(pf, count, generator):
    """`count` choices of the judge with REWARD between two different answers drawn at random."""
    pairs = all_pairs(4)[torch.randint(12, (count,), generator=generator)]
    wins = torch.rand(count, generator=generator, dtype=torch.float64) < pf.preference_probability(*REWARD[pairs].T)
    return torch.where(wins[:, None], pairs, pairs.flip(1))


def fits(pf, count, repeats):
    """Root-mean-square errors of fits to `count` choices, and how many of the samples had no finite fit."""
    generator, errors, refused = torch.Generator().manual_seed(count), [], 0
    for _ in range(repeats):
        try:
            errors.append((pf.fit_rewards(sample_choices(pf, count, generator), 4) - REWARD).square().mean().sqrt().item())
        except ValueError:
            refused += 1
    return errors, refused


# 5.8: a language model of 15 answers


def language_model(bug, beta, kind):
    """DPO (or RLHF) on the world of the silent bug. The path of log-probabilities, log pi*, and the reference's.

    kind: "full"; "by position" (a policy that cannot be pi*); "within groups" (only answers with the same first word are
    compared); "RLHF by position" (the objective itself, climbed by the policy that cannot be pi*).
    """
    from toy.given.enumerable import EnumerableLM

    reference, reward = bug.world()
    target, log_ref = reference.optimum(reward, beta), reference.log_probs()
    pairs, weights = bug.comparisons(reward)
    if kind == "within groups":
        same = reference.sequences[pairs[:, 0], 0] == reference.sequences[pairs[:, 1], 0]
        pairs, weights = pairs[same], weights[same]
    policy = bug.copy_of(reference)
    if "by position" in kind:
        policy = EnumerableLM.tabular(3, 3, eos=0, by_position=True)

    def loss_of(log_probs):
        if kind.startswith("RLHF"):
            return beta * kl(log_probs, log_ref) - log_probs.exp() @ reward
        return bug.dpo_loss(*on_pairs(log_probs, log_ref, pairs), beta, weights)

    path, losses = train(policy.log_probs, policy.model.parameters(), loss_of, 400, 0.1)
    objective = path[-1].exp() @ reward - beta * kl(path[-1], log_ref)
    return {"path": path, "target": target, "ref": log_ref, "objective": objective.item(), "losses": losses, "reward": reward}


# 5.10, 5.11: one number moves three answers


def on_the_line(w, places=PLACES):
    """log pi of the three answers at each w: (..., 3)."""
    return torch.log_softmax(LINE_REF.log() + w[..., None] * torch.tensor(places, dtype=torch.float64), dim=-1)


def line_pair(w, places=PLACES):
    log_probs, log_ref = on_the_line(w, places), LINE_REF.log()
    return log_probs[1:2], log_probs[0:1], log_ref[1:2], log_ref[0:1]


def train_on_the_line(pf, updates=300):
    w = torch.zeros((), dtype=torch.float64, requires_grad=True)
    return train(lambda: on_the_line(w), [w], lambda _: pf.dpo_loss(*line_pair(w), LINE_BETA), updates, 0.05)


def dpop_on_the_line(pf, factor, grid, places=PLACES):
    """DPOP's loss at every w of the grid, with lam = factor * beta."""
    return torch.stack([pf.dpop_loss(*line_pair(w, places), LINE_BETA, factor * LINE_BETA) for w in grid])


# The numbers


def exact_numbers(pf):
    """What the text quotes and a formula gives: name -> text as it stands in lesson.md."""
    probs = pf.preference_probability(REWARD[:, None].expand(4, 4), REWARD.expand(4, 4))
    pairs, zero = pf.pairs_from_preferences(LABELS), torch.zeros(1, dtype=torch.float64)
    numbers = {
        "P(A preferred to B, C, D)": row(probs[0, 1:], 3),
        "loss, judge agrees": f"{pf.bradley_terry_loss(zero + 1, zero):.3f}",
        "loss, judge disagrees": f"{pf.bradley_terry_loss(zero, zero + 1):.3f}",
        "pairs of one annotator": str(pairs.tolist()),
        "choices of five annotators": str(len(pairs_of_annotators(pf))),
        "fit to five annotators": row(pf.fit_rewards(pairs_of_annotators(pf), 4), 3),
        "three choices": row(pf.fit_rewards(torch.tensor([[0, 1], [0, 1], [1, 0]]), 2), 4),
    }
    for l2 in (0.1, 0.01, 0.001):
        numbers[f"one annotator, l2 {l2:g}"] = row(pf.fit_rewards(pairs, 4, l2), 2)
    for beta in (2.0, 1.0, 0.5, 0.1):
        policy = pf.optimal_policy(REF, REWARD, beta)
        log_z = torch.logsumexp(REF.log() + REWARD / beta, 0)
        earned, divergence = policy @ REWARD, kl(policy.log(), REF.log())
        numbers[f"pi*, beta {beta:g}"] = row(policy, 3)
        objective = earned - beta * divergence
        numbers[f"pi*, beta {beta:g}: reward, KL, objective"] = f"{earned:.3f} | {divergence:.3f} | {objective:.3f}"
        numbers[f"beta log Z, beta {beta:g}"] = f"{beta * log_z:.3f}"
    policy = pf.optimal_policy(REF, REWARD, 1.0)
    numbers |= {
        "E_ref[r]": f"{REF @ REWARD:.1f}",
        "Z, beta 1": f"{(REF * REWARD.exp()).sum():.4f}",
        "weights, beta 1": row(REF * REWARD.exp(), 4),
        "implicit rewards of pi*, beta 1": row(pf.implicit_reward(policy.log(), REF.log(), 1.0), 3),
        "rewards minus implicit rewards": f"{(REWARD - pf.implicit_reward(policy.log(), REF.log(), 1.0)).mean():.3f}",
        "log 2": f"{math.log(2):.4f}",
    }
    for beta in (0.1, 0.25, 0.5):
        numbers[f"DPO loss at 0.3 nats, beta {beta:g}"] = f"{pf.dpo_loss(zero + 0.3, zero, zero, zero, beta):.3f}"
    numbers["IPO targets"] = ", ".join(f"{1 / (2 * beta):g}" for beta in BETAS)
    numbers["DPOP, paper's convention at lam 50, beta 0.3"] = f"{1 + 0.3 * 50 / 0.3:g}"
    return numbers


def measure(pf, bug):
    """Everything the text speaks of that takes training, by name."""
    torch.set_num_threads(1)
    found = {"fits": {count: fits(pf, count, 100) for count in (10, 30, 100, 300, 1000)}}
    for beta in BETAS:
        found["full", beta] = language_model(bug, beta, "full")
    for kind in ("by position", "RLHF by position", "within groups"):
        found[kind] = language_model(bug, 0.5, kind)
    pairs, weights = judge(pf, REWARD)
    always = pairs[pairs[:, 0] < pairs[:, 1]]  # the better answer, every time
    for beta in BETAS:
        found["judge", beta] = train_table(dpo_on(pf, pairs, beta, weights))
        found["always", beta] = train_table(dpo_on(pf, always, beta))
        found["ipo", beta] = train_table(dpo_on(pf, always, beta, loss="ipo_loss"))
    found["two stages"] = train_table(dpo_on(pf, pairs_of_annotators(pf), 0.5))
    found["ipo judge"] = train_table(dpo_on(pf, pairs, 0.5, weights, loss="ipo_loss"))
    found["line"] = train_on_the_line(pf)
    found["bug"], found["mended"] = run_bug(bug, averaged=True), run_bug(bug, averaged=False)
    return found


def run_bug(bug, averaged):
    """The silent bug's run, as the learner finds it and mended."""
    mended, (reference, reward) = bug.answer_log_probs, bug.world()
    try:
        if averaged:
            bug.answer_log_probs = lambda lm: mended(lm) / lm.lengths
        return bug.train_dpo(reference, reward, 0.5)
    finally:
        bug.answer_log_probs = mended


def measured_numbers(pf, found):
    """What the text quotes and the runs of `measure` gave."""
    numbers = {}
    for count, (errors, refused) in found["fits"].items():
        middle = torch.tensor(errors).median() if errors else math.nan
        numbers[f"fit to {count} choices"] = f"{refused} of 100 | {middle:.2f}"
    for beta in BETAS:
        run = found["full", beta]
        numbers[f"DPO on 15 answers, beta {beta:g}"] = below(distance(run["path"], run["target"])[-1])
    target = found["full", 0.5]["target"]
    for kind in ("by position", "RLHF by position", "within groups"):
        run = found[kind]
        numbers[f"{kind}: distance to pi*, objective"] = f"{distance(run['path'][-1], target):.3f} | {run['objective']:.3f}"
    best, between = found["full", 0.5], [found[kind]["path"][-1] for kind in ("by position", "RLHF by position")]
    numbers["pi*: objective"] = f"{0.5 * torch.logsumexp(best['ref'] + best['reward'] / 0.5, 0):.3f}"
    numbers["DPO by position against RLHF by position"] = f"{distance(*between):.3f}"
    fitted = pf.optimal_policy(REF, pf.fit_rewards(pairs_of_annotators(pf), 4), 0.5)
    numbers["two stages"] = below(distance(found["two stages"][0][-1], fitted.log()))
    numbers["two stages, policy"] = row(fitted, 3)
    log_ref, half = REF.log(), UPDATES // 10
    for beta in BETAS:
        for name in ("judge", "always", "ipo"):
            path = found[name, beta][0]
            values = [f"{kl(path[at], log_ref):.2f}" for at in (half, UPDATES)]
            numbers[f"{name}, beta {beta:g}: KL at {half}, {UPDATES}"] = values[1] if name == "ipo" else " | ".join(values)
        margins = [found["always", beta][0][at] - log_ref for at in (half, UPDATES)]
        numbers[f"always, beta {beta:g}: margin of A over D"] = " | ".join(f"{m[0] - m[3]:.1f}" for m in margins)
        last = found["ipo", beta][0][-1] - log_ref
        numbers[f"ipo, beta {beta:g}: margins of A over B and D"] = f"{last[0] - last[1]:.3f} | {last[0] - last[3]:.3f}"
    wins = pf.preference_probability(REWARD[:, None].expand(4, 4), REWARD.expand(4, 4)).mean(dim=1)
    numbers["P(y preferred to a random answer)"] = row(wins, 3)
    known = pf.optimal_policy(REF, wins, 0.5)
    numbers["IPO's optimum, beta 0.5"] = row(known, 3)
    numbers["IPO against it"] = below(distance(found["ipo judge"][0][-1], known.log()))
    path, _ = found["line"]
    for at in (0, 20, 100, 300):
        loss = pf.dpo_loss(path[at][1:2], path[at][0:1], path[0][1:2], path[0][0:1], LINE_BETA)
        margin = path[at][1] - path[at][0] - (path[0][1] - path[0][0])
        numbers[f"line, update {at}"] = " | ".join(f"{x:.3f}" for x in (*path[at].exp(), margin, loss))
    for factor, places in ((0.0, PLACES), (0.5, PLACES), (2.0, PLACES), (20.0, PLACES), (2.0, (0.0, 1.0, 1.1))):
        grid = torch.linspace(0, 60, 3001, dtype=torch.float64)
        at = int(dpop_on_the_line(pf, factor, grid, places).argmin())
        where = "no end" if at == len(grid) - 1 else f"{grid[at]:.2f}"
        probs = " | ".join(f"{p:.3f}" for p in on_the_line(grid[at], places).exp())
        numbers[f"DPOP, lam {factor:g} beta, third answer at {places[2]:g}"] = f"{1 + factor:g} | {where} | {probs}"
    wrong, right = found["bug"], found["mended"]
    numbers |= {f"the bug: {name}": f"{getattr(wrong, name)[-1]:.3f}" for name in ("accuracy", "reward", "kl", "distance")}
    numbers |= {f"mended: {name}": f"{getattr(right, name)[-1]:.3f}" for name in ("accuracy", "reward", "kl")}
    numbers |= {"the bug: loss": f"{wrong.loss[-1]:.4f}", "mended: loss": f"{right.loss[-1]:.4f}"}
    return numbers


def draw_choices(pf, found, save):
    """The probability of a choice and its loss, as functions of the difference of the rewards."""
    figure, (left, right) = save.subplots(2)
    gap, zero = torch.linspace(-6, 6, 241, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    left.plot(gap, pf.preference_probability(gap, torch.zeros_like(gap)), color="black")
    for k, name in enumerate(ANSWERS[1:], start=1):
        p = pf.preference_probability(REWARD[0], REWARD[k])
        left.plot(REWARD[0] - REWARD[k], p, "o", color=f"C{k}", markersize=8, label=f"A against {name}: {p:.3f}")
    left.set(xlabel="r(first) - r(second), nats", ylabel="P(first preferred)", title="Bradley and Terry: sigma of the difference")
    left.legend(loc="upper left")
    losses = [pf.bradley_terry_loss(zero + x, zero) for x in gap]
    right.plot(gap, losses, color="black", label="-log sigma")
    right.plot(gap, (-gap).clamp(min=0), ":", color="grey", label="max(0, -difference)")
    right.plot(0, math.log(2), "o", color="#c0392b", label="log 2, nothing known")
    right.set(xlabel="r(chosen) - r(rejected), nats", ylabel="loss of the pair, nats", title="The loss of a choice")
    right.legend()
    save(figure, "choices")


def draw_fits(pf, found, save):
    """A ridge against rewards that run away; errors of fits against the number of choices."""
    figure, (left, right) = save.subplots(2)
    ridges = torch.logspace(-4, 0.5, 19, dtype=torch.float64)
    rewards = torch.stack([pf.fit_rewards(pf.pairs_from_preferences(LABELS), 4, l2.item()) for l2 in ridges])
    for k, name in enumerate(ANSWERS):
        left.plot(ridges, rewards[:, k], "o-", markersize=3, color=f"C{k}", label=name)
    left.set(xscale="log", xlabel="l2, strength of the ridge", ylabel="fitted reward, nats", title="One annotator: A always wins")
    left.invert_xaxis()
    left.legend(ncols=4, loc="upper left")
    left.set_ylim(-10, 12)
    counts = [count for count, (errors, _) in found["fits"].items() if errors]
    for count in counts:
        errors, refused = found["fits"][count]
        right.plot([count] * len(errors), errors, ".", color="#2471a3", alpha=0.3)
        note = f"{refused} of 100\nhave no fit" if refused else "all fit"
        right.annotate(note, (count, 2.6), ha="center", fontsize=8)
    anchor = torch.tensor(found["fits"][1000][0]).median() * math.sqrt(1000)
    right.plot(counts, [anchor / math.sqrt(count) for count in counts], color="black", label="proportional to 1 / sqrt(choices)")
    right.set(xscale="log", yscale="log", xlim=(6, 1800), ylim=(0.02, 6))
    right.set(xlabel="choices", ylabel="rms error of the rewards, nats")
    right.set_title("100 samples each of the judge's choices")
    right.legend(loc="lower left")
    save(figure, "fits")


def draw_frontier(pf, found, save):
    """The optimal policies for several beta, and what reward can be had for how much KL."""
    figure, (left, right) = save.subplots(2)
    shown = {"ref": REF} | {f"beta {beta:g}": pf.optimal_policy(REF, REWARD, beta) for beta in (2.0, 1.0, 0.5, 0.1)}
    for k, (name, policy) in enumerate(shown.items()):
        left.bar(torch.arange(4) + 0.16 * (k - 2), policy, width=0.15, color="grey" if k == 0 else f"C{k - 1}", label=name)
    left.set_xticks(range(4), [f"{name}\nr = {r:g}" for name, r in zip(ANSWERS, REWARD.tolist())])
    left.set(ylabel="probability", title="The optimal policy leans from ref to the best answer")
    left.legend()
    noise = torch.randn(3000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    random = torch.log_softmax(REF.log() + 2 * noise, dim=1)
    right.plot(kl(random, REF.log()), random.exp() @ REWARD, ".", color="#aaaaaa", markersize=3, label="3,000 random policies")
    betas = torch.logspace(-1.5, 2, 120, dtype=torch.float64)
    best = torch.stack([pf.optimal_policy(REF, REWARD, beta.item()) for beta in betas])
    right.plot(kl(best.clamp(min=1e-300).log(), REF.log()), best @ REWARD, color="black", label="optimal policies, all beta")
    for k, beta in enumerate((2.0, 1.0, 0.5, 0.1)):
        policy = pf.optimal_policy(REF, REWARD, beta)
        right.plot(kl(policy.log(), REF.log()), policy @ REWARD, "o", color=f"C{k}", label=f"beta {beta:g}")
    right.set(xlabel="KL(pi || ref), nats", ylabel="E[r]", xlim=(-0.05, 2.5), title="No policy has more reward at the same KL")
    right.legend(loc="center right", fontsize=8)
    save(figure, "frontier")


def draw_losses(pf, found, save):
    """DPO's loss and its pull against the margin, for several beta."""
    figure, (left, right) = save.subplots(2)
    margin, zero = torch.linspace(-8, 8, 161, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for beta, colour in ((0.1, "#7d6608"), (0.25, "#6c3483"), (0.5, COLOURS[0.5]), (2.0, COLOURS[2.0])):
        losses, slopes = [], []
        for value in margin:
            chosen = (zero + value).requires_grad_(True)
            loss = pf.dpo_loss(chosen, zero, zero, zero, beta)
            losses.append(loss.item())
            slopes.append(-torch.autograd.grad(loss, chosen)[0].item())
        left.plot(margin, losses, color=colour, label=f"beta {beta:g}")
        right.plot(margin, slopes, color=colour, label=f"beta {beta:g}")
    left.axvline(0.3, color="grey", ls=":", label="margin 0.3")
    left.set(xlabel="margin h, nats", ylabel="DPO loss", ylim=(0, 3), title="The same policy, another loss: beta sets the scale")
    right.set(xlabel="margin h, nats", ylabel="-d loss / d log pi(chosen)", title="The pull: beta sigma(-beta h)")
    left.legend()
    right.legend()
    save(figure, "losses")


def draw_optimum(pf, found, save):
    """Total variation to pi*: where DPO arrives, and where it does not."""
    figure, (left, right) = save.subplots(2)
    for beta in BETAS:
        run = found["full", beta]
        left.plot(distance(run["path"], run["target"]), color=COLOURS[beta], label=f"beta {beta:g}")
    left.set(yscale="log", xlabel="updates", ylabel="total variation to pi*", title="DPO arrives at the RLHF optimum")
    target, styles = found["full", 0.5]["target"], {"by position": "#b9770e", "within groups": "#6c3483"}
    right.plot(distance(found["full", 0.5]["path"], target), color=COLOURS[0.5], label="all conditions met")
    for kind, colour in styles.items():
        label = {"by position": "the policy cannot be pi*", "within groups": "some answers never compared"}[kind]
        right.plot(distance(found[kind]["path"], target), color=colour, label=label)
    right.set(yscale="log", xlabel="updates", ylabel="total variation to pi*", title="beta 0.5: one condition dropped at a time")
    left.legend()
    right.legend(loc="lower left")
    save(figure, "optimum")


def draw_anchor(pf, found, save):
    """KL to the reference: a judge who errs, one who never does, and IPO."""
    figure, panels = save.subplots(3)
    titles = ("DPO, the judge errs (Bradley-Terry)", "DPO, the judge never errs", "IPO, the judge never errs")
    for axes, name, title in zip(panels, ("judge", "always", "ipo"), titles):
        for beta in BETAS:
            axes.plot(range(1, UPDATES + 2), kl(found[name, beta][0], REF.log()), color=COLOURS[beta], label=f"beta {beta:g}")
        axes.axhline(math.log(10), color="black", ls=":", label="all mass on A: log 10")
        axes.set(xscale="log", xlabel="updates", ylabel="KL(pi || ref), nats", title=title, ylim=(-0.05, 2.5))
    panels[2].legend(loc="center left")
    save(figure, "anchor")


def draw_falling(pf, found, save):
    """DPO on the line: the loss falls, the margin grows, and so does an answer that nobody asked for."""
    figure, panels = save.subplots(3)
    path, losses = found["line"]
    gaps, names = path - path[0], ("rejected", "chosen", "never compared")
    for k, (name, colour) in enumerate(zip(names, ("#c0392b", "#1e8449", "#7f8c8d"))):
        panels[0].plot(path[:, k].exp(), color=colour, label=name)
        panels[1].plot(gaps[:, k], color=colour, label=name)
    panels[0].set(xlabel="updates", ylabel="probability", title="Where the mass goes")
    panels[1].set(xlabel="updates", ylabel="l = log(pi / ref), nats", title="Both compared answers fall")
    panels[1].axhline(0, color="black", lw=0.8)
    panels[2].plot(gaps[:, 1] - gaps[:, 0], color="#2471a3", label="margin, nats")
    panels[2].plot(losses, color="black", label="DPO loss")
    panels[2].set(xlabel="updates", title="What a dashboard shows")
    for axes in panels:
        axes.legend()
    save(figure, "falling")


def draw_price(pf, found, save):
    """The region in which DPOP's margin is positive, and the margin along the line."""
    figure, (left, right) = save.subplots(2)
    w = torch.linspace(0, 12, 601, dtype=torch.float64)
    gaps = on_the_line(w) - LINE_REF.log()
    reach = torch.linspace(-3, 0, 2, dtype=torch.float64)
    styles = {0.0: "black", 0.5: "#b9770e", 2.0: "#2471a3", 20.0: "#6c3483"}
    for factor, colour in styles.items():
        label = "DPO: l_rejected = l_chosen" if factor == 0 else f"lam = {factor:g} beta: slope {1 + factor:g}"
        left.plot(reach, (1 + factor) * reach, color=colour, ls="--", label=label)
    left.plot(gaps[:, 1], gaps[:, 0], color="#c0392b", lw=2.5, label="the policies on the line, w from 0")
    left.set(xlim=(-2.0, 0.2), ylim=(-6, 1.9), xlabel="l_chosen, nats", ylabel="l_rejected, nats")
    left.set_title("Below a dashed line the pair is still won")
    left.legend(loc="upper left", fontsize=8)
    for factor, colour in styles.items():
        margin = LINE_BETA * (gaps[:, 1] - gaps[:, 0]) - factor * LINE_BETA * (-gaps[:, 1]).clamp(min=0)
        right.plot(w, margin, color=colour, label="DPO" if factor == 0 else f"lam = {factor:g} beta")
        top = int(margin.argmax())
        if top < len(w) - 1:
            right.plot(w[top], margin[top], "o", color=colour)
    right.axhline(0, color="grey", lw=0.8)
    right.set(xlabel="w", ylabel="margin inside sigma", ylim=(-3, 4), title="Where it stops: the top of the margin")
    right.legend(loc="upper left")
    save(figure, "price")


def draw_bug(pf, found, save):
    """The silent bug's curves, with those of pi* dotted."""
    figure, panels = save.subplots(4)
    run, best = found["bug"], found["mended"]
    shown = (("loss", "DPO loss"), ("accuracy", "implicit accuracy"), ("reward", "E[r]"), ("kl", "KL(pi || ref), nats"))
    for axes, (name, label) in zip(panels, shown):
        axes.plot(run.update, getattr(run, name), color="#c0392b", label="this file")
        axes.axhline(getattr(best, name)[-1], color="black", ls=":", label="pi*")
        axes.set(xlabel="updates", title=label)
    panels[0].legend()
    save(figure, "bug")


class Save:
    """Makes rows of panels and writes them as PNG files beside this one."""

    def __init__(self):
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        self.pyplot = pyplot

    def subplots(self, panels):
        return self.pyplot.subplots(1, panels, figsize=({2: 5.2, 3: 4.6, 4: 3.6}[panels] * panels, 4.0), constrained_layout=True)

    def __call__(self, figure, name):
        figure.savefig(HERE / f"{name}.png", dpi=110)
        self.pyplot.close(figure)


DRAWINGS = (draw_choices, draw_fits, draw_frontier, draw_losses, draw_optimum, draw_anchor, draw_falling, draw_price, draw_bug)


def below(number):
    """A tiny number as the text writes it, by the power of ten above it."""
    return f"below $10^{{{math.ceil(math.log10(max(float(number), 1e-12)))}}}$"


def row(numbers, digits):
    """(0.75, -0.125): as the text writes a row."""
    return "(" + ", ".join(f"{round(float(n), digits) + 0.0:g}" for n in numbers) + ")"


def main():
    sys.path.insert(0, str(HERE.parents[1]))
    from solutions.toy import preferences as pf
    from solutions.toy import preferences_bug as bug

    found = measure(pf, bug)
    for name, text in (exact_numbers(pf) | measured_numbers(pf, found)).items():
        print(f"{name:<60}{text}")
    save = Save()
    for draw in DRAWINGS:
        draw(pf, found, save)


if __name__ == "__main__":
    main()
