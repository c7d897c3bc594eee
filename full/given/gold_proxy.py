"""Gold and proxy on a world that can be listed: 1024 sentences, a reader, and reward models that know a few of his choices.

A sentence is five words of four. The reader likes "superb", is bored by "dull", and minds any word that comes more than twice:
that is the gold reward. The reference writes words independently. A reward model counts words, and no more; what each is worth it
learned from pairs of the reference's sentences, of which the reader preferred one. It is right about most sentences that the
reference writes. The sentence it likes best of all is "superb superb superb superb superb".

Everything here is exact: KL and both rewards are sums over all sentences, and a training step is a step along the expected
gradient. Rewards are in nats (logits of the reader's choices), with the reference's own mean taken off, so that they are gains.

    world = World()
    curves = all_curves(world, exercises)     # exercises: the module full.overoptimisation, the learner's or the solved one
    draw(curves).savefig("gold_proxy.png")
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterator

import torch
from torch import Tensor

from toy.given.enumerable import EnumerableLM

WORDS = ("superb", "good", "plain", "dull")
CHANCE = (0.15, 0.25, 0.35, 0.25)  # of each word, under the reference
WORTH = (1.0, 0.5, 0.0, -1.0)  # to the reader
LENGTH, FREE, GRATES = 5, 2, 0.7  # words a sentence; how often a word may come before it grates, and how much it then does
PAIRS, MEMBERS, RIDGE = 75, 5, 0.5  # of a reward model: its pairs; how many such models; the prior's precision
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
BETAS = (20, 10, 6, 4, 3, 2.5, 2, 1.7, 1.5, 1.3, 1.15, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.45, 0.4, 0.37, 0.34, 0.32, 0.3)


class World:
    """The sentences, the reference, the reader's reward and the reward models'; all float64, sentences in lexicographic order.

    reference: an EnumerableLM; `probs` (1024,) its probabilities; `gold` (1024,); `members` (5, 1024), one row a reward model,
    each from pairs of its own; `proxy` (1024,), the first of them; `weights` (5, 4), what each model thinks a word is worth.
    """

    def __init__(self, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.reference = EnumerableLM.tabular(len(WORDS), LENGTH)
        chances = torch.tensor(CHANCE, dtype=torch.float64)
        self.reference.set_distribution(chances.log()[self.reference.sequences].sum(dim=1))
        self.reference = self.reference.frozen()
        self.probs = self.reference.probs()
        self.counts = torch.stack([(self.reference.sequences == word).sum(dim=1) for word in range(len(WORDS))], dim=1).double()
        self.gold = self.centred(self.counts @ torch.tensor(WORTH, dtype=torch.float64) - GRATES * self.too_many())
        self.weights = torch.stack([self.reward_model(generator) for _ in range(MEMBERS)])
        self.members = self.centred(self.weights @ self.counts.T)
        self.proxy = self.members[0]

    def too_many(self) -> Tensor:
        """How much each sentence repeats itself: the squares of the counts beyond two, added up. (1024,)"""
        return ((self.counts - FREE).clamp(min=0) ** 2).sum(dim=1)

    def centred(self, reward: Tensor) -> Tensor:
        """The reward less its mean under the reference: what a policy gains on it."""
        return reward - (reward @ self.probs).unsqueeze(-1)

    def reward_model(self, generator: torch.Generator) -> Tensor:
        """What a word is worth (4,), learned from `PAIRS` pairs: the most probable worths under Bradley-Terry and a normal prior.

        Newton's method; where a step would overshoot it is halved.
        """
        pairs = self.reference.sample_pairs(PAIRS, self.gold, generator)
        more = self.counts[pairs[:, 0]] - self.counts[pairs[:, 1]]  # (pairs, 4): words that the preferred one has more of
        worth = torch.zeros(len(WORDS), dtype=torch.float64)

        def loss(worth):
            return -torch.nn.functional.logsigmoid(more @ worth).sum() + RIDGE / 2 * worth @ worth

        for _ in range(100):
            wrong = torch.sigmoid(-(more @ worth))
            gradient = RIDGE * worth - wrong @ more
            if gradient.abs().max() < 1e-10:
                break
            curvature = (more * (wrong * (1 - wrong)).unsqueeze(1)).T @ more + RIDGE * torch.eye(len(WORDS), dtype=torch.float64)
            step = torch.linalg.solve(curvature, gradient)
            while loss(worth - step) > loss(worth) + 1e-9:
                step = step / 2
            worth = worth - step
        return worth

    def agreement(self, reward: Tensor) -> float:
        """How often a reward orders two sentences of the reference as the gold one does; equals count one half."""
        pair = torch.outer(self.probs, self.probs)
        mine, theirs = ((r.unsqueeze(1) - r.unsqueeze(0)).sign() for r in (reward, self.gold))
        differ = theirs != 0
        return float((pair * (1 + mine * theirs) / 2)[differ].sum() / pair[differ].sum())

    def sentence(self, place: int) -> str:
        return " ".join(WORDS[word] for word in self.reference.sequences[place].tolist())


@dataclass(frozen=True)
class Curve:
    """KL to the reference in nats, and the gains in both rewards, (points,) each; `at` says what a point is: n, beta, a step."""

    kl: Tensor
    proxy: Tensor
    gold: Tensor
    at: tuple

    @property
    def distance(self) -> Tensor:
        return self.kl.clamp(min=0).sqrt()  # at the start KL is 0 but for rounding

    @property
    def best(self) -> int:
        """The point at which gold is highest."""
        return int(self.gold.argmax())


def measured(world: World, probs: Tensor, at: tuple, proxy: Tensor | None = None) -> Curve:
    """The curve of some policies, (policies, 1024) probabilities. proxy: what was optimised, if not the world's own."""
    ratio = torch.where(probs > 0, probs / world.probs, 1.0).log()
    return Curve((probs * ratio).sum(dim=1), probs @ (world.proxy if proxy is None else proxy), probs @ world.gold, tuple(at))


