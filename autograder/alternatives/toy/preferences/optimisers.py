"""Other ways to the fitted rewards and the optimal policy: L-BFGS with bounds on nothing, and the objective climbed step by step."""

import numpy as np
import torch
from scipy.optimize import minimize


def fit_rewards(pairs, answers, l2=0.0, weights=None):
    require_choices(pairs, answers, l2, weights)
    require_finite_maximum(pairs, answers, l2, weights)
    counts = np.zeros((answers, answers))
    np.add.at(counts, tuple(pairs.numpy().T), 1.0 if weights is None else weights.numpy())
    counts = counts / counts.sum()

    def objective(rewards):
        gaps = rewards[:, None] - rewards
        slopes = -counts * np.exp(-np.logaddexp(0, gaps))
        loss = (counts * np.logaddexp(0, -gaps)).sum() + l2 / 2 * rewards @ rewards
        return loss, slopes.sum(axis=1) - slopes.sum(axis=0) + l2 * rewards

    found = minimize(objective, np.zeros(answers), jac=True, method="L-BFGS-B", options={"gtol": 1e-12, "ftol": 0, "maxiter": 500})
    return torch.tensor(found.x - found.x.mean())


def optimal_policy(ref, reward, beta):
    """Odds against every other answer: pi*(y) = 1 / sum_y' ref(y')/ref(y) exp((r(y') - r(y)) / beta)."""
    require_distribution("ref", ref)
    require_rewards(reward, ref)
    require_beta(beta)
    logs = torch.where(ref > 0, ref, 1.0).log() + reward / beta
    logs = torch.where(ref > 0, logs, -torch.inf)
    return torch.exp(logs - torch.logsumexp(logs, dim=-1, keepdim=True))
