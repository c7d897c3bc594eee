"""A mend at the call: the estimator gets its arguments the other way round, and is left as it was."""

import torch


def _as_given(log_probs, ref_log_probs):
    log_ratio = log_probs - ref_log_probs
    return (log_ratio.exp() - 1 - log_ratio).sum(dim=1).mean()


def approximate_kl(log_probs, ref_log_probs):
    return _as_given(ref_log_probs, log_probs)


_train = train_near_reference


def train_near_reference(start, reference, **settings):
    return _train(start, reference, **settings)
