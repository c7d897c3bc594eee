"""What crosses the border: named values as JSON plus safetensors, in length-prefixed frames. No pickle, no classes.

A value is None, a bool, a number, a string, a list, a dict with string keys, or an array. Arrays leave as safetensors and
leave a placeholder in the JSON. What cannot be carried (a sparse or complex tensor, an object) is sent as a short description
under "$odd", so that the message can say what came.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import safetensors.numpy

MAX_BYTES = 4 * 1024 * 1024  # of one check's outputs; checked before anything is parsed
MAX_TENSORS = 4096
MAX_DEPTH = 32
CARRIED = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U8", "U16", "U32", "U64", "BOOL"}
_HEAD = struct.Struct(">II")


class WireError(ValueError):
    """The bytes are not a frame: cut short, too large, too many tensors, or not what they say they are."""


def encode(values: dict[str, Any]) -> bytes:
    """One frame: the lengths of both parts, the JSON, the safetensors."""
    tensors: dict[str, np.ndarray] = {}
    text = json.dumps(_flatten(values, tensors, 0)).encode()
    packed = safetensors.numpy.save(tensors) if tensors else b""
    return _HEAD.pack(len(text), len(packed)) + text + packed


def decode(frame: bytes) -> dict[str, Any]:
    """The values of one frame. Raises WireError, and nothing else, for anything that is not one."""
    values, rest = take(frame)
    if rest:
        raise WireError("bytes after the frame")
    return values


def take(stream: bytes) -> tuple[dict[str, Any], bytes]:
    """The values of the first frame of `stream`, and what follows it."""
    if len(stream) < _HEAD.size:
        raise WireError("cut short")
    text_length, packed_length = _HEAD.unpack_from(stream)
    end = _HEAD.size + text_length + packed_length
    if len(stream) < end or end > 16 * MAX_BYTES:
        raise WireError("cut short")
    try:
        tree = json.loads(stream[_HEAD.size : _HEAD.size + text_length])
        tensors = _tensors(bytes(stream[_HEAD.size + text_length : end]))
        values = _restore(tree, tensors, 0)
    except WireError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, MemoryError, safetensors.SafetensorError) as error:
        raise WireError(f"not a frame: {type(error).__name__}") from None
    if not isinstance(values, dict):
        raise WireError("not a frame: no names")
    return values, stream[end:]


def frames(stream: bytes) -> list[dict[str, Any]]:
    """Every whole frame of `stream`; what follows the last whole one is dropped (a child may die while writing)."""
    found = []
    while stream:
        try:
            values, stream = take(stream)
        except WireError:
            break
        found.append(values)
    return found


def _flatten(value: Any, tensors: dict[str, np.ndarray], depth: int) -> Any:
    if depth > MAX_DEPTH:
        return {"$odd": "something nested too deeply"}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        value = value.item()
    if value is None or type(value) in (bool, int, float, str):
        return value if type(value) is not int or abs(value) < 2**63 else {"$odd": "an integer beyond 64 bits"}
    if isinstance(value, dict):
        return {str(k): _flatten(v, tensors, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_flatten(v, tensors, depth + 1) for v in value]
    array = _as_array(value)
    if isinstance(array, dict):
        return array
    name = str(len(tensors))
    tensors[name] = array
    return {"$tensor": name}


def _as_array(value: Any) -> np.ndarray | dict:
    """A NumPy array for tensors, arrays and NumPy scalars; a description for everything else."""
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            return {"$odd": f"an array of dtype {array.dtype}"}
        return np.ascontiguousarray(array).reshape(array.shape)  # ascontiguousarray turns 0-d into 1-d
    if hasattr(value, "detach") and hasattr(value, "layout"):
        words = f"tensor of dtype {value.dtype} and shape {tuple(value.shape)}"
        if value.is_meta or "strided" not in str(value.layout):
            return {"$odd": f"a {'meta' if value.is_meta else str(value.layout).removeprefix('torch.')} {words}"}
        if value.numel() * value.element_size() > MAX_BYTES:
            return {"$odd": f"a {words}, larger than {MAX_BYTES >> 20} MiB"}
        try:
            return _as_array(value.detach().cpu().resolve_conj().resolve_neg().numpy())
        except (TypeError, RuntimeError):
            return {"$odd": f"a {words}"}
    return {"$odd": f"an object of type {type(value).__name__}"}


def _tensors(packed: bytes) -> dict[str, np.ndarray]:
    if not packed:
        return {}
    (length,) = struct.unpack_from("<Q", packed)
    if length > len(packed) - 8:
        raise WireError("hostile tensor header")
    header = json.loads(packed[8 : 8 + length])
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise WireError("too many tensors")
    if not all(isinstance(h, dict) and h.get("dtype") in CARRIED for h in header.values()):
        raise WireError("a tensor dtype that is not carried")
    return safetensors.numpy.load(packed)


def _restore(tree: Any, tensors: dict[str, np.ndarray], depth: int) -> Any:
    if depth > MAX_DEPTH + 2:
        raise WireError("nested too deeply")
    if isinstance(tree, list):
        return [_restore(v, tensors, depth + 1) for v in tree]
    if isinstance(tree, dict):
        if set(tree) == {"$tensor"}:
            return tensors[tree["$tensor"]]
        return {k: _restore(v, tensors, depth + 1) for k, v in tree.items()}
    return tree
