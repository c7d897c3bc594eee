"""The student bundle: it works by itself, and holds no answer."""

import ast
import base64
import json
import os
import random
import re
import subprocess
import sys
import tomllib

import pytest

from autograder import course as courses
from autograder import classroom, reference, release
from autograder.checks import Edit
from autograder.commands.release import with_what_they_import
from autograder.policy import load_policy
from autograder.reference import ROOT
from autograder.skeletons import skeleton

COURSE = courses.load(ROOT)
SMALL = COURSE.lessons[:2]

DRIVER = """
import contextlib, io, json, sys
# A course installed for development answers for what the copy lacks: a student's machine has none.
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
from autograder import cli
from autograder.reference import ROOT
said = [str(ROOT)]
for step in json.load(sys.stdin):
    if "write" in step:
        for file, text in step["write"].items():
            (ROOT / file).write_text(text, encoding="utf-8")
        continue
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = cli.run(step["run"])
    said.append([code, out.getvalue(), err.getvalue()])
json.dump(said, sys.stdout)
"""


def in_bundle(bundle, *steps):
    """Runs command lines in the bundle, with its own grader; dictionaries are files to write in between."""
    given = json.dumps([{"write": step} if isinstance(step, dict) else {"run": step} for step in steps])
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COLUMNS"))}
    environment = kept | {"PYTHONPATH": str(bundle), "COLUMNS": "400"}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=given,
        cwd=bundle / "toy",
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    root, *said = json.loads(done.stdout)
    assert root == str(bundle)  # it was the bundle's grader that answered
    return said


RULES = """title = "RL for language models, winter term"
timezone = "Europe/Vienna"
lessons = "1-2"
[late]
grace_minutes = 15
penalty_per_day = 0.1
cap = 0.5
[lesson.1]
opens = 2026-11-20
due = 2026-12-04T18:00:00
weight = 2
[extensions]
anna = 3
"""


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """A copy as an instructor's rules have it: two lessons, with their dates."""
    place = tmp_path_factory.mktemp("release")
    (place / "course.toml").write_text(RULES)
    policy = load_policy(place / "course.toml", COURSE)
    chosen = [lesson for lesson in COURSE.lessons if policy.graded(lesson.number)]
    assert chosen == SMALL
    release.release(COURSE, chosen, place / "bundle", policy=policy)
    return place / "bundle"


@pytest.fixture
def copied(bundle, tmp_path):
    subprocess.run(["cp", "-r", bundle, tmp_path / "copy"], check=True)
    return tmp_path / "copy"


def solution_lines(lesson):
    """What stands between the marks of a solution, line by line with the line after it."""
    inside, lines = False, []
    for line in (ROOT / "solutions" / lesson.file).read_text(encoding="utf-8").splitlines():
        line = line.strip()
        inside = line == reference.BEGIN or (inside and line not in (reference.END, "# PLANTED"))
        if inside and line != reference.BEGIN:
            lines.append(line)
    return lines


# What is in it, and what is not


def test_it_holds_what_a_student_needs(bundle):
    for lesson in SMALL:
        for name in ("lesson.toml", "lesson.md", "hints.toml"):
            assert (bundle / "lessons" / lesson.folder.name / name).read_bytes() == (lesson.folder / name).read_bytes()
        assert "NotImplementedError" in (bundle / lesson.file).read_text()
        assert len(list((bundle / "lessons" / lesson.folder.name).glob("*.png"))) == len(list(lesson.folder.glob("*.png")))
        assert f"lessons/{lesson.folder.name}/lesson.md" in (bundle / "README.md").read_text()
    assert len(list((bundle / "lessons").glob("*/lesson.toml"))) == len(SMALL)
    tomllib.loads((bundle / "pyproject.toml").read_text())
    for command in re.findall(r"climb (\w+)", (bundle / "README.md").read_text()):
        assert command in ("next", "check", "watch", "hint", "answer", "progress", "run", "quiz", "report")


