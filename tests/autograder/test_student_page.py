"""One submission's page: what it says, what it hides, and that nothing of a student's becomes markup."""

import json
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser

import pytest

from autograder import course as courses
from autograder.policy import LessonPolicy, Policy, Visibility
from autograder.questions.marking import questions_of
from autograder.questions.rows import rows_of
from autograder.reports import code_view
from autograder.reports.class_data import ClassProblem, handed_in, read_class
from autograder.reports.class_report import add_marks, is_graded_class, write_reports
from autograder.reports.pages import lesson_link
from autograder.reports.student_page import NOT_OPEN, Setting, anchor_of, page, without_values


class Page(HTMLParser):
    """The tags, the text and the attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.attributes = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def said(self):
        return " ".join("".join(self.words).split())

    def values(self, name, tag=None):
        return [value for of, key, value in self.attributes if key == name and tag in (None, of)]


@pytest.fixture(scope="module")
def course():
    """The first three lessons: enough to show, and theirs are done."""
    whole = courses.load()
    return courses.Course(whole.root, [lesson for lesson in whole.lessons if lesson.number <= 3])


def exercise(course, name):
    return next(one for one in course.exercises if one.name == name)


def student_of(out):
    graded = read_class(out)
    add_marks(graded)
    return graded.students[0]


@pytest.fixture
def one(tmp_path, course, pages):
    """A student with one exercise of each kind, a file, and answers to questions."""
    update, agent = exercise(course, "Baseline.update"), exercise(course, "policy_loss")
    rows = [
        pages.row_of(exercise(course, "Agent"), "passed"),
        pages.row_of(update, "failed", "last-score-only", "`get` gives back the newest score."),
        pages.row_of(agent, "error")
        | {"message": "It stopped: ValueError.\nat toy/word_agent.py, line 12: raise ValueError(x)"},
        pages.row_of(exercise(course, "train"), "not_started"),
        pages.row_of(exercise(course, "plot_training"), "not_started"),
        *rows_of(update.lesson, None),
    ]
    place = pages.write_result(tmp_path / "class", "anna", rows, seconds=2.5)
    source = (
        "import torch\n\n\nclass Baseline:\n    total = 0\n\n    def update(self, score):\n        self.total = score\n\n\n"
    )
    pages.keep_files(place, {"toy/word_agent.py": source + "def policy_loss(agent):\n    raise ValueError(x)\n"})
    return tmp_path / "class"


# What it says


def test_each_exercise_with_its_mistake_its_lines_and_its_lesson(one, course):
    text = page(student_of(one), handed_in(one / "anna"), Setting(course))
    made = Page(text)
    for words in (
        "anna",
        "`get` gives back the newest score.",
        "(last-score-only)",
        "Not started",
        "train",
        "plot_training",
        "self.total = score",
    ):
        assert words in made.said
    student = json.loads((one / "anna/result.json").read_text())
    assert f"Points {student['score']:g} of {student['max_score']:g}" in made.said
    assert any("lessons/03-word-agent/lesson.md#" in link for link in made.values("href", "a"))
    marked = [words for words in text.split("<span") if 'class="at"' in words]
    assert len(marked) == 2 and all("raise ValueError(x)" in words for words in marked)  # in the exercise, and in the file
    own = [words for words in text.split("<span") if 'class="own"' in words]
    assert any("self.total = score" in words for words in own) and not any("class Baseline:" in words for words in own)


def test_a_page_needs_nothing_and_runs_nothing(one, course):
    text = page(student_of(one), handed_in(one / "anna"), Setting(course))
    made = Page(text)
    assert not {"script", "img", "link", "iframe", "form", "object"} & set(made.tags)
    assert "default-src 'none'; style-src 'unsafe-inline'" in text and "url(" not in text
    ids = made.values("id")
    assert len(ids) == len(set(ids)) and {link[1:] for link in made.values("href") if link.startswith("#")} <= set(ids)


def test_links_lead_beside_the_course_or_to_an_address(one, course):
    anchor = exercise(course, "Baseline.update").anchor
    path, _, part = anchor.partition("#")
    here = lesson_link(anchor, course.root, one / "anna/report.html")
    assert (one / "anna" / here.partition("#")[0]).resolve() == course.root / path and here.endswith("#" + part)
    assert lesson_link(anchor, course.root, one / "x.html", "https://example.org/a/") == f"https://example.org/a/{anchor}"
    made = Page(page(student_of(one), {}, Setting(course, lessons_url="https://example.org/climb")))
    assert f"https://example.org/climb/{anchor}" in made.values("href")


def test_hostile_names_code_answers_and_messages_stay_text(tmp_path, course, pages):
    for number, name in enumerate(pages.hostile):
        update = exercise(course, "Baseline.update")
        row = pages.row_of(update, "failed", name, name) | {"message": name + "\nat toy/word_agent.py, line 1: " + name}
        answers = rows_of(update.lesson, None)
        out = tmp_path / str(number)
        place = pages.write_result(
            out, name, [row, *answers], folder="s", problems=[{"file": name, "message": name}], layers=[name]
        )
        source = f"class Baseline:\n    def update(self):\n        {name}\n"
        question = next(q for q in questions_of(update.lesson) if q.kind == "text")
        pages.keep_files(
            place, {"toy/word_agent.py": source, "answers/03-word-agent.toml": f"[{question.id}]\nanswer = '''{name}'''\n"}
        )
        write_reports(out, course)
        for file in (out / "s/report.html", out / "class.html"):
            text = file.read_text(encoding="utf-8")
            made = Page(text)
            assert not {"img", "b onerror", "iframe"} & set(made.tags) and "\u202e" not in text
            assert made.tags.count("script") == (2 if file.name == "class.html" else 0)
            assert pages.script not in text and "onerror" not in {key for _, key, _ in made.attributes}
            assert all(link.startswith(("#", "../", "s/", "https://")) for link in made.values("href", "a")), made.values(
                "href", "a"
            )


# What it hides


def test_the_policy_says_what_a_student_sees(one, course):
    student, files = student_of(one), handed_in(one / "anna")
    shown = page(student, files, Setting(course, policy=Policy(visibility=Visibility(mistakes=False, hints=False))))
    assert "last-score-only" not in shown and "gives back the newest" not in shown and "Baseline.update" in shown
    due = datetime(2026, 12, 4, tzinfo=timezone.utc)
    rules = Policy(by_lesson={3: LessonPolicy(3, due=due, tests="after_due_date")})
    before = page(student, files, Setting(course, policy=rules, today=due - timedelta(hours=1)))
    assert NOT_OPEN in before and "last-score-only" not in before and "Exercises passed" not in before
    after = page(student, files, Setting(course, policy=rules, today=due + timedelta(hours=1)))
    assert NOT_OPEN not in after and "last-score-only" in after
    ours = page(student, files, Setting(course, policy=rules, today=due - timedelta(hours=1), everything=True))
    assert "last-score-only" in ours


def test_values_of_the_public_seed_can_be_kept_back(tmp_path, course, pages):
    told = "`means`: the largest difference is 0.25.\nwith      scores = [1.0]\nreceived  [0.5]\nexpected  [0.75]"
    row = pages.row_of(exercise(course, "Baseline.update"), "failed") | {"message": told}
    pages.write_result(tmp_path, "ben", [row], seed="public")
    student = student_of(tmp_path)
    assert "0.75" in page(student, {}, Setting(course))
    hidden = page(student, {}, Setting(course, policy=Policy(visibility=Visibility(values=False))))
    assert "0.75" not in hidden and "0.25" not in hidden and "Not right." in hidden
    assert (
        without_values("It stopped: ValueError: 0.75\nat toy/x.py, line 3: f(x)\nwith x = 0.75")
        == "It stopped.\nat toy/x.py, line 3: f(x)"
    )
    assert without_values("") == ""


def test_where_something_is_hidden_the_instructor_has_a_page_beside_it(one, course):
    write_reports(one, course, policy=Policy(visibility=Visibility(mistakes=False)))
    assert (
        "last-score-only" not in (one / "anna/report.html").read_text()
        and "last-score-only" in (one / "anna/full.html").read_text()
    )
    assert 'href="anna/full.html"' in (one / "class.html").read_text()
    write_reports(one, course)
    assert not (one / "anna/full.html").exists() and 'href="anna/report.html"' in (one / "class.html").read_text()


def test_lateness_is_told(tmp_path, course, pages):
    row = pages.row_of(exercise(course, "Baseline.update"), "passed")
    result = {"exercises": [row]}
    due = datetime(2026, 12, 4, tzinfo=timezone.utc)
    from autograder.policy import Late

    rules = Policy(late=Late(penalty_per_day=0.25), by_lesson={3: LessonPolicy(3, due=due)})
    applied = rules.applied(result, due + timedelta(days=1, hours=1))
    pages.write_result(tmp_path, "cleo", [row], policy=applied)
    text = Page(page(student_of(tmp_path), {}, Setting(course, policy=rules))).said
    worth = row["max_score"]
    assert (
        f"Grade {worth / 2:g} of {worth:g}, 2 days late" in text
        and "Lesson 3 came 2 days late: 50% of its points are lost." in text
    )


# The lines meant


SOURCE = '''@decorated
def first(x,
          y
):
    """Text
