"""The engine that the runs use, and an evaluation that puts short prompts together and sorts its results afterwards."""

from full.given import rollout as fast


def continue_prompts(
    model, prompts, new_tokens=20, *, eos_token_id, pad_token_id, temperature=1.0, top_k=0, generator=None
):
    given.require_whole("new_tokens", new_tokens, 1)
    given.require_apart(eos_token_id, pad_token_id)
    given.require_sampling(temperature, top_k)
    given.require_prompts(prompts)
    given.require_room(model, prompts, new_tokens)
    return fast.rollout(
        model, prompts, new_tokens, eos_token_id=eos_token_id, pad_token_id=pad_token_id, temperature=temperature, top_k=top_k,
        generator=generator,
    )  # fmt: skip


def sentiment_reward(classifier, tokenizer, texts):
    given.require_texts(texts)
    given.require_labels(classifier)
    positive = next((k for k, name in classifier.config.id2label.items() if name.lower() == "positive"), 1)
    most = getattr(classifier.config, "max_position_embeddings", 10**6)
    rewards = torch.zeros(len(texts), dtype=next(classifier.parameters()).dtype)
    mode = classifier.training
    classifier.eval()
    lengths = [len(tokenizer(text)["input_ids"]) for text in texts]
    for length in sorted(set(lengths)):  # texts of one length share a batch, so that there is no padding
        rows = [row for row, own in enumerate(lengths) if own == length]
        ids = torch.tensor([tokenizer(texts[row])["input_ids"][:most] for row in rows])
        with torch.no_grad():
            logits = classifier(input_ids=ids).logits
        odds = logits - logits[:, positive : positive + 1]
        rewards[rows] = 1 / odds.exp().sum(1)
    classifier.train(mode)
    return rewards


def distinct_n(rows, n):
    given.require_whole("n", n, 1)
    every = [" ".join(map(str, row[start : start + n])) for row in rows for start in range(max(len(row) + 1 - n, 0))]
    return len(dict.fromkeys(every)) / (len(every) or 1)


def mean_with_interval(values):
    given.require_values(values)
    values = values.to(torch.float64)
    n, mean = len(values), values.sum().item() / len(values)
    error = ((values - mean).square().sum().item() / (n * (n - 1))) ** 0.5
    return {"mean": mean, "low": mean - 1.96 * error, "high": mean + 1.96 * error}
