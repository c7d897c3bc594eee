"""Lesson 1: what is asked of the einsum drills and of attention.

A drill's answer is not only its numbers but that einsum made them. `prepare` puts a recorder around `torch.einsum` and
`numpy.einsum` before the learner's file is loaded, so that `from torch import einsum` is seen as well; the probes hand on which
equations were called on which arguments. Outside a probe the recorder passes calls through and remembers nothing.
"""

import threading
from contextlib import contextmanager

import numpy as np
import torch

MOST_CALLS = 4  # one is right; that there were many more need not be told apart
MOST_CHARACTERS = 200

_now = threading.local()  # `recorder`: what the running probe of this thread listens with, if one runs


def prepare():
    """Puts the recorder in place; a second time changes nothing."""
    for owner in (torch, torch.functional, np):
        if not hasattr(owner.einsum, "recorded"):
            owner.einsum = _recorded(owner.einsum)


def _recorded(einsum):
    def recorded(*arguments, **options):
        recorder, _now.recorder = getattr(_now, "recorder", None), None  # torch.einsum may call itself: heard once
        try:
            if recorder is not None:
                recorder(arguments)
            return einsum(*arguments, **options)
        finally:
            _now.recorder = recorder

    recorded.recorded, recorded.__doc__, recorded.__name__ = einsum, einsum.__doc__, "einsum"
    return recorded


@contextmanager
def listening(tensors, scaled=False):
    """The list of einsum calls made inside, as in [{"equation": "ij,jk->ik", "operands": ["a", "b"]}].

    tensors: the arguments by name; what is none of them is called "?".
    scaled: a multiple of an argument counts as that argument.
    """
    prepare()
    calls, before = [], getattr(_now, "recorder", None)
    names = {_mark(tensor): name for name, tensor in tensors.items()}
    copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    def name_of(operand):
        if _mark(operand) in names:
            return names[_mark(operand)]
        return next((name for name, copy in copies.items() if scaled and _is_multiple(operand, copy)), "?")

    def record(arguments):
        if len(calls) < MOST_CALLS:
            equation, operands = _in_letters(arguments)
            calls.append({"equation": equation[:MOST_CHARACTERS], "operands": [name_of(o) for o in operands[:8]]})

    _now.recorder = record
    try:
        yield calls
    finally:
        _now.recorder = before


def _in_letters(arguments):
    """Both ways to call einsum as one: the equation in letters, and the operands. Index lists count A to Z, then a to z."""
    if arguments and isinstance(arguments[0], str):
        rest = arguments[1:]
        return arguments[0], list(rest[0] if len(rest) == 1 and isinstance(rest[0], (list, tuple)) else rest)
    operands, lists = list(arguments[0:-1:2]), list(arguments[1::2])
    equation = ",".join(map(_letters, lists))
    return (f"{equation}->{_letters(arguments[-1])}" if len(arguments) % 2 else equation), operands


def _letters(indices):
    try:
        return "".join("..." if i is Ellipsis else chr(65 + i if i < 26 else 71 + i) for i in indices)
    except (TypeError, ValueError):  # no index list: einsum itself will say so
        return "?"


