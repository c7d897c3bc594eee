"""Where learner code runs. `open_sandbox` is the grader's way in."""

from __future__ import annotations

from typing import Callable


def open_sandbox(
    probes: list[str],
    level: str | None = None,
    libraries: Callable[[list[str]], list[str]] | None = None,
    backend: str | None = None,
    server=None,
):
    """The best sandbox of this machine; with a `level`, at least that one or SandboxError (grading fails closed).

    `libraries`: tells what to import beforehand for these modules, if not what their solutions import. Imports nothing heavy
    itself: the fork server does that in a process of its own, while the caller goes on. Probes of several tracks get a fork
    server a track, and the toy track's two (see `late`).
    `backend`: bwrap, docker or runsc, to have the fork server within one of these as well (see `backends`).
    `server`: a `server.Server` that is starting already; taken if it fits, else left to its owner.
    """
    import sys

    from .errors import SandboxError
    from .tracks import Tracks, track_of

    if sys.platform != "linux" and level == "full":
        raise SandboxError(f"no full sandbox on {sys.platform}: grade on Linux, WSL2 or in Docker, or pass --sandbox process")

    asked = level or "full"

    def started(of_one_track: list[str]):
        wanted = None if libraries is None else libraries(of_one_track)
        if backend is not None:
            from .backends import Contained

            return Contained(backend, of_one_track, asked, wanted)
        if sys.platform != "linux":
            from .spawned import SpawnedWorkers

            return SpawnedWorkers(of_one_track, wanted)
        from .client import Sandbox
        from .late import Apart, split
        from .server import fitting

        small, late = split(of_one_track, wanted)
        if not late:
            return Sandbox(of_one_track, asked, small, server)
        trunk = fitting(server, asked)
        try:
            parts = {True: trunk.branch(late), False: trunk}
            return Apart(of_one_track, late, lambda large: Sandbox(of_one_track, asked, small + late * large, parts[large]))
        except BaseException:
            trunk.close()
            raise

    sandbox = Tracks(probes, started) if len(set(map(track_of, probes))) > 1 else started(probes)
    if level != "full":
        return sandbox
    try:
        reached, layers, note = sandbox.level, ", ".join(sandbox.layers), sandbox.note
    except SandboxError:
        sandbox.close()
        raise
    if reached != "full":
        sandbox.close()
        raise SandboxError(
            f"the sandbox here is not full (active: {layers}{'; ' + note if note else ''}); pass --sandbox process to accept that"
        )
    return sandbox
