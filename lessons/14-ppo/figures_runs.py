"""What section 14.12 says of the runs on posts and questions: numbers and pictures from measured_runs.json.

    python lessons/14-ppo/figures_runs.py                prints and draws; figures.py does so too
    python lessons/14-ppo/figures_runs.py ppo-three      prints answers before and after besides
    python tests/bench/bench_laptop.py ppo-three ppo-one ppo-tldr --out lessons/14-ppo/measured_runs.json
                                                         trains all again: three seeds, half an hour on two cores
"""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
STORE = HERE / "measured_runs.json"
WAYS = {"ppo-three": "PPO, three rewards", "ppo-one": "PPO, completeness alone"}
SCORES = ("completeness", "relevance", "factuality")
QUESTIONS = (*SCORES, "reward_completeness", "length", "repetition")
POSTS = ("gold_reward", "reward_summary", "rougeL", "length", "repetition")
COLOURS = {"before": "tab:gray", "ppo-three": "tab:blue", "ppo-one": "tab:red"}


def stored():
    return json.loads(STORE.read_text(encoding="utf-8"))


def values(found, way, name):
    """Of each seed: the mean over the test prompts."""
    seeds = [found[way][seed] for seed in sorted(found[way])]
    return [run[name]["mean"] if isinstance(run[name], dict) else run[name] for run in seeds]


def mean(found, way, name):
    seeds = values(found, way, name)
    return sum(seeds) / len(seeds)


def row(label, found, way, names, before=""):
    """A row of a table: means over the seeds."""
    cells = []
    for name in names:
        number = mean(found, way, name + before)
        cells.append(f"{number:.1f}" if name == "length" else f"{number + 0.0:.2f}")
    kl = "0" if before else f"{mean(found, way, 'kl'):.1f}"
    return f"| {label} | {' | '.join(cells)} | {kl} |"


def change(found, way, name):
    """Of each seed: by how much a figure has changed."""
    return [after - first for first, after in zip(values(found, way, f"{name}_before"), values(found, way, name))]


def over_seeds(changes):
    return f"{sum(changes) / len(changes):+.2f} (seeds: {', '.join(f'{c:+.2f}' for c in changes)})"


def samples(found, way):
    """(prompt, its answer before, and after), of the first seed."""
    rows = found[way]["0"]["samples"]
    first, last = ([row for row in rows if row["stage"] == stage] for stage in ("before", "after"))
    return [(one["prompt"], one["completion"], other["completion"]) for one, other in zip(first, last)]


def post_numbers(found):
    told = {"posts, before": row("before", found, "ppo-tldr", POSTS, "_before")}
    told["posts, after"] = row("after", found, "ppo-tldr", POSTS)
    built = json.loads((ROOT / "full/given/builtin/figures.json").read_text(encoding="utf-8"))["post-lm"]
    told["posts, the authors"] = f"The authors' own have {built['authors_gold']['mean']:.2f} on the average"
    told["posts, greedily"] = f"learned from them {built['greedy_gold']['mean']:.2f} if it is read greedily"
    told["posts, change"] = over_seeds(change(found, "ppo-tldr", "gold_reward"))
    for n, (_, before, after) in enumerate(samples(found, "ppo-tldr")[1:3]):
        told |= {f"post {n}, before": f"| before | {before} |", f"post {n}, after": f"| after | {after} |"}
    return told


def question_numbers(found):
    told = {"questions, before": row("SFT", found, "ppo-three", QUESTIONS, "_before")}
    told |= {way: row(label, found, way, QUESTIONS) for way, label in WAYS.items()}
    for name in SCORES:
        told[f"three rewards, change of {name}"] = over_seeds(change(found, "ppo-three", name))
    return told


def model_numbers():
    """What the built-in models of the question world are: of the policy its tensors' sizes, of the reward model what it tells."""
    from safetensors.torch import load_file

    from full.given.models import BUILTIN

    tensors = load_file(BUILTIN / "question-t5-sft" / "model.safetensors")
    sizes = [float(tensor.square().mean().sqrt()) for tensor in tensors.values() if tensor.ndim == 2]
    reward = json.loads((BUILTIN / "figures.json").read_text(encoding="utf-8"))["question-reward"]
    told = {"sizes of tensors": f"between {min(sizes):.2f} and {max(sizes):.2f}"}
    told["reward model"] = f"agrees with {reward['accuracy']['mean']:.2f} of held-out preferences"
    told["longer answers"] = f"with {reward['longer_is_better']['mean']:.2f} of them"
    return told


def numbers(found):
    """Of what has been measured."""
    return post_numbers(found) | (question_numbers(found) if set(WAYS) <= set(found) else {})


def axes_of(ax, title, x="", y=""):
    ax.set(title=title, xlabel=x, ylabel=y)
    ax.grid(alpha=0.3)


def smooth(curve, name, width=5):
    """Means over the last few steps: a rollout is a small sample."""
    found = [point[name] for point in curve]
    return [sum(found[max(0, n + 1 - width) : n + 1]) / min(n + 1, width) for n in range(len(found))]


def lines(ax, found, way, name, colour, label):
    for number, run in enumerate(found[way].values()):
        steps = [point["step"] for point in run["curve"]]
        ax.plot(steps, smooth(run["curve"], name), color=colour, alpha=0.7, label=None if number else label)


def draw_posts(found):
    figure = Figure(figsize=(9.6, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    axes_of(left, "The reward model's score while training", "steps", "score less the author's")
    lines(left, found, "ppo-tldr", "reward_summary", "tab:blue", "three seeds")
    axes_of(right, "Length of the summaries", "steps", "tokens")
    lines(right, found, "ppo-tldr", "completion_length", "tab:blue", "three seeds")
    left.legend(fontsize=8)
    figure.savefig(HERE / "posts.png", dpi=110)


def draw_questions(found):
    """Exact scores before and after, each seed a dot; and the length of the rollouts while training."""
    figure = Figure(figsize=(9.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    axes_of(left, "Exact scores on test questions", y="score")
    left.set_ylim(0, 1.2)
    bars = {"before": ("SFT", "ppo-three", "_before")} | {way: (label, way, "") for way, label in WAYS.items()}
    for place, (what, (label, way, suffix)) in enumerate(bars.items()):
        x = [n + 0.27 * (place - 1) for n in range(len(SCORES))]
        left.bar(x, [mean(found, way, name + suffix) for name in SCORES], 0.25, label=label, color=COLOURS[what], alpha=0.6)
        for at, name in zip(x, SCORES):
            seeds = values(found, way, name + suffix)
            left.plot([at] * len(seeds), seeds, "o", color=COLOURS[what], markersize=3)
    left.set_xticks(range(len(SCORES)), SCORES)
    left.legend(fontsize=8, loc="upper center", ncols=3)
    axes_of(right, "Length of the answers while training", "steps", "tokens")
    for way, label in WAYS.items():
        lines(right, found, way, "completion_length", COLOURS[way], label)
    right.legend(fontsize=8)
    figure.savefig(HERE / "questions.png", dpi=110)


def main(ways=()):
    found = stored()
    for what, text in numbers(found).items():
        print(f"{what:32} {text}")
    for way in ways:
        for texts in samples(found, way):
            print(f"\n{way}", *texts, sep="\n  ")
    draw_posts(found)
    if set(WAYS) <= set(found):
        draw_questions(found)


if __name__ == "__main__":
    main(sys.argv[1:])
