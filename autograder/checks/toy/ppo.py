"""Lesson 6: what is true of PPO and its parts.

Every truth is worked out token by token in NumPy, gradients included, by hand. Updates and training are replayed on tables by
`ppo_replay`, which is imported where a truth needs it and nowhere else: it stays with the grader.
"""

import numpy as np

from autograder.checks import Check, check, edit, mistake
from autograder.checks.compare import difference, number
from autograder.checks.refusals import Refuses

EXACT = 1e-9  # float64 throughout: sums of a few dozen terms of size 1 to 10 lose less than 1e-13
REPLAY = 1e-8  # a dozen steps of such sums, each starting from the one before, with ratios up to e^3


def mask_of(lengths, time):
    return np.arange(time) < np.array(lengths)[:, None]


def batches(rng, *names):
    """Ragged batches, smallest first, the last one with a row that is all padding. Padding holds numbers like any other."""
    for lengths, time in (([1], 1), ([2, 3], 3), ([2, 5, 0, 3], 5)):
        yield {**{name: rng.normal(size=(len(lengths), time)) for name in names}, "mask": mask_of(lengths, time)}


def log_prob_batches(rng):
    """Batches of log-probabilities and old ones, with ratios from e^-3 to e^3."""
    for case in batches(rng, "log_probs"):
        old = -rng.uniform(0.1, 3.0, size=case["mask"].shape)
        yield {"log_probs": old + rng.uniform(-1.0, 1.0, old.shape) * rng.choice([0.1, 3.0], old.shape), "old_log_probs": old,
               "mask": case["mask"]}  # fmt: skip


def answer(**values):
    """What the probe reports of a function that returns this in float64 and leaves its arguments alone."""
    return {**values, "dtype": "float64", "arguments changed": "none"}


@check("masked_mean", points=1, section="6.2")
class RealTokensAlike(Check):
    probe = "masked_mean"
    tolerance = EXACT

    def cases(self, rng):
        yield {"values": np.array([[1.0, 5.0], [6.0, 100.0]]), "mask": mask_of([2, 1], 2)}
        yield from batches(rng, "values")

    def truth(self, values, mask):
        return answer(mean=np.mean(values[mask]), gradients={"values": mask / mask.sum()})

    mistakes = [
        edit("padding-scored", "Padded positions count in your mean: `(values * mask).mean()` divides by all positions. Divide "
             "by the number of real tokens, mask.sum().",
             {"return (values * mask).sum() / mask.sum()": "return (values * mask).mean()"}),
        edit("mask-ignored", "The mask has no effect: what stands at padded positions enters your mean.",
             {"return (values * mask).sum() / mask.sum()": "return values.mean()"}),
        edit("mean-of-row-means", "You average each row first. Then a token of a short sentence weighs more than one of a long "
             "sentence; asked for is one mean over all real tokens.",
             {"return (values * mask).sum() / mask.sum()":
              "return ((values * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()"}),
        edit("sum-for-mean", "This is the sum over real tokens. Divide it by their number.",
             {"return (values * mask).sum() / mask.sum()": "return (values * mask).sum()"}),
        edit("rows-for-tokens", "You divide by the number of rows. The mean is over tokens: divide by mask.sum().",
             {"return (values * mask).sum() / mask.sum()": "return (values * mask).sum() / len(mask)"}),
    ]  # fmt: skip


@check("masked_mean", points=0.5, section="6.2")
class RealTokensRefuses(Refuses):
    def cases(self, rng):
        good = {"values": rng.normal(size=(2, 3)), "mask": mask_of([2, 3], 3)}
        for bad in (mask_of([0, 0], 3), mask_of([2], 3), mask_of([1, 1, 1], 2)):
            yield {"function": "masked_mean", "good": good, "argument": "mask", "bad": bad}

    mistakes = [
        edit("empty-mask", "A mask without a single real token goes through and gives 0/0 = NaN. Refuse it with a ValueError.",
             {"given.require_same_shape(values=values, mask=mask)\n    given.require_mask(mask)":
              "given.require_same_shape(values=values, mask=mask)"}),
        edit("broadcast", "A mask of one row is stretched over all rows. Refuse shapes that differ.",
             {"given.require_same_shape(values=values, mask=mask)": "pass"}),
    ]  # fmt: skip


@check("discounted_returns", points=2, section="6.2")
class RewardsToCome(Check):
    probe = "discounted_returns"
    tolerance = EXACT

    def cases(self, rng):
        yield {"rewards": np.array([[1.0, 2.0, 4.0]]), "mask": mask_of([3], 3), "gamma": 0.5}
        yield {"rewards": np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]), "mask": mask_of([2, 1], 3), "gamma": 1.0}
        for case, gamma in zip(batches(rng, "rewards"), (0.0, 0.9, 0.95)):
            yield {**case, "gamma": gamma}

    def truth(self, rewards, mask, gamma):
        returns = np.zeros(rewards.shape)
        for b, length in enumerate(mask.sum(axis=1)):
            for t in range(length):
                returns[b, t] = sum(gamma ** (k - t) * rewards[b, k] for k in range(t, length))
        return answer(returns=returns)

    @mistake("discounted-from-the-start", "Every reward is discounted by its distance from the sentence's first token. G_t "
             "discounts by the distance from token t: its own reward counts in full.")  # fmt: skip
    def from_the_start(self, rewards, mask, gamma):
        return answer(returns=self.truth(rewards, mask, gamma)["returns"] * gamma ** np.arange(mask.shape[1]))

    mistakes = [
        edit("padding-scored", "Rewards at padded positions enter the returns. A sentence is over at its last real token.",
             {"later = (rewards[:, t] + gamma * later) * mask[:, t]": "later = rewards[:, t] + gamma * later",
              "        returns[:, t] = later\n    return returns": "        returns[:, t] = later\n    return returns * mask"}),
        edit("padding-not-zero", "The returns at padded positions are not 0.",
             {"later = (rewards[:, t] + gamma * later) * mask[:, t]":
              "later = torch.where(mask[:, t], rewards[:, t] + gamma * later, 0.0)",
              "        returns[:, t] = later\n    return returns":
              "        returns[:, t] = torch.where(mask[:, t], later, rewards[:, t])\n    return returns"}),
        edit("forward-in-time", "You add up the rewards of the past. A token can only be credited with what comes after it: go "
             "through the sentence from its end.",
             {"for t in reversed(range(rewards.shape[1])):": "for t in range(rewards.shape[1]):"}),
        edit("own-reward-missing", "The reward of the token itself is missing: the sum starts at k = t.",
             {"        later = (rewards[:, t] + gamma * later) * mask[:, t]\n        returns[:, t] = later\n":
              "        returns[:, t] = gamma * later * mask[:, t]\n"
              "        later = (rewards[:, t] + gamma * later) * mask[:, t]\n"}),
        edit("no-discount", "`gamma` has no effect.",
             {"later = (rewards[:, t] + gamma * later) * mask[:, t]": "later = (rewards[:, t] + later) * mask[:, t]"}),
        edit("in-place", "`rewards` itself is overwritten. Write into a new tensor.",
             {"returns = torch.empty_like(rewards)": "returns = rewards"}),
        edit("device-dtype", "The result is float32: `torch.zeros(shape)` takes the default dtype. Take that of `rewards` "
             "(`torch.zeros_like`).", {"returns = torch.empty_like(rewards)": "returns = torch.zeros(rewards.shape)"}),
    ]  # fmt: skip


