"""Bytes to source text: encodings, line ends, notebooks. Nothing is parsed as Python: syntax errors are the child's to report."""

from __future__ import annotations

import json
import re

from .model import Unreadable

MAX_SOURCE = 1 << 20  # bytes of one file's source; the longest exercise file has some 20,000
MAX_NOTEBOOK = 8 << 20  # bytes of a notebook with its pictures, of which only the source is kept

_SHELL = re.compile(r"(\s*)(![^=].*|!|\?{1,2}[\w.]+\s*|[\w.]+\?{1,2}\s*)$")
_MAGIC = re.compile(r"(\s*)(%{1,2}[A-Za-z_].*)$")
_ASSIGNED = re.compile(r"(\s*)(\w+\s*=\s*)([!%][A-Za-z_./].*)$")
_PYTHON_CELLS = ("%%time", "%%timeit", "%%capture", "%%prun")  # cell magics whose cell is Python all the same


def source_of(name: str, data: bytes) -> str:
    """The Python source in a file's bytes. Raises Unreadable, with what to do, for what is not UTF-8 or not a notebook."""
    if name.lower().endswith(".ipynb"):
        return notebook_source(decoded(data))
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


def notebook_source(text: str) -> str:
    """The code cells of a notebook one after the other, each under a comment with its number."""
    try:
        cells = json.loads(text)["cells"]
        parts = [(index, cell["source"]) for index, cell in enumerate(cells, start=1) if cell["cell_type"] == "code"]
        sources = [(index, source if isinstance(source, str) else "".join(source)) for index, source in parts]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Unreadable("error", "is no notebook that can be read (Jupyter format 4, with `cells`)") from None
    joined = "\n\n".join(f"# cell {index}\n{python_of_cell(source)}" for index, source in sources) + "\n"
    if len(joined) > MAX_SOURCE:
        raise Unreadable("refused", f"holds more than {MAX_SOURCE >> 20} MiB of source")
    return joined.encode("utf-8", "replace").decode()  # JSON can hold half a surrogate pair, which no file can


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