def test_it_holds_no_solutions_tests_or_tools_of_the_trusted_side(bundle):
    for name in (
        "solutions",
        "tests",
        "autograder/selfcheck",
        "autograder/alternatives",
        "autograder/release.py",
        "autograder/gradescope",
        "autograder/exports",
        "autograder/rubric",
        "autograder/similarity",
        ".git",
        ".climb",
    ):
        assert not (bundle / name).exists()
    assert not list(bundle.rglob("figures.py")) and not list(bundle.rglob("__pycache__"))


def test_no_line_of_a_solution_is_in_it(bundle):
    """Longer than 30 characters, outside the lessons' prose. Given code and probes may share a line, not two in a row."""
    texts = {}
    for path in bundle.rglob("*"):
        if path.is_file() and path.suffix != ".png" and path.name != "lesson.md":
            texts[path.relative_to(bundle).as_posix()] = path.read_bytes().decode("utf-8", "replace")
    handed_out_as_it_is = re.compile(r"\w+/given/|autograder/probes/")
    for lesson in SMALL:
        lines = solution_lines(lesson)
        long = [line for line in lines if len(line) > 30]
        assert len(long) > 3
        for file, text in texts.items():
            if not handed_out_as_it_is.match(file):
                assert not [line for line in long if line in text], file
            joined = "\n".join(line.strip() for line in text.splitlines())
            pairs = [f"{one}\n{two}" for one, two in zip(lines, lines[1:]) if len(one) > 30 and len(two) > 15]
            assert not [pair for pair in pairs if pair in joined], file


def test_questions_come_without_answers(bundle):
    seen = 0
    for path in bundle.glob("lessons/*/questions.toml"):
        ours = tomllib.loads((ROOT / path.relative_to(bundle)).read_text(encoding="utf-8"))["question"]
        theirs = tomllib.loads(path.read_text(encoding="utf-8"))["question"]
        assert [question["id"] for question in theirs] == [question["id"] for question in ours]
        for mine, yours in zip(theirs, ours):
            assert not set(mine) & set(release.ANSWERS) and mine == {
                key: value for key, value in yours.items() if key not in release.ANSWERS
            }
        for question in ours:
            seen += 1
            for secret in ("explanation", *(f"rubric {i}" for i in range(len(question.get("rubric", []))))):
                text = (
                    question.get("explanation", "") if secret == "explanation" else question["rubric"][int(secret.split()[1])]
                )
                assert not text or text not in path.read_text(encoding="utf-8")
    assert seen


@pytest.mark.parametrize("lesson", COURSE.lessons, ids=lambda lesson: lesson.module)
def test_a_check_module_keeps_no_truth(lesson):
    """Of every lesson: neither `truth` nor a mistake's answer or edit, nor a helper that only they use; names and hints stay."""
    text = release.without_truth((ROOT / "autograder/checks" / lesson.file).read_text(encoding="utf-8"), lesson.checks)
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.name != "truth"
            assert not [d for d in node.decorator_list if "mistake" in ast.unparse(d)]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "edit":
            assert len(node.args) == 3 and ast.unparse(node.args[2]) == "{}"
        if isinstance(node, ast.ImportFrom):  # what is not in the bundle cannot be imported there
            assert not node.level and not re.match(r"solutions|autograder\.checks\.(toy|full)\.", node.module or ""), (
                ast.unparse(node)
            )
    for check in lesson.checks:
        for known in check.known_mistakes():
            if isinstance(known, Edit):
                for new in known.replacements.values():
                    assert len(new) <= 40 or new not in text


def test_defined_beside_and_used_by_the_truth_alone_is_dropped():
    text = '''"""Doc."""
import numpy as np
from autograder.checks import Check, check, mistake

ANSWERS = {1: 2}


def secret(x):
    return 2 * deeper(x)


def deeper(x):
    return ANSWERS[x]


class Base(Check):
    def truth(self, x):
        return {"y": secret(x)}


@check("f", points=1, section="1.1")
class F(Base):
    probe = "f"
    mistakes: list = []

    def cases(self, rng):
        yield {"x": drawn(np.ones(1))}

    def judge(self, got, expected, x):
        return shown(x)

    def helper(self):
        return 42

    def countdown(self, n):
        return self.countdown(n - 1) if n else 43

    @mistake("m", "hint")
    def wrong(self, x):
        return {"y": self.helper()}


def drawn(x):
    return x


def shown(x):
    return x
'''
    namespace = {"__name__": "made"}
    exec(compile(text, "made", "exec"), namespace)
    left = release.without_truth(text, [namespace["F"]()])
    exec(compile(left, "left", "exec"), {"__name__": "left"})
    for gone in ("secret", "deeper", "ANSWERS", "42", "43", "truth", "helper", "countdown", "wrong", "cases", "drawn", "numpy"):
        assert gone not in left, left
    for kept in ("shown", "judge", "edit('m', 'hint', {})"):
        assert kept in left, left


