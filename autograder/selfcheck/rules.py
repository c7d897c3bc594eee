"""The rules by which wrong versions of a right program are made: a syntax node, and what may stand in its place."""

from __future__ import annotations

import ast
import re
from copy import deepcopy
from typing import Callable, Iterator

AXIS_NAMES = {"dim", "axis", "dims", "axes"}
AXIS_METHODS = {"sum", "mean", "softmax", "log_softmax", "logsumexp", "argmax", "argmin", "cumsum", "norm", "var", "std", "flip"}
AXIS_METHODS |= {"unsqueeze", "squeeze", "transpose", "expand_dims", "amax", "amin", "prod", "flatten"}
LIBRARIES = {"torch", "F", "np", "numpy", "scipy"}
COMMUTATIVE = {"minimum", "maximum", "min", "max", "add", "mul", "dot", "inner", "isclose", "allclose", "equal", "transpose"}
COMMUTATIVE |= {"swapaxes", "logaddexp", "isinstance", "print"}
CONTRARY = {"minimum": "maximum", "min": "max", "amin": "amax", "argmin": "argmax", "floor": "ceil", "any": "all"}
CONTRARY |= {"zeros": "ones", "zeros_like": "ones_like", "sum": "mean"}
CONTRARY |= {new: old for old, new in CONTRARY.items()}

_OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.FloorDiv: ast.Div}
_OPERATORS |= {ast.Mod: ast.FloorDiv, ast.MatMult: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}
_COMPARISONS = {  # the boundary moved, and the negation
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
Replacement = tuple[ast.AST, ast.AST]  # what is replaced, and by what


def graph(node: ast.AST) -> Iterator[Replacement]:
    """A gradient flows where it should not: `.detach()` removed, `torch.no_grad()` switched off."""
    if isinstance(node, ast.Call) and _name(node.func) == "detach" and isinstance(node.func, ast.Attribute) and not node.args:
        yield node, node.func.value
    if isinstance(node, ast.Attribute) and node.attr in ("no_grad", "inference_mode"):
        yield node, ast.Attribute(node.value, "enable_grad", ast.Load())


def einsum(node: ast.AST) -> Iterator[Replacement]:
    """Letters of an equation swapped or dropped; those that only rename letters are left out."""
    if not (isinstance(node, ast.Call) and _name(node.func) == "einsum" and node.args and isinstance(node.args[0], ast.Constant)):
        return
    equation = node.args[0]
    if not isinstance(equation.value, str) or "->" not in equation.value:
        return
    text = equation.value.replace(" ", "")
    inputs, output = text.split("->")
    letters = _letters(output)
    changed = [f"{inputs}->{''.join(swap)}" for swap in _swaps(letters)]
    changed += [f"{inputs}->{''.join(letters[:i] + letters[i + 1 :])}" for i, letter in enumerate(letters) if letter != "..."]
    if not set(letters) - {"..."}:
        changed += [f"{inputs}->{output}{letter}" for letter in _letters(inputs) if letter.isalpha()][:1]
    operands = inputs.split(",")
    for i, operand in enumerate(operands):
        for swap in _swaps(_letters(operand)):
            changed.append(",".join([*operands[:i], "".join(swap), *operands[i + 1 :]]) + "->" + output)
    seen = {_canonical(text)}
    for candidate in changed:
        if _canonical(candidate) not in seen:
            seen.add(_canonical(candidate))
            yield equation, ast.Constant(candidate)


def sign(node: ast.AST) -> Iterator[Replacement]:
    """A minus removed, a difference turned round, a result negated."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node, node.operand
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        yield node, ast.BinOp(node.right, ast.Sub(), node.left)
    if isinstance(node, ast.Return) and isinstance(node.value, (ast.BinOp, ast.Call, ast.Name, ast.Subscript)):
        yield node.value, ast.UnaryOp(ast.USub(), node.value)


def term(node: ast.AST) -> Iterator[Replacement]:
    """One side of a sum, a product, a difference or a quotient left out."""
    if isinstance(node, ast.BinOp) and not _is_text(node.left) and not _is_text(node.right):
        if isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div)):
            yield node, node.left
        if isinstance(node.op, (ast.Add, ast.Mult)):
            yield node, node.right


def axis(node: ast.AST) -> Iterator[Replacement]:
    """Another axis, one axis fewer, or none named."""
    if not isinstance(node, ast.Call):
        return
    values = [keyword.value for keyword in node.keywords if keyword.arg in AXIS_NAMES]
    if _name(node.func) in AXIS_METHODS:
        library = isinstance(node.func, ast.Attribute) and _name(node.func.value) in LIBRARIES
        values += node.args[1:] if library else node.args
    for value in values:
        number = _integer(value)
        if number is not None:
            yield value, _constant({-1: -2, 0: 1}.get(number, number - 1 if number > 0 else number + 1))
        if isinstance(value, ast.Tuple) and len(value.elts) > 1:
            yield value, ast.Tuple(value.elts[:-1], ast.Load())
    for keyword in node.keywords:
        if keyword.arg in AXIS_NAMES:
            yield node, ast.Call(node.func, node.args, [other for other in node.keywords if other is not keyword])


def slices(node: ast.AST) -> Iterator[Replacement]:
    """Off by one: where a slice or a range begins or ends, which entry an index takes."""
    if isinstance(node, ast.Slice):
        if node.lower is not None:
            yield node, ast.Slice(_shifted(node.lower, 1), node.upper, node.step)
            yield node, ast.Slice(None, node.upper, node.step)
        if node.upper is not None:
            yield node, ast.Slice(node.lower, _shifted(node.upper, -1), node.step)
            yield node, ast.Slice(node.lower, None, node.step)
        if node.step is not None:
            yield node, ast.Slice(node.lower, node.upper, None)
    if isinstance(node, ast.Subscript):
        for index in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
            number = _integer(index)
            if number is not None:
                yield index, _constant(1 if number == 0 else number - 1)
    if isinstance(node, ast.Call) and _name(node.func) in ("range", "arange") and 1 <= len(node.args) <= 2:
        yield node.args[-1], _shifted(node.args[-1], -1)
        if len(node.args) == 2:
            yield node.args[0], _shifted(node.args[0], 1)


def operator(node: ast.AST) -> Iterator[Replacement]:
    """Another operator, or the contrary function: minimum for maximum, sum for mean."""
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS and not _is_text(node.left) and not _is_text(node.right):
        yield node, ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right)
    if isinstance(node, ast.AugAssign) and type(node.op) in _OPERATORS:
        yield node, ast.AugAssign(node.target, _OPERATORS[type(node.op)](), node.value)
        yield node, ast.Assign([node.target], node.value, lineno=node.lineno)
    if isinstance(node, ast.Call) and _name(node.func) in CONTRARY:
        other = CONTRARY[_name(node.func)]
        if isinstance(node.func, ast.Attribute):
            yield node.func, ast.Attribute(node.func.value, other, ast.Load())
        elif other in ("min", "max", "any", "all"):  # built in under both names
            yield node.func, ast.Name(other, ast.Load())


def comparison(node: ast.AST) -> Iterator[Replacement]:
    """A boundary moved by one, a comparison negated."""
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for other in _COMPARISONS[type(op)]:
                yield node, ast.Compare(node.left, [*node.ops[:i], other(), *node.ops[i + 1 :]], node.comparators)


def constant(node: ast.AST) -> Iterator[Replacement]:
    """Another number: an integer's successor, twice a float; 0 for a tiny one, which guards a division or a logarithm."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield node, ast.Constant(node.value + 1)
    if isinstance(node, ast.Constant) and type(node.value) is float:
        value = node.value
        yield node, ast.Constant(1.0 if value == 0 else 0.0 if abs(value) < 1e-3 else 2 * value)


def boolean(node: ast.AST) -> Iterator[Replacement]:
    """A condition negated, `and` for `or`, True for False."""
    if isinstance(node, (ast.If, ast.IfExp, ast.While)) and not isinstance(node.test, ast.Compare):
        test = node.test
        negated = isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)
        yield test, test.operand if negated else ast.UnaryOp(ast.Not(), test)
    if isinstance(node, ast.BoolOp):
        yield node, ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.Invert)):
        yield node, node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield node, ast.Constant(not node.value)


