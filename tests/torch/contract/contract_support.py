"""Datasets and helpers that several files of the contract share; at module level, so that they pickle."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy.random  # noqa: F401 (or each worker imports it)
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

only_zenith = pytest.mark.parametrize("loader_class", ["zenith"], indirect=True)
"""For statements on what torch's loader does not have."""


def identity(value: Any) -> Any:
    """As ``collate_fn``: the batch is the list of samples."""
    return value


class Numbers(Dataset):
    """Sample ``i`` is the integer ``i + offset``."""

    def __init__(self, size: int, offset: int = 0) -> None:
        self.size = size
        self.offset = offset

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self.size:
            raise IndexError(index)
        return index + self.offset

    def __len__(self) -> int:
        return self.size


class Keys(Dataset):
    """Hands back each key as it was asked for."""

    def __init__(self, size: int = 10) -> None:
        self.size = size

    def __getitem__(self, key: Any) -> Any:
        return key

    def __len__(self) -> int:
        return self.size


class Call(Dataset):
    """Sample ``i`` is what a function gives for ``i``, in the process that loads it."""

    def __init__(self, function: Any, size: int = 10) -> None:
        self.function = function
        self.size = size

    def __getitem__(self, index: int) -> Any:
        return self.function(index)

    def __len__(self) -> int:
        return self.size


class Stream(IterableDataset):
    """Worker ``w`` yields ``100 * w + i`` for ``i`` under its size; in the main process worker 0's."""

    def __init__(self, *sizes: int, length: int | None = None) -> None:
        self.sizes = sizes
        if length is not None:
            self.length = length

    def __iter__(self) -> Iterator[int]:
        info = get_worker_info()
        worker = 0 if info is None else info.id
        return iter(range(100 * worker, 100 * worker + self.sizes[worker]))


class SizedStream(Stream):
    def __len__(self) -> int:
        return self.length


class CountingSampler:
    """An index sampler that notes how often it is iterated (at once) and how many keys were drawn (lazily)."""

    def __init__(self, keys: list[Any]) -> None:
        self.keys = keys
        self.iterated = 0
        self.drawn = 0
        self.pids: set[int] = set()

    def __iter__(self) -> Iterator[Any]:
        self.iterated += 1
        return self._draw()

    def _draw(self) -> Iterator[Any]:
        for key in self.keys:
            self.drawn += 1
            self.pids.add(os.getpid())
            yield key

    def __len__(self) -> int:
        return len(self.keys)


def worker_id(_: Any = None) -> int | None:
    info = get_worker_info()
    return None if info is None else info.id


def values(loader: Any) -> list[Any]:
    """All batches, tensors as lists."""
    return [batch.tolist() if isinstance(batch, torch.Tensor) else batch for batch in loader]


def error_of(function: Callable[..., Any], *arguments: Any) -> Exception:
    """The exception that a call raises, without its frames.

    What torch raises for a worker holds itself by its frames, and so the iterator; and an iterator that the garbage collector
    finds takes five seconds to end, because its queues are closed before its workers hear of it.
    """
    try:
        function(*arguments)
    except Exception as error:
        for link in (error, error.__cause__, error.__context__):
            if link is not None:
                link.__traceback__ = None
        return error
    pytest.fail("no exception was raised")


def in_a_fork(function: Callable[[], str], seconds: float = 20) -> str:
    """What a function returns in a forked child, whose limits and signals are its own."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, function().encode())
        except BaseException as error:
            os.write(write, repr(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    try:
        assert wait_until(lambda: os.waitpid(child, os.WNOHANG)[0] == child, seconds)
        return os.read(read, 100_000).decode()
    finally:
        os.close(read)


def check_often(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.2) -> None:
    """Lets torch's iterators look more often than every five seconds whether what they wait for still lives."""
    waiting = torch.utils.data.dataloader._MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(waiting, "__defaults__", (seconds,))


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has reaped has."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(condition: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return bool(condition())


class Surroundings(Dataset):
    """What a worker of any start method sees of itself."""

    note = "unset"

    def start(self, worker: int) -> None:
        info = get_worker_info()
        assert info is not None
        info.dataset.started = worker == info.id

    def __getitem__(self, index: int) -> dict[str, Any]:
        info = get_worker_info()
        assert info is not None
        with open("/proc/self/comm") as file:
            name = file.read().strip()
        return {
            "worker": info.id,
            "seed": info.seed,
            "pid": os.getpid(),
            "started": self.started,
            "threads": torch.get_num_threads(),
            "name": name,
            "note": self.note,
            "random": torch.rand(3),
        }

    def __len__(self) -> int:
        return 2


def is_in_shared_memory(tensor: torch.Tensor) -> bool:
    """Whether other processes see what is written to it: torch's own sharing, or our arena, of which torch knows nothing."""
    address = tensor.data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        area, mode, *_ = line.split()
        start, end = (int(text, 16) for text in area.split("-"))
        if start <= address < end:
            return tensor.is_shared() or (mode.endswith("s") and "zenith-arena" in line)
    return tensor.is_shared()
