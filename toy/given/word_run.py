"""One training run of the word agent with whoever's code is handed in, and its picture (lesson 3). Given code: used as it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from .words import POSITIVE, START, Critic


@dataclass
class WordRun:
    """One run. losses and shares: (iterations,), as `train` returns them; positive: (iterations + 1,), exact P(positive)."""

    losses: torch.Tensor
    shares: torch.Tensor
    positive: torch.Tensor
    logits: torch.Tensor  # (6,), after START, at the end
    seconds: float


def run(
    lesson: ModuleType,
    seed: int = 0,
    *,
    iterations: int = 300,
    learning_rate: float = 1e-2,
    epsilon: float = 0.0,
    mode: str = "sample",
    weighted: bool = True,
    use_baseline: bool = True,
    shift: float = 0.0,
) -> WordRun:
    """Trains a new agent of `lesson` (a word_agent module, the learner's or the reference) with Adam.

    seed: of the agent's first weights and of its words. shift: added to every score (see Critic).
    The weights are float64, so that rounding never decides which word is drawn: a seed's run is the same on every machine.
    """
    torch.manual_seed(seed)
    agent = lesson.Agent().double()
    optimizer = torch.optim.Adam(agent.parameters(), lr=learning_rate)
    baseline = lesson.Baseline() if use_baseline else None
    positive = [exact_positive(agent)]
    started = time.perf_counter()
    losses, shares = lesson.train(
        agent,
        Critic(shift),
        optimizer,
        baseline,
        epsilon,
        iterations,
        seed,
        mode=mode,
        weighted=weighted,
        after_step=lambda trained: positive.append(exact_positive(trained)),
    )
    seconds = time.perf_counter() - started
    return WordRun(losses, shares, torch.tensor(positive), agent(torch.tensor([START]))[0].detach(), seconds)


def exact_positive(agent: torch.nn.Module) -> float:
    """P(positive) for the first word, by listing all six."""
    with torch.no_grad():
        return float(torch.softmax(agent(torch.tensor([START]))[0], dim=-1)[list(POSITIVE)].sum())


def save_picture(lesson: ModuleType, path: Path, seed: int = 0, learning_rate: float = 2e-3) -> WordRun:
    """Trains one agent and saves the picture of the run (PNG) at `path`. A second or two.

    learning_rate: 1e-2 learns the task in 20 iterations; a fifth of it leaves something to see.
    """
    finished = run(lesson, seed, learning_rate=learning_rate)
    lesson.plot_training(finished.losses, finished.positive[1:]).savefig(path, dpi=120)
    return finished
