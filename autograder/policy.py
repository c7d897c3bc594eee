"""`course.toml`: an instructor's rules in one file, read, checked and applied to results.

    title = "RL for language models, winter term"
    timezone = "Europe/Vienna"          # what dates without an offset mean; left out: UTC
    lessons = "1-7"                     # which are graded and handed out; left out: all
    attempts = "latest"                 # of several hand-ins of one student: latest or best

    [late]
    grace_minutes = 15                  # so much after the deadline is not late
    penalty_per_day = 0.1               # share of a lesson's points lost for each day begun
    cap = 0.5                           # never more than this share
    closes_after_days = 14              # handed in later still, a lesson gives nothing; left out: never
    file_times = true                   # where no system says when it came: the newest file's own time; left out: not late

    [visibility]                        # of what a student is shown
    tests = "after_due_date"            # hidden, after_due_date or visible: each exercise's outcome, where a system can hide it
    values = true                       # received and expected values; of the public seed alone, whatever is said here
    mistakes = true                     # the name of a known mistake
    hints = true                        # what to do about it

    [lesson.3]                     # a lesson's own rules, by its number; all may be left out
    opens = 2026-11-20
    due = 2026-12-04T23:59:00           # a date alone means the end of that day
    points = 20                         # what full marks are worth; left out: the sum of its exercises
    weight = 2                          # its share of the total counts so many times
    tests = "visible"

    [extensions]                        # days, by the name, id or address under which a student hands in
    anna = 3                            # for every lesson
    ben = { 3 = 7, 4 = 7 }              # for these

`load_policy` reads it; every error is one line that names the key. `Policy.applied` says what a result comes to under it.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any, Iterable, Sequence

from autograder.course import Course, CourseError

VISIBILITY = ("hidden", "after_due_date", "visible")
ATTEMPTS = ("latest", "best")
DAY = timedelta(days=1)


class PolicyError(CourseError):
    """What is wrong with a course.toml, in one line that names the file and the key."""


@dataclass(frozen=True)
class Late:
    """What lateness costs. Without a file nothing is ever late, since no lesson has a date."""

    grace_minutes: float = 0.0
    penalty_per_day: float = 0.0  # share of a lesson's points
    cap: float = 1.0
    closes_after_days: float | None = None
    file_times: bool = False

    def days(self, late_by: timedelta) -> int:
        """Days begun, counted from the deadline; 0 within the grace."""
        return 0 if late_by <= timedelta(minutes=self.grace_minutes) else max(1, math.ceil(late_by / DAY))

    def penalty(self, late_by: timedelta) -> float:
        """The share of the points that is lost, from 0 to 1."""
        days = self.days(late_by)
        if days and self.closes_after_days is not None and late_by > self.closes_after_days * DAY:
            return 1.0
        return min(self.cap, days * self.penalty_per_day)


@dataclass(frozen=True)
class Visibility:
    """What a student is shown. tests: hidden, after_due_date or visible. Values are only ever those of the public seed."""

    tests: str = "visible"
    values: bool = True
    mistakes: bool = True
    hints: bool = True


@dataclass(frozen=True)
class LessonPolicy:
    """A lesson's own rules. Dates carry their time zone. points: None for the sum of its exercises."""

    number: int
    opens: datetime | None = None
    due: datetime | None = None
    points: float | None = None
    weight: float = 1.0
    tests: str = "visible"


