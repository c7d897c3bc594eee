"""Lesson 17: best-of-n, frontiers, fits, peaks and remedies, against enumeration, fractions and NumPy."""

import math
from fractions import Fraction
from itertools import combinations, product

import numpy as np

from autograder.checks import Check, check, edit, mistake
from autograder.checks.refusals import Refuses

EXACT = 1e-9  # float64 sums of at most some thousand numbers of size about 1
SOLVED = 1e-7  # least squares with columns whose condition is below 1e3: normal equations lose 1e-16 * 1e6, and some
# The 97.5% quantile of Student's distribution by degrees of freedom. From `scipy.stats.t.ppf`; a test compares.
STUDENT = {1: 12.706204736174694, 2: 4.302652729749462, 3: 3.1824463052837078, 6: 2.4469118511449786, 10: 2.228138851986274,
           18: 2.1009220402410382, 38: 2.0243941639119694}  # fmt: skip
TIES = [0.0, 0.5, 1.0]


def unchanged(**told):
    return {**told, "arguments changed": "none"}


def drawn(rng, prompts, samples, ties=False):
    proxy = rng.choice(TIES, size=(prompts, samples)) if ties else rng.normal(size=(prompts, samples))
    return {"proxy": proxy, "gold": rng.normal(size=(prompts, samples))}


@check("best_of_n", points=1.5, section="17.2")
class BestOfN(Check):
    probe = "chosen"
    tolerance = 0.0  # places

    def cases(self, rng):
        yield {"proxy": np.array([[0.2, 0.9, 0.5]]), "n": 3}
        yield {"proxy": np.array([[0.2, 0.1, 0.5], [0.0, -1.0, 3.0]]), "n": 2}  # the highest of all is not among the first two
        yield {"proxy": np.array([[-3.0, -1.0, -2.0, -1.0]]), "n": 4}  # two equals
        yield {"proxy": rng.normal(size=(5, 9)), "n": 1}
        for n in (4, 9):
            yield {"proxy": rng.choice(TIES, size=(6, 9)).astype(np.float32), "n": n}

    def truth(self, proxy, n):
        kept = [max(range(n), key=lambda i: (row[i], -i)) for row in proxy.tolist()]
        return unchanged(kept=np.array(kept), dtype="torch.int64")

    mistakes = [
        edit("worst-of-n", "The *lowest* proxy reward is kept.", {"proxy[:, :n].argmax(dim=1)": "proxy[:, :n].argmin(dim=1)"}),
        edit("all-samples", "All samples are looked at; it is the best of the first `n` that is asked for.",
             {"proxy[:, :n].argmax(dim=1)": "proxy.argmax(dim=1)"}),
        edit("last-samples", "You look at the last n samples, not at the first.",
             {"proxy[:, :n].argmax(dim=1)": "(proxy[:, -n:].argmax(dim=1) + proxy.shape[1] - n)"}),
        edit("last-of-equals", "Of samples with the same reward the last one is kept; the docstring says the first.",
             {"proxy[:, :n].argmax(dim=1)": "(n - 1 - proxy[:, :n].flip(1).argmax(dim=1))"}),
        edit("best-prompt", "The best is taken over the prompts: one row for each sample. It is one sample for each prompt.",
             {"proxy[:, :n].argmax(dim=1)": "proxy[:, :n].argmax(dim=0)"}),
        edit("reward-not-place", "These are the highest rewards; asked for is which sample has them.",
             {"proxy[:, :n].argmax(dim=1)": "proxy[:, :n].amax(dim=1)"}),
    ]  # fmt: skip


@check("best_of_n", points=0.5, section="17.2")
class BestOfNRefuses(Refuses):
    def cases(self, rng):
        good = {"proxy": np.array([[0.2, 0.7, 0.1]]), "n": 2}
        for argument, bad in (("n", 0), ("n", 4), ("proxy", np.array([[np.nan, 0.5, 0.1]])), ("proxy", np.array([0.2, 0.5])),
                              ("proxy", np.zeros((2, 0))), ("n", -1)):  # fmt: skip
            yield {"function": "best_of_n", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("n-beyond-the-samples", "Best of 4 of three samples went through; it is the best of three.",
             {"    require_n(n, proxy.shape[1])\n    # BEGIN SOLUTION\n    return proxy[:, :n]":
              "    require_n(n)\n    # BEGIN SOLUTION\n    return proxy[:, :n]"}),
        edit("nan-kept", "A reward that is no number went through; NaN wins or loses every comparison by accident.",
             {"if not tensor.isfinite().all():": "if False:"}),
    ]  # fmt: skip


