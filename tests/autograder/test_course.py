"""The course as read from disk, on a small course made here and on the real one."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from autograder import course as course_module
from autograder.checks import Check, check
from autograder.course import CourseError, find_root, github_anchor, load, numbered_anchors

ROOT = Path(__file__).resolve().parents[2]

LESSON = """number = {number}
title = "{title}"
file = "{file}"
minutes = 45
summary = "One sentence."
needs = [{needs}]
"""


def module_with(*exercises):
    """A check module that asks for these exercises, 2 points a check."""
    made = ModuleType("checks")
    for index, name in enumerate(exercises):
        cls = type(f"Check{index}", (Check,), {"probe": "p"})
        setattr(made, f"Check{index}", check(name, points=2, section="3.4")(cls))
    return made


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Lessons 1, 3 and 8 of a course, with check modules of their own; lesson 5 is prose alone."""
    modules = {
        "toy.einsum": module_with("inner", "outer", "train"),
        "toy.word_agent": module_with("Baseline.update", "Baseline.get", "Baseline.update", "train", "Agent"),
        "full.einsum_fast": module_with("speed"),
    }

    def import_module(name):
        short = name.removeprefix("autograder.checks.")
        if short not in modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return modules[short]

    monkeypatch.setattr(course_module.importlib, "import_module", import_module)
    (tmp_path / "toy").mkdir()
    rows = [
        ("08-einsum-fast", 8, "Fast", "full/einsum_fast.py", "1"),
        ("01-einsum", 1, "Sum like Einstein", "toy/einsum.py", ""),
        ("03-word-agent", 3, "The agent", "toy/word_agent.py", "1"),
        ("05-prose", 5, "Prose", "toy/prose.py", ""),
    ]
    for folder, number, title, file, needs in rows:
        path = tmp_path / "lessons" / folder
        path.mkdir(parents=True)
        (path / "lesson.toml").write_text(LESSON.format(number=number, title=title, file=file, needs=needs))
    (tmp_path / "lessons" / "07-being-written").mkdir()
    agent = tmp_path / "lessons" / "03-word-agent"
    with (agent / "lesson.toml").open("a") as file:
        file.write('[exercise_needs]\ntrain = ["Baseline.update", "Agent"]\n')
    (agent / "lesson.md").write_text("# Lesson 3\n\n## 3.4 Title: slug!\n")
    (agent / "hints.toml").write_text('["Baseline.update"]\nlevels = ["a", "b", "c"]\n')
    return load(tmp_path)


def names(exercises):
    return [exercise.id.split("/", 1)[1] for exercise in exercises]


def test_lessons_come_in_the_order_they_are_taught(small):
    assert [lesson.number for lesson in small.lessons] == [1, 3, 5, 8]
    agent = small.lesson_of("toy.word_agent")
    assert (agent.slug, agent.module, agent.track) == ("word-agent", "toy.word_agent", "toy")
    assert (agent.minutes, agent.needs) == (45, (1,))
    assert [lesson.number for lesson in small.earlier(agent)] == [1]
    assert small.lesson_of("toy.nothing") is None


def test_an_exercise_sums_its_checks_and_keeps_their_order(small):
    agent = small.lesson_of("toy.word_agent")
    assert [e.name for e in agent.exercises] == ["Baseline.update", "Baseline.get", "train", "Agent"]
    update, train = agent.exercises[0], agent.exercises[2]
    assert (update.points, agent.points, len(update.checks)) == (4.0, 10.0, 2)
    assert update.id == "toy/word_agent.py::Baseline.update"
    assert update.hints == ("a", "b", "c") and train.hints == ()
    assert train.needs == ("Baseline.update", "Agent")
    assert update.anchor == "lessons/03-word-agent/lesson.md#34-title-slug"
    assert small.lessons[0].anchor("9.9") == "lessons/01-einsum/lesson.md"


@pytest.mark.parametrize("word", ["3", "03", "03-word-agent", "word-agent", "word_agent", "word_agent.py", "toy/word_agent.py"])
def test_a_lesson_goes_by_many_names(small, word):
    assert {e.lesson.number for e in small.select([word], cwd=small.root)} == {3}


def test_a_lesson_goes_by_a_path_too(small):
    inside = small.root / "toy"
    assert names(small.select(["einsum.py"], cwd=inside)) == names(small.select([str(inside / "einsum.py")]))
    assert {e.lesson.number for e in small.select(["lesson.md"], cwd=small.root / "lessons" / "03-word-agent")} == {3}
    assert {e.lesson.number for e in small.select(["."], cwd=small.root / "lessons" / "01-einsum")} == {1}
    assert {e.lesson.number for e in small.select(["toy/"])} == {1, 3}


