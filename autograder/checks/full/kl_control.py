"""Lesson 10: what is true of the divergence, its estimators, the shaped reward, the controller, the loop and the sweep.

Divergences term by term and gradients in closed form; training replayed on tables in NumPy, derivatives by hand; what a GPT-2
learned is measured by listing all its sentences. The replay stays with the grader: it is imported where needed, nowhere else.
"""

from itertools import product

import numpy as np

from autograder.checks import Check, check, edit
from autograder.checks.compare import difference, number
from autograder.checks.refusals import Refuses, refused
from autograder.checks.small_gpt2 import distance_from_the_optimum, gpt2_matrices

INF = np.inf
HALF, QUARTER = np.array([0.5, 0.5]), np.array([0.25, 0.75])


def answer(value, gradients=None, **more):
    """What the probe reports of a function that returns this in float64 and leaves its arguments alone."""
    told = {"value": value, "dtype": "torch.float64", "arguments changed": "none"}
    return told | {f"gradient of {name}": gradient for name, gradient in (gradients or {}).items()} | more


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def ragged(rng, batch, time):
    """A mask of completions of different lengths behind a prompt of one token; the last row has none."""
    lengths = np.append(rng.integers(1, time, size=batch - 1), 0)
    return (np.arange(time) >= 1) & (np.arange(time) < 1 + lengths[:, None])


COUNTS = "counts = mask.unsqueeze(-1) & (log_probs > -torch.inf)"
PAIR = "log_p, log_q = torch.where(counts, log_probs, 0.0), torch.where(counts, ref_log_probs.detach(), 0.0)"
SUM = "return (log_p.exp() * (log_p - log_q)).sum(-1)"


@check("compute_kl_divergence", points=3.5, section="10.3")
class FullVocabulary(Check):
    probe = "rows_kl"
    tolerance = 1e-9  # relative: float64 sums of at most six terms

    def cases(self, rng):
        one = {"policy_logits": np.log([[HALF]]), "ref_logits": np.log([[QUARTER]]), "mask": np.array([[True]])}
        yield {**one, "junk": 0.0, "direction": np.array([[1.0]]), "differentiate": True}
        for (batch, time, vocabulary), junk in (((2, 3, 4), 7.0), ((3, 4, 6), np.nan)):
            policy_logits, ref_logits = rng.normal(size=(2, batch, time, vocabulary))
            case = {"policy_logits": policy_logits, "ref_logits": ref_logits, "mask": ragged(rng, batch, time), "junk": junk}
            yield {**case, "direction": rng.normal(size=(batch, time)), "differentiate": True}
        far = {"policy_logits": np.array([[[400.0, -400.0], [0.0, 1.0]]])}
        far["ref_logits"] = -far["policy_logits"]
        yield {**far, "mask": np.array([[True, True]]), "junk": 0.0, "direction": np.array([[1.0, 2.0]]), "differentiate": True}
        ruled_out = {"policy_logits": np.array([[[1.0, -INF, 0.0], [0.0, 0.0, 0.7]]]), "mask": np.array([[True, False]])}
        ruled_out["ref_logits"] = np.array([[[0.0, 0.4, 1.0], [0.7, 0.0, -INF]]])
        yield {**ruled_out, "junk": INF, "direction": np.array([[1.0, 1.0]]), "differentiate": True}
        yield {**ruled_out, "mask": np.array([[True, True]]), "junk": 0.0, "direction": np.ones((1, 2)), "differentiate": False}

    def truth(self, policy_logits, ref_logits, mask, junk, direction, differentiate):
        value, by_p = np.zeros(mask.shape), np.zeros(policy_logits.shape)
        for at in zip(*np.nonzero(mask)):
            log_p, log_q = log_softmax(policy_logits[at]), log_softmax(ref_logits[at])
            ratio = np.array([a - b if a > -INF else 0.0 for a, b in zip(log_p, log_q)])
            value[at] = np.exp(log_p) @ ratio
            if differentiate:  # by the logits: p (log ratio - KL); the reference is a constant
                by_p[at] = direction[at] * np.exp(log_p) * (ratio - value[at])
        gradients = {"policy_logits": by_p, "ref_logits": np.zeros(by_p.shape)}
        return answer(value, gradients if differentiate else {})

    mistakes = [
        edit("kl-reversed", "This is KL(pi_ref||pi). The weights are the policy's, exp(log_probs). Mind the order of F.kl_div: "
             "F.kl_div(log_q, log_p, log_target=True) is KL(p||q).",
             {PAIR: "log_q, log_p = torch.where(counts, log_probs, 0.0), torch.where(counts, ref_log_probs.detach(), 0.0)"}),
        edit("kl-reduction", "The terms are averaged over the vocabulary. They carry their weights already: sum them. "
             "(reduction=\"mean\" of F.kl_div does this too: with 50,000 tokens it is a penalty 50,000 times too small.)",
             {SUM: "return (log_p.exp() * (log_p - log_q)).mean(-1)"}),
        edit("log-target-missing", "The weights are log-probabilities where probabilities belong: exp(log_probs). F.kl_div does "
             "the same to a target of log-probabilities unless it is told log_target=True.",
             {SUM: "return (log_p * (log_p - log_q)).sum(-1)"}),
        edit("log-of-softmax", "You go back to probabilities and take their logarithm. At log-probabilities of -800 they are 0. "
             "The logarithms are in your hands: use them.",
             {SUM: "return torch.where(counts, log_p.exp() * (log_p.exp().log() - log_q.exp().log()), 0.0).sum(-1)"}),
        edit("flipped-sign", "The sign is turned: log pi - log pi_ref under the weights of pi. A divergence is never negative.",
             {SUM: "return (log_p.exp() * (log_q - log_p)).sum(-1)"}),
        edit("cross-entropy", "This is -sum pi log pi_ref, the cross-entropy. The policy's entropy is missing: at pi = pi_ref "
             "the divergence is 0.", {SUM: "return (log_p.exp() * -log_q).sum(-1)"}),
        edit("kl-prompt", "Positions outside the mask count as well. Prompt and padding are not the policy's words: 0 there.",
             {COUNTS: "counts = log_probs > -torch.inf"}),
        edit("mask-times-nan", "Positions outside the mask are multiplied by 0, and 0 * NaN is NaN. Use torch.where to choose.",
             {COUNTS: "counts = log_probs > -torch.inf", SUM: "return (log_p.exp() * (log_p - log_q)).sum(-1) * mask"}),
        edit("zero-times-infinity", "A token with log pi = -inf gives 0 * (-inf - ...) = NaN. It never comes: leave it out.",
             {COUNTS: "counts = mask.unsqueeze(-1) & torch.ones_like(log_probs, dtype=torch.bool)"}),
        edit("nan-gradient", "The values are right and a gradient is NaN: torch.where *after* the product still differentiates "
             "what it throws away. Choose the log-probabilities first, then compute.",
             {PAIR: "log_p, log_q = log_probs, ref_log_probs.detach()",
              SUM: "return torch.where(counts, log_p.exp() * (log_p - log_q), 0.0).sum(-1)"}),
        edit("reference-trained", "A gradient reaches the reference. It is what the policy is compared with: a constant, "
             "`detach` it.", {PAIR: PAIR.replace(".detach()", "")}),
        edit("cut-graph", "The weights were detached. pi(v) stands in the sum twice, and both times it is the policy: the "
             "gradient needs both.", {SUM: "return (log_p.exp().detach() * (log_p - log_q)).sum(-1)"}),
        edit("device-dtype", "The values are right to seven digits, but in float32. float64 in, float64 out.",
             {SUM: "return (log_p.exp() * (log_p - log_q)).sum(-1).float()"}),
    ]  # fmt: skip


