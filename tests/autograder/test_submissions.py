"""Submissions as students, learning systems and attackers send them."""

import io
import json
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from autograder.course import Course, Exercise, Lesson
from autograder.grading.submissions import SubmissionError, learner, read_submission, read_submissions, safe_name
from autograder.grading.submissions.text import defined_names, python_of_cell

AGENT = "class Baseline:\n    pass\n\n\ndef train():\n    pass\n"
EINSUM = "def inner(a, b):\n    pass\n\n\ndef outer(a, b):\n    pass\n"


def lesson(number, file, *names):
    slug = Path(file).stem.replace("_", "-")
    made = Lesson(number, slug, slug, file, 10, "", (), Path(f"{number:02}-{slug}"), {})
    exercises = [Exercise(f"{file}::{name}", name, made, 1.0, "1.1") for name in names]
    vars(made).update(checks=[], exercises=exercises)
    return made


@pytest.fixture
def course(tmp_path):
    lessons = [
        lesson(1, "toy/einsum.py", "inner", "outer"),
        lesson(3, "toy/word_agent.py", "Baseline.update", "train"),
        lesson(6, "toy/ppo.py", "gae", "clipped_surrogate"),
        lesson(14, "full/ppo.py", "T5Policy", "PPOTrainer"),
    ]
    return Course(tmp_path / "course", lessons)


@pytest.fixture
def sent(tmp_path):
    folder = tmp_path / "sent"
    folder.mkdir()
    return folder


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def zipped(files):
    """A zip's bytes; a value may be a (ZipInfo, content) pair."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, content)
    return data.getvalue()


def notebook(*cells):
    entries = [{"cell_type": kind, "source": source, "metadata": {}} for kind, source in cells]
    return json.dumps({"cells": entries, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def only(submission, status, says):
    """The single problem of a submission, checked to be one clear line."""
    assert len(submission.problems) == 1, submission.problems
    problem = submission.problems[0]
    assert problem.status == status and says in problem.message and "\n" not in problem.message
    return problem


# How files may lie


@pytest.mark.parametrize("name", ["word_agent.py", "toy/word_agent.py", "climb/toy/word_agent.py", "hw 3/src/word_agent.py"])
def test_track_paths_and_bare_names(sent, course, name):
    write(sent, {f"alice/{name}": AGENT, "bob/notes.txt": "-", "bob/toy/einsum.py": EINSUM})
    alice, bob = read_submissions(sent, course)
    assert (alice.name, alice.files, alice.problems) == ("alice", {"toy.word_agent": AGENT}, [])
    assert (bob.name, bob.files) == ("bob", {"toy.einsum": EINSUM})


@pytest.mark.parametrize(
    "name", ["Word_Agent.py", "word-agent.py", "word_agent (1).py", "word_agent-2.py", "03-word-agent.py", "lesson3.py"]
)
def test_names_as_browsers_and_students_change_them(sent, course, name):
    write(sent, {name: AGENT})
    assert read_submission(sent, course).files == {"toy.word_agent": AGENT}


def test_one_folder_one_zip_and_one_file_are_one_submission(sent, course):
    write(sent, {"alice/toy/word_agent.py": AGENT, "carol.py": AGENT, "word_agent.py": AGENT})
    write(sent, {"bob.zip": zipped({"climb-main/toy/word_agent.py": AGENT, "climb-main/README.md": "-"})})
    for path in ("alice", "bob.zip", "carol.py", "word_agent.py"):
        (submission,) = read_submissions(sent / path, course)
        assert submission == read_submission(sent / path, course)
        assert submission.name == path.split(".")[0] and submission.files == {"toy.word_agent": AGENT}


def test_a_class_in_a_folder(sent, course):
    write(
        sent,
        {
            "alice/word_agent.py": AGENT,
            "bob.zip": zipped({"word_agent.py": AGENT}),
            "Carol Ann_123_assignsubmission_file_/word_agent.py": AGENT,
            "dan.ipynb": notebook(("code", AGENT)),
            "eve_word_agent.py": AGENT,
            "fay/report.pdf": b"%PDF",
            "roster.csv": "name\n",
            ".git/config": "x",
            "__MACOSX/alice/._word_agent.py": b"\0",
        },
    )
    found = read_submissions(sent, course)
    assert [s.name for s in found] == ["alice", "bob", "Carol_Ann_123", "dan", "eve", "fay"]
    assert all(list(s.files) == ["toy.word_agent"] and not s.problems for s in found[:-1])
    only(found[-1], "missing", "holds no exercise file of the course (such as toy/einsum.py)")


def test_a_class_in_a_zip(sent, course):
    """Folders per student inside one folder, as Gradescope exports them; zips per student; Canvas's flat files."""
    gradescope = {f"assignment_export/submission_{i}/toy/word_agent.py": AGENT for i in (7, 8)}
    gradescope["assignment_export/submission_metadata.yml"] = "-"
    zips = {f"{name}.zip": zipped({"work/word_agent.py": AGENT}) for name in ("alice", "bob")}
    canvas = {
        "doejane_LATE_12_345_word_agent-1.py": AGENT,
        "doejane_LATE_12_346_einsum.py": EINSUM,
        "roejohn_13_347_hw.zip": zipped({"word_agent.py": AGENT}),
    }
    write(sent, {"g.zip": zipped(gradescope), "z.zip": zipped(zips), "c.zip": zipped(canvas)})
    assert [s.name for s in read_submissions(sent / "g.zip", course)] == ["submission_7", "submission_8"]
    assert [s.name for s in read_submissions(sent / "z.zip", course)] == ["alice", "bob"]
    jane, john = read_submissions(sent / "c.zip", course)
    assert (jane.name, set(jane.files)) == ("doejane_12", {"toy.word_agent", "toy.einsum"})
    assert (john.name, set(john.files)) == ("roejohn_13", {"toy.word_agent"})


