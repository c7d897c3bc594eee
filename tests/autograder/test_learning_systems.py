"""Submissions under the names that Canvas, Moodle, Blackboard, Brightspace and Gradescope give them; attempts; notebooks."""

import json
import os
import sys
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import pytest

from autograder.course import Course, Exercise, Lesson
from autograder.grading.submissions import SubmissionError, read_submissions
from autograder.grading.submissions.lms import gradescope, sender_of_file, sender_of_folder

AGENT = "class Baseline:\n    pass\n\n\ndef train():\n    pass\n"
EINSUM = "def inner(a, b):\n    pass\n\n\ndef outer(a, b):\n    pass\n"


def lesson(number, file, *names):
    slug = Path(file).stem.replace("_", "-")
    made = Lesson(number, slug, slug, file, 10, "", (), Path(f"{number:02}-{slug}"), {})
    vars(made).update(checks=[], exercises=[Exercise(f"{file}::{name}", name, made, 1.0, "1.1") for name in names])
    return made


@pytest.fixture
def course(tmp_path):
    lessons = [lesson(1, "toy/einsum.py", "inner", "outer"), lesson(3, "toy/word_agent.py", "Baseline.update", "train")]
    return Course(tmp_path / "course", lessons)


@pytest.fixture
def sent(tmp_path):
    def write(files, folder="sent"):
        for name, content in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / folder

    return write


def as_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def modules(submission):
    return sorted(submission.files)


# Whose a name says it is


@pytest.mark.parametrize(
    "name, who, ids, file",
    [
        ("adamsanna_12345_67890_word_agent.py", "adamsanna_12345", ("12345", "adamsanna"), "word_agent.py"),
        ("adamsanna_LATE_12_67890_word_agent-1.py", "adamsanna_12", ("12", "adamsanna"), "word_agent-1.py"),
        ("adamsanna_12345_word_agent.py", "adamsanna_12345", ("12345", "adamsanna"), "word_agent.py"),
        ("Anna Adams_77_assignsubmission_file_word_agent.py", "Anna Adams_77", ("77", "Anna Adams"), "word_agent.py"),
        ("HW 1_anna_attempt_2026-11-26-12-00-00_word_agent.py", "anna", ("anna",), "word_agent.py"),
        ("12-345 - Anna Adams - Nov 26, 2026 203 PM - my work.zip", "Anna Adams", ("12", "Anna Adams"), "my work.zip"),
        ("anna_word_agent.py", "anna", (), "word_agent.py"),
        ("anna_b-einsum (1).ipynb", "anna_b", (), "einsum (1).ipynb"),
    ],
)
def test_whose_a_file_is(course, name, who, ids, file):
    sender = sender_of_file(name, course)
    assert (sender.who, sender.ids, sender.file) == (who, ids, file)


@pytest.mark.parametrize(
    "name", ["anna.py", "word_agent.py", "toy_word_agent.py", "my work.py", "a_b.py", "_word_agent.py", "anna_12.zip"]
)
def test_a_plain_name_is_all_the_students_own(course, name):
    assert sender_of_file(name, course) is None


@pytest.mark.parametrize(
    "name, who",
    [
        ("Anna Adams_77_assignsubmission_file_", "Anna Adams_77"),
        ("12-345 - Anna Adams - 26 Nov, 2026 1159 PM", "Anna Adams"),
        ("HW 1_anna_attempt_2026-11-26-12-00-00", "anna"),
        ("anna_attempt_2", "anna"),
    ],
)
def test_whose_a_folder_is(name, who):
    assert sender_of_folder(name).who == who
    assert sender_of_folder("anna") is sender_of_folder("submission_7") is sender_of_folder("a_2") is None


def test_names_of_any_length_are_looked_at_in_no_time(course):
    for name in ("_" * 60_000, "a_attempt_" * 6000, " - " * 20_000, "a (" * 20_000):
        assert sender_of_file(name + ".py", course) is None and sender_of_folder(name) is None


