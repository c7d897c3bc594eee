"""The gradients by automatic differentiation of the objectives, the variance by within and between contexts."""

import numpy as np
import torch


def _gradient(objective, theta):
    leaf = torch.tensor(theta, requires_grad=True)
    (gradient,) = torch.autograd.grad(objective(leaf), leaf)
    return gradient.numpy()


def _mean_log_prob(xs, ys, weights):
    return lambda leaf: (torch.as_tensor(weights) * torch.log_softmax(leaf, dim=1)[xs, ys]).mean()


def score(theta, xs, ys):
    require_samples(theta, xs, ys)
    return np.stack([_gradient(_mean_log_prob([x], [y], 1.0), theta) for x, y in zip(xs, ys)])


def mle_gradient(theta, xs, ys):
    return _gradient(_mean_log_prob(xs, ys, 1.0), theta)


def exact_gradient(theta, rewards, context_probs):
    def objective(leaf):
        return (torch.tensor(context_probs) * (torch.softmax(leaf, dim=1) * torch.tensor(rewards)).sum(dim=1)).sum()

    return _gradient(objective, theta)


def reinforce_gradient(theta, xs, ys, rewards, baseline=0.0):
    require_samples(theta, xs, ys)
    require_shape("rewards", rewards, xs.shape)
    return _gradient(_mean_log_prob(xs, ys, rewards - per_context("baseline", baseline, len(theta))[xs]), theta)


def gradient_variance(theta, rewards, context_probs, baseline=0.0):
    """The law of total variance: the mean of the contexts' own variances and the variance of the contexts' mean gradients."""
    baseline, within, means = per_context("baseline", baseline, len(theta)), 0.0, []
    for x, d in enumerate(context_probs):
        probs, advantages = softmax_policy(theta)[x], rewards[x] - baseline[x]
        estimates = advantages[:, None] * score(theta, np.full(len(probs), x), np.arange(len(probs)))[:, x]
        means.append(probs @ estimates)
        within += d * (probs @ ((estimates - means[-1]) ** 2).sum(axis=1))
    rows = np.array(means)
    return within + context_probs @ (rows**2).sum(axis=1) - (context_probs**2) @ (rows**2).sum(axis=1)