@check("kl_penalised_rewards", points=2.5, section="6.3")
class RewardOfEveryToken(Check):
    probe = "kl_penalised_rewards"
    tolerance = EXACT

    def cases(self, rng):
        yield {"scores": np.array([2.0]), "log_probs": np.array([[-1.0, -0.5]]), "ref_log_probs": np.array([[-1.5, -2.0]]),
               "mask": mask_of([2], 2), "kl_coef": 0.1}  # fmt: skip
        for case, kl_coef in zip(batches(rng, "log_probs", "ref_log_probs"), (0.0, 0.5, 2.0)):
            yield {"scores": rng.normal(size=len(case["mask"])), **case, "kl_coef": kl_coef}

    def truth(self, scores, log_probs, ref_log_probs, mask, kl_coef):
        rewards = np.zeros(mask.shape)
        for b, t in np.argwhere(mask):
            rewards[b, t] = kl_coef * (ref_log_probs[b, t] - log_probs[b, t])
            if not mask[b, t + 1 :].any():
                rewards[b, t] += scores[b]
        return answer(rewards=rewards, **{"carries a gradient": False})

    mistakes = [
        edit("k1-sign", "The sign of the KL term is turned: you pay the policy for leaving the reference.",
             {"-kl_coef * (log_probs - ref_log_probs) * mask": "kl_coef * (log_probs - ref_log_probs) * mask"}),
        edit("score-on-padding", "The score stands in the last column, which in a short row is padding. It belongs to the last "
             "real token.", {"position == mask.sum(dim=1, keepdim=True) - 1": "position == mask.shape[1] - 1 + 0 * mask.sum()"}),
        edit("last-off-by-one", "The score stands one place behind the last real token. With n real tokens the last one has "
             "index n - 1.", {"position == mask.sum(dim=1, keepdim=True) - 1": "position == mask.sum(dim=1, keepdim=True)"}),
        edit("score-everywhere", "Every token gets the score, so a sentence of n tokens is paid n times. Only the last real one "
             "gets it.", {"scores.unsqueeze(1) * last": "scores.unsqueeze(1) * mask"}),
        edit("score-replaces-kl", "At the last real token the score stands in the place of the KL term. It is added to it.",
             {"-kl_coef * (log_probs - ref_log_probs) * mask + scores.unsqueeze(1) * last":
              "torch.where(last, scores.unsqueeze(1), -kl_coef * (log_probs - ref_log_probs) * mask)"}),
        edit("kl-prompt", "Padded positions pay a KL penalty too. Only real tokens do.",
             {"(log_probs - ref_log_probs) * mask +": "(log_probs - ref_log_probs) +"}),
        edit("kl-summed-at-the-end", "The whole sentence's KL is charged to its last token. The total is right, but each token "
             "is to pay for itself: then credit goes where it is due.",
             {"(log_probs - ref_log_probs) * mask +": "((log_probs - ref_log_probs) * mask).sum(1, keepdim=True) * last +"}),
        edit("k3-in-reward", "This is k3, ratio - 1 - log ratio. In the reward the plain log-ratio (k1) has the exact gradient "
             "of the KL (lesson 4).",
             {"(log_probs - ref_log_probs) * mask +":
              "((ref_log_probs - log_probs).exp() - 1 - (ref_log_probs - log_probs)) * mask +"}),
        edit("kl-coef-on-the-score", "`kl_coef` also multiplies the score. It is the price of a nat, nothing else.",
             {"scores.unsqueeze(1) * last": "kl_coef * scores.unsqueeze(1) * last"}),
        edit("attached-reward", "A gradient can flow back through the rewards into the log-probabilities. Rewards are constants: "
             "`detach` them.", {"return rewards.detach()": "return rewards"}),
    ]  # fmt: skip


@check("kl_penalised_rewards", points=0.5, section="6.3")
class RewardRefuses(Refuses):
    def cases(self, rng):
        good = {"scores": np.array([1.0, 2.0]), "log_probs": rng.normal(size=(2, 3)), "ref_log_probs": rng.normal(size=(2, 3)),
                "mask": mask_of([2, 3], 3), "kl_coef": 0.1}  # fmt: skip
        holes = np.array([[True, False, True], [True, True, True]])
        for argument, bad in (("scores", np.ones(3)), ("scores", np.ones((2, 1))), ("ref_log_probs", np.ones((2, 2))),
                              ("mask", mask_of([0, 0], 3)), ("mask", holes), ("kl_coef", -0.1)):  # fmt: skip
            yield {"function": "kl_penalised_rewards", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("broadcast", "Scores of shape (batch, 1) go through, and torch stretches what should be one number a row.",
             {'given.require_per_row("scores", scores, mask)': "pass"}),
        edit("negative-price", "A negative `kl_coef` pays for leaving the reference. Refuse it.",
             {'given.require_not_negative("kl_coef", kl_coef)': "pass"}),
    ]  # fmt: skip


def settings_of_gae():
    return ((1.0, 1.0), (0.9, 0.0), (0.9, 0.8), (1.0, 0.95))


