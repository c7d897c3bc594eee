"""The same marking without a page: a TOML file for each question, filled in with any editor and read back."""

from __future__ import annotations

import json
import textwrap
import tomllib
from pathlib import Path

from autograder.progress import write_whole
from autograder.reports.class_data import harmless

from .marking import Marking, MarkingProblem, Task
from .marks import read_sheet

WIDTH = 110
LARGEST = 64 << 20  # bytes: a thousand long answers are some three million


def write_files(marking: Marking, folder: Path) -> list[Path]:
    """Writes a file for each question, with the marks so far. Raises MarkingProblem where one is there: it may be in use."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {folder / f"{task.question.lesson.folder.name}.{task.question.id}.toml": task for task in marking.tasks.values()}
    for path in paths:
        if path.exists():
            raise MarkingProblem(f"{path} is there already: read it back first (--read {folder}), or name an empty folder")
    for path, task in paths.items():
        write_whole(path, text_of(marking, task))
    return list(paths)


def text_of(marking: Marking, task: Task) -> str:
    """A question's file: the question and its rubric, then each answer as a comment with its mark below."""
    question, sheet = task.question, read_sheet(marking.out, task.question)
    lines = [f"Lesson {question.lesson.number}, {question.id}: {question.points:g} points.", ""]
    lines += [
        *_wrapped(question.prompt),
        "",
        *(_wrapped(f"In short: {question.explanation}") if question.explanation else []),
        "",
    ]
    lines += ["Write into `points` what each answer earns for these items, in this order; leave it empty for later:"]
    for number, item in enumerate(task.items, start=1):
        lines += _wrapped(f"{number}. 0 to {item.worth:g}: {item.text}", "   ")
    parts = ["\n".join(f"# {line}".rstrip() for line in lines), f"question = {json.dumps(question.result_id)}\n"]
    for answer in task.answers:
        mark = marking.mark_of(sheet, answer)
        said = [f"#     {line}".rstrip() for line in _shown(answer.text)]
        if len(answer.students) > 1:
            said.insert(0, f"# {len(answer.students)} students wrote exactly this:")
        points = "[" + ", ".join(f"{value:g}" for value in mark.points) + "]" if mark else "[]"
        comment = json.dumps(mark.comment if mark else "", ensure_ascii=False)
        parts.append(
            "\n".join(["[[answer]]", f'code = "{answer.code}"', *said, f"points = {points}", f"comment = {comment}\n"])
        )
    return "\n\n".join(parts)


def read_files(marking: Marking, folder: Path) -> tuple[int, int]:
    """(marks read, answers still empty) of the files in a folder. All are looked through before any mark is kept.

    Raises MarkingProblem, which names the file and the answer, for what cannot be taken.
    """
    paths = sorted(folder.glob("*.toml")) if folder.is_dir() else [folder] if folder.is_file() else []
    if not paths:
        raise MarkingProblem(f"{folder}: there are no .toml files to read; `--files {folder}` writes them")
    found: dict[str, dict] = {}
    empty = 0
    for path in paths:
        row_id, entries = _read(path)
        marks = {code: mark for code, mark in entries.items() if mark is not None}
        try:
            task = marking.task(row_id)
            answers = {code: task.answer(code) for code in entries}
            for code, mark in marks.items():
                marking.checked(task, answers[code], *mark)
        except MarkingProblem as problem:
            raise MarkingProblem(f"{path}: {problem}") from None
        found.setdefault(row_id, {}).update(marks)
        empty += len(entries) - len(marks)
    for row_id, marks in found.items():
        if marks:
            marking.save_all(row_id, marks)
    return sum(map(len, found.values())), empty


def _read(path: Path) -> tuple[str, dict[str, tuple | None]]:
    """(question, {code: (points, comment), or None where it is left for later}) of one file."""
    try:
        if path.stat().st_size > LARGEST:
            raise MarkingProblem(f"{path}: larger than {LARGEST >> 20} MB")
        told = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise MarkingProblem(f"{path}: expected UTF-8; save it so") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise MarkingProblem(f"{path}: not readable as TOML ({str(error)[:120]})") from None
    answers = told.get("answer", [])
    if not isinstance(told.get("question"), str) or not isinstance(answers, list):
        raise MarkingProblem(
            f"{path}: expected `question = ...` and [[answer]] tables, as `climb rubric --files` writes them"
        )
    marks: dict[str, tuple | None] = {}
    for number, entry in enumerate(answers, start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("code"), str) or "points" not in entry:
            raise MarkingProblem(f"{path}: answer {number} has no `code` or no `points`")
        if entry["code"] in marks:
            raise MarkingProblem(f"{path}: answer {entry['code']} stands there twice")
        if entry["points"] == []:
            if entry.get("comment"):
                raise MarkingProblem(f"{path}: answer {entry['code']} has a comment and no points; give it points, 0 too")
            marks[entry["code"]] = None
        else:
            marks[entry["code"]] = (entry["points"], entry.get("comment", ""))
    return told["question"], marks


def _wrapped(text: str, later: str = "") -> list[str]:
    lines = []
    for paragraph in text.split("\n\n"):
        lines += textwrap.wrap(" ".join(paragraph.split()), WIDTH, subsequent_indent=later)
    return lines


def _shown(text: str) -> list[str]:
    lines = []
    for line in harmless(text).replace("\r", "\n").split("\n"):
        lines += textwrap.wrap(line, WIDTH, replace_whitespace=False, drop_whitespace=False) or [""]
    return lines
