"""The silent bug of lesson 4: the training loop on sentences that are handed to it."""

import torch


def training(module, start, reference, sentences, target, beta, steps, learning_rate, measured):
    """What `train_near_reference` measures (if asked) and ends with when each step is given the same sentences."""
    batch, length = sentences.shape
    table, history = module.train_near_reference(
        start, reference, target=target, beta=beta, steps=steps, batch=batch, length=length,
        learning_rate=learning_rate, seed=0, draw=lambda *_, **__: sentences.clone(),
    )  # fmt: skip
    told = {name: torch.tensor([float(value) for value in history[name]], dtype=torch.float64) for name in history}
    return {**(told if measured else {}), "table": table.detach()}
