"""The full softmax, divided by the mass of what could be drawn; and the support fixed as it was when the words were drawn."""

import torch


def log_probs_of(table, tokens, mask, sampling):
    before = torch.cat([torch.full_like(tokens[:, :1], START), tokens[:, :-1]], dim=1)  # noqa: F821
    probs = (table / sampling.temperature).softmax(dim=-1)
    best = table.topk(sampling.top_k, dim=-1).indices
    mass = probs.gather(-1, best).sum(-1)  # (7,): of the top_k words after each word
    picked = (probs[before, tokens] / mass[before]).log()
    return picked * mask


def train(
    start, *, sampling=None, updates=40, batch=64, length=5, passes=2, clip=0.2, learning_rate=1.0, seed=0, draw=None
):
    sampling, draw = sampling or Sampling(), draw or globals()["draw"]  # noqa: F821
    generator = torch.Generator().manual_seed(seed)
    policy = start.clone().requires_grad_(True)
    history = {"score": [], "log_ratio": [], "clipped": []}
    for _ in range(updates):
        tokens, mask, old_log_probs = draw(policy, batch, length, sampling, generator)
        allowed = largest(policy.detach(), sampling.top_k)  # noqa: F821
        before = torch.cat([torch.full_like(tokens[:, :1], START), tokens[:, :-1]], dim=1)  # noqa: F821
        scores = score(tokens, mask)  # noqa: F821
        advantages = (scores - others_mean(scores)).unsqueeze(1)  # noqa: F821
        for number in range(passes):
            rows = (policy / sampling.temperature).masked_fill(~allowed, -torch.inf).log_softmax(dim=-1)
            log_ratio = (rows[before, tokens] - old_log_probs)[mask]
            ratio, advantage = log_ratio.exp(), advantages.expand_as(tokens)[mask]
            loss = -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()
            (gradient,) = torch.autograd.grad(loss, policy)
            with torch.no_grad():
                policy -= learning_rate * gradient
            if number == 0:
                history["score"].append(float(scores.mean()))
                history["log_ratio"].append(float(log_ratio.mean()))
                history["clipped"].append(float(((ratio - 1).abs() > clip).double().mean()))
    return policy.detach(), history
