"""What all workers get alike, pickled once: under spawn and forkserver torch pickles the dataset for each of them.

The pickle lies in an anonymous file that the workers map, so starting one does not wait until another has read it. Other
descriptors in it (shared tensors, queues, locks) are recorded, and passed on to every worker.
"""

from __future__ import annotations

import mmap
import os
import pickle
from multiprocessing import context, reduction
from typing import Any

from zenith_torch.process.ends import End

_inherited: list[Any] = []
"""In the worker, while it unpickles: the descriptors that were recorded."""


class Frozen:
    """Objects of which each pickling is a reference to the first one."""

    def __init__(self, *values: Any) -> None:
        self.values = values
        self._file = End(-1)
        self._descriptors: list[End] = []

    def __reduce__(self) -> Any:
        if self._file.fd < 0:
            self._freeze()
        return _thawed, (self._file, self._descriptors)

    def _freeze(self) -> None:
        recorder = _Recorder()
        file = End(os.memfd_create("zenith-dataset", os.MFD_CLOEXEC))
        popen = context.get_spawning_popen()
        context.set_spawning_popen(recorder)  # type: ignore[arg-type]
        try:
            with open(os.dup(file.fd), "wb") as output:
                reduction.ForkingPickler(output, 5).dump(self.values)
        finally:
            context.set_spawning_popen(popen)
        self._file, self._descriptors = file, recorder.descriptors


class _Recorder:
    """Stands for the process being started, and notes which descriptors it is to inherit."""

    def __init__(self) -> None:
        self.descriptors: list[End] = []

    def duplicate_for_child(self, descriptor: int) -> int:
        # A copy of our own: the owner may close it before the last worker is started.
        self.descriptors.append(End(os.dup(descriptor)))
        return len(self.descriptors) - 1

    @staticmethod
    def DupFd(place: int) -> _Recorded:  # noqa: N802  (multiprocessing's name)
        return _Recorded(place)


class _Recorded:
    """A recorded descriptor, as multiprocessing asks for it in the worker."""

    def __init__(self, place: int) -> None:
        self._place = place

    def detach(self) -> int:
        descriptor: int = _inherited[self._place].fd
        _inherited[self._place].fd = -1
        return descriptor


def _thawed(file: End, descriptors: list[End]) -> Any:
    global _inherited
    _inherited = descriptors
    try:
        with mmap.mmap(file.fd, 0, prot=mmap.PROT_READ) as content:
            return Frozen(*pickle.loads(content))
    finally:
        _inherited = []
        file.close()
