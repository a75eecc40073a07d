"""What workers are in is part of a state once somebody has asked for one: random numbers, and what datasets say of themselves."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from state_samplers import BATCH, SIZE
from state_streams import STREAMS, Renumbered, StatefulStream, Stream, WithIterator
from state_support import Counting, Numbers, seed_all, through_json, values
from torch.utils.data import get_worker_info
from zenith_torch import DataLoader


class Drawing(Numbers):
    """Each sample draws from torch's, Python's and numpy's generators, and some from more than others."""

    def __getitem__(self, index: int) -> list[float]:
        info = get_worker_info()
        drawn = [torch.rand(()).item(), random.random(), np.random.random()]
        if index % 3 == 0:
            drawn += [random.gauss(0, 1)] * 2
        super().__getitem__(index)
        return [index, 0 if info is None else info.id, *drawn][:5]


class OneGenerator(Numbers):
    def __getitem__(self, index: int) -> list[float]:
        return [index, torch.randn(()).item() if index > 6 else 0.0]


def make(kind: type[Numbers], workers: int, seed: int, **more: Any) -> DataLoader:
    seed_all(seed)
    return DataLoader(kind(), batch_size=BATCH, shuffle=True, num_workers=workers, collate_fn=list, **more)


@pytest.mark.parametrize("kind", [Drawing, OneGenerator])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_random_numbers_go_on_as_in_the_unbroken_run(kind: type[Numbers], workers: int) -> None:
    unbroken = values(make(kind, workers, 3))
    for cut in range(len(unbroken)) if workers == 2 else (1, 4):
        loader = make(kind, workers, 3)
        loader.load_state_dict({})
        iterator = iter(loader)
        head = values(itertools.islice(iterator, cut))
        state = through_json(loader.state_dict())
        del iterator
        assert loader.state_dict() == state
        resumed = make(kind, workers, 99)
        resumed.load_state_dict(state)
        assert resumed.state_dict() == state
        middle = values(itertools.islice(iter(resumed), 1))
        last = make(kind, workers, 98)
        last.load_state_dict(through_json(resumed.state_dict()))
        assert head + middle + values(last) == unbroken, cut


def test_states_are_told_only_once_they_were_asked_for() -> None:
    loader = make(Drawing, 2, 3, prefetch_factor=1)
    iterator = iter(loader)
    next(iterator)
    first = loader.state_dict()
    assert "worker_states" not in first, "batches under way were made before anybody asked"
    head = values(itertools.islice(iterator, 4))
    state = through_json(loader.state_dict())
    assert all(state["worker_states"])
    resumed = make(Drawing, 2, 99)
    resumed.load_state_dict(state)
    assert values(resumed) == values(iterator)
    assert len(head) == 4
    other = make(Drawing, 1, 99)
    other.load_state_dict(state)
    assert len(values(other)) == 1, "with other workers the position is exact all the same"
    loader = make(Drawing, 2, 3, snapshot_every_n_steps=None)
    loader.state_dict()
    next(iter(loader))
    assert "worker_states" not in loader.state_dict()


def test_states_stay_small_where_nobody_draws() -> None:
    loader = DataLoader(Numbers(), batch_size=BATCH, num_workers=2, shuffle=True)
    loader.state_dict()
    iterator = iter(loader)
    values(itertools.islice(iterator, 3))
    assert "worker_states" not in loader.state_dict()


def test_a_batch_that_failed_has_drawn_too() -> None:
    class Failing(Drawing):
        def __getitem__(self, index: int) -> list[float]:
            sample = super().__getitem__(index)
            if index == 5:
                raise KeyError("no such sample")
            return sample

    def all_of(iterator: Any) -> list[Any]:
        found: list[Any] = []
        while True:
            try:
                found.append(next(iterator))
            except StopIteration:
                return found
            except KeyError:
                found.append("failed")

    unbroken = all_of(iter(make(Failing, 1, 3)))
    cut = unbroken.index("failed") + 1
    loader = make(Failing, 1, 3)
    loader.state_dict()
    iterator = iter(loader)
    for _ in range(cut - 1):
        next(iterator)
    with pytest.raises(KeyError, match="Caught KeyError in DataLoader worker process 0"):
        next(iterator)
    resumed = make(Failing, 1, 99)
    resumed.load_state_dict(loader.state_dict())
    assert all_of(iter(resumed)) == unbroken[cut:]


