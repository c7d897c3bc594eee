"""Our result as Gradescope's results.json: a test for each exercise and question, with partial credit, and no leaderboard."""

from __future__ import annotations

from typing import Any, Sequence

from autograder.course import Course
from autograder.policy import Policy

OUTPUT_LIMIT = 2000  # characters of one test's text
ABOUT = ("schema", "grader", "sandbox", "layers", "seed", "seconds", "score", "max_score")
WORDS = {
    "passed": "Right.",
    "not_started": "Not started.",
    "missing": "Not handed in.",
    "failed": "Not right yet.",
    "error": "It stopped with an error.",
    "timeout": "It did not end in time.",
    "crashed": "It crashed.",
    "refused": "The file was not accepted.",
}


def results_json(
    result: dict, course: Course, policy: Policy, problems: Sequence[str] = (), applied: dict | None = None, note: str = ""
) -> dict:
    """The whole file. problems: what was said of the hand-in's files.  applied: what a policy makes of the result, if any."""
    tests = [test_of(row, course, policy) for row in result["exercises"]]
    lines = [note] if note else []
    lines += problems[:8]
    found: dict[str, Any] = {
        "tests": tests,
        "stdout_visibility": "hidden",  # of the run's log, which is the instructor's
        "execution_time": round(result["seconds"]),
        "test_output_format": "text",
        "extra_data": {key: result[key] for key in ABOUT},
    }
    if applied is not None:
        found["score"] = applied["score"]
        found["extra_data"]["policy"] = applied
        lines += lateness(applied)
    if lines:
        found["output"] = "\n".join(lines)
        found["output_format"] = "text"
    return found


def failed_json(message: str) -> dict:
    """What a student reads when there is no verdict: no points, and no blame."""
    return {"score": 0, "output": message, "output_format": "text", "stdout_visibility": "hidden", "tests": []}


def test_of(row: dict, course: Course, policy: Policy) -> dict:
    lesson = next((lesson for lesson in course.lessons if lesson.number == row["lesson"]), None)
    file, _, name = row["id"].partition("::")
    shown = policy.visibility
    text = [WORDS.get(row["status"], row["status"])] if not row["message"] else [row["message"]]
    if shown.mistakes and row["misconception"]:
        text.append(f"This is the mistake called {row['misconception']}.")
    if shown.hints and row["hint"]:
        text.append(row["hint"])
    if row["status"] != "passed" and row["lesson_anchor"]:
        text.append(f"Read: {row['lesson_anchor']}")
    right = row["status"] == "passed"
    return {
        "name": f"Lesson {row['lesson']}{', silent bug' if file.endswith('_bug.py') else ''}: {name or row['id']}",
        "score": row["score"],
        "max_score": row["max_score"],
        "status": "passed" if right else "failed",
        "output": "" if right and not row["message"] else "\n".join(text)[:OUTPUT_LIMIT],
        "output_format": "text",
        "name_format": "text",
        "visibility": policy.lesson(row["lesson"]).tests,
        "tags": [lesson.title] if lesson is not None else [],
        "extra_data": {"id": row["id"], "status": row["status"], "misconception": row["misconception"]},
    }


def lateness(applied: dict) -> list[str]:
    """A line for each lesson that lost points by being late."""
    return [
        f"Lesson {row['lesson']}: days late: {row['late_days']}, {100 * row['penalty']:g}% off."
        for row in applied["lessons"]
        if row["penalty"]
    ]