@check("gae", points=4.5, section="6.5")
class Advantages(Check):
    probe = "gae"
    tolerance = EXACT

    def cases(self, rng):
        yield {"rewards": np.array([[1.0]]), "values": np.array([[0.25]]), "mask": mask_of([1], 1), "gamma": 0.9, "lam": 0.8}
        yield {"rewards": np.array([[-0.25, 0.5, 1.0]]), "values": np.array([[0.5, 1.0, 0.25]]), "mask": mask_of([3], 3),
               "gamma": 1.0, "lam": 0.5}  # fmt: skip
        yield {"rewards": np.array([[0.0, 1.0, 9.0]]), "values": np.array([[0.5, 0.25, 7.0]]), "mask": mask_of([2], 3),
               "gamma": 1.0, "lam": 0.5}  # fmt: skip
        yield {"rewards": np.array([[0.0, 1.0]]), "values": np.array([[0.5, 0.25]]), "mask": mask_of([2], 2), "gamma": 0.5,
               "lam": 0.5, "bootstrap": np.array([2.0])}  # fmt: skip
        for gamma, lam in settings_of_gae():
            for case in list(batches(rng, "rewards", "values"))[1:]:
                yield {**case, "gamma": gamma, "lam": lam}
        case = list(batches(rng, "rewards", "values"))[2]
        yield {**case, "gamma": 0.9, "lam": 0.8, "bootstrap": rng.normal(size=4)}

    def truth(self, rewards, values, mask, gamma, lam, bootstrap=None):
        from .ppo_replay import gae

        return self.answer(*gae(rewards, values, mask, gamma, lam, bootstrap))

    @staticmethod
    def answer(advantages, returns):
        return answer(advantages=advantages, returns=returns, **{"carries a gradient": False})

    @mistake("returns-are-td-targets", "Your returns are one-step targets, r + gamma V of the next token. The returns are A + V, "
             "which look as far ahead as the advantages do.")  # fmt: skip
    def td_targets(self, rewards, values, mask, gamma, lam, bootstrap=None):
        from .ppo_replay import gae

        advantages, _ = gae(rewards, values, mask, gamma, lam, bootstrap)
        return self.answer(advantages, gae(rewards, values, mask, gamma, 0.0, bootstrap)[1])

    @mistake("returns-without-lambda", "Your returns are plain discounted sums of rewards, whatever lambda. They are A + V: the "
             "same only for lambda 1.")  # fmt: skip
    def monte_carlo(self, rewards, values, mask, gamma, lam, bootstrap=None):
        from .ppo_replay import gae

        advantages, _ = gae(rewards, values, mask, gamma, lam, bootstrap)
        return self.answer(advantages, gae(rewards, values, mask, gamma, 1.0, bootstrap)[1])

    mistakes = [
        edit("gae-leaks", "The value behind the last real token is read from the padding. There the sentence is over: V is 0 (or "
             "the bootstrap value).",
             {"next_value = torch.where(real, values[:, t], next_value)  # on padding still the value behind the end":
              "next_value = values[:, t]"}),
        edit("gae-sum-leaks", "The running sum starts in the padding, so TD errors from behind the end flow into the sentence. "
             "At padded positions A is 0.",
             {"advantage = (delta + gamma * lam * advantage) * real": "advantage = delta + gamma * lam * advantage",
              "return advantages, (advantages + values) * mask": "return advantages * mask, (advantages + values) * mask"}),
        edit("mask-ignored", "The mask has no effect on the recursion: values and rewards of padding are taken for more tokens.",
             {"real = mask[:, t]": "real = torch.ones_like(mask[:, t])",
              "return advantages, (advantages + values) * mask": "return advantages * mask, (advantages + values) * mask"}),
        edit("no-bootstrap", "`bootstrap` has no effect. Where a rollout was cut off, V behind the last real token is the "
             "bootstrap value and not 0.",
             {"torch.zeros_like(values[:, 0]) if bootstrap is None else bootstrap.detach()": "torch.zeros_like(values[:, 0])"}),
        edit("lambda-missing", "The advantage of the next token is discounted by gamma alone. It is gamma times lambda.",
             {"delta + gamma * lam * advantage": "delta + gamma * advantage"}),
        edit("gamma-missing", "The advantage of the next token is weighted by lambda alone. It is gamma times lambda.",
             {"delta + gamma * lam * advantage": "delta + lam * advantage"}),
        edit("next-value-missing", "Your TD error is r - V: the value of what comes next is missing.",
             {"rewards[:, t] + gamma * next_value - values[:, t]": "rewards[:, t] - values[:, t]"}),
        edit("value-not-subtracted", "Your TD error does not subtract V_t: what was expected anyway is no advantage.",
             {"rewards[:, t] + gamma * next_value - values[:, t]": "rewards[:, t] + gamma * next_value"}),
        edit("forward-in-time", "The recursion runs from the first token on. A_t needs A_{t+1}: start at the end.",
             {"for t in reversed(range(values.shape[1])):": "for t in range(values.shape[1]):"}),
        edit("attached-reward", "A gradient can flow back through advantages or returns into the values. Both are constants: the "
             "value loss would chase its own target.", {"rewards, values = rewards.detach(), values.detach()": "pass"}),
        edit("in-place", "An argument is overwritten. Write into new tensors.",
             {"advantage, advantages = torch.zeros_like(values[:, 0]), torch.empty_like(values)":
              "advantage, advantages = torch.zeros_like(values[:, 0]), rewards"}),
        edit("device-dtype", "The result is float32: `torch.zeros(shape)` takes the default dtype. Take that of `values`.",
             {"advantage, advantages = torch.zeros_like(values[:, 0]), torch.empty_like(values)":
              "advantage, advantages = torch.zeros_like(values[:, 0]), torch.zeros(values.shape)"}),
    ]  # fmt: skip


@check("gae", points=0.5, section="6.5")
class AdvantagesRefuse(Refuses):
    def cases(self, rng):
        good = {"rewards": rng.normal(size=(2, 3)), "values": rng.normal(size=(2, 3)), "mask": mask_of([2, 3], 3), "gamma": 0.9,
                "lam": 0.9, "bootstrap": np.zeros(2)}  # fmt: skip
        holes = np.array([[False, True, True], [True, True, True]])
        for argument, bad in (("values", np.ones((2, 4))), ("mask", mask_of([0, 0], 3)), ("mask", holes), ("gamma", 1.5),
                              ("lam", -0.1), ("bootstrap", np.ones((2, 3)))):  # fmt: skip
            yield {"function": "gae", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("values-one-longer", "Values of another shape than the rewards go through. (Some codes pass T + 1 values; here the "
             "one behind the end comes as `bootstrap`.)",
             {"given.require_same_shape(rewards=rewards, values=values, mask=mask)": "pass"}),
        edit("lambda-unchecked", "A lambda outside [0, 1] goes through.", {'given.require_fraction("lam", lam)': "pass"}),
    ]  # fmt: skip


@check("explained_variance", points=1, section="6.5")
class WhatTheValuesKnow(Check):
    probe = "explained_variance"
    tolerance = EXACT

    def cases(self, rng):
        yield {"values": np.array([[0.0, 1.0]]), "returns": np.array([[0.0, 2.0]]), "mask": mask_of([2], 2)}
        yield {"values": np.array([[3.0, 1.0, 2.0]]), "returns": np.array([[0.3, 0.3, 5.0]]), "mask": mask_of([2], 3)}
        yield {"values": np.array([[0.5]]), "returns": np.array([[2.0]]), "mask": mask_of([1], 1)}
        for case in list(batches(rng, "values", "returns"))[1:]:
            yield case
            yield {**case, "values": 2.0 + case["returns"] + 0.1 * case["values"]}  # good values, all 2 too large

    def truth(self, values, returns, mask):
        from .ppo_replay import explained_variance

        return answer(explained=explained_variance(values, returns, mask))

    mistakes = [
        edit("error-for-variance", "You compare the mean squared error with the variance. Values that are all too large by the "
             "same amount still explain everything that varies: take the variance of the error.",
             {"(returns - values).var(correction=0) /": "((returns - values) ** 2).mean() /"}),
        edit("variance-of-the-values", "You divide by the variance of the values. What is to be explained are the returns.",
             {"/ returns.var(correction=0)": "/ values.var(correction=0)"}),
        edit("unexplained", "This is the share that is *not* explained: subtract it from 1.",
             {"return 1 - (returns - values).var": "return (returns - values).var"}),
        edit("padding-scored", "Padded positions count in your variances.",
             {"values, returns = values[mask], returns[mask]": "values, returns = values.flatten(), returns.flatten()"}),
        edit("zero-spread", "With equal returns you divide by 0. There is nothing to explain: the answer is 0.",
             {"    if returns.max() == returns.min():\n        return torch.zeros_like(returns[0])\n": ""}),
    ]  # fmt: skip


