"""What is true: cases and expected answers of each check under one seed, computed from the reference or read from a frozen file."""

from __future__ import annotations

import hashlib
import importlib
import zlib
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from autograder.checks import Check, Edit, Mistake
from autograder.sandbox import compiler, wire

PUBLIC_SEED = 0


class Oracle:
    """Cases, truths and wrong answers of checks, computed once each. Thread-safe. The trusted process alone holds one."""

    def __init__(self, module_name: str, seed: int):
        self.module_name, self.seed = module_name, seed
        self._memory: dict[tuple, Any] = {}
        self._lock = RLock()

    def cases(self, check: Check) -> list[dict[str, Any]]:
        return self._once(("cases", key(check)), lambda: list(check.cases(generator(check, self.seed))))

    def encoded_cases(self, check: Check) -> bytes:
        """The cases as they cross to the learner's code: the same for every submission."""
        return self._once(("encoded", key(check)), lambda: b"".join(wire.encode(case) for case in self.cases(check)))

    def expected(self, check: Check) -> list[dict[str, Any]]:
        """The right answer to every case."""
        return self._once(("truth", key(check)), lambda: [self._truth(check, case) for case in self.cases(check)])

    def answers(self, check: Check, wrong: Mistake | Edit) -> list[dict[str, Any]]:
        """What a learner who makes this mistake answers to every case; {"$raised": type} where the mistake raises."""
        return self._once(("wrong", key(check), wrong.id), lambda: self._wrong(check, wrong))

    def _once(self, at, compute):
        with self._lock:
            if at not in self._memory:
                self._memory[at] = compute()
            return self._memory[at]

    def _truth(self, check, case):
        compiler.postpone()
        if check.truth is not None:
            return settle(check.truth(**copied(case)))
        from autograder import reference

        return self._probe(check, reference.module(self.module_name), case)

    def _wrong(self, check, wrong):
        compiler.postpone()
        if isinstance(wrong, Mistake):
            return [self._or_raised(lambda: settle(wrong.answer(**copied(case)))) for case in self.cases(check)]
        from autograder import reference

        text = reference.edited(reference.source(self.module_name), wrong.replacements)
        module = reference.module_of(text, self.module_name)
        return [self._or_raised(lambda: self._probe(check, module, case)) for case in self.cases(check)]

    def _probe(self, check, module, case):
        """Runs the probe on trusted code, as the child does on the learner's: same inputs, same global seed."""
        from autograder.sandbox import child

        probe = getattr(importlib.import_module("autograder.probes." + self.module_name), check.probe)
        child.seed_everything(child_seed(check, self.seed))
        return settle(probe(module, **child.as_torch(copied(case))))

    @staticmethod
    def _or_raised(answer):
        try:
            with np.errstate(all="ignore"):  # many a mistake overflows or divides by zero; that is its point
                return answer()
        except Exception as error:
            return {"$raised": type(error).__name__}


class FrozenOracle(Oracle):
    """The same answers, read from the file in which a release carries them: no reference is needed."""

    def __init__(self, module_name: str, path: Path, seed: int = PUBLIC_SEED):
        super().__init__(module_name, seed)
        for entry in wire.frames(path.read_bytes()):
            name = (entry["exercise"], entry["check"])
            self._memory[("cases", name)] = entry["cases"]
            self._memory[("truth", name)] = entry["expected"]
            for wrong in entry["wrong"]:
                self._memory[("wrong", name, wrong["id"])] = wrong["answers"]


def entry_of(oracle: Oracle, check: Check) -> dict[str, Any]:
    """A check's cases and right answers as they are written down: in a release, and from one command to the next."""
    named = {"exercise": check.exercise, "check": type(check).__name__}
    return named | {"cases": oracle.cases(check), "expected": oracle.expected(check)}


def key(check: Check) -> tuple[str, str]:
    return (check.exercise, type(check).__name__)


def generator(check: Check, seed: int) -> np.random.Generator:
    """A generator of the check's own: adding a check changes no other check's cases."""
    return np.random.default_rng([seed, zlib.crc32("/".join(key(check)).encode())])


def child_seed(check: Check, seed: int) -> int:
    """The seed of the global generators in the child. It tells nothing of the cases' seed (a CRC, being linear, tells 32 bits)."""
    return int.from_bytes(hashlib.blake2b(f"{check.exercise}/{seed}".encode(), digest_size=4).digest(), "big") % 2**31


def settle(values: dict[str, Any]) -> dict[str, Any]:
    """Values as they look after crossing the wire, so that truth and answer are of the same kinds."""
    return wire.decode(wire.encode(values))


def copied(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    return [copied(v) for v in value] if isinstance(value, list) else value
