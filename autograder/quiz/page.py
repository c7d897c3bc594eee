"""The quiz as a local page: autograder/pages/quiz.html, .css and .js show it; this is its state, and what it may do."""

from __future__ import annotations

import base64
from typing import Any

from autograder.quiz import picture, told
from autograder.quiz.answers import Answers, percent_in


def page_of(answers: Answers) -> Any:
    """The page. After a forecast it shows what came until it is told to go on; loaded again it stands where it was."""
    from autograder.pages.server import Page, Refused

    quiz, at = answers.quiz, {"told": False, "over": False}

    def state() -> dict[str, Any]:
        shown: dict[str, Any] = {
            "title": quiz.title,
            "about": quiz.about,
            "example": quiz.example,
            "help": told.HELP,
            "done": answers.done,
            "total": len(quiz.tasks),
            "file": str(answers.path),
        }
        if at["told"]:
            last = answers.done - 1
            task, percent = quiz.tasks[last], answers.rows[last]["percent"]
            return shown | {"phase": "told", "task": asked(last)} | {"feedback": told.feedback(task, percent)}
        if answers.current is None or at["over"]:
            return shown | {"phase": "end"} | (ending() if answers.done else {})
        return shown | {"phase": "ask", "task": asked(answers.done)}

    def asked(number: int) -> dict[str, Any]:
        task = quiz.tasks[number]
        words = {"model": task.model, "words": quiz.models[task.model], "kind": task.kind}
        return words | {"number": number + 1, "prompt": task.prompt, "question": task.question}

    def ending() -> dict[str, Any]:
        plot = base64.b64encode(picture.png({"you": (answers.said, answers.came)})).decode()
        return {"result": told.result(answers), "plot": f"data:image/png;base64,{plot}"}

    def forecast(body: dict) -> dict[str, Any]:
        percent = percent_in(body.get("percent"))
        if percent is None:
            raise Refused(f"Expected a number from 0 to 100, received {body.get('percent')!r:.40}.")
        if body.get("done") != answers.done or at["told"] or answers.current is None:  # a second click, or a second window
            return state()
        if told.edge(percent) and body.get("sure") is not True:
            return state() | {"warning": told.edge(percent)}
        answers.forecast(percent)
        at["told"] = True
        return state()

    def go_on(body: dict) -> dict[str, Any]:
        if body.get("done") == answers.done:
            at["told"] = at["over"] = False
        return state()

    def stop(body: dict) -> dict[str, Any]:
        at["told"], at["over"] = False, True
        return state()

    def finish(body: dict) -> dict[str, Any]:
        stop(body)
        page.finish()
        return state()

    actions = {"forecast": forecast, "next": go_on, "scores": stop, "quit": finish}
    page = Page("quiz", title=quiz.title, state=state, actions=actions)
    return page