@check("best_of_n_mean", points=4, section="17.4")
class BestOfNMean(Check):
    probe = "means"
    tolerance = EXACT

    def cases(self, rng):
        yield {"proxy": np.array([[1.0, 2.0]]), "gold": np.array([[10.0, 0.0]]), "n": 1}
        yield {"proxy": np.array([[1.0, 3.0, 2.0]]), "gold": np.array([[0.0, 1.0, 5.0]]), "n": 2}
        yield {"proxy": np.array([[1.0, 1.0, 0.0]]), "gold": np.array([[4.0, 0.0, 7.0]]), "n": 2}
        for n in (1, 3, 5, 7):
            yield {**drawn(rng, 2, 7, ties=n != 3), "n": n}
        yield {name: values.astype(np.float32) for name, values in drawn(rng, 3, 6).items()} | {"n": 4}
        yield {**drawn(rng, 1, 1100), "n": 550}  # C(1100, 550) is beyond what a float can hold

    def truth(self, proxy, gold, n):
        prompts, total = proxy.shape
        if total > 10:
            told = [self.by_rank(*row, n) for row in zip(proxy, gold)]
        else:
            told = [self.by_listing(*row, n) for row in zip(proxy.astype(float), gold.astype(float))]
        told = np.array(told)
        return unchanged(proxy=told[:, 0], gold=told[:, 1], dtype="torch.float64")

    @staticmethod
    def by_listing(proxy, gold, n):
        """Every choice of n samples, one after the other."""
        kept = []
        for choice in combinations(range(len(proxy)), n):
            best = max(proxy[i] for i in choice)
            tied = [i for i in choice if proxy[i] == best]
            kept.append((best, np.mean([gold[i] for i in tied])))
        return np.mean(kept, axis=0)

    @staticmethod
    def by_rank(proxy, gold, n):
        """With no two equal: how many choices have the sample of each rank as their best, in fractions."""
        order, total = np.argsort(proxy), math.comb(len(proxy), n)
        share = np.array([float(Fraction(math.comb(rank, n - 1), total)) for rank in range(len(proxy))])
        return share @ proxy[order], share @ gold[order]

    @mistake("gold-of-its-own-best", "You report the best *gold* reward among n. The sample is chosen by the proxy; what gold "
          "says of it is asked, and not the best that gold could have.")  # fmt: skip
    def own_best(self, proxy, gold, n):
        return {**self.truth(proxy, gold, n), "gold": self.truth(gold, gold, n)["gold"]}

    mistakes = [
        edit("one-choice", "Only the first n samples are used. The average goes over all ways to choose n of them, which "
             "costs nothing and varies far less.",
             {"return (weight * proxy).sum(dim=1), (weight * gold).sum(dim=1)":
              "kept = proxy[:, :n].argmax(dim=1, keepdim=True)\n    return proxy.gather(1, kept).squeeze(1), gold.gather(1, "
              "kept).squeeze(1)"}),
        edit("with-replacement", "You choose n of the samples *with* replacement: one can come twice, so the best is too low. "
             "Choose n different ones: binomial coefficients in place of powers.",
             {"math.comb(count, n) / math.comb(total, n)": "(count / total) ** n"}),
        edit("ties-counted-twice", "Samples with the same proxy reward are each counted as the best of their choices: the "
             "weights add up to more than 1. Share among equals.",
             {" / (up_to - below)  # (P, N), sums to 1 along the samples": ""}),
        edit("ties-to-nobody", "Choices whose best comes twice count for nobody: take those at or below a sample, less those "
             "strictly below.",
             {"weight = (within[up_to] - within[below]) / (up_to - below)  # (P, N), sums to 1 along the samples":
              "alone = [math.comb(count, n - 1) / math.comb(total, n) for count in range(total)]\n    weight = "
              "torch.tensor(alone, dtype=torch.float64)[below]"}),
        edit("worst-of-n", "These are the weights of the *worst* of n.",
             {"below = (proxy.unsqueeze(1) < proxy.unsqueeze(2))": "below = (proxy.unsqueeze(1) > proxy.unsqueeze(2))",
              "up_to = (proxy.unsqueeze(1) <= proxy.unsqueeze(2))": "up_to = (proxy.unsqueeze(1) >= proxy.unsqueeze(2))"}),
        edit("gold-not-weighted", "The gold reward is averaged over all samples alike: choosing has no effect on it.",
             {"(weight * gold).sum(dim=1)": "gold.mean(dim=1)"}),
        edit("device-dtype", "Computed in float32.",
             {"proxy, gold, total = proxy.double(), gold.double(), proxy.shape[1]":
              "proxy, gold, total = proxy.float(), gold.float(), proxy.shape[1]",
              "within = torch.tensor(within, dtype=torch.float64": "within = torch.tensor(within, dtype=torch.float32"}),
    ]  # fmt: skip


@check("best_of_n_mean", points=0.5, section="17.4")
class BestOfNMeanRefuses(Refuses):
    def cases(self, rng):
        good = {"proxy": np.array([[0.2, 0.7, 0.1]]), "gold": np.array([[0.1, 0.0, 0.4]]), "n": 2}
        for argument, bad in (("n", 4), ("gold", np.array([[0.1, 0.2]])), ("gold", np.array([[0.1, np.inf, 0.0]])), ("n", 0)):
            yield {"function": "best_of_n_mean", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("broadcast", "A gold reward of another shape went through.",
             {"or tensor.numel() == 0 or tensor.shape != first.shape": "or tensor.numel() == 0"}),
        edit("n-beyond-the-samples", "Four of three samples: there is no such choice.",
             {"    require_samples(proxy=proxy, gold=gold)\n    require_n(n, proxy.shape[1])":
              "    require_samples(proxy=proxy, gold=gold)\n    require_n(n)"}),
    ]  # fmt: skip


