"""What `climb run overoptimisation` measures: proxy and gold reward of a policy, and how far it is from the reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from full.given import data, models
from full.given.rollout import rollout
from full.given.scoring import completion_logits
from full.given.text import Rollout

from . import measures

Divergence = Callable[[Tensor, Tensor, Tensor], Tensor]
"(log-probabilities of every token under the policy, those under the reference, mask) -> KL before each token."
Blend = Callable[[Tensor], Tensor]
"Rewards of several models, (models, texts) -> one for each text, (texts,)."


@dataclass
class TwoJudges(measures.Judge):
    """The proxy, one classifier or several, which gives the reward; and the truth, the world's posterior or a classifier."""

    truth: tuple[nn.Module, Any] | None = None
    "Classifier and tokenizer that stand for the truth; None: the world's exact posterior."
    others: Sequence[tuple[nn.Module, Any]] = field(default_factory=tuple)
    "More proxies. Where there are some, `blend` makes one reward of them and of the first."
    blend: Blend | None = None

    def rewards(self, texts: list[str]) -> Tensor:
        first = super().rewards(texts)
        if not self.others:
            return first
        more = [models.positive_probability(*judge, texts) for judge in self.others]
        return self.blend(torch.stack([first, *more]))

    def gold(self, texts: list[str]) -> np.ndarray:
        if self.truth is not None:
            return models.positive_probability(*self.truth, texts).cpu().double().numpy()
        return np.asarray(self.world.gold_reward(texts), dtype=float)


@torch.no_grad()
def written(policy: nn.Module, prompts: Any, tokenizer: Any, new_tokens: int, generator: torch.Generator) -> Rollout:
    """What a policy writes: every token can come, at temperature 1."""
    tokens = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return rollout(policy, prompts, new_tokens, **tokens, generator=generator)


@torch.no_grad()
def distances(policy: nn.Module, reference: nn.Module, found: Rollout, divergence: Divergence) -> Tensor:
    """For each row the sum over its tokens of the KL before each, (rows,): its mean is KL(policy||reference), without bias.

    The whole distribution is compared before every token that was drawn, and not only the token: the same mean as that of
    log pi - log pi_ref, with less noise. Policies far from the reference are measured by it to the percent with few rows.
    """
    own, theirs = (completion_logits(model, found).float().log_softmax(-1) for model in (policy, reference))
    return divergence(own, theirs, found.mask).sum(1)


def measured(
    policy: nn.Module,
    reference: nn.Module,
    prompts: list[list[int]],
    judge: TwoJudges,
    config: Any,
    divergence: Divergence,
    device: Any,
) -> dict[str, Any]:
    """One point of a curve: a policy's figures on the fixed prompts with their 95% intervals, always drawn with the same numbers.

    reward: what the method is paid for.  gold_reward: the truth; gold_halves: its means on two halves of the prompts, so that
    what is chosen on one can be reported on the other.  kl: nats a completion.
    """
    generator = torch.Generator().manual_seed(measures.SEED + config.seed)
    columns: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(prompts), config.eval_batch):
        some = prompts[start : start + config.eval_batch]
        batch = data.prompts_of(some, judge.tokenizer.pad_token_id).to(device)
        found = written(policy, batch, judge.tokenizer, config.new_tokens, generator)
        texts, mask = judge.texts(found), found.mask
        row = {"reward": judge.rewards(texts), "kl": distances(policy, reference, found, divergence)}
        if judge.others:
            row["first_proxy"] = measures.Judge.rewards(judge, texts)
        row |= {"completion_length": mask.sum(1), "eos_rate": ((found.completion == judge.tokenizer.eos_token_id) & mask).any(1)}
        row = {name: values.cpu().double().numpy() for name, values in row.items()} | {"gold_reward": judge.gold(texts)}
        natural = judge.naturalness(judge.texts(found, special=True), some)
        if natural is not None:
            row["naturalness"] = natural
        for name, values in row.items():
            columns.setdefault(name, []).append(values)
    table = {name: np.concatenate(parts) for name, parts in columns.items()}
    return {name: measures.interval(values) for name, values in table.items()} | {"gold_halves": halves(table["gold_reward"])}


def halves(values: np.ndarray) -> list[float]:
    """The mean of the values at even places and that at odd ones; of a single value the same twice."""
    return [float(values[place::2].mean()) if len(values) > 1 else float(values.mean()) for place in (0, 1)]
