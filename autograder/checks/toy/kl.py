"""Lesson 4: what is true of the divergences, their estimators and the two places in which they train.

Divergences term by term; gradients in closed form; for sequences the sum over all of them, listed here from the tables, and its
derivative by complex steps, which have no truncation error.
"""

from itertools import product

import numpy as np

from autograder.checks import Check, check, edit
from autograder.checks.refusals import Refuses

HALF, QUARTER = np.array([0.5, 0.5]), np.array([0.25, 0.75])  # section 4.3: 0.1438 one way, 0.1308 the other
INF = np.inf


def answer(value, gradients=None, **more):
    """What the probe reports of a function that returns this in float64 and leaves its arguments alone."""
    told = {"value": value, "dtype": "torch.float64", "arguments changed": "none"}
    return told | {f"gradient of {name}": gradient for name, gradient in (gradients or {}).items()} | more


def rows(rng, *shape):
    """Random distributions along the last axis, some entries small."""
    weights = np.exp(1.5 * rng.normal(size=shape))
    return weights / weights.sum(-1, keepdims=True)


def softmax(logits):
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def term_by_term(p, q):
    """sum p ln(p/q) of rows, in plain Python: no term where p = 0, inf where q = 0 < p."""
    found = np.zeros(p.shape[:-1])
    for at in np.ndindex(p.shape[:-1]):
        pairs = [(a, b) for a, b in zip(p[at], q[at]) if a > 0]
        found[at] = sum(a * (np.log(a) - np.log(b)) if b > 0 else INF for a, b in pairs)
    return found


def ragged(rng, batch, time):
    """A mask with a prompt of one token before and padding after: each row another length, the last one nothing at all."""
    lengths = np.append(rng.integers(1, time, size=batch - 1), 0)
    return (np.arange(time) >= 1) & (np.arange(time) < 1 + lengths[:, None])


def token_case(rng, batch, time, junk):
    log_probs, ref_log_probs = -rng.exponential(size=(2, batch, time))
    return {"log_probs": log_probs, "ref_log_probs": ref_log_probs, "mask": ragged(rng, batch, time), "junk": junk}


SHORT = {  # two sequences in which the log-ratio is 1, 0.5 and -0.25; a prompt and padding stand outside the mask
    "log_probs": np.array([[-9.0, -1.0, -0.5], [-9.0, -1.0, -9.0]]),
    "ref_log_probs": np.array([[-9.0, -2.0, -1.0], [-9.0, -0.75, -3.0]]),
    "mask": np.array([[False, True, True], [False, True, False]]),
}


def tables(rng, vocabulary, length, eos, scale=1.0):
    """Logits of a policy and of a reference, one row for each prefix, as `TabularLM` numbers them."""
    prefixes = sum(vocabulary**t for t in range(length))
    policy_logits, ref_logits = scale * rng.normal(size=(2, prefixes, vocabulary))
    return {"vocabulary": vocabulary, "length": length, "eos": eos, "policy_logits": policy_logits, "ref_logits": ref_logits}


def lesson_tables():
    """The example of section 4.7: the policy differs from the reference after "good" alone."""
    policy_logits = np.log([[2, 1, 1], [6, 1, 1], [1, 1, 2], [1, 1, 1]])
    ref_logits = np.log([[2, 1, 1], [1, 1, 2], [1, 1, 2], [1, 1, 1]])
    return {"vocabulary": 3, "length": 2, "eos": 2, "policy_logits": policy_logits, "ref_logits": ref_logits}


class Listing:
    """All sequences of a table of logits, written down one by one; logits may be complex."""

    def __init__(self, vocabulary, length, eos):
        whole = product(range(vocabulary), repeat=length)
        cut = (y[: y.index(eos) + 1] if eos in y else y for y in whole)
        self.sequences = sorted(set(cut), key=lambda y: y + (eos,) * (length - len(y)))  # in the order of EnumerableLM
        self.places = [[self._place(y[:t], vocabulary) * vocabulary + y[t] for t in range(len(y))] for y in self.sequences]

    def log_probs(self, logits):
        shift = logits.real.max(-1, keepdims=True)
        log_rows = (logits - shift - np.log(np.exp(logits - shift).sum(-1, keepdims=True))).ravel()
        return np.array([log_rows[places].sum() for places in self.places])

    @staticmethod
    def _place(prefix, vocabulary):
        node = 0
        for token in prefix:
            node = node * vocabulary + 1 + token
        return node


def divergence_of(vocabulary, length, eos, policy_logits, ref_logits, **_):
    """KL(pi||pi_ref) = sum_y pi(y) (log pi(y) - log pi_ref(y)), for complex logits too."""
    listing = Listing(vocabulary, length, eos)
    log_p, log_q = listing.log_probs(policy_logits), listing.log_probs(ref_logits)
    return (np.exp(log_p) * (log_p - log_q)).sum()


def derivative(function, logits):
    """d function / d logits by complex steps, Im f(logits + i h) / h: nothing is subtracted, so exact at h = 1e-30."""
    found = np.zeros(logits.shape)
    for at in np.ndindex(*logits.shape):
        moved = logits.astype(complex)
        moved[at] += 1e-30j
        found[at] = function(moved).imag / 1e-30
    return found


LOG_P = "log_p, log_q = torch.where(possible, p, 1.0).log(), torch.where(possible, q, 1.0).log()"
TERMS = "return (p * (log_p - log_q)).sum(-1)"


