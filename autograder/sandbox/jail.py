"""The fork server's view of the world, cut down before learner code is forked from it: namespaces, and a root with libraries only."""

from __future__ import annotations

import os
import signal
import site
import sys
import sysconfig
from typing import Callable

from . import kernel

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
COURSE = ("autograder", "solutions", "lessons", "toy", "full", "tests", ".git", ".climb")  # of ROOT: never to be read by a child

SCRATCH_HOLDER = "/scratch"  # what Landlock names: each child mounts a scratch folder of its own beneath it
SCRATCH = SCRATCH_HOLDER + "/work"
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/dev/full")


def enter_namespaces(empty_folder: str) -> list[str]:
    """Network, mount, IPC and PID namespaces for this process and all it forks; a user namespace first when not root.

    To be called while there is one thread. Returns the layers gained; an empty list where the kernel refuses any part of it, and
    then nothing has changed: some kernels give the namespaces and no right to mount in them, so a forked process tries it first.
    An ordinary user's process goes on as a child of the one that called: only so does it own the PID namespace it is in.
    """
    root = os.geteuid() == 0
    if not works(lambda: _rehearse(root, empty_folder)):
        return []
    _unshare(root)
    if not root:
        _go_on_as_child()
    return ([] if root else ["user-namespace"]) + ["network-namespace", "ipc-namespace", "mount-namespace", "pid-namespace"]


def works(step: Callable[[], object]) -> bool:
    """Whether `step` goes through in a forked process, which then ends: this one is left as it was."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            step()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def _unshare(root: bool) -> None:
    flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC
    if root:
        kernel.unshare(flags)
        return
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(flags | kernel.CLONE_NEWUSER | kernel.CLONE_NEWPID)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _rehearse(root: bool, empty_folder: str) -> None:
    """All that the fork server will ask of the kernel. Raises OSError where it is refused."""
    _unshare(root)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", empty_folder, "tmpfs", kernel.MS_NOSUID, "size=1m,mode=755")
    if not works(_fork_apart_twice):
        raise OSError("no PID namespaces within this one")


def _fork_apart_twice() -> None:
    own = own_pid_namespace()
    for _ in range(2):
        child = fork_apart(own)
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)


def own_pid_namespace() -> int:
    return os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)


def fork_apart(own: int) -> int:
    """Forks the first process of a new PID namespace: when it ends, the kernel ends all it started. `own`: `own_pid_namespace()`."""
    kernel.unshare(kernel.CLONE_NEWPID)  # holds for children to come, and may be asked for once ...
    child = os.fork()
    if child:
        kernel.setns(own, kernel.CLONE_NEWPID)  # ... unless it is taken back
    return child


def _go_on_as_child() -> None:
    """Forks the first process of the new PID namespace and goes on there; this process only waits, and ends as it does."""
    child = os.fork()
    if child == 0:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        return
    os.closerange(0, 4)  # the control socket is the child's alone: its end is how the grader sees the server's
    status = os.waitpid(child, 0)[1]
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def library_folders() -> list[str]:
    """What Python and its packages need to be read: the libraries of the interpreter's prefixes and of the system, not more.

    Not /usr or a prefix as a whole: people keep courses and submissions in /usr/src, or make a virtual environment around them.
    """
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.realpath(sys.base_prefix), "/", "/usr", "/usr/local"}
    folders = {os.path.join(prefix, name) for prefix in prefixes for name in ("lib", "lib64", "lib32")}
    folders |= {
        *site.getsitepackages(),
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
        "/usr/share/zoneinfo",
    }
    folders.discard("/")
    shortest = sorted((f for f in folders if os.path.isdir(f)), key=len)
    return [f for i, f in enumerate(shortest) if not any(f.startswith(s.rstrip("/") + "/") for s in shortest[:i])]


def readable() -> tuple[list[str], list[str]]:
    """Files and folders to be read with all that is in them; folders to be listed only."""
    whole, listed = ["/etc/ld.so.cache", "/etc/localtime", *DEVICES], []
    for folder in library_folders():
        _without_the_course(os.path.realpath(folder), whole, listed)
    return whole, listed


def _without_the_course(folder: str, whole: list[str], listed: list[str]) -> None:
    """Adds a folder, but not the course's own parts: a course installed as a package lies among the libraries, answers and all."""
    hidden = [os.path.realpath(os.path.join(ROOT, part)) for part in COURSE]
    if not any((path + "/").startswith(folder.rstrip("/") + "/") for path in hidden):
        whole.append(folder)
        return
    listed.append(folder)
    for entry in os.scandir(folder):
        if entry.path not in hidden:
            if entry.is_dir(follow_symlinks=False):
                _without_the_course(entry.path, whole, listed)
            else:
                whole.append(entry.path)


def enter_jail(empty_folder: str) -> None:
    """Makes a root of library folders, devices and an empty scratch folder, all read-only, and moves into it.

    `empty_folder` is a place to build it on; it stays empty outside. Raises OSError where the kernel refuses.
    """
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", empty_folder, "tmpfs", kernel.MS_NOSUID, "size=1m,mode=755")
    for path in (*library_folders(), *DEVICES, "/etc/ld.so.cache", "/etc/localtime"):
        _bring(path, empty_folder)
    os.makedirs(empty_folder + SCRATCH, 0o755)
    os.mkdir(empty_folder + "/.old", 0o700)
    kernel.read_only_beneath(empty_folder)  # before the move: a kernel that cannot do it is left where it was
    kernel.pivot_root(empty_folder, empty_folder + "/.old")
    os.chdir("/")
    kernel.call("umount2", b"/.old", kernel.MNT_DETACH)


def mount_scratch() -> None:
    """A private scratch folder of 64 MiB in memory; gone with the mount namespace it is made in."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("tmpfs", SCRATCH, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=64m,nr_inodes=4096,mode=777")


def _bring(path: str, root: str) -> None:
    target = root + path
    if os.path.islink(path) and os.path.isdir(path):  # /lib -> usr/lib
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(path), target)
        return
    if not os.path.exists(path):
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    kernel.mount(os.path.realpath(path), target, None, kernel.MS_BIND | kernel.MS_REC)
