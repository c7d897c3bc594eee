"""Draws the pictures of lesson 12 beside this file and prints every number that its text quotes.

    python lessons/12-reward-model/figures.py               from measured.json and run.json: seconds
    python lessons/12-reward-model/figures.py --measure     the silent bug's runs and the counts of the question world again
    python lessons/12-reward-model/figures.py --run FOLDER  takes over the figures of a run of `climb run reward-model`
"""

import json
import math
import sys
from pathlib import Path
from types import ModuleType

import torch
from matplotlib.figure import Figure

from full.given import film_words
from full.given import preferences as given

try:
    from solutions.full import reward_model
except ModuleNotFoundError:  # a student's copy has no solutions: it draws with its own
    from full import reward_model

HERE = Path(__file__).resolve().parent
STORE, RUN = HERE / "measured.json", HERE / "run.json"
COIN = 0.5
SETTINGS = 20  # section 12.6: how many settings somebody tries on seven pairs
SURE_AND_WRONG = ([3.0] * 6 + [-6.0], [0.0] * 7)  # section 12.6: six right by 3 nats, one wrong by 6


def doubles(*values):
    return torch.tensor(values, dtype=torch.float64)


# numbers


def example_numbers(chosen=1.2, rejected=0.4):
    """Section 12.4: two scores, their loss and its slopes, through the lesson's own functions."""
    one, other = doubles(chosen).requires_grad_(True), doubles(rejected)
    loss = reward_model.pairwise_loss(one, other)
    loss.backward()
    turned = reward_model.pairwise_loss(other, one.detach())
    return {
        "probability": rf"$\sigma({chosen - rejected:.1f})$ = {torch.sigmoid(one - other).item():.3f}",
        "loss": rf"$-\log {torch.sigmoid(one - other).item():.3f}$ = {loss.item():.3f}",
        "loss, turned": f"{turned.item():.3f}",
        "slopes": f"{one.grad.item():.3f} and {-one.grad.item():+.3f}",
    }


def padding_table(pads=(0, 1, 2)):
    """Section 12.3: what a small GPT-2 with a head says of one text, by how it is padded and read: {way: scores}."""
    torch.manual_seed(2)
    transformer = film_words.gpt2().transformer
    model = reward_model.RewardModel(transformer).eval()
    with torch.no_grad():
        model.score.weight.mul_(50)  # scores of a size that is easily read
    text = [film_words.FILM, film_words.VERY, film_words.GOOD, film_words.END]
    ways = {"last real token": [], "last column": [], "padded on the left": [], "left, without places": []}
    with torch.no_grad():
        for count in pads:
            filler, real, none = [film_words.END] * count, [1] * len(text), [0] * count
            right, mask = torch.tensor([text + filler]), torch.tensor([real + none])
            left, left_mask = torch.tensor([filler + text]), torch.tensor([none + real])
            ways["last real token"].append(model(right, mask).item())
            hidden = transformer(input_ids=right, attention_mask=mask).last_hidden_state
            ways["last column"].append(model.score(hidden[:, -1]).item())
            ways["padded on the left"].append(model(left, left_mask).item())
            hidden = transformer(input_ids=left, attention_mask=left_mask).last_hidden_state
            ways["left, without places"].append(model.score(hidden[:, -1]).item())
    return ways


def padding_numbers():
    names = {"last real token": "padded on the right, read at the last real token", "last column": "padded on the right, read at "
             "the last column", "padded on the left": "padded on the left, with places", "left, without places":
             "padded on the left, without places"}  # fmt: skip
    return {f"padding, {way}": f"| {names[way]} | " + " | ".join(f"{score:.3f}" for score in scores) + " |"
            for way, scores in padding_table().items()}  # fmt: skip


def interval_of(right, count):
    """The share of `right` among `count` pairs with its interval, by the lesson's own function."""
    return reward_model.accuracy(torch.ones(count), torch.tensor([0.0] * right + [2.0] * (count - right)))


def at_least(right, count, p=COIN):
    return sum(math.comb(count, k) * p**k * (1 - p) ** (count - k) for k in range(right, count + 1))