@check("compute_kl_divergence", points=0.5, section="10.3")
class FullVocabularyRefuses(Refuses):
    def cases(self, rng):
        log_probs, ref_log_probs = log_softmax(rng.normal(size=(2, 2, 3, 4)))
        mask = np.array([[True] * 3, [True, False, False]])
        good = {"log_probs": log_probs, "ref_log_probs": ref_log_probs, "mask": mask}
        for argument, bad in (
            ("log_probs", log_probs + 1), ("ref_log_probs", rng.normal(size=(2, 3, 4))), ("log_probs", log_probs[0]),
            ("ref_log_probs", log_softmax(rng.normal(size=(2, 3, 3)))), ("mask", np.zeros((2, 3), bool)), ("mask", np.ones((3, 2), bool)),
            ("mask", np.ones((2, 3))),
        ):  # fmt: skip
            yield {"function": "compute_kl_divergence", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("raw-logits-as-log-probs", "Rows that are no log-distribution went through: raw logits need a log-softmax first.",
             {"if bool(off.any()):": "if False:"}),
        edit("empty-mask", "A mask without a single token went through. Nothing was measured, and 0 looks like a good answer.",
             {'received {received}")\n    given.require_mask(mask)': 'received {received}")'}),
        edit("vocabularies-differ", "Two vocabularies of different sizes are no matter to you: policy and reference must be "
             "able to say the same. Refuse the shapes.", {"if ref_log_probs.shape != log_probs.shape:": "if False:"}),
    ]  # fmt: skip


class Estimator(Check):
    """An estimator token by token, with its gradients by both log-probabilities. Not a check by itself."""

    probe = "estimator"
    tolerance = 1e-9  # relative: a few float64 operations
    name = ""

    def cases(self, rng):
        def case(log_probs, ref_log_probs, mask=None, junk=0.0, differentiate=True):
            both = {"log_probs": np.array(log_probs), "ref_log_probs": np.array(ref_log_probs)}
            shape = both["log_probs"].shape
            both["mask"] = np.ones(shape, dtype=bool) if mask is None else mask
            direction = rng.normal(size=shape)
            return {"name": self.name, **both, "junk": junk, "direction": direction, "differentiate": differentiate}

        yield case(np.log([[0.5]]), np.log([[0.25]]))
        yield case(np.log([[0.25]]), np.log([[0.5]]))
        yield case(*-rng.exponential(size=(2, 3, 4)), ragged(rng, 3, 4), 3.0)
        yield case(*-rng.exponential(size=(2, 3, 5)), ragged(rng, 3, 5), np.nan)
        yield case([[-1.0, -200.0, -0.5]], [[-1.0, -1.0, -200.0]])
        yield case([[-1.0, -1e-9]], [[-1.0 - 1e-8, -2e-9]], differentiate=False)

    def of(self, log_ratio):
        """(estimate, its derivative) for log_ratio = log pi - log pi_ref."""
        raise NotImplementedError

    def truth(self, name, log_probs, ref_log_probs, mask, junk, direction, differentiate):
        value, slope = self.of(np.where(mask, log_probs - ref_log_probs, 0.0))
        gradients = {"log_probs": direction * slope * mask, "ref_log_probs": np.zeros(mask.shape)}
        return answer(value, gradients if differentiate else {})


K1 = "return torch.where(mask, log_probs - ref_log_probs.detach(), 0.0)"


