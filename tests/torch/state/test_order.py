"""The rest of an epoch is that of the unbroken run, whatever the sampler and the workers, and costs no sample twice."""

from __future__ import annotations

import itertools
import time

import pytest
import torch.utils.data as data
from state_samplers import ORDERS, SIZE
from state_support import broken, make, through_json, values
from zenith_torch import DataLoader


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 2), (2, 0), (1, 2)])
def test_rest_is_that_of_the_unbroken_run(order: str, before: int, after: int) -> None:
    """Every kind of sampler, workers before and after, every position (-1: before there is an iterator)."""
    unbroken = values(make(order, 3, before))
    everywhere = range(-1, len(unbroken) + 1)
    # What a sampler draws from the process before base_seed is only known once there is an iterator.
    first = 0 if order == "eager single" else -1
    ends = {0: [first, len(unbroken) - 1], 1: [1], 2: [2, len(unbroken)]}[before]
    positions = everywhere[first + 1 :] if before == after == 0 else ends
    for at in positions:
        head, state = broken(order, 3, before, at)
        loader = make(order, 99, after)
        loader.load_state_dict(state)
        assert through_json(loader.state_dict()) == state, "until it is taken up, it is the state"
        assert head + values(loader) == unbroken, at


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("order", ["shuffle", "stateful", "late stateful", "own draws", "generator", "lazy"])
def test_states_of_resumed_runs_resume(order: str, workers: int) -> None:
    unbroken = values(make(order, 3, workers))
    seen, state = [], {}
    for seed in range(40, 44):
        loader = make(order, 3 if not state else seed, workers)
        loader.load_state_dict(state)
        part = values(itertools.islice(iter(loader), 2))
        seen += part
        state = through_json(loader.state_dict())
        if len(part) < 2:
            break
    assert seen == unbroken


@pytest.mark.parametrize(("every", "workers"), [(0, 0), (2, 0), (4, 0), (None, 0), (2, 1)])
def test_snapshots_of_samplers_may_be_rare(every: int | None, workers: int) -> None:
    for order in ("stateful", "stateful iterator"):
        unbroken = values(make(order, 3, workers))
        for at in (0, 1, 3, 4) if workers == 0 else (3,):
            head, state = broken(order, 3, workers, at, snapshot_every_n_steps=every)
            loader = make(order, 99, workers, snapshot_every_n_steps=every)
            loader.load_state_dict(state)
            assert head + values(loader) == unbroken


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_is_loaded_again(workers: int) -> None:
    head, state = broken("shuffle", 3, workers, 3)
    loader = make("shuffle", 99, workers)
    loader.load_state_dict(state)
    rest = values(loader)
    assert sorted(itertools.chain(*head, *rest)) == list(range(SIZE))
    expected = [int(i in set(itertools.chain(*rest))) for i in range(SIZE)]
    assert loader.dataset.asked.tolist() == expected


def test_skips_ten_million_samples_without_loading_one() -> None:
    class Huge(data.Dataset):
        def __len__(self) -> int:
            return 10_000_000

        def __getitem__(self, index: int) -> int:
            return index

    loader = DataLoader(Huge(), batch_size=64)
    state = {**loader.state_dict(), "position": 156_249}
    begin = time.perf_counter()
    loader.load_state_dict(state)
    assert values(loader) == [list(range(9_999_936, 10_000_000))]
    assert time.perf_counter() - begin < 10
