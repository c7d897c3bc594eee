"""Texts by themselves, so that nothing is ever padded; sums that run along."""


def seed_prompts(tokenizer, texts, tokens=10):
    given.require_texts(texts)
    given.require_whole("tokens", tokens, 1)
    given.require_pad_token(tokenizer)
    rows = []
    for number, text in enumerate(texts):
        rows.append(tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))[:tokens])
        if len(rows[-1]) == 0:
            raise ValueError(f"texts: expected words, received an empty text in row {number}")
    width = len(max(rows, key=len))
    input_ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    attention_mask = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        for place, token in enumerate(reversed(row), start=1):
            input_ids[number, -place] = token
            attention_mask[number, -place] = 1
    return Prompts(input_ids, attention_mask)


@torch.no_grad()
def continue_prompts(
    model, prompts, new_tokens=20, *, eos_token_id, pad_token_id, temperature=1.0, top_k=0, generator=None
):
    given.require_whole("new_tokens", new_tokens, 1)
    given.require_apart(eos_token_id, pad_token_id)
    given.require_sampling(temperature, top_k)
    given.require_prompts(prompts)
    given.require_room(model, prompts, new_tokens)
    mode = model.training
    model.eval()
    lengths, written = prompts.attention_mask.sum(1).tolist(), {}
    for length in set(lengths):  # prompts of one length together: nothing is ever padded
        rows = [row for row, own in enumerate(lengths) if own == length]
        read, cache = prompts.input_ids[rows, -length:], {}
        for row in rows:
            written[row] = []
        for _ in range(new_tokens):
            out = model(input_ids=read, use_cache=True, **cache)
            cache = {cache_keyword(model): out["cache"] if "cache" in out else out["past_key_values"]}
            drawn = [draw(logits, temperature, top_k, generator) for logits in out.logits[:, -1]]
            for row, token in zip(rows, drawn):
                if written[row][-1:] != [eos_token_id]:
                    written[row].append(token)
            read = torch.tensor(drawn).unsqueeze(1)
    model.train(mode)
    missing = [new_tokens - len(written[row]) for row in range(len(lengths))]
    added = torch.tensor([written[row] + [pad_token_id] * more for row, more in enumerate(missing)])
    mask = torch.tensor([[1] * (new_tokens - more) + [0] * more for more in missing])
    return Rollout(
        torch.cat([prompts.input_ids, added], 1), torch.cat([prompts.attention_mask, mask], 1), prompts.input_ids.shape[1]
    )


def draw(logits, temperature, top_k, generator):
    """The first token whose cumulative weight exceeds the drawn share of the whole."""
    weights = (logits / temperature).tolist()
    least = sorted(weights)[-top_k] if 0 < top_k < len(weights) else -math.inf
    most = max(weights)
    weights = [math.exp(weight - most) if weight >= least else 0.0 for weight in weights]
    reached = torch.rand((), generator=generator, dtype=torch.float64).item() * sum(weights)
    for token, weight in enumerate(weights):
        reached = reached - weight
        if reached < 0:
            return token
    return weights.index(1.0)


@torch.no_grad()
def sentiment_reward(classifier, tokenizer, texts):
    given.require_texts(texts)
    given.require_labels(classifier)
    positive = 1
    for label, name in classifier.config.id2label.items():
        if name.lower() == "positive":
            positive = label
    limit = getattr(classifier.config, "max_position_embeddings", None)
    modes = {part: part.training for part in classifier.modules()}
    classifier.eval()
    rewards = []
    for text in texts:
        ids = tokenizer.encode(text)[:limit]
        logits = classifier(input_ids=torch.tensor([ids])).logits[0]
        rewards.append(logits.log_softmax(0)[positive].exp())
    for part, mode in modes.items():
        part.training = mode
    return torch.stack(rewards)


def mean_with_interval(values):
    given.require_values(values)
    mean = squares = 0.0
    for count, value in enumerate(values.tolist(), start=1):  # Welford's recurrence
        step = value - mean
        mean += step / count
        squares += step * (value - mean)
    half = 1.96 * math.sqrt(squares / (count - 1) / count)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def distinct_n(rows, n):
    given.require_whole("n", n, 1)
    seen, every = [], 0
    for row in rows:
        for first in range(len(row)):
            gram = row[first : first + n]
            if len(gram) == n:
                every += 1
                if gram not in seen:
                    seen.append(gram)
    return len(seen) / every if every else 0.0


def compute_reward_for_mini_batch(
    model, tokenizer, prompts, score, new_tokens=20, *, temperature=1.0, top_k=0, generator=None
):
    given.require_pad_token(tokenizer)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    more = {"temperature": temperature, "top_k": top_k, "generator": generator}
    rollout = continue_prompts(model, prompts, new_tokens, **ends, **more)
    texts = []
    for tokens, real in zip(rollout.tokens.tolist(), rollout.attention_mask.tolist()):
        kept = [token for token, one in zip(tokens, real) if one and token != tokenizer.eos_token_id]
        texts.append(tokenizer.decode(kept))
    rewards = score(texts)
    if rewards.dim() != 1 or len(rewards) != len(texts) or not torch.isfinite(rewards).all():
        raise ValueError(f"score: expected a finite number for each text, received {rewards}")
    return ScoredBatch(rollout=rollout, texts=texts, rewards=rewards.detach().clone())


def evaluate(
    model, tokenizer, texts, score, *, prompt_tokens=10, new_tokens=20, batch_size=32, temperature=1.0, top_k=0, generator=None,
    progress=None,
):  # fmt: skip
    given.require_texts(texts)
    given.require_whole("batch_size", batch_size, 1)
    waiting, done, total, length, ends = list(texts), 0, 0.0, 0, 0
    rewards, written, completions = [], [], []
    while waiting:
        now, waiting = waiting[:batch_size], waiting[batch_size:]
        prompts = seed_prompts(tokenizer, now, prompt_tokens)
        more = {"temperature": temperature, "top_k": top_k, "generator": generator}
        batch = compute_reward_for_mini_batch(model, tokenizer, prompts, score, new_tokens, **more)
        for row in range(len(now)):
            count = int(batch.rollout.mask[row].sum())
            completions.append(batch.rollout.completion[row, :count].tolist())
            length += count
            ends += tokenizer.eos_token_id in completions[-1]
            total += float(batch.rewards[row])
            rewards.append(float(batch.rewards[row]))
            written.append(batch.texts[row])
        done += len(now)
        if progress is not None:
            progress(done, len(texts), total / done)
    rewards = torch.tensor(rewards, dtype=torch.float64)
    shares = {f"distinct_{n}": distinct_n(completions, n) for n in (1, 2)}
    return Evaluation(
        reward=mean_with_interval(rewards), rewards=rewards, texts=written, completion_length=length / done, eos_rate=ends / done,
        **shares,
    )  # fmt: skip


import math
