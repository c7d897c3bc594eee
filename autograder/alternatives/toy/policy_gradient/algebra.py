"""Whole arrays and other formulas: counts for samples, closed forms for variances, SciPy for softmax."""

import numpy as np
from scipy.special import log_softmax, softmax


def softmax_policy(theta):
    require_table(theta)
    return softmax(theta, axis=1)


def score(theta, xs, ys):
    require_samples(theta, xs, ys)
    contexts, actions = np.eye(theta.shape[0])[xs], np.eye(theta.shape[1])[ys]
    return np.einsum("nx,na->nxa", contexts, actions - softmax(theta, axis=1)[xs])


def mle_objective(theta, xs, ys):
    counts = np.zeros(theta.shape)
    np.add.at(counts, (xs, ys), 1)
    return np.sum(counts * log_softmax(theta, axis=1)) / counts.sum()


def mle_gradient(theta, xs, ys):
    counts = np.zeros(theta.shape)
    np.add.at(counts, (xs, ys), 1)
    return (counts - counts.sum(axis=1, keepdims=True) * softmax(theta, axis=1)) / len(xs)


def sgd_step(theta, gradient, learning_rate):
    require_shape("gradient", gradient, theta.shape)
    return np.add(theta, np.multiply(gradient, learning_rate))


def exact_objective(theta, rewards, context_probs):
    require_shape("rewards", rewards, theta.shape)
    require_distribution("context_probs", context_probs, theta.shape[0])
    return np.einsum("x,xy,xy->", context_probs, softmax(theta, axis=1), rewards)


def exact_gradient(theta, rewards, context_probs):
    policy = softmax(theta, axis=1)
    jacobian = np.einsum("xy,ya->xya", policy, np.eye(theta.shape[1])) - policy[:, :, None] * policy[:, None, :]
    return np.einsum("x,xy,xya->xa", context_probs, rewards, jacobian)


def reinforce_gradient(theta, xs, ys, rewards, baseline=0.0):
    require_samples(theta, xs, ys)
    require_shape("rewards", rewards, np.shape(xs))
    weights = (rewards - per_context("baseline", baseline, theta.shape[0])[xs]) / len(xs)
    pushed = np.zeros(theta.shape)
    np.add.at(pushed, (xs, ys), weights)
    return pushed - pushed.sum(axis=1, keepdims=True) * softmax(theta, axis=1)


def gradient_variance(theta, rewards, context_probs, baseline=0.0):
    policy, baseline = softmax(theta, axis=1), per_context("baseline", baseline, theta.shape[0])
    squared_norms = 1 - 2 * policy + (policy**2).sum(axis=1, keepdims=True)
    second = context_probs @ (policy * squared_norms * (rewards - baseline[:, None]) ** 2).sum(axis=1)
    return second - (exact_gradient(theta, rewards, context_probs) ** 2).sum()


def optimal_baseline(theta, rewards):
    policy = softmax(theta, axis=1)
    weights = policy * (1 - 2 * policy + (policy**2).sum(axis=1, keepdims=True))
    totals, values = weights.sum(axis=1), (policy * rewards).sum(axis=1)
    return np.divide((weights * rewards).sum(axis=1), totals, out=values, where=totals > 0)
