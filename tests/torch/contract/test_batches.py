"""DL-63 to DL-65: batches belong to their consumer, who may change, keep and drop them."""

from __future__ import annotations

import gc
import os
import pickle
import threading
import time
import weakref
from typing import Any

import pytest
import torch
from contract_support import Call, Numbers, identity, values
from torch.utils.data import Dataset, TensorDataset

Loader = type[torch.utils.data.DataLoader]
both = pytest.mark.parametrize("workers", [0, 2])


class Exclusive(Dataset):
    """Notices calls that overlap."""

    def __init__(self) -> None:
        self.inside = 0

    def __getitem__(self, index: int) -> tuple[int, int]:
        assert self.inside == 0
        self.inside += 1
        time.sleep(0.002)
        self.inside -= 1
        return os.getpid(), threading.get_ident()

    def __len__(self) -> int:
        return 12


def field(index: int) -> dict[str, Any]:
    return {"tensor": torch.full((100,), index), "number": index, "list": [torch.full((3, 3), float(index))]}


def mapped() -> int:
    """Shared memory that this process has mapped; its files are without a name."""
    with open("/proc/self/maps") as file:
        return sum("(deleted)" in line or "/dev/shm" in line or "memfd" in line for line in file)


@both
def test_dl_63_batches_can_be_kept_and_changed(loader_class: Loader, workers: int) -> None:
    size = 60
    loader = loader_class(Call(field, size), batch_size=2, num_workers=workers)
    kept = []
    for number, batch in enumerate(loader):
        kept.append(batch)
        if number % 2 == 0:
            batch["tensor"].fill_(-1)
            batch["list"][0].zero_()
            batch["new"] = number
    del loader, batch
    gc.collect()
    for number, batch in enumerate(kept):
        first = 2 * number
        changed = number % 2 == 0
        assert batch["tensor"].tolist() == [[-1 if changed else i] * 100 for i in (first, first + 1)]
        assert batch["number"].tolist() == [first, first + 1]
        assert batch["list"][0][1, 2, 2].item() == (0 if changed else first + 1)
        assert ("new" in batch) is changed
    pointers = [tensor.data_ptr() for batch in kept for tensor in (batch["tensor"], batch["number"], *batch["list"])]
    assert len(set(pointers)) == len(pointers)


@both
def test_dl_63_a_part_of_a_batch_outlives_it(loader_class: Loader, workers: int) -> None:
    parts, arrays = [], []
    for batch in loader_class(Call(field, 40), batch_size=2, num_workers=workers):
        parts.append(batch["tensor"][1, 50:])
        arrays.append(batch["number"].numpy())
    del batch
    gc.collect()
    assert [part.tolist() for part in parts] == [[i] * 50 for i in range(1, 40, 2)]
    assert [array.tolist() for array in arrays] == [[i, i + 1] for i in range(0, 40, 2)]


@both
def test_dl_63_a_batch_is_an_ordinary_tensor(loader_class: Loader, workers: int) -> None:
    iterator = iter(loader_class(Call(field, 4), batch_size=2, num_workers=workers))
    batch = next(iterator)["tensor"]
    assert not batch.requires_grad
    assert batch.is_contiguous()
    assert batch.untyped_storage().nbytes() == batch.numel() * 8
    copy = pickle.loads(pickle.dumps(batch))
    assert torch.equal(copy, batch)
    batch.set_(torch.zeros(1, dtype=torch.int64))
    assert next(iterator)["tensor"].tolist() == [[2] * 100, [3] * 100]


def test_dl_63_a_batch_is_no_view_of_the_dataset(loader_class: Loader) -> None:
    source = torch.arange(6.0)
    for shuffle in (False, True):
        for (batch,) in loader_class(TensorDataset(source), batch_size=3, shuffle=shuffle):
            batch.fill_(-1)
    assert source.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_dl_64_a_batch_that_is_dropped_is_gone(loader_class: Loader, workers: int, persistent: bool) -> None:
    iterator = iter(loader_class(Call(field, 12), batch_size=2, num_workers=workers, persistent_workers=persistent))
    for _ in range(6):
        batch = next(iterator)
        references = [weakref.ref(tensor) for tensor in (batch["tensor"], batch["number"], batch["list"][0])]
        del batch
        assert [reference() for reference in references] == [None] * 3
    assert next(iterator, None) is None


def test_dl_64_no_shared_memory_stays_mapped(loader_class: Loader) -> None:
    before = mapped()
    kept = list(loader_class(Call(field, 40), batch_size=2, num_workers=2))
    assert mapped() > before
    del kept
    gc.collect()
    assert mapped() <= before


@both
def test_dl_65_a_dataset_is_never_asked_twice_at_a_time(loader_class: Loader, workers: int) -> None:
    loader = loader_class(Exclusive(), batch_size=3, num_workers=workers, collate_fn=identity)
    places = {place for batch in loader for place in batch}
    assert len(places) == (workers or 1)
    if workers == 0:
        assert places == {(os.getpid(), threading.get_ident())}


def test_dl_65_without_workers_nothing_runs_ahead(loader_class: Loader) -> None:
    asked: list[int] = []

    def note(index: int) -> int:
        asked.append(index)
        return index

    iterator = iter(loader_class(Call(note, 6), batch_size=2))
    assert asked == []
    for number in range(3):
        next(iterator)
        assert asked == list(range(2 * number + 2))
    assert values(loader_class(Numbers(2))) == [[0], [1]]
