"""What lies in a folder or a zip, read into memory within bounds. Nothing is extracted, no link followed, no device opened.

Every name and number in a zip is its sender's word. So sizes are bounded while reading, never by what a header says.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO, Callable

from .model import Problem, Unreadable

MAX_ENTRIES = 2000  # of one student's folder or zip; the whole course has some hundreds of files
MAX_BATCH_ENTRIES = 200_000  # of an export that holds a class
MAX_DEPTH = 12  # folders within folders
MAX_BYTES = 32 << 20  # of all that is read of one submission: files, and zips within zips
MAX_RATIO = 200  # deflate reaches 1032 on zeros; source text stays below 20
RATIO_FROM = 64 << 10  # bytes from which the ratio is looked at
IGNORED = {"__MACOSX", "__pycache__", "node_modules", "site-packages", "venv", "env", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True)
class Entry:
    """A file or a folder. `read(limit)` gives a file's bytes and raises Unreadable beyond `limit`."""

    path: tuple[str, ...]
    read: Callable[[int], bytes] | None  # None: a folder
    when: datetime | None = None  # its own time of change; in a zip without a zone

    @property
    def shown(self) -> str:
        return "/".join(self.path)


def ignored(name: str) -> bool:
    """Names that no student writes: hidden files, caches, environments, what file managers leave behind."""
    return name.startswith(".") or name in IGNORED


def mib(count: int) -> str:
    return f"{count / (1 << 20):g} MiB"


def list_folder(folder: Path, problems: list[Problem], limit: int = MAX_ENTRIES, only: str | None = None) -> list[Entry]:
    """The entries beneath a folder (or of its child `only`), by name. Raises Unreadable for more than `limit`."""
    found: list[Entry] = []

    def visit(place: Path, names_above: tuple[str, ...]) -> None:
        above = tuple(map(printable, names_above))
        try:
            names = sorted(os.listdir(place)) if above or only is None else [only]
        except OSError as error:
            problems.append(Problem("/".join(above) or ".", "error", f"cannot be opened ({error.strerror})"))
            return
        for name in names:
            path = (*above, printable(name))
            if ignored(name):
                continue
            if len(found) >= limit:
                raise Unreadable("refused", f"holds more than {limit} files: send the exercise files alone")
            try:
                status = os.lstat(place / name)
            except OSError as error:
                problems.append(Problem("/".join(path), "error", f"cannot be opened ({error.strerror})"))
                continue
            if stat.S_ISDIR(status.st_mode):
                found.append(Entry(path, None))
                if len(path) < MAX_DEPTH:
                    visit(place / name, (*names_above, name))
                else:
                    problems.append(Problem("/".join(path), "refused", f"lies more than {MAX_DEPTH} folders deep"))
            elif stat.S_ISREG(status.st_mode):
                found.append(Entry(path, reader(folder, (*names_above, name)), time_of(status)))
            else:
                problems.append(Problem("/".join(path), "refused", _special(status.st_mode)))

    visit(folder, ())
    return found


def time_of(status: os.stat_result) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(status.st_mtime), timezone.utc)
    except (ValueError, OverflowError, OSError):  # a time that no calendar has
        return None


