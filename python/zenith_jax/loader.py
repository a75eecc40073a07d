"""`DataLoader`: batches of `jax.Array`s over the devices, with exact resume and an account of itself."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

import zenith
from zenith import _engine, exits
from zenith.datasets import overridden

from zenith_jax.epochs import Epochs
from zenith_jax.iterator import LoaderIterator
from zenith_jax.placement import Shardings
from zenith_jax.python_epochs import PythonEpochs

if TYPE_CHECKING:
    from zenith_jax.feed import Feed

_OF_THE_ENGINE = (
    *("mask", "dtypes", "prefetch_bytes", "lanes", "shuffle_bytes", "on_error", "max_bad_samples", "quarantine_path"),
    *("read_timeout_ms", "stall_timeout"),
)
"""Keywords that mean something for Zenith datasets alone."""


class DataLoader:
    """Iterates a dataset in batches: dicts of `jax.Array`, fields in the order of the dataset.

    A `zenith.Dataset`, a path or a glob is read by the engine's threads. On the CPU the arrays are the engine's memory, uncopied;
    it is used again when the last array over it is gone, and never before. To other devices a thread copies batches ahead.
    Any other dataset with ``__len__`` and ``__getitem__`` is read sample by sample, by worker processes if there are any; its
    batches have the structure of its samples.

    Args:
        dataset: a `zenith.Dataset` or a path (`zenith.open`).
        batch_size: samples of a batch over all devices of all processes; a multiple of the row shards of ``sharding``.
        shuffle: shuffle every epoch anew; ``False`` is file order.
        seed: seed of the order; ``None`` is 0, so that all processes have the same.
        sharding: a `jax.sharding.Sharding` that divides arrays by rows, or one for each field by name. A device's shard of a
            batch is read by its process alone; devices that hold the same rows (model-parallel ones) get the same samples.
            ``None``: the default device, and in each process the whole dataset.
        drop_last: leave out the samples that do not fill a batch.
        tail: else: ``"pad"`` (the default of several shards) repeats the epoch's first samples up to a multiple of the shards;
            ``"fill"`` up to a whole batch, so that all batches have one shape; ``"uneven"`` (the default of one shard) hands out
            what there is; ``"drop"`` is ``drop_last=True``. `valid` counts those of the latest batch that are no repeats.
        mask: name of a further field: booleans ``[batch_size]``, false where a sample is a repeat.
        num_workers: decode threads, or worker processes of a Python dataset; 0 decodes in the thread that asks.
        multiprocessing_context: how worker processes start: ``"forkserver"`` (the default) or ``"spawn"``.
        dtypes: element types by field, such as ``{"x": "bfloat16"}``, made while the batch is put together. Values must fit
            integers exactly and stay finite in floats, else it is an error that names file, row and field. Without
            ``jax_enable_x64`` fields of 64 bits are delivered in 32, likewise checked.
        prefetch_bytes: bytes of finished batches that may wait on the host, and of those on their way to devices other than
            the CPU; ``None``: 16 MiB.
        prefetch_factor: finished batches that may wait, per worker, in place of the bytes.
        lanes, shuffle_bytes, on_error, max_bad_samples, quarantine_path, read_timeout_ms, stall_timeout: as of
            `zenith_torch.DataLoader`.

    Raises:
        ValueError: a batch size that the sharding does not divide, contradicting arguments.
        zenith.ZenithError: a path, file or option that the engine refuses.

    Example:
        >>> mesh = jax.make_mesh((jax.device_count(),), ("data",))
        >>> loader = DataLoader(ds, 4096, shuffle=True, sharding=NamedSharding(mesh, PartitionSpec("data")))
        >>> for batch in loader:
        ...     state = train_step(state, batch["x"], batch["y"])
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        *,
        shuffle: bool = False,
        seed: int | None = None,
        sharding: Shardings = None,
        drop_last: bool = False,
        tail: str | None = None,
        mask: str | None = None,
        num_workers: int = 0,
        dtypes: Mapping[str, Any] | None = None,
        prefetch_bytes: int | None = None,
        prefetch_factor: int | None = None,
        lanes: int | None = None,
        shuffle_bytes: int = 256 << 20,
        on_error: str = "raise",
        max_bad_samples: int | None = None,
        quarantine_path: str | os.PathLike[str] | None = None,
        read_timeout_ms: int | None = None,
        stall_timeout: float | None = None,
        multiprocessing_context: str | None = None,
    ) -> None:
        if tail == "drop":
            tail, drop_last = None, True
        elif drop_last and tail is not None:
            raise ValueError(
                f"drop_last=True leaves no tail, and tail={tail!r} says what becomes of it: give one of them"
            )
        if stall_timeout is not None and not stall_timeout > 0:
            raise ValueError(f"stall_timeout must be None or seconds > 0, got {stall_timeout!r}")
        self.dataset = zenith.open(dataset) if isinstance(dataset, (str, os.PathLike)) else dataset
        self.batch_size = batch_size
        self.shuffle = bool(shuffle)
        self.seed = seed
        self.sharding = sharding
        self.drop_last = bool(drop_last)
        self.tail = tail
        self.mask = mask
        self.num_workers = num_workers
        self.dtypes = dict(dtypes or {})
        self.prefetch_bytes = prefetch_bytes
        self.prefetch_factor = prefetch_factor
        self.lanes = lanes
        self.shuffle_bytes = shuffle_bytes
        self.on_error = on_error
        self.max_bad_samples = max_bad_samples
        self.quarantine_path = quarantine_path
        self.read_timeout_ms = read_timeout_ms
        self.stall_timeout = stall_timeout
        self.multiprocessing_context = multiprocessing_context
        _engine.check_options(json.dumps(self.plain_options()))
        self._epochs: Epochs | PythonEpochs
        if not isinstance(self.dataset, zenith.Dataset) or overridden(self.dataset) is not None:
            self._check_python_dataset()
            self._epochs = PythonEpochs(self.dataset, self)
            return
        if mask is not None and mask in (info.name for info in self.dataset.schema):
            raise ValueError(f"mask={mask!r} is the name of a field of the dataset. Choose another")
        self._epochs = Epochs(self.dataset, self)

    def __iter__(self) -> LoaderIterator:
        return LoaderIterator(self)

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        with exits.aside():
            return self._epochs.length()

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iterators; from then on it no longer advances by itself.

        A loaded state of that epoch stays: programs that resume call this as those that begin do. One of another is dropped.
        """
        self._epochs.set_epoch(epoch)

    def feed(self, *, window: int = 4, stall_timeout: float = 30.0) -> Feed:
        """Its batches for compiled programs that ask by themselves (`next_batch`), from where the loader stands.

        Batches are filled up with zeros at the end of an epoch, unless ``drop_last``. The feed goes its own way from here on: it
        has a state of its own, which this loader loads.

        Args:
            window: batches that may be asked for again, and ahead.
            stall_timeout: seconds after which a request fails that cannot be served.

        Raises:
            NotImplementedError: a Python dataset, ``dtypes``, shardings by field, or fields that a program cannot take.
        """
        # Here because programs are what needs the handlers, and most loaders are iterated.
        from zenith_jax.feed import Feed

        if isinstance(self._epochs, PythonEpochs) or self.dtypes or isinstance(self.sharding, Mapping):
            raise NotImplementedError(
                "a compiled program is fed from a Zenith dataset, with one sharding and the dataset's own types"
            )
        options = self.plain_options()
        del options["tail"]
        feed = Feed(
            self.dataset,
            self.batch_size,
            sharding=self.sharding,
            window=window,
            stall_timeout=stall_timeout,
            **options,
        )
        feed.load_state_dict(self.state_dict())
        return feed

    @property
    def valid(self) -> int:
        """Samples of the latest batch that are no repeats of the epoch's first ones, over all devices."""
        return self._epochs.valid

    # -- state -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Where the newest iterator stands, as JSON-able values: the batches handed out, not those prefetched.

        Under 1 KB, the same in every process, for any number of workers, sharding and batch size; that of
        `zenith_torch.DataLoader` over the same dataset.
        """
        with exits.aside():
            return self._epochs.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lets the next iterator continue exactly where the state was taken; an empty dict means a fresh start.

        Raises:
            zenith.StateError: the state is damaged, newer than this version, or of another dataset.
        """
        with exits.aside():
            self._epochs.load(state_dict)

    # -- accounts --------------------------------------------------------------------------------------------------

    def explain(self) -> str:
        """What is read, in which order, into which arrays on which devices, in a few lines."""
        with exits.aside():
            return self._epochs.explain()

    def stats(self) -> dict[str, Any]:
        """Counters of the current (or last) epoch, times in nanoseconds summed over threads, and a plain verdict.

        ``leases`` counts the parts of batches (a field of a shard each) whose memory is held in this process now, by arrays
        above all.
        """
        counters = self._epochs.stats()
        if not counters:
            return {"verdict": "no epoch has begun"}
        if isinstance(self._epochs, PythonEpochs):
            return counters
        waited, idle = counters["consumer_wait_ns"], counters["worker_idle_ns"]
        counters["verdict"] = "loader-bound" if waited > idle else "consumer-bound"
        counters["leases"] = _engine.leases()
        return counters

    def _check_python_dataset(self) -> None:
        """What only the engine does cannot be asked of a Python dataset."""
        if not (hasattr(self.dataset, "__len__") and hasattr(self.dataset, "__getitem__")):
            raise TypeError(
                f"dataset must be a zenith.Dataset, a path, or have __len__ and __getitem__; {type(self.dataset).__name__} has not"
            )
        if self.multiprocessing_context not in (None, "forkserver", "spawn"):
            raise ValueError(
                f'multiprocessing_context must be "forkserver" or "spawn", got {self.multiprocessing_context!r}: JAX has threads, '
                "which do not survive a fork"
            )
        if isinstance(self.sharding, Mapping):
            raise ValueError("sharding={...} is by field, which a Python dataset does not tell. Give one Sharding")
        defaults = {name: parameter.default for name, parameter in signature(DataLoader).parameters.items()}
        for name in _OF_THE_ENGINE:
            if getattr(self, name) != (defaults[name] if name != "dtypes" else {}):
                raise ValueError(
                    f"{name} needs a Zenith dataset; {type(self.dataset).__name__} is read sample by sample"
                )

    def plain_options(self) -> dict[str, Any]:
        """The keywords that go to the engine as they are."""
        path = self.quarantine_path
        bound = {} if self.prefetch_bytes is None else {"prefetch_bytes": self.prefetch_bytes}
        return {
            **bound,
            "shuffle": self.shuffle,
            "seed": (self.seed or 0) % 2**64,
            "drop_last": self.drop_last,
            "tail": self.tail,
            "num_workers": self.num_workers,
            "prefetch_factor": self.prefetch_factor,
            "lanes": self.lanes,
            "shuffle_bytes": self.shuffle_bytes,
            "on_error": self.on_error,
            "max_bad_samples": self.max_bad_samples,
            "read_timeout_ms": self.read_timeout_ms,
            "quarantine_path": None if path is None else os.path.abspath(os.path.expanduser(path)),
        }
