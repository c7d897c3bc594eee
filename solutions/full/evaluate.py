"""Lesson 8: what a language model is worth before anybody trains it.

    prompts of the test split -> completions -> texts -> rewards -> their mean, and how far it can be trusted

Conventions, the same in every function:

- Prompts are padded on the *left*, so that all end at the same column; completions are filled up on the *right*, behind the first
  EOS, with a pad token that is never EOS. No result depends on padding, nor on which rows share a batch.
- Models are Hugging Face models: `model(input_ids=..., attention_mask=..., position_ids=...)` has `.logits`. They are measured
  with dropout off and left in the mode they were in; no gradient is kept.
- New tensors stand on the device of what comes in. No argument is changed in place, and a tokenizer keeps its settings.

The `require_...` calls are given: they refuse input that makes no sense.
"""

from __future__ import annotations

from typing import Any, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from full.given import evaluation as given
from full.given.evaluation import Evaluation, Progress, Score, ScoredBatch
from full.given.rollout import cache_keyword
from full.given.text import Prompts, Rollout, position_ids


def seed_prompts(tokenizer: Any, texts: Sequence[str], tokens: int = 10) -> Prompts:
    """The first `tokens` tokens of each text (all of it if it has fewer), padded on the left: what a model is asked to continue.

    tokenizer: a Hugging Face tokenizer. Its pad token fills up; the special tokens that some tokenizers put around a text are
    left out. Its settings (`padding_side`, `truncation_side`) may be any, and are as before afterwards.

    Returns Prompts with input_ids and attention_mask, (batch, longest beginning) long on the CPU; the mask is 1 on real tokens.
    Raises ValueError, naming the argument, for no texts, a text without any token, tokens < 1, a tokenizer without pad token.
    """
    given.require_texts(texts)
    given.require_whole("tokens", tokens, 1)
    given.require_pad_token(tokenizer)
    # BEGIN SOLUTION
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    beginnings = [ids[:tokens] for ids in encoded["input_ids"]]
    for row, ids in enumerate(beginnings):
        if not ids:
            raise ValueError(f"texts: expected a token or more in every text, received {texts[row]!r} in row {row}")
    columns = max(len(ids) for ids in beginnings)
    input_ids = [[tokenizer.pad_token_id] * (columns - len(ids)) + ids for ids in beginnings]
    attention_mask = [[0] * (columns - len(ids)) + [1] * len(ids) for ids in beginnings]
    return Prompts(torch.tensor(input_ids), torch.tensor(attention_mask))
    # END SOLUTION