@check("best_of_n_kl", points=1.5, section="17.3")
class BestOfNKL(Check):
    probe = "kl"
    tolerance = 1e-12  # one logarithm and one quotient

    def cases(self, rng):
        for n in (1, 2, 3, 16, 1000):
            yield {"n": n}

    def truth(self, n):
        return {"kl": math.log(n) - 1 + 1 / n}

    mistakes = [
        edit("ln-n", "ln n is the most that one answer's log-ratio can be. Its mean under best-of-n is less by (n - 1) / n.",
             {"return math.log(n) - (n - 1) / n": "return math.log(n)"}),
        edit("kl-reversed", "This is KL(reference||best-of-n) = n - 1 - ln n, the other direction.",
             {"return math.log(n) - (n - 1) / n": "return n - 1 - math.log(n)"}),
        edit("log-base-2", "These are bits; KL is in nats here.",
             {"return math.log(n) - (n - 1) / n": "return math.log2(n) - (n - 1) / n / math.log(2)"}),
        edit("distance-for-kl", "This is the square root, the distance d. The function returns the KL itself.",
             {"return math.log(n) - (n - 1) / n": "return (math.log(n) - (n - 1) / n) ** 0.5"}),
        edit("sign-of-the-correction", "The correction makes the KL smaller than ln n.",
             {"return math.log(n) - (n - 1) / n": "return math.log(n) + (n - 1) / n"}),
    ]  # fmt: skip


@check("best_of_n_kl", points=0.5, section="17.3")
class BestOfNKLRefuses(Refuses):
    def cases(self, rng):
        for bad in (0, -2):
            yield {"function": "best_of_n_kl", "good": {"n": 2}, "argument": "n", "bad": bad}

    mistakes = [edit("no-draw", "The best of no draw went through.",
             {"    require_n(n)\n    # BEGIN SOLUTION\n    return math.log(n)":
              "    # BEGIN SOLUTION\n    return math.log(max(n, 1))"})]  # fmt: skip


@check("best_of_n_distribution", points=3.5, section="17.3")
class BestOfNDistribution(Check):
    probe = "distribution"
    tolerance = EXACT

    def cases(self, rng):
        yield {"reference": np.array([0.5, 0.5]), "reward": np.array([0.0, 1.0]), "n": 2}
        yield {"reference": np.array([0.2, 0.3, 0.5]), "reward": np.array([1.0, 1.0, 0.0]), "n": 2}  # two equals share
        yield {"reference": np.array([0.5, 0.0, 0.5]), "reward": np.array([0.0, 2.0, 1.0]), "n": 3}  # the best one never comes
        for n in (1, 3, 4):
            yield {"reference": rng.dirichlet(np.ones(5)), "reward": rng.choice(TIES, size=5), "n": n}
        yield {"reference": rng.dirichlet(np.ones(4)), "reward": rng.normal(size=4), "n": 5}
        yield {"reference": rng.dirichlet(np.ones(40)), "reward": rng.normal(size=40).round(1), "n": 700}

    def truth(self, reference, reward, n):
        probs = self.by_listing(reference, reward, n) if len(reference) ** n < 4000 else self.by_levels(reference, reward, n)
        return unchanged(probabilities=probs, dtype="torch.float64")

    @staticmethod
    def by_listing(reference, reward, n):
        """Every sequence of n draws; the first of equals is kept."""
        probs = np.zeros(len(reference))
        for draws in product(range(len(reference)), repeat=n):
            probs[max(draws, key=lambda i: reward[i])] += np.prod(reference[list(draws)])
        return probs

    @staticmethod
    def by_levels(reference, reward, n):
        at_most = np.array([reference[reward <= r].sum() for r in reward])
        below = np.array([reference[reward < r].sum() for r in reward])
        return reference / (at_most - below) * (at_most**n - below**n)

    mistakes = [
        edit("no-sharing", "Answers of the same reward share what their level has, in proportion to the reference. Here the "
             "first of them takes everything, though any of them may be the one that was drawn.",
             {"return reference * ways[levels[1]]":
              "first = torch.stack([(levels[1] == level).nonzero()[0, 0] for level in range(len(mass))])\n    return "
              "torch.zeros_like(reference).index_add(0, first, mass * ways)"}),
        edit("equal-shares", "Answers of the same reward share in proportion to the reference, not equally.",
             {"return reference * ways[levels[1]]": "return (mass * ways / levels[1].bincount())[levels[1]]"}),
        edit("ties-counted-for-each", "Each of several answers of the same reward is given what all of them have together: "
             "the probabilities add up to more than 1.",
             {"return reference * ways[levels[1]]": "return (mass * ways)[levels[1]]"}),
        edit("density-at-a-point", "n F^(n-1) times the reference is right where no two draws can be equal. Here one answer "
             "may come twice, and the probabilities add up to more than 1: sum F^k B^(n-1-k) instead.",
             {"ways = (at_most.unsqueeze(1) ** k * below.unsqueeze(1) ** (n - 1 - k)).sum(dim=1)":
              "ways = n * at_most ** (n - 1)"}),
        edit("worst-of-n", "This is the distribution of the *worst* of n.",
             {"reward.double().unique": "(-reward.double()).unique"}),
        edit("tilted", "This is the reference tilted by n times the reward. Best-of-n looks at the order alone.",
             {"return reference * ways[levels[1]]": "return torch.softmax(reference.log() + n * reward.double(), dim=0)"}),
        edit("one-draw-too-many", "This is the best of n + 1.",
             {"k = torch.arange(n, device=reference.device)": "n = n + 1\n    k = torch.arange(n, device=reference.device)"}),
    ]  # fmt: skip


