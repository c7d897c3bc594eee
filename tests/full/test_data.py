"""Rows from every kind of file, prompts and pairs made of them, and one line for each way a source can be wrong."""

import csv
import gzip
import json

import pytest
import tiny_models
import torch

from full.given import data, hub
from full.given.problems import InputProblem

ROWS = [{"text": 'one, "quoted"', "label": 1, "id": "a"}, {"text": "zwei Zeilen\nhier: ü", "label": 0, "id": "b"}]
BOTH = {"text": "text", "label": "label"}


def write(folder, name):
    path = folder / name
    if name.endswith(".parquet"):
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
        return path
    with (gzip.open if name.endswith(".gz") else open)(path, "wt", encoding="utf-8", newline="") as file:
        if ".csv" in name:
            writer = csv.DictWriter(file, ["text", "label", "id"])
            writer.writeheader()
            writer.writerows(ROWS)
        elif ".jsonl" in name:
            file.write("".join(json.dumps(row) + "\n\n" for row in ROWS))
        else:
            json.dump({"data": ROWS} if "wrapped" in name else ROWS, file)
    return path


@pytest.mark.parametrize(
    "name", ["x.json", "wrapped.json", "x.json.gz", "x.jsonl", "x.jsonl.gz", "x.csv", "x.csv.gz", "x.parquet", "X.JSONL"]
)
def test_every_format_gives_the_same_rows(tmp_path, name):
    rows = data.load_rows(str(write(tmp_path, name.lower()).rename(tmp_path / name)), BOTH)
    assert data.texts_of(rows, "text", "x") == [row["text"] for row in ROWS]
    assert data.labels_of(rows, "label", "x") == [1, 0]
    assert data.load_rows(str(tmp_path / name), {"text": "id"}, limit=1) == [{"text": "a"}]  # another column, called text


def test_a_folder_is_asked_for_a_split(tmp_path):
    for name in ("train.jsonl", "test-00000-of-00001.parquet"):
        write(tmp_path, name)
    (tmp_path / "README.md").write_text("x")
    assert len(data.load_rows(str(tmp_path), BOTH, split="test")) == len(data.load_rows(str(tmp_path), BOTH)) == 2
    with pytest.raises(InputProblem, match="no file is named after the split `unsup`; there are test-00000"):
        data.load_rows(str(tmp_path), BOTH, split="unsup")
    (tmp_path / "test-00000-of-00001.parquet").unlink()
    (tmp_path / "dev.csv").write_text("text,label\nhello there,1\n")
    assert data.load_rows(str(tmp_path), BOTH, split="test") == [{"text": "hello there", "label": "1"}]


def test_lines_of_a_text_file_are_texts(tmp_path):
    (tmp_path / "x.txt").write_bytes("\ufeffone\r\n\r\ntwo\n".encode())
    assert data.load_rows(str(tmp_path / "x.txt"), {"text": "text"}) == [{"text": "one"}, {"text": "two"}]


def test_what_will_not_do_is_said_in_one_line(tmp_path, monkeypatch):
    def holding(name, content):
        (tmp_path / name).write_bytes(content)
        return str(tmp_path / name)

    (tmp_path / "folder").mkdir()
    cases = [
        (str(tmp_path / "no.jsonl"), "there is no such file or folder"),
        ("no.csv", "there is no such file or folder"),
        (holding("a.jsonl", b'{"text": 1}\nnot json\n'), "a.jsonl: line 2 is not JSON"),
        (holding("b.jsonl", b"[1, 2]\n"), "line 1: expected an object with named columns, received list"),
        (holding("c.json", b'{"text": "x"}'), "expected a list of rows, received dict"),
        (holding("d.json", b"[1]"), "entry 1: expected an object"),
        (holding("e.csv", b"text,label\na,1\nb\n"), "line 3 has another number of columns"),
        (holding("f.parquet", b"nothing"), "is not the .parquet file that its name says"),
        (holding("g.jsonl.gz", b"nothing"), "is not the .jsonl file that its name says"),
        (holding("h.jsonl", '{"text": "é"}'.encode("latin-1")), "is not the .jsonl file that its name says"),
        (holding("i.docx", b"x"), "expected a .jsonl, .json, .csv, .parquet, .txt file"),
        (holding("j.jsonl", b""), "holds no rows"),
        (holding("k.jsonl", b'{"text": "x", "stars": 3}\n'), "no column `label`; there are text, stars. .* by label_column=..."),
        (str(tmp_path / "folder"), "holds no .jsonl"),
    ]
    for source, message in cases:
        with pytest.raises(InputProblem, match=message) as caught:
            data.load_rows(source, BOTH)
        assert "\n" not in str(caught.value) and str(caught.value).startswith("data=")
    monkeypatch.setattr(hub, "reachable", lambda address: False)
    with pytest.raises(InputProblem, match="data=nobody/nothing: neither built-in .* nor .* give its file or folder: data=/path"):
        data.load_rows("nobody/nothing", BOTH)


