"""Lesson 16: scores of forecasts, against NumPy's arithmetic and against identities."""

import math

import numpy as np

from autograder.checks import Check, check, edit
from autograder.checks.compare import difference
from autograder.checks.refusals import Refuses

EXACT = 1e-12  # float64 means of at most 200 numbers of size about 1
TOWARDS = "towards = (2 * outcomes - 1) * (probabilities - 0.5)  # positive: the likelier answer came"
SHARE = "return ((1 + towards.sign()) / 2).mean()"
CLAMP = "    probabilities = probabilities.clamp(clip, 1 - clip)\n"
LOSSES = "return -torch.where(outcomes == 1, probabilities.log(), torch.log1p(-probabilities))  # one of the two: 0 * inf is NaN"
SQUARED = "return ((probabilities - outcomes) ** 2).mean()"
EDGES = "inner_edges = torch.arange(1, bins, dtype=torch.float64) / bins"
PART = "part = torch.bucketize(probabilities, inner_edges, right=True)  # an edge belongs to the part above it"
WEIGHTED = "return (table[\"count\"][held] * distance).sum() / table[\"count\"].sum()"
GAINS = "gains = math.log(2) - log_losses(probabilities, outcomes, clip)"
REACH = "reach = 1.96 * gains.std(correction=1).item() / math.sqrt(len(gains))"


def scored(value, **more):
    return {"value": value, "dtype": "torch.float64", "arguments changed": "none", **more}


def drawn(rng, n, sure=False):
    """Forecasts with three digits and what came, more often than not as forecast; with `sure`, forecasts of 0 and 1 that were "
        "right."""
    probabilities = np.round(rng.uniform(0.02, 0.98, size=n), 3)
    outcomes = (rng.random(n) < probabilities).astype(float)
    if sure:
        probabilities[:2], outcomes[:2] = [0.0, 1.0], [0.0, 1.0]
    return {"probabilities": probabilities, "outcomes": outcomes}


def losses_of(probabilities, outcomes, clip=0.0):
    given = np.where(outcomes == 1, probabilities, 1 - probabilities)
    with np.errstate(divide="ignore"):
        return -np.log(np.clip(given, clip, 1 - clip))


def table_of(probabilities, outcomes, bins):
    part = np.minimum([sum(p >= (k + 1) / bins for k in range(bins)) for p in probabilities], bins - 1)
    count = np.array([np.sum(part == k) for k in range(bins)], dtype=float)
    mean = lambda values: np.array([values[part == k].mean() if count[k] else np.nan for k in range(bins)])  # noqa: E731
    return {"count": count, "forecast": mean(probabilities), "share": mean(outcomes)}


class Scores(Check):
    """A score of some forecasts, smallest first."""

    probe = "score"
    tolerance = EXACT
    function = ""

    def cases(self, rng):
        yield {"function": self.function, "probabilities": np.array([0.8]), "outcomes": np.array([1.0])}
        yield {"function": self.function, "probabilities": np.array([0.8, 0.3, 0.4]), "outcomes": np.array([0.0, 0.0, 1.0])}
        yield {"function": self.function, "probabilities": np.array([0.0, 1.0, 0.25]), "outcomes": np.array([0.0, 1.0, 1.0])}
        yield {"function": self.function, **drawn(rng, 40, sure=True)}
        single = drawn(rng, 7)
        yield {"function": self.function, "probabilities": single["probabilities"].astype(np.float32),
               "outcomes": single["outcomes"].astype(np.int64)}  # fmt: skip

    def truth(self, function, probabilities, outcomes, **more):
        return scored(self.value(probabilities.astype(np.float64), outcomes.astype(np.float64), **more))


