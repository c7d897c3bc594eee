"""`climb quiz` as people meet it: in a terminal, on a page, in a student's copy, and made anew."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autograder import cli
from autograder.quiz import file as files
from autograder.quiz.answers import Answers
from autograder.quiz.page import page_of
from terminals import Terminal

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def quiz():
    tasks = [
        {"id": f"t{n}", "kind": "kind", "model": "m", "prompt": f"prompt {n} <b>", "question": f"Will it {n}?", "answer": n % 2,
         "truth": {"by": "stated", "how": f"Stated {n}."}, "wrote": f"text {n}", "explanation": f"because {n}"}
        for n in range(3)
    ]  # fmt: skip
    head = {"format": "climb-quiz", "version": 1, "title": "A quiz", "about": "About.", "models": {"m": "a model"}}
    return {**head, "tasks": tasks}


@pytest.fixture
def place(quiz, tmp_path):
    found = tmp_path / "quiz.json"
    found.write_text(json.dumps(quiz))
    return found


@pytest.fixture
def answers(quiz, tmp_path):
    return Answers(files.parsed(quiz), tmp_path / "answers.json")


# the page


def test_the_page_tells_no_answer_before_the_forecast(answers):
    page = page_of(answers)
    state = page.state()
    assert state["phase"] == "ask" and state["task"]["question"] == "Will it 0?"
    shown = json.dumps(state)
    assert "text 0" not in shown and "because 0" not in shown and "Stated 0" not in shown
    told = page.actions["forecast"]({"percent": "30", "done": 0})
    assert told["phase"] == "told" and told["feedback"]["answer"] == "No" and "text 0" in json.dumps(told)
    assert "Will it 1?" not in json.dumps(told) and page.state() == told  # loaded again, it still shows what came


def test_a_second_click_is_not_a_second_forecast(answers):
    page = page_of(answers)
    page.actions["forecast"]({"percent": 30, "done": 0})
    page.actions["forecast"]({"percent": 99, "done": 0})
    page.actions["forecast"]({"percent": 99, "done": 1})  # nobody has been shown the second task yet
    assert [row["percent"] for row in answers.rows] == [30]
    page.actions["next"]({"done": 1})
    page.actions["next"]({"done": 1})
    assert page.state()["task"]["number"] == 2


def test_zero_and_a_hundred_are_asked_twice(answers):
    page = page_of(answers)
    warned = page.actions["forecast"]({"percent": "100", "done": 0})
    assert "leaves no chance to no" in warned["warning"] and answers.done == 0
    page.actions["forecast"]({"percent": "100", "done": 0, "sure": True})
    assert answers.rows[0]["percent"] == 100
    assert "infinite nats" in page.state()["feedback"]["cost"]


def test_nonsense_is_refused(answers):
    from autograder.pages.server import Refused

    page = page_of(answers)
    for percent in ("", "lots", None, 101, [1]):
        with pytest.raises(Refused, match="Expected a number from 0 to 100"):
            page.actions["forecast"]({"percent": percent, "done": 0})
    assert answers.done == 0


@pytest.mark.slow
def test_the_page_is_driven_by_keys(answers, browser):
    from autograder.pages import server
    from playwright.sync_api import expect

    page = page_of(answers)
    with server.running(page) as address:
        seen = browser.open(address.url)
        expect(seen.locator("#kind")).to_have_text("1 of 3: kind")
        expect(seen.locator("#prompt")).to_have_text("prompt 0 <b>")  # text, not markup
        seen.keyboard.press("Enter")
        expect(seen.locator("#warning")).to_contain_text("Give a number")
        seen.keyboard.type("30")  # the field has the focus
        seen.keyboard.press("Enter")
        expect(seen.locator("#answer")).to_have_text("No.")
        expect(seen.locator("#wrote")).to_have_text("text 0")
        seen.reload()
        expect(seen.locator("#answer")).to_have_text("No.")
        seen.keyboard.press("Enter")
        expect(seen.locator("#kind")).to_have_text("2 of 3: kind")
        expect(seen.locator("#told")).to_be_hidden()
        seen.keyboard.type("100")
        seen.keyboard.press("Enter")
        expect(seen.locator("#warning")).to_contain_text("leaves no chance to no")
        seen.locator("#percent").fill("80")
        expect(seen.locator("#slide")).to_have_value("80")
        seen.get_by_role("button", name=re.compile("Forecast")).click()
        expect(seen.locator("#cost")).to_contain_text("You said 80%. That costs 0.223 nats, less than a coin")
        seen.keyboard.press("e")
        expect(seen.locator("#scores")).to_contain_text("always 50%")
        seen.get_by_role("button", name="Back to the tasks").click()
        expect(seen.locator("#kind")).to_have_text("3 of 3: kind")
        seen.keyboard.type("0")
        for _ in range(2):  # the second one says it all the same
            seen.keyboard.press("Enter")
            expect(seen.locator("#count")).to_have_text(re.compile("[23] of 3"))
        expect(seen.locator("#answer")).to_have_text("No.")
        seen.keyboard.press("Enter")
        expect(seen.locator("#plot")).to_be_visible()
        assert seen.locator("#plot").evaluate("image => image.complete && image.naturalWidth > 300")
        expect(seen.locator("#where")).to_contain_text("3 of 3 forecasts are in")
        seen.set_viewport_size({"width": 375, "height": 700})
        assert seen.evaluate("document.documentElement.scrollWidth") <= 375  # a phone need not be pushed aside
        assert seen.errors == [] and all(url.startswith((address.url, "data:")) for url in seen.asked)
        seen.keyboard.press("q")
        assert page.finished.wait(5)
    assert [row["percent"] for row in json.loads(answers.path.read_text())["forecasts"]] == [30, 80, 0]


# the terminal


@pytest.mark.slow
def test_in_a_terminal(place, tmp_path):
    terminal = Terminal("quiz", "--file", str(place), cwd=tmp_path)
    assert "About." in terminal.until("Enter begins")
    terminal.enter("")
    assert "prompt 0" in terminal.until("in percent (?")
    terminal.enter("100")
    terminal.until("Enter says it anyway")
    terminal.enter("20")
    seen = terminal.until("Enter goes on")
    assert "No. You said 20%. That costs 0.223 nats" in seen and "text 0" in seen and "because 0" in seen
    terminal.enter("")
    assert "2 of 3" in terminal.until("in percent (?")
    terminal.press("\x03")  # Ctrl-C: what was forecast is kept
    terminal.until("stopped: 1 of 3 forecasts are in quiz-answers.json; the same command goes on")
    assert terminal.close() == 130
    kept = json.loads((tmp_path / "quiz-answers.json").read_text())
    assert [row["percent"] for row in kept["forecasts"]] == [20]
    terminal = Terminal("quiz", "--file", str(place), cwd=tmp_path)
    assert "You go on behind 1 of 3" in terminal.until("Enter begins")
    terminal.enter("")
    assert "2 of 3" in terminal.until("in percent (?")
    terminal.enter("q")
    seen = terminal.until("goes on where you stopped")
    assert "1 of 3 forecasts" in seen and "always 50%" in seen
    assert terminal.close() == 0


# a student's copy


BUNDLED = """
import sys
# A course installed for development answers for what the copy lacks: a student's machine has none.
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
from autograder import cli
sys.exit(cli.run(sys.argv[1:]))
"""


@pytest.mark.slow
def test_it_is_in_a_students_copy(tmp_path):
    """A copy with lesson 16 has its quiz and needs no solutions; one without it says so, and takes a file all the same."""
    from autograder import course as courses
    from autograder import release

    course = courses.load(ROOT)
    for name, numbers in (("with", (16,)), ("without", (1,))):
        release.release(course, [lesson for lesson in course.lessons if lesson.number in numbers], tmp_path / name)

    def run(copy, *arguments):
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        env = kept | {"PYTHONPATH": str(tmp_path / copy), "COLUMNS": "200"}
        return subprocess.run([sys.executable, "-c", BUNDLED, *arguments], cwd=tmp_path, env=env, text=True, timeout=200,
                              capture_output=True, input="60\nq\n")  # fmt: skip

    assert not (tmp_path / "with" / "solutions").exists()
    demo = run("with", "quiz", "--demo")
    assert demo.returncode == 0 and "over-confident" in demo.stdout, demo.stderr
    asked = run("with", "quiz")
    assert asked.returncode == 0 and "You said 60%" in asked.stdout and "always 50%" in asked.stdout, asked.stderr
    place = tmp_path / "with" / "lessons" / "16-forecast" / "quizzes" / "large-model-example.json"
    build = run("with", "quiz", "--build", "new.json", "--runs", "runs")
    assert build.returncode == 2 and build.stderr.count("\n") == 1 and "needs the course's solutions/ folder" in build.stderr
    missing = run("without", "quiz", "--out", "other.json")
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1 and "comes with lesson 16" in missing.stderr
    example = run("without", "quiz", "--file", str(place), "--out", "other.json")
    assert example.returncode == 0 and "its answers are invented" in example.stdout, example.stderr


# made anew


@pytest.mark.slow
def test_a_quiz_that_is_made_is_drawn_as_it_says(tmp_path):
    """A task is sampled again from its own seed: the same text, the same outcome, the same count."""
    from full.given import models, quiz_kinds, quiz_tasks
    from full.given.reviews import world

    policy, tokenizer = models.load_policy("review-lm")
    prompts = world().prompts(1, tokens=quiz_kinds.PROMPT_TOKENS, seed=quiz_kinds.SEED)
    asked = quiz_kinds.Asked("review-lm", "words", quiz_kinds.review_writer(policy, tokenizer), "Sampled", iter(prompts * 2))
    (kind,) = [kind for kind in quiz_kinds.review_kinds() if kind.name == "truly positive"]
    for by in ("draw", "share"):
        task = quiz_tasks.task_of(asked, kind, by, 7, "01")
        texts = asked.writes(prompts[0], 1 + quiz_tasks.DRAWS, 7)
        came = world().gold_reward([f"{prompts[0]} {text}".replace(" <eos>", "") for text in texts]) > 0.6
        assert task["truth"]["yes"] == came[1:].sum()
        assert task["answer"] == (came[0] if by == "draw" else came[1:].mean() > 0.5)
        shown = texts.index(task["wrote"])
        assert came[shown] == task["answer"]
    quiz = {"format": "climb-quiz", "version": 1, "title": "t", "about": "a", "models": {"review-lm": "w"}, "tasks": [task]}
    assert list(files.errors(quiz)) == []


def test_words_that_are_counted():
    from full.given.quiz_kinds import most_said

    assert most_said("Dull, dull film. The the the") == 2 and most_said("a an the") == 0 and most_said("One film only.") == 1


def test_a_folder_that_is_no_run_is_said(tmp_path, capsys):
    for name in ("reinforce", "kl", "grpo"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text("{}")
    assert cli.run(["quiz", "--build", str(tmp_path / "q.json"), "--runs", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "expected the folder of a run that has ended" in said and not (tmp_path / "q.json").exists()


@pytest.mark.slow
def test_the_shipped_quiz_is_about_the_shipped_models():
    """One task of each model as it is shipped, drawn anew: the share of yes is the file's. A remade model needs a new quiz.

    Fifty draws beside the file's two hundred, within 4 standard errors of the difference of two shares.
    """
    from full.given import quiz_kinds, quiz_tasks
    from full.given.models import load_policy
    from toy.given.run_folder import one_thread

    quiz = files.read(ROOT / "lessons/16-forecast/quizzes/small-models.json")
    asked = {one.name: one for one in (*quiz_kinds.of_questions(), *quiz_kinds.of_posts())}
    writer = quiz_kinds.review_writer(*load_policy("review-lm"))
    asked["review-lm"] = quiz_kinds.Asked("review-lm", "words", writer, "how", iter(()))
    kinds = {kind.name: kind for kind in (*quiz_kinds.review_kinds(), *quiz_kinds.question_kinds(), *quiz_kinds.post_kinds())}
    asked["sums-lm"] = quiz_kinds.sums_asked("sums-lm", "words", *load_policy("sums-lm"), iter(()))
    kinds |= {kind.name: kind for kind in quiz_kinds.sum_kinds()}
    with one_thread():  # small matrices: more threads only wait for each other
        for name, one in asked.items():
            task = next(task for task in quiz.tasks if task.model == name and 0.1 < task.truth.yes / task.truth.draws < 0.9)
            prompt = task.prompt.replace("\ncontext: ", " context: ")
            texts = one.writes(prompt, 50, task.truth.seed)
            yes = kinds[task.kind].yes(kinds[task.kind].judge(prompt, texts).reshape(len(texts), -1))
            share = (yes.sum() + task.truth.yes) / (len(yes) + task.truth.draws)
            spread = (share * (1 - share) * (1 / len(yes) + 1 / task.truth.draws)) ** 0.5
            assert abs(yes.mean() - task.truth.yes / task.truth.draws) < 4 * spread, (name, yes.mean(), task)
