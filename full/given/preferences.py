"""Preferences between two answers: one kind of row for all the formats they come in, and batches made of them (lesson 12).

    kind, rows = read("exports/project-7.json")                  # whose format it is, and the rows as they stand there
    train, validation = split(preferences, 0.2, seed=0)          # no prompt stands in both
    encoded = encode(tokenizer, decided(train), max_length=512)   # token ids; encoded.cut says how many texts were too long
    for pairs in batches(encoded, 16, tokenizer.pad_token_id): ...
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from toy.given.ppo import require_positive, setting

from . import data
from .loop import Loop
from .problems import InputProblem
from .scoring import single
from .text import Pairs

LEAST_SPREAD = 0.02
"Nats. Scores whose standard deviation is below it give every pair odds of 0.49 to 0.51: what they say is noise."


@dataclass(frozen=True)
class Preference:
    """One judgement: two answers to one prompt, and which of them is better."""

    id: str
    prompt: str
    first: str
    second: str
    label: int
    "1: the first is better, 2: the second is, 0: a tie."

    @property
    def chosen(self) -> str:
        """The better answer; of a tie the first."""
        return self.second if self.label == 2 else self.first

    @property
    def rejected(self) -> str:
        return self.first if self.label == 2 else self.second


@dataclass(frozen=True)
class RewardModelConfig:
    """How a reward model is trained (lesson 12)."""

    evaluate_every: int = setting(10, "Steps between two looks at the validation pairs.")
    patience: int = setting(5, "Looks in a row without a better validation log loss after which training stops.")
    frozen: float = setting(0.7, "Share of the hidden layers, from the input on, that stay as they are, embeddings included.")

    def __post_init__(self) -> None:
        for name in ("evaluate_every", "patience"):
            require_positive(name, getattr(self, name))
        if not 0 <= self.frozen <= 1:
            raise ValueError(f"frozen: expected a share from 0 to 1, received {self.frozen}")


# Where preferences come from.

KINDS = ("label studio", "table", "qa_feedback", "pairs", "comparisons")


def read(source: Any, *, split: str = "train", limit: int = 0, field: str = "data") -> tuple[str, list[dict[str, Any]]]:
    """(the kind of its rows, the rows as they are): of a file, a folder, a hub name, the built-in "questions" or "posts".

    `source` may also be a list of rows. The kinds, by the columns that the first row has:

        label studio   tasks of its JSON export: `data` (prompt, answer1, answer2) and `annotations`
        table          its CSV or JSON-MIN export: a row a judgement, (prompt, answer1, answer2, id, and the choice)
        qa_feedback    `question`, `passages`, `prediction 1` to `prediction 4`, `preference`: six labels
        pairs          `prompt`, `chosen`, `rejected`
        comparisons    `info` with a `post`, two `summaries`, `choice`: 0 or 1

    Raises InputProblem for a source that cannot be read, is empty, or has other columns.
    """
    if not isinstance(source, (str, Path)):
        rows, source = list(source), "rows"
    elif str(source) == "questions":
        from .questions import world

        rows = world().rows(limit or data.WORLD_ROWS, data.SEEDS.get(split, 1))
    elif str(source) == "posts":
        from .posts import world

        rows = world().comparisons(limit or data.WORLD_ROWS, data.SEEDS.get(split, 1))
    else:
        rows = list(data._raw_rows(str(source), split, limit, field))
    if not rows:
        raise InputProblem(f"{field}={source}: holds no rows")
    kind = kind_of(rows[0], str(source), field)
    for number, row in enumerate(rows, 1):
        expected = wrong_with(kind, row)
        if expected:
            raise InputProblem(f"{field}={source}: expected {expected} in row {number}, received {row!r:.80}; leave it out")
    return kind, rows


def kind_of(row: dict[str, Any], source: str, field: str = "data") -> str:
    """The format of a row, by its columns. Raises InputProblem for one of another kind."""
    columns = set(row)
    if {"data", "annotations"} <= columns:
        return "label studio"
    if {"question", "preference", "prediction 1"} <= columns:
        return "qa_feedback"
    if {"chosen", "rejected"} <= columns:
        return "pairs"
    if {"info", "summaries", "choice"} <= columns:
        return "comparisons"
    if {"answer1", "answer2"} <= columns:
        return "table"
    raise InputProblem(
        f"{field}={source}: no preferences in columns {', '.join(map(str, row)) or 'of no name'}; expected a Label Studio export"
        " (prompt, answer1, answer2), qa_feedback rows (prediction 1 to 4, preference), or prompt, chosen and rejected"
    )


def wrong_with(kind: str, row: dict[str, Any]) -> str | None:
    """What a row of this kind has and this one has not; None where its parts are there. Texts and labels are the readers' matter."""

    def of(value: Any, kind: type, parts: type = object) -> bool:
        return isinstance(value, kind) and all(isinstance(part, parts) for part in (value if kind is list else ()))

    if kind == "label studio":
        if not of(row.get("data"), dict) or not of(row.get("annotations"), list, dict):
            return "`data` with texts and a list of `annotations`"
        for annotation in row["annotations"]:
            if annotation.get("was_cancelled"):
                continue
            results = annotation.get("result")
            pairwise = [part for part in results if part.get("type") == "pairwise"] if of(results, list, dict) else [{}]
            if "id" not in annotation or not all(of(part.get("value"), dict) for part in pairwise):
                return "annotations with an `id` and a list `result`"
    if kind == "qa_feedback" and not (of(row.get("question"), str) and of(row.get("passages"), list, (str, list))):
        return "a `question` and a list of `passages`"
    if kind == "qa_feedback" and not of(row.get("preference"), list):
        return "six labels in `preference`"
    if kind == "comparisons" and not (of(row.get("info"), dict) and of(row.get("summaries"), list, dict) and len(row["summaries"]) == 2):
        return "`info` with a post, and two `summaries`"
    return None


