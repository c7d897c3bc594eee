"""What the pages of a class share: their template engine, numbers as people write them, links, text that cannot become markup."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

HERE = Path(__file__).parent
WORDS = (
    ("passed", "passed"),
    ("part", "partly right"),
    ("failed", "not right"),
    ("error", "stopped, too slow or refused"),
    ("not_started", "not started"),
    ("missing", "missing"),
)
# Controls, marks that turn the writing direction, halves of pairs (they have no UTF-8): what no page may hold, whoever wrote it.
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@lru_cache(maxsize=None)
def template(name: str):
    """A template of this package, or of another by `package/name`; everything it is given is escaped."""
    import jinja2

    folders = [HERE, HERE.parent]
    options = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True, "lstrip_blocks": True}
    return jinja2.Environment(loader=jinja2.FileSystemLoader(folders), **options).get_template(name)


def rendered(page: str, /, **values) -> str:
    return UNPRINTABLE.sub("\ufffd", template(page).render(**values))


def points(value: float) -> str:
    """12, 12.5, 12.25: no needless zeros, three decimals at most."""
    return f"{round(value, 3):.10g}".replace("-", "−")


def percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min {seconds % 60:.0f} s" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def lesson_link(anchor: str, root: Path | None, page: Path, url: str = "") -> str:
    """Where "lessons/03-word-agent/lesson.md#34-x" is to be found: below `url`, else beside the course on this machine."""
    path, _, part = anchor.partition("#")
    if url:
        target = url.rstrip("/") + "/" + path
    elif root is not None:
        from urllib.parse import quote

        target = quote(Path(os.path.relpath(root / path, page.parent)).as_posix())
    else:
        target = ""
    return f"{target}#{part}" if part and target else target


def write_page(path: Path, text: str) -> Path:
    """All of it or nothing."""
    from autograder.progress import write_whole

    write_whole(path, text)
    return path
