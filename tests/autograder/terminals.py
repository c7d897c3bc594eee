"""A command of the course in a terminal of its own, for tests that press keys."""

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time

from autograder.reference import ROOT


class Terminal:
    """`climb COMMAND ...` in a terminal: keys go in, what it shows comes out."""

    def __init__(self, *arguments, cwd):
        self.master, slave = pty.openpty()
        env = {**os.environ, "COLUMNS": "100", "LINES": "40", "TERM": "xterm", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "autograder.cli", *map(str, arguments)],
            stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=env, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.text, self.read = "", 0

    def until(self, words, seconds=60):
        """Reads until these words are shown, and returns what was shown up to and with them since the last time."""
        before, end = self.read, time.monotonic() + seconds
        while words not in self.text[before:]:
            ready, _, _ = select.select([self.master], [], [], max(end - time.monotonic(), 0))
            assert ready, f"{words!r} was not shown in {seconds} s: {self.text[before:][-2000:]}"
            try:
                self.text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(self.master, 1 << 16).decode(errors="replace"))
            except OSError:  # the command has ended
                self.read = len(self.text)
                return self.text[before:]
        self.read = self.text.index(words, before) + len(words)  # more may have come in the same piece: it is the next one's
        return self.text[before : self.read]

    def press(self, keys):
        os.write(self.master, keys.encode())

    def enter(self, line):
        self.press(f"{line}\n")

    def close(self):
        """The command's exit code, when it has ended."""
        code = self.process.wait(timeout=60)
        os.close(self.master)
        return code
