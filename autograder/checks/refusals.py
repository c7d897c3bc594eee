"""Checks that ask how a learner's function takes input that makes no sense."""

from __future__ import annotations

import re

from .vocabulary import Check


class Refuses(Check):
    """Input that makes no sense gets a ValueError that names the argument."""

    probe = "refuses"

    def truth(self, argument, **case):
        return {"raised": "ValueError", "message": argument}

    def judge(self, got, expected, argument, **case):
        return refused(got, expected, argument)


def refused(got, expected, argument) -> str | None:
    """None if the error that came is of the kind expected and names `argument` as a word, else what is wrong, in a sentence."""
    if got["raised"] != expected["raised"]:
        return f"`{argument}` makes no sense here: expected a ValueError, received {got['raised'] or 'no error'}"
    named, to_be_named = (bool(re.search(rf"\b{argument}\b", says["message"])) for says in (got, expected))
    return None if named == to_be_named else f"the {got['raised']} does not name `{argument}`: it says {got['message']!r}"
