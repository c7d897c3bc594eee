"""Lesson 6: PPO, complete, for a writer of short sentences.

Conventions, the same in every function:

- A row is a sentence. `mask` is bool, (batch, time), True on real tokens; they stand first, padding behind them. A row may be
  all padding, a mask may not. What stands at padded positions means nothing, and no result depends on it.
- Log-probabilities are natural (nats), of the sampled token alone unless said otherwise. Rewards, values and advantages share
  the unit of the reward.
- A mean over tokens runs over all real tokens of the batch together (eq. 6.2), and every loss is to be made small.
- Results have the dtype of what comes in (the checks use float64); no argument is changed in place.

The `require_...` calls are given: they refuse input that makes no sense.
"""

from __future__ import annotations

from typing import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from toy.given import ppo as given
from toy.given.ppo import PPOConfig, Rollout
from toy.given.sentences import Sampler, log_probs_of, shift_right


def masked_mean(values: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, ""]:
    """The mean over all real tokens of the batch (eq. 6.2): every real token weighs the same, in whatever row it stands.

    Raises ValueError if the shapes differ or no token is real.
    """
    given.require_same_shape(values=values, mask=mask)
    given.require_mask(mask)
    raise NotImplementedError("lesson 6: masked_mean")


def discounted_returns(
    rewards: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], gamma: float
) -> Float[Tensor, "batch time"]:
    """The discounted sum of the rewards from each token on, its own included (eq. 6.3); 0 at padded positions.

        G_t = r_t + gamma r_{t+1} + gamma^2 r_{t+2} + ... up to the last real token of the row

    Raises ValueError if the shapes differ, no token is real, a real token stands behind padding, or gamma is outside [0, 1].
    """
    given.require_same_shape(rewards=rewards, mask=mask)
    given.require_mask(mask)
    given.require_padding_last(mask)
    given.require_fraction("gamma", gamma)
    raise NotImplementedError("lesson 6: discounted_returns")


def kl_penalised_rewards(
    scores: Float[Tensor, "batch"],
    log_probs: Float[Tensor, "batch time"],
    ref_log_probs: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    kl_coef: float,
) -> Float[Tensor, "batch time"]:
    """The reward of every token: what it costs to leave the reference, and at the last real token the sentence's score (eq. 6.5).

        r_t = -kl_coef (log pi(y_t) - log pi_ref(y_t)) + score if t is the last real token of its row

    scores: (batch,); a row that is all padding has no place for its score. 0 at padded positions.
    Rewards are constants: no gradient flows back into log_probs, ref_log_probs or scores.
    Raises ValueError if the shapes differ, no token is real, a real token stands behind padding, or kl_coef is negative.
    Source: Ziegler et al. 2019; Ouyang et al. 2022.
    """
    given.require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs, mask=mask)
    given.require_mask(mask)
    given.require_padding_last(mask)
    given.require_per_row("scores", scores, mask)
    given.require_not_negative("kl_coef", kl_coef)
    raise NotImplementedError("lesson 6: kl_penalised_rewards")


def gae(
    rewards: Float[Tensor, "batch time"],
    values: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    gamma: float,
    lam: float,
    bootstrap: Float[Tensor, "batch"] | None = None,
) -> tuple[Float[Tensor, "batch time"], Float[Tensor, "batch time"]]:
    """Generalized advantage estimation (eq. 6.9, 6.13, 6.14). Returns (advantages, returns); both 0 at padded positions.

        delta_t = r_t + gamma V_{t+1} - V_t
        A_t     = delta_t + gamma lam A_{t+1}
        return  = A_t + V_t

    values: V_t, what was expected before token t. Behind the last real token of a row the sentence is over: A is 0 there, and
    so is V, unless the rollout was cut off; then bootstrap, (batch,), is V behind the last real token of each row.
    Advantages and returns are constants: no gradient flows back into values or anything else.
    Raises ValueError if shapes differ, no token is real, a real token stands behind padding, or gamma or lam is outside [0, 1].
    Source: Schulman et al. 2016, "High-dimensional continuous control using generalized advantage estimation", eq. 16.
    """
    given.require_same_shape(rewards=rewards, values=values, mask=mask)
    given.require_mask(mask)
    given.require_padding_last(mask)
    given.require_fraction("gamma", gamma)
    given.require_fraction("lam", lam)
    if bootstrap is not None:
        given.require_per_row("bootstrap", bootstrap, mask)
    raise NotImplementedError("lesson 6: gae")


