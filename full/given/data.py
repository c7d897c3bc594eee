"""Rows of text by name: the built-in worlds, a local file or folder, a data set on the hub; and batches made of them.

    rows = load_rows("reviews", {"text": "text"}, split="test", limit=200)
    rows = load_rows("questions", {"source": "source", "target": "demonstration"}, limit=1000)
    rows = load_rows("posts", {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"})
    rows = load_rows("sums", {"prompt": "prompt", "answer": "answer"}, split="test")
    rows = load_rows("data/mine.jsonl.gz", {"text": "review"})            # the column `review`, called `text` from here on
"""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping

import torch
from torch import Tensor

from . import hub
from .problems import InputProblem
from .text import Pairs, Prompts

BUILTIN = "reviews"
WORLDS = (BUILTIN, "questions", "posts", "sums")
SEEDS = {"train": 1, "test": 2, "validation": 3, "dev": 3}
"Where the built-in world's splits begin: other seeds, other reviews."
WORLD_ROWS = 2000
"How many rows a built-in world gives where no limit is named; of sums, of which there are so many and no more: all of a split."
FORMATS = (".jsonl", ".json", ".csv", ".parquet", ".txt")
ALSO = {"test": ("validation", "valid", "dev"), "validation": ("valid", "dev", "test")}
"Names that a folder may have for a split."


def load_rows(
    source: str, columns: Mapping[str, str], *, split: str = "train", limit: int = 0, tokens: int = 0, field: str = "data"
) -> list[dict[str, Any]]:
    """Rows as dictionaries of the names in `columns`, which says what each is called at the source.

    source: "reviews", "questions", "posts" or "sums", a .json, .jsonl, .csv, .parquet or .txt file (each may end in .gz as well,
    parquet apart), a folder of them whose names begin with the split, or a hub name. limit: at most so many of the first rows,
    0: all. tokens: of the reviews alone: prompts of so many tokens in place of whole reviews, pairs behind such prompts.
    field: what an error calls the source.  Raises InputProblem.
    """
    if source == BUILTIN:
        return _world_rows(columns, split, limit or WORLD_ROWS, tokens)
    if source in WORLDS:
        rows = world_rows(source, split, limit, pairs="chosen" in columns)
    else:
        rows = list(_raw_rows(source, split, limit, field))
    if not rows:
        raise InputProblem(f"{field}={source}: holds no rows")
    for name, column in columns.items():
        missing = next((row for row in rows if column not in row), None)
        if missing is not None:
            there = ", ".join(map(str, missing)) or "none"
            raise InputProblem(
                f"{field}={source}: there is no column `{column}`; there are {there}. Name the right one by {name}_column=..."
            )
    return [{name: row[column] for name, column in columns.items()} for row in rows]


def texts_of(rows: list[dict[str, Any]], name: str, source: str, field: str = "data") -> list[str]:
    """One column, every entry of it a text that says something. Raises InputProblem with the first row that does not."""
    for number, row in enumerate(rows, 1):
        value = row[name]
        if not isinstance(value, str):
            received = type(value).__name__
            raise InputProblem(f"{field}={source}: row {number}: expected text in `{name}`, received {received}: {value!r:.60}")
        if not value.strip():
            raise InputProblem(f"{field}={source}: row {number}: `{name}` is empty; leave such rows out")
    return [row[name] for row in rows]


def labels_of(rows: list[dict[str, Any]], name: str, source: str, field: str = "data") -> list[int]:
    """One column of labels, 0 negative and 1 positive. Raises InputProblem with the first row that has another."""
    names = {"0": 0, "1": 1, "negative": 0, "positive": 1, "neg": 0, "pos": 1, "false": 0, "true": 1}
    for number, row in enumerate(rows, 1):
        if str(row[name]).strip().lower() not in names:
            expected = "0 or 1 (or negative, positive)"
            raise InputProblem(f"{field}={source}: row {number}: expected {expected} in `{name}`, received {row[name]!r:.60}")
    return [names[str(row[name]).strip().lower()] for row in rows]


@dataclass(frozen=True)
class Beginnings:
    """Prompts as token ids, each a text's first tokens, and what was left out on the way."""

    tokens: list[list[int]]
    dropped: int
    "Texts that were shorter than a prompt."

    def __len__(self) -> int:
        return len(self.tokens)


def beginnings(tokenizer: Any, texts: list[str], tokens: int, source: str, field: str = "data") -> Beginnings:
    """The first `tokens` tokens of every text that has so many. Raises InputProblem where none has."""
    encoded = encode(tokenizer, [text[: 40 * tokens + 200] for text in texts])  # a token is hardly ever longer than 40 letters
    kept = [row[:tokens] for row in encoded if len(row) >= tokens]
    if not kept:
        longest = max(map(len, encoded))
        raise InputProblem(
            f"{field}={source}: no text has the {tokens} tokens of a prompt (the longest has {longest}); lower prompt_tokens"
        )
    return Beginnings(kept, len(texts) - len(kept))


