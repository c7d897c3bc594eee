"""A run that is stopped, killed or broken, and goes on: to the metrics of the run that nothing happened to."""

import contextlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_models
import torch

from full.given.problems import InputProblem
from full.given.runs import checkpoint
from full.given.runs.loop import NotFinite, learning_rate
from full.given.settings import ReinforceConfig
from toy.given.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
MISS_ME = ("seconds",)


def lessons_of(module):
    found = {}
    for name, functions in module.USES.items():
        lesson = importlib.import_module("solutions." + name)
        found |= {function: getattr(lesson, function) for function in functions}
    return SimpleNamespace(**found)


def run(name, path, fields, *, resume=False, progress=lambda *what: None, **replaced):
    """One run in this process, in one thread; returns (summary, metrics)."""
    module = importlib.import_module(f"full.given.runs.{name}")
    folder, config = RunFolder(path), module.Config(**fields)
    folder.write_config(config)
    lessons = lessons_of(module)
    vars(lessons).update(replaced)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        summary = module.run(config, lessons, folder, progress, resume)
    finally:
        torch.set_num_threads(before)
    return summary, timeless(folder.metrics())


def timeless(rows):
    return [{name: value for name, value in row.items() if name not in MISS_ME} for row in rows]


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workshop")
    return tiny_models.workshop(folder) | {"folder": folder}


def fields_of(name, fields):
    found = {key: value for key, value in fields.items() if key != "folder"}
    if name == "kl":  # an alpha that moves: what an algorithm carries along is brought back too
        found |= {"baseline": "rloo", "group_size": 2, "target_kl": 0.5, "horizon": 100.0, "warmup_steps": 2, "decay": True}
    if name == "dpo":
        pairs = tiny_models.pairs(fields["folder"] / "pairs.jsonl")
        found |= {"pairs": pairs, "eval_pairs": 12, "max_length": 12, "epochs": 3, "batch_size": 16}
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory, fields):
    """The uninterrupted runs: {name: (folder, summary, metrics)}."""
    found = {}
    for name in ("reinforce", "kl", "dpo"):
        path = tmp_path_factory.mktemp("whole") / name
        found[name] = path, *run(name, path, fields_of(name, fields))
    return found


def stopping(step, exception=KeyboardInterrupt):
    def progress(what, done, total):
        if total == 6 and done == step and "measuring" not in what and "the " not in what:
            raise exception

    return progress