def _mark(operand):
    """What tells one tensor from another, its views and its copies: where its numbers lie and how they are walked through."""
    try:
        if isinstance(operand, np.ndarray):
            strides = tuple(s // operand.itemsize for s in operand.strides)
            return operand.__array_interface__["data"][0], operand.shape, strides
        return operand.data_ptr(), tuple(operand.shape), operand.stride()
    except (AttributeError, RuntimeError):
        return None


def _is_multiple(operand, tensor):
    """Whether `operand` is a number times `tensor`."""
    if not isinstance(operand, (torch.Tensor, np.ndarray)) or tuple(operand.shape) != tuple(tensor.shape):
        return False
    operand = torch.as_tensor(operand).detach().to(tensor.dtype)
    factor = (operand * tensor).sum() / (tensor * tensor).sum()
    return bool(factor != 0) and torch.allclose(operand, factor * tensor)


def drill(name):
    """The probe of one drill: the case's tensors go in by position; out come the answer and the einsum calls that were made."""

    def probe(module, **case):
        with listening(case) as calls:
            answer = getattr(module, name)(*case.values())
        return {"answer": answer, "calls": calls}

    return probe


transpose = drill("transpose")
transpose_last_two = drill("transpose_last_two")
reverse_leading_three = drill("reverse_leading_three")
sum_over_rows = drill("sum_over_rows")
sum_over_columns = drill("sum_over_columns")
total = drill("total")
trace = drill("trace")
marginal_first = drill("marginal_first")
marginal_second = drill("marginal_second")
marginal_first_two = drill("marginal_first_two")
inner = drill("inner")
outer = drill("outer")
matvec = drill("matvec")
matrix_product = drill("matrix_product")
gram = drill("gram")
contract_ijk_ik = drill("contract_ijk_ik")
contract_4d = drill("contract_4d")
vector_times_3d = drill("vector_times_3d")
outer_many = drill("outer_many")
batch_matmul = drill("batch_matmul")
batch_matmul_swapped = drill("batch_matmul_swapped")


def attention_scores(module, q, k, scale, upstream):
    """Scores, the gradients of sum(upstream * scores), and the einsum calls."""
    return _differentiated({"q": q, "k": k}, upstream, "scores", lambda a: module.attention_scores(a["q"], a["k"], scale), True)


def attention_output(module, weights, v, upstream):
    """Weighted values, the gradients of sum(upstream * output), and the einsum calls."""
    return _differentiated({"weights": weights, "v": v}, upstream, "output", lambda a: module.attention_output(**a), False)


def _differentiated(inputs, upstream, name, call, scaled):
    leaves = {key: tensor.requires_grad_() for key, tensor in inputs.items()}
    given = {key: leaf.clone() for key, leaf in leaves.items()}  # no leaves, so that a change in place is possible, and seen
    with listening(given, scaled) as calls:
        answer = call(given)
    told = _told(name, answer, upstream, leaves)
    return {**told, "arguments_unchanged": all(torch.equal(given[k], leaves[k]) for k in leaves), "calls": calls}


def to_qkv(module, qkv, x):
    """Queries, keys and values that a head with this `qkv.weight` makes of `x`."""
    head = module.SelfAttention(x.shape[-1], qkv.shape[0] // 3).to(x.dtype)
    head.load_state_dict({"qkv.weight": qkv})
    queries, keys, values = head.to_qkv(x)
    return {"queries": queries, "keys": keys, "values": values}


def self_attention(module, qkv, x, upstream, mask=None):
    """A head's output with this weight, and the gradients of sum(upstream * output)."""
    head = module.SelfAttention(x.shape[-1], qkv.shape[0] // 3)
    return _attended(head, {"qkv.weight": qkv}, x, upstream, mask)


def multi_head(module, heads, qkv, out, x, upstream, mask=None):
    """The same for several heads."""
    layer = module.MultiHeadSelfAttention(x.shape[-1], heads, out.shape[1] // heads)
    return _attended(layer, {"qkv.weight": qkv, "out.weight": out}, x, upstream, mask)


def _attended(layer, weights, x, upstream, mask):
    layer.to(x.dtype).load_state_dict(weights)
    given, hidden = x.requires_grad_().clone(), None if mask is None else mask.clone()
    answer = layer(given) if mask is None else layer(given, mask)
    told = _told("output", answer, upstream, {"x": x, **dict(layer.named_parameters())})
    unchanged = torch.equal(given, x) and (mask is None or torch.equal(mask, hidden))
    return {**told, "arguments_unchanged": unchanged}


def _told(name, answer, upstream, leaves):
    """An answer with its dtype and the gradients of sum(upstream * answer). Not to depend on a leaf is to have gradient 0."""
    gradients = dict.fromkeys(leaves)
    if isinstance(answer, torch.Tensor) and answer.requires_grad and answer.shape == upstream.shape:
        found = torch.autograd.grad((upstream * answer).sum(), list(leaves.values()), allow_unused=True)
        gradients = dict(zip(leaves, found))
    gradients = {key: torch.zeros_like(leaves[key]) if found is None else found for key, found in gradients.items()}
    return {name: answer, "dtype": str(getattr(answer, "dtype", "none")), "gradient": gradients}
