"""The question world: long-form questions about invented things, with a context, about which every score is exact.

    from full.given.questions import world

    questions = world()
    drawn = questions.draw(3, seed=0)              # question, passages, the complete answer, .source for a T5
    questions.scores(drawn, [q.answer for q in drawn])  # completeness, relevance, factuality: all 1 here
    questions.sentence_scores(drawn[0], "It sells tea far and wide.")   # what a reward at every sentence reads
    questions.rows(100, seed=1)                     # four predictions and six preferences a question, as in qa_feedback

A question asks three to five things about one subject: "When was Marlow founded, who founded it and what is it known for?" Its
context holds those facts, one or two others of the subject, and two or three of another subject of the same kind that were not
asked for either, a sentence each. The complete answer states what was asked, in the context's order and words.

The scores, each in [0, 1]:

- completeness: the share of the asked facts that the answer states with the context's value.
- relevance: the share of its sentences that speak of something asked for and not spoken of before, whatever value they give.
- factuality: the share of its sentences whose claim the context holds, of whatever subject.

A sentence that this world does not write, as one that breaks off, is neither relevant nor factual. An answer without a sentence
scores 0 in all three: it says nothing. "It" is the question's subject; capitals do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Sequence

import numpy as np

from .question_kinds import FOLDER, IT, Aspect, Claim, Language, capital, read_kinds, read_values, sentences

ASKED = (3, 4, 5)
"How many things a question may ask, each equally often."
LEFT_OUT = {True: 0.7, False: 0.15}
"P(an annotator leaves a fact out | its aspect is dull)."
DROPPED = (0.1, 0.35, 0.6)
"A prediction leaves each asked fact out with one of these probabilities, drawn once for the prediction."
FALSE, REPEATED = 0.12, 0.2
"P(a fact of a prediction has a false value), P(the prediction says one of its sentences twice)."
OFF_TOPIC = (0, 0, 0, 1, 2)
"How many facts not asked for a prediction states, each number of these equally often."
NOISE = 0.06
"P(a preference is replaced by one of the other two)."
PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
"The order of the six preferences: 12, 13, 14, 23, 24, 34."


@lru_cache(maxsize=1)
def world() -> QuestionWorld:
    """The question world of the course."""
    values = read_values((FOLDER / "values.txt").read_text(encoding="utf-8"))
    return QuestionWorld(Language(read_kinds((FOLDER / "kinds.txt").read_text(encoding="utf-8")), values))


@dataclass(frozen=True)
class Question:
    """A question with its context. passages: sentences, those of one subject together. facts: the asked ones' places."""

    id: str
    question: str
    title: str
    neighbour: str
    passages: tuple[str, ...]
    facts: tuple[int, ...]
    answer: str

    @property
    def source(self) -> str:
        """What an encoder reads."""
        return source_of(self.question, self.passages)


@dataclass(frozen=True)
class Scores:
    """Of each answer, (n,), in [0, 1]."""

    completeness: np.ndarray
    relevance: np.ndarray
    factuality: np.ndarray


@dataclass(frozen=True)
class SentenceScore:
    """One sentence of an answer, text[start:end]. relevance, factuality: 1 or 0."""

    start: int
    end: int
    relevance: float
    factuality: float


def source_of(question: str, passages: Sequence[str]) -> str:
    """The one text of a question with its context."""
    return f"question: {question} context: {' '.join(passages)}"