def reader(folder: Path, names: tuple[str, ...]) -> Callable[[int], bytes]:
    """Reads the regular file folder/names[0]/..., and nothing that took its place since: no link's target, no pipe."""

    def read(limit: int) -> bytes:
        try:
            mode = os.lstat(folder.joinpath(*names)).st_mode
            if not stat.S_ISREG(mode):
                raise Unreadable("refused", _special(mode))
            with open(_opened(folder, names), "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                if not stat.S_ISREG(mode):
                    raise Unreadable("refused", _special(mode))
                return bounded(file, limit)
        except OSError as error:
            raise Unreadable("error", f"cannot be opened ({error.strerror})") from None

    return read


def _opened(folder: Path, names: tuple[str, ...]) -> int:
    """A descriptor of the file, reached folder by folder so that none on the way can be a link (where the system can)."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if os.open not in os.supports_dir_fd:
        return os.open(folder.joinpath(*names), flags)
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names[:-1]:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = inner
        return os.open(names[-1], flags, dir_fd=place)
    finally:
        os.close(place)


def bounded(file: BinaryIO, limit: int) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise Unreadable("refused", f"is larger than {mib(limit)}")
    return data


def list_zip(file: BinaryIO, problems: list[Problem], above: tuple[str, ...] = (), limit: int = MAX_ENTRIES) -> list[Entry]:
    """The entries of a zip that may be read; the others become problems. Raises Unreadable if the zip as a whole is refused."""
    archive = _open(file, limit)
    infos = archive.infolist()
    if len(infos) > limit:
        raise Unreadable("refused", f"holds more than {limit} files: send the exercise files alone")
    _refuse_overlaps(archive, infos)
    times = Counter("/".join(_parts(info)) for info in infos if not info.is_dir())
    found = []
    for info in infos:
        parts = _parts(info)
        refused = _hostile(info, parts)
        if not refused and not info.is_dir() and times["/".join(parts)] > 1:
            refused = "stands twice in the zip"
        if refused:
            problems.append(Problem("/".join((*above, printable(info.orig_filename)[:200])), "refused", refused))
        elif parts and not any(map(ignored, parts)):
            path = (*above, *map(printable, parts))
            found.append(Entry(path, None if info.is_dir() else _member(archive, info), _time_in_zip(info)))
    return found


def _time_in_zip(info: zipfile.ZipInfo) -> datetime | None:
    """An entry's time. 1980-01-01, where these calendars begin, is what tools write that know none."""
    try:
        return datetime(*info.date_time) if info.date_time[:3] > (1980, 1, 1) else None
    except ValueError:
        return None


class _Bounded:
    """A file whose single reads are bounded: zipfile reads the list of entries in one, as long as the zip says it is."""

    def __init__(self, file: BinaryIO, limit: int):
        self.file, self.limit = file, limit
        self.seek, self.tell = file.seek, file.tell

    def read(self, count: int = -1) -> bytes:
        if count > self.limit:
            raise Unreadable("refused", "holds too many files: send the exercise files alone")
        return self.file.read(count)

    def seekable(self) -> bool:
        return True


def _open(file: BinaryIO, limit: int) -> zipfile.ZipFile:
    listing = _Bounded(file, 512 * limit)  # an entry of the list is 46 bytes and a name
    try:
        archive = zipfile.ZipFile(listing)
    except Unreadable:
        raise
    except Exception as error:  # whatever hostile bytes make zipfile raise
        raise Unreadable("error", f"is no zip that can be read; was it cut short? ({type(error).__name__})") from None
    listing.limit = MAX_BYTES + 1
    return archive


def _parts(info: zipfile.ZipInfo) -> list[str]:
    return [part for part in info.orig_filename.replace("\\", "/").split("/") if part not in ("", ".")]


def _hostile(info: zipfile.ZipInfo, parts: list[str]) -> str | None:
    """Why an entry is refused by its name and kind, None if it is not."""
    name, mode = info.orig_filename.replace("\\", "/"), info.external_attr >> 16
    if "\0" in name:
        return "has a zero byte in its name"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "has an absolute name"
    if ".." in parts:
        return "has a name that leads out of the zip (..)"
    if len(parts) > MAX_DEPTH:
        return f"lies more than {MAX_DEPTH} folders deep"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return _special(mode)
    return None


def _special(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "is a symbolic link, and links are not followed: send the file itself"
    return "is a folder, not a file" if stat.S_ISDIR(mode) else "is no regular file but a device, a pipe or a socket"


def _refuse_overlaps(archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]) -> None:
    """A zip bomb lets many entries share the same bytes: in an honest zip each entry ends before the next begins."""
    spans = sorted((info.header_offset, info.header_offset + 30 + info.compress_size) for info in infos)
    starts = [start for start, _ in spans[1:]] + [archive.start_dir]
    if any(end > start for (_, end), start in zip(spans, starts)):
        raise Unreadable("refused", "has entries that overlap, as in a zip bomb")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[int], bytes]:
    def read(limit: int) -> bytes:
        if info.flag_bits & 0x2041:  # encrypted, strongly encrypted, names encrypted
            raise Unreadable("refused", "is encrypted: send it without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Unreadable("refused", f"is compressed in an unusual way (method {info.compress_type}): make an ordinary zip")
        try:
            with archive.open(info) as file:
                data = bounded(file, limit)
        except Unreadable:
            raise
        except Exception as error:  # whatever hostile bytes make zipfile and zlib raise
            raise Unreadable("error", f"is damaged in the zip; was it cut short? ({type(error).__name__})") from None
        if len(data) > RATIO_FROM and len(data) > MAX_RATIO * max(info.compress_size, 1):
            raise Unreadable("refused", f"is compressed more than {MAX_RATIO}-fold, as in a zip bomb")
        return data

    return read


def printable(name: str) -> str:
    """A name that any terminal and any JSON file can carry: what cannot be shown becomes `?`."""
    text = name.encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in text)
