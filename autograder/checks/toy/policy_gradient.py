"""Lesson 2: what is true of the two objectives.

Objectives by enumeration; gradients as derivatives of the objectives by complex steps, which have no truncation error;
variances by pairs of draws; the best baseline as the vertex of a parabola.
"""

import numpy as np

from autograder.checks import Check, check, edit, mistake
from autograder.checks.refusals import Refuses

QUARTER = np.log([[1.0, 3.0]])  # one context, pi = (1/4, 3/4)
EXAMPLE = np.log([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]])  # the lesson's table, with its rewards
EXAMPLE_REWARDS, EXAMPLE_CONTEXTS = np.array([[10.0, 8.0, 6.0], [9.0, 6.0, 2.0]]), np.array([0.6, 0.4])
LARGE = np.array([[1000.0, 999.0, 0.0], [-1000.0, -1001.0, -1002.0], [0.0, 1000.0, -1000.0], [0.0, 1.0, 2.0]])


def table(rng, contexts, actions):
    return rng.normal(scale=1.5, size=(contexts, actions))


def draws(rng, contexts, actions, count):
    """Pairs of which the first occurs twice, and which never visit the last context (if there are several)."""
    xs, ys = rng.integers(max(contexts - 1, 1), size=count), rng.integers(actions, size=count)
    xs[-1], ys[-1] = xs[0], ys[0]
    return {"xs": xs, "ys": ys}


def worlds(rng):
    """(theta, rewards, context_probs), smallest first; contexts are not equally frequent, and one never comes."""
    yield {"theta": QUARTER, "rewards": np.array([[4.0, 0.0]]), "context_probs": np.array([1.0])}
    yield {"theta": EXAMPLE, "rewards": EXAMPLE_REWARDS, "context_probs": EXAMPLE_CONTEXTS}
    yield {"theta": table(rng, 4, 3), "rewards": rng.uniform(1, 10, (4, 3)), "context_probs": np.array([0.1, 0.2, 0.3, 0.4])}
    yield {"theta": table(rng, 3, 5), "rewards": rng.normal(size=(3, 5)), "context_probs": rng.dirichlet(np.ones(3))}
    yield {"theta": LARGE, "rewards": rng.uniform(1, 10, (4, 3)), "context_probs": np.array([0.25, 0.25, 0.0, 0.5])}


def derivative(objective, theta):
    """d objective / d theta by complex steps, Im f(theta + i h) / h: nothing is subtracted, so exact to rounding at h = 1e-30."""
    found = np.zeros(theta.shape)
    for at in np.ndindex(*theta.shape):
        moved = theta.astype(complex)
        moved[at] += 1e-30j
        found[at] = objective(moved).imag / 1e-30
    return found


def answer(**value):
    """What the probe reports of a function that returns this in float64 and leaves its arguments alone."""
    return {**value, "dtype": "float64", "arguments changed": "none"}


@check("softmax_policy", points=3, section="2.1")
class Softmax(Check):
    probe = "softmax_policy"
    tolerance = 1e-11  # rounding of logits near 1000 is 1e-13, which exp makes a relative error; an added 1e-8 must show

    def cases(self, rng):
        yield {"theta": QUARTER}
        yield {"theta": table(rng, 2, 3)}
        yield {"theta": table(rng, 5, 4)}
        yield {"theta": np.array([[200.0, -200.0, 199.0]])}
        yield {"theta": LARGE}

    def truth(self, theta):
        with np.errstate(over="ignore"):  # 1/inf is the right zero
            return answer(policy=1 / np.exp(theta[:, None, :] - theta[:, :, None]).sum(axis=2))

    mistakes = [
        edit("raw-logits-as-log-probs", "Your columns sum to 1, not your rows: the softmax runs over the wrong axis. Each row "
             "is one context's distribution over its actions (axis 1).",
             {"np.exp(theta - theta.max(axis=1, keepdims=True))": "np.exp(theta - theta.max(axis=0, keepdims=True))",
              "return weights / weights.sum(axis=1, keepdims=True)": "return weights / weights.sum(axis=0, keepdims=True)"}),
        edit("normalised-over-the-table", "The whole table sums to 1. Each row has to: divide by the row's own sum (axis=1, "
             "keepdims=True).", {"return weights / weights.sum(axis=1, keepdims=True)": "return weights / weights.sum()"}),
        edit("overflowing-exponential", "exp overflows at a logit of 710, and inf/inf is NaN. Subtract each row's largest logit "
             "first: a softmax does not feel a shift.", {"np.exp(theta - theta.max(axis=1, keepdims=True))": "np.exp(theta)"}),
        edit("one-shift-for-all-rows", "You subtract the largest logit of the whole table; a row far below it underflows to "
             "0/0. Subtract each row's own largest logit.", {"theta.max(axis=1, keepdims=True)": "theta.max()"}),
        edit("epsilon-in-denominator", "Something small is added to the sum, so no row sums to 1. After the shift the sum is at "
             "least 1 and needs no guard.",
             {"return weights / weights.sum(axis=1, keepdims=True)":
              "return weights / (weights.sum(axis=1, keepdims=True) + 1e-8)"}),
        edit("in-place", "`theta` itself is shifted. Work on a copy: the caller still needs its logits.",
             {"weights = np.exp(theta - theta.max(axis=1, keepdims=True))":
              "theta -= theta.max(axis=1, keepdims=True); weights = np.exp(theta)"}),
    ]  # fmt: skip


