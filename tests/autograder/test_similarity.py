"""Submissions that are alike: what is found whatever it was renamed to, what is nobody's own, and how the pages show it."""

import random
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from autograder import course as courses

pytest.importorskip("copydetect", reason="no copydetect here (pip install 'climb-course[classes]')")

from autograder.similarity import fingerprints, inputs  # noqa: E402
from autograder.similarity.fingerprints import K, WINDOW, boilerplate_of, fingerprint, kgrams, tokens  # noqa: E402
from autograder.similarity.pairs import COMMON, blocks_of, similar  # noqa: E402
from autograder.similarity.report import sides, write_pages  # noqa: E402

FILE = "toy/word_agent.py"
HANDED_OUT = '''"""Lesson 3."""

import torch

WORDS = ("happy", "joyful", "pleasant", "sad", "angry", "unpleasant")


class Critic(torch.nn.Module):
    def forward(self, words):
        return torch.tensor([1.0 if word in WORDS[:3] else -1.0 for word in words])


def policy_loss(log_probs, rewards, baseline):
    """The loss: (batch,), (batch,) -> scalar."""
    raise NotImplementedError("lesson 3: policy_loss")
'''


def body(seed, lines=12):
    """Python that nobody else would write: assignments of random expressions."""
    rng = random.Random(seed)
    names = [f"v{rng.randrange(10**6)}" for _ in range(6)]

    def term(depth=0):
        if depth > 2 or rng.random() < 0.3:
            return rng.choice([*names, f"{rng.randrange(1, 99)}", "rewards", "log_probs"])
        kind = rng.randrange(5)
        if kind == 0:
            return f"{term(depth + 1)} {rng.choice('+-*/')} {term(depth + 1)}"
        if kind == 1:
            return f"torch.{rng.choice(['exp', 'log', 'abs', 'sum', 'mean'])}({term(depth + 1)})"
        if kind == 2:
            return f"({term(depth + 1)}, {term(depth + 1)})"
        if kind == 3:
            return f"{rng.choice(names)}[{term(depth + 1)}:{rng.randrange(9)}]"
        return f"max({term(depth + 1)}, {rng.randrange(99)})"

    return "\n".join(f"    {rng.choice(names)} = {term()}" for _ in range(lines)) + "\n    return rewards\n"


def handed_in(text):
    return HANDED_OUT.replace('    raise NotImplementedError("lesson 3: policy_loss")\n', text)


def disguised(source):
    """The same code with other names, comments and space."""
    for old in sorted(set(re.findall(r"\bv\d+\b", source))):
        source = re.sub(rf"\b{old}\b", f"total_{hash_of(old)}", source)
    lines = []
    for number, line in enumerate(source.split("\n")):
        lines.append(line.replace(" + ", "+").replace(", ", " ,  ") if number > 16 else line)
        if line.startswith("    ") and number % 3 == 0 and number > 16:
            lines.append("    # my own idea")
    return "\n".join(lines)


def hash_of(name):
    return sum(ord(c) * 31**n for n, c in enumerate(name)) % 10**6


@pytest.fixture(scope="module")
def given():
    return {FILE: boilerplate_of([HANDED_OUT])}


def a_class(count, **more):
    made = {f"s{n:04}": {FILE: handed_in(body(n))} for n in range(count)}
    return made | {name: {FILE: text} for name, text in more.items()}


# Fingerprints


def test_a_match_as_long_as_promised_has_a_fingerprint():
    """The guarantee of winnowing: equal texts of K + WINDOW - 1 characters, wherever they stand, share a fingerprint."""
    rng = random.Random(0)
    for _ in range(50):
        shared = "".join(rng.choice("VFS()+=.,[]") for _ in range(K + WINDOW - 1))
        around = ["".join(rng.choice("abcdefgh") for _ in range(rng.randrange(5, 200))) for _ in range(4)]
        chosen = []
        for text in (around[0] + shared + around[1], around[2] + shared + around[3]):
            hashes = kgrams(text)
            from copydetect.utils import winnow

            chosen.append(set(winnow(hashes, window_size=WINDOW, remove_duplicates=False)[0].tolist()))
        assert chosen[0] & chosen[1]


def test_hashes_are_those_of_every_process():
    text = "V=F(V,S)+V.V[V]" * 4
    assert kgrams("").tolist() == [] and len(kgrams(text)) == len(text) - K + 1
    command = f"from autograder.similarity.fingerprints import kgrams; print(kgrams({text!r}).tolist())"
    told = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"}
    )
    assert told.stdout.strip() == str(kgrams(text).tolist())
    assert kgrams(text)[0] == kgrams(text)[15] != kgrams(text)[1]  # the text repeats every 15 characters


def test_names_comments_and_space_do_not_matter(given):
    source = handed_in(body(1))
    one, other = fingerprint(source, given[FILE]), fingerprint(disguised(source), given[FILE])
    assert one.filtered == other.filtered and source != disguised(source)
    assert np.array_equal(one.hashes, other.hashes)


