"""Lesson 5: what is true of preferences, rewards and the losses made of them.

Losses and their slopes in closed form by NumPy; fitted rewards by Newton's method; the optimal policy in logarithms.
"""

import numpy as np

from autograder.checks import Check, check, edit, mistake
from autograder.checks.refusals import Refuses

EXACT = 1e-9  # float64 sums of a few terms of size 1000, rounding 1e-13; a constant such as 1e-8 inside a logarithm shows
EXTREME = np.array([200.0, -200.0, 1000.0, -1000.0, 0.5])  # sigma(-200) is 1e-87, sigma(-1000) is 0 in float64

SIGMA = "return torch.sigmoid(first - second)"
LIKELIHOOD = "weighted_mean(-F.logsigmoid(chosen - rejected), weights)"
TILT = "return torch.softmax(ref.log() + reward / beta, dim=-1)"
RATIO = "return beta * (log_probs - ref_log_probs.detach())"
GAP = "gap = (chosen - ref_chosen) - (rejected - ref_rejected)"
SHARE = "weighted_mean((gap.sign() + 1) / 2, weights)"
OF_CHOSEN = "reward_of_chosen = implicit_reward(chosen, ref_chosen, beta)"
OF_REJECTED = "reward_of_rejected = implicit_reward(rejected, ref_rejected, beta)"
DPO = "return bradley_terry_loss(reward_of_chosen, reward_of_rejected, weights)"
HINGE = "lam * F.relu(-ratio_of_chosen)"
DPOP_MARGIN = "margin = beta * (ratio_of_chosen - ratio_of_rejected) - " + HINGE
DPOP = "weighted_mean(-F.logsigmoid(margin), weights)"
IPO_MARGIN = "margin = (chosen - ref_chosen.detach()) - (rejected - ref_rejected.detach())"
IPO = "weighted_mean((margin - 1 / (2 * beta)) ** 2, weights)"
OBJECTIVE = "loss = bradley_terry_loss(rewards[pairs[:, 0]], rewards[pairs[:, 1]], weights) + l2 / 2 * (rewards**2).sum()"


def softplus(x):
    """log(1 + e^x) = -log sigma(-x)."""
    return np.logaddexp(0.0, x)


def sigma(x):
    return np.exp(-softplus(-np.asarray(x, dtype=np.float64)))


def answer(value, gradients, reference=True):
    """What the probe reports of a function that returns this in float64 and leaves its arguments and the reference alone."""
    fixed = {"gradient into the reference": 0.0} if reference else {}
    return {"value": value, "dtype": "torch.float64", "gradients": gradients, **fixed, "arguments changed": "none"}


def shares(weights, count):
    """The weights as parts of 1."""
    weights = np.ones(count) if weights is None else weights
    return weights / weights.sum()


def margin_loss(losses, slopes, weights, reference=True):
    """The answer of a loss: its mean, and the gradients of the mean, given the slopes of each pair's loss by both log ratios."""
    part = shares(weights, len(losses))
    return answer(part @ losses, {"chosen": part * slopes[0], "rejected": part * slopes[1]}, reference)


def log_ratios(chosen, rejected, ref_chosen, ref_rejected, **_):
    return chosen - ref_chosen, rejected - ref_rejected


def answers_at(l_chosen, l_rejected):
    """Log-probabilities of answers whose log ratios to the reference are these. Ratios that are dyadic stay exact, ties too."""
    ref_chosen = -12.5 - 2.0 * np.arange(len(l_chosen)) - np.maximum(l_chosen, 0)  # no log-probability above 0
    ref_rejected = -20.25 - np.arange(len(l_chosen)) - np.maximum(l_rejected, 0)
    pairs = {"chosen": ref_chosen + l_chosen, "rejected": ref_rejected + l_rejected}
    return {**pairs, "ref_chosen": ref_chosen, "ref_rejected": ref_rejected}


def random_pairs(rng, count):
    ref_chosen, ref_rejected = -rng.uniform(15, 40, count), -rng.uniform(15, 40, count)
    moved = rng.normal(scale=1.5, size=(2, count))
    pairs = {"chosen": ref_chosen + moved[0], "rejected": ref_rejected + moved[1]}
    return {**pairs, "ref_chosen": ref_chosen, "ref_rejected": ref_rejected}


def both_signs(rng):
    """Four pairs whose log ratios have all four combinations of signs, none near the hinge's corner."""
    sizes = rng.uniform(0.2, 2.0, size=(2, 4))
    return answers_at(sizes[0] * [1, 1, -1, -1], sizes[1] * [1, -1, 1, -1])


SPOILT_PAIRS = (
    ("rejected", {"rejected": np.zeros(1)}), ("rejected", {"rejected": np.zeros(3)}),
    ("weights", {"weights": np.ones(3)}), ("weights", {"weights": np.array([2.0, -1.0])}), ("weights", {"weights": np.zeros(2)}),
)  # fmt: skip
SPOILT_REFERENCE = (("ref_chosen", {"ref_chosen": np.zeros(1)}), ("ref_rejected", {"ref_rejected": np.zeros((2, 1))}))
SPOILT_BETA = tuple(("beta", {"beta": beta}) for beta in (0.0, -0.1, float("inf")))


class RefusesEach(Refuses):
    def spoilt(self, function, good, *groups):
        for group in groups:
            for argument, bad in group:
                yield {"function": function, "good": good, "argument": argument, "bad": bad}


EMPTY = np.zeros(0)
NO_PAIRS = (("chosen", {"chosen": EMPTY, "rejected": EMPTY}),)
NO_ANSWERS = (("chosen", {"chosen": EMPTY, "rejected": EMPTY, "ref_chosen": EMPTY, "ref_rejected": EMPTY}),)
ANY_BETA = edit("any-beta", "A beta of 0 or below went through. 0 divides by zero or switches the loss off, below 0 it turns "
                "the preference round.", {"if not 0 < beta < math.inf:": "if beta is None:"})  # fmt: skip
EMPTY_MEAN = edit("mean-of-nothing", "No pair at all went through: the mean of nothing is NaN, and it spreads.",
                  {"if tensor.ndim != 1 or len(tensor) == 0:": "if tensor.ndim != 1:"})  # fmt: skip
BROADCAST = edit("broadcast", "Arguments of different shapes went through: PyTorch stretched one of them over the other.",
                 {"if tensors[name].shape != tensors[first].shape:": "if tensors[name] is None:"})  # fmt: skip
NEGATIVE_WEIGHT = edit("negative-weight", "A negative weight went through: a pair cannot come less than never.",
                       {"or weights.min() < 0 or weights.sum() == 0:": "or weights.sum() == 0:"})  # fmt: skip


