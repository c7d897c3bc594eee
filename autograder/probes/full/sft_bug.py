"""The silent bug of lesson 13: training of two tables, called as T5 is, on rows that are handed to it."""

import torch

from .sft import Table

FIGURES = ("loss", "accuracy")


def training(module, tables, batches, learning_rate):
    """The tables that `train_sft` ends with, and the figures it tells of each update."""
    model, told = Table(tables, []), []
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    rows = [[(list(source), list(answer)) for source, answer in batch] for batch in batches]
    module.train_sft(model, optimizer, rows, after_update=told.append)
    told = {name: torch.tensor([float(line[name]) for line in told], dtype=torch.float64) for name in FIGURES}
    return {"words": model.words, "sources": model.sources, **told}