def test_what_was_handed_out_is_nobodys_own(given):
    assert len(fingerprint(HANDED_OUT, given[FILE]).hashes) == 0
    own = fingerprint(handed_in(body(1)), given[FILE])
    lines = {own.line(place) for place in np.flatnonzero(own.own).tolist()}
    assert len(own.hashes) and min(lines) == HANDED_OUT.split("\n").index(
        '    raise NotImplementedError("lesson 3: policy_loss")'
    )


def test_places_lie_on_their_lines_after_classes_too():
    source = "class Longname:\n    def method_of_it(self):\n        return 1\n\n\nvalue = Longname().method_of_it() + 17\n"
    made = fingerprint(source * 3, np.zeros(0, np.int64))
    filtered, _ = tokens(source * 3)
    for place in made.places.tolist():
        text = source.split("\n")[made.line(place) % 6]
        first = filtered[place]
        assert first in text or first in "VFOS", (place, filtered[place : place + 8], text)


@pytest.mark.parametrize(
    "source", ["", "x", "\n" * 10_000, "(" * 5000, '"""' * 5001, "\x00\ud800", "def f(:\n  '", "é" * 9999, "1+" * 9000]
)
def test_no_source_is_too_odd(source):
    made = fingerprint(source, np.zeros(0, np.int64))
    assert len(made.hashes) == len(made.places) and all(
        0 <= made.line(place) <= source.count("\n") for place in made.places.tolist()
    )


def test_the_courses_own_answers_are_left_out():
    course = courses.load()
    lessons = [lesson for lesson in course.lessons if lesson.number in (3, 4)]
    ours = inputs.boilerplate(lessons)
    texts = {f"s{n}": {lesson.file: text} for lesson in lessons for n, text in enumerate(inputs.handed_out(lesson))}
    found = similar(texts | {f"copy-{name}": files for name, files in texts.items()}, ours)
    assert set(ours) == {lesson.file for lesson in lessons} and found.pairs == [] and found.groups == []


# Pairs


def test_a_copy_in_disguise_is_found_among_many(given):
    original = handed_in(body(7))
    text = handed_in(body(7).split("return")[0] + body(999))  # the same, and much of one's own below
    found = similar(a_class(60, copy=text), given)
    assert [(pair.left, pair.right) for pair in found.pairs] == [("copy", "s0007")]
    match = found.pairs[0].matches[0]
    copied = len(body(7).strip().split("\n")) - 1
    assert copied - 2 <= match.lines <= copied + 3  # blocks end on whole lines, and may take in the line they end at
    side = "left" if found.pairs[0].left == "s0007" else "right"
    assert match.share(side) > 0.8 > 0.6 > match.share({"left": "right", "right": "left"}[side])
    assert original not in text


def test_the_same_file_is_a_group_and_counts_once_in_pairs(given):
    source = handed_in(body(7))
    found = similar(a_class(20, copy=disguised(source), third=source + "# end\n"), given)
    assert [(group.file, group.students) for group in found.groups] == [(FILE, ["s0007", "copy", "third"])]
    assert found.pairs == []
    partly = handed_in(body(7).split("return")[0] + body(999))
    found = similar(a_class(20, copy=disguised(source), part=partly), given)
    assert len(found.pairs) == 1 and found.pairs[0].same == ["copy"]


def test_what_many_write_is_not_listed(given):
    usual = "    advantage = rewards - baseline\n    kept = advantage[mask > 0].reshape(-1)\n    spread = kept.std() + 1e-8\n"
    usual += "    weighted = (log_probs * advantage.detach()).sum(dim=-1)\n    total = -weighted.mean()\n    return total * 1.0\n"
    few = {f"t{n}": {FILE: handed_in(body(100 + n).split("    return")[0] + usual)} for n in range(4)}
    many = {f"t{n}": {FILE: handed_in(body(100 + n).split("    return")[0] + usual)} for n in range(COMMON + 3)}
    assert len(similar(few, given).pairs) == 6
    found = similar(many, given)
    assert found.pairs == [] and found.ignored > 0


def test_no_list_depends_on_the_order_of_submissions(given):
    made = a_class(
        20, copy=handed_in(body(3).split("return")[0] + body(999)), other=handed_in(body(4).split("return")[0] + body(998))
    )
    turned = dict(sorted(made.items(), reverse=True))
    one, other = similar(made, given), similar(turned, given)
    assert [(p.left, p.right, p.lines) for p in one.pairs] == [(p.left, p.right, p.lines) for p in other.pairs] and len(
        one.pairs
    ) == 2


def test_blocks_pair_stretches_that_were_moved(given):
    first, second = body(1).split("    return")[0], body(2).split("    return")[0]
    left, right = (
        fingerprint(handed_in(a + "\n" * 3 + b + "    return 1\n"), given[FILE])
        for a, b in ((first, second), (second, first))
    )
    blocks = blocks_of(left, right)
    assert (
        len(blocks) >= 2 and blocks[0].right[0] > blocks[-1].right[0]
    )  # what comes first on one side comes last on the other


