"""`DataLoader`: torch's, with a native path for Zenith datasets, exact resume, and an account of itself."""

from __future__ import annotations

import json
import os
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.utils.data
import zenith
from torch.utils.data import DistributedSampler, RandomSampler
from zenith import _engine

from zenith_torch import exits, randomness
from zenith_torch.native import NativeIter
from zenith_torch.ranks import Ranks
from zenith_torch.recognise import Verdict, as_dataset, recognise
from zenith_torch.resume import Resume, check_every
from zenith_torch.sampler import PlanSampler

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

T = TypeVar("T", covariant=True)

_RANK_ARGUMENTS = frozenset({"rank", "world_size", "mesh", "process_group"})


class DataLoader(torch.utils.data.DataLoader[T]):
    """A drop-in for ``torch.utils.data.DataLoader``.

    Given a `zenith.Dataset` (or torch's ``Subset`` or ``ConcatDataset`` of such), a path, a glob or ``source=``,
    batches are read and assembled by the engine's threads and
    arrive as tensors that alias its memory. Any other dataset is iterated as torch does it, in the calling thread or in
    worker processes, whose batches arrive by shared memory. ``explain()`` says which path runs and why.

    The arguments mean what they mean in torch: ``batch_size`` is per rank, ``num_workers`` is the number of decode
    threads (0: decode in the calling thread). Further keywords:

    Args:
        source: a dataset or path, in place of ``dataset``; ``None`` once resolved.
        seed: seed of the order. ``None``: one draw from torch's generator at the first iteration (one rank) or 0.
        lanes: equal parts whose weave is the order, a power of two; chosen from the data by default.
        shuffle_bytes: bytes that shuffling may hold in all: waiting samples, blocks being decoded, finished batches.
        tail: ``"pad"`` (default for several ranks: the epoch's first samples are repeated so that all ranks get equally
            many) or ``"uneven"``. ``drop_last=True`` drops the incomplete global batch instead.
        rank, world_size: this process among those that share an epoch; by default from ``torch.distributed`` where it is
            initialised. Resolved at the first iteration or ``len()``.
        mesh: a ``DeviceMesh`` in their place: the place along its dimension ``dp``, else along all dimensions named
            ``dp_...``, else along the first. Ranks that differ in the others only get the same samples.
        process_group: a ``ProcessGroup`` in their place.
        prefetch_bytes: bytes of finished batches that may wait for the consumer. ``None``: natively 16 MiB; of Python datasets
            ``prefetch_factor`` alone counts, as in torch. Given, it lets worker processes be at fewer batches than
            ``prefetch_factor`` allows, by the largest of the last 16 batches, but never at fewer than one each.
        on_error: what to do with samples that cannot be had. ``"raise"``; ``"skip"``: count them and go on without them;
            ``"quarantine"``: skip, and list them in ``quarantine_path``. Natively these are the samples of a block (row
            group, record batch) that cannot be read (one rank: their places stay empty, so batches are shorter; several:
            samples of another block are repeated in their places). Of a Python dataset they are those of which
            ``dataset[i]`` raises an ``Exception``: their batch is shorter, and passed over if none is left. Errors of
            ``collate_fn`` always raise. An iterable dataset's iterator is asked for the next sample after an error, unless
            it is a generator or a datapipe, which end where they raise; it cannot be quarantined.
        max_bad_samples: samples that an iterator may skip before it raises after all; no bound by default. Of Python
            datasets a `zenith.BadSamplesError` for each batch with bad samples from there on.
        quarantine_path: file that gets a JSON line for every bad block, or sample of a Python dataset; what is listed there
            is not read again. One file for each Python dataset: lines are known by its type, length and index.
        read_timeout_ms: milliseconds that a single read may take. One that takes longer (a mount whose server is gone) is
            a `zenith.ReadTimeoutError` of its batch, or skipped as ``on_error`` says; no bound by default.
        stall_timeout: seconds after which a batch that ``next()`` waits for is a `zenith.StallError`. Of worker processes it names
            the worker, its pid, the indices it was given, the one that it is at, and where it is in Python. The next
            ``next()`` waits again, as after ``timeout``. Of Python datasets without workers it is a warning in the log
            (``zenith_torch``) with the stack, since only the sample itself could end. No bound by default.
        map_batch: a function on the finished batch, called in the consumer's thread.
        output: ``"dict"`` (by field name) or ``"tuple"`` (in the order of the schema).
        snapshot_every_n_steps: index batches between two looks at a sampler that has a ``state_dict()`` (0 and 1: every
            one; ``None``: one look, at the beginning of the epoch), and batches between two at an iterable dataset in a
            worker; those since the last look are drawn again on resume. ``None`` also keeps the random states of workers
            out of states. Positions are exact whatever it is. The name is torchdata's.

    Raises:
        ValueError: contradicting arguments, as torch raises them.
        zenith.ZenithError: a path, file or option that the engine refuses.
    """

    def __init__(
        self,
        dataset: Any = None,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int = 0,
        collate_fn: Any = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Any = None,
        multiprocessing_context: Any = None,
        generator: torch.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
        source: Any = None,
        seed: int | None = None,
        lanes: int | None = None,
        shuffle_bytes: int = 256 << 20,
        tail: str | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        mesh: DeviceMesh | None = None,
        process_group: Any = None,
        prefetch_bytes: int | None = None,
        on_error: str = "raise",
        max_bad_samples: int | None = None,
        quarantine_path: str | os.PathLike[str] | None = None,
        read_timeout_ms: int | None = None,
        stall_timeout: float | None = None,
        map_batch: Callable[[Any], Any] | None = None,
        output: str = "dict",
        snapshot_every_n_steps: int | None = 1,
    ) -> None:
        dataset = as_dataset(dataset, source)
        if output not in ("dict", "tuple"):
            raise ValueError(f'output must be "dict" or "tuple", got {output!r}')
        self.source = None
        self.seed = seed
        self.lanes = lanes
        self.shuffle_bytes = shuffle_bytes
        self.tail = tail
        self.rank = rank
        self.world_size = world_size
        self.mesh = mesh
        self.process_group = process_group
        self._ranks = Ranks(rank, world_size, mesh, process_group)
        self.prefetch_bytes = prefetch_bytes
        self.on_error = on_error
        self.max_bad_samples = max_bad_samples
        self.quarantine_path = quarantine_path
        self.read_timeout_ms = read_timeout_ms
        _engine.check_options(json.dumps(self._plain_options()))
        if stall_timeout is not None and not stall_timeout > 0:
            raise ValueError(f"stall_timeout must be None or seconds > 0, got {stall_timeout!r}")
        self.stall_timeout = stall_timeout
        self.map_batch = map_batch
        self.output = output
        check_every(snapshot_every_n_steps)
        self.snapshot_every_n_steps = snapshot_every_n_steps
        self._resume = Resume()
        self._verdict: Verdict = recognise(
            dataset,
            shuffle=shuffle,
            sampler=sampler,
            batch_sampler=batch_sampler,
            batch_size=batch_size,
            collate_fn=collate_fn,
            worker_init_fn=worker_init_fn,
            shuffle_bytes=shuffle_bytes,
        )
        verdict = self._verdict
        if verdict.view is not None and not verdict.native and (sampler is not None or verdict.jumps):
            warnings.warn(f"zenith_torch.DataLoader: {verdict.reason}", stacklevel=2)
        if sampler is None and (verdict.native or verdict.jumps):
            sampler = PlanSampler(
                dataset,
                world_size,
                rank,
                bool(shuffle),
                seed,
                drop_last,
                lanes=lanes,
                shuffle_bytes=shuffle_bytes,
                mesh=mesh,
                process_group=process_group,
                view=verdict.view,
            )
            shuffle = None
        elif self._ranks.is_given and not verdict.native:
            raise ValueError(
                f"rank, world_size, mesh and process_group cannot be honoured: {verdict.reason}. "
                "Give a DistributedSampler instead"
            )
        self._engine_loader: _engine.Loader | None = None
        self._warned = False
        self._resolved: dict[str, Any] | None = None
        self._loaded_state: dict[str, Any] | None = None
        self._epoch = 0
        self._last_stats: dict[str, Any] = {}
        self._current: weakref.ref[NativeIter] | None = None
        self._current_id = 0
        self._dropped_at: int | None = None
        super().__init__(
            dataset,
            batch_size,
            shuffle,
            sampler,
            batch_sampler,
            num_workers,
            collate_fn,
            pin_memory,
            drop_last,
            timeout,
            worker_init_fn,
            multiprocessing_context,
            generator,
            prefetch_factor=prefetch_factor,
            persistent_workers=persistent_workers,
            pin_memory_device=pin_memory_device,
            in_order=in_order,
        )
        if on_error == "quarantine" and self._dataset_kind == 1:
            raise ValueError(
                'on_error="quarantine" needs a map-style dataset: the samples of an iterable one have no index to be listed '
                'by. Use on_error="skip"'
            )
        self._is_made = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _RANK_ARGUMENTS and getattr(self, "_is_made", False):
            raise ValueError(f"{name} cannot be changed once the DataLoader is made. Make a new one")
        super().__setattr__(name, value)

    # -- the native path -------------------------------------------------------------------------------------------

    def __iter__(self) -> Any:
        if not self._verdict.native:
            return super().__iter__()
        self._warn_about_pinning()
        with exits.aside():
            # Torch draws this seed at every iterator, whether anything uses it or not; programs depend on the count.
            randomness.draw(self.generator)
            engine = self._engine()
            epoch, position = self._place()
            self._loaded_state = None
            self._epoch = epoch
            pin = self.pin_memory and torch.accelerator.is_available()
            iterator = NativeIter(self, engine.epoch(epoch, position), self._native_dataset.schema, pin)
        self._current, self._current_id, self._dropped_at = weakref.ref(iterator), iterator._id, None
        return iterator

    def _get_iterator(self) -> Any:
        return self._resume.iterator(self)

    def __len__(self) -> int:
        return self._engine().batches(0) if self._verdict.native else super().__len__()

    @property
    def _native_dataset(self) -> zenith.Dataset:
        view = self._verdict.view
        assert view is not None
        return view

    def _place(self) -> tuple[int, int]:
        """Epoch and position at which the next iterator begins."""
        if self._loaded_state is not None:
            return self._loaded_state["epoch"], self._loaded_state["position"]
        if isinstance(self.sampler, DistributedSampler):
            by_user = not isinstance(self.sampler, PlanSampler) or self.sampler.epoch_was_set
            if by_user:
                return self.sampler.epoch, 0
        return self._epoch, 0

    def _engine(self) -> _engine.Loader:
        """The engine's loader; rank, world size and seed are resolved the first time."""
        options = self._options()
        if self._engine_loader is None:
            state = None if self._loaded_state is None else json.dumps(self._loaded_state)
            self._engine_loader = _engine.Loader(self._native_dataset._engine, json.dumps(options), state)
            self._resolved = options
            for notice in self._engine_loader.notices:
                self._warn_once(notice)
        elif self._resolved is not None:
            for name in ("rank", "world_size"):
                if options[name] != self._resolved[name]:
                    text = f"{name} was {self._resolved[name]} at the first iteration and is {options[name]} now"
                    raise RuntimeError(f"{text}. Make a new DataLoader and load_state_dict() into it.")
        return self._engine_loader

    def _plain_options(self) -> dict[str, Any]:
        """The keywords that go to the engine as they are."""
        path = self.quarantine_path
        bound = {} if self.prefetch_bytes is None else {"prefetch_bytes": self.prefetch_bytes}
        return {
            **bound,
            "lanes": self.lanes,
            "shuffle_bytes": self.shuffle_bytes,
            "tail": self.tail,
            "on_error": self.on_error,
            "max_bad_samples": self.max_bad_samples,
            "read_timeout_ms": self.read_timeout_ms,
            "quarantine_path": None if path is None else os.path.abspath(os.path.expanduser(path)),
        }

    def _warn_once(self, notice: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"zenith_torch.DataLoader: {notice}", stacklevel=4)

    def _options(self) -> dict[str, Any]:
        order = self._verdict.order
        ranks = self._ranks if self._ranks.is_given else Ranks(order.rank, order.world_size)
        plan = self.sampler if isinstance(self.sampler, PlanSampler) else None
        rank, world = ranks.resolve() if plan is None or ranks.is_given else (plan.rank, plan.num_replicas)
        options: dict[str, Any] = {
            **self._plain_options(),
            "batch_size": self.batch_size,
            "shuffle": plan.shuffle if plan is not None else bool(order.shuffle),
            "drop_last": self.drop_last or (plan is None and order.drop_last),
            "num_workers": self.num_workers,
            "rank": rank,
            "world_size": world,
        }
        if plan is not None and plan.lanes is not None:
            options["lanes"] = plan.lanes
        # Two is torch's default, which libraries write out when they rebuild a loader; the bound in bytes serves then.
        if self.prefetch_factor not in (None, 2):
            options["prefetch_factor"] = self.prefetch_factor
        options["seed"] = self._seed(plan, options["world_size"])
        return options

    def _seed(self, plan: PlanSampler | None, world: int) -> int:
        if plan is not None:
            seed = plan.seed
        elif self.seed is not None:
            seed = self.seed
        elif self._verdict.order.seed is not None:
            seed = self._verdict.order.seed
        elif isinstance(self.sampler, RandomSampler) and world == 1:
            seed = self.seed = randomness.draw()
        else:
            seed = 0
        return seed % 2**64

    def _on_finished(self, iterator: NativeIter) -> None:
        if self._current is not None and self._current() is iterator:
            self._current = None
            self._last_stats = iterator.stats()
            self._epoch += 1
            if isinstance(self.sampler, PlanSampler) and not self.sampler.epoch_was_set:
                self.sampler.epoch = self._epoch

    def _on_dropped(self, iterator_id: int, position: int) -> None:
        if iterator_id == self._current_id:
            self._dropped_at = position

    def _warn_about_pinning(self) -> None:
        if self.pin_memory and not torch.accelerator.is_available():
            warnings.warn(
                "'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't be "
                "used.",
                stacklevel=3,
            )

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iterator; from then on it no longer advances by itself.

        A loaded state of that epoch stays: programs that resume call this as those that begin do. One of another is dropped.
        """
        if self._loaded_state is not None and self._loaded_state["epoch"] != epoch:
            self._loaded_state = None
        self._dropped_at = None
        self._epoch = epoch
        if isinstance(self.sampler, DistributedSampler):
            self.sampler.set_epoch(epoch)

    # -- state -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Where the newest iterator stands, as JSON-able values: the batches handed out, not those prefetched.

        Natively under 1 KB, the same on every rank, for any number of workers, world size and batch size. Of another
        dataset of the map kind the position, for any number of workers. docs/checkpointing.md says what is restored.
        """
        if not self._verdict.native:
            return self._resume.state(self)
        if self._loaded_state is not None:
            return dict(self._loaded_state)
        current = None if self._current is None else self._current()
        if current is not None:
            epoch, position = self._epoch, current.position
        elif self._dropped_at is not None:
            epoch, position = self._epoch, self._dropped_at
        else:
            epoch, position = self._place()
        state: dict[str, Any] = json.loads(self._engine().state(epoch, position))
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lets the next iterator continue exactly where the state was taken; an empty dict means a fresh start.

        Raises:
            zenith.StateError: the state is damaged, newer than this version, or of another dataset.
        """
        if not self._verdict.native:
            self._resume.load(self, state_dict)
            return
        self._engine_loader = None
        self._current = self._dropped_at = None
        if not state_dict:
            self._loaded_state, self._epoch = None, 0
            return
        before = self._loaded_state
        self._loaded_state = dict(state_dict)
        try:
            self._engine()
        except Exception:
            self._loaded_state = before
            raise
        self._epoch = self._loaded_state["epoch"]

    # -- accounts --------------------------------------------------------------------------------------------------

    def explain(self) -> str:
        """Which path runs and why, and what the order looks like, in a few lines."""
        if not self._verdict.native:
            backend = "process" if self.num_workers else "inline"
            return f"{backend}: {self._verdict.reason}\n{self._resume.explain(self)}"
        options = self._options()
        lanes, window = self._engine().order
        lines = [f"native: {self._verdict.reason}", f"dataset: {self._native_dataset!r}"]
        if options["shuffle"]:
            lines.append(f"order: shuffled, seed {options['seed']}, {lanes} lanes, windows of {window:,} samples")
        else:
            jumps = (
                "the selection's own, held decoded as a whole" if self._native_dataset._engine.jumps else "file order"
            )
            lines.append(f"order: {jumps}")
        workers = self.num_workers
        lines.append(f"decoding: {workers} threads" if workers else "decoding: in the calling thread")
        lines.append(f"rank {options['rank']} of {options['world_size']}, {self.batch_size} samples a batch")
        return "\n".join(lines)

    def stats(self) -> dict[str, Any]:
        """Counters of the current (or last) epoch, times in nanoseconds summed over threads, and a plain verdict.

        Python datasets: ``batches`` and ``samples`` (map-style ones) handed out, ``skipped_samples``, ``skipped_batches`` (those
        of which no sample was left), ``consumer_wait_ns`` (inside ``next()``, which without workers is loading) and
        ``consumer_work_ns`` (between the calls).
        """
        if not self._verdict.native:
            return self._resume.stats()
        current = None if self._current is None else self._current()
        counters = dict(self._last_stats) if current is None else current.stats()
        if not counters:
            return {"verdict": "no epoch has begun"}
        waited, idle = counters["consumer_wait_ns"], counters["worker_idle_ns"]
        counters["verdict"] = "loader-bound" if waited > idle else "consumer-bound"
        return counters
