"""DL-26 to DL-29: iterable datasets, with and without workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from contract_support import Numbers, SizedStream, Stream, error_of, identity, values, worker_id
from torch.utils.data import ChainDataset, ConcatDataset, IterableDataset, get_worker_info

Loader = type[torch.utils.data.DataLoader]

CAUGHT = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"


class Whole(IterableDataset):
    """Does not shard itself."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(4))


class Sharded(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        info = get_worker_info()
        assert info is not None
        return iter(range(info.id, 7, info.num_workers))


class Journal(IterableDataset):
    """Yields what has happened to this copy so far."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __iter__(self) -> Iterator[list[Any]]:
        self.events.append("iter")
        yield list(self.events)
        yield list(self.events)


class Eager(Journal):
    """Its ``__iter__`` is not a generator: it acts when it is called."""

    def __iter__(self) -> Iterator[list[Any]]:
        self.events.append("iter")
        return iter([list(self.events)])


class Broken(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        raise ValueError("Error in __iter__")


class BreaksLater(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        yield 0
        raise ValueError("Error in the middle")


def note_start(worker: int) -> None:
    info = get_worker_info()
    assert info is not None
    info.dataset.events.append(f"start of {worker}")


def fail_at_start(worker: int) -> None:
    raise ValueError(f"Error at the start of {worker}")


def test_dl_26_every_worker_has_a_whole_copy(loader_class: Loader) -> None:
    assert values(loader_class(Whole(), batch_size=None, num_workers=2)) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert values(loader_class(Whole(), batch_size=None)) == [0, 1, 2, 3]


def test_dl_26_a_dataset_shards_itself(loader_class: Loader) -> None:
    loader = loader_class(Sharded(), batch_size=2, num_workers=2)
    assert values(loader) == [[0, 2], [1, 3], [4, 6], [5]]


@pytest.mark.parametrize(
    ("sizes", "batch", "persistent"),
    [
        ((1, 0, 3), None, False),
        ((1, 0, 3), 1, True),
        ((5, 1, 1), 2, False),
        ((0, 0, 2), 2, True),
        ((0, 0, 0), 1, False),
    ],
    ids=str,
)
def test_dl_26_an_exhausted_worker_retires_alone(
    loader_class: Loader, sizes: tuple[int, ...], batch: int | None, persistent: bool
) -> None:
    loader = loader_class(Stream(*sizes), batch_size=batch, num_workers=3, persistent_workers=persistent)
    step = batch or 1
    streams = [[list(range(s, min(s + step, n))) for s in range(0, n, step)] for n in sizes]
    expected: list[Any] = []
    for turn in range(5):
        for worker, batches in enumerate(streams):
            if turn < len(batches):
                numbers = [100 * worker + i for i in batches[turn]]
                expected.append(numbers[0] if batch is None else numbers)
    assert values(loader) == expected
    if persistent:
        assert values(loader) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_dl_27_without_batches_nothing_becomes_a_tensor(loader_class: Loader, workers: int) -> None:
    got = list(loader_class(Stream(3, 2), batch_size=None, num_workers=workers))
    assert got == ([0, 100, 1, 101, 2] if workers else [0, 1, 2])
    assert {type(value) for value in got} == {int}


def test_dl_27_each_workers_last_batch_is_kept(loader_class: Loader) -> None:
    loader = loader_class(Stream(3, 4), batch_size=3, num_workers=2)
    assert values(loader) == [[0, 1, 2], [100, 101, 102], [103]]
    assert values(loader_class(Stream(4), batch_size=3)) == [[0, 1, 2], [3]]


def test_dl_28_without_workers_the_dataset_is_iterated_by_iter(loader_class: Loader) -> None:
    dataset = Eager()
    loader = loader_class(dataset, batch_size=None, collate_fn=identity)
    assert dataset.events == []
    iterator = iter(loader)
    assert dataset.events == ["iter"]
    assert list(iterator) == [["iter"]]
    iter(loader)
    assert dataset.events == ["iter"] * 2
    with pytest.raises(ValueError, match=r"^Error in __iter__$"):
        iter(loader_class(Broken()))


@pytest.mark.parametrize("kind", [Eager, Journal])
def test_dl_28_with_workers_it_is_iterated_after_their_start(loader_class: Loader, kind: type[Journal]) -> None:
    options = {"batch_size": None, "collate_fn": identity, "num_workers": 1, "worker_init_fn": note_start}
    loader = loader_class(kind(), **options)
    for _ in range(2):
        assert next(iter(loader)) == ["start of 0", "iter"]
    loader = loader_class(kind(), persistent_workers=True, **options)
    for epoch in (1, 2, 3):
        assert list(loader)[-1] == ["start of 0", *["iter"] * epoch]


@pytest.mark.parametrize("workers", [1, 2])
def test_dl_28_an_error_in_iter_comes_with_the_first_batch(loader_class: Loader, workers: int) -> None:
    iterator = iter(loader_class(Broken(), num_workers=workers))
    error = error_of(next, iterator)
    assert type(error) is ValueError
    assert str(error).startswith(CAUGHT)
    assert str(error).endswith("ValueError: Error in __iter__\n")


@pytest.mark.parametrize("dataset", [Numbers(4), Stream(4)], ids=["map", "iterable"])
def test_dl_28_an_error_at_the_start_comes_with_the_first_batch(loader_class: Loader, dataset: Any) -> None:
    iterator = iter(loader_class(dataset, num_workers=1, worker_init_fn=fail_at_start))
    error = error_of(next, iterator)
    assert type(error) is ValueError
    assert str(error).startswith(CAUGHT)
    assert str(error).endswith("ValueError: Error at the start of 0\n")


def test_dl_28_an_error_in_the_middle_ends_the_stream(loader_class: Loader) -> None:
    for workers in (0, 1):
        iterator = iter(loader_class(BreaksLater(), batch_size=None, num_workers=workers))
        assert next(iterator) == 0
        error = error_of(next, iterator)
        assert type(error) is ValueError
        assert "Error in the middle" in str(error)
        with pytest.raises(StopIteration):
            next(iterator)


@pytest.mark.parametrize("workers", [0, 1])
def test_dl_29_concat_and_chain_are_torchs(loader_class: Loader, workers: int) -> None:
    with pytest.raises(AssertionError, match="does not support IterableDataset"):
        ConcatDataset([Numbers(2), Stream(2)])
    loader = loader_class(ChainDataset([Stream(2), Whole()]), batch_size=None, num_workers=workers)
    assert values(loader) == [0, 1, 0, 1, 2, 3]
    assert values(loader_class(ConcatDataset([Numbers(2), Numbers(1, 5)]), num_workers=workers)) == [[0], [1], [5]]
    mixed = loader_class(ChainDataset([SizedStream(1, length=1), Numbers(2)]), batch_size=None, num_workers=workers)
    iterator = iter(mixed)
    assert next(iterator) == 0
    error = error_of(next, iterator)
    assert type(error) is AssertionError
    assert "ChainDataset only supports IterableDataset" in str(error)
    with pytest.raises(AssertionError, match="only supports IterableDataset"):
        len(mixed)


def test_dl_26_a_worker_knows_itself_while_it_iterates(loader_class: Loader) -> None:
    loader = loader_class(Stream(1, 1), batch_size=1, num_workers=2, collate_fn=worker_id)
    assert list(loader) == [0, 1]
