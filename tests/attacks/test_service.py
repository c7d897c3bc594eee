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

import pytest

from autograder.sandbox import jail, landlock, scratch
from autograder.sandbox.client import Sandbox
from autograder.sandbox.errors import SandboxError
from autograder.sandbox.relay import relay
from autograder.sandbox.spawned import SpawnedWorkers
from autograder.sandbox.supervisor import CONFINED

from . import exits, forging, target
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
print(sandbox._folder, flush=True)
time.sleep(600)
"""


def until(condition, seconds=10.0):
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
        sandbox._process.kill()
        assert passes(sandbox, oracle, checks)
        until(lambda: not lost & processes_of(sandbox))
        folder = Path(sandbox._folder)
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
        server = sandbox._process.pid
        assert passes(sandbox, oracle, checks) and passes(sandbox, oracle, checks)
        assert sandbox._process.pid == server


def test_a_grader_that_is_killed_takes_all_with_it():
    """No child computes on when nobody will read its answer."""
    tests = str(Path(__file__).parents[1])
    grader = subprocess.Popen([sys.executable, "-c", LOOPING.format(tests=tests)], stdout=subprocess.PIPE, text=True)
    folder = grader.stdout.readline().strip()
    stand_in = type("Sandbox", (), {"_folder": folder})
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
    threads = target.Attack("threads", "import threading\nfor _ in range(8):\n    threading.Thread(target=print).start()\nreturn honest(logits)").source()
    bomb = target.Attack("bomb", at_import="import threading, time\nwhile True:\n    try:\n        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n    except RuntimeError:\n        time.sleep(0.01)", seconds=1.5)
    flood = target.Attack("flood", at_import="import os\nwhile True:\n    os.write(1, b'x' * 65536)", seconds=1.5)
    check = checks[target.EXERCISE]
    with ThreadPoolExecutor(5) as pool:
        hostile = [pool.submit(target.put, target.bounded(check, attack), attack.source(), oracle, sandbox) for attack in (bomb, bomb, flood, flood)]
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


# Level `process`, as on macOS and Windows


@pytest.fixture(scope="module")
def spawned():
    workers = SpawnedWorkers([target.MODULE])
    yield workers
    workers.close()
    assert not [worker for worker in workers._all if worker.process.poll() is None]


@pytest.mark.slow
def test_workers_serve_one_submission_each(spawned, oracle, checks):
    """Nothing but processes of their own keeps submissions apart there: one that breaks its process breaks no other's answers."""
    spoiler = target.Attack("spoiler", at_import="import numpy\ntorch.softmax = torch.log_softmax = numpy.cumsum = None").source()
    check = checks["policy_loss"]
    assert target.put(check, spoiler, oracle, spawned).status == "error"
    assert target.put(check, HONEST, oracle, spawned).status == "passed"
    first = [worker.process.pid for worker in spawned._all]
    assert target.put(check, HONEST, oracle, spawned).status == "passed"
    assert [worker.process.pid for worker in spawned._all] == first  # and that of the same submission is used again


@pytest.mark.slow  # a new worker imports torch
@pytest.mark.parametrize("attack", [a for family in (exits, forging) for a in family.ATTACKS if a.name in (
    "exit-code-97-at-import", "loop-at-import", "segfault-at-import", "claims-of-right-answers", "results-closed", "deep-nesting", "recursion",
)], ids=lambda attack: attack.name)  # fmt: skip
def test_the_grader_outlives_broken_workers(attack, spawned, oracle, checks):
    verdict = target.put(target.bounded(checks[target.EXERCISE], attack), attack.source(), oracle, spawned)
    assert verdict.status != "passed"
    assert target.put(checks[target.HONEST[0]], HONEST, oracle, spawned).status == "passed"


