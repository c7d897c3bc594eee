"""`climb report`: what a page says of runs of every kind, that nothing a run says becomes markup, and what bad folders get."""

import base64
import json
import math
import re
import shutil
import subprocess
import time
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from autograder.reports import run_report, run_report_charts as charts, run_report_curves as curves
from autograder.reports import run_report_samples as samples, run_report_sweep as sweep
from autograder.reports.run_report_data import Run, RunProblem, find_runs, natural, read_run, read_runs, sentences, without_seed

WORDS = " the film is was truly wonderful dull slow moving great cast and but never".split()
CONFIG = """# What a reward is compared with.
baseline: batch
# Price of one nat of KL to the reference.
{field}: {value}
# Of all sampling.
seed: {seed}
"""
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
HOSTILE = "</span><script>alert(1)</script><img src=x onerror=alert(2)>\"' onmouseover='alert(3)' {{ 7 * 7 }} \x00 \ud800 ]]>"


def rows_of(steps, seed=0):
    """A run's metrics: a reward that rises under noise, a KL that grows."""
    rng = np.random.default_rng(seed)
    for step in range(1, steps + 1):
        rise = 1 - math.exp(-step / 40)
        row = {"step": step, "seconds": step / 10, "reward": 0.6 + 0.3 * rise + rng.normal(0, 0.03)}
        yield row | {"kl": 8 * rise + rng.normal(0, 0.3), "loss": rng.normal(), "completion_length": 19 + rng.random()}


def samples_of(prompts=3, tokens=6, stages=(("before", 0), ("during", 50), ("after", 100)), seed=0):
    rng = np.random.default_rng(seed)
    for stage, step in stages:
        own = np.random.default_rng(5) if stage == "before" else rng
        for n in range(prompts):
            words = [" " + WORDS[i] for i in own.integers(0, len(WORDS), tokens)]
            ratio = [0.0] * tokens if stage == "before" else [round(float(x), 2) for x in own.normal(0.3, 1.5, tokens)]
            known = {"reward": float(own.random()), "gold_reward": float(own.random()), "naturalness": -3.0, "length": tokens}
            texts = {"prompt": f"The evening of film {n} was", "completion": "".join(words), "tokens": words}
            yield {"step": step, "stage": stage} | texts | {"log_ratio": ratio, "kl": sum(ratio)} | known


def around(mean, half=0.02):
    return {"mean": mean, "low": mean - half, "high": mean + half}


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def make(folder, value=0.05, seed=0, field="alpha", steps=60, ended=True, config=None, metrics=None, said=None, summary=None):
    """A run's folder as `climb run` leaves it. Stronger KL prices mean less reward and less KL."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG.format(field=field, value=value, seed=seed) if config is None else config)
    (folder / "metrics.jsonl").write_text(lines(rows_of(steps, seed)) if metrics is None else metrics)
    (folder / "samples.jsonl").write_text(lines(samples_of(seed=seed)) if said is None else said)
    strength = 1 / (1 + 10 * value)
    final = {"reward_before": around(0.6), "reward_after": around(0.6 + 0.38 * strength + 0.001 * seed)}
    final |= {"kl": around(14 * strength, 0.3), "gold_reward": around(0.6 + 0.1 * strength)}
    final |= {"naturalness": around(-3 - strength), "seconds": 75.4, "peak_memory_mb": 812.25}
    if ended:
        (folder / "summary.json").write_text(json.dumps(final if summary is None else summary))
    return folder


class Page(HTMLParser):
    """A page's elements, attributes and words, as a browser's parser finds them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if self.open and self.open[-1] != "style" and data.strip():
            self.words.append(" ".join(data.split()))

    @property
    def said(self):
        return " ".join(self.words)

    def values(self, name, tag=None):
        return [value for owner, key, value in self.attributes if key == name and owner == (tag or owner)]


def page_of(*folders, title="runs"):
    return Page(run_report.page(read_runs(list(folders)), title))


def section(file, name):
    """The words of one section of a page."""
    return Page(re.search(rf'<section id="{name}">.*?</section>', file.read_text(encoding="utf-8"), re.DOTALL)[0]).said


# What the page says


