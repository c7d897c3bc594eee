"""Pair by pair, in plain Python."""

import math

import numpy as np


def softmax_policy(theta):
    rows = []
    for row in theta.tolist():
        weights = [math.exp(logit - max(row)) for logit in row]
        rows.append([weight / math.fsum(weights) for weight in weights])
    return np.array(rows)


def score(theta, xs, ys):
    require_samples(theta, xs, ys)
    policy, scores = softmax_policy(theta), []
    for x, y in zip(xs, ys):
        table = np.zeros(theta.shape)
        for a in range(theta.shape[1]):
            table[x, a] = (1.0 if a == y else 0.0) - policy[x, a]
        scores.append(table)
    return np.stack(scores)


def mle_objective(theta, xs, ys):
    total = 0.0
    for x, y in zip(xs, ys):
        row = theta[x].tolist()
        total += row[y] - max(row) - math.log(math.fsum(math.exp(logit - max(row)) for logit in row))
    return total / len(xs)


def mle_gradient(theta, xs, ys):
    total = np.zeros(theta.shape)
    for one in score(theta, xs, ys):
        total += one
    return total / len(xs)


def sgd_step(theta, gradient, learning_rate):
    if gradient.shape != theta.shape:
        raise ValueError(f"gradient: expected {theta.shape}, received {gradient.shape}")
    stepped = theta.copy()
    for at in np.ndindex(*theta.shape):
        stepped[at] += learning_rate * gradient[at]
    return stepped


def exact_objective(theta, rewards, context_probs):
    require_shape("rewards", rewards, theta.shape)
    require_distribution("context_probs", context_probs, len(theta))
    policy = softmax_policy(theta)
    return math.fsum(context_probs[x] * policy[x, y] * rewards[x, y] for x, y in np.ndindex(*theta.shape))


def exact_gradient(theta, rewards, context_probs):
    policy, gradient = softmax_policy(theta), np.zeros(theta.shape)
    for x, y in np.ndindex(*theta.shape):  # the sum over y of pi(y) (1[a = y] - pi(a)) r(y), term by term
        for a in range(theta.shape[1]):
            gradient[x, a] += context_probs[x] * policy[x, y] * ((a == y) - policy[x, a]) * rewards[x, y]
    return gradient


def reinforce_gradient(theta, xs, ys, rewards, baseline=0.0):
    require_samples(theta, xs, ys)
    require_shape("rewards", rewards, (len(xs),))
    per_state = per_context("baseline", baseline, len(theta)).tolist()
    total = np.zeros(theta.shape)
    for x, reward, one in zip(xs, rewards, score(theta, xs, ys)):
        total += (reward - per_state[x]) * one / len(xs)
    return total


def gradient_variance(theta, rewards, context_probs, baseline=0.0):
    baseline, policy = per_context("baseline", baseline, len(theta)), softmax_policy(theta)
    mean, second = np.zeros(theta.shape), 0.0
    for x, y in np.ndindex(*theta.shape):
        estimate = (rewards[x, y] - baseline[x]) * score(theta, np.array([x]), np.array([y]))[0]
        mean += context_probs[x] * policy[x, y] * estimate
        second += context_probs[x] * policy[x, y] * float((estimate**2).sum())
    return second - float((mean**2).sum())


def optimal_baseline(theta, rewards):
    found = []
    for row, reward in zip(softmax_policy(theta), rewards):
        weights = [p * ((1 - p) ** 2 + sum(q * q for b, q in enumerate(row) if b != a)) for a, p in enumerate(row)]
        weights = weights if sum(weights) > 0 else list(row)
        found.append(sum(w * r for w, r in zip(weights, reward)) / sum(weights))
    return np.array(found)
