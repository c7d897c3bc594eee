"""The toy track's two fork servers: each is as closed as one alone, a lost one is replaced, and both are gone at the end."""

import os
import signal
import time

from autograder.sandbox import open_sandbox
from autograder.sandbox.late import Apart
from autograder.sandbox.server import Branch

from . import target
from .world import processes_of

LOOK = "import sys; print('scipy.signal' in sys.modules)"


def test_both_are_full_each_gets_its_own_and_none_is_left(oracle, checks):
    with open_sandbox([target.MODULE], "full") as sandbox:
        assert isinstance(sandbox, Apart) and sandbox.level == "full"
        large, small = sandbox._of[True], sandbox._of[False]
        assert large.layers == small.layers == sandbox.layers
        assert isinstance(large._server, Branch) and large._server.process is small._server.process  # one import of torch
        for late, loaded in ((False, "False"), (True, "True")):
            assert printed(sandbox, late, oracle, checks) == loaded
        folders = [large._server.folder, small._server.folder]
        running = {pid for pid in processes_of(large) | processes_of(small) if started_in(pid, folders)}
    assert len(running) >= 2 and not any(started_in(pid, folders) for pid in running)
    assert not any(map(os.path.exists, folders))


def test_the_large_one_is_lost_and_replaced_alone(oracle, checks):
    with open_sandbox([target.MODULE], "full") as sandbox:
        large, small = sandbox._of[True], sandbox._of[False]
        assert printed(sandbox, True, oracle, checks) == "True"
        first = small._server.process.pid
        with open(f"/proc/{inner(first)}/task/{inner(first)}/children") as file:
            branch = int(file.read().split()[0])
        os.kill(branch, signal.SIGKILL)
        assert printed(sandbox, False, oracle, checks) == "False" and printed(sandbox, True, oracle, checks) == "True"
        assert small._server.process.pid == first and not isinstance(large._server, Branch)


def test_the_small_one_is_lost_and_takes_the_other_with_it_and_both_are_replaced(oracle, checks):
    with open_sandbox([target.MODULE], "full") as sandbox:
        large, small = sandbox._of[True], sandbox._of[False]
        first = large._server
        assert printed(sandbox, True, oracle, checks) == "True"
        os.kill(inner(small._server.process.pid), signal.SIGKILL)
        assert printed(sandbox, False, oracle, checks) == "False"  # when this is told, the lost one's end has reached the other
        assert first.ended(5) and printed(sandbox, True, oracle, checks) == "True"
        assert first.closed and large.layers == small.layers and large.level == "full"


def test_the_small_one_is_lost_while_the_other_still_imports(oracle, checks):
    with open_sandbox([target.MODULE], "full") as sandbox:
        large, small = sandbox._of[True], sandbox._of[False]
        os.kill(inner(small._server.process.pid), signal.SIGKILL)
        assert printed(sandbox, True, oracle, checks) == "True" and not isinstance(large._server, Branch)


def test_nobody_waits_for_a_large_one_that_nobody_needed():
    """It would import for a second and more: its folder and it are gone as soon as the small one is."""
    with open_sandbox([target.MODULE], "full") as sandbox:
        branch, small = sandbox._of[True]._server, sandbox._of[False]
        servers = processes_of(small)
        assert not branch.serves
    assert not os.path.exists(branch.folder) and not os.path.exists(small._server.folder)
    until = time.monotonic() + 1.0  # a process that is being killed may be seen for a moment
    while any(started_in(pid, [small._server.folder]) for pid in servers) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(started_in(pid, [small._server.folder]) for pid in servers)


def printed(sandbox, late, oracle, checks):
    """Whether the process that serves a file with (late) or without `import scipy.signal` had it loaded: "True" or "False"."""
    check = checks[target.EXERCISE]
    attack = target.Attack("look", at_import=f"import scipy.signal\n{LOOK}" if late else LOOK)
    return sandbox.run(target.request(check, attack.source({}), oracle), seconds=20, memory_mb=check.memory_mb).printed.strip()


def inner(pid):
    """The fork server itself: for an ordinary user the process that was started only waits for it."""
    if os.geteuid() == 0:
        return pid
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return int(file.read().split()[0])


def started_in(pid, folders):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            line = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(folder.encode() in line for folder in folders)