@check("whiten", points=2.5, section="6.6")
class ZeroAndOne(Check):
    probe = "whiten"
    tolerance = EXACT

    def cases(self, rng):
        yield {"x": np.array([[1.0, 3.0]]), "mask": mask_of([2], 2)}
        yield {"x": np.array([[0.1, 0.1, 5.0], [0.1, 0.1, 0.1]]), "mask": mask_of([2, 3], 3)}  # an all-equal group
        yield {"x": np.array([[7.0]]), "mask": mask_of([1], 1)}
        for scale, case in zip((0.1, 1e-6, 100.0), list(batches(rng, "x"))[1:] * 2):
            yield {"x": 3.0 * scale + scale * case["x"], "mask": case["mask"]}

    def truth(self, x, mask):
        from .ppo_replay import whiten

        return answer(whitened=whiten(x, mask))

    mistakes = [
        edit("std-is-not-variance", "You divide by the square root of the standard deviation (a second root, after `std` has "
             "taken one). Then the result's spread still depends on the scale of x.",
             {"/ real.std(correction=0) * mask": "/ real.std(correction=0).sqrt() * mask"}),
        edit("divided-by-variance", "You divide by the variance. The standard deviation is its square root.",
             {"/ real.std(correction=0) * mask": "/ real.var(correction=0) * mask"}),
        edit("zero-spread", "If all entries are equal you divide by 0 (or by rounding). Nothing is better than usual then: the "
             "result is 0.", {"    if real.max() == real.min():\n        return torch.zeros_like(x)\n": ""}),
        edit("padding-scored", "Mean and deviation are taken over padded positions too. Only real tokens count.",
             {"real = x[mask]": "real = x.flatten()"}),
        edit("padding-not-zero", "At padded positions the result is not 0.",
             {"/ real.std(correction=0) * mask": "/ real.std(correction=0)"}),
        edit("unbiased-deviation", "You divide by the unbiased deviation (N - 1, torch's own default). Here it is the biased "
             "one: `correction=0`.", {"/ real.std(correction=0) * mask": "/ real.std() * mask"}),
        edit("epsilon-in-denominator", "Something small is added to the deviation, so that an x of small scale comes out too "
             "small. The one case that needs a guard is that all entries are equal.",
             {"/ real.std(correction=0) * mask": "/ (real.std(correction=0) + 1e-8) * mask"}),
        edit("not-centred", "The mean is not subtracted: a batch of good advantages would stay all good.",
             {"return (x - real.mean()) / real.std": "return x / real.std"}),
        edit("whitened-by-row", "Each row is whitened by itself. Mean and deviation are those of the whole batch.",
             {"return (x - real.mean()) / real.std(correction=0) * mask":
              "mean = (x * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)\n    return (x - mean) / (((x - mean) ** 2 * "
              "mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)).sqrt() * mask"}),
        edit("in-place", "`x` itself is changed. Make a new tensor.",
             {"return (x - real.mean()) / real.std(correction=0) * mask":
              "return x.sub_(real.mean()).div_(real.std(correction=0)).mul_(mask)"}),
    ]  # fmt: skip


@check("whiten", points=0.5, section="6.6")
class ZeroAndOneRefuses(Refuses):
    def cases(self, rng):
        good = {"x": rng.normal(size=(2, 3)), "mask": mask_of([2, 3], 3)}
        for bad in (mask_of([0, 0], 3), mask_of([1, 1, 1], 3)):
            yield {"function": "whiten", "good": good, "argument": "mask", "bad": bad}

    mistakes = [
        edit("empty-mask", "A mask without a single real token goes through. Refuse it with a ValueError.",
             {"given.require_same_shape(x=x, mask=mask)\n    given.require_mask(mask)":
              "given.require_same_shape(x=x, mask=mask)\n    if not mask.any():\n        return torch.zeros_like(x)"}),
    ]  # fmt: skip


MINIMUM = "torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)"
RATIO = "ratio = (log_probs - old_log_probs.detach()).exp()  # (B, T), exactly 1 at the first epoch"


@check("clipped_surrogate", points=4.5, section="6.8")
class FourQuadrants(Check):
    """The first four cases are the four corners where the clip matters: ratio 1.5 or 0.5, advantage 1 or -1."""

    probe = "clipped_surrogate"
    tolerance = EXACT

    def cases(self, rng):
        for ratio in (1.5, 0.5):
            for advantage in (1.0, -1.0):
                yield {"log_probs": np.log([[0.4 * ratio]]), "old_log_probs": np.log([[0.4]]),
                       "advantages": np.array([[advantage]]), "mask": mask_of([1], 1), "clip": 0.2}  # fmt: skip
        for same in (True, False):
            for case, clip in list(zip(log_prob_batches(rng), (0.1, 0.2, 0.3)))[1:]:
                yield {**case, "advantages": rng.normal(size=case["mask"].shape), "clip": clip, "same": same}

    def truth(self, log_probs, old_log_probs, advantages, mask, clip, same=False):
        from .ppo_replay import surrogate

        ratio = np.exp(np.zeros_like(log_probs) if same else log_probs - old_log_probs)
        gain, slope = surrogate(ratio, advantages, clip)
        gradients = {"log_probs": 0.0 - slope * ratio * mask / mask.sum(), "advantages": np.zeros(mask.shape)}
        if not same:
            gradients["old_log_probs"] = np.zeros(mask.shape)
        return answer(loss=-np.mean(gain[mask]), gradients=gradients)

    mistakes = [
        edit("clip-max", "You take the larger of the two terms. PPO takes the smaller, whatever the sign of the advantage: the "
             "loss must never look better than the unclipped one.", {MINIMUM: MINIMUM.replace("minimum", "maximum")}),
        edit("clip-max-for-negative", "For negative advantages you take the larger of the two terms. Then a bad token's "
             "probability is pushed down without end, and one that rose is not brought back. It is the smaller one for both "
             "signs.", {MINIMUM: f"torch.where(advantages < 0, {MINIMUM.replace('minimum', 'maximum')}, {MINIMUM})"}),
        edit("clip-only", "Only the clipped term is there. Then a ratio that went the wrong way (a good token that became "
             "rare, a bad one that became frequent) has no gradient to bring it back: take the smaller of both terms.",
             {MINIMUM: "ratio.clamp(1 - clip, 1 + clip) * advantages"}),
        edit("no-clip", "Nothing is clipped: this is the plain importance-sampled surrogate, whose ratios run away in later "
             "epochs.", {MINIMUM: "ratio * advantages"}),
        edit("clip-the-log-ratio", "You clip the log-ratio to [-clip, clip]. It is the ratio that is clipped, to "
             "[1 - clip, 1 + clip].",
             {MINIMUM: "torch.minimum(ratio * advantages, ratio.log().clamp(-clip, clip).exp() * advantages)"}),
        edit("clip-the-wrong-thing", "You clip the product of ratio and advantage. Only the ratio is clipped; the advantage may "
             "have any size.",
             {MINIMUM: "torch.minimum(ratio * advantages, (ratio * advantages).clamp(1 - clip, 1 + clip))"}),
        edit("clip-the-advantage", "You clip the advantage. It is the ratio that is clipped.",
             {MINIMUM: "torch.minimum(ratio * advantages, ratio * advantages.clamp(-clip, clip))"}),
        edit("ratio-of-itself", "The old log-probabilities carry a gradient. Where they come from the same tensor the ratio is a "
             "constant 1 and nothing is learned: `detach` them.", {RATIO: "ratio = (log_probs - old_log_probs).exp()"}),
        edit("ratio-inverted", "The ratio is upside down: new over old, exp(log_probs - old_log_probs).",
             {RATIO: "ratio = (old_log_probs.detach() - log_probs).exp()"}),
        edit("log-ratio-for-ratio", "You multiply the advantage by the log-ratio. Take its exponential.",
             {RATIO: "ratio = log_probs - old_log_probs.detach()"}),
        edit("flipped-sign", "The sign is turned: the gain is to be large, the loss is minus its mean.",
             {"return -masked_mean(gain, mask)": "return masked_mean(gain, mask)"}),
        edit("padding-scored", "Padded positions enter the mean. Average over real tokens.",
             {"return -masked_mean(gain, mask)": "return -gain.mean()"}),
        edit("mean-of-row-means", "You average each row first, so that tokens of short sentences weigh more. It is one mean over "
             "all real tokens.",
             {"return -masked_mean(gain, mask)": "return -((gain * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()"}),
        edit("attached-reward", "A gradient flows into the advantages. They say how good a token was and are constants here.",
             {"    advantages = advantages.detach()\n    ratio": "    ratio"}),
        edit("cut-graph", "No gradient reaches the log-probabilities: the ratio is detached, and the policy cannot learn.",
             {RATIO: "ratio = (log_probs - old_log_probs).detach().exp()"}),
    ]  # fmt: skip


