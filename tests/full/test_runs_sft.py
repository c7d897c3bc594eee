"""`climb run sft`: the learner's trainer with everything around it, stopped and gone on with, on files of every kind."""

import json
import shutil
from pathlib import Path

import pytest
import tiny_models
from test_runs_resume import run, timeless

from full.given.problems import InputProblem
from full.given.runs import sft
from full.given.runs.loop import NotFinite
from toy.given.run_folder import RunFolder

ASQA = Path(__file__).resolve().parents[3] / "shared/data/asqa"
ODD = ("seconds", "peak_memory_mb")


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workshop")
    found = {"model": tiny_models.t5(folder / "t5"), "data": tiny_models.answers(folder / "answers.jsonl")}
    found |= {"validation_rows": 6, "test_rows": 6, "batch_size": 8, "epochs": 2, "eval_every": 4, "learning_rate": 1e-2}
    return found | {"max_source": 12, "max_target": 8, "samples": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, fields):
    path = tmp_path_factory.mktemp("whole") / "run"
    return path, *run("sft", path, fields)


def test_a_run_from_start_to_end(whole):
    path, summary, rows = whole
    assert [row["step"] for row in rows] == list(range(1, 13))  # 48 rows, 8 at a time, twice
    assert [row["step"] for row in rows if "eval_rougeL" in row] == [4, 8, 12]
    assert rows[-1]["loss"] < rows[0]["loss"] and {"grad_norm", "learning_rate", "eval_loss", "eval_eos_rate"} <= set(rows[3])
    written = [json.loads(line) for line in (path / "predictions.jsonl").read_text().splitlines()]
    assert len(written) == summary["test_rows"] == 6 and {"id", "source", "target", "prediction", "rougeL"} <= set(written[0])
    assert summary["rougeL"]["mean"] == pytest.approx(sum(row["rougeL"] for row in written) / 6)
    best = max((row for row in rows if "eval_rougeL" in row), key=lambda row: row["eval_rougeL"])
    assert summary["validation_rougeL"] == best["eval_rougeL"] and summary["best_step"] in (4, 8, 12)
    samples = [json.loads(line) for line in (path / "samples.jsonl").read_text().splitlines()]
    assert [(row["step"], row["stage"]) for row in samples[::2]] == [(0, "before"), (4, "during"), (8, "during"), (12, "after")]
    assert (path / "curves.png").stat().st_size > 5_000 and len(sft.told(summary)) >= 4


@pytest.mark.slow
def test_what_is_left_is_the_model_that_was_best_on_validation(whole, fields):
    from safetensors.torch import load_file

    path, summary, _ = whole
    kept, best = load_file(path / "checkpoint/model.safetensors"), path / f"trainer/checkpoint-{summary['best_step']}"
    assert all((value == kept[name]).all() for name, value in load_file(best / "model.safetensors").items())
    again = run("sft", path.parent / "again", fields | {"model": str(path / "checkpoint"), "steps": 1})[0]
    assert again["rougeL_before"] == summary["rougeL"]  # a directory that a run can begin with