@dataclass(frozen=True)
class Policy:
    """A course's rules. `Policy()` is what holds where no file is given: all lessons, no dates, points as the grader counts."""

    title: str = ""
    timezone: tzinfo = timezone.utc
    lessons: tuple[int, ...] | None = None  # numbers; None: all
    attempts: str = "latest"
    late: Late = Late()
    visibility: Visibility = Visibility()
    by_lesson: dict[int, LessonPolicy] = field(default_factory=dict)
    extensions: dict[str, float | dict[int, float]] = field(default_factory=dict)  # by name, case folded
    path: Path | None = None  # the file it was read from

    def lesson(self, number: int) -> LessonPolicy:
        """The rules of a lesson, whether or not the file names it."""
        return self.by_lesson.get(number) or LessonPolicy(number, tests=self.visibility.tests)

    def graded(self, number: int) -> bool:
        return self.lessons is None or number in self.lessons

    def extension(self, number: int, names: Iterable[str], days: float = 0.0) -> float:
        """Days more for a lesson: the most of what the file grants under any of the student's names, and `days` (a roster's)."""
        found = [days]
        for name in names:
            granted = self.extensions.get(name.casefold(), 0.0)
            found.append(granted.get(number, 0.0) if isinstance(granted, dict) else granted)
        return max(found)

    def applied(
        self, result: dict, submitted: datetime | None, names: Sequence[str] = (), extension_days: float = 0.0, source: str = ""
    ) -> dict[str, Any]:
        """What stands as `policy` beside a result: each lesson's late days, penalty and points, and the final score.

        submitted: when it was handed in, None if that is not known (nothing is late then).  source: how that is known.
        names: those by which the student may have an extension.  extension_days: those of the roster.
        The result's own score stays what the grader found.
        """
        rows = []
        for number in dict.fromkeys(row["lesson"] for row in result["exercises"]):
            rules = self.lesson(number)
            of_lesson = [row for row in result["exercises"] if row["lesson"] == number]
            earned, of = (sum(row[key] for row in of_lesson) for key in ("score", "max_score"))
            worth = rules.weight * (of if rules.points is None else rules.points)
            more = self.extension(number, names, extension_days)
            due = None if rules.due is None else rules.due + more * DAY
            late_by = timedelta(0) if due is None or submitted is None else max(submitted - due, timedelta(0))
            penalty = self.late.penalty(late_by)
            rows.append(
                {
                    "lesson": number,
                    "due": None if due is None else due.isoformat(),
                    "extension_days": _rounded(more),
                    "late_days": self.late.days(late_by),
                    "penalty": _rounded(penalty),
                    "earned": _rounded(earned),
                    "of": _rounded(of),
                    "points": rules.points,
                    "score": _rounded(earned / of * worth * (1 - penalty) if of else 0.0),
                    "max_score": _rounded(worth),
                }
            )
        before = sum(row["earned"] / row["of"] * row["max_score"] for row in rows if row["of"])
        final = sum(row["score"] for row in rows)
        return {
            "submitted": None if submitted is None else submitted.astimezone(self.timezone).isoformat(),
            "submitted_from": source,
            "late_days": max((row["late_days"] for row in rows), default=0),
            "penalty": _rounded(before - final),  # points lost
            "score": _rounded(final),
            "max_score": _rounded(sum(row["max_score"] for row in rows)),
            "lessons": rows,
        }


def load_policy(path: Path | str | None, course: Course | None = None) -> Policy:
    """The rules in a course.toml; `Policy()` for None. Raises PolicyError, one line that names the key.

    course: if given, lessons that it does not have are errors.
    """
    if path is None:
        return Policy()
    path = Path(path)
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise PolicyError(f"{path}: expected UTF-8; save it so") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError(f"{path}: not readable as TOML ({str(error) or 'nested too deeply'})") from None
    return _Reader(path, course).policy(entries)


