"""Ctrl-C inside of an iterator: it is raised while that waits, never while a batch or a worker is on its way.

A ``KeyboardInterrupt`` between two lines of the bookkeeping would lose a batch that has left its pipe, or an index that has
left its sampler, and whoever goes on with the iterator would wait for ever or miss data without a word. One inside of a
destructor, or of what Python runs around a fork, would be swallowed.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal.signal` takes 5 µs, which every batch would pay.
import _thread
import os
from collections.abc import Callable
from types import FrameType
from typing import NoReturn


class _Number(int):
    """A signal that comes again when `again` is looked at. An attribute, because Python raises at the end of every call."""

    again = property(_thread.interrupt_main)


_SIGINT = _Number(_signal.SIGINT)


class Interrupts:
    """Puts Ctrl-C off between `hold` and `release`, but for waits. A second one does not wait."""

    def __init__(self) -> None:
        self._handler = self._on_signal
        self._is_pending = False
        self.is_waiting = False
        """Set around a wait, after which `check` is called: what comes then is raised at once."""

    def hold(self) -> bool:
        """``False``: nothing is held, because this is not the main thread, or Ctrl-C is somebody else's business."""
        if _signal.getsignal(_signal.SIGINT) is not _signal.default_int_handler:
            return False
        self._is_pending = self.is_waiting = False
        try:
            _signal.signal(_signal.SIGINT, self._handler)
        except ValueError:
            return False
        return True

    def around(self, work: Callable[[], None]) -> None:
        """Runs ``work`` with Ctrl-C put off, as far as it can be held."""
        is_held = self.hold()
        try:
            work()
        finally:
            if is_held:
                self.release()

    def release(self) -> None:
        """Raises what was put off."""
        self._restore()
        self.check()

    def release_in_destructor(self) -> None:
        """As `release`, but after the destructor, which swallows what is raised in it; it is to end with this call."""
        self._restore()
        if self._is_pending:
            self._is_pending = False
            _SIGINT.again  # noqa: B018  (the property acts)

    def _restore(self) -> None:
        if _signal.getsignal(_signal.SIGINT) is self._handler:
            _signal.signal(_signal.SIGINT, _signal.default_int_handler)

    def check(self) -> None:
        if self._is_pending:
            self._raise()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.is_waiting or self._is_pending:
            self._raise()
        self._is_pending = True

    def _raise(self) -> NoReturn:
        self._is_pending = False
        raise KeyboardInterrupt


def _after_fork() -> None:
    """What the parent holds is not the child's."""
    if isinstance(getattr(_signal.getsignal(_signal.SIGINT), "__self__", None), Interrupts):
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)


os.register_at_fork(after_in_child=_after_fork)
