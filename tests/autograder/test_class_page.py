"""The class's page: figures that are counted by hand here, whom it points at, how it behaves in a browser, and its size."""

import json
import time

import numpy as np
import pytest

from autograder import course as courses
from autograder.reports import class_page
from autograder.reports.class_charts import BARS, histogram
from autograder.reports.class_data import read_class
from autograder.reports.class_outliers import far_below, late, nothing, only_hard, outliers, slow, stumbling
from autograder.reports.class_report import write_reports


@pytest.fixture(scope="module")
def course():
    whole = courses.load()
    return courses.Course(whole.root, [lesson for lesson in whole.lessons if lesson.number <= 3])


@pytest.fixture
def made(tmp_path, course, pages):
    """Makes a class: {name: {exercise name: (status, mistake)}}, other exercises missing."""
    by_name = {exercise.name: exercise for exercise in course.exercises}

    def make(students, seconds=None):
        for name, done in students.items():
            rows = [
                pages.row_of(by_name[key], status, mistake, f"hint of {mistake}" if mistake else "")
                for key, (status, mistake) in done.items()
            ]
            pages.write_result(tmp_path, name, rows, seconds=(seconds or {}).get(name, 1.0))
        return read_class(tmp_path)

    return make


# What it counts


def test_mistakes_are_counted_by_exercise_the_most_frequent_first(made, course):
    wrong = {"Baseline.update": ("failed", "last-score-only")}
    graded = made(
        {
            **{f"s{n}": wrong for n in range(3)},
            "t": {"Baseline.update": ("failed", "baseline-first")},
            "u": {"Baseline.update": ("passed", None)},
        }
    )
    found = class_page._mistakes(class_page.Table(graded, course))
    assert [(m["id"], m["count"], m["share"]) for m in found["mistakes"]] == [
        ("last-score-only", "3", "60%"),
        ("baseline-first", "1", "20%"),
    ]
    assert [person["name"] for person in found["mistakes"][0]["people"]] == ["s0", "s1", "s2"] and found["mistakes"][0][
        "hint"
    ] == "hint of last-score-only"
    assert found["mistakes"][0]["people"][0]["link"] == "s0/report.html#x-toy-word-agent-py--Baseline-update"


def test_the_hardest_exercise_is_the_one_that_earns_least_of_those_who_tried(made, course):
    graded = made(
        {
            "a": {"Baseline.update": ("passed", None), "Agent": ("failed", None), "inner": ("not_started", None)},
            "b": {"Baseline.update": ("failed", None), "Agent": ("failed", None), "inner": ("not_started", None)},
            "c": {"Baseline.update": ("not_started", None), "Agent": ("passed", None), "inner": ("passed", None)},
        }
    )
    table = class_page.Table(graded, course)
    shares = {name: table.share(column) for column, name in enumerate(table.names)}
    assert shares == {"Baseline.update": 1 / 2, "Agent": 1 / 3, "inner": 1}
    assert [row["name"] for row in table.hardest()] == ["Agent", "Baseline.update"]  # nobody who tried `inner` lost a point
    lesson = next(row for row in table.lessons() if "word" in row["title"])
    assert lesson["started"] == "3" and lesson["complete"] == "0"


def test_a_row_of_the_map_draws_each_cell_once(made, course):
    statuses = ["passed", "passed", "failed", "missing", "error", "error", "passed"]
    names = [exercise.name for exercise in course.exercises[: len(statuses)]]
    graded = made({"a": {name: (status, None) for name, status in zip(names, statuses)}})
    svg = str(class_page.Table(graded, course).strip(0))
    assert 'viewBox="0 0 7 1"' in svg and '<path class="passed" d="M0 0h2v1H0M6 0h1v1H6"/>' in svg
    widths = [int(part.split("v")[0]) for part in svg.split("h")[1:] if part[0].isdigit()]
    assert sum(widths) == 7


def test_a_histogram_counts_everybody_once():
    values = [0.0, 0.0, 1.0, 5.0, 10.0, 12.0]
    svg = str(histogram(values, "points", 0.0, 10.0))
    counts = [int(part.split(" ")[0]) for part in svg.split("<title>")[1:]]
    assert (
        sum(counts) == len(values) and len(counts) == 4 and counts[-1] == 2
    )  # 10, and 12 that lies beyond, are in the last one
    assert BARS == 25 and "2 from 0 to 0.4 points" in svg
    assert "<svg" in histogram([3.0], "x", 0.0, 0.0)  # an exam without points


# Whom it points at


def test_nobody_stands_apart_in_a_class_that_is_alike(made):
    assert outliers(made({f"s{n:02}": {"Agent": ("passed", None)} for n in range(20)}).students) == []


