"""The last part is closed above by its outer edge, which nothing reaches."""


def parts_of(probabilities, bins=10):
    edges = torch.arange(bins + 1, dtype=torch.float64) / bins
    edges[-1] = 2.0
    return torch.bucketize(probabilities, edges, right=True) - 1


_given = report


def report(*arguments, **settings):
    return _given(*arguments, **settings)
