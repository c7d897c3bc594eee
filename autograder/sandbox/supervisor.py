"""One supervisor a check: reads the request, forks the confined child, relays its bytes up to a cap, ends it on time, reports."""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
import sys
import time

from . import jail, kernel, limits
from .messages import receive, send
from .wire import MAX_BYTES

PRINTED_BYTES = 8192  # of what learner code prints; the rest is read and thrown away
REFUSED_EXIT = 97  # the child could not be confined, so nothing was run


def supervise(line: socket.socket, plan: limits.Plan) -> None:
    """Serves one request on `line`: length, options (JSON), length, request -> length, report (JSON), length, output."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    options = json.loads(receive(line))
    request = receive(line)
    started = time.monotonic()
    if plan.has("pid-namespace"):
        kernel.unshare(kernel.CLONE_NEWPID)
    if plan.has("own-root"):
        jail.mount_scratch()
    result_in, result_out = os.pipe()
    printed_in, printed_out = os.pipe()
    uid = limits.FIRST_UID + os.getpid()
    child = os.fork()
    if child == 0:
        _child(line, plan, options, request, result_out, printed_out, uid)
    os.close(result_out)
    os.close(printed_out)
    deadline = started + options["seconds"]
    outcome, output, printed = _relay(line, child, result_in, printed_in, deadline)
    os.kill(child, signal.SIGKILL)
    if not plan.has("pid-namespace"):
        _kill_group(child)
    _, status = os.waitpid(child, 0)
    report = {"outcome": outcome, "detail": "", "printed": printed.decode("utf-8", "replace"), "seconds": time.monotonic() - started}
    if outcome == "ended":
        report["outcome"], report["detail"] = _how_it_ended(output, status)
    send(line, json.dumps(report).encode())
    send(line, bytes(output))


def _child(line, plan, options, request, result_out, printed_out, uid):
    """Never returns. Until `confine` is through, this is still our code; after it, nothing here is trusted."""
    code = REFUSED_EXIT
    try:
        line.close()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(printed_out, 1)
        os.dup2(printed_out, 2)
        os.dup2(result_out, 3)
        os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
        os.chdir(plan.scratch)
        os.environ.update({"HOME": plan.scratch, "TMPDIR": plan.scratch, "MPLCONFIGDIR": plan.scratch})
        os.umask(0o077)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        limits.confine(plan, options["seconds"], options["memory_mb"], uid)
        code = 1
        from .child import serve

        serve(request, lambda data: _write_all(3, data))
        code = 0
    except BaseException as error:
        if code == REFUSED_EXIT:
            os.write(2, f"{type(error).__name__}: {error}".encode()[:300])
    finally:
        os._exit(code)


def _relay(line, child, result_in, printed_in, deadline):
    """Bytes from the child until it closes its end, the cap, the deadline, or the grader's hanging up."""
    output, printed, outcome = bytearray(), bytearray(), "ended"
    with selectors.DefaultSelector() as selector:
        for source in (result_in, printed_in, line):
            selector.register(source, selectors.EVENT_READ)
        result_open = True
        while result_open:
            left = deadline - time.monotonic()
            if left <= 0:
                return "timeout", output, printed
            for key, _ in selector.select(left):
                if key.fileobj is line:  # the grader never speaks twice: it hung up
                    os.kill(child, signal.SIGKILL)
                    os._exit(0)
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fileobj)
                    result_open = result_open and key.fd != result_in
                elif key.fd == result_in:
                    output += data
                    if len(output) > MAX_BYTES:
                        return "flooded", output[:0], printed
                else:
                    printed += data[: PRINTED_BYTES - len(printed)]
    while len(printed) < PRINTED_BYTES and _readable(printed_in):
        data = os.read(printed_in, PRINTED_BYTES - len(printed))
        if not data:
            break
        printed += data
    return outcome, output, printed


def _readable(descriptor: int) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(0))


def _how_it_ended(output: bytearray, status: int) -> tuple[str, str]:
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == REFUSED_EXIT and not output:
        return "refused", "the sandbox could not be closed around it"
    if output.endswith(b'{"done": true}'):
        return "finished", ""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        meaning = {"SIGSEGV": "a memory fault", "SIGXCPU": "out of processor time", "SIGXFSZ": "a file too large"}.get(name, "")
        return "crashed", f"ended by {name}" + (f" ({meaning})" if meaning else "")
    return "crashed", f"it called exit (code {os.WEXITSTATUS(status)})"


def _kill_group(child: int) -> None:
    try:
        os.killpg(child, signal.SIGKILL)  # the child leads a session of its own
    except (ProcessLookupError, PermissionError):
        pass


def unreadable_libraries(plan: limits.Plan) -> str:
    """A note if a child with another user could not read Python's own files (a Python below /root, say)."""
    for folder in jail.library_folders():
        path = folder
        while path != "/":
            if not os.stat(path).st_mode & 0o001:
                return f"{path} is closed to other users, so late imports fail: install Python elsewhere or grade as an ordinary user"
            path = os.path.dirname(path)
    return ""


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
