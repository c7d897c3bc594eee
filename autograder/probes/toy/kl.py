"""Lesson 4: what is asked of the divergences, their estimators and the two places in which they train."""

import torch

from autograder.probes import refusal
from toy.given.enumerable import EnumerableLM


def divergence(module, p, q, direction, differentiate):
    """KL(p||q) of rows, and the gradients by the logits that the rows are softmaxes of."""
    p, q = (rows.log().requires_grad_(True) for rows in (p, q))
    told = _ask(module.kl_divergence, p=p.softmax(-1), q=q.softmax(-1))
    return _with_gradients(told, direction, differentiate, {"the logits of p": p, "the logits of q": q})


def even_odd(module, theta, alpha, beta, differentiate):
    logits = theta.log().requires_grad_(True)
    told = _ask(module.kl_even_odd, theta=logits.softmax(-1), alpha=alpha, beta=beta)
    return _with_gradients(told, 1.0, differentiate, {"the logits of theta": logits})


def estimator(module, name, log_probs, ref_log_probs, direction, differentiate):
    """k1, k2 or k3, by its name, and the gradients by both arguments."""
    given, leaves = _given(None, 0.0, log_probs=log_probs, ref_log_probs=ref_log_probs)
    return _with_gradients(_ask(getattr(module, name), **given), direction, differentiate, leaves)


def rows_kl(module, policy_logits, ref_logits, mask, junk, direction, differentiate):
    """`token_kl` of log-softmaxes of logits. `junk` is added where the mask is False."""
    leaves = {"policy_logits": policy_logits.requires_grad_(True), "ref_logits": ref_logits.requires_grad_(True)}
    log_policy, log_ref = (logits.log_softmax(-1) + _outside(mask, junk).unsqueeze(-1) for logits in leaves.values())
    told = _ask(module.token_kl, log_policy=log_policy, log_ref=log_ref, mask=mask)
    return _with_gradients(told, direction, differentiate, leaves)


def sequence_kl(module, vocabulary, length, eos, policy_logits, ref_logits, prompt, junk, differentiate):
    """`sequence_kl_exact` over all sequences of two tables of logits, a row a prefix, after `prompt` tokens that do not count."""
    policy, reference = (_model(vocabulary, length, eos, logits) for logits in (policy_logits, ref_logits))
    mask = torch.nn.functional.pad(policy.mask, (prompt, 0))
    tokens = torch.nn.functional.pad(policy.sequences, (prompt, 0))
    log_policy, log_ref = (
        torch.nn.functional.pad(lm.next_token_log_probs(), (0, 0, prompt, 0)) + _outside(mask, junk).unsqueeze(-1)
        for lm in (policy, reference)
    )
    told = _ask(module.sequence_kl_exact, log_policy=log_policy, log_ref=log_ref, tokens=tokens, mask=mask)
    leaves = {"policy_logits": policy.model.logits, "ref_logits": reference.model.logits}
    return _with_gradients(told, 1.0, differentiate, leaves)


def sampled_kl(module, log_probs, ref_log_probs, mask, junk, direction):
    given, leaves = _given(mask, junk, log_probs=log_probs, ref_log_probs=ref_log_probs)
    return _with_gradients(_ask(module.sequence_kl_sampled, **given, mask=mask), direction, True, leaves)


def mean_of_sampled_kl(module, vocabulary, length, eos, policy_logits, ref_logits):
    """E[`sequence_kl_sampled`] under the policy, by listing all sequences."""
    policy, reference = (_model(vocabulary, length, eos, logits) for logits in (policy_logits, ref_logits))
    value = module.sequence_kl_sampled(policy.token_log_probs().detach(), reference.token_log_probs().detach(), policy.mask)
    return {"mean": (policy.probs().detach() * value).sum()}


def expected_update(module, logits, linear, quadratic):
    """`expected_gradient` of losses linear * log p + quadratic * (log p)^2, twice, and by a parameter they do not depend on."""
    parameter, other = logits.requires_grad_(True), torch.ones(2, dtype=torch.float64, requires_grad=True)
    log_probs = parameter.flatten().log_softmax(0)
    losses = linear * log_probs + quadratic * log_probs**2
    first, again = (module.expected_gradient(losses, log_probs, parameter).clone() for _ in range(2))
    elsewhere = module.expected_gradient(losses, log_probs, other)
    touched = parameter.grad is not None or other.grad is not None
    return {"gradient": first, "again": again, "by another parameter": elsewhere, "a .grad was filled": touched}


