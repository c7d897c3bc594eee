"""Lesson 15: what is true of numbers read from text, of groups, of GRPO's loss and of its loop.

Pure functions are held to NumPy, token by token, derivatives by hand; the loop to the reference in float64.
"""

import math
from fractions import Fraction

import numpy as np

from autograder.checks import Check, check, edit
from autograder.checks.refusals import Refuses

NAN = np.nan
SIZE = 1048  # parameters of the probe's GPT-2
NUMBER = r'''number = r"(?:(?<![0-9A-Za-z)\]}])[-+\u2212])?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"'''
STATED = "stated = found[0] if marker else found[-1]"
PLAIN = 'return Decimal(stated.replace(",", "").replace("\\u2212", "-"))'


@check("final_number", points=3, section="15.1")
class Numbers(Check):
    probe = "numbers"
    tolerance = 0.0  # fractions, exact

    CASES = (
        (" 42", "42"), ("= 42.", "42"), ("", None), ("no idea", None),
        ("17 + 25 = 42", "42"), ("042", "42"), ("42.0", "42"), ("3.50", "7/2"), ("-5", "-5"), ("= -5", "-5"), ("+7", "7"),
        ("\u22127", "-7"), ("17-5", "5"), ("17 - 5", "5"), ("(3)-2", "2"), ("x-2", "2"), ("[1]-9", "9"), ("5 - -3", "-3"),
        ("1,234", "1234"), ("1,234,567.5", "2469135/2"), ("12,34", "34"), ("1234,567", "567"), ("1,2345", "2345"), ("1,2,3", "3"),
        ("$42", "42"), ("42%", "42"), ("x2", "2"), ("3/4", "4"), ("-$5", "5"), ("It is 12, or 13.", "13"), ("12.", "12"),
        ("#### 42", "42"), ("2 + 2 = 4\n#### 4 apples, not 5", "4"), ("5 ####", None), ("#### 1 #### 2 3", "2"), ("####7", "7"),
        ("#### 1,000", "1000"), ("#### -3.25", "-13/4"), ("### 4 5", "5"), ("007.50 km", "15/2"), ("1.2.3", "3"), ("4 .5", "5"),
        ("\u0664\u0662", None), ("9" * 40, "9" * 40), ("}-1", "1"), ("a-b-4", "4"), ("Z-4", "4"), ("9-4", "4"), ("0,123", "123"),
    )  # fmt: skip

    def cases(self, rng):
        for texts in (self.CASES[:4], self.CASES[4:18], self.CASES[18:31], self.CASES[31:]):
            yield {"texts": [text for text, _ in texts]}
        drawn = [int(n) for n in rng.integers(-(10**6), 10**6, size=12)]
        yield {"texts": [f"so {a} + {b:,} = {a + b:,}." for a, b in zip(drawn, reversed(drawn))]}

    def truth(self, texts):
        known = dict(self.CASES)
        sums = [text.rsplit("= ", 1)[-1].rstrip(".").replace(",", "") for text in texts]
        return {"numbers": [known[text] if text in known else str(Fraction(total)) for text, total in zip(texts, sums)]}

    mistakes = [
        edit("first-number", "You take the first number of the text. In \"17 + 25 = 42\" that is the question; the answer comes "
             "last.", {STATED: "stated = found[0]"}),
        edit("last-behind-the-marker", "Behind \"####\" you take the last number. The marker announces the answer, so it is the "
             "first one behind it; a remark may follow.", {STATED: "stated = found[-1]"}),
        edit("marker-ignored", "\"####\" is overlooked. Where it stands, the number behind it is the answer, and without a "
             "number "
             "behind it there is none.", {"text.rpartition(MARKER)": "\"\", \"\", text"}),
        edit("first-marker", "Of several \"####\" you look behind the first. The last one counts.",
             {"text.rpartition(MARKER)": "text.partition(MARKER) if MARKER in text else (\"\", \"\", text)"}),
        edit("minus-is-always-a-sign", "You read every minus before a digit as a sign: \"17-5\" then ends with -5. Behind a "
             "digit, a "
             "letter or a closing bracket it is an operator.", {r"(?:(?<![0-9A-Za-z)\]}])[-+\u2212])?": r"[-+\u2212]?"}),
        edit("signs-dropped", "You read no sign at all: \"= -5\" states -5.",
             {r"(?:(?<![0-9A-Za-z)\]}])[-+\u2212])?": ""}),
        edit("commas-cut-numbers", "A comma between groups of three digits belongs to the number: 1,234 is one number.",
             {r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)": r"[0-9]+"}),
        edit("all-commas-belong", "You take every comma between digits for part of a number: \"12,34\" are two numbers. Behind "
             "a comma "
             "inside a number stand exactly three digits.",
             {r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)": r"[0-9][0-9,]*"}),
        edit("whole-numbers-only", "What stands behind the point is read as another number: 3.50 is one, three and a half.",
             {r"(?:\.[0-9]+)?": ""}),
        edit("nothing-is-zero", "A text without a number states none: None, and not 0, which would be right where the answer is "
             "0.",
             {"return None": "return Decimal(0)"}),
        edit("rounded", "Numbers are compared exactly: a float keeps sixteen digits.",
             {PLAIN: PLAIN.replace("return Decimal(", "return Decimal(float(").replace("-\"))", "-\")))")}),
    ]  # fmt: skip


@check("exact_match_reward", points=1.5, section="15.1")
class ExactMatch(Check):
    probe = "matched"
    tolerance = 0.0  # ones and zeros

    TEXTS = ("42", "= 42.", "24", "", "I do not know", "042", "42.0", "42.5", "-42", "4 2", "The sum is 42", "#### 42", "42 43",
             "142", "421", "4,2")  # fmt: skip

    def cases(self, rng):
        yield {"completions": [" 42", " 41"], "answers": ["42", "42"]}
        yield {"completions": list(self.TEXTS), "answers": ["42"] * len(self.TEXTS)}
        yield {"completions": ["", "zero", "0", "-0"], "answers": ["0"] * 4}
        yield {"completions": ["1000", "1,000", "1,00"], "answers": ["3 * 300 = 900, 900 + 100 = 1000\n#### 1,000"] * 3}
        drawn = rng.integers(0, 30, size=(2, 12))
        answers = [str(n if k % 2 else m) for k, (n, m) in enumerate(drawn.T)]
        yield {"completions": [f" {n}" for n in drawn[0]], "answers": answers}

    def truth(self, completions, answers):
        right = {"42": {"42", "= 42.", "042", "42.0", "The sum is 42", "#### 42"}, "0": {"0", "-0"}}
        if len(answers[0]) > 5:
            rewards = [1.0, 1.0, 0.0]
        else:
            rewards = [float(c.strip() == a or c in right.get(a, ())) for c, a in zip(completions, answers)]
        return {"rewards": np.array(rewards), "dtype": "float64", "arguments changed": "none"}

    mistakes = [
        edit("contained", "You ask whether the answer occurs in the completion. Then 142 is right where 42 is, and listing all "
             "numbers is right everywhere: a policy finds that out.",
             {"final_number(completion) == final_number(answer)": "str(final_number(answer)) in completion"}),
        edit("texts-compared", "You compare the texts. \"= 42.\" and \"042\" state 42; compare the numbers.",
             {"final_number(completion) == final_number(answer)": "completion.strip() == answer.strip()"}),
        edit("minus-for-wrong", "A wrong completion gets -1. Here it gets 0: the share of right ones is then the mean reward.",
             {"return torch.tensor(right, dtype=torch.float64)": "return 2 * torch.tensor(right, dtype=torch.float64) - 1"}),
        edit("nothing-counts-as-zero", "A completion that states no number is counted as if it had said 0.",
             {"final_number(completion) == final_number(answer)": "(final_number(completion) or 0) == final_number(answer)"}),
        edit("close-enough", "Anything within one of the answer is counted as right. A sum is right or wrong.",
             {"[final_number(completion) == final_number(answer)":
              "[final_number(completion) is not None and abs(final_number(completion) - final_number(answer)) <= 1"}),
    ]  # fmt: skip


@check("exact_match_reward", points=0.5, section="15.1")
class ExactMatchRefuses(Refuses):
    def cases(self, rng):
        good = {"completions": ["1", "2"], "answers": ["1", "3"]}
        for bad in (["1"], ["1", "2", "3"], ["1", "none"], ["1", "5 ####"]):
            yield {"function": "exact_match_reward", "good": good, "argument": "answers", "bad": bad}

    mistakes = [
        edit("answers-without-number", "An answer that states no number went through: every completion of its question would be "
             "wrong, "
             "or, without a number, right.", {"not isinstance(answer, str) or final_number(answer) is None": "False"}),
        edit("rows-do-not-fit", "Answers for another number of rows went through.",
             {"if len(answers) != len(completions):": "if False:"}),
    ]  # fmt: skip


MINUS = "advantages = groups - groups.mean(dim=1, keepdim=True)"
SPREAD = "spread = groups.std(dim=1, correction=0, keepdim=True)"
OVER = "advantages = advantages / torch.where(alike, 1.0, spread)"
ALIKE = "return torch.where(alike, 0.0, advantages).flatten()"
LOO = "advantages = rloo_advantages(rewards, group_size).view_as(groups)"


@check("group_advantages", points=3, section="15.2")
class GroupAdvantages(Check):
    """Among the cases: every group of right and wrong answers there is, and groups that are alike but for rounding."""

    probe = "advantages"
    tolerance = 1e-9  # float64; the smallest spread here is a millionth of the rewards, which leaves ten digits

    def cases(self, rng):
        for scale in ("none", "std", "loo"):
            yield {"rewards": np.array([1.0, 0.0, 0.0, 0.0]), "group_size": 4, "scale": scale}
        every = np.array([[(row >> k) & 1 for k in range(4)] for row in range(16)], dtype=float)
        for scale in ("none", "std", "loo"):
            yield {"rewards": every.ravel(), "group_size": 4, "scale": scale}
            tenths = np.concatenate([np.full(3, 0.1), np.full(3, 0.7), rng.normal(size=6), np.full(3, 1 / 3)])
            yield {"rewards": tenths, "group_size": 3, "scale": scale}
            yield {"rewards": rng.normal(size=10), "group_size": 2, "scale": scale}
        for size in (1e-4, 1e3):  # a spread of any size is the unit
            yield {"rewards": 7 + size * rng.normal(size=10), "group_size": 5, "scale": "std"}

    def truth(self, rewards, group_size, scale):
        found = []
        for group in rewards.reshape(-1, group_size):
            away = group - math.fsum(group) / group_size
            if group.max() == group.min():
                away = np.zeros(group_size)
            elif scale == "std":
                away = away / np.sqrt(np.mean(away**2))
            elif scale == "loo":
                away = np.array([r - (group.sum() - r) / (group_size - 1) for r in group])
            found.append(away)
        return {"advantages": np.concatenate(found), "dtype": "float64", "arguments changed": "none"}

    mistakes = [
        edit("zero-spread", "An all-equal group is divided by a standard deviation of 0: NaN, and with it all weights after "
             "the next step. Such a group teaches nothing: zeros.",
             {OVER: "advantages = advantages / spread", ALIKE: "return advantages.flatten()"}),
        edit("rounding-blown-up", "The mean of three times 0.1 is not 0.1 to the last digit. You divide that rounding by "
             "itself, and a "
             "group whose rewards are all equal gets advantages of size 1. Ask whether the rewards are equal, not their spread.",
             {SPREAD: "spread = (advantages**2).mean(dim=1, keepdim=True).sqrt()",
              OVER: "advantages = advantages / torch.where(spread == 0, 1.0, spread)", ALIKE: "return advantages.flatten()"}),
        edit("other-divisor", "The standard deviation has the divisor group_size - 1. Many libraries mean that one; here it is "
             "group_size, so that the squares of a group's advantages have the mean 1.",
             {"correction=0": "correction=1"}),
        edit("std-is-not-variance", "You divide by the variance. The standard deviation is its root.",
             {SPREAD: SPREAD.replace("groups.std", "groups.var")}),
        edit("root-of-std", "You divide by the root of the standard deviation.", {SPREAD: SPREAD + ".sqrt()"}),
        edit("small-number-added", "Something is added to the standard deviation. It keeps an all-equal group from dividing by "
             "0, and shrinks every other one; give all-equal groups zeros in so many words.",
             {OVER: "advantages = advantages / (spread + 1e-4)"}),
        edit("batch-baseline", "The mean is that of the whole batch. A question that everybody gets right then counts as a "
             "good answer each time: compare within the group.", {MINUS: "advantages = groups - groups.mean()"}),
        edit("batch-spread", "The standard deviation is that of the whole batch: take each group's own.",
             {SPREAD: "spread = groups.std(correction=0)", ALIKE: "return torch.where(alike, 0.0, advantages).flatten()"}),
        edit("groups-across", "Your groups hold rows that stand apart: row 0, row n, row 2n. A group's rows stand together.",
             {"groups = rewards.reshape(-1, group_size)": "groups = rewards.reshape(group_size, -1).T", ALIKE:
              "return torch.where(alike, 0.0, advantages).T.flatten()"}),
        edit("no-baseline", "The rewards are divided, and nothing is taken from them: with rewards of 0 and 1 no answer is "
             "ever made less likely.", {MINUS: "advantages = groups"}),
        edit("scale-ignored", "With scale \"none\" nothing is divided.", {"if scale == \"std\":": "if True:"}),
        edit("own-reward-in-the-mean", "For \"loo\" the mean is that of the *others*: each reward less it is group_size / "
             "(group_size - 1) times the distance from the group's mean.", {LOO: "pass"}),
        edit("loo-upside-down", "The factor of leave-one-out is group_size / (group_size - 1), above 1; yours is its inverse.",
             {LOO: "advantages = advantages * (group_size - 1) / group_size"}),
        edit("flipped-sign", "The sign is wrong: a reward above the mean has a positive advantage.",
             {ALIKE: "return torch.where(alike, 0.0, -advantages).flatten()"}),
    ]  # fmt: skip


@check("group_advantages", points=0.5, section="15.2")
class GroupAdvantagesRefuse(Refuses):
    def cases(self, rng):
        good = {"rewards": rng.normal(size=6), "group_size": 3, "scale": "std"}
        for argument, bad in (("group_size", 4), ("group_size", 1), ("group_size", 0), ("scale", "var"),
                              ("rewards", np.array([1.0, NAN, 0.0])), ("rewards", np.zeros((2, 3)))):  # fmt: skip
            yield {"function": "group_advantages", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("any-group", "Groups that do not fill the rows, or hold a single one, went through.",
             {"    require_groups(group_size, len(rewards))\n    require_one_of(": "    require_one_of("}),
        edit("any-scale", "An unknown scale went through.", {"    require_one_of(\"scale\", scale, SCALES)\n": ""}),
    ]  # fmt: skip


def ragged(rng, batch, time):
    """A mask of rows of different lengths: the first full, the last one empty where there are four or more."""
    lengths = np.concatenate([[time], rng.integers(1, time + 1, size=batch - 1)])
    if batch > 3:
        lengths[-1] = 0
    return np.arange(time) < lengths[:, None]


def kl_terms(log_probs, ref_log_probs, estimator):
    """(value, derivative by log_probs) of an estimate, elementwise."""
    d = log_probs - ref_log_probs
    if estimator == "k1":
        return d, np.ones_like(d)
    if estimator == "k2":
        return d**2 / 2, d
    return np.expm1(-d) + d, -np.expm1(-d)


CHOICE = 'return {"k1": k1, "k2": k2, "k3": k3}[estimator](log_probs, ref_log_probs, mask)'


@check("kl_estimate", points=1, section="15.7")
class Estimates(Check):
    probe = "estimated"
    tolerance = 1e-9  # float64, exponentials of numbers below 4

    def cases(self, rng):
        for batch, time, estimator in ((1, 1, "k1"), (1, 1, "k2"), (1, 1, "k3"), (4, 3, "k1"), (4, 3, "k2"), (4, 3, "k3")):
            mask = ragged(rng, batch, time)
            yield {"log_probs": -rng.exponential(size=mask.shape), "ref_log_probs": -rng.exponential(size=mask.shape),
                   "mask": mask, "estimator": estimator, "direction": rng.normal(size=mask.shape)}  # fmt: skip

    def truth(self, log_probs, ref_log_probs, mask, estimator, direction):
        value, slope = kl_terms(log_probs, ref_log_probs, estimator)
        return {"estimates": value * mask, "gradient of log_probs": direction * slope * mask,
                "gradient of ref_log_probs": np.zeros_like(value), "arguments changed": "none"}  # fmt: skip

    mistakes = [
        edit("always-k3", "You give k3 whatever was asked for.", {CHOICE: "return k3(log_probs, ref_log_probs, mask)"}),
        edit("k1-sign", "The ratio is upside down: KL(policy||reference) has the policy's log-probability first.",
             {CHOICE: CHOICE.replace("(log_probs, ref_log_probs, mask)", "(ref_log_probs, log_probs, mask)")}),
        edit("cut-graph", "The estimates carry no gradient. Put into a loss they would change nothing.",
             {CHOICE: CHOICE.replace("(log_probs, ref", "(log_probs.detach(), ref")}),
        edit("no-half", "k2 is half of the square.", {CHOICE: CHOICE.replace("\"k2\": k2", "\"k2\": lambda *a: 2 * k2(*a)")}),
        edit("padding-scored", "What stands off the mask counts.",
             {CHOICE: CHOICE.replace(", mask)", ", torch.ones_like(mask))")}),
    ]  # fmt: skip


RATIO = "ratio = torch.where(mask, log_probs - old_log_probs.detach(), 0.0).exp()  # (B, T), exactly 1 at the first update"
GAIN = "gain = torch.minimum(ratio * worth, ratio.clamp(1 - clip, 1 + (clip_high or clip)) * worth)"
PRICE = "gain = gain - kl_coef * kl_estimate(log_probs, ref_log_probs, mask, kl)"
REAL = "gain = torch.where(mask, gain, 0.0)"
TOKEN = "return -gain.sum() / mask.sum()"
LENGTHS = 'lengths = mask.sum(dim=1).clamp(min=1) if mean == "sequence" else max_tokens'
SEQUENCE = "return -(gain.sum(dim=1) / lengths).mean()"
WORTH = "worth = advantages.detach().to(log_probs.dtype).unsqueeze(1)  # (B, 1)"


class Loss(Check):
    """Not a check by itself: values and gradients of the loss."""

    probe = "loss"
    tolerance = 3e-7  # float64 sums of at most 30 terms; a weight 1 / count is float32 in torch, off by 6e-8, and good enough

    def truth(self, log_probs, old_log_probs, advantages, mask, ref_log_probs, settings, junk):
        how = {"mean": "sequence", "max_tokens": None, "kl_coef": 0.0, "kl": "k3", "clip_high": 0.0} | settings
        clip = how["clip"]
        value, gradient = 0.0, np.zeros(log_probs.shape)
        for b, t in np.argwhere(mask):
            rho, worth = np.exp(log_probs[b, t] - old_log_probs[b, t]), advantages[b]
            plain, edge = rho * worth, np.clip(rho, 1 - clip, 1 + (how["clip_high"] or clip)) * worth
            gain, slope = (plain, plain) if plain <= edge else (edge, 0.0)
            if how["kl_coef"] > 0:
                price, its_slope = kl_terms(log_probs[b, t], ref_log_probs[b, t], how["kl"])
                gain, slope = gain - how["kl_coef"] * price, slope - how["kl_coef"] * its_slope
            weight = {"token": mask.sum(), "sequence": len(mask) * mask[b].sum()}.get(how["mean"])
            weight = len(mask) * how["max_tokens"] if weight is None else weight
            value, gradient[b, t] = value - gain / weight, -slope / weight
        zeros = {"old_log_probs": old_log_probs, "advantages": advantages, "ref_log_probs": ref_log_probs}
        gradients = {name: np.zeros_like(of) for name, of in zeros.items() if of is not None}
        told = {"loss": value, "dtype": str(log_probs.dtype), "gradients": {"log_probs": gradient, **gradients}}
        return {**told, "arguments changed": "none"}

    @staticmethod
    def tokens(rng, batch, time, far=0.5):
        """Log-probabilities of policy, old policy and reference, a mask, and advantages of both signs."""
        mask = ragged(rng, batch, time)
        old = -1.5 - rng.exponential(size=mask.shape)
        worth = rng.normal(size=batch)
        worth[: batch // 2] = -np.abs(worth[: batch // 2])
        return {"log_probs": old + far * rng.normal(size=mask.shape), "old_log_probs": old, "advantages": worth, "mask": mask,
                "ref_log_probs": -1 - rng.exponential(size=mask.shape)}  # fmt: skip


@check("grpo_loss", points=3, section="15.5")
class ClippedByGroups(Loss):
    """The four quadrants of ratio and advantage, the first update, and the three means, on ragged masks; no KL."""

    def cases(self, rng):
        old = np.log([[0.2], [0.2], [0.2], [0.2]])
        four = {"log_probs": np.log([[0.3], [0.3], [0.1], [0.1]]), "old_log_probs": old, "mask": np.ones((4, 1), bool),
                "ref_log_probs": None, "junk": 0.0}  # fmt: skip
        for k in range(4):
            one = {name: value[k : k + 1] if isinstance(value, np.ndarray) else value for name, value in four.items()}
            yield {**one, "advantages": np.array([[1.0, -1.0, 1.0, -1.0][k]]), "settings": {"clip": 0.2}}
        for settings in ({}, {"mean": "token"}, {"mean": "constant", "max_tokens": 7}, {"clip_high": 0.6},
                         {"mean": "constant", "max_tokens": 4, "clip_high": 0.05}):  # fmt: skip
            yield {**self.tokens(rng, 5, 6), "junk": NAN, "settings": {"clip": 0.2, **settings}}
        first = self.tokens(rng, 3, 4)
        yield {**first, "log_probs": first["old_log_probs"].copy(), "junk": -np.inf, "settings": {"clip": 0.1}}
        yield {**self.tokens(rng, 4, 3), "ref_log_probs": None, "junk": 3.0, "settings": {"clip": 0.2, "mean": "token"}}

    mistakes = [
        edit("flipped-sign", "The sign is wrong: made small, this loss lowers what was worth something.",
             {TOKEN: TOKEN.replace("return -", "return "), SEQUENCE: SEQUENCE.replace("return -", "return ")}),
        edit("clip-max", "You take the larger of the two. The smaller one is meant: whatever the sign of the advantage, the "
             "clip may only take a gain away.", {GAIN: GAIN.replace("torch.minimum", "torch.maximum")}),
        edit("clip-max-for-negative", "For negative advantages you take the larger of the two. It is the minimum for both "
             "signs: a bad token that has become *likelier* must still be pushed back.",
             {GAIN: "edge = ratio.clamp(1 - clip, 1 + (clip_high or clip)) * worth\n    gain = torch.where(worth >= 0, "
                    "torch.minimum(ratio "
              "* worth, edge), torch.maximum(ratio * worth, edge))"}),
        edit("clipped-always", "You multiply the clipped ratio alone: a token that has gone the wrong way gets no gradient back.",
             {GAIN: "gain = ratio.clamp(1 - clip, 1 + (clip_high or clip)) * worth"}),
        edit("not-clipped", "Nothing is clipped.", {GAIN: "gain = ratio * worth"}),
        edit("clip-the-wrong-thing", "You clip the logarithm of the ratio at -clip and clip. The ratio itself is kept between "
             "1 - clip and 1 + clip.",
             {GAIN: "edge = ratio.log().clamp(-clip, clip_high or clip).exp()\n    gain = torch.minimum(ratio * worth, edge * "
                    "worth)"}),
        edit("clip-high-ignored", "`clip_high` is overlooked: above 1 the ratio is followed as far as it says.",
             {"ratio.clamp(1 - clip, 1 + (clip_high or clip))": "ratio.clamp(1 - clip, 1 + clip)"}),
        edit("ratio-of-itself", "The old log-probabilities carry a gradient, so that the ratio's cancels. They are constants.",
             {"log_probs - old_log_probs.detach()": "log_probs - (old_log_probs + log_probs - log_probs.detach())"}),
        edit("old-not-detached", "A gradient reaches `old_log_probs`: the policy that wrote is a constant.",
             {"old_log_probs.detach()": "old_log_probs"}),
        edit("attached-reward", "A gradient reaches the advantages: they are constants.",
             {WORTH: WORTH.replace("advantages.detach()", "advantages")}),
        edit("no-ratio", "This is REINFORCE's loss, the log-probability times the advantage. At the first update its gradient "
             "is the same; later the tokens are no longer the policy's own, and the ratio makes up for that.",
             {GAIN: "gain = torch.where(mask, log_probs, 0.0) * worth"}),
        edit("sequence-ratio", "You use one ratio for the whole completion, the product of its tokens' ratios. That is another "
             "algorithm (GSPO takes a mean of them); here each token has its own.",
             {RATIO: "ratio = torch.where(mask, log_probs - old_log_probs.detach(), 0.0).sum(dim=1, keepdim=True).exp()"}),
        edit("padding-scored", "What stands off the mask is part of the mean: where the ratio is set to 1 the advantage is "
             "still added.",
             {REAL: "pass"}),
        edit("mask-times-nan", "What stands off the mask is multiplied by 0, and 0 * NaN is NaN. Choose with torch.where before "
             "anything is computed.", {RATIO: "ratio = (log_probs - old_log_probs.detach()).exp()", REAL: "gain = gain * mask"}),
        edit("mask-sum-of-the-batch", "\"sequence\" divides each completion by its own length. You divide by the length of the "
             "whole "
             "batch, and by the number of rows once more.", {"mask.sum(dim=1).clamp(min=1)": "mask.sum()"}),
        edit("token-for-sequence", "You average over all tokens of the batch alike. With \"sequence\" each completion is "
             "averaged over "
             "its own tokens first.", {"if mean == \"token\":": "if mean in (\"token\", \"sequence\"):"}),
        edit("sequence-for-token", "With \"token\" all tokens of the batch weigh the same: one sum over another, not a mean of "
             "means.",
             {TOKEN: "return -(gain.sum(dim=1) / mask.sum(dim=1).clamp(min=1)).mean()"}),
        edit("longest-for-constant", "With \"constant\" you divide by the number of columns, which is the longest completion of "
             "this "
             "batch. Divide by `max_tokens`: no length is to be in it.",
             {LENGTHS: LENGTHS.replace("max_tokens", "mask.shape[1]")}),
        edit("summed-not-divided", "With \"constant\" the sum over a completion's tokens is divided by `max_tokens`.",
             {LENGTHS: LENGTHS.replace("else max_tokens", "else 1")}),
        edit("empty-rows-left-out", "A completion without a real token is one of the n too: you divide by the number of the "
             "others.",
             {SEQUENCE: "return -(gain.sum(dim=1) / lengths).sum() / mask.any(dim=1).sum()"}),
        edit("divided-by-no-tokens", "A completion without a real token is divided by its length, 0: NaN.",
             {LENGTHS: LENGTHS.replace(".clamp(min=1)", "")}),
    ]  # fmt: skip


@check("grpo_loss", points=1.5, section="15.7")
class PricedByTokens(Loss):
    """The same with the KL in it, by each estimator and under each mean."""

    def cases(self, rng):
        at = {"log_probs": np.log([[0.2]]), "old_log_probs": np.log([[0.2]]), "mask": np.ones((1, 1), bool), "junk": 0.0}
        for kl in ("k1", "k2", "k3"):
            yield {**at, "ref_log_probs": np.log([[0.4]]), "advantages": np.zeros(1),
                   "settings": {"clip": 0.2, "kl_coef": 0.5, "kl": kl}}  # fmt: skip
        for kl, mean in (("k3", "sequence"), ("k2", "token"), ("k1", "constant"), ("k3", "constant")):
            yield {**self.tokens(rng, 5, 4), "junk": NAN, "settings": {"clip": 0.2, "kl_coef": 0.3, "kl": kl, "mean": mean,
                                                                      "max_tokens": 6}}  # fmt: skip
        yield {**self.tokens(rng, 3, 4), "junk": 0.0, "settings": {"clip": 0.2, "kl_coef": 0.3}}

    mistakes = [
        edit("kl-sign", "The KL is added to the gain: the policy is paid for leaving the reference.",
             {PRICE: PRICE.replace("gain - kl", "gain + kl")}),
        edit("kl-left-out", "The KL is not in the loss, though it has a price.", {"if kl_coef > 0:": "if False:"}),
        edit("always-k3", "You use k3 whatever `kl` says.", {PRICE: PRICE.replace(", mask, kl)", ", mask, \"k3\")")}),
        edit("k1-sign", "Policy and reference are exchanged in the estimate.",
             {PRICE: "swapped = kl_estimate(ref_log_probs.detach(), log_probs, mask, kl)\n        log_ratio = torch.where(mask, "
                     "log_probs - "
              "ref_log_probs.detach(), 0.0)\n        gain = gain - kl_coef * {\"k1\": -log_ratio, \"k2\": log_ratio**2 / 2, "
              "\"k3\": "
              "torch.expm1(log_ratio) - log_ratio}[kl] + 0 * swapped.detach()"}),
        edit("cut-graph", "The KL is in the value of the loss and has no gradient: it changes nothing.",
             {PRICE: PRICE.replace("kl_estimate(log_probs,", "kl_estimate(log_probs.detach(),")}),
        edit("reference-is-old", "The KL is that to the old policy. The old policy is the ratio's; the reference is the one "
             "that the policy is to stay near.", {PRICE: PRICE.replace("ref_log_probs, mask", "old_log_probs, mask")}),
        edit("kl-of-tokens-mean", "The KL has a mean of its own, over all tokens; it stands inside the mean that `mean` names.",
             {PRICE: "price = kl_estimate(log_probs, ref_log_probs, mask, kl)\n        gain = gain - kl_coef * price.sum() / "
                     "mask.sum()"}),
    ]  # fmt: skip


@check("grpo_loss", points=0.5, section="15.5")
class LossRefuses(Refuses):
    def cases(self, rng):
        tokens = Loss.tokens(rng, 2, 3)
        good = {**tokens, "clip": 0.2, "mean": "constant", "max_tokens": 3, "kl_coef": 0.1}
        bads = (("max_tokens", None), ("max_tokens", 0), ("mean", "row"), ("kl", "k4"), ("clip", 0.0), ("clip_high", -0.1),
                ("kl_coef", -1.0), ("ref_log_probs", None), ("ref_log_probs", np.zeros((2, 2))), ("advantages", np.zeros(3)),
                ("advantages", np.zeros((2, 3))), ("mask", np.zeros((2, 3), bool)), ("mask", np.ones((2, 3))),
                ("old_log_probs", np.zeros((2, 2))))  # fmt: skip
        for argument, bad in bads:
            yield {"function": "grpo_loss", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("constant-missing", "mean=\"constant\" went through without `max_tokens`.", {"if max_tokens is None:": "if False:"}),
        edit("reference-missing", "A price went through without a reference.",
             {"if kl_coef > 0 and ref_log_probs is None:": "if False:"}),
        edit("advantages-broadcast", "Advantages of another shape went through: PyTorch stretches them over the tokens.",
             {"    require_rewards(\"advantages\", advantages, len(mask))\n": ""}),
    ]  # fmt: skip


OUTSIDE = "outside = (ratio < 1 - clip) | (ratio > 1 + (clip_high or clip))"
SIGNAL = '"no_signal": (groups.amax(dim=1) == groups.amin(dim=1)).double().mean(),'
SOLVED = '"solved": right.view(-1, group_size).any(dim=1).double().mean(),'


@check("grpo_metrics", points=2, section="15.8")
class Figures(Check):
    probe = "metrics"
    tolerance = 1e-9  # float64 means of at most 40 terms

    def cases(self, rng):
        for batch, time, group, clip_high, junk in ((2, 1, 2, 0.0, 0.0), (6, 3, 3, 0.0, 1.0), (8, 5, 2, 0.5, NAN),
                                                    (12, 4, 4, 0.0, -5.0)):  # fmt: skip
            tokens = Loss.tokens(rng, batch, time)
            rewards = (rng.random(batch) < 0.5).astype(float)
            rewards[:group] = 0.0
            if batch > 2:
                rewards[group : 2 * group], rewards[-1] = 1.0, 0.5
            yield {"rewards": rewards, "group_size": group, "mask": tokens["mask"], "log_probs": tokens["log_probs"],
                   "old_log_probs": tokens["old_log_probs"], "junk": junk,
                   "settings": {"clip": 0.2, "clip_high": clip_high}}  # fmt: skip
        tokens = Loss.tokens(rng, 4, 2)
        yield {"rewards": np.ones(4), "group_size": 2, "mask": tokens["mask"], "log_probs": tokens["log_probs"],
               "old_log_probs": tokens["old_log_probs"], "settings": {"clip": 0.2}, "junk": 0.0}  # fmt: skip

    def truth(self, rewards, group_size, mask, log_probs, old_log_probs, settings, junk):
        groups, right, lengths = rewards.reshape(-1, group_size), rewards == 1, mask.sum(1)
        log_ratio = (log_probs - old_log_probs)[mask]
        ratio = np.exp(log_ratio)
        outside = (ratio < 1 - settings["clip"]) | (ratio > 1 + (settings.get("clip_high") or settings["clip"]))
        figures = {
            "no_signal": np.mean([len(set(group)) == 1 for group in groups]),
            "solved": np.mean([1 in group for group in groups]),
            "length_right": lengths[right].mean() if right.any() else 0.0,
            "length_wrong": lengths[~right].mean() if (~right).any() else 0.0,
            "ratio": ratio.mean(),
            "approx_kl": (ratio - 1 - log_ratio).mean(),
            "clip_fraction": outside.mean(),
        }  # fmt: skip
        return {"figures": {name: float(figure) for name, figure in figures.items()}, "figures with a gradient": "none"}

    mistakes = [
        edit("only-wrong-groups", "Groups that are all right have no signal either.",
             {SIGNAL: '"no_signal": (groups.amax(dim=1) == 0).double().mean(),'}),
        edit("with-signal", "This is the share of groups that *have* a signal.", {SIGNAL: SIGNAL.replace("==", "!=")}),
        edit("all-right", "`solved` asks for one right completion in the group; you ask for all.",
             {SOLVED: SOLVED.replace(".any(", ".all(")}),
        edit("above-zero-is-right", "A completion is right if its reward is 1. You count every reward above 0.",
             {"rewards == 1": "rewards > 0"}),
        edit("lengths-exchanged", "The lengths of right and wrong completions are exchanged.",
             {'"length_right": (lengths * right).sum() / right.sum().clamp(min=1),\n        "length_wrong":':
              '"length_wrong": (lengths * right).sum() / right.sum().clamp(min=1),\n        "length_right":'}),
        edit("mean-over-all", "You add up the lengths of right completions and divide by the number of all.",
             {"right.sum().clamp(min=1),\n        \"length_wrong\"": "len(right),\n        \"length_wrong\""}),
        edit("nan-for-none", "Where no completion is right (or none wrong) the mean length is 0 by convention, not NaN.",
             {"right.sum().clamp(min=1),\n": "right.sum(),\n", "(~right).sum().clamp(min=1),\n": "(~right).sum(),\n"}),
        edit("padding-scored", "The ratio, the KL or the clip fraction counts padding.",
             {"masked_mean(ratio, mask)": "ratio.mean()", "approximate_kl(log_probs, old_log_probs, mask)":
              "approximate_kl(log_probs, old_log_probs, torch.ones_like(mask))", "masked_mean(outside.double(), mask)":
              "outside.double().mean()"}),
        edit("clip-one-side", "The clip fraction counts one side alone. A ratio can leave the interval below, too.",
             {OUTSIDE: "outside = ratio > 1 + (clip_high or clip)"}),
        edit("clip-high-ignored", "`clip_high` is overlooked in the clip fraction.",
             {OUTSIDE: OUTSIDE.replace("(clip_high or clip)", "clip")}),
        edit("approx-kl-is-k1", "approx_kl is lesson 6's, (rho - 1) - log rho: never negative. The mean of a log-ratio alone is "
             "noisier.",
             {"approximate_kl(log_probs, old_log_probs, mask)": "masked_mean(old_log_probs - log_probs, mask)"}),
    ]  # fmt: skip


@check("grpo_metrics", points=0.5, section="15.8")
class FiguresRefuse(Refuses):
    def cases(self, rng):
        tokens = Loss.tokens(rng, 4, 3)
        good = {name: tokens[name] for name in ("log_probs", "old_log_probs", "mask")}
        good |= {"rewards": np.array([1.0, 0.0, 0.0, 1.0]), "group_size": 2, "clip": 0.2}
        for argument, bad in (("rewards", np.ones(3)), ("group_size", 3), ("mask", np.zeros((4, 3), bool)),
                              ("old_log_probs", np.zeros((4, 2))), ("mask", np.ones((4, 3)))):  # fmt: skip
            yield {"function": "grpo_metrics", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("any-mask", "A mask that fits nothing, or is nowhere True, went through.",
             {"    require_tokens(log_probs, old_log_probs, mask)\n    # BEGIN": "    # BEGIN"}),
    ]  # fmt: skip


VOCABULARY, PAD, EOS = 8, 0, 1
NUMBERS = ("1", "2", "12", "-3", "31", "x", "2 1")
"What the scripted completions read."


def encoded(text):
    return ["", "", "1", "2", "3", "-", " ", "x"].index(text) if len(text) == 1 else [encoded(letter) for letter in text]


def scripted(rng, questions, group, prompt, time, supported):
    """A batch: prompts of different lengths, for each a group of completions of which some are right and some are cut off."""
    prompts, prompt_mask = rng.integers(2, VOCABULARY, size=(questions, prompt)), np.ones((questions, prompt), dtype=int)
    for q in range(1, questions):
        prompt_mask[q, : int(rng.integers(0, prompt))] = 0
    prompts[prompt_mask == 0] = PAD
    answers, rows = [], []
    for q in range(questions):
        answer = NUMBERS[int(rng.integers(5))]
        answers.append(f"so it is #### {answer}" if q % 2 else answer)
        right = [True, False] if q < 2 else [True, True] if q % 2 else [False, False]  # the later groups have no signal
        for k in range(group):
            wrong = [number for number in NUMBERS if number.strip() != answer and number[-1:] != answer]
            text = answer if (right[k] if k < 2 else right[0] if right[0] == right[1] else rng.random() < 0.5) else \
                wrong[int(rng.integers(len(wrong)))]  # fmt: skip
            tokens = [encoded(letter) for letter in text] + [EOS]
            rows.append(tokens[:time] + [PAD] * (time - len(tokens)))
    written = np.array(rows)
    real = np.cumsum(written == EOS, axis=1) - (written == EOS) == 0
    tokens = np.concatenate([np.repeat(prompts, group, axis=0), written], axis=1)
    attention = np.concatenate([np.repeat(prompt_mask, group, axis=0), real.astype(int)], axis=1)
    support = None
    if supported:
        support = np.stack([written, (written + 1) % VOCABULARY, (written + 3) % VOCABULARY, np.full_like(written, -1)], axis=-1)
    return {"prompts": prompts, "prompt_mask": prompt_mask, "answers": answers, "tokens": tokens, "attention_mask": attention,
            "support": support}  # fmt: skip


LOG_PROBS = "log_probs, _ = score(policy, None, rollout, config.temperature, rollout.support)  # (B, T)"
REFERENCE = "ref_log_probs, _ = score(reference, None, rollout, config.temperature)  # (B, T)"
ADVANTAGES = "advantages = group_advantages(paid, config.group_size, config.scale)"
UPDATES = "for update in range(config.updates):"
METRICS = "rewards, config.group_size, log_probs, old_log_probs, mask, clip=config.clip, clip_high=config.clip_high"


@check("train", points=5, section="15.8")
class TheLoop(Check):
    """Scripted rollouts of tiny GPT-2s under four settings: weights after every update, and everything that is logged."""

    probe = "training_replay"
    tolerance = 1e-7  # up to six steps of a float64 GPT-2 of one layer, each from where the last one ended
    seconds = 20.0

    def judge(self, got, expected, **case):
        noisy = expected.get("scored with dropout")  # of a known mistake: what comes of it is random, but not that it is so
        return None if noisy and got.get("scored with dropout") else super().judge(got, expected, **case)

    def cases(self, rng):
        settings = (
            {"group_size": 2},
            {"group_size": 3, "scale": "none", "mean": "constant", "updates": 2, "kl_coef": 0.3, "new_tokens": 6},
            {"group_size": 2, "scale": "loo", "mean": "token", "updates": 3, "kl_coef": 0.2, "kl_place": "reward",
             "temperature": 0.7, "clip": 0.05, "clip_high": 0.1},
            {"group_size": 3, "updates": 2, "temperature": 1.5, "top_k": 3, "kl_coef": 0.1, "kl": "k2", "clip": 0.1},
        )  # fmt: skip
        for number, chosen in enumerate(settings):
            sizes = min(2 + number, 4), chosen["group_size"], 3, 4
            batches = [scripted(rng, *sizes, number == 3) for _ in range(1 + (number > 0))]
            weights = 0.4 * rng.normal(size=(2, SIZE))
            yield {"weights": weights[0], "reference": None if number == 0 else weights[1], "batches": batches,
                   "settings": {"new_tokens": 4, **chosen}, "learning_rate": 0.3}  # fmt: skip

    mistakes = [
        edit("answers-not-repeated", "The answers are those of the prompts before they were repeated: row 1 is compared with "
             "the second question's answer.",
             {"rewards = exact_match_reward(texts, prompts.answers)": "answers = prompts.answers[:: config.group_size]\n        "
              "rewards = exact_match_reward(texts, answers * config.group_size)"}),
        edit("old-is-new", "The old log-probabilities are taken anew at every update: the ratio is always 1, and nothing is ever "
             "clipped. They are those of the policy that wrote.", {"if update == 0:": "if True:"}),
        edit("one-update", "A rollout is stepped on once, whatever `updates` says.", {UPDATES: "for update in range(1):"}),
        edit("dropout-on", "Dropout is on while tokens are scored: who is scored is not who wrote.",
             {"GPT2Policy(loop.policy).eval()": "GPT2Policy(loop.policy)",
              "GPT2Policy(loop.reference).eval()": "GPT2Policy(loop.reference)"}),
        edit("sampler-is-not-scorer", "The temperature does not reach the scorer of the policy.",
             {LOG_PROBS: LOG_PROBS.replace("config.temperature", "1.0")}),
        edit("reference-at-another-temperature", "The reference is scored without the temperature: the two are compared at the "
             "same one.", {REFERENCE: REFERENCE.replace("config.temperature", "1.0")}),
        edit("support-ignored", "`rollout.support` does not reach the scorer: the tokens were drawn among a few.",
             {LOG_PROBS: LOG_PROBS.replace(", rollout.support", "")}),
        edit("reference-within-support", "The reference is scored within the policy's support. Over the whole vocabulary is "
             "meant: what the policy rules out costs it something.",
             {REFERENCE: REFERENCE.replace("config.temperature)", "config.temperature, rollout.support)")}),
        edit("kl-in-both-places", "The KL is paid twice, in the reward and in the loss. `kl_place` names one place.",
             {"kl_coef=in_loss,": "kl_coef=config.kl_coef if reference is not None else 0.0,"}),
        edit("kl-place-ignored", "The KL is always in the loss. With kl_place \"reward\" it is taken from the rewards before the "
             "advantages are.", {"config.kl_place == place": "place == \"loss\""}),
        edit("reward-logged-with-kl", "The reward that is logged has the KL in it. Log what the answers earned.",
             {"reward=rewards.mean(),": "reward=paid.mean(),"}),
        edit("scale-ignored", "`config.scale` does not reach the advantages.",
             {ADVANTAGES: ADVANTAGES.replace(", config.scale", "")}),
        edit("mean-ignored", "`config.mean` does not reach the loss.", {"                mean=config.mean,\n": ""}),
        edit("estimator-ignored", "`config.kl` does not reach the loss.", {"                kl=config.kl,\n": ""}),
        edit("clip-ignored", "`config.clip` does not reach the loss.", {"clip=config.clip,\n                "
             "clip_high": "clip=0.2,\n"
             "                clip_high"}),
        edit("metrics-of-shaped-rewards", "Which groups have no signal is asked of the rewards with the KL in them: no two of "
             "those are equal. Ask it of what the answers earned.", {METRICS: METRICS.replace("rewards,", "paid,")}),
        edit("metrics-of-the-first", "The figures are those of the first update, where every ratio is 1: what you want to see "
             "is how far the last one had gone.", {METRICS: METRICS.replace("log_probs, old_log_probs", "old_log_probs, "
             "old_log_probs")}),
        edit("kl-per-token", "The KL that is logged is a mean over tokens. It is added up over each completion first: nats a "
             "completion, as in lesson 10.", {"(old_log_probs - ref_log_probs).sum(dim=1).mean()": "(old_log_probs - "
             "ref_log_probs).sum() / mask.sum()"}),
    ]  # fmt: skip


@check("train", points=0.5, section="15.8")
class TheLoopRefuses(Refuses):
    probe = "train_refuses"

    def cases(self, rng):
        batches = [scripted(rng, 2, 2, 2, 3, False)]
        yield {"argument": "loop.reference", "weights": 0.4 * rng.normal(size=SIZE), "batches": batches,
               "settings": {"group_size": 2, "new_tokens": 3, "kl_coef": 0.1}}  # fmt: skip

    mistakes = [
        edit("no-reference", "A price of KL went through without a reference.", {"    require_reference(loop, config)\n": ""}),
    ]
