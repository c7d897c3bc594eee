"""The silent bug of lesson 11: training of a table on judged answers that are handed to it."""

import torch

from .dpo import language_model

FIGURES = ("loss", "accuracy", "chosen", "rejected")


def training(module, policy, reference, prompt, pairs, beta, updates, learning_rate):
    """The tables that `train_dpo` ends with, and the figures it tells of each update."""
    model, anchor, told = language_model(policy), language_model(reference), []
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    answers = [(list(chosen), list(rejected)) for chosen, rejected in pairs]
    module.train_dpo(model, anchor, optimizer, list(prompt), answers, beta=beta, updates=updates, after_update=told.append)
    told = {name: torch.tensor([float(line[name]) for line in told], dtype=torch.float64) for name in FIGURES}
    return {"words": model.words, "places": model.places, **told}
