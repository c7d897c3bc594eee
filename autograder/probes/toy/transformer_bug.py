"""The silent bug of lesson 7: one update on sentences that are handed to it, and what it draws by itself."""

import torch

END = 6


def training(module, start, tokens, mask, log_probs, temperature, top_k, passes, learning_rate, count, seed):
    """The table and the log after one update on the given sentences; what `draw` draws from `start`, and what it says of it."""
    sampling = module.Sampling(temperature=temperature, top_k=top_k)
    table, history = module.train(
        start, sampling=sampling, updates=1, passes=passes, learning_rate=learning_rate,
        draw=lambda *_, **__: (tokens.clone(), mask.clone(), log_probs.clone()),
    )  # fmt: skip
    answer = {name: [float(value) for value in history[name]] for name in history}
    return {"table": table.detach(), **answer, **drawn(module, start, sampling, count, seed)}


def drawn(module, table, sampling, count, seed):
    """counts: of first words, (7,).  recorded: by word before and word, (7, 7), the mean of the log-probabilities that came with
    the draws; NaN where there was none.  mask_ends_after_end: whether exactly what follows an end is left out."""
    tokens, mask, log_probs = module.draw(table, count, 3, sampling, torch.Generator().manual_seed(seed))
    before = torch.cat([torch.full_like(tokens[:, :1], END), tokens[:, :-1]], dim=1)
    pairs = (before * 7 + tokens)[mask]
    sums = torch.zeros(49, dtype=torch.float64).index_add(0, pairs, log_probs[mask].detach())
    ends = (tokens == END).long()
    return {
        "counts": torch.bincount(tokens[:, 0], minlength=7),
        "recorded": (sums / torch.bincount(pairs, minlength=49)).reshape(7, 7),
        "mask_ends_after_end": bool(torch.equal(mask, ends.cumsum(1) - ends == 0)),
    }
