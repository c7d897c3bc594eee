"""A small grammar for formulas, and their comparison at random points. Nothing is ever evaluated as Python.

    expression := term (("+" | "-") term)*
    term       := sign (("*" | "/") sign)*
    sign       := ("+" | "-") sign | power
    power      := atom (("^" | "**") sign)?
    atom       := number | name | name "(" expression ("," expression)* ")" | "(" expression ")"
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Callable

import numpy as np

FUNCTIONS: dict[str, tuple[int, Callable]] = {
    "exp": (1, np.exp),
    "log": (1, np.log),
    "ln": (1, np.log),
    "sqrt": (1, np.sqrt),
    "abs": (1, np.abs),
    "tanh": (1, np.tanh),
    "sigmoid": (1, lambda x: 1 / (1 + np.exp(-x))),
    "sigma": (1, lambda x: 1 / (1 + np.exp(-x))),
    "min": (2, np.minimum),
    "max": (2, np.maximum),
}
CONSTANTS = {"pi": np.pi}
MAX_LENGTH, MAX_DEPTH = 500, 60
POINTS = 24  # two different formulas of this kind agree at one random point with probability 0, up to rounding
TOLERANCE = 1e-9  # relative; float64 evaluations of a short formula written in two ways differ by some 1e-15
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|(\*\*|[-+*/^(),]))")


class FormulaError(ValueError):
    """What was not understood, and where: one sentence for the learner."""


@dataclass(frozen=True)
class Formula:
    """A parsed formula: call it with {name: array} for its values."""

    text: str
    names: frozenset[str]
    values: Callable[[dict[str, np.ndarray]], np.ndarray]


def parse(text: str, variables: list[str] | tuple[str, ...] = ()) -> Formula:
    """The formula of a text in these variables. Raises FormulaError, and nothing else, for anything that is not one."""
    if len(text) > MAX_LENGTH:
        raise FormulaError(f"expected a formula of at most {MAX_LENGTH} characters, received {len(text)}")
    parser = _Parser(text, _tokens(text), frozenset(variables))
    values = parser.expression(0)
    if parser.at < len(parser.tokens):
        raise parser.problem()
    return Formula(text, frozenset(parser.used), values)


def equal(mine: Formula, truth: Formula, variables: list[str], seed: str) -> bool:
    """Whether two formulas agree at random points of (0.15, 0.85) in each variable, where logarithms and roots are finite."""
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    points = {name: rng.uniform(0.15, 0.85, POINTS) for name in variables}
    with np.errstate(all="ignore"):
        a, b = (np.broadcast_to(np.asarray(f.values(points), dtype=float), POINTS) for f in (mine, truth))
        return bool(np.all(np.isfinite(a)) and np.all(np.abs(a - b) <= TOLERANCE * (1 + np.abs(b))))


def number(text: str) -> float:
    """The value of a formula without variables: `7/8`, `ln(2)`. Raises FormulaError."""
    with np.errstate(all="ignore"):
        return float(parse(text).values({}))


def _tokens(text: str) -> list[tuple[str, str, int]]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if not match:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            raise FormulaError(f"`{text[start]}` (character {start + 1}) was not understood{_advice(text[start])}")
        kind = ("number", "name", "sign")[match.lastindex - 1]
        found.append((kind, match[match.lastindex], match.start(match.lastindex) + 1))
        at = match.end()
    if not found:
        raise FormulaError("expected a formula, received nothing")
    return found


def _advice(character: str) -> str:
    advice = {"{": "write plain text, not LaTeX", "\\": "write plain text, not LaTeX", "[": "use round brackets", "=": "give one side only"}
    said = advice.get(character, "formulas use + - * / ^ ( ) and " + ", ".join(sorted(FUNCTIONS)))
    return f": {said}"


class _Parser:
    """Recursive descent; each method returns a function of the variables' values."""

    def __init__(self, text: str, tokens: list[tuple[str, str, int]], variables: frozenset[str]):
        self.text, self.tokens, self.variables = text, tokens, variables
        self.at, self.used = 0, set()

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) and self.tokens[self.at][0] == "sign" else ""

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1][1]

    def problem(self) -> FormulaError:
        if self.at >= len(self.tokens):
            return FormulaError("the formula ends too early: something is missing after " + repr(self.tokens[-1][1]))
        kind, word, place = self.tokens[self.at]
        before = self.tokens[self.at - 1] if self.at else ("sign", "", 0)
        if (kind != "sign" or word == "(") and (before[0] != "sign" or before[1] == ")"):
            return FormulaError(f"`{before[1]} {word}` (character {place}): write the sign between them, such as *")
        return FormulaError(f"`{word}` (character {place}) was not expected there")

    def expression(self, depth: int):
        if depth > MAX_DEPTH:
            raise FormulaError("the brackets are nested too deeply")
        value = self.term(depth)
        while self.peek() in ("+", "-"):
            value = _combined(self.take(), value, self.term(depth))
        return value

    def term(self, depth: int):
        value = self.sign(depth)
        while self.peek() in ("*", "/"):
            value = _combined(self.take(), value, self.sign(depth))
        return value

    def sign(self, depth: int):
        if depth > MAX_DEPTH:
            raise FormulaError("the formula is nested too deeply")
        if self.peek() in ("+", "-"):
            minus = self.take() == "-"
            value = self.sign(depth + 1)
            return (lambda v: -value(v)) if minus else value
        return self.power(depth)

    def power(self, depth: int):
        base = self.atom(depth)
        if self.peek() in ("^", "**"):
            self.take()
            return _combined("^", base, self.sign(depth + 1))
        return base

    def atom(self, depth: int):
        if self.at >= len(self.tokens):
            raise self.problem()
        kind, word, place = self.tokens[self.at]
        if kind == "number":
            self.at += 1
            value = float(word)
            return lambda v: value
        if kind == "name":
            self.at += 1
            return self.named(word, place, depth)
        if word == "(":
            self.at += 1
            inside = self.expression(depth + 1)
            self.close(place)
            return inside
        raise self.problem()

    def named(self, word: str, place: int, depth: int):
        if word in self.variables:
            self.used.add(word)
            return lambda v: v[word]
        if word in FUNCTIONS:
            return self.call(word, place, depth)
        if word in CONSTANTS:
            return lambda v: CONSTANTS[word]
        known = f"the variables are {', '.join(sorted(self.variables))}" if self.variables else "there are no variables here"
        raise FormulaError(f"`{word}` (character {place}) is not known: {known}, the functions {', '.join(sorted(FUNCTIONS))}")

    def call(self, word: str, place: int, depth: int):
        count, function = FUNCTIONS[word]
        if self.peek() != "(":
            raise FormulaError(f"`{word}` (character {place}) needs brackets after it: {word}(...)")
        opened = self.tokens[self.at][2]
        self.take()
        arguments = [self.expression(depth + 1)]
        while self.peek() == ",":
            self.take()
            arguments.append(self.expression(depth + 1))
        self.close(opened)
        if len(arguments) != count:
            raise FormulaError(f"`{word}` (character {place}) takes {count} argument{'s' * (count > 1)}, received {len(arguments)}")
        return lambda v: function(*(argument(v) for argument in arguments))

    def close(self, opened: int) -> None:
        if self.peek() != ")":
            if self.at >= len(self.tokens):
                raise FormulaError(f"the bracket at character {opened} is never closed")
            raise self.problem()
        self.take()


def _combined(sign: str, left, right):
    operations = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "^": np.float_power}
    operation = operations[sign]
    return lambda v: operation(left(v), right(v))