@check("score", points=3, section="2.2")
class Score(Check):
    probe = "score"
    tolerance = 1e-9  # entries at most 1, rounding 1e-13 at logits of 1000

    def cases(self, rng):
        yield {"theta": QUARTER, "xs": np.array([0]), "ys": np.array([0])}
        yield {"theta": EXAMPLE, "xs": np.array([0, 1]), "ys": np.array([2, 0])}
        yield {"theta": table(rng, 4, 3), **draws(rng, 4, 3, 6)}
        yield {"theta": LARGE, "xs": np.array([0, 1, 2, 2, 3]), "ys": np.array([2, 1, 1, 2, 0])}

    def truth(self, theta, xs, ys):
        def log_prob(x, y):
            return lambda logits: LogLikelihood().truth(logits, [x], [y])["objective"]

        return answer(score=np.array([derivative(log_prob(x, y), theta) for x, y in zip(xs, ys)]))

    mistakes = [
        edit("dropped-one-hot", "Only -pi is there. The sampled action's own logit also gets +1: raising it is what raises its "
             "log-probability.", {"scores[samples, xs, ys] += 1": "pass"}),
        edit("raw-logits-as-log-probs", "This is the gradient of the logit theta[x, y]. log pi(y|x) also subtracts the "
             "log-sum-exp of its row, whose gradient is pi(.|x): each row of a score sums to 0.",
             {"scores[samples, xs] = -policy[xs]": "pass"}),
        edit("flipped-sign", "The sign is the other way round: 1[a = y] minus pi(a|x). Following your direction makes the "
             "sampled action rarer.", {"return scores\n": "return -scores\n"}),
        edit("all-contexts-move", "Rows of other contexts are not 0. log pi(y|x) depends on the logits of its own context "
             "alone.", {"scores[samples, xs] = -policy[xs]": "scores[:] = -policy"}),
        edit("gradient-of-probability", "This is the gradient of pi(y|x), not of its logarithm: divide by pi(y|x), or start "
             "from log pi.", {"return scores\n": "return scores * policy[xs, ys][:, None, None]\n"}),
        edit("log-of-softmax", "You divide grad pi by pi, which is 0/0 where pi underflows. Differentiate log pi by hand: the "
             "pi cancels, and 1[a = y] - pi(a|x) is left.",
             {"return scores\n": "p = policy[xs, ys][:, None, None]; return scores * p / p\n"}),
        edit("chosen-logit-only", "Only the sampled action's entry is filled. Raising log pi(y|x) also lowers the other logits "
             "of that row, each by its probability.",
             {"scores[samples, xs] = -policy[xs]": "scores[samples, xs, ys] = -policy[xs, ys]"}),
        edit("device-dtype", "The values are right, but in float32. float64 in, float64 out: make no array of another dtype.",
             {"return scores\n": "return scores.astype(np.float32)\n"}),
    ]  # fmt: skip


@check("score", points=1, section="2.2")
class ScoreRefuses(Refuses):
    def cases(self, rng):
        good = {"theta": EXAMPLE, "xs": np.array([0, 1]), "ys": np.array([2, 0])}
        for argument, bad in (
            ("xs", np.array([0, 2])), ("xs", np.array([9, 0])), ("xs", np.array([-1, 1])), ("ys", np.array([0, 3])),
            ("ys", np.array([-1, 0])), ("ys", np.array([0])), ("xs", np.zeros(0, int)), ("xs", np.array([0.0, 1.0])),
            ("xs", np.array([[0, 1]])), ("theta", EXAMPLE[0]), ("theta", EXAMPLE[None]),
        ):  # fmt: skip
            yield {"function": "score", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("negative-index-wraps", "NumPy reads index -1 as the last row and says nothing. An index below 0 is refused as one "
             "past the end is.", {"if indices.min() < 0 or indices.max() >= size:": "if indices.max() >= size:"}),
        edit("off-by-one-range", "The largest index of a table with n rows is n - 1; you let n through.",
             {"indices.max() >= size:": "indices.max() > size:"}),
    ]  # fmt: skip