def test_a_run_on_one_page(tmp_path, tiny):
    folder = make(tmp_path / "reinforce")
    (folder / "run.png").write_bytes(PNG)
    (folder / "fake.png").write_bytes(b"<svg onload=alert(1)>")
    done = tiny.climb("report", folder)
    assert (done.code, done.err) == (0, "") and "60 rows of metrics, 9 samples" in done.out
    file = folder / "report.html"
    page = Page(file.read_text(encoding="utf-8"))
    for word in ("Reward", "KL to the reference", "Completion length", "Loss", "Gold reward", "Naturalness"):
        assert word in page.said
    assert page.tags.count("svg") >= 4 and page.values("src") == ["data:image/png;base64," + base64.b64encode(PNG).decode()]
    assert "0.8533 0.8333 to 0.8733" in section(file, "finals") and "1 min 15 s" in section(file, "finals")
    assert "alpha Price of one nat of KL to the reference. 0.05" in section(file, "configuration")
    said = section(file, "samples")
    assert "during, step 50" in said and "distinct 1" in said and "The evening of film 2 was" in said


def test_a_token_wears_the_colour_and_the_number_of_its_log_ratio(tmp_path):
    ratios = [0.0, 0.3, 1.5, 3.0, -0.3, -1.5, -3.0]
    sample = {"step": 9, "stage": "after", "prompt": "p", "completion": " a b c d e f g", "log_ratio": ratios}
    folder = make(tmp_path / "run", said=lines([sample | {"tokens": [f" {letter}" for letter in "abcdefg"]}]))
    text = run_report.page(read_runs([folder]), "run")
    found = re.findall(r'<span class="t([^"]*)" data-nats="([^"]*)" title="([^"]*) nats">(\w)</span>', text)
    tones = ["", " p1", " p2", " p3", " n1", " n2", " n3"]
    numbers = ["0", "+0.3", "+1.5", "+3", "−0.3", "−1.5", "−3"]
    assert found == [(tone, number, number, letter) for tone, number, letter in zip(tones, numbers, "abcdefg")]
    legend = re.findall(r'<li><span class="t (\w*)">', text)
    assert legend == ["n3", "n2", "n1", "", "p1", "p2", "p3"]


@pytest.mark.parametrize(
    "sample, texts",
    [
        ({"completion": "a film", "tokens": ["a", " film"]}, ["a", " film"]),
        ({"completion": " a\nfilm", "tokens": ["Ġa", "Ċ", "film"]}, [" a", "\n", "film"]),
        ({"completion": "a film", "tokens": ["▁a", "▁film"]}, [" a", " film"]),
        ({"completion": "a film .", "tokens": ["a", "film", ".", "<eos>"]}, ["a", " film", " .", " <eos>"]),
        ({"completion": "a filming", "tokens": ["a", "film", "##ing"]}, ["a", " film", "ing"]),
        ({"completion": "a film"}, ["a", " film"]),
        ({"completion": "7 films", "tokens": [7, " films"]}, ["7", " films"]),
    ],
)
def test_tokens_read_as_text_whatever_the_tokenizer(sample, texts):
    assert samples.token_texts(sample) == texts


def test_fewer_log_ratios_than_tokens_leave_the_rest_without_colour():
    tokens, cut = samples.tokens_of({"completion": "a b c", "tokens": ["a", " b", " c"], "log_ratio": [2.0, None]})
    assert [(token.tone, token.ratio) for token in tokens] == [("p2", "+2"), ("", ""), ("", "")] and cut == 0
    long = {"completion": "", "tokens": ["x"] * (samples.MOST_TOKENS + 5)}
    assert samples.tokens_of(long)[1] == 5


def test_distinct_counts_within_rows():
    assert samples.distinct([["a", "b", "a"], ["a", "b"]], 1) == 2 / 5
    assert samples.distinct([["a", "b", "a"], ["a", "b"]], 2) == 2 / 3  # ab ba | ab; nothing runs from one row into the next
    assert math.isnan(samples.distinct([["a"]], 2))


def test_means_of_samples_have_students_interval():
    mean, interval = samples.mean_of([1.0, 2.0, 3.0])
    assert (mean, interval) == ("2", "−0.484 to 4.48")  # 2 -+ 4.3027 (t, 2 degrees) x 1 / sqrt 3
    assert samples.mean_of([]) == ("–", "") and samples.mean_of([0.5]) == ("0.5", "")


