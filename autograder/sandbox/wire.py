"""What crosses the border: named values as JSON plus safetensors, in length-prefixed frames. No pickle, no classes.

A value is None, a bool, a number, a string, a list, a dict with string keys, or an array. Arrays leave as safetensors and
leave a placeholder, {"$tensor": name}, in the JSON. What cannot be carried (a sparse or complex tensor, an object) is sent
as a short description under "$odd", so that the message can say what came. Keys of a value's own dicts that begin with "$"
travel with a second one.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import safetensors.numpy

MAX_BYTES = 4 * 1024 * 1024  # of one check's outputs; checked before anything is parsed
MAX_FRAME = 16 * MAX_BYTES  # of any frame, the grader's own too
MAX_FRAMES = 10_000  # that are read of one stream
MAX_TENSORS = 4096
MAX_DEPTH = 32
INTEGERS = range(-(2**63), 2**64)  # what int64 and uint64 hold
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
    """The values of the first frame of `stream`, and what follows it. Raises WireError as `decode` does."""
    values, end = _take_at(stream, 0)
    return values, stream[end:]


def _take_at(stream: bytes, start: int) -> tuple[dict[str, Any], int]:
    """The values of the frame that begins at `start`, and where it ends."""
    if len(stream) - start < _HEAD.size:
        raise WireError("cut short")
    text_length, packed_length = _HEAD.unpack_from(stream, start)
    middle = start + _HEAD.size + text_length
    end = middle + packed_length
    if end - start > MAX_FRAME:
        raise WireError(f"a frame larger than {MAX_FRAME >> 20} MiB")
    if len(stream) < end:
        raise WireError("cut short")
    try:
        tree = json.loads(stream[start + _HEAD.size : middle])
        tensors = _tensors(bytes(stream[middle:end]))
        values = _restore(tree, tensors, 0)
    except WireError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, MemoryError, safetensors.SafetensorError) as error:
        raise WireError(f"not a frame: {type(error).__name__}") from None
    if not isinstance(values, dict):
        raise WireError("not a frame: no names")
    return values, end


def frames(stream: bytes) -> list[dict[str, Any]]:
    """Every whole frame of `stream`; what follows the last whole one is dropped (a child may die while writing)."""
    found, at = [], 0
    while at < len(stream) and len(found) < MAX_FRAMES:
        try:
            values, at = _take_at(stream, at)
        except WireError:
            break
        found.append(values)
    return found


def _flatten(value: Any, tensors: dict[str, np.ndarray], depth: int) -> Any:
    if depth > MAX_DEPTH:
        return {"$odd": "something nested too deeply"}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        value = value.item()
    if isinstance(value, str):
        return str.__str__(value)  # np.str_, which np.random.choice gives back, is one
    if value is None or type(value) in (bool, int, float):
        return value if type(value) is not int or value in INTEGERS else {"$odd": "an integer beyond 64 bits"}
    if isinstance(value, dict):
        return {_escaped(str(k)): _flatten(v, tensors, depth + 1) for k, v in value.items()}
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
            return {"$odd": f"an array of dtype {array.dtype}"[:200]}
        if array.nbytes > MAX_FRAME:  # a broadcast array can claim any size
            return {"$odd": f"an array of dtype {array.dtype} and shape {array.shape}, larger than {MAX_FRAME >> 20} MiB"}
        return np.ascontiguousarray(array).reshape(array.shape)  # ascontiguousarray turns 0-d into 1-d
    if hasattr(value, "detach") and hasattr(value, "layout"):
        try:
            return _of_tensor(value)
        except (TypeError, RuntimeError, AttributeError):  # it only looks like one: a module, an object of the learner's
            pass
    return {"$odd": f"an object of type {type(value).__name__}"}


def _of_tensor(value: Any) -> np.ndarray | dict:
    if getattr(value, "is_nested", False):  # has no shape
        return {"$odd": "a nested tensor"}
    words = f"tensor of dtype {value.dtype} and shape {tuple(value.shape)}"
    if value.is_meta or "strided" not in str(value.layout):
        return {"$odd": f"a {'meta' if value.is_meta else str(value.layout).removeprefix('torch.')} {words}"}
    if value.numel() * value.element_size() > MAX_BYTES:
        return {"$odd": f"a {words}, larger than {MAX_BYTES >> 20} MiB"}
    try:
        return _as_array(value.detach().cpu().resolve_conj().resolve_neg().numpy())
    except (TypeError, RuntimeError):
        return {"$odd": f"a {words}"}


def _tensors(packed: bytes) -> dict[str, np.ndarray]:
    if not packed:
        return {}
    if len(packed) < 8:
        raise WireError("hostile tensor header")
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
        return {_printable(k[k.startswith("$$") :]): _restore(v, tensors, depth + 1) for k, v in tree.items()}
    if isinstance(tree, str):
        return _printable(tree)
    if type(tree) is int and tree not in INTEGERS:
        raise WireError("an integer beyond 64 bits")
    return tree


def _escaped(key: str) -> str:
    return "$" + key if key.startswith("$") else key


def _printable(text: str) -> str:
    """Text that every terminal and file takes: lone surrogates become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
