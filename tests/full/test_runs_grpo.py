"""`climb run grpo`: from start to end, stopped and gone on with, on sums and on questions of GSM8K's format; what it refuses."""

import importlib.util
import json
import math
import random
from pathlib import Path

import pytest
import tiny_models
import torch
from test_runs_processes import launched
from test_runs_resume import lessons_of, run, timeless

from full.given import models
from full.given.problems import InputProblem
from full.given.runs import answered, checkpoint, grpo
from full.given.runs.loop import NotFinite
from toy.given.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
ODD = ("seconds", "peak_memory_mb")
WORDS = ["Tom", "has", "apples", "and", "buys", "more", "How", "many", "?", "####", *"0123456789"]


def gsm8k(place, count, seed=0):
    """A JSONL file as openai/gsm8k's: an answer ends with #### and the number."""
    rng, rows = random.Random(seed), []
    for n in range(count):
        first, second = rng.randint(0, 4), rng.randint(0, 4)
        more = " and more" * rng.randint(0, 3)  # ragged lengths
        rows.append(
            {
                "question": f"Tom has {first} apples{more} and buys {second} more {n % 10} How many ?",
                "answer": f"{first} + {second} = <<{first}+{second}={first + second}>>{first + second}\n#### {first + second}",
            }
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(place)


def instruct_model(place):
    """A Qwen2 of one layer whose tokenizer has a chat template, as the `gsm8k` preset's model is."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    tokenizer = tiny_models.tokenizer(words=[*WORDS, "user:", "assistant:"])
    tokenizer.chat_template = "user: {{ messages[0].content }}{% if add_generation_prompt %} assistant:{% endif %}"
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes["num_key_value_heads"] = 1
    tokens = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = Qwen2Config(vocab_size=len(tokenizer), max_position_embeddings=64, initializer_range=0.3, **sizes, **tokens)
    Qwen2ForCausalLM(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return str(place)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workshop")
    found = {"batch_size": 16, "group_size": 4, "steps": 6, "epochs": 9, "new_tokens": 4, "learning_rate": 1e-2, "device": "cpu"}
    found |= {"test_rows": 12, "eval_rows": 5, "eval_every": 2, "eval_batch": 18, "tries": 3, "samples": 2, "sample_every": 3}
    found |= {"save_every": 2, "updates": 2, "warmup_steps": 2, "kl_coef": 0.02, "temperature": 0.8}
    gsm8k(folder / "data/train.jsonl", 40)
    gsm8k(folder / "data/test.jsonl", 20, seed=1)
    words = found | {"model": tiny_models.policy(folder / "gpt2", words=WORDS), "data": str(folder / "data")}
    sums = found | {"model": tiny_models.policy(folder / "sums", words=[*"0123456789", "+", "-", "="], seed=3)}
    return {"words": words | {"prompt_column": "question"}, "sums": sums, "folder": folder}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, shop):
    """The uninterrupted runs: {kind: (folder, summary, metrics)}."""
    found = {}
    for kind in ("words", "sums"):
        path = tmp_path_factory.mktemp("whole") / kind
        found[kind] = path, *run("grpo", path, shop[kind])
    return found


@pytest.mark.parametrize("kind", ["words", "sums"])
def test_a_run_from_start_to_end(whole, kind):
    path, summary, rows = whole[kind]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    names = ("reward", "loss", "kl", "entropy", "completion_length", "eos_rate", "clip_fraction", "approx_kl", "no_signal")
    assert all(math.isfinite(row[name]) for row in rows for name in names)
    assert [row["step"] for row in rows if "test_accuracy" in row] == [2, 4, 6]
    for row in rows[1::2]:
        assert 0 <= row["test_accuracy_low"] <= row["test_accuracy"] <= row["test_accuracy_high"] <= 1
        assert row["test_accuracy"] * 5 == pytest.approx(round(row["test_accuracy"] * 5))  # of five questions
    assert rows[0]["kl"] == 0  # the policy that wrote the first rollout is the reference
    for name in ("accuracy_before", "accuracy_after", "greedy_accuracy", "pass_at_3", "eos_rate"):
        assert 0 <= summary[name]["low"] <= summary[name]["mean"] <= summary[name]["high"] <= 1
    assert summary["pass_at_3"]["mean"] >= summary["accuracy_after"]["mean"]  # its first try is among the three
    assert summary["kl"]["low"] <= summary["kl"]["mean"] 
    assert summary["test_rows"] == (12 if kind == "sums" else 11)  # one of the others is trained on as well
    assert bool(summary["notes"]) == (kind == "words")
    assert ("worked" in summary) == (kind == "sums")
    assert (path / "curves.png").stat().st_size > 5_000 and "pass at 3" in "\n".join(grpo.told(summary))


def test_samples_are_of_the_same_questions_at_every_stage(whole):
    rows = [json.loads(line) for line in (whole["words"][0] / "samples.jsonl").read_text().splitlines()]
    assert [(row["step"], row["stage"]) for row in rows[::2]] == [(0, "before"), (3, "during"), (6, "after")]
    assert len({row["prompt"] for row in rows}) == 2
    judge = lessons_of(grpo).exact_match_reward
    for row in rows:
        assert len(row["tokens"]) == len(row["log_ratio"]) == row["length"]
        assert row["reward"] == judge([row["completion"]], [row["answer"]]).item()
        if row["stage"] == "before":
            assert row["kl"] == 0


def stopping(step):
    def progress(what, done, total):
        if total == 6 and done == step and "measuring" not in what:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize(
    "kind, step", [("words", 3), *(pytest.param(*some, marks=pytest.mark.slow) for some in (("sums", 4), ("words", 6)))]
)
def test_a_run_stopped_between_two_steps_goes_on_to_the_same_numbers(tmp_path, shop, whole, kind, step):
    with pytest.raises(KeyboardInterrupt):
        run("grpo", tmp_path, shop[kind], progress=stopping(step))
    assert checkpoint.load(tmp_path / "checkpoint")[0].step == step and not (tmp_path / "summary.json").exists()
    summary, rows = run("grpo", tmp_path, shop[kind], resume=True)
    path, same, expected = whole[kind]
    assert rows == expected
    assert {name: value for name, value in summary.items() if name not in ODD} == {k: v for k, v in same.items() if k not in ODD}
    assert (tmp_path / "samples.jsonl").read_text() == (path / "samples.jsonl").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("step, kept", [(1, 0), (4, 2)])
def test_one_killed_between_two_updates_of_a_step_goes_on_from_the_last_checkpoint(tmp_path, shop, whole, step, kept):
    class Killed(Exception):
        pass

    def dying(loop, config):
        update, seen = loop.update, []

        def once(loss):
            seen.append(1)
            if len(seen) == 2 * step:  # the second of the step's two updates
                raise Killed
            update(loss)

        loop.update = once
        lessons_of(grpo).train(loop, config)

    with pytest.raises(Killed):
        run("grpo", tmp_path, shop["sums"], train=dying)
    assert checkpoint.load(tmp_path / "checkpoint")[0].step == kept
    assert run("grpo", tmp_path, shop["sums"], resume=True)[1] == whole["sums"][2]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["a step", "measuring before"])
def test_ctrl_c_waits_for_the_end_of_a_step_and_not_of_the_measuring(tmp_path, shop, whole, monkeypatch, when):
    asked = []

    class Asked(grpo.Interrupts):
        def __init__(self):
            super().__init__()
            asked.append(self)

    def train(loop, config):
        update = loop.update

        def noting(loss):
            asked[0].asked = loop.moment.step == 2
            update(loss)

        loop.update = noting
        lessons_of(grpo).train(loop, config)

    def progress(what, done, total):
        asked[0].asked |= what == when

    monkeypatch.setattr(grpo, "Interrupts", Asked)
    with pytest.raises(KeyboardInterrupt):
        run("grpo", tmp_path, shop["sums"], progress=progress, **({"train": train} if when == "a step" else {}))
    assert checkpoint.load(tmp_path / "checkpoint")[0].step == (3 if when == "a step" else 0)
    monkeypatch.undo()
    assert run("grpo", tmp_path, shop["sums"], resume=True)[1] == whole["sums"][2]


@pytest.mark.slow
def test_looking_at_test_questions_changes_nothing_of_the_training(tmp_path, shop, whole):
    _, rows = run("grpo", tmp_path, shop["sums"] | {"eval_every": 0, "tries": 0, "samples": 0})
    expected = [{name: value for name, value in row.items() if "test" not in name} for row in whole["sums"][2]]
    assert rows == expected


def test_a_loss_that_is_no_number_stops_the_run_and_leaves_a_checkpoint(tmp_path, shop):
    with pytest.raises(NotFinite, match=r"step \d: .* (is|are) (nan|inf).* Stopped; checkpoint/ holds step \d"):
        run("grpo", tmp_path, shop["words"] | {"learning_rate": 1e30, "clip_norm": 0.0})
    moment, _ = checkpoint.load(tmp_path / "checkpoint")
    assert [row["step"] for row in RunFolder(tmp_path).metrics()] == list(range(1, moment.step + 1)) or moment.step == 0


@pytest.mark.slow
def test_the_preset_of_gsm8k_on_a_small_model_of_its_kind(tmp_path, shop):
    small = {"model": instruct_model(tmp_path / "qwen"), "data": shop["words"]["data"], "device": "cpu", "precision": "no"}
    small |= {"steps": 2, "batch_size": 16, "new_tokens": 6, "max_prompt": 60, "test_rows": 8, "eval_rows": 4, "save_every": 1}
    summary, rows = run("grpo", tmp_path / "run", grpo.PRESETS["gsm8k"] | small)
    assert len(rows) == 2 and all(math.isfinite(row["loss"]) and math.isfinite(row["kl"]) for row in rows)
    assert rows[0]["ratio"] == pytest.approx(1, abs=1e-3)  # learning_rate 1e-6 over the warm-up: the second update hardly moved
    samples = [json.loads(line) for line in (tmp_path / "run/samples.jsonl").read_text().splitlines()]
    assert samples[0]["answer"].rpartition("#### ")[2].isdigit() and "pass_at_8" not in summary


@pytest.mark.slow
def test_mixed_precision_runs(tmp_path, shop):
    _, rows = run("grpo", tmp_path, shop["words"] | {"precision": "bf16", "steps": 2})
    assert len(rows) == 2 and all(math.isfinite(row["loss"]) for row in rows)


@pytest.mark.slow
def test_two_processes_share_the_groups_and_come_to_the_same_update(tmp_path, shop):
    """The first step alone: where no group says anything a gradient is rounding, and Adam makes full steps of that."""
    fields = shop["words"] | {"kl_place": "reward", "scale": "none", "learning_rate": 1e-3, "test_rows": 20, "steps": 2}
    done = launched("grpo", tmp_path / "two", fields)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("steps, cpu") == 1  # one of the two speaks
    summary, expected = run("grpo", tmp_path / "one", fields)
    rows = timeless(RunFolder(tmp_path / "two").metrics())
    assert len(rows) == 2 and rows[0].keys() == expected[0].keys()
    # means over tokens and over right answers, of which the processes have more or fewer, are other means
    for figure in rows[0].keys() - {"entropy", "ratio", "approx_kl", "clip_fraction", "length_right", "length_wrong"}:
        # float32 sums in another order, carried on by one step of Adam
        assert rows[0][figure] == pytest.approx(expected[0][figure], rel=2e-3, abs=2e-4), figure
    two = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert two["processes"] == 2 and summary["processes"] == 1
    assert two["accuracy_before"] == summary["accuracy_before"] and two["pass_at_3_before"] == summary["pass_at_3_before"]


# Questions


def test_a_chat_template_is_put_around_a_question_with_its_instruction(shop):
    model, tokenizer = models.load_policy(shop["words"]["model"])
    tokenizer.chat_template = "Tom {{ messages[0].content }}{% if add_generation_prompt %} has{% endif %}"
    config = grpo.Config(**shop["words"], instruction="How many ?")
    training, _ = answered.questions_of(config, tokenizer, model, lambda line: None)
    plain = grpo.Config(**shop["words"], instruction="How many ?", chat=False)
    bare, _ = answered.questions_of(plain, tokenizer, model, lambda line: None)
    assert training[0].text == bare[0].text  # what a person reads
    assert bare[0].tokens == tokenizer(f"{bare[0].text} How many ?")["input_ids"]
    assert training[0].tokens == tokenizer(f"Tom {bare[0].text} How many ? has")["input_ids"]


def test_questions_that_are_too_long_are_left_out_and_no_question_is_cut(shop):
    model, tokenizer = models.load_policy(shop["words"]["model"])
    said = []
    config = grpo.Config(**shop["words"], max_prompt=14)
    training, test = answered.questions_of(config, tokenizer, model, said.append)
    assert any("training questions are longer than 14 tokens and were left out" in line for line in said)
    assert training and all(len(question.tokens) <= 14 and question.text.endswith("How many ?") for question in training)


def test_a_single_file_gives_its_last_rows_to_the_test(tmp_path, shop):
    model, tokenizer = models.load_policy(shop["words"]["model"])
    config = grpo.Config(**shop["words"] | {"data": gsm8k(tmp_path / "all.jsonl", 30), "test_rows": 10})
    training, test = answered.questions_of(config, tokenizer, model, lambda line: None)
    rows = [json.loads(line)["question"] for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [question.text for question in training] == rows[:20]
    assert [question.text for question in test] == [row for row in rows[20:] if row not in rows[:20]]


def test_answers_may_be_numbers(tmp_path, shop):
    model, tokenizer = models.load_policy(shop["words"]["model"])
    rows = [{"question": f"Tom has {n} ?", "answer": n} for n in range(20)]
    (tmp_path / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = grpo.Config(**shop["words"] | {"data": str(tmp_path / "numbers.jsonl"), "test_rows": 4})
    training, test = answered.questions_of(config, tokenizer, model, lambda line: None)
    assert [question.answer for question in training + test] == [str(n) for n in range(20)]


def test_every_row_of_a_batch_has_its_own_answer(shop):
    """Across processes as well: each gets the answers of its own questions, and keeps them together in every repetition."""
    model, tokenizer = models.load_policy(shop["words"]["model"])
    config = grpo.Config(**shop["words"])
    training, _ = answered.questions_of(config, tokenizer, model, lambda line: None)
    answer_of = {tuple(question.tokens): question.answer for question in training}
    batches = answered.answered_batches(training, grpo.order_of(config, len(training), 2), tokenizer.pad_token_id)
    whole_batch, parts = batches(0, 0, 1), [batches(0, rank, 2).repeated(4) for rank in (0, 1)]
    for batch in (whole_batch, *parts):
        for ids, kept, answer in zip(batch.input_ids, batch.attention_mask.bool(), batch.answers):
            assert answer_of[tuple(ids[kept].tolist())] == answer
    assert len(whole_batch) == 4 and torch.cat([part.rows for part in parts]).tolist() == list(range(16))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"data": "nowhere.jsonl"}, "data=nowhere.jsonl: there is no such file or folder"),
        ({"data": "reviews"}, "data=reviews: has no answers that can be checked; name sums"),
        ({"prompt_column": "prompt"}, "no column `prompt`; there are question, answer. Name the right one by prompt_column"),
        ({"batch_size": 400}, "has 40 questions to train on, and batch_size=400 with group_size=4 asks 100 questions a step"),
        ({"max_prompt": 3}, "no training question fits into 3 tokens"),
        ({"test_split": "train", "test_rows": 40}, "every test question is trained on as well; name another test_split"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, shop, change, message):
    with pytest.raises(InputProblem, match=message):
        run("grpo", tmp_path / "run", shop["words"] | change)
    assert not RunFolder(tmp_path / "run").metrics()


@pytest.mark.parametrize(
    "answer, message",
    [
        ("seven", r"row 2: expected an answer with a number, as 42 or `... #### 42`, received 'seven'; leave such rows out"),
        ("7 apples\n#### seven", "row 2: expected a number behind ####"),
        ("", "row 2: `answer` is empty; leave such rows out"),
        (None, "row 2: expected text in `answer`, received NoneType"),
    ],
)
def test_an_answer_without_a_number_is_named(tmp_path, shop, answer, message):
    rows = [{"question": "Tom has 7", "answer": "#### 7"}, {"question": "Tom has 8", "answer": answer}]
    (tmp_path / "odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputProblem, match=message):
        run("grpo", tmp_path / "run", shop["words"] | {"data": str(tmp_path / "odd.jsonl"), "test_rows": 1})


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"group_size": 1}, "group_size: expected at least 2, a group to compare within, received 1"),
        ({"batch_size": 100}, "batch_size: expected a multiple of group_size=8, so that no group is divided, received 100"),
        ({"scale": "mad"}, "scale: expected std or none"),
        ({"mean": "median"}, "mean: expected sequence or token or constant, received 'median'"),
        ({"kl": "k4"}, "kl: expected k1 or k2 or k3, received 'k4'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        grpo.Config(**fields)


def test_presets_and_sentences():
    for field in grpo.Config.__dataclass_fields__.values():
        assert field.metadata["help"].endswith("."), field.name
    for preset in grpo.PRESETS.values():
        grpo.Config(**preset)
    assert grpo.PRESETS["gsm8k"]["data"] == "openai/gsm8k:main"


def test_a_report_shows_the_accuracy_with_its_interval(whole):
    from autograder.reports import run_report
    from autograder.reports.run_report_curves import measures
    from autograder.reports.run_report_data import find_runs, read_runs

    runs = read_runs(find_runs([str(whole["sums"][0])], None))
    found = {measure.name: measure for measure in measures(runs)}
    assert list(found)[:2] == ["reward", "test_accuracy"] and {"no_signal", "length_right", "approx_kl"} <= set(found)
    (curve,) = found["test_accuracy"].curves
    assert curve.steps.tolist() == [2, 4, 6] and (curve.low <= curve.values).all() and (curve.values <= curve.high).all()
    labels = [row["label"] for row in run_report.finals(runs)]
    assert labels[:2] == ["Accuracy before", "Accuracy after"] and "Answers that show the working" in labels
    page = run_report.page(runs, "a run")
    for word in ("Accuracy on test questions", "Groups that teach nothing", "Accuracy of greedy answers"):
        assert word in page, word


# What the lesson says of the runs

LESSON = ROOT / "lessons/15-grpo"


@pytest.fixture(scope="module")
def figures():
    spec = importlib.util.spec_from_file_location("grpo_run_figures", LESSON / "run_figures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_three_seeds_come_from_a_third_to_four_fifths_in_five_minutes(figures):
    runs = figures.kept("run.json")
    assert len(runs) == 3
    for run in runs:
        summary = run["summary"]
        assert summary["accuracy_before"]["high"] <= 0.35 and summary["accuracy_after"]["low"] >= 0.8
        assert summary["seconds"] < 300 and summary["peak_memory_mb"] < 2048


def test_the_text_states_the_figures_of_the_runs(figures):
    text = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").split())
    numbers = figures.run_numbers(figures.kept("run.json")) | figures.option_numbers(figures.kept("options.json"))
    assert [what for what, line in numbers.items() if " ".join(line.split()) not in text] == []
    assert "(run.png)" in text and (LESSON / "run.png").stat().st_size > 20_000
    for option, changed in figures.OPTIONS.items():
        grpo.Config(**{name: value for name, value in changed.items() if name != "rloo"})