at the margin: def second():
    """
    return x


class Box:
    def put(self, x):
        return x

    async def take(self):
        def inner():
            return 1
# a comment at the margin
        return inner


def second(): return 2
'''


@pytest.mark.parametrize(
    "name, first, last",
    [
        ("first", 1, 8),
        ("Box", 11, 19),
        ("Box.put", 12, 13),
        ("Box.take", 15, 19),
        ("second", 22, 22),
        ("third", 0, 0),
        ("Box.first", 0, 0),
    ],
)
def test_the_lines_of_an_exercise_are_found_without_parsing(name, first, last):
    found = code_view.span_of(SOURCE.split("\n"), name)
    assert found == ((first - 1, last) if first else None)


def test_lines_outside_of_the_exercise_where_it_stopped_are_shown_too():
    marked = code_view.stops("It stopped: KeyError.\nat toy/x.py, line 13: return x\nat toy/y.py, line 2: z", "toy/x.py")
    assert marked == {13}
    found = code_view.excerpt(SOURCE, "second", marked, None)
    assert [line.number for line in found if line.kind == "at"] == [13] and found[0].number == 22
    assert code_view.excerpt(SOURCE, "second", {10**6}, None)[-1].number == 22  # a line that is not there


def test_long_stretches_as_handed_out_are_folded():
    lines = ["def f():", *(f"    a{n}" for n in range(20)), "    mine"]
    found = code_view.excerpt("\n".join(lines), "f", set(), frozenset(line.strip() for line in lines[:-1]))
    assert [line.kind for line in found] == ["", "", "fold", "", "", "own"] and "17 lines" in found[2].text


@pytest.mark.parametrize(
    "source", ["", "\n" * 5000, "def f" * 2000, "(" * 100_000, '"""' * 9999, "x" * 10**6, "\x00\x1b[31m\u202e"]
)
def test_no_source_is_too_odd_to_show(tmp_path, course, pages, source):
    place = pages.write_result(tmp_path, "dora", [pages.row_of(exercise(course, "Baseline.update"), "failed")])
    pages.keep_files(place, {"toy/word_agent.py": source})
    text = page(student_of(tmp_path), handed_in(place), Setting(course))
    assert len(text) < 2**20 and "\x1b" not in text and "\u202e" not in text