@check("best_of_n_distribution", points=0.5, section="17.3")
class BestOfNDistributionRefuses(Refuses):
    def cases(self, rng):
        good = {"reference": np.array([0.2, 0.8]), "reward": np.array([0.5, 1.0]), "n": 2}
        for argument, bad in (("reference", np.array([0.2, 0.7])), ("reference", np.array([-0.2, 1.2])),
                              ("reward", np.array([0.5])), ("reward", np.array([0.5, np.nan])), ("n", 0),
                              ("reference", np.array([[0.2, 0.8]]))):  # fmt: skip
            yield {"function": "best_of_n_distribution", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("any-weights", "A reference that does not sum to 1 went through.",
             {" or abs(float(reference.sum()) - 1) > 1e-9": ""}),
        edit("negative-probability", "A negative probability went through.", {" or not (reference >= 0).all()": ""}),
        edit("any-reward", "Rewards of another number, or that are no numbers, went through.",
             {"if tensor.shape != reference.shape or not tensor.isfinite().all():": "if False:"}),
    ]  # fmt: skip


@check("tilted_frontier", points=2.5, section="17.5")
class Frontier(Check):
    probe = "frontier"
    tolerance = EXACT

    def cases(self, rng):
        yield {"reference": np.array([0.5, 0.5]), "proxy": np.array([0.0, 1.0]), "gold": np.array([2.0, -1.0]),
               "betas": np.array([1.0])}  # fmt: skip
        yield {"reference": np.array([0.7, 0.3, 0.0]), "proxy": np.array([0.0, 1.0, 2.0]), "gold": np.array([1.0, 2.0, 9.0]),
               "betas": np.array([0.5, 2.0])}  # fmt: skip
        yield {"reference": rng.dirichlet(np.ones(6)), "proxy": rng.normal(size=6), "gold": rng.normal(size=6),
               "betas": np.array([5.0, 0.25, 1.0])}  # fmt: skip
        yield {"reference": rng.dirichlet(np.ones(6)), "proxy": 100 * rng.normal(size=6), "gold": rng.normal(size=6),
               "betas": np.array([0.01, 10.0])}  # exp(proxy / beta) overflows  # fmt: skip

    def truth(self, reference, proxy, gold, betas):
        told = {"kl": [], "proxy": [], "gold": []}
        for beta in betas:
            with np.errstate(divide="ignore"):
                logits = np.log(reference) + proxy / beta
            policy = np.exp(logits - logits.max())
            policy /= policy.sum()
            held = policy > 0
            told["kl"].append(np.sum(policy[held] * np.log(policy[held] / reference[held])))
            told["proxy"].append(policy @ proxy)
            told["gold"].append(policy @ gold)
        return unchanged(**{name: np.array(values) for name, values in told.items()})

    mistakes = [
        edit("gold-tilted", "The policy is tilted by the gold reward. It never sees that one: it is the proxy that is "
             "optimised.",
             {"optimal_policy(reference, proxy, beta)": "optimal_policy(reference, gold, beta)"}),
        edit("kl-reversed", "This is KL(reference||policy), the other direction.",
             {"kl_divergence(policies, reference.expand_as(policies))":
              "kl_divergence(reference.expand_as(policies), policies)"}),
        edit("beta-multiplies", "The reward is *divided* by beta: a weak penalty is a strong tilt.",
             {"optimal_policy(reference, proxy, beta)": "optimal_policy(reference, proxy, 1 / beta)"}),
        edit("reference-forgotten", "The reference is missing from the tilted policy: this is the softmax of the reward alone.",
             {"optimal_policy(reference, proxy, beta)": "torch.softmax(proxy / beta, dim=0)"}),
        edit("flipped-sign", "The tilt goes the wrong way: the proxy reward falls as beta does.",
             {"optimal_policy(reference, proxy, beta)": "optimal_policy(reference, -proxy, beta)"}),
        edit("distance-for-kl", "These are square roots of the KL. The function returns the KL itself.",
             {"{\"kl\": kl_divergence(policies, reference.expand_as(policies))":
              "{\"kl\": kl_divergence(policies, reference.expand_as(policies)).sqrt()"}),
        edit("objective-for-proxy", "Under \"proxy\" stands E[proxy] - beta KL, the objective; asked for is the expected "
             "reward.",
             {"\"proxy\": policies @ proxy":
              "\"proxy\": policies @ proxy - torch.tensor(betas) * kl_divergence(policies, reference.expand_as(policies))"}),
    ]  # fmt: skip


@check("tilted_frontier", points=0.5, section="17.5")
class FrontierRefuses(Refuses):
    def cases(self, rng):
        good = {"reference": np.array([0.2, 0.8]), "proxy": np.array([0.5, 1.0]), "gold": np.array([0.5, 0.0]),
                "betas": np.array([1.0])}  # fmt: skip
        for argument, bad in (("betas", np.array([1.0, 0.0])), ("betas", np.array([-1.0])), ("betas", np.zeros(0)),
                              ("betas", np.array([np.inf])), ("reference", np.array([0.2, 0.7])), ("gold", np.array([0.5])),
                              ("proxy", np.array([0.5, np.inf]))):  # fmt: skip
            yield {"function": "tilted_frontier", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("any-beta", "A beta of 0, or no beta at all, went through or failed without naming it.",
             {"    require_betas(betas)\n": ""}),
        edit("gold-unchecked", "A gold reward of another shape went through, or failed without being named.",
             {"require_outcomes(reference, proxy=proxy, gold=gold)": "require_outcomes(reference, proxy=proxy)"}),
    ]  # fmt: skip