def continue_prompts(
    model: nn.Module,
    prompts: Prompts,
    new_tokens: int = 20,
    *,
    eos_token_id: int | None,
    pad_token_id: int,
    temperature: float = 1.0,
    top_k: int = 0,
    generator: torch.Generator | None = None,
) -> Rollout:
    """What the model writes after each prompt: `new_tokens` tokens, fewer where it draws EOS (eq. 8.3).

    Token by token, for all rows at once:
    1. the model reads what is new, once: the prompts in the first round, the column drawn last in each later one. It remembers
       the rest in its key-value cache, which it returns (`out.cache`, or `out.past_key_values` in older versions of the
       library) and takes as the argument that `cache_keyword(model)` names. With `use_cache=True` it makes one.
       attention_mask covers everything so far, (batch, columns), position_ids what is new (eq. 8.2): a row's own count of real
       tokens, not the column's number.
    2. the logits of the last column are divided by `temperature`; if 0 < top_k < vocabulary, all but a row's own top_k largest
       become -inf (those that equal the last of them stay);
    3. each row draws from the softmax of its own, with `generator` alone: the same state, the same tokens. A row that has drawn
       EOS is over: it gets `pad_token_id` from then on, with attention mask 0.

    eos_token_id: None: nothing ends a completion.  generator: on the CPU; None: torch's global one.
    Returns a Rollout: tokens and attention_mask (batch, prompt + new_tokens), always that many columns, and prompt_length. The
    mask is the prompts', then 1 on what was drawn, the EOS included. Once all rows are over the model need not be asked again.
    Raises ValueError, naming the argument, for new_tokens < 1, pad_token_id = eos_token_id, a temperature that is not positive,
    top_k < 0, prompts without a real token or padded elsewhere than on the left, and more tokens than the model can read.
    """
    given.require_whole("new_tokens", new_tokens, 1)
    given.require_apart(eos_token_id, pad_token_id)
    given.require_sampling(temperature, top_k)
    given.require_prompts(prompts)
    given.require_room(model, prompts, new_tokens)
    # BEGIN SOLUTION
    tokens, attention_mask = prompts.input_ids, prompts.attention_mask
    going = torch.ones(len(prompts), dtype=torch.bool, device=tokens.device)
    new, places, cache = tokens, position_ids(attention_mask), {"use_cache": True}
    keyword, was_training = cache_keyword(model), model.training
    model.eval()
    try:
        with torch.no_grad():
            for _ in range(new_tokens):
                out = model(input_ids=new, attention_mask=attention_mask, position_ids=places, **cache)
                logits = out.logits[:, -1] / temperature  # (B, V)
                if 0 < top_k < logits.shape[-1]:
                    kth = logits.topk(top_k, dim=-1).values[:, -1:]
                    logits = logits.masked_fill(logits < kth, -torch.inf)
                drawn = torch.multinomial(logits.softmax(dim=-1).cpu(), 1, generator=generator).to(tokens.device)  # (B, 1)
                new = torch.where(going.unsqueeze(1), drawn, pad_token_id)
                tokens = torch.cat([tokens, new], dim=1)
                attention_mask = torch.cat([attention_mask, going.unsqueeze(1).to(attention_mask)], dim=1)
                if eos_token_id is not None:
                    going = going & (new[:, 0] != eos_token_id)
                places = places[:, -1:] + 1
                cache = {"use_cache": True, keyword: out[keyword] if keyword in out else out.past_key_values}
    finally:
        model.train(was_training)
    return Rollout(tokens, attention_mask, prompts.input_ids.shape[1])
    # END SOLUTION


def sentiment_reward(classifier: nn.Module, tokenizer: Any, texts: Sequence[str]) -> Float[Tensor, "batch"]:
    """P(positive) of each text, by a sequence classifier (eq. 8.4): the reward of the next lessons. No gradient.

    classifier: a Hugging Face sequence classifier of two labels or more; tokenizer: its own, which is not the language model's.
    The label is the one that config.id2label calls "positive", in whatever case; if none is called so, label 1. The
    probability is that of the softmax over all labels.
    A text is read with the special tokens its tokenizer puts around it, and cut to what the classifier can read
    (config.max_position_embeddings, if there is such a number). What it is worth does not depend on the texts beside it.
    Raises ValueError, naming the argument, for no texts, and a classifier of fewer than two labels.
    """
    given.require_texts(texts)
    given.require_labels(classifier)
    # BEGIN SOLUTION
    names = {str(name).lower(): int(label) for label, name in classifier.config.id2label.items()}
    positive = names.get("positive", 1)
    most = getattr(classifier.config, "max_position_embeddings", None)
    encoded = tokenizer(
        list(texts), padding=True, padding_side="right", truncation=most is not None, max_length=most, return_tensors="pt"
    )
    device, was_training = next(classifier.parameters()).device, classifier.training
    classifier.eval()
    try:
        with torch.no_grad():
            input_ids, attention_mask = encoded["input_ids"].to(device), encoded["attention_mask"].to(device)
            logits = classifier(input_ids=input_ids, attention_mask=attention_mask).logits  # (B, labels)
    finally:
        classifier.train(was_training)
    return logits.softmax(dim=-1)[:, positive]
    # END SOLUTION


def mean_with_interval(values: Float[Tensor, "n"]) -> dict[str, float]:
    """The mean of independent values and its 95% interval (eq. 8.6): {"mean": m, "low": m - 1.96 s/sqrt(n), "high": m + ...}.

    s: the standard deviation with n - 1 in the denominator (eq. 8.5). Computed in float64, whatever comes in.
    Raises ValueError, naming `values`, for fewer than two, and for NaN or infinity.
    """
    given.require_values(values)
    # BEGIN SOLUTION
    values = values.double()
    mean = values.mean().item()
    half = 1.96 * (values.std() / len(values) ** 0.5).item()
    return {"mean": mean, "low": mean - half, "high": mean + half}
    # END SOLUTION