@check("accuracy", points=1.5, section="16.2")
class Accuracy(Scores):
    function = "accuracy"

    def cases(self, rng):
        yield from super().cases(rng)
        yield {"function": "accuracy", "probabilities": np.array([0.5, 0.5, 0.5, 0.9]), "outcomes": np.array([1.0, 0.0, 0.0,
            1.0])}

    def value(self, probabilities, outcomes):
        right = np.where(outcomes == 1, probabilities > 0.5, probabilities < 0.5)
        return np.where(probabilities == 0.5, 0.5, right).mean()

    mistakes = [
        edit("half-counts-as-yes", "A forecast of one half is counted as yes. It favours neither answer: count it one half, or "
             "the forecaster who always says 0.5 seems to know how often the answer is yes.",
             {SHARE: "return ((towards > 0) | ((towards == 0) & (outcomes == 1))).double().mean()"}),
        edit("half-counts-as-wrong", "A forecast of one half is counted as wrong. It is right as often as a coin: count it one "
             "half.",
             {SHARE: "return (towards > 0).double().mean()"}),
        edit("accuracy-of-the-mean", "This is the mean probability given to what came, not how often the likelier answer came.",
             {SHARE: "return (0.5 + towards).mean()"}),
        edit("flipped-sign", "You count the questions whose likelier answer did *not* come.", {"(2 * outcomes - 1)": "(1 - 2 * "
             "outcomes)"}),
        edit("share-of-yes", "You count how often yes was forecast; what came plays no part.",
             {TOWARDS: "towards = probabilities - 0.5"}),
    ]  # fmt: skip


@check("accuracy", points=0.5, section="16.2")
class AccuracyRefuses(Refuses):
    function = "accuracy"

    def cases(self, rng):
        good = {"probabilities": np.array([0.2, 0.7]), "outcomes": np.array([0.0, 1.0])}
        for argument, bad in (("probabilities", np.array([0.2, 1.5])), ("probabilities", np.array([np.nan, 0.5])),
                              ("probabilities", np.array([0.2])), ("outcomes", np.array([0.0, 2.0])), ("probabilities",
                                  np.array([-0.1, 0.5]))):
            yield {"function": self.function, "good": good, "argument": argument, "bad": bad}
        empty = {"probabilities": np.zeros(0), "outcomes": np.zeros(0)}
        yield {"function": self.function, "good": good, "argument": "outcomes", "bad": np.zeros((2, 1))}
        yield {"function": self.function, "good": empty | good, "argument": "outcomes", "bad": np.zeros(0)}

    mistakes = [
        edit("any-number", "A probability outside 0 to 1 went through, or one that is no number.",
             {"wrong = probabilities[~((probabilities >= 0) & (probabilities <= 1))]": "wrong = probabilities[:0]"}),
        edit("nan-slips-through", "NaN is neither below 0 nor above 1, so this comparison lets it pass.",
             {"~((probabilities >= 0) & (probabilities <= 1))": "(probabilities < 0) | (probabilities > 1)"}),
        edit("any-outcome", "An outcome that is neither 0 nor 1 went through.", {"wrong = outcomes[(outcomes != 0) & (outcomes "
             "!= 1)]": "wrong = outcomes[:0]"}),
        edit("broadcast", "Forecasts of another number than the outcomes went through: PyTorch stretched them.",
             {"if probabilities.shape != outcomes.shape:": "if probabilities.ndim != 1:"}),
    ]  # fmt: skip


@check("log_losses", points=2.5, section="16.3")
class LogLosses(Scores):
    function = "log_losses"

    def cases(self, rng):
        yield from super().cases(rng)
        yield {"function": "log_losses", "probabilities": np.array([0.0, 1.0, 0.5]), "outcomes": np.array([1.0, 0.0, 1.0])}  # inf
        for clip in (0.01, 0.2):
            yield {"function": "log_losses", **drawn(rng, 20, sure=True), "clip": clip}
        tiny = np.array([2.0**-60, 1e-300, 1e-12])  # 1 - tiny rounds to 1; the loss of no is tiny itself, and not 0
        yield {"function": "log_losses", "probabilities": tiny, "outcomes": np.array([1.0, 1.0, 0.0])}

    def value(self, probabilities, outcomes, clip=0.0):
        return losses_of(probabilities, outcomes, clip)

    mistakes = [
        edit("nan-for-the-certain", "0 times the logarithm of 0 is NaN: a forecast of 0 or 1 that was right costs 0. Pick one "
             "of the two logarithms, rather than adding both.",
             {LOSSES: "return -(outcomes * probabilities.log() + (1 - outcomes) * torch.log1p(-probabilities))"}),
        edit("log-loss-clipped", "The probabilities are clipped though nobody asked for it: who says 0 of what then comes has "
             "lost everything, and this hides it. Clip only as far as `clip` says.", {CLAMP: "    probabilities = "
                 "probabilities.clamp(max(clip, 1e-7), 1 - max(clip, 1e-7))\n"}),
        edit("clip-ignored", "`clip` has no effect.", {CLAMP: ""}),
        edit("clip-one-side", "Only the low end is clipped: a forecast of 1 for what did not come still costs inf.",
             {"probabilities.clamp(clip, 1 - clip)": "probabilities.clamp(min=clip)"}),
        edit("flipped-sign", "These are log-likelihoods; a loss is minus that.", {"return -torch.where(": "return torch.where("}),
        edit("outcomes-exchanged", "The probability of what did *not* come is scored.", {"torch.where(outcomes == 1, ":
             "torch.where(outcomes == 0, "}),
        edit("loss-of-yes-alone", "Questions that were answered no count nothing here. The forecast of no is 1 - p, and it is "
             "scored too.",
             {"torch.log1p(-probabilities))": "torch.zeros_like(probabilities))"}),
        edit("log-base-2", "These are bits. Losses here are in nats: natural logarithms.", {"return -torch.where(": "return "
             "-1.4426950408889634 * torch.where("}),
        edit("device-dtype", "Computed in float32: forecasts near 0 and 1 lose their digits.",
             {LOSSES: LOSSES.split("  #")[0].replace("probabilities.log()", "probabilities.float().log()") + ".double()"}),
    ]  # fmt: skip


