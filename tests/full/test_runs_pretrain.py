"""`climb pretrain`, small; and the way from any texts to REINFORCE and DPO on models that were trained on them."""

import json
import random
from pathlib import Path

import pytest
import tiny_models
import torch
from test_runs_resume import run, timeless

from full.given import data, models
from full.given.problems import InputProblem
from full.given.runs import pretrain
from toy.given.run_folder import RunFolder

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SMALL = {"vocabulary": 270, "batch_size": 8, "warmup_steps": 3, "device": "cpu", "save_every": 4, "learning_rate": 3e-3}


def trained(kind, path, fields, *, resume=False, progress=lambda *what: None):
    folder, config = RunFolder(path), pretrain.KINDS[kind](**fields)
    folder.write_config(config)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        summary = pretrain.run(kind, config, folder, progress, resume)
    finally:
        torch.set_num_threads(before)
    return summary, timeless(folder.metrics())


def opinions(place, count=120, seed=0):
    """Texts with a label that can be learned from them."""
    rng, rows = random.Random(seed), []
    for i in range(count):
        words = rng.choices([*(tiny_models.BAD, tiny_models.GOOD)[i % 2], "the", "film", "was"], k=12)
        rows.append({"text": " ".join(words), "label": ("negative", "positive")[i % 2]})
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(place)


def test_a_language_model_learns_and_goes_on_where_it_was_stopped(tmp_path):
    fields = SMALL | {"data": opinions(tmp_path / "x.jsonl"), "block": 16, "epochs": 2}
    summary, rows = trained("lm", tmp_path / "whole", fields)
    assert summary["test_loss"]["mean"] < rows[0]["loss"] - 0.5 and rows[-1]["learning_rate"] < rows[5]["learning_rate"]
    policy, tokenizer = models.load_policy(str(tmp_path / "whole"))  # the folder itself is the model
    assert tokenizer.decode(data.encode(tokenizer, [" the film\n was ü ."])[0]) == " the film\n was ü ."
    assert tokenizer.pad_token_id != tokenizer.eos_token_id and policy.num_parameters() == summary["parameters"]

    def stop(what, done, total):
        if done == 6 and what.startswith("loss"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained("lm", tmp_path / "stopped", fields, progress=stop)
    again, same = trained("lm", tmp_path / "stopped", fields, resume=True)
    assert same == rows and again["test_loss"] == summary["test_loss"]
    assert pretrain.told(summary)[0].endswith(f"{summary['steps']} steps")


def test_a_classifier_learns_and_is_named_as_one(tmp_path):
    fields = SMALL | {"data": opinions(tmp_path / "x.jsonl"), "block": 32, "epochs": 6, "shortest": 4}
    summary, _ = trained("classifier", tmp_path / "c", fields)
    assert summary["accuracy"]["mean"] > 0.9 and summary["short_accuracy"]["mean"] > 0.8  # of words that tell it outright
    classifier, tokenizer = models.load_classifier(str(tmp_path / "c"))
    good, bad = models.positive_probability(classifier, tokenizer, ["great lovely film great", "awful poor film dull"])
    assert good > 0.5 > bad


def test_what_will_not_do_is_said_in_one_line(tmp_path):
    source = opinions(tmp_path / "x.jsonl")
    cases = [
        ("lm", {"block": 100_000}, "the texts do not fill a row of block=100000 tokens; lower block"),
        ("lm", {"vocabulary": 100}, "vocabulary=100: expected at least 258"),
        ("lm", {"tokenizer": str(tmp_path / "none")}, "tokenizer=.*there is no such directory"),
        ("classifier", {"label_column": "stars"}, "no column `stars`; there are text, label"),
    ]
    for kind, fields, message in cases:
        with pytest.raises((InputProblem, ValueError), match=message):
            trained(kind, tmp_path / "out", SMALL | {"data": source} | fields)
    for kind, fields in (("lm", {"size": "gpt5"}), ("classifier", {"size": "distilgpt2"}), ("lm", {"block": 64, "positions": 32})):
        with pytest.raises(ValueError, match="expected"):
            pretrain.KINDS[kind](**fields)


@pytest.mark.slow  # GPT-2's vocabulary of 50,258: half a minute of processor time
@pytest.mark.timeout(600)  # and ten times that where a machine does ten things at once
@pytest.mark.skipif(not (SHARED / "imdb").is_dir(), reason="the IMDB reviews are not on this machine")
def test_from_imdb_texts_to_reinforce_and_dpo(tmp_path):
    """The whole path on real data: GPT-2's tokenizer, a small LM and a classifier of our own, prompts, pairs."""
    common = {"data": str(SHARED / "imdb"), "tokenizer": str(SHARED / "gpt2_bpe"), "device": "cpu", "eval_rows": 24, "save_every": 0}
    short = common | {"block": 48, "batch_size": 8, "warmup_steps": 4, "learning_rate": 4e-3}
    lm, _ = trained("lm", tmp_path / "lm", short | {"rows": 100, "steps": 16})
    assert lm["test_loss"]["mean"] < 9.8  # a uniform guess among 50,258 tokens costs 10.8 nats
    judge, _ = trained("classifier", tmp_path / "judge", short | {"rows": 200, "steps": 16})
    assert judge["accuracy"]["high"] > 0.5
    fields = {"model": str(tmp_path / "lm"), "classifier": str(tmp_path / "judge"), "data": str(SHARED / "imdb"), "device": "cpu"}
    fields |= {"eval_prompts": 16, "rows": 64, "steps": 3, "samples": 2, "batch_size": 8}
    summary, rows = run("reinforce", tmp_path / "reinforce", fields)
    assert len(rows) == 3 and 0 < summary["reward_after"]["mean"] < 1
    assert "notes" in summary and summary["completion_length"]["mean"] <= 20
    pairs = {"pairs": str(SHARED / "parallel_imdb"), "max_length": 64, "eval_pairs": 16, "learning_rate": 1e-4}
    summary, rows = run("dpo", tmp_path / "dpo", fields | pairs)
    assert abs(rows[0]["loss"] - 0.6931) < 1e-3 and summary["test_loss"]["mean"] < 0.6931
