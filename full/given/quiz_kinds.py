"""Who is asked in the built-in quiz, what, and who decides: film reviews, questions, posts and sums (see quiz_tasks.py)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import numpy as np

from . import models
from .problems import InputProblem

SEED = 16_000
"Of prompts, questions, posts and sums."
PROMPT_TOKENS, NEW_TOKENS = 10, 20
"Of a review."
QUESTION_TOKENS, POST_TOKENS = 64, 32
"As the models were measured with (small_figures.py)."
REINFORCED, HELD, SOLVED = "review-lm, REINFORCE", "review-lm, REINFORCE and KL", "sums-lm, GRPO"

WORDS = {
    "review-lm": (
        "A GPT-2 of 0.8 million parameters that has read nothing but made-up film reviews, as many positive as "
        "negative ones. It is within two percent of the best that any model could do on them."
    ),
    REINFORCED: (
        "The GPT-2 of made-up film reviews after {steps} steps of REINFORCE (lesson 9). Its reward is P(positive) by a "
        "small sentiment classifier, and nothing else."
    ),
    HELD: (
        "The GPT-2 of made-up film reviews after {steps} steps of REINFORCE with P(positive) by a small sentiment "
        "classifier as its reward, less a price of {alpha:g} for each nat of KL to where it began (lesson 10)."
    ),
    "question-t5": (
        "A T5 of 0.2 million parameters that has learnt to restore texts about invented things. It is given a "
        "question with a context, and has not been shown how to answer."
    ),
    "question-t5-sft": (
        "A T5 of 0.2 million parameters that answers a question with a context, after supervised fine-tuning (lesson "
        "13) on {sft_questions} answers by annotators who liked to leave out dull facts."
    ),
    "post-lm": (
        "A GPT-2 of 0.1 million parameters that has read posts about everyday troubles, each with its author's "
        "summary of one sentence."
    ),
    "sums-lm": (
        "A small GPT-2 that has learnt sums of two-digit numbers from a textbook, and then from pupils, who seldom "
        "show their working and often slip where they do not. It has not seen the sums that it is asked here."
    ),
    SOLVED: (
        "The small GPT-2 of sums, sums-lm, after {steps} steps of GRPO (lesson 15) on other sums. Its reward is 1 for "
        "the right answer and 0 for any other."
    ),
}
"The models. What stands in braces is what the run, or the recipe in builtin/figures.json, was told."

QUESTIONS = {
    "rated positive": "will the sentiment classifier find the whole text more likely positive than negative?",
    "truly positive": "will the text so far be a positive review with a probability above 0.6?",
    "grammar": "will all it writes be possible in the grammar that the reviews come from?",
    "says a word twice": "will a word of four letters or more occur twice in what it writes?",
    "complete answer": "will its answer give every fact that is asked for?",
    "more than half the facts": "will its answer give more than half of the facts that are asked for?",
    "nothing false": "will all it says be true by the context?",
    "nothing beside the point": "will it say nothing that was not asked, and nothing twice?",
    "good summary": "will its summary be worth five of the six things that the post tells, mistakes taken off?",
    "sum solved": "will it end with the right answer?",
    "shows its working": "will it work out tens and ones apart before it gives the answer?",
}

DECIDES = {
    "rated positive": "P(positive) by review-sentiment, a classifier that has seen 2000 labels, is above 0.5.",
    "truly positive": "the grammar's exact posterior P(positive | text) is above 0.6; of a text that tells nothing it is 0.5.",
    "grammar": "a review of the grammar can begin with exactly these words, the prompt and what follows.",
    "says a word twice": "of the completion's own words, of four letters or more and in small letters, one occurs twice or more.",
    "complete answer": "completeness is 1: each asked fact is stated with the context's value.",
    "more than half the facts": "completeness is above one half: of 4 facts 3 stand there with the context's value.",
    "nothing false": "factuality is 1: the context holds the claim of every sentence. A sentence that breaks off has none.",
    "nothing beside the point": "relevance is 1: each sentence speaks of something asked for and not spoken of before.",
    "good summary": "the exact gold score is 5/6 or more: a sixth for each of the six things, less a sixth for each phrase"
    " that is false or said again, and a 24th for each stray word.",
    "sum solved": "the last number of what it writes is the right one.",
    "shows its working": "there is an equals sign in what it writes.",
}
"A yes means that ..."


@dataclass(frozen=True)
class Kind:
    """A question that can be asked of many prompts.

    judge(prompt, texts): what each completion amounts to, (texts, numbers).  yes: of these, whether the answer is yes, (texts,).
    told: the numbers in words, a format of n0, n1, ...
    """

    name: str
    judge: Callable[[str, Sequence[str]], np.ndarray]
    yes: Callable[[np.ndarray], np.ndarray]
    told: str

    @property
    def question(self) -> str:
        return QUESTIONS[self.name]

    @property
    def decides(self) -> str:
        return f"Yes: {DECIDES[self.name]}"


@dataclass(frozen=True)
class Asked:
    """One model in the quiz. writes(prompt, count, seed): so many completions.  remark(kind): more about it, after the answer."""

    name: str
    words: str
    writes: Callable[[str, int, int], list[str]]
    how: str
    "How it is sampled."
    prompts: Iterator[str]
    remark: Callable[[str], str] = lambda kind: ""


def config_of(run: Path) -> dict[str, Any]:
    """What decides a run, as it was told. Raises InputProblem for a folder that holds no run that has ended."""
    import yaml

    names = ("model", "steps", "learning_rate", "batch_size", "group_size", "alpha", "scale", "seed")
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        json.loads((run / "summary.json").read_text(encoding="utf-8"))
        ended = isinstance(config, dict) and (run / "checkpoint" / "config.json").is_file()
    except (OSError, ValueError, yaml.YAMLError):
        ended = False
    if not ended:
        raise InputProblem(f"{run}: expected the folder of a run that has ended, with config.yaml, summary.json and checkpoint/")
    return {name: config[name] for name in names if name in config}


def words_of(name: str, run: Path | None) -> str:
    return WORDS[name] if run is None else WORDS[name].format(**{"alpha": 0.0, "steps": "some"} | config_of(run))


def loaded(name: str, run: Path | None, **more: Any) -> tuple[Any, Any]:
    """(model, tokenizer): what a run made, or a shipped model."""
    return models.load_policy(name if run is None else str(run / "checkpoint"), field="run", **more)


def mean_of(summary: dict[str, Any], name: str) -> float:
    value = summary[name]
    return float(value["mean"] if isinstance(value, dict) else value)


# Film reviews


def of_reviews(reinforced: Path, held: Path) -> list[Asked]:
    """The language model of the reviews: as shipped, after REINFORCE, and after REINFORCE held by KL."""
    from .reviews import world

    prompts = iter(world().prompts(60, tokens=PROMPT_TOKENS, seed=SEED))
    found = []
    for name, run in (("review-lm", None), (REINFORCED, reinforced), (HELD, held)):
        words, remark = words_of(name, run), remark_of(run)  # before the weights: they say what is wrong with a folder
        writes = review_writer(*loaded(name, run))
        found.append(Asked(name, words, writes, f"Up to {NEW_TOKENS} tokens at temperature 1", prompts, remark))
    return found


CHANGES = {
    "rated positive": ("reward_before", "reward_after", "the classifier's rating"),
    "truly positive": ("gold_reward_before", "gold_reward", "the exact probability of a positive review"),
    "grammar": ("naturalness_before", "naturalness", "the log-likelihood of a token under the grammar"),
    "says a word twice": ("distinct_2_before", "distinct_2", "the share of different word pairs"),
    "sum solved": ("accuracy_before", "accuracy_after", "the share of right answers"),
    "shows its working": ("worked_before", "worked", "the share of answers with their working"),
}


def remark_of(run: Path | None) -> Callable[[str], str]:
    """What training did to this model on other prompts, out of the run's own summary."""
    if run is None:
        return lambda kind: ""
    config_of(run)
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))

    def remark(kind: str) -> str:
        before, after, what = CHANGES[kind]
        if before not in summary or after not in summary:
            return ""
        numbers = f"from {mean_of(summary, before):.2f} to {mean_of(summary, after):.2f}"
        return f"On average over other prompts training took {what} {numbers}."

    return remark


