"""The words and numbers of a quiz, as both the terminal and the page show them."""

from __future__ import annotations

import math
from typing import Any, Sequence

from autograder.quiz import scoring
from autograder.quiz.answers import Answers
from autograder.quiz.file import Quiz, Task
from autograder.quiz.forecasters import knows_the_shares

EDGE = "A forecast of {percent}% leaves no chance to {other}. If it is {other}, this costs infinitely many nats, for good."
HELP = (
    "A number from 0 to 100: how likely you think it is, in percent, that the answer is yes; 12.5 is a number too. It costs -ln "
    "of the chance that you gave to what came, in nats: 50 costs 0.69 either way, 90 costs 0.11 or 2.30, 99 costs 0.01 or 4.61, "
    "100 costs nothing or infinitely much. Say what you believe: no other number costs less on average."
)


def nats(value: float, digits: int = 3) -> str:
    """A loss in nats."""
    return "infinite" if value == math.inf else "minus infinity" if value == -math.inf else f"{value:.{digits}f}"


def percent(value: float) -> str:
    """A percentage as it was typed."""
    return f"{value:g}%"


def edge(value: float) -> str:
    """What has to be said before 0 or 100 is taken; nothing of any other number."""
    return EDGE.format(percent=f"{value:g}", other="yes" if value == 0 else "no") if value in (0, 100) else ""


def feedback(task: Task, said: float) -> dict[str, Any]:
    """What is shown after a forecast in percent."""
    paid = scoring.cost(said / 100, task.answer)
    beside = math.log(2)
    verdict = "as much as a coin" if math.isclose(paid, beside) else "less than a coin" if paid < beside else "more than a coin"
    return {
        "answer": "Yes" if task.answer else "No",
        "cost": f"You said {percent(said)}. That costs {nats(paid)} nats, {verdict} ({nats(beside)}).",
        "good": paid < beside,
        "wrote": task.wrote,
        "how": task.truth.how,
        "draws": drawn(task),
        "explanation": task.explanation,
    }


def drawn(task: Task) -> str:
    """How often it is a yes in the draws that were counted."""
    truth = task.truth
    if truth.draws is None or truth.yes is None:
        return ""
    other = "other draws" if truth.by == "draw" else "draws"
    return f"Of {truth.draws} {other} of the same model, {truth.yes} are a yes ({100 * truth.yes / truth.draws:.0f}%)."


def score_rows(said: Sequence[float], came: Sequence[int], who: str = "you") -> list[tuple[str, scoring.Scores]]:
    """A person's scores, and those of the two who never look."""
    return [(who, scoring.scores(said, came)), *scoring.constants(came).items()]


def cells(name: str, scores: scoring.Scores) -> list[str]:
    """One row of the table of scores."""
    return [name, f"{100 * scores.accuracy:.0f}%", nats(scores.log_loss), f"{scores.brier:.3f}", f"{scores.ece:.3f}"]


HEAD = ["", "accuracy", "log loss", "Brier", "ECE"]
PARTS_HEAD = ["said", "tasks", "mean said", "came"]
KINDS_HEAD = ["kind of task", "tasks", "a yes", "gain, nats"]


def part_rows(said: Sequence[float], came: Sequence[int]) -> list[list[str]]:
    """The calibration table, without its empty parts."""
    rows = []
    for part in scoring.calibration(said, came):
        if part.count:
            end = "to" if part.high == 1 else "to below"
            edges = f"{100 * part.low:.0f} {end} {100 * part.high:.0f}%"
            rows.append([edges, str(part.count), f"{100 * part.said:.0f}%", f"{100 * part.came:.0f}%"])
    return rows


def kind_rows(quiz: Quiz, said: Sequence[float]) -> list[list[str]]:
    """What was known of each kind of task: the log loss saved against always saying one half."""
    kinds: dict[str, list[tuple[float, int]]] = {}
    for task, p in zip(quiz.tasks, said):
        kinds.setdefault(task.kind, []).append((p, task.answer))
    rows = []
    for kind, pairs in kinds.items():
        mean = scoring.gain(*zip(*pairs))[0]
        rows.append([kind, str(len(pairs)), str(sum(o for _, o in pairs)), f"{mean:+.2f}" if mean > -math.inf else nats(mean)])
    return rows


def sentences(quiz: Quiz, said: Sequence[float], came: Sequence[int]) -> list[str]:
    """What the scores say, and what they do not."""
    scores, lines = scoring.scores(said, came), []
    if scores.missed:
        these = "A forecast of 0% or 100% was" if scores.missed == 1 else f"{scores.missed} forecasts of 0% or 100% were"
        them = "it" if scores.missed == 1 else "them"
        rest = f" Without {them} it would be {nats(scores.finite_log_loss)}." if scores.missed < scores.n else ""
        lines.append(f"{these} wrong: the log loss is infinite, and no clip hides that.{rest}")
    else:
        mean, low, high = scoring.gain(said, came)
        verdict = "better than a coin" if low > 0 else "worse than a coin" if high < 0 else "too few tasks to tell from a coin"
        within = f"95% interval {low:.2f} to {high:.2f}: {verdict}" if low > -math.inf else "of one task, which says nothing"
        lines.append(f"Saved against always saying 50%: {mean:.2f} nats a task, {within}.")
    chance = scoring.error_by_chance(said)
    lines.append(
        f"ECE, with parts of ten percent: {scores.ece:.3f}. Were every one of these numbers exactly right, it would be "
        f"{chance:.3f} on average."
    )
    costs = [scoring.cost(p, o) for p, o in zip(said, came)]
    worst = max(range(len(costs)), key=costs.__getitem__)
    if costs[worst] > math.log(2):
        task = quiz.tasks[worst]
        lines.append(
            f"The costliest: task {worst + 1} ({task.kind}), {percent(round(100 * said[worst], 6))} where it came "
            f"{'yes' if task.answer else 'no'}, {nats(costs[worst])} nats."
        )
    known = knows_the_shares(quiz)
    if known is not None:
        floor = scoring.scores(known[: len(came)], came).log_loss
        lines.append(
            f"Who had seen the other draws of each task would have paid {nats(floor)} nats a task: what is left is chance, "
            "which nobody can know."
        )
    return lines


def result(answers: Answers) -> dict[str, Any]:
    """The final screen: tables and sentences, of the forecasts that were made."""
    said, came, quiz = answers.said, answers.came, answers.quiz
    return {
        "scores": [HEAD, *(cells(*row) for row in score_rows(said, came))],
        "parts": [PARTS_HEAD, *part_rows(said, came)],
        "kinds": [KINDS_HEAD, *kind_rows(quiz, said)],
        "sentences": sentences(quiz, said, came),
    }
