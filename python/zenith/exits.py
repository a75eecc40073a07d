"""Keeps daemon threads out of the engine while the interpreter ends.

Until Python 3.14 a daemon thread that asks for the GIL during finalisation is unwound where it stands, and inside a torch op
that ends the whole process with an abort. So at exit such threads are let out of the engine, and parked. What such a
thread does outside of it (torch frees tensors without the GIL, too) is not ours to guard.

Decode threads need no GIL and may run to the last moment. They must not ask torch for pinned tensors while its statics are
destroyed, so that is ended here.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from zenith import _engine

MAIN = threading.main_thread().ident
"""The thread that needs none of this; in a forked child another may be the main one, which costs it a little time."""

_LEAVE_S = 1.0
"""How long an exit waits for threads inside the engine, which come back every 50 ms."""

_inside: set[int] = set()
_exiting = False


@contextmanager
def aside() -> Iterator[None]:
    """Around calls of the engine in threads that an exit does not wait for."""
    thread = threading.get_ident()
    outermost = thread not in _inside
    _inside.add(thread)
    if _exiting and outermost and threading.current_thread() is not threading.main_thread():
        _inside.discard(thread)
        threading.Event().wait()
    try:
        yield
    finally:
        if outermost:
            _inside.discard(thread)


def _on_exit() -> None:
    global _exiting
    _exiting = True
    end = time.monotonic() + _LEAVE_S
    while _inside - {threading.get_ident()} and time.monotonic() < end:
        time.sleep(0.001)
    _engine.end_lending()


atexit.register(_on_exit)
