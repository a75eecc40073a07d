"""DL-23 to DL-25: the length of loaders and iterators, and the warning about an iterable dataset that is longer."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from contract_support import CountingSampler, Numbers, SizedStream, Stream, values

Loader = type[torch.utils.data.DataLoader]

REPLICAS = (
    "For multiprocessing data-loading, this could be caused by not properly configuring the "
    "IterableDataset replica at each worker. Please see "
    "https://pytorch.org/docs/stable/data.html#torch.utils.data.IterableDataset for examples."
)


def warnings_of(loader: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in loader:
            pass
    assert {warning.category for warning in seen} <= {UserWarning}
    return [str(warning.message) for warning in seen]


@pytest.mark.parametrize("workers", [0, 3])
def test_dl_23_of_a_map_dataset(loader_class: Loader, workers: int) -> None:
    for size, batch, drop, expected in [
        (10, 3, False, 4),
        (10, 3, True, 3),
        (9, 3, False, 3),
        (2, 3, True, 0),
        (10, 1, False, 10),
    ]:
        loader = loader_class(Numbers(size), batch_size=batch, drop_last=drop, num_workers=workers)
        assert len(loader) == expected
    assert len(loader_class(Numbers(10), batch_size=None, num_workers=workers)) == 10
    assert len(loader_class(Numbers(10), batch_size=None, sampler=range(4))) == 4
    assert len(loader_class(Numbers(10), batch_size=4, sampler=range(9))) == 3
    assert len(loader_class(Numbers(10), batch_sampler=CountingSampler([[0], [1]]))) == 2
    assert len(loader_class(Numbers(10), batch_size=4, shuffle=True)) == 3


@pytest.mark.parametrize("shuffle", [False, True])
def test_dl_23_it_grows_with_the_dataset(loader_class: Loader, shuffle: bool) -> None:
    dataset = Numbers(4)
    loader = loader_class(dataset, batch_size=2, shuffle=shuffle)
    assert len(loader) == 2
    dataset.size = 9
    assert len(loader) == 5
    assert sorted(i for batch in values(loader) for i in batch) == list(range(9))


@pytest.mark.parametrize("workers", [0, 3])
def test_dl_23_of_an_iterable_dataset(loader_class: Loader, workers: int) -> None:
    for batch, drop, expected in [(3, False, 4), (3, True, 3), (5, False, 2), (None, False, 10)]:
        loader = loader_class(SizedStream(10, length=10), batch_size=batch, drop_last=drop, num_workers=workers)
        assert len(loader) == expected
        assert type(len(loader)) is int


def test_dl_23_without_a_length(loader_class: Loader) -> None:
    for loader in (
        loader_class(Stream(3)),
        loader_class(Stream(3), batch_size=None),
        loader_class(Numbers(3), sampler=iter([1])),
    ):
        with pytest.raises(TypeError, match="has no len"):
            len(loader)


@pytest.mark.parametrize(("workers", "batch"), [(0, None), (0, 1), (0, 2), (1, 2)])
def test_dl_24_every_batch_beyond_the_length_warns(loader_class: Loader, workers: int, batch: int | None) -> None:
    dataset = SizedStream(4 * (batch or 1), length=2)
    loader = loader_class(dataset, batch_size=batch, num_workers=workers)
    assert warnings_of(loader) == []
    iterator = iter(loader)
    len(loader)
    assert warnings_of(iterator) == []
    # Batches are compared with a length in samples, as torch does it.
    expected = [
        f"Length of IterableDataset {dataset} was reported to be 2(when accessing len(dataloader)), but {count} samples "
        f"have been fetched. {REPLICAS if workers else ''}"
        for count in (3, 4)
    ]
    assert warnings_of(loader) == expected
    assert warnings_of(loader) == expected


def test_dl_24_a_persistent_iterator_learns_the_length_when_it_is_reset(loader_class: Loader) -> None:
    loader = loader_class(SizedStream(3, length=2), num_workers=1, persistent_workers=True)
    assert warnings_of(loader) == []
    len(loader)
    assert len(warnings_of(loader)) == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_dl_25_of_an_iterator(loader_class: Loader, workers: int) -> None:
    iterator = iter(loader_class(Numbers(5), batch_size=2, num_workers=workers))
    assert len(iterator) == 3
    next(iterator)
    assert len(iterator) == 3
    assert len(iter(loader_class(Numbers(5), batch_size=None, num_workers=workers))) == 5
    with pytest.raises(TypeError, match="has no len"):
        len(iter(loader_class(SizedStream(4, 4, length=4), num_workers=workers)))
