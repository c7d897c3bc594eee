"""The silent bug of lesson 6: training on tables, with sentences and scores that are handed to it."""

import torch

from .ppo import ScriptedSentences, table_models


def training(module, policy, value, reference, tokens, mask, scores, settings):
    """The tables that `train_writer` ends with, and the mean scores and ratios it reports."""
    models = table_models(policy, value, reference)
    sentences, told = ScriptedSentences(models[0], tokens, mask, scores), []
    updates, count = tokens.shape[:2]
    more = {"updates": updates, "count": count, "after_update": told.append}
    module.train_writer(*models, sentences.sample, sentences.score, **settings, **more)
    names = ("reward", "least", "largest")
    reported = {name: torch.tensor([float(line[name]) for line in told], dtype=torch.float64) for name in names}
    return {"policy": models[0].logits[0], "value": models[1].table, **reported}
