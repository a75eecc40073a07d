"""Trains a small classifier on all devices, is stopped in the midst of an epoch, and goes on from an Orbax checkpoint.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m examples.jax_train

The losses after the stop are those of a run that was never stopped, bit for bit.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pyarrow as pa
import pyarrow.parquet as pq
import zenith
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from zenith_jax import DataLoader
from zenith_jax.checkpoint import CheckpointRestore, CheckpointSave

FEATURES, ROWS, STEPS, STOP = 8, 40_000, 60, 25


def write(path: Path) -> None:
    """A table whose label is a function of its features."""
    random = np.random.default_rng(0)
    features = random.standard_normal((ROWS, FEATURES), dtype=np.float32)
    columns: dict[str, Any] = {f"f{column}": features[:, column] for column in range(FEATURES)}
    columns["label"] = (features.sum(axis=1) > 0).astype(np.int64)
    pq.write_table(pa.table(columns), path, row_group_size=4096)


class Run:
    """A model, its optimiser and a loader over all devices."""

    def __init__(self, path: Path) -> None:
        mesh = jax.make_mesh((jax.device_count(),), ("data",))
        rows = NamedSharding(mesh, PartitionSpec("data"))
        dataset = zenith.Parquet(path, stack={"x": [f"f{column}" for column in range(FEATURES)], "y": "label"})
        self.loader = DataLoader(dataset, 1024, shuffle=True, seed=1, sharding=rows, drop_last=True, num_workers=1)
        self.batches = iter(self.loader)
        model = nnx.Sequential(
            nnx.Linear(FEATURES, 32, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(32, 2, rngs=nnx.Rngs(1))
        )
        self.graph, self.weights = nnx.split(model)
        self.optimizer = optax.adam(1e-2)
        everywhere = NamedSharding(mesh, PartitionSpec())
        self.weights = jax.device_put(self.weights, everywhere)
        self.moments = jax.device_put(self.optimizer.init(self.weights), everywhere)

        @jax.jit
        def step(weights: Any, moments: Any, batch: dict[str, jax.Array]) -> tuple[Any, Any, jax.Array]:
            def loss_of(weights: Any) -> jax.Array:
                logits = nnx.merge(self.graph, weights)(batch["x"])
                return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]))

            loss, slopes = jax.value_and_grad(loss_of)(weights)
            updates, moments = self.optimizer.update(slopes, moments, weights)
            return optax.apply_updates(weights, updates), moments, loss

        self._step = step

    def train(self, steps: int) -> list[float]:
        """So many steps, over as many epochs as it takes; their losses."""
        losses = []
        while len(losses) < steps:
            batch = next(self.batches, None)
            if batch is None:
                self.batches = iter(self.loader)
                continue
            self.weights, self.moments, loss = self._step(self.weights, self.moments, batch)
            losses.append(float(loss))
        return losses

    def save(self, manager: ocp.CheckpointManager, step: int) -> None:
        """The model, the optimiser, and where the loader stands."""
        state = {"weights": self.weights, "moments": self.moments}
        items = {"state": ocp.args.StandardSave(state), "data": CheckpointSave(self.batches)}
        manager.save(step, args=ocp.args.Composite(**items))
        manager.wait_until_finished()

    def restore(self, manager: ocp.CheckpointManager, step: int) -> None:
        """Goes on there."""
        state = {"weights": self.weights, "moments": self.moments}
        items = {"state": ocp.args.StandardRestore(state), "data": CheckpointRestore(self.batches)}
        restored = manager.restore(step, args=ocp.args.Composite(**items))
        self.weights, self.moments = restored["state"]["weights"], restored["state"]["moments"]


def main() -> None:
    """Trains, stops, goes on, and compares."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.parquet"
        write(path)
        whole = Run(path)
        print(whole.loader.explain())
        losses = whole.train(STEPS)
        with ocp.CheckpointManager(Path(folder) / "checkpoints") as manager:
            stopped = Run(path)
            stopped.train(STOP)
            stopped.save(manager, STOP)
            del stopped
            resumed = Run(path)
            resumed.restore(manager, STOP)
            rest = resumed.train(STEPS - STOP)
        print(f"loss {losses[0]:.4f} at the first step, {losses[-1]:.4f} at the last")
        if rest != losses[STOP:]:
            raise SystemExit("the losses after the stop are others than those of the run that was never stopped")
        print(f"stopped at step {STOP} and resumed: the {len(rest)} losses after it are the same, bit for bit")


if __name__ == "__main__":
    main()
