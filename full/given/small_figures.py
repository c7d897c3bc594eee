"""What the models of questions and posts can do: measured on questions and posts they have not seen, by the exact scores."""

from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np
import torch
from torch import nn

from .build_gpt2 import encoded, language_batches, scored
from .build_questions import RESTORE, denoising_pair, question_comparisons
from .posts import PostWorld
from .questions import QuestionWorld
from .world_figures import interval, stated

TEMPERATURE, TOP_K = 0.7, 20
"How answers and summaries are sampled, as lesson 14 does; greedy ones have temperature 0."
FRESH = 2
"The seed of what is measured on: the test split of the built-in data."


def share_interval(right: np.ndarray) -> dict[str, float]:
    """A share with its 95% interval by Wilson, which stays within 0 and 1."""
    count, share, z = len(right), float(np.mean(right)), 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return {"mean": share, "low": max(middle - half, 0.0), "high": min(middle + half, 1.0)}  # but for rounding they are within


def written(
    model: nn.Module, tokenizer: Any, prompts: Sequence[str], new_tokens: int, *, temperature: float = TEMPERATURE, seed: int = 0
) -> tuple[list[str], np.ndarray]:
    """(what the model writes after each prompt, or of each source; whether it came to its end). temperature 0: greedily."""
    from .rollout import rollout
    from .text import Prompts

    texts, ended = [], []
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, len(prompts), 100):
        rows = tokenizer(list(prompts[start : start + 100]), padding=True, padding_side="left", return_tensors="pt")
        found = rollout(
            model,
            Prompts(rows.input_ids, rows.attention_mask),
            new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            temperature=temperature or 1.0,
            top_k=TOP_K if temperature else 1,
            generator=generator,
        )
        for row, real in zip(found.completion, found.mask):
            ids = row[real].tolist()
            ended.append(ids[-1] == tokenizer.eos_token_id)
            texts.append(tokenizer.decode(ids, skip_special_tokens=True))
    return texts, np.array(ended)


