"""The toy track's two fork servers: each is as closed as one alone, and both are gone at the end."""

import os

from autograder.sandbox import open_sandbox
from autograder.sandbox.late import Apart

from . import target
from .world import processes_of

LOOK = "import sys; print('scipy.signal' in sys.modules)"


def test_both_are_full_each_gets_its_own_and_none_is_left(oracle, checks):
    with open_sandbox([target.MODULE], "full") as sandbox:
        assert isinstance(sandbox, Apart) and sandbox.level == "full"
        large, small = sandbox._of[True], sandbox._of[False]
        assert large.layers == small.layers == sandbox.layers
        check = checks[target.EXERCISE]
        for text, loaded in ((LOOK, "False"), (f"import scipy.signal\n{LOOK}", "True")):
            attack = target.Attack("look", at_import=text)
            reply = sandbox.run(target.request(check, attack.source({}), oracle), seconds=20, memory_mb=check.memory_mb)
            assert reply.printed.strip() == loaded
        folders = [large._server.folder, small._server.folder]
        running = {pid for pid in processes_of(large) | processes_of(small) if started_in(pid, folders)}
    assert len(running) >= 2 and not any(started_in(pid, folders) for pid in running)
    assert not any(map(os.path.exists, folders))


def started_in(pid, folders):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            line = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(folder.encode() in line for folder in folders)