@check("log_losses", points=0.5, section="16.3")
class LogLossesRefuse(Refuses):
    def cases(self, rng):
        good = {"probabilities": np.array([0.2, 0.7]), "outcomes": np.array([0.0, 1.0]), "clip": 0.1}
        for argument, bad in (("clip", 0.5), ("clip", -0.1), ("probabilities", np.array([0.2, 1.5])), ("clip", float("nan"))):
            yield {"function": "log_losses", "good": good, "argument": argument, "bad": bad}

    mistakes = [
        edit("any-clip", "A clip of one half or more went through: it leaves no forecast as it was.", {"if not 0 <= clip < "
             "0.5:": "if not 0 <= clip:"}),
    ]


@check("log_loss", points=1, section="16.3")
class LogLoss(Scores):
    function = "log_loss"

    def cases(self, rng):
        yield from super().cases(rng)
        yield {"function": "log_loss", **drawn(rng, 20, sure=True), "clip": 0.1}

    def value(self, probabilities, outcomes, clip=0.0):
        return losses_of(probabilities, outcomes, clip).mean()

    mistakes = [
        edit("sum-for-mean", "You add the losses up. The mean can be compared with ln 2, whatever the number of questions.",
             {"return log_losses(probabilities, outcomes, clip).mean()": "return log_losses(probabilities, outcomes, "
                 "clip).sum()"}),
        edit("clip-ignored", "`clip` is not passed on.",
             {"return log_losses(probabilities, outcomes, clip).mean()": "return log_losses(probabilities, outcomes).mean()"}),
        edit("median-for-mean", "The median does not feel the one forecast that went badly wrong. That is what the mean is for.",
             {"return log_losses(probabilities, outcomes, clip).mean()": "return log_losses(probabilities, outcomes, "
                 "clip).median()"}),
    ]  # fmt: skip


@check("brier_score", points=1.5, section="16.4")
class Brier(Scores):
    function = "brier_score"

    def value(self, probabilities, outcomes):
        return np.mean((probabilities - outcomes) ** 2)

    mistakes = [
        edit("twice-brier", "This is Brier's original score, which adds up yes and no: twice the one meant here.",
             {SQUARED: SQUARED.replace("return ", "return 2 * ")}),
        edit("distance-not-squared", "The distance is not squared. Without the square it pays to say 0 or 1 whatever one "
             "believes.",
             {SQUARED: "return (probabilities - outcomes).abs().mean()"}),
        edit("root-of-brier", "This is the root of the score.", {SQUARED: "return ((probabilities - outcomes) ** "
             "2).mean().sqrt()"}),
        edit("square-of-the-mean", "The mean is taken before the square: forecasts too high and too low cancel.",
             {SQUARED: "return (probabilities - outcomes).mean() ** 2"}),
    ]  # fmt: skip


