"""Shardings of the tests: meshes over some of the devices, and what a batch over them must be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def by_rows(shards: int, replicas: int = 1) -> NamedSharding:
    """Rows divided over ``shards``, each on ``replicas`` devices; skips where there are too few."""
    if shards * replicas > jax.device_count():
        pytest.skip(f"needs {shards * replicas} devices, there are {jax.device_count()}")
    devices = np.array(jax.devices()[: shards * replicas]).reshape(shards, replicas)
    return NamedSharding(Mesh(devices, ("data", "model")), PartitionSpec("data"))


def dealt(order: list[int], batch_size: int, shards: int) -> Iterator[list[int]]:
    """What batches of this size hold, of samples in this order: shard ``s`` has every ``shards``-th from ``s`` on."""
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        yield [sample for shard in range(shards) for sample in batch[shard::shards]]


def ids(loader: Any) -> list[list[int]]:
    """The field ``id`` of each batch."""
    return [np.asarray(batch["id"]).tolist() for batch in loader]


def flat(batches: list[list[int]]) -> list[int]:
    """All of them in one list."""
    return [sample for batch in batches for sample in batch]
