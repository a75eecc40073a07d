"""A state taken at any moment continues exactly, whatever the workers, ranks and batch size before and after."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zenith
from zenith_torch import DataLoader

OPTIONS = {"shuffle": True, "seed": 11, "shuffle_bytes": 64 << 10}
WORKERS = [0, 1, 2, 4]
WORLDS = [1, 2, 3, 8]


@pytest.fixture(scope="module")
def dataset(parquet_files: Path) -> zenith.Parquet:
    return zenith.Parquet(parquet_files, columns=["id"])


@pytest.fixture(scope="module")
def unbroken(dataset: zenith.Parquet) -> list[int]:
    return [int(i) for batch in DataLoader(dataset, batch_size=64, **OPTIONS) for i in batch["id"]]


def take(dataset: zenith.Parquet, world: int, workers: int, batches: int | None, state: dict | None, size: int = 64):
    """What all ranks of a world see together, in the order of positions, and the state after it."""
    parts, states = [], []
    for rank in range(world):
        loader = DataLoader(
            dataset, batch_size=size, num_workers=workers, rank=rank, world_size=world, tail="uneven", **OPTIONS
        )
        if state is not None:
            loader.load_state_dict(state)
        iterator = iter(loader)
        parts.append([i for b in itertools.islice(iterator, batches) for i in b["id"].tolist()])
        states.append(loader.state_dict())
    assert all(s == states[0] for s in states), "the state is the same on every rank"
    return parts, states[0]


def woven(parts: list[list[int]], first_rank: int) -> list[int]:
    """Puts the ranks' samples back into the order of positions."""
    world = len(parts)
    turns = [parts[(first_rank + r) % world] for r in range(world)]
    return [x for row in itertools.zip_longest(*turns) for x in row if x is not None]


@pytest.mark.parametrize("before", WORLDS)
@pytest.mark.parametrize("after", WORLDS)
@pytest.mark.parametrize("workers", [(0, 2), (1, 0), (2, 4), (4, 1)])
def test_exact_for_workers_and_worlds(
    dataset: zenith.Parquet, unbroken: list[int], before: int, after: int, workers: tuple[int, int]
) -> None:
    head, state = take(dataset, before, workers[0], 5, None)
    assert len(json.dumps(state)) < 1024
    assert state["position"] == 5 * 64 * before
    rest, _ = take(dataset, after, workers[1], None, state)
    assert woven(head, 0) + woven(rest, state["position"] % after) == unbroken


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_after_a_break_is_that_of_the_batches_taken(
    dataset: zenith.Parquet, unbroken: list[int], workers: int
) -> None:
    loader = DataLoader(dataset, batch_size=64, num_workers=workers, **OPTIONS)
    for index, _ in enumerate(loader):
        if index == 4:
            break
    state = loader.state_dict()
    assert state["position"] == 5 * 64
    again = DataLoader(dataset, batch_size=64, num_workers=workers, **OPTIONS)
    again.load_state_dict(state)
    assert [i for batch in again for i in batch["id"].tolist()] == unbroken[5 * 64 :]
    # Without a load the next iterator begins the epoch anew, as torch's does; the one before it has no say any more.
    first, second = iter(loader), iter(loader)
    next(second)
    del first
    assert loader.state_dict()["position"] == 64
    del second
    assert loader.state_dict()["position"] == 64
    assert next(iter(loader))["id"].tolist() == unbroken[:64]


def test_set_epoch_keeps_a_loaded_state_of_that_epoch(dataset: zenith.Parquet, unbroken: list[int]) -> None:
    loader = DataLoader(dataset, batch_size=64, **OPTIONS)
    list(itertools.islice(loader, 3))
    state = loader.state_dict()
    for epoch, start in ((0, 3 * 64), (1, 0)):
        again = DataLoader(dataset, batch_size=64, **OPTIONS)
        again.load_state_dict(state)
        again.set_epoch(epoch)
        assert again.state_dict()["position"] == start
        found = [i for batch in again for i in batch["id"].tolist()]
        assert (found == unbroken[start:]) == (epoch == 0)
        assert len(found) == len(unbroken) - start


@pytest.mark.parametrize("workers", WORKERS)
def test_a_state_after_every_batch(dataset: zenith.Parquet, unbroken: list[int], workers: int) -> None:
    loader = DataLoader(dataset, batch_size=700, num_workers=workers, **OPTIONS)
    seen: list[int] = []
    for batch in loader:
        seen += batch["id"].tolist()
        rest, _ = take(dataset, 1, workers, None, loader.state_dict(), size=333)
        assert seen + rest[0] == unbroken


def test_the_end_of_an_epoch(dataset: zenith.Parquet) -> None:
    loader = DataLoader(dataset, batch_size=1000, **OPTIONS)
    iterator = iter(loader)
    for _ in range(len(loader)):
        next(iterator)
    last = loader.state_dict()
    with pytest.raises(StopIteration):
        next(iterator)
    after = loader.state_dict()
    resumed = DataLoader(dataset, batch_size=1000, **OPTIONS)
    resumed.load_state_dict(last)
    assert list(resumed) == [], "taken before StopIteration: nothing is left"
    assert [b["id"].tolist() for b in resumed] == [b["id"].tolist() for b in loader], "then the next epoch"
    resumed.load_state_dict(after)
    assert len(list(resumed)) == len(loader), "taken after StopIteration: a new epoch"


def test_initial_and_empty_states(dataset: zenith.Parquet, unbroken: list[int]) -> None:
    loader = DataLoader(dataset, batch_size=64, **OPTIONS)
    state = loader.state_dict()
    assert state["position"] == 0
    assert state["epoch"] == 0
    loader.load_state_dict({})
    assert [int(i) for b in loader for i in b["id"]] == unbroken


def test_states_of_something_else_are_refused(dataset: zenith.Parquet, tmp_path: Path, parquet_table) -> None:
    loader = DataLoader(dataset, batch_size=64, **OPTIONS)
    state = loader.state_dict()
    pq.write_table(parquet_table.slice(1), tmp_path / "other.parquet")
    other = DataLoader(zenith.Parquet(tmp_path, columns=["id"]), batch_size=64)
    with pytest.raises(zenith.StateError, match="fingerprint"):
        other.load_state_dict(state)
    for damage in (
        {"version": 99},
        {"version": None},
        {"position": -1},
        {"position": 10**9},
        {"lanes": 3},
        {"seed": "x"},
    ):
        with pytest.raises(zenith.StateError):
            loader.load_state_dict({**state, **damage})
    loader.load_state_dict(state)


def test_moved_files_are_the_same_dataset(parquet_files: Path, tmp_path: Path) -> None:
    for path in parquet_files.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert zenith.Parquet(tmp_path).fingerprint == zenith.Parquet(parquet_files).fingerprint
    assert zenith.Parquet(tmp_path, columns=["id"]).fingerprint != zenith.Parquet(parquet_files).fingerprint


def test_datasets_and_loaders_pickle(dataset: zenith.Parquet, unbroken: list[int]) -> None:
    again = pickle.loads(pickle.dumps(dataset))
    assert again.fingerprint == dataset.fingerprint
    assert again[77]["id"] == 77