@check("preference_probability", points=1.5, section="5.1")
class Probability(Check):
    probe = "probability"
    tolerance = EXACT

    def cases(self, rng):
        yield {"first": np.array([1.0]), "second": np.array([1.0])}
        yield {"first": np.array([1.5, -0.5]), "second": np.array([0.5, 1.5])}
        yield {"first": rng.normal(size=(2, 3)), "second": rng.normal(size=(2, 3))}
        yield {"first": EXTREME, "second": np.zeros(5)}
        yield {"first": np.array([1000.0, 1001.0, -1000.0]), "second": np.array([999.0, 1001.0, -998.5])}

    def truth(self, first, second):
        p, q = sigma(first - second), sigma(second - first)
        return answer(p, {"first": p * q, "second": -p * q}, reference=False)

    mistakes = [
        edit("second-preferred", "This is the probability that the *second* answer is preferred. The better the first one, the "
             "larger r_first - r_second, and the larger the probability.", {SIGMA: "return torch.sigmoid(second - first)"}),
        edit("overflowing-exponential", "exp overflows at a reward of 710, and inf/inf is NaN. Divide both by exp(r_first): "
             "only the difference is left, and `torch.sigmoid` takes that at any size.",
             {SIGMA: "return first.exp() / (first.exp() + second.exp())"}),
        edit("strengths-for-rewards", "r_first / (r_first + r_second) is the model for strengths that are positive. Rewards "
             "are their logarithms: exp(r_first) / (exp(r_first) + exp(r_second)).", {SIGMA: "return first / (first + second)"}),
        edit("second-forgotten", "Only the first reward enters. The choice depends on both, through their difference.",
             {SIGMA: "return torch.sigmoid(first)"}),
        edit("softmax-over-pairs", "The softmax runs over the pairs, not over the two answers of each.",
             {SIGMA: "return torch.softmax(torch.stack([first, second]), dim=-1)[0]"}),
        edit("log-probability", "This is the logarithm of the probability. It is wanted in the loss; here the probability is.",
             {SIGMA: "return F.logsigmoid(first - second)"}),
        edit("hard-choice", "The better answer gets probability 1. Bradley and Terry's judge errs, the more often the closer "
             "the two are.", {SIGMA: "return ((first - second).sign() + 1) / 2"}),
        edit("cut-graph", "No gradient reaches the rewards: `.item()`, `detach`, `no_grad` or `torch.tensor(...)` cuts the "
             "graph.", {SIGMA: "return torch.sigmoid(first - second).detach()"}),
        edit("device-dtype", "The answer is in float32. float64 in, float64 out: make no tensor of another dtype.",
             {SIGMA: "return torch.sigmoid((first - second).float())"}),
    ]  # fmt: skip


@check("preference_probability", points=0.5, section="5.1")
class ProbabilityRefuses(RefusesEach):
    def cases(self, rng):
        good = {"first": np.zeros(2), "second": np.ones(2)}
        for shape in (1, 3):
            yield from self.spoilt("preference_probability", good, [("second", {"second": np.ones(shape)})])

    mistakes = [BROADCAST]


@check("bradley_terry_loss", points=2.5, section="5.2")
class Likelihood(Check):
    probe = "loss"
    tolerance = EXACT

    def cases(self, rng):
        yield {"function": "bradley_terry_loss", "chosen": np.array([0.7]), "rejected": np.array([0.7])}
        yield {"function": "bradley_terry_loss", "chosen": np.array([1.5, -0.5]), "rejected": np.array([0.5, 1.5])}
        two = {"chosen": np.array([1.5, 0.5]), "rejected": np.array([0.5, 1.5])}
        yield {"function": "bradley_terry_loss", **two, "weights": np.array([3.0, 1.0])}
        many = {"chosen": rng.normal(size=6), "rejected": rng.normal(size=6)}
        yield {"function": "bradley_terry_loss", **many, "weights": rng.uniform(0.1, 2.0, 6)}
        yield {"function": "bradley_terry_loss", "chosen": EXTREME, "rejected": np.zeros(5)}

    def truth(self, function, chosen, rejected, weights=None):
        wrong = sigma(rejected - chosen)  # the probability of the other choice
        return margin_loss(softplus(rejected - chosen), (-wrong, wrong), weights, reference=False)

    mistakes = [
        edit("flipped-sign", "This is the log-likelihood. The loss is minus that, so that minimising it makes the choices "
             "probable.", {LIKELIHOOD: "weighted_mean(F.logsigmoid(chosen - rejected), weights)"}),
        edit("dpo-swapped", "Chosen and rejected are exchanged: this loss falls when the rejected answer's reward rises.",
             {LIKELIHOOD: "weighted_mean(-F.logsigmoid(rejected - chosen), weights)"}),
        edit("log-of-softmax", "sigma(-1000) is 0 in float64 and its logarithm -inf. `F.logsigmoid` (or -softplus(-x)) never "
             "takes that detour.", {LIKELIHOOD: "weighted_mean(-torch.sigmoid(chosen - rejected).log(), weights)"}),
        edit("log-plus-epsilon", "A small number inside the logarithm avoids -inf, but changes the loss, and its gradient dies "
             "where the model is most wrong. `F.logsigmoid` needs no such help.",
             {LIKELIHOOD: "weighted_mean(-(torch.sigmoid(chosen - rejected) + 1e-8).log(), weights)"}),
        edit("probability-for-log", "This is the probability of the other choice, without a logarithm. The likelihood of many "
             "choices is a product, so its log is a sum of logs; and here the gradient dies where the model is most wrong.",
             {LIKELIHOOD: "weighted_mean(torch.sigmoid(rejected - chosen), weights)"}),
        edit("two-log-sigmoids", "Two log-sigmoids, one for each answer: they judge each reward against 0. A choice says "
             "something about the difference alone.",
             {LIKELIHOOD: "weighted_mean(-F.logsigmoid(chosen) - F.logsigmoid(-rejected), weights)"}),
        edit("hinge-for-likelihood", "This is the hinge loss max(0, 1 - difference). It is no likelihood: it stops at a "
             "difference of 1 and knows no probabilities.",
             {LIKELIHOOD: "weighted_mean(F.relu(1 - (chosen - rejected)), weights)"}),
        edit("summed-not-averaged", "The losses of the pairs are added. Their mean is asked for: sum(w * loss) / sum(w).",
             {"return " + LIKELIHOOD:
              "values = -F.logsigmoid(chosen - rejected); return (values if weights is None else weights * values).sum()"}),
        edit("weights-not-normalised", "The weighted losses are divided by the number of pairs. Divide by the sum of the "
             "weights, or use `weighted_mean`.",
             {"return " + LIKELIHOOD:
              "values = -F.logsigmoid(chosen - rejected); return (values if weights is None else weights * values).mean()"}),
        edit("weights-ignored", "`weights` is not used: a pair that came three times counts three times.",
             {LIKELIHOOD: "weighted_mean(-F.logsigmoid(chosen - rejected))"}),
        edit("cut-graph", "No gradient reaches the rewards: `.item()`, `detach`, `no_grad` or `torch.tensor(...)` cuts the "
             "graph.", {LIKELIHOOD: LIKELIHOOD + ".detach()"}),
        edit("device-dtype", "The loss is in float32. float64 in, float64 out: make no tensor of another dtype.",
             {LIKELIHOOD: LIKELIHOOD + ".float()"}),
    ]  # fmt: skip


