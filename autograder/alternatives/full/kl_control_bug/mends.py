"""Mended with the names exchanged: the function's first argument is what the second is compared with."""


def sentence_kl(log_probs, ref_log_probs):
    by_token = F.kl_div(input=ref_log_probs, target=log_probs.exp(), reduction="none").sum(-1)
    return by_token.sum(-1)


train_within_limit = train_within_limit
