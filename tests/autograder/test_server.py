"""A fork server that starts before anybody knows what it is to serve."""

import os
import subprocess
import sys

import pytest

from autograder.sandbox.client import Sandbox
from autograder.sandbox.errors import SandboxError
from autograder.sandbox.server import Server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork servers are Linux's")


def test_one_started_early_is_taken_and_serves():
    server = Server("process")
    with Sandbox(["toy.einsum"], "process", [], server) as sandbox:
        assert sandbox.level == "process" and server.taken and server.process.poll() is None
    assert server.process.poll() is not None and not os.path.exists(server.folder)
    server.close()  # its first owner's goodbye: nothing is left to do


def test_one_of_another_level_is_left_to_its_owner():
    server = Server("process")
    with Sandbox(["toy.einsum"], "full", []) as sandbox:
        assert sandbox.level in ("full", "process") and not server.taken
    server.close()
    assert server.process.poll() is not None and not os.path.exists(server.folder)


def test_one_parts_in_two_and_each_is_told_apart_from_the_other():
    server = Server("process")
    branch = server.branch(["colorsys"])
    with Sandbox(["toy.einsum"], "process", ["colorsys"], branch) as large, Sandbox(["toy.einsum"], "process", [], server) as small:
        assert small.layers == large.layers and branch.taken and branch.process is server.process
        assert not branch.ended(0.0) and server.process.poll() is None
        large.close()
        assert branch.closed and not os.path.exists(branch.folder) and small._server.process.poll() is None
    assert server.process.poll() is not None and not os.path.exists(server.folder)
    branch.close()  # once more


def test_a_server_that_cannot_start_leaves_its_branch_with_an_error_and_not_waiting():
    server = Server("process")
    branch = server.branch([])
    server.close()
    branch.theirs.close()
    with pytest.raises(SandboxError, match="did not start: the server that it was to part from has ended"):
        branch.ready()
    branch.close()


def test_a_level_that_does_not_exist_is_told():
    with pytest.raises(SandboxError, match="full and process, not 'half'"):
        Server("half")


@pytest.mark.parametrize("words", [["check", "nosuch"], ["check", "--seed", "x"]])
def test_a_command_line_that_is_wrong_leaves_no_server_behind(words, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "autograder.cli", *words], capture_output=True, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.glob("climb-*"))
