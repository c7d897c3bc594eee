"""Broken rather than hostile: files that are no Python, or not the file that was asked for."""

from autograder import reference

from .target import EXERCISE, MODULE, Attack

HONEST_FILE = reference.source(MODULE)
NOT_IMPORTED = {"expect": "error", "others": "error", "says": "cannot be imported"}

ATTACKS = [
    Attack("empty", text="", expect="missing", others="missing"),
    Attack("comment-only", text="# done!\n", expect="missing", others="missing"),
    Attack("syntax-error", text=HONEST_FILE + "\ndef broken(:\n", **NOT_IMPORTED),
    Attack("tabs-and-spaces", text=HONEST_FILE + "\ndef broken():\n        a = 1\n\treturn a\n", **NOT_IMPORTED),
    Attack("zero-byte", text=HONEST_FILE + "\n\0\n", **NOT_IMPORTED),
    Attack("never-closed-string", text=HONEST_FILE + '\n"""\n', **NOT_IMPORTED),
    Attack("other-encoding-declared", text="# -*- coding: utf-7 -*-\n" + HONEST_FILE),
    Attack("html-instead-of-python", text="<!DOCTYPE html><html><body>Sign in</body></html>\n", **NOT_IMPORTED),
    Attack("conflict-markers", text=HONEST_FILE + "\n<<<<<<< HEAD\n", **NOT_IMPORTED),
    Attack("library-that-is-not-there", text=HONEST_FILE + "\nimport a_library_nobody_has\n", **NOT_IMPORTED),
    Attack("function-missing", text=HONEST_FILE.replace(f"def {EXERCISE}(", "def positive_prob("), expect="missing"),
    Attack("function-that-is-a-number", text=HONEST_FILE + f"\n{EXERCISE} = 0.5\n", expect="error"),
    Attack("function-with-another-signature", text=HONEST_FILE + f"\ndef {EXERCISE}():\n    return 0.5\n", expect="error"),
    Attack("class-missing", text=HONEST_FILE.replace("class Baseline", "class Base"), others=("passed", "missing", "error")),
    Attack("started-nowhere", body="raise NotImplementedError('lesson 3: positive_probability')", expect="not_started"),
    Attack("name-error", body="return softmaxx(logits)", expect="error", says="NameError"),
    Attack("prints-instead-of-returning", body="print(honest(logits))", expect="failed"),
    Attack("asks-for-input", body="return float(input('P? '))", expect="error", says="EOFError"),
    Attack("debugger-left-in", body="breakpoint()\nreturn honest(logits)", expect=("error", "passed", "crashed")),
    Attack(
        "plots-on-a-screen",
        at_import="""
        import matplotlib.pyplot as plt
        plt.plot([1])
        plt.show()
        """,
        expect=("passed", "error"),
        others=("passed", "error"),
    ),
    Attack(
        "saves-a-file",
        at_import="""
        import numpy
        try:
            numpy.save('weights.npy', numpy.zeros(3))
        except OSError:
            pass
        """,
    ),
    Attack("trains-at-import", at_import="import time\ntime.sleep(30)", seconds=0.3, expect="timeout", others="timeout"),
    Attack("file-of-a-megabyte", text=HONEST_FILE + "\n" + "# padding\n" * 90_000),
    Attack("line-of-a-megabyte", text=HONEST_FILE + "\nx = '" + "x" * 900_000 + "'\n"),
]
