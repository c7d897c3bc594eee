"""Bad input to a run, said in one line."""

from __future__ import annotations


class InputProblem(ValueError):
    """A file, a name, a column or a setting that will not do: what was expected, what came, what to do. It ends `climb run`."""
