"""The grader's side: it outlives its servers, its threads and its children, and leaves nothing behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from autograder.sandbox.client import Sandbox
from autograder.sandbox.errors import SandboxError
from autograder.sandbox.executor import Reply
from autograder.sandbox.relay import relay
from autograder.sandbox.supervisor import CONFINED

from . import target
from .world import processes_of


HONEST = target.Attack("honest").source()
LOOPING = """
import sys, threading, time
sys.path.insert(0, {tests!r})
from attacks import target
from autograder.grading.oracle import Oracle
from autograder.sandbox.client import Sandbox
oracle, check = Oracle(target.MODULE, 1), target.checks()[target.EXERCISE]
sandbox = Sandbox([target.MODULE])
assert sandbox.level == "full"
check.seconds = 600
loop = target.Attack("loop", at_import="while True: pass").source()
threading.Thread(target=target.put, args=(check, loop, oracle, sandbox), daemon=True).start()
print(sandbox._server.folder, flush=True)
time.sleep(600)
"""

EIGHT_THREADS = """
import threading
for _ in range(8):
    threading.Thread(target=print).start()
return honest(logits)
"""
THREAD_BOMB = """
import threading, time
while True:
    try:
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    except RuntimeError:
        time.sleep(0.01)
"""


def until(condition, seconds=60.0):  # a busy machine may need it; a quiet one takes a fraction of a second
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def passes(sandbox, oracle, checks):
    return target.put(checks[target.HONEST[0]], HONEST, oracle, sandbox).status == "passed"


def test_a_server_lost_is_replaced_and_nothing_is_left_at_the_end(oracle, checks):
    with Sandbox([target.MODULE]) as sandbox:
        assert passes(sandbox, oracle, checks)
        lost = processes_of(sandbox)
        sandbox._server.process.kill()
        assert passes(sandbox, oracle, checks)
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in lost))
        folder = Path(sandbox._server.folder)
        assert folder.is_dir()
    assert not folder.exists()
    until(lambda: not processes_of(sandbox))


def test_a_server_outlives_the_thread_that_started_it(oracle, checks):
    """A parent-death signal comes when a thread ends, not when its process does."""
    made = []
    thread = threading.Thread(target=lambda: made.append(Sandbox([target.MODULE])))
    thread.start()
    thread.join()
    with made[0] as sandbox:
        server = sandbox._server.process.pid
        assert passes(sandbox, oracle, checks) and passes(sandbox, oracle, checks)
        assert sandbox._server.process.pid == server


def test_a_grader_that_is_killed_takes_all_with_it():
    """No child computes on when nobody will read its answer."""
    tests = str(Path(__file__).parents[1])
    grader = subprocess.Popen([sys.executable, "-c", LOOPING.format(tests=tests)], stdout=subprocess.PIPE, text=True)
    folder = grader.stdout.readline().strip()
    stand_in = SimpleNamespace(_server=SimpleNamespace(folder=folder))
    try:
        servers = 1 if os.geteuid() == 0 else 2
        until(lambda: len(processes_of(stand_in)) > servers, 60)
    finally:
        grader.kill()
        grader.wait()
        grader.stdout.close()
    until(lambda: not processes_of(stand_in))
    shutil.rmtree(folder)  # what only the grader itself would have removed


def test_honest_submissions_beside_hostile_ones(sandbox, oracle, checks):
    """Thread bombs, floods and loops in other children cost an honest one neither its points nor its threads."""
    threads = target.Attack("threads", EIGHT_THREADS).source()
    bomb = target.Attack("bomb", at_import=THREAD_BOMB, seconds=1.5)
    flood = target.Attack("flood", at_import="import os\nwhile True:\n    os.write(1, b'x' * 65536)", seconds=1.5)
    check = checks[target.EXERCISE]
    with ThreadPoolExecutor(5) as pool:
        hostile = [
            pool.submit(target.put, target.bounded(check, attack), attack.source(), oracle, sandbox)
            for attack in (bomb, bomb, flood, flood)
        ]
        time.sleep(0.3)
        honest = [target.put(check, threads, oracle, sandbox) for _ in range(4)]
    assert [verdict.status for verdict in honest] == ["passed"] * 4, honest
    assert {future.result().status for future in hostile} == {"timeout"}


def test_secrets_do_not_leave_by_any_word(sandbox, oracle, checks):
    """Under a secret seed nothing that learner code says is told: it could be a hidden input."""
    smuggled = "SMUGGLED"
    bodies = (
        "raise ValueError('SMUGGLED')",
        "raise type('SMUGGLED', (Exception,), {})('x')",
        "print('SMUGGLED')\nraise NotImplementedError('lesson 3: SMUGGLED')",
        "return 'SMUGGLED'",
        "return {'SMUGGLED': 1}",
        "import os\nprint('SMUGGLED', flush=True)\nos._exit(3)",
        "import linecache\nlinecache.getline = lambda *a: 'SMUGGLED'\nlinecache.cache.clear()\nraise KeyError",
        "exec(compile('\\n' * 40 + 'raise ValueError', 'SMUGGLED.py', 'exec'))",
        "raise ExceptionGroup('SMUGGLED', [ValueError('SMUGGLED')])",
        "raise SyntaxError('SMUGGLED', ('toy/word_agent.py', 3, 1, 'SMUGGLED', 3, 2))",
        "raise UnicodeDecodeError('SMUGGLED', b'SMUGGLED', 0, 1, 'SMUGGLED')",
    )
    for body in bodies:
        source = target.Attack("smuggler", body).source()
        verdict = target.put(checks[target.EXERCISE], source, oracle, sandbox, public=False)
        assert verdict.status != "passed"
        told = verdict.message
        for line in body.split("\n"):  # a line of the submission's own text may be shown: it was there before the inputs were
            told = told.replace(line.strip(), "")
        assert smuggled not in told, verdict


def test_a_signal_to_the_graders_group_is_the_graders(sandbox, oracle, checks):
    """Ctrl-C in a terminal goes to the whole group: the fork server is in a session of its own and does not end by it."""
    assert os.getsid(sandbox._server.process.pid) != os.getsid(0)
    os.kill(sandbox._server.process.pid, signal.SIGINT)
    assert passes(sandbox, oracle, checks)


# The relay, on pipes of the tests' own


def relayed(results, status, seconds=1.0):
    """What the grader makes of these bytes from a child and from the fork server."""
    results_in, results_out = os.pipe()
    printed_in, printed_out = os.pipe()
    mine, theirs = socket.socketpair()
    try:
        os.write(results_out, results)
        if status is not None:
            theirs.send(json.dumps(status).encode())
        theirs.close()
        os.close(results_out)
        os.close(printed_out)
        return relay(results_in, printed_in, mine, seconds)
    finally:
        for end in (results_in, printed_in):
            os.close(end)
        mine.close()


EXITED, KILLED = {"exited": True, "detail": "it called exit (code 97)"}, {"exited": False, "detail": "ended by SIGKILL"}


def test_only_a_child_that_was_never_confined_is_a_refusal():
    assert relayed(b"", EXITED).outcome == "refused"
    assert relayed(CONFINED, EXITED).outcome == "crashed"
    assert relayed(CONFINED + b"x", KILLED).stream == b"x"
    with pytest.raises(EOFError):  # killed before it was confined: tried again
        relayed(b"", KILLED)
    with pytest.raises(EOFError):  # the server is gone
        relayed(CONFINED + b"x", None)


def test_a_refusal_stops_the_grader(monkeypatch, sandbox, oracle, checks):
    """If the sandbox cannot be closed around a child nothing is graded, rather than graded unprotected."""
    monkeypatch.setattr(
        sandbox,
        "_exchange",
        lambda *_: Reply("refused", b"", "PermissionError: landlock", "the sandbox could not be closed around it"),
    )
    with pytest.raises(SandboxError, match="could not be closed around it: PermissionError: landlock"):
        target.put(checks[target.EXERCISE], HONEST, oracle, sandbox)


def test_closed_in_the_middle_of_checks_it_stays_closed(oracle, checks):
    """Ctrl-C: the checks under way lose their server, and none of them may start another."""
    check = checks[target.EXERCISE]
    loop = target.Attack("loop", at_import="while True: pass").source()
    with Sandbox([target.MODULE]) as sandbox:
        assert sandbox.level == "full"
        alone = processes_of(sandbox)
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(target.put, check, loop, oracle, sandbox) for _ in range(4)]
            until(lambda: len(processes_of(sandbox)) > len(alone))
            sandbox.close()
        ends = [future.exception() for future in running]
        assert all(end is None or isinstance(end, SandboxError) for end in ends), ends
        assert sandbox._server.process.poll() is not None and not os.path.exists(sandbox._server.folder)