def test_times_in_names(course):
    assert sender_of_file("H_a_attempt_2026-11-26-12-30-05_x.py", course).when == datetime(2026, 11, 26, 12, 30, 5)
    assert sender_of_folder("1-2 - A - Nov 6, 2026 203 PM").when == datetime(2026, 11, 6, 14, 3)
    assert sender_of_folder("1-2 - A - Nov 66, 2026 203 PM").when is None


# Canvas


def test_canvas_files_of_one_student_come_together_and_the_newest_copy_counts(sent, course):
    folder = sent(
        {
            "adamsanna_LATE_12_345_word_agent.py": "old = 1",
            "adamsanna_LATE_12_346_word_agent-1.py": AGENT,
            "adamsanna_LATE_12_347_einsum.py": EINSUM,
            "bakerben_13_348_word_agent-2.py": AGENT,
            "bakerben_13_349_word_agent-1.py": "old = 2",
        }
    )
    anna, ben = read_submissions(folder, course, "best")
    assert anna.name == "adamsanna_12" and anna.files == {"toy.word_agent": AGENT, "toy.einsum": EINSUM}
    assert "Canvas marks it as late" in anna.notes and any("the latest is graded" in note for note in anna.notes)
    assert ben.files == {"toy.word_agent": AGENT} and not anna.others and not anna.problems


# Attempts


@pytest.mark.parametrize(
    "names",
    [
        ["anna.zip", "anna_attempt_1.zip", "anna attempt 2.zip"],
        ["anna_attempt_1.zip", "anna_attempt_2.zip", "anna_attempt_10.zip"],
        ["1-2 - anna - Nov 5, 2026 1203 PM.zip", "1-2 - anna - Nov 5, 2026 203 PM.zip", "1-2 - anna - Nov 12, 2026 103 AM.zip"],
        [f"HW_anna_attempt_2026-11-{day}-12-00-00_word_agent.py" for day in ("09", "10", "26")],
        ["anna/attempt 1/word_agent.py", "anna/attempt 2/word_agent.py", "anna/attempt 3/word_agent.py"],
        ["anna/2026-11-02/word_agent.py", "anna/2026-11-10/word_agent.py", "anna/2026-11-10T1200/word_agent.py"],
    ],
)
def test_several_attempts_of_one_student(sent, course, tmp_path, names):
    """The latest by time or number, whatever the order of names; with `best` all of them, in order."""
    texts = [AGENT + f"# {number}\n" for number in range(3)]
    sent({"ben/word_agent.py": AGENT})
    for name, text in zip(names, texts):
        if name.endswith(".zip"):
            as_zip(tmp_path / "sent" / name, {"word_agent.py": text})
        else:
            sent({name: text})
    latest, _ = read_submissions(tmp_path / "sent", course)
    assert latest.name == "anna" and latest.files == {"toy.word_agent": texts[-1]}
    assert latest.notes == ["3 attempts were handed in: the latest is graded"] and not latest.others
    best, _ = read_submissions(tmp_path / "sent", course, "best")
    assert [one.files["toy.word_agent"] for one in (*best.others, best)] == texts and not best.notes


def test_two_students_whose_names_are_equal_when_made_safe_are_two(sent, course):
    found = read_submissions(sent({"a b/word_agent.py": AGENT, "a_b/word_agent.py": AGENT}), course)
    assert [one.name for one in found] == ["a_b", "a_b-2"]


def test_copies_that_a_browser_numbered_may_be_of_several_students(course, tmp_path):
    """Two students send solution.zip; saved into one folder the second is `solution (1).zip`. Neither may be lost."""
    (tmp_path / "sent").mkdir()
    for name in ("solution.zip", "solution (1).zip"):
        as_zip(tmp_path / "sent" / name, {"word_agent.py": AGENT})
    assert sorted(one.name for one in read_submissions(tmp_path / "sent", course)) == ["solution", "solution_1"]


