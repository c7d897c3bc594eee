"""Draws the pictures of lesson 8 beside this file and prints every number that its text quotes.

    python lessons/08-evaluate/figures.py            under a minute
    python lessons/08-evaluate/figures.py --run      also the run on the built-in models, kept in run.json: minutes
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import norm as normal
from scipy.stats import t as student_t
from torch import nn

from full import evaluate_bug as planted
from full.given.text import position_ids
from toy.given.enumerable import EnumerableLM

try:
    from solutions.full import evaluate as lesson
    from solutions.full import evaluate_bug as tiny
except ModuleNotFoundError:  # a student's copy has no solutions: it draws with its own
    from full import evaluate as lesson
    from full import evaluate_bug as tiny

HERE = Path(__file__).resolve().parent
VOCABULARY, LENGTH, END = len(tiny.WORTH), tiny.NEW_TOKENS, tiny.END
TREATMENTS = {"places": "places and mask", "no places": "mask alone", "attended": "neither"}
TEMPERATURES = (0.25, 0.5, 1.0, 1.5)
SIZES = (10, 30, 100, 300)
EXPERIMENTS = 2000
EXAMPLE = torch.tensor([0.2, 0.4, 0.9], dtype=torch.float64)
ROW = [4, 5, 4, 5, 4]


class Padded(nn.Module):
    """The model with this many padding tokens put before everything it reads; what it says there is cut away again."""

    def __init__(self, model, padding, treatment="places"):
        super().__init__()
        self.model, self.padding, self.treatment = model, padding, treatment

    def forward(self, tokens):
        tokens = nn.functional.pad(tokens, (self.padding, 0), value=tiny.PAD)
        mask = torch.ones_like(tokens)
        if self.treatment != "attended":
            mask[:, : self.padding] = 0
        places = {"position_ids": position_ids(mask)} if self.treatment == "places" else {}
        return self.model(input_ids=tokens, attention_mask=mask, **places).logits[:, self.padding :]


class Heated(nn.Module):
    """The model at a temperature."""

    def __init__(self, model, temperature):
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, tokens):
        return self.model(input_ids=tokens).logits / self.temperature


def listed(model, prompt):
    return EnumerableLM(model, VOCABULARY, LENGTH, prompt=prompt, eos=END)


def worth(model, prompt):
    """The exact mean score of what the model writes after a prompt."""
    ruler = listed(model, prompt)
    with torch.no_grad():
        return float(ruler.expected(ruler.rewards(tiny.score)))


def under_padding(prompts, treatment, most=5):
    """The exact mean score after each prompt, with 0 to `most` padding tokens before it: (padding, prompts)."""
    model = tiny.writer()
    return np.array([[worth(Padded(model, k, treatment), prompt) for prompt in prompts] for k in range(most + 1)])


def sampled_and_greedy(prompts):
    """{temperature: (mean score, mean entropy in nats)} over the prompts, exactly; and the score of the likeliest tokens."""
    model, found = tiny.writer(), {}
    for temperature in (*np.linspace(0.1, 3.0, 16), *TEMPERATURES):
        heated = Heated(model, float(temperature))
        with torch.no_grad():
            entropies = [float(listed(heated, prompt).entropy()) for prompt in prompts]
        found[float(temperature)] = (np.mean([worth(heated, prompt) for prompt in prompts]), np.mean(entropies))
    greedy = np.mean([worth(Heated(model, 1e-4), prompt) for prompt in prompts])
    return found, greedy


@torch.no_grad()
def mass_without_end(prompts):
    """The sum over all that can be written of the probability of its tokens but END, averaged over the prompts."""
    model, masses = tiny.writer(), []
    for prompt in prompts:
        ruler = listed(model, prompt)
        log_probs = ruler.token_log_probs().masked_fill(ruler.sequences == END, 0.0)
        masses.append(float(log_probs.sum(-1).exp().sum()))
    return np.mean(masses)


@torch.no_grad()
def distribution(prompts):
    """The exact distribution of one completion's score, the prompt drawn too: (scores, probabilities)."""
    model, mass = tiny.writer(), {}
    for prompt in prompts:
        ruler = listed(model, prompt)
        for value, p in zip(ruler.rewards(tiny.score).tolist(), ruler.probs().tolist()):
            mass[value] = mass.get(value, 0.0) + p / len(prompts)
    return np.array(sorted(mass)), np.array([mass[value] for value in sorted(mass)])


