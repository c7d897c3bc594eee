"""The silent bug of lesson 9: training a tiny GPT-2 on rows and rewards that are handed to it."""

import torch

from full.given.text import Rollout

from .reinforce import flat, language_model


def training(module, sizes, weights, batches, rate):
    """The weights after every update of `train_phrases`, and the mean rewards and lengths it reports."""
    policy, turns, told, path = language_model(sizes, weights), iter(batches), [], []

    def sample(policy):
        batch = next(turns)
        sample.rewards = batch["rewards"]
        return Rollout(batch["tokens"].clone(), batch["attention_mask"].clone(), batch["prompts"].shape[1])

    def after_update(line):
        told.append(line)
        path.append(flat(policy))

    module.train_phrases(
        policy, sample, lambda written: sample.rewards.clone(), updates=len(batches), rate=rate, after_update=after_update
    )
    reported = {name: torch.tensor([float(line[name]) for line in told], dtype=torch.float64) for name in ("reward", "length")}
    return {"weights after each update": torch.stack(path) if path else None, **reported}
