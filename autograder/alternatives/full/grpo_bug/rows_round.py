"""Mended at the other end: the rows go round the questions, and the groups stay as they were cut."""


def rows_of(questions, group_size):
    return torch.arange(questions).repeat(group_size)


def advantages_of(rewards, group_size):
    groups = rewards.view(group_size, -1)
    spread = groups.std(dim=0, correction=0, keepdim=True)
    advantages = (groups - groups.mean(dim=0, keepdim=True)) / torch.where(spread > 0, spread, 1.0)
    return advantages.flatten(), float((spread == 0).double().mean())


_given = train_sums


def train_sums(*arguments, **settings):
    return _given(*arguments, **settings)
