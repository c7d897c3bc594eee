"""The first END of a row is told from those that fill it up by counting: no mask is read."""


def scored_tokens(tokens, attention_mask, prompt_length):
    answers = tokens[:, prompt_length:]
    before = (answers == END).long().cumsum(dim=1) - (answers == END).long()  # ENDs before each place
    return torch.cat([torch.zeros_like(tokens[:, :prompt_length], dtype=torch.bool), before == 0], dim=1)


_given = train_dpo


def train_dpo(*arguments, **settings):
    return _given(*arguments, **settings)
