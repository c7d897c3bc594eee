"""Draws the pictures of lesson 13 beside this file and prints every number that its text quotes.

    python lessons/13-sft/figures.py                 from measured.json and run.json: seconds
    python lessons/13-sft/figures.py --measure       trains the small models again and writes measured.json: a minute
    python lessons/13-sft/figures.py --run FOLDER    keeps what section 13.9 shows of the folder of `climb run sft`, as run.json
"""

import itertools
import json
import math
import statistics
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

from full.given import counting_words as world

try:
    from solutions.full import sft
except ModuleNotFoundError:  # a student's copy has no solutions: it draws with its own
    from full import sft

HERE = Path(__file__).resolve().parent
STORE, RUN = HERE / "measured.json", HERE / "run.json"
STEPS, BATCH, RATE = 300, 64, 5e-3
WAYS = ("as it should be", "padding scored", "not shifted")
"How the decoder is taught in section 13.4."
BUG = "as it is"
"The way of the silent bug, section 13.8."
COLOURS = dict(zip((*WAYS, BUG), ("tab:green", "tab:orange", "tab:red", "tab:purple")))

WORDS = ["<pad>", "</s>", "<unk>", *"who founded the mill when ? a baker in 1871 . it was by".split()]
EXAMPLES = {
    "source": ["who founded the mill ?", "when ?"],
    "target": ["a baker .", "the mill was founded in 1871 by a baker ."],
}
MAX_SOURCE, MAX_TARGET = 8, 7
# section 13.3: probabilities of the tokens of two answers
ANSWERS = ((0.5, 0.25, 0.8), (0.1,))
REFERENCE = "The mill was founded in 1871 by a baker."
PREDICTIONS = {
    "other words": "A baker founded the mill in 1871.",
    "wrong year": "The mill was founded in 1817 by a baker.",
    "denied": "The mill was not founded in 1871 by a baker.",
    "said twice": "The mill was founded in 1871 by a baker. The mill was founded in 1871 by a baker.",
    "half": "The mill was founded.",
    "nothing": "I do not know.",
}
LEFT_OUT, FACTS = 0.3, 3
"Section 13.10: an annotator leaves each of three facts out with this probability."


