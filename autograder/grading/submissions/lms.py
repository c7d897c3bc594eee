"""What learning systems put into the names of files and folders: whose it is, when it came, which attempt it was.

Canvas       adamsanna_LATE_12345_67890_word_agent-1.py       (some export one number only)
Moodle       Anna Adams_123_assignsubmission_file_/word_agent.py, or all of it in the file's name
Blackboard   Homework 1_anna_attempt_2026-11-26-12-00-00_word_agent.py
Brightspace  12-345 - Anna Adams - Nov 26, 2026 1159 PM/word_agent.py, or all of it in the file's name
Gradescope   submission_17/word_agent.py and submission_metadata.yml
by hand      anna_word_agent.py, anna_attempt_2.zip, anna/attempt 2/word_agent.py

What a student chooses stands at the end of a name. So patterns are anchored at its beginning and take the first match, and the
stricter ones come first: no file's name makes it another student's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from autograder.course import TRACKS, Course

METADATA = "submission_metadata.yml"
LONGEST = 300  # characters of a name that is looked into; systems and disks write shorter ones, and patterns take their time
MAX_METADATA = 64 << 20  # bytes: it holds what an earlier autograder printed, for every student

_CANVAS = re.compile(r"(?P<who>[^_]+)(?P<late>_LATE)?_(?P<id>\d+)_(?P<order>\d+)_(?P<file>.+)", re.DOTALL)
_CANVAS_SHORT = re.compile(r"(?P<who>[^_]+)(?P<late>_LATE)?_(?P<id>\d{3,})_(?!assignsubmission_)(?P<file>.+)", re.DOTALL)
_MOODLE = re.compile(r"(?P<who>.+?)_(?P<id>\d+)_assignsubmission_[a-z]+_(?P<file>.*)", re.DOTALL)
_BLACKBOARD = re.compile(r".+?_(?P<who>[^_]+)_attempt_(?P<time>\d{4}(?:-\d\d){5})(?:_(?P<file>.+))?", re.DOTALL)
_BRIGHTSPACE = re.compile(
    r"(?P<id>\d+)-\d+ - (?P<who>.+?) - (?P<time>(?:[A-Z][a-z]{2} \d{1,2}|\d{1,2} [A-Z][a-z]{2}), \d{4} \d{3,4} [AP]M)"
    r"(?: - (?P<file>.+))?",
    re.DOTALL,
)
_AGAIN = re.compile(r"(?P<who>.+?)[ _-]+attempt[ _-]*(?P<attempt>\d{1,4})", re.DOTALL | re.IGNORECASE)
_ATTEMPT_FOLDER = re.compile(
    r"(?:attempt|try|version|v)[ _-]*(\d{1,4})|(\d{4}-\d\d-\d\d(?:[T _-]\d\d(?:[:_-]?\d\d){1,2})?)", re.IGNORECASE
)


@dataclass(frozen=True)
class Sender:
    """Whose a file or folder is, as its name says. file: the name that the student gave it, None for a folder's."""

    who: str
    ids: tuple[str, ...] = ()
    file: str | None = None
    when: datetime | None = None
    number: int = 0  # of the attempt, where attempts are numbered
    late: bool = False
    mixes: bool = False  # files of several hand-ins lie side by side, the newest of each name counts

    @property
    def order(self) -> tuple:
        """Later attempts are larger."""
        when = self.when.astimezone(timezone.utc).replace(tzinfo=None) if self.when and self.when.tzinfo else self.when
        return (when is not None, when or datetime.min, self.number)


def sender_of_folder(name: str) -> Sender | None:
    """What a folder's (or a zip's, without its ending) name tells; None for a plain one."""
    if len(name) > LONGEST:
        return None
    for pattern in (_MOODLE, _BRIGHTSPACE, _BLACKBOARD):
        if (found := pattern.fullmatch(name)) and not found["file"]:
            return _of(found)
    if found := _AGAIN.fullmatch(name):
        return Sender(found["who"], number=int(found["attempt"]))
    return None


