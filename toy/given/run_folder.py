"""The folder of a run: what was asked (config.yaml), what happened (metrics.jsonl), what came of it (summary.json), pictures."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Iterator

import torch
import yaml


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for the block: tensors of some hundred numbers are slower on two, and far slower if the other core is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class RunFolder:
    """Writes a run down as it goes. Metrics are appended line by line, so a run that is killed loses at most one line."""

    def __init__(self, path: Path):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def write_config(self, config: Any) -> None:
        """A configuration dataclass as YAML, each field under its sentence."""
        lines = []
        for field in dataclasses.fields(config):
            lines.append(f"# {field.metadata.get('help', '')}".rstrip())
            lines.append(yaml.safe_dump({field.name: getattr(config, field.name)}, default_flow_style=False).strip())
        (self.path / "config.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def read_config(self) -> dict[str, Any]:
        path = self.path / "config.yaml"
        return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def add_metrics(self, rows: list[dict[str, Any]]) -> None:
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))

    def metrics(self) -> list[dict[str, Any]]:
        """The whole lines of metrics.jsonl; a last one cut short is dropped."""
        path, rows = self.path / "metrics.jsonl", []
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def keep_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Replaces metrics.jsonl by these rows at once: what a resumed run builds on."""
        beside = self.path / ".metrics.jsonl"
        beside.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        os.replace(beside, self.path / "metrics.jsonl")

    def write_summary(self, summary: dict[str, Any]) -> None:
        beside = self.path / ".summary.json"
        beside.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        os.replace(beside, self.path / "summary.json")
