"""Token by token, in plain loops; the graph is built one scalar at a time, and a batch is learned from row by row."""


def compute_kl_divergence(log_probs, ref_log_probs, mask):
    require_rows(log_probs, ref_log_probs, mask)
    rows = []
    for b in range(mask.shape[0]):
        row = []
        for t in range(mask.shape[1]):
            total = torch.zeros((), dtype=log_probs.dtype)
            for v in range(log_probs.shape[2]) if mask[b, t] else []:
                if log_probs[b, t, v] != -torch.inf:
                    total = total + log_probs[b, t, v].exp() * (log_probs[b, t, v] - ref_log_probs[b, t, v].item())
            row.append(total)
        rows.append(torch.stack(row))
    return torch.stack(rows)


def token_by_token(log_probs, ref_log_probs, mask, estimate):
    require_log_probs(log_probs, ref_log_probs, mask)
    found = torch.zeros_like(log_probs)
    for b, t in mask.nonzero().tolist():
        found[b, t] = estimate(log_probs[b, t] - ref_log_probs[b, t].item())
    return found


def k1(log_probs, ref_log_probs, mask):
    return token_by_token(log_probs, ref_log_probs, mask, lambda log_ratio: log_ratio)


def k2(log_probs, ref_log_probs, mask):
    return token_by_token(log_probs, ref_log_probs, mask, lambda log_ratio: log_ratio * log_ratio / 2)


def k3(log_probs, ref_log_probs, mask):
    return token_by_token(log_probs, ref_log_probs, mask, lambda log_ratio: torch.expm1(-log_ratio) + log_ratio)


def kl_shaped_reward(rewards, log_probs, ref_log_probs, mask, alpha):
    require_log_probs(log_probs, ref_log_probs, mask)
    given.require_per_row("rewards", rewards, mask)
    given.require_not_negative("alpha", alpha)
    worth = [reward.item() for reward in rewards]
    for b, t in mask.nonzero().tolist():
        worth[b] -= alpha * (log_probs[b, t].item() - ref_log_probs[b, t].item())
    return torch.tensor(worth, dtype=rewards.dtype)


class AdaptiveKLController:
    def __init__(self, alpha, target, horizon):
        given.require_positive("alpha", alpha)
        given.require_positive("target", target)
        given.require_positive("horizon", horizon)
        self.alpha, self.target, self.horizon = alpha, target, horizon

    def update(self, kl, samples):
        require_step(kl, samples, self.horizon)
        off = float(kl) / self.target
        if off > 1.2:
            off = 1.2
        elif off < 0.8:
            off = 0.8
        self.alpha += self.alpha * (off - 1) * samples / self.horizon
        return self.alpha


def train(loop, config):
    """Row by row: each completion's loss on its own, added up."""
    require_reference(loop)
    loop.policy.eval()
    loop.reference.eval()
    loop.reference.requires_grad_(False)
    loop.kept.setdefault("alpha", config.alpha)
    controller = AdaptiveKLController(loop.kept["alpha"], config.target_kl, config.horizon) if config.target_kl else None
    for prompts in loop.batches():
        alpha = loop.kept["alpha"]
        rollout = loop.rollout(prompts.repeated(config.group_size))
        mine = completion_log_probs(loop.policy, rollout, config.temperature, config.top_k)
        theirs = completion_log_probs(loop.reference, rollout, config.temperature)
        rewards = loop.reward(rollout)
        worth = kl_shaped_reward(rewards, mine, theirs, rollout.mask, alpha)
        weights = loop.own(advantages_of(loop.gather(worth), config)).tolist()
        total = 0.0
        for weight, row, real in zip(weights, mine, rollout.mask):
            total = total - weight * row[real].sum()
        loss = total / len(weights)
        loop.update(loss)
        far = loop.gather(k1(mine.detach(), theirs, rollout.mask).sum(1))
        more = completion_metrics(rollout, mine, loop.eos_token_id)
        near = k3(mine.detach(), theirs, rollout.mask).sum(1).mean()
        loop.log(loss=loss, reward=rewards.mean(), shaped_reward=worth.mean(), kl=far.mean(), kl_k3=near, alpha=alpha, **more)
        loop.kept["alpha"] = controller.update(far.mean().item(), far.shape[0]) if controller else alpha


def sweep(run, alphas):
    require_alphas(alphas)
    rows = [{"alpha": alpha} for alpha in alphas]
    for row in rows:
        for name, figure in run(row["alpha"]).items():
            row[name] = figure
        row["regime"] = regime(row["reward"], row["naturalness"], row["reference_naturalness"])
    return rows
