"""The side of a loader that reads Python datasets: their order, their epochs and states."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.tree_util import tree_unflatten
from zenith import exits
from zenith.errors import StateError

from zenith_jax import narrowing, samples, workers
from zenith_jax.placement import Placement, check_field, placement_of, rows_only, sharding_of

if TYPE_CHECKING:
    from zenith_jax.loader import DataLoader

STATE_VERSION = 1

_KIND = "jax-samples"


class PythonEpochs:
    """As `Epochs`, for datasets with ``__len__`` and ``__getitem__``."""

    def __init__(self, dataset: Any, loader: DataLoader) -> None:
        self._dataset = dataset
        self._loader = loader
        self._epoch = 0
        self._position = 0
        """What the state tells."""
        self._start = 0
        """Where the next iterator begins."""
        self._epoch_was_set = False
        self._valid = 0
        self._counts = {"batches": 0, "samples": 0}
        self._seed: int | None = None
        self._shuffle: bool | None = None
        """Those of a loaded state."""
        self._current: weakref.ref[_Batches] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_current": None}

    # -- iteration -------------------------------------------------------------------------------------------------

    def begin(self) -> Iterator[Any]:
        """An iterator over the next epoch, or over the rest of the one that was loaded."""
        loader = self._loader
        placement = placement_of(loader.sharding)
        placement.check(loader.batch_size)
        seed, shuffle = self._order()
        plan = _Plan(len(self._dataset), self._start, loader.batch_size, self._tail(placement))
        self._position, self._start = self._start, 0
        indices = samples.order(plan.samples, seed, self._epoch, shuffle)
        own = (
            [indices[positions[shard :: placement.world] % plan.samples].tolist() for shard in placement.own]
            for positions in plan.batches(placement.world)
        )
        wide = narrowing.has_64_bits()
        if loader.num_workers:
            method = loader.multiprocessing_context or "forkserver"
            workers_ahead = loader.prefetch_factor
            loaded = workers.elsewhere(self._dataset, own, wide, loader.num_workers, method, workers_ahead)
        else:
            loaded = workers.here(self._dataset, own, wide)
        self._counts = {"batches": 0, "samples": 0}
        batches = _Batches(self, loaded, placement, plan)
        self._current = weakref.ref(batches)
        return batches

    def deliver(self, by: _Batches, batch: workers.Batch, placement: Placement, plan: _Plan) -> Any:
        """The arrays of a batch, of which the state tells from here on."""
        rows = max((len(leaf) for leaf in batch[0][0]), default=0) * placement.world
        leaves = [
            self._array([of_shard[0][number] for of_shard in batch], placement) for number in range(len(batch[0][0]))
        ]
        delivered = tree_unflatten(batch[0][1], leaves)
        before = by.position
        by.position = min(before + self._loader.batch_size, plan.samples)
        if self._current is not None and self._current() is by:
            self._position, self._valid = by.position, by.position - before
            self._counts = {
                "batches": self._counts["batches"] + 1,
                "samples": self._counts["samples"] + rows // placement.world * len(placement.own),
            }
        return delivered

    def finish(self, by: _Batches) -> None:
        """An iterator has come to its end."""
        if self._current is not None and self._current() is by:
            self._current = None
            self._position = 0
            self._epoch += not self._epoch_was_set

    def _array(self, parts: list[Any], placement: Placement) -> Any:
        if isinstance(parts[0], list):
            return [value for part in parts for value in part]
        shardings = self._loader.sharding
        if shardings is None:
            return jax.device_put(parts[0], placement.devices[0][0])
        shape = (len(parts[0]) * placement.world, *parts[0].shape[1:])
        sharding = sharding_of(shardings, "", placement.devices[0][0])
        sharding = sharding if len(shape) > 1 else rows_only(sharding)
        check_field(sharding, "of the dataset", shape)
        pairs = zip(parts, placement.devices, strict=True)
        arrays = [jax.device_put(part, device) for part, devices in pairs for device in devices]
        return jax.make_array_from_single_device_arrays(shape, sharding, arrays)

    def _order(self) -> tuple[int, bool]:
        seed = (self._loader.seed or 0) % 2**64 if self._seed is None else self._seed
        return seed, self._loader.shuffle if self._shuffle is None else self._shuffle

    def _tail(self, placement: Placement) -> str:
        loader = self._loader
        tail = "drop" if loader.drop_last else loader.tail or ("pad" if placement.world > 1 else "uneven")
        if tail == "uneven" and placement.world > 1:
            raise ValueError(
                'tail="uneven" leaves several shards with different numbers of samples. Use "pad" or "fill"'
            )
        return tail

    def set_epoch(self, epoch: int) -> None:
        """The next iterators are of this epoch; a loaded place in another one is dropped."""
        if epoch != self._epoch:
            self._start = 0
        self._position, self._current = self._start, None
        self._epoch, self._epoch_was_set = epoch, True

    # -- state and accounts ----------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Where the newest iterator stands, or what was loaded."""
        seed, shuffle = self._order()
        place = {"epoch": self._epoch, "position": self._position, "samples": len(self._dataset)}
        return {"version": STATE_VERSION, "kind": _KIND, "seed": seed, "shuffle": shuffle, **place}

    def load(self, state: dict[str, Any]) -> None:
        """Lets the next iterator begin where the state was taken; an empty one means a fresh start."""
        self._current = None
        if not state:
            self._epoch = self._position = self._start = 0
            self._seed = self._shuffle = None
            return
        own = self.state()
        if state.get("version") != STATE_VERSION or state.get("kind") != _KIND or state.keys() != own.keys():
            raise StateError(
                f"this is no state of a Python dataset under JAX (version {STATE_VERSION}): {sorted(state)}"
            )
        if any(type(state[name]) is not type(value) for name, value in own.items()):
            raise StateError("the state is damaged: a value is of another type")
        if state["samples"] != len(self._dataset) or not 0 <= state["position"] <= state["samples"]:
            raise StateError(
                f"the state is at position {state['position']} of {state['samples']} samples; this dataset has "
                f"{len(self._dataset)}. Open it as it was then"
            )
        self._epoch, self._position, self._start = state["epoch"], state["position"], state["position"]
        self._seed, self._shuffle = state["seed"], state["shuffle"]

    def length(self) -> int:
        """Batches of a whole epoch."""
        loader = self._loader
        placement = placement_of(loader.sharding)
        placement.check(loader.batch_size)
        return len(_Plan(len(self._dataset), 0, loader.batch_size, self._tail(placement)))

    @property
    def valid(self) -> int:
        """Samples of the latest batch that are no repeats."""
        return self._valid

    def explain(self) -> str:
        """What is read and how, in a few lines."""
        loader = self._loader
        placement = placement_of(loader.sharding)
        method = loader.multiprocessing_context or "forkserver"
        where = f"{loader.num_workers} processes ({method})" if loader.num_workers else "the calling thread"
        seed, shuffle = self._order()
        return "\n".join(
            [
                f"samples: {type(self._dataset).__name__} is a Python dataset of {len(self._dataset):,} samples",
                f"order: shuffled as a whole, seed {seed}" if shuffle else "order: the dataset's own",
                f"loading: in {where}",
                f"rows: shard {', '.join(map(str, placement.own))} of {placement.world} in a batch of {loader.batch_size}",
            ]
        )

    def stats(self) -> dict[str, Any]:
        """Batches and samples handed out in the current or last epoch."""
        return dict(self._counts)


