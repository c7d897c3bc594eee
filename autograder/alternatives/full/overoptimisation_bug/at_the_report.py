"""Mended where the scores are used: weights by the rank of each answer's proxy score, and nothing is moved."""


def best_of(proxy, gold, n):
    weights = place_weights(proxy.shape[1], n)[proxy.argsort(dim=1).argsort(dim=1)]
    return (weights * proxy).sum(1).mean().item(), (weights * gold).sum(1).mean().item()


_given = report


def report(*arguments, **settings):
    return _given(*arguments, **settings)
