"""Written answers marked by a person: in files, on the page, and what reports and grades make of it."""

import json
import re

import pytest

from autograder import course as courses
from autograder.commands.rubric import page_of
from autograder.exports import read_grades
from autograder.questions.answers import text_of
from autograder.questions.marking import Question, questions_of
from autograder.questions.rows import rows_of
from autograder.reports.class_report import write_reports
from autograder.rubric.files import read_files, write_files
from autograder.rubric.marking import Marking, MarkingProblem
from autograder.rubric.marks import Item, items_of, marks_by_student, with_marks

ESSAY = "Because the baseline does not depend on the action.\nIts expected gradient is zero."
TEXTS = {"anna": ESSAY, "ben": 'Not "sure"; \\ 2 < 3\n\n[[answer]]\npoints = [9]', "cleo": ESSAY + "\n", "dora": ""}


@pytest.fixture(scope="module")
def course():
    whole = courses.load()
    return courses.Course(
        whole.root, [lesson for lesson in whole.lessons if lesson.number in (2, 3) and not lesson.silent_bug]
    )


@pytest.fixture
def question(course):
    """The first question of lesson 2 that wants a text with at least two items."""
    return next(q for q in questions_of(course.lessons[0]) if q.kind == "text" and len(q.rubric) >= 2)


@pytest.fixture
def graded(tmp_path, course, question, pages):
    """Four students: anna and cleo wrote the same words, ben others, dora nothing. All passed one exercise."""
    out, lesson = tmp_path / "class", course.lessons[0]
    for name, text in TEXTS.items():
        answers = text_of(lesson, {question.id: text})
        place = pages.write_result(out, name, [pages.row_of(lesson.exercises[0], "passed"), *rows_of(lesson, answers)])
        pages.keep_files(place, {f"answers/{lesson.folder.name}.toml": answers})
    return out


@pytest.fixture
def marking(graded, course):
    return Marking(graded, course.lessons)


def worth(question):
    return [item.worth for item in items_of(question)]


def codes(marking, question):
    """{student: the code of their answer}."""
    return {student: answer.code for answer in marking.task(question.result_id).answers for student in answer.students}


# The rubric


@pytest.mark.parametrize(
    "points, rubric, items",
    [
        (3, ("1 point: a", "2 points: b"), [("a", 1), ("b", 2)]),
        (2.5, ("0.5 points: a", "b"), [("a", 0.5), ("b", 2)]),
        (3, ("1 point: a",), [("a", 1), ("the answer as a whole", 2)]),
        (2, (), [("the answer as a whole", 2)]),
        (2, ("a", "b"), [("a", 1), ("b", 1)]),
    ],
)
def test_a_rubric_line_names_its_points(points, rubric, items):
    asked = Question("q", None, "1.1", "text", points, "?", rubric=rubric)
    assert items_of(asked) == [Item(*pair) for pair in items]


def test_every_rubric_of_the_course_adds_up_to_its_question():
    for lesson in courses.load().lessons:
        for question in questions_of(lesson):
            if question.kind == "text":
                items = items_of(question)
                assert sum(item.worth for item in items) == pytest.approx(question.points), question.result_id
                assert len(items) == max(1, len(question.rubric)) and all(item.worth > 0 for item in items), (
                    question.result_id
                )


# Marking


def test_the_same_words_are_marked_once_and_names_are_nowhere(marking, question):
    shown = json.dumps([marking.overview(), marking.entries(question.result_id)])
    assert not any(name in shown for name in TEXTS)
    answers = marking.entries(question.result_id)["answers"]
    assert [a["same"] for a in sorted(answers, key=lambda a: -a["same"])] == [2, 1] and len(marking.tasks) == 1
    marking.save(question.result_id, codes(marking, question)["anna"], worth(question), "good")
    marks = marks_by_student(marking.out)
    full = sum(worth(question))
    assert {name: marks[name][question.result_id]["points"] for name in marks} == {"anna": full, "cleo": full, "dora": 0}
    assert "ben" not in marks  # not marked yet; who wrote nothing has nothing


