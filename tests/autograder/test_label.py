"""`climb label`: judgements as Label Studio keeps them, in the terminal and on a page, and a model that learns from them."""

import json
import re
import time
from pathlib import Path

import pytest
import torch

from autograder import cli
from autograder.commands import label as command
from autograder.pages import labelling
from autograder.pages.labelling import Labels, pairs_of
from full.given import preferences as given
from full.given.problems import InputProblem
from solutions.full import reward_model
from terminals import Terminal

ROOT = Path(__file__).resolve().parents[2]


def pairs_file(place, count=6):
    rows = [{"prompt": f"Question {i}?", "answer1": f"good {i}", "answer2": f"bad {i}"} for i in range(count)]
    place.write_text(json.dumps(rows))
    return str(place)


@pytest.fixture
def labels(tmp_path):
    return Labels(pairs_of(pairs_file(tmp_path / "pairs.json"), 6, seed=0), tmp_path / "labels.json", 0)


def judged(labels):
    return reward_model.load_preferences(str(labels.path))


def test_a_judgement_is_about_the_answer_and_not_about_its_place(labels):
    """Whoever always presses the key of the answer that is called good has judged it better in the file, wherever it stood."""
    for pair in list(labels.waiting):
        labels.judge("1" if pair.first.startswith("good") else "2")
    found = judged(labels)
    assert [p.label for p in found] == [1] * 6 and all(p.first.startswith("good") for p in found)
    shown = {task["meta"]["shown"][0] for task in json.loads(labels.path.read_text())}
    assert shown == {"answer1", "answer2"}  # each stood first at least once


def test_the_place_is_left_to_a_coin_that_the_seed_throws(tmp_path):
    source = pairs_file(tmp_path / "pairs.json", 200)
    first = [pair.shown for pair in pairs_of(source, 200, seed=3)]
    assert first == [pair.shown for pair in pairs_of(source, 200, seed=3)]
    assert first != [pair.shown for pair in pairs_of(source, 200, seed=4)]
    assert 60 < first.count(1) < 140  # 100 +- 5.7 standard deviations of 7.07


def test_ties_skips_and_undo(labels):
    for key in ("0", "s", "1"):
        labels.judge(key)
    assert labels.undo() and labels.done == 2
    assert labels.current.prompt == "Question 2?"
    found = judged(labels)
    assert [p.label for p in found] == [0]  # the skipped one is no judgement
    assert labels.counts() == {"left": 0, "right": 0, "tie": 1, "skipped": 1, "first": 0}
    assert labels.undo() and labels.undo() and not labels.undo()
    assert json.loads(labels.path.read_text()) == []


def test_two_peoples_files_are_one_list(labels, tmp_path):
    """No judgement of the one has an id of the other, nor of its own file: laid together they are read as what they are."""
    other = Labels(labels.pairs, tmp_path / "other.json", 0)
    for mine in (labels, other):
        for key in "12s0":
            mine.judge(key)
        time.sleep(0.005)  # two people do not begin within the same thousandth of a second
    both = json.loads(labels.path.read_text()) + json.loads(other.path.read_text())
    (tmp_path / "both.json").write_text(json.dumps(both))
    found = reward_model.load_preferences(str(tmp_path / "both.json"))
    assert len(found) == 6 and [p.label for p in found[:3]] == [p.label for p in found[3:]]


def test_goes_on_where_it_stopped_and_not_with_other_pairs(labels, tmp_path):
    labels.judge("1")
    labels.judge("2")
    again = Labels(labels.pairs, labels.path, 0)
    assert again.done == 2 and again.current.prompt == "Question 2?"
    with pytest.raises(InputProblem, match="holds 2 judgements of pairs that are not among these 6"):
        Labels(pairs_of("questions", 6, 0), labels.path, 0)
    for text in ("no json", "[1, 2]", '{"data": 1}', '[{"data": {"prompt": "a", "answer1": "b", "answer2": "c"}}]'):
        labels.path.write_text(text)
        with pytest.raises(InputProblem, match="expected the file of an earlier `climb label`"):
            Labels(labels.pairs, labels.path, 0)


def test_any_source_of_pairs_will_do(tmp_path):
    for source in ("questions", "posts"):
        found = pairs_of(source, 5, seed=0)
        assert len(found) == 5 and all(pair.answer1 != pair.answer2 for pair in found)
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "a", "chosen": "d", "rejected": "d"}]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [pair.texts for pair in pairs_of(str(tmp_path / "pairs.jsonl"), 9, 0)] == [("a", "b", "c")]
    (tmp_path / "pairs.csv").write_text("prompt,answer1,answer2\na,b,c\n")
    assert [pair.texts for pair in pairs_of(str(tmp_path / "pairs.csv"), 9, 0)] == [("a", "b", "c")]


def small_tokenizer(texts):
    from full.given.word_tokenizer import word_tokenizer

    return word_tokenizer(sorted(set(re.findall(r"\w+", " ".join(texts)))), padding_side="right", positions=200)


def test_twenty_labels_train_the_lessons_model(tmp_path):
    """A person who likes the shorter answer judges twenty pairs; a small reward model of one layer learns it from the file."""
    from transformers import GPT2Config, GPT2Model

    labels = Labels(pairs_of("questions", 20, seed=0), tmp_path / "labels.json", 0)
    for pair in list(labels.waiting):
        labels.judge("1" if len(pair.first) < len(pair.second) else "2")
    found = judged(labels)
    assert len(found) == 20
    tokenizer = small_tokenizer([text for p in found for text in (p.prompt, p.first, p.second)])
    encoded = given.encode(tokenizer, found, max_length=200)
    assert encoded.cut == 0
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "n_positions": 200, "n_embd": 16, "n_layer": 1, "n_head": 2}
    model = reward_model.RewardModel(GPT2Model(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)))
    batches = list(given.batches(encoded, 10, tokenizer.pad_token_id))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loop = given.RewardLoop(model, batches * 8, batches, optimizer, given.RewardModelConfig(evaluate_every=8))
    reward_model.train(loop, loop.config)
    share, low, _ = reward_model.accuracy(*given.pair_scores(model, batches))
    assert share >= 0.9 and low > 0.5  # 18 of 20 right: chance does that once in 5000 times


