"""Torch's handler of a child's death: put off while an iterator's bookkeeping is under way.

It raises between any two lines of the main thread. A pipe of a process that is being started, or the pids that torch has noted
for an iterator that is not there yet, would stay until the program ends, and torch would tell of those pids again and again.
"""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

from torch.utils.data._utils import signal_handling

from zenith_torch import exits


class Deaths:
    """One for the main thread, in which signals are served.

    Whoever holds it adds to ``depth`` just before a ``try``, takes it away at the end and calls `act`, or `drop` where an
    exception leaves. ``depth`` is no call, because Python serves signals at the ends of calls: none comes between the addition
    and the ``try``.
    """

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

    def act(self) -> None:
        """Raises what torch's handler does, if a child has died and nobody holds it."""
        if self._is_pending and (self.is_waiting or not self.depth):
            self._is_pending = False
            self._torchs(signal.SIGCHLD, None)

    def drop(self) -> None:
        """As `act`, where something else is being raised already: nobody is told, and torch forgets the pids."""
        with suppress(RuntimeError):
            self.act()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._is_pending = True
        self.act()


main = Deaths()
_elsewhere = Deaths()


def here() -> Deaths:
    """The one to hold in this thread; of threads that serve no signals, one that does nothing."""
    return main if threading.get_ident() == exits.MAIN else _elsewhere
