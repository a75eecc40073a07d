"""Datasets that are asked for their state, and iterable ones without one, which are read again up to it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
from state_samplers import BATCH, SIZE
from state_streams import STREAMS, Stream
from state_support import Counting, through_json, values
from zenith_torch import DataLoader


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("size", [BATCH, None])
def test_iterable_datasets(kind: type[Stream], size: int | None) -> None:
    unbroken = values(DataLoader(kind(), batch_size=size))
    for at in range(-1, len(unbroken) + 1):
        loader = DataLoader(kind(), batch_size=size)
        head = []
        if at >= 0:
            iterator = iter(loader)
            head = values(itertools.islice(iterator, at))
        state = through_json(loader.state_dict())
        resumed = DataLoader(kind(), batch_size=size)
        resumed.load_state_dict(state)
        rest = values(resumed)
        assert head + rest == unbroken, at
        if kind is not Stream and at < len(unbroken):
            flat = set(rest) if size is None else set(itertools.chain(*rest))
            assert resumed.dataset.asked.tolist() == [int(i in flat) for i in range(SIZE)], "nothing is drawn again"
        assert values(resumed) == unbroken, "and the next epoch is whole"


@pytest.mark.parametrize("kind", STREAMS)
def test_iterable_datasets_after_their_end(kind: type[Stream]) -> None:
    loader = DataLoader(kind(), batch_size=BATCH)
    epoch = values(loader)
    resumed = DataLoader(kind(), batch_size=BATCH)
    resumed.load_state_dict(through_json(loader.state_dict()))
    assert values(resumed) == epoch
    assert values(resumed) == epoch


@pytest.mark.parametrize("persistent", [False, True])
def test_iterable_datasets_with_workers(persistent: bool) -> None:
    options: dict[str, Any] = {"batch_size": BATCH, "num_workers": 2, "persistent_workers": persistent}
    unbroken = values(DataLoader(Stream(), **options))
    resumed = DataLoader(Stream(), **options)
    for at in (-1, 0, 3, 6):
        loader = DataLoader(Stream(), **options)
        head = [] if at < 0 else values(itertools.islice(iter(loader), at))
        resumed.load_state_dict(through_json(loader.state_dict()))
        assert head + values(resumed) == unbroken, at


def test_iterable_datasets_with_workers_that_overtake() -> None:
    class Uneven(Stream):
        def __iter__(self) -> Iterator[int]:
            for i in super().__iter__():
                time.sleep(0.01 if i % 2 else 0)
                yield i

    loader = DataLoader(Uneven(), batch_size=2, num_workers=2, in_order=False)
    head = values(itertools.islice(iter(loader), 5))
    resumed = DataLoader(Stream(), batch_size=2, num_workers=2, in_order=False)
    resumed.load_state_dict(through_json(loader.state_dict()))
    assert sorted(itertools.chain(*head, *values(resumed))) == list(range(SIZE))


def test_a_map_dataset_with_a_state_is_asked_for_it() -> None:
    loader = DataLoader(Counting(), batch_size=BATCH)
    values(itertools.islice(iter(loader), 2))
    resumed = DataLoader(Counting(), batch_size=BATCH)
    resumed.load_state_dict(through_json(loader.state_dict()))
    assert values(resumed)[0] == [9, 10, 11, 12]
