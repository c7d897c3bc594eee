"""Checks whose answer must be the work of one einsum: the equation that was used is judged as well as the numbers.

The child reports which einsum calls were made. Its word is not taken for it: the grader evaluates the reported equation on the
case's own arrays, and it must give the right answer. A forged report would need the right equation, which is the exercise.
"""

from __future__ import annotations

import re
import string

import numpy as np

from .compare import difference
from .vocabulary import Check, mistake

EQUATION = re.compile(r"[A-Za-z,.> -]{0,64}")
WORK = "einsum has to do the work here: "


class EinsumCheck(Check):
    """One einsum call, on the arguments as they came, gives the answer.

    Outputs of the probe: the answers by name, and `calls`. Known mistakes carry `calls` too, the truth does not.
    """

    operands: tuple[str, ...] = ()  # which of the case's arrays einsum gets; all of them if empty
    result = "answer"  # which output einsum makes
    factor = ""  # the name of a number in the case that multiplies what einsum returns

    @property
    def probe(self) -> str:
        """The probe has the exercise's name."""
        return self.exercise

    def judge(self, got, expected, **case):
        wrong = difference(_answers(got), _answers(expected), self.tolerance)
        if wrong:
            return wrong
        kind, words = self.fault(got.get("calls"), expected, case)
        if "calls" not in expected:
            return WORK + words if kind else None
        theirs, _ = self.fault(expected["calls"], expected, case)  # a known mistake: of the numbers, or of how they were made
        return WORK + words if theirs and theirs != kind else None

    def fault(self, calls, expected, case) -> tuple[str, str]:
        """What is wrong with the calls, as a kind and in words; both empty if they are as they should be."""
        names = self.operands or tuple(case)
        if not isinstance(calls, list) or not calls:
            return "unused", "it was not called"
        if len(calls) > 1:
            return "helped", "it was called more than once, and one call is enough"
        equation, used = calls[0].get("equation"), calls[0].get("operands")
        if not isinstance(used, list) or sorted(map(str, used)) != sorted(names):
            came = "they came, but something made of them, or not all" if len(names) > 1 else "it came, but something made of it"
            return "helped", f"it was not given {_listed(names)} as {came}"
        summed = evaluate(equation, [case[name] for name in used])
        if summed is None:
            return "helped", f"the equation {str(equation)[:64]!r} cannot be evaluated on the arguments"
        if difference(summed * case.get(self.factor, 1.0), expected[self.result], self.tolerance):
            return "helped", f"the equation {equation!r} by itself does not give the answer; what was done after the call did"
        return "", ""

    @mistake(
        "einsum-not-used",
        "The numbers are right, but another operation made them. Write the sum as an einsum equation: that is the drill.",
    )
    def without_einsum(self, **case):
        return {**self.truth(**case), "calls": []}

    @mistake(
        "einsum-not-alone",
        "The numbers are right, but einsum had help: a step before the call, after it, or a second call. "
        "One equation, on the arguments as they came, says the whole of it.",
    )
    def with_help(self, **case):
        return {**self.truth(**case), "calls": [{"equation": "", "operands": []}] * 2}


def evaluate(equation, operands: list[np.ndarray]) -> np.ndarray | None:
    """einsum by an equation that came from a learner's process; None for what is none.

    As in torch.einsum, the axes of a "..." that an explicit output leaves out are summed (numpy.einsum refuses them).
    """
    if not isinstance(equation, str) or not EQUATION.fullmatch(equation):
        return None
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    bare = [term.replace("...", "", 1) for term in terms]
    widths = [array.ndim - len(letters) for letters, array in zip(bare, operands)]
    if len(terms) != len(operands) or min(widths) < 0 or "." in "".join(bare):
        return None
    spare = [letter for letter in string.ascii_letters if letter not in equation]
    unseen = "".join(spare[: max(widths)])  # letters for the axes that "..." stands for, counted from the right
    terms = [term.replace("...", unseen[len(unseen) - width :]) for term, width in zip(terms, widths)]
    if not arrow:
        used = "".join(bare)
        right = "..." + "".join(sorted(letter for letter in set(used) if used.count(letter) == 1))
    try:
        return np.einsum(",".join(terms) + "->" + right.replace("...", unseen), *operands)
    except (ValueError, TypeError, IndexError):
        return None


def _answers(outputs: dict) -> dict:
    return {name: value for name, value in outputs.items() if name != "calls"}


def _listed(names) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]