def test_outliers_by_the_rules_that_are_stated(made, course):
    names = [exercise.name for exercise in course.exercises]
    usual = {name: ("passed", None) for name in names[:20]}
    students = {f"s{n:02}": dict(usual) for n in range(20)}
    for n in range(0, 20, 2):
        students[f"s{n:02}"][names[n % 20]] = ("failed", None)  # a little spread
    students["low"] = {name: ("failed", None) for name in names[:20]}
    students["crash"] = usual | {names[0]: ("crashed", None)}
    students["empty"] = {name: ("missing", None) for name in names[:20]}
    for name in students:
        students[name] = students[name] | {names[21]: ("missing", None)} if name != "empty" else students[name]
    graded = made(students, {"s03": 90.0}).students
    assert [s.name for s, _ in nothing(graded).people] == ["empty"]
    assert [(s.name, why) for s, why in stumbling(graded).people] == [("crash", "1 crashed")]
    assert [s.name for s, _ in slow(graded).people] == ["s03"]
    assert [s.name for s, _ in far_below(graded).people] == ["low"]


def test_who_passes_what_few_pass_and_little_else(made, course):
    easy, rare = course.exercises[0].name, course.exercises[1].name
    students = {f"s{n:02}": {easy: ("passed", None), rare: ("failed", None)} for n in range(30)}
    students["odd"] = {easy: ("failed", None), rare: ("passed", None)}
    found = only_hard(made(students).students).people
    points = {exercise.name: exercise.points for exercise in course.exercises}
    assert [(s.name, why) for s, why in found] == ([("odd", rare)] if points[rare] < points[easy] else []) or points[
        rare
    ] >= points[easy]


def test_who_is_late_by_the_rules_and_what_the_roster_calls_them(tmp_path, course, pages):
    row = pages.row_of(course.exercises[0], "passed")
    for number, days in enumerate((0, 3, 1)):
        policy = {
            "submitted": f"2026-12-0{4 + days}T12:00:00+01:00",
            "late_days": days,
            "score": 1.0,
            "max_score": 1.0,
            "lessons": [],
        }
        pages.write_result(
            tmp_path, f"s{number}", [row], policy=policy, student={"id": str(number), "name": f"Name {number}"}
        )
    graded = read_class(tmp_path)
    assert [(s.name, why) for s, why in late(graded.students).people] == [("s1", "3 days"), ("s2", "1 day")]
    text = class_page.page(graded, "x", course)
    assert "3 whose time is known; 2 late by the rules." in text and "1 from 04 Dec to 04 Dec (day)" in text
    assert "Name 1 (s1)" in text and 'href="s1/report.html"' in text


def test_few_students_have_no_outliers_by_quartiles(made):
    graded = made({f"s{n}": {"Agent": ("passed", None)} for n in range(3)}, {"s0": 500.0}).students
    assert slow(graded).people == [] and far_below(graded).people == []


# The command


def test_climb_report_writes_the_pages_of_a_class(tiny, tmp_path, pages):
    out = tmp_path / "graded"
    course = courses.load(tiny.root)
    pages.write_result(out, "anna", [pages.row_of(course.exercises[0], "passed")])
    done = tiny.climb("report", out)
    assert done.code == 0 and "class.html" in done.out and (out / "anna/report.html").is_file(), done.err
    tiny.climb("report", out, "--out", tmp_path / "x.html").refused("--out", "leave it out")
    tiny.climb("report", out, "--lessons-url", "javascript:alert(1)").refused("--lessons-url", "https://")
    tiny.climb("report", out, "--policy", tmp_path / "none.toml").refused("none.toml", "cannot be read")
    tiny.climb("report", tmp_path, "--lessons-url", "https://example.org").refused("one graded class")
    rules = tmp_path / "course.toml"
    rules.write_text('[visibility]\ntests = "hidden"\n')
    for words in (("--policy", rules), ()):  # once told, they hold
        (out / "anna/full.html").unlink(missing_ok=True)
        assert tiny.climb("report", out, *words).code == 0 and (out / "anna/full.html").is_file()
        assert "not shown now" in (out / "anna/report.html").read_text()
    (out / "rubric").mkdir()
    (out / "rubric/x.json").write_text("{")
    tiny.climb("report", out).refused("x.json", "damaged")


# In a browser


def opened(out, course, browser, **options):
    write_reports(out, course)
    return browser.open(out / "class.html", offline=True, **options)


