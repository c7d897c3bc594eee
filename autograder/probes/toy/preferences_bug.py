"""Lesson 5, the silent bug: what is asked of the training run."""

import torch

from toy.given.enumerable import EnumerableLM


def training(module, vocabulary, length, logits, reward, beta):
    """The probability of every answer under the trained policy, by the ruler, and the first and last points of the curves."""
    reference = EnumerableLM.tabular(vocabulary, length, eos=0)
    with torch.no_grad():
        reference.model.logits.copy_(logits)
    reference = reference.frozen()
    run = module.train_dpo(reference, reward, beta)
    curves = {name: float(getattr(run, name)[-1]) for name in ("loss", "accuracy", "reward", "kl")}
    return {
        "policy": run.policy.probs(),
        "loss before the first update": float(run.loss[0]),
        **{f"{name} at the end": value for name, value in curves.items()},
        "reference changed": not torch.equal(reference.model.logits, logits),
    }