@check("kl_divergence", points=3.5, section="4.1")
class Divergence(Check):
    probe = "divergence"
    tolerance = 1e-9  # float64 sums of at most five terms; an added 1e-8 must show

    def cases(self, rng):
        yield {"p": HALF, "q": QUARTER, "direction": np.array(1.0), "differentiate": True}
        yield {"p": QUARTER, "q": QUARTER, "direction": np.array(1.0), "differentiate": True}
        p, q = np.array([[0.5, 0.5, 0.0], [0.0, 0.4, 0.6]]), np.array([[0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
        yield {"p": p, "q": q, "direction": np.array([1.0, -2.0]), "differentiate": True}
        yield {"p": np.array([HALF, [1, 0]]), "q": np.array([[0, 1], [1, 0]]), "direction": np.ones(2), "differentiate": False}
        for shape in ((4, 3), (2, 3, 5)):
            direction = rng.normal(size=shape[:-1])
            yield {"p": rows(rng, *shape), "q": rows(rng, *shape), "direction": direction, "differentiate": True}

    def truth(self, p, q, direction, differentiate):
        value = term_by_term(p, q)
        if not differentiate:
            return answer(value)
        ratio = np.log(np.where(p > 0, p, 1)) - np.log(np.where(p > 0, q, 1))
        by_p = direction[..., None] * p * (ratio - value[..., None])  # by the logits that p is a softmax of
        by_q = direction[..., None] * (q - p)
        return answer(value, {"the logits of p": by_p, "the logits of q": by_q})

    mistakes = [
        edit("kl-reversed", "This is KL(q||p). The first argument says how often an outcome comes, and is what weighs: "
             "sum p ln(p/q).", {"possible = p > 0": "possible = q > 0", TERMS: "return (q * (log_q - log_p)).sum(-1)"}),
        edit("kl-reduction", "The terms are averaged over the outcomes. They are weighted by p already: their sum is asked for.",
             {TERMS: "return (p * (log_p - log_q)).mean(-1)"}),
        edit("summed-over-batch", "All rows are summed into one number. Each row is a distribution and has a divergence of its "
             "own: sum over the last dimension.", {TERMS: "return (p * (log_p - log_q)).sum()"}),
        edit("flipped-sign", "The sign is the other way round: ln(p/q), not ln(q/p). A divergence is never negative.",
             {TERMS: "return (p * (log_q - log_p)).sum(-1)"}),
        edit("absolute-terms", "You take absolute values of the terms. Where p < q a term is negative, and rightly so: the sum "
             "is what cannot be.", {TERMS: "return (p * (log_p - log_q)).abs().sum(-1)"}),
        edit("cross-entropy", "This is -sum p ln q, the cross-entropy. The entropy of p, -sum p ln p, is to be taken away: "
             "KL(p||p) is 0.", {TERMS: "return -(p * log_q).sum(-1)"}),
        edit("bits-not-nats", "Your values are in bits (log2). One nat is 1/ln 2 = 1.4427 bits; use the natural logarithm.",
             {TERMS: "return (p * (log_p - log_q)).sum(-1) / math.log(2)"}),
        edit("zero-times-infinity", "Where p = 0 you compute 0 * log(0), which is NaN. There is no term there: choose what "
             "stands under the logarithm first, with torch.where.", {LOG_P: "log_p, log_q = p.log(), q.log()"}),
        edit("nan-gradient", "The value is right and the gradient is NaN: torch.where *after* the logarithm still "
             "differentiates the branch it throws away, and 0 * inf is NaN. Replace p and q where p = 0 first, then take logs.",
             {LOG_P: "log_p, log_q = p.log(), q.log()", TERMS: "return torch.where(possible, p * (log_p - log_q), 0.0).sum(-1)"}),
        edit("log-of-softmax", "Something small is added inside the logarithm. It makes every term a little wrong, and turns the "
             "infinity that belongs to q = 0 < p into a number.", {LOG_P: "log_p, log_q = (p + 1e-8).log(), (q + 1e-8).log()"}),
        edit("infinity-hidden", "Where q = 0 and p > 0 you return a finite number. KL is inf there: one such outcome proves that "
             "the samples do not come from q.", {TERMS: "return (p * (log_p - log_q.clamp(min=-30.0))).sum(-1)"}),
        edit("device-dtype", "The values are right to seven digits, but in float32. float64 in, float64 out.",
             {TERMS: "return (p * (log_p - log_q)).sum(-1).float()"}),
    ]  # fmt: skip


@check("kl_divergence", points=0.5, section="4.1")
class DivergenceRefuses(Refuses):
    def cases(self, rng):
        for argument, bad in (
            ("q", np.array([0.5, 0.6])), ("p", np.array([1.5, -0.5])), ("q", np.array([0.2, 0.3, 0.5])),
            ("q", QUARTER[None]), ("p", np.array([0.2, 0.3])), ("q", np.array([np.nan, 0.5])),
        ):  # fmt: skip
            yield {"function": "kl_divergence", "good": {"p": HALF, "q": QUARTER}, "argument": argument, "bad": bad}

    mistakes = [
        edit("negative-probability", "A negative probability went through: that the sum is 1 is not enough.",
             {"or not bool((probs >= 0).all()) or": "or"}),
        edit("unnormalised", "Weights that do not sum to 1 went through. KL is about distributions, and can be negative for "
             "anything else.", {"or not bool(((probs.sum(-1) - 1).abs() <= tolerance).all()):": "or probs.isnan().any():"}),
    ]  # fmt: skip


CLOSED = "total = total + half * weight * math.log(weight) - weight * members.log().sum()"


@check("kl_even_odd", points=3, section="4.4")
class EvenOdd(Check):
    probe = "even_odd"
    tolerance = 1e-9  # float64 sums of at most six terms

    def cases(self, rng):
        yield {"theta": np.array([0.25, 0.75]), "alpha": 0.5, "beta": 0.5, "differentiate": True}
        yield {"theta": np.array([0.1, 0.2, 0.3, 0.4]), "alpha": 0.4, "beta": 0.1, "differentiate": True}
        yield {"theta": rows(rng, 6), "alpha": 0.1, "beta": 1 / 3 - 0.1, "differentiate": True}
        yield {"theta": np.array([0.5, 0.0, 0.3, 0.2]), "alpha": 0.0, "beta": 0.5, "differentiate": True}
        yield {"theta": rows(rng, 4), "alpha": 0.5, "beta": 0.0, "differentiate": True}
        yield {"theta": np.array([0.5, 0.0, 0.3, 0.2]), "alpha": 0.3, "beta": 0.2, "differentiate": False}

    def truth(self, theta, alpha, beta, differentiate):
        """Number by number: q_i ln(q_i / theta_i), i counted from 1."""
        q = np.array([alpha if i % 2 == 0 else beta for i in range(1, len(theta) + 1)])
        gradients = {"the logits of theta": theta - q} if differentiate else {}
        return answer(term_by_term(q, theta), gradients)

    mistakes = [
        edit("zero-based-even", "Even and odd are exchanged. The numbers run from 1: theta_1, which is odd, stands at index 0, "
             "so the even ones are theta[1::2].", {"((alpha, theta[1::2]), (beta, theta[::2]))":
             "((alpha, theta[::2]), (beta, theta[1::2]))"}),
        edit("log-of-products", "The logarithms are added without their weights: ln of a product of all q_i/theta_i. Each one "
             "counts with the probability q_i: alpha for the even, beta for the odd.",
             {CLOSED: "total = total + half * math.log(weight) - members.log().sum()"}),
        edit("log-of-sum", "You take the logarithm of a sum of thetas. The thetas stand in a sum of logarithms, and the two are "
             "not the same.", {CLOSED: "total = total + half * weight * math.log(weight) - weight * members.sum().log()"}),
        edit("half-forgotten", "alpha ln alpha stands there once. There are k/2 even numbers, and each gives one.",
             {CLOSED: "total = total + weight * math.log(weight) - weight * members.log().sum()"}),
        edit("kl-reversed", "This is KL(theta||q). The weights are those of the first argument, q: alpha and beta.",
             {CLOSED: "total = total + (members * (members.log() - math.log(weight))).sum()"}),
        edit("flipped-sign", "The sign of the thetas' logarithms is wrong: ln(q_i/theta_i) = ln q_i - ln theta_i.",
             {CLOSED: "total = total + half * weight * math.log(weight) + weight * members.log().sum()"}),
        edit("cross-entropy", "The part without theta, (k/2)(alpha ln alpha + beta ln beta), is missing: what is left is the "
             "cross-entropy.", {CLOSED: "total = total - weight * members.log().sum()"}),
        edit("zero-times-infinity", "alpha = 0 or beta = 0 breaks it. 0 ln 0 counts as 0, and so does 0 times any logarithm: "
             "leave those numbers out.", {"if weight > 0:": "if True:"}),
        edit("cut-graph", "The value is right and nothing can be learned from it: no gradient arrives at theta. `.item()`, "
             "`float()` or `detach` cut the graph.", {"return total\n": "return total.detach()\n"}),
    ]  # fmt: skip


@check("kl_even_odd", points=0.5, section="4.4")
class EvenOddRefuses(Refuses):
    def cases(self, rng):
        good = {"theta": np.array([0.1, 0.2, 0.3, 0.4]), "alpha": 0.4, "beta": 0.1}
        for argument, bad in (
            ("theta", np.array([0.2, 0.3, 0.5])), ("theta", np.array([0.1, 0.2, 0.3, 0.5])), ("theta", np.zeros(0)),
            ("theta", np.full((2, 2), 0.25)), ("alpha", -0.1), ("beta", -0.4), ("alpha", 0.5), ("beta", 0.2),
        ):  # fmt: skip
            yield {"function": "kl_even_odd", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("odd-k", "An odd k went through. Then there are not as many even as odd numbers, and the closed form does not hold.",
             {"if theta.ndim != 1 or len(theta) % 2 or len(theta) == 0:": "if theta.ndim != 1 or len(theta) == 0:"}),
        edit("unnormalised", "(k/2)(alpha + beta) is not 1 and nobody objects. Then q is no distribution.",
             {"if abs(total - 1) > 1e-9:": "if False:"}),
    ]  # fmt: skip


class Estimator(Check):
    """An estimator entry by entry, with its gradients by both log-probabilities. Not a check by itself."""

    probe = "estimator"
    tolerance = 1e-9  # relative: a few float64 operations
    name = ""

    def cases(self, rng):
        def case(log_probs, ref_log_probs, differentiate=True):
            both = {"log_probs": np.array(log_probs), "ref_log_probs": np.array(ref_log_probs)}
            direction = rng.normal(size=both["log_probs"].shape)
            return {"name": self.name, **both, "direction": direction, "differentiate": differentiate}

        yield case([np.log(0.5)], [np.log(0.25)])
        yield case([np.log(0.25)], [np.log(0.5)])
        yield case(*-rng.exponential(size=(2, 3, 4)))
        yield case([-1.0, -200.0, -0.5], [-1.0, -1.0, -200.0])
        yield case([-1.0], [-INF], differentiate=False)

    def of(self, log_ratio):
        """(estimate, its derivative) for log_ratio = log pi - log pi_ref."""
        raise NotImplementedError

    def truth(self, name, log_probs, ref_log_probs, direction, differentiate):
        value, slope = self.of(log_probs - ref_log_probs)
        return answer(value, {"log_probs": direction * slope, "ref_log_probs": -direction * slope} if differentiate else {})


@check("k1", points=1, section="4.5")
class K1(Estimator):
    name = "k1"

    def of(self, log_ratio):
        return log_ratio, np.ones(log_ratio.shape)

    mistakes = [
        edit("k1-sign", "The ratio is upside down: log pi_ref - log pi has the mean -KL(pi||pi_ref) under pi.",
             {"return log_probs - ref_log_probs\n": "return ref_log_probs - log_probs\n"}),
        edit("clamped-at-zero", "Negative values are cut off. A single value may be negative; only their mean is a divergence, "
             "and cutting makes it too large.",
             {"return log_probs - ref_log_probs\n": "return (log_probs - ref_log_probs).clamp(min=0.0)\n"}),
        edit("absolute-terms", "Absolute values: the mean of |log-ratio| is not the KL. Values of both signs have to cancel.",
             {"return log_probs - ref_log_probs\n": "return (log_probs - ref_log_probs).abs()\n"}),
        edit("weighted-twice", "Each value is multiplied by pi(y). The samples come from pi: sampling is the weighting, and "
             "yours is the second one.",
             {"return log_probs - ref_log_probs\n": "return log_probs.exp() * (log_probs - ref_log_probs)\n"}),
        edit("ratio-not-log", "This is the ratio pi/pi_ref itself. Its logarithm is asked for.",
             {"return log_probs - ref_log_probs\n": "return (log_probs - ref_log_probs).exp()\n"}),
        edit("in-place", "`log_probs` itself is changed (`-=`). Return a new tensor.",
             {"return log_probs - ref_log_probs\n": "log_probs -= ref_log_probs\n    return log_probs\n"}),
    ]  # fmt: skip


@check("k2", points=1, section="4.6")
class K2(Estimator):
    name = "k2"

    def of(self, log_ratio):
        return log_ratio**2 / 2, log_ratio

    mistakes = [
        edit("half-forgotten", "The factor 1/2 is missing: near pi = pi_ref the mean would be twice the KL.",
             {"return (log_probs - ref_log_probs) ** 2 / 2": "return (log_probs - ref_log_probs) ** 2"}),
        edit("square-of-probabilities", "You square the difference of the probabilities. The log-ratio is squared.",
             {"return (log_probs - ref_log_probs) ** 2 / 2": "return (log_probs.exp() - ref_log_probs.exp()) ** 2 / 2"}),
        edit("unsquared", "The log-ratio is halved, not squared.",
             {"return (log_probs - ref_log_probs) ** 2 / 2": "return (log_probs - ref_log_probs) / 2"}),
        edit("square-of-the-ratio", "This is (pi/pi_ref - 1)^2 / 2, whose mean belongs to another divergence. Square the "
             "logarithm of the ratio.",
             {"return (log_probs - ref_log_probs) ** 2 / 2": "return torch.expm1(log_probs - ref_log_probs) ** 2 / 2"}),
    ]  # fmt: skip


K3 = "return torch.expm1(log_ratio) - log_ratio"


@check("k3", points=2, section="4.6")
class ControlVariate(Estimator):
    name = "k3"

    def of(self, log_ratio):
        return np.expm1(-log_ratio) + log_ratio, 1 - np.exp(-log_ratio)

    mistakes = [
        edit("k3-inverted", "The ratio is upside down. With pi/pi_ref for pi_ref/pi it is still never negative, but under pi its "
             "mean is chi^2 - KL, not KL.", {"log_ratio = ref_log_probs - log_probs": "log_ratio = log_probs - ref_log_probs"}),
        edit("k3-of-the-other-divergence", "This is r ln r - (r - 1), whose mean under pi is KL(pi_ref||pi), the other "
             "direction. For KL(pi||pi_ref) it is r - 1 - ln r.",
             {K3: "return log_ratio.exp() * log_ratio - torch.expm1(log_ratio)"}),
        edit("control-variate-sign", "The sign of ln r is wrong: r - 1 *minus* ln r. Yours is negative for r < 1.",
             {K3: "return torch.expm1(log_ratio) + log_ratio"}),
        edit("minus-one-forgotten", "The 1 is missing: at pi = pi_ref, where r = 1, the estimate has to be 0.",
             {K3: "return log_ratio.exp() - log_ratio"}),
        edit("k1-sign", "This is k1. k3 adds r - 1, which has mean 0 and takes most of the noise away.",
             {K3: "return -log_ratio"}),
        edit("ratio-clamped", "The log-ratio is clipped first. That hides large values and makes the mean too small.",
             {K3: "return torch.expm1(log_ratio.clamp(-10, 10)) - log_ratio.clamp(-10, 10)"}),
        edit("cut-graph", "The value is right, but part of the gradient is lost: the ratio r was detached. k3 is a function of "
             "log_probs in both of its terms.", {K3: "return torch.expm1(log_ratio.detach()) - log_ratio"}),
    ]  # fmt: skip


COUNTS = "counts = mask.unsqueeze(-1) & (log_policy > -torch.inf)"
PAIR = "log_p, log_q = torch.where(counts, log_policy, 0.0), torch.where(counts, log_ref, 0.0)"
SUM = "return (log_p.exp() * (log_p - log_q)).sum(-1)"


@check("token_kl", points=3, section="4.7")
class TokenDivergence(Check):
    probe = "rows_kl"
    tolerance = 1e-9  # relative: float64 sums of at most five terms

    def cases(self, rng):
        one = {"policy_logits": np.log([[HALF]]), "ref_logits": np.log([[QUARTER]]), "mask": np.array([[True]])}
        yield {**one, "junk": 0.0, "direction": np.array([[1.0]]), "differentiate": True}
        for (batch, time, vocabulary), junk in (((2, 3, 4), 7.0), ((3, 4, 5), np.nan)):
            policy_logits, ref_logits = rng.normal(size=(2, batch, time, vocabulary))
            case = {"policy_logits": policy_logits, "ref_logits": ref_logits, "mask": ragged(rng, batch, time), "junk": junk}
            yield {**case, "direction": rng.normal(size=(batch, time)), "differentiate": True}
        far = {"policy_logits": np.array([[[400.0, -400.0], [0.0, 1.0]]])}
        far["ref_logits"] = -far["policy_logits"]
        yield {**far, "mask": np.array([[True, True]]), "junk": 0.0, "direction": np.array([[1.0, 2.0]]), "differentiate": True}
        ruled_out = {"policy_logits": np.array([[[1.0, -INF, 0.0], [0.0, 0.0, 0.7]]]), "mask": np.array([[True, False]])}
        ruled_out["ref_logits"] = np.array([[[0.0, -INF, 1.0], [0.7, 0.0, -INF]]])
        yield {**ruled_out, "junk": INF, "direction": np.array([[1.0, 1.0]]), "differentiate": True}
        yield {**ruled_out, "mask": np.array([[True, True]]), "junk": 0.0, "direction": np.ones((1, 2)), "differentiate": False}

    def truth(self, policy_logits, ref_logits, mask, junk, direction, differentiate):
        shape = policy_logits.shape
        value, by_p, by_q = np.zeros(shape[:2]), np.zeros(shape), np.zeros(shape)
        for at in zip(*np.nonzero(mask)):
            p, q = softmax(policy_logits[at]), softmax(ref_logits[at])
            log_p, log_q = self._log(policy_logits[at]), self._log(ref_logits[at])
            ratio = np.array([a - b if a > -INF else 0.0 for a, b in zip(log_p, log_q)])
            value[at] = p @ ratio
            if differentiate:
                by_p[at], by_q[at] = direction[at] * p * (ratio - value[at]), direction[at] * (q - p)
        return answer(value, {"policy_logits": by_p, "ref_logits": by_q} if differentiate else {})

    @staticmethod
    def _log(logits):
        return logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())

    mistakes = [
        edit("kl-reversed", "This is KL(pi_ref||pi). The weights are the policy's, exp(log_policy). Mind the order of F.kl_div: "
             "F.kl_div(log_q, log_p, log_target=True) is KL(p||q).",
             {PAIR: "log_q, log_p = torch.where(counts, log_policy, 0.0), torch.where(counts, log_ref, 0.0)"}),
        edit("kl-reduction", "The terms are averaged over the vocabulary. They carry their weights already: sum them. "
             "(reduction=\"mean\" of F.kl_div does this too.)", {SUM: "return (log_p.exp() * (log_p - log_q)).mean(-1)"}),
        edit("log-target-missing", "The weights are log-probabilities where probabilities belong: exp(log_policy). F.kl_div does "
             "the same to a target of log-probabilities unless it is told log_target=True.", {SUM: "return (log_p * "
             "(log_p - log_q)).sum(-1)"}),
        edit("log-of-softmax", "You go back to probabilities and take their logarithm. At log-probabilities of -800 they are 0. "
             "The logarithms are in your hands: use them.",
             {SUM: "return torch.where(counts, log_p.exp() * (log_p.exp().log() - log_q.exp().log()), 0.0).sum(-1)"}),
        edit("padding-scored", "Positions outside the mask count as well. Prompt and padding are not the policy's words: "
             "0 there.",
             {COUNTS: "counts = log_policy > -torch.inf"}),
        edit("mask-times-nan", "Positions outside the mask are multiplied by 0, and 0 * NaN is NaN. Use torch.where to choose.",
             {COUNTS: "counts = log_policy > -torch.inf", SUM: "return (log_p.exp() * (log_p - log_q)).sum(-1) * mask"}),
        edit("zero-times-infinity", "A token with log pi = -inf gives 0 * (-inf - ...) = NaN. It never comes: leave it out.",
             {COUNTS: "counts = mask.unsqueeze(-1) & torch.ones_like(log_policy, dtype=torch.bool)"}),
        edit("nan-gradient", "The values are right and a gradient is NaN: torch.where *after* the product still differentiates "
             "what it throws away. Choose the log-probabilities first, then compute.",
             {PAIR: "log_p, log_q = log_policy, log_ref", SUM: "return torch.where(counts, log_p.exp() * (log_p - log_q), "
              "0.0).sum(-1)"}),
        edit("cut-graph", "The weights were detached. pi(v) stands in the sum twice, and both times it is the policy: the "
             "gradient needs both.", {SUM: "return (log_p.exp().detach() * (log_p - log_q)).sum(-1)"}),
    ]  # fmt: skip


@check("token_kl", points=0.5, section="4.7")
class TokenDivergenceRefuses(Refuses):
    def cases(self, rng):
        log_policy, log_ref = (np.log(rows(rng, 2, 3, 4)) for _ in range(2))
        good = {"log_policy": log_policy, "log_ref": log_ref, "mask": np.array([[True] * 3, [True, False, False]])}
        for argument, bad in (
            ("log_policy", log_policy + 1), ("log_ref", rng.normal(size=(2, 3, 4))), ("log_ref", log_ref[:1]),
            ("mask", np.zeros((2, 3), bool)), ("mask", np.ones((3, 2), bool)), ("mask", np.ones((2, 3))),
        ):  # fmt: skip
            yield {"function": "token_kl", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("raw-logits-as-log-probs", "Rows that are no log-distribution went through: raw logits need a log-softmax first.",
             {"if bool(off.any()):": "if False:"}),
        edit("empty-mask", "A mask without a single token went through. Nothing was measured, and 0 looks like a good answer.",
             {"if mask.dtype != torch.bool or not bool(mask.any()):": "if mask.dtype != torch.bool:"}),
    ]  # fmt: skip


WEIGHED = "return (on_tokens(chosen, mask).sum(-1).exp() * kl).sum()"


@check("sequence_kl_exact", points=3.5, section="4.8")
class SequenceDivergence(Check):
    probe = "sequence_kl"
    tolerance = 1e-9  # float64 sums of at most 40 sequences

    def cases(self, rng):
        more = {"prompt": 0, "junk": 0.0, "differentiate": True}
        yield {**lesson_tables(), **more}
        yield {**tables(rng, 2, 2, None), **more}
        yield {**tables(rng, 3, 2, 0), **more, "prompt": 2, "junk": 5.0}
        yield {**tables(rng, 2, 4, 1), **more, "prompt": 1, "junk": np.nan}
        ruled_out = lesson_tables()
        ruled_out["policy_logits"][0, 1] = -INF  # "bad" never comes first
        yield {**ruled_out, **more, "differentiate": False}

    def truth(self, policy_logits, ref_logits, prompt, junk, differentiate, **tree):
        def value(policy, reference):
            return divergence_of(policy_logits=policy, ref_logits=reference, **tree)

        if not differentiate:
            almost = np.where(np.isinf(policy_logits), -800.0, policy_logits)  # exp(-800) is 0, and its product with 800 too
            return answer(value(almost, ref_logits))
        gradients = {
            "policy_logits": derivative(lambda logits: value(logits, ref_logits), policy_logits)[None],
            "ref_logits": derivative(lambda logits: value(policy_logits, logits), ref_logits)[None],
        }
        return answer(value(policy_logits, ref_logits), gradients)

    mistakes = [
        edit("score-function-missing", "The value is right, the gradient is not: the weights pi(y) were detached. They depend on "
             "the policy too: it can lower the KL by going where the two agree.",
             {WEIGHED: "return (on_tokens(chosen, mask).sum(-1).exp().detach() * kl).sum()"}),
        edit("uniform-sequences", "Every sequence counts the same. Sequence y comes with probability pi(y).",
             {WEIGHED: "return kl.mean()"}),
        edit("unweighted-sum", "The sequences' divergences are added without weights. Sequence y comes with probability pi(y).",
             {WEIGHED: "return kl.sum()"}),
        edit("kl-reversed", "The divergences at the tokens are those of the reference from the policy. KL(pi||pi_ref) at the "
             "tokens is weighted by pi.", {"kl = token_kl(log_policy, log_ref, mask).sum(-1)":
             "kl = token_kl(log_ref, log_policy, mask).sum(-1)"}),
        edit("reference-weights", "The sequences are weighted by pi_ref(y). The policy decides which beginnings are reached: "
             "pi(y).", {"chosen = log_policy.gather(": "chosen = log_ref.gather("}),
        edit("weighted-by-log-probability", "The weights are log pi(y). Take the exponential of the summed log-probabilities.",
             {WEIGHED: "return (on_tokens(chosen, mask).sum(-1) * kl).sum()"}),
        edit("mean-over-tokens", "The divergences at the tokens are averaged over a sequence. The chain rule adds them.",
             {"kl = token_kl(log_policy, log_ref, mask).sum(-1)":
              "kl = token_kl(log_policy, log_ref, mask).sum(-1) / mask.sum(-1)"}),
        edit("padding-scored", "Tokens outside the mask enter log pi(y), the prompt's or the padding's.",
             {WEIGHED: "return (chosen.sum(-1).exp() * kl).sum()"}),
        edit("last-token-alone", "The weight is the probability of the whole sequence, the product over its tokens; yours is "
             "that of one token.", {WEIGHED: "return (on_tokens(chosen, mask).exp() * "
             "token_kl(log_policy, log_ref, mask)).sum()"}),
    ]  # fmt: skip


SAMPLED = "return k1(on_tokens(log_probs, mask), on_tokens(ref_log_probs, mask)).sum(-1)"


@check("sequence_kl_sampled", points=1, section="4.9")
class Sampled(Check):
    probe = "sampled_kl"
    tolerance = 1e-9  # float64 sums of at most five differences

    def cases(self, rng):
        yield {**SHORT, "junk": 0.0, "direction": np.array([1.0, 2.0])}
        for batch, time, junk in ((3, 4, 7.0), (4, 6, np.nan), (2, 3, INF)):
            yield {**token_case(rng, batch, time, junk), "direction": rng.normal(size=batch)}

    def truth(self, log_probs, ref_log_probs, mask, junk, direction):
        value = np.array([sum((a - b)[m]) for a, b, m in zip(log_probs, ref_log_probs, mask)])
        slope = direction[:, None] * mask
        return answer(value, {"log_probs": slope, "ref_log_probs": -slope})

    mistakes = [
        edit("k1-sign", "The sign is the other way round: log pi - log pi_ref.",
             {SAMPLED: "return -k1(on_tokens(log_probs, mask), on_tokens(ref_log_probs, mask)).sum(-1)"}),
        edit("mean-over-tokens", "The log-ratios are averaged over the sequence's tokens. log pi(y) is their *sum*: a long "
             "sequence can move further.",
             {SAMPLED: "return k1(on_tokens(log_probs, mask), on_tokens(ref_log_probs, mask)).sum(-1) / "
              "mask.sum(-1).clamp(min=1)"}),
        edit("padding-scored", "Positions outside the mask are added as well. Prompt and padding are not the policy's words.",
             {SAMPLED: "return k1(log_probs, ref_log_probs).sum(-1)"}),
        edit("mask-times-nan", "Positions outside the mask are multiplied by 0, and 0 * NaN is NaN. Use `on_tokens`, or "
             "torch.where.", {SAMPLED: "return (k1(log_probs, ref_log_probs) * mask).sum(-1)"}),
        edit("clamped-at-zero", "Negative values are cut off. A sequence that the policy says less often than the reference has "
             "a negative one; cut it, and the mean is no KL.",
             {SAMPLED: SAMPLED + ".clamp(min=0.0)"}),
        edit("weighted-twice", "Each log-ratio is multiplied by its probability. The samples come from pi: sampling is the "
             "weighting.", {SAMPLED: "ours, theirs = on_tokens(log_probs, mask), on_tokens(ref_log_probs, mask)\n"
             "    return (ours.exp() * k1(ours, theirs)).sum(-1)"}),
        edit("summed-over-batch", "One number for the whole batch. One number for each sequence is asked for.",
             {SAMPLED: "return k1(on_tokens(log_probs, mask), on_tokens(ref_log_probs, mask)).sum()"}),
    ]  # fmt: skip


@check("sequence_kl_sampled", points=0.5, section="4.9")
class SampledOnAverage(Check):
    """By listing: the mean under the policy is the divergence between whole sequences."""

    probe = "mean_of_sampled_kl"
    tolerance = 1e-9  # float64 sums of at most 40 sequences

    def cases(self, rng):
        yield lesson_tables()
        yield tables(rng, 3, 3, 0)

    def truth(self, **tree):
        return {"mean": divergence_of(**tree)}

    mistakes = [
        edit("k1-sign", "Its mean over the policy's sequences is -KL: log pi - log pi_ref is asked for.",
             {SAMPLED: "return -k1(on_tokens(log_probs, mask), on_tokens(ref_log_probs, mask)).sum(-1)"}),
        edit("mean-over-tokens", "The mean over a sequence's tokens has no such mean as the KL. Sum them.",
             {SAMPLED: "return k1(on_tokens(log_probs, mask), on_tokens(ref_log_probs, mask)).sum(-1) / mask.sum(-1)"}),
        edit("biased-estimator", "k2 in place of k1: its mean over the policy's sequences is not the KL.",
             {SAMPLED: "return k2(on_tokens(log_probs, mask), on_tokens(ref_log_probs, mask)).sum(-1)"}),
    ]  # fmt: skip


@check("sequence_kl_sampled", points=0.5, section="4.9")
class SampledRefuses(Refuses):
    def cases(self, rng):
        for argument, bad in (
            ("ref_log_probs", SHORT["ref_log_probs"][:, :2]), ("mask", np.zeros((2, 3), bool)), ("mask", np.ones(3, bool)),
            ("log_probs", np.exp(SHORT["log_probs"])), ("ref_log_probs", np.full((2, 3), np.nan)),
        ):  # fmt: skip
            yield {"function": "sequence_kl_sampled", "good": SHORT, "argument": argument, "bad": bad}

    mistakes = [
        edit("probabilities-as-log-probs", "Probabilities went through as log-probabilities. Anything above 0 is none.",
             {"if not largest <= 1e-6:": "if largest != largest:"}),
        edit("empty-mask", "A mask without a single token went through. Nothing was measured, and 0 looks like a good answer.",
             {"if mask.dtype != torch.bool or not bool(mask.any()):": "if mask.dtype != torch.bool:"}),
    ]  # fmt: skip


TOTAL = "total = (log_probs.detach().exp() * losses).sum()"
GRAD = "return torch.autograd.grad(total, parameter, retain_graph=True, materialize_grads=True)[0]"


@check("expected_gradient", points=3, section="4.10")
class ExpectedGradient(Check):
    probe = "expected_update"
    seconds = 20.0  # the first `autograd.grad` with `grad_outputs` imports a computer algebra system, unless it is there already
    tolerance = 1e-9  # float64 sums of at most 12 terms

    def cases(self, rng):
        yield {"logits": np.log([1.0, 3.0]), "linear": 1.0, "quadratic": 0.0}  # the loss k1 against a uniform reference
        yield {"logits": np.log([1.0, 3.0]), "linear": 0.0, "quadratic": 1.0}
        yield {"logits": rng.normal(size=(3, 4)), "linear": 0.5, "quadratic": -2.0}

    def truth(self, logits, linear, quadratic):
        """sum_y p_y (linear + 2 quadratic log p_y) (1_y - p), the losses' slope times the score."""
        p = softmax(logits.ravel())
        weights = p * (linear + 2 * quadratic * np.log(p))
        return self._told((weights - p * weights.sum()).reshape(logits.shape))

    @staticmethod
    def _told(gradient):
        return {"gradient": gradient, "again": gradient, "by another parameter": np.zeros(2), "a .grad was filled": False}

    mistakes = [
        edit("weights-differentiated", "This is the gradient of the *expected loss*: the probabilities were differentiated too. "
             "An optimizer that gets a sample differentiates its loss alone; detach the weights.",
             {TOTAL: "total = (log_probs.exp() * losses).sum()"}),
        edit("unweighted-sum", "The gradients are added without weights. Sequence y is sampled with probability pi(y).",
             {TOTAL: "total = losses.sum()"}),
        edit("uniform-sequences", "Every sequence counts the same. Sequence y is sampled with probability pi(y).",
             {TOTAL: "total = losses.mean()"}),
        edit("weighted-by-log-probability", "The weights are log-probabilities: take their exponential.",
             {TOTAL: "total = (log_probs.detach() * losses).sum()"}),
        edit("losses-detached", "The losses were detached where the weights should be: what is left is REINFORCE's gradient with "
             "the loss as its reward.", {TOTAL: "total = (log_probs.exp() * losses.detach()).sum()"}),
        edit("flipped-sign", "The sign is turned. This is the gradient of the losses, as backward() would give it, not the step "
             "against it.",
             {GRAD: "return -torch.autograd.grad(total, parameter, retain_graph=True, materialize_grads=True)[0]"}),
        edit("accumulated", "`backward()` adds to `.grad`, so a second call repeats the first. Ask torch.autograd.grad.",
             {GRAD: "total.backward(retain_graph=True)\n    return parameter.grad if parameter.grad is not None else "
              "torch.zeros_like(parameter)"}),
    ]  # fmt: skip


@check("expected_gradient", points=0.5, section="4.10")
class ExpectedGradientRefuses(Refuses):
    seconds = 20.0  # as above

    def cases(self, rng):
        good = {"losses": np.array([1.0, 2.0]), "log_probs": np.log(QUARTER)}
        for argument, bad in (("log_probs", np.log([0.5, 0.6])), ("log_probs", np.log([0.2, 0.3, 0.5])), ("log_probs", QUARTER)):
            yield {"function": "expected_gradient", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("unlisted-sequences", "Probabilities that do not sum to 1 went through: sequences are missing, or counted twice, "
             "and the mean is no mean.", {'require_distribution("log_probs", log_probs.exp())': "pass"}),
    ]  # fmt: skip


PENALISED = "return (scores - beta * sequence_kl_sampled(log_probs, ref_log_probs, mask)).detach()"


@check("kl_reward", points=1.5, section="4.11")
class Reward(Check):
    probe = "reward"
    tolerance = 1e-9  # float64 sums of at most five differences

    def cases(self, rng):
        yield {"scores": np.array([1.0, 0.0]), **SHORT, "junk": 0.0, "beta": 0.1}
        for batch, time, junk, beta in ((3, 4, 7.0, 0.5), (4, 6, np.nan, 2.0), (2, 3, INF, 0.0)):
            yield {"scores": rng.normal(size=batch), **token_case(rng, batch, time, junk), "beta": beta}

    def truth(self, scores, log_probs, ref_log_probs, mask, junk, beta):
        value = [s - beta * sum((a - b)[m]) for s, a, b, m in zip(scores, log_probs, ref_log_probs, mask)]
        return answer(np.array(value), **{"carries a gradient": False})

    mistakes = [
        edit("attached-reward", "The rewards still carry a gradient. REINFORCE multiplies them with log pi as numbers; what "
             "flows through them trains something else. detach.",
             {PENALISED: "return scores - beta * sequence_kl_sampled(log_probs, ref_log_probs, mask)"}),
        edit("flipped-sign", "The distance is added to the score. It is a price: subtract it, or the policy is paid for running "
             "away.", {PENALISED: "return (scores + beta * sequence_kl_sampled(log_probs, ref_log_probs, mask)).detach()"}),
        edit("k3-in-reward", "k3 in place of k1. Its mean is the KL, but as a reward its gradient is that of KL(pi||pi_ref) - "
             "KL(pi_ref||pi) (eq. 4.33).",
             {PENALISED: "return (scores - beta * k3(on_tokens(log_probs, mask), on_tokens(ref_log_probs, mask)).sum(-1))"
              ".detach()"}),
        edit("beta-forgotten", "The distance is subtracted at full price. It costs `beta` for each nat.",
             {PENALISED: "return (scores - sequence_kl_sampled(log_probs, ref_log_probs, mask)).detach()"}),
        edit("mean-over-tokens", "The log-ratios are averaged over a sequence's tokens. The price is on the whole sequence's "
             "log-ratio, their sum.",
             {PENALISED: "return (scores - beta * sequence_kl_sampled(log_probs, ref_log_probs, mask) / "
              "mask.sum(-1).clamp(min=1)).detach()"}),
        edit("padding-scored", "Positions outside the mask are charged as well. Prompt and padding are not the policy's words.",
             {PENALISED: "return (scores - beta * k1(log_probs, ref_log_probs).sum(-1)).detach()"}),
        edit("clamped-at-zero", "Negative distances are cut off. A sequence that the policy says too rarely must be paid for, or "
             "the gradient is no longer that of the KL.",
             {PENALISED: "return (scores - beta * sequence_kl_sampled(log_probs, ref_log_probs, mask).clamp(min=0)).detach()"}),
        edit("penalty-of-the-batch", "Every sequence pays the batch's mean distance. A constant teaches nothing (lesson 2): each "
             "sequence pays its own.",
             {PENALISED: "return (scores - beta * sequence_kl_sampled(log_probs, ref_log_probs, mask).mean()).detach()"}),
    ]  # fmt: skip


@check("kl_reward", points=1, section="4.11")
class RewardTrains(Check):
    """By listing: REINFORCE with these rewards follows the gradient of E[score] - beta KL(pi||pi_ref)."""

    probe = "update_of_the_reward"
    tolerance = 1e-9  # float64 sums of at most 40 sequences

    def cases(self, rng):
        for tree, beta in ((lesson_tables(), 1.0), (tables(rng, 3, 3, 0), 0.5)):
            count = len(Listing(tree["vocabulary"], tree["length"], tree["eos"]).sequences)
            yield {**tree, "scores": rng.normal(size=count), "beta": beta}

    def truth(self, scores, beta, policy_logits, ref_logits, **tree):
        def objective(logits):
            log_p = Listing(**tree).log_probs(logits)
            return np.exp(log_p) @ scores - beta * divergence_of(policy_logits=logits, ref_logits=ref_logits, **tree)

        return {"expected gradient": derivative(objective, policy_logits)}

    mistakes = [
        edit("flipped-sign", "The distance is added to the score: the policy is paid for running away.",
             {PENALISED: "return (scores + beta * sequence_kl_sampled(log_probs, ref_log_probs, mask)).detach()"}),
        edit("k3-in-reward", "k3 in the reward: the expected gradient is that of KL(pi||pi_ref) - KL(pi_ref||pi) (eq. 4.33).",
             {PENALISED: "return (scores - beta * k3(on_tokens(log_probs, mask), on_tokens(ref_log_probs, mask)).sum(-1))"
              ".detach()"}),
        edit("k2-in-reward", "k2 in the reward: neither its mean nor its gradient is that of the KL. k1 belongs here.",
             {PENALISED: "return (scores - beta * kl_loss(log_probs, ref_log_probs, mask)).detach()"}),
    ]  # fmt: skip


@check("kl_reward", points=0.5, section="4.11")
class RewardRefuses(Refuses):
    def cases(self, rng):
        good = {"scores": np.array([1.0, 0.0]), **SHORT, "beta": 0.1}
        for argument, bad in (
            ("beta", -0.1), ("beta", INF), ("scores", np.ones((2, 1))), ("scores", np.ones(3)), ("mask", np.zeros((2, 3), bool)),
        ):  # fmt: skip
            yield {"function": "kl_reward", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("broadcast", "Scores of shape (batch, 1) went through: minus (batch,) they become (batch, batch), every score with "
             "every distance.", {'require_shape("scores", scores, mask.shape[:1])': "pass"}),
        edit("negative-price", "A negative beta went through: it pays the policy for leaving its reference.",
             {"if not (math.isfinite(value) and value >= 0):": "if not math.isfinite(value):"}),
    ]  # fmt: skip


SQUARED = "return sequence_kl_sampled(log_probs, ref_log_probs.detach(), mask) ** 2 / 2"
LOSS_MISTAKES = [
    edit("k1-in-loss", "k1 in the loss. Its mean is the KL and its expected gradient is 0: E[grad log pi] = 0 (eq. 4.29). "
         "Nothing is learned from it.", {SQUARED: "return sequence_kl_sampled(log_probs, ref_log_probs.detach(), mask)"}),
    edit("k3-in-loss", "k3 in the loss. Its mean is KL(pi||pi_ref), its expected gradient that of the other one, KL(pi_ref||pi) "
         "(eq. 4.31).", {SQUARED: "x = sequence_kl_sampled(log_probs, ref_log_probs.detach(), mask)\n"
         "    return torch.expm1(-x) + x"}),
    edit("token-k2", "Each token's log-ratio is squared by itself. The square stands around the sum: without the cross terms no "
         "token answers for where it leads.",
         {SQUARED: "return k2(on_tokens(log_probs, mask), on_tokens(ref_log_probs.detach(), mask)).sum(-1)"}),
    edit("half-forgotten", "The factor 1/2 is missing: the gradient is twice that of the KL.",
         {SQUARED: "return sequence_kl_sampled(log_probs, ref_log_probs.detach(), mask) ** 2"}),
    edit("flipped-sign", "The loss goes down as the policy runs away: there is a minus too many.",
         {SQUARED: "return -sequence_kl_sampled(log_probs, ref_log_probs.detach(), mask) ** 2 / 2"}),
    edit("cut-graph", "The loss carries no gradient to the policy. `log_probs` must stay attached; only the reference is a "
         "constant.", {SQUARED: "return sequence_kl_sampled(log_probs.detach(), ref_log_probs.detach(), mask) ** 2 / 2"}),
]  # fmt: skip


@check("kl_loss", points=2.5, section="4.12")
class Loss(Check):
    probe = "loss"
    tolerance = 1e-9  # relative: the square of a float64 sum of at most five differences

    def cases(self, rng):
        yield {**SHORT, "junk": 0.0, "direction": np.array([1.0, 2.0])}
        for batch, time, junk in ((3, 4, 7.0), (4, 6, np.nan)):
            yield {**token_case(rng, batch, time, junk), "direction": rng.normal(size=batch)}

    def truth(self, log_probs, ref_log_probs, mask, junk, direction):
        distance = np.array([sum((a - b)[m]) for a, b, m in zip(log_probs, ref_log_probs, mask)])
        slope = (direction * distance)[:, None] * mask
        return answer(distance**2 / 2, {"log_probs": slope, "ref_log_probs": np.zeros(slope.shape)})

    mistakes = [
        *LOSS_MISTAKES,
        edit("reference-trained", "A gradient reaches `ref_log_probs`: the reference would be trained to come to the policy. "
             "Detach it.", {SQUARED: "return sequence_kl_sampled(log_probs, ref_log_probs, mask) ** 2 / 2"}),
        edit("mean-over-tokens", "The log-ratios are averaged over a sequence's tokens before they are squared. The log-ratio of "
             "the sequence is their sum.",
             {SQUARED: "return (sequence_kl_sampled(log_probs, ref_log_probs.detach(), mask) / "
              "mask.sum(-1).clamp(min=1)) ** 2 / 2"}),
        edit("padding-scored", "Positions outside the mask are in the loss. Prompt and padding are not the policy's words.",
             {SQUARED: "return k1(log_probs, ref_log_probs.detach()).sum(-1) ** 2 / 2"}),
        edit("averaged-over-batch", "The batch's mean is returned. One loss for each sequence is asked for; the caller takes the "
             "mean.", {SQUARED: "return (sequence_kl_sampled(log_probs, ref_log_probs.detach(), mask) ** 2 / 2).mean()"}),
    ]  # fmt: skip


@check("kl_loss", points=1.5, section="4.12")
class LossTrains(Check):
    """By listing: the expected gradient of these losses is the gradient of KL(pi||pi_ref)."""

    probe = "update_of_the_loss"
    tolerance = 1e-9  # float64 sums of at most 40 sequences

    def cases(self, rng):
        yield lesson_tables()
        yield tables(rng, 3, 3, 0)

    def truth(self, policy_logits, ref_logits, **tree):
        def objective(logits):
            return divergence_of(policy_logits=logits, ref_logits=ref_logits, **tree)

        return {"expected gradient": derivative(objective, policy_logits)}

    mistakes = LOSS_MISTAKES[:-1]  # a cut graph gives 0 here, as k1 does
