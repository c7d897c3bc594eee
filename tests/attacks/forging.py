"""Speaking the wire oneself: forged frames, pickles, hostile headers, and text that attacks whoever reads it."""

import textwrap

from .target import Attack

_WRITE = """
import json, os, pickle, struct
def frame(text, packed=b"", lengths=None):
    text = text if isinstance(text, bytes) else text.encode() if isinstance(text, str) else json.dumps(text).encode()
    return struct.pack(">II", *(lengths or (len(text), len(packed)))) + text + packed
def put(data, to=3):
    view = memoryview(data)
    while view:
        view = view[os.write(to, view):]
def claims(count=12, value=0.5):
    return b"".join(frame({"case": i, "outputs": {"positive": value}}) for i in range(count))
START, END = frame({"import": None, "has": True}), frame({"done": True})
def safetensors(header, data=b""):
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data
"""
_GONE = "\nos._exit(0)\n"
FAILED_OR_GONE = ("failed", "crashed", "error")


def spoken(name, what, expect=FAILED_OR_GONE, others=FAILED_OR_GONE, **more):
    """At import, before any honest frame, `what` is said and the process ends."""
    return Attack(name, at_import=_WRITE + textwrap.dedent(what) + _GONE, expect=expect, others=others, **more)


def framed(name, expression, **more):
    """A whole conversation whose only answer is this frame."""
    return spoken(name, f"put(START + {expression} + END)", **more)


