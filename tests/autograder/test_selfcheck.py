"""The course's check of itself: the rules that make mutants, and a small course with every fault that it must find."""

import ast
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from autograder import course as courses
from autograder import reference
from autograder.checks import Check, check, edit, mistake
from autograder.course import CourseError
from autograder.grading import workspace
from autograder.sandbox.executor import InProcess
from autograder.selfcheck.mutants import LIMIT, chosen, key_of, killers_of, mutants
from autograder.selfcheck.report import show
from autograder.selfcheck.run import selfcheck
from autograder.selfcheck.units import Equivalent, defines, listed_equivalents


def file_with(body, name="f", more=""):
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"import torch\n\n\ndef {name}(a, b, c):\n    # BEGIN SOLUTION\n{lines}    # END SOLUTION\n{more}"


def afters(body, rule):
    return [mutant.after for mutant in mutants(file_with(body), ["f"]) if mutant.rule == rule]


# The rules


@pytest.mark.parametrize(
    "rule, body, expected",
    [
        ("sign", "x = a - b", ["x = b - a"]),
        ("sign", "x = (a - b) ** 2", []),
        ("sign", "return -a * b", ["return -(-a * b)", "return a * b"]),
        ("term", "x = a * b + c", ["x = a * b", "x = c", "x = a + c", "x = b + c"]),
        ("term", "x = 'a' + b", []),
        ("operator", "x = c * (a - b)", ["x = c / (a - b)", "x = c * (a + b)"]),
        ("operator", "a += b", ["a -= b", "a = b"]),
        ("operator", "x = torch.minimum(a, b)", ["x = torch.maximum(a, b)"]),
        ("operator", "x = max(a, b)", ["x = min(a, b)"]),
        ("operator", "x = sum(a)", []),
        ("comparison", "x = a < b", ["x = a <= b", "x = a >= b"]),
        ("comparison", "x = 0 <= a <= 1", ["x = 0 < a <= 1", "x = 0 > a <= 1", "x = 0 <= a < 1", "x = 0 <= a > 1"]),
        ("comparison", "if a is None: pass", ["if a is not None: pass"]),
        ("constant", "x = a + 1", ["x = a + 2"]),
        ("constant", "x = a * 0.5 + 1e-8", ["x = a * 1.0 + 1e-8", "x = a * 0.5 + 0.0"]),
        ("constant", "x = a.sum(dim=1)[2, :3]", []),
        ("axis", "x = a.softmax(dim=-1)", ["x = a.softmax(dim=-2)", "x = a.softmax()"]),
        ("axis", "x = torch.sum(a, 1)", ["x = torch.sum(a, 0)"]),
        ("axis", "x = a.sum(axis=(1, 2))", ["x = a.sum(axis=(1,))", "x = a.sum()"]),
        ("graph", "x = a.detach() + b", ["x = a + b"]),
        ("graph", "with torch.no_grad(): x = a", ["with torch.enable_grad(): x = a"]),
        ("slice", "x = a[:, 1:-1]", ["x = a[:, 2:-1]", "x = a[:, :-1]", "x = a[:, 1:-2]", "x = a[:, 1:]"]),
        ("slice", "x = a[-1] + b[0]", ["x = a[-2] + b[0]", "x = a[-1] + b[1]"]),
        ("slice", "x = list(range(1, c))", ["x = list(range(1, c - 1))", "x = list(range(2, c))"]),
        ("boolean", "x = a if b else True", ["x = a if not b else True", "x = a if b else False"]),
        ("boolean", "x = a and not b", ["x = a or not b", "x = a and b"]),
        ("boolean", "if not a: pass", ["if a: pass"]),
        ("arguments", "x = torch.where(a, b, c)", ["x = torch.where(b, a, c)", "x = torch.where(a, c, b)"]),
        ("arguments", "x = torch.maximum(a, b)", []),
        ("statement", "b.step()", ["pass"]),
        ("statement", "if a < 0: raise ValueError('a')", ["pass"]),
        ("einsum", "x = torch.einsum(a, b)", []),
    ],
)
def test_each_rule(rule, body, expected):
    assert sorted(key_of("", "", after) for after in afters(body, rule)) == sorted(key_of("", "", after) for after in expected)


