"""Rosters as spreadsheets write them, and the class they make with what was handed in."""

from datetime import datetime

import pytest

from autograder.grading.roster import RosterError, joined, read_roster
from autograder.grading.submissions import Submission


@pytest.fixture
def roster(tmp_path):
    def read(text):
        path = tmp_path / "roster.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_roster(path)

    return read


def rows(found):
    return [(one.id, one.name, one.section, one.extension_days) for one in found.students]


WHOLE = [("1001", "Anna Adams", "A", 3.0), ("1002", "Ben Böker", "B", 0.0)]


@pytest.mark.parametrize(
    "text",
    [
        "id,name,section,extension days\n1001,Anna Adams,A,3\n1002,Ben Böker,B,\n",
        "1001,Anna Adams,A,3\n1002,Ben Böker,B,0\n",  # no heading: these columns in this order
        "Name;Section;ID;Extension_Days\r\nAnna Adams;A;1001;3,0\r\nBen Böker;B;1002;0\r\n",
        "Section\tSIS User ID\tName\tExtra days\nA\t1001\tAnna Adams\t3.0\nB\t1002\tBen Böker\n",
        'Student,Name,Section,Days\n"1001","Anna Adams","A","3"\n\n,,,\n1002,Ben Böker,B,0',
        "First name,Last name,ID number,Group,Extension\nAnna,Adams,1001,A,3\nBen,Böker,1002,B,",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_columns_in_any_order_and_form(roster, text, encoding):
    found = roster(text.encode(encoding))
    assert rows(found) == WHOLE and found.told == []


@pytest.mark.parametrize("encoding, said", [("latin-1", "byte 0xf6 in line 3"), ("utf-16", "UTF-16")])
def test_other_encodings_are_read_and_told_in_one_line(roster, encoding, said):
    found = roster("id,name,section,extension days\n1001,Anna Adams,A,3\n1002,Ben Böker,B,0\n".encode(encoding))
    assert rows(found) == WHOLE
    assert len(found.told) == 1 and said in found.told[0] and "roster.csv" in found.told[0] and "\n" not in found.told[0]


@pytest.mark.parametrize("text", ["", "id,name\n", "\n\n", ",,\n", "\ufeff"])
def test_nobody(roster, text):
    with pytest.raises(RosterError, match="names no student"):
        roster(text)


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(RosterError, match="cannot be read"):
        read_roster(tmp_path / "nowhere.csv")
    (tmp_path / "long.csv").write_text('id\n"' + "x" * 200_000)
    with pytest.raises(RosterError, match="cannot be read as CSV"):
        read_roster(tmp_path / "long.csv")


def test_cells_that_make_no_sense_are_told_and_gone_around(roster):
    found = roster("id,extension days,submitted\n1,many,2026-12-04T18:00\n2,-1,yesterday\n3,2,\n,5,\n4,nan,\n")
    assert [one.extension_days for one in found.students] == [0, 0, 2, 0]
    assert found.students[0].submitted == datetime(2026, 12, 4, 18) and found.students[1].submitted is None
    assert [line.split(":")[0] for line in found.told] == [
        "roster.csv, line 2",
        "roster.csv, line 3",
        "roster.csv, line 3",
        "roster.csv, line 5, names nobody and is passed over",
        "roster.csv, line 6",
    ]


def test_two_students_with_one_id_are_told_and_both_have_a_row(roster):
    found = roster("id,name\n7,Anna\n8,Cleo\n7,Ben\n8,Cleo\n")
    assert [(one.id, one.name) for one in found.students] == [("7", "Anna"), ("8", "Cleo"), ("7", "Ben")]
    (line,) = found.told
    assert "two students have the id 7 (lines 2 and 4)" in line
    both = joined([Submission("7", {"toy.a": "x"})], found)
    assert [(one.name, one.student["name"], bool(one.files)) for one in both.submissions] == [
        ("7", "Anna", True),
        ("7-2", "Ben", False),
        ("8", "Cleo", False),
    ]


# The join


def one(name, *ids):
    return Submission(name, {"toy.a": name}, ids=ids)


def test_every_name_has_a_row_and_every_stranger_is_listed(roster):
    found = roster("id,name,section,extension days\n1001,Anna Adams,A,3\n1002,Ben Baker,B,0\n1003,Cleo Cook,B,0\n")
    whole = joined([one("1002"), one("zoe"), one("1001")], found)
    assert [(s.name, s.student["section"], s.student["on_roster"], bool(s.files)) for s in whole.submissions] == [
        ("1001", "A", True, True),
        ("1002", "B", True, True),
        ("1003", "B", True, False),
        ("zoe", "", False, True),
    ]
    assert whole.strangers == ["zoe"] and whole.told == [] and whole.submissions[0].student["extension_days"] == 3


@pytest.mark.parametrize(
    "submission",
    [
        one("1001"),
        one("Anna_Adams"),
        one("adams_anna"),
        one("adamsanna_555", "555", "adamsanna"),  # Canvas, with a number of its own
        one("Anna_Adams_77", "77", "Anna Adams"),  # Moodle
        one("anna.adams_example.org", "anna.adams@example.org", "Anna Adams"),  # Gradescope
        one("ANNA.ADAMS"),  # the first part of the address
    ],
)
def test_a_student_is_found_by_whatever_a_learning_system_calls_them(roster, submission):
    for name in ("Anna Adams", '"Adams, Anna"'):
        found = roster(f"id,name,email\n1001,{name},anna.adams@example.org\n1002,Ben Baker,ben@example.org\n")
        submission = Submission(submission.name, {"toy.a": "x"}, ids=submission.ids)
        whole = joined([submission], found)
        assert whole.strangers == [] and [s.name for s in whole.submissions if s.files] == ["1001"]


def test_a_name_that_two_students_share_tells_nothing(roster):
    found = roster("id,name\n1,Anna Adams\n2,Anna Adams\n")
    assert joined([one("Anna_Adams")], found).strangers == ["Anna_Adams"]
    assert [s.name for s in joined([one("2", "Anna Adams")], found).submissions if s.files] == ["2"]


def test_a_number_that_contradicts_the_name_is_not_followed(roster):
    whole = joined([one("Anna_Adams_2", "2", "Anna Adams")], roster("id,name\n1,Anna Adams\n2,Ben Baker\n"))
    assert whole.strangers == ["Anna_Adams_2"] and whole.told == ["Anna_Adams_2 could be 1 or 2: graded under its own name"]


def test_two_submissions_under_one_students_names_are_told(roster):
    whole = joined([one("1"), one("Anna_Adams")], roster("id,name\n1,Anna Adams\n"))
    assert "2 submissions go by the name of 1 (1, Anna_Adams)" in whole.told[0]
    assert [(s.name, bool(s.files)) for s in whole.submissions] == [("1", False), ("1-2", True), ("Anna_Adams", True)]


def test_a_time_on_the_roster_is_the_one_that_counts(roster):
    (anna,) = joined([one("1")], roster("id,submitted\n1,2026-12-04T18:00\n")).submissions
    assert anna.submitted == datetime(2026, 12, 4, 18) and anna.submitted_from == "roster"


def test_no_roster_is_everybody_by_name():
    assert [s.name for s in joined([one("b"), one("A")], None).submissions] == ["A", "b"]
