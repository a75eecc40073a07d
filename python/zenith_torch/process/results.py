"""What the workers send, waited for at all pipes at once."""

from __future__ import annotations

import os
import queue
import select
import time
from collections import deque
from typing import Any

from zenith_torch.process.channel import Channel
from zenith_torch.process.ends import End


class Results:
    """Stands where torch's iterator (or its thread that pins) has the queue of results."""

    def __init__(self) -> None:
        self.channels: list[Channel] = []
        self._put: deque[Any] = deque()
        self._messages: deque[tuple[Channel, bytes]] = deque()
        self._wake = End(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
        self._poll: select.poll | None = None
        self._watched: dict[int, tuple[Channel, End]] = {}

    # -- what torch calls ------------------------------------------------------------------------------------------

    def get(self, timeout: float | None = None) -> Any:
        """The next result. Raises ``queue.Empty`` when the time is over, and at once when a worker has died."""
        deadline = None if timeout is None else time.monotonic() + timeout
        is_over = False
        while not self._messages:
            if self._put:
                return self._put.popleft()
            if is_over:
                raise queue.Empty
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            is_over = self._wait(left) or left == 0.0
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
        """In a forked worker."""
        self._wake.close()

    def _wait(self, seconds: float | None) -> bool:
        """Waits until something comes, and takes it in. ``True``: a worker died of which something was expected."""
        poll = self._poll or self._watch()
        died = False
        for fd, _ in poll.poll(None if seconds is None else 1000 * seconds):
            channel, end = self._watched.get(fd, (None, None))
            if channel is None:
                os.eventfd_read(self._wake.fd)
            elif end is channel.result_reader:
                self._take(channel)
            elif end is channel.task_writer:
                channel.flush()
                self._poll = None
            else:
                # What it sent before it died is taken first.
                while self._take(channel):
                    pass
                channel.life.close()
                self._poll = None
                died = died or not channel.is_retired
        return died

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
            return False
        self._messages.extend((channel, message) for message in messages)
        return True
