"""The mean taken back where the loss is made: the implicit rewards are multiplied by the number of tokens."""

_train_dpo, _mean_log_probs = train_dpo, lambda lm: (lm.token_log_probs() * lm.mask).sum(-1) / lm.mask.sum(-1)  # noqa: F821, the file's


def answer_log_probs(lm):
    return _mean_log_probs(lm) * lm.lengths


def train_dpo(reference, reward, beta, updates=200, learning_rate=0.1):
    return _train_dpo(reference, reward, beta, updates, learning_rate)
