"""A flag that all processes of an iterator see."""

from __future__ import annotations

import mmap
import os
from typing import Any

from zenith_torch.process.ends import End


class Flag:
    """Stands where torch's iterator has an event. An event of multiprocessing has a lock, and a worker that dies with it in its
    hands leaves the main process to wait for ever when that wants the workers to go. This is a byte of shared memory."""

    def __init__(self) -> None:
        self._open(End(os.memfd_create("zenith-flag", os.MFD_CLOEXEC)))

    def _open(self, file: End) -> None:
        self._file = file
        os.ftruncate(file.fd, 1)
        self._byte = mmap.mmap(file.fd, 1)

    def set(self) -> None:
        self._byte[0] = 1

    def is_set(self) -> bool:
        return self._byte[0] != 0

    def __getstate__(self) -> Any:
        return self._file

    def __setstate__(self, file: Any) -> None:
        self._open(file)
