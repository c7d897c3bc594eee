"""The fork server: a process of its own that imports torch once, knows no answers, and forks one supervised child a check.

Started as `python -I zygote.py`, with a control socket as file descriptor 3. It enters its namespaces before any import that could
start a thread, loads the libraries, enters its jail, and then serves (see `supervisor`).
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
    layers: list[str] = []
    note = ""
    strict = options["level"] == "full" and sys.platform == "linux"
    if strict:
        own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)
        layers += jail.enter_namespaces()
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    preload(options["probes"], options["libraries"])
    base_bytes = address_space()
    if strict:
        if "mount-namespace" in layers:
            try:
                jail.enter_jail(options["empty_folder"])
                layers.append("own-root")
            except OSError as error:
                note = f"no root of its own ({error})"
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
    plan = limits.Plan(layers, jail.SCRATCH if "own-root" in layers else options["scratch"], base_bytes=base_bytes)
    if "landlock" in layers:
        writable = jail.SCRATCH_HOLDER if "own-root" in layers else options["scratch"]
        plan.ruleset = landlock.ruleset(jail.readable(), [writable, "/dev/null"])
    if "uid-drop" in layers and "own-root" not in layers:
        note = note or supervisor.unreadable_libraries()
    control = socket.socket(fileno=CONTROL)
    ready = {"layers": layers, "level": limits.level_of(layers), "note": note, "python": sys.version.split()[0]}
    control.send(json.dumps(ready).encode())
    gc.collect()
    gc.freeze()  # the children's collector leaves these pages alone, and so they stay shared
    supervisor.Supervisor(control, plan, own_pid_namespace if "pid-namespace" in layers else None).loop()


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


if __name__ == "__main__":
    main()
