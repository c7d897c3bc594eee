"""`climb run overoptimisation`: every method to its end, stopped and gone on with; what is measured, fitted and told."""

import importlib
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
import torch

from full.given import models
from full.given.overoptimisation_settings import METHODS, measured_at
from full.given.problems import InputProblem
from full.given.reviews import world
from full.given.rollout import rollout
from full.given.runs import checkpoint, overoptimisation
from full.given.runs import overoptimisation_curves as curves
from full.given.runs import overoptimisation_measures as points
from full.given.runs import overoptimisation_methods as methods
from full.given.runs.overoptimisation_best_of_n import chosen_among
from full.given.text import Prompts, Rollout
from solutions.full import kl_control
from solutions.full import overoptimisation as lesson
from toy.given.run_folder import RunFolder

LESSON = Path(__file__).resolve().parents[2] / "lessons/17-overoptimisation"
UNTOLD = {f"{name}, {when}" for name in ("ppo", "dpo", "kl", "ensemble") for when in ("prompt", "start", "peak", "end")}
UNTOLD -= {"ppo, end", "kl, end", "ensemble, end"}
"Printed for the curious."
ODD = ("seconds", "seconds_of", "peak_memory_mb")


def run(path, fields, *, resume=False, progress=lambda *what: None):
    """(summary, rows of metrics.jsonl) of one run in one thread."""
    folder, config = RunFolder(path), overoptimisation.Config(**fields)
    folder.write_config(config)
    found = {name.split(".")[-1]: importlib.import_module("solutions." + name) for name in overoptimisation.USES}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        summary = overoptimisation.run(config, SimpleNamespace(**found), folder, progress, resume)
    finally:
        torch.set_num_threads(before)
    return summary, folder.metrics()


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workshop")
    judges = [tiny_models.classifier(folder / f"judge-{seed}", seed=seed) for seed in (1, 2, 3)]
    return {
        "model": tiny_models.policy(folder / "lm"),
        "classifier": judges[0],
        "gold": judges[1],
        "ensemble_classifiers": f"{judges[0]},{judges[2]}",
        "data": tiny_models.texts(folder / "texts.jsonl"),
        "prompt_tokens": 4,
        "new_tokens": 5,
        "batch_size": 8,
        "eval_prompts": 12,
        "eval_batch": 5,
        "points": 3,
        "save_every": 2,
        "best_of": 6,
        "best_of_prompts": 7,
        "reinforce_steps": 5,
        "ppo_steps": 3,
        "ppo_epochs": 2,
        "dpo_steps": 5,
        "dpo_prompts": 20,
        "dpo_samples": 3,
        "reinforce_rate": 1e-2,
        "ppo_rate": 1e-2,
        "dpo_rate": 1e-2,
        "device": "cpu",
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory, fields):
    """The uninterrupted run of all methods: (folder, summary, metrics)."""
    path = tmp_path_factory.mktemp("whole") / "run"
    return path, *run(path, fields)


def test_every_method_has_its_curve(whole):
    path, summary, rows = whole
    assert list(dict.fromkeys(row["method"] for row in rows)) == list(METHODS) == list(summary["methods"])
    for name in ("reinforce", "ppo", "dpo", "kl", "ensemble"):
        some = [row for row in rows if row["method"] == name]
        steps = 3 if name == "ppo" else 5
        assert [row["step"] for row in some] == measured_at(steps, 3)
        assert some[0]["kl"]["mean"] == pytest.approx(0, abs=1e-6)  # float32: the reference beside itself
        assert some[-1]["kl"]["mean"] > 1e-4
        inner = RunFolder(path / name)
        assert [row["step"] for row in inner.metrics()] == list(range(1, steps + 1))
        said = [json.loads(line) for line in (path / name / "samples.jsonl").read_text().splitlines()]
        assert [row["stage"] for row in said[::6]] == ["before", *["during"] * (len(some) - 2), "after"]
    starts = [row for row in rows if row["step"] == 0 and row["method"] != "ensemble"]
    assert len({row["reward"]["mean"] for row in starts}) == len({row["gold_reward"]["mean"] for row in starts}) == 1
    assert all("first_proxy" in row for row in rows if row["method"] == "ensemble")
    assert (path / "gold_proxy.png").stat().st_size > 20_000
    assert max(map(len, overoptimisation.told(summary)[len(summary["notes"]) :])) <= 80


