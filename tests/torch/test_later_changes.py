"""What programs and libraries change on a loader that is made already, and batch samplers that they give to a new one."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zenith
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, SequentialSampler
from torch.utils.data._utils.collate import default_collate_fn_map
from zenith_torch import DataLoader, PlanSampler

ROWS = 10_007


@pytest.fixture(scope="module")
def dataset(parquet_files: Path) -> zenith.Parquet:
    return zenith.Parquet(parquet_files, columns=["id"])


def ids(loader: Any) -> list[int]:
    return [number for batch in loader for number in batch["id"].tolist()]


def is_native(loader: DataLoader[Any]) -> bool:
    return loader.explain().startswith("native")


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_torchs_batch_sampler_is_what_the_loader_would_make_itself(
    dataset: zenith.Parquet, drop_last: bool, workers: int
) -> None:
    samplers = [
        SequentialSampler(dataset),
        PlanSampler(dataset, seed=3),
        DistributedSampler(dataset, 3, 1, shuffle=False),
    ]
    for sampler in samplers:
        batches = BatchSampler(sampler, 300, drop_last)
        loader = DataLoader(dataset, batch_sampler=batches, num_workers=workers)
        assert is_native(loader), loader.explain()
        theirs = [batch["id"].tolist() for batch in torch.utils.data.DataLoader(dataset, batch_sampler=batches)]
        assert [batch["id"].tolist() for batch in loader] == theirs
        assert len(loader) == len(theirs) == len(batches)
        assert loader.batch_size is None
        assert loader.batch_sampler is batches
    loader = DataLoader(dataset, batch_sampler=BatchSampler(RandomSampler(dataset), 300, drop_last))
    assert is_native(loader)
    assert len(set(ids(loader))) == ROWS - (ROWS % 300 if drop_last else 0)


def test_other_batch_samplers_are_asked(dataset: zenith.Parquet) -> None:
    class Mine(BatchSampler):
        def __iter__(self) -> Iterator[list[int]]:
            return iter([[5, 3], [8]])

    for batches in ([[5, 3], [8]], Mine(SequentialSampler(dataset), 2, False)):
        loader = DataLoader(dataset, batch_sampler=batches)
        assert "makes its own batches" in loader.explain()
        assert ids(loader) == [5, 3, 8]


def test_functions_that_are_assigned_later_are_called(dataset: zenith.Parquet) -> None:
    loader = DataLoader(dataset, batch_size=3)
    assert is_native(loader)
    loader.collate_fn = len
    assert not is_native(loader)
    assert next(iter(loader)) == 3
    loader.collate_fn = torch.utils.data.default_collate
    assert is_native(loader)
    loader.worker_init_fn = print
    assert "worker_init_fn" in loader.explain()


def test_a_sampler_that_takes_the_place_of_another(dataset: zenith.Parquet) -> None:
    loader = DataLoader(dataset, batch_size=300, shuffle=True)
    assert ids(loader) != list(range(ROWS))
    loader.batch_sampler.sampler = SequentialSampler(dataset)
    assert is_native(loader)
    assert ids(loader) == list(range(ROWS))
    loader.batch_sampler.sampler = [7, 2]
    assert ids(loader) == [7, 2]


def test_threads_and_bounds_that_are_assigned_later(dataset: zenith.Parquet) -> None:
    loader = DataLoader(dataset, batch_size=300, shuffle=True, seed=1)
    iterator = iter(loader)
    first = next(iterator)["id"].tolist()
    state = loader.state_dict()
    loader.num_workers = 2
    assert "2 threads" in loader.explain()
    loader.load_state_dict(state)
    rest = ids(loader)
    loader.num_workers = 1
    loader.load_state_dict(state)
    assert ids(loader) == rest
    assert set(first + rest) == set(range(ROWS))
    other = DataLoader(dataset, batch_size=300, shuffle=True, seed=2)
    other.load_state_dict(state)
    assert "seed 1," in other.explain()
    assert ids(other) == rest


@pytest.fixture
def arrays_are_mine() -> Iterator[None]:
    before = default_collate_fn_map[np.ndarray]
    default_collate_fn_map[np.ndarray] = lambda batch, *, collate_fn_map=None: "mine"
    yield
    default_collate_fn_map[np.ndarray] = before


def test_an_entry_of_the_collate_map_for_arrays_is_honoured(dataset: zenith.Parquet, request: Any) -> None:
    loader = DataLoader(dataset, batch_size=3)
    assert is_native(loader)
    request.getfixturevalue("arrays_are_mine")
    assert "default_collate_fn_map" in loader.explain()
    assert next(iter(loader)) == {"id": "mine"}


def test_asking_for_the_length_draws_nothing(dataset: zenith.Parquet) -> None:
    loader = DataLoader(dataset, batch_size=300, shuffle=True)
    before = torch.get_rng_state()
    assert len(loader) == 34
    assert "drawn at the first iteration" in loader.explain()
    assert torch.equal(torch.get_rng_state(), before)
    iter(loader)
    assert f"seed {loader.sampler.seed}" in loader.explain()


def test_a_loader_that_was_used_can_be_pickled(dataset: zenith.Parquet) -> None:
    loader = DataLoader(dataset, batch_size=300, shuffle=True)
    first, length = ids(loader), len(loader)
    copy = pickle.loads(pickle.dumps(loader))
    assert is_native(copy)
    assert len(copy) == length
    second = ids(copy)
    assert second == ids(loader)
    assert second != first