@check("k1", points=1, section="10.4")
class PlainEstimate(Estimator):
    name = "k1"

    def of(self, log_ratio):
        return log_ratio, np.ones(log_ratio.shape)

    mistakes = [
        edit("k1-sign", "The ratio is upside down: log pi_ref - log pi has the mean -KL(pi||pi_ref) under pi.",
             {K1: "return torch.where(mask, ref_log_probs.detach() - log_probs, 0.0)"}),
        edit("clamped-at-zero", "Negative values are cut off. A single value may be negative; only their mean is a divergence, "
             "and cutting makes it too large.", {K1: K1.replace("0.0)", "0.0).clamp(min=0.0)")}),
        edit("absolute-terms", "Absolute values: the mean of |log-ratio| is not the KL. Values of both signs have to cancel.",
             {K1: K1.replace("0.0)", "0.0).abs()")}),
        edit("weighted-twice", "Each value is multiplied by pi(y_t). The tokens were drawn from pi: sampling is the weighting, "
             "and yours is the second one.",
             {K1: "return torch.where(mask, log_probs.exp() * (log_probs - ref_log_probs.detach()), 0.0)"}),
        edit("ratio-not-log", "This is the ratio pi/pi_ref itself. Its logarithm is asked for.",
             {K1: "return torch.where(mask, (log_probs - ref_log_probs.detach()).exp(), 0.0)"}),
        edit("kl-prompt", "Positions outside the mask have values of their own. Prompt and padding do not count: 0 there.",
             {K1: "return log_probs - ref_log_probs.detach()"}),
        edit("mask-times-nan", "Positions outside the mask are multiplied by 0, and 0 * NaN is NaN. Use torch.where to choose.",
             {K1: "return (log_probs - ref_log_probs.detach()) * mask"}),
        edit("reference-trained", "A gradient reaches the reference's log-probabilities. The reference is a constant.",
             {K1: "return torch.where(mask, log_probs - ref_log_probs, 0.0)"}),
        edit("cut-graph", "No gradient reaches the policy. An estimator is a function of its log-probabilities; who wants a "
             "number detaches it himself.", {K1: "return torch.where(mask, log_probs.detach() - ref_log_probs.detach(), 0.0)"}),
    ]  # fmt: skip


K2 = "return k1(log_probs, ref_log_probs, mask) ** 2 / 2"


@check("k2", points=1, section="10.4")
class SquaredEstimate(Estimator):
    name = "k2"

    def of(self, log_ratio):
        return log_ratio**2 / 2, log_ratio

    mistakes = [
        edit("half-forgotten", "The factor 1/2 is missing: near pi = pi_ref the mean would be twice the KL.",
             {K2: "return k1(log_probs, ref_log_probs, mask) ** 2"}),
        edit("unsquared", "The log-ratio is halved, not squared.", {K2: "return k1(log_probs, ref_log_probs, mask) / 2"}),
        edit("square-of-probabilities", "You square the difference of the probabilities. The log-ratio is squared.",
             {K2: "return torch.where(mask, log_probs.exp() - ref_log_probs.detach().exp(), 0.0) ** 2 / 2"}),
        edit("square-of-the-ratio", "This is (pi/pi_ref - 1)^2 / 2, whose mean belongs to another divergence. Square the "
             "logarithm of the ratio.", {K2: "return torch.expm1(k1(log_probs, ref_log_probs, mask)) ** 2 / 2"}),
        edit("squared-sum", "The log-ratios of a row are added before they are squared. That is the k2 of whole completions; "
             "asked for is one value a token.",
             {K2: "return k1(log_probs, ref_log_probs, mask).sum(-1, keepdim=True).expand_as(mask) ** 2 / 2 * mask"}),
        edit("reference-trained", "A gradient reaches the reference's log-probabilities. The reference is a constant.",
             {K2: "return torch.where(mask, log_probs - ref_log_probs, 0.0) ** 2 / 2"}),
    ]  # fmt: skip


RATIO = "log_ratio = -k1(log_probs, ref_log_probs, mask)"
K3 = "return torch.expm1(log_ratio) - log_ratio"


@check("k3", points=2, section="10.4")
class ControlVariate(Estimator):
    name = "k3"

    def of(self, log_ratio):
        return np.expm1(-log_ratio) + log_ratio, 1 - np.exp(-log_ratio)

    mistakes = [
        edit("k3-inverted", "The ratio is upside down. With pi/pi_ref for pi_ref/pi it is still never negative, but under pi its "
             "mean is chi^2 - KL, not KL.", {RATIO: "log_ratio = k1(log_probs, ref_log_probs, mask)"}),
        edit("k3-of-the-other-divergence", "This is r ln r - (r - 1), whose mean under pi is KL(pi_ref||pi), the other "
             "direction. For KL(pi||pi_ref) it is r - 1 - ln r.",
             {K3: "return log_ratio.exp() * log_ratio - torch.expm1(log_ratio)"}),
        edit("control-variate-sign", "The sign of ln r is wrong: r - 1 *minus* ln r. Yours is negative for r < 1.",
             {K3: "return torch.expm1(log_ratio) + log_ratio"}),
        edit("minus-one-forgotten", "The 1 is missing: at pi = pi_ref, where r = 1, the estimate has to be 0.",
             {K3: "return log_ratio.exp() - log_ratio"}),
        edit("k1-for-k3", "This is k1. k3 adds r - 1, which has mean 0 and takes most of the noise away near the reference.",
             {K3: "return -log_ratio"}),
        edit("ratio-clamped", "The log-ratio is clipped first. That hides large values and makes the mean too small.",
             {K3: "return torch.expm1(log_ratio.clamp(-10, 10)) - log_ratio.clamp(-10, 10)"}),
        edit("cut-graph", "The value is right, but part of the gradient is lost: the ratio r was detached. k3 is a function of "
             "log_probs in both of its terms.", {K3: "return torch.expm1(log_ratio.detach()) - log_ratio"}),
        edit("reference-trained", "A gradient reaches the reference's log-probabilities. The reference is a constant.",
             {RATIO: "log_ratio = torch.where(mask, ref_log_probs - log_probs, 0.0)"}),
    ]  # fmt: skip