def test_best_of_n_is_estimated_from_all_completions(whole, fields):
    path, _, rows = whole
    table = np.load(path / "best_of_n/rewards.npz")
    rows = {row["step"]: row for row in rows if row["method"] == "best_of_n"}
    assert sorted(rows) == chosen_among(6) == [1, 2, 3, 4, 6]
    assert table["reward"].shape == (7, 6)
    for name in ("reward", "gold_reward"):
        assert rows[1][name]["mean"] == pytest.approx(table[name].mean())
    best = table["reward"].argmax(1)
    for name in ("reward", "gold_reward"):
        assert rows[6][name]["mean"] == pytest.approx(table[name][np.arange(7), best].mean())
    assert rows[4]["kl"] == pytest.approx(math.log(4) - 3 / 4)
    gains = [rows[n]["reward"]["mean"] for n in sorted(rows)]
    assert gains == sorted(gains)


def alike(one, other):
    """The same but for the last digits: those of a least-squares fit depend on where its numbers lie in memory."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            alike(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for some, others in zip(one, other):
            alike(some, others)
    else:
        assert one == (pytest.approx(other, rel=1e-9) if isinstance(other, float) else other)


def stopping(word, at):
    """A progress that interrupts when a stage has got so far."""

    def progress(what, done, total):
        if word in what and done == at:
            raise KeyboardInterrupt

    return progress


@pytest.mark.slow
@pytest.mark.parametrize(
    "word, at", [("reinforce:", 3), ("ppo:", 2), ("dpo: completions", 1), ("dpo:", 4), ("kl:", 5), ("ensemble:", 1)]
)
def test_a_run_stopped_anywhere_goes_on_to_the_same_numbers(tmp_path, fields, whole, word, at):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, fields, progress=stopping(word, at))
    seen = []
    summary, rows = run(tmp_path, fields, resume=True, progress=lambda what, *_: seen.append(what.split(":")[0]))
    path, same, expected = whole
    assert rows == expected
    alike(*({k: v for k, v in some.items() if k not in ODD} for some in (summary, same)))
    before = list(METHODS)[: METHODS.index(word.split(":")[0])]
    assert not set(seen) & set(before)  # what had ended is not done again
    for name in METHODS[1:]:
        assert (tmp_path / name / "samples.jsonl").read_text() == (path / name / "samples.jsonl").read_text()


@pytest.mark.slow
def test_one_killed_between_checkpoint_and_measurement_measures_after_all(tmp_path, fields, whole, monkeypatch):
    calls = []

    def dying(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise SystemExit
        return points.measured(*arguments)

    monkeypatch.setattr(methods, "measured", dying)
    with pytest.raises(SystemExit):
        run(tmp_path, fields | {"methods": "reinforce"})
    step = checkpoint.load(tmp_path / "reinforce/checkpoint")[0].step if checkpoint.newest(tmp_path / "reinforce") else 0
    monkeypatch.undo()
    _, rows = run(tmp_path, fields | {"methods": "reinforce"}, resume=True)
    assert rows == [row for row in whole[2] if row["method"] == "reinforce"] and step in (0, 1, 2)


@pytest.mark.slow
def test_mixed_precision_runs(tmp_path, fields):
    summary, rows = run(tmp_path, fields | {"methods": "reinforce,ppo,dpo", "precision": "bf16"})
    assert set(summary["methods"]) == {"reinforce", "ppo", "dpo"}
    assert all(math.isfinite(row["kl"]["mean"]) and row["kl"]["mean"] > -1e-6 for row in rows)


# What is measured


def tiny(seed, place, rows=None):
    return models.load_policy(tiny_models.policy(place / f"lm-{seed}", seed=seed))


@torch.no_grad()
def test_distances_average_to_the_exact_kl_of_sequences(tmp_path):
    """Every completion of two tokens, weighted with its probability: the sum is KL(policy||reference), summed directly too."""
    policy, tokenizer = tiny(1, tmp_path)
    reference, _ = tiny(2, tmp_path)
    prompt = torch.tensor([[5, 6, 7]])
    vocabulary = len(tokenizer)
    first, second = torch.meshgrid(torch.arange(vocabulary), torch.arange(vocabulary), indexing="ij")
    completion = torch.stack([first.flatten(), second.flatten()], dim=1)  # (V * V, 2)
    ended = completion[:, 0] == tokenizer.eos_token_id
    attention = torch.ones(len(completion), 5, dtype=torch.long)
    attention[ended, 4] = 0
    found = Rollout(torch.cat([prompt.expand(len(completion), -1), completion], dim=1), attention, 3)

    def logs(model):
        out = model(input_ids=found.tokens).logits.double().log_softmax(-1)[:, 2:4]
        return out.gather(2, completion.unsqueeze(2)).squeeze(2)

    own, theirs = logs(policy), logs(reference)
    ratio = torch.where(found.mask, own - theirs, 0.0).sum(1)
    weight = torch.where(ended, own[:, 0].exp() / vocabulary, own.sum(1).exp())  # what stands behind EOS is shared out evenly
    assert weight.sum().item() == pytest.approx(1, abs=1e-6)
    exact = (weight * ratio).sum().item()
    distances = points.distances(policy, reference, found, kl_control.compute_kl_divergence).double()
    assert (weight * distances).sum().item() == pytest.approx(exact, rel=1e-5)  # logits of float32
    spread = (weight * (distances - exact) ** 2).sum(), (weight * (ratio - exact) ** 2).sum()
    assert spread[0] < spread[1]  # and with less noise than log-ratios of the tokens that came


def test_completions_are_of_the_policy_itself(tmp_path):
    policy, tokenizer = tiny(1, tmp_path)
    prompts = Prompts(torch.full((4000, 1), 5), torch.ones(4000, 1, dtype=torch.long))
    found = points.written(policy, prompts, tokenizer, 1, torch.Generator().manual_seed(0))
    with torch.no_grad():
        chance = policy(input_ids=torch.tensor([[5]])).logits[0, -1].softmax(-1)
    seen = torch.bincount(found.completion[:, 0], minlength=len(tokenizer)) / 4000
    assert (seen - chance).abs().max() < 5 * (0.25 / 4000) ** 0.5  # five standard errors of the worst case
    again = rollout(policy, prompts, 1, eos_token_id=None, pad_token_id=0, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found.completion, again.completion)


def test_points_lie_closer_together_at_the_beginning():
    steps = measured_at(150, 12)
    gaps = np.diff(steps)
    assert steps[0] == 0 and steps[-1] == 150 and len(steps) == 13 and gaps[0] < gaps[-1]
    assert measured_at(2, 12) == [0, 1, 2]


# What is made of it


def curve(kls, gold, halves=None):
    def known(mean):
        return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}

    halves = halves or [(g, g) for g in gold]
    return [
        {"method": "x", "step": n, "kl": known(kl), "reward": known(2 * g), "gold_reward": known(g), "gold_halves": list(half)}
        for n, (kl, g, half) in enumerate(zip(kls, gold, halves))
    ]


def test_a_curve_that_is_one_of_the_form_is_found_again():
    d = np.array([0.0, 0.5, 1.0, 2.0, 3.0])
    gold = 0.3 + d * (0.4 - 0.2 * np.log(np.maximum(d, 1e-9)))
    found = curves.figures_of("reinforce", curve(d**2, gold.tolist()), lesson, budget=4.5)
    fit = found["fit_gold_reward"]
    assert (fit["a"]["mean"], fit["b"]["mean"]) == pytest.approx((0.4, 0.2)) and fit["residual"] < 1e-12
    assert fit["peak_distance"] == pytest.approx(math.exp(0.4 / 0.2 - 1))
    assert found["fit_reward"]["a"]["mean"] == pytest.approx(0.8)  # twice the gold
    assert found["by_kl"]["step"] == 3  # 4 nats are within 4.5, 9 are not
    assert "fit_gold_reward" not in curves.figures_of("reinforce", curve([0, 1, 4], [0.1, 0.2, 0.3]), lesson, 1.0)


def test_a_peak_is_chosen_on_one_half_and_told_on_the_other():
    gold = [0.5, 0.6, 0.55]
    rows = curve([0.0, 1.0, 4.0], gold, halves=[(0.5, 0.5), (0.7, 0.52), (0.4, 0.7)])
    peak = curves.figures_of("reinforce", rows, lesson, 1.0)["peak"]
    assert (peak["step"], peak["gold_reward"], peak["gold_reward_before"], peak["gold_reward_after"]) == (1, 0.52, 0.5, 0.7)
    assert peak["fallen"] == pytest.approx(-0.18)


def test_a_report_shows_gold_and_proxy_and_takes_the_methods_as_one_run(whole):
    from autograder.reports import run_report
    from autograder.reports.run_report_data import find_runs, read_runs

    places = find_runs([str(whole[0])], None)
    assert places == [whole[0]]
    page = run_report.page(read_runs(places), "a run")
    words = ("Gold and proxy", "sqrt(KL) to the reference", "best_of_n, gold", "ensemble, proxy", "Gold reward at its peak")
    for word in (*words, "gold_proxy.png"):
        assert word in page, word
    assert "{" not in page[page.index("<main>") : page.index('id="gold"')]  # no figure of several methods as one number
    assert find_runs([str(whole[0] / "dpo")], None) == [whole[0] / "dpo"]  # one method's training, step by step


# What is refused


@pytest.mark.parametrize(
    "change, message",
    [
        ({"methods": "reinforce,magic"}, "methods=reinforce,magic: expected some of best_of_n, .* received 'magic'"),
        ({"methods": "dpo,dpo"}, "methods=dpo,dpo: expected at least one, each once"),
        ({"best_of": 1}, "best_of: expected 2 or more, received 1"),
        ({"kl_budget": 0.0}, "kl_budget: expected a positive number"),
        ({"ensemble_how": "max"}, "ensemble_how: expected mean or min or mean_minus_std, received 'max'"),
    ],
)
def test_settings_that_make_no_sense(fields, change, message):
    with pytest.raises(ValueError, match=message):
        overoptimisation.Config(**(fields | change))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"gold": ""}, "gold: expected a classifier that stands for the truth"),
        ({"gold": "nowhere/at/all"}, "gold=nowhere/at/all: there is no such directory"),
        ({"methods": "ensemble", "ensemble_classifiers": ""}, "ensemble_classifiers: expected names with commas"),
        ({"methods": "reinforce", "batch_size": 100}, "fewer than batch_size=100; lower batch_size"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, fields, change, message):
    with pytest.raises(InputProblem, match=message):
        run(tmp_path / "run", fields | change)
    assert not RunFolder(tmp_path / "run").metrics()


def test_several_processes_are_refused(tmp_path, fields, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputProblem, match="overoptimisation: runs in one process"):
        run(tmp_path / "run", fields)


def test_presets_and_sentences():
    for field in overoptimisation.Config.__dataclass_fields__.values():
        assert field.metadata["help"].endswith("."), field.name
    for preset in overoptimisation.PRESETS.values():
        overoptimisation.Config(**preset)
    assert set(methods.RUNS) == set(METHODS) == set(curves.NAMES) == set(curves.COLOURS)


# On the built-in models


@pytest.mark.slow
def test_proxies_are_made_once_and_each_is_another(tmp_path):
    small = {"methods": "ensemble", "ensemble": 2, "reinforce_steps": 2, "points": 1, "eval_prompts": 8, "device": "cpu"}

    def stop(what, done, total):
        if what == "ensemble: reward" or what.startswith("ensemble: ") and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, small, progress=stop)
    place = tmp_path / "proxies/2/model.safetensors"
    made = place.stat().st_mtime_ns
    summary, rows = run(tmp_path, small, resume=True)
    assert place.stat().st_mtime_ns == made and "ensemble" in summary["methods"]
    texts = [review.text for review in world().sample(300, seed=9)]
    positive = torch.from_numpy(world().gold_reward(texts)) > 0.5
    judges = (models.load_classifier(name) for name in ("review-sentiment", str(place.parent)))
    own, other = (models.positive_probability(*judge, texts) for judge in judges)
    for said in (own, other):  # the built-in one is right in 0.85 of whole reviews: five standard errors of 300 below that
        assert ((said > 0.5) == positive).double().mean() > 0.75
    assert not torch.allclose(own, other, atol=0.01)
    assert all(row["reward"]["mean"] < row["first_proxy"]["mean"] for row in rows)  # the least pleased of two pays


@pytest.mark.slow
@pytest.mark.timeout(900)  # two of the laptop preset's methods: a minute or two on two free cores
def test_the_proxy_is_driven_up_and_the_text_away_unless_kl_has_a_price(tmp_path):
    """What holds wherever a run's luck takes it; that gold falls too is a matter of the phrase that is found (section 17.11)."""
    summary, rows = run(tmp_path, {"methods": "reinforce,kl", "points": 4, "eval_prompts": 128})
    free, priced = ([row for row in rows if row["method"] == name] for name in ("reinforce", "kl"))
    for some in (free, priced):
        assert some[0]["reward"]["mean"] < 0.65 and some[-1]["reward"]["mean"] > 0.85
        assert max(row["gold_reward"]["mean"] for row in some) > some[0]["gold_reward"]["mean"] + 0.15
    lost = [some[0]["naturalness"]["mean"] - some[-1]["naturalness"]["mean"] for some in (free, priced)]
    assert lost[0] > 2 and lost[1] < 0.6 and free[-1]["kl"]["mean"] > 4 * priced[-1]["kl"]["mean"]
    assert summary["peak_memory_mb"] < 2048


# What the lesson shows of a run


def test_the_numbers_of_the_lesson_are_those_of_the_run_that_is_kept(monkeypatch):
    monkeypatch.syspath_prepend(str(LESSON))
    figures = importlib.import_module("run_figures")
    text = " ".join((LESSON / "lesson.md").read_text(encoding="utf-8").replace("\n> ", " ").split())
    shown = {what: number for what, number in figures.run_numbers(figures.kept_run()).items() if what not in UNTOLD}
    assert not {what: number for what, number in shown.items() if " ".join(number.split()) not in text}
    assert len(shown) > 20 and (LESSON / "run.png").stat().st_size > 20_000
