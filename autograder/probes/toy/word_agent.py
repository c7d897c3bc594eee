"""Lesson 3: what is asked of the word agent."""

import torch


def baseline_trace(module, scores):
    """What `get` says before each of `scores` arrives, and at the end: (len(scores) + 1,)."""
    baseline, seen = module.Baseline(), []
    for score in scores.tolist():
        seen.append(baseline.get())
        baseline.update(score)
    return {"means": torch.tensor([*seen, baseline.get()], dtype=torch.float64)}
