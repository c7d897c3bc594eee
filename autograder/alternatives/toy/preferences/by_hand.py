"""Pair by pair, in plain Python, with the stable forms written out."""

import itertools
import math

import numpy as np
import torch


def _softplus(x):
    """log(1 + e^x) of a tensor without dimensions, from the side that does not overflow."""
    return torch.log1p(torch.exp(x)) if x <= 0 else x + torch.log1p(torch.exp(-x))


def _mean(losses, weights):
    losses = torch.stack(losses)
    weighted_mean(losses.detach(), weights)  # refuses unfit weights
    part = [1.0] * len(losses) if weights is None else weights.tolist()
    return sum(w * loss for w, loss in zip(part, losses)) / math.fsum(part)


def _checked(chosen, rejected, ref_chosen, ref_rejected, beta):
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    require_beta(beta)
    return zip(chosen, rejected, ref_chosen.tolist(), ref_rejected.tolist())


def preference_probability(first, second):
    require_same_shape(first=first, second=second)
    return 1 / (1 + torch.exp(torch.clamp(second - first, max=700)))


def bradley_terry_loss(chosen, rejected, weights=None):
    require_pairs(chosen=chosen, rejected=rejected)
    return _mean([_softplus(bad - good) for good, bad in zip(chosen, rejected)], weights)


def pairs_from_preferences(labels, answers=4):
    require_labels(labels, answers)
    found = []
    for label, (first, second) in zip(labels.tolist(), itertools.combinations(range(answers), 2)):
        if label:
            found.append((first, second) if label == 1 else (second, first))
    return torch.tensor(found, dtype=torch.int64) if found else torch.empty((0, 2), dtype=torch.int64)


def fit_rewards(pairs, answers, l2=0.0, weights=None):
    """Newton's method with the Hessian written out."""
    require_choices(pairs, answers, l2, weights)
    require_finite_maximum(pairs, answers, l2, weights)
    part = np.ones(len(pairs)) if weights is None else weights.numpy()
    part, rewards = part / part.sum(), np.zeros(answers)
    for _ in range(60):
        slope, curvature = l2 * rewards, l2 * np.eye(answers) + 1.0 / answers
        for w, (i, j) in zip(part, pairs.tolist()):
            p = 1 / (1 + math.exp(rewards[i] - rewards[j]))
            slope[i] -= w * p
            slope[j] += w * p
            for row, column, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
                curvature[row, column] += sign * w * p * (1 - p)
        step = np.linalg.solve(curvature, slope)
        rewards = rewards - step * min(1.0, 1.0 / abs(step).max())  # no entry moves by more than 1: near the top, Newton's own
        if abs(step).max() < 1e-13:
            break
    return torch.tensor(rewards - rewards.mean())


def optimal_policy(ref, reward, beta):
    require_distribution("ref", ref)
    require_rewards(reward, ref)
    require_beta(beta)
    possible = ref > 0
    best = torch.where(possible, reward / beta, -torch.inf).amax(dim=-1, keepdim=True).detach()
    weights = ref * torch.exp(torch.where(possible, reward / beta - best, 0.0))  # the largest exponential is 1
    return weights / weights.sum(dim=-1, keepdim=True)


def implicit_reward(log_probs, ref_log_probs, beta):
    require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)
    require_beta(beta)
    return (log_probs - ref_log_probs.clone().detach()).mul(beta)


def implicit_accuracy(chosen, rejected, ref_chosen, ref_rejected, weights=None):
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    right = []
    for good, bad, ref_good, ref_bad in zip(*(t.tolist() for t in (chosen, rejected, ref_chosen, ref_rejected))):
        right.append(1.0 if good - ref_good > bad - ref_bad else 0.5 if good - ref_good == bad - ref_bad else 0.0)
    return float(_mean([torch.tensor(value, dtype=torch.float64) for value in right], weights))


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, weights=None):
    rows = _checked(chosen, rejected, ref_chosen, ref_rejected, beta)
    return _mean([_softplus(beta * ((b - rb) - (a - ra))) for a, b, ra, rb in rows], weights)


def dpop_loss(chosen, rejected, ref_chosen, ref_rejected, beta, lam, weights=None):
    require_not_negative("lam", lam)
    losses = []
    for a, b, ra, rb in _checked(chosen, rejected, ref_chosen, ref_rejected, beta):
        margin = beta * ((a - ra) - (b - rb))
        losses.append(_softplus(-margin if a >= ra else lam * (ra - a) - margin))
    return _mean(losses, weights)


def ipo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, weights=None):
    rows = _checked(chosen, rejected, ref_chosen, ref_rejected, beta)
    return _mean([(a - ra - b + rb) ** 2 - (a - ra - b + rb) / beta + 0.25 / beta**2 for a, b, ra, rb in rows], weights)
