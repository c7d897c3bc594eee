"""Lesson 3: an agent that says one of six words and learns to say positive ones."""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from toy.given.words import POSITIVE, START, WORDS


class Agent(nn.Module):
    """The policy: reads the previous word, gives the logits of the next one (eq. 3.1).

    Two linear layers with a ReLU between them, whose parameters have these names and shapes:

        hidden.weight (hidden_size, 7)    hidden.bias (hidden_size,)    the input is one-hot: six words and START
        output.weight (6, hidden_size)    output.bias (6,)
    """

    def __init__(self, hidden_size: int = 128) -> None:
        super().__init__()
        raise NotImplementedError("lesson 3: Agent")

    def forward(self, previous: Int[Tensor, "batch"]) -> Float[Tensor, "batch words"]:
        """The logits of the next word after each of `previous` (indices 0 to 6; 6 is START): (batch,) -> (batch, 6).

        Logits are any real numbers: no softmax here. They have the dtype of the weights, so that `agent.double()` works.
        """
        raise NotImplementedError("lesson 3: Agent")

    def probabilities(self, previous: Int[Tensor, "batch"]) -> Float[Tensor, "batch words"]:
        """pi(word | previous), the softmax of the logits over the words (eq. 3.2): each row sums to 1."""
        raise NotImplementedError("lesson 3: Agent.probabilities")


def positive_probability(logits: Float[Tensor, "words"]) -> Float[Tensor, ""]:
    """P(positive), exactly: the probability under softmax(logits) of the words in POSITIVE, added up (eq. 3.3).

    (6,) -> a tensor without dimensions. Nothing is sampled.
    """
    raise NotImplementedError("lesson 3: positive_probability")


def policy_loss(
    logits: Float[Tensor, "words"], word: int, advantage: float | Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """The loss whose gradient is minus one sample of the policy gradient (eq. 3.6): -log pi(word) * advantage.

    logits: (6,), of the policy pi = softmax(logits).  word: the index that was said.
    advantage: a number, or a tensor without dimensions; it is a constant here: no gradient reaches it, whatever it came from.
    The result has no dimensions and the dtype of `logits`, and is exact for logits as far apart as -200 and 200 in float32.
    Source: Williams 1992, "Simple statistical gradient-following algorithms".
    """
    raise NotImplementedError("lesson 3: policy_loss")


class Baseline:
    """The running mean of all scores seen so far (eq. 3.7), kept as `total_score` and `count`."""

    def __init__(self) -> None:
        self.total_score = 0.0
        self.count = 0

    def get(self) -> float:
        """The mean of the scores so far, total_score / count; 0.0 before the first."""
        raise NotImplementedError("lesson 3: Baseline.get")

    def update(self, score: float) -> None:
        """Add one score to the running mean (eq. 3.7). Call it after the advantage is taken."""
        raise NotImplementedError("lesson 3: Baseline.update")


def behaviour_policy(
    logits: Float[Tensor, "words"], epsilon: float, mode: str = "sample"
) -> Float[Tensor, "words"]:
    """The probability with which `choose_word` says each word, exactly (eq. 3.10): (6,) -> (6,), of the dtype of `logits`.

    With probability epsilon the word is drawn uniformly from all six, the best one included; otherwise
    mode "sample" draws it from softmax(logits), and mode "argmax" takes the word with the largest logit (of equals, the first).
    Raises ValueError that names the argument and what was received, if epsilon is outside [0, 1] or mode is neither of the two.
    """
    raise NotImplementedError("lesson 3: behaviour_policy")


def choose_word(
    logits: Float[Tensor, "words"], epsilon: float, generator: torch.Generator, mode: str = "sample"
) -> int:
    """One word, drawn from `behaviour_policy(logits, epsilon, mode)`: its index, a Python int from 0 to 5.

    All randomness comes from `generator`: the same generator state gives the same word.
    """
    raise NotImplementedError("lesson 3: choose_word")


def train(
    agent: nn.Module,
    critic: Callable[[int], float],
    optimizer: torch.optim.Optimizer,
    baseline: Baseline | None,
    epsilon: float,
    iterations: int,
    seed: int,
    *,
    mode: str = "sample",
    weighted: bool = True,
    after_step: Callable[[nn.Module], None] | None = None,
) -> tuple[Float[Tensor, "iterations"], Float[Tensor, "iterations"]]:
    """Train the agent by REINFORCE, one word and one step an iteration. Returns (losses, shares), float64.

    agent: maps previous words (batch,) to logits (batch, 6), as `Agent` does. It always reads START: nothing said yet.
    baseline: has `get()` and `update(score)`; None for none, and then the advantage is the reward itself.

    Each iteration, in this order:
    1. the logits of the word after START;
    2. one word, by one call of `choose_word` with `epsilon`, `mode` and one torch.Generator, seeded with `seed` at the start;
    3. its reward, `critic(word)`;
    4. its advantage, reward - baseline.get(), and only then baseline.update(reward)  (eq. 3.7, 3.8);
    5. `policy_loss` of the word and the advantage; if `weighted`, the advantage is first multiplied by the importance weight
       pi(word) / behaviour(word), a constant (eq. 3.11), which is 1 when epsilon is 0 and mode is "sample";
    6. one optimizer step on the gradient of this loss alone;
    7. after_step(agent), if given.

    losses[n] is the loss of iteration n; shares[n] the share of words in POSITIVE among the n + 1 words said so far.
    With Agent(), torch.optim.Adam at learning rate 1e-2 and 300 iterations, P(positive) ends above 0.99.
    """
    raise NotImplementedError("lesson 3: train")


def plot_training(losses: Sequence[float], positive: Sequence[float], kernel_size: int = 25) -> "matplotlib.figure.Figure":
    """Three plots under one another against the iteration: the loss, its running median, and exact P(positive).

    losses: (iterations,), as `train` returns them.  positive: (iterations,), P(positive) after each step.
    kernel_size: how many losses `scipy.signal.medfilt` takes each median of; odd.

    The figure has three axes, from top to bottom: `losses`, `scipy.signal.medfilt(losses, kernel_size)`, `positive`. Each
    has a y label ("loss", "median loss", "P(positive)"), the lowest has the x label "iteration". Further lines may be added.
    Make a matplotlib.figure.Figure, not one of pyplot: it needs no screen, and nobody has to close it.
    """
    import scipy.signal  # here and not at the top: both take a second that the other exercises need not wait for
    from matplotlib.figure import Figure

    raise NotImplementedError("lesson 3: plot_training")
