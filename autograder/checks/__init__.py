"""What is asked and what is true: the grader's side of the border. Nothing here ever enters a process that runs student code.

One module a lesson, `checks/toy/word_agent.py` beside `probes/toy/word_agent.py`. A check is a class:

    @check("Baseline.update", points=2, section="3.4")
    class RunningMean(Check):
        probe = "baseline_trace"                    # a function of autograder.probes.toy.word_agent
        tolerance = 1e-9                            # float64 sums of at most 100 scores
        def cases(self, rng):                       # smallest first: the first one that fails is shown
            yield {"scores": np.array([1.0])}
        def truth(self, scores):                    # left out: the probe is run on the reference solution
            return {"means": [0.0, *(np.cumsum(scores) / np.arange(1, len(scores) + 1))]}
        @mistake("last-score-only", "`get` gives back the newest score; the baseline is the mean of all of them.")
        def last_score(self, scores):               # the answer of a learner who makes this mistake
            return {"means": [0.0, *scores]}
        mistakes = [                                # or: the edit of the reference that makes it
            edit("forgets-count", "`count` never grows.", {"self.count += 1": "pass"}),
        ]

Check modules import NumPy at most (torch and SciPy inside the methods that need them), so that listing the course is instant.
"""

from .vocabulary import Check, Edit, Mistake, check, checks_in, edit, mistake

__all__ = ["Check", "Edit", "Mistake", "check", "checks_in", "edit", "mistake"]
