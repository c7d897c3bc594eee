"""Supervised fine-tuning in plain loops and NumPy, every derivative by hand: what lesson 13's checks are held against.

Nothing here leaves the grader: check modules import it inside `truth` and mistakes alone.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np

PAD, EOS, UNKNOWN, IGNORED = 0, 1, 2, -100


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def ids_of(words, text):
    return [words.index(word) if word in words else UNKNOWN for word in text.split()]


def columns(words, source, target, max_source, max_target):
    """What `preprocess_function` returns, row by row."""
    found = {"input_ids": [], "attention_mask": [], "labels": [], "source_cut": [], "target_cut": []}
    sources, targets = ([ids_of(words, text) for text in texts] for texts in (source, target))
    kept = [row[: max_source - 1] + [EOS] for row in sources], [row[: max_target - 1] + [EOS] for row in targets]
    width, time = (max(len(row) for row in rows) for rows in kept)
    for read, said, long_read, long_said in zip(*kept, sources, targets):
        found["input_ids"].append(read + [PAD] * (width - len(read)))
        found["attention_mask"].append([1] * len(read) + [0] * (width - len(read)))
        found["labels"].append(said + [IGNORED] * (time - len(said)))
        found["source_cut"].append(len(long_read) + 1 - len(read))
        found["target_cut"].append(len(long_said) + 1 - len(said))
    return found


def shifted(labels, start_id, pad_id):
    """Token by token."""
    found = np.zeros_like(labels)
    for b in range(labels.shape[0]):
        for t in range(labels.shape[1]):
            before = start_id if t == 0 else labels[b, t - 1]
            found[b, t] = pad_id if before == IGNORED else before
    return found


def batch(rows, start_id, pad_id):
    """What `collate` returns: as wide as the longest of these rows."""
    width = max(sum(row["attention_mask"]) for row in rows)
    time = max(sum(label != IGNORED for label in row["labels"]) for row in rows)

    def filled(name, length, padding):
        return np.array([[row[name][t] if t < len(row[name]) else padding for t in range(length)] for row in rows])

    labels = filled("labels", time, IGNORED)
    return {"input_ids": filled("input_ids", width, pad_id), "attention_mask": filled("attention_mask", width, 0),
            "labels": labels, "decoder_input_ids": shifted(labels, start_id, pad_id)}  # fmt: skip


def loss(logits, labels, count=None):
    """(loss, gradient by the logits)."""
    rows, gradient, total = log_softmax(logits), np.zeros(logits.shape), 0.0
    real = [(b, t) for b, t in np.ndindex(*labels.shape) if labels[b, t] != IGNORED]
    by = len(real) if count is None else count
    for b, t in real:
        total -= rows[b, t, labels[b, t]] / by
        gradient[b, t] = np.exp(rows[b, t]) / by
        gradient[b, t, labels[b, t]] -= 1 / by
    return total, gradient


def lcs(reference, prediction):
    """By its recursion, from the ends."""

    @lru_cache(maxsize=None)
    def of(i, j):
        if i == 0 or j == 0:
            return 0
        if reference[i - 1] == prediction[j - 1]:
            return of(i - 1, j - 1) + 1
        return max(of(i - 1, j), of(i, j - 1))

    return of(len(reference), len(prediction))


def rouge(reference, prediction, stem=lambda word: word):
    wanted, said = ([stem(word) for word in re.findall(r"[a-z0-9]+", text.lower())] for text in (reference, prediction))
    common = lcs(tuple(wanted), tuple(said))
    if common == 0:
        return {"precision": 0.0, "recall": 0.0, "fmeasure": 0.0}
    precision, recall = common / len(said), common / len(wanted)
    return {"precision": precision, "recall": recall, "fmeasure": 2 * precision * recall / (precision + recall)}


def texts(words, ids):
    """The words of each row; pad, EOS, the unknown word and -100 say nothing."""
    return [" ".join(words[token] for token in row if token > UNKNOWN) for row in np.asarray(ids)]


def metrics(words, predictions, label_ids, stem=lambda word: word):
    """Means over the rows; each row by itself."""
    scores, lengths, ended = [], [], []
    for wanted, said, row in zip(texts(words, label_ids), texts(words, predictions), np.asarray(predictions)):
        scores.append(rouge(wanted, said, stem)["fmeasure"])
        lengths.append(sum(token not in (IGNORED, PAD) for token in row))
        ended.append(EOS in row)
    return {"rougeL": np.mean(scores), "completion_length": np.mean(lengths), "eos_rate": np.mean(ended)}


def table_logits(tables, sources, decoder_input_ids):
    """logits = words[what was read last] + sum of sources[tokens of the source]: the model of the trainer's checks.

    sources: lists of token ids, without padding.
    """
    read = np.array([tables["sources"][source].sum(axis=0) for source in sources])
    return tables["words"][decoder_input_ids] + read[:, None]


def sources_of(found):
    """The sources of a batch, without padding."""
    return [[token for token, real in zip(*row) if real] for row in zip(found["input_ids"], found["attention_mask"])]


def table_gradients(tables, sources, decoder_input_ids, by_logits):
    steps = {name: np.zeros_like(table) for name, table in tables.items()}
    np.add.at(steps["words"], decoder_input_ids, by_logits)
    for source, gradient in zip(sources, by_logits.sum(axis=1)):
        for token in source:
            steps["sources"][token] += gradient
    return steps


def greedy(tables, sources, new_tokens):
    """The likeliest token again and again behind the start token, EOS once, then pad."""
    said = []
    for source in sources:
        tokens = [PAD]
        while len(tokens) < new_tokens + 1:
            logits = tables["words"][tokens[-1]] + tables["sources"][source].sum(axis=0)
            tokens.append(PAD if EOS in tokens[1:] else int(np.argmax(logits)))
        said.append(tokens)
    return np.array(said)


def gradient_norm(tables, found, by):
    """(summed loss / by, length of its gradient by both tables) of a batch under the tables."""
    sources, read = sources_of(found), found["decoder_input_ids"]
    value, by_logits = loss(table_logits(tables, sources, read), found["labels"], by)
    steps = table_gradients(tables, sources, read, by_logits)
    return value, float(np.sqrt(sum((step**2).sum() for step in steps.values())))


def train(tables, batches, learning_rate):
    """Plain gradient descent on the tables, one step a batch of (source, answer): the tables at the end, figures of each step."""
    tables, told = {name: table.copy() for name, table in tables.items()}, {"loss": [], "accuracy": []}
    for rows in batches:
        time = max(len(answer) for _, answer in rows)
        labels = np.array([[*answer, *[IGNORED] * (time - len(answer))] for _, answer in rows])
        sources = [list(source) for source, _ in rows]
        read, real = shifted(labels, PAD, PAD), labels != IGNORED
        logits = table_logits(tables, sources, read)
        value, by_logits = loss(logits, labels)
        told["loss"].append(value)
        told["accuracy"].append(np.mean((logits.argmax(axis=-1) == labels)[real]))
        steps = table_gradients(tables, sources, read, by_logits)
        tables = {name: table - learning_rate * steps[name] for name, table in tables.items()}
    return {**tables, **{name: np.array(values) for name, values in told.items()}}
