"""Lesson 12's truths in NumPy: a GPT-2's score of each row by itself, the loss and its slopes, training on a table."""

import numpy as np


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid(x):
    return np.where(x >= 0, 1.0, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x)))


def last_hidden(weights, layers, tokens):
    """What GPT-2 has at its last token, (width,): no padding anywhere, which cannot go wrong then. Complex weights will do."""

    def normed(x):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)

    def of(name):
        return weights.get(f"{name}.bias", 0.0)

    length, heads = len(tokens), 2
    x = weights["wte.weight"][tokens] + weights["wpe.weight"][:length]
    seen = np.tril(np.ones((length, length), dtype=bool))
    for layer in range(layers):
        at = f"h.{layer}."
        q, k, v = np.split(normed(x) @ weights[at + "attn.c_attn.weight"] + of(at + "attn.c_attn"), 3, axis=-1)
        mixed = []
        for one, two, three in zip(*(np.split(part, heads, axis=-1) for part in (q, k, v))):
            logits = one @ two.T / np.sqrt(one.shape[-1])
            odds = np.where(seen, np.exp(logits - logits.real.max()), 0.0)
            mixed.append(odds / odds.sum(-1, keepdims=True) @ three)
        x = x + np.concatenate(mixed, axis=-1) @ weights[at + "attn.c_proj.weight"] + of(at + "attn.c_proj")
        inner = normed(x) @ weights[at + "mlp.c_fc.weight"] + of(at + "mlp.c_fc")
        inner = inner / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
        x = x + inner @ weights[at + "mlp.c_proj.weight"] + of(at + "mlp.c_proj")
    return normed(x)[-1]


def hidden_rows(weights, layers, input_ids, attention_mask):
    """`last_hidden` of the real tokens of every row."""
    return np.array([last_hidden(weights, layers, row[mask != 0]) for row, mask in zip(input_ids, attention_mask)])


def slope(weights, layers, head, input_ids, attention_mask, direction, towards):
    """The derivative of sum(direction * scores) along `towards` in the word embeddings, by a complex step: exact to rounding."""
    step = 1e-20
    moved = {**weights, "wte.weight": weights["wte.weight"] + 1j * step * towards}
    return float((direction @ (hidden_rows(moved, layers, input_ids, attention_mask) @ head)).imag / step)


def bag_scores(words, tokens, mask):
    return (words[tokens] * (mask != 0)).sum(1)


def pair_loss(words, batches):
    """The mean loss over all pairs of these batches."""
    losses = []
    for batch in batches:
        chosen, rejected = np.split(bag_scores(words, batch["tokens"], batch["attention_mask"]), 2)
        losses.append(softplus(rejected - chosen))
    return float(np.concatenate(losses).mean())


def train(words, batches, validation, settings, learning_rate, resumed=None):
    """What `train` of lesson 12 does to a table of words."""
    kept, best = ({}, None) if resumed is None else (dict(resumed["kept"]), resumed["best"])
    if "best" not in kept:
        kept, best = {"steps": 0, "best": pair_loss(words, validation), "waited": 0}, words
    log, tables = [], []
    for batch in batches:
        tokens, mask = batch["tokens"], batch["attention_mask"] != 0
        chosen, rejected = np.split(bag_scores(words, tokens, mask), 2)
        margin, pairs = chosen - rejected, len(chosen)
        row = {"loss": softplus(-margin).mean(), "accuracy": ((1 + np.sign(margin)) / 2).mean(), "margin": margin.mean()}
        pull = np.concatenate([-sigmoid(-margin), sigmoid(-margin)]) / pairs
        gradient = np.zeros_like(words)
        np.add.at(gradient, tokens, pull[:, None] * mask)
        words = words - learning_rate * gradient
        tables.append(words)
        kept["steps"] += 1
        if kept["steps"] % settings["evaluate_every"] == 0:
            row["validation_loss"] = pair_loss(words, validation)
            kept["waited"] += 1
            if row["validation_loss"] < kept["best"]:
                kept["best"], kept["waited"], best = row["validation_loss"], 0, words
        log.append(row)
        if kept["waited"] >= settings["patience"]:
            break
    return {"steps": len(log), "log": [{name: float(value) for name, value in row.items()} for row in log],
            "words after each step": np.array(tables), "words at the end": best,
            "kept": {name: float(value) for name, value in kept.items()}}  # fmt: skip