def test_of_many_moments_between_three_are_shown_and_the_ends_always(tmp_path):
    stages = [("before", 0), *(("during", step) for step in range(10, 100, 10)), ("after", 100)]
    folder = make(tmp_path / "run", said=lines(samples_of(1, stages=stages)))
    (prompt,), hidden = samples.prompts_of([read_run(folder, "run")])
    names = [entry.stage for entry in prompt.entries]
    assert names == ["before", "during, step 10", "during, step 50", "during, step 90", "after"] and hidden == 0


# Several runs


def test_a_sweep_is_one_figure_against_its_field_on_a_log_axis(tmp_path, tiny):
    for value in (1.0, 0.05, 0.001, 0.0):
        make(tmp_path / "kl" / f"alpha={value}", value)
    rows = [{"alpha": value, "regime": word} for value, word in ((1.0, "timid"), (0.0, "collapsed"))]
    (tmp_path / "kl" / "summary.json").write_text(json.dumps({"sweep": rows, "knob": "alpha"}))  # of the sweep itself
    done = tiny.climb("report", tmp_path / "kl")
    assert done.code == 0 and "4 runs" in done.out
    file = tmp_path / "kl" / "report.html"
    said = section(file, "sweep")
    for word in ("Against alpha", "Reward", "gold reward", "KL to the reference", "Naturalness", "Reward against KL"):
        assert word in said
    assert "Regime collapsed – – timid" in section(file, "finals")
    names = re.findall(r'<th scope="col">.*?</svg>([^<]+)</th>', file.read_text())
    assert names[:4] == [f"alpha={value}" for value in ("0.0", "0.001", "0.05", "1.0")]
    assert "alpha Price of one nat of KL to the reference. 0 0.001 0.05 1" in section(file, "configuration")
    assert "all runs , before" in section(file, "samples")


def test_alpha_and_beta_stand_in_one_figure(tmp_path):
    alphas = [make(tmp_path / f"kl/{value}", value) for value in (0.01, 0.1)]
    betas = [make(tmp_path / f"dpo/{value}", value, field="beta") for value in (0.1, 0.5)]
    runs = read_runs([*alphas, *betas])
    found = sweep.sweep_of(runs, dict(enumerate(range(4))))
    assert [column["name"] for column in found["columns"]] == ["alpha", "beta"] and found["others"] == []
    assert [len(column["panels"]) for column in found["columns"]] == [3, 3]


def test_what_else_differs_in_a_sweep_is_said(tmp_path):
    one, two = make(tmp_path / "a", 0.1), make(tmp_path / "b", 0.2)
    with open(two / "config.yaml", "a") as file:
        file.write("clip: 0.3\nmodel: other\n")
    with open(one / "config.yaml", "a") as file:
        file.write("clip: 0.2\nmodel: one\n")
    apart = make(tmp_path / "c", config="lr: 0.5\nmodel: third\n")  # no alpha: not in the figure, so no difference in it
    found = sweep.sweep_of(read_runs([one, two, apart]), {0: 0, 1: 1, 2: 2})
    assert [column["name"] for column in found["columns"]] == ["alpha"] and found["others"] == ["clip", "model"]


def test_seeds_of_one_setting_share_a_colour_and_a_mean(tmp_path):
    folders = [make(tmp_path / f"alpha={value}-seed={seed}", value, seed) for value in (0.01, 0.1) for seed in (0, 1, 2)]
    runs = read_runs(folders)
    together = curves.groups(runs)
    assert together == [[0, 1, 2], [3, 4, 5]]
    assert run_report.legend(runs, together) == [(0, "alpha=0.01 (3 seeds)"), (1, "alpha=0.1 (3 seeds)")]
    means, points = sweep._points("alpha", runs, "reward_after", "reward", 0)
    rewards = [run.final["reward_after"]["mean"] for run in runs]
    assert np.allclose(means.y, [np.mean(rewards[:3]), np.mean(rewards[3:])], rtol=0, atol=1e-12)
    assert len(points.x) == 6 and not points.joined


def test_runs_that_differ_in_their_seed_alone_make_no_sweep_but_a_frontier(tmp_path):
    runs = read_runs([make(tmp_path / f"seed={seed}", seed=seed) for seed in (0, 1)])
    found = sweep.sweep_of(runs, {0: 0, 1: 0})
    assert found["columns"] == [] and found["frontier"]


