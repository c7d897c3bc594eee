"""Ctrl-C that is not lost while libraries load."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import Iterator


@contextmanager
def not_lost() -> Iterator[None]:
    """A Ctrl-C inside this block ends it with KeyboardInterrupt, at the latest when the block ends.

    Libraries that are being imported may catch everything, the exception of Ctrl-C too, and go on as if nothing had been.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # somebody else hears the signal
        return
    heard = False

    def hear(number, frame):
        nonlocal heard
        heard = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if heard:
        raise KeyboardInterrupt
