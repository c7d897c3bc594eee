"""The words in which a check is written: `check`, `Check`, `mistake`, `edit`."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Callable, Iterator

from .compare import difference


@dataclass(frozen=True)
class Mistake:
    """A known wrong answer, computed directly: `answer(**case)` returns what the learner who makes it would return."""

    id: str
    hint: str
    answer: Callable[..., dict]


@dataclass(frozen=True)
class Edit:
    """A known wrong answer, as an edit of the reference's source: each key occurs exactly once and is replaced by its value."""

    id: str
    hint: str
    replacements: dict[str, str]


def edit(id: str, hint: str, replacements: dict[str, str]) -> Edit:
    return Edit(id, hint, replacements)


def mistake(id: str, hint: str) -> Callable:
    """Marks a method of a check as a known wrong answer; it takes the case's inputs and returns outputs, as `truth` does."""

    def mark(method):
        method.mistake = (id, hint)
        return method

    return mark


class Check:
    """One question put to a learner's file. Arrays in `cases`, `truth`, `judge` and mistakes are NumPy's; probes get torch tensors."""

    exercise: str = ""  # "Baseline.update"
    points: float = 0.0
    section: str = ""  # of lesson.md: "3.4"
    probe: str = ""  # a function of the lesson's probe module
    tolerance: float = 1e-9  # absolute and relative; every check says why
    seconds: float = 10.0  # wall-clock limit for all cases together
    memory_mb: int = 1024  # what the child may allocate beyond the loaded libraries
    mistakes: list[Edit] = []
    live: bool = False  # True: truth needs more than data (never, so far, outside tests)

    def cases(self, rng) -> Iterator[dict[str, Any]]:
        """Inputs, smallest first. `rng` is a seeded numpy Generator: everything drawn from it is new under a secret seed."""
        raise NotImplementedError

    truth: Callable[..., dict] | None = None

    def judge(self, got: dict, expected: dict, **case) -> str | None:
        """None when `got` is right, else what differs, in a sentence. Override for properties and statistical checks."""
        return difference(got, expected, self.tolerance)

    def known_mistakes(self) -> list[Mistake | Edit]:
        """Mistakes in the order they are written: methods first, then edits. A mistake is named by the first that matches."""
        methods = []
        for cls in type(self).__mro__:
            for name, value in vars(cls).items():
                if hasattr(value, "mistake"):
                    methods.append(Mistake(*value.mistake, answer=getattr(self, name)))
        return [*methods, *self.mistakes]


def check(exercise: str, *, points: float, section: str) -> Callable[[type[Check]], type[Check]]:
    """Says which exercise a check belongs to, what it is worth and where the lesson explains it."""

    def mark(cls):
        if not issubclass(cls, Check):
            raise TypeError(f"{cls.__name__}: a check derives from Check")
        if points <= 0:
            raise ValueError(f"{cls.__name__}: points must be positive, got {points}")
        cls.exercise, cls.points, cls.section = exercise, float(points), section
        return cls

    return mark


def checks_in(module: ModuleType) -> list[Check]:
    """The checks of a module, in the order they are written."""
    return [cls() for cls in vars(module).values() if isinstance(cls, type) and issubclass(cls, Check) and cls.exercise]