def sender_of_file(name: str, course: Course) -> Sender | None:
    """What the name of a file in a class's folder tells; None if all of it may be the student's own."""
    if len(name) > LONGEST:
        return None
    for pattern in (_BRIGHTSPACE, _CANVAS, _CANVAS_SHORT, _MOODLE, _BLACKBOARD):
        if (found := pattern.fullmatch(name)) and found["file"]:
            return _of(found)
    stem, dot, ending = name.rpartition(".")
    if ending.lower() in ("py", "ipynb"):
        plain = re.sub(r"( ?\(\d+\)|-\d+)$", "", stem).lower()
        files = sorted((lesson.module.split(".")[1] for lesson in course.lessons), key=len, reverse=True)
        for file in files:
            who = stem[: len(plain) - len(file) - 1]
            if plain.endswith(("_" + file, "-" + file)) and len(plain) > len(file) + 1 and who.lower() not in TRACKS:
                return Sender(who, file=stem[len(who) + 1 :] + dot + ending, mixes=True)
    sender = sender_of_folder(stem)  # "anna_attempt_2.zip"
    return Sender(sender.who, sender.ids, name, sender.when, sender.number) if sender else None


def attempt_order(folder: str) -> tuple | None:
    """The place of a folder such as `attempt 2` or `2026-11-26` among a student's; None if it is none of the kind."""
    found = _ATTEMPT_FOLDER.fullmatch(folder)
    if not found:
        return None
    if found[1]:
        return (False, datetime.min, int(found[1]))
    digits = re.sub(r"\D", "", found[2]).ljust(14, "0")
    try:
        return (True, datetime.strptime(digits, "%Y%m%d%H%M%S"), 0)
    except ValueError:
        return None


def _of(found: re.Match) -> Sender:
    parts = found.groupdict()
    who, number = parts["who"], parts.get("id")
    canvas = found.re in (_CANVAS, _CANVAS_SHORT)
    named = f"{who}_{number}" if canvas or found.re is _MOODLE else who
    ids = tuple(text for text in (number, who) if text)
    order = int(parts.get("order") or 0)
    return Sender(
        named, ids, parts["file"] or None, _time(parts.get("time")), order, bool(parts.get("late")), canvas or found.re is _MOODLE
    )


def _time(text: str | None) -> datetime | None:
    """A time in a name, without a zone."""
    if not text:
        return None
    text = re.sub(r" (\d{3}) ", r" 0\1 ", text)  # "203 PM"
    for form in ("%Y-%m-%d-%H-%M-%S", "%b %d, %Y %I%M %p", "%d %b, %Y %I%M %p"):
        try:
            return datetime.strptime(text, form)
        except ValueError:
            continue
    return None


def gradescope(data: bytes) -> dict[str, list[Sender]]:
    """{folder: its submitters} of a Gradescope export's metadata. Raises ValueError where it makes no sense."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        entries = yaml.load(data, Loader=loader)  # safe: it builds plain values alone
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ValueError(f"cannot be read as YAML ({type(error).__name__})") from None
    if not isinstance(entries, dict):
        raise ValueError("holds no list of submissions")
    return {str(folder): found for folder, entry in entries.items() if (found := _submitters(entry))}


def _submitters(entry: Any) -> list[Sender]:
    if not isinstance(entry, dict):
        return []
    entry = {str(key).lstrip(":"): value for key, value in entry.items()}  # keys are Ruby's symbols
    when = entry.get("created_at")
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when.replace(" UTC", "+00:00"))
        except ValueError:
            when = None
    found = []
    for person in entry["submitters"] if isinstance(entry.get("submitters"), list) else []:
        person = {str(key).lstrip(":"): value for key, value in person.items()} if isinstance(person, dict) else {}
        ids = tuple(
            str(person[key]) for key in ("sid", "email", "name") if isinstance(person.get(key), (str, int)) and person[key]
        )
        if ids:
            found.append(Sender(ids[0], ids, when=when if isinstance(when, datetime) else None))
    return found
