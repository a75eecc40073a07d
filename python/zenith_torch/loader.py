"""`DataLoader`: torch's, with a native path for Zenith datasets, exact resume, and an account of itself."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.utils.data
from torch.utils.data import DistributedSampler
from zenith import _engine

from zenith_torch import exits, keywords, pinning, randomness
from zenith_torch.batching import Batches
from zenith_torch.epochs import Epochs
from zenith_torch.ranks import Ranks
from zenith_torch.recognise import ONE_BY_ONE, Recogniser, Verdict, as_dataset
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
            initialised, and no Accelerate shares out the batches. Resolved at the first iteration.
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
        map_batch: a function on the finished batch of a Zenith dataset, called in the consumer's thread. One with a parameter
            ``key`` is given a number of (seed, epoch, place of the batch, rank) to draw from, as `zenith.transforms.MixUp` and
            ``CutMix`` do: the same after a resume, and for any number of workers.
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
        map_batch: Callable[..., Any] | None = None,
        output: str = "dict",
        snapshot_every_n_steps: int | None = 1,
    ) -> None:
        dataset = as_dataset(dataset, source)
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
        self.stall_timeout = stall_timeout
        self.map_batch = map_batch
        self.output = output
        self.snapshot_every_n_steps = snapshot_every_n_steps
        keywords.take_over(self, dataset, batch_sampler)
        if self.output not in ("dict", "tuple"):
            raise ValueError(f'output must be "dict" or "tuple", got {self.output!r}')
        _engine.check_options(json.dumps(self._plain_options()))
        check_every(self.snapshot_every_n_steps)
        if self.stall_timeout is not None and not self.stall_timeout > 0:
            raise ValueError(f"stall_timeout must be None or seconds > 0, got {self.stall_timeout!r}")
        self._resume = Resume()
        self._epochs = Epochs()
        self._recogniser = Recogniser(dataset, self.shuffle_bytes, self.on_error)
        if batch_sampler is None:
            batches = ONE_BY_ONE if batch_size is None else Batches(sampler, batch_size, drop_last)
            verdict = self._recogniser.arguments(batches, bool(shuffle), collate_fn, worker_init_fn)
        else:
            verdict = self._recogniser.verdict(batch_sampler, collate_fn, worker_init_fn)
        if verdict.view is not None and not verdict.native and (sampler is not None or verdict.jumps):
            warnings.warn(f"zenith_torch.DataLoader: {verdict.reason}", stacklevel=2)
        if sampler is None and batch_sampler is None and (verdict.native or verdict.jumps):
            sampler = PlanSampler(
                dataset,
                world_size,
                rank,
                bool(shuffle),
                self.seed,
                drop_last,
                lanes=self.lanes,
                shuffle_bytes=self.shuffle_bytes,
                mesh=mesh,
                process_group=process_group,
                view=verdict.view,
            )
            self._recogniser.own_sampler = sampler
            shuffle = None
        elif self._ranks.is_given and not verdict.native:
            raise ValueError(
                f"rank, world_size, mesh and process_group cannot be honoured: {verdict.reason}. "
                "Give a DistributedSampler instead"
            )
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
        keywords.leave(self)
        if self.on_error == "quarantine" and self._dataset_kind == 1:
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

    @property
    def _verdict(self) -> Verdict:
        """Whether this loader reads natively, by its attributes as they are now: programs and libraries assign some later."""
        return self._recogniser.verdict(self.batch_sampler, self.collate_fn, self.worker_init_fn)

    def __iter__(self) -> Any:
        self._recogniser.look_again()
        if not self._verdict.native:
            return super().__iter__()
        pinned = pinning.begin(self)
        with exits.aside():
            # Torch draws this seed at every iterator, whether anything uses it or not; programs depend on the count.
            randomness.draw(self.generator)
            return self._epochs.begin(self, pinned)

    def _get_iterator(self) -> Any:
        return self._resume.iterator(self)

    def __len__(self) -> int:
        verdict = self._verdict
        # Whoever shares out the batches knows how many each process gets.
        return self._epochs.length(self) if verdict.native and verdict.share is None else super().__len__()

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

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iterator; from then on it no longer advances by itself.

        A loaded state of that epoch stays: programs that resume call this as those that begin do. One of another is dropped.
        """
        self._epochs.set_epoch(epoch)
        sampler = self._verdict.sampler if self._verdict.native else self.sampler
        if isinstance(sampler, DistributedSampler):
            sampler.set_epoch(epoch)

    # -- state -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Where the newest iterator stands, as JSON-able values: the batches handed out, not those prefetched.

        Natively under 1 KB, the same on every rank, for any number of workers, world size and batch size. Of another
        dataset of the map kind the position, for any number of workers. docs/checkpointing.md says what is restored.
        """
        return self._epochs.state(self) if self._verdict.native else self._resume.state(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lets the next iterator continue exactly where the state was taken; an empty dict means a fresh start.

        Raises:
            zenith.StateError: the state is damaged, newer than this version, or of another dataset.
        """
        if self._verdict.native:
            self._epochs.load(self, state_dict)
        else:
            self._resume.load(self, state_dict)

    # -- accounts --------------------------------------------------------------------------------------------------

    def explain(self) -> str:
        """Which path runs and why, and what the order looks like, in a few lines."""
        self._recogniser.look_again()
        if self._verdict.native:
            return self._epochs.explain(self)
        backend = "process" if self.num_workers else "inline"
        return f"{backend}: {self._verdict.reason}\n{self._resume.explain(self)}"

    def stats(self) -> dict[str, Any]:
        """Counters of the current (or last) epoch, times in nanoseconds summed over threads, and a plain verdict.

        Python datasets: ``batches`` and ``samples`` (map-style ones) handed out, ``skipped_samples``, ``skipped_batches`` (those
        of which no sample was left), ``consumer_wait_ns`` (inside ``next()``, which without workers is loading) and
        ``consumer_work_ns`` (between the calls).
        """
        if not self._verdict.native:
            return self._resume.stats()
        counters = self._epochs.stats()
        if not counters:
            return {"verdict": "no epoch has begun"}
        waited, idle = counters["consumer_wait_ns"], counters["worker_idle_ns"]
        counters["verdict"] = "loader-bound" if waited > idle else "consumer-bound"
        return counters
