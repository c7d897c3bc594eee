"""Token by token, in plain loops; the graph is built one scalar at a time."""


def real_places(mask):
    return [(b, t) for b in range(mask.shape[0]) for t in range(mask.shape[1]) if mask[b, t]]


def masked_mean(values, mask):
    given.require_same_shape(values=values, mask=mask)
    given.require_mask(mask)
    places = real_places(mask)
    total = 0.0
    for b, t in places:
        total = total + values[b, t]
    return total / len(places)


def discounted_returns(rewards, mask, gamma):
    returns = torch.zeros_like(rewards)
    for b, t in real_places(mask):
        for earlier in range(t + 1):
            returns[b, earlier] += gamma ** (t - earlier) * rewards[b, t]
    return returns


def kl_penalised_rewards(scores, log_probs, ref_log_probs, mask, kl_coef):
    given.require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs, mask=mask)
    given.require_mask(mask)
    given.require_padding_last(mask)
    given.require_per_row("scores", scores, mask)
    given.require_not_negative("kl_coef", kl_coef)
    rewards = torch.zeros_like(log_probs, requires_grad=False)
    for b, t in real_places(mask):
        rewards[b, t] = -kl_coef * (log_probs[b, t].item() - ref_log_probs[b, t].item())
        if t + 1 == mask.shape[1] or not mask[b, t + 1]:
            rewards[b, t] += scores[b].item()
    return rewards


def gae(rewards, values, mask, gamma, lam, bootstrap=None):
    given.require_same_shape(rewards=rewards, values=values, mask=mask)
    given.require_mask(mask)
    given.require_padding_last(mask)
    given.require_fraction("gamma", gamma)
    given.require_fraction("lam", lam)
    if bootstrap is not None:
        given.require_per_row("bootstrap", bootstrap, mask)
    advantages = torch.zeros(values.shape, dtype=values.dtype)
    for b, row in enumerate(mask.tolist()):
        behind = 0.0 if bootstrap is None else bootstrap[b].item()
        for t in range(sum(row)):
            discount = 1.0
            for k in range(t, sum(row)):
                after = values[b, k + 1].item() if k + 1 < sum(row) else behind
                advantages[b, t] += discount * (rewards[b, k].item() + gamma * after - values[b, k].item())
                discount *= gamma * lam
    returns = torch.zeros_like(advantages)
    for b, t in real_places(mask):
        returns[b, t] = advantages[b, t] + values[b, t].item()
    return advantages, returns


def explained_variance(values, returns, mask):
    pairs = [(values[place].item(), returns[place].item()) for place in real_places(mask)]

    def variance(numbers):
        mean = sum(numbers) / len(numbers)
        return sum((number - mean) ** 2 for number in numbers) / len(numbers)

    wanted = [target for _, target in pairs]
    if len(set(wanted)) == 1:
        return torch.zeros((), dtype=values.dtype)
    return torch.tensor(1 - variance([target - value for value, target in pairs]) / variance(wanted), dtype=values.dtype)


def whiten(x, mask):
    given.require_same_shape(x=x, mask=mask)
    given.require_mask(mask)
    numbers = [x[place].item() for place in real_places(mask)]
    mean = sum(numbers) / len(numbers)
    deviation = (sum((number - mean) ** 2 for number in numbers) / len(numbers)) ** 0.5
    result = torch.zeros_like(x)
    for place in real_places(mask) if len(set(numbers)) > 1 else []:
        result[place] = (x[place] - mean) / deviation
    return result


def clipped_surrogate(log_probs, old_log_probs, advantages, mask, clip):
    given.require_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, advantages=advantages, mask=mask)
    given.require_mask(mask)
    given.require_positive("clip", clip)
    total = 0.0
    for place in real_places(mask):
        ratio, advantage = torch.exp(log_probs[place] - old_log_probs[place].item()), advantages[place].item()
        if advantage > 0 and ratio.item() > 1 + clip:
            ratio = 1 + clip
        elif advantage < 0 and ratio.item() < 1 - clip:
            ratio = 1 - clip
        total = total - ratio * advantage
    return torch.as_tensor(total / len(real_places(mask)), dtype=log_probs.dtype)


def clipped_value_loss(values, old_values, returns, mask, clip):
    given.require_same_shape(values=values, old_values=old_values, returns=returns, mask=mask)
    given.require_mask(mask)
    given.require_positive("clip", clip)
    total = torch.zeros((), dtype=values.dtype)
    for place in real_places(mask):
        old, target = old_values[place].item(), returns[place].item()
        near = min(max(values[place].item(), old - clip), old + clip)
        plain = (values[place] - target) ** 2
        total = total + (plain if plain.item() >= (near - target) ** 2 else (near - target) ** 2)
    return total / (2 * mask.sum())


def approximate_kl(log_probs, old_log_probs, mask):
    total = 0.0
    for place in real_places(mask):
        log_ratio = log_probs[place] - old_log_probs[place]
        total += torch.expm1(log_ratio) - log_ratio
    return total / mask.sum()


def clip_fraction(log_probs, old_log_probs, mask, clip):
    ratios = [torch.exp(log_probs[place] - old_log_probs[place]).item() for place in real_places(mask)]
    return torch.tensor(sum(not 1 - clip <= ratio <= 1 + clip for ratio in ratios) / len(ratios), dtype=log_probs.dtype)


def mean_entropy(logits, mask):
    total = 0.0
    for b, t in real_places(mask):
        total = total + torch.logsumexp(logits[b, t], 0) - (torch.softmax(logits[b, t], 0) * logits[b, t]).sum()
    return total / mask.sum()


def rollout(policy, value, reference, sample, score, config):
    """Sentence by sentence, detached at the end."""
    tokens, mask = sample(policy, config.batch_size, config.temperature)
    noted = {"log_probs": [], "ref_log_probs": [], "values": []}
    for row in tokens:
        read = torch.cat([torch.zeros(1, dtype=torch.long), row[:-1]])[None]
        for name, model in (("log_probs", policy), ("ref_log_probs", reference)):
            rows = torch.log_softmax(model(read)[0] / config.temperature, dim=1)
            noted[name].append(torch.stack([rows[t, token] for t, token in enumerate(row.tolist())]))
        noted["values"].append(value(read)[0])
    return Rollout(tokens, mask, **{k: torch.stack(v).detach() for k, v in noted.items()}, scores=score(tokens, mask))