def arguments(node: ast.AST) -> Iterator[Replacement]:
    """Two neighbouring arguments of the same kind swapped."""
    if not isinstance(node, ast.Call) or _name(node.func) in COMMUTATIVE:
        return
    for i, (one, two) in enumerate(zip(node.args, node.args[1:])):
        same_kind = type(one) is type(two) and isinstance(one, (ast.Name, ast.Attribute, ast.Constant, ast.Subscript, ast.Call))
        if same_kind and (not isinstance(one, ast.Constant) or type(one.value) is type(two.value)):
            yield node, ast.Call(node.func, [*node.args[:i], two, one, *node.args[i + 2 :]], node.keywords)


def statement(node: ast.AST) -> Iterator[Replacement]:
    """A statement left out: a call made for its effect, an update in place, the refusal of bad input."""
    effect = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    update = isinstance(node, ast.AugAssign) or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript))
    refusal = isinstance(node, ast.If) and not node.orelse and all(isinstance(part, ast.Raise) for part in node.body)
    if effect or update or refusal:
        yield node, ast.Pass()


# In the order in which they take turns when there are more mutants than an exercise is given.
RULES: dict[str, Callable[[ast.AST], Iterator[Replacement]]] = {
    "graph": graph,
    "einsum": einsum,
    "sign": sign,
    "term": term,
    "axis": axis,
    "slice": slices,
    "operator": operator,
    "comparison": comparison,
    "constant": constant,
    "boolean": boolean,
    "arguments": arguments,
    "statement": statement,
}


def mutations(node: ast.AST) -> Iterator[tuple[str, ast.AST, ast.AST]]:
    """(rule, what is replaced, by what) of every rule that applies to a node."""
    for name, rule in RULES.items():
        for old, new in rule(node):
            yield name, old, deepcopy(new)


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""


def _is_text(node: ast.expr) -> bool:
    """Whether an operand is text or a list, with which sums and products mean something else."""
    return isinstance(node, (ast.JoinedStr, ast.List, ast.Tuple)) or isinstance(getattr(node, "value", None), str)


def _integer(node: ast.expr) -> int | None:
    """The value of an integer literal, also a negative one."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _integer(node.operand)
        return None if value is None else -value
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None


def _constant(value: int) -> ast.expr:
    return ast.Constant(value) if value >= 0 else ast.UnaryOp(ast.USub(), ast.Constant(-value))


def _shifted(node: ast.expr, by: int) -> ast.expr:
    value = _integer(node)
    if value is not None:
        return _constant(value + by)
    return ast.BinOp(node, ast.Add() if by > 0 else ast.Sub(), ast.Constant(abs(by)))


def _letters(part: str) -> list[str]:
    return re.findall(r"\.\.\.|[A-Za-z]", part)


def _swaps(letters: list[str]) -> Iterator[list[str]]:
    for i, (one, two) in enumerate(zip(letters, letters[1:])):
        if one != two and "..." not in (one, two):
            yield [*letters[:i], two, one, *letters[i + 2 :]]


def _canonical(equation: str) -> str:
    """The equation with its letters renamed in the order of their first use: equal for equations that mean the same."""
    names: dict[str, str] = {}
    return re.sub(r"[A-Za-z]", lambda found: names.setdefault(found[0], chr(ord("a") + len(names))), equation)