@pytest.mark.parametrize(
    "name, who",
    [
        ("bob_12_34_HW_anna_attempt_2026-11-26-13-00-00_word_agent.py", "bob_12"),
        ("bob_12345_anna_77_assignsubmission_file_word_agent.py", "bob_12345"),
        ("bob_777_assignsubmission_file_anna_12_34_word_agent.py", "bob_777"),
        ("Bob B_7_assignsubmission_file_Anna A_8_assignsubmission_file_word_agent.py", "Bob B_7"),
        ("HW_bob_attempt_2026-11-26-12-00-00_HW_anna_attempt_2026-11-26-13-00-00_word_agent.py", "bob"),
        ("1-2 - Bob - Nov 5, 2026 203 PM - 3-4 - Anna - Nov 6, 2026 203 PM - word_agent.py", "Bob"),
    ],
)
def test_no_file_is_another_students_because_it_is_called_so(course, name, who):
    assert sender_of_file(name, course).who == who


def test_attempts_told_in_several_ways_have_an_order(sent, course):
    names = ("anna/attempt 1", "anna/2026-11-26", "anna_attempt_3")
    (anna,) = read_submissions(sent({f"{name}/word_agent.py": AGENT for name in names}), course, "best")
    assert len(anna.others) == 2
    files = {"ben/2026-99-99/word_agent.py": AGENT, "ben/v1/einsum.py": EINSUM, "cleo/word_agent.py": AGENT}
    ben, _ = read_submissions(sent(files, "other"), course)
    assert len(ben.files) == 2  # no dates: folders of one's own


def test_attempts_in_a_zip_of_folders(sent, course, tmp_path):
    files = {f"{name}/attempt {number}/toy/word_agent.py": AGENT + f"# {number}" for name in ("anna", "ben") for number in (1, 2)}
    found = read_submissions(as_zip(tmp_path / "class.zip", files), course)
    assert [(one.name, one.files["toy.word_agent"][-1]) for one in found] == [("anna", "2"), ("ben", "2")]


# Gradescope

METADATA = """---
submission_17:
  :submitters:
  - :name: Anna Adams
    :sid: '1001'
    :email: anna@example.org
  :created_at: 2026-11-26 12:00:00.123456 Z
  :score: 3.0
submission_18:
  :submitters:
  - :name: Ben Baker
    :sid: ''
    :email: ben@example.org
  - :name: Cleo Cook
    :sid: '1003'
  :created_at: 2026-11-27 12:00:00.000000 Z
submission_19:
  :submitters:
  - :name: Anna Adams
    :sid: '1001'
  :created_at: 2026-11-25 12:00:00.000000 Z
"""


@pytest.mark.parametrize("packed", [False, True])
def test_a_gradescope_export_under_the_students_own_names(sent, course, tmp_path, packed):
    files = {f"export/submission_{number}/toy/word_agent.py": AGENT + f"# {number}" for number in (17, 18, 19, 20)}
    files["export/submission_metadata.yml"] = METADATA
    place = as_zip(tmp_path / "export.zip", files) if packed else sent(files)
    found = {one.name: one for one in read_submissions(place, course)}
    assert set(found) == {"1001", "ben_example.org", "1003", "submission_20"}
    assert found["1001"].files["toy.word_agent"].endswith("# 17")  # handed in later than 19
    assert found["1001"].submitted == datetime(2026, 11, 26, 12, 0, 0, 123456, tzinfo=timezone.utc)
    assert found["1001"].submitted_from == "Gradescope" and found["1001"].ids == ("1001", "anna@example.org", "Anna Adams")
    assert found["ben_example.org"].files == found["1003"].files  # a group's is each member's