@pytest.mark.slow
def test_a_thousand_submissions_in_minutes(given):
    made = a_class(1000, **{f"copy{n}": handed_in(body(n).split("return")[0] + body(5000 + n)) for n in range(20)})
    started = time.process_time()
    found = similar(made, given)
    assert time.process_time() - started < 120  # 10 s where it was written
    assert len(found.pairs) == 20 and all(pair.left[-1] == pair.right[-1] for pair in found.pairs)


# Pages and command


@pytest.fixture
def listed(tmp_path, given, pages):
    hostile = "    v1 = '</pre><script>document.title=1</script>'\n"
    shared = hostile + body(7)
    made = a_class(12, **{pages.script: handed_in(shared), '"><b>x': handed_in(shared.split("return")[0] + body(9))})
    found = similar(made, given)
    return found, write_pages(found, tmp_path / "out", "A & B")


def test_the_pages_say_what_they_are_and_students_text_stays_text(listed):
    found, index = listed
    text = index.read_text()
    assert "not a verdict" in text and "A &amp; B" in text and "<script" not in text and "<b>x" not in text
    pair = (index.parent / "pair-001.html").read_text()
    assert "not a verdict" in pair and "<script" not in pair and "&lt;script&gt;" in pair
    assert "default-src 'none'" in text and "default-src 'none'" in pair


def test_matching_lines_stand_side_by_side(listed):
    found, index = listed
    left, right = sides(found.pairs[0].matches[0])
    for block in {row.block for row in left if row.block is not None}:
        ours, theirs = ([row.text for row in rows if row.block == block] for rows in (left, right))
        assert set(ours) & set(theirs)
    numbers = [int(row.number) for row in left if row.number]
    assert numbers == sorted(set(numbers)) and any(row.gap for row in left)


def test_pages_of_an_earlier_list_are_taken_away(listed, given):
    found, index = listed
    found.pairs.clear()
    write_pages(found, index.parent, "again")
    assert [path.name for path in index.parent.iterdir()] == ["index.html"] and "No two submissions" in index.read_text()


@pytest.mark.slow
def test_in_a_browser_on_a_screen_and_a_phone(listed, browser):
    _, index = listed
    shown = browser.open(index, offline=True)
    assert shown.errors == [] and shown.asked == [index.as_uri()]
    shown.click("tbody a")
    assert shown.url.endswith("pair-001.html") and shown.errors == [] and not shown.title().startswith("1")
    boxes = [side.bounding_box() for side in shown.query_selector_all(".sides > div")]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]
    colours = {
        shown.eval_on_selector(f".sides > div:nth-child({n}) [data-block='0']", "e => getComputedStyle(e).backgroundColor")
        for n in (1, 2)
    }
    assert len(colours) == 1
    shown = browser.open(index.parent / "pair-001.html", width=390, height=844)
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_command(tiny, tmp_path, pages, monkeypatch):
    folder = tmp_path / "in"
    own = "    y = [torch.tensor(float(n)) * 3 - 1 for n in range(7) if n % 2]\n"
    own += "    z = sum(y, start=x) - sum(y)\n    return z + x\n"
    for name in ("anna", "ben", "cleo"):
        text = (
            tiny.solution()
            if name == "cleo"
            else tiny.solution(double=own.strip().replace("\n    ", "\n    ") + f"\n    # {name}")
        )
        (folder / name / "toy").mkdir(parents=True)
        (folder / name / "toy/first.py").write_text(text)
    done = tiny.climb("similar", folder, "--out", tmp_path / "out")
    assert done.code == 0 and "1 files handed in twice or more" in done.out and "not a verdict" in done.out, done.err
    assert "anna, ben" in (tmp_path / "out/index.html").read_text()
    assert tiny.climb("similar", folder, "--out", tmp_path / "out").code == 0  # again into the same folder
    tiny.climb("similar", folder, "--out", folder).refused("folder of the submissions")
    tiny.climb("similar", folder / "anna", "--out", tmp_path / "x").refused("two submissions")
    tiny.climb("similar", tmp_path / "none", "--out", tmp_path / "x").refused("does not exist")
    tiny.climb("similar", folder, "--out", tmp_path).refused("holds other things")
    tiny.climb("similar", folder, "--out", folder / "anna/toy/first.py").refused("is a file")
    graded = tmp_path / "graded"
    for name in ("anna", "ben"):
        place = pages.write_result(graded, name, [pages.row_of(courses.load(tiny.root).exercises[0], "passed")])
        pages.keep_files(place, {"toy/first.py": (folder / name / "toy/first.py").read_text()})
    assert "1 files handed in twice or more" in tiny.climb("similar", graded, "--out", tmp_path / "out").out
    monkeypatch.setitem(sys.modules, "copydetect", None)
    tiny.climb("similar", folder, "--out", tmp_path / "out").refused("pip install 'climb-course[classes]'")
    assert fingerprints.K > 0
