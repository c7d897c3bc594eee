"""solutions -> the student bundle: skeletons, lessons, given code, and the grader with its answers frozen for the public seed.

The bundle holds no solutions/ and no code that computes a truth: `truth`, mistakes and the helpers only they use are taken out
of the check modules, and the cases with them; what they said for the public seed travels as data (`autograder/frozen/*.bin`).
"""

from __future__ import annotations

import ast
import json
import shutil
import tomllib
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any, Callable

from autograder import __version__
from autograder.checks import Check
from autograder.classroom import WORKFLOW
from autograder.course import Course, Lesson
from autograder.grading.grade import frozen_file
from autograder.grading.oracle import PUBLIC_SEED, Oracle, entry_of
from autograder.policy import Policy
from autograder.reference import ROOT
from autograder.sandbox import wire
from autograder.skeletons import skeleton

TRUSTED_ONLY = ("selfcheck", "alternatives", "frozen", "release.py", "checks", "probes", "__pycache__")
TRUSTED_ONLY += ("gradescope", "exports", "rubric", "similarity")
COMMANDS_LEFT_OUT = (
    "gradescope.py",
    "export.py",
    "explain.py",
    "rubric.py",
    "similar.py",
)  # an instructor's; the rest say so themselves
ANSWERS = ("answer", "answers", "tolerance", "rubric", "explanation")  # of a written question
IGNORED = ".venv/\n.climb/\nruns/\n__pycache__/\n*.egg-info/\n"  # what a copy under version control need not keep
SKIPPED_IN_LESSONS = (
    "figures.py",
    "pictures.py",
    "__pycache__",
)  # figures are drawn with the solutions; the pictures themselves travel


def release(
    course: Course,
    lessons: list[Lesson],
    target: Path,
    step: Callable[[str], None] = lambda _: None,
    policy: Policy = Policy(),
) -> None:
    """Writes the bundle into `target`, which must be empty or absent. `step` is told what is being done.

    policy: its dates, points and rules of lateness stand in the README; who has an extension does not.
    """
    target.mkdir(parents=True, exist_ok=True)
    copy_grader(target / "autograder", lessons)
    for track in sorted({"toy", *(lesson.track for lesson in lessons)}):  # the full track builds on the toy track's given code
        (target / track).mkdir()
        shutil.copy(ROOT / track / "__init__.py", target / track)
        shutil.copytree(ROOT / track / "given", target / track / "given", ignore=shutil.ignore_patterns("__pycache__"))
    for lesson in lessons:
        step(lesson.title)
        source = (ROOT / "solutions" / lesson.file).read_text(encoding="utf-8")
        (target / lesson.file).write_text(skeleton(source, lesson.number), encoding="utf-8")
        if not lesson.silent_bug:  # it shares its lesson's folder
            copy_lesson(lesson, target / "lessons" / lesson.folder.name)
        frozen = frozen_file(target, lesson.module)
        frozen.parent.mkdir(parents=True, exist_ok=True)
        frozen.write_bytes(freeze(lesson))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, target / name)
    (target / "README.md").write_text(bundle_readme(lessons, policy), encoding="utf-8")
    (target / ".gitignore").write_text(IGNORED, encoding="utf-8")
    workflow = target / ".github" / "workflows" / "classroom.yml"
    workflow.parent.mkdir(parents=True)
    workflow.write_text(WORKFLOW, encoding="utf-8")


