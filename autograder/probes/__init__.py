"""What is asked: small drivers that run beside the learner's code. No answers here.

A probe is a function `name(module, **case) -> dict` of the lesson's probe module. `module` is the learner's file, arrays of the
case are fresh torch tensors. It returns what the learner's code answered: tensors, NumPy arrays, numbers, strings, None, and
lists and dicts of them. It never judges. A probe module may have `prepare()`, called before the learner's file is loaded.
"""

from typing import Any, Callable


def refusal(call: Callable[[], Any]) -> dict[str, Any]:
    """How `call` refuses bad input: the exception's type name (None if it went through) and its message."""
    try:
        call()
    except NotImplementedError:  # not started, which is no refusal
        raise
    except Exception as error:
        return {"raised": type(error).__name__, "message": str(error)[:500]}
    return {"raised": None, "message": ""}


def refuses(module, function, good, argument, bad):
    """A probe of many lessons: how `function` takes sound input with one `argument` spoilt.

    The sound call comes first: unwritten code refuses nothing.
    """
    call = getattr(module, function)
    call(**good)
    return refusal(lambda: call(**{**good, argument: bad}))


def gradients_of(total, *leaves):
    """The gradients of `total` by the leaves; zeros where none arrives."""
    import torch

    if not total.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(total, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(leaves, found)]
