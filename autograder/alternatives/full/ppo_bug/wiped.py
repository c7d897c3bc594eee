"""Mended before the recursion: what the critic says of padding is wiped, then the sums run over all columns."""


def advantages_and_returns(rewards, values, mask, lam):
    known = torch.nn.functional.pad(values.masked_fill(~mask, 0.0), (0, 1))  # (B, T + 1), 0 behind every end
    deltas = torch.where(mask, rewards + known[:, 1:] - known[:, :-1], 0.0)
    time = deltas.shape[1]
    weights = torch.tensor([[lam ** (k - t) if k >= t else 0.0 for t in range(time)] for k in range(time)], dtype=deltas.dtype)
    advantages = torch.where(mask, deltas @ weights, 0.0)
    return advantages, advantages + known[:, :-1]


_given = train_film


def train_film(*arguments, **settings):
    return _given(*arguments, **settings)
