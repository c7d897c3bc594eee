"""One run of `climb grade`: what is not graded yet is, here or on a cluster; then scores, tables and pages of the whole class."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from autograder.course import Course, Exercise
from autograder.policy import Policy

from . import finish
from .batch import Graded, already_graded, checks_hash, grade_all, unit_key, write_scores
from .shown import Watched, count, show_changes, show_summary, tell

LEVELS = ("full", "process")  # of the sandbox, the stronger first


@dataclass
class Batch:
    """One run of `climb grade`: what is graded, into which folder, where."""

    course: Course
    exercises: list[Exercise]
    questions: list
    out: Path
    seed: int
    level: str
    jobs: int
    suffix: str
    as_json: bool
    executor: str = "local"
    scheduler: str | None = None
    backend: str | None = None

    @cached_property
    def console(self):
        from rich.console import Console

        return Console(stderr=self.as_json)

    def run(self, found: list, merge: list[Path], rules: Policy | None) -> Graded:
        """Grades what is not graded yet, with a sandbox only if there is such; then writes the scores of all."""
        units, now = finish.units(found), finish.now()
        levels = LEVELS[: LEVELS.index(self.level) + 1]
        checks = checks_hash(self.course, self.exercises, self.questions)
        keys = {one.name: [unit_key(one, checks, self.seed, level) for level in levels] for one in units}
        finish.bring_back(found, self.out)
        finish.renamed(units, keys, self.out, self.suffix)
        if merge:
            for folder, taken in finish.merged(merge, units, keys, self.out, self.suffix).items():
                tell(
                    f"{count(taken)} taken over from {folder}"
                    + ("" if taken else ": none there was graded with this seed, these lessons and checks")
                )
        kept = already_graded(units, self.exercises, self.course, self.seed, levels, self.out, self.questions)
        left = [unit for unit in units if unit.name not in kept]
        graded = Graded(dict(kept))
        if left:
            self.grade(left, graded)
        finish.best_attempts(found, graded, rules or Policy(), self.out, now)
        finish.apply_rules(found, graded, rules, self.out, now)
        if not self.suffix and (many := finish.set_aside(found, self.out)):
            those = "result is" if many == 1 else "results are"
            tell(f"{many} earlier {those} of nobody in this class: moved to {self.out / finish.EARLIER}")
        results = [graded.results[one.name] for one in found if one.name in graded.results]
        for result in results if self.as_json else ():
            print(json.dumps(result), flush=True)
        scores = write_scores(results, self.out / f"scores{self.suffix}.csv")
        finish.write_students(found, self.out, self.suffix)
        changes = finish.write_changes(units, self.out, self.suffix)
        if not self.as_json:
            show_changes(self.console, graded.changes, changes)
            show_summary(self.console, results, sum(one.name in kept for one in found), scores)
        return graded

    def grade(self, left: list, graded) -> None:
        """Grades these, here or on a cluster; says how far it came where it has to stop."""
        from autograder.cli import UsageProblem

        before = len(graded.results)
        with Watched(self.console, len(left)) as watched:

            def so_far() -> str:
                return f"{len(graded.results)} of {before + len(left)} graded and saved"

            try:
                if self.executor == "dask":
                    left_over = self.grade_spread(left, graded, watched)
                else:
                    left_over = left
                if left_over:
                    self.grade_here(left_over, graded, watched)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"{so_far()}; the same command goes on from there") from None
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                said = f"{where}{error.strerror or error}; {so_far()}. Once that is mended, the same command goes on from there"
                raise UsageProblem(said) from None

    def grade_here(self, left: list, graded, watched) -> None:
        from autograder.sandbox import open_sandbox

        modules = sorted({exercise.lesson.module for exercise in self.exercises})
        with open_sandbox(modules, "full" if self.level == "full" else None, backend=self.backend) as sandbox:
            from .grade import Grader

            self.announce(len(left), f"sandbox {sandbox.level}: {', '.join(sandbox.layers)}", sandbox.note)
            grader = Grader(self.course, sandbox, self.seed, self.jobs)
            grade_all(grader, left, self.exercises, self.out, watched.done, self.suffix, graded, self.questions)

    def grade_spread(self, left: list, graded, watched) -> list:
        from .spread import Order, cluster, grade_spread

        order = Order(
            str(self.course.root),
            tuple(exercise.id for exercise in self.exercises),
            tuple(lesson.folder.name for lesson in self.questions),
            self.seed,
            checks_hash(self.course, self.exercises, self.questions),
            self.level,
            self.backend,
        )
        with cluster(self.scheduler, self.jobs) as client:
            self.announce(len(left), f"Dask scheduler {client.scheduler.address}", "")
            return grade_spread(client, order, left, self.out, watched.done, self.suffix, graded, tell)

    def announce(self, many: int, where: str, note: str) -> None:
        from rich.markup import escape

        self.console.print(f"{count(many)} to grade, {len(self.exercises)} exercises; {where}", highlight=False)
        if note:
            self.console.print(escape(note), style="yellow")


def write_pages(out: Path, course: Course, rules: Policy | None) -> Path:
    """The pages of students and class; the class's."""
    from autograder.reports.class_report import write_reports

    return write_reports(out, course, policy=rules)
