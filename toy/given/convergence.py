"""The course's figure: five algorithms on one task whose optimum is known exactly, each measured by its distance to that optimum.

The task is small enough to list: sentences of three tokens from four, a score for each, a reference policy, and the objective
E[score] - beta KL(pi || reference). Its optimum is pi*(y) = reference(y) exp(score(y) / beta) / Z. Every algorithm starts at the
reference and is to reach pi*; total variation to it is computed by enumeration, never estimated.

The losses are the ones you wrote: `kl_reward` (lesson 4), `dpo_loss` (lesson 5), `gae` and `clipped_surrogate` (lesson 6).
At pi* the penalised reward is the same for every sentence. So the advantage is 0 there, and with it the noise: that is why
sampling algorithms get as close as they do.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Callable, Iterator

import torch
from torch import Tensor

from .enumerable import EnumerableLM
from .run_folder import one_thread

USES = {"toy.kl": ["kl_reward"], "toy.preferences": ["dpo_loss"], "toy.ppo": ["gae", "clipped_surrogate"]}
TITLE = "Six ways to one optimum"
GENTLE = 1e-2  # added to GRPO's standard deviation: near pi* the groups have next to none, and dividing by it would keep the noise


@dataclass
class Config:
    """What `climb run convergence` can be told: field=value."""

    beta: float = field(default=0.5, metadata={"help": "Strength of the KL penalty, in reward units a nat."})
    updates: int = field(default=1000, metadata={"help": "Gradient steps of each algorithm."})
    batch: int = field(default=64, metadata={"help": "Sentences sampled a step, by the algorithms that sample."})
    group: int = field(default=8, metadata={"help": "Sentences a group, for RLOO and GRPO."})
    learning_rate: float = field(default=0.05, metadata={"help": "Adam's first learning rate; it falls linearly to 0."})
    clip: float = field(default=0.2, metadata={"help": "PPO's clip range."})
    epochs: int = field(default=2, metadata={"help": "PPO's gradient steps on each batch."})
    pairs: int = field(default=1_000_000, metadata={"help": "Preference pairs drawn once, for DPO on sampled preferences."})
    seed: int = field(default=0, metadata={"help": "Seed of the task and of all sampling."})
    every: int = field(default=25, metadata={"help": "Total variation is computed every so many updates."})


class Task:
    """The sentences, their scores, the reference and the optimum; all exact, float64."""

    def __init__(self, config: Config, vocabulary: int = 4, length: int = 3):
        generator = torch.Generator().manual_seed(config.seed)
        self.reference = EnumerableLM.tabular(vocabulary, length, generator=generator, spread=0.5)
        self.score = torch.randn(len(self.reference), generator=generator, dtype=torch.float64)
        self.beta = config.beta
        self.optimum = self.reference.optimum(self.score, config.beta).detach()
        self.reference_tokens = self.reference.token_log_probs().detach()  # (sequences, time)
        self.reference_log_probs = self.reference_tokens.sum(dim=1)
        self.nodes = _nodes(self.reference.sequences, vocabulary)  # (sequences, time): which prefix stands before each token

    def policy(self) -> EnumerableLM:
        """A trainable policy that starts as the reference."""
        policy = EnumerableLM(copy.deepcopy(self.reference.model), self.reference.vocabulary, self.reference.length)
        policy.model.requires_grad_(True)
        return policy

    def distance(self, policy: EnumerableLM) -> float:
        """Total variation to pi*, by enumeration."""
        with torch.no_grad():
            return policy.total_variation(self.optimum).item()


Step = Callable[[EnumerableLM, torch.optim.Optimizer], None]


def algorithms(task: Task, config: Config, lessons: SimpleNamespace) -> dict[str, Step]:
    """One update of each algorithm. `lessons` holds the exercises: kl_reward, dpo_loss, gae, clipped_surrogate."""
    return {
        "REINFORCE": _reinforce(task, config, lessons),
        "RLOO": _grouped(task, config, lessons, _leave_one_out),
        "GRPO": _grouped(task, config, lessons, _standardised),
        "PPO": _ppo(task, config, lessons),
        "DPO, population": _dpo(task, lessons, _population_weights(task)),
        "DPO, sampled": _dpo(task, lessons, _sampled_weights(task, config)),
    }


def train(task: Task, config: Config, step: Step) -> Iterator[tuple[int, float]]:
    """Runs one algorithm; yields (updates so far, total variation to pi*), the start and the end included."""
    policy = task.policy()
    optimizer = torch.optim.Adam(policy.model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95))
    for update in range(config.updates):
        if update % config.every == 0:
            yield update, task.distance(policy)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * (1 - update / config.updates)
        step(policy, optimizer)
    yield config.updates, task.distance(policy)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _sampled(policy: EnumerableLM, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sentences drawn from the policy as indices (count,), and their token log-probabilities (count, time) with gradient."""
    tokens = policy.token_log_probs()
    index = torch.multinomial(tokens.detach().sum(dim=1).exp(), count, replacement=True, generator=generator)
    return index, tokens[index]


