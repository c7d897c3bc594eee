"""The mask made where the log-probabilities are: entry t is about token t + 1."""


def chosen_tokens(written):
    about = torch.arange(1, written.tokens.shape[1])
    inside = written.attention_mask[:, 1:].bool() & (about >= written.prompt_length)
    return torch.cat([torch.zeros_like(inside[:, :1]), inside], dim=1)


def phrase_loss(policy, written, rewards):
    log_probs = next_token_log_probs(policy, written)
    return -(advantages_of(rewards) * (log_probs * chosen_tokens(written)[:, 1:]).sum(dim=1)).mean()


_given = train_phrases


def train_phrases(*arguments, **settings):
    return _given(*arguments, **settings)
