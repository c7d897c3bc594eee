"""The fork server: a process of its own that imports torch once, knows no answers, and forks one supervised child a check.

Started as `python -I zygote.py`, with a control socket as file descriptor 3. Each message on it carries one socket, over which
one request comes and one reply goes; the fork server itself reads neither, so nothing of one submission stays in its memory for
the next. It enters its namespaces before any import that could start a thread, and its jail after the libraries are loaded.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
from pathlib import Path

CONTROL = 3
ROOT = Path(__file__).resolve().parent.parent.parent
KEPT_VARIABLES = ("LANG", "TZ")


def main() -> None:
    options = json.loads(sys.argv[1])
    sys.path.insert(0, str(ROOT))
    from autograder.sandbox import jail, kernel, landlock, limits, seccomp, supervisor

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the grader's to handle; it closes the control socket
    layers, refused = [], ""
    strict = options["level"] == "full" and sys.platform == "linux"
    if strict:
        layers += jail.enter_namespaces()
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    preload(options["probes"], options["libraries"])
    if strict:
        if "mount-namespace" in layers:
            try:
                jail.enter_jail(options["empty_folder"])
                layers.append("own-root")
            except OSError as error:
                refused = f"no root of its own ({error})"
        layers += ["rlimits", "no_new_privs", "capabilities"]
        layers += ["landlock"] if landlock.abi() else []
        layers += ["landlock-scopes"] if landlock.abi() >= 6 else []
        layers += ["seccomp"] if seccomp.available() else []
        layers += ["pid-namespace"] if "network-namespace" in layers else []
        layers += ["uid-drop"] if os.geteuid() == 0 and "user-namespace" not in layers else []
        if os.geteuid() != 0:
            layers.append("unprivileged")
    else:
        layers += ["rlimits"] if os.name == "posix" else []
    forget_the_course()
    scratch = jail.SCRATCH if "own-root" in layers else options["scratch"]
    plan = limits.Plan(layers, [*jail.readable()] if strict else [], scratch, address_space())
    if "own-root" not in layers and "uid-drop" in layers:
        refused = refused or supervisor.unreadable_libraries(plan)
    control = socket.socket(fileno=CONTROL)
    ready = {"layers": layers, "level": limits.level_of(layers), "note": refused, "python": sys.version.split()[0]}
    control.send(json.dumps(ready).encode())
    serve(control, plan)


def preload(probes: list[str], libraries: list[str]) -> None:
    """Imports what every child would import: torch with one thread, the given code, the probes, the libraries of the lessons."""
    import torch

    torch.set_num_threads(1)  # a thread pool does not survive a fork
    torch.set_num_interop_threads(1)
    from autograder.sandbox import compiler

    compiler.postpone()
    for track in sorted({name.split(".")[0] for name in probes}):
        given = importlib.import_module(track + ".given")
        for module in pkgutil.iter_modules(given.__path__):
            importlib.import_module(f"{track}.given.{module.name}")
    for name in probes:
        importlib.import_module("autograder.probes." + name)
    for name in libraries:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # not installed, or a name that is no module: the learner's file will say so itself
    warm_up()


def warm_up() -> None:
    """Does once what every child would do for the first time: lazy imports, first backward pass, first optimizer step."""
    import numpy as np
    import torch

    from autograder.sandbox import child, wire

    child.seed_everything(0)
    values = child.as_torch(wire.decode(wire.encode({"x": np.ones((2, 3))})))
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).double()
    optimizer = torch.optim.Adam(model.parameters())
    torch.nn.functional.cross_entropy(model(values["x"]), torch.tensor([0, 1])).backward()
    optimizer.step()
    optimizer.zero_grad()
    torch.multinomial(torch.ones(3), 2, generator=torch.Generator().manual_seed(0))
    wire.encode({"x": values["x"]})
    try:
        raise ValueError("a traceback loads linecache")
    except ValueError as error:
        child.describe_exception(error, [])


def forget_the_course() -> None:
    """Takes the course's folder out of the import path, and everything but two variables out of the environment."""
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
    sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
    sys.path_hooks[:] = [hook for hook in sys.path_hooks if "editable" not in getattr(hook, "__module__", "")]
    sys.path_importer_cache.clear()
    sys.argv[:] = ["climb"]
    for name in list(os.environ):
        if name not in KEPT_VARIABLES:
            del os.environ[name]


def address_space() -> int:
    """Bytes of address space in use: the child's limit is counted from here. 0 where it cannot be told."""
    try:
        import resource

        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except (OSError, ImportError):
        return 0


def serve(control: socket.socket, plan) -> None:
    from autograder.sandbox import supervisor

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors are reaped by the kernel
    gc.collect()
    gc.freeze()  # the children's collector leaves these pages alone, and so they stay shared
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 16, 1)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            try:
                control.close()
                supervisor.supervise(socket.socket(fileno=descriptors[0]), plan)
            finally:
                os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


if __name__ == "__main__":
    main()
