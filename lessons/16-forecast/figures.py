"""Draws the pictures of lesson 16 beside this file and prints every number that its text quotes.

    python lessons/16-forecast/figures.py
"""

import json
import math
from pathlib import Path

import torch
from matplotlib.figure import Figure

try:
    from solutions.full import forecast, forecast_bug
except ModuleNotFoundError:  # a student's copy has no solutions: it draws with its own
    from full import forecast, forecast_bug

HERE = Path(__file__).resolve().parent
BOLD, CAREFUL, RIGHT = 0.99, 0.75, 8  # of ten questions; section 16.3
SAID = [0.9, 0.9, 0.9, 0.9, 0.6, 0.6, 0.2, 0.2, 0.2, 0.2]  # section 16.6
CAME = [1, 1, 1, 0, 1, 0, 0, 0, 0, 1]
TRUE = 0.7  # the chance of yes in the first picture


def tensor(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def same_accuracy():
    """Two forecasters who are right on eight questions of ten, and differ in how sure they are."""
    outcomes = tensor([1] * RIGHT + [0] * (10 - RIGHT))
    found = {}
    for name, said in (("bold", BOLD), ("careful", CAREFUL)):
        probabilities = torch.full_like(outcomes, said)
        scores = {"accuracy": forecast.accuracy, "log loss": forecast.log_loss, "Brier": forecast.brier_score}
        found[name] = {score: function(probabilities, outcomes).item() for score, function in scores.items()}
        found[name]["gain"] = forecast.gain_over_half(probabilities, outcomes)
    found["accuracy behind 1.056"] = (1.056 + math.log(1 - BOLD)) / (math.log(1 - BOLD) - math.log(BOLD))
    return found


def expected_scores(true, said):
    """The expected log loss, Brier score and absolute distance of saying `said` where yes has the chance `true`."""
    return {
        "log loss": -true * math.log(said) - (1 - true) * math.log(1 - said),
        "Brier": true * (1 - said) ** 2 + (1 - true) * said**2,
        "distance": true * (1 - said) + (1 - true) * said,
    }


def kl(p, q):
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def example():
    """The ten forecasts of section 16.6, taken apart."""
    said, came = tensor(SAID), tensor(CAME)
    parts = {name: part.item() for name, part in forecast.brier_parts(said, came).items()}
    constant = {name: score.item() for name, score in forecast.constant_forecasters(came, forecast.brier_score).items()}
    return {**parts, "Brier": forecast.brier_score(said, came).item(), **constant,
            "ECE": forecast.expected_calibration_error(said, came).item()}  # fmt: skip


def error_by_chance(n, bins=10, times=2000, seed=0):
    """The mean calibration error of a forecaster whose every number is exactly right, over `times` sets of n questions."""
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for _ in range(times):
        said = torch.rand(n, generator=generator, dtype=torch.float64)
        came = (torch.rand(n, generator=generator, dtype=torch.float64) < said).double()
        total += forecast.expected_calibration_error(said, came, bins).item()
    return total / times


SIZES = (30, 100, 300, 1000)


def chance():
    return {n: error_by_chance(n, times=400 if n > 100 else 2000) for n in SIZES}


def sums():
    """The two forecasters of the silent bug: their calibration errors as the mended file has them, and the quietly wrong one."""
    right, outcomes = forecast_bug.kinds_of_sums(20_000)
    said = {"share": forecast_bug.share_forecasts(right), "laplace": forecast_bug.laplace_forecasts(right)}
    found = {name: forecast.expected_calibration_error(probabilities, outcomes).item() for name, probabilities in said.items()}
    table = forecast.calibration_table(said["share"], outcomes)
    sure = said["share"] == 1
    kept = [(n * abs(p - o)).item() for n, p, o in zip(*rows_without(said["share"][~sure], outcomes[~sure]))]
    found |= {"share, as given": sum(kept) / len(outcomes), "sure": int(sure.sum()), "sure and right":
        outcomes[sure].mean().item()}
    found["held"] = len(outcomes) - found["sure"]
    loss = {name: forecast.log_loss(probabilities, outcomes).item() for name, probabilities in said.items()}
    return found, loss, said, outcomes, table


BOLDNESS = 3.0  # the over-confident one of `climb quiz --demo` takes the odds to this power


def quiz():
    """The quiz of section 16.7: how many tasks and yeses, and what three made-up forecasters are worth on it."""
    tasks = json.loads((HERE / "quizzes" / "small-models.json").read_text(encoding="utf-8"))["tasks"]
    came = tensor([task["answer"] for task in tasks])
    seen = []  # what somebody says who has seen the other draws, by Laplace's rule
    for task in tasks:
        draws, yes = task["truth"]["draws"], task["truth"]["yes"]
        seen.append(((yes if task["truth"]["by"] == "draw" else draws * task["answer"]) + 1) / (draws + 2))
    odds = tensor(seen) / (1 - tensor(seen))
    bold = odds**BOLDNESS / (1 + odds**BOLDNESS)
    said = {"calibrated": tensor(seen), "over-confident": bold, "base rate": torch.full_like(came, came.mean().item())}
    said = {name: (100 * probabilities).round().clamp(1, 99) / 100 for name, probabilities in said.items()}
    scores = {"accuracy": forecast.accuracy, "log loss": forecast.log_loss, "ECE": forecast.expected_calibration_error}
    found = {f"{name} {what}": score(said[name], came).item() for name in said for what, score in scores.items()}
    found["cost of boldness"] = found["over-confident log loss"] - found["calibrated log loss"]
    return {"tasks": len(tasks), "yes": int(came.sum())} | found, said, came


def rows_without(said, outcomes):
    table = forecast.calibration_table(said, outcomes)
    held = table["count"] > 0
    return table["count"][held], table["forecast"][held], table["share"][held]


def numbers():
    """Every number of the text, by what it is."""
    same, parts, by_chance = same_accuracy(), example(), chance()
    found, loss, *_ = sums()
    told = {f"{who} {what}": f"{value:.3f}" for who in ("bold", "careful") for what, value in same[who].items() if what != "gain"}
    told |= {f"{who} gain": "{:.2f} [{:.2f}, {:.2f}]".format(*same[who]["gain"]) for who in ("bold", "careful")}
    told["accuracy behind 1.056"] = f"{same['accuracy behind 1.056']:.2f}"
    told |= {f"{what} of saying {said} at {TRUE}": f"{expected_scores(TRUE, said)[what]:.3f}" for said in (0.7,
        0.9) for what in ("log loss",)}
    told["excess"] = f"{kl(TRUE, 0.9):.3f}"
    told |= {f"distance of saying {said}": f"{expected_scores(TRUE, said)['distance']:.2f}" for said in (0.7, 0.99)}
    told |= {f"example {name}": f"{value:.4f}" for name, value in parts.items()}
    told |= {f"by chance, {n}": f"{value:.3f}" for n, value in by_chance.items()}
    told |= {f"sums {name}": f"{value:.4f}" if isinstance(value, float) else f"{value}" for name, value in found.items()}
    asked, *_ = quiz()
    told |= {f"quiz {name}": f"{value:.3f}" if isinstance(value, float) else f"{value}" for name, value in asked.items()}
    told["quiz cost of boldness"] = f"{asked['cost of boldness']:.2f}"
    told |= {f"sums log loss {name}": f"{value:.3f}" for name, value in loss.items()}
    return told


def draw_proper():
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    at = [i / 200 for i in range(4, 197)]
    for axes, (name, title) in zip(figure.subplots(1, 3), (("log loss", "log loss, nats"), ("Brier", "Brier score"),
        ("distance", "distance |p - o|"))):
        values = [expected_scores(TRUE, said)[name] for said in at]
        axes.plot(at, values, color="tab:blue")
        best = min(range(len(at)), key=values.__getitem__)
        axes.plot(at[best], values[best], "o", color="tab:red")
        axes.axvline(TRUE, color="grey", linestyle=":", linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("what is said")
    figure.axes[0].set_ylabel(f"expected, where yes has chance {TRUE}")
    figure.savefig(HERE / "proper.png", dpi=110)


def draw_reliability():
    _, _, said, outcomes, _ = sums()
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    titles = {"share": "share of eight tries", "laplace": "Laplace's rule"}
    for axes, (name, probabilities) in zip(figure.subplots(1, 2, sharey=True), said.items()):
        count, forecasts, shares = rows_without(probabilities, outcomes)
        reach = 1.96 * (shares * (1 - shares) / count).sqrt()
        axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
        axes.errorbar(forecasts, shares, yerr=reach, fmt="o", markersize=4, capsize=2, color="tab:blue")
        axes.set_title(titles[name], fontsize=10)
        axes.set_xlabel("said")
        axes.set_aspect("equal")
    figure.axes[0].set_ylabel("seen, with 95% intervals")
    figure.savefig(HERE / "reliability.png", dpi=110)


def draw_quiz():
    """Where the three made-up forecasters stand: said and seen, the size of a dot by how many tasks it holds."""
    _, said, came = quiz()
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, (name, probabilities) in zip(figure.subplots(1, 3, sharey=True), said.items()):
        count, forecasts, shares = rows_without(probabilities, came)
        axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
        axes.scatter(forecasts, shares, s=20 + 8 * count, color="tab:blue", clip_on=False, zorder=3)
        axes.set(title=name, xlabel="said", xlim=(0, 1), ylim=(0, 1))
        axes.set_box_aspect(1)
    figure.axes[0].set_ylabel("seen")
    figure.savefig(HERE / "quiz.png", dpi=110)


def main():
    torch.set_num_threads(1)
    for what, text in numbers().items():
        print(f"{what:34}{text}")
    draw_proper()
    draw_reliability()
    draw_quiz()


if __name__ == "__main__":
    main()
