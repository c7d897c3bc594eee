"""Mended without the library's function: the sum written out."""


def sentence_kl(log_probs, ref_log_probs):
    return torch.einsum("btv,btv->b", log_probs.exp(), log_probs - ref_log_probs)


train_within_limit = train_within_limit