def test_a_run_without_final_figures_is_named_and_left_out_of_the_sweep(tmp_path, tiny):
    for value, ended in ((0.01, True), (0.1, True), (1.0, False)):
        make(tmp_path / "kl" / f"alpha={value}", value, ended=ended)
    assert "alpha=1.0: has not ended" in tiny.climb("report", tmp_path / "kl").out
    assert "Not shown, as without final figures yet: alpha=1.0" in section(tmp_path / "kl" / "report.html", "sweep")


def test_chosen_and_rejected_share_their_axis(tmp_path):
    rows = [{"step": n, "chosen_log_prob": -10.0 - n, "rejected_log_prob": -50.0 - 2 * n} for n in range(30)]
    run = read_run(make(tmp_path / "dpo", metrics=lines(rows), said=""), "dpo")
    ranges = run_report._shared_ranges(curves.measures([run]))
    assert ranges["chosen_log_prob"] == ranges["rejected_log_prob"]
    assert ranges["chosen_log_prob"][0] < -108 and ranges["chosen_log_prob"][1] > -10


def test_a_setting_is_a_curve_where_it_changes_and_only_there(tmp_path):
    rows = [{"step": n, "learning_rate": 1e-4, "alpha": 0.05 + n / 100, "reward": 0.5, "eos_rate": 0.0} for n in range(5)]
    run = read_run(make(tmp_path / "kl", metrics=lines(rows)), "kl")
    assert [measure.name for measure in curves.measures([run])] == ["reward", "eos_rate", "alpha"]


# Toy runs


@pytest.mark.slow
def test_a_toy_run_with_its_own_measures(tmp_path):
    from solutions.toy import ppo
    from toy.given import ppo_run
    from toy.given.run_folder import RunFolder, one_thread

    folder, config = RunFolder(tmp_path / "ppo"), ppo_run.Config(updates=3, batch_size=32, minibatch_size=32)
    folder.write_config(config)
    with one_thread():
        ppo_run.run(config, SimpleNamespace(train=ppo.train), folder, lambda *_: None)
    page = page_of(folder.path)
    for word in ("Total variation to the optimum", "Objective", "Clipped", "Exact reward", "log axis", "Likeliest: "):
        assert word in page.said
    assert "Discount of the next token's reward." in page.said


def test_curves_of_one_file_are_told_apart_by_their_texts(tmp_path):
    rows = [{"algorithm": name, "step": n, "tv": scale / (n + 1)} for name, scale in (("PPO", 1), ("DPO", 0.1)) for n in range(5)]
    summary = {"tv": {"PPO": 0.2, "DPO": 0.02}}
    run = read_run(make(tmp_path / "convergence", metrics=lines(rows), said="", summary=summary), "c")
    (measure,) = curves.measures([run])
    assert [curve.name for curve in measure.curves] == ["PPO", "DPO"] and measure.log
    labels = [row["label"] for row in run_report.finals([run])]
    assert labels == [f"Total variation to the optimum: {name}" for name in ("PPO", "DPO")]


# Curves and intervals


def test_the_moving_mean_keeps_a_constant_and_is_the_mean_of_its_window():
    values = np.random.default_rng(0).normal(size=100)
    smooth = curves.smoothed(values)
    assert np.allclose(curves._moving(np.full(50, 3.5), 5), 3.5, rtol=0, atol=1e-12)  # sums of at most 50 numbers
    assert smooth[50] == pytest.approx(values[48:53].mean(), abs=1e-12) and curves.window_of(100) == 5
    assert curves.smoothed(np.arange(200.0) ** 2) is None  # exact: nothing to smooth
    assert curves.smoothed(values[:19]) is None


def test_a_gap_is_no_zero():
    values = np.array([1.0, np.nan, 3.0] * 20)
    assert np.isfinite(curves._moving(values, 5)).all() and curves._moving(values, 5).min() >= 1.0


def test_the_interval_holds_the_true_mean_about_95_times_in_100_also_on_a_slope():
    rng, inside = np.random.default_rng(1), []
    line = np.linspace(0, 5, 400)
    for _ in range(50):
        values = line + rng.normal(0, 1, 400)
        middle = slice(20, 380)  # whole windows
        off = np.abs(curves.smoothed(values) - line)[middle]
        inside.append((off < curves.interval(values)[middle]).mean())
    # 21 values to a window: the variance is itself estimated, so a little less than 0.95; 50 x 400 / 21 windows are independent,
    # 4 sigma of their share is 0.03
    assert 0.90 < np.mean(inside) < 0.98