def _penalised(task: Task, lessons, index: Tensor, tokens: Tensor) -> Tensor:
    """score - beta k1 for each sampled sentence: (count,), no gradient."""
    return lessons.kl_reward(task.score[index], tokens, task.reference_tokens[index], torch.ones_like(tokens, dtype=torch.bool), task.beta)


def _reinforce(task: Task, config: Config, lessons) -> Step:
    """REINFORCE with the KL in the reward and a moving mean as baseline, taken before this batch is added to it."""
    generator, baseline = torch.Generator().manual_seed(config.seed + 1), [0.0]

    def step(policy, optimizer):
        index, tokens = _sampled(policy, config.batch, generator)
        reward = _penalised(task, lessons, index, tokens)
        advantage = reward - baseline[0]
        baseline[0] += 0.1 * (reward.mean().item() - baseline[0])
        _descend(optimizer, -(advantage * tokens.sum(dim=1)).mean())

    return step


def _grouped(task: Task, config: Config, lessons, advantages: Callable[[Tensor], Tensor]) -> Step:
    """Policy gradient whose baseline comes from the sentence's own group."""
    generator = torch.Generator().manual_seed(config.seed + 2)

    def step(policy, optimizer):
        index, tokens = _sampled(policy, config.batch, generator)
        groups = _penalised(task, lessons, index, tokens).view(-1, config.group)
        _descend(optimizer, -(advantages(groups).flatten() * tokens.sum(dim=1)).mean())

    return step


def _leave_one_out(groups: Tensor) -> Tensor:
    """RLOO: reward minus the mean of the *other* rewards of its group (Kool et al. 2019)."""
    others = (groups.sum(dim=1, keepdim=True) - groups) / (groups.shape[1] - 1)
    return groups - others


def _standardised(groups: Tensor) -> Tensor:
    """GRPO: reward minus the group's mean, over the group's standard deviation (Shao et al. 2024)."""
    return (groups - groups.mean(dim=1, keepdim=True)) / (groups.std(dim=1, keepdim=True) + GENTLE)


def _ppo(task: Task, config: Config, lessons) -> Step:
    """PPO with a KL penalty at every token, GAE, and a table of values, one for each prefix."""
    generator = torch.Generator().manual_seed(config.seed + 3)
    values = torch.zeros(int(task.nodes.max()) + 1, dtype=torch.float64)
    mask = torch.ones(config.batch, task.nodes.shape[1], dtype=torch.bool)

    def step(policy, optimizer):
        index, tokens = _sampled(policy, config.batch, generator)
        old, nodes = tokens.detach(), task.nodes[index]
        rewards = -task.beta * (old - task.reference_tokens[index])
        rewards[:, -1] += task.score[index]
        advantages, returns = lessons.gae(rewards, values[nodes], mask, 1.0, 0.95)
        for epoch in range(config.epochs):
            new = tokens if epoch == 0 else policy.token_log_probs()[index]
            _descend(optimizer, lessons.clipped_surrogate(new, old, advantages, mask, config.clip))
        _move_values(values, nodes, returns)

    return step


def _move_values(values: Tensor, nodes: Tensor, returns: Tensor, rate: float = 0.3) -> None:
    """Each prefix's value moves towards the mean return seen after it."""
    flat, error = nodes.flatten(), (returns - values[nodes]).flatten()
    count = torch.zeros_like(values).index_add_(0, flat, torch.ones_like(error))
    values += rate * torch.zeros_like(values).index_add_(0, flat, error) / count.clamp(min=1)


