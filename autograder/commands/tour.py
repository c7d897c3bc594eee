"""`climb tour`: what the course is, in under two minutes: an agent learns, two submissions are graded, progress is shown."""

from __future__ import annotations

from pathlib import Path

import typer

from autograder import course as courses
from autograder.course import Course

SEED = 0
SHOWN = ("policy_loss", "Baseline.update", "Baseline.get")  # of lesson 3: what the two submissions are asked
SHOWN_MISTAKES = (("policy_loss", "flipped-sign"), ("Baseline.update", "counts-twice"))


def register(app: typer.Typer) -> None:
    app.command("tour")(tour)


def tour() -> None:
    """See the course at work: an agent learns, two files are graded, your progress is shown, a reward model is over-optimised."""
    from rich.console import Console

    from autograder.commands.release import need_solutions
    from autograder.sandbox import open_sandbox

    course, console = courses.load(), Console()
    need_solutions("tour")
    with open_sandbox(["toy.word_agent"]) as sandbox:  # starts while the agent trains
        console.rule("1  An agent learns to speak kindly")
        show_training(console, course.root / "runs" / "tour")
        console.rule("2  Two submissions are graded")
        show_grading(console, course, sandbox)
    console.rule("3  Six ways to one optimum")
    show_convergence(console, course.root / "runs" / "tour")
    console.rule("4  Your progress")
    show_progress(console, course)
    console.rule("5  What you optimise is not what you mean")
    show_gold_and_proxy(console, course.root / "runs" / "tour")
    console.print("Start with `climb next`, or read [cyan]lessons/01-einsum/lesson.md[/cyan].")


def show_training(console, folder: Path) -> None:
    """Lesson 3's agent, trained by the reference solution; the picture's path is printed."""
    from autograder.sandbox import compiler

    compiler.postpone()
    from solutions.toy import word_agent
    from toy.given import word_run
    from toy.given.run_folder import one_thread
    from toy.given.words import WORDS

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "word_agent.png"
    with one_thread():
        positive = word_run.save_picture(word_agent, path, SEED).positive.tolist()
    console.print(f"Six words: {', '.join(WORDS)}. The agent says one, hears +1 or -1, and takes a step of REINFORCE.")
    console.print(f"P(positive), exactly:  {sparkline(positive)}  {positive[0]:.3f} -> {positive[-1]:.3f} in {len(positive) - 1} steps")
    console.print(f"The picture: {path}", soft_wrap=True)


def sparkline(values: list[float], width: int = 40) -> str:
    """Probabilities as a line of blocks, from nothing at 0 to full at 1."""
    blocks = " ▁▂▃▄▅▆▇█"
    at = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    return "".join(blocks[min(8, round(value * 8))] for value in at)


def show_grading(console, course: Course, sandbox) -> None:
    """The reference beside an edit of it with known mistakes, through the same sandbox that grades a class."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text

    from autograder import reference
    from autograder.grading.grade import Grader
    from autograder.grading.submissions import Submission
    from autograder.reports import terminal

    module = "toy.word_agent"
    exercises = [exercise for exercise in course.lesson_of(module).exercises if exercise.name in SHOWN]
    right = reference.source(module)
    wrong = right
    for exercise, name in SHOWN_MISTAKES:
        wrong = reference.edited(wrong, edit_named(exercises, exercise, name).replacements)
    grader = Grader(course, sandbox)
    console.print(f"Each check runs in a process of its own, cut off by: {', '.join(sandbox.layers)}.")
    panels = []
    for name, text in (("anna", right), ("ben", wrong)):
        result = grader.grade(Submission(name, {module: text}), exercises)
        parts = []
        for row in result["exercises"]:
            parts.append(terminal.exercise_line(row))
            if row["status"] != "passed":
                parts.append(terminal.explanation(row))
                parts.append(Text())
        title = f"{name}: {result['score']:g} of {result['max_score']:g} points"
        panels.append(Panel(Group(*parts), title=title, width=min(64, max(40, console.width // 2 - 1))))
    console.print(Columns(panels))
    console.print("Ben's mistakes are named, because the grader knows what learners who make them would answer.")


def edit_named(exercises, exercise: str, name: str):
    checks = [check for e in exercises if e.name == exercise for check in e.checks]
    return next(wrong for check in checks for wrong in check.mistakes if wrong.id == name)


def show_convergence(console, folder: Path) -> None:
    """The course's figure, by the reference solutions of lessons 4 to 6."""
    from autograder.grading.shown import progress_bar
    from autograder.commands.run import exercises_of
    from toy.given import convergence
    from toy.given.run_folder import RunFolder, one_thread

    console.print("REINFORCE, RLOO, GRPO, PPO and DPO on a task whose optimum is known exactly: how far from it does each end?")
    with progress_bar(console) as bar, one_thread():
        task = bar.add_task("training", total=None)
        run = RunFolder(folder / "convergence")
        lessons = exercises_of(convergence, solutions=True)
        summary = convergence.run(convergence.Config(), lessons, run, lambda what, done, total: bar.update(task, description=what, completed=done, total=total))
    for line in convergence.told(summary):
        console.print(line, highlight=False)
    console.print(f"The picture: {run.path / 'convergence.png'}", soft_wrap=True)


def show_progress(console, course: Course) -> None:
    from autograder.commands.learn import lesson_row, show_progress
    from autograder.progress import Progress

    state = Progress(course.root)
    show_progress([lesson_row(lesson, state) for lesson in course.lessons])


def show_gold_and_proxy(console, folder: Path) -> None:
    """The figure that the course ends with, by the reference solution of lesson 17: exact, in a second or two."""
    from full.given import gold_proxy
    from solutions.full import overoptimisation
    from toy.given.run_folder import one_thread

    console.print("A reward model learned from 75 choices of a reader. Every way to optimise it: what does the reader think of that?")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "gold_proxy.png"
    with one_thread():
        curves = gold_proxy.all_curves(gold_proxy.World(), overoptimisation)
        gold_proxy.draw(curves).savefig(path, dpi=130)
    for line in gold_proxy.told(curves):
        console.print(line, highlight=False)
    console.print(f"The picture: {path}", soft_wrap=True)