@check("constant_forecasters", points=2, section="16.4")
class Constants(Check):
    probe = "constants"
    tolerance = EXACT

    def cases(self, rng):
        yield {"outcomes": np.array([1.0])}
        yield {"outcomes": np.array([1.0, 0.0, 0.0])}
        yield {"outcomes": (rng.random(30) < 0.3).astype(float)}
        yield {"outcomes": np.array([1, 1, 0, 1, 1])}

    def truth(self, outcomes):
        outcomes = outcomes.astype(float)
        said = np.stack([np.full_like(outcomes, 0.5), np.full_like(outcomes, outcomes.mean())])
        scores = np.abs(said - outcomes).mean(1)
        return {"scores": {"half": scores[0], "base_rate": scores[1]}, "said": np.stack([said, np.stack([outcomes] * 2)], axis=1),
                "arguments changed": "none"}  # fmt: skip

    @staticmethod
    def half_first(said):
        """Which of the two is asked first is nobody's concern."""
        return said[::-1] if isinstance(said, np.ndarray) and said.ndim == 3 and said[0, 0, 0] != 0.5 else said

    def judge(self, got, expected, **case):
        got, expected = ({**told, "said": self.half_first(told.get("said"))} for told in (got, expected))
        return difference(got, expected, self.tolerance)

    mistakes = [
        edit("majority-forecaster", "The base-rate forecaster says 0 or 1 here, the likelier answer. Its forecast is the share "
             "itself.",
             {"base_rate = outcomes.mean().expand_as(outcomes)": "base_rate = outcomes.mean().round().expand_as(outcomes)"}),
        edit("half-for-both", "Both forecasters say one half.",
             {"base_rate = outcomes.mean().expand_as(outcomes)": "base_rate = torch.full_like(outcomes, 0.5)"}),
        edit("share-of-no", "This is the share of no.", {"outcomes.mean().expand_as(outcomes)": "(1 - "
             "outcomes.mean()).expand_as(outcomes)"}),
        edit("names-exchanged", "The two names are exchanged.",
             {"\"half\": score(half, outcomes), \"base_rate\": score(base_rate, outcomes)":
              "\"half\": score(base_rate, outcomes), \"base_rate\": score(half, outcomes)"}),
    ]  # fmt: skip


@check("constant_forecasters", points=0.5, section="16.4")
class ConstantsRefuse(Refuses):
    def cases(self, rng):
        for bad in (np.zeros(0), np.array([0.0, 0.5]), np.zeros((2, 1))):
            yield {"function": "constant_forecasters", "good": {"outcomes": np.array([0.0, 1.0])}, "argument": "outcomes",
                "bad": bad}

    mistakes = [
        edit("no-question", "No question at all went through: the mean of nothing is NaN.",
             {"if outcomes.ndim != 1 or len(outcomes) == 0:": "if outcomes.ndim != 1:"}),
    ]


