"""Which rows of a batch each device has, by the sharding: what of an epoch a process reads, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

Shardings = Sharding | Mapping[str, Sharding] | None
"""Of all fields, or by name of the field."""


@dataclass(frozen=True)
class Placement:
    """The row shards of a batch. Devices that hold the same rows (replicas, model-parallel ones) share a shard."""

    world: int
    """Row shards over all devices of all processes."""
    own: tuple[int, ...]
    """Those of this process's devices, ascending."""
    devices: tuple[tuple[Any, ...], ...]
    """For each of them the devices of this process that hold it."""

    def check(self, batch_size: int) -> int:
        """Rows of a shard in a batch.

        Raises:
            ValueError: the batch cannot be cut into so many shards.
        """
        if batch_size < 1 or batch_size % self.world:
            raise ValueError(
                f"batch_size={batch_size} cannot be divided over the {self.world} row shards of the sharding: it counts the "
                f"samples of all devices of all processes. Use a multiple of {self.world}"
            )
        return batch_size // self.world


def default_device() -> Any:
    """Where JAX puts what nobody placed."""
    return next(iter(jax.device_put(0).devices()))


def placement_of(shardings: Shardings) -> Placement:
    """The row shards of a sharding, or of each of several, which must agree in them.

    Raises:
        ValueError: no device of this process takes part; shardings that cut the rows differently.
    """
    if shardings is None:
        return Placement(1, (0,), ((default_device(),),))
    if isinstance(shardings, Sharding):
        return _rows(shardings)
    placements = {name: _rows(sharding) for name, sharding in shardings.items()}
    if not placements:
        raise ValueError("sharding={} names no field: give a Sharding, or one for each field")
    (first, placement), *others = placements.items()
    for name, other in others:
        if other != placement:
            raise ValueError(
                f"sharding: the fields {first!r} and {name!r} are divided into rows differently. All fields of a batch have "
                "the same rows on a device; shard them further inside jit"
            )
    return placement


def sharding_of(shardings: Shardings, name: str, device: Any) -> Sharding:
    """The sharding of one field; one that is not named has that of the rows of the others."""
    if shardings is None:
        return SingleDeviceSharding(device)
    if isinstance(shardings, Sharding):
        return shardings
    return shardings[name] if name in shardings else rows_only(next(iter(shardings.values())))


def rows_only(sharding: Sharding) -> Sharding:
    """The sharding of an array that has rows and nothing else."""
    if isinstance(sharding, NamedSharding) and len(sharding.spec) > 1:
        return NamedSharding(sharding.mesh, PartitionSpec(sharding.spec[0]))
    return sharding


def check_field(sharding: Sharding, name: str, shape: tuple[int, ...]) -> None:
    """Whether arrays of this shape, rows first, can be made of whole rows.

    Raises:
        ValueError: the sharding has more dimensions, or divides others than the rows.
    """
    try:
        indices = sharding.devices_indices_map(shape)
    except (ValueError, IndexError) as error:
        raise ValueError(
            f"sharding: {sharding} does not fit field {name!r}, in batches of shape {list(shape)}"
        ) from error
    for index in indices.values():
        for extent, part in zip(shape[1:], index[1:], strict=True):
            if part.indices(extent) != (0, extent, 1):
                raise ValueError(
                    f"sharding divides field {name!r}, in batches of shape {list(shape)}, not by rows alone, and a device's "
                    "part of a batch is whole samples. Give sharding={...} by field, and shard other dimensions inside jit"
                )


def _rows(sharding: Sharding) -> Placement:
    # The number of row shards divides that of the devices, so that an array of so many rows can be divided.
    count = len(sharding.device_set)
    starts = {d: index[0].indices(count)[0] for d, index in _index_map(sharding, count).items()}
    shards = {start: number for number, start in enumerate(sorted(set(starts.values())))}
    held: dict[int, list[Any]] = {}
    devices: list[Any] = list(sharding.addressable_devices)
    for device in sorted(devices, key=lambda device: device.id):
        held.setdefault(shards[starts[device]], []).append(device)
    if not held:
        raise ValueError(f"sharding: no device of process {jax.process_index()} is in {sharding}")
    own = tuple(sorted(held))
    return Placement(len(shards), own, tuple(tuple(held[shard]) for shard in own))


def _index_map(sharding: Sharding, rows: int) -> dict[Any, Any]:
    """The index of each device in an array of so many rows; other dimensions are whole, or as long as there are devices."""
    dimensions = len(sharding.spec) if isinstance(sharding, NamedSharding) else 1
    return dict(sharding.devices_indices_map((rows,) * max(1, dimensions)))
