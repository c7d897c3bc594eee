"""What must be seen on the laptop preset: the built-in models and the reference solutions, one seed, minutes on two cores."""

import importlib
import math
from types import SimpleNamespace

import pytest

from toy.given.run_folder import RunFolder

NATURAL = 0.3  # nats a token below the reference's own text
SLACK = 2.5
"Five minutes are for two free cores; tests share theirs."
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # under five minutes each on two free cores


def run(name, folder, preset="laptop", **fields):
    module = importlib.import_module(f"full.given.runs.{name}")
    lessons = SimpleNamespace()
    for lesson, functions in module.USES.items():
        for function in functions:
            setattr(lessons, function, getattr(importlib.import_module("solutions." + lesson), function))
    return module.run(module.Config(**(module.PRESETS[preset] | fields)), lessons, RunFolder(folder), lambda *what: None)


def bought(summary):
    """(reward after, nats a token that the text became less natural)."""
    assert summary["reward_before"]["mean"] <= 0.65 and summary["peak_memory_mb"] < 2048
    assert summary["kl"]["high"] > 0  # a KL is never negative: its interval at most touches 0
    return summary["reward_after"]["mean"], summary["naturalness_before"]["mean"] - summary["naturalness"]["mean"]


def test_reinforce_without_a_price_for_kl_raises_the_reward_and_ruins_the_text(tmp_path):
    reward, lost = bought(run("reinforce", tmp_path, baseline="none"))
    assert reward >= 0.8 and lost > NATURAL


def test_with_a_baseline_and_a_price_the_reward_rises_and_the_text_stays(tmp_path):
    reward, lost = bought(run("kl", tmp_path))
    assert reward >= 0.85 and lost <= NATURAL


def test_a_high_price_holds_the_policy_where_it_was(tmp_path):
    reward, lost = bought(run("kl", tmp_path, alpha=3.0))
    assert reward < 0.65 and lost <= NATURAL


def test_dpo_moves_the_reward_at_less_kl_than_reinforce(tmp_path):
    summary = run("dpo", tmp_path)
    reward, _ = bought(summary)
    assert reward >= summary["reward_before"]["mean"] + 0.1 and summary["kl"]["mean"] < 10  # without a price REINFORCE goes 60 nats and more
    assert {"chosen_log_prob", "rejected_log_prob"} <= set(summary)  # told apart
    assert summary["pair_accuracy"]["mean"] > 0.8


def test_a_reward_model_tells_better_answers_from_worse_ones(tmp_path):
    summary = run("reward_model", tmp_path)
    assert summary["accuracy"]["mean"] >= 0.8 and summary["log_loss"]["high"] < math.log(2)
    assert summary["accuracy"]["mean"] > summary["accuracy_by_length"]["mean"]  # it has seen more than how long they are
    assert summary["seconds"] < 300 * SLACK and summary["peak_memory_mb"] < 2048


def test_fine_tuning_teaches_to_answer(tmp_path):
    summary = run("sft", tmp_path)
    assert summary["rougeL"]["mean"] >= 0.6 > summary["rougeL_before"]["mean"]
    assert summary["seconds"] < 300 * SLACK and summary["peak_memory_mb"] < 2048


def moved(summary, name):
    return summary[name]["mean"] - summary[f"{name}_before"]["mean"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ppo_with_three_rewards_says_more_and_stays_true(tmp_path, seed):
    summary = run("ppo", tmp_path, seed=seed)
    assert moved(summary, "completeness") >= 0.1
    assert moved(summary, "relevance") >= -0.03 and moved(summary, "factuality") >= -0.03
    assert summary["seconds"] < 300 * SLACK and summary["peak_memory_mb"] < 2048


def test_completeness_alone_is_exploited_by_length(tmp_path):
    summary = run("ppo", tmp_path, rewards="completeness=question-reward", weights="0.7")
    assert moved(summary, "reward_completeness") > 0 and moved(summary, "length") > 5  # tokens
    assert moved(summary, "relevance") < -0.05


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ppo_on_posts_raises_the_gold_score(tmp_path, seed):
    summary = run("ppo", tmp_path, preset="tldr-laptop", seed=seed)
    assert summary["gold_reward"]["low"] > summary["gold_reward_before"]["mean"]
    assert summary["seconds"] < 300 * SLACK and summary["peak_memory_mb"] < 2048
