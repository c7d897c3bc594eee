"""The ruler: a language model so small that every sequence it can write is listed, and every question has an exact answer.

    policy = EnumerableLM.tabular(vocabulary=4, length=3)              # or EnumerableLM(gpt2, 4, 3, prompt=[0])
    reference = policy.frozen()
    reward = policy.rewards(lambda tokens: tokens.count(2))            # (64,)
    target = reference.optimum(reward, beta=0.5)                       # log pi*, (64,)
    objective = policy.expected(reward) - 0.5 * policy.kl(reference)   # exact, differentiable
    distance = policy.total_variation(target)

Several prompts are several of these around one model: `[policy.given(prompt) for prompt in prompts]`.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from itertools import chain
from typing import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from . import distributions as exact
from .sequences import SequenceList
from .tabular import TabularLM

MAX_SCORES = 2**24  # entries of the matrix of scores: 128 MiB of float64


class EnumerableLM:
    """Every sequence that `model` can generate after `prompt`, with exact probabilities. One object answers for one prompt.

    model: maps tokens (batch, time) to next-token logits (batch, time, vocabulary), or to an object that has them as
        `.logits`. It is measured with dropout off and left in the mode it was in. Logits are taken to float64 on the CPU: the
        answers are exact for a model in float64, and as exact as its logits for a model in float32.
    vocabulary: tokens are 0 .. vocabulary - 1, and the model gives a logit to each.
    length: the number of tokens after which a sequence ends.
    prompt: the tokens before the first generated one, at least one (a model without a prompt gets its start token). For a
        `TabularLM` it is the number of the context.
    eos: the token that ends a sequence early. None: every sequence has `length` tokens.

    Attributes, in the order in which everything here lists the sequences (lexicographic):
        sequences: (sequences, length) long; after its end a sequence is filled up with `eos`.
        mask: (sequences, length) bool, True on generated tokens, `eos` included.
        lengths: (sequences,) long, the number of generated tokens, `eos` included.

    Probabilities are natural logs (nats). `other` is an EnumerableLM of the same sequences, or log-probabilities (sequences,).
    Raises ValueError, naming the argument, for sizes below 1 and for more than 16,384 sequences.
    """

    def __init__(
        self, model: nn.Module, vocabulary: int, length: int, *, prompt: Sequence[int] = (0,), eos: int | None = None
    ) -> None:
        self.model, self.vocabulary, self.length, self.eos = model, vocabulary, length, eos
        self._listing = SequenceList(vocabulary, length, eos)
        self.sequences, self.mask, self.lengths = self._listing.tokens, self._listing.mask, self._listing.lengths
        self.prompt = self._check_prompt(prompt)

    @classmethod
    def tabular(
        cls,
        vocabulary: int,
        length: int,
        *,
        contexts: int = 1,
        eos: int | None = None,
        by_position: bool = False,
        generator: torch.Generator | None = None,
        spread: float = 1.0,
    ) -> EnumerableLM:
        """One around a new `TabularLM`, at context 0; `given((1,))` looks at context 1. See `TabularLM` for the arguments."""
        model = TabularLM(vocabulary, length, contexts=contexts, by_position=by_position, generator=generator, spread=spread)
        return cls(model, vocabulary, length, eos=eos)

    def given(self, prompt: Sequence[int]) -> EnumerableLM:
        """The same model after another prompt: parameters are shared, nothing is copied."""
        other = copy.copy(self)
        other.prompt = other._check_prompt(prompt)
        return other

    def frozen(self) -> EnumerableLM:
        """A copy whose parameters are fixed: the reference policy, or the old policy, of a training run."""
        other = copy.copy(self)
        other.model = copy.deepcopy(self.model).requires_grad_(False)
        return other

    def __len__(self) -> int:
        """The number of sequences."""
        return len(self.sequences)

    # Probabilities

    def log_probs(self) -> Float[Tensor, "sequences"]:
        """log p(y) of every sequence, differentiable in the model's parameters. Their exponentials sum to 1."""
        return self.token_log_probs().sum(-1)

    def probs(self) -> Float[Tensor, "sequences"]:
        """p(y) of every sequence."""
        return self.log_probs().exp()

    def token_log_probs(self) -> Float[Tensor, "sequences length"]:
        """log p(token | prompt, tokens before it) of every token of every sequence; 0 after a sequence's end."""
        rows = self._next_token_log_probs()
        picked = rows[self._listing.row.unsqueeze(1), torch.arange(self.length), self.sequences]
        return picked.masked_fill(~self.mask, 0.0)

    def next_token_log_probs(self) -> Float[Tensor, "sequences length vocabulary"]:
        """The whole next-token distribution before every token of every sequence; without meaning after a sequence's end."""
        return self._next_token_log_probs()[self._listing.row]

    def entropy(self) -> Float[Tensor, ""]:
        """H(p) in nats, of whole sequences."""
        return exact.entropy(self.log_probs())

    # Rewards

    def rewards(self, function: Callable[[tuple[int, ...]], float]) -> Float[Tensor, "sequences"]:
        """`function` of the generated tokens of each sequence (a tuple, `eos` included), as a reward vector."""
        listed = zip(self.sequences.tolist(), self.lengths.tolist())
        return self._reward([float(function(tuple(tokens[:count]))) for tokens, count in listed])

    def expected(self, reward: Float[Tensor, "sequences"]) -> Float[Tensor, ""]:
        """E[r] = sum_y p(y) r(y), differentiable in the parameters (and in `reward`)."""
        return exact.expectation(self.log_probs(), self._reward(reward))

    def gradient(self, value: Float[Tensor, ""]) -> Float[Tensor, "parameters"]:
        """d value / d parameters by autograd, for any scalar made of the methods here, as one flat float64 vector.

        The order is that of `model.parameters()`, those that require no gradient left out. `value` can be used again.
        """
        leaves = self._leaves()
        if value.ndim or not value.requires_grad:
            what = f"shape {tuple(value.shape)}" if value.ndim else "one without gradient"
            raise ValueError(f"value: expected a scalar that depends on the model's parameters, received {what}")
        grads = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True)
        return torch.cat([_flat(leaf.new_zeros(leaf.shape) if g is None else g) for leaf, g in zip(leaves, grads)])

    def policy_gradient(self, reward: Float[Tensor, "sequences"]) -> Float[Tensor, "parameters"]:
        """grad E[r] = sum_y p(y) r(y) grad log p(y), as the policy gradient theorem writes it (Williams 1992).

        Equal to `gradient(expected(reward))`, and to itself with any constant added to the reward: that is a baseline.
        """
        log_p = self.log_probs()
        weight = log_p.detach().exp() * self._reward(reward).detach()
        return self.gradient((weight * log_p).sum())

    def scores(self) -> Float[Tensor, "sequences parameters"]:
        """grad log p(y) of every sequence, one row each: from these every estimator's exact mean and variance follows.

        Raises ValueError above 2^24 entries.
        """
        parameters = sum(leaf.numel() for leaf in self._leaves())
        if len(self) * parameters > MAX_SCORES:
            raise ValueError(f"scores: expected at most {MAX_SCORES:,} entries, received {len(self):,} x {parameters:,}")
        return torch.stack([self.gradient(log_p) for log_p in self.log_probs()])

    # Distances

    def kl(self, other: EnumerableLM | Tensor) -> Float[Tensor, ""]:
        """KL(self||other) = E_self[log self - log other] in nats; inf if `other` rules out a sequence that self writes."""
        return exact.kl(self.log_probs(), self._log_probs_of(other))

    def reverse_kl(self, other: EnumerableLM | Tensor) -> Float[Tensor, ""]:
        """KL(other||self) in nats: the other direction."""
        return exact.kl(self._log_probs_of(other), self.log_probs())

    def total_variation(self, other: EnumerableLM | Tensor) -> Float[Tensor, ""]:
        """1/2 sum_y |self(y) - other(y)|, between 0 and 1."""
        return exact.total_variation(self.log_probs(), self._log_probs_of(other))

    # With self as the reference

    def optimum(self, reward: Float[Tensor, "sequences"], beta: float) -> Float[Tensor, "sequences"]:
        """log pi*(y) where pi*(y) = self(y) exp(r(y) / beta) / Z maximises E[r] - beta KL(pi||self). beta in units of reward."""
        return exact.optimum(self.log_probs(), self._reward(reward), beta)

    def log_partition(self, reward: Float[Tensor, "sequences"], beta: float) -> Float[Tensor, ""]:
        """log Z = log sum_y self(y) exp(r(y) / beta); beta log Z is the most that E[r] - beta KL(pi||self) can be."""
        return exact.log_partition(self.log_probs(), self._reward(reward), beta)

    def preferences(self, reward: Float[Tensor, "sequences"], pairs: Int[Tensor, "pairs 2"] | None = None) -> Tensor:
        """Bradley-Terry P(first preferred to second) = sigmoid(r_first - r_second), for rows (first, second) of `pairs`.

        Without `pairs` the matrix of all of them, (sequences, sequences), for at most 4096 sequences.
        """
        reward = self._reward(reward)
        return exact.preference_matrix(reward) if pairs is None else exact.pair_preferences(reward, pairs)

    # Samples are places in the list: `sequences[places]`, `log_probs()[places]`, `reward[places]`

    def sample(self, count: int, generator: torch.Generator) -> Int[Tensor, "count"]:
        """`count` independent draws from p, as places in `sequences`."""
        with torch.no_grad():
            probs = self.probs().to(generator.device)
        return torch.multinomial(probs, count, replacement=True, generator=generator).cpu()

    def sample_pairs(self, count: int, reward: Tensor, generator: torch.Generator) -> Int[Tensor, "count 2"]:
        """Places of (chosen, rejected): two independent draws from p, put in order by a Bradley-Terry judge with `reward`.

        The two may be the same sequence, as they may be when a language model answers twice.
        """
        pairs = self.sample(2 * count, generator).reshape(count, 2)
        coin = torch.rand(count, generator=generator, dtype=torch.float64, device=generator.device).cpu()
        first_wins = coin < self.preferences(reward, pairs).detach()
        return torch.where(first_wins.unsqueeze(1), pairs, pairs.flip(1))

    def index(self, sequences: Int[Tensor, "batch time"]) -> Int[Tensor, "batch"]:
        """The place of each row in the list. With `eos` what follows the first one is ignored, and rows may be shorter.

        Raises ValueError for a row that is not a sequence of this model.
        """
        return self._listing.places(sequences)

    def set_distribution(self, log_probs: Float[Tensor, "sequences"]) -> None:
        """Makes the table's sequence distribution at this context equal to the given one, by the chain rule.

        The logits of a prefix become its conditional log-probabilities; those of a prefix of probability 0 become zeros.
        Raises ValueError unless the model is a `TabularLM` of prefixes and `log_probs` a log-distribution.
        """
        if not isinstance(self.model, TabularLM) or len(self.prompt) > 1:
            received = f"{type(self.model).__name__} after {len(self.prompt)} tokens"
            raise ValueError(f"model: expected a TabularLM after its context alone, received {received}")
        log_p = exact.check_log_probs(log_probs, len(self), "log_probs").detach()
        self.model.set_distribution(int(self.prompt[0]), self.sequences, self.mask, log_p)

    # Inside

    def _next_token_log_probs(self) -> Float[Tensor, "rows length vocabulary"]:
        """One row for all sequences that differ in the last token alone; `_listing.row` says which sequence reads which."""
        tensors = chain(self.model.parameters(), self.model.buffers())
        device = next((t.device for t in tensors), torch.device("cpu"))
        before = self._listing.all_but_last
        tokens = torch.cat([self.prompt.expand(len(before), -1), before], dim=1).to(device)
        with _dropout_off(self.model):
            output = self.model(tokens)
        logits = getattr(output, "logits", output)
        expected = (*tokens.shape, self.vocabulary)
        if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
            received = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"model: expected logits of shape {expected} (batch, time, vocabulary), received {received}")
        log_probs = torch.log_softmax(logits[:, len(self.prompt) - 1 :].cpu().double(), -1)
        if log_probs.isnan().any():
            at = int(log_probs.isnan().flatten(1).any(1).nonzero()[0])
            raise ValueError(f"model: expected logits without NaN or +inf, received some after tokens {tokens[at].tolist()}")
        return log_probs

    def _check_prompt(self, prompt: Sequence[int]) -> Int[Tensor, "time"]:
        if not isinstance(self.model, nn.Module):
            raise ValueError(f"model: expected a torch.nn.Module, received {type(self.model).__name__}")
        tokens = torch.as_tensor(prompt).cpu()
        if tokens.ndim != 1 or len(tokens) == 0 or tokens.is_floating_point() or bool((tokens < 0).any()):
            raise ValueError(f"prompt: expected at least one token, a start token if nothing else, received {prompt!r}")
        if isinstance(self.model, TabularLM) and len(tokens) + self.length > 1 + self.model.length:
            raise ValueError(
                f"prompt: expected the context's number alone before {self.length} tokens of a table of {self.model.length}, "
                f"received {tokens.tolist()}"
            )
        return tokens.long()

    def _leaves(self) -> list[Tensor]:
        leaves = [p for p in self.model.parameters() if p.requires_grad]
        if not leaves:
            raise ValueError("model: expected at least one parameter that requires a gradient, received none (is it frozen?)")
        return leaves

    def _reward(self, reward) -> Tensor:
        return exact.check_reward(reward, len(self))

    def _log_probs_of(self, other: EnumerableLM | Tensor) -> Tensor:
        if isinstance(other, EnumerableLM):
            mine, theirs = ((lm.vocabulary, lm.length, lm.eos) for lm in (self, other))
            if mine != theirs:
                raise ValueError(f"other: expected (vocabulary, length, eos) = {mine}, received {theirs}")
            return other.log_probs()
        return exact.check_log_probs(other, len(self), "other")


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().reshape(-1).cpu().double()


@contextmanager
def _dropout_off(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, and every submodule's own mode again outside."""
    training = [m for m in model.modules() if m.training]
    try:
        model.eval()
        yield
    finally:
        for module in training:
            module.training = True
