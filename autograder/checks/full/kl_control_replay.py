"""Lesson 10's training by plain gradient descent on tables, and a GPT-2, both in NumPy: what the checks hold answers against.

Nothing here leaves the grader: the check module imports it inside `truth`, `judge` and mistakes alone.
"""

from __future__ import annotations

from itertools import product

import numpy as np

EOS = 1


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


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


# GPT-2, and what its trained policy is held against


def gpt2_matrices(rng, vocabulary, length, width=16):
    """The matrices of a GPT-2 of one layer, large enough that it prefers some sentences to others."""
    shapes = {
        "wte": (vocabulary, width), "wpe": (length + 1, width), "h.0.attn.c_attn": (width, 3 * width),
        "h.0.attn.c_proj": (width, width), "h.0.mlp.c_fc": (width, 4 * width), "h.0.mlp.c_proj": (4 * width, width),
    }  # fmt: skip
    return {f"transformer.{name}.weight": 0.2 * rng.normal(size=shape) for name, shape in shapes.items()}


def sentence_log_probs(weights, vocabulary, length):
    """log p of every sentence of `length` tokens after token 0, in lexicographic order, of GPT-2's weights by name."""
    sentences = np.array(list(product(range(vocabulary), repeat=length)))
    read = np.concatenate([np.zeros((len(sentences), 1), dtype=int), sentences[:, :-1]], axis=1)
    w = {name.removeprefix("transformer."): np.asarray(value, dtype=np.float64) for name, value in weights.items()}

    def of(name):
        return w[name + ".weight"], w.get(name + ".bias", 0.0)

    def normed(x, name):
        scale, shift = w.get(name + ".weight", 1.0), w.get(name + ".bias", 0.0)
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale + shift

    def linear(x, name):
        matrix, bias = of(name)
        return x @ matrix + bias

    x = w["wte.weight"][read] + w["wpe.weight"][:length]  # (sentences, T, width)
    heads, width = 2, x.shape[-1]
    q, k, v = (
        part.reshape(*part.shape[:2], heads, -1).swapaxes(1, 2)
        for part in np.split(linear(normed(x, "h.0.ln_1"), "h.0.attn.c_attn"), 3, axis=-1)
    )
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(width / heads)
    scores = np.where(np.tril(np.ones((length, length), dtype=bool)), scores, -np.inf)
    mixed = (np.exp(log_softmax(scores)) @ v).swapaxes(1, 2).reshape(x.shape)
    x = x + linear(mixed, "h.0.attn.c_proj")
    inner = linear(normed(x, "h.0.ln_2"), "h.0.mlp.c_fc")
    inner = inner / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
    x = x + linear(inner, "h.0.mlp.c_proj")
    log_rows = log_softmax(normed(x, "ln_f") @ w["wte.weight"].T)
    return np.take_along_axis(log_rows, sentences[..., None], axis=-1)[..., 0].sum(1)


def distance_from_the_optimum(weights, reference, rewards, vocabulary, length, alpha):
    """1/2 sum_y |pi(y) - pi*(y)| with pi*(y) proportional to pi_ref(y) exp(r(y) / alpha); nan for weights that are no GPT-2's."""
    found = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}
    if any(name not in found or found[name].shape != matrix.shape for name, matrix in reference.items()):
        return np.nan
    target = sentence_log_probs(reference, vocabulary, length) + rewards / alpha
    return np.abs(np.exp(sentence_log_probs(found, vocabulary, length)) - np.exp(log_softmax(target))).sum() / 2
