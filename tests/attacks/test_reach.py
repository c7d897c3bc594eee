"""What a child may read and write: libraries without the course among them, a bounded folder that is removed after it."""

import os
from pathlib import Path

import pytest

from autograder.sandbox import jail, kernel, landlock, scratch


def test_a_course_among_the_libraries_is_left_out(tmp_path, monkeypatch):
    """As after `pip install .`: solutions and checks lie in site-packages, beside what has to be read."""
    site = tmp_path / "lib" / "site-packages"
    for name in ("torch/a.py", "solutions/toy/x.py", "autograder/checks/x.py", "lessons/x.toml", "numpy.py"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("text")
    monkeypatch.setattr(jail, "ROOT", str(site))
    monkeypatch.setattr(jail, "library_folders", lambda: [str(tmp_path / "lib")])
    readable, unreadable = {"torch/a.py", "numpy.py"}, {"solutions/toy/x.py", "autograder/checks/x.py", "lessons/x.toml"}
    whole, listed = jail.readable()
    assert str(site) in listed and not [path for path in whole if site == Path(path) or Path(path) in site.parents]

    def confined():
        rules = landlock.ruleset(whole, listed, [])
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        landlock.enforce(rules)
        assert all((site / name).read_text() for name in readable)
        for name in unreadable:
            with pytest.raises(PermissionError):
                (site / name).read_text()

    assert landlock.abi() > 0 and jail.works(confined)


def test_libraries_do_not_hold_the_course_or_people(sandbox):
    """Neither /usr as a whole, where containers keep their work in /usr/src, nor any folder above this course."""
    folders = jail.library_folders()
    for place in ("/usr/src", "/usr/local/share", "/home", "/root", "/tmp", "/opt", "/srv", "/var", "/etc", jail.ROOT):
        assert not [folder for folder in folders if (place + "/").startswith(folder.rstrip("/") + "/")], place


# Folders for children without a root of their own


def test_a_folder_is_full_by_bytes_entries_and_depth(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "BYTES", 1 << 20)
    monkeypatch.setattr(scratch, "ENTRIES", 50)
    folder = Path(scratch.make(str(tmp_path), "1", None))
    assert not scratch.too_full(str(folder)) and folder.stat().st_mode & 0o777 == 0o700
    (folder / "sparse").touch()
    os.truncate(folder / "sparse", 1 << 30)
    assert not scratch.too_full(str(folder))  # it takes no room
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "large").write_bytes(os.urandom(2 << 20))
    assert scratch.too_full(str(folder))
    (folder / "a" / "b" / "large").unlink()
    for index in range(60):
        (folder / "a" / str(index)).touch()
    assert scratch.too_full(str(folder))
    scratch.remove(str(folder))
    assert not folder.exists()


def test_folders_too_deep_to_be_named_are_full_and_are_removed(tmp_path):
    folder = scratch.make(str(tmp_path), "1", None)

    def dig():
        os.chdir(folder)
        for _ in range(100):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
        Path("hidden").write_text("x")

    assert jail.works(dig)
    assert scratch.too_full(folder)
    scratch.remove(folder)
    assert not os.path.exists(folder)


def test_links_in_a_folder_are_removed_and_not_followed(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    folder = Path(scratch.make(str(tmp_path), "1", None))
    (folder / "inner").mkdir()
    for link in (folder / "link", folder / "inner" / "link"):
        link.symlink_to(kept)
    scratch.remove(str(folder))
    assert not folder.exists() and (kept / "file").read_text() == "x"
