"""Rewards by name: a built-in world's exact rules, rules that hold for any text, and models that score texts (lesson 14).

    completeness=question-reward,relevance,factuality      three rewards, the first by a model, the others by rules of their names

A reward reads texts, whatever wrote them: a model's tokenizer is its own. Rules that judge sentences pay at each sentence's end.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Mapping, Sequence

import torch

from full.given import models, preferences
from full.given.ppo_settings import Reward, Span
from full.given.problems import InputProblem


def named(text: str) -> dict[str, str]:
    """{reward: its source} of "completeness=question-reward,relevance": a bare name is its own source. Raises InputProblem."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, sign, source = (piece.strip() for piece in part.partition("="))
        if not name or (sign and not source) or not re.fullmatch(r"\w+", name):
            raise InputProblem(f"rewards={text}: expected names with commas, NAME or NAME=SOURCE, received {part!r}")
        if name in found:
            raise InputProblem(f"rewards={text}: expected each name once, received {name} twice")
        found[name] = source or name
    return found


def weights_of(text: str, rewards: Mapping[str, str]) -> dict[str, float]:
    """{reward: its weight} of "completeness=1,relevance=0.5", or of one number for all. Raises InputProblem if names differ."""
    if "=" not in text:
        return dict.fromkeys(rewards, _number(text, text))
    found = {name.strip(): _number(value, text) for name, _, value in (part.partition("=") for part in text.split(","))}
    if set(found) != set(rewards):
        raise InputProblem(f"weights={text}: expected one for each of {', '.join(rewards)}, received {', '.join(found)}")
    return {name: found[name] for name in rewards}


