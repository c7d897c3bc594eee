"""Winnowing: the fingerprints of a file, without those of what everybody was given.

Tokens, the choice of fingerprints and the language are copydetect's (names become V, texts S, comments and space nothing, so that
renaming and reformatting hide nothing). Three things are done here instead of by its `CodeFingerprint`: k-grams are hashed the
same way in every process (Python's own hashes of texts are salted, and with them the fingerprints chosen would change from run to
run); what is boilerplate is every k-gram of it, not only those that winnowing happened to choose; and where a place of the tokens
lies in the source is read from offsets that never decrease.

Source: Schleimer, Wilkerson and Aiken, "Winnowing: Local Algorithms for Document Fingerprinting", SIGMOD 2003.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

K = 40  # characters of a fingerprint, after names and texts have become single letters: about three lines
WINDOW = 11  # every match of K + WINDOW - 1 characters has a fingerprint
OWN = K // 2  # characters of a fingerprint, at least, that no boilerplate covers
LARGEST = 100_000  # characters of a file; what is longer is not compared
_BASE, _MIX = np.uint64(1_000_003), np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class Print:
    """A file's fingerprints: `hashes[i]` stands at `places[i]` of the tokens' text, in order of place."""

    source: str
    filtered: str  # names, texts and comments reduced
    hashes: np.ndarray  # (n,) int64
    places: np.ndarray  # (n,) int64
    offsets: np.ndarray  # (m, 2): from the index in `filtered` on, so many characters of the source were left out before
    own: np.ndarray  # (len(filtered),) bool: the characters that lie in no K characters of the boilerplate

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.flatnonzero(np.frombuffer(self.source.encode("utf-32-le", "replace"), np.uint32) == ord("\n"))

    def line(self, place: int) -> int:
        """The line of the source, from 0, in which a place of the tokens' text lies."""
        row = np.searchsorted(self.offsets[:, 0], place)
        left_out = self.offsets[min(row, len(self.offsets) - 1), 1] if len(self.offsets) else 0
        return int(np.searchsorted(self._ends, place + left_out))

    def without(self, usual: np.ndarray) -> Print:
        """The same file, what these hashes cover no longer its own: fingerprints of it, and of little beside it, are gone."""
        own = self.own & own_characters(self.filtered, kgrams(self.filtered), usual)
        kept = ~np.isin(self.hashes, usual) & (own_counts(own) >= OWN)[self.places]
        return replace(self, hashes=self.hashes[kept], places=self.places[kept], own=own)


def require_copydetect() -> None:
    """Raises UsageProblem, which says what to install, where copydetect is missing."""
    try:
        import copydetect  # noqa: F401
    except ModuleNotFoundError:
        from autograder.cli import UsageProblem

        raise UsageProblem(
            "comparing submissions needs copydetect, which is not installed: pip install 'climb-course[classes]'"
        ) from None


@lru_cache(maxsize=512)
def tokens(source: str) -> tuple[str, np.ndarray]:
    """(the tokens' text, its offsets) of a Python source."""
    from copydetect.utils import filter_code

    filtered, offsets = filter_code(source, "submission.py")
    offsets = np.array(offsets, np.int64).reshape(-1, 2)
    if len(offsets):
        offsets[:, 1] = np.maximum.accumulate(offsets[:, 1])
    return filtered, offsets


def kgrams(filtered: str) -> np.ndarray:
    """The hash of every K characters: (len - K + 1,) int64, the same in every process."""
    codes = np.frombuffer(filtered.encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    if len(codes) < K:
        return np.zeros(0, np.int64)
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is meant
        sums = np.zeros(len(codes) - K + 1, np.uint64)
        for offset in range(K):
            sums = sums * _BASE + codes[offset : offset + len(sums)]
        sums = (sums ^ (sums >> np.uint64(31))) * _MIX
        return (sums ^ (sums >> np.uint64(29))).view(np.int64)


def fingerprint(source: str, boilerplate: np.ndarray) -> Print:
    """The fingerprints of a source, those among `boilerplate` (sorted hashes, as `boilerplate_of` makes them) left out."""
    from copydetect.utils import winnow

    filtered, offsets = tokens(source[:LARGEST])
    hashes = kgrams(filtered)
    if len(hashes):
        chosen, places = winnow(hashes, window_size=WINDOW, remove_duplicates=False)
        own = own_characters(filtered, hashes, boilerplate)
        kept = (own_counts(own) >= OWN)[places]
        order = np.argsort(places[kept], kind="stable")
        hashes, places = chosen[kept][order], np.asarray(places, np.int64)[kept][order]
    else:
        places, own = np.zeros(0, np.int64), np.ones(len(filtered), bool)
    return Print(source[:LARGEST], filtered, hashes, places, offsets, own)


def own_characters(filtered: str, hashes: np.ndarray, boilerplate: np.ndarray) -> np.ndarray:
    """Which characters lie in no K characters of the boilerplate. hashes: those of every K characters of `filtered`."""
    edges = np.zeros(len(filtered) + 1, np.int64)
    given = np.isin(hashes, boilerplate)
    edges[: len(hashes)] += given
    edges[K : K + len(hashes)] -= given
    return np.cumsum(edges[:-1]) == 0


def own_counts(own: np.ndarray) -> np.ndarray:
    """How many of every K characters are one's own."""
    total = np.r_[0, np.cumsum(own)]
    return total[K:] - total[:-K] if len(own) >= K else np.zeros(0, np.int64)


def boilerplate_of(sources: list[str]) -> np.ndarray:
    """The hashes of every K characters in any of these sources."""
    found = [kgrams(tokens(source)[0]) for source in sources]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)