class QuestionWorld:
    """Draws questions and scores answers. The same seed gives the same questions; fewer of them are the first of more."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self._facts = lru_cache(maxsize=1 << 14)(self._facts_of)

    @property
    def vocabulary(self) -> list[str]:
        """Every word that occurs, in order; the signs , . ? apart."""
        return [*self.language.words(), "question:", "context:"]

    # What can be drawn

    def draw(self, count: int, seed: int) -> list[Question]:
        """That many questions, no two alike."""
        found: dict[str, Question] = {}
        number = 0
        while len(found) < count:
            question = self._drawn(np.random.default_rng([seed, number]), f"q{seed}-{number}")
            found.setdefault(question.source, question)
            number += 1
        return list(found.values())

    def _drawn(self, rng: np.random.Generator, name: str) -> Question:
        kinds = list(self.language.kinds.values())
        kind = kinds[rng.integers(len(kinds))]
        topic, neighbour = (kind.subjects[n] for n in rng.choice(len(kind.subjects), 2, replace=False))
        order = list(kind.aspects.values())
        order = [order[n] for n in rng.permutation(len(order))]
        asked = ASKED[rng.integers(len(ASKED))]
        others = rng.integers(1, 3)
        beside = [order[n] for n in asked + rng.permutation(len(order) - asked)[: rng.integers(2, 4)]]
        values = {aspect.name: self._value(aspect, rng) for aspect in order}
        own = [(aspect, self._said(aspect, topic, values[aspect.name], rng)) for aspect in order[: asked + others]]
        own = [own[n] for n in rng.permutation(len(own))]
        away = [self._said(aspect, neighbour, self._value(aspect, rng, {values[aspect.name]}), rng) for aspect in beside]
        first = bool(rng.integers(2))  # whether the article on the subject stands first
        passages = [text for _, text in own] + away if first else away + [text for _, text in own]
        start = 0 if first else len(away)
        place = {aspect.name: start + n for n, (aspect, _) in enumerate(own)}
        facts = tuple(sorted(place[aspect.name] for aspect in order[:asked]))
        answer = self.written([passages[n] for n in facts], topic)
        question = self._question(order[:asked], topic)
        return Question(name, question, capital(topic), capital(neighbour), tuple(passages), facts, answer)

    def _value(self, aspect: Aspect, rng: np.random.Generator, other: set[str] = frozenset()) -> str:
        while True:
            stocks = [self.language.values[slot] for slot in aspect.slots]
            value = " ".join(stock[rng.integers(len(stock))] for stock in stocks)
            if value not in other:
                return value

    def _said(self, aspect: Aspect, subject: str, value: str, rng: np.random.Generator) -> str:
        return aspect.stated(int(rng.integers(len(aspect.wordings))), subject, value)

    def _question(self, aspects: Sequence[Aspect], topic: str) -> str:
        clauses = [aspects[0].asked(topic), *(aspect.asked(IT) for aspect in aspects[1:])]
        return capital(", ".join(clauses[:-1]) + " and " + clauses[-1]) + "?"

    def written(self, passages: Sequence[str], topic: str) -> str:
        """Sentences in a row, as an answer has them: those on `topic` after the first sentence say "It"."""
        start = capital(topic) + " "
        texts = ["It " + text[len(start) :] if n and text.startswith(start) else text for n, text in enumerate(passages)]
        return " ".join(texts)

    def demonstration(self, question: Question, seed: int) -> str:
        """An annotator's answer: the complete one, but each fact is left out with the probability LEFT_OUT of its aspect.

        Where all would be left out, one is drawn that stays.
        """
        rng = np.random.default_rng([seed, *question.id.encode()])
        kept = [n for n in question.facts if rng.random() >= LEFT_OUT[self._aspect(question, n).dull]]
        kept = kept or [question.facts[rng.integers(len(question.facts))]]
        return self.written([question.passages[n] for n in kept], question.title)

    def _aspect(self, question: Question, passage: int) -> Aspect:
        claim = self.language.claim(question.passages[passage], question.title)
        return self.language.kinds[claim.kind].aspects[claim.aspect]

    def predictions(self, question: Question, seed: int) -> tuple[str, str, str, str]:
        """Four different answers of different quality.

        Each leaves out every asked fact with a probability drawn from DROPPED, gives each it states a false value with
        probability FALSE, adds as many facts that were not asked for as is drawn from OFF_TOPIC, and says one of its sentences
        twice with probability REPEATED.
        """
        rng = np.random.default_rng([seed, 1, *question.id.encode()])
        found: list[str] = []
        while len(found) < 4:
            answer = self._predicted(question, rng)
            if answer not in found:
                found.append(answer)
        return tuple(found)

    def _predicted(self, question: Question, rng: np.random.Generator) -> str:
        dropped = DROPPED[rng.integers(len(DROPPED))]
        said = []
        for n in question.facts:
            if rng.random() >= dropped:
                text = question.passages[n]
                said.append(self._falsified(text, question.title, rng) if rng.random() < FALSE else text)
        off = [n for n in range(len(question.passages)) if n not in question.facts]  # three at least
        for n in rng.permutation(off)[: OFF_TOPIC[rng.integers(len(OFF_TOPIC))] or not said]:
            said.insert(int(rng.integers(len(said) + 1)), question.passages[n])
        if rng.random() < REPEATED:
            said.append(said[rng.integers(len(said))])
        return self.written(said, question.title)

    def _falsified(self, sentence: str, topic: str, rng: np.random.Generator) -> str:
        claim = self.language.claim(sentence, topic)
        aspect = self.language.kinds[claim.kind].aspects[claim.aspect]
        wordings = range(len(aspect.wordings))
        stocks = [self.language.values[slot] for slot in aspect.slots]
        true = next(value for value in _joined(stocks) if value.lower() == claim.value)
        wording = next(w for w in wordings if aspect.stated(w, topic, true) == sentence)
        return aspect.stated(wording, topic, self._value(aspect, rng, {true}))

    def preferences(self, question: Question, predictions: Sequence[str], seed: int) -> list[int]:
        """The six labels, in the order of PAIRS: 1 first better, 2 second better, 0 a tie.

        The annotator prefers the more complete answer; as complete ones tie. With probability NOISE a label is replaced by one
        of the other two.
        """
        rng = np.random.default_rng([seed, 2, *question.id.encode()])
        complete = self.scores([question] * len(predictions), predictions).completeness
        labels = []
        for first, second in PAIRS:
            true = 0 if complete[first] == complete[second] else 1 if complete[first] > complete[second] else 2
            labels.append((true + int(rng.integers(1, 3))) % 3 if rng.random() < NOISE else true)
        return labels

    def rows(self, count: int, seed: int) -> list[dict]:
        """Questions in the format of the qa_feedback files: question, passages, gold, "prediction 1" to "prediction 4" and
        preference; and id, source, answer (which is gold) and demonstration besides. A passage is a sentence, without a title.
        """
        rows = []
        for question in self.draw(count, seed):
            four = self.predictions(question, seed)
            row = {
                "id": question.id,
                "question": question.question,
                "passages": list(question.passages),
                "gold": question.answer,
                **{f"prediction {n}": text for n, text in enumerate(four, 1)},
                "preference": self.preferences(question, four, seed),
                "source": question.source,
                "answer": question.answer,
                "demonstration": self.demonstration(question, seed),
            }
            rows.append(row)
        return rows

    # What is known exactly

    def scores(self, questions: Sequence[Question | str], texts: Sequence[str]) -> Scores:
        """The three scores of each answer. questions: as they were drawn, or their sources."""
        if len(questions) != len(texts):
            raise ValueError(f"texts: expected one for each of {len(questions)} questions, received {len(texts)}")
        table = np.zeros((3, len(texts)))
        for n, (question, text) in enumerate(zip(questions, texts)):
            topic, asked, held = self._facts(question if isinstance(question, str) else question.source)
            said = self.sentence_scores(question, text)
            claims = {self.language.claim(text[s.start : s.end], topic) for s in said}
            wanted = [held[topic, aspect] for aspect in asked]
            if said:
                table[0, n] = sum(claim in claims for claim in wanted) / len(wanted)
                table[1, n] = sum(s.relevance for s in said) / len(said)
                table[2, n] = sum(s.factuality for s in said) / len(said)
        return Scores(*table)

    def sentence_scores(self, question: Question | str, text: str) -> list[SentenceScore]:
        """Relevance and factuality of each sentence of an answer, with its place in the text."""
        topic, asked, held = self._facts(question if isinstance(question, str) else question.source)
        spoken, found = set(), []
        for start, end in sentences(text):
            claim = self.language.claim(text[start:end], topic)
            relevant = claim is not None and claim.subject == topic and claim.aspect in asked and claim.aspect not in spoken
            if relevant:
                spoken.add(claim.aspect)
            factual = claim is not None and held.get((claim.subject, claim.aspect)) == claim
            found.append(SentenceScore(start, end, float(relevant), float(factual)))
        return found

    def _facts_of(self, source: str) -> tuple[str, tuple[str, ...], dict[tuple[str, str], Claim]]:
        """(subject, aspects asked for, what the context says of each (subject, aspect)) of a source, all in small letters."""
        head, mark, context = source.partition(" context: ")
        if not mark or not head.startswith("question: "):
            raise ValueError(f"source: expected `question: ... context: ...`, received {source!r:.80}")
        topic, asked = self.language.asked(head.removeprefix("question: "))
        held = {}
        for start, end in sentences(context):
            claim = self.language.claim(context[start:end], topic)
            if claim is None:
                raise ValueError(f"source: its context has a sentence of another world: {context[start:end]!r:.80}")
            held[claim.subject, claim.aspect] = claim
        for aspect in asked:
            if (topic, aspect) not in held:
                raise ValueError(f"source: its context does not say `{aspect}` of {topic}")
        return topic, asked, held


def _joined(stocks: Sequence[Sequence[str]]) -> list[str]:
    texts = [""]
    for stock in stocks:
        texts = [f"{text} {value}".strip() for text in texts for value in stock]
    return texts
