"""States before, between and at the ends of epochs."""

from __future__ import annotations

import itertools

import pytest
from state_support import broken, make, seed_all, through_json, values


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "order", ["sequential", "shuffle", "generator", "stateful", "late stateful", "stateful iterator"]
)
def test_end_of_epoch(order: str, workers: int) -> None:
    """After the last batch there is nothing left; after the end there is the whole next epoch."""
    unbroken = make(order, 3, 0)
    epochs = [values(unbroken), values(unbroken)]
    loader = make(order, 3, workers)
    iterator = iter(loader)
    values(itertools.islice(iterator, len(epochs[0])))
    last = through_json(loader.state_dict())
    assert next(iterator, None) is None
    end = through_json(loader.state_dict())

    resumed = make(order, 99, workers)
    resumed.load_state_dict(last)
    assert values(resumed) == []
    assert len(values(resumed)) == len(epochs[0]), "the epoch after the empty rest is whole"
    resumed = make(order, 99, workers)
    resumed.load_state_dict(end)
    assert values(resumed) == epochs[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_empty_state_is_a_fresh_start(workers: int) -> None:
    loader = make("shuffle", 3, workers)
    values(itertools.islice(iter(loader), 2))
    loader.load_state_dict({})
    seed_all(3)
    assert loader.state_dict() == make("shuffle", 3, workers).state_dict()
    seed_all(3)
    assert values(loader) == values(make("shuffle", 3, workers))


def test_loaders_do_not_disturb_each_other() -> None:
    one, two = make("shuffle", 3, 0), make("shuffle", 3, 0)
    seed_all(3)
    first = iter(one)
    values(itertools.islice(first, 3))
    second = iter(two)
    values(itertools.islice(second, 1))
    assert (one.state_dict()["position"], two.state_dict()["position"]) == (3, 1)


def test_epoch_of_a_distributed_sampler() -> None:
    """Within an epoch the state's epoch counts, at its end the one that the program sets then."""
    head, state = broken("distributed", 3, 0, 2)
    unbroken = make("distributed", 3, 0)
    expected = values(unbroken)
    loader = make("distributed", 99, 0)
    loader.sampler.set_epoch(0)
    loader.load_state_dict(state)
    assert loader.sampler.epoch == 5
    loader.sampler.set_epoch(1)
    assert head + values(loader) == expected
    _, end = broken("distributed", 3, 0, 9)
    loader.load_state_dict(end)
    loader.sampler.set_epoch(6)
    unbroken.sampler.set_epoch(6)
    assert values(loader) == values(unbroken)
