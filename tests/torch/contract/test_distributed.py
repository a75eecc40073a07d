"""DL-62: torch's ``DistributedSampler`` in a loader."""

from __future__ import annotations

import pytest
import torch
from contract_support import Numbers, values
from torch.utils.data import DistributedSampler

Loader = type[torch.utils.data.DataLoader]
SIZE = 11


def flat(loader: torch.utils.data.DataLoader) -> list[int]:
    return [value for batch in values(loader) for value in batch]


def permutation(seed: int) -> list[int]:
    return torch.randperm(SIZE, generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_dl_62_the_order_is_the_samplers(loader_class: Loader, workers: int) -> None:
    dataset = Numbers(SIZE)
    for rank in range(3):
        sampler = DistributedSampler(dataset, 3, rank, seed=5)
        loader = loader_class(dataset, batch_size=2, sampler=sampler, num_workers=workers)
        assert loader.sampler is sampler
        assert len(loader) == 2
        for epoch in (0, 4):
            sampler.set_epoch(epoch)
            # Padded with the first samples, so that all ranks have four.
            order = permutation(5 + epoch)
            assert flat(loader) == (order + order)[rank:12:3]


def test_dl_62_the_order_changes_by_set_epoch_only(loader_class: Loader) -> None:
    sampler = DistributedSampler(Numbers(SIZE), 1, 0)
    loader = loader_class(Numbers(SIZE), sampler=sampler)
    first = flat(loader)
    assert flat(loader) == first == permutation(0)
    sampler.set_epoch(1)
    assert flat(loader) == permutation(1)


def test_dl_62_with_workers_set_epoch_comes_too_late_for_a_live_iterator(loader_class: Loader) -> None:
    sampler = DistributedSampler(Numbers(SIZE), 1, 0)
    iterator = iter(loader_class(Numbers(SIZE), sampler=sampler, num_workers=1))
    sampler.set_epoch(1)
    assert flat(iterator) == permutation(0)


@pytest.mark.parametrize("rank", [-1, 3, 4])
def test_dl_62_a_bad_rank(rank: int) -> None:
    with pytest.raises(ValueError, match=rf"^Invalid rank {rank}, rank should be in the interval \[0, 2\]$"):
        DistributedSampler(Numbers(SIZE), 3, rank)


@pytest.mark.parametrize("workers", [0, 1])
def test_dl_62_with_drop_last_the_ranks_are_disjoint(loader_class: Loader, workers: int) -> None:
    dataset = Numbers(SIZE)
    parts = [
        flat(
            loader_class(
                dataset, batch_size=2, sampler=DistributedSampler(dataset, 3, rank, drop_last=True), num_workers=workers
            )
        )
        for rank in range(3)
    ]
    assert [len(part) for part in parts] == [3, 3, 3]
    assert len({value for part in parts for value in part}) == 9
