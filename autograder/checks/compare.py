"""Comparing what came with what was expected, and saying the difference in a sentence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def difference(got: Any, expected: Any, tolerance: float, where: str = "") -> str | None:
    """None if `got` equals `expected` up to `tolerance` (absolute and relative), else a sentence that names the first difference.

    Both are what the wire carries: dicts, lists, strings, numbers, None and NumPy arrays. Lists of numbers, nested ones too, and
    arrays compare with each other, by shape and value; booleans are no numbers. NaN equals NaN and inf equals inf of the same
    sign, only where one was expected. Where both are integers (token ids, counts) they must be the same.
    """
    if isinstance(expected, dict):
        return _dict_difference(got, expected, tolerance, where)
    numbers = _as_numbers(expected)
    if numbers is not None:
        return _numeric_difference(got, numbers, tolerance, where)
    if isinstance(expected, (list, tuple)):
        return _list_difference(got, expected, tolerance, where)
    if type(got) is not type(expected) or got != expected:
        return f"{_name(where)}: expected {describe(expected)}, received {describe(got)}"
    return None


def _dict_difference(got, expected, tolerance, where):
    if not isinstance(got, dict) or ("$odd" in got and "$odd" not in expected):
        return f"{_name(where)}: expected {describe(expected)}, received {describe(got)}"
    for key in expected:
        if key not in got:
            return f"{_name(_join(where, key))}: missing"
        found = difference(got[key], expected[key], tolerance, _join(where, key))
        if found:
            return found
    extra = sorted(set(map(str, got)) - set(map(str, expected)))
    return f"{_name(where)}: not asked for: {', '.join(extra)[:200]}" if extra else None


def _list_difference(got, expected, tolerance, where):
    if isinstance(got, np.ndarray) and got.ndim:
        got = list(got)
    if not isinstance(got, (list, tuple)):
        return f"{_name(where)}: expected {describe(expected)}, received {describe(got)}"
    if len(got) != len(expected):
        return f"{_name(where)}: expected {len(expected)} entries, received {len(got)}"
    for i, (mine, theirs) in enumerate(zip(got, expected)):
        found = difference(mine, theirs, tolerance, f"{where}[{i}]")
        if found:
            return found
    return None


def _numeric_difference(got, truth, tolerance, where):
    mine = _as_numbers(got)
    if mine is None:
        return f"{_name(where)}: expected {describe(truth)}, received {describe(got)}"
    if mine.shape != truth.shape:
        return f"{_name(where)}: expected shape {shape(truth)}, received shape {shape(mine)}"
    if truth.size == 0:
        return None
    if (mine.dtype.kind == "b") != (truth.dtype.kind == "b"):
        say = kind if truth.ndim else describe
        return f"{_name(where)}: expected {say(truth)}, received {say(mine)}"
    if mine.dtype.kind in "biu" and truth.dtype.kind in "biu":
        same = mine == truth
    else:
        mine, truth = mine.astype(np.float64), truth.astype(np.float64)
        if np.isnan(mine).any() and not np.isnan(truth).any():
            return f"{_name(where)}: NaN{_at(np.isnan(mine))}, expected {describe(truth)}"
        with np.errstate(invalid="ignore", over="ignore"):
            close = np.abs(mine - truth) <= tolerance * (1 + np.abs(truth))
        finite = np.isfinite(mine) & np.isfinite(truth)
        same = (close & finite) | (mine == truth) | (np.isnan(mine) & np.isnan(truth))
    return None if same.all() else f"{_name(where)}: {_first(~same, mine, truth)}"


def _as_numbers(value: Any) -> np.ndarray | None:
    """Numbers, or booleans, as an array: of an array, a number, or lists of them nested evenly. None for anything else."""
    if isinstance(value, np.ndarray):
        return value if value.dtype.kind in "biuf" else None
    if isinstance(value, (list, tuple)):
        types = set(map(type, value))
        if types and (types <= {int, float} or types == {bool}):
            array = np.asarray(value)
            return array if array.dtype.kind in "biuf" else None  # an integer beyond 64 bits becomes an object
        parts = [_as_numbers(v) if isinstance(v, (list, tuple)) or np.ndim(v) == 0 else None for v in value]
        if any(part is None for part in parts) or len({part.shape for part in parts}) > 1:
            return None
        if len({part.dtype.kind == "b" for part in parts}) > 1:  # booleans among numbers
            return None
        return np.stack(parts) if parts else np.zeros(0)
    if isinstance(value, (bool, int, float, np.generic)):
        array = np.asarray(value)
        return array if array.dtype.kind in "biuf" else None
    return None


def _first(differs, mine, truth):
    at = tuple(int(i) for i in np.argwhere(differs)[0]) if mine.ndim else ()
    more = int(differs.sum()) - 1
    tail = f" (and {more} more of {mine.size})" if more else ""
    wanted, came = _apart(truth[at], mine[at])
    return f"{_at(differs).lstrip()}{' ' if mine.ndim else ''}expected {wanted}, received {came}{tail}"


def _apart(wanted, came) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to tell them apart."""
    for digits in (6, 9, 12, 17):
        texts = number(wanted, digits), number(came, digits)
        if texts[0] != texts[1]:
            break
    return texts


def _at(flags) -> str:
    """Where the first flag is set: " at [0, 2]", or nothing for a single number."""
    return " at [" + ", ".join(str(int(i)) for i in np.argwhere(flags)[0]) + "]" if flags.ndim else ""


def _join(where, key):
    return f"{where}.{key}" if where else str(key)


def _name(where):
    return f"`{where}`" if where else "the answer"


def number(value, digits: int = 6) -> str:
    """A number as a person would write it, with at most `digits` significant digits if it is a float."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool) or isinstance(value, int):
        return str(value)
    return str(value) if math.isnan(value) or math.isinf(value) else f"{value:.{digits}g}"


def shape(array) -> str:
    return "(" + ", ".join(map(str, array.shape)) + ("," if array.ndim == 1 else "") + ")"


def kind(array) -> str:
    return {"b": "booleans", "i": "integers", "u": "integers", "f": "floats"}.get(np.asarray(array).dtype.kind, "something else")


def describe(value: Any, limit: int = 300) -> str:
    """A value for a message: small arrays in full, large ones by shape, anything else cut at `limit` characters."""
    if isinstance(value, dict) and "$odd" in value:
        return str(value["$odd"])[:limit]
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return number(value)
        if value.size <= 24:
            text = np.array2string(value, precision=4, separator=", ", suppress_small=True, max_line_width=10_000)
            return " ".join(text.split())[:limit]
        return f"{kind(value)} of shape {shape(value)}"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return ("{" + ", ".join(f"{k}: {describe(v, 80)}" for k, v in list(value.items())[:8]) + "}")[:limit]
    if isinstance(value, (list, tuple)):
        inside = ", ".join(describe(v, 80) for v in value[:12]) + (", ..." if len(value) > 12 else "")
        return f"[{inside}]"[:limit]
    return repr(value)[:limit]
