"""The review world against brute force on a small grammar, and against what is drawn from the large one."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest

from full.given import reviews as module
from full.given.review_grammar import EOS, Choice, read_sentences, read_slots, text_of, tokens_of, written
from full.given.reviews import PRIOR, SENTIMENTS, SLIP, TONES, World, world

SLOTS = """
# a comment
good: fine
adj+: honest | odd*2 | great
adj-: ugly | bad
very: very | quite
"""
SMALL = {
    "opening": "0: A ({very} {kind}|rather {kind}|{kind}) {thing}(, too|).\n+-: What a {~adj} film!",
    "middle": "+-: {Who} ({very} |){~adj} here.\n0: It runs.",
    "closing": "+-: An end, {~adj}.\n0: (Go|Stay).",
}
CHAIN = {"opening": {"middle": 0.25, "closing": 0.75}, "middle": {"closing": 1.0}, "closing": {}}
TABLE = {"positive": (0.5, 0, 0.3, 0, 0.2), "negative": (0.1, 0, 0.2, 0, 0.7), "mixed": (0.4, 0, 0.2, 0, 0.4)}


@pytest.fixture(scope="module")
def small() -> World:
    slots = read_slots(SLOTS + "thing: film | old drama\nWho: actors were | everybody was\nkind: old | new")
    return World({name: read_sentences(text, slots) for name, text in SMALL.items()}, CHAIN, {name: TABLE for name in SMALL})


@pytest.fixture(scope="module")
def large() -> World:
    return world()


def fillings(parts):
    """Every (probability, words) of a pattern as it was read."""
    if not parts:
        yield 1.0, []
        return
    head, rest = parts[0], list(fillings(parts[1:]))
    options = head.options if isinstance(head, Choice) else [(1.0, None)]
    for weight, sequence in options:
        for p, words in [(1.0, [head])] if sequence is None else fillings(sequence):
            for q, more in rest:
                yield weight * p * q, words + more


def every_review(small: World) -> dict[str, np.ndarray]:
    """text -> its joint probability with each sentiment, from the patterns alone: no machine is asked."""
    joint: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(3))
    sentences = {
        name: [(p, " ".join(written(words)), pattern.tone) for pattern in patterns for p, words in fillings(pattern.parts)]
        for name, patterns in small.sentences.items()
    }
    for path, share in ((("opening", "closing"), 0.75), (("opening", "middle", "closing"), 0.25)):
        for chosen in product(*(sentences[name] for name in path)):
            for s, sentiment in enumerate(SENTIMENTS):
                p = PRIOR[s] * share
                for probability, _, tone in chosen:
                    p *= probability * TABLE[sentiment][TONES.index(tone)]
                joint[text_of(tokens_of(" ".join(words for _, words, _ in chosen)))][s] += p
    return joint


@pytest.fixture(scope="module")
def joint(small) -> dict[str, np.ndarray]:
    return every_review(small)


def test_likelihood_posterior_and_entropy_equal_brute_force(small, joint):
    texts, table = list(joint), np.array(list(joint.values()))
    total = table.sum(1)
    assert total.sum() == pytest.approx(1.0, abs=1e-12) and len(texts) > 500
    # float64: products of some twenty probabilities
    np.testing.assert_allclose(small.log_likelihood(texts), np.log(total), atol=1e-10)
    assert small.review_entropy == pytest.approx(-(total * np.log(total)).sum(), abs=1e-10)
    length = np.array([len(tokens_of(text)) + 1 for text in texts])
    assert small.mean_length == pytest.approx(total @ length, abs=1e-10)
    assert small.entropy_rate() == pytest.approx(small.review_entropy / small.mean_length)
    posterior = table / total[:, None]
    assert small.sentiment_entropy == pytest.approx(-(table * np.log(posterior)).sum(), abs=1e-10)
    # A slip happens in one text of about a hundred and tells nothing of the sentiment: the smoothed posterior is near this one.
    np.testing.assert_allclose(small.gold_reward([t + " " + EOS for t in texts]), posterior @ [1, 0, 0.5], atol=0.02)


def test_prefixes_are_sums_over_reviews(small, joint):
    tokens = {text: [*tokens_of(text), EOS] for text in joint}
    beginnings = {tuple(row[:n]) for row in list(tokens.values())[::50] for n in range(1, len(row))}
    for beginning in sorted(beginnings)[::8]:
        exact = sum(p.sum() for text, p in joint.items() if tuple(tokens[text][: len(beginning)]) == beginning)
        assert small.log_likelihood([list(beginning)], prefix=True)[0] == pytest.approx(np.log(exact), abs=1e-10)
    assert small.log_likelihood(["A film film."])[0] == small.log_likelihood(["A drama"], prefix=True)[0] == -np.inf
    assert small.log_likelihood([""], prefix=True)[0] == pytest.approx(0.0, abs=1e-12)


def dense(small: World, tokens: list[str]) -> np.ndarray:
    """log p(tokens | sentiment) in the smoothed grammar, step by step over all states."""
    machine, words = small.machine, len(small.vocabulary)
    visits = machine.flow[0] @ np.array(PRIOR)
    visits[1] = 0.0
    share = visits / visits.sum()
    answer = []
    for s in range(3):
        here = np.zeros(machine.states)
        here[0] = 1.0
        for token in tokens:
            step = np.zeros(machine.states)
            for arc in np.flatnonzero(machine.word == machine.number.get(token, -1)):
                step[machine.target[arc]] += here[machine.origin[arc]] * machine.probs[arc, s]
            here = (1 - SLIP) * step + SLIP / words * here.sum() * share
        answer.append(np.log(here.sum()))
    return np.array(answer)


def test_the_smoothed_grammar_equals_the_step_over_all_states(small):
    rng = np.random.default_rng(0)
    vocabulary = [*small.vocabulary, "zebra"]
    texts = [[vocabulary[n] for n in rng.integers(len(vocabulary), size=rng.integers(1, 12))] for _ in range(25)]
    drawn = [review.tokens for review in small.sample(25, seed=1)]
    texts += drawn + [row[:3] + ["zebra"] + row[3:] for row in drawn] + [row[:2] + row[3:] for row in drawn]
    logs = np.array([dense(small, row) for row in texts]) + np.log(PRIOR)
    whole = np.logaddexp.reduce(logs, axis=1)
    # float64: sums of positive terms, up to 15 steps
    np.testing.assert_allclose(small.naturalness(texts), whole / [len(row) for row in texts], atol=1e-10)
    np.testing.assert_allclose(small.gold_reward(texts), np.exp(logs - whole[:, None]) @ [1, 0, 0.5], atol=1e-10)
    begun = [row for row in texts if len(row) > 2]
    before = np.array([np.logaddexp.reduce(dense(small, row[:2]) + np.log(PRIOR)) for row in begun])
    after = np.array([np.logaddexp.reduce(dense(small, row) + np.log(PRIOR)) for row in begun])
    np.testing.assert_allclose(small.naturalness(begun, after=2), (after - before) / [len(row) - 2 for row in begun], atol=1e-10)


def test_next_words_are_ratios_of_prefix_probabilities(small):
    rows = [small.numbers(review.tokens) for review in small.sample(10, seed=2)]
    longest = max(map(len, rows))
    table = small.machine.next_words(rows).toarray().reshape(len(rows), longest + 1, -1)
    for row, exact in zip(rows, table):
        for t in range(len(row) + 1):
            assert exact[t].sum() == pytest.approx(1.0, abs=1e-12)
            beginning = [small.vocabulary[n] for n in row[:t]]
            after = [[*beginning, word] for word in small.vocabulary]
            ratio = small.log_likelihood(after, prefix=True) - small.log_likelihood([beginning], prefix=True)
            np.testing.assert_allclose(exact[t], np.exp(ratio), atol=1e-10)
        assert not exact[len(row) + 1 :].any()


def two_ways(world: World) -> int:
    """How many places there are where two paths that wrote the same words meet: 0 if each review is written in one way."""
    machine, after = world.machine, defaultdict(lambda: defaultdict(list))
    for origin, word, target in zip(machine.origin.tolist(), machine.word.tolist(), machine.target.tolist()):
        after[origin][word].append(target)
    seen: set[tuple[int, int]] = set()
    todo: list[tuple[int, int]] = []
    met = 0

    def meet(one: int, other: int) -> None:
        nonlocal met
        met += one == other
        pair = (min(one, other), max(one, other))
        if one != other and pair not in seen:
            seen.add(pair)
            todo.append(pair)

    for by_word in list(after.values()):
        for targets in by_word.values():
            for n, one in enumerate(targets):
                for other in targets[:n]:
                    meet(one, other)
    while todo:
        one, other = todo.pop()
        for word in after[one].keys() & after[other].keys():
            for pair in product(after[one][word], after[other][word]):
                meet(*pair)
    return met


def test_a_review_is_written_in_one_way(small, large):
    """What the exact entropy rests on."""
    assert two_ways(small) == two_ways(large) == 0
    slots = read_slots("adj+: fine | well made\nadj-: bad")
    twice = read_sentences("+-: It is {~adj}.\n+: It is (fine|well (made|done)).", slots)
    assert two_ways(World({"only": twice}, {"only": {}}, {"only": TABLE})) > 0


def test_the_entropy_is_what_drawn_reviews_say(large):
    logs = large.log_likelihood([review.text for review in large.sample(2_000, seed=3)])
    error = logs.std(ddof=1) / np.sqrt(len(logs))
    assert np.isfinite(logs).all()
    assert abs(-logs.mean() - large.review_entropy) < 4 * error


def test_drawn_beginnings_are_as_frequent_as_their_probability(large):
    drawn = large.sample(10_000, seed=4)
    for count in (1, 3):
        seen = Counter(tuple(review.tokens[:count]) for review in drawn)
        beginnings = [beginning for beginning, _ in seen.most_common(25)]
        probability = np.exp(large.log_likelihood([list(b) for b in beginnings], prefix=True))
        error = np.sqrt(probability * (1 - probability) / len(drawn))
        frequency = np.array([seen[b] for b in beginnings]) / len(drawn)
        assert (abs(frequency - probability) < 4.5 * error).all()  # 25 at once
    length = np.array([len(review.tokens) + 1 for review in drawn])
    assert abs(length.mean() - large.mean_length) < 4 * length.std() / np.sqrt(len(drawn))


@pytest.mark.slow
def test_the_gold_reward_is_calibrated(large):
    """Among reviews with a gold reward of about g, about a share g is positive, mixed ones counted half."""
    drawn = large.sample(1_500, seed=5)
    for cut in (None, 30):
        gold = large.gold_reward([text_of(review.tokens[:cut]) for review in drawn])
        truth = np.array([{"positive": 1.0, "negative": 0.0, "mixed": 0.5}[review.sentiment] for review in drawn])
        for low in np.arange(0, 1, 0.2):
            inside = (gold >= low) & (gold <= low + 0.2)
            error = truth[inside].std(ddof=1) / np.sqrt(inside.sum())
            # 1e-3: the smoothing moves a posterior by no more than about the chance of a slip
            assert abs(truth[inside].mean() - gold[inside].mean()) < 4 * error + 1e-3


def test_the_grammar_is_as_large_as_promised(large):
    patterns = [pattern for section in large.sentences.values() for pattern in section]
    assert len({pattern.line for pattern in patterns}) >= 300
    assert len({word.lower() for word in large.vocabulary if word[0].isalpha()}) >= 600
    drawn = large.sample(10_000, seed=6)
    assert len({review.text for review in drawn}) >= 9_900
    sentences = [sum(token in ".!?" for token in review.tokens) for review in drawn]
    assert min(sentences) == 3 and max(sentences) == 6
    assert 40 <= np.mean([len(review.tokens) for review in drawn]) <= 70
    shares = Counter(review.sentiment for review in drawn)
    for sentiment, p in zip(SENTIMENTS, PRIOR):
        assert abs(shares[sentiment] / 10_000 - p) < 4 * np.sqrt(p * (1 - p) / 10_000)


def test_texts_and_tokens_are_the_same_thing(large):
    for review in large.sample(2_000, seed=7):
        assert tokens_of(review.text) == review.tokens and text_of(review.tokens) == review.text
        assert "  " not in review.text and review.text[0].isupper()
    text = " ".join(review.text for review in large.sample(2_000, seed=8))
    assert not any(f" a {vowel}" in text for vowel in ("awful", "honest", "old", "ugly", "unforgettable", "empty"))
    assert not any(f" an {consonant}" in text for consonant in ("brilliant", "film", "useful", "superb", "western"))
    assert not any(sign in text for sign in "{}()|~*+<>")


def test_the_same_seed_draws_the_same(large):
    assert large.sample(20, seed=9) == large.sample(20, seed=9) != large.sample(20, seed=10)
    assert large.pairs(5, tokens=10, seed=9) == large.pairs(5, tokens=10, seed=9)
    rows = large.rows(20, seed=9)
    assert [row["text"] for row in rows] == [review.text for review in large.sample(20, seed=9)]
    assert {row["label"] for row in rows} == {0, 1}
    labels = {(review.sentiment, review.label) for review in large.sample(200, seed=9)}
    assert labels == {("positive", 1), ("negative", 0), ("mixed", 0), ("mixed", 1)}


def test_prompts_have_exactly_the_tokens_asked_for(large):
    for tokens in (1, 10, 25):
        prompts = large.prompts(200, tokens=tokens, seed=11)
        assert len(prompts) == 200 and {len(tokens_of(prompt)) for prompt in prompts} == {tokens}
        assert np.isfinite(large.log_likelihood(prompts, prefix=True)).all()
    with pytest.raises(ValueError, match="tokens: .*500"):
        large.prompts(3, tokens=500, seed=0)


def test_pairs_are_parallel_reviews_of_opposite_sentiment(large):
    pairs = large.pairs(300, tokens=10, seed=12)
    good, bad = (
        [tokens_of(pair["prompt"]) + tokens_of(pair[f"{side}_completion"]) for pair in pairs] for side in ("positive", "negative")
    )
    assert {len(tokens_of(pair["prompt"])) for pair in pairs} == {10}
    assert np.isfinite(large.log_likelihood(good)).all() and np.isfinite(large.log_likelihood(bad)).all()
    assert (large.gold_reward(good) > large.gold_reward(bad)).all()
    assert large.gold_reward(good).mean() > 0.85 and large.gold_reward(bad).mean() < 0.15
    for one, other in zip(good, bad):  # the same sentences: signs at the end of each agree
        assert [token for token in one if token in ".!?"] == [token for token in other if token in ".!?"]


def test_naturalness_has_a_price_for_slips_and_for_gibberish(large):
    review = large.sample(1, seed=13)[0]
    fine = large.naturalness([review.text + " " + EOS])[0]
    assert fine == pytest.approx(large.log_likelihood([review.text])[0] / (len(review.tokens) + 1), abs=2 * SLIP)
    slipped = large.naturalness([[*review.tokens[:12], "zebra", *review.tokens[12:]]])[0]
    worst = large.naturalness(["zebra " * 20])[0]
    assert worst == pytest.approx(np.log(SLIP / len(large.vocabulary)), abs=1e-9)
    assert worst < large.naturalness(["superb " * 20])[0] < slipped < fine
    # Praise where it does not belong is no evidence: the posterior stays what the beginning made it.
    begun = "I saw this western last night. The"
    assert large.gold_reward([begun + " superb" * 20])[0] == pytest.approx(large.gold_reward([begun])[0], abs=0.02)


def test_naturalness_of_odd_rows(large):
    assert len(large.naturalness([])) == len(large.gold_reward([])) == len(large.log_likelihood([])) == 0
    ended = large.naturalness(["I saw this", "I saw this <eos>"], after=3)
    assert ended[0] == ended[1] < -10  # nothing written: counted as ended there
    both = large.naturalness(["I saw this western last night.", "I saw this"], after=[2, 1])
    assert np.isfinite(both).all() and both[0] == large.naturalness(["I saw this western last night."], after=2)[0]
    assert np.isfinite(large.naturalness([""])).all() and large.gold_reward([""])[0] == pytest.approx(0.5)
    for after in (-1, 4, [4]):
        with pytest.raises(ValueError, match="after"):
            large.naturalness(["I saw this"], after=after)


def test_two_hundred_texts_are_judged_in_a_moment(large):
    texts = [text_of((review.tokens * 2)[:60]) for review in large.sample(200, seed=14)]
    large.naturalness(texts[:1])  # compiles what is kept
    start = time.process_time()
    large.naturalness(texts)
    assert time.process_time() - start < 1.0  # 0.1 s on an idle core; the rest is room for a busy machine


def test_mistakes_in_the_text_are_named():
    slots = read_slots("adj+: fine\nadj-: bad")
    for line, problem in (
        ("0: A {film}.", "no slot 'film'"),
        ("+-: A ({~adj}|film).", "outside brackets"),
        ("0: A (film.", "bracket"),
        ("0: A fi{lm.", "bracket"),
    ):
        with pytest.raises(ValueError, match=problem):
            read_sentences(line, slots)
    assert module.world() is module.world()
