"""The same by other calls of the library: Categorical, smooth_l1's relatives, autograd.grad, split and clamp in other places."""

import torch.nn.functional as F
from torch.distributions import Categorical


def masked_mean(values, mask):
    given.require_same_shape(values=values, mask=mask)
    given.require_mask(mask)
    return torch.masked_select(values, mask).mean()


def explained_variance(values, returns, mask):
    spread = torch.var(returns[mask], correction=0)
    if torch.unique(returns[mask]).numel() == 1:
        return spread * 0
    return 1 - torch.var((returns - values)[mask], correction=0) / spread


def whiten(x, mask):
    given.require_same_shape(x=x, mask=mask)
    given.require_mask(mask)
    real = torch.masked_select(x, mask)
    if torch.unique(real).numel() == 1:
        return torch.zeros(x.shape, dtype=x.dtype)
    deviation, mean = torch.std_mean(real, correction=0)
    return torch.zeros_like(x).masked_scatter(mask, (real - mean) / deviation)


def clipped_surrogate(log_probs, old_log_probs, advantages, mask, clip):
    given.require_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, advantages=advantages, mask=mask)
    given.require_mask(mask)
    given.require_positive("clip", clip)
    with torch.no_grad():
        weight = advantages.clone()
        old = old_log_probs.clone()
    ratio = torch.exp(log_probs - old)
    losses = torch.max(-weight * ratio, -weight * torch.clamp(ratio, 1.0 - clip, 1.0 + clip))
    return losses[mask].mean()


def clipped_value_loss(values, old_values, returns, mask, clip):
    given.require_same_shape(values=values, old_values=old_values, returns=returns, mask=mask)
    given.require_mask(mask)
    given.require_positive("clip", clip)
    near = torch.clamp(values, old_values.detach() - clip, old_values.detach() + clip)
    plain = F.mse_loss(values, returns.detach(), reduction="none")
    return 0.5 * torch.max(plain, F.mse_loss(near, returns.detach(), reduction="none"))[mask].mean()


def mean_entropy(logits, mask):
    return Categorical(logits=logits).entropy()[mask].mean()


def rollout(policy, value, reference, sample, score, config):
    tokens, mask = sample(policy, config.batch_size, config.temperature)
    read = F.pad(tokens, (1, 0))[:, :-1]
    with torch.inference_mode(False), torch.no_grad():
        mine, theirs = (Categorical(logits=model(read) / config.temperature) for model in (policy, reference))
        return Rollout(tokens, mask, mine.log_prob(tokens), theirs.log_prob(tokens), value(read), score(tokens, mask))


def ppo_update(policy, value, optimizer, batch, config):
    """Parts by torch.split, gradients by torch.autograd.grad, one pass over the whole figures at the end."""
    rewards = kl_penalised_rewards(batch.scores, batch.log_probs, batch.ref_log_probs, batch.mask, config.kl_coef)
    advantages, returns = gae(rewards, batch.values, batch.mask, config.gamma, config.lam)
    weights = whiten(advantages, batch.mask) if config.whiten else advantages
    noted = (batch.tokens, batch.mask, batch.log_probs, weights, batch.values, returns)
    parts = list(zip(*(tensor.split(config.minibatch_size) for tensor in noted)))
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = ("loss", "policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction")
    steps = []
    for tokens, mask, old, weight, old_values, targets in parts * config.epochs:
        read = shift_right(tokens)
        chances = Categorical(logits=policy(read) / config.temperature)
        new = chances.log_prob(tokens)
        policy_loss = clipped_surrogate(new, old, weight, mask, config.clip)
        value_loss = clipped_value_loss(value(read), old_values, targets, mask, config.value_clip)
        entropy = chances.entropy()[mask].mean()
        loss = policy_loss + config.value_coef * value_loss - config.entropy_coef * entropy
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True)):
            parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
        kl, outside = approximate_kl(new, old, mask), clip_fraction(new, old, mask, config.clip)
        steps.append([float(x) for x in (loss, policy_loss, value_loss, entropy, kl, outside)])
        optimizer.step()
    table = torch.tensor(steps, dtype=torch.float64)
    figures = {name: table[:, column] for column, name in enumerate(names)}
    figures["explained_variance"] = explained_variance(batch.values, returns, batch.mask)
    return figures


def train(policy, value, reference, sample, score, optimizer, config, updates, after_update=None):
    log = []
    while len(log) < updates:
        batch = rollout(policy, value, reference, sample, score, config)
        figures = ppo_update(policy, value, optimizer, batch, config)
        line = {name: float(figures[name].reshape(-1)[-1]) for name in figures}
        line["reward"] = batch.scores.mean().item()
        line["completion_length"] = batch.mask.sum().item() / len(batch.mask)
        line["kl"] = (batch.log_probs - batch.ref_log_probs)[batch.mask].sum().item() / len(batch.mask)
        log.append(line)
        if after_update:
            after_update(log[-1])
    return log