def test_one_student_with_folders_of_their_own(sent, course):
    write(sent, {"alice/src/word_agent.py": AGENT, "alice/doc/notes.md": "-"})
    (alice,) = read_submissions(sent, course)
    assert (alice.name, set(alice.files)) == ("alice", {"toy.word_agent"})


def test_nothing_there(sent, course):
    write(sent, {"a.rar": b"Rar!", "empty/x.txt": "-"})
    for path, says in (("no", "no such file"), ("a.rar", "expected a folder, a .zip")):
        with pytest.raises(SubmissionError, match=says):
            read_submissions(sent / path, course)
    (sent / "none").mkdir()
    with pytest.raises(SubmissionError, match="there is none"):
        read_submissions(sent / "none", course)


def test_names_are_safe_and_distinct(sent, course):
    write(sent, {f"{name}/word_agent.py": AGENT for name in ("a b", "a_b", "A-B", "_c", "CON", "Zoë", "x" * 200)})
    found = [s.name for s in read_submissions(sent, course)]
    assert sorted(found) == sorted(["a_b", "a_b-2", "A-B", "c", "_CON", "Zoë", "x" * 80])
    assert safe_name("../../etc/passwd") == "etc_passwd"
    assert safe_name("\x1b[31m/\udcff") == "31m"
    assert safe_name("...") == "unnamed"
    assert safe_name("ALICE", {"alice"}) == "ALICE-2"


# Which file is which


def test_the_whole_course_sent_back(sent, course):
    """Given code, tests and the grader's files of the same name are no claims on an exercise."""
    others = [f"{folder}/word_agent.py" for folder in ("autograder/checks/toy", "solutions/toy", "toy/given", "build/lib/toy")]
    write(sent, {"toy/word_agent.py": AGENT, "toy/__init__.py": "", "setup.py": "", **dict.fromkeys(others, "other")})
    submission = read_submission(sent, course)
    assert submission.files == {"toy.word_agent": AGENT} and not submission.helpers and not submission.problems


def test_the_same_name_on_both_tracks(sent, course):
    write(sent, {"a/toy/ppo.py": "1", "a/full/ppo.py": "2", "b/ppo.py": "def gae():\n  pass", "c/ppo.py": "x = 1"})
    a, b, c = read_submissions(sent, course)
    assert a.files == {"toy.ppo": "1", "full.ppo": "2"}
    assert list(b.files) == ["toy.ppo"]
    assert "could be toy/ppo.py or full/ppo.py" in c.problems[0].message and not c.files


