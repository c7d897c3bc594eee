"""Token by token and row by row, as one would write it from the equations."""

from __future__ import annotations


def sampled_log_probs(logits, tokens, temperature, support=None):
    require_scoring(logits, tokens, temperature, support)
    found = []
    for b in range(len(tokens)):
        ids = torch.arange(logits.shape[1]) if support is None else support[b][support[b] >= 0]
        row = torch.log_softmax(logits[b, ids] / temperature, dim=0)
        found.append(row[(ids == tokens[b]).nonzero()[0, 0]])
    return torch.stack(found)


def score(policy, value, rollout, temperature, support=None):
    hidden, mask = policy.hidden(rollout), rollout.mask
    log_probs = torch.zeros(mask.shape, dtype=hidden.dtype)
    for b, t in mask.nonzero().tolist():
        logits = policy.logits(hidden[b, t].unsqueeze(0))
        kept = None if support is None else support[b, t].unsqueeze(0)
        place = torch.zeros_like(log_probs)
        place[b, t] = 1.0
        log_probs = log_probs + place * sampled_log_probs(logits, rollout.completion[b, t].unsqueeze(0), temperature, kept)
    if value is None:
        return log_probs, None
    if value.trunk is policy:
        return log_probs, torch.stack([value.of(row) for row in hidden])
    return log_probs, value.of(value.trunk.hidden(rollout))


def spread(values, ends, mask):
    require_spans(values, ends, mask)
    rewards = torch.zeros(mask.shape, dtype=torch.float64)
    for b, entry in enumerate(values):
        count = int(mask[b].sum())
        if count == 0:
            continue
        if not isinstance(entry, Real):
            for end, number in entry:
                before = int((ends[b, :count] < end).sum())
                rewards[b, min(before, count - 1)] += number
        else:
            rewards[b, count - 1] += entry
    return rewards


def has_ended(completion, mask, eos_token_id):
    given.require_same_shape(completion=completion, mask=mask)
    rows = [eos_token_id is None or eos_token_id in row[real].tolist() for row, real in zip(completion, mask)]
    return torch.tensor(rows)


def kl_penalise_reward(rewards, log_probs, ref_log_probs, mask, ended, kl_coef, eos_penalty):
    given.require_same_shape(rewards=rewards, log_probs=log_probs, ref_log_probs=ref_log_probs, mask=mask)
    given.require_mask(mask)
    given.require_per_row("ended", ended, mask)
    given.require_not_negative("kl_coef", kl_coef)
    given.require_not_negative("eos_penalty", eos_penalty)
    paid = torch.zeros(mask.shape, dtype=rewards.dtype)
    for b in range(len(mask)):
        count = int(mask[b].sum())
        for t in range(count):
            paid[b, t] = rewards[b, t].item() - kl_coef * (log_probs[b, t].item() - ref_log_probs[b, t].item())
        if count and not ended[b]:
            paid[b, count - 1] -= eos_penalty
    return paid


def compute_advantages(rewards, values, mask, cut, gamma, lam):
    require_values(values, mask)
    given.require_same_shape(rewards=rewards, mask=mask)
    given.require_mask(mask)
    given.require_per_row("cut", cut, mask)
    given.require_fraction("gamma", gamma)
    given.require_fraction("lam", lam)
    advantages, returns = torch.zeros(mask.shape, dtype=values.dtype), torch.zeros(mask.shape, dtype=values.dtype)
    with torch.no_grad():
        for b in range(len(mask)):
            count, later = int(mask[b].sum()), 0.0
            for t in reversed(range(count)):
                after = values[b, t + 1] if t + 1 < count or cut[b] else 0.0
                later = rewards[b, t] + gamma * after - values[b, t] + gamma * lam * later
                advantages[b, t] = later
                returns[b, t] = later + values[b, t]
    return advantages, returns


def value_loss(values, old_values, returns, mask, clip):
    require_values(values, mask)
    given.require_positive("clip", clip)
    old, wanted, errors = old_values.detach(), returns.detach(), []
    for b, t in mask.nonzero().tolist():
        near = torch.minimum(torch.maximum(values[b, t], old[b, t] - clip), old[b, t] + clip)
        errors.append(torch.maximum((values[b, t] - wanted[b, t]) ** 2, (near - wanted[b, t]) ** 2))
    return 0.5 * torch.stack(errors).mean()