def test_it_goes_on_where_it_stopped_and_a_new_text_is_marked_anew(marking, question, course, graded):
    code = codes(marking, question)["ben"]
    points = [worth(question)[0], *[0.0] * (len(worth(question)) - 1)]
    marking.save(question.result_id, code, points, "half of it")
    again = Marking(graded, course.lessons)
    entry = next(a for a in again.entries(question.result_id)["answers"] if a["code"] == code)
    assert (
        entry["points"] == points
        and entry["comment"] == "half of it"
        and again.entries(question.result_id)["comments"] == ["half of it"]
    )
    assert again.told().startswith("1 of 2 answers to 1 question are marked")
    (graded / "ben/answers" / f"{course.lessons[0].folder.name}.toml").write_text(
        text_of(course.lessons[0], {question.id: "Another text."})
    )
    assert "ben" not in marks_by_student(graded) and Marking(graded, course.lessons).told().startswith("0 of 2")
    again.save(question.result_id, code, None)
    assert marks_by_student(graded) == {}


def test_two_who_mark_at_once_lose_nothing(graded, course, question):
    one, other = Marking(graded, course.lessons), Marking(graded, course.lessons)
    one.save(question.result_id, codes(one, question)["anna"], worth(question))
    other.save(question.result_id, codes(other, question)["ben"], worth(question))
    assert set(marks_by_student(graded)) == {"anna", "ben", "cleo", "dora"}


@pytest.mark.parametrize(
    "points", [[1], "1", [True, 0, 0], [-1, 0, 0], [99, 0, 0], [0.1, 0, 0], [float("nan"), 0, 0], [None, 0, 0], {}]
)
def test_points_of_another_kind_are_refused(marking, question, points):
    if isinstance(points, list) and len(points) == 3:
        points = [points[0], *[0] * (len(worth(question)) - 1)]
    with pytest.raises(MarkingProblem, match="expected"):
        marking.save(question.result_id, codes(marking, question)["ben"], points)
    assert marks_by_student(marking.out) == {}


def test_questions_and_answers_that_are_not_there(marking, question, course, tmp_path):
    with pytest.raises(MarkingProblem, match="no question"):
        marking.save("answers/../x.toml::y", "a", None)
    with pytest.raises(MarkingProblem, match="no answer 'zz'"):
        marking.save(question.result_id, "zz", worth(question))
    with pytest.raises(MarkingProblem, match="at most 2000"):
        marking.save(question.result_id, codes(marking, question)["ben"], worth(question), "x" * 2001)
    with pytest.raises(MarkingProblem, match="no student has written"):
        Marking(marking.out, course.lessons[1:])
    with pytest.raises(MarkingProblem, match="holds no results"):
        Marking(tmp_path, course.lessons)


# What reports and grades make of it


def test_marks_count_in_scores_grades_and_reports(marking, question, graded, course):
    before = {grade.submission: (grade.score, grade.max_score) for grade in read_grades(graded)}
    points = [worth(question)[0], *[0.0] * (len(worth(question)) - 1)]
    marking.save(question.result_id, codes(marking, question)["anna"], worth(question), "<b>Exactly.</b>")
    marking.save(question.result_id, codes(marking, question)["ben"], points)
    after = {grade.submission: (grade.score, grade.max_score) for grade in read_grades(graded)}
    full = sum(worth(question))
    gained = {name: (after[name][0] - before[name][0], after[name][1] - before[name][1]) for name in after}
    assert gained == {"anna": (full, full), "cleo": (full, full), "ben": (points[0], full), "dora": (0, full)}
    assert json.loads((graded / "anna/result.json").read_text())["score"] == before["anna"][0]  # the grader's word stays
    write_reports(graded, course)
    page = (graded / "anna/report.html").read_text()
    assert "&lt;b&gt;Exactly.&lt;/b&gt;" in page and "Its expected gradient is zero." in page
    assert re.search(rf"<b>{after['anna'][0]:g}</b>", page) and "Not answered." in (graded / "dora/report.html").read_text()


@pytest.mark.parametrize("fixed, of_lesson", [(None, 6.0), (20.0, 20.0)])
def test_marks_under_a_policy_lateness_and_fixed_points_hold(fixed, of_lesson):
    """An exercise of 2 points passed, a text of 4 marked with 2: 4 of 6; a quarter is lost by lateness."""
    rows = [
        {"id": "e", "lesson": 3, "score": 2.0, "max_score": 2.0},
        {"id": "q", "lesson": 3, "score": 0.0, "max_score": 0.0},
    ]
    before = {"lesson": 3, "penalty": 0.25, "earned": 2.0, "of": 2.0, "points": fixed, "late_days": 1}
    before |= {"score": 1.5 if fixed is None else 15.0, "max_score": 2.0 if fixed is None else 20.0}
    result = {
        "exercises": rows,
        "score": 2.0,
        "max_score": 2.0,
        "policy": {"lessons": [before], "score": before["score"], "late_days": 1},
    }
    made = with_marks(result, {"q": {"points": 2.0, "max_points": 4.0}})
    assert (made["score"], made["max_score"]) == (4, 6) and (result["score"], rows[1]["score"]) == (2, 0)
    policy = made["policy"]
    assert (
        policy["max_score"] == of_lesson
        and policy["score"] == pytest.approx(of_lesson * 4 / 6 * 0.75)
        and policy["late_days"] == 1
    )
    assert policy["penalty"] == pytest.approx(of_lesson * 4 / 6 * 0.25, abs=1e-6)
    assert with_marks(result, {}) is result