def test_two_versions_are_not_chosen_from_in_silence(sent, course):
    write(sent, {"a/toy/word_agent.py": "1", "a/old/toy/word_agent.py": "2"})
    write(sent, {"b/x/word_agent.py": "1", "b/y/word_agent.py": "2", "b/z.txt": ""})
    write(sent, {"c/x/word_agent.py": "1", "c/y/word_agent.py": "1"})
    a, b, c = read_submissions(sent, course)
    assert a.files == {"toy.word_agent": "1"}
    assert only(a, "refused", "was not looked at: toy/word_agent.py is taken").file == "old/toy/word_agent.py"
    assert not b.files and only(b, "error", "differs from y/word_agent.py").module == "toy.word_agent"
    assert b.problem("toy.word_agent") is b.problems[0] and b.problem("toy.einsum") is None
    assert c.files == {"toy.word_agent": "1"} and not c.problems


def test_helpers_come_along_under_the_names_they_are_imported_by(sent, course):
    write(sent, {"a/toy/word_agent.py": AGENT, "a/toy/mine.py": "t", "a/beside.py": "r"})
    write(sent, {"a/deep/other.py": "-", "a/toy/not-a-name.py": ""})
    write(sent, {"b/word_agent.py": AGENT, "b/mine.py": "f", "b/random.py": "-", "b/conftest.py": ""})
    write(sent, {"c/word_agent.py": "import random\n", "c/random.py": "-"})
    a, b, c = read_submissions(sent, course)
    assert a.helpers == {"toy.mine": "t", "beside": "r"}
    assert b.helpers == {"mine": "f", "toy.mine": "f"} and not b.problems
    only(c, "refused", "has the name of a library (`random`): rename it")


def test_helpers_are_bounded(sent, course):
    write(sent, {"word_agent.py": AGENT, **{f"h{i:02}.py": "" for i in range(40)}})
    submission = read_submission(sent, course)
    assert len([name for name in submission.helpers if "." not in name]) == 32
    assert only(submission, "refused", "is left out, and so are 7 more").file == "h32.py"


# Encodings and notebooks


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfx = 'caf\xc3\xa9'\n", b"x = 'caf\xc3\xa9'\r\n", b"x = 'caf\xc3\xa9'\r"])
def test_utf8_with_or_without_mark_and_any_line_end(sent, course, data):
    write(sent, {"word_agent.py": data})
    assert read_submission(sent, course).files == {"toy.word_agent": "x = 'café'\n"}


def test_nothing_is_judged_that_the_child_can_report(sent, course):
    odd = "def f(:\n\tx\n  y\0\n"
    write(sent, {"word_agent.py": odd})
    assert read_submission(sent, course).files == {"toy.word_agent": odd}


@pytest.mark.parametrize(
    "data, says",
    [
        (b"# first\nx = 'caf\xe9'\n", "is not UTF-8 (byte 0xe9 in line 2; Latin-1 perhaps): save it as UTF-8"),
        ("x = 1".encode("utf-16"), "is encoded as UTF-16: save it as UTF-8"),
    ],
)
def test_other_encodings_are_named(sent, course, data, says):
    write(sent, {"word_agent.py": data})
    submission = read_submission(sent, course)
    assert not submission.files and only(submission, "error", says).module == "toy.word_agent"


def test_a_notebook_is_its_code_cells(sent, course):
    cells = [
        ("markdown", "# Title"),
        ("code", ["%matplotlib inline\n", "!pip install x\n", "import math\n"]),
        ("code", AGENT),
    ]
    write(sent, {"a/word_agent.ipynb": notebook(*cells), "b/untitled.ipynb": notebook(*cells)})
    write(sent, {"c/Untitled.ipynb": notebook(("code", "x = 1"))})
    a, b, c = read_submissions(sent, course)
    expected = f"# cell 2\n# %matplotlib inline\n# !pip install x\nimport math\n\n\n# cell 3\n{AGENT}\n"
    assert a.files == b.files == {"toy.word_agent": expected}
    only(c, "missing", "no exercise file")