@check("clipped_surrogate", points=0.5, section="6.8")
class SurrogateRefuses(Refuses):
    def cases(self, rng):
        good = {name: rng.normal(size=(2, 3)) for name in ("log_probs", "old_log_probs", "advantages")}
        good |= {"mask": mask_of([2, 3], 3), "clip": 0.2}
        for argument, bad in (("clip", 0.0), ("clip", -0.2), ("advantages", np.ones((2, 1))), ("old_log_probs", np.ones((1, 3))),
                              ("mask", mask_of([0, 0], 3))):  # fmt: skip
            yield {"function": "clipped_surrogate", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("clip-unchecked", "A clip of 0 or below goes through. It would switch all learning off, or turn the interval inside "
             "out.",
             {'advantages=advantages, mask=mask)\n    given.require_mask(mask)\n    given.require_positive("clip", clip)':
              "advantages=advantages, mask=mask)\n    given.require_mask(mask)"}),
        edit("broadcast", "Advantages of shape (batch, 1) go through: torch stretches one number over a whole sentence.",
             {"given.require_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, advantages=advantages, mask=mask)":
              "given.require_same_shape(log_probs=log_probs, mask=mask)"}),
    ]  # fmt: skip


ERRORS = "errors = torch.maximum((values - returns) ** 2, (near - returns) ** 2)"
NEAR = "near = old_values + (values - old_values).clamp(-clip, clip)"


@check("clipped_value_loss", points=2.5, section="6.10")
class LargerError(Check):
    probe = "clipped_value_loss"
    tolerance = EXACT

    def cases(self, rng):
        yield {"values": np.array([[1.0]]), "old_values": np.array([[0.0]]), "returns": np.array([[2.0]]),
               "mask": mask_of([1], 1), "clip": 0.5}  # fmt: skip
        yield {"values": np.array([[1.0, 1.0]]), "old_values": np.array([[0.0, 0.0]]), "returns": np.array([[0.9, -2.0]]),
               "mask": mask_of([2], 2), "clip": 0.5}  # fmt: skip
        for case, clip in list(zip(batches(rng, "values", "old_values", "returns"), (0.2, 0.5, 1.0)))[1:]:
            yield {**case, "clip": clip}

    def truth(self, values, old_values, returns, mask, clip):
        from .ppo_replay import value_errors

        errors, slope = value_errors(values, old_values, returns, clip)
        gradients = {name: np.zeros(mask.shape) for name in ("values", "old_values", "returns")}
        return answer(loss=np.mean(errors[mask]) / 2, gradients={**gradients, "values": slope / 2 * mask / mask.sum()})

    mistakes = [
        edit("value-clip-of-means", "You average first and take the larger of two means. The larger error is taken token by "
             "token.",
             {ERRORS: "errors = 0.0",
              "return 0.5 * masked_mean(errors, mask)":
              "return 0.5 * torch.maximum(masked_mean((values - returns) ** 2, mask), "
              "masked_mean((near - returns) ** 2, mask))"}),
        edit("value-clip-min", "You take the smaller error. The larger one is taken: the loss is pessimistic, as the policy's "
             "is.", {ERRORS: ERRORS.replace("maximum", "minimum")}),
        edit("clip-only", "Only the clipped error is there: a value that overshot by more than `clip` has no gradient to bring "
             "it back.", {ERRORS: "errors = (near - returns) ** 2"}),
        edit("no-clip", "Nothing is clipped: this is the plain squared error.", {ERRORS: "errors = (values - returns) ** 2"}),
        edit("clip-around-zero", "The value itself is clipped to [-clip, clip]. Its distance from the old value is.",
             {NEAR: "near = values.clamp(-clip, clip)"}),
        edit("clip-the-wrong-thing", "You clip the error. What is clipped is how far the value has moved from the old one.",
             {ERRORS: "errors = (values - returns).clamp(-clip, clip) ** 2"}),
        edit("half-missing", "The factor 1/2 is missing.",
             {"return 0.5 * masked_mean(errors, mask)": "return masked_mean(errors, mask)"}),
        edit("flipped-sign", "The sign is turned: a squared error is to be small.",
             {"return 0.5 * masked_mean(errors, mask)": "return -0.5 * masked_mean(errors, mask)"}),
        edit("padding-scored", "Padded positions enter the mean. Average over real tokens.",
             {"return 0.5 * masked_mean(errors, mask)": "return 0.5 * errors.mean()"}),
        edit("attached-reward", "A gradient flows into the returns or the old values. The target stands still while the values "
             "move.", {"old_values, returns = old_values.detach(), returns.detach()": "pass"}),
        edit("cut-graph", "No gradient reaches the values.", {NEAR: "values = values.detach()\n    " + NEAR}),
    ]  # fmt: skip


@check("clipped_value_loss", points=0.5, section="6.10")
class ValueLossRefuses(Refuses):
    def cases(self, rng):
        good = {"values": rng.normal(size=(2, 3)), "old_values": rng.normal(size=(2, 3)), "returns": rng.normal(size=(2, 3)),
                "mask": mask_of([2, 3], 3), "clip": 0.2}  # fmt: skip
        for argument, bad in (("clip", 0.0), ("returns", np.ones((2, 1))), ("mask", mask_of([0, 0], 3))):
            yield {"function": "clipped_value_loss", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("clip-unchecked", "A clip of 0 goes through.",
             {'returns=returns, mask=mask)\n    given.require_mask(mask)\n    given.require_positive("clip", clip)':
              "returns=returns, mask=mask)\n    given.require_mask(mask)"}),
    ]  # fmt: skip


KL = "masked_mean(log_ratio.exp() - 1 - log_ratio, mask)"


@check("approximate_kl", points=1.5, section="6.11")
class DistanceMoved(Check):
    probe = "approximate_kl"
    tolerance = EXACT

    def cases(self, rng):
        yield {"log_probs": np.log([[0.5]]), "old_log_probs": np.log([[0.25]]), "mask": mask_of([1], 1)}
        yield from log_prob_batches(rng)

    def truth(self, log_probs, old_log_probs, mask):
        log_ratio = (log_probs - old_log_probs)[mask]
        return answer(kl=np.mean(np.expm1(log_ratio) - log_ratio))

    mistakes = [
        edit("k3-inverted", "The ratio in k3 is upside down. The tokens come from the old policy, so it is new over old; "
             "inverted, the mean is not KL(old||new) but chi-square minus it.",
             {KL: "masked_mean((-log_ratio).exp() - 1 + log_ratio, mask)"}),
        edit("k1-for-k3", "This is k1, the mean of -log rho. It has the right mean, but its terms may be negative and so may "
             "your answer; asked for is k3.", {KL: "masked_mean(-log_ratio, mask)"}),
        edit("k1-sign", "This is the mean of +log rho, whose expectation is minus the KL: the tokens come from the old policy.",
             {KL: "masked_mean(log_ratio, mask)"}),
        edit("k2-for-k3", "This is k2, half the squared log-ratio: close for small steps, but biased. Asked for is k3.",
             {KL: "masked_mean(0.5 * log_ratio**2, mask)"}),
        edit("padding-scored", "Padded positions enter the mean. Average over real tokens.",
             {KL: "(log_ratio.exp() - 1 - log_ratio).mean()"}),
    ]  # fmt: skip


OUTSIDE = "outside = (ratio - 1).abs() > clip"


