"""`climb run reward-model`: learns what it is shown, says what that is worth, and goes on where it was stopped."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_models
import torch
from test_runs_resume import run

from full.given.problems import InputProblem
from full.given.runs import checkpoint, reward_model

ASQA = Path(__file__).resolve().parents[3] / "shared/data/asqa"
LABELS = ASQA.parent / "label_studio/ls_output_data.json"


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workshop")
    found = {"model": tiny_models.classifier(folder / "gpt2", labels=1, names=("score",)), "fresh": True, "frozen": 0.0}
    found |= {"data": tiny_models.judgements(folder / "pairs.jsonl", 80), "batch_size": 8, "epochs": 3, "learning_rate": 1e-2}
    return found | {"max_length": 24, "evaluate_every": 2, "patience": 20, "save_every": 4, "device": "cpu", "test_share": 0.25}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, fields):
    path = tmp_path_factory.mktemp("whole") / "run"
    return path, *run("reward_model", path, fields)


def test_it_learns_to_tell_good_words_from_bad_ones(whole):
    path, summary, rows = whole
    assert summary["accuracy"]["low"] > 0.8 and summary["log_loss"]["high"] < math.log(2)
    assert summary["accuracy_by_length"]["low"] < 0.5 < summary["accuracy_by_length"]["high"]  # the good ones are no longer
    assert sum(count for count, _, _ in summary["calibration"]) == summary["test_pairs"] == 20
    assert summary["spread"] > 0.1 and not summary["notes"]
    assert min(row["validation_loss"] for row in rows if "validation_loss" in row) == summary["validation_loss"]
    assert {"loss", "accuracy", "margin", "grad_norm", "learning_rate"} <= set(rows[0])
    assert all((path / name).stat().st_size > 5_000 for name in ("curves.png", "calibration.png"))
    shown = [json.loads(line) for line in (path / "samples.jsonl").read_text().splitlines()]
    assert [row["stage"] for row in shown] == ["chosen", "rejected"] * 8


def test_what_is_left_is_the_model_that_was_best_on_validation(whole, fields):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    path, summary, _ = whole
    best = torch.load(path / "checkpoint" / "best.pt", weights_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(path / "checkpoint").eval()
    assert model.config.num_labels == 1 and all(torch.equal(best[name], value) for name, value in model.state_dict().items())
    tokenizer = AutoTokenizer.from_pretrained(path / "checkpoint")
    ids = tokenizer(["the film was good great lovely", "the film was bad awful dull"], return_tensors="pt")
    good, bad = model(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).logits[:, 0]
    assert good > bad


@pytest.mark.parametrize("step", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(tmp_path, fields, whole, step):
    def stop(what, done, total):
        if done == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("reward_model", tmp_path, fields, progress=stop)
    assert checkpoint.load(tmp_path / "checkpoint")[0].step == step
    summary, rows = run("reward_model", tmp_path, fields, resume=True)
    _, same, expected = whole
    odd = ("seconds", "peak_memory_mb")
    assert rows == expected
    assert {name: value for name, value in summary.items() if name not in odd} == {k: v for k, v in same.items() if k not in odd}


@pytest.mark.slow
def test_one_that_had_stopped_by_itself_has_nothing_left_to_do(tmp_path, fields):
    impatient = fields | {"patience": 1, "learning_rate": 1e-9, "epochs": 20}
    summary, rows = run("reward_model", tmp_path, impatient)
    again, same = run("reward_model", tmp_path, impatient, resume=True)
    assert len(rows) < 20 and same == rows and again["accuracy"] == summary["accuracy"]


def test_scores_that_say_nothing_of_the_answer_are_told_with_the_figure():
    """They vary, from prompt to prompt alone."""
    levels = torch.randn(20, generator=torch.Generator().manual_seed(0))
    lessons = SimpleNamespace(accuracy=lambda c, r: (0.5, 0.4, 0.6), calibration=lambda c, r, bins: [(20, 0.5, 0.5)])
    found = reward_model.figures(levels, levels - 0.001, lessons, reward_model.Config())
    assert found["warning"].startswith("the two answers of a pair get nearly the same score") and "0.0010, below 0.02" in found["warning"]
    assert reward_model.figures(levels, levels - 0.1, lessons, reward_model.Config())["warning"] is None


def test_scores_that_hardly_vary_are_told_with_the_figure():
    from solutions.full import reward_model as lesson

    scores = torch.linspace(0, 0.002, 20)
    found = reward_model.figures(scores, scores.flip(0), lesson, SimpleNamespace(bins=5))
    assert "the scores hardly vary: their standard deviation over 40 texts is 0.0006" in found["warning"]
    assert found["spread"] == pytest.approx(float(scores.double().std(correction=0)))
    assert reward_model.figures(500 * scores, scores, lesson, SimpleNamespace(bins=5))["warning"] is None


@pytest.mark.slow
def test_texts_that_are_cut_are_counted(tmp_path, fields):
    summary, _ = run("reward_model", tmp_path, fields | {"max_length": 6, "steps": 2})
    assert any("texts were longer than 6 tokens and were cut" in note for note in summary["notes"])


@pytest.mark.parametrize(
    "row, message",
    [
        ({"chosen": "good", "rejected": "good"}, "label: preference 3 prefers one of two answers that are the same"),
        ({"rejected": "bad"}, "answer: expected text in `chosen`, received nothing"),
        ({"id": "1", "chosen": "good", "rejected": "bad"}, "id: 1 stands there twice"),
        ({"id": 0, "chosen": "good", "rejected": "bad"}, "id: 0 stands there twice"),
    ],
)
def test_preferences_that_make_no_sense_are_one_line(tmp_path, fields, row, message):
    rows = [{"id": str(n), "prompt": f"p {n}", "chosen": "good", "rejected": "bad"} for n in range(3)] + [
        {"prompt": "p 9", **row}
    ]
    rows[3].setdefault("id", "3" if "the same" in message else "9")
    rows = rows if "twice" in message else rows[:3] + rows[3:]
    if "the same" in message:
        rows.pop(2)
        rows[2]["id"] = "3"
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputProblem, match=message):
        run("reward_model", tmp_path / "run", fields | {"data": str(tmp_path / "pairs.jsonl")})


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"data": {}, "annotations": [{"id": 1, "result": None}]}], "annotations with an `id` and a list `result` in row 1"),
        ([{"data": {}, "annotations": []}, {"data": {}}], "`data` with texts and a list of `annotations` in row 2"),
        ([{"question": "a", "passages": None, "preference": [0] * 6, "prediction 1": ""}], "a list of `passages` in row 1"),
        ([{"question": "a", "passages": [], "preference": None, "prediction 1": ""}], "six labels in `preference` in row 1"),
        ([{"info": None, "summaries": [{}, {}], "choice": 0}], "`info` with a post, and two `summaries` in row 1"),
    ],
)
def test_rows_without_their_parts_are_told_by_number(tmp_path, fields, rows, message):
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with pytest.raises(InputProblem, match=message):
        run("reward_model", tmp_path / "run", fields | {"data": str(tmp_path / "rows.json")})


def test_a_selection_that_is_no_word_is_an_unknown_label():
    from solutions.full.reward_model import from_label_studio

    value = {"type": "pairwise", "value": {"selected": ["left"]}}
    task = {"data": dict.fromkeys(("prompt", "answer1", "answer2"), "a"), "annotations": [{"id": 1, "result": [value]}]}
    with pytest.raises(ValueError, match=r"label: expected left, right or tie, received \['left'\]"):
        from_label_studio([task])


def test_ids_may_begin_at_0(tmp_path):
    from full.given.preferences import from_pairs

    rows = [{"id": n, "prompt": "a", "chosen": "b", "rejected": "c"} for n in range(3)]
    assert [found.id for found in from_pairs(rows)] == ["0", "1", "2"]


def test_a_short_run_is_looked_at_too_and_keeps_what_it_learned(tmp_path, fields):
    """Twenty labels are three steps. What is left is the best that was measured, so that something has to be measured."""
    summary, rows = run("reward_model", tmp_path, fields | {"evaluate_every": 50, "epochs": 2})
    assert [row["step"] for row in rows if "validation_loss" in row] == [2 * n for n in range(1, len(rows) // 2 + 1)]
    assert summary["validation_loss"] < math.log(2) and summary["accuracy"]["mean"] > 0.7
    assert any(note.startswith("evaluate_every=50: the run has") for note in summary["notes"])


@pytest.mark.slow
def test_ctrl_c_while_validation_is_measured_loses_no_step(tmp_path, fields, whole, monkeypatch):
    class Asked(reward_model.Interrupts):
        def __enter__(self):
            asked.append(self)
            return super().__enter__()

    class Slow(reward_model.RewardRunLoop):
        def validation(self):
            asked[0].asked = self.moment.step == 3  # measured after the fourth step, which has not been written down yet
            return super().validation()

    asked = []
    monkeypatch.setattr(reward_model, "Interrupts", Asked)
    monkeypatch.setattr(reward_model, "RewardRunLoop", Slow)
    with pytest.raises(KeyboardInterrupt):
        run("reward_model", tmp_path, fields)
    assert checkpoint.load(tmp_path / "checkpoint")[0].step == 4
    monkeypatch.undo()
    assert run("reward_model", tmp_path, fields, resume=True)[1] == whole[2]


@pytest.mark.slow
def test_a_model_of_another_kind_is_refused(tmp_path, fields):
    with pytest.raises(InputProblem, match="expected a GPT-2, received a model of type t5"):
        run("reward_model", tmp_path / "run", fields | {"model": tiny_models.t5(tmp_path / "t5")})


@pytest.mark.slow
@pytest.mark.skipif(not LABELS.is_file(), reason="the data folder is not here")
def test_real_judgements_from_label_studio(tmp_path, fields):
    summary, rows = run(
        "reward_model", tmp_path, fields | {"data": str(LABELS), "batch_size": 4, "steps": 4, "validation_share": 0.2}
    )
    assert len(rows) == 4 and summary["pairs"] + summary["validation_pairs"] + summary["test_pairs"] <= 32
    assert summary["accuracy"]["high"] - summary["accuracy"]["low"] > 0.3  # a handful of pairs says next to nothing


@pytest.mark.slow
@pytest.mark.skipif(not ASQA.is_dir(), reason="the data folder is not here")
def test_real_feedback_of_asqa(tmp_path, fields):
    more = {"data": str(ASQA / "dev_feedback.json"), "rows": 60, "steps": 4, "max_length": 60}
    summary, rows = run("reward_model", tmp_path, fields | more)
    assert len(rows) == 4 and summary["test_pairs"] > 20
    assert any("are ties" in note for note in summary["notes"]) and any("were cut" in note for note in summary["notes"])


def test_a_model_that_is_not_written_yet_is_said_to_be_that(tmp_path, fields):
    class Unwritten(torch.nn.Module):
        def __init__(self, transformer):
            raise NotImplementedError("lesson 12: RewardModel")

    with pytest.raises(NotImplementedError, match="lesson 12: RewardModel"):
        run("reward_model", tmp_path, fields, RewardModel=Unwritten)


@pytest.mark.slow
def test_words_that_the_model_does_not_know_are_told(tmp_path, fields):
    rows = [{"prompt": f"the film {n}", "chosen": "splendid beyond all words", "rejected": "quite bad"} for n in range(12)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    more = {"data": str(tmp_path / "pairs.jsonl"), "batch_size": 2, "steps": 1}
    summary, _ = run("reward_model", tmp_path / "run", fields | more)
    assert any("% of the training tokens are words that model=" in note for note in summary["notes"])
