"""What the policy wrote: fixed prompts before, during and after, each token coloured by its log-ratio to the reference."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autograder.reports.run_report_charts import figure
from autograder.reports.run_report_data import Run, number_like

STAGES = ("before", "during", "after")
EDGES = (0.25, 1.0, 2.5)  # nats: 1.3, 2.7 and 12 times as likely as under the reference
MOST_PROMPTS = 24  # shown; the figures are of all
MOST_DURING = 3  # moments between the first and the last, of one run
MOST_TOKENS = 400  # of one completion
FIGURES = (
    ("reward", "reward"),
    ("gold_reward", "gold reward"),
    ("completeness", "completeness"),
    ("relevance", "relevance"),
    ("factuality", "factuality"),
    ("rougeL", "ROUGE-L"),
    ("kl", "KL"),
    ("naturalness", "naturalness"),
    ("length", "tokens"),
    ("repetition", "repetition"),
)
NOT_FIGURES = ("step", "stage", "prompt", "completion", "tokens", "log_ratio", "id")
MOST_OTHERS = 8  # figures under names of a run's own, such as those of its rewards
BESIDE = 24  # tokens: texts longer than these are read side by side, shorter ones below each other


@dataclass
class Token:
    text: str
    tone: str  # class of the style sheet: n3 ... n1 less likely than under the reference, p1 ... p3 more, "" about as likely
    ratio: str  # in nats, signed; "" where none was written
    blank: str = ""  # stands before the text, uncoloured


@dataclass
class Entry:
    """One completion: a row under its prompt."""

    run: int | None  # None: the same in all runs
    stage: str
    tokens: list[Token]
    figures: list[tuple[str, str]]
    cut: int = 0  # tokens that are not shown


@dataclass
class Prompt:
    text: str
    entries: list[Entry] = field(default_factory=list)

    @property
    def beside(self) -> bool:
        """Whether the completions stand side by side: long ones do, so that an eye can go from one to the other."""
        return max((len(entry.tokens) for entry in self.entries), default=0) > BESIDE


@dataclass
class Average:
    """The samples of one run and moment in figures: (text, interval) by column."""

    run: int | None  # None: the same in all runs
    stage: str
    count: int
    cells: list[tuple[str, str]]


LEGEND = [
    Token(f"less than 1/{math.exp(EDGES[2]):.0f}", "n3", f"below −{EDGES[2]}"),
    Token(f"less than 1/{math.exp(EDGES[1]):.1f}", "n2", f"below −{EDGES[1]}"),
    Token(f"less than 1/{math.exp(EDGES[0]):.1f}", "n1", f"below −{EDGES[0]}"),
    Token("about as likely", "", f"−{EDGES[0]} to +{EDGES[0]}"),
    Token(f"more than {math.exp(EDGES[0]):.1f} times", "p1", f"above +{EDGES[0]}"),
    Token(f"more than {math.exp(EDGES[1]):.1f} times", "p2", f"above +{EDGES[1]}"),
    Token(f"more than {math.exp(EDGES[2]):.0f} times", "p3", f"above +{EDGES[2]}"),
]


def tone_of(ratio: float) -> str:
    level = sum(abs(ratio) > edge for edge in EDGES)
    return f"{'p' if ratio > 0 else 'n'}{level}" if level else ""


def token_texts(sample: dict[str, Any]) -> list[str]:
    """The tokens as people read them. Where a tokenizer's own marks stand for blanks they are put back; no tokens: words."""
    tokens = [token if isinstance(token, str) else str(token) for token in _list(sample.get("tokens"))]
    if not tokens:
        return [word if n == 0 else " " + word for n, word in enumerate(sample["completion"].split(" "))]
    if sample["completion"].strip() in ("".join(tokens).strip(), "".join(tokens[:-1]).strip()):  # the last one may be an EOS
        return tokens
    plain = tokens
    for mark, text in (("Ġ", " "), ("▁", " "), ("Ċ", "\n")):  # byte-level BPE, SentencePiece
        if mark not in sample["completion"]:
            plain = [token.replace(mark, text) for token in plain]
    if plain == tokens and not any(" " in token for token in tokens[1:]):  # whole words, as WordLevel and WordPiece give them
        plain = [t if n == 0 else t[2:] if t.startswith("##") else " " + t for n, t in enumerate(tokens)]
    return plain


def tokens_of(sample: dict[str, Any]) -> tuple[list[Token], int]:
    """The tokens with their colours, and how many more there are."""
    texts = token_texts(sample)
    ratios = _list(sample.get("log_ratio"))
    shown = []
    for n, text in enumerate(texts[:MOST_TOKENS]):
        ratio = ratios[n] if n < len(ratios) else None
        known = number_like(ratio)
        nats = ("+" if ratio > 0 else "") + figure(round(ratio, 2)) if known else ""
        blank = " " * (text[:1] == " " and len(text) > 1)
        shown.append(Token(text[len(blank) :].replace("\n", "⏎\n"), tone_of(ratio) if known else "", nats, blank))
    return shown, len(texts) - len(shown)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _stage(sample: dict[str, Any]) -> str:
    return str(sample.get("stage", ""))[:40]