@check("clip_fraction", points=1, section="6.11")
class ShareOutside(Check):
    probe = "clip_fraction"
    tolerance = EXACT

    def cases(self, rng):
        ratios = np.array([[1.0, 1.3, 0.7, 0.81, 0.82, 0.83, 1.24]])
        yield {"log_probs": np.log(ratios), "old_log_probs": np.zeros((1, 7)), "mask": mask_of([7], 7), "clip": 0.2}
        on_the_edge = {"log_probs": np.log([[0.5]]), "old_log_probs": np.log([[0.25]]), "clip": 1.0}  # 2 is 1 away from 1
        yield {**on_the_edge, "mask": mask_of([1], 1)}
        for case, clip in zip(log_prob_batches(rng), (0.1, 0.2, 0.3)):
            yield {**case, "clip": clip}

    def truth(self, log_probs, old_log_probs, mask, clip):
        ratio = np.exp(log_probs - old_log_probs)[mask]
        return answer(fraction=np.mean((ratio > 1 + clip) | (ratio < 1 - clip)))

    mistakes = [
        edit("one-side", "Only ratios above 1 + clip are counted. Those below 1 - clip are outside too.",
             {OUTSIDE: "outside = ratio > 1 + clip"}),
        edit("log-ratio-for-ratio", "You compare the log-ratio with `clip`. Outside are ratios further than `clip` from 1.",
             {OUTSIDE: "outside = ratio.log().abs() > clip"}),
        edit("share-inside", "This is the share of ratios inside the interval.",
             {OUTSIDE: "outside = (ratio - 1).abs() <= clip"}),
        edit("ratio-inverted", "The ratio is upside down: new over old. (0.82 is inside, its inverse 1.22 is not.)",
             {OUTSIDE: "outside = (1 / ratio - 1).abs() > clip"}),
        edit("padding-scored", "Padded positions are counted. The share is among real tokens.",
             {"return masked_mean(outside.to(log_probs.dtype), mask)": "return outside.to(log_probs.dtype).mean()"}),
    ]  # fmt: skip


ENTROPY = "masked_mean(-(log_probs.exp() * log_probs).sum(dim=-1), mask)"


@check("mean_entropy", points=1, section="6.11")
class Undecided(Check):
    probe = "mean_entropy"
    tolerance = EXACT

    def cases(self, rng):
        yield {"logits": np.zeros((1, 1, 4)), "mask": mask_of([1], 1)}
        for lengths, time in (([2, 3], 3), ([2, 5, 0, 3], 5)):
            yield {"logits": 2 * rng.normal(size=(len(lengths), time, 4)), "mask": mask_of(lengths, time)}
        yield {"logits": np.array([[[200.0, -200.0, 0.0], [900.0, 899.0, -900.0]]]), "mask": mask_of([2], 2)}

    def truth(self, logits, mask):
        from .ppo_replay import log_softmax

        rows = log_softmax(logits)
        entropies = -(np.exp(rows) * rows).sum(axis=-1)
        gradient = -np.exp(rows) * (rows + entropies[..., None]) * mask[..., None] / mask.sum()
        return answer(entropy=np.mean(entropies[mask]), gradients={"logits": gradient})

    mistakes = [
        edit("entropy-sign", "The sign is turned: an entropy is never negative.", {ENTROPY: ENTROPY.replace("-(log", "(log")}),
        edit("padding-scored", "Padded positions enter the mean. Average over real tokens.",
             {ENTROPY: "-(log_probs.exp() * log_probs).sum(dim=-1).mean()"}),
        edit("mean-over-vocabulary", "You average over the vocabulary. An entropy is a sum over it: the probabilities are the "
             "weights.", {ENTROPY: ENTROPY.replace("sum(dim=-1)", "mean(dim=-1)")}),
        edit("log-plus-epsilon", "A small number inside the logarithm changes the entropy. `log_softmax` needs no such help.",
             {ENTROPY: "masked_mean(-(log_probs.exp() * (log_probs.exp() + 1e-8).log()).sum(dim=-1), mask)"}),
        edit("log-of-softmax", "The log of a softmax is -inf where the softmax underflows, and 0 times -inf is NaN.",
             {"log_probs = torch.log_softmax(logits, dim=-1)  # (B, T, V)": "log_probs = torch.softmax(logits, dim=-1).log()"}),
        edit("raw-logits-as-log-probs", "Your softmax does not run over the vocabulary, the last dimension.",
             {"log_probs = torch.log_softmax(logits, dim=-1)  # (B, T, V)": "log_probs = torch.log_softmax(logits, dim=1)"}),
        edit("cut-graph", "No gradient reaches the logits. As a bonus in the loss the entropy is to be differentiated.",
             {"log_probs = torch.log_softmax(logits, dim=-1)  # (B, T, V)":
              "log_probs = torch.log_softmax(logits.detach(), dim=-1)"}),
    ]  # fmt: skip


def sentences(rng, count, length, vocabulary):
    """Random sentences of a vocabulary whose last token ends one: tokens (count, length), filled up with it, and mask."""
    tokens = rng.integers(vocabulary, size=(count, length))
    mask = np.cumsum(tokens == vocabulary - 1, axis=1) - (tokens == vocabulary - 1) == 0
    return np.where(mask, tokens, vocabulary - 1), mask


def tables(rng, length, vocabulary):
    """A random policy, value function and reference that read prefixes."""
    rows = sum(vocabulary**t for t in range(length))
    policy, reference = rng.normal(size=(2, rows, vocabulary))
    return {"policy": policy, "value": rng.normal(size=rows), "reference": reference}


@check("rollout", points=2, section="6.12")
class WhatIsNoted(Check):
    probe = "rollout"
    tolerance = EXACT

    def cases(self, rng):
        for count, length, vocabulary, temperature in ((1, 1, 3, 1.0), (3, 2, 3, 1.0), (4, 3, 4, 0.7)):
            tokens, mask = sentences(rng, count, length, vocabulary)
            yield {**tables(rng, length, vocabulary), "tokens": tokens, "mask": mask, "scores": rng.normal(size=count),
                   "temperature": temperature}  # fmt: skip

    def truth(self, policy, value, reference, tokens, mask, scores, temperature):
        from .ppo_replay import prefixes, token_log_probs

        return {
            "tokens": tokens * mask,
            "mask": mask,
            "scores": scores,
            "log_probs": token_log_probs(policy, tokens, temperature) * mask,
            "ref_log_probs": token_log_probs(reference, tokens, temperature) * mask,
            "values": value[prefixes(tokens, policy.shape[1])] * mask,
            "with a gradient": "none",
            "asked of sample": [{"the policy": True, "count": len(tokens), "temperature": temperature}],
            "scored as sampled": True,
        }

    mistakes = [
        edit("sampler-is-not-scorer", "The sentences are drawn at `temperature` and scored without it: these are "
             "log-probabilities of another distribution. Divide the logits by the temperature when scoring too.",
             {"log_probs_of(tokens, policy(inputs) / config.temperature)": "log_probs_of(tokens, policy(inputs))",
              "log_probs_of(tokens, reference(inputs) / config.temperature)": "log_probs_of(tokens, reference(inputs))"}),
        edit("reference-without-temperature", "The reference is scored without the temperature. Then the KL is not 0 even for a "
             "policy equal to the reference.",
             {"log_probs_of(tokens, reference(inputs) / config.temperature)": "log_probs_of(tokens, reference(inputs))"}),
        edit("temperature-not-sampled", "`sample` is not told the temperature, so it draws from another distribution than you "
             "score.", {"sample(policy, config.batch_size, config.temperature)": "sample(policy, config.batch_size, 1.0)"}),
        edit("sampled-from-the-reference", "The sentences are drawn from the reference. The policy has to write them itself.",
             {"sample(policy, config.batch_size, config.temperature)":
              "sample(reference, config.batch_size, config.temperature)"}),
        edit("old-for-reference", "`ref_log_probs` are the policy's. Two different anchors: the old policy for the ratio, the "
             "reference for the KL.", {"log_probs_of(tokens, reference(inputs)": "log_probs_of(tokens, policy(inputs)"}),
        edit("anchors-swapped", "`log_probs` and `ref_log_probs` are exchanged.",
             {"log_probs_of(tokens, policy(inputs)": "log_probs_of(tokens, reference (inputs)",
              "log_probs_of(tokens, reference(inputs)": "log_probs_of(tokens, policy(inputs)"}),
        edit("unshifted-log-probs", "The models read the tokens themselves. Position t has to answer for token t before it is "
             "read: give them `shift_right(tokens)`.", {"        inputs = shift_right(tokens)\n": "        inputs = tokens\n"}),
        edit("attached-graph", "What is noted carries a gradient. A rollout is data: `torch.no_grad()` or `detach`.",
             {"with torch.no_grad():": "if True:"}),
    ]  # fmt: skip