def power(count, p=0.65):
    """How often a model that is right in a share p of all pairs is told from a coin by so many: the interval lies above 1/2."""
    return at_least(next(right for right in range(count + 1) if interval_of(right, count)[1] > 0.5), count, p)


def interval_numbers():
    share, low, high = interval_of(6, 7)
    normal = reward_model.Z95 * math.sqrt(share * (1 - share) / 7)
    chance = at_least(6, 7)
    found = {
        "6 of 7": f"{share:.3f}, from {low:.2f} to {high:.2f}",
        "6 of 7, normal": f"{share - normal:.2f} to {share + normal:.2f}",
        "7 of 7": f"{interval_of(7, 7)[1]:.2f} to 1",
        "6 of 7 by a coin": f"{chance:.4f}",
        "best of so many": f"{1 - (1 - chance) ** SETTINGS:.2f}",
        "all seven among so many": f"{1 - (1 - at_least(7, 7)) ** SETTINGS:.2f}",
        "told from a coin by 60": f"in {power(60):.2f} of all studies",
        "pairs that nine of ten take": f"{next(n for n in range(20, 400, 20) if power(n) >= 0.9)} pairs",
    }
    for count in (7, 20, 100, 400, 1600):
        _, low, high = interval_of(round(0.65 * count), count)
        found[f"interval at {count}"] = f"| {count} | {round(0.65 * count)} | {low:.2f} to {high:.2f} |"
    return found


def loss_numbers():
    chosen, rejected = (torch.tensor(values, dtype=torch.float64) for values in SURE_AND_WRONG)
    loss = reward_model.pairwise_loss(chosen, rejected).item()
    best = min((reward_model.pairwise_loss(a * chosen, rejected).item(), a) for a in (k / 1000 for k in range(1, 1001)))
    worth = 6 / 7
    return {
        "sure and wrong": f"{loss:.3f}",
        "the one pair alone": f"{reward_model.pairwise_loss(chosen[6:], rejected[6:]).item():.2f}",
        "scaled down": f"times {best[1]:.2f}",
        "scaled down, loss": f"{best[0]:.3f}",
        "constant forecaster": f"{-(worth * math.log(worth) + (1 - worth) * math.log(1 - worth)):.3f}",
        "a spread of a thousandth": f"{torch.sigmoid(doubles(0.001)).item():.5f}",
        "least spread": f"{given.LEAST_SPREAD:g} nats",
    }


def frozen_numbers(fraction=0.7):
    """Section 12.5: GPT-2's parameters, counted on a device that holds no numbers."""
    from transformers import GPT2Config, GPT2Model

    found = {}
    for name, layers in (("GPT-2", 12), ("DistilGPT2", 6)):
        with torch.device("meta"):
            model = reward_model.RewardModel(GPT2Model(GPT2Config(n_layer=layers)))
        frozen = reward_model.freeze_fraction(model, fraction)
        total = sum(p.numel() for p in model.parameters())
        left = sum(p.numel() for p in model.parameters() if p.requires_grad)
        words = sum(p.numel() for p in (model.transformer.wte.weight, model.transformer.wpe.weight))
        row = f"{total / 1e6:.1f} | {words / 1e6:.1f} | {left / 1e6:.1f} | {100 * left / total:.0f}%"
        found[f"frozen, {name}"] = f"| {name} | {layers} | {frozen} | {row} |"
        if name == "GPT-2":
            found["optimizer's memory"] = f"{8 * total / 2**20:.0f} MiB to {8 * left / 2**20:.0f} MiB"
    return found


def exact_numbers():
    groups = {"example": example_numbers(), "": padding_numbers(), "interval": interval_numbers(), "loss": loss_numbers()}
    found = {f"{group}, {name}".lstrip(", "): text for group, some in groups.items() for name, text in some.items()}
    return found | frozen_numbers()


# measurements


def planted() -> ModuleType:
    """The silent bug's file as a learner gets it."""
    from autograder.skeletons import skeleton

    text = skeleton((HERE.parents[1] / "solutions" / "full" / "reward_model_bug.py").read_text(encoding="utf-8"), 12)
    module = ModuleType("planted")
    exec(compile(text, "reward_model_bug.py", "exec", dont_inherit=True), module.__dict__)
    return module