def explained_variance(
    values: Float[Tensor, "batch time"], returns: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, ""]:
    """The share of the returns' variance that the values account for, over real tokens (eq. 6.15).

        1 - Var(returns - values) / Var(returns)

    1 for perfect values, 0 for values that say nothing (a constant, whichever), below 0 for values worse than that.
    0 if all returns are equal: there is nothing to explain. Raises ValueError if shapes differ or no token is real.
    """
    given.require_same_shape(values=values, returns=returns, mask=mask)
    given.require_mask(mask)
    raise NotImplementedError("lesson 6: explained_variance")


def whiten(x: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """x moved and scaled to mean 0 and standard deviation 1 over all real tokens of the batch (eq. 6.16); 0 at padded positions.

    The standard deviation is the biased one, sqrt(mean((x - mean)^2)), and nothing is added to it: the result has standard
    deviation 1 whether x had 1e-6 or 1e6. If all real entries are equal the result is 0 everywhere.
    Raises ValueError if the shapes differ or no token is real.
    """
    given.require_same_shape(x=x, mask=mask)
    given.require_mask(mask)
    raise NotImplementedError("lesson 6: whiten")


def clipped_surrogate(
    log_probs: Float[Tensor, "batch time"],
    old_log_probs: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    clip: float,
) -> Float[Tensor, ""]:
    """PPO's clipped policy loss, averaged over real tokens (eq. 6.19).

        loss = -mean of min(rho A, clip(rho, 1 - clip, 1 + clip) A),    rho = exp(log_probs - old_log_probs)

    The gradient flows through log_probs alone: old_log_probs and advantages are constants, whatever they came from.
    Raises ValueError if the shapes differ, no token is real, or clip is not positive.
    Source: Schulman et al. 2017, "Proximal policy optimization algorithms", eq. 7.
    """
    given.require_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, advantages=advantages, mask=mask)
    given.require_mask(mask)
    given.require_positive("clip", clip)
    raise NotImplementedError("lesson 6: clipped_surrogate")


def clipped_value_loss(
    values: Float[Tensor, "batch time"],
    old_values: Float[Tensor, "batch time"],
    returns: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    clip: float,
) -> Float[Tensor, ""]:
    """Half the mean, over real tokens, of the larger of two squared errors of each token (eq. 6.20).

        1/2 mean of max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2)

    The gradient flows through values alone: old_values and returns are constants, whatever they came from.
    Raises ValueError if the shapes differ, no token is real, or clip is not positive.
    Source: the PPO code of Dhariwal et al. 2017 (OpenAI Baselines); the paper does not have it.
    """
    given.require_same_shape(values=values, old_values=old_values, returns=returns, mask=mask)
    given.require_mask(mask)
    given.require_positive("clip", clip)
    raise NotImplementedError("lesson 6: clipped_value_loss")


def approximate_kl(
    log_probs: Float[Tensor, "batch time"], old_log_probs: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, ""]:
    """How far the policy has moved from the old one: an estimate of KL(old||new) per token, in nats (eq. 6.21).

        mean over real tokens of (rho - 1) - log rho,    rho = exp(log_probs - old_log_probs)

    The tokens were drawn from the old policy. No term is negative. Raises ValueError if shapes differ or no token is real.
    Source: Schulman 2020, "Approximating KL divergence" (k3).
    """
    given.require_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, mask=mask)
    given.require_mask(mask)
    raise NotImplementedError("lesson 6: approximate_kl")


