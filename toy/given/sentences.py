"""Sentences of up to four tokens over the six words: the world of lesson 6. Given code: used as it is.

Tokens 0 to 5 are the six words, 6 is END. There are 1,555 sentences, so every question about a policy has an exact answer.
A policy, a reference or a value function reads `shift_right(tokens)` and answers for every position at once.
"""

from __future__ import annotations

from typing import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from . import distributions as exact
from .enumerable import EnumerableLM
from .tabular import TabularLM
from .words import SCORES, WORDS

END = len(WORDS)  # the token that ends a sentence
VOCABULARY = len(WORDS) + 1
LENGTH = 4  # tokens, END included
Sampler = Callable[[nn.Module, int, float], tuple[Tensor, Tensor]]


def sentence_score(sentence: tuple[int, ...]) -> float:
    """The reward of one sentence, END included: +1 for each different positive word, -1 for every negative word, -1 without END.

    "happy joyful END" earns 2, "happy happy END" 1, "happy sad END" 0, "END" 0, "happy joyful happy joyful" 1.
    """
    words = [token for token in sentence if token != END]
    good = {token for token in words if SCORES[token] > 0}
    return float(len(good) - sum(SCORES[token] < 0 for token in words) - (END not in sentence))


def sentence_scores(tokens: Int[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch"]:
    """`sentence_score` of each row's real tokens, float64."""
    rows = zip(tokens.tolist(), mask.sum(1).tolist())
    return torch.tensor([sentence_score(tuple(row[:count])) for row, count in rows], dtype=torch.float64)


def sentence_text(sentence: tuple[int, ...]) -> str:
    """The sentence for a person: "happy joyful END"."""
    return " ".join([*WORDS, "END"][token] for token in sentence)


def shift_right(tokens: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
    """What a model reads to say `tokens`: the start token 0, then all but the last. Its position t answers for tokens[:, t]."""
    return nn.functional.pad(tokens[:, :-1], (1, 0), value=0)


def log_probs_of(
    tokens: Int[Tensor, "batch time"], logits: Float[Tensor, "batch time vocabulary"]
) -> Float[Tensor, "batch time"]:
    """log softmax(logits[b, t])[tokens[b, t]]: the log-probability of each token, in nats, for logits of its own position."""
    return torch.log_softmax(logits, -1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def sampler(seed: int, length: int = LENGTH) -> Sampler:
    """A function sample(policy, count, temperature) -> (tokens, mask) that draws sentences from softmax(logits / temperature).

    tokens: (count, length) long, filled up with END after a sentence's end.
    mask: (count, length) bool, True on real tokens, the first END included. The mask says what is real, the token id does not.
    All randomness comes from one generator, seeded here: the second call continues where the first stopped.
    """
    generator = torch.Generator().manual_seed(seed)

    def sample(policy: nn.Module, count: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        inputs = torch.zeros(count, 1, dtype=torch.long)
        running, real = torch.ones(count, dtype=torch.bool), []
        for _ in range(length):
            with torch.no_grad():
                probs = torch.softmax(policy(inputs)[:, -1] / temperature, -1)
            drawn = torch.multinomial(probs, 1, generator=generator)
            drawn[~running] = END
            real.append(running)
            running = running & (drawn[:, 0] != END)
            inputs = torch.cat([inputs, drawn], dim=1)
        return inputs[:, 1:], torch.stack(real, dim=1)

    return sample


class ValueTable(nn.Module):
    """A value function with one number for every prefix, all zero at first: (batch, time) tokens -> (batch, time), float64.

    It numbers prefixes as `TabularLM` does. Of the prefixes after an END no sentence makes use.
    """

    def __init__(self, vocabulary: int = VOCABULARY, length: int = LENGTH) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.table = nn.Parameter(torch.zeros(sum(vocabulary**t for t in range(length)), dtype=torch.float64))

    def forward(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
        """The value of each prefix; the first token is the start token and says nothing."""
        nodes = [torch.zeros_like(tokens[:, 0])]
        for column in tokens[:, 1:].unbind(1):
            nodes.append(nodes[-1] * self.vocabulary + 1 + column)
        return self.table[torch.stack(nodes, dim=1)]


def reference_policy(length: int = LENGTH) -> TabularLM:
    """How people here write, before any training: moods last, nobody likes to repeat a word, and sentences tend to end.

    The logit of a word is 0.8 more after a word of the same sign and 0.8 less after one of the other, and 1 less if it was said
    before; the logit of END is the number of words so far, minus 1. It is frozen: a policy is
    `copy.deepcopy(reference).requires_grad_(True)`.
    """
    model = TabularLM(VOCABULARY, length).requires_grad_(False)
    prefixes: list[tuple[tuple[int, ...], int]] = [((), 0)]
    while prefixes:
        said, node = prefixes.pop()
        model.logits[0, node] = torch.tensor(_habits(said), dtype=torch.float64)
        if len(said) + 1 < length:
            prefixes += [((*said, token), node * VOCABULARY + 1 + token) for token in range(END)]
    return model


def _habits(said: tuple[int, ...]) -> list[float]:
    mood = SCORES[said[-1]] if said else 0.0
    return [*(0.8 * mood * SCORES[word] - (word in said) for word in range(END)), len(said) - 1.0]


def listed(model: nn.Module, length: int = LENGTH) -> EnumerableLM:
    """Every sentence with its exact probability under the model: the ruler of this world."""
    return EnumerableLM(model, VOCABULARY, length, eos=END)


class Ruler:
    """Exact figures of policies in this world, against the best policy for one beta: what a run is measured by.

    scores: (sentences,), in the order of `reference.sequences`.
    target: log pi*, (sentences,): pi*(y) = reference(y) exp(score(y) / beta) / Z (lesson 5).
    best: J* = beta log Z, the most that J = E[score] - beta KL(policy||reference) can be.
    """

    def __init__(self, reference: nn.Module, beta: float, length: int = LENGTH) -> None:
        self.beta, self.length, self.reference = beta, length, listed(reference, length)
        self.scores = self.reference.rewards(sentence_score)
        with torch.no_grad():
            self.target = self.reference.optimum(self.scores, beta)
            self.best = beta * float(self.reference.log_partition(self.scores, beta))

    def measure(self, policy: nn.Module) -> dict[str, float]:
        """reward E[score], kl (nats a sentence), objective J, entropy (nats a sentence), tv (total variation to pi*)."""
        with torch.no_grad():
            return self._figures(listed(policy, self.length).log_probs())

    def optimum(self) -> dict[str, float]:
        """The same figures of pi*."""
        return self._figures(self.target)

    def likeliest(self, policy: nn.Module, count: int = 6) -> dict[str, float]:
        """The `count` most probable sentences and their probabilities."""
        with torch.no_grad():
            probs, places = listed(policy, self.length).probs().topk(count)
        rows = zip(self.reference.sequences[places].tolist(), self.reference.lengths[places].tolist(), probs.tolist())
        return {sentence_text(tuple(row[:length])): round(probability, 6) for row, length, probability in rows}

    def _figures(self, log_p: Float[Tensor, "sentences"]) -> dict[str, float]:
        with torch.no_grad():
            reward, kl = float(exact.expectation(log_p, self.scores)), float(exact.kl(log_p, self.reference.log_probs()))
            entropy, tv = float(exact.entropy(log_p)), float(exact.total_variation(log_p, self.target))
        return {"reward": reward, "kl": kl, "objective": reward - self.beta * kl, "entropy": entropy, "tv": tv}
