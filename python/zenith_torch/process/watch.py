"""A worker under watch: it notes which sample it is at, and says where it is in Python when it is asked by a signal.

Both go through one anonymous file per worker, so that a worker that is busy, holds the GIL for long or is stopped is told
from one that waits. `faulthandler` writes the stack from within the signal handler, which needs neither the GIL nor the
interpreter's loop. There is a file only where ``stall_timeout`` was given.
"""

from __future__ import annotations

import faulthandler
import fcntl
import mmap
import os
import signal
import struct
import time
from contextlib import suppress

from zenith_torch.process.ends import End

SIGNAL = signal.SIGRTMAX - 3
"""One that neither Python nor torch uses; the worker handles it before the main process knows that it may be sent."""

_NOTE = struct.Struct("=qq")
_HEAD_BYTES = 64
"""The note is at the beginning of the file; stacks are appended."""

NOT_READY, STARTING, IDLE = -10, -11, -12
"""In place of a task: the worker may not be sent the signal yet; it has begun no batch; it waits for a task."""

_STACK_S = 1.0
"""How long a stack is waited for."""
_SETTLE_S = 0.02
"""A stack that has not grown for so long is whole."""
_STACK_BYTES_MAX = 64 << 10


class Watch:
    """The main process's side."""

    def __init__(self) -> None:
        self.end = End(os.memfd_create("zenith-watch", os.MFD_CLOEXEC))
        # A forked worker shares the offset too; appending needs none.
        fcntl.fcntl(self.end.fd, fcntl.F_SETFL, os.O_APPEND)
        os.ftruncate(self.end.fd, _HEAD_BYTES)
        with mmap.mmap(self.end.fd, _HEAD_BYTES) as head:
            _NOTE.pack_into(head, 0, NOT_READY, 0)

    def note(self) -> tuple[int, int]:
        """The task that the worker is at, or a constant above; and the place in its index batch."""
        before = None
        while True:
            now: tuple[int, int] = _NOTE.unpack(os.pread(self.end.fd, _NOTE.size, 0))
            if now == before:
                return now
            before = now

    def stack(self, pid: int) -> str | None:
        """Where the worker's threads are, most recent call first; ``None`` where it does not say."""
        if self.note()[0] == NOT_READY or state_of(pid) in "TtZX":
            return None
        os.ftruncate(self.end.fd, _HEAD_BYTES)
        with suppress(ProcessLookupError):
            os.kill(pid, SIGNAL)
        deadline, size = time.monotonic() + _STACK_S, _HEAD_BYTES
        while time.monotonic() < deadline:
            time.sleep(_SETTLE_S)
            before, size = size, os.fstat(self.end.fd).st_size
            if size == before > _HEAD_BYTES:
                break
        text = os.pread(self.end.fd, min(size - _HEAD_BYTES, _STACK_BYTES_MAX), _HEAD_BYTES)
        return text.decode(errors="replace").rstrip() or None


class Notes:
    """The worker's side: a `zenith_torch.samples.Progress`."""

    def __init__(self, end: End) -> None:
        self._end = end
        self._head = mmap.mmap(end.fd, _HEAD_BYTES)
        faulthandler.register(SIGNAL, file=end.fd, all_threads=True)
        self._task = STARTING
        self.at(0)

    def begin(self, task: int) -> None:
        """A task was taken up; or ``IDLE``."""
        self._task = task
        self.at(-1)

    def at(self, place: int) -> None:
        _NOTE.pack_into(self._head, 0, self._task, place)


def state_of(pid: int) -> str:
    """The kernel's letter for the state of a process."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