@pytest.mark.parametrize(
    "cell, python",
    [
        ("%%time\nx = 1", "# %%time\nx = 1"),
        ("%%bash\nls\nrm x", "# %%bash\n# ls\n# rm x"),
        ("\n%%html\n<b>", "# \n# %%html\n# <b>"),
        ("if x:\n    !ls", "if x:\n    pass  # !ls"),
        ("if x:\n    %time f()", "if x:\n    pass  # %time f()"),
        ("files = !ls", "files = None  # !ls"),
        ("torch.einsum?", "pass  # torch.einsum?"),
        ("y = (a\n     % b)", "y = (a\n     % b)"),
        ("ok = a != b", "ok = a != b"),
        ("if (a\n    != b):\n  pass", "if (a\n    != b):\n  pass"),
    ],
)
def test_magics_become_comments(cell, python):
    assert python_of_cell(cell) == python


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"cells": [1]}', '{"cells": [{"cell_type": "code"}]}'])
def test_what_is_no_notebook_is_said(sent, course, text):
    write(sent, {"word_agent.ipynb": text})
    submission = read_submission(sent, course)
    assert only(submission, "error", "is no notebook that can be read").module == "toy.word_agent"


def test_half_a_surrogate_pair_in_a_notebook_does_no_harm(sent, course):
    write(sent, {"word_agent.ipynb": '{"cells": [{"cell_type": "code", "source": "x = \'\\ud800\'"}]}'})
    read_submission(sent, course).files["toy.word_agent"].encode()


def test_a_notebooks_pictures_do_not_count(sent, course):
    cells = json.loads(notebook(("code", AGENT)))
    cells["cells"][0]["outputs"] = ["x" * (2 << 20)]
    write(sent, {"word_agent.ipynb": json.dumps(cells)})
    assert "toy.word_agent" in read_submission(sent, course).files


def test_names_are_found_without_parsing():
    assert defined_names("def f(:\n  def g(): 0\nclass C(\nasync  def h\n# def no\nx = 'def no'\n") == {"f", "C", "h"}


# Hostile folders


def test_links_pipes_and_devices_are_not_opened(sent, course, tmp_path):
    (tmp_path / "secret.py").write_text("SECRET = 1")
    write(sent, {"alice/einsum.py": EINSUM, "bob/einsum.py": EINSUM})
    os.symlink(tmp_path / "secret.py", sent / "alice" / "word_agent.py")
    os.symlink(tmp_path, sent / "alice" / "toy")
    os.symlink("/dev/zero", sent / "alice" / "mine.py")
    os.mkfifo(sent / "bob" / "word_agent.py")
    os.symlink(sent / "bob", sent / "carol")
    alice, bob, carol = read_submissions(sent, course)
    assert set(alice.files) == {"toy.einsum"} and not alice.helpers
    assert [p.file for p in alice.problems] == ["word_agent.py", "mine.py", "toy"]
    assert all("symbolic link" in p.message and p.status == "refused" for p in alice.problems)
    assert only(bob, "refused", "no regular file but a device, a pipe or a socket").module == "toy.word_agent"
    assert not carol.files and "symbolic link" in " ".join(p.message for p in carol.problems)


def test_a_file_that_becomes_a_link_after_it_was_listed(sent, tmp_path):
    from autograder.grading.submissions.model import Unreadable
    from autograder.grading.submissions.unpack import list_folder

    write(sent, {"word_agent.py": AGENT})
    (entry,) = list_folder(sent, [])
    (sent / "word_agent.py").unlink()
    (tmp_path / "secret.py").write_text("SECRET = 1")
    os.symlink(tmp_path / "secret.py", sent / "word_agent.py")
    with pytest.raises(Unreadable):
        entry.read(100)


def test_a_folder_that_becomes_a_link_after_it_was_listed(sent, tmp_path):
    from autograder.grading.submissions.model import Unreadable
    from autograder.grading.submissions.unpack import list_folder

    write(sent, {"toy/word_agent.py": AGENT})
    write(tmp_path / "elsewhere", {"word_agent.py": "SECRET = 1"})
    entry = list_folder(sent, [])[-1]
    assert entry.read(100) == AGENT.encode()
    (sent / "toy").rename(sent / "old")
    os.symlink(tmp_path / "elsewhere", sent / "toy")
    with pytest.raises(Unreadable):
        entry.read(100)


def test_many_large_zips_are_read_up_to_a_bound(sent, course):
    large = zipped({"data.bin": os.urandom(11 << 20)})
    write(sent, {f"alice/{i}.zip": large for i in range(5)})
    submission = read_submission(sent / "alice", course)
    assert [p.file for p in submission.problems] == ["3.zip", "4.zip"]
    assert "was not read: the submission holds more than" in submission.problems[0].message


