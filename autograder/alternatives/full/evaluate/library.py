"""As much as the libraries do by themselves; Gumbel's way of drawing; the end known by a running count."""

import collections

import numpy


def seed_prompts(tokenizer, texts, tokens=10):
    given.require_texts(texts)
    given.require_whole("tokens", tokens, 1)
    given.require_pad_token(tokenizer)
    cut = [tokenizer.encode(text, add_special_tokens=False)[:tokens] for text in texts]
    if min(map(len, cut)) == 0:
        raise ValueError(f"texts: expected a token or more, received none in row {[len(ids) for ids in cut].index(0)}")
    padded = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(ids) for ids in cut], batch_first=True, padding_value=tokenizer.pad_token_id, padding_side="left"
    )
    lengths = torch.tensor([len(ids) for ids in cut])
    return Prompts(padded, (torch.arange(padded.shape[1]) >= padded.shape[1] - lengths.unsqueeze(1)).long())


def continue_prompts(
    model, prompts, new_tokens=20, *, eos_token_id, pad_token_id, temperature=1.0, top_k=0, generator=None
):
    given.require_whole("new_tokens", new_tokens, 1)
    given.require_apart(eos_token_id, pad_token_id)
    given.require_sampling(temperature, top_k)
    given.require_prompts(prompts)
    given.require_room(model, prompts, new_tokens)
    batch, width = prompts.input_ids.shape
    tokens = torch.full((batch, width + new_tokens), pad_token_id)
    mask = torch.zeros_like(tokens)
    tokens[:, :width], mask[:, :width] = prompts.input_ids, prompts.attention_mask
    over = torch.zeros(batch, dtype=torch.bool)
    lengths, cache, mode = prompts.attention_mask.sum(1), None, model.training
    model.eval()
    with torch.inference_mode():
        for column in range(width, width + new_tokens):
            if cache is None:
                new, places = tokens[:, :width], (mask[:, :width].cumsum(1) - 1).clamp(min=0)
            else:
                new, places = tokens[:, column - 1 : column], (lengths + column - width - 1).unsqueeze(1)
            asked = {} if cache is None else {cache_keyword(model): cache}
            out = model(
                input_ids=new, attention_mask=mask[:, :column], position_ids=places, use_cache=True, logits_to_keep=1, **asked
            )
            cache = out.cache if "cache" in out else out.past_key_values
            log_probs = torch.log_softmax(out.logits[:, -1].double() / temperature, -1)
            if top_k:
                allowed = log_probs >= log_probs.sort(dim=-1, descending=True).values[:, [min(top_k, log_probs.shape[1]) - 1]]
                log_probs = torch.where(allowed, log_probs, -torch.inf)
            noise = torch.empty_like(log_probs).exponential_(generator=generator).log()
            drawn = (log_probs - noise).argmax(-1)
            tokens[:, column] = torch.where(over, pad_token_id, drawn)
            mask[:, column] = (~over).long()
            if eos_token_id is not None:
                over = over | (tokens[:, column] == eos_token_id)
            if over.all():
                break
    model.train(mode)
    return Rollout(tokens, mask, width)


def sentiment_reward(classifier, tokenizer, texts):
    given.require_texts(texts)
    given.require_labels(classifier)
    positive = [label for label, name in classifier.config.id2label.items() if str(name).upper() == "POSITIVE"] or [1]
    limit = {}
    if hasattr(classifier.config, "max_position_embeddings"):
        limit = {"truncation": True, "max_length": classifier.config.max_position_embeddings}
    read = [tokenizer(text, **limit)["input_ids"] for text in texts]
    width = max(map(len, read))
    input_ids = torch.tensor([ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids in read])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in read])
    mode = classifier.training
    with torch.inference_mode():
        logits = classifier.eval()(input_ids, attention_mask=mask).logits.clone()
    classifier.train(mode)
    others = logits[:, [label for label in range(logits.shape[1]) if label != positive[0]]]
    return torch.sigmoid(logits[:, positive[0]] - others.logsumexp(1)).clone()


def mean_with_interval(values):
    given.require_values(values)
    numbers = values.numpy().astype(numpy.float64)
    error = numpy.std(numbers, ddof=1) / numpy.sqrt(numbers.size)
    low, high = numbers.mean() - 1.96 * error, numbers.mean() + 1.96 * error
    return {"low": float(low), "mean": float(numbers.mean()), "high": float(high)}


def distinct_n(rows, n):
    given.require_whole("n", n, 1)
    counts = collections.Counter()
    for row in rows:
        counts.update(zip(*(row[i:] for i in range(n))))
    return len(counts) / counts.total() if counts else 0.0