def solved(columns, values):
    """Least squares and Student's intervals in NumPy."""
    columns, values = columns.astype(float), values.astype(float)
    points, terms = columns.shape
    coefficients = np.linalg.lstsq(columns, values, rcond=None)[0]
    if points == terms:
        return coefficients, np.array([[-np.inf, np.inf]] * terms)
    residual = values - columns @ coefficients
    pseudo = np.linalg.pinv(columns)
    reach = STUDENT[points - terms] * np.sqrt(residual @ residual / (points - terms) * np.diag(pseudo @ pseudo.T))
    return coefficients, np.stack([coefficients - reach, coefficients + reach], axis=1)


@check("linear_fit", points=3, section="17.6")
class LinearFit(Check):
    probe = "linear"
    tolerance = SOLVED

    def cases(self, rng):
        yield {"columns": np.ones((3, 1)), "values": np.array([1.0, 2.0, 6.0])}  # the mean and its interval
        yield {"columns": np.array([[1.0, 0.0], [1.0, 1.0]]), "values": np.array([1.0, 3.0])}  # nothing left
        yield {"columns": np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), "values": np.array([1.0, 3.0, 4.0])}
        for points, terms in ((20, 2), (12, 2), (9, 3), (40, 2)):
            columns = rng.normal(size=(points, terms))
            yield {"columns": columns, "values": columns @ rng.normal(size=terms) + 0.3 * rng.normal(size=points)}

    def truth(self, columns, values):
        coefficients, intervals = solved(columns, values)
        return unchanged(coefficients=coefficients, intervals=intervals)

    mistakes = [
        edit("normal-quantile", "1.96 is the quantile of the normal distribution. With few points the variance itself is "
             "uncertain: Student's quantile, points - terms degrees of freedom.",
             {"float(t.ppf(0.975, points - terms))": "1.959963984540054"}),
        edit("one-sided", "The 95% quantile leaves 5% on *each* side. An interval of 95% needs the 97.5% quantile.",
             {"t.ppf(0.975, points - terms)": "t.ppf(0.95, points - terms)"}),
        edit("variance-over-points", "The residuals are divided by the number of points. The fit has used up `terms` of them.",
             {"columns @ coefficients) ** 2).sum() / (points - terms)": "columns @ coefficients) ** 2).sum() / points"}),
        edit("variance-for-error", "A standard error is the *root* of a variance.",
             {"(variance * torch.linalg.inv(columns.T @ columns).diagonal()).sqrt()":
              "variance * torch.linalg.inv(columns.T @ columns).diagonal()"}),
        edit("columns-alone", "1 / (X^T X)_jj is the error if all other terms were known. The diagonal of the *inverse* is "
             "meant.",
             {"torch.linalg.inv(columns.T @ columns).diagonal()": "(1 / (columns.T @ columns).diagonal())"}),
        edit("degrees-of-points", "Student's distribution has points - terms degrees of freedom here, not points - 1.",
             {"t.ppf(0.975, points - terms)": "t.ppf(0.975, points - 1)"}),
        edit("an-intercept-added", "A constant was fitted along and left out of the answer. The columns are the whole model.",
             {"coefficients = torch.linalg.lstsq(columns, values.unsqueeze(1)).solution.squeeze(1)":
              "coefficients = torch.linalg.lstsq(columns - columns.mean(0), (values - values.mean()).unsqueeze(1), "
              "driver='gelsd').solution.squeeze(1)"}),
    ]  # fmt: skip


@check("linear_fit", points=0.5, section="17.6")
class LinearFitRefuses(Refuses):
    def cases(self, rng):
        good = {"columns": np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), "values": np.array([1.0, 3.0, 4.0])}
        for argument, bad in (("columns", np.ones((3, 2))), ("values", np.array([1.0, 3.0])), ("columns", np.ones(3)),
                              ("columns", np.eye(3, 4)), ("values", np.array([[1.0], [3.0], [4.0]]))):  # fmt: skip
            yield {"function": "linear_fit", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("dependent-columns", "Two columns that say the same went through: no data can tell their coefficients apart.",
             {" or torch.linalg.matrix_rank(columns.double()) < columns.shape[1]": ""}),
        edit("broadcast", "Values of another shape went through.",
             {"if values.shape != columns.shape[:1]:": "if values.shape[0] != columns.shape[0]:"}),
    ]  # fmt: skip


class Fitted(Check):
    """A fit of one of the two forms; `column(d)` is what b multiplies, without its minus."""

    probe = "fit"
    tolerance = SOLVED
    function = form = ""

    def cases(self, rng):
        yield {"function": self.function, "kl": np.array([1.0, 4.0]), "gain": np.array([1.0, 1.5])}  # two points: exactly
        yield {"function": self.function, "kl": np.array([0.25, 1.0, 4.0]), "gain": np.array([0.5, 1.0, 1.5])}
        for points in (5, 12, 20):
            distance = np.sort(rng.uniform(0.3, 3.5, size=points))
            gain = distance * 1.2 - 0.4 * self.column(distance) + 0.1 * rng.normal(size=points)
            yield {"function": self.function, "kl": distance**2, "gain": gain}

    def truth(self, function, kl, gain):
        distance = np.sqrt(kl)
        coefficients, intervals = solved(np.stack([distance, -self.column(distance)], axis=1), gain)
        return unchanged(form=self.form, a=coefficients[0], b=coefficients[1], intervals=intervals)