def test_persistent_workers_go_on_in_later_epochs() -> None:
    unbroken = make(Drawing, 2, 3, persistent_workers=True)
    epochs = [values(unbroken) for _ in range(3)]
    for ends in (False, True):
        loader = make(Drawing, 2, 3, persistent_workers=True)
        loader.state_dict()
        assert values(loader) == epochs[0]
        head = [] if ends else values(itertools.islice(iter(loader), 3))
        state = through_json(loader.state_dict())
        resumed = make(Drawing, 2, 99, persistent_workers=True)
        resumed.load_state_dict(state)
        assert head + values(resumed) == epochs[1]
        # Living workers take up a state as new ones do.
        resumed.load_state_dict(state)
        assert head + values(resumed) == epochs[1]


def test_a_map_dataset_in_workers_is_asked_for_its_state() -> None:
    unbroken = values(DataLoader(Counting(), batch_size=BATCH, num_workers=2))
    loader = DataLoader(Counting(), batch_size=BATCH, num_workers=2)
    loader.state_dict()
    head = values(itertools.islice(iter(loader), 3))
    resumed = DataLoader(Counting(), batch_size=BATCH, num_workers=2)
    resumed.load_state_dict(through_json(loader.state_dict()))
    assert head + values(resumed) == unbroken


class Shared(StatefulStream):
    """Each worker has its own share, and its own state."""

    def __iter__(self) -> Any:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        begin, self.loaded = self.loaded or first, None
        for i in range(begin, SIZE - first, step):
            self.asked[i] += 1
            self.next = i + step
            yield [i, torch.rand(()).item()]


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("size", [2, None])
def test_iterable_datasets_in_workers_are_asked_for_their_state(size: int | None, workers: int, every: int) -> None:
    def make(seed: int) -> DataLoader:
        seed_all(seed)
        options: dict[str, Any] = {"collate_fn": list} if size else {}
        return DataLoader(Shared(), batch_size=size, num_workers=workers, snapshot_every_n_steps=every, **options)

    unbroken = values(make(3))
    for cut in range(0, len(unbroken) + 1, 1 if workers == 2 else 4):
        loader = make(3)
        loader.state_dict()
        iterator = iter(loader)
        head = values(itertools.islice(iterator, cut))
        state = through_json(loader.state_dict())
        del iterator
        resumed = make(99)
        resumed.load_state_dict(state)
        rest = values(resumed)
        assert head + rest == unbroken, cut
        if every == 1 and cut > workers:
            assert resumed.dataset.asked.sum() < SIZE - cut + 2 * workers * (size or 1), "little is drawn again"


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("at", [0, 2, 5, 6])
def test_iterable_datasets_of_every_kind(kind: type[Stream], at: int) -> None:
    """They yield the same in each worker here; what counts is that each goes on where it was."""
    options: dict[str, Any] = {"batch_size": BATCH, "num_workers": 2}
    unbroken = values(DataLoader(kind(), **options))
    loader = DataLoader(kind(), **options)
    loader.state_dict()
    head = values(itertools.islice(iter(loader), at))
    resumed = DataLoader(kind(), **options)
    resumed.load_state_dict(through_json(loader.state_dict()))
    assert head + values(resumed) == unbroken
    if kind not in (Stream,):
        assert values(resumed) == unbroken, "and the next epoch is whole"


@pytest.mark.parametrize("kind", [StatefulStream, WithIterator, Renumbered])
def test_nothing_is_drawn_again(kind: type[Stream]) -> None:
    options: dict[str, Any] = {"batch_size": BATCH, "num_workers": 1}
    loader = DataLoader(kind(), **options)
    loader.state_dict()
    head = values(itertools.islice(iter(loader), 3))
    resumed = DataLoader(kind(), **options)
    resumed.load_state_dict(through_json(loader.state_dict()))
    rest = values(resumed)
    assert list(itertools.chain(*head, *rest)) == list(range(SIZE))
    assert resumed.dataset.asked.tolist() == [int(i >= 3 * BATCH) for i in range(SIZE)]
