"""Lesson 3: the word-positivity agent."""


class Baseline:
    """The running mean of all scores seen so far (eq. 3.7)."""

    def __init__(self) -> None:
        self.total_score = 0.0
        self.count = 0

    def get(self) -> float:
        """The mean of the scores so far, 0.0 before the first."""
        # BEGIN SOLUTION
        return self.total_score / self.count if self.count else 0.0
        # END SOLUTION

    def update(self, score: float) -> None:
        """Add one score to the running mean (eq. 3.7). Call it after the advantage is taken."""
        # BEGIN SOLUTION
        self.total_score += score
        self.count += 1
        # END SOLUTION
