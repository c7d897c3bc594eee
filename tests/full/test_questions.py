"""The question world: what is drawn is what was meant, and the scores are those of the rules, by hand and by counting."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from full.given import question_kinds
from full.given.questions import ASKED, FALSE, LEFT_OUT, NOISE, PAIRS, Question, source_of, world

SOURCE = source_of(
    "When was Marlow founded, who founded it and what is it known for?",
    (
        "Marlow has its market on Friday.",
        "Marlow is known for its honey.",
        "Marlow dates from 1612.",
        "Marlow was founded by Ada Flint.",
        "Hexham was founded in 1809.",
        "Hexham sells rope far and wide.",
    ),
)
COMPLETE = "Marlow dates from 1612. It was founded by Ada Flint. It is known for its honey."

CASES = [  # answer, completeness, relevance, factuality
    (COMPLETE, 1, 1, 1),
    ("", 0, 0, 0),
    (" \n ", 0, 0, 0),
    ("Marlow was founded in 1612.", 1 / 3, 1, 1),  # the other wording says the same
    ("it WAS founded in 1612", 1 / 3, 1, 1),  # neither capitals nor the last full stop matter
    ("Marlow was founded in 1809.", 0, 1, 0),  # it speaks of what was asked, and says it wrongly
    ("Hexham was founded in 1809.", 0, 0, 1),  # true, and of something else
    ("Hexham was founded in 1612.", 0, 0, 0),
    ("It has its market on Friday.", 0, 0, 1),  # true, and not asked for
    ("It dates from 1612. It was founded in 1612.", 1 / 3, 1 / 2, 1),  # a repetition in other words
    ("It dates from 1809. It dates from 1612.", 1 / 3, 1 / 2, 1 / 2),  # guessing twice does not pay in relevance
    ("It dates from 1612. It was founded by", 1 / 3, 1 / 2, 1 / 2),  # a sentence that breaks off is one
    ("It dates from the river Ash.", 0, 0, 0),
    ("It is closed on Friday.", 0, 0, 0),  # libraries close, towns do not
    ("Yes! It dates from 1612. Is it? It is known for its honey.", 2 / 3, 1 / 2, 1 / 2),
    ("It dates from 1612.It is known for its honey.", 2 / 3, 1, 1),
    (". . . It dates from 1612.", 1 / 3, 1 / 4, 1 / 4),
    (COMPLETE + " It has its market on Friday. Hexham sells rope far and wide.", 1, 3 / 5, 1),
]


@pytest.mark.parametrize("answer, completeness, relevance, factuality", CASES)
def test_the_scores_are_those_of_the_rules(answer, completeness, relevance, factuality):
    scores = world().scores([SOURCE], [answer])
    found = [float(part[0]) for part in (scores.completeness, scores.relevance, scores.factuality)]
    assert found == pytest.approx([completeness, relevance, factuality], abs=1e-12)  # quotients of small whole numbers
    assert scores.completeness.dtype == np.float64


def test_sentence_scores_have_their_places_and_their_means():
    answer = "  It dates from 1612.  Hexham has ten bells. It dates from 1612. And so"
    found = world().sentence_scores(SOURCE, answer)
    assert [answer[s.start : s.end] for s in found] == [
        "It dates from 1612.",
        "Hexham has ten bells.",
        "It dates from 1612.",
        "And so",
    ]
    assert [s.relevance for s in found] == [1, 0, 0, 0] and [s.factuality for s in found] == [1, 0, 1, 0]
    scores = world().scores([SOURCE], [answer])
    assert scores.relevance[0] == 1 / 4 and scores.factuality[0] == 1 / 2


def test_a_drawn_question_is_what_it_says():
    for question in world().draw(200, seed=4):
        subject, aspects = world().language.asked(question.question)
        assert subject == question.title.lower() and len(set(aspects)) == len(aspects) == len(question.facts) in ASKED
        claims = [world().language.claim(text, question.title) for text in question.passages]
        assert sorted(claims[n].aspect for n in question.facts) == sorted(aspects)
        assert list(question.facts) == sorted(question.facts)
        assert {claim.subject for claim in claims} == {question.title.lower(), question.neighbour.lower()}
        assert len({(claim.subject, claim.aspect) for claim in claims}) == len(claims)  # nothing is told twice
        own = {claim.aspect: claim.value for claim in claims if claim.subject == subject}
        assert all(own.get(claim.aspect) != claim.value for claim in claims if claim.subject != subject)
        assert 1 <= len(own) - len(aspects) <= 2 and 2 <= len(claims) - len(own) <= 3
        switches = sum(a.subject != b.subject for a, b in zip(claims, claims[1:]))
        assert switches == 1  # the sentences of one subject stand together
        complete = world().scores([question], [question.answer])
        assert complete.completeness[0] == complete.relevance[0] == complete.factuality[0] == 1.0
        assert question.answer.startswith(question.title + " ") and question.answer.count(question.title) == 1


def test_draws_are_decided_by_the_seed_and_distinct():
    drawn = world().draw(300, seed=5)
    assert world().draw(100, seed=5) == drawn[:100]
    assert len({question.source for question in drawn}) == 300 == len({question.id for question in drawn})
    other = world().draw(300, seed=6)
    assert not {question.source for question in drawn} & {question.source for question in other}
    kinds = Counter(world().language.kind_of[question.title.lower()].name for question in drawn)
    assert len(kinds) == 8


def test_telling_everything_is_complete_and_off_topic():
    drawn = world().draw(100, seed=7)
    scores = world().scores(drawn, [" ".join(question.passages) for question in drawn])
    assert (scores.completeness == 1).all() and (scores.factuality == 1).all()
    wanted = [len(question.facts) / len(question.passages) for question in drawn]
    np.testing.assert_allclose(scores.relevance, wanted, atol=1e-12)


def test_demonstrations_leave_out_by_the_stated_rule():
    drawn = world().draw(800, seed=8)
    asked, kept, whole = Counter(), Counter(), []
    for question in drawn:
        answer = world().demonstration(question, seed=8)
        assert answer == world().demonstration(question, seed=8)
        topic, aspects = world().language.asked(question.question)
        kind = world().language.kind_of[topic]
        said = [world().language.claim(answer[s.start : s.end], topic) for s in world().sentence_scores(question, answer)]
        held = [world().language.claim(question.passages[n], topic) for n in question.facts]
        assert said and set(said) <= set(held) and sorted(said, key=held.index) == said  # in the order of the context
        if len(aspects) > 3:  # where nearly never all are left out, so that the rule of the last one does not show
            for claim in held:
                dull = kind.aspects[claim.aspect].dull
                asked[dull] += 1
                kept[dull] += claim in said
        whole.append(len(said) / len(held))
    for dull, share in LEFT_OUT.items():
        error = np.sqrt(share * (1 - share) / asked[dull])
        assert abs(1 - kept[dull] / asked[dull] - share) < 4 * error + 0.01  # all left out: below one in a hundred
    assert 0.65 < np.mean(whole) < 0.75


def test_predictions_and_preferences_are_as_stated():
    rows = world().rows(300, seed=9)
    order, wrong, labels = Counter(), 0, 0
    for row in rows:
        four = [row[f"prediction {n}"] for n in range(1, 5)]
        assert len(set(four)) == 4 and all(four)
        complete = world().scores([row["source"]] * 4, four).completeness
        for (first, second), label in zip(PAIRS, row["preference"], strict=True):
            true = 0 if complete[first] == complete[second] else 1 if complete[first] > complete[second] else 2
            wrong += label != true
            labels += 1
            order[label] += 1
    assert abs(wrong / labels - NOISE) < 4 * np.sqrt(NOISE * (1 - NOISE) / labels)
    assert abs(order[1] - order[2]) < 4 * np.sqrt(order[1] + order[2])  # no place is better than the other
    scores = [world().scores([row["source"]] * 4, [row[f"prediction {n}"] for n in range(1, 5)]) for row in rows]
    factual = np.mean([s.factuality for s in scores])
    assert 1 - FALSE < factual < 1  # the facts added are true ones
    assert 0.4 < np.mean([s.completeness for s in scores]) < 0.65 < np.mean([s.relevance for s in scores]) < 0.9


def test_rows_have_the_columns_of_qa_feedback_and_can_be_scored_by_their_text():
    row = world().rows(1, seed=10)[0]
    assert {"question", "passages", "gold", "preference", *(f"prediction {n}" for n in range(1, 5))} <= set(row)
    assert source_of(row["question"], row["passages"]) == row["source"] and row["gold"] == row["answer"]
    question = world().draw(1, seed=10)[0]
    assert isinstance(question, Question) and question.source == row["source"] and question.id == row["id"]
    by_text, by_question = (world().scores([asked], [row["demonstration"]]) for asked in (row["source"], question))
    assert by_text.completeness == by_question.completeness


@pytest.mark.parametrize(
    "source, named",
    [
        ("Who founded Marlow?", "expected `question: ... context: ...`"),
        ("question: Who wrote Hamlet? context: Marlow dates from 1612.", "question: expected one of the question world"),
        ("question: Who founded Marlow and who wrote Hamlet? context: Marlow dates from 1612.", "expected one of the question"),
        ("question: Who founded Marlow and when was it founded? context: It rains.", "a sentence of another world: 'It rains.'"),
        ("question: Who founded Marlow and when was it founded? context: Marlow dates from 1612.", "does not say `founder`"),
    ],
)
def test_other_questions_are_refused_in_one_line(source, named):
    with pytest.raises(ValueError, match=named.replace("?", r"\?").replace(".", r"\.")) as caught:
        world().scores([source], ["It dates from 1612."])
    assert "\n" not in str(caught.value)


def test_as_many_answers_as_questions():
    with pytest.raises(ValueError, match="texts: expected one for each of 2 questions, received 1"):
        world().scores([SOURCE, SOURCE], ["It dates from 1612."])


def test_every_sentence_can_be_read_in_one_way_only():
    """Of every aspect, wording and subject, with "it" too: the claim is the one that was written."""
    language = world().language
    rng = np.random.default_rng(0)
    for kind in language.kinds.values():
        assert len(kind.names) == 16 and len(kind.aspects) == 7
        for aspect in kind.aspects.values():
            assert len(aspect.wordings) == 2
            for wording in range(2):
                subject = kind.subjects[rng.integers(16)]
                value = " ".join(stock[rng.integers(len(stock))] for stock in (language.values[slot] for slot in aspect.slots))
                wanted = question_kinds.Claim(kind.name, subject.lower(), aspect.name, value.lower())
                assert language.read(aspect.stated(wording, subject, value)) == (wanted,)
                readings = language.read(aspect.stated(wording, "it", value))
                assert [claim.aspect for claim in readings if claim.kind == kind.name] == [aspect.name]
                assert language.claim(aspect.stated(wording, "it", value), subject) == wanted
    subjects = [subject.lower() for kind in language.kinds.values() for subject in kind.subjects]
    assert len(subjects) == len(set(subjects)) == 128


def test_the_tokenizer_gives_every_text_back():
    from full.given.build_questions import POSITIONS, REWARD_POSITIONS, question_tokenizer

    tokenizer, plain = question_tokenizer(world()), question_tokenizer(world(), "left", ends=False)
    rows = world().rows(60, seed=11)
    predictions = [row[f"prediction {n}"] for row in rows for n in range(1, 5)]
    sources = [row["source"] for row in rows]
    texts = [*sources, *predictions, *(row[name] for row in rows for name in ("answer", "demonstration"))]
    ids, without = tokenizer(texts).input_ids, plain(texts).input_ids
    assert all(row[-1] == tokenizer.eos_token_id and tokenizer.unk_token_id not in row for row in ids)
    assert [row[:-1] for row in ids] == without
    assert tokenizer.batch_decode(ids, skip_special_tokens=True) == texts
    longest = max(map(len, ids[: len(sources)]))
    assert longest <= POSITIONS
    assert longest + max(map(len, ids[len(sources) : len(sources) + len(predictions)])) < REWARD_POSITIONS
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
