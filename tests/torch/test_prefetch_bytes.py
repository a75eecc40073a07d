"""``prefetch_bytes`` with worker processes: batches wait up to so many bytes, and one per worker whatever it takes."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, IterableDataset
from zenith_torch import DataLoader
from zenith_torch.prefetch import ByteBound, bytes_of

SIZE = 60
KIB = 1 << 10


class Blocks(Dataset):
    """Samples of 64 KiB (or as long as their index says); counts how many were made."""

    def __init__(self, lengths: list[int] | None = None) -> None:
        self.lengths = lengths or [64 * KIB] * SIZE
        self.made = torch.zeros(SIZE, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> torch.Tensor:
        self.made[index] += 1
        return torch.full((self.lengths[index],), index, dtype=torch.uint8)


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        info = torch.utils.data.get_worker_info()
        return iter(torch.full((64 * KIB,), i, dtype=torch.uint8) for i in range(info.id, 9, 1 + info.id))


def waiting(loader: DataLoader, after: int) -> int:
    """Batches made and not handed out, once workers have come to rest after so many."""
    iterator = iter(loader)
    for _ in range(after):
        next(iterator)
    made, before = loader.dataset.made, -1
    while made.sum() != before:
        before = int(made.sum())
        time.sleep(0.3)
    count = before - after
    assert [int(batch[0, 0]) for batch in iterator] == list(range(after, SIZE))
    return count


@pytest.mark.parametrize(
    ("bytes_max", "first", "later"),
    [(None, 16, 16), (1, 2, 2), (5 * 64 * KIB, 2, 5), (64 * 64 * KIB, 2, 16)],
)
def test_so_many_bytes_wait(bytes_max: int | None, first: int, later: int) -> None:
    def loader() -> DataLoader:
        return DataLoader(Blocks(), num_workers=2, prefetch_factor=8, prefetch_bytes=bytes_max)

    assert waiting(loader(), 0) == first
    assert waiting(loader(), 1) == later
    assert waiting(loader(), 20) == later


def test_large_batches_leave_less_room_and_give_it_back() -> None:
    lengths = [4 * KIB] * 20 + [256 * KIB] * 2 + [4 * KIB] * (SIZE - 22)

    def loader() -> DataLoader:
        return DataLoader(Blocks(lengths), num_workers=2, prefetch_factor=8, prefetch_bytes=32 * KIB)

    assert waiting(loader(), 10) == 8
    assert waiting(loader(), 30) == 2
    assert waiting(loader(), 42) == 8


def test_workers_that_end_early_do_not_block() -> None:
    """Worker 0 has 9 samples, worker 1 has 4; tasks of a retired worker take no room."""
    loader = DataLoader(Stream(), batch_size=None, num_workers=2, prefetch_factor=4, prefetch_bytes=1)
    assert sorted(int(batch[0]) for batch in loader) == sorted([*range(9), *range(1, 9, 2)])
    loader = DataLoader(Blocks(), num_workers=3, prefetch_bytes=1, in_order=False, persistent_workers=True)
    for _ in range(2):
        assert sorted(int(batch[0, 0]) for batch in loader) == list(range(SIZE))


def test_bytes_of_batches() -> None:
    batch = {"a": torch.zeros(3, 5), "b": [torch.zeros(2, dtype=torch.int8).numpy(), "text", b"by"], "c": (1,)}
    assert bytes_of(batch) == 60 + 2 + 4 + 2 + 64
    bound = ByteBound(1000)
    assert bound.room(3, 100) == 3
    bound.note(torch.zeros(10, dtype=torch.uint8))
    assert bound.room(3, 100) == 100
    assert bound.room(3, 90) == 90