class _Reader:
    """Turns a file's entries into a Policy, or says of the first wrong one what was expected."""

    def __init__(self, path: Path, course: Course | None):
        self.path = path
        self.have = None if course is None else sorted({lesson.number for lesson in course.lessons})

    def policy(self, entries: dict) -> Policy:
        known = ("title", "timezone", "lessons", "attempts", "late", "visibility", "lesson", "extensions")
        self.known(entries, known, "")
        zone = self.zone(entries.get("timezone", "UTC"))
        shown = self.table(entries, "visibility")
        self.known(shown, ("tests", "values", "mistakes", "hints"), "visibility.")
        visibility = Visibility(
            self.one_of(shown, "tests", VISIBILITY, "visible", "visibility."),
            *(self.kind(shown, key, bool, "true or false", True, "visibility.") for key in ("values", "mistakes", "hints")),
        )
        lessons = self.lessons(entries["lessons"]) if "lessons" in entries else None
        set_of = self.table(entries, "lesson")
        by_lesson = {self.number(key, "lesson."): rules for key, rules in set_of.items()}
        return Policy(
            title=self.kind(entries, "title", str, "a text", ""),
            timezone=zone,
            lessons=lessons,
            attempts=self.one_of(entries, "attempts", ATTEMPTS, "latest"),
            late=self.late(self.table(entries, "late")),
            visibility=visibility,
            by_lesson={n: self.lesson(n, rules, zone, visibility.tests) for n, rules in by_lesson.items()},
            extensions={name.casefold(): self.days(name, value) for name, value in self.table(entries, "extensions").items()},
            path=self.path,
        )

    def wrong(self, key: str, expected: str, received: Any) -> PolicyError:
        text = received if isinstance(received, str) else _toml_text(received)
        return PolicyError(f"{self.path}: `{key}`: expected {expected}, received {text[:60]!r}")

    def known(self, entries: dict, names: tuple[str, ...], above: str) -> None:
        for key in entries:
            if key not in names:
                close = difflib.get_close_matches(key, names, n=1)
                meant = f"did you mean `{above}{close[0]}`?" if close else f"there are {', '.join(names)}"
                raise PolicyError(f"{self.path}: `{above}{key}` is no rule of a course; {meant}")

    def table(self, entries: dict, key: str) -> dict:
        value = entries.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, f"a table, [{key}]", value)
        return value

    def kind(self, entries: dict, key: str, kind: type, called: str, default: Any, above: str = "") -> Any:
        value = entries.get(key, default)
        if not isinstance(value, kind):
            raise self.wrong(above + key, called, value)
        return value

    def one_of(self, entries: dict, key: str, words: tuple[str, ...], default: str, above: str = "") -> str:
        value = entries.get(key, default)
        if value not in words:
            raise self.wrong(above + key, f"{', '.join(words[:-1])} or {words[-1]}", value)
        return value

    def amount(self, entries: dict, key: str, above: str, default: float | None, least: float, most: float, called: str):
        if key not in entries:
            return default
        value = entries[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:  # NaN is in no range
            raise self.wrong(above + key, called, value)
        return float(value)

    def late(self, rules: dict) -> Late:
        self.known(rules, ("grace_minutes", "penalty_per_day", "cap", "closes_after_days", "file_times"), "late.")
        share, days = "a share from 0 to 1, such as 0.1", "a number of days, 0 to 3650"
        return Late(
            self.amount(rules, "grace_minutes", "late.", 0.0, 0, 1e5, "a number of minutes, 0 or more"),
            self.amount(rules, "penalty_per_day", "late.", 0.0, 0, 1, share),
            self.amount(rules, "cap", "late.", 1.0, 0, 1, share),
            self.amount(rules, "closes_after_days", "late.", None, 0, 3650, days),
            self.kind(rules, "file_times", bool, "true or false", False, "late."),
        )

    def lesson(self, number: int, rules: Any, zone: tzinfo, tests: str) -> LessonPolicy:
        above = f"lesson.{number}."
        if not isinstance(rules, dict):
            raise self.wrong(above[:-1], f"a table, [{above[:-1]}]", rules)
        self.known(rules, ("opens", "due", "points", "weight", "tests"), above)
        opens = self.moment(rules, "opens", above, zone, time(0, 0))
        due = self.moment(rules, "due", above, zone, time(23, 59, 59))
        if opens and due and opens >= due:
            raise self.wrong(above + "due", f"a time after `{above}opens` ({opens.isoformat()})", due)
        return LessonPolicy(
            number,
            opens,
            due,
            self.amount(rules, "points", above, None, 0, 1e6, "a number of points, 0 or more"),
            self.amount(rules, "weight", above, 1.0, 0, 1e6, "a number, 0 or more"),
            self.one_of(rules, "tests", VISIBILITY, tests, above),
        )

    def moment(self, rules: dict, key: str, above: str, zone: tzinfo, of_day: time) -> datetime | None:
        value = rules.get(key)
        if isinstance(value, str):
            try:
                value = date.fromisoformat(value) if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else datetime.fromisoformat(value)
            except ValueError:
                pass
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, of_day)
        if value is not None and not isinstance(value, datetime):
            raise self.wrong(above + key, "a date or a time, such as 2026-12-04 or 2026-12-04T23:59:00", value)
        return value.replace(tzinfo=zone) if value is not None and value.tzinfo is None else value

    def zone(self, name: Any) -> tzinfo:
        import zoneinfo

        if name == "UTC":
            return timezone.utc
        try:
            return zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError, AttributeError):
            expected = "the name of a time zone that this machine knows, such as Europe/Vienna or UTC"
            raise self.wrong("timezone", expected, name) from None

    def lessons(self, value: Any) -> tuple[int, ...]:
        expected = 'numbers such as "1-7" or [1, 2, 3]'
        parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else None
        if not parts:
            raise self.wrong("lessons", expected, value)
        numbers: set[int] = set()
        for part in parts:
            found = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", str(part))
            if isinstance(part, bool) or not found or int(found[2] or found[1]) < int(found[1]):
                raise self.wrong("lessons", expected, value)
            numbers |= set(range(int(found[1]), int(found[2] or found[1]) + 1))
        return tuple(self.number(str(number), "lessons", whole=True) for number in sorted(numbers))

    def number(self, text: str, above: str, whole: bool = False) -> int:
        """A lesson's number, which stands in the key (`lesson.3`) or, if `whole`, in the key's value."""
        key = above if whole else above + text
        if not re.fullmatch(r"\d{1,4}", text):
            raise self.wrong(key, "the number of a lesson", text)
        if self.have is not None and int(text) not in self.have:
            raise self.wrong(key, f"a lesson of the course ({', '.join(map(str, self.have))})", text)
        return int(text)

    def days(self, name: str, value: Any) -> float | dict[int, float]:
        called = "a number of days, 0 to 3650, or such a number by lesson, as in { 3 = 7 }"
        if isinstance(value, dict):
            above = f"extensions.{name}."
            return {self.number(key, above): self.amount(value, key, above, 0.0, 0, 3650, called) for key in value}
        return self.amount({name: value}, name, "extensions.", 0.0, 0, 3650, called)


def _toml_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, (date, time)) else str(value)


def _rounded(value: float) -> float:
    return round(float(value), 6)
