"""Lesson 5: from comparisons to rewards (Bradley and Terry), from rewards to policies, and past the rewards: DPO, DPOP, IPO.

Conventions, the same in every function:

- Tensors are float64 and so are results. No argument is changed in place; nothing is rounded to float32 on the way.
- Rewards are in logits (nats) where preferences are made of them, and in the unit of `beta` where a policy is.
- `chosen` and `rejected` are log pi(y|x) of *whole answers*, (pairs,): sums over their tokens, never means (section 5.7).
  `ref_chosen` and `ref_rejected` are the same under the reference. The reference is fixed: no gradient flows into these two,
  even if they ask for one. Gradients flow into everything else.
- A loss is a mean over the pairs, a tensor without dimensions. `weights`, (pairs,), says how often each pair came (counts or
  probabilities); then the mean is weighted, sum(w * loss) / sum(w). None: every pair once. `weighted_mean` does it.
- Margins may be large: at +-200 and at +-1000 nats values and gradients are finite and exact.

The `require_...` calls and `weighted_mean` are given, at the end of the file: they refuse input that makes no sense.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def preference_probability(
    first: Float[Tensor, "*pairs"], second: Float[Tensor, "*pairs"]
) -> Float[Tensor, "*pairs"]:
    """The probability that the first answer is preferred to the second, by Bradley and Terry (eq. 5.2).

        P(first > second) = exp(r_first) / (exp(r_first) + exp(r_second)) = sigma(r_first - r_second)

    first, second: the two rewards of each pair, in nats, any shape. Exact also where the exponentials overflow.
    Raises ValueError if the shapes differ.
    Source: Bradley and Terry 1952.
    """
    require_same_shape(first=first, second=second)
    raise NotImplementedError("lesson 5: preference_probability")


def bradley_terry_loss(
    chosen: Float[Tensor, "pairs"], rejected: Float[Tensor, "pairs"], weights: Float[Tensor, "pairs"] | None = None
) -> Float[Tensor, ""]:
    """The mean negative log-likelihood of the choices, in nats per pair (eq. 5.4).

        loss of a pair = -log sigma(r_chosen - r_rejected)

    chosen, rejected: the rewards of the answer that was preferred and of the other. The loss of a pair is log 2 at equal
    rewards, and 1000 (not inf) where the rejected one is 1000 nats better.
    Raises ValueError if the shapes differ, if there is no pair, or for weights that are negative or all zero.
    """
    require_pairs(chosen=chosen, rejected=rejected)
    raise NotImplementedError("lesson 5: bradley_terry_loss")


def pairs_from_preferences(labels: Int[Tensor, "labels"], answers: int = 4) -> Int[Tensor, "pairs 2"]:
    """The (chosen, rejected) pairs of one question whose answers were compared two by two (section 5.3).

    labels: one integer for each pair of answers. For four answers there are six, in the order

        12  13  14  23  24  34        (in general: the first answer with each later one, then the second with each later one, ...)

    0 says a tie, 1 that the first of the two is preferred, 2 that the second is.
    Returns rows (chosen, rejected) of answer indices that count from 0 ("12" compares answers 0 and 1), dtype int64, in the
    order of the labels. A tie gives no pair; ties alone give a tensor of shape (0, 2).
    Raises ValueError for a label other than 0, 1, 2, or if there is not one label for each of answers (answers - 1) / 2 pairs.
    """
    require_labels(labels, answers)
    raise NotImplementedError("lesson 5: pairs_from_preferences")


def fit_rewards(
    pairs: Int[Tensor, "pairs 2"], answers: int, l2: float = 0.0, weights: Float[Tensor, "pairs"] | None = None
) -> Float[Tensor, "answers"]:
    """The rewards that make the choices most probable: maximum likelihood for Bradley and Terry's model (eq. 5.6).

        minimise over r:   bradley_terry_loss(r[chosen], r[rejected], weights) + l2 / 2 * sum_i r_i^2

    pairs: rows (chosen, rejected) of answer indices 0 .. answers - 1; a pair that was chosen twice occurs twice, or has
    weight 2.  l2: the strength of the ridge; 0 is plain maximum likelihood.
    Choices tell differences of rewards alone. The convention here: the rewards have mean zero.
    Accurate to 1e-7: ask the optimiser (`scipy.optimize.minimize`) for a gradient below 1e-9, and hand it the exact gradient.

    Raises ValueError that names `pairs` if l2 is 0 and the likelihood has no finite maximum: that is so unless every answer
    leads to every other along "was preferred to" (Ford 1957; `require_finite_maximum` is given). An answer that always wins
    would get an infinite reward. With l2 > 0 there is exactly one optimum, whatever the choices.
    Raises ValueError for no pairs, an index that is no answer, an answer compared with itself, l2 < 0, or unfit weights.
    """
    require_choices(pairs, answers, l2, weights)
    require_finite_maximum(pairs, answers, l2, weights)
    raise NotImplementedError("lesson 5: fit_rewards")


def optimal_policy(
    ref: Float[Tensor, "*prompts answers"], reward: Float[Tensor, "*prompts answers"], beta: float
) -> Float[Tensor, "*prompts answers"]:
    """The policy that maximises E_pi[r] - beta KL(pi || ref), in closed form (eq. 5.12).

        pi*(y|x) = ref(y|x) exp(r(x, y) / beta) / Z(x),    Z(x) = sum_y ref(y|x) exp(r(x, y) / beta)

    ref: probabilities; the last dimension lists the answers to one prompt, so that each row sums to 1. reward: one number for
    each. Returns probabilities. Exact also where exp(r / beta) overflows (r = 200, beta = 0.1); an answer with ref(y|x) = 0
    keeps probability 0, whatever its reward.
    Raises ValueError if `ref` is not a distribution (none negative, rows that sum to 1 up to 1e-9), if the shapes differ, if a
    reward is not finite, or unless beta is finite and positive.
    """
    require_distribution("ref", ref)
    require_rewards(reward, ref)
    require_beta(beta)
    raise NotImplementedError("lesson 5: optimal_policy")


def implicit_reward(
    log_probs: Float[Tensor, "*answers"], ref_log_probs: Float[Tensor, "*answers"], beta: float
) -> Float[Tensor, "*answers"]:
    """The reward for which a policy is optimal, up to beta log Z(x): what DPO trains (eq. 5.15).

        beta (log pi(y|x) - log ref(y|x))

    log_probs, ref_log_probs: of whole answers, in nats, any shape. The result has the unit of `beta`.
    No gradient flows into `ref_log_probs`.
    Raises ValueError if the shapes differ, or unless beta is finite and positive.
    Source: Rafailov et al. 2023, eq. 5.
    """
    require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)
    require_beta(beta)
    raise NotImplementedError("lesson 5: implicit_reward")


def implicit_accuracy(
    chosen: Float[Tensor, "pairs"],
    rejected: Float[Tensor, "pairs"],
    ref_chosen: Float[Tensor, "pairs"],
    ref_rejected: Float[Tensor, "pairs"],
    weights: Float[Tensor, "pairs"] | None = None,
) -> Float[Tensor, ""]:
    """The share of pairs whose chosen answer has the higher implicit reward; a tie counts one half (eq. 5.20).

    At pi = ref every pair is a tie and the accuracy is 0.5. beta > 0 plays no part, so it is no argument.
    Raises ValueError if the shapes differ, if there is no pair, or for weights that are negative or all zero.
    """
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    raise NotImplementedError("lesson 5: implicit_accuracy")


def dpo_loss(
    chosen: Float[Tensor, "pairs"],
    rejected: Float[Tensor, "pairs"],
    ref_chosen: Float[Tensor, "pairs"],
    ref_rejected: Float[Tensor, "pairs"],
    beta: float,
    weights: Float[Tensor, "pairs"] | None = None,
) -> Float[Tensor, ""]:
    """Direct preference optimisation: Bradley and Terry's loss on implicit rewards (eq. 5.18).

        loss of a pair = -log sigma( beta (log pi/ref of the chosen answer) - beta (log pi/ref of the rejected answer) )

    At pi = ref the loss of a pair is log 2, its gradient -beta/2 by `chosen` and +beta/2 by `rejected`.
    Raises ValueError if the shapes differ, if there is no pair, unless beta is finite and positive, or for unfit weights.
    Source: Rafailov et al. 2023, eq. 7.
    """
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    require_beta(beta)
    raise NotImplementedError("lesson 5: dpo_loss")


def dpop_loss(
    chosen: Float[Tensor, "pairs"],
    rejected: Float[Tensor, "pairs"],
    ref_chosen: Float[Tensor, "pairs"],
    ref_rejected: Float[Tensor, "pairs"],
    beta: float,
    lam: float,
    weights: Float[Tensor, "pairs"] | None = None,
) -> Float[Tensor, ""]:
    """DPO-positive: DPO that pays `lam` for every nat the chosen answer falls below the reference (eq. 5.26).

        l = log pi(y|x) - log ref(y|x)  of the chosen and of the rejected answer
        loss of a pair = -log sigma( beta (l_chosen - l_rejected) - lam max(0, -l_chosen) )

    The penalty stands *inside* sigma and *outside* beta: lam is in units of beta. (The paper's last version writes
    beta (l_chosen - l_rejected - lam max(0, -l_chosen)); its lam is ours divided by beta.) lam = 0 is DPO.
    At l_chosen = 0 the hinge has a corner; either side's slope will do there.
    Raises ValueError if the shapes differ, if there is no pair, unless beta is finite and positive, if lam is negative or not
    finite, or for unfit weights.
    Source: Pal et al. 2024 (Smaug).
    """
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    require_beta(beta)
    require_not_negative("lam", lam)
    raise NotImplementedError("lesson 5: dpop_loss")


def ipo_loss(
    chosen: Float[Tensor, "pairs"],
    rejected: Float[Tensor, "pairs"],
    ref_chosen: Float[Tensor, "pairs"],
    ref_rejected: Float[Tensor, "pairs"],
    beta: float,
    weights: Float[Tensor, "pairs"] | None = None,
) -> Float[Tensor, ""]:
    """Identity preference optimisation: a square that pulls the margin to 1 / (2 beta) nats, and no further (eq. 5.29).

        h = (log pi/ref of the chosen answer) - (log pi/ref of the rejected answer)      in nats, without beta
        loss of a pair = (h - 1 / (2 beta))^2

    Raises ValueError if the shapes differ, if there is no pair, unless beta is finite and positive, or for unfit weights.
    Source: Azar et al. 2024, eq. 17 (beta is their tau).
    """
    require_pairs(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected)
    require_beta(beta)
    raise NotImplementedError("lesson 5: ipo_loss")


# Given: the mean over pairs, and the refusal of what makes no sense, by the name of the argument.


def weighted_mean(values: Float[Tensor, "pairs"], weights: Float[Tensor, "pairs"] | None = None) -> Float[Tensor, ""]:
    """sum(weights * values) / sum(weights); the plain mean without weights. Differentiable in `values`.

    Raises ValueError for weights of another shape, negative or not finite ones, or weights that are all zero.
    """
    if weights is None:
        return values.mean()
    if weights.shape != values.shape:
        raise ValueError(f"weights: expected shape {tuple(values.shape)}, received {tuple(weights.shape)}")
    if not bool(torch.isfinite(weights).all()) or weights.min() < 0 or weights.sum() == 0:
        raise ValueError(f"weights: expected numbers of at least 0, not all 0, received {weights.tolist()}")
    return (weights * values).sum() / weights.sum()


def require_same_shape(**tensors: Tensor) -> None:
    """Raises ValueError unless all have the first one's shape: PyTorch would stretch a wrong one to fit and go on."""
    first, *others = tensors
    for name in others:
        if tensors[name].shape != tensors[first].shape:
            expected, received = tuple(tensors[first].shape), tuple(tensors[name].shape)
            raise ValueError(f"{name}: expected the shape of {first}, {expected}, received {received}")


