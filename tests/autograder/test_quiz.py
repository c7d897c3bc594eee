"""`climb quiz`: its scores are lesson 16's, its files are held to their format, and what was forecast is kept."""

import copy
import json
import math
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from autograder import cli
from autograder.quiz import file as files
from autograder.quiz import forecasters, picture, scoring, told
from autograder.quiz.answers import Answers, AnswersProblem, percent_in
from solutions.full import forecast

ROOT = Path(__file__).resolve().parents[2]
QUIZZES = ROOT / "lessons" / "16-forecast" / "quizzes"
BUILT_IN, EXAMPLE = QUIZZES / "small-models.json", QUIZZES / "large-model-example.json"


def small(tasks=3, **more):
    """A quiz of a few tasks whose answers are 1, 0, 1, ..."""
    made = [
        {"id": f"t{n}", "kind": "even" if n % 2 else "odd", "model": "m", "prompt": f"prompt {n}", "question": f"Will it {n}?",
         "answer": (n + 1) % 2, "truth": {"by": "draw", "how": "Drawn.", "draws": 10, "yes": 3 + n % 4}, "wrote": f"text {n}",
         "explanation": f"because {n}"}
        for n in range(tasks)
    ]  # fmt: skip
    head = {"format": "climb-quiz", "version": 1, "title": "A quiz", "about": "About.", "models": {"m": "a model"}}
    return {**head, "tasks": made, **more}


@pytest.fixture
def place(tmp_path):
    found = tmp_path / "quiz.json"
    found.write_text(json.dumps(small()))
    return found


# the scores


def cases():
    rng = random.Random(16)
    yield [0.5], [1]
    yield [0.0, 1.0, 0.3], [0, 1, 1]
    for n in (7, 40, 300):
        said = [rng.choice([rng.random(), rng.randrange(101) / 100]) for _ in range(n)]
        yield said, [int(rng.random() < p) for p in said]
    yield [k / 10 for k in range(11)], [0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]  # all the edges; 0 and 1 come as was said


@pytest.mark.parametrize("said, came", list(cases()))
def test_scores_are_those_of_the_lesson(said, came):
    p, o = torch.tensor(said, dtype=torch.float64), torch.tensor(came)
    found = scoring.scores(said, came)
    exact = {"accuracy": forecast.accuracy, "log_loss": forecast.log_loss, "brier": forecast.brier_score,
             "ece": forecast.expected_calibration_error}  # fmt: skip
    for name, function in exact.items():  # float64 sums of at most 300 numbers below 5, in another order
        assert getattr(found, name) == pytest.approx(function(p, o).item(), abs=1e-12)
    assert scoring.gain(said, came) == pytest.approx(forecast.gain_over_half(p, o), abs=1e-12)
    table = forecast.calibration_table(p, o)
    for k, part in enumerate(scoring.calibration(said, came)):
        assert part.count == table["count"][k]
        if part.count:
            assert (part.said, part.came) == pytest.approx((table["forecast"][k].item(), table["share"][k].item()), abs=1e-12)
    for scores, name in zip(scoring.constants(came).values(), ("half", "base_rate")):
        for which, function in exact.items():
            assert getattr(scores, which) == pytest.approx(forecast.constant_forecasters(o, function)[name].item(), abs=1e-12)


def test_a_hundred_percent_that_does_not_come_costs_infinity():
    said, came = [1.0, 0.8, 0.0], [0, 1, 0]
    p, o = torch.tensor(said, dtype=torch.float64), torch.tensor(came)
    found = scoring.scores(said, came)
    assert found.log_loss == forecast.log_loss(p, o).item() == math.inf and found.missed == 1
    assert found.finite_log_loss == pytest.approx(-math.log(0.8) / 2, abs=1e-15)  # the other two: ln 0.8 and nothing
    quiz = files.parsed(small())
    sentences = " ".join(told.sentences(quiz, said, came))
    assert "A forecast of 0% or 100% was wrong: the log loss is infinite" in sentences
    assert "Without it it would be 0.112" in sentences
    assert scoring.gain(said, came) == (-math.inf,) * 3


