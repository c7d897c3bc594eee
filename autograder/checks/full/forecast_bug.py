"""The silent bug of lesson 16: what must be true of the report, wherever and however it is mended."""

import numpy as np

from autograder.checks import Check, check, edit

EDGES = "    inner_edges = torch.arange(1, bins, dtype=torch.float64) / bins\n"
PART = "    return torch.bucketize(probabilities, inner_edges, right=True)\n"
WRONG = {EDGES: "    edges = torch.arange(bins + 1, dtype=torch.float64) / bins\n",
         PART: "    return torch.bucketize(probabilities, edges, right=True) - 1\n"}  # fmt: skip
ERROR = "    return sum(count * abs(said - seen) for count, said, seen in rows) / len(probabilities)\n"
SHARE = "    return right.double() / tries\n"
SYMPTOM = "This treats the symptom: "
CAUSE = " The cause is further up."


@check("report", points=4, section="16.8")
class EveryForecastCounts(Check):
    """Reports on tries of which none, some and all were right."""

    probe = "report"
    tolerance = 1e-12  # float64 means of at most 300 numbers of size about 1

    def cases(self, rng):
        yield {"right": np.array([8, 8, 0]), "outcomes": np.array([1.0, 0.0, 0.0]), "bins": 2}
        for count, bins in ((30, 10), (300, 10), (60, 5), (12, 1)):
            skill = 1 / (1 + np.exp(-1 - 2.5 * rng.normal(size=count)))
            yield {"right": rng.binomial(8, skill), "outcomes": (rng.random(count) < skill).astype(float), "bins": bins}

    def truth(self, right, outcomes, bins):
        told = {"errors": {}, "rows": {}}
        for name, said in (("share", right / 8), ("laplace", (right + 1) / 10)):
            part = np.array([min(sum(p >= (k + 1) / bins for k in range(bins)), bins - 1) for p in said])
            rows = [(np.sum(part == k), said[part == k].mean(),
                outcomes[part == k].mean()) for k in range(bins) if (part == k).any()]
            told["rows"][name] = np.array(rows, dtype=float)
            told["errors"][name] = sum(n * abs(p - o) for n, p, o in rows) / len(said)
        return told

    mistakes = [
        edit("bug-untouched", "The report is as quietly wrong as it was given to you. Add up the counts of the first "
             "forecaster's table: how many forecasts should it hold?", WRONG),
        edit("ece-edges-right", SYMPTOM + "the weights now add up to one, but of the forecasts that are left: those that were "
             "sure of themselves are still in no part." + CAUSE,
             WRONG | {ERROR: "    return sum(count * abs(said - seen) for count, said, seen in rows) / sum(count for count, _, "
                 "_ in rows)\n"}),
        edit("nudged-forecasts", SYMPTOM + "the forecasts themselves are changed until they fit the parts. The first "
             "forecaster says 1, and 1 is what it must be judged by." + CAUSE, WRONG | {SHARE: "    return (right.double() / "
                 "tries).clamp(max=0.999)\n"}),
        edit("one-part-more", SYMPTOM + "the forecasts of 1 now have a part of their own, apart from 0.95. The last part holds "
             "both." + CAUSE,
             WRONG | {"\n    for which in range(bins):\n": "\n    for which in range(bins + 1):\n"}),
        edit("edges-below", "Now an edge belongs to the part below it: 0 would be in none, if there were one below. A lower "
             "edge belongs to its part, as the docstring says.", {PART: PART.replace("True", "False")}),
    ]  # fmt: skip


@check("report", points=1, section="16.8")
class TheOtherWayRound(Check):
    probe = "settings"
    tolerance = 0.0  # a yes or no

    def cases(self, rng):
        yield {}

    def truth(self):
        return {"laplace is better": True}

    mistakes = [edit("bug-untouched", "The file's own report still says that the forecaster who is too sure of itself is the "
        "better one.", WRONG)]
