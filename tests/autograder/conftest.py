"""A graded class as `climb grade --out` leaves it, made without grading anything: for the pages, the rubric and the exports."""

import json
import random
import shutil
import threading
from pathlib import Path

import pytest

SCRIPT = "<script>document.title='hacked'</script>"
HOSTILE = [
    f"{SCRIPT}",
    '"><img src=x onerror="document.title=1">',
    "=cmd|' /C calc'!A0",
    "</title></script><b>bold",
    "\u202egnp.exe",
    "a&amp;b",
    "x" * 80,
]
MESSAGES = {
    "passed": "",
    "failed": "Wrong on a hidden case. `means` is not right.",
    "error": "It stopped: ValueError.\nat {file}, line 3: raise ValueError(x)",
    "timeout": "No answer within 10 s (in the first case). Is there a loop that does not end?",
    "crashed": "The process ended before it answered (in the first case): it exited early.",
    "not_started": "Not started.",
    "missing": "The submission has no {file}.",
}


def row_of(exercise, status, mistake=None, hint="", score=None):
    """A row of a result about an exercise of the course."""
    file = exercise.lesson.file
    return {
        "id": exercise.id,
        "lesson": exercise.lesson.number,
        "score": (exercise.points if status == "passed" else 0.0) if score is None else score,
        "max_score": exercise.points,
        "status": status,
        "misconception": mistake,
        "message": MESSAGES[status].format(file=file),
        "hint": hint,
        "lesson_anchor": exercise.anchor,
    }


def write_result(out, name, rows, folder=None, seconds=1.0, seed="0123456789abcdef", **more):
    """DIR/<student>/result.json, by the contract."""
    place = out / (folder or name)
    place.mkdir(parents=True)
    result = {
        "schema": 1,
        "submission": name,
        "grader": "0.1.0",
        "sandbox": "full",
        "layers": ["rlimits", "landlock"],
        "seed": seed,
        "score": sum(row["score"] for row in rows),
        "max_score": sum(row["max_score"] for row in rows),
        "seconds": seconds,
        "exercises": rows,
    }
    (place / "result.json").write_text(json.dumps(result | more), encoding="utf-8")
    return place


def keep_files(place, files):
    """What was handed in, where the grader keeps it."""
    for name, text in files.items():
        file = place / ("answers" if name.startswith("answers/") else "files") / name.removeprefix("answers/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def pretend_class(out, course, count, seed=0, text="", mistakes=("flipped-sign", "dropped-token", "zero-spread")):
    """So many students, each of an ability; harder exercises are passed by fewer; every eleventh handed in nothing."""
    rng = random.Random(seed)
    hard = {exercise.id: rng.uniform(0.05, 1.2) for exercise in course.exercises}
    for number in range(count):
        able, empty = rng.uniform(0.1, 1.4), number % 11 == 10
        rows = []
        for exercise in course.exercises:
            if empty:
                rows.append(row_of(exercise, "missing"))
            elif able > hard[exercise.id] + rng.gauss(0, 0.15):
                rows.append(row_of(exercise, "passed"))
            elif rng.random() < 0.25:
                rows.append(row_of(exercise, "not_started"))
            elif rng.random() < 0.2:
                rows.append(row_of(exercise, rng.choice(["error", "timeout", "crashed"])))
            else:
                mistake = rng.choice([*mistakes, None])
                rows.append(row_of(exercise, "failed", mistake, f"This is {mistake}: look at the sign." if mistake else ""))
        place = write_result(out, f"student-{number:04d}", rows, seconds=rng.lognormvariate(1, 0.5))
        if text and not empty:
            keep_files(place, {lesson.file: text for lesson in course.lessons[:3]})
    return out


class Browser:
    """Headless Chromium without a network; `errors` gathers what pages complain of, `asked` every address they ask for."""

    def __init__(self, browser):
        self.browser = browser

    def open(self, address, width=1280, height=900, **options):
        context = self.browser.new_context(viewport={"width": width, "height": height}, **options)
        page = context.new_page()
        page.errors, page.asked = [], []
        page.on("console", lambda message: page.errors.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address if isinstance(address, str) else Path(address).as_uri())
        return page


@pytest.fixture(scope="session")
def browser():
    """A browser for all tests; they are skipped where there is none."""
    chromium = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here (pip install 'climb-course[test]')")
    if chromium is None:
        pytest.skip("no chromium here (apt-get install chromium): no page was opened")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield Browser(opened)
        opened.close()


@pytest.fixture
def pages():
    """The makers of this file, for tests that build a class."""

    class Made:
        pretend_class, row_of, write_result, keep_files = map(staticmethod, (pretend_class, row_of, write_result, keep_files))
        hostile, script, lock = HOSTILE, SCRIPT, threading.Lock()

    return Made
