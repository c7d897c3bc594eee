"""What a verdict hangs on: a change that can matter to a check is never overlooked, one that cannot is."""

import pytest

from autograder import course as courses
from autograder import reference
from autograder.checks import Edit
from autograder.grading.reach import Reach, start_of

FILE = '''
"""Speaks of apart."""
import torch

SIZE = 3

def helper(x):
    return x * SIZE

def used(x):
    """Not like `apart`."""
    return helper(x)

def apart(x: Thing) -> Thing:
    return x

class Thing:
    def method(self):
        return apart(1)

def decorate(function):
    return function

@decorate
def decorated(x):
    return 2

if __name__ == "__main__":
    apart(3)
'''


def changed(text, other, name="used"):
    """Whether a check that starts from this name is run again when the text becomes the other."""
    return Reach({"toy.file": text}, "toy.file").digest([name]) != Reach({"toy.file": other}, "toy.file").digest([name])


def edited(old, new, name="used", text=FILE):
    assert old in text
    return changed(text, text.replace(old, new), name)


def test_what_it_calls_counts_at_any_depth():
    assert edited("return helper(x)", "return helper(x) + 1")
    assert edited("return x * SIZE", "return x + SIZE")
    assert edited("return x\n", "return 2 * x\n", name="Thing")


def test_what_it_does_not_come_to_does_not_count():
    assert not edited("    return x\n", "    return -x\n")  # named in its docstring, in annotations and in the main block alone
    assert not edited("return apart(1)", "return apart(2)")
    assert not changed(FILE, FILE + "\n# a note\n") and not changed(FILE, "\n" + FILE)


@pytest.mark.parametrize(
    "old, new",
    [
        ("SIZE = 3", "SIZE = 4"),
        ("import torch", "import numpy as torch"),
        ("@decorate\n", ""),
        ("return function", "return None"),  # it ran when the file was imported
        ("class Thing:", "class Thing(dict):"),
        ("class Thing:", "class Thing:\n    helper(1)"),
        ("def apart(x: Thing)", "def apart(x: Thing = helper(2))"),
        ("def apart(x: Thing)", "def apart(x: int)"),
        ("def apart", "def helper"),  # the later of two functions of one name is the one that holds
    ],
)
def test_what_runs_at_the_import_counts_for_every_check(old, new):
    assert edited(old, new)


@pytest.mark.parametrize(
    "way",
    [
        "globals()['ap' + 'art'](x)",
        "getattr(torch, 'ap' + 'art')(x)",
        "eval('ap' + 'art')",
        "torch.sys.modules",
        "used.__globals__['ap' + 'art']",
        "Thing.__subclasses__()",
    ],
)
def test_where_names_do_not_tell_the_whole_text_counts(way):
    odd = FILE.replace("return helper(x)", f"return {way}")
    assert changed(odd, odd.replace("    return x\n", "    return -x\n"))
    assert changed(odd, odd + "\n# a note\n")


def test_a_word_in_a_string_counts_as_a_use():
    plain = FILE.replace("return helper(x)", "return getattr(Thing, 'apart', 0)")
    assert edited("    return x\n", "    return -x\n", text=plain)


def test_what_cannot_be_read_counts_as_a_whole_and_helpers_always_do():
    assert changed("def used(:", "def used(: # a note")
    first, second = ({"toy.file": FILE, "helper": f"x = {n}"} for n in (1, 2))
    assert Reach(first, "toy.file").digest(["used"]) != Reach(second, "toy.file").digest(["used"])


def test_every_known_mistake_of_the_course_is_seen_by_the_check_that_names_it():
    """More than a thousand edits of the solutions: each changes what the check that recognises it comes to."""
    seen = 0
    for lesson in courses.load().lessons:
        right = Reach({lesson.module: reference.source(lesson.module)}, lesson.module)
        for check in [check for exercise in lesson.exercises for check in exercise.checks]:
            start = start_of(check, lesson.module, [])
            for wrong in [one for one in check.known_mistakes() if isinstance(one, Edit)]:
                text = reference.edited(reference.source(lesson.module), wrong.replacements)
                assert Reach({lesson.module: text}, lesson.module).digest(start) != right.digest(start), (check.exercise, wrong.id)
                seen += 1
    assert seen > 1000


@pytest.mark.parametrize(
    "module, old, new, expected",
    [
        ("toy.word_agent", "self.count += 1", "self.count += 2", {"Baseline.get", "Baseline.update"}),
        ("toy.einsum", '"ij->ji", a', '"ij->ij", a', {"transpose", "MultiHeadSelfAttention"}),  # the latter calls a method of that name
    ],
)
def test_most_of_a_file_is_left_alone_when_one_exercise_changes(module, old, new, expected):
    lesson = courses.load().lesson_of(module)
    text = reference.source(module)
    assert old in text
    before, after = (Reach({module: one}, module) for one in (text, text.replace(old, new)))
    again = {
        check.exercise
        for exercise in lesson.exercises
        for check in exercise.checks
        if before.digest(start_of(check, module, [])) != after.digest(start_of(check, module, []))
    }
    assert again == expected