def test_empty_texts_and_odd_labels_are_named_by_their_row():
    for value, message in (("", "row 2: `text` is empty"), (" \n", "row 2: `text` is empty"), (None, "received NoneType"), (7, "int")):
        with pytest.raises(InputProblem, match=message):
            data.texts_of([{"text": "x"}, {"text": value}], "text", "file")
    assert data.labels_of([{"label": x} for x in ("pos", "Negative", 1, "0", True)], "label", "file") == [1, 0, 1, 0, 1]
    with pytest.raises(InputProblem, match="row 1: expected 0 or 1 .* received 5"):
        data.labels_of([{"label": 5}], "label", "file")


def test_prompts_are_first_tokens_and_shorter_texts_are_counted():
    tokenizer = tiny_models.tokenizer()
    found = data.beginnings(tokenizer, ["the film was bad", "the film", "a plot and music ."], 3, "x")
    assert found.dropped == 1 and [tokenizer.decode(row) for row in found.tokens] == ["the film was", "a plot and"]
    with pytest.raises(InputProblem, match=r"data=x: no text has the 9 tokens of a prompt \(the longest has 5\); lower prompt_tokens"):
        data.beginnings(tokenizer, ["a plot and music .", "bad"], 9, "x")
    prompts = data.prompts_of([[5, 6], [7, 8, 9]], 0)
    assert prompts.input_ids.tolist() == [[0, 5, 6], [7, 8, 9]] and prompts.attention_mask.tolist() == [[0, 1, 1], [1, 1, 1]]


def test_pairs_end_with_eos_unless_they_are_cut():
    tokenizer = tiny_models.tokenizer()
    eos = tokenizer.eos_token_id
    rows = [
        {"prompt": "the film", "chosen": " was good", "rejected": " was bad and dull"},
        {"prompt": "the the the the the", "chosen": "good", "rejected": "bad"},
    ]
    found = data.preferences(tokenizer, rows, 5, "x")
    assert len(found) == 1 and found.dropped == 1 and found.cut == 1
    assert found.chosen[0][-1] == eos and len(found.chosen[0]) == 3 and len(found.rejected[0]) == 3 and eos not in found.rejected[0]
    pairs = data.pairs_of(data.preferences(tokenizer, rows, 9, "x"), [1, 0], 0, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert pairs.tokens.shape == (4, 7) and pairs.prompt_lengths.tolist() == [5, 2, 5, 2]
    assert pairs.ref_log_probs.tolist() == [3.0, 1.0, 4.0, 2.0]  # chosen rows first
    assert (pairs.tokens[~pairs.attention_mask.bool()] == 0).all() and len(pairs) == 2
    with pytest.raises(InputProblem, match="no prompt leaves room for a completion within max_length=2; raise it"):
        data.preferences(tokenizer, rows, 2, "x")


def test_the_built_in_world_is_a_source():
    rows = data.load_rows("reviews", BOTH, limit=5)
    assert len(rows) == 5 and set(data.labels_of(rows, "label", "reviews")) <= {0, 1}
    prompts = data.load_rows("reviews", {"text": "text"}, split="test", limit=4, tokens=7)
    world = data.the_world()
    assert [len(world.numbers(row["text"])) for row in prompts] == [7] * 4
    assert prompts != data.load_rows("reviews", {"text": "text"}, split="train", limit=4, tokens=7)
    columns = {"prompt": "prompt", "chosen": "positive_completion", "rejected": "negative_completion"}
    pair = data.load_rows("reviews", columns, limit=3, tokens=5)[0]
    gold = world.gold_reward([f"{pair['prompt']} {pair['chosen']}", f"{pair['prompt']} {pair['rejected']}"])
    assert gold[0] > gold[1]


def test_questions_and_posts_are_data_by_name():
    rows = data.load_rows("questions", {"source": "source", "target": "demonstration"}, limit=3)
    assert [set(row) for row in rows] == [{"source", "target"}] * 3
    assert all(row["source"].startswith("question: ") for row in rows)
    assert rows != data.load_rows("questions", {"source": "source", "target": "demonstration"}, split="test", limit=3)
    pairs = data.load_rows("posts", {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}, limit=3)
    assert all(row["prompt"].endswith(" TL;DR:") and row["chosen"] != row["rejected"] for row in pairs)
    assert data.load_rows("posts", {"prompt": "prompt", "target": "summary"}, limit=3)[0]["prompt"] == pairs[0]["prompt"]
    with pytest.raises(InputProblem, match="data=posts: there is no column `title`; there are id, prompt, post, summary"):
        data.load_rows("posts", {"title": "title"}, limit=3)
