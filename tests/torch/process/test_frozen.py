"""What spawned workers get: pickled once, with every kind of thing that multiprocessing passes on."""

from __future__ import annotations

import multiprocessing
import re
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset
from zenith_torch import DataLoader

METHODS = pytest.mark.parametrize("method", ["spawn", "forkserver"])


class Rich(Dataset):
    """Holds what only a process that is being started may be given."""

    def __init__(self, method: str) -> None:
        context = multiprocessing.get_context(method)
        self.tensor = torch.arange(1000).share_memory_()
        self.view = self.tensor[500:]
        self.queue, self.lock = context.Queue(), context.Lock()
        self.value, self.array = context.Value("i", 0), context.Array("d", 3)
        self.reader, self.writer = context.Pipe(duplex=False)
        self.large = b"x" * 50_000_000
        self.pickled = 0

    def __getstate__(self) -> dict[str, Any]:
        self.pickled += 1
        return self.__dict__

    def __getitem__(self, index: int) -> int:
        self.tensor[index] = -index
        assert self.view.data_ptr() == self.tensor[500:].data_ptr()
        with self.lock:
            self.writer.send(index)
        with self.value.get_lock():
            self.value.value += 1
        self.array[index % 3] += 1
        self.queue.put(index)
        return len(self.large)

    def __len__(self) -> int:
        return 6


class Broken(Dataset):
    def __setstate__(self, state: Any) -> None:
        raise ValueError("cannot be unpickled")

    def __getstate__(self) -> dict[str, Any]:
        return {"some": "state"}

    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return 4


class Unpicklable(Broken):
    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("cannot be pickled")


@METHODS
def test_whatever_a_process_can_be_given(method: str) -> None:
    dataset = Rich(method)
    loader = DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context=method)
    assert [batch.tolist() for batch in loader] == [[50_000_000] * 2] * 3
    assert dataset.pickled == 1
    assert dataset.tensor[:6].tolist() == [0, -1, -2, -3, -4, -5]
    assert dataset.value.value == 6
    assert list(dataset.array) == [2, 2, 2]
    assert sorted(dataset.queue.get(timeout=10) for _ in range(6)) == list(range(6))
    assert sorted(dataset.reader.recv() for _ in range(6)) == list(range(6))


@METHODS
def test_what_does_not_pickle(method: str) -> None:
    loader = DataLoader(Unpicklable(), num_workers=2, multiprocessing_context=method)
    with (
        pytest.warns(UserWarning, match=re.escape("Got pickle error when attempting to start a worker Process")),
        pytest.raises(TypeError, match="cannot be pickled"),
    ):
        iter(loader)


def test_what_does_not_unpickle() -> None:
    """Each worker says why on its standard error, and ends."""
    loader = DataLoader(Broken(), num_workers=1, multiprocessing_context="spawn")
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid"):
        list(loader)
