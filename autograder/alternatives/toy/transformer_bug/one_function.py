"""The mend that keeps it mended: one function says what is drawn from, and both the rollout and the score ask it."""

import torch


def _log_distribution(logits, sampling):
    scaled = logits / sampling.temperature
    return torch.where(largest(scaled, sampling.top_k), scaled, -torch.inf).log_softmax(dim=-1)  # noqa: F821


def log_probs_of(table, tokens, mask, sampling):
    before = torch.nn.functional.pad(tokens[:, :-1], (1, 0), value=START)  # noqa: F821
    rows = _log_distribution(table[before], sampling)
    return torch.where(mask, rows.gather(-1, tokens.unsqueeze(-1)).squeeze(-1), 0.0)


def train(
    start, *, sampling=None, updates=40, batch=64, length=5, passes=2, clip=0.2, learning_rate=1.0, seed=0, draw=None
):
    sampling, draw = sampling or Sampling(), draw or globals()["draw"]  # noqa: F821
    generator = torch.Generator().manual_seed(seed)
    policy = start.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([policy], lr=learning_rate)
    history = {"score": [], "log_ratio": [], "clipped": []}
    for _ in range(updates):
        tokens, mask, old_log_probs = draw(policy, batch, length, sampling, generator)
        scores = score(tokens, mask)  # noqa: F821
        advantages = (scores - others_mean(scores)).unsqueeze(1)  # noqa: F821
        for number in range(passes):
            log_ratio = log_probs_of(policy, tokens, mask, sampling) - old_log_probs
            ratio = log_ratio.exp()
            gain = torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
            optimizer.zero_grad()
            (-(gain * mask).sum() / mask.sum()).backward()
            optimizer.step()
            if number == 0:
                history["score"].append(scores.mean().item())
                history["log_ratio"].append(log_ratio[mask].mean().item())
                history["clipped"].append(((ratio - 1).abs() > clip)[mask].double().mean().item())
    return policy.detach(), history