def test_large_files_and_many_files_are_refused_for_that_student_alone(sent, course):
    write(sent, {"alice/word_agent.py": b"#" * ((1 << 20) + 1), "alice/einsum.py": EINSUM, "bob/word_agent.py": AGENT})
    (sent / "carol").mkdir()
    for i in range(2001):
        (sent / "carol" / f"{i}.py").touch()
    alice, bob, carol = read_submissions(sent, course)
    assert set(alice.files) == {"toy.einsum"} and only(alice, "refused", "is larger than 1 MiB").module == "toy.word_agent"
    assert bob.files and not bob.problems
    assert not carol.files and "holds more than 2000 files" in carol.problems[-1].message + carol.problems[0].message


def test_environments_and_caches_are_passed_over(sent, course):
    hidden = [".venv/lib/word_agent.py", "__pycache__/word_agent.py", ".git/word_agent.py", "venv/x/word_agent.py", ".DS_Store"]
    write(sent, {"toy/word_agent.py": AGENT, **dict.fromkeys(hidden, "-")})
    submission = read_submission(sent, course)
    assert submission.files == {"toy.word_agent": AGENT} and not submission.problems


# Hostile zips


def entry(name, mode=0o100644, **fields):
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    for key, value in fields.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize(
    "info, says",
    [
        (entry("../word_agent.py"), "leads out of the zip"),
        (entry("toy/../../word_agent.py"), "leads out of the zip"),
        (entry("..\\word_agent.py"), "leads out of the zip"),
        (entry("/toy/word_agent.py"), "has an absolute name"),
        (entry("C:\\word_agent.py"), "has an absolute name"),
        (entry("word_agent.py", stat.S_IFLNK | 0o777), "symbolic link"),
        (entry("word_agent.py", stat.S_IFCHR | 0o600), "no regular file"),
        (entry("a/" * 13 + "word_agent.py"), "more than 12 folders deep"),
    ],
)
def test_hostile_names_and_kinds_are_refused_and_the_rest_is_taken(sent, course, info, says):
    write(sent, {"a.zip": zipped([(info, "/etc/passwd"), ("einsum.py", EINSUM)])})
    (submission,) = read_submissions(sent / "a.zip", course)
    assert submission.files == {"toy.einsum": EINSUM}
    only(submission, "refused", says)


def test_a_name_twice_is_refused(sent, course):
    with pytest.warns(UserWarning):
        data = zipped([("word_agent.py", "1"), ("word_agent.py", "2"), ("einsum.py", EINSUM)])
    write(sent, {"a.zip": data})
    submission = read_submission(sent / "a.zip", course)
    assert set(submission.files) == {"toy.einsum"}
    assert {p.message for p in submission.problems} == {"stands twice in the zip"}


def test_a_zip_bomb_of_one_file(sent, course):
    bomb = zipped({"word_agent.py": b" " * (900 << 10), "einsum.py": b" " * (300 << 20), "data.txt": b" " * (1 << 20)})
    write(sent, {"a.zip": bomb})
    submission = read_submission(sent / "a.zip", course)
    assert not submission.files
    assert {p.module: p.message.split(",")[0] for p in submission.problems} == {
        "toy.word_agent": "is compressed more than 200-fold",
        "toy.einsum": "is larger than 1 MiB",
    }


def test_a_header_that_lies_about_the_size_gains_nothing(sent, course):
    data = bytearray(zipped({"word_agent.py": b"# \n" * (1 << 20)}))
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = data.index(signature)
        data[start + at : start + at + 4] = struct.pack("<I", 10)
    write(sent, {"a.zip": bytes(data)})
    submission = read_submission(sent / "a.zip", course)
    assert not submission.files and submission.problems[0].module == "toy.word_agent"


def test_entries_that_share_their_bytes(sent, course):
    """The list of entries names the same bytes many times, as overlapping zip bombs do."""
    data = zipped({"word_agent.py": AGENT})
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    listed = data[start:end]
    count = 50
    tail = bytearray(data[end:])
    tail[8:20] = struct.pack("<HHII", count, count, len(listed) * count, start)
    write(sent, {"a.zip": data[:start] + listed * count + bytes(tail)})
    only(read_submission(sent / "a.zip", course), "refused", "has entries that overlap")


