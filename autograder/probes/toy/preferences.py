"""Lesson 5: what is asked of preferences, rewards and the losses made of them."""

import torch

from autograder.probes import refusal

REFERENCE = ("ref_log_probs", "ref_chosen", "ref_rejected")  # handed over asking for a gradient that is not to come


def probability(module, first, second):
    return with_gradients(module.preference_probability, {"first": first, "second": second}, {})


def reward(module, log_probs, ref_log_probs, beta):
    return with_gradients(module.implicit_reward, {"log_probs": log_probs, "ref_log_probs": ref_log_probs}, {"beta": beta})


def policy(module, ref, reward, beta, direction):
    return with_gradients(module.optimal_policy, {"reward": reward}, {"ref": ref, "beta": beta}, direction)


def loss(module, function, weights=None, **case):
    """A loss, and its gradients by the log-probabilities or rewards of both answers."""
    leaves = {name: value for name, value in case.items() if isinstance(value, torch.Tensor)}
    others = {name: value for name, value in case.items() if name not in leaves}
    if weights is not None:
        others["weights"] = weights
    return with_gradients(getattr(module, function), leaves, others)


def accuracy(module, **case):
    answer = plain("accuracy", module.implicit_accuracy, case)
    return {key: answer[key] for key in ("accuracy", "arguments changed")}  # a float will do as well


def pairs(module, **case):
    return plain("pairs", module.pairs_from_preferences, case)


def rewards(module, **case):
    return plain("rewards", module.fit_rewards, case)


def refuses(module, function, good, argument, bad):
    """How `function` takes sound input with the arguments in `bad` spoilt. The sound call comes first: unwritten code refuses nothing."""
    call = getattr(module, function)
    call(**good)
    return refusal(lambda: call(**{**good, **bad}))


def with_gradients(function, leaves, others, direction=None):
    """What the function returns, its dtype, and the gradients of sum(value * direction) by each of `leaves` (zeros where none arrives).

    direction: the same shape as the value; None: ones. The reference's gradients are reported apart, as the largest of them.
    """
    asked = {name: tensor.clone().requires_grad_(True) for name, tensor in leaves.items()}
    before = {name: value.clone() for name, value in others.items() if isinstance(value, torch.Tensor)}
    value = function(**asked, **others)
    found = dict.fromkeys(asked)
    if isinstance(value, torch.Tensor) and value.requires_grad:
        total = value.sum() if direction is None else (value * direction).sum()
        grads = torch.autograd.grad(total, list(asked.values()), allow_unused=True)
        found = dict(zip(asked, grads))
    gradients = {name: torch.zeros_like(asked[name]) if grad is None else grad for name, grad in found.items()}
    fixed = [gradients.pop(name).abs().max() for name in REFERENCE if name in gradients]
    answer = {"value": value, "dtype": str(getattr(value, "dtype", type(value).__name__)), "gradients": gradients}
    if fixed:
        answer["gradient into the reference"] = max(map(float, fixed))
    changed = [name for name in before if not torch.equal(before[name], others[name])]
    return {**answer, "arguments changed": ", ".join(changed) or "none"}


def plain(name, function, case):
    """What the function returns, its dtype, and which of its arguments look different afterwards."""
    before = {key: value.clone() for key, value in case.items() if isinstance(value, torch.Tensor)}
    value = function(**case)
    changed = [key for key in before if not torch.equal(before[key], case[key])]
    if isinstance(value, torch.Tensor):
        value = value.detach()
    dtype = str(getattr(value, "dtype", type(value).__name__))
    return {name: value, "dtype": dtype, "arguments changed": ", ".join(changed) or "none"}