@check("bradley_terry_loss", points=0.5, section="5.2")
class LikelihoodRefuses(RefusesEach):
    def cases(self, rng):
        good = {"chosen": np.array([1.0, 0.0]), "rejected": np.array([0.0, 0.5])}
        yield from self.spoilt("bradley_terry_loss", good, SPOILT_PAIRS, NO_PAIRS)

    mistakes = [BROADCAST, EMPTY_MEAN, NEGATIVE_WEIGHT]


@check("pairs_from_preferences", points=2.5, section="5.3")
class PairsFromLabels(Check):
    probe = "pairs"

    def cases(self, rng):
        yield {"labels": np.array([1, 0, 0, 0, 0, 0])}
        yield {"labels": np.array([0, 0, 0, 2, 0, 0])}
        yield {"labels": np.array([1, 1, 1, 0, 1, 2])}
        yield {"labels": np.zeros(6, int)}
        yield {"labels": np.array([2]), "answers": 2}
        yield {"labels": np.array([1, 2, 1]), "answers": 3}
        yield {"labels": rng.permutation([0, 0, 1, 1, 1, 1, 2, 2, 2, 2]), "answers": 5}

    def truth(self, labels, answers=4):
        found, at = [], 0
        for first in range(answers):
            for second in range(first + 1, answers):
                if labels[at] != 0:
                    found.append((first, second) if labels[at] == 1 else (second, first))
                at += 1
        return {"pairs": np.array(found, dtype=np.int64).reshape(-1, 2), "dtype": "torch.int64", "arguments changed": "none"}

    mistakes = [
        edit("ranking-ties", "A tie (label 0) is read as a win of the second answer. It says that neither is better: it gives "
             "no pair.", {"elif label == 2:": "else:"}),
        edit("tie-for-the-first", "A tie (label 0) is read as a win of the first answer. It gives no pair.",
             {"if label == 1:": "if label in (0, 1):"}),
        edit("ranking-orientation", "The pairs are turned round: label 1 says that the *first* of the two is preferred, and "
             "rows are (chosen, rejected).", {"if label == 1:": "if label == 2:", "elif label == 2:": "elif label == 1:"}),
        edit("ranking-order", "The labels are read in the order 12 13 23 14 24 34. They come as 12 13 14 23 24 34: the first "
             "answer with each later one, then the second with each later one.",
             {"torch.combinations(torch.arange(answers), 2).tolist()":
              "sorted(torch.combinations(torch.arange(answers), 2).tolist(), key=lambda pair: pair[::-1])"}),
        edit("ranking-from-one", "The answers are counted from 1. Indices count from 0: \"12\" compares answers 0 and 1.",
             {"torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)":
              "torch.tensor(pairs, dtype=torch.long).reshape(-1, 2) + 1"}),
        edit("ranking-four-only", "Four answers are taken for granted. `answers` says how many there are.",
             {"torch.combinations(torch.arange(answers), 2)": "torch.combinations(torch.arange(4), 2)"}),
        edit("ranking-empty-shape", "Ties alone give a tensor of shape (0,). The shape is (pairs, 2) also for no pairs: (0, "
             "2), so that `pairs[:, 0]` still works.",
             {"torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)": "torch.tensor(pairs, dtype=torch.long)"}),
        edit("device-dtype", "The pairs are not int64, so they cannot be used as indices everywhere.",
             {"torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)": "torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2)"}),
    ]  # fmt: skip


@check("pairs_from_preferences", points=0.5, section="5.3")
class PairsRefuse(RefusesEach):
    def cases(self, rng):
        good = {"labels": np.array([1, 1, 1, 0, 1, 2])}
        for bad in (np.array([1, 1, 1, 0, 1, 3]), np.array([1, 1, 1, 0, 1, -1]), np.array([1, 1, 1]), np.zeros((2, 6), int)):
            yield {"function": "pairs_from_preferences", "good": good, "argument": "labels", "bad": {"labels": bad}}

    mistakes = [
        edit("any-label", "A label other than 0, 1, 2 went through. It would be dropped as if it were a tie.",
             {"if not all(label in (0, 1, 2) for label in labels.tolist()):": "if labels is None:"}),
        edit("any-count", "A wrong number of labels went through: the missing ones would be dropped without a word.",
             {"if tuple(labels.shape) != (count,):": "if labels.ndim != 1:"}),
    ]  # fmt: skip


CIRCLE = [[0, 1], [1, 2], [2, 0]]