def test_a_damaged_file_of_marks_is_named(marking, question):
    marking.save(question.result_id, codes(marking, question)["ben"], worth(question))
    path = next((marking.out / "rubric").glob("*.json"))
    for text in ("{", "[]", '{"question": 1}', path.read_text().replace('"points"', '"other"')):
        path.write_text(text)
        for read in (lambda: marking.entries(question.result_id), lambda: marks_by_student(marking.out)):
            with pytest.raises(ValueError, match=f"{path.name} is damaged"):
                read()


# Files


def test_files_are_filled_in_an_editor_and_read_back(marking, question, graded, course, tmp_path):
    folder = tmp_path / "marks"
    (path,) = write_files(marking, folder)
    text = path.read_text()
    assert (
        "does not depend on the action" in text
        and "2 students wrote exactly this" in text
        and not any(name in text for name in TEXTS)
    )
    assert read_files(marking, folder) == (0, 2)
    code = codes(marking, question)["ben"]
    numbers = "[" + ", ".join(f"{value:g}" for value in worth(question)) + "]"
    head, tail = text.split(f'code = "{code}"')
    tail = tail.replace("points = []", f"points = {numbers}", 1).replace('comment = ""', 'comment = "Well \\"said\\"."', 1)
    path.write_text(head + f'code = "{code}"' + tail)
    assert read_files(marking, folder) == (1, 1)
    mark = marks_by_student(graded)["ben"][question.result_id]
    assert mark["points"] == sum(worth(question)) and mark["comment"] == 'Well "said".'
    with pytest.raises(MarkingProblem, match="there already"):
        write_files(marking, folder)
    (again,) = write_files(marking, tmp_path / "again")  # the marks so far are in it
    assert read_files(marking, again) == (1, 1)


@pytest.mark.parametrize(
    "change, words",
    [
        (("points = []", "points = [99]"), "expected"),
        (("points = []", "points = 1"), "expected"),
        (("points = []", ""), "no `points`"),
        (("question = ", "quest = "), "expected `question"),
        (('comment = ""', 'comment = "?"'), "no points"),
        (('code = "', 'code = "x'), "no answer"),
        (("[[answer]]", "[[answer"), "not readable as TOML"),
        (("::", "::nothing-"), "no question"),
    ],
)
def test_files_with_mistakes_are_named_and_nothing_is_taken(marking, tmp_path, change, words):
    (path,) = write_files(marking, tmp_path / "marks")
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(MarkingProblem, match=re.escape(str(path))) as raised:
        read_files(marking, tmp_path / "marks")
    assert words in str(raised.value) and marks_by_student(marking.out) == {}


def test_no_files_and_files_of_another_encoding(marking, tmp_path):
    with pytest.raises(MarkingProblem, match="no .toml files"):
        read_files(marking, tmp_path / "nothing")
    (path,) = write_files(marking, tmp_path / "marks")
    path.write_bytes(b'question = "\xe9"')
    with pytest.raises(MarkingProblem, match="expected UTF-8"):
        read_files(marking, path)


# The command


def test_the_command_writes_and_reads_files(tiny, tmp_path, pages):
    course = courses.load(tiny.root)
    out = tmp_path / "out"
    tiny.climb("rubric", out).refused("holds no results")
    pages.write_result(out, "anna", [pages.row_of(course.exercises[0], "passed")])
    tiny.climb("rubric", out).refused("no student has written an answer")
    toml = '[[question]]\nid = "why"\nsection = "1.1"\nkind = "text"\npoints = 2\nprompt = "Why?"\n'
    toml += 'rubric = ["2 points: because"]\n'
    tiny.write("lessons/01-first/questions.toml", toml)
    pages.keep_files(out / "anna", {"answers/01-first.toml": '[why]\nanswer = "Because."\n'})
    tiny.climb("rubric", out, "--files", tmp_path / "f", "--read", tmp_path / "f").refused("--files", "--read")
    done = tiny.climb("rubric", out, "--files", tmp_path / "f")
    assert done.code == 0 and "1 files" in done.out and "0 of 1 answers" in done.out
    file = tmp_path / "f/01-first.why.toml"
    file.write_text(file.read_text().replace("points = []", "points = [1.5]"))
    done = tiny.climb("rubric", out, "--read", tmp_path / "f")
    assert (
        done.code == 0
        and "1 marks read" in done.out
        and marks_by_student(out)["anna"]["answers/01-first.toml::why"]["points"] == 1.5
    )
    tiny.climb("rubric", out, "--lessons", "7").refused("7")