ATTACKS = [
    spoken("claims-of-right-answers", "put(START + claims() + END)", expect="failed"),
    spoken(
        "claims-of-a-passed-check", "put(START + frame({'status': 'passed', 'score': 1, 'outcome': 'finished', 'case': 0}) + END)"
    ),
    spoken(
        "claims-on-every-open-descriptor",
        "for d in range(256):\n    try:\n        put(START + claims() + END, to=d)\n    except OSError:\n        pass",
        expect="failed",
    ),
    spoken("report-of-the-fork-server", "put(json.dumps({'exited': True, 'outcome': 'refused', 'detail': 'x'}).encode() + END)"),
    spoken("mark-of-the-confined-again", "put(b'+' + START + claims() + END)"),
    Attack(
        "claims-before-the-honest-frames",
        at_import=_WRITE + "put(START + claims())",
        body="return torch.tensor(0.123456)",
        expect="failed",
        others="failed",
    ),
    Attack(
        "claims-after-the-answers",
        at_import=_WRITE,
        body="put(b''.join(frame({'case': i, 'outputs': {'positive': None}}) for i in range(12)))\nreturn torch.tensor(0.123456)",
        expect="failed",
    ),
    Attack(
        "end-said-early",
        at_import=_WRITE,
        body="put(END)\nreturn torch.tensor(0.123456)",
        expect=("failed", "crashed"),
    ),
    Attack(
        "thread-that-speaks-in-between",
        at_import=_WRITE,
        body="""
        import threading
        claim = frame({"case": 0, "outputs": {"positive": 0.5}})
        threading.Thread(target=lambda: [put(claim) for _ in range(300)], daemon=True).start()
        return torch.tensor(0.123456)
        """,
        expect=("failed", "crashed"),
    ),
    Attack(
        "half-a-frame-forever",
        at_import=_WRITE
        + textwrap.dedent(
            """
            import time
            put(START + struct.pack('>II', 1 << 20, 0))
            while True:
                put(b' ')
                time.sleep(0.01)
            """
        ),
        seconds=0.3,
        expect="timeout",
        others="timeout",
    ),
    spoken("length-of-four-gigabytes", "put(START + struct.pack('>II', 0xFFFFFFFF, 0xFFFFFFFF) + b'x' * 1000 + END)"),
    spoken("a-million-empty-frames", "put(START + frame({}) * 350_000 + END)"),
    spoken("a-million-answers", "put(START + frame({'case': 0, 'outputs': {}}) * 90_000 + END)"),
    spoken("nothing-but-noise", "put(os.urandom(100_000) + END)"),
    spoken(
        "pickle",
        """
        class P:
            def __reduce__(self):
                return open, ('{FOLDER}/pwned', 'w')
        put(pickle.dumps(P()))
        put(START + pickle.dumps(P()) + END)
        """,
    ),
    framed("pickle-in-a-frame", "frame(pickle.dumps({'case': 0, 'outputs': {'positive': 0.5}}))"),
    framed("pickle-as-tensors", "frame({'case': 0, 'outputs': {'positive': {'$tensor': '0'}}}, pickle.dumps(open))"),
    framed("deep-nesting", "frame('{\"case\": 0, \"outputs\": ' + '[' * 200_000 + ']' * 200_000 + '}')"),
    framed("deep-objects", "frame('{\"case\": 0, \"outputs\": ' + '{\"a\":' * 100_000 + '1' + '}' * 100_000 + '}')"),
    framed("same-key-twice", 'frame(\'{"case": 0, "case": [], "outputs": {}, "outputs": {"positive": 0.5}, "case": 0}\')'),
    framed("not-a-number-as-json", 'frame(\'{"case": 0, "outputs": {"positive": NaN, "b": -Infinity, "c": 1e999}}\')'),
    framed("number-of-a-million-digits", "frame('{\"case\": 0, \"outputs\": {\"positive\": ' + '9' * 1_000_000 + '}}')"),
    framed("fraction-of-a-million-digits", "frame('{\"case\": 0, \"outputs\": {\"positive\": 0.' + '9' * 1_000_000 + '}}')"),
    framed(
        "case-that-is-no-number",
        "b''.join(frame({'case': c, 'outputs': {'positive': 0.5}}) for c in (-1, 99, 1e308, True, None, '0', [0], {}))",
    ),
    framed("lone-surrogates", 'frame(\'{"case": 0, "outputs": {"positive": "\\\\ud800\\\\udc00\\\\ud800", "\\\\udfff": 1}}\')'),
    framed("bytes-that-are-no-utf8", 'frame(b\'{"case": 0, "outputs": {"positive": "\\xff\\xfe\\x80"}}\')'),
    framed("utf16", "frame('{\"case\": 0}'.encode('utf-16'))"),
    framed("list-instead-of-names", "frame([1, 2, 3])"),
    framed("outputs-that-are-no-dict", "frame({'case': 0, 'outputs': [0.5]})"),
    framed("answer-of-many-megabytes-of-text", "frame({'case': 0, 'outputs': {'positive': 'x' * 3_500_000}})"),
    framed("thirty-thousand-names", "frame({'case': 0, 'outputs': {str(i): i for i in range(30_000)}})"),
    framed(
        "hidden-fields",
        "frame({'case': 0, 'outputs': {'$raised': 'ValueError', '$detail': {'type': 'NotImplementedError'}, '$$x': 1}})",
    ),
    framed(
        "exception-of-a-wrong-form",
        "frame({'case': 0, 'raised': {'type': ['x'] * 9, 'message': {'a': 1}, 'frames': [1, None, {'file': {}}] * 99}})",
    ),
    framed("exception-that-is-no-dict", "frame({'case': 0, 'raised': ['ValueError']})"),
    spoken("import-error-that-is-text", "put(frame({'import': 'gotcha'}) + END)", expect="error", others="error"),
    spoken("import-error-that-is-a-list", "put(frame({'import': [['x']]}) + END)", expect="error", others="error"),
    spoken("import-error-that-is-a-number", "put(frame({'import': 1e999}) + END)", expect="error", others="error"),
    spoken("exercise-that-is-odd", "put(frame({'import': None, 'has': {'a': []}}) + frame({'case': 0, 'outputs': None}) + END)"),
    *(
        framed(f"tensor-header-{name}", f"frame({{'case': 0, 'outputs': {{'positive': {{'$tensor': {key!r}}}}}}}, {packed})")
        for name, key, packed in (
            ("longer-than-all", "0", "struct.pack('<Q', 1 << 62) + b'{}'"),
            ("cut-short", "0", "b'abc'"),
            ("no-json", "0", "safetensors(b'\\x80\\x04\\x95')"),
            ("a-list", "0", "safetensors([1])"),
            ("negative-shape", "0", "safetensors({'0': {'dtype': 'F64', 'shape': [-1], 'data_offsets': [0, 8]}}, b'x' * 8)"),
            (
                "huge-shape",
                "0",
                "safetensors({'0': {'dtype': 'F64', 'shape': [2**62, 2**62], 'data_offsets': [0, 8]}}, b'x' * 8)",
            ),
            ("huge-empty-shape", "0", "safetensors({'0': {'dtype': 'F64', 'shape': [0, 2**62, 2**62], 'data_offsets': [0, 0]}})"),
            ("thousand-axes", "0", "safetensors({'0': {'dtype': 'F64', 'shape': [1] * 1000, 'data_offsets': [0, 8]}}, b'x' * 8)"),
            ("offsets-reversed", "0", "safetensors({'0': {'dtype': 'F64', 'shape': [1], 'data_offsets': [8, 0]}}, b'x' * 8)"),
            ("offsets-beyond", "0", "safetensors({'0': {'dtype': 'F64', 'shape': [1], 'data_offsets': [0, 2**63]}}, b'x' * 8)"),
            (
                "overlapping",
                "0",
                "safetensors({n: {'dtype': 'F64', 'shape': [1], 'data_offsets': [0, 8]} for n in '01'}, b'x' * 8)",
            ),
            ("dtype-unknown", "0", "safetensors({'0': {'dtype': 'OBJ', 'shape': [1], 'data_offsets': [0, 8]}}, b'x' * 8)"),
            ("dtype-a-list", "0", "safetensors({'0': {'dtype': ['F64'], 'shape': [1], 'data_offsets': [0, 8]}}, b'x' * 8)"),
            ("bfloat16", "0", "safetensors({'0': {'dtype': 'BF16', 'shape': [4], 'data_offsets': [0, 8]}}, b'x' * 8)"),
            (
                "with-metadata",
                "0",
                "safetensors({'__metadata__': {'a': 'b'},"
                " '0': {'dtype': 'F64', 'shape': [1], 'data_offsets': [0, 8]}}, b'x' * 8)",
            ),
            ("twice", "0", 'safetensors(b\'{"0":{"dtype":"F64","dtype":"BOOL","shape":[1],"data_offsets":[0,8]}}\', b\'x\' * 8)'),
            ("of-many", "0", "safetensors({str(n): {'dtype': 'U8', 'shape': [0], 'data_offsets': [0, 0]} for n in range(9000)})"),
            (
                "placeholder-of-nothing",
                "17",
                "safetensors({'0': {'dtype': 'F64', 'shape': [1], 'data_offsets': [0, 8]}}, b'x' * 8)",
            ),
            ("placeholder-a-list", [0], "safetensors({'0': {'dtype': 'F64', 'shape': [1], 'data_offsets': [0, 8]}}, b'x' * 8)"),
        )
    ),
    spoken(
        "results-closed",
        "os.close(3)\nimport time\ntime.sleep(60)",
        seconds=0.3,
        expect=("crashed", "timeout"),
        others=("crashed", "timeout"),
    ),
    spoken(
        "everything-closed",
        "os.closerange(0, 256)\nimport time\ntime.sleep(60)",
        seconds=0.3,
        expect=("crashed", "timeout"),
        others=("crashed", "timeout"),
    ),
    Attack("results-closed-before-the-answer", "import os\nos.close(3)\nreturn honest(logits)", expect=("crashed", "timeout")),
    Attack(
        "printed-closed", "import os\nos.close(1); os.close(2)\nprint('x')\nreturn honest(logits)", expect=("passed", "error")
    ),
    Attack(
        "printed-into-the-results",
        "import os\nos.dup2(3, 1)\nprint('{}', flush=True)\nreturn honest(logits)",
        expect=("crashed", "failed", "passed"),
    ),
    Attack("results-into-the-printed", "import os\nos.dup2(1, 3)\nreturn honest(logits)", expect="crashed"),
    Attack(
        "results-pipe-shrunk-and-nonblocking",
        "import fcntl, os\nfcntl.fcntl(3, 1031, 4096)\nos.set_blocking(3, False)\nreturn honest(logits)",
    ),
    # Text that attacks whoever reads it. `assert_harmless` in the tests looks at every message.
    Attack(
        "terminal-escapes",
        "raise ValueError('\\x1b[2J\\x1b]0;owned\\x07\\x1b[31m\\x9b5m \\x08\\x08 \\r all passed')",
        expect="error",
    ),
    Attack("terminal-escapes-printed", "print('\\x1b[2J\\x1b]52;c;cm0gLXJm\\x07' * 50)\nraise ValueError('x')", expect="error"),
    Attack("markup", "raise ValueError('[bold red]passed[/bold red] [link=file:///etc/passwd]x[/link] [/] [[')", expect="error"),
    Attack("reversed-writing", "raise ValueError('\\u202e\\u2066 dessap \\u2069 \\u200b\\ufeff')", expect="error"),
    Attack("lone-surrogate-in-a-message", "raise ValueError('\\ud800 \\udfff')", expect="error"),
    Attack("message-of-20-megabytes", "raise ValueError('x' * 20_000_000)", expect="error"),
    Attack(
        "message-that-raises",
        """
        class Silent(Exception):
            def __str__(self):
                raise self
            __repr__ = __str__
        raise Silent()
        """,
        expect="error",
    ),
    Attack(
        "message-that-never-ends",
        """
        class Slow(Exception):
            def __str__(self):
                while True:
                    pass
        raise Slow()
        """,
        seconds=0.3,
        expect="timeout",
    ),
    Attack(
        "message-that-is-no-plain-text",
        """
        class Text(str):
            def __getitem__(self, at):
                return {"passed": True}
            __str__ = lambda self: self
        class Odd(Exception):
            def __str__(self):
                return Text("x")
        raise Odd()
        """,
        expect=("error", "crashed"),
    ),
    Attack(
        "exception-whose-class-lies",
        """
        class Meta(type):
            __name__ = property(lambda cls: 1 / 0)
        class Lying(Exception, metaclass=Meta):
            __class__ = property(lambda self: NotImplementedError)
            __traceback__ = property(lambda self: 1 / 0)
        raise Lying()
        """,
        expect=("error", "crashed"),
    ),
    Attack(
        "exception-named-as-another",
        """
        raise type("passed\\nall checks passed\\x1b[0m" * 100, (Exception,), {})("x")
        """,
        expect="error",
    ),
    Attack("claims-not-to-be-started", "raise NotImplementedError('lesson 3: [red]' + 'x' * 10_000)", expect="not_started"),
    Attack(
        "exceptions-within-exceptions",
        """
        error = ValueError("x")
        for _ in range(20_000):
            error = ExceptionGroup("x", [error])
        error.__cause__ = error.__context__ = error
        raise error
        """,
        expect=("error", "crashed"),
    ),
    Attack(
        "lines-that-lie",
        """
        import linecache
        class Lines(list):
            def __getitem__(self, at):
                return "\\x1b[2Jall right" * 1000
        linecache.cache["toy/word_agent.py"] = (1, None, Lines(["x"] * 9999), "toy/word_agent.py")
        linecache.getline = lambda *a: "\\x1b[2J" * 1000
        raise ValueError("x")
        """,
        expect="error",
    ),
    Attack("error-of-another-file", 'raise SyntaxError("x", ("/etc/passwd", 1, 1, "root:" * 999, 1, 2))', expect="error"),
]