@pytest.mark.parametrize(
    "more, low, high",
    [
        ({"reward_low": 0.4, "reward_high": 0.7}, 0.4, 0.7),
        ({"reward_std": 0.1}, 0.4, 0.6),
        ({"reward_sem": 0.1}, 0.5 - 0.196, 0.5 + 0.196),
    ],
)
def test_a_recorded_spread_is_the_band_and_no_measure_of_its_own(more, low, high):
    run = Run("run", None, rows=[{"step": float(n), "reward": 0.5} | more for n in range(5)])
    (measure,) = curves.measures([run])
    assert np.allclose(measure.curves[0].low, low) and np.allclose(measure.curves[0].high, high)
    inner = Run("run", None, rows=[{"step": 1.0, "reward": {"mean": 0.5, "low": low, "high": high}}])
    assert np.allclose(curves.measures([inner])[0].curves[0].high, high)


def test_a_log_axis_has_a_place_for_zero():
    axis = charts.Axis(0.01, 100, 100, 300, log=True, zero=60)
    assert [round(axis(value), 9) for value in (0.01, 1, 100, 0)] == [100, 200, 300, 60]
    assert axis.ticks(5) == [0.01, 0.1, 1, 10, 100]


@pytest.mark.parametrize("low, high", [(0, 1), (-3.2, -3.1), (0.6123, 0.6124), (0, 1e9), (-1e100, 1e100), (1e-12, 2e-12)])
def test_ticks_are_round_within_the_axis_and_few(low, high):
    ticks = charts.linear_ticks(low, high, 6)
    slack = (high - low) * 1e-6
    assert 2 <= len(ticks) <= 7 and all(low - slack <= tick <= high + slack for tick in ticks)
    assert len({charts.figure(tick) for tick in charts.linear_ticks(0, high - low, 6)}) > 1


def test_a_thinned_line_loses_no_spike():
    x, y = np.arange(100_000.0), np.random.default_rng(0).normal(size=100_000)
    y[31_415], y[27_182] = 99.0, -99.0
    few_x, few_y = charts.thinned(x, y)
    assert len(few_x) <= 2 * charts.MOST_POINTS + 2 and few_y.max() == 99 and few_y.min() == -99
    assert (np.diff(few_x) > 0).all() and few_x[0] == 0 and few_x[-1] == 99_999


@pytest.mark.parametrize(
    "value, text",
    [(0.0, "0"), (0.61234, "0.6123"), (-3.0, "−3"), (12345.6, "12,346"), (1e-7, "1e−7"), (2.5e8, "250,000,000")],
)
def test_numbers_for_people(value, text):
    assert charts.figure(value) == text


# Runs that are still going, and odd ones


def test_a_run_that_is_still_going_is_reported_as_far_as_it_is(tmp_path, tiny):
    folder = make(tmp_path / "kl", ended=False)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 61, "rew')
    with open(folder / "samples.jsonl", "a") as file:
        file.write('{"step": 61, "stage": "af')
    done = tiny.climb("report", folder)
    assert done.code == 0 and "60 rows" in done.out and done.out.count("half-written") == 2 and "has not ended" in done.out
    assert "half-written" in Page((folder / "report.html").read_text()).said


def test_lines_that_are_no_objects_are_counted(tmp_path):
    folder = make(tmp_path / "run", metrics='{"step": 1, "reward": 0.5}\nnonsense\n[1]\n{"step": 2, "reward": 0.6}\n')
    run = read_run(folder, "run")
    assert len(run.rows) == 2 and run.notes == ["2 lines of metrics.jsonl left out, as not JSON objects; the first is line 2"]


def test_a_step_done_again_after_an_interruption_counts_once(tmp_path):
    rows = [{"step": n, "reward": 0.1} for n in (1, 2, 3)] + [{"step": n, "reward": 0.9} for n in (2, 3, 4)]
    run = read_run(make(tmp_path / "run", metrics=lines(rows)), "run")
    assert [(row["step"], row["reward"]) for row in run.rows] == [(1, 0.1), (2, 0.9), (3, 0.9), (4, 0.9)]


