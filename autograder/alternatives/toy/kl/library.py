"""What torch has: torch.distributions, F.kl_div, boolean indexing, a table that is differentiated with backward()."""

import torch
import torch.nn.functional as F


def kl_divergence(p, q):
    require_same_shape(p=p, q=q)
    require_distribution("p", p)
    require_distribution("q", q)
    log_p = torch.where(p > 0, p, torch.ones_like(p)).log()
    log_q = torch.where(p > 0, q, torch.ones_like(q)).log()
    if bool((p > 0).all()):
        return F.kl_div(log_q, p, reduction="none").sum(-1)
    return torch.einsum("...i,...i->...", p, log_p - log_q)


def kl_even_odd(theta, alpha, beta):
    require_even_odd(theta, alpha, beta)
    q = torch.tensor([beta, alpha], dtype=theta.dtype).repeat(len(theta) // 2)
    return kl_divergence(q, theta)


def k1(log_probs, ref_log_probs):
    require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)
    return torch.sub(log_probs, ref_log_probs)


def k2(log_probs, ref_log_probs):
    require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)
    return 0.5 * torch.square(ref_log_probs - log_probs)


def k3(log_probs, ref_log_probs):
    require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)
    return (ref_log_probs - log_probs).exp() - 1 + (log_probs - ref_log_probs)


def token_kl(log_policy, log_ref, mask):
    require_rows(log_policy, log_ref, mask)
    own, others = log_policy[mask], log_ref[mask]  # (tokens, V): the masked positions are not there at all
    own, others = (rows.masked_fill(own == -torch.inf, 0.0) for rows in (own, others))
    told = torch.where(log_policy[mask] == -torch.inf, 0.0, own.exp() * (own - others)).sum(-1)
    return torch.zeros(mask.shape, dtype=log_policy.dtype).masked_scatter(mask, told)


def sequence_kl_exact(log_policy, log_ref, tokens, mask):
    require_rows(log_policy, log_ref, mask)
    require_shape("tokens", tokens, mask.shape)
    rows = log_policy.masked_fill(~mask.unsqueeze(-1), 0.0)
    chosen = torch.take_along_dim(rows, tokens.unsqueeze(-1), dim=-1).squeeze(-1)
    return torch.dot(chosen.sum(dim=1).exp(), token_kl(log_policy, log_ref, mask).sum(dim=1))


def sequence_kl_sampled(log_probs, ref_log_probs, mask):
    require_log_probs(log_probs, ref_log_probs, mask)
    ours, theirs = (values.masked_fill(~mask, 0.0) for values in (log_probs, ref_log_probs))
    return ours.sum(dim=1) - theirs.sum(dim=1)


def expected_gradient(losses, log_probs, parameter):
    require_same_shape(losses=losses, log_probs=log_probs)
    require_distribution("log_probs", log_probs.exp())
    with torch.no_grad():
        weights = torch.exp(log_probs)
    (found,) = torch.autograd.grad(losses, parameter, grad_outputs=weights, retain_graph=True, allow_unused=True)
    return torch.zeros_like(parameter) if found is None else found


def kl_reward(scores, log_probs, ref_log_probs, mask, beta):
    require_shape("scores", scores, mask.shape[:1])
    require_coefficient("beta", beta)
    with torch.no_grad():
        return scores - beta * sequence_kl_sampled(log_probs, ref_log_probs, mask)


def kl_loss(log_probs, ref_log_probs, mask):
    with torch.no_grad():
        require_log_probs(log_probs, ref_log_probs, mask)
        reference = ref_log_probs.masked_fill(~mask, 0.0).sum(-1)
    own = log_probs.masked_fill(~mask, 0.0).sum(-1)
    return F.mse_loss(own, reference, reduction="none") / 2
