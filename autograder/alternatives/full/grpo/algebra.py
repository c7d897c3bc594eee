"""Other algebra: real tokens picked out at once, the clip as a bound on the ratio, whole logits in the loop."""


def final_number(text):
    if MARKER in text:
        pieces = text.split(MARKER)
        text, take = pieces[-1], 0
    else:
        take = -1
    digits = re.compile(r"([0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(\.[0-9]+)?")
    found = []
    for match in digits.finditer(text):
        before, at = text[: match.start()], match.group().replace(",", "")
        negative = before.endswith(("-", "\u2212")) and not re.search(r"[0-9A-Za-z)\]}]$", before[:-1])
        found.append(-Decimal(at) if negative else Decimal(at))
    return found[take] if found else None


def exact_match_reward(completions, answers):
    require_answers(completions, answers)
    known = {answer: final_number(answer) for answer in set(answers)}
    right = [float(final_number(completion) == known[answer]) for completion, answer in zip(completions, answers)]
    return torch.as_tensor(right, dtype=torch.float64)


def group_advantages(rewards, group_size, scale="std"):
    require_rewards("rewards", rewards)
    require_groups(group_size, len(rewards))
    require_one_of("scale", scale, SCALES)
    groups = rewards.unflatten(0, (-1, group_size))
    groups = groups - groups[:, :1]  # now an all-equal group is zeros, exactly
    centred = groups - groups.mean(1, keepdim=True)
    if scale == "loo":
        centred = centred * group_size / (group_size - 1)
    if scale == "std":
        norm = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
        centred = torch.where(norm > 0, centred * group_size**0.5 / norm.clamp(min=1e-300), torch.zeros_like(centred))
    return centred.reshape(-1)


def kl_estimate(log_probs, ref_log_probs, mask, estimator="k3"):
    require_one_of("estimator", estimator, KL_ESTIMATORS)
    if estimator == "k3":
        return k3(log_probs, ref_log_probs, mask)
    plain = k1(log_probs, ref_log_probs, mask)
    return plain if estimator == "k1" else plain.square() / 2


def grpo_loss(log_probs, old_log_probs, advantages, mask, *, clip, clip_high=0.0, mean="sequence", max_tokens=None,
              ref_log_probs=None, kl_coef=0.0, kl="k3"):  # fmt: skip
    require_loss(log_probs, old_log_probs, advantages, mask, clip, clip_high, mean, max_tokens, ref_log_probs, kl_coef, kl)
    rows, times = mask.nonzero(as_tuple=True)
    new, worth = log_probs[rows, times], advantages.detach().to(log_probs)[rows]
    ratio = (new - old_log_probs.detach()[rows, times]).exp()
    high = torch.tensor(1 + (clip_high or clip), dtype=ratio.dtype)
    gain = torch.where(worth > 0, worth * torch.minimum(ratio, high), worth * ratio.clamp(min=1 - clip))
    if kl_coef:
        gain = gain - kl_coef * kl_estimate(log_probs, ref_log_probs, mask, kl)[rows, times]
    if mean == "token":
        return -gain.mean()
    each = 1 / mask.sum(1)[rows] if mean == "sequence" else 1 / max_tokens
    return -(gain * each).sum() / len(mask)


def grpo_metrics(rewards, group_size, log_probs, old_log_probs, mask, *, clip, clip_high=0.0):
    require_rewards("rewards", rewards, len(mask))
    require_groups(group_size, len(rewards))
    require_tokens(log_probs, old_log_probs, mask)
    with torch.no_grad():
        groups, lengths = rewards.unflatten(0, (-1, group_size)), mask.sum(1).double()
        gap = (log_probs - old_log_probs)[mask].double()
        ratio, right = gap.exp(), rewards.eq(1.0)

        def mean_of(which):
            return lengths[which].mean() if which.any() else lengths.new_zeros(())

        return {
            "clip_fraction": 1 - ((ratio >= 1 - clip) & (ratio <= 1 + (clip_high or clip))).double().mean(),
            "approx_kl": (torch.expm1(gap) - gap).mean(),
            "ratio": ratio.mean(),
            "length_wrong": mean_of(~right),
            "length_right": mean_of(right),
            "solved": 1 - (groups != 1).all(1).double().mean(),
            "no_signal": (groups == groups[:, :1]).all(1).double().mean(),
        }


def train(loop, config):
    from full.given.ppo_settings import completion_texts
    from full.given.rollout import warped
    from full.given.scoring import completion_logits

    require_reference(loop, config)
    for model in (loop.policy, loop.reference):
        if model is not None:
            model.eval()

    def scored(model, rollout, support):
        logits = warped(completion_logits(model, rollout), config.temperature)
        if support is not None:
            outside = torch.ones_like(logits, dtype=torch.bool)
            rows, times, places = (support >= 0).nonzero(as_tuple=True)
            outside[rows, times, support[rows, times, places]] = False
            logits = logits.masked_fill(outside, -torch.inf)
        found = logits.log_softmax(-1).gather(-1, rollout.completion.unsqueeze(-1)).squeeze(-1)
        return torch.where(rollout.mask, found, 0.0)

    for batch in loop.batches():
        prompts = batch.repeated(config.group_size)
        rollout = loop.rollout(prompts)
        earned = exact_match_reward(completion_texts(loop.tokenizer, rollout), prompts.answers)
        with torch.no_grad():
            before = scored(loop.policy, rollout, rollout.support)
            anchor = None if loop.reference is None else scored(loop.reference, rollout, None)
        paid = earned
        if config.kl_coef and config.kl_place == "reward":
            paid = earned - config.kl_coef * (before - anchor).sum(1)
        worth = group_advantages(paid, config.group_size, config.scale)
        price = config.kl_coef if config.kl_place == "loss" else 0.0
        how = {"clip": config.clip, "clip_high": config.clip_high, "mean": config.mean, "kl": config.kl}
        left = config.updates
        while left:
            now = scored(loop.policy, rollout, rollout.support)
            loss = grpo_loss(now, before, worth, rollout.mask, ref_log_probs=anchor, kl_coef=price,
                             max_tokens=config.new_tokens, **how)  # fmt: skip
            loop.update(loss)
            left -= 1
        figures = grpo_metrics(earned, config.group_size, now, before, rollout.mask, clip=config.clip, clip_high=config.clip_high)
        figures |= completion_metrics(rollout, before, loop.eos_token_id) | {"reward": earned.mean(), "loss": loss}
        if anchor is not None:
            figures["kl"] = (before - anchor).sum(1).mean()
        loop.log(**figures)
