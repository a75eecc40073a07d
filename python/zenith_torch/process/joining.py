"""Waiting for the end of a worker that may be stopped, or be stopped meanwhile."""

from __future__ import annotations

import functools
import os
import signal
import time
from contextlib import suppress
from typing import Any

_LOOK_S = 0.1


@functools.cache
def joining(kind: Any) -> Any:
    """A class of processes, but for their ``join``: a process that is stopped hears neither of its end nor of SIGTERM, so it is
    let go on. For a process that has been started; before that its class is pickled by name."""

    def join(self: Any, timeout: float | None = None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _LOOK_S if end is None else min(_LOOK_S, end - time.monotonic())
            kind.join(self, max(0.0, left))
            if self.exitcode is not None or (end is not None and time.monotonic() >= end):
                return
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)

    return type(kind.__name__, (kind,), {"join": join})
