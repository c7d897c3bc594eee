"""The edge kept, and the two signs told apart: what is cut off is the gain beyond it, for either sign."""


def policy_loss(log_probs, old_log_probs, advantages, mask, clip):
    ratio = (log_probs - old_log_probs).exp()
    good = torch.where(advantages >= 0, ratio.clamp(max=1 + clip), 0.0)
    bad = torch.where(advantages < 0, ratio.clamp(min=1 - clip), 0.0)
    return -((good + bad) * advantages)[mask].mean()


_given = train_writer


def train_writer(*arguments, **settings):
    return _given(*arguments, **settings)