def from_table(rows: Sequence[dict[str, Any]]) -> list[Preference]:
    """Label Studio's CSV and JSON-MIN exports: a row a judgement. Rows whose choice is empty were not labelled.

    The column of the choice is called after the control of the labelling page: it is the one that says left, right or tie.
    """
    texts = ("prompt", "answer1", "answer2")
    columns = [name for name in rows[0] if name not in texts and any(selected(row.get(name)) is not None for row in rows)]
    if not columns:
        raise ValueError("label: expected a column that says left, right or tie, received none")
    found = []
    for number, row in enumerate(rows, 1):
        cell = row.get(columns[0])
        label = selected(cell)
        if label is not None:
            id = id_in(row, id_in(row, number), "annotation_id")
            found.append(Preference(id, *(text_in(row, name) for name in texts), label))
        elif str(cell or "").strip() not in ("", "[]", "{}"):
            raise ValueError(f"label: expected left, right or tie in `{columns[0]}` of row {number}, received {cell!r:.60}")
    return found


def selected(value: Any) -> int | None:
    """The label in a cell of a table, `left` or {"selected": "left"}: 1 left, 2 right, 0 tie; None where it is something else."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("selected")
    return {"left": 1, "right": 2, "tie": 0}.get(value.strip().lower()) if isinstance(value, str) else None


def from_pairs(rows: Sequence[dict[str, Any]]) -> list[Preference]:
    """Rows of prompt, chosen and rejected; `id` where there is one, else the row's number."""
    return [
        Preference(id_in(row, number), *(text_in(row, name) for name in ("prompt", "chosen", "rejected")), 1)
        for number, row in enumerate(rows, 1)
    ]


def from_comparisons(rows: Sequence[dict[str, Any]]) -> list[Preference]:
    """Posts with two summaries: `choice` is the index of the better one."""
    found = []
    for number, row in enumerate(rows, 1):
        post = text_in(row["info"], "post" if row["info"].get("post") else "article")
        one, two = (text_in(summary, "text") for summary in row["summaries"])
        if row["choice"] not in (0, 1):
            raise ValueError(f"label: expected a choice of 0 or 1 in row {number}, received {row['choice']!r:.60}")
        found.append(Preference(id_in(row, number), f"{post}\nTL;DR:", one, two, int(row["choice"]) + 1))
    return found