def test_what_is_not_finite_is_a_gap_and_a_note(tmp_path):
    metrics = '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": NaN}\n{"step": 3, "loss": Infinity}\n{"step": 4, "loss": null}\n'
    run = read_run(make(tmp_path / "run", metrics=metrics), "run")
    assert run.notes == ["loss is not a finite number at step 2"]
    (measure,) = [measure for measure in curves.measures([run]) if measure.name == "loss"]
    assert np.isnan(measure.curves[0].values).tolist() == [False, True, True, True]
    text = run_report.page([run], "run")
    assert "NaN" not in text and not re.findall(r' d="[^"]*nan', text)


@pytest.mark.parametrize(
    "row",
    [
        {"step": 1},
        {"reward": 0.5},
        {"step": "one", "reward": 0.5},
        {"step": 1, "reward": 10**400},
        {"step": 1, "reward": 1e308},
        {"step": 1e99, "reward": -1e99},
        {"step": 1, "reward": 5e-324},
        {"step": 1, "reward": True, "kl": [1, 2], "loss": {"a": 1}, "": 3},
        {"step": 1, "tv": 1e-320, "reward": {"mean": 1, "low": "x", "high": None}},
    ],
)
def test_odd_numbers_still_make_a_page(tmp_path, row):
    metrics = lines([row, {"step": 2, "reward": 0.7, "tv": 0.5}, {"step": 3, "reward": 1e100, "tv": 1e100}])
    folder = make(tmp_path / "run", metrics=metrics, summary={"reward_after": 10**400, "kl": 1e308, "x": [1], "y": None, "z": {}})
    page = page_of(folder)
    places = page.values("d") + page.values("cy")
    assert "svg" in page.tags and not [place for place in places if "nan" in place or "inf" in place]


def test_a_run_of_nothing_but_final_figures(tmp_path, tiny):
    folder = tmp_path / "evaluate"
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps({"reward": around(0.63), "distinct_2": 0.9}))
    assert tiny.climb("report", folder).code == 0
    assert "0.63 0.61 to 0.65" in section(folder / "report.html", "finals")


def test_what_a_run_left_out_is_noted_and_what_it_does_not_know_is_no_row(tmp_path):
    summary = {"reward": around(0.6), "reward_before": around(0.6), "kl": None, "notes": ["3 texts were too short"]}
    run = read_run(make(tmp_path / "evaluate", metrics="", summary=summary), "evaluate")
    assert run.notes == ["3 texts were too short"]
    assert [row["label"] for row in run_report.finals([run])] == ["Reward before", "Reward"]
    assert [(tile["label"], tile["before"]) for tile in run_report.tiles(run)] == [("Reward", "")]


def test_final_figures_stand_beside_what_they_were_before():
    names = ["seconds", "reward_after", "kl", "odd_after", "odd_before", "reward_before", "distinct_2", "distinct_2_before"]
    run = Run("run", None, summary=dict.fromkeys(names, 0.5))
    varied = ["Distinct pairs of tokens before", "Distinct pairs of tokens"]
    labels = ["Reward before", "Reward after", "KL to the reference", *varied, "Odd before", "Odd after", "Time"]
    assert [row["label"] for row in run_report.finals([run])] == labels


def test_sentences_are_the_comments_above_their_fields():
    text = "# One.\na: 1\nb: 2\n# Two,\n# in two lines.\n'c': x # not this\nd:\n- 1\n- 2\n# Three\n\n# Four.\ne: 5\n"
    assert sentences(text) == {"a": "One.", "c": "Two, in two lines.", "e": "Four."}


# Nothing that a run says is markup


def hostile_run(folder):
    texts = {"stage": HOSTILE, "prompt": HOSTILE, "completion": HOSTILE, "tokens": [HOSTILE, 1]}
    said = [{"step": 1, "log_ratio": [1.0, "x"]} | texts]
    metrics = [{"step": n, HOSTILE: n, "algorithm": HOSTILE, "reward": 0.5} for n in range(3)]
    config = "# <script>alert(4)</script>\nalpha: '<script>alert(5)</script>'\n"
    config += "<b>: '</code><iframe src=x>'\nc: {2026-01-01: <i>}\n"
    summary = {HOSTILE: HOSTILE, "kl": {HOSTILE: 1.0}, "likeliest": {"<script>": "<script>"}}
    return make(folder, config=config, metrics=lines(metrics), said=lines(said), summary=summary)