# It works by itself


def test_a_fresh_bundle_is_not_started_and_guides(copied):
    fresh, first, _, lessons, chosen = in_bundle(
        copied,
        ["check", "--json"],
        ["next"],
        ["hint", SMALL[0].exercises[0].name],
        ["progress", "--json"],
        ["check", "nonsense"],
    )
    result = json.loads(fresh[1])
    assert fresh[0] == 1 and {row["status"] for row in result["exercises"]} == {"not_started"} and fresh[2] == ""
    assert len(result["exercises"]) == sum(len(lesson.exercises) for lesson in SMALL)
    assert first[0] == 0 and first[1].startswith(SMALL[0].exercises[0].name)
    assert [row["hints"] for row in json.loads(lessons[1])["lessons"]] == [1] + [0] * (len(SMALL) - 1)
    assert chosen[0] == 2
    assert (copied / ".climb/progress.json").is_file() and not (copied / "toy/.climb").exists()


def test_what_a_student_cannot_do_says_why_in_a_line(copied):
    commands = [
        ["grade", "x", "--out", "y"],
        ["release", "x"],
        ["grade", "x", "--out", "y", "--executor", "dask"],
        ["selfcheck"],
        ["skeletons"],
        ["tour"],
        ["check", "--solutions"],
        ["check", "--seed", "3"],
    ]
    for words, (code, out, err) in zip(commands, in_bundle(copied, *commands)):
        assert code == 2 and out == "" and err.count("\n") == 1 and "student's copy" in err, (words, err)


def mistaken(lesson):
    """The solution with one known mistake in it, an exercise's first that is an edit; whose it is; and its name. None without."""
    for exercise in lesson.exercises:
        for check in exercise.checks:
            for known in check.known_mistakes():
                if isinstance(known, Edit) and len(exercise.checks) == 1:
                    return reference.edited(reference.source(lesson.module), known.replacements), exercise, known
    return None


def test_right_answers_pass_and_a_known_mistake_is_named(copied):
    right = {lesson.file: reference.source(lesson.module) for lesson in SMALL}
    made = [mistaken(lesson) for lesson in SMALL]
    wrong = {lesson.file: text for lesson, (text, _, _) in zip(SMALL, made)}
    solved, done, judged, go_on = in_bundle(copied, right, ["check", "--json"], ["next"], wrong, ["check", "--json"], ["next"])
    assert solved[0] == 0 and {row["status"] for row in json.loads(solved[1])["exercises"]} == {"passed"}
    assert "Every exercise passes" in done[1]
    rows = {row["id"]: row for row in json.loads(judged[1])["exercises"]}
    for _, exercise, known in made:
        assert rows[exercise.id]["status"] in ("failed", "error") and rows[exercise.id]["misconception"] == known.id
        assert rows[exercise.id]["hint"] == known.hint
    assert go_on[1].startswith(made[0][1].name)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_lesson_works_in_a_bundle(tmp_path):
    """The whole course: all solutions pass on frozen answers, and mistakes are named there as they are here."""
    release.release(COURSE, COURSE.lessons, tmp_path / "bundle")
    right = {lesson.file: reference.source(lesson.module) for lesson in COURSE.lessons}
    fresh, solved = in_bundle(tmp_path / "bundle", ["check", "--json"], right, ["check", "--json"])
    own = {lesson.module for lesson in COURSE.lessons if not lesson.silent_bug}
    for row in json.loads(fresh[1])["exercises"]:
        assert row["status"] == "not_started" or row["id"].split(".py")[0].replace("/", ".") not in own
        assert row["status"] != "passed" or row["id"].split(".py")[0].replace("/", ".") not in own
    failing = [
        (row["id"], row["status"], row["message"]) for row in json.loads(solved[1])["exercises"] if row["status"] != "passed"
    ]
    assert not failing
    rng = random.Random(0)
    able = [(lesson, made) for lesson in COURSE.lessons if (made := mistaken(lesson))]
    for lesson, (text, exercise, known) in rng.sample(able, 3):
        ((_, out, _),) = in_bundle(tmp_path / "bundle", right | {lesson.file: text}, ["check", exercise.id, "--json"])
        assert json.loads(out)["exercises"][0]["misconception"] == known.id