@check("gain_over_half", points=2.5, section="16.4")
class Gain(Check):
    probe = "numbers"
    tolerance = EXACT

    def cases(self, rng):
        yield {"function": "gain_over_half", "probabilities": np.array([0.8]), "outcomes": np.array([1.0])}
        yield {"function": "gain_over_half", "probabilities": np.array([0.8, 0.3, 0.4]), "outcomes": np.array([0.0, 0.0, 1.0])}
        yield {"function": "gain_over_half", **drawn(rng, 30)}
        yield {"function": "gain_over_half", **drawn(rng, 30, sure=True), "clip": 0.05}

    def truth(self, function, probabilities, outcomes, clip=0.0):
        gains = math.log(2) - losses_of(probabilities, outcomes, clip)
        reach = 1.96 * gains.std(ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else math.inf
        return {"value": np.array([gains.mean(), gains.mean() - reach, gains.mean() + reach]), "arguments changed": "none"}

    mistakes = [
        edit("flipped-sign", "This is the loss of the forecaster over the coin: positive where the coin is better. A gain is "
             "the other way round.",
             {GAINS: "gains = log_losses(probabilities, outcomes, clip) - math.log(2)"}),
        edit("std-for-standard-error", "The interval is that of a single question. The mean of n varies less: divide by the "
             "root of n.",
             {REACH: "reach = 1.96 * gains.std(correction=1).item()"}),
        edit("biased-std", "The standard deviation has the divisor n. The one asked for has n - 1.", {"gains.std(correction=1)":
             "gains.std(correction=0)"}),
        edit("std-is-not-variance", "This takes the variance for the standard deviation.", {"gains.std(correction=1)":
             "gains.var(correction=1)"}),
        edit("one-standard-error", "One standard error to each side is a 68% interval. 95% needs 1.96.", {"reach = 1.96 * ":
             "reach = "}),
        edit("gain-over-base-rate", "You compare with the base rate of these outcomes. The coin says one half.",
             {GAINS: "gains = log_loss(outcomes.double().mean().expand_as(outcomes), outcomes) - log_losses(probabilities, "
                 "outcomes, clip)"}),
        edit("clip-ignored", "`clip` is not passed on.", {GAINS: "gains = math.log(2) - log_losses(probabilities, outcomes)"}),
    ]  # fmt: skip


@check("calibration_table", points=3, section="16.5")
class Table(Check):
    probe = "parts"
    tolerance = EXACT

    def cases(self, rng):
        name = {"function": "calibration_table"}
        yield {**name, "probabilities": np.array([0.1, 0.9, 0.8]), "outcomes": np.array([0.0, 1.0, 0.0]), "bins": 2}
        yield {**name, "probabilities": np.array([0.0, 0.25, 0.5, 0.75, 1.0]), "outcomes": np.array([0.0, 1.0, 0.0, 1.0, 1.0]),
            "bins": 4}
        yield {**name, **drawn(rng, 200, sure=True), "bins": 10}
        yield {**name, **drawn(rng, 6), "bins": 1}
        yield {**name, "probabilities": np.arange(11) / 10, "outcomes": (rng.random(11) < 0.5).astype(float)}
        yield {**name, "probabilities": np.array([0.6, 0.62]), "outcomes": np.array([1, 0]), "bins": 5}

    def truth(self, function, probabilities, outcomes, bins=10):
        return {"parts": table_of(probabilities, outcomes.astype(float), bins), "arguments changed": "none"}

    mistakes = [
        edit("ece-edges", "A forecast of exactly 1 (or of exactly 0) is in no part. The counts must add up to the number of "
             "forecasts.",
             {PART: PART.split("  #")[0] + "\n    keep = (probabilities < 1)\n    probabilities, outcomes, part = "
                 "probabilities[keep], outcomes[keep], part[keep]"}),
        edit("edges-below", "An edge is put into the part below it. Here the lower edge belongs to a part and the upper one "
             "does not.",
             {PART: "part = torch.bucketize(probabilities, inner_edges, right=False)"}),
        edit("middle-for-mean", "The middle of the part is told for the mean of the forecasts in it. They need not lie evenly.",
             {"forecast = empty.index_add(0, part, probabilities) / count  # 0 / 0 is NaN":
              "forecast = ((torch.arange(bins) + 0.5) / bins).double().where(count > 0, math.nan)"}),
        edit("empty-is-zero", "A part without forecasts is told to have a share of 0, as if no had come there. Nothing came: "
             "NaN.",
             {"share = empty.index_add(0, part, outcomes) / count": "share = (empty.index_add(0, part, outcomes) / "
                 "count).nan_to_num(0.0)"}),
        edit("confidence-folded", "You have sorted by the confidence in the likelier answer, which folds 0.1 onto 0.9. Sort by "
             "the probability of yes.",
             {PART: "part = torch.bucketize(torch.maximum(probabilities, 1 - probabilities), inner_edges, right=True)"}),
        edit("share-of-right", "This is the share of forecasts on the right side. The table's share is how often the answer was "
             "yes.",
             {"empty.index_add(0, part, outcomes) / count": "empty.index_add(0, part, ((probabilities > 0.5) == (outcomes == "
                 "1)).double()) / count"}),
        edit("equal-counts", "The parts hold equally many forecasts here (quantiles). Asked for are parts of equal width.",
             {PART: "part = (probabilities.argsort().argsort() * bins / len(probabilities)).long()"}),
    ]  # fmt: skip


@check("calibration_table", points=0.5, section="16.5")
class TableRefuses(Refuses):
    def cases(self, rng):
        good = {"probabilities": np.array([0.2, 0.7]), "outcomes": np.array([0.0, 1.0]), "bins": 2}
        for argument, bad in (("bins", 0), ("bins", -3), ("probabilities", np.array([0.2, 1.5]))):
            yield {"function": "calibration_table", "good": good, "argument": argument, "bad": bad}

    mistakes = [edit("no-parts", "No part at all went through.", {"if bins < 1:": "if bins < -9:"})]


@check("expected_calibration_error", points=2, section="16.5")
class CalibrationError(Scores):
    function = "expected_calibration_error"

    def cases(self, rng):
        name = {"function": self.function}
        yield {**name, "probabilities": np.array([0.1, 0.9, 0.8]), "outcomes": np.array([0.0, 1.0, 0.0]), "bins": 2}
        yield {**name, **drawn(rng, 200, sure=True)}
        yield {**name, **drawn(rng, 60), "bins": 5}
        yield {**name, **drawn(rng, 9), "bins": 1}
        yield {**name, "probabilities": np.array([1.0, 0.0]), "outcomes": np.array([1.0, 0.0])}

    def value(self, probabilities, outcomes, bins=10):
        table = table_of(probabilities, outcomes, bins)
        held = table["count"] > 0
        return np.sum((table["count"] * np.abs(table["forecast"] - table["share"]))[held]) / len(outcomes)

    mistakes = [
        edit("parts-weighted-alike", "Every part counts the same here. Weight each by the number of forecasts it holds.",
             {WEIGHTED: "return distance.mean()"}),
        edit("signed-distance", "Without the absolute value, too high in one part makes up for too low in another.",
             {"[held].abs()": "[held]"}),
        edit("largest-distance", "This is the largest distance, the *maximum* calibration error. The expected one is the "
             "weighted mean.",
             {WEIGHTED: "return distance.max()"}),
        edit("squared-distance", "The distances are squared: that is the reliability of the Brier score.", {"[held].abs()":
             "[held] ** 2"}),
        edit("nan-from-empty", "A part without forecasts brings NaN in. It has weight 0: leave it out.",
             {"held = table[\"count\"] > 0": "held = table[\"count\"] >= 0"}),
    ]  # fmt: skip


@check("brier_parts", points=2.5, section="16.6")
class Parts(Check):
    probe = "parts"
    tolerance = EXACT

    def cases(self, rng):
        name = {"function": "brier_parts"}
        yield {**name, "probabilities": np.array([0.8, 0.8, 0.2]), "outcomes": np.array([1.0, 0.0, 0.0])}
        yield {**name, "probabilities": rng.integers(0, 5, size=40) / 4, "outcomes": (rng.random(40) < 0.4).astype(float)}
        yield {**name, "probabilities": np.full(10, 0.5), "outcomes": (rng.random(10) < 0.5).astype(float)}
        yield {**name, **drawn(rng, 12)}

    def truth(self, function, probabilities, outcomes):
        n, overall = len(outcomes), outcomes.mean()
        groups = [(p, outcomes[probabilities == p]) for p in set(probabilities)]
        parts = {"reliability": sum(len(o) / n * (p - o.mean()) ** 2 for p, o in groups),
                 "resolution": sum(len(o) / n * (o.mean() - overall) ** 2 for _, o in groups),
                 "uncertainty": overall * (1 - overall)}  # fmt: skip
        return {"parts": parts, "arguments changed": "none"}

    mistakes = [
        edit("groups-weighted-alike", "Every group counts the same here. Weight each by its number of questions.",
             {"weight, overall = count.double() / len(outcomes), outcomes.mean()": "weight, overall = 1 / len(said), outcomes.mean()"}),
        edit("names-exchanged", "Reliability and resolution are exchanged: the first is about what was said, the second about "
             "what was seen.",
             {"\"reliability\": (weight * (said - seen)": "\"reliability\": (weight * (seen - overall)",
              "\"resolution\": (weight * (seen - overall)": "\"resolution\": (weight * (said - seen)"}),
        edit("resolution-of-the-forecasts", "Resolution asks how far the *shares* of the groups differ from the overall share, "
             "not the forecasts.",
             {"(weight * (seen - overall) ** 2)": "(weight * (said - overall) ** 2)"}),
        edit("uncertainty-is-one-half", "Uncertainty is that of these outcomes, o (1 - o), and one quarter only where half of "
             "them are yes.",
             {"overall * (1 - overall)": "overall * 0 + 0.25"}),
    ]  # fmt: skip