@check("k1", points=0.5, section="10.4")
class EstimatesRefuse(Refuses):
    def cases(self, rng):
        log_probs, ref_log_probs = -rng.exponential(size=(2, 2, 3))
        good = {"log_probs": log_probs, "ref_log_probs": ref_log_probs, "mask": np.array([[True] * 3, [True, False, False]])}
        for argument, bad in (
            ("log_probs", np.exp(log_probs)), ("ref_log_probs", np.exp(ref_log_probs)), ("ref_log_probs", ref_log_probs[:1]),
            ("mask", np.zeros((2, 3), bool)), ("mask", np.ones((2, 3))), ("log_probs", np.full((2, 3), np.nan)),
        ):  # fmt: skip
            yield {"function": "k1", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("probabilities-for-logs", "Probabilities (or raw logits) went through in place of log-probabilities: a "
             "log-probability is at most 0.", {"if not largest <= 1e-6:": "if False:"}),
        edit("broadcast", "A reference of another shape is stretched to fit. Refuse shapes that differ.",
             {"given.require_same_shape(log_probs=log_probs, ref_log_probs=ref_log_probs)": "pass"}),
    ]  # fmt: skip


SHAPED = "return (rewards - alpha * k1(log_probs, ref_log_probs, mask).sum(-1)).detach()"


@check("kl_shaped_reward", points=2.5, section="10.5")
class PriceOfDistance(Check):
    probe = "shaped"
    tolerance = 1e-9  # float64 sums of at most five terms

    def cases(self, rng):
        def case(rewards, log_probs, ref_log_probs, mask, alpha, junk=0.0):
            both = {"log_probs": np.array(log_probs), "ref_log_probs": np.array(ref_log_probs), "mask": np.array(mask)}
            return {"rewards": np.array(rewards), **both, "junk": junk, "alpha": alpha}

        yield case([1.0], [[-1.0, -0.5]], [[-1.5, -2.0]], [[True, True]], 0.25)
        yield case([0.5, 0.75], [[-9.0, -1.0, -0.5], [-9.0, -1.0, -9.0]], [[-8.0, -2.0, -1.0], [-8.0, -0.75, -3.0]],
                   [[False, True, True], [False, True, False]], 0.5)  # fmt: skip
        for (batch, time), alpha, junk in (((3, 4), 0.0, 2.0), ((4, 5), 1.5, np.nan)):
            log_probs, ref_log_probs = -rng.exponential(size=(2, batch, time))
            yield case(rng.normal(size=batch), log_probs, ref_log_probs, ragged(rng, batch, time), alpha, junk)

    def truth(self, rewards, log_probs, ref_log_probs, mask, junk, alpha):
        value = rewards.copy()
        for b, t in np.argwhere(mask):
            value[b] -= alpha * (log_probs[b, t] - ref_log_probs[b, t])
        return answer(value, **{"carries a gradient": False})

    mistakes = [
        edit("k1-sign", "The sign of the penalty is turned: you pay the policy for leaving the reference.",
             {SHAPED: SHAPED.replace("rewards - alpha", "rewards + alpha")}),
        edit("attached-reward", "A gradient can flow back through the reward into the log-probabilities. It would add an entropy "
             "bonus that nobody asked for (lesson 4): a reward is a number, `detach` it.",
             {SHAPED: SHAPED.replace(".detach()", "")}),
        edit("mean-over-tokens", "The log-ratios are averaged over the tokens. Then a long completion may go as far as it likes "
             "for the price of a short one: the KL of a completion is their sum.",
             {SHAPED: "log_ratio = k1(log_probs, ref_log_probs, mask)\n"
                      "    return (rewards - alpha * log_ratio.sum(-1) / mask.sum(-1).clamp(min=1)).detach()"}),
        edit("mean-over-positions", "The sum over the tokens is divided by the number of columns. Sum, and do not divide.",
             {SHAPED: SHAPED.replace(".sum(-1)", ".mean(-1)")}),
        edit("mean-over-batch", "Every row pays the mean KL of the batch. Then no row learns that it was the one that went far: "
             "each pays its own.", {SHAPED: SHAPED.replace(".sum(-1)", ".sum(-1).mean()")}),
        edit("k3-in-reward", "This is k3. In the reward its gradient is that of KL(pi||pi_ref) - KL(pi_ref||pi), which near the "
             "reference does not pull at all; the plain log-ratio (k1) has the exact one.",
             {SHAPED: SHAPED.replace("k1(", "k3(")}),
        edit("k2-in-reward", "This is k2, never negative and biased. In the reward the plain log-ratio (k1) has the exact "
             "gradient of the KL.", {SHAPED: SHAPED.replace("k1(", "k2(")}),
        edit("clamped-at-zero", "Log-ratios below 0 are cut off. They are right: coming back to what the reference says is paid.",
             {SHAPED: SHAPED.replace(".sum(-1)", ".clamp(min=0.0).sum(-1)")}),
        edit("alpha-on-the-reward", "`alpha` multiplies the reward too. It is the price of a nat, nothing else.",
             {SHAPED: "return (alpha * (rewards - k1(log_probs, ref_log_probs, mask).sum(-1))).detach()"}),
        edit("kl-prompt", "Log-ratios outside the mask are paid for: the prompt's, or the padding's.",
             {SHAPED: "return (rewards - alpha * (log_probs - ref_log_probs).sum(-1)).detach()"}),
    ]  # fmt: skip


@check("kl_shaped_reward", points=0.5, section="10.5")
class PriceRefuses(Refuses):
    def cases(self, rng):
        log_probs, ref_log_probs = -rng.exponential(size=(2, 2, 3))
        mask = np.array([[True] * 3, [True, False, False]])
        good = {"rewards": np.ones(2), "log_probs": log_probs, "ref_log_probs": ref_log_probs, "mask": mask, "alpha": 0.1}
        for argument, bad in (
            ("rewards", np.ones(3)), ("rewards", np.ones((2, 1))), ("alpha", -0.1), ("alpha", np.inf),
            ("mask", np.zeros((2, 3), bool)), ("log_probs", -log_probs),
        ):  # fmt: skip
            yield {"function": "kl_shaped_reward", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("broadcast", "Rewards of shape (batch, 1) went through, and torch stretches them to (batch, batch).",
             {'    given.require_per_row("rewards", rewards, mask)\n': ""}),
        edit("negative-price", "A negative alpha pays for leaving the reference. Refuse it.",
             {'    given.require_not_negative("alpha", alpha)\n    # BEGIN': "    # BEGIN"}),
    ]  # fmt: skip


