"""DPO by plain gradient descent on tables, in NumPy, every derivative by hand: what lesson 11's checks are held against.

A policy is {"words": (vocabulary, vocabulary), "places": (length, vocabulary)}: the logits after token v at position t are
words[v] + places[t]. Nothing here leaves the grader: check modules import it inside `truth` and mistakes alone.
"""

from __future__ import annotations

import numpy as np


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softplus(x):
    """log(1 + e^x) = -log sigma(-x)."""
    return np.logaddexp(0.0, x)


def sigma(x):
    return np.exp(-softplus(-np.asarray(x, dtype=np.float64)))


def labels_of(tokens, attention_mask, prompt_lengths):
    """Token by token: -100 inside the prompt and on padding."""
    labels = np.full(tokens.shape, -100)
    for b, t in np.argwhere(attention_mask != 0):
        if t >= prompt_lengths[b]:
            labels[b, t] = tokens[b, t]
    return labels


def sequences(logits, labels, average=False):
    """(log-probabilities of the rows, their gradients by the logits: one array of the logits' shape, row by row)."""
    rows, probs = log_softmax(logits), np.exp(log_softmax(logits))
    values, gradients = np.zeros(len(labels)), np.zeros(logits.shape)
    for b in range(len(labels)):
        scored = [t for t in range(1, labels.shape[1]) if labels[b, t] != -100]
        for t in scored:
            part = 1 / len(scored) if average else 1.0
            values[b] += part * rows[b, t - 1, labels[b, t]]
            gradients[b, t - 1] -= part * probs[b, t - 1]
            gradients[b, t - 1, labels[b, t]] += part
    return values, gradients


def logits_of(policy, tokens):
    return policy["words"][tokens] + policy["places"][: tokens.shape[1]]


def pairs(policy, tokens, attention_mask, prompt_lengths, direction, average=False):
    """(log-probabilities, gradient of sum(direction * log-probabilities) by words, by places)."""
    labels = labels_of(tokens, attention_mask, prompt_lengths)
    values, by_logits = sequences(logits_of(policy, tokens), labels, average)
    weighted = direction[:, None, None] * by_logits
    words, places = np.zeros_like(policy["words"]), np.zeros_like(policy["places"])
    np.add.at(words, tokens, weighted)
    places[: tokens.shape[1]] = weighted.sum(axis=0)
    return values, words, places


def loss(l_chosen, l_rejected, beta, loss="dpo", dpop_lambda=5.0):
    """(losses of the pairs, slopes by l_chosen, slopes by l_rejected)."""
    h = l_chosen - l_rejected
    if loss == "ipo":
        off = h - 0.5 / beta
        return off**2, 2 * off, -2 * off
    below = (l_chosen < 0) * (dpop_lambda if loss == "dpop" else 0.0)
    z = beta * (h + below * l_chosen)
    return softplus(-z), -beta * (1 + below) * sigma(-z), beta * sigma(-z)


def metrics(chosen, rejected, ref_chosen, ref_rejected, beta):
    r_c, r_r = beta * (chosen - ref_chosen), beta * (rejected - ref_rejected)
    return {
        "chosen_reward": np.mean(r_c), "rejected_reward": np.mean(r_r), "margin": np.mean(r_c - r_r),
        "accuracy": np.mean(np.where(r_c == r_r, 0.5, r_c > r_r)),
        "chosen_log_prob": np.mean(chosen), "rejected_log_prob": np.mean(rejected),
    }  # fmt: skip


def reference(policy, batch, average):
    """The reference's log-probabilities: those that the batch brings, or those of the reference policy."""
    labels = labels_of(batch["tokens"], batch["attention_mask"], batch["prompt_lengths"])
    if batch.get("ref_log_probs") is None:
        return sequences(logits_of(policy, batch["tokens"]), labels, average)[0]
    scored = np.maximum((labels[:, 1:] != -100).sum(axis=1), 1)
    return batch["ref_log_probs"] / scored if average else batch["ref_log_probs"]


def train(policy, anchor, batches, settings, learning_rate):
    """(rows of the log, words after each step, places after each step)."""
    policy = {name: table.copy() for name, table in policy.items()}
    average, rows, words, places = settings.get("average", False), [], [], []
    for batch in batches:
        rest = {name: batch[name] for name in ("tokens", "attention_mask", "prompt_lengths")}
        count = len(batch["tokens"]) // 2
        values, _, _ = pairs(policy, **rest, direction=np.zeros(2 * count), average=average)
        fixed = reference(anchor, batch, average)
        ratio = values - fixed
        found, by_chosen, by_rejected = loss(
            ratio[:count], ratio[count:], settings["beta"], settings.get("loss", "dpo"), settings.get("dpop_lambda", 5.0)
        )
        direction = np.concatenate([by_chosen, by_rejected]) / count
        _, down_words, down_places = pairs(policy, **rest, direction=direction, average=average)
        known = metrics(values[:count], values[count:], fixed[:count], fixed[count:], settings["beta"])
        rows.append({"loss": np.mean(found), **known})
        policy["words"] = policy["words"] - learning_rate * down_words
        policy["places"] = policy["places"] - learning_rate * down_places
        words.append(policy["words"])
        places.append(policy["places"])
    return rows, np.array(words), np.array(places)
