"""The built-in quiz of lesson 16: what small models do, found by running them (`climb quiz --build`).

    quiz = build({"reinforce": ..., "kl": ..., "grpo": ...}, print)     # folders of runs -> the JSON object of a quiz

lessons/16-forecast/quizzes/format.md describes the object.

Nothing is picked by its outcome: prompts are the first ones of a stated seed, and which is asked about what is fixed in PLAN. A
task's outcome is the first of 201 completions sampled under the task's own seed; the other 200 say how likely it was.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Callable, Mapping

import numpy as np
import torch

from . import quiz_kinds
from .quiz_kinds import HELD, REINFORCED, SEED, SOLVED, Asked, Kind

DRAWS = 200
"Completions beside the one that decides; the standard error of their share is 0.035 at most."
Say = Callable[[str], None]
RUNS = ("reinforce", "kl", "grpo")
"The runs that are asked about, at their laptop presets."

PLAN = (  # (model, kind, how often by one draw, how often by most of the draws)
    ("review-lm", "rated positive", 3, 1),
    ("review-lm", "truly positive", 2, 0),
    ("review-lm", "grammar", 2, 0),
    ("review-lm", "says a word twice", 2, 0),
    (REINFORCED, "rated positive", 1, 1),
    (REINFORCED, "truly positive", 2, 0),
    (REINFORCED, "grammar", 1, 0),
    (REINFORCED, "says a word twice", 1, 0),
    (HELD, "rated positive", 1, 1),
    (HELD, "truly positive", 2, 0),
    (HELD, "grammar", 2, 0),
    (HELD, "says a word twice", 1, 0),
    ("question-t5", "more than half the facts", 1, 0),
    ("question-t5", "nothing false", 2, 0),
    ("question-t5-sft", "complete answer", 1, 0),
    ("question-t5-sft", "more than half the facts", 3, 0),
    ("question-t5-sft", "nothing false", 1, 0),
    ("question-t5-sft", "nothing beside the point", 1, 0),
    ("post-lm", "good summary", 3, 0),
    ("sums-lm", "sum solved", 3, 1),
    ("sums-lm", "shows its working", 1, 0),
    (SOLVED, "sum solved", 3, 1),
    (SOLVED, "shows its working", 1, 0),
)


def build(runs: Mapping[str, Path], say: Say = lambda line: None) -> dict[str, Any]:
    """The quiz as a JSON object. runs: a folder for each name of RUNS.

    Raises InputProblem for a folder without a finished run.
    """
    told = {name: quiz_kinds.config_of(runs[name]) for name in RUNS}  # before minutes pass: is each a run?
    found = [*quiz_kinds.of_reviews(runs["reinforce"], runs["kl"]), *quiz_kinds.of_questions(), *quiz_kinds.of_posts()]
    found += quiz_kinds.of_sums(runs["grpo"])
    asked_of = [*quiz_kinds.review_kinds(), *quiz_kinds.question_kinds(), *quiz_kinds.post_kinds(), *quiz_kinds.sum_kinds()]
    by_name, kinds = {asked.name: asked for asked in found}, {kind.name: kind for kind in asked_of}
    tasks: list[dict[str, Any]] = []
    for name, kind, drawn, shared in PLAN:
        for by in ["draw"] * drawn + ["share"] * shared:
            number = len(tasks) + 1
            tasks.append(task_of(by_name[name], kinds[kind], by, SEED + number, f"{number:02}"))
            say(f"{number:>3}  {name}, {kind}: {tasks[-1]['answer']}, {tasks[-1]['truth']['yes']} of {DRAWS}")
    made = {"by": "climb quiz --build", "seed": SEED, "draws": DRAWS, "torch": torch.__version__}
    return {
        "format": "climb-quiz",
        "version": 1,
        "title": "What will a small model do?",
        "about": ABOUT,
        "models": {asked.name: asked.words for asked in found},
        "made": made | told,
        "tasks": mixed(tasks),
    }


def mixed(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tasks in an order that SEED decides, the first one found in which no model is asked the same kind twice running."""
    rng, order = random.Random(SEED), list(tasks)
    for _ in range(10_000):
        rng.shuffle(order)
        alike = [(task["model"], task["kind"]) for task in order]
        if all(first != second for first, second in zip(alike, alike[1:])):
            break
    return order


ABOUT = (
    "The models are those that come with the course, some as they are shipped, some after the training of a lesson. Before each "
    'answer say how likely you think a yes is, in percent. "One draw" means that the model was run once under a stated seed, and '
    'what it wrote decided; "most of 200 draws" that it was run two hundred times. No task was chosen for its outcome.'
)


def as_json(quiz: dict[str, Any]) -> str:
    """The file's text: one task after the other, readable."""
    return json.dumps(quiz, ensure_ascii=False, indent=1) + "\n"


def task_of(asked: Asked, kind: Kind, by: str, seed: int, name: str) -> dict[str, Any]:
    """One task: samples, judges, and writes down what came."""
    prompt = next(asked.prompts)
    texts = asked.writes(prompt, 1 + DRAWS, seed)
    numbers = np.asarray(kind.judge(prompt, texts), dtype=np.float64).reshape(len(texts), -1)
    came = kind.yes(numbers)
    yes = int(came[1:].sum())
    answer = int(came[0]) if by == "draw" else int(2 * yes > DRAWS)
    shown = 0 if by == "draw" else 1 + int(np.flatnonzero(came[1:] == answer)[0])  # the first that does as most of them
    told = kind.told.format(**{f"n{k}": value for k, value in enumerate(numbers[shown])})
    told = told if by == "draw" else f"The text shown is the first of the majority. {told}"
    many = "One draw" if by == "draw" else f"Most of {DRAWS} draws"
    decides = "the first of 201 draws decides" if by == "draw" else f"most of {DRAWS} draws decide"
    how = f"{asked.how}, torch seed {seed}: {decides}. {kind.decides}"
    return {
        "id": name,
        "kind": kind.name,
        "model": asked.name,
        "prompt": readable(prompt),
        "question": f"{many}: {kind.question}",
        "answer": answer,
        "truth": {"by": by, "how": how, "seed": seed, "draws": DRAWS, "yes": yes},
        "wrote": texts[shown].strip() or "(nothing)",
        "explanation": " ".join(part for part in (told, asked.remark(kind.name)) if part),
    }


def readable(prompt: str) -> str:
    """A prompt for the eye: question and context apart."""
    return prompt.replace(" context: ", "\ncontext: ", 1) if prompt.startswith("question: ") else prompt
