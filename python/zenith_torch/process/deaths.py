"""Torch's handler of a child's death: put off while an iterator's bookkeeping is under way.

It raises between any two lines of the main thread. A pipe of a process that is being started, or the pids that torch has noted
for an iterator that is not there yet, would stay until the program ends, and torch would tell of those pids again and again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from torch.utils.data._utils import signal_handling

from zenith_torch import exits


class Deaths:
    """One for the main thread, in which signals are served."""

    def __init__(self) -> None:
        self.depth = 0
        self.is_waiting = False
        """Set around a wait, in which nothing is half done: what comes then is raised at once."""
        self._is_pending = False
        self._torchs: Any = None

    def watch(self) -> None:
        """Stands before torch's handler, which is installed if it is not yet."""
        if threading.current_thread() is not threading.main_thread():
            return
        signal_handling._set_SIGCHLD_handler()
        handler = signal.getsignal(signal.SIGCHLD)
        # A program may have put its own in the place of it.
        if getattr(handler, "__module__", None) == signal_handling.__name__:
            self._torchs = handler
            signal.signal(signal.SIGCHLD, self._on_signal)

    def around(self, work: Callable[[], None]) -> None:
        """Runs ``work`` with the handler put off, and raises afterwards what it would have, unless ``work`` raises itself."""
        # No call: Python serves signals at the ends of calls, so none comes between this line and the `try`.
        self.depth += 1
        try:
            work()
        except BaseException:
            self.depth -= 1
            # Nobody is told, as something else is being raised, and torch forgets the pids.
            with suppress(RuntimeError):
                self.act()
            raise
        self.depth -= 1
        self.act()

    def act(self) -> None:
        """Raises what torch's handler does, if a child has died and nobody holds it."""
        if self._is_pending and (self.is_waiting or not self.depth):
            self._is_pending = False
            self._torchs(signal.SIGCHLD, None)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._is_pending = True
        self.act()


main = Deaths()
_elsewhere = Deaths()


def here() -> Deaths:
    """The one to hold in this thread; of threads that serve no signals, one that does nothing."""
    return main if threading.get_ident() == exits.MAIN else _elsewhere
