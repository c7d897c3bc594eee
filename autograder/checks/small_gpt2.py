"""A GPT-2 of one layer in NumPy: a trained policy crosses the border as weights, and is judged here by listing all its sentences.

It holds no answer, and goes with a student's copy: the judge there needs it too.
"""

from __future__ import annotations

from itertools import product

import numpy as np


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


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