@check("mle_objective", points=2, section="2.3")
class LogLikelihood(Check):
    probe = "mle_objective"
    tolerance = 1e-9  # relative: float64 sums of a few terms

    def cases(self, rng):
        yield {"theta": QUARTER, "xs": np.array([0]), "ys": np.array([0])}
        yield {"theta": EXAMPLE, "xs": np.array([0, 1, 1]), "ys": np.array([2, 0, 1])}
        yield {"theta": table(rng, 4, 3), **draws(rng, 4, 3, 7)}
        yield {"theta": np.array([[200.0, -200.0], [-200.0, 200.0]]), "xs": np.array([0, 1, 1]), "ys": np.array([1, 0, 1])}
        yield {"theta": LARGE, "xs": np.array([0, 1, 2]), "ys": np.array([2, 1, 2])}

    def truth(self, theta, xs, ys, weights=1.0):
        """The weighted mean of log pi(y|x), for real and complex logits: only the real part of the largest is shifted away."""
        shift = theta.real.max(axis=1, keepdims=True)
        log_policy = theta - shift - np.log(np.exp(theta - shift).sum(axis=1, keepdims=True))
        return answer(objective=(weights * log_policy[xs, ys]).mean())

    mistakes = [
        edit("log-of-softmax", "pi underflows to 0 at large logits and its log is -inf. Take log pi = theta - logsumexp(theta) "
             "instead.",
             {"log_policy = theta - logsumexp(theta, axis=1, keepdims=True)": "log_policy = np.log(softmax_policy(theta))"}),
        edit("log-of-softmax-plus-epsilon", "log(pi + epsilon) hides the underflow and is wrong wherever pi is small. Take log "
             "pi = theta - logsumexp(theta).",
             {"log_policy = theta - logsumexp(theta, axis=1, keepdims=True)":
              "log_policy = np.log(softmax_policy(theta) + 1e-8)"}),
        edit("raw-logits-as-log-probs", "These are means of logits. A log-probability is the logit minus the log-sum-exp of its "
             "row.", {"log_policy = theta - logsumexp(theta, axis=1, keepdims=True)": "log_policy = theta"}),
        edit("softmax-over-contexts", "Your log-sum-exp runs down the columns. One context's distribution is a row: axis=1.",
             {"log_policy = theta - logsumexp(theta, axis=1, keepdims=True)": "log_policy = theta - logsumexp(theta, axis=0)"}),
        edit("flipped-sign", "This is the loss, minus the objective. `mle_objective` grows as the fit gets better, and is never "
             "above 0.", {"float(log_policy[xs, ys].mean())": "float(-log_policy[xs, ys].mean())"}),
        edit("summed-not-averaged", "This is the sum over the samples; the objective is their mean, in nats per sample.",
             {"float(log_policy[xs, ys].mean())": "float(log_policy[xs, ys].sum())"}),
        edit("log-of-mean", "This is the log of the mean probability. The likelihood of a data set is a product, so its log is "
             "a sum of logs: log first, mean afterwards.",
             {"float(log_policy[xs, ys].mean())": "float(logsumexp(log_policy[xs, ys]) - np.log(len(xs)))"}),
        edit("outer-indexing", "log_policy[xs][:, ys] pairs every context with every action, (N, N). Sample n is the one pair "
             "[xs[n], ys[n]].", {"float(log_policy[xs, ys].mean())": "float(log_policy[xs][:, ys].mean())"}),
    ]  # fmt: skip


