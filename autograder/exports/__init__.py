"""Results out: a table of grades, and the gradebooks of Canvas and Moodle. Every function here reads results and runs nothing."""

from __future__ import annotations

from .gradebook import Filled, canvas, moodle
from .grades import Grade, read_grades, write_grades

__all__ = ["Filled", "Grade", "canvas", "moodle", "read_grades", "write_grades"]
