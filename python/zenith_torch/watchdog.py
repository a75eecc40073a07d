"""Without workers nobody could be told that a sample takes long but the log: a thread that looks at the calling one."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback

_log = logging.getLogger("zenith_torch")

_LOOKS = 10
"""A stall is noticed within this part of its length, and within a second."""


class Watchdog:
    """Writes a warning with the stack of the thread whose `next()` has lasted longer than ``seconds``; once per batch.

    A `zenith_torch.samples.Progress`. The thread needs the GIL: what C code holds on to it is not seen before it lets go.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._indices: object = None
        self._place = 0
        self._thread_id = 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, indices: object) -> None:
        """This thread begins to load a batch."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="zenith_watchdog", daemon=True)
            self._thread.start()
        self._indices, self._place, self._thread_id = indices, -1, threading.get_ident()
        self._since = time.monotonic()

    def at(self, place: int) -> None:
        self._place = place

    def end(self) -> None:
        """The batch is there, or is not to come."""
        self._since = None

    def stop(self) -> None:
        """The iterator is gone."""
        self._ended.set()

    def _run(self) -> None:
        told = None
        while not self._ended.wait(min(self._seconds / _LOOKS, 1.0)):
            since = self._since
            if since is None or since == told or time.monotonic() - since < self._seconds:
                continue
            told = since
            frame = sys._current_frames().get(self._thread_id)
            stack = "" if frame is None else "".join(traceback.format_stack(frame))
            if self._since == since:
                _log.warning("no batch for %g s: %s:\n%s", self._seconds, self._where(), stack.rstrip())

    def _where(self) -> str:
        indices, place = self._indices, self._place
        if isinstance(indices, (list, tuple)) and 0 <= place < len(indices):
            return f"the calling thread is at index {indices[place]!r}"
        return "the calling thread is here"
