"""Exact functions of finite distributions, given as log-probabilities: float64 in, float64 out, differentiable, in nats.

The last dimension lists the outcomes (every sequence of an `EnumerableLM`, say); dimensions before it are independent
distributions (one for each prompt, say). A log-probability of -inf is an outcome that cannot happen; it adds nothing to a
sum, and nothing but zeros to a gradient.
"""

from __future__ import annotations

import math
from numbers import Real

import torch
from jaxtyping import Float, Int
from torch import Tensor

MAX_PAIRS = 4096**2  # entries of a preference matrix: 128 MiB of float64


def kl(log_p: Float[Tensor, "*batch outcomes"], log_q: Float[Tensor, "*batch outcomes"]) -> Float[Tensor, "*batch"]:
    """KL(p||q) = sum_y p(y) (log p(y) - log q(y)) in nats: 0 where p = 0, inf where p > 0 and q = 0 anywhere."""
    possible = log_p > -math.inf
    gap = torch.where(possible, log_p, 0.0) - torch.where(possible, log_q, 0.0)
    return (log_p.exp() * gap).sum(-1)


def entropy(log_p: Float[Tensor, "*batch outcomes"]) -> Float[Tensor, "*batch"]:
    """H(p) = -sum_y p(y) log p(y) in nats; between 0 and log(outcomes)."""
    return -(log_p.exp() * torch.where(log_p > -math.inf, log_p, 0.0)).sum(-1)


def total_variation(log_p: Float[Tensor, "*batch outcomes"], log_q: Float[Tensor, "*batch outcomes"]) -> Float[Tensor, "*batch"]:
    """TV(p, q) = 1/2 sum_y |p(y) - q(y)|, the largest difference in the probability of any event; between 0 and 1."""
    return (log_p.exp() - log_q.exp()).abs().sum(-1) / 2


def expectation(log_p: Float[Tensor, "*batch outcomes"], value: Float[Tensor, "*batch outcomes"]) -> Float[Tensor, "*batch"]:
    """E_p[value] = sum_y p(y) value(y), in the units of `value`."""
    return (log_p.exp() * value).sum(-1)


def log_partition(
    log_ref: Float[Tensor, "*batch outcomes"], reward: Float[Tensor, "*batch outcomes"], beta: float
) -> Float[Tensor, "*batch"]:
    """log Z = log sum_y pi_ref(y) exp(r(y) / beta). `reward` and `beta` (> 0) share their unit; raises ValueError otherwise."""
    return torch.logsumexp(log_ref + _tilt(reward, beta), -1)


def optimum(
    log_ref: Float[Tensor, "*batch outcomes"], reward: Float[Tensor, "*batch outcomes"], beta: float
) -> Float[Tensor, "*batch outcomes"]:
    """log pi*(y) = log pi_ref(y) + r(y) / beta - log Z, the policy that maximises E[r] - beta KL(pi||pi_ref).

    For every pi: E_pi[r] - beta KL(pi||pi_ref) = beta log Z - beta KL(pi||pi*).
    Source: Rafailov et al. 2023 (Direct Preference Optimization), eq. 4.
    """
    return torch.log_softmax(log_ref + _tilt(reward, beta), -1)


def preference_matrix(reward: Float[Tensor, "*batch outcomes"]) -> Float[Tensor, "*batch outcomes outcomes"]:
    """P[i, j] = P(y_i preferred to y_j) = sigmoid(r_i - r_j): Bradley and Terry 1952. Rewards are in logits (nats).

    Raises ValueError above 4096 x 4096 entries: `pair_preferences` answers for chosen pairs.
    """
    if reward.shape[-1] ** 2 * math.prod(reward.shape[:-1]) > MAX_PAIRS:
        received = f"rewards of shape {tuple(reward.shape)}"
        raise ValueError(f"pairs: expected to be given beyond {MAX_PAIRS:,} entries of the matrix, received None for {received}")
    return torch.sigmoid(reward.unsqueeze(-1) - reward.unsqueeze(-2))


def pair_preferences(reward: Float[Tensor, "*batch outcomes"], pairs: Int[Tensor, "pairs 2"]) -> Float[Tensor, "*batch pairs"]:
    """P(first preferred to second) = sigmoid(r_first - r_second) for each row (first, second) of `pairs`."""
    return torch.sigmoid(reward[..., pairs[:, 0]] - reward[..., pairs[:, 1]])


def check_reward(reward: Tensor, outcomes: int) -> Float[Tensor, "*batch outcomes"]:
    """`reward` in float64 on the CPU. Raises ValueError unless it is finite, with one entry for each outcome."""
    reward = torch.as_tensor(reward, dtype=None if isinstance(reward, Tensor) else torch.float64)  # a list would become float32
    if reward.ndim == 0 or reward.shape[-1] != outcomes:
        raise ValueError(f"reward: expected one number for each of {outcomes} sequences, received shape {tuple(reward.shape)}")
    if reward.is_complex() or not torch.isfinite(reward).all():
        raise ValueError(f"reward: expected finite real numbers, received {_first_bad(reward)}")
    return reward.cpu().double()


def check_log_probs(log_p: Tensor, outcomes: int, name: str) -> Float[Tensor, "*batch outcomes"]:
    """`log_p` in float64 on the CPU. Raises ValueError, naming `name`, unless it is a log-distribution over the outcomes."""
    log_p = torch.as_tensor(log_p)
    if log_p.ndim == 0 or log_p.shape[-1] != outcomes:
        raise ValueError(f"{name}: expected log-probabilities of {outcomes} sequences, received shape {tuple(log_p.shape)}")
    # 16,384 float64 terms of relative error 1e-16 stay far below 1e-9; float32 log-probabilities near -10 carry 1e-6 each.
    tolerance = 1e-9 if log_p.dtype == torch.float64 else 1e-5
    log_p = log_p.cpu().double()
    total = log_p.detach().exp().sum(-1)
    if not bool(((total - 1).abs() <= tolerance).all()):
        worst = total.flatten()[(total.flatten() - 1).abs().nan_to_num(math.inf).argmax()].item()
        raise ValueError(f"{name}: expected log-probabilities whose exponentials sum to 1, received a sum of {worst:.9g}")
    return log_p


def check_beta(beta: float) -> float:
    """`beta` as a float. Raises ValueError unless it is finite and positive."""
    if not (isinstance(beta, Real) and 0 < beta < math.inf):
        raise ValueError(f"beta: expected a positive finite number, received {beta!r}")
    return float(beta)


def _tilt(reward: Tensor, beta: float) -> Tensor:
    tilt = reward / check_beta(beta)
    if not torch.isfinite(tilt).all():
        raise ValueError(f"beta: expected one for which reward / beta is finite, received {beta!r}")
    return tilt


def _first_bad(values: Tensor) -> str:
    if values.is_complex():
        return f"dtype {values.dtype}"
    at = torch.nonzero(~torch.isfinite(values))[0].tolist()
    return f"{values[tuple(at)].item()} at {at}"