def best_of_n(world: World, exercises: Any, proxy: Tensor | None = None, sizes=SIZES) -> Curve:
    """Best-of-n by `proxy` (the world's own if None)."""
    proxy = world.proxy if proxy is None else proxy
    policies = [exercises.best_of_n_distribution(world.probs, proxy, n) for n in sizes]
    return measured(world, torch.stack(policies), sizes, proxy)


def frontier(world: World, exercises: Any, proxy: Tensor | None = None, betas=BETAS) -> Curve:
    """The optimum of E[proxy] - beta KL for each beta."""
    found = exercises.tilted_frontier(world.probs, world.proxy if proxy is None else proxy, world.gold, betas)
    return Curve(found["kl"], found["proxy"], found["gold"], tuple(betas))


class Table:
    """A trainable policy, begun at the reference: a row of logits for every prefix, as in `TabularLM`, read for all sentences."""

    def __init__(self, world: World):
        self.logits = world.reference.model.logits[0].detach().clone().requires_grad_(True)  # (prefixes, words)
        words, places = len(WORDS), torch.arange(len(world.probs))
        rows = [(words**t - 1) // (words - 1) + places // words ** (LENGTH - t) for t in range(LENGTH)]
        self.entries = torch.stack(rows, dim=1) * words + world.reference.sequences  # (sentences, time) into the flat table
        self.steps, self.mean, self.square = 0, torch.zeros_like(self.logits), torch.zeros_like(self.logits)

    def token_log_probs(self) -> Tensor:
        return self.logits.log_softmax(dim=1).flatten()[self.entries]  # (sentences, time)

    def descend(self, loss: Tensor, rate: float) -> None:
        """A step of Adam (0.9, 0.95) written out: the library's own takes seconds to load, more than all that is done here."""
        (slope,) = torch.autograd.grad(loss, self.logits)
        self.steps += 1
        self.mean = 0.9 * self.mean + 0.1 * slope
        self.square = 0.95 * self.square + 0.05 * slope**2
        mean, square = self.mean / (1 - 0.9**self.steps), self.square / (1 - 0.95**self.steps)
        with torch.no_grad():
            self.logits -= rate * mean / (square.sqrt() + 1e-8)


Path = Iterator[Tensor]  # of log-probabilities (1024,): before the first step, and after each


def reinforce(world: World, reward: Tensor, steps: int = 60, rate: float = 0.05, beta: float = 0.0) -> Path:
    """REINFORCE without its noise: steps along the gradient of E[reward] - beta KL."""
    policy, reference = Table(world), world.probs.log()
    for _ in range(steps):
        log_probs = policy.token_log_probs().sum(dim=1)
        yield log_probs.detach()
        kept = reward - beta * (log_probs.detach() - reference)  # KL in the reward: lesson 4
        policy.descend(-(log_probs.exp().detach() * kept) @ log_probs, rate)
    yield policy.token_log_probs().sum(dim=1).detach()


def ppo(world: World, reward: Tensor, steps: int = 20, rate: float = 0.04, epochs: int = 4, clip: float = 0.2) -> Path:
    """PPO without its noise: a step is `epochs` gradient steps on the expected clipped objective, with exact advantages."""
    policy = Table(world)
    for _ in range(steps):
        old = policy.token_log_probs().detach()
        probs = old.sum(dim=1).exp()
        yield old.sum(dim=1)
        advantages = exact_values(probs, reward).diff(dim=1)  # value after the token less value before it
        for _ in range(epochs):
            ratio = (policy.token_log_probs() - old).exp()
            gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
            policy.descend(-(probs.unsqueeze(1) * gain).sum(), rate)
    yield policy.token_log_probs().sum(dim=1).detach()


def exact_values(probs: Tensor, reward: Tensor) -> Tensor:
    """E[reward | the first t words] for each sentence and t = 0 .. LENGTH: (1024, LENGTH + 1)."""
    columns = []
    for t in range(LENGTH + 1):
        block = len(WORDS) ** (LENGTH - t)  # sentences that begin alike stand together
        share, total = (x.view(-1, block).sum(dim=1) for x in (probs, probs * reward))
        columns.append((total / share).repeat_interleave(block))
    return torch.stack(columns, dim=1)


def dpo(world: World, reward: Tensor, steps: int = 40, rate: float = 0.3, beta: float = 0.3) -> Path:
    """DPO without its noise: all pairs of the reference's sentences, labelled by `reward` through Bradley-Terry."""
    policy, reference = Table(world), world.probs.log()
    beaten = beaten_by_reference(world, reward)
    for _ in range(steps):
        log_probs = policy.token_log_probs().sum(dim=1)
        yield log_probs.detach()
        now = beaten_by_reference(world, beta * (log_probs.detach() - reference))
        policy.descend((2 * beta * world.probs * (beaten - now)) @ log_probs, rate)
    yield policy.token_log_probs().sum(dim=1).detach()


def beaten_by_reference(world: World, reward: Tensor) -> Tensor:
    """How often a sentence of the reference is preferred to each sentence (1024,), by Bradley and Terry with this reward."""
    strength = (reward - reward.max()).exp()  # e^a / (e^a + e^b) for every pair: a division is cheaper than a sigmoid
    return (strength / (strength + strength.unsqueeze(1))) @ world.probs


def trained(world: World, path: Path, proxy: Tensor | None = None) -> Curve:
    """The curve of a training path: a point before the first step, and one after each."""
    policies = torch.stack(list(path)).exp()
    return measured(world, policies, tuple(range(len(policies))), proxy)


def all_curves(world: World, exercises: Any) -> dict[str, Curve]:
    """Every way to optimise the proxy, by name; a third of a second on a free core, in one thread."""
    return {
        "best-of-n": best_of_n(world, exercises),
        "REINFORCE": trained(world, reinforce(world, world.proxy)),
        "PPO": trained(world, ppo(world, world.proxy)),
        "DPO": trained(world, dpo(world, world.proxy)),
        "optimum with KL": frontier(world, exercises),
    }


COLORS = {
    "best-of-n": "tab:blue",
    "REINFORCE": "tab:green",
    "PPO": "tab:red",
    "DPO": "tab:purple",
    "optimum with KL": "tab:grey",
}


def draw(curves: dict[str, Curve]):
    """Both gains against the distance from the reference, every curve's highest gold marked: a matplotlib Figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, curve in curves.items():
        color, best = COLORS[name], curve.best
        axes.plot(curve.distance, curve.proxy, color=color, linestyle="--", linewidth=1)
        axes.plot(curve.distance, curve.gold, color=color, label=f"{name}: {curve.gold[best]:.2f} at {curve.distance[best]:.2f}")
        axes.plot(curve.distance[best], curve.gold[best], "o", color=color, markersize=5)
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set_xlabel("distance from the reference, sqrt(KL)")
    axes.set_ylabel("gain in reward: proxy dashed, gold solid")
    axes.grid(alpha=0.3)
    axes.legend(title="highest gold, and where", fontsize=9)
    axes.set_title("The proxy rises on; the gold reward peaks and falls")
    return figure


def told(curves: dict[str, Curve]) -> list[str]:
    """The curves as lines for a terminal."""
    lines = []
    for name, curve in curves.items():
        best = curve.best
        lines.append(
            f"{name:<16} gold {curve.gold[best]:.2f} at best (proxy {curve.proxy[best]:.2f}), "
            f"{curve.gold[-1]:.2f} at the end (proxy {curve.proxy[-1]:.2f})"
        )
    return lines
