"""Forecasters that are made up, for `climb quiz --demo`: what each would say is a rule that is stated."""

from __future__ import annotations

from typing import Callable

from autograder.quiz.file import Quiz, Task

SHARPNESS = 3.0
"The over-confident one believes the odds to be what they are, to the third power: 2 to 1 becomes 8 to 1."


def informed(task: Task) -> float | None:
    """What somebody says who has seen the other draws of this task, by Laplace's rule (k + 1) / (m + 2); None without draws.

    Where the question is about most of those very draws, he knows the answer, and says so as surely as the same rule lets him.
    """
    truth = task.truth
    if truth.draws is None or truth.yes is None:
        return None
    seen = truth.yes if truth.by == "draw" else truth.draws * task.answer
    return (seen + 1) / (truth.draws + 2)


def knows_the_shares(quiz: Quiz) -> list[float] | None:
    """His forecasts of a whole quiz; None where a task has no draws that he could have seen."""
    found = [informed(task) for task in quiz.tasks]
    return None if None in found else found


def _sharpened(chance: float) -> float:
    odds = (chance / (1 - chance)) ** SHARPNESS
    return odds / (1 + odds)


def simulated(quiz: Quiz) -> dict[str, tuple[str, list[float]]]:
    """name -> (what he does, in words; his forecasts, probabilities in whole percent).

    Without draws nobody can have seen any: those who would go by them say the base rate there.
    """
    base_rate = sum(task.answer for task in quiz.tasks) / len(quiz.tasks)
    seen = [informed(task) for task in quiz.tasks]

    def by(rule: Callable[[float], float], least: float = 0.01) -> list[float]:
        said = [base_rate if chance is None else rule(chance) for chance in seen]
        return [round(100 * min(max(p, least), 1 - least)) / 100 for p in said]

    draws = {task.truth.draws for task in quiz.tasks if task.truth.draws is not None}
    many = f"{min(draws)}" if len(draws) == 1 else "all"
    return {
        "base rate": ("says the share of yes in all answers, every time", [round(100 * base_rate) / 100] * len(seen)),
        "over-confident": (f"has seen {many} other draws of each task, and cubes the odds", by(_sharpened)),
        "calibrated": (f"has seen {many} other draws of each task, and says their share", by(lambda chance: chance)),
    }
