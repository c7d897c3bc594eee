"""The built-in world: film reviews from a grammar of our own, about which every question has an exact answer.

    from full.given.reviews import world

    reviews = world()
    drawn = reviews.sample(3, seed=0)                    # text, tokens, sentiment, label
    reviews.log_likelihood([drawn[0].text])              # nats, exact
    reviews.naturalness(["The acting is superb superb."])  # nats a token, of any text
    reviews.gold_reward([drawn[0].text])                 # P(positive | text), exact
    reviews.entropy_rate()                               # nats a token: no language model can do better

A review has a sentiment: positive, negative or mixed. It is a chain of three to six sentences, each of the next section
(opening, cast, story, craft, viewing, closing; the middle ones may be left out). Each sentence draws a tone given the
sentiment, then one of the patterns of its section and tone, then the words for the pattern's slots. A review's words tell which
patterns were used, so its sentences' tones are all that is known of its sentiment.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Iterable, Mapping, Sequence

import numpy as np

from .review_grammar import EOS, FOLDER, TONES, Sentence, draw, polished, read_sentences, read_slots, text_of, tokens_of, written
from .review_grammar_machine import END, START, Builder

SENTIMENTS = ("positive", "negative", "mixed")
PRIOR = (0.4, 0.4, 0.2)
SECTIONS = ("opening", "cast", "story", "craft", "viewing", "closing")
NEXT = {  # after a section's sentence comes one of these sections
    "opening": {"cast": 0.5, "story": 0.3, "craft": 0.2},
    "cast": {"story": 0.6, "craft": 0.25, "viewing": 0.15},
    "story": {"craft": 0.5, "viewing": 0.3, "closing": 0.2},
    "craft": {"viewing": 0.5, "closing": 0.5},
    "viewing": {"closing": 1.0},
    "closing": {},
}
TONE = {  # P(tone | sentiment) in the order of TONES: + > 0 < -
    "positive": (0.60, 0.15, 0.13, 0.07, 0.05),
    "negative": (0.05, 0.07, 0.13, 0.15, 0.60),
    "mixed": (0.22, 0.22, 0.12, 0.22, 0.22),
}
OPENING_TONE = {  # reviews begin by saying what film it is
    "positive": (0.27, 0.07, 0.60, 0.04, 0.02),
    "negative": (0.02, 0.04, 0.60, 0.07, 0.27),
    "mixed": (0.10, 0.10, 0.60, 0.10, 0.10),
}
SLIP = 0.001


@lru_cache(maxsize=1)
def world() -> World:
    """The world of the course. Made at the first call, in about a second."""
    slots = read_slots((FOLDER / "slots.txt").read_text(encoding="utf-8"))
    sentences = {name: read_sentences((FOLDER / f"{name}.txt").read_text(encoding="utf-8"), slots) for name in SECTIONS}
    tones = {name: OPENING_TONE if name == "opening" else TONE for name in SECTIONS}
    return World(sentences, NEXT, tones)


@dataclass(frozen=True)
class Review:
    """One drawn review. tokens: without the end token. label: 1 for positive, 0 for negative, a fair coin for mixed."""

    text: str
    tokens: list[str]
    sentiment: str
    label: int


class World:
    """Reviews of a grammar.

    sentences: the patterns of each section.  chain: section -> the probabilities of the next; none: the review ends.
    tones: section -> sentiment -> probabilities in the order of TONES.  The first section begins every review.
    Texts are given as strings, or as lists of tokens. All logarithms are natural, all answers float64.
    """

    def __init__(
        self,
        sentences: Mapping[str, Sequence[Sentence]],
        chain: Mapping[str, Mapping[str, float]],
        tones: Mapping[str, Mapping[str, Sequence[float]]],
    ) -> None:
        self.sentences, self.chain, self.tones = sentences, chain, tones
        self.prior = np.array(PRIOR)
        self.machine = self._compiled()
        self.machine.prior = self.prior

    def _compiled(self):
        builder = Builder(len(SENTIMENTS))
        ends = {name: builder.state() for name in self.sentences}  # the place behind a section's sentence
        origins = {name: {} for name in self.sentences}
        origins[next(iter(self.sentences))][START] = builder.sure
        for name, following in self.chain.items():
            for after, share in following.items():
                origins[after][ends[name]] = share
            if not following:
                builder.add([EOS], {ends[name]: builder.sure}, END)
        for name, patterns in self.sentences.items():
            table = np.array([self.tones[name][sentiment] for sentiment in SENTIMENTS])  # (sentiments, tones)
            for pattern in patterns:
                of_tone = sum(other.tone == pattern.tone for other in patterns)
                weight = table[:, TONES.index(pattern.tone)] / of_tone
                begun = {state: share * weight for state, share in origins[name].items()}
                builder.add(polished(pattern.parts, first=True), begun, ends[name])
        return builder.machine()

    # What can be drawn

    def sample(self, count: int, seed: int) -> list[Review]:
        """That many reviews. The same seed gives the same reviews."""
        rng = np.random.default_rng(seed)
        sentiments = rng.choice(len(SENTIMENTS), size=count, p=self.prior)
        coins = rng.integers(2, size=count)
        reviews = []
        for numbers, sentiment, coin in zip(self.machine.draw(sentiments, rng), sentiments, coins):
            tokens = [self.vocabulary[n] for n in numbers[:-1]]
            label = (1, 0, int(coin))[sentiment]
            reviews.append(Review(text_of(tokens), tokens, SENTIMENTS[sentiment], label))
        return reviews

    def rows(self, count: int, seed: int) -> list[dict]:
        """Labelled reviews: {"text", "label"}, label 1 for positive."""
        return [{"text": review.text, "label": review.label} for review in self.sample(count, seed)]

    def prompts(self, count: int, tokens: int, seed: int) -> list[str]:
        """Beginnings of reviews, of exactly that many tokens. Reviews that are not longer than that are passed over."""
        found: list[str] = []
        for turn in range(100):
            drawn = self.sample(count, seed=_turned(seed, turn))
            found += [text_of(review.tokens[:tokens]) for review in drawn if len(review.tokens) > tokens]
            if len(found) >= count:
                return found[:count]
        raise ValueError(f"tokens: expected fewer than most reviews have, received {tokens}")

    def pairs(self, count: int, tokens: int, seed: int) -> list[dict]:
        """Parallel reviews of opposite sentiment: {"prompt", "positive_completion", "negative_completion"}.

        The rule: a chain of sections is drawn as for a review, and for each section whether its sentence is neutral, as
        for a positive review. A neutral sentence is the same in both. Else a line that has a sentence for either tone
        is drawn (`+-` or `><`, by the tones' shares), and both sentences are filled in: what does not depend on the
        tone is drawn once for both, the rest apart. Kept is what agrees in the first `tokens` tokens and differs after
        them; they are the prompt. Both end with the end of the review.
        """
        rng = np.random.default_rng(seed)
        found: list[dict] = []
        for _ in range(1000 * count):
            if len(found) == count:
                return found
            good, bad = self._parallel(rng)
            if len(good) > tokens < len(bad) and good[:tokens] == bad[:tokens] and good != bad:
                found.append(
                    {
                        "prompt": text_of(good[:tokens]),
                        "positive_completion": text_of(good[tokens:]),
                        "negative_completion": text_of(bad[tokens:]),
                    }
                )
        raise ValueError(f"tokens: expected a number of tokens in which parallel reviews can agree, received {tokens}")

    def _parallel(self, rng) -> tuple[list[str], list[str]]:
        name, good, bad = next(iter(self.sentences)), [], []
        while True:
            strong, mild, neutral, _, _ = self.tones[name]["positive"]
            tone = ("+", ">", "0")[rng.choice(3, p=np.array([strong, mild, neutral]) / (strong + mild + neutral))]
            patterns = [p for p in self.sentences[name] if p.tone == tone and (p.twin or tone == "0")]
            pattern = patterns[rng.integers(len(patterns))]
            kept: dict[int, list[str]] = {}
            first = written(draw(pattern.parts, rng, kept))
            good += first
            bad += first if pattern.twin is None else written(draw(pattern.twin.parts, rng, kept))
            following = self.chain[name]
            if not following:
                return good, bad
            name = list(following)[rng.choice(len(following), p=list(following.values()))]

    # What is known exactly

    @property
    def vocabulary(self) -> list[str]:
        """All tokens of the grammar in order: words (capital and small ones apart), punctuation, the end token."""
        return self.machine.vocabulary

    def numbers(self, text: str | Sequence[str]) -> np.ndarray:
        """The tokens' places in the vocabulary; its length for words it does not have."""
        tokens = tokens_of(text) if isinstance(text, str) else text
        return np.array([self.machine.number.get(token, len(self.vocabulary)) for token in tokens], dtype=np.int64)

    def log_likelihood(self, texts: Iterable[str | Sequence[str]], prefix: bool = False) -> np.ndarray:
        """log p(review) of each text, (texts,), the end token counted; with `prefix`, log of the probability that a
        review begins so.

        -inf where the grammar does not write it.
        """
        numbers = [self.numbers(text) for text in texts]
        if not prefix:
            end = self.machine.number[EOS]
            numbers = [row if len(row) and row[-1] == end else np.append(row, end) for row in numbers]
        return self._mixed(self.machine.forward(numbers)[:, -1])

    def naturalness(self, texts: Iterable[str | Sequence[str]], after: int | Sequence[int] = 0) -> np.ndarray:
        """How natural each text is, (texts,): log p(text) / its tokens, for any text at all, as one that may go on.

        after: tokens of the prompt (one number, or one for each text), which are conditioned on and not counted. A text
        with no token after its prompt is counted as ended there. The grammar is smoothed: with probability SLIP a token
        is a slip, uniform over the vocabulary, and the writer goes on at a place drawn by how often each is visited,
        whatever the review's sentiment. A word that the vocabulary does not have is a slip. An `<eos>` in the text
        counts as a token.
        """
        numbers = [self.numbers(text) for text in texts]
        start = np.broadcast_to(np.asarray(after, dtype=np.int64), len(numbers))
        if (start < 0).any() or any(len(row) < s for row, s in zip(numbers, start)):
            raise ValueError("after: expected for each text a number of its tokens, from 0 to all of them")
        end = self.machine.number[EOS]
        numbers = [row if len(row) > s else np.append(row, end) for row, s in zip(numbers, start)]
        length = np.array([len(row) for row in numbers], dtype=np.int64)
        logs = self._mixed(self.machine.forward(numbers, SLIP))
        return (logs[:, -1] - logs[np.arange(len(numbers)), start]) / (length - start)

    def gold_reward(self, texts: Iterable[str | Sequence[str]]) -> np.ndarray:
        """P(positive | the text so far), (texts,), a mixed review counted as half of one: the exact posterior in the
        smoothed grammar.

        After a slip the writer is in the middle of any sentence, whatever the sentiment: only whole sentences tell
        something again.
        """
        with_prior = self.machine.forward([self.numbers(text) for text in texts], SLIP)[:, -1] + np.log(self.prior)
        posterior = np.exp(with_prior - np.logaddexp.reduce(with_prior, axis=1, keepdims=True))
        return posterior @ np.array([1.0, 0.0, 0.5])

    def _mixed(self, logs: np.ndarray) -> np.ndarray:
        """(..., sentiments) -> log of the mixture by the prior."""
        return np.logaddexp.reduce(logs + np.log(self.prior), axis=-1)

    @cached_property
    def mean_length(self) -> float:
        """Expected tokens of a review, the end token counted."""
        ended = self.machine.flow[1] @ self.prior
        return float(ended @ np.arange(1, len(ended) + 1))

    @cached_property
    def review_entropy(self) -> float:
        """H(review) in nats = H(sentiment) + H(path | sentiment) - H(sentiment | review).

        A review of this grammar is written in one way only given its sentiment (a test goes through all pairs of
        paths), so that its entropy given the sentiment is its path's. What a review says of its sentiment are its
        sentences' tones.
        """
        paths = float(self.machine.path_entropy() @ self.prior)
        return paths + float(-(self.prior * np.log(self.prior)).sum()) - self.sentiment_entropy

    @cached_property
    def sentiment_entropy(self) -> float:
        """H(sentiment | review) in nats, summed over how often each tone can occur in each kind of section."""
        first = next(iter(self.sentences))
        kinds = {name: tuple(map(tuple, (self.tones[name][s] for s in SENTIMENTS))) for name in self.sentences}
        here = {(first, ()): self.prior.copy()}
        ended: dict[tuple, np.ndarray] = defaultdict(lambda: np.zeros(len(SENTIMENTS)))
        while here:
            after: dict[tuple, np.ndarray] = defaultdict(lambda: np.zeros(len(SENTIMENTS)))
            for (name, seen), joint in here.items():
                table = np.array(kinds[name])  # (sentiments, tones)
                for tone in {pattern.tone for pattern in self.sentences[name]}:
                    now = tuple(sorted((*seen, (kinds[name], TONES.index(tone)))))
                    share = joint * table[:, TONES.index(tone)]
                    if not self.chain[name]:
                        ended[now] += share
                    for following, probability in self.chain[name].items():
                        after[following, now] += share * probability
            here = after
        joint = np.array(list(ended.values()))
        posterior = joint / joint.sum(axis=1, keepdims=True)
        logs = np.log(posterior, out=np.zeros_like(posterior), where=posterior > 0)
        return float(-(joint * logs).sum())

    def entropy_rate(self) -> float:
        """Nats a token: H(review) / expected tokens, the end token counted. No model can have a lower cross entropy."""
        return self.review_entropy / self.mean_length


def _turned(seed: int, turn: int) -> int:
    """Seeds of repeated draws; the first is the seed itself."""
    return seed if turn == 0 else int(np.random.SeedSequence([seed, turn]).generate_state(1)[0])