def bug_run(module):
    """What `main` of the bug's file does: the three losses at every look, and of the weights that `fit` ends with."""
    reader, transformer = module.Reader(), film_words.gpt2().transformer
    torch.manual_seed(0)
    model = module.Scorer(transformer)
    training, validation = reader.choices(48, seed=1), reader.choices(100, seed=2)
    optimizer, seen = torch.optim.Adam(model.parameters(), lr=0.01), []

    @torch.no_grad()
    def losses():
        exact = reader.expected_loss(model(*module.rows_of(reader.texts)))
        return {"training": module.log_loss(model, training).item(), "validation": module.log_loss(model, validation).item(),
                "exact": exact}  # fmt: skip

    best = module.fit(model, optimizer, training, validation, after_look=lambda u, *_: seen.append({"update": u, **losses()}))
    return {"looks": seen, "best": best, "kept": losses(), "reader": reader.expected_loss(reader.rewards)}


def world_counts(questions=400):
    """The preferences of the question world: how many ties, and what the best judge and the longer answer get right."""
    from full.given.questions import world

    rows = world().rows(questions, 2)
    found = reward_model.from_qa_feedback(rows)
    complete = []
    for row in rows:
        four = [row[f"prediction {n}"] for n in range(1, 5)]
        complete.append(world().scores([row["source"]] * 4, four).completeness.tolist())
    pairs = given.decided(found)
    best, length = [], []
    for pair in pairs:
        number, which = pair.id.split(":")
        values = [complete[int(number) - 1][int(w) - 1] for w in which]
        chosen, rejected = values if pair.label == 1 else values[::-1]
        best.append((chosen, rejected))
        length.append((len(pair.chosen.split()), len(pair.rejected.split())))
    shares = {name: reward_model.accuracy(*torch.tensor(some, dtype=torch.float64).T)
              for name, some in (("best", best), ("length", length))}  # fmt: skip
    return {"preferences": len(found), "ties": sum(p.label == 0 for p in found), **shares}


def measure():
    try:
        from solutions.full import reward_model_bug as mended

        bug = {"planted": bug_run(planted()), "mended": bug_run(mended)}
    except ModuleNotFoundError:  # a student's copy keeps what it came with
        bug = stored()["bug"]
    return {"bug": bug, "world": world_counts()}


