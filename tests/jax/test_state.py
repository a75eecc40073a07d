"""States: the same as torch's side's, so that a run goes on under another framework, mesh, batch size or process count."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import jax
import pytest
import zenith
import zenith_torch
from zenith_jax import DataLoader

from tests.jax.meshes import by_rows, flat, ids

SHARDS = [1, 2, 8]


@pytest.fixture(scope="module")
def dataset(parquet_files: Path) -> zenith.Dataset:
    return zenith.Parquet(parquet_files, columns=["f0", "id"])


@pytest.fixture(scope="module")
def order(dataset: zenith.Dataset) -> list[int]:
    """Epoch 0 as torch's side reads it at one rank."""
    loader = zenith_torch.DataLoader(dataset, 64, shuffle=True, seed=9)
    return [int(sample) for batch in loader for sample in batch["id"]]


def loader_of(dataset: zenith.Dataset, batch_size: int, shards: int | None, **options: Any) -> DataLoader:
    sharding = None if shards is None else by_rows(shards)
    return DataLoader(dataset, batch_size, shuffle=True, seed=9, sharding=sharding, drop_last=True, **options)


@pytest.mark.parametrize("shards", [None, *SHARDS])
def test_a_run_of_torch_goes_on_under_jax(dataset: zenith.Dataset, order: list[int], shards: int | None) -> None:
    before = zenith_torch.DataLoader(dataset, 48, shuffle=True, seed=9, num_workers=2)
    batches = iter(before)
    for _ in range(7):
        next(batches)
    state = json.loads(json.dumps(before.state_dict()))
    after = DataLoader(dataset, 80, sharding=None if shards is None else by_rows(shards), num_workers=2)
    after.load_state_dict(state)
    assert after.state_dict() == state
    rest = order[7 * 48 :]
    assert sorted(ids(after)[0]) == sorted(rest[:80])
    if shards in (None, 1):
        after.load_state_dict(state)
        assert flat(ids(after)) == rest


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("shards", [None, *SHARDS])
def test_a_run_of_jax_goes_on_under_torch(
    dataset: zenith.Dataset, order: list[int], shards: int | None, world: int
) -> None:
    before = loader_of(dataset, 80, shards, num_workers=2)
    batches = iter(before)
    seen = [sample for _ in range(5) for sample in next(batches)["id"].tolist()]
    assert sorted(seen) == sorted(order[:400])
    state = json.loads(json.dumps(before.state_dict()))
    rest: list[int] = []
    for rank in range(world):
        after = zenith_torch.DataLoader(dataset, 16, rank=rank, world_size=world, tail="uneven")
        after.load_state_dict(state)
        rest += [int(sample) for batch in after for sample in batch["id"]]
    assert sorted(rest) == sorted(order[400:])
    if world == 1:
        assert rest == order[400:]


@pytest.mark.parametrize("then", SHARDS)
@pytest.mark.parametrize("first", SHARDS)
def test_a_run_goes_on_over_another_mesh(dataset: zenith.Dataset, order: list[int], first: int, then: int) -> None:
    before = loader_of(dataset, 24, first)
    batches = iter(before)
    for _ in range(11):
        next(batches)
    after = loader_of(dataset, 56, then, num_workers=1)
    after.load_state_dict(before.state_dict())
    position = 11 * 24
    rest = order[position:]
    # A shard has the positions that are congruent to it, wherever the rest begins.
    found = ids(after)
    assert len(found) == len(rest) // 56
    for number, batch in enumerate(found):
        part = rest[number * 56 : (number + 1) * 56]
        turned = [(shard - position) % then for shard in range(then)]
        assert batch == [sample for shard in turned for sample in part[shard::then]]


def test_states_count_what_was_handed_out(dataset: zenith.Dataset) -> None:
    loader = loader_of(dataset, 100, None, num_workers=2)
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (0, 0)
    for number, _ in enumerate(loader):
        assert loader.state_dict()["position"] == 100 * (number + 1)
        if number == 3:
            break
    assert loader.state_dict()["position"] == 400
    rest = loader_of(dataset, 100, None)
    rest.load_state_dict(loader.state_dict())
    whole = ids(loader_of(dataset, 100, None))
    assert ids(rest) == whole[4:]
    assert (rest.state_dict()["epoch"], rest.state_dict()["position"]) == (1, 0)
    rest.load_state_dict({})
    assert ids(rest) == whole


def test_a_loader_is_pickled_as_its_description_and_its_place(dataset: zenith.Dataset) -> None:
    loader = loader_of(dataset, 100, None)
    whole = ids(loader)
    loader.load_state_dict({})
    batches = iter(loader)
    for _ in range(3):
        next(batches)
    state = loader.state_dict()
    with pytest.raises(NotImplementedError, match="cannot be pickled"):
        pickle.dumps(batches)
    copy = pickle.loads(pickle.dumps(loader))
    assert ids(copy) == whole
    copy.load_state_dict(state)
    assert ids(copy) == whole[3:]


def test_a_state_of_something_else_is_refused(dataset: zenith.Dataset, tokens_file: Path) -> None:
    loader = loader_of(dataset, 100, None)
    other = DataLoader(zenith.Tokens(tokens_file, seq_len=32), 10)
    state = loader.state_dict()
    with pytest.raises(zenith.StateError, match="fingerprint"):
        other.load_state_dict(state)
    for damaged in ({**state, "version": 99}, {**state, "position": -1}, {"position": 3}):
        with pytest.raises(zenith.StateError):
            loader.load_state_dict(damaged)
    assert loader.state_dict() == state


def test_targets_of_tokens_arrive_narrow(tokens_file: Path) -> None:
    dataset = zenith.Tokens(tokens_file, seq_len=32)
    wanted = next(iter(zenith_torch.DataLoader(dataset, 16)))
    batch = next(iter(DataLoader(dataset, 16)))
    assert {name: str(array.dtype) for name, array in batch.items()} == dict.fromkeys(batch, "int32")
    assert all(jax.numpy.array_equal(batch[name], wanted[name].numpy()) for name in wanted)
