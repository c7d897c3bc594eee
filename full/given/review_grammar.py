"""Sentences of film reviews as they are written down in `review_text/`: read, and filled in.

A line is `tone: words`. Tones: `0` neutral, `+` praise, `-` blame, `>` and `<` mild praise and blame; `+-` and `><` are one
sentence for both. `{name}` stands for one of a slot's alternatives, `(one|two|)` for one written on the spot, `{~name}` for one
of `name+` in praise and of `name-` in blame (`name>` and `name<` in mild ones). `a` becomes `an` where it must, first words
become capital.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

TONES = ("+", ">", "0", "<", "-")
EOS = "<eos>"
FOLDER = Path(__file__).parent / "review_text"
WORD = re.compile(r"<eos>|[.,!?]|[^\s.,!?]+")
PIECE = re.compile(r"\{~?\w+[-+<>]?\}|[()|]|[.,!?]|[^\s{}()|.,!?]+")
AN = ("honest", "honor", "hour", "heir")  # a vowel is heard, a consonant is written
A = ("one", "once", "unique", "useful", "united", "european")  # and the other way round


def tokens_of(text: str) -> list[str]:
    """A text's tokens: its words, and each `.`, `,`, `!` and `?`. A literal `<eos>` is the token that ends a review."""
    return WORD.findall(text)


def text_of(tokens: Sequence[str]) -> str:
    """The text of tokens, an end token left out: a space between words, none before `.`, `,`, `!` and `?`."""
    return re.sub(r" ([.,!?])", r"\1", " ".join(token for token in tokens if token != EOS))


@dataclass(eq=False)
class Choice:
    """One of several sequences. toned: the two sentences of a `+-` line draw it apart, everything else together."""

    options: list[tuple[float, list]]
    "(weight, sequence of words and choices); the weights sum to 1."
    toned: bool = False


@dataclass(eq=False)
class Sentence:
    """A sentence pattern of one tone. twin: the pattern of the opposite tone made from the same line, if there is one."""

    tone: str
    parts: list
    line: str
    twin: Sentence | None = None


def read_slots(text: str) -> dict[str, str]:
    """name -> its alternatives, unread."""
    return dict(line.split(": ", 1) for line in _lines(text))


def read_sentences(text: str, slots: dict[str, str]) -> list[Sentence]:
    """The sentence patterns of a file, one or two a line."""
    sentences = []
    for line in _lines(text):
        tones, words = line.split(": ", 1)
        shared: dict[int, Choice] = {}  # a toneless choice is one object in both sentences
        pair = [Sentence(tone, _Reader(words, slots, tone, shared).read(), line) for tone in tones]
        if len(pair) == 2:
            pair[0].twin, pair[1].twin = pair[1], pair[0]
        sentences += pair
    return sentences


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