def rouge_l(texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """ROUGE-L's F-measure of each, (texts,), in [0, 1]."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    return np.array([scorer.score(reference, text)["rougeL"].fmeasure for text, reference in zip(texts, references)])


def measure_t5(model: nn.Module, tokenizer: Any, questions: QuestionWorld, count: int = 200, seed: int = FRESH) -> dict[str, Any]:
    """ROUGE-L beside annotators' demonstrations and beside complete answers, and the exact scores of sampled answers."""
    drawn = questions.draw(count, seed)
    demonstrations = [questions.demonstration(question, seed) for question in drawn]
    sources = [question.source for question in drawn]
    greedy, _ = written(model, tokenizer, sources, 64, temperature=0.0)
    sampled, ended = written(model, tokenizer, sources, 64)
    scores, best = questions.scores(drawn, sampled), questions.scores(drawn, greedy)
    return {
        "parameters": model.num_parameters(),
        "questions": count,
        "rouge_l": interval(rouge_l(greedy, demonstrations)),
        "rouge_l_complete": interval(rouge_l(greedy, [question.answer for question in drawn])),
        "completeness": interval(scores.completeness),
        "relevance": interval(scores.relevance),
        "factuality": interval(scores.factuality),
        "greedy_completeness": interval(best.completeness),
        "greedy_relevance": interval(best.relevance),
        "greedy_factuality": interval(best.factuality),
        "ended": float(ended.mean()),
        "demonstrated_completeness": interval(questions.scores(drawn, demonstrations).completeness),
    }


def measure_denoising(model: nn.Module, tokenizer: Any, questions: QuestionWorld, kept: int, count: int = 100) -> dict[str, Any]:
    """How well texts of which a few words were left are restored, written greedily."""
    rng = np.random.default_rng(FRESH)
    pairs = [denoising_pair(questions, question, kept, rng) for question in questions.draw(count, FRESH)]
    texts, _ = written(model, tokenizer, [source for source, _ in pairs], 64, temperature=0.0)
    assert all(source.startswith(RESTORE) for source, _ in pairs)
    return {"restored_rouge_l": interval(rouge_l(texts, [target for _, target in pairs]))}


@torch.no_grad()
def measure_language_model(model: nn.Module, tokenizer: Any, prompts: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
    """Nats a token of the texts behind their prompts, the end token counted."""
    rows, nats = encoded(tokenizer, prompts, texts), []
    for ids, weights in language_batches(rows, 50, tokenizer.pad_token_id, 1e-9, np.random.default_rng(0)):
        logs = model(ids[:, :-1]).logits.log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)
        on = weights[:, 1:] == 1.0
        nats += [-float(logs[n][on[n]].mean()) for n in range(len(ids))]
    return {"parameters": model.num_parameters(), "cross_entropy": interval(np.array(nats))}


def measure_reward(model: nn.Module, tokenizer: Any, rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Accuracy and log loss on comparisons, beside what one would get by always preferring the longer text."""
    prompts, chosen, rejected = ([row[name] for row in rows] for name in ("prompt", "chosen", "rejected"))
    good, bad = scored(model, tokenizer, prompts, chosen), scored(model, tokenizer, prompts, rejected)
    longer = np.array([np.sign(len(a.split()) - len(b.split())) for a, b in zip(chosen, rejected)])
    return {
        "parameters": model.num_parameters(),
        "pairs": len(rows),
        "accuracy": share_interval((1 + np.sign(good - bad)) / 2),
        "log_loss": interval(np.logaddexp(0.0, bad - good)),
        "longer_is_better": share_interval((1 + longer) / 2),
        "spread": float(np.concatenate([good, bad]).std()),
    }


def measure_question_reward(
    model: nn.Module, tokenizer: Any, questions: QuestionWorld, count: int = 250, seed: int = FRESH
) -> dict[str, Any]:
    """As `measure_reward`; and how scores go with the exact completeness, within a question."""
    figures = measure_reward(model, tokenizer, question_comparisons(questions, count, seed))
    drawn = questions.draw(count, seed)
    answers = [text for question in drawn for text in questions.predictions(question, seed)]
    four = [question for question in drawn for _ in range(4)]
    scores = scored(model, tokenizer, [question.source for question in four], answers).reshape(-1, 4)
    exact = questions.scores(four, answers).completeness.reshape(-1, 4)
    return figures | {"questions": count, "correlation": within(scores, exact)}


def measure_post_reward(
    model: nn.Module, tokenizer: Any, posts: PostWorld, count: int = 1000, seed: int = FRESH
) -> dict[str, Any]:
    """As `measure_reward`; and how differences of scores go with those of the gold score."""
    rows = posts.comparisons(count, seed)
    prompts = [row["prompt"] for row in rows]
    both = [[row[side] for row in rows] for side in ("chosen", "rejected")]
    scores = np.stack([scored(model, tokenizer, prompts, texts) for texts in both], axis=1)
    gold = np.stack([posts.scores(prompts, texts) for texts in both], axis=1)
    return measure_reward(model, tokenizer, rows) | {"correlation": within(scores, gold)}


def within(scores: np.ndarray, exact: np.ndarray) -> float:
    """Correlation of (prompts, answers) tables after each prompt's mean is taken away: only such differences mean anything."""
    table = [values - values.mean(axis=1, keepdims=True) for values in (scores, exact)]
    return float(np.corrcoef(table[0].ravel(), table[1].ravel())[0, 1])


def measure_post_lm(model: nn.Module, tokenizer: Any, posts: PostWorld, count: int = 400, seed: int = FRESH) -> dict[str, Any]:
    """Gold score of sampled and of greedy summaries, beside the authors' own."""
    drawn = posts.draw(count, seed)
    prompts = [post.prompt for post in drawn]
    sampled, ended = written(model, tokenizer, prompts, 32)
    greedy, _ = written(model, tokenizer, prompts, 32, temperature=0.0)
    return measure_language_model(model, tokenizer, prompts, [post.summary for post in drawn]) | {
        "posts": count,
        "gold": interval(posts.scores(drawn, sampled)),
        "greedy_gold": interval(posts.scores(drawn, greedy)),
        "authors_gold": interval(posts.scores(drawn, [post.summary for post in drawn])),
        "ended": float(ended.mean()),
    }


def told_questions(figures: dict[str, Any]) -> list[str]:
    """The figures of the question world's models in sentences."""
    before, after, reward = (figures[name] for name in ("question-t5", "question-t5-sft", "question-reward"))
    return [
        f"question-t5: {before['parameters']:,} parameters; restores texts with ROUGE-L {stated(before['restored_rouge_l'])}; "
        f"its answers to questions have {stated(before['rouge_l'])} beside demonstrations.",
        f"question-t5-sft: ROUGE-L {stated(after['rouge_l'])} beside demonstrations of fresh questions; sampled answers have "
        f"completeness {stated(after['completeness'])}, relevance {stated(after['relevance'])}, factuality "
        f"{stated(after['factuality'])}; demonstrations {stated(after['demonstrated_completeness'])} complete.",
        f"question-reward: accuracy {stated(reward['accuracy'])} and log loss {stated(reward['log_loss'])} on {reward['pairs']} "
        f"fresh preferences (the longer answer: {stated(reward['longer_is_better'])}); correlation {reward['correlation']:.2f} "
        "with the exact completeness.",
    ]


def told_posts(figures: dict[str, Any]) -> list[str]:
    """The figures of the post world's models in sentences."""
    lm, reward = figures["post-lm"], figures["post-reward"]
    return [
        f"post-lm: {lm['parameters']:,} parameters; sampled summaries have gold score {stated(lm['gold'])}, greedy ones "
        f"{stated(lm['greedy_gold'])}, the authors' {stated(lm['authors_gold'])}.",
        f"post-reward: accuracy {stated(reward['accuracy'])} and log loss {stated(reward['log_loss'])} on {reward['pairs']} "
        f"fresh comparisons (the longer summary: {stated(reward['longer_is_better'])}); correlation {reward['correlation']:.2f} "
        "with the gold score.",
    ]
