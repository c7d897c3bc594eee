"""A batch over the workers of a Dask cluster: on this machine, or wherever a running scheduler has them (SSH, Slurm, Kubernetes).

A worker gets text, seed and a hash of the checks, starts a sandbox of its own, and sends back a result; it writes nothing.
Student code runs in the sandbox's children, never in the worker. Journal and results stay with the command that was started. A
worker that is lost costs what it was doing, which another one does again; without a scheduler the rest is given back.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Callable, Iterator

from autograder.course import CourseError
from autograder.sandbox.errors import SandboxError

from .batch import Graded, Inline, Journal, checks_hash, enter, unit_key
from .submissions import Submission

CONNECT = 15.0  # seconds within which a scheduler must answer
PATIENCE = 90.0  # seconds without any worker before the rest is graded here: a job queue may take its time to start one
LOST_WORKERS = 3  # times a submission may lose its worker before it is graded here


class ClusterError(CourseError):
    """No cluster can be had: one line that says why and what to do."""


@dataclass(frozen=True)
class Order:
    """What all submissions of a batch share, as it travels to the workers. The seed is secret: the cluster must be one's own."""

    root: str  # the course's folder; a worker that does not see it takes the course its own package belongs to
    exercises: tuple[str, ...]  # ids
    questions: tuple[str, ...]  # folders of the lessons whose written questions are marked
    seed: int
    checks: str  # as this machine counts them: a worker with another version of the course must not grade
    level: str  # of the sandbox, at least
    backend: str | None = None  # around it


