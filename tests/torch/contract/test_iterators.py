"""DL-45 to DL-48: iterators as objects: pickling, what they show of their workers, what profilers see."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pytest
import torch
from contract_support import Numbers, Stream, identity, values
from torch.utils.data.dataloader import _BaseDataLoaderIter, _MultiProcessingDataLoaderIter

Loader = type[torch.utils.data.DataLoader]


@pytest.mark.parametrize("workers", [0, 1])
def test_dl_45_an_iterator_is_its_own_iterator_and_does_not_pickle(loader_class: Loader, workers: int) -> None:
    iterator = iter(loader_class(Numbers(2), num_workers=workers))
    assert iter(iterator) is iterator
    with pytest.raises(NotImplementedError):
        pickle.dumps(iterator)
    assert values(iterator) == [[0], [1]]


def test_dl_45_a_loader_pickles(loader_class: Loader) -> None:
    loader = loader_class(
        Numbers(9), batch_size=2, shuffle=True, num_workers=1, collate_fn=identity, drop_last=True, timeout=3
    )
    values(loader)
    copy = pickle.loads(pickle.dumps(loader))
    assert type(copy) is loader_class
    assert (copy.batch_size, copy.num_workers, copy.collate_fn) == (2, 1, identity)
    assert (copy.drop_last, copy.timeout, copy.prefetch_factor) == (True, 3, 2)
    orders = []
    for each in (loader, copy):
        torch.manual_seed(3)
        orders.append(values(each))
    assert orders[0] == orders[1]
    with pytest.raises(ValueError, match="attribute should not be set after"):
        copy.batch_size = 3


def test_dl_45_a_persistent_loader_pickles_until_it_has_an_iterator(loader_class: Loader) -> None:
    loader = loader_class(Stream(2), num_workers=1, persistent_workers=True)
    assert values(pickle.loads(pickle.dumps(loader))) == [[0], [1]]
    values(loader)
    with pytest.raises(NotImplementedError):
        pickle.dumps(loader)


def test_dl_46_workers_can_be_looked_at_and_ended(loader_class: Loader) -> None:
    iterator = iter(loader_class(Numbers(8), num_workers=2))
    next(iterator)
    assert len(iterator._workers) == 2
    for worker in iterator._workers:
        assert worker.pid not in (None, os.getpid())
        assert worker.is_alive()
        assert worker.exitcode is None
        assert worker.daemon
    assert not hasattr(iterator, "_pin_memory_thread")
    iterator._shutdown_workers()
    for worker in iterator._workers:
        worker.join(2)
        assert not worker.is_alive()
        assert worker.exitcode == 0
    iterator._shutdown_workers()


def test_dl_46_iterators_are_of_torchs_classes(loader_class: Loader) -> None:
    """Lightning ends the workers of a persistent loader if its iterator is of the class, and takes the iterator away."""
    assert isinstance(iter(loader_class(Numbers(2))), _BaseDataLoaderIter)
    loader = loader_class(Numbers(2), num_workers=1, persistent_workers=True)
    values(loader)
    assert isinstance(loader._iterator, _MultiProcessingDataLoaderIter)
    (old,) = loader._iterator._workers
    loader._iterator._shutdown_workers()
    loader._iterator = None
    assert old.exitcode == 0
    assert values(loader) == [[0], [1]]
    assert loader._iterator._workers[0].pid != old.pid


def test_dl_46_a_worker_can_be_terminated(loader_class: Loader) -> None:
    iterator = iter(loader_class(Numbers(8), num_workers=1))
    next(iterator)
    worker = iterator._workers[0]
    worker.terminate()
    worker.join(2)
    assert not worker.is_alive()
    # A worker leaves quietly when its parent asks for it.
    assert worker.exitcode == 0


@pytest.mark.parametrize(
    ("workers", "name"), [(0, "_SingleProcessDataLoaderIter"), (1, "_MultiProcessingDataLoaderIter")]
)
def test_dl_47_profilers_see_each_next(loader_class: Loader, workers: int, name: str) -> None:
    iterator = iter(loader_class(Numbers(3), num_workers=workers))
    next(iterator)
    with torch.autograd.profiler.profile() as profile:
        next(iterator)
        next(iterator)
    names = [event.name for event in profile.function_events]
    assert names.count(f"enumerate(DataLoader)#{name}.__next__") == 2


def test_dl_47_the_use_of_loaders_is_logged(loader_class: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(torch._C, "_log_api_usage_once", logged.append)
    loader_class(Numbers(3))
    assert logged.count("python.data_loader") == 1


def test_dl_48_several_loaders_run_interleaved(loader_class: Loader) -> None:
    loaders: list[Any] = [loader_class(Numbers(6, offset), num_workers=1) for offset in (0, 10)]
    loaders.append(loader_class(Stream(6, 6), batch_size=1, num_workers=2))
    loaders.append(torch.utils.data.DataLoader(Numbers(6, 20), num_workers=1))
    rows = [[batch.item() for batch in row] for row in zip(*loaders, strict=False)]
    assert [row[:2] for row in rows] == [[i, 10 + i] for i in range(6)]
    assert [row[2] for row in rows] == [0, 100, 1, 101, 2, 102]
    assert [row[3] for row in rows] == list(range(20, 26))
