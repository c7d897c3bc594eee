"""`climb report` as a page: one HTML file that needs nothing beside it. What runs say is shown as text, never as markup."""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from autograder.reports import run_report_curves as curves
from autograder.reports import run_report_samples as samples
from autograder.reports.run_report_charts import Line, chart, figure, key, spread_of
from autograder.reports.run_report_data import Run, differing, number_like
from autograder.reports.run_report_gold import gold_of
from autograder.reports.run_report_sweep import sweep_of

MARK = '<meta name="generator" content="climb report">'  # by which a report is known, to be written over
MOST_FAINT = 3  # curves in one picture whose every step is drawn: with more, only the moving means can be told apart
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # halves of pairs too: they have no UTF-8
LONGEST = 300  # characters of a value of the configuration, or of a text among the final figures
MOST_IN_ONE = 12  # figures under one name of a summary: {"tv": {"PPO": ...}}
LARGEST_PICTURE = 3 * 2**20  # bytes, of a PNG that the run made itself
MOST_PICTURES = 12

FINALS = {  # name: (what a person calls it, unit); the order is that of the report, each with what it was before training
    "reward": ("Reward", ""),
    "regime": ("Regime", ""),
    "gold_reward": ("Gold reward", ""),
    "gold_peak": ("Gold reward at its peak", "chosen on half of the prompts, told on the other half"),
    "gold_by_kl": ("Gold reward, stopped by KL", "told on the same half"),
    "gold_by_gold": ("Gold reward, stopped by gold", "chosen on one half, told on the other"),
    "completeness": ("Completeness", "share of what was asked"),
    "relevance": ("Relevance", "share of sentences"),
    "factuality": ("Factuality", "share of claims"),
    "rougeL": ("ROUGE-L", "F measure"),
    "accuracy": ("Accuracy", "share"),
    "greedy_accuracy": ("Accuracy of greedy answers", "share"),
    "worked": ("Answers that show the working", "share"),
    "accuracy_worked": ("Accuracy with the working shown", "share"),
    "accuracy_plain": ("Accuracy without it", "share"),
    "log_loss": ("Log loss on pairs", "nats; ln 2 = 0.693 is chance"),
    "kl": ("KL to the reference", "nats a completion"),
    "naturalness": ("Naturalness", "nats a token"),
    "reference_naturalness": ("Naturalness of the reference", "nats a token"),
    "reference_log_likelihood": ("Log-likelihood under the reference", "nats a token"),
    "objective": ("Objective", ""),
    "best_objective": ("Best objective", ""),
    "tv": ("Total variation to the optimum", ""),
    "chosen_log_prob": ("Log-probability of chosen answers", "nats"),
    "rejected_log_prob": ("Log-probability of rejected answers", "nats"),
    "margin": ("Margin", "reward units"),
    "pair_accuracy": ("Pairs in the right order", "share"),
    "test_loss": ("Loss on test pairs", ""),
    "completion_length": ("Completion length", "tokens"),
    "eos_rate": ("Share that ends (EOS)", ""),
    "distinct_1": ("Distinct tokens", "share of all"),
    "distinct_2": ("Distinct pairs of tokens", "share of all"),
    "length": ("Length", "tokens"),
    "ended": ("Share that ends (EOS)", ""),
    "repetition": ("Repetition", "share of word pairs said before"),
    "kl_coef": ("Price of KL at the end", "reward units a nat"),
    "accuracy_by_length": ("Accuracy of preferring the longer", "share of pairs"),
    "calibration_error": ("Calibration error", ""),
    "spread": ("Spread of the scores", "standard deviation"),
    "validation_loss": ("Log loss on validation pairs", "the lowest"),
}
NOT_FIGURES = ("notes", "sweep", "knob", "calibration", "methods")
LAST = {
    "steps": ("Steps", ""),
    "texts": ("Texts", ""),
    "seconds": ("Time", ""),
    "seconds_of": ("Time", "seconds"),
    "peak_memory_mb": ("Peak memory", "MB"),
    "peak_device_memory_mb": ("Peak memory of the accelerator", "MB"),
    "split": ("Measured on split", ""),
    "device": ("Device", ""),
    "processes": ("Processes", ""),
    "threads": ("Threads", ""),
}
TILES = ("reward", "reward_after", "accuracy_after", "kl", "gold_reward", "naturalness", "objective")
TILES += ("completeness", "relevance", "factuality", "rougeL", "accuracy", "log_loss")


@dataclass
class Cell:
    """One final figure of one run."""

    text: str
    interval: str = ""