def coverage(prompts, sizes=SIZES, experiments=EXPERIMENTS, seed=0):
    """{texts: share of evaluations of so many texts whose interval holds the exact mean}."""
    values, probabilities = distribution(prompts)
    exact, generator, found = values @ probabilities, torch.Generator().manual_seed(seed), {}
    for size in sizes:
        drawn = torch.multinomial(torch.tensor(probabilities), experiments * size, replacement=True, generator=generator)
        rows = torch.tensor(values)[drawn].reshape(experiments, size)
        half = 1.96 * rows.std(dim=1) / size**0.5
        found[size] = float(((rows.mean(dim=1) - exact).abs() <= half).double().mean())
    return found


def one_evaluation(prompts, count=1000, seed=1):
    """Running means and intervals of one evaluation, text by text: (mean, low, high), each (count - 1,)."""
    values, probabilities = distribution(prompts)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(torch.tensor(probabilities), count, replacement=True, generator=generator)
    rewards = torch.tensor(values)[drawn]
    lines = [lesson.mean_with_interval(rewards[:n]) for n in range(2, count + 1)]
    return (np.array([line[name] for line in lines]) for name in ("mean", "low", "high"))


def distinct_by_size(sizes=(10, 100, 1000), seed=0):
    """{completions: (distinct-1, distinct-2)} of one and the same model: more texts, more repetitions."""
    model, prompts = tiny.writer(), tiny.some_prompts(200)
    rows = tiny.measure(model, prompts, times=5, batch_size=1000, generator=torch.Generator().manual_seed(seed))["completions"]
    return {size: tuple(lesson.distinct_n(rows[:size], n) for n in (1, 2)) for size in sizes}


def classifier():
    """A small bidirectional classifier with random weights: what it says of a text is of no interest, only what changes it."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    sizes = {"vocab_size": VOCABULARY, "dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2, "max_position_embeddings": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return DistilBertForSequenceClassification(DistilBertConfig(**sizes, initializer_range=0.4)).double().eval()


def read_with_padding(text=(2, 3, 5), most=20):
    """P(label 1) of one text with 0 to `most` padding tokens behind it, with the attention mask and without."""
    model, with_mask, without = classifier(), [], []
    for k in range(most + 1):
        tokens = torch.tensor([[*text, *[tiny.PAD] * k]])
        mask = torch.tensor([[1] * len(text) + [0] * k])
        with torch.no_grad():
            with_mask.append(model(input_ids=tokens, attention_mask=mask).logits.softmax(-1)[0, 1].item())
            without.append(model(input_ids=tokens, attention_mask=torch.ones_like(mask)).logits.softmax(-1)[0, 1].item())
    return np.array(with_mask), np.array(without)


def real_run(count=1000, seed=0):
    """The built-in language model on prompts of the built-in world, drawn and by argmax: what run.json keeps."""
    from full.given import models, reviews

    world = reviews.world()
    (policy, tokenizer), (judge, reader) = models.load_policy("review-lm"), models.load_classifier("review-sentiment")
    prompts, found = world.prompts(count, 10, seed + 7), {}

    def score(texts):
        return lesson.sentiment_reward(judge, reader, texts)

    for name, top_k in (("drawn", 0), ("argmax", 1)):
        generator = torch.Generator().manual_seed(seed)
        made = lesson.evaluate(policy, tokenizer, prompts, score, batch_size=100, top_k=top_k, generator=generator)
        gold = lesson.mean_with_interval(torch.tensor(world.gold_reward(made.texts)))
        figures = ("completion_length", "eos_rate", "distinct_1", "distinct_2")
        found[name] = {"reward": made.reward, "gold": gold, **{figure: getattr(made, figure) for figure in figures}}
        found[name]["samples"] = [[round(r, 2), text] for r, text in zip(made.rewards.tolist()[:4], made.texts)]
        found[name]["rewards"] = [round(reward, 4) for reward in made.rewards.tolist()]
    return found | {"shifted": shifted(policy, tokenizer, prompts[:300], seed)}


def shifted(policy, tokenizer, texts, seed, shifts=(1, 5, 10)):
    """{padding: (mean loss, largest loss)} in nats a completion of the model's own, if so much padding moves the places."""
    prompts, generator = lesson.seed_prompts(tokenizer, texts, 10), torch.Generator().manual_seed(seed)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    made = lesson.continue_prompts(policy, prompts, 20, **ends, generator=generator)
    columns, log_probs = torch.arange(made.tokens.shape[1]).expand(len(made), -1), {}
    for shift in (0, *shifts):
        with torch.no_grad():
            logits = policy(input_ids=made.tokens, attention_mask=made.attention_mask, position_ids=columns + shift).logits
        rows = logits[:, made.prompt_length - 1 : -1].double().log_softmax(-1)
        chosen = rows.gather(-1, made.completion.unsqueeze(-1)).squeeze(-1)
        log_probs[shift] = chosen.masked_fill(~made.mask, 0.0).sum(1)
    losses = {shift: log_probs[0] - log_probs[shift] for shift in shifts}
    return {str(shift): [loss.mean().item(), loss.max().item()] for shift, loss in losses.items()}


