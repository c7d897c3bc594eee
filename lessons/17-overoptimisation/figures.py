"""Draws the pictures of lesson 17 beside this file and prints every number that its text quotes: some seconds.

python lessons/17-overoptimisation/figures.py
python lessons/17-overoptimisation/figures.py --run FOLDER [OTHER ...]
also keeps in run.json what section 17.11 shows of finished runs, the others with other seeds:
    climb run overoptimisation --out FOLDER
"""

import json
import math
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from full.given import gold_proxy
from toy.given.run_folder import one_thread

try:
    from solutions.full import overoptimisation, overoptimisation_bug
except ModuleNotFoundError:  # a student's copy has no solutions: it draws with its own
    from full import overoptimisation, overoptimisation_bug

HERE = Path(__file__).resolve().parent
SIZES = (1, 2, 4, 16, 64, 256, 1024)  # section 17.3
PENALTIES = (0.3, 0.5, 0.7, 1.0, 1.5, 2.0)  # section 17.7
BUDGETS = (1.0, 2.0, 3.0, 4.0, 6.0)
RULES = (("one model", None, 0.0), ("mean", "mean", 0.0), ("min", "min", 0.0), ("mean - std", "mean_minus_std", 1.0),
         ("mean - 2 std", "mean_minus_std", 2.0))  # fmt: skip
FINE = [x / 20 for x in range(2, 100)]  # strengths of the penalty, for a peak to two digits
SEEDS = 20
STEPS = 200  # of the penalised runs
EARLY = 1.3  # how far the early points of section 17.6 reach


def example():
    """Section 17.2 and 17.4, by hand: two answers of chance one half, and three samples of one prompt."""
    half, order = torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([0.0, 1.0])
    probs = overoptimisation.best_of_n_distribution(half, order, 2)
    proxy, gold = torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[0.0, 1.0, 5.0]])
    mean = overoptimisation.best_of_n_mean(proxy, gold, 2)
    return {
        "chance of the better one": f"{probs[1]:.2f}",
        "KL of two answers": f"{(probs * (probs / half).log()).sum():.4f}",
        "formula for n = 2": f"{overoptimisation.best_of_n_kl(2):.4f}",
        "proxy of three": f"{mean[0].item():.3f}",
        "gold of three": f"{mean[1].item():.3f}",
    }


def kls(world):
    """KL of best-of-n by the formula and exactly, in the world of 1024 sentences."""
    curve = gold_proxy.best_of_n(world, overoptimisation, sizes=SIZES)
    return {n: (overoptimisation.best_of_n_kl(n), exact) for n, exact in zip(SIZES, curve.kl.tolist())}


def spreads(samples=64, n=8, prompts=2000):
    """How much an estimate of best-of-8 varies between prompts: from the first 8 of 64 answers, and from all choices of 8."""
    proxy, gold = overoptimisation_bug.answers(prompts, samples)
    kept = overoptimisation.best_of_n(proxy, n).unsqueeze(1)
    first = gold.gather(1, kept).std().item()
    return first, overoptimisation.best_of_n_mean(proxy, gold, n)[1].std().item()


def fits(curves):
    """Both forms fitted to the gold gain of every curve: {name: {form: (Fit, root mean squared error)}}."""
    found = {}
    for name, curve in curves.items():
        moved = curve.kl > 1e-9
        kl, gold = curve.kl[moved], curve.gold[moved]
        both = (overoptimisation.fit_best_of_n(kl, gold), overoptimisation.fit_rl(kl, gold))
        found[name] = {fit.form: (fit, ((fit(kl.sqrt()) - gold) ** 2).mean().sqrt().item()) for fit in both}
    return found


def early(curve):
    """Both forms fitted to the beginning of a curve: where do they see the peak?"""
    part = (curve.kl > 1e-9) & (curve.distance < EARLY)
    forms = (overoptimisation.fit_best_of_n, overoptimisation.fit_rl)
    return int(part.sum()), {fit.form: fit for fit in (form(curve.kl[part], curve.gold[part]) for form in forms)}