class FitRefuses(Refuses):
    function = ""

    def cases(self, rng):
        good = {"kl": np.array([0.5, 1.0, 2.0]), "gain": np.array([1.0, 3.0, 4.0])}
        for argument, bad in (("kl", np.array([0.0, 1.0, 2.0])), ("kl", np.array([1.0, 1.0, 1.0])),
                              ("gain", np.array([1.0, 3.0])), ("kl", np.array([[0.5, 1.0, 2.0]])),
                              ("kl", np.array([-0.5, 1.0, 2.0]))):  # fmt: skip
            yield {"function": self.function, "good": good, "argument": argument, "bad": bad}


BON_COLUMNS = "linear_fit(torch.stack([distance, -(distance**2)], dim=1), gain)"
BON_RETURN = "return Fit(\"best_of_n\", *coefficients.tolist(), *map(tuple, intervals.tolist()))"
BON_ROOT = "distance = kl.double().sqrt()\n    coefficients, intervals = " + BON_COLUMNS
RL_COLUMNS = "linear_fit(torch.stack([distance, -distance * distance.log()], dim=1), gain)"
RL_RETURN = "return Fit(\"rl\", *coefficients.tolist(), *map(tuple, intervals.tolist()))"
RL_ROOT = "distance = kl.double().sqrt()\n    coefficients, intervals = " + RL_COLUMNS


@check("fit_best_of_n", points=1.5, section="17.6")
class FitBestOfN(Fitted):
    function, form = "fit_best_of_n", "best_of_n"

    @staticmethod
    def column(distance):
        return distance**2

    mistakes = [
        edit("kl-for-distance", "The fit is in d = sqrt(KL), and you have put the KL itself in its place.",
             {BON_ROOT: BON_ROOT.replace("kl.double().sqrt()", "kl.double()")}),
        edit("flipped-sign", "b comes out with the wrong sign: the form is d (a - b d), so the second column is -d^2.",
             {"-(distance**2)": "distance**2"}),
        edit("ratio-fitted", "You fit gain / d as a straight line. That is another least squares: it counts errors at small d "
             "for more. What is minimised here is the error of the gain.",
             {BON_COLUMNS: "linear_fit(torch.stack([torch.ones_like(distance), -distance], dim=1), gain / distance)"}),
        edit("the-other-form", "This is d (a - b ln d), the form for RL.", {BON_COLUMNS: RL_COLUMNS}),
        edit("coefficients-exchanged", "a and b are exchanged.",
             {"torch.stack([distance, -(distance**2)], dim=1)": "torch.stack([-(distance**2), distance], dim=1)"}),
        edit("no-minus-no-square", "The second column is d, not d^2.", {"-(distance**2)": "-torch.ones_like(distance)"}),
    ]  # fmt: skip


@check("fit_best_of_n", points=0.5, section="17.6")
class FitBestOfNRefuses(FitRefuses):
    function = "fit_best_of_n"
    mistakes = [
        edit("the-reference-fitted", "A KL of 0 (or below) went through. At d = 0 the curve is 0 whatever a and b are, and ln "
             "d is -inf.",
             {" or not (kl > 0).all()": ""}),
        edit("broadcast", "Gains of another number than the KLs went through, or failed without naming the argument.",
             {"if gain.shape != kl.shape:": "if False:"}),
        edit("one-distance", "One distance, however often, leaves a and b undetermined.", {" or len(kl.unique()) < 2": ""}),
    ]  # fmt: skip


@check("fit_rl", points=1.5, section="17.6")
class FitRL(Fitted):
    function, form = "fit_rl", "rl"

    @staticmethod
    def column(distance):
        return distance * np.log(distance)

    mistakes = [
        edit("kl-for-distance", "The fit is in d = sqrt(KL), and you have put the KL itself in its place.",
             {RL_ROOT: RL_ROOT.replace("kl.double().sqrt()", "kl.double()")}),
        edit("log-of-kl", "ln KL is 2 ln d: your b is half of what it should be.",
             {"-distance * distance.log()": "-distance * kl.double().log()"}),
        edit("flipped-sign", "b comes out with the wrong sign: the form is d (a - b ln d).",
             {"-distance * distance.log()": "distance * distance.log()"}),
        edit("log-without-distance", "b multiplies d ln d, and not ln d alone.",
             {"-distance * distance.log()": "-distance.log()"}),
        edit("ratio-fitted", "You fit gain / d. That is another least squares: it counts errors at small d for more. What is "
             "minimised here is the error of the gain.",
             {RL_COLUMNS: "linear_fit(torch.stack([torch.ones_like(distance), -distance.log()], dim=1), gain / distance)"}),
        edit("the-other-form", "This is d (a - b d), the form for best-of-n.", {RL_COLUMNS: BON_COLUMNS}),
        edit("log-base-10", "This is the logarithm to base 10; ln is meant.",
             {"-distance * distance.log()": "-distance * distance.log10()"}),
    ]  # fmt: skip


@check("fit_rl", points=0.5, section="17.6")
class FitRLRefuses(FitRefuses):
    function = "fit_rl"
    mistakes = FitBestOfNRefuses.mistakes