ERROR = "error = min(max(float(kl) / self.target - 1, -LARGEST_ERROR), LARGEST_ERROR)"
SCALE = "self.alpha = self.alpha * (1 + error * samples / self.horizon)"


@check("AdaptiveKLController.update", points=2, section="10.6")
class Steering(Check):
    probe = "controller"
    tolerance = 1e-9  # a product of at most six float64 factors

    def cases(self, rng):
        same = {"alpha": 0.1, "target": 2.0, "horizon": 100.0}
        yield {**same, "kls": np.array([2.2]), "samples": np.array([10])}
        yield {**same, "kls": np.array([2.0, 20.0, 0.0]), "samples": np.array([10, 10, 20])}
        for _ in range(2):
            target = rng.uniform(0.5, 8.0)
            kls = target * np.concatenate([rng.uniform(0.85, 1.15, size=3), rng.uniform(-1, 3, size=3)])
            yield {"alpha": rng.uniform(0.01, 1.0), "target": target, "horizon": 1000.0, "kls": kls,
                   "samples": rng.integers(16, 256, size=6)}  # fmt: skip

    def truth(self, alpha, target, horizon, kls, samples):
        held = [alpha]
        for kl, count in zip(kls, samples):
            off = (kl - target) / target
            off = 0.2 if off > 0.2 else -0.2 if off < -0.2 else off
            held.append(held[-1] + held[-1] * off * count / horizon)
        return {"returned": held[1:], "alpha": held, "Python floats": True}

    mistakes = [
        edit("controller-turned", "A KL above the target makes your penalty cheaper: the policy runs away faster and faster. "
             "Too far away means dearer.", {ERROR: ERROR.replace("float(kl) / self.target - 1", "1 - float(kl) / self.target")}),
        edit("error-unclipped", "The error is not kept within 0.2 either way: one batch with a wild estimate turns alpha upside "
             "down.", {ERROR: "error = float(kl) / self.target - 1"}),
        edit("error-in-nats", "The error is the distance from the target in nats. It is relative, kl / target - 1: the same "
             "controller serves a target of 1 nat and of 50.",
             {ERROR: ERROR.replace("float(kl) / self.target - 1", "float(kl) - self.target")}),
        edit("horizon-ignored", "alpha moves by the whole error at every batch. The step is the error times samples / horizon.",
             {SCALE: "self.alpha = self.alpha * (1 + error)"}),
        edit("samples-ignored", "The size of the batch has no effect. The horizon counts completions: more of them in a batch "
             "move alpha further.", {SCALE: "self.alpha = self.alpha * (1 + error / self.horizon)"}),
        edit("alpha-added", "The step is added to alpha, not multiplied: a small alpha could turn negative, and a large one "
             "would hardly move.", {SCALE: "self.alpha = self.alpha + error * samples / self.horizon"}),
        edit("alpha-not-held", "The new alpha is returned, but `self.alpha` stays as it was: the next update starts from the old "
             "one.", {SCALE + "\n        return self.alpha": "return self.alpha * (1 + error * samples / self.horizon)"}),
        edit("target-follows", "The target moves with what was measured. It is what the user asked for, and stays.",
             {SCALE: SCALE + "\n        self.target = float(kl)"}),
    ]  # fmt: skip


@check("AdaptiveKLController.update", points=0.5, section="10.6")
class SteeringRefuses(Refuses):
    probe = "controller_refuses"

    def cases(self, rng):
        good = {"alpha": 0.1, "target": 2.0, "horizon": 100.0, "kl": 1.5, "samples": 20}
        for argument, bad in (
            ("alpha", 0.0), ("target", -1.0), ("target", 0.0), ("horizon", 0.0), ("kl", np.nan), ("kl", INF), ("samples", 0),
            ("samples", 500),
        ):  # fmt: skip
            yield {"good": good, "argument": argument, "bad": bad}

    def truth(self, good, argument, bad):
        return {"raised": "ValueError", "message": argument}

    mistakes = [
        edit("nan-accepted", "A KL that is NaN went through, and every later alpha is NaN with it.",
             {"if not math.isfinite(kl):": "if False:"}),
        edit("negative-alpha", "A batch so large that the factor can be 0 or negative went through.",
             {"if not 0 < samples < horizon / LARGEST_ERROR:": "if not 0 < samples:"}),
    ]  # fmt: skip


