"""`climb run word_agent` and `climb run transformer`: what they write down is what was learned, and the same seed gives it again."""

from types import SimpleNamespace

import pytest
import torch

from solutions.toy import transformer, word_agent
from toy.given import transformer_run, word_agent_run
from toy.given.run_folder import RunFolder
from toy.given.word_world import WordWorld

LESSON3 = SimpleNamespace(word_agent=word_agent)
LESSON7 = SimpleNamespace(TinyGPT=transformer.TinyGPT, pretrain=transformer.pretrain, generate=transformer.generate)
SHORT = transformer_run.Config(steps=6, batch_size=8, warmup=2, measure=4, dim=8, layers=1)


def first_loss(world):
    """The expected loss of the run's model before its first step, as the world itself measures it."""
    torch.manual_seed(SHORT.seed)
    return world.expected_loss(transformer.TinyGPT(20, 13, dim=SHORT.dim, layers=SHORT.layers).double())


def without_seconds(summary):
    return {name: value for name, value in summary.items() if name != "seconds"}


@pytest.mark.parametrize(
    "runner, config, lessons",
    [(word_agent_run, word_agent_run.Config(iterations=30), LESSON3), (transformer_run, SHORT, LESSON7)],
    ids=["word_agent", "transformer"],
)
def test_a_run_fills_its_folder_and_begins_anew_with_the_same_numbers(tmp_path, runner, config, lessons):
    folder, told = RunFolder(tmp_path), []
    first = runner.run(config, lessons, folder, lambda *what: told.append(what))
    rows = folder.metrics()
    again = runner.run(config, lessons, folder, lambda *what: None, resume=True)
    assert without_seconds(again) == without_seconds(first) and folder.metrics() == rows
    assert [row["step"] for row in rows] == list(range(1, told[-1][2] + 1)) and told[-1][1] == told[-1][2] == len(rows)
    assert (tmp_path / "run.png").stat().st_size > 10_000 and all(runner.told(first))


def test_the_agent_ends_where_the_metrics_end(tmp_path):
    folder = RunFolder(tmp_path)
    summary = word_agent_run.run(word_agent_run.Config(shift=1.0), LESSON3, folder, lambda *what: None)
    last = folder.metrics()[-1]
    assert summary["positive_after"] == last["positive"] > 0.99  # what the lesson promises of 300 iterations at 1e-2
    assert summary["reward_after"] == last["reward"] == 2 * last["positive"] - 1 + 1.0


def test_the_exact_loss_is_measured_at_its_steps_and_never_below_the_floor(tmp_path):
    folder, world = RunFolder(tmp_path), WordWorld()
    summary = transformer_run.run(SHORT, LESSON7, folder, lambda *what: None)
    measured = {row["step"]: row["exact_loss"] for row in folder.metrics() if "exact_loss" in row}
    assert list(measured) == [4, 6] and measured[6] == summary["loss_after"]
    assert min(measured.values()) > world.entropy_rate == summary["entropy_rate"]
    assert summary["loss_before"] == pytest.approx(first_loss(world), abs=1e-12)  # float64 sums in another order
    assert 0 <= summary["sentences_share"] <= 1 and len(summary["written"]) == 6


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: word_agent_run.Config(mode="greedy"), "mode: expected sample or argmax, received 'greedy'"),
        (lambda: word_agent_run.Config(epsilon=1.5), "epsilon: expected a number from 0 to 1, received 1.5"),
        (lambda: word_agent_run.Config(iterations=0), "iterations: expected a positive number, received 0"),
        (lambda: transformer_run.Config(steps=10, warmup=10), "warmup: expected fewer than steps = 10, received 10"),
        (lambda: transformer_run.Config(dim=0), "dim: expected a positive number, received 0"),
    ],
)
def test_settings_that_make_no_sense_are_named(make, words):
    with pytest.raises(ValueError) as refused:
        make()
    assert str(refused.value) == words
