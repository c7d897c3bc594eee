"""The world of sums: exact answers, splits that share nothing, pupils who slip as often as it says, and in the ways it says."""

import json
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from full.given import build_world, data, models, sum_figures, world_figures
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
    assert (working(30, 12, 42), working(60, -4, 56)) == (" (30 + 12) = 42", " (60 - 4) = 56")
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
    for slip in ("carry", "one", "ten", "both"):
        within(sum(one.slip == slip for one in with_ten), len(with_ten), 1 / 4)
    assert set(Counter(one.slip for one in plain if not one.sum.carries)) == {None, "one", "ten", "both"}


def test_a_slip_is_what_its_name_says_and_never_right(drawn):
    for one in drawn:
        said, right = last_number(one.completion), one.sum.answer
        assert (one.slip is None) == (said == right) and shows_working(one.completion) == one.worked
        if one.worked:
            tens, sign, ones, total = re.fullmatch(r" \((\d+) ([+-]) (\d+)\) = (-?\d+)", one.completion).groups()
            tens, ones = int(tens), int(ones) * (1 if sign == "+" else -1)
            off = tens - one.sum.parts[0], ones - one.sum.parts[1], int(total) - tens - ones
            which = {None: None, "tens": 0, "ones": 1, "total": 2}[one.slip]
            assert all((by != 0) == (place == which) for place, by in enumerate(off))
            assert off[0] in (0, 10, -10) and off[1] in (0, 1, -1) and off[2] in (0, 1, -1, 10, -10)
        else:
            by = {None: [0], "one": [1, -1], "ten": [10, -10], "both": [9, -9, 11, -11]}
            by["carry"] = [-10 if one.sum.sign == "+" else 10]
            assert said - right in by[one.slip] and said >= 0 and (one.slip != "carry" or one.sum.carries)


def test_the_same_seed_gives_the_same_pupils_and_only_sums_of_the_split(sums, drawn):
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


# The built-in model

BUILTIN = Path(__file__).parents[2] / "full" / "given" / "builtin"
SHARES_MEASURED = ("accuracy", "greedy_accuracy", "pass_at_8", "worked", "accuracy_carries", "accuracy_no_carry")


@pytest.fixture(scope="module")
def figures():
    return json.loads((BUILTIN / "figures.json").read_text(encoding="utf-8"))


def test_the_model_knows_how_and_is_mostly_wrong(figures):
    lm = figures["sums-lm"]
    assert lm["accuracy"]["high"] < 0.35 and lm["pass_at_8"]["low"] > 0.75  # something to find, in nearly every group
    assert lm["accuracy_worked"]["low"] > 2 * lm["accuracy_plain"]["high"]  # and a better way to find it
    assert lm["sums"] == len(world().splits["test"])
    size = (BUILTIN / "sums-lm" / "model.safetensors").stat().st_size
    assert 2 * lm["parameters"] < size < 2**20  # half precision


def test_the_model_is_what_its_figures_say(figures, sums):
    model, tokenizer = models.load_policy("sums-lm")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert len(tokenizer) == len(sum_tokenizer()) and tokenizer.padding_side == "left"
    measured, stated = sum_figures.measure_sums_lm(model, tokenizer, sums, count=150, seed=101), figures["sums-lm"]
    for name in SHARES_MEASURED:  # other draws, some of the same sums: within four standard errors of a difference
        errors = [(value["high"] - value["low"]) / 3.92 for value in (measured[name], stated[name])]
        assert abs(measured[name]["mean"] - stated[name]["mean"]) < 4 * np.hypot(*errors), name
    assert measured["parameters"] == stated["parameters"]


def test_the_model_card_states_the_figures_of_sums(figures):
    card, lm = (BUILTIN / "README.md").read_text(encoding="utf-8"), figures["sums-lm"]
    for name in (*SHARES_MEASURED, "accuracy_worked", "accuracy_plain", "nats_a_completion"):
        assert world_figures.stated(lm[name], 2) in card, name
    assert f"{lm['parameters']:,} parameters" in card and f"{lm['sums']:,} sums" in card


@pytest.mark.slow
def test_the_model_is_made_from_nothing_and_the_same_each_time(tmp_path, monkeypatch):
    whole = sum_figures.measure_sums_lm
    monkeypatch.setattr(sum_figures, "measure_sums_lm", lambda *model: whole(*model, count=8))
    told: list[str] = []
    small = build_world.SumRecipe(width=16, layers=1, batch=8, textbook=3, pupils=3, warm_up=1)
    for turn in ("first", "second"):
        told.clear()
        build_world.build(
            tmp_path / turn, lambda what, done, total, said: told.append(f"{what} {done}/{total}"), worlds=("sums",), sums=small
        )
    assert "sums: textbook 3/3" in told and "sums: pupils 3/3" in told and "sum figures 1/1" in told
    one, two = ((tmp_path / turn / "sums-lm" / "model.safetensors").read_bytes() for turn in ("first", "second"))
    assert one == two
    found = json.loads((tmp_path / "first" / "figures.json").read_text())
    assert found["sums-lm"]["sums"] == 8 and len(build_world.told(found)) == 2
