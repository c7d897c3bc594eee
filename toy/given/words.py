"""The six words, their scores and the critic (lesson 3). Given code: used as it is."""

from __future__ import annotations

WORDS = ("happy", "joyful", "pleasant", "sad", "angry", "unpleasant")
SCORES = (1.0, 1.0, 1.0, -1.0, -1.0, -1.0)
POSITIVE = (0, 1, 2)  # the indices of the words with a positive score
START = 6  # "nothing said yet": what an agent reads before its first word, never a word it says


class Critic:
    """The reward of a word: `critic(0)` is +1.0 for "happy", `critic(3)` is -1.0 for "sad".

    shift: added to every score. With shift=2.0 the words earn 3 and 1: the same task, with rewards that are all positive.
    Raises ValueError for an index that is not one of the six words.
    """

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift

    def __call__(self, word: int) -> float:
        if not 0 <= word < len(WORDS):
            raise ValueError(f"word: expected an index from 0 to {len(WORDS) - 1}, received {word}")
        return SCORES[word] + self.shift
