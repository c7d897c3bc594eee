"""The places of what is new are counted from the mask in every round; and a model without a cache reads everything again."""


def write(model, prompts, new_tokens, generator=None):
    tokens, mask = padded(prompts)
    columns, going = tokens.shape[1], torch.ones(len(prompts), dtype=torch.bool)
    with torch.no_grad():
        for _ in range(new_tokens):
            places = (mask.cumsum(dim=1) - 1).clamp(min=0)
            logits = model(input_ids=tokens, attention_mask=mask, position_ids=places, use_cache=False).logits[:, -1]
            token = torch.where(going, drawn(logits, torch.rand(len(prompts), generator=generator)), PAD)
            tokens, mask = torch.cat([tokens, token[:, None]], dim=1), torch.cat([mask, going.long()[:, None]], dim=1)
            going = going & (token != END)
    return [row[real].tolist() for row, real in zip(tokens[:, columns:], mask[:, columns:].bool())]


def measure(model, prompts, *, times=1, batch_size=64, new_tokens=NEW_TOKENS, generator=None):
    rows = [prompt for prompt in prompts for _ in range(times)]
    batches = [rows[first : first + batch_size] for first in range(0, len(rows), batch_size)]
    completions = [row for batch in batches for row in write(model, batch, new_tokens, generator)]
    scores = torch.tensor([score(row) for row in completions], dtype=torch.float64)
    mean, half = scores.mean().item(), 1.96 * (scores.var() / len(scores)).sqrt().item()
    return {"mean": mean, "low": mean - half, "high": mean + half, "completions": completions}