def _number(value: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise InputProblem(f"weights={text}: expected a number, or NAME=NUMBER with commas, received {value.strip()!r}")
    return number


def made(
    text: str, source: str, targets: Mapping[str, str], device: Any, say: models.Say, compare: bool, start: bool = False
) -> dict[str, Reward]:
    """The rewards that `text` names.

    source: the data, whose world knows rules.  targets: the answer of each prompt that has one: what `rouge` holds an answer
    to, and where `compare`, what a model's score is compared with.  start: whether an answer goes on in its prompt's last word.
    Raises InputProblem.
    """
    rules = RULES | WORLD_RULES.get(source, {})
    found: dict[str, Reward] = {}
    for name, what in named(text).items():
        if what in rules:
            found[name] = rules[what](targets)
        elif what == name and not (models.BUILTIN / what).is_dir():
            raise InputProblem(
                f"rewards={text}: no rule is called {what}; there are {', '.join(rules)}, and NAME=MODEL scores by a model"
            )
        else:
            found[name] = ModelReward(what, targets if compare else {}, device, say, start)
    return found


class ModelReward:
    """The score of prompt and answer by a sequence classifier: of one label its number, of two P(positive).

    Where a prompt has a target, the number is the answer's less the target's: only such differences mean anything.
    """

    def __init__(
        self, name: str, targets: Mapping[str, str], device: Any, say: models.Say = models.silent, start: bool = False
    ) -> None:
        self.model, self.tokenizer = load_scorer(name, say)
        self.model.to(device)
        self.name, self.targets, self.start = name, dict(targets), start
        self.positive = models.positive_label(self.model) if self.model.config.num_labels == 2 else None
        longest = getattr(self.model.config, "n_positions", None) or getattr(self.model.config, "max_position_embeddings", 512)
        self.longest = int(longest)
        self.tokenizer.truncation_side = "right" if start else "left"  # what is to be judged stays
        self.cut = 0
        self.known: dict[str, float] = {}

    def __call__(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        scores = self.scores(prompts, completions)
        if not self.targets or self.positive is not None:
            return scores
        fresh = [p for p in dict.fromkeys(prompts) if p in self.targets and p not in self.known]
        self.known |= dict(zip(fresh, self.scores(fresh, [self.targets[p] for p in fresh])))
        return [score - self.known.get(prompt, 0.0) for prompt, score in zip(prompts, scores)]

    def rows(self, prompts: Sequence[str], answers: Sequence[str]) -> tuple[list[list[int]], int]:
        """(token ids of each prompt with its answer, how many texts were too long).

        A score is read behind an EOS. A classifier of two labels is to see what it was trained on, with all that its tokenizer
        puts around a text: some read their verdict at a mark before the first word.
        """
        if self.positive is None and not self.start:
            return preferences.text_ids(self.tokenizer, prompts, answers, self.longest)
        texts = [prompt + answer if self.start else preferences.joined(prompt, answer) for prompt, answer in zip(prompts, answers)]
        marks = {"add_special_tokens": self.positive is not None, "verbose": False}
        rows = self.tokenizer(texts, truncation=False, **marks)["input_ids"]
        long = [n for n, row in enumerate(rows) if len(row) > self.longest]
        if long:  # cut by the tokenizer, which keeps its marks
            cut = self.tokenizer([texts[n] for n in long], truncation=True, max_length=self.longest, **marks)["input_ids"]
            for n, row in zip(long, cut):
                rows[n] = row
        return [row or [self.tokenizer.eos_token_id] for row in rows], len(long)

    @torch.no_grad()
    def scores(self, prompts: Sequence[str], answers: Sequence[str], batch_size: int = 64) -> list[float]:
        rows, cut = self.rows(prompts, answers)
        self.cut += cut
        order = sorted(range(len(rows)), key=lambda n: len(rows[n]))  # rows of like length together: less padding
        found = [0.0] * len(rows)
        device = next(self.model.parameters()).device
        for first in range(0, len(rows), batch_size):
            some = order[first : first + batch_size]
            width = max(len(rows[n]) for n in some)
            ids = torch.full((len(some), width), self.tokenizer.pad_token_id)
            mask = torch.zeros_like(ids)
            for place, n in enumerate(some):
                ids[place, : len(rows[n])] = torch.tensor(rows[n])
                mask[place, : len(rows[n])] = 1
            logits = self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits.float()  # (b, labels)
            values = logits[:, 0] if self.positive is None else logits.softmax(-1)[:, self.positive]
            for n, value in zip(some, values.tolist()):
                found[n] = value
        return found


def load_scorer(name: str, say: models.Say) -> tuple[Any, Any]:
    """(a frozen sequence classifier of one or two labels, its tokenizer). Raises InputProblem."""
    place = models._place(name, "rewards")
    tokenizer = models.load_tokenizer(name, field="rewards")
    with models._refused(name, "rewards"):
        from transformers import AutoModelForSequenceClassification

        model, report = AutoModelForSequenceClassification.from_pretrained(place, dtype=torch.float32, output_loading_info=True)
    fresh = sorted(key for key in report["missing_keys"] if "classifier" in key or "score" in key)
    if fresh:
        raise InputProblem(
            f"rewards={name}: has no trained head for scores ({fresh[0]} is missing); `climb run reward-model` makes one"
        )
    if model.config.num_labels not in (1, 2):
        raise InputProblem(
            f"rewards={name}: expected 1 label (a score) or 2 (negative, positive), received {model.config.num_labels}"
        )
    models._require_vocabulary(model, tokenizer, name, "rewards")
    models.separate_pad(model, tokenizer, name, "rewards", say)
    model.config.pad_token_id = tokenizer.pad_token_id
    return models._without_dropout(model).requires_grad_(False), tokenizer


# Rules. Each is made of the targets by prompt, and may leave them alone.


EARNED = {"relevance": 0.5, "factuality": 0.0}
"What a sentence earns that is as it should be; one that is not costs 1. A true one earns nothing for that: it may not be wanted."


def _questions_exact(which: str) -> Callable[[Mapping[str, str]], Reward]:
    def make(targets: Mapping[str, str]) -> Reward:
        from full.given.questions import world

        def whole(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
            return getattr(world().scores(prompts, completions), which).tolist()

        def sentences(prompts: Sequence[str], completions: Sequence[str]) -> list[list[Span]]:
            """EARNED or -1 at each sentence's end."""
            found = [world().sentence_scores(prompt, text) for prompt, text in zip(prompts, completions)]
            return [[(one.end, EARNED[which] if getattr(one, which) else -1.0) for one in row] for row in found]

        return whole if which == "completeness" else sentences

    return make


def _posts_exact(targets: Mapping[str, str]) -> Reward:
    from full.given.posts import world

    return lambda prompts, completions: world().scores(prompts, completions).tolist()


def _rouge(targets: Mapping[str, str]) -> Reward:
    """ROUGE-L's F measure against the answer that came with the prompt."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])

    def reward(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        missing = next((prompt for prompt in prompts if prompt not in targets), None)
        if missing is not None:
            raise InputProblem(f"rewards: rouge needs an answer for every text, and there is none for {missing[:60]!r}")
        return [scorer.score(targets[prompt], text)["rougeL"].fmeasure for prompt, text in zip(prompts, completions)]

    return reward


WORD = re.compile(r"\w+")
SHORT = 4
"Letters: shorter words are in every text and support nothing."


def _sentences(text: str) -> list[tuple[int, str]]:
    """(end, text) of each sentence."""
    ends = [match.end() for match in re.finditer(r"[.!?]+(?=\s|$)", text)]
    if text[ends[-1] if ends else 0 :].strip():
        ends.append(len(text))
    return [(end, text[start:end]) for start, end in zip([0, *ends], ends)]


def _support(targets: Mapping[str, str]) -> Reward:
    """Each sentence: minus the share of its longer words that the prompt does not have. A stand-in for factuality, no more."""

    def reward(prompts: Sequence[str], completions: Sequence[str]) -> list[list[Span]]:
        rows = []
        for prompt, text in zip(prompts, completions):
            there, row = set(WORD.findall(prompt.lower())), []
            for end, sentence in _sentences(text):
                words = [word for word in WORD.findall(sentence.lower()) if len(word) >= SHORT]
                row.append((end, -sum(word not in there for word in words) / len(words) if words else 0.0))
            rows.append(row)
        return rows

    return reward


def _novelty(targets: Mapping[str, str]) -> Reward:
    """Each sentence: minus the share of its word triples that stood in the answer before. A stand-in for relevance, no more."""

    def reward(prompts: Sequence[str], completions: Sequence[str]) -> list[list[Span]]:
        rows = []
        for text in completions:
            seen, row = set(), []
            for end, sentence in _sentences(text):
                words = WORD.findall(sentence.lower())
                triples = list(zip(words, words[1:], words[2:]))
                row.append((end, -sum(triple in seen for triple in triples) / len(triples) if triples else 0.0))
                seen.update(triples)
            rows.append(row)
        return rows

    return reward


Maker = Callable[[Mapping[str, str]], Reward]
RULES: dict[str, Maker] = {"rouge": _rouge, "support": _support, "novelty": _novelty}
WORLD_RULES: dict[str, dict[str, Maker]] = {
    "questions": {name: _questions_exact(name) for name in ("completeness", "relevance", "factuality")},
    "posts": {"gold": _posts_exact},
}
