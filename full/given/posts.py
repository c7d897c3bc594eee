"""The post world: posts about everyday troubles, each with a summary of one sentence, about which the gold score is exact.

    from full.given.posts import world

    posts = world()
    drawn = posts.draw(3, seed=0)                    # post, summary (its author's), complete (one that tells all)
    posts.scores(drawn, [p.summary for p in drawn])  # in [0, 1]
    posts.comparisons(100, seed=1)                   # {"prompt", "chosen", "rejected"}

A post tells six things: who did what with which thing, when, what came of it, and what its author asks. Between them stand
sentences that tell nothing, and some that tell of other people, things and times. A summary says the same in one sentence: "My
aunt washed my clock last night and it is full of water, should I send a bill?" Authors leave things out (LEFT_OUT).

The gold score of a summary: its phrases of post_text/slots.txt are found from left to right, the longest first. A phrase the post
tells of counts 1 for the first time; any other phrase, and one said again, costs 1; a word that is neither in a phrase nor one of
JOINING costs 1/4. The sum is divided by six and is never below 0. Capitals do not matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Mapping, Sequence

import numpy as np

from .question_kinds import capital, read_values

FOLDER = Path(__file__).parent / "post_text"
SLOTS = ("who", "deed", "thing", "when", "outcome", "ask")
MUST, MAY = ("deed", "outcome", "question"), ("hello", "people", "past", "mood", "advice", "bye")
ORDER = ("hello", "people", "deed", "outcome", "past", "mood", "advice", "question", "bye")
"Sentences of a post, in this order: those of MUST, and two to five of MAY."
LEFT_OUT = {"who": 0.25, "when": 0.7, "outcome": 0.4, "ask": 0.15}
"P(an author leaves this out of the summary)."
DROPPED = (0.1, 0.35, 0.6)
"A summary to compare leaves each of these out with one of these probabilities, drawn once for the summary."
FALSE = 0.12
"P(a thing told in a summary to compare is a false one)."
SHARPNESS = 12.0
"P(first preferred) = sigmoid(SHARPNESS (gold(first) - gold(second)))."
JOINING = frozenset(("somebody", "and", "should", "i", ",", ".", "?"))
STRAY = 0.25
TLDR = "TL;DR:"


@lru_cache(maxsize=1)
def world() -> PostWorld:
    """The post world of the course."""
    slots = read_values((FOLDER / "slots.txt").read_text(encoding="utf-8"))
    return PostWorld(slots, read_lines((FOLDER / "lines.txt").read_text(encoding="utf-8")))


def read_lines(text: str) -> dict[str, tuple[str, ...]]:
    """place -> its sentences."""
    return {place: lines for place, lines in read_values(text).items()}


@dataclass(frozen=True)
class Post:
    """A post, its author's summary, and one that leaves nothing out. content: slot -> phrase."""

    id: str
    post: str
    summary: str
    complete: str
    content: Mapping[str, str]

    @property
    def prompt(self) -> str:
        """What a language model goes on from."""
        return prompt_of(self.post)


def prompt_of(post: str) -> str:
    return f"{post} {TLDR}"


def summary_of(told: Mapping[str, str]) -> str:
    """The sentence that tells these things: deed and thing always, the others where they are given."""
    text = f"{told.get('who', 'somebody')} {told['deed']} {told['thing']}"
    if "when" in told:
        text += f" {told['when']}"
    if "outcome" in told:
        text += f" and {told['outcome']}"
    return capital(text + (f", should I {told['ask']}?" if "ask" in told else "."))


