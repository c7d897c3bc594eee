"""The grammar as a weighted finite-state machine, and what is computed on it: visits, draws, forward probabilities.

A state is a place in a sentence or between two; an arc carries a word and takes the machine to the next state. All that depends
on the review's sentiment is which sentence is begun, so an arc's probability has one entry for each sentiment.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Sequence

import numpy as np

from .review_grammar import Choice

if TYPE_CHECKING:
    from scipy import sparse

START, END = 0, 1


class Builder:
    """Collects states and arcs. Probabilities are arrays, one entry for each sentiment."""

    def __init__(self, sentiments: int) -> None:
        self.states = 2
        self.sure = np.ones(sentiments)
        self.arcs: list[tuple[int, str, int, np.ndarray]] = []

    def state(self) -> int:
        self.states += 1
        return self.states - 1

    def add(self, parts: list, origins: dict[int, np.ndarray], target: int) -> None:
        """A sequence that begins at `origins` (state -> probability, by sentiment) and ends at `target` with its last word."""
        left = self._sequence(parts, origins, target)
        if set(left) != {target}:
            raise ValueError("a sentence has to end with a word that is always there")

    def _sequence(self, parts, origins, target):
        for at, part in enumerate(parts):
            goal = target if at == len(parts) - 1 else self.state()
            origins = self._word(part, origins, goal) if isinstance(part, str) else self._choice(part, origins, goal)
        return origins

    def _word(self, word, origins, goal):
        for state, weight in origins.items():
            self.arcs.append((state, word, goal, weight))
        return {goal: self.sure}

    def _choice(self, choice: Choice, origins, goal):
        """All alternatives end at `goal`; an empty one leaves its share at the origins."""
        after: dict[int, np.ndarray] = {}
        for weight, sequence in choice.options:
            scaled = {state: share * weight for state, share in origins.items()}
            for state, share in (self._sequence(sequence, scaled, goal) if sequence else scaled).items():
                after[state] = self.sure if state == goal else after.get(state, 0.0) + share
        return after

    def machine(self) -> Machine:
        return Machine(self.states, self.arcs)


class Machine:
    """vocabulary: the words in order.  origin, word, target: (arcs,), sorted by origin and word.  probs: (arcs, sentiments).

    States are numbered; 0 is where reviews begin and 1 where they have ended. The machine has no cycles.
    """

    def __init__(self, states: int, arcs: Sequence[tuple[int, str, int, np.ndarray]]) -> None:
        origins, words, goals, weights = zip(*arcs)
        self.vocabulary = sorted(set(words))
        self.number = {word: n for n, word in enumerate(self.vocabulary)}
        origin, target = np.array(origins), np.array(goals)
        word = np.array([self.number[word] for word in words])
        probs = np.concatenate(weights).reshape(len(arcs), -1)
        self.states, self.sentiments = states, probs.shape[1]
        order = np.lexsort((target, word, origin))
        self.origin, self.word, self.target, self.probs = origin[order], word[order], target[order], probs[order]
        self.key = self.origin * len(self.vocabulary) + self.word  # sorted

    def by_origin(self, values: np.ndarray) -> np.ndarray:
        """(arcs, ...) summed over the arcs of each state."""
        total = np.zeros((self.states, *values.shape[1:]))
        np.add.at(total, self.origin, values)
        return total

    @cached_property
    def flow(self) -> tuple[np.ndarray, np.ndarray]:
        """(expected visits of each state (states, sentiments), probability of a review of each length (steps, sentiments))."""
        here = np.zeros((self.states, self.sentiments))
        here[START] = 1.0
        visits, ended = here.copy(), []
        while here.any():
            moved = here[self.origin] * self.probs
            here = np.stack([np.bincount(self.target, m, self.states) for m in moved.T], axis=1)
            visits += here
            ended.append(here[END].copy())
        return visits, np.array(ended)

    def path_entropy(self) -> np.ndarray:
        """Entropy of the path from start to end given each sentiment, (sentiments,), in nats."""
        logs = np.log(self.probs, out=np.zeros_like(self.probs), where=self.probs > 0)
        return (self.flow[0] * self.by_origin(-self.probs * logs)).sum(0)

    # Drawing

    @cached_property
    def _steps(self) -> tuple[np.ndarray, np.ndarray]:
        """(running sums of the arcs' probabilities, each state's beginning at a whole number; each state's first arc)."""
        first = np.searchsorted(self.origin, np.arange(self.states + 1))
        running = np.cumsum(self.probs, axis=0)
        before = np.concatenate([np.zeros((1, self.sentiments)), running])[first[:-1]]
        inside = (running - before[self.origin]).clip(0.0, 1.0)
        return inside + self.origin[:, None], first

    def draw(self, sentiments: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        """Word numbers of one review for each sentiment, its end token included."""
        running, first = self._steps
        state, going = np.full(len(sentiments), START), np.arange(len(sentiments))
        written: list[np.ndarray] = []
        while len(going):
            arc = np.empty(len(going), dtype=np.int64)
            uniform = rng.random(len(sentiments))[going]
            for s in range(self.sentiments):
                rows = sentiments[going] == s
                arc[rows] = np.searchsorted(running[:, s], state[going][rows] + uniform[rows], side="right")
            arc = np.minimum(arc, first[state[going] + 1] - 1)
            column = np.full(len(sentiments), -1)
            column[going], state[going] = self.word[arc], self.target[arc]
            written.append(column)
            going = going[state[going] != END]
        table = np.stack(written, axis=1)
        return [row[row >= 0] for row in table]

    # Forward probabilities

    @cached_property
    def lost(self) -> tuple[np.ndarray, np.ndarray, tuple]:
        """What follows a slip: the state is drawn from the share of its visits, the same for every sentiment.

        Returns (probability of each state; of each next word, (words, sentiments); and of two next words with the state after
        them, as a table sorted by the two words: key, state, (rows, sentiments)).
        """
        words = len(self.vocabulary)
        visits = self.flow[0] @ self.prior
        visits[END] = 0.0
        share = visits / visits.sum()
        mass = share[self.origin, None] * self.probs
        first = np.stack([np.bincount(self.word, m, words) for m in mass.T], axis=1)
        place, index = np.unique(self.word * self.states + self.target, return_inverse=True)
        mass = np.stack([np.bincount(index, m, len(place)) for m in mass.T], axis=1)
        rows, arcs = self._spread(place % self.states)
        key = (place // self.states)[rows] * words + self.word[arcs]
        order = np.argsort(key, kind="stable")
        return share, first, (key[order], self.target[arcs][order], (mass[rows] * self.probs[arcs])[order])

    prior: np.ndarray
    "Of the sentiments; set by the world."

    def _spread(self, state: np.ndarray, word: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(row, arc) for every arc out of each state, with this word where one is given."""
        words = len(self.vocabulary)
        low = state * words + (0 if word is None else word)
        high = state * words + (words - 1 if word is None else word)
        return _ranges(np.searchsorted(self.key, low), np.searchsorted(self.key, high, side="right"))

    def forward(self, texts: Sequence[np.ndarray], slip: float = 0.0) -> np.ndarray:
        """log p(the first t words | sentiment), (texts, longest + 1, sentiments); after a text's end its last value.

        texts: word numbers; any other number stands for a word that is not in the vocabulary. With `slip` in (0, 1) every word
        is a slip with this probability: uniform over the vocabulary, the state after it drawn as `lost` says.
        """
        rows, words, longest = len(texts), len(self.vocabulary), max(map(len, texts), default=0)
        table = np.full((rows, longest), -1)
        for row, text in enumerate(texts):
            table[row, : len(text)] = text
        going = np.arange(longest) < np.array([len(text) for text in texts], dtype=np.int64).reshape(-1, 1)
        known = (table >= 0) & (table < words)
        logs = np.zeros((rows, longest + 1, self.sentiments))
        who, state, mass = np.arange(rows), np.full(rows, START), np.ones((rows, self.sentiments))  # what holds to the grammar
        total, offset = mass.copy(), np.zeros((rows, 1))
        # Lost by the last word; by the word before it; of those, what wrote the last word.
        slipped = earlier = fresh = np.zeros((rows, self.sentiments))
        for t in range(longest):
            word = table[:, t]
            who, state, mass = self._stepped(who, state, mass * (1 - slip), np.where(known[:, t], word, -1))
            new_fresh = np.zeros_like(total)
            if slip:
                _, first, (key, target, weight) = self.lost
                new_fresh[known[:, t]] = slipped[known[:, t]] * first[word[known[:, t]]] * (1 - slip)
                if t:
                    pair = np.where(known[:, t] & known[:, t - 1], table[:, t - 1] * words + word, -1)
                    row, entry = _ranges(np.searchsorted(key, pair), np.searchsorted(key, pair, side="right"))
                    who, state = np.concatenate([who, row]), np.concatenate([state, target[entry]])
                    mass = np.concatenate([mass, earlier[row] * weight[entry] * (1 - slip) ** 2])
            who, state, mass = self._merged(who, state, mass)
            earlier, slipped, fresh = slipped, total * (slip / words), new_fresh
            total = slipped + fresh + np.stack([np.bincount(who, m, rows) for m in mass.T], axis=1)
            scale = total.max(axis=1, keepdims=True)
            scale[scale == 0] = 1.0
            mass, total = mass / scale[who], total / scale
            earlier, slipped, fresh = earlier / scale, slipped / scale, fresh / scale
            offset = offset + np.log(scale)
            with np.errstate(divide="ignore"):
                logs[:, t + 1] = np.where(going[:, t : t + 1], offset + np.log(total), logs[:, t])
        return logs

    def next_words(self, texts: Sequence[np.ndarray]) -> sparse.csr_matrix:
        """p(next word | the first t words) of texts that the grammar writes: a sparse matrix, (texts x (longest + 1), vocabulary).

        Row `text * (longest + 1) + t` holds it for t words of a text; nothing where the text is shorter than that.
        """
        from scipy import sparse  # here: the grader loads this file for every lesson, and hardly one asks for this

        rows, longest = len(texts), max(map(len, texts), default=0)
        table = np.full((rows, longest), -1)
        for row, text in enumerate(texts):
            table[row, : len(text)] = text
        who, state, mass = np.arange(rows), np.full(rows, START), np.tile(self.prior, (rows, 1))
        seen = []
        for t in range(longest + 1):
            total = np.bincount(who, mass.sum(1), rows)[who]
            seen.append((who * (longest + 1) + t, state, mass / total[:, None]))
            if t < longest:
                who, state, mass = self._merged(*self._stepped(who, state, mass, table[:, t]))
        place, state, mass = (np.concatenate(column) for column in zip(*seen))
        shape, size = (rows * (longest + 1), self.states), (self.states, len(self.vocabulary))
        reached = [sparse.csr_matrix((m, (place, state)), shape) for m in mass.T]
        writes = [sparse.csr_matrix((p, (self.origin, self.word)), size) for p in self.probs.T]
        return sum(here @ word for here, word in zip(reached, writes))

    def _stepped(self, who, state, mass, word):
        """The forward masses one word on. word: of each row, -1 where there is no arc to take."""
        inside = word[who] >= 0
        who, state, mass = who[inside], state[inside], mass[inside]
        row, arcs = self._spread(state, word[who])
        return who[row], self.target[arcs], mass[row] * self.probs[arcs]

    def _merged(self, who, state, mass):
        key, index = np.unique(who * self.states + state, return_inverse=True)
        mass = np.stack([np.bincount(index, m, len(key)) for m in mass.T], axis=1)
        return key // self.states, key % self.states, mass


def _ranges(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(which range, index) for every index in the ranges low .. high - 1."""
    count = high - low
    row = np.repeat(np.arange(len(low)), count)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + low[row]