# the terminal


@pytest.mark.slow
def test_in_a_terminal_one_key_is_one_judgement(tmp_path):
    source = pairs_file(tmp_path / "pairs.json", 3)
    terminal = Terminal("label", source, "--out", "mine.json", cwd=tmp_path)
    seen = terminal.until("quit")
    assert "1 of 3" in seen and "Question 0?" in seen and "good 0" in seen and "bad 0" in seen
    terminal.press("2")
    terminal.until("2 of 3")
    terminal.until("quit")
    terminal.press("u")
    assert "Taken back" in terminal.until("Taken back.")
    terminal.press("x")
    terminal.until("means nothing here")
    terminal.press("1")
    terminal.until("2 of 3")
    terminal.until("quit")
    terminal.press("q")
    terminal.until("goes on where you stopped")
    assert terminal.close() == 0
    kept = json.loads((tmp_path / "mine.json").read_text())
    assert len(kept) == 1 and kept[0]["annotations"][0]["result"][0]["value"]["selected"] in ("left", "right")
    terminal = Terminal("label", source, "--out", "mine.json", cwd=tmp_path)
    assert "2 of 3" in terminal.until("quit")
    terminal.press("\x03")  # Ctrl-C: what was judged is kept
    terminal.until("stopped")
    assert terminal.close() == 130
    assert json.loads((tmp_path / "mine.json").read_text()) == kept


def test_bad_input_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text('[{"a": 1}]')
    (tmp_path / "number.json").write_text('[{"prompt": "a", "answer1": "b", "answer2": 3}]')
    (tmp_path / "same.json").write_text('[{"prompt": "a", "answer1": "b", "answer2": "b"}]')
    for arguments, words in ((["missing.json"], "there is no such file"), (["broken.json"], "is not the .json file"),
                             (["other.json"], "no preferences in columns a"), (["number.json"], "received int 3"),
                             (["same.json"], "no two different answers"), (["--out", str(tmp_path)], "is a folder"),
                             (["--out", "no/where.json"], "no folder that exists"), ([], "use --page"),
                             (["--count", "0"], "count")):  # fmt: skip
        assert cli.run(["label", *arguments]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1, said


def test_what_a_terminal_sends_for_one_key_is_one_key():
    assert list(command.keys_in("12")) == ["1", "2"]
    for sequence in ("\x1b[2~", "\x1b[15~", "\x1b[1;5C", "\x1b"):  # Insert, F5, Ctrl and an arrow, Escape
        assert list(command.keys_in("1" + sequence)) == ["1", sequence]


def test_a_text_cannot_drive_the_terminal():
    assert command.harmless("a\x1b]52;c;aGk=\x07\x9b2Jb\n\tc é") == "a\ufffd]52;c;aGk=\ufffd\ufffd2Jb\n\tc é"


def test_two_at_once_would_overwrite_each_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with command.alone(tmp_path / "mine.json"):
        assert cli.run(["label", "--out", "mine.json", "--page"]) == 2
    said = capsys.readouterr().err
    assert "another `climb label` has mine.json open" in said and said.count("\n") == 1
    with command.alone(tmp_path / "mine.json"):  # whoever has ended leaves it free
        pass


# the page


@pytest.mark.slow
def test_the_page_is_driven_by_keys(labels, browser):
    from autograder.pages import server

    pytest.importorskip("playwright.sync_api")
    from playwright.sync_api import expect

    page = command.page_of(labels)
    with server.running(page) as address:
        seen = browser.open(address.url)
        count = seen.locator("#count")
        expect(count).to_have_text("1 of 6")
        expect(seen.locator("#first")).to_have_text(labels.current.first)
        seen.keyboard.press("1")
        expect(count).to_have_text("2 of 6")
        seen.keyboard.press("u")
        expect(count).to_have_text("1 of 6")
        for keys, number in (("2", 2), (" ", 3), ("s", 4)):
            seen.keyboard.press(keys)
            expect(count).to_have_text(f"{number} of 6")
        seen.get_by_role("button", name=re.compile("The first is better")).click()
        expect(count).to_have_text("5 of 6")
        seen.reload()  # what was judged is the server's, not the page's
        expect(count).to_have_text("5 of 6")
        seen.keyboard.press("1")
        expect(count).to_have_text("6 of 6")
        seen.keyboard.press("1")
        expect(seen.locator("#summary")).to_contain_text("All 6 pairs are judged: 4 with a winner, 1 tie, 1 skipped")
        assert seen.errors == [] and all(url.startswith((address.url, "data:")) for url in seen.asked)
        seen.keyboard.press("q")
        expect(seen.locator("#summary")).to_contain_text("You can close this page")
        assert page.finished.wait(5)
    assert [p.label in (1, 2) for p in judged(labels)].count(True) == 4


def test_a_second_click_is_not_a_second_judgement(labels):
    page = command.page_of(labels)
    state = page.actions["judge"]({"choice": "1", "done": 0})
    assert state["done"] == 1 and page.actions["judge"]({"choice": "2", "done": 0})["done"] == 1
    assert page.actions["undo"]({"done": 0})["done"] == 1 and page.actions["undo"]({"done": 1})["done"] == 0
