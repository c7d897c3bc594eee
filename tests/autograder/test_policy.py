"""`course.toml`: what it says, what it refuses to say, and what a result comes to under it."""

from datetime import datetime, timedelta, timezone

import pytest

from autograder.course import load
from autograder.policy import Late, Policy, PolicyError, load_policy

WHOLE = """
title = "Winter"
timezone = "Europe/Vienna"
lessons = "1-2"
attempts = "best"
[late]
grace_minutes = 15
penalty_per_day = 0.1
cap = 0.25
closes_after_days = 10
[visibility]
tests = "after_due_date"
values = false
mistakes = true
hints = false
[lesson.1]
opens = 2026-11-20
due = 2026-12-04
points = 20
weight = 2
tests = "hidden"
[lesson.2]
due = 2026-12-11T12:00:00+00:00
[extensions]
Anna = 3
ben = { 2 = 7 }
"""


@pytest.fixture
def policy(tmp_path):
    def read(text, course=None):
        path = tmp_path / "course.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_policy(path, course)

    return read


def result(*rows):
    return {"exercises": [{"lesson": lesson, "score": score, "max_score": of} for lesson, score, of in rows]}


def test_everything_that_a_file_can_say(policy, tiny):
    found = policy(WHOLE, load(tiny.root))
    assert (found.title, found.lessons, found.attempts) == ("Winter", (1, 2), "best")
    assert found.late == Late(15, 0.1, 0.25, 10) and found.visibility.tests == "after_due_date"
    assert (found.visibility.values, found.visibility.mistakes, found.visibility.hints) == (False, True, False)
    first, second = found.lesson(1), found.lesson(2)
    assert first.opens.isoformat() == "2026-11-20T00:00:00+01:00"  # Vienna in winter
    assert first.due.isoformat() == "2026-12-04T23:59:59+01:00"  # a date alone: the end of that day
    assert (first.points, first.weight, first.tests) == (20, 2, "hidden")
    assert second.due == datetime(2026, 12, 11, 12, tzinfo=timezone.utc) and second.tests == "after_due_date"
    assert found.graded(2) and not found.graded(3) and Policy().graded(3)


def test_no_file_and_an_empty_file_are_no_rules(policy):
    assert load_policy(None) == Policy()
    empty = policy("")
    assert empty == Policy(path=empty.path)
    rows = result((1, 3, 5), (2, 0, 3))
    free = empty.applied(rows, datetime(2030, 1, 1, tzinfo=timezone.utc))
    assert (free["score"], free["max_score"], free["late_days"], free["penalty"]) == (3, 8, 0, 0)


@pytest.mark.parametrize(
    "minutes, days, penalty",
    [
        (-600, 0, 0.0),
        (0, 0, 0.0),
        (15, 0, 0.0),  # the grace, to its last second
        (16, 1, 0.1),  # beyond it a day has begun, counted from the deadline
        (24 * 60, 1, 0.1),
        (24 * 60 + 1, 2, 0.2),
        (3 * 24 * 60, 3, 0.25),  # the cap
        (10 * 24 * 60, 10, 0.25),
        (10 * 24 * 60 + 1, 11, 1.0),  # closed
    ],
)
def test_late_days_grace_cap_and_closing(minutes, days, penalty):
    late = Late(15, 0.1, 0.25, 10)
    assert late.days(timedelta(minutes=minutes)) == days
    assert late.penalty(timedelta(minutes=minutes)) == pytest.approx(penalty, abs=1e-12)


def test_points_weights_and_lateness_make_the_final_score(policy):
    """Lesson 1: 4 of 5 exercises' points, worth 20 twice, a day late; lesson 2: as the grader counts, in time."""
    found = policy(WHOLE)
    at = datetime(2026, 12, 5, 12, tzinfo=timezone.utc)
    applied = found.applied(result((1, 4, 5), (2, 1, 3)), at, source="roster")
    assert [row["score"] for row in applied["lessons"]] == pytest.approx([4 / 5 * 40 * 0.9, 1])
    assert [row["late_days"] for row in applied["lessons"]] == [1, 0] and applied["late_days"] == 1
    assert applied["score"] == pytest.approx(29.8) and applied["max_score"] == 43
    assert applied["penalty"] == pytest.approx(3.2)
    assert applied["submitted"] == "2026-12-05T13:00:00+01:00" and applied["submitted_from"] == "roster"


def test_extensions_by_any_name_the_most_of_them_and_a_rosters(policy):
    found = policy(WHOLE)
    at = datetime(2026, 12, 7, tzinfo=timezone.utc)  # 48 hours late
    late = {
        name: found.applied(result((1, 5, 5)), at, names, days)["lessons"][0]["late_days"]
        for name, names, days in (("nobody", (), 0), ("anna", ("x", "ANNA"), 0), ("ben", ("ben",), 0), ("roster", (), 1.5))
    }
    assert late == {"nobody": 3, "anna": 0, "ben": 3, "roster": 1}
    assert found.extension(2, ["ben"]) == 7 and found.extension(2, ["ben"], 9) == 9


