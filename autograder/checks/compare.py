"""Comparing what came with what was expected, and saying the difference in a sentence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def difference(got: Any, expected: Any, tolerance: float, where: str = "") -> str | None:
    """None if `got` equals `expected` up to `tolerance` (absolute and relative), else one sentence that names the first difference.

    Both are what the wire carries: dicts, lists, strings, numbers, None and NumPy arrays. Lists of numbers and arrays
    compare with each other. NaN equals NaN and inf equals inf of the same sign only where one was expected.
    """
    if isinstance(expected, dict):
        return _dict_difference(got, expected, tolerance, where)
    if _is_numeric(expected):
        return _numeric_difference(got, expected, tolerance, where)
    if isinstance(expected, (list, tuple)):
        return _list_difference(got, expected, tolerance, where)
    if type(got) is not type(expected) or got != expected:
        return f"{_name(where)}: expected {describe(expected)}, received {describe(got)}"
    return None


def _dict_difference(got, expected, tolerance, where):
    if not isinstance(got, dict):
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
    if not isinstance(got, (list, tuple)):
        return f"{_name(where)}: expected {describe(expected)}, received {describe(got)}"
    if len(got) != len(expected):
        return f"{_name(where)}: expected {len(expected)} entries, received {len(got)}"
    for i, (mine, theirs) in enumerate(zip(got, expected)):
        found = difference(mine, theirs, tolerance, f"{where}[{i}]")
        if found:
            return found
    return None


def _numeric_difference(got, expected, tolerance, where):
    if not _is_numeric(got):
        return f"{_name(where)}: expected {describe(expected)}, received {describe(got)}"
    mine, truth = np.asarray(got), np.asarray(expected)
    if mine.shape != truth.shape:
        return f"{_name(where)}: expected shape {shape(truth)}, received shape {shape(mine)}"
    if (mine.dtype.kind == "b") != (truth.dtype.kind == "b"):
        return f"{_name(where)}: expected {kind(truth)}, received {kind(mine)}"
    if truth.dtype.kind == "b":
        return None if np.array_equal(mine, truth) else f"{_name(where)}: {_first(mine != truth, mine, truth)}"
    mine, truth = mine.astype(np.float64), truth.astype(np.float64)
    if np.isnan(mine).any() and not np.isnan(truth).any():
        return f"{_name(where)}: NaN at {_index(np.isnan(mine))}, expected {describe(expected)}"
    with np.errstate(invalid="ignore", over="ignore"):
        close = np.abs(mine - truth) <= tolerance * (1 + np.abs(truth))
    same = close | (mine == truth) | (np.isnan(mine) & np.isnan(truth))
    same &= ~(np.isinf(truth) & (mine != truth))
    return None if same.all() else f"{_name(where)}: {_first(~same, mine, truth)}"


def _is_numeric(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    if isinstance(value, (bool, int, float, np.generic)):
        return True
    if isinstance(value, (list, tuple)) and len(value) > 0:
        return all(isinstance(v, (int, float, np.generic)) and not isinstance(v, bool) for v in value)
    return False


def _first(differs, mine, truth):
    if mine.ndim == 0:
        return f"expected {number(truth)}, received {number(mine)}"
    at = tuple(int(i) for i in np.argwhere(differs)[0])
    more = int(differs.sum()) - 1
    tail = f" (and {more} more of {mine.size})" if more else ""
    return f"at [{', '.join(map(str, at))}] expected {number(truth[at])}, received {number(mine[at])}{tail}"


def _index(flags):
    at = np.argwhere(flags)[0] if flags.ndim else ()
    return "[" + ", ".join(str(int(i)) for i in at) + "]" if flags.ndim else "the value"


def _join(where, key):
    return f"{where}.{key}" if where else str(key)


def _name(where):
    return f"`{where}`" if where else "the answer"


def number(value) -> str:
    """A number as a person would write it: enough digits to see a difference."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, bool) or isinstance(value, int):
        return str(value)
    return str(value) if math.isnan(value) or math.isinf(value) else f"{value:.6g}"


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
