"""Whatever lies at or beyond the last part's lower edge belongs to it."""


def parts_of(probabilities, bins=10):
    edges = torch.arange(bins + 1, dtype=torch.float64) / bins
    return (torch.bucketize(probabilities, edges, right=True) - 1).clamp(max=bins - 1)


_given = report


def report(*arguments, **settings):
    return _given(*arguments, **settings)
