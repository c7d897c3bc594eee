"""One sandbox a track: each request goes to its own, and what is told of them together is no more than holds for each."""

import pytest

from autograder.sandbox import wire
from autograder.sandbox.executor import Reply
from autograder.sandbox.tracks import Tracks


class Fake:
    def __init__(self, probes, level="full", layers=("rlimits", "seccomp"), note=""):
        self.probes, self.level, self.layers, self.note = probes, level, list(layers), note
        self.asked, self.closed = [], False

    def run(self, request, *, seconds, memory_mb):
        self.asked.append((seconds, memory_mb))
        return Reply("finished", b"".join(name.encode() for name in self.probes))

    def close(self):
        self.closed = True


PROBES = ["toy.kl", "full.dpo", "toy.ppo"]


def request(module):
    return wire.encode({"module": module})


def test_each_request_goes_to_the_sandbox_of_its_track():
    with Tracks(PROBES, Fake) as tracks:
        toy = tracks.run(request("toy.ppo"), seconds=1.0, memory_mb=2)
        full = tracks.run(request("full.dpo"), seconds=3.0, memory_mb=4)
        sandboxes = list(tracks._of.values())
    assert (toy.stream, full.stream) == (b"toy.kltoy.ppo", b"full.dpo")
    assert [sandbox.asked for sandbox in sandboxes] == [[(1.0, 2)], [(3.0, 4)]]
    assert all(sandbox.closed for sandbox in sandboxes)


def test_level_and_layers_are_what_holds_for_all():
    made = iter([Fake([], layers=["rlimits", "seccomp", "landlock"]), Fake([], "process", ["rlimits"], "no namespaces here")])
    tracks = Tracks(PROBES, lambda probes: next(made))
    assert (tracks.level, tracks.layers, tracks.note) == ("process", ["rlimits"], "no namespaces here")
    assert Tracks(PROBES, Fake).level == "full"


def test_if_one_does_not_start_none_is_left_running():
    first = Fake([])

    def start(probes):
        if "full.dpo" in probes:
            raise OSError("no memory")
        return first

    with pytest.raises(OSError):
        Tracks(PROBES, start)
    assert first.closed
