"""The native side of a loader: what it asks of the engine, where its epochs stand, and their state."""

from __future__ import annotations

import json
import warnings
import weakref
from typing import TYPE_CHECKING, Any

from zenith import _engine

from zenith_jax import narrowing
from zenith_jax.ahead import Ahead, is_worthwhile
from zenith_jax.arrays import Arrays
from zenith_jax.native import NativeIter
from zenith_jax.placement import Placement, placement_of

if TYPE_CHECKING:
    import zenith

    from zenith_jax.loader import DataLoader


class Epochs:
    """The engine's loader as the options last asked for it, the newest iterator, and a loaded state until it is taken up."""

    def __init__(self, dataset: zenith.Dataset, loader: DataLoader) -> None:
        self._dataset = dataset
        self._loader = loader
        self._engine: _engine.Loader | None = None
        self._options: dict[str, Any] = {}
        self._order: str | None = None
        """The state, as JSON, that fixes seed, lanes and window."""
        self._loaded: dict[str, Any] | None = None
        self._epoch = 0
        self._epoch_was_set = False
        self._last_stats: dict[str, Any] = {}
        self._last_valid = 0
        self._current: weakref.ref[Any] | None = None
        self._current_state: dict[str, Any] = {}
        """Of the epoch that it iterates, at its beginning: programs may ask at every step, and only the position changes."""
        self._current_id = 0
        self._dropped_at: int | None = None
        self._warned = False

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process opens the files itself; iterators stay where they are.
        return {**vars(self), "_engine": None, "_current": None, "_current_id": 0}

    # -- iteration -------------------------------------------------------------------------------------------------

    def begin(self) -> Any:
        """An iterator over the next epoch, or over the rest of the one that was loaded."""
        loader = self._loader
        placement = self._placement()
        engine = self._engine_of(placement)
        epoch, position = self._place()
        arrays = Arrays(self._dataset.schema, loader.sharding, placement, self._options["batch_size"])
        self._loaded = None
        self._epoch = epoch
        under_way = engine.epoch(epoch, position)
        iterator: Any = NativeIter(self, under_way, arrays, loader.mask, loader.stall_timeout)
        self._current_id = under_way.id
        if is_worthwhile(placement):
            iterator = Ahead(self, iterator, loader.prefetch_bytes)
        self._current, self._dropped_at = weakref.ref(iterator), None
        self._current_state = json.loads(engine.state(epoch, 0))
        return iterator

    def finish(self, iterator: NativeIter | Ahead) -> None:
        """An iterator has come to its end: the next epoch is the one after."""
        if self._current_id != iterator.id:
            return
        self._last_stats, self._last_valid = iterator.stats(), iterator.valid
        self._current, self._current_id = None, 0
        if not self._epoch_was_set:
            self._epoch += 1

    def drop(self, iterator_id: int, position: int) -> None:
        """An iterator was left in the midst of its epoch."""
        if iterator_id == self._current_id:
            self._dropped_at = position

    def set_epoch(self, epoch: int) -> None:
        """The next iterators are of this epoch; a loaded state of another one is dropped."""
        if self._loaded is not None and self._loaded["epoch"] != epoch:
            self._loaded = None
        self._dropped_at = None
        self._epoch, self._epoch_was_set = epoch, True

    def _place(self) -> tuple[int, int]:
        """Epoch and position at which the next iterator begins."""
        if self._loaded is not None:
            return self._loaded["epoch"], self._loaded["position"]
        return self._epoch, 0

    # -- state -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Where the newest iterator stands, or what was loaded."""
        if self._loaded is not None:
            return dict(self._loaded)
        current = None if self._current is None else self._current()
        if current is not None:
            return {**self._current_state, "position": current.position}
        epoch, position = self._place() if self._dropped_at is None else (self._epoch, self._dropped_at)
        state: dict[str, Any] = json.loads(self._engine_of(self._placement()).state(epoch, position))
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Lets the next iterator begin where the state was taken; an empty one means a fresh start.

        Raises:
            zenith.StateError: the state is damaged, newer than this version, or of another dataset.
        """
        before = (self._order, self._loaded)
        self._engine = self._current = self._dropped_at = None
        if not state:
            self._order, self._loaded, self._epoch = None, None, 0
            return
        self._order, self._loaded = json.dumps(state), dict(state)
        try:
            self._engine_of(self._placement())
        except Exception:
            self._order, self._loaded = before
            raise
        self._epoch = state["epoch"]

    # -- accounts --------------------------------------------------------------------------------------------------

    def length(self) -> int:
        """Batches of a whole epoch."""
        return self._engine_of(self._placement()).batches(0)

    @property
    def valid(self) -> int:
        """Samples of the latest batch that are no repeats."""
        current = None if self._current is None else self._current()
        return self._last_valid if current is None else int(current.valid)

    def explain(self) -> str:
        """Which order runs, on what, in a few lines."""
        loader, placement = self._loader, self._placement()
        engine = self._engine_of(placement)
        lines = [f"native: {type(self._dataset).__name__} is read by the engine", f"dataset: {self._dataset!r}"]
        if self._options["shuffle"]:
            lanes, window = engine.order
            seed = json.loads(engine.state(0, 0))["seed"]
            lines.append(f"order: shuffled, seed {seed}, {lanes} lanes, windows of {window:,} samples")
        else:
            jumps = self._dataset._engine.jumps
            lines.append("order: the selection's own, held decoded as a whole" if jumps else "order: file order")
        workers = loader.num_workers
        lines.append(f"decoding: {workers} threads" if workers else "decoding: in the calling thread")
        own = ", ".join(map(str, placement.own))
        lines.append(
            f"rows: shard {own} of {placement.world}, {self._options['batch_size']} samples of each in a batch of "
            f"{loader.batch_size}"
        )
        devices = [device for devices in placement.devices for device in devices]
        where = "the engine's memory itself" if devices[0].platform == "cpu" else "a copy, made ahead by a thread"
        lines.append(f"arrays: on {len(devices)} {devices[0].platform} device(s), {where}")
        types = narrowing.account(self._dataset.schema, loader.dtypes)
        return "\n".join([*lines, types] if types else lines)

    def stats(self) -> dict[str, Any]:
        """Counters of the current or last epoch; none before the first."""
        current = None if self._current is None else self._current()
        return dict(self._last_stats) if current is None else dict(current.stats())

    def explain_error(self, error: Exception) -> None:
        """Tells why a field is narrower than the dataset has it, where that is what went wrong."""
        narrowed = {"int32", "uint32", "float32"} & set(str(error).replace(",", " ").split())
        if narrowed and not narrowing.has_64_bits():
            error.add_note("JAX has no 64-bit types while jax_enable_x64 is off: such fields are delivered in 32 bits.")

    # -- the engine ------------------------------------------------------------------------------------------------

    def _placement(self) -> Placement:
        return placement_of(self._loader.sharding)

    def _engine_of(self, placement: Placement) -> _engine.Loader:
        """The engine's loader for the options as they are now."""
        options = self._asked(placement)
        if self._engine is None or options != self._options:
            self._engine = _engine.Loader(self._dataset._engine, json.dumps(options), self._order)
            self._options = options
            if self._engine.notices and not self._warned:
                self._warned = True
                for notice in self._engine.notices:
                    warnings.warn(f"zenith_jax.DataLoader: {notice}", stacklevel=6)
        return self._engine

    def _asked(self, placement: Placement) -> dict[str, Any]:
        loader = self._loader
        return {
            **loader.plain_options(),
            "batch_size": placement.check(loader.batch_size),
            "world_size": placement.world,
            "shards": list(placement.own),
            "dtypes": narrowing.delivered(self._dataset.schema, loader.dtypes),
        }