def penalised(world):
    """REINFORCE with a KL penalty: {beta: Curve}, 200 steps each; 0 is without one."""
    paths = {beta: gold_proxy.reinforce(world, world.proxy, STEPS, beta=beta) for beta in (0.0, *PENALTIES)}
    return {beta: gold_proxy.trained(world, path) for beta, path in paths.items()}


def stops(curve, every=3, patience=3):
    """Which checkpoint each rule keeps on a path, as {rule: step}; gold is measured every third step."""
    kept = {f"budget {budget:g}": overoptimisation.stop_at_kl(curve.kl, budget) for budget in BUDGETS}
    return kept | {"by gold": every * overoptimisation.stop_by_gold(curve.gold[::every], patience)}


def combined(world):
    """One reward of the members by each rule."""
    rules = {name: (how, k) for name, how, k in RULES if how}
    rewards = {name: overoptimisation.ensemble_reward(world.members, *rule) for name, rule in rules.items()}
    return {"one model": world.proxy} | rewards


def ensembles(world):
    """The highest gold gain that optimising each combination reaches: on the frontier, and by best-of-n."""
    found = {}
    for name, reward in combined(world).items():
        frontier = gold_proxy.frontier(world, overoptimisation, reward, FINE)
        found[name] = frontier.gold.max().item(), gold_proxy.best_of_n(world, overoptimisation, reward).gold.max().item()
    return found


def over_seeds(seeds=SEEDS):
    """The same over worlds whose reward models learned from other pairs: mean and standard error."""
    every = [ensembles(gold_proxy.World(seed)) for seed in range(seeds)]
    found = {}
    for name, *_ in RULES:
        values = torch.tensor([one[name] for one in every], dtype=torch.float64)  # (seeds, 2)
        found[name] = list(zip(values.mean(0).tolist(), (values.std(0) / math.sqrt(seeds)).tolist()))
    return found


def numbers():
    """Every number of the text, by what it is."""
    world = gold_proxy.World()
    curves = gold_proxy.all_curves(world, overoptimisation)
    told = dict(example())
    told |= {f"worth of {word}": f"{worth:.2f}" for word, worth in zip(gold_proxy.WORDS, world.weights[0].tolist())}
    told["agreement"] = f"{world.agreement(world.proxy):.3f}"
    favourite = int(world.proxy.argmax())
    told |= {"favourite": world.sentence(favourite), "its proxy": f"{world.proxy[favourite]:.2f}"}
    told |= {"its gold": f"{world.gold[favourite]:.2f}", "best gold": f"{world.gold.max():.2f}"}
    told |= {"its chance": f"{world.probs[favourite]:.1e}", "its KL": f"{-world.probs[favourite].log():.2f}"}
    told |= {f"n = {n}": f"| {n} | {formula:.3f} | {exact:.3f} |" for n, (formula, exact) in kls(world).items()}
    told |= {f"spread {what}": f"{value:.3f}" for what, value in zip(("first", "all"), spreads())}
    for name, curve in curves.items():
        i = curve.best
        told[f"{name}, row"] = (f"| {name} | {curve.distance[i]:.2f} | {curve.proxy[i]:.2f} | {curve.gold[i]:.2f} | "
                                f"{curve.distance[-1]:.2f} | {curve.proxy[-1]:.2f} | {curve.gold[-1]:.2f} |")  # fmt: skip
    told["best n"] = f"{curves['best-of-n'].at[curves['best-of-n'].best]}"
    for name, both in fits(curves).items():
        for form, (fit, error) in both.items():
            distance, gain = overoptimisation.peak(fit)
            found = ((fit.a, *fit.a_interval), (fit.b, *fit.b_interval))
            a, b = (f"{mid:.2f} [{low:.2f}, {high:.2f}]" for mid, low, high in found)
            told[f"{name}, {form}"] = f"{a} | {b} | {distance:.2f} | {gain:.2f} | {error:.2f} |"
    for name in ("REINFORCE", "best-of-n"):
        points, both = early(curves[name])
        told[f"early points of {name}"] = f"{points}"
        told |= {f"early peak of {name}, {form}": f"{overoptimisation.peak(fit)[0]:.1f}" for form, fit in both.items()}
    for beta, curve in penalised(world).items():
        i = curve.best
        told[f"beta {beta:g}"] = f"| {beta:g} | {curve.gold[i]:.2f} | {i} | {curve.distance[-1]:.2f} | {curve.gold[-1]:.2f} |"
    for rule, step in stops(curves["REINFORCE"]).items():
        curve = curves["REINFORCE"]
        told[f"stop, {rule}"] = f"{step} | {curve.kl[step]:.2f} | {curve.gold[step]:.2f} |"
    here = ensembles(world)
    for name, both in over_seeds().items():
        cells = " | ".join(f"{mean:.2f} ± {error:.2f}" for mean, error in both)
        told[f"ensemble {name}"] = f"| {name} | {here[name][0]:.2f} | {cells} |"
    told["members"] = ", ".join(f"{worth:.2f}" for worth in world.weights[:, 0].tolist())
    rows = overoptimisation_bug.report(*overoptimisation_bug.answers(2000))
    told |= {f"bug, n = {row['n']}": f"| {row['n']} | {row['proxy']:.2f} | {row['gold']:.2f} | " for row in rows}
    return told