def test_a_time_that_is_not_known_is_not_late(policy):
    applied = policy(WHOLE).applied(result((1, 5, 5)), None)
    assert applied["submitted"] is None and applied["late_days"] == 0 and applied["score"] == 40


def test_a_lesson_that_is_worth_nothing_and_one_without_points(policy):
    applied = policy("[lesson.1]\nweight = 0").applied(result((1, 5, 5), (2, 0, 0)), None)
    assert applied["score"] == applied["max_score"] == 0


@pytest.mark.parametrize(
    "text, key, said",
    [
        ("titel = 'x'", "titel", "did you mean `title`?"),
        ("anything = 1", "anything", "there are title,"),
        ("title = 3", "title", "expected a text, received '3'"),
        ("timezone = 'Mars/Base'", "timezone", "such as Europe/Vienna"),
        ("timezone = 1", "timezone", "such as Europe/Vienna"),
        ("timezone = '../../etc/passwd'", "timezone", "such as Europe/Vienna"),
        ("lessons = 'all'", "lessons", 'such as "1-7"'),
        ("lessons = '3-1'", "lessons", 'such as "1-7"'),
        ("lessons = []", "lessons", 'such as "1-7"'),
        ("lessons = [true]", "lessons", 'such as "1-7"'),
        ("lessons = '1-9'", "lessons", "expected a lesson of the course (1, 2), received '3'"),
        ("attempts = 'first'", "attempts", "expected latest or best"),
        ("late = 3", "late", "expected a table, [late]"),
        ("[late]\npenalty = 0.1", "late.penalty", "did you mean `late.penalty_per_day`?"),
        ("[late]\npenalty_per_day = 10", "late.penalty_per_day", "a share from 0 to 1"),
        ("[late]\ncap = nan", "late.cap", "a share from 0 to 1"),
        ("[late]\ncap = true", "late.cap", "received 'true'"),
        ("[late]\ngrace_minutes = -1", "late.grace_minutes", "0 or more"),
        ("[late]\ncloses_after_days = 'two'", "late.closes_after_days", "a number of days"),
        ("[visibility]\ntests = 'shown'", "visibility.tests", "hidden, after_due_date or visible"),
        ("[visibility]\nhints = 1", "visibility.hints", "true or false"),
        ("[lesson.first]\ndue = 2026-12-04", "lesson.first", "the number of a lesson"),
        ("[lesson.7]\ndue = 2026-12-04", "lesson.7", "expected a lesson of the course (1, 2)"),
        ("[lesson]\n1 = 2026-12-04", "lesson.1", "a table, [lesson.1]"),
        ("[lesson.1]\ndue = 'Friday'", "lesson.1.due", "a date or a time"),
        ("[lesson.1]\ndue = 12:00:00", "lesson.1.due", "a date or a time"),
        ("[lesson.1]\nopens = 2026-12-04\ndue = 2026-12-03", "lesson.1.due", "a time after `lesson.1.opens`"),
        ("[lesson.1]\npoints = -3", "lesson.1.points", "a number of points"),
        ("[lesson.1]\nweigth = 3", "lesson.1.weigth", "did you mean `lesson.1.weight`?"),
        ("[extensions]\nanna = 'long'", "extensions.anna", "a number of days"),
        ("[extensions]\nanna = { 9 = 1 }", "extensions.anna.9", "a lesson of the course"),
        ("[extensions]\nanna = { 1 = inf }", "extensions.anna.1", "a number of days"),
    ],
)
def test_what_makes_no_sense_is_told_by_its_key_in_one_line(policy, tiny, text, key, said):
    with pytest.raises(PolicyError) as error:
        policy(text, load(tiny.root))
    line = str(error.value)
    assert f"`{key}`" in line and said in line and "\n" not in line and line.startswith(str(tiny.root.parent / "course.toml"))


@pytest.mark.parametrize("text, said", [(b"x = ", "TOML"), (b"a = [" + b"[" * 5000, "TOML"), (b"title = '\xe9'", "UTF-8")])
def test_what_is_no_toml_is_said(policy, text, said):
    with pytest.raises(PolicyError, match=said):
        policy(text)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path / "course.toml")
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(tmp_path)


def test_dates_may_be_texts_and_a_byte_order_mark_does_no_harm(policy):
    found = policy("\ufeff[lesson.1]\nopens = '2026-11-20'\ndue = '2026-12-04 18:00'")
    assert found.lesson(1).due == datetime(2026, 12, 4, 18, tzinfo=timezone.utc)