def id_in(row: dict[str, Any], number: Any, name: str = "id") -> str:
    """The row's id, or its number where it has none; an id may be 0."""
    given = row.get(name)
    return str(number if given in (None, "") else given)


def text_in(row: dict[str, Any], name: str) -> str:
    """A text of a row. The empty text is one: a model may say nothing, and be judged for it.

    Raises ValueError for one that is missing, or is no text.
    """
    value = row.get(name)
    if not isinstance(value, str):
        what = "prompt" if name == "prompt" else "answer"
        received = "nothing" if value is None else f"{type(value).__name__} {value!r:.60}"
        beginning = next((row[key] for key in ("prompt", "question", "post") if isinstance(row.get(key), str) and key != name), "")
        where = f" in the row of {beginning[:60]!r}" if beginning else ""
        raise ValueError(f"{what}: expected text in `{name}`, received {received}{where}; leave such a row out")
    return value


def context_prompt(question: str, passages: Any) -> str:
    """A question with its passages as the text a model is asked: "question: ... context: ...".

    passages: sentences, or for each passage a list of its title and its sentences.
    """
    context = " ".join(
        passage if isinstance(passage, str) else f"wikipage: {passage[0]} text: {' '.join(passage[1:])}" for passage in passages
    )
    return f"question: {question} context: {context}" if context else f"question: {question}"


# What is done with them.


def decided(preferences: Iterable[Preference]) -> list[Preference]:
    """Those with a winner: a tie has no answer to prefer, so it is left out where pairs are trained on."""
    return [preference for preference in preferences if preference.label != 0]


def split(preferences: Sequence[Preference], share: float, seed: int = 0) -> tuple[list[Preference], list[Preference]]:
    """(to train on, to validate on): about `share` of the prompts, with all their judgements, are kept for validation.

    By prompt, because two judgements of one prompt share an answer more often than not: apart, one would give the other away.
    """
    prompts = list(dict.fromkeys(preference.prompt for preference in preferences))
    random.Random(seed).shuffle(prompts)
    kept = set(prompts[: max(round(share * len(prompts)), 1 if share > 0 and len(prompts) > 1 else 0)])
    return [p for p in preferences if p.prompt not in kept], [p for p in preferences if p.prompt in kept]


def joined(prompt: str, answer: str) -> str:
    """The text that is scored: a space between prompt and answer where neither brings one along."""
    gap = " " if prompt and answer and not prompt[-1].isspace() and not answer[0].isspace() else ""
    return prompt + gap + answer


def text_ids(tokenizer: Any, prompts: Sequence[str], answers: Sequence[str], max_length: int) -> tuple[list[list[int]], int]:
    """(token ids of each prompt with its answer and EOS, how many texts were too long for `max_length` tokens).

    A text that is too long loses the beginning of its prompt, since the answer is what is to be scored; an answer that is too
    long by itself loses its end, and its EOS with it.
    """
    heads = data.encode(tokenizer, list(prompts))
    tails = data.encode(tokenizer, [joined(prompt, answer)[len(prompt) :] for prompt, answer in zip(prompts, answers)])
    rows, cut = [], 0
    for head, tail in zip(heads, tails):
        tail = [*tail, tokenizer.eos_token_id]
        cut += len(head) + len(tail) > max_length
        room = max(max_length - len(tail), 0)
        rows.append(head[len(head) - min(room, len(head)) :] + tail[:max_length])
    return rows, cut


