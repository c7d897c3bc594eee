import os
import struct

import pytest

from autograder.grading.oracle import PUBLIC_SEED, Oracle
from autograder.sandbox import open_sandbox
from autograder.sandbox.client import Sandbox

from . import target
from .world import World, halves, processes_of


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("outside"))
    for folder in made.folder.parents:  # pytest closes its own; nothing but the sandbox shall keep a child away
        if folder.stat().st_uid == os.geteuid() and folder.name.startswith("pytest-"):
            folder.chmod(0o755)
    yield made
    made.close()


@pytest.fixture(scope="session")
def sandbox(world):
    """One fork server, whose processes can be counted; that a class is graded by two of them is in `test_two_servers`."""
    backend = os.environ.get("CLIMB_TEST_BACKEND")
    with Sandbox([target.MODULE], "full") if backend is None else open_sandbox([target.MODULE], "full", backend=backend) as opened:
        yield opened


@pytest.fixture(scope="session")
def servers(sandbox):
    """The fork server's own processes, which stay."""
    assert sandbox.level == "full"
    return processes_of(sandbox)


@pytest.fixture(scope="session")
def oracle():
    return Oracle(target.MODULE, target.SEED)


@pytest.fixture(scope="session")
def checks():
    return target.checks()


@pytest.fixture(scope="session")
def names(world, oracle, checks):
    """What the attacks are told: places outside, what to look for in memory, the public answers."""
    check = checks[target.EXERCISE]
    expected = [float(answer["positive"]) for answer in oracle.expected(check)]
    some = next(value for value in expected if len(set(struct.pack("<d", value))) > 6)  # one that is not met by chance
    world.hunted |= halves("EXPECTED", struct.pack("<d", some))
    seed = target.SEED
    world.hunted |= halves(
        "SEED", (seed % 2**30).to_bytes(4, "little") + (seed >> 30).to_bytes(4, "little")
    )  # as CPython keeps it
    public = Oracle(target.MODULE, PUBLIC_SEED)
    answers = [float(answer["positive"]) for answer in public.expected(check)]
    known = [([round(float(x), 9) for x in case["logits"]], answer) for case, answer in zip(public.cases(check), answers)]
    return {**world.names(), "PUBLIC": ", ".join(map(repr, answers)), "KNOWN": repr(known)}
