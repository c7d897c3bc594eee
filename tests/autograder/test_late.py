"""Two fork servers for the toy track: which libraries each loads, and which exercises go to the large one."""

import pytest

from autograder import reference
from autograder.sandbox import wire
from autograder.sandbox.errors import SandboxError
from autograder.sandbox.executor import Reply
from autograder.sandbox.late import Apart, needed, split
from autograder.sandbox.preload import libraries_for

SOURCE = """
import numpy as np
from scipy.special import logsumexp
class Agent:
    import jaxtyping
    def forward(self):
        return smooth()
def smooth():
    import scipy.signal
def draw():
    from matplotlib.figure import Figure
def alone():
    return np.zeros(3)
"""


def test_what_a_file_needs_at_its_import_and_in_each_definition():
    first = {"numpy", "scipy.special", "scipy.special.logsumexp", "jaxtyping"}
    assert needed(SOURCE, None) == needed(SOURCE, "alone") == needed(SOURCE, "not_there") == first
    assert needed(SOURCE, "Agent.forward") == needed(SOURCE, "smooth") == first | {"scipy.signal"}  # through what it calls
    assert needed(SOURCE, "draw") == first | {"matplotlib.figure", "matplotlib.figure.Figure"}
    assert needed("def broken(:", "broken") == frozenset()


def test_a_recursive_definition_ends():
    assert needed("def a():\n    b()\ndef b():\n    import scipy.signal\n    a()\n", "a") == {"scipy.signal"}


@pytest.mark.skipif(not (reference.ROOT / "solutions").is_dir(), reason="a student's copy has no solutions")
def test_the_toy_track_keeps_the_plots_libraries_apart_and_loses_none():
    modules = ["toy.word_agent", "toy.policy_gradient"]
    small, late = split(modules)
    assert "scipy.signal" in late and "matplotlib.figure" in late
    assert "torch" in small and "scipy.special" in small
    assert sorted(small + late) == libraries_for(modules)


@pytest.mark.skipif(not (reference.ROOT / "solutions").is_dir(), reason="a student's copy has no solutions")
def test_the_full_track_has_one_server():
    assert split(["full.sft"]) == (libraries_for(["full.sft"]), [])


def test_what_a_learner_has_written_so_far_is_split_alike():
    small, late = split(["toy.word_agent"], ["torch", "scipy.signal"])
    assert small + late == ["torch", "scipy.signal"]  # nothing is lost, in a student's copy too
    if (reference.ROOT / "solutions").is_dir():
        assert late == ["scipy.signal"]
    assert split([], ["torch"]) == (["torch"], [])


class Fake:
    level, note = "full", ""

    def __init__(self, large, layers=("rlimits",)):
        self.large, self.closed, self.layers = large, False, list(layers)

    def run(self, request, *, seconds, memory_mb):
        return Reply("finished", b"large" if self.large else b"small")

    def close(self):
        self.closed = True


def test_a_request_goes_to_the_large_server_if_its_exercise_or_the_whole_file_needs_a_late_library():
    def served(text, exercise):
        request = wire.encode({"module": "toy.m", "sources": {"toy.m": text}, "exercise": exercise})
        return apart.run(request, seconds=1.0, memory_mb=2).stream

    with Apart(["toy.m"], ["scipy.signal"], Fake) as apart:
        assert served(SOURCE, "smooth") == served(SOURCE, "Agent.forward") == b"large"
        assert served(SOURCE, "draw") == served(SOURCE, "alone") == b"small"
        assert served("import scipy.signal\n" + SOURCE, "alone") == b"large"  # else every child would load it anew
        servers = list(apart._of.values())
    assert all(server.closed for server in servers)


def test_a_large_server_that_is_less_closed_serves_nothing():
    def started(large):
        return Fake(large, layers=("rlimits",) if large else ("rlimits", "landlock"))

    request = wire.encode({"module": "toy.m", "sources": {"toy.m": SOURCE}, "exercise": "smooth"})
    with Apart(["toy.m"], ["scipy.signal"], started) as apart, pytest.raises(SandboxError, match="differ: rlimits; rlimits, landlock"):
        apart.run(request, seconds=1.0, memory_mb=2)
