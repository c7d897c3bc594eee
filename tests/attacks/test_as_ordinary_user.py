"""The same suite, started by root, as an ordinary user and as on hosts where the kernel gives less (see hosts.py)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SUITE = [str(HERE / "test_attacks.py"), str(HERE / "test_layers.py") + "::test_here"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="started by an ordinary user: the suite itself has run as one")


def suite(*flags):
    command = [
        sys.executable,
        str(HERE / "hosts.py"),
        *flags,
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=short",
        *SUITE,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


@needs_root
def test_as_an_ordinary_user():
    suite("--user")


@pytest.mark.slow
def test_in_a_container_that_gives_no_namespaces():
    suite("--without", "namespaces")


@pytest.mark.slow
@needs_root
def test_as_an_ordinary_user_without_namespaces():
    suite("--user", "--without", "namespaces")


@pytest.mark.slow
@needs_root
def test_as_an_ordinary_user_who_may_not_mount():
    suite("--user", "--without", "mount")
