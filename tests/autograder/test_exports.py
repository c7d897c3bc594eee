"""Grades out: a table no spreadsheet runs, and gradebooks filled by id, in which nobody gets another's grade."""

import csv
import io
import json

import pytest

from autograder import exports
from autograder.exports.cells import safe
from autograder.exports.gradebook import GradebookError

CANVAS = """Student,ID,SIS User ID,SIS Login ID,Section,Climb (991),Essay (992),Final Score
,,,,,Manual Posting,,
    Points Possible,,,,,20,10,(read only)
"Lovelace, Ada",101,u1,ada@x.edu,A,,9,88
"Turing, Alan",102,u2,alan@x.edu,A,3,8,77
"Hopper, Grace",103,u3,grace@x.edu,B,,7,66
"""
WORKSHEET = """Identifier,"Full name","Email address",Status,Grade,"Maximum grade","Last modified (grade)"
"Participant 4711","Ada Lovelace",ada@x.edu,Submitted,,20.00,-
"Participant 4712","Alan Turing",alan@x.edu,Submitted,1.00,20.00,"Monday, 1 June"
"""
MOODLE = """"First name","Last name","ID number","Email address","Assignment: Climb (Real)","Assignment: Essay (Real)"
Ada,Lovelace,u1,ada@x.edu,-,9
Alan,Turing,u2,alan@x.edu,-,8
"""


def result(name, score, most=20.0, **more):
    rows = [
        {"id": "toy/first.py::double", "lesson": 1, "score": score, "max_score": most / 2, "status": "passed"},
        {"id": "toy/second.py::triple", "lesson": 2, "score": 0.0, "max_score": most / 2, "status": "timeout"},
    ]
    return {"schema": 1, "submission": name, "score": score, "max_score": most, "exercises": rows} | more


def graded(folder, *results):
    for one in results:
        place = folder / one["submission"]
        place.mkdir(parents=True)
        (place / "result.json").write_text(json.dumps(one))
    return exports.read_grades(folder)


def table(path, delimiter=","):
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig")), delimiter=delimiter))


def column(path, title, delimiter=","):
    head, *rows = table(path, delimiter)
    return [row[head.index(title)] for row in rows]


# Cells


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r", "\n", " =", "\uff1d"])
def test_text_that_a_spreadsheet_would_run_is_text(start):
    shown = safe(start + "cmd|' /C calc'!A0")
    assert shown.startswith("'") and not set("\t\r\n") & set(shown)


def test_numbers_stay_numbers_and_plain_text_as_it_is():
    assert safe(-1.5) == -1.5 and safe(3) == 3 and safe("Ada O'Neil-Byron") == "Ada O'Neil-Byron" and safe(None) == ""
    assert safe("a\x1b[31m\u202eb") == "a[31mb"  # no terminal escapes, no turned writing direction


def test_the_table_survives_what_names_hold(tmp_path):
    evil = '=HYPERLINK("http://x.y","open")'
    grades = graded(tmp_path, result("anna", 7.0, student={"id": "@u1", "name": evil, "section": 'A, "B"'}), result("ben", 2.5))
    path = exports.write_grades(grades, tmp_path / "grades.csv")
    rows = [dict(zip(table(path)[0], row)) for row in table(path)[1:]]
    assert rows[0]["name"] == "'" + evil and rows[0]["id"] == "'@u1" and rows[0]["section"] == 'A, "B"'
    assert (rows[0]["final"], rows[0]["out_of"], rows[0]["percent"], rows[0]["lesson 1"]) == ("7", "20", "35", "7")
    assert (rows[1]["submission"], rows[1]["final"], rows[1]["passed"], rows[1]["to look at"]) == ("ben", "2.5", "1", "timeout")
    for line in path.read_text().splitlines():
        assert not [cell for cell in line.split(",") if cell.startswith(tuple("=+-@"))]
    assert '"ben"' in path.read_text() and ",2.5," in path.read_text()  # text is quoted, numbers are not


def test_a_policy_decides_what_the_grade_is(tmp_path):
    policy = {
        "late_days": 2,
        "penalty": 3.0,
        "score": 4.0,
        "max_score": 10.0,
        "note": "two days late",
        "lessons": {"1": 4},
    }
    (grade,) = graded(tmp_path, result("anna", 7.0, policy=policy))
    assert (grade.final, grade.final_max, grade.score) == (4.0, 10.0, 7.0)
    path = exports.write_grades([grade], tmp_path / "grades.csv")
    assert column(path, "final") == ["4"] and column(path, "late_days") == ["2"] and column(path, "note") == ["two days late"]
    assert "lessons" not in table(path)[0]
    done = exports.canvas([grade], tmp_path / "canvas.csv")
    assert column(done.path, "Climb") == ["10", "4"]