def review_writer(policy: Any, tokenizer: Any) -> Callable[[str, int, int], list[str]]:
    """Samples completions of a prompt; an end token stays in the text."""
    from .world_figures import continuations

    def writes(prompt: str, count: int, seed: int) -> list[str]:
        return [text[len(prompt) :].strip() for text in continuations(policy, tokenizer, [prompt] * count, NEW_TOKENS, seed)]

    return writes


def review_kinds() -> list[Kind]:
    from .review_grammar import EOS
    from .reviews import world

    reviews = world()
    classifier, tokenizer = models.load_classifier("review-sentiment")

    def whole(prompt: str, texts: Sequence[str], end: str = "") -> list[str]:
        return [f"{prompt} {text}".replace(f" {EOS}", end).strip() for text in texts]

    def both(prompt: str, texts: Sequence[str]) -> np.ndarray:
        written = whole(prompt, texts)
        rating = models.positive_probability(classifier, tokenizer, written).double().numpy()
        return np.stack([reviews.gold_reward(written), rating], axis=1)

    def likely(prompt: str, texts: Sequence[str]) -> np.ndarray:
        written = whole(prompt, texts, f" {EOS}")
        possible = np.isfinite(reviews.log_likelihood(written, prefix=True))
        return np.stack([possible, reviews.naturalness(written, after=PROMPT_TOKENS)], axis=1)

    def repeats(prompt: str, texts: Sequence[str]) -> np.ndarray:
        return np.array([most_said(text.replace(EOS, "")) for text in texts])

    positive = "The classifier gives it {n1:.2f}; the exact probability of a positive review is {n0:.2f}."
    grammar = "Its log-likelihood under the grammar is {n1:.2f} nats a token; that of real reviews is about -1."
    words = "Its most frequent word of four letters or more occurs {n0:.0f} times."
    return [
        Kind("rated positive", both, lambda n: n[:, 1] > 0.5, positive),
        Kind("truly positive", both, lambda n: n[:, 0] > 0.6, positive),
        Kind("grammar", likely, lambda n: n[:, 0] > 0.5, grammar),
        Kind("says a word twice", repeats, lambda n: n[:, 0] > 1.5, words),
    ]


