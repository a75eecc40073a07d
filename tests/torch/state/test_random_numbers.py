"""Random numbers are torch's: states draw nothing, and a resumed loader leaves the generators where a new one would."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.utils.data as data
from state_support import Numbers, broken, make, seed_all, through_json, values
from zenith_torch import DataLoader


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (1, True)])
@pytest.mark.parametrize("order", ["sequential", "shuffle", "generator", "own generator", "eager", "lazy"])
def test_batches_and_generators_are_torchs(order: str, workers: int, persistent: bool) -> None:
    """Two epochs, with and without states taken meanwhile: the same batches, and the same generators afterwards."""
    seen = []
    for loader, asks in ((data.DataLoader, False), (DataLoader, False), (DataLoader, True))[:: 2 if workers else 1]:
        made = make(order, 3, workers, loader, persistent_workers=persistent)
        batches, marks = [], []
        for _ in range(2):
            for batch in made:
                batches.append(batch.tolist())
                marks.append(torch.get_rng_state().sum().item() if not workers else 0)
                if asks:
                    made.state_dict()
        if asks:
            made.state_dict()
        own = None if made.generator is None else made.generator.get_state().tolist()
        seen.append((batches, marks, torch.get_rng_state().tolist(), own, random.getstate(), np.random.random()))
    assert all(one == seen[0] for one in seen)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_loader_leaves_the_global_generator_as_a_new_one(workers: int) -> None:
    """The draws of a new iterator are made, though others are used; so the next epoch is that of a fresh program."""
    _, state = broken("shuffle", 3, workers, 2)
    fresh = make("shuffle", 99, workers)
    values(fresh)
    expected = torch.get_rng_state()
    following = values(fresh)
    loader = make("shuffle", 99, workers)
    loader.load_state_dict(state)
    values(loader)
    assert torch.equal(torch.get_rng_state(), expected)
    assert values(loader) == following


@pytest.mark.parametrize("order", ["lazy", "eager", "eager single"])
def test_other_samplers_draws_are_put_back(order: str) -> None:
    """Resumed, they draw from the states that were noted, and the program's generators see base_seed drawn alone."""
    _, state = broken(order, 3, 0, 2)
    loader = make(order, 99, 0)
    python, numpys = random.getstate(), np.random.get_state()[1].tolist()
    torch.empty((), dtype=torch.int64).random_()
    expected = torch.get_rng_state()
    loader = make(order, 99, 0)
    loader.load_state_dict(state)
    values(loader)
    assert torch.equal(torch.get_rng_state(), expected)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == (python, numpys)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("order", ["generator", "own generator"])
def test_a_generator_goes_on_as_in_the_unbroken_run(order: str, workers: int) -> None:
    unbroken = make(order, 3, workers)
    epochs = [values(unbroken) for _ in range(3)]
    head, state = broken(order, 3, workers, 2)
    loader = make(order, 99, workers)
    loader.load_state_dict(state)
    assert [head + values(loader), values(loader), values(loader)] == epochs
    assert loader.generator.get_state().tolist() == unbroken.generator.get_state().tolist()


def test_workers_are_seeded_as_before() -> None:
    class Seeds(Numbers):
        def __getitem__(self, index: int) -> int:
            return torch.initial_seed()

    seed_all(3)
    first = DataLoader(Seeds(), batch_size=1, num_workers=1)
    seeds = {int(next(iterator)) for iterator in [iter(first)] for _ in range(3)}
    seed_all(99)
    second = DataLoader(Seeds(), batch_size=1, num_workers=1)
    second.load_state_dict(through_json(first.state_dict()))
    assert {int(seed) for seed in second} == seeds


def test_state_before_iteration_draws_nothing() -> None:
    loader = make("shuffle", 3, 0)
    before = torch.get_rng_state()
    assert loader.state_dict() == loader.state_dict()
    assert torch.equal(torch.get_rng_state(), before)