# numbers


def exact_numbers():
    """{what: the text as it stands in the lesson}, of everything that is computed and not drawn."""
    prompts = tiny.some_prompts()
    right, found = worth(tiny.writer(), prompts[0]), {}
    for treatment, name in TREATMENTS.items():
        table = under_padding(prompts, treatment)
        moved = np.abs(table - table[0]).mean(axis=1)
        found[f"moved, {treatment}"] = f"| {name} | {moved[1]:.2f} | {moved[3]:.2f} | {moved[5]:.2f} |"
    assert abs(right - under_padding(prompts[:1], "places")[5, 0]) < 1e-9
    heated, greedy = sampled_and_greedy(prompts)
    for temperature in TEMPERATURES:
        score, entropy = heated[temperature]
        found[f"temperature {temperature}"] = f"| {temperature:g} | {score:.3f} | {entropy:.2f} |"
    found["greedy"] = f"| argmax | {greedy:.3f} | 0.00 |"
    found["mass without END"] = f"sum to {mass_without_end(prompts):.2f}"
    interval = lesson.mean_with_interval(EXAMPLE)
    found["s of the example"] = f"s = {EXAMPLE.std().item():.4f}"
    found["interval of the example"] = f"{interval['low']:.3f} to {interval['high']:.3f}"
    found["a probability"] = f"{math.exp(1.7) / (math.exp(0.3) + math.exp(1.7)):.3f}"
    values, probabilities = distribution(prompts)
    mean = values @ probabilities
    spread = math.sqrt((values - mean) ** 2 @ probabilities)
    found["exact mean"] = f"{mean:.3f}"
    found["exact spread"] = f"standard deviation of {spread:.2f}"
    found["distinct of the row"] = f"{lesson.distinct_n([ROW], 1):.1f} and {lesson.distinct_n([ROW], 2):.1f}"
    for texts in (100, 1000, 25000):
        found[f"half width, {texts}"] = f"| {texts:,} | {1.96 * 0.35 / texts**0.5:.3f} |"
    found["to tell 0.02"] = f"{math.ceil(2 * (1.96 * 0.35 / 0.02) ** 2):,} texts for each"
    found["best of twenty"] = f"about {0.01 * best_of(20):.3f}"
    found["Student's t"] = f"{student_t.ppf(0.975, 9):.2f} there"
    with_mask, without = read_with_padding()
    assert np.ptp(with_mask) < 1e-12
    found["classifier"] = f"from {with_mask[0]:.2f} to {without.min():.2f}"
    return found


