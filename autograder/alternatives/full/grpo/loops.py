"""Character by character, group by group, token by token; Fractions for numbers, no regular expression."""


def final_number(text):
    from fractions import Fraction

    start = text.rfind("####")
    behind = text if start < 0 else text[start + 4 :]
    digits, found, i = "0123456789", [], 0
    while i < len(behind):
        if behind[i] not in digits:
            i += 1
            continue
        begin = i
        while i < len(behind) and behind[i] in digits:
            i += 1
        whole = behind[begin:i]
        if len(whole) <= 3:
            blocks, at = [], i
            while behind[at : at + 1] == "," and sum(c in digits for c in behind[at + 1 : at + 4]) == 3:
                blocks.append(behind[at + 1 : at + 4])
                at += 4
            if blocks and not (at < len(behind) and behind[at] in digits):
                whole, i = whole + "".join(blocks), at
            elif len(blocks) > 1:  # the last block belongs to a longer run of digits: the others still group
                whole, i = whole + "".join(blocks[:-1]), at - 4
        if behind[i : i + 1] == "." and i + 1 < len(behind) and behind[i + 1] in digits:
            end = i + 1
            while end < len(behind) and behind[end] in digits:
                end += 1
            whole, i = whole + behind[i:end], end
        sign = 1
        if begin > 0 and behind[begin - 1] in "+-\u2212":
            before = behind[begin - 2] if begin > 1 else " "
            operator = before in ")]}" or (before.isascii() and before.isalnum())
            if not operator and behind[begin - 1] != "+":
                sign = -1
        found.append(sign * Fraction(whole))
    if not found:
        return None
    return found[-1] if start < 0 else found[0]


def exact_match_reward(completions, answers):
    require_answers(completions, answers)
    rewards = torch.zeros(len(completions), dtype=torch.float64)
    for b, (completion, answer) in enumerate(zip(completions, answers)):
        number = final_number(completion)
        if number is not None and number == final_number(answer):
            rewards[b] = 1.0
    return rewards


def group_advantages(rewards, group_size, scale="std"):
    require_rewards("rewards", rewards)
    require_groups(group_size, len(rewards))
    require_one_of("scale", scale, SCALES)
    found = []
    for first in range(0, len(rewards), group_size):
        group = rewards[first : first + group_size].tolist()
        mean = sum(group) / group_size
        if len(set(group)) == 1:
            found += [0.0] * group_size
        elif scale == "loo":
            found += [r - (sum(group) - r) / (group_size - 1) for r in group]
        else:
            root = (sum((r - mean) ** 2 for r in group) / group_size) ** 0.5 if scale == "std" else 1.0
            found += [(r - mean) / root for r in group]
    return torch.tensor(found, dtype=rewards.dtype)


def kl_estimate(log_probs, ref_log_probs, mask, estimator="k3"):
    require_one_of("estimator", estimator, KL_ESTIMATORS)
    apart = torch.where(mask, log_probs - ref_log_probs.detach(), 0.0)
    if estimator == "k1":
        return apart
    if estimator == "k2":
        return 0.5 * apart * apart
    return torch.exp(-apart) - 1 + apart


def grpo_loss(log_probs, old_log_probs, advantages, mask, *, clip, clip_high=0.0, mean="sequence", max_tokens=None,
              ref_log_probs=None, kl_coef=0.0, kl="k3"):  # fmt: skip
    require_loss(log_probs, old_log_probs, advantages, mask, clip, clip_high, mean, max_tokens, ref_log_probs, kl_coef, kl)
    total = log_probs.new_zeros(())
    rows, real = mask.shape[0], int(mask.sum())
    for b in range(rows):
        length, worth = int(mask[b].sum()), float(advantages[b])
        weight = {"sequence": 1 / (rows * max(length, 1)), "token": 1 / real, "constant": 1 / (rows * (max_tokens or 1))}[mean]
        for t in range(mask.shape[1]):
            if not mask[b, t]:
                continue
            ratio = torch.exp(log_probs[b, t] - float(old_log_probs[b, t]))
            low, high = 1 - clip, 1 + (clip_high if clip_high > 0 else clip)
            stopped = (worth > 0 and ratio > high) or (worth < 0 and ratio < low)
            gain = worth * min(max(float(ratio), low), high) if stopped else ratio * worth
            if kl_coef > 0:
                d = log_probs[b, t] - float(ref_log_probs[b, t])
                gain = gain - kl_coef * {"k1": d, "k2": d**2 / 2, "k3": torch.exp(-d) - 1 + d}[kl]
            total = total - weight * gain
    return total


def grpo_metrics(rewards, group_size, log_probs, old_log_probs, mask, *, clip, clip_high=0.0):
    require_rewards("rewards", rewards, len(mask))
    require_groups(group_size, len(rewards))
    require_tokens(log_probs, old_log_probs, mask)
    numbers, real = rewards.tolist(), mask.tolist()
    groups = [numbers[first : first + group_size] for first in range(0, len(numbers), group_size)]
    lengths = [sum(row) for row in real]
    right = [length for length, reward in zip(lengths, numbers) if reward == 1]
    wrong = [length for length, reward in zip(lengths, numbers) if reward != 1]
    places = [(b, t) for b, row in enumerate(real) for t, is_real in enumerate(row) if is_real]
    gaps = [float(log_probs[place]) - float(old_log_probs[place]) for place in places]
    ratios = [torch.tensor(gap, dtype=torch.float64).exp().item() for gap in gaps]
    high = clip_high if clip_high > 0 else clip

    def mean(values):
        values = list(values)
        return torch.tensor(sum(values) / len(values) if values else 0.0, dtype=torch.float64)

    return {
        "no_signal": mean(float(min(group) == max(group)) for group in groups),
        "solved": mean(float(1.0 in group) for group in groups),
        "length_right": mean(right),
        "length_wrong": mean(wrong),
        "ratio": mean(ratios),
        "approx_kl": mean(ratio - 1 - gap for ratio, gap in zip(ratios, gaps)),
        "clip_fraction": mean(float(ratio < 1 - clip or ratio > 1 + high) for ratio in ratios),
    }
