"""The silent bug of lesson 12: training of a table on choices that are handed to it."""

import torch

from .reward_model import BagOfWords


def fitting(module, words, training, validation, updates, look_every, learning_rate):
    """The table that `fit` ends with, what it returned, and what it told of each look."""
    model, told = BagOfWords(words).eval(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)

    def look(update, training_loss, validation_loss):
        told.append((int(update), float(training_loss), float(validation_loss)))

    best = module.fit(
        model, optimizer, training, validation, updates=updates, look_every=look_every, after_look=look
    )
    columns = [torch.tensor(column, dtype=torch.float64) for column in zip(*told)] or [torch.zeros(0)] * 3
    return {"words": model.words, "best": float(best), **dict(zip(("updates", "training losses", "validation losses"), columns))}
