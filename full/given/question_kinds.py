"""The kinds of things that the question world is about, read from question_text/: names, aspects, wordings, values.

A sentence of this world states one fact: (subject, aspect, value), as in "The Comet was built in 1745." Every wording begins with
its subject, so that "It was built in 1745." says the same wherever the subject is known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Mapping, NamedTuple

FOLDER = Path(__file__).parent / "question_text"
SUBJECT = "{}"
IT = "it"


class Claim(NamedTuple):
    """What one sentence says, in small letters. subject: "it" where the sentence says no more."""

    kind: str
    subject: str
    aspect: str
    value: str


@dataclass(frozen=True)
class Aspect:
    """What can be asked of a subject. dull: whether annotators tend to leave it out."""

    name: str
    dull: bool
    wordings: tuple[str, ...]
    clause: str

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """The stocks that its value is put together from, in order; the same in every wording."""
        return tuple(re.findall(r"{(\w+)}", self.wordings[0]))

    def asked(self, subject: str) -> str:
        """The question's clause about this subject."""
        if subject == IT:  # "the flowers of it" are "its flowers"
            return re.sub(r"the (\w+) of \{\}", r"its \1", self.clause).replace(SUBJECT, IT)
        return self.clause.replace(SUBJECT, subject)

    def stated(self, wording: int, subject: str, value: str) -> str:
        """The sentence. value: its words."""
        text = self.wordings[wording].replace(SUBJECT, subject)
        return capital(re.sub(r"{.*}", value, text)) + "."


@dataclass(frozen=True)
class Kind:
    name: str
    pattern: str
    names: tuple[str, ...]
    aspects: Mapping[str, Aspect]

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Every subject as it stands in the middle of a sentence: "the Comet"."""
        return tuple(self.pattern.replace("{name}", name) for name in self.names)


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def read_values(text: str) -> dict[str, tuple[str, ...]]:
    """slot -> its values, of lines `slot: value | value`."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {slot.strip(): tuple(v.strip() for v in rest.split("|")) for slot, _, rest in (line.partition(":") for line in lines)}


def read_kinds(text: str) -> dict[str, Kind]:
    """name -> kind, as question_text/kinds.txt explains."""
    kinds: dict[str, Kind] = {}
    for block in text.split("\n== ")[1:]:
        head, names, *rest = [line.strip() for line in block.splitlines() if line.strip()]
        name, pattern = (part.strip() for part in head.split(":"))
        aspects = {}
        for line in rest:
            label, wordings, clause = (part.strip() for part in line.split(":"))
            aspect, sign = label.split()
            ways = tuple(way.strip().replace("{person}", "{first} {last}") for way in wordings.split(" / "))
            aspects[aspect] = Aspect(aspect, sign == "-", ways, clause)
        kinds[name] = Kind(name, pattern, tuple(n.strip() for n in names.partition(":")[2].split("|")), aspects)
    return kinds


class Language:
    """Sentences and questions of the world, written and read."""

    def __init__(self, kinds: Mapping[str, Kind], values: Mapping[str, tuple[str, ...]]) -> None:
        self.kinds, self.values = kinds, values
        self.read = lru_cache(maxsize=1 << 16)(self._read)
        self.kind_of = {subject.lower(): kind for kind in kinds.values() for subject in kind.subjects}
        self._clauses = {}
        for kind in kinds.values():
            for aspect in kind.aspects.values():
                for subject in (*kind.subjects, IT):
                    clause = aspect.asked(subject).lower()
                    self._clauses.setdefault(clause, []).append((kind.name, subject.lower(), aspect.name))

    @cached_property
    def _wordings(self) -> dict[str, list[tuple[Kind, Aspect, re.Pattern]]]:
        """By the first word behind the subject: what reads the rest of the sentence."""
        found: dict[str, list[tuple[Kind, Aspect, re.Pattern]]] = {}
        for kind in self.kinds.values():
            for aspect in kind.aspects.values():
                value = " ".join(f"(?:{'|'.join(map(re.escape, self.values[slot]))})" for slot in aspect.slots)
                for wording in aspect.wordings:
                    before, after = re.split(r"{\w.*\w}", wording[len(SUBJECT) :].strip())
                    pattern = re.compile(f"{re.escape(before)}({value}){re.escape(after)}".lower())
                    found.setdefault(before.split()[0].lower(), []).append((kind, aspect, pattern))
        return found

    def _read(self, sentence: str) -> tuple[Claim, ...]:
        """Every claim that a sentence can be read as, capitals and the full stop apart.

        One with a named subject is at most one; one of "it" may be one of each kind.
        """
        words = sentence.lower().removesuffix(".").split()
        length = 1 if words[:1] == [IT] else next((n for n in (1, 2, 3) if " ".join(words[:n]) in self.kind_of), 0)
        if not 0 < length < len(words):
            return ()
        subject, rest = " ".join(words[:length]), " ".join(words[length:])
        found = []
        for kind, aspect, pattern in self._wordings.get(words[length], ()):
            if subject == IT or kind is self.kind_of[subject]:
                match = pattern.fullmatch(rest)
                if match:
                    found.append(Claim(kind.name, subject, aspect.name, match[1]))
        return tuple(found)

    def claim(self, sentence: str, topic: str) -> Claim | None:
        """What a sentence says where "it" is `topic`, a subject; None where this world has no such sentence."""
        kind = self.kind_of[topic.lower()].name
        for claim in self.read(sentence):
            if claim.subject != IT:
                return claim
            if claim.kind == kind:
                return claim._replace(subject=topic.lower())
        return None

    def asked(self, question: str) -> tuple[str, tuple[str, ...]]:
        """(subject, aspects asked for in order) of a question. Raises ValueError where this world does not ask so."""
        clauses = re.split(r", | and ", " ".join(question.lower().split()).removesuffix("?").rstrip())
        first = [reading for reading in self._clauses.get(clauses[0], ()) if reading[1] != IT]
        if not first:
            raise ValueError(f"question: expected one of the question world, received {question!r:.80}")
        kind, subject, aspect = first[0]
        aspects = [aspect]
        for clause in clauses[1:]:
            same = [reading[2] for reading in self._clauses.get(clause, ()) if reading[:2] == (kind, IT)]
            if not same:
                raise ValueError(f"question: expected one of the question world, received {question!r:.80}")
            aspects.append(same[0])
        return subject, tuple(aspects)

    def words(self) -> list[str]:
        """Every word that can occur in a question, a context or an answer, in order; signs apart."""
        texts = [value for stock in self.values.values() for value in stock]
        for kind in self.kinds.values():
            texts += [text for subject in kind.subjects for text in (subject, capital(subject))]
            for aspect in kind.aspects.values():
                texts += [re.sub(r"{\w*}", "", wording) for wording in aspect.wordings]
                for clause in (aspect.asked(""), aspect.asked(IT), capital(aspect.asked(""))):
                    texts.append(clause)
        return sorted({word for text in texts for word in re.findall(r"[^\s.,?]+", text)} | {"It", IT, "and"})


def sentences(text: str) -> list[tuple[int, int]]:
    """(start, end) of each sentence: with its full stop, question or exclamation mark; what follows the last one is one too."""
    found = []
    for match in re.finditer(r"[^.!?]+[.!?]*|[.!?]+", text):
        start = match.start() + len(match[0]) - len(match[0].lstrip())
        if start < match.end():
            end = match.start() + len(match[0].rstrip())
            found.append((start, end))
    return found
