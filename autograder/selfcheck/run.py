"""The self-check from beginning to end: every unit of every lesson tried, and what came of it counted."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable

from autograder.course import Course, CourseError, Lesson
from autograder.grading.workspace import has_reference
from autograder.sandbox.executor import Executor

from .bench import Bench
from .mutants import LIMIT
from .report import Report
from .units import Equivalent, Finding, Unit, is_of, listed_equivalents, other_units, solution_units


def selfcheck(
    course: Course,
    executor: Executor,
    *,
    lessons: list[Lesson] | None = None,
    jobs: int = 1,
    limit: int = LIMIT,
    equivalents: list[Equivalent] | None = None,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Tries every unit of the lessons (all by default) and returns what was found.

    jobs: threads that run units side by side; 1 for an executor that works in this process.
    limit: mutants made by rule, for each exercise.  step: told how many units are done, of how many.
    Raises CourseError where there are no solutions (a student's copy).
    """
    started = time.perf_counter()
    lessons = [lesson for lesson in lessons or course.lessons if lesson.exercises]
    for lesson in lessons:
        if not has_reference(lesson):
            raise CourseError(f"the self-check needs solutions/{lesson.file}, which a student's copy does not have")
    equivalents = listed_equivalents() if equivalents is None else equivalents
    bench = Bench(course, executor)
    work = [(lesson, [*solution_units(lesson), *other_units(lesson, equivalents, limit)]) for lesson in lessons]
    total = sum(len(units) for _, units in work)
    findings = _one_by_one(work, bench, step, total) if jobs == 1 else _side_by_side(work, bench, step, total, jobs)
    listed = [entry for entry in equivalents if any(is_of(entry, lesson) for lesson in lessons)]
    report = Report(course, lessons, findings, listed, list(executor.layers))
    report.seconds = time.perf_counter() - started
    return report


def _one_by_one(work: list[tuple[Lesson, list[Unit]]], bench: Bench, step: Callable, total: int) -> list[Finding]:
    findings = []
    for lesson, units in work:
        bench.prepare(lesson)
        for unit in units:
            findings.append(unit.run(bench))
            step(len(findings), total)
    return findings


def _side_by_side(work: list[tuple[Lesson, list[Unit]]], bench: Bench, step: Callable, total: int, jobs: int) -> list[Finding]:
    """Truths are computed here, lesson by lesson, while the units of the lessons before run in the threads.

    Here alone, because truths may draw from the process's global random generators: two at once would disturb each other.
    """
    pool, lock, futures, count = ThreadPoolExecutor(jobs), threading.Lock(), [], 0

    def done(_: Future) -> None:
        nonlocal count
        with lock:
            count += 1
            step(count, total)

    try:
        for lesson, units in work:
            bench.prepare(lesson)
            for unit in units:
                futures.append(pool.submit(unit.run, bench))
                futures[-1].add_done_callback(done)
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