def test_what_a_calibrated_forecaster_has_by_chance():
    """By hand for one forecast p: its error is 1 - p with probability p, p with 1 - p, on average 2 p (1 - p)."""
    assert scoring.error_by_chance([0.5] * 1) == 0.5
    errors = scoring.error_by_chance([0.8], times=4000)
    assert abs(errors - 0.32) < 5 * math.sqrt(0.16 * 0.36 / 4000)  # the error is 0.2 or 0.8: 0.6 times a coin of 0.2; 5 sigma
    said = [random.Random(1).random() for _ in range(40)]
    assert scoring.error_by_chance(said) == scoring.error_by_chance(said)


def test_intervals_of_shares_are_wilsons():
    assert picture.wilson(0.0, 10) == pytest.approx((0, 0.2775), abs=1e-4) and picture.wilson(1.0, 1)[1] == 1
    low, high = picture.wilson(6 / 7, 7)
    assert (round(low, 2), round(high, 2)) == (0.49, 0.97)  # the seven pairs of lesson 12


# the format


def test_the_quizzes_that_ship_are_quizzes(capsys):
    for place in QUIZZES.glob("*.json"):
        assert cli.run(["quiz", "--check", str(place)]) == 0
        assert f"{place}: a quiz of" in capsys.readouterr().out
    assert files.read(EXAMPLE).example and not files.read(BUILT_IN).example
    block = re.search(r"```json\n(.*?)```", (QUIZZES / "format.md").read_text(encoding="utf-8"), re.S)[1]
    assert len(files.parsed(json.loads(block)).tasks) == 1  # what the document shows is one


def test_the_document_names_every_field():
    text = (QUIZZES / "format.md").read_text(encoding="utf-8")
    for name in (*files.TOP, *files.TASK, *files.TRUTH):
        assert f"`{name}`" in text, name
    for by in files.TRUTHS:
        assert f'`"{by}"`' in text, by


def broken(path, value):
    """A sound quiz with one place changed; value None: that field is taken out."""
    data = small()
    *way, last = path
    at = data
    for step in way:
        at = at[step]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return data


ERRORS = [
    (("version",), 2, "version: expected 1, received 2; this climb reads version 1"),
    (("title",), None, "title is missing"),
    (("about",), " ", 'about: expected a text, received " "'),
    (("models",), {}, "models: expected an object that names one model or more, received {}"),
    (("models", "m"), 3, "models: m: expected a text, received 3"),
    (("tasks",), [], "tasks: expected a list of 1 to 500, received 0"),
    (("tasks", 1), 7, "task 2: expected an object, received 7"),
    (("tasks", 1, "answer"), 2, "task 2 (t1): answer: expected 0 or 1, received 2"),
    (("tasks", 1, "answer"), True, "task 2 (t1): answer: expected 0 or 1, received true"),
    (("tasks", 1, "answer"), None, "task 2 (t1): answer is missing"),
    (("tasks", 1, "id"), "t0", "task 2 (t0): id: expected one of its own, received that of task 1"),
    (("tasks", 1, "model"), "x", 'task 2 (t1): model: expected one of m, received "x"'),
    (("tasks", 1, "promt"), "x", 'task 2 (t1): there is no field "promt"; is prompt meant?'),
    (("tasks", 1, "prompt"), "a\x1b[2J", "task 2 (t1): prompt: expected letters that can be shown, received '\\x1b'"),
    (("tasks", 1, "wrote"), "x" * 4001, "task 2 (t1): wrote: expected at most 4000 letters, received 4001"),
    (("tasks", 1, "truth"), "me", 'task 2 (t1): truth: expected an object with by and how, received "me"'),
    (("tasks", 1, "truth", "by"), "luck", 'task 2 (t1): truth: by: expected one of draw, greedy, share, stated, received "luck"'),
    (("tasks", 1, "truth", "yes"), 11,
     "task 2 (t1): truth: expected whole numbers with 0 <= yes <= draws, received yes 11, draws 10"),
    (("tasks", 1, "truth", "draws"), None,
     "task 2 (t1): truth: expected whole numbers with 0 <= yes <= draws, received yes 4, draws nothing"),
    (("tasks", 1, "truth"), {"by": "share", "how": "."},
     "task 2 (t1): truth: expected draws and yes, of how many draws how many were a yes, received neither"),
    (("tasks", 1, "truth"), {"by": "share", "how": ".", "draws": 4, "yes": 2},
     "task 2 (t1): truth: expected a majority, received 2 of 4; leave such a task out"),
    (("tasks", 1, "truth"), {"by": "share", "how": ".", "draws": 4, "yes": 3},
     "task 2 (t1): truth: 3 of 4 draws are a yes, which makes the answer 1, received 0"),
    (("example",), "no", 'example: expected true or false, received "no"'),
]  # fmt: skip