def test_points_by_rubric_are_in_the_grades(tmp_path, monkeypatch):
    """What a person gave for a written answer counts in every export, though result.json stays the grader's."""
    given = {"anna": {"toy/second.py::triple": {"points": 6.0, "max_points": 10.0, "comment": ""}}}
    monkeypatch.setattr("autograder.exports.grades.marks_by_student", lambda out: given)
    anna, ben = graded(tmp_path, result("anna", 7.0), result("ben", 7.0))
    assert (anna.score, anna.final, anna.lessons[2]) == (13.0, 13.0, (6.0, 10.0)) and ben.final == 7.0


def test_a_damaged_result_is_named(tmp_path):
    graded(tmp_path, result("anna", 7.0))
    (tmp_path / "anna/result.json").write_text('{"submission": "anna"')
    with pytest.raises(ValueError, match="anna/result.json is no result"):
        exports.read_grades(tmp_path)


# Canvas


def canvas(tmp_path, *results, text=CANVAS, **options):
    grades = graded(tmp_path / "results", *results)
    (tmp_path / "book.csv").write_text(text, encoding="utf-8")
    return exports.canvas(grades, tmp_path / "out.csv", tmp_path / "book.csv", **options)


def test_canvas_is_filled_by_its_own_id_by_login_and_by_name(tmp_path):
    """Its download of submissions has its id in every name; a roster has logins; a folder may be called like its student."""
    done = canvas(
        tmp_path, result("lovelaceada_101", 17.0), result("s2", 3.5, student={"id": "U2"}), result("Grace_Hopper", 0.0)
    )
    assert column(done.path, "Climb (991)") == ["Manual Posting", "20", "17", "3.5", "0"]
    assert done.filled == 3 and not done.ambiguous and not done.not_in_gradebook and not done.without_grade
    assert table(done.path)[0] == [
        "Student",
        "ID",
        "SIS User ID",
        "SIS Login ID",
        "Section",
        "Climb (991)",
    ]  # no other grade is sent back
    assert column(done.path, "Student")[2:] == ["Lovelace, Ada", "Turing, Alan", "Hopper, Grace"]


def test_who_has_no_result_keeps_what_is_there_and_strangers_are_told(tmp_path):
    done = canvas(tmp_path, result("lovelaceada_101", 17.0), result("zoe_999", 20.0))
    assert column(done.path, "Climb (991)")[2:] == ["17", "3", ""]
    assert done.not_in_gradebook == ["zoe_999"] and done.without_grade == ["Alan Turing", "Grace Hopper"]


def test_whoever_fits_two_gets_no_grade(tmp_path):
    done = canvas(tmp_path, result("a", 1.0, student={"id": "u1"}), result("b", 2.0, student={"login": "u1"}))
    assert done.filled == 0 and done.ambiguous == ["Ada Lovelace fits a and b"]
    assert column(done.path, "Climb (991)")[2:] == ["", "3", ""]


def test_one_result_for_two_rows_goes_into_neither(tmp_path):
    twice = CANVAS + '"Lovelace, Ada",109,u9,ada2@x.edu,B,,,\n'
    done = canvas(tmp_path, result("ada_lovelace", 5.0), text=twice)
    assert done.filled == 0 and done.ambiguous == ["ada_lovelace fits 2 rows"]


def test_other_points_are_converted_on_request_alone(tmp_path):
    with pytest.raises(GradebookError, match="is worth 20 points and the results 40"):
        canvas(tmp_path / "1", result("lovelaceada_101", 30.0, most=40.0))
    done = canvas(tmp_path / "2", result("lovelaceada_101", 30.0, most=40.0), scale=True)
    assert column(done.path, "Climb (991)")[2] == "15"


def test_the_column_is_named_or_asked_for(tmp_path):
    other = CANVAS.replace("Climb (991)", "Homework (991)")
    with pytest.raises(GradebookError, match="--column; there are 'Homework .991.', 'Essay .992.'"):
        canvas(tmp_path / "1", result("lovelaceada_101", 1.0), text=other)
    for index, name in enumerate(("homework", "Homework (991)", "991"), start=2):
        done = canvas(tmp_path / str(index), result("lovelaceada_101", 1.0), text=other, column=name)
        assert done.column == "Homework (991)"
    with pytest.raises(GradebookError, match="no column 'Homewrok'"):
        canvas(tmp_path / "9", result("lovelaceada_101", 1.0), text=other, column="Homewrok")


