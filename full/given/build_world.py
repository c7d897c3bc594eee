"""The built-in models, made from nothing. Those of the reviews are made here: a language model, and a sentiment classifier that
has seen few labels; see build_questions.py, build_posts.py and build_sums.py for the others.

    figures = build(Path("out"), progress)      # out/review-lm, out/question-t5, ...: ordinary Hugging Face directories

The language model learns from drawn reviews. What it is shown at every word is not the word that was drawn but the grammar's own
distribution of it, which is known exactly: the same expected gradient as from the words themselves, with far less noise. The
classifier is a proxy on purpose: it has seen two thousand labels, where the language model reads tens of thousands of reviews.
"""

from __future__ import annotations

import copy
import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from . import build_posts, build_questions, build_sums
from .build_fitting import Made, Progress, schedule
from .build_posts import PostRecipe
from .build_questions import QuestionRecipe
from .build_sums import SumRecipe
from .review_grammar import text_of
from .reviews import World, world
from .world_figures import measure
from .world_tokenizer import POSITIONS, ids_of, inputs, tokenizer_of


@dataclass(frozen=True)
class Recipe:
    """How the models are made. Everything is drawn from `seed`."""

    seed: int = 0
    width: int = 128
    layers: int = 3
    heads: int = 4
    batch: int = 64
    phases: tuple[tuple[int, float], ...] = ((800, 3e-3), (400, 1.5e-3))
    "Steps and learning rate after the warm-up, which falls to 0 as a cosine; each phase has a new optimizer."
    warm_up: int = 50
    with_start: float = 0.3
    "Share of batches whose reviews stand behind an `<eos>`: the others begin as prompts do, with the first word."
    proxy_width: int = 32
    proxy_layers: int = 1
    proxy_labels: int = 2000
    "Reviews whose label the classifier has seen."
    proxy_epochs: int = 6
    proxy_batch: int = 32
    proxy_peak: float = 3e-3
    half_precision: bool = True
    "Whether matrix products are in bfloat16 while the language model learns."


# The language model


def language_model(recipe: Recipe, tokenizer) -> nn.Module:
    """A GPT-2 with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(recipe.seed)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=POSITIONS,
            n_embd=recipe.width,
            n_layer=recipe.layers,
            n_head=recipe.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def batches(reviews: World, recipe: Recipe, steps: int, seed: int):
    """Word numbers of `batch` reviews at a time, of about the same length each, without their end tokens."""
    rng = np.random.default_rng(seed)
    together = 25
    for start in range(0, steps, together):
        count = min(together, steps - start)
        sentiments = rng.choice(len(reviews.prior), size=count * recipe.batch, p=reviews.prior)
        rows = sorted((row[:-1] for row in reviews.machine.draw(sentiments, rng)), key=len)
        for which in rng.permutation(count):
            yield rows[which * recipe.batch : (which + 1) * recipe.batch]


def targets(reviews: World, rows: list[np.ndarray], ids: np.ndarray, size: int) -> Tensor:
    """(rows, longest + 1, size): the grammar's distribution of the next token after t words; 0 where a row is shorter."""
    exact = reviews.machine.next_words(rows)
    table = torch.zeros(exact.shape[0], size)
    table[:, torch.from_numpy(ids)] = torch.from_numpy(exact.toarray().astype(np.float32))
    return table.view(len(rows), -1, size)