def _step(sample: dict[str, Any]) -> float:
    return float(sample["step"]) if number_like(sample.get("step")) else -1.0


def _moment(sample: dict[str, Any]) -> tuple[int, float]:
    stage = _stage(sample)
    return STAGES.index(stage) if stage in STAGES else 1, _step(sample)


def _name(sample: dict[str, Any]) -> str:
    stage, step = _stage(sample) or "sample", _step(sample)
    return f"{stage}, step {figure(step)}" if step >= 0 and stage not in ("before", "after") else stage


def prompts_of(runs: list[Run]) -> tuple[list[Prompt], int]:
    """What is shown under each prompt, and how many prompts are left out. Of several runs only the ends are shown."""
    found: dict[str, Prompt] = {}
    for number, run in enumerate(runs):
        for sample in _chosen(run, alone=len(runs) == 1):
            text = str(sample.get("prompt", ""))
            tokens, cut = tokens_of(sample)
            prompt = found.setdefault(text, Prompt(text))
            prompt.entries.append(Entry(number, _name(sample), tokens, figures_of(sample), cut))
    for prompt in found.values():
        _merge_before(prompt, len(runs))
    return list(found.values())[:MOST_PROMPTS], max(0, len(found) - MOST_PROMPTS)


def _chosen(run: Run, alone: bool) -> list[dict[str, Any]]:
    """The samples shown of a run, in the order of time."""
    samples = sorted(run.samples, key=_moment)
    between = sorted({_moment(sample) for sample in samples if _stage(sample) not in ("before", "after")})
    ended = any(_stage(sample) == "after" for sample in samples)
    if not alone:
        kept = between[-1:] if not ended else []  # of a run that has not ended, the latest
    elif len(between) > MOST_DURING:
        kept = [between[round(n)] for n in np.linspace(0, len(between) - 1, MOST_DURING)]
    else:
        kept = between
    return [sample for sample in samples if _stage(sample) in ("before", "after") or _moment(sample) in kept]


def _merge_before(prompt: Prompt, runs: int) -> None:
    """What every run wrote before it began is shown once, if it is the same."""
    first = [entry for entry in prompt.entries if entry.stage == "before"]
    same = len({tuple(token.text for token in entry.tokens) for entry in first}) == 1
    if len(first) == runs > 1 and same:
        first[0].run = None
        prompt.entries = [first[0], *(entry for entry in prompt.entries if entry.stage != "before")]


def figures_of(sample: dict[str, Any]) -> list[tuple[str, str]]:
    return [(label, figure(sample[name], 3)) for name, label in columns_among([sample])]


def columns_of(runs: list[Run]) -> list[tuple[str, str]]:
    """The columns of the averages: those that some sample has, and how varied the words are."""
    return columns_among([sample for run in runs for sample in run.samples])


def columns_among(samples: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(name, what a person calls it) of the samples' figures: the reward, then a run's own, as its rewards apart, then the known."""
    names = dict.fromkeys(name for sample in samples for name, value in sample.items() if number_like(value))
    known = dict(FIGURES)
    own = [name for name in names if name not in known and name not in NOT_FIGURES][:MOST_OTHERS]
    first, *rest = FIGURES
    found = [first, *((name, name.replace("reward_", "reward: ", 1).replace("_", " ")) for name in own), *rest]
    return [pair for pair in found if pair[0] in names]


def averages_of(runs: list[Run]) -> list[Average]:
    """Each run's samples at each moment: means with 95% intervals, then distinct tokens and pairs of tokens."""
    columns, found = columns_of(runs), []
    for number, run in enumerate(runs):
        moments: dict[str, list[dict[str, Any]]] = {}
        for sample in _chosen(run, alone=len(runs) == 1):
            moments.setdefault(_name(sample), []).append(sample)
        for stage, samples in moments.items():
            cells = [mean_of([sample[name] for sample in samples if number_like(sample.get(name))]) for name, _ in columns]
            rows = [[str(token) for token in _list(sample.get("tokens"))] or sample["completion"].split() for sample in samples]
            cells += [(_share(distinct(rows, n)), "") for n in (1, 2)]
            found.append(Average(number, stage, len(samples), cells))
    before = [row for row in found if row.stage == "before"]
    if len(before) == len(runs) > 1 and all((row.count, row.cells) == (before[0].count, before[0].cells) for row in before):
        before[0].run = None
        found = [before[0], *(row for row in found if row.stage != "before")]
    return found


def distinct(rows: list[list[str]], n: int) -> float:
    """Different n-grams among all n-grams within rows: 1 when none comes twice; NaN where there is none."""
    grams = [tuple(row[i : i + n]) for row in rows for i in range(len(row) - n + 1)]
    return len(set(grams)) / len(grams) if grams else math.nan


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def mean_of(values: list[float]) -> tuple[str, str]:
    """The mean and its 95% interval by Student's t, as texts."""
    from scipy import stats

    if not values:
        return "–", ""
    mean = float(np.mean(values))
    if len(values) < 2 or np.ptp(values) == 0:
        return figure(mean, 3), ""
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return figure(mean, 3), f"{figure(mean - half, 3)} to {figure(mean + half, 3)}"