def page(runs: list[Run], title: str) -> str:
    """The report of these runs."""
    together = curves.groups(runs)
    tones = {number: tone for tone, group in enumerate(together) for number in group}
    names = [run.name for run in runs]
    prompts, hidden = samples.prompts_of(runs)
    text = _template().render(
        mark=Markup(MARK),
        title=title,
        runs=runs,
        names=names,
        alone=len(runs) == 1,
        tiles=tiles(runs[0]) if len(runs) == 1 else [],
        legend=legend(runs, together),
        key=key,
        tones=tones,
        finals=finals(runs),
        sweep=sweep_of(runs, tones),
        gold=gold_of(runs),
        panels=panels(runs, tones),
        most_faint=MOST_FAINT,
        smoothed=any(curve.smooth is not None for measure in curves.measures(runs) for curve in measure.curves),
        averages=samples.averages_of(runs),
        average_columns=[label for _, label in samples.columns_of(runs)],
        prompts=prompts,
        hidden=hidden,
        scale=samples.LEGEND,
        rated=any(token.ratio for prompt in prompts for entry in prompt.entries for token in entry.tokens),
        settings=settings(runs),
        pictures=pictures(runs),
    )
    return UNPRINTABLE.sub("\ufffd", text)


@lru_cache(maxsize=1)
def _template():
    import jinja2

    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return jinja2.Environment(loader=folder, **options).get_template("run_report.html.j2")


def legend(runs: list[Run], together: list[list[int]]) -> list[tuple[int, str]]:
    """(tone, name) of each group of runs that differ in their seed alone."""
    if len(runs) == 1:
        return []
    return [(tone, group_name([runs[number] for number in group])) for tone, group in enumerate(together)]


def group_name(group: list[Run]) -> str:
    if len(group) == 1:
        return group[0].name
    shared = re.sub(r"[-_,/ ]*(seed[-_=]?)?$", "", os.path.commonprefix([run.name for run in group]))
    return f"{shared or ', '.join(run.name for run in group[:4])} ({len(group)} seeds)"


def panels(runs: list[Run], tones: dict[int, int]) -> list[dict[str, Any]]:
    """The curves: a picture for each measure, all runs in it. Chosen and rejected answers' figures share their axis."""
    found = curves.measures(runs)
    shared = _shared_ranges(found)
    tones_by_part = {name: n for n, name in enumerate(dict.fromkeys(c.name for m in found for c in m.curves))}
    made = []
    for measure in found:
        lines = [_line(curve, runs, tones, tones_by_part) for curve in measure.curves]
        if max(len(line.x) for line in lines) < curves.FEWEST_TO_SMOOTH:
            lines = [replace(line, dots=True) for line in lines]
        if len(lines) > MOST_FAINT:
            lines = [replace(line, faint=None) for line in lines]
        picture = chart(lines, measure.title, x_label="step", y_log=measure.log, y_range=shared.get(measure.name))
        parts = [(line.tone, curve.name) for line, curve in zip(lines, measure.curves) if curve.name and len(runs) == 1]
        made.append({"title": measure.title, "unit": measure.unit, "log": measure.log, "svg": picture, "parts": parts})
    return made


def _line(curve: curves.Curve, runs: list[Run], tones: dict[int, int], parts: dict[str, int]) -> Line:
    names = [part for part in (runs[curve.run].name if len(runs) > 1 else "", curve.name) if part]
    tone = tones[curve.run] if len(runs) > 1 else parts[curve.name]
    smooth = curve.smooth
    line = Line(tone, ", ".join(names), curve.steps, curve.values if smooth is None else smooth)
    line.faint = curve.values if smooth is not None else None
    line.low, line.high = curve.low, curve.high
    return line


def _shared_ranges(found: list[curves.Measure]) -> dict[str, tuple[float, float]]:
    by_rest: dict[str, list[curves.Measure]] = {}
    for measure in found:
        words = measure.name.split("_")
        if {"chosen", "rejected"} & set(words):
            by_rest.setdefault("_".join(word for word in words if word not in ("chosen", "rejected")), []).append(measure)
    pairs = [pair for pair in by_rest.values() if len(pair) == 2 and not any(measure.log for measure in pair)]
    return {m.name: spread_of([c.values for other in pair for c in other.curves], log=False) for pair in pairs for m in pair}


def cell_of(name: str, value: Any) -> Cell:
    """A final figure as text; one with an interval as its mean and the interval."""
    if isinstance(value, dict) and number_like(value.get("mean")):
        ends = [value.get("low"), value.get("high")]
        interval = f"{figure(ends[0])} to {figure(ends[1])}" if all(map(number_like, ends)) else ""
        return Cell(figure(value["mean"]), interval)
    if number_like(value):
        return Cell(duration(value) if name == "seconds" else figure(value))
    return Cell(text_of(value))


