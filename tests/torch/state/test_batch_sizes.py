"""A state of a map-style dataset goes on under another ``batch_size``: the same samples in the same order."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from state_samplers import BATCH, ORDERS
from state_support import Numbers, broken, make, seed_all, through_json, values
from zenith_torch import DataLoader

REBATCHED = [
    *("sequential", "shuffle", "generator", "own generator", "replacement", "subset", "weighted", "distributed"),
    *("list", "lazy", "eager", "default generator"),
]


def with_size(order: str, size: int, workers: int) -> Any:
    seed_all(99)
    loader = DataLoader(Numbers(), num_workers=workers, **{**ORDERS[order](), "batch_size": size})
    if order == "distributed":
        loader.sampler.set_epoch(5)
    return loader


def flat(batches: Any) -> list[int]:
    return list(itertools.chain(*batches))


@pytest.mark.parametrize("order", REBATCHED)
@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 0), (0, 2)])
def test_the_same_samples_follow(order: str, before: int, after: int) -> None:
    unbroken = values(make(order, 3, before))
    for at in range(-1, len(unbroken) + 1) if before == after else (2,):
        head, state = broken(order, 3, before, at)
        for size in (1, 3, 7) if before == after else (3,):
            loader = with_size(order, size, after)
            loader.load_state_dict(state)
            rest = values(loader)
            assert flat(head) + flat(rest) == flat(unbroken), (at, size)
            assert all(len(batch) == size for batch in rest[:-1])


@pytest.mark.parametrize("workers", [0, 2])
def test_sizes_may_change_again_and_again(workers: int) -> None:
    unbroken = flat(values(make("shuffle", 3, 0)))
    seen: list[int] = []
    state: dict[str, Any] = {}
    for size in (BATCH, 3, 3, 5, 1, BATCH, 2):
        loader = make("shuffle", 3, workers) if not state else with_size("shuffle", size, workers)
        loader.load_state_dict(state)
        iterator = iter(loader)
        seen += next(iterator).tolist()
        state = through_json(loader.state_dict())
        assert through_json(loader.state_dict()) == state
        assert seen == unbroken[: len(seen)]
        assert state["position"] * state["batch_size"] + state.get("offset", 0) == len(seen)


def test_after_the_end_the_next_epoch_has_the_new_size() -> None:
    unbroken = make("generator", 3, 0)
    epochs = [flat(values(unbroken)) for _ in range(2)]
    loader = make("generator", 3, 0)
    assert flat(values(loader)) == epochs[0]
    resumed = with_size("generator", 6, 0)
    resumed.load_state_dict(through_json(loader.state_dict()))
    rest = values(resumed)
    assert flat(rest) == epochs[1]
    assert len(rest[0]) == 6
    head, state = broken("generator", 3, 0, 2)
    resumed = with_size("generator", 6, 0)
    resumed.load_state_dict(state)
    assert [flat(head) + flat(values(resumed)), flat(values(resumed))] == epochs


def test_drop_last_drops_what_is_left_of_the_new_batches() -> None:
    head, state = broken("drop_last", 3, 0, 1)
    whole = flat(values(make("shuffle", 3, 0)))
    resumed = DataLoader(Numbers(), batch_size=5, shuffle=True, drop_last=True)
    resumed.load_state_dict(state)
    assert flat(head) + flat(values(resumed)) == whole[: BATCH + 15]