def test_nothing_that_a_run_says_becomes_markup(tmp_path, tiny):
    folder = hostile_run(tmp_path / "<img src=x onerror=alert(6)>")
    other = make(tmp_path / "plain")
    (folder / "<script>.png").write_bytes(PNG)
    assert tiny.climb("report", folder, other, "--out", tmp_path / "page.html").code == 0
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert not {"script", "iframe", "object", "embed", "form", "base", "a"} & set(page.tags)
    assert page.tags.count("img") == 1 == sum(name == "src" for _, name, _ in page.attributes)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.said.count("<script>alert(1)</script>") >= 5 and "{{ 7 * 7 }}" in page.said and "\x00" not in page.said
    policy = next(value for value in page.values("content", "meta") if "default-src" in value)
    assert policy.startswith("default-src 'none'") and "script" not in policy


def test_the_page_asks_for_nothing_from_elsewhere(tmp_path):
    text = run_report.page(read_runs([make(tmp_path / "run")]), "run")
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<link|srcset", text)
    assert all(name != "href" for _, name, _ in Page(text).attributes)


# Where runs are found, where the page goes


def test_runs_are_found_by_name_folder_and_sweep_each_once(tmp_path):
    runs = tmp_path / "runs"
    one, two, ten = (make(runs / "kl" / f"alpha={value}") for value in (1, 2, 10))
    alone = make(runs / "reinforce")
    assert find_runs(["kl", str(runs / "kl"), "kl/alpha=2", "reinforce"], runs) == [one, two, ten, alone]
    assert find_runs([str(runs)], None) == [one, two, ten, alone]
    assert [run.name for run in read_runs([one, alone])] == ["kl/alpha=1", "reinforce"]
    assert sorted(["b", "a10", "a9", "a0.05", "a1e-05"], key=natural) == ["a1e-05", "a0.05", "a9", "a10", "b"]


def test_a_checkpoints_folder_is_no_run(tmp_path):
    run = make(tmp_path / "reinforce")
    make(run / "checkpoint")
    make(run / ".hidden")
    assert find_runs([str(run)], None) == [run]


def test_a_run_by_its_name_in_the_course(tiny):
    make(tiny.root / "runs" / "ppo")
    assert tiny.climb("report", "ppo").code == 0 and (tiny.root / "runs/ppo/report.html").is_file()


def test_the_page_goes_where_it_is_told_or_beside_its_runs(tmp_path, tiny):
    one, two = make(tmp_path / "runs/one", 0.1), make(tmp_path / "runs/two", 0.2)
    assert tiny.climb("report", one, two).code == 0 and (tmp_path / "runs/report.html").is_file()
    assert tiny.climb("report", one, "--out", tmp_path / "new/page.html").code == 0
    assert "one" in (tmp_path / "new/page.html").read_text()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]
    assert tiny.climb("report", two, "--out", tmp_path / "new/page.html").code == 0  # a report is written over
    (tmp_path / "notes.html").write_text("<p>mine</p>")
    tiny.climb("report", one, "--out", tmp_path / "notes.html").refused("notes.html is there already", "--out")
    assert (tmp_path / "notes.html").read_text() == "<p>mine</p>"
    tiny.climb("report", one, "--out", tmp_path / "new").refused("is a folder; name a file")
    tiny.climb("report", one, "--out", tmp_path / "notes.html" / "x.html").refused("notes.html")


def test_the_same_runs_make_the_same_page(tmp_path):
    folder = make(tmp_path / "run")
    assert run_report.page(read_runs([folder]), "run") == run_report.page(read_runs([folder]), "run")


def test_help_says_what_it_takes(tiny):
    done = tiny.climb("report", "--help")
    assert done.code == 0 and "RUN" in done.out.split("\n")[0] and "--out FILE" in done.out


# Bad input: one line, exit code 2