@pytest.mark.parametrize(
    "text", ["", "- 1", "x: [", "\xff", "a: &a [*a]", "!!python/object/apply:os.system ['true']", "submission_17: 3"]
)
def test_metadata_that_makes_no_sense_costs_the_names_alone(sent, course, text):
    files = {f"submission_{number}/word_agent.py": AGENT for number in (17, 18)} | {
        "submission_metadata.yml": text.encode("latin-1")
    }
    found = read_submissions(sent(files), course)
    assert [one.name for one in found] == ["submission_17", "submission_18"] and all(one.files for one in found)
    assert all("\n" not in note for one in found for note in one.notes)


def test_metadata_by_hand():
    assert gradescope(b"s: {':submitters': [{':name': A}], ':created_at': nonsense}")["s"][0].when is None
    with pytest.raises(ValueError, match="no list"):
        gradescope(b"7")


# Exports as they are saved


def test_a_folder_that_holds_nothing_but_the_export(sent, course, tmp_path):
    (tmp_path / "sent").mkdir()
    as_zip(tmp_path / "sent/export.zip", {f"{name}/word_agent.py": AGENT for name in ("anna", "ben")})
    assert [one.name for one in read_submissions(tmp_path / "sent", course)] == ["anna", "ben"]


def test_zips_in_the_zips_of_a_class(course, tmp_path):
    """A class's zip of students' zips, in which one student has packed a zip once more."""
    inner = as_zip(tmp_path / "hw.zip", {"toy/word_agent.py": AGENT}).read_bytes()
    outer = as_zip(tmp_path / "anna.zip", {"hw.zip": inner}).read_bytes()
    found = read_submissions(as_zip(tmp_path / "class.zip", {"anna.zip": outer, "ben.zip": inner}), course)
    assert [(one.name, modules(one)) for one in found] == [("anna", ["toy.word_agent"]), ("ben", ["toy.word_agent"])]


def test_an_export_that_cannot_be_read_is_one_line(course, tmp_path):
    (tmp_path / "class.zip").write_bytes(as_zip(tmp_path / "x.zip", {"anna/word_agent.py": AGENT}).read_bytes()[:90])
    with pytest.raises(SubmissionError, match="class.zip: is no zip that can be read; was it cut short"):
        read_submissions(tmp_path / "class.zip", course)


def test_a_damaged_zip_alone_in_a_folder_is_a_students(sent, course):
    (one,) = read_submissions(sent({"anna.zip": b"PK\x03\x04"}), course)
    assert one.name == "anna" and "is no zip" in one.problems[0].message


# Large and odd


def test_two_gigabytes_are_never_read(sent, course, tmp_path):
    """Sparse files, so that the test is quick; a reader that read them whole would need the memory all the same."""
    folder = sent({"anna/word_agent.py": AGENT, "ben/einsum.py": EINSUM, "cleo/word_agent.py": AGENT})
    for name in ("ben/word_agent.py", "cleo/data.zip"):
        with open(folder / name, "wb") as file:
            file.truncate(2 << 30)
    anna, ben, cleo = read_submissions(folder, course)
    assert anna.files and not anna.problems
    assert modules(ben) == ["toy.einsum"] and ben.problems[0].message == "is larger than 1 MiB"
    assert modules(cleo) == ["toy.word_agent"] and cleo.problems[0].message == "is larger than 32 MiB"


def test_ten_thousand_files_cost_their_sender_alone(sent, course):
    folder = sent({"anna/word_agent.py": AGENT, "ben/word_agent.py": AGENT})
    for number in range(10_000):
        os.close(os.open(folder / f"ben/{number}", os.O_CREAT))
    anna, ben = read_submissions(folder, course)
    assert anna.files and not ben.files and "holds more than 2000 files" in ben.problems[0].message


