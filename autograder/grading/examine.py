"""One check put to one file: build the request, run it, compare, and say in words what came of it."""

from __future__ import annotations

import builtins
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autograder.checks import Check
from autograder.checks.compare import describe
from autograder.sandbox import wire
from autograder.sandbox.executor import Executor, Reply

from .oracle import Oracle, child_seed

TEXT_LIMIT = 500


@dataclass
class Workspace:
    """What an exercise is graded in: the learner's file and helpers as text, earlier exercise files as the reference's code."""

    module: str  # "toy.word_agent"
    sources: dict[str, str]
    compiled: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Verdict:
    """The outcome of one check. status: passed, failed, error, timeout, crashed, not_started, missing."""

    status: str
    message: str = ""
    misconception: str | None = None
    hint: str = ""
    printed: str = ""
    at_import: bool = False  # the file's own import did not end in time: no check of it will fare better


def examine(check: Check, workspace: Workspace, oracle: Oracle, executor: Executor, *, public: bool) -> Verdict:
    """Runs and judges one check. `public`: whether the message may show inputs and expected values."""
    reply = executor.run(request_for(check, workspace, oracle), seconds=check.seconds, memory_mb=check.memory_mb)
    oracle.expected(check)  # computed here at the latest: what fails in it is our fault and is not hidden below
    try:
        verdict = judge(check, workspace, oracle, reply, public=public)
    except Exception as error:  # whatever a hostile answer makes of us: it earns nothing, and the other submissions are graded
        verdict = Verdict("failed", f"What came back could not be read ({type(error).__name__}).")
    verdict.printed = plain(reply.printed)[:TEXT_LIMIT]
    return verdict


def request_for(check: Check, workspace: Workspace, oracle: Oracle) -> bytes:
    head = {
        "module": workspace.module,
        "exercise": check.exercise,
        "probe": check.probe,
        "sources": workspace.sources,
        "compiled": {name: np.frombuffer(code, np.uint8) for name, code in workspace.compiled.items()},
        "seed": child_seed(check, oracle.seed),
    }
    return wire.encode(head) + oracle.encoded_cases(check)


def judge(check: Check, workspace: Workspace, oracle: Oracle, reply: Reply, *, public: bool) -> Verdict:
    if reply.outcome == "flooded":
        return Verdict("failed", f"It returned more than {wire.MAX_BYTES >> 20} MiB; the answer is much smaller.")
    found = wire.frames(reply.stream)
    file = workspace.module.replace(".", "/") + ".py"
    if found and found[0].get("import"):
        return _raised(found[0]["import"], f"{file} cannot be imported", check, workspace, public)
    if not found and reply.outcome == "timeout":
        said = f"{file} was still being imported; what stands at its top level runs then. Does it train there, or loop for ever?"
        return Verdict("timeout", f"No answer within {check.seconds:g} s: {said}", at_import=True)
    if found and found[0].get("has") is False:
        return Verdict("missing", f"{file} has no `{check.exercise}`.")
    cases, expected = oracle.cases(check), oracle.expected(check)
    answers = _answers(found, len(cases))
    for index, (case, truth) in enumerate(zip(cases, expected)):
        if answers[index] is None:
            return _unfinished(check, reply, index, len(cases), case, public)
        if "$raised" in answers[index] and answers[index]["$detail"]["type"] == "NotImplementedError":
            return _raised(answers[index]["$detail"], "", check, workspace, public)
        wrong = "$raised" in answers[index] or _difference(check, answers[index], truth, case)
        if wrong:
            name, hint = diagnose(check, oracle, answers)
            if "$raised" in answers[index]:
                verdict = _raised(answers[index]["$detail"], "It stopped", check, workspace, public, case)
                verdict.misconception, verdict.hint = name, hint
                return verdict
            return Verdict("failed", _explain(wrong, case, answers[index], truth, public), name, hint)
    return Verdict("passed")  # every answer is right and came in time: how the process ended then is its own affair


def diagnose(check: Check, oracle: Oracle, answers: list[dict | None]) -> tuple[str | None, str]:
    """The first known mistake that answers every case as the learner did, and differs from the truth in one at least."""
    cases, expected = oracle.cases(check), oracle.expected(check)
    for wrong in check.known_mistakes():
        theirs = oracle.answers(check, wrong)
        if not all(a is not None and not _wrong_there(check, a, t, c) for a, t, c in zip(answers, theirs, cases)):
            continue  # most are told apart by the first case
        if any(_wrong_there(check, t, e, c) for t, e, c in zip(theirs, expected, cases)):
            return wrong.id, wrong.hint
    return None, ""


def _wrong_there(check, answer, reference, case) -> bool:
    if "$raised" in answer or "$raised" in reference:
        return answer.get("$raised") != reference.get("$raised")
    return _difference(check, answer, reference, case) is not None


def _difference(check, answer, reference, case) -> str | None:
    """The check's own judgement. What a learner sends can make a judge stumble: that is a wrong answer, not our crash."""
    try:
        return check.judge(answer, reference, **case)
    except Exception as error:  # NumPy, torch and SciPy raise many kinds
        return f"the answer is not of the form asked for ({type(error).__name__})"


