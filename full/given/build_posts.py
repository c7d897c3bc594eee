"""The models of the post world, made from nothing: a language model that has read posts with their authors' summaries, and a
reward model of comparisons of summaries."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Iterator

import numpy as np
from torch import Tensor, nn

from .build_fitting import Made, Progress, fit
from .build_gpt2 import comparison_batches, comparison_loss, encoded, gpt2, joined, language_batches, language_loss, reward_model
from .posts import PostWorld
from .word_tokenizer import word_tokenizer

POSITIONS = 128
"Tokens of a post with its summary at most; the longest have some twenty fewer."


@dataclass(frozen=True)
class PostRecipe:
    """How the models are made. Everything is drawn from `seed`."""

    seed: int = 0
    width: int = 64
    layers: int = 2
    heads: int = 4
    batch: int = 32
    steps: int = 900
    peak: float = 5e-3
    warm_up: int = 50
    on_prompt: float = 0.2
    "Weight of a post's tokens beside its summary's."
    comparisons: int = 4000
    reward_batch: int = 32
    epochs: int = 3
    reward_peak: float = 2e-3


def post_tokenizer(posts: PostWorld, padding_side: str) -> Any:
    """The post world's words."""
    return word_tokenizer(posts.vocabulary, padding_side=padding_side, positions=POSITIONS)


def post_batches(posts: PostWorld, tokenizer: Any, recipe: PostRecipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Fresh posts with their authors' summaries, without end."""
    rng = np.random.default_rng(recipe.seed + 30)
    turn = 20_000 + 100 * recipe.seed
    while True:
        drawn = posts.draw(25 * recipe.batch, turn)
        rows = encoded(tokenizer, [post.prompt for post in drawn], [post.summary for post in drawn])
        yield from language_batches(rows, recipe.batch, tokenizer.pad_token_id, recipe.on_prompt, rng)
        turn += 1


def train_post_lm(posts: PostWorld, recipe: PostRecipe, tokenizer: Any, progress: Progress) -> nn.Module:
    """A language model of posts and summaries."""
    sizes = {"width": recipe.width, "layers": recipe.layers, "heads": recipe.heads, "positions": POSITIONS}
    model = gpt2(tokenizer, **sizes, seed=recipe.seed + 31)
    data = post_batches(posts, tokenizer, recipe)
    plan = {"steps": recipe.steps, "peak": recipe.peak, "warm_up": recipe.warm_up}
    return fit(model, data, lambda batch: language_loss(model, batch), **plan, name="post-lm", progress=progress)


def train_post_reward(
    posts: PostWorld, recipe: PostRecipe, language_model: nn.Module, tokenizer: Any, progress: Progress
) -> nn.Module:
    """A reward model that begins as the language model and has seen comparisons."""
    model = reward_model(language_model, recipe.seed + 32)
    pairs = joined(tokenizer, posts.comparisons(recipe.comparisons, 1))
    rng = np.random.default_rng(recipe.seed + 33)
    batch, pad = recipe.reward_batch, tokenizer.pad_token_id
    data = (some for _ in range(recipe.epochs) for some in comparison_batches(pairs, batch, pad, rng))
    steps = recipe.epochs * math.ceil(len(pairs) / batch)
    plan = {"steps": steps, "peak": recipe.reward_peak, "warm_up": steps // 10}
    return fit(model, data, lambda some: comparison_loss(model, some), **plan, name="post-reward", progress=progress)


def build(progress: Progress, recipe: PostRecipe) -> Made:
    """Both, with their figures."""
    from . import small_figures as measured
    from .posts import world

    posts = world()
    left, right = (post_tokenizer(posts, side) for side in ("left", "right"))
    lm = train_post_lm(posts, recipe, left, progress)
    reward = train_post_reward(posts, recipe, lm, right, progress)
    progress("post figures", 0, 2, "the language model")
    of_lm = measured.measure_post_lm(lm, left, posts)
    progress("post figures", 1, 2, "the reward model beside the gold score")
    of_reward = measured.measure_post_reward(reward, right, posts)
    progress("post figures", 2, 2, "done")
    figures = {"post-lm": of_lm, "post-reward": of_reward, "post-recipe": asdict(recipe)}
    return {"post-lm": (lm, left), "post-reward": (reward, right)}, figures
