"""Outcome by outcome, token by token, in plain Python."""

import torch


def kl_divergence(p, q):
    require_same_shape(p=p, q=q)
    require_distribution("p", p)
    require_distribution("q", q)
    totals = []
    for own, other in zip(p.reshape(-1, p.shape[-1]), q.reshape(-1, p.shape[-1])):
        total = (own * 0).sum()
        for a, b in zip(own, other):
            if a > 0:
                total = total + a * torch.log(a / b)
        totals.append(total)
    return torch.stack(totals).reshape(p.shape[:-1])


def kl_even_odd(theta, alpha, beta):
    require_even_odd(theta, alpha, beta)
    total = 0 * theta.sum()
    for i in range(1, len(theta) + 1):
        weight = beta if i % 2 else alpha
        if weight:
            total = total + weight * torch.log(weight / theta[i - 1])
    return total


def token_kl(log_policy, log_ref, mask):
    require_rows(log_policy, log_ref, mask)
    found = []
    for i in range(mask.shape[0]):
        for t in range(mask.shape[1]):
            total = torch.zeros((), dtype=log_policy.dtype)
            for a, b in zip(log_policy[i, t], log_ref[i, t]):
                if mask[i, t] and a > -torch.inf:
                    total = total + torch.exp(a) * (a - b)
            found.append(total)
    return torch.stack(found).reshape(mask.shape)


def sequence_kl_exact(log_policy, log_ref, tokens, mask):
    require_rows(log_policy, log_ref, mask)
    require_shape("tokens", tokens, mask.shape)
    total = torch.zeros((), dtype=log_policy.dtype)
    for rows, ref_rows, row, here in zip(log_policy, log_ref, tokens.tolist(), mask):
        weight = torch.ones((), dtype=log_policy.dtype)
        for t, token in enumerate(row):
            if here[t]:
                weight = weight * rows[t, token].exp()
        total = total + weight * token_kl(rows[None], ref_rows[None], here[None]).sum()
    return total


def sequence_kl_sampled(log_probs, ref_log_probs, mask):
    require_log_probs(log_probs, ref_log_probs, mask)
    totals = []
    for i in range(len(mask)):
        total = torch.zeros((), dtype=log_probs.dtype)
        for t in range(mask.shape[1]):
            if mask[i, t]:
                total = total + log_probs[i, t] - ref_log_probs[i, t]
        totals.append(total)
    return torch.stack(totals)


def expected_gradient(losses, log_probs, parameter):
    require_same_shape(losses=losses, log_probs=log_probs)
    require_distribution("log_probs", log_probs.exp())
    total = torch.zeros_like(parameter)
    for loss, log_prob in zip(losses, log_probs):
        (found,) = torch.autograd.grad(loss, parameter, retain_graph=True, allow_unused=True)
        if found is not None:
            total += log_prob.exp().item() * found
    return total


def kl_reward(scores, log_probs, ref_log_probs, mask, beta):
    require_log_probs(log_probs, ref_log_probs, mask)
    require_shape("scores", scores, mask.shape[:1])
    require_coefficient("beta", beta)
    rewards = []
    for i, score in enumerate(scores.tolist()):
        prices = [beta * (log_probs[i, t] - ref_log_probs[i, t]).item() for t in range(mask.shape[1]) if mask[i, t]]
        rewards.append(score - sum(prices))
    return torch.tensor(rewards, dtype=scores.dtype)


def kl_loss(log_probs, ref_log_probs, mask):
    require_log_probs(log_probs, ref_log_probs, mask)
    losses = []
    for own, other, here in zip(log_probs, ref_log_probs.detach(), mask):
        distance = (own[here] - other[here]).sum()
        losses.append(0.5 * distance * distance)
    return torch.stack(losses)