@check("mle_gradient", points=3, section="2.3")
class LikelihoodGradient(Check):
    probe = "mle_gradient"
    tolerance = 1e-9  # entries at most 1, rounding 1e-13 at logits of 1000

    def cases(self, rng):
        yield {"theta": QUARTER, "xs": np.array([0]), "ys": np.array([0])}
        yield {"theta": EXAMPLE, "xs": np.array([0, 0, 0, 1]), "ys": np.array([1, 1, 0, 2])}
        yield {"theta": table(rng, 4, 3), **draws(rng, 4, 3, 7)}
        yield {"theta": LARGE, "xs": np.array([0, 1, 2, 2, 3, 0]), "ys": np.array([2, 1, 1, 2, 0, 2])}

    def truth(self, theta, xs, ys):
        return answer(gradient=derivative(lambda logits: LogLikelihood().truth(logits, xs, ys)["objective"], theta))

    @mistake("mle-on-own-samples", "Zero everywhere: the mean of the score over the policy's *own* actions. Maximum likelihood "
             "takes the mean over the data, the pairs (xs, ys) that came.")  # fmt: skip
    def own_samples(self, theta, xs, ys):
        return answer(gradient=np.zeros(theta.shape))

    @mistake("repeated-samples-counted-once", "`gradient[xs, ys] += ...` adds once per distinct index, however often it occurs "
             "in `xs`. Use `np.add.at`, or keep one score per sample and take the mean.")  # fmt: skip
    def buffered(self, theta, xs, ys):
        gradient = np.zeros(theta.shape)
        gradient[xs] -= Softmax().truth(theta)["policy"][xs] / len(xs)
        gradient[xs, ys] += 1 / len(xs)
        return answer(gradient=gradient)

    @mistake("per-context-mean", "Each row is divided by its own number of samples. The mean runs over all N samples: a context "
             "seen more often weighs more, as d(x) says.")  # fmt: skip
    def per_context(self, theta, xs, ys):
        counts = np.bincount(xs, minlength=len(theta))[:, None]
        return answer(gradient=self.truth(theta, xs, ys)["gradient"] * len(xs) / np.maximum(counts, 1))

    mistakes = [
        edit("flipped-sign", "This is the gradient of the loss. The gradient of the log-likelihood points to where the data are "
             "more probable.", {"return score(theta, xs, ys).mean(axis=0)": "return -score(theta, xs, ys).mean(axis=0)"}),
        edit("summed-not-averaged", "The scores are summed; the gradient of a mean is the mean of the scores, or the step grows "
             "with the data.", {"return score(theta, xs, ys).mean(axis=0)": "return score(theta, xs, ys).sum(axis=0)"}),
        edit("weighted-by-policy", "Each sample is weighted by pi(y|x), which makes it the gradient of the mean probability, "
             "without the log. The data have their frequencies already: every sample weighs 1/N.",
             {"return score(theta, xs, ys).mean(axis=0)":
              "return (softmax_policy(theta)[xs, ys][:, None, None] * score(theta, xs, ys)).mean(axis=0)"}),
        edit("all-contexts-move", "pi is subtracted in every row. A sample moves the row of its own context alone.",
             {"scores[samples, xs] = -policy[xs]": "scores[:] = -policy"}),
    ]  # fmt: skip


@check("sgd_step", points=0.5, section="2.3")
class Ascent(Check):
    probe = "sgd_step"
    tolerance = 1e-9  # one product and one sum in float64

    def cases(self, rng):
        yield {"theta": QUARTER, "gradient": np.array([[0.75, -0.75]]), "learning_rate": 0.1}
        yield {"theta": table(rng, 3, 4), "gradient": table(rng, 3, 4), "learning_rate": 0.5}

    def truth(self, theta, gradient, learning_rate):
        return answer(theta=theta + learning_rate * gradient)

    mistakes = [
        edit("flipped-sign", "That is descent. The gradients of this lesson point uphill and both objectives are to grow: add "
             "the step.", {"return theta + learning_rate * gradient": "return theta - learning_rate * gradient"}),
        edit("in-place", "`theta` itself is changed (`+=`). Return a new table, so that the caller can compare before and "
             "after.", {"return theta + learning_rate * gradient": "theta += learning_rate * gradient; return theta"}),
        edit("step-of-one", "The gradient is added whole: the learning rate has no say.",
             {"return theta + learning_rate * gradient": "return theta + gradient"}),
        edit("normalised-gradient", "The step has length `learning_rate` whatever the gradient. Plain gradient ascent does not "
             "divide by the norm: steps shrink as the top comes near.",
             {"return theta + learning_rate * gradient": "return theta + learning_rate * gradient / np.linalg.norm(gradient)"}),
    ]  # fmt: skip


@check("sgd_step", points=0.5, section="2.3")
class AscentRefuses(Refuses):
    def cases(self, rng):
        good = {"theta": EXAMPLE, "gradient": np.ones((2, 3)), "learning_rate": 0.1}
        yield {"function": "sgd_step", "good": good, "argument": "gradient", "bad": np.ones(3)}
        yield {"function": "sgd_step", "good": good, "argument": "gradient", "bad": np.ones((3, 2))}

    mistakes = [
        edit("broadcast", "A gradient of shape (actions,) went through: NumPy stretched it over all contexts. Refuse what has "
             "not the shape of `theta`.", {'require_shape("gradient", gradient, theta.shape)': "pass"}),
    ]  # fmt: skip