def a_batch(rng, count, length, vocabulary, spread=1.0):
    """A rollout from a list: what was noted then need not agree with the tables of today."""
    tokens, mask = sentences(rng, count, length, vocabulary)
    mask[-1] |= np.arange(length) < 1
    noted = {name: -rng.uniform(0.2, 2.0, size=mask.shape) for name in ("log_probs", "ref_log_probs")}
    return {"tokens": tokens, "mask": mask, **noted, "values": rng.normal(size=mask.shape) * spread,
            "scores": rng.normal(size=count) * spread}  # fmt: skip


PLAIN = {"minibatch_size": 2, "epochs": 1, "gamma": 1.0, "lam": 1.0, "clip": 0.2, "value_clip": 0.5, "kl_coef": 0.0,
         "value_coef": 1.0, "entropy_coef": 0.0, "whiten": False, "temperature": 1.0}  # fmt: skip
FULL = {"minibatch_size": 3, "epochs": 2, "gamma": 0.9, "lam": 0.8, "clip": 0.25, "value_clip": 0.4, "kl_coef": 0.3,
        "value_coef": 0.7, "entropy_coef": 0.2, "whiten": True, "temperature": 0.8}  # fmt: skip
FIRST_ROWS = "for first in range(0, len(batch.tokens), config.minibatch_size):"


@check("ppo_update", points=4, section="6.12")
class UpdateReplay(Check):
    """One update from a rollout that is given: every figure of every step and the weights at the end."""

    probe = "ppo_update"
    tolerance = REPLAY

    def cases(self, rng):
        third = np.full((2, 2), -np.log(3.0))
        batch = {"tokens": np.array([[0, 2], [1, 0]]), "mask": mask_of([2, 2], 2), "log_probs": third, "ref_log_probs": third,
                 "values": np.zeros((2, 2)), "scores": np.array([1.0, -1.0])}  # fmt: skip
        yield {"policy": np.zeros((4, 3)), "value": np.zeros(4), "batch": batch, "settings": dict(PLAIN), "learning_rate": 0.5}
        for settings, count, length, vocabulary in (
            (FULL, 5, 2, 3),
            ({**FULL, "whiten": False, "minibatch_size": 2, "epochs": 3}, 6, 3, 4),
            ({**FULL, "minibatch_size": 4, "kl_coef": 0.0, "gamma": 1.0}, 7, 3, 3),
        ):
            start = tables(rng, length, vocabulary)
            yield {"policy": start["policy"], "value": start["value"], "batch": a_batch(rng, count, length, vocabulary),
                   "settings": dict(settings), "learning_rate": 0.5}  # fmt: skip

    def truth(self, policy, value, batch, settings, learning_rate):
        from .ppo_replay import update

        figures, policy, value = update(policy, value, batch, settings, learning_rate)
        return {"figures": figures, "policy": policy, "value": value, "figures with a gradient": "none",
                "arguments changed": "none"}  # fmt: skip

    mistakes = [
        edit("ratio-of-itself", "The old log-probabilities are computed anew at every step, so the ratio is always 1, nothing is "
             "ever clipped, and later epochs learn from a policy that is no longer the one that wrote. Take `batch.log_probs`.",
             {"values = value(shift_right(tokens))": "old_log_probs, values = log_probs.detach(), value(shift_right(tokens))"}),
        edit("reference-for-old", "The ratio is taken to the reference policy. It is new over old: `batch.log_probs`.",
             {"batch.mask[rows], batch.log_probs[rows]": "batch.mask[rows], batch.ref_log_probs[rows]"}),
        edit("values-of-today", "The value clip is around today's values. The old values are those of the rollout.",
             {"clipped_value_loss(values, batch.values[rows],": "clipped_value_loss(values, values,"}),
        edit("entropy-sign", "The entropy bonus lowers the entropy: a bonus is *subtracted* from the loss.",
             {"- config.entropy_coef * entropy": "+ config.entropy_coef * entropy"}),
        edit("value-coefficient-missing", "`value_coef` has no effect.",
             {"config.value_coef * value_loss": "value_loss"}),
        edit("never-whitened", "The advantages are not whitened although `config.whiten` is True.",
             {"    if config.whiten:\n": "    if False:\n"}),
        edit("always-whitened", "The advantages are whitened although `config.whiten` is False.",
             {"    if config.whiten:\n": "    if True:\n"}),
        edit("whitened-by-minibatch", "Each minibatch is whitened by itself. Whiten once, over the whole rollout: else the same "
             "sentence is good in one minibatch and bad in another.",
             {"        advantages = whiten(advantages, batch.mask)\n": "        pass\n",
              "old_log_probs, advantages[rows], mask, config.clip)":
              "old_log_probs, whiten(advantages[rows], mask) if config.whiten else advantages[rows], mask, config.clip)"}),
        edit("returns-of-whitened", "The returns are made from whitened advantages, so the values are taught numbers that are "
             "not returns. Take the returns from `gae` and whiten the advantages alone.",
             {"        advantages = whiten(advantages, batch.mask)\n":
              "        advantages = whiten(advantages, batch.mask)\n        returns = (advantages + batch.values) * "
              "batch.mask\n"}),
        edit("one-epoch", "The rollout is gone through once. `config.epochs` says how often.",
             {"for _ in range(config.epochs):": "for _ in range(1):"}),
        edit("whole-batch", "Every step takes the whole rollout. `config.minibatch_size` says how many rows a step takes.",
             {FIRST_ROWS: "for first in [0]:", "slice(first, first + config.minibatch_size)": "slice(None)"}),
        edit("last-rows-dropped", "The last rows are left out where they do not fill a minibatch.",
             {FIRST_ROWS: "for first in range(0, len(batch.tokens) - config.minibatch_size + 1, config.minibatch_size):"}),
        edit("gradients-pile-up", "Gradients of earlier steps are still there when the next is added: `optimizer.zero_grad()` "
             "before `backward`.", {"            optimizer.zero_grad()\n": ""}),
        edit("sampler-is-not-scorer", "The present log-probabilities are taken without the temperature the tokens were drawn "
             "with: the ratio is not 1 at the first epoch.",
             {"logits = policy(shift_right(tokens)) / config.temperature": "logits = policy(shift_right(tokens))"}),
        edit("no-kl-penalty", "The scores alone are the rewards: what it costs to leave the reference is missing.",
             {"batch.log_probs, batch.ref_log_probs, batch.mask, config.kl_coef)":
              "batch.log_probs, batch.ref_log_probs, batch.mask, 0.0)"}),
        edit("clip-max", "Your `clipped_surrogate` takes the larger of the two terms. Mend it first; this follows from it.",
             {MINIMUM: MINIMUM.replace("minimum", "maximum")}),
        edit("std-is-not-variance", "Your `whiten` divides by the square root of the standard deviation. Mend it first; this "
             "follows from it.", {"/ real.std(correction=0) * mask": "/ real.std(correction=0).sqrt() * mask"}),
        edit("gae-leaks", "Your `gae` reads the value behind a sentence's end from the padding. Mend it first; this follows "
             "from it.",
             {"next_value = torch.where(real, values[:, t], next_value)  # on padding still the value behind the end":
              "next_value = values[:, t]"}),
        edit("graph-kept", "The figures you return still carry their graphs, which a long run piles up in memory: `detach` them.",
             {"figures.setdefault(name, []).append(figure.detach())": "figures.setdefault(name, []).append(figure)"}),
        edit("figures-after-the-step", "The figures are computed after the optimizer's step. They describe the minibatch "
             "before it: at the very first step approx_kl is 0.",
             {"            step = {\n":
              "            log_probs = log_probs_of(tokens, policy(shift_right(tokens)) / config.temperature)\n            "
              "step = {\n"}),
    ]  # fmt: skip