@contextlib.contextmanager
def cluster(scheduler: str | None, jobs: int) -> Iterator[Any]:
    """A connection to the scheduler at this address, or to workers on this machine, one a job. Raises ClusterError."""
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ClusterError("--executor dask needs the packages dask and distributed: pip install 'climb-course[dask]'") from None
    for name in ("distributed", "distributed.client", "distributed.scheduler", "distributed.nanny", "distributed.worker"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what is lost is told once, by us
    with contextlib.ExitStack() as stack:
        try:
            if scheduler is None:
                local = LocalCluster(
                    n_workers=jobs,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address=None,
                    memory_limit=None,  # a sandbox has limits of its own
                    silence_logs=logging.CRITICAL,
                )
                stack.enter_context(local)
            client = Client(local if scheduler is None else scheduler, timeout=CONNECT)
        except (OSError, ValueError, RuntimeError, TimeoutError) as error:
            why = " ".join(str(error).split())[:120] or type(error).__name__
            raise ClusterError(f"--scheduler: no Dask scheduler answers at {scheduler or 'this machine'} ({why})") from None
        stack.callback(_closed, client)
        yield client


def _closed(client) -> None:
    with contextlib.suppress(Exception):  # a scheduler that is gone cannot be said goodbye to
        client.close(timeout=5)


def grade_spread(
    client: Any,
    order: Order,
    submissions: list[Submission],
    out: Path,
    done: Callable[[str], None],
    part: str,
    graded: Graded,
    tell: Callable[[str], None],
) -> list[Submission]:
    """Grades the submissions on the cluster's workers into `out`, as `grade_all` does here; returns those left to be done.

    Raises SandboxError and ClusterError where a worker cannot grade at all, OSError where nothing can be written.
    """
    journal = Journal(out, part)
    waiting = {
        client.submit(grade_there, order, one, key=f"{one.name}-{order.checks[:12]}-{time.time_ns()}", pure=False): one
        for one in submissions
    }
    lost: dict[str, int] = {}
    left: list[Submission] = []
    worked = time.monotonic()
    try:
        while waiting:
            ready = [future for future in waiting if future.status in ("finished", "error", "cancelled", "lost")]
            for future in ready:
                one = waiting.pop(future)
                try:
                    reply = future.result(timeout=CONNECT)
                except Exception as error:
                    if type(error).__name__ == "KilledWorker" and lost.get(one.name, 0) < LOST_WORKERS:
                        lost[one.name] = lost.get(one.name, 0) + 1
                        waiting[client.submit(grade_there, order, one, pure=False)] = one
                    elif isinstance(error, (ImportError, AttributeError)):
                        raise ClusterError(
                            f"a worker has no course to grade with ({error}): install the same version there"
                        ) from None
                    else:
                        left.append(one)
                    continue
                _take(reply, one, order, journal, graded)
                worked = time.monotonic()
                done(one.name)
            if client.status != "running" or any(future.status in ("cancelled", "lost") for future in waiting):
                tell(f"the scheduler went away with {len(waiting) + len(left)} left: these are graded here")
                return [*left, *waiting.values()]
            if not ready:
                if time.monotonic() - worked > PATIENCE and not _workers(client):
                    tell(f"the scheduler has had no worker for {PATIENCE:.0f} s: what is left is graded here")
                    return [*left, *waiting.values()]
                time.sleep(0.1)
    finally:
        with contextlib.suppress(Exception):
            client.cancel(list(waiting), force=True)
    if left:
        tell(f"{len(left)} could not be graded on the cluster: these are graded here")
    return left


def _workers(client) -> int:
    try:
        return len(client.scheduler_info(n_workers=-1)["workers"])
    except Exception:  # the connection is going: the caller's next look at its status tells
        return 1


def _take(reply: dict, one: Submission, order: Order, journal: Journal, graded: Graded) -> None:
    if "refused" in reply:
        raise SandboxError(f"a worker cannot grade: {reply['refused']}")
    if "other" in reply:
        raise ClusterError(f"a worker on {reply['other']} has another version of the course: install the same one there")
    if "failure" in reply:
        graded.failures[one.name] = reply["failure"]
        return
    key = unit_key(one, order.checks, order.seed, reply["result"]["sandbox"])
    enter(journal, one, reply["result"], key, order.checks, graded)


# What follows runs in a worker.

_lock = Lock()
_graders: dict[Order, Any] = {}


def grade_there(order: Order, submission: Submission) -> dict[str, Any]:
    """One submission's result, or why there is none: `refused` by the sandbox, an `other` course, a `failure` of the grader."""
    import socket

    try:
        with _lock:
            grader, exercises, questions = _grader(order)
    except SandboxError as error:
        return {"refused": f"{error} (on {socket.gethostname()})"}
    if grader is None:
        return {"other": socket.gethostname()}
    try:
        return {"result": grader.grade(submission, exercises, Inline(), questions)}
    except (SandboxError, OSError, CancelledError) as error:
        _graders.pop(order, None)  # a sandbox that broke: the next submission gets a new one
        raise RuntimeError(f"{type(error).__name__}: {error}"[:200]) from None
    except Exception as error:
        return {"failure": f"{type(error).__name__}: {error}"[:200]}


def _grader(order: Order) -> tuple:
    """The grader of this worker for a batch, made once."""
    if order in _graders:
        return _graders[order]
    from autograder import course as courses
    from autograder import reference
    from autograder.sandbox import open_sandbox

    from .grade import Grader

    root = Path(order.root)
    course = courses.load(root if root.is_dir() else reference.ROOT)
    by_id = {exercise.id: exercise for exercise in course.exercises}
    exercises = [by_id[id] for id in order.exercises if id in by_id]
    questions = [lesson for lesson in course.lessons if lesson.folder.name in order.questions and not lesson.silent_bug]
    if len(exercises) != len(order.exercises) or checks_hash(course, exercises, questions) != order.checks:
        return None, [], []
    modules = sorted({exercise.lesson.module for exercise in exercises})
    sandbox = open_sandbox(modules, "full" if order.level == "full" else None, backend=order.backend)
    sandbox.__enter__()
    atexit.register(sandbox.close)
    grader = Grader(course, sandbox, order.seed, jobs=1)
    grader.prepare(exercises)
    grader.verdicts = {}
    _graders[order] = grader, exercises, questions
    return _graders[order]