def distinct_n(rows: Sequence[Sequence[int]], n: int) -> float:
    """Distinct-n: of all runs of n neighbouring tokens in these rows, the share that differ from each other (eq. 8.7).

    rows: tokens of each text, of any lengths, without padding. An n-gram lies in one row; all rows are counted together.
    0.0 if no row is long enough for one. Raises ValueError, naming `n`, for n < 1.
    Source: Li et al. 2016, "A diversity-promoting objective function for neural conversation models" (divided by the number of
    n-grams, where they divide by the number of words).
    """
    given.require_whole("n", n, 1)
    # BEGIN SOLUTION
    grams = [tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0
    # END SOLUTION


def compute_reward_for_mini_batch(
    model: nn.Module,
    tokenizer: Any,
    prompts: Prompts,
    score: Score,
    new_tokens: int = 20,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    generator: torch.Generator | None = None,
) -> ScoredBatch:
    """Let the model continue a batch of prompts, turn rows into texts, and have them scored.

    tokenizer: the language model's: its EOS ends a completion, its pad token fills up.
    score: texts -> rewards (batch,). It is called once, with the whole batch.

    A text is the prompt and the completion together, decoded without special tokens: neither padding nor EOS is read by the
    reward model, which has a tokenizer of its own and gets strings.
    Returns a ScoredBatch: rollout (of `continue_prompts`, on the model's device), texts, and rewards (batch,) without gradient.
    Raises ValueError as `continue_prompts` does, and, naming `score`, for rewards of another shape or that are not finite.
    """
    given.require_pad_token(tokenizer)
    # BEGIN SOLUTION
    rollout = continue_prompts(
        model,
        prompts.to(next(model.parameters()).device),
        new_tokens,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        temperature=temperature,
        top_k=top_k,
        generator=generator,
    )
    texts = tokenizer.batch_decode(rollout.tokens, skip_special_tokens=True)
    rewards = score(texts)
    given.require_rewards(rewards, len(texts))
    return ScoredBatch(rollout, texts, rewards.detach())
    # END SOLUTION


def evaluate(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    score: Score,
    *,
    prompt_tokens: int = 10,
    new_tokens: int = 20,
    batch_size: int = 32,
    temperature: float = 1.0,
    top_k: int = 0,
    generator: torch.Generator | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """How the model does on all these texts: their beginnings are continued, and what comes of it is scored (section 8.8).

    texts: the whole test split, in order; batches are neighbours, `batch_size` at a time, the last one what is left. No text is
    left out, and each counts once, whatever batch it is in.
    progress(done, total, mean), if given, is called after every batch with the prompts done, their number in all, and the
    mean reward of those done (a float).

    Returns an Evaluation: reward (of `mean_with_interval` of all rewards), rewards and texts of every row in the order of `texts`
    (rewards on the CPU), and of the completions' own tokens, EOS included, padding not: completion_length (mean number a row),
    eos_rate (share of rows that drew EOS), distinct_1 and distinct_2 (of all rows together).
    Raises ValueError as the functions above do; with one text there is no interval.
    """
    given.require_texts(texts)
    given.require_whole("batch_size", batch_size, 1)
    # BEGIN SOLUTION
    rewards, written, completions, ended = [], [], [], 0
    for first in range(0, len(texts), batch_size):
        prompts = seed_prompts(tokenizer, texts[first : first + batch_size], prompt_tokens)
        batch = compute_reward_for_mini_batch(
            model, tokenizer, prompts, score, new_tokens, temperature=temperature, top_k=top_k, generator=generator
        )
        rewards.extend(batch.rewards.cpu())
        written.extend(batch.texts)
        for tokens, mask in zip(batch.rollout.completion, batch.rollout.mask):
            completions.append(tokens[mask].tolist())
            ended += completions[-1][-1] == tokenizer.eos_token_id
        if progress is not None:
            progress(len(rewards), len(texts), torch.stack(rewards).mean().item())
    rewards = torch.stack(rewards)
    return Evaluation(
        reward=mean_with_interval(rewards),
        rewards=rewards,
        texts=written,
        completion_length=sum(map(len, completions)) / len(completions),
        eos_rate=ended / len(completions),
        distinct_1=distinct_n(completions, 1),
        distinct_2=distinct_n(completions, 2),
    )
    # END SOLUTION
