"""DL-67: whose state a loader's is made of, in what form, and where it can be loaded."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from contract_states import SIZE, shuffled, stateful, take
from contract_support import CountingSampler, Numbers, only_zenith, values
from torch.utils.data import IterableDataset, get_worker_info

Loader = type[torch.utils.data.DataLoader]
both = pytest.mark.parametrize("workers", [0, 2])


class StatefulStream(IterableDataset):
    """Counts from 0; its state is the next number. Every number that it makes is noted."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.next = 0
        self.made: list[int] = []

    def __iter__(self) -> Iterator[int]:
        info = get_worker_info()
        step, start = (1, 0) if info is None else (info.num_workers, info.id)
        begin, self.next = self.next, 0
        for number in range(begin, self.size):
            if number % step == start:
                self.next = number + 1
                self.made.append(number)
                yield number
        self.next = 0

    def state_dict(self) -> dict[str, int]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.next = state["next"]


class PlainStream(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        info = get_worker_info()
        return iter(range(SIZE) if info is None else range(info.id, SIZE, info.num_workers))


class StatefulSampler(CountingSampler):
    """Its state is the number of keys that it has given."""

    def __init__(self, keys: list[Any]) -> None:
        super().__init__(keys)
        self.position = 0

    def _draw(self) -> Iterator[Any]:
        begin, self.position = self.position, 0
        for number in range(begin, len(self.keys)):
            self.drawn += 1
            self.position = number + 1
            yield self.keys[number]
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


def through_json(state: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(state))


@only_zenith
@both
def test_dl_67_a_datasets_own_state_is_used(loader_class: Loader, workers: int) -> None:
    loader = stateful(loader_class(StatefulStream(SIZE), batch_size=None, num_workers=workers))
    iterator = iter(loader)
    assert [next(iterator) for _ in range(4)] == [0, 1, 2, 3]
    state = loader.state_dict()
    again = stateful(loader_class(dataset := StatefulStream(SIZE), batch_size=None, num_workers=workers))
    again.load_state_dict(state)
    assert list(again) == list(range(4, SIZE))
    if workers == 0:
        # Not made again only to be thrown away.
        assert dataset.made == list(range(4, SIZE))


@only_zenith
@both
def test_dl_67_without_a_state_of_its_own_a_stream_is_fast_forwarded(loader_class: Loader, workers: int) -> None:
    loader = stateful(loader_class(PlainStream(), batch_size=2, num_workers=workers))
    expected = values(loader)
    iterator = iter(loader)
    take(iterator, 3)
    again = stateful(loader_class(PlainStream(), batch_size=2, num_workers=workers))
    again.load_state_dict(loader.state_dict())
    assert values(again) == expected[3:]


@only_zenith
@both
@pytest.mark.parametrize("kind", [StatefulSampler, CountingSampler])
def test_dl_67_samplers_with_and_without_a_state(
    loader_class: Loader, workers: int, kind: type[CountingSampler]
) -> None:
    keys = [3, 1, 4, 0, 5, 9, 2, 6]
    loader = stateful(loader_class(Numbers(10), batch_size=2, sampler=kind(keys), num_workers=workers))
    iterator = iter(loader)
    take(iterator, 2)
    sampler = kind(keys)
    again = stateful(loader_class(Numbers(10), batch_size=2, sampler=sampler, num_workers=workers))
    again.load_state_dict(loader.state_dict())
    assert values(again) == [[5, 9], [2, 6]]
    assert sampler.drawn == (4 if kind is StatefulSampler else 8)


@only_zenith
def test_dl_67_how_often_workers_tell_their_state(loader_class: Loader) -> None:
    assert inspect.signature(loader_class).parameters["snapshot_every_n_steps"].default == 1
    loader = shuffled(loader_class, 2, snapshot_every_n_steps=3)
    assert loader.snapshot_every_n_steps == 3
    expected = values(shuffled(loader_class, 2))
    iterator = iter(loader)
    take(iterator, 4)
    again = shuffled(loader_class, 2, snapshot_every_n_steps=3)
    again.load_state_dict(loader.state_dict())
    assert values(again) == expected[4:]


@only_zenith
@both
def test_dl_67_the_state_can_be_json(loader_class: Loader, workers: int) -> None:
    loader = shuffled(loader_class, workers)
    expected = values(shuffled(loader_class, workers))
    iterator = iter(loader)
    take(iterator, 2)
    state = loader.state_dict()
    assert through_json(state) == state
    again = shuffled(loader_class, workers)
    again.load_state_dict(through_json(state))
    assert values(again) == expected[2:]


@only_zenith
@both
def test_dl_67_loaders_do_not_share_a_state(loader_class: Loader, workers: int) -> None:
    first, second = shuffled(loader_class, workers), shuffled(loader_class, workers)
    expected = values(shuffled(loader_class, workers))
    iterators = iter(first), iter(second)
    take(iterators[0], 1)
    take(iterators[1], 4)
    for loader, taken in ((first, 1), (second, 4)):
        again = shuffled(loader_class, workers)
        again.load_state_dict(loader.state_dict())
        assert values(again) == expected[taken:]


@only_zenith
@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0), (2, 1)])
def test_dl_67_another_number_of_workers_can_go_on(loader_class: Loader, before: int, after: int) -> None:
    expected = values(shuffled(loader_class, before))
    loader = shuffled(loader_class, before)
    iterator = iter(loader)
    take(iterator, 3)
    again = shuffled(loader_class, after)
    again.load_state_dict(loader.state_dict())
    assert values(again) == expected[3:]


@only_zenith
def test_dl_67_out_of_order_nothing_is_lost(loader_class: Loader) -> None:
    loader = shuffled(loader_class, 2, in_order=False)
    iterator = iter(loader)
    got = take(iterator, 3)
    again = shuffled(loader_class, 2, in_order=False)
    again.load_state_dict(loader.state_dict())
    got += values(again)
    assert sorted(value for batch in got for value in batch) == list(range(SIZE))