def _answers(found: list[dict], count: int) -> list[dict | None]:
    """The answer to each case, None where none came. Frames are the child's word: anything odd in them is no answer."""
    answers: list[dict | None] = [None] * count
    for frame in found[1:]:
        index = frame.get("case")
        if type(index) is not int or not 0 <= index < count or answers[index] is not None:
            continue
        if isinstance(frame.get("outputs"), dict):
            answers[index] = {k: v for k, v in frame["outputs"].items() if not str(k).startswith("$")}
        elif isinstance(frame.get("raised"), dict):
            detail = _clean(frame["raised"])
            answers[index] = {"$raised": detail["type"], "$detail": detail}
    return answers


def plain(text: Any) -> str:
    """Text of a learner's as text and nothing more: no terminal escapes, no characters that turn the writing direction."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def _clean(detail: dict[str, Any]) -> dict[str, Any]:
    """An exception's description as plain bounded text, whatever the child wrote there."""
    detail = detail if isinstance(detail, dict) else {"type": "Exception", "message": detail}
    frames = detail.get("frames") if isinstance(detail.get("frames"), list) else []
    keep = ("file", "line", "function", "text")
    return {
        "type": plain(str(detail.get("type"))[:100]),
        "message": plain(str(detail.get("message"))[:TEXT_LIMIT]),
        "frames": [{k: plain(str(f.get(k, ""))[:200]) for k in keep} for f in frames[:6] if isinstance(f, dict)],
    }


def _raised(detail: dict[str, Any], prefix: str, check: Check, workspace: Workspace, public: bool, case: dict | None = None) -> Verdict:
    detail = _clean(detail)
    if detail["type"] == "NotImplementedError":
        at = detail["message"].removeprefix("lesson ").split(": ", 1)[-1]
        ours = any(f'("{detail["message"]}")' in text for text in workspace.sources.values())  # a skeleton's own words
        if at and at != check.exercise and detail["message"].startswith("lesson ") and ours:
            return Verdict("not_started", f"Not started: `{check.exercise}` needs `{at}`, which is still to be written.")
        return Verdict("not_started", "Not started.")
    if not public:
        return Verdict("error", _raised_in_secret(detail, prefix, workspace))
    where = detail["frames"][-1] if detail["frames"] else None
    lines = [f"{prefix}: {detail['type']}: {detail['message']}"]
    if where:
        lines.append(f"at {where['file']}, line {where['line']}: {where['text']}")
    if case is not None:
        lines.append(f"with {_inputs(case)}")
    return Verdict("error", "\n".join(lines))


def _raised_in_secret(detail: dict[str, Any], prefix: str, workspace: Workspace) -> str:
    """Which built-in exception, and the line of the submission: no word that learner code could have put a hidden input into."""
    known = getattr(builtins, detail["type"], None)
    kind = detail["type"] if isinstance(known, type) and issubclass(known, BaseException) else "an exception of another kind"
    text = f"{prefix}: {kind}."
    for frame in reversed(detail["frames"]):
        source = workspace.sources.get(frame["file"].removesuffix(".py").replace("/", "."))
        lines = source.split("\n") if source is not None else []
        if frame["line"].isdecimal() and 1 <= int(frame["line"]) <= len(lines):
            return f"{text}\nat {frame['file']}, line {frame['line']}: {plain(lines[int(frame['line']) - 1].strip()[:200])}"
    return text


def _unfinished(check, reply, index, count, case, public) -> Verdict:
    which = f"in case {index + 1} of {count}" if index else "in the first case"
    shown = f"\nwith {_inputs(case)}" if public else ""
    if reply.outcome == "timeout":
        return Verdict("timeout", f"No answer within {check.seconds:g} s ({which}). Is there a loop that does not end?{shown}")
    return Verdict("crashed", f"The process ended before it answered ({which}): {reply.detail or 'it exited early'}.{shown}")


def _explain(wrong: str, case: dict, answer: dict, truth: dict, public: bool) -> str:
    wrong = plain(wrong[: 2 * TEXT_LIMIT])
    if not public:
        return f"Wrong on a hidden case. {_without_numbers(wrong)}".strip()
    lines = [wrong[0].upper() + wrong[1:] + ".", f"with      {_inputs(case)}"]
    lines += [f"received  {plain(_shown(answer, truth))}", f"expected  {_shown(truth, truth)}"]
    return "\n".join(lines)


def _shown(answer: dict, truth: dict) -> str:
    """What was asked for and nothing beside it; where that is one thing, without its name."""
    asked = {name: value for name, value in answer.items() if name in truth}
    return describe(*asked.values()) if len(asked) == len(truth) == 1 else describe(asked or answer)


def _without_numbers(wrong: str) -> str:
    """Under a secret seed the place of a difference is said, the values are not."""
    name = re.match(r"`[\w .\[\]]+`", wrong)
    return f"{name[0]} is not right." if name else ""


def _inputs(case: dict) -> str:
    return ", ".join(f"{k} = {describe(v, 200)}" for k, v in case.items()) or "no inputs"
