"""Lesson 8: the answers, written a second time, in NumPy: models read one row at a time, without padding and without a cache.

Weights go by their names in the library. It stays with the grader.
"""

import math

import numpy as np

SPECIAL = 4  # the first words of a vocabulary: padding, the end, unknown, the start
LOUD = 1000.0  # logits this many times as large leave nothing to chance
SURE = 60.0  # nats between the likeliest token and the next: another is drawn once in e^60 draws
ERF = np.vectorize(math.erf, otypes=[np.float64])


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def norm(x, weights, name, epsilon):
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    return scaled * weights[f"{name}.weight"] + weights.get(f"{name}.bias", 0.0)


def attend(queries, keys, values, heads, causal):
    """(time, dim) each; the heads lie beside each other."""
    time, dim = queries.shape
    later = np.triu(np.ones((time, time), bool), 1) & causal
    parts = []
    for q, k, v in zip(*(np.split(x, heads, axis=1) for x in (queries, keys, values))):
        scores = q @ k.T / math.sqrt(dim / heads)
        parts.append(softmax(np.where(later, -np.inf, scores)) @ v)
    return np.concatenate(parts, axis=1)


def gpt2_hidden(weights, heads, tokens):
    """What GPT-2's one layer makes of these tokens, (time, dim): before the output matrix, after the last norm."""
    x = weights["transformer.wte.weight"][tokens] + weights["transformer.wpe.weight"][: len(tokens)]
    layer = "transformer.h.0."
    q, k, v = np.split(norm(x, weights, layer + "ln_1", 1e-5) @ weights[layer + "attn.c_attn.weight"], 3, axis=1)
    x = x + attend(q, k, v, heads, causal=True) @ weights[layer + "attn.c_proj.weight"]
    inner = norm(x, weights, layer + "ln_2", 1e-5) @ weights[layer + "mlp.c_fc.weight"]
    inner = 0.5 * inner * (1 + np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
    return norm(x + inner @ weights[layer + "mlp.c_proj.weight"], weights, "transformer.ln_f", 1e-5)


def next_logits(weights, heads, tokens):
    """Of the token that comes after these, (vocabulary,)."""
    return gpt2_hidden(weights, heads, np.asarray(tokens))[-1] @ weights["lm_head.weight"].T


def gpt2_class_logits(weights, heads, tokens):
    return gpt2_hidden(weights, heads, np.asarray(tokens))[-1] @ weights["score.weight"].T


def distilbert_class_logits(weights, heads, tokens):
    tokens, layer = np.asarray(tokens), "distilbert.transformer.layer.0."
    embeddings = weights["distilbert.embeddings.word_embeddings.weight"][tokens]
    x = embeddings + weights["distilbert.embeddings.position_embeddings.weight"][: len(tokens)]
    x = norm(x, weights, "distilbert.embeddings.LayerNorm", 1e-12)
    q, k, v = (x @ weights[f"{layer}attention.{name}_lin.weight"].T for name in "qkv")
    x = x + attend(q, k, v, heads, causal=False) @ weights[layer + "attention.out_lin.weight"].T
    x = norm(x, weights, layer + "sa_layer_norm", 1e-12)
    inner = x @ weights[layer + "ffn.lin1.weight"].T
    inner = inner * (1 + ERF(inner / math.sqrt(2))) / 2
    x = norm(x + inner @ weights[layer + "ffn.lin2.weight"].T, weights, layer + "output_layer_norm", 1e-12)
    return np.maximum(x[0] @ weights["pre_classifier.weight"].T, 0.0) @ weights["classifier.weight"].T


def gpt2_weights(rng, vocabulary, positions=12, dim=8, labels=0):
    """Drawn so that places matter as much as words; a language model of these never writes a special token but the end."""
    layer = "transformer.h.0."
    shapes = {"transformer.wte.weight": (vocabulary, dim), "transformer.wpe.weight": (positions, dim)}
    shapes |= {layer + "attn.c_attn.weight": (dim, 3 * dim), layer + "attn.c_proj.weight": (dim, dim)}
    shapes |= {layer + "mlp.c_fc.weight": (dim, 4 * dim), layer + "mlp.c_proj.weight": (4 * dim, dim)}
    weights = {name: rng.normal(scale=0.7, size=shape) for name, shape in shapes.items()}
    weights |= {f"{name}.weight": np.ones(dim) for name in (layer + "ln_1", layer + "ln_2", "transformer.ln_f")}
    if labels:
        return weights | {"score.weight": rng.normal(size=(labels, dim))}
    head = rng.normal(size=(vocabulary, dim))
    weights["transformer.ln_f.weight"][0], weights["transformer.ln_f.bias"] = 0.0, np.eye(dim)[0]  # its first number is always 1
    head[:, 0] = np.where(np.isin(np.arange(vocabulary), (0, 2, 3)), -30.0, 0.0)
    return weights | {"lm_head.weight": head}


def distilbert_weights(rng, vocabulary, context, labels, dim=8):
    layer = "distilbert.transformer.layer.0."
    embeddings = "distilbert.embeddings."
    shapes = {embeddings + "word_embeddings.weight": (vocabulary, dim), embeddings + "position_embeddings.weight": (context, dim)}
    shapes |= {f"{layer}attention.{name}_lin.weight": (dim, dim) for name in ("q", "k", "v", "out")}
    shapes |= {layer + "ffn.lin1.weight": (4 * dim, dim), layer + "ffn.lin2.weight": (dim, 4 * dim)}
    shapes |= {"pre_classifier.weight": (dim, dim), "classifier.weight": (labels, dim)}
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    norms = (embeddings + "LayerNorm", layer + "sa_layer_norm", layer + "output_layer_norm")
    return weights | {f"{name}.weight": np.ones(dim) for name in norms}


def louder(weights):
    return weights | {"lm_head.weight": LOUD * weights["lm_head.weight"]}


def written(weights, heads, prompts, new_tokens, eos):
    """The likeliest token, again and again, after each prompt (a list without padding): the completions, and the least lead over
    the second likeliest, in nats."""
    completions, lead = [], np.inf
    for prompt in prompts:
        row = list(prompt)
        for _ in range(new_tokens):
            logits = next_logits(weights, heads, row)
            second, first = np.sort(logits)[-2:]
            lead = min(lead, first - second)
            row.append(int(np.argmax(logits)))
            if row[-1] == eos:
                break
        completions.append(row[len(prompt) :])
    return completions, lead


def shown(case):
    """The case with what is hard to read at its end: messages show a case from its beginning."""
    last = ("heads", "words", "worth", "weights")
    return {name: case[name] for name in [*(name for name in case if name not in last), *(name for name in last if name in case)]}


def left_padded(prompts, pad):
    """(input_ids, attention_mask) of prompts that are lists."""
    columns = max(map(len, prompts))
    input_ids = np.array([[pad] * (columns - len(row)) + list(row) for row in prompts])
    return input_ids, np.array([[0] * (columns - len(row)) + [1] * len(row) for row in prompts])


def without_padding(input_ids, attention_mask):
    return [row[real.astype(bool)].tolist() for row, real in zip(input_ids, attention_mask)]


def rollout_of(input_ids, attention_mask, completions, new_tokens, pad):
    """The rollout that holds these completions, as the probes send it."""
    missing = [new_tokens - len(row) for row in completions]
    added = np.array([row + [pad] * more for row, more in zip(completions, missing)])
    mask = np.array([[1] * len(row) + [0] * more for row, more in zip(completions, missing)])
    tokens, mask = np.concatenate([input_ids, added], axis=1), np.concatenate([attention_mask, mask], axis=1)
    return {"tokens": tokens, "attention_mask": mask, "prompt_length": input_ids.shape[1]}


def pair_probabilities(weights, heads, prompt, eos, pad, temperature, top_k):
    """Of each pair of tokens after a prompt, (vocabulary^2,): after an end comes padding."""

    def distribution(tokens):
        logits = next_logits(weights, heads, tokens) / temperature
        if 0 < top_k < len(logits):
            logits = np.where(logits < np.sort(logits)[-top_k], -np.inf, logits)
        return softmax(logits)

    first = distribution(prompt)
    rows = [np.eye(len(first))[pad] if token == eos else distribution([*prompt, token]) for token in range(len(first))]
    return (first[:, None] * np.stack(rows)).ravel()
