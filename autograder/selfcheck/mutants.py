"""Wrong versions of the reference, made by rule from its syntax tree: what the checks must kill, though nobody thought of it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Container, Iterator

from autograder.reference import BEGIN, END
from autograder.skeletons import _names_by_line

from .rules import RULES, mutations

LIMIT = 12  # mutants of one exercise


@dataclass(frozen=True)
class Mutant:
    """One change inside one solution region. Any of `exercises` may kill it."""

    owner: str  # the function or class it was made in: "Baseline.update"
    exercises: tuple[str, ...]
    rule: str
    line: int
    before: str  # the changed source lines, joined
    after: str
    source: str  # of the whole file

    @property
    def key(self) -> tuple[str, str, str]:
        return key_of(self.owner, self.before, self.after)

    @property
    def description(self) -> str:
        return f"{self.rule}, line {self.line}: `{self.before}` -> `{self.after}`"


def key_of(owner: str, before: str, after: str) -> tuple[str, str, str]:
    """What a mutant is known by. Spaces and the kind of quotes do not count: Python's versions print them differently."""
    return (owner, *(re.sub(r"\s", "", text).replace('"', "'") for text in (before, after)))


def mutants(source: str, exercises: list[str]) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines; two that are the same program count once."""
    found, names = [], _names_by_line(source)
    for first, last in regions(source):
        owner = names.get(first, "")
        killers = killers_of(owner, exercises)
        seen: set[str] = set()
        for top in ast.parse(source).body:
            if top.lineno <= first <= (top.end_lineno or 0):  # the closing mark may stand behind the last statement
                found += [Mutant(owner, killers, *made) for made in _made_in(source, top, first, last, seen)]
    return found


def chosen(made: list[Mutant], limit: int = LIMIT, without: Container[tuple[str, str, str]] = ()) -> list[Mutant]:
    """At most `limit` mutants an owner, by turns from each rule and spread over its lines. Those in `without` are left out."""
    picked = []
    for owner in dict.fromkeys(mutant.owner for mutant in made):
        by_rule = {rule: [m for m in made if (m.owner, m.rule) == (owner, rule) and m.key not in without] for rule in RULES}
        shares = dict.fromkeys(RULES, 0)
        while sum(shares.values()) < limit and any(shares[rule] < len(by_rule[rule]) for rule in RULES):
            for rule in RULES:
                if shares[rule] < len(by_rule[rule]) and sum(shares.values()) < limit:
                    shares[rule] += 1
        kept = [mutant for rule, share in shares.items() for mutant in _spread(by_rule[rule], share)]
        picked += sorted(kept, key=lambda mutant: mutant.line)
    return picked


def _spread(items: list[Mutant], count: int) -> list[Mutant]:
    """`count` of the items, evenly: the middle one of each of `count` equal parts."""
    return [items[(2 * i + 1) * len(items) // (2 * count)] for i in range(count)]


def regions(source: str) -> list[tuple[int, int]]:
    """The line numbers of each solution's marks."""
    found, first = [], 0
    for number, line in enumerate(source.splitlines(), start=1):
        if line.strip() == BEGIN:
            first = number
        elif line.strip() == END:
            found.append((first, number))
    return found


def killers_of(owner: str, exercises: list[str]) -> tuple[str, ...]:
    """The exercises whose checks may kill a mutant made in `owner`: the owner itself, else those of its class, else all."""
    parts = owner.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        found = [exercise for exercise in exercises if exercise == name or exercise.startswith(name + ".")]
        if found:
            return tuple(found)
    return tuple(exercises)


def _made_in(source: str, top: ast.stmt, first: int, last: int, seen: set[str]) -> Iterator[tuple[str, int, str, str, str]]:
    """(rule, line, before, after, source) of each mutant within these lines of one top-level definition."""
    lines = source.encode().splitlines(keepends=True)
    begin = min([top.lineno, *(d.lineno for d in getattr(top, "decorator_list", []))])
    seen.add(ast.dump(top))
    for node, parents in _inside(top, first, last):
        for rule, old, new in mutations(node):
            place = _place(node, old, parents)
            if place is None or _pointless(rule, node, parents):
                continue
            with _Replaced(place, new):
                intended = ast.dump(top)
            if intended in seen:
                continue
            seen.add(intended)
            text = _written(lines, old, new, begin, top.end_lineno, intended)
            if text is not None:
                yield (rule, old.lineno, *_shown(lines, old, text), text)