def require_pairs(**tensors: Tensor) -> None:
    """Raises ValueError unless all have the same shape (pairs,), with at least one pair: the mean of nothing is NaN."""
    require_same_shape(**tensors)
    name, tensor = next(iter(tensors.items()))
    if tensor.ndim != 1 or len(tensor) == 0:
        raise ValueError(f"{name}: expected shape (pairs,) with at least one pair, received {tuple(tensor.shape)}")


def require_beta(beta: float) -> None:
    """Raises ValueError unless beta is finite and positive."""
    if not 0 < beta < math.inf:
        raise ValueError(f"beta: expected a positive finite number, received {beta}")


def require_not_negative(name: str, number: float) -> None:
    """Raises ValueError unless the number is finite and at least 0."""
    if not 0 <= number < math.inf:
        raise ValueError(f"{name}: expected a finite number of at least 0, received {number}")


def require_distribution(name: str, probs: Tensor) -> None:
    """Raises ValueError unless rows are probabilities that sum to 1 (up to 1e-9: rounding of a float64 sum)."""
    if probs.ndim == 0 or probs.numel() == 0:
        raise ValueError(f"{name}: expected probabilities, one for each answer, received shape {tuple(probs.shape)}")
    sums = probs.sum(dim=-1)
    if not bool((probs >= 0).all()) or not bool(((sums - 1).abs() <= 1e-9).all()):
        worst = sums.flatten()[(sums - 1).abs().flatten().nan_to_num(math.inf).argmax()]
        raise ValueError(f"{name}: expected probabilities that sum to 1, received minimum {probs.min():g} and sum {worst:g}")


