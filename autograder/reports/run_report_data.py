"""The folders of runs, read for a report: what is there is taken, what is half-written or odd is noted, nothing is trusted."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterator

CONFIG, METRICS, SAMPLES, SUMMARY = "config.yaml", "metrics.jsonl", "samples.jsonl", "summary.json"
RESULTS = (METRICS, SAMPLES, SUMMARY)
FORMAT = "one JSON object a line, as `climb run` writes it"
BIGGEST = 1e100  # a number that can be drawn: larger ones are somebody's overflow, and their differences would be ours
DEEPEST = 3  # folders below the one named: runs/ holds sweeps, a sweep holds runs
LARGEST = {CONFIG: 2**20, SUMMARY: 2**24}  # bytes; both are written for people to read
MOST_NESTED = 20  # lists within lists in a configuration; PyYAML's time grows with the square
SEED_FIELDS = ("seed",)
MOST_CURVES = 12  # of one run in one picture; a text of more values is no name of a curve
NOT_SETTINGS = ("out", "folder", "resume")  # where a run lies is no difference between runs


class RunProblem(ValueError):
    """A folder that cannot be reported: one line that says what was expected, what came and what to do."""


@dataclass
class Run:
    """One run's folder. `summary` is None while a run has not ended; `notes` says what was left out and why."""

    name: str
    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    sentences: dict[str, str] = field(default_factory=dict)  # of each field of the configuration
    rows: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] | None = None
    pictures: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def final(self) -> dict[str, Any]:
        return self.summary or {}


def find_runs(words: list[str], runs: Path | None) -> list[Path]:
    """The folders that the words name, sweeps taken apart, each once. `runs`: where runs lie that are named without a path."""
    found: list[Path] = []
    for word in words:
        for place in _runs_in(_folder(word, runs), DEEPEST):
            if place.resolve() not in [other.resolve() for other in found]:
                found.append(place)
    return found


def _folder(word: str, runs: Path | None) -> Path:
    place = Path(word)
    if place.is_dir():
        return place
    if runs is not None and not place.exists() and (runs / word).is_dir():
        return runs / word
    if place.exists():
        raise RunProblem(f"{word} is a file; name the run's folder")
    places = list(runs.iterdir()) if runs is not None and runs.is_dir() else []
    known = sorted((p.name for p in places if p.is_dir() and ((p / CONFIG).is_file() or list(_below(p, DEEPEST)))), key=natural)
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    raise RunProblem(f"there is no run `{word}`: " + (f"runs/ holds {shown}" if known else "`climb run` makes one under runs/"))


def _runs_in(folder: Path, depth: int) -> list[Path]:
    """The runs below a folder in the order of their names' numbers; itself, if it has metrics of its own or none lies below."""
    if (folder / METRICS).is_file():  # a run that keeps its parts in folders: name one of them to look into it
        return [folder]
    inner = list(_below(folder, depth))
    if inner or any((folder / name).is_file() for name in RESULTS):
        return inner or [folder]
    if (folder / CONFIG).is_file():
        raise RunProblem(f"{folder}: the run has written no metrics yet; look again when its first step is done")
    raise RunProblem(f"{folder}: expected a run's folder with {METRICS}; it holds none, and no folder in it does")


def _below(folder: Path, depth: int) -> Iterator[Path]:
    for place in sorted(folder.iterdir(), key=lambda place: natural(place.name)) if depth else []:
        if place.is_dir() and not place.name.startswith((".", "checkpoint")):
            inner = [] if (place / METRICS).is_file() else list(_below(place, depth - 1))
            yield from inner or ([place] if any((place / name).is_file() for name in RESULTS) else [])


def natural(name: str) -> list[Any]:
    """The order of people: alpha=0.05 before alpha=1, run-2 before run-10."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[-+]?\d{1,2})?)", name)  # at odd places the numbers
    return [(0, float(part), "") if n % 2 else (1, 0.0, part) for n, part in enumerate(parts)]


def read_runs(paths: list[Path]) -> list[Run]:
    """Reads the folders. A run's name is its path below what the folders have in common."""
    whole = [path.resolve() for path in paths]
    common = os.path.commonpath([path.parent for path in whole])
    return [read_run(path, os.path.relpath(full, common).replace(os.sep, "/")) for path, full in zip(paths, whole)]


def read_run(path: Path, name: str) -> Run:
    run = Run(name, path)
    run.config, run.sentences = _config(path / CONFIG)
    rows = _lines(path / METRICS, run.notes)
    for number, row in enumerate(rows, start=1):
        step = row.get("step")
        row["step"] = float(step) if number_like(step) else float(number)
    run.rows = _last_of_each_step(rows)
    run.notes += _not_finite(run.rows)
    run.samples = [row for row in _lines(path / SAMPLES, run.notes) if isinstance(row.get("completion"), str)]
    run.summary = _summary(path / SUMMARY)
    if not run.rows and not run.samples and not run.summary:
        raise RunProblem(f"{path}: the run has written no metrics yet; look again when its first step is done")
    if run.summary is None:
        run.notes.append(f"has not ended, or was stopped: there is no {SUMMARY} yet")
    else:
        run.notes += [str(note) for note in run.summary["notes"]] if isinstance(run.summary.get("notes"), list) else []
        run.summary |= _regime(path.parent / SUMMARY, run.config)
    run.pictures = sorted(place for place in path.glob("*.png") if place.is_file())
    return run