def test_it_names_what_is_under_the_pointer_and_leads_there(tmp_path, course, pages, browser):
    pages.pretend_class(tmp_path, course, 23)
    shown = opened(tmp_path, course, browser)
    assert shown.errors == [] and shown.asked == [(tmp_path / "class.html").as_uri()]
    strip = shown.query_selector("#map tbody tr:nth-child(2) svg")
    strip.scroll_into_view_if_needed()
    box, count = strip.bounding_box(), len(course.exercises)
    column = 7
    shown.mouse.move(box["x"] + box["width"] * (column + 0.5) / count, box["y"] + 5)
    tip = shown.inner_text("#tip")
    row = json.loads((tmp_path / "student-0001/result.json").read_text())["exercises"][column]
    words = {"passed": "passed", "failed": "not right", "not_started": "not started"}
    assert tip.startswith(f"student-0001: {row['id'].split('::')[1]}, {words.get(row['status'], 'stopped')}")
    shown.mouse.click(box["x"] + box["width"] * (column + 0.5) / count, box["y"] + 5)
    shown.wait_for_url("**/student-0001/report.html#x-*")
    assert shown.query_selector(f"[id='{shown.url.split('#')[1]}']") is not None


def test_it_sorts_and_finds(tmp_path, course, pages, browser):
    pages.pretend_class(tmp_path, course, 23)
    shown = opened(tmp_path, course, browser)

    def names():
        return shown.eval_on_selector_all("#map tbody tr:not([hidden]) a", "links => links.map((link) => link.textContent)")

    assert names() == sorted(names()) and len(names()) == 23
    shown.click("[data-sort=score]")
    scores = {s.name: s.final for s in read_class(tmp_path).students}
    assert [scores[name] for name in names()] == sorted(scores.values(), reverse=True)
    shown.click("[data-sort=score]")
    assert [scores[name] for name in names()] == sorted(scores.values())
    shown.click("[data-sort=name]")
    assert names() == sorted(names())
    shown.fill("#find", "0010")
    assert names() == ["student-0010"] and shown.inner_text("#count") == "1 of 23"


@pytest.mark.slow
def test_it_fits_a_phone_prints_and_reads_without_its_script(tmp_path, course, pages, browser):
    pages.pretend_class(tmp_path, course, 23)
    shown = opened(tmp_path, course, browser, width=390, height=844, java_script_enabled=False)
    assert shown.errors == []
    assert shown.query_selector("#map tbody svg").bounding_box()["width"] > 100
    shown.click("#map tbody tr:nth-child(3) a")
    assert shown.url.endswith("student-0002/report.html")
    shown = browser.open(tmp_path / "class.html", width=390, height=844)
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    assert len(shown.pdf()) > 10_000


@pytest.mark.slow
def test_a_thousand_students_are_a_page_that_opens_at_once(tmp_path, pages, browser):
    whole = courses.load()
    course = courses.Course(whole.root, [lesson for lesson in whole.lessons if lesson.number <= 11])
    pages.pretend_class(tmp_path, course, 1000)
    graded = read_class(tmp_path)
    started = time.process_time()
    text = class_page.page(graded, "A thousand", course)
    assert time.process_time() - started < 30 and len(text.encode()) < 3 * 2**20  # 2 s and 1.4 MB where it was written
    (tmp_path / "class.html").write_text(text, encoding="utf-8")
    started = time.monotonic()
    shown = browser.open(tmp_path / "class.html")
    assert shown.errors == [] and time.monotonic() - started < 15  # 1.4 s beside other work where it was written
    assert len(shown.query_selector_all("#map tbody tr")) == 1000
    assert np.isclose(float(shown.query_selector("#map tbody tr").get_attribute("data-s")), graded.students[0].final)


# From submissions to pages


def test_an_evening_from_submissions_to_pages_without_a_hidden_value(tiny, tmp_path):
    """What `climb grade` finds is on the pages; no input or answer of a hidden case is."""
    folder, out = tmp_path / "in", tmp_path / "out"
    for name, edits in {"anna": {}, "ben": {"double": "return x * x"}, "cleo": {"double": "raise ValueError(float(x[0]))"}}.items():
        (folder / name / "toy").mkdir(parents=True)
        (folder / name / "toy/first.py").write_text(tiny.solution(**edits))
    assert tiny.climb("grade", folder, "--out", out, "--lessons", "1").code == 1
    said = {name: (out / name / "report.html").read_text() for name in ("anna", "ben", "cleo")}
    assert "You squared it" in said["ben"] and "squared" in (out / "class.html").read_text()
    assert "It stopped: ValueError" in said["cleo"] and "You squared it" not in said["anna"] + said["cleo"]
    for text in (*said.values(), (out / "class.html").read_text()):
        assert "1.25" not in text and "3.5" not in text and "received" not in text  # the first case of `double` is [1.25, 3.5]
