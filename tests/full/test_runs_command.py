"""`climb run` on language models, as it is typed: presets, folders, and a line for what is wrong."""

import json
from pathlib import Path

import pytest
import tiny_models
import torch

from autograder import cli
from full.given import hub

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def in_the_course(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(hub, "reachable", lambda address: False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    fields = tiny_models.workshop(tmp_path_factory.mktemp("workshop"))
    return [f"{key}={value}" for key, value in fields.items()]


def test_a_run_from_start_to_end(tmp_path, words, capsys):
    out = tmp_path / "run"
    assert cli.run(["run", "reinforce", "--solutions", "--out", str(out), *words, "baseline=rloo", "group_size=2"]) == 0
    told = capsys.readouterr().out
    assert "reward  " in told and "6 steps, cpu" in told and "curves.png" in told
    assert "baseline: rloo" in (out / "config.yaml").read_text()
    assert json.loads((out / "summary.json").read_text())["steps"] == 6
    assert cli.run(["run", "reinforce", "--solutions", "--out", str(out), *words]) == 2
    assert "holds a run already; name another folder, or add --resume" in capsys.readouterr().err
    assert cli.run(["run", "reinforce", "--solutions", "--out", str(out), "--resume"]) == 0  # of a finished run: nothing is left to do
    assert cli.run(["run", "reinforce", "--solutions", "--out", str(out), "--resume", "seed=3"]) == 2
    assert "leave out field=value" in capsys.readouterr().err


def test_evaluation_of_a_model(tmp_path, words, capsys):
    kept = [word for word in words if word.split("=")[0] in ("model", "classifier", "data", "prompt_tokens", "eval_prompts", "device")]
    out = tmp_path / "run"
    assert cli.run(["run", "evaluate", "--solutions", "--out", str(out), *kept, "new_tokens=6"]) == 0
    assert "12 texts" in capsys.readouterr().out and len((out / "samples.jsonl").read_text().splitlines()) == 8
    summary = json.loads((out / "summary.json").read_text())
    assert summary["reward"]["low"] < summary["reward"]["mean"] < summary["reward"]["high"] and summary["split"] == "test"


@pytest.mark.parametrize(
    "more, message",
    [
        (["--preset", "moon"], "--preset: no preset `moon`; there is laptop, imdb"),
        (["lr=1"], "expected field=value with one of "),
        (["batch_size=many"], "batch_size: expected a whole number, received 'many'"),
        (["steps=-1"], "steps: expected a number that is not negative, received -1"),
        (["precision=fp8"], "precision: expected no or bf16, received 'fp8'"),
        (["baseline=rloo"], "group_size: expected at least 2 with baseline=rloo"),
        (["data=nowhere.jsonl"], "data=nowhere.jsonl: there is no such file or folder"),
        (["text_column=review"], "there is no column `review`; there are text, label. Name the right one by text_column=..."),
        (["prompt_tokens=99"], "no text has the 99 tokens of a prompt (the longest has 12); lower prompt_tokens"),
        (["model=some-model"], "model=some-model: neither built-in"),
        (["batch_size=100"], "fewer than batch_size=100; lower batch_size"),
        (["trackers=paper"], "trackers=paper: paper is not installed here"),
        (["eval_prompts=80"], "eval_prompts=80 leaves nothing to train on; lower it"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_no_folder(tmp_path, words, capsys, more, message):
    out = tmp_path / "run"
    assert cli.run(["run", "reinforce", "--solutions", "--out", str(out), *words, *more]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and "Traceback" not in said
    assert not out.exists()


def test_a_preset_asks_for_the_real_thing(tmp_path, capsys):
    for name, preset, first in (("reinforce", "imdb", "distilgpt2"), ("dpo", "imdb-dpo", "distilgpt2"), ("evaluate", "imdb", "distilgpt2")):
        assert cli.run(["run", name, "--preset", preset, "--solutions", "--out", str(tmp_path / "run")]) == 2
        said = capsys.readouterr().err
        assert f"model={first}: neither built-in" in said and "give its directory: model=/path/to/it" in said
    assert cli.run(["run", "kl", "help"]) == 0
    told = capsys.readouterr().out
    assert "alpha=" in told and "--preset imdb  model=distilgpt2" in told and "Several alphas with commas" in told


def test_a_sweep_with_numbers_that_are_none(tmp_path, capsys):
    for word, message in (("alphas=0.1,x", "alphas: expected numbers with commas"), ("alphas=1,1", "each number once"), ("alphas=-1", "alphas")):
        assert cli.run(["run", "kl", "--solutions", "--out", str(tmp_path / "run"), word]) == 2
        assert message in capsys.readouterr().err


def test_an_exercise_that_is_not_written_is_named_before_anything_is_measured(tmp_path, words, capsys):
    out = tmp_path / "run"
    assert cli.run(["run", "reinforce", "--out", str(out), *words]) == 2
    said = capsys.readouterr().err
    assert "not written yet: lesson 9" in said and "or run with --solutions" in said and not out.exists()


def test_ctrl_c_says_how_to_go_on(tmp_path, words, capsys, monkeypatch):
    from full.given.runs import loop

    said = loop.said

    def stop(row):
        if row["step"] == 3:
            raise KeyboardInterrupt
        return said(row)

    monkeypatch.setattr(loop, "said", stop)
    out = tmp_path / "run"
    assert cli.run(["run", "reinforce", "--solutions", "--out", str(out), *words]) == 130
    assert f"`climb run reinforce --resume --out {out}` goes on" in capsys.readouterr().out
    monkeypatch.setattr(loop, "said", said)
    assert cli.run(["run", "reinforce", "--solutions", "--resume", "--out", str(out)]) == 0
    assert [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4, 5, 6]


def test_pretraining_as_it_is_typed(tmp_path, words, capsys):
    data = next(word for word in words if word.startswith("data="))
    fields = [data, "vocabulary=270", "block=16", "batch_size=4", "steps=3", "device=cpu"]
    assert cli.run(["pretrain", "lm", "--out", str(tmp_path / "lm"), *fields]) == 0
    assert "0.8M parameters, 270 tokens, 3 steps" in capsys.readouterr().out
    assert cli.run(["pretrain", "t5", "--out", str(tmp_path / "x")]) == 2 and "expected lm or classifier" in capsys.readouterr().err
    assert cli.run(["pretrain", "classifier", "help"]) == 0 and "climb pretrain classifier [field=value]" in capsys.readouterr().out
    model = f"model={tmp_path / 'lm'}"
    kept = [word for word in words if not word.startswith("model=")]
    assert cli.run(["run", "reinforce", "--solutions", "--out", str(tmp_path / "run"), *kept, model, "steps=2"]) == 0