@pytest.mark.parametrize("path, value, line", ERRORS)
def test_an_error_is_said_in_one_line_with_its_place(path, value, line):
    assert list(files.errors(broken(path, value))) == [line]


def test_every_error_is_said_at_once_and_the_exit_code_is_1(tmp_path, capsys):
    data = small()
    data["tasks"][0]["answer"], data["tasks"][2]["truth"]["by"] = "yes", 1
    place = tmp_path / "wrong.json"
    place.write_text(json.dumps(data))
    assert cli.run(["quiz", "--check", str(place)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out == [f'{place}: task 1 (t0): answer: expected 0 or 1, received "yes"',
                   f"{place}: task 3 (t2): truth: by: expected one of draw, greedy, share, stated, received 1"]  # fmt: skip
    assert cli.run(["quiz", "--file", str(place), "--out", str(tmp_path / "a.json")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "task 1 (t0)" in said and "(1 more: climb quiz --check" in said


def test_bad_input_is_one_line(tmp_path, place, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in (("broken", '{"a": '), ("other", "[1]"), ("twice", '{"format": "climb-quiz", "format": "climb-quiz"}'),
                       ("deep", "[" * 100_000)):  # fmt: skip
        (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / "latin.json").write_bytes(b'{"title": "\xe9"}')
    with open(tmp_path / "large.json", "wb") as file:
        file.truncate(files.LARGEST_FILE + 1)
    (tmp_path / "answers.json").write_text("{}")
    for arguments, words in (
        (["--file", "missing.json"], "there is no missing.json"), (["--check", "missing.json"], "there is no missing.json"),
        (["--file", "broken.json"], "is no JSON: Expecting value in line 1, column 7"),
        (["--file", "other.json"], 'expected an object with "format": "climb-quiz", received [1]'),
        (["--file", "twice.json"], "`format` stands twice"), (["--file", "deep.json"], "is no JSON of a quiz"),
        (["--file", "latin.json"], "expected UTF-8, received byte 0xe9"), (["--file", "large.json"], "expected at most 4 MiB"),
        (["--file", str(tmp_path)], "is a folder"), (["--out", str(tmp_path)], "is a folder"),
        (["--out", "no/where.json"], "no folder that exists"), (["--demo", "--page"], "--page and --demo are different things"),
        (["--file", str(place), "--out", "answers.json"], "expected the file of an earlier `climb quiz`"),
        (["--runs", "x"], "--runs goes with --build"), (["--build", "b.json", "--runs", str(place)], "is a file; name a folder"),
    ):  # fmt: skip
        assert cli.run(["quiz", *arguments]) == 2, arguments
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1, said


# what is kept


def test_forecasts_are_kept_at_once_and_gone_on_with(place, tmp_path):
    quiz, out = files.read(place), tmp_path / "a.json"
    answers = Answers(quiz, out)
    answers.forecast(70)
    assert json.loads(out.read_text())["forecasts"][0]["percent"] == 70
    answers.forecast(12.5)
    again = Answers(quiz, out)
    assert again.done == 2 and again.current.id == "t2" and again.said == [0.7, 0.125] and again.came == [1, 0]
    again.forecast(0)
    assert Answers(quiz, out).current is None
    assert "percent" not in str(vars(quiz.tasks[0]))


def test_not_with_the_forecasts_of_another_quiz(place, tmp_path):
    out = tmp_path / "a.json"
    Answers(files.read(place), out).forecast(50)
    changed = small()
    changed["tasks"][2]["answer"] = 0
    with pytest.raises(AnswersProblem, match="holds forecasts of `A quiz`, or of another version of this quiz; name another"):
        Answers(files.parsed(changed), out)
    data = json.loads(out.read_text())
    too_much = [{"id": "t0", "percent": 101}]
    for wrong in ({**data, "forecasts": too_much}, {**data, "version": 2}, {**data, "forecasts": 3}, [data]):
        out.write_text(json.dumps(wrong))
        with pytest.raises(AnswersProblem, match="expected the file of an earlier"):
            Answers(files.read(place), out)
    out.write_text(json.dumps({**data, "forecasts": [{"id": "t1", "percent": 1, "at": ""}]}))
    with pytest.raises(AnswersProblem, match="do not stand in the quiz's order"):
        Answers(files.read(place), out)


def test_what_is_a_percentage():
    for given, meant in (("70", 70), (" 70 % ", 70), ("0", 0), ("100", 100), ("12,5", 12.5), ("99.9", 99.9), (3, 3), (0.5, 0.5)):
        assert percent_in(given) == meant, given
    for text in ("", "101", "-1", "nan", "inf", "1e1", "seventy", "7 0", "1.2.3", "٣", None, True, [], math.nan, 100.1):
        assert percent_in(text) is None, text


# the terminal


def piped(place, tmp_path, lines, *more):
    command = [sys.executable, "-m", "autograder.cli", "quiz", "--file", str(place), *more]
    return subprocess.run(command, input=lines, text=True, capture_output=True, cwd=tmp_path, timeout=120,
                          env={"PATH": "", "PYTHONPATH": str(ROOT), "COLUMNS": "200"})  # fmt: skip


@pytest.mark.slow
def test_lines_from_a_pipe_are_forecasts(place, tmp_path):
    first = piped(place, tmp_path, "70\n?\nmaybe\n100\n30\nq\n")
    assert first.returncode == 0, first.stderr
    assert "Yes. You said 70%. That costs 0.357 nats, less than a coin (0.693)." in first.stdout and "text 0" in first.stdout
    assert "Of 10 other draws of the same model, 3 are a yes (30%)." in first.stdout
    assert "Expected a number from 0 to 100, received 'maybe'." in first.stdout
    assert "A forecast of 100% leaves no chance to no." in first.stdout  # it was not taken at once: 30 was
    assert "No. You said 30%." in first.stdout and "2 of 3 forecasts" in first.stdout
    assert "goes on where you stopped" in first.stdout
    second = piped(place, tmp_path, "0\n0\n")
    assert "go on behind 2 of 3" in second.stdout and "No forecast" not in second.stdout
    assert "Yes. You said 0%. That costs infinite nats" in second.stdout and "climb answer 16" in second.stdout
    assert (tmp_path / "quiz-answers.png").read_bytes().startswith(b"\x89PNG")
    third = piped(place, tmp_path, "")  # all is forecast: the scores again
    assert third.returncode == 0 and "3 forecasts" in third.stdout and "the log loss is infinite" in third.stdout
    nothing = piped(place, tmp_path, "", "--out", "other.json")
    assert nothing.returncode == 0 and "No forecast was made." in nothing.stdout and not (tmp_path / "other.json").exists()


def test_needs_neither_models_nor_torch(place, tmp_path):
    """Asking, answering and scoring are the grader's own code and plain numbers."""
    script = (
        "import sys, builtins; real = builtins.__import__\n"
        "absent = ('torch', 'transformers', 'solutions', 'full', 'toy', 'numpy', 'scipy', 'flask')\n"
        "def no(name, *rest, **more):\n"
        "    if name.split('.')[0] in absent: raise ImportError(name)\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = no\n"
        "from pathlib import Path\n"
        "from autograder.quiz import file, told, forecasters, terminal\n"
        "from autograder.quiz.answers import Answers\n"
        "from rich.console import Console\n"
        f"answers = Answers(file.read(Path({str(place)!r})), None)\n"
        "lines = iter(['20', '40', '60'])\n"
        "terminal.play(answers, Console(), lambda prompt: next(lines), False)\n"
        "terminal.show_result(answers, Console())\n"
        "forecasters.simulated(answers.quiz)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0 and "always 50%" in done.stdout, done.stderr


def test_demo_shows_what_over_confidence_costs(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.run(["quiz", "--demo"]) == 0
    said = capsys.readouterr().out
    plot = "Reliability plot: quiz-demo.png"
    for words in ("over-confident", "calibrated", "always 50%", "the base rate", "ECE", "cubes the odds", plot):
        assert words in said, words
    assert (tmp_path / "quiz-demo.png").read_bytes().startswith(b"\x89PNG") and not (tmp_path / "quiz-answers.json").exists()
    quiz = files.read(BUILT_IN)
    came = [task.answer for task in quiz.tasks]
    scores = {name: scoring.scores(p, came) for name, (_, p) in forecasters.simulated(quiz).items()}
    assert scores["over-confident"].accuracy == scores["calibrated"].accuracy > scores["base rate"].accuracy  # cubes keep sides
    assert scores["calibrated"].log_loss < scores["base rate"].log_loss < math.log(2) and scores["over-confident"].missed == 0
    assert scores["over-confident"].log_loss > scores["calibrated"].log_loss + 0.05


def test_made_up_forecasters_say_what_their_rule_says():
    quiz = files.parsed(small())
    said = {name: p for name, (_, p) in forecasters.simulated(quiz).items()}
    assert said["base rate"] == [0.67] * 3
    assert said["calibrated"] == [round((3 + n + 1) / 12, 2) for n in range(3)]  # Laplace: 3, 4, 5 of 10
    assert said["over-confident"][0] == round(1 / (1 + 2**3), 2)  # 4/12 is odds of 1 to 2
    data = small()
    for task in data["tasks"]:
        task["truth"] = {"by": "stated", "how": "So it is."}
    assert set(forecasters.simulated(files.parsed(data))["calibrated"][1]) == {0.67}
    assert forecasters.knows_the_shares(files.parsed(data)) is None


# the quiz of the course


def test_the_built_in_quiz_is_worth_taking():
    quiz = files.read(BUILT_IN)
    came = [task.answer for task in quiz.tasks]
    assert len(came) >= 30 and 0.3 <= sum(came) / len(came) <= 0.7
    assert len({task.kind for task in quiz.tasks}) >= 6 and len(quiz.models) >= 5
    assert {task.truth.by for task in quiz.tasks} >= {"draw", "share"}
    assert {task.model for task in quiz.tasks} == set(quiz.models)
    assert all(task.truth.draws == 200 and task.truth.how and task.explanation and task.wrote for task in quiz.tasks)
    alike = [(task.kind, task.model) for task in quiz.tasks]
    assert all(first != second for first, second in zip(alike, alike[1:]))


def test_its_outcomes_are_draws_of_the_shares_beside_them():
    """z of the sum of outcomes against the sum of Laplace's shares: 4 sigma, or the outcome was not drawn as the others were."""
    drawn = [task for task in files.read(BUILT_IN).tasks if task.truth.by == "draw"]
    pairs = [(task.answer, (task.truth.yes + 1) / (task.truth.draws + 2)) for task in drawn]
    surplus = sum(o - p for o, p in pairs)
    assert abs(surplus) < 4 * math.sqrt(sum(p * (1 - p) for _, p in pairs))


def test_the_digest_is_of_questions_and_answers_alone():
    data = small()
    same = copy.deepcopy(data)
    same["tasks"][0]["explanation"] = "better said"
    assert files.parsed(data).digest == files.parsed(same).digest
    same["tasks"][0]["answer"] = 0
    assert files.parsed(data).digest != files.parsed(same).digest
