"""A file descriptor that is closed once, and may go to a child process."""

from __future__ import annotations

import os
from multiprocessing import reduction
from typing import Any


class End:
    """One end of a pipe, or another descriptor; under spawn and forkserver it is passed by pickling."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> Any:
        return reduction.DupFd(self.fd)

    def __setstate__(self, duplicate: Any) -> None:
        self.fd = duplicate.detach()


def pipe() -> tuple[End, End]:
    """The end that is read, and the end that is written."""
    reader, writer = os.pipe()
    return End(reader), End(writer)
