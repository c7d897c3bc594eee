"""The same by the library's own losses: a choice is a binary classification, a softmax over two, an expit."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import root
from scipy.special import expit


def preference_probability(first, second):
    require_same_shape(first=first, second=second)
    return torch.softmax(torch.stack([first, second]), dim=0)[0]


def bradley_terry_loss(chosen, rejected, weights=None):
    require_pairs(chosen=chosen, rejected=rejected)
    losses = F.binary_cross_entropy_with_logits(chosen - rejected, torch.ones_like(chosen), reduction="none")
    return weighted_mean(losses, weights)


def pairs_from_preferences(labels, answers=4):
    require_labels(labels, answers)
    places = torch.triu_indices(answers, answers, offset=1).T  # row by row: 01 02 03 12 13 23
    pairs = torch.where((labels == 2)[:, None], places.flip(1), places)
    return pairs[labels != 0]


def fit_rewards(pairs, answers, l2=0.0, weights=None):
    """The zero of the gradient, found by a solver of equations."""
    require_choices(pairs, answers, l2, weights)
    require_finite_maximum(pairs, answers, l2, weights)
    chosen, rejected = pairs.numpy().T
    part = np.ones(len(pairs)) if weights is None else weights.numpy()
    design = (np.eye(answers)[chosen] - np.eye(answers)[rejected]) * 1.0

    def gradient(rewards):
        pull = part / part.sum() * expit(-design @ rewards)
        return l2 * rewards - design.T @ pull + rewards.mean()  # the last term fixes the constant

    found = root(gradient, np.zeros(answers), tol=1e-13)
    return torch.from_numpy(found.x - found.x.mean())


def optimal_policy(ref, reward, beta):
    require_distribution("ref", ref)
    require_rewards(reward, ref)
    require_beta(beta)
    logs = torch.where(ref > 0, ref, 1.0).log() + reward / beta
    return torch.softmax(logs.masked_fill(ref == 0, -torch.inf), dim=-1)


def implicit_reward(log_probs, ref_log_probs, beta):
    require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)
    require_beta(beta)
    with torch.no_grad():
        fixed = beta * ref_log_probs
    return beta * log_probs - fixed


def implicit_accuracy(chosen, rejected, ref_chosen, ref_rejected, weights=None):
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    one, other = chosen - ref_chosen, rejected - ref_rejected
    return weighted_mean(torch.heaviside(one - other, torch.tensor(0.5, dtype=one.dtype)), weights)


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, weights=None):
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    require_beta(beta)
    both = beta * torch.stack([chosen - ref_chosen.detach(), rejected - ref_rejected.detach()], dim=1)  # (pairs, 2)
    losses = F.cross_entropy(both, torch.zeros(len(both), dtype=torch.long), reduction="none")
    return weighted_mean(losses, weights)


def dpop_loss(chosen, rejected, ref_chosen, ref_rejected, beta, lam, weights=None):
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    require_beta(beta)
    require_not_negative("lam", lam)
    l_chosen, l_rejected = chosen - ref_chosen.detach(), rejected - ref_rejected.detach()
    margin = beta * (l_chosen - l_rejected) + lam * torch.clamp(l_chosen, max=0)
    return weighted_mean(torch.logaddexp(torch.zeros_like(margin), -margin), weights)


def ipo_loss(chosen, rejected, ref_chosen, ref_rejected, beta, weights=None):
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    require_beta(beta)
    policy_gap, reference_gap = chosen - rejected, (ref_chosen - ref_rejected).detach()
    target = torch.full_like(policy_gap, 0.5 / beta)
    return weighted_mean(F.mse_loss(policy_gap - reference_gap, target, reduction="none"), weights)
