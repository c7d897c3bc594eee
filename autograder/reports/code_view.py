"""The lines of a submission that a verdict is about. Sources are read as lines of text and never parsed: they may be hostile."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .class_data import harmless

WIDEST = 300  # characters of a line that are shown
LONGEST = 90  # lines of one exercise
FOLDED = 7  # unchanged lines in a row that are shown in full
WHOLE = 3000  # lines of one file
_AT = re.compile(r"^at (?P<file>[\w/]+\.py), line (?P<line>\d{1,7}):", re.MULTILINE)


@dataclass(frozen=True)
class Line:
    number: int | str
    text: str
    kind: str  # "at": where it stopped; "own": not in the skeleton; "": as it was handed out; "fold": stands for several


def span_of(lines: list[str], name: str) -> tuple[int, int] | None:
    """(first, past the last) index of the lines of `Baseline.update`, told by their indentation; None if there are none."""
    start, end = 0, len(lines)
    for part in name.split("."):
        opening = re.compile(rf"(\s*)(?:async\s+def|def|class)\s+{re.escape(part)}\b")
        found = next(((n, m) for n in range(start, end) if (m := opening.match(lines[n]))), None)
        if found is None:
            return None
        start, end = found[0], _end(lines, found[0], end, len(found[1][1].expandtabs()))
    while start > 0 and lines[start - 1].strip().startswith("@"):
        start -= 1
    return start, end


def _end(lines: list[str], start: int, limit: int, depth: int) -> int:
    """Past the last line of the block that opens at `start`: up to the next line that is not deeper."""
    last, quote = start, ""
    for n in range(start, limit):
        line = lines[n]
        words = line.strip()
        if n > start and not quote and words and not words.startswith(("#", ")")):
            if len(line[: len(line) - len(line.lstrip())].expandtabs()) <= depth:
                break
        if words and not words.startswith("#"):
            last = n
        for mark in re.findall(r'"""|\'\'\'', line):
            quote = mark if not quote else "" if mark == quote else quote
    return last + 1


def stops(message: str, file: str) -> set[int]:
    """The numbers of the lines of `file` that a message says it stopped at."""
    return {int(found["line"]) for found in _AT.finditer(message) if found["file"] == file}


def shown(lines: list[str], first: int, end: int, marked: set[int], skeleton: set[str] | None) -> list[Line]:
    """Lines first to end (indices, end left out), each with what it is. `skeleton`: the lines that were handed out."""
    made = []
    for index in range(first, end):
        text = lines[index]
        own = skeleton is not None and bool(text.strip()) and text.strip() not in skeleton
        kind = "at" if index + 1 in marked else "own" if own else ""
        made.append(Line(index + 1, harmless(text if len(text) <= WIDEST else text[:WIDEST] + " ..."), kind))
    return made


def excerpt(source: str, name: str, marked: set[int], skeleton: set[str] | None) -> list[Line]:
    """The lines of one exercise; those it stopped at too where they stand elsewhere (a helper), each with its neighbours."""
    lines = source.split("\n")
    span = span_of(lines, name)
    found: list[Line] = []
    if span is not None:
        found = shown(lines, *span, marked, skeleton)
        found = (folded(found) if skeleton is not None else found)[:LONGEST]
    there = {line.number for line in found}
    for number in sorted(marked - there):
        if 1 <= number <= len(lines):
            found += shown(lines, max(0, number - 3), min(len(lines), number + 2), marked, skeleton)
    return found


def folded(lines: list[Line]) -> list[Line]:
    """Long stretches of lines as they were handed out (docstrings, most of all) as their first and last two."""
    made: list[Line] = []
    start = 0
    for end in range(1, len(lines) + 1):
        if end < len(lines) and bool(lines[end].kind) == bool(lines[start].kind):
            continue
        run = lines[start:end]
        if run[0].kind or len(run) <= FOLDED:
            made += run
        else:
            made += [*run[:2], Line("", f"... {len(run) - 4} lines as they were handed out", "fold"), *run[-2:]]
        start = end
    return made


def whole(source: str, marked: set[int], skeleton: set[str] | None) -> tuple[list[Line], int]:
    """(all lines of a file, how many were left out)."""
    lines = source.rstrip("\n").split("\n")
    return shown(lines, 0, min(len(lines), WHOLE), marked, skeleton), max(0, len(lines) - WHOLE)
