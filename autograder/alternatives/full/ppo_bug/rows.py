"""Every row by itself, only as long as it is: what stands behind it is never looked at."""


def advantages_and_returns(rewards, values, mask, lam):
    advantages, returns = torch.zeros_like(rewards), torch.zeros_like(rewards)
    for b, count in enumerate(mask.sum(dim=1).tolist()):
        expected = torch.cat([values[b, :count], values.new_zeros(1)])
        deltas = rewards[b, :count] + expected[1:] - expected[:-1]
        for t in range(count):
            weights = lam ** torch.arange(count - t, dtype=values.dtype)
            advantages[b, t] = (weights * deltas[t:]).sum()
            returns[b, t] = advantages[b, t] + values[b, t]
    return advantages, returns


_given = train_film


def train_film(*arguments, **settings):
    return _given(*arguments, **settings)
