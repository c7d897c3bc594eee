"""Lesson 2: what is asked of the two objectives. Cases come as tensors; the learner's functions get NumPy arrays."""

import numpy as np
import torch

from autograder.probes import refusal


def softmax_policy(module, **case):
    return _answer("policy", module.softmax_policy, case)


def score(module, **case):
    return _answer("score", module.score, case)


def mle_objective(module, **case):
    return _answer("objective", module.mle_objective, case)


def mle_gradient(module, **case):
    return _answer("gradient", module.mle_gradient, case)


def sgd_step(module, **case):
    return _answer("theta", module.sgd_step, case)


def exact_objective(module, **case):
    return _answer("objective", module.exact_objective, case)


def exact_gradient(module, **case):
    return _answer("gradient", module.exact_gradient, case)


def reinforce_gradient(module, **case):
    return _answer("gradient", module.reinforce_gradient, case)


def gradient_variance(module, **case):
    return _answer("variance", module.gradient_variance, case)


def optimal_baseline(module, **case):
    return _answer("baseline", module.optimal_baseline, case)


def refuses(module, function, good, argument, bad):
    """How `function` takes sound input with one `argument` spoilt. The sound call comes first: unwritten code refuses nothing."""
    call, arguments = getattr(module, function), _arrays(good)
    call(**arguments)
    return refusal(lambda: call(**{**arguments, **_arrays({argument: bad})}))


def _answer(name, function, case):
    """What the function returns, of which dtype, and which of its arguments look different afterwards."""
    arguments, before = _arrays(case), _arrays(case)
    value = function(**arguments)
    changed = [key for key in before if not np.array_equal(arguments[key], before[key])]
    return {name: value, "dtype": str(np.asarray(value).dtype), "arguments changed": ", ".join(changed) or "none"}


def _arrays(case):
    return {key: value.numpy().copy() if isinstance(value, torch.Tensor) else value for key, value in case.items()}