def test_no_such_run(tiny):
    tiny.climb("report", "nowhere").refused("there is no run `nowhere`", "`climb run` makes one")
    make(tiny.root / "runs" / "ppo")
    tiny.climb("report", "nowhere").refused("runs/ holds ppo")
    tiny.climb("report").refused("RUN")


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("metrics.jsonl", b"step,reward\n1,0.5\n", ["metrics.jsonl, line 1", "one JSON object a line"]),
        ("metrics.jsonl", "{\"step\": 1, \"name\": \"Caf\xe9\"}\n".encode("latin-1"), ["metrics.jsonl, line 1"]),
        ("metrics.jsonl", b"[" * 100_000 + b"\n", ["metrics.jsonl, line 1"]),
        ("samples.jsonl", b"\x80\x81\n", ["samples.jsonl, line 1"]),
        ("summary.json", b'{"reward": ', ["summary.json", "one JSON object"]),
        ("summary.json", b"[1, 2]", ["summary.json", "received a list"]),
        ("summary.json", b'{"x": "\xe9"}', ["summary.json", "UTF-8"]),
        ("config.yaml", b"a: [1\nb: 2\n", ["config.yaml, line 2", "field: value"]),
        ("config.yaml", b"just words\n", ["config.yaml", "received a str"]),
        ("config.yaml", b"a: !!python/object/apply:os.system ['true']\n", ["config.yaml, line 1"]),
        ("config.yaml", b"a: &x [1, 1]\nb: [*x, *x]\n", ["config.yaml", "aliases"]),
        ("config.yaml", b"a: " + b"[" * 50_000, ["config.yaml"]),
        ("config.yaml", b"a: " + b"9" * 10_000, ["config.yaml"]),
        ("config.yaml", b"#" * (2**20 + 1), ["config.yaml", "at most 1 MB"]),
    ],
)  # fmt: skip
def test_files_of_the_wrong_kind(tmp_path, tiny, name, content, words):
    folder = make(tmp_path / "run")
    (folder / name).write_bytes(content)
    tiny.climb("report", folder).refused(*words)


def test_folders_without_metrics(tmp_path, tiny):
    (tmp_path / "empty").mkdir()
    tiny.climb("report", tmp_path / "empty").refused("expected a run's folder with metrics.jsonl")
    folder = make(tmp_path / "begun", metrics="", said="", ended=False)
    tiny.climb("report", folder).refused("has written no metrics yet")
    (folder / "metrics.jsonl").unlink()
    (folder / "samples.jsonl").unlink()
    tiny.climb("report", folder).refused("has written no metrics yet")
    tiny.climb("report", folder / "config.yaml").refused("is a file; name the run's folder")


def test_a_problem_names_its_file():
    with pytest.raises(RunProblem, match="there is no run `x`"):
        find_runs(["x"], None)
    assert without_seed(Run("a", "a")) != without_seed(Run("b", "b"))  # runs without a configuration are not the same run


# Size and speed


def test_ten_runs_of_a_thousand_steps_are_a_page_that_can_be_sent(tmp_path):
    folders = [make(tmp_path / f"alpha={n}", 0.1 * n, steps=1000) for n in range(1, 11)]
    started = time.process_time()
    text = run_report.page(read_runs(folders), "ten")
    assert len(text.encode()) < 2 * 2**20 and time.process_time() - started < 20  # about 1 s and 0.7 MB where it was written


# In a browser


def browser():
    return next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


@pytest.mark.skipif(browser() is None, reason="no chromium here (apt-get install chromium): no page was opened")
@pytest.mark.parametrize("kind", ["sweep", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("one", "hostile"))])
def test_the_page_renders_in_chromium_and_logs_nothing(tmp_path, kind):
    runs = {
        "one": lambda: [make(tmp_path / "run")],
        "sweep": lambda: [make(tmp_path / f"alpha={value}", value) for value in (0.0, 0.01, 1.0)],
        "hostile": lambda: [hostile_run(tmp_path / "bad"), make(tmp_path / "good")],
    }[kind]()
    (runs[0] / "run.png").write_bytes(PNG)
    file = tmp_path / "page.html"
    file.write_text(run_report.page(read_runs(runs), "A page"), encoding="utf-8")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    words = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", *quiet]
    words += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", file.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "CONSOLE" not in done.stderr, done.stderr[-2000:]
    page = Page(done.stdout)
    assert "script" not in page.tags and page.tags.count("svg") >= 4 and "Configuration" in page.said
    assert all(path.startswith("M") or not path for path in page.values("d", "path"))