def taken_over(folder):
    """What the text needs of a run's folder."""
    summary = json.loads((Path(folder) / "summary.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    names = ("step", "loss", "accuracy", "validation_loss")
    kept = ("accuracy", "accuracy_by_length", "log_loss", "calibration", "calibration_error", "spread", "pairs",
            "validation_pairs", "test_pairs", "steps", "seconds", "validation_loss", "notes")  # fmt: skip
    curve = [{n: row[n] for n in names if n in row} for row in rows]
    return {"summary": {name: summary[name] for name in kept}, "lengths": against_length(folder), "curve": curve}


def against_length(folder):
    """A run's model on test pairs whose chosen answer is the longer one, and the shorter one; and how many errors are slips."""
    from full.given import models
    from full.given.questions import world

    place = Path(folder) / "checkpoint"
    model, tokenizer = reward_model.RewardModel.from_pretrained(place).eval(), models.load_tokenizer(str(place))
    pairs = given.decided(reward_model.load_preferences("questions", split="test", limit=200))
    encoded = given.encode(tokenizer, pairs, model.config.n_positions)
    chosen, rejected = given.pair_scores(model, given.batches(encoded, 64, tokenizer.pad_token_id))
    longer = torch.tensor([len(a) - len(b) for a, b in zip(encoded.chosen, encoded.rejected)])
    complete = [world().scores([pair.prompt] * 2, [pair.chosen, pair.rejected]).completeness for pair in pairs]
    slip = torch.tensor([a <= b for a, b in complete])
    wrong = chosen < rejected
    shares = {name: reward_model.accuracy(chosen[some], rejected[some])
              for name, some in (("longer", longer > 0), ("shorter", longer < 0))}  # fmt: skip
    return {**shares, "wrong": int(wrong.sum()), "slips": int((wrong & slip).sum())}


def rounded(value, digits=7):
    """Numbers with as many digits as the pictures and the text need, and more."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: rounded(entry, digits) for key, entry in value.items()}
    return [rounded(entry, digits) for entry in value] if isinstance(value, (list, tuple)) else value


def stored(place=STORE):
    return json.loads(place.read_text(encoding="utf-8"))


def measured_numbers(found):
    """The text's numbers that come from the bug's runs and from the question world."""
    numbers = {}
    for name, label in (("planted", "as it is"), ("mended", "mended")):
        run = found["bug"][name]
        kept = run["kept"]
        row = f"| {run['best']:.4f} | {kept['training']:.4f} | {kept['validation']:.4f} | {kept['exact']:.4f} |"
        numbers[f"bug, {label}"] = f"| {label} {row}"
    looks = {look["update"]: look for look in found["bug"]["mended"]["looks"]}
    for update in (0, 5, 10, 20, 40, 60):
        look = looks[update]
        numbers[f"bug, at {update}"] = f"| {update} | {look['training']:.3f} | {look['validation']:.3f} | {look['exact']:.3f} |"
    numbers["bug, the reader"] = f"{found['bug']['mended']['reader']:.4f}"
    world = found["world"]
    numbers["world, preferences"] = f"{world['preferences']} judgements"
    numbers["world, ties"] = f"{100 * world['ties'] / world['preferences']:.0f}% are ties"
    for name in ("best", "length"):
        share, low, high = world[name]
        numbers[f"world, {name}"] = f"{share:.3f} ({low:.3f} to {high:.3f})"
    return numbers


def run_numbers(run):
    """The text's numbers of a run on the question world."""
    summary = run["summary"]
    first, late = run["curve"][0], [row["loss"] for row in run["curve"][-50:]]
    numbers = {
        "run, pairs": f"{summary['pairs']} pairs",
        "run, steps": f"{summary['steps']} steps",
        "run, accuracy": "{mean:.3f} ({low:.3f} to {high:.3f})".format(**summary["accuracy"]),
        "run, length": "{mean:.3f}".format(**summary["accuracy_by_length"]),
        "run, log loss": "{mean:.3f} ({low:.3f} to {high:.3f})".format(**summary["log_loss"]),
        "run, test pairs": f"{summary['test_pairs']} test pairs",
        "run, spread": f"{summary['spread']:.2f} nats",
        "run, off by": f"{summary['calibration_error']:.3f}",
        "run, first loss": f"from {first['loss']:.3f}",
        "run, last loss": f"to {sum(late) / len(late):.3f}",
    }
    lengths = run["lengths"]
    for name in ("longer", "shorter"):
        numbers[f"run, chosen is {name}"] = "{:.2f} ({:.2f} to {:.2f})".format(*lengths[name])
    numbers["run, errors"] = f"{lengths['wrong']} pairs that it gets wrong, {lengths['slips']} are"
    for row, (count, said, right) in enumerate(summary["calibration"]):
        numbers[f"run, calibration {row}"] = f"| {count} | {said:.2f} | {right:.2f} |"
    return numbers


# pictures


def draw_padding():
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes, pads = figure.subplots(), (0, 1, 2, 3, 4)
    styles = {"last real token": "-", "last column": "--", "padded on the left": ":", "left, without places": "-."}
    labels = {"last real token": "on the right, read at the last real token", "padded on the left": "on the left, with places",
              "last column": "on the right, read at the last column",
              "left, without places": "on the left, without places"}  # fmt: skip
    for (way, scores), colour in zip(padding_table(pads).items(), ("tab:green", "tab:red", "black", "tab:orange")):
        axes.plot(pads, scores, styles[way], color=colour, marker="o", markersize=4, label=labels[way])
    axes.set(xlabel="pad tokens beside the text", ylabel="score", title="one text, one model", xticks=pads)
    axes.legend(fontsize=8)
    save(figure, "padding.png")


def draw_intervals():
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    counts = [7, 10, 14, 20, 32, 50, 70, 100, 140, 200, 300, 400, 700, 1000, 1600]
    ends = [interval_of(round(0.65 * count), count) for count in counts]
    axes.fill_between(counts, [low for _, low, _ in ends], [high for _, _, high in ends], color="tab:blue", alpha=0.25,
                      label="95% interval")  # fmt: skip
    axes.plot(counts, [share for share, _, _ in ends], "o-", markersize=3, color="tab:blue", label="about 65% right")
    axes.axhline(COIN, color="black", linewidth=0.8, linestyle=":")
    axes.text(1600, COIN - 0.015, "a coin", ha="right", va="top", fontsize=8)
    axes.set(xscale="log", xlabel="validation pairs", ylabel="accuracy", title="what so many pairs can say", ylim=(0.3, 1))
    axes.legend(fontsize=8)
    save(figure, "intervals.png")


def draw_bug(found):
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes, run = figure.subplots(), found["bug"]["mended"]
    updates = [look["update"] for look in run["looks"]]
    for name, colour in (("training", "tab:gray"), ("validation", "tab:blue"), ("exact", "tab:orange")):
        label = "exact: choices to come" if name == "exact" else name
        axes.plot(updates, [look[name] for look in run["looks"]], color=colour, label=label)
    best = min(run["looks"], key=lambda look: look["validation"])
    axes.plot(best["update"], best["validation"], "o", color="tab:green", label="the best look")
    axes.plot(updates[-1], found["bug"]["planted"]["kept"]["validation"], "x", color="tab:red", label="what the file keeps")
    axes.axhline(math.log(2), color="black", linewidth=0.8, linestyle=":")
    axes.text(updates[-1], math.log(2) + 0.03, "chance, log 2", ha="right", fontsize=8)
    axes.set(xlabel="update", ylabel="log loss, nats", title="48 choices are soon known by heart")
    axes.legend(fontsize=8)
    save(figure, "bug.png")


def draw_run(run):
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    curve = run["curve"]
    steps, losses = [row["step"] for row in curve], [row["loss"] for row in curve]
    left.plot(steps, losses, color="tab:gray", linewidth=0.8, label="training, each batch")
    looks = [row for row in curve if "validation_loss" in row]
    left.plot([row["step"] for row in looks], [row["validation_loss"] for row in looks], color="tab:blue", label="validation")
    left.axhline(math.log(2), color="black", linewidth=0.8, linestyle=":")
    left.set(xlabel="step", ylabel="log loss, nats", title="the question world (dotted: chance)", ylim=(0, None))
    left.legend(fontsize=8)
    right.plot([0.5, 1], [0.5, 1], color="black", linewidth=0.8, linestyle=":")
    for count, said, share in run["summary"]["calibration"]:
        hits = round(share * count)
        _, low, high = interval_of(min(hits, count), count)
        right.plot([said, said], [low, high], color="tab:blue", linewidth=1)
        right.plot(said, share, "o", color="tab:blue", markersize=3 + 6 * math.sqrt(count / run["summary"]["test_pairs"]))
    right.set(xlabel="what it says: confidence in its favourite", ylabel="how often it is right")
    right.set(title="calibration on test pairs", xlim=(0.48, 1.02), ylim=(0.4, 1.02))
    save(figure, "run.png")


def save(figure, name):
    figure.savefig(HERE / name, dpi=110)


def main():
    torch.set_num_threads(1)
    arguments = sys.argv[1:]
    if "--measure" in arguments:
        STORE.write_text(json.dumps(rounded(measure())) + "\n", encoding="utf-8")
    if "--run" in arguments:
        RUN.write_text(json.dumps(rounded(taken_over(arguments[arguments.index("--run") + 1]))) + "\n", encoding="utf-8")
    found = stored()
    numbers = {**exact_numbers(), **measured_numbers(found)}
    draw_padding()
    draw_intervals()
    draw_bug(found)
    if RUN.is_file():
        run = stored(RUN)
        numbers |= run_numbers(run)
        draw_run(run)
    for what, text in numbers.items():
        print(f"{what:28}{text}")


if __name__ == "__main__":
    main()