def tokenizer():
    """One token a word of section 13.1."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def example_tables():
    """Columns and batch of section 13.1, as words: {name: rows}."""
    columns = sft.preprocess_function(EXAMPLES, tokenizer(), MAX_SOURCE, MAX_TARGET)
    rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
    batch = sft.collate(rows, start_id=0, pad_id=0)

    def words(ids):
        return [[str(i) if i == sft.IGNORED else WORDS[i] for i in row] for row in ids.tolist()]

    shown = {name: words(batch[name]) for name in ("input_ids", "labels", "decoder_input_ids")}
    return {**shown, "attention_mask": batch["attention_mask"].tolist(), "target_cut": columns["target_cut"]}


def answer_losses():
    """(mean over tokens, mean over the answers' means) of the answers of section 13.3."""
    logs = [[-math.log(p) for p in answer] for answer in ANSWERS]
    tokens = list(itertools.chain(*logs))
    return statistics.fmean(tokens), statistics.fmean(statistics.fmean(answer) for answer in logs)


def all_answers(number):
    """Every answer of so many words with its probability in the world: (labels (n, time), probabilities (n,))."""
    picked = list(itertools.product(range(len(world.SAYABLE)), repeat=number))
    labels = torch.tensor([[*(world.SAYABLE[i] for i in answer), world.END] for answer in picked])
    odds = torch.tensor([math.prod(world.ODDS[i] for i in answer) for answer in picked], dtype=torch.float64)
    return labels, odds


@torch.no_grad()
def expected_loss(model):
    """The exact mean over the world of -log pi a token, the decoder reading what it reads when the model writes by itself."""
    lost, tokens = 0.0, 0
    for number, source in enumerate(world.NUMBERS, start=1):
        labels, odds = all_answers(number)
        sources = torch.tensor([[source, world.END]]).expand(len(labels), -1)
        logits = model(input_ids=sources, decoder_input_ids=shifted(labels)).logits.double()
        lost += float(odds @ -logits.log_softmax(-1).gather(2, labels.unsqueeze(2)).squeeze(2).sum(1))
        tokens += number + 1
    return lost / tokens


def shifted(labels):
    return sft.shift_right(labels, world.START, world.PAD)


def copied(labels):
    return labels.masked_fill(labels == sft.IGNORED, world.PAD)


def rolled(labels):
    return copied(labels.roll(1, dims=1))


def measure():
    """The small T5 taught in all ways: what each reports, and what each writes by itself."""
    found = {}
    for way in (*WAYS, BUG):
        model, generator = world.t5(), torch.Generator().manual_seed(1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=STEPS)
        teach = {"not shifted": copied, BUG: rolled}.get(way, shifted)
        curve, losses, accuracies = [], [], []
        for step in range(1, STEPS + 1):
            rows = world.rows(BATCH, generator)
            time = max(len(answer) for _, answer in rows)
            sources = torch.tensor([source for source, _ in rows])
            labels = torch.tensor([[*answer, *[sft.IGNORED] * (time - len(answer))] for _, answer in rows])
            logits = model(input_ids=sources, decoder_input_ids=teach(labels)).logits
            loss = sft.sft_loss(logits, copied(labels) if way == "padding scored" else labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            real = labels != sft.IGNORED
            accuracies.append(float((logits.argmax(-1) == labels)[real].double().mean()))
            if step % 25 == 0:
                by_number = [world.lengths(model, number).tolist() for number in range(1, 5)]
                reported = {"loss": statistics.fmean(losses[-25:]), "accuracy": statistics.fmean(accuracies[-25:])}
                curve.append({"step": step, **reported, "exact": expected_loss(model), "lengths": by_number})
        found[way] = {"curve": curve, "greedy": greedy(model)}
    return found


@torch.no_grad()
def greedy(model):
    """The likeliest token again and again, for each number, as words."""
    said = []
    for source in world.NUMBERS:
        ids = [world.START]
        while len(ids) < 9 and world.END not in ids[1:]:
            out = model(input_ids=torch.tensor([[source, world.END]]), decoder_input_ids=torch.tensor([ids]))
            ids.append(int(out.logits[0, -1].argmax()))
        said.append(" ".join(world.WORDS[i] for i in ids[1:]))
    return said


def right_answers(point):
    """P(as many words as were asked for), the mean over the four numbers."""
    return statistics.fmean(lengths[number] for number, lengths in enumerate(point["lengths"], start=1))


def steered(beta):
    """(completeness, KL) of pi* of p(answer) exp(completeness / beta): each fact by itself, as annotators leave them out."""
    odds = (1 - LEFT_OUT) / LEFT_OUT * math.exp(1 / (FACTS * beta))
    stated = odds / (1 + odds)
    kl = stated * math.log(stated / (1 - LEFT_OUT)) + (1 - stated) * math.log((1 - stated) / LEFT_OUT)
    return stated, FACTS * kl


def best_of_noise(count):
    """E[max] of so many standard normal numbers, by the integral of 1 - F^n over its two sides."""
    normal = statistics.NormalDist()
    grid = [i / 1000 for i in range(0, 8000)]
    upper = sum(1 - normal.cdf(x) ** count for x in grid) / 1000
    return upper - sum(normal.cdf(-x) ** count for x in grid) / 1000


def exact_numbers():
    """What is exact, by name: the text that lesson.md must hold."""
    tokens, rows = answer_losses()
    found = {
        "two answers": f"{tokens:.3f}",
        "their mean of means": f"{rows:.3f}",
        "entropy of a word": f"{world.ENTROPY:.4f}",
        "floor": f"{world.floor([1, 2, 3, 4]):.4f}",
        "best accuracy": f"{(1 + 0.5 * 2.5) / 3.5:.3f}",
        "forty right": f"{0.98**40:.3f}",
        "best of twenty": f"{best_of_noise(20):.2f}",
        "of a hundred rows": f"{best_of_noise(20) * 0.25 / 10:.3f}",
    }
    for name, text in PREDICTIONS.items():
        scores = sft.rouge_l(REFERENCE, text)
        cells = " | ".join(f"{scores[figure]:.3f}" for figure in ("precision", "recall", "fmeasure"))
        found[f"rouge: {name}"] = f"| {text} | {cells} |"
    for beta in (0.3, 0.1):
        stated, kl = steered(beta)
        found[f"steered, {beta}"] = f"| {beta} | {stated:.3f} | {stated**FACTS:.3f} | {kl:.3f} |"
    return found


def measured_numbers(found):
    """What the kept small runs say."""
    shown = {}
    for name, way in (*zip(WAYS, WAYS), (BUG, BUG), ("mended", WAYS[0])):
        last = found[way]["curve"][-1]
        rights = " | ".join(f"{last['lengths'][n - 1][n]:.3f}" for n in range(1, 5))
        shown[name] = f"| {name} | {last['loss']:.3f} | {last['accuracy']:.3f} | {last['exact']:.3f} | {rights} |"
    last = found[WAYS[0]]["curve"][-1]
    shown["KL an answer"] = f"{(last['exact'] - world.floor([1, 2, 3, 4])) * 3.5:.3f}"
    shown["greedy three"] = f'"{found[WAYS[0]]["greedy"][2]}"'
    shown["as it is, four"] = f"probability of {max(found[BUG]['curve'][-1]['lengths'][3]):.3f}, with two"
    return shown


def draw_ways(found, ways, name):
    """What the training says and what the model writes, over the steps."""
    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for way in ways:
        curve = found[way]["curve"]
        steps = [point["step"] for point in curve]
        label = "mended" if BUG in ways and way != BUG else way
        left.plot(steps, [point["loss"] for point in curve], color=COLOURS[way], label=label)
        right.plot(steps, [right_answers(point) for point in curve], color=COLOURS[way])
    left.axhline(world.floor([1, 2, 3, 4]), color="black", linewidth=0.8, linestyle=":")
    left.text(25, world.floor([1, 2, 3, 4]) - 0.07, "the floor", fontsize=8)
    left.set(xlabel="step", ylabel="reported loss, nats a token", title="what the training says", ylim=(0, None))
    right.set(xlabel="step", ylabel="probability", title="as many words as asked, writing by itself", ylim=(0, 1.02))
    left.legend(fontsize=8)
    save(figure, name)


def draw_table():
    """The table of (13.9) for two short texts, with one longest way through it."""
    reference, prediction = sft.words_of(REFERENCE), sft.words_of(PREDICTIONS["other words"])
    rows, columns = range(len(reference) + 1), range(len(prediction) + 1)
    lengths = [[sft.lcs_length(reference[:i], prediction[:j]) for j in columns] for i in rows]
    figure = Figure(figsize=(6.2, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(lengths, cmap="Greens", vmin=0, vmax=7, aspect="auto")
    i, j, way = len(reference), len(prediction), []
    while i and j:
        if reference[i - 1] == prediction[j - 1]:
            way.append((i, j))
            i, j = i - 1, j - 1
        elif lengths[i - 1][j] >= lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    for i, row in enumerate(lengths):
        for j, length in enumerate(row):
            weight = "bold" if (i, j) in way else "normal"
            axes.text(j, i, str(length), ha="center", va="center", weight=weight, color="tab:red" if (i, j) in way else "black")
    axes.set_xticks(columns, ["", *prediction])
    axes.set_yticks(rows, ["", *reference])
    axes.xaxis.tick_top()
    axes.set(xlabel="prediction", ylabel="reference")
    axes.xaxis.set_label_position("top")
    save(figure, "lcs.png")


def save(figure, name):
    figure.savefig(HERE / name, dpi=110)


def stored():
    return json.loads(STORE.read_text(encoding="utf-8"))


def rounded(value, digits=5):
    if isinstance(value, dict):
        return {name: rounded(part, digits) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part, digits) for part in value]
    return round(value, digits) if isinstance(value, float) else value


def main():
    torch.set_num_threads(1)
    if "--measure" in sys.argv[1:]:
        STORE.write_text(json.dumps(rounded(measure())) + "\n", encoding="utf-8")
    if "--run" in sys.argv[1:]:
        kept = kept_run(Path(sys.argv[sys.argv.index("--run") + 1]))
        RUN.write_text(json.dumps(rounded(kept)) + "\n", encoding="utf-8")
    found = stored()
    for name, rows in example_tables().items():
        print(f"{name:20}{rows}")
    numbers = {**exact_numbers(), **measured_numbers(found)}
    draw_ways(found, WAYS, "ways.png")
    draw_ways(found, (WAYS[0], BUG), "bug.png")
    draw_table()
    if RUN.is_file():
        run = json.loads(RUN.read_text(encoding="utf-8"))
        numbers |= run_numbers(run)
        draw_run(run)
    for what, text in numbers.items():
        print(f"{what:28}{text}")


def kept_run(folder):
    """What section 13.9 needs of a run's folder: curves, figures, and what its answers are worth by ROUGE-L and exactly."""
    import numpy as np

    from full.given.questions import world as questions

    def lines(name):
        return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]

    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    rows, before, metrics = lines("predictions.jsonl"), lines("predictions_before.jsonl"), lines("metrics.jsonl")
    sources = [row["source"] for row in rows]
    own, shown = (questions().scores(sources, [row[name] for row in rows]) for name in ("prediction", "target"))
    names = ("completeness", "relevance", "factuality")
    rouge = np.array([row["rougeL"] for row in rows])
    drawn = questions().draw(len(rows), 2)  # the test questions of the built-in world
    others = {"another annotator": [questions().demonstration(question, 1000) for question in drawn]}
    others |= {"the complete answer": [question.answer for question in drawn]}
    assert sources == [question.source for question in drawn]
    right = np.flatnonzero((own.factuality == 1) & (own.relevance == 1) & (own.completeness > shown.completeness))
    worst = int(right[rouge[right].argmin()]) if len(right) else int(rouge.argmin())
    return {
        "summary": summary,
        "loss": [[row["step"], row["loss"]] for row in metrics if "loss" in row],
        "eval": [[row["step"], row["eval_loss"], row["eval_rougeL"]] for row in metrics if "eval_rougeL" in row],
        "others": {name: worth(drawn, texts, [row["target"] for row in rows]) for name, texts in others.items()},
        "correlation": {name: float(np.corrcoef(rouge, getattr(own, name))[0, 1]) for name in names},
        "more than the annotator": len(right) / len(rows),
        "example": {**rows[worst], "before": before[worst]["prediction"]},
    }


def worth(drawn, texts, targets):
    """Mean ROUGE-L of texts against the targets, and their exact scores."""
    from full.given.questions import world as questions

    scores = questions().scores(drawn, texts)
    rouge = statistics.fmean(sft.rouge_l(target, text)["fmeasure"] for target, text in zip(targets, texts))
    exact = {name: float(getattr(scores, name).mean()) for name in ("completeness", "relevance", "factuality")}
    return {"rougeL": rouge, **exact}


def run_numbers(run):
    """What section 13.9 quotes."""
    summary, names = run["summary"], ("rougeL", "completeness", "relevance", "factuality")

    def row(title, values):
        return f"| {title} | " + " | ".join(values) + " |"

    def stated(suffix):
        return [f"{summary[name + suffix]['mean']:.3f}" for name in names] + [f"{summary['test_loss' + suffix]:.3f}"]

    best = max(run["eval"], key=lambda point: point[2])
    return {
        "before": row("before", stated("_before")),
        "after": row("after", stated("")),
        **{who: row(who, [*(f"{found[name]:.3f}" for name in names), ""]) for who, found in run["others"].items()},
        "best step": f"step {best[0]}",
        "best rouge": f"{best[2]:.3f}",
        "interval": f"from {summary['rougeL']['low']:.3f} to {summary['rougeL']['high']:.3f}",
        "correlation": "{completeness:.2f} with completeness and {factuality:.2f} with".format(**run["correlation"]),
        "example score": f"{run['example']['rougeL']:.3f}",
        "example target": run["example"]["target"],
        "example prediction": run["example"]["prediction"],
    }


def draw_run(run):
    figure = Figure(figsize=(9.5, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps, losses = zip(*run["loss"])
    smooth = [statistics.fmean(losses[max(0, n - 10) : n + 1]) for n in range(len(losses))]
    at, eval_losses, rouges = zip(*run["eval"])
    left.plot(steps, smooth, color="tab:gray", label="loss of the batches, mean of ten")
    left.plot(at, eval_losses, "o-", markersize=3, color="tab:blue", label="eval/loss")
    left.set(xlabel="step", ylabel="nats a token", title="by teacher forcing")
    left.legend(fontsize=8)
    best = max(range(len(at)), key=lambda n: rouges[n])
    right.plot(at, rouges, "o-", markersize=3, color="tab:green")
    right.plot(at[best], rouges[best], "o", markersize=9, fillstyle="none", color="tab:red")
    right.set(xlabel="step", ylabel="eval/rougeL", title="writing by itself (circle: what is kept)")
    save(figure, "run.png")


if __name__ == "__main__":
    main()