def sentences(rng, steps, prompts, group, columns, time, vocabulary, policy=None, top_k=0):
    """Scripted rollouts: (tokens, attention), (steps, prompts * group, columns + time), padded left, ended by token 1.

    The first prompt fills all columns. Token 0 pads. With top_k every token is among the policy's likeliest, by its tables.
    """
    tokens = rng.integers(1, vocabulary, size=(steps, prompts, columns + time)).repeat(group, axis=1)
    tokens[..., columns:] = rng.integers(1, vocabulary, size=(*tokens.shape[:2], time))
    empty = rng.integers(min(1, columns - 1), columns, size=(steps, prompts))
    empty[:, 0] = 0
    attention = np.ones(tokens.shape, dtype=int)
    for at in product(range(steps), range(prompts * group)):
        attention[at][: empty[at[0], at[1] // group]] = 0
        for t in range(columns, columns + time):
            if top_k:
                table, places = policy
                likely = np.argsort(table[tokens[at][t - 1]] + places[attention[at][:t].sum() - 1])[-top_k:]
                tokens[at][t] = rng.choice(likely)
            if tokens[at][t] == 1:
                attention[at][t + 1 :] = 0
                break
    return {"tokens": np.where(attention == 1, tokens, 0), "attention": attention, "prompt_length": columns}


def tables(rng, vocabulary, length, same=False):
    policy, reference = rng.normal(size=(2, vocabulary, vocabulary))
    places, ref_places = 0.5 * rng.normal(size=(2, length, vocabulary))
    if same:
        reference, ref_places = policy.copy(), places.copy()
    return {"policy": policy, "places": places, "reference": reference, "ref_places": ref_places}


POLICY = "log_probs = completion_log_probs(loop.policy, rollout, config.temperature, config.top_k)"
REFERENCE = "ref_log_probs = completion_log_probs(loop.reference, rollout, config.temperature)"
SHAPING = "shaped = kl_shaped_reward(rewards, log_probs, ref_log_probs, mask, alpha)"
ADVANTAGES = "advantages = loop.own(advantages_of(loop.gather(shaped), config))"
LOSS = "loss = -(advantages * log_probs.sum(-1)).mean()"
KEPT = 'alpha = loop.kept.get("alpha", config.alpha)'
UNSHAPED = {SHAPING: "shaped = rewards"}
KLS = "kls = loop.gather(k1(now, ref_log_probs, mask).sum(-1))"
UPDATE = "alpha = controller.update(kls.mean().item(), len(kls))"


@check("train", points=4, section="10.7")
class TrainingReplay(Check):
    """Rollouts and rewards from a list: the log and the weights after every step follow, with one process and with two."""

    probe = "training"
    tolerance = 1e-8  # three steps of float64 sums of a few dozen terms, each from where the last one ended

    def cases(self, rng):
        def case(steps, prompts, columns, time, vocabulary, settings, same=False, processes=1, kept=None):
            made = tables(rng, vocabulary, columns + time, same)
            tops = {"policy": (made["policy"], made["places"]), "top_k": settings.get("top_k", 0)}
            group = settings.get("group_size", 1)
            written = sentences(rng, steps, prompts, group, columns, time, vocabulary, **tops)
            rewards = rng.uniform(size=(steps, prompts * group))
            more = {"learning_rate": 0.5, "processes": processes, "kept": kept}
            return {**made, **written, "rewards": rewards, "settings": settings, "more": more}

        yield case(1, 2, 1, 2, 3, {"alpha": 0.5, "baseline": "none"})
        yield case(2, 3, 2, 3, 4, {"alpha": 0.3}, same=True)
        yield case(1, 4, 2, 3, 5, {"alpha": 0.4, "temperature": 1.3, "top_k": 2})
        yield case(3, 2, 2, 3, 4, {"alpha": 0.2, "baseline": "rloo", "group_size": 2, "temperature": 0.7, "target_kl": 0.5,
                                   "horizon": 40.0}, processes=2)  # fmt: skip
        yield case(3, 3, 3, 4, 4, {"alpha": 0.1, "target_kl": 6.0, "horizon": 30.0}, processes=2, kept=0.4)
        yield case(2, 3, 1, 2, 3, {"alpha": 0.0}, kept=0.25)

    def truth(self, **case):
        from .kl_control_replay import train

        return train(**case)

    mistakes = [
        edit("no-kl-penalty", "The policy learns from the reward alone: what it costs to leave the reference is missing.",
             UNSHAPED),
        edit("k1-in-loss", "The KL stands in the loss as the plain log-ratio. Its value is right and its expected gradient is 0 "
             "(lesson 4): it trains nothing. It belongs in the reward.",
             {**UNSHAPED, LOSS: LOSS + " + alpha * k1(log_probs, ref_log_probs, mask).sum(-1).mean()"}),
        edit("k3-in-loss", "The KL stands in the loss as k3. Its gradient there is that of KL(pi_ref||pi), the other "
             "divergence (lesson 4). In the reward the plain log-ratio has the exact one.",
             {**UNSHAPED, LOSS: LOSS + " + alpha * k3(log_probs, ref_log_probs, mask).sum(-1).mean()"}),
        edit("penalised-twice", "The KL is in the reward and in the loss. Once is enough.",
             {LOSS: LOSS + " + alpha * k2(log_probs, ref_log_probs, mask).sum(-1).mean()"}),
        edit("attached-reward", "The shaped reward carries a gradient into your loss. It is a number: `detach` it.",
             {SHAPED: SHAPED.replace(").detach()", ")")}),
        edit("flipped-sign", "The loss has the wrong sign: every step makes bad completions likelier.",
             {LOSS: LOSS.replace("-(", "(")}),
        edit("mean-over-tokens", "The log-probabilities are averaged over each completion's tokens. The loss sums them: the "
             "probability of a completion is the product.",
             {LOSS: "loss = -(advantages * log_probs.sum(-1) / mask.sum(-1)).mean()"}),
        edit("sum-over-batch", "The loss is summed over the rows. It is their mean.", {LOSS: LOSS.replace(".mean()", ".sum()")}),
        edit("sampler-is-not-scorer", "The policy is scored without the temperature and the top_k that it was sampled with.",
             {POLICY: "log_probs = completion_log_probs(loop.policy, rollout)"}),
        edit("top-k-ignored", "The policy is scored over the whole vocabulary, though it was sampled with top_k.",
             {POLICY: POLICY.replace(", config.top_k", "")}),
        edit("reference-without-temperature", "The reference is scored without the temperature: then the KL is not 0 for a "
             "policy that is the reference.", {REFERENCE: "ref_log_probs = completion_log_probs(loop.reference, rollout)"}),
        edit("reference-top-k", "The reference is scored with top_k. Then a token that it ranks lower than that costs "
             "infinitely much: score it over its whole vocabulary.",
             {REFERENCE: REFERENCE.replace("temperature)", "temperature, config.top_k)")}),
        edit("dropout-in-update", "Dropout is on while the rollout is scored: the policy that is scored is not the one that "
             "wrote. `loop.policy.eval()` first; gradients flow as before.", {"    loop.policy.eval()\n": ""}),
        edit("dropout-in-reference", "Dropout is on in the reference: every batch is compared with another one.",
             {"    loop.reference.eval()\n": ""}),
        edit("reference-graph", "The reference is scored with a graph. Nothing is wrong with the numbers, but the memory of a "
             "second backward pass is kept for nothing: torch.no_grad().", {"with torch.no_grad():": "if True:"}),
        edit("reference-trained", "The reference is trained along: after the first step there is nothing fixed to stay near.",
             {"loop.update(loss)\n": "loop.update(loss)\n        loop.reference.load_state_dict(loop.policy.state_dict())\n"}),
        edit("group-not-repeated", "Each prompt is continued once. With group_size completions of each, repeat the prompts "
             "first (`prompts.repeated`).", {"prompts.repeated(config.group_size)": "prompts"}),
        edit("own-batch-baseline", "The baseline is taken over this process's rows alone. It is a statistic of the whole batch: "
             "`loop.gather` first, `loop.own` of the result.", {ADVANTAGES: "advantages = advantages_of(shaped, config)"}),
        edit("baseline-of-the-reward", "The baseline is the mean of the plain rewards, without their penalty: it is far from "
             "what it is compared with, and most of the variance stays.",
             {ADVANTAGES: "advantages = shaped - loop.gather(rewards).mean()"}),
        edit("baseline-ignored", "`config.baseline` has no effect: shaped rewards are the advantages in any case.",
             {ADVANTAGES: "advantages = shaped"}),
        edit("reward-with-penalty", "The reward you log has the penalty in it. Log the plain reward, and the shaped one by its "
             "own name: else nobody can tell which of the two moves.", {"reward=rewards.mean(),\n": "reward=shaped.mean(),\n"}),
        edit("kl-per-token", "The KL you log is a mean over tokens. It is nats a completion: the sum over its tokens.",
             {KLS: "kls = loop.gather(k1(now, ref_log_probs, mask).sum(-1) / mask.sum(-1))"}),
        edit("k1-sign", "The KL you log and steer by has the wrong sign.",
             {KLS: KLS.replace("k1(now", "-k1(now")}),
        edit("controller-told-own-rows", "The controller is told the rows of this process. Its horizon counts the completions of "
             "the whole batch.", {UPDATE: UPDATE.replace("len(kls)", "len(rewards)")}),
        edit("alpha-fixed", "alpha never changes, though a target is set.", {UPDATE: "pass"}),
        edit("alpha-not-kept", "`loop.kept[\"alpha\"]` is not written after each step: a run that is stopped and resumed would "
             "begin again with the first alpha.", {'        loop.kept["alpha"] = alpha\n': ""}),
        edit("kept-alpha-ignored", "A run that goes on must begin with the alpha it had: `loop.kept[\"alpha\"]`, where it is "
             "there.", {KEPT: "alpha = config.alpha"}),
        edit("alpha-of-the-next-step", "The alpha you log is the next step's. Log the one that shaped this step's rewards.",
             {UPDATE: "pass", KLS: KLS + "\n        if controller is not None:\n            " + UPDATE}),
    ]  # fmt: skip


@check("train", points=0.5, section="10.7")
class TrainRefuses(Refuses):
    probe = "train_refuses"

    def cases(self, rng):
        yield {}

    def truth(self):
        return {"raised": "ValueError", "message": "loop.reference"}

    def judge(self, got, expected):
        return refused(got, expected, "loop.reference")

    mistakes = [
        edit("no-reference", "A loop without a reference went through (or fails deep inside). Say at the start what is missing.",
             {"    require_reference(loop)\n    # BEGIN": "    # BEGIN"}),
    ]  # fmt: skip


@check("train", points=2, section="10.7")
class ReachesTheOptimum(Check):
    """A tiny GPT-2 whose sentences of three tokens are all listed, 64 of them: how far is it from pi* after training?"""

    probe = "trained"
    seconds = 30.0  # two on a quiet machine
    most = 0.07  # the tests hold right runs below 0.05; k3 in the loss ends above 0.1, no penalty above 0.6

    def cases(self, rng):
        liked = rng.permutation([0.0, 0.3, 0.6, 1.0])  # what each token adds to the reward
        rewards = np.array([liked[list(said)].sum() for said in product(range(4), repeat=3)])
        yield {"weights": gpt2_matrices(rng, 4, 3), "rewards": rewards, "seed": int(rng.integers(2**31)),
               "settings": {"alpha": 0.5}, "steps": 100, "batch": 128, "learning_rate": 5e-3}  # fmt: skip

    def truth(self, **case):
        return {"total variation at most": self.most}

    def judge(self, got, expected, weights, rewards, settings, **case):
        found = distance_from_the_optimum(got["weights"], weights, rewards, 4, 3, settings["alpha"])
        if found <= expected["total variation at most"]:
            return None
        return (f"the trained policy is {number(found)} in total variation from pi* = pi_ref exp(r / alpha) / Z; "
                f"a right loop is below {number(expected['total variation at most'])} every time")  # fmt: skip


@check("regime", points=1, section="10.8")
class InAWord(Check):
    probe = "regime"
    figures = ("reward", "naturalness", "reference_naturalness")

    def cases(self, rng):
        yield {"runs": [(0.6, -2.0, -2.0), (0.85, -2.1, -2.0), (0.9, -3.5, -2.0), (0.7, -2.0, -2.0)]}
        yield {"runs": [(0.65, -2.0, -2.0), (0.8, -2.0, -2.0), (0.8, -0.3, 0.0), (0.5, -4.0, -2.0), (0.9, -1.0, -2.0)]}
        yield {"runs": [(0.6, None, None), (0.9, None, None), (0.7, None, None)]}
        drawn = zip(rng.uniform(0.4, 1.0, 40), rng.uniform(-2.6, -1.6, 40), rng.uniform(-2.2, -1.8, 40))
        yield {"runs": [tuple(map(float, run)) for run in drawn]}

    def truth(self, runs):
        return {"regimes": [self.word(*run) for run in runs]}

    @staticmethod
    def word(reward, naturalness, reference):
        known = naturalness is not None
        if known and reference - naturalness > 0.3:
            return "collapsed"
        words = [("weak", reward < 0.65), ("unread", not known), ("between", reward < 0.8), ("good", True)]
        return next(word for word, fits in words if fits)

    mistakes = [
        edit("reward-alone", "The text is not looked at: a high reward on ruined text is the collapse, not a success.",
             {"if naturalness is not None and naturalness < reference_naturalness - NATURAL:": "if False:"}),
        edit("naturalness-of-its-own", "You ask whether the naturalness itself is above -0.3. It is compared with the "
             "reference's: how much worse than the model it came from?",
             {"naturalness < reference_naturalness - NATURAL": "naturalness < -NATURAL"}),
        edit("more-natural-is-collapsed", "Text that is *more* likely than the reference's is called collapsed. Only text that "
             "is less likely by more than 0.3 is.",
             {"naturalness < reference_naturalness - NATURAL": "abs(naturalness - reference_naturalness) > NATURAL"}),
        edit("weak-before-collapsed", "A run of small reward and ruined text is collapsed: ask for that first.",
             {'    if naturalness is not None and naturalness < reference_naturalness - NATURAL:\n        return "collapsed"\n'
              '    if reward < WEAK:\n        return "weak"\n':
              '    if reward < WEAK:\n        return "weak"\n'
              '    if naturalness is not None and naturalness < reference_naturalness - NATURAL:\n        return "collapsed"\n'}),
        edit("unknown-is-natural", "Where no grammar knows the language nobody has judged the text: \"unread\", however high the "
             "reward.", {'    if naturalness is None:\n        return "unread"\n': ""}),
    ]  # fmt: skip


FIGURES = 'rows.append({"alpha": alpha, **figures, "regime": word})'


@check("sweep", points=1.5, section="10.8")
class OneRunEach(Check):
    probe = "sweep"

    def cases(self, rng):
        yield {"alphas": [0.1], "results": [self.figures(0.85, 3.0, -2.0)]}
        yield {"alphas": [1.0, 0.1, 0.0], "results": [self.figures(0.6, 0.1, -1.9), self.figures(0.9, 4.0, -2.2),
               {**self.figures(0.95, 40.0, -6.0), "gold_reward": 0.4}]}  # fmt: skip
        yield {"alphas": [0.0, 1.0, 0.05, 0.5], "results": [self.figures(*rng.uniform((0.4, 0.0, -2.6), (1.0, 9.0, -1.8)))
               for _ in range(4)]}  # fmt: skip

    @staticmethod
    def figures(reward, kl, naturalness):
        return {"reward": float(reward), "kl": float(kl), "naturalness": float(naturalness), "reference_naturalness": -2.0}

    def truth(self, alphas, results):
        rows = [
            {"alpha": alpha, **found, "regime": InAWord.word(*(found[name] for name in InAWord.figures))}
            for alpha, found in zip(alphas, results)
        ]
        return {"rows": rows, "asked": alphas, "the runs' figures are left alone": True}

    mistakes = [
        edit("one-run", "All rows are from the first alpha's run. Each alpha needs a run of its own.",
             {"        figures = run(alpha)\n": "        figures = rows[0] if rows else run(alpha)\n"}),
        edit("sorted-alphas", "The alphas are sorted. Run them in the order they were given in.",
             {"for alpha in alphas:\n        figures": "for alpha in sorted(alphas):\n        figures"}),
        edit("figures-dropped", "Figures that the run measured are missing in the row: keep all of them.",
             {FIGURES: 'rows.append({"alpha": alpha, "reward": figures["reward"], "kl": figures["kl"], "regime": word})'}),
        edit("in-place", "The dictionary that `run` returned was changed. Make a new one.",
             {FIGURES: 'figures.update({"alpha": alpha, "regime": word})\n        rows.append(figures)'}),
        edit("naturalness-swapped", "The naturalness of the policy and of the reference are exchanged.",
             {'figures["naturalness"], figures["reference_naturalness"])':
              'figures["reference_naturalness"], figures["naturalness"])'}),
        edit("good-runs-only", "Only good runs have a row. What did not work is what a sweep is for.",
             {FIGURES: 'if word == "good":\n            ' + FIGURES}),
    ]  # fmt: skip


@check("sweep", points=0.5, section="10.8")
class SweepRefuses(Check):
    """Before the first run: who waits ten minutes for the message that the second alpha is negative?"""

    probe = "sweep_refuses"

    def cases(self, rng):
        yield {"alphas": []}
        yield {"alphas": [-0.1]}
        yield {"alphas": [0.5, 0.1, -0.1]}

    def truth(self, alphas):
        return {"raised": "ValueError", "message": "alphas", "runs begun": 0}

    def judge(self, got, expected, alphas):
        return refused(got, expected, "alphas") or difference(got["runs begun"], expected["runs begun"], 0.0, "runs begun")

    mistakes = [
        edit("refused-too-late", "A bad alpha is found when its turn comes, after minutes of training. Look at all first.",
             {"    require_alphas(alphas)\n    # BEGIN SOLUTION\n    rows = []\n    for alpha in alphas:\n":
              "    # BEGIN SOLUTION\n    rows = []\n    for alpha in alphas:\n        require_alphas([alpha])\n"}),
        edit("nothing-to-sweep", "A sweep over nothing gives an empty list. It is a mistake of the caller: refuse it.",
             {"if len(alphas) == 0:": "if False:"}),
    ]  # fmt: skip