def clip_fraction(
    log_probs: Float[Tensor, "batch time"],
    old_log_probs: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    clip: float,
) -> Float[Tensor, ""]:
    """The share of real tokens whose ratio rho is further than `clip` from 1, on either side (eq. 6.22).

    Raises ValueError if the shapes differ, no token is real, or clip is not positive.
    """
    given.require_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, mask=mask)
    given.require_mask(mask)
    given.require_positive("clip", clip)
    raise NotImplementedError("lesson 6: clip_fraction")


def mean_entropy(logits: Float[Tensor, "batch time vocabulary"], mask: Bool[Tensor, "batch time"]) -> Float[Tensor, ""]:
    """The entropy of the next-token distribution softmax(logits[b, t]) in nats, averaged over real tokens (eq. 6.23).

    Differentiable, and exact for logits of any size. Raises ValueError if the shapes do not fit or no token is real.
    """
    given.require_same_shape(logits=logits[..., 0], mask=mask)
    given.require_mask(mask)
    raise NotImplementedError("lesson 6: mean_entropy")


def rollout(
    policy: nn.Module,
    value: nn.Module,
    reference: nn.Module,
    sample: Sampler,
    score: Callable[[Tensor, Tensor], Tensor],
    config: PPOConfig,
) -> Rollout:
    """Let the policy write `config.batch_size` sentences, and note what is known of them now. Nothing in it has a gradient.

    sample(policy, count, temperature) -> (tokens, mask); it is called once.   score(tokens, mask) -> (batch,)
    policy, reference: map `shift_right(tokens)` to logits (batch, time, vocabulary); value maps it to (batch, time).

    The distribution that is scored must be the one that was drawn from: the logits of the policy, and those of the reference,
    are divided by `config.temperature` before `log_probs_of`.
    """
    raise NotImplementedError("lesson 6: rollout")


def ppo_update(
    policy: nn.Module, value: nn.Module, optimizer: torch.optim.Optimizer, batch: Rollout, config: PPOConfig
) -> dict[str, Tensor]:
    """Learn from one rollout: `config.epochs` times through it, one optimizer step for every minibatch.

    Once, before the first step:
    1. `kl_penalised_rewards` of the rollout, then `gae` with its values (no bootstrap: every sentence is over, END or not);
    2. if `config.whiten`, the advantages, but not the returns, are whitened over the whole rollout.
    Then in every epoch, for rows 0 .. minibatch_size - 1, the next minibatch_size rows, and so on (the last may be fewer):
    3. log-probabilities of the rows' tokens under the present policy (logits divided by the temperature), and present values;
    4. loss = clipped_surrogate + value_coef clipped_value_loss - entropy_coef mean_entropy  (eq. 6.24), each with its mean over
       the minibatch's real tokens; the old log-probabilities and old values are those of the rollout;
    5. one step of the optimizer, which holds the parameters of policy and value, on the gradient of this loss alone.

    Returns a tensor (steps,) each for "loss", "policy_loss", "value_loss", "entropy", "approx_kl" and "clip_fraction", computed
    on the minibatch before its step, without gradient; and "explained_variance" (a tensor without dimensions) of the rollout's
    values against the returns.
    """
    raise NotImplementedError("lesson 6: ppo_update")


def train(
    policy: nn.Module,
    value: nn.Module,
    reference: nn.Module,
    sample: Sampler,
    score: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    config: PPOConfig,
    updates: int,
    after_update: Callable[[dict[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """PPO: `updates` times a rollout of the present policy, an update from it, and a line for the log.

    The reference is the same throughout. The old policy of each update is the policy as it was when the rollout was written.
    after_update(line), if given, is called at the end of each update with its line of the log.

    Returns one dict of floats for each update. From the rollout, means over sentences:
        reward              the score, without any KL penalty
        kl                  the sum over a sentence's real tokens of log_probs - ref_log_probs, in nats: estimates KL(pi||ref)
        completion_length   the number of real tokens
    and from `ppo_update`: explained_variance, and the *last* step's loss, policy_loss, value_loss, entropy, approx_kl and
    clip_fraction, where the policy is furthest from the old one.
    """
    raise NotImplementedError("lesson 6: train")