@dataclass(frozen=True)
class Preferences:
    """Pairs as token ids: prompt, chosen and rejected completion of each; and the reference's log-probabilities once known."""

    prompts: list[list[int]]
    chosen: list[list[int]]
    rejected: list[list[int]]
    dropped: int
    "Pairs whose prompt left no room for a completion."
    cut: int
    "Completions that were too long, and lost their end."

    def __len__(self) -> int:
        return len(self.prompts)


def preferences(tokenizer: Any, rows: list[dict[str, Any]], max_length: int, source: str, field: str = "data") -> Preferences:
    """Pairs out of rows with `prompt`, `chosen` and `rejected`: a completion ends with EOS, unless `max_length` cuts it.

    max_length: tokens of a prompt with its completion, at most. Raises InputProblem where nothing is left.
    """
    ids = {name: encode(tokenizer, texts_of(rows, name, source, field)) for name in ("prompt", "chosen", "rejected")}
    prompts, chosen, rejected, dropped, cut = [], [], [], 0, 0
    for prompt, good, bad in zip(ids["prompt"], ids["chosen"], ids["rejected"]):
        room = max_length - len(prompt)
        if room < 1 or not prompt:
            dropped += 1
            continue
        good, bad = good + [tokenizer.eos_token_id], bad + [tokenizer.eos_token_id]
        cut += (len(good) > room) + (len(bad) > room)
        prompts.append(prompt)
        chosen.append(good[:room])
        rejected.append(bad[:room])
    if not prompts:
        raise InputProblem(f"{field}={source}: no prompt leaves room for a completion within max_length={max_length}; raise it")
    return Preferences(prompts, chosen, rejected, dropped, cut)


