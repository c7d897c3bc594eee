"""Two processes on the CPU, started by accelerate's launcher, come to what one process comes to on the same whole batches."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_models
import torch
from test_runs_resume import run, timeless

from full.given.problems import InputProblem
from full.given.runs.batches import require_divisible, share
from full.given.text import Prompts
from toy.given.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]


def launched(name, path, fields, *more):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [f"{key}={value}" for key, value in fields.items()]
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(port)]
    command += ["-m", "autograder.cli", "run", name, "--solutions", "--out", str(path), *words, *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}  # the launcher of devices, on processors
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)


CASES = {
    "reinforce": {"baseline": "batch"},
    "kl": {"baseline": "rloo", "group_size": 2, "target_kl": 0.5, "horizon": 100.0},
    "dpo": {"eval_pairs": 12, "max_length": 12, "epochs": 3, "batch_size": 16},
}


@pytest.mark.slow  # each starts a launcher and two processes, which load the libraries
@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_single_process_result(tmp_path, name):
    fields = tiny_models.workshop(tmp_path / "workshop") | CASES[name] | {"eval_prompts": 11}  # odd: a row is written twice
    if name == "dpo":
        fields["pairs"] = tiny_models.pairs(tmp_path / "pairs.jsonl")
    done = launched(name, tmp_path / "two", fields)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("steps, cpu") == 1  # one of the two speaks
    summary, expected = run(name, tmp_path / "one", fields)
    rows = timeless(RunFolder(tmp_path / "two").metrics())
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row, same in zip(rows, expected):
        assert row.keys() == same.keys()
        # lesson 9's entropy is a mean over tokens, of which the processes have more or fewer; DPO's accuracy counts margins
        # above 0, which at pi = ref are rounding (the margins themselves are compared)
        for figure in row.keys() - {"entropy", "accuracy"}:
            # float32 sums in another order; six steps of Adam at 1e-2 carry the last digits on
            assert row[figure] == pytest.approx(same[figure], rel=2e-4, abs=2e-5), figure
    two = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert two["processes"] == 2 and summary["processes"] == 1
    for figure in ("reward_before", "reward_after", "kl", "completion_length"):
        assert two[figure] == pytest.approx(summary[figure], rel=1e-3, abs=1e-4)
    states = [torch.load(tmp_path / name / "checkpoint" / "training.pt", weights_only=True) for name in ("one", "two")]
    weights = [state["optimizer"]["state"][0]["exp_avg"] for state in states]
    assert torch.allclose(*weights, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_two_processes_learn_the_same_reward_model(tmp_path):
    fields = {"model": tiny_models.classifier(tmp_path / "gpt2", labels=1, names=("score",)), "fresh": True}
    fields |= {"frozen": 0.0, "steps": 4}
    fields |= {"data": tiny_models.judgements(tmp_path / "pairs.jsonl"), "batch_size": 8, "max_length": 24, "evaluate_every": 2}
    fields["device"] = "cpu"
    done = launched("reward-model", tmp_path / "two", fields)
    assert done.returncode == 0, done.stderr[-3000:]
    summary, expected = run("reward_model", tmp_path / "one", fields)
    for row, same in zip(timeless(RunFolder(tmp_path / "two").metrics()), expected, strict=True):
        for figure in row.keys() - {"accuracy"}:  # it counts margins above 0; the margins themselves are compared
            assert row[figure] == pytest.approx(same[figure], rel=2e-4, abs=2e-5), figure
    two = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert two["processes"] == 2 and two["log_loss"]["mean"] == pytest.approx(summary["log_loss"]["mean"], rel=1e-3)


@pytest.mark.slow
def test_two_processes_share_the_rollouts_of_ppo(tmp_path):
    """A loss of PPO is a mean over a process's own tokens, of which one may have more: the first rollout is the same."""
    fields = {"model": tiny_models.t5(tmp_path / "t5"), "data": tiny_models.answers(tmp_path / "answers.jsonl"), "device": "cpu"}
    fields |= {"rewards": "relevance=novelty,factuality=support", "weights": "1", "batch_size": 8, "minibatch_size": 4}
    fields["steps"] = 3
    fields |= {"new_tokens": 6, "test_rows": 6, "samples": 2, "sample_every": 2, "learning_rate": 1e-3, "ppo_epochs": 2}
    done = launched("ppo", tmp_path / "two", fields)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("steps, cpu") == 1
    _, expected = run("ppo", tmp_path / "one", fields)
    rows = timeless(RunFolder(tmp_path / "two").metrics())
    assert len(rows) == 3 and json.loads((tmp_path / "two" / "summary.json").read_text())["processes"] == 2
    for figure in ("reward", "reward_relevance", "reward_factuality", "kl", "completion_length", "eos_rate"):
        assert rows[0][figure] == pytest.approx(expected[0][figure], rel=2e-4, abs=2e-5), figure


@pytest.mark.slow
def test_a_batch_that_does_not_divide_is_refused_in_one_line(tmp_path):
    done = launched("reinforce", tmp_path / "two", tiny_models.workshop(tmp_path / "workshop") | {"batch_size": 7})
    assert done.returncode != 0 and "batch_size=7: does not divide among 2 processes" in done.stderr


def test_rows_are_shared_out_so_that_gathered_they_stand_in_order():
    index = [7, 3, 5, 1]
    parts = [share(index, process, 2) for process in range(2)]
    assert parts[0][0] + parts[1][0] == index and parts[0][1].tolist() + parts[1][1].tolist() == [0, 1, 2, 3]
    mine = Prompts(torch.zeros(2, 1, dtype=torch.long), torch.ones(2, 1, dtype=torch.long), parts[1][1], 4).repeated(2)
    assert mine.rows.tolist() == [4, 5, 6, 7] and mine.whole == 8
    with pytest.raises(InputProblem, match="batch_size=9: does not divide among 2 processes; take a multiple of 2"):
        require_divisible(9, 2)
