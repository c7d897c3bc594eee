"""Other algebra for the same numbers: matrices for recursions, one-sided bounds for the clip, moments for deviations."""

import math


def masked_mean(values, mask):
    given.require_same_shape(values=values, mask=mask)
    given.require_mask(mask)
    weights = mask.to(values.dtype).flatten()
    return values.flatten() @ (weights / weights.sum())


def decay(length, rate, dtype):
    """Upper triangular: rate^(k - t) at [t, k]."""
    distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]
    return torch.where(distance >= 0, torch.tensor(float(rate), dtype=dtype) ** distance.clamp(min=0), 0.0)


def discounted_returns(rewards, mask, gamma):
    matrix = decay(rewards.shape[1], gamma, rewards.dtype)
    return torch.einsum("tk,bk->bt", matrix, rewards * mask) * mask


def kl_penalised_rewards(scores, log_probs, ref_log_probs, mask, kl_coef):
    given.require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs, mask=mask)
    given.require_mask(mask)
    given.require_padding_last(mask)
    given.require_per_row("scores", scores, mask)
    given.require_not_negative("kl_coef", kl_coef)
    following = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
    with torch.no_grad():
        penalty = kl_coef * log_probs - kl_coef * ref_log_probs
        return torch.where(mask, scores[:, None] * (mask & ~following) - penalty, torch.zeros_like(penalty))


def gae(rewards, values, mask, gamma, lam, bootstrap=None):
    """A_t as the lambda-return minus the value: the mixture of k-step returns, solved from the back."""
    given.require_same_shape(rewards=rewards, values=values, mask=mask)
    given.require_mask(mask)
    given.require_padding_last(mask)
    given.require_fraction("gamma", gamma)
    given.require_fraction("lam", lam)
    if bootstrap is not None:
        given.require_per_row("bootstrap", bootstrap, mask)
    with torch.no_grad():
        behind = torch.zeros(len(mask), dtype=values.dtype) if bootstrap is None else bootstrap
        target, following, columns = behind, behind, []
        for t in range(values.shape[1] - 1, -1, -1):
            mixed = rewards[:, t] + gamma * ((1 - lam) * following + lam * target)
            target = torch.where(mask[:, t], mixed, target)
            following = torch.where(mask[:, t], values[:, t], following)
            columns.insert(0, target)
        returns = torch.stack(columns, dim=1).masked_fill(~mask, 0.0)
        return returns - values.masked_fill(~mask, 0.0), returns


def explained_variance(values, returns, mask):
    if float(returns[mask].max() - returns[mask].min()) == 0:
        return 0.0
    mean = masked_mean(returns, mask)
    error = returns - values
    return 1 - masked_mean((error - masked_mean(error, mask)) ** 2, mask) / masked_mean((returns - mean) ** 2, mask)


def whiten(x, mask):
    given.require_same_shape(x=x, mask=mask)
    given.require_mask(mask)
    centred = x - x[mask].mean()
    deviation = math.sqrt((centred[mask] ** 2).mean())
    if deviation <= 1e-12 * float(x[mask].abs().max()):
        return x * 0
    return torch.where(mask, centred / deviation, torch.zeros_like(x))


def clipped_surrogate(log_probs, old_log_probs, advantages, mask, clip):
    """min(rho A, g(A)) with the bound g = (1 + clip) A for A >= 0 and (1 - clip) A below."""
    given.require_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, advantages=advantages, mask=mask)
    given.require_mask(mask)
    given.require_positive("clip", clip)
    advantages, old = advantages.data, old_log_probs.data
    bound = advantages + clip * advantages.abs()
    excess = torch.relu((log_probs - old).exp() * advantages - bound)
    return masked_mean(excess - (log_probs - old).exp() * advantages, mask)


def clipped_value_loss(values, old_values, returns, mask, clip):
    given.require_same_shape(values=values, old_values=old_values, returns=returns, mask=mask)
    given.require_mask(mask)
    given.require_positive("clip", clip)
    old, target = old_values.detach(), returns.detach()
    near = torch.min(torch.max(values, old - clip), old + clip)
    error = torch.where((values - target).abs() >= (near - target).abs(), values - target, near - target)
    return masked_mean(error.square(), mask) / 2


def approximate_kl(log_probs, old_log_probs, mask):
    log_ratio = (log_probs - old_log_probs)[mask]
    return log_ratio.expm1().mean() - log_ratio.mean()


def clip_fraction(log_probs, old_log_probs, mask, clip):
    ratio = torch.exp(log_probs - old_log_probs)
    outside = torch.logical_or(ratio > 1 + clip, ratio < 1 - clip)
    return float((outside & mask).sum() / mask.sum().double())


def mean_entropy(logits, mask):
    total = torch.logsumexp(logits, -1)
    expected = (torch.softmax(logits, -1) * logits).sum(-1)
    return masked_mean(total - expected, mask)
