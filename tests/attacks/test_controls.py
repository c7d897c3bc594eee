"""The attacks against nothing: where there is no sandbox they get through. What never succeeds would prove nothing."""

import pytest

from autograder.sandbox.client import Sandbox
from autograder.sandbox.executor import InProcess

from . import escapes, hunting, target, trespass
from .world import World


@pytest.mark.parametrize(
    "attack", [attack for attack in hunting.ATTACKS if attack.name in hunting.IN_PROCESS], ids=lambda attack: attack.name
)
def test_hunts_find_in_the_graders_own_process(attack, names, oracle, checks):
    verdict = target.put(checks[target.EXERCISE], attack.source(names), oracle, InProcess())
    assert "FOUND" in verdict.message, verdict


@pytest.fixture(scope="module")
def unconfined():
    """Level `process`: another process with limits, and nothing else."""
    with Sandbox([target.MODULE], "process") as opened:
        assert opened.level == "process"
        yield opened


OUTWARD = [attack for family in (escapes, trespass) for attack in family.ATTACKS if attack.name in family.UNCONFINED]


@pytest.mark.parametrize("attack", OUTWARD, ids=lambda attack: attack.name)
def test_escapes_reach_out_of_level_process(attack, unconfined, oracle, checks, tmp_path):
    outside = World(tmp_path)
    try:
        verdict = target.put(checks[target.EXERCISE], attack.source(outside.names()), oracle, unconfined)
        assert "FOUND" in verdict.message, verdict
        with pytest.raises(AssertionError):
            outside.assert_intact()
    finally:
        outside.close()
