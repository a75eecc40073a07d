"""A feed: the batches of a dataset, held ready for the programs that ask for them with ``next_batch``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import zenith
from jax.sharding import Mesh, NamedSharding, Sharding
from zenith import _engine

from zenith_jax.in_program import token


class Feed:
    """Serves the batches of one epoch after the other to `next_batch`, by number.

    Batch 0 is the first of the epoch, or the first after the loaded state. Fields of 64 bits are served with 32 unless
    ``jax_enable_x64`` is set; a value that does not fit is an error. Ragged and text fields are refused.

    Args:
        dataset: a `zenith.Dataset`, or paths that `zenith.open` takes.
        batch_size: rows of a batch, over all devices.
        sharding: a ``NamedSharding`` of the rows: mesh axes that its first entry does not name hold the same rows. Row ``i`` of
            shard ``s`` of ``W`` is row ``i * W + s`` of the batch in the epoch's order. Without it one device gets all rows.
        shuffle, seed, drop_last, num_workers: as a ``DataLoader`` has them. Without ``drop_last`` the last batch is filled up with
            zeros, and ``valid`` says so.
        window: batches that may be asked for again after they were given, and that may be asked for ahead.
        stall_timeout: seconds after which a request fails that cannot be served: less than the 40 s after which XLA
            ends a process whose devices wait for each other
            (``--xla_cpu_collective_call_terminate_timeout_seconds``).
        options: further options of the engine's loader.

    Raises:
        ValueError: an option is out of range, or ``batch_size`` does not divide among the shards.
        NotImplementedError: a field that a program cannot take.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        sharding: Sharding | None = None,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        num_workers: int = 1,
        window: int = 4,
        stall_timeout: float = 30.0,
        **options: Any,
    ) -> None:
        self._dataset = dataset if isinstance(dataset, zenith.Dataset) else zenith.open(dataset)
        self.batch_size = batch_size
        self.window = window
        self.mesh, self.axes = _rows(sharding)
        shards = int(np.prod([self.mesh.shape[axis] for axis in self.axes])) if self.mesh is not None else 1
        self._options = json.dumps(
            {
                **options,
                "batch_size": batch_size,
                "shuffle": shuffle,
                "seed": seed,
                "drop_last": drop_last,
                "num_workers": num_workers,
            }
        )
        self._loader = _engine.Loader(self._dataset._engine, self._options)
        self._epoch, self._position = 0, 0
        narrow = not jax.config.read("jax_enable_x64")
        self._engine = _engine.Feed(
            self._loader,
            shards,
            1 if self.mesh is None else self.mesh.size,
            0,
            0,
            narrow=narrow,
            window=window,
            stall_ms=round(stall_timeout * 1000),
        )
        self.id: int = self._engine.id
        """The number that compiled programs hold."""
        fields = json.loads(self._engine.fields)
        self.names: tuple[str, ...] = tuple(field["name"] for field in fields)
        """Names of the fields."""
        self._shapes = tuple((tuple(field["shape"]), field["dtype"]) for field in fields)

    def __len__(self) -> int:
        """Batches from where the feed began to the end of the epoch."""
        return self._loader.batches(self._position)

    @property
    def token(self) -> np.ndarray:
        """The token of batch 0."""
        return token(0)

    @property
    def epoch(self) -> int:
        """The epoch whose batches are served."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Serves another epoch from its beginning. No program may be asking for batches meanwhile."""
        self._restart(epoch, 0)

    def _restart(self, epoch: int, position: int) -> None:
        self._engine.restart(self._loader, epoch, position)
        self._epoch, self._position = epoch, position

    def state_dict(self, token: Any = None) -> dict[str, Any]:
        """The checkpoint of which the batch of this token is the next (without one: where the feed began).

        It is what every loader of Zenith loads, under any batch size and number of devices.
        """
        epoch, position = self._epoch, self._position
        if token is not None:
            low, high = (int(half) for half in np.asarray(token))
            count = high << 32 | low
            position += count * self.batch_size
            if count >= len(self) or position >= len(self._dataset):
                epoch, position = epoch + 1, 0
        state: dict[str, Any] = json.loads(self._loader.state(epoch, position))
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where a state was taken: batch 0 is the next after it. Its order replaces that of the options.

        Raises:
            zenith.StateError: the state is damaged, newer than this version, or of another dataset.
        """
        self._loader = _engine.Loader(self._dataset._engine, self._options, json.dumps(dict(state)))
        self._restart(state["epoch"], state["position"])

    def mask(self, valid: jax.Array) -> jax.Array:
        """Which rows of a batch are samples, ``bool[batch_size]``, of the ``valid`` that came with it."""
        shards = self.batch_size // self._shapes[0][0][0]
        row = jnp.arange(self.batch_size)
        rows = self.batch_size // shards
        mask: jax.Array = (row % rows) * shards + row // rows < valid
        return mask

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        # Ctrl-C fails a program that asks for batches; the interpreter raises KeyboardInterrupt where it comes back to code of
        # Python, at the latest here.
        self.close()

    def close(self) -> None:
        """Ends the feed's threads. Programs that ask it for batches fail from here on."""
        self._engine.close()


def _rows(sharding: Sharding | None) -> tuple[Mesh | None, tuple[str, ...]]:
    """The mesh, and the axes that share the rows out."""
    if sharding is None:
        return None, ()
    if not isinstance(sharding, NamedSharding):
        raise TypeError(f"Feed: sharding must be a jax.sharding.NamedSharding, got {type(sharding).__name__}")
    if not isinstance(sharding.mesh, Mesh):
        raise TypeError("Feed: the sharding needs a mesh of devices, and has an abstract one")
    if jax.process_count() > 1:
        raise NotImplementedError(
            "Feed: programs over several processes are not served yet. Iterate a zenith_jax.DataLoader"
        )
    first, *others = (*tuple(sharding.spec), None)
    if any(entry is not None for entry in others):
        raise ValueError(f"Feed: rows are shared out along the first axis only, got {sharding.spec}")
    axes = () if first is None else (first,) if isinstance(first, str) else tuple(first)
    return sharding.mesh, axes