@check("fit_rewards", points=4, section="5.4")
class Fit(Check):
    probe = "rewards"
    tolerance = 1e-6  # the docstring asks for 1e-7; an optimiser left at a gradient of 1e-5 may be off by more

    def cases(self, rng):
        yield {"pairs": np.array([[0, 1], [0, 1], [1, 0]]), "answers": 2}
        yield {"pairs": np.array([[0, 1], [1, 2], [2, 0], [0, 1], [0, 2]]), "answers": 3}
        yield {"pairs": np.array([[0, 1]]), "answers": 2, "l2": 0.1}  # separable: finite by the ridge alone
        yield {"pairs": np.array([*CIRCLE, [3, 0], [2, 3]]), "answers": 4, "weights": np.array([5.0, 2.0, 1.0, 2.0, 3.0])}
        more = np.array([rng.choice(4, 2, replace=False) for _ in range(12)])
        yield {"pairs": np.concatenate([[[0, 1], [1, 2], [2, 3], [3, 0]], more]), "answers": 4}
        yield {"pairs": more, "answers": 5, "l2": 0.5, "weights": rng.uniform(0.5, 2.0, 12)}  # answer 4 was never compared

    def truth(self, pairs, answers, l2=0.0, weights=None):
        """Newton's method on the convex objective, with its step halved until it descends."""
        part, wins = shares(weights, len(pairs)), np.zeros((len(pairs), answers))
        wins[np.arange(len(pairs)), pairs[:, 0]], wins[np.arange(len(pairs)), pairs[:, 1]] = 1, -1
        rewards = np.zeros(answers)

        def objective(r):
            return part @ softplus(-wins @ r) + l2 / 2 * r @ r

        for _ in range(100):
            p = sigma(wins @ rewards)
            slope = l2 * rewards - wins.T @ (part * (1 - p))
            curvature = (wins.T * (part * p * (1 - p))) @ wins + l2 * np.eye(answers) + 1 / answers  # 1/n: the mean stays 0
            step = np.linalg.solve(curvature, slope)
            while objective(rewards - step) > objective(rewards) + 1e-14:  # rounding of a loss near 1
                step = step / 2
            rewards = rewards - step
            if abs(step).max() < 1e-12:
                break
        return {"rewards": rewards - rewards.mean(), "dtype": "torch.float64", "arguments changed": "none"}

    @mistake("win-share", "This is each answer's share of wins. It does not ask against whom: a win over a good answer says more "
             "than one over a bad one. Maximise the likelihood of all choices together.")  # fmt: skip
    def shares_of_wins(self, pairs, answers, l2=0.0, weights=None):
        part = shares(weights, len(pairs))
        wins, losses = (np.bincount(pairs[:, side], part, answers) for side in (0, 1))
        share = wins / np.maximum(wins + losses, 1e-300)
        return {"rewards": share - share.mean(), "dtype": "torch.float64", "arguments changed": "none"}

    mistakes = [
        edit("dpo-swapped", "Chosen and rejected are exchanged: answers that win get low rewards. Rows are (chosen, rejected).",
             {"rewards[pairs[:, 0]], rewards[pairs[:, 1]]": "rewards[pairs[:, 1]], rewards[pairs[:, 0]]"}),
        edit("first-is-zero", "The first answer's reward is pinned to 0. The differences are right; the convention here is "
             "that the rewards have mean zero: subtract their mean.",
             {"return rewards - rewards.mean()": "return rewards - rewards[0]"}),
        edit("strengths-for-rewards", "These are strengths that sum to 1, exp(r) / sum exp(r). Rewards are their logarithms, "
             "with mean zero.", {"return rewards - rewards.mean()": "return torch.softmax(rewards, dim=0)"}),
        edit("stopped-early", "The direction is right, but the optimiser stopped too early. Ask it for a gradient below 1e-9 "
             "(`options={\"gtol\": 1e-10}` for BFGS) and hand it the exact gradient (`jac=True`).", {"1e-10": "1e-3"}),
        edit("ridge-against-the-sum", "The ridge is weighed against the *sum* of the losses. The docstring's objective has "
             "their mean.", {OBJECTIVE: OBJECTIVE.replace("bradley_terry_loss(", "len(pairs) * bradley_terry_loss(")}),
        edit("ridge-without-half", "The ridge is l2 / 2 times the sum of the squares; the half is missing.",
             {"l2 / 2 * (rewards**2).sum()": "l2 * (rewards**2).sum()"}),
        edit("ridge-ignored", "`l2` is not used. Without it an answer that always wins runs off to infinity, and where it ends "
             "is the optimiser's whim.", {"l2 / 2 * (rewards**2).sum()": "0 * rewards.sum()"}),
        edit("weights-ignored", "`weights` is not used: a choice made five times counts five times.",
             {"rewards[pairs[:, 1]], weights)": "rewards[pairs[:, 1]])"}),
        edit("each-pair-once", "A choice that was made several times counts once only. Every row of `pairs` is a choice.",
             {"def objective(values: np.ndarray)":
              "pairs = torch.unique(pairs, dim=0) if weights is None else pairs\n\n    def objective(values: np.ndarray)"}),
        edit("device-dtype", "The rewards are in float32. float64 in, float64 out.",
             {"return rewards - rewards.mean()": "return (rewards - rewards.mean()).float()"}),
    ]  # fmt: skip


@check("fit_rewards", points=1, section="5.4")
class FitRefuses(RefusesEach):
    def cases(self, rng):
        good = {"pairs": np.array([*CIRCLE, [0, 1]]), "answers": 3}
        always, apart = np.array([[0, 1], [0, 2], [1, 2], [2, 1]]), np.array([[0, 1], [1, 0], [0, 1], [1, 0]])
        spoilt = (
            ("pairs", {"pairs": always}), ("pairs", {"pairs": always[:, ::-1].copy()}), ("pairs", {"pairs": apart}),
            ("pairs", {"answers": 4}), ("pairs", {"weights": np.array([1.0, 1.0, 0.0, 1.0])}),
            ("pairs", {"pairs": np.array([*CIRCLE, [0, 3]])}), ("pairs", {"pairs": np.array([*CIRCLE, [0, -1]])}),
            ("pairs", {"pairs": np.array([*CIRCLE, [1, 1]])}), ("pairs", {"pairs": np.zeros((0, 2), int), "l2": 1.0}),
            ("l2", {"l2": -0.1}), ("weights", {"weights": np.ones(3)}),
        )  # fmt: skip
        yield from self.spoilt("fit_rewards", good, spoilt)

    mistakes = [
        edit("separable-unnoticed", "Choices without a finite maximum went through: one answer always wins (or always loses, "
             "or was never compared), and the larger its reward the better the fit, without end.", {"if l2 > 0:": "if l2 >= 0:"}),
        edit("never-came", "A pair of weight 0 counted as a choice. It never came: what it links is not linked.",
             {"came = pairs if weights is None else pairs[weights > 0]": "came = pairs"}),
        edit("one-way-is-enough", "Answers that are merely linked went through. Wins have to lead both ways, from every answer "
             "to every other.",
             {"leads[came[:, 0], came[:, 1]] = True": "leads[came[:, 0], came[:, 1]] = leads[came[:, 1], came[:, 0]] = True"}),
    ]  # fmt: skip