def _dpo(task: Task, lessons, weights: Tensor) -> Step:
    """DPO on a weighted list of pairs: `weights[i, j]` is how often sentence i was preferred to sentence j."""
    chosen, rejected = weights.nonzero(as_tuple=True)
    share = weights[chosen, rejected]
    reference = task.reference_log_probs

    def step(policy, optimizer):
        log_probs = policy.log_probs()
        pairs = (log_probs[chosen], log_probs[rejected], reference[chosen], reference[rejected])
        _descend(optimizer, lessons.dpo_loss(*pairs, task.beta, share))

    return step


def _population_weights(task: Task) -> Tensor:
    """Both sentences drawn from the reference, the preferred one by Bradley-Terry: the exact probability of each outcome."""
    pair = torch.outer(task.reference_log_probs.exp(), task.reference_log_probs.exp())
    return 2 * pair * torch.sigmoid(task.score[:, None] - task.score[None, :])


def _sampled_weights(task: Task, config: Config) -> Tensor:
    """The same from `pairs` draws: what a data set of human preferences is."""
    generator = torch.Generator().manual_seed(config.seed + 4)
    pairs = task.reference.sample_pairs(config.pairs, task.score, generator)
    counts = torch.zeros(len(task.score), len(task.score), dtype=torch.float64)
    ones = torch.ones(len(pairs), dtype=torch.float64)
    return counts.index_put_((pairs[:, 0], pairs[:, 1]), ones, accumulate=True) / len(pairs)


def _nodes(sequences: Tensor, vocabulary: int) -> Tensor:
    """A number for the prefix before each token: 0 for the empty one."""
    columns = [torch.zeros(len(sequences), dtype=torch.long)]
    for time_step in range(sequences.shape[1] - 1):
        columns.append(columns[-1] * vocabulary + 1 + sequences[:, time_step])
    return torch.stack(columns, dim=1)


def draw(curves: dict[str, list[tuple[int, float]]]):
    """Total variation to pi* (log axis) against updates: a matplotlib Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    colors = ("tab:blue", "tab:green", "tab:orange", "tab:red", "tab:purple", "tab:brown")
    for (name, points), color in zip(curves.items(), colors):
        updates, distances = zip(*points)
        axes.plot(updates, distances, label=f"{name}: {distances[-1]:.1e}", color=color, linestyle="--" if "sampled" in name else "-")
    axes.set_yscale("log")
    axes.set_xlabel("updates")
    axes.set_ylabel("total variation to the exact optimum")
    axes.grid(alpha=0.3)
    axes.legend(title="algorithm, and where it ends", fontsize=9)
    axes.set_title("All of them reach the optimum; sampled preferences stop at their own error")
    return figure


def run(config: Config, lessons: SimpleNamespace, folder, progress: Callable[[str, int, int], None], resume: bool = False) -> dict:
    """Trains every algorithm, writes the run's folder, returns the summary. `progress` is told (what, done, of how many).

    Resumed, it keeps the algorithms that were finished and trains the others anew: the same numbers, since all seeds are fixed.
    """
    with one_thread():
        return _run(config, lessons, folder, progress, resume)


def _run(config: Config, lessons: SimpleNamespace, folder, progress: Callable[[str, int, int], None], resume: bool) -> dict:
    task, started = Task(config), time.perf_counter()
    rows = folder.metrics() if resume else []
    finished = {row["algorithm"] for row in rows if row["step"] == config.updates}
    folder.keep_metrics([row for row in rows if row["algorithm"] in finished])
    curves: dict[str, list[tuple[int, float]]] = {}
    six = algorithms(task, config, lessons)
    for done, (name, step) in zip(range(0, len(six) * config.updates, config.updates), six.items()):
        if name in finished:
            curves[name] = [(row["step"], row["tv"]) for row in rows if row["algorithm"] == name]
            continue
        curves[name], new = [], []
        for update, distance in train(task, config, step):
            curves[name].append((update, distance))
            new.append({"algorithm": name, "step": update, "tv": distance, "seconds": round(time.perf_counter() - started, 3)})
            progress(f"{name}: {distance:.1e}", done + update, len(six) * config.updates)
        folder.add_metrics(new)
    draw(curves).savefig(folder.path / "convergence.png", dpi=130)
    summary = {"tv": {name: points[-1][1] for name, points in curves.items()}, "seconds": round(time.perf_counter() - started, 2)}
    folder.write_summary(summary)
    return summary


def told(summary: dict) -> list[str]:
    """The summary as lines for a terminal."""
    return [f"{name:<16} total variation to the optimum {distance:.1e}" for name, distance in summary["tv"].items()]
