"""Lesson 17: the reward that is optimised, the one that is meant, and how far apart they come: curves, fits, peaks, remedies.

Conventions, the same in every function:

- `proxy` is the reward that is optimised (a reward model's), `gold` the one that is meant. Both in one unit, higher is better.
- KL is KL(policy||reference) in nats, and a `distance` is its square root, d = sqrt(KL).
- Exact functions take one prompt whose answers are listed: `reference`, `proxy` and `gold` are (outcomes,), and `reference` holds
  probabilities. Functions of samples take (prompts, samples): independent answers of the reference to each prompt.
- Results are float64, whatever comes in. No argument is changed in place.

`Fit` and the `require_...` calls are given, at the end of the file: the latter refuse input that makes no sense.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from toy.kl import kl_divergence
from toy.preferences import optimal_policy


def best_of_n(proxy: Float[Tensor, "prompts samples"], n: int) -> Int[Tensor, "prompts"]:
    """Which of the first `n` samples of every prompt is kept: the one with the highest proxy reward, the first of equals.

    Returns the sample's column, (prompts,) long; samples behind the first n are not looked at.
    Raises ValueError unless proxy is (prompts, samples) of finite numbers and n from 1 to the number of samples.
    Source: Stiennon et al. 2020 (Learning to summarize from human feedback), "best of n".
    """
    require_samples(proxy=proxy)
    require_n(n, proxy.shape[1])
    raise NotImplementedError("lesson 17: best_of_n")


def best_of_n_mean(
    proxy: Float[Tensor, "prompts samples"], gold: Float[Tensor, "prompts samples"], n: int
) -> tuple[Float[Tensor, "prompts"], Float[Tensor, "prompts"]]:
    """Proxy and gold reward of best-of-n, averaged over all ways to choose n of the N samples of a prompt (eq. 17.5).

    Sample i, with L_i samples at or below its proxy reward and B_i strictly below, is the best of
    (C(L_i, n) - C(B_i, n)) / C(N, n) of the choices, counted with those that have the same proxy reward; these share equally.
    Unbiased for the best of n fresh samples, and for every n from 1 to N at once: nothing is sampled anew.
    Returns the two means, (prompts,) each.
    Raises ValueError as `best_of_n` does, or if the shapes differ.
    """
    require_samples(proxy=proxy, gold=gold)
    require_n(n, proxy.shape[1])
    raise NotImplementedError("lesson 17: best_of_n_mean")


def best_of_n_kl(n: int) -> float:
    """KL(best-of-n||reference) in nats where no two answers have the same reward: ln n - (n - 1) / n (eq. 17.2).

    Exact for continuous rewards, too high where there are ties or answers that come twice. Raises ValueError unless n >= 1.
    Source: Stiennon et al. 2020; for the bound Beirami et al. 2024 (Theoretical guarantees on the best-of-n alignment policy).
    """
    require_n(n)
    raise NotImplementedError("lesson 17: best_of_n_kl")


def best_of_n_distribution(
    reference: Float[Tensor, "outcomes"], reward: Float[Tensor, "outcomes"], n: int
) -> Float[Tensor, "outcomes"]:
    """The exact distribution of the best of n independent draws from `reference` (eq. 17.3).

        P_n(y) = reference(y) * sum_{k=0}^{n-1} F(y)^k B(y)^(n-1-k)

    with F(y) = the chance of a reward <= reward(y) and B(y) = the chance of one strictly below it. Where F > B the sum is
    (F^n - B^n) / (F - B): answers of equal reward share as the
    reference has it. An answer of probability 0 keeps it.
    Raises ValueError unless reference is a distribution, rewards are finite and as many, and n >= 1.
    """
    require_outcomes(reference, reward=reward)
    require_n(n)
    raise NotImplementedError("lesson 17: best_of_n_distribution")


def tilted_frontier(
    reference: Float[Tensor, "outcomes"],
    proxy: Float[Tensor, "outcomes"],
    gold: Float[Tensor, "outcomes"],
    betas: Sequence[float],
) -> dict[str, Float[Tensor, "betas"]]:
    """Where RL with a KL penalty of each strength ends (eq. 17.6).

        pi*(y) = reference(y) exp(proxy(y) / beta) / Z


    No policy has more proxy reward at the same KL. Returns {"kl": ..., "proxy": ..., "gold": ...}, (betas,) each: KL to the
    reference, and the expected rewards under pi*. Lessons 4 and 5 have both halves: `kl_divergence`, `optimal_policy`.
    Raises ValueError unless reference is a distribution, rewards are finite and as many, and every beta is finite and positive.
    """
    require_outcomes(reference, proxy=proxy, gold=gold)
    require_betas(betas)
    raise NotImplementedError("lesson 17: tilted_frontier")


def linear_fit(
    columns: Float[Tensor, "points terms"], values: Float[Tensor, "points"]
) -> tuple[Float[Tensor, "terms"], Float[Tensor, "terms 2"]]:
    """Least squares: the coefficients c that minimise sum (values - columns @ c)^2, and their 95% intervals (eq. 17.9).

    An interval is c_j -+ t * s * sqrt([(X^T X)^-1]_jj) with X = columns, s^2 = (sum of squared residuals) / (points - terms), and
    t the 97.5% quantile of Student's distribution with points - terms degrees of freedom (`scipy.stats.t.ppf`). With as many
    points as terms nothing is left to tell the noise by: the intervals are -inf to inf.
    Returns coefficients (terms,) and intervals (terms, 2), lower end first.
    Raises ValueError unless there are at least as many points as terms and the columns are independent.
    """
    require_columns(columns, values)
    raise NotImplementedError("lesson 17: linear_fit")


def fit_best_of_n(kl: Float[Tensor, "points"], gain: Float[Tensor, "points"]) -> Fit:
    """Fits gain = d (a - b d), d = sqrt(kl), by `linear_fit`: the form for best-of-n (eq. 17.7).

    kl: nats, positive, at least two different ones. gain: the reward less the reference's own, which makes the curve begin at 0.
    Raises ValueError otherwise.  Source: Gao, Schulman and Hilton 2022 (Scaling laws for reward model overoptimization).
    """
    require_curve(kl, gain)
    raise NotImplementedError("lesson 17: fit_best_of_n")


def fit_rl(kl: Float[Tensor, "points"], gain: Float[Tensor, "points"]) -> Fit:
    """Fits gain = d (a - b ln d), d = sqrt(kl), by `linear_fit`: the form for reinforcement learning (eq. 17.8).

    Arguments, errors and source as for `fit_best_of_n`.
    """
    require_curve(kl, gain)
    raise NotImplementedError("lesson 17: fit_rl")


def peak(fit: Fit) -> tuple[float, float]:
    """The distance d at which a fitted curve is highest, and how high it is there (eqs. 17.10 and 17.11).

    fit: of either form, see `Fit`. Where b <= 0 nothing ever brings the curve down: (inf, inf). Where a best-of-n curve falls
    from the start (a <= 0), the highest point is the start: (0, 0).
    """
    raise NotImplementedError("lesson 17: peak")


def ensemble_reward(scores: Float[Tensor, "members *answers"], how: str = "mean", k: float = 1.0) -> Float[Tensor, "*answers"]:
    """One reward from several reward models' scores of the same answers (eq. 17.12).

    how: "mean", "min" (the worst that any member says), or "mean_minus_std": mean - k * standard deviation over the members, with
    the divisor members - 1; k: how much disagreement costs, read there alone.
    Raises ValueError for fewer than two members, another `how`, or a k below 0.
    Source: Coste et al. 2023 (Reward model ensembles help mitigate overoptimization), who subtract a multiple of the variance.
    """
    require_ensemble(scores, how, k)
    raise NotImplementedError("lesson 17: ensemble_reward")


def stop_at_kl(kl: Float[Tensor, "checkpoints"], budget: float) -> int:
    """Which checkpoint to keep if KL may cost no more than `budget` nats: the last one before the budget is first exceeded.

    kl: of the checkpoints in the order of training; the first is the start. Training ends at the first one above the budget,
    so what comes after it does not count, even if it is below again.
    Raises ValueError unless kl is (checkpoints,) and the first one is within the budget.
    """
    require_budget(kl, budget)
    raise NotImplementedError("lesson 17: stop_at_kl")


def stop_by_gold(gold: Float[Tensor, "checkpoints"], patience: int) -> int:
    """Which checkpoint to keep if training ends once `patience` measurements in a row were no better than the best before them.

    gold: of the checkpoints in the order of training. The one kept is the best seen until then, the first of equals.
    Raises ValueError unless gold is (checkpoints,), at least one, and patience >= 1.
    """
    require_patience(gold, patience)
    raise NotImplementedError("lesson 17: stop_by_gold")


# Given: what a fit is, and the refusal of what makes no sense, by the name of the argument.


@dataclass(frozen=True)
class Fit:
    """A fitted curve: form "best_of_n" is d (a - b d), "rl" is d (a - b ln d). Each interval is (lower end, upper end), 95%."""

    form: str
    a: float
    b: float
    a_interval: tuple[float, float]
    b_interval: tuple[float, float]

    def __call__(self, distance: Float[Tensor, "*points"]) -> Float[Tensor, "*points"]:
        """The gain at each distance."""
        return distance * self.a - self.b * (distance**2 if self.form == "best_of_n" else torch.xlogy(distance, distance))


def require_samples(**rewards: Tensor) -> None:
    """Raises ValueError unless all are (prompts, samples), of one shape, not empty, and finite."""
    first = next(iter(rewards.values()))
    for name, tensor in rewards.items():
        if tensor.ndim != 2 or tensor.numel() == 0 or tensor.shape != first.shape:
            wanted = tuple(first.shape) if first.ndim == 2 and first.numel() else "(prompts, samples) with one sample at least"
            raise ValueError(f"{name}: expected shape {wanted}, received shape {tuple(tensor.shape)}")
        if not tensor.isfinite().all():
            raise ValueError(f"{name}: expected finite rewards, received {tensor[~tensor.isfinite()][0].item()}")


def require_n(n: int, samples: int | None = None) -> None:
    """Raises ValueError unless n is at least 1 and, where it is limited by samples, at most their number."""
    if n < 1 or (samples is not None and n > samples):
        raise ValueError(f"n: expected at least 1{f' and at most the {samples} samples' if samples else ''}, received {n}")


def require_outcomes(reference: Tensor, **rewards: Tensor) -> None:
    """Raises ValueError unless reference is a distribution (outcomes,) and every reward is finite and of its shape."""
    if reference.ndim != 1 or not (reference >= 0).all() or abs(float(reference.sum()) - 1) > 1e-9:  # rounding of a float64 sum
        raise ValueError(f"reference: expected probabilities (outcomes,) that sum to 1, received {reference}")
    for name, tensor in rewards.items():
        if tensor.shape != reference.shape or not tensor.isfinite().all():
            raise ValueError(f"{name}: expected {len(reference)} finite rewards, received {tensor}")


def require_betas(betas: Sequence[float]) -> None:
    """Raises ValueError unless there is a beta and each is finite and positive."""
    wrong = [beta for beta in betas if not 0 < beta < math.inf]
    if wrong or not len(betas):
        raise ValueError(f"betas: expected positive finite numbers, received {wrong[0] if wrong else 'none'}")


def require_columns(columns: Tensor, values: Tensor) -> None:
    """Raises ValueError unless columns is (points, terms) of full rank, and values (points,)."""
    if columns.ndim != 2 or columns.shape[0] < columns.shape[1] or torch.linalg.matrix_rank(columns.double()) < columns.shape[1]:
        raise ValueError(f"columns: expected independent columns, no more than points, received {columns}")
    if values.shape != columns.shape[:1]:
        raise ValueError(f"values: expected one for each of {len(columns)} points, received shape {tuple(values.shape)}")


def require_curve(kl: Tensor, gain: Tensor) -> None:
    """Raises ValueError unless kl is (points,), positive, with two different values at least, and gain as many."""
    if kl.ndim != 1 or not (kl > 0).all() or len(kl.unique()) < 2:
        raise ValueError(f"kl: expected positive numbers, at least two different ones (not the reference itself), received {kl}")
    if gain.shape != kl.shape:
        raise ValueError(f"gain: expected one for each of {len(kl)} values of kl, received shape {tuple(gain.shape)}")


def require_ensemble(scores: Tensor, how: str, k: float) -> None:
    """Raises ValueError unless two members or more have scored, `how` is known and k at least 0."""
    if scores.ndim < 1 or len(scores) < 2:
        raise ValueError(f"scores: expected (members, answers) with two members at least, received shape {tuple(scores.shape)}")
    if how not in ("mean", "min", "mean_minus_std"):
        raise ValueError(f"how: expected mean, min or mean_minus_std, received {how!r}")
    if not k >= 0:
        raise ValueError(f"k: expected at least 0, received {k}")


def require_budget(kl: Tensor, budget: float) -> None:
    """Raises ValueError unless kl is (checkpoints,) and its first is within the budget."""
    if kl.ndim != 1 or len(kl) == 0:
        raise ValueError(f"kl: expected one number for each checkpoint, received shape {tuple(kl.shape)}")
    if not kl[0] <= budget:
        raise ValueError(f"budget: expected at least the first checkpoint's {float(kl[0]):g} nats, received {budget}")


def require_patience(gold: Tensor, patience: int) -> None:
    """Raises ValueError unless gold is (checkpoints,), at least one, and patience at least 1."""
    if gold.ndim != 1 or len(gold) == 0:
        raise ValueError(f"gold: expected one number for each checkpoint, received shape {tuple(gold.shape)}")
    if patience < 1:
        raise ValueError(f"patience: expected at least 1 measurement, received {patience}")