def test_names_that_are_no_text(sent, course):
    folder = sent({"anna/word_agent.py": AGENT})
    for name in (b"caf\xe9", b"\x1b[2J"):
        os.mkdir(os.fsencode(folder) + b"/" + name)
        with open(os.fsencode(folder) + b"/" + name + b"/word_agent.py", "w") as file:
            file.write(AGENT)
    found = read_submissions(folder, course)
    assert len(found) == 3 and all(modules(one) == ["toy.word_agent"] for one in found)
    assert all(one.name.isprintable() and one.name.encode() for one in found)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_costs_its_sender_alone(sent, course):
    folder = sent({"anna/word_agent.py": AGENT, "ben/word_agent.py": AGENT, "cleo/word_agent.py": AGENT})
    (folder / "ben").chmod(0)
    (folder / "cleo/word_agent.py").chmod(0)
    anna, ben, cleo = read_submissions(folder, course)
    (folder / "ben").chmod(0o700)
    assert anna.files and "cannot be opened" in ben.problems[0].message and "cannot be opened" in cleo.problems[0].message


def test_a_files_own_time(sent, course, tmp_path):
    folder = sent({"anna/word_agent.py": AGENT, "ben/word_agent.py": AGENT})
    os.utime(folder / "anna/word_agent.py", (0, 1_795_600_000))
    anna, _ = read_submissions(folder, course)
    assert anna.changed == datetime.fromtimestamp(1_795_600_000, timezone.utc) and anna.submitted is None
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo("word_agent.py", (2026, 11, 26, 12, 0, 0)), AGENT)
        archive.writestr(zipfile.ZipInfo("einsum.py"), EINSUM)  # 1980: none is known
    assert read_submissions(tmp_path / "c.zip", course)[0].changed == datetime(2026, 11, 26, 12)


# Notebooks


def notebook(*cells, **more):
    entries = [{"cell_type": "code", "source": source, "metadata": {}} for source in cells]
    return json.dumps({"cells": entries, "metadata": {}, "nbformat": 4, "nbformat_minor": 5} | more)


def test_what_is_left_out_of_a_notebook_is_said(sent, course):
    book = notebook("%matplotlib inline\n!pip install x\nimport math", "%%time\n" + AGENT, "x = !ls\ny = 1 % 2")
    (one,) = read_submissions(sent({"anna/word_agent.ipynb": book}), course)
    first = "cell 1 `%matplotlib inline`, cell 1 `!pip install x`, cell 2 `%%time`"
    assert one.notes == [f"word_agent.ipynb: 4 lines that are no Python left out: {first}, ..."]
    (plain,) = read_submissions(sent({"ben/word_agent.ipynb": notebook(AGENT)}, "other"), course)
    assert plain.notes == []


def test_a_notebook_of_an_old_format(sent, course):
    pytest.importorskip("nbformat")
    cell = {
        "cell_type": "code",
        "input": ["%pylab\n", *AGENT.splitlines(True)],
        "language": "python",
        "outputs": [],
        "metadata": {},
    }
    book = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": "x"}, "worksheets": [{"cells": [cell], "metadata": {}}]}
    (one,) = read_submissions(sent({"anna/word_agent.ipynb": json.dumps(book)}), course)
    assert one.files["toy.word_agent"].endswith(AGENT + "\n") and "`%pylab`" in one.notes[0]


def test_an_old_notebook_without_jupyters_library(sent, course, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbformat", None)
    book = {"nbformat": 3, "metadata": {}, "worksheets": []}
    (one,) = read_submissions(sent({"anna/word_agent.ipynb": json.dumps(book)}), course)
    assert "is a notebook in an old format: save it again" in one.problems[0].message


@pytest.mark.parametrize(
    "book, said",
    [
        (notebook("x <- 1", metadata={"kernelspec": {"language": "R"}}), "is a notebook in R"),
        (notebook("x", metadata=[]), "no notebook that can be read"),
        (notebook("x", nbformat=3, cells=7), "no notebook that can be read"),
        (notebook("x", nbformat=-1), "no notebook that can be read"),
    ],
)
def test_notebooks_that_are_none_of_ours(sent, course, book, said):
    (one,) = read_submissions(sent({"anna/word_agent.ipynb": book}), course)
    assert not one.files and said in one.problems[0].message and "\n" not in one.problems[0].message