def reward(module, scores, log_probs, ref_log_probs, mask, junk, beta):
    """The rewards, and whether they carry a gradient though the scores and log-probabilities do."""
    given, _ = _given(mask, junk, log_probs=log_probs, ref_log_probs=ref_log_probs)
    told = _ask(module.kl_reward, scores=scores.requires_grad_(True), **given, mask=mask, beta=beta)
    return {**told, "carries a gradient": told["value"].requires_grad}


def loss(module, log_probs, ref_log_probs, mask, junk, direction):
    given, leaves = _given(mask, junk, log_probs=log_probs, ref_log_probs=ref_log_probs)
    return _with_gradients(_ask(module.kl_loss, **given, mask=mask), direction, True, leaves)


def update_of_the_reward(module, vocabulary, length, eos, policy_logits, ref_logits, scores, beta):
    """The expected REINFORCE gradient with `kl_reward`, uphill, by listing all sequences: of the shape of the table."""
    policy, reference = (_model(vocabulary, length, eos, logits) for logits in (policy_logits, ref_logits))
    rewards = module.kl_reward(scores, policy.token_log_probs(), reference.token_log_probs().detach(), policy.mask, beta)
    return {"expected gradient": _listed(policy, rewards.detach() * policy.log_probs())}


def update_of_the_loss(module, vocabulary, length, eos, policy_logits, ref_logits):
    """The expected gradient of `kl_loss` by listing all sequences: of the shape of the table."""
    policy, reference = (_model(vocabulary, length, eos, logits) for logits in (policy_logits, ref_logits))
    losses = module.kl_loss(policy.token_log_probs(), reference.token_log_probs().detach(), policy.mask)
    return {"expected gradient": _listed(policy, losses)}


def refuses(module, function, good, argument, bad):
    """How `function` takes sound input with one `argument` spoilt. The sound call comes first: unwritten code refuses nothing."""
    call = getattr(module, function)
    if function == "expected_gradient":
        parameter = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        good = {**good, "losses": good["losses"] + parameter.sum(), "parameter": parameter}
    call(**good)
    return refusal(lambda: call(**{**good, argument: bad}))


def _given(mask, junk, **leaves):
    """(what the function gets, the leaves): `junk` is added outside the mask, and NaN in a gradient there shows in the leaf's."""
    added = 0.0 if mask is None else _outside(mask, junk)
    return {name: leaf.requires_grad_(True) + added for name, leaf in leaves.items()}, leaves


def _ask(function, **arguments):
    """What the function returns, of which dtype, and which of its arguments look different afterwards."""
    before = {name: value.detach().clone() for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    value = torch.as_tensor(function(**arguments))
    changed = [name for name, old in before.items() if not torch.equal(arguments[name].nan_to_num(), old.nan_to_num())]
    return {"value": value, "dtype": str(value.dtype), "arguments changed": ", ".join(changed) or "none"}


def _with_gradients(told, direction, differentiate, leaves):
    """With the gradients of sum(value * direction) by the leaves: zeros where none arrives."""
    value = told["value"]
    if differentiate and value.requires_grad and value.shape == torch.as_tensor(direction).shape:
        (value * direction).sum().backward()
    shown = leaves if differentiate else {}
    return told | {f"gradient of {n}": torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for n, leaf in shown.items()}


def _listed(policy, losses):
    """sum_y pi(y) grad loss(y), the probabilities held constant; zeros where nothing has a gradient."""
    table = policy.model.logits
    total = (policy.probs().detach() * losses).sum()
    return torch.autograd.grad(total, table)[0][0] if total.requires_grad else torch.zeros_like(table)[0]


def _model(vocabulary, length, eos, logits):
    model = EnumerableLM.tabular(vocabulary, length, eos=eos)
    with torch.no_grad():
        model.model.logits.copy_(logits.unsqueeze(0))
    return model


def _outside(mask, junk):
    return torch.where(mask, 0.0, torch.tensor(junk, dtype=torch.float64))