@pytest.mark.parametrize(
    "word, expected",
    [
        ("Baseline.update", ["word_agent.py::Baseline.update"]),
        ("baseline.UPDATE", ["word_agent.py::Baseline.update"]),
        ("update", ["word_agent.py::Baseline.update"]),
        ("Baseline", ["word_agent.py::Baseline.update", "word_agent.py::Baseline.get"]),
        ("toy/word_agent.py::train", ["word_agent.py::train"]),
        ("1::TRAIN", ["einsum.py::train"]),
    ],
)
def test_an_exercise_goes_by_its_name(small, word, expected):
    assert names(small.select([word], cwd=small.root)) == expected


def test_words_add_up_in_course_order_and_none_means_all(small):
    several = small.select(["speed", "Agent", "Agent", "inner"])
    assert names(several) == ["einsum.py::inner", "word_agent.py::Agent", "einsum_fast.py::speed"]
    assert small.select() == small.exercises and len(small.exercises) == 8


@pytest.mark.parametrize(
    "word, says",
    [
        ("Baselin.update", "did you mean `Baseline.update`"),
        ("word_agnt", "did you mean `word-agent`"),
        ("toy/word_agents.py", "did you mean `toy/word_agent.py`"),
        ("toy/word_agents.py::train", "no lesson or file `toy/word_agents.py`"),
        ("word_agent::trian", "in toy/word_agent.py; did you mean `train`"),
        ("train", "could be toy/einsum.py::train or toy/word_agent.py::train"),
        ("qqqq", "`climb progress` lists the lessons"),
        ("17", "`17`"),
        ("5", "lesson 5 (Prose) has no exercises"),
    ],
)
def test_a_word_that_means_nothing_is_answered_in_one_line(small, word, says):
    with pytest.raises(CourseError) as error:
        small.select([word], cwd=small.root)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_the_root_is_the_nearest_folder_upwards(small, tmp_path):
    assert find_root(tmp_path / "lessons" / "01-einsum") == tmp_path
    with pytest.raises(CourseError, match="cd into it first"):
        find_root("/")


@pytest.mark.parametrize(
    "text, says",
    [
        ("number = ", "not readable as TOML"),
        ('number = 1\ntitle = "t"', "`file` is missing"),
        ('number = 1\ntitle = "t"\nfile = "x.py"\nminutes = 1\nsummary = ""', 'expected file = "toy/name.py"'),
    ],
)
def test_a_broken_lesson_names_its_file(tmp_path, text, says):
    (tmp_path / "toy").mkdir()
    (tmp_path / "lessons" / "01-x").mkdir(parents=True)
    (tmp_path / "lessons" / "01-x" / "lesson.toml").write_text(text)
    with pytest.raises(CourseError) as error:
        load(tmp_path)
    assert str(error.value).startswith("lessons/01-x/lesson.toml: ") and says in str(error.value)


def test_needs_that_name_no_exercise_are_refused(small):
    with (small.root / "lessons" / "01-einsum" / "lesson.toml").open("a") as file:
        file.write('[exercise_needs]\ninner = ["nothing"]\n')
    with pytest.raises(CourseError, match="`nothing`"):
        load(small.root).exercises


@pytest.mark.parametrize(
    "heading, anchor",
    [
        ("3.4 The baseline", "34-the-baseline"),
        ("3.4 The `policy_loss`: why -log?", "34-the-policy_loss-why--log"),
        ("1.2 A [link](http://x) and *stress*", "12-a-link-and-stress"),
        ("2.1 Zufälle", "21-zufälle"),
    ],
)
def test_anchors_are_githubs(heading, anchor):
    assert github_anchor(heading) == anchor


def test_headings_are_numbered_outside_code_only():
    text = "# 1 Same\n```\n## 9.9 not a heading\n```\n## 1.1 Same\n## Same\n~~~text\n# 8 no\n~~~\n## 1.2 Same #\n## 1.2 Same\n"
    assert numbered_anchors(text) == {"1": "1-same", "1.1": "11-same", "1.2": "12-same"}
    assert numbered_anchors("## Same\n## 1 a\n## 2 a\n## 1 a\n") == {"1": "1-a", "2": "2-a"}


def test_loading_the_real_course_imports_nothing_heavy():
    """It stands before every command: 150 ms on a quiet machine, most of it NumPy's own import. Torch alone would be seconds."""
    code = """
import json, sys
from autograder import course
found = course.load(sys.argv[1])
anchors = [exercise.anchor for exercise in found.exercises]
print(json.dumps([n for n in ("torch", "scipy", "matplotlib", "transformers", "pandas") if n in sys.modules]))
"""
    output = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=True).stdout
    assert json.loads(output) == []


def test_every_exercise_of_the_real_course_points_to_a_section():
    for exercise in load(ROOT).exercises:
        if (exercise.lesson.folder / "lesson.md").is_file():
            assert "#" in exercise.anchor, f"{exercise.id}: no section {exercise.section} in {exercise.anchor}"
