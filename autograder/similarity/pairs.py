"""From fingerprints to pairs: who shares what few share. Only pairs that share something are ever looked at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations
from typing import Callable, Mapping

import numpy as np

from .fingerprints import K, Print, fingerprint, kgrams

COMMON = 10  # a fingerprint of more students than these (or than a twentieth of the class) is how it is usually written
COMMON_SHARE = 0.05
FEWEST_LINES = 5  # matching lines that a pair must have to be listed
CANDIDATES = 4  # pairs whose lines are looked at for each one that is listed


@dataclass(frozen=True)
class Block:
    """A stretch of both files that is alike: first and last line, from 0."""

    left: tuple[int, int]
    right: tuple[int, int]


@dataclass
class Match:
    """One exercise file of a pair."""

    file: str
    left: Print
    right: Print
    blocks: list[Block]

    @property
    def lines(self) -> int:
        """Lines that match, on the side that has fewer of them."""
        return min(len(lines_of(self.blocks, "left")), len(lines_of(self.blocks, "right")))

    def share(self, side: str) -> float:
        """How much of what is one's own in the file is alike, by fingerprints."""
        ours, theirs = (self.left, self.right) if side == "left" else (self.right, self.left)
        return float(np.isin(ours.hashes, theirs.hashes).mean()) if len(ours.hashes) else 0.0


@dataclass
class Pair:
    """Two students, and every file in which they are alike. `same`: others whose file is the same as one of theirs."""

    left: str
    right: str
    matches: list[Match] = field(default_factory=list)
    same: list[str] = field(default_factory=list)

    @property
    def lines(self) -> int:
        return sum(match.lines for match in self.matches)


@dataclass
class Group:
    """Students whose file is the same, names of variables, comments and space aside, and not the reference's."""

    file: str
    students: list[str]
    print: Print


@dataclass
class Similar:
    """What was found. `compared`: files looked at; `ignored`: fingerprints left out since many share them."""

    pairs: list[Pair]
    groups: list[Group]
    students: int
    compared: int
    ignored: int
    cut: list[str] = field(default_factory=list)  # files too long to be compared whole


def lines_of(blocks: list[Block], side: str) -> set[int]:
    return {line for block in blocks for line in range(getattr(block, side)[0], getattr(block, side)[1] + 1)}


def similar(
    submissions: Mapping[str, Mapping[str, str]],
    boilerplate: Mapping[str, np.ndarray],
    most: int = 100,
    step: Callable[[str], None] = lambda file: None,
) -> Similar:
    """The pairs that share most lines which few others have, the most alike first.

    submissions: {student: {"toy/word_agent.py": source}}.  boilerplate: {file: hashes that are everybody's}; files without an
    entry are not compared.  most: pairs that are listed.  step(file): after each file.
    """
    common = max(COMMON, int(COMMON_SHARE * len(submissions)))
    shared: Counter[tuple[str, str]] = Counter()
    prints: dict[str, dict[str, Print]] = {}
    same_as: dict[str, dict[str, list[str]]] = {}  # file: {student: others with the same text}
    groups: list[Group] = []
    compared, ignored = 0, 0
    for file in sorted(boilerplate):
        by_text: dict[str, list[str]] = {}
        found: dict[str, Print] = {}
        for student, files in submissions.items():
            if file in files:
                made = fingerprint(files[file], boilerplate[file])
                compared += 1
                if len(made.hashes):  # else all of it was handed out
                    by_text.setdefault(made.filtered, []).append(student)
                    found.setdefault(by_text[made.filtered][0], made)
        for alike in by_text.values():
            if len(alike) > 1:
                groups.append(Group(file, alike, found[alike[0]]))
        usual = _usual(found, common)
        ignored += len(usual)
        if len(usual):
            found = {student: made.without(usual) for student, made in found.items()}
        shared += _shared(found, common)
        prints[file], same_as[file] = found, {alike[0]: alike[1:] for alike in by_text.values()}
        step(file)
    pairs = [_pair(left, right, prints, same_as) for (left, right), _ in shared.most_common(CANDIDATES * most)]
    pairs = [pair for pair in pairs if pair.lines >= FEWEST_LINES]
    pairs.sort(key=lambda pair: (-pair.lines, pair.left, pair.right))
    groups.sort(key=lambda group: (-len(group.students), group.file, group.students))
    return Similar(pairs[:most], groups, len(submissions), compared, ignored)


