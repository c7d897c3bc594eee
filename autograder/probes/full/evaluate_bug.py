"""The silent bug of lesson 8: a model that leaves nothing to chance is measured, with prompts of several lengths in a batch."""

from full.given.text import Prompts  # noqa: F401  the full track's given code is loaded with the probes

from .evaluate import Asked, language_model


def measured(module, weights, heads, prompts, times, batch_size, new_tokens):
    """What `measure` returns, and how often the model was asked."""
    model = language_model(weights, heads)
    with Asked(model) as asked:
        found = module.measure(model, prompts, times=times, batch_size=batch_size, new_tokens=new_tokens)
    figures = {name: float(found[name]) for name in ("mean", "low", "high")}
    return {"completions": [[int(token) for token in row] for row in found["completions"]], **figures, "calls": len(asked.shapes)}
