"""Lesson 10's training by plain gradient descent on tables, in NumPy: what the checks hold answers against.

Nothing here leaves the grader: the check module imports it inside `truth` and mistakes alone.
"""

from __future__ import annotations

import numpy as np

from autograder.checks.small_gpt2 import log_softmax

EOS = 1


def rows_of(table, places, tokens, attention, prompt_length, temperature, top_k):
    """For each of the completion's columns: the rows of both tables that speak of it, and the log-distribution."""
    before = tokens[:, prompt_length - 1 : -1]
    position = np.maximum(attention.cumsum(axis=1) - 1, 0)[:, prompt_length - 1 : -1]
    logits = (table[before] + places[position]) / temperature
    if top_k:
        logits = np.where(logits < np.sort(logits, axis=-1)[..., -top_k, None], -np.inf, logits)
    return before, position, log_softmax(logits)


def train(policy, places, reference, ref_places, tokens, attention, prompt_length, rewards, settings, more):
    """What the probe `training` reports of a right `train`."""
    c = {"alpha": 0.05, "target_kl": 0.0, "horizon": 2000.0, "baseline": "batch", "group_size": 1, "temperature": 1.0, "top_k": 0}
    c |= settings
    policy, places = policy.copy(), places.copy()
    alpha = c["alpha"] if more["kept"] is None else more["kept"]
    log, seen = [], []
    for t, a, reward in zip(tokens, attention, rewards):
        completion, mask, batch = t[:, prompt_length:], a[:, prompt_length:].astype(bool), len(t)
        before, position, log_p = rows_of(policy, places, t, a, prompt_length, c["temperature"], c["top_k"])
        _, _, log_q = rows_of(reference, ref_places, t, a, prompt_length, c["temperature"], 0)
        mine, theirs = (np.take_along_axis(x, completion[..., None], -1)[..., 0] for x in (log_p, log_q))
        ratio = np.where(mask, mine - theirs, 0.0)
        shaped = reward - alpha * ratio.sum(1)
        advantages = compared(gathered(shaped, more), c)[:batch]
        chosen = np.where(mask, mine, 0.0)
        kls = gathered(ratio.sum(1), more)
        log.append({
            "reward": reward.mean(), "shaped_reward": shaped.mean(), "kl": kls.mean(),
            "kl_k3": (np.exp(-ratio) - 1 + ratio).sum(1).mean(), "loss": -(advantages * chosen.sum(1)).mean(), "alpha": alpha,
            "entropy": -chosen.sum() / mask.sum(), "completion_length": mask.sum(1).mean(),
            "eos_rate": ((completion == EOS) & mask).any(1).mean(),
        })  # fmt: skip
        slopes = np.zeros(log_p.shape)
        for b, s in np.argwhere(mask):
            slopes[b, s] = -advantages[b] / batch * ((np.arange(len(policy)) == completion[b, s]) - np.exp(log_p[b, s]))
        slopes = more["learning_rate"] * slopes / c["temperature"]
        np.subtract.at(policy, before, slopes)
        np.subtract.at(places, position, slopes)
        seen.append(policy.copy())
        if c["target_kl"]:
            off = np.clip(kls.mean() / c["target_kl"] - 1, -0.2, 0.2)
            alpha *= 1 + off * len(kls) / c["horizon"]
    return {
        "log": log, "the policy after each step": np.array(seen), "its places": places, "kept alpha": alpha,
        "prompts asked for": tokens[:, :, :prompt_length], "the reference changed": False,
        "the reference has a gradient": False, "the reference was scored with a graph": False,
    }  # fmt: skip


def gathered(values, more):
    """Of all processes: with two, the other's rows are made of this one's as the probe makes them."""
    return values if more["processes"] == 1 else np.concatenate([values, 1 + values[::-1] / 2])


def compared(rewards, c):
    """Each reward less the mean of the others: of all, or of its group."""
    if c["baseline"] == "none":
        return rewards
    size = c["group_size"] if c["baseline"] == "rloo" else len(rewards)
    groups = rewards.reshape(-1, size)
    return (groups - (groups.sum(1, keepdims=True) - groups) / max(size - 1, 1)).ravel()
