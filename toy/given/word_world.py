"""The word world (lesson 7): a language of short sentences in which every question has an exact answer.

    they were very happy but angry yesterday
    i am joyful

It is spoken with the word agent's six words and a few more. A sentence is a subject, its verb, one to three adjectives and
perhaps a time. Four things tie its words together: the verb agrees with the subject; after "and" comes another adjective of
the same sign, after "but" one of the opposite sign; and the time agrees with the tense of the verb, however far back that
stands. All sentences can be listed with their probabilities, so the entropy rate, the likelihood of a sentence and a model's
expected loss are sums, not estimates. Given code: used as it is.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Callable, Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .words import WORDS

TOKENS = (
    *WORDS,
    "i",
    "they",
    "am",
    "was",
    "are",
    "were",
    "very",
    "and",
    "but",
    "today",
    "yesterday",
    "<bos>",
    "<eos>",
    "<pad>",
)
BOS, EOS, PAD = 17, 18, 19  # three tokens, three meanings: a padding token that also meant the end would hide the end
_INDEX = {word: index for index, word in enumerate(TOKENS)}
_SUBJECT = {"i": 0.6, "they": 0.4}
_VERB = {"i": {"am": 0.55, "was": 0.45}, "they": {"are": 0.4, "were": 0.6}}
_TIME = {"am": "today", "are": "today", "was": "yesterday", "were": "yesterday"}
_ADJECTIVE = ({"happy": 0.5, "joyful": 0.2, "pleasant": 0.3}, {"sad": 0.5, "angry": 0.3, "unpleasant": 0.2})
_POSITIVE_FIRST = 0.6  # of a sentence's first adjective
_VERY = 0.25  # before each adjective
_MOST_ADJECTIVES = 3
_AFTER = {"and": 0.25, "but": 0.15, "time": 0.35, "<eos>": 0.25}  # what comes after an adjective
_AFTER_LAST = {"time": 0.6, "<eos>": 0.4}


def next_word(words: tuple[str, ...]) -> dict[str, float]:
    """The probability of each word that can follow the beginning of a sentence; "<eos>" ends it. They sum to 1."""
    if not words:
        return _SUBJECT
    if len(words) == 1:
        return _VERB[words[0]]
    if words[-1] in _TIME.values():
        return {"<eos>": 1.0}
    adjectives = [word for word in words if word in WORDS]
    if words[-1] in WORDS:
        following = _AFTER_LAST if len(adjectives) == _MOST_ADJECTIVES else _AFTER
        return {_TIME[words[1]] if word == "time" else word: p for word, p in following.items()}
    adjective = _next_adjective(words, adjectives)
    if words[-1] == "very":
        return adjective
    return {word: (1 - _VERY) * p for word, p in adjective.items()} | {"very": _VERY}


def _next_adjective(words: tuple[str, ...], adjectives: list[str]) -> dict[str, float]:
    if not adjectives:
        signs = ((_POSITIVE_FIRST, _ADJECTIVE[0]), (1 - _POSITIVE_FIRST, _ADJECTIVE[1]))
        return {word: share * p for share, table in signs for word, p in table.items()}
    before = adjectives[-1]
    sign = before not in _ADJECTIVE[0]
    if "but" in words[-2:]:  # the conjunction, or the one before "very"
        return _ADJECTIVE[not sign]
    others = {word: p for word, p in _ADJECTIVE[sign].items() if word != before}
    total = sum(others.values())
    return {word: p / total for word, p in others.items()}


class WordWorld:
    """All sentences of the word world with their probabilities.

    tokens: (sentences, 13) long: <bos>, the words, <eos>, then <pad>.  mask: (sentences, 13) bool, True on all but <pad>.
    log_probs: (sentences,) float64, nats; their exponentials sum to 1.
    entropy: of a sentence, nats.  mean_length: words and <eos> of a sentence, on average.
    entropy_rate: entropy / mean_length, nats per token: what no model's expected loss can be below.
    """

    def __init__(self) -> None:
        listed = list(_sentences((), 0.0))
        longest = max(len(words) for words, _ in listed)
        rows = [[BOS, *(_INDEX[word] for word in words), EOS] + [PAD] * (longest - len(words)) for words, _ in listed]
        self.tokens = torch.tensor(rows)
        self.mask = self.tokens != PAD
        self.log_probs = torch.tensor([log_p for _, log_p in listed], dtype=torch.float64)
        self._places = {words: place for place, (words, _) in enumerate(listed)}
        lengths = self.mask.sum(1) - 1  # <bos> is given, not predicted
        self.entropy = float(-(self.log_probs.exp() * self.log_probs).sum())
        self.mean_length = float((self.log_probs.exp() * lengths).sum())
        self.entropy_rate = self.entropy / self.mean_length

    def __len__(self) -> int:
        """The number of sentences."""
        return len(self.tokens)

    def sample(self, count: int, generator: torch.Generator) -> tuple[Int[Tensor, "count time"], Bool[Tensor, "count time"]]:
        """`count` independent sentences, as (tokens, mask) cut to the longest of them."""
        places = torch.multinomial(self.log_probs.exp(), count, replacement=True, generator=generator)
        time = int(self.mask[places].sum(1).max())
        return self.tokens[places, :time], self.mask[places, :time]

    def batches(
        self, count: int, size: int, generator: torch.Generator
    ) -> Iterator[tuple[Int[Tensor, "size time"], Bool[Tensor, "size time"]]]:
        """`count` fresh batches of `size` sentences: no sentence is ever seen "again", so nothing can be overfitted."""
        for _ in range(count):
            yield self.sample(size, generator)

    def log_prob(self, text: str) -> float:
        """log p of a sentence, in nats, its end included: -inf for anything that is not a sentence of this world."""
        place = self._places.get(tuple(text.split()))
        return -math.inf if place is None else float(self.log_probs[place])

    def sentence_log_probs(self, model: Callable[[Tensor, Tensor], Tensor]) -> Float[Tensor, "sentences"]:
        """log p_model of every sentence after <bos>, in nats. `model(tokens, mask)` gives logits (batch, time, 20)."""
        found = []
        with torch.no_grad():
            for tokens, mask in zip(self.tokens.split(2048), self.mask.split(2048)):
                log_probs = model(tokens, mask)[:, :-1].double().log_softmax(-1)
                picked = log_probs.gather(-1, tokens[:, 1:].unsqueeze(-1)).squeeze(-1)
                found.append(picked.masked_fill(~mask[:, 1:], 0.0).sum(1))
        return torch.cat(found)

    def expected_loss(self, model: Callable[[Tensor, Tensor], Tensor]) -> float:
        """The model's expected loss in nats per token, exactly: entropy_rate + KL(world || model) / mean_length."""
        return float(-(self.log_probs.exp() * self.sentence_log_probs(model)).sum()) / self.mean_length

    def floor_with_memory(self, words: int) -> float:
        """The least expected loss, in nats per token, of a model that sees only the last `words` tokens before each one."""
        pairs: Counter[tuple] = Counter()
        for row, p, length in zip(self.tokens.tolist(), self.log_probs.exp().tolist(), self.mask.sum(1).tolist()):
            for t in range(1, length):
                pairs[tuple(row[max(0, t - words) : t]), row[t]] += p
        contexts: Counter[tuple] = Counter()
        for (context, _), p in pairs.items():
            contexts[context] += p
        return -sum(p * math.log(p / contexts[context]) for (context, _), p in pairs.items()) / self.mean_length


def encode(text: str) -> list[int]:
    """The tokens of some words, <bos> in front: encode("i am") is [17, 6, 8]. Raises ValueError for a word that is not one."""
    unknown = [word for word in text.split() if word not in _INDEX]
    if unknown:
        raise ValueError(f"text: expected words of the word world, received {unknown[0]!r}; it has {' '.join(TOKENS[:BOS])}")
    return [BOS, *(_INDEX[word] for word in text.split())]


def decode(tokens: Tensor | list[int]) -> str:
    """The words of a row of tokens up to its end, without <bos> and <pad>."""
    row = [int(token) for token in tokens]
    row = row[: row.index(EOS)] if EOS in row else row
    return " ".join(TOKENS[token] for token in row if token not in (BOS, PAD))


def _sentences(words: tuple[str, ...], log_p: float) -> Iterator[tuple[tuple[str, ...], float]]:
    """Every sentence that begins with `words`, and its log-probability."""
    for word, p in next_word(words).items():
        if word == "<eos>":
            yield words, log_p + math.log(p)
        else:
            yield from _sentences((*words, word), log_p + math.log(p))