def best_of(tries):
    """The expected largest of so many standard normal numbers."""
    grid = np.linspace(-8, 8, 20001)
    density = tries * normal.pdf(grid) * normal.cdf(grid) ** (tries - 1)
    return float(np.trapezoid(grid * density, grid))


def drawn_numbers():
    """Of everything that a fixed seed draws."""
    found = {}
    for size, share in coverage(tiny.some_prompts()).items():
        found[f"coverage, {size}"] = f"| {size} | {share:.1%} |"
    for size, (one, two) in distinct_by_size().items():
        found[f"distinct, {size}"] = f"| {size:,} | {one:.3f} | {two:.3f} |"
    return found | bug_numbers()


def bug_numbers():
    found = {"bug, exactly": f"exactly {tiny.exactly(tiny.writer(), tiny.some_prompts()).mean():6.3f}"}
    for batch_size, line in bug_lines(planted).items():
        found[f"bug, {batch_size}"] = f"{batch_size} at once {line['mean']:6.3f} ({line['low']:.3f} to {line['high']:.3f})"
    right = bug_lines(tiny)[2000]
    found["mended, 2000"] = f"{right['mean']:.3f} ({right['low']:.3f} to {right['high']:.3f})"
    return {name: " ".join(text.split()) for name, text in found.items()}


def bug_lines(module):
    """What the silent bug's file prints, or its mended one."""
    model, prompts = module.writer(), module.some_prompts()
    generators = {size: torch.Generator().manual_seed(0) for size in (50, 200, 2000)}
    return {size: module.measure(model, prompts, times=50, batch_size=size, generator=g) for size, g in generators.items()}


def kept_run():
    return json.loads((HERE / "run.json").read_text(encoding="utf-8"))


def run_numbers():
    """Of run.json, which `--run` writes: the built-in models at work."""
    lines, found = kept_run(), {}
    for shift, (mean, largest) in lines.pop("shifted").items():
        found[f"shift {shift}"] = f"| {shift} | {mean:.2f} | {largest:.1f} |"
    for name, line in lines.items():
        reward, gold = line["reward"], line["gold"]
        found[f"run, {name}"] = (
            f"| {name} | {reward['mean']:.3f} ({reward['low']:.3f} to {reward['high']:.3f}) | {gold['mean']:.3f} | "
            f"{line['completion_length']:.1f} | {line['eos_rate']:.3f} | {line['distinct_1']:.3f} | {line['distinct_2']:.3f} |"
        )
        rewards = np.array(line["rewards"])
        shares = f"{(rewards < 0.1).mean():.0%} of the completions below 0.1 and {(rewards > 0.9).mean():.0%} above 0.9"
        found |= {"spread": f"{shares}, s = {rewards.std(ddof=1):.2f}"} if name == "drawn" else {}
        found |= {f"sample {i}, {name}": f"{reward:.2f} {text}" for i, (reward, text) in enumerate(line["samples"][:2])}
    return found


# pictures


def draw_run():
    """How the rewards of the run are spread."""
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes, bins = figure.subplots(), np.linspace(0, 1, 41)
    for name, colour in (("drawn", "tab:blue"), ("argmax", "tab:red")):
        line = kept_run()[name]
        axes.hist(line["rewards"], bins=bins, color=colour, alpha=0.5, label=f"{name}: mean {line['reward']['mean']:.3f}")
    axes.set(xlabel="P(positive)", ylabel="completions")
    axes.legend(fontsize=9)
    return gridded(figure)


