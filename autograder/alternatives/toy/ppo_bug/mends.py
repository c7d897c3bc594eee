"""The usual way to write the clipped loss, in place of the edge: the smaller of two terms."""


def policy_loss(log_probs, old_log_probs, advantages, mask, clip):
    ratio = torch.exp(log_probs - old_log_probs)
    losses = torch.max(-advantages * ratio, -advantages * torch.clamp(ratio, 1 - clip, 1 + clip))
    return (losses * mask).sum() / mask.sum()


_given = train_writer


def train_writer(*arguments, **settings):
    return _given(*arguments, **settings)