@check("optimal_policy", points=3.5, section="5.5")
class Optimum(Check):
    probe = "policy"
    tolerance = EXACT

    def cases(self, rng):
        def case(ref, reward, beta):
            return {"ref": ref, "reward": reward, "beta": beta, "direction": rng.normal(size=ref.shape)}

        yield case(np.array([0.5, 0.5]), np.array([1.0, 0.0]), 1.0)
        yield case(np.array([0.1, 0.4, 0.3, 0.2]), np.array([1.5, 0.5, -0.5, -1.5]), 0.5)
        yield case(rng.dirichlet(np.ones(4), size=3), rng.normal(size=(3, 4)), 2.0)
        yield case(np.array([[0.25, 0.75, 0.0], [0.0, 1.0, 0.0]]), np.array([[1.0, 2.0, 30.0], [5.0, -5.0, 0.0]]), 0.5)
        yield case(np.array([0.2, 0.3, 0.5]), np.array([200.0, 199.9, -200.0]), 0.1)
        yield case(rng.dirichlet(np.ones(5), size=2), np.array([[-200.0], [200.0]]) + rng.normal(size=(2, 5)), 0.25)

    def truth(self, ref, reward, beta, direction):
        with np.errstate(divide="ignore"):  # log 0 = -inf is meant
            logs = np.log(ref) + reward / beta
        weights = np.exp(logs - logs.max(axis=-1, keepdims=True))
        policy = weights / weights.sum(axis=-1, keepdims=True)
        mean = (policy * direction).sum(axis=-1, keepdims=True)
        return answer(policy, {"reward": policy * (direction - mean) / beta}, reference=False)

    mistakes = [
        edit("dpo-no-reference", "The reference is left out: this is the optimum under an entropy bonus. Multiply exp(r / "
             "beta) by ref(y|x), or add log ref in the exponent.", {TILT: "return torch.softmax(reward / beta, dim=-1)"}),
        edit("beta-multiplied", "The rewards are multiplied by beta. A large beta holds the policy at the reference: divide.",
             {TILT: "return torch.softmax(ref.log() + reward * beta, dim=-1)"}),
        edit("beta-on-the-reference", "beta stands on log ref, and the reward has none. Then a large beta does not give the "
             "reference back but its most probable answer. In eq. 5.12 beta divides the reward.",
             {TILT: "return torch.softmax(beta * ref.log() + reward, dim=-1)"}),
        edit("flipped-sign", "Answers with a high reward become rarer: the sign of r / beta is turned.",
             {TILT: "return torch.softmax(ref.log() - reward / beta, dim=-1)"}),
        edit("overflowing-exponential", "exp(r / beta) overflows (200 / 0.1 = 2000), and inf/inf is NaN. Stay in logarithms: a "
             "softmax of log ref + r / beta.",
             {TILT: "weights = ref * (reward / beta).exp(); return weights / weights.sum(dim=-1, keepdim=True)"}),
        edit("not-normalised", "Z(x) is missing: the rows do not sum to 1.", {TILT: "return ref * (reward / beta).exp()"}),
        edit("raw-logits-as-log-probs", "ref is added to r / beta as it is. Its *logarithm* belongs in the exponent.",
             {TILT: "return torch.softmax(ref + reward / beta, dim=-1)"}),
        edit("normalised-over-prompts", "The softmax runs over the prompts. Each prompt has its own Z(x): the last dimension "
             "lists the answers to one prompt.", {TILT: "return torch.softmax(ref.log() + reward / beta, dim=0)"}),
        edit("support-widened", "An answer that the reference never gives gets some probability, because of a small number "
             "inside the logarithm. pi* has no answers that ref does not have: log 0 = -inf is right here.",
             {TILT: "return torch.softmax((ref + 1e-8).log() + reward / beta, dim=-1)"}),
        edit("log-probability", "These are log-probabilities; probabilities are asked for.",
             {TILT: "return torch.log_softmax(ref.log() + reward / beta, dim=-1)"}),
        edit("greedy-rollouts", "All the mass is on the best answer. That is the optimum for beta -> 0; the KL term keeps the "
             "others.", {TILT: "return F.one_hot((ref.log() + reward / beta).argmax(dim=-1), ref.shape[-1]).to(ref.dtype)"}),
        edit("in-place", "`ref` itself is changed. Work on a new tensor: the caller still needs the reference.",
             {TILT: "return torch.softmax(ref.log_() + reward / beta, dim=-1)"}),
        edit("cut-graph", "No gradient reaches the rewards: `detach`, `no_grad` or `torch.tensor(...)` cuts the graph.",
             {TILT: TILT + ".detach()"}),
        edit("device-dtype", "The answer is in float32. float64 in, float64 out: make no tensor of another dtype.",
             {TILT: TILT + ".float()"}),
    ]  # fmt: skip


@check("optimal_policy", points=0.5, section="5.5")
class OptimumRefuses(RefusesEach):
    def cases(self, rng):
        good = {"ref": np.array([[0.1, 0.4, 0.5], [0.2, 0.2, 0.6]]), "reward": np.ones((2, 3)), "beta": 0.5}
        refs = (np.array([[0.1, 0.4, 0.6], [0.2, 0.2, 0.6]]), np.array([[1.1, 0.4, -0.5], [0.2, 0.2, 0.6]]), np.zeros((2, 0)))
        rewards = (np.ones(3), np.ones((3, 2)), np.array([[1.0, 2.0, np.inf], [0.0, 0.0, 0.0]]), np.full((2, 3), np.nan))
        spoilt = [("ref", {"ref": ref}) for ref in refs] + [("reward", {"reward": reward}) for reward in rewards]
        yield from self.spoilt("optimal_policy", good, spoilt, SPOILT_BETA)

    mistakes = [
        edit("not-a-distribution", "Rows of `ref` that do not sum to 1 went through, as if they were probabilities.",
             {"if not bool((probs >= 0).all()) or not bool(((sums - 1).abs() <= 1e-9).all()):":
              "if not bool((probs >= 0).all()):"}),
        edit("infinite-reward", "A reward that is not a finite number went through, and the answer is NaN.",
             {"if not bool(torch.isfinite(reward).all()):": "if reward is None:"}),
        ANY_BETA, BROADCAST,
    ]  # fmt: skip


@check("implicit_reward", points=1.5, section="5.6")
class Implicit(Check):
    probe = "reward"
    tolerance = EXACT

    def cases(self, rng):
        yield {"log_probs": np.array([-12.5]), "ref_log_probs": np.array([-12.5]), "beta": 0.5}
        yield {"log_probs": np.array([-12.25, -21.0]), "ref_log_probs": np.array([-12.5, -20.0]), "beta": 0.1}
        yield {"log_probs": -rng.uniform(5, 40, (2, 3)), "ref_log_probs": -rng.uniform(5, 40, (2, 3)), "beta": 2.0}
        yield {"log_probs": np.array([-50.0, -1000.0]), "ref_log_probs": np.array([-1000.0, -50.0]), "beta": 0.25}

    def truth(self, log_probs, ref_log_probs, beta):
        return answer(beta * (log_probs - ref_log_probs), {"log_probs": np.full(log_probs.shape, beta)})

    mistakes = [
        edit("reference-trained", "A gradient flows into the reference's log-probabilities. The reference is fixed: `detach` "
             "them.", {RATIO: "return beta * (log_probs - ref_log_probs)"}),
        edit("dpo-no-reference", "The reference is left out. At pi = ref every implicit reward is 0.",
             {RATIO: "return beta * log_probs"}),
        edit("beta-forgotten", "beta is missing: the log ratio is in nats, the reward in units of beta.",
             {RATIO: "return log_probs - ref_log_probs.detach()"}),
        edit("beta-divided", "The log ratio is divided by beta. Solve eq. 5.12 for r: beta comes out as a factor.",
             {RATIO: "return (log_probs - ref_log_probs.detach()) / beta"}),
        edit("beta-on-one-term", "beta stands on the policy's term alone. It multiplies the difference.",
             {RATIO: "return beta * log_probs - ref_log_probs.detach()"}),
        edit("flipped-sign", "The ratio is upside down: an answer that has become more probable than under the reference has a "
             "positive reward.", {RATIO: "return beta * (ref_log_probs.detach() - log_probs)"}),
        edit("ratio-for-log-ratio", "This is the ratio pi/ref. The reward is its logarithm: drop the exp.",
             {RATIO: "return beta * (log_probs - ref_log_probs.detach()).exp()"}),
        edit("cut-graph", "No gradient reaches the policy. Only the reference is to be detached.",
             {RATIO: "return beta * (log_probs - ref_log_probs).detach()"}),
        edit("device-dtype", "The answer is in float32. float64 in, float64 out.", {RATIO: RATIO + ".float()"}),
    ]  # fmt: skip


@check("implicit_reward", points=0.5, section="5.6")
class ImplicitRefuses(RefusesEach):
    def cases(self, rng):
        good = {"log_probs": np.array([-1.0, -2.0]), "ref_log_probs": np.array([-1.5, -1.0]), "beta": 0.5}
        shapes = (("ref_log_probs", {"ref_log_probs": np.zeros(1)}), ("ref_log_probs", {"ref_log_probs": np.zeros((2, 1))}))
        yield from self.spoilt("implicit_reward", good, shapes, SPOILT_BETA)

    mistakes = [ANY_BETA, BROADCAST]


