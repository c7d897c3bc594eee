"""Each row's place is its prompt's length and what it has written; and a batch holds prompts of one length."""


def write(model, prompts, new_tokens, generator=None):
    new, mask = padded(prompts)
    lengths, columns = torch.tensor([len(prompt) for prompt in prompts]), new.shape[1]
    places, cache, written = (mask.cumsum(dim=1) - 1).clamp(min=0), {}, [[] for _ in prompts]
    with torch.no_grad():
        for t in range(new_tokens):
            out = model(input_ids=new, attention_mask=mask, position_ids=places, use_cache=True, **cache)
            cache = {cache_keyword(model): out["cache"] if "cache" in out else out["past_key_values"]}
            token = drawn(out.logits[:, -1], torch.rand(len(prompts), generator=generator))
            over = torch.tensor([row[-1:] == [END] for row in written])
            for row, word, done in zip(written, token.tolist(), over.tolist()):
                row += [] if done else [word]
            mask = torch.cat([mask, (~over).long()[:, None]], dim=1)
            new, places = token.masked_fill(over, PAD)[:, None], (lengths + t)[:, None]
    return written


def measure(model, prompts, *, times=1, batch_size=64, new_tokens=NEW_TOKENS, generator=None):
    rows = [prompt for prompt in prompts for _ in range(times)]
    completions = [[]] * len(rows)
    for length in sorted(set(map(len, rows))):
        places = [place for place, row in enumerate(rows) if len(row) == length]
        for first in range(0, len(places), batch_size):
            now = places[first : first + batch_size]
            for place, row in zip(now, write(model, [rows[place] for place in now], new_tokens, generator)):
                completions[place] = row
    scores = torch.tensor([score(row) for row in completions], dtype=torch.float64)
    half = 1.96 * scores.std().item() / len(scores) ** 0.5
    return {"mean": scores.mean().item(), "low": scores.mean().item() - half, "high": scores.mean().item() + half,
            "completions": completions}  # fmt: skip
