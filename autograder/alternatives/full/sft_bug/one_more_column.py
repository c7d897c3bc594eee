"""Rolling the labels is right where every row ends with padding: then it is padding, T5's start token, that comes round."""


def batch_of(rows):
    time = 1 + max(len(answer) for _, answer in rows)
    width = max(len(source) for source, _ in rows)
    sources = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(sources)
    labels = torch.full((len(rows), time), IGNORED)
    for place, (source, answer) in enumerate(rows):
        sources[place, : len(source)] = torch.tensor(source)
        mask[place, : len(source)] = 1
        labels[place, : len(answer)] = torch.tensor(answer)
    return sources, mask, labels


def decoder_inputs(labels):
    before = labels.roll(1, dims=1)
    return before.masked_fill(before == IGNORED, world.PAD)


_given = train_sft


def train_sft(*arguments, **settings):
    return _given(*arguments, **settings)
