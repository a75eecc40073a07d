"""DL-6 to DL-8: which attributes can be set later, which private ones exist, and the warning about many workers."""

from __future__ import annotations

import gc
import os
import re
import warnings
from typing import Any

import pytest
import torch
from contract_support import Numbers, SizedStream, Stream, identity, values, worker_id
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler
from torch.utils.data.dataloader import _InfiniteConstantSampler

Loader = type[torch.utils.data.DataLoader]

FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")
MANY_WORKERS = (
    "This DataLoader will create 2 worker processes in total. Our suggested max number of worker in current system is 1, "
    "which is smaller than what this DataLoader is going to create. Please be aware that excessive worker creation might "
    "get DataLoader running slow or even freeze, lower the worker number to avoid potential slowness/freeze if necessary."
)


def as_text(batch: list[Any]) -> str:
    return f"text of {batch}"


@pytest.mark.parametrize("name", FIXED)
def test_dl_06_some_attributes_are_fixed(loader_class: Loader, name: str) -> None:
    class Mine(loader_class):  # type: ignore[valid-type, misc]
        pass

    for kind in (loader_class, Mine):
        loader = kind(Numbers(3))
        before = getattr(loader, name)
        with pytest.raises(
            ValueError, match=f"^{name} attribute should not be set after {kind.__name__} is initialized$"
        ):
            setattr(loader, name, before)
        assert getattr(loader, name) is before


@pytest.mark.parametrize("workers", [0, 1])
def test_dl_06_others_take_effect_with_the_next_iterator(loader_class: Loader, workers: int) -> None:
    loader = loader_class(Numbers(2), num_workers=workers)
    first = iter(loader)
    loader.collate_fn = as_text
    assert [batch.tolist() for batch in first] == [[0], [1]]
    assert values(loader) == ["text of [0]", "text of [1]"]
    loader.anything = 3
    assert loader.anything == 3


def test_dl_06_a_live_persistent_iterator_keeps_its_values(loader_class: Loader) -> None:
    loader = loader_class(Numbers(2), num_workers=1, persistent_workers=True)
    assert values(loader) == [[0], [1]]
    loader.collate_fn = as_text
    loader.timeout = 5
    assert values(loader) == [[0], [1]]
    assert loader._iterator._timeout == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_dl_06_workers_added_later_need_a_prefetch_factor(loader_class: Loader) -> None:
    loader = loader_class(Numbers(4), collate_fn=worker_id)
    loader.num_workers = 2
    assert loader.prefetch_factor is None
    with pytest.raises(TypeError):
        iter(loader)
    gc.collect()
    loader.prefetch_factor = 2
    assert values(loader) == [0, 1, 0, 1]
    loader.num_workers = 0
    assert values(loader) == [None] * 4


def test_dl_06_a_generator_set_later_is_the_next_base_seeds(loader_class: Loader) -> None:
    loader = loader_class(Numbers(2))
    loader.generator = torch.Generator().manual_seed(5)
    expected = torch.empty((), dtype=torch.int64).random_(generator=torch.Generator().manual_seed(5)).item()
    before = torch.get_rng_state()
    assert iter(loader)._base_seed == expected
    assert torch.equal(before, torch.get_rng_state())


def test_dl_07_with_a_batch_sampler(loader_class: Loader) -> None:
    dataset, batches = Numbers(4), [[0, 1], [3]]
    loader = loader_class(dataset, batch_sampler=batches)
    assert loader.batch_size is None
    assert loader.drop_last is False
    assert loader.batch_sampler is batches
    assert type(loader.sampler) is SequentialSampler
    assert loader.sampler.data_source is dataset
    assert loader._auto_collation is True
    assert loader._index_sampler is batches


@pytest.mark.parametrize("shuffle", [None, False, True])
def test_dl_07_with_a_batch_size(loader_class: Loader, shuffle: bool | None) -> None:
    dataset = Numbers(4)
    loader = loader_class(dataset, batch_size=3, shuffle=shuffle, drop_last=True)
    assert type(loader.batch_sampler) is BatchSampler
    assert loader.batch_sampler.sampler is loader.sampler
    assert (loader.batch_sampler.batch_size, loader.batch_sampler.drop_last) == (3, True)
    assert type(loader.sampler) is (RandomSampler if shuffle else SequentialSampler)
    assert loader.sampler.data_source is dataset
    assert loader._auto_collation is True
    assert loader._index_sampler is loader.batch_sampler
    assert loader._dataset_kind == 0


def test_dl_07_the_random_sampler_draws_from_the_loaders_generator(loader_class: Loader) -> None:
    generator = torch.Generator()
    assert loader_class(Numbers(4), shuffle=True, generator=generator).sampler.generator is generator
    assert loader_class(Numbers(4), shuffle=True).sampler.generator is None


def test_dl_07_without_batches(loader_class: Loader) -> None:
    loader = loader_class(Numbers(4), batch_size=None)
    assert loader.batch_size is None
    assert loader.batch_sampler is None
    assert loader._auto_collation is False
    assert loader._index_sampler is loader.sampler


def test_dl_07_an_iterable_dataset(loader_class: Loader) -> None:
    loader = loader_class(SizedStream(4, length=4), batch_size=2)
    assert type(loader.sampler) is _InfiniteConstantSampler
    assert type(loader.batch_sampler) is BatchSampler
    assert loader._dataset_kind == 1
    assert loader._IterableDataset_len_called is None
    len(loader)
    assert loader._IterableDataset_len_called == 4
    assert loader_class(Stream(4), batch_size=None)._index_sampler.__class__ is _InfiniteConstantSampler


def test_dl_07_the_iterator_is_kept_when_persistent_only(loader_class: Loader) -> None:
    loader = loader_class(Numbers(2), num_workers=1)
    assert loader._iterator is None
    iterator = iter(loader)
    assert loader._iterator is None
    del iterator
    persistent = loader_class(Numbers(2), num_workers=1, persistent_workers=True)
    assert persistent._iterator is None
    iterator = iter(persistent)
    assert persistent._iterator is iterator


def test_dl_08_more_workers_than_cpus(loader_class: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    with pytest.warns(UserWarning, match=f"^{re.escape(MANY_WORKERS)}$") as seen:
        loader = loader_class(Numbers(2), num_workers=2, persistent_workers=True)
    assert len(seen) == 1
    with pytest.warns(UserWarning, match=f"^{re.escape(MANY_WORKERS)}$") as seen:
        iterator = iter(loader)
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert iter(loader) is iterator


def test_dl_08_as_many_workers_as_cpus(loader_class: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values(loader_class(Numbers(2), num_workers=1, collate_fn=identity))
        loader_class(Numbers(2))
