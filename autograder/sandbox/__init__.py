"""Where learner code runs. `open_sandbox` is the grader's way in."""

from __future__ import annotations


def open_sandbox(probes: list[str], level: str | None = None, libraries: list[str] | None = None):
    """The best sandbox of this machine; with a `level`, at least that one or SandboxError (grading fails closed).

    `libraries`: what to import beforehand, if not what the solutions import. Imports nothing heavy itself: the fork server does that in a process of its own, while the caller goes on.
    """
    import sys

    from .errors import SandboxError

    if sys.platform != "linux":
        from .spawned import SpawnedWorkers

        if level == "full":
            raise SandboxError(f"no full sandbox on {sys.platform}: grade on Linux, WSL2 or in Docker, or pass --sandbox process")
        return SpawnedWorkers(probes, libraries)
    from .client import Sandbox

    sandbox = Sandbox(probes, level or "full", libraries)
    if level != "full":
        return sandbox
    try:
        reached, layers, note = sandbox.level, ", ".join(sandbox.layers), sandbox.note
    except SandboxError:
        sandbox.close()
        raise
    if reached != "full":
        sandbox.close()
        raise SandboxError(f"the sandbox here is not full (active: {layers}{'; ' + note if note else ''}); pass --sandbox process to accept that")
    return sandbox
