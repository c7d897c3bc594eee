"""A world of five words, small enough that a GPT-2's every completion is listed: where DPO can be held against its exact optimum.

    0 END   1 good   2 bad   3 very   4 film

The prompt is "film"; a completion has at most three tokens, END among them where it comes. The judge likes a completion that
ends, has "good" in it and no "bad": "good END", "very good END", "good good END", ... A liked completion wins against another
three times out of four. That is Bradley and Terry with a reward of log 3 for a liked completion and 0 for any other. With odds
of 3 to 1 a data set is possible that holds each choice exactly as often as it comes (`judged`): training on it is training on
the expectation.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from toy.given.enumerable import EnumerableLM

from .text import Pairs

WORDS = ("END", "good", "bad", "very", "film")
END, GOOD, BAD, VERY, FILM = range(len(WORDS))
LENGTH = 3
PROMPT = (FILM,)
LIKED = math.log(3)
"The reward of a completion that the judge likes, in nats; others have 0."


def likes(tokens: tuple[int, ...]) -> bool:
    """Whether the judge likes a completion, its END included."""
    return END in tokens and GOOD in tokens and BAD not in tokens


def gpt2(seed: int = 1, spread: float = 6.0) -> Any:
    """A GPT-2 of one layer over the five words, in float64, with random weights `spread` times as large as is usual."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(WORDS), n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=END, eos_token_id=END
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(spread)
    return model


def copy_of(model: Any) -> Any:
    """A policy that starts where this model is."""
    return copy.deepcopy(model).requires_grad_(True)


def listed(model: Any) -> EnumerableLM:
    """The ruler around a model of this world."""
    return EnumerableLM(model, len(WORDS), LENGTH, prompt=PROMPT, eos=END)


def rewards(lm: EnumerableLM) -> Float[Tensor, "sequences"]:
    """What the judge's reward gives to every completion in the list."""
    return LIKED * lm.rewards(lambda tokens: float(likes(tokens)))


def judged(lm: EnumerableLM, never_errs: bool = False) -> Int[Tensor, "choices 2"]:
    """Places (chosen, rejected) of every choice: each disliked completion against two liked ones, four times each.

    Three of the four go to the liked one, all four if the judge `never_errs`. The liked ones are taken in turns, so that chains of
    comparisons link all completions.
    """
    liked = rewards(lm) > 0
    good, others = liked.nonzero().flatten().tolist(), (~liked).nonzero().flatten().tolist()
    choices = []
    for turn, other in enumerate(others):
        for one in (good[turn % len(good)], good[(turn + 1) % len(good)]):
            choices += 4 * [(one, other)] if never_errs else 3 * [(one, other)] + [(other, one)]
    return torch.tensor(choices)


def pairs_of(lm: EnumerableLM, choices: Int[Tensor, "choices 2"]) -> Pairs:
    """These choices as a batch of pairs: the prompt, then the completion, then padding (END fills it up; the mask tells)."""
    places = choices.T.flatten()  # chosen rows, then rejected ones
    prompts = torch.tensor(PROMPT).expand(len(places), -1)
    tokens = torch.cat([prompts, lm.sequences[places]], dim=1)
    mask = torch.cat([torch.ones_like(prompts), lm.mask[places].long()], dim=1)
    return Pairs(tokens, mask, torch.full((len(places),), len(PROMPT)))


def text(tokens: tuple[int, ...]) -> str:
    return " ".join(WORDS[token] for token in tokens)
