"""The same by other calls of the library: kl_div, distributions, masked_scatter, a training loop with its gradients by hand."""

import torch.nn.functional as F


def compute_kl_divergence(log_probs, ref_log_probs, mask):
    require_rows(log_probs, ref_log_probs, mask)
    log_p, log_q = log_probs[mask], ref_log_probs[mask].detach()  # (tokens, V): nothing off the mask is computed at all
    never = log_p == -torch.inf
    log_p, log_q = log_p.masked_fill(never, 0.0), log_q.masked_fill(never, 0.0)
    terms = F.kl_div(log_q, log_p, reduction="none", log_target=True).masked_fill(never, 0.0)
    return torch.zeros(mask.shape, dtype=log_probs.dtype).masked_scatter(mask, terms.sum(-1))


def k1(log_probs, ref_log_probs, mask):
    require_log_probs(log_probs, ref_log_probs, mask)
    return torch.sub(log_probs, ref_log_probs.data).masked_fill(mask.logical_not(), 0.0)


def k2(log_probs, ref_log_probs, mask):
    difference = log_probs.masked_fill(~mask, 0.0) - ref_log_probs.detach().masked_fill(~mask, 0.0)
    return 0.5 * torch.square(difference)


def k3(log_probs, ref_log_probs, mask):
    difference = log_probs.masked_fill(~mask, 0.0) - ref_log_probs.detach().masked_fill(~mask, 0.0)
    return torch.special.expm1(difference.neg()).add(difference)


def kl_shaped_reward(rewards, log_probs, ref_log_probs, mask, alpha):
    require_log_probs(log_probs, ref_log_probs, mask)
    given.require_per_row("rewards", rewards, mask)
    given.require_not_negative("alpha", alpha)
    with torch.no_grad():
        here, there = (x.masked_fill(~mask, 0.0).sum(dim=1) for x in (log_probs, ref_log_probs))
        return torch.addcmul(rewards, here - there, torch.full_like(rewards, -float(alpha)))


class AdaptiveKLController:
    """With its step in one expression, by NumPy."""

    def __init__(self, alpha, target, horizon):
        for name, value in (("alpha", alpha), ("target", target), ("horizon", horizon)):
            given.require_positive(name, value)
        self.alpha, self.target, self.horizon = float(alpha), target, horizon

    def update(self, kl, samples):
        import numpy as np

        require_step(float(kl), samples, self.horizon)
        self.alpha *= 1.0 + float(np.clip((float(kl) - self.target) / self.target, -0.2, 0.2)) * samples / self.horizon
        return float(self.alpha)


def train(loop, config):
    """The reference's log-probabilities first; the advantages from one gathered tensor; the figures in a dictionary."""
    require_reference(loop)
    for model in (loop.policy, loop.reference):
        model.train(False)
    controller = None
    alpha = loop.kept["alpha"] if "alpha" in loop.kept else config.alpha
    if config.target_kl:
        controller = AdaptiveKLController(alpha, config.target_kl, config.horizon)
    for prompts in loop.batches():
        rollout = loop.rollout(prompts.repeated(config.group_size))
        with torch.inference_mode():
            theirs = completion_log_probs(loop.reference, rollout, temperature=config.temperature)
        theirs = theirs.clone()
        mine = completion_log_probs(loop.policy, rollout, temperature=config.temperature, top_k=config.top_k)
        distance = (mine.detach() - theirs).masked_fill(~rollout.mask, 0.0)
        rewards = loop.reward(rollout)
        worth = rewards - alpha * distance.sum(1)
        everyone = loop.gather(worth)
        if config.baseline == "batch":
            everyone = everyone - batch_baseline(everyone)
        elif config.baseline == "rloo":
            everyone = rloo_advantages(everyone, config.group_size)
        loss = torch.einsum("b,bt->", loop.own(everyone), -mine) / len(rollout)
        loop.update(loss)
        far = loop.gather(distance.sum(1))
        figures = completion_metrics(rollout, mine, loop.eos_token_id)
        figures |= {"reward": rewards.mean(), "shaped_reward": worth.mean(), "kl": far.mean(), "loss": loss.detach()}
        figures["kl_k3"] = (torch.expm1(-distance) + distance).sum() / len(rollout)
        loop.log(alpha=alpha, **figures)
        if controller:
            controller.update(float(far.mean()), far.numel())
            alpha = controller.alpha
        loop.kept["alpha"] = alpha


def regime(reward, naturalness, reference_naturalness):
    require_numbers(reward=reward, naturalness=naturalness, reference_naturalness=reference_naturalness)
    if naturalness is None:
        return "weak" if reward < 0.65 else "unread"
    if naturalness >= reference_naturalness - 0.3:
        return "good" if reward >= 0.8 else "between" if reward >= 0.65 else "weak"
    return "collapsed"


def sweep(run, alphas):
    require_alphas(alphas)

    def row(alpha):
        found = dict(run(alpha))
        names = ("reward", "naturalness", "reference_naturalness")
        return found | {"alpha": alpha, "regime": regime(*(found[name] for name in names))}

    return list(map(row, alphas))
