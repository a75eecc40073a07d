"""The native side of a loader: what it asks of the engine, where its epochs stand, and their state."""

from __future__ import annotations

import inspect
import json
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.utils.data import DistributedSampler, RandomSampler
from zenith import _engine

from zenith_torch import pinning, randomness
from zenith_torch.native import NativeIter
from zenith_torch.pinning import Pinning
from zenith_torch.ranks import Ranks
from zenith_torch.sampler import PlanSampler
from zenith_torch.share import Tail

if TYPE_CHECKING:
    import zenith

    from zenith_torch.loader import DataLoader
    from zenith_torch.recognise import Verdict


class Epochs:
    """The engine's loader as the options last asked for it, the newest iterator, and a loaded state until it is taken up.

    It hangs on the loader as one object, so that libraries which copy a loader's attributes to another one leave it alone.
    """

    def __init__(self) -> None:
        self._engine: _engine.Loader | None = None
        self._options: dict[str, Any] = {}
        self._counter: tuple[dict[str, Any], _engine.Loader] | None = None
        self._order: str | None = None
        """The state, as JSON, that fixes seed, lanes and window."""
        self._loaded: dict[str, Any] | None = None
        self._world_size = 1
        """Of the epochs so far."""
        self._seed: int | None = None
        self._warned = False
        self._epoch = 0
        self._last_stats: dict[str, Any] = {}
        self._current: weakref.ref[NativeIter] | None = None
        self._current_state: dict[str, Any] = {}
        """Of the epoch that it iterates, at its beginning: programs may ask at every step, and only the position changes."""
        self._current_id = 0
        self._dropped_at: int | None = None
        self._pinning: Pinning | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process opens the files itself; iterators stay where they are.
        gone = {"_engine": None, "_counter": None, "_current": None, "_current_id": 0}
        return {**vars(self), **gone}

    # -- iteration -------------------------------------------------------------------------------------------------

    def begin(self, loader: DataLoader[Any], pinned: Pinning) -> NativeIter:
        """An iterator over the next epoch, or over the rest of the one that was loaded."""
        verdict = loader._verdict
        engine = self._engine_of(loader)
        epoch, position = self._place(verdict)
        self._world_size = self._options["world_size"]
        if self._loaded is None and verdict.batches.skipped:
            position = min(
                verdict.batches.skipped * self._options["batch_size"] * self._world_size, len(self._view(loader))
            )
        self._loaded = None
        self._epoch = epoch
        tail = None
        if verdict.share is not None and not verdict.batches.drop_last:
            tail = Tail(self._view(loader), engine, verdict.share, self._options["batch_size"], epoch, position)
        self._pinning = pinned
        under_way = engine.epoch(epoch, position, pinned.direct)
        iterator = NativeIter(loader, under_way, self._view(loader).schema, pinned.wanted, tail)
        if verdict.batches.recorder is not None:
            iterator.record = _recording(
                verdict.batches.recorder, engine, epoch, self._options["rank"], self._world_size
            )
        self._current, self._current_id, self._dropped_at = weakref.ref(iterator), iterator._id, None
        self._current_state = json.loads(engine.state(epoch, 0))
        if _takes_key(loader.map_batch):
            # Of the state, if one was loaded: what the options say may be a new draw.
            seed, rank = self._current_state["seed"], self._options["rank"]
            iterator.key_at = lambda position: _engine.batch_key(seed, epoch, position + rank)
        return iterator

    def finish(self, loader: DataLoader[Any], iterator: NativeIter) -> None:
        """An iterator has come to its end: the next epoch is the one after."""
        if self._current is None or self._current() is not iterator:
            return
        self._current = None
        self._last_stats = iterator.stats()
        self._epoch += 1
        sampler = loader._verdict.sampler
        if isinstance(sampler, PlanSampler):
            if not sampler.epoch_was_set:
                sampler.epoch = self._epoch
        elif isinstance(sampler, RandomSampler) and hasattr(sampler, "set_epoch"):
            # Accelerate's moves on when it has been iterated to its end.
            sampler.set_epoch(self._epoch)

    def drop(self, iterator_id: int, position: int) -> None:
        """An iterator was left in the midst of its epoch."""
        if iterator_id == self._current_id:
            self._dropped_at = position

    def set_epoch(self, epoch: int) -> None:
        """The next iterator begins at this epoch; a loaded state of another one is dropped."""
        if self._loaded is not None and self._loaded["epoch"] != epoch:
            self._loaded = None
        self._dropped_at = None
        self._epoch = epoch

    def _place(self, verdict: Verdict) -> tuple[int, int]:
        """Epoch and position at which the next iterator begins."""
        if self._loaded is not None:
            return self._loaded["epoch"], self._loaded["position"]
        sampler = verdict.sampler
        if isinstance(sampler, PlanSampler):
            return (sampler.epoch if sampler.epoch_was_set else self._epoch), 0
        if isinstance(sampler, DistributedSampler) or (
            isinstance(sampler, RandomSampler) and hasattr(sampler, "epoch")
        ):
            return sampler.epoch, 0
        return self._epoch, 0

    # -- state -----------------------------------------------------------------------------------------------------

    def state(self, loader: DataLoader[Any]) -> dict[str, Any]:
        """Where the newest iterator stands, or what was loaded."""
        if self._loaded is not None:
            return dict(self._loaded)
        current = None if self._current is None else self._current()
        if current is not None:
            return {**self._current_state, "position": current.position}
        if self._dropped_at is not None:
            epoch, position = self._epoch, self._dropped_at
        else:
            epoch, position = self._place(loader._verdict)
        state: dict[str, Any] = json.loads(self._engine_of(loader).state(epoch, position))
        return state

    def load(self, loader: DataLoader[Any], state: dict[str, Any]) -> None:
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
            self._engine_of(loader)
        except Exception:
            self._order, self._loaded = before
            raise
        self._epoch = state["epoch"]

    # -- accounts --------------------------------------------------------------------------------------------------

    def length(self, loader: DataLoader[Any]) -> int:
        """Batches of a whole epoch for this process."""
        engine, options = self._counting(loader)
        skipped = loader._verdict.batches.skipped * options["batch_size"] * options["world_size"]
        return engine.batches(min(skipped, len(self._view(loader))))

    def explain(self, loader: DataLoader[Any]) -> str:
        """Which order runs, on what, in a few lines."""
        verdict = loader._verdict
        engine, options = self._counting(loader)
        lines = [f"native: {verdict.reason}", f"dataset: {verdict.view!r}"]
        if options["shuffle"]:
            lanes, window = engine.order
            seed = options["seed"] if self._order is None else json.loads(self._order)["seed"]
            named = "a seed that is drawn at the first iteration" if seed is None else f"seed {seed}"
            lines.append(f"order: shuffled, {named}, {lanes} lanes, windows of {window:,} samples")
        else:
            jumps = self._view(loader)._engine.jumps
            lines.append("order: the selection's own, held decoded as a whole" if jumps else "order: file order")
        workers = loader.num_workers
        lines.append(f"decoding: {workers} threads" if workers else "decoding: in the calling thread")
        if loader.pin_memory:
            lines.append(f"pinning: {(self._pinning or pinning.expect(loader)).account}")
        lines.append(f"rank {options['rank']} of {options['world_size']}, {options['batch_size']} samples a batch")
        return "\n".join(lines)

    def stats(self) -> dict[str, Any]:
        """Counters of the current or last epoch; none before the first."""
        current = None if self._current is None else self._current()
        return dict(self._last_stats) if current is None else current.stats()

    # -- the engine ------------------------------------------------------------------------------------------------

    def _engine_of(self, loader: DataLoader[Any]) -> _engine.Loader:
        """The engine's loader for the options as they are now; the seed is drawn if it has to be."""
        options = self._asked(loader)
        if options["seed"] is None:
            options["seed"] = self._draw(loader._verdict)
        if self._engine is None or options != self._options:
            self._check_ranks(options)
            self._engine = _engine.Loader(self._view(loader)._engine, json.dumps(options), self._order)
            self._options = options
            if self._engine.notices and not self._warned:
                self._warned = True
                for notice in self._engine.notices:
                    warnings.warn(f"zenith_torch.DataLoader: {notice}", stacklevel=4)
        return self._engine

    def _counting(self, loader: DataLoader[Any]) -> tuple[_engine.Loader, dict[str, Any]]:
        """An engine's loader that no seed is drawn for, and its options: asking for a length must not move generators."""
        options = self._asked(loader)
        if self._engine is not None and self._options == options:
            return self._engine, options
        if self._counter is None or self._counter[0] != options:
            asked = {**options, "seed": options["seed"] or 0}
            self._counter = options, _engine.Loader(self._view(loader)._engine, json.dumps(asked), self._order)
        return self._counter[1], options

    def _check_ranks(self, options: dict[str, Any]) -> None:
        """A process that was one of several stays the one it was; one that was alone may become one of several."""
        for name in ("rank", "world_size"):
            before = self._options.get(name)
            if self._world_size > 1 and options[name] != before:
                text = f"{name} was {before} at the first iteration and is {options[name]} now"
                raise RuntimeError(f"{text}. Make a new DataLoader and load_state_dict() into it.")

    def _asked(self, loader: DataLoader[Any]) -> dict[str, Any]:
        """The options for the engine; ``seed`` is ``None`` where it has to be drawn first."""
        verdict = loader._verdict
        order, batches = verdict.order, verdict.batches
        plan = batches.sampler if isinstance(batches.sampler, PlanSampler) else None
        if batches.share is None and loader._ranks.is_given:
            rank, world = loader._ranks.resolve()
        elif batches.share is None and plan is not None:
            rank, world = plan.rank, plan.num_replicas
        else:
            rank, world = Ranks(order.rank, order.world_size).resolve()
        options: dict[str, Any] = {
            **loader._plain_options(),
            "batch_size": batches.rank_batch_size,
            "shuffle": plan.shuffle if plan is not None else bool(order.shuffle),
            # What is left of a shared epoch is put together apart from the engine.
            "drop_last": batches.drop_last or order.drop_last or batches.share is not None,
            "num_workers": loader.num_workers,
            "rank": rank,
            "world_size": world,
        }
        if batches.recorder is not None and options["tail"] is None:
            # Predictions are wanted once for each sample, and nobody waits for the others.
            options["tail"] = "uneven"
        if plan is not None and plan.lanes is not None:
            options["lanes"] = plan.lanes
        # Two is torch's default, which libraries write out when they rebuild a loader; the bound in bytes serves then.
        if loader.prefetch_factor not in (None, 2):
            options["prefetch_factor"] = loader.prefetch_factor
        seed = self._known_seed(loader, plan, options)
        options["seed"] = None if seed is None else seed % 2**64
        return options

    def _known_seed(self, loader: DataLoader[Any], plan: PlanSampler | None, options: dict[str, Any]) -> int | None:
        if plan is not None:
            return plan.known_seed
        if loader.seed is not None:
            return loader.seed
        given = loader._verdict.order.seed
        if given is not None:
            return given
        alone = options["world_size"] == 1 and (loader._ranks.is_given or Ranks().is_alone)
        if isinstance(loader._verdict.sampler, RandomSampler) and alone:
            return self._seed
        return 0

    def _draw(self, verdict: Verdict) -> int:
        if isinstance(verdict.sampler, PlanSampler):
            return verdict.sampler.seed % 2**64
        self._seed = randomness.draw()
        return self._seed % 2**64

    @staticmethod
    def _view(loader: DataLoader[Any]) -> zenith.Dataset:
        """What the engine reads."""
        view = loader._verdict.view
        assert view is not None
        return view


def _takes_key(map_batch: Callable[..., Any] | None) -> bool:
    """Whether a function of batches asks for what it is to draw from."""
    if map_batch is None:
        return False
    try:
        return "key" in inspect.signature(map_batch).parameters
    except (TypeError, ValueError):
        return False


def _recording(
    recorder: Any, engine: _engine.Loader, epoch: int, rank: int, world_size: int
) -> Callable[[int, int], None]:
    """Tells the recorder which samples the batch that begins at a position holds."""
    recorder.seen_batch_indices = []

    def record(position: int, count: int) -> None:
        recorder.seen_batch_indices.append(engine.indices(epoch, position + rank, world_size, count))

    return record