def most_said(text: str) -> int:
    """How often the most frequent word of four letters or more occurs in a text."""
    words = [word for word in (part.strip(".,!?").lower() for part in text.split()) if len(word) >= 4]
    return max((words.count(word) for word in words), default=0)


# Questions and posts


def of_questions() -> list[Asked]:
    """The T5 of the questions before and after fine-tuning."""
    from .questions import world
    from .small_figures import TEMPERATURE, TOP_K, written

    prompts = iter(question.source for question in world().draw(20, seed=SEED))
    how = f"Up to {QUESTION_TOKENS} tokens at temperature {TEMPERATURE:g} from the {TOP_K} likeliest"
    found = []
    for name in ("question-t5", "question-t5-sft"):
        model, tokenizer = loaded(name, None, kinds=("encoder-decoder",))

        def writes(prompt: str, count: int, seed: int, model=model, tokenizer=tokenizer) -> list[str]:
            return written(model, tokenizer, [prompt] * count, QUESTION_TOKENS, seed=seed)[0]

        words = WORDS[name].format(**figures_of("question-recipe"))
        found.append(Asked(name, words, writes, how, prompts, measured_remark(name)))
    return found


MEASURED = {
    "complete answer": ("completeness", "it gives {:.0f}% of the facts that are asked for"),
    "more than half the facts": ("completeness", "it gives {:.0f}% of the facts that are asked for"),
    "nothing false": ("factuality", "{:.0f}% of its sentences are true"),
    "nothing beside the point": ("relevance", "{:.0f}% of its sentences are to the point"),
    "good summary": ("gold", "its gold score is {:.0f}% of the full one"),
    "sum solved": ("accuracy", "{:.0f}% of its answers are right"),
    "shows its working": ("worked", "{:.0f}% of its answers come with their working"),
}


