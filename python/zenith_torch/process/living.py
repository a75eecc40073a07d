"""Iterators that live, and what becomes of their pipes and workers when the process forks or ends."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from zenith_torch.process.results import Results

living: WeakSet[Results] = WeakSet()
"""Of this process."""


def _after_fork() -> None:
    # A child that kept the main process's ends would hide its death from the workers, and the end of an iterator too.
    for results in list(living):
        results.forget()
    living.clear()


def _at_exit() -> None:
    # Multiprocessing ends the workers a moment later, by a signal, and waits for them for ever. One that is deaf to the
    # signal leaves because its pipe ends.
    for results in list(living):
        for channel in results.channels:
            channel.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
