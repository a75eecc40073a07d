"""Forks while batches are held: the child has what its parent had, for ever, and both go on."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import zenith
from process_support import Call, in_a_child, status_of
from torch.utils.data import Dataset
from zenith_torch import DataLoader


def full(index: int) -> dict[str, torch.Tensor]:
    return {"small": torch.full((10,), index), "large": torch.full((50_000,), index)}


def is_full(batch: dict[str, torch.Tensor], index: int) -> bool:
    return all(bool((value == index).all()) for value in batch.values())


def batches(size: int) -> Iterator[dict[str, torch.Tensor]]:
    return iter(DataLoader(Call(full, size), batch_size=1, num_workers=2))


def test_a_child_keeps_what_it_inherits() -> None:
    iterator = batches(200)
    held = {index: next(iterator) for index in range(5)}
    go, tell = os.pipe()

    def look() -> None:
        assert os.read(go, 1) == b"!"
        for _ in range(3):
            assert all(is_full(batch, index) for index, batch in held.items())
        held.clear()
        # Its own loaders work.
        assert sum(int(batch["small"][0, 0]) for batch in batches(10)) == 45

    child = in_a_child(look)
    held.clear()
    # The memory of what the child looks at is written again and again.
    assert all(is_full(batch, index + 5) for index, batch in enumerate(iterator))
    os.write(tell, b"!")
    assert status_of(child) == 0
    os.close(go)
    os.close(tell)


def test_a_process_of_multiprocessing() -> None:
    iterator = batches(50)
    held = next(iterator)

    def look(queue: Any) -> None:
        torch.set_num_threads(1)
        queue.put(is_full(held, 0))

    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=look, args=(queue,))
    process.start()
    assert queue.get(timeout=20)
    process.join(20)
    assert process.exitcode == 0
    assert all(is_full(batch, index + 1) for index, batch in enumerate(iterator))


class Held(Dataset):
    """Samples that are batches of another loader."""

    def __init__(self, kept: list[dict[str, torch.Tensor]]) -> None:
        self.kept = kept

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.kept[index]

    def __len__(self) -> int:
        return len(self.kept)


def test_the_workers_of_another_loader() -> None:
    iterator = batches(100)
    dataset = Held([next(iterator) for _ in range(20)])
    others = iter(DataLoader(dataset, batch_size=None, num_workers=2))
    dataset.kept = []
    rest = [is_full(batch, index + 20) for index, batch in enumerate(iterator)]
    assert [is_full(batch, index) for index, batch in enumerate(others)] == [True] * 20
    assert rest == [True] * 80


def test_a_hundred_forks_cost_no_memory() -> None:
    iterator = batches(350)
    held: list[Any] = []
    ends = []
    for turn in range(100):
        held = [next(iterator) for _ in range(3)]
        assert status_of(in_a_child(held.clear)) == 0
        addresses = {batch["large"].data_ptr() for batch in held}
        ends.append(max(addresses))
        if turn == 30:
            settled = max(ends)
    # No chunk beyond those of the first turns is ever needed; one that a fork had lost would be replaced.
    assert max(ends[30:]) <= settled + (64 << 20)


def test_an_iterator_of_the_parent_is_a_clear_error_in_the_child() -> None:
    iterator = batches(50)
    next(iterator)

    def use() -> None:
        nonlocal iterator
        with pytest.raises(zenith.ForkedEngineError, match=f"{os.getppid()}.*new iterator"):
            next(iterator)
        del iterator

    assert status_of(in_a_child(use)) == 0
    # What the child did with its copy, the parent's workers have not heard of.
    assert sum(1 for _ in iterator) == 49


class Inherited(Dataset[tuple[int, int, int]]):
    """Looks at a batch that the main process held when the worker was forked."""

    def __init__(self, batch: torch.Tensor) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[int, int, int]:
        return int(self.batch.min()), int(self.batch.max()), anonymous_kib()


def anonymous_kib() -> int:
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))


def large(index: int) -> torch.Tensor:
    return torch.full((8 << 20,), index, dtype=torch.int32)


def test_workers_read_what_they_inherit_in_place() -> None:
    first = iter(DataLoader(Call(large, 12), batch_size=None, num_workers=1))
    held = next(first)
    dataset = Inherited(held)
    second = iter(DataLoader(dataset, batch_size=None, num_workers=2))
    plain = iter(DataLoader(Inherited(torch.zeros(4)), batch_size=None, num_workers=1))
    _, _, usual_kib = next(plain)
    found = [next(second) for _ in range(10)]
    # The main process drops it, and its worker writes others.
    dataset.batch = torch.zeros(1)
    del held
    assert [int(batch[0]) for batch in first] == list(range(1, 12))
    found += list(second)
    assert [(least, most) for least, most, _ in found] == [(0, 0)] * 40
    # It is 32 MiB.
    assert max(kib for _, _, kib in found) < usual_kib + 16_000
