"""GitHub Classroom: the workflow in a student's copy, and what turns `climb check --json` into the form that Classroom reads.

Its reporter (classroom-resources/autograding-grading-reporter) takes from each step a result in base64: JSON with `status`,
`max_score` and `tests`, whose `score`s it adds up. So one step checks everything once, and each exercise counts for itself.

    python -m autograder.classroom RESULT.json      # in the workflow; writes `result=...` to the file that GITHUB_OUTPUT names
"""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path

WORKFLOW = """# For GitHub Classroom: checks every push and reports the points. Written by `climb release`.
#
# These are the checks you run yourself with `climb check`, under the public seed. Whoever owns a repository can change this file,
# so what counts for a grade is what your instructor's hidden cases say.
name: Autograding Tests

on:
  - push
  - workflow_dispatch

permissions:
  checks: write
  actions: read
  contents: read

jobs:
  autograding:
    runs-on: ubuntu-latest
    if: github.actor != 'github-classroom[bot]'
    timeout-minutes: 30
    steps:
      - name: Get the files
        uses: actions/checkout@v4
      - name: Get Python
        uses: actions/setup-python@v5
        with:
          python-version: "3.12"
          cache: pip
          cache-dependency-path: pyproject.toml
      - name: Install
        env:
          TORCH_INDEX: ${{ vars.TORCH_INDEX }}  # a package index of PyTorch's CPU builds: much less to download
        run: |
          if [ -n "$TORCH_INDEX" ]; then pip install --index-url "$TORCH_INDEX" torch; fi
          pip install -e .
      - name: Check
        id: climb
        run: |
          climb check --json > "$RUNNER_TEMP/climb.json" || [ $? -eq 1 ]
          python -m autograder.classroom "$RUNNER_TEMP/climb.json"
      - name: Report the points
        uses: classroom-resources/autograding-grading-reporter@v1
        env:
          CLIMB_RESULTS: ${{ steps.climb.outputs.result }}
        with:
          runners: climb
"""
MESSAGE = 300  # characters of a verdict in the report
BYTES = 900_000  # of a step's output; GitHub allows a megabyte


def report(result: dict) -> dict:
    """A result of `climb check` as the reporter reads it: a test for each exercise, with its points."""
    tests = [
        {
            "name": row["id"],
            "status": "pass" if row["status"] == "passed" else "fail",
            "score": row["score"],
            "message": " ".join(row["message"].split())[:MESSAGE],
            "test_code": f"climb check {row['id']}",
            "filename": row["id"].split("::")[0],
            "line_no": 0,
            "execution_time": "0s",
        }
        for row in result["exercises"]
    ]
    right = all(test["status"] == "pass" for test in tests)
    return {"version": 1, "status": "pass" if right else "fail", "max_score": result["max_score"], "tests": tests}


def encoded(made: dict) -> str:
    """The report in base64. Messages go first where it would be longer than a step may say: points are what counts."""
    text = base64.b64encode(json.dumps(made).encode()).decode()
    if len(text) <= BYTES:
        return text
    return encoded(made | {"tests": [test | {"message": ""} for test in made["tests"]]})


def summary(result: dict) -> str:
    """The same for a person, in Markdown, as the page of the workflow's run shows it."""
    rows = [
        f"| `{row['id']}` | {row['status'].replace('_', ' ')} | {row['score']:g} / {row['max_score']:g} |"
        for row in result["exercises"]
    ]
    head = [f"{result['score']:g} of {result['max_score']:g} points", "", "| exercise | | points |", "|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def main(path: Path) -> int:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        text, told = encoded(report(result)), summary(result)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"climb: {path} is no result of `climb check --json` ({type(error).__name__})", file=sys.stderr)
        return 2
    for variable, addition in (("GITHUB_OUTPUT", f"result={text}\n"), ("GITHUB_STEP_SUMMARY", told)):
        if os.environ.get(variable):
            with open(os.environ[variable], "a", encoding="utf-8") as file:
                file.write(addition)
    print(told)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "climb.json")))
