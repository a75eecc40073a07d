"""The rows `jax-*`: batches of the Parquet table as `jax.Array`s, on one device and laid out over eight of the CPU.

A batch is `(x, y)`: f32 [4096, 28] and i32 [4096], which is what JAX has without x64. Its rows lie on the first axis of a mesh
of all devices. The last rows, which fill no batch, are dropped. Everybody waits until a batch is there before the next is taken,
as a training step does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

DEVICES = {"jax-parquet": 1, "jax-parquet-8": 8}
"""Work → forced devices of the CPU."""


def environment(work: str) -> tuple[tuple[str, str], ...]:
    """What has to be set before JAX is imported."""
    flags = f"--xla_force_host_platform_device_count={DEVICES[work]}"
    return (("XLA_FLAGS", flags), ("JAX_PLATFORMS", "cpu"), ("TF_CPP_MIN_LOG_LEVEL", "2"))


def row_sharding() -> Any:
    """Rows over all devices."""
    import jax

    mesh = jax.make_mesh((jax.device_count(),), ("rows",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))


@dataclasses.dataclass
class Waiting:
    """A feed of numpy batches or arrays, put on the devices where they are not there yet, and waited for."""

    feed: Any
    put: bool

    def epoch(self, epoch: int) -> Iterator[Any]:
        import jax

        sharding = row_sharding()
        for x, y in self.feed.epoch(epoch):
            yield jax.block_until_ready(jax.device_put((x, y), sharding) if self.put else (x, y))


def whole_batches(
    blocks: Iterator[tuple[np.ndarray, np.ndarray]], random: np.random.Generator, rows: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of `rows` rows of (x, y) blocks, each block permuted; what is left of one goes before the next."""
    rest: tuple[np.ndarray, np.ndarray] | None = None
    for x, y in blocks:
        if rest is not None and len(rest[1]):
            x, y = np.concatenate([rest[0], x]), np.concatenate([rest[1], y])
        order = random.permutation(len(y))
        whole = len(y) - len(y) % rows
        for start in range(0, whole, rows):
            chosen = order[start : start + rows]
            yield np.take(x, chosen, 0), np.take(y, chosen)
        rest = x[order[whole:]], y[order[whole:]]