def figures_of(name: str) -> dict[str, Any]:
    """What builtin/figures.json says of a shipped model, or of a recipe."""
    return json.loads((models.BUILTIN / "figures.json").read_text(encoding="utf-8"))[name]


def measured_remark(name: str) -> Callable[[str], str]:
    """What is known of a shipped model on other prompts."""
    figures = figures_of(name)

    def remark(kind: str) -> str:
        figure, words = MEASURED[kind]
        return f"On average over other prompts {words.format(100 * figures[figure]['mean'])}."

    return remark


def question_kinds() -> list[Kind]:
    from .questions import world

    questions = world()

    def scored(prompt: str, texts: Sequence[str]) -> np.ndarray:
        found = questions.scores([prompt] * len(texts), texts)
        return np.stack([found.completeness, found.factuality, found.relevance], axis=1)

    told = "It gives {n0:.0%} of the asked facts; {n1:.0%} of its sentences are true, {n2:.0%} to the point."
    return [  # shares of at most five: a thousandth tells them apart
        Kind("complete answer", scored, lambda n: n[:, 0] > 0.999, told),
        Kind("more than half the facts", scored, lambda n: n[:, 0] > 0.501, told),
        Kind("nothing false", scored, lambda n: n[:, 1] > 0.999, told),
        Kind("nothing beside the point", scored, lambda n: n[:, 2] > 0.999, told),
    ]


def of_posts() -> list[Asked]:
    """The language model of the posts."""
    from .posts import world
    from .small_figures import TEMPERATURE, TOP_K, written

    policy, tokenizer = loaded("post-lm", None)

    def writes(prompt: str, count: int, seed: int) -> list[str]:
        return written(policy, tokenizer, [prompt] * count, POST_TOKENS, seed=seed)[0]

    prompts = iter(post.prompt for post in world().draw(20, seed=SEED))
    how = f"Up to {POST_TOKENS} tokens at temperature {TEMPERATURE:g} from the {TOP_K} likeliest"
    return [Asked("post-lm", WORDS["post-lm"], writes, how, prompts, measured_remark("post-lm"))]


def post_kinds() -> list[Kind]:
    from .posts import world

    def gold(prompt: str, texts: Sequence[str]) -> np.ndarray:
        return world().scores([prompt] * len(texts), texts)

    return [Kind("good summary", gold, lambda n: n[:, 0] > 5 / 6 - 1e-3, "Its gold score is {n0:.2f}.")]  # scores are 24ths


# Sums


def of_sums(solved: Path) -> list[Asked]:
    """The model of sums: as shipped, and after GRPO (lesson 15)."""
    from .sums import world

    prompts = iter(one.prompt for one in world().splits["test"])
    found = []
    for name, run in (("sums-lm", None), (SOLVED, solved)):
        words, remark = words_of(name, run), measured_remark(name) if run is None else remark_of(run)
        found.append(sums_asked(name, words, *loaded(name, run), prompts, remark))
    return found


def sums_asked(
    name: str, words: str, model: Any, tokenizer: Any, prompts: Iterator[str], remark: Callable[[str], str] = lambda kind: ""
) -> Asked:
    """A model of sums in the quiz."""
    from .sum_figures import NEW_TOKENS as SUM_TOKENS
    from .sum_figures import answers

    def writes(prompt: str, count: int, seed: int) -> list[str]:
        return answers(model, tokenizer, [prompt], tries=count, seed=seed)[0]

    return Asked(name, words, writes, f"Up to {SUM_TOKENS} tokens at temperature 1", prompts, remark)


def sum_kinds() -> list[Kind]:
    from .sum_figures import last_number
    from .sums import shows_working, world

    def judged(prompt: str, texts: Sequence[str]) -> np.ndarray:
        right = world().answer(prompt)
        return np.array([[last_number(text) == right, shows_working(text), right] for text in texts])

    told = "The right answer is {n2:.0f}."
    return [
        Kind("sum solved", judged, lambda n: n[:, 0] > 0.5, told),
        Kind("shows its working", judged, lambda n: n[:, 1] > 0.5, told),
    ]
