"""Lesson 17: what is asked of best-of-n, frontiers, fits, peaks and remedies."""

import torch

from autograder.probes import refusal
from autograder.probes import refuses as refuses_call


def chosen(module, proxy, n):
    """Which sample of every prompt is kept."""
    kept, changed = watched(module.best_of_n, proxy=proxy, n=n)
    return {"kept": kept, "dtype": str(kept.dtype), "arguments changed": changed}


def means(module, proxy, gold, n):
    """Both rewards of best-of-n, over all choices."""
    value, changed = watched(module.best_of_n_mean, proxy=proxy, gold=gold, n=n)
    mean_proxy, mean_gold = value
    return {"proxy": mean_proxy, "gold": mean_gold, "dtype": str(mean_gold.dtype), "arguments changed": changed}


def kl(module, n):
    return {"kl": float(module.best_of_n_kl(n))}


def distribution(module, reference, reward, n):
    """What the best of n is, answer by answer."""
    probs, changed = watched(module.best_of_n_distribution, reference=reference, reward=reward, n=n)
    return {"probabilities": probs, "dtype": str(probs.dtype), "arguments changed": changed}


def frontier(module, reference, proxy, gold, betas):
    found, changed = watched(module.tilted_frontier, reference=reference, proxy=proxy, gold=gold, betas=betas.tolist())
    told = {str(name): torch.as_tensor(values) for name, values in found.items()}
    return {**told, "arguments changed": changed}


def linear(module, columns, values):
    value, changed = watched(module.linear_fit, columns=columns, values=values)
    coefficients, intervals = value
    return {"coefficients": coefficients, "intervals": intervals, "arguments changed": changed}


def fit(module, function, kl, gain):
    """A fitted curve, and what it says of some distances."""
    found, changed = watched(getattr(module, function), kl=kl, gain=gain)
    intervals = torch.tensor([[float(x) for x in found.a_interval], [float(x) for x in found.b_interval]], dtype=torch.float64)
    told = {"form": str(found.form), "a": float(found.a), "b": float(found.b)}
    return {**told, "intervals": intervals, "arguments changed": changed}


def peak(module, form, a, b):
    """Where a curve is highest, and how high it is there."""
    distance, gain = module.peak(module.Fit(form, a, b, (a, a), (b, b)))
    return {"distance": float(distance), "gain": float(gain)}


def ensemble(module, scores, how, k):
    reward, changed = watched(module.ensemble_reward, scores=scores, how=how, k=k)
    return {"reward": reward, "dtype": str(reward.dtype), "arguments changed": changed}


def checkpoint(module, function, **arguments):
    """Which checkpoint a rule of stopping keeps."""
    kept, changed = watched(getattr(module, function), **arguments)
    return {"checkpoint": int(kept), "arguments changed": changed}


def refuses(module, function, good, argument, bad):
    """How `function` takes sound input with one `argument` spoilt. The sound call comes first: unwritten code refuses nothing."""
    if function == "tilted_frontier":
        good, bad = ({**good, "betas": good["betas"].tolist()}, bad.tolist() if argument == "betas" else bad)
        module.tilted_frontier(**good)
        return refusal(lambda: module.tilted_frontier(**{**good, argument: bad}))
    return refuses_call(module, function, good, argument, bad)


def watched(call, **arguments):
    """What `call` returns, and which of its tensors it changed in place."""
    before = {name: value.clone() for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    value = call(**arguments)
    changed = [name for name, old in before.items() if not torch.equal(old, arguments[name])]
    return value, ", ".join(changed) or "none"