def number_like(value: Any) -> bool:
    """A number that can be drawn: no bool, no NaN, no infinity."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= BIGGEST


def _lines(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines. Lines that are none are counted in the notes; a file of nothing else is refused."""
    rows: list[dict[str, Any]] = []
    bad: list[int] = []
    number, line = 0, b"\n"
    if not path.is_file():
        return rows
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8")) if line.strip() else None
                if isinstance(row, dict):
                    rows.append(row)
                elif line.strip():
                    bad.append(number)
            except (ValueError, RecursionError):
                bad.append(number)
    if bad == [number] and not line.endswith(b"\n"):
        notes.append(f"the last line of {path.name} is half-written and left out")
    elif bad and not rows:
        raise RunProblem(f"{path}, line {bad[0]}: expected {FORMAT}")
    elif bad:
        lines = f"{len(bad)} line{'s' * (len(bad) > 1)} of {path.name}"
        notes.append(f"{lines} left out, as not JSON objects; the first is line {bad[0]}")
    return rows


def curve_fields(rows: list[dict[str, Any]]) -> list[str]:
    """The fields whose texts tell the curves of one file apart ("algorithm"): those of few different texts."""
    names = dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, str))
    return [name for name in names if len({str(row.get(name)) for row in rows}) <= MOST_CURVES]


def _last_of_each_step(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A step that was done again after an interruption counts once, as it was last; curves in order of their steps."""
    fields = curve_fields(rows)
    kept = {(*(str(row.get(name)) for name in fields), row["step"]): row for row in rows}
    return sorted(kept.values(), key=lambda row: row["step"])


def _not_finite(rows: list[dict[str, Any]]) -> list[str]:
    """What became NaN or infinite, and when first: the pictures have a gap there."""
    first: dict[str, float] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, float) and not math.isfinite(value):
                first.setdefault(name, row["step"])
    return [f"{name} is not a finite number at step {step:g}" for name, step in first.items()]


def _whole(path: Path) -> str | None:
    if not path.is_file():
        return None
    if path.stat().st_size > LARGEST[path.name]:
        raise RunProblem(f"{path}: expected at most {LARGEST[path.name] // 2**20} MB, found {path.stat().st_size / 2**20:.0f} MB")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RunProblem(f"{path}: expected UTF-8 text") from None


def _summary(path: Path) -> dict[str, Any] | None:
    text = _whole(path)
    if text is None:
        return None
    try:
        summary = json.loads(text)
    except (ValueError, RecursionError):
        raise RunProblem(f"{path}: expected one JSON object, the run's final figures by name") from None
    if not isinstance(summary, dict):
        raise RunProblem(f"{path}: expected one JSON object, received a {type(summary).__name__}")
    return summary


def _regime(path: Path, config: dict[str, Any]) -> dict[str, str]:
    """What the sweep that a run belongs to says of it: {"regime": "natural"}, or nothing."""
    sweep = (_summary(path) or {}) if path.is_file() else {}
    knob, rows = sweep.get("knob"), sweep.get("sweep")
    for row in rows if isinstance(rows, list) and isinstance(knob, str) else []:
        if isinstance(row, dict) and isinstance(row.get("regime"), str) and knob in config and row.get(knob) == config[knob]:
            return {"regime": row["regime"]}
    return {}


def _config(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields of a configuration and the sentence above each. Aliases of YAML are refused: they can grow without end."""
    import yaml

    text = _whole(path)
    if text is None:
        return {}, {}
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_NESTED or isinstance(event, yaml.AliasEvent):
                found = "aliases (*name)" if depth <= MOST_NESTED else "lists within lists without end"
                raise RunProblem(f"{path}: expected plain YAML, received {found}")
        config = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, RunProblem):
            raise
        mark = getattr(error, "problem_mark", None)
        raise RunProblem(f"{path}{f', line {mark.line + 1}' if mark else ''}: expected YAML, one `field: value` a line") from None
    if config is None:
        return {}, {}
    if not isinstance(config, dict):
        raise RunProblem(f"{path}: expected YAML with `field: value` a line, received a {type(config).__name__}")
    return {str(name): value for name, value in config.items()}, sentences(text)


def sentences(text: str) -> dict[str, str]:
    """{field: sentence} of a configuration whose comments stand above their fields."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in text.splitlines():
        named = re.match(r"([^\s#:\-][^:]*):(?:\s|$)", line)
        if line.startswith("#"):
            comment.append(line.lstrip("# ").rstrip())
        elif named:
            found[named[1].strip("'\"")] = " ".join(comment)
            comment = []
        elif not line.strip():
            comment = []
    return {name: sentence for name, sentence in found.items() if sentence}


def differing(runs: list[Run]) -> list[str]:
    """The fields in which runs that have them differ, in the order of the configurations."""
    names = dict.fromkeys(name for run in runs for name in run.config if name not in NOT_SETTINGS)
    return [name for name in names if len({repr(run.config[name]) for run in runs if name in run.config}) > 1]


def without_seed(run: Run) -> str:
    """What runs that differ in their seed alone have in common."""
    left = {name: value for name, value in run.config.items() if name not in (*SEED_FIELDS, *NOT_SETTINGS)}
    return repr(sorted(left.items())) if left else repr(run.path)