def _inside(top: ast.stmt, first: int, last: int) -> list[tuple[ast.AST, list[ast.AST]]]:
    """The nodes between two lines with their ancestors, in reading order; annotations, messages and docstrings left out."""
    found: list[tuple[ast.AST, list[ast.AST]]] = []

    def visit(node: ast.AST, parents: list[ast.AST]) -> None:
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if not isinstance(child, ast.AST) or isinstance(child, (ast.Raise, ast.JoinedStr)):
                    continue
                line, end = getattr(child, "lineno", None), getattr(child, "end_lineno", None)
                if line is not None and first < line and end < last:
                    found.append((child, [*parents, node]))
                visit(child, [*parents, node])

    visit(top, [])
    return sorted(found, key=lambda item: (item[0].lineno, item[0].col_offset))


def _pointless(rule: str, node: ast.AST, parents: list[ast.AST]) -> bool:
    """Whether a change is another rule's matter, or no change: an axis or index counted up, a squared difference turned round."""
    if rule == "constant":
        return _is_axis_or_index(node, parents)
    if rule == "sign" and isinstance(node, ast.UnaryOp):
        return isinstance(node.operand, ast.Constant) and _is_axis_or_index(node.operand, [*parents, node])
    if rule == "sign" and isinstance(node, ast.BinOp):
        parent = parents[-1]
        return isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Pow) and getattr(parent.right, "value", 1) in (2, 4)
    return False


def _is_axis_or_index(node: ast.AST, parents: list[ast.AST]) -> bool:
    at = len(parents) - 1
    if isinstance(parents[at], ast.UnaryOp):
        node, at = parents[at], at - 1
    if isinstance(parents[at], ast.Tuple):
        node, at = parents[at], at - 1
    parent = parents[at]
    if isinstance(parent, ast.keyword):
        return parent.arg in ("dim", "axis", "dims", "axes")
    if isinstance(parent, (ast.Slice, ast.Subscript)):
        return True
    return isinstance(parent, ast.Call) and any(new is not None and old is node for old, new in RULES["axis"](parent))


def _place(node: ast.AST, old: ast.AST, parents: list[ast.AST]) -> tuple[ast.AST, str, int | None] | None:
    """Where in the tree `old` hangs: (parent, field, index in it). It is `node` itself or lies beneath it."""
    for parent in [parents[-1], *ast.walk(node)]:
        for name, value in ast.iter_fields(parent):
            if value is old:
                return (parent, name, None)
            if isinstance(value, list):
                for index, item in enumerate(value):
                    if item is old:
                        return (parent, name, index)
    return None


class _Replaced:
    """The tree with one node replaced, for as long as it takes."""

    def __init__(self, place: tuple[ast.AST, str, int | None], new: ast.AST):
        (self.parent, self.field, self.index), self.new = place, new

    def __enter__(self) -> None:
        self.old = self._swap(self.new)

    def __exit__(self, *_) -> None:
        self._swap(self.old)

    def _swap(self, node: ast.AST) -> ast.AST:
        if self.index is None:
            old = getattr(self.parent, self.field)
            setattr(self.parent, self.field, node)
            return old
        items = getattr(self.parent, self.field)
        old, items[self.index] = items[self.index], node
        return old


def _written(lines: list[bytes], old: ast.AST, new: ast.AST, begin: int, end: int, intended: str) -> str | None:
    """The whole file with the text of `old` replaced, in parentheses where the meaning needs them."""
    before = b"".join(lines[: old.lineno - 1]) + lines[old.lineno - 1][: old.col_offset]
    after = lines[old.end_lineno - 1][old.end_col_offset :] + b"".join(lines[old.end_lineno :])
    plain = ast.unparse(ast.fix_missing_locations(new))
    for text in (plain, f"({plain})"):
        whole = (before + text.encode() + after).decode()
        shrunk = whole.count("\n") - b"".join(lines).count(b"\n")
        definition = "\n".join(whole.split("\n")[begin - 1 : end + shrunk])
        try:
            if ast.dump(ast.parse(definition).body[0]) == intended:
                return whole
        except (SyntaxError, IndexError):
            pass
    return None


def _shown(lines: list[bytes], old: ast.AST, text: str) -> tuple[str, str]:
    """The lines that changed, before and after, each as one line without its comment."""
    original = [line.decode() for line in lines]
    changed = text.splitlines(keepends=True)
    more = len(changed) - len(original)
    before = original[old.lineno - 1 : old.end_lineno]
    after = changed[old.lineno - 1 : old.end_lineno + more]
    return _one_line(before), _one_line(after)


def _one_line(lines: list[str]) -> str:
    return " ".join(re.sub(r"\s+#\s.*$", "", line.rstrip("\n")).strip() for line in lines)
