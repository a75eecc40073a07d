"""What the workers send, waited for at all pipes at once."""

from __future__ import annotations

import os
import queue
import select
import time
from collections import deque
from contextlib import suppress
from typing import Any

from zenith_torch.process import deaths
from zenith_torch.process.channel import Channel
from zenith_torch.process.ends import End
from zenith_torch.process.interrupts import Interrupts
from zenith_torch.process.living import living


class Results:
    """Stands where torch's iterator (or its thread that pins) has the queue of results."""

    def __init__(self) -> None:
        self.channels: list[Channel] = []
        self._put: deque[Any] = deque()
        self._messages: deque[tuple[Channel, bytes]] = deque()
        self._wake = End(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self._poll: select.poll | None = None
        self._watched: dict[int, tuple[Channel, End]] = {}
        self._has_died = False
        self.interrupts: Interrupts | None = None
        self.is_forgotten = False
        """This is a child of the process whose results they are."""
        living.add(self)

    # -- what torch calls ------------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> Any:
        """The next result. Raises ``queue.Empty`` when the time is over, and at once when a worker has died."""
        deadline = None if timeout is None else time.monotonic() + timeout
        is_over = False
        while not self._messages:
            if self._put:
                return self._put.popleft()
            if self._has_died:
                self._has_died = False
                raise queue.Empty
            if is_over:
                raise queue.Empty
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._wait(left)
            is_over = left == 0.0
        channel, message = self._messages.popleft()
        return channel.decoder.decode(message)

    def put(self, item: Any) -> None:
        """Wakes the thread that pins."""
        self._put.append(item)
        os.eventfd_write(self._wake.fd, 1)

    def cancel_join_thread(self) -> None:
        """There is no thread."""

    def close(self) -> None:
        """The pipes are closed one by one, with their workers."""

    # -- the rest --------------------------------------------------------------------------------------------------

    def forget(self) -> None:
        """In a forked child: what has come but was not looked at is the parent's to take, which gives its memory back."""
        self.is_forgotten = True
        self._messages.clear()
        self._wake.close()
        for channel in self.channels:
            channel.forget()

    def watch_tasks(self) -> None:
        """There is a task that did not fit; whoever waits sends the rest, perhaps another thread, and waiting already."""
        self._poll = None
        os.eventfd_write(self._wake.fd, 1)

    def _wait(self, seconds: float | None) -> None:
        """Waits until something comes, and takes it in."""
        poll = self._poll or self._watch()
        for fd, _ in self._events(poll, None if seconds is None else 1000 * seconds):
            channel, end = self._watched.get(fd, (None, None))
            if channel is None:
                with suppress(BlockingIOError):
                    os.eventfd_read(self._wake.fd)
                self._poll = None
            elif end is channel.result_reader:
                self._take(channel)
            elif end is channel.task_writer:
                channel.flush()
                self._poll = None
            else:
                # What it sent before it died is taken first.
                while self._take(channel):
                    pass
                # Noted before it is forgotten: torch's handler of a child's death raises between any two lines.
                self._has_died = self._has_died or not channel.is_retired
                channel.life.close()
                self._poll = None

    def _events(self, poll: select.poll, milliseconds: float | None) -> list[tuple[int, int]]:
        interrupts = self.interrupts
        if interrupts is None:
            return poll.poll(milliseconds)
        dying = deaths.here()
        try:
            interrupts.is_waiting = dying.is_waiting = True
            interrupts.check()
            dying.act()
            return poll.poll(milliseconds)
        finally:
            interrupts.is_waiting = dying.is_waiting = False

    def _watch(self) -> select.poll:
        poll = select.poll()
        self._watched.clear()
        has_unsent = False
        for channel in self.channels:
            ends = [channel.result_reader, channel.life]
            if channel.has_unsent:
                has_unsent = True
                ends.append(channel.task_writer)
            for end in ends:
                if end.fd >= 0:
                    poll.register(end.fd, select.POLLOUT if end is channel.task_writer else select.POLLIN)
                    self._watched[end.fd] = channel, end
        poll.register(self._wake.fd, select.POLLIN)
        if not has_unsent:
            self._poll = poll
        return poll

    def _take(self, channel: Channel) -> bool:
        """Takes what has come from one worker; whether something had."""
        messages = channel.receive()
        if messages is None:
            if channel.result_reader.fd < 0:
                self._poll = None
                if channel.life.fd < 0 and not channel.is_retired:
                    # It was dead, and known to multiprocessing, before it had anything to do.
                    self._has_died = True
            return False
        self._messages.extend((channel, message) for message in messages)
        return True
