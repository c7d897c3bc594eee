"""Places to write for children that have no root of their own: a folder each, looked at while the child lives, emptied afterwards.

With a root of its own a child gets a file system of 64 MiB in memory, and the kernel does all this. Without (in most containers)
nothing but looking bounds a folder on the disk, so the fork server looks twenty times a second and ends who took too much.
"""

from __future__ import annotations

import os
import shutil

BYTES, ENTRIES = 64 << 20, 4096
LOOK_SECONDS = 0.05


def make(holder: str, name: str, uid: int | None) -> str:
    """A folder of this name that its child alone can enter. `uid`: the user the child becomes, if it becomes another."""
    path = os.path.join(holder, name)
    os.mkdir(path, 0o700)
    if uid is not None:
        os.chown(path, uid, uid)
    return path


def too_full(path: str) -> bool:
    """Whether a folder holds more than BYTES or ENTRIES. Looks at no more entries than that."""
    left_bytes, left_entries, waiting = BYTES, ENTRIES, [path]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    left_entries -= 1
                    status = entry.stat(follow_symlinks=False)
                    left_bytes -= status.st_blocks * 512
                    if left_bytes < 0 or left_entries < 0:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except FileNotFoundError:
            continue  # removed meanwhile
        except OSError:
            return True  # closed to us or too deep to be named: nobody does that who has nothing to hide
    return False


def remove(path: str) -> None:
    """Removes a folder with all that is in it, however deep it goes: what lies two levels down is moved up first."""
    moved = 0
    try:
        while names := os.listdir(path):
            for name in names:
                inner = os.path.join(path, name)
                if os.path.islink(inner) or not os.path.isdir(inner):
                    os.unlink(inner)
                    continue
                os.chmod(inner, 0o700)
                for below in os.listdir(inner):
                    moved += 1
                    os.rename(os.path.join(inner, below), os.path.join(path, f".{moved}"))
                os.rmdir(inner)
        os.rmdir(path)
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
