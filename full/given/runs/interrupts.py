"""Ctrl-C where a step takes many seconds: the step is finished, then the run ends. A second one ends it at once."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Interrupts:
    """Within the block the first interrupt is only noted, in `asked`; the next one is raised as ever."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # elsewhere no handler can be set
            self._before = signal.getsignal(signal.SIGINT)
            if self._before is signal.default_int_handler:  # whoever ignores interrupts, or has a way of their own, keeps it
                signal.signal(signal.SIGINT, self._noted)
            else:
                self._before = None
        return self

    def __exit__(self, *error: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _noted(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