@pytest.mark.parametrize(
    "equation, expected",
    [
        ("ij,jk->ik", ["ij,jk->ki", "ij,jk->k", "ij,jk->i", "ji,jk->ik", "ij,kj->ik"]),
        ("i,i->", ["i,i->i"]),
        ("ij->", ["ij->i"]),  # all of a matrix summed is the same with its letters swapped
        ("ij->ji", ["ij->ij", "ij->i", "ij->j"]),  # `ji->ji` is `ij->ij` with other letters
        ("...ij->...ji", ["...ij->...ij", "...ij->...i", "...ij->...j"]),
    ],
)
def test_equations_that_only_rename_letters_are_no_mutants(equation, expected):
    made = afters(f"x = torch.einsum('{equation}', a, b)", "einsum")
    assert [after.split("'")[1] for after in made] == expected


def test_messages_annotations_and_what_lies_outside_the_region_stay():
    source = file_with(
        "x: tuple[int, 3] = a + 1\nif a < 0:\n    raise ValueError(f'{a - 1}' + str(b - 1))",
        more="\n\ndef g(a):\n    return a + 1\n",
    )
    for mutant in mutants(source, ["f"]):
        assert "tuple[int, 3]" in mutant.source and mutant.source.endswith("    return a + 1\n")
        assert "raise" not in mutant.before or mutant.rule == "statement"
    assert {mutant.line for mutant in mutants(source, ["f"])} == {6, 7}


SEVERAL_LINES = """total = (
    a  # the first, wïth ünïcode in the comment
    - b * (c - 1)
)
return total if total > 0 else -total"""


def test_every_mutant_is_another_program_and_nothing_else_changed():
    source = file_with(SEVERAL_LINES)
    made = mutants(source, ["f"])
    dumps = {ast.dump(ast.parse(mutant.source)) for mutant in made}
    assert len(dumps) == len(made) > 10 and ast.dump(ast.parse(source)) not in dumps
    original = {}
    exec(source.replace("import torch", ""), original)
    values = set()
    for mutant in made:
        assert mutant.source.splitlines()[: mutant.line - 1] == source.splitlines()[: mutant.line - 1]
        assert mutant.source.splitlines()[-1] == source.splitlines()[-1] and "ünïcode" not in mutant.before
        namespace = {}
        exec(mutant.source.replace("import torch", ""), namespace)
        values.add(namespace["f"](7.0, 2.0, 3.0) == original["f"](7.0, 2.0, 3.0))
    assert False in values


def test_meaning_is_kept_where_parentheses_are_needed():
    """Turning `a - b` round inside `c - (...)` must give c - (b - a), not c - b - a."""
    (mutant,) = [m for m in mutants(file_with("return c - (a - b)"), ["f"]) if m.after == "return c - (b - a)"]
    namespace = {}
    exec(mutant.source.replace("import torch", ""), namespace)
    assert namespace["f"](5, 3, 10) == 10 - (3 - 5)


def test_at_most_a_dozen_by_turns_from_every_rule():
    body = "\n".join(f"x{i} = a * {i}.5 + b[{i}] - c" for i in range(2, 9)) + "\nreturn a.detach()"
    made = mutants(file_with(body), ["f"])
    picked = chosen(made)
    assert len(picked) == LIMIT < len(made) and chosen(made) == picked
    rules = {mutant.rule for mutant in made}
    assert {mutant.rule for mutant in picked} == rules
    shares = [sum(mutant.rule == rule for mutant in picked) for rule in rules]
    assert max(shares) <= 3 and sum(shares) == LIMIT
    without = {picked[0].key}
    assert picked[0] not in chosen(made, without=without) and len(chosen(made, without=without)) == LIMIT
    assert len(chosen(made, limit=1000)) == len(made)


@pytest.mark.parametrize(
    "owner, killers",
    [
        ("train", ("train",)),
        ("Agent", ("Agent", "Agent.step")),
        ("Agent.step", ("Agent.step",)),
        ("Agent.helper", ("Agent", "Agent.step")),
        ("Baseline", ("Baseline.update",)),
        ("train.inner", ("train",)),
        ("helper", ("train", "Agent", "Agent.step", "Baseline.update")),
    ],
)
def test_who_may_kill_a_mutant(owner, killers):
    assert killers_of(owner, ["train", "Agent", "Agent.step", "Baseline.update"]) == killers


