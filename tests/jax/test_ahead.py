"""Batches for devices other than the CPU are asked for ahead by a thread. The CPU stands in for such devices here."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import zenith
import zenith_jax.arrays
import zenith_jax.epochs
from zenith import _engine
from zenith_jax import DataLoader

from tests.jax.meshes import by_rows, ids


@pytest.fixture
def dataset(parquet_files: Path, monkeypatch: pytest.MonkeyPatch) -> zenith.Dataset:
    """Read as if the devices were others: copied to them, ahead of time."""

    def copied(part: _engine.Part, device: jax.Device) -> jax.Array:
        return jax.device_put(zenith_jax.arrays.on_host(part).copy(), device)

    monkeypatch.setattr(zenith_jax.epochs, "is_worthwhile", lambda _: True)
    monkeypatch.setattr(zenith_jax.arrays, "on_device", copied)
    return zenith.Parquet(parquet_files, columns=["id"])


def threads() -> int:
    return sum(thread.name == "zenith-device-prefetch" for thread in threading.enumerate())


def settled(value: int) -> bool:
    """Whether so many threads run, soon: one that was told to end takes a moment."""
    end = time.monotonic() + 10
    while threads() != value and time.monotonic() < end:
        time.sleep(0.01)
    return threads() == value


@pytest.mark.parametrize("shards", [1, 4])
def test_the_same_batches_come(dataset: zenith.Dataset, monkeypatch: pytest.MonkeyPatch, shards: int) -> None:
    sharding = by_rows(shards)
    loader = DataLoader(dataset, 64, shuffle=True, seed=3, sharding=sharding, num_workers=1)
    first, second = ids(loader), ids(loader)
    assert loader.state_dict()["epoch"] == 2
    assert settled(0)
    monkeypatch.undo()
    plain = DataLoader(dataset, 64, shuffle=True, seed=3, sharding=sharding)
    assert [first, second] == [ids(plain), ids(plain)]


def test_states_count_what_was_handed_out(dataset: zenith.Dataset) -> None:
    loader = DataLoader(dataset, 100, mask="mask")
    for number, batch in enumerate(loader):
        assert loader.state_dict()["position"] == min(100 * (number + 1), 10_007)
        assert loader.state_dict()["epoch"] == 0, "though the thread may be at the end of the epoch"
        assert loader.valid == np.asarray(batch["mask"]).sum()
        if number == 96:
            break
    del batch
    assert settled(0), "leaving the loop ends the thread"
    assert loader.state_dict()["position"] == 9700
    loader.load_state_dict(loader.state_dict())
    assert ids(loader) == [list(range(start, min(start + 100, 10_007))) for start in range(9700, 10_007, 100)]


def test_what_waits_is_bounded_by_bytes(dataset: zenith.Dataset) -> None:
    iterator = iter(DataLoader(dataset, 100, prefetch_bytes=1200))
    shared = iterator._batches._shared
    end = time.monotonic() + 10
    while len(shared.waiting) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)
    assert (len(shared.waiting), shared.bytes) == (3, 1200)
    assert len(ids(iterator)) == 101
    assert next(iterator, None) is None


def test_errors_come_in_their_turn(dataset: zenith.Dataset) -> None:
    iterator = iter(DataLoader(dataset, 100, dtypes={"id": "uint8"}))
    assert [len(next(iterator)["id"]) for _ in range(2)] == [100, 100]
    with pytest.raises(zenith.InvalidArgumentError, match="256 does not fit uint8"):
        next(iterator)
    assert settled(0)