@pytest.mark.parametrize("step", [4, pytest.param(7, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_from_the_last_checkpoint_to_the_same_numbers(tmp_path, fields, whole, step):
    class Killed(Exception):
        pass

    def kill(what, done, total):
        if total == 12 and done == step:
            raise Killed

    with pytest.raises(Killed):
        run("sft", tmp_path, fields, progress=kill)
    summary, rows = run("sft", tmp_path, fields, resume=True)
    path, same, expected = whole
    assert rows == expected
    assert {name: value for name, value in summary.items() if name not in ODD} == {k: v for k, v in same.items() if k not in ODD}
    assert (tmp_path / "samples.jsonl").read_text() == (path / "samples.jsonl").read_text()


def test_a_run_goes_on_in_a_folder_that_was_moved(tmp_path, fields, whole):
    """The best checkpoint is that of the folder as it lies now; the trainer writes down where it lay."""
    shutil.copytree(whole[0], tmp_path / "moved")
    last = sft.newest(tmp_path / "moved/trainer")
    sft.moved_here(last)
    best = Path(json.loads((last / "trainer_state.json").read_text())["best_model_checkpoint"])
    assert best.parent == last.parent and best.is_dir()


@pytest.mark.slow
def test_one_that_was_killed_after_its_last_step_makes_no_other(tmp_path, fields):
    """max_steps in the middle of an epoch: the trainer by itself would make a step more."""
    few = fields | {"steps": 5, "eval_every": 2}
    path, again = tmp_path / "whole", tmp_path / "again"
    summary, rows = run("sft", path, few)
    shutil.copytree(path, again)
    (again / "summary.json").unlink()
    same, as_before = run("sft", again, few, resume=True)
    assert as_before == rows and same["steps"] == 5
    assert {name: value for name, value in same.items() if name not in ODD} == {k: v for k, v in summary.items() if k not in ODD}


@pytest.mark.slow
def test_ctrl_c_ends_it_with_the_step_and_a_checkpoint_of_it(tmp_path, fields, whole, monkeypatch):
    def ask(what, done, total):
        if total == 12 and done == 5:  # told of when step 6 has been made
            asked[0].asked = True

    asked = []

    class Remembered(sft.Interrupts):
        def __enter__(self):
            asked.append(self)
            return super().__enter__()

    monkeypatch.setattr(sft, "Interrupts", Remembered)
    with pytest.raises(KeyboardInterrupt):
        run("sft", tmp_path, fields, progress=ask)
    assert sft.newest(tmp_path / "trainer").name in ("checkpoint-6", "checkpoint-7")
    monkeypatch.undo()
    summary, rows = run("sft", tmp_path, fields, resume=True)
    assert rows == whole[2] and summary["rougeL"] == whole[1]["rougeL"]


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, fields):
    with pytest.raises(NotFinite, match=r"step \d+: the .* is (nan|inf).*Stopped; .*Lower learning_rate"):
        run("sft", tmp_path, fields | {"learning_rate": 1e30, "clip_norm": 0.0})
    assert all(row["step"] < 12 for row in timeless(RunFolder(tmp_path).metrics()))


@pytest.mark.slow
def test_texts_that_are_cut_are_counted(tmp_path, fields):
    summary, _ = run("sft", tmp_path, fields | {"max_source": 5, "steps": 1, "eval_every": 1, "epochs": 1})
    assert any("sources were longer than max_source=5" in note for note in summary["notes"])


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"source_column": "question"},
            "there is no column `question`; there are id, source, target. Name the right one by source_column",
        ),
        ({"validation_rows": 30, "test_rows": 30}, "60 rows leave none to learn from; lower validation_rows or test_rows"),
        ({"data": "reviews"}, "has texts to go on with and no answers; name questions or posts"),
        ({"data": "nowhere.json"}, "there is no such file or folder"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, fields, change, message):
    with pytest.raises(InputProblem, match=message):
        run("sft", tmp_path / "run", fields | change)


def test_a_decoder_is_refused(tmp_path, fields):
    with pytest.raises(InputProblem, match="expected an encoder-decoder as T5 is, received a causal language model"):
        run("sft", tmp_path / "run", fields | {"model": tiny_models.policy(tmp_path / "gpt2")})


@pytest.mark.slow
def test_a_text_that_is_trained_on_is_not_measured_on(tmp_path, fields):
    rows = [json.loads(line) for line in Path(fields["data"]).read_text().splitlines()]
    rows[-1] = rows[0] | {"id": "again"}
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = {"data": str(tmp_path / "answers.jsonl"), "steps": 1, "eval_every": 1, "epochs": 1}
    summary, _ = run("sft", tmp_path / "run", fields | more)
    assert summary["test_rows"] == 5 and "1 of 6 test rows have a text that is trained on; they were left out" in summary["notes"]


@pytest.mark.slow
@pytest.mark.skipif(not ASQA.is_dir(), reason="the data folder is not here")
def test_real_questions_of_asqa(tmp_path, fields):
    """300, 100 and 100 questions, of which a tiny T5 with another vocabulary learns nothing; all parts run."""
    more = {
        "data": str(ASQA / "dev.json"),
        "rows": 300,
        "validation_rows": 100,
        "test_rows": 100,
        "max_source": 64,
        "max_target": 16,
    }
    summary, rows = run("sft", tmp_path, fields | more | {"steps": 4, "epochs": 1})
    assert (summary["rows"], summary["validation_rows"], summary["test_rows"], len(rows)) == (300, 100, 100, 4)
    assert any("were longer than max_source=64" in note for note in summary["notes"])
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 100
