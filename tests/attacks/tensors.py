"""Answers of odd kinds. Right numbers in a fair wrapping pass; everything else fails with a sentence that says what came."""

from .target import Attack

WRONG = "failed"


def returns(name, expression, expect=WRONG, **more):
    return Attack(name, f"right = honest(logits)\nreturn {expression}", expect=expect, **more)


ATTACKS = [
    returns("complex", "right.to(torch.complex128)"),
    returns("complex-conjugate-view", "right.to(torch.complex128).conj()"),
    returns("meta", "torch.zeros((), device='meta')"),
    returns("sparse", "torch.ones(6, dtype=logits.dtype).to_sparse()"),
    returns("sparse-rows", "torch.ones(2, 3).to_sparse_csr()"),
    returns("quantized", "torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8)", expect=("failed", "error", "crashed")),
    returns("nested", "torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])"),
    returns("bfloat16", "right.bfloat16()"),
    returns("float8", "right.to(torch.float8_e4m3fn)"),
    returns("half", "right.half()"),
    returns("whole-number", "right.long()"),
    returns("boolean", "right > 0"),
    returns("named-dimensions", "right.expand(1).rename('x')", expect=("failed", "error")),
    returns("one-dimension-too-many", "right.reshape(1)"),
    returns("thirty-dimensions", "right.reshape((1,) * 30)"),
    returns("all-cases-at-once", "right.expand(1000)"),
    returns(
        "storage-freed",
        "(lambda t: (t.untyped_storage().resize_(0), t)[1])(torch.ones(6))",
        expect=("failed", "error", "crashed"),
    ),
    returns(
        "strides-beyond-the-storage",
        "torch.ones(2).set_(torch.ones(2).untyped_storage(), 1, (1,), (1 << 40,)).expand(2)",
    ),
    returns(
        "memory-of-others",
        "torch.frombuffer((__import__('ctypes').c_char * 80).from_address(id(torch)), dtype=torch.float64)",
    ),
    returns("object-array", "__import__('numpy').array([object()])"),
    returns("text-array", "__import__('numpy').array(['0.5'])"),
    returns("record-array", "__import__('numpy').zeros(2, dtype=[('a', 'f8'), ('b', 'O')])"),
    returns("long-double", "__import__('numpy').longdouble(float(right))", expect=("failed", "passed")),
    returns("date", "__import__('numpy').datetime64('2026-01-01')"),
    returns("masked-array", "__import__('numpy').ma.masked"),
    returns("matrix", "__import__('numpy').matrix([[float(right)]])"),
    returns("generator", "(x for x in [right])"),
    returns("coroutine", "(lambda: (yield right))()"),
    returns("module", "torch"),
    returns("module-of-torch", "torch.nn.Linear(2, 2)"),
    returns("function", "honest"),
    returns("set", "{float(right)}"),
    returns("bytes", "b'0.5'"),
    returns("complex-number", "complex(float(right))"),
    returns("fraction", "__import__('fractions').Fraction(1, 2)"),
    returns("integer-beyond-64-bits", "1 << 100"),
    returns("integer-of-a-million-digits", "1 << 4_000_000"),
    returns("distribution", "torch.distributions.Normal(0.0, 1.0)"),
    returns("dict-with-odd-keys", "{1: right, None: right, (2, 3): right}"),
    returns("tuple-of-tensors", "(right, right)"),
    # The right number, wrapped as one may wrap it: it passes, for an exercise is judged by what it returns.
    returns("leaf-that-asks-for-a-gradient", "right.detach().clone().requires_grad_()", expect="passed"),
    returns("parameter", "torch.nn.Parameter(right.detach())", expect="passed"),
    returns("view-of-something-larger", "right.expand(7)[3]", expect="passed"),
    returns("negative-view", "torch._neg_view(-right)", expect="passed"),
    returns("harmless-subclass", "right.as_subclass(type('Mine', (torch.Tensor,), {}))", expect="passed"),
    # Left or torn in odd states, with the right answer given: the next call and the other checks see nothing of it.
    Attack("input-changed-in-place", "right = honest(logits)\nlogits.zero_()\nreturn right"),
    Attack("input-resized", "right = honest(logits)\nlogits.resize_(1000)\nreturn right", expect=("error", "passed")),
    Attack(
        "input-storage-freed",
        """
        right = honest(logits)
        logits.untyped_storage().resize_(0)
        return right
        """,
        expect=("error", "passed"),
    ),
    Attack("input-given-back", "return logits", expect=WRONG),
    Attack(
        "view-of-the-input-changed-later",
        """
        logits.detach_()
        right = logits[:1].reshape(())
        right.copy_(honest(logits))
        return right
        """,
    ),
    Attack("hooks-on-the-answer", "right = honest(logits).requires_grad_()\nright.register_hook(lambda g: 1 / 0)\nreturn right"),
]
