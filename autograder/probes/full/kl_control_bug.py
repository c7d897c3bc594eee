"""The silent bug of lesson 10: the training loop on sentences that are handed to it."""

import torch


def training(module, start, reference, sentences, alpha, limit, steps, learning_rate, measured):
    """What `train_within_limit` measures (if asked) and ends with when each step is given the same sentences."""
    table, history = module.train_within_limit(
        start, reference, alpha=alpha, limit=limit, steps=steps, batch=len(sentences), learning_rate=learning_rate, seed=0,
        draw=lambda *_, **__: sentences.clone(),
    )  # fmt: skip
    told = {name: torch.tensor([float(value) for value in history[name]], dtype=torch.float64) for name in history}
    return {**(told if measured else {"steps measured": len(history["kl"])}), "table": table.detach()}
