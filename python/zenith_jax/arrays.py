"""From the parts of a batch, which lie in the engine's memory, to `jax.Array`s over the devices.

On the CPU an array is that memory: jax takes it over by DLPack, a device's part as it is, and gives it back when the last array
over it is gone. To other devices it is copied from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from zenith._engine import Part
from zenith.datasets import FieldInfo
from zenith.values import numpy_dtype, varying_values

from zenith_jax.placement import Placement, Shardings, check_field, rows_only, sharding_of


class Arrays:
    """Makes the batches of one iterator: a dict of fields in the order of the schema.

    Dense fields are global arrays. Fields of varying size (text, lists, objects) are lists of the values of this process's
    rows, which stand in the order of its shards.
    """

    def __init__(self, schema: tuple[FieldInfo, ...], shardings: Shardings, placement: Placement, rows: int) -> None:
        self._schema = schema
        self._placement = placement
        self._is_single = shardings is None
        device = placement.devices[0][0]
        self._shardings = {info.name: sharding_of(shardings, info.name, device) for info in schema}
        self._rows_sharding = rows_only(sharding_of(shardings, schema[0].name, device))
        for info in schema:
            if info.kind == "dense":
                assert info.shape is not None
                check_field(self._shardings[info.name], info.name, (rows * placement.world, *info.shape))
        self._first_part = np.cumsum([0, *(1 if info.kind == "dense" else 2 for info in schema)]).tolist()
        self._all_valid: dict[int, jax.Array] = {}

    def batch(self, parts: Sequence[Part]) -> dict[str, Any]:
        """The arrays of a batch."""
        of_shard = self._first_part[-1]
        batch: dict[str, Any] = {}
        for info, first in zip(self._schema, self._first_part, strict=False):
            own = parts[first::of_shard]
            batch[info.name] = (
                self._dense(info, own)
                if info.kind == "dense"
                else self._varying(info, own, parts[first + 1 :: of_shard])
            )
        return batch

    def rows(self, parts: Sequence[Part]) -> int:
        """Samples of the batch over all shards."""
        rows = parts[0].shape[0] - (self._schema[0].kind != "dense")
        return rows * self._placement.world

    def mask(self, rows: int, position: int, valid: int) -> jax.Array:
        """Which rows are samples of their own, where the last ones of an epoch are repeats: booleans ``[rows]``.

        ``position`` is where the batch begins in the epoch, of which ``valid`` samples were left for it.
        """
        if valid >= rows and rows in self._all_valid:
            return self._all_valid[rows]
        world = self._placement.world
        shards, turns = np.meshgrid(np.arange(world), np.arange(rows // world), indexing="ij")
        flags = ((shards - position) % world + turns * world < valid).reshape(rows)
        mask = jax.make_array_from_callback((rows,), self._rows_sharding, lambda index: flags[index])
        if valid >= rows:
            self._all_valid = {rows: mask}
        return mask

    def _dense(self, info: FieldInfo, parts: Sequence[Part]) -> jax.Array:
        if self._is_single:
            return on_device(parts[0], self._placement.devices[0][0])
        pairs = zip(parts, self._placement.devices, strict=True)
        arrays = [on_device(part, device) for part, devices in pairs for device in devices]
        rows, *shape = parts[0].shape
        extents = (rows * self._placement.world, *shape)
        return jax.make_array_from_single_device_arrays(extents, self._shardings[info.name], arrays)

    def _varying(self, info: FieldInfo, offsets: Sequence[Part], contents: Sequence[Part]) -> list[Any]:
        values: list[Any] = []
        for offset, content in zip(offsets, contents, strict=True):
            values += varying_values(info, on_host(offset), on_host(content))
        return values


def on_device(part: Part, device: Any) -> jax.Array:
    """The part as an array of one device: on the CPU the same memory, elsewhere a copy that is under way."""
    is_cpu = device.platform == "cpu"
    array: jax.Array = (
        jax.dlpack.from_dlpack(part.on(device.local_hardware_id)) if is_cpu else jax.device_put(on_host(part), device)
    )
    return array


def on_host(part: Part) -> np.ndarray[Any, Any]:
    """The part as a read-only numpy array over the same memory; bfloat16 too, which numpy's DLPack does not know."""
    return np.from_dlpack(part.raw()).view(numpy_dtype(part.dtype)).reshape(part.shape)
