"""The fork server: a process of its own that imports torch once, knows no answers, and forks one supervised child a check.

Started as `python -I zygote.py`, with a control socket as file descriptor 3. It enters its namespaces before any import that could
start a thread, imports torch, is told on the socket what else to load, loads it, enters its jail, and then serves (see `supervisor`).
If it is handed a second socket it parts before the jail: a process forked from it loads the large libraries and serves that one.
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
ORDER_BYTES = 1 << 17  # which probes and libraries: a few hundred names
ROOT = Path(__file__).resolve().parent.parent.parent
KEPT_VARIABLES = ("LANG", "TZ")
GPT2 = "transformers.models.gpt2.modeling_gpt2"


def main() -> None:
    gc.disable()  # an import makes a hundred thousand objects that stay: looking through them again and again is a fifth of its time
    options = json.loads(sys.argv[1])
    sys.path.insert(0, str(ROOT))
    from autograder.sandbox import jail, limits, supervisor

    die_first()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the grader's to handle; it closes the control socket
    strict = options["level"] == "full" and sys.platform == "linux"
    layers = jail.enter_namespaces(options["empty_folder"]) if strict else []
    own_pid_namespace = jail.own_pid_namespace() if "pid-namespace" in layers else None
    import torch  # noqa: F401  whatever it is to serve will need that, and it takes longest

    control = socket.socket(fileno=CONTROL)
    message, sockets, _, _ = socket.recv_fds(control, ORDER_BYTES, 1)
    if not message:
        return  # nobody wants it any more
    order = json.loads(message)
    preload(order["probes"], order["libraries"])
    if sockets:
        branch = socket.socket(fileno=sockets[0])
        if part("mount-namespace" in layers):
            control, options = branch, order["branch"]
            load(order["late"])
        else:
            branch.close()
    plan, note = limits.Plan(layers, options["scratch"], base_bytes=address_space()), ""
    if strict:
        note = close_in(plan, options["empty_folder"])
    else:
        layers.append("rlimits")
    forget_the_course()
    server = supervisor.Supervisor(control, plan, own_pid_namespace)
    if strict:
        plan.layers = server.layers_that_hold()
    ready = {"layers": plan.layers, "level": limits.level_of(plan.layers), "note": note, "python": sys.version.split()[0]}
    server.control.send(json.dumps(ready).encode())
    gc.freeze()  # the children's collector leaves these pages alone, and so they stay shared
    gc.enable()
    server.loop()


def part(mounts_are_own: bool) -> bool:
    """Forks the second server. True in it; the first goes on with a copy of its mounts, so that each can make a root for itself."""
    from autograder.sandbox import kernel

    parent = os.getpid()
    if os.fork():
        if mounts_are_own:
            kernel.unshare(kernel.CLONE_NEWNS)
        return False
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it has ended before this one asked to be told
    return True


def die_first() -> None:
    """Where memory runs out the kernel is to end a child, which is larger than this server, and not the grader. Children inherit it."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass  # no such file, or it may not be raised here: then the largest goes, as ever


def close_in(plan, empty_folder: str) -> str:
    """Moves into a root with the libraries alone and plans what each child will enter. Returns a note for the instructor, or ""."""
    from autograder.sandbox import jail, landlock, limits, supervisor

    note = ""
    with open("/proc/self/uid_map") as file:
        plan.uids = limits.users(file.read())
    if "mount-namespace" in plan.layers:
        try:
            jail.enter_jail(empty_folder)
            plan.layers.append("own-root")
            plan.scratch = jail.SCRATCH
        except OSError as error:
            note = f"no root of its own ({error})"
    if os.geteuid() != 0:
        plan.layers.append("unprivileged")
    elif "user-namespace" not in plan.layers:  # it may be root of a container that has no second user
        plan.layers.append("uid-drop" if plan.uids else "user-namespace")
    if plan.has("user-namespace"):  # in one of its own a child is nobody, and its threads are counted apart from other children's
        plan.layers.append("user-namespace-each")
    plan.layers += ["rlimits", "no_new_privs", "capabilities", "seccomp"]
    if landlock.abi():
        plan.readable = jail.readable()
        if plan.has("own-root"):
            plan.ruleset = plan.rules(jail.SCRATCH_HOLDER)
        plan.layers += ["landlock"] + (["landlock-scopes"] if landlock.abi() >= 6 else [])
    if plan.has("uid-drop") and not plan.has("own-root"):
        note = note or supervisor.unreadable_libraries()
    return note


def preload(probes: list[str], libraries: list[str]) -> None:
    """Imports what every child would import: torch with one thread, the given code, the probes, the libraries of the lessons."""
    import torch

    torch.set_num_threads(1)  # a thread pool does not survive a fork
    torch.set_num_interop_threads(1)
    from autograder.sandbox import compiler

    compiler.postpone()
    for track in sorted({"toy", *(name.split(".")[0] for name in probes)}):  # the full track's files import the toy track's
        given = importlib.import_module(track + ".given")
        for module in pkgutil.iter_modules(given.__path__):
            importlib.import_module(f"{track}.given.{module.name}")
    for name in probes:
        importlib.import_module("autograder.probes." + name)
    load(libraries)
    warm_up()


def load(libraries: list[str]) -> None:
    """Imports these, as far as they are there."""
    for name in libraries:
        try:
            importlib.import_module(name)
        except Exception:
            look_up(name)


def look_up(name: str) -> None:
    """What a library loads only when it is asked for, as `transformers` does: `from transformers import Seq2SeqTrainer`."""
    library, _, attribute = name.rpartition(".")
    try:
        getattr(importlib.import_module(library), attribute)
    except Exception:
        return  # not installed, no such thing, or not to be imported here: the learner's file will say so itself


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
    if GPT2 in sys.modules:
        warm_up_language_model()


def warm_up_language_model() -> None:
    """The same for the language models of the full track: one forward and backward pass, with a cache and without."""
    import torch

    gpt2 = sys.modules[GPT2]
    sizes = {"vocab_size": 5, "n_positions": 8, "n_embd": 4, "n_layer": 1, "n_head": 1, "bos_token_id": 0, "eos_token_id": 0}
    model = gpt2.GPT2LMHeadModel(gpt2.GPT2Config(**sizes))
    tokens, mask = torch.tensor([[1, 2, 3]]), torch.tensor([[0, 1, 1]])
    model(input_ids=tokens, attention_mask=mask, use_cache=False, logits_to_keep=1).logits.sum().backward()
    with torch.inference_mode():
        model(input_ids=tokens, attention_mask=mask, use_cache=True)


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
