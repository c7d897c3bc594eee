"""PPO by plain gradient descent on tables, in NumPy, every derivative by hand: what the replays of lesson 6 are held against.

A policy is a table of logits (prefixes, vocabulary), a value function a table (prefixes,); prefix n followed by token v is prefix
n * vocabulary + 1 + v. Nothing here leaves the grader: check modules import it inside `truth` and mistakes alone.
"""

from __future__ import annotations

import numpy as np


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def prefixes(tokens, vocabulary):
    """The table row that is read before each token: (batch, time)."""
    rows = np.zeros(tokens.shape, dtype=int)
    for t in range(1, tokens.shape[1]):
        rows[:, t] = rows[:, t - 1] * vocabulary + 1 + tokens[:, t - 1]
    return rows


def token_log_probs(table, tokens, temperature):
    rows = prefixes(tokens, table.shape[1])
    return np.take_along_axis(log_softmax(table[rows] / temperature), tokens[..., None], axis=-1)[..., 0]


def token_rewards(scores, log_probs, ref_log_probs, mask, kl_coef):
    rewards = np.zeros(mask.shape)
    for b, length in enumerate(mask.sum(axis=1)):
        rewards[b, :length] = -kl_coef * (log_probs[b, :length] - ref_log_probs[b, :length])
        if length:
            rewards[b, length - 1] += scores[b]
    return rewards


def gae(rewards, values, mask, gamma, lam, bootstrap=None):
    """By the definition: the advantage is the discounted sum of all TD errors from a token on (eq. 6.12)."""
    advantages = np.zeros(mask.shape)
    for b, length in enumerate(mask.sum(axis=1)):
        ahead = np.append(values[b, 1:length], 0.0 if bootstrap is None else bootstrap[b])
        errors = rewards[b, :length] + gamma * ahead[:length] - values[b, :length]
        for t in range(length):
            advantages[b, t] = errors[t:] @ (gamma * lam) ** np.arange(length - t)
    return advantages, np.where(mask, advantages + values, 0.0)


def whiten(x, mask):
    real = x[mask]
    if np.ptp(real) == 0:
        return np.zeros(x.shape)
    return np.where(mask, (x - real.mean()) / real.std(), 0.0)


def explained_variance(values, returns, mask):
    spread = returns[mask].var()
    return 1 - (returns[mask] - values[mask]).var() / spread if np.ptp(returns[mask]) else 0.0


def surrogate(ratio, advantages, clip):
    """The clipped gain of every token and its derivative by the ratio, case by case: only the harmless side is cut off."""
    ceiling = (advantages >= 0) & (ratio > 1 + clip)
    floor = (advantages < 0) & (ratio < 1 - clip)
    gain = np.where(ceiling, (1 + clip) * advantages, np.where(floor, (1 - clip) * advantages, ratio * advantages))
    return gain, np.where(ceiling | floor, 0.0, advantages)


def value_errors(values, old_values, returns, clip):
    """The larger squared error of every token, and its derivative by the value."""
    near = np.clip(values, old_values - clip, old_values + clip)
    plain, clipped = (values - returns) ** 2, (near - returns) ** 2
    slope = np.where(plain >= clipped, 2 * (values - returns), 2 * (near - returns) * (np.abs(values - old_values) < clip))
    return np.maximum(plain, clipped), slope


def update(policy, value, batch, settings, learning_rate):
    """One PPO update. Returns (figures, policy, value); `settings` as in PPOConfig, `batch` as in Rollout."""
    c, mask = settings, batch["mask"]
    rewards = token_rewards(batch["scores"], batch["log_probs"], batch["ref_log_probs"], mask, c["kl_coef"])
    advantages, returns = gae(rewards, batch["values"], mask, c["gamma"], c["lam"])
    figures = {"explained_variance": explained_variance(batch["values"], returns, mask)}
    if c["whiten"]:
        advantages = whiten(advantages, mask)
    policy, value, steps = policy.copy(), value.copy(), []
    for _ in range(c["epochs"]):
        for first in range(0, len(mask), c["minibatch_size"]):
            part = slice(first, first + c["minibatch_size"])
            real = mask[part]
            tokens, nodes = batch["tokens"][part][real], prefixes(batch["tokens"][part], policy.shape[1])[real]
            old, weights, targets = batch["log_probs"][part][real], advantages[part][real], returns[part][real]
            figure, slopes = step(policy, value, tokens, nodes, old, weights, batch["values"][part][real], targets, c)
            for table, slope in zip((policy, value), slopes):
                np.add.at(table, nodes, -learning_rate * slope)
            steps.append(figure)
    return {**figures, **{name: np.array([step[name] for step in steps]) for name in steps[0]}}, policy, value


def step(policy, value, tokens, nodes, old, advantages, old_values, returns, c):
    """The figures of one minibatch of real tokens, and the loss's derivatives by each token's logits and value."""
    count = len(tokens)
    rows = log_softmax(policy[nodes] / c["temperature"])
    probs = np.exp(rows)
    log_ratio = rows[np.arange(count), tokens] - old
    ratio = np.exp(log_ratio)
    gain, slope = surrogate(ratio, advantages, c["clip"])
    errors, value_slope = value_errors(value[nodes], old_values, returns, c["value_clip"])
    entropies = -(probs * rows).sum(axis=1)
    by_logits = -(slope * ratio)[:, None] * (np.eye(policy.shape[1])[tokens] - probs)
    by_logits += c["entropy_coef"] * probs * (rows + entropies[:, None])
    policy_loss, value_loss, entropy = -gain.mean(), errors.mean() / 2, entropies.mean()
    figures = {
        "loss": policy_loss + c["value_coef"] * value_loss - c["entropy_coef"] * entropy,
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": (ratio - 1 - log_ratio).mean(),
        "clip_fraction": (np.abs(ratio - 1) > c["clip"]).mean(),
    }
    return figures, (by_logits / c["temperature"] / count, c["value_coef"] * value_slope / 2 / count)


def train(policy, value, reference, tokens, mask, scores, settings, learning_rate):
    """Updates on scripted sentences, rollout after rollout. Returns (log, policy after each update, value)."""
    log, seen = [], []
    for written, real, score in zip(tokens, mask, scores):
        nodes = prefixes(written, policy.shape[1])
        batch = {
            "tokens": written,
            "mask": real,
            "scores": score,
            "log_probs": token_log_probs(policy, written, settings["temperature"]),
            "ref_log_probs": token_log_probs(reference, written, settings["temperature"]),
            "values": value[nodes],
        }
        figures, policy, value = update(policy, value, batch, settings, learning_rate)
        log.append(
            {
                "reward": score.mean(),
                "kl": ((batch["log_probs"] - batch["ref_log_probs"]) * real).sum() / len(real),
                "completion_length": real.sum() / len(real),
                "explained_variance": figures.pop("explained_variance"),
                **{name: float(steps[-1]) for name, steps in figures.items()},
            }
        )
        seen.append(policy)
    return log, np.array(seen), value
