"""States of loaders whose workers stay, and of those whose batches overtake each other."""

from __future__ import annotations

import itertools
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from state_support import BATCHES, Numbers, broken, make, through_json, values
from zenith_torch import DataLoader
from zenith_torch.place import Origin, Place


def test_persistent_workers_honour_a_loaded_state() -> None:
    unbroken = values(make("shuffle", 3, 2))
    head, state = broken("shuffle", 3, 2, 3, persistent_workers=True)
    for after in (2, 0):
        loader = make("shuffle", 99, after, persistent_workers=bool(after))
        values(loader)
        values(itertools.islice(iter(loader), 1))
        pids = [worker.pid for worker in loader._iterator._workers] if after else []
        loader.load_state_dict(state)
        assert head + values(loader) == unbroken
        assert len(values(loader)) == BATCHES
        assert pids == ([worker.pid for worker in loader._iterator._workers] if after else [])


class Stuck(Numbers):
    """The worker that is given sample 0 waits until the others are through with ``until``."""

    def __init__(self, until: int) -> None:
        super().__init__(12)
        self.until = until
        self.released = torch.zeros(()).share_memory_()

    def __getitem__(self, index: int) -> int:
        while index == 0 and self.asked.sum() < self.until and not self.released:
            time.sleep(0.005)
        return super().__getitem__(index)


@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("at", [0, 1, 6, 10])
def test_overtaken_batches_come_once(after: int, at: int) -> None:
    loader = DataLoader(Stuck(8), num_workers=2, in_order=False)
    iterator = iter(loader)
    head = [int(batch) for batch in itertools.islice(iterator, at)]
    state = through_json(loader.state_dict())
    loader.dataset.released.fill_(1)
    del iterator
    if 0 < at < 8:
        assert 0 in state["missing"], "the first sample was overtaken"
    middle = DataLoader(Stuck(0), num_workers=after, in_order=after != 2)
    middle.load_state_dict(state)
    iterator = iter(middle)
    head += [int(batch) for batch in itertools.islice(iterator, 2)]
    last = DataLoader(Stuck(0))
    last.load_state_dict(through_json(middle.state_dict()))
    assert sorted(head + [int(batch) for batch in last]) == list(range(12))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.sets(st.integers(0, 11))), max_size=4))
def test_places_account_for_every_batch(runs: list[tuple[int, set[int]]]) -> None:
    """Whatever is sent and pending in a chain of iterators: a batch was handed out, or it is missing, or to come."""
    place, given_out = Place(Origin()), set()
    for sent, pending in runs:
        numbers = itertools.chain(place.missing, itertools.count(place.start))
        tasks = list(itertools.islice(numbers, sent))
        place.sent, place.pending = sent, tuple(sorted(p for p in pending if p < sent))
        given_out |= {number for task, number in enumerate(tasks) if task not in place.pending}
        end, missing = place.reached()
        assert set(range(end)) - set(missing) == given_out
        assert not missing or missing[-1] < end - 1
        place = Place(Origin(), end, missing)