# A small course, with faults put in on purpose

SOLUTION = '''"""Lesson 1."""


def double(x: float) -> float:
    """2 x."""
    # BEGIN SOLUTION
    return x + x
    # END SOLUTION


def shift(x: float) -> float:
    """x + 3."""
    # BEGIN SOLUTION
    return x + 3
    # END SOLUTION
'''


def probe(name):
    return lambda module, x: {"y": getattr(module, name)(x)}


class Double(Check):
    probe = "double"

    def cases(self, rng):
        yield {"x": 3.0}
        yield {"x": float(rng.normal())}

    def truth(self, x):
        return {"y": 2 * x}

    @mistake("halved", "Half, not twice.")
    def halved(self, x):
        return {"y": x / 2}

    mistakes = [edit("squared", "x times x is the square.", {"x + x": "x * x"})]


class Shift(Check):
    probe = "shift"

    def cases(self, rng):
        yield {"x": 1.0}

    def truth(self, x):
        return {"y": x + 3}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A course of one lesson; `build(double=..., shift=..., alternatives=...)` puts it together."""

    def build(double=Double, shift=Shift, solution=SOLUTION, alternatives=(), hints=("double", "shift")):
        files = {"solutions/toy/tiny.py": solution, "lessons/01-tiny/lesson.md": "## 1.1 Tiny\n", "toy/__init__.py": ""}
        files["lessons/01-tiny/lesson.toml"] = 'number = 1\ntitle = "Tiny"\nfile = "toy/tiny.py"\nminutes = 1\nsummary = "-"\n'
        files["lessons/01-tiny/hints.toml"] = "".join(f'["{name}"]\nlevels = ["a", "b", "c"]\n' for name in hints)
        files |= {f"autograder/alternatives/toy/tiny/{i}.py": text for i, text in enumerate(alternatives)}
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        checks, probes = ModuleType("autograder.checks.toy.tiny"), ModuleType("autograder.probes.toy.tiny")
        checks.Double = check("double", points=1, section="1.1")(type("Double", (double,), {}))
        checks.Shift = check("shift", points=2, section="1.1")(type("Shift", (shift,), {}))
        probes.double, probes.shift = probe("double"), probe("shift")
        probes.forgiving = forgiving
        monkeypatch.setitem(sys.modules, checks.__name__, checks)
        monkeypatch.setitem(sys.modules, probes.__name__, probes)
        return courses.load(tmp_path)

    monkeypatch.setattr(reference, "ROOT", tmp_path)
    reference.source.cache_clear()
    workspace._compiled.cache_clear()
    yield build
    reference.source.cache_clear()
    workspace._compiled.cache_clear()


def forgiving(module, x):
    try:
        return {"y": module.shift(x)}
    except NotImplementedError:
        return {"y": None}


def run(course, equivalents=(), **options):
    return selfcheck(course, InProcess(), equivalents=list(equivalents), **options)


def tried(report, fault):
    return [(finding.exercise.split("::")[-1], finding.label) for finding in report.faults[fault]]


def test_a_course_in_order(small):
    ticks = []
    report = run(small(alternatives=["def double(x):\n    return 2 * x\n"]), step=lambda done, total: ticks.append((done, total)))
    assert report.ok and not any(report.faults.values())
    told = report.as_json()
    assert (told["exercises"], told["skeletons_failing"], told["solutions_passing"], told["hints_missing"]) == (2, 2, 2, 0)
    assert told["mutants"] == told["killed"] == told["named"] > 8
    assert (told["by_hand"], told["by_hand_named"], told["alternatives"], told["false_rejects"]) == (2, 2, 1, 0)
    lesson = told["lessons"]["1"]
    assert (lesson["exercises"], lesson["points"], lesson["mutants"], lesson["alternatives"]) == (2, 3, told["mutants"], 1)
    assert [exercise.name for exercise in report.without_alternative] == ["shift"]
    assert ticks == [(i + 1, len(report.findings)) for i in range(len(report.findings))]
    json.dumps(told)


def test_a_weak_check_lets_a_mutant_live_and_is_told(small):
    class Weak(Double):
        def cases(self, rng):
            yield {"x": 0.0}

        mistakes = []

    report = run(small(double=Weak))
    survivors = tried(report, "survivors")
    assert ("double", "operator, line 7: `return x + x` -> `return x - x`") in survivors
    assert ("double", "halved") in survivors
    assert all(exercise == "double" for exercise, _ in survivors)
    told = report.as_json()
    assert told["killed"] == told["mutants"] - len(survivors) and not told["ok"]


def test_an_alternative_that_is_right_and_refused_is_told(small):
    class Picky(Shift):
        def judge(self, got, expected, **case):
            return None if got["y"] == expected["y"] and isinstance(got["y"], float) else "not a float"

    alternatives = ["def shift(x):\n    return int(x) + 3\n", "def double(x):\n    return x * 2\n", "unrelated = 1\n"]
    report = run(small(shift=Picky, alternatives=alternatives))
    assert tried(report, "rejected") == [("shift", "0.py"), ("shift", "0.py"), ("toy/tiny.py", "2.py")]
    assert report.as_json()["false_rejects"] == 2 and "Shift says failed: Not a float." in report.faults["rejected"][0].detail
    assert not report.ok


def test_a_mistake_under_the_wrong_name_is_told(small):
    class Twice(Double):
        mistakes = [edit("half-of-it", "Half.", {"x + x": "x / 2"})]

    report = run(small(double=Twice))
    assert tried(report, "misnamed") == [("double", "half-of-it")]
    assert report.faults["misnamed"][0].detail == "named halved"
    told = report.as_json()
    assert told["killed"] == told["mutants"] == told["named"] + 1 and told["by_hand_named"] == told["by_hand"] - 1


def test_a_skeleton_that_earns_points_is_told(small):
    class Free(Shift):
        probe = "forgiving"

        def judge(self, got, expected, **case):
            return None if got["y"] in (None, expected["y"]) else "wrong"

    report = run(small(shift=Free))
    assert tried(report, "skeletons_passing") == [("shift", "the skeleton")]
    assert report.as_json()["skeletons_failing"] == 1


def test_a_solution_that_fails_under_another_seed_is_told(small):
    class Brittle(Double):
        def judge(self, got, expected, x):
            return None if abs(x) > 1e-3 and got == expected and round(x, 3) in (3.0, self.public) else "wrong"

    probe_of_case = small(double=Brittle)
    from autograder.grading.oracle import Oracle

    Brittle.public = round(Oracle("toy.tiny", 0).cases(probe_of_case.lessons[0].checks[0])[1]["x"], 3)
    report = run(probe_of_case)
    assert tried(report, "solutions_failing") == [("double", "the solution")]
    assert report.faults["solutions_failing"][0].seed == 1 and "under seed 1" in report.faults["solutions_failing"][0].detail


def test_equivalent_mutants_are_listed_and_stale_entries_told(small):
    class Even(Shift):
        def judge(self, got, expected, **case):
            return None if abs(got["y"]) == expected["y"] else "wrong"

    survivor = Equivalent("toy/tiny.py::shift", "return x + 3", "return -(x+3)", "The check looks at the size alone.")
    caught = Equivalent("toy/tiny.py::shift", "return x + 3", "return x - 3", "-")
    gone = Equivalent("toy/tiny.py::shift", "return x + 4", "return x - 4", "-")
    elsewhere = Equivalent("toy/other.py::shift", "return x + 4", "return x - 4", "-")
    before = run(small(shift=Even))
    assert tried(before, "survivors") == [("shift", "sign, line 14: `return x + 3` -> `return -(x + 3)`")]
    report = run(small(shift=Even), [survivor, caught, gone, elsewhere])
    assert not tried(report, "survivors")
    assert [label for _, label in tried(report, "stale")] == [
        "operator, line 14: `return x + 3` -> `return x - 3`",
        "`return x + 4` -> `return x - 4`",
    ]
    told = report.as_json()
    assert told["equivalent"] == 3 and told["mutants"] == before.as_json()["mutants"] - 2


def test_missing_hints_are_told(small):
    report = run(small(hints=("double",)))
    assert [exercise.name for exercise in report.hints_missing] == ["shift"] and not report.ok
    assert report.as_json()["faults"]["hints_missing"] == ["toy/tiny.py::shift"]


def test_a_check_that_does_not_work_is_told_and_not_raised(small):
    class Broken(Double):
        def truth(self, x):
            return {"y": x / 0}

    report = run(small(double=Broken))
    assert tried(report, "solutions_failing") == [("double", "the solution")] * 2
    assert "the check Double does not work: ZeroDivisionError" in report.faults["solutions_failing"][0].detail


def test_an_edit_whose_text_is_gone_from_the_reference_is_told(small):
    class Outdated(Double):
        mistakes = [edit("gone", "-", {"no such text": ""})]

    report = run(small(double=Outdated))
    assert ("double", "gone") in tried(report, "survivors")
    assert "EditError: 'no such text' occurs 0 times" in report.faults["solutions_failing"][0].detail


def test_the_report_for_people_names_every_fault(small, capsys):
    from rich.console import Console

    class Weak(Double):
        def cases(self, rng):
            yield {"x": 0.0}

    show(run(small(double=Weak, hints=())), Console(width=200, color_system=None))
    shown = capsys.readouterr().out
    for words in (" 1 Tiny", "Wrong, and not caught", "`return x + x` -> `return x - x`", "Not 3 levels of hints: 2"):
        assert words in shown
    assert "To be mended" in shown


def test_without_solutions_there_is_one_clear_line(small):
    course = small()
    (reference.ROOT / "solutions" / "toy" / "tiny.py").unlink()
    with pytest.raises(CourseError, match="needs solutions/toy/tiny.py"):
        run(course)


def test_units_run_side_by_side_give_the_same(small):
    """With an executor that may be called from several threads (here: one that takes turns)."""
    import threading

    class TakingTurns(InProcess):
        lock = threading.Lock()

        def run(self, request, **limits):
            with self.lock:
                return super().run(request, **limits)

    course, ticks = small(), []
    one = run(course)
    several = selfcheck(course, TakingTurns(), equivalents=[], jobs=4, step=lambda done, total: ticks.append(done))
    assert several.findings == one.findings and sorted(ticks) == list(range(1, len(one.findings) + 1))


def test_what_an_alternative_defines():
    text = "class Agent(Base):\n    x = 1\n    def get(self): ...\nf = g\ndef h(): ...\n"
    assert [defines(text, name) for name in ("Agent", "Agent.get", "f", "h")] == [True] * 4
    assert [defines(text, name) for name in ("Agent.update", "get", "g", "h.x")] == [False] * 4


def test_the_list_of_equivalents_gives_reasons(tmp_path):
    for entry in listed_equivalents():
        assert len(entry.reason) > 15 and "::" in entry.exercise
    (tmp_path / "e.toml").write_text('[[equivalent]]\nexercise = "x"\n')
    with pytest.raises(CourseError, match="exercise, before, after and reason"):
        listed_equivalents(tmp_path / "e.toml")


def test_alternatives_lie_beside_lessons_that_exist():
    """A folder of alternatives under a misspelt name would never be tried."""
    root = Path(reference.ROOT)
    for folder in (root / "autograder" / "alternatives").glob("*/*/"):
        if any(folder.glob("*.py")):
            assert (root / "solutions" / folder.parent.name / f"{folder.name}.py").is_file(), folder


@pytest.mark.slow
def test_the_real_course_is_in_order_within_a_minute():
    """Everything in the sandbox. The minute is on two quiet cores; a loaded machine gets thrice that."""
    from autograder.sandbox import open_sandbox

    course = courses.load(reference.ROOT)
    with open_sandbox([lesson.module for lesson in course.lessons if lesson.exercises]) as sandbox:
        report = selfcheck(course, sandbox, jobs=2)
    assert {name: found for name, found in report.as_json()["faults"].items() if found} == {}
    assert report.seconds < 60 * 3 * max(1, len(report.lessons) / 3)
