"""Cells that a spreadsheet takes for text, whatever a student is called: `=HYPERLINK(...)` as a name is a name."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Iterable

from autograder.progress import write_whole

# What a spreadsheet may begin a formula with: the four signs, their full-width forms, and the white space that some pass over.
FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def safe(cell: object) -> object:
    """A number as it is; text on one line, with an apostrophe before it where it would be taken for a formula."""
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        return cell
    text = str("" if cell is None else cell)
    risky = text.startswith(FORMULA_STARTS) or text.lstrip().startswith(FORMULA_STARTS)
    text = "".join(
        " " if character in "\t\r\n" else character for character in text if character in "\t\r\n" or character.isprintable()
    )
    return "'" + text if risky else text


def write_table(path: Path, head: list[str], rows: Iterable[list], delimiter: str = ",", bom: bool = False) -> Path:
    """Writes a CSV file, whole or not at all. Text is quoted and made safe, numbers are bare."""
    return write_whole_table(path, [[safe(cell) for cell in row] for row in [head, *rows]], delimiter, bom)


def write_whole_table(path: Path, rows: list[list], delimiter: str = ",", bom: bool = False) -> Path:
    """The same for cells that are to stay as they came: those of a learning system's own file, which it has to recognise."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n").writerows(rows)
    write_whole(path, ("\ufeff" if bom else "") + text.getvalue())
    return path


def points(value: float) -> float | int:
    """12.0 as 12, and no more than four decimals: what a gradebook shows."""
    value = round(float(value), 4)
    return int(value) if value == int(value) else value