def require_rewards(reward: Tensor, ref: Tensor) -> None:
    """Raises ValueError unless there is one finite reward for each probability."""
    require_same_shape(ref=ref, reward=reward)
    if not bool(torch.isfinite(reward).all()):
        raise ValueError(f"reward: expected finite numbers, received {reward[~torch.isfinite(reward)].tolist()}")


def require_labels(labels: Tensor, answers: int) -> None:
    """Raises ValueError unless there is one label 0, 1 or 2 for each pair of answers."""
    count = answers * (answers - 1) // 2
    if tuple(labels.shape) != (count,):
        received = f"shape {tuple(labels.shape)}"
        raise ValueError(f"labels: expected {count} for {answers} answers, shape ({count},), received {received}")
    if not all(label in (0, 1, 2) for label in labels.tolist()):
        raise ValueError(f"labels: expected 0 (tie), 1 (first) or 2 (second), received {labels.tolist()}")


def require_choices(pairs: Tensor, answers: int, l2: float, weights: Tensor | None) -> None:
    """Raises ValueError unless `pairs` are (chosen, rejected) rows of two different answers, with one weight each if any."""
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
        raise ValueError(f"pairs: expected shape (pairs, 2) with at least one pair, received {tuple(pairs.shape)}")
    if pairs.min() < 0 or pairs.max() >= answers:
        received = f"{int(pairs.min())} to {int(pairs.max())}"
        raise ValueError(f"pairs: expected answers from 0 to {answers - 1}, received {received}")
    if bool((pairs[:, 0] == pairs[:, 1]).any()):
        raise ValueError(f"pairs: expected two different answers, received {pairs[pairs[:, 0] == pairs[:, 1]][0].tolist()}")
    require_not_negative("l2", l2)
    weighted_mean(torch.zeros(len(pairs), dtype=torch.float64), weights)  # refuses unfit weights


def require_finite_maximum(pairs: Tensor, answers: int, l2: float, weights: Tensor | None) -> None:
    """Raises ValueError if l2 is 0 and some answer does not lead to every other along "was preferred to" (Ford 1957)."""
    if l2 > 0:
        return
    leads = torch.eye(answers, dtype=torch.bool)
    came = pairs if weights is None else pairs[weights > 0]
    leads[came[:, 0], came[:, 1]] = True
    for between in range(answers):  # Warshall: i leads to j if it leads to `between` and `between` leads to j
        leads |= leads[:, between : between + 1] & leads[between : between + 1]
    if not bool(leads.all()):
        first, second = torch.nonzero(~leads)[0].tolist()
        raise ValueError(
            "pairs: expected wins that lead from every answer to every other (else no finite rewards fit best; a ridge, "
            f"l2 > 0, makes them finite), received none that lead from answer {first} to answer {second}"
        )
