"""Lesson 15: GRPO, groups of answers whose reward can be checked.

Conventions, the same in every function:

- Every prompt is answered `group_size` times, and a group's rows stand together: rows 0 .. group_size - 1 are the first group's.
- Log-probabilities are natural (nats), (batch, time), of the tokens that were written. `mask`, bool (batch, time), is True on
  those tokens, the first EOS included. What stands where it is False does not count, whatever it is: it may be inf or NaN.
- "Old" is the policy that wrote the rollout; the reference is the one it is held near. Both are constants.
- A loss is to be made small. No argument is changed in place.

The `require_...` calls are given, at the end of the file: they refuse input that makes no sense.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from full.given.grpo_settings import KL_ESTIMATORS, MEANS, SCALES, GRPOConfig
from full.given.loop import Loop
from full.given.ppo_settings import completion_texts
from full.given.reinforce import completion_metrics, require_groups, require_rewards
from full.given.settings import require_one_of
from solutions.full.kl_control import k1, k2, k3, kl_shaped_reward
from solutions.full.ppo import GPT2Policy, score
from solutions.full.reinforce import rloo_advantages
from solutions.toy.ppo import approximate_kl, masked_mean
from toy.given import ppo as given

MARKER = "####"
"What stands before the final number where answers are written as GSM8K writes them."


def final_number(text: str) -> Decimal | None:
    """The number that a text ends with, None if it states none (section 15.1).

    Where the text has "####", the first number behind the last "####" is meant, and what stands before does not count. Else it is
    the last number of the text. A number is written so:

    - digits 0 to 9; in front of a comma one to three of them, and behind each comma exactly three: 1,234,567. Any other comma
      ends a number: in 12,34 there are two.
    - then, if anything, a point with digits behind it: 3.50. The full stop of a sentence is none: "= 42." states 42.
    - its sign, + or - (or U+2212, the typographer's minus), directly before the first digit. Behind a digit, a letter or a
      closing bracket it is an operator: "17-5" ends with 5. So it is before a space: "17 - 5" ends with 5, "= -5" with -5.

    Numbers are values: 042, 42 and 42.0 are the same. Of "$42", "42%", "x2" and "3/4" the digits alone are read: 42, 42, 2, 4.
    """
    # BEGIN SOLUTION
    number = r"(?:(?<![0-9A-Za-z)\]}])[-+\u2212])?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"
    _, marker, behind = text.rpartition(MARKER)
    found = re.findall(number, behind)  # without a marker `behind` is the whole text
    if not found:
        return None
    stated = found[0] if marker else found[-1]
    return Decimal(stated.replace(",", "").replace("\u2212", "-"))
    # END SOLUTION


def exact_match_reward(completions: Sequence[str], answers: Sequence[str]) -> Float[Tensor, "batch"]:
    """1.0 for each completion whose final number is the final number of its answer, 0.0 for every other one (eq. 15.1).

    answers: one for each completion: a number, or a text that ends with one, as in GSM8K. A completion without a number gets 0.
    Returns float64, on the CPU. Raises ValueError unless there are as many answers as completions, and each states a number.
    """
    require_answers(completions, answers)
    # BEGIN SOLUTION
    right = [final_number(completion) == final_number(answer) for completion, answer in zip(completions, answers)]
    return torch.tensor(right, dtype=torch.float64)
    # END SOLUTION


def group_advantages(rewards: Float[Tensor, "batch"], group_size: int, scale: str = "std") -> Float[Tensor, "batch"]:
    """What each completion's reward is worth beside those of its group (eq. 15.2, 15.3, 15.5).

    scale "none": r_i - mean(r), the mean over the whole group, i included (Dr. GRPO).
    scale "loo":  r_i less the mean of the others: lesson 9's `rloo_advantages`.
    scale "std":  (r_i - mean(r)) / std(r), the standard deviation with divisor group_size, not group_size - 1 (GRPO).

    A group whose rewards are all equal, to the last digit, gets zeros. Nothing is added to the standard deviation.
    Raises ValueError unless rewards is (batch,) finite numbers, group_size, 2 or more, divides batch, and scale is one of these.
    Source: Shao et al. 2024, "DeepSeekMath"; scale "none": Liu et al. 2025, "Understanding R1-Zero-like training".
    """
    require_rewards("rewards", rewards)
    require_groups(group_size, len(rewards))
    require_one_of("scale", scale, SCALES)
    # BEGIN SOLUTION
    groups = rewards.reshape(-1, group_size)  # (prompts, G)
    alike = groups.amax(dim=1, keepdim=True) == groups.amin(dim=1, keepdim=True)  # a mean of thirds need not be a third
    advantages = groups - groups.mean(dim=1, keepdim=True)
    if scale == "loo":
        advantages = rloo_advantages(rewards, group_size).view_as(groups)
    if scale == "std":
        spread = groups.std(dim=1, correction=0, keepdim=True)
        advantages = advantages / torch.where(alike, 1.0, spread)
    return torch.where(alike, 0.0, advantages).flatten()
    # END SOLUTION


def kl_estimate(
    log_probs: Float[Tensor, "batch time"],
    ref_log_probs: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    estimator: str = "k3",
) -> Float[Tensor, "batch time"]:
    """Lesson 10's estimate of KL(policy||reference) from each token, by name; 0 off the mask (eq. 15.15).

        k1: log pi - log pi_ref        k2: (log pi - log pi_ref)^2 / 2        k3: r - 1 - ln r,  r = pi_ref / pi

    The gradient flows through log_probs. What it is worth in a loss is another question than what the value is worth.
    Raises ValueError for another name, and as `k1` of lesson 10 does.
    """
    require_one_of("estimator", estimator, KL_ESTIMATORS)
    # BEGIN SOLUTION
    return {"k1": k1, "k2": k2, "k3": k3}[estimator](log_probs, ref_log_probs, mask)
    # END SOLUTION


def grpo_loss(
    log_probs: Float[Tensor, "batch time"],
    old_log_probs: Float[Tensor, "batch time"],
    advantages: Float[Tensor, "batch"],
    mask: Bool[Tensor, "batch time"],
    *,
    clip: float,
    clip_high: float = 0.0,
    mean: str = "sequence",
    max_tokens: int | None = None,
    ref_log_probs: Float[Tensor, "batch time"] | None = None,
    kl_coef: float = 0.0,
    kl: str = "k3",
) -> Float[Tensor, ""]:
    """GRPO's loss (eq. 15.9 to 15.13): minus a mean over tokens of

        g_it = min(rho_it A_i, clip(rho_it, 1 - clip, 1 + clip_high) A_i) - kl_coef kl_it,     rho_it = pi(y_it) / pi_old(y_it)

    advantages: one number a completion, the same for all its tokens; a constant, whatever it came from.
    clip_high: how far above 1 the ratio is followed; 0: as far as `clip`.
    mean: what the sum over tokens is divided by, of n completions with |y_i| real tokens each:
        "sequence"   1/n sum_i 1/|y_i| sum_t g_it            GRPO: every completion weighs the same
        "token"      sum_i sum_t g_it / sum_i |y_i|          DAPO: every token of the batch weighs the same
        "constant"   1/n sum_i 1/max_tokens sum_t g_it       Dr. GRPO: no length is in it; `max_tokens` is needed
    A completion without a real token adds nothing, and is one of the n.
    kl_it: `kl_estimate` of the tokens by the name `kl`; needs `ref_log_probs` where kl_coef is above 0.

    The result has the dtype of log_probs. Raises ValueError, naming the argument, if shapes differ, `mask` is not boolean or
    True nowhere, for a clip that is not positive, a negative clip_high or kl_coef, another mean or kl, and for what is needed
    and missing.
    Sources: Shao et al. 2024, eq. 3; Yu et al. 2025, "DAPO"; Liu et al. 2025.
    """
    require_loss(log_probs, old_log_probs, advantages, mask, clip, clip_high, mean, max_tokens, ref_log_probs, kl_coef, kl)
    # BEGIN SOLUTION
    worth = advantages.detach().to(log_probs.dtype).unsqueeze(1)  # (B, 1)
    ratio = torch.where(mask, log_probs - old_log_probs.detach(), 0.0).exp()  # (B, T), exactly 1 at the first update
    gain = torch.minimum(ratio * worth, ratio.clamp(1 - clip, 1 + (clip_high or clip)) * worth)
    if kl_coef > 0:
        gain = gain - kl_coef * kl_estimate(log_probs, ref_log_probs, mask, kl)
    gain = torch.where(mask, gain, 0.0)
    if mean == "token":
        return -gain.sum() / mask.sum()
    lengths = mask.sum(dim=1).clamp(min=1) if mean == "sequence" else max_tokens
    return -(gain.sum(dim=1) / lengths).mean()
    # END SOLUTION


def grpo_metrics(
    rewards: Float[Tensor, "batch"],
    group_size: int,
    log_probs: Float[Tensor, "batch time"],
    old_log_probs: Float[Tensor, "batch time"],
    mask: Bool[Tensor, "batch time"],
    *,
    clip: float,
    clip_high: float = 0.0,
) -> dict[str, Float[Tensor, ""]]:
    """What to watch beside the reward (section 15.8): numbers without a gradient, float64.

    no_signal: the share of groups whose rewards are all equal, which teach nothing.
    solved: the share of groups with at least one completion of reward 1.
    length_right, length_wrong: mean number of real tokens of the completions of reward 1, and of the others; 0 if there are none.
    ratio: the mean of rho = pi / pi_old over real tokens.
    approx_kl: lesson 6's estimate of KL(old||new), nats a token.
    clip_fraction: the share of real tokens with rho below 1 - clip or above 1 + clip_high (0: clip).
    Raises ValueError unless the rewards fill groups, the shapes fit, and a token is real.
    """
    require_rewards("rewards", rewards, len(mask))
    require_groups(group_size, len(rewards))
    require_tokens(log_probs, old_log_probs, mask)
    # BEGIN SOLUTION
    groups, right, lengths = rewards.view(-1, group_size), rewards == 1, mask.sum(dim=1).double()
    log_probs, old_log_probs = (torch.where(mask, values.detach(), 0.0).double() for values in (log_probs, old_log_probs))
    ratio = (log_probs - old_log_probs).exp()  # (B, T), 1 off the mask
    outside = (ratio < 1 - clip) | (ratio > 1 + (clip_high or clip))
    return {
        "no_signal": (groups.amax(dim=1) == groups.amin(dim=1)).double().mean(),
        "solved": right.view(-1, group_size).any(dim=1).double().mean(),
        "length_right": (lengths * right).sum() / right.sum().clamp(min=1),
        "length_wrong": (lengths * ~right).sum() / (~right).sum().clamp(min=1),
        "ratio": masked_mean(ratio, mask),
        "approx_kl": approximate_kl(log_probs, old_log_probs, mask),
        "clip_fraction": masked_mean(outside.double(), mask),
    }
    # END SOLUTION


def train(loop: Loop, config: GRPOConfig) -> None:
    """GRPO: a group of answers to every prompt, `config.updates` steps on each rollout (section 15.8).

    The batches are `AnsweredPrompts`. Policy and reference are set to evaluation mode first (dropout off). For each batch:
    1. rollout: `prompts.repeated(config.group_size)`, which repeats their answers too, and `loop.rollout` of those;
    2. reward: `exact_match_reward` of `completion_texts(loop.tokenizer, rollout)` and the answers, on the rollout's device;
    3. log-probabilities: by lesson 14's `score` of a `GPT2Policy` around the model, without a value model, at the temperature
       that sampled: of the reference over the whole vocabulary and without gradient (none where `loop.reference` is None); of
       the policy within `rollout.support`. Those of the first update, as numbers, are the old ones;
    4. advantage, once a rollout: `group_advantages`, of the rewards or, with kl_place "reward" and a price, of lesson 10's
       `kl_shaped_reward` under the old policy. A group is never divided among processes: nothing is gathered (and with mean
       "token" the tokens counted are those of a process);
    5. `config.updates` times: the policy's log-probabilities anew, `grpo_loss` (max_tokens is config.new_tokens; the KL is in it
       with kl_place "loss" alone) and `loop.update`;
    6. log, once a rollout: reward (the mean of step 2's), loss (the last update's), `grpo_metrics` (of step 2's rewards and the
       last update's log-probabilities), the `completion_metrics` of the rollout under the old policy and, where there is a
       reference, kl: log pi_old - log pi_ref summed over each completion, the mean over the rows.
    Raises ValueError if there is a price but no reference.
    """
    require_reference(loop, config)
    # BEGIN SOLUTION
    policy, reference, ref_log_probs = GPT2Policy(loop.policy).eval(), None, None
    if loop.reference is not None:
        reference = GPT2Policy(loop.reference).eval()
    in_loss, in_reward = (config.kl_coef if config.kl_place == place else 0.0 for place in ("loss", "reward"))
    for prompts in loop.batches():
        prompts = prompts.repeated(config.group_size)
        rollout = loop.rollout(prompts)
        mask, texts = rollout.mask, completion_texts(loop.tokenizer, rollout)
        rewards = exact_match_reward(texts, prompts.answers).to(mask.device)  # (B,)
        if reference is not None:
            with torch.no_grad():
                ref_log_probs, _ = score(reference, None, rollout, config.temperature)  # (B, T)
        for update in range(config.updates):
            log_probs, _ = score(policy, None, rollout, config.temperature, rollout.support)  # (B, T)
            if update == 0:
                old_log_probs = log_probs.detach()
                paid = kl_shaped_reward(rewards, old_log_probs, ref_log_probs, mask, in_reward) if in_reward > 0 else rewards
                advantages = group_advantages(paid, config.group_size, config.scale)
            loss = grpo_loss(
                log_probs,
                old_log_probs,
                advantages,
                mask,
                clip=config.clip,
                clip_high=config.clip_high,
                mean=config.mean,
                max_tokens=config.new_tokens,
                ref_log_probs=ref_log_probs,
                kl_coef=in_loss,
                kl=config.kl,
            )
            loop.update(loss)
        how_far = {} if reference is None else {"kl": (old_log_probs - ref_log_probs).sum(dim=1).mean()}
        loop.log(
            reward=rewards.mean(),
            loss=loss,
            **how_far,
            **grpo_metrics(
                rewards, config.group_size, log_probs, old_log_probs, mask, clip=config.clip, clip_high=config.clip_high
            ),
            **completion_metrics(rollout, old_log_probs, loop.eos_token_id),
        )
    # END SOLUTION


# Given: the refusal of what makes no sense, by the name of the argument.


def require_answers(completions: Sequence[str], answers: Sequence[str]) -> None:
    """Raises ValueError unless there is an answer for each completion, and each answer states a number."""
    if len(answers) != len(completions):
        raise ValueError(f"answers: expected one for each of {len(completions)} completions, received {len(answers)}")
    for answer in answers:
        if not isinstance(answer, str) or final_number(answer) is None:
            raise ValueError(f"answers: expected a text that states a number, received {answer!r}")


def require_tokens(log_probs: Tensor, old_log_probs: Tensor, mask: Tensor) -> None:
    """Raises ValueError unless all are (batch, time) and the mask is boolean, and True somewhere."""
    given.require_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, mask=mask)
    if mask.dtype != torch.bool:
        raise ValueError(f"mask: expected booleans, received {mask.dtype}")
    given.require_mask(mask)


def require_loss(
    log_probs, old_log_probs, advantages, mask, clip, clip_high, mean, max_tokens, ref_log_probs, kl_coef, kl
) -> None:
    """Raises ValueError, naming the argument, for what `grpo_loss` cannot make sense of."""
    require_tokens(log_probs, old_log_probs, mask)
    require_rewards("advantages", advantages, len(mask))
    given.require_positive("clip", clip)
    given.require_not_negative("clip_high", clip_high)
    given.require_not_negative("kl_coef", kl_coef)
    require_one_of("mean", mean, MEANS)
    require_one_of("kl", kl, KL_ESTIMATORS)
    if mean == "constant":
        if max_tokens is None:
            raise ValueError("max_tokens: expected the constant to divide by with mean='constant', received None")
        given.require_positive("max_tokens", max_tokens)
    if kl_coef > 0 and ref_log_probs is None:
        raise ValueError(f"ref_log_probs: expected those of the reference with kl_coef={kl_coef:g}, received None")
    if ref_log_probs is not None:
        given.require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)


def require_reference(loop: Loop, config: GRPOConfig) -> None:
    """Raises ValueError if the KL has a price and there is nothing to stay near."""
    if config.kl_coef > 0 and loop.reference is None:
        raise ValueError(f"loop.reference: expected a model to stay near with kl_coef={config.kl_coef:g}, received None")
