"""Lesson 3: what is true of the word agent."""

import numpy as np

from autograder.checks import Check, check, edit, mistake


@check("Baseline.update", points=2, section="3.4")
class RunningMean(Check):
    probe = "baseline_trace"
    tolerance = 1e-9  # float64 sums of at most 100 scores

    def cases(self, rng):
        yield {"scores": np.array([1.0])}
        yield {"scores": rng.choice([-1.0, 1.0], size=100)}

    def truth(self, scores):
        return {"means": [0.0, *(np.cumsum(scores) / np.arange(1, len(scores) + 1))]}

    @mistake("last-score-only", "`get` gives back the newest score; the baseline is the mean of all of them.")
    def last_score(self, scores):
        return {"means": [0.0, *scores]}

    mistakes = [edit("forgets-count", "`count` never grows, so the mean is never taken.", {"self.count += 1": "self.count = 1"})]