def draw_gold_proxy():
    world = gold_proxy.World()
    gold_proxy.draw(gold_proxy.all_curves(world, overoptimisation)).savefig(HERE / "gold_proxy.png", dpi=110)


def draw_fits():
    curves = gold_proxy.all_curves(gold_proxy.World(), overoptimisation)
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("best-of-n", "REINFORCE")):
        curve, found = curves[name], fits({name: curves[name]})[name]
        at = torch.linspace(0.01, 3, 200, dtype=torch.float64)
        axes.plot(curve.distance, curve.gold, "o", color="black", markersize=3, label="gold, exact")
        for (form, (fit, _)), color in zip(found.items(), ("tab:blue", "tab:orange")):
            label = {"best_of_n": "d (a - b d)", "rl": "d (a - b ln d)"}[form]
            axes.plot(at, fit(at), color=color, label=label)
            axes.plot(at, early(curve)[1][form](at), color=color, linestyle=":", label=f"{label}, from d < {EARLY}")
        axes.axvline(EARLY, color="grey", linewidth=0.7)
        axes.set_ylim(-2.6, 4)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("distance from the reference, sqrt(KL)")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("gold gain")
    figure.axes[0].legend(fontsize=8, loc="lower left")
    figure.savefig(HERE / "fits.png", dpi=110)


def draw_remedies():
    world = gold_proxy.World()
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    colors = ("black", "tab:red", "tab:orange", "tab:olive", "tab:green", "tab:blue", "tab:purple")
    for (beta, curve), color in zip(penalised(world).items(), colors):
        left.plot(curve.at, curve.gold, color=color, label=f"beta {beta:g}")
    left.set_xlabel("steps of REINFORCE")
    left.set_ylabel("gold gain")
    left.set_title("a KL penalty", fontsize=10)
    left.legend(fontsize=8, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.08))
    for (name, reward), color in zip(combined(world).items(), ("black", "tab:grey", "tab:blue", "tab:orange", "tab:red")):
        curve = gold_proxy.trained(world, gold_proxy.reinforce(world, reward, 90), reward)
        right.plot(curve.distance, curve.gold, color=color, label=f"{name}: {curve.gold.max():.2f}")
    right.set_xlabel("distance from the reference, sqrt(KL)")
    right.set_title("five reward models, REINFORCE without a penalty", fontsize=10)
    right.legend(title="highest gold", fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.axhline(0, color="black", linewidth=0.5)
    figure.savefig(HERE / "remedies.png", dpi=110)


def main(arguments):
    import run_figures  # beside this file

    if "--run" in arguments:
        kept = run_figures.condensed(*arguments[arguments.index("--run") + 1 :])
        run_figures.KEPT.write_text(json.dumps(kept) + "\n", encoding="utf-8")
    if kept := run_figures.kept_run():
        for what, text in run_figures.run_numbers(kept).items():
            print(f"{what:28}{text}")
        run_figures.draw_run(kept, overoptimisation.Fit)
    with one_thread():
        for what, text in numbers().items():
            print(f"{what:28}{text}")
        draw_gold_proxy()
        draw_fits()
        draw_remedies()


if __name__ == "__main__":
    main(sys.argv[1:])