def test_encrypted_truncated_damaged_and_odd(sent, course):
    good = zipped({"word_agent.py": AGENT * 50})
    encrypted = bytearray(good)
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(signature) + at] |= 1
    damaged = bytearray(good)
    damaged[50] ^= 0xFF
    odd = bytearray(good)
    for signature, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        odd[odd.index(signature) + at] = 99
    files = {"damaged": damaged, "encrypted": encrypted, "odd": odd, "text": b"hello", "truncated": good[:100]}
    write(sent, {f"{name}.zip": bytes(data) for name, data in files.items()})
    found = {s.name: s for s in read_submissions(sent, course)}
    assert not any(s.files for s in found.values())
    assert "is damaged in the zip" in found["damaged"].problems[0].message
    assert "is encrypted" in found["encrypted"].problems[0].message
    assert "unusual way (method 99)" in found["odd"].problems[0].message
    for name in ("text", "truncated"):
        assert "is no zip that can be read" in found[name].problems[0].message
        assert found[name].problems[0].status == "error"


def test_zips_in_zips_end_at_two(sent, course):
    inner = zipped({"word_agent.py": AGENT})
    write(sent, {"alice.zip": zipped({"hw.zip": inner}), "bob.zip": zipped({"a.zip": zipped({"b.zip": inner})})})
    alice, bob = read_submissions(sent, course)
    assert set(alice.files) == {"toy.word_agent"}
    assert not bob.files and any("zip in a zip in a zip" in p.message for p in bob.problems)


def test_too_many_entries_in_a_zip(sent, course):
    many = zipped({f"{i}.txt": "" for i in range(2001)})
    write(sent, {"alice.zip": many, "bob.zip": zipped({"word_agent.py": AGENT})})
    alice, bob = read_submissions(sent, course)
    assert not alice.files and "holds more than 2000 files" in " ".join(p.message for p in alice.problems)
    assert bob.files


def test_a_list_of_entries_longer_than_it_may_be_is_never_read(sent, course):
    data = bytearray(zipped({"word_agent.py": AGENT}))
    end = data.index(b"PK\x05\x06")
    data[:0] = b"\0" * (2 << 20)  # room for a list of that length
    end += 2 << 20
    data[end + 12 : end + 16] = struct.pack("<I", 2 << 20)
    write(sent, {"a/hw.zip": bytes(data)})
    submission = read_submission(sent / "a", course)
    assert "too many files" in " ".join(p.message for p in submission.problems)


def test_thousands_of_problems_are_told_in_twenty_lines(sent, course):
    write(sent, {"a.zip": zipped([(entry(f"../{i}"), "") for i in range(500)] + [("word_agent.py", b"\xe9")])})
    submission = read_submission(sent / "a.zip", course)
    assert len(submission.problems) == 21 and submission.problems[0].module == "toy.word_agent"
    assert submission.problems[-1].message == "has 481 more problems like these"


def test_names_that_would_move_a_terminals_cursor(sent, course):
    write(sent, {"a.zip": zipped([(entry("../\x1b[2J.py"), ""), ("einsum.py", EINSUM)])})
    assert read_submission(sent / "a.zip", course).problems[0].file == "../?[2J.py"


@pytest.mark.parametrize("seed", range(3))
def test_random_damage_never_raises(sent, course, seed):
    """Every single-byte change of a zip is read or refused."""
    import random

    good = zipped({"toy/word_agent.py": AGENT, "toy/mine.py": "x = 1\n", "inner.zip": zipped({"einsum.py": EINSUM})})
    rng = random.Random(seed)
    for _ in range(150):
        data = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (sent / "a.zip").write_bytes(bytes(data))
        (sent / "a.zip").rename(sent / "b.zip")
        try:
            read_submissions(sent / "b.zip", course)
        except SubmissionError as error:  # the zip as a whole: one line
            assert "\n" not in str(error)
        (sent / "b.zip").rename(sent / "a.zip")
        for submission in read_submissions(sent, course):
            assert all("\n" not in problem.message for problem in submission.problems)


def test_the_learners_own_files(course):
    write(course.root, {"toy/word_agent.py": AGENT, "toy/mine.py": "x = 1\n", "toy/given/worlds.py": "-", "notes.py": "-"})
    submission = learner(course)
    assert submission.files == {"toy.word_agent": AGENT} and submission.helpers == {"toy.mine": "x = 1\n"}