def duration(seconds: float) -> str:
    whole = round(seconds)
    if seconds < 60:
        return f"{figure(seconds, 3)} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def text_of(value: Any) -> str:
    """A value as a person writes it in a configuration, cut when it is long."""
    if value is None or isinstance(value, bool):
        text = {None: "none", True: "true", False: "false"}[value]
    elif isinstance(value, float):
        text = f"{value:g}" if float(f"{value:g}") == value else repr(value)
    else:
        try:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        except (TypeError, ValueError):  # keys that JSON does not know
            text = repr(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."


def flat(summary: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """{(name, part): figure} of a summary; figures that stand under one name, as the distances of several algorithms, by part."""
    found: dict[tuple[str, str], Any] = {}
    for name, value in summary.items():
        if name in NOT_FIGURES:
            continue
        if isinstance(value, dict) and not number_like(value.get("mean")):
            for part, inner in list(value.items())[:MOST_IN_ONE]:
                found[str(name), str(part)] = inner
        else:
            found[str(name), ""] = value
    return found


def named(name: str) -> tuple[str, str, str]:
    """(the measure, "before", "after" or "", what a person calls it) of a final figure."""
    base = next((name.removesuffix(end) for end in ("_before", "_after") if name.endswith(end)), name)
    when = name[len(base) + 1 :]
    label = (FINALS | LAST)[base][0] if base in FINALS or base in LAST else curves.title_of(base)
    return base, when, f"{label} {when}".strip()


def finals(runs: list[Run]) -> list[dict[str, Any]]:
    """The table of final figures: a row for each name that some run has, a cell for each run."""
    figures = [flat(run.final) for run in runs]
    found = dict.fromkeys(name for table in figures for name, value in table.items() if value is not None)
    others = dict.fromkeys(base for base, _, _ in (named(name) for name, _ in found) if base not in FINALS and base not in LAST)
    apart = [base for base in others if base.startswith(curves.APART)]
    first, *rest = FINALS
    order, rows = [first, *apart, *rest, *(base for base in others if base not in apart), *LAST], []

    def place(pair: tuple[str, str]) -> tuple[int, int]:
        base, when, _ = named(pair[0])
        return order.index(base), ("before", "", "after").index(when)

    for name, part in sorted(found, key=place):
        base, _, label = named(name)
        unit = (FINALS | LAST).get(base, ("", ""))[1]
        cells = [cell_of(name, table[name, part]) if table.get((name, part)) is not None else Cell("–") for table in figures]
        rows.append({"label": f"{label}: {part}" if part else label, "unit": unit, "cells": cells})
    return rows


def tiles(run: Run) -> list[dict[str, Any]]:
    """The few figures that stand large at the top of a single run's report."""
    shown = []
    for name in TILES:
        several = isinstance(run.final.get(name), dict) and "mean" not in run.final[name]  # of several methods: a table's matter
        if run.final.get(name) is not None and not several:
            base = named(name)[0]
            before = run.final.get(f"{base}_before") if (name, base) != ("reward", "reward") else None
            was = cell_of(base, before).text if before is not None else ""
            label, unit = FINALS[base]
            shown.append({"label": label, "unit": unit, "cell": cell_of(name, run.final[name]), "before": was})
    return shown


def settings(runs: list[Run]) -> list[dict[str, Any]]:
    """The configuration: each field with its sentence and its value in each run; where runs differ is marked, and comes first."""
    names = list(dict.fromkeys(name for run in runs for name in run.config))
    different = [name for name in names if name in differing(runs)]
    rows = []
    for name in [*different, *(name for name in names if name not in different)]:
        sentence = next((run.sentences[name] for run in runs if name in run.sentences), "")
        values = [text_of(run.config[name]) if name in run.config else "–" for run in runs]
        rows.append({"name": name, "sentence": sentence, "values": values, "differs": len(set(values)) > 1})
    return rows


def pictures(runs: list[Run]) -> list[dict[str, str]]:
    """The PNGs that the runs drew themselves, as data within the page."""
    found = []
    for run in runs:
        for place in run.pictures:
            if len(found) < MOST_PICTURES and place.stat().st_size <= LARGEST_PICTURE:
                data = place.read_bytes()
                if data.startswith(b"\x89PNG\r\n\x1a\n"):
                    name = place.name if len(runs) == 1 else f"{run.name}/{place.name}"
                    found.append({"name": name, "source": "data:image/png;base64," + base64.b64encode(data).decode()})
    return found
