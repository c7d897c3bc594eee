"""How fast a verdict comes: `climb check` from cold, `climb watch` from save to verdict, `climb grade` of 200 submissions.

    python tests/bench/bench_grader.py            # all three; RESULTS.md keeps the figures with date and machine

Each figure stands beside another one of the same run: a bare `import torch`, or a pytest process for each submission.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LESSON, FILE = "3", "toy/word_agent.py"
CLIMB = [sys.executable, "-m", "autograder.cli"]
SUBMISSIONS, PYTEST_RUNS, SAVES, COLD_RUNS = 200, 8, 20, 5

PYTEST_FILE = '''
import torch
from {name} import Agent, Baseline, policy_loss

def test_baseline():
    baseline = Baseline()
    baseline.update(1.0)
    assert baseline.get() == 1.0

def test_loss():
    assert abs(float(policy_loss(torch.zeros(6), 0, 1.0)) - 1.791759) < 1e-5

def test_agent():
    assert Agent()(torch.tensor([6])).shape == (1, 6)
'''


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        course = course_with_solutions(Path(folder) / "course")
        rows = [*cold(course), *watch(course), *grade(Path(folder))]
    print(f"\n{'what':<58}{'figure':>14}\n" + "-" * 72)
    for what, figure in rows:
        print(f"{what:<58}{figure:>14}")


def course_with_solutions(target: Path) -> Path:
    """A learner's folder in which every exercise is solved."""
    for name in ("lessons", "toy", "full"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    from autograder import reference

    (target / FILE).write_text(reference.source("toy.word_agent"), encoding="utf-8")
    return target


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def timed(command: list[str], cwd: Path) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seconds = time.perf_counter() - started
    if done.returncode not in (0, 1):
        raise SystemExit(f"{command} failed: {done.stderr.decode()[-500:]}")
    return seconds


def cold(course: Path) -> list[tuple[str, str]]:
    torch = statistics.median(timed([sys.executable, "-c", "import torch"], course) for _ in range(COLD_RUNS))
    check = statistics.median(timed([*CLIMB, "check", LESSON, "--json"], course) for _ in range(COLD_RUNS))
    return [
        ("bare `import torch`, median", f"{torch:.2f} s"),
        (f"`climb check {LESSON}`, cold, median", f"{check:.2f} s"),
        ("  of it beyond the import of torch", f"{check - torch:.2f} s"),
    ]


def watch(course: Path) -> list[tuple[str, str]]:
    """From the moment the file is written to the moment the verdict's line is read: one exercise edited at a time, then all at once."""
    pipe = subprocess.PIPE
    command = [*CLIMB, "watch", "--json"]
    text = (course / FILE).read_text(encoding="utf-8")
    with subprocess.Popen(command, cwd=course, env=environment(), stdout=pipe, text=True) as watcher:
        try:
            watcher.stdout.readline()
            time.sleep(1.0)  # let the watch begin
            one = [verdict_after(watcher, course, edited) for edited in (text, *edits(text, SAVES))]
            every = [verdict_after(watcher, course, f"{text}\nSAVE = {number}\n") for number in range(SAVES)]
        finally:
            watcher.terminate()
    return [
        (f"`climb watch`, one exercise edited, median of {SAVES}", f"{1000 * statistics.median(one[1:]):.0f} ms"),
        ("  slowest of them", f"{1000 * max(one[1:]):.0f} ms"),
        ("  what concerns every exercise edited, median", f"{1000 * statistics.median(every):.0f} ms"),
        ("  slowest of them", f"{1000 * max(every):.0f} ms"),
    ]


def verdict_after(watcher: subprocess.Popen, course: Path, text: str) -> float:
    started = time.perf_counter()
    (course / FILE).write_text(text, encoding="utf-8")
    result = json.loads(watcher.stdout.readline())
    seconds = time.perf_counter() - started
    if result["score"] != result["max_score"]:
        raise SystemExit(f"the reference did not pass: {result}")
    time.sleep(0.5)  # a person does not save twice at once
    return seconds


def edits(text: str, count: int) -> list[str]:
    """The file with a statement more in one function or method, each in its turn: no two alike, so that none has been seen before."""
    import ast

    parts = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    lines, found = text.splitlines(keepends=True), []
    for number in range(count):
        last = parts[number % len(parts)].body[-1]
        at = last.lineno - 1
        found.append("".join([*lines[:at], f"{' ' * last.col_offset}save = {number}\n", *lines[at:]]))
    return found


def grade(folder: Path) -> list[tuple[str, str]]:
    from autograder import reference

    text = reference.source("toy.word_agent")
    students = folder / "students"
    for number in range(SUBMISSIONS):
        place = students / f"student{number:03}" / "toy"
        place.mkdir(parents=True)
        (place / "word_agent.py").write_text(f"{text}\n# student {number}\n", encoding="utf-8")
    command = [*CLIMB, "grade", str(students), "--out", str(folder / "out"), "--lessons", LESSON]
    whole = timed(command, ROOT)
    first = json.loads((folder / "out" / "student000" / "result.json").read_text())
    if first["sandbox"] != "full" or first["score"] != first["max_score"]:
        raise SystemExit(f"expected full marks under the full sandbox, got {first['score']} under {first['sandbox']}")
    again = timed(command, ROOT)
    bare = instant(folder)
    tests = []
    for number in range(PYTEST_RUNS):
        place = folder / f"pytest{number}"
        place.mkdir()
        name = f"submission{number}"
        (place / f"{name}.py").write_text(text, encoding="utf-8")
        (place / "test_it.py").write_text(PYTEST_FILE.format(name=name), encoding="utf-8")
        tests.append(timed([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(place)], place))
    pytest = statistics.median(tests)
    each = whole / SUBMISSIONS
    return [
        (f"`climb grade` of {SUBMISSIONS}, lesson {LESSON}, full sandbox", f"{whole:.1f} s"),
        ("  for each submission, start included", f"{1000 * each:.0f} ms"),
        ("  for each, where the checks themselves are instant", f"{1000 * bare:.0f} ms"),
        ("  the same command again (nothing changed)", f"{again:.1f} s"),
        ("a pytest process with three asserts, median", f"{pytest:.2f} s"),
        ("  as often as one submission: pytest / climb", f"{pytest / each:.1f} x"),
        ("  the same against instant checks", f"{pytest / bare:.1f} x"),
    ]


def instant(folder: Path) -> float:
    """Seconds a submission when every check of the lesson is asked of a file whose answers cost nothing: the grader's own share.

    The same number of sandboxed processes, cases and comparisons; only the learner's code does no work (it returns at once).
    """
    from concurrent.futures import ThreadPoolExecutor

    from autograder import course as courses
    from autograder.grading.batch import Inline
    from autograder.grading.grade import Grader
    from autograder.grading.submissions import Submission
    from autograder.sandbox import open_sandbox

    course = courses.load(ROOT)
    lesson = course.lesson_of("toy.word_agent")
    names = {exercise.name.split(".")[0] for exercise in lesson.exercises}
    text = "\n".join(f"class {name}:\n    def __init__(self, *a, **k): raise ValueError('instant')\n    update = get = probabilities = None" for name in names)
    with open_sandbox(["toy.word_agent"], "full") as sandbox:
        grader = Grader(course, sandbox, seed=12345, jobs=os.cpu_count() or 1)
        grader.prepare(lesson.exercises)
        for exercise in lesson.exercises:
            for check in exercise.checks:
                for wrong in check.known_mistakes():  # computed once a batch, not once a submission
                    grader.oracle(lesson).answers(check, wrong)
        submission = Submission("instant", {lesson.module: text})
        grader.grade(submission, lesson.exercises, Inline())
        started = time.perf_counter()
        with ThreadPoolExecutor(grader.jobs) as pool:
            list(pool.map(lambda _: grader.grade(submission, lesson.exercises, Inline()), range(SUBMISSIONS)))
        return (time.perf_counter() - started) / SUBMISSIONS


if __name__ == "__main__":
    main()