@check("dpo_loss", points=4.5, section="5.7")
class Dpo(Check):
    probe = "loss"
    tolerance = EXACT

    def cases(self, rng):
        def case(pairs, beta, **more):
            return {"function": "dpo_loss", **pairs, "beta": beta, **more}

        yield case(answers_at(np.zeros(1), np.zeros(1)), 0.5)
        yield case(answers_at(np.array([0.25]), np.array([-0.5])), 0.5)
        yield case(answers_at(np.array([0.3, -1.0]), np.array([0.0, 0.5])), 0.1)
        yield case(both_signs(rng), 2.0)
        yield case(random_pairs(rng, 6), 0.25, weights=rng.uniform(0.1, 2.0, 6))
        yield case(answers_at(2 * EXTREME, np.zeros(5)), 0.5)
        yield case(answers_at(np.zeros(5), 2 * EXTREME), 0.5)

    def truth(self, function, beta, weights=None, **pairs):
        l_chosen, l_rejected = log_ratios(**pairs)
        margin = beta * (l_chosen - l_rejected)
        return margin_loss(softplus(-margin), (-beta * sigma(-margin), beta * sigma(-margin)), weights)

    mistakes = [
        edit("dpo-no-reference", "The reference is left out. What counts is how far each answer has moved from the reference: "
             "at pi = ref the loss is log 2 whatever the pair.",
             {OF_CHOSEN: "reward_of_chosen = beta * chosen", OF_REJECTED: "reward_of_rejected = beta * rejected"}),
        edit("reference-on-one-side", "Only the chosen answer is measured against the reference. Both are.",
             {OF_REJECTED: "reward_of_rejected = beta * rejected"}),
        edit("reference-crossed", "The reference's two log-probabilities are exchanged: each answer is measured against its "
             "own.",
             {OF_CHOSEN: "reward_of_chosen = implicit_reward(chosen, ref_rejected, beta)",
              OF_REJECTED: "reward_of_rejected = implicit_reward(rejected, ref_chosen, beta)"}),
        edit("beta-on-one-term", "beta stands on the chosen answer's term alone. Both implicit rewards have it.",
             {OF_REJECTED: "reward_of_rejected = implicit_reward(rejected, ref_rejected, 1.0)"}),
        edit("beta-outside", "beta multiplies the loss. It belongs inside sigma, on the margin: there it says at which margin "
             "the pair is settled; outside it only rescales the step.",
             {OF_CHOSEN: "reward_of_chosen = implicit_reward(chosen, ref_chosen, 1.0)",
              OF_REJECTED: "reward_of_rejected = implicit_reward(rejected, ref_rejected, 1.0)",
              DPO: "return beta * bradley_terry_loss(reward_of_chosen, reward_of_rejected, weights)"}),
        edit("beta-forgotten", "beta is not used: the margin is beta times the difference of the log ratios.",
             {RATIO: "return log_probs - ref_log_probs.detach()"}),
        edit("beta-divided", "The margin is divided by beta. Solve eq. 5.12 for r: beta comes out as a factor.",
             {RATIO: "return (log_probs - ref_log_probs.detach()) / beta"}),
        edit("dpo-swapped", "Chosen and rejected are exchanged: this loss teaches the rejected answers.",
             {DPO: "return bradley_terry_loss(reward_of_rejected, reward_of_chosen, weights)"}),
        edit("two-log-sigmoids", "Two separate log-sigmoids, one for each answer: each would need log Z(x), which only cancels "
             "in the difference. One sigma of the difference.",
             {DPO: "return weighted_mean(-F.logsigmoid(reward_of_chosen) - F.logsigmoid(-reward_of_rejected), weights)"}),
        edit("flipped-sign", "This is the log-likelihood of the choices. The loss is minus that.",
             {DPO: "return -bradley_terry_loss(reward_of_chosen, reward_of_rejected, weights)"}),
        edit("log-of-softmax", "sigma(-1000) is 0 in float64 and its logarithm -inf. Use `F.logsigmoid`, or your "
             "`bradley_terry_loss`.",
             {DPO: "return weighted_mean(-torch.sigmoid(reward_of_chosen - reward_of_rejected).log(), weights)"}),
        edit("log-plus-epsilon", "A small number inside the logarithm changes the loss, and kills the gradient of the pairs "
             "that are most wrong. `F.logsigmoid` needs no such help.",
             {DPO: "return weighted_mean(-(torch.sigmoid(reward_of_chosen - reward_of_rejected) + 1e-8).log(), weights)"}),
        edit("probability-for-log", "This is 1 - sigma(margin), without a logarithm: the gradient dies where the pair is most "
             "wrong.", {DPO: "return weighted_mean(torch.sigmoid(reward_of_rejected - reward_of_chosen), weights)"}),
        edit("hinge-for-likelihood", "This is the hinge max(0, 1 - margin); DPO has -log sigma(margin).",
             {DPO: "return weighted_mean(F.relu(1 - (reward_of_chosen - reward_of_rejected)), weights)"}),
        edit("reference-trained", "The loss is right, but a gradient flows into the reference's log-probabilities. The "
             "reference is fixed: `detach` them.", {RATIO: "return beta * (log_probs - ref_log_probs)"}),
        edit("rejected-detached", "No gradient reaches the rejected answer: DPO pushes it down as strongly as it pushes the "
             "chosen one up.", {OF_REJECTED: "reward_of_rejected = implicit_reward(rejected.detach(), ref_rejected, beta)"}),
        edit("cut-graph", "No gradient reaches the policy. Only the reference is to be detached.", {DPO: DPO + ".detach()"}),
        edit("summed-not-averaged", "The losses of the pairs are added. Their mean is asked for.",
             {DPO:
              "count = len(chosen) if weights is None else weights.sum(); " + DPO + " * count"}),
        edit("weights-ignored", "`weights` is not used: a pair that came three times counts three times.",
             {DPO: "return bradley_terry_loss(reward_of_chosen, reward_of_rejected)"}),
        edit("device-dtype", "The loss is in float32. float64 in, float64 out.", {DPO: DPO + ".float()"}),
    ]  # fmt: skip


GOOD_PAIRS = answers_at(np.array([0.5, -0.25]), np.array([0.25, 1.0]))


@check("dpo_loss", points=0.5, section="5.7")
class DpoRefuses(RefusesEach):
    def cases(self, rng):
        good = {**GOOD_PAIRS, "beta": 0.5}
        yield from self.spoilt("dpo_loss", good, SPOILT_PAIRS, SPOILT_REFERENCE, NO_ANSWERS, SPOILT_BETA)

    mistakes = [ANY_BETA, BROADCAST, EMPTY_MEAN, NEGATIVE_WEIGHT]