class _Plan:
    """The positions of the batches of the rest of an epoch."""

    def __init__(self, count: int, start: int, batch_size: int, tail: str) -> None:
        self.samples = count
        self.start = start
        self._batch_size = batch_size
        self._tail = tail

    def __len__(self) -> int:
        left = self.samples - self.start
        return left // self._batch_size if self._tail == "drop" else -(-left // self._batch_size)

    def batches(self, world: int) -> Iterator[np.ndarray[Any, Any]]:
        """For each batch its positions, every ``world``-th from ``s`` on of shard ``s``; past the end they begin again."""
        for number in range(len(self)):
            start = self.start + number * self._batch_size
            end = start + self._batch_size
            if self._tail in ("pad", "uneven") and end > self.samples:
                end = start + -(-(self.samples - start) // world) * world
            positions = np.arange(start, end)
            # Shard s has the positions that are congruent to it, wherever the rest of an epoch begins.
            yield np.roll(positions.reshape(-1, world), start % world, axis=1).reshape(-1)


class _Batches:
    """Iterates over the batches; leaving it ends the workers."""

    def __init__(
        self, epochs: PythonEpochs, loaded: Iterator[workers.Batch], placement: Placement, plan: _Plan
    ) -> None:
        self._epochs = epochs
        self._loaded = loaded
        self._placement = placement
        self._plan = plan
        self.position = plan.start

    def __iter__(self) -> _Batches:
        return self

    def __next__(self) -> Any:
        batch = next(self._loaded, None)
        if batch is None:
            self._epochs.finish(self)
            raise StopIteration
        with exits.aside():
            return self._epochs.deliver(self, batch, self._placement, self._plan)