@check("peak", points=2, section="17.6")
class Peak(Check):
    probe = "peak"
    tolerance = 1e-12  # one exponential, a quotient, a product

    def cases(self, rng):
        yield {"form": "best_of_n", "a": 2.0, "b": 1.0}
        yield {"form": "rl", "a": 1.0, "b": 1.0}
        for form in ("best_of_n", "rl"):
            yield {"form": form, "a": 1.0, "b": -0.5}  # it rises for ever
            yield {"form": form, "a": 1.0, "b": 0.0}
            yield {"form": form, "a": -0.7, "b": 0.4}
            for _ in range(2):
                yield {"form": form, "a": float(rng.uniform(0.5, 3)), "b": float(rng.uniform(0.2, 2))}

    def truth(self, form, a, b):
        if b <= 0:
            return {"distance": math.inf, "gain": math.inf}
        distance = max(a / (2 * b), 0.0) if form == "best_of_n" else math.exp(a / b - 1)
        return {"distance": distance, "gain": distance * (a - b * (distance if form == "best_of_n" else math.log(distance)))}

    mistakes = [
        edit("where-it-is-zero", "At a / b the best-of-n curve is back at 0. Its top is half-way: set the derivative a - 2 b "
             "d to 0.",
             {"distance = max(fit.a, 0.0) / (2 * fit.b)": "distance = max(fit.a, 0.0) / fit.b"}),
        edit("where-rl-is-zero", "At exp(a / b) the RL curve is back at 0. The derivative is a - b ln d - b.",
             {"math.exp(fit.a / fit.b - 1)": "math.exp(fit.a / fit.b)"}),
        edit("always-a-peak", "With b <= 0 there is no peak: the curve rises for ever.", {"if fit.b <= 0:": "if fit.b == 0:"}),
        edit("kl-for-distance", "This is the KL at the peak. Asked for is the distance d.",
             {"return distance, fit.b * distance**2": "return distance**2, fit.b * distance**2",
              "return distance, fit.b * distance\n": "return distance**2, fit.b * distance\n"}),
        edit("one-form-for-both", "The formula of the best-of-n form is used for both.",
             {"if fit.form == \"best_of_n\":": "if True:"}),
        edit("below-the-start", "Where the curve falls from the start, its highest point is the start, at 0; a distance is "
             "never negative.",
             {"max(fit.a, 0.0) / (2 * fit.b)": "fit.a / (2 * fit.b)"}),
    ]  # fmt: skip


@check("ensemble_reward", points=2, section="17.8")
class Ensemble(Check):
    probe = "ensemble"
    tolerance = EXACT

    def cases(self, rng):
        for how in ("mean", "min", "mean_minus_std"):
            yield {"scores": np.array([[1.0, 2.0], [3.0, -2.0]]), "how": how, "k": 1.0}
            yield {"scores": rng.normal(size=(5, 7)), "how": how, "k": 0.5}
            yield {"scores": rng.normal(size=(3, 2, 4)).astype(np.float32), "how": how, "k": 2.0}
        yield {"scores": rng.normal(size=(4, 3)), "how": "mean_minus_std", "k": 0.0}

    def truth(self, scores, how, k):
        scores = scores.astype(float)
        reward = scores.min(axis=0) if how == "min" else scores.mean(axis=0)
        if how == "mean_minus_std":
            reward = reward - k * scores.std(axis=0, ddof=1)
        return unchanged(reward=reward, dtype="torch.float64")

    mistakes = [
        edit("std-over-members", "The standard deviation has the divisor members here; members - 1 is meant.",
             {"correction=1": "correction=0"}),
        edit("std-is-not-variance", "You subtract a multiple of the variance, as Coste et al. do; here it is the standard "
             "deviation, in the unit of the reward.",
             {"k * scores.std(dim=0, correction=1)": "k * scores.var(dim=0, correction=1)"}),
        edit("disagreement-rewarded", "Disagreement is *added*: the policy is drawn to what the members know least about.",
             {"scores.mean(dim=0) - k * scores.std": "scores.mean(dim=0) + k * scores.std"}),
        edit("max-for-min", "The most hopeful member decides: an answer needs to fool only one of them.",
             {"scores.amin(dim=0)": "scores.amax(dim=0)"}),
        edit("over-answers", "The last dimension, the answers, is averaged. It is the members, the first one, that are put "
             "together.",
             {"    if how == \"mean\":\n        return scores.mean(dim=0)":
              "    if how == \"mean\":\n        return scores.mean(dim=-1)"}),
        edit("k-ignored", "`k` has no effect.", {"- k * scores.std": "- scores.std"}),
    ]  # fmt: skip


@check("ensemble_reward", points=0.5, section="17.8")
class EnsembleRefuses(Refuses):
    def cases(self, rng):
        good = {"scores": np.array([[1.0, 2.0], [3.0, -2.0]]), "how": "mean_minus_std", "k": 1.0}
        for argument, bad in (("how", "median"), ("k", -0.5), ("scores", np.array([[1.0, 2.0]])), ("k", float("nan"))):
            how = "min" if argument == "scores" else good["how"]  # the standard deviation of one number is a warning of its own
            yield {"function": "ensemble_reward", "good": {**good, "how": how}, "argument": argument, "bad": bad}

    mistakes = [
        edit("any-word", "A word that names no rule went through, as if it were one.",
             {"if how not in (\"mean\", \"min\", \"mean_minus_std\"):": "if False:"}),
        edit("bonus-for-disagreement", "A negative k went through: it rewards disagreement.", {"if not k >= 0:": "if False:"}),
        edit("one-member", "A single model is no ensemble: of its disagreement with itself nothing is known.",
             {"if scores.ndim < 1 or len(scores) < 2:": "if scores.ndim < 1:"}),
    ]  # fmt: skip