@check("exact_objective", points=1.5, section="2.5")
class ExpectedReward(Check):
    probe = "exact_objective"
    tolerance = 1e-9  # float64 sums of at most 15 products of size 10

    def cases(self, rng):
        yield from worlds(rng)

    def truth(self, theta, rewards, context_probs):
        """Pair by pair, for real and complex logits."""
        weights = np.exp(theta - theta.real.max(axis=1, keepdims=True))
        pairs = np.ndindex(*theta.shape)
        return answer(objective=sum(context_probs[x] * weights[x, y] / weights[x].sum() * rewards[x, y] for x, y in pairs))

    mistakes = [
        edit("uniform-contexts", "All contexts weigh the same here. Context x weighs `context_probs[x]`.",
             {"return float(context_probs @ values)": "return float(values.mean())"}),
        edit("summed-over-contexts", "The contexts' values are added up. Their mean under `context_probs` is asked for.",
             {"return float(context_probs @ values)": "return float(values.sum())"}),
        edit("uniform-actions", "This is the mean reward of all actions. The policy decides how often each one comes: weigh by "
             "pi(y|x).", {"values = (softmax_policy(theta) * rewards).sum(axis=1)": "values = rewards.mean(axis=1)"}),
        edit("greedy-rollouts", "This is the reward of the most probable action. The policy samples: the mean over all actions, "
             "weighted by pi(y|x), is asked for.",
             {"values = (softmax_policy(theta) * rewards).sum(axis=1)":
              "values = rewards[np.arange(len(theta)), theta.argmax(axis=1)]"}),
        edit("raw-logits-as-log-probs", "The rewards are weighted by logits. Logits are no probabilities: softmax first.",
             {"values = (softmax_policy(theta) * rewards).sum(axis=1)": "values = (theta * rewards).sum(axis=1)"}),
        edit("flipped-sign", "This is a loss, minus the expected reward. The objective is what is to grow.",
             {"return float(context_probs @ values)": "return -float(context_probs @ values)"}),
    ]  # fmt: skip


@check("exact_objective", points=0.5, section="2.5")
class ExpectedRewardRefuses(Refuses):
    def cases(self, rng):
        good = {"theta": EXAMPLE, "rewards": EXAMPLE_REWARDS, "context_probs": EXAMPLE_CONTEXTS}
        for argument, bad in (
            ("context_probs", np.array([0.6, 0.6])), ("context_probs", np.array([6.0, 4.0])),
            ("context_probs", np.array([1.5, -0.5])), ("context_probs", np.array([0.2, 0.3, 0.5])),
            ("rewards", EXAMPLE_REWARDS[0]), ("rewards", EXAMPLE_REWARDS.T),
        ):  # fmt: skip
            yield {"function": "exact_objective", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("counts-for-probabilities", "Context weights that do not sum to 1 went through; the objective would be scaled "
             "without a word.", {"if probs.min() < 0 or abs(probs.sum() - 1) > 1e-9:": "if probs.min() < 0:"}),
        edit("negative-probability", "A negative probability went through. That the sum is 1 is not enough.",
             {"if probs.min() < 0 or abs(probs.sum() - 1) > 1e-9:": "if abs(probs.sum() - 1) > 1e-9:"}),
    ]  # fmt: skip


@check("exact_gradient", points=3, section="2.5")
class ExactGradient(Check):
    probe = "exact_gradient"
    tolerance = 1e-9  # entries below 10, rounding 1e-13 at logits of 1000

    def cases(self, rng):
        yield from worlds(rng)

    def truth(self, theta, rewards, context_probs):
        def objective(logits):
            return ExpectedReward().truth(logits, rewards, context_probs)["objective"]

        return answer(gradient=derivative(objective, theta))

    mistakes = [
        edit("score-without-expectation", "V(x) is not subtracted. Raising one logit lowers the other actions' probabilities, "
             "which costs V(x): each row of the gradient sums to 0.",
             {"return context_probs[:, None] * policy * advantages": "return context_probs[:, None] * policy * rewards"}),
        edit("flipped-sign", "This is the gradient of minus the expected reward: a step along it makes the policy worse.",
             {"return context_probs[:, None] * policy * advantages": "return -context_probs[:, None] * policy * advantages"}),
        edit("policy-forgotten", "pi(a|x) is missing: an action that is never taken does not matter, however good it is.",
             {"return context_probs[:, None] * policy * advantages": "return context_probs[:, None] * advantages"}),
        edit("uniform-contexts", "All contexts weigh 1/contexts here. Row x weighs `context_probs[x]`.",
             {"return context_probs[:, None] * policy * advantages": "return policy * advantages / len(theta)"}),
        edit("summed-over-contexts", "d(x) is missing: row x is weighted by how often its context comes, `context_probs[x]`.",
             {"return context_probs[:, None] * policy * advantages": "return policy * advantages"}),
        edit("one-value-for-all-contexts", "You subtract the value of the whole table, J. Each row has its own: V(x), the mean "
             "reward in context x.",
             {"return context_probs[:, None] * policy * advantages":
              "return context_probs[:, None] * policy * (rewards - context_probs @ (policy * rewards).sum(axis=1))"}),
        edit("diagonal-only", "Only d pi(a)/d theta(a) = pi (1 - pi) is used. A logit moves all probabilities of its row: d "
             "pi(y)/d theta(a) = pi(y) (1[a = y] - pi(a)).",
             {"return context_probs[:, None] * policy * advantages":
              "return context_probs[:, None] * policy * (1 - policy) * rewards"}),
    ]  # fmt: skip