def draw_padding(prompts):
    """Exact mean scores, and a classifier's probability, with more and more padding."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = {"places": "tab:green", "no places": "tab:orange", "attended": "tab:red"}
    for treatment, name in TREATMENTS.items():
        left.plot(under_padding(prompts[:1], treatment)[:, 0], "o-", ms=4, color=colours[treatment], label=name)
    left.set(xlabel="padding tokens on the left", ylabel="E[score] after one prompt, exactly", title="A language model")
    left.legend(fontsize=9, title="what the model is told")
    with_mask, without = read_with_padding()
    right.plot(with_mask, "o-", ms=4, color="tab:green", label="mask")
    right.plot(without, "o-", ms=4, color="tab:red", label="no mask")
    right.set(xlabel="padding tokens on the right", ylabel="P(label 1) of one text", title="A classifier", ylim=(0, 1))
    right.legend(fontsize=9)
    return gridded(figure)


def draw_sampling(prompts):
    """The exact mean score and the entropy against the temperature, and where argmax stands."""
    heated, greedy = sampled_and_greedy(prompts)
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    grid = sorted(heated)
    left.plot(grid, [heated[t][0] for t in grid], color="tab:blue", lw=2, label="drawn at this temperature")
    left.axhline(greedy, color="tab:red", ls="--", label="the likeliest token")
    left.axvline(1.0, color="gray", lw=0.8, ls=":")
    left.set(xlabel="temperature", ylabel="E[score], exactly")
    left.legend(fontsize=9)
    right.plot(grid, [heated[t][1] for t in grid], color="tab:blue", lw=2)
    right.axvline(1.0, color="gray", lw=0.8, ls=":")
    right.set(xlabel="temperature", ylabel="entropy of a completion, nats", ylim=(0, None))
    return gridded(figure)


def draw_interval(prompts):
    """One evaluation, text by text: the running mean and its interval, and what is exactly true."""
    values, probabilities = distribution(prompts)
    mean, low, high = one_evaluation(prompts)
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    texts = np.arange(2, len(mean) + 2)
    axes.fill_between(texts, low, high, color="tab:blue", alpha=0.2, label="95% interval")
    axes.plot(texts, mean, color="tab:blue", lw=1.5, label="running mean")
    axes.axhline(values @ probabilities, color="black", lw=1, ls="--", label="exact mean")
    axes.set(xscale="log", xlabel="texts evaluated", ylabel="score", ylim=(-2, 2), xlim=(2, len(mean) + 1))
    axes.legend(fontsize=9)
    return gridded(figure)


def draw_bug():
    """Three measurements of the planted file and of the mended one beside the exact mean."""
    exact = float(tiny.exactly(tiny.writer(), tiny.some_prompts()).mean())
    figure = Figure(figsize=(7.5, 3.4), layout="constrained")
    axes = figure.subplots()
    for shift, module, colour, name in ((-0.08, planted, "tab:red", "as the file is"), (0.08, tiny, "tab:green", "mended")):
        for place, line in enumerate(bug_lines(module).values()):
            axes.errorbar(
                place + shift, line["mean"], yerr=line["mean"] - line["low"], fmt="o", color=colour, capsize=4,
                label=None if place else name,
            )  # fmt: skip
    axes.axhline(exact, color="black", lw=1, ls="--", label="exact mean")
    axes.set(xticks=range(3), xticklabels=["50 at once", "200 at once", "2,000 at once"], ylabel="mean score")
    axes.legend(fontsize=9)
    return gridded(figure)


def gridded(figure):
    for axes in figure.axes:
        axes.grid(alpha=0.2)
    return figure


def main():
    if "--run" in sys.argv[1:]:
        lines = [f"{json.dumps(name)}: {json.dumps(line)}" for name, line in real_run().items()]
        (HERE / "run.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    prompts = tiny.some_prompts()
    pictures = {
        "padding": draw_padding(prompts),
        "sampling": draw_sampling(prompts),
        "interval": draw_interval(prompts),
        "bug": draw_bug(),
        "run": draw_run(),
    }
    for name, figure in pictures.items():
        figure.savefig(HERE / f"{name}.png", dpi=110)
    for name, text in (exact_numbers() | drawn_numbers() | run_numbers()).items():
        print(f"{name:24} {text}")


if __name__ == "__main__":
    main()