@check("implicit_accuracy", points=1.5, section="5.7")
class Accuracy(Check):
    probe = "accuracy"
    tolerance = EXACT

    def cases(self, rng):
        yield answers_at(np.zeros(1), np.zeros(1))
        yield answers_at(np.array([0.5, -0.5]), np.array([0.25, 0.25]))
        yield answers_at(np.array([-3.0, -0.5, 9.0]), np.array([-4.0, -0.5, 8.5]))  # both may have fallen
        yield {**random_pairs(rng, 7), "weights": rng.uniform(0.1, 2.0, 7)}
        moved = rng.integers(-8, 9, size=(2, 9)) / 4.0
        moved[1, :3] = moved[0, :3]  # three ties
        yield answers_at(*moved)

    def truth(self, weights=None, **pairs):
        l_chosen, l_rejected = log_ratios(**pairs)
        right = np.where(l_chosen > l_rejected, 1.0, np.where(l_chosen == l_rejected, 0.5, 0.0))
        return {"accuracy": shares(weights, len(right)) @ right, "arguments changed": "none"}

    mistakes = [
        edit("dpo-accuracy-no-reference", "The raw log-probabilities are compared: this asks whether the policy finds the "
             "chosen answer more *probable*, which has to do with its length first of all. Compare the log ratios to the "
             "reference; at pi = ref the accuracy is 0.5.", {GAP: "gap = chosen - rejected"}),
        edit("tie-for-the-chosen", "A tie counts as right. At pi = ref, where nothing has been learned, the accuracy would be "
             "1. A tie counts one half.", {SHARE: "weighted_mean((gap >= 0).to(gap.dtype), weights)"}),
        edit("tie-for-the-rejected", "A tie counts as wrong. At pi = ref the accuracy would be 0. A tie counts one half.",
             {SHARE: "weighted_mean((gap > 0).to(gap.dtype), weights)"}),
        edit("dpo-swapped", "This is the share of pairs that are the wrong way round.",
             {SHARE: "weighted_mean((1 - gap.sign()) / 2, weights)"}),
        edit("soft-accuracy", "This is the mean of sigma(gap), a probability. The accuracy counts pairs: 1, one half or 0 each.",
             {SHARE: "weighted_mean(torch.sigmoid(gap), weights)"}),
        edit("chosen-must-rise", "This counts how many chosen answers have become more probable than under the reference. The "
             "accuracy compares the two answers of a pair: both may have fallen.", {GAP: "gap = chosen - ref_chosen"}),
        edit("summed-not-averaged", "This is the number of pairs, not their share.",
             {"return " + SHARE: "return ((gap.sign() + 1) / 2 * (1 if weights is None else weights)).sum()"}),
        edit("weights-ignored", "`weights` is not used: a pair that came three times counts three times.",
             {SHARE: "weighted_mean((gap.sign() + 1) / 2)"}),
    ]  # fmt: skip


@check("implicit_accuracy", points=0.5, section="5.7")
class AccuracyRefuses(RefusesEach):
    def cases(self, rng):
        yield from self.spoilt("implicit_accuracy", GOOD_PAIRS, SPOILT_PAIRS, SPOILT_REFERENCE, NO_ANSWERS)

    mistakes = [BROADCAST, EMPTY_MEAN, NEGATIVE_WEIGHT]


@check("dpop_loss", points=3.5, section="5.11")
class Dpop(Check):
    probe = "loss"
    tolerance = EXACT

    def cases(self, rng):
        def case(pairs, beta, lam, **more):
            return {"function": "dpop_loss", **pairs, "beta": beta, "lam": lam, **more}

        for l_chosen, l_rejected in ((0.5, -0.5), (0.5, 1.5), (-0.5, 0.25), (-0.5, -2.0)):  # the four signs
            yield case(answers_at(np.array([l_chosen]), np.array([l_rejected])), 0.5, 0.75)
        yield case(both_signs(rng), 0.3, 5.0)
        yield case(both_signs(rng), 2.0, 0.0)
        yield case(random_pairs(rng, 6), 0.25, 1.5, weights=rng.uniform(0.1, 2.0, 6))
        yield case(answers_at(2 * EXTREME, np.zeros(5)), 0.5, 0.25)
        yield case(answers_at(-np.ones(5), 2 * EXTREME), 0.5, 0.25)

    def truth(self, function, beta, lam, weights=None, **pairs):
        l_chosen, l_rejected = log_ratios(**pairs)
        below = l_chosen < 0
        margin = beta * (l_chosen - l_rejected) + np.where(below, lam * l_chosen, 0.0)
        slopes = (-(beta + lam * below) * sigma(-margin), beta * sigma(-margin))
        return margin_loss(softplus(-margin), slopes, weights)

    mistakes = [
        edit("dpop-outside", "The hinge is added outside of -log sigma, where it is a loss of its own. Here it stands inside, "
             "in the margin: a pair that is settled pays nothing for it.",
             {DPOP_MARGIN: "margin = beta * (ratio_of_chosen - ratio_of_rejected)",
              DPOP: "weighted_mean(-F.logsigmoid(margin) + lam * F.relu(-ratio_of_chosen), weights)"}),
        edit("dpop-inside-beta", "lam is multiplied by beta. That is the convention of the paper's last version; here lam "
             "stands outside of beta (its lam is ours divided by beta).",
             {DPOP_MARGIN: "margin = beta * (ratio_of_chosen - ratio_of_rejected - lam * F.relu(-ratio_of_chosen))"}),
        edit("dpop-on-the-rejected", "The hinge watches the rejected answer. It is the *chosen* one that must not fall below "
             "the reference.", {HINGE: "lam * F.relu(-ratio_of_rejected)"}),
        edit("dpop-rejected-rises", "The hinge punishes a rejected answer that rises. DPOP punishes a chosen answer that falls.",
             {HINGE: "lam * F.relu(ratio_of_rejected)"}),
        edit("dpop-turned", "The hinge acts where the chosen answer has *risen* above the reference. max(0, -l_chosen) is "
             "positive where it has fallen.", {HINGE: "lam * F.relu(ratio_of_chosen)"}),
        edit("dpop-rewarded", "The hinge is added to the margin: the loss is lower the further the chosen answer falls. "
             "Subtract it.", {DPOP_MARGIN: DPOP_MARGIN.replace(" - lam", " + lam")}),
        edit("dpop-no-hinge", "Without the max the chosen answer is pulled up even above the reference. The penalty is zero "
             "there.", {HINGE: "lam * -ratio_of_chosen"}),
        edit("dpop-no-reference", "The hinge looks at log pi of the chosen answer, which is always negative. It is to look at "
             "the log ratio to the reference.", {HINGE: "lam * F.relu(-chosen)"}),
        edit("dpop-hinge-detached", "The hinge has the right value but no gradient: nothing pulls the chosen answer back.",
             {HINGE: "lam * F.relu(-ratio_of_chosen).detach()"}),
        edit("penalty-forgotten", "This is plain DPO: `lam` is not used.", {HINGE: "0.0"}),
        edit("dpo-no-reference", "The reference is left out of the log ratios.",
             {"ratio_of_chosen = chosen - ref_chosen.detach()": "ratio_of_chosen = chosen",
              "ratio_of_rejected = rejected - ref_rejected.detach()": "ratio_of_rejected = rejected"}),
        edit("dpo-swapped", "Chosen and rejected are exchanged in the margin.",
             {"margin = beta * (ratio_of_chosen - ratio_of_rejected)": "margin = beta * (ratio_of_rejected - ratio_of_chosen)"}),
        edit("reference-trained", "The loss is right, but a gradient flows into the reference's log-probabilities: `detach` "
             "them.", {"ratio_of_chosen = chosen - ref_chosen.detach()": "ratio_of_chosen = chosen - ref_chosen"}),
        edit("log-of-softmax", "sigma(-1000) is 0 in float64 and its logarithm -inf. Use `F.logsigmoid`.",
             {DPOP: "weighted_mean(-torch.sigmoid(margin).log(), weights)"}),
        edit("weights-ignored", "`weights` is not used.", {DPOP: "weighted_mean(-F.logsigmoid(margin))"}),
        edit("summed-not-averaged", "The losses of the pairs are added. Their mean is asked for.",
             {"return " + DPOP: "return (-F.logsigmoid(margin) * (1 if weights is None else weights)).sum()"}),
        edit("cut-graph", "No gradient reaches the policy. Only the reference is to be detached.", {DPOP: DPOP + ".detach()"}),
        edit("device-dtype", "The loss is in float32. float64 in, float64 out.", {DPOP: DPOP + ".float()"}),
    ]  # fmt: skip


