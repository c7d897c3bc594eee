"""Lesson 16: what is asked of scores of forecasts."""

import torch

from autograder.probes import refusal as refusal_of


def score(module, function, probabilities, outcomes, **more):
    """The value of a score, or of every question's loss."""
    value, changed = called(module, function, probabilities, outcomes, **more)
    return {"value": value, "dtype": str(value.dtype), "arguments changed": changed}


def numbers(module, function, probabilities, outcomes, **more):
    """Plain numbers in a tuple."""
    value, changed = called(module, function, probabilities, outcomes, **more)
    return {"value": torch.tensor([float(number) for number in value], dtype=torch.float64), "arguments changed": changed}


def parts(module, function, probabilities, outcomes, **more):
    """A dictionary of tensors."""
    value, changed = called(module, function, probabilities, outcomes, **more)
    told = {str(name): torch.as_tensor(part).double() for name, part in value.items()}
    return {"parts": told, "arguments changed": changed}


def constants(module, outcomes):
    """What the two constant forecasters get from a score that no learner has seen, and what they were heard to say."""
    said = []

    def mean_distance(probabilities, results):
        said.append(torch.stack([probabilities.double(), results.double()]))
        return (probabilities.double() - results.double()).abs().mean()

    before = outcomes.clone()
    value = module.constant_forecasters(outcomes, mean_distance)
    found = {str(name): torch.as_tensor(score).double() for name, score in value.items()}
    return {"scores": found, "said": torch.stack(said), "arguments changed": "none" if torch.equal(before, outcomes) else "outcomes"}


def refuses(module, function, good, argument, bad):
    """How `function` takes sound input with one `argument` spoilt. The sound call comes first: unwritten code refuses nothing."""
    call = getattr(module, function)
    if function == "constant_forecasters":
        good = {**good, "score": lambda probabilities, outcomes: (probabilities - outcomes).abs().mean()}
    call(**good)
    return refusal_of(lambda: call(**{**good, argument: bad}))


def called(module, function, probabilities, outcomes, **more):
    before = probabilities.clone(), outcomes.clone()
    value = getattr(module, function)(probabilities, outcomes, **more)
    now = {"probabilities": probabilities, "outcomes": outcomes}
    changed = [name for (name, tensor), old in zip(now.items(), before) if not torch.equal(tensor, old)]
    return value, ", ".join(changed) or "none"