class PostWorld:
    """Draws posts and scores summaries. The same seed gives the same posts; fewer of them are the first of more."""

    def __init__(self, slots: Mapping[str, Sequence[str]], lines: Mapping[str, Sequence[str]]) -> None:
        self.slots, self.lines = slots, lines
        self._slot_of = {tuple(phrase.lower().split()): slot for slot, stock in slots.items() for phrase in stock}
        self._longest = max(map(len, self._slot_of))
        self._content = lru_cache(maxsize=1 << 14)(self._content_of)
        self._tellings = [re.compile(self._pattern(line)) for place in MUST for line in lines[place]]

    def _pattern(self, line: str) -> str:
        """What reads such a sentence in small letters: its groups are named after the slots."""

        def group(match: re.Match) -> str:
            return f"(?P<{match[1]}>{'|'.join(re.escape(phrase.lower()) for phrase in self.slots[match[1]])})"

        return re.sub(r"\\{(\w+)\\}", group, re.escape(line.lower()))

    @property
    def vocabulary(self) -> list[str]:
        """Every word that occurs, in order; the signs , . ? apart."""
        texts = [text for stock in self.slots.values() for phrase in stock for text in (phrase, capital(phrase))]
        texts += [re.sub(r"{\w*}", "", line) for stock in self.lines.values() for line in stock]
        words = {word for text in texts for word in re.findall(r"[^\s.,?]+", text)}
        return sorted(words | {"Somebody", "and", "should", "I", TLDR})

    # What can be drawn

    def draw(self, count: int, seed: int) -> list[Post]:
        """That many posts, no two alike."""
        found: dict[str, Post] = {}
        number = 0
        while len(found) < count:
            post = self._drawn(np.random.default_rng([seed, number]), f"p{seed}-{number}")
            found.setdefault(post.post, post)
            number += 1
        return list(found.values())

    def _drawn(self, rng: np.random.Generator, name: str) -> Post:
        content, other = {}, {}
        for slot in SLOTS:
            first, second = rng.choice(len(self.slots[slot]), 2, replace=False)
            content[slot], other["other_" + slot] = self.slots[slot][first], self.slots[slot][second]
        there = {*MUST, *(MAY[n] for n in rng.permutation(len(MAY))[: rng.integers(2, 6)])}
        texts = []
        for place in ORDER:
            if place in there:
                line = self.lines[place][rng.integers(len(self.lines[place]))]
                texts.append(capital(line.format(**content, **other)))
        kept = {slot: phrase for slot, phrase in content.items() if rng.random() >= LEFT_OUT.get(slot, 0.0)}
        return Post(name, " ".join(texts), summary_of(kept), summary_of(content), content)

    def candidate(self, post: Post, rng: np.random.Generator) -> str:
        """A summary to compare: things are left out by DROPPED and told falsely by FALSE."""
        dropped, told = DROPPED[rng.integers(len(DROPPED))], {}
        for slot, phrase in post.content.items():
            if slot in LEFT_OUT and rng.random() < dropped:
                continue
            others = [other for other in self.slots[slot] if other != phrase]
            told[slot] = others[rng.integers(len(others))] if rng.random() < FALSE else phrase
        return summary_of(told)

    def comparisons(self, count: int, seed: int) -> list[dict]:
        """Two summaries of different gold score for each of `count` posts: {"id", "prompt", "chosen", "rejected"}.

        The first is preferred with probability sigmoid(SHARPNESS (gold(first) - gold(second))), which is the noise in the labels.
        """
        found = []
        for post in self.draw(count, seed):
            rng = np.random.default_rng([seed, 1, *post.id.encode()])
            while True:
                pair = [self.candidate(post, rng) for _ in range(2)]
                first, second = self.scores([post, post], pair)
                if first != second:
                    break
            if rng.random() >= 1 / (1 + np.exp(-SHARPNESS * (first - second))):
                pair.reverse()
            found.append({"id": post.id, "prompt": post.prompt, "chosen": pair[0], "rejected": pair[1]})
        return found

    def rows(self, count: int, seed: int) -> list[dict]:
        """Posts with their author's summary: {"id", "prompt", "post", "summary", "complete"}."""
        names = ("id", "prompt", "post", "summary", "complete")
        return [{name: getattr(post, name) for name in names} for post in self.draw(count, seed)]

    # What is known exactly

    def scores(self, posts: Sequence[Post | str], summaries: Sequence[str]) -> np.ndarray:
        """The gold score of each summary, (n,). posts: as they were drawn, or their texts or prompts."""
        if len(posts) != len(summaries):
            raise ValueError(f"summaries: expected one for each of {len(posts)} posts, received {len(summaries)}")
        return np.array([self._score(post, text) for post, text in zip(posts, summaries)], dtype=np.float64)

    def _score(self, post: Post | str, summary: str) -> float:
        content = self._content(post if isinstance(post, str) else post.post)
        kept, wrong, stray = set(), 0, 0
        for slot, phrase in self.phrases(summary):
            if slot is None:
                stray += phrase not in JOINING
            elif content[slot] == phrase and slot not in kept:
                kept.add(slot)
            else:
                wrong += 1
        return max(0.0, len(kept) - wrong - STRAY * stray) / len(SLOTS)

    def phrases(self, text: str) -> list[tuple[str | None, str]]:
        """(slot, phrase) from left to right, in small letters; (None, word) of words and signs that are in no phrase."""
        words = re.findall(r"[.,?]|[^\s.,?]+", text.lower())
        found, start = [], 0
        while start < len(words):
            for length in range(min(self._longest, len(words) - start), 0, -1):
                slot = self._slot_of.get(tuple(words[start : start + length]))
                if slot or length == 1:
                    found.append((slot, " ".join(words[start : start + length])))
                    start += length
                    break
        return found

    def _content_of(self, text: str) -> dict[str, str]:
        """slot -> what the post tells, in small letters, read from its text."""
        post = " ".join(text.removesuffix(TLDR).lower().split())
        content: dict[str, str] = {}
        for sentence in re.findall(r"[^.?]+[.?]", post):
            for pattern in self._tellings:
                match = pattern.fullmatch(sentence.strip())
                if match:
                    content |= match.groupdict()
        if set(content) != set(SLOTS):
            raise ValueError(f"posts: expected one of the post world, received {text!r:.80}")
        return content
