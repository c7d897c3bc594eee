"""Places to write for children that have no root of their own: a folder each, looked at while the child lives, emptied afterwards.

With a root of its own a child gets a file system of 64 MiB in memory, and the kernel does all this. Without (in most containers)
nothing but looking bounds a folder on the disk, so the fork server looks twenty times a second and ends who took too much.
"""

from __future__ import annotations

import os

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
    """Removes a folder with all that is in it, however deep it goes: step by step, so that no path is too long and no stack too deep.

    Nobody else may use it any more. Links are removed, not followed. What cannot be removed stays.
    """
    start = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chmod(path, 0o700)
        os.chdir(path)
        above: list[tuple[str, list[str]]] = []  # names on the way down, each with its neighbours that are still to be removed
        here = _folders_left()
        while above or here:
            if here:
                name = here.pop()
                os.chmod(name, 0o700)  # its owner may have closed it
                os.chdir(name)
                above.append((name, here))
                here = _folders_left()
            else:
                name, here = above.pop()
                os.chdir("..")
                os.rmdir(name)
        os.rmdir(path)
    except OSError:
        pass
    finally:
        os.fchdir(start)
        os.close(start)


def _folders_left() -> list[str]:
    """The folders in the working folder, whose other entries are removed."""
    with os.scandir(".") as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if not is_folder:
            os.unlink(name)
    return [name for name, is_folder in found if is_folder]