def _owners(found: Mapping[str, Print]) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(students, hashes in order, whose each is (its number), where each distinct hash starts, how many have it).

    Of the fingerprints of all, who has one is who has those K characters anywhere: near the edge of a copied stretch winnowing
    chooses now this one, now that.
    """
    students = sorted(found)
    chosen = np.unique(np.concatenate([found[student].hashes for student in students]))
    owned = [np.unique(every[np.isin(every, chosen)]) for every in (kgrams(found[student].filtered) for student in students)]
    hashes = np.concatenate(owned)
    owners = np.repeat(np.arange(len(students)), [len(part) for part in owned])
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    starts = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]])[: len(hashes)]
    return students, hashes, owners, starts, np.diff(np.r_[starts, len(hashes)])


def _usual(found: Mapping[str, Print], common: int) -> np.ndarray:
    """The fingerprints that more than `common` files have."""
    if len(found) <= common:
        return np.zeros(0, np.int64)
    _, hashes, _, starts, sizes = _owners(found)
    return hashes[starts[sizes > common]]


def _shared(found: Mapping[str, Print], common: int) -> Counter:
    """{(student, student): fingerprints that both have and at most `common` in all}."""
    counts: Counter[tuple[str, str]] = Counter()
    if len(found) < 2:
        return counts
    students, _, owners, starts, sizes = _owners(found)
    rare = (sizes > 1) & (sizes <= common)
    for start, size in zip(starts[rare].tolist(), sizes[rare].tolist()):
        counts.update(combinations([students[owner] for owner in owners[start : start + size].tolist()], 2))
    return counts


def _pair(left: str, right: str, prints: dict, same_as: dict) -> Pair:
    pair = Pair(left, right)
    others: set[str] = set()
    for file, found in prints.items():
        if left in found and right in found:
            blocks = blocks_of(found[left], found[right])
            if blocks:
                pair.matches.append(Match(file, found[left], found[right], blocks))
                others |= {*same_as[file].get(left, ()), *same_as[file].get(right, ())}
    pair.matches.sort(key=lambda match: (-match.lines, match.file))
    pair.same = sorted(others - {left, right})
    return pair


def _lines(made: Print, start: int, end: int) -> tuple[int, int]:
    """First and last line of a stretch of tokens; what was handed out at its ends does not count."""
    own = np.flatnonzero(made.own[start:end])
    return made.line(start + int(own[0])), made.line(start + int(own[-1]))


def blocks_of(left: Print, right: Print) -> list[Block]:
    """The stretches in which two files are alike, in the order of the left one; fingerprints that follow each other make one."""
    where: dict[int, list[int]] = {}
    for value, place in zip(right.hashes.tolist(), right.places.tolist()):
        where.setdefault(value, []).append(place)
    runs: list[list[int]] = []  # left start, left end, right start, right end
    for value, here in zip(left.hashes.tolist(), left.places.tolist()):
        for there in where.get(value, ())[:8]:
            last = next(
                (r for r in reversed(runs[-8:]) if 0 <= here - r[1] + K <= 2 * K and 0 <= there - r[3] + K <= 2 * K), None
            )
            if last is None:
                runs.append([here, here + K, there, there + K])
            else:
                last[1], last[3] = max(last[1], here + K), max(last[3], there + K)
    blocks = []
    for start, end, other_start, other_end in runs:
        blocks.append(Block(_lines(left, start, end), _lines(right, other_start, other_end)))
    return sorted(set(blocks), key=lambda block: (block.left, block.right))