@pytest.mark.parametrize("name, step", [("reinforce", 3), ("kl", 3), ("dpo", 4), ("reinforce", 1), ("reinforce", 6)])
def test_a_run_stopped_between_two_steps_goes_on_to_the_same_numbers(tmp_path, fields, whole, name, step):
    with pytest.raises(KeyboardInterrupt):
        run(name, tmp_path, fields_of(name, fields), progress=stopping(step))
    assert checkpoint.load(tmp_path / "checkpoint")[0].step == step and not (tmp_path / "summary.json").exists()
    summary, rows = run(name, tmp_path, fields_of(name, fields), resume=True)
    path, same, expected = whole[name]
    assert len(rows) == 6 and rows == expected
    odd = ("seconds", "peak_memory_mb")
    assert {key: value for key, value in summary.items() if key not in odd} == {k: v for k, v in same.items() if k not in odd}
    assert (tmp_path / "samples.jsonl").read_text() == (path / "samples.jsonl").read_text()
    again = torch.load(tmp_path / "checkpoint" / "training.pt", weights_only=True)["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(again, torch.load(path / "checkpoint" / "training.pt", weights_only=True)["optimizer"]["state"][0]["exp_avg"])


def test_one_stopped_within_a_step_before_the_weights_move_keeps_the_state_at_its_beginning(tmp_path, fields, whole):
    from solutions.full.reinforce import train

    def interrupted(loop, config):
        reward, steps = loop.reward, []

        def stop(rollout):
            steps.append(1)
            if len(steps) == 4:  # the rollout of step 4 has drawn its numbers
                raise KeyboardInterrupt
            return reward(rollout)

        loop.reward = stop
        train(loop, config)

    with pytest.raises(KeyboardInterrupt):
        run("reinforce", tmp_path, fields_of("reinforce", fields), train=interrupted)
    assert checkpoint.load(tmp_path / "checkpoint")[0].step == 3
    assert run("reinforce", tmp_path, fields_of("reinforce", fields), resume=True)[1] == whole["reinforce"][2]


def test_one_stopped_while_the_weights_move_goes_back_to_the_last_checkpoint(tmp_path, fields, whole):
    from solutions.full.reinforce import train

    def interrupted(loop, config):
        log, steps = loop.log, []

        def stop(**metrics):
            steps.append(1)
            if len(steps) == 4:
                raise KeyboardInterrupt
            log(**metrics)

        loop.log = stop
        train(loop, config)

    with pytest.raises(KeyboardInterrupt):
        run("reinforce", tmp_path, fields_of("reinforce", fields), train=interrupted)
    assert checkpoint.load(tmp_path / "checkpoint")[0].step == 2 and len(RunFolder(tmp_path).metrics()) == 3
    assert run("reinforce", tmp_path, fields_of("reinforce", fields), resume=True)[1] == whole["reinforce"][2]


@pytest.mark.slow  # two processes of their own, each of which loads the libraries
def test_a_run_that_is_killed_goes_on_to_the_same_numbers(tmp_path, fields):
    """Killed, by the signal nobody can catch, once its second checkpoint is there."""
    words = [f"{key}={value}" for key, value in (fields_of("reinforce", fields) | {"steps": 9, "save_every": 1}).items()]
    climb = [sys.executable, "-m", "autograder.cli", "run", "reinforce", "--solutions", "--out", str(tmp_path / "killed")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*climb, *words], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if len((tmp_path / "killed" / "metrics.jsonl").read_bytes().splitlines() if started(tmp_path) else []) >= 2:
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert process.returncode in (-signal.SIGKILL, 0), process.stderr.read()
    resumed = subprocess.run([*climb, "--resume"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    expected = run("reinforce", tmp_path / "whole", fields_of("reinforce", fields) | {"steps": 9, "save_every": 1})[1]
    assert timeless(RunFolder(tmp_path / "killed").metrics()) == expected


def started(tmp_path):
    return (tmp_path / "killed" / "metrics.jsonl").is_file()


def test_a_checkpoint_is_found_wherever_saving_was_cut_off(tmp_path, whole):
    """Every state of the folder that a kill within `save` can leave, in the order in which they come."""
    place = whole["reinforce"][0] / "checkpoint"
    half, old, new, name = tmp_path / "x", checkpoint.OLD, checkpoint.NEW, checkpoint.NAME
    assert checkpoint.newest(tmp_path) is None
    shutil.copytree(place, half / new)
    (half / new / "state.json").unlink()
    assert checkpoint.newest(half) is None  # the first one, not yet whole
    shutil.copytree(place, half / name)
    assert checkpoint.newest(half) == half / name  # the next one, not yet whole
    shutil.copy(place / "state.json", half / new)
    assert checkpoint.newest(half) == half / name
    os.replace(half / name, half / old)
    assert checkpoint.newest(half) == half / new  # between the two renames
    os.replace(half / new, half / name)
    assert checkpoint.newest(half) == half / name


def test_a_loss_that_is_nan_stops_the_run_and_keeps_the_last_good_weights(tmp_path, fields, whole):
    def poisoned(loop, config):
        for step, prompts in enumerate(loop.batches(), 1):
            rollout = loop.rollout(prompts)
            rewards = loop.reward(rollout)
            logits = loop.policy(input_ids=rollout.tokens).logits
            loss = logits.mean() * (float("nan") if step == 4 else rewards.mean())
            loop.update(loss)
            loop.log(loss=loss)

    with pytest.raises(NotFinite, match=r"step 4: the loss is nan. Stopped; checkpoint/ holds step 3. Lower learning_rate"):
        run("reinforce", tmp_path, fields_of("reinforce", fields), train=poisoned)
    from full.given.models import load_policy

    policy, _ = load_policy(str(tmp_path / "checkpoint"))
    assert all(parameter.isfinite().all() for parameter in policy.parameters())
    assert len(RunFolder(tmp_path).metrics()) == 3


def test_want_of_memory_says_which_field_to_lower(tmp_path, fields):
    def greedy(loop, config):
        for _ in loop.batches():
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8e12 bytes")

    with pytest.raises(InputProblem, match=r"not enough memory for step 1: lower batch_size=8, else .*new_tokens=6"):
        run("reinforce", tmp_path, fields_of("reinforce", fields), train=greedy)


def test_a_train_that_forgets_to_update_is_told_so(tmp_path, fields):
    def lazy(loop, config):
        for prompts in loop.batches():
            loop.log(reward=0.0)

    with pytest.raises(InputProblem, match=r"without loop.update\(loss\)"):
        run("reinforce", tmp_path, fields_of("reinforce", fields), train=lazy)


def test_a_train_that_leaves_its_loop_early_has_its_last_step_written_down(tmp_path, fields):
    def brief(loop, config):
        for step, prompts in enumerate(loop.batches()):
            rollout = loop.rollout(prompts)
            loop.update(loop.policy(input_ids=rollout.tokens).logits.square().mean())
            loop.log(reward=loop.reward(rollout).mean())
            if step == 1:
                break

    summary, rows = run("reinforce", tmp_path, fields_of("reinforce", fields), train=brief)
    assert [row["step"] for row in rows] == [1, 2] and summary["steps"] == 2


def test_the_folder_of_a_run(whole, fields):
    for name, (path, summary, rows) in whole.items():
        there = {place.name for place in path.iterdir()}
        assert there == {"config.yaml", "metrics.jsonl", "samples.jsonl", "summary.json", "curves.png", "checkpoint"}
        assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6] and {"loss", "learning_rate", "grad_norm"} <= set(rows[0])
        written = json.loads((path / "summary.json").read_text())
        assert written == summary and written["steps"] == 6 and written["split"] == "test"
        for figure in ("reward_before", "reward_after", "kl"):
            assert written[figure]["low"] <= written[figure]["mean"] <= written[figure]["high"]
        samples = [json.loads(line) for line in (path / "samples.jsonl").read_text().splitlines()]
        assert [(row["step"], row["stage"]) for row in samples[::3]] == [(0, "before"), (3, "during"), (6, "after")]
        assert all(row["kl"] == 0 for row in samples[:3]) and any(abs(row["kl"]) > 1e-3 for row in samples[6:])
        assert all(len(row["tokens"]) == len(row["log_ratio"]) == row["length"] for row in samples)
        assert len({row["prompt"] for row in samples}) == 3 and samples[0]["gold_reward"] is None
        assert rows[0]["step"] == 1 and (path / "checkpoint" / "model.safetensors").is_file()
        assert (path / "config.yaml").read_text().count("# ") >= 20


def test_the_reward_goes_up_and_the_reference_stays(whole, fields):
    """On a classifier of random weights, which the policy can please all the same."""
    _, summary, rows = whole["reinforce"]
    assert summary["reward_after"]["mean"] > summary["reward_before"]["mean"] + 0.05
    _, summary, rows = whole["dpo"]
    assert abs(rows[0]["loss"] - 0.6931) < 1e-3  # log 2 at pi = ref; 1e-3: the reference's figures come from other batches
    assert summary["chosen_log_prob_before"]["mean"] != summary["chosen_log_prob"]["mean"]
    _, _, rows = whole["kl"]
    assert len({row["alpha"] for row in rows}) > 2  # it moves


def test_a_sweep_makes_a_run_for_each_alpha_and_goes_on_where_it_was_stopped(tmp_path, fields):
    ours = fields_of("reinforce", fields) | {"alphas": "0.01,1", "steps": 4}
    seen = []

    def stop(what, done, total):
        seen.append(what)
        if what.startswith("alpha 1: r") and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("kl", tmp_path, ours, progress=stop)
    first = (tmp_path / "alpha-0.01" / "summary.json").stat().st_mtime_ns
    summary, _ = run("kl", tmp_path, ours, resume=True)
    assert (tmp_path / "alpha-0.01" / "summary.json").stat().st_mtime_ns == first
    assert len(RunFolder(tmp_path / "alpha-1").metrics()) == 4
    assert [row["alpha"] for row in summary["sweep"]] == [0.01, 1.0] and {"reward", "kl", "regime"} <= set(summary["sweep"][0])
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert (tmp_path / "sweep.png").stat().st_size > 5_000
    kl = importlib.import_module("full.given.runs.kl")
    assert len(kl.told(summary)) == 3


def test_the_learning_rate_rises_stays_and_falls():
    config = SimpleNamespace(learning_rate=1.0, warmup_steps=4, decay=False)
    assert [learning_rate(config, step, 10) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    config.decay = True
    rates = [learning_rate(config, step, 10) for step in range(10)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0] and rates[9] == pytest.approx(1 / 6) and rates == sorted(rates[:4]) + rates[4:]


def test_bf16_and_a_fast_rollout_run(tmp_path, fields):
    summary, rows = run("reinforce", tmp_path, fields_of("reinforce", fields) | {"precision": "bf16", "fast_rollout": True, "steps": 3})
    assert len(rows) == 3 and all(abs(row["loss"]) < 100 for row in rows)


with contextlib.suppress(ImportError):
    import accelerate.tracking

    class Notebook(accelerate.tracking.GeneralTracker):
        """A tracker that keeps what it is told."""

        name, requires_logging_directory, main_process_only, tracker = "notebook", False, True, None
        told: list = []

        def __init__(self, run_name="", **options):
            super().__init__()

        def store_init_configuration(self, values):
            self.told.append(values)

        def log(self, values, step=None, **options):
            self.told.append((step, values))


def test_accelerates_trackers_by_name(tmp_path, fields, monkeypatch):
    import accelerate.accelerator
    import accelerate.tracking as tracking

    available = tracking.get_available_trackers()
    from full.given.runs import processes

    with pytest.raises(InputProblem, match="trackers=nobody: nobody is not installed here"):
        processes.known_trackers("nobody")
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [*available, "notebook"])
    monkeypatch.setattr(accelerate.accelerator, "filter_trackers", lambda names, *rest: names or [])
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "notebook", Notebook)
    monkeypatch.setattr(Notebook, "told", [])
    run("reinforce", tmp_path, fields_of("reinforce", fields) | {"trackers": "notebook", "steps": 2})
    assert Notebook.told[0]["batch_size"] == 8 and [step for step, _ in Notebook.told[1:]] == [1, 2]
    assert "reward" in Notebook.told[1][1]


def test_order_of_the_data_is_a_function_of_seed_and_step():
    from full.given.runs.batches import Order

    order, again = Order(10, 3, 2, 0, 5, "x"), Order(10, 3, 2, 0, 5, "x")
    batches = [order(step) for step in range(6)]
    assert order.steps == 6 and [again(step) for step in (4, 0, 5)] == [batches[4], batches[0], batches[5]]
    assert len({i for batch in batches[:3] for i in batch}) == 9 and batches[:3] != batches[3:]
    with pytest.raises(InputProblem, match="lower batch_size"):
        Order(2, 3, 1, 0, 0, "x")


def test_settings_carry_their_sentences():
    for name in ("reinforce", "kl", "dpo"):
        module = importlib.import_module(f"full.given.runs.{name}")
        for field in module.Config.__dataclass_fields__.values():
            assert field.metadata["help"].endswith("."), field.name
        for preset in module.PRESETS.values():
            module.Config(**preset)
    assert isinstance(importlib.import_module("full.given.runs.kl").Config(), ReinforceConfig)