def test_semicolons_and_a_byte_order_mark_come_back_as_they_came(tmp_path):
    text = "\ufeff" + "\n".join(line.replace(", ", "|").replace(",", ";").replace("|", ", ") for line in CANVAS.splitlines())
    done = canvas(tmp_path, result("lovelaceada_101", 17.0), text=text)
    assert done.path.read_bytes().startswith(b"\xef\xbb\xbf") and column(done.path, "Climb (991)", ";")[2] == "17"


def test_canvas_without_its_gradebook(tmp_path):
    grades = graded(
        tmp_path / "r",
        result("lovelaceada_101", 17.0),
        result("-ben", 2.0, student={"id": "u2", "name": "=Ben", "section": "A"}),
    )
    done = exports.canvas(grades, tmp_path / "new.csv", column="Homework 1")
    head, possible, ben, ada = table(done.path)
    assert head == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Homework 1"]
    assert possible == ["    Points Possible", "", "", "", "", "20"]
    assert ben == ["'=Ben", "", "u2", "", "A", "2"] and ada == ["lovelaceada_101", "101", "", "", "", "17"]


# Moodle


def moodle(tmp_path, *results, text=WORKSHEET, **options):
    grades = graded(tmp_path / "results", *results)
    (tmp_path / "book.csv").write_text(text, encoding="utf-8")
    return exports.moodle(grades, tmp_path / "out.csv", tmp_path / "book.csv", **options)


def test_moodles_worksheet_is_filled_by_participant_and_comes_back_whole(tmp_path):
    done = moodle(tmp_path, result("Ada_Lovelace_4711", 17.0), result("x", 2.0, student={"email": "ALAN@x.edu"}))
    assert column(done.path, "Grade") == ["17", "2"] and done.filled == 2
    assert table(done.path)[0] == table(tmp_path / "book.csv")[0]
    assert column(done.path, "Last modified (grade)") == ["-", "Monday, 1 June"]  # by which Moodle sees who graded meanwhile


def test_moodles_gradebook_gets_one_column(tmp_path):
    done = moodle(tmp_path, result("x", 4.0, student={"id": "u1"}), result("alan_turing", 5.0), text=MOODLE)
    assert column(done.path, "Assignment: Climb (Real)") == ["4", "5"]
    assert table(done.path)[0] == ["First name", "Last name", "ID number", "Email address", "Assignment: Climb (Real)"]


def test_moodle_without_its_gradebook(tmp_path):
    grades = graded(tmp_path / "r", result("ada", 4.0, student={"id": "u1", "email": "ada@x.edu", "name": "Ada L"}))
    done = exports.moodle(grades, tmp_path / "new.csv")
    assert table(done.path) == [["ID number", "Email address", "Full name", "Climb"], ["u1", "ada@x.edu", "Ada L", "4"]]


# The command


def test_the_command_writes_and_tells(tiny, tmp_path):
    graded(tmp_path / "r", result("lovelaceada_101", 17.0), result("zoe_999", 1.0))
    (tmp_path / "book.csv").write_text(CANVAS)
    done = tiny.climb("export", tmp_path / "r")
    assert done.code == 0 and (tmp_path / "r/grades.csv").is_file()
    done = tiny.climb("export", tmp_path / "r", "--format", "canvas", "--gradebook", tmp_path / "book.csv")
    assert done.code == 0 and "1 grades in `Climb (991)`" in done.out
    assert "not in the gradebook: zoe_999" in done.err and "without a result: Alan Turing; Grace Hopper" in done.err
    assert column(tmp_path / "r/canvas.csv", "Climb (991)")[2] == "17" and (tmp_path / "book.csv").read_text() == CANVAS


def test_what_it_cannot_do_it_says_in_a_line(tiny, tmp_path):
    (tmp_path / "r").mkdir()
    tiny.climb("export", tmp_path / "nowhere").refused("is no folder")
    tiny.climb("export", tmp_path / "r").refused("holds no results", "climb grade")
    graded(tmp_path / "r", result("ada", 17.0))
    tiny.climb("export", tmp_path / "r", "--format", "excel").refused("expected csv, canvas or moodle, received 'excel'")
    tiny.climb("export", tmp_path / "r", "--scale").refused("--format canvas or moodle")
    book = tmp_path / "book.csv"
    words = ("export", tmp_path / "r", "--format", "canvas", "--gradebook", book)
    tiny.climb(*words).refused("cannot be read")
    for text, why in (
        (b"", "an empty file"),
        (b"Name,Grade\n", "expected Canvas' gradebook export"),
        (b"Student,ID\n\xe9,1\n", "is not UTF-8"),
    ):
        book.write_bytes(text)
        tiny.climb(*words).refused(why)
    book.write_text(CANVAS)
    tiny.climb(*words, "--out", book).refused("is the gradebook itself")
    assert book.read_text() == CANVAS