# As a student works through it


def filled_in(lesson, exercise):
    """The skeleton with this one exercise done as in the solution."""
    source = reference.source(lesson.module)
    body = re.search(rf"def {exercise.name}\(.*?# BEGIN SOLUTION\n(.*?) *# END SOLUTION\n", source, re.DOTALL)[1]
    stub = re.compile(rf' *raise NotImplementedError\("lesson {lesson.number}: {exercise.name}"\)\n')
    text = skeleton(source, lesson.number)
    assert len(stub.findall(text)) == 1
    return stub.sub(lambda _: body, text)


def test_a_student_works_through_a_term(copied):
    """Check: nothing begun. Do the first exercise: it passes, and the next is named. Ask for a hint. Do all: all points."""
    lesson = SMALL[0]
    first, second = lesson.exercises[:2]
    one, all_of_it = {lesson.file: filled_in(lesson, first)}, {lesson.file: reference.source(lesson.module)}
    fresh, to_do, begun, then, hint, done, end = in_bundle(
        copied,
        ["check", first.name, "--json"],
        ["next"],
        one,
        ["check", lesson.file, "--json"],
        ["next"],
        ["hint", second.name],
        all_of_it,
        ["check", lesson.file, "--json"],
        ["progress", "--json"],
    )
    assert fresh[0] == 1 and [row["status"] for row in json.loads(fresh[1])["exercises"]] == ["not_started"]
    assert to_do[1].startswith(first.name)
    rows = {row["id"]: row for row in json.loads(begun[1])["exercises"]}
    assert begun[0] == 1 and rows[first.id]["status"] == "passed" and rows[second.id]["status"] == "not_started"
    assert json.loads(begun[1])["score"] == first.points
    assert then[1].startswith(second.name) and hint[0] == 0 and hint[1].strip()
    assert done[0] == 0 and json.loads(done[1])["score"] == json.loads(done[1])["max_score"]
    assert json.loads(end[1])["lessons"][0]["passed"] == len(lesson.exercises)


def test_its_readme_says_what_is_due_and_not_who_has_longer(bundle):
    text = (bundle / "README.md").read_text()
    points = 2 * sum(exercise.points for exercise in SMALL[0].exercises)
    assert "# RL for language models, winter term" in text
    assert f"| 1 | Fri 20 Nov 2026, 00:00 CET | Fri 04 Dec 2026, 18:00 CET | {points:g} |" in text
    assert "15 minutes after it are not late" in text and "each day begun costs 10% of a lesson's points, 50% at most" in text
    assert "anna" not in text and not (bundle / "course.toml").exists()
    assert "| lesson | opens |" not in release.bundle_readme(SMALL)  # no rules, nothing said