@check("reinforce_gradient", points=4, section="2.8")
class Reinforce(Check):
    probe = "reinforce_gradient"
    tolerance = 1e-9  # entries below 10, rounding 1e-13 at logits of 1000

    def cases(self, rng):
        yield {"theta": QUARTER, "xs": np.array([0]), "ys": np.array([0]), "rewards": np.array([2.0])}
        few = {"xs": np.array([0, 1, 1]), "ys": np.array([0, 1, 1])}
        yield {"theta": np.zeros((2, 2)), **few, "rewards": np.array([6.0, 9.0, 7.0]), "baseline": np.array([5.0, 10.0])}
        rewards, baseline = rng.uniform(1, 10, 7), rng.uniform(1, 10, 3)
        yield {"theta": table(rng, 3, 2), **draws(rng, 3, 2, 5), "rewards": rewards[:5], "baseline": baseline}
        yield {"theta": table(rng, 4, 3), **draws(rng, 4, 3, 7), "rewards": rewards, "baseline": 5.5}
        extreme = {"xs": np.array([0, 1, 2, 2, 3, 0]), "ys": np.array([2, 1, 1, 2, 0, 2])}
        yield {"theta": LARGE, **extreme, "rewards": rng.normal(size=6), "baseline": rng.normal(size=4)}

    def truth(self, theta, xs, ys, rewards, baseline=0.0):
        weights = rewards - np.broadcast_to(baseline, len(theta))[xs]
        return answer(gradient=derivative(lambda logits: LogLikelihood().truth(logits, xs, ys, weights)["objective"], theta))

    @mistake("repeated-samples-counted-once", "`gradient[xs, ys] += ...` adds once per distinct index, however often it occurs "
             "in `xs`. Use `np.add.at`, or keep one score per sample and take the mean.")  # fmt: skip
    def buffered(self, theta, xs, ys, rewards, baseline=0.0):
        weights = (rewards - np.broadcast_to(baseline, len(theta))[xs]) / len(xs)
        gradient = np.zeros(theta.shape)
        gradient[xs] -= weights[:, None] * Softmax().truth(theta)["policy"][xs]
        gradient[xs, ys] += weights
        return answer(gradient=gradient)

    mistakes = [
        edit("flipped-sign", "This is the gradient of the loss. Uphill, actions with more reward than the baseline become more "
             "probable.",
             {"return (weights[:, None, None] * score(theta, xs, ys)).mean(axis=0)":
              "return -(weights[:, None, None] * score(theta, xs, ys)).mean(axis=0)"}),
        edit("baseline-ignored", "The baseline is not used: the weight of a sample is its reward minus the baseline of its "
             "context.", {"weights = rewards - baseline[xs]": "weights = rewards"}),
        edit("mle-on-own-samples", "The reward is not used: this is the mean score, the maximum-likelihood gradient on the "
             "policy's own samples, and its expectation is 0.",
             {"weights = rewards - baseline[xs]": "weights = np.ones(len(xs))"}),
        edit("baseline-added", "The baseline is added. It is what was to be expected, and only what the reward has beyond it "
             "should count: subtract.", {"weights = rewards - baseline[xs]": "weights = rewards + baseline[xs]"}),
        edit("baseline-of-the-action", "You look the baseline up by action (`baseline[ys]`). It belongs to the context: "
             "`baseline[xs]`. One that follows the action biases the gradient.",
             {"weights = rewards - baseline[xs]": "weights = rewards - baseline[ys]"}),
        edit("baseline-after-mean", "The baseline is subtracted from the finished gradient. It belongs inside, on each reward, "
             "before the score is multiplied: only there its expectation is 0.",
             {"weights = rewards - baseline[xs]": "weights = rewards",
              "return (weights[:, None, None] * score(theta, xs, ys)).mean(axis=0)":
              "return (weights[:, None, None] * score(theta, xs, ys)).mean(axis=0) - baseline[:, None]"}),
        edit("baseline-first", "The mean of this very batch is subtracted. Each reward is part of it, which shrinks the "
             "expected gradient by (N - 1)/N; use the baseline that was given.",
             {"weights = rewards - baseline[xs]": "weights = rewards - rewards.mean()"}),
        edit("whitened-advantages", "The advantages are centred and scaled by the batch. PPO does so later in the course; here "
             "the plain estimate is asked for, and scaling by the samples' own spread biases it.",
             {"weights = rewards - baseline[xs]":
              "weights = rewards - baseline[xs]; weights = (weights - weights.mean()) / (weights.std() + 1e-8)"}),
        edit("product-of-means", "You multiply the mean advantage by the mean score. The estimate is the mean of the products: "
             "each score has its own advantage.",
             {"return (weights[:, None, None] * score(theta, xs, ys)).mean(axis=0)":
              "return weights.mean() * score(theta, xs, ys).mean(axis=0)"}),
        edit("summed-not-averaged", "The samples are summed; the estimate is their mean, or it grows with the batch.",
             {"return (weights[:, None, None] * score(theta, xs, ys)).mean(axis=0)":
              "return (weights[:, None, None] * score(theta, xs, ys)).sum(axis=0)"}),
        edit("weighted-by-policy", "Each sample is weighted by pi(y|x) once more. Sampling is that weight already: every sample "
             "counts 1/N.",
             {"weights = rewards - baseline[xs]": "weights = (rewards - baseline[xs]) * softmax_policy(theta)[xs, ys]"}),
        edit("in-place", "`rewards` itself is changed (`-=`). Make a new array for the advantages.",
             {"weights = rewards - baseline[xs]": "rewards -= baseline[xs]; weights = rewards"}),
    ]  # fmt: skip