# In a browser


@pytest.fixture
def opened(marking, browser):
    pytest.importorskip("flask", reason="no flask here (pip install 'climb-course[pages]')")
    from autograder.pages.server import running

    page = page_of(marking)
    with running(page) as address:
        shown = browser.open(address.url)
        shown.wait_for_selector("#items li")
        shown.address, shown.finished = address.url, page.finished
        yield shown


def saved(shown):
    shown.locator("#climb-status", has_text=re.compile("^saved$")).wait_for(timeout=10_000)


def test_marking_with_the_keyboard_alone(opened, marking, question, graded):
    press = opened.keyboard.press
    count = len(worth(question))
    assert opened.errors == [] and all(
        address.startswith(opened.address) or address.startswith("data:") for address in opened.asked
    )
    assert not any(name in opened.content() for name in TEXTS)
    press("1"), press("2"), press("2"), press("c")  # all of the first item, half of the second
    opened.keyboard.type("Which distribution? 12 fjn")  # letters and digits in a comment are no keys
    press("Escape")
    saved(opened)
    first = next(a for a in marking.entries(question.result_id)["answers"] if a["points"])
    assert first["points"] == [worth(question)[0], worth(question)[1] / 2, *[0.0] * (count - 2)]
    assert first["comment"] == "Which distribution? 12 fjn"
    press("j"), press("f"), press("q")  # the next one: full points, and the comment in use again
    saved(opened)
    second = marking.entries(question.result_id)["answers"]
    assert sorted(sum(a["points"]) for a in second) == sorted([sum(first["points"]), sum(worth(question))])
    assert [a["comment"] for a in second] == ["Which distribution? 12 fjn"] * 2
    assert "2 of 2 marked" in opened.inner_text("#count") and set(marks_by_student(graded)) == set(TEXTS)
    press("u")
    saved(opened)
    assert "1 of 2 marked" in opened.inner_text("#count")
    press("n")
    opened.wait_for_selector("#items li:not([class])")
    press("0")
    saved(opened)
    assert sorted(sum(a["points"]) for a in marking.entries(question.result_id)["answers"])[0] == 0


def test_the_last_keys_before_going_on_are_kept_and_it_resumes(opened, marking, question, browser):
    for keys in ("1", "j", "f", "k", "2", "j", "1"):  # faster than anything is saved
        opened.keyboard.press(keys)
    saved(opened)
    shown = [a["points"] for a in marking.entries(question.result_id)["answers"]]
    assert shown[0][:2] == worth(question)[:2] and shown[1] == [worth(question)[0] / 2, *worth(question)[1:]]
    again = browser.open(opened.address)
    again.wait_for_selector("#items li")
    assert "2 of 2 marked" in again.inner_text("#count") and again.errors == []
    again.click("#quit")
    again.wait_for_selector("#end:not([hidden])")
    assert "2 of 2 answers" in again.inner_text("#summary") and opened.finished.is_set()


@pytest.mark.slow
def test_what_students_write_runs_nothing_and_phones_are_wide_enough(graded, course, question, browser, pages):
    pytest.importorskip("flask")
    from autograder.pages.server import running

    hostile = f'{pages.script}<img src=x onerror="document.title=1">'
    lesson = course.lessons[0]
    (graded / "ben/answers" / f"{lesson.folder.name}.toml").write_text(text_of(lesson, {question.id: hostile}))
    (graded / "anna/answers" / f"{lesson.folder.name}.toml").unlink()
    (graded / "cleo/answers" / f"{lesson.folder.name}.toml").unlink()
    with running(page_of(Marking(graded, course.lessons))) as address:
        shown = browser.open(address.url, width=390, height=844)
        shown.wait_for_selector("#items li")
        assert shown.inner_text("#answer") == hostile and shown.title() == "Marking written answers" and shown.errors == []
        assert shown.query_selector_all("img") == [] and shown.evaluate("document.documentElement.scrollWidth") <= 390
