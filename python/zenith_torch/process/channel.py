"""The main process's side of one worker: its task pipe, its result pipe, its arena, and whether it lives."""

from __future__ import annotations

import fcntl
import os
import pickle
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.reduction import ForkingPickler
from threading import Lock
from typing import Any

from zenith import _engine
from zenith.errors import ZenithError

from zenith_torch.process.ends import End, pipe
from zenith_torch.process.joining import joining
from zenith_torch.process.message import HEAD, Decoder, arena_of
from zenith_torch.process.watch import Watch

LENGTH = struct.Struct("=I")
"""What a task begins with."""

_READ_BYTES = 1 << 16
_TASK_PIPE_BYTES = 1 << 20
"""What a task pipe is enlarged to when a task does not fit, so that the worker has it while the main process is elsewhere; as
much as any user may have."""


class Channel:
    """Stands where torch's iterator has the index queue of a worker."""

    def __init__(self, is_closing: Callable[[], bool], on_unsent: Callable[[], None], is_watched: bool) -> None:
        self.task_reader, self.task_writer = pipe()
        self.result_reader, self.result_writer = pipe()
        os.set_blocking(self.task_writer.fd, False)
        os.set_blocking(self.result_reader.fd, False)
        try:
            self.arena = End(_engine.create_arena())
        except ZenithError:
            self.arena = End(-1)
        arena = arena_of(_engine.ArenaReader, self.arena.fd)
        if arena is None:
            self.arena.close()
        self.decoder = Decoder(arena)
        self.watch = Watch() if is_watched else None
        self.process: Any = None
        self.loan: Any = None
        """The batches that the worker inherited, which are its own to read until it has ended."""
        self.life = End(-1)
        """Readable when the worker is dead."""
        self.is_retired = False
        """No more is expected of the worker."""
        self._watch_end = End(-1) if self.watch is None else self.watch.end
        self._is_closing = is_closing
        self._on_unsent: Callable[[], None] | None = on_unsent
        self._is_settled = False
        self._unsent: deque[memoryview] = deque()
        self._lock = Lock()
        self._parts: list[bytes] = []
        self._missing = 0
        """Bytes that are needed before there is another whole message."""

    # -- what torch calls ------------------------------------------------------------------------------------------

    def put(self, item: Any) -> None:
        """Sends a task without ever waiting: what the pipe does not hold goes with later calls."""
        self.settle()
        if item is None:
            self.is_retired = True
            if self._is_closing():
                # Nobody reads results any more, and no task but this one is wanted: the end of the pipe says the same.
                with self._lock:
                    if not self._unsent:
                        self._unsent.append(_task(None))
                        self._write()
                    self._unsent.clear()
                self.close()
                return
        task = _task(item)
        with self._lock:
            self._unsent.append(task)
            self._write()
            if self._unsent:
                with suppress(OSError):
                    fcntl.fcntl(self.task_writer.fd, fcntl.F_SETPIPE_SZ, _TASK_PIPE_BYTES)
                self._write()
        if self._unsent and self._on_unsent is not None:
            self._on_unsent()

    def cancel_join_thread(self) -> None:
        """There is no thread."""

    def close(self) -> None:
        for end in self._ends():
            end.close()
        # The results know the channel: what both hold is to go with the iterator, not with the garbage collector's next run.
        self._on_unsent = None

    # -- the rest --------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """When the worker has been started: its ends are its own from here on."""
        if self._is_settled or self.process is None:
            return
        self._is_settled = True
        kind: Any = type(self.process)
        self.process.__class__ = joining(kind)
        for end in (self.task_reader, self.result_writer, self.arena):
            end.close()
        # Without a descriptor for the process torch's own looks at it, every five seconds, still find a death.
        with suppress(OSError):
            self.life = End(os.pidfd_open(self.process.pid))

    def forget(self) -> None:
        """In a forked child: the main process's ends are not its business."""
        for end in (self.task_writer, self.result_reader, self.life):
            end.close()
        if self._is_settled:
            # That of the worker which is being started is its own.
            self._watch_end.close()

    def _ends(self) -> tuple[End, ...]:
        return (
            self.task_reader,
            self.task_writer,
            self.result_reader,
            self.result_writer,
            self.arena,
            self.life,
            self._watch_end,
        )

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def flush(self) -> None:
        """Sends what did not fit before."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        while self._unsent and self.task_writer.fd >= 0:
            task = self._unsent[0]
            try:
                written = os.write(self.task_writer.fd, task)
            except BlockingIOError:
                return
            except BrokenPipeError:
                # The worker is dead; whoever waits for its results is told.
                self._unsent.clear()
                return
            if written < len(task):
                self._unsent[0] = task[written:]
            else:
                self._unsent.popleft()

    def receive(self) -> list[bytes] | None:
        """Whole messages among what has come; ``None``: nothing has. Never waits."""
        if self.result_reader.fd < 0:
            return None
        try:
            content = os.read(self.result_reader.fd, _READ_BYTES)
        except BlockingIOError:
            return None
        if not content:
            self.result_reader.close()
            return None
        if len(content) < self._missing:
            self._parts.append(content)
            self._missing -= len(content)
            return []
        if self._parts:
            content = b"".join((*self._parts, content))
            self._parts.clear()
        messages = []
        start = 0
        while True:
            left = len(content) - start
            length = LENGTH.unpack_from(content, start)[0] if left >= HEAD.size else HEAD.size
            if length > left:
                break
            messages.append(content[start : start + length])
            start += length
        self._missing = length - left if left else 0
        if left:
            self._parts.append(content[start:])
        return messages


def _task(item: Any) -> memoryview:
    try:
        content = pickle.dumps(item, 5)
    except Exception:
        # Some objects are pickled by multiprocessing only.
        content = bytes(ForkingPickler.dumps(item))
    return memoryview(LENGTH.pack(len(content)) + content)
