"""The fork server's view of the world, cut down before learner code is forked from it: namespaces, and a root with libraries only."""

from __future__ import annotations

import os
import site
import sys

from . import kernel

SCRATCH_HOLDER = "/scratch"  # what Landlock names: each child mounts a scratch folder of its own beneath it
SCRATCH = SCRATCH_HOLDER + "/work"
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/dev/full")


def enter_namespaces() -> list[str]:
    """Network, mount and IPC namespaces for this process and all it forks; a user namespace first when not root.

    To be called while there is one thread. Returns the layers gained; an empty list where the kernel refuses.
    """
    gained = []
    if os.geteuid() != 0:
        uid, gid = os.geteuid(), os.getegid()
        try:
            kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC)
            for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(text)
        except OSError:
            return []
        gained.append("user-namespace")
    else:
        try:
            kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC)
        except OSError:
            return []
    return [*gained, "network-namespace", "ipc-namespace", "mount-namespace"]


def library_folders() -> list[str]:
    """What Python and its packages need to be read: the interpreter's prefixes, the site folders, the system's libraries."""
    folders = {sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.realpath(sys.base_prefix), *site.getsitepackages()}
    folders |= {"/usr", "/lib", "/lib64", "/lib32"}
    folders.discard("/")
    shortest = sorted((f for f in folders if os.path.isdir(f)), key=len)
    return [f for i, f in enumerate(shortest) if not any(f.startswith(s.rstrip("/") + "/") for s in shortest[:i])]


def readable() -> list[str]:
    return [*library_folders(), "/etc/ld.so.cache", "/etc/localtime", *DEVICES]


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
    kernel.pivot_root(empty_folder, empty_folder + "/.old")
    os.chdir("/")
    kernel.call("umount2", b"/.old", kernel.MNT_DETACH)
    os.rmdir("/.old")
    kernel.read_only_beneath("/")


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
