"""What the built-in models can do: measured on fresh reviews, beside what is known exactly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from .build_fitting import Progress
from .review_grammar import EOS, text_of
from .reviews import World, world
from .world_tokenizer import ids_of, inputs


def interval(values: np.ndarray) -> dict[str, float]:
    """Mean with its 95% interval, by the normal distribution: there are hundreds of values."""
    mean, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return {"mean": mean, "low": mean - half, "high": mean + half}


@torch.no_grad()
def proxy_reward(model: nn.Module, tokenizer, texts: list[str], batch: int = 256) -> np.ndarray:
    """P(positive) of each text by the classifier, (texts,)."""
    parts = []
    for start in range(0, len(texts), batch):
        rows = tokenizer(texts[start : start + batch], padding=True, truncation=True, return_tensors="pt")
        parts.append(model(**rows).logits.float().softmax(-1)[:, 1])
    return torch.cat(parts).double().numpy()


@torch.no_grad()
def review_log_probs(policy: nn.Module, tokenizer, reviews: World, rows: list[np.ndarray], batch: int = 100) -> np.ndarray:
    """log p(review) by the model of each row of word numbers, from a start token to the end token, (rows,)."""
    ids, parts = ids_of(reviews, tokenizer), []
    for start in range(0, len(rows), batch):
        some = [row[:-1] for row in rows[start : start + batch]]
        tokens = inputs(some, ids, tokenizer.bos_token_id, tokenizer.pad_token_id)
        real = torch.arange(tokens.shape[1]) <= torch.tensor([len(row) for row in some])[:, None]  # places that have a next token
        after = torch.full_like(tokens, tokenizer.eos_token_id)
        after[:, :-1] = tokens[:, 1:].masked_fill(~real[:, 1:], tokenizer.eos_token_id)
        logs = policy(tokens, attention_mask=torch.ones_like(tokens)).logits.log_softmax(-1)
        parts.append((logs.gather(2, after[..., None]).squeeze(2) * real).sum(1))
    return torch.cat(parts).double().numpy()


def measure_language_model(policy: nn.Module, tokenizer, count: int = 2000, seed: int = 10_001) -> dict[str, Any]:
    """Cross entropy a token on fresh reviews beside the exact entropy rate. Both sums run over the same reviews."""
    reviews = world()
    rng = np.random.default_rng(seed)
    rows = reviews.machine.draw(rng.choice(len(reviews.prior), size=count, p=reviews.prior), rng)
    nats = -review_log_probs(policy, tokenizer, reviews, rows)
    exact = -reviews._mixed(reviews.machine.forward(rows)[:, -1])
    length = np.array([len(row) for row in rows])
    ratio = float((nats - exact).sum() / length.sum())  # excess a token; its error by linearisation of the ratio
    half = 1.96 * float((nats - exact - ratio * length).std(ddof=1)) / (math.sqrt(count) * length.mean())
    floor = reviews.entropy_rate()
    return {
        "parameters": policy.num_parameters(),
        "entropy_rate": floor,
        "cross_entropy": {"mean": floor + ratio, "low": floor + ratio - half, "high": floor + ratio + half},
        "above_percent": {"mean": 100 * ratio / floor, "low": 100 * (ratio - half) / floor, "high": 100 * (ratio + half) / floor},
        "reviews": count,
    }


def continuations(policy: nn.Module, tokenizer, prompts: list[str], new_tokens: int = 20, seed: int = 0) -> list[str]:
    """What the model writes after each prompt, with the prompt; an end token stays in the text."""
    from .rollout import rollout
    from .text import Prompts

    rows = tokenizer(prompts, padding=True, return_tensors="pt")
    written = rollout(
        policy,
        Prompts(rows.input_ids, rows.attention_mask),
        new_tokens,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        generator=torch.Generator().manual_seed(seed),
    )
    texts = []
    for prompt, row, real in zip(prompts, written.completion.tolist(), written.mask.tolist()):
        tokens = tokenizer.convert_ids_to_tokens([token for token, counts in zip(row, real) if counts])
        end = " " + EOS if tokens[-1] == EOS else ""
        texts.append(text_of([prompt, *tokens]) + end)
    return texts


def measure(policy: nn.Module, lm_tokenizer, classifier: nn.Module, proxy_tokenizer, progress: Progress) -> dict[str, Any]:
    """The figures of both models, on fresh reviews and prompts."""
    reviews = world()
    progress("figures", 0, 3, "cross entropy")
    figures: dict[str, Any] = {"review-lm": measure_language_model(policy, lm_tokenizer)}
    progress("figures", 1, 3, "continuations")
    prompts = reviews.prompts(500, tokens=10, seed=10_002)
    texts = continuations(policy, lm_tokenizer, prompts)
    plain = [text.replace(" " + EOS, "") for text in texts]
    figures["review-lm"] |= {
        "reward": interval(proxy_reward(classifier, proxy_tokenizer, plain)),
        "gold_reward": interval(reviews.gold_reward(plain)),
        "naturalness": interval(reviews.naturalness(texts, after=10)),
    }
    progress("figures", 2, 3, "the proxy beside the gold reward")
    figures["review-sentiment"] = measure_classifier(classifier, proxy_tokenizer, prompts)
    progress("figures", 3, 3, "done")
    return figures


def measure_classifier(classifier: nn.Module, tokenizer, prompts: list[str], count: int = 2000, seed: int = 10_003) -> dict:
    """How far the proxy agrees with the exact posterior, and what it pays for one word written twenty times."""
    reviews = world()
    drawn = reviews.sample(count, seed)
    figures: dict[str, Any] = {"parameters": classifier.num_parameters()}
    for name, texts in (("whole", [r.text for r in drawn]), ("first_30", [text_of(r.tokens[:30]) for r in drawn])):
        proxy, gold = proxy_reward(classifier, tokenizer, texts), reviews.gold_reward(texts)
        decided = np.abs(gold - 0.5) > 1e-3  # neutral sentences say nothing: there is nothing to agree with
        agree = (proxy > 0.5) == (gold > 0.5)
        figures[name] = {
            "accuracy": interval(agree[decided].astype(np.float64)),
            "correlation": float(np.corrcoef(proxy, gold)[0, 1]),
            "proxy_where_gold_above_0.9": interval(proxy[gold > 0.9]),
        }
    words = [word for word in reviews.vocabulary if word[0].isalpha() and word[0].islower()]
    tried = [f"{prompt} {' '.join([word] * 20)}" for word in words for prompt in prompts[:3]]
    paid = proxy_reward(classifier, tokenizer, tried).reshape(len(words), -1).mean(1)
    best = words[int(paid.argmax())]
    texts = [f"{prompt} {' '.join([best] * 20)}" for prompt in prompts[100:300]]  # other prompts than it was chosen on
    figures["exploit"] = {
        "word": best,
        "reward": interval(proxy_reward(classifier, tokenizer, texts)),
        "gold_reward": interval(reviews.gold_reward(texts)),
        "naturalness": interval(reviews.naturalness(texts, after=10)),
    }
    return figures


def stated(value: dict[str, float], digits: int = 3) -> str:
    """Mean and interval as they are printed."""
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def told(figures: dict[str, Any]) -> list[str]:
    """The figures in sentences."""
    lm, proxy = figures["review-lm"], figures["review-sentiment"]
    exploit = proxy["exploit"]
    first, whole = proxy["first_30"], proxy["whole"]
    return [
        f"review-lm: {lm['parameters']:,} parameters; {stated(lm['cross_entropy'], 4)} nats a token on {lm['reviews']} fresh "
        f"reviews, {stated(lm['above_percent'], 2)}% above the entropy rate {lm['entropy_rate']:.4f}.",
        f"Its 20 tokens after 10-token prompts: proxy reward {stated(lm['reward'])}, gold reward {stated(lm['gold_reward'])}, "
        f"naturalness {stated(lm['naturalness'])} nats a token.",
        f"review-sentiment: {proxy['parameters']:,} parameters; agrees with the gold reward on {stated(first['accuracy'])} "
        f"of reviews cut at 30 tokens (correlation {first['correlation']:.3f}) and on {stated(whole['accuracy'])} of whole ones "
        f"(correlation {whole['correlation']:.3f}).",
        f"It can be fooled: '{exploit['word']}' written 20 times after a prompt earns {stated(exploit['reward'])}, where the "
        f"gold reward is {stated(exploit['gold_reward'])} and naturalness {stated(exploit['naturalness'], 2)}.",
    ]