def copy_grader(target: Path, lessons: list[Lesson]) -> None:
    ignore = shutil.ignore_patterns("__pycache__")

    def only_students(folder: str, names: list[str]) -> set[str]:
        left_out = {ROOT / "autograder": TRUSTED_ONLY, ROOT / "autograder" / "commands": COMMANDS_LEFT_OUT}.get(
            Path(folder), ()
        )
        return set(ignore(folder, names)) | {name for name in names if name in left_out}

    shutil.copytree(ROOT / "autograder", target, ignore=only_students)
    for folder in ("checks", "probes"):
        (target / folder).mkdir()
        for shared in (ROOT / "autograder" / folder).glob("*.py"):
            shutil.copy(shared, target / folder / shared.name)
    for lesson in lessons:
        for folder in ("checks", "probes"):
            place = target / folder / lesson.track
            place.mkdir(exist_ok=True)
            shutil.copy(ROOT / "autograder" / folder / lesson.track / "__init__.py", place)
        shutil.copy(ROOT / "autograder" / "probes" / lesson.file, target / "probes" / lesson.file)
        text = (ROOT / "autograder" / "checks" / lesson.file).read_text(encoding="utf-8")
        (target / "checks" / lesson.file).write_text(without_truth(text, lesson.checks), encoding="utf-8")


def without_truth(text: str, checks: list[Check]) -> str:
    """A check module that asks and compares, and knows no answer: mistakes keep their names and hints only."""
    tree = ast.parse(text)
    by_class = {type(check).__name__: check for check in checks}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            node.body = [part for part in node.body if not _tells(part)]
            if node.name in by_class:
                names = [f"edit({m.id!r}, {m.hint!r}, {{}})" for m in by_class[node.name].known_mistakes()]
                node.body.append(ast.parse(f"mistakes = [{', '.join(names)}]").body[0])
    _drop_unused(tree)
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            node.body = node.body or [ast.Pass()]
    vocabulary = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "autograder.checks"]
    for node in vocabulary[:1]:
        node.names = [ast.alias(name) for name in ("Check", "check", "edit")]
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _tells(part: ast.stmt) -> bool:
    if isinstance(part, ast.FunctionDef):
        decorators = [d.func.id for d in part.decorator_list if isinstance(d, ast.Call) and isinstance(d.func, ast.Name)]
        return part.name in ("truth", "cases") or "mistake" in decorators  # the public seed's cases travel with their answers
    places = part.targets if isinstance(part, ast.Assign) else [part.target] if isinstance(part, ast.AnnAssign) else []
    return bool({"mistakes", "truth"} & {place.id for place in places if isinstance(place, ast.Name)})


ASKED = ("cases", "judge", "probe", "tolerance", "seconds", "memory_mb", "points", "section", "exercise", "mistakes", "live")


def _drop_unused(tree: ast.Module) -> None:
    """Removes functions, constants and methods' helpers that nothing refers to any more, until none is left."""
    while True:
        used = _names(tree)

        def idle(function: ast.stmt) -> bool:
            """A function that nothing but itself refers to."""
            return isinstance(function, ast.FunctionDef) and used[function.name] == _names(function)[function.name]

        unused = [n for n in tree.body if idle(n)]
        for assigned in (n for n in tree.body if isinstance(n, ast.Assign)):
            names = [t.id for t in assigned.targets if isinstance(t, ast.Name)]
            unused += [assigned] if names and not set(names) & set(used) else []
        unused += [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom)) and not _wanted(n, set(used))]
        for node in unused:
            tree.body.remove(node)
        dropped = bool(unused)
        for cls in (n for n in tree.body if isinstance(n, ast.ClassDef)):
            for method in [m for m in cls.body if idle(m) and m.name not in ASKED and not m.name.startswith("__")]:
                cls.body.remove(method)
                dropped = True
        if not dropped:
            return


def _names(tree: ast.AST) -> Counter[str]:
    """How often each name is read, as a name or as an attribute."""
    read = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    return Counter([*read, *(n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute))])


def _wanted(node: ast.Import | ast.ImportFrom, used: set[str]) -> bool:
    """Whether a name that this import binds is used; the vocabulary of checks always is."""
    vocabulary = isinstance(node, ast.ImportFrom) and node.module in ("__future__", "autograder.checks")
    return vocabulary or any((alias.asname or alias.name.split(".")[0]) in used for alias in node.names)