@pytest.mark.slow
def test_a_worker_that_reads_no_more_does_not_hold_the_grader(spawned, oracle, checks):
    """A thread left in the worker keeps the interpreter's lock; the next request is larger than a pipe holds."""
    left = "import ctypes, threading, time\nthreading.Thread(target=lambda: (time.sleep(0.3), ctypes.PyDLL(None).sleep(60)), daemon=True).start()"
    source = target.Attack("left", at_import=left + "\n" + "#" * 500_000).source()
    limited = target.bounded(checks[target.HONEST[0]], target.Attack("limit", seconds=1.0))
    assert target.put(limited, source, oracle, spawned).status == "passed"
    time.sleep(0.5)
    started = time.monotonic()
    assert target.put(limited, source, oracle, spawned).status in ("crashed", "timeout")
    assert time.monotonic() - started < 10


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
    from autograder.sandbox.executor import Reply

    monkeypatch.setattr(sandbox, "_exchange", lambda *_: Reply("refused", b"", "PermissionError: landlock", "the sandbox could not be closed around it"))
    with pytest.raises(SandboxError, match="could not be closed around it: PermissionError: landlock"):
        target.put(checks[target.EXERCISE], HONEST, oracle, sandbox)


# What a child may read


def test_a_course_among_the_libraries_is_left_out(tmp_path, monkeypatch):
    """As after `pip install .`: solutions and checks lie in site-packages, beside what has to be read."""
    site = tmp_path / "lib" / "site-packages"
    for name in ("torch/a.py", "solutions/toy/x.py", "autograder/checks/x.py", "lessons/x.toml", "numpy.py"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("text")
    monkeypatch.setattr(jail, "ROOT", str(site))
    monkeypatch.setattr(jail, "library_folders", lambda: [str(tmp_path / "lib")])
    readable, unreadable = {"torch/a.py", "numpy.py"}, {"solutions/toy/x.py", "autograder/checks/x.py", "lessons/x.toml"}
    whole, listed = jail.readable()
    assert str(site) in listed and not [path for path in whole if site == Path(path) or Path(path) in site.parents]

    def confined():
        from autograder.sandbox import kernel

        rules = landlock.ruleset(whole, listed, [])
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        landlock.enforce(rules)
        assert all((site / name).read_text() for name in readable)
        for name in unreadable:
            with pytest.raises(PermissionError):
                (site / name).read_text()

    assert landlock.abi() > 0 and jail.works(confined)


def test_libraries_do_not_hold_the_course_or_people(sandbox):
    """Neither /usr as a whole, where containers keep their work in /usr/src, nor any folder above this course."""
    folders = jail.library_folders()
    for place in ("/usr/src", "/usr/local/share", "/home", "/root", "/tmp", "/opt", "/srv", "/var", "/etc", jail.ROOT):
        assert not [folder for folder in folders if (place + "/").startswith(folder.rstrip("/") + "/")], place


# Folders for children without a root of their own


def test_a_folder_is_full_by_bytes_entries_and_depth(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "BYTES", 1 << 20)
    monkeypatch.setattr(scratch, "ENTRIES", 50)
    folder = Path(scratch.make(str(tmp_path), "1", None))
    assert not scratch.too_full(str(folder)) and folder.stat().st_mode & 0o777 == 0o700
    (folder / "sparse").touch()
    os.truncate(folder / "sparse", 1 << 30)
    assert not scratch.too_full(str(folder))  # it takes no room
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "large").write_bytes(os.urandom(2 << 20))
    assert scratch.too_full(str(folder))
    (folder / "a" / "b" / "large").unlink()
    for index in range(60):
        (folder / "a" / str(index)).touch()
    assert scratch.too_full(str(folder))
    scratch.remove(str(folder))
    assert not folder.exists()


def test_folders_too_deep_to_be_named_are_full_and_are_removed(tmp_path):
    folder = scratch.make(str(tmp_path), "1", None)

    def dig():
        os.chdir(folder)
        for _ in range(100):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
        Path("hidden").write_text("x")

    assert jail.works(dig)
    assert scratch.too_full(folder)
    scratch.remove(folder)
    assert not os.path.exists(folder)


def test_links_in_a_folder_are_removed_and_not_followed(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    folder = Path(scratch.make(str(tmp_path), "1", None))
    (folder / "inner").mkdir()
    for link in (folder / "link", folder / "inner" / "link"):
        link.symlink_to(kept)
    scratch.remove(str(folder))
    assert not folder.exists() and (kept / "file").read_text() == "x"


def test_a_signal_to_the_graders_group_is_the_graders(sandbox, oracle, checks):
    """Ctrl-C in a terminal goes to the whole group: the fork server is in a session of its own and does not end by it."""
    assert os.getsid(sandbox._process.pid) != os.getsid(0)
    os.kill(sandbox._process.pid, signal.SIGINT)
    assert passes(sandbox, oracle, checks)
