"""Level `process`, as on macOS and Windows: workers that nothing confines, but that serve one submission only and end in time."""

import time

import pytest

from autograder.sandbox.spawned import SpawnedWorkers

from . import exits, forging, target

pytestmark = pytest.mark.slow  # a new worker imports torch
HONEST = target.Attack("honest").source()
NAMES = """exit-code-97-at-import loop-at-import segfault-at-import claims-of-right-answers results-closed deep-nesting
recursion""".split()
BROKEN = [attack for attack in (*exits.ATTACKS, *forging.ATTACKS) if attack.name in NAMES]
LEFT = """
import ctypes, threading, time
threading.Thread(target=lambda: (time.sleep(0.3), ctypes.PyDLL(None).sleep(60)), daemon=True).start()
"""


@pytest.fixture(scope="module")
def spawned():
    workers = SpawnedWorkers([target.MODULE])
    yield workers
    workers.close()
    assert not [worker for worker in workers._all if worker.process.poll() is None]


def test_workers_serve_one_submission_each(spawned, oracle, checks):
    """Nothing but processes of their own keeps submissions apart there: one that breaks its process breaks no other's answers."""
    spoiler = target.Attack("spoiler", at_import="import numpy\ntorch.softmax = torch.log_softmax = numpy.cumsum = None").source()
    check = checks["policy_loss"]
    assert target.put(check, spoiler, oracle, spawned).status == "error"
    assert target.put(check, HONEST, oracle, spawned).status == "passed"
    first = [worker.process.pid for worker in spawned._all]
    assert target.put(check, HONEST, oracle, spawned).status == "passed"
    assert [worker.process.pid for worker in spawned._all] == first  # and that of the same submission is used again


@pytest.mark.parametrize("attack", BROKEN, ids=lambda attack: attack.name)
def test_the_grader_outlives_broken_workers(attack, spawned, oracle, checks):
    verdict = target.put(target.bounded(checks[target.EXERCISE], attack), attack.source(), oracle, spawned)
    assert verdict.status != "passed"
    assert target.put(checks[target.HONEST[0]], HONEST, oracle, spawned).status == "passed"


def test_a_worker_that_reads_no_more_does_not_hold_the_grader(spawned, oracle, checks):
    """A thread left in the worker keeps the interpreter's lock; the next request is larger than a pipe holds."""
    source = target.Attack("left", at_import=LEFT + "#" * 500_000).source()
    limited = target.bounded(checks[target.HONEST[0]], target.Attack("limit", seconds=1.0))
    assert target.put(limited, source, oracle, spawned).status == "passed"
    time.sleep(0.5)
    started = time.monotonic()
    assert target.put(limited, source, oracle, spawned).status in ("crashed", "timeout")
    assert time.monotonic() - started < 10
