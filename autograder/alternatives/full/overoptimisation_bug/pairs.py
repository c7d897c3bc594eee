"""Each answer keeps its two scores together while they are sorted."""


def in_order(proxy, gold):
    rows = [sorted(zip(mine, meant)) for mine, meant in zip(proxy.tolist(), gold.tolist())]
    both = torch.tensor(rows, dtype=torch.float64)
    return both[..., 0], both[..., 1]


_given = report


def report(*arguments, **settings):
    return _given(*arguments, **settings)
