"""Every question's rows looked up by the question, wherever they stand."""


def advantages_of(rewards, group_size):
    advantages, silent = torch.zeros_like(rewards), 0
    for first in range(0, len(rewards), group_size):
        own = rewards[first : first + group_size]
        if bool((own == own[0]).all()):
            silent += 1
            continue
        away = own - own.mean()
        advantages[first : first + group_size] = away / away.square().mean().sqrt()
    return advantages, silent * group_size / len(rewards)


_given = train_sums


def train_sums(*arguments, **settings):
    return _given(*arguments, **settings)
