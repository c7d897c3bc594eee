"""What was found as pages: a list of pairs and, for each, the lines that are alike side by side. Text of students stays text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.course import Course
from autograder.progress import write_whole
from autograder.reports.class_data import harmless
from autograder.reports.pages import percent, plural, rendered

from .pairs import Block, Match, Pair, Similar

AROUND = 2  # lines shown above and below what is alike
WIDEST = 200  # characters of a line
TONES = 6  # colours of blocks, in turn
MOST_NAMES = 40
INDEX = "index.html"


@dataclass(frozen=True)
class Row:
    """A line of one side: its number, text and the block it is in (its number), or a gap of lines left out."""

    number: str
    text: str
    block: int | None = None
    gap: bool = False


def write_pages(found: Similar, out: Path, title: str, course: Course | None = None) -> Path:
    """`index.html` and a page for each pair below `out`; pages of an earlier list are taken away. Returns the index."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("pair-*.html"):
        old.unlink()
    names = {lesson.file: f"{lesson.number}. {lesson.title}" for lesson in (course.lessons if course else ())}
    rows = []
    for number, pair in enumerate(found.pairs, start=1):
        file = f"pair-{number:03}.html"
        write_whole(out / file, rendered("similarity/pair_page.html.j2", **_pair(number, pair, found, names)))
        rows.append(_row(number, file, pair))
    groups = [
        {
            "file": harmless(group.file),
            "count": len(group.students),
            "students": [harmless(student) for student in group.students[:MOST_NAMES]],
            "more": max(0, len(group.students) - MOST_NAMES),
        }
        for group in found.groups
    ]
    told = f"{plural(found.students, 'submission')}, {plural(found.compared, 'file')} compared."
    text = rendered(
        "similarity/list_page.html.j2",
        title=harmless(title),
        told=told,
        pairs=rows,
        groups=groups,
        ignored=f"{found.ignored:,}",
    )
    write_whole(out / INDEX, text)
    return out / INDEX


def _row(number: int, file: str, pair: Pair) -> dict[str, Any]:
    return {
        "number": number,
        "link": file,
        "left": harmless(pair.left),
        "right": harmless(pair.right),
        "lines": pair.lines,
        "files": [
            {"name": harmless(m.file), "lines": m.lines, "left": percent(m.share("left")), "right": percent(m.share("right"))}
            for m in pair.matches
        ],
        "same": [harmless(name) for name in pair.same[:MOST_NAMES]],
    }


def _pair(number: int, pair: Pair, found: Similar, names: dict[str, str]) -> dict[str, Any]:
    files = []
    for match in pair.matches:
        left, right = sides(match)
        ours, theirs = percent(match.share("left")), percent(match.share("right"))
        shares = f"{ours} of what is the left one's own, {theirs} of the right one's"
        files.append(
            {
                "name": harmless(names.get(match.file, match.file)),
                "told": f"{plural(match.lines, 'line')}; {shares}",
                "left": left,
                "right": right,
            }
        )
    return {
        "number": number,
        "count": len(found.pairs),
        "left": harmless(pair.left),
        "right": harmless(pair.right),
        "lines": plural(pair.lines, "line"),
        "same": [harmless(name) for name in pair.same[:MOST_NAMES]],
        "files": files,
        "before": f"pair-{number - 1:03}.html" if number > 1 else "",
        "after": f"pair-{number + 1:03}.html" if number < len(found.pairs) else "",
    }


def sides(match: Match) -> tuple[list[Row], list[Row]]:
    """Both files' lines that are alike, with their neighbours; gaps between them as one row."""
    return _side(match.left.source, match.blocks, "left"), _side(match.right.source, match.blocks, "right")


def _side(source: str, blocks: list[Block], side: str) -> list[Row]:
    lines = source.split("\n")
    block_of: dict[int, int] = {}
    for number, block in enumerate(blocks):
        first, last = getattr(block, side)
        for line in range(first, last + 1):
            block_of.setdefault(line, number)
    shown = sorted({near for line in block_of for near in range(line - AROUND, line + AROUND + 1) if 0 <= near < len(lines)})
    rows: list[Row] = []
    before = -1
    for line in shown:
        if line > before + 1:
            rows.append(Row("", f"{line - before - 1} lines", gap=True))
        text = lines[line]
        rows.append(Row(str(line + 1), harmless(text if len(text) <= WIDEST else text[:WIDEST] + " ..."), block_of.get(line)))
        before = line
    if before < len(lines) - 1 and any(text.strip() for text in lines[before + 1 :]):
        rows.append(Row("", f"{len(lines) - 1 - before} lines", gap=True))
    return rows
