"""DL-17 to DL-20: when keys are drawn, which worker gets which batch, and the order in which batches come back."""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import Any

import pytest
import torch
from contract_support import Call, CountingSampler, Keys, Numbers, identity, values, worker_id
from torch.utils.data import Dataset

Loader = type[torch.utils.data.DataLoader]


class Stuck(Dataset):
    """Sample 0 waits until it is let go; ``releases`` is the sample that does it."""

    def __init__(self, size: int = 10, releases: int | None = None) -> None:
        self.size = size
        self.releases = releases
        self.gate = multiprocessing.get_context("fork").Event()

    def __getitem__(self, index: int) -> int:
        if index == 0:
            assert self.gate.wait(20)
        if index == self.releases:
            self.gate.set()
        return index

    def __len__(self) -> int:
        return self.size


def whose(index: int) -> tuple[int, int | None]:
    return index, worker_id()


@pytest.mark.parametrize("by_batch", [True, False])
@pytest.mark.parametrize(("workers", "times"), [(0, 1), (2, 2)])
def test_dl_17_the_index_sampler_is_iterated_twice_at_first(
    loader_class: Loader, workers: int, times: int, by_batch: bool
) -> None:
    sampler = CountingSampler([[i] for i in range(6)])
    how: dict[str, Any] = {"batch_sampler": sampler} if by_batch else {"batch_size": None, "sampler": sampler}
    loader = loader_class(Keys(6), num_workers=workers, collate_fn=identity, **how)
    iterator = iter(loader)
    assert sampler.iterated == times
    assert values(iterator) == [[i] for i in range(6)]
    assert sampler.iterated == times
    iter(loader)
    assert sampler.iterated == 2 * times


def test_dl_17_and_once_for_each_later_persistent_epoch(loader_class: Loader) -> None:
    sampler = CountingSampler([[i] for i in range(6)])
    loader = loader_class(Numbers(6), num_workers=2, batch_sampler=sampler, persistent_workers=True)
    counts = []
    for _ in range(3):
        values(loader)
        counts.append(sampler.iterated)
    assert counts == [2, 3, 4]


@pytest.mark.parametrize("workers", [0, 2])
def test_dl_17_a_wrapped_sampler_is_iterated_once(loader_class: Loader, workers: int) -> None:
    sampler = CountingSampler(list(range(6)))
    iterator = iter(loader_class(Numbers(6), num_workers=workers, sampler=sampler))
    assert sampler.iterated == (1 if workers else 0)
    assert values(iterator) == [[i] for i in range(6)]
    assert sampler.iterated == 1


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_dl_17_and_dl_20_keys_are_drawn_a_fixed_distance_ahead(loader_class: Loader, factor: int) -> None:
    sampler = CountingSampler([[i] for i in range(20)])
    loader = loader_class(Numbers(20), num_workers=2, batch_sampler=sampler, prefetch_factor=factor)
    iterator = iter(loader)
    drawn = [sampler.drawn]
    for _ in iterator:
        drawn.append(sampler.drawn)
    assert drawn == [min(2 * factor + i, 20) for i in range(21)]
    assert sampler.pids == {os.getpid()}


def test_dl_20_without_workers_keys_are_drawn_one_by_one(loader_class: Loader) -> None:
    sampler = CountingSampler([[i] for i in range(4)])
    iterator = iter(loader_class(Numbers(4), batch_sampler=sampler))
    drawn = [sampler.drawn]
    for _ in iterator:
        drawn.append(sampler.drawn)
    assert drawn == [0, 1, 2, 3, 4]


def test_dl_20_batches_that_wait_their_turn_count_as_in_flight(loader_class: Loader) -> None:
    dataset = Stuck(releases=3)
    sampler = CountingSampler([[i] for i in range(10)])
    iterator = iter(loader_class(dataset, num_workers=2, batch_sampler=sampler))
    # Worker 1 has loaded 1 and 3, for which nobody asked yet.
    assert dataset.gate.wait(20)
    time.sleep(0.1)
    assert sampler.drawn == 4
    assert next(iterator).tolist() == [0]
    assert sampler.drawn == 5
    assert values(iterator) == [[i] for i in range(1, 10)]


@pytest.mark.parametrize("persistent", [False, True])
def test_dl_18_task_i_goes_to_worker_i_mod_n(loader_class: Loader, persistent: bool) -> None:
    loader = loader_class(
        Call(whose, 14), batch_size=2, collate_fn=identity, num_workers=3, persistent_workers=persistent
    )
    expected = [[(2 * i, i % 3), (2 * i + 1, i % 3)] for i in range(7)]
    # Seven batches for three workers: a second epoch would begin at worker 1 if it went on where the first ended.
    assert values(loader) == values(loader) == expected


def test_dl_18_batches_come_in_order_however_slow_a_worker_is(loader_class: Loader) -> None:
    assert values(loader_class(Stuck(releases=3), num_workers=2)) == [[i] for i in range(10)]


def test_dl_19_out_of_order_batches_come_when_they_are_complete(loader_class: Loader) -> None:
    dataset = Stuck()
    got = []
    for batch in loader_class(dataset, num_workers=2, prefetch_factor=2, in_order=False):
        got.append(batch.item())
        if got[-1] == 9:
            dataset.gate.set()
    assert got == [1, 3, 4, 5, 6, 7, 8, 9, 0, 2]


@pytest.mark.parametrize(("workers", "factor"), [(2, 1), (2, 3), (3, 1)])
def test_dl_19_each_worker_has_its_share_of_tasks_at_most(loader_class: Loader, workers: int, factor: int) -> None:
    dataset = Stuck(20)
    got = []
    loader = loader_class(dataset, num_workers=workers, prefetch_factor=factor, in_order=False)
    for batch in loader:
        got.append(batch.item())
        if len(got) == 20 - factor:
            dataset.gate.set()
    # The stuck worker holds the tasks of its first rounds and gets no more.
    stuck = [i * workers for i in range(factor)]
    assert got[-factor:] == stuck
    assert sorted(got) == list(range(20))


def test_dl_19_without_workers_the_order_is_the_samplers(loader_class: Loader) -> None:
    assert values(loader_class(Numbers(5), in_order=False)) == [[i] for i in range(5)]
