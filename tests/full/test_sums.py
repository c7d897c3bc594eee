"""The world of sums: exact answers, splits that share nothing, pupils who slip as often as it says, and in the ways it says."""

import math
import re
from collections import Counter

import pytest

from full.given import data
from full.given.build_sums import POSITIONS, sum_tokenizer
from full.given.sum_figures import last_number
from full.given.sums import PLAIN_RIGHT, SHARES, WORKED, WORKED_RIGHT, Sum, demonstration, shows_working, working, world


@pytest.fixture(scope="module")
def sums():
    return world()


@pytest.fixture(scope="module")
def drawn(sums):
    return sums.demonstrations(20_000, seed=7)


def test_every_sum_stands_in_one_split_in_either_order(sums):
    found = [{(one.sign, *sorted((one.first, one.second))) for one in part} for part in sums.splits.values()]
    assert sum(map(len, found)) == len(set.union(*found)) == 4095 + 4005  # pairs of 90 numbers, with and without equal ones
    everything = [one for part in sums.splits.values() for one in part]
    assert len(everything) == len(set(everything)) == 90 * 90 + 90 * 89 // 2
    for name, share in SHARES.items():
        assert len(sums.splits[name]) == pytest.approx(share * len(everything), rel=0.02)
    assert sums.rows("test") == world().rows("test") and sums.rows("test")[0]["id"] == "test-0"


def test_answers_and_parts_are_exact(sums):
    for one in sums.splits["test"]:
        assert sums.answer(one.prompt) == eval(one.prompt.removesuffix("=")) == one.answer == sum(one.parts) > 0
        units = one.first % 10, one.second % 10
        assert one.carries == (sum(units) > 9 if one.sign == "+" else units[0] < units[1])
        assert sums.read(one.prompt) == one and working(*one.parts, one.answer).endswith(f"= {one.answer}")
    assert (Sum(17, "+", 25).parts, Sum(83, "-", 27).parts) == ((30, 12), (60, -4))
    assert (working(30, 12, 42), working(60, -4, 56)) == (" 30 + 12 = 42", " 60 - 4 = 56")
    assert (Sum(17, "+", 25).forgotten, Sum(83, "-", 27).forgotten, Sum(11, "+", 25).forgotten) == (32, 66, 36)


def test_pupils_slip_as_often_as_stated(drawn):
    def within(count, of, share):  # a binomial share stays within 5 standard deviations but for 1 in 1.7 million
        assert abs(count / of - share) < 5 * math.sqrt(share * (1 - share) / of)

    worked = [one for one in drawn if one.worked]
    plain = [one for one in drawn if not one.worked]
    within(len(worked), len(drawn), WORKED)
    within(sum(one.slip is None for one in worked), len(worked), WORKED_RIGHT)
    within(sum(one.slip is None for one in plain), len(plain), PLAIN_RIGHT)
    with_ten = [one for one in plain if one.sum.carries and one.slip]
    for slip in ("carry", "one", "ten"):
        within(sum(one.slip == slip for one in with_ten), len(with_ten), 1 / 3)
    assert set(Counter(one.slip for one in plain if not one.sum.carries)) == {None, "one", "ten"}


def test_a_slip_is_what_its_name_says_and_never_right(drawn):
    for one in drawn:
        said, right = last_number(one.completion), one.sum.answer
        assert (one.slip is None) == (said == right) and shows_working(one.completion) == one.worked
        if one.worked:
            tens, sign, ones, total = re.fullmatch(r" (\d+) ([+-]) (\d+) = (-?\d+)", one.completion).groups()
            tens, ones = int(tens), int(ones) * (1 if sign == "+" else -1)
            off = tens - one.sum.parts[0], ones - one.sum.parts[1], int(total) - tens - ones
            which = {None: None, "tens": 0, "ones": 1, "total": 2}[one.slip]
            assert all((by != 0) == (place == which) for place, by in enumerate(off))
            assert off[0] in (0, 10, -10) and off[1] in (0, 1, -1) and off[2] in (0, 1, -1, 10, -10)
        else:
            by = {None: [0], "one": [1, -1], "ten": [10, -10], "carry": [-10 if one.sum.sign == "+" else 10]}[one.slip]
            assert said - right in by and said >= 0 and (one.slip != "carry" or one.sum.carries)


def test_the_same_seed_gives_the_same_pupils_and_only_sums_of_the_split(sums, drawn):
    import numpy as np

    assert sums.demonstrations(20_000, seed=7) == drawn and sums.demonstrations(50, seed=8) != sums.demonstrations(50, seed=9)
    assert {one.sum for one in drawn} <= set(sums.splits["train"])
    one = Sum(17, "+", 25)
    assert demonstration(one, np.random.default_rng(1)) == demonstration(one, np.random.default_rng(1))


def test_texts_come_back_from_their_tokens(drawn):
    tokenizer = sum_tokenizer()
    texts = [one.sum.prompt + one.completion for one in drawn[:500]]
    rows = tokenizer(texts)["input_ids"]
    assert tokenizer.batch_decode(rows) == texts and max(map(len, rows)) < POSITIONS
    assert not any(tokenizer.unk_token_id in row for row in rows)
    assert tokenizer.convert_ids_to_tokens(tokenizer("17 + 25 = 42")["input_ids"]) == ["1", "7", " +", " 2", "5", " =", " 4", "2"]
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}) == 3
    padded = tokenizer(["17 + 25 =", "17 + 25 = 3"], padding=True)
    assert padded["attention_mask"][0] == [0, 1, 1, 1, 1, 1, 1]


def test_sums_by_name(sums):
    rows = data.load_rows("sums", {"question": "prompt", "answer": "answer"}, split="test")
    assert len(rows) == len(sums.splits["test"]) and data.load_rows("sums", {"prompt": "prompt"}, limit=3)[0] == {
        "prompt": sums.rows("train")[0]["prompt"]
    }
    for row in rows:
        assert str(sums.answer(row["question"])) == row["answer"]


def test_what_is_no_sum_is_refused(sums):
    for prompt in ("17 + 25", "17+25 =", "17 * 25 =", "", "a + b ="):
        with pytest.raises(ValueError, match="prompt: expected two numbers with"):
            sums.answer(prompt)
    with pytest.raises(ValueError, match="split: expected train, validation, test, received 'dev'"):
        sums.rows("dev")