def encode(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Token ids of each text and nothing else: no EOS, no padding, no warning of texts that are long."""
    if not texts:
        return []
    return tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]


def prompts_of(tokens: list[list[int]], pad_token_id: int, rows: Tensor | None = None, whole: int | None = None) -> Prompts:
    """A batch of prompts padded on the left to the longest. rows, whole: its place in the whole batch, see `Prompts`."""
    longest = max(map(len, tokens))
    ids = torch.full((len(tokens), longest), pad_token_id)
    attention = torch.zeros_like(ids)
    for row, prompt in enumerate(tokens):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        attention[row, longest - len(prompt) :] = 1
    return Prompts(ids, attention, rows, whole)


def pairs_of(
    found: Preferences, index: list[int], pad_token_id: int, reference: Tensor | None = None, longest: int = 0
) -> Pairs:
    """A batch of the pairs at these places, chosen rows first, padded on the right. reference: (pairs, 2) log-probabilities."""
    texts = [found.prompts[i] + found.chosen[i] for i in index] + [found.prompts[i] + found.rejected[i] for i in index]
    longest = max(longest, *map(len, texts))
    ids = torch.full((len(texts), longest), pad_token_id)
    attention = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
        attention[row, : len(text)] = 1
    lengths = torch.tensor([len(found.prompts[i]) for i in index] * 2)
    return Pairs(ids, attention, lengths, None if reference is None else reference[index].T.flatten())


# The sources.


@lru_cache(maxsize=1)
def the_world() -> Any:
    """The built-in world, compiled once."""
    from .reviews import world

    return world()


def _world_rows(columns: Mapping[str, str], split: str, count: int, tokens: int) -> list[dict[str, Any]]:
    seed = SEEDS.get(split.split("[")[0], 1)
    if "chosen" in columns:
        names = {"prompt": "prompt", "chosen": "positive_completion", "rejected": "negative_completion"}
        return [{ours: row[theirs] for ours, theirs in names.items()} for row in the_world().pairs(count, tokens, seed)]
    if tokens and set(columns) == {"text"}:
        return [{"text": text} for text in the_world().prompts(count, tokens, seed)]
    return [{name: row[name] for name in columns} for row in the_world().rows(count, seed)]


def world_rows(source: str, split: str, count: int, *, pairs: bool = False) -> list[dict[str, Any]]:
    """Rows of "questions" (see QuestionWorld.rows), "sums" or "posts": these with their summaries, or with `pairs` comparisons.

    count: 0: WORLD_ROWS.
    """
    seed = SEEDS.get(split.split("[")[0], 1)
    if source == "sums":
        from .sums import world

        rows = world().rows({1: "train", 2: "test", 3: "validation"}[seed])
        return rows[: count or None]
    count = count or WORLD_ROWS
    if source == "questions":
        from .questions import world

        return world().rows(count, seed)
    from .posts import world

    return world().comparisons(count, seed) if pairs else world().rows(count, seed)


def _raw_rows(source: str, split: str, limit: int, field: str) -> Iterator[dict[str, Any]]:
    path = Path(source).expanduser()
    if path.is_file():
        yield from _first(_read(path, field), limit)
    elif path.is_dir():
        rows = (row for place in _files(path, split, field) for row in _read(place, field))
        yield from _first(rows, limit)
    elif not source or source.startswith((".", "/", "~")) or source.count("/") > 1 or source.endswith((*FORMATS, ".gz")):
        raise InputProblem(f"{field}={source}: there is no such file or folder")
    else:
        yield from _hub(source, split, limit, field)


def _first(rows: Iterable[dict[str, Any]], limit: int) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        if limit and number == limit:
            return
        yield row


def _files(folder: Path, split: str, field: str) -> list[Path]:
    """The files of a split: by name train.jsonl.gz, train-00000-of-00002.parquet, train/...; or the only file there is."""
    there = sorted(place for place in folder.rglob("*") if place.is_file() and _format(place))
    for name in (split, *ALSO.get(split, ())):
        named = [place for place in there if place.relative_to(folder).parts[0].split(".")[0].split("-")[0] == name]
        if named:
            return named
    if len(there) == 1:
        return there
    if not there:
        raise InputProblem(f"{field}={folder}: holds no {', '.join(FORMATS)} file")
    names = ", ".join(str(place.relative_to(folder)) for place in there[:8])
    raise InputProblem(f"{field}={folder}: no file is named after the split `{split}`; there are {names}. Name a file or a split")


def _format(path: Path) -> str:
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    return suffix.lower() if suffix.lower() in FORMATS else ""


def _read(path: Path, field: str) -> Iterator[dict[str, Any]]:
    kind = _format(path)
    if not kind:
        raise InputProblem(f"{field}={path}: expected a {', '.join(FORMATS)} file (.gz as well), received `{path.name}`")
    try:
        if kind == ".parquet":
            import pyarrow.parquet

            yield from pyarrow.parquet.read_table(path).to_pylist()
            return
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield from _READERS[kind](file)
    except (OSError, EOFError, UnicodeDecodeError, ValueError, csv.Error) as error:  # pyarrow's errors are ValueErrors
        if isinstance(error, InputProblem):
            raise InputProblem(f"{field}={path}: {error}") from None
        reason = " ".join(str(error).split())[:160]
        raise InputProblem(f"{field}={path}: is not the {kind} file that its name says: {reason}") from None


def _jsonl(file: Any) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputProblem(f"line {number} is not JSON: {error.msg}") from None
            yield _row(row, f"line {number}")


def _json(file: Any) -> Iterator[dict[str, Any]]:
    content = json.load(file)
    if isinstance(content, dict):  # {"data": [...]}: the one list in it
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else content
    if not isinstance(content, list):
        raise InputProblem(f"expected a list of rows, received {type(content).__name__}")
    for number, row in enumerate(content, 1):
        yield _row(row, f"entry {number}")


def _csv(file: Any) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(1 << 24)
    reader = csv.DictReader(file)
    for row in reader:
        if None in row or None in row.values():
            raise InputProblem(f"line {reader.line_num} has another number of columns than the first line")
        yield row


def _txt(file: Any) -> Iterator[dict[str, Any]]:
    for line in file:
        if line.strip():
            yield {"text": line.rstrip("\r\n")}


def _row(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputProblem(f"{where}: expected an object with named columns, received {type(row).__name__}")
    return row


_READERS = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".txt": _txt}


def _hub(source: str, split: str, limit: int, field: str) -> Iterator[dict[str, Any]]:
    import datasets

    datasets.disable_progress_bars()
    name, _, part = source.partition(":")  # "openai/summarize_from_feedback:comparisons"
    try:
        with hub.asked():
            rows = datasets.load_dataset(name, part or None, split=split)
    except Exception as error:  # the library raises many kinds, of its own and of others
        if isinstance(error, ValueError) and "split" in str(error):
            raise InputProblem(f"{field}={source}: {' '.join(str(error).split())[:160]}") from None
        raise InputProblem(
            f"{field}={source}: neither built-in ({', '.join(WORLDS)}) nor a file or folder here, and the hub did not give it (no"
            f" network, or no such name). Download it elsewhere and give its file or folder: {field}=/path/to/it"
        ) from None
    yield from _first(rows, limit)