def test_its_workflow_reports_points_to_github_classroom(bundle, tmp_path):
    """The workflow is YAML that runs what there is; its step's output is what Classroom's reporter adds up."""
    import yaml

    workflow = yaml.safe_load((bundle / ".github/workflows/classroom.yml").read_text())
    steps = workflow["jobs"]["autograding"]["steps"]
    (check,) = [step for step in steps if step.get("id") == "climb"]
    reporter = steps[-1]
    assert "autograding-grading-reporter" in reporter["uses"] and reporter["with"]["runners"] == "climb"
    assert reporter["env"] == {"CLIMB_RESULTS": "${{ steps.climb.outputs.result }}"}
    for line in check["run"].splitlines():
        assert line.startswith(("climb check --json", "python -m autograder.classroom"))
    result = {"score": 1.0, "max_score": 3.5, "exercises": []}
    for name, status, score, of in (("double", "passed", 1.0, 1.0), ("halve", "failed", 0.0, 2.5)):
        row = {"id": f"toy/first.py::{name}", "status": status, "score": score, "max_score": of, "message": "Why\nnot."}
        result["exercises"].append(row)
    (tmp_path / "climb.json").write_text(json.dumps(result))
    environment = os.environ | {
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "page"),
        "PYTHONPATH": str(bundle),
    }
    words = [sys.executable, "-m", "autograder.classroom", str(tmp_path / "climb.json")]
    subprocess.run(words, cwd=bundle, env=environment, check=True, capture_output=True)
    (line,) = (tmp_path / "output").read_text().splitlines()
    made = json.loads(base64.b64decode(line.removeprefix("result=")))
    assert made["status"] == "fail" and made["max_score"] == 3.5
    assert [(test["status"], test["score"]) for test in made["tests"]] == [("pass", 1.0), ("fail", 0.0)]
    assert "| `toy/first.py::halve` | failed | 0 / 2.5 |" in (tmp_path / "page").read_text()
    words[-1] = str(tmp_path / "nothing.json")
    assert subprocess.run(words, cwd=bundle, env=environment, capture_output=True).returncode == 2


def test_a_report_too_long_for_a_step_keeps_its_points():
    row = {"id": "toy/first.py::x", "status": "failed", "score": 0.5, "max_score": 1.0, "message": "m" * 5000}
    made = classroom.report({"score": 1000.0, "max_score": 2000.0, "exercises": [row] * 2000})
    text = classroom.encoded(made)
    assert len(text) <= classroom.BYTES and sum(test["score"] for test in json.loads(base64.b64decode(text))["tests"]) == 1000


# Where it is written


def test_only_into_an_empty_or_new_folder(tiny, tmp_path):
    mine = tiny.write("../full/notes.txt", "mine")
    tiny.climb("release", mine.parent).refused("is not empty", "nothing was written")
    tiny.climb("release", mine).refused("is a file")
    tiny.climb("release", tiny.root / "lessons" / "bundle").refused("lies in the course's own lessons/")
    tiny.climb("release", tmp_path / "new", "--lessons", "9").refused("there is no lesson 9")
    tiny.climb("release", tmp_path / "new", "--policy", tmp_path / "none.toml").refused("none.toml: cannot be read")
    assert mine.read_text() == "mine" and os.listdir(mine.parent) == ["notes.txt"] and not (tmp_path / "new").exists()


@pytest.mark.parametrize("there", [False, True])
def test_half_a_bundle_is_never_left(tiny, tmp_path, monkeypatch, there):
    def interrupted(course, lessons, target, step, policy):
        (target / "half").write_text("x")
        raise KeyboardInterrupt

    (tmp_path / "new").mkdir() if there else None
    before = sorted(os.listdir(tmp_path))
    monkeypatch.setattr(release, "release", interrupted)
    assert tiny.climb("release", tmp_path / "new").code == 130
    assert sorted(os.listdir(tmp_path)) == before and not list(tmp_path.glob("new/*"))
    monkeypatch.setattr(release, "release", lambda course, lessons, target, step, policy: (target / "whole").write_text("x"))
    done = tiny.climb("release", tmp_path / "new", "--lessons", "1")
    assert done.code == 0 and "Released 1 lesson (3 exercises)" in done.out and os.listdir(tmp_path / "new") == ["whole"]


def test_a_lesson_brings_the_earlier_ones_that_its_file_imports():
    course = courses.load(reference.ROOT)

    def brought(*numbers):
        asked = [lesson for lesson in course.lessons if lesson.number in numbers]
        return [lesson.number for lesson in with_what_they_import(asked, course) if not lesson.silent_bug]

    assert brought(1) == [1] and brought(3) == [3]
    assert {4, 5, 17} <= set(brought(17)) and 16 not in brought(17)
    for number in brought(15):  # and those that these import
        assert set(brought(number)) <= set(brought(15))