@check("train", points=2.5, section="6.12")
class TrainingReplay(Check):
    """Three rollouts whose sentences and scores come from a list: the log and the weights after every update follow."""

    probe = "training_replay"
    tolerance = REPLAY

    def cases(self, rng):
        for updates, count, length, vocabulary, settings in (
            (1, 2, 2, 3, PLAIN),
            (3, 4, 2, 3, {**FULL, "minibatch_size": 4}),
            (3, 5, 3, 4, {**FULL, "whiten": False}),
        ):
            written = [sentences(rng, count, length, vocabulary) for _ in range(updates)]
            yield {**tables(rng, length, vocabulary), "tokens": np.array([tokens for tokens, _ in written]),
                   "mask": np.array([mask for _, mask in written]), "scores": rng.normal(size=(updates, count)),
                   "settings": dict(settings), "learning_rate": 0.3}  # fmt: skip

    def truth(self, policy, value, reference, tokens, mask, scores, settings, learning_rate):
        from .ppo_replay import train

        log, policies, value = train(policy, value, reference, tokens, mask, scores, settings, learning_rate)
        asked = {"the policy": True, "count": tokens.shape[1], "temperature": settings["temperature"]}
        return {"rollouts": len(tokens), "log": log, "after_update is told the log": True, "policy after each update": policies,
                "value": value, "reference changed": False, "asked of sample": [asked] * len(tokens)}  # fmt: skip

    mistakes = [
        edit("one-rollout", "All updates learn from the first rollout. The present policy has to write a new one for each.",
             {"    for _ in range(updates):\n        batch = rollout(policy, value, reference, sample, score, config)\n":
              "    batch = rollout(policy, value, reference, sample, score, config)\n    for _ in range(updates):\n"}),
        edit("reference-follows", "The reference is set to the policy after each update. Then nothing holds it to where it "
             "started: the reference stays the same throughout.",
             {"figures = ppo_update(policy, value, optimizer, batch, config)":
              "figures = ppo_update(policy, value, optimizer, batch, config)\n"
              "        reference.load_state_dict(policy.state_dict())"}),
        edit("reward-with-penalty", "The reward you log has the KL penalty in it. Log the score alone, and the KL apart: else "
             "you cannot tell which of them moves.",
             {"float(batch.scores.mean())":
              "float(kl_penalised_rewards(batch.scores, batch.log_probs, batch.ref_log_probs, batch.mask, "
              "config.kl_coef).sum(dim=1).mean())"}),
        edit("kl-per-token", "The KL you log is a mean over tokens. It is a sum over each sentence's tokens, averaged over "
             "sentences.", {"float(((batch.log_probs - batch.ref_log_probs) * batch.mask).sum(dim=1).mean())":
                            "float(masked_mean(batch.log_probs - batch.ref_log_probs, batch.mask))"}),
        edit("k1-sign", "The KL you log has the wrong sign.",
             {"float(((batch.log_probs - batch.ref_log_probs) * batch.mask)":
              "float(((batch.ref_log_probs - batch.log_probs) * batch.mask)"}),
        edit("kl-prompt", "Padded positions are counted in the KL you log.",
             {"float(((batch.log_probs - batch.ref_log_probs) * batch.mask)": "float((batch.log_probs - batch.ref_log_probs)"}),
        edit("padded-length", "The completion length you log counts padding.",
             {"float(batch.mask.sum(dim=1).double().mean())": "float(batch.mask.shape[1])"}),
        edit("first-step", "You log the first step's figures, where approx_kl is always 0. Asked for are the last step's.",
             {"float(steps[-1])": "float(steps[0])"}),
        edit("mean-of-steps", "You log the mean over the steps. Asked for is the last step, where the policy is furthest from "
             "the old one.", {"float(steps[-1])": "float(steps.mean())"}),
        edit("no-hook", "`after_update` is not called at the end of every update.",
             {"        if after_update is not None:\n            after_update(line)\n    return log":
              "    if after_update is not None:\n        after_update(line)\n    return log"}),
    ]  # fmt: skip


@check("train", points=1.5, section="6.13")
class Learns(Check):
    """Two runs of 6 updates on real sentences of up to three tokens; the tests say how far the threshold lies from right runs."""

    probe = "trained_tables"

    def cases(self, rng):
        settings = {"batch_size": 128, "minibatch_size": 128, "epochs": 2}
        yield {"seeds": rng.integers(2**31, size=2), "length": 3, "updates": 6, "settings": settings, "learning_rate": 0.3}

    def truth(self, seeds, length, updates, settings, learning_rate):
        return {"objective at least": 0.8}

    def judge(self, got, expected, seeds, length, **case):
        logits = np.asarray(got["logits"], dtype=np.float64)
        found = [exact_objective(table, length) for table in logits]
        if len(found) == len(seeds) and all(value >= expected["objective at least"] for value in found):
            return None
        shown = ", ".join(number(value) for value in found)
        return f"`logits`: E[score] - 0.5 KL is {shown} after training; PPO is above {expected['objective at least']} every time"


def exact_objective(table, length, beta=0.5):
    """E[score] - beta KL(policy||reference) of a table of logits, by listing every sentence."""
    from toy.given.sentences import END, VOCABULARY, reference_policy, sentence_score

    reference = reference_policy(length).logits[0].numpy()
    if table.shape != reference.shape or not np.isfinite(table).all():
        return -np.inf
    rows, anchors = (x - np.log(np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)) - x.max(1, keepdims=True)
                     for x in (table, reference))  # fmt: skip
    total, open_ends = 0.0, [((), 0, 0.0, 0.0)]
    while open_ends:
        said, node, log_p, log_ref = open_ends.pop()
        for token in range(VOCABULARY):
            here, there = log_p + rows[node, token], log_ref + anchors[node, token]
            if token == END or len(said) + 1 == length:
                total += np.exp(here) * (sentence_score((*said, token)) - beta * (here - there))
            else:
                open_ends.append(((*said, token), node * VOCABULARY + 1 + token, here, there))
    return float(total)
