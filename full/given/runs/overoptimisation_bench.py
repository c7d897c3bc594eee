"""What the methods of `climb run overoptimisation` share: where they begin, who judges, and what was measured so far."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from torch import nn

from full.given import data, models
from full.given.problems import InputProblem
from toy.given.run_folder import RunFolder

from . import common, processes
from .overoptimisation_measures import TwoJudges


@dataclass
class Bench:
    """All that is laid out before the first method."""

    config: Any
    lessons: SimpleNamespace
    folder: RunFolder
    progress: common.Progress
    resume: bool
    accelerator: Any
    reference: nn.Module
    judge: TwoJudges
    prompts: list[list[int]]
    points: list[dict[str, Any]]
    "The rows of metrics.jsonl: every measurement there is."
    notes: list[str]

    def of(self, method: str) -> list[dict[str, Any]]:
        return [row for row in self.points if row["method"] == method]

    def add(self, row: dict[str, Any]) -> None:
        self.points.append(row)
        self.folder.add_metrics([row])

    def keep(self, method: str, step: int) -> None:
        """Forgets what was measured of a method after a step that it goes on from."""
        self.points = [row for row in self.points if row["method"] != method or row["step"] <= step]
        self.folder.keep_metrics(self.points)


def laid_out(config: Any, lessons: SimpleNamespace, folder: Any, progress: common.Progress, resume: bool) -> Bench:
    """Reference, judges and prompts. Raises InputProblem before anything was written."""
    if processes.several():
        raise InputProblem("overoptimisation: runs in one process; start it by `climb run`, without a launcher")
    notes: list[str] = []
    accelerator = processes.accelerator_for(config, folder)
    reference, tokenizer = models.load_policy(config.model, say=notes.append)
    classifier, its_tokenizer = models.load_classifier(config.classifier, say=notes.append)
    truth = models.load_classifier(config.gold, field="gold", say=notes.append) if config.gold else None
    world = data.the_world() if common.in_the_world(config) else None
    if truth is None and world is None:
        raise InputProblem(f"gold: expected a classifier that stands for the truth, as data={config.data} has no exact one")
    judge = TwoJudges(classifier, its_tokenizer, tokenizer, world, truth)
    prompts = common.test_prompts(config, tokenizer, notes.append)
    for model in (reference, classifier, *([truth[0]] if truth else [])):
        accelerator.prepare_model(model, evaluation_mode=True)
    reference.requires_grad_(False)
    points = folder.metrics() if resume else []
    return Bench(config, lessons, folder, progress, resume, accelerator, reference, judge, prompts, points, notes)