@check("reinforce_gradient", points=1, section="2.10")
class ReinforceRefuses(Refuses):
    def cases(self, rng):
        samples = {"xs": np.array([0, 1, 1]), "ys": np.array([2, 0, 1])}
        good = {"theta": EXAMPLE, **samples, "rewards": np.array([6.0, 9.0, 6.0]), "baseline": np.array([8.5, 4.6])}
        for argument, bad in (
            ("baseline", EXAMPLE_REWARDS), ("baseline", np.array([8.5, 4.6, 4.6])), ("baseline", np.array([8.5])),
            ("rewards", np.array([6.0])), ("rewards", EXAMPLE_REWARDS), ("xs", np.array([0, 1, 2])), ("ys", np.array([-1, 0, 1])),
        ):  # fmt: skip
            yield {"function": "reinforce_gradient", "good": good, "argument": argument, "bad": bad}

    @mistake("action-dependent-baseline", "A baseline of shape (contexts, actions) went through. One that depends on the action "
             "biases the gradient: refuse it.")  # fmt: skip
    def any_baseline(self, function, good, argument, bad):
        if argument == "baseline" and bad.shape == good["theta"].shape:
            return {"raised": None, "message": ""}
        return self.truth(function, good, argument, bad)

    mistakes = [
        edit("broadcast", "Rewards of the wrong shape went through: NumPy stretched one of them over all samples. Refuse what "
             "is not one number per sample.", {'require_shape("rewards", rewards, xs.shape)': "pass"}),
    ]  # fmt: skip


@check("gradient_variance", points=4, section="2.8")
class Variance(Check):
    probe = "gradient_variance"
    tolerance = 1e-9  # relative: sums of at most 225 pairs, and no cancellation beyond 1e-13

    def cases(self, rng):
        first, example, *rest = worlds(rng)
        yield first
        yield {**example, "baseline": np.array([8.5, 4.6])}
        yield {**example, "baseline": 7.0}
        for world in rest:
            yield {**world, "baseline": rng.uniform(1, 10, len(world["theta"]))}

    def truth(self, theta, rewards, context_probs, baseline=0.0):
        """By pairs of independent draws: Var = 1/2 sum_ij p_i p_j ||g_i - g_j||^2. No mean is needed."""
        policy, baseline = Softmax().truth(theta)["policy"], np.broadcast_to(baseline, len(theta))
        probs, estimates = (context_probs[:, None] * policy).ravel(), []
        for x, y in np.ndindex(*theta.shape):
            estimates.append(np.zeros(theta.shape))
            estimates[-1][x] = (rewards[x, y] - baseline[x]) * ((np.arange(theta.shape[1]) == y) - policy[x])
        flat = np.array(estimates).reshape(theta.size, theta.size)
        return answer(variance=0.5 * probs @ ((flat[:, None] - flat[None]) ** 2).sum(axis=2) @ probs)

    @mistake("variance-within-contexts", "This is the mean of the contexts' own variances. The context is drawn too: how far "
             "their mean gradients lie from the overall mean belongs to the variance.")  # fmt: skip
    def within(self, theta, rewards, context_probs, baseline=0.0):
        baseline, total = np.broadcast_to(baseline, len(theta)), 0.0
        for x, d in enumerate(context_probs):
            total += d * self.truth(theta[[x]], rewards[[x]], np.ones(1), baseline[[x]])["variance"]
        return answer(variance=total)

    mistakes = [
        edit("second-moment", "This is E[||g||^2]. The variance is what is left when the squared norm of the mean, ||E[g]||^2, "
             "is taken away.", {"((estimates - mean) ** 2)": "(estimates**2)"}),
        edit("std-is-not-variance", "This is the standard deviation: the square root of what is asked for.",
             {"return float(probs @ ((estimates - mean) ** 2).sum(axis=(1, 2)))":
              "return float(probs @ ((estimates - mean) ** 2).sum(axis=(1, 2))) ** 0.5"}),
        edit("averaged-over-coordinates", "The variances of the entries are averaged. The trace of the covariance is their sum.",
             {"((estimates - mean) ** 2).sum(axis=(1, 2))": "((estimates - mean) ** 2).mean(axis=(1, 2))"}),
        edit("variance-of-one-coordinate", "This is the variance of the first entry of the table. All entries' variances are to "
             "be added.", {"((estimates - mean) ** 2).sum(axis=(1, 2))": "((estimates - mean) ** 2)[:, 0, 0]"}),
        edit("uniform-outcomes", "Every pair (x, y) counts the same. A pair occurs with probability d(x) pi(y|x).",
             {"probs = context_probs[xs] * softmax_policy(theta)[xs, ys]": "probs = np.full(theta.size, 1 / theta.size)"}),
        edit("uniform-contexts", "Contexts weigh 1/contexts here; context x occurs with probability `context_probs[x]`.",
             {"probs = context_probs[xs] * softmax_policy(theta)[xs, ys]": "probs = softmax_policy(theta)[xs, ys] / len(theta)"}),
        edit("baseline-ignored", "The baseline is not used: the estimate of a pair is (r(x, y) - b(x)) times its score.",
             {"(rewards[xs, ys] - baseline[xs])": "rewards[xs, ys]"}),
        edit("baseline-added", "The baseline is added to the rewards; it is to be subtracted.",
             {"(rewards[xs, ys] - baseline[xs])": "(rewards[xs, ys] + baseline[xs])"}),
    ]  # fmt: skip