class _Reader:
    """Reads one right-hand side into words and choices."""

    def __init__(self, text: str, slots: dict[str, str], tone: str, shared: dict[int, Choice] | None = None):
        self.text, self.slots, self.tone, self.shared = text, slots, tone, shared
        self.pieces, self.at = PIECE.findall(text), 0
        if "".join(self.pieces) != "".join(text.split()):
            raise ValueError(f"{text}: a bracket that is not closed, or a sign that is not known")

    def read(self) -> list:
        sequence = self._sequence()
        if self.at < len(self.pieces):
            raise ValueError(f"{self.text}: unexpected {self.pieces[self.at]}")
        return sequence

    def options(self) -> list[tuple[float, list]]:
        weighted = [self._weighed()]
        while self.at < len(self.pieces) and self.pieces[self.at] == "|":
            self.at += 1
            weighted.append(self._weighed())
        total = sum(weight for weight, _ in weighted)
        return [(weight / total, sequence) for weight, sequence in weighted]

    def _weighed(self) -> tuple[float, list]:
        sequence = self._sequence()
        if sequence and isinstance(sequence[-1], str) and "*" in sequence[-1]:
            word, weight = sequence[-1].split("*")
            return float(weight), [*sequence[:-1], word]
        return 1.0, sequence

    def _sequence(self) -> list:
        sequence = []
        while self.at < len(self.pieces) and self.pieces[self.at] not in "|)":
            place, piece = self.at, self.pieces[self.at]
            self.at += 1
            if piece == "(":
                choice = Choice(self.options())
                if self.at == len(self.pieces):
                    raise ValueError(f"{self.text}: a bracket that is not closed")
                if any("~" in piece for piece in self.pieces[place : self.at]):
                    raise ValueError(f"{self.text}: what differs by tone stands outside brackets")
                self.at += 1  # the bracket that closes
                sequence.append(self._once(place, choice))
            elif piece.startswith("{~"):
                sequence.append(self._slot(piece[2:-1] + self.tone, toned=True))
            elif piece.startswith("{"):
                sequence.append(self._once(place, self._slot(piece[1:-1])))
            else:
                sequence.append(piece)
        return sequence

    def _once(self, place: int, choice: Choice) -> Choice:
        return choice if self.shared is None else self.shared.setdefault(place, choice)

    def _slot(self, name: str, toned: bool = False) -> Choice:
        if name not in self.slots:
            raise ValueError(f"{self.text}: there is no slot {name!r}")
        return Choice(_Reader(self.slots[name], self.slots, self.tone).options(), toned)


def capital(word: str) -> str:
    return word[0].upper() + word[1:]


def takes_an(word: str) -> bool:
    """Whether `an` stands before this word."""
    word = word.lower()
    return word.startswith(AN) or (word[0] in "aeiou" and not word.startswith(A))


def heads(part: str | Choice) -> Iterator[tuple[float, list]]:
    """A part as (weight, sequence) whose first element is a word."""
    if isinstance(part, str):
        yield 1.0, [part]
        return
    for weight, sequence in part.options:
        if not sequence:
            raise ValueError("what begins a sentence or follows `a` cannot be empty")
        for inner, head in heads(sequence[0]):
            yield weight * inner, head + sequence[1:]


def polished(parts: list, first: bool = False) -> list:
    """The same sequence with `a` and `an` and the capital in place, in all alternatives."""
    done: list = []
    rest = list(parts)
    if first and isinstance(rest[0], str):
        rest[0] = capital(rest[0])
    elif first:
        rest[0] = Choice([(weight, [capital(head[0]), *head[1:]]) for weight, head in heads(rest[0])])
    while rest:
        part = rest.pop(0)
        if isinstance(part, Choice):
            done.append(Choice([(weight, polished(sequence)) for weight, sequence in part.options], part.toned))
        elif part in ("a", "A") and rest:
            groups: dict[bool, list] = {}
            for weight, head in heads(rest.pop(0)):
                groups.setdefault(takes_an(head[0]), []).append((weight, polished(head)))
            options = []
            for an, group in groups.items():
                share = sum(weight for weight, _ in group)
                options.append((share, [part + "n" * an, Choice([(weight / share, head) for weight, head in group])]))
            done.append(Choice(options))
        else:
            done.append(part)
    return done


def written(words: list[str]) -> list[str]:
    """Words drawn from a pattern as they stand in a review: `an` for `a` where it must be, the first word capital."""
    words = [word + "n" if word in ("a", "A") and takes_an(after) else word for word, after in zip(words, [*words[1:], "."])]
    return [capital(words[0]), *words[1:]]


def draw(parts: list, rng, kept: dict[int, list[str]] | None = None) -> list[str]:
    """Words for a sequence. kept: what was drawn for toneless choices, by the choice's identity: used again, and added to."""
    words: list[str] = []
    for part in parts:
        if isinstance(part, str):
            words.append(part)
        elif kept is not None and not part.toned and id(part) in kept:
            words += kept[id(part)]
        else:
            pick = rng.choice(len(part.options), p=[weight for weight, _ in part.options])
            drawn = draw(part.options[pick][1], rng)
            if kept is not None and not part.toned:
                kept[id(part)] = drawn
            words += drawn
    return words