# Reading a class


def test_damaged_results_are_named_and_hold_up_nobody(tmp_path, course, pages):
    row = pages.row_of(exercise(course, "Baseline.update"), "passed")
    pages.write_result(tmp_path, "anna", [row])
    for name, text in (("ben", "{"), ("cleo", "[]"), ("dora", '{"exercises": [{"id": 3}]}'), ("emil", "[" * 100_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(text)
    (tmp_path / "fritz").symlink_to(tmp_path / "anna")
    graded = read_class(tmp_path)
    assert [student.name for student in graded.students] == ["anna"] and len(graded.notes) == 4
    assert (
        write_reports(tmp_path, course).is_file()
        and "ben/result.json is not a result" in Page((tmp_path / "class.html").read_text()).said
    )


def test_what_is_no_class(tmp_path):
    with pytest.raises(ClassProblem, match="holds no results"):
        read_class(tmp_path)
    with pytest.raises(ClassProblem, match="not a folder"):
        read_class(tmp_path / "nothing")
    assert not is_graded_class(tmp_path) and not is_graded_class(tmp_path / "nothing")


def test_links_and_large_files_of_a_submission_are_left_alone(tmp_path):
    secret = tmp_path / "secret.py"
    secret.write_text("x = 1")
    toy = tmp_path / "anna/files/toy"
    toy.mkdir(parents=True)
    (toy / "kl.py").symlink_to(secret)
    (toy / "large.py").write_text("x" * (1 << 20) + "x")
    (toy / "latin.py").write_bytes(b"\xe9")
    (toy / "good.py").write_text("y = 2")
    (tmp_path / "anna/files/helper.py").write_text("z = 3")
    (tmp_path / "anna/answers").mkdir()
    (tmp_path / "anna/answers/03-word-agent.toml").write_text("")
    assert handed_in(tmp_path / "anna") == {"toy/good.py": "y = 2", "helper.py": "z = 3", "answers/03-word-agent.toml": ""}


def test_places_on_a_page_are_plain_words():
    assert anchor_of("toy/word_agent.py::Baseline.update") == "x-toy-word-agent-py--Baseline-update"
    assert anchor_of("<é>'\"") == "x------"


# In a browser


def test_it_opens_without_a_network_on_a_screen_a_phone_and_paper(one, course, browser):
    write_reports(one, course)
    file = one / "anna/report.html"
    for width, height in ((1280, 900), (390, 844)):
        shown = browser.open(file, width, height, offline=True)
        assert shown.errors == [] and shown.asked == [file.as_uri()]
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert "last-score-only" in shown.inner_text("main")
    assert len(shown.pdf()) > 5000
    assert shown.query_selector("text=the class") is None  # the class's page is not for students


def test_hostile_text_runs_nothing_in_a_browser(tmp_path, course, pages, browser):
    name = '</pre></title><script>document.title="hacked"</script><img src=x onerror="document.title=\'hacked\'">'
    row = pages.row_of(exercise(course, "Baseline.update"), "failed", name, name) | {"message": name}
    place = pages.write_result(tmp_path, name, [row], folder="s")
    pages.keep_files(place, {"toy/word_agent.py": f"class Baseline:\n    def update(self):\n        {name}\n"})
    write_reports(tmp_path, course)
    for file in (place / "report.html", tmp_path / "class.html"):
        shown = browser.open(file)
        assert not shown.title().startswith("hacked") and shown.errors == [] and shown.query_selector_all("img") == []
        assert name in shown.text_content("main")