class Stops(Check):
    probe = "checkpoint"
    tolerance = 0.0  # a place


@check("stop_at_kl", points=1, section="17.7")
class StopAtKL(Stops):
    def cases(self, rng):
        for kl, budget in (([0.0, 1.0, 3.0], 2.0), ([0.0, 1.0, 2.0], 2.0), ([0.0, 1.0, 1.5], 2.0),
                           ([0.0, 3.0, 1.0, 0.5, 4.0], 2.0), ([0.0], 1.0)):  # fmt: skip
            yield {"function": "stop_at_kl", "kl": np.array(kl), "budget": budget}
        kl = np.concatenate([[0.0], np.abs(np.cumsum(rng.normal(0.2, 0.4, size=30)))])
        for budget in (0.5, 2.0, 50.0):
            yield {"function": "stop_at_kl", "kl": kl, "budget": budget}

    def truth(self, function, kl, budget):
        kept = 0
        while kept + 1 < len(kl) and kl[kept + 1] <= budget:
            kept += 1
        return unchanged(checkpoint=kept)

    mistakes = [
        edit("over-budget", "The checkpoint you keep is the first one *above* the budget; the one before it is the last "
             "within.",
             {"return int(above[0]) - 1 if len(above)": "return int(above[0]) if len(above)"}),
        edit("back-within-budget", "Training ended when the budget was first exceeded. That the KL came down again later is "
             "nothing you could have waited for.",
             {"return int(above[0]) - 1 if len(above) else len(kl) - 1": "return int((kl <= budget).nonzero()[-1])"}),
        edit("budget-not-spent", "A KL of exactly the budget is within it.",
             {"above = (kl > budget).nonzero()": "above = (kl >= budget).nonzero()"}),
    ]  # fmt: skip


@check("stop_at_kl", points=0.5, section="17.7")
class StopAtKLRefuses(Refuses):
    def cases(self, rng):
        good = {"kl": np.array([0.5, 1.0]), "budget": 0.7}
        for argument, bad in (("budget", 0.1), ("kl", np.zeros(0)), ("kl", np.zeros((2, 2))), ("budget", float("nan"))):
            yield {"function": "stop_at_kl", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("no-checkpoint-within", "The start itself is above the budget: there is nothing to keep.",
             {"if not kl[0] <= budget:": "if False:"}),
    ]


@check("stop_by_gold", points=1.5, section="17.7")
class StopByGold(Stops):
    def cases(self, rng):
        for gold, patience in (([0.0, 2.0, 1.0, 3.0], 1), ([0.0, 2.0, 1.0, 3.0], 2), ([1.0, 1.0, 1.0, 5.0], 2),
                               ([3.0], 1), ([0.0, 1.0, 2.0], 1),
                               ([0.0, 3.0, 1.0, 2.0, 2.5, 4.0], 3), ([0.0, 3.0, 1.0, 2.0, 1.0, 4.0], 4)):  # fmt: skip
            yield {"function": "stop_by_gold", "gold": np.array(gold), "patience": patience}
        gold = np.cumsum(rng.normal(0.1, 0.5, size=40)).round(1)
        for patience in (1, 3, 8):
            yield {"function": "stop_by_gold", "gold": gold, "patience": patience}

    def truth(self, function, gold, patience):
        gold = gold.tolist()
        for now in range(len(gold)):
            best = gold.index(max(gold[: now + 1]))
            if now - best >= patience:
                return unchanged(checkpoint=best)
        return unchanged(checkpoint=gold.index(max(gold)))

    mistakes = [
        edit("best-of-the-future", "This is the best of all checkpoints, those after the end of training too.",
             {"        elif checkpoint - best >= patience:\n            break\n": ""}),
        edit("last-not-best", "You keep the checkpoint at which training ended. The best one lies `patience` before it.",
             {"            break\n    return best": "            return checkpoint\n    return best"}),
        edit("impatient", "You stop one measurement too early.",
             {"elif checkpoint - best >= patience:": "elif checkpoint - best >= patience - 1:"}),
        edit("patience-plus-one", "You wait one measurement too long.",
             {"elif checkpoint - best >= patience:": "elif checkpoint - best > patience:"}),
        edit("equal-is-better", "A checkpoint that is only as good as the best one is taken for a new best: of equals the "
             "first is kept.",
             {"if value > gold[best]:": "if value >= gold[best]:"}),
        edit("falls-in-a-row", "You count falls from one measurement to the next. It is measurements below the best one so "
             "far that count.",
             {"        elif checkpoint - best >= patience:\n            break\n":
              "        elif checkpoint >= patience and all(gold[i] < gold[i - 1] for i in range(checkpoint - patience + 1, "
              "checkpoint + 1)):\n            break\n"}),
    ]  # fmt: skip


@check("stop_by_gold", points=0.5, section="17.7")
class StopByGoldRefuses(Refuses):
    def cases(self, rng):
        good = {"gold": np.array([0.5, 1.0]), "patience": 1}
        for argument, bad in (("patience", 0), ("gold", np.zeros(0)), ("gold", np.zeros((2, 2))), ("patience", -1)):
            yield {"function": "stop_by_gold", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("no-patience", "Without patience training ends before it begins.", {"    if patience < 1:": "    if False:"}),
    ]
