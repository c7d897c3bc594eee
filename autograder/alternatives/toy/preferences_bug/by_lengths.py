"""The mean taken back where the loss is made: the implicit rewards are multiplied by the number of tokens."""

_train, _mean_log_probs = train, lambda lm: (lm.token_log_probs() * lm.mask).sum(-1) / lm.mask.sum(-1)  # noqa: F821, the file's


def answer_log_probs(lm):
    return _mean_log_probs(lm) * lm.lengths


def train(reference, reward, beta, updates=200, learning_rate=0.1):
    return _train(reference, reward, beta, updates, learning_rate)
