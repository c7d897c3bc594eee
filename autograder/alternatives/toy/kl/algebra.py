"""Other formulas: terms that are never negative, cross-entropy less entropy, log-ratios of whole sequences, einsum."""

import torch


def kl_divergence(p, q):
    """The terms p ln(p/q) - p + q of eq. 4.4, each of which is at least 0; where p = 0 the term is q."""
    require_same_shape(p=p, q=q)
    require_distribution("p", p)
    require_distribution("q", q)
    here = p > 0
    a, b = p.masked_fill(~here, 1.0), q.masked_fill(~here, 1.0)
    return torch.where(here, a * (a.log() - b.log()) - a + b, q).sum(-1)


def kl_even_odd(theta, alpha, beta):
    require_even_odd(theta, alpha, beta)
    half = len(theta) // 2
    pairs = theta.reshape(half, 2)  # (odd, even) next to each other
    found = torch.zeros((), dtype=theta.dtype)
    if beta:
        found = found - beta * (pairs[:, 0] / beta).log().sum()
    if alpha:
        found = found - alpha * (pairs[:, 1] / alpha).log().sum()
    return found


def k2(log_probs, ref_log_probs):
    require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)
    return 0.5 * k1(ref_log_probs, log_probs).pow(2)


def k3(log_probs, ref_log_probs):
    require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)
    ratio = torch.exp(ref_log_probs - log_probs)
    return ratio - 1 + k1(log_probs, ref_log_probs)


def token_kl(log_policy, log_ref, mask):
    """Cross-entropy less entropy."""
    require_rows(log_policy, log_ref, mask)
    keep = mask[..., None].expand_as(log_policy) & torch.isfinite(log_policy)
    own, other = log_policy.masked_fill(~keep, 0.0), log_ref.masked_fill(~keep, 0.0)
    weights = own.exp() * keep
    return torch.einsum("btv,btv->bt", weights, own) - torch.where(keep, weights * other, 0.0).sum(-1)


def sequence_kl_exact(log_policy, log_ref, tokens, mask):
    """Without the chain rule: the sum over sequences of p ln(p/q), both from the tokens that came."""
    require_rows(log_policy, log_ref, mask)
    require_shape("tokens", tokens, mask.shape)
    picked = (rows.gather(-1, tokens[..., None])[..., 0] for rows in (log_policy, log_ref))
    log_p, log_q = (torch.where(mask, tokens_of, 0.0).sum(-1) for tokens_of in picked)
    there = log_p > -torch.inf
    return (log_p[there].exp() * (log_p[there] - log_q[there])).sum()


def sequence_kl_sampled(log_probs, ref_log_probs, mask):
    require_log_probs(log_probs, ref_log_probs, mask)
    lost = (~mask).nonzero(as_tuple=True)
    return (log_probs.index_put(lost, log_probs.new_zeros(())) - ref_log_probs.index_put(lost, log_probs.new_zeros(()))).sum(1)


def expected_gradient(losses, log_probs, parameter):
    require_same_shape(losses=losses, log_probs=log_probs)
    require_distribution("log_probs", log_probs.exp())
    mean = torch.softmax(log_probs.detach(), dim=0) @ losses
    found = torch.autograd.grad([mean], [parameter], retain_graph=True, allow_unused=True)[0]
    return found if found is not None else parameter.detach() * 0


def kl_reward(scores, log_probs, ref_log_probs, mask, beta):
    require_shape("scores", scores, mask.shape[:1])
    require_coefficient("beta", beta)
    require_log_probs(log_probs, ref_log_probs, mask)
    penalty = torch.where(mask, beta * (ref_log_probs - log_probs), 0.0).sum(-1)
    return scores.detach() + penalty.detach()


def kl_loss(log_probs, ref_log_probs, mask):
    """The square of the sum as the sum over pairs of tokens."""
    require_log_probs(log_probs, ref_log_probs, mask)
    x = torch.where(mask, log_probs, 0.0) - torch.where(mask, ref_log_probs, 0.0).detach()
    return torch.einsum("bs,bt->b", x, x) / 2
