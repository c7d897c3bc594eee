"""What is attacked: lesson 3's file and its real checks. A submission is the reference with one function or the end replaced."""

from __future__ import annotations

import importlib
import re
import textwrap
from dataclasses import dataclass

from autograder import reference
from autograder.checks import Check, checks_in
from autograder.grading.examine import Verdict, Workspace, examine, request_for
from autograder.grading.oracle import Oracle

MODULE = "toy.word_agent"
EXERCISE = "positive_probability"  # what an attack replaces
HONEST = ("Baseline.update", "policy_loss")  # what it leaves alone, and what must keep its points
SEED = 0x5EC2E7_5EED  # a secret one
PASSED = "passed"

_REGION = re.compile(rf"(def {EXERCISE}\(.*?# BEGIN SOLUTION\n)(.*?)( *# END SOLUTION\n)", re.DOTALL)
_HONEST_TWIN = "\n\ndef honest(logits):\n    return torch.softmax(logits, dim=-1)[list(POSITIVE)].sum()\n"


@dataclass(frozen=True)
class Attack:
    """A hostile or broken submission and what must hold.

    body: replaces the body of `positive_probability(logits)`; `honest(logits)` gives its right answer.  at_import: is put at the
    module's end.  text: the whole file instead.  In all of them {name} of WORLD stands for a thing outside (see world.py).
    expect, others: the statuses allowed for the exercise attacked and for the honest ones; "passed" means that the answer is
    right and what was tried had no effect.  says: is in the message.  An attack that gets through says FOUND: no message may.
    """

    name: str
    body: str = ""
    at_import: str = ""
    text: str | None = None
    expect: tuple[str, ...] | str = PASSED
    others: tuple[str, ...] | str = PASSED
    says: str = ""
    seconds: float | None = None
    memory_mb: int | None = None

    def source(self, world: dict[str, str] | None = None) -> str:
        if self.text is not None:
            return self.text
        names = {**(world or {})}
        fill = re.compile("|".join(map(re.escape, (f"{{{name}}}" for name in names)))) if names else None
        body, end = (textwrap.dedent(part).strip("\n") for part in (self.body or "return honest(logits)", self.at_import))
        text = _REGION.sub(lambda found: found[1] + textwrap.indent(body, "    ") + "\n" + found[3], reference.source(MODULE))
        text += _HONEST_TWIN + "\n\n" + end + "\n"
        return fill.sub(lambda found: names[found[0][1:-1]], text) if fill else text

    @property
    def allowed(self) -> tuple[str, ...]:
        return (self.expect,) if isinstance(self.expect, str) else self.expect

    @property
    def allowed_others(self) -> tuple[str, ...]:
        return (self.others,) if isinstance(self.others, str) else self.others


def checks() -> dict[str, Check]:
    """One real check for each of the exercises used here, by exercise."""
    module = importlib.import_module("autograder.checks." + MODULE)
    found = {}
    for check in checks_in(module):
        if check.exercise in (EXERCISE, *HONEST):
            found.setdefault(check.exercise, check)
    return found


def bounded(check: Check, attack: Attack) -> Check:
    """The check with the attack's own limits, so that what runs into one does so soon, and what should not never does."""
    limited = type(check)()
    limited.seconds = 60.0 if attack.seconds is None else attack.seconds
    if attack.memory_mb is not None:
        limited.memory_mb = attack.memory_mb
    return limited


def put(check: Check, source: str, oracle: Oracle, executor, public: bool = True) -> Verdict:
    """`public`: the message shows what learner code said, and so whether an attack got through."""
    return examine(check, workspace(source), oracle, executor, public=public)


def request(check: Check, source: str, oracle: Oracle) -> bytes:
    return request_for(check, workspace(source), oracle)


def workspace(source: str) -> Workspace:
    return Workspace(MODULE, {MODULE: source}, earlier())


def earlier() -> dict[str, bytes]:
    """As in grading, an earlier exercise file is there as the reference's code."""
    return {"toy.policy_gradient": reference.compiled("toy.policy_gradient")}
