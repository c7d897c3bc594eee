"""Bytes to source text: encodings, line ends, notebooks. Nothing is parsed as Python: syntax errors are the child's to report."""

from __future__ import annotations

import json
import re

from .model import Unreadable
from .unpack import printable

MAX_SOURCE = 1 << 20  # bytes of one file's source; the longest exercise file has some 20,000
MAX_NOTEBOOK = 8 << 20  # bytes of a notebook with its pictures, of which only the source is kept

_SHELL = re.compile(r"(\s*)(![^=].*|!|\?{1,2}[\w.]+\s*|[\w.]+\?{1,2}\s*)$")
_MAGIC = re.compile(r"(\s*)(%{1,2}[A-Za-z_].*)$")
_ASSIGNED = re.compile(r"(\s*)(\w+\s*=\s*)([!%][A-Za-z_./].*)$")
_PYTHON_CELLS = ("%%time", "%%timeit", "%%capture", "%%prun")  # cell magics whose cell is Python all the same


def source_of(name: str, data: bytes, notes: list[str] | None = None) -> str:
    """The Python source in a file's bytes; what had to be left out of a notebook is added to `notes`.

    Raises Unreadable, with what to do, for what is not UTF-8 or not a notebook.
    """
    if name.lower().endswith(".ipynb"):
        return notebook_source(decoded(data), notes)
    return decoded(data)


def decoded(data: bytes) -> str:
    """UTF-8 with or without a byte order mark, lines ended by \\n."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Unreadable("error", "is encoded as UTF-16: save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise Unreadable("error", f"is not UTF-8 (byte 0x{byte:02x} in line {line}; Latin-1 perhaps): save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def notebook_source(text: str, notes: list[str] | None = None) -> str:
    """The code cells of a notebook one after the other, each under a comment with its number."""
    try:
        book = json.loads(text)
        if isinstance(book.get("nbformat"), int) and book["nbformat"] < 4:
            book = _in_format_4(book)
        language = book.get("metadata", {}).get("kernelspec", {}).get("language", "python")
        parts = [(index, cell["source"]) for index, cell in enumerate(book["cells"], start=1) if cell["cell_type"] == "code"]
        sources = [(index, source if isinstance(source, str) else "".join(source)) for index, source in parts]
    except Unreadable:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Unreadable("error", "is no notebook that can be read (Jupyter format 4, with `cells`)") from None
    if isinstance(language, str) and language.lower() not in ("python", "python3", "ipython"):
        raise Unreadable("error", f"is a notebook in {printable(language)[:20]}: the exercises are in Python")
    cells = [(index, source, python_of_cell(source)) for index, source in sources]
    joined = "\n\n".join(f"# cell {index}\n{python}" for index, _, python in cells) + "\n"
    if len(joined) > MAX_SOURCE:
        raise Unreadable("refused", f"holds more than {MAX_SOURCE >> 20} MiB of source")
    left_out = [(index, line) for index, source, python in cells for line in _changed(source, python)]
    if left_out and notes is not None:
        shown = ", ".join(f"cell {index} `{printable(line.strip())[:60]}`" for index, line in left_out[:3])
        lines = f"{len(left_out)} line{'' if len(left_out) == 1 else 's'} that {'is' if len(left_out) == 1 else 'are'} no Python"
        notes.append(f"{lines} left out: {shown}{', ...' if len(left_out) > 3 else ''}")
    return joined.encode("utf-8", "replace").decode()  # JSON can hold half a surrogate pair, which no file can


def _in_format_4(book: dict) -> dict:
    """A notebook of formats 1 to 3 as format 4, by Jupyter's own library. Format 4 is plain enough to be read without it."""
    try:
        import nbformat
    except ImportError:
        raise Unreadable(
            "error", "is a notebook in an old format: save it again with a newer Jupyter (or `pip install nbformat` here)"
        ) from None
    try:
        return nbformat.convert(nbformat.reader.reads(json.dumps(book)), 4)
    except Exception as error:  # whatever an odd notebook makes of the library
        raise ValueError(str(error)) from None


def _changed(source: str, python: str) -> list[str]:
    """The lines of a cell that `python_of_cell` has made into comments."""
    before = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line for line, now in zip(before, python.split("\n")) if line != now and line.strip()]


def python_of_cell(source: str) -> str:
    """A cell as plain Python: magics, shell commands and `name?` become comments, and so does a cell in another language."""
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("%%") and first.split()[0] not in _PYTHON_CELLS:
        return "\n".join("# " + line for line in lines)
    return "\n".join(map(_python_line, lines))


def _python_line(line: str) -> str:
    if line.startswith(("%", "!")):
        return "# " + line
    found = _SHELL.match(line) or _MAGIC.match(line)
    if found:  # indented, it may be all there is in a block
        return f"{found[1]}pass  # {found[2]}"
    found = _ASSIGNED.match(line)
    return f"{found[1]}{found[2]}None  # {found[3]}" if found else line


def defined_names(source: str) -> set[str]:
    """Names that a source defines at its top level, told from the text: it is hostile until it has run in the sandbox."""
    return set(re.findall(r"^(?:async\s+def|def|class)\s+(\w+)", source, flags=re.MULTILINE))