def train_language_model(reviews: World, recipe: Recipe, tokenizer, progress: Progress) -> nn.Module:
    """A language model of the reviews.

    A batch is worked on in two halves at a time, each on one core, by two models that share their weights: the sum of the halves'
    gradients does not depend on how many cores there are.
    """
    model, ids = language_model(recipe, tokenizer), ids_of(reviews, tokenizer)
    twin = copy.deepcopy(model)
    pairs = list(zip(model.parameters(), twin.parameters()))
    for own, other in pairs:
        other.data = own.data
    groups = [[p for p in model.parameters() if p.ndim > 1], [p for p in model.parameters() if p.ndim < 2]]
    floor, recent, done, total = reviews.entropy_rate(), None, 0, sum(steps for steps, _ in recipe.phases)

    def half(replica: nn.Module, rows: list[np.ndarray], started: bool, whole: int) -> float:
        """The gradient of these rows' share of the loss. Returns their share of KL(grammar||model) a token."""
        goal, tokens, real = shown(reviews, rows, ids, tokenizer, started)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.half_precision):
            hidden = replica.transformer(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[real]  # (N, D)
            logits = replica.lm_head(hidden)
        loss = nn.functional.cross_entropy(logits.float(), goal, reduction="sum") / whole
        loss.backward()
        return float(loss.detach() + torch.special.xlogy(goal, goal).sum() / whole)

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(2) as pool:
            for phase, (steps, peak) in enumerate(recipe.phases):
                decayed = [{"params": group, "weight_decay": decay} for group, decay in zip(groups, (0.01, 0.0))]
                optimizer = torch.optim.AdamW(decayed, betas=(0.9, 0.98), fused=True)
                coins = np.random.default_rng(recipe.seed + 1 + 100 * phase)
                for step, rows in enumerate(batches(reviews, recipe, steps, recipe.seed + 2 + 100 * phase)):
                    for group in optimizer.param_groups:
                        group["lr"] = peak * schedule(step, steps, recipe.warm_up)
                    started = coins.random() < recipe.with_start
                    whole = sum(map(len, rows)) + started * len(rows)
                    optimizer.zero_grad(set_to_none=True)
                    excess = sum(pool.map(half, (model, twin), (rows[::2], rows[1::2]), (started,) * 2, (whole,) * 2))
                    for own, other in pairs:
                        own.grad += other.grad
                        other.grad = None
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                    done += 1
                    recent = excess if recent is None else 0.9 * recent + 0.1 * excess
                    progress("review-lm", done, total, f"{recent:.4f} nats a token above the least possible {floor:.4f}")
    finally:
        torch.set_num_threads(before)
    return model.eval()


def shown(reviews: World, rows: list[np.ndarray], ids: np.ndarray, tokenizer, started: bool) -> tuple[Tensor, Tensor, Tensor]:
    """What the model reads and is shown: (distribution of the next token at each real place (N, V), tokens and real (B, T))."""
    wanted = targets(reviews, rows, ids, len(tokenizer))  # (B, T, V)
    tokens = inputs(rows, ids, tokenizer.bos_token_id, tokenizer.pad_token_id)
    if not started:
        wanted, tokens = wanted[:, 1:], tokens[:, 1:]
    real = wanted.sum(-1) > 0.5
    return wanted[real], tokens, real


# The classifier


def train_classifier(reviews: World, recipe: Recipe, tokenizer, progress: Progress) -> nn.Module:
    """A DistilBERT that has seen the labels of `proxy_labels` reviews, whole and cut after 8 tokens or more."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    torch.manual_seed(recipe.seed + 3)
    model = DistilBertForSequenceClassification(
        DistilBertConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=POSITIONS,
            dim=recipe.proxy_width,
            n_layers=recipe.proxy_layers,
            n_heads=recipe.heads,
            hidden_dim=2 * recipe.proxy_width,
            dropout=0.1,
            attention_dropout=0.1,
            seq_classif_dropout=0.1,
            pad_token_id=tokenizer.pad_token_id,
            id2label={0: "negative", 1: "positive"},
            label2id={"negative": 0, "positive": 1},
        )
    ).train()
    drawn = reviews.sample(recipe.proxy_labels, recipe.seed + 4)
    rng = np.random.default_rng(recipe.seed + 5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.proxy_peak, weight_decay=0.01, fused=True)
    steps, step = recipe.proxy_epochs * math.ceil(len(drawn) / recipe.proxy_batch), 0
    for _ in range(recipe.proxy_epochs):
        order = rng.permutation(len(drawn))
        for start in range(0, len(drawn), recipe.proxy_batch):
            chosen = [drawn[n] for n in order[start : start + recipe.proxy_batch]]
            texts = [text_of(review.tokens[: rng.integers(8, 2 * len(review.tokens))]) for review in chosen]  # half of them whole
            labels = torch.tensor([review.label for review in chosen])
            for group in optimizer.param_groups:
                group["lr"] = recipe.proxy_peak * schedule(step, steps, steps // 10)
            loss = model(**tokenizer(texts, padding=True, return_tensors="pt"), labels=labels).loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            step += 1
            progress("review-sentiment", step, steps, f"loss {loss.item():.3f}")
    return model.eval()


# All, with their figures

WORLDS = ("reviews", "questions", "posts", "sums")


def build(
    out: Path,
    progress: Progress,
    recipe: Recipe = Recipe(),
    *,
    worlds: Sequence[str] = WORLDS,
    questions: QuestionRecipe = QuestionRecipe(),
    posts: PostRecipe = PostRecipe(),
    sums: SumRecipe = SumRecipe(),
) -> dict[str, Any]:
    """Makes the models of these worlds and measures them. Writes a folder each and out/figures.json when all is done."""
    makers = {
        "reviews": lambda: build_reviews(progress, recipe),
        "questions": lambda: build_questions.build(progress, questions),
        "posts": lambda: build_posts.build(progress, posts),
        "sums": lambda: build_sums.build(progress, sums),
    }
    figures: dict[str, Any] = {}
    models: dict[str, tuple[nn.Module, Any]] = {}
    with torch.random.fork_rng(devices=[]):
        for name in (name for name in WORLDS if name in worlds):
            found, measured = makers[name]()
            models |= found
            figures |= measured
    for name, (model, tokenizer) in models.items():
        save(model, tokenizer, out / name)
    (out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def build_reviews(progress: Progress, recipe: Recipe) -> Made:
    reviews = world()
    lm_tokenizer, proxy_tokenizer = tokenizer_of(reviews, "left"), tokenizer_of(reviews, "right")
    classifier = train_classifier(reviews, recipe, proxy_tokenizer, progress)
    policy = train_language_model(reviews, recipe, lm_tokenizer, progress)
    figures = measure(policy, lm_tokenizer, classifier, proxy_tokenizer, progress) | {"recipe": asdict(recipe)}
    return {"review-lm": (policy, lm_tokenizer), "review-sentiment": (classifier, proxy_tokenizer)}, figures


def told(figures: dict[str, Any]) -> list[str]:
    """The figures in sentences."""
    from .small_figures import told_posts, told_questions
    from .sum_figures import told_sums
    from .world_figures import told as told_reviews

    sayers = {"review-lm": told_reviews, "question-t5": told_questions, "post-lm": told_posts, "sums-lm": told_sums}
    return [line for name, sayer in sayers.items() if name in figures for line in sayer(figures)]


def save(model: nn.Module, tokenizer, folder: Path) -> None:
    """An ordinary Hugging Face directory, which older versions of the library read too."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    config.pop("backend", None)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").chmod(0o644)
