"""A mend by the plain estimator, k1: noisier, unbiased too."""


def approximate_kl(log_probs, ref_log_probs):
    return (log_probs - ref_log_probs).sum(dim=1).mean()


def others_mean(values):
    return (len(values) * values.mean() - values) / (len(values) - 1)


_train = train_near_reference


def train_near_reference(start, reference, **settings):
    return _train(start, reference, **settings)