def encode(tokenizer: Any, preferences: Sequence[Preference], max_length: int) -> data.Preferences:
    """The token ids of decided preferences, as lesson 11 has them; `cut` of the two texts of all pairs were too long.

    Raises InputProblem where none is left.
    """
    pairs = decided(preferences)
    if not pairs:
        raise InputProblem("data: no preference has a winner, so there is nothing to learn; label some pairs")
    prompts = [pair.prompt for pair in pairs]
    chosen, cut_chosen = text_ids(tokenizer, prompts, [pair.chosen for pair in pairs], max_length)
    rejected, cut_rejected = text_ids(tokenizer, prompts, [pair.rejected for pair in pairs], max_length)
    heads: list[list[int]] = [[] for _ in pairs]  # whole texts are scored: no part of a row is told apart as its prompt
    return data.Preferences(heads, chosen, rejected, len(preferences) - len(pairs), cut_chosen + cut_rejected)


def batches(encoded: data.Preferences, batch_size: int, pad_token_id: int, seed: int | None = None) -> Iterator[Pairs]:
    """All pairs once, in the order given or in that of `seed`; the last batch may be smaller."""
    order = list(range(len(encoded)))
    if seed is not None:
        random.Random(seed).shuffle(order)
    for start in range(0, len(order), batch_size):
        yield data.pairs_of(encoded, order[start : start + batch_size], pad_token_id)


@torch.no_grad()
def pair_scores(model: nn.Module, pairs: Iterable[Pairs]) -> tuple[Float[Tensor, "pairs"], Float[Tensor, "pairs"]]:
    """(scores of the chosen answers, of the rejected ones) over all batches, without a gradient, dropout off, on the CPU."""
    was_training = model.training
    model.eval()
    try:
        scores = [model(batch.tokens, batch.attention_mask).cpu() for batch in pairs]
    finally:
        model.train(was_training)
    both = [single(some).chunk(2) for some in scores]
    if not both:
        return torch.zeros(0), torch.zeros(0)
    return torch.cat([chosen for chosen, _ in both]), torch.cat([rejected for _, rejected in both])


def spread_warning(scores: Float[Tensor, "texts"], least: float = LEAST_SPREAD) -> str | None:
    """A sentence with the figure where the scores of different texts hardly differ, None where they do."""
    spread = float(scores.double().std(correction=0)) if len(scores) else 0.0
    if spread >= least:
        return None
    return (
        f"the scores hardly vary: their standard deviation over {len(scores)} texts is {spread:.4f}, below {least:g}; as a reward"
        " they would be noise, and dividing by it would make noise the signal"
    )


def margin_warning(margins: Float[Tensor, "pairs"], least: float = LEAST_SPREAD) -> str | None:
    """A sentence with the figure where the two answers of a pair get nearly the same score, however prompts differ."""
    size = float(margins.double().square().mean().sqrt()) if len(margins) else 0.0
    if size >= least:
        return None
    return (
        f"the two answers of a pair get nearly the same score: the differences of {len(margins)} pairs have a root mean square of"
        f" {size:.4f}, below {least:g}; the model reads the prompt and not the answer, or both answers were cut to one text"
    )


class RewardLoop(Loop):
    """The plain loop, with validation pairs and a place for the best weights so far.

        validation()   the batches of validation pairs, the same at every call
        remember()     keeps a copy of the weights as they are now: the best so far
        restore()      brings the last remembered weights back
        kept           numbers to carry from step to step; a run saves them, so that it can go on where it was
    """

    def __init__(
        self,
        policy: nn.Module,
        data: Iterable[Pairs],
        validation: Iterable[Pairs],
        optimizer: torch.optim.Optimizer,
        config: RewardModelConfig,
        **more: Any,
    ) -> None:
        super().__init__(policy, data, optimizer, config, **more)
        self._validation = list(validation)
        self._best: dict[str, Tensor] | None = None

    def validation(self) -> Iterator[Pairs]:
        yield from self._validation

    def remember(self) -> None:
        self._best = {name: value.detach().clone() for name, value in self.policy.state_dict().items()}

    def restore(self) -> None:
        if self._best is not None:
            self.policy.load_state_dict(self._best)