@check("optimal_baseline", points=3, section="2.9")
class OptimalBaseline(Check):
    probe = "optimal_baseline"
    tolerance = 1e-9  # the vertex of a parabola from values near 100: rounding 1e-13

    def cases(self, rng):
        for world in worlds(rng):
            yield {"theta": world["theta"], "rewards": world["rewards"]}
        yield {"theta": np.array([[1000.0, -1000.0, -1000.0]]), "rewards": np.array([[3.0, 9.0, 1.0]])}

    def truth(self, theta, rewards):
        """In each context the variance is a parabola in b; three of its values give the vertex."""
        found = []
        for x in range(len(theta)):
            world = (theta[[x]], rewards[[x]], np.ones(1))
            below, at, above = (Variance().truth(*world, baseline)["variance"] for baseline in (-1.0, 0.0, 1.0))
            curvature = above + below - 2 * at
            value = Softmax().truth(theta)["policy"][x] @ rewards[x]
            found.append((below - above) / (2 * curvature) if curvature else value)  # a flat one: the convention, V(x)
        return answer(baseline=np.array(found))

    mistakes = [
        edit("mean-reward-as-optimal-baseline", "This is V(x), the expected reward: a good baseline, but not the best. An "
             "action's reward counts by how far its score reaches, ||grad log pi||^2, too.",
             {"weights = policy * (scores**2).sum(axis=2)": "weights = policy"}),
        edit("norm-not-squared", "The weights hold the norm of the score; the variance is of second order, so its square "
             "belongs there.", {"(scores**2).sum(axis=2)": "np.sqrt((scores**2).sum(axis=2))"}),
        edit("unweighted-by-policy", "pi(y|x) is missing from the weights: rare actions count as much as frequent ones.",
             {"weights = policy * (scores**2).sum(axis=2)": "weights = (scores**2).sum(axis=2)"}),
        edit("chosen-logit-only", "Only (1 - pi(y|x))^2 is in the norm. The score also has -pi(a|x) at every other logit of the "
             "row.", {"(scores**2).sum(axis=2)": "(1 - policy) ** 2"}),
        edit("zero-spread", "0/0 where the policy is certain of one action. Every baseline is as good there; the docstring asks "
             "for V(x).", {"weights = np.where(certain, policy, weights)": "pass"}),
        edit("zero-where-certain", "Where the policy is certain you return 0. Every baseline is as good there; the docstring "
             "asks for V(x).",
             {"weights = np.where(certain, policy, weights)":
              "rewards = np.where(certain, 0.0, rewards); weights = np.where(certain, policy, weights)"}),
        edit("one-baseline-for-all-contexts", "One number for all contexts. Each context has a parabola of its own, and so a "
             "vertex of its own.",
             {"return (weights * rewards).sum(axis=1) / weights.sum(axis=1)":
              "return np.full(len(theta), (weights * rewards).sum() / weights.sum())"}),
    ]  # fmt: skip