@check("dpop_loss", points=0.5, section="5.11")
class DpopRefuses(RefusesEach):
    def cases(self, rng):
        good = {**GOOD_PAIRS, "beta": 0.5, "lam": 1.0}
        penalties = (("lam", {"lam": -1.0}), ("lam", {"lam": float("inf")}))
        yield from self.spoilt("dpop_loss", good, SPOILT_PAIRS, SPOILT_REFERENCE, NO_ANSWERS, SPOILT_BETA, penalties)

    mistakes = [
        ANY_BETA, BROADCAST, EMPTY_MEAN,
        edit("negative-penalty", "A negative lam went through: it would pay for pushing the chosen answer down.",
             {"if not 0 <= number < math.inf:": "if not number < math.inf:"}),
    ]  # fmt: skip


@check("ipo_loss", points=2.5, section="5.12")
class Ipo(Check):
    probe = "loss"
    tolerance = EXACT  # relative: squares up to 4e6

    def cases(self, rng):
        def case(pairs, beta, **more):
            return {"function": "ipo_loss", **pairs, "beta": beta, **more}

        yield case(answers_at(np.zeros(1), np.zeros(1)), 0.5)
        yield case(answers_at(np.array([1.5, -1.0]), np.array([-0.5, 1.0])), 0.25)  # the first is at its target of 2
        yield case(answers_at(np.array([4.0, 0.5]), np.array([0.0, 0.25])), 2.0)  # the first is beyond its target of 1/4
        yield case(random_pairs(rng, 6), 0.1, weights=rng.uniform(0.1, 2.0, 6))
        yield case(answers_at(2 * EXTREME, np.zeros(5)), 0.5)

    def truth(self, function, beta, weights=None, **pairs):
        l_chosen, l_rejected = log_ratios(**pairs)
        off = l_chosen - l_rejected - 0.5 / beta
        return margin_loss(off**2, (2 * off, -2 * off), weights)

    mistakes = [
        edit("ipo-target", "The margin is pulled to 1/beta. The target is half of that, 1/(2 beta).",
             {"(margin - 1 / (2 * beta)) ** 2": "(margin - 1 / beta) ** 2"}),
        edit("ipo-scaled", "This is (beta h - 1/2)^2, beta^2 times the loss: the same optimum, but gradients beta^2 times as "
             "large. The loss has the margin in nats, without beta.",
             {"(margin - 1 / (2 * beta)) ** 2": "(beta * margin - 1 / 2) ** 2"}),
        edit("ipo-hinge", "This is a hinge, max(0, 1/(2 beta) - h). IPO has the square: it also pulls back a margin that is "
             "too large.", {"(margin - 1 / (2 * beta)) ** 2": "F.relu(1 / (2 * beta) - margin)"}),
        edit("ipo-one-sided", "The square counts below the target only. A margin beyond 1/(2 beta) has to be pulled back: that "
             "is what bounds it.", {"(margin - 1 / (2 * beta)) ** 2": "F.relu(1 / (2 * beta) - margin) ** 2"}),
        edit("ipo-absolute", "This is the distance to the target, not its square.",
             {"(margin - 1 / (2 * beta)) ** 2": "(margin - 1 / (2 * beta)).abs()"}),
        edit("dpo-for-ipo", "This is DPO's -log sigma(beta h). IPO has no sigma: a square of the distance to 1/(2 beta).",
             {"(margin - 1 / (2 * beta)) ** 2": "-F.logsigmoid(beta * margin)"}),
        edit("square-of-the-mean", "The mean margin is squared. Each pair has its own square; the mean comes last.",
             {"return " + IPO: "return (weighted_mean(margin, weights) - 1 / (2 * beta)) ** 2"}),
        edit("dpo-no-reference", "The reference is left out of the margin: at pi = ref the loss is 1/(4 beta^2) whatever the "
             "pair.", {IPO_MARGIN: "margin = chosen - rejected"}),
        edit("dpo-swapped", "Chosen and rejected are exchanged: the rejected answer would be pulled ahead.",
             {IPO_MARGIN: "margin = (rejected - ref_rejected.detach()) - (chosen - ref_chosen.detach())"}),
        edit("reference-trained", "The loss is right, but a gradient flows into the reference's log-probabilities: `detach` "
             "them.", {IPO_MARGIN: "margin = (chosen - ref_chosen) - (rejected - ref_rejected)"}),
        edit("weights-ignored", "`weights` is not used.", {IPO: "weighted_mean((margin - 1 / (2 * beta)) ** 2)"}),
        edit("summed-not-averaged", "The losses of the pairs are added. Their mean is asked for.",
             {"return " + IPO: "return ((margin - 1 / (2 * beta)) ** 2 * (1 if weights is None else weights)).sum()"}),
        edit("cut-graph", "No gradient reaches the policy. Only the reference is to be detached.", {IPO: IPO + ".detach()"}),
        edit("device-dtype", "The loss is in float32. float64 in, float64 out.", {IPO: IPO + ".float()"}),
    ]  # fmt: skip


@check("ipo_loss", points=0.5, section="5.12")
class IpoRefuses(RefusesEach):
    def cases(self, rng):
        good = {**GOOD_PAIRS, "beta": 0.5}
        yield from self.spoilt("ipo_loss", good, SPOILT_PAIRS, SPOILT_REFERENCE, NO_ANSWERS, SPOILT_BETA)

    mistakes = [ANY_BETA, BROADCAST, EMPTY_MEAN]