def freeze(lesson: Lesson, seed: int = PUBLIC_SEED) -> bytes:
    """Cases, right answers and known wrong ones of every check under a seed, as frames."""
    oracle = Oracle(lesson.module, seed)
    frames = []
    for check in lesson.checks:
        wrong = [{"id": mistake.id, "answers": oracle.answers(check, mistake)} for mistake in check.known_mistakes()]
        frames.append(wire.encode(entry_of(oracle, check) | {"wrong": wrong}))
    return b"".join(frames)


def copy_lesson(lesson: Lesson, target: Path) -> None:
    shutil.copytree(lesson.folder, target, ignore=shutil.ignore_patterns(*SKIPPED_IN_LESSONS))
    questions = target / "questions.toml"
    if questions.is_file():
        questions.write_text(questions_without_answers(questions.read_text(encoding="utf-8")), encoding="utf-8")


def questions_without_answers(text: str) -> str:
    lines = ["# The questions; answers are marked by your instructor."]
    for question in tomllib.loads(text).get("question", []):
        lines.append("\n[[question]]")
        lines += [f"{name} = {_toml_value(value)}" for name, value in question.items() if name not in ANSWERS]
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # TOML's basic strings share JSON's escapes
    return str(value).lower() if isinstance(value, bool) else str(value)


def bundle_readme(lessons: list[Lesson], policy: Policy = Policy()) -> str:
    rows = "\n".join(
        f"| {l.number} | [{l.title}](lessons/{l.folder.name}/lesson.md) | `{l.file}` | {l.minutes} min |" for l in lessons
    )
    return f"""# {policy.title or "Climb"}: your copy of the course

Reinforcement learning for language models, by exercises. Read a lesson, fill what raises `NotImplementedError` in its file,
check it as often as you like; hand in the files of `toy/` (and `full/`).

    python -m venv .venv && .venv/bin/pip install -e .      # Windows: .venv\\Scripts\\pip install -e .
    .venv/bin/climb next                                    # what to do now, and why
    .venv/bin/climb check                                   # is it right, and if not, what is wrong
    .venv/bin/climb watch                                   # the same, each time you save
    .venv/bin/climb hint EXERCISE                           # help, in three levels

| lesson | | file | time |
|---|---|---|---|
{rows}
{dates(lessons, policy)}
Your checks use a public seed. Your instructor's use a secret one, so answers written for the public cases earn nothing.
Grader version {__version__}.
"""


def dates(lessons: list[Lesson], policy: Policy) -> str:
    """When what is due, what it is worth, and what lateness costs; nothing where the policy says nothing of it."""
    own = [lesson for lesson in lessons if not lesson.silent_bug]
    rules = {lesson.number: policy.lesson(lesson.number) for lesson in own}
    if not any(rule.opens or rule.due or rule.points is not None or rule.weight != 1 for rule in rules.values()):
        return ""
    lines = ["", "| lesson | opens | due | points |", "|---|---|---|---|"]
    for lesson in own:
        rule = rules[lesson.number]
        whole = sum(exercise.points for other in lessons if other.number == lesson.number for exercise in other.exercises)
        points = rule.weight * (whole if rule.points is None else rule.points)
        lines.append(f"| {lesson.number} | {_moment(rule.opens)} | {_moment(rule.due)} | {points:g} |")
    late = policy.late
    if any(rule.due for rule in rules.values()):
        grace = f" {late.grace_minutes:g} minutes after it are not late." if late.grace_minutes else ""
        cost = f"each day begun costs {100 * late.penalty_per_day:g}% of a lesson's points, {100 * late.cap:g}% at most"
        closes = "" if late.closes_after_days is None else f"; after {late.closes_after_days:g} days it counts nothing"
        after = f" After the deadline {cost}{closes}." if late.penalty_per_day or closes else " Lateness costs nothing."
        lines += ["", f"A deadline is meant as it stands here, with its time zone.{grace}{after}"]
    return "\n".join(lines) + "\n"


def _moment(when: datetime | None) -> str:
    return "" if when is None else when.strftime("%a %d %b %Y, %H:%M %Z")
