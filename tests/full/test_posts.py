"""The post world: posts tell what they are meant to, and the gold score is that of the rule."""

from __future__ import annotations

import numpy as np
import pytest

from full.given.posts import FALSE, LEFT_OUT, SHARPNESS, SLOTS, summary_of, world

POST = (
    "I will keep it short. Last week my aunt washed my clock without asking. Now it is full of water. My uncle would say nothing"
    " at once. Should I send a bill?"
)

CASES = [  # summary, gold score times six
    ("My aunt washed my clock last week and it is full of water, should I send a bill?", 6),
    ("my AUNT washed my clock", 3),
    ("Somebody washed my clock.", 2),
    ("", 0),
    ("My uncle washed my clock.", 1),  # two right, one false
    ("My aunt washed my clock and my aunt washed my clock.", 0),  # three right, three repeated
    ("Should I send a bill?", 1),
    ("Should I say nothing?", 0),  # never below 0
    ("My aunt washed my clock, should I say nothing?", 2),
    ("My aunt sadly washed my dear clock", 1),  # "my dear clock" is no phrase: my, dear, clock and sadly are stray
    ("My aunt, my uncle, my sister and my boss washed my clock.", 0),  # naming everybody does not pay
    ("Last week last week my clock", 1),
]


@pytest.mark.parametrize("summary, six", CASES)
def test_the_gold_score_is_that_of_the_rule(summary, six):
    for post in (POST, POST + " TL;DR:", POST + "\nTL;DR:"):
        assert world().scores([post], [summary])[0] == pytest.approx(six / 6, abs=1e-12)


def test_stray_words_cost_a_quarter():
    assert world().phrases("My aunt sadly washed my dear clock") == [
        ("who", "my aunt"),
        (None, "sadly"),
        ("deed", "washed"),
        (None, "my"),
        (None, "dear"),
        (None, "clock"),
    ]
    assert world().scores([POST], ["My aunt sadly washed my dear clock"])[0] == pytest.approx((2 - 4 / 4) / 6)


def test_a_post_tells_its_content_and_no_more():
    for post in world().draw(300, seed=4):
        assert world()._content_of(post.post) == {slot: phrase.lower() for slot, phrase in post.content.items()}
        assert 5 <= post.post.count(".") + post.post.count("?") <= 8
        assert list(post.content) == list(SLOTS)
        assert world().scores([post, post.prompt], [post.complete] * 2).tolist() == [1.0, 1.0]
        assert post.complete == summary_of(post.content)


def test_draws_are_decided_by_the_seed_and_distinct():
    drawn = world().draw(300, seed=5)
    assert world().draw(100, seed=5) == drawn[:100] and len({post.post for post in drawn}) == 300
    assert not {post.post for post in drawn} & {post.post for post in world().draw(300, seed=6)}


def test_authors_leave_out_by_the_stated_rule():
    drawn = world().draw(2000, seed=7)
    told = [{slot: phrase for slot, phrase in world().phrases(post.summary) if slot} for post in drawn]
    for slot in SLOTS:
        share = LEFT_OUT.get(slot, 0.0)
        found = np.mean([slot not in one for one in told])
        assert abs(found - share) <= 4 * np.sqrt(share * (1 - share) / len(drawn))
    expected = 1 - sum(LEFT_OUT.values()) / len(SLOTS)
    assert np.mean(world().scores(drawn, [post.summary for post in drawn])) == pytest.approx(expected, abs=0.02)  # 4 sigma: 0.017


def test_comparisons_follow_the_gold_score_as_often_as_stated():
    rows = world().comparisons(1500, seed=8)
    prompts = [row["prompt"] for row in rows]
    chosen, rejected = (world().scores(prompts, [row[side] for row in rows]) for side in ("chosen", "rejected"))
    assert (chosen != rejected).all()
    sure = 1 / (1 + np.exp(-SHARPNESS * abs(chosen - rejected)))
    right = (chosen > rejected).astype(float)
    assert abs((right - sure).mean()) < 4 * np.sqrt((sure * (1 - sure)).sum()) / len(rows)
    assert rows[:50] == world().comparisons(50, seed=8)
    false = np.mean([_false(prompt, row["chosen"]) for prompt, row in zip(prompts, rows)])
    assert 0.1 < false < 1 - (1 - FALSE) ** 6  # chosen summaries are truer than drawn ones, not always true


def _false(prompt: str, summary: str) -> bool:
    content = world()._content(prompt)
    return any(slot and content[slot] != phrase for slot, phrase in world().phrases(summary))


def test_no_phrase_stands_in_two_slots_and_every_word_is_a_token():
    from full.given.build_posts import POSITIONS, post_tokenizer

    phrases = [phrase.lower() for stock in world().slots.values() for phrase in stock]
    assert len(phrases) == len(set(phrases))
    tokenizer = post_tokenizer(world(), "left")
    for post in world().draw(200, seed=9):
        ids = tokenizer(post.prompt + " " + post.complete).input_ids
        assert tokenizer.unk_token_id not in ids and len(ids) < POSITIONS
        assert tokenizer.decode(ids) == post.prompt + " " + post.complete


@pytest.mark.parametrize("text", ["Hello.", "Last week my aunt washed my clock without asking. Should I send a bill? TL;DR:", ""])
def test_other_posts_are_refused_in_one_line(text):
    with pytest.raises(ValueError, match="posts: expected one of the post world") as caught:
        world().scores([text], ["Somebody washed my clock."])
    assert "\n" not in str(caught.value)


def test_as_many_summaries_as_posts():
    with pytest.raises(ValueError, match="summaries: expected one for each of 2 posts, received 1"):
        world().scores([POST, POST], ["Somebody washed my clock."])
