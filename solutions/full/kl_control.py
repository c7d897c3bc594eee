"""Lesson 10: REINFORCE that keeps the language it started with: a price on every nat between policy and reference.

Conventions, the same in every function:

- Everything is in nats, and of the dtype of its tensors: float64 in, float64 out. No argument is changed in place.
- "The KL" is KL(policy||reference), the policy's samples weighing it. Of a batch it has one number a token, (batch, time), or one
  a completion, (batch,): the sum of its tokens' numbers, never their mean.
- `mask` is boolean, (batch, time), True on the tokens that the policy wrote, the first EOS included. Prompt and padding are not
  in it, and what stands where it is False does not count, whatever it is: it may be inf or NaN. A row may be False throughout.
- The reference is a constant: no gradient reaches what was computed from it.

The `require_...` calls are given, at the end of the file: they refuse input that makes no sense.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from full.given.loop import Loop
from full.given.reinforce import completion_metrics
from full.given.scoring import completion_log_probs
from full.given.settings import KLConfig
from solutions.full.reinforce import batch_baseline, rloo_advantages
from toy.given import ppo as given

WEAK, GOOD = 0.65, 0.8  # rewards: below the first little was learned, from the second on the task is done
NATURAL = 0.3  # nats a token that natural text may lie below the reference's own
LARGEST_ERROR = 0.2  # of the controller: however far off the KL is, it is treated as at most a fifth


def compute_kl_divergence(
    log_probs: Float[Tensor, "batch time vocabulary"],
    ref_log_probs: Float[Tensor, "batch time vocabulary"],
    mask: Bool[Tensor, "batch time"],
) -> Float[Tensor, "batch time"]:
    """KL(pi(.|y_<t) || pi_ref(.|y_<t)) before each token, over the whole vocabulary (eq. 10.4): (batch, time), 0 off the mask.

        KL_t = sum_v pi(v|y_<t) (log pi(v|y_<t) - log pi_ref(v|y_<t))

    log_probs, ref_log_probs: of every token that could have come, rows of a log-softmax.
    Exact where they are -800: nothing underflows. A token that pi rules out (log pi = -inf, as top-k sampling makes it) adds
    nothing to the value or to the gradient; one that pi_ref alone rules out makes the divergence inf.
    Raises ValueError if shapes differ, if `mask` is True nowhere, and if a row under the mask is no log-distribution.
    """
    require_rows(log_probs, ref_log_probs, mask)
    # BEGIN SOLUTION
    counts = mask.unsqueeze(-1) & (log_probs > -torch.inf)  # (B, T, V); chosen before anything is computed: 0 * inf is NaN
    log_p, log_q = torch.where(counts, log_probs, 0.0), torch.where(counts, ref_log_probs.detach(), 0.0)
    return (log_p.exp() * (log_p - log_q)).sum(-1)
    # END SOLUTION


def k1(
    log_probs: Float[Tensor, "batch time"], ref_log_probs: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time"]:
    """The plain estimate of each KL_t from the token that came (eq. 10.6): log pi - log pi_ref, 0 off the mask.

    log_probs, ref_log_probs: of the tokens that came. Unbiased; single values may be negative.
    Raises ValueError if shapes differ, if `mask` is True nowhere, and if a log-probability under the mask is above 0 or NaN.
    """
    require_log_probs(log_probs, ref_log_probs, mask)
    # BEGIN SOLUTION
    return torch.where(mask, log_probs - ref_log_probs.detach(), 0.0)
    # END SOLUTION


def k2(
    log_probs: Float[Tensor, "batch time"], ref_log_probs: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time"]:
    """The squared estimate of each KL_t from the token that came (eq. 10.7): (log pi - log pi_ref)^2 / 2, 0 off the mask.

    Biased, never negative. Raises ValueError as `k1` does.  Source: Schulman 2020, "Approximating KL divergence".
    """
    require_log_probs(log_probs, ref_log_probs, mask)
    # BEGIN SOLUTION
    return k1(log_probs, ref_log_probs, mask) ** 2 / 2
    # END SOLUTION


def k3(
    log_probs: Float[Tensor, "batch time"], ref_log_probs: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time"]:
    """The estimate of each KL_t with a control variate, from the token that came (eq. 10.8): r - 1 - ln r, 0 off the mask.

    r = pi_ref / pi. Unbiased where pi can say all that pi_ref can; never negative.
    Raises ValueError as `k1` does.  Source: Schulman 2020, "Approximating KL divergence".
    """
    require_log_probs(log_probs, ref_log_probs, mask)
    # BEGIN SOLUTION
    log_ratio = -k1(log_probs, ref_log_probs, mask)
    return torch.expm1(log_ratio) - log_ratio  # exp(x) - 1 without the loss of digits near 0
    # END SOLUTION


def kl_shaped_reward(
    rewards: Float[Tensor, "batch"],
    log_probs: Float[Tensor, "batch time"],
    ref_log_probs: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    alpha: float,
) -> Float[Tensor, "batch"]:
    """What a completion is worth: its reward less the price of its distance from the reference (eq. 10.10).

        R(y) = r(y) - alpha sum_t (log pi(y_t) - log pi_ref(y_t))

    alpha: units of reward a nat; 0 is no penalty. The sum is over the completion's own tokens, not their mean.
    A reward is a number: no gradient flows back through the result, whatever the arguments carry.
    Raises ValueError as `k1` does, if `rewards` is not one number a row, and if `alpha` is negative.
    Source: Ziegler et al. 2019, "Fine-tuning language models from human preferences".
    """
    require_log_probs(log_probs, ref_log_probs, mask)
    given.require_per_row("rewards", rewards, mask)
    given.require_not_negative("alpha", alpha)
    # BEGIN SOLUTION
    return (rewards - alpha * k1(log_probs, ref_log_probs, mask).sum(-1)).detach()
    # END SOLUTION


class AdaptiveKLController:
    """An alpha that steers the KL to a target: dearer where the policy has gone too far, cheaper where it may go further.

    alpha: units of reward a nat, at the start; it is the price to use now.
    target: nats a completion.  horizon: completions in which alpha changes by a factor of about e^0.2 at most.
    Raises ValueError, naming the argument, unless all three are positive (an alpha of 0 could not be scaled).
    Source: Ziegler et al. 2019, section 2.2.
    """

    def __init__(self, alpha: float, target: float, horizon: float) -> None:
        for name, value in (("alpha", alpha), ("target", target), ("horizon", horizon)):
            given.require_positive(name, value)
        self.alpha, self.target, self.horizon = alpha, target, horizon

    def update(self, kl: float, samples: int) -> float:
        """The alpha after a batch of `samples` completions whose KL was `kl`, in nats a completion (eq. 10.15).

            alpha <- alpha (1 + e samples / horizon),    e = kl / target - 1, kept within [-0.2, 0.2]

        kl: an estimate, which may be negative. Changes `self.alpha` and returns it, a Python float.
        Raises ValueError if `kl` is NaN or inf, and unless 0 < samples < 5 horizon (else the factor could be 0 or less).
        """
        require_step(kl, samples, self.horizon)
        # BEGIN SOLUTION
        error = min(max(float(kl) / self.target - 1, -LARGEST_ERROR), LARGEST_ERROR)
        self.alpha = self.alpha * (1 + error * samples / self.horizon)
        return self.alpha
        # END SOLUTION


def train(loop: Loop, config: KLConfig) -> None:
    """REINFORCE on the KL-shaped reward, one update a batch of prompts (section 10.7). The reference is never changed.

    In this order, for every batch of `loop.batches()`:

    1. rollout: each prompt is repeated `config.group_size` times (`prompts.repeated`), and the policy writes on;
    2. reward: `loop.reward(rollout)`, (B,);
    3. log-probabilities: of the policy by `completion_log_probs` with the temperature and top_k that sampled; of the reference
       with the temperature and *without* top_k, under `torch.no_grad()`: a token that the reference's own top-k leaves out would
       cost infinitely much;
    4. shaped reward: `kl_shaped_reward` at the present alpha;
    5. advantage: of the shaped rewards of the whole batch of all processes (`loop.gather`), as `config.baseline` says: "none":
       themselves; "batch": less `batch_baseline`; "rloo": `rloo_advantages`; then `loop.own` of the result;
    6. loss: -1/B sum_b A_b sum_t log pi(y_bt), and `loop.update(loss)`;
    7. log: `loop.log` of reward, shaped_reward and kl_k3 (means over the rows), kl (k1 summed over each completion, the mean over
       the rows of the whole batch), loss, the alpha of this step, and the `completion_metrics` of the rollout;
    8. alpha: with `config.target_kl` above 0 the controller's, told the kl of step 7 and the number of rows of the whole batch;
       else `config.alpha` throughout.

    Dropout is off from the start, in the policy and in the reference: what is scored is what was sampled. `loop.kept["alpha"]` is
    the alpha of the next step: it is written after every step, and where it is there at the start the run goes on from it.
    Raises ValueError if the loop has no reference.
    """
    require_reference(loop)
    # BEGIN SOLUTION
    loop.policy.eval()
    loop.reference.eval()
    alpha = loop.kept.get("alpha", config.alpha)
    controller = AdaptiveKLController(alpha, config.target_kl, config.horizon) if config.target_kl > 0 else None
    for prompts in loop.batches():
        rollout = loop.rollout(prompts.repeated(config.group_size))
        mask, rewards = rollout.mask, loop.reward(rollout)  # (B, T), (B,)
        log_probs = completion_log_probs(loop.policy, rollout, config.temperature, config.top_k)  # (B, T)
        with torch.no_grad():
            ref_log_probs = completion_log_probs(loop.reference, rollout, config.temperature)
        shaped = kl_shaped_reward(rewards, log_probs, ref_log_probs, mask, alpha)
        advantages = loop.own(advantages_of(loop.gather(shaped), config))
        loss = -(advantages * log_probs.sum(-1)).mean()
        loop.update(loss)
        now = log_probs.detach()  # of the policy that wrote, as it was before the step
        kls = loop.gather(k1(now, ref_log_probs, mask).sum(-1))  # (B of all processes,)
        loop.log(
            reward=rewards.mean(),
            shaped_reward=shaped.mean(),
            kl=kls.mean(),
            kl_k3=k3(now, ref_log_probs, mask).sum(-1).mean(),
            loss=loss,
            alpha=alpha,
            **completion_metrics(rollout, now, loop.eos_token_id),
        )
        if controller is not None:
            alpha = controller.update(kls.mean().item(), len(kls))
        loop.kept["alpha"] = alpha
    # END SOLUTION


def advantages_of(rewards: Float[Tensor, "batch"], config: KLConfig) -> Float[Tensor, "batch"]:
    """The rewards less what `config.baseline` compares them with (lesson 9): given, made of your functions."""
    if config.baseline == "rloo":
        return rloo_advantages(rewards, config.group_size)
    return rewards - batch_baseline(rewards) if config.baseline == "batch" else rewards


def regime(reward: float, naturalness: float | None, reference_naturalness: float | None) -> str:
    """What became of a run, in a word (section 10.8).

    reward: the mean after training.  naturalness, reference_naturalness: log-likelihood a token under the grammar, nats, of what
    the policy and the reference write; None, both, where no grammar knows the language. Asked in this order:

        "collapsed"   naturalness more than NATURAL nats below the reference's, whatever the reward
        "weak"        reward below WEAK
        "unread"      no naturalness: somebody has to read the text
        "good"        reward at least GOOD
        "between"     the rest

    Raises ValueError if a number is NaN.
    """
    require_numbers(reward=reward, naturalness=naturalness, reference_naturalness=reference_naturalness)
    # BEGIN SOLUTION
    if naturalness is not None and naturalness < reference_naturalness - NATURAL:
        return "collapsed"
    if reward < WEAK:
        return "weak"
    if naturalness is None:
        return "unread"
    return "good" if reward >= GOOD else "between"
    # END SOLUTION


def sweep(run: Callable[[float], dict[str, Any]], alphas: Sequence[float]) -> list[dict[str, Any]]:
    """One run for each alpha, in the order given: a row of figures each, with the regime named (section 10.8).

    run(alpha) -> its figures by name; `reward`, `kl`, `naturalness` and `reference_naturalness` are among them. A row is
    {"alpha": alpha, every figure of the run, "regime": ...}. The dictionaries that `run` returns are left as they are.
    Raises ValueError if there is no alpha or one is negative: before the first run, which may take minutes.
    """
    require_alphas(alphas)
    # BEGIN SOLUTION
    rows = []
    for alpha in alphas:
        figures = run(alpha)
        word = regime(figures["reward"], figures["naturalness"], figures["reference_naturalness"])
        rows.append({"alpha": alpha, **figures, "regime": word})
    return rows
    # END SOLUTION


# Given: what makes no sense is refused, by the name of the argument, with what was expected and what came.


def require_mask(mask: Tensor, shape: Sequence[int]) -> None:
    """Raises ValueError unless the mask is boolean, of this shape, and True somewhere."""
    if tuple(mask.shape) != tuple(shape) or mask.dtype != torch.bool:
        received = f"shape {tuple(mask.shape)} and dtype {mask.dtype}"
        raise ValueError(f"mask: expected shape {tuple(shape)} and booleans, received {received}")
    given.require_mask(mask)


def require_log_probs(log_probs: Tensor, ref_log_probs: Tensor, mask: Tensor) -> None:
    """Raises ValueError unless all are (batch, time), and the first two at most 0 under the mask."""
    given.require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)
    require_mask(mask, log_probs.shape)
    for name, values in (("log_probs", log_probs), ("ref_log_probs", ref_log_probs)):
        largest = values.detach()[mask].max().item()  # NaN if one of them is
        if not largest <= 1e-6:  # the rounding of a float32 log-softmax
            raise ValueError(f"{name}: expected log-probabilities, at most 0, received {largest:.6g} (is it a logit?)")


def require_rows(log_probs: Tensor, ref_log_probs: Tensor, mask: Tensor) -> None:
    """Raises ValueError unless both are (batch, time, vocabulary), the mask fits, and each row under it is a log-distribution."""
    if log_probs.ndim != 3:
        raise ValueError(f"log_probs: expected shape (batch, time, vocabulary), received shape {tuple(log_probs.shape)}")
    if ref_log_probs.shape != log_probs.shape:
        expected, received = tuple(log_probs.shape), tuple(ref_log_probs.shape)
        raise ValueError(f"ref_log_probs: expected shape {expected}, received shape {received} (do the vocabularies differ?)")
    require_mask(mask, log_probs.shape[:2])
    for name, rows in (("log_probs", log_probs), ("ref_log_probs", ref_log_probs)):
        sums = rows.detach()[mask].logsumexp(-1)
        off = ~(sums.abs() <= (1e-9 if rows.dtype == torch.float64 else 1e-4))  # a float32 sum over 50,000 tokens; NaN is off
        if bool(off.any()):
            received = f"a sum of {sums[off][0].exp().item():.6g}: raw logits?"
            raise ValueError(f"{name}: expected log-probabilities whose exponentials sum to 1 in each row, received {received}")


def require_step(kl: float, samples: int, horizon: float) -> None:
    """Raises ValueError unless the KL is finite and the batch is small enough for the horizon."""
    if not math.isfinite(kl):
        raise ValueError(f"kl: expected a finite number of nats, received {kl}")
    if not 0 < samples < horizon / LARGEST_ERROR:
        raise ValueError(f"samples: expected more than 0 and fewer than {horizon / LARGEST_ERROR:g}, received {samples}")


def require_reference(loop: Loop) -> None:
    """Raises ValueError unless the loop has a reference to stay near."""
    if loop.reference is None:
        raise ValueError("loop.reference: expected a model to stay near, received None")


def require_numbers(**numbers: float | None) -> None:
    """Raises ValueError, naming the argument, if one is NaN."""
    for name, number in numbers.items():
        if number is not None and math.isnan(number):
            raise ValueError(f"{name}: expected a number, received {number}")


def require_alphas(alphas: Sequence[float]) -> None:
    """Raises ValueError unless there is an alpha and none is negative."""
    if len(alphas) == 0:
        raise ValueError("alphas: expected at least one, received none")
    for alpha in alphas:
        given.require_not_negative("alphas", alpha)
